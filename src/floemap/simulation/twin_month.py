"""One month of the twin: its product, its chart, and the truth of both."""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import geopandas as gpd
import numpy as np
import pyogrio
import pyproj
from affine import Affine
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox

from floemap.cog import Band, write_cog
from floemap.datasets.extremeearth.scenes import CRS, DatasetScene, scene_of
from floemap.errors import ConfigError, FloemapError, OutputError
from floemap.legend import IGNORE, SIX_CLASSES
from floemap.progress import Progress, between, silent
from floemap.results.folders import made_of, stage_folder
from floemap.results.stage import (
    Stage,
    damaged,
    made_alike,
    made_folder,
    provenance,
    read_json,
    recorded,
    sha256,
    write_json,
)
from floemap.results.whole_files import whole_files
from floemap.sentinel1.geolocation import GeoLocator, inverse_map, target_grid
from floemap.sentinel1.safe.reader import open_scene
from floemap.simulation.analyst import OUTSIDE, draw_chart, extremeearth_columns
from floemap.simulation.safe.spec import FULL_SAMPLES, GROUND_SPEED_M_S, MIN_SIZE_PX, ProductSpec
from floemap.simulation.safe.writer import luts, write_safe
from floemap.simulation.world.scenery import SceneryRows, image_of, patch_px
from floemap.simulation.world.surface import Surface, World, classes
from floemap.simulation.world.zones import WORLD_CRS, scene_centre_m

#: Raise the revision when products, charts or truth of the same size and seed change by a byte.
STAGE = Stage("floemap simulate twin", "truth.json", revision=1, files=("truth.tif",))

Size = Literal["full", "small"] | int

#: Pixels across a small twin's scenes.
SMALL_PX = 1000
#: Width of scenes of any size across the track, about that of real ones.
EXTENT_M = 400_000.0
_INCLINATION_DEG = 98.18
#: Pixel size of the raster that the analyst draws from.
_CHART_STEP_M = 400.0
_STRIP_ROWS = 512

_METADATA = """<?xml version="1.0" encoding="UTF-8"?>
<metadata><idinfo><descript><abstract>SIMULATED by floemap; not an observation, not drawn by an ice service
</abstract></descript></idinfo></metadata>
"""

TRUTH_BANDS = (
    Band(
        "surface",
        description="What the surface is",
        overview="mode",
        categories={int(s): s.name.lower().replace("_", " ") for s in Surface},
    ),
    Band(
        "class",
        description="Its class in the legend six_classes",
        overview="mode",
        categories=SIX_CLASSES.titles,
    ),
)


@dataclass(frozen=True)
class TwinMonth:
    """A finished month; `skipped` if it was finished before."""

    month: int
    product: Path
    chart: Path
    truth: Path
    skipped: bool = False


def twin_spec(month: int, size: Size = "small", seed: int = 0) -> ProductSpec:
    """Return the product of a month: name and times of the real scene, located at the ice edge of the twin's world.

    Parameters
    ----------
    month
        1 to 12.
    size
        "full" for 10487 samples of 40 m, "small" for 1000 samples, or a number of samples; fewer samples are larger, so
        that they cover about the same ground. The number of lines follows from the duration of the scene.
    seed
        Seed of the twin.

    Raises
    ------
    ConfigError
        If there is no such month or size.
    """
    scene = scene_of(month)
    mission, _, _, _, start, stop, orbit, datatake, suffix = scene.product.split("_")
    samples, spacing_m = image_size(size)
    lines = round((_time(stop) - _time(start)).total_seconds() * GROUND_SPEED_M_S / spacing_m) + 1
    x, y = scene_centre_m(month, seed)
    lon, lat = pyproj.Transformer.from_crs(WORLD_CRS, "EPSG:4326", always_xy=True).transform(x, y)
    # Ground heading of an orbit of that inclination; off East Greenland, passes in the morning are descending.
    ascending_deg = math.degrees(math.asin(math.cos(math.radians(_INCLINATION_DEG)) / math.cos(math.radians(lat))))
    descending = int(start[9:11]) < 12
    # The real January and February scenes were processed before IPF 2.90, the March scene when it was introduced.
    version = {1: "002.84", 2: "002.84", 3: "002.90"}.get(month, "002.91")
    return ProductSpec(
        start=_time(start),
        stop=_time(stop),
        lines=lines,
        samples=samples,
        pixel_spacing_m=spacing_m,
        centre_lon=float(lon),
        centre_lat=float(lat),
        heading_deg=180 - ascending_deg if descending else ascending_deg,
        mission=mission,
        ipf_version=version,
        noise_format="vectors" if version < "002.90" else "range_azimuth",
        seed=1000 * seed + month,
        orbit=int(orbit),
        datatake=datatake,
        suffix=suffix,
    )


def _time(text: str) -> datetime:
    return datetime.strptime(text, "%Y%m%dT%H%M%S").replace(tzinfo=UTC)


def image_size(size: Size) -> tuple[int, float]:
    """Return the samples and the pixel spacing in metres of a size.

    Raises
    ------
    ConfigError
        If there is no such size.
    """
    if size == "full":
        return FULL_SAMPLES, 40.0
    px = SMALL_PX if size == "small" else size
    if not isinstance(px, int) or not MIN_SIZE_PX <= px <= FULL_SAMPLES:
        raise ConfigError(
            f"a twin cannot have the size {size!r}.",
            hint=f"Give full, small, or {MIN_SIZE_PX} to {FULL_SAMPLES} pixels.",
        )
    return px, EXTENT_M / px


def resolution_m(spec: ProductSpec) -> float:
    """Return the pixel size, metres, at which a twin's product is prepared: two image pixels, as 80 m of real ones."""
    return 2 * spec.pixel_spacing_m


def make_month(
    out: Path, month: int, size: Size, seed: int, *, threads: int = 2, progress: Progress = silent
) -> TwinMonth:
    """Make one month of a twin; see :func:`floemap.simulation.twin.make_twin`."""
    scene, spec = scene_of(month), twin_spec(month, size, seed)
    progress(0, 1, "ice")
    image = image_of(luts(spec).geometry, WORLD_CRS)
    patch = patch_px(spec.pixel_spacing_m)
    world = World(month, seed, image.bounds_m, patch * spec.pixel_spacing_m)
    rows = SceneryRows(world, image, month, spec.polarisations, patch)
    product = write_safe(out / "products", spec, rows, threads=threads, progress=between(progress, 0.2, 0.8))
    progress(0.8, 1, "truth")
    geobox, surface = _on_grid(rows, product, resolution_m(spec))
    progress(0.9, 1, "chart")
    chart = _draw(surface, geobox)
    truth = out / "truth" / scene.product
    chart_path = _write_chart(chart, out / "charts", scene, truth)
    with stage_folder(truth, STAGE) as folder:
        tags = {"simulated": "yes", "product": scene.product, "AREA_OR_POINT": "Area"}
        bands = np.stack([surface, np.where(surface == OUTSIDE, IGNORE, classes(np.minimum(surface, Surface.OLD)))])
        write_cog(folder / "truth.tif", geobox, bands.astype(np.uint8), TRUTH_BANDS, nodata=OUTSIDE, tags=tags)
        record = provenance(STAGE, inputs={}, configuration=configuration_of(month, size, seed))
        record |= {"simulated": True, "shares": class_shares(surface), "polygons": len(chart)}
        parts = sorted(p for p in chart_path.parent.iterdir() if p.name.startswith(f"{scene.chart}."))
        record |= {"product": made_of(product), "chart": {p.name: sha256(p) for p in parts}}
        record |= {"chart_bytes": {p.name: p.stat().st_size for p in parts}}
        write_json(folder / STAGE.record, record | {"bytes": made_of(folder)})
    progress(1, 1, "done")
    return TwinMonth(month, product, chart_path, truth)


def class_shares(surface: NDArray[np.uint8]) -> dict[str, float]:
    """Return the share of each class of ``six_classes`` in the classified area, by key, from a raster of surfaces."""
    counts = np.bincount(classes(surface[surface != OUTSIDE]), minlength=256)[: len(SIX_CLASSES)]
    return {c.key: float(counts[c.id] / max(counts.sum(), 1)) for c in SIX_CLASSES.classes}


def configuration_of(month: int, size: Size, seed: int) -> dict[str, Any]:
    """Return the configuration of a month for its record: everything that its content depends on."""
    return {"month": month, "size": size, "seed": seed}


def finished_month(out: Path, month: int, size: Size, seed: int, *, skipped: bool = True) -> TwinMonth | None:
    """Return the month if it is there, complete and made with the same settings; else None."""
    scene = scene_of(month)
    made = TwinMonth(
        month,
        out / "products" / twin_spec(month, size, seed).folder_name,
        out / "charts" / f"{scene.chart}.shp",
        out / "truth" / scene.product,
        skipped,
    )
    try:
        record = read_json(made.truth / STAGE.record)
    except FloemapError:
        return None
    if not made_alike(record, STAGE, inputs={}, configuration=configuration_of(month, size, seed)):
        return None
    for folder, key in ((made.truth, "bytes"), (made.product, "product"), (made.chart.parent, "chart_bytes")):
        sizes = record.get(key)
        if not isinstance(sizes, dict) or not sizes or any(damaged(folder, {"bytes": sizes}, sizes)):
            return None
    return made


def _on_grid(rows: SceneryRows, product: Path, resolution: float) -> tuple[GeoBox, NDArray[np.uint8]]:
    """Return the grid of the prepared product and the surface of the image on it, nearest; OUTSIDE beyond the image."""
    locator = GeoLocator(open_scene(product, pixels=False))
    geobox = target_grid(locator, CRS, resolution)
    positions = inverse_map(locator, geobox)
    surface = np.full(tuple(geobox.shape), OUTSIDE, np.uint8)
    lines, samples = locator.shape
    for first in range(0, surface.shape[0], _STRIP_ROWS):
        last = min(first + _STRIP_ROWS, surface.shape[0])
        line, pixel = (
            np.rint(positions.expand(field, first, last, surface.shape[1])).astype(np.int32)
            for field in (positions.line, positions.pixel)
        )
        inside = (line >= 0) & (line < lines) & (pixel >= 0) & (pixel < samples)
        n = rows.patch_px
        surface[first:last][inside] = rows.surface[line[inside] // n, pixel[inside] // n]
    return geobox, surface


def _draw(surface: NDArray[np.uint8], geobox: GeoBox) -> gpd.GeoDataFrame:
    """Return the analyst's chart, drawn from a raster of at least :data:`_CHART_STEP_M`."""
    n = max(1, round(_CHART_STEP_M / float(abs(geobox.resolution.x))))
    coarse = surface[n // 2 :: n, n // 2 :: n]
    grid = GeoBox(coarse.shape, geobox.transform * Affine.scale(n), geobox.crs)
    return extremeearth_columns(draw_chart(np.ascontiguousarray(coarse), grid))


def _write_chart(chart: gpd.GeoDataFrame, folder: Path, scene: DatasetScene, truth: Path) -> Path:
    """Write a shapefile, all of whose files appear at the end, the .shp last.

    An earlier one is replaced only if it is as the record in `truth` describes it, or if it is truncated.
    """
    names = [scene.chart + suffix for suffix in (".cpg", ".dbf", ".prj", ".shp.xml", ".shx", ".shp")]
    final = folder / names[-1]
    with made_folder(folder, final), whole_files(folder, names) as beside:
        # Shapefiles contain the day of writing; with the day of the scene, equal charts have equal bytes.
        day = f"{scene.start[:4]}-{scene.start[4:6]}-{scene.start[6:8]}"
        pyogrio.write_dataframe(
            chart, beside / final.name, driver="ESRI Shapefile", encoding="UTF-8",
            layer_options={"DBF_DATE_LAST_UPDATE": day},
        )  # fmt: skip
        (beside / f"{final.name}.xml").write_text(_METADATA, encoding="utf-8")
        _refuse_edited(folder, [beside / name for name in names], truth)
    return final


def _refuse_edited(folder: Path, parts: list[Path], truth: Path) -> None:
    """Refuse to replace files of a chart that are neither as they were made, nor as the new ones, nor truncated."""
    record = recorded(truth / STAGE.record)
    hashes, sizes = (v if isinstance(v, dict) else {} for v in (record.get("chart"), record.get("chart_bytes")))
    for new in parts:
        old, made = folder / new.name, sizes.get(new.name, 1)
        if not old.exists() or sha256(old) in (hashes.get(new.name), sha256(new)):
            continue
        if not isinstance(made, int) or old.stat().st_size >= made:
            raise OutputError("was changed since it was made.", path=old, hint="Move it away, or choose another --out.")
