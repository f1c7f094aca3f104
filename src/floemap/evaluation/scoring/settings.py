"""Settings of the scores (``floemap evaluate``)."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from floemap.config import Settings

#: Largest distance, in whole pixels, that border_distance.tif stores without clipping.
MAX_AWAY_PX = 63


class EvaluateSettings(Settings):
    """Settings of the scores. Every score whose rasters exist is computed."""

    require: tuple[Literal["either", "away_from_borders", "truth"], ...] = ()
    """Required scores: it is an error if one of them cannot be computed because a raster is missing."""

    away_from_borders_px: tuple[Annotated[int, Field(ge=0, le=MAX_AWAY_PX)], ...] = (3,)
    """Distances from polygon borders, pixels. For each, there is a score of the pixels farther from every border."""

    either_min_percent: int = Field(default=6, ge=1, le=100)
    """Smallest percentage of a polygon that makes a class its second type. The 5 % of water that nine-plus tenths of
    ice leave are not a second type."""
