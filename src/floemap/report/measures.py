"""The numbers of a comparison: measures, the row of each, who is best and worst, and how sure that is.

Scores of pixels are means over scenes, as the published ones are. Everything else is of all scenes together, as
:func:`floemap.evaluation.checks.scene_checks.pool_checks` computes it. :mod:`floemap.report.numbers` computes all.

Scores compare with the charts. Everything else compares with the reference: the truth where all test scenes are
simulated and have one, else the charts. No map ranks better than the reference
(:mod:`floemap.evaluation.checks.measures`), and no two measures are equal by construction.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from floemap.errors import ConfigError
from floemap.evaluation.checks.classes import ice_groups
from floemap.evaluation.checks.measures import SCORE, SHIPS, Measure, Reference
from floemap.evaluation.checks.scene_checks import MEASURES
from floemap.evaluation.risk.operations import areas_by_level, false_safe_km2, mean_understated
from floemap.evaluation.scoring.ordinal import mean_ordinal_error, ordinal_positions
from floemap.evaluation.scoring.scores import mean_f1
from floemap.evaluation.statistics.bootstrap import Statistic
from floemap.evaluation.statistics.compare import Difference
from floemap.evaluation.statistics.spread import Spread
from floemap.icechart.polaris import (
    REPORTED_SHIPS,
    Level,
    class_ice_types,
    class_levels,
    risk_values,
    ship_class,
)
from floemap.legend import Legend

#: Share of resamples inside an interval; and one less the probability that any difference is claimed wrongly.
LEVEL = 0.9
#: The ship by whose risk index mistakes are weighed: without ice strengthening, as for it every thicker type is worse.
UNDERSTATED_SHIP = "none"


@dataclass(frozen=True)
class Row:
    """A measure of all contenders.

    Attributes
    ----------
    measure
        The measure.
    spreads
        Values with their intervals, by contender's key.
    badness
        Badness of each contender that can be ranked, mean over its repeats; lower is better.
    best, worst
        Keys of the best and the worst contender; None if there is none, or all are equal.
    told_apart
        Whether the difference between best and worst is significant; None if that cannot be tested.
    between
        The difference between best and worst; if it cannot be tested, with the reason.
    sides
        Where some losses learn from partial concentrations and others do not: the difference between the best of the
        one and the best of the others, of whichever kind the better one is.
    reason
        The reason why the row has no numbers.
    chart, truth
        The number of the charts themselves and of the truth, on the same scenes; None if there is none.
    """

    measure: Measure
    spreads: Mapping[str, Spread]
    badness: Mapping[str, float] = field(default_factory=dict)
    best: str | None = None
    worst: str | None = None
    told_apart: bool | None = None
    between: Difference | None = None
    sides: Difference | None = None
    reason: str | None = None
    chart: float | None = None
    truth: float | None = None


@dataclass(frozen=True)
class Numbers:
    """All numbers of a comparison.

    Attributes
    ----------
    rows
        Rows of all measures, in the order of tables.
    class_f1
        F1 by contender's key and class's key.
    pooled
        Checks pooled over all scenes and repeats, by contender's key, for diagrams.
    by_scene
        Checks pooled over repeats, by contender's key and scene.
    confusion
        Number of pixels over all scenes and repeats, (classes, classes), by contender's key.
    repeats
        Number of whole repeats of each contender.
    cautions
        Sentences about the limits of the numbers, which the page shows first.
    pixel_m
        Side of a pixel, metres.
    reference
        The reference of all measures but the scores.
    charts
        Checks of each scene's chart as if it were a map, by scene.
    """

    rows: tuple[Row, ...]
    class_f1: Mapping[str, Mapping[str, Spread]]
    pooled: Mapping[str, Mapping[str, Any]]
    by_scene: Mapping[str, Mapping[str, Mapping[str, Any]]]
    confusion: Mapping[str, NDArray[np.int64]]
    repeats: Mapping[str, int]
    cautions: tuple[str, ...] = field(default=())
    pixel_m: float = math.nan
    reference: Reference = "chart"
    charts: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    def reference_of(self, row: Row) -> Reference:
        """Return the reference of a row: the charts for scores, else the reference of the checks."""
        return "chart" if row.measure.scored else self.reference

    def row(self, key: str) -> Row | None:
        """Return the row of a measure; None if there is none."""
        return next((r for r in self.rows if r.measure.key == key), None)


def counted(legend: Legend, pixel_m: float) -> list[tuple[Measure, Statistic]]:
    """Return the scores and risks, each with the function that computes it from confusion matrices.

    The functions take (..., classes, classes), rows reference, and return (...), NaN where the number is undefined.
    Scores take the charts as the reference.
    """
    score = partial(Measure, group=SCORE, unit="", digits=3)
    positions = ordinal_positions(legend)
    found: list[tuple[Measure, Statistic]] = [
        (
            score(
                key="weighted_f1", title="Weighted F1", better="higher", main=True,
                question="How well does the map agree with the chart, each class counted by its area?",
            ),
            lambda counts: mean_f1(counts)[..., 0],
        ),
        (
            score(
                key="macro_f1", title="Macro F1", better="higher", main=True,
                question="How well does it agree, each class counted the same?",
            ),
            lambda counts: mean_f1(counts)[..., 1],
        ),
        (
            score(
                key="ordinal_error", title="Type error", unit="steps", better="lower",
                question="How many steps of thickness is a pixel's type off, from water to old ice, on average?",
            ),
            lambda counts: mean_ordinal_error(counts, positions),
        ),
    ]  # fmt: skip
    if ships(legend):
        values = risk_values(legend, UNDERSTATED_SHIP)
        understated = Measure(
            key="risk_understated", group=SHIPS, title="Risk understated", unit="points", better="lower", main=True,
            question="How many points of risk index outcome (POLARIS, a ship without ice strengthening) safer than in "
            "the reference does the map make the ice, on average over the area? Every type called thinner counts.",
            harm=2, sentence="makes the ice {} of risk index outcome safer than {than}, on average",
        )  # fmt: skip
        found.append((understated, lambda counts: mean_understated(counts, values)))
    for same in ships(legend):
        title = " and ".join(ship_class(ship).title for ship in same)
        area = Measure(
            key=f"false_safe_{same[0]}_km2", group=SHIPS, title=f"False-safe area, {title}", unit="km2",
            better="lower", digits=0, within=("risk_understated",),
            question=f"On how much area does the map allow a ship ({title}) normal operation where the reference does "
            "not?",
        )  # fmt: skip
        if same[0] == "PC7":
            area = replace(area, main=True, harm=3, sentence="calls {} safe for a PC 7 ship where {who} not")
        found.append((area, partial(_false_safe_km2, class_levels(legend, same[0]), pixel_m)))
    return found


def _false_safe_km2(levels: NDArray[np.uint8], pixel_m: float, counts: NDArray[np.float64]) -> NDArray[np.float64]:
    return false_safe_km2(areas_by_level(counts, levels, pixel_m))


def measures(legend: Legend) -> list[Measure]:
    """Return all measures, in the order of tables."""
    own = [measure for measure, _ in counted(legend, math.nan)]
    return [m for m in own if m.scored] + [*MEASURES] + [m for m in own if not m.scored]


def why_no_risk(legend: Legend) -> list[str]:
    """Return why the risk to ships cannot be computed, as a list of one sentence; an empty list where it can be."""
    try:
        class_ice_types(legend)
    except ConfigError as e:
        return [f"Risk to ships: not available for this legend, because {e.message}"]
    return []


def ships(legend: Legend) -> tuple[tuple[str, ...], ...]:
    """Return the ships whose risk depends on the legend's classes, grouped by the classes that are closed to them.

    For some ships no class of the legend is a risk, or all are. Where only old ice is closed to a ship, its false-safe
    area equals the old ice that a map misses, which is a measure already.
    """
    groups: dict[tuple[int, ...], list[str]] = {}
    for ship in REPORTED_SHIPS:
        try:
            levels = class_levels(legend, ship)
        except ConfigError:
            return ()
        closed = tuple(np.flatnonzero(levels != Level.NORMAL).tolist())
        if 0 < len(closed) < len(levels) and closed != (ice_groups(legend).old,):
            groups.setdefault(closed, []).append(ship)
    return tuple(tuple(same) for same in groups.values())
