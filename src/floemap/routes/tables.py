"""The risk along a route as files: two tables, lines for GIS, a summary in words."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

from floemap.icechart.polaris import ADVISORY, ship_class
from floemap.routes.assessment import LEVELS, WITHOUT, LegRisk, Piece, speed_words
from floemap.routes.notices import place_in_words

#: Heading of everything that is shown.
NOT_FOR_NAVIGATION = "advisory, not for navigation"
#: Columns of legs.csv, besides distances.
_LEG = ("leg", "name", "line", "from_lon", "from_lat", "to_lon", "to_lat", "nm")
_OUTCOMES = ("rio_mean", "rio_mean_low", "rio_mean_high", "rio_worst", "rio_lowest", "level", "level_at_worst")
#: Columns of pieces.csv, fields of :class:`floemap.routes.assessment.Piece`.
_PIECE = (
    *("leg", "from_nm", "to_nm", "nm", "kind", "polygon", "egg", "rio", "spread_low", "spread_high", "level"),
    *("level_at_worst", "rio_lowest", "rio_highest", "alternative", "alternative_class", "alternative_probability"),
    *(
        "rio_p05",
        "rio_p95",
        "rio_expected",
        "beyond_normal",
        "unknown_tenths",
        "unknown_total",
        "glacier",
        "confidence",
    ),
)


def legs_table(legs: Sequence[LegRisk], about: Mapping[str, Any]) -> str:
    """Return a CSV table with a row for each leg and one for the whole route."""
    rows: list[dict[str, Any]] = []
    for facts in (*(leg.facts() for leg in legs), {"leg": "all", **about["total"]}):
        row = {name: facts.get(name) for name in (*_LEG, *_OUTCOMES)}
        for end in ("from", "to"):
            row |= dict(zip((f"{end}_lon", f"{end}_lat"), facts.get(end, (None, None)), strict=True))
        row |= {f"nm_{name}": facts["nm_by_level"][name] for name in LEVELS}
        row |= {f"nm_{name}_at_worst": facts["nm_by_level_at_worst"][name] for name in LEVELS}
        row |= {f"nm_{name.replace(' ', '_')}": facts["nm_without"][name] for name in WITHOUT}
        place = facts.get("worst_at") or (None, None)
        row |= {"worst_lon": place[0], "worst_lat": place[1], "worst_egg": facts.get("worst_egg")}
        rows.append(row | _marks(about))
    return _csv(rows)


def pieces_table(legs: Sequence[LegRisk], about: Mapping[str, Any]) -> str:
    """Return a CSV table with a row for each piece of a leg in one polygon, in the order of sailing."""
    return _csv([{name: _rounded(getattr(p, name)) for name in _PIECE} | _marks(about) for p in _pieces(legs)])


def _marks(about: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "ice_class": about["ice_class"],
        "status": f"{about['chart_status']}; {NOT_FOR_NAVIGATION}",
        "simulated": "yes" if about["simulated"] else "no",
    }


def _pieces(legs: Sequence[LegRisk]) -> list[Piece]:
    return [p for leg in legs for p in leg.pieces]


def _rounded(value: Any) -> Any:
    return round(value, 4) if isinstance(value, float) else value


def _csv(rows: Sequence[Mapping[str, Any]]) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows({k: _as_text(v) for k, v in row.items()} for row in rows)
    return text.getvalue()


def _as_text(value: Any) -> Any:
    """Return a cell. A text that a spreadsheet would take for a formula gets an apostrophe before it."""
    if isinstance(value, str) and value[:1] in ("=", "+", "-", "@"):
        return f"'{value}"
    return "" if value is None else value


def route_geojson(legs: Sequence[LegRisk], about: Mapping[str, Any]) -> dict[str, Any]:
    """Return GeoJSON (RFC 7946) with a line for each leg, `feature` "leg", and for each piece, "piece"."""
    features = []
    for leg in legs:
        facts = leg.facts()
        plain = {k: v for k, v in facts.items() if not isinstance(v, dict | list)}
        plain |= {f"nm_{name}": facts["nm_by_level"][name] for name in LEVELS}
        line = list(zip(leg.line.lon.tolist(), leg.line.lat.tolist(), strict=True))
        features.append(_feature(line, {"feature": "leg"} | plain | _marks(about)))
    for piece in _pieces(legs):
        values = {name: _rounded(getattr(piece, name)) for name in _PIECE}
        features.append(_feature(piece.line, {"feature": "piece"} | values | _marks(about)))
    return {"type": "FeatureCollection", "features": features}


def _feature(line: Sequence[tuple[float, float]], properties: dict[str, Any]) -> dict[str, Any]:
    parts = cut_at_dateline(line)
    kind = "LineString" if len(parts) == 1 else "MultiLineString"
    places = [[[round(x, 6), round(y, 6)] for x, y in part] for part in parts]
    geometry = {"type": kind, "coordinates": places[0] if len(parts) == 1 else places}
    return {"type": "Feature", "properties": properties, "geometry": geometry}


def cut_at_dateline(line: Sequence[tuple[float, float]]) -> list[list[tuple[float, float]]]:
    """Return the parts of a line, positions in degrees, between its crossings of the 180th meridian."""
    parts = [[line[0]]]
    for (lon0, lat0), (lon1, lat1) in pairwise(line):
        if abs(lon1 - lon0) > 180:
            edge = 180.0 if lon0 > 0 else -180.0
            across = (lon1 - lon0 + 180) % 360 - 180
            share = (edge - lon0) / across if across else 0.0
            lat = lat0 + (lat1 - lat0) * share
            parts[-1].append((edge, lat))
            parts.append([(-edge, lat)])
        parts[-1].append((lon1, lat1))
    return [part for part in parts if len(set(part)) > 1] or parts[:1]


def summary_text(legs: Sequence[LegRisk], about: Mapping[str, Any]) -> str:
    """Return the summary in words, for people."""
    ship = ship_class(about["ice_class"])
    mark = "SIMULATED: the chart shows no real ice.\n" if about["simulated"] else ""
    speed = speed_words(about["ice_class"], about["total"]["level"])
    lines = [
        f"Risk along the route {about['route']} for {ship.title}: {NOT_FOR_NAVIGATION}",
        f"{mark}Chart: {about['chart']}, {about['chart_status']}, time {about['chart_time'] or 'unknown'}.",
        "",
        *total_in_words(about),
        *([f"Speed (Table 1.2): {speed}."] if speed else []),
        "",
        "Legs (RIO: mean, worst, lowest of the spread; nm normal / elevated / special / without an outcome)",
        *(_leg_line(leg) for leg in legs),
        "",
        *(f"Warning: {words}" for words in about["warnings"]),
        *([""] if about["warnings"] else []),
        *(f"Spread: {words}" for words in about["spread_from"]),
        "",
        ADVISORY,
    ]
    return "\n".join(lines) + "\n"


def total_in_words(about: Mapping[str, Any]) -> list[str]:
    """Return the route's numbers and its worst leg in sentences."""
    total, worst = about["total"], about["worst_leg"]
    by_level = ", ".join(f"{total['nm_by_level'][name]:.1f} nm {name}" for name in LEVELS)
    at_worst = ", ".join(f"{total['nm_by_level_at_worst'][name]:.1f} nm {name}" for name in LEVELS)
    without = [f"{nm:.1f} nm {name}" for name, nm in total["nm_without"].items() if nm]
    lines = [
        f"Total {total['nm']:.1f} nm: {', '.join([by_level, *without])}.",
        f"At the low end of the spread: {at_worst}.",
    ]
    if worst is not None:
        place = place_in_words(*worst["worst_at"])
        name = "" if worst["name"] == f"leg {worst['leg']}" else f" ({worst['name']})"
        low = f"at worst {worst['rio_lowest']:.1f}"
        there = f"at {place}: {worst['worst_egg']}"
        words = f"Worst leg: {worst['leg']}{name}, RIO {worst['rio_worst']:.1f}, "
        if worst["lowest_polygon"] == worst["worst_polygon"]:
            lines.append(f"{words}{low}, {_level(worst['level'])}; {there}.")
        else:  # the spread reaches its low end in other ice
            lines.append(f"{words}{_level(worst['level'])}; {there}.")
            lines.append(f"Elsewhere on this leg {low}: {worst['lowest_egg']}.")
    return lines


def _level(name: str | None) -> str:
    titles = {"normal": "normal operation", "elevated": "elevated operational risk", "special": "special consideration"}
    return titles.get(name or "", "unknown")


def _leg_line(leg: LegRisk) -> str:
    facts = leg.facts()
    rio = [facts[key] for key in ("rio_mean", "rio_worst", "rio_lowest")]
    shown = " ".join("     -" if v is None else f"{v:6.1f}" for v in rio)
    levels = " / ".join(f"{facts['nm_by_level'][name]:.1f}" for name in LEVELS)
    without = sum(facts["nm_without"].values())
    name = "" if leg.leg.name == f"leg {leg.number}" else leg.leg.name[:40]
    return f"{leg.number:>4}  {name:<40} {facts['nm']:7.1f} nm  {shown}   {levels} / {without:.1f}"
