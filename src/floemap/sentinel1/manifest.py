"""What a product's manifest says of its kind, its processor and itself."""

from __future__ import annotations

import binascii
import logging
import re

from floemap.errors import ProductError
from floemap.sentinel1.container import Container
from floemap.sentinel1.xmltree import XmlTree

logger = logging.getLogger(__name__)


def refuse_other_kinds(manifest: XmlTree) -> None:
    """Refuse what is no ground-range detected product of Sentinel-1.

    Raises
    ------
    ProductError
        With what was found.
    """
    path = manifest.container.path
    families = [n.element.text or "" for n in manifest.all(".//{*}platform/{*}familyName")]
    if not any(f.strip().upper() == "SENTINEL-1" for f in families):
        raise ProductError(
            f"is of the platform {' or '.join(families)[:80] or 'unknown'}, where SENTINEL-1 is needed.",
            path=path,
            hint="Choose a Sentinel-1 product.",
        )
    kinds = [n.text() for n in manifest.all(".//{*}productType")]
    if kinds != ["GRD"]:
        found = kinds[0][:80] if kinds else "RAW or unknown"
        raise ProductError(
            f"is a {found} product, where a ground-range detected one is needed.",
            path=path,
            hint="Choose a GRD product, such as EW_GRDM_1SDH.",
        )


def warn_of_changed_manifest(container: Container) -> None:
    """Warn if the manifest is not the one that the product was named by.

    A product's name ends in the CRC-16 (CCITT) of its manifest, which has no other checksum (S1-RS-MDA-52-7441). Only
    a warning, for it says nothing of pixels, and folders may be renamed.
    """
    named = re.search(r"_([0-9A-F]{4})$", container.name)
    found = f"{binascii.crc_hqx(container.read('manifest.safe'), 0xFFFF):04X}"
    if named is not None and named.group(1) != found:
        logger.warning(
            "%s: manifest.safe has the checksum %s, where the product's name says %s: it was changed after it was made",
            container.path, found, named.group(1),
        )  # fmt: skip


def ipf_version(manifest: XmlTree) -> tuple[int, int]:
    """Return (major, minor) of the processor's version: "003.52" is (3, 52)."""
    versions = [s.element.get("version", "") for s in manifest.all(".//{*}facility/{*}software")]
    match = re.fullmatch(r"(\d+)\.(\d+)", versions[0].strip()) if versions else None
    if match is None:
        raise manifest.error(f"gives the processor's version as {versions[:1]}")
    return int(match.group(1)), int(match.group(2))


def processor(manifest: XmlTree) -> str:
    """Return the name of the facility that made the product, in small letters."""
    facilities = manifest.all(".//{*}facility")
    return facilities[0].element.get("name", "").lower() if facilities else ""
