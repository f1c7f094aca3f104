"""Scores of predicted values, such as the concentration of ice, as the summary of a comparison has them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from floemap.evaluation.statistics.spread import Spread
from floemap.evaluation.statistics.summary import group_of, name_of
from floemap.icechart.label.polygon_values import VALUES
from floemap.moments import VALUE_SCORES
from floemap.report.run_folder import RunFolder


@dataclass(frozen=True)
class ValueScores:
    """The scores of one head that predicts a value, against one reference.

    Attributes
    ----------
    head, title, unit
        Name of the head, title and unit of the value.
    reference
        chart or truth.
    spreads
        Scores with their intervals, by contender's key and name of the score.
    """

    head: str
    title: str
    unit: str
    reference: str
    spreads: Mapping[str, Mapping[str, Spread]]


def value_scores_of(run: RunFolder) -> list[ValueScores]:
    """Return the scores of all heads that predict a value; none if no model has such a head.

    Raises
    ------
    KeyError, TypeError
        If the summary in the results is damaged.
    """
    by_name = {name_of(group_of(vars(c.cells[0]))): c.key for c in run.contenders}
    found = []
    for head, about in run.results["summary"].get("values", {}).items():
        title = VALUES[about["target"]].title if about["target"] in VALUES else str(about["target"])
        for reference in ("chart", "truth"):
            losses = about.get(reference, {"losses": {}})["losses"]
            spreads = {
                by_name[name]: {score: _spread(scores[score]) for score in VALUE_SCORES}
                for name, scores in losses.items()
                if name in by_name
            }
            if spreads:
                found.append(ValueScores(str(head), title, str(about["unit"]), reference, spreads))
    return found


def _spread(stored: Mapping[str, Any]) -> Spread:
    """Return a spread that was stored as JSON."""
    return Spread(**{**stored, "points": tuple(stored["points"]), "cautions": tuple(stored["cautions"])})
