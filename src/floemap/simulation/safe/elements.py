"""Elements of the XML files of a simulated product: number formats, and the header of every annotation."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from lxml import etree

from floemap.simulation.safe.spec import ProductSpec, timestamp

#: Namespaces of manifests and map overlays, by prefix.
NAMESPACES = {
    "xsi": "http://www.w3.org/2001/XMLSchema-instance",
    "gml": "http://www.opengis.net/gml",
    "xfdu": "urn:ccsds:schema:xfdu:1",
    "safe": "http://www.esa.int/safe/sentinel-1.0",
    "s1": "http://www.esa.int/safe/sentinel-1.0/sentinel-1",
    "s1sar": "http://www.esa.int/safe/sentinel-1.0/sentinel-1/sar",
    "s1sarl1": "http://www.esa.int/safe/sentinel-1.0/sentinel-1/sar/level-1",
    "gx": "http://www.google.com/kml/ext/2.2",
}


def qualified(tag: str) -> str:
    """Return a tag with the namespace of its prefix, if it has one, as lxml writes it."""
    prefix, _, local = tag.rpartition(":")
    return f"{{{NAMESPACES[prefix]}}}{local}" if prefix else local


def add(parent: Any, tag: str, text: object = None, **attributes: object) -> Any:
    """Append an element and return it; the tag may have a prefix of :data:`NAMESPACES`."""
    element = etree.SubElement(parent, qualified(tag), {k: str(v) for k, v in attributes.items()})
    if text is not None:
        element.text = str(text)
    return element


def fill(parent: Any, content: Mapping[str, object]) -> None:
    """Append elements with text."""
    for tag, text in content.items():
        add(parent, tag, text)


def double(x: float) -> str:
    """Return a number with the digits that annotations have for positions and times."""
    return f"{x:.15e}"


def single(x: float) -> str:
    """Return a number with the digits that annotations have for look-up tables."""
    return f"{x:.6e}"


def values(parent: Any, tag: str, items: Iterable[object]) -> None:
    """Append a list of words with its count."""
    words = [str(v) for v in items]
    add(parent, tag, " ".join(words), count=len(words))


def flag(x: bool) -> str:
    """Return a truth value as XML."""
    return "true" if x else "false"


def document(root: Any) -> bytes:
    """Return the content of the file."""
    body: bytes = etree.tostring(root, encoding="UTF-8", pretty_print=True)
    return b'<?xml version="1.0" encoding="UTF-8"?>\n' + body


def header(root: Any, spec: ProductSpec, polarisation: str) -> None:
    """Append the header of annotation files."""
    fill(
        add(root, "adsHeader"),
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
