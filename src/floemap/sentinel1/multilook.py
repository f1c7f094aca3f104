"""Averaging the radar image to calibrated cells, in one pass over the pixels, block by block, for both polarisations.

A cell is a block of pixels, some 80 m on the side, whose power is averaged. The pass also computes *coarse statistics*,
means over some 640 m of the power before noise is subtracted and of the annotated noise. From these,
:mod:`floemap.sentinel1.noise_residual` measures, and on request removes, the error of the annotation.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Literal

import numpy as np

from floemap.errors import GridError, ProductError
from floemap.progress import Progress, silent
from floemap.sentinel1.coarse import COARSE_PX, CoarseStatistics, block_mean, whole_blocks
from floemap.sentinel1.metadata import Scene
from floemap.sentinel1.noise_residual import estimate_adjustments
from floemap.sentinel1.radiometry import (
    Bools,
    CalibrationTable,
    Float32s,
    NoiseAdjustment,
    NoiseTable,
    border_lines,
    border_noise,
    cell_power,
    dim_cells,
)
from floemap.sentinel1.safe.reader import open_measurement

logger = logging.getLogger(__name__)

NoiseMethod = Literal["annotated", "scaled", "none"]

#: Number of pixels in a block of lines, large enough that numpy's overhead per call does not matter.
_BLOCK_PIXELS = 4_000_000
#: The annotation is wrong where the measured power, which includes the noise, is under this part of the annotated
#: noise; and the largest share of the image in which it may be so.
_NOISE_TOO_HIGH, _MOST_TOO_HIGH = 0.5, 0.05
#: First processor version that fills the image's border with zeros; older ones left low values.
_CLEAN_BORDERS = (2, 90)
#: How records describe the subtraction of thermal noise.
_ANNOTATED, _ADJUSTED = "annotated noise subtracted", "noise adjusted to the scene subtracted (experimental)"
_BORDER_MARGIN_PX = 500
#: Sigma nought that replaces the thermal noise in finding the border if the annotated noise is unknown. The noise of EW
#: within the margin of either side is higher, -31 dB at least in a real product.
_LEAST_BORDER_NOISE_DB = -32.0


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
        Coarse statistics by polarisation.
    subtracted
        Description of the subtraction of thermal noise, by polarisation.
    adjustments
        Adjustments by polarisation and sub-swath, for the method ``scaled``.
    noise_too_high
        Share of the image in which the annotated noise is over twice the measured power, which includes the noise, by
        polarisation; 0 for a right annotation.
    """

    power: Float32s
    looks: int
    coarse: dict[str, CoarseStatistics]
    subtracted: dict[str, str]
    adjustments: dict[str, dict[str, NoiseAdjustment]]
    noise_too_high: dict[str, float]


def looks_for(scene: Scene, resolution_m: float) -> int:
    """Return the pixels along the side of the largest cell that does not exceed the resolution, at least 1.

    Raises
    ------
    GridError
        If a cell would be larger than the scene.
    """
    looks = max(1, int(resolution_m / max(scene.pixel_spacing_m) + 1e-6))
    if looks > min(scene.shape):
        raise GridError(f"pixels of {resolution_m:g} m are larger than the scene.", hint="Choose a smaller pixel size.")
    return looks


def calibrate(scene: Scene, *, looks: int, noise: NoiseMethod = "annotated", progress: Progress = silent) -> CellImage:
    """Turn a scene's pixels into calibrated cells.

    Parameters
    ----------
    scene
        Scene that was opened with pixels.
    looks
        Pixels along the side of a cell.
    noise
        ``annotated``: subtract the annotated thermal noise. ``scaled``: the same, adjusted to the scene itself.
        ``none``: subtract nothing.

    Raises
    ------
    ProductError
        If the pixels cannot be read, or the annotated noise is to be subtracted but cannot be right.
    """
    rows, cols = scene.shape[0] // looks, scene.shape[1] // looks
    count = len(scene.polarisations)
    power = np.zeros((rows, cols, count + 1), np.float32)
    done = dict.fromkeys(scene.polarisations, 0)

    def note(polarisation: str, row: int) -> None:
        done[polarisation] = row
        progress(sum(done.values()), rows * count, "calibrating")

    with ThreadPoolExecutor(count) as pool:
        passes = [
            pool.submit(_Pass(scene, p, looks, noise).run, power[:, :, i], partial(note, p))
            for i, p in enumerate(scene.polarisations)
        ]
        results = [p.result() for p in passes]
    valid = np.logical_and.reduce([r.valid for r in results])
    power[:, :, count] = valid
    for i, result in enumerate(results):
        power[:, :, i] *= valid  # a cell is valid only if all polarisations are
        del result.valid
    by_polarisation = dict(zip(scene.polarisations, results, strict=True))
    return CellImage(
        power=power,
        looks=looks,
        coarse={p: r.coarse for p, r in by_polarisation.items()},
        subtracted={p: r.subtracted for p, r in by_polarisation.items()},
        adjustments={p: r.adjustments for p, r in by_polarisation.items()},
        noise_too_high={p: r.noise_too_high for p, r in by_polarisation.items()},
    )


class _Pass:
    """The pass over the pixels of one polarisation."""

    def __init__(self, scene: Scene, polarisation: str, looks: int, noise: NoiseMethod) -> None:
        self.scene = scene
        self.polarisation = polarisation
        self.looks = looks
        self.method = noise
        self.subtracted = _what_to_subtract(scene, polarisation, noise)
        lut = scene.noise[polarisation]
        usable = scene.noise_units_known and lut.unusable is None and not scene.noise_subtracted[polarisation]
        self.noise_usable = usable
        self.noise = NoiseTable(lut if usable else None, scene.swaths, scene.shape, looks)
        self.calibration = CalibrationTable(scene.calibration[polarisation], scene.shape[1], looks)
        self.adjustments: dict[str, NoiseAdjustment] = {}
        self.valid: Bools
        self.noise_too_high = 0.0

    def run(self, power: Float32s, note: Callable[[int], None]) -> _Pass:
        """Fill `power`, (rows, cols), and store the validity of cells and the coarse statistics."""
        rows, cols = power.shape
        self.valid = np.zeros((rows, cols), bool)
        factor = max(1, COARSE_PX // self.looks)
        step = max(factor, _BLOCK_PIXELS // (self.scene.shape[1] * self.looks) // factor * factor)
        coarse_signal, coarse_noise = [], []
        edges = _Edges(rows, _BORDER_MARGIN_PX // self.looks) if self.scene.ipf_version < _CLEAN_BORDERS else None
        subtract_now = self.subtracted == _ANNOTATED
        with open_measurement(self.scene, self.polarisation) as measurement:
            for row in range(0, rows, step):
                end = min(row + step, rows)
                dn = measurement.read(row * self.looks, end * self.looks)
                signal, valid = cell_power(dn, self.looks, zero_is_data=self.scene.noise_subtracted[self.polarisation])
                noise, inside = self.noise.cells(row, end)
                valid &= inside
                scale = self.calibration.inverse_square(row, end)
                if edges is not None:
                    expected = self._border_noise(noise, scale)
                    edges.add(row, signal, expected, valid)
                    valid &= ~border_noise(signal, expected, valid, edges.margin)
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
        if edges is not None:
            edges.leave_out(self.valid)
            self.coarse.signal[~whole_blocks(self.valid, factor)] = np.nan
        self.noise_too_high = _noise_too_high(self.coarse)
        if self.method != "none" and self.noise_too_high > _MOST_TOO_HIGH:
            reason = f"it is over twice the measured power in {self.noise_too_high:.0%} of the image"
            raise _noise_error(self.scene, self.polarisation, reason)
        if self.subtracted == _ADJUSTED:
            self._subtract_adjusted(power, step)
        return self

    def _border_noise(self, noise: Float32s, scale: Float32s) -> Float32s:
        """Return the noise in DN^2 for finding the border; 0 if the processor subtracted it."""
        if self.noise_usable or self.scene.noise_subtracted[self.polarisation]:
            return noise
        return np.asarray(np.float32(10 ** (_LEAST_BORDER_NOISE_DB / 10)) / scale, np.float32)

    def _subtract_adjusted(self, power: Float32s, step: int) -> None:
        lut = self.scene.noise[self.polarisation]
        self.adjustments = estimate_adjustments(self.coarse, self.scene.swaths, lut.azimuth_blocks)
        for row in range(0, power.shape[0], step):
            end = min(row + step, power.shape[0])
            noise, _ = self.noise.cells(row, end, self.adjustments)
            noise *= self.calibration.inverse_square(row, end)
            noise += self.noise.offsets(row, end, self.adjustments)
            power[row:end] -= noise


class _Edges:
    """The dim lines before the first and after the last line of signal, collected from blocks of lines."""

    def __init__(self, rows: int, margin: int) -> None:
        self.rows = rows
        self.margin = margin
        self.depth = min(margin, rows // 4)
        self.first: list[Bools] = []
        self.last: list[Bools] = []

    def add(self, row: int, signal: Float32s, noise: Float32s, valid: Bools) -> None:
        """Add the rows of cells from `row` on, if they are near the first or the last row."""
        end = row + len(signal)
        head = slice(0, max(0, min(end, self.depth) - row))
        tail = slice(min(max(self.rows - self.depth - row, 0), len(signal)), end - row)
        for part, found in ((head, self.first), (tail, self.last)):
            if len(signal[part]):
                found.append(dim_cells(signal[part], noise[part], valid[part]))

    def leave_out(self, valid: Bools) -> None:
        """Mark the dim lines as invalid."""
        if self.depth:
            valid[: self.depth] &= ~border_lines(np.vstack(self.first))
            valid[-self.depth :] &= ~border_lines(np.vstack(self.last)[::-1])[::-1]


def _what_to_subtract(scene: Scene, polarisation: str, method: NoiseMethod) -> str:
    if method == "none":
        return "nothing subtracted, as asked"
    if scene.noise_subtracted[polarisation]:
        return "nothing subtracted: the processor did already"
    if not scene.noise_units_known:
        version = f"{scene.ipf_version[0]}.{scene.ipf_version[1]:02d}"
        logger.warning(
            "%s: thermal noise is not subtracted: processor %s annotates it in unknown units", scene.name, version
        )
        return f"nothing subtracted: processor {version} annotates noise in unknown units"
    unusable = scene.noise[polarisation].unusable
    if unusable is not None:
        raise _noise_error(scene, polarisation, unusable)
    if method == "annotated":
        return _ANNOTATED
    logger.warning(
        "%s: noise adjusted to the scene is experimental: it was tested on simulated scenes only", scene.name
    )
    return _ADJUSTED


def _noise_error(scene: Scene, polarisation: str, reason: str) -> ProductError:
    return ProductError(
        f"its annotated noise of {polarisation} cannot be right: {reason}.",
        path=scene.container.path,
        hint="Use another product of that time, or prepare this one without subtracting noise (noise = none).",
    )


def _noise_too_high(coarse: CoarseStatistics) -> float:
    """Return the share of the image where the measured power, noise included, is far under the annotated noise."""
    known = np.isfinite(coarse.signal) & np.isfinite(coarse.noise)
    low = coarse.signal[known] < _NOISE_TOO_HIGH * coarse.noise[known]
    return float(low.mean()) if low.size else 0.0
