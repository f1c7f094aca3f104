"""The texts of a simulated product: annotation, calibration and noise of each band.

Elements, their order and number formats are those of real Sentinel-1 Level-1 products (S1-RS-MDA-52-7441). Lists of
things that the simulator has no model of, such as replicas and Doppler estimates, are there with a count of 0.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import numpy as np
from lxml import etree
from numpy.polynomial import Polynomial

from floemap.simulation.safe_geometry import SPEED_OF_LIGHT_M_S, WGS84_A_M, WGS84_B_M, Geometry
from floemap.simulation.safe_luts import SimulatedLuts
from floemap.simulation.safe_spec import FULL_LINES, SWATHS, ProductSpec, steps, timestamp

_ORBIT_STEP_S, _ORBIT_VECTORS = 10.0, 17


@dataclass(frozen=True)
class Statistics:
    """Mean and standard deviation of a band's DN, over pixels with an image."""

    mean: float
    std: float


# -- writing elements ----------------------------------------------------------------------------------------------


def _add(parent: Any, tag: str, text: object = None, **attributes: object) -> Any:
    element = etree.SubElement(parent, tag, {k: str(v) for k, v in attributes.items()})
    if text is not None:
        element.text = str(text)
    return element


def _fill(parent: Any, content: Mapping[str, object]) -> None:
    for tag, text in content.items():
        _add(parent, tag, text)


def _double(x: float) -> str:
    return f"{x:.15e}"


def _single(x: float) -> str:
    return f"{x:.6e}"


def _list(parent: Any, tag: str, values: Iterable[object]) -> None:
    words = [str(v) for v in values]
    _add(parent, tag, " ".join(words), count=len(words))


def _flag(x: bool) -> str:
    return "true" if x else "false"


def _bytes(root: Any) -> bytes:
    body: bytes = etree.tostring(root, encoding="UTF-8", pretty_print=True)
    return b'<?xml version="1.0" encoding="UTF-8"?>\n' + body


def _header(root: Any, spec: ProductSpec, polarisation: str) -> None:
    _fill(
        _add(root, "adsHeader"),
        {
            "missionId": spec.mission,
            "productType": "GRD",
            "polarisation": polarisation,
            "mode": "EW",
            "swath": "EW",
            "startTime": timestamp(spec.start),
            "stopTime": timestamp(spec.stop_time),
            "absoluteOrbitNumber": spec.orbit,
            "missionDataTakeId": int(spec.datatake, 16),
            "imageNumber": f"{spec.polarisations.index(polarisation) + 1:03d}",
        },
    )


# -- calibration and noise -----------------------------------------------------------------------------------------


def calibration_xml(luts: SimulatedLuts, polarisation: str) -> bytes:
    """The calibration annotation of one band."""
    spec = luts.spec
    root = etree.Element("calibration")
    _header(root, spec, polarisation)
    _add(_add(root, "calibrationInformation"), "absoluteCalibrationConstant", _single(1.0))
    vectors = _add(root, "calibrationVectorList", count=len(luts.calibration_lines))
    pixel = [str(x) for x in luts.calibration_pixels]
    sigma, gamma = ([_single(x) for x in v] for v in (luts.sigma_nought_vector, luts.gamma_vector))
    beta = [_single(1087.0)] * len(pixel)
    for line in luts.calibration_lines:
        vector = _add(vectors, "calibrationVector")
        _fill(vector, {"azimuthTime": timestamp(spec.time_of_line(line)), "line": line})
        for tag, words in zip(
            ("pixel", "sigmaNought", "betaNought", "gamma", "dn"), (pixel, sigma, beta, gamma, beta), strict=True
        ):
            _list(vector, tag, words)
    return _bytes(root)


def noise_xml(luts: SimulatedLuts, polarisation: str) -> bytes:
    """The noise annotation of one band, in the form of the specification."""
    spec = luts.spec
    root = etree.Element("noise")
    _header(root, spec, polarisation)
    old = spec.noise_format == "vectors"
    names = ("noiseVectorList", "noiseVector", "noiseLut") if old else (
        "noiseRangeVectorList", "noiseRangeVector", "noiseRangeLut")  # fmt: skip
    ranges = luts.range_vectors(polarisation)
    vectors = _add(root, names[0], count=len(ranges))
    for r in ranges:
        vector = _add(vectors, names[1])
        _fill(vector, {"azimuthTime": timestamp(spec.time_of_line(r.line)), "line": r.line})
        _list(vector, "pixel", r.pixel)
        _list(vector, names[2], map(_single, r.value))
    if old:
        return _bytes(root)
    azimuths = luts.azimuth_vectors(polarisation)
    vectors = _add(root, "noiseAzimuthVectorList", count=len(azimuths))
    for a in azimuths:
        vector = _add(vectors, "noiseAzimuthVector")
        b = a.block
        _fill(
            vector,
            {
                "swath": SWATHS[b.swath],
                "firstAzimuthLine": b.first_line,
                "firstRangeSample": b.first_sample,
                "lastAzimuthLine": b.last_line,
                "lastRangeSample": b.last_sample,
            },
        )
        _list(vector, "line", a.line)
        _list(vector, "noiseAzimuthLut", map(_single, a.value))
    return _bytes(root)


# -- annotation ----------------------------------------------------------------------------------------------------


def annotation_xml(luts: SimulatedLuts, polarisation: str, statistics: Statistics) -> bytes:
    """The product annotation of one band."""
    spec, geometry = luts.spec, luts.geometry
    root = etree.Element("product")
    _header(root, spec, polarisation)
    quality = _add(root, "qualityInformation")
    _add(quality, "productQualityIndex", _double(0.0))
    _add(quality, "qualityDataList", count=0)
    _general(_add(root, "generalAnnotation"), spec, geometry)
    image = _add(root, "imageAnnotation")
    _image_information(image, spec, geometry, statistics)
    _processing_information(image, spec)
    _add(_add(root, "dopplerCentroid"), "dcEstimateList", count=0)
    _add(_add(root, "antennaPattern"), "antennaPatternList", count=0)
    timing = _add(root, "swathTiming")
    _fill(timing, {"linesPerBurst": 0, "samplesPerBurst": 0})
    _add(timing, "burstList", count=0)
    _geolocation_grid(root, spec, geometry)
    _coordinate_conversion(root, spec, geometry)
    _swath_merging(root, luts)
    return _bytes(root)


def _general(parent: Any, spec: ProductSpec, geometry: Geometry) -> None:
    heading = (spec.heading_deg + 180) % 360 - 180
    _fill(
        _add(parent, "productInformation"),
        {
            "pass": flight_pass(spec).capitalize(),
            "timelinessCategory": "Fast-24h",
            "platformHeading": _double(heading),
            "projection": "Ground Range",
            "rangeSamplingRate": _double(2.502314816e7),
            "radarFrequency": _double(5.405000454334350e9),
            "azimuthSteeringRate": _double(2.390895448),
        },
    )
    _add(parent, "downlinkInformationList", count=0)
    orbits = _add(parent, "orbitList", count=_ORBIT_VECTORS)
    duration = (spec.lines - 1) * spec.line_interval_s
    first = duration / 2 - _ORBIT_STEP_S * (_ORBIT_VECTORS - 1) / 2
    for k in range(_ORBIT_VECTORS):
        seconds = first + k * _ORBIT_STEP_S
        time = spec.start + timedelta(seconds=seconds)
        position, velocity = geometry.orbit((time - spec.start).total_seconds())
        orbit = _add(orbits, "orbit")
        _fill(orbit, {"time": timestamp(time), "frame": "Earth Fixed"})
        for tag, vector in (("position", position), ("velocity", velocity)):
            _fill(_add(orbit, tag), {axis: _double(x) for axis, x in zip("xyz", vector, strict=True)})
    for tag in ("attitudeList", "rawDataAnalysisList", "replicaInformationList", "noiseList"):
        _add(parent, tag, count=0)
    heights = _add(parent, "terrainHeightList", count=1)
    _fill(_add(heights, "terrainHeight"), {"azimuthTime": timestamp(spec.start), "value": _double(0.0)})
    _add(parent, "azimuthFmRateList", count=0)


def flight_pass(spec: ProductSpec) -> str:
    """``ASCENDING`` if the heading is northward."""
    return "ASCENDING" if np.cos(np.radians(spec.heading_deg)) > 0 else "DESCENDING"


def _image_information(parent: Any, spec: ProductSpec, geometry: Geometry, statistics: Statistics) -> None:
    info = _add(parent, "imageInformation")
    start, stop = timestamp(spec.start), timestamp(spec.stop_time)
    _fill(
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
    piece = _add(_add(info, "sliceList", count=1), "slice")
    _fill(piece, {"sliceNumber": 1, "sensingStartTime": start, "sensingStopTime": stop})
    _fill(
        info,
        {
            "slantRangeTime": _double(float(geometry.slant_range_time_s(0))),
            "pixelValue": "Detected",
            "outputPixels": "16 bit Unsigned Integer",
            "rangePixelSpacing": _single(spec.pixel_spacing_m),
            "azimuthPixelSpacing": _single(spec.pixel_spacing_m),
            "azimuthTimeInterval": _double(spec.line_interval_s),
            "azimuthFrequency": _double(1 / spec.line_interval_s),
            "numberOfSamples": spec.samples,
            "numberOfLines": spec.lines,
            "zeroDopMinusAcqTime": _double(0.0),
            "incidenceAngleMidSwath": _double(float(geometry.incidence_deg((spec.samples - 1) / 2))),
        },
    )
    numbers = _add(info, "imageStatistics")
    for tag, value in (("outputDataMean", statistics.mean), ("outputDataStdDev", statistics.std)):
        _fill(_add(numbers, tag), {"re": _single(value), "im": _single(0.0)})


def _processing_information(parent: Any, spec: ProductSpec) -> None:
    info = _add(parent, "processingInformation")
    done = {
        "rawDataAnalysisUsed": True,
        "orbitDataFileUsed": True,
        "attitudeDataFileUsed": False,
        "rxVariationCorrectionApplied": True,
        "antennaElevationPatternApplied": True,
        "antennaAzimuthPatternApplied": True,
        "antennaAzimuthElementPatternApplied": True,
    }
    _fill(info, {tag: _flag(x) for tag, x in done.items()})
    _fill(
        info,
        {
            "dcMethod": "Data Analysis",
            "dcInputData": "Range Compressed",
            "rangeSpreadingLossCompensationApplied": "true",
            "srgrConversionApplied": "true",
            "detectionPerformed": "true",
            "thermalNoiseCorrectionPerformed": _flag(spec.denoised),
            "applicationLutId": "EW_Default",
        },
    )
    _add(info, "swathProcParamsList", count=0)
    _add(info, "inputDimensionsList", count=0)
    _fill(
        info,
        {
            "referenceRange": _double(8e5),
            "ellipsoidName": "WGS84",
            "ellipsoidSemiMajorAxis": _double(WGS84_A_M),
            "ellipsoidSemiMinorAxis": _double(WGS84_B_M),
            "bistaticDelayCorrectionApplied": "true",
            "topsFilterConvention": "Only Echo Lines",
            "orbitSource": "Auxiliary",
            "attitudeSource": "Downlink",
        },
    )


def grid_positions(spec: ProductSpec) -> tuple[Any, Any]:
    """Lines and pixels of the geolocation grid; 23 x 21 in a full scene."""
    lines = steps(spec.lines, max(1, round(500 * spec.lines / FULL_LINES)))
    return lines, steps(spec.samples, -(-spec.samples // 20))


def _geolocation_grid(root: Any, spec: ProductSpec, geometry: Geometry) -> None:
    lines, pixels = grid_positions(spec)
    lon, lat = geometry.lonlat(lines[:, None], pixels[None, :])
    incidence = geometry.incidence_deg(pixels)
    slant = geometry.slant_range_time_s(pixels)
    elevation = incidence - np.degrees(np.linspace(*geometry.central_angles, spec.samples)[pixels])
    points = _add(_add(root, "geolocationGrid"), "geolocationGridPointList", count=lines.size * pixels.size)
    for i, line in enumerate(lines):
        time = timestamp(spec.time_of_line(line))
        for j, pixel in enumerate(pixels):
            _fill(
                _add(points, "geolocationGridPoint"),
                {
                    "azimuthTime": time,
                    "slantRangeTime": _double(slant[j]),
                    "line": line,
                    "pixel": pixel,
                    "latitude": _double(lat[i, j]),
                    "longitude": _double(lon[i, j]),
                    "height": _double(0.0),
                    "incidenceAngle": _double(incidence[j]),
                    "elevationAngle": _double(elevation[j]),
                },
            )


def _coordinate_conversion(root: Any, spec: ProductSpec, geometry: Geometry) -> None:
    """Slant to ground range and back, as polynomials of degree 8 at the first and the last line."""
    pixel = np.linspace(0, spec.samples - 1, 200)
    ground, slant = geometry.ground_range_m(pixel), geometry.slant_range_m(pixel)
    to_ground = Polynomial.fit(slant - slant[0], ground, 8).convert().coef
    to_slant = Polynomial.fit(ground, slant, 8).convert().coef
    conversions = _add(_add(root, "coordinateConversion"), "coordinateConversionList", count=2)
    for line in (0, spec.lines - 1):
        one = _add(conversions, "coordinateConversion")
        _fill(
            one,
            {
                "azimuthTime": timestamp(spec.time_of_line(line)),
                "slantRangeTime": _double(2 * slant[0] / SPEED_OF_LIGHT_M_S),
                "sr0": _double(slant[0]),
            },
        )
        _list(one, "srgrCoefficients", map(_double, np.asarray(to_ground, float)))
        _add(one, "gr0", _double(0.0))
        _list(one, "grsrCoefficients", map(_double, np.asarray(to_slant, float)))


def _swath_merging(root: Any, luts: SimulatedLuts) -> None:
    merges = _add(_add(root, "swathMerging"), "swathMergeList", count=len(SWATHS))
    for s, name in enumerate(SWATHS):
        merge = _add(merges, "swathMerge")
        _add(merge, "swath", name)
        own = [b for b in luts.blocks if b.swath == s]
        bounds = _add(merge, "swathBoundsList", count=len(own))
        for b in own:
            _fill(
                _add(bounds, "swathBounds"),
                {
                    "azimuthTime": timestamp(luts.spec.time_of_line(b.first_line)),
                    "firstAzimuthLine": b.first_line,
                    "firstRangeSample": b.first_sample,
                    "lastAzimuthLine": b.last_line,
                    "lastRangeSample": b.last_sample,
                },
            )
