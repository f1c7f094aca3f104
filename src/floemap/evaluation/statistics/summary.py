"""The summary of the evaluations of many cells (loss x repeat x scene): means with their range, and pooled counts.

The mean over scenes and repeats is the published protocol's. A mean over the cells that happen to exist would favour a
loss whose failed cell was the harder scene. So only whole repeats, those with all scenes, are averaged, and the summary
lists every missing cell. Summaries do not depend on the order of the evaluations.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from floemap.errors import MISSHAPEN, ConfigError, FloemapError, known_names
from floemap.evaluation.scoring.confusion import Confusion, pooled
from floemap.evaluation.scoring.named_scores import PRIMARY
from floemap.evaluation.scoring.published import CITATION, SETTING, published, why_not_comparable
from floemap.evaluation.scoring.scores import OVERALL, mean, mean_and_range, scores
from floemap.evaluation.statistics.challenge import summarise_challenge
from floemap.evaluation.statistics.values import summarise_values
from floemap.results.stage import is_newer

#: Axes that name the scene held out from training. They do not define groups, because the test scene identifies it.
HELD_OUT = ("held_out", "split.held_out")
#: Titles of losses, in the order of tables; losses without a title follow, by name.
LOSS_TITLES = {
    "cross_entropy": "Cross-entropy",
    "dice": "Dice",
    "generalized_dice": "Generalised Dice",
    "macro_dice": "Macro Dice",
    "pooled_dice": "Pooled Dice",
    "focal": "Focal",
    "label_smoothing": "Label smoothing",
    "cross_entropy_dice": "Cross-entropy + Dice",
    "tversky": "Tversky",
    "focal_tversky": "Focal Tversky",
    "lovasz_softmax": "Lovász-softmax",
    "earth_mover": "Earth mover's distance",
    "soft_cross_entropy": "Soft cross-entropy on shares",
    "partial_label": "Partial labels",
    "region": "Region",
    "region_pixel": "Region + pixel",
}
#: Words for changes of a variant whose key does not say enough.
_CHANGES = {"loss.class_weights": "classes weighted:", "crops.border_px": "without pixels beside borders, px:"}


def loss_title(loss: str, configuration: Mapping[str, Any]) -> str:
    """Return the title of a loss, or of a variant: its own, or one made from what it changes.

    Parameters
    ----------
    loss
        Name of a loss or of a variant.
    configuration
        The study's settings, as results.json has them.
    """
    variant = (configuration.get("compare") or {}).get("variants", {}).get(loss)
    if variant is None:
        return LOSS_TITLES.get(loss, loss.replace("_", " "))
    if "title" in variant:
        return str(variant["title"])
    name = str(variant.get("loss.name") or (configuration.get("loss") or {}).get("name", loss))
    words = [LOSS_TITLES.get(name, name.replace("_", " "))]
    for key, value in variant.items():
        if key != "loss.name":
            what = _CHANGES.get(key, key.rpartition(".")[2].replace("_", " "))
            plain = json.dumps(value).strip('"').replace("_", " ")
            words.append(what if value is True else f"no {what}" if value is False else f"{what} {plain}")
    return ", ".join(words)


#: What trainings are summarised by: the loss, and the values of further axes by name, in order.
GroupKey = tuple[str, tuple[tuple[str, Any], ...]]

NOTE_SIMULATED = (
    "SIMULATED scenes: these scores show that the method works, not how well it does on real ice. They are not "
    "comparable with published ones."
)
NOTE_REAL = "A chart is one analyst's reading, not the truth."


@dataclass(frozen=True)
class _Cell:
    """One scene predicted by one training, or the reason why its evaluation is missing."""

    group: GroupKey
    repeat: int
    scene: str | None
    name: str
    evaluation: Mapping[str, Any] | None
    why: str
    split: Mapping[str, Any] | None = None

    def missing(self, scene: str | None) -> dict[str, Any]:
        return {
            "cell": self.name,
            "loss": self.group[0],
            "axes": dict(self.group[1]),
            "repeat": self.repeat,
            "scene": scene,
            "why": self.why,
        }


Group = dict[int, dict[str, Mapping[str, Any]]]  # evaluations by repeat and scene


def summarise(records: Iterable[Mapping[str, Any]], *, order_by: str | None = None) -> dict[str, Any]:
    """Summarise the evaluations of a comparison.

    Parameters
    ----------
    records
        One record for each scene that each training should have predicted, in any order: ``loss``, ``repeat``,
        ``scene``, ``evaluation`` (the content of evaluation.json, or None where it failed), and optionally ``axes``
        (further settings that were varied, by name), ``cell`` (the cell's name), ``failed`` (the reason of a failure),
        ``split`` (the content of the training's split.json). A training that failed before any scene may have the
        scene None. The summary has published scores for losses whose scenes, legend and split are the published ones.
    order_by
        Score by whose primary mean the groups are ordered, best first: weighted_f1, macro_f1, accuracy or kappa. By
        default groups are ordered by loss.

    Returns
    -------
    dict
        The summary, JSON-ready; ``docs/scores.md`` describes it, and
        :func:`floemap.evaluation.scoring.tables.tables` shows it.

    Raises
    ------
    ConfigError
        If there is no record, one lacks a key or occurs twice, legends differ, or a scene was scored against different
        labels.
    FloemapError
        If an evaluation cannot be read.
    """
    cells = [_cell(r) for r in records]
    if not cells:
        raise ConfigError("there is no evaluation to summarise.")
    if order_by is not None and order_by not in OVERALL:
        raise ConfigError(f"the table cannot be ordered by {order_by!r}.", hint=known_names(order_by, OVERALL))
    groups = _grouped(cells)
    evaluated = [e for runs in groups.values() for by_scene in runs.values() for e in by_scene.values()]
    legend = _one_legend(evaluated)
    keys = [legend["classes"][i] for i in range(len(legend["classes"]))] if legend else []
    scenes = sorted({c.scene for c in cells if c.scene is not None})
    repeats = sorted({c.repeat for c in cells})
    _check_labels(groups)
    names = _names(evaluated)
    missing = _missing(cells, groups, scenes, repeats)
    not_comparable = {
        g: why_not_comparable(
            (e for by_scene in groups[g].values() for e in by_scene.values()),
            (c.split for c in cells if c.group == g and c.evaluation is not None),
        )
        for g in groups
    }
    summaries = [
        _summary(g, groups[g], scenes, repeats, names, keys) | {"published": _beside(g[0], not_comparable[g])}
        for g in sorted(groups, key=_order)
    ]
    if order_by is not None and PRIMARY in names:
        summaries.sort(key=lambda s: -_best_first(s, order_by))
    values = summarise_values([(name_of(g), groups[g]) for g in sorted(groups, key=_order)], scenes)
    splits = [c.split for c in cells if c.evaluation is not None]
    challenge = summarise_challenge([(name_of(g), groups[g]) for g in sorted(groups, key=_order)], scenes, splits)
    simulated = sorted({s for g in groups.values() for r in g.values() for s, e in r.items() if e.get("simulated")})
    return {
        "simulated": bool(simulated),
        "simulated_scenes": simulated,
        "note": NOTE_SIMULATED if simulated else NOTE_REAL,
        "legend": legend,
        "axes": sorted({axis for _, axes in groups for axis, _ in axes}),
        "scenes": scenes,
        "repeats": repeats,
        "missing": missing,
        "scores_left_out": _left_out(evaluated, names),
        "groups": summaries,
        "published": {
            "citation": CITATION,
            "what": SETTING,
            "comparable": any(s["published"] is not None for s in summaries),
            "why_not": sorted({why for g, why in not_comparable.items() if why and published(g[0]) is not None}),
        },
        **({"values": values} if values else {}),
        **({"challenge": challenge} if challenge else {}),
    }


def group_of(record: Mapping[str, Any]) -> GroupKey:
    """Return what a training is summarised by, from a record with ``loss`` and, where there are any, ``axes``."""
    axes = (record.get("axes") or {}).items()
    return str(record["loss"]), tuple(sorted((k, v) for k, v in axes if k not in HELD_OUT))


def name_of(group: GroupKey) -> str:
    """Return the name of a loss with its values of the axes."""
    loss, axes = group
    return ", ".join([loss, *(f"{k} {v}" for k, v in axes)])


def _cell(record: Mapping[str, Any]) -> _Cell:
    try:
        group, repeat, scene = group_of(record), int(record["repeat"]), record["scene"]
        evaluation = record["evaluation"]
    except MISSHAPEN as e:
        raise ConfigError(f"a record of a cell lacks loss, repeat, scene or evaluation: {e!r}.") from e
    name = str(record.get("cell") or f"{name_of(group)}, repeat {repeat}")
    if evaluation is not None and scene is None:
        raise ConfigError(f"the record of {name} has an evaluation of no scene.")
    if evaluation is not None and not isinstance(evaluation, Mapping):
        raise ConfigError(f"the evaluation of {name}, scene {scene}, is a {type(evaluation).__name__}.")
    if evaluation is not None and is_newer(evaluation):
        raise FloemapError(
            f"the evaluation of {name}, scene {scene}, was written by a newer floemap.", hint="Update floemap."
        )
    why = str(record.get("failed") or "no evaluation")
    return _Cell(group, repeat, None if scene is None else str(scene), name, evaluation, why, record.get("split"))


def _grouped(cells: Sequence[_Cell]) -> dict[Any, Group]:
    """Return evaluations by group, repeat and scene, including groups without any evaluation."""
    groups: dict[Any, Group] = {}
    seen = set()
    for c in cells:
        place = (c.group, c.repeat, c.scene)
        if place in seen:
            raise ConfigError(f"scene {c.scene} of {c.name} occurs twice.")
        seen.add(place)
        runs = groups.setdefault(c.group, {})
        if c.evaluation is not None and c.scene is not None:
            runs.setdefault(c.repeat, {})[c.scene] = c.evaluation
    return groups


def _one_legend(evaluated: Sequence[Mapping[str, Any]]) -> dict[str, Any] | None:
    """Return the legend of all evaluations, with keys of classes by id."""
    found = {}
    for e in evaluated:
        classes = {int(i): key for i, key in e["legend"]["classes"].items()}
        table = {key: e["legend"][key] for key in ("table",) if key in e["legend"]}
        legend = {"name": e["legend"]["name"], "classes": dict(sorted(classes.items()))} | table
        found[tuple(sorted(classes.items()))] = legend
    if len(found) > 1:
        raise ConfigError(f"the evaluations have different classes: {[list(dict(f).values()) for f in found]}.")
    return next(iter(found.values()), None)


def _check_labels(groups: Mapping[Any, Group]) -> None:
    """Raise an error if losses were scored against different labels of one scene."""
    seen: dict[str, tuple[int, ...]] = {}
    for (loss, _), runs in groups.items():
        for repeat, by_scene in runs.items():
            for scene, evaluation in by_scene.items():
                pixels = tuple(_confusion(evaluation, PRIMARY).reference_pixels.tolist())
                if seen.setdefault(scene, pixels) != pixels:
                    raise ConfigError(
                        f"scene {scene} of {loss}, repeat {repeat}, was scored against other labels than elsewhere.",
                        hint="Evaluate all cells again with the same labels.",
                    )


def _confusion(evaluation: Mapping[str, Any], name: str) -> Confusion:
    try:
        return Confusion.from_dict(evaluation["scores"][name])
    except MISSHAPEN as e:
        raise FloemapError(f"an evaluation has no counts of the score {name}: {e!r}.") from e


def _names(evaluated: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return the named scores that every evaluation has, in the order of the first."""
    return [n for n in evaluated[0]["scores"] if all(n in e["scores"] for e in evaluated)] if evaluated else []


def _left_out(evaluated: Sequence[Mapping[str, Any]], names: Sequence[str]) -> dict[str, str]:
    """Return the reasons why named scores are not in the summary."""
    why: dict[str, str] = {}
    for e in evaluated:
        why |= dict.fromkeys((n for n in e["scores"] if n not in names), "some scenes lack it")
        why |= {n: str(reason) for n, reason in e.get("absent", {}).items() if n not in why}
    return dict(sorted(why.items()))


def _missing(
    cells: Sequence[_Cell], groups: Mapping[Any, Group], scenes: Sequence[str], repeats: Sequence[int]
) -> list[dict[str, Any]]:
    """Return every scene that a training should have predicted but that has no evaluation, with the reason."""
    said = {(c.group, c.repeat, c.scene): c for c in cells if c.evaluation is None}
    named = {(c.group, c.repeat): c.name for c in cells}
    missing = []
    for group in sorted(groups, key=_order):
        for repeat in repeats:
            there = groups[group].get(repeat, {})
            whole = said.get((group, repeat, None))
            for scene in scenes:
                if scene not in there:
                    name = named.get((group, repeat), f"{name_of(group)}, repeat {repeat}")
                    cell = said.get((group, repeat, scene)) or whole
                    cell = cell or _Cell(group, repeat, scene, name, None, "was not run, or left nothing")
                    missing.append(cell.missing(scene))
            if whole is not None and not scenes:
                missing.append(whole.missing(None))
    return missing


def _summary(
    group: Any, runs: Group, scenes: Sequence[str], repeats: Sequence[int], names: Sequence[str], keys: Sequence[str]
) -> dict[str, Any]:
    """Return the summary of one loss with its values of the axes."""
    loss, axes = group
    whole = [r for r in sorted(runs) if set(runs[r]) == set(scenes)]
    summary: dict[str, Any] = {
        "loss": loss,
        "axes": dict(axes),
        "cells": {
            "expected": len(scenes) * len(repeats),
            "scored": sum(len(by_scene) for by_scene in runs.values()),
            "averaged": len(scenes) * len(whole),
        },
        "whole_repeats": whole,
        "scores": {n: _score(n, runs, whole, scenes, keys) for n in names},
    }
    if (polygons := _polygons(runs, whole, scenes)) is not None:
        summary["polygons"] = polygons
    if whole and all("agreement" in runs[r][s] for r in whole for s in scenes):
        counts = [runs[r][s]["agreement"] for r in whole for s in scenes]
        summary["agreement"] = {k: sum(int(c[k]) for c in counts) for k in counts[0]}
    return summary


#: Scores by polygon in the summary, with their place in an evaluation's entry "polygons".
BY_POLYGON: Mapping[str, tuple[str, ...]] = {
    "error_of_shares": ("error_of_shares",),
    "dominant_50": ("dominant", "50", "right_by_area"),
    "dominant_65": ("dominant", "65", "right_by_area"),
    "truth_in_mixed": ("truth_in_mixed", "accuracy"),
}


def _polygons(runs: Group, whole: Sequence[int], scenes: Sequence[str]) -> dict[str, Any] | None:
    """Return the scores by polygon of one loss, means over whole repeats; None where an evaluation has none."""
    every = [runs[r][s].get("polygons") for r in whole for s in scenes]
    found = [e for e in every if isinstance(e, Mapping)]
    if not found or len(found) < len(every):
        return None
    classes = [key for key in found[0]["shares"] if all(key in e["shares"] for e in found)]
    return {name: mean_and_range([_at(e, path) for e in found]) for name, path in BY_POLYGON.items()} | {
        "shares": {
            key: {n: mean_and_range([e["shares"][key][n] for e in found]) for n in found[0]["shares"][key]}
            for key in classes
        }
    }


def _at(entry: Any, path: Sequence[str]) -> float | None:
    for key in path:
        entry = entry.get(key) if isinstance(entry, Mapping) else None
    return None if entry is None else float(entry)


def _beside(loss: str, why_not: str) -> dict[str, Any] | None:
    """Return the published score of a loss, if it is comparable."""
    found = published(loss)
    return None if found is None or why_not else found.as_dict()


def _score(name: str, runs: Group, whole: Sequence[int], scenes: Sequence[str], keys: Sequence[str]) -> dict[str, Any]:
    """Return one named score of one loss: the range of each overall score, also by scene, and pooled pixels."""
    confusions = {(r, s): _confusion(e, name) for r, by_scene in runs.items() for s, e in by_scene.items()}
    computed = {place: scores(c) for place, c in confusions.items()}
    result: dict[str, Any] = {"by_scene": {s: {} for s in scenes}}
    for metric in OVERALL:
        value = {place: getattr(c, metric) for place, c in computed.items()}
        # A repeat counts where the score is defined in all scenes.
        defined = [r for r in whole if all(value[r, s] is not None for s in scenes)]
        overall = mean_and_range([value[r, s] for r in defined for s in scenes])
        if overall is not None:
            overall["repeats"] = mean_and_range([mean([value[r, s] for s in scenes]) for r in defined])
        result[metric] = overall
        for s in scenes:
            result["by_scene"][s][metric] = mean_and_range([value[r, s] for r in sorted(runs) if (r, s) in value])
    if whole:
        total = pooled([confusions[r, s] for r in whole for s in scenes])
        result["pooled"] = total.as_dict() | {"scores": scores(total).as_dict(keys)}
    else:
        result["pooled"] = None
    return result


def _order(group: Any) -> tuple[Any, ...]:
    """Return the sort key of a group: losses in the order of their titles, then by name; values of axes by size."""
    loss, axes = group
    rank = [*LOSS_TITLES, loss].index(loss)
    values = tuple((k, (0, v, "") if isinstance(v, int | float) else (1, 0, str(v))) for k, v in axes)
    return rank, loss, values


def _best_first(summary: Mapping[str, Any], metric: str) -> float:
    found = summary["scores"][PRIMARY][metric]
    return float("-inf") if found is None else float(found["mean"])
