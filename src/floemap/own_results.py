"""Descriptions of the folders that floemap makes, from their records: labels, predictions, charts, trainings, others.

Each command leaves a JSON record in the folder of its result. Records may be edited or of other versions: a field that
is missing or of another type is left out of the description, and never an error.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from floemap.chart_summary import chart_summary, summary_lines
from floemap.counts import counted
from floemap.errors import MISSHAPEN, FloemapError
from floemap.grid import crs_in_words
from floemap.results.fields import at
from floemap.results.stage import read_json

Lines = list[tuple[str, str]]
#: Fields of a training's best epoch that are shown.
_SHOWN = ("validation_loss", "weighted_f1", "macro_f1")
#: Files of results that their records do not list.
_BESIDE = ("SIMULATED.txt", "results.md", "split.json", "state.pt")
#: Kinds of results that are always simulated.
_SIMULATED = ("Simulated dataset", "Truth of a simulated scene", "Simulated AI4Arctic scene")
#: Origins of labels in words, by kind.
_ORIGINS = {
    "draft": "a draft that no analyst has corrected",
    "correction": "an analyst's correction of a draft",
    "published": "an analyst's published correction of a draft",
}
#: A draft chart's spots to review first: polygons, but not an ice chart.
_SPOTS = "review.gpkg"


def describe_result(path: Path) -> tuple[dict[str, Any], Lines] | None:
    """Describe a folder that a command has made, or a file in one.

    Returns
    -------
    Facts, JSON-ready, and lines for people, (name, words); None if no command has made it.

    Raises
    ------
    FloemapError
        If the record cannot be read.
    """
    nearest = path if path.is_dir() else path.parent
    for folder in (nearest, *list(nearest.parents)[:2]):
        name = next((n for n in _KINDS if (folder / n).is_file()), None)
        if name is None:
            continue
        try:
            record = read_json(folder / name)
        except FloemapError:
            if path in (folder, folder / name):
                raise
            continue  # a file beside a damaged record is described by itself
        if path != folder and not _is_part(path.relative_to(folder).as_posix(), record):
            continue
        kind, lines_of = _KINDS[name]
        simulated = kind in _SIMULATED or _simulated(record)
        lines = [(kind, f"{folder.resolve().name}{', SIMULATED' if simulated else ''}")]
        made = [str(record[key]) for key in ("made_by", "software", "created") if key in record]
        lines += [("Made by", ", ".join(made))] if made else []
        try:
            lines += [line for line in lines_of(record) if line[1]]
        except ArithmeticError:  # from numbers too large to compute with
            lines.append(("Record", "contains numbers out of range"))
        except MISSHAPEN as e:  # records may have been edited, so anything may stand there
            lines.append(("Record", f"has a value of the wrong kind: {e}"))
        return {"kind": kind.lower(), "path": str(folder), "simulated": simulated, "record": record}, lines
    return None


def _is_part(inside: str, record: Mapping[str, Any]) -> bool:
    """Whether a file or folder within a result belongs to it and is not a chart, which is described by itself."""
    chart = inside.lower().endswith((".gpkg", ".shp", ".geojson", ".gml")) and inside != _SPOTS
    own = (*_KINDS, *_BESIDE, *at(record, "bytes", {}))
    return not chart and any(name == inside or str(name).startswith(f"{inside}/") for name in own)


def _simulated(record: Mapping[str, Any]) -> bool:
    said = (at(record, key) for key in ("simulated", "chart.simulated", "summary.simulated"))
    return any(value in (True, "yes") for value in said)


def _text(record: Any, key: str, default: str = "") -> str:
    """Return the value at a dotted key as text."""
    value = at(record, key)
    return default if value is None else str(value)


def _pixels(record: Mapping[str, Any]) -> Lines:
    """Return the legend, and the share of each class and of pixels without one."""
    pixels = {k: n for k, n in at(record, "pixels", {}).items() if isinstance(n, int) and n >= 0}
    total = sum(pixels.values())
    shares = [f"{name.replace('_', ' ')} {n / total:.1%}" for name, n in pixels.items() if total]
    return [("Legend", _text(record, "legend.name")), ("Pixels", ", ".join(shares))]


def _grid(record: Mapping[str, Any]) -> str:
    """Return shape, pixel size and CRS of a grid, in words."""
    shape, transform = at(record, "grid.shape", []), at(record, "grid.transform", [])
    if len(shape) != 2 or not transform:
        return "not recorded"
    return f"{shape[0]} x {shape[1]} px of {transform[0]:g} m in {crs_in_words(_text(record, 'grid.crs'))}"


def _labels(record: Mapping[str, Any]) -> Lines:
    decided, numbered = at(record, "decisions", {}), at(record, "polygons_in_table", 0)
    drawn = _text(record, "chart.polygons", "")  # AI4Arctic's ready-to-train files have none
    origin = {k: _text(record, f"origin.{k}") for k in ("kind", "analyst", "model", "product")}
    of = ", ".join(f"{k} {v}" for k, v in origin.items() if v and k != "kind")
    return [
        ("Chart", _text(record, "chart.file") + (f", {drawn} polygon{'' if drawn == '1' else 's'}" if drawn else "")),
        ("Origin", f"{_ORIGINS.get(origin['kind'], origin['kind'])}: {of}" if origin["kind"] else ""),
        ("Grid of", f"{', '.join(map(str, at(record, 'inputs.like', {})))}, {_grid(record)}"),
        ("Polygons on the grid", f"{numbered}, in polygons.csv" if numbered else ""),
        *_pixels(record),
        ("Decided by", ", ".join(f"{str(rule).replace('_', ' ')} {n}" for rule, n in decided.items())),
    ]


def _layer(record: Mapping[str, Any]) -> Lines:
    inside, having = at(record, "pixels.scene", 0), at(record, "pixels.with_value", 0)
    band = f"{_text(record, 'layer.name', '?')}, {_text(record, 'layer.unit')}"
    gaps = f"{1 - having / inside:.1%} of the scene" if inside else ""
    return [
        ("Band", f"{band}, in steps of {_text(record, 'layer.step', '?')}"),
        ("Values", f"{_text(record, 'smallest', '?')} to {_text(record, 'largest', '?')}"),
        ("Gaps", f"{gaps}; meaning: {_text(record, 'layer.missing', '?')}"),
        ("Grid", _grid(record)),
    ]


def _prediction(record: Mapping[str, Any]) -> Lines:
    return [("Product", _text(record, "product.name")), ("Model", _text(record, "model.file")), *_pixels(record)]


def _chart(record: Mapping[str, Any]) -> Lines:
    return [
        ("Status", _text(record, "status")),
        ("Product", _text(record, "product.file")),
        ("Models", ", ".join(_text(model, "file") for model in at(record, "models", []))),
        ("Land mask", _text(record, "land.land_mask")),
        *_pixels(record),
        *summary_lines(chart_summary(record)),
    ]


def _published(record: Mapping[str, Any]) -> Lines:
    repaired = at(record, "repaired", [])
    return [
        ("Status", _text(record, "status")),
        ("Analyst", _text(record, "analyst")),
        ("Valid", _text(record, "valid")),
        ("Corrects", _text(record, "correction_of.product", _text(record, "correction_of.draft"))),
        ("Model of the draft", _text(record, "correction_of.model")),
        ("Changes", _changes(record)),
        ("Repaired", f"{counted(len(repaired), 'problem')}, listed in publication.json" if repaired else ""),
        *summary_lines(chart_summary(record)),
    ]


def _changes(record: Mapping[str, Any]) -> str:
    """Return what was changed from the draft to the published chart, in words."""
    shares = [at(record, f"changes.total.other_{what}_share") for what in ("type", "egg")]
    if not all(isinstance(share, float) for share in shares):
        return ""
    counts = {str(k): n for k, n in at(record, "changes.polygons", {}).items() if isinstance(n, int)}
    moved = sum(n for name, n in counts.items() if name.startswith("moved"))
    words = f"{shares[0]:.1%} of the draft's area at sea has another type, {shares[1]:.1%} another egg; "
    words += f"{counted(moved, 'polygon')} moved, {counts.get('new', 0)} new, {counts.get('removed', 0)} removed"
    minutes = at(record, "changes.minutes")
    return words + (f"; {minutes:g} minutes" if isinstance(minutes, int | float) else "")


def _bundle(record: Mapping[str, Any]) -> Lines:
    made, moved = at(record, "files", {}), at(record, "simplification.ice_edge_moved_m.mean")
    tolerance, changed = (at(record, f"simplification.{key}") for key in ("tolerance_m", "changed_share"))
    numbers = all(isinstance(v, int | float) for v in (tolerance, changed))
    words = f"tolerance {tolerance:g} m, {changed:.1%} of the area has another type" if numbers else ""
    words += f", the ice edge moved {moved:.0f} m on average" if numbers and isinstance(moved, int | float) else ""
    size = at(record, "zip_bytes")
    return [
        ("Status", _text(record, "status")),
        ("Valid", _text(record, "valid")),
        ("Source", _text(record, "source")),
        ("Area", _text(record, "area")),
        ("Zip", f"{size:,} bytes" if isinstance(size, int) else ""),
        ("Simplified", words),
        ("Files", ", ".join(f"{name} {at(entry, 'bytes', 0):,}" for name, entry in made.items())),
    ]


def _monitoring(record: Mapping[str, Any]) -> Lines:
    total = {k: at(record, f"total.{k}") for k in ("charts", "km2", "other_type_share", "other_egg_share")}
    if not all(isinstance(v, int | float) for v in total.values()):
        return []
    words = f"{total['other_type_share']:.1%} another type, {total['other_egg_share']:.1%} another egg"
    return [
        ("Published charts", f"{total['charts']}, {total['km2']:,.0f} km²"),
        ("Changed", words),
        ("Without a draft", ", ".join(map(str, at(record, "without_draft", [])))),
    ]


def _mosaic(record: Mapping[str, Any]) -> Lines:
    scenes = [s for s in at(record, "scenes", []) if isinstance(s, Mapping)]
    lines = [("Status", _text(record, "status")), ("Prefers", _text(record, "configuration.prefer"))]
    return [
        *lines,
        *((f"  {s.get('product', '')}", f"{s.get('start', '')}, {s.get('cells', '')} cells") for s in scenes),
    ]


def _route(record: Mapping[str, Any]) -> Lines:
    nm = {k: at(record, f"total.nm_by_level.{k}") for k in ("normal", "elevated", "special")}
    lengths = ", ".join(f"{v:.1f} nm {k}" for k, v in nm.items() if isinstance(v, int | float))
    leg, lowest = _text(record, "worst_leg.leg"), at(record, "worst_leg.rio_worst")
    number, name = f"leg {leg}", _text(record, "worst_leg.name")
    worst = (number if name in ("", number) else f"{number} ({name})") if leg else ""
    return [
        ("Status", _text(record, "status")),
        ("Route", f"{_text(record, 'route')} in {_text(record, 'chart')}, {_text(record, 'chart_status')}"),
        ("Ice class", _text(record, "ice_class_title")),
        ("Levels", lengths),
        ("Worst", f"{worst}, RIO {lowest:.1f}" if worst and isinstance(lowest, int | float) else worst),
        *(("Warning", str(words)) for words in at(record, "warnings", [])),
    ]


def _scores(record: Mapping[str, Any]) -> Lines:
    lines = [("Scene", _text(record, "scene"))]
    for name, entry in at(record, "scores", {}).items():
        f1 = at(entry, "scores.weighted_f1")
        lines.append((f"  {name}", f"weighted F1 {f1:.3f}" if isinstance(f1, float) else ""))
    return lines


def _training(record: Mapping[str, Any]) -> Lines:
    best = at(record, "best", {})
    scores = [f"{name.replace('_', ' ')} {best[name]:.4g}" for name in _SHOWN if isinstance(best.get(name), float)]
    return [
        ("Legend", _text(record, "legend")),
        ("Epochs", f"{_text(record, 'epochs', '?')}; reason for the end: {_text(record, 'stopped', 'not recorded')}"),
        ("Kept", ", ".join([f"the weights of epoch {best['epoch']}", *scores]) if "epoch" in best else ""),
    ]


def _cell(record: Mapping[str, Any]) -> Lines:
    return [
        ("Loss", f"{_text(record, 'loss', '?')}, training {_text(record, 'repeat', '?')}"),
        ("Test scenes", ", ".join(_text(entry, "scene") for entry in at(record, "tested", []))),
    ]


def _comparison(record: Mapping[str, Any]) -> Lines:
    lines = [
        ("Study", _text(record, "study", _text(record, "configuration.name"))),
        ("Cells", ", ".join(_text(cell, "cell") for cell in at(record, "cells", []))),
    ]
    for group in at(record, "summary.groups", []):
        f1 = at(group, "scores.primary.weighted_f1.mean")
        words = f"weighted F1 {f1:.3f}" if isinstance(f1, float) else "scores in results.json"
        lines.append((f"  {_text(group, 'loss', 'loss')}", words))
    return [*lines, ("Failed", ", ".join(map(str, at(record, "failed", {}))))]


def _archive(record: Mapping[str, Any]) -> Lines:
    states = {k: n for k, n in at(record, "scenes", {}).items() if isinstance(n, int)}
    return [
        ("Products", ", ".join(f"{n} {state}" for state, n in states.items())),
        ("Failed", ", ".join(map(str, at(record, "failed", [])))),
    ]


def _report(record: Mapping[str, Any]) -> Lines:
    return [("Finding", str(sentence)) for sentence in at(record, "findings", [])]


def _twin(record: Mapping[str, Any]) -> Lines:
    size, seed = (_text(record, f"configuration.{key}", "?") for key in ("size", "seed"))
    return [("Size", f"{size}, seed {seed}")]


def _plain(record: Mapping[str, Any]) -> Lines:
    return [("Scene", at(record, "scene", ""))]


#: Kinds of result folders by the name of their record, each with the function that describes it. The first record that
#: a folder has decides.
_KINDS: Mapping[str, tuple[str, Callable[[Mapping[str, Any]], Lines]]] = {
    "label.json": ("Labels", _labels),
    "layer.json": ("Layer", _layer),
    "chart.json": ("Draft chart", _chart),
    "mosaic.json": ("Mosaic", _mosaic),
    "publication.json": ("Published chart", _published),
    "route.json": ("Risk along a route", _route),
    "bundle.json": ("Bundle for a ship", _bundle),
    "monitor.json": ("Changes to many drafts", _monitoring),
    "archive.json": ("Archive of draft charts", _archive),
    "prediction.json": ("Prediction", _prediction),
    "evaluation.json": ("Scores", _scores),
    "cell.json": ("Cell of a comparison", _cell),
    "results.json": ("Comparison", _comparison),
    "plan.json": ("Comparison that is not finished", _comparison),
    "training.json": ("Training", _training),
    "checks.json": ("Physical checks", _plain),
    "report.json": ("Report", _report),
    "view.json": ("Map for web servers", _plain),
    "part.json": ("Part of a scene", _plain),
    "twin.json": ("Simulated dataset", _twin),
    "truth.json": ("Truth of a simulated scene", _plain),
    "scene.json": ("Simulated AI4Arctic scene", _plain),
    "product.json": ("Prepared product", _plain),
    "fetch.json": ("Fetched dataset", _plain),
    "info.json": ("Description", _plain),
}
#: Names of the records.
RECORDS = tuple(_KINDS)
