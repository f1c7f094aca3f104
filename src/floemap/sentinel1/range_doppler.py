"""Positions of image points on the ground, by the range-Doppler equations on the WGS84 ellipsoid.

The radar sees a pixel at a zero-Doppler time t and at a slant range R. The point P on the ground satisfies
|P - S(t)| = R and (P - S(t)) . V(t) = 0, with the satellite's position S and velocity V, and has a given height above
the ellipsoid (Cumming and Wong 2005, "Digital Processing of Synthetic Aperture Radar Data", chapter 2).
"""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from scipy.interpolate import CubicHermiteSpline

from floemap.sentinel1.metadata import Floats, Orbit

SPEED_OF_LIGHT_M_S = 299_792_458.0
WGS84_A_M = 6_378_137.0
WGS84_F = 1 / 298.257223563
WGS84_E2 = WGS84_F * (2 - WGS84_F)


def ecef(lon_deg: NDArray[Any], lat_deg: NDArray[Any], height_m: NDArray[Any] | float = 0.0) -> Floats:
    """Return earth-centred, earth-fixed coordinates in metres, (..., 3), of points on or above WGS84."""
    lon, lat = np.radians(lon_deg), np.radians(lat_deg)
    normal = WGS84_A_M / np.sqrt(1 - WGS84_E2 * np.sin(lat) ** 2)
    across = (normal + height_m) * np.cos(lat)
    z = (normal * (1 - WGS84_E2) + height_m) * np.sin(lat)
    return np.stack([across * np.cos(lon), across * np.sin(lon), z], axis=-1)


def up(lon_deg: NDArray[Any], lat_deg: NDArray[Any]) -> Floats:
    """Return unit normals of the ellipsoid, (..., 3)."""
    lon, lat = np.radians(lon_deg), np.radians(lat_deg)
    return np.stack([np.cos(lat) * np.cos(lon), np.cos(lat) * np.sin(lon), np.sin(lat)], axis=-1)


def geodetic(xyz: Floats) -> tuple[Floats, Floats, Floats]:
    """Return longitude and latitude in degrees and height in metres of earth-centred coordinates, (..., 3).

    Two steps of Bowring's (1976) formula, exact within a micrometre near the ellipsoid.
    """
    x, y, z = xyz[..., 0], xyz[..., 1], xyz[..., 2]
    across = np.hypot(x, y)
    b = WGS84_A_M * (1 - WGS84_F)
    second_e2 = WGS84_E2 / (1 - WGS84_E2)
    reduced = np.arctan2(z * WGS84_A_M, across * b)
    for _ in range(2):
        lat = np.arctan2(z + second_e2 * b * np.sin(reduced) ** 3, across - WGS84_E2 * WGS84_A_M * np.cos(reduced) ** 3)
        reduced = np.arctan2((1 - WGS84_F) * np.sin(lat), np.cos(lat))
    normal = WGS84_A_M / np.sqrt(1 - WGS84_E2 * np.sin(lat) ** 2)
    # Near the poles the distance from the axis does not determine the height, and near the equator z does not.
    height = across * np.cos(lat) + z * np.sin(lat) - normal * (1 - WGS84_E2 * np.sin(lat) ** 2)
    return np.degrees(np.arctan2(y, x)), np.degrees(lat), height


def track(orbit: Orbit) -> CubicHermiteSpline:
    """Return the satellite position over time from positions and velocities, within 1 cm for vectors 10 s apart."""
    return CubicHermiteSpline(orbit.time_s, orbit.position_m, orbit.velocity_m_s)


class Located(Protocol):
    """Points with a position on the ground and in the image, in arrays of one shape."""

    @property
    def longitude_deg(self) -> Floats:
        """Longitude in degrees."""

    @property
    def latitude_deg(self) -> Floats:
        """Latitude in degrees."""

    @property
    def height_m(self) -> Floats:
        """Height above WGS84 in metres."""

    @property
    def azimuth_time_s(self) -> Floats:
        """Zero-Doppler time, seconds after the scene's start."""

    @property
    def slant_range_time_s(self) -> Floats:
        """Two-way travel time in seconds."""


def locate(orbit: Orbit, time_s: Floats, slant_range_m: Floats, height_m: Floats | float, near: Floats) -> Floats:
    """Solve the range-Doppler equations by Newton's method.

    Parameters
    ----------
    orbit
        State vectors.
    time_s, slant_range_m
        Azimuth time and slant range of the points, of any shape.
    height_m
        Height of the points above WGS84.
    near
        Earth-centred first guess, (..., 3); it determines the side of the track.

    Returns
    -------
    Earth-centred coordinates, (..., 3). Check with :func:`misfit_m` whether they solve the equations.
    """
    position = track(orbit)
    satellite, velocity = position(time_s), position.derivative()(time_s)
    velocity = velocity / np.linalg.norm(velocity, axis=-1, keepdims=True)
    point = near.copy()
    for _ in range(6):
        lon, lat, height = geodetic(point)
        look = point - satellite
        distance = np.linalg.norm(look, axis=-1)
        # Rows: gradients of range, of Doppler distance, of height.
        jacobian = np.stack([look / distance[..., None], velocity, up(lon, lat)], axis=-2)
        wrong = np.stack([distance - slant_range_m, (look * velocity).sum(-1), height - height_m], axis=-1)
        point = point - np.linalg.solve(jacobian, wrong[..., None])[..., 0]
    return point


def residuals_m(grid: Located, orbit: Orbit) -> Floats:
    """Return the misfit of points in metres, in the points' shape; it is under 2 cm in real products."""
    point = ecef(grid.longitude_deg, grid.latitude_deg, grid.height_m)
    return misfit_m(orbit, grid.azimuth_time_s, grid.slant_range_time_s * SPEED_OF_LIGHT_M_S / 2, point)


def misfit_m(orbit: Orbit, time_s: Floats, slant_range_m: Floats, point: Floats) -> Floats:
    """Return how far earth-centred points, (..., 3), are from solving the equations, (...), in metres."""
    position = track(orbit)
    satellite, velocity = position(time_s), position.derivative()(time_s)
    look = point - satellite
    off_range = np.linalg.norm(look, axis=-1) - slant_range_m
    off_doppler = (look * velocity).sum(-1) / np.linalg.norm(velocity, axis=-1)
    off: Floats = np.hypot(off_range, off_doppler)
    return off
