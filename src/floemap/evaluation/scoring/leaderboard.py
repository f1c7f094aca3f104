"""The challenge's scores of a comparison as a table, in the form of the field's leaderboards: percent.

Published scores are beside them only where they are comparable: on the 20 real test scenes.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from floemap.datasets.ai4arctic.published import PUBLISHED
from floemap.evaluation.scoring.table import NONE, Table

_CHARTS = ("SIC", "SOD", "FLOE", "combined")
_HEADER = ("SIC R2", "SOD F1", "FLOE F1", "combined")
_WHAT = (
    "Percent; pixels of all test scenes pooled, on the map's grid, those without a class left out. R2 of concentration "
    "in tenths, weighted F1 of stage of development and of floe size, combined: (2 SIC + 2 SOD + FLOE) / 5. "
    f"Mean (min, max) of the repeats. {NONE}: the model has no head for it, or it is not defined."
)
_BESIDE = (
    "Published scores count the pixels of the radar image, and are single numbers, most of them of the best of several "
    "models."
)


def leaderboard(summary: Mapping[str, Any]) -> tuple[Table, ...]:
    """Return the tables of the challenge's scores, all and by season, region and so on; none without such scores.

    Parameters
    ----------
    summary
        The result of :func:`floemap.evaluation.statistics.summary.summarise`, or the same read from JSON.
    """
    found = summary.get("challenge")
    if not found:
        return ()
    simulated = " (SIMULATED scenes)" if summary["simulated"] else ""
    rows = [(name, *_cells(scores["all"]), "this comparison") for name, scores in _best_first(found["losses"])]
    why, notes = found["why_not"], [_WHAT]
    if why:
        notes.append(f"Published scores are not comparable with these: {why}.")
    else:
        rows += [(m.title, *(map(_percent, (m.sic, m.sod, m.floe, m.combined))), m.source) for m in PUBLISHED]
        notes.append(_BESIDE)
    by_group = [
        (facet, group, name, str(each["scenes"]), *_cells(each))
        for name, scores in _best_first(found["losses"])
        for facet, groups in scores["by"].items()
        for group, each in groups.items()
    ]
    return (
        Table(f"AI4Arctic challenge{simulated}", ("model", *_HEADER, "from"), tuple(rows), tuple(notes)),
        Table(
            f"AI4Arctic challenge, by scenes{simulated}",
            ("by", "group", "model", "scenes", *_HEADER),
            tuple(sorted(by_group)),
            ("The test scenes of each group pooled. Regions are the groups of neighbouring regions of IceBench.",),
        ),
    )


def _best_first(losses: Mapping[str, Any]) -> list[tuple[str, Any]]:
    """Return the losses by their combined score, or else by that of the stage of development."""

    def key(entry: tuple[str, Any]) -> tuple[float, float]:
        found = (entry[1]["all"][c] for c in ("combined", "SOD"))
        combined, sod = (-1e9 if f is None else float(f["mean"]) for f in found)
        return -combined, -sod

    return sorted(losses.items(), key=key)


def _cells(scores: Mapping[str, Any]) -> list[str]:
    return [_spread(scores[chart]) for chart in _CHARTS]


def _spread(found: Mapping[str, Any] | None) -> str:
    if found is None:
        return NONE
    return f"{100 * found['mean']:.2f} ({100 * found['min']:.2f}, {100 * found['max']:.2f})"


def _percent(value: float | None) -> str:
    return NONE if value is None else f"{value:.2f}"
