"""Impossible neighbours: old ice where ice cannot be old.

Old ice has lived through a summer, within the pack, and drifts in floes of kilometres. Narrow old ice beside open water
gives a mistake away: *specks*, from rough sea, ships or icebergs; and *rings* along the ice edge, because classifiers
pass through old ice on the way from bright ice to dark water. Small floes of old ice do drift in water in summer: the
reference's amounts stand beside the prediction's for that reason.

Narrow is old ice in which no square of :data:`WIDE_M` fits, and that lies farther than that from old ice in which one
does: a morphological opening by a square (J. Serra, 1982, "Image Analysis and Mathematical Morphology", Academic
Press), and spurs of wide floes left alone. What lies under land, no data and beyond the map's end is not known, so the
square may reach there. Measured by the length of the border that narrow old ice shares with water, km. The width is in
metres, not pixels: what is narrow on one grid is narrow on another, and where a grid's pixels are too large to draw the
square the check does not apply. The border of ice that is finer than a grid's pixels is longer on smaller ones, though.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import cv2
import numpy as np
from numpy.typing import NDArray

from floemap.evaluation.checks.amounts import Amounts, ByBlock, ratio
from floemap.evaluation.checks.classes import Bools, Classes, MapPair, ice_groups
from floemap.legend import IGNORE

NO_CLASS = "the legend has no old ice"
#: Narrower old ice is narrow: three of the largest pixels that the twin is made with, thirty of a real scene's.
WIDE_M = 2400.0
#: So many pixels must fit into that width, or one pixel more or less decides.
_FEWEST_PX = 3

Floats = NDArray[np.floating[Any]]


@dataclass(frozen=True, eq=False)
class NeighbourAmounts(Amounts):
    """Each array (2,): prediction, reference. Only where both maps have a class.

    Attributes
    ----------
    wide_m
        Width from which old ice is no longer narrow, metres.
    pixel_m
        Side of a pixel. Ragged borders are longer on smaller ones, so scenes with different ones cannot be added.
    compared_km2
        Area in which both maps have a class.
    old_water_km
        Length of border that old ice shares with open water.
    narrow_km
        Of that, the border of narrow old ice.
    """

    SETTINGS: ClassVar[tuple[str, ...]] = ("wide_m", "pixel_m")

    wide_m: float
    pixel_m: float
    compared_km2: float
    old_water_km: Floats
    narrow_km: Floats

    def values(self) -> dict[str, Any]:
        """Lengths in km; `impossible_km` is the border of narrow old ice with water."""
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
    """Measure the border of narrow old ice with water in both maps; or say why that does not apply."""
    old, water = ice_groups(maps.legend).old, maps.legend.water
    if old is None:
        return NO_CLASS
    size = round(WIDE_M / maps.pixel_m)
    if size < _FEWEST_PX:
        return (
            f"on pixels of {maps.pixel_m:g} m old ice of less than {WIDE_M / 1000:g} km cannot be told from wider: "
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
        (rows, cols) uint8 class ids, 255 where there is none.
    which
        The class.
    size
        Side of the square, pixels.

    Returns
    -------
    narrow
        (rows, cols).
    """
    mask: Bools = np.asarray(classes == which)
    if not mask.any():
        return mask
    # Beyond the map's end as under no data: whatever is there may belong to it.
    could = cv2.copyMakeBorder(
        (mask | (classes == IGNORE)).view(np.uint8), size, size, size, size, cv2.BORDER_CONSTANT, value=1
    )
    square, first = np.ones((size, size), np.uint8), (size - 1) // 2
    last = size - 1 - first  # squares of an even side have no middle: what one step moves, the other moves back
    fits = cv2.dilate(cv2.erode(could, square, anchor=(first, first)), square, anchor=(last, last))
    wide = mask & fits[size:-size, size:-size].view(np.bool_)
    near = cv2.dilate(wide.view(np.uint8), np.ones((2 * size + 1, 2 * size + 1), np.uint8))
    return np.asarray(mask & ~near.view(np.bool_))
