"""Reading GeoJSON (RFC 7946) by Python's JSON reader instead of GDAL.

For GDAL, a file that begins with a brace may be a processing pipeline (GDALG), which reads other files and the network,
and GDAL fetches a "crs" that is a link. This reader accepts polygons and properties and refuses everything else.
"""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from floemap.errors import MISSHAPEN, ChartError
from floemap.files import parsed
from floemap.grid import Box
from floemap.icechart.read.features import Features, polygons_of
from floemap.zips import brief

logger = logging.getLogger(__name__)

#: Most bytes of a file: a larger one would not fit into memory.
MOST_BYTES = 1 << 30
#: Names of a CRS that need no other file or address.
_NAMED = re.compile(r"(urn:ogc:def:crs:|https?://www\.opengis\.net/(def/crs/|gml/srs/)|[A-Za-z]+:)[\w.:/#-]+", re.ASCII)
#: Longitude and latitude, in this order, which all coordinates have here.
_LONLAT = "EPSG:4326"
_DEEPEST = 8


@dataclass(frozen=True)
class GeoJson:
    """A GeoJSON file in memory.

    Attributes
    ----------
    fields
        Names of properties.
    crs
        Name of the CRS: longitude and latitude, unless an older file gives another; None if its "crs" is null.
    """

    fields: tuple[str, ...]
    crs: str | None
    _features: Sequence[Mapping[str, Any]]

    def read(self, columns: Sequence[str], box: Box | None = None) -> Features:
        """Return features with some properties, if a box is given those that may reach into it.

        Raises
        ------
        ChartError
            If a geometry is damaged; the message names the feature.
        """
        ids = [f.get("id") for f in self._features]
        whole = all(type(i) is int and 0 <= i < 2**63 for i in ids)
        own = whole and len(set(ids)) == len(ids)
        if whole and not own:
            logger.warning("several features have the same id, so floemap numbers them by their places, from 0")
        numbers = np.array(ids if own else range(len(ids)), np.int64)
        geometries = np.full(len(ids), None, object)
        mended = np.zeros(len(ids), np.bool_)
        for i, feature in enumerate(self._features):
            try:
                geometries[i], mended[i] = polygons_of(_parts(feature.get("geometry")))
            except MISSHAPEN as e:
                message = f"polygon {numbers[i]}: its geometry is not valid GeoJSON."
                raise ChartError(message, hint="Repair the chart.") from e
        by_column = {c: [(f.get("properties") or {}).get(c) for f in self._features] for c in columns}
        return Features(numbers, by_column, geometries, mended).within(box)


def open_geojson(file: Path) -> GeoJson:
    """Read a file.

    Raises
    ------
    ChartError
        If it is not GeoJSON with features.
    """
    try:
        size = file.stat().st_size
        if size > MOST_BYTES:
            hint = f"GeoJSON may have {MOST_BYTES >> 20:,} MiB. Give a GeoPackage instead."
            raise ChartError(f"has {size >> 20:,} MiB.", hint=hint)
        content = parsed(json.loads, file.read_bytes())  # UTF-8, 16 or 32, by its first bytes
    except (OSError, ValueError, RecursionError, MemoryError) as e:
        raise ChartError(f"cannot be read: {brief(e) or 'it is too large'}.", hint="Is it GeoJSON?") from e
    kind = content.get("type") if isinstance(content, dict) else type(content).__name__
    features = content.get("features") if kind == "FeatureCollection" else [content] if kind == "Feature" else None
    if not isinstance(features, list) or not all(isinstance(f, dict) for f in features):
        message = f"is not GeoJSON with features: its type is {brief(ValueError(repr(kind)))}."
        raise ChartError(message, hint="Give a FeatureCollection.")
    if any(not isinstance(f.get("properties") or {}, dict) for f in features):
        raise ChartError("holds a feature whose properties are not a JSON object.", hint="Is it GeoJSON?")
    fields = dict.fromkeys(str(name) for f in features for name in f.get("properties") or {})
    return GeoJson(tuple(fields), _crs(content), features)


def _crs(content: Mapping[str, Any]) -> str | None:
    """Return the name of a file's CRS. Before RFC 7946, files could give another than longitude and latitude."""
    if "crs" not in content:
        return _LONLAT
    if content["crs"] is None:
        return None
    crs = content["crs"] if isinstance(content["crs"], dict) else {}
    properties = crs["properties"] if isinstance(crs.get("properties"), dict) else {}
    name = {"name": properties.get("name"), "EPSG": f"EPSG:{properties.get('code')}"}.get(str(crs.get("type")))
    if not isinstance(name, str) or not _NAMED.fullmatch(name):
        return repr(content["crs"])[:80]
    return _LONLAT if name.endswith("CRS84") else name


def _parts(geometry: Any, depth: int = 0) -> list[list[Any]]:
    """Return the rings, (m, 2) each, of each polygon of a geometry."""
    if geometry is None:
        return []
    kind = geometry["type"]
    if kind == "GeometryCollection" and depth < _DEEPEST:
        return [part for inner in geometry["geometries"] for part in _parts(inner, depth + 1)]
    if kind not in ("Polygon", "MultiPolygon"):
        return []
    polygons = [geometry["coordinates"]] if kind == "Polygon" else geometry["coordinates"]
    return [[_ring(ring) for ring in rings] for rings in polygons]


def _ring(places: Any) -> Any:
    """Return a ring's positions without heights, (m, 2)."""
    xy = np.array([place[:2] for place in places], np.float64)
    if xy.size == 0:
        return np.empty((0, 2))
    if xy.ndim != 2 or xy.shape[1] != 2:
        raise ValueError("a position does not have two coordinates")
    return xy
