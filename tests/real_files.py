"""Pixels, charts and annotations of others, and how they come into our forms: for tests and benchmarks/real_pixels.py.

They are no part of the project and may be absent: tests then skip. docs/real-data.md says what each is, and what it can
prove. Nothing here is written anywhere but below the folder that is asked for.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyproj
import rasterio
from affine import Affine
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox
from PIL import Image

from floemap.cog import Band, write_cog
from floemap.legend import IGNORE, legend
from floemap.results.stage import Stage, provenance, write_json
from floemap.sentinel1.bands import BANDS
from floemap.sentinel1.encoding import MASK_VALID, NODATA, SCALE
from floemap.sentinel1.metadata import Scene
from floemap.sentinel1.radiometry import NoiseTable, azimuth_factor

Floats = NDArray[np.floating[Any]]
Bytes = NDArray[np.uint8]
Bools = NDArray[np.bool_]

SHARED = Path(__file__).resolve().parents[2] / "shared" / "data"
PRODUCT = SHARED / "S1A_EW_GRDM_1SDH_20221130T014342_20221130T014446_046117_058549_BB15"
QUICKLOOK = PRODUCT / "preview" / "quick-look.png"
REAL = SHARED / "real"
EDGE, CROPS, GLIA = REAL / "edge_quarter_scenes", REAL / "ew_hv_crops", REAL / "glia_belgica_bank"
AI4ARCTIC, COUNTS, CHARTS = REAL / "ai4arctic_scene", REAL / "ai4arctic_class_counts", REAL / "charts_2013_2014"
#: Print-outs of real AI4Arctic files, the official lists of scenes, and the published scaling.
AI4ARCTIC_LISTS = SHARED / "ai4arctic"


# The quick-look of a whole product ---------------------------------------------------------------------------------

#: Ground-range samples, and lines, of the product in a pixel of its quick-look.
QUICKLOOK_SAMPLES, QUICKLOOK_LINES = 20, 21
#: Its lines that show nothing but ice.
ICE_ROWS = slice(240, 480)
#: Columns that the image fills whole: the fringe at near range has none.
FILLED_COLS = slice(7, None)


def quick_look() -> Floats:
    """Return the picture, (rows, cols, 3): HH, HV and a band made of both, 0 to 255."""
    with Image.open(QUICKLOOK) as picture:
        return np.asarray(picture.convert("RGB"), np.float64)


def noise_amplitude(scene: Scene, cols: int, polarisation: str = "HV") -> Floats:
    """Return the mean amplitude of annotated noise in the quick-look's columns, over the rows of ice, (cols,)."""
    table = NoiseTable(scene.noise[polarisation], scene.swaths, scene.shape, QUICKLOOK_SAMPLES)
    rows = [r * QUICKLOOK_LINES // QUICKLOOK_SAMPLES for r in (ICE_ROWS.start, ICE_ROWS.stop)]
    power, _ = table.cells(*rows)  # type: ignore[arg-type]
    return np.sqrt(power.mean(axis=0)[:cols])


def seam_columns(scene: Scene) -> list[float]:
    """Return where the annotation's sub-swaths meet in the middle of the rows of ice, in columns of the quick-look."""
    line = (ICE_ROWS.start + ICE_ROWS.stop) / 2 * QUICKLOOK_LINES
    ends = sorted(b.last_pixel + 1 for b in scene.swaths if b.first_line <= line <= b.last_line)
    return [e / QUICKLOOK_SAMPLES for e in ends[:-1]]


def sharpest_falls(profile: Floats, count: int, *, width: int = 4, apart: int = 20) -> list[int]:
    """Return the columns before which a profile falls most: `count` of them, more than `apart` from each other."""
    at = np.arange(width, len(profile) - width + 1)
    fall = np.array([profile[i - width : i].mean() - profile[i : i + width].mean() for i in at])
    found: list[int] = []
    for i in at[np.argsort(-fall)]:
        if all(abs(i - f) > apart for f in found):
            found.append(int(i))
    return sorted(found[:count])


def scalloping(scene: Scene, picture: Floats, swath: str, columns: slice) -> tuple[Floats, Floats]:
    """Return how HV of a sub-swath's `columns` rises and falls along azimuth, and how annotated noise amplitude does.

    Both relative, (rows of ice,), changes over more than some 20 rows taken out.
    """
    hv = picture[ICE_ROWS, columns, 1]
    seen = (hv / np.median(hv, axis=0)).mean(axis=1)
    lines = np.arange(scene.shape[0], dtype=np.float64)
    factor = azimuth_factor(scene.noise["HV"].azimuth_blocks, swath, lines)
    rows = len(factor) // QUICKLOOK_LINES
    annotated = np.sqrt(factor[: rows * QUICKLOOK_LINES].reshape(rows, QUICKLOOK_LINES).mean(axis=1))[ICE_ROWS]
    return _short(seen), _short(annotated)


def _short(profile: Floats, rows: int = 21) -> Floats:
    smooth = np.convolve(np.pad(profile, rows // 2, mode="edge"), np.full(rows, 1 / rows), mode="valid")
    return np.asarray(profile - smooth)


# EW crops -----------------------------------------------------------------------------------------------------------


def crops() -> dict[str, Floats]:
    """Return sigma nought in HV of the crops, linear, (1000, 1000), by name."""
    found = {}
    for path in sorted(CROPS.glob("*.tif")):
        with rasterio.open(path) as d:
            found[path.stem] = d.read(1).astype(np.float64)
    return found


# Two quarters of a scene, with concentration ------------------------------------------------------------------------

#: Water at this concentration or less, ice at that or more, percent; in between no label.
WATER_TO, ICE_FROM = 15.0, 80.0
EDGE_PIXEL_M = 160.0
#: Incidence angle at the first and the last column, degrees, as good as linear in between.
EDGE_ANGLES_DEG = (19.5, 34.0)
#: The pictures' grey levels are dB, stretched by an unknown amount. These give each level 0.1 dB, from some darkest.
DB_PER_LEVEL, DARKEST_HH_DB, DARKEST_HV_DB = 0.1, -30.0, -40.0
#: Where the grid is put. It is nobody's place: the pictures say none.
NOMINAL_CRS, NOMINAL_CORNER = "EPSG:3413", (600_000.0, -1_000_000.0)


@dataclass(frozen=True)
class Quarter:
    """One of the two pictures; all (rows, cols).

    Attributes
    ----------
    name
        Of the scene in studies.
    hh, hv
        Grey levels; of the second, brought to the first's stretch.
    concentration
        Percent, by DMI's automatic service (ASIP).
    valid
        Where there is all of it.
    first_row
        Of the quarter in the grid of both.
    """

    name: str
    hh: Floats
    hv: Floats
    concentration: Floats
    valid: Bools
    first_row: int

    def labels(self) -> Bytes:
        """Return classes of the legend ice_water."""
        classes = np.full(self.concentration.shape, IGNORE, np.uint8)
        classes[self.concentration <= WATER_TO] = 0
        classes[self.concentration >= ICE_FROM] = 1
        classes[~self.valid] = IGNORE
        return classes


@dataclass(frozen=True)
class Tie:
    """How grey levels of the lower quarter become those of the upper: ``slope * level + offset``; and how well."""

    slope: float
    offset: float
    r: float


def quarters() -> tuple[Quarter, Quarter, dict[str, Tie]]:
    """Return the upper quarter, the lower one with the upper's stretch, and how the bands were tied."""
    upper, lower = (_quarter(path) for path in sorted((EDGE / "collocated").glob("*.png")))
    ties = {
        band: tie_levels(getattr(upper, band)[-1], getattr(lower, band)[0], upper.valid[-1] & lower.valid[0])
        for band in ("hh", "hv")
    }
    tied = {band: getattr(lower, band) * t.slope + t.offset for band, t in ties.items()}
    return replace(upper, name="upper"), replace(lower, name="lower", first_row=len(upper.hh), **tied), ties


def _quarter(path: Path) -> Quarter:
    with Image.open(path) as picture:
        hv, concentration, hh = np.moveaxis(np.asarray(picture.convert("RGB")), 2, 0)
    valid = (hv > 0) & (hh > 0) & (concentration > 0)
    percent = (concentration.astype(np.float32) - 1) / 254 * 100
    return Quarter(path.stem, hh.astype(np.float32), hv.astype(np.float32), percent, valid, 0)


def tie_levels(above: Floats, below: Floats, both: Bools, *, mean_of: int = 16) -> Tie:
    """Return the line that brings the lower line's levels to those of the line above it, from means of some pixels.

    Both lines have speckle, so neither is the better known: the line has the ratio of their spreads for slope.
    """
    n = np.count_nonzero(both) // mean_of * mean_of
    x, y = (v[both][:n].reshape(-1, mean_of).mean(axis=1) for v in (below, above))
    slope = float(y.std() / x.std())
    return Tie(slope, float(y.mean() - slope * x.mean()), float(np.corrcoef(x, y)[0, 1]))


def seam_column(quarter: Quarter, search: slice = slice(740, 820)) -> int:
    """Return where HV over water falls most from one column to the next, within `search`: a seam of two sub-swaths."""
    width = 6
    water = np.where(quarter.labels() == 0, quarter.hv, np.nan)
    falls = []
    for col in range(search.start, search.stop):
        near, far = water[:, col - width : col], water[:, col : col + width]
        rows = np.isfinite(near).all(axis=1) & np.isfinite(far).all(axis=1)
        falls.append(np.median(near[rows].mean(axis=1) - far[rows].mean(axis=1)) if rows.sum() > 100 else -np.inf)
    return search.start + int(np.argmax(falls))


def write_quarter(folder: Path, quarter: Quarter) -> dict[str, Any]:
    """Write a quarter as `floemap prepare` and `floemap label` would; return a study's entry for the scene."""
    box = _box(quarter)
    hh = DARKEST_HH_DB + DB_PER_LEVEL * quarter.hh
    hv = DARKEST_HV_DB + DB_PER_LEVEL * quarter.hv
    angle = np.broadcast_to(np.linspace(*EDGE_ANGLES_DEG, box.shape[1]), box.shape)
    product = folder / "prepared" / f"EBD1_{quarter.name}"
    seam = seam_column(quarter)
    write_product(product, box, (hh, hv, angle), quarter.valid, "2020-01-01T07:45:15+00:00", seams=(seam,))
    labels = folder / "labels" / quarter.name
    write_labels(labels, box, quarter.labels(), "ice_water")
    return {"name": quarter.name, "product": product, "chart": labels}


def _box(quarter: Quarter) -> GeoBox:
    x, y = NOMINAL_CORNER
    top = y - quarter.first_row * EDGE_PIXEL_M
    return GeoBox(quarter.hh.shape, Affine(EDGE_PIXEL_M, 0, x, 0, -EDGE_PIXEL_M, top), NOMINAL_CRS)


#: Who the records say has made them.
WRITER = "tests/real_files.py"


# Forms of ours ------------------------------------------------------------------------------------------------------


def stored(bands: Sequence[Floats], valid: Bools) -> NDArray[np.int16]:
    """Return HH and HV (dB) and incidence angle (degrees) as product.tif stores them, (3, rows, cols)."""
    return np.stack([np.where(valid, np.rint(b / SCALE), NODATA) for b in bands]).astype(np.int16)


def write_product(
    folder: Path, box: GeoBox, bands: Sequence[Floats], valid: Bools, start: str, *, seams: Sequence[int] = ()
) -> None:
    """Write what a prepared product needs: product.tif, and product.json with what is known of it."""
    folder.mkdir(parents=True)
    mask = np.where(valid, MASK_VALID, 0).astype(np.int16)
    tags = {"product": folder.name, "start": start, "simulated": "no"}
    tags["attribution"] = f"Contains modified Copernicus Sentinel data {start[:4]}"
    write_cog(
        folder / "product.tif", box, np.concatenate([stored(bands, valid), mask[None]]), BANDS, nodata=NODATA, tags=tags
    )
    rows, cols = box.shape
    to_degrees = pyproj.Transformer.from_crs(box.crs.proj, "EPSG:4326", always_xy=True)

    def lonlat(col: float, row: float) -> list[float]:
        return list(to_degrees.transform(*(box.transform * (col, row))))

    record = provenance(Stage(WRITER, "product.json", revision=0), inputs={}, configuration={})
    record |= {
        "simulated": False,
        "scene": {"name": folder.name, "mission": "S1A", "mode": "EW", "start": start, "stop": start},
        "grid": _grid(box),
        "pixels": {"valid": int(valid.sum())},
        "corners_lonlat_deg": [lonlat(*c) for c in ((0, 0), (cols, 0), (cols, rows), (0, rows))],
        "seams": [
            {
                "between": ["EW1", "EW2"],
                "lonlat_deg": [lonlat(c, r) for r in np.linspace(0, rows, 20)],
                "incidence_deg": [float(np.nanmin(bands[2][:, c])), float(np.nanmax(bands[2][:, c]))],
            }
            for c in seams
        ],
    }
    write_json(folder / "product.json", record)


def write_labels(folder: Path, box: GeoBox, classes: Bytes, name: str) -> None:
    """Write classes of the legend `name` as `floemap label` does."""
    folder.mkdir(parents=True)
    table = legend(name)
    band = Band("ice_type", overview="mode", categories=table.titles, colours=table.colours)
    write_cog(folder / "labels.tif", box, classes, [band], nodata=IGNORE, tags={"legend": name, "simulated": "no"})
    about = {"name": name, "classes": {str(c.id): c.key for c in table.classes}, "ignore": IGNORE}
    record = provenance(Stage(WRITER, "label.json", revision=0), inputs={}, configuration={"legend": name})
    write_json(folder / "label.json", record | {"simulated": False, "legend": about, "grid": _grid(box)})


def _grid(box: GeoBox) -> dict[str, Any]:
    return {"crs": NOMINAL_CRS, "transform": list(box.transform)[:6], "shape": list(box.shape)}


# A scene with four ice classes --------------------------------------------------------------------------------------

#: GLIA's classes from 1, and which of the model's six each may be called: its "level" and "deformed" are roughness.
GLIA_CLASSES = ("leads with open water or new ice", "leads with young ice", "level ice", "deformed ice")
GLIA_MAY_BE = (
    ("new_ice", "nilas", "open_water"),
    ("young_ice",),
    ("first_year_ice",),
    ("first_year_ice", "old_ice"),
)


@dataclass(frozen=True)
class GliaScene:
    """Every 14th pixel or so of a scene at 40 m; all (rows, cols). Labels are 0 where there is none, else 1 to 4."""

    hh_db: Floats
    hv_db: Floats
    incidence_deg: Floats
    valid: Bools
    labels: Bytes


def glia_scene() -> GliaScene:
    """Return the scene; land has no label here (its mask is 1 at sea)."""
    with np.load(next(GLIA.glob("*.npz")), allow_pickle=False) as z:
        valid = z["valid"] > 0
        labels = np.where(valid & (z["landmask"] > 0), z["glia_labels"], 0).astype(np.uint8)
        return GliaScene(z["Sigma0_HH_db"], z["Sigma0_HV_db"], z["IA"], valid, labels)


@dataclass(frozen=True)
class GliaRule:
    """The classifier that made the labels: a line in each band (dB at 0 degrees, dB per degree) and a covariance."""

    intercept: Floats
    slope: Floats
    covariance: Floats

    def at(self, incidence_deg: float) -> Floats:
        """Return the classes' mean HH and HV, dB, (classes, 2)."""
        return np.asarray(self.intercept + self.slope * incidence_deg)

    def classify(self, scene: GliaScene) -> Bytes:
        """Return the class of largest Gaussian density, from 1."""
        seen = np.stack([scene.hh_db, scene.hv_db], axis=-1).astype(np.float64)
        density = []
        for a, b, c in zip(self.intercept, self.slope, self.covariance, strict=True):
            off = seen - (a + b * scene.incidence_deg[..., None])
            density.append(
                -0.5 * np.einsum("...i,ij,...j", off, np.linalg.inv(c), off) - 0.5 * np.log(np.linalg.det(c))
            )
        return np.asarray(np.argmax(density, axis=0) + 1, np.uint8)


def glia_rule() -> GliaRule:
    """Return the rule, from its published parameters."""
    said = json.loads((GLIA / "classifier_parameters.json").read_text())["belgica_bank_ice_types_2022.pickle"]
    return GliaRule(*(np.array(said[k], np.float64) for k in ("a", "b", "Sigma")))


# AI4Arctic ----------------------------------------------------------------------------------------------------------


def ai4arctic_scene() -> dict[str, NDArray[Any]]:
    """Return SIC, SOD and FLOE, the bands as grey levels, and where there is anything; (318, 332) each."""
    with np.load(next(AI4ARCTIC.glob("*332x318*.npz")), allow_pickle=False) as z:
        return dict(z)


def ai4arctic_patches() -> dict[str, NDArray[Any]]:
    """Return HH_dB, HV_dB and label (0 water, 1 ice, 255 none), (6, 224, 224) each.

    They were read off a picture: values end one standard score above AI4Arctic's mean, and its drawing smoothed them.
    """
    with np.load(next(AI4ARCTIC.glob("*6_patches*.npz")), allow_pickle=False) as z:
        return dict(z)


def ai4arctic_counts() -> dict[str, Any]:
    """Return pixels by class of each chart, in total and by scene."""
    counts: dict[str, Any] = json.loads(next(COUNTS.glob("*.json")).read_text())
    return counts
