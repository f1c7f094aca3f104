"""The numbers of assessed predictions: values, intervals, repeats, comparisons; see ``docs/spread.md``."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from floemap.evaluation.checks.assess import Assessment
from floemap.evaluation.checks.measures import GROUPS, NEAR, Measure
from floemap.evaluation.checks.scene_checks import CHECKS, pool_checks
from floemap.evaluation.scoring.scores import class_f1
from floemap.evaluation.statistics.bootstrap import (
    FEW_SCENES,
    Evaluated,
    Resamples,
    Statistic,
    mean_of_defined,
    resample,
)
from floemap.evaluation.statistics.compare import difference, holm
from floemap.evaluation.statistics.spread import Spread, spread
from floemap.legend import Legend
from floemap.report.anchors import with_anchors
from floemap.report.measures import LEVEL, Numbers, Row, counted, measures

#: Largest number of values in all draws of one check: 400 MB.
_MOST_DRAWN = 5e7
#: Smallest number of resamples.
_FEWEST = 200
#: Number of repeats below which the report warns that they show large differences only.
_FEW_REPEATS = 5
#: Number of resamples, and seed.
Draws = tuple[int, int]

#: Assessments by contender's key, repeat and scene.
Assessed = Mapping[str, Sequence[Mapping[str, Assessment]]]


def measure_all(
    assessed: Assessed,
    legend: Legend,
    charts: Mapping[str, Assessment] | None = None,
    *,
    resamples: int = 1000,
    seed: int = 0,
    readers: frozenset[str] = frozenset(),
) -> Numbers:
    """Compute all numbers.

    Parameters
    ----------
    assessed
        The assessments of whole repeats, all with the same scenes.
    legend
        The legend of all.
    charts
        The charts assessed as if they were maps, by scene, for the anchors beside each number. See
        :func:`floemap.evaluation.checks.assess.assess_scene`.
    readers
        Keys of the contenders that learn from partial concentrations, for :attr:`Row.sides`.
    resamples, seed
        Number of resamples and seed of the bootstrap. If they do not fit into memory there are fewer resamples, at
        least 200.

    Raises
    ------
    FloemapError
        If records have different settings, or different blocks.
    """
    repeats = {key: len(runs) for key, runs in assessed.items()}
    draws = (max(_FEWEST, resamples), seed)
    rows = _scores_and_risk(assessed, legend, draws, readers)
    for check in CHECKS:
        rows += _rows_of_check(check, assessed, draws, readers)
    order = {key: i for i, key in enumerate(m.key for m in measures(legend))}
    rows.sort(key=lambda r: (GROUPS.index(r.measure.group), order[r.measure.key]))
    first = next(iter(assessed[next(iter(assessed))][0].values()))
    return Numbers(
        rows=with_anchors(tell_apart(rows), charts or {}, legend),
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
        cautions=_cautions(repeats, len(next(iter(assessed.values()))[0])),
        pixel_m=float(first.checks["pixel_m"]),
        reference="chart" if first.true_confusion is None else "truth",
        charts={scene: chart.checks for scene, chart in (charts or {}).items()},
    )


def tell_apart(rows: Sequence[Row]) -> tuple[Row, ...]:
    """Decide for every row whether the difference of best and worst is significant, at one level for all rows."""
    # Rows in which all are equal count as tests, too: the number of tests must not depend on the numbers.
    p_values = {r.measure.key: 1.0 if r.between is None else r.between.p for r in rows if len(r.badness) > 1}
    different = holm({key: p for key, p in p_values.items() if p is not None}, 1 - LEVEL)
    known = [r.between is not None and r.between.p is not None for r in rows]
    return tuple(
        replace(r, told_apart=r.measure.key in different) if yes else r for r, yes in zip(rows, known, strict=True)
    )


def _cautions(repeats: Mapping[str, int], scenes: int) -> tuple[str, ...]:
    """Return sentences about the limits of the numbers."""
    if scenes >= FEW_SCENES:
        ground = f"{scenes} test scenes: intervals and differences are about scenes like these."
    elif scenes == 1:
        ground = "One test scene: what is better here may be worse on any other scene."
    else:
        ground = f"{scenes} test scenes: what is better on these may be worse on others; nothing here is about others."
    if len(repeats) < 2:
        return (ground,)
    fewest = min(repeats.values())
    if fewest == 1:
        trained = "One training of a loss: intervals say nothing about other trainings, and no differences are claimed."
    elif fewest < _FEW_REPEATS:
        trained = (
            f"{fewest} trainings of each loss: only differences that are several times those between trainings can be "
            "distinguished from chance."
        )
    else:
        trained = ""
    return tuple(filter(None, (ground, trained)))


def _scores_and_risk(assessed: Assessed, legend: Legend, how: Draws, readers: frozenset[str]) -> list[Row]:
    """Return the rows that follow from confusion matrices: scores with the charts, risks with the checks' reference."""
    pixel_m = float(next(iter(assessed[next(iter(assessed))][0].values())).checks["pixel_m"])
    scores = _resample(assessed, lambda a: a.confusion, how)
    risks = _resample(assessed, lambda a: a.reference_confusion, how)
    return [
        row_of(m, scores.evaluate(statistic) if m.scored else risks.evaluate(statistic, "pooled"), readers=readers)
        for m, statistic in counted(legend, pixel_m)
    ]


def _class_f1(assessed: Assessed, legend: Legend, how: Draws) -> dict[str, dict[str, Spread]]:
    """Return F1 of each class, with the pixels of all scenes pooled."""
    evaluated = _resample(assessed, lambda a: a.confusion, how).evaluate(class_f1, "pooled")
    return {key: {c.key: spread(evaluated[c.id], key, level=LEVEL) for c in legend.classes} for key in assessed}


def _resample(assessed: Assessed, of: Callable[[Assessment], NDArray[Any]], how: Draws) -> Resamples:
    blocks = {key: [{s: of(a) for s, a in run.items()} for run in runs] for key, runs in assessed.items()}
    first = next(iter(next(iter(blocks.values()))[0].values()))
    models = sum(len(runs) for runs in blocks.values())
    scenes = len(next(iter(blocks.values()))[0])
    # Where scenes are drawn, only their sums are in memory for all draws.
    size = max(1, int(np.prod(first.shape[1:]))) * models * (scenes if scenes < FEW_SCENES else 1)
    n, seed = how
    number = sum(a.blocks for a in next(iter(assessed.values()))[0].values())
    return resample(blocks, n=int(np.clip(_MOST_DRAWN / size, _FEWEST, n)), seed=seed, blocks=number)


def scenes_of(check: str, assessed: Assessed) -> list[str]:
    """Return the scenes to which a check applies for every contender and repeat."""
    runs = [run for own in assessed.values() for run in own]
    return [s for s in runs[0] if all(run[s].checks["checks"][check]["applies"] for run in runs)]


def _rows_of_check(check: str, assessed: Assessed, how: Draws, readers: frozenset[str]) -> list[Row]:
    """Return the rows of a check, over the scenes to which it applies for every contender and repeat."""
    measures = CHECKS[check].MEASURES
    runs = [run for own in assessed.values() for run in own]
    entries = [a.checks["checks"][check] for run in runs for a in run.values()]
    scenes = scenes_of(check, assessed)
    if not scenes:
        reasons = sorted({str(e["reason"]) for e in entries if not e["applies"]})
        return [Row(m, {}, reason="; ".join(reasons)) for m in measures]
    kept = {key: [{s: run[s] for s in scenes} for run in own] for key, own in assessed.items()}
    shapes, settings = _shapes(check, kept)
    draws = _resample(kept, lambda a: _flat(a.amounts[check], shapes), how)
    evaluated = draws.evaluate(_statistic(check, shapes, settings), "pooled")
    n = len(measures)
    return [row_of(m, evaluated[i], evaluated[n + i], readers=readers) for i, m in enumerate(measures)]


Shapes = dict[str, tuple[int, ...]]


def _shapes(check: str, assessed: Assessed) -> tuple[Shapes, dict[str, Any]]:
    """Return the largest shape of each amount of a block, and the common settings."""
    kind = CHECKS[check]
    every = [a for runs in assessed.values() for run in runs for a in run.values()]
    shapes: Shapes = {}
    for name in kind.additive():
        found = [a.amounts[check][name].shape[1:] for a in every]
        shapes[name] = tuple(max(sizes) for sizes in zip(*found, strict=True))
    amounts = every[0].checks["checks"][check]["amounts"]
    return shapes, {name: amounts[name] for name in kind.SETTINGS}


def _flat(amounts: Mapping[str, NDArray[Any]], shapes: Shapes) -> NDArray[np.float64]:
    """Return all amounts of each block in one row, (blocks, numbers); missing bins of histograms are 0."""
    parts = []
    for name, shape in shapes.items():
        value = np.asarray(amounts[name], np.float64)
        value = np.pad(value, [(0, 0), *((0, n - m) for n, m in zip(shape, value.shape[1:], strict=True))])
        parts.append(value.reshape(len(value), -1))
    return np.concatenate(parts, axis=1)


def _statistic(check: str, shapes: Shapes, settings: Mapping[str, Any]) -> Statistic:
    """Return the function that computes a check's measures from sums of its amounts, and then the deviation of each.

    It returns (..., 2 measures).
    """
    kind = CHECKS[check]
    measures = kind.MEASURES
    ends = np.cumsum([int(np.prod(s)) for s in shapes.values()])

    def one(numbers: NDArray[np.float64]) -> list[float]:
        parts = np.split(numbers, ends[:-1])
        amounts = {
            name: part.reshape(shape) if shape else float(part[0])
            for (name, shape), part in zip(shapes.items(), parts, strict=True)
        }
        checks = {check: {"values": kind.from_json({**settings, **amounts}).values()}}
        values = [m.of(checks) for m in measures]
        bad = [
            None if v is None else m.deviation(v, m.of_reference(checks)) for v, m in zip(values, measures, strict=True)
        ]
        return [math.nan if v is None else v for v in (*values, *bad)]

    def statistic(counts: NDArray[np.float64]) -> NDArray[np.float64]:
        flat = counts.reshape(-1, counts.shape[-1])
        return np.array([one(row) for row in flat]).reshape(*counts.shape[:-1], 2 * len(measures))

    return statistic


def row_of(
    measure: Measure,
    values: Evaluated,
    deviations: Evaluated | None = None,
    *,
    readers: frozenset[str] = frozenset(),
) -> Row:
    """Return the row of a statistic, before :func:`tell_apart` decides on the significance of its difference.

    Parameters
    ----------
    measure
        The measure.
    values
        The number of each training.
    deviations
        The deviation of each training, lower is better; with a sign for measures that are best near the reference. By
        default deviations follow from the values.
    readers
        Keys of the contenders that learn from partial concentrations.
    """
    if deviations is None:
        deviations = values.map(np.negative) if measure.better == "higher" else values
    folded = measure.better == NEAR
    spreads = {key: spread(values, key, level=LEVEL) for key in values.resamples.columns}
    means = {
        key: float(mean_of_defined(np.abs(own) if folded else own, 0))
        for key in spreads
        if not np.isnan(own := deviations.observed[deviations.columns(key)]).all()
    }
    if not means:
        return Row(measure, spreads, reason="it is not defined for these scenes")
    best, worst = min(means, key=lambda k: means[k]), max(means, key=lambda k: means[k])
    if len(means) < 2 or math.isclose(means[best], means[worst], rel_tol=1e-9, abs_tol=1e-12):
        return Row(measure, spreads, means)
    sides = None
    kinds = [[k for k in means if (k in readers) is reads] for reads in (True, False)]
    if all(kinds):
        a, b = sorted((min(kind, key=lambda k: means[k]) for kind in kinds), key=lambda k: means[k])
        sides = difference(deviations, a, b, folded=folded)
    between = difference(deviations, best, worst, folded=folded)
    return Row(measure, spreads, means, best, worst, between=between, sides=sides)
