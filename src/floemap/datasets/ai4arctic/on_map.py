"""Fields of an AI4Arctic image on a grid: the nearest pixel of the image, or the cells of 2 km, interpolated."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox

from floemap.cog import STRIP_ROWS
from floemap.datasets.ai4arctic.files import Floats, SceneFile, open_scene_file
from floemap.datasets.ai4arctic.tie_locator import Locator, locator_on
from floemap.errors import ProductError


def nearest(file: SceneFile, geobox: GeoBox, image: NDArray[Any], outside: int) -> NDArray[Any]:
    """Return the nearest pixel of an image, (lines, samples), for each of a grid, `outside` beyond the image.

    Raises
    ------
    ProductError
        If there are no tie points.
    GridError
        If they do not lie as those of an image.
    """
    positions = _locator(file, geobox).inverse_map(geobox, np.zeros(file.shape[1]))
    rows, cols = geobox.shape
    drawn = np.full((rows, cols), outside, image.dtype)
    for first in range(0, rows, STRIP_ROWS):
        last = min(first + STRIP_ROWS, rows)
        line, sample = (positions.expand(f, first, last, cols) for f in (positions.line, positions.pixel))
        drawn[first:last] = cv2.remap(
            image, sample, line, cv2.INTER_NEAREST, borderMode=cv2.BORDER_CONSTANT, borderValue=outside
        )
    return drawn


class CoarseGrid:
    """The grid of AMSR2 and ERA5, whose cells are equal parts of the image, seen from a map grid.

    Parameters
    ----------
    file
        The file.
    geobox
        The map grid, whose pixels should not be much smaller than the cells.

    Raises
    ------
    ProductError, GridError
        As :func:`nearest` does.
    """

    def __init__(self, file: SceneFile, geobox: GeoBox) -> None:
        rows, cols = geobox.shape
        x, y = geobox.affine * tuple(np.meshgrid(np.arange(cols) + 0.5, np.arange(rows) + 0.5))
        self._positions = _locator(file, geobox).to_image(x, y)
        self._shape = file.shape

    def interpolated(self, field: Floats) -> Floats:
        """Return a field, (rows, cols) of cells with NaN in gaps, at each pixel of the grid, NaN beyond the image.

        It is bilinear between the centres of cells. Cells in a gap do not count; where more than half of the weight is
        in gaps, so is the pixel.
        """
        places, inside = [], np.ones(self._positions[0].shape, np.bool_)
        for position, n, cells in zip(self._positions, self._shape, field.shape, strict=True):
            inside &= (position > -0.5 - n / cells) & (position < n - 0.5 + n / cells)
            places.append(np.clip((position + 0.5) * cells / n - 0.5, 0, cells - 1))
        known = np.isfinite(field)
        lower = [np.minimum(p.astype(int), max(n - 2, 0)) for p, n in zip(places, field.shape, strict=True)]
        total, weight = np.zeros(inside.shape), np.zeros(inside.shape)
        for down in (0, 1):
            for along in (0, 1):
                at = tuple(
                    np.minimum(low + more, n - 1)
                    for low, more, n in zip(lower, (down, along), field.shape, strict=True)
                )
                share = np.ones(inside.shape)
                for place, low, more in zip(places, lower, (down, along), strict=True):
                    share *= np.clip(place - low if more else 1 - (place - low), 0, 1)
                share *= known[at]
                total += share * np.where(known[at], field[at], 0)
                weight += share
        enough = inside & (weight >= 0.5)
        return np.where(enough, total / np.where(enough, weight, 1), np.nan).astype(np.float32)


def _locator(file: SceneFile, geobox: GeoBox) -> Locator:
    with _with_tie_points(file) as tied:
        return locator_on(tied, geobox)


@contextmanager
def _with_tie_points(file: SceneFile) -> Iterator[SceneFile]:
    """Give the file, or for a reference file without tie points the ready-to-train file beside it."""
    if file.has_tie_points:
        yield file
        return
    beside = file.path.with_name(file.path.name.replace("_reference", ""))
    if beside == file.path or not beside.is_file():
        hint = f"Put {file.scene.ready} beside it."
        raise ProductError("has no tie points.", path=file.path, hint=hint)
    with open_scene_file(beside) as other:
        if other.shape != file.shape:
            raise ProductError(f"has the shape {file.shape}, and {beside.name} {other.shape}.", path=file.path)
        yield other
