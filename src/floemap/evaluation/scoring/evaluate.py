"""The stage that scores a class map against a chart's labels: ``evaluation.json`` and ``errors.tif``.

``errors.tif`` is uint8: 0 where the prediction is the chart's class, 1 where it is another, 255 where there is no label
or no prediction. Rasters are read in strips, so memory does not grow with the scene. No model is called.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from numpy.typing import NDArray
from rasterio.errors import RasterioError

from floemap.cog import GDAL_CACHE_BYTES, STRIP_ROWS, Band, CogWriter, deepest_reason, open_raster
from floemap.errors import ConfigError, FloemapError
from floemap.evaluation.scoring.categories import CONCENTRATION, CategoryCounts
from floemap.evaluation.scoring.confusion import Confusion, name_ids
from floemap.evaluation.scoring.named_scores import NO_VALUE, PRIMARY, Tally, definition
from floemap.evaluation.scoring.polygons import PolygonCounts
from floemap.evaluation.scoring.scores import scores
from floemap.evaluation.scoring.settings import EvaluateSettings
from floemap.evaluation.scoring.sources import Sources, find_sources
from floemap.evaluation.scoring.values import ValueCounts
from floemap.grid import brief, crs_of
from floemap.icechart.label.polygon_table import PolygonTable, read_polygons
from floemap.icechart.label.polygon_values import CATEGORIES, VALUES
from floemap.legend import IGNORE, SIX_CLASSES
from floemap.progress import Progress, silent
from floemap.qgis_raster import palette_style, write_style
from floemap.results.folders import made_of, stage_folder, told_sources
from floemap.results.names import place_in
from floemap.results.stage import Stage, is_finished, provenance, read_json, write_json

logger = logging.getLogger(__name__)

RECORD, ERRORS = "evaluation.json", "errors.tif"
#: Raise the revision when counts or scores change: what is counted where, definitions of scores.
STAGE = Stage("floemap evaluate", RECORD, revision=3, files=(ERRORS, "errors.qml"))
RIGHT, WRONG = 0, 1

_ERROR_BAND = Band(
    "error",
    description="Whether the prediction is the class of the chart's dominant ice type",
    overview="mode",
    categories={RIGHT: "right", WRONG: "wrong", IGNORE: "no label or no prediction"},
    colours={RIGHT: (235, 235, 235), WRONG: (180, 30, 30), IGNORE: (255, 255, 255)},
)


@dataclass(frozen=True)
class Evaluation:
    """A finished evaluation folder; `skipped` is true where it was finished before the call."""

    folder: Path
    skipped: bool = False

    @property
    def record(self) -> Path:
        """The file with counts and scores."""
        return self.folder / RECORD

    @property
    def errors(self) -> Path:
        """The raster of right and wrong pixels."""
        return self.folder / ERRORS

    def read(self) -> dict[str, Any]:
        """Return the content of the record, as :func:`floemap.evaluation.statistics.summary.summarise` takes it."""
        return read_json(self.record)


def evaluate_scene(
    prediction: str | Path,
    labels: str | Path,
    out: str | Path,
    settings: EvaluateSettings | None = None,
    *,
    name: str | None = None,
    truth: str | Path | None = None,
    mask: str | Path | None = None,
    overwrite: bool = False,
    progress: Progress = silent,
) -> Evaluation:
    """Score a predicted class map against a chart.

    Parameters
    ----------
    prediction
        Folder made by `floemap predict`, or a class raster: one band of uint8 with no-data 255.
    labels
        Folder made by `floemap label`, or its labels.tif. The files beside it (fractions.tif, border_distance.tif,
        polygons.tif) decide which further scores are computed.
    out
        Folder in which a folder with evaluation.json and errors.tif is written.
    settings
        See :class:`floemap.evaluation.scoring.settings.EvaluateSettings`.
    name
        Name of the written folder; by default the prediction's.
    truth
        The truth of a simulated scene: truth.tif or its folder. Its band "class" must be on the same grid and in the
        legend six_classes.
    mask
        Raster on the same grid that is 0, or has no data, outside the part to score.
    overwrite
        Whether to replace a folder that is finished with the same inputs and settings, or that holds the evaluation of
        another prediction or chart.
    progress
        Progress callback, called as progress(done, total, message).

    Raises
    ------
    GridError
        If the rasters are not on one grid.
    ConfigError
        If prediction and labels have different classes, or a raster holds ids outside the legend.
    FloemapError
        If a raster cannot be read, a required score cannot be computed, or no pixel has a label and a prediction.
    OutputError
        If the results cannot be written, or would replace something else.
    """
    settings = settings or EvaluateSettings()
    sources = find_sources(
        Path(prediction),
        Path(labels),
        settings,
        name=name,
        truth=None if truth is None else Path(truth),
        mask=None if mask is None else Path(mask),
    )
    folder = place_in(Path(out), sources.name, "the prediction", path=sources.prediction, kind=FloemapError)
    inputs, configuration = sources.hashes(), settings.model_dump(mode="json")
    if not overwrite and is_finished(folder, STAGE, [ERRORS], inputs=inputs, configuration=configuration):
        logger.info("%s is finished already", folder)
        return Evaluation(folder, skipped=True)
    known = {"prediction": sources.prediction, "labels": sources.labels}
    known |= {"truth": sources.truth} if sources.truth else {}
    known |= {"mask": sources.mask} if sources.mask else {}
    with stage_folder(folder, STAGE, sources=known, inputs=inputs, replace_others=overwrite) as partial:
        tally, polygons, values, categories = _count(sources, settings, partial / ERRORS, progress)
        shown = [(i, title, _ERROR_BAND.colours[i]) for i, title in _ERROR_BAND.categories.items() if i != IGNORE]
        write_style(partial / ERRORS, palette_style(shown))
        record = provenance(STAGE, inputs=inputs, configuration=configuration)
        record |= _about(sources, settings, tally) | {"sources": told_sources(folder, known)}
        record["polygons"] = None if polygons is None else polygons.as_dict(with_truth=sources.truth is not None)
        if values:
            record["values"] = {name: counts.as_dict() for name, counts in values.items()}
        if categories:
            record["categories"] = {name: counts.as_dict() for name, counts in categories.items()}
        write_json(partial / RECORD, record | {"bytes": made_of(partial)})
    return Evaluation(folder)


def _count(
    sources: Sources, settings: EvaluateSettings, errors: Path, progress: Progress
) -> tuple[Tally, PolygonCounts | None, dict[str, ValueCounts], dict[str, CategoryCounts]]:
    """Count the pixels of all scores strip by strip, and write the map of errors on the way."""
    tally = Tally(settings.away_from_borders_px, settings.either_min_percent)
    classes = len(sources.classes.keys)
    table = None if sources.polygons is None else read_polygons(sources.polygons.parent)
    polygons = None if table is None else PolygonCounts(table)
    of_values = {} if table is None else _value_counts(sources, table)
    of_categories = {} if table is None else _category_counts(sources, table)
    tags = {"AREA_OR_POINT": "Area", "simulated": "yes" if sources.simulated else "no"}
    rows = sources.geobox.shape[0]
    with ExitStack() as stack:
        stack.enter_context(rasterio.Env(GDAL_CACHEMAX=GDAL_CACHE_BYTES))
        labels, prediction = _opened(stack, sources.labels), _opened(stack, sources.prediction, gaps=IGNORE)
        mask = _opened(stack, sources.mask, gaps=0)
        truth_ids = None if sources.truth_band is None else sources.truth_band.ids
        truth = _opened(stack, sources.truth, 1 if sources.truth_band is None else sources.truth_band.number)
        stored = {name: _opened(stack, path) for name, (_, path) in sources.values.items()}
        distance, numbers = _opened(stack, sources.distance), _opened(stack, sources.polygons)
        fractions = _opened(stack, sources.fractions, list(range(1, classes + 1)))
        cog = stack.enter_context(
            CogWriter(errors, sources.geobox, [_ERROR_BAND], dtype="uint8", nodata=IGNORE, tags=tags)
        )
        for row in range(0, rows, STRIP_ROWS):
            progress(row, rows, "scoring")
            reference, predicted = _needed(labels(row)), _needed(prediction(row))
            if (part := mask(row)) is not None:
                part[np.isnan(part)] = 0
                reference = np.where(part == 0, np.uint8(IGNORE), reference)
            shares, far = fractions(row), distance(row)
            for path, values in ((sources.fractions, None if shares is None else shares[0]), (sources.distance, far)):
                if values is not None and ((values == NO_VALUE) & (reference != IGNORE)).any():
                    raise FloemapError(
                        "has no value at pixels that have a label: it was made from another chart.",
                        path=path,
                        hint="Label the chart again.",
                    )
            true, ids = truth(row), numbers(row)
            if true is not None and truth_ids is not None:
                true = truth_ids[true]
            tally.add(reference, predicted, fractions=shares, distance=far, truth=true)
            if polygons is not None and table is not None and sources.polygons is not None:
                ids = _needed(ids)
                table.check(ids, sources.polygons)
                ids = ids if part is None else np.where(part == 0, ids.dtype.type(0), ids)
                polygons.add(ids, predicted, reference, true)
                for name, counts in of_values.items():
                    counts.add(row, ids, _needed(stored[name](row)), true)
                for name, classes_of in of_categories.items():
                    classes_of.add(ids, _needed(stored[name](row)))
            both = (reference != IGNORE) & (predicted != IGNORE)
            cog.write(np.where(both, (reference != predicted).astype(np.uint8), np.uint8(IGNORE))[None])
        _check_ids(sources, tally)
    progress(rows, rows, "scored")
    return tally, polygons, of_values, of_categories


def _value_counts(sources: Sources, table: PolygonTable) -> dict[str, ValueCounts]:
    """Return empty counts for each head that predicts a value."""
    area, shape = _pixel_area_km2(sources), (int(sources.geobox.shape[0]), int(sources.geobox.shape[1]))
    pixel_m = None if area is None else 1000 * math.sqrt(area)
    water = None if sources.truth_band is None else int(sources.truth_band.ids[SIX_CLASSES.water])
    values = {name: target for name, (target, _) in sources.values.items() if target in VALUES}
    return {name: ValueCounts(target, table, shape, pixel_m, water) for name, target in values.items()}


def _category_counts(sources: Sources, table: PolygonTable) -> dict[str, CategoryCounts]:
    """Return empty counts for each head that predicts a category, or a concentration, which is counted in tenths."""
    counted = (CONCENTRATION, *CATEGORIES)
    return {name: CategoryCounts(target, table) for name, (target, _) in sources.values.items() if target in counted}


def _opened(
    stack: ExitStack, path: Path | None, bands: int | list[int] = 1, *, gaps: int | None = None
) -> Callable[[int], NDArray[Any] | None]:
    """Open a raster until the stack closes; return a function that reads the strip that begins at a row.

    The function returns ``None`` where there is no raster. If `gaps` is given, it is what the pixels hold that the
    raster declares to be without data, by a no-data value, a mask or an alpha band.
    """
    if path is None:
        return lambda row: None
    dataset = stack.enter_context(open_raster(path))

    def read(row: int) -> NDArray[Any]:
        try:
            window = ((row, min(row + STRIP_ROWS, dataset.height)), (0, dataset.width))
            if gaps is None:
                return np.asarray(dataset.read(bands, window=window))
            strip = dataset.read(bands, window=window, masked=True)
            return np.asarray(strip.filled(gaps))
        except RasterioError as e:
            raise FloemapError(
                f"cannot be read: {deepest_reason(e)}.", path=path, hint="Check that it is whole, or make it again."
            ) from e

    return read


def _needed(strip: NDArray[Any] | None) -> NDArray[Any]:
    assert strip is not None  # the raster is there
    return strip


def _check_ids(sources: Sources, tally: Tally) -> None:
    """Raise an error if a raster holds ids outside the legend, or no pixel can be scored."""
    classes = len(sources.classes.keys)
    for score, files in {PRIMARY: (sources.labels, sources.prediction), "truth": (sources.truth, None)}.items():
        if score in tally.pairs:
            for path, unknown in zip(files, tally.pairs[score].unknown_ids(classes), strict=True):
                if unknown and path is not None:
                    raise ConfigError(f"holds {name_ids(unknown, classes)}", path=path)
    if not tally.pairs[PRIMARY].confusion(classes).counts.any():
        raise FloemapError(
            f"has no pixel where the labels {sources.labels} have a class, so there is nothing to score.",
            path=sources.prediction,
            hint="Check that both are of one scene, and that the mask covers labels.",
        )


def _about(sources: Sources, settings: EvaluateSettings, tally: Tally) -> dict[str, Any]:
    """Return the content of evaluation.json without its provenance."""
    keys = sources.classes.keys
    counts = tally.as_dict(len(keys))
    named = {}
    for name, record in counts.items():
        computed = scores(Confusion.from_dict(record)).as_dict(keys)
        named[name] = {"definition": definition(name, settings.either_min_percent)} | record | {"scores": computed}
    about: dict[str, Any] = {
        "simulated": sources.simulated,
        "scene": sources.name,
        "prediction": {"name": Path(sources.prediction).absolute().name, "legend_said": sources.legend_said},
        "labels": {"name": Path(sources.labels).absolute().name},
        "legend": sources.classes.as_dict(),
        "grid": brief(sources.geobox),
        "pixel_area_km2": _pixel_area_km2(sources),
        "counts": "rows reference, columns prediction",
        "scores": named,
        "absent": sources.absent,
    }
    if sources.truth is not None:
        about["agreement"] = tally.agreement.counts
    return about


def _pixel_area_km2(sources: Sources) -> float | None:
    """Return the area of a pixel on the map; ``None`` where the projection's unit is not the metre."""
    units = {axis.unit_name for axis in crs_of(sources.geobox).proj.axis_info}
    return abs(sources.geobox.transform.determinant) / 1e6 if units == {"metre"} else None
