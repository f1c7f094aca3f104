"""Reads windows of the bands of a prepared product: those of product.tif, and its layers."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from numpy.typing import NDArray
from rasterio.errors import RasterioError

from floemap.bands import NODATA, BandSet, InputBand, recoded
from floemap.cog import GDAL_CACHE_BYTES, deepest_reason, open_raster
from floemap.errors import GridError, ProductError
from floemap.layers.coarse import cells_for, factor_between, interpolated, stored_as
from floemap.layers.stored import RASTER, layer_folder
from floemap.sentinel1.encoding import PRODUCT_BANDS

#: First row, first column, number of rows and of columns.
Window = tuple[int, int, int, int]


class OpenBands:
    """Open bands of a prepared product. Only one thread may read at a time.

    Attributes
    ----------
    path
        Path of product.tif.
    dataset
        product.tif, as rasterio opens it.
    bands
        The bands that are read.
    """

    def __init__(self, path: Path, dataset: Any, layers: dict[str, tuple[Path, Any, int]], bands: BandSet) -> None:
        self.path, self.dataset, self.bands = path, dataset, bands
        self._layers = layers
        own = PRODUCT_BANDS.names
        self._of_product = [own.index(n) + 1 for n in bands.names if n in own]

    def read(self, window: Window | None = None) -> NDArray[np.int16]:
        """Read a window, by default the whole grid: (B, rows, cols) int16, in the steps of `bands`.

        Where a band lacks data that a pixel needs, all bands are NODATA.

        Raises
        ------
        ProductError
            If a file is damaged, or a layer has values that do not fit into the steps.
        """
        stored = self._read(self.path, self.dataset, self._of_product, window)
        if not self._layers:
            return stored
        whole = np.empty((len(self.bands), *stored.shape[1:]), np.int16)
        of_product = iter(stored)
        for i, band in enumerate(self.bands):
            if band.name not in self._layers:
                whole[i] = next(of_product)
                continue
            whole[i] = self._layer(band, window)
        blank = np.logical_or.reduce([whole[i] == NODATA for i in self.bands.of_scene])
        whole[:, blank] = NODATA
        return whole

    def _layer(self, band: InputBand, window: Window | None) -> NDArray[np.int16]:
        """Read a window of a layer, in the steps of the band; a coarser layer is interpolated."""
        path, dataset, factor = self._layers[band.name]
        have = InputBand(band.name, band.unit, dataset.scales[0], dataset.offsets[0], band.missing)
        if factor == 1:
            return recoded(self._read(path, dataset, [1], window)[0], have, band)
        window = window or (0, 0, *self.dataset.shape)
        at = cells_for(window, factor, dataset.shape)
        cells = self._read(path, dataset, [1], at)[0]
        return stored_as(interpolated(cells, at, window, factor, dataset.shape), have, band)

    def _read(self, path: Path, dataset: Any, numbers: list[int], window: Window | None) -> NDArray[np.int16]:
        spans = None if window is None else ((window[0], window[0] + window[2]), (window[1], window[1] + window[3]))
        try:
            with rasterio.Env(GDAL_CACHEMAX=GDAL_CACHE_BYTES):
                return np.asarray(dataset.read(numbers, window=spans), np.int16)
        except RasterioError as e:
            row = 0 if window is None else window[0]
            made = "Prepare it again." if path == self.path else "Make the layer again."
            raise ProductError(
                f"cannot be read from row {row} on: {deepest_reason(e)}.", path=path, hint=f"It is damaged. {made}"
            ) from e


@contextmanager
def open_bands(product: Path, bands: BandSet) -> Iterator[OpenBands]:
    """Open bands of a prepared product for reading, given the path of product.tif.

    The layers were found by :func:`floemap.layers.stored.scene_bands`; they are not compared with the product here.

    Raises
    ------
    ProductError
        If product.tif has other bands, or another data type or no-data value, than `floemap prepare` writes.
    GridError
        If a layer lies on another grid.
    FloemapError
        If a file cannot be opened.
    """
    with ExitStack() as stack:
        dataset = stack.enter_context(open_raster(product))
        names = tuple(name or "without name" for name in dataset.descriptions[: len(PRODUCT_BANDS)])
        if names != PRODUCT_BANDS.names:
            raise ProductError(
                f"has the bands {', '.join(names)}, where {', '.join(PRODUCT_BANDS.names)} are needed.",
                path=product,
                hint="Make the product with `floemap prepare`.",
            )
        kinds = set(zip(dataset.dtypes, dataset.nodatavals, strict=True))
        if kinds != {("int16", float(NODATA))}:
            raise ProductError(
                f"is stored as {dataset.dtypes[0]} with no-data {dataset.nodata}, not as int16 with {NODATA}.",
                path=product,
                hint="Make the product with `floemap prepare`.",
            )
        layers = {}
        for name in bands.names:
            if name in PRODUCT_BANDS.names:
                continue
            path = layer_folder(product, name) / RASTER
            layer = stack.enter_context(open_raster(path, ProductError, "Make the layer again with `floemap layer`."))
            factor = factor_between(dataset.shape, dataset.transform, layer.shape, layer.transform)
            if factor is None:
                raise GridError(f"lies on another grid than {product}.", path=path, hint="Make the layer again.")
            layers[name] = path, layer, factor
        yield OpenBands(product, dataset, layers, bands)
