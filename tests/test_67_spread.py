"""Spread: counts by block, the bootstrap, comparisons of losses, and what is said of them."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy.ndimage import gaussian_filter

from floemap.errors import ConfigError, GridError
from floemap.evaluation.blocks import block_confusions, block_edges, block_sums
from floemap.evaluation.confusion import Confusion, confusion
from floemap.evaluation.polaris import class_levels
from floemap.evaluation.resampling import each_confusion, mean_of_defined, resample
from floemap.evaluation.risk import areas_by_level, false_safe_km2
from floemap.evaluation.scores import scores
from floemap.evaluation.spread import MIN_BLOCKS, Comparison, bootstrap, compare, sentence, spread
from floemap.legend import IGNORE, SIX_CLASSES

rasters = hnp.arrays(np.uint8, (11, 17), elements=st.sampled_from([*range(3), IGNORE]))


def share(counts):
    """Right pixels of all pixels: counts are (..., 2)."""
    return counts[..., 0] / counts[..., 1]


def blocks_of(rng, n, truth=0.8, size=100):
    """Counts of blocks that are independent, each with its own share of right pixels, `truth` on average."""
    right = rng.beta(8 * truth, 8 * (1 - truth), n) * size
    return np.stack([right, np.full(n, size)], axis=1)


# Blocks


@given(st.integers(1, 5000), st.floats(10, 500), st.floats(500, 90_000))
def test_blocks_cover_a_side_evenly(length_px, pixel_m, block_m):
    edges = block_edges(length_px, pixel_m, block_m)
    sizes = np.diff(edges)
    assert edges[0] == 0
    assert edges[-1] == length_px
    assert sizes.min() >= 1
    assert np.ptp(sizes) <= 1
    if len(sizes) > 1:
        assert 0.6 < length_px * pixel_m / len(sizes) / block_m < 1.5


@given(rasters, rasters, st.integers(1, 20))
def test_blocks_sum_up_to_the_scene(reference, prediction, block_px):
    blocks = block_confusions(reference, prediction, 3, 100, 100 * block_px)
    assert np.array_equal(blocks.sum(axis=0), confusion(reference, prediction, 3).counts)


@settings(max_examples=30)
@given(rasters, rasters, rasters, st.integers(1, 20))
def test_all_predictions_have_the_same_blocks(reference, one, other, block_px):
    a, b = (block_confusions(reference, p, 3, 100, 100 * block_px) for p in (one, other))
    assert a.shape == b.shape
    sums = block_sums(np.stack([reference == 1, one == 2]), reference != IGNORE, 100, 100 * block_px)
    assert sums.shape == (len(a), 2)
    both = (reference == 1) & (one == 2)
    np.testing.assert_array_equal(
        block_sums(both, reference != IGNORE, 100, 100 * block_px), a[:, 1, 2]
    )  # a cell of the matrix is a sum over pixels like any other


def test_tiles_cut_between_blocks_give_the_same_blocks():
    rng = np.random.default_rng(0)
    reference, prediction = rng.integers(0, 3, (2, 40, 60), np.uint8)
    whole = block_confusions(reference, prediction, 3, 100, 1000)
    tiles = [block_confusions(reference[r : r + 20], prediction[r : r + 20], 3, 100, 1000) for r in (0, 20)]
    assert len(whole) == 24
    np.testing.assert_array_equal(whole, np.concatenate(tiles))


def test_blocks_without_a_reference_are_left_out():
    reference = np.zeros((40, 60), np.uint8)
    reference[:20] = IGNORE
    prediction = np.zeros((40, 60), np.uint8)
    assert len(block_confusions(reference, prediction, 3, 100, 1000)) == 12
    # A reference without a prediction stays: it is the same block for other losses.
    assert len(block_confusions(prediction, reference, 3, 100, 1000)) == 24
    assert block_confusions(np.full((40, 60), IGNORE, np.uint8), prediction, 3, 100, 1000).shape == (0, 3, 3)


def test_blocks_refuse_what_does_not_fit():
    raster = np.zeros((4, 4), np.uint8)
    with pytest.raises(GridError, match="shapes"):
        block_confusions(raster, raster[:3], 3, 100)
    with pytest.raises(GridError, match="grid"):
        block_sums(raster[:3], raster == 0, 100)
    with pytest.raises(GridError, match="not finite"):
        block_sums(np.full((4, 4), np.nan), raster == 0, 100)
    with pytest.raises(GridError, match="without a pixel"):
        block_edges(0, 100)
    with pytest.raises(ConfigError, match="blocks of 50 m from pixels of 100 m"):
        block_confusions(raster, raster, 3, 100, 50)
    with pytest.raises(ConfigError, match="7 at 16 pixels"):
        block_confusions(raster + np.uint8(7), raster, 3, 100)


# Intervals


def test_an_interval_covers_as_often_as_it_says():
    rng = np.random.default_rng(1)
    hits = 0
    for trial in range(200):
        found = bootstrap({"scene": blocks_of(rng, 60)}, share, n=400, seed=trial)
        hits += found.low <= 0.8 <= found.high
    assert 0.80 <= hits / 200 <= 0.97


def test_blocks_smaller_than_errors_are_far_too_sure():
    # 400 km, errors that hang together over 16 km.
    rng = np.random.default_rng(2)
    covered = {8000: 0, 64_000: 0}
    truth = scipy.stats.norm.cdf(0.9)
    for trial in range(40):
        field = gaussian_filter(rng.standard_normal((200, 200)), 4, mode="wrap")
        right = field < 0.9 / (8 * np.sqrt(np.pi))  # the smoothed field's standard deviation is 1 / (2 sqrt(pi) sigma)
        for block_m in covered:
            sums = block_sums(np.stack([right, np.ones_like(right)]), np.ones_like(right), 2000, block_m)
            found = bootstrap({"scene": sums}, share, n=200, seed=trial)
            covered[block_m] += found.low <= truth <= found.high
    assert covered[8000] < 26
    assert covered[64_000] >= 28


def test_one_scene_is_what_scipy_finds():
    counts = blocks_of(np.random.default_rng(3), 80)
    ours = bootstrap({"scene": counts}, share, n=20_000, seed=0)
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


def test_a_paired_difference_is_what_scipy_finds():
    rng = np.random.default_rng(4)
    one = blocks_of(rng, 80)
    other = one - [[3, 0]] + np.stack([rng.normal(0, 2, 80), np.zeros(80)], axis=1)
    evaluated = resample({"a": [{"scene": one}], "b": [{"scene": other}]}, n=20_000).evaluate(share)
    ours = compare(evaluated, "a", "b")
    theirs = scipy.stats.bootstrap(
        ((one - other)[:, 0] / 100,), np.mean, n_resamples=20_000, confidence_level=0.9, method="percentile", rng=5
    ).confidence_interval
    width = ours.high - ours.low
    assert abs(ours.low - theirs.low) < 0.03 * width
    assert abs(ours.high - theirs.high) < 0.03 * width


def test_every_draw_has_as_many_blocks_and_scenes_as_there_are():
    sizes = {"a": 12, "b": 30, "c": 5}
    scenes = {name: np.eye(3)[[i] * size] for i, (name, size) in enumerate(sizes.items())}
    kept = resample({"x": [scenes]}, n=100, resample_scenes=False)
    np.testing.assert_array_equal(kept.drawn.sum(axis=1), np.broadcast_to([12, 30, 5], (100, 1, 3)))
    drawn = resample({"x": [scenes]}, n=3000)
    # Each place holds one scene, whole, and each scene as often as any other.
    places = drawn.drawn[:, :, 0]
    assert ((places > 0).sum(axis=-1) == 1).all()
    assert set(places.reshape(-1, 3).max(axis=0)) == {12, 30, 5}
    np.testing.assert_allclose((places > 0).mean(axis=(0, 1)), 1 / 3, atol=0.02)


def test_the_same_seed_gives_the_same_interval_in_any_order_of_scenes():
    rng = np.random.default_rng(5)
    scenes = {name: blocks_of(rng, 20) for name in ("june", "january", "may")}
    turned = dict(reversed(scenes.items()))
    first = bootstrap(scenes, share, seed=7)
    assert first == bootstrap(turned, share, seed=7)
    assert list(first.by_scene) == ["january", "june", "may"]
    assert first.low != bootstrap(scenes, share, seed=8).low
    # What else is compared makes no difference either.
    other = {name: blocks_of(rng, 20) for name in scenes}
    together = resample({"y": [other], "x": [turned]}, seed=7).evaluate(share)
    beside = spread(together, "x")
    assert dataclasses.replace(first, low=0, high=0) == dataclasses.replace(beside, low=0, high=0)
    assert (beside.low, beside.high) == pytest.approx((first.low, first.high), abs=1e-12)


def test_scenes_that_differ_widen_the_interval():
    rng = np.random.default_rng(6)
    scenes = {f"{i:02}": blocks_of(rng, 40, truth) for i, truth in enumerate(np.linspace(0.6, 0.9, 12))}
    over, kept = bootstrap(scenes, share), bootstrap(scenes, share, resample_scenes=False)
    assert over.high - over.low > 2 * (kept.high - kept.low)
    assert over.drawn == ("blocks", "scenes")
    assert over.cautions == ()
    assert kept.drawn == ("blocks",)
    assert kept.cautions == ("These 12 scenes only: the interval says nothing of others.",)
    assert bootstrap({"06": scenes["06"]}, share).cautions[0].startswith("One scene")
    two = {name: scenes[name] for name in ("00", "11")}
    assert bootstrap(two, share).cautions == ("Only 2 scenes: for other scenes the interval is too narrow.",)


def test_across_scenes_is_a_mean_or_pooled():
    scenes = {"small": np.full((20, 2), [1, 10.0]), "large": np.full((20, 2), [900, 1000.0])}
    assert bootstrap(scenes, share).value == pytest.approx(0.5)
    assert bootstrap(scenes, share, across="pooled").value == pytest.approx(901 / 1010)
    with pytest.raises(ConfigError, match="'mean' or 'pooled'"):
        bootstrap(scenes, share, across="median")


@settings(max_examples=30)
@given(st.integers(0, 1000), st.sampled_from([0.5, 0.8, 0.95]))
def test_laws_of_intervals(seed, level):
    counts = blocks_of(np.random.default_rng(seed), 30)
    found = bootstrap({"x": counts}, share, n=200, seed=seed, level=level)
    wider = bootstrap({"x": counts}, share, n=200, seed=seed, level=0.99)
    assert 0 <= wider.low <= found.low <= found.high <= wider.high <= 1
    assert counts[:, 0].min() / 100 <= found.low
    assert found.high <= counts[:, 0].max() / 100
    # A share does not depend on the size of pixels.
    scaled = bootstrap({"x": counts * 64}, share, n=200, seed=seed, level=level)
    assert (scaled.low, scaled.high) == pytest.approx((found.low, found.high))


def test_too_few_blocks_have_no_interval_and_a_reason():
    counts = blocks_of(np.random.default_rng(7), MIN_BLOCKS)
    assert bootstrap({"x": counts}, share).reason is None
    few = bootstrap({"x": counts[:4], "y": counts[4:9]}, share)
    assert (few.low, few.high, few.reason) == (None, None, "9 blocks are too few, 10 are needed")
    assert few.value is not None
    assert few.cautions == ()
    assert bootstrap({"x": counts[:1]}, share).text() == (
        f"{counts[0, 0] / 100:.3f} (no interval: 1 block is too few, 10 are needed)"
    )


def test_what_is_not_defined_has_no_interval():
    def old_ice(counts):
        total = counts[..., 1]
        return np.divide(counts[..., 0], total, out=np.full(total.shape, np.nan), where=total > 0)

    counts = np.zeros((30, 2))
    nowhere = bootstrap({"x": counts}, old_ice)
    assert (nowhere.value, nowhere.points, nowhere.reason) == (None, (None,), "it is not defined on these scenes")
    assert nowhere.text() == "not defined"
    counts[0] = [1, 2]  # in a third of the draws this block is missing
    once = bootstrap({"x": counts}, old_ice)
    assert once.value == 0.5
    assert once.low is None
    assert 30 < int(once.reason.split()[5]) < 44
    counts[:4] = [[1, 2], [2, 2], [0, 2], [1, 2]]
    assert bootstrap({"x": counts}, old_ice).cautions[-1].endswith("of 1000 resamples.")
    counts[:] = [1, 2]
    assert bootstrap({"x": counts}, old_ice).cautions[-1].startswith("Every resample gives the same value")
    # A scene that has none does not decide the others' mean.
    assert bootstrap({"x": counts, "y": np.zeros((5, 2))}, old_ice, resample_scenes=False).value == 0.5


def test_mean_of_defined():
    values = np.array([[1, np.nan], [3, np.nan], [np.nan, np.nan]])
    np.testing.assert_array_equal(mean_of_defined(values, 0), [2, np.nan])


# Repeats


def test_repeats_are_points_and_widen_the_interval_only_when_asked():
    rng = np.random.default_rng(8)
    base = blocks_of(rng, 60)
    repeats = [{"x": base - [[shift, 0]]} for shift in (0, 10, 20)]
    without = bootstrap(repeats, share)
    assert without.points == pytest.approx([share(base.sum(axis=0)) - shift / 100 for shift in (0, 10, 20)])
    assert without.value == pytest.approx(np.mean(without.points))
    # The mean of these three: as sure as the one in the middle, of which the others are copies.
    middle = bootstrap(repeats[1], share)
    assert (without.low, without.high) == pytest.approx((middle.low, middle.high))
    included = bootstrap(repeats, share, include_repeats=True)
    assert included.points == without.points
    assert included.value == without.value
    assert included.high - included.low > 1.5 * (without.high - without.low)
    assert included.drawn == ("blocks", "repeats")
    assert "Only 3 repeats: for other trainings the interval is too narrow." in included.cautions
    alone = bootstrap(repeats[0], share, include_repeats=True)
    assert "One training: the interval says nothing of others." in alone.cautions
    # Repeats that are equal add nothing.
    equal = bootstrap([repeats[0]] * 3, share, include_repeats=True)
    assert (equal.low, equal.high) == pytest.approx((alone.low, alone.high))


# Comparisons


def two_losses(rng, shift, noise=1.0, n=60):
    """Two losses that find the same blocks hard: `b` has `shift` right pixels in a hundred fewer."""
    base = blocks_of(rng, n)
    off = np.stack([shift + noise * rng.standard_normal(n), np.zeros(n)], axis=1)
    return {"a": [{"x": base}], "b": [{"x": base - off}]}


def test_pairing_is_tighter_where_errors_are_shared():
    evaluated = resample(two_losses(np.random.default_rng(9), 1.0)).evaluate(share)
    paired = compare(evaluated, "a", "b")
    a, b = spread(evaluated, "a"), spread(evaluated, "b")
    unpaired = np.hypot(a.high - a.low, b.high - b.low)
    assert paired.high - paired.low < 0.25 * unpaired
    # One percent apart: the two intervals overlap almost wholly, and yet they can be told apart.
    assert a.low < b.high
    assert paired.distinct
    assert paired.probability == 1


def test_a_difference_is_covered_as_often_as_it_says():
    rng = np.random.default_rng(10)
    hits = 0
    for trial in range(200):
        evaluated = resample(two_losses(rng, 1.0, noise=8.0), n=300, seed=trial).evaluate(share)
        found = compare(evaluated, "a", "b")
        hits += found.low <= 0.01 <= found.high
    assert 0.80 <= hits / 200 <= 0.97


def test_a_comparison_turned_round_is_its_negative():
    evaluated = resample(two_losses(np.random.default_rng(11), 0.1, noise=3.0)).evaluate(share)
    one, other = compare(evaluated, "a", "b"), compare(evaluated, "b", "a")
    assert one.value == -other.value
    assert (one.low, one.high) == pytest.approx((-other.high, -other.low))
    assert one.probability == pytest.approx(1 - other.probability)
    assert 0 < one.probability < 1
    assert one.turned().turned() == one
    assert one.turned().points == other.points
    assert sentence(one) == sentence(other)


def test_equal_losses_cannot_be_told_apart():
    same = blocks_of(np.random.default_rng(12), 20)
    evaluated = resample({"focal": [{"x": same}], "Dice": [{"x": same}]}).evaluate(share)
    found = compare(evaluated, "focal", "Dice")
    assert (found.value, found.low, found.high, found.probability, found.distinct) == (0, 0, 0, 0.5, False)
    assert sentence(found) == (
        "focal and Dice scored alike (difference 0.000, 90 % interval 0.000 to 0.000): "
        "with this scene they cannot be told apart."
    )


def test_repeats_are_compared_by_position_where_there_are_as_many():
    rng = np.random.default_rng(13)
    a, b = ([{"x": blocks_of(rng, 20)} for _ in range(n)] for n in (3, 3))
    evaluated = resample({"a": a, "b": b, "c": b[:2]}).evaluate(share)
    points = [x - y for x, y in zip(spread(evaluated, "a").points, spread(evaluated, "b").points, strict=True)]
    assert compare(evaluated, "a", "b").points == pytest.approx(points)
    assert compare(evaluated, "a", "c").points == ()
    # Repeats that differ by seed only, the same for both losses: drawn in pairs, the seed cancels.
    shifted = [{"x": r["x"] - [[2, 0]]} for r in a]
    evaluated = resample({"a": a, "b": shifted}).evaluate(share)
    found = compare(evaluated, "a", "b", include_repeats=True)
    assert (found.low, found.high) == pytest.approx((0.02, 0.02))


def made(value, low=None, high=None, **given):
    what = {"a": "focal", "b": "Dice", "value": value, "low": low, "high": high, "level": 0.9, "probability": 0.5}
    how = {"scenes": 2, "blocks": 60, "drawn": ("blocks", "scenes"), "points": (), "by_scene": {}, "cautions": ()}
    reason = {"reason": None if low is not None else "too few"}
    return Comparison(**what | how | reason | given)


@pytest.mark.parametrize(
    ("comparison", "options", "said"),
    [
        (
            made(0.012, -0.004, 0.028),
            {},
            "focal scored 0.012 higher than Dice (90 % interval -0.004 to 0.028): with these scenes they cannot be "
            "told apart.",
        ),
        (
            made(-0.0121, -0.0284, -0.0041),
            {},
            "Dice scored 0.012 higher than focal (90 % interval 0.004 to 0.028): with these scenes they can be told "
            "apart.",
        ),
        (
            made(120.4, -10.2, 300.0, level=0.95),
            {"of": "False-safe area, PC 7", "decimals": 0, "unit": "km2"},
            "False-safe area, PC 7: focal is 120 km2 higher than Dice (95 % interval -10 to 300 km2): with these "
            "scenes they cannot be told apart.",
        ),
        (
            made(0.02, reason="4 blocks are too few, 10 are needed", scenes=1),
            {},
            "focal scored 0.020 higher than Dice (no interval: 4 blocks are too few, 10 are needed): with this scene "
            "nothing can be said.",
        ),
        (
            made(-0.0001, -0.0002, 0.0003),
            {"of": "Old ice"},
            "Old ice: Dice and focal are alike (difference 0.000, 90 % interval 0.000 to 0.000): with these scenes "
            "they cannot be told apart.",
        ),
        (made(None), {"of": "F1"}, "F1: focal and Dice cannot be compared, it is not defined for both."),
    ],
)
def test_sentences(comparison, options, said):
    assert sentence(comparison, **options) == said


# Statistics


def test_all_scores_at_once():
    rng = np.random.default_rng(14)
    scenes = {name: rng.integers(0, 50, (25, 6, 6)) + 200 * np.eye(6, dtype=int) for name in ("x", "y")}
    for counts in scenes.values():
        counts[:, 1] = counts[:, :, 1] = 0  # neither charted nor predicted: no F1

    def chosen(matrix):
        found = scores(matrix)
        return found.weighted_f1, found.kappa, *found.f1

    resamples = resample({"focal": [scenes]}, n=100)
    evaluated = resamples.evaluate(each_confusion(chosen), "pooled")
    pooled = scores(Confusion(sum(c.sum(axis=0) for c in scenes.values()), np.zeros(6, int)))
    assert spread(evaluated[0], "focal").value == pooled.weighted_f1
    assert spread(evaluated[1], "focal").value == pooled.kappa
    assert spread(evaluated[1], "focal").reason is None
    assert spread(evaluated[3], "focal").value is None
    assert spread(evaluated[7], "focal").value == pooled.f1[5]
    by_scene = resamples.evaluate(each_confusion(chosen))[0]
    each = [scores(Confusion(c.sum(axis=0), np.zeros(6, int))).weighted_f1 for c in scenes.values()]
    assert spread(by_scene, "focal").value == pytest.approx(np.mean(each))
    with pytest.raises(ConfigError, match="several quantities"):
        spread(evaluated, "focal")
    with pytest.raises(ConfigError, match="no others"):
        evaluated[0][0]


def test_a_risk_is_a_statistic_as_well():
    rng = np.random.default_rng(15)
    counts = rng.integers(0, 50, (40, 6, 6))
    levels = class_levels(SIX_CLASSES, "PC7")
    found = bootstrap({"x": counts}, lambda c: false_safe_km2(areas_by_level(c, levels, 80)), across="pooled")
    assert found.low < found.value < found.high
    assert found.value == false_safe_km2(areas_by_level(counts.sum(axis=0), levels, 80))


def test_results_can_be_written_as_json():
    evaluated = resample(two_losses(np.random.default_rng(16), 1.0)).evaluate(share)
    for found in (spread(evaluated, "a"), compare(evaluated, "a", "b")):
        assert json.loads(json.dumps(dataclasses.asdict(found), allow_nan=False))["blocks"] == 60


# Bad input


def test_losses_with_other_scenes_or_blocks_are_refused():
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
def test_nothing_is_refused(nothing):
    with pytest.raises(GridError, match="there are no"):
        resample(nothing)


def test_options_out_of_range_are_refused():
    counts = {"x": np.ones((20, 2))}
    with pytest.raises(ConfigError, match="99 resamples"):
        bootstrap(counts, share, n=99)
    with pytest.raises(ConfigError, match="level 90"):
        bootstrap(counts, share, level=90)
    with pytest.raises(ConfigError, match=r"made \(\) of counts of"):
        bootstrap(counts, lambda c: c.sum())
    evaluated = resample({"focal": [counts]}).evaluate(share)
    with pytest.raises(ConfigError, match=r"'Dice'.*Known: focal"):
        spread(evaluated, "Dice")
