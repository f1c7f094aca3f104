"""The radar image as calibrated cells: one pass over the pixels, block by block, both polarisations at once.

A cell is a block of pixels, some 80 m on the side, whose power is averaged. The pass also gathers *coarse statistics*,
means over some 640 m of the power before any noise was subtracted and of the annotated noise, from which
:mod:`floemap.sentinel1.residual` measures, and on request removes, what the annotation misses.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Literal

import numpy as np

from floemap.errors import GridError
from floemap.progress import Progress, silent
from floemap.sentinel1.radiometry import (
    Bools,
    CalibrationTable,
    Float32s,
    NoiseAdjustment,
    NoiseTable,
    border_noise,
    cell_power,
)
from floemap.sentinel1.safe import open_measurement
from floemap.sentinel1.scene import Scene

logger = logging.getLogger(__name__)

NoiseMethod = Literal["annotated", "scaled", "none"]

#: Pixels along the side of a coarse block.
COARSE_PX = 16
#: Blocks of lines have about this many pixels: small enough for the processor's caches to matter little, large enough
#: for numpy's overhead not to.
_BLOCK_PIXELS = 4_000_000
#: Noise vectors before IPF 2.43 are in unknown units.
_KNOWN_NOISE_UNITS = (2, 43)
#: From IPF 2.90 on the image's border is filled with zeros; before, with low values.
_CLEAN_BORDERS = (2, 90)
_BORDER_MARGIN_PX = 500


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


@dataclass(frozen=True)
class CellImage:
    """Calibrated cells of a scene.

    Attributes
    ----------
    power
        (rows, cols, polarisations + 1): sigma nought in linear units, 0 where invalid, and last the cell's weight,
        1 where valid in all polarisations, else 0.
    looks
        Pixels along the side of a cell.
    coarse
        By polarisation.
    subtracted
        By polarisation: what was done about thermal noise, in words.
    adjustments
        By polarisation and sub-swath, for the method ``scaled``.
    """

    power: Float32s
    looks: int
    coarse: dict[str, CoarseStatistics]
    subtracted: dict[str, str]
    adjustments: dict[str, dict[str, NoiseAdjustment]]


def looks_for(scene: Scene, resolution_m: float) -> int:
    """Pixels along the side of a cell that is not larger than the resolution, and at least one.

    Raises
    ------
    GridError
        If a cell would be larger than the scene.
    """
    looks = max(1, int(resolution_m / max(scene.pixel_spacing_m) + 1e-6))
    if looks > min(scene.shape):
        raise GridError(f"pixels of {resolution_m:g} m are larger than the scene.", hint="Choose smaller ones.")
    return looks


def calibrate(scene: Scene, *, looks: int, noise: NoiseMethod = "annotated", progress: Progress = silent) -> CellImage:
    """Turn a scene's pixels into calibrated cells.

    Parameters
    ----------
    scene
        Opened with pixels.
    looks
        Pixels along the side of a cell.
    noise
        ``annotated``: subtract the annotated thermal noise. ``scaled``: the same, adjusted to the scene itself.
        ``none``: subtract nothing.

    Raises
    ------
    ProductError
        If the pixels cannot be read.
    """
    rows, cols = scene.shape[0] // looks, scene.shape[1] // looks
    count = len(scene.polarisations)
    power = np.zeros((rows, cols, count + 1), np.float32)
    done = dict.fromkeys(scene.polarisations, 0)

    def notes(polarisation: str) -> Callable[[int], None]:
        def note(row: int) -> None:
            done[polarisation] = row
            progress(sum(done.values()), rows * count, "calibrating")

        return note

    with ThreadPoolExecutor(count) as pool:
        passes = [
            pool.submit(_Pass(scene, p, looks, noise).run, power[:, :, i], notes(p))
            for i, p in enumerate(scene.polarisations)
        ]
        results = [p.result() for p in passes]
    valid = np.logical_and.reduce([r.valid for r in results])
    power[:, :, count] = valid
    for i, result in enumerate(results):
        power[:, :, i] *= valid  # a cell that lacks one polarisation is no cell
        del result.valid
    return CellImage(
        power=power,
        looks=looks,
        coarse={p: r.coarse for p, r in zip(scene.polarisations, results, strict=True)},
        subtracted={p: r.subtracted for p, r in zip(scene.polarisations, results, strict=True)},
        adjustments={p: r.adjustments for p, r in zip(scene.polarisations, results, strict=True)},
    )


class _Pass:
    """One polarisation's pass over the pixels."""

    def __init__(self, scene: Scene, polarisation: str, looks: int, noise: NoiseMethod) -> None:
        self.scene = scene
        self.polarisation = polarisation
        self.looks = looks
        self.method = noise
        self.subtracted = _what_to_subtract(scene, polarisation, noise)
        lut = scene.noise[polarisation]
        usable = scene.ipf_version >= _KNOWN_NOISE_UNITS and not scene.noise_subtracted[polarisation]
        self.noise = NoiseTable(lut if usable else None, scene.swaths, scene.shape, looks)
        self.calibration = CalibrationTable(scene.calibration[polarisation], scene.shape[1], looks)
        self.adjustments: dict[str, NoiseAdjustment] = {}
        self.valid: Bools

    def run(self, power: Float32s, note: Callable[[int], None]) -> _Pass:
        """Fill `power`, (rows, cols), and keep which cells are valid and the coarse statistics."""
        rows, cols = power.shape
        self.valid = np.zeros((rows, cols), bool)
        factor = max(1, COARSE_PX // self.looks)
        step = max(factor, _BLOCK_PIXELS // (self.scene.shape[1] * self.looks) // factor * factor)
        coarse_signal, coarse_noise = [], []
        subtract_now = self.subtracted == "annotated noise subtracted"
        with open_measurement(self.scene, self.polarisation) as measurement:
            for row in range(0, rows, step):
                end = min(row + step, rows)
                dn = measurement.read(row * self.looks, end * self.looks)
                signal, valid = cell_power(dn, self.looks, zero_is_data=self.scene.noise_subtracted[self.polarisation])
                noise, inside = self.noise.cells(row, end)
                valid &= inside
                if self.scene.ipf_version < _CLEAN_BORDERS:
                    valid &= ~border_noise(signal, noise, valid, _BORDER_MARGIN_PX // self.looks)
                scale = self.calibration.inverse_square(row, end)
                signal *= scale
                noise *= scale
                coarse_signal.append(block_mean(signal, valid, factor))
                coarse_noise.append(block_mean(noise, valid, factor))
                if subtract_now:
                    signal -= noise
                power[row:end] = signal
                self.valid[row:end] = valid
                note(end)
        self.coarse = CoarseStatistics(factor * self.looks, np.vstack(coarse_signal), np.vstack(coarse_noise))
        if self.subtracted == "noise adjusted to the scene subtracted":
            self._subtract_adjusted(power, step)
        return self

    def _subtract_adjusted(self, power: Float32s, step: int) -> None:
        from floemap.sentinel1.residual import estimate_adjustments

        lut = self.scene.noise[self.polarisation]
        self.adjustments = estimate_adjustments(self.coarse, self.scene.swaths, lut.azimuth_blocks)
        for row in range(0, power.shape[0], step):
            end = min(row + step, power.shape[0])
            noise, _ = self.noise.cells(row, end, self.adjustments)
            noise *= self.calibration.inverse_square(row, end)
            noise += self.noise.offsets(row, end, self.adjustments)
            power[row:end] -= noise


def _what_to_subtract(scene: Scene, polarisation: str, method: NoiseMethod) -> str:
    if method == "none":
        return "nothing subtracted, as asked"
    if scene.noise_subtracted[polarisation]:
        return "nothing subtracted: the processor did already"
    if scene.ipf_version < _KNOWN_NOISE_UNITS:
        version = f"{scene.ipf_version[0]}.{scene.ipf_version[1]:02d}"
        logger.warning(
            "%s: thermal noise is not subtracted: processor %s annotates it in unknown units", scene.name, version
        )
        return f"nothing subtracted: processor {version} annotates noise in unknown units"
    return "annotated noise subtracted" if method == "annotated" else "noise adjusted to the scene subtracted"


def block_mean(values: Float32s, valid: Bools, factor: int) -> Float32s:
    """Means over blocks of `factor` x `factor`; NaN where not all of a block is valid; remainders are dropped."""
    rows, cols = values.shape[0] // factor, values.shape[1] // factor
    shape = (rows, factor, cols, factor)
    cut = values[: rows * factor, : cols * factor].reshape(shape)
    whole = np.asarray(valid[: rows * factor, : cols * factor].reshape(shape).all(axis=(1, 3)))
    mean = cut.mean(axis=1, dtype=np.float32).mean(axis=2, dtype=np.float32)
    mean[~whole] = np.nan
    return np.asarray(mean, np.float32)
