"""Laws that all physical checks obey, and the first three: season, old ice, ice edge."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import date
from typing import Any

import numpy as np
import pytest
from check_maps import (
    CHECK_MAPS,
    FIRST,
    LEGEND,
    NEW,
    NILAS,
    OLD,
    PIXEL_M,
    WATER,
    YOUNG,
    amounts,
    blobs,
    by_block,
    compared,
    incidence_deg,
    leaves,
    pair,
    values,
)
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt
from scipy.spatial.distance import cdist

from floemap.errors import ConfigError, FloemapError, GridError
from floemap.evaluation.checks.ice_edge import edge_pixels, generalise, ice_edge, window_px
from floemap.evaluation.checks.old_ice import OldIceAmounts, old_ice
from floemap.evaluation.checks.scene_checks import CHECKS
from floemap.evaluation.checks.season import in_melt_season, season, with_air_temperature
from floemap.evaluation.checks.sensor import angle_counts
from floemap.evaluation.statistics import blocks
from floemap.evaluation.statistics.blocks import BlockGrid
from floemap.legend import AI4ARCTIC, ICE_WATER, IGNORE

ALL = [*CHECK_MAPS]
#: Those that see the map as a whole, so that a neighbour far away may matter.
EDGE = "ice_edge"


def same(a: dict[str, Any], b: dict[str, Any], rel: float = 1e-9) -> None:
    """The same leaves, numbers but for rounding."""
    a, b = leaves(a), leaves(b)
    assert a.keys() == b.keys()
    for key, value in a.items():
        number = isinstance(value, int | float)
        assert value == (pytest.approx(b[key], rel=rel, abs=1e-9) if number else b[key]), key


# --- laws of all


def test_every_check_is_in_these_tests() -> None:
    assert set(CHECK_MAPS) == set(CHECKS) - {"polygons"}, "which test_64_polygon_shares tests"


@pytest.mark.parametrize("check", ALL)
def test_json_and_back(check: str) -> None:
    found = amounts(check, *pair())
    text = json.dumps({"amounts": found.to_json(), "values": found.values()}, allow_nan=False)
    again = CHECKS[check].from_json(json.loads(text)["amounts"])
    assert again.to_json() == found.to_json()
    assert again.values() == found.values() == json.loads(text)["values"]


@pytest.mark.parametrize("check", ALL)
def test_only_pixels_with_both_count(check: str) -> None:
    """Whatever stands where the other map has nothing changes nothing."""
    prediction, reference = pair(none=0.2)
    neither = (prediction == IGNORE) | (reference == IGNORE)
    rng = np.random.default_rng(5)
    noise = rng.integers(0, 6, prediction.shape).astype(np.uint8)
    a, b = prediction.copy(), reference.copy()
    a[neither], b[neither] = IGNORE, noise[neither]
    c, d = prediction.copy(), reference.copy()
    c[neither], d[neither] = noise[neither], IGNORE
    if check == "confidence":  # its probabilities are made from the prediction
        c = a
    assert amounts(check, a, b).to_json() == amounts(check, c, d).to_json()


@pytest.mark.parametrize("check", [c for c in ALL if c not in ("seams", "angle", "confidence")])
def test_no_data_around_changes_nothing(check: str) -> None:
    maps = [np.pad(m, ((7, 30), (41, 3)), constant_values=IGNORE) for m in pair()]
    same(amounts(check, *maps).to_json(), amounts(check, *pair()).to_json())


@pytest.mark.parametrize("turn", [lambda m: np.rot90(m), lambda m: m[::-1], lambda m: m.T])
@pytest.mark.parametrize("check", [c for c in ALL if c not in ("seams", "angle", "confidence")])
def test_north_is_where_one_puts_it(check: str, turn: Callable[[NDArray[np.uint8]], NDArray[np.uint8]]) -> None:
    turned = [np.ascontiguousarray(turn(m)) for m in pair()]
    same(values(check, *turned), values(check, *pair()))


@pytest.mark.parametrize("check", ALL)
def test_a_perfect_map(check: str) -> None:
    found = values(check, *[blobs(3)] * 2)
    perfect = {
        "season": {"ratio": 1, "invented_km2": 0, "invented_share_of_melting": 0},
        "old_ice": {"omission_km2": 0, "commission_km2": 0, "omission_share": 0, "as_first_year_km2": 0},
        "ice_edge": {"mean_distance_km": 0, "hausdorff95_km": 0, "iiee_km2": 0, "no_distance_because": None},
        "fragmentation": {"patches_per_1000_km2_ratio": 1, "perimeter_per_area_1_km_ratio": 1},
        "neighbours": {"excess_km": 0, "old_water_ratio": 1},
        "seams": {"seam_excess_km": 0},
        "angle": {"angle_dependence": 0, "share_distance": 0},
        "confidence": {"accuracy": 1, "entropy_wrong": None, "entropy_gap": None, "wrong_in_surer_half": 0},
    }
    for key, value in perfect[check].items():
        assert found[key] == value, key


@pytest.mark.parametrize("check", [c for c in ALL if c != "confidence"])
def test_larger_pixels_are_more_area(check: str) -> None:
    """Amounts in km2 grow with the square of the pixel, in km with the pixel."""
    maps = pair(none=0.15)
    if check == EDGE:
        small, large = (ice_edge(compared(*maps, m), window_km=5 * m / 1000).scene() for m in (200.0, 400.0))
        assert large.over_km2 == pytest.approx(4 * small.over_km2)
        assert large.predicted_edge_km == pytest.approx(2 * small.predicted_edge_km)
        means = [a.values()["mean_distance_km"] for a in (small, large)]
        assert means[1] == pytest.approx(2 * means[0])
        return
    small, large = (leaves(amounts(check, *maps, m).to_json()) for m in (200.0, 400.0))
    for key, value in small.items():
        if "small" in key or "narrow" in key or key == "/pixel_m":  # told by their size in metres
            continue
        factor = 4 if "km2" in key else 2 if "km" in key else 1
        assert large[key] == (pytest.approx(factor * value) if isinstance(value, float) else value), key


@pytest.mark.parametrize("check", ALL)
def test_scenes_add_in_any_order_to_the_last_digit(check: str) -> None:
    kind = CHECKS[check]
    parts = [
        amounts(check, *pair(s, shape=(50, 70)), pixel_m=77.7 if "pixel_m" in kind.SETTINGS else m)
        for s, m in ((1, 77.7), (2, 80.1), (3, 333.3), (4, 9.1))
    ]
    whole = kind.total(parts).to_json()
    for order in ([3, 2, 1, 0], [2, 0, 3, 1]):
        assert kind.total([parts[i] for i in order]).to_json() == whole
    assert kind.total(parts[:1]).to_json() == parts[0].to_json()
    same((parts[0] + (parts[1] + (parts[2] + parts[3]))).to_json(), whole)


@pytest.mark.parametrize("check", ALL)
def test_ratios_of_sums_not_means_of_ratios(check: str) -> None:
    """A scene twice is that scene; a large and a small one together lie near the large one."""
    large, small = amounts(check, *pair(1)), amounts(check, *pair(2, shape=(30, 30), none=0.0))
    kind = CHECKS[check]
    ratios = (
        "ratio",
        "share",
        "per_",
        "mean",
        "p95",
        "hausdorff",
        "ece",
        "brier",
        "accuracy",
        "dependence",
        "distance",
    )
    twice, once = leaves(kind.total([large, large]).values()), leaves(large.values())
    for key in once:
        if any(r in key for r in ratios) and "by_class" not in key and "_km2" not in key.rsplit("/", 1)[-1]:
            assert twice[key] == pytest.approx(once[key]), key
    both = leaves(kind.total([large, small]).values())
    total = {
        "season": ("/ratio", lambda v: v["/predicted_km2"] / v["/reference_km2"]),
        "old_ice": ("/omission_share", lambda v: v["/omission_km2"] / v["/reference_km2"]),
    }
    if check in total:
        key, by_hand = total[check]
        sums = {k: once[k] + leaves(small.values())[k] for k in once if k.endswith("km2")}
        assert both[key] == pytest.approx(by_hand(sums))


@pytest.mark.parametrize("check", [c for c in ALL if c not in ("seams", "angle", "confidence")])
def test_pieces_of_a_map_add_to_the_whole(check: str) -> None:
    """Two areas far apart are measured together as they are alone."""
    gap = np.full((60, 300), IGNORE, np.uint8)
    one, two = pair(5, shape=(60, 80)), pair(6, shape=(60, 80))
    together = [np.hstack([a, gap, b]) for a, b in zip(one, two, strict=True)]
    found, parts = amounts(check, *together), amounts(check, *one) + amounts(check, *two)
    if check == EDGE:  # one scene, not two
        found, parts = (type(found)(**(vars(a) | {"scenes": 0})) for a in (found, parts))
    same(found.to_json(), parts.to_json())


def test_strips_inside_make_no_difference(monkeypatch: pytest.MonkeyPatch) -> None:
    maps = pair()
    before = {c: amounts(c, *maps).to_json() for c in ALL}
    for rows in (1, 7, 64):
        monkeypatch.setattr(blocks, "_STRIP_ROWS", rows)
        for c in ALL:
            same(amounts(c, *maps).to_json(), before[c])
    angles = incidence_deg(maps[0].shape)
    whole = angle_counts(*maps, angles, 6)
    strips = [slice(0, 1), slice(1, 40), slice(40, None)]
    assert (sum(angle_counts(maps[0][s], maps[1][s], angles[s], 6) for s in strips) == whole).all()


@pytest.mark.parametrize("check", ALL)
def test_maps_that_cannot_be_compared(check: str) -> None:
    good = blobs(0)
    for bad, error in (
        (good[:-1], GridError),
        (good.astype(np.int64), ConfigError),
        (np.where(good == NEW, np.uint8(6), good), ConfigError),
        (np.where(good == NEW, np.uint8(254), good), ConfigError),
    ):
        for maps in ((bad, good), (good, bad)):
            with pytest.raises(error):
                by_block(check, *maps)
    with pytest.raises(GridError, match="no area"):
        by_block(check, good, good, 0.0)
    with pytest.raises(GridError, match="blocks of a raster"):
        by_block(check, good, good, grid=BlockGrid.whole((3, 3)))


@pytest.mark.parametrize("check", ALL)
def test_nothing_to_compare(check: str) -> None:
    """No pixel with both: the check says why, or has only zeros and no ratios; never a division by zero."""
    a, b = np.full((20, 20), IGNORE, np.uint8), blobs(0, shape=(20, 20))
    found = CHECK_MAPS[check](compared(a, b))
    if isinstance(found, str):
        assert len(found) > 10
    else:
        assert all(not v for v in leaves(found.values()).values())


def test_amounts_of_different_settings_do_not_add() -> None:
    maps = pair()
    a, b = (ice_edge(compared(*maps), window_km=w).scene() for w in (5, 10))
    with pytest.raises(ConfigError, match="window_km"):
        type(a).total([a, b])
    with pytest.raises(ConfigError, match="no OldIceAmounts"):
        OldIceAmounts.total([])
    record = amounts("old_ice", *maps).to_json()
    with pytest.raises(FloemapError, match="compared_km2"):
        OldIceAmounts.from_json({k: v for k, v in record.items() if k != "compared_km2"})


# --- season


@pytest.mark.parametrize(
    ("day", "latitude", "melting"),
    [
        ((1, 16), 75, False), ((4, 17), 75, False), ((6, 12), 75, False), ((7, 17), 75, True), ((8, 14), 75, True),
        ((8, 31), 75, True), ((9, 1), 75, False), ((9, 1), 65, True), ((9, 16), 65, False), ((6, 15), 70, True),
        ((6, 30), 85, False), ((7, 1), 80, True), ((8, 16), 90, False), ((7, 17), -75, False), ((1, 15), -75, True),
        ((12, 15), -60, True), ((1, 31), -60, True), ((1, 16), -70, False), ((2, 1), -60, False), ((7, 17), 0, True),
        ((6, 14), 65, False), ((6, 15), 65, True), ((9, 15), 65, True), ((6, 14), 75, False), ((6, 15), 75, True),
        ((8, 15), 80, True), ((12, 14), -60, False), ((12, 14), -75, False), ((12, 15), -75, True),
        ((1, 16), -75, False),
    ],
)  # fmt: skip
def test_melt_seasons(day: tuple[int, int], latitude: float, melting: bool) -> None:
    assert in_melt_season(date(2018, *day), latitude) == melting
    assert in_melt_season(date(2024, *day), np.array([[latitude, 40]])).shape == (1, 2)


def test_melt_is_longer_farther_from_the_pole() -> None:
    days = [date(2018, 1, 1 + i) if i < 31 else date.fromordinal(date(2018, 1, 1).toordinal() + i) for i in range(365)]
    for sign in (1, -1):
        lengths = [sum(bool(in_melt_season(d, sign * x)) for d in days) for x in (89, 79, 69)]
        assert 0 < lengths[0] <= lengths[1] <= lengths[2] < 100


def test_air_temperature_overrides_where_it_is_known() -> None:
    rule = np.array([[True, True, True, False, False, False]])
    air = np.array([[np.nan, -5.0, 3.0, np.nan, -5.0, 3.0]], np.float32)
    assert with_air_temperature(rule, air).tolist() == [[True, False, True, False, False, True]]
    assert not with_air_temperature(rule[:, :1], np.array([[-1.8]])).any(), "water freezes at its freezing point"
    with pytest.raises(GridError):
        with_air_temperature(rule, air[:, :3])


def test_areas_out_of_season() -> None:
    reference = np.full((10, 20), FIRST, np.uint8)
    reference[0] = YOUNG  # 20 px
    prediction = reference.copy()
    prediction[0, :5] = WATER
    prediction[1, :8], prediction[2, :4], prediction[3, :1] = NEW, NILAS, YOUNG
    prediction[9], reference[9] = NEW, IGNORE  # not compared
    found = season(compared(prediction, reference, 2000.0, LEGEND), True).values()
    assert found["predicted_km2_by_class"] == {"new_ice": 32, "nilas": 16, "young_ice": 64}
    assert (found["predicted_km2"], found["reference_km2"], found["invented_km2"]) == (112, 80, 52)
    assert found["ratio"] == pytest.approx(1.4)
    assert found["melting_km2"] == 9 * 20 * 4
    melting = np.zeros((10, 20), bool)
    melting[1:3] = True
    part = season(compared(prediction, reference, 2000.0, LEGEND), melting).values()
    assert (part["predicted_km2"], part["reference_km2"], part["ratio"]) == (48, 0, None)


def test_season_does_not_apply() -> None:
    maps = [blobs(0)] * 2
    assert "melt season" in season(compared(*maps, PIXEL_M, LEGEND), False)
    two = [np.minimum(m, 1) for m in maps]
    assert "legend" in season(compared(*two, PIXEL_M, ICE_WATER), True)
    with pytest.raises(GridError):
        season(compared(*maps, PIXEL_M, LEGEND), np.ones((3, 3), bool))


# --- old ice


def test_old_ice_missed_and_invented() -> None:
    reference = np.full((10, 10), FIRST, np.uint8)
    reference[:4] = OLD
    prediction = reference.copy()
    prediction[0, :6], prediction[1, :3], prediction[2, :1] = FIRST, WATER, YOUNG
    prediction[9, :2], prediction[8, 0] = OLD, OLD
    reference[8, 0] = WATER
    found = old_ice(compared(prediction, reference, 1000.0, LEGEND)).values()
    assert found["omission_km2"] == 10 and found["omission_share"] == 0.25
    assert found["omitted_as_km2"] == {
        "new_ice": 0, "nilas": 0, "young_ice": 1, "first_year_ice": 6, "open_water": 3,
    }  # fmt: skip
    assert found["as_first_year_km2"] == 6 and found["as_first_year_share"] == 0.15
    assert found["commission_km2"] == 3 and found["commission_share"] == pytest.approx(3 / 33)
    assert found["invented_from_km2"]["first_year_ice"] == 2 and found["invented_from_km2"]["open_water"] == 1


def test_omission_is_the_others_commission() -> None:
    prediction, reference = pair()
    a, b = values("old_ice", prediction, reference), values("old_ice", reference, prediction)
    assert (a["omission_km2"], a["omission_share"]) == (b["commission_km2"], b["commission_share"])
    assert a["omitted_as_km2"] == b["invented_from_km2"]


def test_first_year_ice_of_several_kinds() -> None:
    """AI4Arctic tells thin from thick first-year ice: old ice called either is called first-year ice."""
    reference = np.full((1, 10), 5, np.uint8)
    prediction = np.array([[5, 5, 3, 4, 4, 4, 2, 0, 0, 1]], np.uint8)
    assert old_ice(compared(prediction, reference, 1000.0, AI4ARCTIC)).values()["as_first_year_km2"] == 4
    assert "old ice" in old_ice(compared(np.ones((2, 2), np.uint8), np.ones((2, 2), np.uint8), 80.0, ICE_WATER))


def test_no_old_ice_anywhere() -> None:
    maps = [np.full((5, 5), FIRST, np.uint8)] * 2
    found = values("old_ice", *maps)
    assert found["omission_km2"] == 0 and found["omission_share"] is None and found["commission_share"] is None


# --- ice edge


def shelf(edge_px: int, shape: tuple[int, int] = (200, 300)) -> np.ndarray:
    """First-year ice left of a straight edge, water right of it."""
    classes = np.full(shape, WATER, np.uint8)
    classes[:, :edge_px] = FIRST
    return classes


def test_an_edge_moved_by_five_kilometres() -> None:
    """The mean, the percentile and Hausdorff are the distance; the area is the strip."""
    near, far = shelf(100), shelf(110)
    found = values("ice_edge", far, near)
    for way in ("prediction_to_reference", "reference_to_prediction"):
        assert found[f"{way}_mean_km"] == pytest.approx(5) and found[f"{way}_p95_km"] == pytest.approx(5)
    assert found["mean_distance_km"] == found["modified_hausdorff_km"] == pytest.approx(5)
    assert found["hausdorff95_km"] == pytest.approx(5)
    assert (found["over_km2"], found["under_km2"], found["iiee_km2"]) == (500, 0, 500)
    assert (found["absolute_extent_error_km2"], found["misplacement_km2"]) == (500, 0)
    assert found["predicted_edge_km"] == found["reference_edge_km"] == 100
    back = values("ice_edge", near, far)
    assert (back["over_km2"], back["under_km2"]) == (0, 500)
    assert back["mean_distance_km"] == pytest.approx(5)


def test_the_ice_edge_error_is_extent_error_and_misplacement() -> None:
    """Goessling et al. 2016: IIEE = O + U = |O - U| + 2 min(O, U), here by counting pixels of 0.25 km2."""
    predicted, reference = shelf(100), shelf(100)
    predicted[:50, 100:110] = FIRST  # 500 pixels of ice too many
    predicted[120:, 97:100] = WATER  # 240 pixels too few
    found = values("ice_edge", predicted, reference)
    assert (found["over_km2"], found["under_km2"], found["iiee_km2"]) == (125, 60, 185)
    assert (found["absolute_extent_error_km2"], found["misplacement_km2"]) == (65, 120)


def test_a_round_edge_moved_by_five_kilometres() -> None:
    rows, cols = np.indices((300, 300))
    radius = np.hypot(rows - 150, cols - 150)
    maps = [np.where(radius < r, FIRST, WATER).astype(np.uint8) for r in (90, 80)]
    found = values("ice_edge", *maps)
    assert found["mean_distance_km"] == pytest.approx(5, abs=0.25)
    assert found["hausdorff95_km"] == pytest.approx(5, abs=0.6)
    assert found["iiee_km2"] == pytest.approx(np.pi * (45**2 - 40**2), rel=0.02)


def test_swapping_the_maps_swaps_the_ways() -> None:
    a, b = values("ice_edge", *pair(2)), values("ice_edge", *pair(2)[::-1])
    assert a["prediction_to_reference_mean_km"] == b["reference_to_prediction_mean_km"]
    assert a["prediction_to_reference_p95_km"] == b["reference_to_prediction_p95_km"]
    assert (a["over_km2"], a["under_km2"]) == (b["under_km2"], b["over_km2"])
    for key in ("mean_distance_km", "hausdorff95_km", "iiee_km2", "misplacement_km2", "absolute_extent_error_km2"):
        assert a[key] == b[key], key
    assert a["mean_distance_km"] > 0


def test_a_stray_edge_decides_the_mean_but_not_the_percentile() -> None:
    near = shelf(100)
    far = near.copy()
    far[:8, 100:140] = FIRST  # 4 % of the edge lies 20 km out
    found = ice_edge(compared(far, near, PIXEL_M, LEGEND), window_km=0).values()
    assert found["prediction_to_reference_mean_km"] > 0.5
    assert found["reference_to_prediction_p95_km"] == 0


def test_distances_are_those_by_brute_force() -> None:
    maps = pair(7)
    here = (maps[0] != IGNORE) & (maps[1] != IGNORE)
    edges = [edge_pixels((m != WATER) & here, here) for m in maps]
    between = cdist(np.argwhere(edges[0]), np.argwhere(edges[1])) * PIXEL_M / 1000
    found = ice_edge(compared(*maps, PIXEL_M, LEGEND), window_km=0).values()
    assert found["prediction_to_reference_mean_km"] == pytest.approx(between.min(axis=1).mean())
    assert found["reference_to_prediction_mean_km"] == pytest.approx(between.min(axis=0).mean())
    for way, axis in (("prediction_to_reference", 1), ("reference_to_prediction", 0)):
        exact = np.quantile(between.min(axis=axis), 0.95, method="inverted_cdf")
        assert found[f"{way}_p95_km"] == pytest.approx(exact, abs=0.0501)


def test_distances_stay_exact_far_away() -> None:
    """OpenCV's distances over a large raster against scipy's."""
    edge = np.zeros((1500, 2100), bool)
    edge[::701, ::499] = True
    maps = [np.where(e, FIRST, WATER).astype(np.uint8) for e in (edge, np.roll(edge, (31, 97), (0, 1)))]
    found = ice_edge(compared(*maps, 1000.0, LEGEND), window_km=0).values()
    exact = [distance_transform_edt(maps[1 - i] != FIRST)[maps[i] == FIRST].mean() for i in (0, 1)]
    assert found["prediction_to_reference_mean_km"] == pytest.approx(exact[0], rel=1e-6)
    assert found["reference_to_prediction_mean_km"] == pytest.approx(exact[1], rel=1e-6)


def test_where_the_ice_meets_nothing_known_is_no_edge() -> None:
    """Land or no data between ice and water, and the scene's border."""
    apart = shelf(100)
    apart[:, 98:102] = IGNORE
    found = values("ice_edge", apart, apart)
    assert found["predicted_edge_km"] == found["reference_edge_km"] == 0
    assert found["mean_distance_km"] is None and found["hausdorff95_km"] is None
    assert found["no_distance_because"] == "there is no ice edge in either map"


def test_an_edge_in_one_map_only() -> None:
    ice, edge = np.full((200, 300), FIRST, np.uint8), shelf(100)
    for maps, missing in (((ice, edge), "prediction"), ((edge, ice), "reference")):
        found = values("ice_edge", *maps)
        assert found["no_distance_because"] == f"there is no ice edge in the {missing}"
        assert found["mean_distance_km"] is None
        assert found["iiee_km2"] == 200 * 200 * 0.25, "the area is known all the same"
    both = amounts("ice_edge", ice, edge) + amounts("ice_edge", shelf(104), edge)
    assert both.scenes.tolist() == [1, 0, 1, 0]
    assert both.values()["mean_distance_km"] == pytest.approx(2), "of the scene that has both"
    neither = amounts("ice_edge", ice, edge) + amounts("ice_edge", edge, ice)
    assert neither.values()["no_distance_because"] == "no scene has an ice edge in both maps"


def test_specks_and_floes_are_no_edge() -> None:
    clean = shelf(100)
    speckled = clean.copy()
    speckled[10::20, 10::20] = WATER
    speckled[10::20, 130::20] = OLD
    assert (speckled != clean).sum() > 100
    found = values("ice_edge", speckled, clean)
    assert found["mean_distance_km"] == 0 and found["iiee_km2"] == 0
    raw = ice_edge(compared(speckled, clean, PIXEL_M, LEGEND), window_km=0).values()
    assert raw["mean_distance_km"] > 10 and raw["iiee_km2"] > 0


def test_a_polynya_has_an_edge() -> None:
    polynya = np.full((200, 300), FIRST, np.uint8)
    polynya[80:120, 100:160] = WATER
    found = values("ice_edge", polynya, polynya)
    assert found["predicted_edge_km"] == pytest.approx(100, rel=0.1)


def test_generalising_treats_ice_and_water_alike() -> None:
    rng = np.random.default_rng(0)
    ice, here = rng.random((60, 70)) < 0.5, rng.random((60, 70)) < 0.8
    ice &= here
    a, b = generalise(ice, here, 5), generalise(here & ~ice, here, 5)
    assert (a ^ b)[here].all() and not (a | b)[~here].any()
    by_hand = np.zeros_like(ice)
    for r, c in np.argwhere(here):
        window = np.s_[max(r - 2, 0) : r + 3, max(c - 2, 0) : c + 3]
        n, voters = ice[window].sum(), here[window].sum()
        by_hand[r, c] = 2 * n > voters or (2 * n == voters and ice[r, c])
    assert (a == by_hand).all()
    assert (generalise(ice, here, 1) == ice).all()
    wide = generalise(np.ones((300, 300), bool), np.ones((300, 300), bool), 257)
    assert wide.all(), "windows of more pixels than 16 bits count"


def test_windows_are_odd_and_near_what_was_asked() -> None:
    assert [window_px(5, m) for m in (80, 500, 800, 2000, 20000)] == [63, 9, 7, 3, 1]
    assert window_px(0, 80) == 1
    with pytest.raises(ConfigError, match="window"):
        ice_edge(compared(*pair(), PIXEL_M, LEGEND), window_km=-1)


def test_windows_of_more_than_half_of_what_16_bits_count() -> None:
    """201 x 201 pixels are fewer than 65,536, and twice as many are more."""
    assert generalise(np.ones((210, 210), bool), np.ones((210, 210), bool), 201).all()
