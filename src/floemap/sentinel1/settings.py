"""Settings of the preparation (``floemap prepare``)."""

from __future__ import annotations

import math
from typing import Literal

from pydantic import Field, field_validator

from floemap.config import Settings


class PrepareSettings(Settings):
    """How a product becomes bands on a grid (``floemap prepare``)."""

    resolution_m: float = Field(default=80.0, ge=10, le=10_000)
    """Pixel size of the grid, metres. The study's is 80 m."""

    crs: str | None = None
    """Of the grid. Default: EPSG:3413 in the north, EPSG:3031 in the south."""

    noise: Literal["annotated", "scaled", "none"] = "annotated"
    """Thermal noise: as annotated, the same adjusted to the scene itself (experimental), or not subtracted."""

    surface: Literal["sea", "annotated"] = "sea"
    """Height at which pixels are located: the sea's everywhere, or the annotation's terrain."""

    sea_level_m: float | Literal["geoid"] = "geoid"
    """Height of the sea above the WGS84 ellipsoid, for the surface "sea": the geoid's, or -120 to 120 metres."""

    verify: bool = True
    """Compare the pixel files with the manifest's checksums."""

    @field_validator("sea_level_m", mode="before")
    @classmethod
    def _sea_level(cls, value: object) -> object:
        """Take a number, also as text, and the word; one sentence for all else."""
        if value == "geoid":
            return value
        try:
            metres = float(value)  # type: ignore[arg-type]  # what is no number raises
        except (TypeError, ValueError, ArithmeticError):
            metres = math.nan
        if not -120 <= metres <= 120:
            raise ValueError("it must be geoid, or a height of -120 to 120 metres")
        return metres
