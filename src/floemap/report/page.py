"""The page: one self-contained HTML file. This module collects its content; ``templates/`` has its layout."""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from importlib.resources import files
from typing import Any

import jinja2
from markupsafe import Markup

from floemap.evaluation.checks.measures import GROUPS
from floemap.evaluation.scoring.published import CITATION
from floemap.evaluation.scoring.table import Table
from floemap.evaluation.scoring.tables import CALIBRATION, MISSING, VALUES, tables
from floemap.icechart.polaris import ADVISORY
from floemap.legend import LAND_RGB
from floemap.report.calibration import calibration_table
from floemap.report.figures.map_panels import ERRORS, NO_CLASS
from floemap.report.figures.strip import mark_shape, strip_of
from floemap.report.figures.style import Mark, Picture, marks_of
from floemap.report.measures import LEVEL, Numbers, Row, why_no_risk
from floemap.report.provenance import configuration_text, made_tables, trainings_table
from floemap.report.run_folder import RunFolder, Scene
from floemap.version import __version__

_TITLE = "Which loss makes the better ice chart?"


@dataclass(frozen=True)
class Pictures:
    """All figures of a report."""

    maps: Mapping[str, Sequence[Picture]]
    scene_diagrams: Mapping[str, Sequence[Picture]]
    types: Sequence[Picture]
    training: Sequence[Picture]
    values: Sequence[Picture] = ()


def render_page(
    run: RunFolder,
    numbers: Numbers,
    sentences: Sequence[str],
    pictures: Pictures,
    created: datetime,
    map_page: str | None = None,
) -> str:
    """Return the page as HTML, which needs no other file or address, with a link to `map_page` if it is given."""
    folder = files("floemap.report") / "templates"
    environment = jinja2.Environment(
        loader=jinja2.FunctionLoader(lambda name: (folder / name).read_text(encoding="utf-8")),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
    )
    look = marks_of(c.key for c in run.contenders)
    measured = [c for c in run.contenders if c.key in numbers.repeats]
    titles = {c.key: c.title for c in run.contenders}
    context: dict[str, Any] = {
        "css": Markup((folder / "report.css").read_text(encoding="utf-8")),
        "title": _TITLE if len(run.contenders) > 1 else "Does the ice chart make sense?",
        "study": run.name,
        "simulated": run.simulated,
        "software": f"floemap {__version__}",
        "citation": CITATION,
        "created": f"{created:%Y-%m-%d %H:%M} UTC",
        "facts": _facts(run, numbers),
        "anchors": _anchors(numbers),
        "contenders": [{"title": c.title, "shape": mark_shape(look[c.key])} for c in measured],
        "level": f"{100 * LEVEL:.0f} %",
        "findings": list(sentences),
        "main_groups": _groups([r for r in numbers.rows if r.measure.main], numbers, titles, look),
        "all_groups": _groups(numbers.rows, numbers, titles, look),
        "reading": _reading(numbers) + _gone(run),
        "published": _published(run),
        "missing": list(run.missing),
        "scenes": [_scene(run, s, pictures) for s in run.scenes if s.name in pictures.maps],
        "calibration": calibration_table(run, numbers),
        "type_diagrams": [_diagram(p) for p in pictures.types],
        "value_diagrams": [_diagram(p) for p in pictures.values],
        "value_tables": _score_tables(run, only=VALUES),
        "training_diagrams": [_diagram(p) for p in pictures.training],
        "trainings": trainings_table(run),
        "reasons": [f"{r.measure.title}: {r.reason}." for r in numbers.rows if r.reason] + why_no_risk(run.legend),
        "cautions": [*numbers.cautions, *_pictured(run, pictures)],
        "remarks": _remarks(numbers),
        "score_tables": _score_tables(run),
        "definitions": [
            {"title": r.measure.title, "question": r.measure.question, "detail": _detail(r, numbers, capital=True)}
            for r in numbers.rows
        ],
        "made_tables": made_tables(run),
        "configuration": configuration_text(run.configuration),
        "advisory": ADVISORY,
        "map_page": map_page,
        "run_folder": run.folder.absolute().name,
    }
    return environment.get_template("report.html.jinja").render(context)


def _facts(run: RunFolder, numbers: Numbers) -> str:
    scenes = ", ".join(s.short for s in run.scenes) if len(run.scenes) <= 4 else f"{len(run.scenes)} scenes"
    repeats = sorted(set(numbers.repeats.values()))
    times = " or ".join("once" if n == 1 else f"{n} times" for n in repeats)
    cells = sum(len(c.cells) for c in run.contenders)
    word = "test scene" if len(run.scenes) == 1 else "test scenes"
    return (
        f"{len(run.contenders)} losses, each trained {times} ({cells} trainings in all) · {word}: {scenes} · "
        f"legend: {run.legend.title}"
    )


def _anchors(numbers: Numbers) -> list[str]:
    """Return the heads of the anchors' columns; none if the charts were not assessed."""
    if not numbers.charts:
        return []
    return ["The chart itself"] if numbers.reference == "chart" else ["The chart", "The truth"]


def _groups(
    rows: Sequence[Row], numbers: Numbers, titles: Mapping[str, str], look: Mapping[str, Mark]
) -> list[dict[str, Any]]:
    """Return the rows of a table by group, without rows that have no numbers."""
    groups = []
    for group in GROUPS:
        own = [r for r in rows if r.measure.group == group and r.reason is None and r.spreads]
        if own:
            title = group if own[0].measure.scored else f"{group} · against the {numbers.reference}"
            # No key may be the name of a dict's method: the template looks up attributes first.
            groups.append({"title": title, "rows": [_row(r, numbers, titles, look) for r in own]})
    return groups


def _row(row: Row, numbers: Numbers, titles: Mapping[str, str], look: Mapping[str, Mark]) -> dict[str, Any]:
    m = row.measure
    cells = []
    for key, s in row.spreads.items():
        interval = "" if s.low is None or s.high is None else f"{m.text(s.low)} to {m.text(s.high)}"
        mark = "best" if _as_bad(row, key, row.best) else "worst" if _as_bad(row, key, row.worst) else ""
        cells.append({"name": titles[key], "value": m.text(s.value), "interval": interval, "mark": mark})
    own = {"The chart itself": row.chart, "The chart": row.chart, "The truth": row.truth}
    for name in _anchors(numbers):
        cells.append({"name": name, "value": m.text(own[name]), "interval": "", "mark": "anchor"})
    return {
        "title": m.title,
        "detail": _detail(row, numbers),
        "cells": cells,
        "strip": strip_of(row, look),
        "apart": {True: "yes", False: "no", None: "unknown"}[row.told_apart],
        "verdict": _verdict(row),
        "same": _same(row),
    }


def _verdict(row: Row) -> str:
    if row.best is None:
        return "alike"
    return {True: "yes", False: "no", None: "cannot be said"}[row.told_apart]


def _same(row: Row) -> str:
    """Return the numbers of scenes and repeats in which the worst is not better than the best."""
    if row.between is None or row.told_apart is None:
        return ""
    counts = ((row.between.scenes, "scene"), (row.between.repeats, "repeat"))
    return "same order in " + ", ".join(f"{n} of {of} {what}{'s' if of > 1 else ''}" for (n, of), what in counts if of)


def _as_bad(row: Row, key: str, as_what: str | None) -> bool:
    """Return whether a contender gets the mark of the best or worst. Ties share it; untested rows have no marks."""
    if as_what is None or row.told_apart is None or key not in row.badness:
        return False
    return math.isclose(row.badness[key], row.badness[as_what], rel_tol=1e-9, abs_tol=1e-12)


def _detail(row: Row, numbers: Numbers, *, capital: bool = False) -> str:
    """Return the unit, the size of pixels where the measure depends on it, and which numbers are better."""
    words = [row.measure.shown_unit] if row.measure.unit else []
    if row.measure.by_pixel:
        words.append(f"on pixels of {numbers.pixel_m:g} m")
    said = ", ".join([*words, row.measure.direction(numbers.reference_of(row))])
    if not capital:
        return said
    return f"In {said}" if row.measure.unit else said.capitalize()


def _reading(numbers: Numbers) -> str:
    drawn = next((s.drawn for r in numbers.rows for s in r.spreads.values()), "blocks")
    ground = "other parts of these scenes" if drawn == "blocks" else "other scenes like these"
    words = (
        "Scores of pixels against the chart are means over scenes; all other numbers, those by polygon too, are of all "
        "test scenes together. Both are means over trainings. Tables of named scores and of polygons have means over "
        "scenes, and those of calibration pool the trainings, so their numbers differ. Below each number is its "
        f"{100 * LEVEL:.0f} % interval: where the number of these same trainings may lie on {ground}."
    )
    if max(numbers.repeats.values(), default=1) > 1:
        words += (
            " In the diagrams large marks are the numbers and small marks single trainings. ▲ marks the best and ▽ the "
            "worst, in dashed frames where their difference is not significant. It is significant where no scene and "
            "no repeat shows the opposite, and chance in training and in the ground would make losses that are equal "
            "on average differ as much, in any row and any pair, in at most "
            f"{100 * (1 - LEVEL):.0f} % of all comparisons."
        )
    return f"{words} Vertical lines in the diagrams are {_lines(numbers)}. {_REFERENCES[numbers.reference]}"


def _gone(run: RunFolder) -> str:
    """Return the sentence that explains why a truth that existed is not the reference; "" if none is missing."""
    gone = run.truths_gone
    if not gone:
        return ""
    names = ", ".join(s.short for s in gone)
    return f" The truth of {names} is missing where the comparison had it, so the charts are the reference."


#: Sentences about the reference.
_REFERENCES = {
    "chart": (
        "Maps are compared with charts, which are drawn by people and have errors of their own. The column of the "
        "chart itself has the numbers of a map that equals the chart: no map ranks better, except in partial "
        "concentrations, of which that map shows the dominant type only."
    ),
    "truth": (
        "Scores compare with the charts, from which the losses learn. All else compares with the truth from which the "
        "charts were drawn, known because the scenes are simulated: no map ranks better than the truth, and the "
        "chart’s column has the numbers of a map that equals the chart, that is, of the dominant types."
    ),
}


def _lines(numbers: Numbers) -> str:
    return "the chart’s own number" if numbers.reference == "chart" else "the chart’s number (dashed) and the truth’s"


def _published(run: RunFolder) -> str:
    summary = run.results["summary"]
    beside = {g["loss"]: g["published"] for g in summary["groups"] if not g["axes"]}
    found = [
        f"{c.title} {score['mean']:.3f} ({score['min']:.3f} to {score['max']:.3f})"
        for c in run.contenders
        if (score := beside.get(c.key)) is not None
    ]
    published = summary["published"]
    if not found or not published.get("comparable"):
        return ""
    return f"Published: {'; '.join(found)}; {published['what']} ({published['citation']})."


def _pictured(run: RunFolder, pictures: Pictures) -> list[str]:
    """Return the sentence that says which scenes have maps, if not all have."""
    shown, of = len(pictures.maps), len(run.scenes)
    if shown == of:
        return []
    how = "the one with the lowest and the one with the highest weighted F1, and others at equal steps between them"
    return [f"Maps of {shown} of {of} test scenes are shown: {how}. All numbers are of all scenes."]


def _scene(run: RunFolder, scene: Scene, pictures: Pictures) -> dict[str, Any]:
    entries = [{"title": f"{c.title} ({run.legend.letters[c.id]})", "rgb": c.rgb} for c in run.legend.classes] + [
        {"title": NO_CLASS, "rgb": LAND_RGB}
    ]
    errors = [{"title": title, "rgb": rgb} for title, rgb in ERRORS]
    maps = []
    for p in pictures.maps.get(scene.name, ()):
        kind = p.name.partition("_")[0]
        legends = {"map": [("Maps", entries), ("Errors", errors)], "closer": [("Maps", entries)]}
        n = len(p.panels)
        maps.append(
            {
                "name": p.name,
                "title": p.title,
                "caption": p.caption,
                "panels": [_panel(panel) for panel in p.panels],
                "flow": "pairs" if kind == "map" and n <= 10 else "row",
                "across": min(n, 4 if kind == "map" else 5),
                "legends": legends.get(kind, [("Areas", [{"title": t, "rgb": rgb} for t, rgb in p.legend])]),
            }
        )
    return {
        "name": scene.name,
        "title": scene.title,
        "short": scene.short,
        "facts": _about(scene),
        "maps": maps,
        "diagrams": [_diagram(p) for p in pictures.scene_diagrams.get(scene.name, ())],
    }


def _about(scene: Scene) -> str:
    about = scene.about.get("scene", {})
    words = [str(about.get("name", scene.product.name))]
    if direction := about.get("pass_direction"):
        words.append(f"{str(direction).lower()} pass")
    words.append(f"chart {scene.labels.name}")
    return " · ".join(words)


def _panel(panel: Any) -> dict[str, Any]:
    from PIL import Image

    with Image.open(io.BytesIO(panel.image)) as image:
        width, height = image.size
    return {
        "title": panel.title,
        "alt": panel.alt,
        "src": _data(panel.media, panel.image),
        "width": width,
        "height": height,
    }


def _diagram(picture: Picture) -> dict[str, Any]:
    return {
        "name": picture.name,
        "title": picture.title,
        "caption": picture.caption,
        "alt": picture.alt,
        "src": _data("image/svg+xml", picture.svg),
        "width": picture.size[0],
        "height": picture.size[1],
    }


def _data(media: str, content: bytes) -> str:
    return f"data:{media};base64,{base64.b64encode(content).decode('ascii')}"


#: Tables of scores with a place of their own on the page.
_ELSEWHERE = (VALUES, CALIBRATION, MISSING)


def _score_tables(run: RunFolder, only: str | None = None) -> list[Table]:
    """Return the tables of scores as `floemap compare` prints them: one, or those without a place of their own."""
    made = tables(run.results["summary"])
    return [t for t in made if (t.title.startswith(only) if only else not t.title.startswith(_ELSEWHERE))]


def _remarks(numbers: Numbers) -> list[str]:
    """Return cautions on intervals and reasons why some are missing, each with its measures unless it is for most."""
    said: dict[str, list[str]] = {}
    known = [r for r in numbers.rows if r.reason is None and r.spreads]
    for row in known:
        words = [w for s in row.spreads.values() for w in (*s.cautions, f"{s.reason}." if s.reason else "") if w]
        if row.between is not None and row.between.reason:
            words.append(f"{row.between.reason}.")
        for word in dict.fromkeys(words):
            said.setdefault(word[0].upper() + word[1:], []).append(row.measure.title)
    return [word if len(titles) > len(known) / 2 else f"{word} ({'; '.join(titles)})" for word, titles in said.items()]
