"""Scores: scikit-learn's, wherever both define them; laws; and None where nothing is defined."""

from __future__ import annotations

import json
import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from sklearn.metrics import (
    accuracy_score,
    cohen_kappa_score,
    f1_score,
    jaccard_score,
    precision_recall_fscore_support,
)

from floemap.errors import ConfigError
from floemap.evaluation.scoring.confusion import Confusion
from floemap.evaluation.scoring.published import PUBLISHED, published
from floemap.evaluation.scoring.scores import OVERALL, Score, Scores, mean, scores

CLASSES = 4
#: Many zeros, so that absent classes are usual.
MATRICES = hnp.arrays(np.int64, (CLASSES, CLASSES), elements=st.sampled_from([0, 0, 0, 1, 2, 7, 31]))


def of(counts: Any) -> Scores:
    counts = np.asarray(counts, np.int64)
    return scores(Confusion(counts, np.zeros(len(counts), np.int64)))


def pixels(counts: Any) -> tuple[Any, Any]:
    """Reference and prediction, pixel by pixel, with these counts."""
    rows, columns = np.indices(counts.shape)
    return np.repeat(rows.ravel(), counts.ravel()), np.repeat(columns.ravel(), counts.ravel())


def as_nan(values: Sequence[Score]) -> list[float]:
    return [np.nan if v is None else v for v in values]


@given(MATRICES)
def test_equals_scikit_learn(counts: Any) -> None:
    assume(counts.any())
    true, predicted = pixels(counts)
    found = of(counts)
    options: dict[str, Any] = {"labels": range(CLASSES), "zero_division": np.nan}
    precision, recall, f1, support = precision_recall_fscore_support(true, predicted, **options)
    np.testing.assert_allclose(as_nan(found.precision), precision, rtol=1e-12)
    np.testing.assert_allclose(as_nan(found.recall), recall, rtol=1e-12)
    np.testing.assert_allclose(as_nan(found.f1), f1, rtol=1e-12)
    assert found.support == tuple(support)
    assert found.accuracy == pytest.approx(accuracy_score(true, predicted), rel=1e-12)
    # Undefined classes are left out of the macro mean; that is also the mean over the classes which occur at all.
    for labels in (options, {"labels": None, "zero_division": "warn"}):
        assert found.macro_f1 == pytest.approx(f1_score(true, predicted, average="macro", **labels), rel=1e-12)
    # With weights, classes without a pixel count nothing, whatever stands for their F1.
    for zero_division in (0.0, 1.0, np.nan):
        expected = f1_score(true, predicted, average="weighted", labels=range(CLASSES), zero_division=zero_division)
        assert found.weighted_f1 == pytest.approx(expected, rel=1e-12)
    present = [i for i in range(CLASSES) if found.iou[i] is not None]
    expected_iou = jaccard_score(true, predicted, labels=present, average=None)
    np.testing.assert_allclose(as_nan([found.iou[i] for i in present]), expected_iou, rtol=1e-12)


@given(MATRICES)
def test_kappa_equals_scikit_learn(counts: Any) -> None:
    assume(counts.any())
    true, predicted = pixels(counts)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it warns of 0 / 0 and gives not-a-number
        expected = cohen_kappa_score(true, predicted, labels=range(CLASSES))
    found = of(counts).kappa
    assert (found is None) == np.isnan(expected)
    if found is not None:
        assert found == pytest.approx(expected, rel=1e-9, abs=1e-12)


@given(MATRICES)
def test_what_is_undefined_is_none_and_nothing_else(counts: Any) -> None:
    found = of(counts)
    support, predicted = counts.sum(axis=1), counts.sum(axis=0)
    for i in range(CLASSES):
        assert (found.recall[i] is None) == (support[i] == 0)
        assert (found.precision[i] is None) == (predicted[i] == 0)
        assert (found.f1[i] is None) == (found.iou[i] is None) == (support[i] + predicted[i] == 0)
        if support[i] == 0 and predicted[i]:
            assert found.precision[i] == found.f1[i] == found.iou[i] == 0
    nothing = not counts.any()
    assert (found.weighted_f1 is None) == (found.macro_f1 is None) == (found.accuracy is None) == nothing
    json.dumps(found.as_dict([str(i) for i in range(CLASSES)]), allow_nan=False)


@given(MATRICES)
def test_scores_lie_in_their_range(counts: Any) -> None:
    found = of(counts)
    parts = (*found.precision, *found.recall, *found.f1, *found.iou)
    for value in (found.weighted_f1, found.macro_f1, found.accuracy, *parts):
        assert value is None or 0 <= value <= 1
    assert found.kappa is None or -1 <= found.kappa <= 1
    for f1, iou in zip(found.f1, found.iou, strict=True):
        if f1 is not None and iou is not None:
            assert f1 == pytest.approx(2 * iou / (1 + iou))


@given(MATRICES, st.permutations(range(CLASSES)), st.integers(2, 10**9))
def test_names_and_amount_do_not_matter(counts: Any, order: list[int], factor: int) -> None:
    found, turned, more = of(counts), of(counts[np.ix_(order, order)]), of(counts * factor)
    for name in OVERALL:
        assert getattr(turned, name) == getattr(found, name)
        now, before = (as_nan([getattr(s, name)]) for s in (more, found))
        np.testing.assert_allclose(now, before, rtol=1e-12)
    assert turned.f1 == tuple(found.f1[i] for i in order)
    turned_over = of(counts.T)
    assert (turned_over.f1, turned_over.precision) == (found.f1, found.recall)
    assert turned_over.kappa == found.kappa


def test_limits() -> None:
    perfect = of(np.diag([5, 1, 0, 10**12]))
    assert (perfect.weighted_f1, perfect.macro_f1, perfect.accuracy, perfect.kappa) == (1, 1, 1, 1)
    assert perfect.f1 == (1, 1, None, 1)
    by_chance = of(np.outer([2, 3, 5], [7, 1, 2]))
    assert by_chance.kappa == 0
    one_class = of(np.diag([9, 0]))
    assert (one_class.accuracy, one_class.kappa) == (1, None)
    # Pixels of a thousand large scenes: products of counts no longer fit 64 bits.
    big = of([[3 * 10**10, 10**10], [10**10, 3 * 10**10]])
    assert big.kappa == pytest.approx(0.5, rel=1e-15)


def test_an_invented_class_lowers_macro_f1_and_an_absent_one_does_not() -> None:
    clean, absent, invented = [[8, 2], [2, 8]], np.zeros((3, 3), int), np.zeros((3, 3), int)
    absent[:2, :2] = clean
    invented[:2, :2] = clean
    invented[0, 2] = 1
    assert of(absent).macro_f1 == of(clean).macro_f1
    found = of(invented)
    assert found.macro_f1 == pytest.approx(mean([found.f1[0], found.f1[1], 0.0]))


def test_pixels_without_prediction_are_said_and_not_scored() -> None:
    counts = np.array([[3, 1], [0, 4]])
    found = scores(Confusion(counts, np.array([5, 6]))).as_dict(["ice", "water"])
    assert (found["pixels"], found["without_prediction"]) == (8, 11)
    assert found["classes"] == of(counts).as_dict(["ice", "water"])["classes"]
    with pytest.raises(ConfigError, match="1 keys for 2 classes"):
        of(counts).as_dict(["ice"])


def test_published_numbers_are_found_by_name_and_alias() -> None:
    assert published("dice") == published("generalized_dice") == PUBLISHED["generalized_dice"]
    assert published("macro_dice") is None
    for score in PUBLISHED.values():
        assert score.min < score.mean < score.max
    # The finding: focal first, Dice last, by less than the spread of each.
    ordered = sorted(PUBLISHED, key=lambda loss: PUBLISHED[loss].mean)
    assert ordered == ["generalized_dice", "cross_entropy", "focal"]
