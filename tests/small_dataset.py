"""A small simulated dataset under the real one's names, for tests: products of 64 samples, charts of two polygons."""

from __future__ import annotations

import dataclasses
import zipfile
from pathlib import Path
from typing import Any, Literal

import geopandas as gpd
import numpy as np
import pyproj
import shapely

from floemap.datasets.extremeearth.scenes import CRS, DatasetScene
from floemap.simulation.safe.writer import write_safe
from floemap.simulation.twin import twin_spec

SIZE_PX = 64


def write_product(folder: Path, scene: DatasetScene, **changes: Any) -> Path:
    """Write a scene's product, simulated, under its real name."""
    spec = dataclasses.replace(twin_spec(scene.month, SIZE_PX), **changes)
    sigma0 = {p: np.full((spec.lines, spec.samples), 0.02, np.float32) for p in ("HH", "HV")}
    return write_safe(folder, spec, sigma0)


def write_chart(
    folder: Path,
    scene: DatasetScene,
    *,
    columns: Literal["V1", "V2"] = "V2",
    east_deg: float = 0.0,
    north_deg: float = 0.0,
) -> Path:
    """Write a scene's chart: a shapefile with water beside first-year ice, in the dataset's CRS and columns.

    It lies where the product does, or so many degrees from there.
    """
    spec = twin_spec(scene.month, SIZE_PX)
    to_map = pyproj.Transformer.from_crs("EPSG:4326", CRS, always_xy=True)
    x, y = to_map.transform(spec.centre_lon + east_deg, spec.centre_lat + north_deg)
    km = 1000.0
    table: dict[str, list[Any]] = {
        "id": [1, 2],
        "CT": ["01", "92"],
        "CA": ["-9", "70"],
        "SA": ["99", "86"],
        "FA": ["-9", "05"],
        "CB": ["-9", "20"],
        "SB": ["-9", "83"],
        "FB": ["-9", "04"],
        "poly_type": ["W", "I"],
        "area": [0.0, 0.0],
        "perimeter": [0.0, 0.0],
    }
    if columns == "V2":
        table |= {"CC": ["-9", "10"], "SC": ["-9", "82"], "FC": ["-9", "04"]}
    halves = [
        shapely.box(x - 300 * km, y - 300 * km, x, y + 300 * km),
        shapely.box(x, y - 300 * km, x + 300 * km, y + 300 * km),
    ]
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{scene.chart}.shp"
    gpd.GeoDataFrame(table, geometry=halves, crs=CRS).to_file(path)
    return path


def zip_files(archive: Path, files: list[Path], inside: str = "") -> Path:
    """Pack files into a zip, in one folder of it."""
    archive.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as z:
        for file in files:
            z.write(file, f"{inside}{file.name}")
    return archive
