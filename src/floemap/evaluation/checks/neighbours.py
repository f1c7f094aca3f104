"""The check of impossible neighbours: old ice where ice cannot be old.

Old ice has survived a summer within the pack, and drifts in floes of kilometres. Narrow old ice beside open water is a
sign of errors: *specks*, from rough sea, ships or icebergs; and *rings* along the ice edge, because classifiers pass
through old ice between bright ice and dark water. Small floes of old ice do drift in water in summer, so the map is
compared with the reference's own amounts.

Old ice is narrow where no square of :data:`WIDE_M` fits into it, and where it is farther than that width from old ice
into which one fits: a morphological opening by a square (J. Serra, 1982, "Image Analysis and Mathematical Morphology",
Academic Press) that keeps spurs of wide floes. The classes under land, no-data and beyond the edge of the map are
unknown, so the square may extend there. The amount is the length of the border between narrow old ice and water, km.
The width is in metres, not pixels: ice that is narrow on one grid is narrow on another, and where a grid's pixels are
too large for the square the check does not apply. But the border of ice finer than a pixel is longer on finer grids.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import cv2
import numpy as np
from numpy.typing import NDArray

from floemap.evaluation.checks.amounts import Amounts, ByBlock, ratio
from floemap.evaluation.checks.classes import Bools, Classes, MapPair, ice_groups
from floemap.evaluation.checks.measures import NEAR, Measure
from floemap.legend import IGNORE

NO_CLASS = "not available for this legend: it has no class of old ice alone, or several"
#: Width below which old ice is narrow: three of the twin's largest pixels, thirty of a real scene's.
WIDE_M = 2400.0
#: Fewest pixels in that width: with fewer, a single pixel decides.
_FEWEST_PX = 3

Floats = NDArray[np.floating[Any]]


@dataclass(frozen=True, eq=False)
class NeighbourAmounts(Amounts):
    """Lengths where both maps have a class; each array is (2,): prediction, reference.

    Attributes
    ----------
    wide_m
        Width from which old ice is no longer narrow, metres.
    pixel_m
        Side of a pixel. Ragged borders are longer on finer grids, so scenes with different pixels cannot be added.
    compared_km2
        Area in which both maps have a class.
    old_water_km
        Length of the border between old ice and open water.
    narrow_km
        Length of the border between narrow old ice and open water.
    """

    SETTINGS: ClassVar[tuple[str, ...]] = ("wide_m", "pixel_m")
    MEASURES: ClassVar[tuple[Measure, ...]] = (
        Measure(
            key="impossible_km", check="neighbours", value="impossible_km", title="Impossible neighbours", unit="km",
            better=NEAR, digits=0, least=1.0, by_pixel=True, main=True, harm=8,
            question="How much border does the map have between open water and narrow old ice?",
            sentence="draws {} of impossible borders between old ice and water",
        ),
    )  # fmt: skip

    wide_m: float
    pixel_m: float
    compared_km2: float
    old_water_km: Floats
    narrow_km: Floats

    def values(self) -> dict[str, Any]:
        """Return lengths in km; `impossible_km` is the border of narrow old ice with water."""
        maps = [
            {"impossible_km": float(self.narrow_km[i]), "old_water_km": float(self.old_water_km[i])} for i in (0, 1)
        ]
        return {
            "prediction": maps[0],
            "reference": maps[1],
            "excess_km": float(self.narrow_km[0] - self.narrow_km[1]),
            "old_water_ratio": ratio(float(self.old_water_km[0]), float(self.old_water_km[1])),
        }


def impossible_neighbours(maps: MapPair) -> ByBlock[NeighbourAmounts] | str:
    """Measure the border of narrow old ice with water in both maps, or return why the check does not apply."""
    old, water = ice_groups(maps.legend).old, maps.legend.water
    if old is None:
        return NO_CLASS
    size = round(WIDE_M / maps.pixel_m)
    if size < _FEWEST_PX:
        return (
            f"pixels of {maps.pixel_m:g} m are too large to find old ice narrower than {WIDE_M / 1000:g} km: "
            f"{_FEWEST_PX} pixels must fit into that"
        )
    sides = np.zeros((2, len(maps.grid), 2))  # all, narrow
    for i, classes in enumerate(maps.maps):
        narrow = narrow_pixels(classes, old, size)
        for block, _, first, second in maps.grid.sides():
            for here, there in ((first, second), (second, first)):
                wet = (classes[here] == old) & (classes[there] == water)
                sides[0, block, i] += np.count_nonzero(wet)
                sides[1, block, i] += np.count_nonzero(wet & narrow[here])
    amounts = {
        "compared_km2": maps.compared_km2,
        "old_water_km": sides[0] * maps.pixel_km,
        "narrow_km": sides[1] * maps.pixel_km,
    }
    return ByBlock(NeighbourAmounts, {"wide_m": WIDE_M, "pixel_m": maps.pixel_m}, amounts)


def narrow_pixels(classes: Classes, which: int, size: int) -> Bools:
    """Return the narrow parts of a class.

    Parameters
    ----------
    classes
        (rows, cols) uint8 class ids with no-data 255.
    which
        Id of the class.
    size
        Side of the square, pixels.

    Returns
    -------
    narrow
        Mask of the narrow parts, (rows, cols).
    """
    mask: Bools = np.asarray(classes == which)
    if not mask.any():
        return mask
    # The classes beyond the edge of the map, as under no-data, are unknown and may be this class.
    could = cv2.copyMakeBorder(
        (mask | (classes == IGNORE)).view(np.uint8), size, size, size, size, cv2.BORDER_CONSTANT, value=1
    )
    square, first = np.ones((size, size), np.uint8), (size - 1) // 2
    last = size - 1 - first  # a square of even side has no centre: the dilation undoes the shift of the erosion
    fits = cv2.dilate(cv2.erode(could, square, anchor=(first, first)), square, anchor=(last, last))
    wide = mask & fits[size:-size, size:-size].view(np.bool_)
    near = cv2.dilate(wide.view(np.uint8), np.ones((2 * size + 1, 2 * size + 1), np.uint8))
    return np.asarray(mask & ~near.view(np.bool_))
