"""The parts of a line in each polygon of a chart: nothing is left out, and what has no chart is named.

A line is cut wherever it meets the border of a polygon, and the middle of each part decides in which polygons it lies.
Where several overlap, land and ice shelf count before ice, and of ice the polygon with the lowest outcome.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyproj
import shapely
from numpy.typing import NDArray

from floemap.routes.chart_risk import OBSTACLES, ChartRisk
from floemap.routes.lines import Line

Floats = NDArray[np.float64]

#: Row of parts without a chart.
NO_CHART = -1
#: Shorter parts belong to the one before: they are roundings of borders.
_SHORTEST_M = 1.0
#: Farthest position from a map's origin, as in :mod:`floemap.icechart.reproject`.
_MAP_EDGE_M = 1e8
#: A step of a line whose middle is off by more than this share of its length is torn by the projection.
_TORN = 0.25


@dataclass(frozen=True)
class Part:
    """A part of a line: from and to, metres along the line, and the row of its polygon, or :data:`NO_CHART`."""

    from_m: float
    to_m: float
    row: int

    @property
    def length_m(self) -> float:
        """Length, metres."""
        return self.to_m - self.from_m


class Crossings:
    """Finds the parts of lines in the polygons of a chart."""

    def __init__(self, risk: ChartRisk) -> None:
        self._geometries = risk.chart.geometries
        self._tree = shapely.STRtree(self._geometries)
        self._project = pyproj.Transformer.from_crs("EPSG:4326", risk.crs, always_xy=True)
        obstacle = np.isin(risk.kind, OBSTACLES)
        outcome = np.where(np.isnan(risk.regimes.outcome), np.inf, risk.regimes.outcome)
        # Position in the order of what counts first.
        self._rank = np.empty(len(outcome), np.int64)
        self._rank[np.lexsort((outcome, ~obstacle))] = np.arange(len(outcome))

    def of(self, line: Line) -> list[Part]:
        """Return the parts of a line from its start to its end, without gaps."""
        x, y = self._project.transform(line.lon, line.lat)
        xy = np.column_stack([x, y])
        cuts = [np.array([0.0, line.length_m])]
        inside = list(self._runs(line, xy))
        for first, last in inside:
            cuts += [line.along_m[[first, last]], self._borders(xy[first : last + 1], line.along_m[first : last + 1])]
        ends = _apart(np.unique(np.concatenate(cuts)), line.length_m)
        middle = (ends[:-1] + ends[1:]) / 2
        on_map = np.zeros(len(middle), np.bool_)
        for first, last in inside:
            on_map |= (middle >= line.along_m[first]) & (middle <= line.along_m[last])
        rows = np.full(len(middle), NO_CHART)
        if on_map.any():
            rows[on_map] = self._rows(line, middle[on_map])
        starts = np.flatnonzero(np.diff(rows, prepend=NO_CHART - 1) != 0)
        stops = np.append(starts[1:], len(rows))
        return [Part(float(ends[a]), float(ends[b]), int(rows[a])) for a, b in zip(starts, stops, strict=True)]

    def _runs(self, line: Line, xy: Floats) -> Iterator[tuple[int, int]]:
        """Give first and last vertex of each stretch of a line that the map shows in one piece."""
        with np.errstate(invalid="ignore"):
            there = np.abs(xy).max(axis=1) < _MAP_EDGE_M
            half_way = (line.along_m[:-1] + line.along_m[1:]) / 2
            middle = np.column_stack(self._project.transform(*line.at(half_way)))
            step = np.hypot(*(xy[1:] - xy[:-1]).T)
            off = np.hypot(*(middle - (xy[1:] + xy[:-1]) / 2).T)
            whole = there[:-1] & there[1:] & (off <= _TORN * step)
        edges = np.flatnonzero(np.diff(np.concatenate([[False], whole, [False]])))
        yield from zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True)

    def _borders(self, xy: Floats, along_m: Floats) -> Floats:
        """Return the distances along a stretch, metres, at which it meets borders of polygons."""
        string = shapely.linestrings(xy)
        near = self._tree.query(string, predicate="intersects")
        if not len(near):
            return np.empty(0)
        shapely.prepare(string)
        met = shapely.get_coordinates(shapely.intersection(shapely.boundary(self._geometries[near]), string))
        places = shapely.line_locate_point(string, shapely.points(met))
        steps = np.concatenate([[0.0], np.cumsum(np.hypot(*np.diff(xy, axis=0).T))])
        return np.asarray(np.interp(places, steps, along_m))

    def _rows(self, line: Line, distances_m: Floats) -> NDArray[np.int64]:
        """Return the polygon that counts at distances along a line, (n,), or :data:`NO_CHART`."""
        points: Any = shapely.points(np.column_stack(self._project.transform(*line.at(distances_m))))
        of_point, of_polygon = self._tree.query(points, predicate="intersects")
        rows = np.full(len(points), NO_CHART)
        order = np.argsort(-self._rank[of_polygon], kind="stable")
        rows[of_point[order]] = of_polygon[order]  # the last assignment counts: the first in rank
        return rows


def _apart(ends: Floats, length_m: float) -> Floats:
    """Return sorted distances without those that are within a metre of the one before or of the end."""
    kept = [0.0]
    for end in ends[1:].tolist():
        if end - kept[-1] >= _SHORTEST_M and length_m - end >= _SHORTEST_M:
            kept.append(end)
    return np.array([*kept, length_m])
