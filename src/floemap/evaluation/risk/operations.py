"""Risk measures: areas by level of operation, and where a map would send a ship that the reference would not.

All areas follow from those by reference level and predicted level, (3, 3), which add over blocks, scenes and repeats.
For class rasters they follow from the confusion matrix, so these measures have confidence intervals as scores do (see
:mod:`floemap.evaluation.statistics.spread`). Areas are those of the map's projection: in a polar stereographic map with
true scale at 70 degrees they are 8 % too large at 60 degrees and 6 % too small at the pole, for both maps alike.

Advisory: see :data:`floemap.icechart.polaris.ADVISORY`.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from floemap.errors import GridError
from floemap.evaluation.scoring.ordinal import mean_cost
from floemap.icechart.polaris import TENTHS, Level

_LEVELS = len(Level)


def areas_by_level(confusion: ArrayLike, levels: NDArray[np.uint8], pixel_m: float) -> NDArray[np.float64]:
    """Sum a confusion matrix of classes to areas by level of operation.

    Parameters
    ----------
    confusion
        Number of pixels by reference class and predicted class, (..., classes, classes).
    levels
        Level of each class, (classes,), from :func:`floemap.icechart.polaris.class_levels`.
    pixel_m
        Side of a pixel, metres.

    Returns
    -------
    numpy.ndarray
        Areas in km2 by reference level and predicted level, (..., 3, 3).

    Raises
    ------
    GridError
        If the number of classes in the matrix is not the number of levels.
    """
    counts = np.asarray(confusion)
    if counts.shape[-2:] != (len(levels), len(levels)):
        raise GridError(f"a confusion matrix of shape {counts.shape} does not fit {len(levels)} classes.")
    member = (levels[:, None] == np.arange(_LEVELS)).astype(np.int64)  # classes, levels
    return np.asarray(member.T @ counts @ member * (pixel_m / 1000) ** 2, np.float64)


def false_safe_km2(areas: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the area where the prediction allows normal operation and the reference does not: (..., 3, 3) to (...)."""
    return np.asarray(areas[..., Level.NORMAL + 1 :, Level.NORMAL].sum(axis=-1))


def mean_understated(confusion: ArrayLike, values: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return the number of points of risk index outcome by which the prediction understates the risk, pixel mean.

    A pixel contributes the amount by which the outcome of its predicted class is higher (safer) than that of its
    reference class, and 0 where it is lower: errors to the safe side do not compensate. So the number counts every
    error that the false-safe area counts, weighted by its size.

    Parameters
    ----------
    confusion
        Number of pixels by reference class and predicted class, (..., classes, classes).
    values
        Risk index value of each class, (classes,), from :func:`floemap.icechart.polaris.risk_values`.

    Returns
    -------
    numpy.ndarray
        Mean understatement in points, (...); NaN where there is no pixel.

    Raises
    ------
    GridError
        If the number of classes in the matrix is not the number of values.
    """
    return mean_cost(confusion, TENTHS * np.maximum(values[None, :] - values[:, None], 0))
