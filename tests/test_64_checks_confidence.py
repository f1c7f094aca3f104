"""Confidence: calibration, Brier score and entropy against their formulas written out; strips add exactly."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from check_maps import LEGEND, blobs, compared, pair, probabilities
from numpy.typing import NDArray

from floemap.errors import ConfigError, GridError
from floemap.evaluation.checks import confidence as module
from floemap.evaluation.checks.confidence import ConfidenceCounts
from floemap.legend import IGNORE, Legend


def confidence(
    p: NDArray[np.float64],
    prediction: NDArray[np.uint8],
    reference: NDArray[np.uint8],
    legend: Legend,
    step: float | None = None,
    **more: Any,
) -> Any:
    """The check on whole arrays of probabilities."""
    maps = compared(prediction, reference, legend=legend)
    return module.confidence(maps, lambda window: p[:, window[0], window[1]], step, **more)


def forecast(seed: int = 0, shape: tuple[int, int] = (300, 400), low: float = 0.5) -> Iterator[NDArray[Any]]:
    """A calibrated forecast: (probabilities, prediction, reference). Each p comes true with the chance p."""
    rng = np.random.default_rng(seed)
    n = shape[0] * shape[1]
    p = np.zeros((6, n))
    top, second = rng.integers(0, 6, n), rng.integers(1, 6, n)
    second = (top + second) % 6
    chance = rng.uniform(low, 1, n)
    p[top, np.arange(n)], p[second, np.arange(n)] = chance, 1 - chance
    true = np.where(rng.random(n) < chance, top, second)
    return (a.reshape((*a.shape[:-1], *shape)) for a in (p, top.astype(np.uint8), true.astype(np.uint8)))


def sharpen(p: np.ndarray) -> np.ndarray:
    """The same classes, four times as sure."""
    return p**4 / (p**4).sum(axis=0)


def test_a_calibrated_forecast_and_one_too_sure() -> None:
    p, prediction, reference = forecast()
    good = confidence(p, prediction, reference, LEGEND).values()
    sure = confidence(sharpen(p), prediction, reference, LEGEND).values()
    assert good["ece"] < 0.01 and sure["ece"] > 0.1
    assert good["accuracy"] == sure["accuracy"] == pytest.approx(0.75, abs=0.01)
    assert good["mean_confidence"] == pytest.approx(0.75, abs=0.01)
    assert sure["mean_confidence"] > 0.85
    assert sure["brier"] > good["brier"] == pytest.approx(2 / 6, abs=0.01)  # mean of 2 p (1 - p) for p in 0.5 to 1
    assert good["entropy_gap"] > 0.03
    for key in good["by_class"]:
        assert good["by_class"][key]["calibration_error"] < 0.01 < sure["by_class"][key]["calibration_error"]
    points = good["reliability"]
    assert points["probability"] == pytest.approx(points["observed"], abs=0.03)
    assert sum(points["pixels"]) == good["pixels"] == 120_000


@pytest.mark.parametrize("stored", [True, False])
def test_formulas_written_out(stored: bool) -> None:
    prediction, reference = pair(3)
    step = 1 / 250
    p = probabilities(prediction)
    floats = np.where(p == IGNORE, np.nan, p * step).astype(np.float32)
    found = confidence(p if stored else floats, prediction, reference, LEGEND, step if stored else None).values()
    here = (prediction != IGNORE) & (reference != IGNORE)
    q, said, true = floats[:, here].astype(float), prediction[here], reference[here]
    chosen, right = np.take_along_axis(q, said[None].astype(int), axis=0)[0], said == true
    assert found["pixels"] == here.sum() and found["accuracy"] == right.mean()
    assert found["mean_confidence"] == pytest.approx(chosen.mean(), abs=1e-5)
    truth = np.eye(6)[true].T
    assert found["brier"] == pytest.approx(((q - truth) ** 2).sum(axis=0).mean(), abs=1e-4)
    entropy = -(q * np.log(np.where(q > 0, q, 1))).sum(axis=0) / np.log(6)
    assert found["entropy_right"] == pytest.approx(entropy[right].mean(), abs=1e-4)
    assert found["entropy_wrong"] == pytest.approx(entropy[~right].mean(), abs=1e-4)
    assert found["entropy_gap"] == pytest.approx(found["entropy_wrong"] - found["entropy_right"])

    def error(p: np.ndarray, hit: np.ndarray) -> float:
        bins = np.minimum((p * 15 + 1e-6).astype(int), 14)
        return sum(abs(p[bins == b].sum() - hit[bins == b].sum()) for b in range(15)) / len(p)

    assert found["ece"] == pytest.approx(error(chosen, right), abs=1e-4)
    for k, key in enumerate(LEGEND.titles and [c.key for c in LEGEND.classes]):
        assert found["by_class"][key]["calibration_error"] == pytest.approx(error(q[k], true == k), abs=1e-4)


@pytest.mark.parametrize("stored", [True, False])
def test_strips_add_to_the_last_digit(stored: bool) -> None:
    prediction, reference = pair(4)
    p = probabilities(prediction)
    if not stored:
        p = np.random.default_rng(0).dirichlet(np.ones(6), prediction.shape).transpose(2, 0, 1).astype(np.float32)
    step = 1 / 250 if stored else None
    whole = confidence(p, prediction, reference, LEGEND, step).to_json()
    for order in ([(0, 1), (1, 60), (60, 90)], [(60, 90), (0, 59), (59, 60)]):
        counts = ConfidenceCounts(LEGEND, step)
        for a, b in order:
            counts.add(p[:, a:b], prediction[a:b], reference[a:b])
        assert counts.amounts().to_json() == whole


def test_certainty() -> None:
    """All probability on one class: right, no error at all; wrong, all of it."""
    classes = blobs(0)
    p = np.zeros((6, *classes.shape), np.uint8)
    for k in range(6):
        p[k, classes == k] = 250
    right = confidence(p, classes, classes, LEGEND, 1 / 250).values()
    assert (right["ece"], right["brier"], right["entropy_right"], right["entropy_wrong"]) == (0, 0, 0, None)
    other = np.where(classes == IGNORE, IGNORE, (classes + 1) % 6).astype(np.uint8)
    wrong = confidence(p, classes, other, LEGEND, 1 / 250).values()
    assert (wrong["ece"], wrong["brier"], wrong["accuracy"], wrong["entropy_gap"]) == (1, 2, 0, None)
    even = np.full_like(p, 1 / 6, np.float32)
    unsure = confidence(even, classes, classes, LEGEND).values()
    assert unsure["entropy_right"] == pytest.approx(1, abs=1e-4)
    assert unsure["brier"] == pytest.approx(5 / 6, abs=1e-4)


def test_pixels_without_probabilities_are_left_out() -> None:
    prediction, reference = pair(6)
    p = probabilities(prediction)
    p[2, :, :30] = IGNORE
    cut = prediction.copy()
    cut[:, :30] = IGNORE
    a = confidence(p, prediction, reference, LEGEND, 1 / 250)
    assert a.to_json() == confidence(p, cut, reference, LEGEND, 1 / 250).to_json()
    p[:] = IGNORE
    assert "no pixel" in confidence(p, prediction, reference, LEGEND, 1 / 250)


def test_probabilities_that_are_none() -> None:
    classes = blobs(0)
    floats = np.full((6, *classes.shape), 0.5, np.float32)
    for p, step, error, words in (
        (floats, 1 / 250, ConfigError, "uint8"),
        (floats.astype(np.uint8), None, ConfigError, "floats"),
        (floats.astype(np.int64), None, ConfigError, "int64"),
        (floats - 0.6, None, ConfigError, "outside"),
        (floats * 3, None, ConfigError, "outside"),
        (np.full(floats.shape, 200, np.uint8), 1 / 100, ConfigError, "outside"),
        (floats[:5], None, GridError, "6 classes"),
        (floats[:, :9], None, GridError, "pixels"),
    ):
        with pytest.raises(error, match=words):
            confidence(p, classes, classes, LEGEND, step)
    with pytest.raises(ConfigError, match="step"):
        ConfidenceCounts(LEGEND, 0.0)


def test_the_surer_half() -> None:
    """By hand: ten pixels of falling probability, in five bins; of the surer five, two are wrong."""
    chance = np.array([1.0, 0.97, 0.9, 0.85, 0.8, 0.7, 0.68, 0.6, 0.55, 0.5])
    right = np.array([1, 0, 1, 1, 0, 1, 0, 0, 0, 1], bool)
    said = np.zeros((1, 10), np.uint8)
    true = np.where(right, 0, 1).astype(np.uint8)[None]
    p = np.zeros((6, 1, 10), np.float32)
    p[0], p[2] = chance, 1 - chance
    assert confidence(p, said, true, LEGEND).values()["wrong_in_surer_half"] == pytest.approx(2 / 5)
    # Where all are equally sure, the half is as wrong as the whole; where doubt sorts them, it is right.
    p[0], p[2] = 0.9, 0.1
    assert confidence(p, said, true, LEGEND).values()["wrong_in_surer_half"] == pytest.approx(5 / 10)
    p[0] = np.where(right, 0.95, 0.5)
    assert confidence(p, said, true, LEGEND).values()["wrong_in_surer_half"] == 0
    p[0] = np.where(right, 0.5, 0.95)
    assert confidence(p, said, true, LEGEND).values()["wrong_in_surer_half"] == 1


@pytest.mark.parametrize("sure", [8, 30, 200])
def test_the_surer_half_of_a_sure_model(sure: int) -> None:
    """Against pixels in order, those of one stored step in turn: also where most are in the highest bin of ten."""
    rng = np.random.default_rng(sure)
    steps = np.rint(100 * rng.beta(sure, 1, (50, 80))).clip(50, 100).astype(np.uint8)
    right = rng.random(steps.shape) < steps / 100
    p = np.zeros((6, *steps.shape), np.uint8)
    p[0], p[2] = steps, 100 - steps
    found = confidence(p, np.zeros_like(steps), np.where(right, 0, 2).astype(np.uint8), LEGEND, 1 / 100).values()
    wrong, left = 0.0, steps.size / 2
    for step in range(100, 0, -1):
        n = np.count_nonzero(steps == step)
        wrong += np.count_nonzero(~right & (steps == step)) * min(1.0, left / max(n, 1))
        left -= min(n, left)
    assert found["wrong_in_surer_half"] == pytest.approx(wrong / (steps.size / 2))


def test_probabilities_outside_of_0_to_1_are_named() -> None:
    classes = blobs(0)
    floats = np.full((6, *classes.shape), 0.5, np.float32)
    with pytest.raises(ConfigError, match=r"from 0 to 1\.(5|4999\d*), outside"):
        confidence(np.where(np.arange(6)[:, None, None] == 2, 3 * floats, floats), classes, classes, LEGEND)
    with pytest.raises(ConfigError, match=r"from 0 to 2, outside"):
        confidence(np.full(floats.shape, 200, np.uint8), classes, classes, LEGEND, 1 / 100)


# Bins of equal numbers, polygons, and without temperature


def written_out(chosen: Any, right: Any, weights: Any) -> float:
    """The definition of Guo et al., with weights: a loop over fifteen bins of equal width."""
    total = 0.0
    for b in range(15):
        low, high = b / 15, (b + 1) / 15
        inside = (chosen >= low - 1e-9) & ((chosen < high - 1e-9) | (b == 14))
        if inside.any():
            w = weights[inside]
            total += w.sum() * abs(np.average(chosen[inside], weights=w) - np.average(right[inside], weights=w))
    return total / float(weights.sum())


def test_the_error_by_polygon_is_that_of_pixels_that_share_a_polygons_weight() -> None:
    p, prediction, reference = forecast(3, (60, 80))
    ids = (np.arange(60)[:, None] // 7 * 3 + np.arange(80)[None] // 50).astype(np.uint16)
    ids[:5] = 0  # without a polygon
    prediction[50:, :20] = IGNORE
    found = confidence(sharpen(p), prediction, reference, LEGEND, polygons=ids).values()
    here = prediction != IGNORE
    chosen = np.take_along_axis(sharpen(p), np.where(here, prediction, 0)[None].astype(int), axis=0)[0][here]
    right, own = (prediction == reference)[here], ids[here]
    weights = np.where(own > 0, 1 / np.bincount(own)[own], 0.0)
    assert found["ece_by_polygon"] == pytest.approx(written_out(chosen, right, weights), abs=2e-3)
    assert found["ece"] == pytest.approx(written_out(chosen, right, np.ones(len(own))), abs=1e-3)
    assert confidence(p, prediction, reference, LEGEND).values()["ece_by_polygon"] is None


def test_a_large_right_polygon_and_a_small_wrong_one_by_hand() -> None:
    """90 pixels right and 10 wrong, all with probability 0.9: by pixel no error, by polygon 0.9 against 0.5."""
    prediction = np.zeros((10, 10), np.uint8)
    reference = prediction.copy()
    reference[9] = 1
    ids = np.where(reference == 1, 2, 1).astype(np.uint16)
    p = np.zeros((6, 10, 10), np.uint8)
    p[0], p[1] = 180, 20
    found = confidence(p, prediction, reference, LEGEND, 1 / 200, polygons=ids).values()
    assert found["ece"] == pytest.approx(0) and found["ece_by_polygon"] == pytest.approx(0.4)
    assert found["ece_equal_mass"] == pytest.approx(0)


def test_bins_of_equal_numbers_of_pixels() -> None:
    """The definition: the pixels in order of probability, cut into fifteen equal parts."""
    p, prediction, reference = forecast(5, (300, 300))
    for chance in (p, sharpen(p)):
        chosen = np.take_along_axis(chance, prediction[None].astype(int), axis=0)[0].ravel()
        right = (prediction == reference).ravel()
        order = np.argsort(chosen, kind="stable")
        parts = np.array_split(order, 15)
        expected = np.mean([abs(chosen[i].mean() - right[i].mean()) for i in parts])
        found = confidence(chance, prediction, reference, LEGEND).values()
        assert found["ece_equal_mass"] == pytest.approx(expected, abs=3e-3)


@pytest.mark.parametrize("temperature", [0.6, 1.0, 2.0, 4.0])
def test_the_error_without_temperature_is_that_of_the_models_own_probabilities(temperature: float) -> None:
    """Logits of an overconfident model; the map stores softmax(z / T) in steps of 0.005."""
    rng = np.random.default_rng(1)
    z = rng.normal(0, 3, (6, 200, 200))
    own = np.exp(z) / np.exp(z).sum(axis=0)
    hot = np.exp(z / temperature)
    stored = np.rint(200 * hot / hot.sum(axis=0)).astype(np.uint8)
    prediction = z.argmax(axis=0).astype(np.uint8)
    likely = np.exp(z / 2) / np.exp(z / 2).sum(axis=0)
    reference = (rng.random((200, 200)) > likely.cumsum(axis=0)).sum(axis=0).clip(0, 5).astype(np.uint8)
    found = confidence(stored, prediction, reference, LEGEND, 1 / 200, temperature=temperature).values()
    chosen = own.max(axis=0).ravel()
    expected = written_out(chosen, (prediction == reference).ravel(), np.ones(chosen.size))
    assert expected > 0.1  # it is too sure
    assert found["ece_uncalibrated"] == pytest.approx(expected, abs=0.01 if temperature >= 1 else 0.03)
    if temperature == 2:
        assert found["ece"] < 0.01
    if temperature == 1:
        assert found["ece"] == found["ece_uncalibrated"]


def test_the_error_without_offsets_is_that_of_the_models_own_classes() -> None:
    """A model that is calibrated by season: the map stores softmax((z + b) / T)."""
    rng = np.random.default_rng(1)
    z, b, t = rng.normal(0, 3, (6, 200, 200)), np.array([2.0, -4.0, 1.0, 0.0, -1.0, 4.0]), 1.5
    own = np.exp(z) / np.exp(z).sum(axis=0)
    hot = np.exp((z + b[:, None, None]) / t)
    stored = np.rint(200 * hot / hot.sum(axis=0)).astype(np.uint8)
    reference = (rng.random((200, 200)) > own.cumsum(axis=0)).sum(axis=0).clip(0, 5).astype(np.uint8)
    prediction = hot.argmax(axis=0).astype(np.uint8)
    found = confidence(stored, prediction, reference, LEGEND, 1 / 200, temperature=t, offsets=tuple(b)).values()
    own_right = (own.argmax(axis=0) == reference).ravel()
    expected = written_out(own.max(axis=0).ravel(), own_right, np.ones(own_right.size))
    assert expected < 0.02, "the labels were drawn from the model's own probabilities"
    assert found["ece_uncalibrated"] == pytest.approx(expected, abs=0.01)
    without = confidence(stored, prediction, reference, LEGEND, 1 / 200, temperature=t).values()
    assert min(found["ece"], without["ece_uncalibrated"]) > expected + 0.05
