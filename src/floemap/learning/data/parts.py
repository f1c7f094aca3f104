"""Parts of scenes for training and validation: a prepared product with its labels, or half of one.

:func:`load_part` reads a whole part from its files, and :func:`read_window` a window of it, as plain arrays. No other
module of this room imports the geospatial library.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from floemap.bands import NODATA, BandSet
from floemap.errors import ConfigError, GridError
from floemap.learning.data.polygons import PolygonShares, check_ids, read_shares
from floemap.legend import IGNORE
from floemap.sentinel1.encoding import PRODUCT_BANDS

Window = tuple[int, int, int, int]


@dataclass(frozen=True)
class ScenePart:
    """A scene, or a part of it, on disk.

    Attributes
    ----------
    name
        Name of the part, unique in a study, such as ``02-SW``.
    product
        The product.tif of a prepared product.
    labels
        A labels.tif on the same grid.
    mask
        A raster on the same grid, 1 inside the part and 0 outside; None for a whole scene.
    window
        Bounding window of the part: first row, first column, number of rows and of columns; None for a whole scene.
    polygons
        The polygons.tif beside the labels, with its table, for losses that read polygons; None for others.
    border_px
        Labels and polygons nearer than this to a border between polygons are left out; it needs `polygons`.
    bands
        The bands to read, B, in the steps in which they are given; see :func:`floemap.layers.stored.scene_bands`.
    """

    name: str
    product: Path
    labels: Path
    mask: Path | None = None
    window: Window | None = None
    polygons: Path | None = None
    border_px: int = 0
    bands: BandSet = PRODUCT_BANDS


@dataclass(frozen=True)
class PartArrays:
    """A part in memory.

    Attributes
    ----------
    stored
        (B, rows, cols) int16: the bands in their order and steps, NODATA outside the scene and the part.
    labels
        (rows, cols) uint8: class ids, or IGNORE for pixels without a class.
    ids
        (rows, cols) uint16: polygon of each pixel, 0 for none; None if the loss does not read polygons.
    polygons
        What the chart says of these polygons.
    bands
        The bands.
    """

    name: str
    stored: NDArray[np.int16]
    labels: NDArray[np.uint8]
    ids: NDArray[np.uint16] | None = None
    polygons: PolygonShares | None = None
    bands: BandSet = PRODUCT_BANDS

    def __post_init__(self) -> None:
        if self.stored.shape != (len(self.bands), *self.labels.shape):
            raise GridError(f"part {self.name}: bands of {self.stored.shape} and labels of {self.labels.shape}.")
        if self.ids is not None and self.ids.shape != self.labels.shape:
            raise GridError(f"part {self.name}: polygons of {self.ids.shape} and labels of {self.labels.shape}.")
        if self.ids is not None and self.polygons is not None:
            check_ids(self.ids, self.polygons, self.name)


def part_window(part: ScenePart) -> Window:
    """Return the window of a part; for a whole scene the window of the product.

    Raises
    ------
    FloemapError
        If the product cannot be read.
    """
    from floemap.cog import open_raster

    if part.window is not None:
        return part.window
    with open_raster(part.product) as d:
        return 0, 0, d.height, d.width


def load_part(part: ScenePart | PartArrays) -> PartArrays:
    """Read a whole part, cut to its window. A part in memory is returned as it is.

    Raises
    ------
    GridError
        If its rasters lie on different grids.
    FloemapError
        If one of them cannot be read.
    """
    if isinstance(part, PartArrays):
        return part
    arrays = read_window(part, part.window)
    return arrays if part.polygons is None else replace(arrays, polygons=read_shares(part.polygons))


def read_window(part: ScenePart, window: Window | None) -> PartArrays:
    """Read a window of a part, without the table of its polygons: that is read once, with the whole part.

    Parameters
    ----------
    part
        A part on disk.
    window
        First row, first column, number of rows and of columns on the grid of the product; None for the whole grid.

    Raises
    ------
    GridError
        If its rasters lie on different grids.
    FloemapError
        If one of them cannot be read.
    """
    from rasterio.windows import Window as RasterWindow

    from floemap.cog import open_raster
    from floemap.layers.reading import open_bands

    view = None if window is None else RasterWindow(window[1], window[0], window[3], window[2])
    with open_bands(part.product, part.bands) as opened:
        stored, grids = opened.read(window), {_grid_of(opened.dataset)}
    read = []
    for path in (part.labels, part.mask, part.polygons):
        if path is None:
            continue
        with open_raster(path) as d:
            grids.add(_grid_of(d))
            read.append(d.read(1, window=view))
    if len(grids) > 1:
        raise GridError(f"part {part.name}: product, labels and mask lie on different grids.", path=part.labels)
    labels = np.asarray(read[0], np.uint8)
    ids = None if part.polygons is None else np.asarray(read[-1], np.uint16)
    if set(part.bands.names) - set(PRODUCT_BANDS.names):
        without = (stored == NODATA).all(axis=0)  # of the scene, or of a layer that a pixel needs
        labels[without] = IGNORE
        if ids is not None:
            ids[without] = 0
    if part.mask is not None:
        outside = read[1] == 0
        stored[:, outside] = NODATA
        labels[outside] = IGNORE
        if ids is not None:
            ids[outside] = 0
    if ids is not None and part.border_px:
        beside = _beside_borders(part, window, ids.shape)
        labels[beside] = IGNORE
        ids[beside] = 0
    return PartArrays(part.name, stored, labels, ids, bands=part.bands)


def _grid_of(raster: Any) -> tuple[Any, ...]:
    return raster.shape, tuple(round(v, 6) for v in raster.transform)


def with_common_bands(parts: Sequence[ScenePart | PartArrays]) -> tuple[list[ScenePart | PartArrays], BandSet]:
    """Return parts that give their bands in the same steps, and the bands.

    Scenes may store a layer in different steps; the coarsest are used, which hold the values of all scenes.

    Raises
    ------
    ConfigError
        If parts differ in names, units or gaps of their bands, or parts in memory in steps.
    """
    first = parts[0].bands
    for part in parts:
        if (difference := part.bands.differs(first)) is not None:
            raise ConfigError(
                f"the part {part.name} has other bands than {parts[0].name}: {difference}.",
                hint="Make the layers of all scenes with the same options of `floemap layer`.",
            )
    bands = BandSet(tuple(max((p.bands[n] for p in parts), key=lambda b: b.step) for n in first.names))
    for part in parts:
        if isinstance(part, PartArrays) and part.bands != bands:
            raise ConfigError(f"the part {part.name} is in memory, in other steps than those of other parts.")
    return [replace(p, bands=bands) for p in parts], bands


def _beside_borders(part: ScenePart, window: Window | None, shape: tuple[int, ...]) -> NDArray[np.bool_]:
    """Return whether pixels of a window are nearer than the part's `border_px` to a border between polygons."""
    from rasterio.windows import Window as RasterWindow

    from floemap.cog import open_raster
    from floemap.icechart.label.borders import border_distance_px

    assert part.polygons is not None
    row, col, rows, cols = (0, 0, *shape) if window is None else window
    with open_raster(part.polygons) as d:  # with what lies around the window, up to the farthest border that counts
        top, left = max(row - part.border_px, 0), max(col - part.border_px, 0)
        bottom, right = min(row + rows + part.border_px, d.height), min(col + cols + part.border_px, d.width)
        around = d.read(1, window=RasterWindow(left, top, right - left, bottom - top))
    near: NDArray[np.bool_] = border_distance_px(around, none_has_border=False) < part.border_px
    return near[row - top : row - top + rows, col - left : col - left + cols]
