"""Means of rasters over the patches that became polygons: probabilities of classes, and areas on the ellipsoid.

Patches come from a raster with one pixel put around it (:func:`floemap.icechart.draw.region_borders.pad`); the rasters
here have none.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import pyproj
import scipy.ndimage
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox

from floemap.cog import STRIP_ROWS
from floemap.errors import GridError
from floemap.grid import crs_of
from floemap.icechart.draw.regions import Ints, Patches

Floats = NDArray[np.float64]

#: Stands in whole-number rasters of probabilities where there is none.
NO_PROBABILITY = 255

# The scale of the map is computed at so many points along each side, and interpolated between them.
_SCALE_POINTS = 33


def true_km2(geobox: GeoBox, patches: Patches) -> Floats:
    """Return the area of each run on the ellipsoid, (runs,): its area on the map, divided by the map's areal scale.

    Raises
    ------
    GridError
        If the grid reaches beyond the map.
    """
    crs = crs_of(geobox).proj
    rows, cols = geobox.shape
    row, col = np.meshgrid(np.linspace(0, rows, _SCALE_POINTS), np.linspace(0, cols, _SCALE_POINTS), indexing="ij")
    t = geobox.transform
    x, y = t.a * col.ravel() + t.b * row.ravel() + t.c, t.d * col.ravel() + t.e * row.ravel() + t.f
    lon, lat = pyproj.Transformer.from_crs(crs, crs.geodetic_crs, always_xy=True).transform(x, y)
    scale = np.asarray(pyproj.Proj(crs).get_factors(lon, lat).areal_scale)
    if not (np.isfinite(scale).all() and (scale > 0).all()):
        raise GridError(f"the grid reaches beyond the map {crs.name}.", hint="Choose a CRS for this place.")
    at_row, at_col = np.divmod(patches.start, patches.shape[1])
    middle = at_col - 1 + patches.run_length / 2
    places = (at_row - 0.5) * (_SCALE_POINTS - 1) / rows, middle * (_SCALE_POINTS - 1) / cols
    there = scipy.ndimage.map_coordinates(scale.reshape(row.shape), places, order=1, mode="nearest")
    return np.asarray(abs(t.determinant) / 1e6 * patches.run_length / there)


def mean_probabilities(
    patches: Patches, group: Ints, count: int, bands: Iterable[NDArray[Any]], step: float | None
) -> Floats:
    """Return the mean of each band over the pixels of each group, not-a-number where it has no value, (groups, bands).

    Parameters
    ----------
    group
        Group of each region, -1 for none, (regions,).
    count
        How many groups there are.
    bands
        Rasters, taken one after the other: reals, not-a-number where there is none, or whole numbers in `step`,
        :data:`NO_PROBABILITY` where there is none.

    Raises
    ------
    GridError
        If a raster is of another size, or of whole numbers and `step` is not given.
    """
    means = [_mean(patches, group, count, band, step) for band in bands]
    return np.stack(means, axis=1) if means else np.zeros((count, 0))


def _mean(patches: Patches, group: Ints, count: int, band: NDArray[Any], step: float | None) -> Floats:
    rows, cols = patches.shape[0] - 2, patches.shape[1] - 2
    if band.shape != (rows, cols):
        raise GridError(f"a raster of probabilities of {band.shape} does not fit the classes, {(rows, cols)}.")
    whole = band.dtype.kind in "iu"
    if whole and step is None:
        raise GridError(f"probabilities are whole numbers ({band.dtype}).", hint="Say what they are steps of.")
    group_of_run = group[patches.of_run]
    runs = np.flatnonzero(group_of_run >= 0)
    row, col = np.divmod(patches.start[runs], patches.shape[1])
    begin = (row - 1) * cols + col - 1
    end = begin + patches.run_length[runs]
    total, known = np.zeros(count), np.zeros(count)
    for first in range(0, rows, STRIP_ROWS):
        part = slice(*np.searchsorted(row, [first + 1, first + 1 + STRIP_ROWS]))
        strip = band[first : first + STRIP_ROWS].ravel()
        missing = strip == NO_PROBABILITY if whole else np.isnan(strip)
        ends = begin[part] - first * cols, end[part] - first * cols
        to = group_of_run[runs[part]]
        values = np.where(missing, strip.dtype.type(0), strip)
        total += np.bincount(to, _between(values, *ends, np.int64 if whole else np.float64), count)
        known += np.bincount(to, ends[1] - ends[0] - _between(missing, *ends, np.int64), count)
    mean: Floats = np.divide(total, known, out=np.full(count, np.nan), where=known > 0)
    return mean if step is None or not whole else mean * step


def _between(values: NDArray[Any], begin: Ints, end: Ints, dtype: Any) -> NDArray[Any]:
    """Sum values from `begin` up to `end`."""
    running = np.zeros(len(values) + 1, dtype)
    np.cumsum(values, out=running[1:])
    sums: NDArray[Any] = running[end] - running[begin]
    return sums
