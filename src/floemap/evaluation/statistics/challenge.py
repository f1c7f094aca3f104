"""The AI4Arctic challenge's scores of a comparison: of all test scenes, and of those of one season, region and so on.

The pixels of all test scenes of a training are pooled, as the challenge does; mean and range are over repeats.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from floemap.datasets.ai4arctic.scenes import Ai4Scene, by_name, official
from floemap.evaluation.scoring.challenge import WEIGHTS, challenge_scores, counts_of
from floemap.evaluation.scoring.confusion import Confusion
from floemap.evaluation.scoring.scores import mean_and_range

#: A loss with its values of the axes, and its evaluations by repeat and scene.
Runs = tuple[str, Mapping[int, Mapping[str, Mapping[str, Any]]]]
#: Counts of a training by scene and chart.
_Counted = Mapping[str, Mapping[str, Confusion]]


def summarise_challenge(
    groups: Sequence[Runs], scenes: Sequence[str], splits: Iterable[Mapping[str, Any] | None] = ()
) -> dict[str, Any]:
    """Summarise the challenge's scores of a comparison.

    Parameters
    ----------
    groups
        Name and evaluations of each loss with its values of the axes. Only repeats with all scenes count.
    scenes
        Names of all test scenes.
    splits
        Content of split.json for each training; None where it is unknown.

    Returns
    -------
    dict
        ``losses``: for each loss, SIC, SOD, FLOE and combined (mean, min, max and number of repeats, None where not
        defined) under ``all``, and under ``by`` the same by season, region, ice service and satellite. ``why_not``: why
        published scores are not comparable, "" where they are. Empty if the scenes are not of AI4Arctic.

    Raises
    ------
    FloemapError
        If an evaluation cannot be read.
    """
    found: dict[str, Any] = {}
    for name, runs in groups:
        whole = [by_scene for _, by_scene in sorted(runs.items()) if set(by_scene) == set(scenes)]
        counted = [{s: counts_of(e) for s, e in by_scene.items()} for by_scene in whole]
        if not counted or any(c is None for by_scene in counted for c in by_scene.values()):
            continue
        known: list[_Counted] = [{s: c for s, c in by_scene.items() if c is not None} for by_scene in counted]
        found[name] = {
            "all": _pooled(known, scenes),
            "by": {
                facet: {group: _pooled(known, members) | {"scenes": len(members)} for group, members in groups_.items()}
                for facet, groups_ in facets(scenes).items()
            },
        }
    if not found:
        return {}
    every = [e for _, runs in groups for by_scene in runs.values() for e in by_scene.values()]
    return {"losses": found, "why_not": why_not_comparable(every, splits, scenes)}


def facets(scenes: Sequence[str]) -> dict[str, dict[str, list[str]]]:
    """Return the names of scenes by season, region, ice service and satellite; scenes of other names are left out."""
    found: dict[str, dict[str, list[str]]] = {}
    for name in scenes:
        known = by_name().get(name.partition("-")[0])
        if known is None:
            continue
        for facet, group in _facets_of(known[0]).items():
            found.setdefault(facet, defaultdict(list))[group].append(name)
    return {facet: dict(sorted(groups.items())) for facet, groups in found.items()}


def _facets_of(scene: Ai4Scene) -> dict[str, str]:
    return {
        "season": scene.season,
        "region": "none of the groups" if scene.group is None else f"group {scene.group}",
        "ice service": scene.service.upper(),
        "satellite": scene.mission,
    }


def _pooled(trainings: Sequence[_Counted], scenes: Sequence[str]) -> dict[str, Any]:
    """Return the scores of the pixels of these scenes, pooled for each training."""
    each = []
    for counted in trainings:
        charts: dict[str, list[Confusion]] = {
            chart: [counted[s][chart] for s in scenes if chart in counted[s]] for chart in WEIGHTS
        }
        each.append(challenge_scores({chart: counts for chart, counts in charts.items() if counts}))
    named = {"SIC": [s.sic for s in each], "SOD": [s.sod for s in each], "FLOE": [s.floe for s in each]}
    named["combined"] = [s.combined for s in each]
    return {name: mean_and_range(values) for name, values in named.items()}


def why_not_comparable(
    evaluations: Iterable[Mapping[str, Any]],
    splits: Iterable[Mapping[str, Any] | None],
    scenes: Sequence[str],
) -> str:
    """Return why published scores are not comparable with these; "" where they are."""
    if any(e.get("simulated", True) for e in evaluations):
        return "the scenes are simulated"
    if set(scenes) != {s.name for s in official()["test"]}:
        return "the test scenes are not the 20 official ones"
    learnt = {s.name for s in official()["train"]}
    for split in splits:
        if split is None:
            return "it is not known which scenes each model learnt from"
        if any(part["role"] != "test" and part["scene"]["name"] not in learnt for part in split["parts"]):
            return "models learnt from other scenes than the official ones"
    return ""
