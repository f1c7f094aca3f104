"""Reads windows of a prepared product for a model, and refuses products on which the model was not trained."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox

from floemap.bands import BandSet
from floemap.cog import read_geobox
from floemap.layers.reading import OpenBands, open_bands
from floemap.layers.stored import scene_bands
from floemap.learning.calibration.out_of_distribution import SquareStatistics
from floemap.learning.calibration.seasons import month_of
from floemap.learning.models.checkpoint import Checkpoint, check_fits
from floemap.sentinel1.bands import raster_of

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
    opened
        The bands that the model reads.
    statistics
        Statistics of the rows that a prediction has read, for each model; None for one that does not need them.
    """

    path: Path
    geobox: GeoBox
    tags: dict[str, str]
    simulated: bool
    opened: OpenBands
    statistics: tuple[SquareStatistics | None, ...] = ()

    @property
    def bands(self) -> BandSet:
        """The bands, in the steps in which the product and its layers store them."""
        return self.opened.bands

    @property
    def month(self) -> int | None:
        """Month in which the acquisition began, 1 to 12; None if the product does not say."""
        return month_of(self.tags.get("start"))

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns."""
        return int(self.geobox.shape[0]), int(self.geobox.shape[1])

    def read(self, row: int, col: int, rows: int, cols: int) -> NDArray[np.int16]:
        """Read a window as stored, (B, rows, cols) int16. Only one thread may read at a time.

        Raises
        ------
        ProductError
            If a file is damaged.
        """
        return self.opened.read((row, col, rows, cols))


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
        If the product has no georeference, or a layer another grid.
    ModelError
        If the model was trained on other bands or another pixel size.
    ProductError
        If the product is not prepared yet, its data type or no-data value is not that of prepared products, or it lacks
        a layer that the model reads.
    FloemapError
        If the product cannot be opened.
    """
    path = raster_of(product)
    geobox = read_geobox(path)
    bands = scene_bands(path, checkpoint.bands.names, wanted=checkpoint.bands)
    for size in (geobox.resolution.x, geobox.resolution.y):
        check_fits(checkpoint, bands=bands, resolution_m=float(abs(size)))
    with open_bands(path, bands) as opened:
        tags = opened.dataset.tags()
        inherited = {k: tags[k] for k in _INHERITED if k in tags}
        yield OpenProduct(path, geobox, inherited, tags.get("simulated") == "yes", opened)
