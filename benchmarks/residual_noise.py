"""What `floemap prepare --noise scaled` gains over the annotated noise, on simulated scenes whose true noise is known.

    python benchmarks/residual_noise.py [--seeds 3]

Full-size scenes with speckle. Their true noise departs from the annotated one by up to 4 % in level and by 5 to 16 % in
the depth of scalloping, per sub-swath, at random. "Error of the noise" compares what was subtracted with what was put
in, as a part of the mean noise; steps and scalloping are those that product.json states, in the darkest windows.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from floemap.sentinel1.metadata import Scene
from floemap.sentinel1.multilook import calibrate
from floemap.sentinel1.noise_residual import estimate_adjustments, measure
from floemap.sentinel1.radiometry import CalibrationTable, NoiseAdjustment, NoiseTable
from floemap.sentinel1.safe.reader import open_scene
from floemap.simulation.safe.writer import ProductSpec, luts, write_safe

Floats = NDArray[np.float32]
HV_BELOW_HH_DB = 13.0
#: Backscatter fields are made at this fraction of the resolution and repeated.
BLOCK = 16
LOOKS = 2


def calm_water(shape: tuple[int, int], rng: np.random.Generator) -> Floats:
    """HH in dB of open water with wind that varies smoothly over 100 km, falling off with range."""
    wind = gaussian_filter(rng.standard_normal(shape), 160)
    return -12 - 9 * np.linspace(0, 1, shape[1])[None] + 2 * wind / wind.std()


def ice_field(shape: tuple[int, int], rng: np.random.Generator) -> Floats:
    """HH in dB of a patchwork of three ice types and leads, sizes from 2 to 60 km, with abrupt edges."""
    large, small = (gaussian_filter(rng.standard_normal(shape), s) for s in (60, 6))
    mix = large / large.std() + 0.5 * small / small.std()
    hh_db = np.select([mix < -1.3, mix < -0.3, mix < 0.8], [-21.0, -16.0, -13.0], -10.0)
    return hh_db - 4 * np.linspace(0, 1, shape[1])[None]


SCENES: dict[str, Callable[[tuple[int, int], np.random.Generator], Floats]] = {
    "water": calm_water,
    "ice": ice_field,
}


def simulate(folder: Path, field: Callable[..., Floats], seed: int) -> tuple[ProductSpec, Path]:
    """Write a full-size product of a field of backscatter."""
    spec = ProductSpec(
        start=datetime(2018, 3, 13, 18, 12, 25), lines=10708, samples=10487,
        centre_lon=-10, centre_lat=77, heading_deg=-150, seed=seed,
    )  # fmt: skip
    hh_db = field((spec.lines // BLOCK + 1, spec.samples // BLOCK + 1), np.random.default_rng(seed))

    def rows(offset_db: float) -> Callable[[slice], Floats]:
        power = (10 ** ((hh_db + offset_db) / 10)).astype(np.float32)
        wide = np.repeat(power, BLOCK, axis=1)[:, : spec.samples]
        return lambda lines: wide[np.arange(lines.start, lines.stop) // BLOCK]

    return spec, write_safe(folder, spec, {"HH": rows(0.0), "HV": rows(-HV_BELOW_HH_DB)})


def noise_error(scene: Scene, spec: ProductSpec, polarisation: str, adjust: dict[str, NoiseAdjustment]) -> float:
    """Rms error of the subtracted noise at a sample of cells, as a part of the mean noise; sigma nought both."""
    table = NoiseTable(scene.noise[polarisation], scene.swaths, scene.shape, LOOKS)
    gain = CalibrationTable(scene.calibration[polarisation], scene.shape[1], LOOKS)
    truth = luts(spec)
    cols = np.arange(8, scene.shape[1] // LOOKS, 31)
    errors, levels = [], []
    for row in range(8, scene.shape[0] // LOOKS - 1, 23):
        noise, inside = table.cells(row, row + 1, adjust)
        scale = gain.inverse_square(row, row + 1)
        subtracted = noise * scale + table.offsets(row, row + 1, adjust)
        lines, pixels = np.arange(row * LOOKS, row * LOOKS + LOOKS), (cols[:, None] * LOOKS + np.arange(LOOKS)).ravel()
        true = truth.noise_true(polarisation, lines, pixels).mean(axis=0).reshape(-1, LOOKS).mean(axis=1)
        true = true * scale[0, cols]
        ok = inside[0, cols] & np.isfinite(true)
        errors.append((subtracted[0, cols] - true)[ok])
        levels.append(true[ok])
    return float(np.sqrt((np.concatenate(errors) ** 2).mean()) / np.concatenate(levels).mean())


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3, help="scenes of each kind")
    options = parser.parse_args()
    head = f"{'worst seam dB':>14} {'worst scalloping dB':>20} {'noise error':>12}"
    print(f"{'scene':12} {'band':5} {'subtracted':10} {head}")
    errors: dict[tuple[str, str, str], list[float]] = {}
    for name, field in SCENES.items():
        for seed in range(1, options.seeds + 1):
            with tempfile.TemporaryDirectory() as folder:
                spec, product = simulate(Path(folder), field, seed)
                scene = open_scene(product)
                cells = calibrate(scene, looks=LOOKS)
            for p in scene.polarisations:
                blocks = scene.noise[p].azimuth_blocks
                scaled = estimate_adjustments(cells.coarse[p], scene.swaths, blocks)
                for way, adjust in {"none": None, "annotated": {}, "scaled": scaled}.items():
                    left = measure(cells.coarse[p], scene.swaths, blocks, adjust)
                    words = f"{left.worst_seam_db:14.2f} {left.worst_scalloping_db:20.2f}"
                    if adjust is not None:
                        error = noise_error(scene, spec, p, adjust)
                        errors.setdefault((name, p, way), []).append(error)
                        words += f" {error:12.2%}"
                    print(f"{f'{name} {seed}':12} {p:5} {way:10} {words}", flush=True)
    print("mean error of the noise")
    for (name, p, way), found in errors.items():
        print(f"{name:12} {p:5} {way:10} {np.mean(found):12.2%}")


if __name__ == "__main__":
    main()
