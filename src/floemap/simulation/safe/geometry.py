"""Geometry of a simulated scene: closed-form, exact in both directions, at the poles and across the dateline too.

The satellite flies a circle in the earth-fixed frame. In the frame of the scene's centre direction c, its heading t and
the vector n to the right of it (unit vectors from the earth's centre), two angles define a direction, s along and r
across the flight:

    d(s, r) = cos r (cos s c + sin s t) + sin r n.

A pixel is where that direction meets the WGS84 ellipsoid; the satellite is on d(s, r0). All directions of one s are in
a plane through the earth's centre across the flight: the zero-Doppler plane. So each line is acquired at one time, the
range-Doppler equations hold exactly, and poles and dateline are not special. Angles are distances divided by the
earth's radius at the scene's centre; spacings on the ground differ from the nominal ones by 0.1 % or less.

Incidence follows from ground range as on a sphere, scaled so that it spans the specified angles on any scene; times and
slant ranges follow from the orbit and the ellipsoid alone.
"""

from __future__ import annotations

from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike, NDArray

from floemap.simulation.safe.spec import ProductSpec

F64 = NDArray[np.float64]

WGS84_A_M, WGS84_B_M = 6378137.0, 6356752.314245
SPEED_OF_LIGHT_M_S = 299792458.0
ORBIT_RADIUS_M = 7.0658e6
#: Ground radius under the line of sight, for incidence and slant range.
GROUND_RADIUS_M = 6.3585e6


class Geometry:
    """Closed-form image geometry of a specification."""

    def __init__(self, spec: ProductSpec) -> None:
        self.spec = spec
        lon, geodetic = np.radians([spec.centre_lon, spec.centre_lat])
        heading = np.radians(spec.heading_deg)
        lat = np.arctan2(WGS84_B_M**2 * np.sin(geodetic), WGS84_A_M**2 * np.cos(geodetic))
        east = np.array([-np.sin(lon), np.cos(lon), 0.0])
        north = np.array([-np.sin(lat) * np.cos(lon), -np.sin(lat) * np.sin(lon), np.cos(lat)])
        self._centre = np.array([np.cos(lat) * np.cos(lon), np.cos(lat) * np.sin(lon), np.sin(lat)])
        self._along = np.cos(heading) * north + np.sin(heading) * east
        self._right = -np.sin(heading) * north + np.cos(heading) * east
        self._step = spec.pixel_spacing_m / float(np.linalg.norm(_on_ellipsoid(self._centre)))

    def ground(self, line: ArrayLike, pixel: ArrayLike) -> F64:
        """Return earth-centred positions in metres, x, y, z on the last axis; `line` and `pixel` are broadcast."""
        s = (np.asarray(line, float) - (self.spec.lines - 1) / 2) * self._step
        r = (np.asarray(pixel, float) - (self.spec.samples - 1) / 2) * self._step
        return _on_ellipsoid(self._direction(s, r))

    def _direction(self, s: F64, r: F64) -> F64:
        s, r = np.broadcast_arrays(s, r)
        s, r = s[..., None], r[..., None]
        return np.asarray(
            np.cos(r) * (np.cos(s) * self._centre + np.sin(s) * self._along) + np.sin(r) * self._right, float
        )

    def lonlat(self, line: ArrayLike, pixel: ArrayLike) -> tuple[F64, F64]:
        """Return longitude and geodetic latitude in degrees of positions in the image, broadcast."""
        x, y, z = np.moveaxis(self.ground(line, pixel), -1, 0)
        lat = np.arctan2(z * WGS84_A_M**2, np.hypot(x, y) * WGS84_B_M**2)
        return np.degrees(np.arctan2(y, x)), np.degrees(lat)

    def line_pixel(self, lon: ArrayLike, lat: ArrayLike) -> tuple[F64, F64]:
        """Return line and pixel of longitude and latitude in degrees: the inverse of :meth:`lonlat`."""
        lon, lat = np.broadcast_arrays(np.radians(lon), np.radians(lat))
        across, up = WGS84_A_M**2 * np.cos(lat), WGS84_B_M**2 * np.sin(lat)
        d = np.stack([across * np.cos(lon), across * np.sin(lon), up], axis=-1)
        d /= np.linalg.norm(d, axis=-1, keepdims=True)
        s = np.arctan2(d @ self._along, d @ self._centre)
        r = np.arcsin(np.clip(d @ self._right, -1, 1))
        return s / self._step + (self.spec.lines - 1) / 2, r / self._step + (self.spec.samples - 1) / 2

    @cached_property
    def _central_angles(self) -> tuple[float, float]:
        """Angles at the earth's centre from the satellite's nadir to the near and the far edge, radians."""
        near, far = np.radians(self.spec.incidence_deg)
        ratio = GROUND_RADIUS_M / ORBIT_RADIUS_M
        return float(near - np.arcsin(ratio * np.sin(near))), float(far - np.arcsin(ratio * np.sin(far)))

    def _central_angle(self, pixel: ArrayLike) -> F64:
        near, far = self._central_angles
        return near + np.asarray(pixel, float) / (self.spec.samples - 1) * (far - near)

    def incidence_deg(self, pixel: ArrayLike) -> F64:
        """Return the angle between line of sight and normal of the ellipsoid, degrees; the same on every line."""
        g = self._central_angle(pixel)
        up = ORBIT_RADIUS_M * np.cos(g) - GROUND_RADIUS_M
        return np.asarray(np.degrees(np.arctan2(ORBIT_RADIUS_M * np.sin(g), up)))

    def slant_range_m(self, line: ArrayLike, pixel: ArrayLike) -> F64:
        """Return the distance from the satellite at the time of the line, metres."""
        satellite, _ = self.orbit(np.asarray(line, float) * self.spec.line_interval_s)
        return np.asarray(np.linalg.norm(self.ground(line, pixel) - satellite, axis=-1))

    @property
    def _orbit_offset(self) -> float:
        return -float(self._central_angle((self.spec.samples - 1) / 2))

    def elevation_deg(self, pixel: ArrayLike) -> F64:
        """Return the angle at the satellite between nadir and line of sight, degrees."""
        return self.incidence_deg(pixel) - np.degrees(self._central_angle(pixel))

    def orbit(self, seconds: ArrayLike) -> tuple[F64, F64]:
        """Return the earth-fixed position (m) and velocity (m/s) of the satellite, `seconds` after the first line.

        Returns
        -------
        Two arrays of shape (..., 3).
        """
        rate = self._step / self.spec.line_interval_s
        s = np.asarray(seconds, float) * rate - (self.spec.lines - 1) / 2 * self._step
        offset = self._orbit_offset
        position = ORBIT_RADIUS_M * self._direction(s, np.asarray(offset))
        s = s[..., None]
        direction = np.cos(offset) * (np.cos(s) * self._along - np.sin(s) * self._centre)
        return position, ORBIT_RADIUS_M * rate * direction


def _on_ellipsoid(direction: F64) -> F64:
    """Return where directions from the earth's centre, (..., 3), meet the ellipsoid."""
    scaled = direction / np.array([WGS84_A_M, WGS84_A_M, WGS84_B_M])
    return np.asarray(direction / np.linalg.norm(scaled, axis=-1, keepdims=True))
