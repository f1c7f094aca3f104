"""Of many test scenes the report shows the worst, the best and some between."""

from __future__ import annotations

from itertools import pairwise
from types import SimpleNamespace
from typing import Any, cast

from floemap.report.report import MOST_PICTURED, pictured_scenes
from floemap.report.run_folder import RunFolder


def run_of(scores: list[float]) -> RunFolder:
    """A run of one contender with these scores by scene."""
    by_name = {f"s{i:03}": SimpleNamespace(weighted_f1=score) for i, score in enumerate(scores)}
    scenes: Any = tuple(SimpleNamespace(name=name) for name in by_name)
    return cast(RunFolder, SimpleNamespace(scenes=scenes, contenders=[SimpleNamespace(best=by_name.get)]))


def test_all_of_few_and_a_choice_of_many() -> None:
    few = [0.5] * MOST_PICTURED
    assert len(pictured_scenes(run_of(few))) == MOST_PICTURED
    scores = [(i * 37 % 500) / 500 for i in range(500)]  # each of 500 scores once, in no order
    names = [s.name for s in pictured_scenes(run_of(scores))]
    assert len(names) == MOST_PICTURED and names == sorted(names)
    shown = sorted(scores[int(name[1:])] for name in names)
    assert shown[0] == min(scores) and shown[-1] == max(scores)
    steps = [b - a for a, b in pairwise(shown)]
    assert max(steps) < 1.1 * min(steps)
