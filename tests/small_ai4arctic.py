"""The smallest files in AI4Arctic's three forms, written in tenths of a second: four polygons on 60 x 64 raw pixels.

What they show is made up; for ice that looks like ice there is `make_ai4arctic`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pyproj

from floemap.datasets.ai4arctic.convert import FormWriter, write_ready
from floemap.datasets.ai4arctic.files import SIMULATED_ATTRIBUTE, open_scene_file
from floemap.datasets.ai4arctic.form import AMSR2, COARSE, CODES_HEADER, ERA5, LINES, POLYGON_CODES, POLYGONS, SAMPLES
from floemap.datasets.ai4arctic.scenes import SIMULATED, Ai4Scene, official

#: Raw pixels: lines and samples, and their size, metres.
SHAPE, PIXEL_M = (60, 64), 2000.0
CODES = (
    "1;91;90;95;06;10;93;06;-9;-9;-9;-9;-9;06-9;I",
    "2;80;40;93;05;40;91;05;-9;-9;-9;-9;-9;08-9;I",
    "3;92;-9;87;08;-9;-9;-9;-9;-9;-9;-9;-9;08-9;I",
    "4;02;-9;98;10;-9;-9;-9;-9;-9;-9;-9;-9;10-9;W",
)
SCENE: Ai4Scene = official()["train"][0]


def write_raw(folder: Path, scene: Ai4Scene = SCENE) -> Path:
    """Write a raw file: four quarters, one polygon each, no-data at the edges."""
    path = folder / f"{SIMULATED}{scene.raw}"
    rng = np.random.default_rng(1)
    passive = {"AMSR2_swaths": "x", "AMSR2_S1_delays": 1, "min": 0.0, "max": 1.0}
    bands = {"upstream_id": scene.product, "min": 0.0, "max": 1.0}
    filled: dict[str, Any] = {SIMULATED_ATTRIBUTE: "yes", "swath_segmentation": passive}
    filled |= dict.fromkeys(AMSR2, passive)
    filled |= dict.fromkeys(("nersc_sar_primary", "nersc_sar_secondary"), bands)
    filled |= {key: {"icechart_id": scene.chart} for key in (POLYGONS, POLYGON_CODES)}
    sizes = dict(zip((LINES, SAMPLES, *COARSE, POLYGON_CODES), (*SHAPE, 5, 6, len(CODES) + 1), strict=True))
    with FormWriter(path, "raw", sizes, filled) as file:
        file.write(POLYGON_CODES, np.array([CODES_HEADER, *CODES], object))
        ids = np.kron([[1, 2], [3, 4]], np.ones([n // 2 for n in SHAPE])).astype(np.float32)
        ids[:4, :4] = np.nan
        file.write(POLYGONS, ids)
        for name, mean in (("nersc_sar_primary", -14), ("nersc_sar_secondary", -25)):
            db = rng.normal(mean, 3, SHAPE).astype(np.float32)
            db[:, :2] = np.nan
            file.write(name, db)
        file.write("distance_map", np.full(SHAPE, 30, np.float32))
        for name in (*AMSR2, *ERA5):
            file.write(name, rng.normal(230, 5, (5, 6)))
        line, sample = np.meshgrid(*(np.linspace(0, n - 1, 21) for n in SHAPE), indexing="ij")
        to_degrees = pyproj.Transformer.from_crs("EPSG:3413", "EPSG:4326", always_xy=True)
        lon, lat = to_degrees.transform(600_000 + PIXEL_M * sample, -1_200_000 - PIXEL_M * line)
        tie = {"line": line, "sample": sample, "latitude": lat, "longitude": lon, "height": 0 * line}
        for name, values in (tie | {"incidenceangle": 20 + 0.4 * sample}).items():
            file.write(f"sar_grid_{name}", values.ravel())
    return path


def write_prep(folder: Path, raw: Path, scene: Ai4Scene = SCENE) -> Path:
    """Write the ready-to-train file of a raw file."""
    path = folder / f"{SIMULATED}{scene.ready}"
    about: dict[str, Any]
    with h5py.File(raw) as stored:
        about = {name: dict(variable.attrs) for name, variable in stored.items()}
    with open_scene_file(raw) as file:
        about |= {SIMULATED_ATTRIBUTE: "yes", "scene_id": path.name, "original_id": raw.name}
        about |= {"ice_service": scene.service, "flip": 0, "pixel_spacing": round(2 * PIXEL_M)}
        write_ready(file, path, about)
    return path


def write_asid2(path: Path, raw: Path) -> Path:
    """Write the content of a simulated raw file in the form of ASID-v2; 0 where there is no polygon, ids from 1."""
    with h5py.File(raw) as f, h5py.File(path, "w") as g:
        for name in ("primary", "secondary"):
            db = f[f"nersc_sar_{name}"][:]
            g[f"sar_{name}"] = g[f"nersc_sar_{name}"] = np.clip((db + 25) / 25, -1, 1).astype(np.float32)
        ids = f["polygon_icechart"][:]
        assert np.nanmax(ids) < 255
        g["polygon_icechart"] = np.nan_to_num(ids).astype(np.uint8)
        rows = [r.decode().removeprefix("poly_") for r in f["polygon_codes"][:]]
        g.create_dataset("polygon_codes", data=np.array(rows, object), dtype=h5py.string_dtype())
        g["distance_map"] = f["distance_map"][:].astype(np.uint8)
        for name in ("line", "sample", "latitude", "longitude", "height"):
            g[f"sar_grid_{name}"] = f[f"sar_grid_{name}"][:]
        g["sar_incidenceangles"] = np.linspace(19, 47, ids.shape[1])
        for name in ("btemp_6.9h", "btemp_89.0ah"):
            g[name] = f["btemp_6_9h"][:]
        for name, value in {"aoi_upperleft_sample": 0, "aoi_lowerright_line": len(ids)}.items():
            g.attrs[name] = value
    return path
