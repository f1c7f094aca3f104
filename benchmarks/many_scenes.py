"""Time from the start of a training to its first step, on many small scenes, at the first start and at the second.

With `--ranks 2`, two processes train together, to the end of the training. What is printed is the memory that each has
at the end of the epoch, before validation: its proportional share (PSS), and what it has for itself (USS).

The scenes are copies of four small simulated ones that were prepared and labelled, with other dates: what is timed is
how the study finds out that they are as before, not how they are prepared. Each start is a process; its time includes
that of Python and all imports.

    python benchmarks/many_scenes.py --scenes 500 --source streamed --work /tmp/many
    python benchmarks/many_scenes.py --scenes 500 --source resident --work /tmp/many --ranks 2

"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import time
from datetime import datetime, timedelta
from pathlib import Path

from floemap.results.stage import read_json, write_json
from floemap.simulation.twin import make_twin
from floemap.study.data import make_data
from floemap.study.settings import Study

_CHILD = """
import multiprocessing, os, sys, time
def leave():
    for process in multiprocessing.active_children():
        process.kill()
    os._exit(0)
def until_first_step(done, total, what):
    if "epoch 1 of" in what:
        used = os.times()
        print(f"{used.user + used.system:.1f}", flush=True)
        leave()
told = False
def at_validation(done, total, what):
    global told
    if told or "validating" not in what:  # the first process alone tells how far it is
        return
    told = True
    parent = f"/proc/{os.getppid()}/task"
    for pid in " ".join(open(f"{parent}/{task}/children").read() for task in os.listdir(parent)).split():
        sizes = {}
        for line in open(f"/proc/{pid}/smaps_rollup"):
            name, size, *_ = line.split()
            sizes[name] = int(size) / 1024 if size.isdigit() else 0
        uss = sizes["Private_Clean:"] + sizes["Private_Dirty:"]
        print(f"process {pid}: PSS {sizes['Pss:']:.0f} MiB, USS {uss:.0f} MiB", file=sys.stderr, flush=True)
if __name__ == "__main__":
    from floemap import Study, train_model
    how = at_validation if "RANK" in os.environ else until_first_step
    train_model(Study.from_toml(sys.argv[1]), sys.argv[2], progress=how)
"""


def make_scenes(work: Path, number: int) -> list[tuple[str, Path, Path]]:
    """Copy four prepared and labelled scenes until there are so many; return name, product and labels of each."""
    twin, made = work / "twin", work / "made"
    if not twin.exists():
        make_twin(twin, 400, months=(1, 2, 3, 7))
    given = {"folder": twin, "months": (1, 2, 3, 7), "legend": "extremeearth", "prepare": {"resolution_m": 2000.0}}
    first = make_data(Study.checked(data=given).data, made)
    scenes = []
    for i in range(number):
        of = first[i % len(first)]
        product, labels = work / "products" / f"S1_{i:05d}", work / "labels" / f"c{i:05d}"
        if not labels.exists():
            shutil.copytree(of.product, product)
            record = read_json(product / "product.json")
            start = datetime.fromisoformat(record["scene"]["start"]) + timedelta(days=30 * i)
            record["scene"]["start"] = start.isoformat()
            write_json(product / "product.json", record)
            shutil.copytree(of.labels, labels)
        scenes.append((f"s{i:05d}", product, labels))
    return scenes


def write_study(work: Path, scenes: list[tuple[str, Path, Path]], source: str) -> Path:
    """Write a study on the scenes: nine of ten for training, the others for validation."""
    listed = "\n".join(f'[[data.scenes]]\nname = "{n}"\nproduct = "{p}"\nchart = "{c}"' for n, p, c in scenes)
    held = [n for i, (n, _, _) in enumerate(scenes) if i % 10 == 9]
    learnt = [n for n, _, _ in scenes if n not in held]
    path = work / f"{source}.toml"
    path.write_text(
        f'[data]\nlegend = "extremeearth"\n{listed}\n'
        f'[split]\nkind = "lists"\ntraining = {learnt}\nvalidation = {held}\n'
        f'[crops]\nsize_px = 64\nper_scene = 2\nsource = "{source}"\n'
        '[training]\nbatch = 4\nmax_epochs = 1\nprecision = "fp32"\n'
    )
    return path


def main() -> None:
    """Make the scenes, start twice, print the times."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--scenes", type=int, default=500)
    parser.add_argument("--source", choices=["auto", "resident", "streamed"], default="auto")
    parser.add_argument("--ranks", type=int, default=1)
    parser.add_argument("--work", type=Path, default=Path("many-scenes"))
    given = parser.parse_args()
    given.work.mkdir(parents=True, exist_ok=True)
    study = write_study(given.work, make_scenes(given.work, given.scenes), given.source)
    child = given.work / "child.py"
    child.write_text(_CHILD)
    out = given.work / f"run-{given.source}"
    shutil.rmtree(out, ignore_errors=True)
    if given.ranks > 1:
        launch = ["-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={given.ranks}"]
        call = [sys.executable, *launch, str(child), str(study), str(out)]
        said = subprocess.run(call, check=True, stderr=subprocess.PIPE, text=True).stderr
        print("".join(line for line in said.splitlines(keepends=True) if line.startswith("process ")), end="")
        print(f"both have ended with code 0; load {os.getloadavg()[0]:.1f}")
        return
    for start in ("first", "second"):
        began = time.perf_counter()
        call = [sys.executable, str(child), str(study), str(out)]
        used = subprocess.run(call, check=True, stdout=subprocess.PIPE, text=True).stdout.strip()
        words = f"{time.perf_counter() - began:.1f} s, {used} s of the processor, load {os.getloadavg()[0]:.1f}"
        print(f"{start} start of {given.scenes} scenes, {given.source}: {words}", flush=True)


if __name__ == "__main__":
    main()
