"""Settings of labels (``floemap label``)."""

from __future__ import annotations

from typing import Literal

from floemap.config import Settings


class LabelSettings(Settings):
    """How an ice chart becomes label rasters (``floemap label``)."""

    legend: str = "six_classes"
    """Name of the table of classes, one of those in floemap.legend."""

    unmapped: Literal["error", "ignore"] = "error"
    """Codes that the legend lacks or that mean nothing: refuse the chart, or leave those polygons without a class."""

    without_parts: Literal["unknown", "first"] = "unknown"
    """Polygons that name several ice types without their partial concentrations: of unknown type, or of the first."""

    fractions: bool = False
    """Also write the share of each class."""

    border_distance: bool = True
    """Also write the distance to the nearest polygon border."""

    layer: str | None = None
    """Which layer of the file, or which file of a zip, is the chart, where there are several."""

    crs: str | None = None
    """Of the chart, where its file says none."""
