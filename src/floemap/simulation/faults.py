"""Maps that are wrong on purpose, each in one way: what the physical checks must notice though scores hardly do.

Pure functions: a map in, a faulty copy out; arrays (rows, cols) of uint8 class ids, 255 where there is none. Only
pixels with a class change. Nothing here is a model of what classifiers do; each fault is a plain one of its kind.
"""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from floemap.errors import ConfigError
from floemap.evaluation.checks.classes import Bools, Classes, ice_groups
from floemap.evaluation.checks.ice_edge import WINDOW_KM, generalise, window_px
from floemap.legend import IGNORE, Legend


def lose_old_ice(classes: Classes, legend: Legend) -> Classes:
    """Call all old ice first-year ice."""
    old, first_year, _ = _ids(legend)
    return np.where(classes == old, np.uint8(first_year), classes)


def paint_new_ice(
    classes: Classes, legend: Legend, pixel_m: float, *, places: int = 3, radius_km: float = 12.0, seed: int = 0
) -> Classes:
    """Call first-year ice new ice in some round places, each around a pixel of first-year ice drawn at random."""
    _, first_year, forming = _ids(legend)
    rng = np.random.default_rng(seed)
    candidates = np.flatnonzero(classes == first_year)
    if not len(candidates):
        raise ConfigError("there is no first-year ice to paint over.")
    rows, cols = np.unravel_index(rng.choice(candidates, places), classes.shape)
    mask = np.zeros(classes.shape, np.uint8)
    for row, col in zip(rows.tolist(), cols.tolist(), strict=True):
        cv2.circle(mask, (col, row), round(radius_km * 1000 / pixel_m), 1, -1)
    return np.where((mask > 0) & (classes == first_year), np.uint8(forming), classes)


def copy_seams(classes: Classes, legend: Legend, strips: Bools) -> Classes:
    """Call first-year ice young ice in strips, (rows, cols), whose one side is a seam between sub-swaths."""
    _, first_year, _ = _ids(legend)
    young = ice_groups(legend).forming[-1]
    return np.where(strips & (classes == first_year), np.uint8(young), classes)


def move_edge(classes: Classes, legend: Legend, pixel_m: float, km: float = 5.0) -> Classes:
    """Move the ice edge out to sea: water up to `km` from the pack becomes what the nearest ice of the pack is."""
    here = classes != IGNORE
    ice = here & (classes != legend.water)
    pack = generalise(ice, here, window_px(WINDOW_KM, pixel_m)) & ice
    if not pack.any():
        raise ConfigError("there is no pack whose edge could be moved.")
    distance_px, nearest = cv2.distanceTransformWithLabels(
        (~pack).view(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_5, labelType=cv2.DIST_LABEL_PIXEL
    )
    kinds = np.zeros(int(nearest.max()) + 1, np.uint8)
    kinds[nearest[pack]] = classes[pack]
    near = here & ~ice & (distance_px * (pixel_m / 1000) <= km)
    return np.where(near, kinds[nearest], classes)


def salt_and_pepper(classes: Classes, legend: Legend, *, share: float = 0.02, seed: int = 0) -> Classes:
    """Give a share of the ice pixels, drawn one by one, another type of ice."""
    kinds = np.array([c.id for c in legend.classes if c.id != legend.water], np.uint8)
    rng = np.random.default_rng(seed)
    chosen = np.flatnonzero((classes != IGNORE) & (classes != legend.water))
    chosen = chosen[rng.random(len(chosen)) < share]
    # Another type: one to n - 1 places on in the list of types.
    place = np.searchsorted(kinds, classes.ravel()[chosen])
    faulty = classes.copy()
    faulty.ravel()[chosen] = kinds[(place + rng.integers(1, len(kinds), len(chosen))) % len(kinds)]
    return faulty


def sow_old_ice(classes: Classes, legend: Legend, *, share: float = 0.002, seed: int = 0) -> Classes:
    """Turn a share of the water pixels into specks of old ice: single pixels with nothing but water around."""
    old, _, _ = _ids(legend)
    water = (classes == legend.water).view(np.uint8)
    middle = cv2.erode(water, np.ones((3, 3), np.uint8), borderType=cv2.BORDER_CONSTANT, borderValue=0) > 0
    # One place in each 3 x 3: specks that touch would be larger ones.
    lattice = np.zeros_like(middle)
    lattice[1::3, 1::3] = True
    rng = np.random.default_rng(seed)
    chosen = np.flatnonzero(middle & lattice)
    chosen = chosen[rng.random(len(chosen)) < 9 * share]
    faulty = classes.copy()
    faulty.ravel()[chosen] = old
    return faulty


def sharpen(probabilities: NDArray[np.floating[Any]], power: float = 4.0) -> NDArray[np.float32]:
    """Make probabilities, (classes, rows, cols), overconfident: p^power, scaled to sum 1. The likeliest class stays."""
    raised = np.asarray(probabilities, np.float32) ** np.float32(power)
    return np.asarray(raised / raised.sum(axis=0, keepdims=True))


def _ids(legend: Legend) -> tuple[int, int, int]:
    """Old, first-year and new ice of a legend that has one of each."""
    groups = ice_groups(legend)
    if groups.old is None or len(groups.first_year) != 1 or not groups.forming:
        raise ConfigError(f"legend {legend.name} has no old, first-year and new ice to confuse.")
    return groups.old, groups.first_year[0], groups.forming[0]
