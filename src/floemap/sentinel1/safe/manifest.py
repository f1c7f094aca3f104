"""Reading a product's manifest: kind of product, processor, orbit, checksums."""

from __future__ import annotations

import binascii
import logging
import re
from collections.abc import Callable, Sequence

from floemap.errors import ProductError
from floemap.sentinel1.safe.container import Container
from floemap.sentinel1.safe.xml import XmlTree
from floemap.zips import clean_name

logger = logging.getLogger(__name__)

#: Names of ESA's Instrument Processing Facility in manifests.
_IPF = re.compile(r"(sentinel|s)[ _-]?1[ _-]ipf", re.IGNORECASE)


def refuse_other_kinds(manifest: XmlTree) -> None:
    """Check that the product is a ground-range detected one of Sentinel-1.

    Raises
    ------
    ProductError
        If it is of another platform or type.
    """
    path = manifest.container.path
    families = [n.element.text or "" for n in manifest.all(".//{*}platform/{*}familyName")]
    if not any(f.strip().upper() == "SENTINEL-1" for f in families):
        raise ProductError(
            f"is of the platform {' or '.join(families)[:80] or 'unknown'}, where SENTINEL-1 is needed.",
            path=path,
            hint="Give a Sentinel-1 product.",
        )
    kinds = sorted({n.text() for n in manifest.all(".//{*}productType")})
    if kinds != ["GRD"]:
        found = " and ".join(kinds)[:80] or "RAW or unknown"
        raise ProductError(
            f"is a {found} product, where a ground-range detected one is needed.",
            path=path,
            hint="Give a GRD product, such as EW_GRDM_1SDH.",
        )


def warn_of_changed_manifest(container: Container) -> None:
    """Log a warning if the manifest was changed after the product got its name.

    A product's name ends in the CRC-16 (CCITT) of its manifest, which has no other checksum (S1-RS-MDA-52-7441). This
    is not an error, because pixels may be right all the same and users may rename folders.
    """
    named = re.search(r"_([0-9A-F]{4})$", container.name)
    found = f"{binascii.crc_hqx(container.read('manifest.safe'), 0xFFFF):04X}"
    if named is not None and named.group(1) != found:
        logger.warning(
            "%s: manifest.safe has the checksum %s, where the product's name gives %s: the manifest was changed",
            container.path, found, named.group(1),
        )  # fmt: skip


def ipf_version(manifest: XmlTree) -> tuple[int, int]:
    """Return the version of the software that made the image, as (major, minor): "003.52" is (3, 52).

    A manifest lists the processing steps of a product, each nested in the one that used its result. Converters, such as
    the one that makes COG_SAFE products, add steps around, before or beside the processor's. The processor's step is
    therefore identified by the name of its software. If there are several, the outermost made the image, and those
    inside made its inputs.

    Raises
    ------
    ProductError
        If no software is named Sentinel-1 IPF, its version is not a number, or outermost steps disagree.
    """
    software = manifest.all(".//{*}facility/{*}software")
    steps = [s for s in software if _IPF.fullmatch(" ".join(s.element.get("name", "").split()))]
    if not steps:
        found = ", ".join(repr(s.element.get("name", "")[:40]) for s in software[:4]) or "no software"
        raise manifest.error(f"names {found}, but not the processor 'Sentinel-1 IPF', whose version is needed")
    depths = [sum(1 for _ in s.element.iterancestors()) for s in steps]
    outermost = [s for s, depth in zip(steps, depths, strict=True) if depth == min(depths)]
    versions = sorted({s.element.get("version", "").strip() for s in outermost})
    match = re.fullmatch(r"(\d{1,4})\.(\d{1,4})(\.\d+)*", versions[0])
    if len(versions) != 1 or match is None:
        raise manifest.error(f"gives the processor's version as {' and '.join(repr(v[:40]) for v in versions)}")
    return int(match.group(1)), int(match.group(2))


def is_simulated(manifest: XmlTree) -> bool:
    """Return whether the name of a facility that made the product contains "simulator"."""
    return any("simulator" in f.element.get("name", "").lower() for f in manifest.all(".//{*}facility"))


def relative_orbit(manifest: XmlTree) -> int | None:
    """Return the relative orbit number at the product's start, or None if the manifest has none."""
    found = manifest.all(".//{*}orbitReference/{*}relativeOrbitNumber")
    at_start = [n for n in found if n.element.get("type", "start") == "start"] or found
    numbers = {n.count(".") for n in at_start}
    if len(numbers) > 1:
        raise manifest.error(f"gives the relative orbit as {' and '.join(map(str, sorted(numbers)))}")
    return numbers.pop() if numbers else None


def md5_checksums(
    manifest: XmlTree, container: Container, renamed: Callable[[str, str], Sequence[str]]
) -> dict[str, frozenset[str]]:
    """Return the MD5 sums in the manifest by path inside the product.

    Parameters
    ----------
    renamed
        Called with the kind of a data object (``repID``) and a listed path that does not exist; returns the files of
        the product that replace it. Cloud buckets rename the files and do not change the manifest.

    Returns
    -------
    One sum for a file that is listed under its name. A renamed file may match several data objects; then any of their
    sums is right.
    """
    own: dict[str, set[str]] = {}
    others: dict[str, set[str]] = {}
    for entry in manifest.all("dataObjectSection/dataObject"):
        streams = entry.all("byteStream")
        sums = {
            (c.element.text or "").strip().lower()
            for stream in streams
            for c in stream.all("checksum")
            if c.element.get("checksumName", "").upper().replace("-", "") == "MD5"
        }
        for location in (n for stream in streams for n in stream.all("fileLocation")):
            listed = clean_name(location.element.get("href") or "")
            if not sums:
                continue
            if listed in container.sizes:
                own.setdefault(listed, set()).update(sums)
            else:
                for file in renamed(entry.element.get("repID", ""), listed):
                    others.setdefault(file, set()).update(sums)
    return {file: frozenset(sums) for file, sums in (others | own).items()}
