"""How far apart ice types are: along water, new ice, nilas, young, first-year and old ice.

To call old ice first-year is one step wrong, to call it water five. A score of classes counts both alike. All of these
follow from the confusion matrix, so from sums over blocks and scenes.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from floemap.errors import GridError
from floemap.legend import IGNORE, STAGES_BY_THICKNESS, Legend


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
    return _weighted_mean(confusion, np.abs(positions[None, :] - positions[:, None]))


def mean_ordinal_bias(confusion: ArrayLike, positions: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return how many steps the prediction is thicker than the reference, on average.

    Negative where ice is predicted thinner than it is, the dangerous way. Else as :func:`mean_ordinal_error`.
    """
    return _weighted_mean(confusion, positions[None, :] - positions[:, None])


def distribution_distance(confusion: ArrayLike, positions: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return the earth mover's distance between a scene's shares of types, as predicted and in the reference.

    How many steps the pixels of one would have to be moved, on average, to have as many of each type as the other has:
    the sum over steps of the difference of cumulated shares. It does not see where types are, so it is never more than
    :func:`mean_ordinal_error`.

    Parameters, shapes and errors as there.
    """
    counts, total = _checked(confusion, positions)
    order = np.argsort(positions)
    surplus = (counts.sum(axis=-2) - counts.sum(axis=-1))[..., order]  # predicted - reference
    moved = np.abs(np.cumsum(surplus, axis=-1)).sum(axis=-1)
    return _per_pixel(moved, total)


def ordinal_distance(
    reference: NDArray[np.uint8], prediction: NDArray[np.uint8], positions: NDArray[np.int64]
) -> NDArray[np.uint8]:
    """Return the steps between the types of each pixel, :data:`floemap.legend.IGNORE` where either has none.

    Parameters
    ----------
    reference, prediction
        Equal shapes, class ids, :data:`floemap.legend.IGNORE` where there is none.
    positions
        (classes,), as from :func:`ordinal_positions`.

    Raises
    ------
    GridError
        If the shapes differ, or a class id is none of the legend's.
    """
    if reference.shape != prediction.shape:
        raise GridError(f"rasters of {reference.shape} and {prediction.shape} do not lie on one grid.")
    steps = np.full(256, -1, np.int16)
    steps[: len(positions)] = positions
    steps[IGNORE] = 0
    of_reference, of_prediction = steps[reference], steps[prediction]
    if reference.size and min(of_reference.min(), of_prediction.min()) < 0:
        raise GridError(f"a raster holds a class that is not among the legend's, 0 to {len(positions) - 1}.")
    distance: NDArray[np.uint8] = np.abs(of_prediction - of_reference).astype(np.uint8)
    distance[(reference == IGNORE) | (prediction == IGNORE)] = IGNORE
    return distance


def _weighted_mean(confusion: ArrayLike, steps: NDArray[np.int64]) -> NDArray[np.float64]:
    counts, total = _checked(confusion, steps)
    return _per_pixel((counts * steps).sum(axis=(-2, -1)), total)


def _per_pixel(steps: NDArray[np.float64], total: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(np.divide(steps, total, out=np.full(total.shape, np.nan), where=total > 0))


def _checked(confusion: ArrayLike, positions: NDArray[np.int64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the matrix and its sums, (..., classes, classes) and (...)."""
    counts = np.asarray(confusion, np.float64)
    if counts.shape[-2:] != (len(positions), len(positions)):
        raise GridError(f"a confusion matrix of shape {counts.shape} does not fit {len(positions)} classes.")
    return counts, np.asarray(counts.sum(axis=(-2, -1)))
