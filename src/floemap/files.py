"""Files that users and strangers give: regular ones, of a name that every library below can take."""

from __future__ import annotations

import codecs
import stat
from pathlib import Path

from floemap.errors import FloemapError, OutputError

_KINDS = {
    stat.S_IFIFO: "a pipe",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
    stat.S_IFSOCK: "a socket",
}


def regular_file(path: str | Path, kind: type[FloemapError] = FloemapError) -> Path:
    """Return the absolute path of a file that is to be read, itself or where a link leads.

    Whoever opens a pipe waits for its other end, perhaps for ever; a device may never end. And libraries take what
    begins as an address, as ``http:/x`` does, for one: an absolute path never does.

    Raises
    ------
    FloemapError
        As `kind`, if there is nothing, a folder, or something else that is not a regular file.
    """
    path = Path(path)
    try:
        mode = path.stat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        raise kind("does not exist.", path=path) from None
    except (OSError, ValueError) as e:  # no permission, a loop of links, a name that is too long or holds a null byte
        raise kind(f"cannot be read: {getattr(e, 'strerror', None) or e}.", path=path) from e
    if stat.S_ISDIR(mode):
        raise kind("is a folder, where a file is needed.", path=path)
    if not stat.S_ISREG(mode):
        raise kind(
            f"is {_KINDS.get(stat.S_IFMT(mode), 'something else')}, and no file.", path=path, hint="Give a file."
        )
    if not is_utf8(path):
        raise kind("has a name that is no UTF-8.", path=path, hint="Give it another.")
    return path.absolute()


def decoded(content: bytes, errors: str = "strict") -> str:
    """Decode a text file by the byte order mark that editors of Windows put before it, else as UTF-8.

    Raises
    ------
    UnicodeDecodeError
        If it is neither, and `errors` is not "replace".
    """
    utf16 = content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    return content.decode("utf-16" if utf16 else "utf-8-sig", errors)


def writable_name(path: str | Path) -> None:
    """Refuse what is to be written under a name that is no text.

    Raises
    ------
    OutputError
        If it is no UTF-8.
    """
    if not is_utf8(path) or "\0" in str(path):
        raise OutputError("has a name that is no UTF-8, or holds a null byte.", path=path, hint="Choose another --out.")


def is_utf8(path: str | Path) -> bool:
    """Whether a name came as UTF-8: Python keeps other bytes as halves of characters, which no other library takes."""
    try:
        str(path).encode()
    except UnicodeEncodeError:
        return False
    return True
