"""The drifting ice of the twin at positions: floes of which kind, what lies between them, small floes, leads.

Either computed at the positions themselves, or on a lattice 160 m apart and looked up from it. The second is for scenes
whose pixels are finer than that; the two agree but for some 100 m along the edges of floes.
"""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from enum import IntEnum
from types import MappingProxyType
from typing import Any, Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from floemap.legend import IGNORE
from floemap.simulation.ice_floes import FLOE_STEP_M, Floes, concentration, floes, leads
from floemap.simulation.ice_zones import Lattice, Month, Zones
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


#: SIGRID-3 stage of development by surface; None where there is no ice. Fast ice is level first-year ice here.
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


class Mixture(Protocol):
    """What the ice is made of, by place. Arrays in and out have one shape."""

    def floes(self, tracer_km: Floats, x_m: Floats, y_m: Floats) -> tuple[Floats, Floats]:
        """Return, at centres of floes, the share of old ice among floes, and that of old and first-year ice."""

    def between(self, tracer_km: Floats, x_m: Floats, y_m: Floats) -> tuple[Floats, Floats, Floats]:
        """Return the shares of young; young and nilas; young, nilas and new ice of what lies between floes."""

    def concentration(self, tracer_km: Floats, x_m: Floats, y_m: Floats, streaks: Floats) -> Floats:
        """Return the concentration of floes, 0 to 1, at their centres; `streaks` is noise, roughly normal."""


# Shares of the kinds of floes in the zones old, first-year, young, nilas, new, water. Columns: old, first-year, young.
_FLOES_FREEZING = (
    (0.76, 0.20, 0.04),
    (0.10, 0.83, 0.07),
    (0.03, 0.15, 0.82),
    (0, 0.1, 0.9),
    (0, 0.1, 0.9),
    (0, 0.1, 0.9),
)
_FLOES_MELTING = ((0.80, 0.20, 0), (0.22, 0.78, 0), (0.15, 0.65, 0.2), (0.2, 0.8, 0), (0.2, 0.8, 0), (0.3, 0.7, 0))
# Shares of what lies between the floes while it freezes, in the same zones. Columns: young, nilas, new, water.
_BETWEEN_FREEZING = (
    (0.52, 0.05, 0.31, 0.12),
    (0.52, 0.05, 0.31, 0.12),
    (0.58, 0.04, 0.33, 0.05),
    (0.06, 0.88, 0.05, 0.01),
    (0.06, 0.01, 0.88, 0.05),
    (0.00, 0.00, 0.10, 0.90),
)
_BETWEEN_MELTING = ((0.0, 0.0, 0.0, 1.0),) * 6


@dataclass(frozen=True)
class ZonedMixture:
    """The mixture of the twin's own zones in a month."""

    state: Month

    def _zone(self, tracer_km: Floats) -> NDArray[np.intp]:
        return np.searchsorted(np.array(self.state.borders_km, np.float32), tracer_km, side="right")

    def floes(self, tracer_km: Floats, x_m: Floats, y_m: Floats) -> tuple[Floats, Floats]:
        """See :class:`Mixture`."""
        table = np.cumsum(np.array(_FLOES_MELTING if self.state.melting else _FLOES_FREEZING, np.float32), axis=1)
        zone = self._zone(tracer_km)
        return table[zone, 0], table[zone, 1]

    def between(self, tracer_km: Floats, x_m: Floats, y_m: Floats) -> tuple[Floats, Floats, Floats]:
        """See :class:`Mixture`."""
        table = np.cumsum(np.array(_BETWEEN_MELTING if self.state.melting else _BETWEEN_FREEZING, np.float32), axis=1)
        zone = self._zone(tracer_km)
        # The last of the new ice is torn off the edge and soon gone: none far out at sea.
        beyond = np.clip(tracer_km - np.float32(self.state.new_km), 0, None)
        new = table[zone, 2] * np.exp(-beyond / np.float32(8))
        return table[zone, 0], table[zone, 1], np.asarray(new, dtype=np.float32)

    def concentration(self, tracer_km: Floats, x_m: Floats, y_m: Floats, streaks: Floats) -> Floats:
        """See :class:`Mixture`."""
        return concentration(self.state, tracer_km, streaks)


@dataclass(frozen=True)
class PackAt:
    """The drifting ice at positions; all arrays have their shape.

    Attributes
    ----------
    floe
        bool, whether there is a floe large enough to be told apart.
    floe_kind, between_kind, rubble_kind
        uint8 surfaces: of the floe, of what lies between floes, of small floes there.
    tone
        uint8, a random number of each floe.
    lead
        bool, whether a lead runs through.
    lead_age
        uint8, 0 (oldest) to 255 (just opened), of the nearest lead.
    """

    floe: NDArray[np.bool_]
    floe_kind: Bytes
    between_kind: Bytes
    rubble_kind: Bytes
    tone: Bytes
    lead: NDArray[np.bool_]
    lead_age: Bytes


@dataclass(frozen=True)
class _Kinds:
    inside_m: Floats
    floe: Bytes
    between: Bytes
    rubble: Bytes
    tone: Bytes


class Pack:
    """The drifting ice over a part of the world.

    Parameters
    ----------
    spacing_m
        How far apart the positions will be that it is asked about: decides where floes are computed (see above).
    """

    def __init__(
        self,
        month: int,
        seed: int,
        state: Month,
        zones: Zones,
        mixture: Mixture,
        bounds_m: tuple[float, float, float, float],
        spacing_m: float,
    ) -> None:
        self._month, self._seed, self._state, self._zones, self._mixture = month, seed, state, zones, mixture
        self._lattice = Lattice.over(bounds_m, FLOE_STEP_M, 1_500.0)
        self._kept = self._compose() if spacing_m < FLOE_STEP_M else None
        cracks = leads(month, seed, self._lattice, 350.0 if state.melting else 700.0)
        self._lead_m, self._lead_age = cracks.inside_m, _finer(cracks.age)

    def at(self, x_m: Floats, y_m: Floats) -> PackAt:
        """Return the drifting ice at positions, (rows, cols) float32 metres each."""
        col, row = self._lattice.pixels(x_m, y_m)
        # Kinds stand on a lattice twice as fine, whose first point lies a quarter of a step before the other's.
        fine_col, fine_row = 2 * col + np.float32(0.5), 2 * row + np.float32(0.5)

        def near(field: Bytes) -> Bytes:
            return np.asarray(cv2.remap(field, fine_col, fine_row, cv2.INTER_NEAREST, borderMode=cv2.BORDER_REPLICATE))

        def smooth(field: Floats) -> Floats:
            return np.asarray(cv2.remap(field, col, row, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE))

        if self._kept is None:
            kinds = self._kinds(x_m, y_m)
        else:
            k = self._kept
            kinds = _Kinds(smooth(k.inside_m), near(k.floe), near(k.between), near(k.rubble), near(k.tone))
        lead = smooth(self._lead_m) > 0
        return PackAt(
            kinds.inside_m > 0, kinds.floe, kinds.between, kinds.rubble, kinds.tone, lead, near(self._lead_age)
        )

    def _compose(self) -> _Kinds:
        """Compute the kinds over the lattice, in blocks of rows, in two threads."""
        lattice = self._lattice
        shape = (lattice.rows, lattice.cols)
        inside = np.empty(shape, np.float32)
        layers = [np.empty(shape, np.uint8) for _ in range(4)]
        voronoi_cells(self._seed)  # once, before the threads would each make it

        def compose(first: int) -> None:
            rows = slice(first, min(first + 256, lattice.rows))
            kinds = self._kinds(*lattice.positions(rows))
            inside[rows] = kinds.inside_m
            for layer, values in zip(layers, (kinds.floe, kinds.between, kinds.rubble, kinds.tone), strict=True):
                layer[rows] = values

        with ThreadPoolExecutor(2) as pool:
            list(pool.map(compose, range(0, lattice.rows, 256)))
            finer = list(pool.map(_finer, layers))
        return _Kinds(inside, *finer)

    def _kinds(self, x: Floats, y: Floats) -> _Kinds:
        f = floes(self._zones, self._state, self._mixture.concentration, self._month, self._seed, x, y)
        floe = self._floe_kind(f)
        # Small floes come from the floes around them: broken, so rough.
        rubble = floe.copy()
        rubble[floe == Surface.FIRST_YEAR] = Surface.FIRST_YEAR_DEFORMED
        tone = (256 * np.modf(f.rank * 7.13)[0]).astype(np.uint8)
        return _Kinds(f.inside_m, floe, self._between_kind(x, y), rubble, tone)

    def _floe_kind(self, f: Floes) -> Bytes:
        old, thick = self._mixture.floes(f.tracer_km, f.x_m, f.y_m)
        kind = np.full(f.rank.shape, Surface.YOUNG, np.uint8)
        kind[f.rank < thick] = Surface.FIRST_YEAR
        kind[f.rank < old] = Surface.OLD
        return kind

    def _between_kind(self, x: Floats, y: Floats) -> Bytes:
        tracer = self._zones.lattice.at(self._zones.tracer_km, x, y)
        young, nilas, new = self._mixture.between(tracer, x, y)
        rough = noise_texture(self._seed, 1, 1024, 512, 4, 3.0)
        # Streaks along the tracer's own filaments, so that grease ice lies in the swirls of the edge.
        age = lookup(rough, x + 1500 * tracer, y - 900 * tracer, 150.0, 51 + self._month)
        rank = 0.5 * (1 + np.tanh(0.85 * age))
        kind = np.full(x.shape, Surface.WATER, np.uint8)
        kind[rank < new] = Surface.NEW
        kind[rank < nilas] = Surface.NILAS
        kind[rank < young] = Surface.YOUNG
        return kind


def _finer(kinds: Bytes) -> NDArray[Any]:
    """Double a raster's resolution and round off the corners of what it shows, without inventing values."""
    double = cv2.resize(kinds, None, fx=2, fy=2, interpolation=cv2.INTER_NEAREST)
    return np.asarray(cv2.medianBlur(double, 5), dtype=np.uint8)
