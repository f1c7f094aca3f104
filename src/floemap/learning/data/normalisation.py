"""Mean and standard deviation of the bands, pooled over all pixels with data in the training parts.

Pooled means: as if all pixels stood in one list. The mean of the scenes' own deviations would be too small, since it
leaves out how scenes differ from each other. Sums are of stored integers and exact, so no order of parts changes them.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from floemap.errors import TrainingError
from floemap.sentinel1.encoding import BAND_NAMES, NODATA, SCALE

#: Rows summed at a time: 64-bit copies are made of them.
_STRIP_ROWS = 256


@dataclass(frozen=True)
class BandSums:
    """Exact sums of stored values, one number for each of :data:`floemap.sentinel1.encoding.BAND_NAMES`.

    Attributes
    ----------
    count
        Pixels with data.
    total, squares
        Sum of their stored values, and of the squares.
    """

    count: tuple[int, ...]
    total: tuple[int, ...]
    squares: tuple[int, ...]

    def __add__(self, other: BandSums) -> BandSums:
        return BandSums(
            tuple(a + b for a, b in zip(self.count, other.count, strict=True)),
            tuple(a + b for a, b in zip(self.total, other.total, strict=True)),
            tuple(a + b for a, b in zip(self.squares, other.squares, strict=True)),
        )


def band_sums(stored: NDArray[np.int16]) -> BandSums:
    """Sum the stored values of each band, (bands, rows, cols), without those that are NODATA."""
    sums = BandSums(*([(0,) * len(stored)] * 3))
    for row in range(0, stored.shape[1], _STRIP_ROWS):
        strip = stored[:, row : row + _STRIP_ROWS]
        valid = strip != NODATA
        values = np.where(valid, strip, 0).astype(np.int64)
        sums += BandSums(
            tuple(int(v.sum()) for v in valid),
            tuple(int(v.sum()) for v in values),
            tuple(int(np.vdot(v, v)) for v in values),
        )
    return sums


def pooled_statistics(parts: Iterable[BandSums]) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation of each band over the pixels of all parts, in dB, dB and degrees.

    Raises
    ------
    TrainingError
        If a band has no data, or the same value everywhere.
    """
    sums = sum(parts, BandSums(*([(0,) * len(BAND_NAMES)] * 3)))
    means, deviations = [], []
    for band, n, total, squares in zip(BAND_NAMES, sums.count, sums.total, sums.squares, strict=True):
        spread = n * squares - total**2  # n^2 times the variance, exact
        if spread <= 0:
            found = "no data" if n == 0 else f"the value {total / n * SCALE:.2f} everywhere"
            raise TrainingError(
                f"band {band} has {found} in the training parts.", hint="Are these products made by `floemap prepare`?"
            )
        means.append(total / n * SCALE)
        deviations.append(math.sqrt(spread) / n * SCALE)
    return tuple(means), tuple(deviations)
