"""Geolocation grids that are not full: points or rows are missing, or rows have different pixels.

Angles and slant range, which are smooth along a row, are interpolated by a cubic spline to pixels that all rows share;
heights of the terrain are interpolated linearly. The positions of the new points on the ground follow from these by the
range-Doppler equations, as those of the annotated points do, so that errors of interpolation do not move them.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, fields

import numpy as np
from scipy.interpolate import CubicSpline

from floemap.sentinel1 import range_doppler as rd
from floemap.sentinel1.metadata import Floats, GeolocationGrid, Orbit

#: Least number of rows, and of points in a row, for a cubic spline.
_FEWEST = 4
#: Largest misfit of annotated points in the range-Doppler equations; 0.02 m in a real product.
_MOST_OFF_M = 500.0


class IrregularGridError(ValueError):
    """Points that do not give a grid; the message continues the words "a geolocation grid of 483 points"."""


@dataclass(frozen=True)
class GeolocationPoints:
    """Annotated points sorted by lines and pixels, all (n,); see :class:`GeolocationGrid` for the fields."""

    line: Floats
    pixel: Floats
    latitude_deg: Floats
    longitude_deg: Floats
    height_m: Floats
    incidence_deg: Floats
    elevation_deg: Floats
    azimuth_time_s: Floats
    slant_range_time_s: Floats


def full_grid(points: GeolocationPoints) -> GeolocationGrid | None:
    """Return the points as a grid if they are a full one, else None.

    Raises
    ------
    IrregularGridError
        If they are a full grid of too few rows or columns.
    """
    lines, pixels = np.unique(points.line), np.unique(points.pixel)
    shape = (len(lines), len(pixels))
    if len(points.line) != shape[0] * shape[1]:
        return None
    if min(shape) < _FEWEST:
        raise IrregularGridError(f"in {shape[0]} rows and {shape[1]} columns, where {_FEWEST} of each are needed")
    return GeolocationGrid(lines, pixels, *(getattr(points, f.name).reshape(shape) for f in fields(points)[2:]))


def regular_grid(points: GeolocationPoints, orbit: Orbit) -> GeolocationGrid:
    """Interpolate points to a full grid.

    Rows are left out that are shorter than others by more than two steps at either end, have too few points, or have
    points that nearly coincide.

    Raises
    ------
    IrregularGridError
        If fewer rows are left than a cubic spline needs, or the points contradict the orbit.
    """
    off_m = float(rd.residuals_m(points, orbit).max())
    if off_m > _MOST_OFF_M:
        raise IrregularGridError(f"that contradicts the orbit by {off_m:.6g} m")
    lines, first, counts = np.unique(points.line, return_index=True, return_counts=True)
    low, high, most = points.pixel.min(), points.pixel.max(), int(counts.max())
    step = (high - low) / max(most - 1, 1)
    rows = [
        slice(i, i + n)
        for i, n in zip(first, counts, strict=True)
        if n >= _FEWEST
        and points.pixel[i] - low <= 2 * step
        and high - points.pixel[i + n - 1] <= 2 * step
        and np.diff(points.pixel[i : i + n]).min() > step / 8
    ]
    if len(rows) < _FEWEST:
        raise IrregularGridError(f"in {len(lines)} rows, of which {len(rows)} span the image: too few for a grid")
    # The pixels of the most frequent row with all points, so that such rows need no interpolation.
    fullest = Counter(tuple(points.pixel[r]) for r in rows if r.stop - r.start == most)
    pixels = np.array(fullest.most_common(1)[0][0]) if fullest else np.linspace(low, high, most)

    def smooth(values: Floats) -> Floats:
        return np.array([CubicSpline(points.pixel[r], values[r])(pixels) for r in rows])

    height = np.array([np.interp(pixels, points.pixel[r], points.height_m[r]) for r in rows])
    time_s, slant_s = smooth(points.azimuth_time_s), smooth(points.slant_range_time_s)
    near = rd.ecef(points.longitude_deg, points.latitude_deg, points.height_m)
    guess = np.stack([smooth(near[:, i]) for i in range(3)], axis=-1)
    xyz = rd.locate(orbit, time_s, slant_s * rd.SPEED_OF_LIGHT_M_S / 2, height, guess)
    misfit_m = rd.misfit_m(orbit, time_s, slant_s * rd.SPEED_OF_LIGHT_M_S / 2, xyz)
    if not misfit_m.max() < _MOST_OFF_M:  # also if it is NaN
        raise IrregularGridError("between which interpolated points do not solve the range-Doppler equations")
    lon, lat, _ = rd.geodetic(xyz)
    kept = np.array([points.line[r.start] for r in rows])
    angles = smooth(points.incidence_deg), smooth(points.elevation_deg)
    return GeolocationGrid(kept, pixels, lat, lon, height, *angles, time_s, slant_s, len(points.line))
