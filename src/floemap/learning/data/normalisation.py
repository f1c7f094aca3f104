"""Mean and standard deviation of the bands, pooled over all pixels with data in the training parts.

Pooled: as if all pixels were in one list. The mean of the scenes' own deviations would be too small, since it leaves
out how scenes differ from each other. The sums are exact, so that the order of the parts does not matter.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from floemap.bands import NODATA, BandSet
from floemap.errors import TrainingError
from floemap.sentinel1.encoding import PRODUCT_BANDS

#: Rows summed at a time: 64-bit copies are made of them.
_STRIP_ROWS = 256

#: (3, B) Python integers, which have no largest one: pixels with data, sum and sum of squares of stored values.
BandSums = NDArray[np.object_]


def band_sums(stored: NDArray[np.int16]) -> BandSums:
    """Return exact sums over the pixels with data of each band, (3, B): their number, sum and sum of squares.

    Parameters
    ----------
    stored
        Stored values, (B, rows, cols); those that are NODATA do not count.
    """
    sums = np.zeros((3, len(stored)), np.object_)
    for row in range(0, stored.shape[1], _STRIP_ROWS):
        strip = stored[:, row : row + _STRIP_ROWS]
        valid = strip != NODATA
        values = np.where(valid, strip, 0).astype(np.int64)
        sums += np.array(
            [[int(x) for x in (m.sum(), v.sum(), np.vdot(v, v))] for m, v in zip(valid, values, strict=True)],
            np.object_,
        ).T
    return sums


def pooled_statistics(
    parts: Iterable[BandSums], bands: BandSet = PRODUCT_BANDS
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return mean and standard deviation of each band over the pixels of all parts, in the units of the bands.

    Parameters
    ----------
    parts
        Sums of each part, as :func:`band_sums` returns them.
    bands
        The bands, B, of all parts.

    Raises
    ------
    TrainingError
        If a band has no data, or the same value everywhere.
    """
    sums = sum(parts, np.zeros((3, len(bands)), np.object_))
    means, deviations = [], []
    for band, n, total, squares in zip(bands, *sums, strict=True):
        spread = n * squares - total**2  # n^2 times the variance, exact
        if spread <= 0:
            found = "no data" if n == 0 else f"the value {total / n * band.step + band.offset:.2f} everywhere"
            hint = "Are these products made by `floemap prepare`?"
            if band.name not in PRODUCT_BANDS.names:
                hint = "A model cannot learn from it: leave it out of [data] bands."
            raise TrainingError(f"band {band.name} has {found} in the training parts.", hint=hint)
        means.append(total / n * band.step + band.offset)
        deviations.append(math.sqrt(spread) / n * band.step)
    return tuple(means), tuple(deviations)
