"""Concentration of ice in each pixel, in total and by type, from the maps of a scene.

The total is what a head of the target ``concentration`` predicts or, without one, what the share of water leaves. The
types share it in the ratio of the shares that a head of the target ``fractions`` predicts or, without one, of the
probabilities. Where it comes from probabilities, it is an expectation: a few percent in open water are doubt.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from floemap.icechart.label.polygon_values import VALUES
from floemap.inference.draftchart.egg_basis import CONCENTRATION
from floemap.inference.predict.scene_maps import NO_VALUE, STEP, STEPS, SceneMaps

#: Name of the total in files, a standard name of the CF conventions; those of types have their classes' keys.
TOTAL, OF_TYPE = "sea_ice_area_fraction", "concentration_"
_STRIP_ROWS = 512


def fractions_of(maps: SceneMaps) -> dict[str, NDArray[np.uint8]]:
    """Return the total concentration and that of each class of ice, by name, in steps of probabilities.

    All (rows, cols) uint8, :data:`floemap.inference.predict.scene_maps.NO_VALUE` on land and without data.
    """
    legend = maps.legend
    shares = maps.probabilities if maps.shares is None else maps.shares
    ice = [c for c in legend.classes if c.id != legend.water]
    found = {name: np.full(maps.classes.shape, NO_VALUE, np.uint8) for name in (TOTAL, *(OF_TYPE + c.key for c in ice))}
    predicted = maps.values.get(CONCENTRATION)
    factor = VALUES[CONCENTRATION].step / STEP
    for row in range(0, len(maps.classes), _STRIP_ROWS):
        rows = slice(row, row + _STRIP_ROWS)
        stored = shares[:, rows]
        known = stored[legend.water] != NO_VALUE
        total = STEPS - stored[legend.water].astype(np.float32)
        if predicted is not None:
            known &= predicted[rows] != NO_VALUE
            total = predicted[rows].astype(np.float32) * np.float32(factor)
        total = total.clip(0, STEPS)
        of_types = np.stack([stored[c.id] for c in ice]).astype(np.float32)
        summed = of_types.sum(axis=0)
        scale = np.divide(total, summed, out=np.zeros_like(total), where=summed > 0)
        np.copyto(found[TOTAL][rows], np.rint(total).astype(np.uint8), where=known)
        for c, share in zip(ice, of_types, strict=True):
            np.copyto(found[OF_TYPE + c.key][rows], np.rint(share * scale).astype(np.uint8), where=known)
    return found


def confidence_of(maps: SceneMaps) -> NDArray[np.uint8]:
    """Return the probability of the most probable class of each pixel, (rows, cols) uint8, as stored."""
    own = np.full(maps.classes.shape, NO_VALUE, np.uint8)
    for c, probability in zip(maps.legend.classes, maps.probabilities, strict=True):
        np.copyto(own, probability, where=maps.classes == c.id)
    return own
