"""Survey of a part before training, in one pass: places for crops, pixels of each class, sums of the bands.

A survey takes a few hundred kilobytes at most. Training uses it in place of the part itself.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from floemap.errors import TrainingError
from floemap.learning.data.normalisation import BandSums, band_sums
from floemap.learning.data.parts import PartArrays
from floemap.legend import IGNORE, Legend


@dataclass(frozen=True)
class Places:
    """All places in a part where a crop has enough labels, as runs along rows.

    Attributes
    ----------
    row, col
        (n,) int32: upper left corner of the first place of each run, in pixels of the part.
    before
        (n + 1,) int64: number of places in the runs before each run; the last entry is the number of all places.
    best_share
        Largest share of labelled pixels in any crop of the part, 0 to 1.
    """

    row: NDArray[np.int32]
    col: NDArray[np.int32]
    before: NDArray[np.int64]
    best_share: float

    def __len__(self) -> int:
        return int(self.before[-1])

    def at(self, numbers: NDArray[np.int64]) -> NDArray[np.int32]:
        """Return row and column of the places with these numbers, (n, 2); places are numbered from 0, row by row.

        Raises
        ------
        IndexError
            If there is no place of a number.
        """
        run = np.searchsorted(self.before, numbers, side="right") - 1
        if run.size and not 0 <= run.min() <= run.max() < len(self.row):
            raise IndexError(f"there are {len(self)} places")
        found = np.empty((len(run), 2), np.int32)
        found[:, 0], found[:, 1] = self.row[run], self.col[run] + numbers - self.before[run]
        return found


@dataclass(frozen=True)
class Survey:
    """Survey of a part.

    Attributes
    ----------
    name
        Name of the part.
    shape
        Numbers of rows and columns.
    pixels
        (256,) int64: number of pixels of each label value.
    sums
        Sums of the stored values of the bands, from :func:`floemap.learning.data.normalisation.band_sums`.
    places
        Places for crops; None if no crops are drawn from the part.
    known
        Number of pixels at which a value of the charts' polygons is known, by the name of the value.
    """

    name: str
    shape: tuple[int, int]
    pixels: NDArray[np.int64]
    sums: BandSums
    places: Places | None = None
    known: Mapping[str, int] = field(default_factory=dict)


def survey_part(
    part: PartArrays, size_px: int | None = None, min_valid: float = 0.0, values: Sequence[str] = ()
) -> Survey:
    """Survey a part; find the places of crops of `size_px` with a share `min_valid` of labelled pixels.

    `values` are the values of polygons whose known pixels are counted, if the part has polygons.

    Raises
    ------
    TrainingError
        If the part is smaller than a crop, or no crop has enough labels.
    """
    rows, cols = part.labels.shape
    # Row by row, because counting makes 64-bit copies.
    pixels = sum((np.bincount(row, minlength=256) for row in part.labels), np.zeros(256, np.int64))
    places = None
    if size_px is not None:
        if min(rows, cols) < size_px:
            raise TrainingError(
                f"part {part.name} has {rows} x {cols} px, smaller than a crop of {size_px} x {size_px}.",
                hint="Lower crops.size_px, or leave the part out.",
            )
        places = find_places(part.labels != IGNORE, size_px, min_valid)
        if not len(places):
            raise TrainingError(
                f"part {part.name}: no crop of {size_px} x {size_px} px has a label on {min_valid:.0%} of its "
                f"pixels; the best has one on {places.best_share:.1%}.",
                hint="Lower crops.min_valid or crops.size_px, or leave the part out.",
            )
    known = {}
    if part.ids is not None and part.polygons is not None:
        known = {value: part.polygons.known(part.ids, value) for value in values}
    return Survey(part.name, (rows, cols), pixels, band_sums(part.stored), places, known)


def find_places(labelled: NDArray[np.bool_], size_px: int, min_valid: float) -> Places:
    """Find every place at which a square of `size_px` has a share `min_valid` of labelled pixels.

    The square slides down row by row, and the counts of the columns are updated. The result is exact, and the memory is
    that of a few rows, whatever the size of the scene.

    Parameters
    ----------
    labelled
        (rows, cols): whether a pixel has a label.
    """
    rows, cols = labelled.shape
    needed = math.ceil(min_valid * size_px**2 - 1e-6)  # tolerance: 0.07, say, is a little more in binary
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
    """Return the number of pixels of each class of the legend in all parts of a split.

    Raises
    ------
    TrainingError
        If no pixel of the split has a label, or a label has a value that the legend lacks.
    """
    pixels = np.sum([s.pixels for s in surveys], axis=0)
    strange = [int(v) for v in np.flatnonzero(pixels[:IGNORE]) if v >= len(legend)]
    if strange:
        where = [s.name for s in surveys if s.pixels[strange].any()]
        raise TrainingError(
            f"labels of {', '.join(where)} hold the values {strange}, which the legend {legend.name} lacks.",
            hint="Label the charts with the legend of the training.",
        )
    if not pixels[:IGNORE].any():
        names = ", ".join(s.name for s in surveys)
        raise TrainingError(
            f"no pixel of the {split} parts ({names}) has a label.",
            hint="Check that charts and scenes belong together.",
        )
    return [int(n) for n in pixels[: len(legend)]]
