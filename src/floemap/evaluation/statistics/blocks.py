"""Counts by spatial block, from which confidence intervals are computed.

Pixels are not independent observations. Ice and errors are spatially correlated: a polygon of the chart is right or
wrong as a whole. Resampling pixels would give intervals that are tens of times too narrow. So a scene is cut into
blocks as large as most such areas, and whole blocks are resampled (:mod:`floemap.evaluation.statistics.spread`). Every
count that adds over pixels has a value per block.

All losses need the same blocks. So blocks depend on the grid and on where the *reference* has a class, never on a
prediction.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from floemap.errors import GridError
from floemap.evaluation.scoring.block_edges import BLOCK_M, block_edges
from floemap.evaluation.scoring.confusion import confusion
from floemap.legend import IGNORE

#: Rows and columns of a part of a raster.
Window = tuple[slice, slice]

#: Number of rows processed together.
_STRIP_ROWS = 512


class BlockGrid:
    """The blocks of a scene: adjacent rectangles. Only blocks in which the reference has a class count.

    Parameters
    ----------
    row_edges, col_edges
        Edges of the blocks, see :func:`block_edges`.
    counted
        Mask of the blocks that count, (blocks down, blocks across). They are numbered from 0, row by row.
    """

    def __init__(self, row_edges: NDArray[np.int64], col_edges: NDArray[np.int64], counted: NDArray[np.bool_]) -> None:
        self._edges = row_edges, col_edges
        self._numbers = np.where(counted, np.cumsum(counted).reshape(counted.shape) - 1, -1)
        self._count = int(counted.sum())

    @classmethod
    def of(cls, reference: NDArray[np.uint8], pixel_m: float, block_m: float = BLOCK_M) -> BlockGrid:
        """Cut a scene into blocks.

        Parameters
        ----------
        reference
            (rows, cols) class ids with no-data :data:`floemap.legend.IGNORE`.
        pixel_m, block_m
            Sides of a pixel and of a block, metres.

        Raises
        ------
        ConfigError, GridError
            For the reasons of :func:`block_edges`.
        """
        rows, cols = (block_edges(n, pixel_m, block_m) for n in reference.shape)
        counted = [
            [bool((reference[slice(*row), slice(*col)] != IGNORE).any()) for col in pairwise(cols.tolist())]
            for row in pairwise(rows.tolist())
        ]
        return cls(rows, cols, np.array(counted, bool))

    @classmethod
    def whole(cls, shape: tuple[int, ...]) -> BlockGrid:
        """Return the grid whose only block is the whole of a raster of (rows, cols)."""
        rows, cols = (np.array([0, n], np.int64) for n in shape)
        return cls(rows, cols, np.ones((1, 1), bool))

    def __len__(self) -> int:
        return self._count

    @property
    def shape(self) -> tuple[int, int]:
        """Number of rows and columns of the raster."""
        rows, cols = self._edges
        return int(rows[-1]), int(cols[-1])

    def parts(self, rows: slice) -> Iterator[tuple[int, Window]]:
        """Yield the part of each counted block that lies in `rows`: the block's number, and the window."""
        for (top, bottom), numbers in zip(pairwise(self._edges[0].tolist()), self._numbers.tolist(), strict=True):
            first, last = max(top, rows.start), min(bottom, rows.stop)
            if first < last:
                for col, number in zip(pairwise(self._edges[1].tolist()), numbers, strict=True):
                    if number >= 0:
                        yield number, (slice(first, last), slice(*col))

    def pieces(self) -> Iterator[tuple[int, Window]]:
        """Yield all counted blocks in windows of few rows: the block's number, and the window."""
        for row in range(0, self.shape[0], _STRIP_ROWS):
            yield from self.parts(slice(row, min(row + _STRIP_ROWS, self.shape[0])))

    def sides(self) -> Iterator[tuple[int, int, Window, Window]]:
        """Yield the sides between pixels, every side once: block, direction, and the windows of both pixels.

        The direction is 0 between columns and 1 between rows. A side belongs to the block of its first pixel.
        """
        last_row, last_col = (n - 1 for n in self.shape)
        for block, (rows, cols) in self.pieces():
            left = slice(cols.start, min(cols.stop, last_col))
            yield block, 0, (rows, left), (rows, slice(left.start + 1, left.stop + 1))
            above = slice(rows.start, min(rows.stop, last_row))
            yield block, 1, (above, cols), (slice(above.start + 1, above.stop + 1), cols)

    def at(self, rows: NDArray[np.intp], cols: NDArray[np.intp]) -> NDArray[np.int64]:
        """Return the numbers of the blocks that contain pixels, -1 where one does not count; arrays of one shape."""
        i, j = (np.searchsorted(edges, x, side="right") - 1 for edges, x in zip(self._edges, (rows, cols), strict=True))
        return np.asarray(self._numbers[i, j], np.int64)

    def confusions(
        self, reference: NDArray[np.uint8], prediction: NDArray[np.uint8], classes: int
    ) -> NDArray[np.int64]:
        """Return the confusion matrix of each block, (blocks, classes, classes): rows reference, columns prediction.

        Raises
        ------
        GridError, ConfigError
            For the reasons of :func:`floemap.evaluation.scoring.confusion.confusion`.
        """
        counts = np.zeros((len(self), classes, classes), np.int64)
        for block, window in self.pieces():
            counts[block] += confusion(reference[window], prediction[window], classes).counts
        return counts


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
        (rows, cols) uint8 class ids with no-data :data:`floemap.legend.IGNORE`.
    classes
        Number of classes in the legend.
    pixel_m, block_m
        Sides of a pixel and of a block, metres.

    Returns
    -------
    numpy.ndarray
        Number of pixels, (blocks, classes, classes), rows reference, columns prediction; the sum over blocks is the
        scene's matrix. Only blocks in which the reference has a class are returned, row by row.

    Raises
    ------
    GridError
        If the shapes differ, or there is no pixel.
    ConfigError
        If a raster holds a value that is not a class, or sizes are impossible.
    """
    if reference.ndim != 2 or reference.shape != prediction.shape:
        raise GridError(f"reference and prediction have the shapes {reference.shape} and {prediction.shape}.")
    confusion(reference, prediction, classes)  # raises an error also for ids in blocks that do not count
    return BlockGrid.of(reference, pixel_m, block_m).confusions(reference, prediction, classes)
