"""The nine trainings of `configs/twin.toml`, from simulating the scenes to the report: seconds of each part.

    python benchmarks/nine_trainings.py --work FOLDER                the whole, for a machine with a GPU
    python benchmarks/nine_trainings.py --work FOLDER --fraction     the same steps on less of everything

Without a GPU only the fraction runs: four scenes instead of twelve, of fewer pixels, smaller crops and two epochs, but
all nine trainings, their predictions, scores, checks, and the report. Beside each part stands how much of the whole it
did, counted in pixels, and from that what the whole would take on the same machine: an estimate that multiplies what
each part costs however small it is, and so is rather too long.
"""

from __future__ import annotations

import argparse
import os
import time
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from floemap import Study
from floemap.simulation.twin import Size, make_twin, resolution_m, twin_spec
from floemap.study.cells import with_changes
from floemap.study.spread import gather_comparison, plan_comparison, run_cell
from floemap.threads import usable_cores

CONFIG = Path(__file__).parents[1] / "configs" / "twin.toml"
#: What is less in the fraction, by setting. The published split needs these months at least, two of them for test.
LESS = {
    "data.months": [1, 2, 3, 7],
    "data.prepare.resolution_m": resolution_m(twin_spec(1, "small")),
    "crops.size_px": 256,
    "crops.per_scene": 8,
    "training.batch": 4,
    "training.max_epochs": 2,
}
TESTS = 2
#: Seconds, and seconds of the processor.
Cost = NDArray[np.float64]


def amounts(study: Study, size: Size) -> dict[str, float]:
    """How much each part has to do, in pixels: of products, of crops in all epochs, of predicted products."""
    months = len(study.data.months)
    spec, training = twin_spec(1, size), study.training
    scenes, crops = spec.lines * spec.samples, study.crops.per_scene * study.crops.size_px**2
    learnt = 9 * training.max_epochs * (months - TESTS) * crops
    return {
        "simulate": months * scenes,
        "prepare and label": months * scenes,
        "train": learnt,
        "predict and score": 9 * TESTS * scenes,
    }


def clock() -> Cost:
    """Seconds, and seconds of the processor of this process and of those that it has waited for."""
    return np.array([time.perf_counter(), sum(os.times()[:4])])


def run(study: Study, size: Size, work: Path) -> dict[str, Cost]:
    """Do all parts; return what each cost, as :func:`clock` counts."""
    began = clock()
    make_twin(work / "twin", size, months=study.data.months, workers=min(2, usable_cores()))
    cost = {"simulate": clock() - began}
    out, began = work / "study", clock()
    names = plan_comparison(study, out)
    cost |= {"prepare and label": clock() - began, "train": np.zeros(2), "predict and score": np.zeros(2)}
    for name in names:
        tests: list[Cost] = []

        def told(_done: float, _total: float, what: str, tests: list[Cost] = tests) -> None:
            if "testing" in what and not tests:
                tests.append(clock())

        began = clock()
        run_cell(out, name, progress=told)
        cost["train"] += tests[0] - began
        cost["predict and score"] += clock() - tests[0]
    began = clock()
    done = gather_comparison(out)
    cost["results and report"] = clock() - began
    assert len(names) == 9 and not done.failed and done.report is not None
    return cost


def main() -> None:
    """Run it, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True, help="empty folder for all that is made")
    parser.add_argument("--fraction", action="store_true", help="a fraction, also on a machine with a GPU")
    given = parser.parse_args()
    fraction = given.fraction or not torch.cuda.is_available()
    whole = with_changes(Study.from_toml(CONFIG), {"data.folder": str(given.work / "twin")})
    study, size = (with_changes(whole, LESS), "small") if fraction else (whole, "full")
    made, all_of_it = amounts(study, size), amounts(whole, "full")
    if fraction:
        print("A FRACTION of the nine trainings, from end to end; what the whole would take is an estimate.")
    print(f"Load before: {os.getloadavg()[0]:.1f}\n")
    print("| part | s | processor s | of the whole | the whole, processor s |\n| --- | --- | --- | --- | --- |")
    for part, (s, used) in run(study, size, given.work).items():
        share = made[part] / all_of_it[part] if part in made else None
        told = ("", "") if share is None else (f"1/{1 / share:.0f}", f"{used / share:.0f}")
        print(f"| {part} | {s:.1f} | {used:.1f} | {told[0]} | {told[1]} |", flush=True)
    least = (whole.training.stop_after + 1) / whole.training.max_epochs
    print(f"\nThe whole with all {whole.training.max_epochs} epochs; a training may end after {least:.0%} of them.")


if __name__ == "__main__":
    main()
