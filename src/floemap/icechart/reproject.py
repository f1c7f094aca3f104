"""Projection of polygons with their edges, not only their vertices.

A straight edge becomes a curve, so a long one needs further vertices in between. And in longitude and latitude a
polygon jumps at the dateline and cannot close around the pole, so its longitudes are made continuous along each ring
first; then the ring closes on the map.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pyproj
import shapely
from numpy.typing import NDArray

from floemap.errors import ChartError
from floemap.grid import crs_name

Floats = NDArray[np.float64]
#: Shapely polygons and multipolygons, (n,).
Polygons = NDArray[Any]

#: An edge that still bends after so many cuts crosses a discontinuity of the projection, such as the back of a cone.
_ROUNDS = 8
_MOST_PIECES = 256
_ELSEWHERE = "Check the CRS of the file, and whether the chart is of another part of the world."
#: No edge moves further than this where areas are measured.
_AREA_TOLERANCE_M = 10.0
#: Farthest position from the origin of a map. The earth's circumference is 4e7 m; farther positions are distortions.
_MAP_EDGE_M = 1e8


def project(polygons: Polygons, source: pyproj.CRS, target: pyproj.CRS, tolerance_m: float) -> Polygons:
    """Project polygons so that no edge deviates by more than `tolerance_m` (of `target`).

    In longitude and latitude, an edge longer than half a turn counts as one across the dateline, as files with a jump
    there have it. An edge along a parallel around the whole earth, as polar caps have, stays one.

    Parameters
    ----------
    polygons
        (n,), in `source`, x before y (longitude before latitude).
    tolerance_m
        Largest deviation of an edge, in units of `target`.

    Raises
    ------
    ChartError
        If coordinates have no position in `target`, or `source` is in longitude and latitude and they are not.
    """
    if source.equals(target, ignore_axis_order=True) or not len(polygons):
        return polygons
    polygons = shapely.force_2d(polygons)
    kind, xy, offsets = shapely.to_ragged_array(polygons)
    rings: Any = offsets[0]
    if source.is_geographic:
        xy = _continuous(xy, rings)
    transformer = pyproj.Transformer.from_crs(source, target, always_xy=True)
    xy, rings = _densified(xy, rings, transformer, tolerance_m)
    # First and last vertex are equal up to rounding, or, around the pole, up to a whole turn.
    xy[rings[1:] - 1] = xy[rings[:-1]]
    return np.asarray(shapely.from_ragged_array(kind, xy, (rings, *offsets[1:])))


def equal_area_map(polygons: Polygons, crs: pyproj.CRS) -> pyproj.CRS:
    """Return Lambert's equal-area map, in metres, around the middle of polygons, (n,), not all of them empty."""
    left, bottom, right, top = shapely.total_bounds(polygons)
    to_geo = pyproj.Transformer.from_crs(crs, "EPSG:4326", always_xy=True)
    lon, lat = to_geo.transform((left + right) / 2, (bottom + top) / 2)
    return pyproj.CRS(f"+proj=laea +lat_0={lat:.6f} +lon_0={lon:.6f} +datum=WGS84 +units=m +no_defs")


def equal_area_km2(polygons: Polygons, crs: pyproj.CRS) -> Floats:
    """Return true areas of polygons of a map, km2, (n,), on an equal-area map around the middle of them all.

    Raises
    ------
    ChartError
        If a vertex has no position on the earth.
    """
    areas, full = np.zeros(len(polygons)), ~shapely.is_empty(polygons)
    if full.any():
        on_map = project(polygons[full], crs, equal_area_map(polygons, crs), _AREA_TOLERANCE_M)
        areas[full] = shapely.area(on_map) / 1e6
    return areas


def _continuous(xy: Floats, rings: NDArray[np.int64]) -> Floats:
    """Return (m, 2) longitudes and latitudes in degrees, without jumps along each ring."""
    refuse_no_degrees(xy)
    step = np.diff(xy[:, 0], prepend=xy[:1, 0])
    step[rings[:-1]] = 0
    turns = np.where(np.abs(step) > 180, -np.sign(step), 0.0)
    # A cap drawn as a rectangle from -180 to 180 has only corners at these; its edges do go around the earth.
    at_corner = np.abs(np.abs(xy[:, 0]) - 180) < 1e-9
    box = np.logical_and.reduceat(at_corner, rings[:-1])
    turns[np.repeat(box, np.diff(rings))] = 0
    total = np.cumsum(turns)
    total -= np.repeat(total[rings[:-1]], np.diff(rings))
    return np.column_stack([xy[:, 0] + 360 * total, xy[:, 1]])


def refuse_no_degrees(xy: Floats) -> None:
    """Refuse coordinates, (n, 2), that are not longitudes and latitudes.

    Raises
    ------
    ChartError
        If one is not; the message has the farthest.
    """
    if (np.abs(xy[:, 1]) > 90 + 1e-9).any() or (np.abs(xy[:, 0]) > 540).any():
        x, y = xy[np.argmax(np.maximum(np.abs(xy[:, 0]) / 6, np.abs(xy[:, 1])))]
        raise ChartError(
            f"its CRS is in longitude and latitude, but a vertex is at {x:g}, {y:g}.",
            hint="The CRS of the file is wrong: repair it (in a shapefile, the .prj).",
        )


def _densified(
    xy: Floats, rings: NDArray[np.int64], transformer: pyproj.Transformer, tolerance_m: float
) -> tuple[Floats, NDArray[np.int64]]:
    """Project (m, 2) vertices, with further ones where edges bend; return them and the rings' new offsets.

    The cuts of an edge depend on that edge alone and not on its direction, so neighbours still share it.
    """
    name = "the other projection" if transformer.target_crs is None else crs_name(transformer.target_crs)
    for _ in range(_ROUNDS):
        projected = np.column_stack(transformer.transform(xy[:, 0], xy[:, 1]))
        off_map = ~(np.abs(projected) < _MAP_EDGE_M).all(axis=1)
        if off_map.any():
            x, y = xy[off_map][0]
            raise ChartError(f"its vertex at {x:g}, {y:g} has no position in {name}.", hint=_ELSEWHERE)
        pieces = _pieces(xy, projected, transformer, tolerance_m)
        pieces[rings[1:-1] - 1] = 1  # there is no edge from one ring to the next
        if (pieces == 1).all():
            return projected, rings
        torn = xy[np.argmax(pieces)]
        xy, rings = _cut(xy, rings, pieces)
    message = f"its edge at {torn[0]:g}, {torn[1]:g} crosses a discontinuity of {name}."
    raise ChartError(message, hint=_ELSEWHERE)


def _pieces(xy: Floats, projected: Floats, transformer: pyproj.Transformer, tolerance_m: float) -> NDArray[np.int64]:
    """Return the number of pieces to cut each of m - 1 edges into: a chord's height falls with its length squared."""
    a, b = xy[:-1], xy[1:]
    pa, pb = projected[:-1], projected[1:]
    height = np.zeros(len(a))
    for share in (1 / 3, 2 / 3):  # two positions: the middle alone would miss a bend to both sides
        x, y = (a + (b - a) * share).T
        at = np.column_stack(transformer.transform(x, y))
        off = at - (pa + (pb - pa) * share)
        height = np.maximum(height, np.hypot(off[:, 0], off[:, 1]))
    wanted = np.nan_to_num(np.ceil(np.sqrt(9 / 8 * height / tolerance_m)), nan=_MOST_PIECES, posinf=_MOST_PIECES)
    pieces: NDArray[np.int64] = np.clip(wanted, 1, _MOST_PIECES).astype(np.int64)
    return pieces


def _cut(xy: Floats, rings: NDArray[np.int64], pieces: NDArray[np.int64]) -> tuple[Floats, NDArray[np.int64]]:
    """Cut each edge into equal pieces; return the vertices and the rings' offsets."""
    start = np.concatenate([[0], np.cumsum(pieces)])  # the place of each old vertex among the new ones
    edge = np.repeat(np.arange(len(pieces)), pieces)
    share = (np.arange(start[-1]) - start[edge]) / pieces[edge]
    new = np.empty((start[-1] + 1, 2))
    new[:-1] = xy[edge] + (xy[edge + 1] - xy[edge]) * share[:, None]
    new[-1] = xy[-1]
    new[start] = xy
    return new, np.concatenate([start[rings[:-1]], [start[-1] + 1]])
