"""Repair of invalid polygons from their rings, in whichever direction these run, without losing what they enclose.

In shapefiles the direction of a ring distinguishes holes from shells, and programs often write the wrong direction; a
hole then becomes a second shell, or a shell a hole. So a ring within another is a hole in any case, and a ring in a
hole is an island. Only for rings that cross does it matter what the file calls them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import shapely
from numpy.typing import NDArray

from floemap.errors import ChartError
from floemap.icechart.reproject import Polygons

#: A hole that crosses another ring, and a shell that does, lies within it from this share of its area on.
_HOLE_WITHIN, _SHELL_WITHIN = 0.5, 0.99
#: Rings whose areas differ by less than this share are one ring, written twice.
_SAME = 1e-4
#: Most pairs of near edges in a chart beyond the usual number. Repair makes a vertex of each crossing, and takes
#: seconds and hundreds of megabytes for a hundred thousand.
MOST_CROSSINGS = 100_000
#: Edges near an edge on borders that do not cross: its neighbours, and those of the polygon on the other side.
_USUAL = 20
#: Largest number of edges or rings that are all counted; of more, a sample of this size is.
_SAMPLE = 4000
_PAIRS_AT_ONCE = 20_000_000
#: Most rings within each other, and most rings near a ring: nobody draws more.
_DEEPEST = 50
_MOST_NEAR = 200


def repaired(polygons: Polygons, ids: Sequence[Any] | NDArray[Any]) -> Polygons:
    """Return polygons and multipolygons, (n,), made valid; empty ones if nothing has an area.

    Parameters
    ----------
    polygons
        Polygons and multipolygons, (n,).
    ids
        Numbers of their features, for messages, (n,).

    Raises
    ------
    ChartError
        If polygons cross themselves so often that the repair would take too long; the message names one.
    """
    made = np.empty(len(polygons), object)
    left = float(MOST_CROSSINGS)
    for i, polygon in enumerate(polygons):
        left -= extra_crossings([polygon])
        if left < 0:
            message = f"polygon {ids[i]}: its border crosses itself too often to be repaired."
            raise ChartError(message, hint="Repair the chart.")
        made[i] = _repaired(polygon, ids[i])
    return made


def extra_crossings(polygons: Sequence[Any] | Polygons) -> float:
    """Estimate how many pairs of edges of polygons, (n,), may cross, beyond the usual number on borders."""
    xy, ring = shapely.get_coordinates(shapely.get_rings(polygons), return_index=True)
    same = ring[1:] == ring[:-1]
    edges = np.asarray(shapely.linestrings(np.stack([xy[:-1][same], xy[1:][same]], axis=1)))
    return float(max((near_each(edges) - _USUAL) * len(edges) / 2, 0.0))


def near_each(geometries: Polygons) -> float:
    """Return the mean number of geometries, (n,), near each of them, itself included.

    Two are near if their bounding boxes meet. Of many geometries, a sample is counted.
    """
    if not len(geometries):
        return 0.0
    tree = shapely.STRtree(geometries)
    sample = geometries
    if len(geometries) > _SAMPLE:
        sample = geometries[np.random.default_rng(0).choice(len(geometries), _SAMPLE, replace=False)]
    at_once = max(_PAIRS_AT_ONCE // len(geometries), 1)
    pairs = sum(tree.query(sample[i : i + at_once]).shape[1] for i in range(0, len(sample), at_once))
    return float(pairs / len(sample))


def _repaired(polygon: Any, feature: Any) -> Any:
    parts = shapely.get_parts(polygon)
    rings, owner = shapely.get_rings(parts, return_index=True)
    is_hole = np.diff(owner, prepend=-1) == 0  # the first ring of a part is its shell
    # "structure" keeps what a ring encloses; parts that collapse to lines have no area.
    valid = shapely.make_valid(np.asarray(shapely.polygons(rings)), method="structure", keep_collapsed=False)
    regions = np.array([areas_of(shapely.union_all(shapely.get_parts(r))) for r in valid], np.object_)  # parts may meet
    order = np.argsort(-shapely.area(regions), kind="stable")
    order = order[shapely.area(regions[order]) > 0]
    if not len(order):
        return shapely.MultiPolygon()
    regions, is_hole = regions[order], is_hole[order]
    if is_hole[0]:  # the largest encloses the others, whatever the file calls it: all rings run the wrong way
        is_hole = ~is_hole
    if len(regions) == 1:
        return regions[0]
    depth = _depths(regions, is_hole) if near_each(regions) < _MOST_NEAR else np.array([_DEEPEST + 1])
    if depth.max() > _DEEPEST:
        message = f"polygon {feature}: too many of its rings lie within each other."
        raise ChartError(message, hint="Repair the chart.")
    made = shapely.union_all(regions[depth == 0])
    for level in range(1, depth.max() + 1):
        at_level = shapely.union_all(regions[depth == level])
        made = made.difference(at_level) if level % 2 else made.union(at_level)
    return areas_of(made)


def _depths(regions: Polygons, is_hole: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Return how many others enclose each of (n,) regions, the largest first; -1 for a region that occurs twice."""
    tree = shapely.STRtree(regions)
    outer, inner = tree.query(regions, predicate="contains")
    outer, inner = outer[outer < inner], inner[outer < inner]
    near = tree.query(regions, predicate="intersects")
    near = near[:, near[0] < near[1]]
    within = set(zip(outer.tolist(), inner.tolist(), strict=True))
    unsure = np.array([pair for pair in zip(*near.tolist(), strict=True) if pair not in within], int).reshape(-1, 2)
    area = shapely.area(regions)
    share = shapely.area(shapely.intersection(regions[unsure[:, 0]], regions[unsure[:, 1]])) / area[unsure[:, 1]]
    crossing = unsure[share > np.where(is_hole[unsure[:, 1]], _HOLE_WITHIN, _SHELL_WITHIN)]
    outer = np.concatenate([outer, crossing[:, 0]])
    inner = np.concatenate([inner, crossing[:, 1]])
    twice = area[inner] > (1 - _SAME) * area[outer]
    again = np.zeros(len(regions), np.bool_)
    again[inner[twice]] = True
    depth = np.bincount(inner[~again[outer]], minlength=len(regions))
    depth[again] = -1
    return np.asarray(depth)


def areas_of(geometry: Any) -> Any:
    """Return the polygons among the parts of a geometry, without points and lines, which repair may leave."""
    parts = shapely.get_parts(shapely.get_parts(geometry))
    parts = parts[shapely.get_type_id(parts) == shapely.GeometryType.POLYGON]
    return parts[0] if len(parts) == 1 else shapely.multipolygons(parts)
