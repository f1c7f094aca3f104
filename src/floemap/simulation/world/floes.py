"""Floes and leads of the twin on a lattice of 160 m: signed distances, so that their edges are sharp at any scale.

As in nature, floes are fragments of plates: a plate of spacing L breaks into plates of spacing L/2 with a probability,
the fragility f, repeatedly. The number of floes larger than L then falls as L to the power of -(2 + log2 f) (Toyota,
Haas and Tamura 2011, Deep-Sea Research II 58), which is 1.6 at f = 0.75 in the inner pack and approaches 2 at the edge.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from floemap.simulation.world.texture import (
    Bytes,
    Cells,
    Floats,
    cell_lookup,
    lookup,
    noise_texture,
    rng_of,
    voronoi_cells,
)
from floemap.simulation.world.zones import Lattice, Month, Zones

FLOE_STEP_M = 160.0
_COVER_POWER = 0.72
#: Mean spacings of plates, from the largest to the smallest on the lattice.
SPACINGS_M = (32_000.0, 16_000.0, 8_000.0, 4_000.0, 2_000.0, 1_000.0)


@dataclass(frozen=True)
class Floes:
    """Floes on a lattice; all arrays (rows, cols).

    Attributes
    ----------
    inside_m
        float32, distance inside the nearest floe's edge, negative in the gaps between floes.
    tracer_km
        float32, the zone tracer at the floe's centre, so that a whole floe belongs to one zone.
    rank
        float32, random number of the floe, uniform in 0 to 1.
    spacing_m
        float32, spacing of the plates of the floe's size.
    """

    inside_m: Floats
    tracer_km: Floats
    rank: Floats
    spacing_m: Floats


def fragility(state: Month, tracer_km: Floats) -> Floats:
    """Return the probability that a plate breaks in four: 0.75 in the inner pack, near 1 where waves reach it."""
    inside = np.float32(state.new_km) - tracer_km
    return np.asarray(0.74 + 0.22 * np.exp(-np.clip(inside, 0, None) / (30 if state.melting else 20)), dtype=np.float32)


def concentration(state: Month, tracer_km: Floats, streaks: Floats) -> Floats:
    """Return the concentration of floes, 0 to 1: that of the inner pack, decreasing in streaks over the ragged edge.

    While it freezes, there are nilas and new ice beyond the pack, with few floes in them.
    """
    border = np.float32(state.new_km if state.melting else state.young_km)
    inside = (border - tracer_km) / np.float32(state.torn_km)
    edge = np.clip(inside + 0.35 * streaks, 0, 1)
    pack = np.float32(state.pack) + np.float32(0.45 * (1 - state.pack)) * streaks
    return np.asarray(np.clip(pack, 0, 1) * edge * (2 - edge), dtype=np.float32)


def floes(zones: Zones, state: Month, seed: int, x_m: Floats, y_m: Floats) -> Floes:
    """Compute floes at positions, (rows, cols) float32 metres; values depend on the position only."""
    cells = voronoi_cells(seed)
    rough = noise_texture(seed, 1, 1024, 512, 4, 3.0)
    # Bent coordinates: straight cell borders become the curved, ragged outlines of floes.
    bent = noise_texture(seed, 12, 1024, 128, 8, 4.0)
    bx = x_m + 800 * lookup(bent, x_m, y_m, 110.0, 21) + 40 * lookup(rough, x_m, y_m, 20.0, 23)
    by = y_m + 800 * lookup(bent, x_m, y_m, 110.0, 22) + 40 * lookup(rough, x_m, y_m, 20.0, 24)
    distance = np.full(x_m.shape, 1e9, np.float32)
    open_ = np.ones(x_m.shape, bool)  # plates that may still break
    leaf_x, leaf_y = x_m.copy(), y_m.copy()
    rank, spacing = np.zeros_like(x_m), np.full(x_m.shape, SPACINGS_M[0], np.float32)
    for level, size in enumerate(SPACINGS_M):
        turn = 0.35 + 1.1 * level
        d, index, cx, cy = cell_lookup(cells, bx, by, size, 1000 * zones.month + level, turn)
        np.minimum(distance, d, out=distance, where=open_)
        for kept, new in ((leaf_x, cx), (leaf_y, cy), (rank, cells.rank[index])):
            np.copyto(kept, new, where=open_)
        spacing[open_] = size
        if level + 1 < len(SPACINGS_M):
            open_ &= _breaks(zones, state, cells, index, cx, cy, size)
    tracer = zones.lattice.at(zones.tracer_km, leaf_x, leaf_y)
    # The random number by which plates break is not uniform among the remaining ones: draw another one by position.
    fine = noise_texture(seed, 9, 512, 4, 2, 0.0)
    draw = lookup(fine, leaf_x, leaf_y, 1700.0, 31 + zones.month)
    rank = np.asarray(0.5 * (1 + np.tanh(0.8 * draw)), dtype=np.float32) + np.float32(0.618) * rank
    rank -= np.floor(rank)
    streaks = lookup(rough, leaf_x, leaf_y, 160.0, 41 + zones.month)
    cover = concentration(state, tracer, streaks)
    # A floe also has gaps along the borders of the plates that it broke from; the power corrects the cover for them.
    gap = np.interp(1 - cover ** np.float32(_COVER_POWER), np.linspace(0, 1, 1001), cells.quantiles).astype(np.float32)
    inside = distance - gap * spacing
    # Consolidated ice has no gaps, not even at junctions, where the soft distance is below zero.
    inside[cover > 0.992] = 1e4
    inside[cover < 0.02] = -1e4
    return Floes(inside, tracer, rank, spacing)


def _breaks(
    zones: Zones, state: Month, cells: Cells, index: np.ndarray, cx: Floats, cy: Floats, size_m: float
) -> np.ndarray:
    tracer = zones.lattice.at(zones.tracer_km, cx, cy)
    inside_km = np.float32(state.new_km) - tracer
    largest_m = 1000 * np.clip(1.0 + 0.55 * inside_km, 1.5, 40.0)
    return np.asarray((cells.rank[index] < fragility(state, tracer)) | (size_m > largest_m))


def rubble_concentration(zones: Zones, state: Month, seed: int) -> Floats:
    """Return the concentration of floes too small for the lattice of floes, on the lattice of the zones.

    They are among the large floes and beyond them. Currents draw them into filaments, so they follow the tracer, with
    streaks along its contours.
    """
    x, y = zones.lattice.positions()
    rough = noise_texture(seed, 1, 1024, 512, 4, 3.0)
    tracer = zones.tracer_km
    streaks = lookup(rough, x + 2500 * tracer, y - 1500 * tracer, 260.0, 81 + zones.month)
    border = np.float32(state.new_km if state.melting else state.young_km)
    inside = (border - tracer) / np.float32(state.torn_km)
    bell = np.exp(-((inside / np.where(inside > 0, 0.8, 0.45)) ** 2))
    among = np.clip(inside, 0, 1) * np.float32(0.25)
    return np.asarray(np.clip(among + bell * (0.55 + 0.45 * streaks), 0, 0.95), dtype=np.float32)


@dataclass(frozen=True)
class Leads:
    """Leads on a lattice; both arrays (rows, cols).

    Attributes
    ----------
    inside_m
        float32, distance inside the edge of the nearest lead, negative outside.
    age
        uint8, 0 (oldest, refrozen) to 255 (just opened).
    """

    inside_m: Floats
    age: Bytes


_LEAD_CELL_M = 120_000.0
_LEADS_PER_CELL = 26


def leads(month: int, seed: int, lattice: Lattice, widest_m: float) -> Leads:
    """Draw leads: jagged cracks 8 to 150 km long in two families of directions, with widths from a power law.

    Each square of the world, 120 km on a side, has its own leads, so that they do not depend on the lattice.
    """
    inside = np.full((lattice.rows, lattice.cols), -1e4, np.float32)
    age = np.zeros((lattice.rows, lattice.cols), np.uint8)
    reach = 160_000.0
    right, bottom = lattice.left_m + lattice.cols * lattice.step_m, lattice.top_m - lattice.rows * lattice.step_m
    for i in range(int((lattice.left_m - reach) // _LEAD_CELL_M), int((right + reach) // _LEAD_CELL_M) + 1):
        for j in range(int((bottom - reach) // _LEAD_CELL_M), int((lattice.top_m + reach) // _LEAD_CELL_M) + 1):
            rng = rng_of(seed, month, i + 10_000, j + 10_000, 606)
            for _ in range(_LEADS_PER_CELL):
                start = (np.array([i, j]) + rng.uniform(0, 1, 2)) * _LEAD_CELL_M
                points, half = _one_lead(rng, start, widest_m)
                _carve(inside, age, lattice, points, half, int(rng.integers(0, 256)))
    return Leads(inside, age)


def _one_lead(rng: np.random.Generator, start: np.ndarray, widest_m: float) -> tuple[np.ndarray, np.ndarray]:
    """Return the points of a lead in metres, (n, 2), and its half-width at each."""
    length = min(8_000.0 * (1 - rng.uniform()) ** (-1 / 1.1), 150_000.0)
    n = max(int(length / 1500), 3)
    family = rng.choice([-0.5, 0.35]) + 1.45
    heading = family + rng.normal(0, 0.16) + np.cumsum(rng.normal(0, 0.05, n)) + rng.normal(0, 0.22, n)
    steps = 1500 * np.stack([np.cos(heading), np.sin(heading)], axis=1)
    points = start + np.cumsum(steps, axis=0) - steps.sum(axis=0) / 2
    widest = min(60.0 * (1 - rng.uniform()) ** (-1 / 1.3), widest_m) * min(1.0, length / 30_000 + 0.4)
    along = np.linspace(0, 1, n)
    swell = np.exp(0.5 * np.convolve(rng.normal(0, 1, n + 6), np.ones(7) / np.sqrt(7), "valid"))
    half = widest * swell * (4 * along * (1 - along)) ** 0.5
    return points, half


def _carve(inside: Floats, age: Bytes, lattice: Lattice, points: np.ndarray, half: np.ndarray, value: int) -> None:
    """Raise `inside` along a polyline to the exact distance inside the lead, segment by segment in windows."""
    step = lattice.step_m
    around = half.max() + 3 * step
    for (x0, y0), (x1, y1), h0, h1 in zip(points[:-1], points[1:], half[:-1], half[1:], strict=True):
        c0, c1 = sorted((x0, x1))
        r0, r1 = sorted((y0, y1))
        left = max(int((c0 - around - lattice.left_m) / step), 0)
        right = min(int((c1 + around - lattice.left_m) / step) + 2, lattice.cols)
        top = max(int((lattice.top_m - r1 - around) / step), 0)
        bottom = min(int((lattice.top_m - r0 + around) / step) + 2, lattice.rows)
        if left >= right or top >= bottom:
            continue
        px = (lattice.left_m - x0 + step * np.arange(left, right))[None, :]
        py = (lattice.top_m - y0 - step * np.arange(top, bottom))[:, None]
        ex, ey = x1 - x0, y1 - y0
        t = np.clip((px * ex + py * ey) / (ex * ex + ey * ey), 0, 1)
        depth = h0 + (h1 - h0) * t - np.hypot(px - t * ex, py - t * ey)
        window = inside[top:bottom, left:right]
        deeper = depth > window
        window[deeper] = depth[deeper]
        age[top:bottom, left:right][deeper] = value
