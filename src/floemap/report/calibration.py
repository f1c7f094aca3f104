"""How far probabilities are from how often they come true, by scene and by season, as a table and as CSV."""

from __future__ import annotations

from collections.abc import Iterator

from floemap.evaluation.checks.confidence import ConfidenceAmounts
from floemap.evaluation.scoring.table import Table
from floemap.report.measures import Numbers
from floemap.report.run_folder import RunFolder

#: Columns of the table and of the CSV: key among the values of the check of confidence, and words.
COLUMNS = (
    ("ece", "calibration error"),
    ("ece_uncalibrated", "without temperature"),
    ("ece_equal_mass", "in bins of equal mass"),
    ("ece_by_polygon", "by polygon"),
)
_SEASONS = ("December to February", "March to May", "June to August", "September to November")
_ALL = "all scenes"


def calibration_errors(run: RunFolder, numbers: Numbers) -> Iterator[tuple[str, str, str, list[float | None]]]:
    """Yield contender's key, kind (scene, season or all), name, and the values of :data:`COLUMNS`.

    The scenes of a season, and all repeats, are pooled: their pixels are counted together.
    """
    for key, scenes in numbers.by_scene.items():
        found: dict[tuple[str, str], list[ConfidenceAmounts]] = {}
        for scene in run.scenes:
            entry = scenes[scene.name]["checks"]["confidence"]
            if not entry["applies"]:
                continue
            amounts = ConfidenceAmounts.from_json(entry["amounts"])
            season = _SEASONS[scene.start.month % 12 // 3]
            for group in (("scene", scene.short), ("season", season), ("all", _ALL)):
                found.setdefault(group, []).append(amounts)
        for (kind, name), parts in found.items():
            values = ConfidenceAmounts.total(parts).values()
            yield key, kind, name, [values[column] for column, _ in COLUMNS]


def calibration_table(run: RunFolder, numbers: Numbers) -> Table | None:
    """Return the errors by season and of all scenes; None if no probabilities were stored."""
    titles = {c.key: c.title for c in run.contenders}
    rows = [
        (titles[key], name, *("–" if value is None else f"{value:.3f}" for value in values))
        for key, kind, name, values in calibration_errors(run, numbers)
        if kind != "scene"
    ]
    if not rows:
        return None
    notes = (
        f"Against the {numbers.reference}, test scenes pooled. Lower is better: 0.02 says that probabilities are, on "
        "average, two percentage points from how often they come true. Errors without temperature are computed from "
        "the stored steps of probability. By polygon, each polygon of the chart counts alike, however large it is.",
    )
    return Table("Calibration by season", ("loss", "season", *(words for _, words in COLUMNS)), tuple(rows), notes)
