"""Files from outside: they must be regular, with a name that every library can handle, and may be nested deeply."""

from __future__ import annotations

import codecs
import gc
import os
import stat
from collections.abc import Callable
from itertools import islice
from pathlib import Path
from typing import TypeVar

from floemap.errors import FloemapError, OutputError, did_you_mean

Text = TypeVar("Text")
Parsed = TypeVar("Parsed")

#: Names of a folder among which a similar one is looked for.
_MOST_NAMES = 10_000

#: Hint for a file that the operating system does not let one read.
CHECK_READABLE = "Check the path and your permission to read."
_KINDS = {
    stat.S_IFIFO: "a pipe",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
    stat.S_IFSOCK: "a socket",
}


def regular_file(path: str | Path, kind: type[FloemapError] = FloemapError) -> Path:
    """Return the absolute path of a file to read. A link to a regular file is accepted.

    Opening a pipe may wait without end, and reading a device may never finish. The path is made absolute because
    libraries take a relative one such as ``http:/x`` for an address.

    Raises
    ------
    FloemapError
        As `kind`, if the path does not exist or is not a regular file.
    """
    path = Path(path)
    try:
        mode = path.stat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        raise kind("does not exist.", path=path, hint=similar_path(path)) from None
    except (OSError, ValueError) as e:  # no permission, a loop of links, a name that is too long or has a null byte
        reason = getattr(e, "strerror", None) or e
        raise kind(f"cannot be read: {reason}.", path=path, hint=CHECK_READABLE) from e
    if stat.S_ISDIR(mode):
        raise kind("is a folder, where a file is needed.", path=path, hint="Give a file.")
    if not stat.S_ISREG(mode):
        raise kind(
            f"is {_KINDS.get(stat.S_IFMT(mode), 'something else')}, not a regular file.", path=path, hint="Give a file."
        )
    if not is_utf8(path):
        raise kind("has a name that is not UTF-8.", path=path, hint="Rename it.")
    return path.absolute()


def regular_file_or_folder(path: str | Path, kind: type[FloemapError] = FloemapError) -> None:
    """Refuse a path that is neither a folder nor a file that can be read.

    Raises
    ------
    FloemapError
        As `kind`; see :func:`regular_file`.
    """
    if not os.path.isdir(path):  # noqa: PTH112  Path.is_dir raises an error if the name is too long
        regular_file(path, kind)


def existing_folder(path: str | Path, hint: str | None = None) -> Path:
    """Return the path of a folder to read; `hint` says what to give in its place.

    Raises
    ------
    FloemapError
        If it does not exist or is not a folder.
    """
    path = Path(path)
    if not path.is_dir():
        there = os.path.lexists(path)
        looked = "" if there else similar_path(path)
        message = "is not a folder." if there else "does not exist."
        raise FloemapError(message, path=path, hint=" ".join(filter(None, (looked, hint))) or None)
    return path


def similar_path(path: str | Path) -> str:
    """Return the hint for a path that does not exist: where it ends, and a similar name there, if there is one."""
    path = Path(path)
    missing = next((p for p in reversed((path, *path.parents)) if not os.path.lexists(p)), path)
    folder = missing.parent
    where = "the current folder" if folder == Path() else folder
    try:
        with os.scandir(folder) as entries:
            meant = did_you_mean(missing.name, (entry.name for entry in islice(entries, _MOST_NAMES)))
    except (OSError, ValueError):  # no permission, a file in place of a folder, a null byte
        meant = ""
    return f"There is no {missing.name!r} in {where}{f': {meant}' if meant else '.'}"


def decoded(content: bytes, errors: str = "strict") -> str:
    """Decode a text file: UTF-16 if it begins with the byte order mark of Windows editors, else UTF-8.

    Raises
    ------
    UnicodeDecodeError
        If it is neither, and `errors` is not "replace".
    """
    utf16 = content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    return content.decode("utf-16" if utf16 else "utf-8-sig", errors)


def writable_name(path: str | Path) -> None:
    """Refuse to write under a name that no library can handle.

    Raises
    ------
    OutputError
        If the name is not UTF-8 or contains a null byte.
    """
    if not is_utf8(path) or "\0" in str(path):
        raise OutputError(
            "has a name that is not UTF-8 or contains a null byte.", path=path, hint="Choose another --out."
        )


def is_utf8(path: str | Path) -> bool:
    """Whether a name is UTF-8. Python keeps other bytes as halves of surrogate pairs, which other libraries refuse."""
    try:
        str(path).encode()
    except UnicodeEncodeError:
        return False
    return True


def parsed(parse: Callable[[Text], Parsed], text: Text) -> Parsed:
    """Parse a text whose nesting is not known by a function that goes as deep as the text does.

    Meanwhile no garbage is collected: at the deepest, the end of whatever object happened to be collected would find no
    stack left, and Python would print its error.

    Raises
    ------
    RecursionError
        If the text is nested deeper than Python's stack is.
    Exception
        What the function raises.
    """
    collected = gc.isenabled()
    gc.disable()
    try:
        return parse(text)
    finally:
        if collected:
            gc.enable()
