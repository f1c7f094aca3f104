"""How far probabilities are from how often they come true, by scene and by season, as a table and as CSV."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from floemap.evaluation.checks.calibration import calibration_errors
from floemap.evaluation.checks.confidence import ConfidenceAmounts
from floemap.evaluation.scoring.table import Table
from floemap.evaluation.scoring.tables import CALIBRATION_ERRORS, calibration_note, calibration_rows
from floemap.report.measures import Numbers
from floemap.report.run_folder import RunFolder


def errors_of(run: RunFolder, numbers: Numbers) -> dict[str, dict[str, Any]]:
    """Return the calibration errors of each contender whose maps have probabilities, by its key."""
    found = {}
    for key, scenes in numbers.by_scene.items():
        entries = [(scene, scenes[scene.name]["checks"]["confidence"]) for scene in run.scenes]
        counted = [(s.short, s.start, ConfidenceAmounts.from_json(e["amounts"])) for s, e in entries if e["applies"]]
        if errors := calibration_errors(counted):
            found[key] = errors
    return found


def error_lines(run: RunFolder, numbers: Numbers) -> Iterator[tuple[str, str, str, list[float | None]]]:
    """Yield contender's key, kind (scene, season or all), name, and the values of ``CALIBRATION_ERRORS``."""
    for key, found in errors_of(run, numbers).items():
        kinds = (("scene", found["scenes"]), ("season", found["seasons"]), ("all", {"all scenes": found["all"]}))
        for kind, groups in kinds:
            for name, errors in groups.items():
                yield key, kind, name, [errors[column] for column in CALIBRATION_ERRORS]


def calibration_table(run: RunFolder, numbers: Numbers) -> Table | None:
    """Return the errors by season and of all scenes; None if no probabilities were stored."""
    titles = {c.key: c.title for c in run.contenders}
    found = errors_of(run, numbers)
    if not found:
        return None
    rows = tuple((titles[key], *row) for key, errors in found.items() for row in calibration_rows(errors))
    header = ("loss", "season", *CALIBRATION_ERRORS.values())
    return Table("Calibration by season", header, rows, (calibration_note(numbers.reference),))
