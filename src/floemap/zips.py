"""Zips: checks of those from strangers before any member is read, and writing of those that are the same byte for byte.

Nothing is unpacked; members are read in place.
"""

from __future__ import annotations

import re
import stat
import struct
import zipfile
import zlib
from collections.abc import Iterable, Mapping
from datetime import datetime
from io import BytesIO
from pathlib import Path

from floemap.errors import FloemapError

#: No Sentinel-1 GRD product is larger; an SLC may be, and is refused for other reasons. Charts are far smaller.
MAX_TOTAL_BYTES = 24 << 30
#: Radar pixels compress to about a half, annotation XML to about a tenth, an all-zero border to a thousandth.
MAX_RATIO = 300
#: Members up to this size may have any ratio: they are harmless.
_HARMLESS_BYTES = 8 << 20

_BY_HAND = "Unpack it yourself, if you trust its source."

#: All exceptions that Python's zipfile raises for a damaged or unusual archive.
UNREADABLE = (OSError, EOFError, RuntimeError, ValueError, struct.error, zipfile.BadZipFile, zlib.error)


def brief(error: BaseException) -> str:
    """Return an error's message, cut: names in a damaged archive may be long and binary."""
    words = str(error)
    return words if len(words) <= 200 else f"{words[:200]} ..."


def clean_name(name: str) -> str:
    """Return a path inside an archive or product in one form: parts joined by single slashes, without ``.`` parts.

    Some tools write ``./a/b``, ``a//b`` or, on Windows, ``a\\b`` for ``a/b``. ``..`` and a leading slash stay.
    """
    unified = name.replace("\\", "/")
    parts = [p for p in unified.split("/") if p not in ("", ".")]
    return ("/" if unified.startswith("/") else "") + "/".join(parts)


def refuse_hostile(
    path: Path, members: Iterable[zipfile.ZipInfo], kind: type[FloemapError]
) -> dict[str, zipfile.ZipInfo]:
    """Refuse paths that leave the archive, links, encryption, unusual compression, equal names, and excessive sizes.

    Returns
    -------
    dict
        The members that are files, by :func:`clean_name`.

    Raises
    ------
    FloemapError
        As `kind`, with the name of the member.
    """
    found: dict[str, zipfile.ZipInfo] = {}
    total = 0
    for m in members:
        name = clean_name(m.filename)
        if m.filename and not name.isprintable():
            raise kind(f"holds a member with control characters in its name: {name!r}.", path=path, hint=_BY_HAND)
        if name.startswith("/") or ".." in name.split("/") or re.match("[A-Za-z]:", name):
            raise kind(f"holds a member whose path leaves the archive: {m.filename!r}.", path=path, hint=_BY_HAND)
        if stat.S_ISLNK(m.external_attr >> 16):
            raise kind(f"holds a link: {m.filename!r}.", path=path, hint=_BY_HAND)
        if m.filename.endswith(("/", "\\")):
            continue
        if not name:
            raise kind("holds a member without a name.", path=path, hint=_BY_HAND)
        if m.flag_bits & 1:
            raise kind(f"holds an encrypted member: {m.filename!r}.", path=path, hint=_BY_HAND)
        if m.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            message = f"holds a member with compression method {m.compress_type}: {m.filename!r}."
            raise kind(message, path=path, hint=_BY_HAND)
        if name in found:
            raise kind(f"holds two members named {name!r}.", path=path, hint="Make the zip again with one of them.")
        found[name] = m
        if m.file_size > _HARMLESS_BYTES and m.file_size > MAX_RATIO * max(m.compress_size, 1):
            ratio = m.file_size // max(m.compress_size, 1)
            raise kind(f"{name} would grow to {ratio} times its size on unpacking.", path=path, hint=_BY_HAND)
        total += m.file_size
    if total > MAX_TOTAL_BYTES:
        hint = f"No product or chart is larger than {MAX_TOTAL_BYTES >> 30} GiB. {_BY_HAND}"
        raise kind(f"would unpack to {total >> 30} GiB.", path=path, hint=hint)
    return found


def gdal_member(member: zipfile.ZipInfo) -> str | None:
    """Return the name by which GDAL's /vsizip/ finds a member, or None if GDAL cannot find it.

    GDAL drops one leading ``./`` and reads backslashes as slashes, but does not find names with doubled slashes (GDAL
    3.10, tried).
    """
    name = member.filename.removeprefix("./").replace("\\", "/")
    return None if "//" in name or name.startswith(("./", "/")) else name


#: First bytes of files that are not zips but may be named or given as one: offset, bytes, and kind in words.
_OTHER_ARCHIVES = (
    (0, b"\x1f\x8b", "a gzip file, perhaps of a tar archive"),
    (0, b"BZh", "a bzip2 file, perhaps of a tar archive"),
    (0, b"\xfd7zXZ", "an xz file, perhaps of a tar archive"),
    (0, b"7z\xbc\xaf\x27\x1c", "a 7z archive"),
    (0, b"Rar!\x1a\x07", "a rar archive"),
    (0, b"\x28\xb5\x2f\xfd", "a zstd file, perhaps of a tar archive"),
    (257, b"ustar", "a tar archive"),
)


def other_archive(head: bytes) -> str | None:
    """Return, in words, which other kind of archive a file is by its first 512 bytes, or None."""
    return next((words for at, magic, words in _OTHER_ARCHIVES if head[at : at + len(magic)] == magic), None)


def inner_archives(names: Iterable[str]) -> list[str]:
    """Return the members of an archive that are archives themselves, by their suffix."""
    suffixes = (".zip", ".tar", ".tgz", ".gz", ".tbz2", ".bz2", ".txz", ".xz", ".zst", ".7z", ".rar")
    return sorted(n for n in names if n.lower().endswith(suffixes))


#: The first year that a zip can hold.
_FIRST_YEAR = 1980


def zipped(parts: Mapping[str, bytes], when: datetime, *, level: int = 6) -> bytes:
    """Return a zip of files by their paths in it, sorted, all dated `when` (UTC); the same files give the same bytes.

    `level` is that of zlib, at most 9.
    """
    date = when.timetuple()[:6] if when.year >= _FIRST_YEAR else (_FIRST_YEAR, 1, 1, 0, 0, 0)
    file = BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED, compresslevel=level) as archive:
        for name, content in sorted(parts.items()):
            entry = zipfile.ZipInfo(name, date)
            entry.compress_type, entry.external_attr, entry.create_system = zipfile.ZIP_DEFLATED, 0o644 << 16, 3
            archive.writestr(entry, content)
    return file.getvalue()
