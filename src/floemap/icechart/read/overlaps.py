"""Overlaps and gaps between a chart's polygons: measured, not repaired."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import shapely

from floemap.icechart.read.rings import extra_crossings, near_each
from floemap.icechart.reproject import Polygons

#: Areas below this share of the chart are rounding errors.
_ROUNDING = 1e-9
#: Above so many pairs of edges that may cross, or so many neighbours of a polygon, measuring takes minutes or more.
_MOST_CROSSINGS = 2_000_000
_MOST_NEAR = 500


@dataclass(frozen=True)
class Coverage:
    """Overlaps and gaps. Areas are on the chart's map, in square metres.

    Attributes
    ----------
    area_m2
        Area that the polygons cover, overlaps counted once.
    overlap_m2
        Area that several polygons cover, counted once for each polygon but one.
    overlapping_pairs
        Pairs of polygons with a common area.
    gap_m2
        Area that polygons enclose and none covers.
    gaps
        Number of such holes.
    measured
        False if so many polygons overlap that they were not measured; then all numbers are 0.
    """

    area_m2: float
    overlap_m2: float
    overlapping_pairs: int
    gap_m2: float
    gaps: int
    measured: bool = True


def is_measurable(polygons: Polygons) -> bool:
    """Return whether overlaps and gaps of polygons, (n,), can be measured in seconds."""
    return near_each(polygons) <= _MOST_NEAR and extra_crossings(polygons) <= _MOST_CROSSINGS


def measure_coverage(polygons: Polygons) -> Coverage:
    """Measure overlaps and gaps of valid polygons, (n,), in metres."""
    if not len(polygons):
        return Coverage(0.0, 0.0, 0, 0.0, 0)
    if not is_measurable(polygons):
        return Coverage(0.0, 0.0, 0, 0.0, 0, measured=False)
    union = shapely.union_all(polygons)
    area = float(union.area)
    smallest = _ROUNDING * area
    overlap = float(shapely.area(polygons).sum() - area)
    pairs = 0
    if overlap > smallest:
        pairs = _overlapping_pairs(polygons, smallest)
    holes = np.asarray(shapely.polygons(shapely.get_rings(shapely.get_parts(union))))
    exteriors = np.asarray(shapely.polygons(shapely.get_exterior_ring(shapely.get_parts(union))))
    gap = float(shapely.union_all(exteriors).area - area)
    gaps = len(holes) - len(exteriors) if gap > smallest else 0
    return Coverage(area, overlap if pairs else 0.0, pairs, gap if gaps else 0.0, gaps)


def _overlapping_pairs(polygons: Polygons, smallest: float) -> int:
    first, second = shapely.STRtree(polygons).query(polygons, predicate="intersects")
    once = first < second
    first, second = first[once], second[once]
    common = shapely.area(shapely.intersection(polygons[first], polygons[second]))
    return int(np.count_nonzero(common > smallest))
