"""Speckle of detected multi-look images: gamma-distributed, and correlated between neighbouring pixels.

Pixels of EW GRDM products are 40 m apart and the resolution is some 90 m, so neighbours share most of their speckle:
averaging 2 x 2 of them increases the number of looks by a factor near 1.4, not by four. Homogeneous windows of HV in
four real products have correlations of 0.67 to 0.73 between neighbours and 0.2 to 0.3 two pixels apart, in range and in
azimuth, and the skewness of a gamma distribution. A Gaussian in metres fits the correlations and is used here; pixels
of hundreds of metres are independent.

Thermal noise has the same speckle, since it passes through the same processing: real windows at the noise floor show
it.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import cv2
import numpy as np
from numpy.typing import NDArray

from floemap.errors import ConfigError

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]

#: Equivalent number of looks of EW GRDM according to ESA. Homogeneous windows of real products have 10 to 11, or 15 to
#: 16 where the first sub-swath is processed with 18 looks instead of 12; here all sub-swaths have the same number.
EW_GRDM_LOOKS = 10.7
#: Distance, m, at which the correlation is 1/e: exp(-(40 / 67)^2) is 0.70, the value measured at 40 m.
CORRELATION_M = 67.0
#: Lines that share a stream of random numbers; few, because the lines around each block are drawn again.
_STREAM_LINES = 8


@dataclass(frozen=True)
class Speckle:
    """The speckle of one band of an image as a function of the line, independent of the blocks that are requested.

    Attributes
    ----------
    looks
        Equivalent number of looks, at least 1: mean squared over variance.
    spacing_m
        Distances of lines and of samples, metres.
    samples
        Number of samples of a line.
    key
        Key of the random numbers; equal keys give equal speckle.

    Raises
    ------
    ConfigError
        If the number of looks is below 1.
    """

    looks: float
    spacing_m: tuple[float, float]
    samples: int
    key: tuple[int, ...]

    def __post_init__(self) -> None:
        if not self.looks >= 1:
            raise ConfigError(
                f"speckle cannot have {self.looks} looks.", hint="Give 1 or more, or None for no speckle."
            )

    @cached_property
    def _kernels(self) -> tuple[F32, F32]:
        down, along = (smoothing_kernel(spacing) for spacing in self.spacing_m)
        return down, along

    def rows(self, first: int, stop: int) -> F32:
        """Return the factors of the lines [first, stop), (lines, samples): gamma-distributed with mean 1.

        White Gaussian noise is smoothed, and its values are replaced by those of the same rank in a gamma distribution,
        in the cube form of Wilson and Hilferty (1931, PNAS 17, 684-688). From three looks on the distribution function
        is correct to 0.005, at one look to 0.015. A correlation of 0.70 of the Gaussian becomes 0.695 at ten looks,
        0.66 at one.
        """
        down, along = self._kernels
        reach, side = down.size // 2, along.size // 2
        field = self._white(first - reach, stop + reach, self.samples + 2 * side)
        if max(reach, side):
            smooth = np.asarray(cv2.sepFilter2D(field, -1, along, down), dtype=np.float32)
            field = smooth[reach : reach + stop - first, side : side + self.samples]
        spread = 1 / (9 * self.looks)
        middle = 1 - spread
        root = field * np.float32(np.sqrt(spread)) + np.float32(middle)
        np.maximum(root, 0, out=root)
        cube = root * root
        cube *= root
        cube *= np.float32(1 / (middle * (middle**2 + 3 * spread)))
        return np.asarray(cube, dtype=np.float32)

    def _white(self, first: int, stop: int, columns: int) -> F32:
        """White Gaussian noise of the lines [first, stop), which may lie outside the image."""
        low, high = first // _STREAM_LINES, -(-stop // _STREAM_LINES)
        noise = np.empty(((high - low) * _STREAM_LINES, columns), np.float32)
        for i, stream in enumerate(range(low, high)):
            seed = np.random.SeedSequence([*self.key, stream & 0xFFFFFFFF])
            rows = noise[i * _STREAM_LINES : (i + 1) * _STREAM_LINES]
            np.random.Generator(np.random.SFC64(seed)).standard_normal(dtype=np.float32, out=rows)
        return noise[first - low * _STREAM_LINES : stop - low * _STREAM_LINES]


def smoothing_kernel(spacing_m: float) -> F32:
    """Return the kernel, (odd number,), that gives white noise of unit variance the correlation of speckle.

    Its autocorrelation is exp(-(d / CORRELATION_M)^2) at whole pixels d, and its squares sum to 1. If pixels are so
    large that neighbours are uncorrelated, it is a single value, 1.
    """
    reach = int(6 * CORRELATION_M / spacing_m) + 1
    lags_m = np.arange(-reach, reach + 1) * spacing_m
    # The kernel's spectrum is the root of the correlation's.
    spectrum = np.fft.fft(np.fft.ifftshift(np.exp(-((lags_m / CORRELATION_M) ** 2)))).real
    kernel = np.fft.fftshift(np.fft.ifft(np.sqrt(np.maximum(spectrum, 0))).real)
    heard = np.flatnonzero(abs(kernel) > 2e-3 * kernel.max())
    kernel = kernel[heard[0] : heard[-1] + 1]
    return np.asarray(kernel / np.linalg.norm(kernel), dtype=np.float32)
