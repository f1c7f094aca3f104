"""Fragmentation, impossible neighbours, and the sensor showing through, on maps built to have a known answer."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest
from affine import Affine
from check_maps import (
    FIRST,
    LEGEND,
    OLD,
    PIXEL_M,
    WATER,
    YOUNG,
    amounts,
    blobs,
    compared,
    in_one,
    incidence_deg,
    pair,
    seam_columns,
    values,
)
from odc.geo.geobox import GeoBox
from scipy.ndimage import label

from floemap.cog import read_geobox
from floemap.errors import FloemapError, GridError
from floemap.evaluation.checks.borders import border_sides
from floemap.evaluation.checks.fragmentation import fragmentation, patch_sizes
from floemap.evaluation.checks.neighbours import WIDE_M, impossible_neighbours, narrow_pixels
from floemap.evaluation.checks.seam_zone import seam_zone
from floemap.evaluation.checks.sensor import angle, seams
from floemap.evaluation.statistics.blocks import BlockGrid
from floemap.legend import ICE_WATER, IGNORE
from floemap.results.stage import read_json
from floemap.sentinel1.bands import open_product
from floemap.sentinel1.geolocation import GeoLocator
from floemap.sentinel1.prepare import prepare
from floemap.sentinel1.safe.reader import open_scene
from floemap.sentinel1.seams import seam_lines
from floemap.sentinel1.settings import PrepareSettings

# --- fragmentation


def squares(side: int, step: int, shape: tuple[int, int] = (100, 200)) -> np.ndarray:
    """Squares of old ice in first-year ice, one every `step` pixels."""
    rows, cols = np.indices(shape)
    return np.where((rows % step < side) & (cols % step < side), OLD, FIRST).astype(np.uint8)


def test_squares_are_counted_and_measured() -> None:
    """50 squares of 4 km2: their number, perimeter and shares by hand."""
    few, many = squares(4, 20), squares(1, 10)
    found = values("fragmentation", many, few)
    # 100 x 200 px of 500 m: 5000 km2; 50 squares of 4 x 4 px and the ice around, and 200 of 1 x 1.
    assert found["reference"]["patches_per_1000_km2"] == pytest.approx(51 / 5)
    assert found["prediction"]["patches_per_1000_km2"] == pytest.approx(201 / 5)
    assert found["patches_per_1000_km2_ratio"] == pytest.approx(201 / 51)
    # Squares at the map's top and left have no border there.
    sides_few, sides_many = 50 * 16 - 10 * 4 - 5 * 4, 200 * 4 - 20 - 10
    assert found["reference"]["perimeter_per_area_1_km"] == pytest.approx(2 * sides_few * 0.5 / 5000)
    assert found["perimeter_per_area_1_km_ratio"] == pytest.approx(sides_many / sides_few)
    assert found["prediction"]["share_in_small_patches"] == pytest.approx(200 * 0.25 / 5000)
    assert found["reference"]["share_in_small_patches"] == 0
    assert found["share_in_small_patches_ratio"] is None
    by_class = found["by_class"]["old_ice"]["prediction"]
    assert by_class["patches_per_1000_km2"] == pytest.approx(200 / 5)
    assert by_class["share_in_small_patches"] == 1
    assert found["by_class"]["nilas"]["prediction"]["perimeter_per_area_1_km"] is None


def test_patches_touch_by_corners() -> None:
    """A lead of one pixel across the rows is one patch, and cuts none."""
    diagonal = np.where(np.eye(40, dtype=bool), WATER, FIRST).astype(np.uint8)
    assert amounts("fragmentation", diagonal, diagonal).patches[0, [FIRST, WATER]].tolist() == [1, 1]


def test_patches_are_scipys() -> None:
    classes = blobs(11)
    for k in range(6):
        _, count = label(classes == k, structure=np.ones((3, 3)))
        sizes, parts = patch_sizes(classes, k, BlockGrid.of(classes, 500, 10_000))
        assert len(sizes) == count
        assert sizes.sum() == sum(pixels.sum() for *_, pixels in parts) == (classes == k).sum()
    assert patch_sizes(np.zeros((3, 3), np.uint8), 4, BlockGrid.whole((3, 3)))[1] == []


def test_sides_by_hand() -> None:
    classes = blobs(12, shape=(40, 50))
    expected = np.zeros((6, 6), int)
    for a, b in ((classes[:, 1:], classes[:, :-1]), (classes[1:], classes[:-1])):
        for i, j in zip(a.ravel().tolist(), b.ravel().tolist(), strict=True):
            if i != j and IGNORE not in (i, j):
                expected[i, j] += 1
                expected[j, i] += 1
    for grid in (BlockGrid.whole(classes.shape), BlockGrid.of(classes, 500, 10_000)):
        assert (border_sides(classes, 6, grid).sum(axis=0) == expected.sum(axis=1)).all()
    for part in (classes[:1], classes[:, :1]):
        assert border_sides(part, 6, BlockGrid.whole(part.shape)).sum() % 2 == 0


def test_ratios_turn_over_with_the_maps() -> None:
    a, b = values("fragmentation", *pair()), values("fragmentation", *pair()[::-1])
    for key in (k for k in a if k.endswith("_ratio")):
        assert a[key] == pytest.approx(1 / b[key]), key


def test_large_pixels_leave_no_small_patches() -> None:
    """There they cannot be told from large ones: four pixels must fit into a small patch."""
    for pixel_m, known in ((500.0, True), (501.0, False), (800.0, False), (1000.0, False)):
        found = fragmentation(compared(*pair(), pixel_m)).values()
        assert (found["prediction"]["share_in_small_patches"] is not None) == known
        assert (found["share_in_small_patches_ratio"] is not None) == known


# --- impossible neighbours


def sea() -> np.ndarray:
    """Water right of first-year ice."""
    classes = np.full((60, 120), WATER, np.uint8)
    classes[:, :40] = FIRST
    return classes


def test_specks_in_open_water() -> None:
    plain, specks = sea(), sea()
    specks[10, 80] = OLD  # 4 sides
    specks[30, 90], specks[31, 91] = OLD, OLD  # a patch of two that touch by a corner, 8 sides
    specks[50, 70:73] = OLD  # 8 sides
    found = values("neighbours", specks, plain)
    assert found["prediction"] == {"impossible_km": 10.0, "old_water_km": 10.0}
    assert found["excess_km"] == 10
    assert found["reference"]["impossible_km"] == 0 and found["old_water_ratio"] is None


@pytest.mark.parametrize("pixel_m", [80.0, 500.0, 800.0])
def test_narrow_is_told_in_metres(pixel_m: float) -> None:
    """Old ice as wide as the square is wide, one pixel less is narrow; in water and along the ice edge."""
    size = round(WIDE_M / pixel_m)
    assert abs(size * pixel_m - WIDE_M) <= pixel_m / 2
    for width, impossible in ((size, False), (size - 1, True)):
        floe, ring = (np.full((6 * size, 10 * size), WATER, np.uint8) for _ in range(2))
        floe[2 * size : 2 * size + width, 4 * size : 6 * size] = OLD
        ring[:, : 3 * size] = FIRST
        ring[:, 3 * size : 3 * size + width] = OLD
        for classes in (floe, ring, ring.T.copy()):
            found = values("neighbours", classes, classes, pixel_m)["prediction"]
            assert found["old_water_km"] > 0
            assert found["impossible_km"] == (found["old_water_km"] if impossible else 0)


def test_what_is_not_narrow() -> None:
    """Spurs of a floe, old ice within the ice, and what may go on under land or beyond the map's end."""
    spur, inside, at_the_end, at_land = (sea() for _ in range(4))
    spur[20:30, 60:70], spur[25, 70:72] = OLD, OLD
    inside[:, 30] = OLD
    at_the_end[58:, 80:85] = OLD
    at_land[10, 80:85], at_land[:10, 70:90] = OLD, IGNORE
    for classes in (spur, inside, at_the_end, at_land):
        assert values("neighbours", classes, sea())["prediction"]["impossible_km"] == 0
    far = sea()
    far[20:30, 60:70], far[25, 70:90] = OLD, OLD
    sides = values("neighbours", far, sea())["prediction"]["impossible_km"] / (PIXEL_M / 1000)
    assert sides == 2 * (20 - 5) + 1, "a thread of 20 pixels; its first five are as near as the square is wide"


@pytest.mark.parametrize("size", [1, 2, 3, 4, 5])
def test_narrow_by_hand(size: int) -> None:
    """Every square tried, one by one; they may reach out of the map and under no data."""
    classes = blobs(21, shape=(40, 50))
    rows, cols = classes.shape
    could = np.pad((classes == OLD) | (classes == IGNORE), size, constant_values=True)
    fits = np.zeros_like(could)
    for r in range(rows + size + 1):
        for c in range(cols + size + 1):
            if could[r : r + size, c : c + size].all():
                fits[r : r + size, c : c + size] = True
    wide = fits[size:-size, size:-size] & (classes == OLD)
    near = np.zeros_like(wide)
    for r, c in np.argwhere(wide):
        near[max(r - size, 0) : r + size + 1, max(c - size, 0) : c + size + 1] = True
    narrow = narrow_pixels(classes, OLD, size)
    assert (narrow == ((classes == OLD) & ~near)).all()
    assert narrow.any() == (size > 1) or size == 1


def test_pixels_too_large_to_draw_the_width() -> None:
    for pixel_m in (961.0, 2000.0):
        assert f"{pixel_m:g} m" in impossible_neighbours(compared(sea(), sea(), pixel_m))
    assert not isinstance(impossible_neighbours(compared(sea(), sea(), 959.0)), str)


def test_neighbours_without_old_ice() -> None:
    assert values("neighbours", sea(), sea())["prediction"]["impossible_km"] == 0
    ice = np.ones((3, 3), np.uint8)
    assert "old ice" in impossible_neighbours(compared(ice, ice, 80.0, ICE_WATER))


# --- seams


def test_classes_that_change_anywhere_change_no_more_at_seams() -> None:
    rng = np.random.default_rng(0)
    maps = [rng.integers(0, 6, (300, 400)).astype(np.uint8) for _ in range(2)]
    found = values("seams", *maps)
    for which in ("prediction", "reference"):
        assert found[which]["ratio"] == pytest.approx(1, abs=0.03)
    assert abs(found["seam_excess_km"]) < 0.02 * found["prediction"]["changes_km"]


def test_a_border_along_a_seam_by_hand() -> None:
    """Stripes every 50 rows everywhere, and one more border along a seam."""
    reference = np.where(np.indices((200, 300))[0] // 50 % 2, FIRST, YOUNG).astype(np.uint8)
    prediction = reference.copy()
    prediction[:, 100:] = np.where(reference == FIRST, YOUNG, FIRST)[:, 100:]
    zone = np.zeros((200, 300), bool)
    zone[:, 98:103] = True
    found = seams(compared(prediction, reference, 1000.0, LEGEND), zone).values()
    # Between rows: 3 borders of 5 px in the zone, as everywhere. Between columns: 200 px in the zone, none elsewhere.
    assert found["prediction"] == {
        "changes_km": 215,
        "expected_km": 15,
        "ratio": pytest.approx(215 / 15),
        "excess_km": 200,
    }
    assert found["reference"] == {"changes_km": 15, "expected_km": 15, "ratio": 1, "excess_km": 0}
    assert found["seam_excess_km"] == 200


def test_seams_do_not_apply() -> None:
    maps = [blobs(0)] * 2
    assert "prepare" in seams(compared(*maps, PIXEL_M, LEGEND), None)
    assert "no seam" in seams(compared(*maps, PIXEL_M, LEGEND), np.zeros(maps[0].shape, bool))
    with pytest.raises(GridError):
        seams(compared(*maps, PIXEL_M, LEGEND), np.zeros((2, 2), bool))
    even = [np.full((20, 30), FIRST, np.uint8)] * 2
    assert seams(compared(*even, PIXEL_M, LEGEND), seam_columns((20, 30))).values()["prediction"]["ratio"] is None
    everywhere = seams(compared(*maps, PIXEL_M, LEGEND), np.ones(maps[0].shape, bool)).values()
    assert everywhere["prediction"]["ratio"] is None and everywhere["seam_excess_km"] is None


def test_seams_of_a_scene_lie_between_its_sub_swaths(small_product: Path) -> None:
    scene = open_scene(small_product, pixels=False)
    locator = GeoLocator(scene)
    lines = seam_lines(scene, locator)
    names = list(scene.swath_names)
    assert [tuple(s["between"]) for s in lines] == list(itertools.pairwise(names))
    for s in lines:
        line, pixel = locator.to_image(*np.array(s["lonlat_deg"]).T)
        assert (np.diff(line) > 0).all(), "in the order of time"
        for at, px in zip(line, pixel, strict=True):
            near, far = (
                [b for b in scene.swaths if b.swath == n and b.first_line - 0.5 <= at <= b.last_line + 0.5]
                for n in s["between"]
            )
            assert any(abs(b.last_pixel + 0.5 - px) < 0.01 for b in near)
            assert any(abs(b.first_pixel - 0.5 - px) < 0.01 for b in far)
        incidence = locator.incidence_deg(line, pixel)
        assert s["incidence_deg"] == pytest.approx([incidence.min(), incidence.max()], abs=2e-3)
        assert line[-1] == pytest.approx(scene.shape[0] - 1, abs=1e-3)


def test_the_zone_follows_the_seams_on_the_map(
    tmp_path: Path, small_product: Path, small_settings: PrepareSettings
) -> None:
    """By the incidence angle of the zone's pixels, and its width."""
    made = prepare(small_product, tmp_path, small_settings, quicklook=False)
    dataset, lines = open_product(made.folder), read_json(made.record)["seams"]
    geobox = read_geobox(made.raster)
    angles = dataset.incidence_deg.values
    slopes = np.hypot(*np.gradient(angles))
    for s in lines:
        zone = seam_zone([s], geobox, half_width_m=4000.0) & np.isfinite(angles)
        low, high = s["incidence_deg"]
        slope = np.nanmedian(slopes[zone])
        assert angles[zone].min() > low - 4.2 * slope and angles[zone].max() < high + 4.2 * slope
        middle = zone & (np.abs(angles - (low + high) / 2) < 0.5 * slope)
        assert zone.sum() / middle.sum() == pytest.approx(5, rel=0.25), "two pixels to each side"
    each = [seam_zone([s], geobox) for s in lines]
    assert (seam_zone(lines, geobox) == np.any(each, axis=0)).all()


def test_lines_that_are_none() -> None:
    geobox = GeoBox((50, 60), Affine(1000, 0, 5e5, 0, -1000, -1e6), "EPSG:3413")
    assert not seam_zone([], geobox).any()
    far = {"lonlat_deg": [[10.0, -60.0], [20.0, -61.0]]}
    assert not seam_zone([far], geobox).any()
    for wrong in ({}, {"lonlat_deg": "x"}, {"lonlat_deg": [1, 2, 3]}):
        with pytest.raises(FloemapError, match="longitudes"):
            seam_zone([wrong], geobox)


# --- incidence angle


def test_errors_that_know_nothing_of_the_angle() -> None:
    """Where a class is confused alike at all angles nothing depends on them, however the ice is spread."""
    reference = np.where(np.indices((200, 260))[1] < 90, OLD, FIRST).astype(np.uint8)
    prediction = np.full(reference.shape, FIRST, np.uint8)  # all old ice is first-year ice
    found = values("angle", prediction, reference)
    assert found["angle_dependence"] == pytest.approx(0)
    assert found["share_distance"] == pytest.approx(90 / 260)


def test_errors_at_one_side_by_hand() -> None:
    """Half of the map is at 30.5 degrees, half at 40.5; at 40.5 half of the water is called ice."""
    incidence = np.where(np.indices((10, 40))[1] < 20, 30.5, 40.5).astype(np.float32)
    reference = np.full((10, 40), WATER, np.uint8)
    prediction = reference.copy()
    prediction[:, 30:] = YOUNG
    found = angle(compared(prediction, reference, 1000.0), in_one(incidence)).values()
    # A quarter of the map is wrong: e = 3/4 water, 1/4 young at both angles; 1 and 0, 1/2 and 1/2 are found.
    assert found["angle_dependence"] == pytest.approx(0.25)
    assert found["share_distance"] == pytest.approx(0.25)
    assert found["incidence_deg"] == [30.5, 40.5] and found["area_km2"] == [200, 200]
    assert found["prediction_share"]["young_ice"] == [0, 0.5]
    assert found["reference_share"]["open_water"] == [1, 1]


def test_angles_unknown_or_beyond_the_bins() -> None:
    maps = pair()
    angles = incidence_deg(maps[0].shape)
    angles[:, :20] = np.nan
    known = angle(compared(*maps), in_one(angles))
    cut = [m.copy() for m in maps]
    for m in cut:
        m[:, :20] = IGNORE
    assert known.to_json() == angle(compared(*cut), in_one(incidence_deg(maps[0].shape))).to_json()
    steep = angle(compared(*maps), in_one(np.full(maps[0].shape, 3.0, np.float32))).values()
    assert steep["incidence_deg"] == [15.5] and steep["angle_dependence"] == pytest.approx(0)
    assert "incidence" in angle(compared(*maps), in_one(np.full(maps[0].shape, np.nan, np.float32)))
    with pytest.raises(GridError):
        angle(compared(*maps), [(slice(0, len(angles)), angles[:-1])])


def test_old_ice_beside_water_is_compared_as_a_ratio() -> None:
    reference, prediction = sea(), sea()
    reference[10, 80] = OLD  # 4 sides
    prediction[10, 80:83] = OLD  # 8 sides
    found = values("neighbours", prediction, reference)
    assert (found["old_water_ratio"], found["excess_km"]) == (2.0, 2.0)
    assert found["reference"]["old_water_km"] == 2.0


def test_a_short_seam_has_a_ratio() -> None:
    """Sides of 10 m: there is less than a kilometre of them in the zone, and less than one elsewhere."""
    reference = np.full((10, 9), FIRST, np.uint8)
    reference[5:] = YOUNG
    zone = np.zeros((10, 9), bool)
    zone[:, :4] = True
    found = seams(compared(reference, reference, 10.0), zone).values()["prediction"]
    # 4 of 36 sides between rows change in the zone, 5 of 45 elsewhere.
    assert found["ratio"] == pytest.approx(1)
    assert found["changes_km"] == pytest.approx(0.04) and found["expected_km"] == pytest.approx(0.04)
