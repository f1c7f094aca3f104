"""What atrous rates, the start of their outer taps and context around patches change, by validation alone.

    python benchmarks/rates.py WORK [--seeds 3] [--epochs 8] [--only NAME ...]

Trains the demo's model on the small simulated twin (made in WORK if it is not there) once for each variant and seed,
with cross-entropy, and prints the best validation loss and F1 of each: mean, least and most over the seeds. Validation
is on whole halves of scenes; the test scenes are not looked at. Scores are scores on simulated ice.
"""

from __future__ import annotations

import argparse
import json
import statistics
from collections.abc import Callable
from pathlib import Path
from typing import Any

from torch import nn

from floemap.demo import demo_study
from floemap.learning.models import aspp
from floemap.learning.models.atrous import active_taps
from floemap.simulation.twin import make_twin
from floemap.study.compare import data_folder
from floemap.study.data import make_data
from floemap.study.run import train_on
from floemap.study.settings import Study


def he_start(convolution: nn.Module) -> None:
    """Leave the outer taps as He's distribution draws them, as version 0.1 did."""


#: Settings of each variant, and how its outer taps start.
VARIANTS: dict[str, tuple[dict[str, Any], Callable[[nn.Module], None]]] = {
    "2 4 6 (default)": ({}, aspp._only_centre),
    "2 4 6, taps drawn": ({}, he_start),
    "1 2 3": ({"model.rates": (1, 2, 3)}, aspp._only_centre),
    "4 8 12": ({"model.rates": (4, 8, 12)}, aspp._only_centre),
    "5 10 15": ({"model.rates": (5, 10, 15)}, aspp._only_centre),
    "4 8 12, context 96": ({"model.rates": (4, 8, 12), "crops.context_px": 96}, aspp._only_centre),
    "2 4 6, context 96": ({"model.rates": (2, 4, 6), "crops.context_px": 96}, aspp._only_centre),
}


def with_changes(study: Study, changes: dict[str, Any]) -> Study:
    values = study.model_dump()
    for key, value in changes.items():
        table, name = key.split(".")
        values[table][name] = value
    return Study.checked(**values)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("work", type=Path)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--only", nargs="*", default=list(VARIANTS))
    args = parser.parse_args()
    twin = args.work / "twin-small"
    make_twin(twin, "small", months=tuple(range(1, 13)))
    base = with_changes(demo_study("small", twin), {"training.max_epochs": args.epochs})
    data = data_folder(base, args.work)
    scenes = make_data(base.data, data)
    print(
        "| rates, in cells of 16 px | taps inside, widest | validation loss | weighted F1 |\n| --- | --- | --- | --- |"
    )
    for name in args.only:
        changes, start = VARIANTS[name]
        losses, scores, study = [], [], base
        for seed in range(args.seeds):
            study = with_changes(base, changes | {"training.seed": seed})
            aspp._only_centre, before = start, aspp._only_centre
            out = args.work / name.replace(" ", "-").replace(",", "") / str(seed)
            train_on(study, scenes, out, data / "parts", needed=("train", "validation"))
            aspp._only_centre = before
            best = json.loads((out / "model" / "training.json").read_text())["best"]
            losses.append(best["validation_loss"])
            scores.append(best["weighted_f1"])
        widest = (study.model.rates or (2, 4, 6))[2]
        taps = active_taps(widest, study.crops.size_px, study.crops.context_px)
        cells = [f"{statistics.mean(v):.3f} ({min(v):.3f} to {max(v):.3f})" for v in (losses, scores)]
        print(f"| {name} | {taps:.1f} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
