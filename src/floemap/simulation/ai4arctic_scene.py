"""One simulated scene in AI4Arctic's form: a raw file, the ready-to-train files made from it, and the truth.

Name, start, satellite and ice service are those of a scene of the official lists; everything else is simulated. The
image has a simulated product's geometry, its ice is that of the simulator's world, and the chart is drawn on the image
by the simulator's analyst, in the way that the scene's ice service writes codes.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import geopandas as gpd
import h5netcdf
import numpy as np
import pyproj
import rasterio.features
from affine import Affine
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox

from floemap.datasets.ai4arctic.convert import FormWriter, write_ready
from floemap.datasets.ai4arctic.files import SIMULATED_ATTRIBUTE, open_scene_file
from floemap.datasets.ai4arctic.form import (
    AMSR2,
    COARSE,
    COARSE_M,
    CODES_HEADER,
    LINES,
    POLYGON_CODES,
    POLYGONS,
    SAMPLES,
    TIE_POINTS,
)
from floemap.datasets.ai4arctic.scenes import SIMULATED, Ai4Scene, by_name
from floemap.errors import FloemapError
from floemap.progress import Progress, between, silent
from floemap.results.folders import made_of, stage_folder
from floemap.results.stage import Stage, is_finished, provenance, read_json, write_json
from floemap.simulation.ai4arctic_fields import brightness_k, distance_zones, shares_of_kinds, weather
from floemap.simulation.analyst import draw_chart
from floemap.simulation.safe.geometry import Geometry
from floemap.simulation.safe.spec import ProductSpec
from floemap.simulation.safe.speckle import EW_GRDM_LOOKS, Speckle
from floemap.simulation.world.scenery import SceneryRows, image_of, patch_px
from floemap.simulation.world.surface import Surface, World
from floemap.simulation.world.zones import WORLD_CRS, scene_centre_m
from floemap.version import __version__

#: Raise the revision when the files of the same scene, size and seed change.
STAGE = Stage("floemap simulate ai4arctic", "scene.json", revision=2, files=("*.nc",))

#: Ground that a scene covers across the track, that of the scene in the print-outs, metres; and samples at full size.
EXTENT_M, FULL_PX = 417_040.0, 5213
#: Lines for each sample, as in that scene.
_LINES_FOR_SAMPLE = 4999 / 5213
SMALLEST_PX = 100
#: Scenes lie this far seawards of those of the twin, so that class shares come near those of the real scenes.
_SEAWARDS_M = 75_000.0
_INCLINATION_DEG = 98.18
_STRIP_LINES = 256
_CHART_STEP_M = 400.0
#: Power that remains of thermal noise after NERSC's denoising, in dB, and samples without data at both edges.
_LEFT_NOISE_DB = {"HH": -36.0, "HV": -36.0}
_EDGE_SHARE = 0.004
_BANDS = {"HH": "nersc_sar_primary", "HV": "nersc_sar_secondary"}
_NOTE = f"yes, by floemap {__version__}; it has the form of AI4Arctic's files and shows nothing real"


@dataclass(frozen=True)
class SimulatedScene:
    """A finished scene; `skipped` if it was finished before.

    Attributes
    ----------
    scene
        The scene of the official lists whose name it has.
    folder
        Its folder.
    test
        Whether it is a test scene, whose charts are in a file of their own.
    """

    scene: Ai4Scene
    folder: Path
    test: bool
    skipped: bool = False

    @property
    def raw(self) -> Path:
        """The raw file."""
        return self.folder / f"{SIMULATED}{self.scene.raw}"

    @property
    def ready(self) -> Path:
        """The ready-to-train file."""
        return self.folder / f"{SIMULATED}{self.scene.ready}"

    @property
    def reference(self) -> Path:
        """The file with the charts: that of the test scenes, else the ready-to-train file."""
        return self.folder / f"{SIMULATED}{self.scene.reference}" if self.test else self.ready

    @property
    def truth(self) -> Path:
        """The true surface on the grid of the ready-to-train file, as codes of the simulator's surfaces."""
        return self.folder / f"{SIMULATED}{self.scene.name}_truth.nc"


def configuration_of(scene: Ai4Scene, size: int, seed: int, test: bool) -> dict[str, Any]:
    """Return everything that the files depend on, for the record."""
    return {"scene": scene.raw, "size": size, "seed": seed, "test": test}


def finished_scene(made: SimulatedScene, size: int, seed: int) -> SimulatedScene | None:
    """Return the scene if it is there, whole and of the same settings; else None."""
    configuration = configuration_of(made.scene, size, seed, made.test)
    try:
        files = read_json(made.folder / STAGE.record).get("bytes", {})
    except FloemapError:
        return None
    names = [made.raw.name, made.ready.name, made.reference.name, made.truth.name, *files]
    whole = is_finished(made.folder, STAGE, names, inputs={}, configuration=configuration)
    return replace(made, skipped=True) if whole else None


def make_scene(made: SimulatedScene, size: int, seed: int, *, progress: Progress = silent) -> None:
    """Make a scene, its folder whole or not at all; see :func:`floemap.simulation.ai4arctic.make_ai4arctic`."""
    scene = made.scene
    with stage_folder(made.folder, STAGE) as folder:
        maker = _Maker(scene, size, seed)
        here = replace(made, folder=folder)
        maker.write_raw(here.raw, between(progress, 0, 0.8))
        progress(0.8, 1, "ready to train")
        with open_scene_file(here.raw) as raw:
            attributes = maker.attributes | {"scene_id": made.ready.name, "original_id": made.raw.name}
            attributes |= {"ice_service": scene.service, "flip": 0, "pixel_spacing": round(2 * maker.spacing_m)}
            write_ready(raw, here.ready, attributes, reference=here.reference if made.test else None)
        maker.write_truth(here.truth)
        record = provenance(STAGE, inputs={}, configuration=configuration_of(scene, size, seed, made.test))
        write_json(folder / STAGE.record, record | {"simulated": True, "bytes": made_of(folder)})
    progress(1, 1, "done")


def world_number(scene: Ai4Scene) -> int:
    """Return the number that the seeds of a scene's world and speckle follow from: another one for each product.

    Scenes of one month are then different places, also those that one pass of the satellite has taken one after the
    other, of which some are for training and others for test. Two charts of one product are of one world.
    """
    take = _data_take(scene)
    products = sorted({s.product for s, _ in by_name().values() if _data_take(s) == take} | {scene.product})
    return int(take, 16) + (products.index(scene.product) << 24)


def _data_take(scene: Ai4Scene) -> str:
    return scene.product.split("_")[7]


class _Maker:
    """What a scene is made from."""

    def __init__(self, scene: Ai4Scene, size: int, seed: int) -> None:
        self.scene = scene
        self.spacing_m = EXTENT_M / size / 2  # of raw pixels
        self.shape = 2 * round(size * _LINES_FOR_SAMPLE), 2 * size
        number = world_number(scene)
        self.key = (seed, number)
        self.month = scene.start.month
        world_seed = (1_000_003 * seed + number) % 2**31
        self.geometry = Geometry(self._spec(world_seed))
        self.image = image_of(self.geometry, WORLD_CRS)
        self.patch = patch_px(self.spacing_m)
        world = World(self.month, world_seed, self.image.bounds_m, self.patch * self.spacing_m)
        self.rows = SceneryRows(world, self.image, self.month, ("HH", "HV"), self.patch)
        swath = f"{SIMULATED}GW1AM2_{scene.start:%Y%m%d%H%M}_L1SGBTBR"
        passive = {"AMSR2_swaths": swath, "AMSR2_S1_delays": 3600, "min": 0.0, "max": 0.0}
        bands = {"upstream_id": scene.product, "min": 0.0, "max": 0.0}
        self.attributes: dict[str, Any] = {SIMULATED_ATTRIBUTE: _NOTE, "swath_segmentation": dict(passive)}
        self.attributes |= {name: dict(passive) for name in AMSR2} | {name: dict(bands) for name in _BANDS.values()}
        self.attributes |= {name: {"icechart_id": scene.chart} for name in (POLYGONS, POLYGON_CODES)}

    def _spec(self, world_seed: int) -> ProductSpec:
        x, y = scene_centre_m(self.month, world_seed)
        to_lonlat = pyproj.Transformer.from_crs(WORLD_CRS, "EPSG:4326", always_xy=True)
        lon, lat = to_lonlat.transform(x + _SEAWARDS_M, y)
        ascending_deg = math.degrees(math.asin(math.cos(math.radians(_INCLINATION_DEG)) / math.cos(math.radians(lat))))
        return ProductSpec(
            start=self.scene.start,
            lines=self.shape[0],
            samples=self.shape[1],
            pixel_spacing_m=self.spacing_m,
            centre_lon=float(lon),
            centre_lat=float(lat),
            heading_deg=180 - ascending_deg if self.scene.start.hour < 12 else ascending_deg,
            mission=self.scene.mission,
        )

    def write_raw(self, path: Path, progress: Progress) -> None:
        """Write the raw file, strip by strip."""
        coarse = tuple(max(2, round(n * self.spacing_m / COARSE_M)) for n in self.shape)
        bands = _Bands(self)
        fields = self.shape[0] // _STRIP_LINES + 1
        codes: list[str] = []
        sizes = {LINES: self.shape[0], SAMPLES: self.shape[1], **dict(zip(COARSE, coarse, strict=True))}
        # The number of polygons is known when the ice is: the radar image comes first, in a file of its own variables.
        powers = path.with_suffix(".bands")
        with h5netcdf.File(powers, "w") as held:
            held.dimensions = {LINES: self.shape[0], SAMPLES: self.shape[1]}
            for name in _BANDS.values():
                held.create_variable(name, (LINES, SAMPLES), np.float32)
            for i, first in enumerate(range(0, self.shape[0], _STRIP_LINES)):
                stop = min(first + _STRIP_LINES, self.shape[0])
                for name, db in bands(first, stop).items():
                    held.variables[name][first:stop] = db
                progress(i, 2 * fields, "radar image")
            chart = self._chart()
            codes = [CODES_HEADER, *_codes(chart, self.scene.service, self.month)]
            with FormWriter(path, "raw", sizes | {POLYGON_CODES: len(codes)}, self.attributes) as file:
                file.write(POLYGON_CODES, np.array(codes, object))
                self._write_grids(file, (coarse[0], coarse[1]))
                zones = self._zones()
                for i, first in enumerate(range(0, self.shape[0], _STRIP_LINES)):
                    stop = min(first + _STRIP_LINES, self.shape[0])
                    for name in _BANDS.values():
                        file.write(name, held.variables[name][first:stop], first)
                    file.write(POLYGONS, self._polygons(chart, first, stop), first)
                    file.write("distance_map", self._enlarged(zones, first, stop), first)
                    progress(fields + i, 2 * fields, "chart")
                for name, (low, high) in bands.range_db.items():
                    self.attributes[name] |= {"min": low, "max": high}
                    file.set_attributes(name, min=low, max=high)
        powers.unlink()

    def _write_grids(self, file: FormWriter, coarse: tuple[int, int]) -> None:
        shares = shares_of_kinds(self.rows.surface, coarse)
        for name, kelvin in brightness_k(shares, self.key).items():
            ends = {"min": float(kelvin.min()), "max": float(kelvin.max())}
            self.attributes[name] |= ends
            file.write(name, kelvin)
            file.set_attributes(name, **ends)
        for name, field in weather(shares, self.month, self.key).items():
            file.write(name, field)
        for name in ("amsr2_swath_map", "swath_segmentation"):
            file.write(name, np.ones(coarse, np.uint8))
        lines, samples = (np.linspace(0, n - 1, TIE_POINTS) for n in self.shape)
        line, sample = np.meshgrid(lines, samples, indexing="ij")
        lon, lat = self.geometry.lonlat(line, sample)
        incidence = np.broadcast_to(self.geometry.incidence_deg(sample), line.shape)
        tie = {"line": line, "sample": sample, "latitude": lat, "longitude": lon, "incidenceangle": incidence}
        for name, values in (tie | {"height": np.zeros_like(line)}).items():
            file.write(f"sar_grid_{name}", np.asarray(values, float).ravel())

    def _chart(self) -> gpd.GeoDataFrame:
        """Return the analyst's chart of the image, on the plane of its pixels in metres."""
        n = max(1, round(_CHART_STEP_M / (self.patch * self.spacing_m)))
        coarse = np.ascontiguousarray(self.rows.surface[n // 2 :: n, n // 2 :: n])
        step = n * self.patch * self.spacing_m
        # The plane of the image has no CRS; that of the world says that it is in metres, and nothing else.
        return draw_chart(coarse, GeoBox(coarse.shape, Affine.scale(step, -step), WORLD_CRS))

    def _polygons(self, chart: gpd.GeoDataFrame, first: int, stop: int) -> NDArray[np.float32]:
        """Return ids of polygons, NaN on land, of lines [first, stop)."""
        sea = chart["POLY_TYPE"].to_numpy() != "L"
        shapes = [(g, float(i + 1)) for i, (g, here) in enumerate(zip(chart.geometry, sea, strict=True)) if here]
        place = Affine.scale(self.spacing_m, -self.spacing_m) * Affine.translation(0, first)
        found: NDArray[np.float32] = rasterio.features.rasterize(
            shapes, out_shape=(stop - first, self.shape[1]), transform=place, fill=0, dtype=np.float32
        )
        land = self._enlarged(self.rows.surface == Surface.LAND, first, stop)
        found[(found == 0) | land] = np.nan
        return found

    def _zones(self) -> NDArray[np.float32]:
        return distance_zones(self.rows.surface == Surface.LAND, self.patch * self.spacing_m)

    def _enlarged(self, patches: NDArray[Any], first: int, stop: int) -> NDArray[Any]:
        """Return a raster of patches at the pixels of lines [first, stop)."""
        n = self.patch
        return patches[np.arange(first, stop) // n][:, np.arange(self.shape[1]) // n]

    def write_truth(self, path: Path) -> None:
        """Write the true surface of every pixel of 80 m."""
        middle = self._enlarged(self.rows.surface, 0, self.shape[0])[::2, ::2]
        with h5netcdf.File(path, "w") as file:
            file.dimensions = dict(zip((LINES, SAMPLES), middle.shape, strict=True))
            made = file.create_variable("surface", (LINES, SAMPLES), np.uint8, compression="gzip")
            made[...] = middle
            made.attrs["codes"] = ", ".join(f"{int(s)}: {s.name.lower()}" for s in Surface)
            file.attrs[SIMULATED_ATTRIBUTE] = _NOTE


class _Bands:
    """Backscatter of lines in dB, with speckle and what is left of noise."""

    def __init__(self, maker: _Maker) -> None:
        self.maker = maker
        spacing = maker.spacing_m, maker.spacing_m
        self.speckle = {
            p: Speckle(EW_GRDM_LOOKS, spacing, maker.shape[1], (*maker.key, k)) for k, p in enumerate(_BANDS)
        }
        self.range_db = dict.fromkeys(_BANDS.values(), (math.inf, -math.inf))

    def __call__(self, first: int, stop: int) -> dict[str, NDArray[np.float32]]:
        edge = 2 * max(1, round(_EDGE_SHARE * self.maker.shape[1] / 2))
        found = {}
        for p, power in self.maker.rows(slice(first, stop)).items():
            noise = np.float32(10 ** (_LEFT_NOISE_DB[p] / 10))
            db = 10 * np.log10((power + noise) * self.speckle[p].rows(first, stop) + np.float32(1e-5))
            db[:, :edge] = db[:, -edge:] = np.nan
            low, high = self.range_db[_BANDS[p]]
            self.range_db[_BANDS[p]] = min(low, float(np.nanmin(db))), max(high, float(np.nanmax(db)))
            found[_BANDS[p]] = db.astype(np.float32)
        return found


def _codes(chart: gpd.GeoDataFrame, service: str, month: int) -> list[str]:
    """Return the rows of polygon_codes of a drawn chart, without land, as the ice service writes them.

    The Canadian service gives water 02 with 98 and 10, and the form of the first type twice over in CF, as in 08-9. How
    the Danish service writes water and CF in these files is not known here: CT is that of SIGRID-3, and CF is empty.
    """
    rows = []
    for number, polygon in enumerate(chart.to_dict("records"), 1):
        if polygon["POLY_TYPE"] == "L":
            continue
        code = dict.fromkeys(CODES_HEADER.split(";"), "-9") | {k: v for k, v in polygon.items() if k != "geometry"}
        code["poly_id"] = str(number)
        for stage in ("SA", "SB", "SC"):
            code[stage] = _stage(code[stage], month)
        if service == "cis":
            if code["POLY_TYPE"] == "W":
                code |= {"CT": "02", "SA": "98", "FA": "10"}
            code["CF"] = f"{code['FA']}-9" if code["FA"] != "-9" else "-9-9"
        rows.append(";".join(code[field] for field in CODES_HEADER.split(";")))
    return rows


def _stage(code: str, month: int) -> str:
    """Return the stage of first-year ice in a month: thin from October to December, then medium, thick from March."""
    if code != "86":
        return code
    return "87" if month >= 10 else "91" if month <= 2 else "93"
