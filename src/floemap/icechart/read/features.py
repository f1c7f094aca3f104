"""Content of a file of polygons: ids, columns, geometries. One form for all formats."""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import shapely
from numpy.typing import NDArray

from floemap.errors import ChartError
from floemap.grid import Box
from floemap.icechart.read.rings import areas_of

Floats = NDArray[np.float64]

_POLYGON, _MULTIPOLYGON, _COLLECTION = 3, 6, 7
#: Further types of Well-Known Binary with an area: a polygon whose edges may be arcs, several of these, a polyhedral
#: surface, a triangulated one, a triangle.
_CURVE_POLYGON, _SURFACES, _POLYHEDRAL, _TIN, _TRIANGLE = 10, 12, 15, 16, 17
_OTHERS = (_CURVE_POLYGON, _SURFACES, _POLYHEDRAL, _TIN, _TRIANGLE)
#: Types of rings of the first.
_STRAIGHT, _COMPOUND = 2, 9
_DEEPEST = 8
#: No position on a map is farther from its origin. Some files write the largest number for a missing position.
_FARTHEST = 1e12


@dataclass(frozen=True)
class Features:
    """Features of a file.

    Attributes
    ----------
    ids
        Numbers of the features in the file, (n,).
    columns
        Values as the file has them, by the file's names, (n,) each.
    geometries
        Shapely geometries, None where there is none, (n,). Polygons may be invalid, but rings are closed and positions
        finite.
    mended
        Features that were changed for this, (n,): a ring was closed, or positions that are not finite or rings of fewer
        than three positions were left out.
    """

    ids: NDArray[np.int64]
    columns: Mapping[str, Sequence[Any]]
    geometries: NDArray[Any]
    mended: NDArray[np.bool_]

    def within(self, box: Box | None) -> Features:
        """Return the features whose geometry may reach into a box; all of them if it is None."""
        if box is None:
            return self
        west, south, east, north = box
        left, bottom, right, top = shapely.bounds(self.geometries).T
        keep = np.flatnonzero((left <= east) & (right >= west) & (bottom <= north) & (top >= south))
        columns = {name: [values[int(i)] for i in keep] for name, values in self.columns.items()}
        return Features(self.ids[keep], columns, self.geometries[keep], self.mended[keep])

    def with_area(self) -> tuple[NDArray[np.intp], NDArray[Any]]:
        """Return the numbers of features with polygons, (k,), and these as polygons and multipolygons, (k,).

        They may be invalid.
        """
        kind = shapely.get_type_id(self.geometries)
        rows = np.flatnonzero(np.isin(kind, (_POLYGON, _MULTIPOLYGON, _COLLECTION)))
        polygons = self.geometries[rows]
        for i in np.flatnonzero(kind[rows] == _COLLECTION):
            polygons[i] = areas_of(polygons[i])
        full = ~shapely.is_empty(polygons)
        return rows[full], polygons[full]


def from_wkb(ids: NDArray[np.int64], columns: Mapping[str, Sequence[Any]], blobs: Sequence[bytes | None]) -> Features:
    """Make features from geometries in Well-Known Binary, None where there is none. Only geometries with an area stay.

    Raises
    ------
    ChartError
        If geometries are damaged or have curved edges; the message names the features.
    """
    types = [0 if blob is None else _type(blob, feature) for blob, feature in zip(blobs, ids, strict=True)]
    geometries = np.full(len(blobs), None, object)
    mended = np.zeros(len(blobs), np.bool_)
    areas = np.flatnonzero(np.isin(types, (_POLYGON, _MULTIPOLYGON, _COLLECTION)))
    with np.errstate(invalid="ignore"):  # positions that are not finite
        try:
            geometries[areas] = shapely.from_wkb([blobs[int(i)] for i in areas], on_invalid="ignore")
        except NotImplementedError:
            raise _curved("a collection") from None
    xy, owner = shapely.get_coordinates(geometries, return_index=True)
    strange = owner[~(np.abs(xy) < _FARTHEST).all(axis=1)]
    others = np.flatnonzero(np.isin(types, _OTHERS))
    curved, damaged = [], []
    for i in np.unique(np.concatenate([areas[shapely.is_missing(geometries[areas])], strange, others])):
        try:
            parts, _ = _read(memoryview(blobs[int(i)] or b""), 0, 0)
        except _ArcError:
            curved.append(int(ids[i]))
        except (struct.error, ValueError, IndexError):
            damaged.append(int(ids[i]))
        else:
            geometries[i], mended[i] = polygons_of(parts)
    if damaged:
        raise ChartError(f"{_named(damaged)}: {_THEIR[len(damaged) > 1]} damaged.", hint="Repair the chart.")
    if curved:
        raise _curved(_named(curved))
    return Features(ids, columns, geometries, mended)


#: Beginning of a sentence on the geometry of one feature, and of several.
_THEIR = ("its geometry is", "their geometries are")


def _named(ids: Sequence[int]) -> str:
    """Return features for a message, at most ten."""
    more = f" and {len(ids) - 10} more" if len(ids) > 10 else ""
    return f"polygon{'s' if len(ids) > 1 else ''} {', '.join(map(str, ids[:10]))}{more}"


class _ArcError(ValueError):
    """A ring has edges that are not straight."""


def _curved(what: str) -> ChartError:
    return ChartError(
        f"{what}: {'have' if what.startswith('polygons') else 'has'} edges that are arcs.",
        hint="Replace them by straight edges, for example with 'Segmentize by maximum distance' in QGIS.",
    )


def _type(blob: bytes, feature: int) -> int:
    """Return a geometry's type without its flags for heights and measures."""
    if len(blob) < 5 or blob[0] > 1:
        raise ChartError(f"polygon {feature}: its geometry is damaged.", hint="Repair the chart.")
    code: int = struct.unpack_from("<I" if blob[0] else ">I", blob, 1)[0]
    return (code & 0x0FFFFFFF) % 1000


def _read(blob: memoryview, at: int, depth: int) -> tuple[list[list[Floats]], int]:
    """Read one geometry; return the rings of its polygons, and its end."""
    kind, order, dimensions, at = _header(blob, at)
    if kind not in (_POLYGON, _MULTIPOLYGON, _COLLECTION, *_OTHERS) or depth > _DEEPEST:
        raise ValueError(f"type {kind} instead of a polygon")
    (count,) = struct.unpack_from(order + "I", blob, at)
    at += 4
    parts: list[list[Floats]] = []
    if kind not in (_POLYGON, _TRIANGLE, _CURVE_POLYGON):
        for _ in range(count):
            inner, at = _read(blob, at, depth + 1)
            parts += inner
        return parts, at
    rings = []
    for _ in range(count):
        ring, at = _ring(blob, at) if kind == _CURVE_POLYGON else _positions(blob, at, order, dimensions)
        rings.append(ring)
    return [rings], at


def _header(blob: memoryview, at: int) -> tuple[int, str, int, int]:
    """Return a geometry's type, byte order, numbers for each position, and where its content begins."""
    order = "<" if blob[at] else ">"
    code: int = struct.unpack_from(order + "I", blob, at + 1)[0]
    extra = (code & 0x0FFFFFFF) // 1000  # 1: heights, 2: measures, 3: both; PostGIS has bits for them
    dimensions = 2 + ((extra in (1, 3)) or bool(code & 0x80000000)) + ((extra in (2, 3)) or bool(code & 0x40000000))
    return (code & 0x0FFFFFFF) % 1000, order, dimensions, at + 5 + (4 if code & 0x20000000 else 0)


def _positions(blob: memoryview, at: int, order: str, dimensions: int) -> tuple[Floats, int]:
    """Read counted positions without heights and measures, (m, 2); return their end, too."""
    (points,) = struct.unpack_from(order + "I", blob, at)
    values = np.frombuffer(blob, order + "f8", points * dimensions, at + 4)
    return values.reshape(points, dimensions)[:, :2].astype(np.float64), at + 4 + values.nbytes


def _ring(blob: memoryview, at: int) -> tuple[Floats, int]:
    """Read a ring that has a type, (m, 2), and must have straight edges; return its end, too."""
    kind, order, dimensions, at = _header(blob, at)
    if kind == _STRAIGHT:
        return _positions(blob, at, order, dimensions)
    if kind != _COMPOUND:
        raise _ArcError
    (count,) = struct.unpack_from(order + "I", blob, at)
    at += 4
    pieces = []
    for _ in range(count):
        inner, order, dimensions, start = _header(blob, at)
        if inner != _STRAIGHT:
            raise _ArcError
        piece, at = _positions(blob, start, order, dimensions)
        pieces.append(piece)
    ring = np.concatenate(pieces)
    return ring[np.r_[True, (np.diff(ring, axis=0) != 0).any(axis=1)]], at


def polygons_of(parts: Sequence[Sequence[Floats]]) -> tuple[Any, bool]:
    """Make a polygon or multipolygon from rings, (m, 2) each; the first of each part is its shell.

    Open rings are closed. Positions that are not finite are left out, and so are rings of fewer than three positions,
    which have no area.

    Returns
    -------
    tuple
        The geometry, None if no ring is left, and whether anything was changed.
    """
    sound = [[c for ring in rings if (c := _sound(ring)) is not None] for rings in parts]
    shells: list[list[Any]] = [[shapely.linearrings(ring) for ring in rings] for rings in sound if rings]
    made = [shapely.polygons(shell, holes or None) for shell, *holes in shells]
    # A sound ring is the same array.
    changed = any(list(map(id, given)) != list(map(id, kept)) for given, kept in zip(parts, sound, strict=True))
    if len(made) > 1:
        return shapely.multipolygons(made), changed
    return (made[0] if made else None), changed


def _sound(ring: Floats) -> Floats | None:
    """Return a sound ring unchanged, another one mended, or None if it has no area."""
    finite = (np.abs(ring) < _FARTHEST).all(axis=1)
    if not finite.all():
        ring = ring[finite]
    if len(np.unique(ring, axis=0)) < 3:
        return None
    return ring if (ring[0] == ring[-1]).all() else np.concatenate([ring, ring[:1]])
