"""The files of one scene that the checks read: a prediction's, its labels', the prepared product's. On one grid."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyproj
import rasterio
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox
from rasterio.errors import RasterioError

from floemap.cog import STRIP_ROWS, read_geobox
from floemap.errors import FloemapError, GridError
from floemap.evaluation.checks.classes import Bools, Classes, check_rasters, keys
from floemap.evaluation.checks.season import in_melt_season, with_air_temperature
from floemap.grid import check_same_grid, crs_of
from floemap.legend import IGNORE, Legend, legend
from floemap.sentinel1.encoding import BAND_NAMES, NODATA, SCALE
from floemap.stage import read_json

#: Pixels along the side of a block that gets one latitude, its centre's: 2.6 km at 80 m.
_LATITUDE_BLOCK_PX = 32

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class SceneFiles:
    """A scene's rasters, its classes read and the rest to be read strip by strip.

    Attributes
    ----------
    prediction, reference
        (rows, cols) uint8 class ids, 255 where there is none.
    legend
        Of both.
    geobox
        Of all.
    name, start
        Of the scene; its time, UTC.
    simulated
        Product, prediction or labels say so.
    seams
        The product's lines between sub-swaths; None where product.json has no such entry.
    product, probabilities
        Rasters. The second may be absent.
    """

    prediction: Classes
    reference: Classes
    legend: Legend
    geobox: GeoBox
    name: str
    start: datetime
    simulated: bool
    seams: list[Mapping[str, Any]] | None
    product: Path
    probabilities: Path

    @property
    def pixel_m(self) -> float:
        """Side of a pixel, metres."""
        return float(abs(self.geobox.resolution.x))

    def melting(self, air_temperature: Path | None = None) -> Bools:
        """Return where melt is on, (rows, cols): by date and latitude, and air temperature where it is known.

        Latitudes are those of blocks of 32 pixels.

        Raises
        ------
        GridError
            If the air temperature lies on another grid.
        FloemapError
            If it cannot be read.
        """
        n = _LATITUDE_BLOCK_PX
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
        with _reading(path), rasterio.open(path, driver="GTiff") as d:
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
        with _reading(self.product), rasterio.open(self.product, driver="GTiff") as d:
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
        with _reading(self.probabilities), rasterio.open(self.probabilities, driver="GTiff") as d:
            kinds = set(zip(d.dtypes, d.scales, d.offsets, strict=True))
            if d.count != len(self.legend) or len(kinds) != 1:
                raise FloemapError(
                    f"holds {d.count} bands stored in {len(kinds)} ways, where {len(self.legend)} classes are.",
                    path=self.probabilities,
                )
            dtype, scale, offset = kinds.pop()
            if (dtype == "uint8" and (offset or d.nodata != IGNORE)) or dtype not in ("uint8", "float32"):
                raise FloemapError(
                    f"is stored as {dtype} with offset {offset:g} and no-data {d.nodata}, not as uint8 with 255 for "
                    "no data nor as float32.",
                    path=self.probabilities,
                )
            return float(scale) if dtype == "uint8" else None

    def probability_strips(self) -> Iterator[tuple[slice, NDArray[Any]]]:
        """Give probabilities as stored, strip by strip: its rows, and (classes, rows, cols).

        Raises
        ------
        FloemapError
            If they cannot be read.
        """
        check_same_grid(read_geobox(self.probabilities), self.geobox, "probabilities.tif and classes.tif")
        with _reading(self.probabilities), rasterio.open(self.probabilities, driver="GTiff") as d:
            for rows, window in _strips(d.shape):
                yield rows, d.read(window=window)


def open_scene_files(prediction: Path, labels: Path, product: Path) -> SceneFiles:
    """Open a prediction's folder, its labels' and the prepared product's.

    Raises
    ------
    GridError
        If their rasters lie on different grids, or pixels are not square.
    ConfigError
        If a raster holds a class that its legend lacks.
    FloemapError
        If a file is absent or cannot be read, or prediction and labels have different classes.
    """
    said, drawn, prepared = (
        read_json(f / name)
        for f, name in ((prediction, "prediction.json"), (labels, "label.json"), (product, "product.json"))
    )
    kinds, others = (_legend(r, f) for r, f in ((drawn, labels / "label.json"), (said, prediction / "prediction.json")))
    if keys(kinds) != keys(others):
        raise FloemapError(
            f"has the classes of legend {others.name}, the labels those of {kinds.name}.",
            path=prediction,
            hint=f"Draw the labels again with the legend {others.name}.",
        )
    rasters = [prediction / "classes.tif", labels / "labels.tif", product / "product.tif"]
    boxes = [read_geobox(r) for r in rasters]
    for raster, box in zip(rasters[1:], boxes[1:], strict=True):
        check_same_grid(boxes[0], box, f"{rasters[0]} and {raster}")
    if abs(boxes[0].resolution.x) != abs(boxes[0].resolution.y):
        raise GridError("its pixels are not square.", path=rasters[0])
    read = []
    for raster in rasters[:2]:
        with _reading(raster), rasterio.open(raster, driver="GTiff") as d:
            if d.count != 1 or d.dtypes[0] != "uint8":
                raise FloemapError(f"holds {d.count} bands of {d.dtypes[0]}, not one of uint8.", path=raster)
            read.append(d.read(1))
    check_rasters(read[0], read[1], kinds)
    try:
        name, start = str(prepared["scene"]["name"]), datetime.fromisoformat(prepared["scene"]["start"])
    except (KeyError, TypeError, ValueError) as e:
        raise FloemapError(f"names no scene and start: {e!r}.", path=product / "product.json") from e
    return SceneFiles(
        prediction=read[0],
        reference=read[1],
        legend=kinds,
        geobox=boxes[0],
        name=name,
        start=start,
        simulated=any(bool(r.get("simulated")) for r in (said, drawn, prepared)),
        seams=prepared.get("seams"),
        product=rasters[2],
        probabilities=prediction / "probabilities.tif",
    )


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


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    """Turn GDAL's error of the block into one that names the file."""
    try:
        yield
    except RasterioError as e:
        raise FloemapError(f"cannot be read: {e}.", path=path) from e
