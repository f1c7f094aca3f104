"""Counts by spatial block: what intervals are made from.

Pixels are no independent observations. Ice lies in pieces, and so do errors: a polygon of the chart is right or wrong
as a whole. To resample pixels would give intervals tens of times too narrow. So a scene is cut into blocks as large as
most such pieces, and whole blocks are resampled (:mod:`floemap.evaluation.spread`). Every count that adds over
pixels has a value per block.

All losses must be given the same blocks. So they depend on the grid and on where the *reference* has a class, never on
a prediction.
"""

from __future__ import annotations

from itertools import pairwise, product
from typing import Any

import numpy as np
from numpy.typing import NDArray

from floemap.errors import ConfigError, GridError
from floemap.evaluation.confusion import confusion

#: Side of a block: a scene of 400 km has 36 to 60 of them. Smaller ones made intervals clearly too narrow where errors
#: hang together over 16 km or more; larger ones leave too few. Measured in docs/spread.md.
BLOCK_M = 64_000.0


def block_edges(length_px: int, pixel_m: float, block_m: float = BLOCK_M) -> NDArray[np.int64]:
    """Return where blocks begin and end along a side, (blocks + 1,), in pixels, from 0 to its length.

    As many blocks as come nearest to `block_m` each, and all of one size to a pixel: no slivers at the end.

    Raises
    ------
    ConfigError
        If pixel or block are not larger than 0, or a block is smaller than a pixel.
    GridError
        If there is no pixel.
    """
    if not (0 < pixel_m <= block_m < np.inf):
        raise ConfigError(f"blocks of {block_m:g} m from pixels of {pixel_m:g} m.", hint="A block holds pixels.")
    if length_px < 1:
        raise GridError("a raster without a pixel has no blocks.")
    n = max(1, round(length_px * pixel_m / block_m))
    return np.rint(np.linspace(0, length_px, n + 1)).astype(np.int64)


def block_confusions(
    reference: NDArray[np.uint8],
    prediction: NDArray[np.uint8],
    classes: int,
    pixel_m: float,
    block_m: float = BLOCK_M,
) -> NDArray[np.int64]:
    """Return the confusion matrix of each block.

    Parameters
    ----------
    reference, prediction
        (rows, cols) uint8, class ids, :data:`floemap.legend.IGNORE` where there is none.
    classes
        How many the legend has.
    pixel_m, block_m
        Sides of a pixel and of a block.

    Returns
    -------
    numpy.ndarray
        (blocks, classes, classes), rows reference, columns prediction; their sum is the scene's matrix. Only blocks
        where the reference has a class, row by row.

    Raises
    ------
    GridError
        If the shapes differ, or there is no pixel.
    ConfigError
        If a raster holds a value that is no class, or sizes are impossible.
    """
    if reference.ndim != 2 or reference.shape != prediction.shape:
        raise GridError(f"reference and prediction have the shapes {reference.shape} and {prediction.shape}.")
    counted = [confusion(reference[w], prediction[w], classes) for w in _windows(reference.shape, pixel_m, block_m)]
    counts = [c.counts for c in counted if c.reference_pixels.any()]
    return np.stack(counts) if counts else np.zeros((0, classes, classes), np.int64)


def block_sums(
    maps: NDArray[Any], valid: NDArray[np.bool_], pixel_m: float, block_m: float = BLOCK_M
) -> NDArray[np.float64]:
    """Return the sums of maps over each block, for whatever adds over pixels.

    Parameters
    ----------
    maps
        (..., rows, cols), truth values or numbers; what must not count is 0.
    valid
        (rows, cols), where the reference has a class: blocks without any are left out, as in
        :func:`block_confusions`, so that both lie side by side.
    pixel_m, block_m
        Sides of a pixel and of a block.

    Returns
    -------
    numpy.ndarray
        (blocks, ...) float64.

    Raises
    ------
    GridError
        If the shapes differ, or a map holds a number that is not finite.
    ConfigError
        If sizes are impossible.
    """
    if maps.shape[-2:] != valid.shape:
        raise GridError(f"maps of {maps.shape} do not lie on the grid of {valid.shape}.")
    windows = [w for w in _windows(valid.shape, pixel_m, block_m) if valid[w].any()]
    sums = np.zeros((len(windows), *maps.shape[:-2]))
    with np.errstate(invalid="ignore"):  # told below
        for i, window in enumerate(windows):
            sums[i] = maps[(..., *window)].sum(axis=(-2, -1), dtype=np.float64)
    if not np.isfinite(sums).all():
        raise GridError("a map holds a value that is not finite.", hint="What must not count is 0.")
    return sums


def _windows(shape: tuple[int, ...], pixel_m: float, block_m: float) -> list[tuple[slice, slice]]:
    """Return the blocks of a grid of (rows, cols), row by row."""
    rows, cols = (pairwise(block_edges(length, pixel_m, block_m).tolist()) for length in shape)
    return [(slice(*row), slice(*col)) for row, col in product(rows, cols)]
