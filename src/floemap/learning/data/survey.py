"""What a part of a scene holds, found in one pass before training: where patches fit, pixels of classes, sums of bands.

Everything that training needs to know of a part without having it in memory, a few hundred kilobytes at most.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from floemap.errors import TrainingError
from floemap.learning.data.normalisation import BandSums, band_sums
from floemap.learning.data.parts import PartArrays
from floemap.legend import IGNORE, Legend


@dataclass(frozen=True)
class Places:
    """All places in a part where a square patch has enough labels, as runs along rows.

    Attributes
    ----------
    row, col
        (n,) int32: upper left corner of the first place of each run, pixels of the part.
    before
        (n + 1,) int64: places in all runs before each, and at last the number of places.
    best_share
        Largest share of labelled pixels that any patch of the part has, 0 to 1.
    """

    row: NDArray[np.int32]
    col: NDArray[np.int32]
    before: NDArray[np.int64]
    best_share: float

    def __len__(self) -> int:
        return int(self.before[-1])

    def __getitem__(self, number: int) -> tuple[int, int]:
        """Row and column of a place; they are numbered from 0, row by row."""
        run = int(np.searchsorted(self.before, number, side="right")) - 1
        if not 0 <= run < len(self.row):
            raise IndexError(number)
        return int(self.row[run]), int(self.col[run]) + number - int(self.before[run])


@dataclass(frozen=True)
class Survey:
    """What a part holds.

    Attributes
    ----------
    shape
        Rows and columns.
    pixels
        (256,) int64: pixels of each label value.
    sums
        Of the bands' stored values.
    places
        Where patches may lie; None where none are drawn.
    """

    name: str
    shape: tuple[int, int]
    pixels: NDArray[np.int64]
    sums: BandSums
    places: Places | None = None


def survey_part(part: PartArrays, size_px: int | None = None, min_valid: float = 0.0) -> Survey:
    """Count what a part holds, and where in it patches of `size_px` lie of which a share `min_valid` has labels.

    Raises
    ------
    TrainingError
        If the part is smaller than a patch, or no patch has enough labels.
    """
    rows, cols = part.labels.shape
    # Row by row: counting makes 64-bit copies.
    pixels = sum((np.bincount(row, minlength=256) for row in part.labels), np.zeros(256, np.int64))
    places = None
    if size_px is not None:
        if min(rows, cols) < size_px:
            raise TrainingError(
                f"part {part.name} has {rows} x {cols} px, smaller than a patch of {size_px} x {size_px}.",
                hint="Lower crops.size_px, or leave the part out.",
            )
        places = find_places(part.labels != IGNORE, size_px, min_valid)
        if not len(places):
            raise TrainingError(
                f"part {part.name}: no patch of {size_px} x {size_px} px has a label on {min_valid:.0%} of its "
                f"pixels; the best has one on {places.best_share:.1%}.",
                hint="Lower crops.min_valid or crops.size_px, or leave the part out.",
            )
    return Survey(part.name, (rows, cols), pixels, band_sums(part.stored), places)


def find_places(labelled: NDArray[np.bool_], size_px: int, min_valid: float) -> Places:
    """Find every place at which a square of `size_px` has a share `min_valid` of its pixels labelled, (rows, cols).

    The square slides down row by row: a column's count gains a pixel below and loses one above, so memory stays at a
    few rows whatever the scene's size, and the answer is exact.
    """
    rows, cols = labelled.shape
    needed = math.ceil(min_valid * size_px**2 - 1e-6)  # a share such as 0.07 is a little more in binary
    in_column = labelled[: size_px - 1].sum(axis=0, dtype=np.int32)
    along = np.zeros(cols + 1, np.int32)
    run_rows, run_cols, lengths = [], [], []
    best = 0
    for row in range(rows - size_px + 1):
        in_column += labelled[row + size_px - 1]
        np.cumsum(in_column, out=along[1:])
        in_square = along[size_px:] - along[:-size_px]
        in_column -= labelled[row]
        best = max(best, int(in_square.max()))
        edges = np.flatnonzero(np.diff(np.concatenate(([False], in_square >= needed, [False]))))
        run_cols.append(edges[::2])
        lengths.append(edges[1::2] - edges[::2])
        run_rows.append(np.full(len(edges) // 2, row))
    before = np.concatenate([[0], np.cumsum(np.concatenate(lengths))])
    return Places(
        np.concatenate(run_rows).astype(np.int32),
        np.concatenate(run_cols).astype(np.int32),
        before.astype(np.int64),
        best / size_px**2,
    )


def count_classes(surveys: Sequence[Survey], legend: Legend, split: str) -> list[int]:
    """Pixels of each class of the legend over all parts of a split.

    Raises
    ------
    TrainingError
        If no pixel of the split has a label, or one has a value that the legend lacks.
    """
    pixels = np.sum([s.pixels for s in surveys], axis=0)
    strange = [int(v) for v in np.flatnonzero(pixels[:IGNORE]) if v >= len(legend)]
    if strange:
        where = [s.name for s in surveys if s.pixels[strange].any()]
        raise TrainingError(
            f"labels of {', '.join(where)} hold the values {strange}, which the legend {legend.name} lacks.",
            hint="Make the labels with the legend that is trained.",
        )
    if not pixels[:IGNORE].any():
        names = ", ".join(s.name for s in surveys)
        raise TrainingError(
            f"no pixel of the {split} parts ({names}) has a label.", hint="Do charts and scenes belong together?"
        )
    return [int(n) for n in pixels[: len(legend)]]
