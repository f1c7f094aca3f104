"""Polygons drawn by type and for eggs, on simulated scenes: how many, how true their eggs are, how like an analyst's.

    floemap simulate twin --size full --months 3,7 --seed 5 --out twin
    floemap prepare twin/products/*.SAFE --out prepared
    python benchmarks/mixtures.py twin prepared [--model MODEL.safetensors]

Everything here is simulated; by default, so are the scenes of the model. The truth of each polygon is counted in the
twin's truth under it. Errors are means over the polygons at sea, weighted by area, in tenths: of the total, and of the
partial concentrations of all types together (half of the sum of the absolute errors of all classes, water
included, is the tenths that are in the wrong place). "place" is the same, but against the truth around each place, in
squares of 5 km: it also counts what a polygon does not tell apart. The analyst is the simulated one, who draws from the
truth: "analyst" are the tenths in which chart and analyst differ at a place, "Rand" is the adjusted Rand index between
their polygons, 1 for equal ones, 0 for chance.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

import cv2
import geopandas as gpd
import numpy as np
import rasterio
import rasterio.features
import shapely
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox
from rasterio.warp import Resampling, reproject
from sklearn.metrics import adjusted_rand_score

from floemap.icechart.dominant_type import class_fractions, ice_types
from floemap.icechart.draw.eggs import EggSource
from floemap.icechart.draw.mixtures import mixture_areas
from floemap.icechart.draw.polygonize import ChartPolygons, vectorize
from floemap.icechart.read.sigrid3 import read_chart
from floemap.inference.predict.model_files import default_model
from floemap.inference.predict.predictors import make_predictor, predict_maps
from floemap.inference.predict.scene_maps import STEP, SceneMaps, without_land
from floemap.legend import IGNORE, LAND, Legend

SQUARE_M = 5000.0


def truth_on(path: Path, geobox: GeoBox) -> NDArray[np.uint8]:
    """Return the true classes on a grid; IGNORE on land and outside."""
    out = np.full(tuple(geobox.shape), IGNORE, np.uint8)
    with rasterio.open(path) as d:
        band = rasterio.band(d, 2)
        reproject(
            band, out, dst_transform=geobox.transform, dst_crs=geobox.crs, resampling=Resampling.nearest,
            dst_nodata=IGNORE,
        )  # fmt: skip
    return out


def burned(shapes: Any, geobox: GeoBox) -> NDArray[np.int32]:
    """Return the number of the polygon of each pixel, -1 for none."""
    pairs = ((g, i) for i, g in enumerate(shapes))
    shape = tuple(geobox.shape)
    return rasterio.features.rasterize(pairs, shape, fill=-1, transform=geobox.transform, dtype="int32")


def told(chart: ChartPolygons, legend: Legend) -> NDArray[np.float64]:
    """Return the tenths of each class that the eggs tell, (polygons, K)."""
    eggs = chart.eggs
    assert eggs is not None
    total = np.where(eggs.nine_plus, 9.5, eggs.total)
    scale = total / np.maximum(eggs.total, 1)
    out = np.zeros((len(chart), len(legend)))
    for slot in range(eggs.types.shape[1]):
        rows = np.flatnonzero(eggs.types[:, slot] != IGNORE)
        np.add.at(out, (rows, eggs.types[rows, slot]), eggs.tenths[rows, slot] * scale[rows])
    out[:, legend.water] += 10 - total
    return out


def squares(truth: NDArray[np.uint8], classes: int, side: int) -> NDArray[np.float32]:
    """Return the true tenths around each pixel, (K, rows, cols)."""
    known = cv2.blur((truth != IGNORE).astype(np.float32), (side, side))
    there = [cv2.blur((truth == k).astype(np.float32), (side, side)) for k in range(classes)]
    return np.stack([10 * b / np.maximum(known, 1e-6) for b in there])


def compare(maps: SceneMaps, truth: NDArray[np.uint8], analyst: Path, way: str) -> None:
    """Draw a scene and print a line."""
    legend, geobox = maps.legend, maps.geobox
    source = EggSource(list(maps.probabilities), STEP, doubt=True)
    pixel_m = float(abs(geobox.resolution.x))
    began = time.process_time()
    areas = None
    if way == "mixtures":
        areas = mixture_areas(maps.classes, source, legend.water, pixel_m=pixel_m, smallest_km2=10)
    chart = vectorize(
        maps.classes, geobox, legend, min_area_km2=10, tolerance_m=2 * pixel_m, probabilities=maps.probabilities,
        probability_step=STEP, land=maps.land, eggs=source, areas=areas,
    )  # fmt: skip
    seconds = time.process_time() - began
    shapes = np.asarray(chart.polygons.geometry)
    number, tenths = burned(shapes, geobox), told(chart, legend)
    sea = chart.polygons["class_id"].to_numpy() != LAND
    ok = (number >= 0) & (truth != IGNORE) & sea[number]
    k = len(legend)
    counts = np.bincount(number[ok] * k + truth[ok].astype(np.int64), minlength=len(chart) * k).reshape(-1, k)
    kept = counts.sum(axis=1) > 0
    weight = counts.sum(axis=1)[kept] / counts.sum()
    off = tenths[kept] - 10 * counts[kept] / counts[kept].sum(axis=1, keepdims=True)
    ice = np.delete(np.arange(k), legend.water)
    bias = " ".join(f"{weight @ off[:, i]:+5.2f}" for i in ice)
    at = np.flatnonzero(ok.ravel())[:: max(1, int(ok.sum()) // 200_000)]
    here = tenths[number.ravel()[at]]
    around = squares(truth, k, round(SQUARE_M / pixel_m)).reshape(k, -1)[:, at].T
    theirs = read_chart(analyst)
    other = burned(theirs.polygons.to_crs(geobox.crs).geometry, geobox).ravel()[at]
    shares = 10 * class_fractions(ice_types(theirs), legend, unmapped="ignore")[:, :-1]
    both = other >= 0
    print(
        f"{way:10s}{sea.sum():7d}{int(shapely.get_num_coordinates(shapes[sea]).sum()):9,}"
        f"{np.median(chart.polygons['area_km2'][sea]):8.0f}{weight @ abs(off[:, legend.water]):7.2f}"
        f"{weight @ abs(off).sum(axis=1) / 2:9.2f}  {bias}{np.abs(here - around).sum(axis=1).mean() / 2:8.2f}"
        f"{np.abs(here - shares[other])[both].sum(axis=1).mean() / 2:9.2f}"
        f"{adjusted_rand_score(other[both], number.ravel()[at][both]):7.2f}{seconds:7.1f}",
        flush=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("twin", type=Path)
    parser.add_argument("prepared", type=Path)
    parser.add_argument("--model", type=Path)
    args = parser.parse_args()
    ready = [make_predictor(args.model or default_model(), engine="torch", precision="auto", device="cpu")]
    legend = ready[0].checkpoint.legend
    keys = " ".join(f"{legend.letters[c.id]:>5s}" for c in legend.classes if c.id != legend.water)
    print(f"{'SIMULATED':10s}{'sea':>7s}{'vertices':>9s}{'km2':>8s}{'total':>7s}{'partial':>9s}  {keys}", end="")
    print(f"{'place':>8s}{'analyst':>9s}{'Rand':>7s}{'CPU s':>7s}")
    for product in sorted(p for p in args.prepared.iterdir() if (args.twin / "truth" / p.name).is_dir()):
        maps = predict_maps(product, ready)
        truth = truth_on(args.twin / "truth" / product.name / "truth.tif", maps.geobox)
        maps = without_land(maps, (truth == IGNORE) & (maps.classes != IGNORE))
        (chart,) = args.twin.glob(f"charts/*{product.name[17:32].lower()}*.shp")
        print(f"{product.name[17:25]}: {len(gpd.read_file(chart))} polygons of the analyst")
        for way in ("types", "mixtures"):
            compare(maps, truth, chart, way)


if __name__ == "__main__":
    main()
