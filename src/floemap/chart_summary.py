"""What a finished chart shows at a glance: types and areas, number of polygons, places to review first, warnings.

It follows from the chart's record, so that the command that has made a chart, ``floemap info`` and programs find the
same. Records may be edited or of other versions: a field that is missing or of another type is left out.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from floemap.counts import counted
from floemap.grid import degrees
from floemap.results.fields import at

#: Number of places to review that people see; programs get all.
_SHOWN_PLACES = 5
#: Key of polygons of land, which do not count in the shares of the types.
_LAND = "land"


def chart_summary(record: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a chart shows at a glance, ready for JSON.

    Parameters
    ----------
    record
        Record of the chart. Of it are read `status`, `simulated`, `polygons.count`, `polygons.area_km2` (square
        kilometres by class), `review_spots` (each with `lat_deg`, `lon_deg` and, if known, `area_km2`, `wrong_km2`,
        `class` and `other`) and `warnings`.

    Returns
    -------
    `status`, `simulated`; `polygons`, their number, None if the chart has none; `types`, the largest first, each with
    `class`, `area_km2` and `percent` of the area at sea (None for land); `review`, places in the order of review;
    `warnings`.
    """
    areas = {str(k): float(v) for k, v in at(record, "polygons.area_km2", {}).items() if _is_number(v) and v >= 0}
    sea = sum(area for name, area in areas.items() if name != _LAND)
    types = [
        {
            "class": name,
            "area_km2": round(area, 1),
            "percent": None if name == _LAND or not sea else round(100 * area / sea, 1),
        }
        for name, area in sorted(areas.items(), key=lambda pair: (pair[0] == _LAND, -pair[1]))
    ]
    spots = [s for s in at(record, "review_spots", []) if all(_is_number(at(s, k)) for k in ("lat_deg", "lon_deg"))]
    count = at(record, "polygons.count")
    return {
        "status": str(at(record, "status", "")),
        "simulated": at(record, "simulated") in (True, "yes"),
        "polygons": count if isinstance(count, int) else None,
        "types": types,
        "review": [dict(spot) for spot in spots],
        "warnings": [str(words) for words in at(record, "warnings", [])],
    }


def summary_lines(summary: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return a summary of :func:`chart_summary` for people, as pairs of a name and words."""
    count = summary["polygons"]
    lines = [] if count is None else [("Polygons", str(count))]
    for kind in summary["types"]:
        share = "" if kind["percent"] is None else f", {kind['percent']:.1f} %"
        lines.append((f"  {_words(kind['class'])}", f"{kind['area_km2']:,.0f} km²{share}"))
    for number, spot in enumerate(summary["review"][:_SHOWN_PLACES], 1):
        lines.append(("Review first" if number == 1 else "", f"{number}. {_place(spot)}"))
    more = len(summary["review"]) - _SHOWN_PLACES
    lines += [("", f"and {more} more")] if more > 0 else []
    return lines + [("Warning", words) for words in summary["warnings"]]


def summary_line(summary: Mapping[str, Any]) -> str:
    """Return a summary in one line, for one of many charts."""
    shares = [f"{_words(t['class'])} {t['percent']:.0f} %" for t in summary["types"] if t["percent"] is not None]
    parts = [] if summary["polygons"] is None else [counted(summary["polygons"], "polygon")]
    parts += [", ".join(shares)] if shares else []
    parts += [f"review first {_place(spot)}" for spot in summary["review"][:1]]
    return "; ".join(parts)


def _place(spot: Mapping[str, Any]) -> str:
    """Return where a place is, how large it is, and between which classes it is in doubt."""
    lat, lon = (round(float(spot[key]), 3) for key in ("lat_deg", "lon_deg"))
    parts = [f"{degrees(lat, 'lat')} {degrees(lon, 'lon')}"]
    if _is_number(spot.get("area_km2")):
        parts.append(f"{spot['area_km2']:,.0f} km²")
    if isinstance(spot.get("class"), str) and isinstance(spot.get("other"), str):
        parts.append(f"{_words(spot['class'])} or {_words(spot['other'])}")
    return ", ".join(parts)


def _words(key: str) -> str:
    return key.replace("_", " ")


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
