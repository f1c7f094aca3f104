"""Smoothing of a class raster before drawing: each pixel takes the class that prevails around it."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from floemap.cog import STRIP_ROWS
from floemap.legend import IGNORE

# Cut-off of the Gaussian in standard deviations; 0.006 % lies beyond.
_REACH = 4


def smooth_classes(classes: NDArray[np.uint8], sigma_px: float) -> NDArray[np.uint8]:
    """Give each pixel the class with the most weight around it, with Gaussian weights.

    Narrow objects vanish: a lead or ridge narrower than about 1.3 standard deviations, with one class on both sides.
    Pixels without a class keep none and have no weight. Of classes with equal weight, the one with the lowest id wins.

    Parameters
    ----------
    classes
        (rows, cols), uint8, :data:`floemap.legend.IGNORE` where there is none.
    sigma_px
        Standard deviation; 0 changes nothing.

    Returns
    -------
    numpy.ndarray
        (rows, cols), uint8. It does not depend on the height of the strips in which it is computed.
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
