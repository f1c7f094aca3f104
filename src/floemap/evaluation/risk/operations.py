"""Where a predicted chart would send a ship that the reference would not: areas by level of operation.

Everything follows from areas by reference level and predicted level, (3, 3), which add over blocks, scenes and repeats.
For rasters of classes they follow from the confusion matrix, so that these checks have intervals as scores have (see
:mod:`floemap.evaluation.statistics.spread`). Areas are those of the map's projection: in a polar stereographic map true
at 70 degrees they are 8 % too large at 60 degrees and 6 % too small at the pole, predicted and reference alike.

Advisory: see :data:`floemap.evaluation.risk.polaris.ADVISORY`.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from floemap.errors import GridError
from floemap.evaluation.risk.polaris import TENTHS, Level
from floemap.legend import IGNORE

_LEVELS = len(Level)


def areas_by_level(confusion: ArrayLike, levels: NDArray[np.uint8], pixel_m: float) -> NDArray[np.float64]:
    """Sum a confusion matrix of classes up to areas by level of operation.

    Parameters
    ----------
    confusion
        (..., classes, classes), pixels by reference class and predicted class.
    levels
        (classes,), as from :func:`floemap.evaluation.risk.polaris.class_levels`.
    pixel_m
        Side of a pixel.

    Returns
    -------
    numpy.ndarray
        (..., 3, 3), km2 by reference level and predicted level.

    Raises
    ------
    GridError
        If the matrix is not of as many classes as there are levels.
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
    """Return by how many points of risk index outcome the prediction understates the risk, on average over pixels.

    A pixel adds how much higher (safer) the outcome of its predicted class is than that of its reference class, and 0
    where it is lower: an error to the other side does not make up for it. So this counts every mistake that an area
    called false-safe counts, and by how bad it is.

    Parameters
    ----------
    confusion
        (..., classes, classes), pixels by reference class and predicted class.
    values
        (classes,), as from :func:`floemap.evaluation.risk.polaris.risk_values`.

    Returns
    -------
    numpy.ndarray
        (...), NaN where there is no pixel.

    Raises
    ------
    GridError
        If the matrix is not of as many classes as there are values.
    """
    counts = np.asarray(confusion, np.float64)
    if counts.shape[-2:] != (len(values), len(values)):
        raise GridError(f"a confusion matrix of shape {counts.shape} does not fit {len(values)} classes.")
    understated = TENTHS * np.maximum(values[None, :] - values[:, None], 0)
    total = counts.sum(axis=(-2, -1))
    summed = (counts * understated).sum(axis=(-2, -1))
    return np.asarray(np.divide(summed, total, out=np.full(total.shape, np.nan), where=total > 0))


def region_counts(classes: NDArray[np.uint8], regions: NDArray[np.integer], n_classes: int) -> NDArray[np.int64]:
    """Count the pixels of each class in each region: an ice regime is a region, not a pixel.

    Parameters
    ----------
    classes
        (rows, cols), class ids, :data:`floemap.legend.IGNORE` where there is none.
    regions
        (rows, cols), from 1, 0 where there is none: polygons of a chart as drawn by
        :func:`floemap.icechart.label.rasterize.rasterize_polygons`, or blocks.
    n_classes
        Of the legend.

    Returns
    -------
    numpy.ndarray
        (regions, classes): row i is region i + 1, up to the highest number there is. Counts of tiles add up where
        they are padded to the same number of regions.

    Raises
    ------
    GridError
        If the shapes differ, or a class id is not below `n_classes`.
    """
    if classes.shape != regions.shape:
        raise GridError(f"rasters of {classes.shape} and {regions.shape} do not lie on one grid.")
    counted = (classes != IGNORE) & (regions > 0)
    chosen = classes[counted]
    if chosen.size and chosen.max() >= n_classes:
        raise GridError(f"a raster holds class {chosen.max()}, the legend ids 0 to {n_classes - 1}.")
    n = int(regions.max(initial=0))
    cell = (regions[counted].astype(np.int64) - 1) * n_classes + chosen
    return np.bincount(cell, minlength=n * n_classes).reshape(n, n_classes)
