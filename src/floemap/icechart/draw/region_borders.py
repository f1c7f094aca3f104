"""Borders between the regions of a class raster: traced once, so that both sides share every vertex.

A border runs along sides of pixels from node to node, or closes upon itself. Nodes are the corners of pixels where more
than two sides of borders meet, and the four corners of the raster. Whatever changes between its nodes, the two regions
beside a border share it, so there are no gaps and no slivers between them. :mod:`floemap.icechart.draw.region_polygons`
checks that polygons made of borders do not cross or cover each other.

Coordinates are (x, y) in pixels from the raster's upper left corner, x along columns, y down along rows.

Why own code: ``rasterio.features.shapes`` with ``shapely.coverage_simplify`` takes 3.8 times the processor time, and
does not limit the distance between a border and the pixels (``docs/benchmarks.md``, ``benchmarks/outlines.py``).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import shapely
from numpy.typing import NDArray

from floemap.icechart.draw.regions import Ints, Regions
from floemap.legend import IGNORE

#: Shapely line strings, (borders,).
Lines = NDArray[Any]
Floats = NDArray[np.float64]

#: The four directions, counterclockwise on a map with north up, and a step along each.
EAST, NORTH, WEST, SOUTH = range(4)
_STEP = np.array([[1, 0], [0, -1], [-1, 0], [0, 1]])
#: Number for the outside of all regions with a class.
OUTSIDE = -1

#: Borders through the middles of pixel sides cut corners: their greatest distance from the sides.
MIDDLES_OFF_PX = 0.25 * 2**0.5

# Share of the tolerance for leaving out vertices; the rest is for moving the others.
_LEAVING_OUT = 0.75
# Number of times that vertices are moved to restore the area beside a border; each leaves some percent of the error.
_ROUNDS = 3


@dataclass(frozen=True)
class Borders:
    """Traced borders. A border is a chain of sides; a side runs along one pixel or, horizontally, along several.

    Attributes
    ----------
    height, width
        Rows and columns of the raster plus two: corners are numbered y * width + x + width + 1.
    faces
        Number of regions with a class; they are numbered from 0 in the order of their first pixels.
    tail, head
        Corners where each side begins and ends, ordered by border, (sides,).
    direction
        Direction of each side, (sides,).
    first
        Index of each border's first side, and at the end the number of sides, (borders + 1,).
    left, right
        The regions to the left and right of each border in its direction, or :data:`OUTSIDE`, (borders,).
    from_node, to_node
        Node where each border begins and ends, -1 if it closes upon itself without one, (borders,).
    """

    height: int
    width: int
    faces: int
    tail: Ints
    head: Ints
    direction: Ints
    first: Ints
    left: Ints
    right: Ints
    from_node: Ints
    to_node: Ints

    def __len__(self) -> int:
        return len(self.left)

    @property
    def leaving(self) -> Ints:
        """Direction in which each border leaves its first node, (borders,)."""
        return self.direction[self.first[:-1]]

    @property
    def arriving(self) -> Ints:
        """Direction in which each border reaches its last node, (borders,)."""
        return self.direction[self.first[1:] - 1]

    def corners(self) -> Lines:
        """Return the borders exactly along the sides of pixels, with a vertex at each turn, (borders,)."""
        keys = np.insert(self.tail, self.first[1:], self.head[self.first[1:] - 1])
        xy = _position(keys, self.width)
        lines = shapely.linestrings(xy, indices=np.repeat(np.arange(len(self)), np.diff(self.first) + 1))
        return np.asarray(shapely.simplify(lines, 0, preserve_topology=False))


def _position(corner: Ints, width: int) -> Ints:
    y, x = np.divmod(corner, width)
    return np.stack([x - 1, y - 1], axis=-1)


def pad(classes: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Put one pixel without a class around a raster, which :func:`trace_borders` needs."""
    return np.pad(classes, 1, constant_values=IGNORE)


def trace_borders(regions: Regions) -> Borders:
    """Trace all borders between regions of a raster from :func:`pad`."""
    rows, width = regions.shape
    face = regions.number[regions.of_run]

    # Horizontal sides are between runs that meet vertically, vertical ones before every run but a row's first. The
    # region with the higher number is to the left, so that the sides of a border follow each other head to tail.
    above, below = face[regions.upper], face[regions.lower]
    horizontal = above != below
    above, below = above[horizontal], below[horizontal]
    at_left = regions.span_start[horizontal]
    at_right = at_left + regions.span_length[horizontal]
    beside = np.flatnonzero(np.diff(regions.start // width) == 0)
    west, east = face[beside], face[beside + 1]
    at_top = regions.start[beside + 1]
    at_bottom = at_top + width

    eastward, southward = above > below, east > west
    tail = np.concatenate([np.where(eastward, at_left, at_right), np.where(southward, at_top, at_bottom)])
    head = np.concatenate([np.where(eastward, at_right, at_left), np.where(southward, at_bottom, at_top)])
    direction = np.concatenate([np.where(eastward, EAST, WEST), np.where(southward, SOUTH, NORTH)])
    left = np.concatenate([np.maximum(above, below), np.maximum(west, east)])
    right = np.concatenate([np.minimum(above, below), np.minimum(west, east)])

    corner, sides_at = _sides_at_corners(at_left, at_right, at_top, at_bottom)
    is_node = (sides_at >= 0).sum(axis=1) > 2
    frame = np.array([width + 1, 2 * width - 1, (rows - 1) * width + 1, rows * width - 1])
    is_node |= np.isin(corner, frame)
    node = np.where(is_node, np.cumsum(is_node) - 1, -1)

    begins, ends = np.searchsorted(corner, tail), np.searchsorted(corner, head)
    # At other corners there are two sides: this one and the next.
    following = np.where(is_node[ends], -1, sides_at[ends].sum(axis=1) + 2 - np.arange(len(ends)))
    order, first = _walk(following, np.flatnonzero(is_node[begins]))
    start, end = order[first[:-1]], order[first[1:] - 1]
    return Borders(
        rows,
        width,
        int(np.count_nonzero(regions.classes != IGNORE)),
        tail[order],
        head[order],
        direction[order],
        first,
        left[start],
        right[start],
        node[begins[start]],
        node[ends[end]],
    )


def _sides_at_corners(at_left: Ints, at_right: Ints, at_top: Ints, at_bottom: Ints) -> tuple[Ints, Ints]:
    """Return the corners on borders, (corners,), and the side in each direction or -1, (corners, 4).

    Horizontal sides are numbered first. All four arguments are sorted, so that sorting all of them only merges them.
    """
    horizontal, vertical = len(at_left), len(at_top)
    numbers = {EAST: at_left, NORTH: at_bottom, WEST: at_right, SOUTH: at_top}
    keys = np.concatenate([4 * at + direction for direction, at in numbers.items()])
    keys.sort(kind="stable")
    of_key, towards = keys >> 2, keys & 3
    new = np.append(True, of_key[1:] != of_key[:-1]) if len(keys) else np.zeros(0, bool)
    place = np.cumsum(new) - 1
    sides = np.full((int(new.sum()), 4), -1, np.int64)
    for direction in numbers:
        count, offset = (horizontal, 0) if direction in (EAST, WEST) else (vertical, horizontal)
        sides[place[towards == direction], direction] = np.arange(count) + offset
    return of_key[new], sides


def _walk(following: Ints, starts: Ints) -> tuple[Ints, Ints]:
    """Follow the sides from each start to a node, then the closed chains; return the order and the offsets."""
    next_side = following.tolist()
    seen = bytearray(len(next_side))
    order: list[int] = []
    first = [0]

    def follow(starts: Ints) -> None:
        for side in starts.tolist():
            while side >= 0 and not seen[side]:
                seen[side] = 1
                order.append(side)
                side = next_side[side]
            if len(order) > first[-1]:
                first.append(len(order))

    follow(starts)
    follow(np.flatnonzero(np.frombuffer(seen, np.uint8) == 0))
    return np.array(order, np.int64), np.array(first, np.int64)


def some(borders: Borders, which: Ints) -> Borders:
    """Return some of the borders, in the given order."""
    count = np.diff(borders.first)[which]
    first = np.concatenate([[0], np.cumsum(count)])
    sides = np.repeat(borders.first[which] - first[:-1], count) + np.arange(first[-1])
    by_side = {name: getattr(borders, name)[sides] for name in ("tail", "head", "direction")}
    by_border = {name: getattr(borders, name)[which] for name in ("left", "right", "from_node", "to_node")}
    return replace(borders, first=first, **by_side, **by_border)


def simplified(borders: Borders, tolerance_px: Floats) -> Lines:
    """Draw borders with few vertices, within a tolerance, and with the same area on either side as before.

    First the steps of pixels go: a border leads through the middles of pixel sides, which keeps it within
    :data:`MIDDLES_OFF_PX`. Then vertices are left out (D. H. Douglas, T. K. Peucker, 1973). Each straight piece has cut
    off some area to its left and right; moving its ends sideways compensates the difference, and the rest is spread
    over the whole border. All vertices stay in the raster, and those on its edge stay there.

    Parameters
    ----------
    tolerance_px
        Greatest distance from there, in addition, (borders,).
    """
    xy, border = _through_middles(borders)
    lines = shapely.linestrings(np.column_stack([xy / 2, np.arange(len(xy))]), indices=border)
    lines = shapely.simplify(lines, _LEAVING_OUT * tolerance_px, preserve_topology=False)
    kept = shapely.get_coordinates(lines, include_z=True)[:, 2].astype(np.int64)  # z is the vertex's number
    far_corner = np.array([borders.width - 2, borders.height - 2])
    most = (1 - _LEAVING_OUT) * tolerance_px[border[kept]]
    most[((xy[kept] == 0) | (xy[kept] == 2 * far_corner)).any(axis=1)] = 0
    moved = np.clip(_balanced(xy, border, kept, area_along(borders.corners()), most), 0, far_corner)
    return np.asarray(shapely.linestrings(moved, indices=border[kept]))


def _through_middles(borders: Borders) -> tuple[Ints, Ints]:
    """Return vertices in half pixels, (n, 2), and their borders, (n,): nodes, and first and last middles of sides."""
    step = _STEP[borders.direction]
    tail, head = 2 * _position(borders.tail, borders.width), 2 * _position(borders.head, borders.width)
    points = np.stack([tail + step, head - step], axis=1)
    twice = np.stack([np.ones(len(tail), bool), np.abs(head - tail).sum(axis=1) > 2], axis=1)
    border = np.repeat(np.arange(len(borders)), np.diff(borders.first))
    open_ended = borders.from_node >= 0
    first, last = borders.first[:-1], borders.first[1:] - 1
    # A closed border ends where it began; others begin and end at nodes.
    ending = np.where(open_ended[:, None], head[last], points[first, 0])
    beginning, begun = tail[first[open_ended]], np.flatnonzero(open_ended)
    xy = np.concatenate([beginning, points[twice], ending])
    owner = np.concatenate([begun, np.repeat(border, 2).reshape(-1, 2)[twice], np.arange(len(borders))])
    order = np.argsort(owner, kind="stable")
    return xy[order], owner[order]


def area_along(lines: Lines) -> Floats:
    """Return the area, in square pixels, between each line and the origin: sums over rings are their areas.

    A ring that appears counterclockwise with y down has a positive area.
    """
    xy, owner = shapely.get_coordinates(lines, return_index=True)
    return area_by_owner(xy, owner, len(lines))


def area_by_owner(xy: Floats, owner: Ints, count: int) -> Floats:
    """Return the areas of :func:`area_along`, (count,), from vertices, (n, 2), and the number of their line, (n,)."""
    within = owner[1:] == owner[:-1]
    weights = -_cross(xy[:-1], xy[1:])[within] / 2
    return np.bincount(owner[1:][within], weights, count).astype(np.float64)


def _cross(a: NDArray[Any], b: NDArray[Any]) -> NDArray[Any]:
    cross: NDArray[Any] = a[:, 0] * b[:, 1] - a[:, 1] * b[:, 0]
    return cross


def _balanced(xy: Ints, border: Ints, kept: Ints, area: Floats, most: Floats) -> Floats:
    """Move kept vertices sideways so that the area along each border is `area`; return them in pixels, (kept, 2).

    `xy` and `border` are all vertices in half pixels and their borders. No vertex moves by more than `most`, (kept,),
    and nodes do not move.
    """
    owner, at = border[kept], xy[kept] / 2
    same = owner[1:] == owner[:-1]
    inner = np.zeros(len(kept), bool)
    inner[1:-1] = same[1:] & same[:-1]
    # Area between each straight piece and the vertices that it replaces, in square pixels; exact, from whole numbers.
    along = np.concatenate([[0], np.cumsum(_cross(xy[:-1], xy[1:]))])
    lost = np.where(same, np.diff(along[kept]) - _cross(xy[kept[:-1]], xy[kept[1:]]), 0) / 8
    share = lost / np.maximum(inner[1:].astype(int) + inner[:-1], 1)
    wanted = np.zeros(len(kept))
    wanted[1:] += share
    wanted[:-1] += share
    chord = np.zeros_like(at)
    chord[1:-1] = at[2:] - at[:-2]
    length = np.where(inner, np.hypot(chord[:, 0], chord[:, 1]), 0)
    movable = length > 1e-9
    sideways = np.zeros_like(at)
    sideways[movable] = np.stack([chord[movable, 1], -chord[movable, 0]], axis=1) / length[movable, None]
    shift = np.zeros(len(kept))
    shift[movable] = 2 * wanted[movable] / length[movable]
    total = np.bincount(owner, weights=length, minlength=len(area))
    for _ in range(_ROUNDS):
        shift = np.clip(shift, -most, most)
        now = at + shift[:, None] * sideways
        found = np.bincount(owner[1:][same], weights=-_cross(now[:-1], now[1:])[same] / 2, minlength=len(area))
        rest = np.divide(-2 * (area - found), total, out=np.zeros_like(area), where=total > 0)
        shift = np.where(movable, shift + rest[owner], 0)
    return at + np.clip(shift, -most, most)[:, None] * sideways
