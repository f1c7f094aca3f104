"""The manifest of a simulated product, and its map overlay.

Structure and identifiers are those of real manifests. As in cloud buckets, the manifest lists ESA's long file names
even if the files have short ones.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

from lxml import etree

from floemap.simulation.safe.annotation import flight_pass
from floemap.simulation.safe.elements import NAMESPACES, add, document, qualified
from floemap.simulation.safe.geometry import Geometry
from floemap.simulation.safe.spec import ProductSpec, timestamp
from floemap.version import __version__

FACILITY = "floemap simulator"
_NSSDC = {"S1A": "2014-016A", "S1B": "2016-025A", "S1C": "2024-235A", "S1D": "2025-250A"}


@dataclass(frozen=True)
class FileEntry:
    """A file in the manifest: identity, schema, MIME type, listed path, size in bytes, MD5."""

    identity: str
    schema: str
    mime: str
    href: str
    size: int
    md5: str


def file_entry(path: Path, *, identity: str, schema: str, mime: str, href: str) -> FileEntry:
    """Return the entry of a file, with its size and MD5."""
    return FileEntry(identity, schema, mime, href, path.stat().st_size, md5_of(path))


def md5_of(path: Path) -> str:
    """Return the MD5 of a file, as manifests have it, in hexadecimal digits."""
    with path.open("rb") as f:
        return hashlib.file_digest(f, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()


def _annotation(file: FileEntry) -> str:
    """Return the identity of the metadata object of an annotation file."""
    return f"{file.identity}Annotation"


def _wrapped(section: Any, identity: str, info: str, *, provenance: bool = False) -> Any:
    """Append a metadata object; return the element for its content."""
    classification, category = ("PROVENANCE", "PDI") if provenance else ("DESCRIPTION", "DMD")
    thing = add(section, "metadataObject", ID=identity, classification=classification, category=category)
    wrap = add(thing, "metadataWrap", mimeType="text/xml", vocabularyName="SAFE", textInfo=info)
    return add(wrap, "xmlData")


def corners(spec: ProductSpec, geometry: Geometry) -> list[tuple[float, float]]:
    """Return longitude and latitude of the corners of the footprint, in the order of manifests.

    Last line near, last line far, first line far, first line near.
    """
    last, far = spec.lines - 1, spec.samples - 1
    lon, lat = geometry.lonlat([last, last, 0, 0], [0, far, far, 0])
    return [(float(x), float(y)) for x, y in zip(lon, lat, strict=True)]


def manifest_xml(spec: ProductSpec, geometry: Geometry, files: Sequence[FileEntry]) -> bytes:
    """Return the content of ``manifest.safe`` for the files of a product."""
    root = etree.Element(qualified("xfdu:XFDU"), nsmap=NAMESPACES)
    root.set("version", "esa/safe/sentinel-1.0/sentinel-1/sar/level-1/grd/standard/ewdp")
    package = add(root, "informationPackageMap")
    unit = add(
        package,
        "xfdu:contentUnit",
        unitType="SAFE Archive Information Package",
        textInfo="Sentinel-1 EW Level-1 GRD Product (simulated)",
        dmdID="acquisitionPeriod platform generalProductInformation measurementOrbitReference measurementFrameSet",
        pdiID="processing",
    )
    for f in files:
        kind = "Metadata Unit" if f.mime == "text/xml" else "Measurement Data Unit"
        one = add(unit, "xfdu:contentUnit", unitType=kind, repID=f.schema)
        described_by = [_annotation(a) for a in files if a.mime == "text/xml" and a.identity.endswith(f.identity)]
        if f.mime != "text/xml" and described_by:  # so GDAL finds the annotation of a measurement
            one.set("dmdID", " ".join(described_by))
        add(one, "dataObjectPointer", dataObjectID=f.identity)
    section = add(root, "metadataSection")
    for f in files:
        if f.mime == "text/xml":
            thing = add(section, "metadataObject", ID=_annotation(f), classification="DESCRIPTION", category="DMD")
            add(thing, "dataObjectPointer", dataObjectID=f.identity)
    _processing(section, spec)
    _platform(section, spec)
    _orbit_reference(section, spec)
    _general_information(section, spec)
    _acquisition_period(section, spec)
    frame = add(add(_wrapped(section, "measurementFrameSet", "Frame Set"), "safe:frameSet"), "safe:frame")
    footprint = add(frame, "safe:footPrint", srsName="http://www.opengis.net/gml/srs/epsg.xml#4326")
    add(footprint, "gml:coordinates", " ".join(f"{y:.6f},{x:.6f}" for x, y in corners(spec, geometry)))
    objects = add(root, "dataObjectSection")
    for f in files:
        stream = add(
            add(objects, "dataObject", ID=f.identity, repID=f.schema), "byteStream", mimeType=f.mime, size=f.size
        )
        add(stream, "fileLocation", locatorType="URL", href=f.href)
        add(stream, "checksum", f.md5, checksumName="MD5")
    return document(root)


def _processing(section: Any, spec: ProductSpec) -> None:
    place = _wrapped(section, "processing", "Processing", provenance=True)
    # The time of simulation would differ from run to run, so the time of the product is used.
    made = add(
        place,
        "safe:processing",
        name="Simulation of a GRD product",
        start=timestamp(spec.stop_time),
        stop=timestamp(spec.stop_time),
    )
    facility = add(made, "safe:facility", country="None", name=FACILITY, organisation="floemap", site=__version__)
    add(facility, "safe:software", name="Sentinel-1 IPF", version=spec.ipf_version)


def _platform(section: Any, spec: ProductSpec) -> None:
    platform = add(_wrapped(section, "platform", "Platform Description"), "safe:platform")
    add(platform, "safe:nssdcIdentifier", _NSSDC[spec.mission])
    add(platform, "safe:familyName", "SENTINEL-1")
    add(platform, "safe:number", spec.mission[-1])
    instrument = add(platform, "safe:instrument")
    add(instrument, "safe:familyName", "Synthetic Aperture Radar", abbreviation="SAR")
    mode = add(add(instrument, "safe:extension"), "s1sarl1:instrumentMode")
    add(mode, "s1sarl1:mode", "EW")
    add(mode, "s1sarl1:swath", "EW")


def _orbit_reference(section: Any, spec: ProductSpec) -> None:
    orbit = add(_wrapped(section, "measurementOrbitReference", "Orbit Reference"), "safe:orbitReference")
    for tag, number in (("orbitNumber", spec.orbit), ("relativeOrbitNumber", spec.relative_orbit)):
        for when in ("start", "stop"):
            add(orbit, f"safe:{tag}", number, type=when)
    add(orbit, "safe:cycleNumber", spec.orbit // 175)
    add(orbit, "safe:phaseIdentifier", 1)
    properties = add(add(orbit, "safe:extension"), "s1:orbitProperties")
    add(properties, "s1:pass", flight_pass(spec))
    add(properties, "s1:ascendingNodeTime", timestamp(spec.start - timedelta(minutes=27)))


def _general_information(section: Any, spec: ProductSpec) -> None:
    place = _wrapped(section, "generalProductInformation", "General Product Information")
    info = add(place, "s1sarl1:standAloneProductInformation")
    content: list[tuple[str, object]] = [
        ("instrumentConfigurationID", 7),
        ("missionDataTakeID", int(spec.datatake, 16)),
    ]
    content += [("transmitterReceiverPolarisation", p) for p in spec.polarisations]
    content += [
        ("productClass", "S"),
        ("productClassDescription", "SAR Standard L1 Product"),
        ("productComposition", "Slice"),
        ("productType", "GRD"),
        ("productTimelinessCategory", "Fast-24h"),
        ("sliceProductFlag", "true"),
        ("segmentStartTime", timestamp(spec.start)),
        ("sliceNumber", 1),
        ("totalSlices", 1),
    ]
    for tag, text in content:
        add(info, f"s1sarl1:{tag}", text)


def _acquisition_period(section: Any, spec: ProductSpec) -> None:
    period = add(_wrapped(section, "acquisitionPeriod", "Acquisition Period"), "safe:acquisitionPeriod")
    add(period, "safe:startTime", timestamp(spec.start))
    add(period, "safe:stopTime", timestamp(spec.stop_time))


def overlay_kml(spec: ProductSpec, geometry: Geometry) -> bytes:
    """Return the content of ``preview/map-overlay.kml``: the footprint of the quick-look."""
    root = etree.Element("kml", nsmap={"gx": NAMESPACES["gx"]})
    folder = add(add(root, "Document"), "Folder")
    overlay = add(folder, "GroundOverlay")
    add(overlay, "name", "Sentinel-1 Image Overlay (simulated)")
    add(add(overlay, "Icon"), "href", "quick-look.png")
    ring = " ".join(f"{x:.6f},{y:.6f}" for x, y in corners(spec, geometry))
    add(add(overlay, "gx:LatLonQuad"), "coordinates", ring)
    return document(root)
