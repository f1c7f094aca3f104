"""The calibration and noise annotations of a simulated product, in the form of real ones (S1-RS-MDA-52-7441)."""

from __future__ import annotations

from lxml import etree

from floemap.simulation.safe.elements import add, document, fill, header, single, values
from floemap.simulation.safe.luts import BETA_NOUGHT, SimulatedLuts
from floemap.simulation.safe.spec import SWATHS, timestamp


def calibration_xml(luts: SimulatedLuts, polarisation: str) -> bytes:
    """Return the calibration annotation of one band."""
    spec = luts.spec
    root = etree.Element("calibration")
    header(root, spec, polarisation)
    add(add(root, "calibrationInformation"), "absoluteCalibrationConstant", single(1.0))
    vectors = add(root, "calibrationVectorList", count=len(luts.calibration_lines))
    pixel = [str(x) for x in luts.calibration_pixels]
    sigma, gamma = ([single(x) for x in v] for v in (luts.sigma_nought_vector, luts.gamma_vector))
    beta = [single(BETA_NOUGHT)] * len(pixel)
    for line in luts.calibration_lines:
        vector = add(vectors, "calibrationVector")
        fill(vector, {"azimuthTime": timestamp(spec.time_of_line(line)), "line": line})
        for tag, words in zip(
            ("pixel", "sigmaNought", "betaNought", "gamma", "dn"), (pixel, sigma, beta, gamma, beta), strict=True
        ):
            values(vector, tag, words)
    return document(root)


def noise_xml(luts: SimulatedLuts, polarisation: str) -> bytes:
    """Return the noise annotation of one band, in the format of the specification."""
    spec = luts.spec
    root = etree.Element("noise")
    header(root, spec, polarisation)
    old = spec.noise_format == "vectors"
    names = ("noiseVectorList", "noiseVector", "noiseLut") if old else (
        "noiseRangeVectorList", "noiseRangeVector", "noiseRangeLut")  # fmt: skip
    ranges = luts.range_vectors(polarisation)
    vectors = add(root, names[0], count=len(ranges))
    for r in ranges:
        vector = add(vectors, names[1])
        fill(vector, {"azimuthTime": timestamp(spec.time_of_line(r.line)), "line": r.line})
        values(vector, "pixel", r.pixel)
        values(vector, names[2], map(single, r.value))
    if old:
        return document(root)
    azimuths = luts.azimuth_vectors(polarisation)
    vectors = add(root, "noiseAzimuthVectorList", count=len(azimuths))
    for a in azimuths:
        vector = add(vectors, "noiseAzimuthVector")
        b = a.block
        fill(
            vector,
            {
                "swath": SWATHS[b.swath],
                "firstAzimuthLine": b.first_line,
                "firstRangeSample": b.first_sample,
                "lastAzimuthLine": b.last_line,
                "lastRangeSample": b.last_sample,
            },
        )
        values(vector, "line", a.line)
        values(vector, "noiseAzimuthLut", map(single, a.value))
    return document(root)
