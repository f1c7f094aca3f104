"""Reads windows of a prepared product for a model, and refuses products on which the model was not trained."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox
from rasterio.errors import RasterioError

from floemap.cog import GDAL_CACHE_BYTES, open_raster, read_geobox
from floemap.errors import ProductError
from floemap.learning.calibration.out_of_distribution import SquareStatistics
from floemap.learning.models.checkpoint import Checkpoint, check_fits
from floemap.sentinel1.bands import raster_of
from floemap.sentinel1.encoding import BAND_NAMES, NODATA

#: Tags of a product that are copied to everything that is made from it.
_INHERITED = ("product", "start", "attribution")


@dataclass(frozen=True)
class OpenProduct:
    """An open prepared product.

    Attributes
    ----------
    path
        Path of product.tif.
    tags
        Tags that its results inherit.
    simulated
        Whether the product is simulated.
    statistics
        Statistics of the rows that a prediction has read; None without one, or where no model needs them.
    """

    path: Path
    geobox: GeoBox
    tags: dict[str, str]
    simulated: bool
    dataset: Any
    statistics: SquareStatistics | None = None

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns."""
        return int(self.geobox.shape[0]), int(self.geobox.shape[1])

    def read(self, row: int, col: int, rows: int, cols: int) -> NDArray[np.int16]:
        """Read a window as stored, (3, rows, cols) int16. Only one thread may read at a time.

        Raises
        ------
        ProductError
            If the file is damaged.
        """
        bands = list(range(1, len(BAND_NAMES) + 1))
        try:
            with rasterio.Env(GDAL_CACHEMAX=GDAL_CACHE_BYTES):
                stored = self.dataset.read(bands, window=((row, row + rows), (col, col + cols)))
        except RasterioError as e:
            raise ProductError(
                f"cannot be read from row {row} on: {e}.", path=self.path, hint="It is damaged. Prepare it again."
            ) from e
        return np.asarray(stored, np.int16)


def name_of(product: str | Path) -> str:
    """Return the name of a product: that of its folder, or that of the file if it is not called product.tif."""
    raster = raster_of(product).absolute()
    return raster.parent.name if raster.name == "product.tif" else raster.stem


@contextmanager
def open_fitting(product: str | Path, checkpoint: Checkpoint) -> Iterator[OpenProduct]:
    """Open a prepared product for a model.

    Parameters
    ----------
    product
        A prepared folder or its product.tif.

    Raises
    ------
    GridError
        If the product has no georeference.
    ModelError
        If the model was trained on other bands or another pixel size.
    ProductError
        If the product is not prepared yet, or its data type or no-data value is not that of prepared products.
    FloemapError
        If the product cannot be opened.
    """
    path = raster_of(product)
    geobox = read_geobox(path)
    with open_raster(path) as dataset:
        bands = [name or "without name" for name in dataset.descriptions[: len(BAND_NAMES)]]
        for size in (geobox.resolution.x, geobox.resolution.y):
            check_fits(checkpoint, bands=bands, resolution_m=float(abs(size)))
        kinds = {(k, n) for k, n in zip(dataset.dtypes, dataset.nodatavals, strict=True)}
        if kinds != {("int16", float(NODATA))}:
            raise ProductError(
                f"is stored as {dataset.dtypes[0]} with no-data {dataset.nodata}, not as int16 with {NODATA}.",
                path=path,
                hint="Make the product with `floemap prepare`.",
            )
        tags = dataset.tags()
        inherited = {k: tags[k] for k in _INHERITED if k in tags}
        yield OpenProduct(path, geobox, inherited, tags.get("simulated") == "yes", dataset)
