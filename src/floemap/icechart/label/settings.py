"""Settings of labels (``floemap label``)."""

from __future__ import annotations

from typing import Literal

from floemap.config import Settings
from floemap.own_legends import LegendChoice


class LabelSettings(Settings):
    """How an ice chart becomes label rasters (``floemap label``)."""

    legend: LegendChoice = "six_classes"
    """Name of the legend, one of those in floemap.legend, or a TOML file with a legend of your own."""

    unmapped: Literal["error", "ignore"] = "error"
    """Codes that are unknown or not in the legend: refuse the chart, or leave their polygons without a class."""

    without_parts: Literal["unknown", "first"] = "unknown"
    """Class of polygons with several ice types but without partial concentrations: unknown, or that of the first."""

    fractions: bool = False
    """Also write the share of each class."""

    border_distance: bool = True
    """Also write the distance to the nearest polygon border."""

    layer: str | None = None
    """Layer of the file, or file of the archive, if there are several."""

    crs: str | None = None
    """CRS of a chart whose file has none, or one without a position on the earth."""
