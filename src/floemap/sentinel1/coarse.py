"""Coarse statistics of an image: means over blocks of some 640 m, on which noise is judged and measured."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from floemap.sentinel1.radiometry import Bools, Float32s

#: Pixels along the side of a coarse block.
COARSE_PX = 16


@dataclass(frozen=True)
class CoarseStatistics:
    """Means over coarse blocks, (rows, cols), sigma nought in linear units; NaN where a block is not whole.

    Attributes
    ----------
    block_px
        Pixels along the side of a block.
    signal
        With noise.
    noise
        As annotated, azimuth factor included; 0 where none is to be subtracted.
    """

    block_px: int
    signal: Float32s
    noise: Float32s


def block_mean(values: Float32s, valid: Bools, factor: int) -> Float32s:
    """Means over blocks of `factor` x `factor`; NaN where not all of a block is valid; remainders are dropped."""
    rows, cols = values.shape[0] // factor, values.shape[1] // factor
    cut = values[: rows * factor, : cols * factor].reshape(rows, factor, cols, factor)
    mean = cut.mean(axis=1, dtype=np.float32).mean(axis=2, dtype=np.float32)
    mean[~whole_blocks(valid, factor)] = np.nan
    return np.asarray(mean, np.float32)


def whole_blocks(valid: Bools, factor: int) -> Bools:
    """Return which blocks of `factor` x `factor` are valid throughout."""
    rows, cols = valid.shape[0] // factor, valid.shape[1] // factor
    cut = valid[: rows * factor, : cols * factor].reshape(rows, factor, cols, factor)
    return np.asarray(cut.all(axis=(1, 3)))
