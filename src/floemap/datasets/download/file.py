"""Downloads of single files: resumed after a break, verified, and renamed to their name only when they are right.

Bytes arrive in ``NAME.part``; ``NAME.part.json`` beside it records which version of the file they belong to. A stopped
run leaves these two files, and the next run resumes there. When all bytes have arrived and are verified, ``NAME.part``
becomes ``NAME``. Wrong bytes are deleted and downloaded once more from the start; a second failure is an error.

Resuming is our own code: urllib3's retries repeat whole requests only.
"""

from __future__ import annotations

import hashlib
import itertools
import logging
import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeGuard

from floemap.datasets.download.http import (
    CHUNK_BYTES,
    Bearer,
    BrokenConnectionError,
    Stopped,
    Web,
    check_encoding,
    chunks,
    plain,
    refused,
    whole_number,
)
from floemap.errors import DownloadError, FloemapError
from floemap.results.names import is_plain
from floemap.results.stage import made_folder, os_errors, read_json, sync, write_json

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class RemoteFile:
    """A file on a server.

    Attributes
    ----------
    name
        Name under which it is stored.
    url
        Address of the file.
    size
        Catalogued size in bytes; None where the catalogue does not give it.
    md5
        Catalogued MD5, hexadecimal; None where the catalogue does not give it.
    at_most
        Largest number of bytes to accept: `size`, or more where the server may repack the file.
    """

    name: str
    url: str
    size: int | None
    md5: str | None
    at_most: int


def is_size(value: Any) -> TypeGuard[int]:
    """Return whether a catalogue's value can be a file's size in bytes."""
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 1 << 63


def is_md5(value: Any) -> TypeGuard[str]:
    """Return whether a catalogue's value can be an MD5."""
    return isinstance(value, str) and re.fullmatch(r"[0-9a-fA-F]{32}", value) is not None


def is_file_name(name: Any) -> TypeGuard[str]:
    """Return whether a name from a server can be the name of a file; see :func:`floemap.results.names.is_plain`.

    Names with the suffixes of partial downloads cannot: they would belong to another file.
    """
    if not isinstance(name, str) or not name.isprintable() or not is_plain(name):
        return False
    return 0 < len(name.encode()) <= 200 and not name.endswith((".part", ".part.json"))


class _WrongBytesError(Exception):
    """The bytes that arrived are not the file. It does not leave this module."""


def remaining_bytes(file: RemoteFile, folder: Path) -> int:
    """Return how many more bytes in `folder` the download needs, at most."""
    part = folder / f"{file.name}.part"
    have = part.stat().st_size if part.exists() and _same_version(file, part) else 0
    return max(file.at_most - have, 0)


def download(
    file: RemoteFile,
    folder: Path,
    web: Web,
    *,
    bearer: Bearer | None = None,
    check: Callable[[Path], None] | None = None,
    received: Callable[[int], None] = lambda bytes_now: None,
) -> Path:
    """Download a file into a folder, whole and verified, or not at all.

    Parameters
    ----------
    check
        Reads the file and raises a FloemapError if it is wrong. It decides where the catalogue has no checksum, or
        another one because the server repacks the file.
    received
        Called with the number of bytes on the disk.

    Returns
    -------
    Path
        Path of the downloaded file.

    Raises
    ------
    DownloadError
        If the server refuses, does not answer after several tries, or sent wrong bytes twice.
    OutputError
        If the folder cannot be written.
    Stopped
        If `web` was stopped; the partial file stays.
    """
    final, part = folder / file.name, folder / f"{file.name}.part"
    with os_errors(final), made_folder(folder, final):
        wrong = fruitless = 0
        while True:
            before = part.stat().st_size if part.exists() else 0
            try:
                _receive(file, part, web, bearer, received)
                _verify(file, part, check)
                break
            except BrokenConnectionError as e:
                after = part.stat().st_size if part.exists() else 0
                fruitless = 1 if after >= before + CHUNK_BYTES else fruitless + 1
                web.wait(fruitless, file.url, str(e))
            except _WrongBytesError as e:
                _forget(part)
                wrong += 1
                logger.warning("%s: %s", file.name, e)
                if wrong == 2:
                    raise DownloadError(
                        f"{e}, twice in a row. The bytes were deleted.",
                        path=final,
                        hint="The server or the network damages the file: try again later.",
                    ) from None
        _keep_aside(final)
        sync(part)  # a run that was killed may have written the last bytes without this
        part.replace(final)
        sync(folder)
        _note_of(part).unlink(missing_ok=True)
    return final


def _keep_aside(path: Path) -> None:
    """Rename an existing file of the same name: it differs from the catalogue and may be the user's work."""
    if not path.exists():
        return
    names = (path.with_name(f"{path.name}.before{n or ''}") for n in itertools.count())
    kept = next(p for p in names if not p.exists())
    path.rename(kept)
    logger.warning("%s differs from the catalogue: it is kept as %s", path, kept.name)


def _receive(
    file: RemoteFile,
    part: Path,
    web: Web,
    bearer: Bearer | None,
    received: Callable[[int], None],
) -> None:
    """Download the rest of `part`, or all of it if the server cannot send the rest."""
    if part.exists() and not _same_version(file, part):
        _forget(part)
    have = part.stat().st_size if part.exists() else 0
    if file.size is not None and have == file.size:
        return
    headers = {}
    if have:
        headers["Range"] = f"bytes={have}-"
        if validator := _validator(read_json(_note_of(part)).get("validator")):
            headers["If-Range"] = validator
    with web.open(file.url, headers=headers, bearer=bearer) as response:
        if response.status_code == 416:  # the server has no more bytes; the checks that follow judge those we have
            if whole_number(response.headers.get("Content-Range", "").strip().removeprefix("bytes */")) != have:
                raise _WrongBytesError(f"{plain(file.url)} no longer has the rest")
            return
        if response.status_code not in (200, 206):
            raise refused(response, file.url)
        check_encoding(response, file.url)
        start, total = _extent(response, have)
        if total is not None and total > file.at_most:
            raise _WrongBytesError(
                f"{plain(file.url)} announces {total} bytes, where at most {file.at_most} are expected"
            )
        if start == 0:
            _forget(part)
            _write_note(file, part, response)
        arrived = _append(response, file, part, start, received, web)
    if total is not None and arrived < total:
        raise BrokenConnectionError(f"broke off after {arrived} of {total} bytes")


def _append(
    response: Any,
    file: RemoteFile,
    part: Path,
    start: int,
    received: Callable[[int], None],
    web: Web,
) -> int:
    """Write the body from position `start` on; return the new length of the partial file."""
    with part.open("r+b" if start else "wb") as f:
        f.seek(start)
        for block in chunks(response):
            f.write(block)
            if f.tell() > file.at_most:
                raise _WrongBytesError(f"{plain(file.url)} sends more than the {file.at_most} bytes that are expected")
            received(f.tell())
            if web.stop.is_set():
                raise Stopped
        f.flush()
        os.fsync(f.fileno())
        return f.tell()


def _extent(response: Any, have: int) -> tuple[int, int | None]:
    """Return the position in the file where the body starts, and the file's length if the server gives it."""
    if response.status_code == 200:
        return 0, whole_number(response.headers.get("Content-Length"))
    extent = response.headers.get("Content-Range", "").strip()
    match = re.fullmatch(r"bytes ([0-9]{1,18})-([0-9]{1,18})/([0-9]{1,18}|\*)", extent)
    if match is None or int(match[1]) != have:
        raise _WrongBytesError(f"the server answers a request for bytes from {have} on with {extent[:100]!r}")
    return have, whole_number(match[3])


def _verify(file: RemoteFile, part: Path, check: Callable[[Path], None] | None) -> None:
    size = part.stat().st_size
    if (file.size is None or size == file.size) and file.md5 is not None and md5_of(part) == file.md5:
        return
    if check is not None:
        if file.md5 is not None:
            logger.info("%s differs from the catalogue; checking its content", file.name)
        try:
            check(part)
        except FloemapError as e:
            raise _WrongBytesError(f"the file that arrived is wrong: {e.message}") from None
    elif file.size is not None and size != file.size:
        raise _WrongBytesError(f"{size} bytes arrived, where {file.size} are catalogued")
    elif file.md5 is not None:
        raise _WrongBytesError(f"the file that arrived does not have the catalogued MD5 {file.md5}")


def md5_of(path: Path) -> str:
    """Return the MD5 of a file, hexadecimal. It detects damage in transit, not manipulation."""
    with path.open("rb") as f:
        return hashlib.file_digest(f, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()


# The note beside a partial file: which version of the file its bytes belong to.


def _note_of(part: Path) -> Path:
    return part.with_name(part.name + ".json")


def _write_note(file: RemoteFile, part: Path, response: Any) -> None:
    validator = _validator(response.headers.get("ETag")) or _validator(response.headers.get("Last-Modified"))
    write_json(_note_of(part), {"size": file.size, "md5": file.md5, "validator": validator})


def _validator(value: Any) -> str | None:
    """Return a validator that a request can repeat, else None; a weak ETag does not promise equal bytes."""
    good = isinstance(value, str) and re.fullmatch(r"[\x20-\x7e]{1,1000}", value) and not value.startswith("W/")
    return str(value) if good else None


def _same_version(file: RemoteFile, part: Path) -> bool:
    try:
        note = read_json(_note_of(part))
    except FloemapError:
        return False
    return note.get("size") == file.size and note.get("md5") == file.md5


def _forget(part: Path) -> None:
    part.unlink(missing_ok=True)
    _note_of(part).unlink(missing_ok=True)
