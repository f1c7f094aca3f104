"""Fragmentation, impossible neighbours, and the sensor showing through, on maps built to have a known answer."""

from __future__ import annotations

import itertools

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
    incidence_deg,
    pair,
    seam_columns,
    values,
)
from odc.geo.geobox import GeoBox
from scipy.ndimage import label

from floemap.cog import read_geobox
from floemap.errors import FloemapError, GridError
from floemap.evaluation.checks.borders import sides_between
from floemap.evaluation.checks.fragmentation import fragmentation, patch_sizes
from floemap.evaluation.checks.neighbours import impossible_neighbours
from floemap.evaluation.checks.seam_zone import seam_zone
from floemap.evaluation.checks.sensor import angle, seams
from floemap.legend import ICE_WATER, IGNORE
from floemap.sentinel1.bands import open_product
from floemap.sentinel1.geocode import GeoLocator
from floemap.sentinel1.product import prepare
from floemap.sentinel1.safe import open_scene
from floemap.sentinel1.seams import seam_lines
from floemap.stage import read_json

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
        sizes = patch_sizes(classes, k)
        assert len(sizes) == count
        assert sizes.sum() == (classes == k).sum()
    assert len(patch_sizes(np.zeros((3, 3), np.uint8), 4)) == 0


def test_sides_by_hand() -> None:
    classes = blobs(12, shape=(40, 50))
    expected = np.zeros((6, 6), int)
    for a, b in ((classes[:, 1:], classes[:, :-1]), (classes[1:], classes[:-1])):
        for i, j in zip(a.ravel().tolist(), b.ravel().tolist(), strict=True):
            if i != j and IGNORE not in (i, j):
                expected[i, j] += 1
                expected[j, i] += 1
    assert (sides_between(classes, 6) == expected).all()
    assert (sides_between(classes[:1], 6) >= 0).all() and (sides_between(classes[:, :1], 6) >= 0).all()


def test_ratios_turn_over_with_the_maps() -> None:
    a, b = values("fragmentation", *pair()), values("fragmentation", *pair()[::-1])
    for key in (k for k in a if k.endswith("_ratio")):
        assert a[key] == pytest.approx(1 / b[key]), key


def test_pixels_of_a_square_kilometre_leave_no_small_patches() -> None:
    found = fragmentation(*pair(), 1000.0, LEGEND).values()
    assert found["prediction"]["share_in_small_patches"] == 0
    assert found["share_in_small_patches_ratio"] is None


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
    assert found["prediction"] == {
        "impossible_km": 10.0, "speck_km": 10.0, "ring_km": 0.0, "specks": 3, "speck_km2": 6 * 0.25,
        "old_water_km": 10.0,
    }  # fmt: skip
    assert found["impossible_km"] == found["excess_km"] == 10
    assert found["reference"]["impossible_km"] == 0 and found["old_water_ratio"] is None


def test_what_is_no_speck() -> None:
    floe = sea()
    floe[10:12, 80:82] = OLD  # 1 km2
    beside_ice = sea()
    beside_ice[10, 80:82] = OLD, FIRST
    at_the_end = sea()
    at_the_end[59, 80] = OLD
    at_land = sea()
    at_land[10, 80:82] = OLD, IGNORE
    for classes in (floe, beside_ice, at_the_end, at_land):
        found = values("neighbours", classes, classes)
        assert found["prediction"]["specks"] == 0
        assert found["prediction"]["speck_km"] == 0
        assert found["prediction"]["old_water_km"] > 0
    assert values("neighbours", floe, floe)["impossible_km"] == 0


def test_a_single_pixel_is_a_speck_whatever_its_size() -> None:
    specks = sea()
    specks[10, 80], specks[20, 80:82] = OLD, OLD
    found = impossible_neighbours(specks, specks, 2000.0, LEGEND).values()
    assert found["prediction"]["specks"] == 1, "one of 4 km2; the patch of 8 km2 is a floe"


def test_a_ring_along_the_edge() -> None:
    ring, band = sea(), sea()
    ring[:, 40] = OLD
    band[:, 40:42] = OLD
    found = values("neighbours", ring, sea())
    assert (found["prediction"]["ring_km"], found["impossible_km"]) == (30, 30)
    found = values("neighbours", band, sea())
    assert found["prediction"]["ring_km"] == 0
    assert found["prediction"]["old_water_km"] == 30, "two pixels wide is no ring, and is told by the ratio"
    spur = sea()
    spur[20:30, 60:70], spur[25, 70] = OLD, OLD
    assert values("neighbours", spur, sea())["impossible_km"] == 0, "a spur of a floe"
    inside = sea()
    inside[:, 30] = OLD  # within the ice
    assert values("neighbours", inside, sea())["impossible_km"] == 0


def test_neighbours_by_hand() -> None:
    classes = blobs(21, shape=(50, 60))
    patch, count = label(classes == OLD, structure=np.ones((3, 3)))
    wide = np.zeros(classes.shape, bool)
    for r in range(49):
        for c in range(59):
            if (classes[r : r + 2, c : c + 2] == OLD).all():
                wide[r : r + 2, c : c + 2] = True
    near_wide = np.zeros(classes.shape, bool)
    for r, c in np.argwhere(wide):
        near_wide[max(r - 1, 0) : r + 2, max(c - 1, 0) : c + 2] = True
    wet = np.zeros(classes.shape, int)
    spoilt = set()
    for r, c in np.argwhere(classes == OLD):
        for dr, dc in ((0, 1), (1, 0), (0, -1), (-1, 0)):
            y, x = r + dr, c + dc
            inside = 0 <= y < 50 and 0 <= x < 60
            if inside and classes[y, x] == WATER:
                wet[r, c] += 1
            elif not inside or classes[y, x] != OLD:
                spoilt.add(patch[r, c])
    specks = [
        k
        for k in range(1, count + 1)
        if k not in spoilt and wet[patch == k].sum() and ((patch == k).sum() * 0.25 < 1 or (patch == k).sum() == 1)
    ]
    of_specks = np.isin(patch, specks)
    found = values("neighbours", classes, classes)["prediction"]
    assert found["specks"] == len(specks) > 0
    assert found["speck_km"] == wet[of_specks].sum() * 0.5
    assert found["ring_km"] == wet[~of_specks & ~near_wide].sum() * 0.5
    assert found["old_water_km"] == wet.sum() * 0.5


def test_neighbours_without_old_ice() -> None:
    assert values("neighbours", sea(), sea())["impossible_km"] == 0
    assert "old ice" in impossible_neighbours(np.ones((3, 3), np.uint8), np.ones((3, 3), np.uint8), 80.0, ICE_WATER)


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
    found = seams(prediction, reference, 1000.0, LEGEND, zone).values()
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
    assert "prepare" in seams(*maps, PIXEL_M, LEGEND, None)
    assert "no seam" in seams(*maps, PIXEL_M, LEGEND, np.zeros(maps[0].shape, bool))
    with pytest.raises(GridError):
        seams(*maps, PIXEL_M, LEGEND, np.zeros((2, 2), bool))
    even = [np.full((20, 30), FIRST, np.uint8)] * 2
    assert seams(*even, PIXEL_M, LEGEND, seam_columns((20, 30))).values()["seam_ratio"] is None
    everywhere = seams(*maps, PIXEL_M, LEGEND, np.ones(maps[0].shape, bool)).values()
    assert everywhere["seam_ratio"] is None and everywhere["seam_excess_km"] is None


def test_seams_of_a_scene_lie_between_its_sub_swaths(small_product) -> None:
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


def test_the_zone_follows_the_seams_on_the_map(tmp_path, small_product, small_settings) -> None:
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
    found = angle(prediction, reference, 1000.0, LEGEND, incidence).values()
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
    known = angle(*maps, PIXEL_M, LEGEND, angles)
    cut = [m.copy() for m in maps]
    for m in cut:
        m[:, :20] = IGNORE
    assert known.to_json() == angle(*cut, PIXEL_M, LEGEND, incidence_deg(maps[0].shape)).to_json()
    steep = angle(*maps, PIXEL_M, LEGEND, np.full(maps[0].shape, 3.0, np.float32)).values()
    assert steep["incidence_deg"] == [15.5] and steep["angle_dependence"] == pytest.approx(0)
    assert "incidence" in angle(*maps, PIXEL_M, LEGEND, np.full(maps[0].shape, np.nan, np.float32))
    with pytest.raises(GridError):
        angle(*maps, PIXEL_M, LEGEND, angles[:-1])
