"""The numbers of the checks that go into a table: one row each, with its unit and which way is better.

Whoever prints them needs to know nothing of the checks: ``headline.of(checks)`` is the number, or None where it is not
defined, and ``headline.badness(number)`` orders numbers from best to worst.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

Better = Literal["lower", "higher", "near one"]


@dataclass(frozen=True)
class Headline:
    """One number of a check.

    Attributes
    ----------
    key
        Unique; for files.
    check
        Key of the check in :data:`floemap.evaluation.consistency.CHECKS`.
    value
        Its name among the check's values.
    title
        For people, as a column's head.
    unit
        "" for ratios and shares.
    better
        ``lower``, ``higher``, or ``near one``: a ratio to the chart.
    question
        What it answers, in one sentence.
    digits
        After the point.
    """

    key: str
    check: str
    value: str
    title: str
    unit: str
    better: Better
    question: str
    digits: int = 2

    def of(self, checks: Mapping[str, Any]) -> float | None:
        """Return the number from the entry "checks" of a scene's or of pooled results; None where not defined."""
        found = checks.get(self.check)
        values = None if found is None else found["values"]
        number = None if values is None else values[self.value]
        return None if number is None else float(number)

    def badness(self, number: float) -> float:
        """Return how bad a number is: equal numbers are equally bad, and the smallest is the best."""
        if self.better == "near one":
            return abs(math.log(number)) if number > 0 else math.inf
        return number if self.better == "lower" else -number

    def text(self, number: float | None) -> str:
        """Return the number as a table shows it, without its unit."""
        return "–" if number is None else f"{number:,.{self.digits}f}"


HEADLINES: tuple[Headline, ...] = (
    Headline(
        "out_of_season_km2", "season", "predicted_km2", "Out of season", "km2", "lower",
        "How much new ice, nilas and young ice does the map show while ice melts?", 0,
    ),
    Headline(
        "out_of_season_ratio", "season", "ratio", "Out of season to chart", "", "near one",
        "How many times what the chart shows is that?",
    ),
    Headline(
        "old_ice_missed_km2", "old_ice", "omission_km2", "Old ice missed", "km2", "lower",
        "How much of the chart's old ice does the map call something else?", 0,
    ),
    Headline(
        "old_ice_as_first_year_km2", "old_ice", "as_first_year_km2", "Old ice called first-year", "km2", "lower",
        "How much of it does the map call first-year ice, the mistake that nothing gives away?", 0,
    ),
    Headline(
        "old_ice_invented_km2", "old_ice", "commission_km2", "Old ice invented", "km2", "lower",
        "How much old ice does the map show where the chart has none?", 0,
    ),
    Headline(
        "ice_edge_km", "ice_edge", "mean_distance_km", "Ice edge off", "km", "lower",
        "How far apart are the two ice edges, on average of both ways?",
    ),
    Headline(
        "ice_edge_hausdorff95_km", "ice_edge", "hausdorff95_km", "Ice edge off, Hausdorff 95 %", "km", "lower",
        "How far off are the worst parts of the edge, the last 5 % left out?", 1,
    ),
    Headline(
        "iiee_km2", "ice_edge", "iiee_km2", "Wrong side of the edge", "km2", "lower",
        "How much area is ice in one map and water in the other?", 0,
    ),
    Headline(
        "patches_ratio", "fragmentation", "patches_per_1000_km2_ratio", "Patches to chart", "", "near one",
        "How many times as many pieces as the chart is the map in?",
    ),
    Headline(
        "perimeter_ratio", "fragmentation", "perimeter_per_area_1_km_ratio", "Borders to chart", "", "near one",
        "How many times as much border do they have?",
    ),
    Headline(
        "impossible_km", "neighbours", "impossible_km", "Impossible neighbours", "km", "lower",
        "How much border does the map have between open water and specks or rings of old ice?", 0,
    ),
    Headline(
        "seam_ratio", "seams", "seam_ratio", "Changes along seams", "", "near one",
        "How many times as often as elsewhere does the class change where the radar's sub-swaths meet?",
    ),
    Headline(
        "angle_dependence", "angle", "angle_dependence", "Depends on angle", "", "lower",
        "What share of the map changes class with the radar's incidence angle, not with the ice?", 3,
    ),
    Headline(
        "ece", "confidence", "ece", "Calibration error", "", "lower",
        "How far, on average, are probabilities from how often they come true?", 3,
    ),
    Headline(
        "brier", "confidence", "brier", "Brier score", "", "lower",
        "How far are all probabilities from the truth, from 0 to 2?", 3,
    ),
    Headline(
        "entropy_gap", "confidence", "entropy_gap", "Doubt where wrong", "", "higher",
        "How much more does the model doubt where it is wrong than where it is right?", 3,
    ),
)  # fmt: skip


def headline_values(checks: Mapping[str, Any]) -> dict[str, float | None]:
    """Return all headline numbers by key."""
    return {h.key: h.of(checks) for h in HEADLINES}
