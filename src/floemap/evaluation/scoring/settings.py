"""Settings of the scores (``floemap evaluate``)."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from floemap.config import Settings
from floemap.evaluation.scoring.named_scores import MAX_AWAY_PX


class EvaluateSettings(Settings):
    """How predictions are scored. Every score whose rasters are there is computed."""

    require: tuple[Literal["either", "away_from_borders", "truth"], ...] = ()
    """Scores that must be there: a missing raster is then an error, and not just said."""

    away_from_borders_px: tuple[Annotated[int, Field(ge=0, le=MAX_AWAY_PX)], ...] = (3,)
    """Also score only pixels farther than this from every polygon border."""

    either_min_percent: int = Field(default=6, ge=1, le=100)
    """Smallest share of a polygon that makes a class its second one. The 5 % of water that nine-plus tenths of ice
    leave are no second type."""
