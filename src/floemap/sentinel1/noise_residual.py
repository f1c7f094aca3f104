"""Measuring, and on request removing, the thermal noise that is left after ESA's annotation is subtracted.

The annotated noise has errors of some percent, which differ between sub-swaths. They leave steps at the seams and
stripes ("scalloping"), strongest in HV over calm water. Following the ideas of Park et al. (2018, "Efficient
thermal noise removal for Sentinel-1 TOPSAR cross-polarization channel", doi:10.1109/TGRS.2017.2765248) and Sun and Li
(2021, "Denoising Sentinel-1 extra-wide mode cross-polarization images over sea ice", doi:10.1109/TGRS.2020.3005831),
three numbers per sub-swath correct most of this: a scale of the noise, a gain of its azimuth variation, and an offset.
Those authors use tables made from many scenes; here the numbers are estimated from the scene itself. The input are
coarse block means. Robust medians over many windows exclude the variation of ice and water, and a number that the scene
does not determine stays as annotated.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from floemap.sentinel1.coarse import CoarseStatistics
from floemap.sentinel1.metadata import AzimuthNoise, Floats, SwathBounds, bounds_by_swath
from floemap.sentinel1.radiometry import NoiseAdjustment, azimuth_factor

#: Coarse rows of a window, some 10 km: scalloping averages out, and ice and water hardly vary.
_WINDOW = 16
#: Coarse columns on each side of a seam from which the level at the seam is extrapolated, and the number of columns
#: next to the seam that are left out because a block may be on both sides.
_SEAM_COLS, _SEAM_GAP = 12, 1
#: Least number of windows, and largest standard error, for a step to be reported.
_FEWEST_WINDOWS, _STEP_ERROR_DB = 4, 0.4
#: Noise is measured only where the power, which includes it, is under this many times the noise. Elsewhere ice and
#: water vary more than the error of the annotation, and their variation would be mistaken for that of the noise.
_NOISY = 2.0
#: Plausible range of scale and gain, and the largest offset as a part of the mean noise.
_SCALE = (0.75, 1.33)
_SCALLOPING = (0.3, 1.7)
_OFFSET = 0.1


@dataclass(frozen=True)
class ResidualNoise:
    """Artefacts of one polarisation in the most uniform third of its windows.

    Attributes
    ----------
    seam_step_db
        Brightness of the far side over the near side by seam ("EW1/EW2"), median over windows; a seam at which the
        scene varies too much is left out.
    scalloping_db
        Peak-to-peak amplitude of the stripes that follow the annotated azimuth factor, by sub-swath.
    """

    seam_step_db: dict[str, float]
    scalloping_db: dict[str, float]

    @property
    def worst_seam_db(self) -> float:
        """Largest absolute step; NaN if there is no seam."""
        return max((abs(v) for v in self.seam_step_db.values()), default=float("nan"))

    @property
    def worst_scalloping_db(self) -> float:
        """Largest scalloping; NaN if none was measured."""
        return max(self.scalloping_db.values(), default=float("nan"))


class _Swaths:
    """The sub-swath of each coarse block, and the azimuth factor by coarse row."""

    def __init__(self, coarse: CoarseStatistics, swaths: Sequence[SwathBounds], blocks: Sequence[AzimuthNoise]) -> None:
        n = coarse.block_px
        rows, cols = coarse.signal.shape
        self.names = list(bounds_by_swath(swaths))
        self.index = np.full((rows, cols), -1, np.int8)  # -1: none or several
        for b in swaths:
            r0, r1 = -(-b.first_line // n), (b.last_line + 1) // n
            c0, c1 = -(-b.first_pixel // n), (b.last_pixel + 1) // n
            self.index[r0:r1, c0:c1] = self.names.index(b.swath)
        centres = np.arange(rows) * n + (n - 1) / 2
        self.factor = {s: azimuth_factor(blocks, s, centres) for s in self.names}

    def columns(self, swath: int) -> slice:
        """Return the columns that belong to a sub-swath in most rows."""
        mine = np.flatnonzero((self.index == swath).mean(axis=0) > 0.5)
        return slice(int(mine[0]), int(mine[-1]) + 1) if len(mine) else slice(0, 0)


def measure(
    coarse: CoarseStatistics,
    swaths: Sequence[SwathBounds],
    blocks: Sequence[AzimuthNoise],
    adjust: dict[str, NoiseAdjustment] | None,
) -> ResidualNoise:
    """Measure seams and scalloping after subtracting the adjusted noise; if `adjust` is None, without subtracting."""
    where = _Swaths(coarse, swaths, blocks)
    left = coarse.signal - (_adjusted(coarse, where, adjust) if adjust is not None else 0)
    steps = {}
    for i, name in enumerate(where.names[:-1]):
        step = _step_db(*_most_uniform(*_levels_at_seam(left, where, i)))
        if step is not None:
            steps[f"{name}/{where.names[i + 1]}"] = step
    scalloping = {}
    for i, name in enumerate(where.names):
        swing = _swing(left, where, i)
        if swing is not None:
            amplitude, level = swing
            amplitude = min(amplitude, 0.99 * level)
            scalloping[name] = float(10 * np.log10((level + amplitude) / (level - amplitude)))
    return ResidualNoise(steps, scalloping)


def _step_db(near: Floats, far: Floats) -> float | None:
    """Return the brightness of the far side over the near side in dB; None if ice and water vary too much."""
    if len(near) < _FEWEST_WINDOWS or np.median(near) <= 0 or np.median(far) <= 0:
        return None
    each = 10 * np.log10(np.maximum(far, 1e-9) / np.maximum(near, 1e-9))
    error = 1.4826 * np.median(abs(each - np.median(each))) / np.sqrt(len(each))
    return float(10 * np.log10(np.median(far) / np.median(near))) if error < _STEP_ERROR_DB else None


def estimate_adjustments(
    coarse: CoarseStatistics, swaths: Sequence[SwathBounds], blocks: Sequence[AzimuthNoise]
) -> dict[str, NoiseAdjustment]:
    """Estimate scale, scalloping gain and offset of every sub-swath's noise from the scene itself.

    1. Scale: within windows, the range profile of the signal is regressed on that of the noise and a straight line,
       because ice does not have the noise's humps. 2. Scalloping: the same along azimuth. 3. Offset: the remaining
       steps at the seams, medians over windows, distributed so that the scene's mean level does not change.
    """
    where = _Swaths(coarse, swaths, blocks)
    if not np.nanmax(coarse.noise, initial=0) > 0:
        return {name: NoiseAdjustment() for name in where.names}
    levels = [_scale(coarse, where, i) for i in range(len(where.names))]
    gains = [_scalloping_gain(coarse, where, i, levels[i]) for i in range(len(where.names))]
    # A level refers to the noise with its stripes; using it as the scale of the noise without them counts them twice.
    means = [float(where.factor[name].mean()) for name in where.names]
    scales = [k * m - k * g * (m - 1) for k, g, m in zip(levels, gains, means, strict=True)]
    gains = [g * k / scale for g, k, scale in zip(gains, levels, scales, strict=True)]
    partly = {n: NoiseAdjustment(scales[i], gains[i]) for i, n in enumerate(where.names)}
    offsets = _offsets(coarse.signal - _adjusted(coarse, where, partly), where, coarse.noise)
    return {n: NoiseAdjustment(scales[i], gains[i], offsets[i]) for i, n in enumerate(where.names)}


def _adjusted(coarse: CoarseStatistics, where: _Swaths, adjust: dict[str, NoiseAdjustment]) -> Floats:
    noise = coarse.noise.astype(np.float64)
    for i, name in enumerate(where.names):
        a, factor = adjust.get(name, NoiseAdjustment()), where.factor[name]
        change = a.scale * (1 + a.scalloping * (factor - 1)) / np.maximum(factor, 1e-3)
        noise = np.where(where.index == i, noise * change[:, None] + a.offset, noise)
    return noise


def _scale(coarse: CoarseStatistics, where: _Swaths, swath: int) -> float:
    """Return the mean slope over windows of signal on noise along range; 1 if the scene does not determine it."""
    columns = where.columns(swath)
    fits = []
    for signal, noise in _windows(coarse, where.index == swath, columns):
        x = np.linspace(-1, 1, len(signal))
        fits.append(_slope(signal, noise, np.stack([np.ones_like(x), x], axis=1)))
    return _combined(fits, _SCALE, near=0.05)


def _windows(coarse: CoarseStatistics, mine: NDArray[np.bool_], columns: slice) -> list[tuple[Floats, Floats]]:
    """Return mean range profiles of signal and noise in windows of rows that are complete and noisy."""
    profiles = []
    for row in range(0, coarse.signal.shape[0] - _WINDOW + 1, _WINDOW):
        rows = slice(row, row + _WINDOW)
        ok = mine[rows, columns] & np.isfinite(coarse.signal[rows, columns])
        keep = ok.all(axis=0)
        if keep.sum() >= 16:
            signal = coarse.signal[rows, columns].mean(axis=0, dtype=np.float64)[keep]
            noise = coarse.noise[rows, columns].mean(axis=0, dtype=np.float64)[keep]
            if signal.mean() < _NOISY * noise.mean():
                profiles.append((signal, noise))
    return profiles


def _slope(y: Floats, x: Floats, others: Floats) -> tuple[float, float] | None:
    """Return the slope of y on x in a regression with other variables, and its variance. The errors are correlated, so
    a quarter of the samples count as independent."""
    design = np.column_stack([x, others])
    solution, _, rank, _ = np.linalg.lstsq(design, y, rcond=None)
    if rank < design.shape[1]:
        return None
    rest = y - design @ solution
    spread = (rest**2).sum() / max(len(y) / 4 - design.shape[1], 1)
    variance = spread * np.linalg.inv(design.T @ design)[0, 0] / 4
    return float(solution[0]), float(max(variance, 1e-12))


def _combined(fits: Sequence[tuple[float, float] | None], bounds: tuple[float, float], near: float) -> float:
    """Return the mean by inverse variance without outliers; 1 unless its error is under `near` and it is plausible."""
    known = [fit for fit in fits if fit is not None]
    if len(known) < 4:
        return 1.0
    s, variance = np.array(known).T
    w = 1 / (variance + 0.02**2)
    for _ in range(3):
        mean = (w * s).sum() / w.sum()
        deviation = 1.4826 * np.median(abs(s - mean)) + 1e-6
        w = np.where(abs(s - mean) > 2.5 * deviation, 0, w)
        if not w.any():
            return 1.0
    mean = (w * s).sum() / w.sum()
    error = np.sqrt((w**2 * (s - mean) ** 2).sum()) / w.sum()
    return float(mean) if error < near and bounds[0] < mean < bounds[1] else 1.0


def _azimuth_profiles(values: Floats, where: _Swaths, swath: int) -> Floats | None:
    """Return means along range by coarse row, NaN in incomplete rows; None if too few are complete."""
    columns = where.columns(swath)
    if columns.stop - columns.start < 8:
        return None
    whole = (where.index[:, columns] == swath).all(axis=1) & np.isfinite(values[:, columns]).mean(axis=1).__gt__(0.5)
    if whole.sum() < 4 * _WINDOW:
        return None
    profile = np.full(values.shape[0], np.nan)
    profile[whole] = np.nanmean(values[np.ix_(whole, np.arange(columns.start, columns.stop))], axis=1)
    return profile


def _high_pass(profile: Floats, rows: int) -> Floats:
    """Subtract the running mean over `rows`, which ignores NaN."""
    ok = np.isfinite(profile)
    kernel = np.ones(rows)
    total = np.convolve(np.where(ok, profile, 0), kernel, mode="same")
    count = np.convolve(ok.astype(float), kernel, mode="same")
    return profile - total / np.maximum(count, 1)


def _periods(where: _Swaths, swath: int) -> int:
    """Return the number of coarse rows in some two scalloping periods, from the spectrum of the annotated factor."""
    factor = where.factor[where.names[swath]]
    spectrum = abs(np.fft.rfft(factor - factor.mean()))
    strongest = int(np.argmax(spectrum[1:]) + 1) if len(spectrum) > 1 else 1
    return int(np.clip(2 * len(factor) / strongest, 8, max(8, len(factor) // 3)))


def _azimuth_regressions(
    coarse: CoarseStatistics, flat: Floats, swing: Floats, where: _Swaths, swath: int
) -> list[tuple[float, float] | None]:
    """Regress azimuth profiles of the signal less `flat` on those of `swing`, in noisy windows of some two periods."""
    y, x = _azimuth_profiles(coarse.signal - flat, where, swath), _azimuth_profiles(swing, where, swath)
    noise = _azimuth_profiles(flat, where, swath)
    if y is None or x is None or noise is None:
        return []
    fits = []
    beside_noise = y.copy()
    rows = _periods(where, swath)
    y, x = _high_pass(y, rows), _high_pass(x, rows)
    for row in range(0, len(y) - rows + 1, max(rows // 2, 1)):
        part = slice(row, row + rows)
        noisy = np.mean(beside_noise[part]) < (_NOISY - 1) * np.mean(noise[part])  # False where not finite
        if noisy and np.isfinite(y[part]).all() and np.std(x[part]) > 0:
            fits.append(_slope(y[part], x[part], np.ones((rows, 1))))
    return fits


def _scalloping_gain(coarse: CoarseStatistics, where: _Swaths, swath: int, scale: float) -> float:
    factor = where.factor[where.names[swath]][:, None]
    flat = scale * coarse.noise / np.maximum(factor, 1e-3)
    swing = flat * (factor - 1)
    return _combined(_azimuth_regressions(coarse, flat, swing, where, swath), _SCALLOPING, near=0.1)


def _swing(left: Floats, where: _Swaths, swath: int) -> tuple[float, float] | None:
    """Return half of the peak-to-peak amplitude that follows the annotated factor, and the level; None if unknown."""
    factor = where.factor[where.names[swath]]
    if np.ptp(factor) < 1e-3:
        return None
    swing = np.broadcast_to((factor - 1)[:, None], left.shape)
    y, x = _azimuth_profiles(left, where, swath), _azimuth_profiles(swing, where, swath)
    if y is None or x is None:
        return None
    rows = _periods(where, swath)
    high_y, high_x = _high_pass(y, rows), _high_pass(x, rows)
    ok = np.isfinite(high_y) & np.isfinite(high_x)
    usual = 1.4826 * np.median(abs(high_y[ok])) if ok.any() else 0.0
    ok &= abs(high_y) <= 3 * usual  # floes and leads are not stripes
    slope = float((high_y[ok] * high_x[ok]).sum() / max((high_x[ok] ** 2).sum(), 1e-12))
    level = float(np.median(y[ok])) if ok.any() else 0.0
    return (abs(slope) * float(np.ptp(factor)) / 2, level) if level > 0 else None


def _levels_at_seam(values: Floats, where: _Swaths, swath: int) -> tuple[Floats, Floats, Floats]:
    """Return levels on both sides of the seam after sub-swath `swath` by window, and the windows' roughness.

    Levels are extrapolated to the seam by straight lines; roughness is the scatter of the profiles about them.
    """
    found = []
    for row in range(0, values.shape[0] - _WINDOW + 1, _WINDOW):
        rows = slice(row, row + _WINDOW)
        inside = where.index[rows]
        near = np.flatnonzero((inside == swath).all(axis=0))
        far = np.flatnonzero((inside == swath + 1).all(axis=0))
        if len(near) < _SEAM_COLS + _SEAM_GAP or len(far) < _SEAM_COLS + _SEAM_GAP:
            continue
        seam = (near[-1] + far[0]) / 2
        sides = (near[-_SEAM_COLS - _SEAM_GAP : -_SEAM_GAP], far[_SEAM_GAP : _SEAM_COLS + _SEAM_GAP])
        profiles = [values[rows, cols].mean(axis=0) for cols in sides]
        if all(np.isfinite(p).all() for p in profiles):
            fits = [np.polyfit(c - seam, p, 1) for c, p in zip(sides, profiles, strict=True)]
            rests = [p - np.polyval(f, c - seam) for c, p, f in zip(sides, profiles, fits, strict=True)]
            found.append([fits[0][1], fits[1][1], float(np.sqrt(np.mean(np.square(rests))))])
    near_level, far_level, rough = np.array(found, float).reshape(-1, 3).T
    return near_level, far_level, rough


def _most_uniform(near: Floats, far: Floats, rough: Floats) -> tuple[Floats, Floats]:
    """Keep the third of the windows, but at least five, with the least scatter; these are uniform and dark."""
    keep = np.argsort(rough)[: max(5, len(rough) // 3)]
    return near[keep], far[keep]


def _offsets(left: Floats, where: _Swaths, noise: NDArray[np.float32]) -> list[float]:
    """Return offsets that remove the steps at the seams, summed from swath to swath; their mean over the scene is 0."""
    offsets = [0.0]
    limit = _OFFSET * float(np.nanmean(noise))
    for i in range(len(where.names) - 1):
        near, far, rough = _levels_at_seam(left, where, i)
        near_noise, far_noise, _ = _levels_at_seam(noise.astype(np.float64), where, i)
        noisy = near + far < (_NOISY - 1) * (near_noise + far_noise)
        near, far = _most_uniform(near[noisy], far[noisy], rough[noisy])
        step = 0.0
        if len(near) >= _FEWEST_WINDOWS:
            difference = far - near
            weight = 1 / np.maximum(abs(near) + abs(far), 1e-9) ** 2
            step = float(np.quantile(difference, 0.5, weights=weight, method="inverted_cdf"))
            scatter = 1.4826 * float(np.median(abs(difference - step))) / np.sqrt(len(near))
            step = 0.0 if abs(step) < 2 * scatter else float(np.clip(step, -limit, limit))
        offsets.append(offsets[-1] + step)
    shares = np.array([(where.index == i).sum() for i in range(len(where.names))], float)
    mean = float((shares * offsets).sum() / max(shares.sum(), 1))
    return [o - mean for o in offsets]
