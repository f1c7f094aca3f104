"""The drifting ice of the twin at positions: floes and their kinds, the ice between them, leads.

It is computed at the positions themselves or, for scenes with pixels finer than 160 m, on a lattice of 160 m and
interpolated. The two agree except in some 100 m along the edges of floes.
"""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from enum import IntEnum
from types import MappingProxyType

import cv2
import numpy as np
from numpy.typing import NDArray

from floemap.legend import IGNORE
from floemap.simulation.world.floes import FLOE_STEP_M, Floes, floes, leads
from floemap.simulation.world.texture import Bytes, Floats, bilinear, lookup, noise_texture, voronoi_cells
from floemap.simulation.world.zones import Lattice, Month, Zones


class Surface(IntEnum):
    """Surface of a pixel of the twin, in more kinds than the classes of a chart."""

    LAND = 0
    WATER = 1
    NEW = 2
    NILAS = 3
    YOUNG = 4
    FIRST_YEAR = 5
    FIRST_YEAR_DEFORMED = 6
    FAST = 7
    OLD = 8


#: SIGRID-3 stage of development by surface; None without ice. Fast ice is level first-year ice here.
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
# Shares of surfaces between the floes while it freezes, in the same zones. Columns: young, nilas, new, water.
_BETWEEN_FREEZING = (
    (0.52, 0.05, 0.31, 0.12),
    (0.52, 0.05, 0.31, 0.12),
    (0.58, 0.04, 0.33, 0.05),
    (0.06, 0.88, 0.05, 0.01),
    (0.06, 0.01, 0.88, 0.05),
    (0.00, 0.00, 0.10, 0.90),
)


#: Surface of a lead by its age: the oldest, refrozen ones are young ice, then nilas, new ice, water.
_LEAD_FREEZING = np.repeat(
    np.array([Surface.YOUNG, Surface.NILAS, Surface.NEW, Surface.WATER], np.uint8), [120, 30, 85, 21]
)
# Four values in one raster of 16 bits, four bits each, so that one interpolation does for all.
_FLOE, _BETWEEN, _LEAD, _TONE = 0, 4, 8, 12
TONES = 16


@dataclass(frozen=True)
class PackAt:
    """The drifting ice at positions; all arrays have their shape.

    Attributes
    ----------
    floe, lead
        bool, whether there is a large floe, and whether there is a lead.
    floe_kind, between_kind, lead_kind
        uint8 surfaces: of the nearest floe, between floes, of the nearest lead.
    tone
        uint8, random number of each floe, below :data:`TONES`.
    """

    floe: NDArray[np.bool_]
    lead: NDArray[np.bool_]
    floe_kind: Bytes
    between_kind: Bytes
    lead_kind: Bytes
    tone: Bytes


class Pack:
    """The drifting ice over a part of the world.

    Parameters
    ----------
    zones
        Zones of the month, at least over `bounds_m`.
    spacing_m
        Approximate distance of the positions that will be requested; it decides where floes are computed (see above).
    """

    def __init__(
        self, state: Month, seed: int, zones: Zones, bounds_m: tuple[float, float, float, float], spacing_m: float
    ) -> None:
        self._state, self._seed, self._zones = state, seed, zones
        self._lattice = Lattice.over(bounds_m, FLOE_STEP_M, 1_500.0)
        cracks = leads(zones.month, seed, self._lattice, 350.0 if state.melting else 700.0)
        self._lead_m = cracks.inside_m
        self._inside_m: Floats | None = None
        self._kinds = _finer(self._lead_kind(cracks.age)).astype(np.uint16) << _LEAD
        if spacing_m < FLOE_STEP_M:
            self._inside_m = self._compose()

    def at(self, x_m: Floats, y_m: Floats) -> PackAt:
        """Return the drifting ice at positions, (rows, cols) float32 metres each."""
        col, row = self._lattice.pixels(x_m, y_m)
        lead = bilinear(self._lead_m, col, row) > 0
        floe = None if self._inside_m is None else bilinear(self._inside_m, col, row) > 0
        # Kinds are on a lattice twice as fine, whose first point is a quarter of a step before that of the other.
        col, row = 2 * col + np.float32(0.5), 2 * row + np.float32(0.5)
        packed = np.asarray(
            cv2.remap(self._kinds, col, row, cv2.INTER_NEAREST, borderMode=cv2.BORDER_REPLICATE), np.uint16
        )
        if floe is None:
            f = floes(self._zones, self._state, self._seed, x_m, y_m)
            between = self._between_kind(x_m, y_m)
            return PackAt(f.inside_m > 0, lead, self._floe_kind(f), between, _bits(packed, _LEAD), _tone(f))
        return PackAt(floe, lead, *(_bits(packed, k) for k in (_FLOE, _BETWEEN, _LEAD, _TONE)))

    def _compose(self) -> Floats:
        """Compute floes over the lattice in blocks of rows, in two threads; pack them with the leads."""
        lattice = self._lattice
        shape = (lattice.rows, lattice.cols)
        inside = np.empty(shape, np.float32)
        layers = {k: np.empty(shape, np.uint8) for k in (_FLOE, _BETWEEN, _TONE)}
        voronoi_cells(self._seed)  # fills the cache once, instead of in each thread

        def compose(first: int) -> None:
            rows = slice(first, min(first + 256, lattice.rows))
            x, y = lattice.positions(rows)
            f = floes(self._zones, self._state, self._seed, x, y)
            inside[rows] = f.inside_m
            layers[_FLOE][rows] = self._floe_kind(f)
            layers[_BETWEEN][rows] = self._between_kind(x, y)
            layers[_TONE][rows] = _tone(f)

        with ThreadPoolExecutor(2) as pool:
            list(pool.map(compose, range(0, lattice.rows, 256)))
        for k, layer in layers.items():
            self._kinds |= _finer(layer).astype(np.uint16) << k
        return inside

    def _zone(self, tracer_km: Floats) -> NDArray[np.intp]:
        return np.searchsorted(np.array(self._state.borders_km, np.float32), tracer_km, side="right")

    def _floe_kind(self, f: Floes) -> Bytes:
        shares = np.cumsum(_FLOES_MELTING if self._state.melting else _FLOES_FREEZING, axis=1, dtype=np.float32)
        zone = self._zone(f.tracer_km)
        kind = np.full(zone.shape, Surface.YOUNG, np.uint8)
        kind[f.rank < shares[zone, 1]] = Surface.FIRST_YEAR
        kind[f.rank < shares[zone, 0]] = Surface.OLD
        return kind

    def _between_kind(self, x: Floats, y: Floats) -> Bytes:
        """Return water while it melts, else thin ice of several ages, in patches and streaks."""
        kind = np.full(x.shape, Surface.WATER, np.uint8)
        if self._state.melting:
            return kind
        tracer = self._zones.lattice.at(self._zones.tracer_km, x, y)
        # Streaks along the filaments of the tracer, so that grease ice is in the eddies of the edge.
        rough = noise_texture(self._seed, 1, 1024, 512, 4, 3.0)
        age = lookup(rough, x + 1500 * tracer, y - 900 * tracer, 150.0, 51 + self._zones.month)
        rank = 0.5 * (1 + np.tanh(0.85 * age))
        shares = np.cumsum(_BETWEEN_FREEZING, axis=1, dtype=np.float32)
        zone = self._zone(tracer)
        # New ice beyond the edge decreases with distance, so that there is none far out at sea.
        beyond = np.clip(tracer - np.float32(self._state.new_km), 0, None)
        kind[rank < shares[zone, 2] * np.exp(-beyond / np.float32(8))] = Surface.NEW
        kind[rank < shares[zone, 1]] = Surface.NILAS
        kind[rank < shares[zone, 0]] = Surface.YOUNG
        return kind

    def _lead_kind(self, age: Bytes) -> Bytes:
        return np.full(age.shape, Surface.WATER, np.uint8) if self._state.melting else _LEAD_FREEZING[age]


def _tone(f: Floes) -> Bytes:
    """Return the random brightness of each floe; that of large ones, with dark and bright parts, is nearer the mean."""
    away = np.modf(f.rank * np.float32(7.13))[0] - np.float32(0.5)
    away *= np.minimum(1, 3_000 / f.spacing_m) ** np.float32(0.6)
    return np.asarray(TONES * (away + np.float32(0.5)), dtype=np.uint8)


def _bits(packed: NDArray[np.uint16], shift: int) -> Bytes:
    return np.asarray((packed >> shift) & 15, dtype=np.uint8)


def _finer(kinds: Bytes) -> Bytes:
    """Double the resolution of a raster and round the corners of its areas, without new values."""
    double = cv2.resize(kinds, None, fx=2, fy=2, interpolation=cv2.INTER_NEAREST)
    return np.asarray(cv2.medianBlur(double, 5), dtype=np.uint8)
