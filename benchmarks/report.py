"""How long the report takes, and how much memory, at the size of the demo and of many full scenes.

    python benchmarks/report.py [--size full] [--scenes 12] [--repeats 1] [--folder DIR]
    python benchmarks/report.py --scenes 500 --repeats 3        nine models

Makes a month of the twin (or takes it from the folder, where it is finished), prepares and labels it, and writes a
comparison of three losses around it, whose maps are the truth with faults made on purpose; nothing is trained. The same
scene stands for all scenes, and one map for all repeats of a loss, by links to its files. Then a fresh process makes
the physical checks of one scene, and another the report of all of them, with the checks there already, as `floemap
compare` leaves them.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from checks_lab.faults import lose_old_ice, move_edge, salt_and_pepper, stated_probabilities
from checks_lab.grounds import twin_ground

from floemap.cog import STRIP_ROWS, Band, CogWriter, read_geobox, write_cog
from floemap.evaluation.scoring.evaluate import evaluate_scene
from floemap.evaluation.statistics.summary import summarise
from floemap.legend import EXTREMEEARTH, IGNORE
from floemap.results.stage import provenance, write_json
from floemap.simulation.twin import make_twin
from floemap.study.compare import STAGE as PLAN
from floemap.study.run import STAGE as CELL
from floemap.study.settings import Study

FAULTS: dict[str, Any] = {
    "cross_entropy": lambda classes, pixel_m: salt_and_pepper(classes, EXTREMEEARTH),
    "dice": lambda classes, pixel_m: lose_old_ice(classes, EXTREMEEARTH),
    "focal": lambda classes, pixel_m: move_edge(classes, EXTREMEEARTH, pixel_m),
}


def make(folder: Path, size: str, month: int, scenes: int, repeats: int) -> Path:
    """Make the folder of a comparison; return it."""
    (made,) = make_twin(folder / "twin", int(size) if size.isdigit() else size, months=(month,))
    twin = twin_ground(made, folder)
    with rasterio.open(made.truth / "truth.tif") as d:
        truth = d.read(2)
    geobox = read_geobox(made.truth / "truth.tif")
    run = folder / "run"
    shutil.rmtree(run, ignore_errors=True)
    evaluated = []
    study = Study.checked(name="benchmark", compare={"repeats": repeats}, data={"folder": "twin"})
    configuration = study.model_dump(mode="json")
    where = {"product": str(twin.product), "labels": str(twin.labels), "truth": None}
    names = [f"scene{i:03d}" for i in range(1, scenes + 1)]
    for loss, fault in FAULTS.items():
        original = run / "cells" / f"{loss}_r0"
        first = original / "predictions" / names[0]
        first.mkdir(parents=True)
        classes = np.where(truth == IGNORE, truth, fault(truth, float(abs(geobox.resolution.x))))
        write_prediction(first, geobox, classes)
        evaluation = evaluate_scene(first, twin.labels, original / "evaluation")
        for repeat in range(repeats):
            cell = run / "cells" / f"{loss}_r{repeat}"
            for name in names:
                for of in (first, evaluation.folder):
                    link_tree(of, cell / of.parent.name / name)
                about_map = {"loss": loss, "repeat": repeat, "scene": name}
                evaluated.append(about_map | {"evaluation": evaluation.read()})
            tested = [{"scene": n, "prediction": n, "evaluation": n} | where for n in names]
            about = {"cell": cell.name, "loss": loss, "repeat": repeat, "axes": {}, "simulated": True, "seconds": 0.0}
            record = provenance(CELL, inputs={"scenes": []}, configuration=configuration)
            write_json(cell / "cell.json", record | about | {"tested": tested})
    made_by = provenance(PLAN, inputs={}, configuration=configuration)
    cells = [{"cell": f"{loss}_r{repeat}"} for loss in FAULTS for repeat in range(repeats)]
    write_json(run / "plan.json", made_by | {"cells": cells})
    results = {"study": "benchmark", "failed": {}, "summary": summarise(evaluated)}
    write_json(run / "results.json", made_by | results)
    return run


def link_tree(folder: Path, copy: Path) -> None:
    """Copy a folder by links to its files, if the copy is not there yet."""
    if not copy.exists():
        shutil.copytree(folder, copy, copy_function=os.link)


def write_prediction(folder: Path, geobox: Any, classes: Any) -> None:
    """Write what `floemap predict` writes."""
    write_cog(folder / "classes.tif", geobox, classes, [Band("ice_type", overview="mode")], nodata=IGNORE)
    bands = [Band(c.key, scale=1 / 250) for c in EXTREMEEARTH.classes]
    with CogWriter(folder / "probabilities.tif", geobox, bands, dtype="uint8", nodata=IGNORE) as cog:
        for row in range(0, len(classes), STRIP_ROWS):
            cog.write(stated_probabilities(classes[row : row + STRIP_ROWS], EXTREMEEARTH, 0.8))
    legend = {"name": EXTREMEEARTH.name, "classes": {str(c.id): c.key for c in EXTREMEEARTH.classes}}
    write_json(folder / "prediction.json", {"simulated": True, "legend": legend})


def measure(what: str, run: Path) -> None:
    """Make the checks of one scene, or the report of all; print what it took."""
    from floemap.evaluation.checks.assess import assess_scene
    from floemap.report.report import make_report
    from floemap.report.run_folder import read_run

    began, used = time.perf_counter(), time.process_time()
    if what == "checks":
        found = read_run(run)
        scene = found.scenes[0]
        for contender in found.contenders:
            tested = contender.of(scene.name)[0]
            assess_scene(tested.prediction, scene.labels, scene.product, tested.scored.parent.parent / "checks")
        line = f"checks of {len(found.contenders)} maps of one scene, each"
        parts = len(found.contenders)
    else:
        page = make_report(run).page
        line, parts = f"report, {page.stat().st_size / 1e6:.1f} MB", 1
    seconds, processor = time.perf_counter() - began, time.process_time() - used
    print(f"| {line} | {seconds / parts:.1f} | {processor / parts:.1f} | {peak_gib():.2f} |", flush=True)


def peak_gib() -> float:
    """Largest memory that this process has had. The resource module would count its parent's, too."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return int(status.split("VmHWM:")[1].split()[0]) / 2**20


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", default="full", help='"full", "small" or pixels across the scene')
    parser.add_argument("--month", type=int, default=1)
    parser.add_argument("--scenes", type=int, default=12)
    parser.add_argument("--repeats", type=int, default=1)
    parser.add_argument("--folder", type=Path, help="to keep the scene in")
    parser.add_argument("--measure", nargs=2, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.measure:
        measure(args.measure[0], Path(args.measure[1]))
        return
    with tempfile.TemporaryDirectory() as name:
        run = make(args.folder or Path(name), args.size, args.month, args.scenes, args.repeats)
        print(f"{args.scenes} scenes, three losses, {args.repeats} repeats; load {os.getloadavg()[0]:.1f}\n")
        print("| | s | processor s | GiB, peak |\n| --- | --- | --- | --- |", flush=True)
        call = [sys.executable, __file__, "--measure"]
        subprocess.run([*call, "checks", str(run)], check=True)
        for evaluation in (run / "cells").glob("*/evaluation/*"):
            cell = evaluation.parent.parent
            checks = cell.with_name(f"{cell.name.rpartition('_')[0]}_r0") / "checks" / "scene001"
            link_tree(checks, cell / "checks" / evaluation.name)
        subprocess.run([*call, "report", str(run)], check=True)


if __name__ == "__main__":
    main()
