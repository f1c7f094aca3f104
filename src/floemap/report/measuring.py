"""From assessed predictions to numbers: values, intervals, repeats, comparisons.

Intervals are the bootstrap's over blocks, scenes and, where there are several, repeats; see ``docs/spread.md``.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from floemap.evaluation.assess import Assessment
from floemap.evaluation.block_amounts import additive_fields
from floemap.evaluation.checks.headlines import HEADLINES, Headline
from floemap.evaluation.consistency import CHECKS, pool_checks
from floemap.evaluation.ordinal import mean_ordinal_error, ordinal_positions
from floemap.evaluation.polaris import class_levels
from floemap.evaluation.resampling import Evaluated, Resamples, Statistic, each_confusion, resample
from floemap.evaluation.risk import areas_by_level, false_safe_km2
from floemap.evaluation.scores import scores
from floemap.evaluation.spread import Spread, compare, spread
from floemap.legend import Legend
from floemap.report.measures import GROUPS, LEVEL, Measure, Numbers, Row, finite, measures, of_headline, ships

#: Numbers that all draws of one check may hold together: 400 MB.
_MOST_DRAWN = 5e7
_FEWEST = 200

#: Resamples and seed.
Draws = tuple[int, int]

#: By contender's key: for each repeat, by scene.
Assessed = Mapping[str, Sequence[Mapping[str, Assessment]]]


def measure_all(assessed: Assessed, legend: Legend, *, resamples: int = 1000, seed: int = 0) -> Numbers:
    """Compute all numbers.

    Parameters
    ----------
    assessed
        Whole repeats only: all with the same scenes.
    legend
        Of all.
    resamples, seed
        Of the bootstrap. Where they would not fit into memory there are fewer resamples, at least 200.

    Raises
    ------
    FloemapError
        If records are of different settings, or blocks do not fit each other.
    """
    repeats = {key: len(runs) for key, runs in assessed.items()}
    draws = (max(_FEWEST, resamples), seed)
    rows = _scores_and_risk(assessed, legend, draws)
    for check in CHECKS:
        rows += _rows_of_check(check, assessed, draws)
    order = {key: i for i, key in enumerate(m.key for m in measures(legend))}
    rows.sort(key=lambda r: (GROUPS.index(r.measure.group), order[r.measure.key]))
    cautions = dict.fromkeys(c for r in rows for s in r.spreads.values() for c in s.cautions)
    return Numbers(
        rows=tuple(rows),
        class_f1=_class_f1(assessed, legend, draws),
        pooled={key: pool_checks([a.checks for run in runs for a in run.values()]) for key, runs in assessed.items()},
        by_scene={
            key: {scene: pool_checks([run[scene].checks for run in runs]) for scene in runs[0]}
            for key, runs in assessed.items()
        },
        confusion={
            key: np.sum([a.confusion.sum(axis=0) for run in runs for a in run.values()], axis=0)
            for key, runs in assessed.items()
        },
        repeats=repeats,
        cautions=tuple(cautions),
    )


def _scores_and_risk(assessed: Assessed, legend: Legend, how: Draws) -> list[Row]:
    """Rows that follow from confusion matrices."""
    known = {m.key: m for m in measures(legend)}
    draws = _resample(assessed, lambda a: a.confusion, how)
    positions = ordinal_positions(legend)
    whole = draws.evaluate(each_confusion(lambda c: (s.weighted_f1, s.macro_f1) if (s := scores(c)) else ()))
    rows = [
        _row(known["weighted_f1"], whole[0], assessed),
        _row(known["macro_f1"], whole[1], assessed),
        _row(known["ordinal_error"], draws.evaluate(lambda c: mean_ordinal_error(c, positions)), assessed),
    ]
    pixel_m = float(next(iter(assessed[next(iter(assessed))][0].values())).checks["pixel_m"])
    for ship in ships(legend):
        levels = class_levels(legend, ship)

        def area(counts: NDArray[np.float64], levels: NDArray[np.uint8] = levels) -> NDArray[np.float64]:
            return false_safe_km2(areas_by_level(counts, levels, pixel_m))

        rows.append(_row(known[f"false_safe_{ship}_km2"], draws.evaluate(area, "pooled"), assessed))
    return rows


def _class_f1(assessed: Assessed, legend: Legend, how: Draws) -> dict[str, dict[str, Spread]]:
    """F1 of each class, pixels of all scenes together."""
    draws = _resample(assessed, lambda a: a.confusion, how)

    def f1(counts: NDArray[np.float64]) -> NDArray[np.float64]:
        right = np.diagonal(counts, axis1=-2, axis2=-1)
        both = counts.sum(axis=-1) + counts.sum(axis=-2)
        return np.asarray(np.divide(2 * right, both, out=np.full(both.shape, np.nan), where=both > 0))

    evaluated = draws.evaluate(f1, "pooled")
    return {key: {c.key: _spread(evaluated[c.id], key, assessed) for c in legend.classes} for key in assessed}


def _resample(assessed: Assessed, of: Callable[[Assessment], NDArray[Any]], how: Draws) -> Resamples:
    blocks = {key: [{s: of(a) for s, a in run.items()} for run in runs] for key, runs in assessed.items()}
    first = next(iter(next(iter(blocks.values()))[0].values()))
    models = sum(len(runs) for runs in blocks.values())
    scenes = len(next(iter(blocks.values()))[0])
    size = max(1, int(np.prod(first.shape[1:]))) * models * scenes
    n, seed = how
    return resample(blocks, n=int(np.clip(_MOST_DRAWN / size, _FEWEST, n)), seed=seed)


def _rows_of_check(check: str, assessed: Assessed, how: Draws) -> list[Row]:
    """All headline numbers of a check, over the scenes to which it applies for every contender and repeat."""
    headlines = [h for h in HEADLINES if h.check == check]
    known = {h.key: m for h in headlines for m in [of_headline(h)]}
    runs = [run for own in assessed.values() for run in own]
    entries = [a.checks["checks"][check] for run in runs for a in run.values()]
    scenes = [s for s in runs[0] if all(run[s].checks["checks"][check]["applies"] for run in runs)]
    if not scenes:
        reasons = sorted({str(e["reason"]) for e in entries if not e["applies"]})
        return [Row(known[h.key], {}, reason="; ".join(reasons)) for h in headlines]
    kept = {key: [{s: run[s] for s in scenes} for run in own] for key, own in assessed.items()}
    shapes, settings = _shapes(check, kept)
    draws = _resample(kept, lambda a: _flat(a.amounts[check], shapes), how)
    evaluated = draws.evaluate(_statistic(check, headlines, shapes, settings), "pooled")
    n = len(headlines)
    return [_row(known[h.key], evaluated[i], kept, badness=evaluated[n + i]) for i, h in enumerate(headlines)]


Shapes = dict[str, tuple[int, ...]]


def _shapes(check: str, assessed: Assessed) -> tuple[Shapes, dict[str, Any]]:
    """Largest shape of each amount of a block, and the settings that all share."""
    kind = CHECKS[check]
    every = [a for runs in assessed.values() for run in runs for a in run.values()]
    shapes: Shapes = {}
    for name in additive_fields(kind):
        found = [a.amounts[check][name].shape[1:] for a in every]
        shapes[name] = tuple(max(sizes) for sizes in zip(*found, strict=True))
    amounts = every[0].checks["checks"][check]["amounts"]
    return shapes, {name: amounts[name] for name in kind.SETTINGS}


def _flat(amounts: Mapping[str, NDArray[Any]], shapes: Shapes) -> NDArray[np.float64]:
    """Return all amounts of a block in a row, (blocks, numbers); what a histogram lacks is 0."""
    parts = []
    for name, shape in shapes.items():
        value = np.asarray(amounts[name], np.float64)
        value = np.pad(value, [(0, 0), *((0, n - m) for n, m in zip(shape, value.shape[1:], strict=True))])
        parts.append(value.reshape(len(value), -1))
    return np.concatenate(parts, axis=1)


def _statistic(check: str, headlines: Sequence[Headline], shapes: Shapes, settings: Mapping[str, Any]) -> Statistic:
    """Make a check's headline numbers of sums of its amounts, and then how bad each is: (..., 2 headlines)."""
    kind = CHECKS[check]
    ends = np.cumsum([int(np.prod(s)) for s in shapes.values()])

    def one(numbers: NDArray[np.float64]) -> list[float]:
        parts = np.split(numbers, ends[:-1])
        amounts = {
            name: part.reshape(shape) if shape else float(part[0])
            for (name, shape), part in zip(shapes.items(), parts, strict=True)
        }
        checks = {check: {"values": kind.from_json({**settings, **amounts}).values()}}
        values = [h.of(checks) for h in headlines]
        bad = [None if v is None else finite(h.badness(v)) for v, h in zip(values, headlines, strict=True)]
        return [math.nan if v is None else v for v in (*values, *bad)]

    def statistic(counts: NDArray[np.float64]) -> NDArray[np.float64]:
        flat = counts.reshape(-1, counts.shape[-1])
        return np.array([one(row) for row in flat]).reshape(*counts.shape[:-1], 2 * len(headlines))

    return statistic


def _row(measure: Measure, values: Evaluated, assessed: Assessed, *, badness: Evaluated | None = None) -> Row:
    """Make a row of a statistic; `badness` orders contenders where that is not just its values, up or down."""
    spreads = {key: _spread(values, key, assessed) for key in assessed}
    bad = {k: measure.badness(s.value) for k, s in spreads.items() if s.value is not None}
    if not bad:
        return Row(measure, spreads, reason="it is not defined for these scenes")
    best, worst = min(bad, key=lambda k: bad[k]), max(bad, key=lambda k: bad[k])
    if len(bad) < 2 or math.isclose(bad[best], bad[worst], rel_tol=1e-9, abs_tol=1e-12):
        return Row(measure, spreads)
    between = compare(badness or values, best, worst, level=LEVEL, include_repeats=_drawn(assessed))
    known = all(s.low is not None for s in spreads.values() if s.value is not None)
    return Row(measure, spreads, best, worst, between.distinct if known else None, between)


def _spread(values: Evaluated, key: str, assessed: Assessed) -> Spread:
    s = spread(values, key, level=LEVEL, include_repeats=_drawn(assessed))
    if s.value is not None and s.low is not None and s.high is not None and not s.low <= s.value <= s.high:
        # Sums of absolute differences grow with the noise of drawing: such an interval is of something else.
        return replace(s, low=None, high=None, reason="drawing blocks shifts this number, so it has no interval")
    return s


def _drawn(assessed: Assessed) -> bool:
    """Whether repeats are drawn too: where every contender has several."""
    return all(len(runs) > 1 for runs in assessed.values())
