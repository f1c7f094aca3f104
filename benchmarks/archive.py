"""How many small scenes a minute an archive charts, with 1, 2, ... processes, against one call of floemap chart.

    python benchmarks/archive.py [--scenes 200] [--jobs 1,2] [--lines 300]

All in one run: simulated products as downloaded, each prepared and charted (classes and polygons) by a model with drawn
weights, so that their number and not their size counts. Each process may use one thread. Processor seconds are those of
all processes. The second call on a finished archive is measured, too; it only finds that nothing is left to do.
"""

from __future__ import annotations

import os

os.environ["OMP_NUM_THREADS"] = os.environ["MKL_NUM_THREADS"] = "1"

import argparse
import platform
import resource
import shutil
import tempfile
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import psutil
import torch

from floemap.archive.archive import chart_archive
from floemap.inference.draftchart.chart import make_charts
from floemap.inference.draftchart.settings import ChartSettings
from floemap.learning.models.checkpoint import save_checkpoint
from floemap.learning.models.registry import build_model
from floemap.learning.settings import ModelSettings
from floemap.simulation.safe.spec import ProductSpec
from floemap.simulation.safe.writer import write_safe
from floemap.threads import usable_cores

RESOLUTION_M = 2000.0
SETTINGS = ChartSettings(only=("classes", "chart"), min_area_km2=100)


def write_scenes(folder: Path, number: int, lines: int) -> list[Path]:
    spec = ProductSpec(
        start=datetime(2018, 1, 16, 7, 54, 30, tzinfo=UTC),
        lines=lines,
        samples=lines,
        pixel_spacing_m=1000.0,
        centre_lon=-8.0,
        centre_lat=77.0,
        heading_deg=-150.0,
    )
    y, x = np.mgrid[0 : 1 : lines * 1j, 0 : 1 : lines * 1j]
    co = (0.06 * np.exp(0.8 * np.sin(5 * x + 3 * y) - 1.5 * x)).astype(np.float32)
    first = write_safe(
        folder / "first", spec, {p: co if p[0] == p[1] else co / 8 for p in spec.polarisations}, looks=10
    )
    scenes = [folder / "scenes" / f"scene{i:04d}.SAFE" for i in range(number)]
    for scene in scenes:
        shutil.copytree(first, scene)
    return scenes


def write_model(path: Path) -> Path:
    torch.manual_seed(0)
    model = build_model(ModelSettings(), 6).eval()
    model.set_normalisation([-15.0, -25.0, 33.0], [4.0, 4.0, 8.0])
    return (
        save_checkpoint(path, model, {"legend": "six_classes", "resolution_m": RESOLUTION_M, "simulated": True}) or path
    )


class Memory(threading.Thread):
    """The largest sum of the resident memory of this process's children."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.most, self.stop = 0, threading.Event()

    def run(self) -> None:
        while not self.stop.wait(0.5):
            total = 0
            for child in psutil.Process().children(recursive=True):
                with suppress(psutil.Error):
                    total += child.memory_info().rss
            self.most = max(self.most, total)


def processor_s() -> float:
    return sum(
        u.ru_utime + u.ru_stime for u in map(resource.getrusage, (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    )


def measured(name: str, scenes: int, work: Callable[[], float]) -> float:
    """Print a row; `work` returns the second at which the work itself began."""
    memory, begun, used = Memory(), time.monotonic(), processor_s()
    memory.start()
    ready = work()
    seconds = time.monotonic() - ready
    memory.stop.set()
    memory.join()
    used = processor_s() - used
    print(
        f"| {name} | {ready - begun:.1f} | {seconds:.1f} | {60 * scenes / seconds:.0f} | {used:.0f} |"
        f" {memory.most / 2**30:.2f} |",
        flush=True,
    )
    return seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scenes", type=int, default=200)
    parser.add_argument("--jobs", default="1,2")
    parser.add_argument("--lines", type=int, default=300)
    chosen = parser.parse_args()
    print(
        f"{platform.machine()}, {usable_cores()} cores, load {os.getloadavg()[0]:.1f} at the start",
        flush=True,
    )
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        scenes, model = write_scenes(folder, chosen.scenes, chosen.lines), write_model(folder / "model.safetensors")
        print("| | start, s | work, s | scenes a minute | processor s | GiB of the processes |")
        print("| --- | --- | --- | --- | --- | --- |")

        def plain() -> float:
            begun = time.monotonic()
            outcomes = make_charts(scenes, [model], folder / "plain", SETTINGS)
            assert all(o.error is None for o in outcomes), outcomes[0].error
            return begun

        def archived(jobs: int) -> float:
            ready: list[float] = []
            done = chart_archive(
                folder / "scenes",
                [model],
                folder / f"jobs{jobs}",
                SETTINGS,
                jobs=jobs,
                announce=lambda cluster: ready.append(time.monotonic()),
            )
            assert not done.failed
            return ready[0]

        measured("one call of `floemap chart`", len(scenes), plain)
        for jobs in map(int, chosen.jobs.split(",")):
            measured(f"`floemap archive --jobs {jobs}`", len(scenes), lambda n=jobs: archived(n))
        measured(f"the same again, finished, `--jobs {jobs}`", len(scenes), lambda n=jobs: archived(n))
    print(f"load {os.getloadavg()[0]:.1f} at the end")


if __name__ == "__main__":
    main()
