"""Means of rasters over the regions of polygons: probabilities, shares of classes, and areas on the ellipsoid.

The regions come from a padded raster (:func:`floemap.icechart.draw.region_borders.pad`); the rasters here are not
padded.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox

from floemap.cog import STRIP_ROWS
from floemap.errors import GridError
from floemap.grid import true_pixel_km2
from floemap.icechart.draw.regions import Ints, Regions

Floats = NDArray[np.float64]

#: No-data in rasters of probabilities.
NO_PROBABILITY = 255


def true_km2(geobox: GeoBox, regions: Regions) -> Floats:
    """Return the area of each run on the ellipsoid, km2, (runs,).

    Raises
    ------
    GridError
        If the grid extends beyond the map.
    """
    at_row, at_col = np.divmod(regions.start, regions.shape[1])
    middle = at_col - 1 + regions.run_length / 2
    return true_pixel_km2(geobox, at_row - 0.5, middle) * regions.run_length


def mean_probabilities(
    regions: Regions, group: Ints, count: int, bands: Iterable[NDArray[np.uint8]], step: float
) -> Floats:
    """Return the mean of each band over the pixels of each group, (groups, bands); not-a-number for only no-data.

    Parameters
    ----------
    group
        Group of each region, -1 for none, (regions,).
    count
        Number of groups.
    bands
        Rasters, read one after the other: uint8 in units of `step`, :data:`NO_PROBABILITY` for no-data.

    Raises
    ------
    GridError
        If a raster has another size or type.
    """
    means = [_mean(*_sums(regions, group, count, band)) * step for band in bands]
    return np.stack(means, axis=1) if means else np.zeros((count, 0))


@dataclass(frozen=True)
class ClassMeans:
    """Means over polygons, by class, (polygons, K) each.

    Attributes
    ----------
    probability
        Mean probability of each class; not-a-number without data.
    seen
        Share of the pixels with data on which the class is the most probable one; rows sum to 1, or are 0 without data.
    certainty
        Mean probability of each class on the pixels where it is the most probable one; not-a-number where there is no
        such pixel.
    """

    probability: Floats
    seen: Floats
    certainty: Floats

    @property
    def of_pixels(self) -> Floats:
        """Mean probability of the most probable class of each pixel, (polygons,); not-a-number without data."""
        total = (self.seen * np.nan_to_num(self.certainty)).sum(axis=1)
        return np.where(self.seen.any(axis=1) & ~np.isnan(self.probability).all(axis=1), total, np.nan)


def class_means(
    regions: Regions,
    group: Ints,
    count: int,
    bands: Iterable[NDArray[np.uint8]],
    step: float,
    classes: NDArray[np.uint8],
) -> ClassMeans:
    """Return means of probabilities, a band for each class, over groups; parameters as of :func:`mean_probabilities`.

    Parameters
    ----------
    classes
        (rows, cols) uint8: the most probable class of each pixel, :data:`floemap.legend.IGNORE` without data.
    """
    means, own, pixels = [], [], []
    for k, band in enumerate(bands):
        means.append(_mean(*_sums(regions, group, count, band)))
        total, known = _sums(regions, group, count, np.where(classes == k, band, np.uint8(NO_PROBABILITY)))
        own.append(_mean(total, known))
        pixels.append(known)
    seen = np.stack(pixels, axis=1)
    seen /= np.maximum(seen.sum(axis=1), 1)[:, None]
    return ClassMeans(np.stack(means, axis=1) * step, seen, np.stack(own, axis=1) * step)


def _mean(total: Floats, known: Floats) -> Floats:
    return np.asarray(np.divide(total, known, out=np.full(len(total), np.nan), where=known > 0))


def _sums(regions: Regions, group: Ints, count: int, band: NDArray[np.uint8]) -> tuple[Floats, Floats]:
    """Return the sum of a band over each group, and the number of its pixels with a value, (groups,) each."""
    rows, cols = regions.shape[0] - 2, regions.shape[1] - 2
    if band.shape != (rows, cols) or band.dtype != np.uint8:
        found = f"{band.dtype} of {band.shape}"
        raise GridError(f"a raster of probabilities, {found}, does not fit the classes, uint8 of {(rows, cols)}.")
    group_of_run = group[regions.of_run]
    runs = np.flatnonzero(group_of_run >= 0)
    row, col = np.divmod(regions.start[runs], regions.shape[1])
    begin = (row - 1) * cols + col - 1
    end = begin + regions.run_length[runs]
    total, known = np.zeros(count), np.zeros(count)
    for first in range(0, rows, STRIP_ROWS):
        part = slice(*np.searchsorted(row, [first + 1, first + 1 + STRIP_ROWS]))
        strip = band[first : first + STRIP_ROWS].ravel()
        missing = strip == NO_PROBABILITY
        ends = begin[part] - first * cols, end[part] - first * cols
        to = group_of_run[runs[part]]
        total += np.bincount(to, _between(np.where(missing, np.uint8(0), strip), *ends), count)
        known += np.bincount(to, ends[1] - ends[0] - _between(missing, *ends), count)
    return total, known


def _between(values: NDArray[Any], begin: Ints, end: Ints) -> Ints:
    """Sum values from each `begin` up to each `end`."""
    running = np.zeros(len(values) + 1, np.int64)
    np.cumsum(values, out=running[1:])
    return running[end] - running[begin]
