"""Every number of the report as CSV and JSON, including those from which the diagrams are drawn."""

from __future__ import annotations

import csv
import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from floemap.evaluation.checks.scene_checks import MEASURES
from floemap.evaluation.scoring.tables import CALIBRATION_ERRORS
from floemap.evaluation.statistics.compare import Difference
from floemap.evaluation.statistics.spread import Spread
from floemap.report.calibration import error_lines
from floemap.report.measures import Numbers
from floemap.report.numbers import Assessed
from floemap.report.run_folder import RunFolder
from floemap.report.values import value_scores_of
from floemap.results.stage import os_errors, write_json

Cells = Sequence[Any]


def write_tables(run: RunFolder, numbers: Numbers, assessed: Assessed, sentences: Sequence[str], folder: Path) -> None:
    """Write ``numbers.json``, ``tables/*.csv`` and ``tables/measures.tex`` into `folder`.

    Raises
    ------
    OutputError
        If the files cannot be written.
    """
    tables = folder / "tables"
    tables.mkdir()
    simulated = "yes" if run.simulated else "no"
    _csv(
        tables / "measures.csv",
        ("measure", "group", "unit", "better", "reference", "contender", "value", "low", "high", "level", "repeats",
         "badness", "best", "worst", "told_apart", "p", "chart", "truth", "simulated", "reason"),
        (
            (row.measure.key, row.measure.group, row.measure.unit, row.measure.better, numbers.reference_of(row), key,
             s.value, s.low, s.high, s.level, " ".join("" if p is None else repr(p) for p in s.points),
             row.badness.get(key), row.best == key, row.worst == key, row.told_apart,
             None if row.between is None else row.between.p, row.chart, row.truth, simulated, s.reason)
            for row in numbers.rows
            for key, s in row.spreads.items()
        ),
    )  # fmt: skip
    with os_errors(tables / "measures.tex"):
        (tables / "measures.tex").write_text(_latex(run, numbers), encoding="utf-8")
    _csv(
        tables / "checks_by_scene.csv",
        ("contender", "repeat", "scene", *(m.key for m in MEASURES), "simulated"),
        (
            (key, repeat, scene, *(m.of(a.checks["checks"]) for m in MEASURES), simulated)
            for key, runs in assessed.items()
            for repeat, run_of in enumerate(runs)
            for scene, a in run_of.items()
        ),
    )
    _csv(
        tables / "classes.csv",
        ("contender", "class", "f1", "low", "high", "simulated"),
        (
            (key, name, s.value, s.low, s.high, simulated)
            for key, own in numbers.class_f1.items()
            for name, s in own.items()
        ),
    )
    names = [c.key for c in run.legend.classes]
    _csv(
        tables / "confusion.csv",
        ("contender", "reference", *(f"predicted_{n}" for n in names), "simulated"),
        (
            (key, names[i], *row, simulated)
            for key, counts in numbers.confusion.items()
            for i, row in enumerate(counts.tolist())
        ),
    )
    _csv(tables / "training.csv", ("contender", "repeat", *_EPOCH, "simulated"), _epochs(run, simulated))
    _csv(
        tables / "reliability.csv",
        ("contender", "probability", "observed", "pixels", "simulated"),
        (
            (key, *point, simulated)
            for key, pooled in numbers.pooled.items()
            if pooled["checks"]["confidence"]["applies"]
            for point in zip(
                *(
                    pooled["checks"]["confidence"]["values"]["reliability"][n]
                    for n in ("probability", "observed", "pixels")
                ),
                strict=True,
            )
        ),
    )
    _csv(
        tables / "calibration.csv",
        ("contender", "of", "name", *CALIBRATION_ERRORS, "simulated"),
        ((key, kind, name, *values, simulated) for key, kind, name, values in error_lines(run, numbers)),
    )
    if values := value_scores_of(run):
        _csv(
            tables / "values.csv",
            ("contender", "head", "unit", "reference", "score", "value", "low", "high", "level", "repeats",
             "simulated"),
            (
                (key, v.head, v.unit, v.reference, score, s.value, s.low, s.high, s.level,
                 " ".join("" if p is None else repr(p) for p in s.points), simulated)
                for v in values
                for key, scores in v.spreads.items()
                for score, s in scores.items()
            ),
        )  # fmt: skip
    _csv(
        tables / "incidence.csv",
        ("contender", "scene", "incidence_deg", "area_km2", *(f"map_{n}" for n in names), "reference",
         *(f"reference_{n}" for n in names), "simulated"),
        _angles(numbers, names, simulated),
    )  # fmt: skip
    write_json(folder / "numbers.json", _everything(run, numbers, assessed, sentences), indent=None)


_EPOCH = ("epoch", "loss", "validation_loss", "weighted_f1", "macro_f1", "learning_rate", "seconds")


def _epochs(run: RunFolder, simulated: str) -> Iterable[Cells]:
    for contender in run.contenders:
        for cell in contender.cells:
            for row in cell.epochs:
                yield (contender.key, cell.repeat, *(row.get(name) for name in _EPOCH), simulated)


def _angles(numbers: Numbers, names: Sequence[str], simulated: str) -> Iterable[Cells]:
    """Return shares of the maps, of the charts as if they were maps, and of the reference."""
    for key, scenes in (*numbers.by_scene.items(), ("chart", numbers.charts)):
        for scene, result in scenes.items():
            entry = result["checks"]["angle"]
            if not entry["applies"]:
                continue
            v = entry["values"]
            for i, degree in enumerate(v["incidence_deg"]):
                own, reference = ([v[w][n][i] for n in names] for w in ("prediction_share", "reference_share"))
                yield (key, scene, degree, v["area_km2"][i], *own, numbers.reference, *reference, simulated)


def _csv(path: Path, header: Cells, rows: Iterable[Cells]) -> None:
    with path.open("w", newline="", encoding="utf-8") as f:
        writer = csv.writer(f)
        writer.writerow(header)
        writer.writerows([_cell(v) for v in row] for row in rows)


def _cell(value: Any) -> Any:
    """Return a value as a table's cell. Names come from a run's records and must not begin a spreadsheet's formula."""
    if value is None:
        return ""
    if isinstance(value, str) and value[:1] in ("=", "+", "-", "@", "\t", "\r", "\n") and not _are_numbers(value):
        return f"'{value}"
    return value


def _are_numbers(text: str) -> bool:
    try:
        return bool([float(word) for word in text.split(" ")])
    except ValueError:
        return False


def _everything(run: RunFolder, numbers: Numbers, assessed: Assessed, sentences: Sequence[str]) -> dict[str, Any]:
    return {
        "simulated": run.simulated,
        "study": run.name,
        "findings": list(sentences),
        "contenders": {c.key: {"title": c.title, "cells": [cell.name for cell in c.cells]} for c in run.contenders},
        "scenes": {s.name: {"product": s.product.name, "start": s.start.isoformat()} for s in run.scenes},
        "measures": [
            {
                "key": row.measure.key,
                "group": row.measure.group,
                "title": row.measure.title,
                "unit": row.measure.unit,
                "better": row.measure.better,
                "reference": numbers.reference_of(row),
                "chart": row.chart,
                "truth": row.truth,
                "badness": dict(row.badness),
                "question": row.measure.question,
                "best": row.best,
                "worst": row.worst,
                "told_apart": row.told_apart,
                "reason": row.reason,
                "contenders": {key: _spread(s) for key, s in row.spreads.items()},
                "best_against_worst": _difference(row.between),
            }
            for row in numbers.rows
        ],
        "class_f1": {key: {name: _spread(s) for name, s in own.items()} for key, own in numbers.class_f1.items()},
        "confusion": {key: counts.tolist() for key, counts in numbers.confusion.items()},
        "checks": {key: _values(pooled) for key, pooled in numbers.pooled.items()},
        "checks_by_scene": {
            key: {scene: _values(pooled) for scene, pooled in own.items()} for key, own in numbers.by_scene.items()
        },
        "checks_by_repeat": {
            key: [{scene: _values(a.checks) for scene, a in run_of.items()} for run_of in runs]
            for key, runs in assessed.items()
        },
        "charts_by_scene": {scene: _values(checks) for scene, checks in numbers.charts.items()},
        "cautions": list(numbers.cautions),
        "scores": run.results.get("summary"),
    }


#: Characters that LaTeX takes for commands, and signs that it may not have.
_TEX = str.maketrans(
    {c: f"\\{c}" for c in "&%$#_{}"}
    | {"~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "\\": r"\textbackslash{}"}
    | {"\u2009": r"\,", "\u2212": "$-$", "–": "--", "²": r"\textsuperscript{2}", "°": r"\textdegree{}", "’": "'"}
)


def _latex(run: RunFolder, numbers: Numbers) -> str:
    """Return all measures as a LaTeX tabular of booktabs: value and interval of each loss."""
    keys = list(dict.fromkeys(key for row in numbers.rows for key in row.spreads))
    titles = {c.key: c.title for c in run.contenders}
    head = " & ".join(["Measure", *(titles[k].translate(_TEX) for k in keys)])
    about = "SIMULATED scenes; nothing here is about real ice. " if run.simulated else ""
    lines = [
        f"% {about}Value [low, high] of the interval by scenes and trainings; see the report. Needs booktabs.",
        f"\\begin{{tabular}}{{l{'r' * len(keys)}}}",
        r"\toprule",
        *([rf"\multicolumn{{{len(keys) + 1}}}{{l}}{{SIMULATED scenes}} \\"] if run.simulated else []),
        rf"{head} \\",
        r"\midrule",
    ]
    for row in numbers.rows:
        cells = [f"{row.measure.title}, {row.measure.unit}" if row.measure.unit else row.measure.title]
        for key in keys:
            s = row.spreads.get(key)
            text = row.measure.text
            interval = "" if s is None or s.low is None else f" [{text(s.low)}, {text(s.high)}]"
            cells.append("–" if s is None else text(s.value) + interval)
        lines.append(" & ".join(c.translate(_TEX) for c in cells) + r" \\")
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}", ""])


def _values(result: Any) -> dict[str, Any]:
    """Return the values of each check, or the reason why it does not apply."""
    return {k: e["values"] if e["applies"] else {"reason": e["reason"]} for k, e in result["checks"].items()}


def _spread(s: Spread) -> dict[str, Any]:
    return _finite(asdict(s))


def _difference(d: Difference | None) -> dict[str, Any] | None:
    return None if d is None else _finite(asdict(d) | {"same_in_scenes": d.scenes, "same_in_repeats": d.repeats})


def _finite(values: dict[str, Any]) -> dict[str, Any]:
    """Return values with None in place of numbers that JSON lacks."""
    return {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in values.items()}
