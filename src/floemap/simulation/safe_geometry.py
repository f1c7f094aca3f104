"""Where a simulated scene lies: a closed-form geometry, exact both ways at the poles and across the dateline.

Directions of the surface normal (n-vectors) are used instead of longitude and latitude, so nothing is special anywhere.
The flight is a great circle of normals through the centre; a pixel lies on the great circle across it:

    n(s, r) = cos r (cos s c + sin s t) + sin r n,

with s and r the angles along and across the track, c the centre's normal, t the heading and n the right of it. Angles
are distances over the mean radius of curvature at the centre's latitude. Normals taken as geodetic latitude put the
scene on the WGS84 ellipsoid; spacings there differ from the nominal ones by 0.1 % in polar regions, 0.4 % at the
equator.

The satellite flies in the same frame, at a constant distance from the earth's centre and beside the scene's near edge.
Incidence follows from ground range as on a sphere, scaled so that it spans the wanted angles on any scene; times and
slant ranges follow from the orbit and the ellipsoid alone.
"""

from __future__ import annotations

from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike, NDArray

from floemap.simulation.safe_spec import ProductSpec

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
        e2 = 1 - (WGS84_B_M / WGS84_A_M) ** 2
        lon, lat, heading = np.radians([spec.centre_lon, spec.centre_lat, spec.heading_deg])
        w = 1 - e2 * np.sin(lat) ** 2
        self.radius_m = float(WGS84_A_M * np.sqrt(1 - e2) / w)  # Gaussian mean of both radii of curvature
        east = np.array([-np.sin(lon), np.cos(lon), 0.0])
        north = np.array([-np.sin(lat) * np.cos(lon), -np.sin(lat) * np.sin(lon), np.cos(lat)])
        self._centre = np.array([np.cos(lat) * np.cos(lon), np.cos(lat) * np.sin(lon), np.sin(lat)])
        self._along = np.cos(heading) * north + np.sin(heading) * east
        self._right = -np.sin(heading) * north + np.cos(heading) * east
        self._step = spec.pixel_spacing_m / self.radius_m

    def normals(self, line: ArrayLike, pixel: ArrayLike) -> F64:
        """Unit surface normals, earth-fixed x, y, z on the last axis; `line` and `pixel` are broadcast."""
        s = (np.asarray(line, float) - (self.spec.lines - 1) / 2) * self._step
        r = (np.asarray(pixel, float) - (self.spec.samples - 1) / 2) * self._step
        return self._frame(s, r)

    def _frame(self, s: F64, r: F64) -> F64:
        s, r = np.broadcast_arrays(s, r)
        s, r = s[..., None], r[..., None]
        return np.asarray(
            np.cos(r) * (np.cos(s) * self._centre + np.sin(s) * self._along) + np.sin(r) * self._right, float
        )

    def lonlat(self, line: ArrayLike, pixel: ArrayLike) -> tuple[F64, F64]:
        """Longitude and geodetic latitude in degrees of positions in the image, broadcast."""
        n = self.normals(line, pixel)
        return np.degrees(np.arctan2(n[..., 1], n[..., 0])), np.degrees(
            np.arctan2(n[..., 2], np.hypot(n[..., 0], n[..., 1]))
        )

    def line_pixel(self, lon: ArrayLike, lat: ArrayLike) -> tuple[F64, F64]:
        """Position in the image of longitude and latitude in degrees: the inverse of :meth:`lonlat`."""
        lon, lat = np.broadcast_arrays(np.radians(lon), np.radians(lat))
        n = np.stack([np.cos(lat) * np.cos(lon), np.cos(lat) * np.sin(lon), np.sin(lat)], axis=-1)
        s = np.arctan2(n @ self._along, n @ self._centre)
        r = np.arcsin(np.clip(n @ self._right, -1, 1))
        return s / self._step + (self.spec.lines - 1) / 2, r / self._step + (self.spec.samples - 1) / 2

    @cached_property
    def _central_angles(self) -> tuple[float, float]:
        """Angle at the earth's centre from the satellite's nadir to the near and the far edge."""
        near, far = np.radians(self.spec.incidence_deg)
        ratio = GROUND_RADIUS_M / ORBIT_RADIUS_M
        return float(near - np.arcsin(ratio * np.sin(near))), float(far - np.arcsin(ratio * np.sin(far)))

    def _central_angle(self, pixel: ArrayLike) -> F64:
        near, far = self._central_angles
        return near + np.asarray(pixel, float) / (self.spec.samples - 1) * (far - near)

    def incidence_deg(self, pixel: ArrayLike) -> F64:
        """Angle between the line of sight and the ellipsoid's normal, degrees; the same on every line."""
        g = self._central_angle(pixel)
        up = ORBIT_RADIUS_M * np.cos(g) - GROUND_RADIUS_M
        return np.asarray(np.degrees(np.arctan2(ORBIT_RADIUS_M * np.sin(g), up)))

    def seen(self, line: ArrayLike, pixel: ArrayLike) -> tuple[F64, F64]:
        """Zero-Doppler time (s after the first line) and slant range (m) at which the orbit sees a position.

        Exact for the ellipsoid: the range-Doppler equations hold. The time of a line varies by some milliseconds along
        it, as the ellipsoid is no sphere.
        """
        normal = self.normals(line, pixel)
        scaled = normal * np.array([WGS84_A_M**2, WGS84_A_M**2, WGS84_B_M**2])
        ground = scaled / np.sqrt((normal * scaled).sum(-1, keepdims=True))
        s = np.arctan2(ground @ self._along, ground @ self._centre)
        satellite = ORBIT_RADIUS_M * self._frame(s, np.asarray(self._orbit_offset))
        seconds = (s / self._step + (self.spec.lines - 1) / 2) * self.spec.line_interval_s
        return seconds, np.asarray(np.linalg.norm(ground - satellite, axis=-1))

    @property
    def _orbit_offset(self) -> float:
        return -float(self._central_angle((self.spec.samples - 1) / 2))

    def elevation_deg(self, pixel: ArrayLike) -> F64:
        """Angle at the satellite between nadir and the line of sight, degrees."""
        return self.incidence_deg(pixel) - np.degrees(self._central_angle(pixel))

    def ground_range_m(self, pixel: ArrayLike) -> F64:
        """Distance on the ground from the near edge, as the nominal spacing has it."""
        return np.asarray(pixel, float) * self.spec.pixel_spacing_m

    def orbit(self, seconds: ArrayLike) -> tuple[F64, F64]:
        """Earth-fixed position (m) and velocity (m/s) of the satellite, `seconds` after the first line.

        Returns
        -------
        Two arrays of shape (..., 3).
        """
        rate = self._step / self.spec.line_interval_s
        s = np.asarray(seconds, float) * rate - (self.spec.lines - 1) / 2 * self._step
        offset = self._orbit_offset
        position = ORBIT_RADIUS_M * self._frame(s, np.asarray(offset))
        s = s[..., None]
        direction = np.cos(offset) * (np.cos(s) * self._along - np.sin(s) * self._centre)
        return position, ORBIT_RADIUS_M * rate * direction
