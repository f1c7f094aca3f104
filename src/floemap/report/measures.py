"""What contenders are compared by: each number, which way is better, who is best and worst, and how sure that is.

Scores are means over scenes, as the published ones are. Areas, lengths and what is made of them are of all scenes
together, as :func:`floemap.evaluation.checks.scene_checks.pool_checks` makes them. :mod:`floemap.report.numbers` makes
them.

Scores are against the charts. Everything else is against the reference: the truth where all test scenes are simulated
and have one, else the charts. No map is better than the reference (:mod:`floemap.evaluation.checks.headlines`), and no
two measures are the same by construction.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from floemap.errors import ConfigError
from floemap.evaluation.checks.classes import ice_groups
from floemap.evaluation.checks.headlines import HEADLINES, Better, Headline, deviation, perfect
from floemap.evaluation.risk.polaris import REPORTED_SHIPS, Level, class_levels, ship_class
from floemap.evaluation.statistics.compare import Difference
from floemap.evaluation.statistics.spread import Spread
from floemap.legend import Legend

#: Share of resamples inside an interval; and one less the probability that any losses are wrongly told apart.
LEVEL = 0.9
#: Better the nearer to the reference's own number: such a number is off to either side.
NEAR: Better = "near reference"
#: The ship by whose risk index mistakes are weighed: without ice strengthening, as for it every thicker type is worse.
UNDERSTATED_SHIP = "none"
_SCORE, _SENSE, _SURE, _SHIPS = (
    "Score against the chart",
    "Does the map make sense?",
    "Does it know when it is wrong?",
    "What it means for a ship",
)
GROUPS = (_SCORE, _SENSE, _SHIPS, _SURE)
#: Rows of the first table; all others stand in the long one.
_MAIN = {
    "weighted_f1",
    "macro_f1",
    "out_of_season_km2",
    "old_ice_missed_km2",
    "old_ice_as_first_year_km2",
    "ice_edge_km",
    "iiee_km2",
    "patches_per_1000_km2",
    "impossible_km",
    "seam_ratio",
    "angle_dependence",
    "ece",
    "risk_understated",
    "false_safe_PC7_km2",
}
#: What maps are compared with.
Reference = Literal["chart", "truth"]


@dataclass(frozen=True)
class Measure:
    """One number: what it is, and which way is better; see :class:`floemap.evaluation.checks.headlines.Headline`."""

    key: str
    group: str
    title: str
    unit: str
    better: Better
    question: str
    digits: int
    least: float = 0.0
    by_pixel: bool = False

    @property
    def scored(self) -> bool:
        """Whether it is a score, which is always against the chart."""
        return self.group == _SCORE

    @property
    def main(self) -> bool:
        """Whether it stands in the first table."""
        return self.key in _MAIN

    def direction(self, reference: Reference) -> str:
        """Return which way is better, in words."""
        words = {"lower": "lower is better", "higher": "higher is better"}
        return words.get(self.better, f"best where it is the {reference}’s own")

    def text(self, number: float | None) -> str:
        """Return a number as tables show it, thousands apart, without its unit."""
        return "–" if number is None else f"{number:,.{self.digits}f}".replace(",", "\u2009").replace("-", "\u2212")

    @property
    def perfect(self) -> float | None:
        """The number of the reference itself; None where it has one of its own, that has to be measured."""
        return None if self.better == "near reference" else perfect(self.better)

    def badness(self, number: float, reference: float | None = None) -> float:
        """Return how bad a number is; the smallest is the best. See :mod:`floemap.evaluation.checks.headlines`."""
        off = deviation(self.better, number, reference, self.least)
        return abs(off) if self.better == "near reference" else off


@dataclass(frozen=True)
class Row:
    """A measure of all contenders.

    Attributes
    ----------
    measure
        Which.
    spreads
        By contender's key.
    badness
        How bad each contender is, mean over its repeats; lower is better. Only of those that can be ranked.
    best, worst
        Contenders' keys; None where there is none, or all are alike.
    told_apart
        Whether best and worst can be; None where nothing can be said.
    between
        The best against the worst; why nothing can be said.
    reason
        Why there is no number at all.
    chart, truth
        The number of the charts themselves and of the truth, on the same scenes; None where there is none.
    """

    measure: Measure
    spreads: Mapping[str, Spread]
    badness: Mapping[str, float] = field(default_factory=dict)
    best: str | None = None
    worst: str | None = None
    told_apart: bool | None = None
    between: Difference | None = None
    reason: str | None = None
    chart: float | None = None
    truth: float | None = None


@dataclass(frozen=True)
class Numbers:
    """All numbers of a comparison.

    Attributes
    ----------
    rows
        In the order of tables.
    class_f1
        By contender's key and class's key.
    pooled
        Checks of all scenes and repeats together, by contender's key: for diagrams.
    by_scene
        Checks of one scene, repeats together, by contender's key and scene.
    confusion
        Pixels, (classes, classes), of all scenes and repeats, by contender's key.
    repeats
        How many whole ones each contender has.
    cautions
        What the numbers are not about; to stand first.
    pixel_m
        Side of a pixel, metres.
    reference
        What the maps are compared with in all but the scores.
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
        """Return what a row's maps are compared with: the charts in scores, else the reference."""
        return "chart" if row.measure.scored else self.reference

    def row(self, key: str) -> Row | None:
        """Return the row of a measure; None where there is none."""
        return next((r for r in self.rows if r.measure.key == key), None)


def measures(legend: Legend) -> list[Measure]:
    """Return all measures, in the order of tables."""
    found = [
        Measure("weighted_f1", _SCORE, "Weighted F1", "", "higher",
                "How well does the map agree with the chart, each class counted by its area?", 3),
        Measure("macro_f1", _SCORE, "Macro F1", "", "higher",
                "How well does it agree, each class counted the same?", 3),
        Measure("ordinal_error", _SCORE, "Type error", "steps", "lower",
                "How many steps of thickness is a pixel's type off, from water to old ice, on average?", 3),
    ]  # fmt: skip
    found += [of_headline(h) for h in HEADLINES]
    if ships(legend):
        found.append(
            Measure(
                "risk_understated", _SHIPS, "Risk understated", "points", "lower",
                "How many points of risk index outcome (POLARIS, a ship without ice strengthening) safer than in the "
                "reference does the map make the ice, on average over the area? Every type called thinner counts.",
                2,
            )
        )  # fmt: skip
    for same in ships(legend):
        title = " and ".join(ship_class(ship).title for ship in same)
        found.append(
            Measure(
                f"false_safe_{same[0]}_km2", _SHIPS, f"False-safe area, {title}", "km2", "lower",
                f"On how much area does the map allow a ship ({title}) normal operation where the reference does not?",
                0,
            )
        )  # fmt: skip
    return found


def ships(legend: Legend) -> tuple[tuple[str, ...], ...]:
    """Return the ships whose risk the legend's classes can tell, those together that may go where the others may.

    For some ships nothing that the legend shows is ever a risk, or all of it. Where only old ice is closed to a ship,
    its false-safe area is the old ice that a map misses, which is a measure already.
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


def of_headline(h: Headline) -> Measure:
    """Return a check's number as a measure."""
    group = _SURE if h.check == "confidence" else _SENSE
    return Measure(h.key, group, h.title, h.unit, h.better, h.question, h.digits, h.least, h.by_pixel)
