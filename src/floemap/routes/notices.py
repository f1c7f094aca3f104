"""What a navigator must be told about a route besides its numbers: land, missing chart, ice that nobody knows."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import pairwise

from floemap.counts import counted
from floemap.grid import NAUTICAL_MILE_M
from floemap.results.fields import at
from floemap.routes.assessment import LegRisk, Piece
from floemap.routes.chart_risk import OBSTACLES, ChartRisk
from floemap.routes.lines import line_of
from floemap.routes.reading import Leg

#: Most legs that a warning names.
_MOST = 5
#: Shortest gap between two legs that a warning names, nautical miles.
_LEAST_GAP_NM = 0.05


def place_in_words(lon: float, lat: float) -> str:
    """Return a position in degrees and minutes, as navigators write it: 74°30.0'N 012°15.0'W."""
    words = []
    for value, width, letters in ((lat, 2, "NS"), (lon, 3, "EW")):
        tenths = round(abs(value) * 600)  # of minutes
        words.append(f"{tenths // 600:0{width}d}°{tenths % 600 / 10:04.1f}'{letters[value < 0]}")
    return " ".join(words)


def warnings_of(legs: Sequence[LegRisk], risk: ChartRisk) -> list[str]:
    """Return the warnings, the gravest first."""
    pieces = [p for leg in legs for p in leg.pieces]
    found = [f"{w}. It is not passable." for name in OBSTACLES if (w := _where(legs, name, f"crosses {name}"))]
    if words := _where(legs, "no chart", "has no chart"):
        found.append(f"{words}. Nothing is known there: it is not open water.")
    if words := _where(legs, "no data", "lies in polygons without data"):
        found.append(f"{words}. Nothing is known there.")
    found += _breaks(legs)
    if length := _length(p for p in pieces if p.unknown_total):
        found.append(f"{length} lie in ice of unknown concentration, which counts as ten tenths.")
    if length := _length(p for p in pieces if p.unknown_tenths and not p.unknown_total):
        found.append(f"{length} lie in ice of unknown type or share, which counts as the worst that it may be.")
    if length := _length(p for p in pieces if p.glacier):
        found.append(
            f"{length} lie in polygons with glacier ice or bergy water. The circular gives no value for glacier ice and"
            " asks for a safe distance."
        )
    ice = risk.kind == "ice"
    if ice.any() and risk.regimes.unknown_total[ice].all():
        found.append("the chart gives no concentrations: all its ice counts as ten tenths of its type.")
    if str(at(risk.record, "land.land_mask", "")).startswith("none"):
        found.append("the chart was made without a land mask, so it may show land as ice or water.")
    return found


def _where(legs: Sequence[LegRisk], kind: str, what: str) -> str:
    """Return which legs have pieces of a kind, how long, and where the first begins; "" if none has."""
    having = [(leg, [p for p in leg.pieces if p.kind == kind]) for leg in legs]
    having = [(leg, pieces) for leg, pieces in having if pieces]
    words = [
        f"{leg.title} {what} for {_length(pieces)} from {place_in_words(*pieces[0].line[0])}"
        for leg, pieces in having[:_MOST]
    ]
    more = [f"{counted(len(having) - _MOST, 'more leg')} too"] if len(having) > _MOST else []
    return "; ".join(words + more)


def _breaks(legs: Sequence[LegRisk]) -> list[str]:
    """Return, as one warning, where the lines of the route's file leave a gap between two legs."""
    words = []
    for before, after in pairwise(legs):
        gap = line_of(Leg("", before.leg.end, after.leg.start), "great-circle").length_m / NAUTICAL_MILE_M
        if gap >= _LEAST_GAP_NM:
            words.append(f"{gap:.1f} nm from the end of {before.title}, {place_in_words(*before.leg.end)}")
    more = [f"{counted(len(words) - _MOST, 'more gap')} too"] if len(words) > _MOST else []
    return [f"the file has no line for {'; '.join(words[:_MOST] + more)}. It is not assessed."] if words else []


def _length(pieces: Iterable[Piece]) -> str:
    total = sum(p.nm for p in pieces)
    return f"{total:.1f} nm" if total >= 0.05 else ("less than 0.1 nm" if total else "")
