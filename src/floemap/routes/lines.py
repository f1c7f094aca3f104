"""Lines on the earth between two waypoints, as positions with their distances along the ellipsoid WGS 84.

A rhumb line has a constant course: it is straight on Mercator's map, so longitude is linear in the isometric latitude.
A great circle, on the ellipsoid a geodesic, is the shortest line. A rhumb line to a pole is the meridian.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import pyproj
from numpy.typing import NDArray

from floemap.routes.reading import Leg, LineKind

Floats = NDArray[np.float64]

#: Default of legs whose file gives no kind of line: chart systems (ECDIS) draw and autopilots steer rhumb lines, and
#: RTZ has them as its default.
DEFAULT_LINE: LineKind = "rhumb"

_GEOD = pyproj.Geod(ellps="WGS84")
_ECCENTRICITY = math.sqrt(_GEOD.es)
#: Distance of positions along a line, and of those within some 550 km of a pole, where lines bend more.
_STEP_M, _POLAR_STEP_M, _POLAR_DEG = 1000.0, 250.0, 85.0
#: Beyond this latitude a rhumb line's end counts as the pole. Nearer to it, the sine of the latitude rounds to 1.
_AT_POLE_DEG = 90 - 1e-6
#: A rhumb line with less difference of latitude runs along a parallel.
_PARALLEL_DEG = 1e-8


@dataclass(frozen=True)
class Line:
    """A line: longitudes and latitudes, degrees, (n,), and their distance from its start, metres, (n,)."""

    lon: Floats
    lat: Floats
    along_m: Floats
    kind: LineKind

    @property
    def length_m(self) -> float:
        """Length, metres."""
        return float(self.along_m[-1])

    def at(self, distance_m: Floats) -> tuple[Floats, Floats]:
        """Return longitudes and latitudes, degrees, at distances from the start, metres."""
        last = np.clip(np.searchsorted(self.along_m, distance_m, side="right") - 1, 0, len(self.along_m) - 2)
        lon, lat = self.lon[last], self.lat[last]
        azimuth, _, _ = _GEOD.inv(lon, lat, self.lon[last + 1], self.lat[last + 1])
        lon, lat, _ = _GEOD.fwd(lon, lat, azimuth, distance_m - self.along_m[last])
        return np.asarray(lon), np.asarray(lat)


def line_of(leg: Leg, usual: LineKind = DEFAULT_LINE) -> Line:
    """Return the line of a leg, of the kind that its file gives, or else of the `usual` kind."""
    kind = leg.line or usual
    (lon0, lat0), (lon1, lat1) = leg.start, leg.end
    ends = max(abs(lat0), abs(lat1))
    if kind == "great-circle" or ends > _AT_POLE_DEG:
        n = max(math.ceil(_GEOD.inv(lon0, lat0, lon1, lat1)[2] / _STEP_M), 1)
        inner = _GEOD.npts(lon0, lat0, lon1, lat1, n - 1) if n > 1 else ()
        lon, lat = np.array([leg.start, *inner, leg.end], np.float64).T
    else:
        lon, lat = _rhumb(leg, _POLAR_STEP_M if ends > _POLAR_DEG else _STEP_M)
    _, _, parts = _GEOD.inv(lon[:-1], lat[:-1], lon[1:], lat[1:])
    return Line(lon, lat, np.concatenate([[0.0], np.cumsum(parts)]), kind)


def _rhumb(leg: Leg, step: float) -> tuple[Floats, Floats]:
    """Return positions of a rhumb line some `step` metres apart."""
    (lon0, lat0), (lon1, lat1) = leg.start, leg.end
    turn = (lon1 - lon0 + 180) % 360 - 180
    north = lat1 - lat0
    first, last = _isometric(np.array([lat0, lat1]))
    # The course by the isometric latitude; the length by a sphere, which is near enough to count steps.
    across = math.radians(turn)
    steepness = math.hypot(across, last - first)
    ratio = math.cos(math.radians((lat0 + lat1) / 2)) if abs(north) < 1e-3 else math.radians(north) / (last - first)
    n = max(math.ceil(_GEOD.a * abs(ratio) * steepness / step), 1)
    share = np.linspace(0, 1, n + 1)
    lat = lat0 + north * share
    if abs(north) > _PARALLEL_DEG:
        share = (_isometric(lat) - first) / (last - first)
    lon = (lon0 + turn * share + 180) % 360 - 180
    lon[0], lon[-1] = lon0, lon1
    return lon, lat


def _isometric(lat: Floats) -> Floats:
    """Return the isometric latitude of geodetic latitudes, degrees: Snyder, Map Projections (1987), equation 7-7."""
    sine = np.sin(np.radians(lat))
    return np.asarray(np.arctanh(sine) - _ECCENTRICITY * np.arctanh(_ECCENTRICITY * sine))
