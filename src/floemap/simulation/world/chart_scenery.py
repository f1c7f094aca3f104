"""Scenery from a real ice chart: its polygons, filled with floes of the charted types and concentrations.

A chart gives the ice types of a polygon, not their places in it. Here each floe of a polygon, a cell of a tessellation,
gets one of its types, in numbers according to the concentrations. Where the chart gives no type, there is water.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import geopandas as gpd
import numpy as np
import pyproj
import shapely
from numpy.typing import NDArray
from rasterio.features import rasterize
from rasterio.transform import from_origin

from floemap.errors import ChartError
from floemap.icechart.dominant_type import IceTypes, Rule, ice_types
from floemap.icechart.read.codes import NOT_GIVEN
from floemap.icechart.read.sigrid3 import Chart
from floemap.icechart.reproject import project
from floemap.legend import SIX_CLASSES
from floemap.simulation.world.surface import Surface, Truth
from floemap.simulation.world.texture import Bytes, Floats, cell_lookup, lookup, noise_texture, voronoi_cells

#: Pixel size of the raster of the chart's polygons.
CHART_STEP_M = 200.0
#: Mean sizes of floes: of large ones, and of small ones where large ones are broken.
FLOE_SPACINGS_M = (13_000.0, 3_000.0)
#: Share of large floes that are not broken.
_WHOLE = 0.4
_FAST_FORM = 8
#: A chart is not moved if it covers this share of the scene.
_IN_PLACE = 0.5
_SEARCH_CELLS = 48

_SURFACE_OF_CLASS = (Surface.NEW, Surface.NILAS, Surface.YOUNG, Surface.FIRST_YEAR, Surface.OLD, Surface.WATER)
_GLACIER_ICE = 98


@dataclass(frozen=True)
class Placement:
    """How a chart was placed on a scene: at `scale` times its size, moved by the shift; not changed if `in_place`."""

    in_place: bool
    scale: float
    shift_m: tuple[float, float]


class ChartScenery:
    """A chart on a plane.

    Parameters
    ----------
    chart
        The chart.
    plane
        CRS of the plane.
    bounds_m
        (left, bottom, right, top) of the scene on the plane.
    seed
        Seed of floes and texture.

    Raises
    ------
    ChartError
        If the chart has no ice or water.

    Attributes
    ----------
    polygons
        Table of the chart with its polygons on the plane, as a GeoDataFrame.
    """

    def __init__(self, chart: Chart, plane: pyproj.CRS, bounds_m: tuple[float, float, float, float], seed: int) -> None:
        types = ice_types(chart, unmapped="ignore")
        self.kinds, self.shares = _mixture(chart, types)
        self.seed = seed
        polygons, self.placement = _placed(chart, self.kinds[:, 0], plane, bounds_m)
        self.polygons = chart.polygons.set_geometry(gpd.GeoSeries(polygons, index=chart.polygons.index, crs=plane))
        left, bottom, right, top = bounds_m
        self._left, self._top = left, top
        shape = tuple(int(np.ceil(d / CHART_STEP_M)) + 1 for d in (top - bottom, right - left))
        order = np.argsort(-shapely.area(polygons), kind="stable")
        self.number: NDArray[np.uint16] = rasterize(
            ((polygons[i], int(i) + 1) for i in order if not polygons[i].is_empty),
            out_shape=shape,
            transform=from_origin(left - CHART_STEP_M / 2, top + CHART_STEP_M / 2, CHART_STEP_M, CHART_STEP_M),
            dtype=np.uint16,
        )

    def truth(self, x_m: Floats, y_m: Floats) -> Truth:
        """Return the truth at positions, as :meth:`floemap.simulation.world.surface.World.truth` does."""
        x, y = np.asarray(x_m, np.float32), np.asarray(y_m, np.float32)
        rough = noise_texture(self.seed, 6, 2048, 256, 2, 2.8)
        # Drawn lines are smooth, ice edges are ragged: shift positions by some 150 m.
        jx = x + 150 * lookup(rough, x, y, 60.0, 81)
        jy = y + 150 * lookup(rough, x, y, 60.0, 82)
        col = (jx - np.float32(self._left)) * np.float32(1 / CHART_STEP_M)
        row = (np.float32(self._top) - jy) * np.float32(1 / CHART_STEP_M)
        number = cv2.remap(self.number, col, row, cv2.INTER_NEAREST, borderMode=cv2.BORDER_CONSTANT, borderValue=0)
        rank = self._floe_rank(jx, jy)
        surface = np.full(x.shape, Surface.WATER, np.uint8)
        placed = number > 0
        which = number[placed].astype(np.int64) - 1
        slot = (rank[placed][:, None] >= self.shares[which]).sum(axis=1)
        surface[placed] = self.kinds[which, slot]
        ridges = lookup(rough, x, y, 90.0, 89)
        surface[(np.abs(ridges) < 0.22) & (surface == Surface.FIRST_YEAR)] = Surface.FIRST_YEAR_DEFORMED
        floe = (surface != Surface.WATER) & (surface != Surface.LAND) & (surface != Surface.FAST)
        tone = np.where(floe, 3.46 * (np.modf(rank * 7.13)[0] - 0.5), np.float32(0))
        fine = noise_texture(self.seed, 5, 2048, 256, 2, 2.4)
        common, own = lookup(fine, x, y, 60.0, 86), lookup(fine, x, y, 60.0, 87)
        patches = lookup(noise_texture(self.seed, 1, 1024, 512, 4, 3.0), x, y, 900.0, 88)
        return Truth(
            surface,
            np.clip(7.0 * np.exp(0.35 * patches), 1.0, 15.0).astype(np.float32),
            (0.75 * common + 0.66 * tone).astype(np.float32),
            (0.5 * common + 0.56 * own + 0.66 * tone).astype(np.float32),
        )

    def _floe_rank(self, x: Floats, y: Floats) -> Floats:
        """Return the random number of the floe at each position, uniform in 0 to 1."""
        cells = voronoi_cells(self.seed)
        large, small = (
            cells.rank[cell_lookup(cells, x, y, spacing_m, 83 + k)[1]] for k, spacing_m in enumerate(FLOE_SPACINGS_M)
        )
        # Other digits of the same number decide whether a floe is whole, so that its rank is independent of that.
        return np.where(np.modf(large * 31.7)[0] < _WHOLE, large, small)


def _mixture(chart: Chart, types: IceTypes) -> tuple[Bytes, Floats]:
    """Return the surfaces of the floes of each polygon and the ranks at which they change.

    Returns
    -------
    kinds
        (polygons, 6) uint8 codes of Surface: up to four types, water, and again water.
    shares
        (polygons, 5) float32, cumulative; the number of shares at or below r is the index of the kind of a floe of
        rank r.
    """
    n = len(chart)
    of_stage = {stage: _SURFACE_OF_CLASS[c] for stage, c in SIX_CLASSES.stage_to_class.items() if c < 6}
    of_stage[_GLACIER_ICE] = Surface.OLD
    kinds = np.full((n, 6), Surface.WATER, np.uint8)
    part = np.zeros((n, 5))
    fast = chart.codes("fa") == _FAST_FORM
    for i in range(n):
        if types.rule[i] in (Rule.LAND, Rule.ICE_SHELF):
            kinds[i], part[i, 0] = Surface.LAND, 1.0
            continue
        known = [(s, w) for s, w in zip(types.stages[i].tolist(), types.shares[i].tolist(), strict=True) if w > 0]
        for k, (stage, share) in enumerate(known):
            if stage != NOT_GIVEN and stage in of_stage:
                kinds[i, k], part[i, k] = of_stage[stage], share
        if fast[i] and kinds[i, 0] == Surface.FIRST_YEAR:
            kinds[i, 0] = Surface.FAST
    return kinds, np.cumsum(part, axis=1).astype(np.float32)


def _placed(
    chart: Chart, kind: Bytes, plane: pyproj.CRS, bounds_m: tuple[float, float, float, float]
) -> tuple[NDArray[np.object_], Placement]:
    """Return the polygons on the plane: in place if they cover the scene, else moved and scaled to cover it."""
    geometries = chart.geometries
    scene = shapely.box(*bounds_m)
    here = _visible(chart, plane, scene)
    if here is not None:
        return here, Placement(True, 1.0, (0.0, 0.0))
    left, bottom, right, top = shapely.total_bounds(geometries)
    width, height = bounds_m[2] - bounds_m[0], bounds_m[3] - bounds_m[1]
    scale = max(1.0, width / (right - left), height / (top - bottom))
    corner = _richest(geometries, kind, (width / scale, height / scale))
    shift = bounds_m[0] - corner[0] * scale, bounds_m[1] - corner[1] * scale
    moved = shapely.transform(geometries, lambda xy: xy * scale + np.array(shift))
    return moved, Placement(False, float(scale), (float(shift[0]), float(shift[1])))


def _visible(chart: Chart, plane: pyproj.CRS, scene: shapely.Polygon) -> NDArray[np.object_] | None:
    """Return the polygons on the plane if they cover enough of the scene, else None."""
    back = pyproj.Transformer.from_crs(plane, chart.crs, always_xy=True)
    x, y = np.meshgrid(*(np.linspace(a, b, 25) for a, b in zip(scene.bounds[:2], scene.bounds[2:], strict=True)))
    x, y = back.transform(x.ravel(), y.ravel())
    points = shapely.points(x[np.isfinite(x)], y[np.isfinite(x)])
    hit = shapely.STRtree(chart.geometries).query(points, predicate="intersects")[0]
    if np.unique(hit).size < _IN_PLACE * 25**2:
        return None
    projected: NDArray[np.object_] = project(chart.geometries, chart.crs, plane, CHART_STEP_M / 4)
    return projected


def _richest(geometries: NDArray[np.object_], kind: Bytes, size: tuple[float, float]) -> tuple[float, float]:
    """Return the lower left corner of the window of that size with the most even mixture of kinds without land."""
    left, bottom, right, top = shapely.total_bounds(geometries)
    step = max(right - left, top - bottom, *size) / (4 * _SEARCH_CELLS)
    shape = int(np.ceil((top - bottom) / step)) + 1, int(np.ceil((right - left) / step)) + 1
    code = rasterize(
        ((g, int(k) + 1) for g, k in zip(geometries, kind, strict=True)),
        out_shape=shape,
        transform=from_origin(left, top, step, step),
        dtype=np.uint8,
    )
    sea = [k for k in np.unique(code) if k not in (0, Surface.LAND + 1)]
    if not sea:
        raise ChartError("the chart has neither ice nor water to place on the scene.", hint="Give another chart.")
    window = max(1, round(size[0] / step)), max(1, round(size[1] / step))
    shares = [
        cv2.boxFilter((code == k).astype(np.float32), -1, window, anchor=(0, 0), borderType=cv2.BORDER_CONSTANT)
        for k in sea
    ]
    evenness = sum(-s * np.log(np.maximum(s, 1e-6)) for s in shares)
    rows, cols = max(1, shape[0] - window[1]), max(1, shape[1] - window[0])
    row, col = np.unravel_index(int(np.argmax(np.asarray(evenness)[:rows, :cols])), (rows, cols))
    return float(left + col * step), float(top - (row + window[1]) * step)
