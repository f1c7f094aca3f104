"""The twin's truth: what the surface is, everywhere in its world, in one month. Arrays only.

The world is a function of position, month and seed alone. Scenes and grids of any resolution and placement see the same
world, and it does not matter in which blocks they are computed. Nothing here is evidence about real ice.

    world = World(month=1, seed=0, bounds_m=(left, bottom, right, top), spacing_m=40)
    block = world.truth(x_m, y_m)               # any positions within the bounds, from as many threads as wanted
    small = truth(x_m, y_m, month=1, seed=0)    # the same for a scene that fits in one array
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import ArrayLike

from floemap.errors import ConfigError
from floemap.simulation.ice_floes import rubble_concentration
from floemap.simulation.ice_pack import SURFACE_CLASS, SURFACE_STAGE, Mixture, Pack, Surface, ZonedMixture
from floemap.simulation.ice_zones import Month, Zones, month_state, zones
from floemap.simulation.texture import (
    Bytes,
    Floats,
    fabric_texture,
    lookup,
    noise_texture,
    ridge_texture,
    rubble_texture,
)

__all__ = ["SURFACE_CLASS", "SURFACE_STAGE", "Surface", "Truth", "World", "classes", "truth"]

_CLASS_OF = np.array([SURFACE_CLASS[Surface(k)] for k in range(len(Surface))], np.uint8)
#: Tone of a floe by its byte: uniform, mean 0, standard deviation 1.
_TONES = ((np.arange(256) - 127.5) / np.std(np.arange(256))).astype(np.float32)


def classes(surface: Bytes) -> Bytes:
    """Return the class ids of legend.SIX_CLASSES for an array of surfaces, same shape; land is IGNORE."""
    return _CLASS_OF[surface]


@dataclass(frozen=True)
class Truth:
    """The surface at the positions that were asked for; all arrays have their shape.

    Attributes
    ----------
    surface
        uint8, codes of :class:`Surface`.
    wind_m_s
        float32, wind speed, 1 to 15, everywhere (it matters on water).
    texture_hh, texture_hv
        float32, how much brighter than its surface's mean a place is in the band, in standard deviations; over a
        surface roughly normal, mean 0, standard deviation 1.
    """

    surface: Bytes
    wind_m_s: Floats
    texture_hh: Floats
    texture_hv: Floats


class World:
    """The twin's world in one month, ready to be asked about a part of it.

    Parameters
    ----------
    month
        1 to 12.
    seed
        Of the world. Land and coast are the same in all months of a seed.
    bounds_m
        (left, bottom, right, top) in ice_zones.WORLD_CRS: what may be asked about. Answers do not depend on it.
    spacing_m
        How far apart the positions will be, about. Below 160 m floes are computed on a lattice first, which takes some
        seconds for a full scene; from there on at the positions, which is quicker for a small one. The two agree but
        for some 100 m along floe edges.

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
            raise ConfigError(f"bounds {bounds_m} are not left, bottom, right, top of a part of the world.")
        if not spacing_m > 0:
            raise ConfigError(f"a spacing of {spacing_m} m is not positive.")
        self.month, self.seed, self.bounds_m = month, seed, bounds_m
        self.state: Month = month_state(month)
        self.zones: Zones = zones(month, seed, bounds_m)
        mixture: Mixture = ZonedMixture(self.state)
        self._pack = Pack(month, seed, self.state, self.zones, mixture, bounds_m, spacing_m)
        self._rubble = rubble_concentration(self.zones, self.state, month, seed)

    def truth(self, x_m: ArrayLike, y_m: ArrayLike) -> Truth:
        """Return the truth at positions, (rows, cols) each, metres in ice_zones.WORLD_CRS.

        Safe to call from several threads at once. Ask for blocks of some 256 rows where a scene is large: memory is
        about 60 bytes a position.

        Raises
        ------
        ConfigError
            If a position lies outside the bounds or is not finite, or the arrays are not two-dimensional and equal.
        """
        x, y = np.asarray(x_m, np.float32), np.asarray(y_m, np.float32)
        self._check(x, y)
        surface, tone, wind = self._surface(x, y)
        patches = lookup(fabric_texture(self.seed, 40), x, y, 60.0, 61 + self.month)
        own = lookup(fabric_texture(self.seed, 41), x, y, 50.0, 62 + self.month)
        # Water and thin ice have no ridges: only what a smooth fabric shows.
        smooth = lookup(noise_texture(self.seed, 5, 2048, 128, 2, 2.2), x, y, 60.0, 63 + self.month)
        thin = (surface >= Surface.WATER) & (surface <= Surface.NILAS)
        np.copyto(patches, smooth, where=thin)
        np.copyto(own, smooth, where=thin)
        hh = np.float32(0.75) * patches + np.float32(0.66) * tone
        hv = np.float32(0.5) * patches + np.float32(0.56) * own + np.float32(0.66) * tone
        land = surface == Surface.LAND
        if land.any():
            # High ground is bright: firn and glaciers; rock and tundra along the fjords are dull.
            high = np.clip(self.zones.lattice.at(self.zones.land, x, y) - np.float32(1.4), -1.2, 1.2)
            np.copyto(hh, high + np.float32(0.6) * patches, where=land)
            np.copyto(hv, high + np.float32(0.6) * own, where=land)
        return Truth(surface, wind, hh, hv)

    def _check(self, x: Floats, y: Floats) -> None:
        if x.ndim != 2 or x.shape != y.shape:
            raise ConfigError(f"positions are (rows, cols) both, not {x.shape} and {y.shape}.")
        left, bottom, right, top = self.bounds_m
        near = 1.0  # float32 rounding of a position
        inside = (  # not a number is not inside
            x.min() >= left - near and x.max() <= right + near and y.min() >= bottom - near and y.max() <= top + near
        )
        if not inside:
            raise ConfigError(f"positions lie outside the world's bounds {self.bounds_m}.")

    def _surface(self, x: Floats, y: Floats) -> tuple[Bytes, Floats, Floats]:
        z = self.zones
        # Ragged edges at the finest scale: everything is looked up a little beside the place.
        ragged = noise_texture(self.seed, 11, 2048, 60, 3, 2.6)
        jx = x + 30 * lookup(ragged, x, y, 25.0, 71)
        jy = y + 30 * lookup(ragged, x, y, 25.0, 72)
        pack = self._pack.at(jx, jy)
        surface = pack.between_kind
        rubble = lookup(rubble_texture(self.seed), jx, jy, 420.0 / 24, 74) < z.lattice.at(self._rubble, x, y)
        np.copyto(surface, pack.rubble_kind, where=rubble)
        np.copyto(surface, pack.floe_kind, where=pack.floe)
        tone = np.where(pack.floe, _TONES[pack.tone], np.float32(0))
        ridged = np.float32(0.22) + np.float32(0.14) * z.lattice.at(z.ridging, x, y)
        deformed = lookup(ridge_texture(self.seed, 45), jx, jy, 45.0, 73) < ridged
        surface[deformed & (surface == Surface.FIRST_YEAR)] = Surface.FIRST_YEAR_DEFORMED
        np.copyto(surface, self._lead_surface(pack.lead_age), where=pack.lead & pack.floe)
        surface[z.lattice.at(z.fast_km, jx, jy) > 0] = Surface.FAST
        surface[z.lattice.at(z.land, jx, jy) > 0] = Surface.LAND
        return surface, tone, z.lattice.at(z.wind_m_s, x, y)

    def _lead_surface(self, age: Bytes) -> Bytes:
        if self.state.melting:
            return np.full(age.shape, Surface.WATER, np.uint8)
        table = np.full(256, Surface.WATER, np.uint8)
        table[:235], table[:150], table[:120] = Surface.NEW, Surface.NILAS, Surface.YOUNG
        return np.asarray(cv2.LUT(age, table))


def truth(x_m: ArrayLike, y_m: ArrayLike, month: int, seed: int) -> Truth:
    """Return the truth at positions, (rows, cols) each, metres in ice_zones.WORLD_CRS.

    For a scene that fits in one array; for a large one make a :class:`World` once and ask it block by block.

    Raises
    ------
    ConfigError
        If the month does not exist, or the positions are not two equal arrays of two dimensions and finite.
    """
    x, y = np.asarray(x_m, np.float32), np.asarray(y_m, np.float32)
    if x.ndim != 2 or x.shape != y.shape or min(x.shape) < 2 or not (np.isfinite(x).all() and np.isfinite(y).all()):
        raise ConfigError(f"positions must be two finite arrays of one shape (rows, cols), not {x.shape}, {y.shape}.")
    bounds = float(x.min()) - 1, float(y.min()) - 1, float(x.max()) + 1, float(y.max()) + 1
    spacing = float(np.hypot(x[0, 1] - x[0, 0], y[0, 1] - y[0, 0]))
    return World(month, seed, bounds, max(spacing, 1.0)).truth(x, y)
