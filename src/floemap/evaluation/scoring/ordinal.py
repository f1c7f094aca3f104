"""The ordinal error: distance between ice types in the order water, new ice, nilas, young, first-year and old ice.

Old ice called first-year ice is one step wrong, old ice called water five. A score of classes counts both alike. The
mean distance follows from the confusion matrix, and so from sums over blocks and scenes.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from floemap.errors import GridError
from floemap.legend import Legend


def ordinal_positions(legend: Legend) -> NDArray[np.int64]:
    """Return the step of each class from water, 0, to the thickest ice, by class id, (classes,)."""
    return np.argsort(legend.by_thickness)


def mean_ordinal_error(confusion: ArrayLike, positions: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return the mean number of steps between a pixel's predicted type and the reference's.

    Parameters
    ----------
    confusion
        (..., classes, classes), pixels by reference class and predicted class.
    positions
        (classes,), as from :func:`ordinal_positions`.

    Returns
    -------
    numpy.ndarray
        Mean error in steps, from 0 to classes - 1, (...); NaN where there is no pixel.

    Raises
    ------
    GridError
        If the matrix is not of as many classes as there are positions.
    """
    return mean_cost(confusion, np.abs(positions[None, :] - positions[:, None]))


def mean_cost(confusion: ArrayLike, cost: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return the mean cost of a pixel for confusion matrices, (..., classes, classes) to (...); NaN without pixels.

    `cost` is the cost of each pair of reference and predicted class, (classes, classes).

    Raises
    ------
    GridError
        If the number of classes in the matrix is not that of `cost`.
    """
    counts = np.asarray(confusion, np.float64)
    if counts.shape[-2:] != cost.shape:
        raise GridError(f"a confusion matrix of shape {counts.shape} does not fit {len(cost)} classes.")
    total = counts.sum(axis=(-2, -1))
    summed = (counts * cost).sum(axis=(-2, -1))
    return np.asarray(np.divide(summed, total, out=np.full(total.shape, np.nan), where=total > 0))
