"""What the charts themselves and the truth get by each measure: what the numbers of maps stand beside.

A chart is drawn by people and smooth; the truth is full of floes and leads. A number of a map says little without
theirs. The reference of the checks, the truth or else the chart, has the best number there can be.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from floemap.evaluation.checks.assess import Assessment
from floemap.evaluation.checks.headlines import HEADLINES
from floemap.evaluation.checks.scene_checks import pool_checks
from floemap.evaluation.risk.operations import areas_by_level, false_safe_km2, mean_understated
from floemap.evaluation.risk.polaris import class_levels, risk_values
from floemap.evaluation.scoring.confusion import Confusion
from floemap.evaluation.scoring.ordinal import mean_ordinal_error, ordinal_positions
from floemap.evaluation.scoring.scores import mean, scores
from floemap.legend import Legend
from floemap.report.measures import UNDERSTATED_SHIP, Row, ships

Charts = Mapping[str, Assessment]


def with_anchors(rows: Iterable[Row], charts: Charts, legend: Legend) -> tuple[Row, ...]:
    """Return rows with the numbers of the charts and of the truth.

    Parameters
    ----------
    rows
        Of a comparison.
    charts
        The charts assessed as if they were maps, by scene. Without any, rows are returned as they are.
    legend
        Of all.
    """
    if not charts:
        return tuple(rows)
    every = list(charts.values())
    checks = pool_checks([a.checks for a in every])["checks"]
    known = all(a.true_confusion is not None for a in every)
    return tuple(
        replace(
            row,
            chart=_of_chart(row, every, checks, legend),
            truth=_of_truth(row, every, checks, legend) if known else None,
        )
        for row in rows
    )


def _of_chart(row: Row, charts: Sequence[Assessment], checks: Mapping[str, Any], legend: Legend) -> float | None:
    """The number of the charts: in scores against themselves, else against the reference."""
    if row.measure.scored:
        return row.measure.perfect
    if row.measure.key == "risk_understated":
        every = np.sum([a.reference_confusion.sum(axis=0) for a in charts], axis=0)
        return float(mean_understated(every, risk_values(legend, UNDERSTATED_SHIP)))
    for same in ships(legend):
        if row.measure.key == f"false_safe_{same[0]}_km2":
            return _false_safe_km2(charts, legend, same[0])
    return next((h.of(checks) for h in HEADLINES if h.key == row.measure.key), None)


def _of_truth(row: Row, charts: Sequence[Assessment], checks: Mapping[str, Any], legend: Legend) -> float | None:
    """The number of the truth: in scores against the charts, else against itself."""
    if row.measure.scored:
        return _score(row.measure.key, charts, legend)
    for h in HEADLINES:
        if h.key == row.measure.key:
            return h.of_reference(checks)
    return row.measure.perfect


def _false_safe_km2(charts: Sequence[Assessment], legend: Legend, ship: str) -> float:
    levels = class_levels(legend, ship)
    return math.fsum(
        float(false_safe_km2(areas_by_level(a.reference_confusion.sum(axis=0), levels, float(a.checks["pixel_m"]))))
        for a in charts
    )


def _score(key: str, charts: Sequence[Assessment], legend: Legend) -> float | None:
    """Mean over scenes of the truth's score, as if it were a map, against the chart."""
    values = []
    for a in charts:
        assert a.true_confusion is not None  # or there is no truth to score
        counts = a.true_confusion.sum(axis=0).T  # rows chart, columns truth
        values.append(_one_score(key, counts, legend))
    return mean(values)


def _one_score(key: str, counts: NDArray[np.int64], legend: Legend) -> float | None:
    if key == "ordinal_error":
        error = float(mean_ordinal_error(counts, ordinal_positions(legend)))
        return None if math.isnan(error) else error
    found = scores(Confusion(counts, np.zeros(len(legend), np.int64)))
    return {"weighted_f1": found.weighted_f1, "macro_f1": found.macro_f1}[key]
