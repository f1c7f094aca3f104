"""Polygons from borders: a coverage without gaps and overlaps, checked, with no polygon below the minimum area.

Borders are simplified one by one, so two of them may cross, or one may pass over a small region. GEOS finds this
afterwards: it checks each polygon, and all of them as a coverage, and the borders of those that fail are drawn again
closer to the pixels. The last resort, the sides of pixels themselves, is always valid. Areas are kept in the same way:
where a region or a class changes its area too much, its borders are drawn closer.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import shapely
from affine import Affine
from numpy.typing import NDArray

from floemap.errors import ChartError
from floemap.icechart.draw.region_borders import (
    MIDDLES_OFF_PX,
    OUTSIDE,
    Borders,
    Floats,
    Lines,
    area_along,
    area_by_owner,
    simplified,
    some,
)
from floemap.icechart.draw.regions import Contacts, Ints, Merged, merge_small, sum_contacts
from floemap.icechart.reproject import Polygons

#: Greatest change of area, as a share: of a class, and of a region.
CLASS_AREA_CHANGE = 0.004
REGION_AREA_CHANGE = 0.05

# Shares of the tolerance to try one after the other; after the last, borders follow the sides of pixels.
_SHARES = np.array([1, 0.5, 0.25])
_EXACT = len(_SHARES)


@dataclass(frozen=True)
class Outlines:
    """Polygons of regions.

    Attributes
    ----------
    polygons
        Polygons in map coordinates, (polygons,).
    merged
        The regions in each polygon, its class, and its area in square kilometres.
    redrawn
        Number of borders that had to be drawn closer than the tolerance.
    """

    polygons: Polygons
    merged: Merged
    redrawn: int


def draw_outlines(
    borders: Borders,
    classes: NDArray[np.uint8],
    transform: Affine,
    km2_per_px: Floats,
    *,
    tolerance_px: float,
    minimum_km2: float,
) -> Outlines:
    """Draw the polygons of all regions with a class.

    Parameters
    ----------
    borders
        Borders of all regions.
    classes, km2_per_px
        Class, and area of a pixel, of each region with a class, (faces,).
    transform
        Transform from pixels to the map.
    tolerance_px
        Greatest distance of borders from the sides of pixels; below
        :data:`~floemap.icechart.draw.region_borders.MIDDLES_OFF_PX` they follow these exactly.
    minimum_km2
        Regions whose polygon would be smaller become part of a neighbour, or are left out if they have none.

    Raises
    ------
    ChartError
        If `transform` is so flat or skew that not even the sides of pixels make valid polygons.
    """
    corners = borders.corners()
    before = area_of_faces(borders, corners)
    drawing = _Drawing(borders, corners, tolerance_px)
    met = _contacts(borders)
    while True:
        area = area_of_faces(borders, drawing.lines)
        wrong = _changed(area, before, classes)
        if not wrong.any():
            merged = merge_small(classes, area * km2_per_px, met, minimum_km2)
            polygons, bad = _polygons(borders, drawing.lines, transform, merged)
            if not bad.any():
                return Outlines(polygons, merged, drawing.redrawn)
            wrong = bad[merged.group] & (merged.group >= 0)
        drawing.closer(wrong)


class _Drawing:
    """The borders as drawn so far."""

    def __init__(self, borders: Borders, corners: Lines, tolerance_px: float) -> None:
        self.borders, self.corners = borders, corners
        self.tolerance_px = tolerance_px - MIDDLES_OFF_PX
        exact = self.tolerance_px < 0
        self.level = np.full(len(borders), _EXACT if exact else 0)
        self.lines = corners if exact else simplified(borders, np.full(len(borders), self.tolerance_px))
        self.redrawn = 0

    def closer(self, faces: NDArray[np.bool_]) -> None:
        """Draw the borders of some faces closer to the pixels, or all borders if these cannot be drawn closer."""
        chosen = np.append(faces, False)  # the last for the outside
        which = np.flatnonzero((chosen[self.borders.left] | chosen[self.borders.right]) & (self.level < _EXACT))
        if not len(which):
            which = np.flatnonzero(self.level < _EXACT)
        if not len(which):
            raise ChartError("the grid's pixels do not make valid polygons.", hint="Check the transform of the grid.")
        self.redrawn += int(np.count_nonzero(self.level[which] == 0))
        self.level[which] += 1
        self.lines = self.lines.copy()
        exact = which[self.level[which] == _EXACT]
        self.lines[exact] = self.corners[exact]
        finer = which[self.level[which] < _EXACT]
        if len(finer):
            self.lines[finer] = simplified(some(self.borders, finer), self.tolerance_px * _SHARES[self.level[finer]])


def area_of_faces(borders: Borders, lines: Lines) -> Floats:
    """Return the area in square pixels that the lines enclose for each region with a class, (faces,)."""
    along = area_along(lines)
    size = borders.faces + 1
    left = np.bincount(borders.left + 1, along, size)
    return np.asarray((left - np.bincount(borders.right + 1, along, size))[1:])


def _changed(area: Floats, before: Floats, classes: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Return which regions changed their area too much, by themselves or as part of their class."""
    off = np.abs(area - before)
    change = np.bincount(classes, area - before) / np.maximum(np.bincount(classes, before), 1)
    too_much = np.abs(change) > CLASS_AREA_CHANGE
    wrong: NDArray[np.bool_] = off > np.where(too_much[classes], CLASS_AREA_CHANGE, REGION_AREA_CHANGE) * before
    return wrong


def _contacts(borders: Borders) -> Contacts:
    """Return which regions with a class border on each other, and the lengths of their common borders."""
    step = np.abs(borders.head - borders.tail)
    length = np.add.reduceat(np.where(borders.direction % 2, 1, step), borders.first[:-1])
    both = (borders.left != OUTSIDE) & (borders.right != OUTSIDE)
    return sum_contacts(borders.faces, borders.left[both], borders.right[both], length[both])


def _polygons(borders: Borders, lines: Lines, transform: Affine, merged: Merged) -> tuple[Polygons, NDArray[np.bool_]]:
    """Assemble polygons, (polygons,), and return which of them are not valid, alone or in the coverage."""
    count = len(merged.classes)
    group = np.append(merged.group, OUTSIDE)  # the last for the outside
    joined = replace(borders, left=group[borders.left], right=group[borders.right])
    halves, first, face = _rings(joined)
    xy, start = _along_rings(lines, halves, first)
    area = area_by_owner(xy, np.repeat(np.arange(len(face)), np.diff(start)), len(face))
    sound = np.diff(start) >= 4
    # A region has one outer ring; all others are holes.
    outer = np.bincount(face[sound & (area > 0)], minlength=count)
    bad = (outer != 1) | (np.bincount(face[~sound | (area == 0)], minlength=count) > 0)
    if bad.any():
        return np.zeros(0, object), bad
    order = np.lexsort([area < 0, face])
    a, b, c, d, e, f = tuple(transform)[:6]
    on_map = np.stack([a * xy[:, 0] + b * xy[:, 1] + c, d * xy[:, 0] + e * xy[:, 1] + f], axis=-1)
    ring_start = np.concatenate([[0], np.cumsum(np.diff(start)[order])])
    take = np.repeat(start[:-1][order] - ring_start[:-1], np.diff(ring_start)) + np.arange(ring_start[-1])
    rings_before = np.concatenate([[0], np.cumsum(np.bincount(face, minlength=count))])
    polygons = shapely.from_ragged_array(shapely.GeometryType.POLYGON, on_map[take], (ring_start, rings_before))
    bad = ~shapely.is_valid(polygons)
    if not bad.any() and not shapely.coverage_is_valid(polygons):
        bad = ~shapely.is_empty(shapely.coverage_invalid_edges(polygons))
    return np.asarray(polygons), bad


def _rings(borders: Borders) -> tuple[Ints, Ints, Ints]:
    """Find the rings around regions, with the region on the left.

    Borders with the same region on both sides are left out. Returns the half borders (2 x border in its direction,
    2 x border + 1 against it) ring by ring, the index of each ring's first and at the end their number, and each ring's
    region.

    At a node the ring takes the leftmost turn, which stays at one region where others touch it at a corner. A ring that
    passes a node twice is cut in two there: polygons may touch themselves at a point, but a ring may not.
    """
    present = np.flatnonzero(borders.left != borders.right)
    has_node = borders.from_node >= 0
    at_node = np.full((int(max(borders.from_node.max(initial=-1), borders.to_node.max(initial=-1))) + 1, 4), -1)
    ended = present[has_node[present]]
    back = (borders.arriving + 2) % 4
    at_node[borders.from_node[ended], borders.leaving[ended]] = 2 * ended
    at_node[borders.to_node[ended], back[ended]] = 2 * ended + 1
    # By half border: the node where it ends, and its direction there.
    to_node = np.stack([borders.to_node, borders.from_node], axis=1).ravel()
    heading = np.stack([borders.arriving, (borders.leaving + 2) % 4], axis=1).ravel()
    following = np.arange(2 * len(borders))
    open_ended = np.flatnonzero(to_node >= 0)
    node, towards = to_node[open_ended], heading[open_ended]
    turned = np.stack([at_node[node, (towards + turn) % 4] for turn in (1, 0, 3)], axis=1)
    following[open_ended] = turned[np.arange(len(turned)), (turned >= 0).argmax(axis=1)]
    face_of_half = np.stack([borders.left, borders.right], axis=1).ravel()
    used = np.stack([present * 2, present * 2 + 1], axis=1).ravel()
    used = used[face_of_half[used] != OUTSIDE]
    halves, first = _closed_walks(used.tolist(), following.tolist(), to_node[np.arange(2 * len(borders)) ^ 1].tolist())
    return halves, first, face_of_half[halves[first[:-1]]]


def _closed_walks(used: list[int], following: list[int], begins_at: list[int]) -> tuple[Ints, Ints]:
    """Follow each half border until the walk closes; cut walks where they reach a node for the second time."""
    seen = bytearray(len(following))
    halves: list[int] = []
    first = [0]
    for start in used:
        if seen[start]:
            continue
        path: list[int] = []
        place: dict[int, int] = {}
        half = start
        while not seen[half]:
            seen[half] = 1
            node = begins_at[half]
            if node in place:
                cut = place[node]
                halves += path[cut:]
                first.append(len(halves))
                for gone in path[cut:]:
                    del place[begins_at[gone]]
                del path[cut:]
            place[node] = len(path)
            path.append(half)
            half = following[half]
        halves += path
        first.append(len(halves))
    return np.array(halves, np.int64), np.array(first, np.int64)


def _along_rings(lines: Lines, halves: Ints, first: Ints) -> tuple[Floats, Ints]:
    """Return the vertices of closed rings, (n, 2), ring by ring, and where each begins, at the end their number."""
    xy, owner = shapely.get_coordinates(lines, return_index=True)
    size = np.bincount(owner, minlength=len(lines))
    begin = np.cumsum(size) - size
    border, against = halves // 2, halves % 2
    # Each line without its last vertex, with which the next begins; the last line of a ring with it, to close the ring.
    count = size[border] - 1
    count[first[1:] - 1] += 1
    start = np.concatenate([[0], np.cumsum(count)])
    step = np.repeat(np.where(against, -1, 1), count)
    origin = np.repeat(np.where(against, begin[border] + size[border] - 1, begin[border]), count)
    within = np.arange(start[-1]) - np.repeat(start[:-1], count)
    return xy[origin + step * within], start[first]
