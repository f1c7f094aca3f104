"""How each physical check reacts to each fault: the argument for the checks, on a scene whose right map is known.

A chart of the twin is taken as the right map. Copies of it with one fault each are scored and checked against it, so
without a fault every check says "perfect", and whatever a check says is the fault's doing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from checks_lab import faults
from checks_lab.grounds import Ground
from floemap.evaluation.checks.amounts import ByBlock
from floemap.evaluation.checks.classes import Classes, MapPair
from floemap.evaluation.checks.confidence import confidence
from floemap.evaluation.checks.fragmentation import fragmentation
from floemap.evaluation.checks.ice_edge import ice_edge
from floemap.evaluation.checks.neighbours import impossible_neighbours
from floemap.evaluation.checks.old_ice import old_ice
from floemap.evaluation.checks.season import season
from floemap.evaluation.checks.sensor import angle, seams
from floemap.evaluation.scoring.confusion import confusion
from floemap.evaluation.scoring.scores import scores

#: What a model states of the class that it chooses, where it is right about itself and where it is not.
_SURE, _DOUBTING = 0.98, 0.6
_STEP = 1 / 250


@dataclass(frozen=True)
class Fault:
    """A fault by name, and the check that is there for it; `states` is the chance that the model states."""

    title: str
    check: str | None
    apply: Callable[[Ground], Classes]
    states: float = _SURE


@dataclass(frozen=True)
class Sign:
    """The number by which a check is seen to react: beyond its limit."""

    check: str
    title: str
    limit: float
    digits: int
    number: Callable[[Mapping[str, Any]], float | None]


def _quotient(a: float | None, b: float | None) -> float | None:
    return None if a is None or not b else a / b


NO_FAULT = Fault("no fault", None, lambda g: g.reference)
FAULTS: tuple[Fault, ...] = (
    Fault("new ice painted into July", "season", lambda g: faults.paint_new_ice(g.reference, g.legend, g.pixel_m)),
    Fault("all old ice called first-year", "old_ice", lambda g: faults.lose_old_ice(g.reference, g.legend)),
    Fault("ice edge moved by 5 km", "ice_edge", lambda g: faults.move_edge(g.reference, g.legend, g.pixel_m)),
    Fault(
        "salt and pepper on 2 % of the ice", "fragmentation", lambda g: faults.salt_and_pepper(g.reference, g.legend)
    ),
    Fault(
        "specks of old ice sown on water", "neighbours", lambda g: faults.sow_old_ice(g.reference, g.legend, g.pixel_m)
    ),
    Fault("seams copied into the classes", "seams", lambda g: faults.copy_seams(g.reference, g.legend, g.strips)),
    Fault(
        "first-year ice called young at far range",
        "angle",
        lambda g: faults.call_young_far_off(g.reference, g.legend, g.incidence_deg),
    ),
    Fault("a chance of 0.6 stated for what is right", "confidence", lambda g: g.reference, _DOUBTING),
)

SIGNS: tuple[Sign, ...] = (
    Sign("season", "invented out of season, share of area", 0.003, 4, lambda v: v["invented_share_of_melting"]),
    Sign("old_ice", "old ice missed, share", 0.1, 3, lambda v: v["omission_share"]),
    Sign("ice_edge", "edge off, km", 1.0, 2, lambda v: v["mean_distance_km"]),
    Sign("fragmentation", "borders to chart", 1.3, 2, lambda v: v["perimeter_per_area_1_km_ratio"]),
    Sign("neighbours", "impossible neighbours, km", 30.0, 0, lambda v: v["prediction"]["impossible_km"]),
    Sign(
        "seams",
        "changes along seams, to chart",
        1.5,
        2,
        lambda v: _quotient(v["prediction"]["ratio"], v["reference"]["ratio"]),
    ),
    Sign("angle", "depends on angle, share", 0.035, 3, lambda v: v["angle_dependence"]),
    Sign("confidence", "calibration error", 0.1, 3, lambda v: v["ece"]),
)


@dataclass(frozen=True)
class Reaction:
    """What score and checks say of one map: numbers by check, None where one does not apply."""

    title: str
    weighted_f1: float
    numbers: Mapping[str, float | None]

    @property
    def reacting(self) -> set[str]:
        """The checks whose number is beyond its limit."""
        found = ((s, self.numbers[s.check]) for s in SIGNS)
        return {s.check for s, number in found if number is not None and number > s.limit}


def react(ground: Ground, fault: Fault) -> Reaction:
    """Make the faulty map, score it and run every check on it."""
    faulty = fault.apply(ground)
    return judge(ground, faulty, fault.title, faults.stated_probabilities(faulty, ground.legend, fault.states))


def judge(ground: Ground, prediction: Classes, title: str, probabilities: Classes | None = None) -> Reaction:
    """Score a map and run every check on it; `probabilities` in steps of 1/250, (classes, rows, cols)."""
    found = check_map(ground, prediction, probabilities)
    values = {check: None if isinstance(a, str) else a.values() for check, a in found.items()}
    numbers = {s.check: None if (v := values[s.check]) is None else s.number(v) for s in SIGNS}
    score = scores(confusion(ground.reference, prediction, len(ground.legend))).weighted_f1
    return Reaction(title, float("nan") if score is None else score, numbers)


def check_map(
    ground: Ground, prediction: Classes, probabilities: Classes | None = None
) -> dict[str, ByBlock[Any] | str]:
    """Run every check on a map; `probabilities` as for :func:`judge`. By check, amounts or why it does not apply."""
    maps = MapPair(prediction, ground.reference, ground.pixel_m, ground.legend)
    found: dict[str, ByBlock[Any] | str] = {
        "season": season(maps, ground.melting),
        "old_ice": old_ice(maps),
        "ice_edge": ice_edge(maps),
        "fragmentation": fragmentation(maps),
        "neighbours": impossible_neighbours(maps),
        "seams": seams(maps, ground.seam_zone),
        "angle": angle(maps, [(slice(0, len(prediction)), ground.incidence_deg)]),
        "confidence": "no probabilities",
    }
    if probabilities is not None:
        found["confidence"] = confidence(maps, lambda window: probabilities[:, *window], _STEP)
    return found


def reaction_table(reactions: Sequence[Reaction]) -> str:
    """Return a Markdown table: a row a map, the checks that react in bold."""
    heads = ["map", "weighted F1", *(s.title for s in SIGNS)]
    lines = [f"| {' | '.join(heads)} |", f"|{' --- |' * len(heads)}"]
    limits = ["*reacts above*", "", *(f"*{s.limit:g}*" for s in SIGNS)]
    lines.append(f"| {' | '.join(limits)} |")
    for r in reactions:
        cells = [r.title, f"{r.weighted_f1:.3f}"]
        for s in SIGNS:
            number = r.numbers[s.check]
            text = "–" if number is None else f"{number:,.{s.digits}f}"
            cells.append(f"**{text}**" if s.check in r.reacting else text)
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)
