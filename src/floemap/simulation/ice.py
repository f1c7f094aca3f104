"""The twin's truth: what the surface is, everywhere in its world, in one month. Arrays only.

The world is a function of position, month and seed alone. Scenes and grids of any resolution and placement see the same
world, and it does not matter in which blocks they are computed. Nothing here is evidence about real ice.
"""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from enum import IntEnum
from types import MappingProxyType

import cv2
import numpy as np
from numpy.typing import ArrayLike

from floemap.errors import ConfigError
from floemap.legend import IGNORE
from floemap.simulation.ice_floes import FLOE_STEP_M, Floes, floes, leads
from floemap.simulation.ice_zones import Lattice, Month, Zones, month_state, zones
from floemap.simulation.texture import Bytes, Floats, lookup, noise_texture, voronoi_cells


class Surface(IntEnum):
    """What a pixel of the twin is: finer than the classes of a chart."""

    LAND = 0
    WATER = 1
    NEW = 2
    NILAS = 3
    YOUNG = 4
    FIRST_YEAR = 5
    FIRST_YEAR_DEFORMED = 6
    FAST = 7
    OLD = 8


#: SIGRID-3 stage of development by surface; None where there is no ice.
SURFACE_STAGE: Mapping[Surface, int | None] = MappingProxyType(
    {
        Surface.LAND: None,
        Surface.WATER: None,
        Surface.NEW: 81,
        Surface.NILAS: 82,
        Surface.YOUNG: 83,
        Surface.FIRST_YEAR: 86,
        Surface.FIRST_YEAR_DEFORMED: 86,
        Surface.FAST: 86,
        Surface.OLD: 95,
    }
)

#: Class id of legend.SIX_CLASSES by surface.
SURFACE_CLASS: Mapping[Surface, int] = MappingProxyType(
    {
        Surface.LAND: IGNORE,
        Surface.WATER: 5,
        Surface.NEW: 0,
        Surface.NILAS: 1,
        Surface.YOUNG: 2,
        Surface.FIRST_YEAR: 3,
        Surface.FIRST_YEAR_DEFORMED: 3,
        Surface.FAST: 3,
        Surface.OLD: 4,
    }
)

_CLASS_OF = np.array([SURFACE_CLASS[Surface(k)] for k in range(len(Surface))], np.uint8)


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


# What a zone is made of. Columns: old, first-year, young among its floes.
_ZONES = ("old", "first-year", "young", "nilas", "new", "water")
_FLOE_MIX = {
    "freezing": (
        (0.78, 0.17, 0.05),
        (0.12, 0.80, 0.08),
        (0.03, 0.17, 0.80),
        (0.0, 0.15, 0.85),
        (0.0, 0.1, 0.9),
        (0.0, 0.2, 0.8),
    ),
    "melting": (
        (0.80, 0.20, 0.0),
        (0.22, 0.78, 0.0),
        (0.15, 0.60, 0.25),
        (0.2, 0.8, 0.0),
        (0.2, 0.8, 0.0),
        (0.3, 0.7, 0.0),
    ),
}
# Between the floes while it freezes. Columns: young, nilas, new, water.
_BETWEEN = (
    (0.35, 0.25, 0.25, 0.15),
    (0.45, 0.25, 0.2, 0.1),
    (0.3, 0.25, 0.35, 0.1),
    (0.1, 0.75, 0.1, 0.05),
    (0.05, 0.05, 0.72, 0.18),
    (0.0, 0.0, 0.02, 0.98),
)


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

    Raises
    ------
    ConfigError
        If the month is not one of 1 to 12 or the bounds are empty or farther than 3000 km across.
    """

    def __init__(self, month: int, seed: int, bounds_m: tuple[float, float, float, float]) -> None:
        left, bottom, right, top = bounds_m
        if not (0 < right - left < 3e6 and 0 < top - bottom < 3e6):
            raise ConfigError(f"bounds {bounds_m} are not left, bottom, right, top of a part of the world.")
        self.month, self.seed, self.bounds_m = month, seed, bounds_m
        self.state: Month = month_state(month)
        self.zones: Zones = zones(month, seed, bounds_m)
        self._lattice = Lattice.over(bounds_m, FLOE_STEP_M, 1_500.0)
        self._compose()

    def _compose(self) -> None:
        """Compute floes, what lies between them, and leads, over the lattice in blocks of rows."""
        lattice = self._lattice
        shape = (lattice.rows, lattice.cols)
        self._inside_m = np.empty(shape, np.float32)
        self._floe = np.empty(shape, np.uint8)
        self._between = np.empty(shape, np.uint8)
        self._floe_tone = np.empty(shape, np.float32)
        blocks = [slice(r, min(r + 256, lattice.rows)) for r in range(0, lattice.rows, 256)]
        voronoi_cells(self.seed)  # once, before the threads would each make it
        with ThreadPoolExecutor(2) as pool:
            list(pool.map(self._compose_rows, blocks))
        self._leads = leads(self.month, self.seed, lattice, 350.0 if self.state.melting else 700.0)

    def _compose_rows(self, rows: slice) -> None:
        x, y = self._lattice.positions(rows)
        f = floes(self.zones, self.state, self.month, self.seed, x, y)
        self._inside_m[rows] = f.inside_m
        self._floe[rows] = self._floe_surface(f)
        self._floe_tone[rows] = 3.46 * (np.modf(f.rank * 7.13)[0] - 0.5)  # uniform with standard deviation 1
        self._between[rows] = self._between_surface(x, y)

    def _zone_of(self, tracer_km: Floats) -> np.ndarray:
        return np.searchsorted(np.array(self.state.borders_km, np.float32), tracer_km, side="right")

    def _floe_surface(self, f: Floes) -> Bytes:
        mix = np.cumsum(np.array(_FLOE_MIX["melting" if self.state.melting else "freezing"], np.float32), axis=1)
        zone = self._zone_of(f.tracer_km)
        kind = np.full(zone.shape, Surface.YOUNG, np.uint8)
        kind[f.rank < mix[zone, 1]] = Surface.FIRST_YEAR
        kind[f.rank < mix[zone, 0]] = Surface.OLD
        return kind

    def _between_surface(self, x: Floats, y: Floats) -> Bytes:
        """What lies between floes: water while it melts, else thin ice of several ages in patches and streaks."""
        tracer = self.zones.lattice.at(self.zones.tracer_km, x, y)
        if self.state.melting:
            return np.full(x.shape, Surface.WATER, np.uint8)
        rough = noise_texture(self.seed, 1, 1024, 512, 4, 3.0)
        # Streaks along the tracer's own filaments, so that grease ice lies in the swirls of the edge.
        age = lookup(rough, x + 1500 * tracer, y - 900 * tracer, 150.0, 51 + self.month)
        rank = 0.5 * (1 + np.tanh(0.85 * age))
        mix = np.cumsum(np.array(_BETWEEN, np.float32), axis=1)
        zone = self._zone_of(tracer)
        kind = np.full(x.shape, Surface.WATER, np.uint8)
        kind[rank < mix[zone, 2]] = Surface.NEW
        kind[rank < mix[zone, 1]] = Surface.NILAS
        kind[rank < mix[zone, 0]] = Surface.YOUNG
        return kind

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
        fine = noise_texture(self.seed, 5, 2048, 256, 2, 2.4)
        common = lookup(fine, x, y, 60.0, 61 + self.month)
        own = lookup(fine, x, y, 60.0, 62 + self.month)
        return Truth(
            surface,
            wind,
            np.float32(0.75) * common + np.float32(0.66) * tone,
            np.float32(0.5) * common + np.float32(0.56) * own + np.float32(0.66) * tone,
        )

    def _check(self, x: Floats, y: Floats) -> None:
        if x.ndim != 2 or x.shape != y.shape:
            raise ConfigError(f"positions are (rows, cols) both, not {x.shape} and {y.shape}.")
        left, bottom, right, top = self.bounds_m
        near = 1.0  # float32 rounding of a position
        inside = (
            x.min() >= left - near and x.max() <= right + near and y.min() >= bottom - near and y.max() <= top + near
        )
        if not inside:
            raise ConfigError(f"positions lie outside the world's bounds {self.bounds_m}.")

    def _surface(self, x: Floats, y: Floats) -> tuple[Bytes, Floats, Floats]:
        rough = noise_texture(self.seed, 6, 2048, 256, 2, 2.8)
        # Ragged edges at the finest scale: lookups are shifted by some 60 m.
        jx = x + 60 * lookup(rough, x, y, 30.0, 71)
        jy = y + 60 * lookup(rough, x, y, 30.0, 72)
        col, row = self._lattice.pixels(jx, jy)

        def near(field: np.ndarray) -> np.ndarray:
            return np.asarray(cv2.remap(field, col, row, cv2.INTER_NEAREST, borderMode=cv2.BORDER_REPLICATE))

        def smooth(field: np.ndarray) -> Floats:
            return np.asarray(cv2.remap(field, col, row, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE))

        surface = near(self._between)
        floe = smooth(self._inside_m) > 0
        np.copyto(surface, near(self._floe), where=floe)
        tone = near(self._floe_tone)
        tone[~floe] = 0
        # Deformed first-year ice: ridge belts, and rims of floes.
        z = self.zones
        ridges = lookup(rough, jx, jy, 90.0, 73)
        deformed = np.abs(ridges) < np.float32(0.22) + np.float32(0.12) * z.lattice.at(z.ridging, x, y)
        surface[deformed & (surface == Surface.FIRST_YEAR)] = Surface.FIRST_YEAR_DEFORMED
        lead = (smooth(self._leads.inside_m) > 0) & floe
        np.copyto(surface, self._lead_surface(near(self._leads.age)), where=lead)
        fast = z.lattice.at(z.fast_km, jx, jy) > 0
        surface[fast] = Surface.FAST
        surface[z.lattice.at(z.land, jx, jy) > 0] = Surface.LAND
        return surface, tone, z.lattice.at(z.wind_m_s, x, y)

    def _lead_surface(self, age: Bytes) -> Bytes:
        if self.state.melting:
            return np.full(age.shape, Surface.WATER, np.uint8)
        table = np.full(256, Surface.WATER, np.uint8)
        table[:235], table[:170], table[:90] = Surface.NEW, Surface.NILAS, Surface.YOUNG
        return np.asarray(cv2.LUT(age, table))


def truth(x_m: ArrayLike, y_m: ArrayLike, month: int, seed: int) -> Truth:
    """Return the truth at positions; for a large scene make a :class:`World` once and ask it block by block."""
    x, y = np.asarray(x_m, np.float32), np.asarray(y_m, np.float32)
    bounds = float(x.min()) - 1, float(y.min()) - 1, float(x.max()) + 1, float(y.max()) + 1
    return World(month, seed, bounds).truth(x, y)
