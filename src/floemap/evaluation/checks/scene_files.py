"""The files of one scene that the checks read, on one grid: a prediction's, its labels', the product's, the truth."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyproj
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox

from floemap.cog import STRIP_ROWS, open_raster, read_geobox
from floemap.errors import MISSHAPEN, FloemapError, GridError
from floemap.evaluation.checks.classes import Bools, Classes, MapPair, check_rasters, keys
from floemap.evaluation.checks.season import in_melt_season, with_air_temperature
from floemap.evaluation.scoring.sources import ClassTable, truth_band
from floemap.evaluation.statistics.blocks import BlockGrid, Window
from floemap.grid import check_same_grid, crs_of
from floemap.legend import IGNORE, Legend, legend
from floemap.results.stage import read_json
from floemap.sentinel1.encoding import BAND_NAMES, NODATA, SCALE

#: Side of the squares that get one latitude each, that of their centre.
_LATITUDE_SQUARE_M = 2500.0

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class SceneFiles:
    """A scene's rasters, its classes read and the rest to be read window by window.

    Attributes
    ----------
    prediction, chart
        (rows, cols) uint8 class ids, 255 where there is none.
    truth
        Likewise, where the chart has a class; None where the truth is not known.
    legend
        Of all three.
    geobox
        Of all.
    name, start
        Of the scene; its time, UTC.
    simulated
        Product, prediction or labels say so.
    seams
        The product's lines between sub-swaths; None where product.json has no such entry.
    product, probabilities
        Rasters. The second may be absent; None where the prediction can have none, being a chart.
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

    @property
    def reference(self) -> Classes:
        """What the checks compare the prediction with: the truth where it is known, else the chart."""
        return self.chart if self.truth is None else self.truth

    @cached_property
    def maps(self) -> MapPair:
        """Prediction and reference, with blocks where the chart has a class: the same for all predictions."""
        grid = BlockGrid.of(self.chart, self.pixel_m)
        return MapPair(self.prediction, self.reference, self.pixel_m, self.legend, grid)

    @property
    def pixel_m(self) -> float:
        """Side of a pixel, metres."""
        return float(abs(self.geobox.resolution.x))

    def melting(self, air_temperature: Path | None = None) -> Bools:
        """Return where melt is on, (rows, cols): by date and latitude, and air temperature where it is known.

        Latitudes are those of squares of some 2.5 km.

        Raises
        ------
        GridError
            If the air temperature lies on another grid.
        FloemapError
            If it cannot be read.
        """
        n = max(1, round(_LATITUDE_SQUARE_M / self.pixel_m))
        rows, cols = self.geobox.shape
        t = self.geobox.transform
        col, row = np.meshgrid(np.arange(0, cols, n) + n / 2, np.arange(0, rows, n) + n / 2)
        to_degrees = pyproj.Transformer.from_crs(crs_of(self.geobox).proj, "EPSG:4326", always_xy=True)
        _, latitude = to_degrees.transform(t.a * col + t.b * row + t.c, t.d * col + t.e * row + t.f)
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
        """Give the incidence angle in degrees, NaN for no data, strip by strip: its rows, and (rows, cols).

        Raises
        ------
        FloemapError
            If the product has no such band or cannot be read.
        """
        band = BAND_NAMES.index("incidence_deg")
        with open_raster(self.product) as d:
            if d.descriptions[: len(BAND_NAMES)] != BAND_NAMES:
                raise FloemapError(
                    f"has the bands {d.descriptions}.", path=self.product, hint="Make it with `floemap prepare`."
                )
            for rows, window in _strips(d.shape):
                stored = d.read(band + 1, window=window)
                degrees = stored * np.float32(SCALE)
                degrees[stored == NODATA] = np.nan
                yield rows, degrees

    def probability_step(self) -> float | None:
        """Return the probability of one stored step; None where probabilities are stored as floating-point numbers.

        Raises
        ------
        FloemapError
            If the file cannot be read, or its bands are not one for each class, all stored alike.
        """
        path = self._stored_probabilities()
        with open_raster(path) as d:
            kinds = set(zip(d.dtypes, d.scales, d.offsets, strict=True))
            if d.count != len(self.legend) or len(kinds) != 1:
                raise FloemapError(
                    f"holds {d.count} bands stored in {len(kinds)} ways, where {len(self.legend)} classes are.",
                    path=path,
                )
            dtype, scale, offset = kinds.pop()
            if (dtype == "uint8" and (offset or d.nodata != IGNORE)) or dtype not in ("uint8", "float32"):
                raise FloemapError(
                    f"is stored as {dtype} with offset {offset:g} and no-data {d.nodata}, not as uint8 with 255 for "
                    "no data nor as float32.",
                    path=path,
                )
            return float(scale) if dtype == "uint8" else None

    @contextmanager
    def probability_reader(self) -> Iterator[Callable[[Window], NDArray[Any]]]:
        """Give what reads the probabilities of a window as stored, (classes, rows, cols).

        Raises
        ------
        FloemapError
            If they cannot be read.
        """
        path = self._stored_probabilities()
        check_same_grid(read_geobox(path), self.geobox, "probabilities.tif and classes.tif")
        with open_raster(path) as d:
            yield lambda window: np.asarray(d.read(window=tuple((s.start, s.stop) for s in window)))

    def _stored_probabilities(self) -> Path:
        if self.probabilities is None:
            raise FloemapError("a chart states no probabilities.")
        return self.probabilities


def open_scene_files(
    prediction: Path | None,
    labels: Path,
    product: Path,
    *,
    truth: Path | None = None,
    within: Path | None = None,
) -> SceneFiles:
    """Open a prediction's folder, its labels' and the prepared product's.

    Parameters
    ----------
    prediction
        Folder; None takes the chart for the prediction.
    labels, product
        Folders.
    truth
        Of a simulated scene: truth.tif, with a band "class".
    within
        Raster, 255 outside of the part that is looked at.

    Raises
    ------
    GridError
        If their rasters lie on different grids, or pixels are not square.
    ConfigError
        If a raster holds a class that its legend lacks, or the truth has another legend than the labels.
    FloemapError
        If a file is absent or cannot be read, or prediction and labels have different classes.
    """
    drawn, prepared = read_json(labels / "label.json"), read_json(product / "product.json")
    kinds, records = _legend(drawn, labels / "label.json"), [drawn, prepared]
    if prediction is not None:
        records.append(read_json(prediction / "prediction.json"))
        others = _legend(records[-1], prediction / "prediction.json")
        if keys(kinds) != keys(others):
            raise FloemapError(
                f"has the classes of legend {others.name}, the labels those of {kinds.name}.",
                path=prediction,
                hint=f"Draw the labels again with the legend {others.name}.",
            )
    bands = product / "product.tif"
    geobox = read_geobox(bands)
    if abs(geobox.resolution.x) != abs(geobox.resolution.y):
        raise GridError("its pixels are not square.", path=bands)
    chart = _classes(labels / "labels.tif", geobox, bands)
    if within is not None:
        chart[_classes(within, geobox, bands) == IGNORE] = IGNORE
    predicted = chart if prediction is None else _classes(prediction / "classes.tif", geobox, bands)
    check_rasters(predicted, chart, kinds)
    true = None
    if truth is not None:
        band = truth_band(truth, ClassTable(kinds.name, keys(kinds)))
        true = np.where(chart == IGNORE, np.uint8(IGNORE), _classes(truth, geobox, bands, band))
        check_rasters(predicted, true, kinds)
    try:
        name, start = str(prepared["scene"]["name"]), datetime.fromisoformat(prepared["scene"]["start"])
    except MISSHAPEN as e:
        raise FloemapError(f"names no scene and start: {e!r}.", path=product / "product.json") from e
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
    )


def _classes(path: Path, geobox: GeoBox, bands: Path, band: int = 0) -> Classes:
    """Read a raster of classes on the grid of the bands: its only band, or the one of that number."""
    check_same_grid(geobox, read_geobox(path), f"{bands} and {path}")
    with open_raster(path) as d:
        if d.dtypes[0] != "uint8" or (not band and d.count != 1):
            raise FloemapError(f"holds {d.count} bands of {d.dtypes[0]}, not one of uint8.", path=path)
        return np.asarray(d.read(band or 1))


def _legend(record: Mapping[str, Any], path: Path) -> Legend:
    """Return the legend that a stage's JSON names: as "legend", or as its "name"."""
    named = record.get("legend")
    name = named.get("name") if isinstance(named, Mapping) else named
    if not isinstance(name, str):
        raise FloemapError("names no legend.", path=path)
    return legend(name)


def _strips(shape: tuple[int, int]) -> Iterator[tuple[slice, tuple[tuple[int, int], tuple[int, int]]]]:
    for row in range(0, shape[0], STRIP_ROWS):
        last = min(row + STRIP_ROWS, shape[0])
        yield slice(row, last), ((row, last), (0, shape[1]))
