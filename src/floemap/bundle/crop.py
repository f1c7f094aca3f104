"""Crop a chart to an area: polygons that share their borders vertex by vertex, whatever the chart's polygons do.

The borders of the chart and of the area are cut where they cross, and the faces between them are put together again by
the polygon that they lie in. So overlaps of a chart go to the smallest polygon, as in labels, and its gaps stay gaps.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pyproj
import shapely
from numpy.typing import NDArray

from floemap.bundle.area import Area
from floemap.errors import ChartError
from floemap.icechart.read.sigrid3 import Chart
from floemap.icechart.reproject import Polygons, project

#: Grid of the vertices, metres: crossings are exact on it.
_GRID_M = 1.0
#: Edges move by no more when the chart is projected to the area's map.
_TOLERANCE_M = 1.0
#: Polygons whose vertices are farther outside the area than this share of it have no edge in it.
_MARGIN = 0.2


@dataclass(frozen=True)
class Crop:
    """The part of a chart in an area: single polygons that share their borders.

    Attributes
    ----------
    chart
        The chart, read; row `rows[i]` of it has the codes of polygon i.
    rows
        Row of the chart of each polygon, (n,).
    polygons
        On the map of `area`, (n,).
    area
        The area.
    """

    chart: Chart
    rows: NDArray[np.intp]
    polygons: Polygons
    area: Area

    def as_chart(self) -> Chart:
        """Return the crop as a chart, numbered from 1."""
        table = self.chart.polygons.iloc[self.rows].set_geometry(list(self.polygons), crs=self.area.crs)
        classes = self.chart.classes
        return replace(
            self.chart,
            polygons=table.set_axis(np.arange(1, len(self.rows) + 1), axis=0),
            classes=None if classes is None else tuple(classes[i] for i in self.rows),
        )


def crop(chart: Chart, area: Area) -> Crop:
    """Return the part of a chart in an area.

    Raises
    ------
    ChartError
        If no polygon reaches into the area, or one near it has no position on the area's map.
    """
    near = _near(chart, area)
    try:
        drawn = project(chart.geometries[near], chart.crs, area.crs, _TOLERANCE_M)
    except ChartError as e:
        message = f"its polygons cannot be projected to the area: {e.message}"
        hint = "Give a smaller --area, or one that lies in the chart."
        raise ChartError(message, path=chart.path, hint=hint) from e
    drawn = shapely.make_valid(drawn, method="structure", keep_collapsed=False)
    inside = shapely.intersects(drawn, area.shape)
    rows, drawn = near[inside], drawn[inside]
    faces, of = _faces(drawn, area)
    if not len(faces):
        raise ChartError(
            f"has no polygon in the area {area.words}.",
            path=chart.path,
            hint="`floemap info CHART` shows where it is. Choose another --area.",
        )
    found, polygons = [], []
    for number in np.unique(of):
        parts = shapely.get_parts(shapely.coverage_union_all(faces[of == number]))
        polygons += list(parts)
        found += [rows[number]] * len(parts)
    return Crop(chart, np.array(found), np.array(polygons, object), area)


def _near(chart: Chart, area: Area) -> NDArray[np.intp]:
    """Return the rows of polygons that may reach into the area, by the bounds of their vertices on its map."""
    xy, of = shapely.get_coordinates(chart.geometries, return_index=True)
    to_map = pyproj.Transformer.from_crs(chart.crs, area.crs, always_xy=True)
    x, y = to_map.transform(xy[:, 0], xy[:, 1])
    first = np.searchsorted(of, np.arange(len(chart)))
    low, high = (
        np.column_stack([f.reduceat(np.nan_to_num(v, nan=far, posinf=np.inf, neginf=-np.inf), first) for v in (x, y)])
        for f, far in ((np.minimum, -np.inf), (np.maximum, np.inf))
    )
    west, south, east, north = shapely.bounds(area.shape)
    margin = _MARGIN * max(east - west, north - south)
    return np.flatnonzero(
        (low[:, 0] <= east + margin)
        & (high[:, 0] >= west - margin)
        & (low[:, 1] <= north + margin)
        & (high[:, 1] >= south - margin)
    )


def _faces(drawn: Polygons, area: Area) -> tuple[Polygons, NDArray[np.intp]]:
    """Return the faces in the area that lie in a polygon, and the number of the smallest polygon of each."""
    lines = np.append(shapely.boundary(drawn), shapely.boundary(area.shape))
    west, south, east, north = shapely.bounds(area.shape)
    lines = shapely.clip_by_rect(lines, west - 10, south - 10, east + 10, north + 10)
    noded = shapely.union_all(shapely.get_parts(lines), grid_size=_GRID_M)
    faces = shapely.get_parts(shapely.polygonize([noded]))
    middle = shapely.point_on_surface(faces)
    shapely.prepare(area.shape)
    within = shapely.contains(area.shape, middle)
    faces, middle = faces[within], middle[within]
    face, number = shapely.STRtree(drawn).query(middle, predicate="intersects")
    order = np.lexsort((number, shapely.area(drawn)[number], face))
    face, number = face[order], number[order]
    first = np.diff(face, prepend=-1) > 0
    return faces[face[first]], number[first]
