"""Scores from a confusion matrix: formulas on integer counts, and ``None`` where a score is undefined.

With TP, FP and FN a class's pixels that are right, wrongly predicted as the class, and missed, and N all pixels:

- precision = TP / (TP + FP); recall = TP / (TP + FN); F1 = 2 TP / (2 TP + FP + FN); IoU = TP / (TP + FP + FN)
- accuracy = sum of TP / N
- weighted F1 = sum over classes of (TP + FN) F1 / N: each class counts by its pixels in the reference
- macro F1 = mean of F1 over the classes for which it is defined: each counts the same
- Cohen's kappa = (po - pe) / (1 - pe), po the accuracy, pe = sum over classes of (TP + FP)(TP + FN) / N^2
  (J. Cohen, "A coefficient of agreement for nominal scales", 1960)

A quotient 0 / 0 is undefined. A class absent from reference and prediction has no F1 and no IoU, and macro F1 ignores
it. A class absent from the reference but predicted has no recall; its precision, F1 and IoU are 0, and macro F1 counts
that 0. These are scikit-learn's definitions with ``zero_division=numpy.nan``.
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

#: Overall scores: names of attributes and the titles that tables show.
OVERALL = {"weighted_f1": "weighted F1", "macro_f1": "macro F1", "accuracy": "accuracy", "kappa": "kappa"}


@dataclass(frozen=True)
class Scores:
    """Scores of a confusion matrix; ``None`` where a score is undefined. Tuples are indexed by class id.

    Attributes
    ----------
    pixels
        Number of pixels with a reference and a prediction, which the scores count.
    without_prediction
        Number of pixels with a reference only, which no score counts.
    weighted_f1, macro_f1, accuracy, kappa
        Overall scores, 0 to 1 (kappa from -1).
    support, predicted
        Number of pixels of each class in the reference and in the prediction.
    precision, recall, f1, iou
        Scores of each class, 0 to 1.
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
        """Return the scores JSON-ready; those of classes under `keys`, one key for each id.

        Raises
        ------
        ConfigError
            If the number of keys is not the number of classes.
        """
        if len(keys) != len(self.support):
            raise ConfigError(f"{len(keys)} keys for {len(self.support)} classes.")
        names = ("support", "predicted", "precision", "recall", "f1", "iou")
        whole = {name: getattr(self, name) for name in ("pixels", "without_prediction", *OVERALL)}
        by_class = {key: {name: getattr(self, name)[i] for name in names} for i, key in enumerate(keys)}
        return whole | {"classes": by_class}


def scores(confusion: Confusion) -> Scores:
    """Compute all scores of a confusion matrix; the module gives the formulas and the undefined cases."""
    counts = confusion.counts
    right, rows, columns = np.diagonal(counts), counts.sum(axis=1), counts.sum(axis=0)
    f1 = _defined(class_f1(counts))
    # Products of counts exceed 64 bits: Python's integers do not overflow, and their quotients are rounded once.
    support, predicted, hits = rows.tolist(), columns.tolist(), sum(right.tolist())
    n, chance = sum(support), sum(s * p for s, p in zip(support, predicted, strict=True))
    return Scores(
        pixels=n,
        without_prediction=int(confusion.without_prediction.sum()),
        weighted_f1=_quotient(math.fsum(s * f for s, f in zip(support, f1, strict=True) if f is not None), n),
        macro_f1=mean(f1),
        accuracy=_quotient(hits, n),
        # po and pe times N^2: whole numbers, so perfect agreement is exactly 1 and agreement by chance exactly 0.
        kappa=_quotient(n * hits - chance, n * n - chance),
        support=tuple(support),
        predicted=tuple(predicted),
        precision=_defined(_quotients(right, columns)),
        recall=_defined(_quotients(right, rows)),
        f1=f1,
        iou=_defined(_quotients(right, rows + columns - right)),
    )


def class_f1(counts: NDArray[Any]) -> NDArray[np.float64]:
    """Return F1 of each class for many confusion matrices at once, (..., classes, classes) to (..., classes).

    Counts may be weighted sums, as resampling makes them. NaN where F1 is undefined.
    """
    right = np.diagonal(counts, axis1=-2, axis2=-1)
    return _quotients(2 * right, counts.sum(axis=-1) + counts.sum(axis=-2))


def mean_f1(counts: NDArray[Any]) -> NDArray[np.float64]:
    """Return weighted and macro F1 of many confusion matrices, (..., classes, classes) to (..., 2), as `class_f1`."""
    f1, support = class_f1(counts), counts.sum(axis=-1)
    defined = ~np.isnan(f1)
    each = np.where(defined, f1, 0.0)
    sums = np.stack([(each * support).sum(axis=-1), each.sum(axis=-1)], axis=-1)
    weights = np.stack([support.sum(axis=-1), defined.sum(axis=-1)], axis=-1)
    return _quotients(sums, weights)


def mean(values: Sequence[Score]) -> Score:
    """Return the mean of the defined values, independent of their order; ``None`` where there is none."""
    defined = [v for v in values if v is not None]
    return math.fsum(defined) / len(defined) if defined else None


def mean_and_range(values: Sequence[Score]) -> dict[str, Any] | None:
    """Return mean, min, max and number of the defined values; ``None`` if none is defined."""
    defined = [v for v in values if v is not None]
    if not defined:
        return None
    return {"mean": mean(defined), "min": min(defined), "max": max(defined), "n": len(defined)}


def _quotient(a: float, b: int) -> Score:
    return a / b if b else None


def _quotients(a: NDArray[Any], b: NDArray[Any]) -> NDArray[np.float64]:
    """Return a / b, NaN where b is 0."""
    return np.asarray(np.divide(a, b, out=np.full(b.shape, np.nan), where=b > 0))


def _defined(values: NDArray[np.float64]) -> tuple[Score, ...]:
    return tuple(None if math.isnan(v) else v for v in values.tolist())
