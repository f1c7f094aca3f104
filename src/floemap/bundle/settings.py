"""What a bundle for a ship holds (``floemap bundle``)."""

from __future__ import annotations

import re
from datetime import datetime
from typing import Literal

from pydantic import Field, field_validator

from floemap.config import Settings
from floemap.icechart.write.s411_axes import Axes
from floemap.icechart.write.times import utc_from_text

#: Parts of a bundle besides the text and the record, which are always there.
Part = Literal["picture", "geojson", "kml", "s411"]
#: Bytes of each unit of sizes: k is a thousand, Ki is 1024.
_UNITS = {"": 1, "b": 1, "k": 1000, "kb": 1000, "m": 10**6, "mb": 10**6, "kib": 1 << 10, "mib": 1 << 20}


class BundleSettings(Settings):
    """What a bundle for a ship holds (``floemap bundle``)."""

    area: str
    """Area: WEST,SOUTH,EAST,NORTH in degrees, west > east across the date line; or a position and a radius, such as
    77-30N,12-15W,60nm; or a file of polygons (GeoJSON, GeoPackage, shapefile)."""

    max: str = "100kB"
    """Most bytes of the zip: 100kB and 1MB are decimal, 100KiB and 1MiB are binary."""

    only: tuple[Part, ...] = Field(default=("picture", "geojson", "s411"), min_length=1)
    """Parts besides the text."""

    valid: str | None = None
    """Time of validity of a chart that floemap has not made, in ISO 8601, such as 2018-01-16T07:54Z; without a time
    zone it is UTC. Charts of floemap have their own."""

    s411_axes: Axes = "latlon"
    """Order of coordinates in S-411, as for `floemap chart`."""

    s411_lake: bool = False
    """Write the ice in S-411 as lake ice, for charts of lakes."""

    layer: str | None = None
    """Layer of the file, or file of the archive, if there are several."""

    crs: str | None = None
    """CRS of a chart whose file has none, or one without a position on the earth."""

    @field_validator("max")
    @classmethod
    def _is_size(cls, value: str) -> str:
        bytes_in(value)
        return value

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

    @property
    def max_bytes(self) -> int:
        """Most bytes of the zip."""
        return bytes_in(self.max)


def bytes_in(text: str) -> int:
    """Return a size such as 100kB, 1.5 MB or 64KiB in whole bytes, rounded down.

    Raises
    ------
    ValueError
        If it is not a number with a known unit, or less than a byte.
    """
    found = re.fullmatch(r"\s*(\d{1,12}(?:\.\d{1,6})?)\s*([A-Za-z]*)\s*", text, re.ASCII)
    if found is None or found[2].lower() not in _UNITS or float(found[1]) * _UNITS[found[2].lower()] < 1:
        raise ValueError("give a number and a unit, such as 100kB, 1MB, 100KiB or 1MiB")
    return int(float(found[1]) * _UNITS[found[2].lower()])
