"""Coarse statistics of an image: means over blocks of some 640 m, from which noise is judged and measured."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from floemap.sentinel1.radiometry import Bools, Float32s

#: Pixels along the side of a coarse block.
COARSE_PX = 16


@dataclass(frozen=True)
class CoarseStatistics:
    """Means over coarse blocks, (rows, cols), of sigma nought in linear units; NaN if a block has invalid pixels.

    Attributes
    ----------
    block_px
        Pixels along the side of a block.
    signal
        Measured power, which includes the noise.
    noise
        Annotated noise, which includes the azimuth factor; 0 if noise is unknown or subtracted already.
    """

    block_px: int
    signal: Float32s
    noise: Float32s


def block_mean(values: Float32s, valid: Bools, factor: int) -> Float32s:
    """Return means over blocks of `factor` x `factor`; NaN if a block has invalid cells. Remainders are dropped."""
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
