"""Layers at a coarser resolution than their product: what changes slowly is stored in large cells, and interpolated.

A cell is `factor` x `factor` pixels of the product; the first one begins at the grid's upper left corner. Passive
microwaves on cells of 2 km so take 1/625 of the room of pixels of 80 m, on the disk and in the cache. Reading
interpolates bilinearly between the centres of cells. What is read of a window does not depend on the window.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from affine import Affine
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox

from floemap.bands import MOST_STORED, NODATA, InputBand

Window = tuple[int, int, int, int]


def coarse_grid(geobox: GeoBox, factor: int) -> GeoBox:
    """Return the grid of cells of `factor` x `factor` pixels over a grid."""
    rows, cols = (-(-n // factor) for n in geobox.shape)
    return GeoBox((rows, cols), geobox.affine * Affine.scale(factor), geobox.crs)


def factor_between(
    shape: Sequence[int], transform: Affine, coarse_shape: Sequence[int], coarse_transform: Affine
) -> int | None:
    """Return the number of pixels along a side of a cell, 1 for equal grids; None if the cells do not lie so."""
    factor = max(1, round(coarse_transform.a / transform.a)) if transform.a else 1
    whole = tuple(-(-n // factor) for n in shape)
    same = np.allclose(tuple(coarse_transform), tuple(transform * Affine.scale(factor)), rtol=0, atol=1e-6 * factor)
    return factor if same and tuple(coarse_shape) == whole else None


def cells_for(window: Window, factor: int, shape: tuple[int, int]) -> Window:
    """Return the window of cells that a window of pixels is interpolated from, for cells of (rows, cols) in all."""
    spans = []
    for first, size, n in zip(window[:2], window[2:], shape, strict=True):
        lower, _ = _places(first, size, factor, n)
        low, high = int(lower[0]), min(int(lower[-1]) + 1, n - 1)
        spans.append((low, high - low + 1))
    (row, rows), (col, cols) = spans
    return row, col, rows, cols


def interpolated(
    cells: NDArray[np.int16], at: Window, window: Window, factor: int, shape: tuple[int, int]
) -> NDArray[np.float32]:
    """Interpolate cells to a window of pixels.

    Parameters
    ----------
    cells
        Stored values of a window of cells, NODATA in gaps. Cells in a gap do not count; where more than half of the
        weight is in gaps, so is the pixel.
    at
        That window of cells, as of :func:`cells_for`.
    window
        The window of pixels: first row, first column, number of rows and of columns.
    factor, shape
        Pixels along a side of a cell, and numbers of rows and columns of all cells.

    Returns
    -------
    numpy.ndarray
        (rows, cols) float32, stored values, NaN in gaps.
    """
    known = cells != NODATA
    values = _bilinear(np.where(known, cells, 0).astype(np.float32), at, window, factor, shape)
    if known.all():
        return values
    weight = _bilinear(known.astype(np.float32), at, window, factor, shape)
    enough = weight >= 0.5
    return np.where(enough, values / np.where(enough, weight, 1), np.float32(np.nan)).astype(np.float32)


def _bilinear(
    cells: NDArray[np.float32], at: Window, window: Window, factor: int, shape: tuple[int, int]
) -> NDArray[np.float32]:
    found = cells
    for axis in (1, 0):  # first along the rows, of which there are few
        lower, share = _places(window[axis], window[2 + axis], factor, shape[axis])
        first, second = lower - at[axis], np.minimum(lower + 1, shape[axis] - 1) - at[axis]
        share = share[:, None] if axis == 0 else share
        a, b = np.take(found, first, axis=axis), np.take(found, second, axis=axis)
        found = a + (b - a) * share
    return np.asarray(found, np.float32)


def _places(first: int, size: int, factor: int, cells: int) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Return the cell above, or to the left of, each pixel of a range, and the share of the next one, (size,) each."""
    place = np.clip((first + np.arange(size) + 0.5) / factor - 0.5, 0, cells - 1)
    lower = np.minimum(place.astype(np.int64), max(cells - 2, 0))
    return lower, (place - lower).astype(np.float32)


def stored_as(values: NDArray[np.float32], have: InputBand, want: InputBand) -> NDArray[np.int16]:
    """Return interpolated stored values, (rows, cols) float32 with NaN in gaps, in the steps of a band."""
    if (have.step, have.offset) != (want.step, want.offset):
        values = ((values.astype(np.float64) * have.step + have.offset - want.offset) / want.step).astype(np.float32)
    steps = np.rint(np.clip(values, -MOST_STORED, MOST_STORED))
    gap: Any = np.isnan(steps)
    return np.where(gap, np.float32(NODATA), steps).astype(np.int16)
