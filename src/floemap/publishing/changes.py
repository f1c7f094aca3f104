"""What an analyst has changed in a draft: areas by type, polygons, and how sure the model was where it was corrected.

Polygons of draft and correction are paired where each covers more of the other than any other polygon does; ids do not
pair them, as they differ by format. Areas are true areas, on an equal-area map around the draft.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from itertools import pairwise
from typing import Any

import numpy as np
import pyproj
import shapely
from numpy.typing import NDArray

from floemap.icechart.describe import kind_of, kinds_in_words
from floemap.icechart.dominant_type import Rule, ice_types
from floemap.icechart.label.origin import NEARLY_THE_DRAFT
from floemap.icechart.read.columns import CODE_COLUMNS
from floemap.icechart.read.rings import areas_of
from floemap.icechart.read.sigrid3 import Chart
from floemap.icechart.reproject import Polygons, equal_area_map, project
from floemap.publishing.drafts import Draft
from floemap.publishing.problems import Places
from floemap.publishing.sheet import egg_in_lines
from floemap.publishing.topology import mean_width_m

#: No edge moves further than this on the equal-area map, metres.
_TOLERANCE_M = 1.0
#: A border has moved if a strip of at least this mean width changed sides: rounding of coordinates moves it by less.
_MOVED_M = 5.0
#: Share of the smaller of two polygons that both must have in common to be one polygon, moved.
_SAME_POLYGON = 0.5
#: Bounds of the classes of the draft's confidence.
CONFIDENCE_BOUNDS = (0.0, 0.5, 0.7, 0.9, 1.0)
#: Kind of polygons that do not count in shares, unless they are of it in one of the charts only.
_LAND = kind_of(Rule.LAND)
#: What is in one of the two charts only.
NOWHERE = "not in the chart"


@dataclass(frozen=True)
class _Side:
    """One of the two charts on the common map."""

    chart: Chart
    polygons: Polygons
    kinds: NDArray[Any]
    eggs: list[tuple[Any, ...]]

    @cached_property
    def km2(self) -> NDArray[np.float64]:
        """Area of each polygon."""
        return np.asarray(shapely.area(self.polygons)) / 1e6


@dataclass(frozen=True)
class _Common:
    """Areas that polygons of draft and correction have in common: rows in both, and km2, (m,) each."""

    before: NDArray[np.intp]
    after: NDArray[np.intp]
    km2: NDArray[np.float64]


@dataclass
class _Tally:
    """Area of the draft in both charts, and of it that with another dominant type, and that with another egg."""

    km2: float = 0.0
    other_type_km2: float = 0.0
    other_egg_km2: float = 0.0
    facts: dict[str, Any] = field(default_factory=dict)

    def add(self, km2: float, other_type: bool, other_egg: bool) -> None:
        self.km2 += km2
        self.other_type_km2 += km2 * other_type
        self.other_egg_km2 += km2 * other_egg

    def as_json(self) -> dict[str, Any]:
        shares = {
            "other_type_share": _share(self.other_type_km2, self.km2),
            "other_egg_share": _share(self.other_egg_km2, self.km2),
        }
        areas = {n: round(getattr(self, n), 3) for n in ("km2", "other_type_km2", "other_egg_km2")}
        return self.facts | areas | shares


def _share(part: float, whole: float) -> float | None:
    return round(part / whole, 6) if whole > 0 else None


def compare_with_draft(corrected: Chart, draft: Draft, minutes: float | None) -> dict[str, Any]:
    """Return what was changed from a draft to its correction, JSON-ready.

    Parameters
    ----------
    corrected
        The correction, checked.
    draft
        The draft.
    minutes
        Time that the correction took; None if it is not known.

    Returns
    -------
    `minutes`; `total`, area at sea in both charts and of it that with another type and with another egg; `area_km2`, by
    type before and after; `confusion_km2`, by type of the draft and type of the correction; `by_type` and
    `by_confidence` of the draft, as `total`; `polygons`, numbers by what happened to them; `changed`, each changed
    polygon with its place and its egg before and after; `left_as_drafted`, the draft's places to review where nothing
    was changed.
    """
    to = equal_area_map(draft.chart.geometries, draft.chart.crs)
    before, after = _side(draft.chart, to), _side(corrected, to)
    common = _common(before, after)
    total, by_type, by_confidence = _tallies(before, after, common, draft.confidence)
    polygons = _polygons(before, after, common)
    counts: dict[str, int] = defaultdict(int)
    for told in polygons:
        counts[told["change"]] += 1
    names = ("unchanged", "moved", "other egg", "moved, other egg", "new", "removed")
    return {
        "minutes": minutes,
        "total": total.as_json(),
        "area_km2": _areas(before, after),
        "confusion_km2": _confusion(before, after, common),
        "by_type": [t.as_json() for t in by_type],
        "by_confidence": [t.as_json() for t in by_confidence],
        "polygons": {name: counts[name] for name in names},
        "changed": [told for told in polygons if told["change"] != "unchanged"],
        "left_as_drafted": _left_as_drafted(draft, after, polygons),
    }


def _side(chart: Chart, to: pyproj.CRS) -> _Side:
    codes = [chart.codes(c).tolist() for c in CODE_COLUMNS]
    eggs = list(zip(*codes, chart.polygons["poly_type"], strict=True))
    kinds = kinds_in_words(ice_types(chart, unmapped="ignore"))
    polygons = np.array(project(chart.geometries, chart.crs, to, _TOLERANCE_M), object)
    for row in np.flatnonzero(~shapely.is_valid(polygons)):
        polygons[row] = areas_of(shapely.make_valid(polygons[row]))
    return _Side(chart, polygons, kinds, eggs)


def _common(before: _Side, after: _Side) -> _Common:
    """Return the common areas of all pairs that have one."""
    rows, others = shapely.STRtree(before.polygons).query(after.polygons, predicate="intersects")
    same = shapely.equals_exact(after.polygons[rows], before.polygons[others], 0)
    km2 = np.where(same, after.km2[rows], 0.0)
    unlike = np.flatnonzero(~same)
    cut = shapely.intersection(after.polygons[rows[unlike]], before.polygons[others[unlike]])
    km2[unlike] = shapely.area(cut) / 1e6
    there = km2 > 0
    return _Common(others[there], rows[there], km2[there])


def _tallies(
    before: _Side, after: _Side, common: _Common, confidence: NDArray[np.float64]
) -> tuple[_Tally, list[_Tally], list[_Tally]]:
    total = _Tally()
    kinds = {kind: _Tally(facts={"type": kind}) for kind in _in_order(before.kinds, before.km2)}
    sure = [_Tally(facts={"from": low, "to": high}) for low, high in pairwise(CONFIDENCE_BOUNDS)]
    unsure = _Tally(facts={"from": None, "to": None})
    for i, j, km2 in zip(common.before.tolist(), common.after.tolist(), common.km2.tolist(), strict=True):
        if before.kinds[i] == after.kinds[j] == _LAND:
            continue
        changed = before.kinds[i] != after.kinds[j], before.eggs[i] != after.eggs[j]
        place = int(np.searchsorted(CONFIDENCE_BOUNDS[1:-1], confidence[i], side="right"))
        for tally in (total, kinds[before.kinds[i]], unsure if np.isnan(confidence[i]) else sure[place]):
            tally.add(km2, *changed)
    return total, [t for t in kinds.values() if t.km2 > 0], [t for t in (*sure, unsure) if t.km2 > 0]


def _in_order(kinds: NDArray[Any], km2: NDArray[np.float64]) -> list[str]:
    """Return kinds by area, the largest first."""
    return sorted(set(kinds), key=lambda kind: (-km2[kinds == kind].sum(), kind))


def _km2(side: _Side, kind: str) -> float:
    return float(side.km2[side.kinds == kind].sum())


def _areas(before: _Side, after: _Side) -> list[dict[str, Any]]:
    kinds = _in_order(np.concatenate([before.kinds, after.kinds]), np.concatenate([before.km2, after.km2]))
    areas = [(kind, _km2(before, kind), _km2(after, kind)) for kind in kinds]
    return [
        {"type": kind, "draft": round(one, 3), "correction": round(other, 3), "change": round(other - one, 3)}
        for kind, one, other in areas
    ]


def _confusion(before: _Side, after: _Side, common: _Common) -> dict[str, dict[str, float]]:
    """Return areas by kind in the draft and kind in the correction; what is in one only is in :data:`NOWHERE`."""
    table: dict[str, dict[str, float]] = {}
    lost, added = before.km2.copy(), after.km2.copy()
    for i, j, km2 in zip(common.before.tolist(), common.after.tolist(), common.km2.tolist(), strict=True):
        row = table.setdefault(before.kinds[i], {})
        row[after.kinds[j]] = row.get(after.kinds[j], 0.0) + km2
        lost[i] -= km2
        added[j] -= km2
    for kind in _in_order(before.kinds, before.km2):
        table.setdefault(kind, {})[NOWHERE] = float(lost[before.kinds == kind].sum())
    for kind in set(after.kinds):
        table.setdefault(NOWHERE, {})[kind] = float(added[after.kinds == kind].sum())
    kept = {one: {k: round(v, 3) for k, v in row.items() if v >= 0.001} for one, row in table.items()}
    return {one: row for one, row in kept.items() if row}


def _pairs(before: _Side, after: _Side, common: _Common) -> dict[int, int]:
    """Return the draft's row of each row of the correction that is the same polygon, changed or not."""
    best: tuple[dict[int, tuple[float, int]], dict[int, tuple[float, int]]] = {}, {}
    for i, j, km2 in zip(common.before.tolist(), common.after.tolist(), common.km2.tolist(), strict=True):
        best[0][i] = max(best[0].get(i, (0.0, -1)), (km2, j))
        best[1][j] = max(best[1].get(j, (0.0, -1)), (km2, i))
    pairs = {}
    for j, (km2, i) in best[1].items():
        if best[0][i][1] == j and km2 >= _SAME_POLYGON * min(before.km2[i], after.km2[j]):
            pairs[j] = i
    return pairs


def _polygons(before: _Side, after: _Side, common: _Common) -> list[dict[str, Any]]:
    """Return what happened to each polygon: those of the correction in order, then those of the draft removed."""
    pairs, place = _pairs(before, after, common), Places(after.chart.crs)
    told = []
    for j in range(len(after.chart)):
        i = pairs.get(j)
        if i is None:
            change = "new"
        else:
            moved = _moved(before.polygons[i], after.polygons[j])
            other = before.eggs[i] != after.eggs[j]
            change = ", ".join(w for w, is_so in (("moved", moved), ("other egg", other)) if is_so) or "unchanged"
        told.append(_told(change, place, (before, i), (after, j)))
    gone = sorted(set(range(len(before.chart))) - set(pairs.values()))
    drawn = Places(before.chart.crs)
    return told + [_told("removed", drawn, (before, i), (after, None)) for i in gone]


def _moved(one: Any, other: Any) -> bool:
    if shapely.equals_exact(one, other, 0):
        return False
    strips = shapely.get_parts(areas_of(shapely.symmetric_difference(one, other)))
    return any(mean_width_m(strip) > _MOVED_M for strip in strips)


def _told(
    change: str, place: Places, before: tuple[_Side, int | None], after: tuple[_Side, int | None]
) -> dict[str, Any]:
    side, row = after if after[1] is not None else before
    assert row is not None  # one of the two is there
    lon, lat = place.of(side.chart.geometries[row]) or (None, None)
    told: dict[str, Any] = {
        "change": change,
        "polygon": None if after[1] is None else int(after[0].chart.polygons.index[after[1]]),
        "lat_deg": None if lat is None else round(lat, 5),
        "lon_deg": None if lon is None else round(lon, 5),
    }
    for name, (of, i) in (("draft", before), ("correction", after)):
        if i is not None:
            egg = egg_in_lines(of.chart, i).replace("\n", " / ") if of.eggs[i][-1] == "I" else ""
            told[name] = {"type": str(of.kinds[i]), "egg": egg, "km2": round(float(of.km2[i]), 3)}
    return told


def _left_as_drafted(draft: Draft, after: _Side, polygons: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the places to review of the draft that lie in polygons in which nothing was changed."""
    spots = draft.record.get("review_spots")
    spots = [s for s in spots if isinstance(s, Mapping)] if isinstance(spots, list) else []
    unchanged = [told["change"] == "unchanged" for told in polygons[: len(after.chart)]]
    to_map = pyproj.Transformer.from_crs("EPSG:4326", after.chart.crs, always_xy=True)
    left = []
    for spot in spots:
        try:
            point = shapely.Point(to_map.transform(float(spot["lon_deg"]), float(spot["lat_deg"])))
        except (KeyError, TypeError, ValueError):
            continue
        if any(unchanged[row] for row in np.flatnonzero(shapely.intersects(after.chart.geometries, point))):
            left.append(dict(spot))
    return left


def nearly_the_draft(changes: Mapping[str, Any]) -> list[str]:
    """Return a warning if the correction is nearly the draft itself; none otherwise."""
    share = changes["total"]["other_egg_share"]
    if share is None or share >= NEARLY_THE_DRAFT:
        return []
    same = f"the chart has the draft's egg on {1 - share:.1%} of its area at sea"
    return [f"{same}: as labels, it would teach a model what the draft's model knows already"]
