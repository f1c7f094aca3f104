"""Merging of small areas into those that an analyst would draw: as little information lost per border as possible.

An area holds a mixture of classes. Two areas drawn as one lose the information in which of them a place lies: the
Jensen-Shannon divergence of their mixtures, weighted by their areas. The price of keeping it is their common border,
which someone has to draw, read and correct. So pairs are merged in the order of the information lost per length of
common border, until each border that is left is worth its length. Each merger reduces the sum of the lost information
and a constant times the length of all borders (the functional of D. Mumford and J. Shah, 1989, with the likelihood of
mixtures in place of squared differences).
"""

from __future__ import annotations

import heapq

import numpy as np
from numpy.typing import NDArray

from floemap.icechart.draw.regions import Contacts, Ints
from floemap.icechart.draw.zonal_means import Floats


def merge_areas(
    amounts: Floats, met: Contacts, side_km: float, *, worth_km: float, smallest_km2: float, most: int
) -> Ints:
    """Merge neighbouring areas.

    Parameters
    ----------
    amounts
        Area of each class in each area, km2, (areas, K).
    met
        Pairs of neighbours, with the number of cell sides between them.
    side_km
        Length of a cell's side.
    worth_km
        Information, in nats times km2, that a kilometre of border must keep.
    smallest_km2
        Smaller areas are merged in any case, as long as they have a neighbour.
    most
        Largest number of areas that have a neighbour; if there are more, further ones are merged.

    Returns
    -------
    numpy.ndarray
        The merged area of each area, numbered from 0 in the order of their first areas, (areas,).
    """
    graph = _Graph(amounts, met, side_km)
    graph.merge(worth_km, most)
    graph.merge_small(smallest_km2)
    return np.unique(graph.roots(), return_inverse=True)[1]


def _information(amounts: Floats) -> float:
    """Return the entropy of a mixture times its area, nats times km2."""
    held = amounts[amounts > 0]
    return float(held.sum() * np.log(held.sum()) - (held * np.log(held)).sum()) if len(held) else 0.0


class _Graph:
    """Areas and their neighbours; merged areas have the number of the first one."""

    def __init__(self, amounts: Floats, met: Contacts, side_km: float) -> None:
        self.amounts = [row.copy() for row in amounts]
        self.entropy = [_information(row) for row in self.amounts]
        self.parent = list(range(len(amounts)))
        self.borders: list[dict[int, float]] = [{} for _ in self.amounts]
        for a, b, sides in zip(met.first.tolist(), met.second.tolist(), met.length_px.tolist(), strict=True):
            self.borders[a][b] = self.borders[b][a] = sides * side_km
        self.count = sum(bool(near) for near in self.borders)
        self.changes = [0] * len(self.amounts)
        self.waiting: list[tuple[float, int, int, int, int]] = []
        for a, near in enumerate(self.borders):
            for b in near:
                if a < b:
                    self._wait(a, b)

    def cost(self, a: int, b: int) -> float:
        """Return the information lost per length of border if two neighbours become one, km."""
        lost = _information(self.amounts[a] + self.amounts[b]) - self.entropy[a] - self.entropy[b]
        return max(lost, 0.0) / self.borders[a][b]

    def _wait(self, a: int, b: int) -> None:
        a, b = min(a, b), max(a, b)
        heapq.heappush(self.waiting, (self.cost(a, b), a, b, self.changes[a], self.changes[b]))

    def merge(self, worth_km: float, most: int) -> None:
        """Merge the cheapest pair until all borders are worth their length and there are at most `most` areas."""
        while self.waiting:
            cost, a, b, of_a, of_b = heapq.heappop(self.waiting)
            if (of_a, of_b) != (self.changes[a], self.changes[b]) or b not in self.borders[a]:
                continue  # one of them has changed since
            if cost >= worth_km and self.count <= most:
                return
            self._join(a, b)
            for near in sorted(self.borders[a]):
                self._wait(a, near)

    def merge_small(self, smallest_km2: float) -> None:
        """Merge each area below a minimum with the neighbour that costs least, the smallest area first."""
        small = [(float(self.amounts[i].sum()), i) for i in range(len(self.amounts)) if self.parent[i] == i]
        heapq.heapify(small)
        while small and small[0][0] < smallest_km2:
            area, i = heapq.heappop(small)
            if self.parent[i] != i or area != self.amounts[i].sum() or not self.borders[i]:
                continue
            best = min(self.borders[i], key=lambda near: (self.cost(i, near), near))
            kept = min(i, best)
            self._join(kept, max(i, best))
            heapq.heappush(small, (float(self.amounts[kept].sum()), kept))

    def _join(self, a: int, b: int) -> None:
        """Make the area `b` part of `a`."""
        self.parent[b] = a
        self.amounts[a] = self.amounts[a] + self.amounts[b]
        self.entropy[a] = _information(self.amounts[a])
        self.changes[a] += 1
        self.changes[b] += 1
        for near, length in self.borders[b].items():
            del self.borders[near][b]
            if near != a:
                self.borders[a][near] = self.borders[near][a] = self.borders[a].get(near, 0.0) + length
        self.borders[b] = {}
        self.count -= 1

    def roots(self) -> Ints:
        """Return the number of the merged area that each area belongs to."""
        root = list(self.parent)
        for i, parent in enumerate(root):
            root[i] = root[parent]  # the parent comes first, and is resolved
        return np.array(root, np.int64)


def neighbours(labels: NDArray[np.int64]) -> tuple[Ints, Ints]:
    """Return the labels on both sides of each cell side of a raster, (rows, cols), where they differ; -1 is outside."""
    pairs = [(labels[:, :-1], labels[:, 1:]), (labels[:-1], labels[1:])]
    a, b = (np.concatenate([pair[i].ravel() for pair in pairs]) for i in (0, 1))
    kept = (a != b) & (a >= 0) & (b >= 0)
    return a[kept], b[kept]
