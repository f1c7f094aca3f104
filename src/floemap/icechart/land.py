"""Land from a file of polygons that the user gives, as a mask on a scene's grid."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyproj
import shapely
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox
from rasterio.features import rasterize

from floemap.errors import ChartError, FloemapError
from floemap.grid import Box, boxes_in, map_crs_of
from floemap.icechart.label.rasterize import check_work
from floemap.icechart.read.codes import read_polygon_types
from floemap.icechart.read.columns import polygon_type_column
from floemap.icechart.read.file_crs import crs_of_file
from floemap.icechart.read.rings import repaired
from floemap.icechart.read.sources import find_source
from floemap.icechart.read.vector_files import VectorFile, open_features
from floemap.icechart.reproject import Polygons, project

#: Tolerance of the edges of projected polygons, pixels.
_TOLERANCE_PX = 0.1
#: Longest edge of polygons in longitude and latitude: longer ones get vertices in between, so that their direction
#: around the earth is unambiguous.
_LONGEST_DEG = 10.0


def land_on(path: str | Path, geobox: GeoBox, *, crs: str | None = None) -> NDArray[np.bool_]:
    """Return which pixels of a grid have their centre on land, (rows, cols).

    Parameters
    ----------
    path
        Land polygons: shapefile, GeoPackage, GeoJSON, FlatGeobuf, or a zip with one of these. From an ice chart in
        SIGRID-3, which has a field POLY_TYPE, only the polygons of land are used. Polygons in longitude and latitude
        must be cut at the dateline.
    geobox
        The grid, in a map projection in metres.
    crs
        CRS of the file, if the file names none or one that is not georeferenced.

    Raises
    ------
    ChartError
        If the file cannot be read, or its polygons cannot be projected to the grid.
    """
    path = Path(path)
    target = map_crs_of(geobox).proj
    tolerance_m = _TOLERANCE_PX * float(abs(geobox.resolution.x))
    try:
        source = find_source(path)
        with open_features(source) as file:
            own = crs_of_file(file.crs, crs, path=source.path)
            kind = polygon_type_column(file.fields)
            found = [
                project(part, own, target, tolerance_m)
                for box in boxes_in(geobox, own)
                if len(part := polygons_in(file, box, own, kind))
            ]
    except ChartError as e:
        raise ChartError(e.message, path=path, hint=_for_masks(e.hint)) from None
    shapes = np.concatenate(found) if found else np.empty(0, object)
    if not len(shapes):
        return np.zeros(tuple(geobox.shape), np.bool_)
    try:
        check_work(shapes, geobox)
    except ChartError as e:
        raise ChartError(e.message, path=path, hint=e.hint) from None
    drawn = rasterize(shapes, out_shape=tuple(geobox.shape), transform=geobox.transform, dtype=np.uint8)
    return np.asarray(drawn.view(np.bool_))


def _for_masks(hint: str | None) -> str | None:
    """Return a hint of the chart reader for land masks, for which there are no options for layer and CRS."""
    if hint is not None and "--" in hint:
        return "Give a file that contains only the polygons of land, and their CRS."
    return hint


def polygons_in(file: VectorFile, box: Box | None, crs: pyproj.CRS, kind: str | None) -> Polygons:
    """Read the valid polygons of a file that intersect a box, clipped to it, (n,), without multipolygons.

    If the field `kind` gives the type, only those of land.
    """
    features = file.read([] if kind is None else [kind], box)
    rows, shapes = features.with_area()
    if kind is not None:
        land = np.array(read_polygon_types(features.columns[kind], features.ids), str)[rows] == "L"
        rows, shapes = rows[land], shapes[land]
    broken = ~shapely.is_valid(shapes)
    shapes[broken] = repaired(shapes[broken], features.ids[rows][broken])
    if box is not None:
        window = shapely.box(*box)
        shapely.prepare(window)
        cut = ~shapely.contains_properly(window, shapes)
        shapes[cut] = shapely.intersection(shapes[cut], window)
    parts = shapely.get_parts(shapely.get_parts(shapes))
    parts = parts[shapely.get_type_id(parts) == shapely.GeometryType.POLYGON]
    parts = parts[shapely.area(parts) > 0]
    return np.asarray(shapely.segmentize(parts, _LONGEST_DEG) if crs.is_geographic else parts)


def describe_land(path: str | Path | None) -> dict[str, Any]:
    """Return the land mask for the metadata of the chart: the file and its hash, or a note that there is none."""
    if path is None:
        return {"land_mask": "none: land is charted as ice or water"}
    from floemap.results.stage import sha256

    try:
        source = find_source(Path(path))
        return {"land_mask": source.path.name, "land_mask_sha256": {p.name: sha256(p) for p in source.files}}
    except FloemapError as e:
        raise ChartError(e.message, path=e.path or path, hint=_for_masks(e.hint)) from e
