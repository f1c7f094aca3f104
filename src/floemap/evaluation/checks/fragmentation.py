"""The check of fragmentation: whether a map consists of more and smaller patches than the reference.

A patch is a connected area of one class whose pixels touch by a side or a corner (8-connectivity, the usual choice in
landscape ecology: a diagonal lead one pixel wide remains one patch). Patch density, perimeter to area and the share of
small patches are those of FRAGSTATS (K. McGarigal, B. Marks, 1995, USDA General Technical Report PNW-GTR-351: patch
density, edge density). Only pixels with a class in both maps count: land and no-data cut patches in both.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import cv2
import numpy as np
from numpy.typing import NDArray

from floemap.evaluation.checks.amounts import Amounts, ByBlock, ratio
from floemap.evaluation.checks.borders import border_sides
from floemap.evaluation.checks.classes import Classes, MapPair, keys
from floemap.evaluation.checks.measures import NEAR, Measure
from floemap.evaluation.statistics.blocks import BlockGrid

#: Area below which a patch is small.
SMALL_KM2 = 1.0
#: Fewest pixels in that area: with fewer, the share of small patches is undefined.
SMALL_PX = 4
CONNECTIVITY = 8

Floats = NDArray[np.floating[Any]]


@dataclass(frozen=True, eq=False)
class FragmentationAmounts(Amounts):
    """Patches by class; each array is (2, classes): prediction, reference.

    Attributes
    ----------
    classes
        Keys of the legend's classes.
    connectivity
        Connectivity of patches, 8.
    pixel_m
        Side of a pixel. Numbers of patches and lengths of borders depend on the size of pixels, so scenes with
        different pixels cannot be added.
    patches
        Number of patches.
    area_km2, small_km2
        Area of all patches, and of those smaller than :data:`SMALL_KM2`.
    perimeter_km
        Length of borders to other classes. A border between two classes is part of both perimeters; the border to land,
        no-data and the edge of the scene is part of none.
    """

    SETTINGS: ClassVar[tuple[str, ...]] = ("classes", "connectivity", "pixel_m")
    WHOLE: ClassVar[tuple[str, ...]] = ("patches",)
    MEASURES: ClassVar[tuple[Measure, ...]] = (
        Measure(
            key="patches_per_1000_km2", check="fragmentation", value="patches_per_1000_km2", title="Patches",
            unit="per 1000 km2", better=NEAR, digits=1, least=0.01, by_pixel=True, main=True, harm=9,
            question="In how many pieces is the map?", sentence="breaks the map into patches, {}",
        ),
        Measure(
            key="borders_1_km", check="fragmentation", value="perimeter_per_area_1_km", title="Borders",
            unit="km per km2", better=NEAR, digits=3, least=0.001, by_pixel=True,
            question="How much border do the pieces have?",
        ),
    )  # fmt: skip

    classes: tuple[str, ...]
    connectivity: int
    pixel_m: float
    patches: NDArray[np.int64]
    area_km2: Floats
    small_km2: Floats
    perimeter_km: Floats

    def values(self) -> dict[str, Any]:
        """Return densities of both maps and the ratios of the prediction's to the reference's, overall and by class."""
        maps = [self._densities(i, slice(None)) for i in (0, 1)]
        by_class = {
            key: {"prediction": self._densities(0, slice(k, k + 1)), "reference": self._densities(1, slice(k, k + 1))}
            for k, key in enumerate(self.classes)
        }
        ratios = {f"{name}_ratio": _ratio(maps[0][name], maps[1][name]) for name in maps[0]}
        return {"prediction": maps[0], "reference": maps[1]} | ratios | {"by_class": by_class}

    def _densities(self, which: int, classes: slice) -> dict[str, float | None]:
        area = float(self.area_km2[which, classes].sum())
        small = float(self.small_km2[which, classes].sum())
        return {
            "patches_per_1000_km2": ratio(
                1000 * float(self.patches[which, classes].sum()), float(self.area_km2[which].sum())
            ),
            "perimeter_per_area_1_km": ratio(float(self.perimeter_km[which, classes].sum()), area),
            "share_in_small_patches": ratio(small, area)
            if SMALL_PX * (self.pixel_m / 1000) ** 2 <= SMALL_KM2
            else None,
        }


def _ratio(prediction: float | None, reference: float | None) -> float | None:
    return None if prediction is None or reference is None else ratio(prediction, reference)


def fragmentation(maps: MapPair) -> ByBlock[FragmentationAmounts] | str:
    """Measure patches and their borders in both maps, or return the reason why the check does not apply.

    A patch counts in each block by the fraction of its area that lies there.
    """
    if not maps.here.any():
        return "no pixel has a class in both maps"
    n, grid, km2 = len(maps.legend), maps.grid, maps.pixel_km2
    patches, area_px, small_px, sides = (np.zeros((len(grid), 2, n)) for _ in range(4))
    for i, classes in enumerate(maps.maps):
        sides[:, i] = border_sides(classes, n, grid)
        for k in range(n):
            sizes, parts = patch_sizes(classes, k, grid)
            small = sizes * km2 < SMALL_KM2
            for block, first, pixels in parts:
                own = slice(first, first + len(pixels))
                patches[block, i, k] += (pixels / np.maximum(sizes[own], 1)).sum()
                area_px[block, i, k] += pixels.sum()
                small_px[block, i, k] += pixels[small[own]].sum()
    settings = {"classes": keys(maps.legend), "connectivity": CONNECTIVITY, "pixel_m": maps.pixel_m}
    amounts = {
        "patches": patches,
        "area_km2": area_px * km2,
        "small_km2": small_px * km2,
        "perimeter_km": sides * maps.pixel_km,
    }
    return ByBlock(FragmentationAmounts, settings, amounts)


#: Patches in a block: number of the block, number of the first patch, and pixels there of this and following patches.
Part = tuple[int, int, NDArray[np.int64]]


def patch_sizes(classes: Classes, which: int, grid: BlockGrid) -> tuple[NDArray[np.int64], list[Part]]:
    """Return the number of pixels of each patch of a class, numbered from 0; and the same by block."""
    mask = classes == which
    if not mask.any():
        return np.zeros(0, np.int64), []
    # OpenCV's statistics have the sizes, with centres and bounds, but take twice as long as all of this function.
    count, patch = cv2.connectedComponents(mask.view(np.uint8), connectivity=CONNECTIVITY)
    sizes, parts = np.zeros(count - 1, np.int64), []
    for block, window in grid.pieces():
        numbers = patch[window][mask[window]] - 1
        if numbers.size:
            first = int(numbers.min())
            pixels = np.bincount(numbers - first)
            sizes[first : first + len(pixels)] += pixels
            parts.append((block, first, pixels))
    return sizes, parts
