"""The files of one scene that the checks read, on one grid: prediction, labels, prepared product and truth."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox

from floemap.cog import STRIP_ROWS, open_raster, read_geobox
from floemap.errors import MISSHAPEN, FloemapError, GridError
from floemap.evaluation.checks.classes import Bools, Classes, MapPair, check_rasters, keys
from floemap.evaluation.checks.season import in_melt_season, with_air_temperature
from floemap.evaluation.scoring.sources import ClassTable, truth_band
from floemap.evaluation.statistics.blocks import BlockGrid, Window
from floemap.grid import check_same_grid
from floemap.icechart.label.polygon_table import RASTER, TABLE, PolygonTable, read_polygons
from floemap.legend import IGNORE, Legend
from floemap.own_legends import from_record
from floemap.results.stage import read_json
from floemap.sentinel1.encoding import BAND_NAMES, NODATA, SCALE
from floemap.sentinel1.places import lonlat_deg

#: Side of the squares for which latitude is computed, at their centre.
_LATITUDE_SQUARE_M = 2500.0

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class SceneFiles:
    """A scene's rasters. Classes are in memory; the other rasters are read window by window.

    Attributes
    ----------
    prediction, chart
        (rows, cols) uint8 class ids with no-data 255.
    truth
        The true classes where the chart has a class, in the same form; None where the truth is unknown.
    legend
        The legend of all three.
    geobox
        The grid of all rasters.
    name, start
        Name of the scene, and its start in UTC.
    simulated
        Whether the product, the prediction or the labels are simulated, or a truth is given.
    seams
        The product's lines between sub-swaths; None if product.json has no such entry.
    product, probabilities, polygon_raster
        Paths of rasters. The files of probabilities and of the labels' polygons need not exist; the path of
        probabilities is None where a chart is checked.
    temperature, offsets
        Temperature of the model that gave the probabilities, and its offset of each class; 1 and None where it was not
        calibrated, or not by season.
    """

    prediction: Classes
    chart: Classes
    truth: Classes | None
    legend: Legend
    geobox: GeoBox
    name: str
    start: datetime
    simulated: bool
    seams: list[Mapping[str, Any]] | None
    product: Path
    probabilities: Path | None
    polygon_raster: Path
    temperature: float = 1.0
    offsets: tuple[float, ...] | None = None

    @property
    def reference(self) -> Classes:
        """The classes that the checks compare the prediction with: the truth where it is known, else the chart."""
        return self.chart if self.truth is None else self.truth

    @cached_property
    def maps(self) -> MapPair:
        """The prediction and the reference, with blocks where the chart has a class: equal for all predictions."""
        grid = BlockGrid.of(self.chart, self.pixel_m)
        return MapPair(self.prediction, self.reference, self.pixel_m, self.legend, grid)

    @property
    def pixel_m(self) -> float:
        """Side of a pixel, metres."""
        return float(abs(self.geobox.resolution.x))

    def polygon_table(self, ids: NDArray[np.uint16] | None) -> PolygonTable | None:
        """Return the table of the polygons with these ids; None if the labels have no ids or no table.

        Raises
        ------
        FloemapError
            If the table is damaged, or lacks an id.
        """
        if ids is None or not self.polygon_raster.with_name(TABLE).is_file():
            return None
        table = read_polygons(self.polygon_raster.parent)
        table.check(ids, self.polygon_raster)
        return table

    def melting(self, air_temperature: Path | None = None) -> Bools:
        """Return the mask of melt, (rows, cols): by date and latitude, and by air temperature where it is known.

        Latitudes are computed for squares of some 2.5 km.

        Raises
        ------
        GridError
            If the air temperature lies on another grid.
        FloemapError
            If the air temperature cannot be read.
        """
        n = max(1, round(_LATITUDE_SQUARE_M / self.pixel_m))
        rows, cols = self.geobox.shape
        col, row = np.meshgrid(np.arange(0, cols, n) + n / 2, np.arange(0, rows, n) + n / 2)
        _, latitude = lonlat_deg(self.product, self.geobox, row - 0.5, col - 0.5)
        blocks = in_melt_season(self.start.date(), latitude)
        melting = blocks.repeat(n, axis=0)[:rows].repeat(n, axis=1)[:, :cols]
        if air_temperature is not None:
            melting = with_air_temperature(melting, self._temperature_c(air_temperature))
        return melting

    def _temperature_c(self, path: Path) -> Floats:
        check_same_grid(read_geobox(path), self.geobox, f"{path.name} and the prediction")
        with open_raster(path) as d:
            stored = d.read(1, masked=True).astype(np.float32)
            return np.asarray(stored.filled(np.nan) * np.float32(d.scales[0]) + np.float32(d.offsets[0]))

    def incidence_strips(self) -> Iterator[tuple[slice, Floats]]:
        """Yield strips of the incidence angle: the rows, and the angles in degrees, (rows, cols), with no-data NaN.

        Raises
        ------
        FloemapError
            If the product lacks the band or cannot be read.
        """
        band = BAND_NAMES.index("incidence_deg")
        with open_raster(self.product) as d:
            if d.descriptions[: len(BAND_NAMES)] != BAND_NAMES:
                raise FloemapError(
                    f"has the bands {d.descriptions}.", path=self.product, hint="Make it with `floemap prepare`."
                )
            for row in range(0, d.height, STRIP_ROWS):
                rows = slice(row, min(row + STRIP_ROWS, d.height))
                stored = d.read(band + 1, window=((rows.start, rows.stop), (0, d.width)))
                degrees = stored * np.float32(SCALE)
                degrees[stored == NODATA] = np.nan
                yield rows, degrees

    def polygons(self) -> NDArray[np.uint16] | None:
        """Return the chart's polygon of each pixel, (rows, cols), 0 for none; None if the labels have no such file.

        Raises
        ------
        GridError
            If it lies on another grid.
        FloemapError
            If it cannot be read.
        """
        path = self.polygon_raster
        if not path.is_file():
            return None
        check_same_grid(read_geobox(path), self.geobox, f"{path} and the labels")
        with open_raster(path) as d:
            if d.count != 1 or d.dtypes[0] != "uint16":
                raise FloemapError(f"holds {d.count} bands of {d.dtypes[0]}, not one of uint16.", path=path)
            return np.asarray(d.read(1))

    @contextmanager
    def open_probabilities(self) -> Iterator[tuple[Callable[[Window], NDArray[Any]], float | None]]:
        """Yield a function that reads the stored probabilities in a window, (classes, rows, cols), and their step.

        The step is the probability of one stored step; None if probabilities are stored as floating-point numbers.

        Raises
        ------
        GridError
            If the probabilities lie on another grid.
        FloemapError
            If there are none, the file cannot be read, lacks a band for each class, or stores bands differently.
        """
        path = self.probabilities
        if path is None:
            raise FloemapError("a chart has no probabilities.")
        check_same_grid(read_geobox(path), self.geobox, "probabilities.tif and classes.tif")
        with open_raster(path) as d:
            kinds = set(zip(d.dtypes, d.scales, d.offsets, strict=True))
            if d.count != len(self.legend) or len(kinds) != 1:
                raise FloemapError(
                    f"holds {d.count} bands in {len(kinds)} encodings; {len(self.legend)} bands in one encoding are "
                    "needed, one for each class.",
                    path=path,
                )
            dtype, scale, offset = kinds.pop()
            if (dtype == "uint8" and (offset or d.nodata != IGNORE)) or dtype not in ("uint8", "float32"):
                raise FloemapError(
                    f"is stored as {dtype} with offset {offset:g} and no-data {d.nodata}, neither as uint8 with "
                    "no-data 255 nor as float32.",
                    path=path,
                )

            def read(window: Window) -> NDArray[Any]:
                return np.asarray(d.read(window=tuple((s.start, s.stop) for s in window)))

            yield read, float(scale) if dtype == "uint8" else None


def open_scene_files(
    prediction: Path | None,
    labels: Path,
    product: Path,
    *,
    truth: Path | None = None,
    within: Path | None = None,
) -> SceneFiles:
    """Open the folders of a prediction, its labels and the prepared product.

    Parameters
    ----------
    prediction
        Folder of the prediction; None checks the chart itself.
    labels, product
        Folders of the labels and of the prepared product.
    truth
        The truth of a simulated scene: truth.tif, with a band "class".
    within
        Raster that is 255 outside the part to check.

    Raises
    ------
    GridError
        If the rasters lie on different grids, or pixels are not square.
    ConfigError
        If a raster holds a class outside its legend, or the truth has another legend than the labels.
    FloemapError
        If a file is missing or cannot be read, or prediction and labels have different classes.
    """
    drawn, prepared = read_json(labels / "label.json"), read_json(product / "product.json")
    kinds, records = _legend(drawn, labels / "label.json"), [drawn, prepared]
    if prediction is not None:
        records.append(read_json(prediction / "prediction.json"))
        others = _legend(records[-1], prediction / "prediction.json")
        if keys(kinds) != keys(others):
            raise FloemapError(
                f"has the classes of legend {others.name}, but the labels have those of {kinds.name}.",
                path=prediction,
                hint=f"Label the chart again with the legend {others.name}.",
            )
    bands = product / "product.tif"
    geobox = read_geobox(bands)
    if abs(geobox.resolution.x) != abs(geobox.resolution.y):
        raise GridError("has pixels that are not square.", path=bands)
    chart = _classes(labels / "labels.tif", geobox, bands)
    if within is not None:
        chart[_classes(within, geobox, bands) == IGNORE] = IGNORE
    predicted = chart if prediction is None else _classes(prediction / "classes.tif", geobox, bands)
    check_rasters(predicted, chart, kinds)
    true = None
    if truth is not None:
        band = truth_band(truth, ClassTable.of(kinds))
        classes = band.ids[_classes(truth, geobox, bands, band.number)]
        true = np.where(chart == IGNORE, np.uint8(IGNORE), classes)
        check_rasters(predicted, true, kinds)
    try:
        name, start = str(prepared["scene"]["name"]), datetime.fromisoformat(prepared["scene"]["start"])
    except MISSHAPEN as e:
        raise FloemapError(f"names no scene and start: {e!r}.", path=product / "product.json") from e
    temperature, offsets = (1.0, None) if prediction is None else _calibration(records[-1], prediction, kinds)
    return SceneFiles(
        prediction=predicted,
        chart=chart,
        truth=true,
        legend=kinds,
        geobox=geobox,
        name=name,
        start=start,
        simulated=true is not None or any(bool(r.get("simulated")) for r in records),
        seams=prepared.get("seams"),
        product=bands,
        probabilities=None if prediction is None else prediction / "probabilities.tif",
        polygon_raster=labels / RASTER,
        temperature=temperature,
        offsets=offsets,
    )


def _calibration(record: Mapping[str, Any], prediction: Path, legend: Legend) -> tuple[float, tuple[float, ...] | None]:
    """Return temperature and offsets of the model that made a prediction; 1 and None where the record has none."""
    path = prediction / "prediction.json"
    model = record.get("model")
    found = model if isinstance(model, Mapping) else {}
    value, offsets = found.get("temperature", 1.0), found.get("offsets")
    if not _is_number(value) or value <= 0:
        raise FloemapError(f"gives the temperature {value!r}, not a positive number.", path=path)
    if offsets is None:
        return float(value), None
    if not (isinstance(offsets, list) and len(offsets) == len(legend) and all(map(_is_number, offsets))):
        raise FloemapError(f"gives the offsets {offsets!r}, not a number for each class.", path=path)
    return float(value), tuple(map(float, offsets))


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _classes(path: Path, geobox: GeoBox, bands: Path, band: int = 0) -> Classes:
    """Read a class raster on the grid of `bands`: its only band, or band number `band`."""
    check_same_grid(geobox, read_geobox(path), f"{bands} and {path}")
    with open_raster(path) as d:
        if d.dtypes[0] != "uint8" or (not band and d.count != 1):
            raise FloemapError(f"holds {d.count} bands of {d.dtypes[0]}, not one of uint8.", path=path)
        return np.asarray(d.read(band or 1))


def _legend(record: Mapping[str, Any], path: Path) -> Legend:
    """Return the legend that a stage's JSON holds."""
    return from_record(record.get("legend"), path)
