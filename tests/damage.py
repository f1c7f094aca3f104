"""Damaged copies of products, cheaply: files are shared with the original by hard links until one is replaced."""

from __future__ import annotations

import hashlib
import os
import shutil
import zipfile
from collections.abc import Callable
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


def changed_xml(file: Path, change: Callable[[etree._Element], None]) -> None:
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
