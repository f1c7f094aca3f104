"""The twin's geography: coast, zones of ice by month, eddies, wind. Smooth fields on a lattice of the world.

Positions are metres in :data:`WORLD_CRS`. The coast is in the west, and the zones follow each other eastwards: fast
ice, old ice carried south by the current, first-year, young, nilas, new ice, water. The *tracer* of a position decides
its zone: the distance from the coast, in km, of the origin of its ice. Eddies stir the tracer, most at the ice edge,
which they tear into tongues, spirals and filaments tens of kilometres long.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np

from floemap.datasets.extremeearth import scenes as extremeearth
from floemap.errors import ConfigError
from floemap.simulation.world.texture import Floats, bilinear, lookup, noise_texture, rng_of

#: CRS of the twin's world: that of the ExtremeEarth charts.
WORLD_CRS = extremeearth.CRS

LATTICE_M = 1000.0
#: Eddies carry ice no farther than this, so the ice of a scene depends on this margin around it.
_REACH_M = 70_000.0
# Steps through the first and the second field of eddies, and their strength: about one turn of an eddy in total.
_TURN_STEPS = (26, 12)
_SWIRL = 7.0
# A straight line that follows Greenland's east coast between 72 and 80 degrees north, in the world's metres.
_COAST_X0_M, _COAST_Y0_M, _COAST_SLOPE = -345_000.0, -1_061_000.0, 0.45
_COAST_COS = 1 / np.hypot(1.0, _COAST_SLOPE)


@dataclass(frozen=True)
class Month:
    """State of the ice in one month.

    Attributes
    ----------
    fast_km, old_km, first_year_km, young_km, nilas_km, new_km
        Outer borders of the zones, as distances from the coast; a missing zone has the border of the one before.
    melting
        Whether there is water, not thin ice, between floes.
    pack
        Concentration of the inner pack, 0 to 1.
    torn_km
        Width over which the concentration falls to zero at the ice edge.
    wind_m_s
        Mean wind over the open sea.
    eddies
        Relative strength of the stirring at the ice edge.
    """

    fast_km: float
    old_km: float
    first_year_km: float
    young_km: float
    nilas_km: float
    new_km: float
    melting: bool
    pack: float
    torn_km: float
    wind_m_s: float
    eddies: float

    @property
    def borders_km(self) -> tuple[float, float, float, float, float]:
        """Outer borders of the zones of drifting ice, old to new."""
        return self.old_km, self.first_year_km, self.young_km, self.nilas_km, self.new_km


#: The year. Borders are chosen so that class shares over it come near those of the ExtremeEarth dataset.
MONTHS: Mapping[int, Month] = MappingProxyType(
    {
        1: Month(20, 122, 176, 204, 204, 220, False, 0.995, 10, 9.0, 0.7),
        2: Month(22, 124, 188, 211, 230, 246, False, 0.995, 10, 9.0, 0.6),
        3: Month(25, 124, 205, 233, 233, 251, False, 0.995, 10, 8.5, 0.7),
        4: Month(25, 122, 205, 229, 229, 246, False, 0.99, 12, 8.0, 0.7),
        5: Month(24, 118, 188, 205, 205, 212, False, 0.97, 20, 7.0, 0.9),
        6: Month(22, 120, 184, 189, 189, 189, True, 0.93, 35, 6.5, 1.2),
        7: Month(16, 132, 170, 170, 170, 170, True, 0.85, 45, 6.0, 1.3),
        8: Month(4, 118, 134, 134, 134, 134, True, 0.75, 50, 6.5, 1.2),
        9: Month(0, 100, 106, 113, 113, 130, False, 0.85, 25, 7.5, 0.8),
        10: Month(6, 104, 114, 132, 155, 174, False, 0.97, 12, 8.5, 0.6),
        11: Month(10, 110, 132, 166, 166, 188, False, 0.99, 10, 9.0, 0.6),
        12: Month(16, 114, 155, 187, 187, 203, False, 0.99, 10, 9.5, 0.7),
    }
)


def scene_centre_m(month: int, seed: int) -> tuple[float, float]:
    """Return the centre of the scene of a month, x and y in metres in :data:`WORLD_CRS`.

    The class shares of the twin hold for scenes some 400 km wide with these centres.
    """
    rng = rng_of(seed, month, 404)
    y = -1_400_000.0 + rng.uniform(-120_000, 120_000)
    from_coast = 165_000.0 + rng.uniform(-15_000, 15_000)
    return float(_coast_x_m(np.float64(y)) + from_coast / _COAST_COS), float(y)


@dataclass(frozen=True)
class Lattice:
    """A regular lattice of positions over a part of the world; its points are at whole multiples of `step_m`.

    Rows run north to south. `x_m` is (cols,), `y_m` is (rows,), float32.
    """

    left_m: float
    top_m: float
    rows: int
    cols: int
    step_m: float

    @classmethod
    def over(cls, bounds_m: tuple[float, float, float, float], step_m: float, margin_m: float) -> Lattice:
        """Return the smallest lattice around (left, bottom, right, top) widened by a margin."""
        left, bottom, right, top = bounds_m
        first = int(np.floor((left - margin_m) / step_m))
        last = int(np.ceil((right + margin_m) / step_m))
        upper = int(np.ceil((top + margin_m) / step_m))
        lower = int(np.floor((bottom - margin_m) / step_m))
        return cls(first * step_m, upper * step_m, upper - lower + 1, last - first + 1, step_m)

    def positions(self, rows: slice = slice(None)) -> tuple[Floats, Floats]:
        """Return x and y of the lattice's points, both (rows, cols) float32."""
        x = (self.left_m + self.step_m * np.arange(self.cols)).astype(np.float32)
        y = (self.top_m - self.step_m * np.arange(self.rows)).astype(np.float32)[rows]
        return np.broadcast_to(x, (y.size, x.size)).copy(), np.repeat(y[:, None], x.size, axis=1)

    def pixels(self, x_m: Floats, y_m: Floats) -> tuple[Floats, Floats]:
        """Return the column and row, in fractions, of positions."""
        step = np.float32(1 / self.step_m)
        col = (x_m - np.float32(self.left_m)) * step
        row = (np.float32(self.top_m) - y_m) * step
        return col, row

    def at(self, field: Floats, x_m: Floats, y_m: Floats) -> Floats:
        """Return a field of the lattice at positions, bilinear; outside, its value at the border."""
        return bilinear(field, *self.pixels(x_m, y_m))


@dataclass(frozen=True)
class Zones:
    """Smooth fields of one month on a lattice, each (rows, cols) float32.

    Attributes
    ----------
    month
        1 to 12.
    tracer_km
        Distance of the origin of the ice from the coast.
    land
        Height in units of about 100 m, which determines the brightness; above zero on land.
    fast_km
        Distance inside the edge of the fast ice, negative outside.
    wind_m_s
        Wind speed.
    ridging
        Degree of deformation of the ice, roughly normal.
    """

    month: int
    lattice: Lattice
    tracer_km: Floats
    land: Floats
    fast_km: Floats
    wind_m_s: Floats
    ridging: Floats


def zones(month: int, seed: int, bounds_m: tuple[float, float, float, float]) -> Zones:
    """Compute the zones over (left, bottom, right, top), metres in :data:`WORLD_CRS`.

    The values of a point do not depend on the bounds.

    Raises
    ------
    ConfigError
        If the month is not one of 1 to 12.
    """
    state = month_state(month)
    wide = Lattice.over(bounds_m, LATTICE_M, _REACH_M + 5_000.0)
    from_x, from_y = _origins(state, seed, month, wide)
    inner = Lattice.over(bounds_m, LATTICE_M, 5_000.0)
    row = round((wide.top_m - inner.top_m) / LATTICE_M)
    col = round((inner.left_m - wide.left_m) / LATTICE_M)
    cut = (slice(row, row + inner.rows), slice(col, col + inner.cols))
    from_x, from_y = np.ascontiguousarray(from_x[cut]), np.ascontiguousarray(from_y[cut])
    x, y = inner.positions()
    rough = noise_texture(seed, 1, 1024, 512, 4, 3.0)
    tracer = _coast_distance_km(from_x, from_y, seed)
    tracer += 14.0 * lookup(rough, from_x, from_y, 400.0, 10 * month + 1)
    tracer += 10.0 * lookup(rough, from_x, from_y, 1000.0, 10 * month + 2)
    land = _land(x, y, seed)
    shelf = _coast_distance_km(x, y, seed)
    fast = np.float32(state.fast_km) - shelf + 9.0 * lookup(rough, x, y, 260.0, 77)
    wind = _wind(state, seed, month, x, y, shelf, tracer)
    ridging = lookup(rough, x, y, 500.0, 10 * month + 5) - np.clip((shelf - 40) / 200, -0.5, 1.5)
    return Zones(month, inner, tracer, land, fast, wind, ridging.astype(np.float32))


def month_state(month: int) -> Month:
    """Return the state of the ice in a month, 1 to 12.

    Raises
    ------
    ConfigError
        If there is no such month.
    """
    try:
        return MONTHS[month]
    except KeyError:
        raise ConfigError(f"there is no month {month!r}.", hint="Months are 1 to 12.") from None


def _coast_x_m(y_m: np.float64 | Floats) -> np.float64 | Floats:
    return _COAST_X0_M + _COAST_SLOPE * (y_m - _COAST_Y0_M)


def _coast_distance_km(x_m: Floats, y_m: Floats, seed: int) -> Floats:
    """Return the distance seawards of a smooth coast with capes and broad bays, km; negative inland."""
    straight = (x_m - _coast_x_m(y_m)) * np.float32(_COAST_COS / 1000)
    bulges = noise_texture(seed, 2, 512, 256, 16, 4.0)
    return np.asarray(straight + 12.0 * lookup(bulges, x_m, y_m, 1500.0, 5), dtype=np.float32)


def _land(x_m: Floats, y_m: Floats, seed: int) -> Floats:
    """Return the height of the land, above zero on land: a plateau cut by fjords, with islands in front."""
    inland = -_coast_distance_km(x_m, y_m, seed)
    hills = lookup(noise_texture(seed, 3, 1024, 512, 3, 3.3), x_m, y_m, 350.0, 6)
    # A fjord follows a zero line of a smooth field that is stretched across the coast; it narrows inland.
    valleys = noise_texture(seed, 7, 1024, 256, 40, 3.0)
    bend = 2_500 * hills
    valley = lookup(valleys, x_m * np.float32(0.6) + bend, y_m - bend, 600.0, 7, 0.35)
    fjords = np.exp(-((valley / 0.11) ** 2)) * np.clip(1.2 - inland / 130, 0, 1.2)
    slope = np.clip(inland / 16, -4.0, 2.4)
    return np.asarray(slope + 0.7 * hills + 0.3 - 4.0 * fjords, dtype=np.float32)


def _origins(state: Month, seed: int, month: int, lattice: Lattice) -> tuple[Floats, Floats]:
    """Return the origin of the ice at each point of the lattice, which eddies have carried for some days.

    Two stream functions are applied one after the other: the first winds up the ice and the second folds it, which
    makes filaments. Their derivatives are a flow without divergence, so no ice appears or disappears. Eddies of 20 to
    40 km are usual at this ice edge (Johannessen et al. 1987, J. Geophys. Res. 92).
    """
    x, y = lattice.positions()
    col, row = lattice.pixels(x, y)
    shelf = _coast_distance_km(x, y, seed)
    edge = np.float32(state.new_km)
    # The rigid pack damps the eddies; in the water beyond, they only carry tongues of ice.
    reach = np.where(shelf < edge, np.float32(55), np.float32(75))
    strength = np.exp(-(((shelf - edge) / reach) ** 2)) * np.float32(state.eddies) + np.float32(0.06)
    swirls = noise_texture(seed, 4, 512, 90, 14, 3.4)
    fastest = np.float32(_REACH_M / 1000 / sum(_TURN_STEPS))
    for turn, steps in enumerate(_TURN_STEPS):
        psi = lookup(swirls, x, y, 1000.0, 100 * month + turn) * strength * np.float32(_SWIRL)
        u, v = -np.gradient(psi, axis=0), np.gradient(psi, axis=1)  # columns and rows per step
        damp = 1 / np.sqrt(1 + (u * u + v * v) / fastest**2)
        u, v = (u * damp).astype(np.float32), (v * damp).astype(np.float32)
        for _ in range(steps):
            half = col + bilinear(u, col, row) * np.float32(0.5), row + bilinear(v, col, row) * np.float32(0.5)
            col, row = col + bilinear(u, *half), row + bilinear(v, *half)
    step = np.float32(lattice.step_m)
    return np.float32(lattice.left_m) + col * step, np.float32(lattice.top_m) - row * step


def _wind(state: Month, seed: int, month: int, x: Floats, y: Floats, shelf: Floats, tracer: Floats) -> Floats:
    """Return the wind speed, 1 to 15 m/s: patches, fronts, rolls along the wind, lee near land, shelter in the ice."""
    broad = noise_texture(seed, 8, 512, 256, 24, 3.6)
    patches = lookup(broad, x, y, 1400.0, 10 * month + 6)
    bent = 12_000 * lookup(broad, x, y, 900.0, 10 * month + 9)
    fronts = np.tanh(3.0 * lookup(broad, x + bent, y - bent, 800.0, 10 * month + 7))
    # Rolls of the boundary layer: bands 3 to 8 km apart, drawn out along the wind; gusts that tear them.
    angle = float(rng_of(seed, month, 505).uniform(-0.6, 0.6)) + np.pi / 2
    c, s = np.float32(np.cos(angle)), np.float32(np.sin(angle))
    along, across = c * x + s * y, c * y - s * x
    rolls = lookup(noise_texture(seed, 10, 512, 20, 7, 2.0), along * np.float32(0.10), across, 420.0, 10 * month + 8)
    gusts = lookup(noise_texture(seed, 1, 1024, 512, 4, 3.0), along * np.float32(0.4), across, 150.0, 10 * month + 3)
    strong = np.clip(0.5 + patches, 0.15, 1.2)
    speed = state.wind_m_s * np.exp(0.32 * patches + 0.20 * fronts + (0.05 * rolls + 0.06 * gusts) * strong)
    lee = 1 - 0.55 * np.exp(-np.clip(shelf, 0, None) / 18)
    # Within the pack, waves cannot grow and slicks form; the sea is fully rough some 20 km off the ice.
    open_sea = np.clip((0.6 * tracer + 0.4 * shelf - (state.new_km - 10)) / 30, 0, 1)
    shelter = 0.45 + 0.55 * open_sea
    return np.asarray(np.clip(speed * lee * shelter, 1.0, 15.0), dtype=np.float32)
