"""A scene at the size of a picture: its bands and classes, and what figures derive from them.

Rasters are read from their overviews, so a full scene costs a fraction of a second and a few megabytes.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from affine import Affine
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox
from rasterio.windows import Window

from floemap.cog import open_raster, read_geobox
from floemap.evaluation.scoring.ordinal import ordinal_positions
from floemap.evaluation.scoring.sources import TruthBand
from floemap.grid import check_same_grid
from floemap.legend import IGNORE, Legend
from floemap.sentinel1.encoding import NODATA, SCALE
from floemap.sentinel1.quicklook import false_colour, stretch

Classes = NDArray[np.uint8]
Bools = NDArray[np.bool_]
#: A part of a raster: first row, first column, number of rows, number of columns.
Part = tuple[int, int, int, int]

#: Values of an error map.
IS_RIGHT, IS_THINNER, IS_THICKER = 0, 1, 2


@dataclass(frozen=True)
class SceneView:
    """A scene, or a part of it, at one size.

    Attributes
    ----------
    geobox
        The grid of the view at the size at which it is shown.
    hh_db, hv_db
        Backscatter, (rows, cols), with no-data NaN.
    chart
        Class ids of the chart, (rows, cols), with no-data 255.
    predictions
        Class ids of each contender's prediction, in the same form.
    truth
        Class ids of the truth where the chart has a class, in the same form; None where the truth is unknown.
    """

    geobox: GeoBox
    hh_db: NDArray[np.float32]
    hv_db: NDArray[np.float32]
    chart: Classes
    predictions: dict[str, Classes]
    truth: Classes | None = None

    @property
    def reference(self) -> Classes:
        """The classes that the checks compare maps with: the truth where it is known, else the chart."""
        return self.chart if self.truth is None else self.truth

    @property
    def pixel_m(self) -> float:
        """Side of a pixel of the view, metres."""
        return float(abs(self.geobox.resolution.x))

    def colours(self, limits: tuple[tuple[float, float], tuple[float, float]] | None = None) -> NDArray[np.float32]:
        """Return false colour, (rows, cols, 3), stretched to limits of HH and HV in dB, or to the view's own."""
        if limits is None:
            return false_colour(self.hh_db, self.hv_db)
        hh, hv = stretch(self.hh_db, limits[0]), stretch(self.hv_db, limits[1])
        rgb = np.stack([hv, (hh + hv) / 2, hh], axis=-1)
        rgb[np.isnan(rgb).any(axis=-1)] = 1
        return rgb


def read_view(
    product: Path,
    labels: Path,
    predictions: dict[str, Path],
    pixels: int,
    *,
    part: Part | None = None,
    within: Path | None = None,
    truth: tuple[Path, TruthBand] | None = None,
) -> SceneView:
    """Read a scene, or a part of it, at about `pixels` on the long side.

    Where `within`, a raster, is 255, the chart counts as having no class. `truth` is a raster and its band
    of classes.

    Raises
    ------
    GridError
        If the rasters are not on one grid.
    FloemapError
        If a raster cannot be read.
    """
    whole = read_geobox(product)
    for path in (labels, *predictions.values(), *([within] if within else []), *([truth[0]] if truth else [])):
        check_same_grid(whole, read_geobox(path), f"{product} and {path}")
    row, col, rows, cols = part or (0, 0, *whole.shape)
    scale = max(1.0, max(rows, cols) / pixels)
    shape = (max(1, round(rows / scale)), max(1, round(cols / scale)))
    window = Window(col, row, cols, rows)
    bands = _read(product, [1, 2], window, shape)
    db = np.where(bands == NODATA, np.nan, bands * np.float32(SCALE)).astype(np.float32)
    chart = _read(labels, [1], window, shape)[0].astype(np.uint8)
    if within is not None:
        chart[_read(within, [1], window, shape)[0] == IGNORE] = IGNORE
    true = None
    if truth is not None:
        classes = truth[1].ids[_read(truth[0], [truth[1].number], window, shape)[0].astype(np.uint8)]
        true = np.where(chart == IGNORE, np.uint8(IGNORE), classes)
    transform = whole.transform * Affine.translation(col, row) * Affine.scale(cols / shape[1], rows / shape[0])
    return SceneView(
        geobox=GeoBox(shape, transform, whole.crs),
        hh_db=db[0],
        hv_db=db[1],
        chart=chart,
        predictions={k: _read(p, [1], window, shape)[0].astype(np.uint8) for k, p in predictions.items()},
        truth=true,
    )


def _read(path: Path, bands: list[int], window: Window, shape: tuple[int, int]) -> NDArray[Any]:
    with open_raster(path, hint="Check that it is whole, or make it again.") as d:
        return np.asarray(d.read(bands, window=window, out_shape=(len(bands), *shape)))


def error_kinds(chart: Classes, prediction: Classes, legend: Legend) -> Classes:
    """Return where a prediction is right, thinner or thicker than the chart, with no-data 255."""
    steps = np.zeros(256, np.int16)
    steps[: len(legend)] = ordinal_positions(legend)
    difference = steps[prediction] - steps[chart]
    kinds = np.where(difference == 0, IS_RIGHT, np.where(difference < 0, IS_THINNER, IS_THICKER)).astype(np.uint8)
    kinds[(chart == IGNORE) | (prediction == IGNORE)] = IGNORE
    return kinds


def worst_disagreement(
    view: SceneView, legend: Legend, share: float = 1 / 6
) -> tuple[float, float, float, float] | None:
    """Find the square in which the predictions differ most from each other, where the chart has a class.

    The difference is the number of steps between the thinnest and the thickest predicted type, summed over the square.

    Parameters
    ----------
    view
        A view with at least two predictions.
    legend
        The legend of the classes.
    share
        Side of the square as a share of the longer side of the scene.

    Returns
    -------
    The square's first row, first column, rows and columns, as shares of the view's rows and columns; None if the
    predictions do not differ.
    """
    steps = np.zeros(256, np.int16)
    steps[: len(legend)] = ordinal_positions(legend)
    stack = np.stack(list(view.predictions.values()))
    known = (view.chart != IGNORE) & (stack != IGNORE).all(axis=0)
    span = np.where(known, np.ptp(steps[stack], axis=0), 0).astype(np.float32)
    if not span.any():
        return None
    rows, cols = span.shape
    side = max(3, round(share * max(rows, cols)))
    height, width = min(side, rows), min(side, cols)
    table = cv2.integral(span, sdepth=cv2.CV_64F)  # only squares that lie within the view are considered
    sums = table[height:, width:] - table[:-height, width:] - table[height:, :-width] + table[:-height, :-width]
    row, col = (int(i) for i in np.unravel_index(int(np.argmax(sums)), sums.shape))
    return row / rows, col / cols, height / rows, width / cols


def label_places(classes: Classes, legend: Legend, min_share: float = 0.02) -> list[tuple[int, float, float]]:
    """Return the places of classes' letters, in the middle of each large region of a class.

    Parameters
    ----------
    classes
        Class ids, (rows, cols).
    legend
        The legend of the classes.
    min_share
        Smallest share of the pixels with a class that a region must have.

    Returns
    -------
    Class id, row and column of each place.
    """
    known = int(np.count_nonzero(classes != IGNORE))
    if not known:
        return []
    places = []
    for c in legend.classes:
        # The median removes specks and threads, which neither divide regions nor form them.
        mask = cv2.medianBlur((classes == c.id).astype(np.uint8), 7)
        count, pieces, stats, _ = cv2.connectedComponentsWithStats(mask, connectivity=4)
        for i in range(1, count):
            if stats[i, cv2.CC_STAT_AREA] < min_share * known:
                continue
            piece = np.pad((pieces == i).astype(np.uint8), 1)
            depth = cv2.distanceTransform(piece, cv2.DIST_L2, 5)
            row, col = np.unravel_index(int(np.argmax(depth)), depth.shape)
            if depth[row, col] >= 0.016 * max(classes.shape):
                places.append((c.id, float(row - 1), float(col - 1)))
    return places
