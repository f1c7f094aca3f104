"""The risk along a route: of each part in one polygon, of each leg, of the whole.

Distances are in nautical miles along the legs. The spread of a part's outcome runs from the lowest to the highest of:
the bounds that the polygon's codes leave (:mod:`floemap.icechart.regimes`); the outcome with the draft's second class
in place of the dominant type, if that has a probability of five percent or more; the 5 % and the 95 % quantile and the
mean by the draft's probabilities (:mod:`floemap.routes.probabilities`).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from floemap.grid import NAUTICAL_MILE_M
from floemap.icechart.polaris import ELEVATED_KNOTS, Level, operation_levels, ship_class
from floemap.routes.chart_risk import OBSTACLES, ChartRisk, egg_in_words
from floemap.routes.crossings import NO_CHART, Crossings, Part
from floemap.routes.lines import Line
from floemap.routes.probabilities import Probabilities
from floemap.routes.reading import Leg

#: Columns of distances: levels of operation, then what has no outcome.
LEVELS = tuple(level.name.lower() for level in Level)
WITHOUT = ("no chart", "no data", *OBSTACLES)
#: Distance between positions at which probabilities are read, and most positions in a part.
_SAMPLE_M, _MOST_SAMPLES = 250.0, 400
#: What :meth:`floemap.routes.probabilities.Probabilities.at` gives, and the outcomes from which the spread is taken.
_BY_PROBABILITIES = ("rio_p05", "rio_p95", "rio_expected", "beyond_normal")
_OUTCOMES = ("rio", "rio_lowest", "rio_highest", "alternative", "rio_p05", "rio_p95", "rio_expected")


@dataclass(frozen=True)
class Piece:
    """A part of a leg in one polygon, or without a chart. Numbers are None where they are unknown.

    Attributes
    ----------
    leg
        Number of the leg, from 1.
    from_nm, to_nm
        From and to, nautical miles from the start of the route.
    line
        Positions, (n, 2), longitude and latitude, degrees.
    kind
        What it lies in: ice, water, bergy water, land, ice shelf, no data, or no chart.
    polygon
        Id of the polygon's feature.
    egg
        What the polygon holds, in words.
    stage
        Stage of development of the dominant type.
    rio, rio_lowest, rio_highest
        Outcome, and bounds by the codes.
    alternative, alternative_class, alternative_probability
        Outcome with the second class of the draft, its key, and its probability.
    rio_p05, rio_p95, rio_expected, beyond_normal
        Quantiles and mean of the outcome by the draft's probabilities along the line, where `rio` is that of the whole
        polygon's egg; and the mean probability of a class without normal operation.
    spread_low, spread_high
        Lowest and highest of all of these.
    level, level_at_worst
        Level of operation of `rio` and of `spread_low`.
    unknown_tenths
        Tenths of ice of unknown type or share, taken as the worst.
    unknown_total, glacier
        Whether the total concentration is unknown; whether the polygon names glacier ice or bergy water.
    confidence
        The draft's confidence.
    """

    leg: int
    from_nm: float
    to_nm: float
    line: tuple[tuple[float, float], ...]
    kind: str
    polygon: int | None = None
    egg: str = ""
    stage: int | None = None
    rio: float | None = None
    rio_lowest: float | None = None
    rio_highest: float | None = None
    alternative: float | None = None
    alternative_class: str | None = None
    alternative_probability: float | None = None
    rio_p05: float | None = None
    rio_p95: float | None = None
    rio_expected: float | None = None
    beyond_normal: float | None = None
    spread_low: float | None = None
    spread_high: float | None = None
    level: str | None = None
    level_at_worst: str | None = None
    unknown_tenths: float | None = None
    unknown_total: bool = False
    glacier: bool = False
    confidence: float | None = None

    @property
    def nm(self) -> float:
        """Length, nautical miles."""
        return self.to_nm - self.from_nm


@dataclass(frozen=True)
class LegRisk:
    """A leg with its pieces, in order; see :meth:`facts` for its numbers."""

    number: int
    leg: Leg
    line: Line
    pieces: tuple[Piece, ...]

    @property
    def title(self) -> str:
        """Number and name, such as "leg 2 (A to B)"."""
        number = f"leg {self.number}"
        return number if self.leg.name == number else f"{number} ({self.leg.name})"

    @property
    def worst(self) -> Piece | None:
        """The piece with the lowest outcome, of equal ones the longest; None if none has an outcome."""
        return worst_piece(self.pieces)

    def facts(self) -> dict[str, Any]:
        """Return the leg's numbers, JSON-ready; see :func:`numbers_of`."""
        worst, lowest = self.worst, lowest_piece(self.pieces)
        place = None
        if worst is not None:  # the middle of the piece: its vertices may be on the border only
            middle_nm = (worst.from_nm + worst.to_nm) / 2 - self.pieces[0].from_nm
            lon, lat = self.line.at(np.array([middle_nm * NAUTICAL_MILE_M]))
            place = float(lon[0]), float(lat[0])
        return {
            "leg": self.number,
            "name": self.leg.name,
            "line": self.line.kind,
            "from": list(self.leg.start),
            "to": list(self.leg.end),
            **numbers_of(self.pieces),
            "worst_polygon": None if worst is None else worst.polygon,
            "worst_egg": None if worst is None else worst.egg,
            "lowest_polygon": None if lowest is None else lowest.polygon,
            "lowest_egg": None if lowest is None else lowest.egg,
            "worst_at": None if place is None else [round(v, 5) for v in place],
        }


def assess_legs(legs: Sequence[tuple[Leg, Line]], risk: ChartRisk, probabilities: Probabilities) -> tuple[LegRisk, ...]:
    """Return the risk of legs with their lines, in the order of sailing."""
    crossings, found, sailed = Crossings(risk), [], 0.0
    for number, (leg, line) in enumerate(legs, 1):
        parts = crossings.of(line)
        pieces = tuple(_piece(number, sailed, line, part, risk, probabilities) for part in parts)
        found.append(LegRisk(number, leg, line, pieces))
        sailed += line.length_m / NAUTICAL_MILE_M
    return tuple(found)


def _piece(
    number: int, sailed_nm: float, line: Line, part: Part, risk: ChartRisk, probabilities: Probabilities
) -> Piece:
    begin, end = (sailed_nm + d / NAUTICAL_MILE_M for d in (part.from_m, part.to_m))
    inner = line.along_m[(line.along_m > part.from_m) & (line.along_m < part.to_m)]
    lon, lat = line.at(np.array([part.from_m, *inner, part.to_m]))
    track = tuple(zip(lon.round(6).tolist(), lat.round(6).tolist(), strict=True))
    if part.row == NO_CHART:
        return Piece(number, begin, end, track, "no chart")
    found, row = risk.regimes, part.row
    stage = int(found.types.stage[row])
    told: dict[str, Any] = {
        "polygon": int(risk.chart.polygons.index[row]),
        "egg": egg_in_words(risk.chart, found.types, row),
        "stage": stage if stage >= 0 else None,
    }
    kind = str(risk.kind[row])
    if np.isnan(found.outcome[row]):
        return Piece(number, begin, end, track, kind, **told)
    told |= {
        "rio": _number(found.outcome[row]),
        "rio_lowest": _number(found.lowest[row]),
        "rio_highest": _number(found.highest[row]),
        "alternative": _number(risk.alternative[row]),
        "alternative_class": str(risk.alternative_name[row]) or None,
        "alternative_probability": _number(risk.alternative_probability[row]),
        "unknown_tenths": _number(found.unknown_tenths[row]),
        "unknown_total": bool(found.unknown_total[row]),
        "glacier": bool(found.glacier[row]),
        "confidence": _number(risk.confidence[row]),
    }
    if probabilities and risk.by_model[row]:
        n = int(min(max(part.length_m // _SAMPLE_M, 1), _MOST_SAMPLES))
        places = part.from_m + (np.arange(n) + 0.5) * part.length_m / n
        if (means := probabilities.at(*line.at(places))) is not None:
            told |= dict(zip(_BY_PROBABILITIES, map(_number, means), strict=True))
    known = [v for key in _OUTCOMES if (v := told.get(key)) is not None]
    levels = operation_levels([told["rio"], min(known)], found.ship)
    told |= {"spread_low": min(known), "spread_high": max(known)}
    told |= {"level": LEVELS[levels[0]], "level_at_worst": LEVELS[levels[1]]}
    return Piece(number, begin, end, track, kind, **told)


def _number(value: float) -> float | None:
    return None if math.isnan(value) else round(float(value), 4)


def worst_piece(pieces: Iterable[Piece]) -> Piece | None:
    """Return the piece with the lowest outcome, of equal ones the longest; None if none has an outcome."""
    return min((p for p in pieces if p.rio is not None), key=lambda p: (p.rio, -p.nm), default=None)


def lowest_piece(pieces: Iterable[Piece]) -> Piece | None:
    """Return the piece whose spread reaches the lowest, of equal ones that of the lower outcome; None as above."""
    return min((p for p in pieces if p.rio is not None), key=lambda p: (p.spread_low, p.rio, -p.nm), default=None)


def numbers_of(pieces: Sequence[Piece]) -> dict[str, Any]:
    """Return what pieces have in common: distances, nautical miles, and outcomes, weighted by length.

    Returns
    -------
    `nm`; `nm_by_level` and `nm_by_level_at_worst`, by level of operation, by the outcome and by the low end of its
    spread; `nm_without`, by what has no outcome; `rio_mean`, `rio_mean_low`, `rio_mean_high`, of the outcome and of
    the ends of its spread; `rio_worst`, the lowest outcome; `rio_lowest`, the lowest end of the spread; `level`,
    `level_at_worst`, by these two; `nm_unknown_ice`, with ice of unknown type or share; `nm_glacier_ice`, with glacier
    ice or bergy water. Outcomes are None where no piece has one.
    """
    with_rio = [p for p in pieces if p.rio is not None]
    total = sum(p.nm for p in with_rio)

    def mean(key: str) -> float | None:
        return round(sum(getattr(p, key) * p.nm for p in with_rio) / total, 2) if total else None

    def length(chosen: Iterable[Piece]) -> float:
        return round(sum(p.nm for p in chosen), 3)

    levels = [LEVELS.index(p.level) for p in with_rio if p.level]
    at_worst = [LEVELS.index(p.level_at_worst) for p in with_rio if p.level_at_worst]
    return {
        "nm": length(pieces),
        "nm_by_level": {name: length(p for p in with_rio if p.level == name) for name in LEVELS},
        "nm_by_level_at_worst": {name: length(p for p in with_rio if p.level_at_worst == name) for name in LEVELS},
        "nm_without": {name: length(p for p in pieces if p.kind == name) for name in WITHOUT},
        "rio_mean": mean("rio"),
        "rio_mean_low": mean("spread_low"),
        "rio_mean_high": mean("spread_high"),
        "rio_worst": min((p.rio for p in with_rio if p.rio is not None), default=None),
        "rio_lowest": min((p.spread_low for p in with_rio if p.spread_low is not None), default=None),
        "level": LEVELS[max(levels)] if levels else None,
        "level_at_worst": LEVELS[max(at_worst)] if at_worst else None,
        "nm_unknown_ice": length(p for p in with_rio if p.unknown_tenths),
        "nm_glacier_ice": length(p for p in with_rio if p.glacier),
    }


def worst_leg(legs: Sequence[LegRisk]) -> LegRisk | None:
    """Return the leg with the lowest outcome, of equal ones that with the longest distance at it."""
    rated = [leg for leg in legs if leg.worst is not None]

    def order(leg: LegRisk) -> tuple[float, float]:
        lowest = leg.facts()["rio_worst"]
        return lowest, -sum(p.nm for p in leg.pieces if p.rio == lowest)

    return min(rated, key=order, default=None)


def speed_words(ship: str, level: str | None) -> str:
    """Return what the circular says of speed at a level of operation, Table 1.2; "" where it says nothing."""
    if level == "elevated" and ship in ELEVATED_KNOTS:
        return f"the circular recommends at most {ELEVATED_KNOTS[ship]} knots for {ship_class(ship).title}"
    if level == "special":
        return "the circular asks for special consideration and gives no speed"
    return ""
