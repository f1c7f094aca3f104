"""Periodic random textures and their interpolation: the source of everything random in the twin's world.

A texture is a square array that repeats in both directions, so fields of any extent are interpolated from it: a value
depends on the position only, not on the requested block or grid. OpenCV interpolates and releases the interpreter's
lock, so callers may compute blocks in threads.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np
import scipy.fft
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Bytes = NDArray[np.uint8]


def rng_of(*key: int) -> np.random.Generator:
    """Return the random generator of a key of integers; equal keys give equal streams on every machine."""
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence([k & 0xFFFFFFFF for k in key])))


def noise(seed: int, key: int, size_px: int, longest: float, shortest: float, slope: float) -> Floats:
    """Return a periodic Gaussian texture, (size_px, size_px) float32, mean 0, standard deviation 1.

    Parameters
    ----------
    seed, key
        Keys of the random numbers.
    longest, shortest
        Range of wavelengths with power, pixels.
    slope
        Power spectral density falls as wavenumber ** -slope in between; 2 is rough, 4 is smooth.
    """
    # A smooth field needs few points: compute it small and enlarge it.
    factor = 1
    while 8 * factor <= shortest and size_px // (2 * factor) >= 32:
        factor *= 2
    size = size_px // factor
    white = rng_of(seed, key, 101).standard_normal((size, size), dtype=np.float32)
    spectrum = scipy.fft.rfft2(white)
    ky = scipy.fft.fftfreq(size).astype(np.float32)[:, None]
    kx = scipy.fft.rfftfreq(size).astype(np.float32)[None, :]
    square = ky * ky + kx * kx
    square[0, 0] = 1.0  # any value: the mean is set to zero below
    # Soft ends of the band: a sharp cut in the spectrum would cause ringing, a visible grid of equal bumps.
    band = (1 + (square * (longest / factor) ** 2) ** -4) * (1 + (square * (shortest / factor) ** 2) ** 4)
    gain = square ** np.float32(-slope / 4) / band
    gain[0, 0] = 0.0
    field = scipy.fft.irfft2(spectrum * gain, s=(size, size))
    if factor > 1:
        at = (np.arange(size_px, dtype=np.float32) + np.float32(0.5)) / factor - np.float32(0.5)
        u, v = np.meshgrid(at, at)
        field = cv2.remap(field, u, v, cv2.INTER_CUBIC, borderMode=cv2.BORDER_WRAP)
    return np.ascontiguousarray(field / field.std(), dtype=np.float32)


#: The same from a cache.
noise_texture = lru_cache(maxsize=16)(noise)

_RIDGES = ((160, 0.035, 1.6), (60, 0.06, 1.3), (28, 0.09, 0.9))  # longest wavelength, px; width; brightness


def _ridge_lines(seed: int, key: int, size: int) -> list[Floats]:
    """Return lines of ridges, 0 to 2.4, in some areas: zero lines of fields of several scales."""
    lines = []
    for k, (longest, width, bright) in enumerate(_RIDGES):
        bent = noise(seed, key + 20 + k, size, longest, longest / 10, 3.6)
        where = noise(seed, key + 30 + k, size, 4 * longest, longest, 3.0)
        lines.append((bright * np.exp(-((bent / width) ** 2)) * np.clip(where + 0.3, 0, 1.5)).astype(np.float32))
    return lines


@lru_cache(maxsize=4)
def fabric_texture(seed: int, key: int, size: int = 2048) -> Floats:
    """Return a periodic texture of surfaces in radar images, (size, size, 4) float32.

    The channels have mean 0 and standard deviation 1: ice in HH; ice in HV; water and thin ice in both bands. Ice has
    patches with bright lines of ridges; HH and HV have a correlation of some two thirds. The fourth channel is 0.
    """

    def ice(own: int) -> Floats:
        patches = 0.75 * noise(seed, own, size, 192, 2, 2.0)
        field = patches + sum(_ridge_lines(seed, own, size))
        field -= field.mean()
        return np.asarray(field / field.std(), dtype=np.float32)

    first, second = ice(key), ice(key + 100)
    smooth = noise(seed, key + 200, size, 128, 2, 2.2)
    return np.stack([first, 0.67 * first + 0.742 * second, smooth, np.zeros_like(smooth)], axis=-1)


@lru_cache(maxsize=4)
def ragged_texture(seed: int, key: int, size: int = 2048) -> Floats:
    """Return a periodic texture of short shifts in two directions, (size, size, 2) float32, standard deviation 1."""
    return np.stack([noise(seed, key + k, size, 60, 3, 2.6) for k in range(2)], axis=-1)


@lru_cache(maxsize=4)
def ridge_texture(seed: int, key: int, size: int = 2048) -> Floats:
    """Return a periodic texture whose values below c are belts of ridges that cover c of the area, 0 to 1."""
    bent = noise(seed, key, size, 220, 10, 2.7)
    belts = np.abs(bent) + 0.35 * noise(seed, key + 1, size, 400, 60, 3.0)
    belts -= 0.5 * np.maximum.reduce(_ridge_lines(seed, key, size))
    return _as_share(belts)


def _as_share(field: Floats) -> Floats:
    """Return for each value the share of the area with smaller values."""
    order = np.quantile(field[::3, ::3], np.linspace(0, 1, 1001))
    return np.asarray(np.interp(field, order, np.linspace(0, 1, 1001)), dtype=np.float32)


@lru_cache(maxsize=4)
def rubble_texture(seed: int) -> Floats:
    """Return a periodic texture, (px, px) float32, whose values below c are small floes that cover c of the area.

    Each small floe appears at another concentration, so that more ice means more floes, not larger ones.
    """
    cells = voronoi_cells(seed)
    own = cells.rank[cells.cell]
    between = np.clip(1 - cells.distance / np.float32(0.10), 0, 1)
    return _as_share(np.maximum(own * np.float32(0.9), between))


def lookup(texture: Floats, x_m: Floats, y_m: Floats, texel_m: float, key: int = 0, turn_rad: float = 0.0) -> Floats:
    """Return the values of a texture at positions, bilinear: shape of the positions, and channels if it has any.

    Parameters
    ----------
    texture
        (px, px) or (px, px, channels) float32.
    texel_m
        Size of a pixel of the texture in the world, metres.
    key
        Key of a shift of the texture, so that one texture gives several uncorrelated fields.
    turn_rad
        Angle between the axes of the texture and of the world.
    """
    u, v = _coordinates(x_m, y_m, texel_m, texture.shape[0], key, turn_rad)
    return np.asarray(cv2.remap(texture, u, v, cv2.INTER_LINEAR, borderMode=cv2.BORDER_WRAP), dtype=np.float32)


def bilinear(field: Floats, col: Floats, row: Floats) -> Floats:
    """Return a field at fractional columns and rows; outside, the value at its border."""
    return np.asarray(cv2.remap(field, col, row, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE))


def _coordinates(
    x_m: Floats, y_m: Floats, texel_m: float, size_px: int, key: int, turn_rad: float
) -> tuple[Floats, Floats]:
    """Return columns and rows of positions in a texture, from 0 up to its size."""
    shift_x, shift_y = _shift(key)
    c, s = np.float32(np.cos(turn_rad) / texel_m), np.float32(np.sin(turn_rad) / texel_m)
    u, v = x_m * c, y_m * c
    if turn_rad != 0.0:
        u += s * y_m
        v -= s * x_m
    u += shift_x
    v += shift_y
    # OpenCV could wrap coordinates, too, but takes eight times as long.
    size, periods = np.float32(size_px), np.empty_like(u)
    for w in (u, v):
        np.multiply(w, 1 / size, out=periods)
        np.floor(periods, out=periods)
        periods *= size
        w -= periods
    return u, v


@lru_cache(maxsize=512)
def _shift(key: int) -> tuple[np.float32, np.float32]:
    a, b = rng_of(key, 202).uniform(0, 2048, 2)
    return np.float32(a), np.float32(b)


@dataclass(frozen=True)
class Cells:
    """A periodic Voronoi tessellation as a texture: `n` x `n` cells of mean spacing 1.

    Attributes
    ----------
    distance
        (px, px) float32, soft distance to the cell's border in units of the mean spacing; largest in the middle. It is
        a soft minimum over the borders, so its contours are polygons with rounded corners.
    cell
        (px, px) uint16, index of the cell of a pixel.
    centre
        (n * n, 2) float32, (x, y) of the cells' points in units of the spacing.
    rank
        (n * n,) float32, random number of each cell, uniform in 0 to 1.
    quantiles
        (1001,) float32, quantiles of `distance` at 0, 0.001 ... 1.
    """

    n: int
    px_per_cell: int
    distance: Floats
    cell: NDArray[np.uint16]
    centre: Floats
    rank: Floats
    quantiles: Floats


@lru_cache(maxsize=4)
def voronoi_cells(seed: int, n: int = 64, px_per_cell: int = 24, sharpness: float = 22.0) -> Cells:
    """Return the Voronoi tessellation of an n x n grid of jittered points, periodic in both directions.

    `sharpness` of the soft minimum is per unit of spacing; higher values give sharper corners.
    """
    rng = rng_of(seed, 303)
    jitter = rng.uniform(0, 1, (n, n, 2)).astype(np.float32)
    size = n * px_per_cell
    distance = np.empty((size, size), np.float32)
    cell = np.empty((size, size), np.uint16)
    across = ((np.arange(px_per_cell) + 0.5) / px_per_cell).astype(np.float32)
    for row in range(n):  # one row of grid squares at a time: all its pixels have their cell within two squares
        _one_row(row, jitter, across, distance, cell, sharpness)
    gy, gx = np.mgrid[0:n, 0:n]
    centre = np.stack([gx + jitter[..., 0], gy + jitter[..., 1]], axis=-1).reshape(-1, 2).astype(np.float32)
    quantiles = np.quantile(distance[::3, ::3], np.linspace(0, 1, 1001)).astype(np.float32)
    rank = rng.permutation((np.arange(n * n) + 0.5) / (n * n)).astype(np.float32)
    return Cells(n, px_per_cell, distance, cell, centre, rank, quantiles)


def _one_row(
    row: int, jitter: Floats, across: Floats, distance: Floats, cell: NDArray[np.uint16], sharpness: float
) -> None:
    n, px = jitter.shape[0], across.size
    x = (np.arange(n, dtype=np.float32)[:, None] + across).reshape(1, -1)  # (1, n * px)
    y = across[:, None]  # (px, 1), relative to the row
    offsets = [(dy, dx) for dy in range(-2, 3) for dx in range(-2, 3)]
    column = np.repeat(np.arange(n), px)
    points, squares, ids = [], [], []
    for dy, dx in offsets:
        r, c = (row + dy) % n, (column + dx) % n
        px_, py_ = column + dx + jitter[r, c, 0], dy + jitter[r, c, 1]
        points.append((px_.astype(np.float32), py_.astype(np.float32)))
        squares.append((x - px_) ** 2 + (y - py_) ** 2)
        ids.append(r * n + c)
    nearest = np.argmin(squares, axis=0)  # (px, n * px)
    least = np.min(squares, axis=0)
    every = np.arange(column.size)
    mine_x = np.stack([p[0] for p in points])[nearest, every]
    mine_y = np.stack([p[1] for p in points])[nearest, every]
    total = np.zeros_like(least)
    for k, ((qx, qy), square) in enumerate(zip(points, squares, strict=True)):
        apart = np.hypot(qx - mine_x, qy - mine_y)
        # Distance to the bisector of the two points; the own point has none.
        d = np.where(nearest == k, np.float32(9), (square - least) / np.maximum(2 * apart, 1e-6))
        total += np.exp(-sharpness * d)
    rows = slice(row * px, (row + 1) * px)
    distance[rows] = -np.log(total) / sharpness
    cell[rows] = np.stack(ids)[nearest, every]


def cell_lookup(
    cells: Cells, x_m: Floats, y_m: Floats, spacing_m: float, key: int, turn_rad: float = 0.0
) -> tuple[Floats, NDArray[np.uint16], Floats, Floats]:
    """Return the cells of positions: distance to the border, m, index, and x and y of the centre, m."""
    texel_m = spacing_m / cells.px_per_cell
    u, v = _coordinates(x_m, y_m, texel_m, cells.distance.shape[0], key, turn_rad)
    d = cv2.remap(cells.distance, u, v, cv2.INTER_LINEAR, borderMode=cv2.BORDER_WRAP)
    index = np.asarray(cv2.remap(cells.cell, u, v, cv2.INTER_NEAREST, borderMode=cv2.BORDER_WRAP), dtype=np.uint16)
    # Vector from the position to the nearest copy of the cell's point in the periodic plane, in texels.
    size = np.float32(cells.n * cells.px_per_cell)
    du = cells.centre[index, 0] * np.float32(cells.px_per_cell) - np.float32(0.5) - u
    dv = cells.centre[index, 1] * np.float32(cells.px_per_cell) - np.float32(0.5) - v
    du -= size * np.rint(du / size)
    dv -= size * np.rint(dv / size)
    c, s = np.float32(np.cos(turn_rad) * texel_m), np.float32(np.sin(turn_rad) * texel_m)
    metres: Floats = np.asarray(d, dtype=np.float32) * np.float32(spacing_m)
    return metres, index, x_m + c * du - s * dv, y_m + s * du + c * dv
