"""Distances to the borders between polygons, on rasters of their numbers."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

#: Distances to borders are capped here, so that they do not depend on polygons outside the grid.
MAX_DISTANCE_PX = 63.5


def border_distance_px(numbers: NDArray[Any], *, none_has_border: bool = True) -> NDArray[np.float32]:
    """Return the distance of pixel centres to the nearest border between polygons, from a raster of their numbers.

    Borders run where neighbouring pixels have different numbers, between their centres: pixels beside one are half a
    pixel away. That is within half a pixel of the distance to the line that was drawn, but for places around its
    corners, where it may be 0.8 too far.

    Parameters
    ----------
    numbers
        (rows, cols), 0 where there is no polygon: the numbers of
        :func:`floemap.icechart.label.rasterize.rasterize_polygons`, or the ids of ``polygons.tif`` or of a window of
        it. Borders outside the window are not seen: read 64 pixels more on each side for the distances of the whole.
    none_has_border
        Whether polygons have a border towards pixels of number 0, such as the chart's own edge. Set it to false for
        ``polygons.tif``, where 0 also stands for pixels without radar data, and for parts of scenes.

    Returns
    -------
    numpy.ndarray
        (rows, cols), float32, from 0.5 to :data:`MAX_DISTANCE_PX`, where it is capped. The computation takes 6 bytes a
        pixel at its peak, those of the result included.
    """
    inside = np.ones(numbers.shape, np.uint8)
    for a, b in ((np.s_[:, 1:], np.s_[:, :-1]), (np.s_[1:], np.s_[:-1])):
        same = numbers[a] == numbers[b]
        if not none_has_border:
            same |= (numbers[a] == 0) | (numbers[b] == 0)
        inside[a] &= same
        inside[b] &= same
    if inside.all():
        return np.full(numbers.shape, MAX_DISTANCE_PX, np.float32)
    distance = np.asarray(cv2.distanceTransform(inside, cv2.DIST_L2, cv2.DIST_MASK_PRECISE), np.float32)
    distance += np.float32(0.5)
    return np.minimum(distance, np.float32(MAX_DISTANCE_PX), out=distance)
