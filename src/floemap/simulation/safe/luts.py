"""Calibration and noise of a simulated product: the look-up tables of its annotation, and the values they define.

Levels and shapes are typical of Sentinel-1 EW: sigmaNought is 1087 / sqrt(sin(incidence)); the noise floor varies
across each sub-swath, is highest at its edges, and has scalloping along azimuth that restarts with each burst.
Annotated values are rounded as in the files, and everything here is computed from the rounded tables, so that a reader
gets exactly these numbers.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.interpolate import PchipInterpolator

from floemap.simulation.safe.geometry import Geometry
from floemap.simulation.safe.spec import FULL_LINES, FULL_SAMPLES, SWATHS, Block, ProductSpec, steps

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]
I64 = NDArray[np.int64]

BETA_NOUGHT = 1087.0
#: Noise-equivalent sigma0 of HH in dB at equal steps across each sub-swath, without scalloping.
_NESZ_HH_DB = (
    (-20.0, -23.7, -25.3, -25.3, -24.2, -22.8, -22.6, -23.8, -25.1, -25.7, -25.2, -23.8, -21.3),
    (-26.9, -27.9, -28.5, -28.8, -28.8, -28.8, -28.6, -28.4, -28.1, -27.7, -27.2, -26.4, -25.4),
    (-25.7, -27.1, -28.3, -29.1, -29.6, -29.9, -30.0, -29.9, -29.6, -29.1, -28.3, -27.3, -26.0),
    (-28.6, -30.1, -31.3, -32.1, -32.6, -32.8, -32.7, -32.3, -31.6, -30.6, -29.4, -27.8, -25.9),
    (-30.5, -31.2, -31.8, -32.2, -32.4, -32.4, -32.4, -32.1, -31.7, -31.2, -30.5, -29.7, -28.9),
)
#: Difference of the cross-polarised band, dB.
_NESZ_CROSS_DB = (-0.8, -1.4, -1.6, -1.4, -1.1)
#: Relative excess of noise at the ends of a burst over its middle, of cross- and co-polarised bands.
_SCALLOPING = {True: (0.225, 0.218, 0.188, 0.168, 0.143), False: (0.212, 0.210, 0.189, 0.166, 0.138)}
_BURST_LINES = 506.0
#: Relative size of the slow drift of the noise along azimuth.
_DRIFT = 0.01


@dataclass(frozen=True)
class RangeVector:
    """Noise along one line; 0 outside the image, as in real products."""

    line: int
    pixel: I64
    value: F64
    swath: NDArray[np.int8]


@dataclass(frozen=True)
class AzimuthVector:
    """Noise factor along the lines of one block."""

    block: Block
    line: I64
    value: F64


class SimulatedLuts:
    """Tables of a product and the exact values they define. `lines` and `pixels` are 1-D, results (lines, pixels)."""

    def __init__(self, spec: ProductSpec) -> None:
        self.spec = spec
        self.geometry = Geometry(spec)
        self.blocks = spec.blocks()
        rng = np.random.default_rng([spec.seed, 1])
        self._phase = rng.uniform(0, 1, len(SWATHS))
        self._drift_phase = rng.uniform(0, 2 * np.pi, len(SWATHS))
        self._level = {p: 1 + spec.noise_departure * rng.uniform(-1, 1, len(SWATHS)) for p in spec.polarisations}
        self._depth = {p: 1 + 4 * spec.noise_departure * rng.uniform(0.3, 1, len(SWATHS)) for p in spec.polarisations}

    # -- calibration -------------------------------------------------------------------------------------------

    @cached_property
    def calibration_pixels(self) -> I64:
        """Samples of the calibration vectors."""
        return steps(self.spec.samples, max(1, round(40 * self.spec.samples / FULL_SAMPLES)))

    @cached_property
    def calibration_lines(self) -> I64:
        """Lines of the calibration vectors; as in real products, the last one is past the last line."""
        step = self.vector_step
        return np.arange(0, self.spec.lines + step, step)

    @property
    def vector_step(self) -> int:
        """Lines from one vector to the next: those of one second, fewer on small images."""
        return max(1, min(167, self.spec.lines // 8))

    @cached_property
    def sigma_nought_vector(self) -> F64:
        """Calibration at :attr:`calibration_pixels`, the same on all lines, rounded as written."""
        return _as_written(BETA_NOUGHT / np.sqrt(np.sin(self._incidence)))

    @cached_property
    def gamma_vector(self) -> F64:
        """Calibration to gamma nought at :attr:`calibration_pixels`, rounded as written."""
        return _as_written(BETA_NOUGHT / np.sqrt(np.tan(self._incidence)))

    @property
    def _incidence(self) -> F64:
        return np.radians(self.geometry.incidence_deg(self.calibration_pixels))

    def sigma_nought(self, lines: ArrayLike, pixels: ArrayLike) -> F64:
        """Return A in sigma0 = (DN^2 - noise) / A^2."""
        row = np.interp(np.atleast_1d(pixels), self.calibration_pixels, self.sigma_nought_vector)
        return np.tile(row, (np.size(lines), 1))

    # -- sub-swaths --------------------------------------------------------------------------------------------

    def swath_index(self, lines: ArrayLike, pixels: ArrayLike) -> NDArray[np.int8]:
        """Return the sub-swath, 0 to 4, of every position, -1 outside the image."""
        lines, pixels = np.atleast_1d(lines), np.atleast_1d(pixels)
        index = np.full((lines.size, pixels.size), -1, np.int8)
        for b in self.blocks:
            index[np.ix_(*_within(b, lines, pixels))] = b.swath
        return index

    def fringe_px(self, lines: ArrayLike) -> tuple[I64, I64]:
        """Return the width of the dim fringe at the near and the far side, by line; 0 from IPF 2.9 on.

        Earlier processors wrote low values where the sampling window had moved, in steps along azimuth.
        """
        lines = np.atleast_1d(lines)
        if self.spec.noise_format != "vectors":
            return np.zeros(lines.size, int), np.zeros(lines.size, int)
        window = (lines * (FULL_LINES / self.spec.lines) / (4 * _BURST_LINES)).astype(int)
        # Both sides of a window are drawn together, so that its widths do not depend on the number of windows.
        widths = np.random.default_rng([self.spec.seed, 3]).integers(15, 60, (window.max() + 1, 2))
        scaled = np.rint(widths * (self.spec.samples / FULL_SAMPLES)).astype(int)
        return scaled[window, 0], scaled[window, 1]

    # -- noise, as annotated -----------------------------------------------------------------------------------

    @cached_property
    def _range_vectors(self) -> dict[str, list[RangeVector]]:
        lines = np.arange(0, self.spec.lines, self.vector_step)  # may end before the last line
        return {p: [self._range_vector(p, int(line)) for line in lines] for p in self.spec.polarisations}

    def range_vectors(self, polarisation: str) -> list[RangeVector]:
        """Return noise along range: with doubled points at the seams from IPF 2.9 on, on a regular grid before."""
        return self._range_vectors[polarisation]

    def _range_vector(self, polarisation: str, line: int) -> RangeVector:
        step = max(1, round(40 * self.spec.samples / FULL_SAMPLES))
        if self.spec.noise_format == "vectors":
            pixel = steps(self.spec.samples, step)
        else:
            ends = self._ends(line)
            pieces = [np.union1d(np.arange(a, b, step), [b]) for a, b in zip(ends[:-1], ends[1:] - 1, strict=True)]
            pixel = np.concatenate(pieces)
        swath = self.swath_index([line], pixel)[0]
        value = np.zeros(pixel.size)
        for s in range(len(SWATHS)):
            here = swath == s
            value[here] = self._range_noise(polarisation, s, line, pixel[here])
        return RangeVector(line, pixel, _as_written(value), swath)

    def _ends(self, line: int) -> I64:
        """Return the first samples of the sub-swaths on a line, also of those that begin later, and the width."""
        here = sorted((b for b in self.blocks if b.first_line <= line <= b.last_line), key=lambda b: b.first_sample)
        first = {b.swath: b.first_sample for b in reversed(self.blocks)}  # of the earliest block of each sub-swath
        edge = here[-1].last_sample + 1
        later = [x for swath, x in first.items() if swath > here[-1].swath and x > edge]
        return np.unique([*(b.first_sample for b in here), edge, *later, self.spec.samples])

    def _range_noise(self, polarisation: str, swath: int, line: int, pixel: I64) -> F64:
        """Return DN^2 of the noise in the middle of a burst."""
        late = [b for b in self.blocks if b.swath == swath][-1]
        table = np.array(_NESZ_HH_DB[swath])
        if polarisation in ("HV", "VH"):
            table = table + _NESZ_CROSS_DB[swath]
        u = (pixel - late.first_sample) / (late.last_sample - late.first_sample)
        nesz_db = PchipInterpolator(np.linspace(0, 1, table.size), table, extrapolate=False)(np.clip(u, 0, 1))
        drift = 1 + _DRIFT * np.sin(2 * np.pi * line / self.spec.lines + self._drift_phase[swath])
        return np.asarray(10 ** (nesz_db / 10) * self.sigma_nought([0], pixel)[0] ** 2 * drift)

    @cached_property
    def _azimuth_vectors(self) -> dict[str, list[AzimuthVector]]:
        step = max(1, round(10 * self.spec.lines / FULL_LINES))
        made: dict[str, list[AzimuthVector]] = {p: [] for p in self.spec.polarisations}
        for b in self.blocks:
            inner = np.arange(-(-b.first_line // step) * step, b.last_line, step)
            line = np.unique([b.first_line, *inner, b.last_line])
            if b.last_line - b.first_line < 4 * step:
                line = line[:1]  # short blocks of real products have a single value
            for p in self.spec.polarisations:
                made[p].append(AzimuthVector(b, line, _as_written(self._scalloping(p, b.swath, line))))
        return made

    def azimuth_vectors(self, polarisation: str) -> list[AzimuthVector]:
        """Return noise factors along azimuth, one vector per sub-swath block; none before IPF 2.9."""
        return [] if self.spec.noise_format == "vectors" else self._azimuth_vectors[polarisation]

    def _scalloping(self, polarisation: str, swath: int, line: ArrayLike, depth: float = 1.0) -> F64:
        """Return a factor of at least 1, which grows with the square of the distance from the middle of the burst."""
        period = _BURST_LINES * self.spec.lines / FULL_LINES
        x = 2 * np.mod(np.asarray(line, float) / period + self._phase[swath], 1) - 1
        return np.asarray(1 + depth * _SCALLOPING[polarisation in ("HV", "VH")][swath] * x**2)

    # -- noise, at any position --------------------------------------------------------------------------------

    def noise_annotated(self, polarisation: str, lines: ArrayLike, pixels: ArrayLike) -> F32:
        """Return noise in DN^2 by the annotation: range noise times azimuth noise, not interpolated across seams.

        Range vectors are interpolated along the line from points of one sub-swath only, and between lines; beyond the
        last point of a sub-swath or the last vector, the nearest value is used. NaN outside the image.
        """
        return self._noise(polarisation, lines, pixels, true=False)

    def noise_true(self, polarisation: str, lines: ArrayLike, pixels: ArrayLike) -> F32:
        """Return noise in DN^2 of the pixels, which differs from the annotation in level and scalloping per sub-swath.

        Before IPF 2.9 the annotation does not contain the scalloping, so all of it is a difference.
        """
        return self._noise(polarisation, lines, pixels, true=True)

    def _noise(self, polarisation: str, lines: ArrayLike, pixels: ArrayLike, *, true: bool) -> F32:
        lines, pixels = np.atleast_1d(lines), np.atleast_1d(pixels)
        out = np.full((lines.size, pixels.size), np.nan, np.float32)
        for i, b in enumerate(self.blocks):
            rows, cols = _within(b, lines, pixels)
            if not (rows.size and cols.size):
                continue
            factor = self._azimuth_factor(polarisation, i, lines[rows])
            if true:
                level = self._level[polarisation][b.swath]
                factor = factor * level * self._extra_scalloping(polarisation, b.swath, lines[rows])
            noise = self._interpolated_range_noise(polarisation, b, lines[rows], pixels[cols])
            out[np.ix_(rows, cols)] = noise * factor[:, None].astype(np.float32)
        return out

    def _azimuth_factor(self, polarisation: str, block: int, lines: I64) -> F64:
        if self.spec.noise_format == "vectors":
            return np.ones(lines.size)
        vector = self._azimuth_vectors[polarisation][block]
        return np.interp(lines, vector.line, vector.value)

    def _extra_scalloping(self, polarisation: str, swath: int, lines: I64) -> F64:
        """Return the ratio of true to annotated scalloping."""
        if self.spec.noise_departure == 0:
            return np.ones(lines.size)
        deeper = self._scalloping(polarisation, swath, lines, float(self._depth[polarisation][swath]))
        if self.spec.noise_format == "vectors":
            return deeper
        return deeper / self._scalloping(polarisation, swath, lines)

    def _interpolated_range_noise(self, polarisation: str, b: Block, lines: I64, pixels: I64) -> F32:
        """Return the range noise of positions in one block, (lines, pixels)."""
        at, rows = [], []
        for v in self.range_vectors(polarisation):
            own = v.swath == b.swath
            if own.any():
                at.append(v.line)
                rows.append((v.pixel[own], v.value[own]))
        upper = np.clip(np.searchsorted(at, lines), 0, len(at) - 1)
        lower = np.clip(np.searchsorted(at, lines, side="right") - 1, 0, len(at) - 1)
        needed = np.unique([lower, upper])
        table = np.stack([np.interp(pixels, *rows[k]) for k in needed]).astype(np.float32)
        lower_line, upper_line = np.asarray(at)[lower], np.asarray(at)[upper]
        gap = np.maximum(upper_line - lower_line, 1)
        weight = np.clip((lines - lower_line) / gap, 0, 1).astype(np.float32)[:, None]
        first, second = table[np.searchsorted(needed, lower)], table[np.searchsorted(needed, upper)]
        return np.asarray(first + weight * (second - first))


def _within(b: Block, lines: I64, pixels: I64) -> tuple[I64, I64]:
    """Return the indices of the lines and of the pixels in a block."""
    rows = np.flatnonzero((lines >= b.first_line) & (lines <= b.last_line))
    cols = np.flatnonzero((pixels >= b.first_sample) & (pixels <= b.last_sample))
    return rows, cols


def _as_written(values: F64) -> F64:
    """Round to the seven digits of annotations."""
    return np.array([float(f"{x:.6e}") for x in np.ravel(values)]).reshape(np.shape(values))
