"""The rule by which names from outside become names of floemap's own files and folders.

A product's zip, a chart's file, a scene of a study, a record of a run that somebody sent: each may have any name.
"""

from __future__ import annotations

import unicodedata
from pathlib import Path

from floemap.errors import FloemapError, OutputError

#: Unicode categories that are refused in names: control characters, halves of surrogate pairs (as which Python keeps
#: bytes that are not UTF-8), line and paragraph separators.
_NO_NAMES = ("Cc", "Cs", "Zl", "Zp")
#: Longest name that file systems allow, bytes.
_LONGEST = 255


def place_in(
    folder: Path, name: str, what: str, *, path: Path | None = None, kind: type[FloemapError] = OutputError
) -> Path:
    """Return the path of `name` directly in `folder`.

    Parameters
    ----------
    what
        Owner of the name, for the error, as in "the name of {the product} is ''".
    path
        File that contains the name, for the error.
    kind
        Class of the error.

    Raises
    ------
    FloemapError
        As `kind`, if the name is empty, ``.`` or ``..``, hidden, longer than file systems allow, or contains a
        separator, a control character or bytes that are not UTF-8.
    """
    if (why := _odd(name)) is not None:
        hint = "Give another name." if path is None else "Rename it: its results get the same name."
        raise kind(f"the name of {what} is {name[:200]!r}, which {why}.", path=path, hint=hint)
    return folder / name


def is_plain(name: str) -> bool:
    """Whether :func:`place_in` accepts a name."""
    return _odd(name) is None


def _odd(name: str) -> str | None:
    """Say why a name cannot be that of a file or folder; None if it can."""
    if not name.strip():
        return "is empty"
    if name.startswith("."):
        return "begins with a dot"
    if "/" in name or "\\" in name:
        return "leads to another folder"
    if any(unicodedata.category(c) in _NO_NAMES for c in name):
        return "contains control characters or bytes that are not UTF-8"
    if len(name.encode()) > _LONGEST:
        return "is longer than file systems allow"
    return None
