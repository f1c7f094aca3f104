"""Sides of pixels at which the class changes: what borders are made of. Lengths on a grid.

A border's length is the number of its pixel sides times a side's length: exact along rows and columns, up to 1.41 times
too long across them, and 1.27 times for a border that runs in all directions alike. Both maps are measured the same.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from floemap.evaluation.checks.classes import Classes
from floemap.evaluation.statistics.blocks import BlockGrid
from floemap.legend import IGNORE


def border_sides(classes: Classes, count: int, grid: BlockGrid) -> NDArray[np.int64]:
    """Count the pixel sides of each class at which another class begins.

    Parameters
    ----------
    classes
        (rows, cols) uint8, IGNORE where there is none: no border is counted there, nor at the raster's edge.
    count
        How many classes there are.
    grid
        The blocks.

    Returns
    -------
    sides
        (blocks, count). A side between two classes counts for both.
    """
    found = np.zeros((len(grid), count), np.int64)
    for block, _, first, second in grid.sides():
        a, b = classes[first], classes[second]
        changes = (a != b) & (a != IGNORE) & (b != IGNORE)
        for side in (a, b):
            found[block] += np.bincount(side[changes], minlength=count)
    return found
