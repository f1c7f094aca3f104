"""The text of a bundle, for e-mail over a satellite telephone: ASCII, lines of at most 76 characters.

It has what a ship's officer needs without any picture: status and time, ice by sector, and the ice edge as positions.
"""

from __future__ import annotations

import math
import textwrap
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyproj
import shapely
from numpy.typing import NDArray

from floemap.bundle.area import Area, position
from floemap.bundle.measures import ice_edge, water_and_ice
from floemap.bundle.source import ChartFacts
from floemap.counts import counted
from floemap.grid import NAUTICAL_MILE_M
from floemap.icechart.dominant_type import IceTypes, Rule, ice_types
from floemap.icechart.read.codes import NO_TYPE, NOT_GIVEN
from floemap.icechart.read.sigrid3 import Chart
from floemap.legend import STAGES_BY_THICKNESS, stage_in_words, stage_of

WIDTH = 76
#: Shorter pieces of the ice edge, and more of them, are counted and not listed.
_SHORTEST_NM, _MOST_LINES, _MOST_POSITIONS = 10.0, 5, 16
#: Tolerances of the positions, nautical miles; minutes of latitude are positions to a mile.
_TOLERANCES_NM = (1, 2, 3, 5, 8, 12, 20, 30, 50, 80, 120, 200, 300, 500)
_COMPASS = ("N", "NE", "E", "SE", "S", "SW", "W", "NW")
#: Number of slices of a sector's outline, and how far they reach beyond the area.
_SLICES, _BEYOND = 24, 3.0
_NO_SEA = (Rule.LAND, Rule.ICE_SHELF)
_UNKNOWN = "ice of unknown type"
#: Smallest share that is listed.
_LEAST, _ROUNDING = 0.005, 1e-6


def summary(chart: Chart, facts: ChartFacts, area: Area) -> str:
    """Return the text of a bundle, which does not depend on how far its other parts are simplified.

    Parameters
    ----------
    chart
        The chart in the area, before it is simplified.
    facts, area
        What is known of the chart; the area.
    """
    head = [f"ICE {'DRAFT ' if facts.kind in ('draft', 'correction') else ''}CHART {facts.valid:%Y-%m-%d %H:%M} UTC"]
    head += ["*** SIMULATED: NOT A REAL SITUATION ***"] if facts.simulated else []
    head += ["*** NOT FOR NAVIGATION ***"]
    named = {"Status": facts.status.words, "Valid": f"{facts.valid:%Y-%m-%d %H:%M} UTC"}
    named |= {"Published": f"{facts.published:%Y-%m-%d %H:%M} UTC"} if facts.published else {}
    named |= {"Source": facts.source} | ({"By": facts.made_by} if facts.made_by else {})
    named |= {"Data": facts.attribution} if facts.attribution else {}
    named |= {"Area": area.words}
    lines = head + [line for name, words in named.items() for line in _wrapped(f"{name}: {words}")]
    how = "longitude" if area.with_pole else "bearing from the middle of the area"
    lines += [
        "",
        *_wrapped(f"ICE BY SECTOR ({how}), in tenths of the charted sea; land, no chart in % of the sector"),
    ]
    found = [(name, shape) for name, shape in sectors(area) if shape.area]
    width = max(len(name) for name, _ in found)
    lines += [line for name, shape in found for line in _sector(name, width, shape, chart)]
    lines += ["", *_edge_lines(chart, area.crs), ""]
    return ascii_only("\n".join(lines)) + "\n"


def other_parts(parts: Sequence[str], changed: Mapping[str, Any]) -> str:
    """Return the end of the text: the other parts, and what their simplification changed.

    `changed` is what :func:`floemap.bundle.measures.changes` returns, with `tolerance_m` and `smallest_km2`.
    """
    sentences = [f"With this text: {', '.join(parts) or 'nothing else'}. Its numbers are the chart's, not simplified."]
    sentences += [_changed_in_words(changed)] if set(parts) - {"picture"} else []
    return "\n".join(line for sentence in sentences for line in _wrapped(sentence)) + "\n"


def ascii_only(text: str) -> str:
    """Return a text in printable ASCII and line feeds; other characters, as names may have, become question marks."""
    known = text.replace("°", " deg")
    return "".join(c if c == "\n" or " " <= c <= "~" else "?" for c in known)


def _wrapped(text: str, indent: str = "  ") -> list[str]:
    """Return a text in lines; line feeds in it, as of names, count as blanks."""
    return textwrap.wrap(ascii_only(" ".join(text.split())), WIDTH, subsequent_indent=indent) or [""]


def sectors(area: Area) -> list[tuple[str, Any]]:
    """Return names and shapes of the sectors of an area: by bearing from its middle, around a pole by longitude."""
    found = [("ALL", area.shape)]
    reach = _BEYOND * float(np.hypot(*shapely.get_coordinates(area.shape).T).max())
    if not area.with_pole:
        for number, name in enumerate(_COMPASS):
            bearings = np.radians(np.linspace(45.0 * number - 22.5, 45.0 * number + 22.5, _SLICES))
            fan = np.column_stack([np.sin(bearings), np.cos(bearings)]) * reach
            found.append((name, shapely.Polygon([(0, 0), *fan.tolist()])))
    else:
        to_map = pyproj.Transformer.from_crs("EPSG:4326", area.crs, always_xy=True)
        sign = math.copysign(1, area.middle[1])
        pole = to_map.transform(0.0, 90.0 * sign)
        for west in range(-180, 180, 45):
            lon = np.linspace(west, west + 45, _SLICES)
            edge = np.column_stack(to_map.transform(lon, np.full(_SLICES, -1.0 * sign)))
            found.append((f"{_longitude(west)}-{_longitude(west + 45)}", shapely.Polygon([pole, *edge.tolist()])))
    return [(name, shapely.intersection(area.shape, shapely.make_valid(shape))) for name, shape in found]


def _longitude(value: float) -> str:
    return f"{abs(value):03d}{'W' if value < 0 else 'E'}"


def _sector(name: str, width: int, shape: Any, chart: Chart) -> list[str]:
    """Return the lines of a sector: total concentration, types with their shares, what is not sea or not charted."""
    facts = sector_shares(chart, shape)
    if facts["sea_km2"] is None:
        words = f"land {facts['land']:.0%}, no chart of the sea" if facts["land"] else "no chart"
        return [f"{name:{width}s}     ?  {words}"]
    total = "?" if facts["total"] is None else f"{10 * facts['total']:.1f}"
    types = [f"{10 * share:.1f} {words}" for words, share in facts["types"].items() if share >= _LEAST]
    parts = [", ".join(types)] if types else ["no ice" if facts["unknown"] < _LEAST else "types unknown"]
    if facts["unknown"] >= _LEAST:
        named = f": {', '.join(facts['unknown_types'])}" if facts["unknown_types"] else ""
        parts.append(f"ICE OF UNKNOWN TOTAL on {facts['unknown']:.0%} of the sea{named}")
    parts += [f"trace of {words} on {on:.0%} of the sea" for words, on in facts["traces"].items() if on >= _LEAST]
    parts += [f"bergy water (icebergs) on {facts['bergy']:.0%} of the sea"] if facts["bergy"] >= _LEAST else []
    shares = (("land", "land"), ("uncharted", "NO CHART"))
    parts += [f"{words} {facts[key]:.0%}" for key, words in shares if facts[key] >= _LEAST]
    line = f"{name:{width}s}  {total:>4s}  {'; '.join(parts)}"
    return textwrap.wrap(line, WIDTH, subsequent_indent=" " * (width + 8), drop_whitespace=True)


def sector_shares(chart: Chart, shape: Any) -> dict[str, Any]:
    """Return what a chart has in a sector.

    Returns
    -------
    `land` and `uncharted`, shares of the sector; `sea_km2`, the charted area of the sea, None if there is none. Of the
    charted sea: `bergy`, the share of bergy water, which counts as free of sea ice; `traces`, the share with a trace
    (CN) of each type; `unknown`, the share with ice of unknown total, and `unknown_types`, the names of its types. Of
    the rest: `total`, the mean total concentration, 0 to
    1, None if there is no rest; `types`, the share of each type, the thickest first, which sum to the total.
    """
    types = ice_types(chart, unmapped="ignore")
    area = shapely.area(shapely.intersection(chart.geometries, shape))
    dry, bergy = (np.isin(types.rule.astype(str), [str(r) for r in rules]) for rules in (_NO_SEA, [Rule.BERGY_WATER]))
    sea = np.where(dry | (types.rule == Rule.NO_DATA), 0.0, area)
    whole = float(sea.sum())
    found: dict[str, Any] = {
        "land": float(area[dry].sum() / shape.area),
        "uncharted": float(max(0.0, 1 - (whole + area[dry].sum()) / shape.area)),
    }
    if whole < 1e-6 * shape.area:
        return found | {"sea_km2": None}
    total = np.where(bergy, 0.0, types.concentration)
    known = np.where(np.isnan(total), 0.0, sea)
    unknown = np.flatnonzero(np.isnan(total) & (sea > 0))
    by_stage: dict[str, float] = defaultdict(float)
    for row in np.flatnonzero(known):
        shares = _named_shares(types, row)
        rest = float(total[row]) - sum(shares.values())
        if rest > _ROUNDING:
            shares[_UNKNOWN] = shares.get(_UNKNOWN, 0.0) + rest
        for words, share in shares.items():
            by_stage[words] += share * known[row] / known.sum()
    trace, order = chart.codes("cn"), _order(types)
    stages = np.unique(trace[(sea > 0) & ~np.isin(trace, NO_TYPE)]).tolist()
    return found | {
        "sea_km2": whole / 1e6,
        "bergy": float(sea[bergy].sum() / whole),
        "traces": {_named(stage): float(sea[trace == stage].sum() / whole) for stage in reversed(stages)},
        "unknown": float(sea[unknown].sum() / whole),
        "unknown_types": sorted(_names(types.stages[unknown]), key=order.__getitem__),
        "total": float((np.nan_to_num(total) * known).sum() / known.sum()) if known.any() else None,
        "types": dict(sorted(by_stage.items(), key=lambda pair: order[pair[0]])),
    }


def _named_shares(types: IceTypes, row: Any) -> dict[str, float]:
    """Return the share of each type in a polygon, by its name."""
    shares: dict[str, float] = defaultdict(float)
    for stage, share in zip(types.stages[row].tolist(), types.shares[row].tolist(), strict=True):
        if share > 0:
            shares[_UNKNOWN if stage == NOT_GIVEN else _named(stage)] += share
    return dict(shares)


def _named(stage: int) -> str:
    """Return the name of a stage without commas, which part the types in a line."""
    return stage_in_words(stage).replace(", ", "/")


def _names(stages: NDArray[np.int16]) -> set[str]:
    """Return the names of the types that polygons have, whatever their shares."""
    return {_named(stage) for stage in np.unique(stages).tolist() if stage not in NO_TYPE}


def _order(types: IceTypes) -> dict[str, int]:
    """Return the place of each type by its name, the thickest first."""
    thickest = list(reversed(STAGES_BY_THICKNESS))
    stages = {s for s in np.unique(types.stages).tolist() if s != NOT_GIVEN}
    last = len(thickest)
    order = {_named(s): thickest.index(stage_of(s)) if stage_of(s) in thickest else last for s in stages}
    return order | {_UNKNOWN: last + 1}


def _edge_lines(chart: Chart, crs: pyproj.CRS) -> list[str]:
    """Return the ice edge as positions."""
    edge = ice_edge(chart)
    water, ice = (bool(which.any()) for which in water_and_ice(chart))
    if edge.is_empty:
        where = "ice borders no open water" if ice and water else "no open water" if ice else "no ice"
        return [f"ICE EDGE: none in the area ({where})"]
    pieces = sorted(shapely.get_parts(edge), key=lambda line: -line.length)
    long = [p for p in pieces if p.length >= _SHORTEST_NM * NAUTICAL_MILE_M][:_MOST_LINES] or pieces[:1]
    iced = shapely.union_all(chart.geometries[water_and_ice(chart)[1]])
    lines = [f"ICE EDGE (1/10), {edge.length / NAUTICAL_MILE_M:.0f} nm. ICE IS TO THE RIGHT OF EACH LINE."]
    for number, piece in enumerate(long, 1):
        tolerance, short = _few_positions(piece)
        places = _ice_to_the_right(short, iced)
        to_earth = pyproj.Transformer.from_crs(crs, "EPSG:4326", always_xy=True)
        words = [position(*to_earth.transform(x, y)) for x, y in shapely.get_coordinates(places).tolist()]
        closed = " (closed)" if piece.is_ring else ""
        lines.append(
            f"{number}. {piece.length / NAUTICAL_MILE_M:.0f} nm{closed}, positions within {tolerance:g} nm of it:"
        )
        lines += textwrap.wrap("  ".join(w.replace(" ", "_") for w in words), WIDTH - 3, break_on_hyphens=False)
    lines = [line if line[:1].isalnum() and "_" not in line else f"   {line.replace('_', ' ')}" for line in lines]
    rest = [p for p in pieces if p not in long]
    if rest:
        length_nm = sum(p.length for p in rest) / NAUTICAL_MILE_M
        lines.append(f"and {counted(len(rest), 'shorter line')}, {length_nm:.0f} nm in all")
    return lines


def _few_positions(line: Any) -> tuple[float, Any]:
    """Return a line with few positions, and the tolerance, nautical miles, that this takes."""
    for tolerance in _TOLERANCES_NM:
        short = shapely.simplify(line, tolerance * NAUTICAL_MILE_M, preserve_topology=bool(line.is_ring))
        if shapely.get_num_coordinates(short) <= _MOST_POSITIONS:
            break
    return tolerance, short


def _ice_to_the_right(line: Any, ice: Any) -> Any:
    """Return a line in the direction in which more of the ice beside it is to the right."""
    beside = 0.05 * min(line.length, 20 * NAUTICAL_MILE_M)
    right, left = (shapely.buffer(line, sign * beside, single_sided=True) for sign in (-1, 1))
    areas = [shapely.intersection(shapely.make_valid(side), ice).area for side in (right, left)]
    return line if areas[0] >= areas[1] else shapely.reverse(line)


def _changed_in_words(changed: Mapping[str, Any]) -> str:
    """Return what was changed in the polygons for the size."""
    if not changed["tolerance_m"]:
        return "Polygons are as in the chart."
    words = (
        f"Polygons are simplified for size, tolerance {changed['tolerance_m']:g} m: those below "
        f"{changed['smallest_km2']:g} km2 joined the neighbour with the longest border, "
        f"{changed['changed_share']:.1%} of the area has another type"
    )
    moved = changed["ice_edge_moved_m"]
    if moved["mean"] is None:
        return f"{words}, AND THE ICE EDGE IS LOST IN THEM."
    if not moved["most"]:
        return f"{words}."
    return f"{words}, the ice edge moved {moved['mean']:.0f} m on average, {moved['most']:.0f} m at most."
