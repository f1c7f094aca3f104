"""All checks of an edited chart: cells, eggs, CLASS against the codes, topology; and the repaired chart."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyproj
import shapely
from numpy.typing import NDArray

from floemap.counts import counted
from floemap.errors import ChartError
from floemap.icechart.dominant_type import ice_types
from floemap.icechart.read.codes import NOT_GIVEN, UNKNOWN_CODES
from floemap.icechart.read.columns import CODE_COLUMNS
from floemap.icechart.read.own_charts import other_classes
from floemap.icechart.read.sigrid3 import Chart, some_of
from floemap.icechart.reproject import Polygons, project
from floemap.publishing.drafts import Draft
from floemap.publishing.edited import EditedChart
from floemap.publishing.eggs import Egg
from floemap.publishing.problems import Places, Problem, in_order
from floemap.publishing.topology import Coverage

#: Checks of repaired polygons until nothing is left to repair.
_PASSES = 4
#: Kinds of problems that the checks of polygons find; all others are repaired before these.
_OF_POLYGONS = ("self-crossing", "overlap", "duplicate", "outside", "sliver", "gap")
#: Edges of a draft's polygons move by less than this on the chart's map, metres.
_TOLERANCE_M = 1.0


@dataclass(frozen=True)
class Checked:
    """A chart after its checks.

    Attributes
    ----------
    chart
        The chart, with the repairs that were asked for; single polygons. None if nothing with an area is left.
    problems
        What remains to be corrected, in the order of the polygons.
    repaired
        What was repaired.
    notes
        What a person should know of a chart that can be published, as sentences.
    """

    chart: EditedChart | None
    problems: tuple[Problem, ...]
    repaired: tuple[Problem, ...]
    notes: tuple[str, ...]


def check_chart(
    chart: EditedChart, found: Sequence[Problem], draft: Draft | None, *, repair: bool, sliver_m: float
) -> Checked:
    """Check a chart.

    Parameters
    ----------
    chart, found
        The chart and the problems of its cells, from :func:`floemap.publishing.edited.read_edited`.
    draft
        Its draft, which says where there must be polygons; None if it is not known.
    repair
        Whether to repair what is safe.
    sliver_m
        Mean width, metres, below which a gap, an overlap or a polygon counts as a slip of the hand.
    """
    problems = [*found, *_lost_columns(chart, draft)]
    wrong_rows = {p.polygons[0] for p in found if p.kind == "wrong code"}
    chart, of_eggs = _check_eggs(chart, wrong_rows, repair=repair)
    problems += of_eggs
    there = np.flatnonzero([g is not None for g in chart.geometries])
    chart = chart.take(there, chart.geometries[there])
    if not len(chart):
        return Checked(None, tuple(in_order(problems)), (), ())
    several = chart.ids[shapely.get_num_geometries(chart.geometries) > 1]
    chart, of_polygons, done = _check_polygons(chart, draft, repair=repair, sliver_m=sliver_m)
    problems += [*of_polygons, *_check_classes(chart, draft, wrong_rows)]
    if repair:
        done += [p for p in problems if p.safe and p.kind not in _OF_POLYGONS]
        problems = [p for p in problems if not p.safe or p.kind in _OF_POLYGONS]
    notes = _notes(chart, several, draft)
    return Checked(chart, tuple(in_order(problems)), tuple(in_order(done)), tuple(notes))


def _lost_columns(chart: EditedChart, draft: Draft | None) -> list[Problem]:
    """Find columns that the draft has and the chart has lost."""
    if draft is None:
        return []
    own = {f.strip().lower() for f in chart.fields}
    lost = [f for f in draft.chart.fields if f.strip().lower() in ("cn", "cd", "cf") and f.strip().lower() not in own]
    return [Problem("missing column", f"lacks the draft's column {name}", (), None, False) for name in lost]


def _check_eggs(chart: EditedChart, wrong: set[int], *, repair: bool) -> tuple[EditedChart, list[Problem]]:
    """Check the eggs of all rows but those with cells that could not be read."""
    place, problems = Places(chart.crs), []
    codes = {c: v.copy() for c, v in chart.codes.items()}
    kinds, forms = chart.kinds.copy(), chart.forms.copy()
    for row, feature in enumerate(chart.ids.tolist()):
        if feature in wrong:
            continue
        egg = Egg({c: int(codes[c][row]) for c in CODE_COLUMNS}, str(kinds[row]), str(forms[row]))
        egg.check()
        at = place.of(chart.geometries[row])
        problems += [Problem("egg", words, (feature,), at, False) for words in egg.faults]
        if egg.faults:
            continue
        problems += [Problem("egg", words, (feature,), at, True) for words in egg.repairs]
        if repair or not egg.repairs:
            for c in CODE_COLUMNS:
                codes[c][row] = egg.codes[c]
            kinds[row], forms[row] = egg.kind, egg.form
    return replace(chart, codes=codes, kinds=kinds, forms=forms), problems


def _check_polygons(
    chart: EditedChart, draft: Draft | None, *, repair: bool, sliver_m: float
) -> tuple[EditedChart, list[Problem], list[Problem]]:
    """Return the chart with single polygons, what remains to be corrected, and what was repaired.

    A repair may leave something narrow, so that the repaired polygons are checked again.
    """
    footprint = None
    if draft is not None:
        footprint = project(np.array([draft.footprint], object), draft.chart.crs, chart.crs, _TOLERANCE_M)[0]
        _refuse_elsewhere(chart, draft, footprint)
    found, done = [], []
    for _ in range(_PASSES if repair else 1):
        coverage = Coverage(
            ids=chart.ids,
            polygons=np.array(chart.geometries, object),
            crs=chart.crs,
            eggs=_eggs(chart),
            sliver_m=sliver_m,
            land=np.asarray(chart.kinds == "L", bool),
            unchanged=_as_drafted(chart.geometries, chart.crs, draft),
            footprint=footprint,
            in_degrees=chart.source_crs != chart.crs or (draft is not None and draft.chart.crs != chart.crs),
        )
        coverage.check(repair=repair)
        parts, row = shapely.get_parts(coverage.polygons, return_index=True)
        full = shapely.area(parts) > 0
        chart, found = chart.take(row[full], parts[full]), coverage.problems
        if not repair or not any(p.safe for p in found):
            break
        done += [p for p in found if p.safe]
    return chart, found, done


def _refuse_elsewhere(chart: EditedChart, draft: Draft, footprint: Any) -> None:
    """Refuse a draft of another place."""
    west, south, east, north = shapely.total_bounds(chart.geometries)
    if not shapely.intersects(shapely.box(west, south, east, north), shapely.box(*shapely.bounds(footprint))):
        raise ChartError(
            f"lies elsewhere than its draft, {draft.chart.path.name}.",
            path=chart.path,
            hint="Give the draft of this chart with --draft.",
        )


def _eggs(chart: EditedChart) -> list[tuple[Any, ...]]:
    return list(zip(*(chart.codes[c].tolist() for c in CODE_COLUMNS), chart.kinds, chart.forms, strict=True))


def _as_drafted(polygons: Polygons, crs: pyproj.CRS, draft: Draft | None) -> NDArray[np.bool_]:
    """Return which polygons are in the draft as they are, (n,)."""
    if draft is None or draft.chart.crs != crs:
        return np.zeros(len(polygons), np.bool_)
    known = {g.wkb for g in shapely.normalize(draft.chart.geometries)}
    return np.array([g.wkb in known for g in shapely.normalize(polygons)])


def _check_classes(chart: EditedChart, draft: Draft | None, wrong: set[int]) -> list[Problem]:
    """Find polygons whose CLASS was corrected, and not their codes: the correction would be lost."""
    if chart.classes is None or not len(chart):
        return []
    as_chart = chart.as_chart()
    types = ice_types(as_chart, unmapped="ignore")
    others = set(other_classes(as_chart, types)) - wrong
    before = _drafted_classes(chart, draft)
    place, problems = Places(chart.crs), []
    for row, feature in enumerate(chart.ids.tolist()):
        key = str(chart.classes[row] or "").strip()
        if feature not in others or before[row] == key:  # the codes were corrected, and CLASS was left behind
            continue
        others.discard(feature)  # once for all its parts
        words = f"CLASS is {key!r}, which is not what POLY_TYPE, CT and the stages say; these count, so correct them"
        problems.append(Problem("class", words, (feature,), place.of(chart.geometries[row]), False))
    return problems


def _drafted_classes(chart: EditedChart, draft: Draft | None) -> list[str | None]:
    """Return the CLASS that the draft has at the place of each polygon, (n,); None where it has none.

    Ids do not lead from a correction to its draft: they differ by format.
    """
    found: list[str | None] = [None] * len(chart)
    if draft is None or draft.chart.classes is None:
        return found
    drawn = project(draft.chart.geometries, draft.chart.crs, chart.crs, _TOLERANCE_M)
    rows, there = shapely.STRtree(drawn).query(shapely.point_on_surface(chart.geometries), predicate="within")
    for row, own in zip(rows.tolist(), there.tolist(), strict=True):
        found[row] = str(draft.chart.classes[own] or "").strip()
    return found


def _notes(chart: EditedChart, several: NDArray[np.int64], draft: Draft | None) -> list[str]:
    """Return what a person should know: unknown concentrations and stages, parts, what could not be checked."""
    ice = chart.kinds == "I"
    unknown = ice & np.isin(chart.codes["ct"], list(UNKNOWN_CODES))
    undetermined = ice & (chart.codes["sa"] == 99)
    found = [
        (unknown, "polygon has|polygons have", "an unknown total concentration, CT 99"),
        (undetermined, "polygon has|polygons have", "ice of undetermined stage, SA 99"),
        (chart.estimated, "polygon is|polygons are", "marked as ESTIMATED, a model's estimate that nobody has checked"),
        (np.isin(chart.ids, several), "feature", "of several parts, each of which becomes a polygon"),
    ]
    named = [(list(dict.fromkeys(chart.ids[rows].tolist())), thing, words) for rows, thing, words in found]
    notes = [f"{counted(len(ids), thing)} {words}: {some_of(ids)}" for ids, thing, words in named if ids]
    if draft is None:
        notes.append("no draft was found beside the chart, so its footprint was not checked, and nothing is compared")
    elif draft.chart.crs != chart.crs:
        notes.append(f"the draft is in {draft.chart.crs.name}, the chart in {chart.crs.name}, in which it is published")
    return notes


def final_chart(checked: EditedChart, simulated: bool) -> Chart:
    """Return the chart to publish, numbered from 1, without the column CLASS, which follows from the codes."""
    numbered = replace(checked, ids=np.arange(1, len(checked) + 1), classes=None, simulated=simulated)
    return numbered.as_chart()


def codes_as_text(chart: EditedChart) -> dict[str, list[str]]:
    """Return the codes of a chart by column as files have them: two digits, -9 where there is none."""
    return {
        c.upper(): [str(NOT_GIVEN) if code == NOT_GIVEN else f"{code:02d}" for code in values.tolist()]
        for c, values in chart.codes.items()
    }
