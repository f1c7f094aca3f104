"""The order of coordinates in S-411, and the names of the CRS that say which one it is."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Literal

#: Latitude first, or longitude first.
Axes = Literal["latlon", "lonlat"]
#: Name of the CRS, WGS 84, by the order that it means; see :mod:`floemap.icechart.read.gml`.
SRS_NAMES: Mapping[Axes, str] = MappingProxyType(
    {
        "latlon": "http://www.opengis.net/def/crs/EPSG/0/4326",
        "lonlat": "http://www.opengis.net/gml/srs/epsg.xml#4326",
    }
)
