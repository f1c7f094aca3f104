"""From a product's XML files to the typed values of :mod:`floemap.sentinel1.scene`.

Element names follow the Sentinel-1 Product Specification (S1-RS-MDA-52-7441). What is not as specified is refused
with file, element and value; nothing is guessed.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from itertools import pairwise

import numpy as np

from floemap.sentinel1.plausible import refuse_gaps
from floemap.sentinel1.scene import (
    AzimuthNoise,
    CalibrationLut,
    Floats,
    GeolocationGrid,
    GroundRange,
    NoiseLut,
    Orbit,
    RangeNoise,
    SwathBounds,
)
from floemap.sentinel1.xmltree import XmlTree

#: Calibration gains: 1277 to 1909 in a product of 2022. The bounds keep their squares inside of float32.
_LEAST_GAIN, _MOST_GAIN = 10.0, 1e6
#: Across a scene the gain follows incidence angle and antenna, 1.5 times between its ends in the same product; along
#: azimuth it is constant there.
_GAIN_ACROSS, _GAIN_ALONG = 10.0, 1.5
#: No noise is stronger than the strongest signal, 65535 squared. Azimuth factors lie between 0.999 and 1.3 in a real
#: product of EW.
_MOST_POWER, _MOST_FACTOR = 65535.0**2, 100.0


def geolocation_grid(annotation: XmlTree, start: datetime) -> GeolocationGrid:
    """Read the geolocation grid of a product annotation; times become seconds after `start`."""
    points = annotation.entries("geolocationGrid/geolocationGridPointList/geolocationGridPoint")
    if not points:
        raise annotation.error("has no geolocation grid")
    names = ["line", "pixel", "latitude", "longitude", "height", "incidenceAngle", "elevationAngle", "slantRangeTime"]
    table = np.array([[p.number(name) for name in names] for p in points])
    seconds = np.array([(p.time("azimuthTime") - start).total_seconds() for p in points])
    lines, pixels = np.unique(table[:, 0]), np.unique(table[:, 1])
    shape = (len(lines), len(pixels))
    order = np.lexsort((table[:, 1], table[:, 0]))
    table, seconds = table[order], seconds[order]
    regular = len(points) == shape[0] * shape[1] and min(shape) >= 4  # as a cubic spline needs
    if not regular or not (table[:, 1].reshape(shape) == pixels).all():
        raise annotation.error(f"has a geolocation grid of {len(points)} points that is no full grid")
    lat, lon, height, incidence, elevation, slant = (table[:, i].reshape(shape) for i in range(2, 8))
    if (abs(lat) > 90).any() or (abs(lon) > 360).any() or (incidence <= 0).any() or (incidence >= 90).any():
        raise annotation.error("has a geolocation grid with impossible angles")
    return GeolocationGrid(lines, pixels, lat, lon, height, incidence, elevation, seconds.reshape(shape), slant)


def orbit(annotation: XmlTree, start: datetime) -> Orbit:
    """Read the orbit state vectors, earth-fixed."""
    states = annotation.entries("generalAnnotation/orbitList/orbit")
    if len(states) < 4:
        raise annotation.error(f"has {len(states)} orbit state vectors, where 4 are needed")
    for s in states:
        if s.text("frame") != "Earth Fixed":
            raise s.error(f"gives orbit state vectors in the frame {s.text('frame')!r}, where Earth Fixed is needed")
    seconds = np.array([(s.time("time") - start).total_seconds() for s in states])
    if (np.diff(seconds) <= 0).any():
        raise annotation.error("has orbit state vectors out of order")

    def vectors(name: str) -> Floats:
        return np.array([[s.number(f"{name}/{axis}") for axis in "xyz"] for s in states])

    return Orbit(seconds, vectors("position"), vectors("velocity"))


def ground_range(annotation: XmlTree, start: datetime) -> GroundRange:
    """Read the ground-range-to-slant-range polynomials."""
    records = annotation.entries("coordinateConversion/coordinateConversionList/coordinateConversion")
    if not records:
        raise annotation.error("has no ground range conversion")
    seconds = np.array([(r.time("azimuthTime") - start).total_seconds() for r in records])
    if (np.diff(seconds) <= 0).any():
        raise annotation.error("has ground range conversions out of order")
    origins = np.array([r.number("gr0") for r in records])
    return GroundRange(seconds, origins, tuple(r.numbers("grsrCoefficients") for r in records))


def swath_bounds(annotation: XmlTree, shape: tuple[int, int]) -> tuple[SwathBounds, ...]:
    """Read which part of the image each sub-swath fills."""
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
    """Read the sigma nought calibration vectors of an image of that shape.

    Vectors whose pixel positions differ are brought to the positions of all of them by linear interpolation.
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
    """Read the thermal noise vectors, of either form, of an image of that shape; see :class:`NoiseLut`."""
    new = noise.entries("noiseRangeVectorList/noiseRangeVector")
    old = noise.entries("noiseVectorList/noiseVector")
    if bool(new) == bool(old):
        raise noise.error(f"has {len(new)} noise range vectors and {len(old)} older noise vectors: one kind is needed")
    tag = "noiseRangeLut" if new else "noiseLut"
    vectors = []
    for v in new or old:
        pixels, power = v.positions("pixel"), v.numbers(tag)
        if len(pixels) != len(power):
            raise v.error(f"has a noise vector at line {v.text('line')} with {len(pixels)} pixels, {len(power)} values")
        if power.min() < 0 or power.max() > _MOST_POWER:
            raise v.error(
                f"has a noise vector at line {v.text('line')} with values from {power.min():.6g} to {power.max():.6g}"
            )
        refuse_gaps(v, f"a noise vector at line {v.text('line')} with pixels", pixels, shape[1])
        vectors.append(RangeNoise(v.number("line"), pixels, power))
    if any(b.line <= a.line for a, b in pairwise(vectors)):
        raise noise.error("has noise vectors out of order")
    refuse_gaps(noise, "noise vectors at lines", np.array([v.line for v in vectors]), shape[0])
    blocks = [_azimuth_block(b, shape) for b in noise.entries("noiseAzimuthVectorList/noiseAzimuthVector")]
    named, known = {b.swath for b in blocks}, {s.swath for s in swaths}
    if new and named != known:
        raise noise.error(f"has azimuth noise blocks of {sorted(named)}, where the image has {sorted(known)}")
    return NoiseLut("range_azimuth" if new else "vectors", tuple(vectors), tuple(blocks))


def _azimuth_block(node: XmlTree, shape: tuple[int, int]) -> AzimuthNoise:
    lines, factor = node.positions("line"), node.numbers("noiseAzimuthLut")
    if len(lines) != len(factor):
        raise node.error(f"has an azimuth noise block with {len(lines)} lines, {len(factor)} values")
    if factor.min() < 0 or factor.max() > _MOST_FACTOR:
        raise node.error(f"has an azimuth noise block with values from {factor.min():.6g} to {factor.max():.6g}")
    block = AzimuthNoise(node.text("swath"), *_bounds(node), lines, factor)
    ordered = block.first_line <= block.last_line and block.first_pixel <= block.last_pixel
    inside = block.first_line < shape[0] and block.first_pixel < shape[1]
    if not (ordered and inside and lines[0] <= block.last_line and lines[-1] >= block.first_line):
        raise node.error(
            f"has an azimuth noise block of lines {block.first_line} to {block.last_line},"
            f" pixels {block.first_pixel} to {block.last_pixel}, values from line {lines[0]:.6g} to {lines[-1]:.6g}"
        )
    return block
