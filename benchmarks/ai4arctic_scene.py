"""What a full-size scene in AI4Arctic's form costs: simulating, preparing, labelling.

    python benchmarks/ai4arctic_scene.py [--size 5213] [--work FOLDER]

Each step is a command in a process of its own. Time is that of one run, with files in the page cache; the load of the
machine is printed, for on a busy machine times say little. Peak memory is the largest resident set (Linux).
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

CLI = "from floemap.cli import main; main()"


def measured(*words: str | Path) -> tuple[float, float, float]:
    """Run a command of floemap; return seconds, processor seconds and peak memory in GiB."""
    begin = time.perf_counter()
    process = subprocess.Popen([sys.executable, "-c", CLI, *map(str, words)])
    _, status, used = os.wait4(process.pid, 0)
    if status:
        sys.exit(f"failed: {' '.join(map(str, words))}")
    return time.perf_counter() - begin, used.ru_utime + used.ru_stime, used.ru_maxrss / 2**20


def main() -> None:
    """Measure all steps and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=5213, help="samples of the ready-to-train file")
    parser.add_argument("--work", type=Path, help="folder for the files, some 3 GB; kept")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        work = options.work or Path(scratch)
        print(f"load {os.getloadavg()[0]:.1f}, {os.cpu_count()} cores, {options.size} samples")
        print("| step | s | processor s | GiB |\n| --- | --- | --- | --- |")

        def step(name: str, *words: str | Path) -> None:
            seconds, processor, memory = measured(*words)
            print(f"| {name} | {seconds:.1f} | {processor:.1f} | {memory:.2f} |", flush=True)

        step("simulate", "simulate", "ai4arctic", "--out", work / "set", "--scenes", "1", "--size", str(options.size))
        ready = next((work / "set").rglob("*_prep.nc"))
        raw = next((work / "set").rglob("*_icechart_*.nc"))
        for name, path in (("ready to train", ready), ("raw", raw)):
            step(f"prepare, {name}, {path.stat().st_size / 1e6:.0f} MB", "prepare", path, "--out", work / name)
            product = next((work / name).iterdir())
            step(f"label, {name}", "label", path, "--like", product, "--out", work / f"{name} labels")
        print(f"load {os.getloadavg()[0]:.1f}")


if __name__ == "__main__":
    main()
