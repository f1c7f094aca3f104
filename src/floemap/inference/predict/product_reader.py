"""Reads windows of a prepared product for a model, and refuses what the model did not learn to read."""

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
from floemap.learning.models.checkpoint import Checkpoint, check_fits
from floemap.sentinel1.bands import raster_of
from floemap.sentinel1.encoding import BAND_NAMES, NODATA

#: Tags of a product that belong to everything that is made from it.
_INHERITED = ("product", "start", "attribution")


@dataclass(frozen=True)
class OpenProduct:
    """A prepared product that is open.

    Attributes
    ----------
    path
        Path of product.tif.
    tags
        What is passed on of its tags.
    simulated
        Whether the product is.
    """

    path: Path
    geobox: GeoBox
    tags: dict[str, str]
    simulated: bool
    dataset: Any

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns."""
        return int(self.geobox.shape[0]), int(self.geobox.shape[1])

    def read(self, row: int, col: int, rows: int, cols: int) -> NDArray[np.int16]:
        """Read a window as stored, (3, rows, cols) int16; by one thread at a time.

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
                f"cannot be read from row {row} on: {e}.", path=self.path, hint="It is damaged: prepare it again."
            ) from e
        return np.asarray(stored, np.int16)


def name_of(product: str | Path) -> str:
    """Return a product's name: of its folder, or of the file where it is called otherwise than product.tif."""
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
        If it has no georeference.
    ModelError
        If the model learnt from other bands or pixels.
    ProductError
        If it is not prepared yet, or stored in another way than prepared products are.
    FloemapError
        If it cannot be opened.
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
                hint="Make it with `floemap prepare`.",
            )
        tags = dataset.tags()
        inherited = {k: tags[k] for k in _INHERITED if k in tags}
        yield OpenProduct(path, geobox, inherited, tags.get("simulated") == "yes", dataset)
