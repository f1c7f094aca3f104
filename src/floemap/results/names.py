"""Names that come from outside, made names of files and folders of ours: one rule for all of them.

A product's zip, a chart's file, a scene of a study, a record of a run that somebody sent: each may be called anything.
"""

from __future__ import annotations

import unicodedata
from pathlib import Path

from floemap.errors import FloemapError, OutputError

#: Kinds of characters that have no place in a name: control characters, halves of surrogate pairs (which bytes that are
#: no UTF-8 become), line and paragraph separators.
_NO_NAMES = ("Cc", "Cs", "Zl", "Zp")
#: What file systems take for a name, bytes.
_LONGEST = 255


def place_in(
    folder: Path, name: str, what: str, *, path: Path | None = None, kind: type[FloemapError] = OutputError
) -> Path:
    """Return the path of what is called `name`, right in `folder`.

    Parameters
    ----------
    what
        Whose name it is, as in "the name of {the product} is ''".
    path
        File that has the name, for the error.
    kind
        Class of the error.

    Raises
    ------
    FloemapError
        Of that kind, if it is no plain name: empty, ``.`` or ``..``, hidden, longer than file systems take, or with a
        separator, a control character or bytes that are no text.
    """
    if (why := _odd(name)) is not None:
        hint = "Rename it: its results are called the same."
        raise kind(f"the name of {what} is {name[:200]!r}, which {why}.", path=path, hint=hint)
    return folder / name


def is_plain(name: str) -> bool:
    """Whether :func:`place_in` takes a name."""
    return _odd(name) is None


def _odd(name: str) -> str | None:
    """Say what makes a name none that a file or folder of ours can have."""
    if not name.strip():
        return "is empty"
    if name.startswith("."):
        return "begins with a dot"
    if "/" in name or "\\" in name:
        return "would lie in another folder"
    if any(unicodedata.category(c) in _NO_NAMES for c in name):
        return "holds characters that are no text"
    if len(name.encode()) > _LONGEST:
        return "is longer than file systems take"
    return None
