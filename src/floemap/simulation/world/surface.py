"""The twin's truth: the surface everywhere in its world in one month. Arrays only.

The world is a function of position, month and seed only. Scenes and grids of any resolution and place show the same
world, independent of the blocks in which they are computed. Nothing here is evidence about real ice.

    world = World(month=1, seed=0, bounds_m=(left, bottom, right, top), spacing_m=40)
    block = world.truth(x_m, y_m)               # any positions within the bounds, from any number of threads
    small = truth(x_m, y_m, month=1, seed=0)    # the same for a scene that fits into one array
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import cv2
import numpy as np
from numpy.typing import ArrayLike

from floemap.errors import ConfigError
from floemap.simulation.world.floes import rubble_concentration
from floemap.simulation.world.pack import SURFACE_CLASS, SURFACE_STAGE, TONES, Pack, Surface
from floemap.simulation.world.texture import (
    Bytes,
    Floats,
    bilinear,
    fabric_texture,
    lookup,
    ragged_texture,
    ridge_texture,
    rubble_texture,
)
from floemap.simulation.world.zones import Month, Zones, month_state, zones

__all__ = ["SURFACE_CLASS", "SURFACE_STAGE", "Surface", "Truth", "World", "classes", "truth"]

_CLASS_OF = np.array([SURFACE_CLASS[Surface(k)] for k in range(len(Surface))], np.uint8)
#: Brightness of a floe by its tone: uniform, mean 0, standard deviation 1.
_BRIGHTNESS = np.zeros(256, np.float32)
_BRIGHTNESS[:TONES] = (np.arange(TONES) - (TONES - 1) / 2) / np.std(np.arange(TONES))
RUBBLE_TEXEL_M = 17.5  # cells of 420 m


def classes(surface: Bytes) -> Bytes:
    """Return the class ids of legend.SIX_CLASSES for an array of surfaces, same shape; land is IGNORE."""
    return _CLASS_OF[surface]


@dataclass(frozen=True)
class Truth:
    """The surface at the requested positions; all arrays have their shape.

    Attributes
    ----------
    surface
        uint8, codes of :class:`Surface`.
    wind_m_s
        float32, wind speed, 1 to 15, everywhere (used on water only).
    texture_hh, texture_hv
        float32, deviation of the brightness in the band from the mean of its surface, in standard deviations; over a
        surface roughly normal with mean 0 and standard deviation 1.
    """

    surface: Bytes
    wind_m_s: Floats
    texture_hh: Floats
    texture_hv: Floats


class World:
    """A part of the twin's world in one month.

    Parameters
    ----------
    month
        1 to 12.
    seed
        Seed of the world. Land and coast are the same in all months of a seed.
    bounds_m
        (left, bottom, right, top) of the part in :data:`floemap.simulation.world.zones.WORLD_CRS`. The truth at a
        position does not depend on it.
    spacing_m
        Approximate distance of the positions that will be requested. Below 160 m floes are computed on a lattice first,
        which takes some seconds for a full scene, else at the positions, which is faster for a small scene. The two
        agree except in some 100 m along floe edges.

    Raises
    ------
    ConfigError
        If the month is not one of 1 to 12, the bounds are empty or wider than 3000 km, or the spacing is not positive.
    """

    def __init__(
        self, month: int, seed: int, bounds_m: tuple[float, float, float, float], spacing_m: float = 40.0
    ) -> None:
        left, bottom, right, top = bounds_m
        if not (0 < right - left < 3e6 and 0 < top - bottom < 3e6):
            hint = "They are left, bottom, right and top in metres, at most 3000 km apart."
            raise ConfigError(f"a part of the world cannot have the bounds {bounds_m}.", hint=hint)
        if not spacing_m > 0:
            raise ConfigError(f"the spacing of positions is {spacing_m} m.", hint="It must be above 0.")
        self.month, self.seed, self.bounds_m = month, seed, bounds_m
        self.state: Month = month_state(month)
        self.zones: Zones = zones(month, seed, bounds_m)
        self._pack = Pack(self.state, seed, self.zones, bounds_m, spacing_m)
        self._rubble = rubble_concentration(self.zones, self.state, seed)
        # Larger pixels show coarser patches: finer ones average out within them.
        self._coarser = max(1.0, spacing_m / 80)

    def truth(self, x_m: ArrayLike, y_m: ArrayLike) -> Truth:
        """Return the truth at positions, (rows, cols) each, metres in :data:`floemap.simulation.world.zones.WORLD_CRS`.

        Several threads may call it at the same time. Request blocks of some 256 rows of a large scene: it needs about
        60 bytes a position.

        Raises
        ------
        ConfigError
            If a position is outside the bounds or is not finite, or the arrays are not two-dimensional and equal.
        """
        x, y = np.asarray(x_m, np.float32), np.asarray(y_m, np.float32)
        self._check(x, y)
        surface, brightness, wind = self._surface(x, y)
        seen = lookup(fabric_texture(self.seed, 40), x, y, 60.0 * self._coarser, 61 + self.month)
        patches_hh, patches_hv, smooth = (seen[..., k] for k in range(3))
        # Water and thin ice have no ridges, only a smooth fabric.
        thin = (surface >= Surface.WATER) & (surface <= Surface.NILAS)
        of_floe = np.float32(0.55) * brightness
        hh = np.where(thin, smooth, np.float32(0.85) * patches_hh + of_floe)
        hv = np.where(thin, smooth, np.float32(0.85) * patches_hv + of_floe)
        land = surface == Surface.LAND
        if land.any():
            # High ground is bright: firn and glaciers; rock and tundra along the fjords are dull.
            high = np.clip(self.zones.lattice.at(self.zones.land, x, y) - np.float32(1.4), -1.2, 1.2)
            np.copyto(hh, high + np.float32(0.6) * patches_hh, where=land)
            np.copyto(hv, high + np.float32(0.6) * patches_hv, where=land)
        return Truth(surface, wind, hh, hv)

    def _check(self, x: Floats, y: Floats) -> None:
        if x.ndim != 2 or x.shape != y.shape:
            raise ConfigError(
                f"x_m and y_m have the shapes {x.shape} and {y.shape}.", hint="Both must be (rows, cols)."
            )
        left, bottom, right, top = self.bounds_m
        near = 1.0  # float32 rounding of a position
        inside = (  # not a number is not inside
            x.min() >= left - near and x.max() <= right + near and y.min() >= bottom - near and y.max() <= top + near
        )
        if not inside:
            hint = "Make a World that contains them."
            raise ConfigError(f"positions are outside the bounds {self.bounds_m} of the world.", hint=hint)

    def _surface(self, x: Floats, y: Floats) -> tuple[Bytes, Floats, Floats]:
        z = self.zones
        # Ragged edges at the finest scale: all fields are taken at slightly shifted positions.
        beside = np.float32(30) * lookup(ragged_texture(self.seed, 11), x, y, 25.0, 71)
        jx, jy = x + beside[..., 0], y + beside[..., 1]
        pack = self._pack.at(jx, jy)
        col, row = z.lattice.pixels(jx, jy)
        at = partial(bilinear, col=col, row=row)
        surface = pack.between_kind
        # Small floes are fragments of the floes around them.
        rubble = lookup(rubble_texture(self.seed), jx, jy, RUBBLE_TEXEL_M, 74) < at(self._rubble)
        here = pack.floe | rubble
        np.copyto(surface, pack.floe_kind, where=here)
        brightness = np.where(pack.floe, cv2.LUT(pack.tone, _BRIGHTNESS), np.float32(0))
        ridged = np.float32(0.22) + np.float32(0.14) * at(z.ridging)
        deformed = lookup(ridge_texture(self.seed, 45), jx, jy, 45.0, 73) < ridged
        deformed |= rubble & ~pack.floe
        surface[deformed & (surface == Surface.FIRST_YEAR)] = Surface.FIRST_YEAR_DEFORMED
        np.copyto(surface, pack.lead_kind, where=pack.lead & pack.floe)
        surface[at(z.fast_km) > 0] = Surface.FAST
        surface[at(z.land) > 0] = Surface.LAND
        return surface, brightness, at(z.wind_m_s)


def truth(x_m: ArrayLike, y_m: ArrayLike, month: int, seed: int) -> Truth:
    """Return the truth at positions, (rows, cols) each, metres in :data:`floemap.simulation.world.zones.WORLD_CRS`.

    For a scene that fits into one array; for a large one, make a :class:`World` once and request blocks of it.

    Raises
    ------
    ConfigError
        If the month does not exist, or the positions are not two equal arrays of two dimensions and finite.
    """
    x, y = np.asarray(x_m, np.float32), np.asarray(y_m, np.float32)
    if x.ndim != 2 or x.shape != y.shape or min(x.shape) < 2 or not (np.isfinite(x).all() and np.isfinite(y).all()):
        hint = "Both must be (rows, cols), at least 2 x 2, and finite."
        raise ConfigError(f"x_m and y_m have the shapes {x.shape} and {y.shape}, or are not finite.", hint=hint)
    bounds = float(x.min()) - 1, float(y.min()) - 1, float(x.max()) + 1, float(y.max()) + 1
    spacing = float(np.hypot(x[0, 1] - x[0, 0], y[0, 1] - y[0, 0]))
    return World(month, seed, bounds, max(spacing, 1.0)).truth(x, y)
