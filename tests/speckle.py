"""How strong speckle is, and how far it reaches, in detected power: one measure for real and for simulated pixels.

Ice varies from place to place, and that is no speckle. Two things keep it out. Only the most even windows count, those
whose means over 8 x 8 pixels, which hardly feel speckle, vary least. And what pixels four to six apart still have in
common is the ice's, as speckle reaches less far; drawn on to nearer pixels as a straight line, it is taken off.

On simulated speckle of known strength and reach, alone or on ice that varies, looks come out right to 8 % and
correlations to 0.05 (tests/test_97_real_radar.py).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating[Any]]


@dataclass(frozen=True)
class Speckle:
    """What was measured.

    Attributes
    ----------
    windows
        How many counted.
    looks
        Equivalent number of looks, mean^2 / variance, of the pixels.
    looks_averaged
        The same of means over 2 x 2 pixels.
    range_lag, azimuth_lag, diagonal_lag
        Correlation of a pixel with its neighbour along the line, in the next line, and beyond its corner.
    """

    windows: int
    looks: float
    looks_averaged: float
    range_lag: float
    azimuth_lag: float
    diagonal_lag: float

    @property
    def gain(self) -> float:
        """By which averaging 2 x 2 pixels raises the number of looks: 4 where pixels are independent."""
        return self.looks_averaged / self.looks


def measure_speckle(power: Floats, *, window_px: int = 32, share: float = 0.05) -> Speckle:
    """Measure the speckle of detected power, (lines, samples), linear, without gaps.

    Parameters
    ----------
    power
        Its noise not subtracted: that would change the mean and leave the variance.
    window_px
        Side of the windows, a multiple of 8.
    share
        Of the windows that count, the most even ones.
    """
    windows = _cut(np.asarray(power, np.float64), window_px)
    means = _averaged(windows, 8)
    evenness = means.mean(axis=(1, 2)) ** 2 / means.var(axis=(1, 2), ddof=1)
    even = windows[np.argsort(-evenness)[: max(1, round(len(windows) * share))]]
    variance, range_lag, azimuth_lag, diagonal_lag = _covariances(even, ice=(4, 5, 6))
    return Speckle(
        windows=len(even),
        looks=1 / variance,
        looks_averaged=1 / _covariances(_averaged(even, 2), ice=(2, 3))[0],
        range_lag=range_lag / variance,
        azimuth_lag=azimuth_lag / variance,
        diagonal_lag=diagonal_lag / variance,
    )


def _covariances(windows: Floats, ice: tuple[int, ...]) -> tuple[float, float, float, float]:
    """Return the speckle's relative variance, and covariances with the next sample, the next line, and both on.

    What there is at the lags `ice` is not the speckle's.
    """
    relative = windows / windows.mean(axis=(1, 2), keepdims=True) - 1
    side = windows.shape[1]

    def at(lines: int, samples: int) -> float:
        return float((relative[:, lines:, samples:] * relative[:, : side - lines, : side - samples]).mean())

    along = np.polyfit(ice, [at(0, lag) for lag in ice], 1)  # slope, value at no distance
    down = np.polyfit(ice, [at(lag, 0) for lag in ice], 1)
    middle = (along[1] + down[1]) / 2
    return (
        float(at(0, 0) - middle),
        float(at(0, 1) - along.sum()),
        float(at(1, 0) - down.sum()),
        float(at(1, 1) - middle - along[0] - down[0]),
    )


def _cut(power: Floats, side: int) -> Floats:
    """(lines, samples) to (n, side, side); remainders are dropped."""
    rows, cols = power.shape[0] // side, power.shape[1] // side
    cut = power[: rows * side, : cols * side].reshape(rows, side, cols, side)
    return cut.swapaxes(1, 2).reshape(-1, side, side)


def _averaged(windows: Floats, factor: int) -> Floats:
    n, side, _ = windows.shape
    return np.asarray(windows.reshape(n, side // factor, factor, side // factor, factor).mean(axis=(2, 4)))
