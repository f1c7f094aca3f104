"""How a corrected chart is published (``floemap publish``)."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from pydantic import Field, field_validator

from floemap.config import Settings
from floemap.icechart.write.s411_axes import Axes
from floemap.icechart.write.times import utc_from_text


class PublishSettings(Settings):
    """How a corrected chart is published (``floemap publish``)."""

    valid: str | None = None
    """Time of validity, in ISO 8601, such as 2018-01-16T07:54Z; without a time zone it is UTC. Default: the start of
    the draft's acquisition."""

    service: str | None = Field(default=None, pattern="^[A-Za-z0-9]+$")
    """Name of the ice service in the chart's name. Default: that of the draft, or floemap."""

    region: str | None = Field(default=None, pattern="^[A-Za-z0-9]+$")
    """Name of the region in the chart's name. Default: that of the draft, or s1."""

    issue: str = Field(default="a", pattern="^[A-Za-z0-9]+$")
    """Letter of the issue in the chart's name: a, and b for a correction of what was published."""

    contact: str | None = None
    """Office responsible for the chart, in its metadata. Default: that of the draft."""

    s411_axes: Axes = "latlon"
    """Order of coordinates in S-411, as for `floemap chart`."""

    s411_lake: bool = False
    """Write the ice in S-411 as lake ice, for charts of lakes."""

    page: Literal["pdf", "jpeg"] = "pdf"
    """Format of the page for ships."""

    repair: bool = False
    """Repair problems whose repair loses nothing that an analyst has drawn or entered."""

    sliver_m: float = Field(default=100.0, ge=0)
    """Mean width, metres, below which a gap, an overlap or a polygon counts as a slip of the hand."""

    minutes: float | None = Field(default=None, ge=0)
    """Time that the correction took, minutes, for the report of changes."""

    layer: str | None = None
    """Layer of the file, or file of the archive, if there are several."""

    crs: str | None = None
    """CRS of a chart whose file has none, or one without a position on the earth."""

    @field_validator("valid")
    @classmethod
    def _is_time(cls, value: str | None) -> str | None:
        if value is not None:
            utc_from_text(value)
        return value

    @property
    def valid_at(self) -> datetime | None:
        """Time of validity in UTC."""
        return None if self.valid is None else utc_from_text(self.valid)
