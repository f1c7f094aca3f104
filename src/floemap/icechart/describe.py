"""Description of a chart, as facts for programs and lines for people: area by stage, rules that decided, oddities."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import numpy as np
import pyproj
import shapely
from numpy.typing import NDArray

from floemap.counts import counted
from floemap.grid import box_in_words, crs_name, extent_of
from floemap.icechart.dominant_type import IceTypes, Rule, ice_types, unmapped_stages
from floemap.icechart.read.codes import NOT_GIVEN, POLYGON_TYPES
from floemap.icechart.read.overlaps import measure_coverage
from floemap.icechart.read.own_charts import other_classes
from floemap.icechart.read.sigrid3 import Chart, findings_in_words, some_of
from floemap.icechart.reproject import equal_area_km2
from floemap.legend import LEGENDS, stage_in_words

#: Rules for polygons without a stage of development, in words.
_WITHOUT_STAGE: Mapping[Rule, str] = {
    Rule.WATER: "open water",
    Rule.BERGY_WATER: "bergy water",
    Rule.LAND: "land",
    Rule.ICE_SHELF: "ice shelf",
    Rule.NO_DATA: "no data",
    Rule.NO_STAGE: "ice without a stage",
    Rule.UNKNOWN_PARTS: "ice of unknown parts",
}
_HAVE = "polygon has|polygons have"


def chart_facts(chart: Chart) -> dict[str, Any]:
    """Return the facts of a chart, JSON-ready: identity, place, area by kind, decisions, oddities, coverage.

    Areas are true areas in km2, measured on an equal-area map.
    """
    types = ice_types(chart, unmapped="ignore")
    areas = areas_km2(chart)
    kinds = kinds_in_words(types)
    west, south, east, north = _bounds(chart)
    return {
        "kind": "ice chart",
        "simulated": chart.simulated,
        "format": chart.format,
        "name": chart.path.stem,
        "path": str(chart.path),
        "layer": chart.layer,
        "crs": crs_name(chart.source_crs),
        "epsg": chart.source_crs.to_epsg(),
        "bbox_lonlat_deg": [west, south, east, north],
        "polygons": len(chart),
        "vertices": int(shapely.get_num_coordinates(chart.geometries).sum()),
        "polygons_by_type": {
            name: int((chart.polygons["poly_type"] == key).sum())
            for key, name in {**POLYGON_TYPES, "": "not given"}.items()
        },
        "area_km2": float(areas.sum()),
        "area_by_dominant_type_km2": {
            kind: float(areas[kinds == kind].sum())
            for kind in sorted(set(kinds), key=lambda k: -areas[kinds == k].sum())
        },
        "polygons_by_dominant_type": {kind: int((kinds == kind).sum()) for kind in sorted(set(kinds))},
        "decisions": types.counts,
        "oddities": asdict(chart.report)
        | {
            "unnamed_remainder_larger": types.remainder_larger,
            "without_parts_ids": types.without_parts,
            "odd_concentrations": dict(types.odd_concentrations),
            "other_class_ids": other_classes(chart, types),
            "unmapped_stages": {name: unmapped_stages(types, table) for name, table in LEGENDS.items()},
        },
        "coverage": asdict(measure_coverage(chart.geometries)),
    }


def areas_km2(chart: Chart) -> NDArray[np.float64]:
    """Return each polygon's true area in km2, (n,), on Lambert's equal-area map around the chart's middle."""
    return equal_area_km2(chart.geometries, chart.crs)


def kind_of(rule: Rule) -> str:
    """Return the kind, in words, of polygons that a rule leaves without a stage of development."""
    return _WITHOUT_STAGE[rule]


def kinds_in_words(types: IceTypes) -> NDArray[Any]:
    """Return each polygon's kind in words, (n,): its dominant stage, or the reason why it has none."""
    kinds = []
    for rule, stage in zip(types.rule, types.stage.tolist(), strict=True):
        if stage == NOT_GIVEN:
            kinds.append(_WITHOUT_STAGE[rule])
        else:
            kinds.append(f"{stage:02d} {stage_in_words(stage)}")
    return np.array(kinds, object)


def _bounds(chart: Chart) -> tuple[float, float, float, float]:
    """Return west, south, east, north in degrees; west is greater than east across the dateline."""
    xy = shapely.get_coordinates(chart.geometries)
    return extent_of(*pyproj.Transformer.from_crs(chart.crs, "EPSG:4326", always_xy=True).transform(xy[:, 0], xy[:, 1]))


def chart_problems(facts: Mapping[str, Any]) -> list[str]:
    """Return the facts of :func:`chart_facts` that prevent labels without further options, as sentences."""
    odd = facts["oddities"]
    concentrations, stages = odd["odd_concentrations"], odd["unmapped_stages"]["six_classes"]
    return [
        *(f"{counted(n, _HAVE)} the concentration {code}, which is not a code." for code, n in concentrations.items()),
        *(f"{counted(n, _HAVE)} the stage {code}, which has no class." for code, n in stages.items()),
    ]


def chart_lines(facts: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return the facts of :func:`chart_facts` as (name, words) for people."""
    types = ", ".join(f"{n} {name}" for name, n in facts["polygons_by_type"].items() if n)
    lines = [
        ("Ice chart", f"{facts['name']}, {facts['format']}{', SIMULATED' if facts['simulated'] else ''}"),
        ("Layer", facts["layer"]),
        ("CRS", facts["crs"] + (f" (EPSG:{facts['epsg']})" if facts["epsg"] else "")),
        ("Place", box_in_words(*facts["bbox_lonlat_deg"])),
        ("Polygons", f"{facts['polygons']:,} ({types}), {counted(facts['vertices'], 'vertex|vertices')}"),
        ("Area", f"{facts['area_km2']:,.0f} km²"),
    ]
    for kind, area in facts["area_by_dominant_type_km2"].items():
        share = area / facts["area_km2"] if facts["area_km2"] else 0
        count = facts["polygons_by_dominant_type"][kind]
        lines.append((f"  {kind}", f"{area:,.0f} km², {share:.1%}, {counted(count, 'polygon')}"))
    lines.append(("Decided by", ", ".join(f"{rule.replace('_', ' ')} {n}" for rule, n in facts["decisions"].items())))
    lines += [("Oddity", words) for words in _oddities(facts)] or [("Oddities", "none found")]
    return lines


def _oddities(facts: Mapping[str, Any]) -> list[str]:
    odd, coverage = facts["oddities"], facts["coverage"]
    found = findings_in_words(odd)
    if odd["unnamed_remainder_larger"]:
        having = counted(odd["unnamed_remainder_larger"], _HAVE)
        found.append(f"{having} more ice of unnamed type than of any named type")
    other = odd["other_class_ids"]
    if other:
        found.append(f"{counted(len(other), _HAVE)} a CLASS that differs from the codes: {some_of(other)}")
    for column, codes in odd["thickness"].items():
        found += [
            f"{column} is {code}, {stage_in_words(code)}, in {counted(n, 'polygon')}" for code, n in codes.items()
        ]
    if not coverage["measured"]:
        found.append("so many polygons overlap that overlaps and gaps were not measured")
    if coverage["overlapping_pairs"]:
        pairs = counted(coverage["overlapping_pairs"], "pair overlaps|pairs overlap")
        found.append(f"{pairs}, {coverage['overlap_m2'] / 1e6:,.1f} km²")
    if coverage["gaps"]:
        found.append(f"{counted(coverage['gaps'], 'gap')} between polygons, {coverage['gap_m2'] / 1e6:,.1f} km²")
    return found
