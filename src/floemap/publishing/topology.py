"""Checks of the polygons of a chart as a coverage, and the repairs that lose nothing.

Gaps, overlaps and polygons that are narrower than an analyst can have meant, a polygon drawn on top of a larger one, a
polygon twice, parts outside of the footprint, and borders that cross themselves have one repair. Others need an
analyst.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyproj
import shapely
from numpy.typing import NDArray

from floemap.errors import ChartError
from floemap.icechart.read.overlaps import is_measurable
from floemap.icechart.read.rings import areas_of, repaired
from floemap.icechart.reproject import Polygons, equal_area_km2
from floemap.publishing.problems import Places, Problem

#: Narrower gaps and overlaps are rounding, metres: between borders whose vertices lie on one another, and between
#: borders in longitude and latitude, where an edge with a vertex of another polygon bends.
_ROUNDING_M, _ROUNDING_DEGREES_M = 0.05, 2.0
#: A polygon lies within another if this share of it does.
_WITHIN = 0.99
_PLACE = re.compile(r"\[(\S+) (\S+)\]")


@dataclass
class Coverage:
    """Polygons of a chart, which checks repair in place.

    Attributes
    ----------
    ids
        Ids of the polygons, for messages, (n,).
    polygons
        Polygons and multipolygons, (n,).
    crs
        Their CRS, in metres.
    eggs
        What the polygons contain, comparable values, (n,): of equal ones, either may be left out.
    sliver_m
        Mean width below which a gap, overlap or polygon is taken for a slip of the hand.
    land
        Whether each is land, which may be narrow, (n,).
    unchanged
        Whether each is as it was in the draft, so that it may be narrow, (n,).
    footprint
        Where the chart must have polygons and no others; None if that is not known.
    in_degrees
        Whether the file has longitudes and latitudes.
    """

    ids: NDArray[np.int64]
    polygons: Polygons
    crs: pyproj.CRS
    eggs: list[Any]
    sliver_m: float
    land: NDArray[np.bool_]
    unchanged: NDArray[np.bool_]
    footprint: Any = None
    in_degrees: bool = False
    problems: list[Problem] = field(default_factory=list)

    def check(self, *, repair: bool) -> None:
        """Find all problems; with `repair`, repair those that are safe. Polygons that are left out become empty."""
        self._place = Places(self.crs)
        self._repair = repair
        self._check_rings()
        if not is_measurable(self.polygons):
            words = "so many polygons overlap that gaps and overlaps were not looked for"
            self.problems.append(Problem("overlap", words, (), None, False))
            return
        self._check_overlaps()
        self._check_footprint()
        self._check_slivers()
        self._check_gaps()

    def _add(self, kind: str, words: str, rows: tuple[int, ...], where: Any, safe: bool) -> None:
        ids = tuple(sorted({int(self.ids[row]) for row in rows}))
        at = self._place.at(*where) if isinstance(where, tuple) else self._place.of(where)
        self.problems.append(Problem(kind, words, ids, at, safe))

    def _check_rings(self) -> None:
        """Find borders that cross or touch themselves. They are made valid in any case: the other checks need it."""
        for row in np.flatnonzero(~shapely.is_valid(self.polygons)).tolist():
            reason = shapely.is_valid_reason(self.polygons[row])
            found = _PLACE.search(reason)
            where = (float(found[1]), float(found[2])) if found else self.polygons[row]
            words = "its border crosses itself" if "ntersection" in reason else reason.partition("[")[0].lower()
            try:
                mended = repaired(self.polygons[row : row + 1], self.ids[row : row + 1])[0]
            except ChartError as e:
                self._add("self-crossing", e.message.partition(": ")[2].rstrip("."), (row,), where, False)
                self.polygons[row] = shapely.MultiPolygon()
                continue
            self._add("self-crossing", words, (row,), where, True)
            self.polygons[row] = mended

    @property
    def _noise_m(self) -> float:
        return _ROUNDING_DEGREES_M if self.in_degrees else _ROUNDING_M

    def _check_overlaps(self) -> None:
        area = shapely.area(self.polygons)
        tree = shapely.STRtree(self.polygons)
        first, second = tree.query(self.polygons, predicate="intersects")
        pairs = [(a, b) if area[a] <= area[b] else (b, a) for a, b in zip(first, second, strict=True) if a < b]
        pairs = [pair for pair in pairs if not self._is_noise(self._common(*pair))]
        on_top = self._on_top(pairs)
        for small, large in sorted(pairs, key=lambda pair: (area[pair[0]], pair)):
            one, other, common = self.polygons[small], self.polygons[large], self._common(small, large)
            if self._is_noise(common):  # repaired with another pair
                continue
            share = shapely.area(common) / min(shapely.area(one), shapely.area(other))
            size, rest = self._size(common), areas_of(shapely.difference(other, one))
            if share > _WITHIN and shapely.area(one) > _WITHIN * shapely.area(other):
                safe = self.eggs[small] == self.eggs[large]
                words = f"are one polygon twice, with {'the same' if safe else 'other'} codes, {size}"
                self._add("duplicate", words, (small, large), common, safe)
                rest = shapely.MultiPolygon()
            elif share > _WITHIN or small in on_top:
                safe, ids = True, (self.ids[small], self.ids[large])
                words = f"polygon {ids[0]} lies on polygon {ids[1]}, which is not cut out there, {size}"
                self._add("overlap", words, (small, large), common, True)
            else:
                safe = mean_width_m(common) < self.sliver_m
                self._add("overlap", f"overlap by {size}", (small, large), common, safe)
            if safe and self._repair:
                self.polygons[large] = rest

    def _common(self, one: int, other: int) -> Any:
        return areas_of(shapely.intersection(self.polygons[one], self.polygons[other]))

    def _is_noise(self, common: Any) -> bool:
        return mean_width_m(common) <= self._noise_m

    def _on_top(self, pairs: list[tuple[int, int]]) -> set[int]:
        """Return the polygons that lie on several larger ones together, as drawn across their borders."""
        below: dict[int, list[Any]] = {}
        for small, large in pairs:
            below.setdefault(small, []).append(self._common(small, large))
        covered = {row: shapely.area(shapely.union_all(common)) for row, common in below.items()}
        return {row for row, area in covered.items() if area > _WITHIN * shapely.area(self.polygons[row])}

    def _size(self, geometry: Any) -> str:
        """Return area and, of a narrow geometry, mean width in words."""
        km2 = equal_area_km2(np.array([geometry], object), self.crs)[0]
        width = mean_width_m(geometry)
        words = f"{km2:,.1f} km²" if km2 >= 0.05 else f"{1e6 * km2:,.0f} m²"
        return words if width >= self.sliver_m else f"{words} (on average {width:.3g} m wide)"

    def _check_footprint(self) -> None:
        if self.footprint is None:
            return
        for row, polygon in enumerate(self.polygons):
            outside = areas_of(shapely.difference(polygon, self.footprint))
            if shapely.is_empty(outside) or mean_width_m(outside) < self.sliver_m:
                continue
            inside = areas_of(shapely.intersection(polygon, self.footprint))
            safe = not shapely.is_empty(inside)
            share = "partly" if safe else "wholly"
            self._add("outside", f"lies {share} outside of the footprint, {self._size(outside)}", (row,), outside, safe)
            if safe and self._repair:
                self.polygons[row] = inside

    def _check_slivers(self) -> None:
        for row, polygon in enumerate(self.polygons):
            if shapely.is_empty(polygon) or self.land[row] or self.unchanged[row]:
                continue
            if mean_width_m(polygon) >= self.sliver_m:
                continue
            to = self._longest_neighbour(polygon, row)
            self._add("sliver", f"is a sliver, {self._size(polygon)}", (row,), polygon, to is not None)
            if to is not None and self._repair:
                self.polygons[to] = areas_of(shapely.union(self.polygons[to], polygon))
                self.polygons[row] = shapely.MultiPolygon()

    def _longest_neighbour(self, polygon: Any, but: int = -1) -> int | None:
        """Return the polygon with the longest common border, None if there is none."""
        near = [int(i) for i in np.flatnonzero(shapely.dwithin(self.polygons, polygon, self._noise_m)) if i != but]
        border = shapely.buffer(polygon, max(self._noise_m, 1e-3))
        lengths = [shapely.length(shapely.intersection(shapely.boundary(self.polygons[i]), border)) for i in near]
        return near[int(np.argmax(lengths))] if near and max(lengths) > 0 else None

    def _gaps(self) -> Iterator[Any]:
        """Yield what no polygon covers: in the footprint or, if that is not known, what polygons enclose."""
        union = shapely.union_all(self.polygons)
        shells = shapely.union_all(shapely.polygons(shapely.get_exterior_ring(shapely.get_parts(union))))
        gaps = shapely.difference(shells if self.footprint is None else self.footprint, union)
        yield from shapely.get_parts(areas_of(gaps)) if not shapely.is_empty(gaps) else ()

    def _check_gaps(self) -> None:
        edge = None if self.footprint is None else shapely.boundary(self.footprint)
        for gap in self._gaps():
            width = mean_width_m(gap)
            if width <= self._noise_m:
                continue
            safe = width < self.sliver_m
            if safe and edge is not None and shapely.intersects(edge, gap):
                continue  # an edge of the footprint that was drawn again
            near = np.flatnonzero(shapely.dwithin(self.polygons, gap, self._noise_m)).tolist()
            to = self._longest_neighbour(gap) if safe else None
            self._add("gap", f"no polygon covers {self._size(gap)} here", tuple(near), gap, to is not None)
            if to is not None and self._repair:
                self.polygons[to] = areas_of(shapely.union(self.polygons[to], gap))


def mean_width_m(geometry: Any) -> float:
    """Return twice the area by the length of the border: the mean width of what is narrow, half a square's side."""
    length = shapely.length(geometry)
    return float(2 * shapely.area(geometry) / length) if length else 0.0
