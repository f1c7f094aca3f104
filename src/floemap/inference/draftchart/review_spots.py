"""Spots to review first: compact areas of some hundred square kilometres where a draft chart is expected to be wrong.

The polygons of a chart cannot be reviewed one after the other: the one with the largest expected error may be half a
scene. So spots are found in the pixels. The expected error of a pixel is 1 minus the probability of its class. Spots
are grown around the places with the largest sum of expected errors nearby, until they are large enough, and ranked by
their area that is expected to be wrong. They do not overlap.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import cv2
import geopandas as gpd
import numpy as np
import pyogrio
import shapely
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox

from floemap.grid import map_crs_of, true_pixel_km2
from floemap.icechart.write.qgis_style import spots_style
from floemap.icechart.write.vector import add_styles, date_geopackage
from floemap.inference.predict.scene_maps import NO_VALUE, STEP, SceneMaps
from floemap.results.whole_files import whole_files

Floats = NDArray[np.float64]

#: Layer of the GeoPackage.
LAYER = "review_spots"
#: Smallest and largest area of a spot, square kilometres.
AREA_KM2 = (50.0, 500.0)
#: Largest number of spots.
MOST = 20
#: Side of the cells that spots consist of, metres; at least a pixel.
_CELL_M = 2000.0
#: Radius within which the expected error is summed to find spots, and the largest distance from a spot's first cell.
_NEAR_M, _FAR_M = 6000.0, 14000.0
#: A cell joins a spot while its expected error is at least this share of the spot's mean.
_JOINS = 0.7
#: A spot must have this many times the mean expected error of the scene.
_WORTH = 1.25


def write_spots(spots: gpd.GeoDataFrame, path: Path, *, start: datetime) -> None:
    """Write spots as a GeoPackage with one layer, :data:`LAYER`, in the chart's CRS, and a style for QGIS.

    The time of the last change in the file is `start`, the start of the acquisition.

    Raises
    ------
    OutputError
        If the file cannot be written whole.
    """
    with whole_files(path.parent, [path.name]) as beside:
        pyogrio.write_dataframe(
            spots,
            beside / path.name,
            layer=LAYER,
            driver="GPKG",
            geometry_type="Polygon",
            promote_to_multi=False,
            VERSION="1.3",  # which older GDAL can read
        )
        add_styles(beside / path.name, LAYER, {"Spots": spots_style()}, start, "numbered by what to review first")
        date_geopackage(beside / path.name, start)


def tell_spots(spots: gpd.GeoDataFrame) -> list[dict[str, Any]]:
    """Return spots for a JSON record: numbers, classes, and longitude and latitude of a point inside."""
    points = spots.geometry.representative_point().to_crs("EPSG:4326")
    return [
        {
            "spot": int(row.spot),
            "lon_deg": round(float(point.x), 4),
            "lat_deg": round(float(point.y), 4),
            "area_km2": round(float(row.area_km2), 1),
            "wrong_km2": round(float(row.wrong_km2), 1),
            "class": row.class_key,
            "other": row.other_key,
        }
        for row, point in zip(spots.itertuples(), points, strict=True)
    ]


@dataclass(frozen=True)
class _Cells:
    """Sums over square cells, (rows, cols): the number of pixels with a class, and their expected errors.

    `pixel_km2` is the area of a pixel of each cell on the ellipsoid.
    """

    pixels: Floats
    errors: Floats
    pixel_km2: Floats
    side_px: int

    @property
    def area_km2(self) -> Floats:
        return self.pixels * self.pixel_km2

    @property
    def wrong_km2(self) -> Floats:
        return self.errors * self.pixel_km2

    @property
    def mean(self) -> Floats:
        return np.divide(self.errors, self.pixels, out=np.zeros_like(self.errors), where=self.pixels > 0)


def review_spots(maps: SceneMaps, most: int = MOST) -> gpd.GeoDataFrame:
    """Find the spots of a scene that an analyst should review, in the grid's CRS, the most important first.

    Parameters
    ----------
    maps
        Classes and probabilities. Land and pixels without data are not counted.
    most
        Largest number of spots.

    Returns
    -------
    Columns: `spot` from 1, `area_km2` and `wrong_km2` (the area that is expected to be wrong) on the ellipsoid,
    `error` (mean expected error, 0 to 1), `class_key` and `other_key` (the most probable class over the spot, and the
    next), and the geometry, made of squares of :data:`_CELL_M`. Empty if no area has a clearly larger expected error
    than the rest, or if the scene is smaller than a spot.

    Raises
    ------
    GridError
        If the grid extends beyond the map.
    """
    pixel_m = float(abs(maps.geobox.resolution.x))
    cells = _sums(maps, max(1, round(_CELL_M / pixel_m)))
    found = sorted(_grow_all(cells, pixel_m, most), key=lambda s: -float(cells.wrong_km2[s].sum()))
    rows = [_describe(number, spot, cells, maps) for number, spot in enumerate(found, 1)]
    columns = ["spot", "area_km2", "wrong_km2", "error", "class_key", "other_key", "geometry"]
    table = {name: [row[name] for row in rows] for name in columns}
    return gpd.GeoDataFrame(table, geometry="geometry", crs=map_crs_of(maps.geobox).proj)


def _sums(maps: SceneMaps, side: int) -> _Cells:
    """Sum the expected error over cells of `side` x `side` pixels, in strips of one row of cells."""
    rows, cols = maps.classes.shape
    shape = (-(-rows // side), -(-cols // side))
    pixels, errors = np.zeros(shape), np.zeros(shape)
    starts = np.arange(0, cols, side)
    for i in range(shape[0]):
        strip = slice(i * side, min((i + 1) * side, rows))
        stored = maps.probabilities[:, strip]
        best = np.where(stored == NO_VALUE, 0, stored).max(axis=0)
        valid = maps.classes[strip] != NO_VALUE
        wrong = np.where(valid, 1 - best * STEP, 0.0)
        pixels[i] = np.add.reduceat(valid.sum(axis=0, dtype=np.int64), starts)
        errors[i] = np.add.reduceat(wrong.sum(axis=0, dtype=np.float64), starts)
    middles = np.meshgrid(*((np.arange(n) + 0.5) * side for n in shape), indexing="ij")
    return _Cells(pixels, errors, true_pixel_km2(maps.geobox, *middles), side)


def _grow_all(cells: _Cells, pixel_m: float, most: int) -> Iterator[tuple[NDArray[np.intp], ...]]:
    """Yield spots as (rows, cols) of their cells, each where the sum of the remaining errors is largest."""
    cell_m = cells.side_px * pixel_m
    mean, area = cells.mean, cells.area_km2
    whole = float(cells.errors.sum() / max(cells.pixels.sum(), 1))
    free = cells.pixels > 0.5 * cells.side_px**2
    for _ in range(most):
        near = _disc_sums(np.where(free, mean * area, 0.0), _NEAR_M / cell_m)
        near[~free] = -1
        if near.max(initial=-1) <= 0:
            return
        seed = np.unravel_index(int(near.argmax()), near.shape)
        spot = _grow((int(seed[0]), int(seed[1])), mean, area, free, _FAR_M / cell_m)
        at = tuple(np.array(sorted(spot), np.intp).T)
        enough = area[at].sum() >= AREA_KM2[0]
        if enough and cells.errors[at].sum() / cells.pixels[at].sum() < _WORTH * whole:
            return  # the remaining places have a smaller sum
        if enough:
            yield at
        free[at] = False


def _disc_sums(values: Floats, radius: float) -> Floats:
    """Return for each cell the sum of values within `radius` cells."""
    reach = max(1, math.ceil(radius))
    down, across = np.mgrid[-reach : reach + 1, -reach : reach + 1]
    disc = (down**2 + across**2 <= max(radius, 1) ** 2).astype(np.float64)
    return np.asarray(cv2.filter2D(values, -1, disc, borderType=cv2.BORDER_CONSTANT))


def _grow(
    seed: tuple[int, int], mean: Floats, area: Floats, free: NDArray[np.bool_], reach: float
) -> set[tuple[int, int]]:
    """Add neighbours to a cell, those with the largest error first, until the spot is full or their error is low."""
    spot: set[tuple[int, int]] = set()
    waiting = [(-mean[seed], seed)]
    seen, total, wrong = {seed}, 0.0, 0.0
    while waiting:
        error, cell = heapq.heappop(waiting)
        if total >= AREA_KM2[0] and (-error < _JOINS * wrong / total or total + area[cell] > AREA_KM2[1]):
            break
        spot.add(cell)
        total, wrong = total + area[cell], wrong - error * area[cell]
        for row, col in ((-1, 0), (1, 0), (0, -1), (0, 1)):
            other = (cell[0] + row, cell[1] + col)
            inside = 0 <= other[0] < mean.shape[0] and 0 <= other[1] < mean.shape[1]
            if inside and other not in seen and free[other] and math.dist(other, seed) <= reach:
                seen.add(other)
                heapq.heappush(waiting, (-mean[other], other))
    return spot


def _describe(number: int, spot: tuple[NDArray[np.intp], ...], cells: _Cells, maps: SceneMaps) -> dict[str, object]:
    side = cells.side_px
    shares = np.zeros(len(maps.legend))
    for row, col in zip(*spot, strict=True):
        stored = maps.probabilities[:, row * side : (row + 1) * side, col * side : (col + 1) * side]
        shares += np.where(stored == NO_VALUE, 0, stored).sum(axis=(1, 2), dtype=np.float64)
    first, second = np.argsort(-shares, kind="stable")[:2]
    area, wrong = cells.area_km2[spot].sum(), cells.wrong_km2[spot].sum()
    return {
        "spot": number,
        "area_km2": float(area),
        "wrong_km2": float(wrong),
        "error": float(wrong / area),
        "class_key": maps.legend.classes[int(first)].key,
        "other_key": maps.legend.classes[int(second)].key,
        "geometry": _outline(spot, side, maps.geobox),
    }


def _outline(spot: tuple[NDArray[np.intp], ...], side: int, geobox: GeoBox) -> shapely.Geometry:
    """Return the outline of cells in the grid's CRS."""
    rows, cols = geobox.shape
    boxes = [
        shapely.box(col * side, row * side, min((col + 1) * side, cols), min((row + 1) * side, rows))
        for row, col in zip(*spot, strict=True)
    ]
    a = geobox.affine
    outline = shapely.transform(shapely.union_all(boxes), lambda xy: np.column_stack(a * xy.T))
    return shapely.orient_polygons(outline)
