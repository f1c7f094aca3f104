"""Spread: counts by block, the bootstrap, and whether losses can be told apart."""

from __future__ import annotations

import dataclasses
import importlib.util
import json
import sys
import tracemalloc
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from floemap.errors import ConfigError, GridError
from floemap.evaluation.risk.operations import areas_by_level, false_safe_km2
from floemap.evaluation.scoring.block_edges import block_edges
from floemap.evaluation.scoring.confusion import Confusion, confusion
from floemap.evaluation.scoring.scores import class_f1, mean_f1, scores
from floemap.evaluation.statistics.blocks import block_confusions
from floemap.evaluation.statistics.bootstrap import FEW_SCENES, MIN_BLOCKS, mean_of_defined, resample
from floemap.evaluation.statistics.compare import difference, holm
from floemap.evaluation.statistics.spread import Spread, spread
from floemap.icechart.polaris import class_levels
from floemap.legend import IGNORE, SIX_CLASSES

rasters = hnp.arrays(np.uint8, (11, 17), elements=st.sampled_from([*range(3), IGNORE]))


Floats = NDArray[np.float64]


def share(counts: Floats) -> Floats:
    """Right pixels of all pixels: counts are (..., 2)."""
    return counts[..., 0] / counts[..., 1]


def blocks_of(rng: np.random.Generator, n: int, truth: float = 0.8, size: int = 100) -> Floats:
    """Counts of blocks that are independent, each with its own share of right pixels, `truth` on average."""
    right = rng.beta(8 * truth, 8 * (1 - truth), n) * size
    return np.stack([right, np.full(n, size)], axis=1)


def interval(repeats: Any, statistic: Any, *, across: Any = "mean", level: float = 0.9, **how: Any) -> Spread:
    """The spread of one loss, of one training or of several."""
    repeats = [repeats] if isinstance(repeats, dict) else repeats
    return spread(resample({"it": repeats}, **how).evaluate(statistic, across), "it", level=level)


# Blocks


@given(st.integers(1, 5000), st.floats(10, 500), st.floats(500, 90_000))
def test_blocks_cover_a_side_evenly(length_px: int, pixel_m: float, block_m: float) -> None:
    edges = block_edges(length_px, pixel_m, block_m)
    sizes = np.diff(edges)
    assert edges[0] == 0
    assert edges[-1] == length_px
    assert sizes.min() >= 1
    assert np.ptp(sizes) <= 1
    if len(sizes) > 1:
        assert 0.6 < length_px * pixel_m / len(sizes) / block_m < 1.5


@given(rasters, rasters, st.integers(1, 20))
def test_blocks_sum_up_to_the_scene(reference: NDArray[np.uint8], prediction: NDArray[np.uint8], block_px: int) -> None:
    blocks = block_confusions(reference, prediction, 3, 100, 100 * block_px)
    assert np.array_equal(blocks.sum(axis=0), confusion(reference, prediction, 3).counts)


@settings(max_examples=30)
@given(rasters, rasters, rasters, st.integers(1, 20))
def test_all_predictions_have_the_same_blocks(
    reference: NDArray[np.uint8], one: NDArray[np.uint8], other: NDArray[np.uint8], block_px: int
) -> None:
    a, b = (block_confusions(reference, p, 3, 100, 100 * block_px) for p in (one, other))
    assert a.shape == b.shape


def test_tiles_cut_between_blocks_give_the_same_blocks() -> None:
    rng = np.random.default_rng(0)
    reference, prediction = rng.integers(0, 3, (2, 40, 60), np.uint8)
    whole = block_confusions(reference, prediction, 3, 100, 1000)
    tiles = [block_confusions(reference[r : r + 20], prediction[r : r + 20], 3, 100, 1000) for r in (0, 20)]
    assert len(whole) == 24
    np.testing.assert_array_equal(whole, np.concatenate(tiles))


def test_blocks_without_a_reference_are_left_out() -> None:
    reference = np.zeros((40, 60), np.uint8)
    reference[:20] = IGNORE
    prediction = np.zeros((40, 60), np.uint8)
    assert len(block_confusions(reference, prediction, 3, 100, 1000)) == 12
    # A reference without a prediction stays: it is the same block for other losses.
    assert len(block_confusions(prediction, reference, 3, 100, 1000)) == 24
    assert block_confusions(np.full((40, 60), IGNORE, np.uint8), prediction, 3, 100, 1000).shape == (0, 3, 3)


def test_blocks_refuse_what_does_not_fit() -> None:
    raster = np.zeros((4, 4), np.uint8)
    with pytest.raises(GridError, match="shapes"):
        block_confusions(raster, raster[:3], 3, 100)
    with pytest.raises(GridError, match="without a pixel"):
        block_edges(0, 100)
    with pytest.raises(ConfigError, match="blocks of 50 m from pixels of 100 m"):
        block_confusions(raster, raster, 3, 100, 50)
    with pytest.raises(ConfigError, match="7 at 16 pixels"):
        block_confusions(raster + np.uint8(7), raster, 3, 100)


# Intervals


def test_an_interval_covers_as_often_as_it_says() -> None:
    rng = np.random.default_rng(1)
    hits = 0
    for trial in range(200):
        found = interval({"scene": blocks_of(rng, 60)}, share, n=400, seed=trial)
        hits += found.low <= 0.8 <= found.high
    assert 0.80 <= hits / 200 <= 0.97


@pytest.mark.parametrize("blocks", [10, 20, 60])
def test_an_interval_of_normal_blocks_is_as_wide_as_students(blocks: int) -> None:
    """Ten blocks do not show how much blocks differ as well as sixty do."""
    rng = np.random.default_rng(12)
    ratios = []
    for trial in range(60):
        right = rng.normal(0.5, 0.05, blocks)
        found = interval({"scene": np.stack([right, np.ones(blocks)], axis=1)}, share, n=2000, seed=trial)
        low, high = scipy.stats.t.interval(0.9, blocks - 1, right.mean(), scipy.stats.sem(right))
        ratios.append((found.high - found.low) / (high - low))
    assert np.mean(ratios) == pytest.approx(1, abs=0.02)


def test_blocks_smaller_than_errors_are_far_too_sure() -> None:
    # 384 km in pixels of 2 km, errors that hang together over 16 km; block_confusions takes its time for small blocks.
    rng = np.random.default_rng(2)
    covered = {8000: 0, 64_000: 0}
    truth = scipy.stats.norm.cdf(0.9)
    for trial in range(40):
        field: NDArray[Any] = gaussian_filter(rng.standard_normal((192, 192)), 4, mode="wrap")
        right = field < 0.9 / (8 * np.sqrt(np.pi))  # the smoothed field's standard deviation is 1 / (2 sqrt(pi) sigma)
        for block_m in covered:
            side = block_m // 2000
            in_block = right.reshape(192 // side, side, 192 // side, side).sum(axis=(1, 3)).ravel()
            sums = np.stack([in_block, np.full(len(in_block), side**2)], axis=1)
            found = interval({"scene": sums}, share, n=200, seed=trial)
            covered[block_m] += found.low <= truth <= found.high
    assert covered[8000] < 26
    assert covered[64_000] >= 28


def test_one_scene_is_what_scipy_finds() -> None:
    counts = blocks_of(np.random.default_rng(3), 80)
    ours = interval({"scene": counts}, share, n=20_000, seed=0)
    theirs = scipy.stats.bootstrap(
        (counts[:, 0], counts[:, 1]),
        lambda right, all_, axis: right.sum(axis=axis) / all_.sum(axis=axis),
        paired=True,
        n_resamples=20_000,
        confidence_level=0.9,
        method="percentile",
        rng=np.random.default_rng(0),
    ).confidence_interval
    width = ours.high - ours.low
    assert abs(ours.low - theirs.low) < 0.03 * width
    assert abs(ours.high - theirs.high) < 0.03 * width


def test_sums_over_draws_have_the_mean_and_the_variance_of_sums() -> None:
    """Of n independent blocks a sum varies by n times the sample's variance, however few they are."""
    rng = np.random.default_rng(4)
    for blocks in ((10,), (2, 3, 5)):
        scenes = {f"{i}": rng.normal(5, 1, (n, 1)) for i, n in enumerate(blocks)}
        sums = resample({"it": [scenes]}, n=20_000).drawn
        assert sums is not None
        drawn = sums.sum(axis=(1, 2, 3))
        assert drawn.mean() == pytest.approx(sum(s.sum() for s in scenes.values()), rel=0.005)
        assert drawn.var() == pytest.approx(sum(len(s) * s.var(ddof=1) for s in scenes.values()), rel=0.05)


def test_blocks_are_drawn_of_few_scenes_and_scenes_of_many() -> None:
    sizes = {"a": 12, "b": 30, "c": 5, "one": 1}
    scenes = {name: np.eye(4)[[i] * size] for i, (name, size) in enumerate(sizes.items())}
    few = resample({"it": [scenes]}, n=100)
    assert (few.units, few.degrees, few.blocks) == ("blocks", 44, 48)
    # Each draw weighs as much as all blocks of each scene.
    assert few.drawn is not None
    np.testing.assert_allclose(few.drawn.sum(axis=1), np.broadcast_to([12, 30, 5, 1], (100, 1, 4)))
    n = FEW_SCENES
    scenes = {f"{i:02}": np.eye(n)[[i] * (i + 1)] for i in range(n)}
    many = resample({"it": [scenes]}, n=3000)
    assert (many.units, many.degrees) == ("scenes", n - 1)
    # A draw holds n - 1 scenes, each whole and as often as any other, and weighs as much as n scenes.
    sums = many.evaluate(lambda counts: counts, "pooled").drawn[:, 0] * (n - 1) / n
    times = sums / np.arange(1, n + 1)
    np.testing.assert_allclose(times, np.rint(times), atol=1e-9)
    np.testing.assert_allclose(times.sum(axis=1), n - 1)
    np.testing.assert_allclose(times.mean(axis=0), (n - 1) / n, atol=0.05)


def test_means_over_drawn_scenes_are_those_of_a_loop_and_take_little_memory() -> None:
    rng = np.random.default_rng(8)
    scenes = {f"{i:03}": blocks_of(rng, 3) for i in range(12)}
    scenes["007"] = np.zeros_like(scenes["007"])  # where the statistic is undefined
    drawn = resample({"it": [scenes]}, n=100)
    with np.errstate(invalid="ignore"):
        found = drawn.evaluate(share).drawn[:, 0]
        by_scene = [float(share(scenes[name].sum(axis=0).astype(float))) for name in sorted(scenes)]
    assert drawn.times is not None
    for times, value in zip(drawn.times, found, strict=True):
        assert value == pytest.approx(np.nanmean(np.repeat(by_scene, times.astype(int))), rel=1e-12)
    many = {f"{i:03}": np.ones((1, 1000)) for i in range(500)}
    tracemalloc.start()
    for across in ("mean", "pooled"):
        resample({"it": [many] * 9}, n=1000).evaluate(lambda c: c[..., 0] / c.sum(axis=-1), across)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 0.5e9, "the counts of all drawn scenes are 36 GB"


def test_sums_of_few_scenes_are_refused() -> None:
    """Of few scenes blocks are drawn: without them every draw would be the same, and differences look certain."""
    scenes = {f"{i:02}": np.ones((1, 2)) for i in range(FEW_SCENES)}
    assert resample({"it": [scenes]}, n=100, blocks=400).units == "scenes"
    del scenes["00"]
    with pytest.raises(GridError, match="counts of 400 blocks in 9 scenes are summed to 9"):
        resample({"it": [scenes]}, n=100, blocks=400)


def test_block_noise_is_counted_once_where_scenes_are_drawn() -> None:
    """Twelve scenes that are alike but for their blocks: their mean varies by what the blocks make it vary, no more."""
    rng = np.random.default_rng(18)
    widths = []
    for trial in range(100):
        scenes = {f"{i:02}": blocks_of(rng, 30) for i in range(12)}
        found = interval(scenes, share, n=400, seed=trial)
        one = interval({"all": np.concatenate(list(scenes.values()))}, share, n=400, seed=trial)
        widths.append((found.high - found.low) / (one.high - one.low))
    # Twelve scenes show less well how much they differ than 360 blocks.
    students = scipy.stats.t.ppf(0.95, 11) / scipy.stats.t.ppf(0.95, 359)
    assert np.mean(widths) == pytest.approx(students, abs=0.08)


def test_the_same_seed_gives_the_same_interval_in_any_order_of_scenes() -> None:
    rng = np.random.default_rng(5)
    scenes = {name: blocks_of(rng, 20) for name in ("june", "january", "may")}
    turned = dict(reversed(scenes.items()))
    first = interval(scenes, share, seed=7)
    assert first == interval(turned, share, seed=7)
    assert list(first.by_scene) == ["january", "june", "may"]
    assert first.low != interval(scenes, share, seed=8).low
    # What else is compared makes no difference either.
    other = {name: blocks_of(rng, 20) for name in scenes}
    together = resample({"y": [other], "x": [turned]}, seed=7).evaluate(share)
    beside = spread(together, "x")
    assert dataclasses.replace(first, low=0, high=0) == dataclasses.replace(beside, low=0, high=0)
    assert (beside.low, beside.high) == pytest.approx((first.low, first.high), abs=1e-12)


def test_scenes_that_differ_widen_the_interval_where_scenes_are_drawn() -> None:
    rng = np.random.default_rng(6)
    scenes = {f"{i:02}": blocks_of(rng, 40, truth) for i, truth in enumerate(np.linspace(0.6, 0.9, 12))}
    over = interval(scenes, share)
    nine = interval({name: scenes[name] for name in list(scenes)[:9]}, share)
    assert (over.drawn, nine.drawn) == ("scenes", "blocks")
    assert over.high - over.low > 2 * (nine.high - nine.low)


def test_across_scenes_is_a_mean_or_pooled() -> None:
    scenes = {"small": np.full((20, 2), [1, 10.0]), "large": np.full((20, 2), [900, 1000.0])}
    assert interval(scenes, share).value == pytest.approx(0.5)
    assert interval(scenes, share, across="pooled").value == pytest.approx(901 / 1010)
    with pytest.raises(ConfigError, match="'mean' or 'pooled'"):
        interval(scenes, share, across="median")


@settings(max_examples=30)
@given(st.integers(0, 1000), st.sampled_from([0.5, 0.8, 0.95]))
def test_laws_of_intervals(seed: int, level: float) -> None:
    counts = blocks_of(np.random.default_rng(seed), 30)
    found = interval({"x": counts}, share, n=200, seed=seed, level=level)
    wider = interval({"x": counts}, share, n=200, seed=seed, level=0.99)
    assert 0 <= wider.low <= found.low <= found.high <= wider.high <= 1
    assert counts[:, 0].min() / 100 <= found.low
    assert found.high <= counts[:, 0].max() / 100
    # A share does not depend on the size of pixels.
    scaled = interval({"x": counts * 64}, share, n=200, seed=seed, level=level)
    assert (scaled.low, scaled.high) == pytest.approx((found.low, found.high))


def test_too_few_blocks_have_no_interval_and_a_reason() -> None:
    counts = blocks_of(np.random.default_rng(7), MIN_BLOCKS)
    assert interval({"x": counts}, share).reason is None
    few = interval({"x": counts[:4], "y": counts[4:9]}, share)
    assert (few.low, few.high, few.reason) == (None, None, "9 blocks are too few, 10 are needed")
    assert few.value is not None
    assert few.cautions == ()
    assert interval({"x": counts[:1]}, share).reason == "1 block is too few, 10 are needed"


def test_what_is_not_defined_has_no_interval() -> None:
    def old_ice(counts: Floats) -> Floats:
        total = counts[..., 1]
        return np.divide(counts[..., 0], total, out=np.full(total.shape, np.nan), where=total > 0)

    counts = np.zeros((30, 2))
    nowhere = interval({"x": counts}, old_ice)
    assert (nowhere.value, nowhere.points, nowhere.reason) == (None, (None,), "it is not defined on these scenes")
    counts[0] = [1, 2]  # in a third of the draws this block is missing
    once = interval({"x": counts}, old_ice)
    assert once.value == 0.5
    assert once.low is None
    assert 30 < int(once.reason.split()[5]) < 44
    counts[:4] = [[1, 2], [2, 2], [0, 2], [1, 2]]
    assert interval({"x": counts}, old_ice).cautions[-1].endswith("of 1000 resamples.")
    counts[:] = [1, 2]
    assert interval({"x": counts}, old_ice).cautions[-1].startswith("Every resample gives the same value")
    # A scene that has none does not decide the others' mean.
    assert interval({"x": counts, "y": np.zeros((5, 2))}, old_ice).value == 0.5


def test_mean_of_defined() -> None:
    values = np.array([[1, np.nan], [3, np.nan], [np.nan, np.nan]])
    np.testing.assert_array_equal(mean_of_defined(values, 0), [2, np.nan])


# Repeats


def test_repeats_are_points_and_no_part_of_the_interval() -> None:
    base = blocks_of(np.random.default_rng(8), 60)
    repeats = [{"x": base - [[shift, 0]]} for shift in (0, 10, 20)]
    found = interval(repeats, share)
    assert found.points == pytest.approx([share(base.sum(axis=0)) - shift / 100 for shift in (0, 10, 20)])
    assert found.value == pytest.approx(np.mean(found.points))
    # The mean of these three: as sure as the one in the middle, of which the others are copies.
    middle = interval(repeats[1], share)
    assert (found.low, found.high) == pytest.approx((middle.low, middle.high))


# Two losses


def noisy(
    rng: np.random.Generator,
    *,
    losses: Sequence[str] = ("a", "b"),
    repeats: int = 3,
    gaps: Sequence[float] | Floats = (0.0, 0.05),
    training: float = 0.01,
    ground: float = 0.0,
    scenes: Sequence[str] = ("x", "y"),
    n: int = 30,
) -> dict[str, list[dict[str, Floats]]]:
    """Counts of losses, each worse than the first by a gap: trainings differ, and losses from block to block."""
    base = {s: rng.normal(0.3, 0.1, n) for s in scenes}
    made = {}
    for loss, gap in zip(losses, gaps, strict=True):
        suits = {s: ground * rng.standard_normal(n) for s in scenes}
        trained = training * rng.standard_normal(repeats)
        made[loss] = [
            {s: np.stack([base[s] + suits[s] + gap + t, np.ones(n)], axis=1) for s in scenes} for t in trained
        ]
    return made


def steady(rng: np.random.Generator, losses: Sequence[str], gap: float) -> dict[str, list[dict[str, Floats]]]:
    """Losses of which the first and the last vary least, so that variances are pooled; the last is the worst."""
    gaps = np.linspace(0, gap, len(losses))
    made = noisy(rng, losses=losses, gaps=gaps, training=0.0)
    off = np.array([-1.0, 0.2, 0.8])
    for i, loss in enumerate(losses):
        wide = 0.01 if i in (0, len(losses) - 1) else 0.012
        for repeat, t in zip(made[loss], rng.permutation(off), strict=True):
            for counts in repeat.values():
                counts[:, 0] += wide * t
    return made


@pytest.mark.parametrize("losses", ["ab", "abc", "abcde"])
@pytest.mark.parametrize("gap", [0.03, 0.05, 0.08])
def test_trainings_alone_are_compared_as_tukey_did(losses: Sequence[str], gap: float) -> None:
    """Without noise of the ground it is the honest significant difference of all pairs; of two losses, Student's t."""
    made = steady(np.random.default_rng(9), tuple(losses), gap)
    evaluated = resample(made, n=100).evaluate(share)
    values = [evaluated.observed[evaluated.columns(loss)] for loss in losses]
    found = difference(evaluated, losses[0], losses[-1])
    expected = scipy.stats.tukey_hsd(*values).pvalue[0, -1]
    if found.repeats == (3, 3):
        assert found.p == pytest.approx(expected, rel=1e-6)
    if len(losses) == 2:
        assert expected == pytest.approx(scipy.stats.ttest_ind(*values).pvalue, rel=1e-4)


def test_the_ground_alone_is_compared_as_paired_blocks_are() -> None:
    """Where trainings hardly differ it is the paired t-test of blocks; no number of trainings makes it smaller."""
    for repeats in (2, 8):
        rng = np.random.default_rng(10)
        made = noisy(rng, repeats=repeats, gaps=(0, 0.01), training=1e-7, ground=0.02, scenes=("x",))
        found = difference(resample(made, n=20_000).evaluate(share), "a", "b")
        one, other = (made[loss][0]["x"][:, 0] for loss in "ab")
        assert found.value > 0
        assert found.p == pytest.approx(scipy.stats.ttest_rel(one, other).pvalue, rel=0.1)


def test_what_is_hard_for_both_cancels() -> None:
    """The blocks differ a hundred times more than the losses, in the same way for both: that does not matter."""
    made = noisy(np.random.default_rng(11), gaps=(0, 0.003), training=0.0003)
    evaluated = resample(made).evaluate(share)
    a, b = spread(evaluated, "a"), spread(evaluated, "b")
    assert a.high > b.low
    assert difference(evaluated, "a", "b").p < 0.01


@settings(max_examples=20)
@given(st.integers(0, 10_000), st.floats(0.1, 1000), st.floats(-10, 10))
def test_laws_of_differences(seed: int, factor: float, shift: float) -> None:
    made = noisy(np.random.default_rng(seed), losses=("a", "b", "c"), gaps=(0, 0.02, 0.04), ground=0.02)
    evaluated = resample(made, n=200, seed=seed).evaluate(share)
    found = difference(evaluated, "a", "c")
    assert 0 <= found.p <= 1
    assert found.value == pytest.approx(spread(evaluated, "c").value - spread(evaluated, "a").value)
    moved = difference(evaluated.map(lambda x: factor * x + shift), "a", "c")
    assert moved.p == pytest.approx(found.p, rel=1e-3, abs=1e-9)
    # The better of two is not worse than the worse.
    assert difference(evaluated, "c", "a").p == 1 or found.p == 1


def test_no_scene_and_no_repeat_may_show_the_opposite() -> None:
    made = noisy(np.random.default_rng(12), gaps=(0, 0.5))
    clear = difference(resample(made).evaluate(share), "a", "b")
    assert clear.p < 0.001
    assert (clear.repeats, clear.scenes) == ((3, 3), (2, 2))
    for loss in ("a", "b"):
        for repeat in made[loss]:
            repeat["y"] = made["a"][0]["y"] + [[0.01 * (loss == "a"), 0]]
    one_scene = difference(resample(made).evaluate(share), "a", "b")
    assert (one_scene.p, one_scene.repeats, one_scene.scenes) == (1, (3, 3), (1, 2))
    made = noisy(np.random.default_rng(12), gaps=(0, 0.5))
    made["a"][1], made["b"][1] = made["b"][1], made["a"][1]
    one_repeat = difference(resample(made).evaluate(share), "a", "b")
    assert (one_repeat.p, one_repeat.repeats, one_repeat.scenes) == (1, (2, 3), (2, 2))


def test_a_scene_without_the_number_does_not_count() -> None:
    made = noisy(np.random.default_rng(13), gaps=(0, 0.5))
    for runs in made.values():
        for repeat in runs:
            repeat["y"] = np.zeros_like(repeat["y"])

    def where_there_is(counts: Floats) -> Floats:
        return np.divide(
            counts[..., 0], counts[..., 1], out=np.full(counts.shape[:-1], np.nan), where=counts[..., 1] > 0
        )

    found = difference(resample(made).evaluate(where_there_is, "pooled"), "a", "b")
    assert found.scenes == (1, 1)
    assert found.p < 0.01


def test_where_nothing_can_be_said_there_is_a_reason() -> None:
    def reason(n: int = 30, **how: Any) -> str | None:
        found = difference(resample(noisy(np.random.default_rng(14), n=n, **how)).evaluate(share), "a", "b")
        assert found.p is None
        return found.reason

    assert "trained once" in reason(repeats=1)
    assert reason(n=4) == "8 blocks are too few, 10 are needed"
    assert "all repeats are alike" in reason(training=0.0, ground=0.1)
    made = noisy(np.random.default_rng(14), repeats=3)
    made["b"] = made["b"][:1]
    assert "trained once" in difference(resample(made).evaluate(share), "a", "b").reason
    made["b"] = [{s: counts * np.nan for s, counts in made["b"][0].items()}] * 2
    assert "not defined" in difference(resample(made).evaluate(share), "a", "b").reason


def test_what_is_off_to_either_side_is_told_by_its_distance() -> None:
    """With deviations d, `b` is worse than `a` where |b| > |a|, on whichever side they are."""

    def p(a: float, b: float, seed: int = 15) -> float | None:
        rng = np.random.default_rng(seed)
        made = noisy(rng, losses=("a", "b", "c"), gaps=(a - 0.3, b - 0.3, 0), ground=0.01)
        return difference(resample(made, n=400).evaluate(share), "a", "b", folded=True).p

    assert p(0.0, 0.2) < 0.001
    assert p(0.1, 0.3) < 0.001
    assert p(-0.1, 0.3) < 0.001
    assert p(-0.1, -0.3) < 0.001
    # As far off to the other side: they differ, but neither is worse.
    assert p(-0.2, 0.2) > 0.1
    assert p(0.2, -0.2) > 0.1
    # It is no easier than without folding.
    made = noisy(np.random.default_rng(15), gaps=(-0.28, -0.25), ground=0.01)
    evaluated = resample(made).evaluate(share)
    assert difference(evaluated, "a", "b", folded=True).p >= difference(evaluated, "a", "b").p


def test_holm() -> None:
    # The usual example: p-values 0.01, 0.04, 0.03, 0.005 at the level 0.05.
    assert holm({"1": 0.01, "2": 0.04, "3": 0.03, "4": 0.005}, 0.05) == {"1", "4"}
    assert holm({}, 0.1) == frozenset()


@given(st.lists(st.floats(0, 1), min_size=1, max_size=30), st.floats(0.001, 0.5))
def test_holm_finds_what_bonferroni_finds_and_only_what_one_test_would(p_values: list[float], level: float) -> None:
    named = {str(i): p for i, p in enumerate(p_values)}
    found = holm(named, level)
    assert (
        {k for k, p in named.items() if p <= level / len(named)} <= found <= {k for k, p in named.items() if p <= level}
    )


# The rule as the report uses it


@pytest.fixture(scope="module")
def simulated() -> Iterator[ModuleType]:
    """The benchmark that simulates comparisons of losses; its functions are those that made the documents' tables."""
    path = Path(__file__).parents[1] / "benchmarks" / "told_apart.py"
    spec = importlib.util.spec_from_file_location("told_apart", path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    yield module
    del sys.modules[spec.name]


def test_equal_losses_are_told_apart_no_more_often_than_the_level(simulated: ModuleType) -> None:
    """Best against worst, in any of 13 measures: wrong in at most 10 % of all comparisons, sentences no more often."""
    designs = [
        simulated.Design(losses=3, repeats=3, scenes=2),
        simulated.Design(losses=3, repeats=5, scenes=2),
        simulated.Design(losses=5, repeats=3, scenes=2),
        simulated.Design(losses=3, repeats=3, scenes=1),
        simulated.Design(losses=3, repeats=3, scenes=2, of_loss=0),
        simulated.Design(losses=2, repeats=3, scenes=2, of_loss=1),
        simulated.Design(losses=3, repeats=3, scenes=12, blocks=10, each_its_own=True),
    ]
    trials, wrong = 40, []
    rng = np.random.default_rng(20)
    with simulated.quick_tails():
        for design in designs:
            made = [simulated.compared(design, rng, resamples=100) for _ in range(trials)]
            wrong.append(sum(any(r.told_apart for r in numbers.rows) for numbers, _ in made))
            assert sum(any(f.praised for f in found) for _, found in made) <= wrong[-1]
    for n, allowed in ((max(wrong), trials), (sum(wrong), trials * len(designs))):
        assert n <= 0.1 * allowed + 2.5 * np.sqrt(0.1 * 0.9 * allowed), wrong


def test_a_real_difference_is_found(simulated: ModuleType) -> None:
    found, trials = 0, 30
    rng = np.random.default_rng(21)
    with simulated.quick_tails():
        for _ in range(trials):
            numbers, sentences = simulated.compared(simulated.Design(repeats=5, better=0.04), rng, resamples=100)
            score = numbers.row("weighted_f1")
            found += score.told_apart is True and score.best == "loss 0"
            if score.told_apart:
                assert sentences[0].praised == score.best
                assert "on these two scenes and for trainings like these five of each loss" in sentences[0].text
    assert found > 0.8 * trials


def test_one_training_of_each_loss_tells_nothing_apart(simulated: ModuleType) -> None:
    """However large the difference is."""
    rng = np.random.default_rng(22)
    numbers, sentences = simulated.compared(simulated.Design(repeats=1, better=0.5), rng)
    assert all(r.told_apart is None for r in numbers.rows)
    assert sentences[0].text.startswith("One training of each loss: differences between losses cannot be separated")
    assert not any(f.praised for f in sentences)


def test_tails_are_looked_up_right(simulated: ModuleType) -> None:
    rng = np.random.default_rng(23)
    for _ in range(20):
        q, losses, degrees = rng.uniform(1, 20), int(rng.integers(2, 6)), int(rng.choice([2, 6, 78]))
        expected = scipy.stats.studentized_range.sf(q, losses, degrees)
        assert simulated.Tail().sf(q, losses, degrees) == pytest.approx(expected, rel=0.01, abs=1e-9)


# Statistics


def test_f1_of_many_matrices_is_that_of_each() -> None:
    rng = np.random.default_rng(14)
    counts = rng.integers(0, 50, (40, 6, 6)) * (rng.random((40, 6, 1)) < 0.7)
    counts[:, 1] = counts[:, :, 1] = 0  # neither charted nor predicted: no F1
    counts[0] = 0
    each, means = class_f1(counts), mean_f1(counts)
    for i, matrix in enumerate(counts):
        found = scores(Confusion(matrix, np.zeros(6, int)))
        expected = [np.nan if v is None else v for v in (*found.f1, found.weighted_f1, found.macro_f1)]
        np.testing.assert_allclose([*each[i], *means[i]], expected, rtol=1e-12)
    np.testing.assert_allclose(mean_f1(1.25 * counts), means)  # weights of draws are no whole numbers


def test_a_statistic_of_several_quantities_gives_each() -> None:
    scenes = {name: np.random.default_rng(19).integers(1, 50, (25, 6, 6)) for name in ("x", "y")}
    evaluated = resample({"focal": [scenes]}, n=100).evaluate(mean_f1)
    each = [scores(Confusion(c.sum(axis=0), np.zeros(6, int))).weighted_f1 for c in scenes.values()]
    assert spread(evaluated[0], "focal").value == pytest.approx(np.mean(each))
    with pytest.raises(ConfigError, match="several quantities"):
        spread(evaluated, "focal")
    with pytest.raises(ConfigError, match="cannot be indexed"):
        evaluated[0][0]


def test_a_risk_is_a_statistic_as_well() -> None:
    rng = np.random.default_rng(15)
    counts = rng.integers(0, 50, (40, 6, 6))
    levels = class_levels(SIX_CLASSES, "PC7")
    found = interval({"x": counts}, lambda c: false_safe_km2(areas_by_level(c, levels, 80)), across="pooled")
    assert found.low < found.value < found.high
    assert found.value == false_safe_km2(areas_by_level(counts.sum(axis=0), levels, 80))


def test_results_can_be_written_as_json() -> None:
    evaluated = resample(noisy(np.random.default_rng(16))).evaluate(share)
    for found in (spread(evaluated, "a"), difference(evaluated, "a", "b")):
        json.dumps(dataclasses.asdict(found), allow_nan=False)


# Bad input


def test_losses_with_other_scenes_or_blocks_are_refused() -> None:
    rng = np.random.default_rng(17)
    good = {"x": blocks_of(rng, 20), "y": blocks_of(rng, 20)}
    with pytest.raises(GridError, match=r"y: focal has counts of shape \(20, 2\), repeat 2 of Dice None"):
        resample({"focal": [good], "Dice": [good, {"x": good["x"]}]})
    with pytest.raises(GridError, match=r"x: .*\(19, 2\)"):
        resample({"focal": [good], "Dice": [good | {"x": good["x"][1:]}]})
    with pytest.raises(GridError, match="different shapes"):
        resample({"focal": [{"x": np.ones((20, 2)), "y": np.ones((20, 3))}]})
    with pytest.raises(GridError, match="y has no block"):
        resample({"focal": [{"x": np.ones((20, 2)), "y": np.ones((0, 2))}]})


@pytest.mark.parametrize("nothing", [{}, {"focal": []}, {"focal": [{}]}])
def test_nothing_is_refused(nothing: dict[str, Any]) -> None:
    with pytest.raises(GridError, match="there are no"):
        resample(nothing)


def test_options_out_of_range_are_refused() -> None:
    counts = {"x": np.ones((20, 2))}
    with pytest.raises(ConfigError, match="99 resamples"):
        interval(counts, share, n=99)
    with pytest.raises(ConfigError, match="level is 90"):
        interval(counts, share, level=90)
    with pytest.raises(ConfigError, match=r"the shape \(\) for counts of"):
        interval(counts, lambda c: c.sum())
    evaluated = resample({"focal": [counts]}).evaluate(share)
    for asked in (lambda: spread(evaluated, "Dice"), lambda: difference(evaluated, "focal", "Dice")):
        with pytest.raises(ConfigError, match=r"'Dice'.*Known: focal"):
            asked()


def test_a_difference_by_scene_is_that_of_the_means_of_the_repeats() -> None:
    """Shares wrong of `a`: 0.1 and 0.3 in x, 0.2 and 0.2 in y; of `b`: 0.5 in x, 0.8 in y."""

    def counts(*wrong: tuple[float, float]) -> list[dict[str, NDArray[np.float64]]]:
        return [{"x": np.tile([100 * x, 100], (12, 1)), "y": np.tile([100 * y, 100], (12, 1))} for x, y in wrong]

    made = {"a": counts((0.1, 0.2), (0.3, 0.2)), "b": counts((0.5, 0.8), (0.5, 0.8))}
    found = difference(resample(made).evaluate(share), "a", "b")
    assert found.by_scene == pytest.approx({"x": 0.3, "y": 0.6})
    assert found.value == pytest.approx(0.45)
    assert found.points == pytest.approx((0.5, 0.4))


def test_undefined_draws_are_counted() -> None:
    """Six of forty blocks have the class: 39 drawn of them have none with a probability of (34/40)^39."""

    def of_class(counts: NDArray[np.float64]) -> NDArray[np.float64]:
        total = counts[..., 1]
        return np.divide(counts[..., 0], total, out=np.full(total.shape, np.nan), where=total > 0)

    counts = np.zeros((40, 2))
    counts[:6] = [[1, 2], [2, 2], [0, 2], [1, 2], [2, 2], [0, 2]]
    found = interval({"x": counts}, of_class, n=1000)
    words = found.cautions[0].split()
    expected = 1000 * (34 / 40) ** 39
    assert words[:3] == ["Not", "defined", "in"] and words[4:] == ["of", "1000", "resamples."]
    assert 0 < int(words[3]) < expected + 5 * np.sqrt(expected)
