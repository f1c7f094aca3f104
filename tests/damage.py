"""Damage to files: to any by its bytes, and to those of a known structure by what they hold.

Copies of products are cheap: files are shared with the original by hard links until one is replaced.
"""

from __future__ import annotations

import hashlib
import math
import os
import random
import re
import shutil
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

from lxml import etree

#: How a product's files are told apart in ESA's names.
MANIFEST = "manifest.safe"


def copied(product: Path, into: Path) -> Path:
    """Copy a product's folder into another folder; see :func:`replaced` for how to change it."""
    return Path(shutil.copytree(product, into / product.name, copy_function=os.link))


def replaced(file: Path, content: bytes) -> None:
    """Give a file of a copy other content, and leave the original alone."""
    file.unlink()
    file.write_bytes(content)


def one(product: Path, pattern: str) -> Path:
    """Return the file that the pattern finds, for example ``annotation/*-hh-*.xml``."""
    (found,) = product.glob(pattern)
    return found


def edited(file: Path, old: str, new: str, count: int = -1) -> None:
    """Replace text in a file of a copy; the text must be there."""
    text = file.read_text(encoding="utf-8")
    assert old in text, f"{file.name} lacks {old!r}"
    replaced(file, text.replace(old, new, count).encode())


def changed_xml(file: Path, change: Callable[[etree._Element], object]) -> None:
    """Change an XML file of a copy by its root element."""
    root = etree.fromstring(file.read_bytes())
    change(root)
    replaced(file, etree.tostring(root, xml_declaration=True, encoding="UTF-8"))


def without_checksums(product: Path) -> Path:
    """Take the checksums out of a copy's manifest, so that it is no checksum that finds the next damage."""

    def strip(root: etree._Element) -> None:
        for checksum in list(root.iter("checksum")):
            checksum.getparent().remove(checksum)

    changed_xml(product / MANIFEST, strip)
    return product


def with_new_checksums(product: Path) -> Path:
    """Write the checksums anew into a copy's manifest, as whoever forges a product would."""

    def renew(root: etree._Element) -> None:
        for stream in root.iter("byteStream"):
            file = product / stream.find("fileLocation").get("href").removeprefix("./")
            if file.exists():
                stream.find("checksum").text = hashlib.md5(file.read_bytes(), usedforsecurity=False).hexdigest()

    changed_xml(product / MANIFEST, renew)
    return product


def zipped(product: Path, archive: Path, method: int = zipfile.ZIP_STORED) -> Path:
    """Zip a product's folder, with the folder as the only thing at the top."""
    with zipfile.ZipFile(archive, "w", method) as z:
        for file in sorted(f for f in product.rglob("*") if f.is_file()):
            z.write(file, f"{product.name}/{file.relative_to(product).as_posix()}")
    return archive


# --- files in general


def damaged(content: bytes, rng: random.Random, rounds: int) -> Iterator[tuple[str, bytes]]:
    """Yield names and damaged forms of a file: cut, with flipped bits, zeroed, overwritten, missing and added parts."""
    for name, changed in _damaged(content, rng, rounds):
        if changed != content:
            yield name, changed


def _damaged(content: bytes, rng: random.Random, rounds: int) -> Iterator[tuple[str, bytes]]:
    n = len(content)
    yield "emptied", b""
    yield "garbage", rng.randbytes(max(n // 10, 50))
    for length in {1, 16, n // 3, n - 1, rng.randrange(n)}:
        yield f"cut to {length}", content[:length]
    for _ in range(rounds):
        flipped = bytearray(content)
        places = sorted(rng.sample(range(8 * n), rng.choice([1, 1, 1, 3, 20])))
        for place in places:
            flipped[place // 8] ^= 1 << place % 8
        yield f"bits {places} flipped", bytes(flipped)
    for filler in (bytes, rng.randbytes):
        start, length = rng.randrange(n), rng.choice([1, 4, 64, 4096])
        end = min(start + length, n)
        yield f"{start} to {end} overwritten", content[:start] + filler(end - start) + content[end:]
    start = rng.randrange(n)
    end = min(n, start + rng.choice([1, 10, 512]))
    yield f"{start} to {end} missing", content[:start] + content[end:]
    yield f"{start} to {end} twice", content[:end] + content[start:]


# --- values of XML elements

TEXTS = ["", "0", "-1", "3.7", "NaN", "inf", "1e300", "-1e-300", "9" * 20, "abc", "1 2 3", "9999-12-31T23:59:59.9", "²"]


def _scaled(factor: float) -> Callable[[list[float]], list[float]]:
    return lambda values: [v * factor for v in values]


LISTS: dict[str, Callable[[list[float]], list[float]]] = {
    "negated": _scaled(-1),
    "a thousand times": _scaled(1000),
    "a thousandth": _scaled(0.001),
    "plus one": lambda values: [v + 1 for v in values],
    "reversed": lambda values: values[::-1],
    "first lost": lambda values: values[1:],
    "last twice": lambda values: [*values, *values[-1:]],
    "one not a number": lambda values: [*values[:-1], float("nan")],
    "one enormous": lambda values: [*values[:-1], 1e308],
    "one zero": lambda values: [0.0, *values[1:]],
    "all equal": lambda values: [values[0]] * len(values),
}


def mutations(element: etree._Element) -> list[str]:
    """Names of what can be done to an element; see :func:`mutate`."""
    if len(element):
        return ["removed", "twice", "emptied", "swapped"]
    names = ["removed", "twice", *(f"text {t}" for t in TEXTS)]
    words = (element.text or "").split()
    numeric = bool(words) and all(re.fullmatch(r"[-+.\dEe]+", w) for w in words)
    return [*names, *LISTS] if numeric else names


def mutate(element: etree._Element, name: str) -> None:
    """Change an element in place."""
    parent = element.getparent()
    if name == "removed":
        parent.remove(element)
    elif name == "twice":
        parent.insert(parent.index(element), etree.fromstring(etree.tostring(element)))
    elif name == "emptied":
        for child in list(element):
            element.remove(child)
    elif name == "swapped":
        other = element.getprevious() if element.getnext() is None else element.getnext()
        if other is not None:
            parent.insert(parent.index(element), other)
    elif name.startswith("text "):
        element.text = name.removeprefix("text ")
    else:
        values = LISTS[name]([float(x) for x in (element.text or "").split()])
        element.text = " ".join(str(int(v)) if math.isfinite(v) and v == int(v) else str(v) for v in values)
