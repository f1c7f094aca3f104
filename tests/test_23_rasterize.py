"""Polygons to pixels: centres decide, the smaller is on top, windows and file order change nothing."""

from __future__ import annotations

import dataclasses
import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pyproj
import pytest
import shapely
from affine import Affine
from chart_maker import BOTTOM, FOUR, LEFT, POLAR, SIDE_M, grid, ice, squares, write_chart
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox

from floemap.errors import ChartError, GridError
from floemap.icechart.dominant_type import class_ids, ice_types
from floemap.icechart.label.borders import MAX_DISTANCE_PX, border_distance_px
from floemap.icechart.label.rasterize import (
    border_distance,
    look_up,
    rasterize_labels,
    rasterize_polygons,
)
from floemap.icechart.read.overlaps import measure_coverage
from floemap.icechart.read.sigrid3 import Chart, read_chart
from floemap.icechart.reproject import project
from floemap.legend import IGNORE, SIX_CLASSES

PIXEL_M = 1000.0
STAGE_CYCLE = ("81", "82", "84", "86", "95")


def cells(seed: int, count: int = 30) -> list[Any]:
    """Cells of random points that cover the test grid."""
    rng = np.random.default_rng(seed)
    box = shapely.box(LEFT, BOTTOM, LEFT + 4 * SIDE_M, BOTTOM + SIDE_M)
    points = shapely.multipoints(rng.uniform([LEFT, BOTTOM], [LEFT + 4 * SIDE_M, BOTTOM + SIDE_M], (count, 2)))
    parts = shapely.get_parts(shapely.voronoi_polygons(points, extend_to=box.buffer(SIDE_M)))
    return list(parts)


def centres(geobox: GeoBox) -> NDArray[Any]:
    """Pixel centres as points, (rows x cols,)."""
    rows, cols = geobox.shape
    col, row = np.meshgrid(np.arange(cols) + 0.5, np.arange(rows) + 0.5)
    x, y = geobox.transform * (col.ravel(), row.ravel())
    return np.asarray(shapely.points(x, y))


def chart_of(path: Path, geometries: list[Any], rows: Any = None, crs: str = POLAR) -> Chart:
    rows = rows or [ice(SA=STAGE_CYCLE[i % len(STAGE_CYCLE)]) for i in range(len(geometries))]
    return read_chart(write_chart(path / "c.gpkg", rows, geometries, crs=crs))


@pytest.mark.parametrize("seed", range(3))
def test_a_pixel_belongs_to_the_polygon_that_holds_its_centre(tmp_path: Path, seed: int) -> None:
    geometries = cells(seed)
    numbers = rasterize_polygons(chart_of(tmp_path, geometries), grid())
    points = centres(grid())
    point, polygon = shapely.STRtree(geometries).query(points, predicate="within")
    assert len(point) == len(points)
    expected = np.zeros(len(points), np.int64)
    expected[point] = polygon + 1
    assert (numbers.ravel() == expected).all()


def test_the_same_on_another_projection(tmp_path: Path) -> None:
    lcc = "+proj=lcc +lat_0=40 +lon_0=-20 +lat_1=49 +lat_2=77 +datum=WGS84 +units=m"
    geometries = cells(7)
    elsewhere = project(np.array(geometries), pyproj.CRS(POLAR), pyproj.CRS(lcc), 0.1)
    chart = chart_of(tmp_path, list(elsewhere), crs=lcc)
    numbers = rasterize_polygons(chart, grid())
    here = rasterize_polygons(chart_of(tmp_path / "here", geometries), grid())
    # Edges may be off by a fiftieth of a pixel, so only pixels right at a border may differ.
    differ = numbers != here
    assert differ.mean() < 0.02
    lines = shapely.union_all(shapely.boundary(geometries))
    shapely.prepare(lines)
    assert (shapely.distance(lines, centres(grid())[differ.ravel()]) < 0.03 * PIXEL_M).all()


def test_overlaps_go_to_the_smaller_whatever_the_order(tmp_path: Path) -> None:
    large = shapely.box(LEFT, BOTTOM, LEFT + 4 * SIDE_M, BOTTOM + SIDE_M)
    middle = shapely.box(LEFT + 1e4, BOTTOM + 1e4, LEFT + 1e5, BOTTOM + 5e4)
    small = shapely.box(LEFT + 5e4, BOTTOM + 2e4, LEFT + 2e5, BOTTOM + 3e4)
    twin = shapely.box(LEFT + 5e4, BOTTOM + 4e4, LEFT + 2e5, BOTTOM + 5e4)
    geometries = [large, middle, small, twin, small]
    rows = [ice(SA=s) for s in ("95", "86", "81", "84", "82")]
    first = None
    for order in ([0, 1, 2, 3, 4], [4, 3, 2, 1, 0], [2, 0, 4, 1, 3]):
        chart = chart_of(tmp_path / str(order), [geometries[i] for i in order], [rows[i] for i in order])
        labels = rasterize_labels(chart, grid(), SIX_CLASSES)
        first = labels if first is None else first
        assert (labels == first).all()
        coverage = measure_coverage(chart.geometries)
        assert coverage.area_m2 == pytest.approx(large.area)
        assert coverage.overlap_m2 == pytest.approx(sum(shapely.area(geometries)) - large.area)
        # The large one with four, the middle one with three, the two small ones with each other.
        assert coverage.overlapping_pairs == 8
        assert coverage.gaps == 0
    points = centres(grid())
    assert (first.ravel()[shapely.within(points, twin)] == 2).all()
    only_middle = shapely.within(points, middle) & ~shapely.within(points, small) & ~shapely.within(points, twin)
    assert (first.ravel()[only_middle] == 3).all()


def test_centres_on_a_border_belong_to_one_side_always_the_same(tmp_path: Path) -> None:
    # Borders run through pixel centres: every second pixel's column and row.
    edge = np.arange(0.5, 40, 8) * PIXEL_M
    boxes = [
        shapely.box(LEFT + x0, BOTTOM + y0, LEFT + x1, BOTTOM + y1)
        for x0, x1 in itertools.pairwise(edge)
        for y0, y1 in itertools.pairwise(edge)
    ]
    rows = [ice(SA=STAGE_CYCLE[i % 5]) for i in range(len(boxes))]
    geobox = grid(64, 64)
    labels = rasterize_labels(chart_of(tmp_path / "a", boxes, rows), geobox, SIX_CLASSES)
    turned = rasterize_labels(chart_of(tmp_path / "b", boxes[::-1], rows[::-1]), geobox, SIX_CLASSES)
    mirrored = [shapely.reverse(b) for b in boxes]
    again = rasterize_labels(chart_of(tmp_path / "c", mirrored, rows), geobox, SIX_CLASSES)
    assert (labels == turned).all()
    assert (labels == again).all()
    inside = labels != IGNORE
    assert inside.sum() in range(32**2, 33**2 + 1)
    assert inside[31:62, 1:32].all()


def test_a_window_of_the_grid_gives_a_window_of_the_labels(tmp_path: Path) -> None:
    chart = chart_of(tmp_path, [*cells(5), shapely.Point(LEFT + 1e5, BOTTOM + 3e4).buffer(2e4)])
    window = np.s_[10:50, 70:200]
    whole, part = grid(), grid()[window]
    assert (rasterize_polygons(chart, whole)[window] == rasterize_polygons(chart, part)).all()
    np.testing.assert_array_equal(border_distance(chart, whole)[window], border_distance(chart, part))


def test_land_outside_and_masked_pixels_have_no_label(tmp_path: Path) -> None:
    chart = chart_of(tmp_path, squares(4), FOUR)
    geobox = grid(80, 300, top=BOTTOM + SIDE_M + 8000, left=LEFT - 8000)
    valid = np.ones(geobox.shape, bool)
    valid[:20] = False
    labels = rasterize_labels(chart, geobox, SIX_CLASSES, valid=valid)
    assert labels.dtype == np.uint8
    expected = np.full(geobox.shape, IGNORE, np.uint8)
    for i, label in enumerate((4, 3, 0, IGNORE)):
        expected[8:72, 8 + 64 * i : 72 + 64 * i] = label
    expected[:20] = IGNORE
    assert (labels == expected).all()
    with pytest.raises(GridError, match="does not fit"):
        rasterize_labels(chart, geobox, SIX_CLASSES, valid=valid[1:])


def test_a_chart_elsewhere_is_refused_with_both_places(tmp_path: Path) -> None:
    chart = chart_of(tmp_path, squares(4), FOUR)
    with pytest.raises(ChartError, match=r"does not overlap the grid.*degrees east.*north.*chart of this scene") as e:
        rasterize_polygons(chart, grid(left=LEFT + 2e6))
    assert e.value.path == chart.path
    # Near, but between pixel centres.
    sliver = shapely.box(LEFT + 100, BOTTOM, LEFT + 200, BOTTOM + SIDE_M)
    with pytest.raises(ChartError, match="holds no pixel centre of the grid"):
        rasterize_polygons(chart_of(tmp_path / "b", [sliver]), grid())


@pytest.mark.parametrize("crs", ["EPSG:4326", "EPSG:2225"])
def test_a_grid_without_metres_is_refused(tmp_path: Path, crs: str) -> None:
    geobox = GeoBox((10, 10), Affine(0.1, 0, -20, 0, -0.1, 75), crs)
    with pytest.raises(GridError, match="A grid in a map projection in metres is needed"):
        rasterize_polygons(chart_of(tmp_path, squares(4), FOUR), geobox)


def test_many_polygons_do_not_run_out_of_numbers(tmp_path: Path) -> None:
    side = 257
    n = side * side
    x, y = np.divmod(np.arange(n), side)
    boxes = shapely.box(LEFT + x * 1e3, BOTTOM + y * 1e3, LEFT + (x + 1) * 1e3, BOTTOM + (y + 1) * 1e3)
    chart = chart_of(tmp_path, squares(1))
    many = chart.polygons.iloc[np.zeros(n, int)].set_geometry(boxes, crs=POLAR)
    numbers = rasterize_polygons(dataclasses.replace(chart, polygons=many), grid(side, side, top=BOTTOM + side * 1e3))
    assert n > 65_535
    expected = np.arange(1, n + 1).reshape(side, side).T[::-1]
    assert (numbers == expected).all()


@pytest.mark.parametrize("seed", range(3))
def test_distance_to_borders(tmp_path: Path, seed: int) -> None:
    geometries = cells(seed, 8)
    distance = border_distance(chart_of(tmp_path, geometries), grid())
    assert distance.dtype == np.float32
    lines = shapely.union_all(shapely.boundary(geometries))
    shapely.prepare(lines)
    exact = shapely.distance(lines, centres(grid())).reshape(distance.shape) / PIXEL_M
    error = (distance - np.minimum(exact, MAX_DISTANCE_PX))[exact < MAX_DISTANCE_PX]
    assert error.min() >= -0.51
    assert error.max() <= 0.9
    assert np.percentile(np.abs(error), 99) <= 0.51
    assert distance.max() <= MAX_DISTANCE_PX
    # A step to the next pixel changes a distance by a step at most.
    assert np.abs(np.diff(distance, axis=0)).max() <= 1 + 1e-4


def test_without_borders_distance_is_the_cap() -> None:
    assert (border_distance_px(np.ones((20, 30), np.uint16)) == MAX_DISTANCE_PX).all()


def test_gaps_and_overlaps_are_measured() -> None:
    frame = shapely.box(0, 0, 100, 100).difference(shapely.union_all([shapely.box(20, 20, 30, 30)]))
    island = shapely.box(24, 24, 26, 26)
    coverage = measure_coverage(np.array([frame, island, shapely.box(90, 0, 120, 50)]))
    assert (coverage.gaps, coverage.gap_m2) == (1, pytest.approx(96))
    assert (coverage.overlapping_pairs, coverage.overlap_m2) == (1, pytest.approx(500))
    assert coverage.area_m2 == pytest.approx(100 * 100 - 96 + 20 * 50)
    tiles = np.array([shapely.box(i, j, i + 1, j + 1) for i in range(5) for j in range(5)])
    assert measure_coverage(tiles) == measure_coverage(tiles[::-1])
    assert measure_coverage(tiles).overlap_m2 == measure_coverage(tiles).gap_m2 == 0


def test_look_up_gives_each_polygon_its_value() -> None:
    numbers = np.array([[0, 1], [2, 2]], np.uint16)
    assert look_up(numbers, np.array([7, 8], np.uint8), 9).tolist() == [[9, 7], [8, 8]]
    colours = look_up(numbers, np.array([[1, 2, 3], [4, 5, 6]], np.uint8), (0, 0, 0))
    assert colours.shape == (2, 2, 3)
    assert colours[1, 0].tolist() == [4, 5, 6]


REAL = Path(__file__).resolve().parents[2] / "shared" / "data" / "charts" / "cis_SGRDREA_20201102T.gpkg"


@pytest.mark.skipif(not REAL.exists(), reason="no real chart here")
def test_areas_of_the_real_chart_agree_within_a_thousandth() -> None:
    chart = read_chart(REAL)
    pixel_m = 800
    polygons = project(chart.geometries, chart.crs, pyproj.CRS(POLAR), 1.0)
    box = GeoBox.from_bbox(shapely.total_bounds(polygons).tolist(), POLAR, resolution=pixel_m)
    labels = rasterize_labels(chart, box, SIX_CLASSES)
    ids = class_ids(ice_types(chart), SIX_CLASSES)
    areas = shapely.area(polygons)
    present = [c.id for c in SIX_CLASSES.classes if (ids == c.id).any()]
    assert present == [0, 2, 3, 4, 5]
    for label in present:
        drawn_m2 = np.count_nonzero(labels == label) * pixel_m**2
        assert drawn_m2 == pytest.approx(areas[ids == label].sum(), rel=1e-3)


def test_a_chart_elsewhere_is_said_to_be_where_it_is(tmp_path: Path) -> None:
    """Its longitudes are those of its westernmost and its easternmost corner, also across the date line."""
    for west, east in ((10.0, 15.0), (178.0, -177.0)):
        box = shapely.box(west, 70, east if east > west else east + 360, 75)
        chart = chart_of(tmp_path / f"{west}", [box], crs="EPSG:4326")
        with pytest.raises(ChartError, match=rf"from {west} to {east} degrees east and 70.0 to 75.0 north"):
            rasterize_polygons(chart, grid(left=LEFT + 5e6))
