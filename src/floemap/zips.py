"""Zips from strangers: looked at before anything in them is read. Nothing is unpacked; members are read in place."""

from __future__ import annotations

import stat
import struct
import zipfile
import zlib
from collections.abc import Iterable
from pathlib import Path, PurePosixPath

from floemap.errors import FloemapError

#: No Sentinel-1 GRD product is larger; an SLC may be, and is refused for other reasons. Charts are far smaller.
MAX_TOTAL_BYTES = 24 << 30
#: Radar pixels compress to about a half, annotation XML to about a tenth, an all-zero border to a thousandth.
MAX_RATIO = 300
#: Members up to this size may swell by any ratio: they cannot do harm.
_HARMLESS_BYTES = 8 << 20

#: All that Python's zipfile raises over a damaged or strange archive.
UNREADABLE = (OSError, EOFError, RuntimeError, ValueError, struct.error, zipfile.BadZipFile, zlib.error)


def brief(error: BaseException) -> str:
    """Return an error's words, cut: a damaged archive's own names may be long and binary."""
    words = str(error)
    return words if len(words) <= 200 else f"{words[:200]} ..."


def clean_name(name: str) -> str:
    """Return a path inside an archive or product in one form: parts joined by single slashes, without ``.`` parts.

    Some tools write ``./a/b``, ``a//b`` or, on Windows, ``a\\b`` for ``a/b``. ``..`` and a leading slash stay.
    """
    unified = name.replace("\\", "/")
    parts = [p for p in unified.split("/") if p not in ("", ".")]
    return ("/" if unified.startswith("/") else "") + "/".join(parts)


def refuse_hostile(path: Path, members: Iterable[zipfile.ZipInfo], kind: type[FloemapError]) -> None:
    """Refuse members that point outside, links, encryption, unusual compression, twins, and sizes beyond reason.

    Raises
    ------
    FloemapError
        Of the given kind, with the member's name.
    """
    seen: set[str] = set()
    total = 0
    for m in members:
        parts = PurePosixPath(m.filename).parts
        if m.filename.startswith("/") or "\\" in m.filename or ".." in parts or ":" in m.filename:
            raise kind(f"holds a member that points outside: {m.filename!r}.", path=path, hint="Don't trust it.")
        if stat.S_ISLNK(m.external_attr >> 16):
            raise kind(f"holds a link: {m.filename!r}.", path=path, hint="Don't trust it.")
        if m.flag_bits & 1:
            raise kind(f"holds an encrypted member: {m.filename!r}.", path=path, hint="Unpack it yourself.")
        if m.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            message = f"holds a member of the compression method {m.compress_type}: {m.filename!r}."
            raise kind(message, path=path, hint="Unpack it yourself.")
        if m.filename in seen:
            raise kind(f"holds two members named {m.filename!r}.", path=path, hint="Don't trust it.")
        seen.add(m.filename)
        if m.file_size > _HARMLESS_BYTES and m.file_size > MAX_RATIO * max(m.compress_size, 1):
            ratio = m.file_size // max(m.compress_size, 1)
            raise kind(f"{m.filename} would swell {ratio} times.", path=path, hint="Don't trust it.")
        total += m.file_size
    if total > MAX_TOTAL_BYTES:
        raise kind(f"would unpack to {total >> 30} GiB.", path=path, hint="Nothing that is read here is that large.")
