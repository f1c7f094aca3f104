"""From a chart to label rasters on a product's grid.

``polygons.tif``: uint16, ids of the chart's polygons, 0 outside the chart and where the product has no data.
``polygons.csv``: a row for each id, see :mod:`floemap.icechart.label.polygon_table`. Labels and fractions are look-ups
in this table. ``labels.tif``: uint8, class ids of the legend, 255 where there is no label (land, outside the chart,
unknown, no radar data). ``fractions.tif``: uint8, the percent of the polygon's area that each class has, and the
unknown rest; they sum to 100; 255 on land, outside the chart and where the product has no data.
``border_distance.tif``: uint8, quarters of a pixel to the nearest border of a polygon, up to 63.5 pixels; 255 outside
the chart.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox

from floemap.cog import STRIP_ROWS, Band, CogWriter, open_raster, read_geobox, refuse_beside, write_cog
from floemap.counts import counted
from floemap.errors import ChartError, FloemapError
from floemap.grid import crs_name, describe_grid
from floemap.icechart.dominant_type import IceTypes, ice_types, unmapped_stages
from floemap.icechart.label.borders import border_distance_px
from floemap.icechart.label.origin import notes_of_origin, origin_in_record
from floemap.icechart.label.polygon_table import NO_PERCENT, RASTER, TABLE, PolygonTable, write_polygons
from floemap.icechart.label.polygons import number_polygons, table_of_chart
from floemap.icechart.label.rasterize import BORDER_MARGIN_PX, rasterize_polygons
from floemap.icechart.label.settings import LabelSettings
from floemap.icechart.read.overlaps import measure_coverage
from floemap.icechart.read.own_charts import other_classes
from floemap.icechart.read.sigrid3 import Chart, read_chart, some_of
from floemap.icechart.read.sources import Source, find_source
from floemap.legend import IGNORE, Legend
from floemap.own_legends import chosen_legend, in_record, tags_of
from floemap.progress import Progress, silent
from floemap.qgis_raster import classes_style, write_style
from floemap.results.folders import made_of, stage_folder, told_sources
from floemap.results.names import place_in
from floemap.results.stage import Stage, is_finished, provenance, sha256, write_json
from floemap.sentinel1.bands import raster_of
from floemap.sentinel1.encoding import MASK_VALID

logger = logging.getLogger(__name__)

#: Raise the revision when labels, shares or distances change: decisions on polygons, drawing, storage.
STAGE = Stage(
    "floemap label",
    "label.json",
    revision=4,
    files=("labels.tif", "labels.qml", RASTER, TABLE, "fractions.tif", "border_distance.tif"),
)
#: Steps of the stored distance: quarters of a pixel.
DISTANCE_STEP_PX = 0.25
#: Stored in distances where there is none.
_NO_DISTANCE = 255
_POLYGON_BAND = Band(
    "polygon", description=f"Id of the chart's polygon, its row in {TABLE}; 0: none, or no data", overview="nearest"
)


@dataclass(frozen=True)
class LabelledChart:
    """A finished label folder."""

    folder: Path
    skipped: bool = False

    @property
    def raster(self) -> Path:
        """The classes."""
        return self.folder / "labels.tif"

    @property
    def record(self) -> Path:
        """How it was made, and what was found."""
        return self.folder / "label.json"


def label_chart(
    chart: str | Path,
    like: str | Path,
    out: str | Path,
    settings: LabelSettings | None = None,
    *,
    overwrite: bool = False,
    progress: Progress = silent,
) -> LabelledChart:
    """Draw an ice chart's classes on the grid of a product.

    Parameters
    ----------
    chart
        In SIGRID-3; see :func:`floemap.icechart.read.sigrid3.read_chart`.
    like
        A prepared product's folder, its product.tif, or any raster in a map projection in metres: the grid. Pixels
        without data there (by the band "mask" where there is one, by its no-data value else) get no label.
    out
        Folder that gets a folder named as the chart, with labels.tif, polygons.tif, polygons.csv, label.json and the
        files that `settings` ask for.
    settings
        See :class:`floemap.icechart.label.settings.LabelSettings`.
    overwrite
        Make it again even where it is finished with the same inputs and settings, or is of another chart or grid.
    progress
        Progress callback, called as progress(done, total, message).

    Raises
    ------
    ChartError
        If the chart cannot be read or understood, does not reach the grid, or gives none of its pixels a class.
    GridError
        If `like` has no usable grid.
    ConfigError
        If there is no such legend.
    OutputError
        If the results cannot be written, or would take the place of something else.
    """
    settings = settings or LabelSettings()
    classes = chosen_legend(settings.legend)
    like = raster_of(like)
    geobox = read_geobox(like)
    source = find_source(Path(chart), settings.layer)
    folder = place_in(Path(out), source.path.stem, "the chart", path=source.path, kind=ChartError)
    progress(0, 6, "reading")
    inputs, sources = _made_from(source, like, settings)
    configuration = settings.model_dump(mode="json")
    if not overwrite and is_finished(folder, STAGE, _files(settings), inputs=inputs, configuration=configuration):
        logger.info("%s is finished already", folder)
        return LabelledChart(folder, skipped=True)

    read = read_chart(source.path, layer=settings.layer, crs=settings.crs)
    types = ice_types(read, unmapped=settings.unmapped, without_parts=settings.without_parts)
    whole = table_of_chart(read, types, classes, unmapped=settings.unmapped)
    _warn_of_oddities(read, types, settings)
    # Mask, overlaps and distances are found beside the drawing and writing: all of it leaves the interpreter free.
    with (
        stage_folder(folder, STAGE, sources=sources, inputs=inputs, replace_others=overwrite) as partial,
        ThreadPoolExecutor(2) as pool,
    ):
        masking = pool.submit(_mask_of, like)
        covering = pool.submit(measure_coverage, read.geometries)
        progress(1, 6, "drawing")
        margin = BORDER_MARGIN_PX if settings.border_distance else 0
        wide = rasterize_polygons(read, geobox.pad(margin) if margin else geobox)
        numbers = wide[margin : wide.shape[0] - margin, margin : wide.shape[1] - margin]
        if not numbers.any():
            wide = rasterize_polygons(read, geobox)  # it reaches the margin only: this says so
        valid, tags = masking.result()
        tags |= {"chart": source.path.name, "AREA_OR_POINT": "Area"} | tags_of(classes)
        ids, table = _numbered(source.path, numbers, valid, whole, geobox)
        labels = table.dominant[ids]
        if (labels == IGNORE).all():
            raise ChartError(
                f"gives no pixel of {like} a class: where they meet it holds land, unknown ice or no radar data.",
                path=source.path,
                hint="Is it the chart of this scene?",
            )
        distances = pool.submit(stored_distance, wide, margin) if settings.border_distance else None
        progress(2, 6, "writing labels")
        write_cog(partial / "labels.tif", geobox, labels, [_label_band(classes)], nodata=IGNORE, tags=tags)
        write_style(partial / "labels.tif", classes_style(classes))
        progress(3, 6, "writing polygons")
        write_cog(partial / RASTER, geobox, ids, [_POLYGON_BAND], nodata=0, tags=tags)
        write_polygons(partial, table)
        if settings.fractions:
            progress(4, 6, "writing fractions")
            write_fractions(partial / "fractions.tif", geobox, ids, table, classes, tags)
        if distances is not None:
            progress(5, 6, "writing distances")
            write_distance(partial / "border_distance.tif", geobox, distances.result(), tags)
        record = provenance(STAGE, inputs=inputs, configuration=configuration)
        record |= _about(read, types, classes, geobox, labels, numbers, tags) | {"polygons_in_table": len(table)}
        record |= origin_in_record(read, labels, geobox, classes)
        record |= {"coverage": asdict(covering.result()), "sources": told_sources(folder, sources)}
        write_json(partial / STAGE.record, record | {"bytes": made_of(partial)})
    progress(6, 6, "done")
    return LabelledChart(folder)


def _made_from(source: Source, like: Path, settings: LabelSettings) -> tuple[dict[str, Any], dict[str, Path]]:
    """Return what labels are made from, by role: what tells it from others, and where it lies."""
    inputs: dict[str, Any] = {"chart": {p.name: sha256(p) for p in source.files}, "like": {like.name: sha256(like)}}
    sources = {"chart": source.path, "like": like}
    if settings.layer is not None:  # one of several charts in a file
        inputs["layer"], sources["layer"] = source.inside, source.path / source.inside
    return inputs, sources


def _warn_of_oddities(chart: Chart, types: IceTypes, settings: LabelSettings) -> None:
    if other := other_classes(chart, types):
        logger.warning("%s: %s", chart.path, _of_other_class(other))
    if ids := types.without_parts:
        logger.warning("%s: %s", chart.path, _of_missing_parts(ids, settings.without_parts))


def _of_missing_parts(ids: Sequence[int], taken: str) -> str:
    what = "the first is taken for all of it" if taken == "first" else "the type is unknown where these decide it"
    naming = counted(len(ids), "polygon names|polygons name")
    return f"{naming} several ice types without partial concentrations, and {what}: {some_of(ids)}"


def _of_other_class(ids: Sequence[int]) -> str:
    return (
        f"in {counted(len(ids), 'polygon')} CLASS is another than POLY_TYPE, CT and SA say, which count: "
        f"{some_of(ids)}. If CLASS was corrected, correct these"
    )


def notes_of(record: Mapping[str, Any]) -> list[str]:
    """Return what :func:`label_chart` warned of that its user should look at, from label.json, as sentences."""
    odd = record.get("oddities", {})
    notes = []
    for key, words in (
        ("untyped_ids", "polygon has no POLY_TYPE|polygons have no POLY_TYPE"),
        ("blank_ids", "polygon gives nothing at all|polygons give nothing at all"),
    ):
        ids = odd.get(key, ())
        notes += [f"{counted(len(ids), words)}: {some_of(ids)}."] if ids else []
    if ids := odd.get("without_parts_ids"):
        notes.append(_of_missing_parts(ids, record["configuration"]["without_parts"]) + ".")
    notes += [f"{words}." for words in notes_of_origin(record.get("origin"))]
    return notes + ([_of_other_class(odd["other_class_ids"]) + "."] if odd.get("other_class_ids") else [])


def _files(settings: LabelSettings) -> list[str]:
    """Return the files that the settings ask for."""
    wanted = {"fractions.tif": settings.fractions, "border_distance.tif": settings.border_distance}
    return ["labels.tif", RASTER, TABLE, *(name for name, asked in wanted.items() if asked)]


def _mask_of(like: Path) -> tuple[NDArray[np.bool_], dict[str, str]]:
    """Return where a raster has data, (rows, cols), and which of its tags belong to everything that is made from it."""
    refuse_beside(like)
    with open_raster(like) as d:
        valid = np.empty(d.shape, np.bool_)
        band = d.descriptions.index("mask") + 1 if "mask" in d.descriptions else None
        if band is not None and np.dtype(d.dtypes[band - 1]).kind not in "iu":
            message = f"its mask holds {d.dtypes[band - 1]}, no whole numbers."
            raise FloemapError(message, path=like, hint="Give the product.tif of a prepared product.")
        for row in range(0, d.height, STRIP_ROWS):
            window = ((row, min(row + STRIP_ROWS, d.height)), (0, d.width))
            strip = d.dataset_mask(window=window) if band is None else d.read(band, window=window) & MASK_VALID
            valid[slice(*window[0])] = strip != 0
        tags = {k: v for k, v in d.tags().items() if k in ("product", "start", "simulated", "attribution")}
    return valid, tags


def _label_band(classes: Legend) -> Band:
    return Band(
        "ice_type",
        description=f"Class of the dominant ice type, legend {classes.name}",
        overview="mode",
        categories=classes.titles | {IGNORE: "no label"},
        colours=classes.colours,
    )


def _numbered(
    chart: Path, numbers: NDArray[Any], valid: NDArray[np.bool_], whole: PolygonTable, geobox: GeoBox
) -> tuple[NDArray[np.uint16], PolygonTable]:
    try:
        return number_polygons(numbers, valid, whole, geobox)
    except ChartError as e:
        raise ChartError(e.message, path=chart, hint=e.hint) from None


def write_fractions(
    path: Path,
    geobox: GeoBox,
    ids: NDArray[np.uint16],
    table: PolygonTable,
    classes: Legend,
    tags: dict[str, str],
) -> None:
    """Write ``fractions.tif``: the share of each class in the polygon of each pixel, given by its id, (rows, cols)."""
    bands = [
        Band(c.key, description=f"Share of {c.title.lower()} in the polygon", scale=0.01, units="1", overview="nearest")
        for c in classes.classes
    ]
    rest = "Share of ice that is unknown or has no class"
    bands.append(Band("unknown", description=rest, scale=0.01, units="1", overview="nearest"))
    with CogWriter(path, geobox, bands, dtype="uint8", nodata=NO_PERCENT, tags=tags) as cog:
        for row in range(0, len(ids), STRIP_ROWS):
            strip = ids[row : row + STRIP_ROWS]
            cog.write(np.stack([percent[strip] for percent in np.ascontiguousarray(table.percent.T)]))


def stored_distance(wide: NDArray[Any], margin: int = 0) -> NDArray[np.uint8]:
    """Return distances to borders as stored, without the margin of a raster of polygons' numbers, 0 for none."""
    inner = np.s_[margin : wide.shape[0] - margin, margin : wide.shape[1] - margin]
    distance = border_distance_px(wide)[inner]
    distance *= np.float32(1 / DISTANCE_STEP_PX)
    stored = np.rint(distance, out=distance).astype(np.uint8)
    stored[wide[inner] == 0] = _NO_DISTANCE
    return stored


def write_distance(path: Path, geobox: GeoBox, stored: NDArray[np.uint8], tags: dict[str, str]) -> None:
    """Write ``border_distance.tif`` from distances as stored."""
    band = Band(
        "border_distance",
        "pixel",
        "Distance of the pixel's centre to the nearest border of a chart polygon, at most 63.5",
        scale=DISTANCE_STEP_PX,
        overview="nearest",
    )
    write_cog(path, geobox, stored, [band], nodata=_NO_DISTANCE, tags=tags)


def _about(
    chart: Chart,
    types: IceTypes,
    classes: Legend,
    geobox: GeoBox,
    labels: NDArray[np.uint8],
    numbers: NDArray[Any],
    tags: dict[str, str],
) -> dict[str, Any]:
    """What label.json says of chart, grid and labels."""
    pixels = _count(labels, 256)
    drawn = _count(numbers, len(chart) + 1)
    return {
        "simulated": tags.get("simulated") == "yes",
        "chart": {
            "file": chart.path.name,
            "layer": chart.layer,
            "polygons": len(chart),
            "crs": crs_name(chart.source_crs),
            "simulated": chart.simulated,
        },
        "grid": describe_grid(geobox),
        "legend": in_record(classes),
        "pixels": {c.key: int(pixels[c.id]) for c in classes.classes} | {"no_label": int(pixels[IGNORE])},
        "pixels_outside_chart": int(drawn[0]),
        "polygons_drawn": int(np.count_nonzero(drawn[1:])),
        "decisions": types.counts,
        "oddities": asdict(chart.report)
        | {
            "unnamed_remainder_larger": types.remainder_larger,
            "without_parts_ids": types.without_parts,
            "odd_concentrations": types.odd_concentrations,
            "unmapped_stages": unmapped_stages(types, classes),
            "other_class_ids": other_classes(chart, types),
        },
    }


def _count(raster: NDArray[Any], length: int) -> NDArray[np.int64]:
    """Count the pixels of each value below `length`, strip by strip: counting makes 64-bit copies."""
    strips = (raster[row : row + STRIP_ROWS] for row in range(0, len(raster), STRIP_ROWS))
    return np.asarray(sum(np.bincount(strip.ravel(), minlength=length) for strip in strips), np.int64)
