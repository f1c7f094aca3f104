"""What preparing a full-size EW product costs, beside a plain read of the same bytes and satpy's calibrated read.

    python benchmarks/prepare.py [--product FOLDER] [--work FOLDER] [--runs 3] [--no-peers]

Without --product, a full-size product is simulated (10708 x 10487, two polarisations). All is measured in one run on
one machine, with the files in the page cache. Times are the best of --runs, for what disturbs them only adds; the load
is printed, for on a busy machine they say little. Peak memory is the largest resident set of a fresh process (Linux).
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
import zipfile
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import rasterio
import rasterio.shutil

from floemap.cog import STRIP_ROWS, Band, CogWriter
from floemap.sentinel1 import prepare as stage
from floemap.sentinel1.geolocation import GeoLocator, default_crs, inverse_map, target_grid
from floemap.sentinel1.multilook import calibrate
from floemap.sentinel1.radiometry import to_db
from floemap.sentinel1.safe.reader import open_scene, verify
from floemap.simulation.safe.speckle import EW_GRDM_LOOKS
from floemap.simulation.safe.writer import ProductSpec, write_safe

TARGET_S, TARGET_GIB, TARGET_OPEN_S = 8.0, 1.5, 0.5
CLI = "from floemap.cli import main; main()"


def simulate(folder: Path) -> Path:
    """Write a full-size product: a smooth field of backscatter with a dark disc, noise and speckle."""
    spec = ProductSpec(
        start=datetime(2018, 3, 13, 18, 12, 25), lines=10708, samples=10487,
        centre_lon=-10, centre_lat=77, heading_deg=-150, seed=3,
    )  # fmt: skip

    def field(base_db: float) -> Callable[[slice], np.ndarray]:
        across = np.arange(spec.samples, dtype=np.float32)[None] / spec.samples

        def rows(lines: slice) -> np.ndarray:
            along = np.arange(lines.start, lines.stop, dtype=np.float32)[:, None] / spec.lines
            db = base_db - 5 * across + 3 * np.sin(9 * along + 5 * across)
            db = db - 8 * ((across - 0.6) ** 2 + (along - 0.4) ** 2 < 0.04)
            return 10 ** (db / 10)

        return rows

    return write_safe(folder, spec, {"HH": field(-14.0), "HV": field(-27.0)})


def timed(work: Callable[[], Any], runs: int) -> float:
    """Seconds of the fastest run."""
    seconds = []
    for _ in range(runs):
        start = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - start)
    return min(seconds)


#: Runs first in a fresh process, and tells its peak memory at the end. What wait4 tells is no help: it begins with the
#: parent's.
TELL_MEMORY = """
import atexit
from pathlib import Path
def tell():
    print([line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM")][0], flush=True)
atexit.register(tell)
"""  # noqa: E501


@dataclass(frozen=True)
class Run:
    """What a process took: seconds by the clock, seconds of processor time, peak memory."""

    wall_s: float
    cpu_s: float
    peak_gib: float


def fresh(code: str, *arguments: str) -> Run:
    """Run Python code with `arguments` in a fresh process."""
    start = time.perf_counter()
    command = [sys.executable, "-c", TELL_MEMORY + code, *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        output = process.stdout.read() if process.stdout else ""
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    wall_s = time.perf_counter() - start
    if process.returncode:
        raise SystemExit(f"error: {arguments} ended with {process.returncode}")
    kib = int(output.splitlines()[-1].split()[1])
    return Run(wall_s, usage.ru_utime + usage.ru_stime, kib / 2**20)


@contextmanager
def stages(seconds: dict[str, list[float]]) -> Iterator[None]:
    """Take the time of prepare's parts while it runs."""
    parts: list[tuple[Any, str, str]] = [
        (stage, "open_scene", "opening"),
        (stage, "calibrate", "calibrating: read, noise, average"),
        (stage, "_about", "measuring residual noise"),
        (stage, "inverse_map", "inverse map"),
        (stage, "write_bands", "geocoding and writing"),
        (CogWriter, "_finish", "  of which compressing the COG"),
    ]
    originals = [(owner, name, getattr(owner, name)) for owner, name, _ in parts]
    for owner, name, label in parts:
        setattr(owner, name, _noting(getattr(owner, name), seconds[label]))
    try:
        yield
    finally:
        for owner, name, original in originals:
            setattr(owner, name, original)


def _noting(function: Callable[..., Any], into: list[float]) -> Callable[..., Any]:
    def run(*args: Any, **kwargs: Any) -> Any:
        start = time.perf_counter()
        try:
            return function(*args, **kwargs)
        finally:
            into.append(time.perf_counter() - start)

    return run


def table(title: str, rows: list[tuple[str, float]], reference: float, note: str) -> None:
    """Print seconds, and ratios to `reference`."""
    print(f"\n{title:52} {'s':>8}   x {note}")
    for name, seconds in rows:
        print(f"  {name:50} {seconds:8.2f} {seconds / reference:8.2f}")


def measure_limits(product: Path, runs: int) -> dict[str, float]:
    """Seconds to read the pixel files' bytes, to read them as images, and to hash them."""
    files = sorted((product / "measurement").iterdir())
    scene = open_scene(product)

    def images() -> None:
        for f in files:
            with rasterio.open(f) as d:
                d.read(1)

    return {
        "plain read of the pixel files": timed(lambda: [f.read_bytes() for f in files], runs),
        "the same as images, by rasterio": timed(images, runs),
        "their checksums (hidden behind calibrating)": timed(
            lambda: [verify(scene, p) for p in scene.polarisations], runs
        ),
        "opening": timed(lambda: open_scene(product), max(runs, 3)),
    }


def measure_stages(product: Path, out: Path, runs: int) -> dict[str, float]:
    """Seconds of prepare's parts in this process, with and without the picture."""
    seconds: dict[str, list[float]] = defaultdict(list)
    with stages(seconds):
        for _ in range(runs):
            start = time.perf_counter()
            stage.prepare(product, out, overwrite=True, quicklook=False)
            seconds["in all, without the quick-look"].append(time.perf_counter() - start)
    result = {name: min(s) for name, s in seconds.items()}
    start = time.perf_counter()
    from floemap.sentinel1.quicklook import draw_quicklook

    raster = out / open_scene(product).name / "product.tif"
    draw_quicklook(raster, out / "quicklook.png", title="benchmark")
    result["quick-look, first in a process"] = time.perf_counter() - start
    return result


def zipped(product: Path, folder: Path) -> Path:
    """Pack a product as downloads are."""
    archive = folder / f"{product.name.removesuffix('.SAFE')}.zip"
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as z:
        for f in sorted(product.rglob("*")):
            z.write(f, f"{product.name}/{f.relative_to(product)}")
    return archive


def measure_commands(product: Path, archive: Path, out: Path, runs: int) -> dict[str, Run]:
    """The command in fresh processes, the fastest run of each variant."""
    variants = {
        "floemap prepare": (product, []),
        "--no-verify": (product, ["--no-verify"]),
        "--noise scaled": (product, ["--noise", "scaled"]),
        "--resolution 40": (product, ["--resolution", "40"]),
        "zip": (archive, []),
        "zip --no-verify": (archive, ["--no-verify"]),
    }
    measured = {}
    for name, (source, options) in variants.items():
        command = ["prepare", str(source), "--out", str(out / "cli"), "--overwrite", "--quiet", *options]
        measured[name] = min((fresh(CLI, *command) for _ in range(runs)), key=lambda r: r.wall_s)
    return measured


def measure_encodings(product: Path, out: Path) -> None:
    """Print size, seconds and error of ways to store the same three bands."""
    scene = open_scene(product)
    cells = calibrate(scene, looks=2)
    locator = GeoLocator(scene)
    geobox = target_grid(locator, default_crs(locator), 80.0)
    positions = inverse_map(locator, geobox)
    line, pixel = (positions.line - 0.5) / 2, (positions.pixel - 0.5) / 2
    bands = np.full((3, *geobox.shape), np.nan, np.float32)
    for row in range(0, geobox.shape[0], STRIP_ROWS):
        end, cols = min(row + STRIP_ROWS, geobox.shape[0]), geobox.shape[1]
        at = [positions.expand(f, row, end, cols) for f in (pixel, line)]
        gathered = cv2.remap(cells.power, *at, cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT, borderValue=0)
        valid = gathered[..., 2] > 0.5
        for i in range(2):
            db, _ = to_db(gathered[..., i] / np.maximum(gathered[..., 2], np.float32(1e-6)))
            bands[i, row:end] = np.where(valid, db, np.nan)
        bands[2, row:end] = np.where(valid, positions.expand(positions.incidence_deg, row, end, cols), np.nan)
    stored = np.where(np.isnan(bands), stage.NODATA, np.rint(bands / stage.SCALE)).astype(np.int16)
    error = stored[:2] * np.float32(stage.SCALE) - bands[:2]
    error = error[np.isfinite(error)]
    gain = 4 / (1 + 2 * 0.70 + 0.70**2)  # of looks, over 2 x 2 pixels of which neighbours correlate by 0.70
    speckle_db = 10 / np.log(10) / np.sqrt(gain * EW_GRDM_LOOKS)
    print(f"\nThe COG's encoding, HH, HV and incidence angle on {geobox.shape[0]} x {geobox.shape[1]} px, DEFLATE 1")
    for name, array, nodata in (("float32", bands, float("nan")), ("int16 x 0.01", stored, stage.NODATA)):
        path = out / "encoding.tif"
        start = time.perf_counter()
        described = [Band(n) for n in ("hh_db", "hv_db", "incidence_deg")]
        with CogWriter(path, geobox, described, dtype=array.dtype.name, nodata=nodata) as cog:
            for row in range(0, geobox.shape[0], STRIP_ROWS):
                cog.write(array[:, row : row + STRIP_ROWS])
        print(f"  {name:16} {time.perf_counter() - start:6.2f} s {path.stat().st_size / 1e6:7.1f} MB")
    print(
        f"  int16 is off by {np.sqrt((error**2).mean()):.4f} dB rms, {abs(error).max():.4f} at most;"
        f" speckle of {EW_GRDM_LOOKS} looks averaged over 2 x 2 pixels by {speckle_db:.2f}"
    )
    print("\nThe int16 COG's compression")
    for options in (
        {"COMPRESS": "DEFLATE", "LEVEL": "1"},
        {"COMPRESS": "DEFLATE", "LEVEL": "6"},
        {"COMPRESS": "ZSTD", "LEVEL": "1"},
        {"COMPRESS": "ZSTD", "LEVEL": "9"},
        {"COMPRESS": "LZW"},
    ):
        start = time.perf_counter()
        rasterio.shutil.copy(
            out / "encoding.tif", out / "again.tif", driver="COG", PREDICTOR="YES", NUM_THREADS="ALL_CPUS",
            OVERVIEWS="FORCE_USE_EXISTING", **options,
        )  # fmt: skip
        size = (out / "again.tif").stat().st_size / 1e6
        print(f"  {' '.join(options.values()):16} {time.perf_counter() - start:6.2f} s {size:7.1f} MB")


PEER = """
import logging, sys, warnings
from pathlib import Path
warnings.simplefilter("ignore")
import dask
from satpy import DataQuery, Scene
logging.getLogger("satpy").setLevel(logging.ERROR)
scene = Scene(reader="sar-c_safe", filenames=[str(f) for f in Path(sys.argv[1]).rglob("*") if f.suffix in (".xml", ".tiff")])
queries = [DataQuery(name="measurement", polarization=p, calibration="sigma_nought", quantity="natural") for p in ("hh", "hv")]
scene.load(queries)
arrays = dask.compute(*[scene[q].data for q in queries])
"""  # noqa: E501
OURS = """
import sys
from floemap.sentinel1.multilook import calibrate
from floemap.sentinel1.safe.reader import open_scene
power = calibrate(open_scene(sys.argv[1]), looks=1).power
"""


def measure_peer(product: Path, prepared: Run) -> None:
    """Print satpy's calibrated read of both bands at 40 m, beside the same by floemap, and all of prepare."""
    try:
        import satpy
    except ImportError:
        print("\nsatpy is not installed: no peer to compare with (pip install -e '.[peers]')")
        return
    ours, theirs = fresh(OURS, str(product)), fresh(PEER, str(product))
    print(f"\nCalibrated sigma nought of both bands at 40 m in memory, fresh processes; satpy {satpy.__version__}")
    print(f"  {'':40} {'s':>8} {'cpu s':>8} {'GiB':>6} {'satpy / this':>14}")
    for name, run in (("satpy", theirs), ("floemap", ours), ("floemap prepare, the whole job", prepared)):
        ratio = theirs.wall_s / run.wall_s
        print(f"  {name:40} {run.wall_s:8.2f} {run.cpu_s:8.2f} {run.peak_gib:6.2f} {ratio:14.1f}")


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--product", type=Path, help="folder of a full-size product, instead of a simulated one")
    parser.add_argument("--work", type=Path, help="where to write; a temporary folder by default")
    parser.add_argument("--runs", type=int, default=3, help="times to measure each")
    parser.add_argument("--no-peers", action="store_true", help="leave satpy out, which takes minutes")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.work) as folder:
        work = Path(folder)
        product = options.product or simulate(work)
        scene = open_scene(product)
        if scene.container.is_zip:
            raise SystemExit("error: give the product's folder; the zip is made from it")
        size = sum(f.stat().st_size for f in (product / "measurement").iterdir())
        print(
            f"{scene.name}, {scene.shape[0]} x {scene.shape[1]} x 2, {size / 1e6:.0f} MB;"
            f" {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}"
        )
        limits = measure_limits(product, options.runs)
        plain = limits["plain read of the pixel files"]
        table("Limits", list(limits.items()), plain, "plain read")
        commands = measure_commands(product, zipped(product, work), work, options.runs)
        print(f"\n{'The command, fresh processes':40} {'s':>8} {'cpu s':>8} {'GiB':>6} {'x plain read':>14}")
        for name, run in commands.items():
            print(f"  {name:38} {run.wall_s:8.2f} {run.cpu_s:8.2f} {run.peak_gib:6.2f} {run.wall_s / plain:14.1f}")
        command = commands["floemap prepare"]
        written = work / "cli" / scene.name / "product.tif"
        print(f"  product.tif has {written.stat().st_size / 1e6:.0f} MB")
        for what, found, target in (
            ("seconds", command.wall_s, TARGET_S),
            ("GiB", command.peak_gib, TARGET_GIB),
            ("seconds to open", limits["opening"], TARGET_OPEN_S),
        ):
            print(f"  target {target:g} {what}: {found:.2f}, {'met' if found <= target else 'MISSED'}")
        if not options.no_peers:
            measure_peer(product, command)
        parts = measure_stages(product, work, options.runs)
        table("prepare by parts, in one process", list(parts.items()), plain, "plain read")
        measure_encodings(product, work)
        print(f"\nload at the end {os.getloadavg()[0]:.1f}")


if __name__ == "__main__":
    main()
