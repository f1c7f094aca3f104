"""Labelled pixels of a part, a few of each polygon, with their logits: all that fitting a temperature needs."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from floemap.icechart.label.polygon_table import RASTER
from floemap.learning.calibration.seasons import month_of
from floemap.learning.calibration.temperature import PolygonSample
from floemap.learning.data.parts import PartArrays, ScenePart, read_window
from floemap.learning.whole_scene.logits import SceneLogits
from floemap.legend import IGNORE

#: Expected number of pixels of a polygon in the sample; smaller polygons are in it whole. Neighbouring pixels have
#: interpolated logits, so that more of them would say little more, and memory is bounded: some 2 KB a polygon.
PER_POLYGON = 64
#: Rows of a scene for which logits at full resolution are in memory at a time.
_STRIP_ROWS = 256


def polygon_ids(part: PartArrays | ScenePart, arrays: PartArrays) -> NDArray[np.int64]:
    """Return the polygon of each labelled pixel of a part, (rows, cols), 0 for pixels without label.

    The polygons are those of the chart, where the part or its labels have them. Otherwise they are connected areas of
    one class, which joins neighbouring polygons of one type.

    Raises
    ------
    FloemapError
        If the file of polygons cannot be read.
    """
    labelled = arrays.labels != IGNORE
    ids = arrays.ids
    if ids is None and isinstance(part, ScenePart) and (raster := part.labels.with_name(RASTER)).is_file():
        ids = read_window(replace(part, polygons=raster), part.window).ids
    if ids is not None:
        # A pixel with a label and without a polygon counts with the others of this kind.
        return np.where(labelled, ids.astype(np.int64) + 1, 0)
    found, count = np.zeros(labelled.shape, np.int64), 0
    for k in np.unique(arrays.labels[labelled]):
        areas, n = ndimage.label(arrays.labels == k)
        np.copyto(found, areas + count, where=areas > 0)
        count += n
    return found


def month_of_part(part: PartArrays | ScenePart) -> int | None:
    """Return the month, 1 to 12, in which the acquisition of a part on disk began; None if its product does not say.

    Raises
    ------
    FloemapError
        If the product cannot be read.
    """
    from floemap.cog import open_raster

    if isinstance(part, PartArrays):
        return None
    with open_raster(part.product) as d:
        return month_of(d.tags().get("start"))


def sample_part(scene: SceneLogits, arrays: PartArrays, ids: NDArray[np.int64], seed: int) -> PolygonSample:
    """Draw pixels of each polygon at random, and return their logits, which are computed strip by strip.

    Parameters
    ----------
    scene
        Logits of the part.
    arrays
        The part. Pixels without a label, or without data in a band that a pixel needs, are not drawn.
    ids
        (rows, cols): polygon of each pixel, 0 for none.
    seed
        Seed of the drawing.
    """
    valid = (ids > 0) & (arrays.labels != IGNORE) & scene.valid(0, len(ids))
    pixels = np.bincount(ids[valid], minlength=1)
    chance = np.minimum(1.0, PER_POLYGON / np.maximum(pixels, 1))
    rng = np.random.default_rng(seed)
    logits = [np.zeros((0, scene.classes), np.float32)]
    for row in range(0, len(ids), _STRIP_ROWS):
        strip = slice(row, min(row + _STRIP_ROWS, len(ids)))
        here = valid[strip]
        here &= rng.random(here.shape, np.float32) < chance[ids[strip]]
        if here.any():
            logits.append(scene.rows(strip.start, strip.stop).cpu().numpy()[: scene.classes, here].T)
    numbers = np.flatnonzero(pixels)
    return PolygonSample(
        np.concatenate(logits), arrays.labels[valid], np.searchsorted(numbers, ids[valid]), pixels[numbers]
    )
