"""Patches of a class raster: connected pixels of one class, their neighbours, and the small ones given away.

A raster is taken apart into runs: stretches of one class within a row. Everything else (patches, who borders on whom
and how far) follows from the runs and from where they meet in the row below, so the cost goes with the length of the
borders and not with the number of pixels. Pixels are connected over their four sides; those that touch at a corner are
not.
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
class Patches:
    """A class raster taken apart.

    Attributes
    ----------
    shape
        (rows, cols) of the raster.
    start
        Position of each run's first pixel in the raveled raster, rising, (runs,). Runs end where the next begins.
    of_run
        The patch of each run, (runs,).
    classes
        Class of each patch, (patches,), in the order of their first pixels; pixels without a class form patches, too.
    upper, lower
        Runs that meet vertically, the second one row below the first, (spans,).
    span_start, span_length
        Position of the first pixel of each span in the lower row, and its pixels, (spans,).
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
        """Number of each patch among those with a class, -1 for the others, (patches,)."""
        has_class = self.classes != IGNORE
        return np.where(has_class, np.cumsum(has_class) - 1, -1)

    def painted(self, group: Ints, classes: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Return the raster with the class of each patch's group, given (patches,) and (groups,); none for group -1."""
        of_patch = np.append(classes, np.uint8(IGNORE))[group]
        return np.repeat(of_patch[self.of_run], self.run_length).reshape(self.shape)

    def __len__(self) -> int:
        return len(self.classes)


@dataclass(frozen=True)
class Contacts:
    """Pairs of patches with a class that have a border in common: each pair once, `first` before `second`."""

    first: Ints
    second: Ints
    length_px: Ints


@dataclass(frozen=True)
class Merged:
    """What became of patches when the small ones were given away.

    Attributes
    ----------
    group
        For each patch the number of what it is part of now, -1 where it was small and had no neighbour, (patches,).
    classes, area
        Class and area of each group, (groups,).
    """

    group: Ints
    classes: NDArray[np.uint8]
    area: NDArray[np.float64]


def find_patches(classes: NDArray[np.uint8]) -> Patches:
    """Take a class raster, (rows, cols), apart."""
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
    of_patch = np.empty(count, np.uint8)
    of_patch[of_run] = of_value
    return Patches((rows, cols), start, of_run, of_patch, upper, lower, span_start, span_length)


def _spans(start: Ints, rows: int, cols: int) -> tuple[Ints, Ints, Ints, Ints]:
    """Find which runs meet vertically: both rows' beginnings, laid over each other, cut the lower row into spans."""
    in_first_row, in_last_row = np.searchsorted(start, [cols, (rows - 1) * cols])
    # Two sorted lists in one sort, which only merges them; the last digit tells from which row a beginning is.
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


def area_of_patches(patches: Patches, area_of_run: NDArray[np.float64]) -> NDArray[np.float64]:
    """Sum areas of runs, (runs,), by patch, (patches,)."""
    return np.bincount(patches.of_run, area_of_run, len(patches)).astype(np.float64)


def contacts(patches: Patches) -> Contacts:
    """Return which patches with a class border on each other, and along how many sides of pixels."""
    beside = np.flatnonzero(np.diff(patches.start // patches.shape[1]) == 0)  # runs followed by one in the same row
    a = patches.of_run[np.concatenate([patches.upper, beside])]
    b = patches.of_run[np.concatenate([patches.lower, beside + 1])]
    length = np.concatenate([patches.span_length, np.ones(len(beside), np.int64)])
    kept = (a != b) & (patches.classes[a] != IGNORE) & (patches.classes[b] != IGNORE)
    return sum_contacts(len(patches), a[kept], b[kept], length[kept])


def sum_contacts(count: int, a: Ints, b: Ints, length_px: Ints) -> Contacts:
    """Return pairs of `count` patches in order, with the sum of the lengths of those given more than once."""
    table = coo_array((length_px, (np.minimum(a, b), np.maximum(a, b))), shape=(count, count)).tocsr()
    table.sum_duplicates()
    pairs = table.tocoo()
    return Contacts(pairs.row.astype(np.int64), pairs.col.astype(np.int64), pairs.data.astype(np.int64))


def merge_small(classes: NDArray[np.uint8], area: NDArray[np.float64], met: Contacts, minimum: float) -> Merged:
    """Give patches below a minimum area to neighbours, until none is left.

    A small patch takes the class of the neighbour with which it shares the longest border (of equal ones the larger),
    and becomes one with all neighbours of that class. In each round those patches are given away that are smaller than
    all small neighbours, so that what grows together to more than the minimum stays.

    Land stays as it is: it is no neighbour, and never too small.

    Parameters
    ----------
    classes, area
        Class and area of each region, (regions,); `area` in the unit of `minimum`.
    met
        Who borders on whom. Patches without a class must not be in it.
    minimum
        Patches of this area and larger are kept.
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
        order = np.lexsort([-b, area[b], length, a])  # of each patch, the best neighbour comes last
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
