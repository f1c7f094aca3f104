"""The summary of predicted values over many cells: scores with intervals, and differences between losses."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from itertools import combinations
from typing import Any

import numpy as np

from floemap.errors import MISSHAPEN, FloemapError
from floemap.evaluation.statistics.bootstrap import SceneBlocks, resample
from floemap.evaluation.statistics.compare import difference
from floemap.evaluation.statistics.spread import spread
from floemap.moments import MOMENTS, VALUE_SCORES, value_scores

#: The score by which losses are compared: lower is better.
COMPARED = "rmse"

#: A loss with its values of the axes, and its evaluations by repeat and scene.
Runs = tuple[str, Mapping[int, Mapping[str, Mapping[str, Any]]]]


def summarise_values(groups: Sequence[Runs], scenes: Sequence[str]) -> dict[str, Any]:
    """Summarise the scores of values of a comparison.

    Parameters
    ----------
    groups
        Name and evaluations of each loss with its values of the axes. Only repeats with all scenes count.
    scenes
        Names of all scenes.

    Returns
    -------
    dict
        By head, and by reference (chart, truth): for each loss that has the head, its scores with their intervals, and
        the differences in RMSE between each two losses. Empty if no model predicts a value.

    Raises
    ------
    FloemapError
        If an evaluation cannot be read.
    GridError
        If losses were scored on different blocks.
    """
    found: dict[str, Any] = {}
    evaluated = [e for _, runs in groups for by_scene in runs.values() for e in by_scene.values()]
    try:
        heads = {name: head for e in evaluated for name, head in e.get("values", {}).items()}
        for name, head in heads.items():
            found[name] = {"target": head["target"], "unit": head["unit"]}
            for reference in ("chart", "truth"):
                if compared := _compared(groups, scenes, name, reference):
                    found[name][reference] = compared
    except MISSHAPEN as e:
        raise FloemapError(f"an evaluation has no readable scores of values: {e!r}.", hint="Evaluate again.") from e
    return found


def _compared(groups: Sequence[Runs], scenes: Sequence[str], head: str, reference: str) -> dict[str, Any] | None:
    """Return scores and differences of all losses whose evaluations have this head and reference."""
    losses: dict[str, list[SceneBlocks]] = {}
    for name, runs in groups:
        whole = [by_scene for _, by_scene in sorted(runs.items()) if set(by_scene) == set(scenes)]
        repeats = [{s: _blocks(e, head, reference) for s, e in by_scene.items()} for by_scene in whole]
        if repeats and all(blocks is not None for blocks_of in repeats for blocks in blocks_of.values()):
            losses[name] = [{s: b for s, b in blocks_of.items() if b is not None} for blocks_of in repeats]
    if not losses:
        return None
    resampled = resample(losses).evaluate(value_scores)
    each = {score: resampled[i] for i, score in enumerate(VALUE_SCORES)}
    compared = each[COMPARED]
    means = {name: float(np.mean(compared.observed[compared.columns(name)])) for name in losses}
    pairs = [asdict(difference(compared, *sorted(pair, key=means.__getitem__))) for pair in combinations(losses, 2)]
    return {
        "losses": {name: {score: asdict(spread(x, name)) for score, x in each.items()} for name in losses},
        "differences": {"score": COMPARED, "pairs": pairs},
    }


def _blocks(evaluation: Mapping[str, Any], head: str, reference: str) -> Any:
    """Return the moments by block of an evaluation, (blocks, 7), or None if it lacks them."""
    found = evaluation.get("values", {}).get(head, {}).get(reference)
    if found is None or not found["blocks"]:
        return None
    blocks = np.array(found["blocks"], np.float64)
    if blocks.ndim != 2 or blocks.shape[1] != len(MOMENTS) or not np.isfinite(blocks).all():
        raise ValueError(f"blocks of {blocks.shape}")
    return blocks
