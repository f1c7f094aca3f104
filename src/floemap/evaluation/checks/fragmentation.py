"""Fragmentation: a map in more and smaller pieces than the chart's.

A patch is a connected area of one class, pixels that touch by a side or a corner (8-connectivity, the usual choice in
landscape ecology: a lead one pixel wide that runs across the rows stays one patch). Counts per area, perimeter to area
and the share of small patches are those of FRAGSTATS (K. McGarigal, B. Marks, 1995, USDA General Technical Report
PNW-GTR-351: patch density, edge density). Only where both maps have a class: land and no data cut patches in both.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import cv2
import numpy as np
from numpy.typing import NDArray

from floemap.evaluation.checks.amounts import Amounts, ratio
from floemap.evaluation.checks.borders import sides_between
from floemap.evaluation.checks.classes import Bools, Classes, check_rasters, keys, only_compared, pixel_km, pixel_km2
from floemap.legend import Legend

#: Patches of less than this are small.
SMALL_KM2 = 1.0
CONNECTIVITY = 8
#: Rows that are counted together.
_STRIP_ROWS = 512

Floats = NDArray[np.floating[Any]]


@dataclass(frozen=True, eq=False)
class FragmentationAmounts(Amounts):
    """Patches by class, each array (2, classes): prediction, reference.

    Attributes
    ----------
    classes
        Keys of the legend.
    connectivity
        8.
    patches
        How many.
    area_km2, small_km2
        Of all patches, of those under :data:`SMALL_KM2`.
    perimeter_km
        Length of borders to other classes. A border between two classes is part of both perimeters; the border to land,
        no data and the scene's end is part of none.
    """

    SETTINGS: ClassVar[tuple[str, ...]] = ("classes", "connectivity")

    classes: tuple[str, ...]
    connectivity: int
    patches: NDArray[np.int64]
    area_km2: Floats
    small_km2: Floats
    perimeter_km: Floats

    def values(self) -> dict[str, Any]:
        """Densities of both maps, and the prediction's as a ratio to the reference's; in all and by class."""
        maps = [self._densities(i, slice(None)) for i in (0, 1)]
        by_class = {
            key: {"prediction": self._densities(0, slice(k, k + 1)), "reference": self._densities(1, slice(k, k + 1))}
            for k, key in enumerate(self.classes)
        }
        ratios = {f"{name}_ratio": _ratio(maps[0][name], maps[1][name]) for name in maps[0]}
        return {"prediction": maps[0], "reference": maps[1]} | ratios | {"by_class": by_class}

    def _densities(self, which: int, classes: slice) -> dict[str, float | None]:
        area = float(self.area_km2[which, classes].sum())
        return {
            "patches_per_1000_km2": ratio(
                1000 * float(self.patches[which, classes].sum()), float(self.area_km2[which].sum())
            ),
            "perimeter_per_area_1_km": ratio(float(self.perimeter_km[which, classes].sum()), area),
            "share_in_small_patches": ratio(float(self.small_km2[which, classes].sum()), area),
        }


def _ratio(prediction: float | None, reference: float | None) -> float | None:
    return None if prediction is None or reference is None else ratio(prediction, reference)


def fragmentation(
    prediction: Classes, reference: Classes, pixel_m: float, legend: Legend
) -> FragmentationAmounts | str:
    """Measure patches and their borders in both maps.

    Parameters
    ----------
    prediction, reference
        (rows, cols) uint8 class ids, 255 where there is none; only pixels with both count.
    pixel_m
        Side of a pixel, metres. Where a pixel is 1 km2 or more, no patch is small.
    legend
        Of both.

    Returns
    -------
    The amounts, or why the check does not apply.

    Raises
    ------
    GridError
        If shapes differ.
    ConfigError
        If a raster holds what the legend lacks.
    """
    check_rasters(prediction, reference, legend)
    km2, n = pixel_km2(pixel_m), len(legend)
    patches, area_px, small_px = (np.zeros((2, n), np.int64) for _ in range(3))
    sides = np.zeros((2, n), np.int64)
    for i, classes in enumerate(only_compared(prediction, reference)):
        sides[i] = sides_between(classes, n).sum(axis=1)
        for k in range(n):
            sizes = patch_sizes(classes, k)
            patches[i, k], area_px[i, k] = len(sizes), sizes.sum()
            small_px[i, k] = sizes[sizes * km2 < SMALL_KM2].sum()
    if not area_px.any():
        return "no pixel has a class in both maps"
    return FragmentationAmounts(
        classes=keys(legend),
        connectivity=CONNECTIVITY,
        patches=patches,
        area_km2=area_px * km2,
        small_km2=small_px * km2,
        perimeter_km=sides * pixel_km(pixel_m),
    )


def patch_sizes(classes: Classes, which: int) -> NDArray[np.int64]:
    """Return the sizes in pixels of all patches of a class."""
    return label_patches(classes == which)[1][1:]


def label_patches(mask: Bools) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
    """Return the number of each pixel's patch, (rows, cols), 0 outside of the mask; and pixels by number, 0 for 0."""
    count, patch = cv2.connectedComponents(mask.view(np.uint8), connectivity=CONNECTIVITY)
    sizes = np.zeros(count, np.int64)
    # OpenCV would give sizes, too, with centres and bounds; those take twice as long as all of this.
    for row in range(0, len(mask), _STRIP_ROWS):
        rows = slice(row, row + _STRIP_ROWS)
        sizes += np.bincount(patch[rows][mask[rows]], minlength=count)
    return np.asarray(patch, np.int32), sizes
