"""Calibration errors of a comparison: how far probabilities are from how often they come true, by loss and season."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

from floemap.errors import MISSHAPEN, FloemapError
from floemap.evaluation.checks.confidence import ConfidenceAmounts
from floemap.evaluation.scoring.tables import CALIBRATION_ERRORS
from floemap.evaluation.statistics.summary import group_of

#: Names of the quarters of a year that begin in December, March, June and September.
_SEASONS = ("December to February", "March to May", "June to August", "September to November")

#: Name of a scene, start of its acquisition, and what was counted of its probabilities.
Counted = tuple[str, datetime, ConfidenceAmounts]


def calibration_errors(counted: Iterable[Counted]) -> dict[str, Any]:
    """Return the calibration errors by scene and season, and of all scenes; empty if nothing was counted.

    The pixels of a season, and those of several predictions of a scene, are counted together.

    Returns
    -------
    dict
        ``scenes`` and ``seasons``, in the order in which they first come, and ``all``: for each the number of scenes,
        pixels and the errors of :data:`floemap.evaluation.scoring.tables.CALIBRATION_ERRORS`, None where undefined.
    """
    parts = list(counted)
    if not parts:
        return {}
    by_scene: dict[str, list[Counted]] = {}
    by_season: dict[str, list[Counted]] = {}
    for part in parts:
        by_scene.setdefault(part[0], []).append(part)
        by_season.setdefault(_SEASONS[part[1].month % 12 // 3], []).append(part)
    return {
        "scenes": {name: _errors(own) for name, own in by_scene.items()},
        "seasons": {name: _errors(own) for name, own in by_season.items()},
        "all": _errors(parts),
    }


def _errors(parts: list[Counted]) -> dict[str, Any]:
    values = ConfidenceAmounts.total([amounts for _, _, amounts in parts]).values()
    scenes = len({name for name, _, _ in parts})
    return {"scenes": scenes, "pixels": values["pixels"]} | {key: values[key] for key in CALIBRATION_ERRORS}


def add_calibration(summary: Mapping[str, Any], records: Iterable[Mapping[str, Any]]) -> None:
    """Add the calibration errors of each loss to its group in a summary, as ``calibration``.

    A loss gets none if a prediction of a whole repeat was not checked or has no probabilities, or if some are compared
    with charts and some with the truth. The entry ``reference`` names which of both it is.

    Parameters
    ----------
    summary
        The result of :func:`floemap.evaluation.statistics.summary.summarise`.
    records
        The records that it was made from, each with ``checks``: the content of checks.json, or None.

    Raises
    ------
    FloemapError
        If checks cannot be read.
    """
    found: dict[Any, dict[tuple[int, str], Mapping[str, Any] | None]] = {}
    for record in records:
        place = int(record["repeat"]), str(record["scene"])
        found.setdefault(group_of(record), {})[place] = record.get("checks")
    for group in summary["groups"]:
        own = found.get(group_of(group), {})
        checks = [(s, own.get((r, s))) for r in group["whole_repeats"] for s in summary["scenes"]]
        known = [(s, c) for s, c in checks if c is not None]
        if known and len(known) == len(checks) and (errors := _of_checks(known)):
            group["calibration"] = errors


def _of_checks(checks: Sequence[tuple[str, Mapping[str, Any]]]) -> dict[str, Any]:
    """Return the calibration errors of one loss; empty if a map has no probabilities, or references differ."""
    try:
        references = {str(c["reference"]) for _, c in checks}
        entries = [(scene, c["start"], c["checks"]["confidence"]) for scene, c in checks]
        if len(references) > 1 or not all(e["applies"] for _, _, e in entries):
            return {}
        counted = [
            (scene, datetime.fromisoformat(start), ConfidenceAmounts.from_json(e["amounts"]))
            for scene, start, e in entries
        ]
    except MISSHAPEN as e:
        raise FloemapError(f"checks of a scene have no readable counts of probabilities: {e!r}.") from e
    return {"reference": references.pop(), **calibration_errors(sorted(counted, key=lambda part: part[:2][::-1]))}
