"""A summary as tables of text, for Markdown files, the terminal and the report."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from floemap.evaluation.scoring.leaderboard import leaderboard
from floemap.evaluation.scoring.named_scores import PRIMARY
from floemap.evaluation.scoring.scores import OVERALL
from floemap.evaluation.scoring.table import NONE, Table, in_markdown
from floemap.legend import LEGENDS
from floemap.own_legends import from_record

#: Titles of tables, before what is simulated.
VALUES, CALIBRATION, MISSING = "Values", "Calibration", "Missing cells"
#: Calibration errors, with their words in tables.
CALIBRATION_ERRORS: Mapping[str, str] = MappingProxyType(
    {
        "ece": "calibration error",
        "ece_uncalibrated": "before calibration",
        "ece_equal_mass": "in bins of equal mass",
        "ece_by_polygon": "by polygon",
    }
)
#: Mark of numbers that are computed from some of the cells only.
_INCOMPLETE = "*"


def tables(summary: Mapping[str, Any]) -> tuple[Table, ...]:
    """Return the tables of a summary.

    They are losses, classes, named scores, values, polygons, calibration, the challenge, the origin of errors, missing
    cells; those without a row are left out.

    Parameters
    ----------
    summary
        The result of :func:`floemap.evaluation.statistics.summary.summarise`, or the same read from JSON.
    """
    made = [_losses(summary), _classes(summary), _named(summary), _values(summary), *_polygons(summary)]
    made += [_calibration(summary), *leaderboard(summary), _agreement(summary), _missing(summary)]
    return tuple(t for t in made if t.rows)


def markdown(summary: Mapping[str, Any]) -> str:
    """Return all tables of a summary as Markdown. If scenes are simulated, every title says so."""
    title = "Scores" if not summary["simulated"] else "Scores on SIMULATED scenes"
    return in_markdown(title, summary["note"], tables(summary))


def _title(summary: Mapping[str, Any], words: str) -> str:
    return f"{words} (SIMULATED scenes)" if summary["simulated"] else words


def _names(summary: Mapping[str, Any], group: Mapping[str, Any]) -> list[str]:
    """Return the loss and the values of the axes, the first columns of every table."""
    return [group["loss"], *(str(group["axes"].get(axis, NONE)) for axis in summary["axes"])]


def _number(value: float | None) -> str:
    return NONE if value is None else f"{value:.3f}"


def _percent(part: int, whole: int) -> str:
    return f"{100 * part / whole:.1f} %" if whole else NONE


def _spread(found: Mapping[str, Any] | None) -> str:
    """Return "mean (min, max)"."""
    if found is None:
        return NONE
    return f"{found['mean']:.3f} ({found['min']:.3f}, {found['max']:.3f})"


def _values(summary: Mapping[str, Any]) -> Table:
    """Return the scores of predicted values of each loss, with 90 % intervals over the ground."""
    header = ("value", "reference", "loss", "R2", "RMSE", "MAE", "bias")
    rows = [
        (head, reference, loss, *(_interval(scores[score]) for score in ("r2", "rmse", "mae", "bias")))
        for head, found in summary.get("values", {}).items()
        for reference in ("chart", "truth")
        for loss, scores in found.get(reference, {"losses": {}})["losses"].items()
    ]
    note = "In brackets: 90 % interval over the ground, by resampling, for these trainings."
    return Table(_title(summary, VALUES), header, tuple(rows), (note, *_differences(summary.get("values", {}))))


def _differences(values: Mapping[str, Any]) -> list[str]:
    """Return a sentence on best and worst by RMSE of each value and reference, at one level for all of them."""
    compared = [
        (f"RMSE of {head} against the {reference}", found[reference]["differences"]["pairs"])
        for head, found in values.items()
        for reference in ("chart", "truth")
        if reference in found and found[reference]["differences"]["pairs"]
    ]
    said = []
    for what, pairs in compared:
        widest = max(pairs, key=lambda pair: pair["value"])
        sure = "may be chance"
        if widest["p"] is None:
            sure = f"cannot be tested: {widest['reason']}"
        elif widest["p"] <= 0.1 / len(compared):
            sure = "is significant"
        said.append(f"{what}: the difference of {widest['a']}, the lowest, and {widest['b']}, the highest, {sure}.")
    return said


def _interval(found: Mapping[str, Any]) -> str:
    """Return "value (low, high)"."""
    if found["low"] is None:
        return _number(found["value"])
    return f"{_number(found['value'])} ({found['low']:.3f}, {found['high']:.3f})"


def _losses(summary: Mapping[str, Any]) -> Table:
    """Return weighted F1 of each loss, with the published score where it is comparable, and by scene."""
    known = summary["published"]
    comparable = bool(known.get("comparable"))
    header = [
        "loss", *summary["axes"], "cells", "weighted F1: mean (min, max)", "means of repeats: (min, max)",
        *(["published"] if comparable else []), *(f"scene {s}" for s in summary["scenes"]),
    ]  # fmt: skip
    rows, notes = [], list[str]()
    for group in summary["groups"]:
        found = group["scores"].get(PRIMARY, {"by_scene": {}, "weighted_f1": None})
        f1, cells = found["weighted_f1"], group["cells"]
        star = "" if cells["averaged"] == cells["expected"] else _INCOMPLETE
        repeats = NONE if f1 is None else f"({f1['repeats']['min']:.3f}, {f1['repeats']['max']:.3f})"
        row = [
            *_names(summary, group), f"{cells['averaged']} of {cells['expected']}{star}", _spread(f1) + star, repeats,
            *([_spread(group["published"])] if comparable else []),
            *(_spread(found["by_scene"].get(s, {}).get("weighted_f1")) for s in summary["scenes"]),
        ]  # fmt: skip
        rows.append(tuple(row))
        if star:
            notes.append(
                f"{' '.join(_names(summary, group))}{_INCOMPLETE}: {cells['scored']} of {cells['expected']} cells are "
                "scored; means use whole repeats only, columns of scenes use all scored cells."
            )
    if any(_without_prediction(group) for group in summary["groups"]):
        notes.append("Some labelled pixels have no prediction; they are not scored, see the table of named scores.")
    notes.append(
        "Mean over scenes and repeats, with the smallest and the largest of them; then the smallest and largest of the "
        "repeats' means over scenes."
    )
    if comparable:
        notes.append(f"Published: {known['what']}. {known['citation']}.")
    if why := known.get("why_not"):
        notes.append(
            f"Published scores are not comparable with {'all of ' if comparable else ''}these: {'; '.join(why)}."
        )
    return Table(_title(summary, "Losses"), tuple(header), tuple(rows), (*notes, summary["note"]))


def _without_prediction(group: Mapping[str, Any]) -> int:
    pooled = group["scores"].get(PRIMARY, {}).get("pooled")
    return 0 if pooled is None else int(pooled["scores"]["without_prediction"])


def class_titles(summary: Mapping[str, Any]) -> dict[str, str]:
    """Return titles of the legend's classes by key; the key itself where floemap does not know the legend."""
    said = summary["legend"]
    keys = list(said["classes"].values()) if said else []
    known = None if not said or ("table" not in said and said["name"] not in LEGENDS) else from_record(said)
    if known is not None and [c.key for c in known.classes] == keys:
        return {c.key: c.title for c in known.classes}
    return {key: key for key in keys}


def _classes(summary: Mapping[str, Any]) -> Table:
    """Return the scores of each class, with the pixels of all averaged cells pooled."""
    header = ("loss", *summary["axes"], "class", "share of labels", "precision", "recall", "F1", "IoU")
    rows = []
    for group in summary["groups"]:
        pooled = group["scores"].get(PRIMARY, {}).get("pooled")
        if pooled is None:
            continue
        found = pooled["scores"]
        for key, title in class_titles(summary).items():
            c = found["classes"][key]
            numbers = [_number(c[n]) for n in ("precision", "recall", "f1", "iou")]
            rows.append((*_names(summary, group), title, _percent(c["support"], found["pixels"]), *numbers))
    note = f"Pixels of all scenes and whole repeats together. {NONE}: not defined."
    return Table(_title(summary, "Classes"), header, tuple(rows), (note,))


def _named(summary: Mapping[str, Any]) -> Table:
    """Return all named scores."""
    header = ("loss", *summary["axes"], "score", *(f"{title}" for title in OVERALL.values()), "without prediction")
    rows = []
    for group in summary["groups"]:
        for name, found in group["scores"].items():
            pooled = found["pooled"]
            without = NONE
            if pooled is not None:
                n = pooled["scores"]["without_prediction"]
                without = _percent(n, n + pooled["scores"]["pixels"])
            rows.append((*_names(summary, group), name, *(_spread(found[m]) for m in OVERALL), without))
    notes = [f"Means over scenes and whole repeats (min, max). {NONE}: not defined in some scene."]
    notes += [f"Missing: {name} ({why})." for name, why in summary["scores_left_out"].items()]
    return Table(_title(summary, "Named scores"), header, tuple(rows), tuple(notes))


#: Titles of scores by polygon.
_BY_POLYGON = {
    "error_of_shares": "error of shares (less is better)",
    "dominant_50": "dominant type right, over 50 %",
    "dominant_65": "dominant type right, from 65 %",
    "truth_in_mixed": "right inside mixed polygons",
}


def _polygons(summary: Mapping[str, Any]) -> tuple[Table, Table]:
    """Return the scores by polygon: overall, and each class's shares."""
    groups = [g for g in summary["groups"] if g.get("polygons") is not None]
    header = ("loss", *summary["axes"], *_BY_POLYGON.values())
    rows = [(*_names(summary, g), *(_spread(g["polygons"][n]) for n in _BY_POLYGON)) for g in groups]
    note = (
        "Predicted shares of each polygon against its partial concentrations, weighted by area. Means over scenes and "
        f"whole repeats (min, max). {NONE}: not defined in some scene, or there is no truth."
    )
    each = ("loss", *summary["axes"], "class", "mean absolute error", "bias", "R²")
    by_class = [
        (*_names(summary, g), title, *(_spread(shares.get(n)) for n in ("mean_absolute_error", "bias", "r2")))
        for g in groups
        for key, title in class_titles(summary).items()
        if (shares := g["polygons"]["shares"].get(key)) is not None
    ]
    return (
        Table(_title(summary, "Polygons"), header, tuple(rows), (note,)),
        Table(_title(summary, "Shares by class"), each, tuple(by_class), (note,)),
    )


def calibration_rows(found: Mapping[str, Any]) -> list[tuple[str, ...]]:
    """Return season and errors of one loss, a row for each season and, where there are several, one for all scenes.

    `found` is what :func:`floemap.evaluation.checks.calibration.calibration_errors` returns.
    """
    groups = dict(found["seasons"])
    if len(groups) > 1:
        groups["all scenes"] = found["all"]
    return [(name, *(_number(errors[key]) for key in CALIBRATION_ERRORS)) for name, errors in groups.items()]


def calibration_note(reference: str) -> str:
    """Return the sentences below a table of calibration errors; `reference` is chart or truth."""
    return (
        f"Against the {reference}, test scenes and whole repeats pooled. Lower is better: 0.02 says that probabilities "
        "are, on average, two percentage points from how often they come true. Errors before calibration are computed "
        "from the stored steps of probability. By polygon, each polygon of the chart counts alike, however large it is."
    )


def _calibration(summary: Mapping[str, Any]) -> Table:
    """Return the calibration errors of each loss by season, and before calibration."""
    header = ("loss", *summary["axes"], "season", *CALIBRATION_ERRORS.values())
    groups = [(g, g["calibration"]) for g in summary["groups"] if g.get("calibration") is not None]
    rows = [(*_names(summary, g), *row) for g, found in groups for row in calibration_rows(found)]
    notes = [calibration_note(r) for r in sorted({str(found["reference"]) for _, found in groups})]
    return Table(_title(summary, CALIBRATION), header, tuple(rows), tuple(notes))


def _agreement(summary: Mapping[str, Any]) -> Table:
    """Return the origin of errors, chart or prediction, where there is a truth."""
    header = (
        "loss", *summary["axes"], "wrong against the chart", "of these: the chart's error", "the prediction's",
        "both's", "right against the chart, wrong by the truth",
    )  # fmt: skip
    rows = []
    for group in summary["groups"]:
        if (a := group.get("agreement")) is None:
            continue
        parts = [
            a[k] for k in ("wrong_by_chart_right_by_truth", "wrong_by_both_chart_true", "wrong_by_both_chart_wrong")
        ]
        row = [_percent(sum(parts), a["pixels"]), *(_percent(p, sum(parts)) for p in parts)]
        rows.append((*_names(summary, group), *row, _percent(a["right_by_chart_wrong_by_truth"], a["pixels"])))
    note = (
        "The first and last columns are percentages of the pixels with label, prediction and truth, the others of the "
        "pixels that are wrong against the chart. An error is the chart's where the prediction agrees with the truth."
    )
    return Table(_title(summary, "Origin of errors"), header, tuple(rows), (note,))


def _missing(summary: Mapping[str, Any]) -> Table:
    """Return the cells without an evaluation, by name."""
    rows = tuple((m["cell"], m["scene"] or NONE, m["why"]) for m in summary["missing"])
    return Table(_title(summary, MISSING), ("cell", "scene", "why"), rows)
