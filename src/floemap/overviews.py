"""Overviews: four pixels become one, by a method that fits what a band means.

Averages for physical quantities, averages of power for decibels, the most frequent of four pixels for classes, the
nearest pixel for flags.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

#: How four pixels become one in an overview: see :func:`halve`.
Overview = Literal["average", "power", "mode", "nearest"]


def halve(array: Array, method: Overview, nodata: float | None, scale: float = 1.0, offset: float = 0.0) -> Array:
    """Shrink (rows, cols) to half, rounding up; a last odd row or column is repeated.

    `average` ignores no-data pixels, and gives no-data where all four are. `power` does the same with the linear powers
    of decibels, which are stored values x `scale` + `offset`. `mode` takes the most frequent of the four, the first of
    them on a tie, and counts no-data as a class. `nearest` takes the upper left pixel.
    """
    if method == "nearest":
        return array[::2, ::2]
    rows, cols = array.shape
    if rows % 2 or cols % 2:
        array = np.pad(array, ((0, rows % 2), (0, cols % 2)), mode="edge")
    a, b, c, d = array[::2, ::2], array[::2, 1::2], array[1::2, ::2], array[1::2, 1::2]
    if method == "mode":
        other = np.where((b == c) | (b == d), b, np.where(c == d, c, a))
        return np.where((a == b) | (a == c) | (a == d), a, other)
    total = np.zeros(a.shape, np.float32)
    count = np.zeros(a.shape, np.float32)
    powers = _powers(array.dtype, scale, offset, nodata) if method == "power" else None
    for part in (a, b, c, d):
        valid = _valid(part, nodata)
        total += np.where(valid, part, 0) if powers is None else powers(part)
        count += valid
    mean = np.asarray(total / np.maximum(count, 1), np.float32)
    if powers is not None:
        mean = np.asarray((10 * np.log10(np.maximum(mean, 1e-30)) - offset) / scale, np.float32)
    if array.dtype.kind in "iu":
        np.rint(mean, out=mean)
    if nodata is not None:
        mean[count == 0] = nodata
    return mean.astype(array.dtype)


def _valid(part: Array, nodata: float | None) -> Array:
    if nodata is None:
        return np.ones(part.shape, bool)
    return np.asarray(~np.isnan(part) if np.isnan(nodata) else part != nodata)


@lru_cache(maxsize=8)
def _powers(
    dtype: np.dtype[Any], scale: float, offset: float, nodata: float | None
) -> Callable[[Array], NDArray[np.float32]]:
    """Return a function from stored decibels, value x scale + offset, to linear power; 0 for no-data."""

    def powers(stored: Array) -> NDArray[np.float32]:
        with np.errstate(over="ignore", invalid="ignore"):  # no-data values
            power = np.asarray(10 ** ((stored.astype(np.float64) * scale + offset) / 10), np.float32)
        return np.where(_valid(stored, nodata), power, np.float32(0))

    if dtype != np.int16:
        return powers
    # Looking up one of 65536 values is faster than computing a power for each pixel.
    table = powers(np.arange(1 << 16, dtype=np.uint16).view(np.int16))
    return lambda stored: np.asarray(np.take(table, stored.view(np.uint16)), np.float32)
