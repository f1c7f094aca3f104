"""The product annotation of a simulated product.

Elements, their order and number formats are those of real Sentinel-1 Level-1 products (S1-RS-MDA-52-7441). Lists that
the simulator does not model, such as replicas and Doppler estimates, have a count of 0.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import numpy as np
from lxml import etree
from numpy.polynomial import Polynomial

from floemap.simulation.safe.elements import add, document, double, fill, flag, header, single, values
from floemap.simulation.safe.geometry import SPEED_OF_LIGHT_M_S, WGS84_A_M, WGS84_B_M, Geometry
from floemap.simulation.safe.luts import SimulatedLuts
from floemap.simulation.safe.spec import FULL_LINES, SWATHS, ProductSpec, steps, timestamp

_ORBIT_STEP_S, _ORBIT_VECTORS = 10.0, 17


@dataclass(frozen=True)
class Statistics:
    """Mean and standard deviation of a band's DN, over pixels with an image."""

    mean: float
    std: float


def annotation_xml(luts: SimulatedLuts, polarisation: str, statistics: Statistics) -> bytes:
    """Return the product annotation of one band."""
    spec, geometry = luts.spec, luts.geometry
    root = etree.Element("product")
    header(root, spec, polarisation)
    quality = add(root, "qualityInformation")
    add(quality, "productQualityIndex", double(0.0))
    add(quality, "qualityDataList", count=0)
    _general(add(root, "generalAnnotation"), spec, geometry)
    image = add(root, "imageAnnotation")
    _image_information(image, spec, geometry, statistics)
    _processing_information(image, spec)
    add(add(root, "dopplerCentroid"), "dcEstimateList", count=0)
    add(add(root, "antennaPattern"), "antennaPatternList", count=0)
    timing = add(root, "swathTiming")
    fill(timing, {"linesPerBurst": 0, "samplesPerBurst": 0})
    add(timing, "burstList", count=0)
    _geolocation_grid(root, spec, geometry)
    _coordinate_conversion(root, spec, geometry)
    _swath_merging(root, luts)
    return document(root)


def _general(parent: Any, spec: ProductSpec, geometry: Geometry) -> None:
    heading = (spec.heading_deg + 180) % 360 - 180
    fill(
        add(parent, "productInformation"),
        {
            "pass": flight_pass(spec).capitalize(),
            "timelinessCategory": "Fast-24h",
            "platformHeading": double(heading),
            "projection": "Ground Range",
            "rangeSamplingRate": double(2.502314816e7),
            "radarFrequency": double(5.405000454334350e9),
            "azimuthSteeringRate": double(2.390895448),
        },
    )
    add(parent, "downlinkInformationList", count=0)
    orbits = add(parent, "orbitList", count=_ORBIT_VECTORS)
    duration = (spec.lines - 1) * spec.line_interval_s
    first = duration / 2 - _ORBIT_STEP_S * (_ORBIT_VECTORS - 1) / 2
    for k in range(_ORBIT_VECTORS):
        seconds = first + k * _ORBIT_STEP_S
        time = spec.start + timedelta(seconds=seconds)
        position, velocity = geometry.orbit((time - spec.start).total_seconds())
        orbit = add(orbits, "orbit")
        fill(orbit, {"time": timestamp(time), "frame": "Earth Fixed"})
        for tag, vector in (("position", position), ("velocity", velocity)):
            fill(add(orbit, tag), {axis: double(x) for axis, x in zip("xyz", vector, strict=True)})
    for tag in ("attitudeList", "rawDataAnalysisList", "replicaInformationList", "noiseList"):
        add(parent, tag, count=0)
    heights = add(parent, "terrainHeightList", count=1)
    fill(add(heights, "terrainHeight"), {"azimuthTime": timestamp(spec.start), "value": double(0.0)})
    add(parent, "azimuthFmRateList", count=0)


def flight_pass(spec: ProductSpec) -> str:
    """Return ``ASCENDING`` if the heading is northward, else ``DESCENDING``."""
    return "ASCENDING" if np.cos(np.radians(spec.heading_deg)) > 0 else "DESCENDING"


def _image_information(parent: Any, spec: ProductSpec, geometry: Geometry, statistics: Statistics) -> None:
    info = add(parent, "imageInformation")
    start, stop = timestamp(spec.start), timestamp(spec.stop_time)
    fill(
        info,
        {
            "productFirstLineUtcTime": start,
            "productLastLineUtcTime": stop,
            "ascendingNodeTime": timestamp(spec.start - timedelta(minutes=27)),
            "anchorTime": start,
            "productComposition": "Slice",
            "sliceNumber": 1,
        },
    )
    piece = add(add(info, "sliceList", count=1), "slice")
    fill(piece, {"sliceNumber": 1, "sensingStartTime": start, "sensingStopTime": stop})
    fill(
        info,
        {
            "slantRangeTime": double(2 * float(geometry.slant_range_m(0, 0)) / SPEED_OF_LIGHT_M_S),
            "pixelValue": "Detected",
            "outputPixels": "16 bit Unsigned Integer",
            "rangePixelSpacing": single(spec.pixel_spacing_m),
            "azimuthPixelSpacing": single(spec.pixel_spacing_m),
            "azimuthTimeInterval": double(spec.line_interval_s),
            "azimuthFrequency": double(1 / spec.line_interval_s),
            "numberOfSamples": spec.samples,
            "numberOfLines": spec.lines,
            "zeroDopMinusAcqTime": double(0.0),
            "incidenceAngleMidSwath": double(float(geometry.incidence_deg((spec.samples - 1) / 2))),
        },
    )
    numbers = add(info, "imageStatistics")
    for tag, value in (("outputDataMean", statistics.mean), ("outputDataStdDev", statistics.std)):
        fill(add(numbers, tag), {"re": single(value), "im": single(0.0)})


def _processing_information(parent: Any, spec: ProductSpec) -> None:
    info = add(parent, "processingInformation")
    done = {
        "rawDataAnalysisUsed": True,
        "orbitDataFileUsed": True,
        "attitudeDataFileUsed": False,
        "rxVariationCorrectionApplied": True,
        "antennaElevationPatternApplied": True,
        "antennaAzimuthPatternApplied": True,
        "antennaAzimuthElementPatternApplied": True,
    }
    fill(info, {tag: flag(x) for tag, x in done.items()})
    fill(
        info,
        {
            "dcMethod": "Data Analysis",
            "dcInputData": "Range Compressed",
            "rangeSpreadingLossCompensationApplied": "true",
            "srgrConversionApplied": "true",
            "detectionPerformed": "true",
            "thermalNoiseCorrectionPerformed": flag(spec.denoised),
            "applicationLutId": "EW_Default",
        },
    )
    add(info, "swathProcParamsList", count=0)
    add(info, "inputDimensionsList", count=0)
    fill(
        info,
        {
            "referenceRange": double(8e5),
            "ellipsoidName": "WGS84",
            "ellipsoidSemiMajorAxis": double(WGS84_A_M),
            "ellipsoidSemiMinorAxis": double(WGS84_B_M),
            "bistaticDelayCorrectionApplied": "true",
            "topsFilterConvention": "Only Echo Lines",
            "orbitSource": "Auxiliary",
            "attitudeSource": "Downlink",
        },
    )


def grid_positions(spec: ProductSpec) -> tuple[Any, Any]:
    """Return lines and pixels of the geolocation grid; 23 x 21 in a full scene."""
    lines = steps(spec.lines, max(1, round(500 * spec.lines / FULL_LINES)))
    return lines, steps(spec.samples, -(-spec.samples // 20))


def _geolocation_grid(root: Any, spec: ProductSpec, geometry: Geometry) -> None:
    lines, pixels = grid_positions(spec)
    lon, lat = geometry.lonlat(lines[:, None], pixels[None, :])
    incidence = geometry.incidence_deg(pixels)
    elevation = geometry.elevation_deg(pixels)
    slant_m = geometry.slant_range_m(lines[:, None], pixels[None, :])
    points = add(add(root, "geolocationGrid"), "geolocationGridPointList", count=lines.size * pixels.size)
    for i, line in enumerate(lines):
        for j, pixel in enumerate(pixels):
            fill(
                add(points, "geolocationGridPoint"),
                {
                    "azimuthTime": timestamp(spec.time_of_line(line)),
                    "slantRangeTime": double(2 * slant_m[i, j] / SPEED_OF_LIGHT_M_S),
                    "line": line,
                    "pixel": pixel,
                    "latitude": double(lat[i, j]),
                    "longitude": double(lon[i, j]),
                    "height": double(0.0),
                    "incidenceAngle": double(incidence[j]),
                    "elevationAngle": double(elevation[j]),
                },
            )


def _coordinate_conversion(root: Any, spec: ProductSpec, geometry: Geometry) -> None:
    """Append slant to ground range and back, as polynomials of degree 8, about every second as in real products."""
    pixel = np.linspace(0, spec.samples - 1, 200)
    ground = pixel * spec.pixel_spacing_m
    records = max(2, round((spec.lines - 1) * spec.line_interval_s) + 1)
    conversions = add(add(root, "coordinateConversion"), "coordinateConversionList", count=records)
    for line in np.linspace(0, spec.lines - 1, records):
        slant = geometry.slant_range_m(line, pixel)
        to_ground = Polynomial.fit(slant - slant[0], ground, 8).convert().coef
        to_slant = Polynomial.fit(ground, slant, 8).convert().coef
        one = add(conversions, "coordinateConversion")
        fill(
            one,
            {
                "azimuthTime": timestamp(spec.time_of_line(line)),
                "slantRangeTime": double(2 * slant[0] / SPEED_OF_LIGHT_M_S),
                "sr0": double(slant[0]),
            },
        )
        values(one, "srgrCoefficients", map(double, np.asarray(to_ground, float)))
        add(one, "gr0", double(0.0))
        values(one, "grsrCoefficients", map(double, np.asarray(to_slant, float)))


def _swath_merging(root: Any, luts: SimulatedLuts) -> None:
    merges = add(add(root, "swathMerging"), "swathMergeList", count=len(SWATHS))
    for s, name in enumerate(SWATHS):
        merge = add(merges, "swathMerge")
        add(merge, "swath", name)
        own = [b for b in luts.blocks if b.swath == s]
        bounds = add(merge, "swathBoundsList", count=len(own))
        for b in own:
            fill(
                add(bounds, "swathBounds"),
                {
                    "azimuthTime": timestamp(luts.spec.time_of_line(b.first_line)),
                    "firstAzimuthLine": b.first_line,
                    "firstRangeSample": b.first_sample,
                    "lastAzimuthLine": b.last_line,
                    "lastRangeSample": b.last_sample,
                },
            )
