"""Invalid polygons made valid from their rings, whichever way these are wound, without losing what they enclose.

Shapefiles tell holes from shells by the way they are wound, and programs often write them the wrong way; a hole then
comes as a second shell, or a shell as a hole. Where a ring lies within another, it is a hole all the same, and a ring
in a hole is an island. Only where rings cross does it count what the file calls them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import shapely
from numpy.typing import NDArray

from floemap.errors import ChartError
from floemap.icechart.reproject import Polygons

#: A ring that crosses another is within it from this share of its area on: a hole, and a shell.
_HOLE_WITHIN, _SHELL_WITHIN = 0.5, 0.99
#: Rings whose areas differ by less than this share are one ring that was written twice.
_SAME = 1e-4
#: Pairs of edges that come near each other, by which a chart may exceed the usual number. Repair makes a place of each
#: crossing, and takes seconds and hundreds of megabytes for a hundred thousand.
MOST_CROSSINGS = 100_000
#: Edges near an edge on borders that do not cross: its neighbours, and those of the polygon on the other side.
_USUAL = 20
#: So many edges or rings are looked at; of more, a sample.
_SAMPLE = 4000
_PAIRS_AT_ONCE = 20_000_000
#: Rings within rings: more than that is nothing that can be drawn.
_DEEPEST = 50
_MOST_NEAR = 200


def repaired(polygons: Polygons, ids: Sequence[Any] | NDArray[Any]) -> Polygons:
    """Return polygons and multipolygons, (n,), made valid; empty where nothing has an area.

    Parameters
    ----------
    polygons
        Polygons and multipolygons, (n,).
    ids
        Numbers of their features, for messages, (n,).

    Raises
    ------
    ChartError
        If polygons cross themselves so often that they cannot be repaired in reasonable time, naming one.
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
    """Return about how many pairs of edges of polygons, (n,), may cross, beyond the number that is usual on borders."""
    xy, ring = shapely.get_coordinates(shapely.get_rings(polygons), return_index=True)
    same = ring[1:] == ring[:-1]
    edges = shapely.linestrings(np.stack([xy[:-1][same], xy[1:][same]], axis=1))
    return max((near_each(edges) - _USUAL) * len(edges) / 2, 0.0)


def near_each(geometries: Polygons) -> float:
    """Return how many of some geometries, (n,), each of them has near it on average, itself among them.

    Near is where the boxes around them meet. Of many, a sample is looked at.
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
    # "structure" keeps what a ring encloses; what collapses to lines has no area.
    regions = shapely.make_valid(shapely.polygons(rings), method="structure", keep_collapsed=False)
    regions = np.array([areas_of(shapely.union_all(shapely.get_parts(r))) for r in regions], object)  # parts may meet
    order = np.argsort(-shapely.area(regions), kind="stable")
    order = order[shapely.area(regions[order]) > 0]
    if not len(order):
        return shapely.MultiPolygon()
    regions, is_hole = regions[order], is_hole[order]
    if is_hole[0]:  # the largest encloses the others, whatever it is called: all of them are wound the wrong way
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
    """Return within how many others each of (n,) regions lies, the largest first; -1 for one that is there twice."""
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
    """Return the polygons among the parts of a geometry, without the points and lines that repair may leave."""
    parts = shapely.get_parts(shapely.get_parts(geometry))
    parts = parts[shapely.get_type_id(parts) == shapely.GeometryType.POLYGON]
    return parts[0] if len(parts) == 1 else shapely.multipolygons(parts)
