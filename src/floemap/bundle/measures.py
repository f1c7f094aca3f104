"""How far a simplified chart is from what it was made of: areas by kind, and the distance between the ice edges."""

from __future__ import annotations

from typing import Any

import numpy as np
import shapely

from floemap.icechart.describe import kinds_in_words
from floemap.icechart.dominant_type import Rule, ice_types
from floemap.icechart.read.sigrid3 import Chart

#: Distance between the places at which the edges are compared, metres.
_STEP_M = 250.0


def ice_edge(chart: Chart) -> Any:
    """Return the border between ice of a tenth or more and water of less, as lines on the chart's map.

    Bergy water is water; land, ice shelf and places without data are neither.
    """
    water, ice = (shapely.union_all(chart.geometries[which]) for which in water_and_ice(chart))
    shared = shapely.get_parts(shapely.intersection(shapely.boundary(water), shapely.boundary(ice)))
    lines = shared[shapely.get_type_id(shared) == shapely.GeometryType.LINESTRING]
    return shapely.line_merge(shapely.multilinestrings(lines))


def water_and_ice(chart: Chart) -> tuple[Any, Any]:
    """Return which polygons are water of less than a tenth of ice, and which are ice, (n,) each."""
    rule = ice_types(chart, unmapped="ignore").rule
    water, neither = (Rule.WATER, Rule.BERGY_WATER), (Rule.LAND, Rule.ICE_SHELF, Rule.NO_DATA)
    is_water, is_neither = (np.isin(rule.astype(str), [str(r) for r in rules]) for rules in (water, neither))
    return is_water, ~is_water & ~is_neither


def edge_moved_m(before: Any, after: Any) -> dict[str, float | None]:
    """Return how far two ice edges are apart, metres: `mean`, `p95` and `most`.

    Places every 250 m on each edge count with their distance from the other. None where only one edge is there, all 0
    where neither is.
    """
    if before.is_empty or after.is_empty:
        return dict.fromkeys(("mean", "p95", "most"), None if before.is_empty != after.is_empty else 0.0)
    apart = np.concatenate([_distances(before, after), _distances(after, before)])
    numbers = {"mean": apart.mean(), "p95": np.percentile(apart, 95), "most": apart.max()}
    return {name: round(float(value), 1) for name, value in numbers.items()}


def _distances(lines: Any, others: Any) -> Any:
    places = shapely.points(shapely.get_coordinates(shapely.segmentize(lines, _STEP_M)))
    shapely.prepare(others)
    return shapely.distance(places, others)


def changes(before: Chart, after: Chart) -> dict[str, Any]:
    """Return how a simplified chart differs from the crop that it is made of, both on the same equal-area map.

    Returns
    -------
    `area_km2`, by kind of polygon, before and after; `changed_km2` and `changed_share`, the area that has another kind;
    `ice_edge_moved_m`, see :func:`edge_moved_m`; `polygons` and `vertices`, numbers before and after.
    """
    old, new = (_by_kind(chart) for chart in (before, after))
    nothing = shapely.Polygon()
    same = sum(shapely.intersection(shape, new.get(kind, nothing)).area for kind, shape in old.items())
    whole = sum(shape.area for shape in old.values())
    areas = {
        kind: [round(table.get(kind, nothing).area / 1e6, 2) for table in (old, new)] for kind in sorted({*old, *new})
    }
    return {
        "area_km2": areas,
        "changed_km2": round((whole - same) / 1e6, 2),
        "changed_share": round((whole - same) / whole, 5),
        "ice_edge_moved_m": edge_moved_m(ice_edge(before), ice_edge(after)),
        "polygons": [len(before), len(after)],
        "vertices": [int(shapely.get_num_coordinates(c.geometries).sum()) for c in (before, after)],
    }


def _by_kind(chart: Chart) -> dict[str, Any]:
    """Return the union of the polygons of each kind."""
    kinds = kinds_in_words(ice_types(chart, unmapped="ignore"))
    return {kind: shapely.union_all(chart.geometries[kinds == kind]) for kind in sorted(set(kinds))}
