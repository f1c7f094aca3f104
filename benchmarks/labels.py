"""How long labelling takes, against drawing alone and against the mapping by strings that research code uses.

    python benchmarks/labels.py [--size 5000] [--polygons 500] [--repeats 5] [--chart CHART]

All in one run, on one chart and grid; the best of the repeats (what else the machine does only adds), and ratios to the
first line. By default the chart is simulated: cells with ragged borders that cover the grid. With --chart, a real one,
on a grid around it.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import rasterio.features
import shapely
from affine import Affine
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox

from floemap.cog import write_cog
from floemap.icechart.label.label import label_chart
from floemap.icechart.label.rasterize import polygons_on, rasterize_labels
from floemap.icechart.label.settings import LabelSettings
from floemap.icechart.read.sigrid3 import Chart, read_chart
from floemap.legend import IGNORE, SIX_CLASSES
from floemap.sentinel1.bands import BANDS
from floemap.sentinel1.encoding import NODATA

CRS = "EPSG:3413"
PIXEL_M = 80.0
LEFT, TOP = 400_000.0, -900_000.0
STAGES = ("81", "82", "84", "85", "86", "87", "95", "96")


def simulated_chart(path: Path, count: int, side_m: float) -> None:
    """Write a chart of `count` cells with some 60 vertices each that leave no gap."""
    rng = np.random.default_rng(1)
    box = shapely.box(LEFT, TOP - side_m, LEFT + side_m, TOP)
    points = rng.uniform([LEFT, TOP - side_m], [LEFT + side_m, TOP], (count, 2))
    cells = shapely.get_parts(shapely.voronoi_polygons(shapely.multipoints(points), extend_to=box))
    cells = shapely.intersection(cells, box)
    # The same smooth shift for all vertices: borders get ragged and stay shared.
    cells = shapely.segmentize(cells, side_m / np.sqrt(count) / 15)

    def bend(xy: NDArray[Any]) -> NDArray[Any]:
        x, y = xy.T
        step = side_m / np.sqrt(count) / 8
        return np.column_stack([x + step * np.sin(y / step / 2), y + step * np.sin(x / step / 2 + 1)])

    cells = shapely.transform(cells, bend)
    stage = rng.choice(STAGES, (3, len(cells)))
    codes = {"CT": "92", "CA": "40", "SA": stage[0], "CB": "30", "SB": stage[1], "CC": "30", "SC": stage[2]}
    gpd.GeoDataFrame(codes | {"POLY_TYPE": "I"}, geometry=cells, crs=CRS).to_file(path)


def product(path: Path, geobox: GeoBox) -> None:
    """Write a prepared product of noise, as incompressible as the real ones, with a corner without data."""
    rng = np.random.default_rng(2)
    stored = rng.normal(-1500, 150, (4, *geobox.shape)).astype(np.int16)
    stored[3] = 1
    corner = np.tri(*geobox.shape, k=-geobox.shape[0] * 3 // 4, dtype=bool)
    stored[:3, corner], stored[3, corner] = NODATA, 0
    write_cog(path, geobox, stored, BANDS, nodata=NODATA, tags={"simulated": "yes"})


def mapping_by_strings(chart: Chart, geobox: GeoBox) -> NDArray[np.uint8]:
    """Two passes: polygons' codes as text to pixels, then each text to a class, by comparing all pixels with it."""
    polygons, positions = polygons_on(chart, geobox)
    numbers = rasterio.features.rasterize(
        zip(polygons, (positions + 1).tolist(), strict=True),
        out_shape=tuple(geobox.shape),
        transform=geobox.transform,
        dtype="int32",
    )
    columns = [chart.codes(c).astype(str) for c in ("ct", "ca", "sa", "cb", "sb", "cc", "sc")]
    texts = np.array(["", *("_".join(codes) for codes in zip(*columns, strict=True))])
    _, number_of_text = np.unique(texts, return_inverse=True)
    text_raster = number_of_text.astype(np.int32)[numbers]
    table = SIX_CLASSES.stage_to_class
    labels = np.full(numbers.shape, IGNORE, np.uint8)
    for text in np.unique(texts[1:]):
        codes = text.split("_")
        largest = int(np.argmax([int(c) for c in codes[1:6:2]]))
        labels[text_raster == number_of_text[np.flatnonzero(texts == text)[0]]] = table.get(
            int(codes[2 + 2 * largest]), IGNORE
        )
    return labels


def measure(name: str, work: Callable[[], Any], repeats: int, reference_s: float | None) -> float:
    """Run `work` some times, print the shortest time; return it, in seconds."""
    wall, cpu = [], []
    for _ in range(repeats):
        start, start_cpu = time.perf_counter(), time.process_time()
        work()
        wall.append(time.perf_counter() - start)
        cpu.append(time.process_time() - start_cpu)
    best = min(wall)
    ratio = "" if reference_s is None else f"{best / reference_s:8.2f} x"
    print(f"{name:58s}{best:8.2f} s{min(cpu):8.2f} s CPU{ratio}", flush=True)
    return best


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=5000, help="pixels along the side")
    parser.add_argument("--polygons", type=int, default=500)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--chart", type=Path, help="a real chart instead of a simulated one")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        side_m = args.size * PIXEL_M
        path = args.chart or folder / "chart.gpkg"
        geobox = GeoBox((args.size, args.size), Affine(PIXEL_M, 0, LEFT, 0, -PIXEL_M, TOP), CRS)
        if args.chart is None:
            simulated_chart(path, args.polygons, side_m)
        else:
            bounds = gpd.GeoSeries(read_chart(path).polygons.geometry).to_crs(CRS).total_bounds
            step = max(bounds[2] - bounds[0], bounds[3] - bounds[1]) / args.size
            geobox = GeoBox((args.size, args.size), Affine(step, 0, bounds[0], 0, -step, bounds[3]), CRS)
        like = folder / "product.tif"
        product(like, geobox)
        chart = read_chart(path)
        polygons, positions = polygons_on(chart, geobox)
        shapes = list(zip(polygons, (positions + 1).tolist(), strict=True))
        vertices = int(shapely.get_num_coordinates(polygons).sum())
        kind = "a real chart" if args.chart else "a simulated chart"
        print(f"{kind}, {len(shapes)} polygons, {vertices:,} vertices, {args.size} x {args.size} px\n")

        def draw() -> Any:
            return rasterio.features.rasterize(
                shapes, out_shape=tuple(geobox.shape), transform=geobox.transform, dtype="uint16"
            )

        def command(**settings: Any) -> Callable[[], Any]:
            return lambda: label_chart(path, like, folder / "out", LabelSettings(**settings), overwrite=True)

        run = args.repeats
        alone = measure("rasterio.features.rasterize alone", draw, run, None)
        measure("rasterize_labels, in memory", lambda: rasterize_labels(chart, geobox, SIX_CLASSES), run, alone)
        measure("two passes with strings, in memory", lambda: mapping_by_strings(chart, geobox), run, alone)
        measure("floemap label --no-border-distance, files to files", command(border_distance=False), run, alone)
        measure("floemap label, files to files", command(), run, alone)
        measure("floemap label --fractions, files to files", command(fractions=True), run, alone)
        if args.chart is None:  # parts of the real one may tie, sum short or be of a fourth type, which strings ignore
            same = mapping_by_strings(chart, geobox) == rasterize_labels(chart, geobox, SIX_CLASSES)
            print(f"\npixels with one class by both: {same.mean():.4%}")


if __name__ == "__main__":
    main()
