"""How far apart ice types are: along water, new ice, nilas, young, first-year and old ice.

To call old ice first-year is one step wrong, to call it water five. A score of classes counts both alike. The mean
distance follows from the confusion matrix, so from sums over blocks and scenes.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from floemap.errors import GridError
from floemap.legend import STAGES_BY_THICKNESS, Legend


def ordinal_positions(legend: Legend) -> NDArray[np.int64]:
    """Return the step of each class from water, 0, to the thickest ice, by class id, (classes,).

    Classes of ice stand in the order of their thickest stage of development. A stage that is not known says nothing of
    thickness, unless it is all that a class has.
    """

    def thickest(stages: frozenset[int]) -> int:
        return max((STAGES_BY_THICKNESS.index(s) for s in stages if s in STAGES_BY_THICKNESS), default=-1)

    ice = sorted((c for c in legend.classes if c.id != legend.water), key=lambda c: thickest(c.stages))
    positions = np.zeros(len(legend), np.int64)
    for step, c in enumerate(ice, start=1):
        positions[c.id] = step
    return positions


def mean_ordinal_error(confusion: ArrayLike, positions: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return how many steps a pixel's predicted type is from the reference's, on average.

    Parameters
    ----------
    confusion
        (..., classes, classes), pixels by reference class and predicted class.
    positions
        (classes,), as from :func:`ordinal_positions`.

    Returns
    -------
    numpy.ndarray
        (...), in steps, from 0 to classes - 1; NaN where there is no pixel.

    Raises
    ------
    GridError
        If the matrix is not of as many classes as there are positions.
    """
    counts = np.asarray(confusion, np.float64)
    if counts.shape[-2:] != (len(positions), len(positions)):
        raise GridError(f"a confusion matrix of shape {counts.shape} does not fit {len(positions)} classes.")
    steps = np.abs(positions[None, :] - positions[:, None])
    total = counts.sum(axis=(-2, -1))
    summed = (counts * steps).sum(axis=(-2, -1))
    return np.asarray(np.divide(summed, total, out=np.full(total.shape, np.nan), where=total > 0))
