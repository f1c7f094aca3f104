"""What a full-size scene in AI4Arctic's form costs: preparing on both grids, labelling, layers, reading.

    python benchmarks/ai4arctic_scene.py [--size 5213] [--work FOLDER] [--simulated]

The files have the size of a real scene (that of the print-outs: 4999 x 5213 pixels of 80 m, 9998 x 10426 of 40 m), and
the content of a small simulated one, tiled: its pixels, charts and polygons are repeated over the image, its tie points
and fields of 2 km are stretched with it. With --simulated, the scene is simulated at that size instead, and timed, too.

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

import h5py
import numpy as np

#: Lines of a scene for each sample, as in the print-outs; samples of the small scene; lines written at once.
LINES_FOR_SAMPLE, SMALL, STRIP = 4999 / 5213, 100, 512
CLI = "from floemap.cli import main; main()"


def measured(*words: str | Path) -> tuple[float, float, float]:
    """Run a command of floemap; return seconds, processor seconds and peak memory in GiB."""
    begin = time.perf_counter()
    process = subprocess.Popen([sys.executable, "-c", CLI, *map(str, words)])
    _, status, used = os.wait4(process.pid, 0)
    if status:
        sys.exit(f"failed: {' '.join(map(str, words))}")
    return time.perf_counter() - begin, used.ru_utime + used.ru_stime, used.ru_maxrss / 2**20


def tiled(source: Path, out: Path, samples: int) -> None:
    """Write a file with the content of a small one, its image repeated to so many samples."""
    shape = (round(samples * LINES_FOR_SAMPLE), samples)
    with h5py.File(source) as small, h5py.File(out, "w") as large:
        image = small["nersc_sar_primary"].shape
        for name, variable in small.items():
            if variable.shape != image:
                values = variable[()]
                if name in ("sar_grid_line", "sar_grid_sample"):  # from the first to the last pixel
                    values = values / values.max() * (shape[name == "sar_grid_sample"] - 1)
                made = large.create_dataset(name, data=values, dtype=variable.dtype)
            else:
                chunks = {"chunks": (256, 256), "compression": "gzip", "compression_opts": 1}
                made = large.create_dataset(name, shape, variable.dtype, **chunks)
                rows, cols = variable[()], np.arange(shape[1]) % image[1]
                for first in range(0, shape[0], STRIP):
                    lines = np.arange(first, min(first + STRIP, shape[0])) % image[0]
                    made[first : first + STRIP] = rows[lines][:, cols]
            hidden = ("DIMENSION_LIST", "REFERENCE_LIST", "CLASS", "NAME")
            made.attrs.update({k: v for k, v in variable.attrs.items() if not k.startswith("_N") and k not in hidden})
        large.attrs.update({k: v for k, v in small.attrs.items() if not k.startswith("_N")})
        if "pixel_spacing" in large.attrs:
            large.attrs["pixel_spacing"] = round(small.attrs["pixel_spacing"].item() * image[1] / samples)


def main() -> None:
    """Measure all steps and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=5213, help="samples of the ready-to-train file")
    parser.add_argument("--work", type=Path, help="folder for the files, some 3 GB; kept")
    parser.add_argument("--simulated", action="store_true", help="simulate the whole scene, which takes long")
    parser.add_argument("--only", choices=["ready", "raw"], help="one of the two files")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        work = options.work or Path(scratch)
        print(f"load {os.getloadavg()[0]:.1f}, {os.cpu_count()} cores, {options.size} samples")
        print("| step | s | processor s | GiB |\n| --- | --- | --- | --- |")

        def step(name: str, *words: str | Path) -> None:
            seconds, processor, memory = measured(*words)
            print(f"| {name} | {seconds:.1f} | {processor:.1f} | {memory:.2f} |", flush=True)

        size = options.size if options.simulated else SMALL
        step(
            f"simulate, {size} samples",
            "simulate",
            "ai4arctic",
            "--out",
            work / "set",
            "--scenes",
            "1",
            "--size",
            str(size),
        )
        for name, pattern, factor in (("ready", "*_prep.nc", 1), ("raw", "*_icechart_*.nc", 2)):
            if options.only not in (None, name):
                continue
            path = next((work / "set").rglob(pattern))
            if not options.simulated:
                (work / "tiled").mkdir(exist_ok=True)
                tiled(path, work / "tiled" / path.name, factor * options.size)
                path = work / "tiled" / path.name
            step(f"info, {name}, {path.stat().st_size / 1e6:.0f} MB", "info", path)
            for grid in ("polar", "image"):
                step(f"prepare, {name}, {grid}", "prepare", path, "--grid", grid, "--out", work / f"{name}-{grid}")
                product = next((work / f"{name}-{grid}").iterdir())
                step(
                    f"label, {name}, {grid}", "label", path, "--like", product, "--out", work / f"{name}-{grid}-labels"
                )
            step(f"layers, {name}, {grid}", "layer", "from-ai4arctic", product, path)
        print(f"load {os.getloadavg()[0]:.1f}")


if __name__ == "__main__":
    main()
