"""How the files of a simulated product are written: elements, number formats, the header of every annotation."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from lxml import etree

from floemap.simulation.safe.spec import ProductSpec, timestamp


def add(parent: Any, tag: str, text: object = None, **attributes: object) -> Any:
    """Append an element and return it."""
    element = etree.SubElement(parent, tag, {k: str(v) for k, v in attributes.items()})
    if text is not None:
        element.text = str(text)
    return element


def fill(parent: Any, content: Mapping[str, object]) -> None:
    """Append elements with text."""
    for tag, text in content.items():
        add(parent, tag, text)


def double(x: float) -> str:
    """A number in the digits that annotations give to positions and times."""
    return f"{x:.15e}"


def single(x: float) -> str:
    """A number in the digits that annotations give to look-up tables."""
    return f"{x:.6e}"


def values(parent: Any, tag: str, items: Iterable[object]) -> None:
    """Append a list of words with its count."""
    words = [str(v) for v in items]
    add(parent, tag, " ".join(words), count=len(words))


def flag(x: bool) -> str:
    """A truth value."""
    return "true" if x else "false"


def document(root: Any) -> bytes:
    """The finished file."""
    body: bytes = etree.tostring(root, encoding="UTF-8", pretty_print=True)
    return b'<?xml version="1.0" encoding="UTF-8"?>\n' + body


def header(root: Any, spec: ProductSpec, polarisation: str) -> None:
    """Append the header that all annotation files begin with."""
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
