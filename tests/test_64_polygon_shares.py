"""The check of polygons: by hand, against the scores of an evaluation, and whatever the blocks."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from floemap.evaluation.checks.amounts import ByBlock
from floemap.evaluation.checks.classes import MapPair
from floemap.evaluation.checks.polygon_shares import NO_POLYGONS, PolygonAmounts, polygon_shares
from floemap.evaluation.scoring.polygons import PolygonCounts
from floemap.evaluation.statistics.blocks import BlockGrid
from floemap.icechart.label.polygon_table import PolygonTable
from floemap.legend import IGNORE, SIX_CLASSES

Raster = NDArray[np.uint8]


def table(fractions: list[list[float]]) -> PolygonTable:
    """Polygons with these shares of the six classes, and the unknown share last."""
    rows = np.array([[0.0] * 6 + [1.0], *fractions])
    known, number = rows[:, :-1], len(rows)
    return PolygonTable(
        classes=tuple(c.key for c in SIX_CLASSES.classes),
        features=np.arange(-1, number - 1),
        poly_types=("",) * number,
        codes={},
        rules=("", *["largest"] * (number - 1)),
        fractions=rows,
        dominant=np.where(known.max(axis=1) > 0, known.argmax(axis=1), IGNORE).astype(np.uint8),
        candidates=known > 0,
        concentration=np.ones(number, np.float32),
        pixels=np.full(number, 10),
        area_km2=np.full(number, 1.0),
    )


def measured(
    prediction: Raster,
    ids: NDArray[np.uint16],
    polygons: PolygonTable,
    truth: Raster | None = None,
    block_m: float = 1e6,
    land: NDArray[np.bool_] | None = None,
) -> ByBlock[PolygonAmounts]:
    chart = polygons.dominant[ids]
    if land is not None:
        chart[land] = IGNORE
    grid = BlockGrid.of(chart, 1000.0, block_m)
    maps = MapPair(prediction, chart, 1000.0, SIX_CLASSES, grid)
    found = polygon_shares(maps, chart, truth, ids, polygons)
    assert not isinstance(found, str)
    return found


def test_by_hand() -> None:
    """A pure polygon, a mixed one, one that is half unknown; two pixels without a prediction, two without polygon."""
    polygons = table([[1, 0, 0, 0, 0, 0, 0], [0.6, 0.4, 0, 0, 0, 0, 0], [0.5, 0, 0, 0, 0, 0, 0.5]])
    ids = np.array([[1, 1, 1, 1, 1, 2, 2, 2, 2, 2, 2, 3, 3, 0, 0]], np.uint16)
    seen = np.array([[0, 0, 0, 5, 255, 0, 1, 1, 1, 0, 255, 0, 0, 0, 1]], np.uint8)
    true = np.array([[0, 0, 0, 0, 0, 0, 1, 0, 1, 1, 1, 0, 0, 0, 0]], np.uint8)
    values = measured(seen, ids, polygons, true).values()
    # Polygon 1: 3 of 4 right, error 1/4. Polygon 2: 2/5 and 3/5 against 0.6 and 0.4, error 0.2. Weights 4 and 5.
    assert values["polygons"] == 2
    assert values["share_error"] == pytest.approx((4 * 0.25 + 5 * 0.2) / 9)
    assert values["shares"]["new_ice"]["mean_absolute_error"] == pytest.approx((4 * 0.25 + 5 * 0.2) / 9)
    assert values["shares"]["nilas"]["bias"] == pytest.approx(5 * 0.2 / 9)
    assert values["shares"]["old_ice"]["r2"] is None, "the chart has none anywhere"
    # More than half: both, right in the first only. From 65 %: the first.
    assert values["dominant_50"] == pytest.approx(4 / 9)
    assert values["dominant_65"] == 1
    # In polygon 2 the pixels that have a prediction: 0 1 1 1 0 against 0 1 0 1 1.
    assert values["truth_in_mixed"] == pytest.approx(3 / 5)
    # In pure polygons 3 of 4 are new ice: precision 1, recall 3/4.
    assert values["pure_weighted_f1"] == pytest.approx(2 * 0.75 / 1.75)
    assert measured(seen, ids, polygons).values()["truth_in_mixed"] is None


@pytest.fixture
def drawn() -> tuple[Raster, NDArray[np.uint16], PolygonTable, Raster]:
    rng = np.random.default_rng(3)
    shares = rng.dirichlet(np.full(6, 0.5), 24).round(1)
    shares /= shares.sum(axis=1, keepdims=True)
    polygons = table([[*row, 0.0] for row in shares])
    rows, cols = np.indices((80, 120)) // 20
    ids = (1 + rows * 6 + cols).astype(np.uint16)
    truth = np.array([rng.choice(6, p=shares[i - 1]) for i in ids.ravel()], np.uint8).reshape(ids.shape)
    prediction = np.where(rng.random(ids.shape) < 0.7, truth, rng.integers(0, 6, ids.shape)).astype(np.uint8)
    prediction[:3] = 255
    return prediction, ids, polygons, truth


def test_it_agrees_with_the_scores_of_an_evaluation(
    drawn: tuple[Raster, NDArray[np.uint16], PolygonTable, Raster],
) -> None:
    prediction, ids, polygons, truth = drawn
    land = np.zeros(ids.shape, bool)
    land[30:50, 10:90] = True  # the map has a class there
    counts = PolygonCounts(polygons)
    counts.add(ids, prediction, np.where(land, np.uint8(IGNORE), polygons.dominant[ids]), truth)
    scores, values = counts.as_dict(with_truth=True), measured(prediction, ids, polygons, truth, land=land).values()
    assert values != measured(prediction, ids, polygons, truth).values()
    assert values["polygons"] == scores["polygons"]
    assert values["share_error"] == pytest.approx(scores["error_of_shares"])
    assert values["truth_in_mixed"] == pytest.approx(scores["truth_in_mixed"]["accuracy"])
    for percent in ("50", "65"):
        assert values[f"dominant_{percent}"] == pytest.approx(scores["dominant"][percent]["right_by_area"])
    for key, own in scores["shares"].items():
        assert values["shares"][key] == pytest.approx(own), key


@pytest.mark.parametrize("block_m", [7_000.0, 20_000.0, 33_000.0])
def test_blocks_do_not_change_a_scene_and_do_not_cut_polygons(
    block_m: float, drawn: tuple[Raster, NDArray[np.uint16], PolygonTable, Raster]
) -> None:
    prediction, ids, polygons, truth = drawn
    whole = measured(prediction, ids, polygons, truth)
    parts = measured(prediction, ids, polygons, truth, block_m)
    assert parts.amounts["polygons"].sum() == 24 and len(parts.amounts["polygons"]) > 4
    assert (parts.amounts["polygons"] == np.rint(parts.amounts["polygons"])).all()
    assert parts.values()["share_error"] == pytest.approx(whole.values()["share_error"])
    assert parts.values()["pure_weighted_f1"] == pytest.approx(whole.values()["pure_weighted_f1"])


def test_a_polygon_is_counted_in_the_block_that_contains_most_of_it() -> None:
    """Also where blocks have more rows than are read at a time."""
    rng = np.random.default_rng(0)
    polygons = table([list(np.eye(7)[i % 6]) for i in range(30)])
    ids = np.zeros((1100, 60), np.uint16)
    for i in range(30):  # a bar in each of two blocks, in a column of its own
        for col in (i, 30 + i):
            top, bottom = np.sort(rng.integers(0, 1101, 2))
            ids[top:bottom, col] = i + 1
    chart = polygons.dominant[ids]
    grid = BlockGrid(np.array([0, 1100]), np.array([0, 30, 60]), np.ones((1, 2), bool))
    maps = MapPair(np.zeros(ids.shape, np.uint8), chart, 1000.0, SIX_CLASSES, grid)
    found = polygon_shares(maps, chart, None, ids, polygons)
    assert not isinstance(found, str)
    halves = np.stack([np.bincount(half.ravel(), minlength=31)[1:] for half in np.split(ids, 2, axis=1)])
    left = halves[0] >= halves[1]
    assert found.amounts["polygons"].tolist() == [left.sum(), (~left).sum()]
    assert found.amounts["pixels"].tolist() == [halves.sum(axis=0)[side].sum() for side in (left, ~left)]


def test_shares_that_are_right_have_no_error_wherever_the_types_lie() -> None:
    polygons = table([[0.5, 0.5, 0, 0, 0, 0, 0], [0, 0, 0, 0.2, 0.8, 0, 0]])
    ids = np.repeat(np.array([[1, 2]], np.uint16), 10, axis=1)
    seen = np.array([[0, 1] * 5 + [3, 4, 4, 4, 4] * 2], np.uint8)
    values = measured(seen, ids, polygons).values()
    assert values["share_error"] == pytest.approx(0) and values["r2"] == pytest.approx(1)
    dominant = measured(polygons.dominant[ids], ids, polygons).values()
    assert dominant["share_error"] == pytest.approx((0.5 + 0.2) / 2), "what a map of the dominant types cannot show"


def test_labels_without_polygons_say_so() -> None:
    chart = np.zeros((4, 4), np.uint8)
    maps = MapPair(chart, chart, 1000.0, SIX_CLASSES)
    assert polygon_shares(maps, chart, None, None, None) == NO_POLYGONS


def test_more_than_a_hundredth_unknown_does_not_count() -> None:
    some = table([[0.98, 0, 0, 0, 0, 0, 0.02]])
    ids = np.ones((3, 3), np.uint16)
    found = measured(np.zeros((3, 3), np.uint8), ids, some).values()
    assert (found["polygons"], found["share_error"]) == (0, None)
    less = replace(some, fractions=np.array([some.fractions[0], [0.995, 0, 0, 0, 0, 0, 0.005]]))
    assert measured(np.zeros((3, 3), np.uint8), ids, less).values()["polygons"] == 1
