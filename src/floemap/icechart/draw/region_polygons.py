"""Polygons from borders: a coverage without gaps and overlaps, checked, with nothing left below the minimum area.

Borders are simplified one by one, so two of them might cross, or one might pass over a small patch. That is not
prevented but found: the polygons are checked with GEOS, each by itself and all together as a coverage, and borders of
those that fail are drawn again closer to the pixels. The last resort, the sides of pixels themselves, is always right.
In the same way areas are kept: where a patch or a class changes its area too much, its borders are drawn closer.
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
    simplified,
    some,
)
from floemap.icechart.draw.regions import Contacts, Ints, Merged, merge_small, sum_contacts
from floemap.icechart.reproject import Polygons

#: A class keeps its area within this share, and a patch within that.
CLASS_AREA_CHANGE = 0.004
PATCH_AREA_CHANGE = 0.05

# Shares of the tolerance that are tried one after the other; after the last, the sides of pixels.
_SHARES = np.array([1, 0.5, 0.25])
_EXACT = len(_SHARES)


@dataclass(frozen=True)
class Outlines:
    """Polygons of patches.

    Attributes
    ----------
    polygons
        In map coordinates, (polygons,).
    merged
        Which patches each of them holds, their class, and their area in square kilometres.
    redrawn
        Borders that had to be drawn closer than the tolerance.
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
    """Draw the polygons of all patches with a class.

    Parameters
    ----------
    borders
        Borders of all regions.
    classes, km2_per_px
        Class, and area of a pixel, of each patch with a class, (faces,).
    transform
        From pixels to the map.
    tolerance_px
        How far borders may be moved; at less than :data:`~floemap.icechart.draw.region_borders.MIDDLES_OFF_PX` they
        follow the sides of pixels exactly.
    minimum_km2
        Patches whose polygon would be smaller go to a neighbour, or away where they have none.

    Raises
    ------
    ChartError
        If `transform` is so flat or skew that even the sides of pixels make no valid polygons.
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
    """Borders as drawn so far."""

    def __init__(self, borders: Borders, corners: Lines, tolerance_px: float) -> None:
        self.borders, self.corners = borders, corners
        self.tolerance_px = tolerance_px - MIDDLES_OFF_PX
        exact = self.tolerance_px < 0
        self.level = np.full(len(borders), _EXACT if exact else 0)
        self.lines = corners if exact else simplified(borders, np.full(len(borders), self.tolerance_px))
        self.redrawn = 0

    def closer(self, faces: NDArray[np.bool_]) -> None:
        """Draw the borders of some faces closer to the pixels; all borders, where these are as close as can be."""
        chosen = np.append(faces, False)  # last what is outside
        which = np.flatnonzero((chosen[self.borders.left] | chosen[self.borders.right]) & (self.level < _EXACT))
        if not len(which):
            which = np.flatnonzero(self.level < _EXACT)
        if not len(which):
            raise ChartError("the grid's pixels make no valid polygons.", hint="Is its transform right?")
        self.redrawn += int(np.count_nonzero(self.level[which] == 0))
        self.level[which] += 1
        self.lines = self.lines.copy()
        exact = which[self.level[which] == _EXACT]
        self.lines[exact] = self.corners[exact]
        finer = which[self.level[which] < _EXACT]
        if len(finer):
            self.lines[finer] = simplified(some(self.borders, finer), self.tolerance_px * _SHARES[self.level[finer]])


def area_of_faces(borders: Borders, lines: Lines) -> Floats:
    """Return the area in square pixels that the lines enclose for each patch with a class, (faces,)."""
    along = area_along(lines)
    size = borders.faces + 1
    left = np.bincount(borders.left + 1, along, size)
    return np.asarray((left - np.bincount(borders.right + 1, along, size))[1:])


def _changed(area: Floats, before: Floats, classes: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Say which patches changed their area too much, by themselves or as part of their class."""
    off = np.abs(area - before)
    change = np.bincount(classes, area - before) / np.maximum(np.bincount(classes, before), 1)
    too_much = np.abs(change) > CLASS_AREA_CHANGE
    wrong: NDArray[np.bool_] = off > np.where(too_much[classes], CLASS_AREA_CHANGE, PATCH_AREA_CHANGE) * before
    return wrong


def _contacts(borders: Borders) -> Contacts:
    """Return which patches with a class border on each other, and how far."""
    step = np.abs(borders.head - borders.tail)
    length = np.add.reduceat(np.where(borders.direction % 2, 1, step), borders.first[:-1])
    both = (borders.left != OUTSIDE) & (borders.right != OUTSIDE)
    return sum_contacts(borders.faces, borders.left[both], borders.right[both], length[both])


def _polygons(borders: Borders, lines: Lines, transform: Affine, merged: Merged) -> tuple[Polygons, NDArray[np.bool_]]:
    """Put polygons together, (polygons,), and say which are not valid by themselves or beside the others."""
    count = len(merged.classes)
    group = np.append(merged.group, OUTSIDE)  # last what is outside
    joined = replace(borders, left=group[borders.left], right=group[borders.right])
    halves, first, face = _rings(joined)
    xy, start = _along_rings(lines, halves, first)
    area = _cross_sum(xy, start)
    sound = np.diff(start) >= 4
    # A patch has one ring around it; all others are holes.
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
    """Find the rings around patches, the patch on the left.

    Borders with the same on both sides are left out. Returns the half borders (2 x border along it, 2 x border + 1
    against it) ring after ring, each ring's first and at the end their number, and its patch.

    At a node the leftmost turn is taken, which keeps to one patch where others touch it at a corner. A ring that comes
    through a node again is cut in two there: polygons may touch themselves at a point, but a ring may not.
    """
    present = np.flatnonzero(borders.left != borders.right)
    has_node = borders.from_node >= 0
    at_node = np.full((int(max(borders.from_node.max(initial=-1), borders.to_node.max(initial=-1))) + 1, 4), -1)
    ended = present[has_node[present]]
    back = (borders.arriving + 2) % 4
    at_node[borders.from_node[ended], borders.leaving[ended]] = 2 * ended
    at_node[borders.to_node[ended], back[ended]] = 2 * ended + 1
    # By half border: where it ends, and in which direction it comes there.
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
    """Follow each half border until it comes round; cut walks where they come to a node for the second time."""
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
    """Return the vertices ring after ring, closed, (n, 2), and each ring's first and at the end their number."""
    xy, owner = shapely.get_coordinates(lines, return_index=True)
    size = np.bincount(owner, minlength=len(lines))
    begin = np.cumsum(size) - size
    border, against = halves // 2, halves % 2
    # Each line without its last vertex, which the next begins with; the last of a ring with it, to close.
    count = size[border] - 1
    count[first[1:] - 1] += 1
    start = np.concatenate([[0], np.cumsum(count)])
    step = np.repeat(np.where(against, -1, 1), count)
    origin = np.repeat(np.where(against, begin[border] + size[border] - 1, begin[border]), count)
    within = np.arange(start[-1]) - np.repeat(start[:-1], count)
    return xy[origin + step * within], start[first]


def _cross_sum(xy: Floats, start: Ints) -> Floats:
    """Return the areas of closed rings, positive where they go counterclockwise as one sees them, y down."""
    ring = np.repeat(np.arange(len(start) - 1), np.diff(start))
    within = ring[1:] == ring[:-1]
    cross = xy[:-1, 0] * xy[1:, 1] - xy[:-1, 1] * xy[1:, 0]
    return np.bincount(ring[1:][within], -cross[within] / 2, len(start) - 1).astype(np.float64)
