"""Settings of the preparation (``floemap prepare``)."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, SerializerFunctionWrapHandler, field_validator, model_serializer, model_validator

from floemap.config import Settings


class PrepareSettings(Settings):
    """How a product becomes bands on a grid (``floemap prepare``)."""

    resolution_m: float = Field(default=80.0, ge=10, le=10_000)
    """Pixel size of the grid, metres."""

    crs: str | None = None
    """CRS of the grid. Default: EPSG:3413 in the north, EPSG:3031 in the south."""

    grid: Literal["polar", "image"] = "polar"
    """Grid of AI4Arctic's files: polar puts them on the map, image keeps their lines and samples."""

    noise: Literal["annotated", "scaled", "none"] = "annotated"
    """Thermal noise to subtract: as annotated, scaled to the scene's seams and stripes (experimental), or none."""

    surface: Literal["sea", "annotated"] = "sea"
    """Height at which pixels are located: sea level (right for ice, also near mountains), or the annotated terrain."""

    sea_level_m: float | Literal["geoid"] = "geoid"
    """Height of the sea above the WGS84 ellipsoid, for the surface "sea": geoid (EGM2008), or -120 to 120 metres."""

    verify: bool = True
    """Compare the pixel files with the manifest's checksums."""

    @model_serializer(mode="wrap")
    def _as_before(self, whole: SerializerFunctionWrapHandler) -> dict[str, object]:
        """Leave the default grid out, which records of earlier versions do not have: they stay finished."""
        values: dict[str, object] = whole(self)
        return {k: v for k, v in values.items() if (k, v) != ("grid", "polar")}

    @model_validator(mode="after")
    def _one_grid(self) -> PrepareSettings:
        if self.grid == "image" and self.crs is not None:
            raise ValueError("grid image keeps the lines and samples of the image, and takes no crs")
        return self

    @field_validator("sea_level_m", mode="before")
    @classmethod
    def _sea_level(cls, value: object) -> object:
        """Take a number and the word; one sentence for all else."""
        if value == "geoid":
            return value
        if isinstance(value, bool) or not isinstance(value, int | float) or not -120 <= value <= 120:
            raise ValueError("it must be geoid, or a height of -120 to 120 metres")
        return float(value)
