"""The numbers of the checks that go into a table: one row each, with its unit, and how maps are ranked by it.

No map is better than the reference itself. Most numbers say how much of a map is wrong, and lower is better. Some
describe a map whether it is right or wrong: how many pieces it has, or how often its classes change along the radar's
seams. The reference has pieces and changes, too, so such a number is best where it is the reference's own, and is
ranked by its distance to that:

    badness = | ln (number + least) - ln (reference's number + least) |

half as much is as bad as twice as much, and what is small beside `least` hardly counts, so that the distance to 0 is
finite.

Whoever prints the numbers needs to know nothing of the checks: ``headline.of(checks)`` is the number, or None where it
is not defined, and ``headline.badness(number, reference)`` orders numbers from best to worst.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

Better = Literal["lower", "higher", "near reference"]


@dataclass(frozen=True)
class Headline:
    """One number of a check.

    Attributes
    ----------
    key
        Unique; for files.
    check
        Key of the check in :data:`floemap.evaluation.checks.scene_checks.CHECKS`.
    value
        Its name among the check's values; for what is best near the reference, among the values of each map.
    title
        For people, as a column's head.
    unit
        "" for ratios and shares.
    better
        ``lower``, ``higher``, or ``near reference``.
    question
        What it answers, in one sentence. "The reference" is the chart, or the truth of a simulated scene.
    digits
        After the point.
    least
        Of what is best near the reference: an amount that is hardly worth telling, in `unit`.
    by_pixel
        Whether it depends on the size of pixels, as the number of pieces and the length of ragged borders do. Such
        numbers are shown with it, and scenes with other pixels are not added.
    """

    key: str
    check: str
    value: str
    title: str
    unit: str
    better: Better
    question: str
    digits: int = 2
    least: float = 0.0
    by_pixel: bool = False

    def of(self, checks: Mapping[str, Any]) -> float | None:
        """Return the number from the entry "checks" of a scene's or of pooled results; None where not defined."""
        return self._of(checks, "prediction")

    def of_reference(self, checks: Mapping[str, Any]) -> float | None:
        """Return the number that the reference itself has, from the same entry; None where not defined."""
        if self.better == "near reference":
            return self._of(checks, "reference")
        return None if checks.get(self.check, {}).get("values") is None else perfect(self.better)

    def _of(self, checks: Mapping[str, Any], which: str) -> float | None:
        values = checks.get(self.check, {}).get("values")
        if values is None:
            return None
        number = (values[which] if self.better == "near reference" else values)[self.value]
        return None if number is None else float(number)

    def badness(self, number: float, reference: float | None = None) -> float:
        """Return how bad a number is: equal numbers are equally bad, and the smallest is the best.

        NaN where it is ranked by its distance to the reference's, and that is not known.
        """
        off = self.deviation(number, reference)
        return abs(off) if self.better == "near reference" else off

    def deviation(self, number: float, reference: float | None = None) -> float:
        """Return how bad a number is, with a sign where it may be off to either side: the reference's is 0 then."""
        return deviation(self.better, number, reference, self.least)

    def text(self, number: float | None) -> str:
        """Return the number as a table shows it, without its unit."""
        return "–" if number is None else f"{number:,.{self.digits}f}"


def perfect(better: Better) -> float:
    """Return the number of a perfect map: 0 of what is lower the better, 1 of what is a share."""
    return 1.0 if better == "higher" else 0.0


def deviation(better: Better, number: float, reference: float | None, least: float) -> float:
    """Return how bad a number is, with a sign where it may be off to either side.

    See the module, and :class:`Headline` for the parameters.
    """
    if better != "near reference":
        return number if better == "lower" else -number
    return math.nan if reference is None else math.log((number + least) / (reference + least))


HEADLINES: tuple[Headline, ...] = (
    Headline(
        "out_of_season_km2", "season", "invented_km2", "Out of season", "km2", "lower",
        "How much new ice, nilas and young ice does the map show while ice melts, where the reference has none of it?",
        0,
    ),
    Headline(
        "old_ice_missed_km2", "old_ice", "omission_km2", "Old ice missed", "km2", "lower",
        "How much of the reference's old ice does the map call something else?", 0,
    ),
    Headline(
        "old_ice_as_first_year_km2", "old_ice", "as_first_year_km2", "Old ice called first-year", "km2", "lower",
        "How much of it does the map call first-year ice, the mistake that nothing gives away?", 0,
    ),
    Headline(
        "old_ice_invented_km2", "old_ice", "commission_km2", "Old ice invented", "km2", "lower",
        "How much old ice does the map show where the reference has none?", 0,
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
        "patches_per_1000_km2", "fragmentation", "patches_per_1000_km2", "Patches", "per 1000 km2", "near reference",
        "In how many pieces is the map?", 1, 0.01, True,
    ),
    Headline(
        "borders_1_km", "fragmentation", "perimeter_per_area_1_km", "Borders", "km per km2", "near reference",
        "How much border do the pieces have?", 3, 0.001, True,
    ),
    Headline(
        "impossible_km", "neighbours", "impossible_km", "Impossible neighbours", "km", "near reference",
        "How much border does the map have between open water and narrow old ice?", 0, 1.0, True,
    ),
    Headline(
        "seam_ratio", "seams", "ratio", "Changes along seams", "", "near reference",
        "How many times as often as elsewhere does the class change where the radar's sub-swaths meet?", 2, 0.1,
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
        "How far are all probabilities from what came true, from 0 to 2?", 3,
    ),
    Headline(
        "wrong_in_surer_half", "confidence", "wrong_in_surer_half", "Wrong in the surer half", "", "lower",
        "How much of the half that the model is surer of, which a review of the rest would leave, is wrong?", 3,
    ),
)  # fmt: skip
