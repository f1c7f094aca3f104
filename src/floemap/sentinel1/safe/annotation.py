"""Reading a product's XML files into the typed values of :mod:`floemap.sentinel1.metadata`.

Element names follow the Sentinel-1 Product Specification (S1-RS-MDA-52-7441). All functions raise a ProductError with
file, element and value if a file does not follow it; nothing is guessed.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from floemap.sentinel1.irregular_grid import GeolocationPoints, IrregularGridError, full_grid, regular_grid
from floemap.sentinel1.metadata import (
    AzimuthNoise,
    CalibrationLut,
    Floats,
    GeolocationGrid,
    GroundRange,
    NoiseLut,
    NoiseRepair,
    Orbit,
    RangeNoise,
    SwathBounds,
)
from floemap.sentinel1.safe.consistency import refuse_gaps
from floemap.sentinel1.safe.xml import XmlTree

#: Limits of calibration gains, which are 1277 to 1909 in a product of 2022. Their squares fit into float32.
_LEAST_GAIN, _MOST_GAIN = 10.0, 1e6
#: Largest ratios of gains across and along a scene. In the same product the ratio is 1.5 across, due to incidence angle
#: and antenna, and 1 along azimuth.
_GAIN_ACROSS, _GAIN_ALONG = 10.0, 1.5
#: Largest height or depth of a point, metres.
_MOST_HEIGHT_M = 1e4
#: Largest differences between the values of a point that is given twice, in the order of the table's columns from
#: latitude on: degrees, height in metres, degrees, seconds of two-way travel and of azimuth. Each is under a metre.
_SAME_POINT = (1e-6, 1e-6, 1.0, 1e-5, 1e-5, 1e-9, 1e-4)


def geolocation_grid(annotation: XmlTree, start: datetime, orbit: Orbit) -> GeolocationGrid:
    """Read the geolocation grid of a product annotation; times become seconds after `start`.

    In most products the points are a full grid. In some, a point or a row is missing, or rows have different pixels;
    such points are interpolated to a full grid, see :mod:`floemap.sentinel1.irregular_grid`.
    """
    nodes = annotation.entries("geolocationGrid/geolocationGridPointList/geolocationGridPoint")
    if not nodes:
        raise annotation.error("has no geolocation grid")
    names = ["line", "pixel", "latitude", "longitude", "height", "incidenceAngle", "elevationAngle", "slantRangeTime"]
    table = np.array([[p.number(name) for name in names] for p in nodes])
    seconds = np.array([(p.time("azimuthTime") - start).total_seconds() for p in nodes])
    table = np.unique(np.column_stack([table, seconds]), axis=0)  # sorted by line and pixel
    _, _, lat, lon, height, incidence, *_ = table.T
    if (abs(lat) > 90).any() or (abs(lon) > 360).any() or (incidence <= 0).any() or (incidence >= 90).any():
        raise annotation.error("has a geolocation grid with impossible angles")
    if (abs(height) > _MOST_HEIGHT_M).any():
        raise annotation.error("has a geolocation grid with impossible heights")
    table = table[_first_of_each(table)]
    line, pixel, lat, lon, height, incidence, elevation, slant_s, time_s = table.T
    points = GeolocationPoints(line, pixel, lat, lon, height, incidence, elevation, time_s, slant_s)
    repeated = np.flatnonzero((np.diff(line) == 0) & (np.diff(pixel) == 0))
    if len(repeated):
        at = repeated[0]
        raise annotation.error(f"has two different points of the geolocation grid at {line[at]:g}, {pixel[at]:g}")
    try:
        with np.errstate(all="ignore"):  # overflows raise an error here or in the checks that follow
            return full_grid(points) or regular_grid(points, orbit)
    except IrregularGridError as e:
        raise annotation.error(f"has a geolocation grid of {len(table)} points {e}") from e


def _first_of_each(table: Floats) -> NDArray[np.bool_]:
    """Return which of the sorted points, (n, 9), do not repeat the one before them with other rounding."""
    again = (np.diff(table[:, :2], axis=0) == 0).all(axis=1)
    again &= (abs(np.diff(table[:, 2:], axis=0)) <= _SAME_POINT).all(axis=1)
    return np.concatenate([[True], ~again])


def orbit(annotation: XmlTree, start: datetime) -> Orbit:
    """Read the earth-fixed orbit state vectors; times are in seconds after `start`."""
    states = annotation.entries("generalAnnotation/orbitList/orbit")
    if len(states) < 4:
        raise annotation.error(f"has {len(states)} orbit state vectors, where 4 are needed")
    for s in states:
        if s.text("frame") != "Earth Fixed":
            raise s.error(f"has orbit state vectors in the frame {s.text('frame')!r}, where Earth Fixed is needed")
    seconds = np.array([(s.time("time") - start).total_seconds() for s in states])
    if (np.diff(seconds) <= 0).any():
        raise annotation.error("has orbit state vectors out of order")

    def vectors(name: str) -> Floats:
        return np.array([[s.number(f"{name}/{axis}") for axis in "xyz"] for s in states])

    return Orbit(seconds, vectors("position"), vectors("velocity"))


def ground_range(annotation: XmlTree, start: datetime) -> GroundRange:
    """Read the polynomials from ground range to slant range; times are in seconds after `start`."""
    records = annotation.entries("coordinateConversion/coordinateConversionList/coordinateConversion")
    if not records:
        raise annotation.error("has no ground range conversion")
    seconds = np.array([(r.time("azimuthTime") - start).total_seconds() for r in records])
    if (np.diff(seconds) <= 0).any():
        raise annotation.error("has ground range conversions out of order")
    origins = np.array([r.number("gr0") for r in records])
    return GroundRange(seconds, origins, tuple(r.numbers("grsrCoefficients") for r in records))


def swath_bounds(annotation: XmlTree, shape: tuple[int, int]) -> tuple[SwathBounds, ...]:
    """Read the parts of the image, of shape (lines, samples), that each sub-swath fills."""
    bounds = [
        SwathBounds(merge.text("swath"), *_bounds(b))
        for merge in annotation.entries("swathMerging/swathMergeList/swathMerge")
        for b in merge.entries("swathBoundsList/swathBounds")
    ]
    if not bounds:
        raise annotation.error("has no sub-swath bounds")
    inside = [b for b in bounds if b.first_line <= b.last_line and b.first_pixel <= b.last_pixel]
    if len(inside) != len(bounds) or any(b.first_line >= shape[0] or b.first_pixel >= shape[1] for b in bounds):
        raise annotation.error("has sub-swath bounds outside the image")
    return tuple(bounds)


def _bounds(node: XmlTree) -> tuple[int, int, int, int]:
    return (
        node.count("firstAzimuthLine"),
        node.count("lastAzimuthLine"),
        node.count("firstRangeSample"),
        node.count("lastRangeSample"),
    )


def calibration_lut(calibration: XmlTree, shape: tuple[int, int]) -> CalibrationLut:
    """Read the sigma nought calibration vectors of an image of shape (lines, samples).

    If the pixel positions of vectors differ, all are interpolated linearly to the union of the positions.
    """
    vectors = calibration.entries("calibrationVectorList/calibrationVector")
    if not vectors:
        raise calibration.error("has no calibration vectors")
    lines = np.array([v.number("line") for v in vectors])
    if (np.diff(lines) <= 0).any():
        raise calibration.error("has calibration vectors out of order")
    refuse_gaps(calibration, "calibration vectors at lines", lines, shape[0])
    positions = [v.positions("pixel") for v in vectors]
    pixels = np.unique(np.concatenate(positions))
    rows = []
    for v, at in zip(vectors, positions, strict=True):
        values = v.numbers("sigmaNought")
        if len(at) != len(values):
            raise v.error(
                f"has a calibration vector at line {v.text('line')} with {len(at)} pixels, {len(values)} values"
            )
        low, high = values.min(), values.max()
        if not (low >= _LEAST_GAIN and high <= _GAIN_ACROSS * low and high <= _MOST_GAIN):
            raise v.error(f"has a calibration vector at line {v.text('line')} with values from {low:.6g} to {high:.6g}")
        refuse_gaps(v, f"a calibration vector at line {v.text('line')} with pixels", at, shape[1])
        rows.append(values if np.array_equal(at, pixels) else np.interp(pixels, at, values))
    table = np.array(rows)
    swing = (table.max(axis=0) / table.min(axis=0)).max()
    if swing > _GAIN_ALONG:
        raise calibration.error(f"has calibration vectors that differ {swing:.6g} times along azimuth")
    constant = calibration.number("calibrationInformation/absoluteCalibrationConstant")
    return CalibrationLut(lines, pixels, table, constant)


def noise_lut(noise: XmlTree, shape: tuple[int, int], swaths: Sequence[SwathBounds]) -> NoiseLut:
    """Read the thermal noise vectors, of either form, of an image of shape (lines, samples); see :class:`NoiseLut`.

    Values may be NaN or infinite: :mod:`floemap.sentinel1.noise_check` judges them. The specification allows the
    azimuth noise to be absent; its factor is then 1.
    """
    new = noise.entries("noiseRangeVectorList/noiseRangeVector")
    old = noise.entries("noiseVectorList/noiseVector")
    if bool(new) == bool(old):
        raise noise.error(
            f"has {len(new)} noise range vectors and {len(old)} older noise vectors, where one kind is needed"
        )
    tag = "noiseRangeLut" if new else "noiseLut"
    vectors = []
    for v in new or old:
        pixels, power = v.positions("pixel"), v.numbers(tag, finite=False)
        if len(pixels) != len(power):
            raise v.error(f"has a noise vector at line {v.text('line')} with {len(pixels)} pixels, {len(power)} values")
        refuse_gaps(v, f"a noise vector at line {v.text('line')} with pixels", pixels, shape[1])
        vectors.append(RangeNoise(v.number("line"), pixels, power))
    if any(b.line <= a.line for a, b in pairwise(vectors)):
        raise noise.error("has noise vectors out of order")
    refuse_gaps(noise, "noise vectors at lines", np.array([v.line for v in vectors]), shape[0])
    blocks = [_azimuth_block(b, shape, swaths) for b in noise.entries("noiseAzimuthVectorList/noiseAzimuthVector")]
    named = {b.swath for b in blocks}
    absent = tuple(dict.fromkeys(s.swath for s in swaths if s.swath not in named)) if new else ()
    repairs = [NoiseRepair("azimuth list", 0.0, absent, "is not annotated", "the factor 1")] if absent else []
    return NoiseLut("range_azimuth" if new else "vectors", tuple(vectors), tuple(blocks), tuple(repairs))


def _azimuth_block(node: XmlTree, shape: tuple[int, int], swaths: Sequence[SwathBounds]) -> AzimuthNoise:
    lines, factor = node.positions("line"), node.numbers("noiseAzimuthLut", finite=False)
    if len(lines) != len(factor):
        raise node.error(f"has an azimuth noise block with {len(lines)} lines, {len(factor)} values")
    block = AzimuthNoise(node.text("swath"), *_bounds(node), lines, factor)
    ordered = block.first_line <= block.last_line and block.first_pixel <= block.last_pixel
    inside = block.first_line < shape[0] and block.first_pixel < shape[1]
    if not (ordered and inside and lines[0] <= block.last_line and lines[-1] >= block.first_line):
        raise node.error(
            f"has an azimuth noise block of lines {block.first_line} to {block.last_line},"
            f" pixels {block.first_pixel} to {block.last_pixel}, values from line {lines[0]:.6g} to {lines[-1]:.6g}"
        )
    mine = [s for s in swaths if s.swath == block.swath]
    if not any(s.first_pixel <= block.last_pixel and s.last_pixel >= block.first_pixel for s in mine):
        raise node.error(
            f"has an azimuth noise block of {block.swath} at pixels {block.first_pixel} to {block.last_pixel},"
            " where the image has none of that sub-swath"
        )
    return block
