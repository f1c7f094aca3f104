"""How long scoring a scene takes: counting in memory, beside scikit-learn, and files to files.

    python benchmarks/evaluation.py [--size 5300] [--repeats 5]

All in one run, on one machine; the best of the repeats, and ratios to the first line. The default size has 28 million
pixels, as many as a full scene has with data. Maps are blobs of six classes, so files compress about as real ones do.
scikit-learn counts the same pixels, given as flat arrays without those that have no label.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from affine import Affine
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox
from sklearn.metrics import confusion_matrix

from floemap.cog import Band, write_cog
from floemap.evaluation.scoring.confusion import Confusion, confusion
from floemap.evaluation.scoring.evaluate import evaluate_scene
from floemap.evaluation.scoring.scores import scores
from floemap.legend import IGNORE, SIX_CLASSES
from floemap.simulation.twin_month import TRUTH_BANDS

CLASSES = len(SIX_CLASSES)
Raster = NDArray[np.uint8]


def blobs(size: int, cells: int, seed: int) -> Raster:
    """A map of classes in pieces of some size/cells pixels, a border of it without a class."""
    coarse = np.random.default_rng(seed).random((cells, cells), np.float32)
    fine = cv2.resize(coarse, (size, size), interpolation=cv2.INTER_CUBIC)
    ids = np.clip(fine * CLASSES, 0, CLASSES - 1).astype(np.uint8)
    ids[: size // 20] = IGNORE
    return ids


def write_scene(folder: Path, size: int) -> tuple[Raster, Raster]:
    """Labels with all that lies beside them, prediction and truth; return the first two."""
    box = GeoBox((size, size), Affine(80, 0, 0, 0, -80, 0), "EPSG:3413")
    labels, prediction, truth = blobs(size, 30, 1), blobs(size, 300, 2), blobs(size, 200, 3)
    tags = {"legend": "six_classes"}
    write_cog(folder / "labels.tif", box, labels, [Band("ice_type", overview="mode")], nodata=IGNORE, tags=tags)
    write_cog(folder / "classes.tif", box, prediction, [Band("ice_type", overview="mode")], nodata=IGNORE, tags=tags)
    write_cog(folder / "truth.tif", box, np.stack([truth, truth]), TRUTH_BANDS, nodata=IGNORE)
    distance = np.where(labels == IGNORE, IGNORE, blobs(size, 60, 4) * 20).astype(np.uint8)
    distance[(distance == IGNORE) & (labels != IGNORE)] = 0
    write_cog(folder / "border_distance.tif", box, distance, [Band("border_distance", overview="nearest")], nodata=255)
    shares = np.full((CLASSES + 1, size, size), 255, np.uint8)
    for i in range(CLASSES + 1):
        shares[i][labels != IGNORE] = np.where(labels == i, 60, 8)[labels != IGNORE]
    bands = [Band(k, overview="nearest") for k in (*(c.key for c in SIX_CLASSES.classes), "unknown")]
    write_cog(folder / "fractions.tif", box, shares, bands, nodata=255)
    return labels, prediction


def evaluation(folder: Path) -> str:
    """Arguments of an evaluation, as a fresh process takes them."""
    paths = (str(folder / name) for name in ("classes.tif", "labels.tif", "out"))
    return f"{', '.join(map(repr, paths))}, truth={str(folder / 'truth.tif')!r}, overwrite=True"


def peak_mib(code: str) -> float:
    """Peak memory of a fresh process that imports evaluate_scene and runs some code."""
    code = f"from floemap import evaluate_scene\n{code}\nprint(open('/proc/self/status').read())"
    status = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout
    return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM")) / 1024


def measure(name: str, work: Callable[[], Any], repeats: int, reference_s: float | None = None) -> float:
    """Run `work` some times, print the shortest time; return it, in seconds."""
    wall = []
    for _ in range(repeats):
        start = time.perf_counter()
        work()
        wall.append(time.perf_counter() - start)
    ratio = "" if reference_s is None else f"{min(wall) / reference_s:8.1f} x"
    print(f"{name:52s}{min(wall):9.3f} s{ratio}", flush=True)
    return min(wall)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=5300, help="pixels along the side")
    parser.add_argument("--repeats", type=int, default=5)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        labels, prediction = write_scene(folder, args.size)
        print(f"{labels.size / 1e6:.1f} million pixels, {CLASSES} classes\n")
        both = (labels != IGNORE) & (prediction != IGNORE)
        flat = labels[both], prediction[both]
        run = args.repeats
        counting = measure("floemap, matrix in memory", lambda: confusion(labels, prediction, CLASSES), run)
        matrix = confusion(labels, prediction, CLASSES)
        measure("floemap, all scores of the matrix", lambda: scores(matrix), run, counting)
        evaluate: Callable[..., Any] = lambda **more: evaluate_scene(  # noqa: E731
            folder / "classes.tif", folder / "labels.tif", folder / "out", overwrite=True, **more
        )
        measure("floemap evaluate, files to files, without truth", evaluate, run, counting)
        measure("floemap evaluate, with truth", lambda: evaluate(truth=folder / "truth.tif"), run, counting)
        by_others = measure("scikit-learn, matrix in memory", lambda: confusion_matrix(*flat), 1, counting)
        same = Confusion(confusion_matrix(*flat), matrix.without_prediction, matrix.without_reference) == matrix
        print(f"\nsame counts as scikit-learn: {same}; it takes {by_others / counting:.0f} times as long")
        for what, code in (("imports alone", ""), ("with truth", f"evaluate_scene({evaluation(folder)})")):
            print(f"peak memory of a fresh process, {what}: {peak_mib(code):.0f} MiB")


if __name__ == "__main__":
    main()
