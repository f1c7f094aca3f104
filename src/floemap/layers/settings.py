"""How the layers of prepared products are made."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from floemap.bands import Missing
from floemap.config import Settings


class DistanceSettings(Settings):
    """How the distance to land is made (``floemap layer distance-to-land``)."""

    cap_km: float = Field(default=100.0, ge=1, le=300)
    """Largest distance, km. Pixels farther from land get this value."""


class RasterSettings(Settings):
    """How a layer is made from a raster (``floemap layer from-raster``)."""

    variable: str | None = None
    """Name of the variable, in a file with several, such as NetCDF and HDF5."""

    band: int = Field(default=1, ge=1)
    """Number of the band in the raster."""

    unit: str | None = None
    """Unit of the values. The default is the raster's own."""

    step: float | None = Field(default=None, gt=0)
    """Step in which values are stored as int16. The default is the smallest power of ten in whose steps all values
    fit."""

    missing: Missing = "scene"
    """Meaning of a gap. scene: the pixel counts as one without data. mean: the model reads the mean of the training
    scenes. flag: likewise, and a further channel says where the gaps are."""

    resampling: Literal["nearest", "bilinear", "average"] = "bilinear"
    """Resampling to the product's grid. average is for rasters finer than the grid."""
