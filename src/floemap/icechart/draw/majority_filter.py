"""Smoothing a class raster before it is drawn: each pixel takes the class that prevails around it."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from floemap.cog import STRIP_ROWS
from floemap.legend import IGNORE

# A Gaussian is cut off here, in standard deviations; beyond lie 0.006 %.
_REACH = 4


def smooth_classes(classes: NDArray[np.uint8], sigma_px: float) -> NDArray[np.uint8]:
    """Give each pixel the class with the most weight around it, weights falling off as a Gaussian.

    Narrow things vanish: a lead or ridge narrower than about 1.3 standard deviations, with one class on both sides.
    Pixels without a class stay so and have no vote. Of classes with equal weight the one with the lowest id is taken.

    Parameters
    ----------
    classes
        (rows, cols), uint8, :data:`floemap.legend.IGNORE` where there is none.
    sigma_px
        Standard deviation; 0 changes nothing.

    Returns
    -------
    numpy.ndarray
        (rows, cols), uint8. It does not depend on how the raster is cut into strips within.
    """
    if sigma_px <= 0:
        return classes
    out = np.empty_like(classes)
    reach = int(np.ceil(_REACH * sigma_px))
    size = 2 * reach + 1
    for row in range(0, len(classes), STRIP_ROWS):
        above = min(row, reach)
        wide = classes[row - above : row + STRIP_ROWS + reach]
        inner = slice(above, above + STRIP_ROWS)
        strip = wide[inner].copy()
        best = np.zeros(strip.shape, np.float32)
        for k in np.unique(wide[wide != IGNORE]):
            there = (wide == k).astype(np.float32)
            weight = cv2.GaussianBlur(there, (size, size), sigma_px, borderType=cv2.BORDER_CONSTANT)[inner]
            better = weight > best
            best[better], strip[better] = weight[better], k
        out[row : row + STRIP_ROWS] = np.where(classes[row : row + STRIP_ROWS] == IGNORE, np.uint8(IGNORE), strip)
    return out
