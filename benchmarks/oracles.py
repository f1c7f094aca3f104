"""Sigma nought by floemap, satpy and xarray-sentinel, of the same products, against what was put into them.

    python benchmarks/oracles.py [--size 2000] [--product FOLDER]

1. A simulated product without speckle, of constant backscatter, whose noise is exactly as annotated. Every reader
   should find that backscatter, but for the rounding of digital numbers. Errors are given by part of the image.
2. The same with speckle and a backscatter below the noise: the mean, as one averages to 80 m.
3. A product as processors before IPF 2.90 made them: how much of the dim fringe at its sides floemap leaves in.
4. A real product's own calibration and noise tables (../shared/data, or --product): how far satpy's interpolation of
   them lies from floemap's, by part of the image.

All readers share one reading of ESA's text: DN^2 less noise over A^2, linear between annotated points, noise as range
part times azimuth part. Where they agree, they agree on that; it is no evidence that the reading is right.

Needs the peers: pip install -e '.[peers]'. Those that are absent are left out, with a note.
"""

from __future__ import annotations

import argparse
import logging
import tempfile
import warnings
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from floemap.errors import FloemapError
from floemap.sentinel1.metadata import Scene
from floemap.sentinel1.multilook import calibrate
from floemap.sentinel1.radiometry import CalibrationTable, NoiseTable
from floemap.sentinel1.safe.reader import open_measurement, open_scene
from floemap.simulation.safe.writer import ProductSpec, luts, write_safe

Floats = NDArray[np.floating[Any]]
SHARED = Path(__file__).resolve().parents[2] / "shared" / "data"
TRUTH = {"HH": 0.02, "HV": 0.002}  # -17 and -27 dB
SEAM_PX = 8


def by_floemap(product: Path, polarisation: str, noise: str = "annotated") -> Floats:
    """Sigma nought in image geometry, NaN where there is no image."""
    scene = open_scene(product)
    power = calibrate(scene, looks=1, noise=noise).power
    return np.where(power[..., -1] > 0, power[..., scene.polarisations.index(polarisation)], np.nan)


def by_satpy(product: Path, polarisation: str) -> Floats:
    """The same by satpy's reader sar-c_safe."""
    from satpy import DataQuery, Scene

    logging.getLogger("satpy").setLevel(logging.ERROR)
    files = [str(f) for f in product.rglob("*") if f.suffix in (".xml", ".tiff")]
    scene = Scene(reader="sar-c_safe", filenames=files)
    query = DataQuery(
        name="measurement", polarization=polarisation.lower(), calibration="sigma_nought", quantity="natural"
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        scene.load([query])
    return scene[query].to_numpy()


def by_xarray_sentinel(product: Path, polarisation: str) -> Floats:
    """The same by xarray-sentinel, which subtracts no noise."""
    import xarray as xr
    from xarray_sentinel import calibrate_intensity

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        measured = xr.open_dataset(product, engine="sentinel-1", group=f"EW/{polarisation}")["measurement"]
        tables = xr.open_dataset(product, engine="sentinel-1", group=f"EW/{polarisation}/calibration")
        return calibrate_intensity(measured, tables["sigmaNought"]).to_numpy()


def by_definition(product: Path, spec: ProductSpec, polarisation: str) -> Floats:
    """The formula with the simulator's own tables: what the rounding of digital numbers alone leaves."""
    scene = open_scene(product)
    with open_measurement(scene, polarisation) as measurement:
        dn = measurement.read(0, spec.lines).astype(np.float64)
    tables, lines, pixels = luts(spec), np.arange(spec.lines), np.arange(spec.samples)
    power = dn**2 - tables.noise_annotated(polarisation, lines, pixels)
    return power / tables.sigma_nought([0], pixels) ** 2


def parts(scene: Scene) -> dict[str, NDArray[np.bool_]]:
    """Parts of the image where readers differ; they do not overlap."""
    line, pixel = np.arange(scene.shape[0])[:, None], np.arange(scene.shape[1])[None, :]
    vectors = [v.line for v in scene.noise["HH"].range_vectors]
    staircase = max(min(b.first_line for b in scene.swaths if b.swath == s) for s in scene.swath_names)
    seam = np.zeros(scene.shape, bool)
    for b in scene.swaths:
        for edge in {b.first_pixel, b.last_pixel + 1} - {0, scene.shape[1]}:
            seam[b.first_line : b.last_line + 1, max(0, edge - SEAM_PX) : edge + SEAM_PX] = True
    complete = next(v.line for v in scene.noise["HH"].range_vectors if v.line >= staircase)
    head, tail = (line < complete) & (pixel >= 0), (line > vectors[-1]) & (pixel >= 0)
    middle = ~head & ~tail
    return {
        "first lines, where sub-swaths begin": head,
        "past the last noise vector": tail,
        f"within {SEAM_PX} px of a seam": middle & seam,
        "the rest": middle & ~seam,
    }


def compare(found: Floats, truth: Floats | float, mask: NDArray[np.bool_]) -> str:
    """Bias of the mean in dB, rms and largest error as parts of the truth, and how much was left without a value."""
    ratio = (found / truth)[mask]
    some = ratio[np.isfinite(ratio)]
    bias_db = 10 * np.log10(some.mean())
    lost = 1 - some.size / ratio.size
    return f"{bias_db:+9.4f} {np.sqrt(((some - 1) ** 2).mean()):9.4f} {abs(some - 1).max():9.4f} {lost:8.2%}"


def attempt(name: str, read: Callable[[], Floats]) -> Floats | None:
    """Run a peer; say so where it is not installed."""
    try:
        return read()
    except ImportError as e:
        print(f"  {name}: left out, {e}")
        return None


def simulated(size: int) -> None:
    """Print the tables of the simulated product."""
    spec = ProductSpec(
        start=datetime(2018, 3, 13, 18, 12, 25), lines=size, samples=size, pixel_spacing_m=400_000 / size,
        centre_lon=-10, centre_lat=77, heading_deg=-150, seed=3, noise_departure=0.0,
    )  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        flat = {p: np.full((size, size), s, np.float32) for p, s in TRUTH.items()}
        product = write_safe(Path(folder), spec, flat, looks=None)
        scene = open_scene(product)
        inside = np.isfinite(by_floemap(product, "HH"))
        for p, truth in TRUTH.items():
            print(f"\nSimulated {size} x {size}, {p} {10 * np.log10(truth):.1f} dB, annotated noise subtracted")
            readers = {
                "rounding alone": by_definition(product, spec, p),
                "floemap": by_floemap(product, p),
                "satpy": attempt("satpy", lambda p=p: by_satpy(product, p)),
            }
            print_parts(readers, truth, parts(scene), inside)
            tables, pixels = luts(spec), np.arange(size)
            noise = tables.noise_annotated(p, np.arange(size), pixels) / tables.sigma_nought([0], pixels) ** 2
            print(f"\nSimulated {size} x {size}, {p}, noise left in (truth: backscatter + noise)")
            readers = {
                "floemap": by_floemap(product, p, "none"),
                "xarray-sentinel": attempt("xarray-sentinel", lambda p=p: by_xarray_sentinel(product, p)),
            }
            print_parts(readers, truth + noise, {"whole image": np.ones(scene.shape, bool)}, inside)
        print()
        print_refusals(product, "the simulated product")


def dark(size: int) -> None:
    """Print the mean of what lies below the noise, where single pixels are negative after subtraction."""
    truth = 10**-3.3
    spec = ProductSpec(
        start=datetime(2018, 3, 13, 18, 12, 25), lines=size, samples=size, pixel_spacing_m=400_000 / size,
        centre_lon=-10, centre_lat=77, heading_deg=-150, seed=4, noise_departure=0.0,
    )  # fmt: skip
    print(f"\nSimulated {size} x {size} with speckle, HV {10 * np.log10(truth):.1f} dB: bias of the mean, dB")
    with tempfile.TemporaryDirectory() as folder:
        flat = {p: np.full((size, size), truth, np.float32) for p in TRUTH}
        product = write_safe(Path(folder), spec, flat, looks=10.0)
        rest = list(parts(open_scene(product)).values())[-1]
        for name, reader in {"floemap": by_floemap, "satpy": by_satpy}.items():
            found = attempt(name, lambda reader=reader: reader(product, "HV"))
            if found is not None:
                values = found[rest & np.isfinite(found)]
                bias_db = 10 * np.log10(values.mean() / truth)
                below, zero = (values < 0).mean(), (values == 0).mean()
                print(f"  {name:16} {bias_db:+.2f}, with {below:.1%} negative, {zero:.1%} exactly 0")


def fringe(lines: int = 4000) -> None:
    """Print how much of the dim fringe of early processors is kept, and of the image beside it lost, at 80 m."""
    spec = ProductSpec(
        start=datetime(2018, 1, 16, 7, 54, 30), lines=lines, samples=10487, centre_lon=-10, centre_lat=77,
        heading_deg=-150, seed=5, ipf_version="002.82", noise_format="vectors",
    )  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        flat = {p: np.full((lines, spec.samples), s, np.float32) for p, s in TRUTH.items()}
        valid = calibrate(open_scene(write_safe(Path(folder), spec, flat)), looks=2).power[..., -1] > 0
    tables, line, pixel = luts(spec), np.arange(lines), np.arange(spec.samples)
    near, far = tables.fringe_px(line)
    dim = (pixel < near[:, None]) | (pixel >= spec.samples - far[:, None])
    image = tables.swath_index(line, pixel) >= 0

    def cells(mask: NDArray[np.bool_]) -> NDArray[np.int64]:
        return mask[:, : spec.samples // 2 * 2].reshape(lines // 2, 2, -1, 2).sum(axis=(1, 3))

    some, good = cells(dim & image) > 0, cells(~dim & image) == 4
    print(f"\nSimulated {lines} x {spec.samples}, IPF 2.82, with a fringe {near.min()} to {near.max()} px wide")
    print(
        f"  {(some & valid).sum() / some.sum():.2%} of the fringe's cells are left in;"
        f" {(good & ~valid).sum() / good.sum():.3%} of the image's are lost"
    )


def print_parts(
    readers: dict[str, Floats | None], truth: Floats | float, where: dict[str, NDArray[np.bool_]], inside: Any
) -> None:
    """Print one table."""
    print(f"  {'':44} {'':16} {'bias dB':>9} {'rms':>9} {'worst':>9} {'no value':>8}")
    for part, mask in where.items():
        share = (mask & inside).sum() / inside.sum()
        for i, (name, found) in enumerate((n, f) for n, f in readers.items() if f is not None):
            label = f"{part} ({share:.1%})" if i == 0 else ""
            print(f"  {label:44} {name:16} {compare(found, truth, mask & inside)}")


def print_refusals(product: Path, name: str) -> None:
    """Whether xarray-sentinel opens the noise tables, and what it takes of them."""
    try:
        from xarray_sentinel import sentinel1
    except ImportError:
        return
    noise = next(f for f in sorted((product / "annotation" / "calibration").glob("noise-*hh*")))
    try:
        sentinel1.open_noise_range_dataset(str(noise))
        print(f"  xarray-sentinel opens the range noise of {name}")
    except ValueError as e:
        print(f"  xarray-sentinel on the range noise of {name}: ValueError: {str(e)[:90]}")
    taken = sentinel1.open_noise_azimuth_dataset(str(noise)).sizes["line"]
    lut = open_scene(product, pixels=False).noise["HH"]
    total = sum(len(b.lines) for b in lut.azimuth_blocks)
    print(f"  and of its {len(lut.azimuth_blocks)} azimuth blocks with {total} values it takes one with {taken}")


def real(product: Path) -> None:
    """Print how satpy's and floemap's interpolation of real tables differ, over windows of lines."""
    try:
        scene = open_scene(product, pixels=False)
    except FloemapError as e:
        raise SystemExit(f"error: {e}") from e
    print(f"\nReal tables of {scene.name}: satpy's noise over floemap's")
    lines = scene.shape[0]
    windows = [(0, 512), (1280, 1408), (lines // 2, lines // 2 + 256), (lines - 160, lines)]
    print(f"  {'':44} {'median dB':>10} {'least dB':>10} {'most dB':>10} {'no value':>9} {'error in sigma0':>16}")
    for p in scene.polarisations:
        noise, calibration = satpy_tables(scene, product, p)
        table = NoiseTable(scene.noise[p], scene.swaths, scene.shape, 1)
        gain = CalibrationTable(scene.calibration[p], scene.shape[1], 1)
        worst_a = 0.0
        ratio, off, names = [], [], []
        where = parts(scene)
        where["the last 40 px of far range"] = np.zeros(scene.shape, bool)
        for first, last in windows:
            ours, inside = table.cells(first, last)
            scale = gain.inverse_square(first, last)
            theirs = noise.isel(y=slice(first, last)).to_numpy()
            a = calibration.isel(y=slice(first, last)).to_numpy()
            worst_a = max(worst_a, float(np.nanmax(abs(a**2 * scale - 1))))
            part = np.full(ours.shape, len(where) - 1)
            for i, mask in enumerate(where.values()):
                part[mask[first:last]] = i
            part[:, -40:] = len(where) - 1
            ratio.append((theirs / ours)[inside])
            off.append(((np.nan_to_num(theirs) - ours) * scale)[inside])
            names.append(part[inside])
        every, error, kind = (np.concatenate(x) for x in (ratio, off, names))
        for i, name in enumerate(where):
            r, e = every[kind == i], error[kind == i]
            if not r.size:
                continue
            some = r[np.isfinite(r) & (r > 0)]
            db = 10 * np.log10(some)
            print(
                f"  {p} {name[:41]:41} {np.median(db):10.4f} {db.min():10.4f} {db.max():10.4f}"
                f" {1 - some.size / r.size:9.2%} {np.sqrt((e**2).mean()):16.2e}"
            )
        print(f"  {p} A^2 by both differs by {worst_a:.1e} at most")


def satpy_tables(scene: Scene, product: Path, polarisation: str) -> tuple[Any, Any]:
    """Noise and calibration of a product at all pixels by satpy, not computed yet."""
    from satpy.readers.sar_c_safe import Calibrator, Denoiser

    info = {"start_time": scene.start, "end_time": scene.stop, "polarization": polarisation.lower()}
    folder = product / "annotation" / "calibration"
    paths = [next(folder.glob(f"{kind}-*{polarisation.lower()}*.xml")) for kind in ("noise", "calibration")]
    denoiser = Denoiser(paths[0], info, None, image_shape=scene.shape)
    calibrator = Calibrator(paths[1], info, None, image_shape=scene.shape)
    return denoiser.get_noise_correction(chunks=256), calibrator.get_calibration("sigma_nought", chunks=256)


def main() -> None:
    """Print all tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=2000, help="lines and samples of the simulated product")
    parser.add_argument("--product", type=Path, help="a real product's folder; its pixels are not needed")
    options = parser.parse_args()
    warnings.simplefilter("ignore", DeprecationWarning)
    simulated(options.size)
    dark(options.size)
    fringe()
    found = [options.product] if options.product else sorted(SHARED.glob("S1?_EW_GRDM_1SDH_*"))
    if not found:
        print("\nno real metadata found in ../shared/data: skipped; --product names some")
    for product in found:
        print_refusals(product, "a real product")
        try:
            real(product)
        except ImportError as e:
            print(f"  satpy: left out, {e}")


if __name__ == "__main__":
    main()
