"""How long the physical checks of a scene take, and how much memory, check by check.

    python benchmarks/checks.py [--size full] [--month 1] [--folder DIR]

Makes a month of the twin (or takes it from the folder, where it is finished), prepares and labels it, takes its truth
as the prediction, whose many small patches are more work than a smooth map's, and states probabilities for it. Then a
fresh process runs each check once, from the rasters' files, and prints seconds, processor seconds and the process's
peak memory so far; beside them, the time to read the rasters alone.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from checks_lab.faults import stated_probabilities
from checks_lab.grounds import twin_ground

from floemap.cog import STRIP_ROWS, Band, CogWriter, read_geobox, write_cog
from floemap.evaluation.checks.scene_checks import check_scene
from floemap.legend import EXTREMEEARTH, IGNORE
from floemap.results.stage import write_json
from floemap.simulation.twin import make_twin


def make(folder: Path, size: str, month: int) -> tuple[Path, Path, Path]:
    """Make the folders of a prediction, labels and product."""
    import rasterio

    (made,) = make_twin(folder / "twin", int(size) if size.isdigit() else size, months=(month,))
    twin = twin_ground(made, folder)
    prediction = folder / "prediction"
    prediction.mkdir(exist_ok=True)
    with rasterio.open(made.truth / "truth.tif") as d:
        classes = d.read(2)
    geobox = read_geobox(made.truth / "truth.tif")
    write_cog(prediction / "classes.tif", geobox, classes, [Band("ice_type", overview="mode")], nodata=IGNORE)
    bands = [Band(c.key, scale=1 / 250) for c in EXTREMEEARTH.classes]
    with CogWriter(prediction / "probabilities.tif", geobox, bands, dtype="uint8", nodata=IGNORE) as cog:
        for row in range(0, len(classes), STRIP_ROWS):
            cog.write(stated_probabilities(classes[row : row + STRIP_ROWS], EXTREMEEARTH, 0.8))
    write_json(prediction / "prediction.json", {"simulated": True, "legend": {"name": EXTREMEEARTH.name}})
    return prediction, twin.labels, twin.product


def measure(prediction: Path, labels: Path, product: Path) -> None:
    """Run the checks once, telling time and memory as they go."""
    import rasterio

    start = time.perf_counter()
    for path in (prediction / "classes.tif", prediction / "probabilities.tif", labels / "labels.tif"):
        with rasterio.open(path) as d:
            for row in range(0, d.height, STRIP_ROWS):
                d.read(window=((row, min(row + STRIP_ROWS, d.height)), (0, d.width)))
            shape = d.shape
    with rasterio.open(product / "product.tif") as d:
        for row in range(0, d.height, STRIP_ROWS):
            d.read(3, window=((row, min(row + STRIP_ROWS, d.height)), (0, d.width)))
    reading = time.perf_counter() - start
    print(f"{shape[0]} x {shape[1]} px, {shape[0] * shape[1] / 1e6:.1f} Mpx\n")
    print("| | s | processor s | GiB, peak so far |\n| --- | --- | --- | --- |")
    print(f"| reading all rasters | {reading:.1f} | | {peak_gib():.2f} |")
    begun: list[Any] = ["opening", time.perf_counter(), time.process_time()]
    first = begun[1:]

    def tell(done: float, total: float, what: str) -> None:
        now, used = time.perf_counter(), time.process_time()
        print(f"| {begun[0]} | {now - begun[1]:.1f} | {used - begun[2]:.1f} | {peak_gib():.2f} |", flush=True)
        begun[:] = what, now, used

    check_scene(prediction, labels, product, progress=tell)
    whole, used = time.perf_counter() - first[0], time.process_time() - first[1]
    print(f"| **all** | **{whole:.1f}** | {used:.1f} | **{peak_gib():.2f}** |")


def peak_gib() -> float:
    """Largest memory that this process has had. The resource module would count its parent's, too."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return int(status.split("VmHWM:")[1].split()[0]) / 2**20


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", default="full", help='"full", "small" or pixels across the scene')
    parser.add_argument("--month", type=int, default=1)
    parser.add_argument("--folder", type=Path, help="to keep the scene in")
    parser.add_argument("--measure", nargs=3, type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.measure:
        measure(*args.measure)
        return
    with tempfile.TemporaryDirectory() as name:
        folders = make(args.folder or Path(name), args.size, args.month)
        subprocess.run([sys.executable, __file__, "--measure", *map(str, folders)], check=True)


if __name__ == "__main__":
    main()
