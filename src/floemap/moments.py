"""Scores of predicted numbers from sums over pixels: the moments of reference and prediction.

Moments add up over strips, blocks, scenes and processes, so that scores of any of them come from sums. They are, in
this order: the number of pixels n, the sums of x, y, x^2, y^2 and x y, and of |y - x|, for a reference x and a
prediction y.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

#: Names of the moments, in order.
MOMENTS = ("n", "x", "y", "xx", "yy", "xy", "abs_d")
#: Scores of values with what they are; all but the first are in the unit of the value.
VALUE_SCORES: Mapping[str, str] = MappingProxyType(
    {
        "r2": "Coefficient of determination, 1 - sum of (y - x)^2 / sum of (x - mean of x)^2: 1 is perfect, 0 as good"
        " as the mean of the reference everywhere",
        "rmse": "Root of the mean squared error",
        "mae": "Mean absolute error",
        "bias": "Mean error, prediction minus reference",
    }
)
#: Share of x^2 below which its variance is rounding.
_ROUNDING = 1e-12


def moments(reference: Any, predicted: Any) -> list[float]:
    """Return the moments of numbers, seven in the order of :data:`MOMENTS`.

    Parameters
    ----------
    reference, predicted
        Arrays or tensors of one dimension, float64 and finite.
    """
    return [float(len(reference)), *(float(term.sum()) for term in _terms(reference, predicted))]


def moments_by(group: NDArray[np.int64], groups: int, reference: Any, predicted: Any) -> NDArray[np.float64]:
    """Return the moments of each group of pixels, (groups, 7).

    Parameters
    ----------
    group
        Number of the group of each pixel, from 0, (pixels,).
    groups
        Number of groups.
    reference, predicted
        (pixels,) float64, finite.
    """
    sums = [np.bincount(group, term, groups) for term in _terms(reference, predicted)]
    return np.stack([np.bincount(group, minlength=groups), *sums], axis=1)


def moments_of_counts(counts: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return the moments of a confusion matrix whose classes are numbers, 0 to K - 1: rows reference, (7,)."""
    reference, predicted = (ids.astype(np.float64) for ids in np.indices(counts.shape))
    return np.array([counts.sum(), *((counts * term).sum() for term in _terms(reference, predicted))])


def _terms(x: Any, y: Any) -> tuple[Any, ...]:
    """Return the terms of all sums but the number of pixels."""
    return x, y, x * x, y * y, x * y, abs(y - x)


def value_scores(sums: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the scores of :data:`VALUE_SCORES` from moments, (..., 7): (..., 4), not-a-number where undefined."""
    n, x, y, xx, yy, xy, absolute = np.moveaxis(np.asarray(sums, np.float64), -1, 0)
    with np.errstate(divide="ignore", invalid="ignore"):
        squared = np.maximum(xx - 2 * xy + yy, 0)
        spread = xx - x * x / n
        r2 = np.where(spread > _ROUNDING * xx, 1 - squared / spread, np.nan)
        found = np.stack([r2, np.sqrt(squared / n), absolute / n, (y - x) / n], axis=-1)
    return np.where(n[..., None] > 0, found, np.nan)


def value_scores_by_name(sums: NDArray[np.float64]) -> dict[str, float | None]:
    """Return the scores of one set of moments, (7,), by name; None where undefined."""
    found = value_scores(sums).tolist()
    return {name: None if np.isnan(v) else v for name, v in zip(VALUE_SCORES, found, strict=True)}
