"""Sides of pixels at which the class changes: what borders are made of. Lengths on a grid.

A border's length is the number of its pixel sides times a side's length: exact along rows and columns, up to 1.41 times
too long across them, and 1.27 times for a border that runs in all directions alike. Both maps are measured the same.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from floemap.evaluation.checks.classes import Classes
from floemap.legend import IGNORE

#: Rows that are looked at together.
_STRIP_ROWS = 512


def neighbours(rows: int) -> Iterator[tuple[tuple[slice, slice], tuple[slice, slice]]]:
    """Give slices (first, second) of a raster whose pixels share a side, strip by strip, every pair once.

    First come the pairs within rows of a strip, then those with the row below.
    """
    everything = slice(None)
    for row in range(0, rows, _STRIP_ROWS):
        last = min(row + _STRIP_ROWS, rows)
        strip = slice(row, last)
        yield (strip, slice(None, -1)), (strip, slice(1, None))
        below = min(last + 1, rows)
        yield (slice(row, below - 1), everything), (slice(row + 1, below), everything)


def sides_between(classes: Classes, count: int) -> NDArray[np.int64]:
    """Count the pixel sides between each two classes.

    Parameters
    ----------
    classes
        (rows, cols) uint8, IGNORE where there is none: no border is counted there, nor at the raster's edge.
    count
        How many classes there are.

    Returns
    -------
    sides
        (count, count), symmetric; 0 along the diagonal.
    """
    table = np.zeros(count * count, np.int64)
    for first, second in neighbours(len(classes)):
        a, b = classes[first], classes[second]
        changes = (a != b) & (a != IGNORE) & (b != IGNORE)
        table += np.bincount(a[changes].astype(np.intp) * count + b[changes], minlength=count * count)
    square = table.reshape(count, count)
    return square + square.T
