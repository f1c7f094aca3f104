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
) -> Any:
    """The check on whole arrays of probabilities."""
    maps = compared(prediction, reference, legend=legend)
    return module.confidence(maps, lambda window: p[:, window[0], window[1]], step)


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


def test_probabilities_outside_of_0_to_1_are_named() -> None:
    classes = blobs(0)
    floats = np.full((6, *classes.shape), 0.5, np.float32)
    with pytest.raises(ConfigError, match=r"from 0 to 1\.(5|4999\d*), outside"):
        confidence(np.where(np.arange(6)[:, None, None] == 2, 3 * floats, floats), classes, classes, LEGEND)
    with pytest.raises(ConfigError, match=r"from 0 to 2, outside"):
        confidence(np.full(floats.shape, 200, np.uint8), classes, classes, LEGEND, 1 / 100)
