"""Scores from a confusion matrix: formulas on whole counts, and ``None`` where a score is not defined.

With TP, FP and FN the pixels of a class that are right, wrongly predicted as it, and missed, and N all pixels:

- precision = TP / (TP + FP); recall = TP / (TP + FN); F1 = 2 TP / (2 TP + FP + FN); IoU = TP / (TP + FP + FN)
- accuracy = sum of TP / N
- weighted F1 = sum over classes of (TP + FN) F1 / N: each class counts by its pixels in the reference
- macro F1 = mean of F1 over the classes for which it is defined: each counts the same
- Cohen's kappa = (po - pe) / (1 - pe), po the accuracy, pe = sum over classes of (TP + FP)(TP + FN) / N^2
  (J. Cohen, "A coefficient of agreement for nominal scales", 1960)

A quotient 0 / 0 is not defined. A class absent from reference and prediction has no F1 and no IoU, and macro F1 leaves
it out. A class absent from the reference but predicted has no recall; its precision, F1 and IoU are 0, and macro F1
counts that 0. These are scikit-learn's definitions with ``zero_division=numpy.nan``.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from floemap.errors import ConfigError
from floemap.evaluation.scoring.confusion import Confusion

Score = float | None

#: Scores of the whole, by the name of their attribute, and what people call them.
OVERALL = {"weighted_f1": "weighted F1", "macro_f1": "macro F1", "accuracy": "accuracy", "kappa": "kappa"}


@dataclass(frozen=True)
class Scores:
    """Scores of a confusion matrix; ``None`` where one is not defined. Tuples are by class id.

    Attributes
    ----------
    pixels
        With a reference and a prediction: what the scores are of.
    without_prediction
        Pixels with a reference only. No score counts them.
    weighted_f1, macro_f1, accuracy, kappa
        0 to 1 (kappa from -1), of all classes.
    support, predicted
        Pixels of each class in the reference and in the prediction.
    precision, recall, f1, iou
        0 to 1, of each class.
    """

    pixels: int
    without_prediction: int
    weighted_f1: Score
    macro_f1: Score
    accuracy: Score
    kappa: Score
    support: tuple[int, ...]
    predicted: tuple[int, ...]
    precision: tuple[Score, ...]
    recall: tuple[Score, ...]
    f1: tuple[Score, ...]
    iou: tuple[Score, ...]

    def as_dict(self, keys: Sequence[str]) -> dict[str, Any]:
        """Return them JSON-ready, the classes' under `keys`, one for each id.

        Raises
        ------
        ConfigError
            If there are not as many keys as classes.
        """
        if len(keys) != len(self.support):
            raise ConfigError(f"{len(keys)} keys for {len(self.support)} classes.")
        names = ("support", "predicted", "precision", "recall", "f1", "iou")
        whole = {name: getattr(self, name) for name in ("pixels", "without_prediction", *OVERALL)}
        by_class = {key: {name: getattr(self, name)[i] for name in names} for i, key in enumerate(keys)}
        return whole | {"classes": by_class}


def scores(confusion: Confusion) -> Scores:
    """Compute all scores of a confusion matrix; see the module for formulas and undefined ones."""
    # Python's integers do not overflow, and its quotients of them are rounded once.
    counts: list[list[int]] = confusion.counts.tolist()
    right = [row[i] for i, row in enumerate(counts)]
    support = [sum(row) for row in counts]
    predicted = [sum(column) for column in zip(*counts, strict=True)]
    n = sum(support)
    each = list(zip(right, support, predicted, strict=True))
    f1 = tuple(_quotient(2 * tp, s + p) for tp, s, p in each)
    return Scores(
        pixels=n,
        without_prediction=int(confusion.without_prediction.sum()),
        weighted_f1=_quotient(math.fsum(s * f for s, f in zip(support, f1, strict=True) if f is not None), n),
        macro_f1=mean(f1),
        accuracy=_quotient(sum(right), n),
        # po and pe times N^2: whole numbers, so perfect agreement is exactly 1 and agreement by chance exactly 0.
        kappa=_quotient(n * sum(right) - _chance(support, predicted), n * n - _chance(support, predicted)),
        support=tuple(support),
        predicted=tuple(predicted),
        precision=tuple(_quotient(tp, p) for tp, _, p in each),
        recall=tuple(_quotient(tp, s) for tp, s, _ in each),
        f1=f1,
        iou=tuple(_quotient(tp, s + p - tp) for tp, s, p in each),
    )


def class_f1(counts: NDArray[Any]) -> NDArray[np.float64]:
    """Return F1 of each class for many confusion matrices at once, (..., classes, classes) to (..., classes).

    Counts may be sums with weights, as resampling makes them. NaN where F1 is not defined.
    """
    right = np.diagonal(counts, axis1=-2, axis2=-1)
    both = counts.sum(axis=-1) + counts.sum(axis=-2)
    return np.asarray(np.divide(2.0 * right, both, out=np.full(both.shape, np.nan), where=both > 0))


def mean_f1(counts: NDArray[Any]) -> NDArray[np.float64]:
    """Return weighted and macro F1 of many confusion matrices, (..., classes, classes) to (..., 2), as `class_f1`."""
    f1, support = class_f1(counts), counts.sum(axis=-1)
    defined = ~np.isnan(f1)
    each = np.where(defined, f1, 0.0)
    sums = np.stack([(each * support).sum(axis=-1), each.sum(axis=-1)], axis=-1)
    weights = np.stack([support.sum(axis=-1), defined.sum(axis=-1)], axis=-1)
    return np.asarray(np.divide(sums, weights, out=np.full(sums.shape, np.nan), where=weights > 0))


def mean(values: Sequence[Score]) -> Score:
    """Return the mean of the defined ones, whatever their order; ``None`` where there is none."""
    defined = [v for v in values if v is not None]
    return math.fsum(defined) / len(defined) if defined else None


def _quotient(a: float, b: int) -> Score:
    return a / b if b else None


def _chance(support: Sequence[int], predicted: Sequence[int]) -> int:
    return sum(s * p for s, p in zip(support, predicted, strict=True))
