"""Checks that a product's metadata agree: orbit, times, geolocation grid, ground range conversion, pixel spacing.

Checksums detect damaged files, but not files that were written wrong, and the manifest has no checksum. Each number of
a product's geometry follows from others, so a wrong one contradicts the rest. A product with such contradictions is
refused. The tolerances are wide: a real product agrees within 17 m, where 500 m are allowed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from scipy.interpolate import RegularGridInterpolator

from floemap.sentinel1 import range_doppler as rd
from floemap.sentinel1.metadata import Floats, GeolocationGrid, Scene
from floemap.sentinel1.safe.xml import XmlTree

#: Sentinel-1 flies some 700 km above the ground, 7.07e6 m from the earth's centre, at 7.4 to 7.7 km/s earth-fixed.
_ORBIT_RADIUS_M = (6.9e6, 7.3e6)
_ORBIT_SPEED_M_S = (7.0e3, 8.0e3)
#: Two-way travel time; 0.005 to 0.0065 s in a real product of EW.
_SLANT_RANGE_S = (0.003, 0.02)
#: Largest difference between velocities and differences of positions; 0.07 m/s in a real product.
_ORBIT_VELOCITY_M_S = 20.0
#: Largest distance between positions by geolocation grid, orbit and ground range conversion.
_GEOMETRY_M = 500.0
#: Largest relative difference between pixel spacing and the distance of the grid's points; 0.02 in a real product.
_SPACING = 0.2
#: Largest change of the incidence angle along azimuth; 0.14 degrees in a real product.
_INCIDENCE_DEG = 3.0
#: Largest difference between the bounds of sub-swaths of two polarisations; 0 in a real product.
_SWATH_BOUNDS_PX = 16
#: Largest image: twice the largest ground-range product. The limit also keeps hostile metadata from filling the memory.
MAX_PIXELS = 3_000_000_000
#: First processor version that annotates noise in two parts, range and azimuth.
_NOISE_IN_PARTS = (2, 90)


def refuse_contradictions(annotation: XmlTree, scene: Scene) -> None:
    """Check that a scene's metadata agree with each other and with Sentinel-1.

    Parameters
    ----------
    annotation
        File from which the geometry was read, for the message.
    scene
        The scene.

    Raises
    ------
    ProductError
        If they do not; the message has the values.
    """
    _check_size(annotation, scene)
    _check_orbit(annotation, scene)
    _check_grid(annotation, scene)
    _check_ground_range(annotation, scene)
    for polarisation, noise in scene.noise.items():
        if (scene.ipf_version >= _NOISE_IN_PARTS) != (noise.form == "range_azimuth"):
            version = f"{scene.ipf_version[0]}.{scene.ipf_version[1]:02d}"
            kind = "in range and azimuth" if noise.form == "range_azimuth" else "in range alone"
            raise annotation.error(
                f"is by the processor {version}, but noise in {polarisation} is annotated {kind}: one is wrong"
            )


def joined(scenes: Sequence[Scene], annotations: Mapping[str, XmlTree]) -> Scene:
    """Join scenes of one polarisation each into one scene, after checking that their metadata agree.

    Parameters
    ----------
    scenes
        The scenes.
    annotations
        Files by polarisation, for the message.

    Raises
    ------
    ProductError
        If the metadata disagree.
    """
    first, *others = scenes
    for other in others:
        what = _disagreement(first, other)
        if what is not None:
            (p,), (q,) = first.polarisations, other.polarisations
            raise annotations[q].error(f"has another {what} than the annotation of {p}")

    tables = ("calibration", "noise", "noise_subtracted", "dn_mean", "dn_std", "measurements")
    merged: dict[str, Any] = {t: {p: v for s in scenes for p, v in getattr(s, t).items()} for t in tables}
    return replace(first, polarisations=tuple(p for s in scenes for p in s.polarisations), **merged)


def _disagreement(a: Scene, b: Scene) -> str | None:
    """Return the name of a value in which two polarisations disagree, or None. In real products they agree exactly."""
    for name in ("mission", "mode", "datatake", "absolute_orbit", "pass_direction"):
        if getattr(a, name) != getattr(b, name):
            return f"{name.replace('_', ' ')} ({getattr(b, name)}, not {getattr(a, name)})"
    for name in ("start", "stop"):
        seconds = (getattr(b, name) - getattr(a, name)).total_seconds()
        if abs(seconds) > a.line_interval_s:
            return f"{name} time, by {seconds:.6g} s,"
    ours, theirs = ([*s.pixel_spacing_m, s.line_interval_s, s.radar_frequency_hz] for s in (a, b))
    if not np.allclose(ours, theirs, rtol=1e-3, atol=0):
        return "pixel spacing, line interval or radar frequency"
    off_m = _distance_m(a.geolocation, b.geolocation)
    if off_m > _GEOMETRY_M:
        return f"geolocation grid, by {off_m:.6g} m,"
    bounds = [np.array([[s.first_line, s.last_line, s.first_pixel, s.last_pixel] for s in x.swaths]) for x in (a, b)]
    same = [s.swath for s in a.swaths] == [s.swath for s in b.swaths]
    if not same or abs(bounds[0] - bounds[1]).max() > _SWATH_BOUNDS_PX:
        return "division into sub-swaths"
    return None


def _distance_m(a: GeolocationGrid, b: GeolocationGrid) -> float:
    """Return the largest distance between two grids at the corners of the area that both cover.

    One grid may lack a row or column at its edge. Linear interpolation adds a few metres.
    """
    shared = [
        (max(p[0], q[0]), min(p[-1], q[-1])) for p, q in ((a.lines, b.lines), (a.pixels, b.pixels))
    ]  # never empty, because each grid covers its image
    corners = np.stack(np.meshgrid(*shared, indexing="ij"), axis=-1)
    places = [
        RegularGridInterpolator((g.lines, g.pixels), rd.ecef(g.longitude_deg, g.latitude_deg, g.height_m))(corners)
        for g in (a, b)
    ]
    return float(np.linalg.norm(places[0] - places[1], axis=-1).max())


def _check_size(annotation: XmlTree, scene: Scene) -> None:
    lines, samples = scene.shape
    if lines * samples > MAX_PIXELS:
        raise annotation.error(f"describes an image of {lines} x {samples} pixels, more than any product has")
    duration_s = (scene.stop - scene.start).total_seconds()
    if duration_s <= 0 or abs(scene.line_interval_s * ((lines - 1) / duration_s) - 1) > 2 / (lines - 1):
        raise annotation.error(
            f"has {lines} lines, one every {scene.line_interval_s:.6g} s, between times {duration_s:.6g} s apart"
        )


def _check_orbit(annotation: XmlTree, scene: Scene) -> None:
    orbit = scene.orbit
    for what, unit, vectors, (low, high) in (
        ("at a distance from the earth's centre of", "m", orbit.position_m, _ORBIT_RADIUS_M),
        ("at a speed of", "m/s", orbit.velocity_m_s, _ORBIT_SPEED_M_S),
    ):
        lengths = np.linalg.norm(np.clip(vectors, -1e9, 1e9), axis=1)  # clipped so that the squares are finite
        wrong = lengths[(lengths < low) | (lengths > high)]
        if wrong.size:
            raise annotation.error(f"has an orbit {what} {wrong[0]:.6g} {unit}, where {low:.4g} to {high:.4g} is usual")
    moved = np.diff(orbit.position_m, axis=0) / np.diff(orbit.time_s)[:, None]
    off_m_s = float(abs(moved - (orbit.velocity_m_s[1:] + orbit.velocity_m_s[:-1]) / 2).max())
    if off_m_s > _ORBIT_VELOCITY_M_S:
        raise annotation.error(f"has orbit velocities that contradict the positions by {off_m_s:.6g} m/s")
    duration_s = (scene.stop - scene.start).total_seconds()
    if orbit.time_s[0] > 0 or orbit.time_s[-1] < duration_s:
        raise annotation.error(
            f"has an orbit from {orbit.time_s[0]:.1f} s to {orbit.time_s[-1]:.1f} s"
            f" for a scene from 0 s to {duration_s:.1f} s: too short"
        )


def _check_grid(annotation: XmlTree, scene: Scene) -> None:
    grid = scene.geolocation
    refuse_gaps(annotation, "a geolocation grid at lines", grid.lines, scene.shape[0])
    refuse_gaps(annotation, "a geolocation grid at pixels", grid.pixels, scene.shape[1])
    low, high = grid.slant_range_time_s.min(), grid.slant_range_time_s.max()
    if low < _SLANT_RANGE_S[0] or high > _SLANT_RANGE_S[1]:
        raise annotation.error(f"has a geolocation grid with slant range times from {low:.6g} s to {high:.6g} s")
    if (np.diff(grid.incidence_deg, axis=1) <= 0).any() or np.ptp(grid.incidence_deg, axis=0).max() > _INCIDENCE_DEG:
        raise annotation.error(
            "has a geolocation grid with incidence angles that do not increase evenly across the image"
        )
    off_s = float(abs(grid.azimuth_time_s - grid.lines[:, None] * scene.line_interval_s).max())
    if off_s * _ORBIT_SPEED_M_S[1] > _GEOMETRY_M:
        raise annotation.error(f"has a geolocation grid with times that contradict its lines by {off_s:.6g} s")
    off_m = float(rd.residuals_m(grid, scene.orbit).max())
    if off_m > _GEOMETRY_M:
        raise annotation.error(f"has a geolocation grid that contradicts the orbit by {off_m:.6g} m")
    ground = rd.ecef(grid.longitude_deg, grid.latitude_deg, grid.height_m)
    azimuth_m, range_m = scene.pixel_spacing_m
    for name, ends, steps, spacing_m in (
        ("azimuthPixelSpacing", ground[-1] - ground[0], np.ptp(grid.lines), azimuth_m),
        ("rangePixelSpacing", ground[:, -1] - ground[:, 0], np.ptp(grid.pixels), range_m),
    ):
        found_m = float(np.median(np.linalg.norm(ends, axis=-1)) / steps)
        if abs(found_m / spacing_m - 1) > _SPACING:
            raise annotation.error(
                f"has <{name}> {spacing_m:.6g}, where the grid's points are {found_m:.6g} apart by pixel"
            )


def _check_ground_range(annotation: XmlTree, scene: Scene) -> None:
    grid, records = scene.geolocation, scene.ground_range
    line_s, record_s = grid.azimuth_time_s[:, 0], records.time_s
    margin_s = (line_s[-1] - line_s[0]) / 4 + 1
    if abs(record_s[0] - line_s[0]) > margin_s or abs(record_s[-1] - line_s[-1]) > margin_s:
        raise annotation.error(
            f"has ground range conversions from {record_s[0]:.1f} s to {record_s[-1]:.1f} s"
            f" for a scene from 0 s to {line_s[-1]:.1f} s"
        )
    with np.errstate(over="ignore", invalid="ignore"):  # an overflow raises the error below
        found_m = records.slant_range_m(grid.pixels * scene.pixel_spacing_m[1])
    slant_range_m = grid.slant_range_time_s * rd.SPEED_OF_LIGHT_M_S / 2
    expected_m = np.array([np.interp(record_s, line_s, column) for column in slant_range_m.T]).T
    off_m = float(np.nan_to_num(abs(found_m - expected_m), nan=np.inf).max())
    if off_m > _GEOMETRY_M:
        raise annotation.error(
            f"has ground range conversions that contradict the geolocation grid's slant ranges by {off_m:.6g} m"
        )


def refuse_gaps(tree: XmlTree, what: str, positions: Floats, size: int) -> None:
    """Check that increasing positions cover an image's side of `size` pixels.

    Raises
    ------
    ProductError
        If they leave more than a quarter of it uncovered, or are farther than that outside of the image.
    """
    margin = size / 4
    widest = np.diff(positions).max(initial=0)
    covers = positions[0] <= margin and positions[-1] >= size - 1 - margin and widest <= margin + 1
    if not covers or positions[0] < -margin or positions[-1] > size - 1 + margin:
        raise tree.error(
            f"has {what} {positions[0]:.6g} to {positions[-1]:.6g}, at most {widest:.6g} apart, of an image of {size}"
        )
