"""From class rasters to polygons: exact at tolerance 0, a coverage always, nothing below the minimum area."""

from __future__ import annotations

import dataclasses
import logging
from collections import Counter
from typing import Any

import numpy as np
import pyproj
import pytest
import scipy.ndimage
import shapely
from affine import Affine
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as st_numpy
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox
from rasterio.features import rasterize

from floemap.errors import ChartError, ConfigError, FloemapError, GridError
from floemap.icechart.draw import majority_filter as smoothing
from floemap.icechart.draw.majority_filter import smooth_classes
from floemap.icechart.draw.polygonize import ChartPolygons, vectorize
from floemap.icechart.draw.region_borders import pad, trace_borders
from floemap.icechart.draw.region_polygons import CLASS_AREA_CHANGE, _contacts, draw_outlines
from floemap.icechart.draw.regions import contacts, find_regions, merge_small
from floemap.legend import ICE_WATER, IGNORE, LAND, SIX_CLASSES

Classes = NDArray[np.uint8]
PIXEL_M = 100.0
PIXEL_KM2 = PIXEL_M**2 / 1e6
X = IGNORE


def grid(shape: tuple[int, int], crs: str = "EPSG:6931", left: float = 0.0, top: float = 400_000.0) -> GeoBox:
    """A grid of 100 m; the default is an equal-area map."""
    return GeoBox(shape, Affine(PIXEL_M, 0, left, 0, -PIXEL_M, top), crs)


def draw(classes: Classes, *, min_px: float = 0, tolerance_px: float = 0, **options: Any) -> ChartPolygons:
    options = {"min_area_km2": min_px * PIXEL_KM2, "tolerance_m": tolerance_px * PIXEL_M} | options
    return vectorize(classes, grid(classes.shape), SIX_CLASSES, **options)


def burn(chart: ChartPolygons) -> Classes:
    shape = chart.classes.shape
    pairs = zip(chart.polygons.geometry, chart.polygons["class_id"].tolist(), strict=True)
    return np.asarray(rasterize(pairs, shape, fill=IGNORE, transform=grid(shape).transform, dtype="uint8"))


def components(classes: Classes) -> list[tuple[int, NDArray[np.bool_]]]:
    """Connected regions with a class, the slow way."""
    found = []
    for k in np.unique(classes[classes != IGNORE]):
        label, count = scipy.ndimage.label(classes == k)
        found += [(int(k), label == i + 1) for i in range(count)]
    return found


def check_coverage(chart: ChartPolygons) -> None:
    shapes = np.asarray(chart.polygons.geometry)
    assert shapely.is_valid(shapes).all()
    assert shapely.coverage_is_valid(shapes)
    # With no overlap, the parts sum to the whole.
    assert shapely.area(shapes).sum() == pytest.approx(shapely.union_all(shapes).area, rel=1e-9)
    assert set(shapely.get_type_id(shapes)) == {3}


def areas(chart: ChartPolygons) -> NDArray[np.float64]:
    """In pixels, by class."""
    sizes = shapely.area(np.asarray(chart.polygons.geometry)) / PIXEL_M**2
    return np.bincount(chart.polygons["class_id"], sizes, minlength=6).astype(float)


def blobs(seed: int, side: int = 60, scale: float = 3.0, classes: int = 4, holes: bool = True) -> Classes:
    """Smooth regions with some pixels that stand alone, and an irregular edge of no data."""
    rng = np.random.default_rng(seed)
    fields: NDArray[Any] = scipy.ndimage.gaussian_filter(rng.normal(size=(classes, side, side)), (0, scale, scale))
    out = fields.argmax(axis=0).astype(np.uint8)
    out[rng.random(out.shape) < 0.01] = 5
    if holes:
        out[scipy.ndimage.gaussian_filter(rng.normal(size=out.shape), scale) > 0.6 / scale / 3] = IGNORE
    return out


small_rasters = st_numpy.arrays(
    np.uint8, st.tuples(st.integers(1, 9), st.integers(1, 9)), elements=st.sampled_from([0, 1, 2, IGNORE])
).filter(lambda a: (a != IGNORE).any())

SHAPES = {
    "one class": np.zeros((4, 5)),
    "one pixel": np.array([[3]]),
    "one pixel in no data": np.array([[X, X, X], [X, 2, X], [X, X, X]]),
    "an island of one pixel": np.array([[0, 0, 0], [0, 1, 0], [0, 0, 0]]),
    "a hole of no data": np.array([[0, 0, 0], [0, X, 0], [0, 0, 0]]),
    "an island in an island": np.pad(np.pad(np.array([[2]]), 1, constant_values=1), 1),
    "a board of squares": np.indices((5, 5)).sum(axis=0) % 2,
    "a board on no data": np.where(np.indices((5, 5)).sum(axis=0) % 2, 1, X),
    "two holes that touch": np.array([[0, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 0]]),
    "a ring closed at a corner": np.array([[0, 0, 0, 1], [0, 1, 0, 1], [0, 0, 1, 1], [1, 1, 1, 1]]),
    "stripes": np.array([[0, 1, 0, 1, 2]]),
    "across no data": np.array([[0, 0, X, 0, 0], [1, 0, X, X, 0], [1, 1, X, 1, 1]]),
}


@pytest.mark.parametrize("name", SHAPES)
@pytest.mark.parametrize("tolerance_px", [0, 1.5])
def test_odd_shapes(name: str, tolerance_px: float) -> None:
    classes = SHAPES[name].astype(np.uint8)
    chart = draw(classes, tolerance_px=tolerance_px)
    check_coverage(chart)
    assert len(chart) == len(components(classes))
    np.testing.assert_array_equal(chart.classes, classes)
    if tolerance_px == 0:
        np.testing.assert_array_equal(burn(chart), classes)


@given(small_rasters)
@settings(max_examples=80, deadline=None)
def test_without_tolerance_polygons_are_the_regions(classes: Classes) -> None:
    chart = draw(classes)
    check_coverage(chart)
    np.testing.assert_array_equal(burn(chart), classes)
    np.testing.assert_allclose(areas(chart), np.bincount(classes[classes != IGNORE], minlength=6))
    np.testing.assert_allclose(chart.polygons["area_km2"].sum(), (classes != IGNORE).sum() * PIXEL_KM2, rtol=1e-4)
    assert len(chart) == len(components(classes))


@given(small_rasters, st.floats(0.3, 5))
@settings(max_examples=80, deadline=None)
def test_simplified_noise_is_a_coverage_and_keeps_areas(classes: Classes, tolerance_px: float) -> None:
    """Borders of single pixels collide wherever they can: what is drawn is right all the same."""
    chart = draw(classes, tolerance_px=tolerance_px)
    check_coverage(chart)
    assert len(chart) == len(components(classes))
    np.testing.assert_allclose(areas(chart), np.bincount(classes[classes != IGNORE], minlength=6), rtol=0.005)


@given(st.integers(0, 10**6), st.sampled_from([0.5, 1.0, 1.5, 3.0, 8.0]))
@settings(max_examples=15, deadline=None)
def test_borders_stay_within_the_tolerance(seed: int, tolerance_px: float) -> None:
    classes = blobs(seed)
    exact, chart = draw(classes), draw(classes, tolerance_px=tolerance_px)
    check_coverage(chart)
    np.testing.assert_allclose(areas(chart), areas(exact), rtol=0.005)
    assert np.abs(areas(chart) / np.maximum(areas(exact), 1) - 1)[areas(exact) > 0].max() <= CLASS_AREA_CHANGE + 1e-9
    before = shapely.union_all(exact.polygons.boundary)
    after = shapely.union_all(shapely.segmentize(np.asarray(chart.polygons.boundary), PIXEL_M / 4))
    shapely.prepare(before)
    points = shapely.points(np.unique(shapely.get_coordinates(after), axis=0))
    assert shapely.distance(points, before).max() <= tolerance_px * PIXEL_M * (1 + 1e-9)
    # And so, burned again, pixels keep their class where no border is within the tolerance.
    row, col = np.nonzero(burn(chart) != classes)
    middles = shapely.points(*(grid(classes.shape).transform * (col + 0.5, row + 0.5)))
    assert (shapely.distance(middles, before) <= tolerance_px * PIXEL_M * (1 + 1e-9)).all()


def test_a_tolerance_saves_vertices_and_straightens() -> None:
    rows, cols = np.mgrid[0:400, 0:400]
    classes = (3 * rows + 7 * cols > 2000).astype(np.uint8)
    vertices = [draw(classes, tolerance_px=t).report.vertices for t in (0, 1.5)]
    assert vertices[0] > 600
    # Two sides of one line, and the four corners.
    assert vertices[1] < 20


def test_colliding_borders_are_drawn_closer() -> None:
    classes = blobs(1, scale=1.0, holes=False)
    chart = draw(classes, tolerance_px=6)
    assert chart.report.redrawn_borders > 0
    check_coverage(chart)


def test_a_large_tolerance_does_not_lose_a_lake() -> None:
    """A border that would pass over a small region is held back."""
    classes = np.zeros((40, 40), np.uint8)
    rows, cols = np.mgrid[0:40, 0:40]
    classes[rows > 20 + 6 * np.sin(cols / 6.3)] = 1
    classes[25, 5], classes[16, 28] = 2, 3
    chart = draw(classes, tolerance_px=9)
    check_coverage(chart)
    sizes = areas(chart)
    assert sizes[2] == pytest.approx(1, rel=0.005)
    assert sizes[3] == pytest.approx(1, rel=0.005)


@pytest.mark.parametrize("turn", range(4))
@pytest.mark.parametrize("mirrored", [False, True])
def test_turned_rasters_give_turned_polygons(turn: int, mirrored: bool) -> None:
    classes = blobs(4, side=30)
    other = np.rot90(classes[:, ::-1] if mirrored else classes, turn)
    # Where the corners of the turned raster's pixels lie in the first one.
    row, col = (np.rot90(a[:, ::-1] if mirrored else a, turn) for a in np.mgrid[0:30, 0:30])
    down, right = (row[1, 0] - row[0, 0], col[1, 0] - col[0, 0]), (row[0, 1] - row[0, 0], col[0, 1] - col[0, 0])
    first_col = col[0, 0] + 0.5 - (down[1] + right[1]) / 2
    first_row = row[0, 0] + 0.5 - (down[0] + right[0]) / 2
    back = Affine(int(right[1]), int(down[1]), first_col, int(right[0]), int(down[0]), first_row)
    box = GeoBox(other.shape, grid(classes.shape).transform * back, "EPSG:6931")
    one = draw(classes).polygons
    two = vectorize(np.ascontiguousarray(other), box, SIX_CLASSES, min_area_km2=0, tolerance_m=0).polygons
    first, second = (
        sorted(shapely.set_precision(np.asarray(c.geometry), 0.01), key=lambda g: (g.area, g.point_on_surface().wkt))
        for c in (one, two)
    )
    assert len(first) == len(second) > 10
    assert shapely.equals(first, second).all()


@given(st.integers(0, 10**6), st.sampled_from([5, 12, 40]), st.sampled_from([0, 1.5, 4]))
@settings(max_examples=20, deadline=None)
def test_nothing_is_below_the_minimum_area(seed: int, min_px: int, tolerance_px: float) -> None:
    classes = blobs(seed, scale=1.5)
    chart = draw(classes, min_px=min_px, tolerance_px=tolerance_px)
    check_coverage(chart)
    assert chart.polygons["area_km2"].min() >= min_px * PIXEL_KM2
    # On this map, areas are true to 1e-5.
    assert shapely.area(np.asarray(chart.polygons.geometry)).min() >= min_px * PIXEL_M**2 * (1 - 1e-4)
    if tolerance_px == 0:
        np.testing.assert_array_equal(burn(chart), chart.classes)
        for k, region in components(classes):
            if region.sum() > min_px:  # what is large enough stays as it is
                assert (chart.classes[region] == k).all()
    lost = (chart.classes == IGNORE) & (classes != IGNORE)
    assert chart.report.left_out_px == lost.sum()
    # Only what no large region is connected with may be left out: whole islands of data, smaller than the minimum.
    islands, count = scipy.ndimage.label(classes != IGNORE)
    for i in range(1, count + 1):
        assert lost[islands == i].all() or not lost[islands == i].any() or tolerance_px > 0


def test_a_small_region_goes_to_the_longest_border() -> None:
    classes = np.zeros((8, 8), np.uint8)
    classes[:, 4:] = 1
    classes[2:4, 2:4] = 2  # has 6 sides with class 0, 2 with class 1
    assert (draw(classes, min_px=5).classes == np.where(classes == 2, 0, classes)).all()
    classes[2:4, 2:4] = 0
    classes[2:4, 4:6] = 2
    assert (draw(classes, min_px=5).classes == np.where(classes == 2, 1, classes)).all()


def test_small_regiones_that_grow_together_stay() -> None:
    """Two of one class with a smaller third between them: the third joins them, and they are large enough."""
    classes = np.zeros((9, 9), np.uint8)
    classes[3:6, 1:4], classes[3:6, 5:8], classes[3:6, 4] = 1, 1, 2
    merged = draw(classes, min_px=15)
    assert (merged.classes[3:6, 1:8] == 1).all()
    assert (merged.report.patches, merged.report.merged_patches, merged.report.merged_px) == (4, 1, 3)
    assert (draw(classes, min_px=25).classes == 0).all()


def test_islands_below_the_minimum_are_left_out_and_told(caplog: pytest.LogCaptureFixture) -> None:
    classes = np.full((10, 12), IGNORE, np.uint8)
    classes[:, :6], classes[2:4, 8:10] = 1, 2
    with caplog.at_level(logging.INFO, logger="floemap"):
        chart = draw(classes, min_px=10)
    assert chart.report.left_out_px == 4
    assert "4 pixels" in caplog.text
    assert chart.report.class_px["young_ice"] == 4
    assert chart.report.drawn_px["young_ice"] == 0
    np.testing.assert_array_equal(burn(chart), np.where(classes == 2, IGNORE, classes))


def test_merging_depends_on_areas_not_on_numbers() -> None:
    """Giving classes other ids changes nothing but the ids."""
    classes = blobs(7, scale=1.2)
    swap = np.arange(256, dtype=np.uint8)
    swap[[0, 1, 2, 3, 5]] = [3, 2, 5, 0, 1]
    first = find_regions(classes)
    area = np.bincount(first.of_run, first.run_length).astype(float)
    one = first.painted(*_groups(merge_small(first.classes, area, contacts(first), 30)))
    second = find_regions(swap[classes])
    two = second.painted(*_groups(merge_small(second.classes, area, contacts(second), 30)))
    np.testing.assert_array_equal(swap[one], two)


def _groups(merged: Any) -> tuple[Any, Any]:
    return merged.group, merged.classes


def test_regions_and_contacts_against_the_slow_way() -> None:
    classes = blobs(3, side=25, scale=1.0)
    regions = find_regions(classes)
    number = np.repeat(regions.of_run, regions.run_length).reshape(classes.shape)
    masks = components(classes)
    assert int((regions.classes != IGNORE).sum()) == len(masks)
    for k, mask in masks:
        (n,) = np.unique(number[mask])
        assert regions.classes[n] == k
        assert (number == n).sum() == mask.sum()
    expected: dict[tuple[int, int], int] = {}
    for one, other in ((number[:, 1:], number[:, :-1]), (number[1:], number[:-1])):
        for a, b in zip(one.ravel().tolist(), other.ravel().tolist(), strict=True):
            if a != b and IGNORE not in (regions.classes[a], regions.classes[b]):
                expected[min(a, b), max(a, b)] = expected.get((min(a, b), max(a, b)), 0) + 1
    met = contacts(regions)
    found = zip(met.first.tolist(), met.second.tolist(), met.length_px.tolist(), strict=True)
    assert {(a, b): n for a, b, n in found} == expected


def test_common_borders_of_outlines_have_the_lengths_of_the_pixels_sides() -> None:
    """Borders between regions are traced as runs of sides; a region that gets too small follows the longest of them."""
    classes = pad(blobs(3, side=25, scale=1.0))
    regions = find_regions(classes)
    met = _contacts(trace_borders(regions))
    face = np.repeat(regions.number[regions.of_run], regions.run_length).reshape(classes.shape)
    expected: Counter[tuple[int, int]] = Counter()
    for one, other in ((face[:, 1:], face[:, :-1]), (face[1:], face[:-1])):
        expected.update(
            (min(a, b), max(a, b)) for a, b in zip(one.ravel().tolist(), other.ravel().tolist(), strict=True)
        )
    expected = Counter({pair: sides for pair, sides in expected.items() if 0 <= pair[0] < pair[1]})
    assert Counter(dict(zip(zip(met.first, met.second, strict=True), met.length_px, strict=True))) == expected


def test_areas_are_true_on_a_map_that_stretches() -> None:
    """Polar stereographic at 80 degrees north is 4 % off; UTM away from its meridian is off the other way."""
    classes = blobs(5, side=80, holes=False)
    for crs, left, top in (("EPSG:3413", 600_000.0, -900_000.0), ("EPSG:32633", 150_000.0, 8_000_000.0)):
        box = GeoBox(classes.shape, Affine(1000, 0, left, 0, -1000, top), crs)
        chart = vectorize(classes, box, SIX_CLASSES, min_area_km2=20, tolerance_m=1500).polygons
        lonlat = shapely.segmentize(np.asarray(chart.geometry), 500.0)
        to_geo = pyproj.Transformer.from_crs(crs, "EPSG:4326", always_xy=True)

        def degrees(xy: NDArray[Any], to_geo: pyproj.Transformer = to_geo) -> NDArray[Any]:
            return np.column_stack(to_geo.transform(*xy.T))

        lonlat = shapely.transform(lonlat, degrees)
        geod = pyproj.Geod(ellps="WGS84")
        true = np.array([abs(geod.geometry_area_perimeter(g)[0]) for g in lonlat]) / 1e6
        np.testing.assert_allclose(chart["area_km2"], true, rtol=2e-4)
        assert abs(shapely.area(np.asarray(chart.geometry)).sum() / 1e6 / true.sum() - 1) > 0.001


def test_confidence_is_the_mean_probability_under_the_polygon() -> None:
    classes = blobs(6)
    rng = np.random.default_rng(0)
    p = rng.dirichlet(np.ones(6), classes.shape).transpose(2, 0, 1)
    p[:, 10:14, 10:30] = np.nan
    bands = np.where(np.isnan(p), 255, np.rint(p * 200)).astype(np.uint8)
    p = np.where(bands == 255, np.nan, bands / 200)
    chart = draw(classes, min_px=6, tolerance_px=1, probabilities=iter(bands), probability_step=1 / 200)
    rows = chart.polygons
    for k, mask in components(chart.classes):
        mean = np.nanmean(p[:, mask], axis=1) if np.isfinite(p[0][mask]).any() else np.full(6, np.nan)
        match = rows[(rows["class_id"] == k) & np.isclose(rows["confidence"], mean[k], atol=1e-6)]
        if np.isnan(mean[k]):
            continue
        assert len(match) >= 1, (k, mean[k])
        others = np.where(np.arange(6) == k, 0, mean)
        assert match["second_id"].iloc[0] == others.argmax()
        assert match["second_key"].iloc[0] == SIX_CLASSES.classes[int(others.argmax())].key
        assert match["second_share"].iloc[0] == pytest.approx(others.max(), abs=1e-6)
    wrong = (rows["area_km2"] * (1 - rows["confidence"].fillna(0))).to_numpy()
    assert sorted(rows["review_rank"]) == list(range(1, len(rows) + 1))
    assert (np.diff(wrong[np.argsort(rows["review_rank"])]) <= 0).all()


def test_the_out_of_distribution_score_is_the_mean_under_the_polygon() -> None:
    classes = blobs(6)
    steps = np.random.default_rng(0).integers(0, 250, classes.shape).astype(np.uint8)
    steps[10:14, 10:30] = 255
    rows = draw(classes, min_px=6, scores=steps, score_step=0.05).polygons
    drawn = draw(classes, min_px=6)
    means = [steps[mask & (steps < 255)].mean() * 0.05 for _, mask in components(drawn.classes)]
    np.testing.assert_allclose(sorted(rows["out_of_distribution"]), sorted(means), rtol=1e-9)
    assert drawn.polygons["out_of_distribution"].isna().all()
    land = classes == classes[0, 0]
    beside = draw(classes, min_px=6, scores=steps, score_step=0.05, land=land).polygons
    assert beside.loc[beside["class_key"] == "land", "out_of_distribution"].isna().all()


def test_without_probabilities_there_is_no_confidence_and_no_second() -> None:
    classes = np.repeat(np.array([[0, 1]], np.uint8), 4, axis=1).repeat(3, axis=0)
    rows = draw(classes).polygons
    assert rows["confidence"].isna().all()
    assert set(rows["second_id"]) == {IGNORE}
    assert set(rows["second_key"]) == {""}
    assert sorted(rows["review_rank"]) == [1, 2]


def test_smoothing_does_not_depend_on_strips(monkeypatch: pytest.MonkeyPatch) -> None:
    classes = blobs(8, side=90, scale=1.5)
    once = smooth_classes(classes, 2.0)
    monkeypatch.setattr(smoothing, "STRIP_ROWS", 16)
    np.testing.assert_array_equal(smooth_classes(classes, 2.0), once)
    assert (once != classes).any()


@pytest.mark.parametrize("sigma", [0.3, 0.5, 0.75, 1.0, 2.0, 3.1])
def test_smoothing_is_the_largest_gaussian_mean(sigma: float) -> None:
    """Against scipy's Gaussian, cut off at four standard deviations, where the two best weights differ clearly."""
    classes = blobs(7)
    classes[20:40, 30:70] = IGNORE
    kinds = np.unique(classes[classes != IGNORE])
    reach = int(np.ceil(4 * sigma))
    means = [
        scipy.ndimage.gaussian_filter((classes == k).astype(float), sigma, mode="constant", radius=reach) for k in kinds
    ]
    ordered = np.sort(means, axis=0)
    clear = (classes != IGNORE) & (ordered[-1] - ordered[-2] > 1e-5)
    assert clear.mean() > 0.8 * (classes != IGNORE).mean()
    np.testing.assert_array_equal(smooth_classes(classes, sigma)[clear], kinds[np.argmax(means, axis=0)][clear])


def test_smoothing_removes_what_is_small_and_keeps_the_rest() -> None:
    classes = np.zeros((60, 60), np.uint8)
    classes[:, 30:] = 1
    straight = classes.copy()
    classes[10, 10], classes[20:22, 40] = 3, 2
    classes[50, 5] = IGNORE
    smooth = smooth_classes(classes, 1.5)
    assert smooth[50, 5] == IGNORE
    np.testing.assert_array_equal(np.where(classes == IGNORE, 0, smooth), straight)
    np.testing.assert_array_equal(smooth_classes(classes, 0), classes)
    # Down and across are alike.
    noise = blobs(9)
    np.testing.assert_array_equal(smooth_classes(np.ascontiguousarray(noise.T), 2.0).T, smooth_classes(noise, 2.0))
    chart = draw(blobs(9), smoothing_m=200)
    assert chart.report.smoothed_px == np.count_nonzero(smooth_classes(blobs(9), 2.0) != blobs(9))


def test_the_same_raster_gives_the_same_polygons() -> None:
    one, two = (draw(blobs(11), min_px=9, tolerance_px=1.5).polygons for _ in range(2))
    assert one.drop(columns="geometry").equals(two.drop(columns="geometry"))
    assert [g.wkb for g in one.geometry] == [g.wkb for g in two.geometry]


def test_progress_is_told_to_the_end() -> None:
    told: list[tuple[int, int]] = []
    draw(blobs(12), progress=lambda done, total, _: told.append((done, total)))
    assert told == sorted(told)
    assert told[-1][0] == told[-1][1]


@pytest.mark.parametrize(
    ("change", "kind", "words"),
    [
        ({"classes": np.full((4, 4), IGNORE, np.uint8)}, ChartError, "no pixel has a class"),
        ({"classes": np.full((4, 4), 6, np.uint8)}, ChartError, "class 6 is not in legend six_classes"),
        ({"classes": np.zeros((4, 5), np.uint8)}, GridError, r"\(4, 5\)"),
        ({"classes": np.zeros((4, 4), np.int16)}, GridError, "int16"),
        ({"min_area_km2": 1.0}, ChartError, "minimum area of 1 km2"),
        ({"min_area_km2": -1.0}, ConfigError, "min_area_km2 is -1.0"),
        ({"tolerance_m": float("nan")}, ConfigError, "tolerance_m is nan"),
        ({"smoothing_m": float("inf")}, ConfigError, "smoothing_m is inf"),
        ({"probabilities": np.zeros((5, 4, 4), np.uint8)}, GridError, "5 rasters"),
        ({"probabilities": np.zeros((6, 4, 3), np.uint8)}, GridError, r"\(4, 3\)"),
        ({"probabilities": np.zeros((6, 4, 4))}, GridError, "float64"),
        ({"geobox": GeoBox((4, 4), Affine(0.1, 0, 10, 0, -0.1, 80), "EPSG:4326")}, GridError, "not in metres"),
        ({"geobox": GeoBox((4, 4), Affine(1, 0, 10, 0, -1, 80), None)}, GridError, "no CRS"),
        ({"geobox": GeoBox((4, 4), Affine(100, 0, 3e7, 0, -100, 0), "EPSG:6931")}, GridError, "beyond the map"),
        ({"geobox": GeoBox((4, 4), Affine(100, 0, 0, 100, 0, 0), "EPSG:6931")}, ChartError, "not make valid polygons"),
    ],
)
def test_bad_input(change: dict[str, Any], kind: type[FloemapError], words: str) -> None:
    usual: dict[str, Any] = {
        "classes": np.zeros((4, 4), np.uint8),
        "geobox": grid((4, 4)),
        "legend": SIX_CLASSES,
        "min_area_km2": 0.0,
        "tolerance_m": 0.0,
    }
    with pytest.raises(kind, match=words):
        vectorize(**(usual | change))


def test_another_legend() -> None:
    chart = vectorize(np.array([[0, 1]], np.uint8), grid((1, 2)), ICE_WATER, min_area_km2=0, tolerance_m=0)
    assert chart.polygons["class_key"].tolist() == ["open_water", "ice"]


def test_borders_lie_between_different_regions_and_close() -> None:
    classes = pad(blobs(13, side=30, scale=1.0))
    borders = trace_borders(find_regions(classes))
    assert (borders.left != borders.right).all()
    assert (borders.head[:-1] == borders.tail[1:])[
        np.diff(np.repeat(np.arange(len(borders)), np.diff(borders.first))) == 0
    ].all()
    closed = borders.from_node < 0
    first, last = borders.first[:-1], borders.first[1:] - 1
    assert (borders.tail[first] == borders.head[last])[closed].all()
    sides = (classes[:, 1:] != classes[:, :-1]).sum() + (classes[1:] != classes[:-1]).sum()
    assert shapely.length(borders.corners()).sum() == sides
    outlines = draw_outlines(
        borders,
        np.zeros(borders.faces, np.uint8),
        Affine.identity(),
        np.ones(borders.faces),
        tolerance_px=0,
        minimum_km2=0,
    )
    assert outlines.merged.area.sum() == (classes != IGNORE).sum()


# --- land


@given(st.integers(0, 10**6), st.sampled_from([0, 12, 40]), st.sampled_from([0, 1.5, 4]))
@settings(max_examples=20, deadline=None)
def test_land_is_part_of_the_coverage_and_keeps_its_pixels(seed: int, min_px: int, tolerance_px: float) -> None:
    classes = blobs(seed, scale=1.5)
    rng = np.random.default_rng(seed)
    land = scipy.ndimage.gaussian_filter(rng.normal(size=classes.shape), 2) > 0.1
    land |= rng.random(land.shape) < 0.01  # skerries
    chart = draw(classes, min_px=min_px, tolerance_px=tolerance_px, land=land)
    check_coverage(chart)
    assert (chart.classes[land] == IGNORE).all()
    dry = chart.polygons["class_id"] == LAND
    on_map = shapely.area(np.asarray(chart.polygons.geometry[dry])).sum() / PIXEL_M**2
    assert on_map == pytest.approx(land.sum(), rel=0.005)
    if tolerance_px == 0:
        expected = np.where(land, np.uint8(LAND), chart.classes)
        np.testing.assert_array_equal(burn(chart), expected)
        alone = draw(np.where(land, np.uint8(IGNORE), classes), min_px=min_px)
        np.testing.assert_array_equal(chart.classes, alone.classes)
        assert chart.report == dataclasses.replace(alone.report, vertices=chart.report.vertices)
    # No corner of land is farther from land than the tolerance.
    there = shapely.union_all([shapely.box(x, -y - 1, x + 1, -y) for y, x in np.argwhere(land)])
    corners = (shapely.get_coordinates(chart.polygons.geometry[dry]) - [0, 400_000]) / PIXEL_M
    assert shapely.distance(shapely.points(corners), there).max() <= tolerance_px + 1e-6
    table = chart.polygons[dry]
    assert table["confidence"].isna().all() and (table["second_id"] == IGNORE).all()
    assert (table["review_rank"] == 0).all() and (table["class_key"] == "land").all()
    ranks = sorted(chart.polygons.loc[~dry, "review_rank"])
    assert ranks == list(range(1, len(ranks) + 1))


def test_a_closed_fjord_below_the_minimum_is_not_called_land() -> None:
    classes = np.zeros((40, 40), np.uint8)
    land = np.zeros_like(classes, np.bool_)
    land[:, 15:] = True
    land[18:23, 20:35] = False
    chart = draw(classes, min_px=100, tolerance_px=2, land=land)
    check_coverage(chart)
    assert chart.report.left_out_px == 75
    dry = chart.polygons[chart.polygons["class_id"] == LAND]
    assert shapely.area(np.asarray(dry.geometry)).sum() / PIXEL_M**2 == pytest.approx(land.sum(), rel=0.005)


def test_small_ice_is_not_given_to_land() -> None:
    classes = np.zeros((20, 20), np.uint8)
    classes[8:11, 12:15] = 1
    land = np.zeros_like(classes, np.bool_)
    land[:, 15:] = True
    land[:8, 12:] = land[11:, 12:] = True  # three sides of the region are land
    chart = draw(classes, min_px=20, land=land)
    assert (chart.classes[8:11, 12:15] == 0).all()


def test_confidence_beside_land() -> None:
    classes = np.zeros((10, 10), np.uint8)
    land = np.zeros_like(classes, np.bool_)
    land[:, 7:] = True
    bands = np.zeros((6, 10, 10), np.uint8)
    bands[0] = np.where(land, 255, 150)
    chart = draw(classes, land=land, probabilities=bands, probability_step=1 / 200)
    assert chart.polygons["confidence"].tolist()[:1] == [0.75] and np.isnan(chart.polygons["confidence"][1])


def test_a_mask_that_does_not_fit() -> None:
    classes = np.zeros((10, 10), np.uint8)
    with pytest.raises(GridError, match="does not fit a class raster"):
        draw(classes, land=np.zeros((9, 10), np.bool_))
    with pytest.raises(ChartError, match="outside land"):
        draw(classes, land=np.ones((10, 10), np.bool_))
    land = np.ones((10, 10), np.bool_)
    land[3, 3] = False
    with pytest.raises(ChartError, match="minimum area"):
        draw(classes, min_px=4, land=land)


def test_what_has_no_confidence_is_reviewed_as_if_it_were_wrong() -> None:
    """Areas of 9, 6 and 3 columns with a confidence of 0.9, none and 0.1: 0.9, 6 and 2.7 of them are wrong."""
    classes = np.repeat(np.array([0, 1, 3], np.uint8), (9, 6, 3))[None].repeat(4, axis=0)
    p = np.zeros((6, *classes.shape), np.uint8)  # in steps of 1/200, 255 for none
    p[0, :, :9], p[5, :, :9] = 180, 20
    p[:, :, 9:15] = 255
    p[3, :, 15:], p[5, :, 15:] = 20, 180
    rows = draw(classes, probabilities=iter(p), probability_step=1 / 200).polygons.set_index("class_id")
    assert rows["confidence"].isna().tolist() == (rows.index == 1).tolist()
    assert rows["review_rank"].to_dict() == {0: 3, 1: 1, 3: 2}
