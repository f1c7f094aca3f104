"""Polygons of a class raster by floemap and by libraries: time, memory, and how true the polygons are.

    python benchmarks/outlines.py [--rows 5200] [--cols 5400] [--detail 1] [--tolerance 160] [--repeats 3]

All ways draw the same raster: simulated classes from benchmarks/chart.py, with regions below 10 km2 merged into
neighbours. Only the way from that raster to polygons is measured, each in a separate process. The times are those of
the repeat with the least user time, and the ratio is that of the user time to floemap's, which other programs on the
machine disturb less than the wall time. Peak memory is what a process needs in addition to the raster.

"class" is the greatest change of a class's area, "region" that of a region's area, both against the pixels. "far" is
the greatest distance, in tolerances, from a drawn border to the sides of pixels, "near" the greatest from the sides of
pixels to a drawn border. Polygons are checked by shapely.is_valid, coverages by shapely.coverage_is_valid.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import rasterio.features
import shapely
from affine import Affine
from chart import PIXEL_M, simulated_classes
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox

from floemap.icechart.draw.polygonize import vectorize
from floemap.icechart.draw.region_borders import pad, trace_borders
from floemap.icechart.draw.region_polygons import draw_outlines
from floemap.icechart.draw.regions import find_regions
from floemap.legend import IGNORE, SIX_CLASSES

SMALLEST_KM2 = 10.0
MAP = Affine(PIXEL_M, 0, 300_000, 0, -PIXEL_M, -900_000)
# An equal-area map: there, all that measure areas mean the same.
CRS = "EPSG:6931"

Classes = NDArray[np.uint8]
Drawn = tuple[NDArray[Any], Classes]  # polygons and their classes


def by_floemap(classes: Classes, tolerance_m: float) -> Drawn:
    regions = find_regions(pad(classes))
    charted = regions.classes[regions.classes != IGNORE]
    each = np.full(len(charted), PIXEL_M**2 / 1e6)
    borders = trace_borders(regions)
    drawn = draw_outlines(borders, charted, MAP, each, tolerance_px=tolerance_m / PIXEL_M, minimum_km2=0)
    return drawn.polygons, drawn.merged.classes


def by_shapes(classes: Classes, tolerance_m: float = 0) -> Drawn:
    """rasterio.features.shapes: along the sides of pixels."""
    found = list(rasterio.features.shapes(classes, mask=classes != IGNORE, transform=MAP))
    return np.array([shapely.geometry.shape(g) for g, _ in found]), np.array([v for _, v in found]).astype(np.uint8)


def by_coverage_simplify(classes: Classes, tolerance_m: float) -> Drawn:
    polygons, of = by_shapes(classes)
    # A coverage needs every corner in all polygons that touch it.
    return shapely.coverage_simplify(shapely.segmentize(polygons, PIXEL_M), tolerance_m), of


def by_shared_edges(classes: Classes, tolerance_m: float) -> Drawn:
    """Borders cut where three polygons meet, each simplified by Douglas-Peucker, and polygons made of them again."""
    polygons, _ = by_shapes(classes)
    noded = shapely.line_merge(shapely.union_all(shapely.boundary(shapely.segmentize(polygons, PIXEL_M))))
    edges = shapely.simplify(shapely.get_parts(noded), tolerance_m, preserve_topology=False)
    faces = shapely.get_parts(shapely.polygonize(edges))
    x, y = shapely.get_coordinates(shapely.point_on_surface(faces)).T
    col, row = (~MAP) * (x, y)
    class_there = classes[row.astype(int).clip(0, len(classes) - 1), col.astype(int).clip(0, classes.shape[1] - 1)]
    return faces[class_there != IGNORE], class_there[class_there != IGNORE]


WAYS: dict[str, Callable[[Classes, float], Drawn]] = {
    "floemap": by_floemap,
    "shapes alone, not simplified": by_shapes,
    "shapes, coverage_simplify": by_coverage_simplify,
    "the same, half of the tolerance": lambda classes, tolerance_m: by_coverage_simplify(classes, tolerance_m / 2),
    "shapes, shared edges, polygonize": by_shared_edges,
}


def run(way: str, raster: Path, tolerance_m: float, repeats: int, out: Path) -> None:
    """Draw by one way in this process; print JSON and leave the polygons in `out`."""
    classes = np.load(raster)
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
    base = memory_gib("VmRSS")
    times = []
    for _ in range(repeats):
        start, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_SELF).ru_utime
        polygons, of = WAYS[way](classes, tolerance_m)
        times.append((time.perf_counter() - start, resource.getrusage(resource.RUSAGE_SELF).ru_utime - before))
    peak = memory_gib("VmHWM") - base
    wall, user = min(times, key=lambda t: t[1])
    np.savez(out, of=of, polygons=shapely.to_wkb(polygons).astype(object))
    print(json.dumps({"wall": wall, "user": user, "gib": peak}))


def memory_gib(name: str) -> float:
    """Return this process's resident memory by Linux: VmRSS now, VmHWM at its peak."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{name}:")) / 2**20


def segments(polygons: NDArray[Any]) -> NDArray[Any]:
    """Return the straight pieces of all borders, those of two polygons twice."""
    xy, ring = shapely.get_coordinates(shapely.get_rings(polygons), return_index=True)
    pieces = np.stack([xy[:-1], xy[1:]], axis=1)[ring[1:] == ring[:-1]]
    return np.asarray(shapely.linestrings(pieces))


def greatest_distance(points_of: NDArray[Any], to: NDArray[Any]) -> float:
    """Return the greatest distance from points, at most a quarter of a pixel apart, along borders to other borders."""
    xy = shapely.get_coordinates(shapely.segmentize(points_of, PIXEL_M / 4))
    tree = shapely.STRtree(segments(to))
    _, distance = tree.query_nearest(shapely.points(np.unique(xy, axis=0)), all_matches=False, return_distance=True)
    return float(distance.max())


def quality(drawn: Drawn, exact: Drawn, tolerance_m: float) -> dict[str, Any]:
    polygons, of = drawn
    true = np.bincount(exact[1], shapely.area(exact[0]), 6)
    change = np.abs(np.bincount(of, shapely.area(polygons), 6) / true - 1).max()
    same = len(polygons) == len(exact[0])
    # Polygons of one region share a point inside; their order differs by way.
    where = shapely.STRtree(polygons).query_nearest(shapely.point_on_surface(exact[0]), all_matches=False)[1]
    region = np.abs(shapely.area(polygons[where]) / shapely.area(exact[0]) - 1).max() if same else np.nan
    return {
        "polygons": len(polygons),
        "vertices": int(shapely.get_num_coordinates(polygons).sum()),
        "class": change,
        "region": region,
        "far": greatest_distance(polygons, exact[0]) / tolerance_m,
        "near": greatest_distance(exact[0], polygons) / tolerance_m,
        "invalid": int((~shapely.is_valid(polygons)).sum()),
        "coverage": bool(shapely.coverage_is_valid(polygons)),
    }


def load(path: Path) -> Drawn:
    with np.load(path, allow_pickle=True) as file:  # written by this script a moment ago
        return np.asarray(shapely.from_wkb(file["polygons"])), file["of"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=5200)
    parser.add_argument("--cols", type=int, default=5400)
    parser.add_argument("--detail", type=float, default=1.0, help="how ragged the regions are")
    parser.add_argument("--tolerance", type=float, default=2 * PIXEL_M, help="m")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--way", choices=WAYS, help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.way:
        out = args.folder / f"{list(WAYS).index(args.way)}.npz"
        run(args.way, args.folder / "classes.npy", args.tolerance, args.repeats, out)
        return
    classes = simulated_classes(args.rows, args.cols, args.detail)
    grid = GeoBox(classes.shape, MAP, CRS)
    classes = vectorize(classes, grid, SIX_CLASSES, min_area_km2=SMALLEST_KM2, tolerance_m=0).classes
    sides = int((classes[:, 1:] != classes[:, :-1]).sum() + (classes[1:] != classes[:-1]).sum())
    print(f"{classes.size / 1e6:.1f} Mpx, {sides:,} pixel sides are borders, tolerance {args.tolerance:g} m")
    exact = by_shapes(classes)
    print(f"{'':36s}{'wall':>7s}{'user':>7s}{'ratio':>7s}{'GiB':>6s}", end="")
    print(f"{'polygons':>9s}{'vertices':>10s}{'class':>9s}{'region':>9s}{'far':>6s}{'near':>6s}", end="")
    print(f"{'invalid':>8s}  coverage")
    reference_s = 0.0
    with tempfile.TemporaryDirectory() as name:
        np.save(Path(name) / "classes.npy", classes)
        for i, way in enumerate(WAYS):
            call = [sys.executable, __file__, "--way", way, "--folder", name, "--repeats", str(args.repeats)]
            call += ["--tolerance", str(args.tolerance)]
            took = json.loads(subprocess.run(call, check=True, stdout=subprocess.PIPE).stdout)
            reference_s = reference_s or took["user"]
            print(f"{way:36s}{took['wall']:7.2f}{took['user']:7.2f}{took['user'] / reference_s:7.2f}", end="")
            print(f"{took['gib']:6.2f}", end="", flush=True)
            q = quality(load(Path(name) / f"{i}.npz"), exact, args.tolerance)
            print(f"{q['polygons']:9,}{q['vertices']:10,}{q['class']:9.3%}{q['region']:9.2%}{q['far']:6.2f}", end="")
            print(f"{q['near']:6.2f}{q['invalid']:8d}  {'valid' if q['coverage'] else 'INVALID'}", flush=True)


if __name__ == "__main__":
    main()
