"""The coastline of the map: the coarse one that comes with floemap, or a finer one that is given."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyproj
import shapely
from numpy.typing import NDArray

from floemap.errors import ChartError

#: Address of the coastline.
COAST = "coast.geojson"
#: Digits of longitudes and latitudes: some metres in polar latitudes.
_DIGITS = 4
#: So close to the 180th meridian and to a pole are edges that no coast has, degrees.
_EDGE_DEG = 1e-6
#: Most positions: some 20 MB of text, which a browser draws without pauses.
_MOST = 1_000_000


def shipped_coast(path: Path) -> dict[str, str]:
    """Return address and source of the coastline that comes with floemap."""
    return {"url": COAST, "source": str(json.loads(path.read_bytes())["source"])}


def given_coast(path: Path) -> tuple[bytes, dict[str, str]]:
    """Return the borders of a file's land polygons as GeoJSON, and their address and source for map.json.

    From an ice chart, which has a field POLY_TYPE, only the polygons of land are used. Edges along the 180th meridian
    and at a pole, where files cut polygons, are left out. A feature has the lines of one hemisphere.

    Raises
    ------
    ChartError
        If the file cannot be read, has no polygon, or is too large for a browser.
    """
    # The readers import pandas, for which a map without --coast need not wait.
    from floemap.icechart.read.codes import read_polygon_types
    from floemap.icechart.read.columns import polygon_type_column
    from floemap.icechart.read.file_crs import crs_of_file
    from floemap.icechart.read.sources import find_source
    from floemap.icechart.read.vector_files import open_features

    try:
        source = find_source(path)
        with open_features(source) as file:
            crs = crs_of_file(file.crs, None, path=path)
            kind = polygon_type_column(file.fields)
            features = file.read([] if kind is None else [kind])
            rows, shapes = features.with_area()
            if kind is not None:
                land = np.array(read_polygon_types(features.columns[kind], features.ids), str)[rows] == "L"
                shapes = shapes[land]
    except ChartError as e:
        hint = "Give a shapefile, GeoPackage or GeoJSON of land polygons with its CRS."
        raise ChartError(e.message, path=path, hint=hint) from None
    if not len(shapes):
        raise ChartError("has no polygon of land, so it gives no coastline.", path=path)
    if (positions := int(shapely.get_num_coordinates(shapes).sum())) > _MOST:
        hint = f"A browser can show {_MOST:,}. Cut the file to the area of the scenes, or simplify it."
        raise ChartError(f"has {positions:,} positions, which are too many for a browser.", path=path, hint=hint)
    lines: dict[str, list[list[list[float]]]] = {"north": [], "south": []}
    for line in _coasts(shapes, crs):
        lines["north" if line[:, 1].mean() >= 0 else "south"].append(line.tolist())
    features_told = [
        {
            "type": "Feature",
            "properties": {"hemisphere": name},
            "geometry": {"type": "MultiLineString", "coordinates": coordinates},
        }
        for name, coordinates in lines.items()
    ]
    content = {"type": "FeatureCollection", "source": path.name, "features": features_told}
    told = json.dumps(content, separators=(",", ":"), allow_nan=False).encode("utf-8", "replace")
    return told, {"url": COAST, "source": path.name}


def _coasts(shapes: NDArray[np.object_], crs: pyproj.CRS) -> Iterator[NDArray[np.float64]]:
    """Give the borders of polygons as lines of (n, 2) longitudes and latitudes, without edges that no coast has."""
    to_earth = pyproj.Transformer.from_crs(crs, "EPSG:4326", always_xy=True)
    for ring in shapely.get_rings(shapely.get_parts(shapes)):
        lon, lat = to_earth.transform(*shapely.get_coordinates(ring).T)
        place = np.isfinite(lon) & np.isfinite(lat)
        lon = np.where(np.abs(lon) == 180, lon, (lon + 180) % 360 - 180)  # a whole turn further in some files
        edge = (np.abs(lon) > 180 - _EDGE_DEG) | (np.abs(lat) > 90 - _EDGE_DEG)
        drawn = place[1:] & place[:-1] & ~(edge[1:] & edge[:-1]) & (np.abs(np.diff(lon)) < 180)
        line = np.column_stack([lon, lat]).round(_DIGITS)
        if not drawn.all():  # the ring begins after an edge that is left out, so that no line is cut at its ends
            first = int(np.flatnonzero(~drawn)[0]) + 1
            line, drawn = np.roll(line[:-1], -first, axis=0), np.roll(drawn, -first)
            line = np.concatenate([line, line[:1]])
        ends = np.flatnonzero(np.diff(np.concatenate([[0], drawn, [0]])))
        for start, stop in zip(ends[::2], ends[1::2], strict=True):
            yield line[start : stop + 1]
