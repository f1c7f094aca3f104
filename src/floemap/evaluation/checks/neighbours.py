"""Impossible neighbours: old ice where ice cannot be old.

Old ice has lived through a summer, within the pack. Two places give a mistake away. *Specks*: patches of old ice under
1 km2 in open water, with no other ice beside them; mostly rough sea, ships or icebergs. *Rings*: old ice one pixel wide
along open water, with no wider old ice beside it: classifiers pass through it on the way from ice to water. Small floes
of old ice do drift in water in summer: the reference's amounts stand beside the prediction's for that reason. Measured
by the length of the border shared with water.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from floemap.evaluation.checks.amounts import Amounts, ratio
from floemap.evaluation.checks.borders import neighbours
from floemap.evaluation.checks.classes import (
    Bools,
    Classes,
    check_rasters,
    ice_groups,
    only_compared,
    pixel_km,
    pixel_km2,
)
from floemap.evaluation.checks.fragmentation import SMALL_KM2, label_patches
from floemap.legend import IGNORE, Legend

NO_CLASS = "the legend has no old ice"

Floats = NDArray[np.floating[Any]]


@dataclass(frozen=True, eq=False)
class NeighbourAmounts(Amounts):
    """Each array (2,): prediction, reference. Only where both maps have a class.

    Attributes
    ----------
    compared_km2
        All of it.
    old_water_km
        Length of border that old ice shares with open water.
    speck_km, ring_km
        Of that, of specks and of rings. A speck is no ring.
    specks, speck_km2
        Number and area of specks.
    """

    compared_km2: float
    old_water_km: Floats
    speck_km: Floats
    ring_km: Floats
    specks: NDArray[np.int64]
    speck_km2: Floats

    def values(self) -> dict[str, Any]:
        """Lengths in km; `impossible_km` is specks and rings together."""
        impossible = self.speck_km + self.ring_km
        maps = [
            {
                "impossible_km": float(impossible[i]),
                "speck_km": float(self.speck_km[i]),
                "ring_km": float(self.ring_km[i]),
                "specks": int(self.specks[i]),
                "speck_km2": float(self.speck_km2[i]),
                "old_water_km": float(self.old_water_km[i]),
            }
            for i in (0, 1)
        ]
        return {
            "prediction": maps[0],
            "reference": maps[1],
            "impossible_km": maps[0]["impossible_km"],
            "excess_km": float(impossible[0] - impossible[1]),
            "old_water_ratio": ratio(float(self.old_water_km[0]), float(self.old_water_km[1])),
        }


def impossible_neighbours(
    prediction: Classes, reference: Classes, pixel_m: float, legend: Legend
) -> NeighbourAmounts | str:
    """Measure specks and rings of old ice in both maps.

    Parameters
    ----------
    prediction, reference
        (rows, cols) uint8 class ids, 255 where there is none; only pixels with both count.
    pixel_m
        Side of a pixel, metres.
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
    old = ice_groups(legend).old
    if old is None:
        return NO_CLASS
    side_km, km2 = pixel_km(pixel_m), pixel_km2(pixel_m)
    maps = only_compared(prediction, reference)
    found = np.array([_counts(c, old, legend.water, km2) for c in maps], np.int64).T
    return NeighbourAmounts(
        compared_km2=float(np.count_nonzero(maps[0] != IGNORE) * km2),
        old_water_km=found[0] * side_km,
        speck_km=found[1] * side_km,
        ring_km=found[2] * side_km,
        specks=found[3],
        speck_km2=found[4] * km2,
    )


@dataclass(frozen=True, eq=False)
class Contacts:
    """Where old ice of a map meets open water: what its specks and rings are counted from.

    Attributes
    ----------
    patches
        (rows, cols), numbers of connected patches of old ice from 1, 0 elsewhere.
    sizes, speck
        (patches + 1,), pixels of each patch, and whether it is a speck.
    pixels
        (sides,), for each side between old ice and water the old pixel's place in the flattened raster.
    thin
        (sides,), whether that pixel is part of a ring.
    """

    patches: NDArray[np.int32]
    sizes: NDArray[np.int64]
    speck: Bools
    pixels: NDArray[np.int64]
    thin: Bools

    @property
    def of_speck(self) -> Bools:
        """Whether each side is a speck's, (sides,)."""
        return self.speck[self.patches.ravel()[self.pixels]]

    @property
    def of_ring(self) -> Bools:
        """Whether each side is a ring's, (sides,). A speck is no ring."""
        return self.thin & ~self.of_speck


def contacts(classes: Classes, old: int, water: int, km2: float) -> Contacts | None:
    """Find where old ice meets water, (rows, cols) class ids; None where there is no old ice. `km2` is of a pixel."""
    mask = classes == old
    if not mask.any():
        return None
    patches, sizes = label_patches(mask)
    # One pixel wide, and no spur of a floe: nothing wider beside it.
    thin = mask & ~cv2.dilate(_wide(mask).view(np.uint8), np.ones((3, 3), np.uint8)).view(np.bool_)
    # A single pixel is the smallest that a map can show, whatever its size.
    speck = (sizes * km2 < SMALL_KM2) | (sizes == 1)
    speck[0] = False
    # What lies beyond the map's end is not known: a patch that reaches it may be part of a floe.
    for border in (patches[0], patches[-1], patches[:, 0], patches[:, -1]):
        speck[border] = False
    wet = []
    for first, second in neighbours(len(classes)):
        for here, there in ((first, second), (second, first)):
            mine = np.flatnonzero(mask[here])
            beside, labels = classes[there].ravel()[mine], patches[here].ravel()[mine]
            speck[labels[(beside != old) & (beside != water)]] = False  # other ice, land, no data
            wet.append(_places(mine[beside == water], here, classes.shape))
    pixels = np.concatenate(wet)
    speck &= np.bincount(patches.ravel()[pixels], minlength=len(sizes)) > 0
    return Contacts(patches, sizes, speck, pixels, thin.ravel()[pixels])


def _counts(classes: Classes, old: int, water: int, km2: float) -> tuple[int, int, int, int, int]:
    """Sides between old ice and water: all, of specks, of rings; specks; their pixels."""
    found = contacts(classes, old, water, km2)
    if found is None:
        return 0, 0, 0, 0, 0
    sides = len(found.pixels), int(found.of_speck.sum()), int(found.of_ring.sum())
    return *sides, int(found.speck.sum()), int(found.sizes[found.speck].sum())


def _places(places: NDArray[np.int64], part: tuple[slice, slice], shape: tuple[int, ...]) -> NDArray[np.int64]:
    """Turn places in a flattened part of a raster into places in the flattened raster."""
    rows, cols = (range(n)[s] for s, n in zip(part, shape, strict=True))
    row, col = np.divmod(places, len(cols))
    return np.asarray((row + rows.start) * shape[1] + col + cols.start, np.int64)


def _wide(mask: Bools) -> Bools:
    """Return the pixels that lie in some 2 x 2 pixels of the mask: what is more than one pixel wide."""
    block = mask[:-1, :-1] & mask[1:, :-1] & mask[:-1, 1:] & mask[1:, 1:]
    wide = np.zeros_like(mask)
    for rows in (slice(None, -1), slice(1, None)):
        for cols in (slice(None, -1), slice(1, None)):
            wide[rows, cols] |= block
    return wide
