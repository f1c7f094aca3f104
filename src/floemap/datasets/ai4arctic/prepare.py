"""From an AI4Arctic scene to what floemap's other commands read: bands, labels and polygons on a map grid.

``product.tif`` and ``product.json`` are as `floemap prepare` makes them, ``labels.tif``, ``polygons.tif`` and
``polygons.csv`` as `floemap label` does. By default the grid is a polar one, from the tie points: models that learn on
it work on products that floemap prepares, and areas and distances are those of the map. Bands are resampled in linear
power, classes and polygons by the nearest pixel. With the grid "image", the image's lines and samples are kept, and
scores count the pixels of the challenge; what needs a map refuses such a product. The dataset's makers (NERSC) have
subtracted thermal noise, which the record says.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import pandas as pd
import shapely
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox

from floemap.cog import Band, open_raster, read_geobox, write_cog
from floemap.datasets.ai4arctic.acquisition import acquisition_of, footprint
from floemap.datasets.ai4arctic.class_areas import NOTHING, class_areas, combined, separated, tenths
from floemap.datasets.ai4arctic.codes import PolygonCodes, Rule, polygon_classes
from floemap.datasets.ai4arctic.convert import places_of_ids
from floemap.datasets.ai4arctic.files import Floats, SceneFile, open_scene_file
from floemap.datasets.ai4arctic.form import CHARTS, NO_CLASS, PREPARE_SETTINGS
from floemap.datasets.ai4arctic.on_map import nearest
from floemap.datasets.ai4arctic.tie_locator import ImageLocator, Locator, TieLocator, locator_on
from floemap.errors import ChartError, GridError, ProductError
from floemap.grid import crs_of, describe_grid
from floemap.icechart.dominant_type import ice_types
from floemap.icechart.label.label import STAGE as LABEL_STAGE
from floemap.icechart.label.label import LabelledChart, stored_distance, write_distance, write_fractions
from floemap.icechart.label.polygon_table import RASTER, TABLE, PolygonTable, write_polygons
from floemap.icechart.label.polygons import number_polygons, table_of_chart
from floemap.icechart.read.codes import NOT_GIVEN, POLYGON_TYPES
from floemap.icechart.read.columns import CODE_COLUMNS
from floemap.icechart.read.sigrid3 import Chart, ChartReport
from floemap.legend import AI4ARCTIC, IGNORE
from floemap.own_legends import in_record
from floemap.progress import Progress, between, silent
from floemap.qgis_raster import SHOWN_HH_DB, classes_style, grey_style, write_style
from floemap.results.folders import made_of, stage_folder, told_sources
from floemap.results.stage import is_finished, provenance, sha256, write_json
from floemap.sentinel1.bands import raster_of
from floemap.sentinel1.encoding import MASK_VALID
from floemap.sentinel1.metadata import Acquisition
from floemap.sentinel1.places import TIE_POINTS
from floemap.sentinel1.prepare import STAGE as PREPARE_STAGE
from floemap.sentinel1.prepare import Gather, PreparedProduct, refuse_two_grids, write_bands
from floemap.sentinel1.radiometry import FLOOR_DB
from floemap.sentinel1.settings import PrepareSettings
from floemap.sentinel1.stac import write_item

#: Files that label_scene writes beside the labels, as label_chart does.
_FRACTIONS, _DISTANCE = "fractions.tif", "border_distance.tif"
#: Raise the revision when bands change.
STAGE = replace(PREPARE_STAGE, revision=1)
#: A grid over an image has at most so many times its pixels, and a few: a slanting one of thrice its width has 2.7.
_MOST_TIMES_LARGER, _LEAST_PIXELS = 10, 10_000
_NOISE = "subtracted by the dataset's makers, DOI 10.1109/TGRS.2021.3131036"


def prepare_scene(
    path: str | Path,
    out: str | Path,
    settings: PrepareSettings | None = None,
    *,
    like: str | Path | None = None,
    overwrite: bool = False,
    made: Collection[Path] = (),
    progress: Progress = silent,
) -> PreparedProduct:
    """Put the bands of a raw or a ready-to-train file on a map grid, or keep the lines and samples of the image.

    Parameters
    ----------
    path
        The file.
    out
        Folder that gets a folder with the scene's name, such as ``20180607T184326_dmi``.
    settings
        `resolution_m`, `crs` and `grid` count; the others are for products as delivered. Where the resolution is a
        multiple of the file's pixels, these are averaged in power first.
    like
        Raster whose grid is used instead.
    overwrite
        Make it again even if it is finished with the same file and settings.
    made
        Folders that the same call has made; `overwrite` does not replace them.
    progress
        Progress callback, called as progress(done, total, message).

    Raises
    ------
    ProductError
        If the file cannot be read, is not of the dataset's form, or has no bands.
    GridError
        If there is no grid over the image.
    OutputError
        If the results cannot be written, or would replace something else.
    """
    path, settings = Path(path), settings or PrepareSettings()
    with open_scene_file(path) as file:
        scene = file.scene
        folder = Path(out) / scene.name
        inputs = {"product": {path.name: sha256(path)}}
        configuration = settings.model_dump(include=set(PREPARE_SETTINGS))
        configuration |= {} if like is None else {"like": sha256(Path(like))}
        files = ("product.tif", "item.json", "quicklook.png")
        if not overwrite and is_finished(folder, STAGE, files, inputs=inputs, configuration=configuration):
            return PreparedProduct(folder, skipped=True)
        if file.file_name is not None and file.file_name.reference:
            hint = f"Give {scene.ready} or the raw file."
            raise ProductError("has the charts of a test scene, and no bands.", path=path, hint=hint)
        if not file.has_bands:
            hint = "Prepare the Sentinel-1 product as delivered, and label this file's chart on it."
            raise ProductError("is of ASID-v2, whose bands are not in decibels.", path=path, hint=hint)
        acquired = acquisition_of(file)
        locator, geobox = _placed(file, settings, like)
        looks = max(1, int(abs(geobox.resolution.x) / file.spacing_m + 1e-6))
        sources = {"product": path} | ({} if like is None else {"like": Path(like)})
        replace_others = overwrite and folder not in made
        with stage_folder(folder, STAGE, sources=sources, inputs=inputs, replace_others=replace_others) as partial:
            power, incidence = _cells(file, looks, between(progress, 0, 0.6))
            gather = Gather(power, looks, locator.inverse_map(geobox, incidence), geobox.shape[1])
            del power
            tags = {"product": scene.product, "start": scene.start.isoformat(), "AREA_OR_POINT": "Area"}
            tags |= {"simulated": "yes" if file.simulated else "no"}
            if not file.simulated:
                tags["attribution"] = (
                    f"Contains modified Copernicus Sentinel data {scene.start.year}; AI4Arctic, CC-BY 4.0"
                )
            pixels = write_bands(partial / "product.tif", gather, geobox, tags, between(progress, 0.6, 1))
            if not pixels["valid"]:
                raise GridError("has no pixel with data.", path=path, hint="Download the file again.")
            write_style(partial / "product.tif", grey_style(*SHOWN_HH_DB))
            record = provenance(STAGE, inputs=inputs, configuration=configuration)
            record |= {"sources": told_sources(folder, sources), "simulated": file.simulated}
            record |= {
                "scene": _identity(file, acquired),
                "looks": looks,
                "grid": describe_grid(geobox),
                "floor_db": FLOOR_DB,
            }
            record |= {"thermal_noise": {p: {"done": _NOISE, "residual": {}} for p in ("HH", "HV")}}
            record |= {"corners_lonlat_deg": locator.corners_lonlat_deg(), "pixels": pixels}
            if isinstance(locator, ImageLocator):
                record[TIE_POINTS] = locator.tie_record(geobox)
            from floemap.sentinel1.quicklook import draw_quicklook  # imports matplotlib

            progress(1, 1, "drawing")
            draw_quicklook(partial / "product.tif", partial / "quicklook.png", title=acquired.title)
            method = "image" if isinstance(locator, ImageLocator) else "tie points"
            geometry = {"floemap:settings": configuration, "floemap:geometry": {"method": method}}
            write_item(partial / "item.json", acquired, footprint(locator.tie), geobox, geometry)
            write_json(partial / STAGE.record, record | {"bytes": made_of(partial)})
    progress(1, 1, "done")
    return PreparedProduct(folder)


def _placed(file: SceneFile, settings: PrepareSettings, like: str | Path | None) -> tuple[Locator, GeoBox]:
    """Return the places of the image's pixels, and the grid: that of `like`, or else one over the image."""
    if like is None:
        tie = file.tie_points()
        locator: Locator
        if settings.grid == "image":
            locator = ImageLocator(tie, file.shape, file.spacing_m, file.scene.product)
        else:
            locator = TieLocator(tie, file.shape, settings.crs)
        geobox = locator.grid(settings.resolution_m)
        pixels = file.shape[0] * file.shape[1] * (file.spacing_m / settings.resolution_m) ** 2
        if geobox.shape[0] * geobox.shape[1] > _MOST_TIMES_LARGER * pixels + _LEAST_PIXELS:
            size = f"{geobox.shape[0]} x {geobox.shape[1]}"
            message = f"would have {size} pixels on the grid, and its image has {pixels:.0f} of that size."
            hint = "The tie points or pixel_spacing are wrong, or the CRS does not suit the place."
            raise GridError(message, path=file.path, hint=hint)
        return locator, geobox
    refuse_two_grids(settings)
    geobox = read_geobox(Path(like))
    return locator_on(file, geobox), geobox


def _identity(file: SceneFile, acquired: Acquisition) -> dict[str, Any]:
    scene = file.scene
    return {
        "name": scene.product,
        "mission": scene.mission,
        "mode": "EW",
        "polarisations": ["HH", "HV"],
        "start": scene.start.isoformat(),
        "stop": scene.stop.isoformat(),
        "pass_direction": acquired.pass_direction,
        "absolute_orbit": scene.orbit[1],
        "relative_orbit": acquired.relative_orbit,
        "dataset": "AI4Arctic",
        "kind": file.kind,
        "service": scene.service,
        "region": scene.region,
        "flip": file.flip,
    }


def _cells(file: SceneFile, looks: int, progress: Progress) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
    """Return powers and weight of cells of `looks` pixels, (rows, cols, 3), and the incidence angle by sample.

    The angle changes little along the lines, so its mean over them is taken.
    """
    rows, cols = (n // looks for n in file.shape)
    if not rows or not cols:
        raise GridError(f"the image has {file.shape[0]} x {file.shape[1]} pixels only.", path=file.path)
    power = np.zeros((rows, cols, 3), np.float32)
    angle, lines = np.zeros(file.shape[1]), np.zeros(file.shape[1])
    for first, stop in file.strips(looks):
        progress(first, file.shape[0], "reading")
        incidence = file.incidence_deg(first, stop)
        angle += np.nansum(incidence, axis=0)
        lines += np.isfinite(incidence).sum(axis=0)
        last = min(stop // looks, rows)
        if last <= first // looks:
            continue
        used = np.s_[: (last - first // looks) * looks, : cols * looks]
        bands = [file.band_db(band, first, stop)[used] for band in ("hh", "hv")]
        valid = np.isfinite(bands[0]) & np.isfinite(bands[1])
        count = _block_sum(valid.astype(np.float32), looks)
        whole = count > looks * looks / 2
        for k, db in enumerate(bands):
            linear = np.where(valid, np.power(np.float32(10), np.where(valid, db, 0) / np.float32(10)), np.float32(0))
            power[first // looks : last, :, k] = np.where(whole, _block_sum(linear, looks) / np.maximum(count, 1), 0)
        power[first // looks : last, :, 2] = whole
    seen = lines > 0
    if not seen.any():
        raise ProductError("has no incidence angle.", path=file.path, hint="Download the file again.")
    at = np.arange(len(angle))
    return power, np.interp(at, at[seen], angle[seen] / lines[seen])


def _block_sum(values: Floats, n: int) -> Floats:
    if n == 1:
        return values
    rows, cols = values.shape
    summed: Floats = values.reshape(rows // n, n, cols // n, n).sum(axis=(1, 3))
    return summed


def label_scene(
    path: str | Path,
    product: str | Path,
    out: str | Path,
    *,
    rule: Rule = "starter",
    overwrite: bool = False,
    progress: Progress = silent,
) -> LabelledChart:
    """Put the chart of a scene on the grid of its prepared product, with the legend ``ai4arctic``.

    Parameters
    ----------
    path
        A ready-to-train file, the reference file of a test scene, or a raw file. polygons.csv has the concentration and
        the floe size from all of them, and partial concentrations from raw files only, which fractions.tif shows. For
        other files polygons.tif has the areas of :func:`floemap.datasets.ai4arctic.class_areas.class_areas`.
    product
        Folder of the product that :func:`prepare_scene` made of the scene.
    out
        Folder that gets a folder with the scene's name.
    rule
        For raw files: how polygons become classes; see :mod:`floemap.datasets.ai4arctic.codes`. Ready-to-train files
        were made by "starter".
    overwrite, progress
        See :func:`prepare_scene`.

    Raises
    ------
    ProductError
        If the file cannot be read, or has no chart.
    ChartError
        If no pixel gets a class, or a polygon has a code that is not of SIGRID-3.
    OutputError
        If the results cannot be written, or would replace something else.
    """
    path, raster = Path(path), raster_of(product)
    with open_scene_file(path) as file:
        folder = Path(out) / file.scene.name
        inputs = {"chart": {path.name: sha256(path)}, "like": {raster.name: sha256(raster)}}
        configuration: dict[str, Any] = {"legend": AI4ARCTIC.name, "charts": list(CHARTS)}
        configuration["rule"] = rule if file.kind == "raw" else "starter"
        files = ["labels.tif", RASTER, TABLE, _DISTANCE, *([_FRACTIONS] if file.kind == "raw" else [])]
        if not overwrite and is_finished(folder, LABEL_STAGE, files, inputs=inputs, configuration=configuration):
            return LabelledChart(folder, skipped=True)
        sources = {"chart": path, "like": raster}
        with stage_folder(folder, LABEL_STAGE, sources=sources, inputs=inputs, replace_others=overwrite) as partial:
            drawer = _Drawer(file, raster, partial)
            progress(0, 1, "labels")
            labels = drawer.from_polygons(rule) if file.kind == "raw" else drawer.from_chart()
            record = provenance(LABEL_STAGE, inputs=inputs, configuration=configuration)
            record |= drawer.write(labels) | {"sources": told_sources(folder, sources)}
            write_json(partial / LABEL_STAGE.record, record | {"bytes": made_of(partial)})
    progress(1, 1, "done")
    return LabelledChart(folder)


class _Drawer:
    """Draws what a file says of the ice on the grid of its prepared product, into a folder."""

    def __init__(self, file: SceneFile, raster: Path, folder: Path) -> None:
        self.file, self.folder = file, folder
        self.geobox = read_geobox(raster)
        with open_raster(raster) as d:
            self.valid = (d.read(d.count) & MASK_VALID) != 0
            tags = {k: v for k, v in d.tags().items() if k in ("product", "start", "simulated", "attribution")}
        self.simulated = file.simulated or tags.get("simulated") == "yes"
        self.tags = tags | {"chart": file.path.name, "legend": AI4ARCTIC.name, "AREA_OR_POINT": "Area"}
        self.about: dict[str, Any] = {}
        self.polygons: dict[str, int] = {}

    def from_chart(self) -> NDArray[np.uint8]:
        """Return the classes of a ready-to-train file's chart; write the areas of equal classes."""
        image = np.full(self.file.shape, NOTHING, np.uint16)
        for first, stop in self.file.strips():
            empty = np.full((stop - first, self.file.shape[1]), NO_CLASS, np.uint8)
            given = [c for c in CHARTS if c == "SOD" or c in self.file.charts]
            charts = {c: self.file.chart(c, first, stop) for c in given}
            image[first:stop] = combined(*(charts.get(c, empty) for c in CHARTS))
        classes = nearest(self.file, self.geobox, image, NOTHING)
        numbers, whole = class_areas(classes)
        self._write_polygons(numbers, whole)
        self.about["polygons_from"] = "connected areas of equal classes: the file has no polygons"
        labels: NDArray[np.uint8] = separated(classes)[list(CHARTS).index("SOD")]
        return labels

    def from_polygons(self, rule: Rule) -> NDArray[np.uint8]:
        """Return the classes of a raw file's polygons; write ids and table of the polygons, and their shares."""
        codes = self.file.polygon_codes()
        image = np.zeros(self.file.shape, np.uint16)
        for first, stop in self.file.strips():
            image[first:stop] = places_of_ids(self.file.polygon_ids(first, stop), codes.ids) + 1
        chart = _chart_of(self.file.path, codes, self.geobox)
        types = ice_types(chart, unmapped="ignore", without_parts="first")
        whole = table_of_chart(chart, types, AI4ARCTIC, unmapped="ignore")
        found = polygon_classes(codes, rule)
        none = np.array([NO_CLASS], np.uint8)
        sic, sod, floe = (np.concatenate([none, found.of(c)]) for c in CHARTS)
        whole = replace(whole, dominant=sod, floe=floe, concentration=tenths(sic))
        ids, table = self._write_polygons(nearest(self.file, self.geobox, image, 0), whole)
        write_fractions(self.folder / _FRACTIONS, self.geobox, ids, table, AI4ARCTIC, self.tags)
        self.about |= {"decisions": types.counts, "polygons_drawn": len(codes)}
        self.polygons = {"polygons": len(codes)}
        return table.dominant[ids]

    def _write_polygons(self, numbers: NDArray[Any], whole: PolygonTable) -> tuple[NDArray[np.uint16], PolygonTable]:
        """Write ids, table and border distances of polygons, given by their numbers, (rows, cols), 0 for none."""
        ids, table = number_polygons(numbers, self.valid, whole, self.geobox)
        band = Band(
            "polygon", description=f"Id of the chart's polygon, its row in {TABLE}; 0: none", overview="nearest"
        )
        write_cog(self.folder / RASTER, self.geobox, ids, [band], nodata=0, tags=self.tags)
        write_polygons(self.folder, table)
        write_distance(self.folder / _DISTANCE, self.geobox, stored_distance(numbers), self.tags)
        self.about["polygons_in_table"] = len(table)
        return ids, table

    def write(self, labels: NDArray[np.uint8]) -> dict[str, Any]:
        """Write labels.tif and return what label.json says of it."""
        labels[~self.valid] = IGNORE
        if (labels == IGNORE).all():
            raise ChartError(
                "gives no pixel of the product a class.", path=self.file.path, hint="Is it the chart of this scene?"
            )
        band = Band(
            "ice_type",
            description=f"Class of the dominant ice type, legend {AI4ARCTIC.name}",
            overview="mode",
            categories=AI4ARCTIC.titles | {IGNORE: "no label"},
            colours=AI4ARCTIC.colours,
        )
        write_cog(self.folder / "labels.tif", self.geobox, labels, [band], nodata=IGNORE, tags=self.tags)
        write_style(self.folder / "labels.tif", classes_style(AI4ARCTIC))
        pixels = np.bincount(labels.ravel(), minlength=256)
        classes = AI4ARCTIC.classes
        scene = self.file.scene
        return self.about | {
            "simulated": self.simulated,
            "chart": {"file": self.file.path.name, "service": scene.service, "region": scene.region} | self.polygons,
            "grid": describe_grid(self.geobox),
            "legend": in_record(AI4ARCTIC),
            "pixels": {c.key: int(pixels[c.id]) for c in classes} | {"no_label": int(pixels[IGNORE])},
        }


def _chart_of(path: Path, codes: PolygonCodes, geobox: GeoBox) -> Chart:
    """Return the table as a chart whose polygons have no outlines: their pixels are drawn already."""
    columns = {name: pd.array(codes.codes[name.upper()], dtype="Int16") for name in CODE_COLUMNS}
    table = pd.DataFrame(columns, index=pd.Index(codes.ids)).replace({NOT_GIVEN: pd.NA})
    table["poly_type"] = [t if t in POLYGON_TYPES else "" for t in codes.poly_types]
    crs = crs_of(geobox).proj
    polygons = gpd.GeoDataFrame(table, geometry=[shapely.Polygon()] * len(codes), crs=crs)
    report = ChartReport(features=len(codes), without_area=0, repaired=0)
    return Chart(path, "", polygons, crs, (path,), tuple(columns), report)
