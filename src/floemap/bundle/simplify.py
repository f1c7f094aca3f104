"""Simplify the polygons of a crop for few bytes, with common borders staying common: no gap, no overlap arises.

1. Polygons of the sea below the smallest area become part of the neighbour at sea with the longest common border, the
   smallest first. Land, ice shelves and places without data are not merged, whatever their size, and nothing becomes
   one of them.
2. Borders are simplified by the algorithm of Visvalingam and Whyatt as a coverage (GEOS): each border once, for both
   sides.
"""

from __future__ import annotations

import heapq
from collections import defaultdict
from dataclasses import replace

import numpy as np
import shapely
from numpy.typing import NDArray

from floemap.bundle.crop import Crop
from floemap.icechart.dominant_type import Rule, ice_types
from floemap.icechart.reproject import Polygons

#: The smallest polygon, in squares of the tolerance: a smaller one would be drawn with three or four vertices.
SMALLEST_SQUARES = 10.0
_KEPT = (Rule.LAND, Rule.ICE_SHELF, Rule.NO_DATA)


def simplified(crop: Crop, tolerance_m: float) -> Crop:
    """Return a crop with small polygons merged and borders simplified; with a tolerance of 0, the crop itself.

    Parameters
    ----------
    tolerance_m
        Tolerance of GEOS: roughly the square root of the areas of the triangles that are cut off or filled in.
    """
    if not tolerance_m:
        return crop
    merged = _merged(crop, smallest_m2(tolerance_m))
    return replace(merged, polygons=np.asarray(shapely.coverage_simplify(merged.polygons, tolerance_m)))


def smallest_m2(tolerance_m: float) -> float:
    """Return the area below which polygons are merged, square metres."""
    return SMALLEST_SQUARES * tolerance_m**2


def _merged(crop: Crop, smallest: float) -> Crop:
    into = _absorbers(crop.polygons, np.isin(ice_types(crop.chart, unmapped="ignore").rule[crop.rows], _KEPT), smallest)
    kept = np.unique(into)
    groups = [np.flatnonzero(into == k) for k in kept]
    whole = [crop.polygons[g[0]] if len(g) == 1 else shapely.coverage_union_all(crop.polygons[g]) for g in groups]
    return replace(crop, rows=crop.rows[kept], polygons=np.array(whole, object))


def _absorbers(polygons: Polygons, kept: NDArray[np.bool_], smallest: float) -> NDArray[np.intp]:
    """Return which polygon each becomes part of, itself if none, (n,); those that are `kept` neither join nor grow."""
    area = shapely.area(polygons)
    borders = _common_borders(polygons)
    into = np.arange(len(polygons))
    queue = [(area[i], i) for i in np.flatnonzero((area < smallest) & ~kept).tolist()]
    heapq.heapify(queue)
    while queue:
        size, i = heapq.heappop(queue)
        if into[i] != i or size != area[i]:  # it was merged already, or has grown
            continue
        others = {j: length for j, length in borders[i].items() if not kept[j]}
        if not others:
            continue
        j = max(others, key=lambda k: (others[k], -k))
        into[i] = j
        area[j] += area[i]
        for k, length in borders.pop(i).items():
            borders[k].pop(i)
            if k != j:
                borders[j][k] += length
                borders[k][j] += length
        if area[j] < smallest:
            heapq.heappush(queue, (area[j], j))
    for i in range(len(into)):  # a polygon may have become part of one that became part of another
        while into[i] != into[into[i]]:
            into[i] = into[into[i]]
    return into


def _common_borders(polygons: Polygons) -> dict[int, dict[int, float]]:
    """Return the lengths of common borders, by polygon and neighbour."""
    first, second = shapely.STRtree(polygons).query(polygons, predicate="intersects")
    once = first < second
    first, second = first[once], second[once]
    border = shapely.boundary(polygons)
    length = shapely.length(shapely.intersection(border[first], border[second]))
    found: dict[int, dict[int, float]] = defaultdict(lambda: defaultdict(float))
    for a, b, metres in zip(first.tolist(), second.tolist(), length.tolist(), strict=True):
        if metres > 0:
            found[a][b] = found[b][a] = metres
    return found
