"""Polygons of a map in longitude and latitude for web maps: cut at the dateline, closed around the pole.

RFC 7946 requires both: a polygon across the 180th meridian is cut in two there, and one that contains a pole gets an
edge along it. Edges are straight on the chart's map; those that would bend in degrees get further vertices, so that
none moves by more than a tolerance, by default a metre. A vertex or an edge exactly at a pole, which has no longitude,
is moved by a metre.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pyproj
import shapely
from numpy.typing import NDArray

from floemap.errors import ChartError
from floemap.icechart.read.rings import areas_of
from floemap.icechart.reproject import Polygons

Floats = NDArray[np.float64]

# Longest edge on the map, for a tolerance of a metre. Near a pole edges must be shorter to stay within the tolerance:
# parallels are circles there, and a chord of length l is l^2 / 8r off a circle of radius r.
_LONGEST_M = 2_000.0
_TOLERANCE_M = 1.0
_AT_POLE_M = 1.0
_OFF_POLE_M = np.array([0.9, 0.4])
# A tenth of a millimetre: positions that are equal must be equal after a whole turn, too.
_DIGITS = 9


def to_lonlat(polygons: Polygons, crs: pyproj.CRS, tolerance_m: float = _TOLERANCE_M) -> Polygons:
    """Return polygons of a map in metres in WGS84 longitude and latitude, degrees, (n,).

    Edges move by no more than `tolerance_m`. Longitudes are from -180 to 180. The result has polygons and
    multipolygons; exteriors go counterclockwise, holes clockwise.

    Raises
    ------
    ChartError
        If a vertex has no position on the earth, or a ring goes around it more than once.
    """
    to_earth = pyproj.Transformer.from_crs(crs, "EPSG:4326", always_xy=True)
    poles = [p for p in (_pole(to_earth, 90.0), _pole(to_earth, -90.0)) if p is not None]
    rings, of_ring = shapely.get_rings(polygons, return_index=True)
    xy, ring = _cut(_without_poles(rings, poles), poles, tolerance_m)
    lon, lat = to_earth.transform(xy[:, 0], xy[:, 1])
    if not (np.isfinite(lon).all() and np.isfinite(lat).all()):
        bad = xy[~(np.isfinite(lon) & np.isfinite(lat))][0]
        message = f"the vertex at {bad[0]:g}, {bad[1]:g} has no position on the earth."
        raise ChartError(message, hint="Check the CRS of the grid.")
    lon, turns = _continuous(lon, ring, len(rings))
    lonlat = np.column_stack([lon, lat]).round(_DIGITS)
    first = np.searchsorted(ring, np.arange(len(rings) + 1))
    lowest, highest = (f.reduceat(lon, first[:-1]) for f in (np.minimum, np.maximum))
    plain_ring = (turns == 0) & (lowest >= -180) & (highest <= 180)
    plain = np.bincount(of_ring, ~plain_ring, len(polygons)) == 0
    out = np.empty(len(polygons), object)
    kept = plain[of_ring[ring]]
    if plain.any():
        simple = shapely.linearrings(lonlat[kept], indices=np.unique(ring[kept], return_inverse=True)[1])
        owner = np.unique(of_ring[plain[of_ring]], return_inverse=True)[1]
        out[plain] = shapely.polygons(simple, indices=owner)
    for i in np.flatnonzero(~plain):
        regions = [_region(lonlat[first[r] : first[r + 1]], int(turns[r])) for r in np.flatnonzero(of_ring == i)]
        out[i] = shapely.difference(regions[0], shapely.union_all(regions[1:])) if regions[1:] else regions[0]
    return np.asarray(shapely.orient_polygons(out, exterior_cw=False))


def lonlat_bounds(lonlat: Polygons) -> tuple[float, float, float, float]:
    """Return west, south, east, north of polygons from :func:`to_lonlat`; west is greater than east over the dateline.

    Polygons all around the earth have -180 and 180.
    """
    parts = shapely.get_parts(lonlat)
    west, south, east, north = shapely.bounds(parts).T
    order = np.argsort(west)
    reach = np.maximum.accumulate(east[order])
    gaps = np.append(west[order][1:], west[order][0] + 360) - reach
    widest = int(gaps.argmax())  # the chart is outside the widest gap between longitudes
    if gaps[widest] <= 10.0**-_DIGITS:
        return -180.0, float(south.min()), 180.0, float(north.max())
    after = (widest + 1) % len(order)
    return float(west[order][after]), float(south.min()), float(reach[widest]), float(north.max())


def _pole(to_earth: pyproj.Transformer, latitude: float) -> Floats | None:
    """Return the position of a pole on the map, None if it has none."""
    at = np.array(to_earth.transform(0.0, latitude, direction=pyproj.enums.TransformDirection.INVERSE))
    back = to_earth.transform(*at) if np.isfinite(at).all() else (np.inf, np.inf)
    return at if abs(back[1] - latitude) < 1e-6 else None


def _without_poles(rings: Polygons, poles: list[Floats]) -> Polygons:
    """Move rings that go through a pole past it: all to the same side, so that neighbours still fit."""
    for pole in poles:
        near = shapely.dwithin(rings, shapely.points(pole), _AT_POLE_M)
        for i in np.flatnonzero(near):
            xy = shapely.get_coordinates(rings[i])
            xy[np.hypot(*(xy - pole).T) < _AT_POLE_M] = pole + _OFF_POLE_M
            close = _distance(pole, xy[:-1], xy[1:]) < _AT_POLE_M
            past = (xy == pole + _OFF_POLE_M).all(axis=1)
            close &= ~past[:-1] & ~past[1:]
            xy = np.insert(xy, np.flatnonzero(close) + 1, pole + _OFF_POLE_M, axis=0)
            rings[i] = shapely.linearrings(xy)
    return rings


def _distance(point: Floats, a: Floats, b: Floats) -> Floats:
    """Return the distances, (m,), of a point from the edges between `a` and `b`, (m, 2) each."""
    edge = b - a
    share = np.clip(((point - a) * edge).sum(axis=1) / np.maximum((edge**2).sum(axis=1), 1e-18), 0, 1)
    return np.asarray(np.hypot(*(a + share[:, None] * edge - point).T))


def _cut(rings: Polygons, poles: list[Floats], tolerance_m: float) -> tuple[Floats, NDArray[np.int64]]:
    """Return the rings' vertices, with further ones on long edges, (m, 2), and the ring of each, (m,).

    Edges are cut from their left (or lower) end, so that neighbours cut them alike.
    """
    xy, ring = shapely.get_coordinates(rings, return_index=True)
    a, b = xy[:-1], xy[1:]
    longest = np.full(len(a), _LONGEST_M * np.sqrt(tolerance_m / _TOLERANCE_M))
    for pole in poles:
        longest = np.minimum(longest, np.sqrt(8 * tolerance_m * np.maximum(_distance(pole, a, b), 0.1)))
    pieces = np.maximum(np.ceil(np.hypot(*(b - a).T) / longest), 1).astype(np.int64)
    pieces[ring[1:] != ring[:-1]] = 1
    edge = np.repeat(np.arange(len(a)), pieces)
    number = np.arange(len(edge)) - np.repeat(np.cumsum(pieces) - pieces, pieces)
    turned = (a[:, 0] > b[:, 0]) | ((a[:, 0] == b[:, 0]) & (a[:, 1] > b[:, 1]))
    low, high = np.where(turned[:, None], b, a), np.where(turned[:, None], a, b)
    share = np.where(turned[edge], pieces[edge] - number, number) / pieces[edge]
    cut = low[edge] + (high - low)[edge] * share[:, None]
    cut[number == 0] = a
    return np.concatenate([cut, xy[-1:]]), np.append(ring[:-1][edge], ring[-1])


def _continuous(lon: Floats, ring: NDArray[np.int64], rings: int) -> tuple[Floats, NDArray[np.int64]]:
    """Return longitudes without jumps along each ring, (m,), and the turns of each around the pole, (rings,)."""
    step = np.diff(lon, prepend=lon[:1])
    begins = np.diff(ring, prepend=-1) != 0
    step -= 360 * np.round(step / 360)
    step[begins] = 0
    run = np.cumsum(step)
    start = np.flatnonzero(begins)
    size = np.diff(np.append(start, len(lon)))
    moved = run - np.repeat(run[start], size)
    turns = np.round(moved[start + size - 1] / 360).astype(np.int64)
    if len(turns) != rings or (np.abs(turns) > 1).any():
        raise ChartError("a polygon goes around the earth more than once.", hint="Check the CRS of the grid.")
    # Shifted by whole turns instead of summed, so that longitudes stay the same to the last digit.
    whole = np.round((np.repeat(lon[start], size) + moved - lon) / 360)
    return lon + 360 * whole, turns


def _region(lonlat: Floats, turns: int) -> Any:
    """Return the area within a ring, from -180 to 180 degrees: a polygon or a multipolygon."""
    if turns:
        # Along a meridian to the pole and back, from the vertex nearest to the pole, so that nothing is in between.
        nearest = int(np.abs(lonlat[:, 1]).argmax())
        again = np.add(lonlat[1 : nearest + 1], [360.0 * turns, 0]).round(_DIGITS)
        lonlat = np.concatenate([lonlat[nearest:], again])
        pole = float(np.copysign(90, lonlat[0, 1]))
        lonlat = np.concatenate([lonlat, [[lonlat[-1, 0], pole], [lonlat[0, 0], pole], lonlat[0]]])
    region = shapely.polygons(lonlat)
    if not shapely.is_valid(region):  # from rounding: the ring on the map does not cross itself
        region = areas_of(shapely.make_valid(region, method="structure", keep_collapsed=False))
    west, _, east, _ = shapely.bounds(region)
    parts: list[Any] = []
    for turn in range(int(np.floor((west + 180) / 360)), int(np.ceil((east + 180) / 360))):
        window = shapely.box(360 * turn - 180, -90, 360 * turn + 180, 90)
        part = shapely.intersection(region, window)
        parts.append(shapely.transform(part, lambda xy, turn=turn: (xy - [360.0 * turn, 0]).round(_DIGITS)))
    return areas_of(shapely.union_all(parts))
