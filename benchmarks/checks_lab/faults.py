"""Maps that are wrong on purpose, each in one way: what a physical check must notice though scores hardly do.

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


def sow_old_ice(
    classes: Classes, legend: Legend, pixel_m: float, *, border_km: float = 100.0, seed: int = 0
) -> Classes:
    """Sow specks of old ice on open water: single pixels, as many as have borders of that length together."""
    old, _, _ = _ids(legend)
    water = (classes == legend.water).view(np.uint8)
    middle = cv2.erode(water, np.ones((3, 3), np.uint8), borderType=cv2.BORDER_CONSTANT, borderValue=0) > 0
    # One place in each 3 x 3: specks that touch would be larger ones.
    lattice = np.zeros_like(middle)
    lattice[1::3, 1::3] = True
    places = np.flatnonzero(middle & lattice)
    count = round(border_km / (4 * pixel_m / 1000))
    if len(places) < count:
        raise ConfigError(f"there is no room on the water for {count} specks.")
    faulty = classes.copy()
    faulty.ravel()[np.random.default_rng(seed).choice(places, count, replace=False)] = old
    return faulty


def call_young_far_off(
    classes: Classes, legend: Legend, incidence_deg: NDArray[np.floating[Any]], *, share: float = 0.35
) -> Classes:
    """Call first-year ice young ice at far range: the `share` of it under the largest incidence angles."""
    _, first_year, _ = _ids(legend)
    ice = (classes == first_year) & np.isfinite(incidence_deg)
    if not ice.any():
        raise ConfigError("there is no first-year ice with an incidence angle.")
    limit_deg = np.quantile(incidence_deg[ice], 1 - share)
    return np.where(ice & (incidence_deg > limit_deg), np.uint8(ice_groups(legend).forming[-1]), classes)


def stated_probabilities(classes: Classes, legend: Legend, chance: float, step: float = 1 / 250) -> Classes:
    """Return probabilities in steps, (classes, rows, cols): `chance` for a map's class, the rest shared evenly.

    255 where the map has no class.
    """
    rest = (1 - chance) / (len(legend) - 1)
    stored = np.full((len(legend), *classes.shape), round(rest / step), np.uint8)
    for k, layer in enumerate(stored):
        layer[classes == k] = round(chance / step)
        layer[classes == IGNORE] = IGNORE
    return stored


def _ids(legend: Legend) -> tuple[int, int, int]:
    """Old, first-year and new ice of a legend that has one of each."""
    groups = ice_groups(legend)
    if groups.old is None or len(groups.first_year) != 1 or not groups.forming:
        raise ConfigError(f"legend {legend.name} has no old, first-year and new ice to confuse.")
    return groups.old, groups.first_year[0], groups.forming[0]
