"""Finding annotated noise that cannot be true, and replacing it from the rest, with a record of each replacement.

ESA has delivered products whose noise annotation was corrupt: on 13 to 15 March 2018, the first days of IPF 2.90, noise
vectors in the middle of a scene were many times too large. The checksums of such a product are right, so the noise is
compared

1. with neighbouring vectors: in a real product a noise vector departs by 4 % from the others in level and by 10 % at
   any of its points;
2. if several levels remain, with the mean power of the image, which includes the noise, and with the noise floor of
   the instrument;
3. with the other polarisation, which the same receiver measured at the same time.

The measured pixels are compared later, when they are read (:mod:`floemap.sentinel1.multilook`).
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import median_filter

from floemap.sentinel1.metadata import (
    AzimuthNoise,
    CalibrationLut,
    Floats,
    NoiseLut,
    NoiseRepair,
    RangeNoise,
    Scene,
    SwathBounds,
    bounds_by_swath,
)
from floemap.sentinel1.radiometry import bounds_at, line_weights, range_profile

logger = logging.getLogger(__name__)

#: Largest noise power: that of the strongest signal, 65535 squared.
_MOST_POWER = 65535.0**2
#: Largest ratio of a vector to its neighbours in level, and at a point after the level is divided out.
_LEVEL, _POINT = 1.25, 1.5
#: Usual number of zeros at either end of a vector, where no noise was computed.
_USUAL_ZEROS = 2
#: Share of a sub-swath's vectors that must agree so that the others are replaced.
_AGREEING = 0.6
#: Number of neighbours on either side with which a vector's level is compared.
_NEIGHBOURS = 5
#: Largest ratio of the mean noise to the image's mean power. It exceeds 1 because the annotated statistics may count
#: no-data pixels.
_MEAN_POWER = 2.0
#: Least noise-equivalent sigma nought of an EW scene in dB, 5th percentile over range: -34 to -32 in real products.
_EW_FLOOR_DB = (-40.0, -25.0)
#: The same, for deciding which of several groups of vectors is right.
_EW_USUAL_FLOOR_DB = (-37.0, -29.5)
#: Number of vectors that are tried as the reference for the others.
_CANDIDATES = 9
#: Limits of azimuth factors and of their median, and largest ratio to neighbours. In a real product of EW the factors
#: are 0.999 to 1.29 and change by 5 % from one value to the next.
_FACTOR, _FACTOR_LEVEL, _FACTOR_STEP = (0.5, 3.0), (0.8, 1.6), 1.25

Rows = NDArray[np.bool_]


def with_good_noise(scene: Scene) -> Scene:
    """Return the scene with impossible noise annotation replaced, or marked as unusable.

    Returns
    -------
    Scene
        Scene whose :class:`NoiseLut` has a :class:`NoiseRepair` for each replacement. If too few vectors are right,
        ``unusable`` gives the reason, and only impossible values are set to 0.
    """
    judged: dict[str, NoiseLut] = {}
    wrong: dict[str, set[float]] = {}
    # A polarisation that is decided alone may decide another one, which is therefore judged again.
    for last in (False, True):
        for p in scene.polarisations:
            if p not in judged:
                found = _judge(scene, p, set().union(*wrong.values()))
                if found.unusable is None or last:
                    judged[p] = found
                    wrong[p] = {r.line for r in found.repairs if r.part == "range vector"}
    judged = {p: _with_good_blocks(judged, p) for p in scene.polarisations}
    for p, lut in judged.items():
        _warn(scene, p, lut)
    return replace(scene, noise=judged)


def _warn(scene: Scene, p: str, lut: NoiseLut) -> None:
    name = scene.container.path.name
    if lut.unusable is not None:
        logger.warning("%s: the annotated noise of %s cannot be used: %s", name, p, lut.unusable)
        return
    ranges = [r for r in lut.repairs if r.part == "range vector"]
    if ranges:
        logger.warning(
            "%s: %d of %d noise vectors of %s are wrong, the first at line %g (%s): they are replaced from the others",
            name, len(ranges), len(lut.range_vectors), p, ranges[0].line, ranges[0].found,
        )  # fmt: skip
    for r in lut.repairs:
        if r.part != "range vector":
            swaths = "+".join(r.swaths)
            logger.warning("%s: azimuth noise of %s in %s %s: %s is used", name, p, swaths, r.found, r.used)


@dataclass(frozen=True)
class _Table:
    """The noise vectors whose line is in the bounds of one sub-swath.

    Attributes
    ----------
    rows
        Indices of the vectors, (rows,).
    log
        Natural logarithm of the power, (rows, pixels); NaN in a row without power.
    faults
        Impossible values of each row in words, or "".
    """

    rows: NDArray[np.intp]
    log: Floats
    faults: list[str]


def _judge(scene: Scene, p: str, wrong_elsewhere: set[float]) -> NoiseLut:
    lut = scene.noise[p]
    clean = [replace(v, power=np.where(_possible(v.power), v.power, 0.0)) for v in lut.range_vectors]
    by_swath = bounds_by_swath(scene.swaths)
    tables = {s: _table(lut.range_vectors, clean, b) for s, b in by_swath.items()}
    tables = {s: t for s, t in tables.items() if len(t.rows)}
    unusable = replace(lut, range_vectors=tuple(clean))
    good, why = _good_vectors(scene, p, clean, tables, wrong_elsewhere)
    if why is not None:
        return replace(unusable, unusable=why)
    bad: dict[int, dict[str, str]] = {}  # fault by vector and sub-swath
    for swath, t in tables.items():
        found = _departures(t, good)
        if sum(not words for words in found) < _AGREEING * good[t.rows].sum() or all(found):
            return replace(unusable, unusable=f"most of its noise vectors in {swath} contradict each other")
        for row, words in zip(t.rows, found, strict=True):
            if words:
                bad.setdefault(int(row), {})[swath] = words
    vectors = list(clean)
    for i, parts in bad.items():
        for swath in parts:
            sources = [k for k in tables[swath].rows if swath not in bad.get(int(k), {})]
            vectors[i] = _replaced(vectors[i], [clean[k] for k in sources], by_swath[swath])
    repairs = tuple(
        NoiseRepair("range vector", lut.range_vectors[i].line, tuple(parts), next(iter(parts.values())), "the others")
        for i, parts in sorted(bad.items())
    )
    return replace(lut, range_vectors=tuple(vectors), repairs=lut.repairs + repairs)


def _possible(power: Floats) -> Rows:
    with np.errstate(invalid="ignore"):
        return np.asarray(np.isfinite(power) & (power >= 0) & (power <= _MOST_POWER))


def _table(vectors: Sequence[RangeNoise], clean: Sequence[RangeNoise], bounds: list[SwathBounds]) -> _Table:
    rows = np.array([i for i, v in enumerate(vectors) if bounds_at(bounds, v.line) is not None], np.intp)
    inside = [_points(vectors[i], bounds) for i in rows]
    positions = np.unique(np.concatenate([vectors[i].pixels[k] for i, k in zip(rows, inside, strict=True)] or [[0.0]]))
    log, faults, zeros = [], [], []
    for i, k in zip(rows, inside, strict=True):
        values, shown = vectors[i].power[k], clean[i].power[k]
        faults.append(_impossible(values))
        zeros.append(_zeros(values))
        some = shown > 0
        if some.any():
            log.append(np.log(np.interp(positions, vectors[i].pixels[k][some], shown[some])))
        else:
            log.append(np.full(len(positions), np.nan))
    usual = np.median(zeros) if zeros else 0.0
    faults = [f or ("zero" if z > usual + _USUAL_ZEROS else "") for f, z in zip(faults, zeros, strict=True)]
    return _Table(rows, np.array(log).reshape(len(rows), -1), faults)


def _points(vector: RangeNoise, bounds: list[SwathBounds]) -> Rows:
    at = bounds_at(bounds, vector.line)
    assert at is not None
    return np.asarray((vector.pixels >= at.first_pixel) & (vector.pixels <= at.last_pixel))


def _impossible(values: Floats) -> str:
    if not np.isfinite(values).all():
        return "not a number"
    if (values < 0).any():
        return "negative"
    return "beyond any signal" if (values > _MOST_POWER).any() else ""


def _zeros(values: Floats) -> int:
    """Return the number of zeros inside, weighted, and at either end beyond the usual ones."""
    some = np.flatnonzero(values > 0)
    if not len(some):
        return len(values)
    inner = int((values[some[0] : some[-1]] == 0).sum()) * (1 + _USUAL_ZEROS)  # a single zero inside is unusual already
    return inner + max(0, int(some[0]) - _USUAL_ZEROS) + max(0, len(values) - 1 - int(some[-1]) - _USUAL_ZEROS)


def _good_vectors(
    scene: Scene, p: str, clean: Sequence[RangeNoise], tables: Mapping[str, _Table], wrong_elsewhere: set[float]
) -> tuple[Rows, str | None]:
    """Return which vectors have the right level, and why that cannot be decided, or None."""
    levels, groups = _groups(tables, len(clean))
    known = np.isfinite(levels)
    if not groups:
        return known, "no noise vector has a positive power"
    found = {i: _implausible(scene, p, [clean[k] for k in g]) for i, g in enumerate(groups)}
    left = [g for i, g in enumerate(groups) if found[i] is None]
    if not left:
        return known, found[0]
    good = np.zeros(len(clean), bool)
    if len(left) > 1 and scene.mode == "EW" and scene.noise_units_known:
        low, high = _EW_USUAL_FLOOR_DB
        left = [g for g in left if low <= _floor_db([clean[k] for k in g], scene.calibration[p]) <= high] or left
    # Vectors that are wrong in another polarisation are likely to be wrong here.
    lines = np.array([v.line for v in clean])
    if len(left) > 1 and wrong_elsewhere:
        shares = [np.isin(lines[g], list(wrong_elsewhere)).mean() for g in left]
        left = [g for g, share in zip(left, shares, strict=True) if share <= min(shares) and share < 0.5] or left
    enough = len(left[0]) >= (2 if len(left) == 1 else _AGREEING * known.sum())
    if not enough and known.sum() > 1:
        times = float(np.exp(np.ptp(levels[known])))
        return good, f"its noise vectors differ by {times:.3g} times, and too few agree to decide which are right"
    good[left[0]] = True
    return good, None


def _groups(tables: Mapping[str, _Table], count: int) -> tuple[Floats, list[NDArray[np.intp]]]:
    """Return the level of each vector, and groups of vectors of similar level, the largest first.

    The level is the natural logarithm of the ratio to a reference vector, median over the points; NaN if a vector has
    no power. The reference is the vector that gives the largest group, among those with points in the most sub-swaths.
    (A median of vectors by sub-swath could be right in some sub-swaths and wrong in others if half of the vectors are
    wrong.)
    """
    log = np.full((count, sum(t.log.shape[1] for t in tables.values()) or 1), np.nan)
    first = 0
    for t in tables.values():
        last = first + t.log.shape[1]
        log[t.rows, first:last] = t.log
        first = last
    points = np.isfinite(log).sum(axis=1)
    best: tuple[Floats, list[NDArray[np.intp]]] = np.full(count, np.nan), []
    candidates = np.flatnonzero((points == points.max()) & (points > 0))
    for k in candidates[:: max(1, len(candidates) // _CANDIDATES)]:
        levels = np.full(count, np.nan)
        for i in np.flatnonzero(np.isfinite(log - log[k]).any(axis=1)):
            levels[i] = np.nanmedian(log[i] - log[k])
        order = np.argsort(levels)[: np.isfinite(levels).sum()]  # NaN is sorted last
        gaps = np.flatnonzero(np.diff(levels[order]) > np.log(_LEVEL))
        groups = sorted(np.split(order, gaps + 1), key=len, reverse=True)
        if not best[1] or len(groups[0]) > len(best[1][0]):
            best = levels, groups
        if len(groups) == 1:
            break
    return best


def _implausible(scene: Scene, p: str, vectors: Sequence[RangeNoise]) -> str | None:
    """Return why vectors cannot be the scene's noise, or None; None also if the units of noise are unknown."""
    if not scene.noise_units_known:
        return None
    means = [v.power[v.power > 0].mean() for v in vectors]
    power = scene.dn_mean[p] ** 2 + scene.dn_std[p] ** 2
    if power > 0 and np.mean(means) > _MEAN_POWER * power:
        return f"its mean, {np.mean(means):.4g}, is above the image's mean power, {power:.4g}"
    if scene.mode == "EW":
        floor_db = _floor_db(vectors, scene.calibration[p])
        if not _EW_FLOOR_DB[0] <= floor_db <= _EW_FLOOR_DB[1]:
            low, high = _EW_FLOOR_DB
            return f"its noise floor is at {floor_db:.1f} dB, where {low:.0f} to {high:.0f} dB is usual"
    return None


def _floor_db(vectors: Sequence[RangeNoise], calibration: CalibrationLut) -> float:
    """Noise floor in dB: the 5th percentile of the noise-equivalent sigma nought over range, median over vectors.

    Vectors of the first lines, where some sub-swaths have not begun, are left out if there are others.
    """
    points = [int((v.power > 0).sum()) for v in vectors]
    floors = []
    for v, n in zip(vectors, points, strict=True):
        if n >= 0.9 * max(points):
            some = v.power > 0
            gain = np.interp(v.pixels[some], calibration.pixels, calibration.sigma_nought[0])
            floors.append(np.percentile(v.power[some] / gain**2, 5))
    return float(10 * np.log10(np.median(floors)))


def _departures(t: _Table, good: Rows) -> list[str]:
    """Return the fault of each vector of a sub-swath, "" for a right one."""
    whole = np.asarray(np.isfinite(t.log).all(axis=1))
    agreeing = good[t.rows] & whole & np.array([not f for f in t.faults], bool)
    found = ["without good neighbours"] * len(t.rows)
    for _ in range(2):  # vectors that the first round finds are not neighbours in the second
        if not agreeing.any():
            break
        found = _departing(t, good[t.rows], whole, agreeing)
        agreeing = agreeing & np.array([not words for words in found], bool)
    return found


def _departing(t: _Table, good: Rows, whole: Rows, agreeing: Rows) -> list[str]:
    usual = np.median(t.log[agreeing], axis=0)
    level = np.full(len(t.rows), np.nan)
    level[whole] = np.median(t.log[whole] - usual, axis=1)
    found = []
    for i, fault in enumerate(t.faults):
        near = np.flatnonzero(agreeing & (np.arange(len(t.rows)) != i))
        near = near[np.argsort(abs(near - i))[: 2 * _NEIGHBOURS]]
        expected = float(np.median(level[near])) if len(near) else 0.0
        if fault or not whole[i]:
            found.append(fault or "zero")
        elif not good[i] or abs(level[i] - expected) > np.log(_LEVEL):
            found.append(f"{np.exp(level[i] - expected):.3g} times its neighbours")
        else:
            off = t.log[i] - usual - level[i]
            worst = off[np.argmax(abs(off))]
            found.append(f"{np.exp(worst):.3g} times its neighbours at a point" if abs(worst) > np.log(_POINT) else "")
    return found


def _replaced(vector: RangeNoise, sources: Sequence[RangeNoise], bounds: list[SwathBounds]) -> RangeNoise:
    """Return a vector whose points in a sub-swath are interpolated along azimuth among other vectors."""
    here = _points(vector, bounds)
    profiles = np.array([range_profile(s, bounds_at(bounds, s.line), vector.pixels[here]) for s in sources])
    used, weights = line_weights(np.array([s.line for s in sources]), np.array([vector.line]))
    power = vector.power.copy()
    power[here] = (weights @ profiles[used])[0]
    return replace(vector, power=power)


def _with_good_blocks(luts: Mapping[str, NoiseLut], p: str) -> NoiseLut:
    """Return the noise of a polarisation with impossible azimuth blocks replaced or left out."""
    blocks: list[AzimuthNoise] = []
    repairs: list[NoiseRepair] = []
    others = [b for q, lut in luts.items() if q != p for b in lut.azimuth_blocks if not _block_fault(b)]
    for block in luts[p].azimuth_blocks:
        fault = _block_fault(block)
        right = _right_factors(block.factor)
        if not fault and right.all():
            blocks.append(block)
            continue
        if not fault:
            used = "interpolation"
            factor = np.interp(block.lines, block.lines[right], block.factor[right])
            fault = f"has {(~right).sum()} of {len(right)} values that cannot be true, from line {block.first_line}"
            blocks.append(replace(block, factor=factor))
        else:
            twin = next((o for o in others if (o.swath, o.first_line) == (block.swath, block.first_line)), None)
            if twin is not None:
                used = "the other polarisation's"
                blocks.append(replace(block, factor=np.interp(block.lines, twin.lines, twin.factor)))
            else:
                rest = [b for b in luts[p].azimuth_blocks if b.swath == block.swath and not _block_fault(b)]
                used = "the sub-swath's nearest" if rest else "the factor 1"
        repairs.append(NoiseRepair("azimuth block", float(block.first_line), (block.swath,), fault, used))
    return replace(luts[p], azimuth_blocks=tuple(blocks), repairs=luts[p].repairs + tuple(repairs))


def _right_factors(factor: Floats) -> Rows:
    with np.errstate(invalid="ignore"):
        possible = (factor >= _FACTOR[0]) & (factor <= _FACTOR[1])
    if not possible.any():
        return np.asarray(possible)
    filled = np.interp(np.arange(len(factor)), np.flatnonzero(possible), factor[possible])
    smooth: Floats = median_filter(filled, size=min(5, len(filled)), mode="nearest")
    return np.asarray(possible & (abs(np.log(filled / smooth)) <= np.log(_FACTOR_STEP)))


def _block_fault(block: AzimuthNoise) -> str:
    """Return the fault of a block as a whole, "" for a right one."""
    right = _right_factors(block.factor)
    if right.mean() <= 0.5:
        low, high = np.nanmin(np.append(block.factor, np.inf)), np.nanmax(np.append(block.factor, -np.inf))
        words = f"from {low:.4g} to {high:.4g}" if low <= high else "that are not numbers"
        return f"has values {words}, from line {block.first_line}"
    level = float(np.median(block.factor[right]))
    if not _FACTOR_LEVEL[0] <= level <= _FACTOR_LEVEL[1]:
        return f"has values of {level:.4g}, from line {block.first_line}"
    return ""
