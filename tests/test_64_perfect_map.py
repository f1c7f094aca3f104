"""No map is better than the one it is compared with: in no check, whatever the other map, on pixels of any size."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from itertools import combinations
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from check_maps import FIRST, LEGEND, OLD, WATER, YOUNG, Classes, compared, in_one
from checks_lab import faults
from checks_lab.grounds import Ground, TwinGround
from checks_lab.reactions import FAULTS, check_map
from run_maker import make_run
from scipy.ndimage import gaussian_filter

from floemap.errors import ConfigError
from floemap.evaluation.checks.confidence import confidence
from floemap.evaluation.checks.fragmentation import FragmentationAmounts, fragmentation
from floemap.evaluation.checks.ice_edge import ice_edge
from floemap.evaluation.checks.measures import Measure
from floemap.evaluation.checks.neighbours import impossible_neighbours
from floemap.evaluation.checks.old_ice import old_ice
from floemap.evaluation.checks.scene_checks import CHECKS as ALL_CHECKS
from floemap.evaluation.checks.scene_checks import MEASURES as ALL_MEASURES
from floemap.evaluation.checks.scene_checks import entry
from floemap.evaluation.checks.season import season
from floemap.evaluation.checks.sensor import angle, seams
from floemap.evaluation.risk.operations import areas_by_level, false_safe_km2, mean_understated
from floemap.evaluation.scoring.confusion import confusion
from floemap.evaluation.scoring.ordinal import mean_ordinal_error, ordinal_positions
from floemap.evaluation.scoring.scores import scores
from floemap.evaluation.statistics.blocks import block_confusions
from floemap.icechart.polaris import class_levels, risk_values
from floemap.legend import IGNORE, LEGENDS, Legend
from floemap.report.measures import UNDERSTATED_SHIP, measures, ships
from floemap.report.numbers import measure_all
from floemap.report.page import Pictures, render_page
from floemap.report.report import assess_charts, assess_run
from floemap.report.run_folder import read_run

#: Of maps alone. Partial concentrations are no map: test_64_polygon_shares has their laws.
CHECKS = {key: kind for key, kind in ALL_CHECKS.items() if key != "polygons"}
MEASURES = tuple(m for m in ALL_MEASURES if m.check != "polygons")

Found = dict[str, dict[str, Any]]


def entries(ground: Ground, prediction: Classes) -> Found:
    """All checks of a map that is certain of itself."""
    p = faults.stated_probabilities(prediction, ground.legend, 1.0)
    found = check_map(ground, prediction, p)
    return {key: entry(a if isinstance(a, str) else a.scene()) for key, a in found.items()}


def majority(classes: Classes, size: int) -> Classes:
    """What most pixels of the window around are: an over-smooth map."""
    votes = np.stack([cv2.boxFilter((classes == k).astype(np.float32), -1, (size, size)) for k in range(len(LEGEND))])
    return np.where(classes == IGNORE, np.uint8(IGNORE), votes.argmax(axis=0).astype(np.uint8))


def worse_maps(ground: Ground) -> Iterator[tuple[str, Classes]]:
    """Maps that are wrong in many ways, each made of the reference."""
    right = ground.reference
    for fault in FAULTS:
        if fault.check != "confidence":  # which changes no class
            yield fault.title, fault.apply(ground)
    for size in (3, 9, 31):
        yield f"over-smooth, {size} pixels", majority(right, size)
    for c in LEGEND.classes:  # of water: a map without ice
        yield f"all {c.title}", np.where(right == IGNORE, right, np.uint8(c.id))
    rng = np.random.default_rng(0)
    yield "noise", np.where(right == IGNORE, right, rng.integers(0, 6, right.shape).astype(np.uint8))
    yield "moved", np.where(right == IGNORE, right, np.roll(right, (9, 5), axis=(0, 1)))
    yield "turned", np.where(right == IGNORE, right, right[::-1, ::-1])


def badness(h: Measure, checks: Found) -> float | None:
    number = h.of(checks)
    return None if number is None else h.badness(number, h.of_reference(checks))


@pytest.mark.parametrize("reference", ["chart", "truth"])
@pytest.mark.parametrize("month", [0, 1], ids=["January", "July"])
def test_the_reference_is_best_in_every_check(
    reference: str, month: int, twin_grounds: tuple[TwinGround, TwinGround]
) -> None:
    """The chart by itself; and the truth, where it is the reference, also before the chart."""
    twin = twin_grounds[month]
    ground = twin.ground if reference == "chart" else replace(twin.ground, reference=twin.truth)
    best = entries(ground, ground.reference)
    others = {title: entries(ground, classes) for title, classes in worse_maps(ground)}
    if reference == "truth":
        others["the chart"] = entries(ground, twin.ground.reference)
    told_apart = set()
    for h in MEASURES:
        own = badness(h, best)
        if not best[h.check]["applies"]:
            assert (h.check, month) == ("season", 0)
            continue
        assert own == 0, h.key
        for title, found in others.items():
            bad = badness(h, found)
            assert bad is None or bad >= 0, (h.key, title)
            if bad is not None and bad > 0.01:
                told_apart.add(h.key)
    assert told_apart == {h.key for h in MEASURES if best[h.check]["applies"]}, "each finds a map that is worse"


# --- through files, as the report has it


def test_a_map_that_is_the_chart_is_best_in_every_row(tmp_path: Path) -> None:
    run = read_run(make_run(tmp_path / "run", repeats=1, exact={"focal": "chart"}))
    numbers = measure_all(assess_run(run), run.legend, assess_charts(run), resamples=200)
    assert numbers.reference == "chart"
    ranked = [r for r in numbers.rows if r.badness]
    assert {r.measure.key for r in ranked} == {m.key for m in measures(run.legend) if m.check != "polygons"}
    alike = {r.measure.key for r in ranked if min(r.badness.values()) == max(r.badness.values())}
    assert alike <= {"false_safe_none_km2"}, "in all others one of the made-up maps is worse"
    for row in ranked:
        assert row.badness["focal"] == min(row.badness.values()), row.measure.key
        # What the row says of the chart itself is what that map has. A chart states no probabilities.
        sure = row.measure.key in ("ece", "brier", "wrong_in_surer_half")
        assert row.chart == (None if sure else pytest.approx(row.spreads["focal"].value)), row.measure.key
        assert row.truth is None


def test_a_map_that_is_the_truth_is_best_in_every_check(tmp_path: Path) -> None:
    """Also before a map that is the chart, which is best by score alone; and rows say of both what these maps have."""
    exact = {"focal": "truth", "dice": "chart"}
    run = read_run(make_run(tmp_path / "run", repeats=1, truth=True, exact=exact))
    numbers = measure_all(assess_run(run), run.legend, assess_charts(run), resamples=200)
    assert numbers.reference == "truth"
    for row in (r for r in numbers.rows if r.measure.check != "polygons"):
        key = row.measure.key
        sure = key in ("ece", "brier", "wrong_in_surer_half")
        assert row.chart == (None if sure else pytest.approx(row.spreads["dice"].value)), key
        assert row.truth == (None if sure else pytest.approx(row.spreads["focal"].value)), key
        assert numbers.reference_of(row) == ("chart" if row.measure.scored else "truth")
        if row.badness:
            best = "dice" if row.measure.scored else "focal"
            assert row.badness[best] == min(row.badness.values()) < max(row.badness.values()), key


def test_the_truth_of_some_scenes_is_none(tmp_path: Path) -> None:
    """Numbers of all scenes together are of one kind: without the truth of all, the charts are the reference."""
    run = read_run(make_run(tmp_path / "run", losses=("dice", "focal"), repeats=1, truth=True))
    assert set(run.truths) == {"01", "07"} and run.truths_gone == ()
    (tmp_path / "truth" / "07.tif").unlink()
    run = read_run(tmp_path / "run")
    assert run.truths == {}
    numbers = measure_all(assess_run(run), run.legend, assess_charts(run), resamples=200)
    assert numbers.reference == "chart" and all(r.truth is None for r in numbers.rows)
    page = render_page(run, numbers, [], Pictures({}, {}, [], []), datetime.now(UTC))
    linked = render_page(run, numbers, [], Pictures({}, {}, [], []), datetime.now(UTC), map_page="../map/index.html")
    assert "<code>floemap view run</code>" in page and 'href="../map/index.html"' not in page
    assert 'href="../map/index.html"' in linked
    assert "The truth of July 2018 is missing" in page and "against the truth" not in page


# --- rows that are equal by construction


@pytest.mark.parametrize("legend", LEGENDS.values(), ids=lambda legend: legend.name)
def test_no_two_measures_are_the_same(legend: Legend) -> None:
    """On maps drawn at random, no two give equal numbers everywhere."""
    found: dict[str, list[float | None]] = {m.key: [] for m in measures(legend) if m.check != "polygons"}
    for seed in range(6):
        numbers = every_measure(legend, *random_maps(legend, seed))
        assert set(numbers) == set(found), "each has its number here"
        for key, number in numbers.items():
            found[key].append(number)
    known = {key: np.array(numbers, float) for key, numbers in found.items()}
    assert any(np.isfinite(numbers).all() for numbers in known.values())
    for a, b in combinations((k for k, v in known.items() if np.isfinite(v).all()), 2):
        assert not np.allclose(known[a], known[b], rtol=1e-6), f"{a} and {b} are one row"


def random_maps(legend: Legend, seed: int) -> tuple[Classes, Classes]:
    rng = np.random.default_rng(seed)
    maps = []
    for _ in range(2):
        field: np.ndarray = gaussian_filter(rng.normal(size=(len(legend), 120, 160)), (0, 4, 4))
        maps.append((field * rng.uniform(0.7, 1.3, (len(legend), 1, 1))).argmax(axis=0).astype(np.uint8))
    take = gaussian_filter(rng.normal(size=(120, 160)), 5) > 0.02
    return np.where(take, maps[0], maps[1]), maps[1]


def every_measure(legend: Legend, prediction: Classes, reference: Classes) -> dict[str, float | None]:
    checks = every_check(legend, prediction, reference, 800.0)
    counts = block_confusions(reference, prediction, len(legend), 800.0)
    score = scores(confusion(reference, prediction, len(legend)))
    found: dict[str, float | None] = {h.key: h.of(checks) for h in MEASURES}
    found |= {"weighted_f1": score.weighted_f1, "macro_f1": score.macro_f1}
    found["ordinal_error"] = float(mean_ordinal_error(counts.sum(axis=0), ordinal_positions(legend)))
    if ships(legend):
        understated = mean_understated(counts.sum(axis=0), risk_values(legend, UNDERSTATED_SHIP))
        found["risk_understated"] = float(understated)
    for same in ships(legend):
        areas = [areas_by_level(counts.sum(axis=0), class_levels(legend, ship), 800.0) for ship in same]
        km2 = [float(false_safe_km2(a)) for a in areas]
        assert len(set(km2)) == 1, "ships in one row are as safe and as unsafe"
        found[f"false_safe_{same[0]}_km2"] = km2[0]
    return found


def every_check(legend: Legend, prediction: Classes, reference: Classes, pixel_m: float) -> Found:
    maps = compared(prediction, reference, pixel_m, legend)
    cols = np.indices(prediction.shape)[1] * pixel_m
    middle = cols[0, -1] / 2
    # Surer on one side than on the other, by chance of where it is wrong.
    p, q = (faults.stated_probabilities(prediction, legend, chance) for chance in (0.9, 0.7))
    p[:, cols > middle] = q[:, cols > middle]
    found = {
        "season": season(maps, True),
        "old_ice": old_ice(maps),
        "ice_edge": ice_edge(maps),
        "fragmentation": fragmentation(maps),
        "neighbours": impossible_neighbours(maps),
        "seams": seams(maps, np.abs(cols - middle) <= 1000 + pixel_m / 2),
        "angle": angle(maps, in_one(20 + 26 * cols / cols.max())),
        "confidence": confidence(maps, lambda window: p[:, window[0], window[1]], 1 / 250),
    }
    assert set(found) == set(CHECKS)
    return {key: entry(a if isinstance(a, str) else a.scene()) for key, a in found.items()}


# --- pixels of two sizes


def world(pixel_m: float, *, size_m: float = 96_000.0, fine_m: float = 80.0) -> tuple[Classes, Classes]:
    """One and the same map and reference on pixels of some size: (prediction, reference).

    Pieces are 10 km and larger, but for old ice along a part of the ice edge and scattered on the water, which are 1.6
    km wide.
    """
    n = round(size_m / fine_m)
    y, x = (np.indices((n, n)) + 0.5) * fine_m / 1000  # km
    edge = 54 + 8 * np.sin(y / 9) + 3 * np.sin(y / 4)
    reference = np.where(x < edge, np.uint8(FIRST), np.uint8(WATER))
    reference[(np.hypot(x - 25, y - 28) < 12) | (np.hypot(x - 20, y - 72) < 9)] = OLD
    reference[np.hypot(x - 38, y - 52) < 6] = YOUNG
    prediction = np.where(x < edge + 3 * np.sin(y / 14), np.uint8(FIRST), np.uint8(WATER))
    prediction[np.hypot(x - 29, y - 28) < 12] = OLD
    prediction[(np.hypot(x - 38, y - 52) < 8) | (np.hypot(x - 40, y - 80) < 5)] = YOUNG
    water = prediction == WATER
    beside = cv2.dilate((~water).view(np.uint8), np.ones((1, 2 * round(1600 / fine_m) + 1), np.uint8)) > 0
    prediction[beside & water & (y > 62)] = OLD
    for row, col in ((12, 78), (36, 84), (45, 76), (24, 72)):
        prediction[(np.abs(y - row) < 0.8) & (np.abs(x - col) < 0.8)] = OLD
    step = round(pixel_m / fine_m)
    middle = slice(step // 2, None, step)
    return np.ascontiguousarray(prediction[middle, middle]), np.ascontiguousarray(reference[middle, middle])


#: How far a number on coarse pixels may be from the one on pixels of 80 m, as a share of it.
TOLERANCE = 0.2


@pytest.fixture(scope="module")
def fine() -> Found:
    """All checks of that world on pixels of 80 m."""
    return every_check(LEGEND, *world(80.0), 80.0)


@pytest.mark.parametrize("pixel_m", [240.0, 400.0, 800.0])
def test_one_world_gives_one_number_on_pixels_of_any_size(pixel_m: float, fine: Found) -> None:
    coarse = every_check(LEGEND, *world(pixel_m), pixel_m)
    for h in MEASURES:
        a, b = h.of(fine), h.of(coarse)
        assert a is not None and b is not None and a > 0, h.key
        assert b == pytest.approx(a, rel=TOLERANCE, abs=3 * h.least), h.key
        of_reference = h.of_reference(fine), h.of_reference(coarse)
        assert of_reference[1] == pytest.approx(of_reference[0], rel=TOLERANCE, abs=3 * h.least), h.key


def test_what_depends_on_the_size_of_pixels_is_not_mixed() -> None:
    """Noise of single pixels is as fine as they are, so its pieces are counted on pixels of one size only."""
    rng = np.random.default_rng(0)
    parts: list[FragmentationAmounts] = []
    for pixel_m in (80.0, 800.0):
        prediction, reference = world(pixel_m)
        noisy = np.where(rng.random(prediction.shape) < 0.02, np.uint8(YOUNG), prediction)
        found = fragmentation(compared(noisy, reference, pixel_m))
        assert not isinstance(found, str)
        parts.append(found.scene())
    assert parts[0].patches[0].sum() > 30 * parts[1].patches[0].sum()
    with pytest.raises(ConfigError, match="pixel_m"):
        FragmentationAmounts.total(parts)
    by_pixel = {h.check for h in MEASURES if h.by_pixel}
    assert by_pixel == {key for key, kind in CHECKS.items() if "pixel_m" in kind.SETTINGS}


def test_pixels_that_cannot_show_the_width_are_refused() -> None:
    checks = every_check(LEGEND, *world(1600.0), 1600.0)
    assert not checks["neighbours"]["applies"] and "1600 m" in checks["neighbours"]["reason"]
