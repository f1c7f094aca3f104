"""The class of measures: numbers that maps are compared by, each with its unit and the rule that ranks maps by it.

No map ranks better than the reference itself. Most measures count how much of a map is wrong, and lower is better.
Others describe a map whether it is right or wrong, such as the number of its patches, or how often its classes change
along the radar's seams. The reference has patches and changes as well, so such a measure is best where it equals the
reference's own, and ranks maps by the distance from that:

    badness = | ln (number + least) - ln (reference's number + least) |

Half as much is as bad as twice as much. `least` keeps the distance from 0 finite, and makes numbers that are small
beside it count little.

Each check declares its measures with its amounts (:attr:`floemap.evaluation.checks.amounts.Amounts.MEASURES`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

#: Which numbers are better.
Better = Literal["lower", "higher", "near reference"]
#: A number that is off to either side of the reference's own.
NEAR: Better = "near reference"
#: What maps are compared with.
Reference = Literal["chart", "truth"]

SCORE, SHARES, SENSE, SURE, SHIPS = (
    "Score against the chart",
    "Partial concentrations, by polygon",
    "Does the map make sense?",
    "Does it know when it is wrong?",
    "What it means for a ship",
)
#: Groups of measures, in the order of tables.
GROUPS = (SCORE, SHARES, SENSE, SHIPS, SURE)


@dataclass(frozen=True, kw_only=True)
class Measure:
    """A number that maps are compared by.

    Attributes
    ----------
    key
        The unique key, used in files.
    title
        The title, used as a column's head.
    unit
        The unit; "" for ratios and shares.
    better
        ``lower``, ``higher``, or ``near reference``.
    question
        The question that the number answers, in one sentence. "The reference" is the chart, or the truth of a
        simulated scene.
    digits
        Number of digits after the decimal point in tables.
    group
        One of :data:`GROUPS`.
    check, value
        For a number of a check: its key in :data:`floemap.evaluation.checks.scene_checks.CHECKS`, and the name of the
        number among the check's values. A number that is best near the reference is looked up among the values of
        each map. Both are empty for scores and risks.
    least
        For numbers that are best near the reference: an amount too small to matter, in `unit`.
    by_pixel
        Whether the number depends on the size of pixels, as the number of patches and the length of ragged borders do.
        Tables show such numbers with the size, and scenes with different pixels are not added.
    main
        Whether the number has a row in the report's first table.
    harm
        Position in the order of harm, 1 for the most harmful mistake; 0 where the findings do not mention the number.
    sentence
        The predicate of a finding: "{}" stands for the number with its unit, and {whose}, {who} and {than} for words
        about the reference.
    within
        Keys of measures that count every mistake that this one counts, and more of the same kind.
    """

    key: str
    title: str
    unit: str
    better: Better
    question: str
    digits: int = 2
    group: str = SENSE
    check: str = ""
    value: str = ""
    least: float = 0.0
    by_pixel: bool = False
    main: bool = False
    harm: int = 0
    sentence: str = ""
    within: tuple[str, ...] = ()

    @property
    def scored(self) -> bool:
        """Whether the number is a score, which compares with the chart even where a truth is known."""
        return self.group in (SCORE, SHARES)

    @property
    def perfect(self) -> float | None:
        """The number of a perfect map; None where that is the reference's own number, which must be measured."""
        return None if self.better == NEAR else 1.0 if self.better == "higher" else 0.0

    @property
    def shown_unit(self) -> str:
        """The unit as people read it: with a raised 2 in km²."""
        return self.unit.replace("km2", "km²")

    def of(self, checks: Mapping[str, Any]) -> float | None:
        """Return the number from the entry "checks" of a scene's or of pooled results; None where it is undefined."""
        return self._of(checks, "prediction")

    def of_reference(self, checks: Mapping[str, Any]) -> float | None:
        """Return the reference's own number from the same entry; None where it is undefined."""
        if self.better == NEAR:
            return self._of(checks, "reference")
        return None if checks.get(self.check, {}).get("values") is None else self.perfect

    def _of(self, checks: Mapping[str, Any], which: str) -> float | None:
        values = checks.get(self.check, {}).get("values")
        if values is None:
            return None
        number = (values[which] if self.better == NEAR else values)[self.value]
        return None if number is None else float(number)

    def badness(self, number: float, reference: float | None = None) -> float:
        """Return how bad a number is: equal numbers are equally bad, and the smallest is the best.

        NaN where the measure is best near the reference and the reference's number is unknown.
        """
        off = self.deviation(number, reference)
        return abs(off) if self.better == NEAR else off

    def deviation(self, number: float, reference: float | None = None) -> float:
        """Return how bad a number is, with a sign where it can be off to either side: then 0 is the reference's own."""
        if self.better != NEAR:
            return number if self.better == "lower" else -number
        return math.nan if reference is None else math.log((number + self.least) / (reference + self.least))

    def direction(self, reference: Reference) -> str:
        """Return in words which numbers are better."""
        words = {"lower": "lower is better", "higher": "higher is better"}
        return words.get(self.better, f"best where it is the {reference}’s own")

    def text(self, number: float | None) -> str:
        """Return a number as tables show it, with thin spaces between thousands and without its unit."""
        return "–" if number is None else f"{number:,.{self.digits}f}".replace(",", "\u2009").replace("-", "\u2212")
