"""Regions of a class raster: connected pixels of one class, their neighbours, and the merging of small ones.

A raster is divided into runs: stretches of one class within a row. Everything else (regions, neighbours and lengths of
common borders) follows from the runs and from where they meet in the row below, so the cost grows with the length of
the borders and not with the number of pixels. Pixels are connected over their four sides, not over corners.

Why own code: GDAL's sieve (``rasterio.features.sieve``) counts pixels instead of true areas, cannot leave land as it
is, and leaves regions below the minimum; scipy's ``label`` needs a pass for each class and gives no common borders.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from floemap.legend import IGNORE, LAND

Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Regions:
    """A class raster divided into regions.

    Attributes
    ----------
    shape
        (rows, cols) of the raster.
    start
        Index of each run's first pixel in the raveled raster, sorted, (runs,). A run ends where the next begins.
    of_run
        The region of each run, (runs,).
    classes
        Class of each region, (regions,), in the order of their first pixels; pixels without a class form regions, too.
    upper, lower
        Runs that meet vertically, the second one row below the first, (spans,).
    span_start, span_length
        Index of the first pixel of each span in the lower row, and its length in pixels, (spans,).
    """

    shape: tuple[int, int]
    start: Ints
    of_run: Ints
    classes: NDArray[np.uint8]
    upper: Ints
    lower: Ints
    span_start: Ints
    span_length: Ints

    @property
    def run_length(self) -> Ints:
        """Pixels of each run, (runs,)."""
        return np.diff(self.start, append=self.shape[0] * self.shape[1])

    @property
    def number(self) -> Ints:
        """Number of each region among those with a class, -1 for the others, (regions,)."""
        has_class = self.classes != IGNORE
        return np.where(has_class, np.cumsum(has_class) - 1, -1)

    def painted(self, group: Ints, classes: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Return the raster with the class, (groups,), of each region's group, (regions,); no class for group -1."""
        of_region = np.append(classes, np.uint8(IGNORE))[group]
        return np.repeat(of_region[self.of_run], self.run_length).reshape(self.shape)

    def __len__(self) -> int:
        return len(self.classes)


@dataclass(frozen=True)
class Contacts:
    """Pairs of regions with a class and a common border: each pair once, `first` before `second`, (pairs,) each."""

    first: Ints
    second: Ints
    length_px: Ints


@dataclass(frozen=True)
class Merged:
    """Groups of regions after merging the small ones.

    Attributes
    ----------
    group
        Group of each region, -1 if it was small and had no neighbour, (regions,).
    classes, area
        Class and area of each group, (groups,).
    """

    group: Ints
    classes: NDArray[np.uint8]
    area: NDArray[np.float64]


def find_regions(classes: NDArray[np.uint8]) -> Regions:
    """Divide a class raster, (rows, cols), into regions."""
    rows, cols = classes.shape
    flat = classes.ravel()
    begins = np.empty(flat.size, bool)
    np.not_equal(flat[1:], flat[:-1], out=begins[1:])
    begins[::cols] = True
    start = np.flatnonzero(begins)
    upper, lower, span_start, span_length = _spans(start, rows, cols)
    of_value = flat[start]
    joined = of_value[upper] == of_value[lower]
    count, of_run = _components(len(start), upper[joined], lower[joined])
    of_region = np.empty(count, np.uint8)
    of_region[of_run] = of_value
    return Regions((rows, cols), start, of_run, of_region, upper, lower, span_start, span_length)


def _spans(start: Ints, rows: int, cols: int) -> tuple[Ints, Ints, Ints, Ints]:
    """Find which runs meet vertically: the beginnings of runs in both rows together cut the lower row into spans."""
    in_first_row, in_last_row = np.searchsorted(start, [cols, (rows - 1) * cols])
    # Two sorted lists in one sort, which only merges them; the last bit is the row of a beginning.
    merged = np.concatenate([(start[:in_last_row] + cols) * 2, start[in_first_row:] * 2 + 1])
    merged.sort(kind="stable")
    at, from_lower = merged >> 1, (merged & 1).astype(bool)
    last = np.append(at[1:] != at[:-1], True) if len(at) else np.zeros(0, bool)
    upper = np.cumsum(~from_lower)[last] - 1
    lower = np.cumsum(from_lower)[last] - 1 + in_first_row
    at = at[last]
    return upper, lower, at, np.diff(at, append=rows * cols)


def _components(count: int, first: Ints, second: Ints) -> tuple[int, Ints]:
    """Number the connected parts of a graph in the order of their first nodes; return how many, and each node's."""
    graph = coo_array((np.ones(len(first), np.int8), (first, second)), shape=(count, count)).tocsr()
    parts, label = connected_components(graph, directed=False)
    return int(parts), np.asarray(label, np.int64)


def area_of_regions(regions: Regions, area_of_run: NDArray[np.float64]) -> NDArray[np.float64]:
    """Sum areas of runs, (runs,), by region, (regions,)."""
    return np.bincount(regions.of_run, area_of_run, len(regions)).astype(np.float64)


def contacts(regions: Regions) -> Contacts:
    """Return which regions with a class border on each other, with the lengths of common borders in pixel sides."""
    beside = np.flatnonzero(np.diff(regions.start // regions.shape[1]) == 0)  # runs followed by one in the same row
    a = regions.of_run[np.concatenate([regions.upper, beside])]
    b = regions.of_run[np.concatenate([regions.lower, beside + 1])]
    length = np.concatenate([regions.span_length, np.ones(len(beside), np.int64)])
    kept = (a != b) & (regions.classes[a] != IGNORE) & (regions.classes[b] != IGNORE)
    return sum_contacts(len(regions), a[kept], b[kept], length[kept])


def sum_contacts(count: int, a: Ints, b: Ints, length_px: Ints) -> Contacts:
    """Return sorted pairs of `count` regions, with the summed lengths of pairs that occur more than once."""
    table = coo_array((length_px, (np.minimum(a, b), np.maximum(a, b))), shape=(count, count)).tocsr()
    table.sum_duplicates()
    pairs = table.tocoo()
    return Contacts(pairs.row.astype(np.int64), pairs.col.astype(np.int64), pairs.data.astype(np.int64))


def merge_small(classes: NDArray[np.uint8], area: NDArray[np.float64], met: Contacts, minimum: float) -> Merged:
    """Merge regions below a minimum area with neighbours, until none is left.

    A small region takes the class of the neighbour with the longest common border (of equal ones the larger), and
    merges with all neighbours of that class. Each round merges the regions that are smaller than all small neighbours,
    so that regions that together exceed the minimum stay.

    Land stays as it is: it does not count as a neighbour, and may have any area.

    Parameters
    ----------
    classes, area
        Class and area of each region, (regions,); `area` in the unit of `minimum`.
    met
        Common borders of regions with a class.
    minimum
        Smallest area that is kept.
    """
    group = np.arange(len(classes))
    classes, area = classes.copy(), area.copy()
    alive = classes != IGNORE
    sea = (classes[met.first] != LAND) & (classes[met.second] != LAND)
    met = Contacts(met.first[sea], met.second[sea], met.length_px[sea])
    while True:
        small = alive & (area < minimum) & (classes != LAND)
        if not small.any():
            break
        a, b = np.concatenate([met.first, met.second]), np.concatenate([met.second, met.first])
        length = np.concatenate([met.length_px, met.length_px])
        connected = np.zeros(len(classes), bool)
        connected[a] = True
        alive &= ~small | connected
        smaller_first = (area[b] < area[a]) | ((area[b] == area[a]) & (b < a))
        goes = small & connected
        goes[a[small[b] & smaller_first]] = False
        if not goes.any():
            break
        from_going = goes[a]
        a, b, length = a[from_going], b[from_going], length[from_going]
        order = np.lexsort([-b, area[b], length, a])  # the best neighbour of each region comes last
        best = order[np.append(a[order][1:] != a[order][:-1], True)]
        classes[a[best]] = classes[b[best]]
        same = classes[a] == classes[b]
        count, part = _components(len(classes), a[same], b[same])
        group = part[group]
        area = np.bincount(part, area, count).astype(np.float64)
        classes_of_parts, alive_parts = np.empty(count, np.uint8), np.empty(count, bool)
        classes_of_parts[part], alive_parts[part] = classes, alive
        classes, alive = classes_of_parts, alive_parts
        first, second = part[met.first], part[met.second]
        apart = first != second
        met = sum_contacts(count, first[apart], second[apart], met.length_px[apart])
    number = np.where(alive, np.cumsum(alive) - 1, -1)
    return Merged(number[group], classes[alive], area[alive])
