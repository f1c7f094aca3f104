"""Anchors: the numbers of the charts themselves and of the truth, which stand beside the numbers of maps.

A chart is drawn by people and smooth; the truth is full of floes and leads. The number of a map says little without
theirs. The reference of the checks, the truth or else the chart, has the best number there can be.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from floemap.evaluation.checks.assess import Assessment
from floemap.evaluation.checks.measures import Measure
from floemap.evaluation.checks.scene_checks import pool_checks
from floemap.evaluation.scoring.scores import mean
from floemap.evaluation.statistics.bootstrap import Statistic
from floemap.legend import Legend
from floemap.report.measures import Row, counted

Charts = Mapping[str, Assessment]


def with_anchors(rows: Iterable[Row], charts: Charts, legend: Legend) -> tuple[Row, ...]:
    """Return rows with the numbers of the charts and of the truth.

    Parameters
    ----------
    rows
        The rows of a comparison.
    charts
        The charts assessed as if they were maps, by scene. Without any, the rows are returned unchanged.
    legend
        The legend of the charts.
    """
    if not charts:
        return tuple(rows)
    checks = pool_checks([a.checks for a in charts.values()])["checks"]
    pixel_m = float(next(iter(charts.values())).checks["pixel_m"])
    statistics = {measure.key: statistic for measure, statistic in counted(legend, pixel_m)}
    known = all(a.true_confusion is not None for a in charts.values())
    return tuple(
        replace(
            row,
            chart=_of_chart(row.measure, charts, checks, statistics),
            truth=_of_truth(row.measure, charts, checks, statistics) if known else None,
        )
        for row in rows
    )


def _of_chart(
    m: Measure, charts: Charts, checks: Mapping[str, Any], statistics: Mapping[str, Statistic]
) -> float | None:
    """Return the number of the charts, of the dominant types as if they were a map: scores against themselves."""
    if m.check:
        return m.of(checks)
    if m.scored:
        return m.perfect
    return float(statistics[m.key](np.sum([a.reference_confusion.sum(axis=0) for a in charts.values()], axis=0)))


def _of_truth(
    m: Measure, charts: Charts, checks: Mapping[str, Any], statistics: Mapping[str, Statistic]
) -> float | None:
    """Return the number of the truth: scores against the charts, mean over scenes, else against itself.

    It is not counted by polygon.
    """
    if m.scored and m.check:
        return None
    if not m.scored:
        return m.of_reference(checks) if m.check else m.perfect
    # Rows chart, columns truth: the truth as if it were a map.
    each = [
        float(statistics[m.key](a.true_confusion.sum(axis=0).T))
        for a in charts.values()
        if a.true_confusion is not None
    ]
    return mean([None if math.isnan(value) else value for value in each])
