"""How long a chart takes from class raster to polygons and files, against the usual ways, and how good they are.

    python benchmarks/chart.py [--rows 5000] [--cols 5200] [--detail 1] [--min-area 5] [--tolerance 120] [--repeats 3]

All in one run, on one raster of simulated classes, six of them, with a scene's outline: patches at all scales, as a
model draws them; --detail 3 is a ragged one. The best of the repeats, and CPU seconds; ratios to the first line. The
usual way: GDAL's sieve and polygons (rasterio.features), then each polygon simplified by itself (Douglas-Peucker). Of
each result: vertices, gaps and overlaps between polygons, how much the area of a class changed at most against the
raster that was drawn, how far off pixels are whose class changed, and polygons below the minimum area. Simplification
as a coverage, and borders alone, are compared in benchmarks/outlines.py.
"""

from __future__ import annotations

import argparse
import resource
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import rasterio.features
import shapely
from affine import Affine
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox

from floemap.icechart.draw.polygonize import ChartPolygons, vectorize
from floemap.icechart.label.borders import border_distance_px
from floemap.icechart.read.overlaps import measure_coverage
from floemap.icechart.write.sigrid3 import write_sigrid3
from floemap.icechart.write.vector import write_geojson, write_geopackage
from floemap.legend import IGNORE, SIX_CLASSES

PIXEL_M = 80.0
START = datetime(2018, 1, 16, 7, 54, 30, tzinfo=UTC)
# Cell in pixels and weight of the noise at each scale; the finer ones grow with the detail.
SCALES = ((400, 3.0, False), (120, 1.5, False), (40, 0.8, False), (16, 0.45, True), (6, 0.2, True))


def simulated_classes(rows: int, cols: int, detail: float, seed: int = 1) -> NDArray[np.uint8]:
    """Patches of six classes at all scales inside a turned rectangle, no data around it."""
    rng = np.random.default_rng(seed)
    best = np.full((rows, cols), -np.inf, np.float32)
    classes = np.zeros((rows, cols), np.uint8)
    for k in range(len(SIX_CLASSES)):
        field = np.zeros((rows, cols), np.float32)
        for cell, weight, fine in SCALES:
            coarse = rng.normal(size=(rows // cell + 4, cols // cell + 4)).astype(np.float32)
            field += weight * (detail if fine else 1) * cv2.resize(coarse, (cols, rows), interpolation=cv2.INTER_CUBIC)
        better = field > best
        best[better], classes[better] = field[better], k
    y, x = np.arange(rows, dtype=np.float32)[:, None] - rows / 2, np.arange(cols, dtype=np.float32) - cols / 2
    classes[(abs(0.97 * x + 0.24 * y) > 0.45 * cols) | (abs(0.97 * y - 0.24 * x) > 0.45 * rows)] = IGNORE
    return classes


def simulated_probabilities(classes: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Percent for each class, 255 outside."""
    bands = np.full((len(SIX_CLASSES), *classes.shape), 4, np.uint8)
    for k, band in enumerate(bands):
        band[classes == k] = 80
        band[classes == IGNORE] = 255
    return bands


Drawn = tuple[NDArray[Any], NDArray[np.uint8], NDArray[np.uint8]]  # polygons, their classes, the raster drawn


def by_gdal(classes: NDArray[np.uint8], grid: GeoBox, smallest_px: int, tolerance: float) -> Drawn:
    """Sieve, polygons and simplification, each from its library."""
    valid = classes != IGNORE
    sieved = rasterio.features.sieve(classes, smallest_px, mask=valid)
    sieved[~valid] = IGNORE
    found = list(rasterio.features.shapes(sieved, mask=valid, transform=grid.transform))
    polygons = np.array([shapely.geometry.shape(g) for g, _ in found])
    polygons = shapely.simplify(polygons, tolerance)
    return polygons, np.array([v for _, v in found]).astype(np.uint8), sieved


def by_floemap(chart: ChartPolygons) -> Drawn:
    rows = chart.polygons
    return np.asarray(rows.geometry), rows["class_id"].to_numpy(), chart.classes


def measure(name: str, work: Callable[[], Any], repeats: int, reference_s: float | None) -> tuple[float, Any]:
    """Run `work` some times, print the shortest time; return it, in seconds, and what came out."""
    wall, cpu = [], []
    for _ in range(repeats):
        start, start_cpu = time.perf_counter(), time.process_time()
        result = work()
        wall.append(time.perf_counter() - start)
        cpu.append(time.process_time() - start_cpu)
    ratio = "" if reference_s is None else f"{min(wall) / reference_s:8.2f} x"
    print(f"{name:58s}{min(wall):8.2f} s{min(cpu):8.2f} s CPU{ratio}", flush=True)
    return min(wall), result


def describe(name: str, drawn: Drawn, grid: GeoBox, smallest_km2: float) -> None:
    """Print how good polygons are."""
    polygons, classes, raster = drawn
    coverage = measure_coverage(shapely.make_valid(polygons))
    before = np.bincount(raster[raster != IGNORE], minlength=6) * PIXEL_M**2
    change = np.abs(np.bincount(classes, shapely.area(polygons), 6) / before - 1).max()
    burned = rasterio.features.rasterize(
        zip(polygons, classes.tolist(), strict=True), raster.shape, fill=IGNORE, transform=grid.transform, dtype="uint8"
    )
    edged = np.pad(raster, 1, constant_values=IGNORE)  # the raster's edge is a border, too
    off = border_distance_px(edged)[1:-1, 1:-1][burned != raster]
    print(
        f"{name:24s}{len(polygons):8,}{shapely.get_num_coordinates(polygons).sum():11,}"
        f"{coverage.gap_m2 / 1e6:10.2f}{coverage.overlap_m2 / 1e6:10.2f}{(~shapely.is_valid(polygons)).sum():9d}"
        f"{change:10.3%}{off.max(initial=0):8.1f}{(shapely.area(polygons) < smallest_km2 * 1e6).sum():8d}",
        flush=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=5000)
    parser.add_argument("--cols", type=int, default=5200)
    parser.add_argument("--detail", type=float, default=1.0, help="how ragged the patches are")
    parser.add_argument("--min-area", type=float, default=5.0, help="km2")
    parser.add_argument("--tolerance", type=float, default=120.0, help="m")
    parser.add_argument("--repeats", type=int, default=3)
    args = parser.parse_args()
    classes = simulated_classes(args.rows, args.cols, args.detail)
    probabilities = simulated_probabilities(classes)
    # On an equal-area map: there, all that measure areas mean the same.
    grid = GeoBox(classes.shape, Affine(PIXEL_M, 0, 300_000, 0, -PIXEL_M, -900_000), "EPSG:6931")
    smallest_px = int(np.ceil(args.min_area * 1e6 / PIXEL_M**2))
    sides = 2 * int((classes[:, 1:] != classes[:, :-1]).sum() + (classes[1:] != classes[:-1]).sum())
    print(
        f"{classes.size / 1e6:.0f} Mpx, {sides // 2:,} pixel sides are borders, {args.min_area:g} km2 at least, ",
        end="",
    )
    print(f"tolerance {args.tolerance:g} m = {args.tolerance / PIXEL_M:g} px\n")

    def ours(**options: Any) -> ChartPolygons:
        return vectorize(classes, grid, SIX_CLASSES, min_area_km2=args.min_area, tolerance_m=args.tolerance, **options)

    def gdal() -> Drawn:
        return by_gdal(classes, grid, smallest_px, args.tolerance)

    run = args.repeats
    reference, chart = measure("vectorize", ours, run, None)
    own_peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    _, full = measure(
        "vectorize, with probabilities",
        lambda: ours(probabilities=probabilities, probability_step=0.01),
        run,
        reference,
    )
    measure("vectorize, smoothed by 160 m", lambda: ours(smoothing_m=160.0), run, reference)
    _, alone = measure("GDAL: sieve, polygons; each simplified", gdal, run, reference)
    with tempfile.TemporaryDirectory() as name:
        folder, about = Path(name), {"simulated": True}
        measure("write_sigrid3", lambda: write_sigrid3(full, folder, start=START, about=about), run, reference)
        path = folder / "chart.gpkg"
        measure("write_geopackage", lambda: write_geopackage(full, path, start=START, about=about), run, reference)
        path = folder / "chart.geojson"
        measure("write_geojson", lambda: write_geojson(full, path, start=START, about=about), run, reference)
        sizes = ", ".join(f"{p.name} {p.stat().st_size / 1e6:.1f} MB" for p in sorted(folder.iterdir()))
    print(f"\npeak memory with the raster and its probabilities: {own_peak:.2f} GiB\n{sizes}\n")
    print(f"{'':24s}{'polygons':>8s}{'vertices':>11s}{'gaps km2':>10s}{'over km2':>10s}{'invalid':>9s}", end="")
    print(f"{'class':>10s}{'off px':>8s}{'small':>8s}")
    for what, drawn in (("floemap", by_floemap(chart)), ("each simplified", alone)):
        describe(what, drawn, grid, args.min_area)


if __name__ == "__main__":
    main()
