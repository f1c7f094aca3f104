"""What contenders are compared by: each number, which way is better, who is best and worst, and how sure that is.

Scores are means over scenes, as the published ones are. Areas, lengths and what is made of them are of all scenes
together, as :func:`floemap.evaluation.consistency.pool_checks` makes them. :mod:`floemap.report.measuring` makes them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from floemap.errors import ConfigError
from floemap.evaluation.checks.headlines import HEADLINES, Better, Headline
from floemap.evaluation.difference import Difference
from floemap.evaluation.polaris import REPORTED_SHIPS, class_levels, ship_class
from floemap.evaluation.spread import Spread
from floemap.legend import Legend

#: Share of resamples inside an interval; and one less the probability that any losses are wrongly told apart.
LEVEL = 0.9
#: Better the nearer to one: such a number is off to either side.
NEAR: Better = "near one"
#: The ship by whose risk index mistakes are weighed: without ice strengthening, as for it every thicker type is worse.
UNDERSTATED_SHIP = "none"
#: For a ratio of 0, which is infinitely far from 1, where differences are taken.
_WORST = 50.0
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
    "patches_ratio",
    "impossible_km",
    "seam_ratio",
    "angle_dependence",
    "ece",
    "risk_understated",
    "false_safe_PC5_km2",
    "false_safe_PC7_km2",
}


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

    @property
    def main(self) -> bool:
        """Whether it stands in the first table."""
        return self.key in _MAIN

    @property
    def direction(self) -> str:
        """Which way is better, in words."""
        return {"lower": "lower is better", "higher": "higher is better", "near one": "1 is as it should be"}[
            self.better
        ]

    def text(self, number: float | None) -> str:
        """Return a number as tables show it, thousands apart, without its unit."""
        return "–" if number is None else f"{number:,.{self.digits}f}".replace(",", "\u2009").replace("-", "\u2212")

    def badness(self, number: float) -> float:
        """Return how bad a number is; the smallest is the best."""
        h = Headline(self.key, "", "", self.title, self.unit, self.better, self.question, self.digits)
        return finite(h.badness(number))


def finite(badness: float) -> float:
    """Return a badness whose differences can be taken."""
    return badness if math.isfinite(badness) else _WORST


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
        How bad each contender is, mean over its repeats; lower is better.
    best, worst
        Contenders' keys; None where there is none, or all are alike.
    told_apart
        Whether best and worst can be; None where nothing can be said.
    between
        The best against the worst; why nothing can be said.
    reason
        Why there is no number at all.
    """

    measure: Measure
    spreads: Mapping[str, Spread]
    badness: Mapping[str, float] = field(default_factory=dict)
    best: str | None = None
    worst: str | None = None
    told_apart: bool | None = None
    between: Difference | None = None
    reason: str | None = None


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
    """

    rows: tuple[Row, ...]
    class_f1: Mapping[str, Mapping[str, Spread]]
    pooled: Mapping[str, Mapping[str, Any]]
    by_scene: Mapping[str, Mapping[str, Mapping[str, Any]]]
    confusion: Mapping[str, NDArray[np.int64]]
    repeats: Mapping[str, int]
    cautions: tuple[str, ...] = field(default=())

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
                "chart does the map make the ice, on average over the area? Every type that is called thinner counts.",
                2,
            )
        )  # fmt: skip
    for ship in ships(legend):
        title = ship_class(ship).title
        found.append(
            Measure(
                f"false_safe_{ship}_km2", _SHIPS, f"False-safe area, {title}", "km2", "lower",
                f"On how much area does the map allow a ship ({title}) normal operation where the chart does not?", 0,
            )
        )  # fmt: skip
    return found


def ships(legend: Legend) -> tuple[str, ...]:
    """Return the ships whose risk the legend's classes can tell; for some nothing that it shows is ever a risk."""
    try:
        levels = {ship: class_levels(legend, ship) for ship in REPORTED_SHIPS}
    except ConfigError:
        return ()
    return tuple(ship for ship, level in levels.items() if level.any() and not level.all())


def of_headline(h: Headline) -> Measure:
    """Return a check's number as a measure."""
    group = _SURE if h.check == "confidence" else _SENSE
    return Measure(h.key, group, h.title, h.unit, h.better, h.question, h.digits)
