"""Charts in archives: zips and tars, and one archive within another, as ice services and data centres publish them.

An archive may come from anywhere: all members are checked before one is read, and none is unpacked under its name.
"""

from __future__ import annotations

import tarfile
import tempfile
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from itertools import islice
from pathlib import Path, PurePosixPath
from typing import IO, Any

from floemap.errors import ChartError
from floemap.zips import UNREADABLE, brief, clean_name, inner_archives, other_archive, refuse_hostile

#: Archives that floemap searches for charts.
SUFFIXES = (".zip", ".tar")
#: Archives that it does not open.
OTHERS = (".7z", ".rar", ".tgz", ".gz", ".bz2", ".xz", ".zst")
#: Most bytes of a chart, and of all archives within an archive together.
MOST_BYTES = 2 << 30
#: Most files in an archive of charts. Listing so many takes seconds.
MOST_MEMBERS = 20_000
_UNREADABLE = (*UNREADABLE, tarfile.TarError)
_UNPACK = "Unpack it, and give the chart's file."

#: The path of a file: its name in an archive, or the name of an archive within it and the name in that one.
Chain = tuple[str, ...]
Member = zipfile.ZipInfo | tarfile.TarInfo


class Archive:
    """An open zip or tar: names and sizes of its files, and their content.

    Attributes
    ----------
    sizes
        Size of each file in bytes, by name.
    """

    def __init__(self, path: Path, content: zipfile.ZipFile | tarfile.TarFile) -> None:
        self._content = content
        all_of_it: Iterable[Member] = content if isinstance(content, tarfile.TarFile) else content.infolist()
        listed = list(islice(all_of_it, MOST_MEMBERS + 1))
        if len(listed) > MOST_MEMBERS:
            raise ChartError(f"holds more than {MOST_MEMBERS:,} files.", path=path, hint=_UNPACK)
        members = [m if isinstance(m, zipfile.ZipInfo) else _as_zip_member(m) for m in listed if _is_file(m)]
        members = [m for m in members if not _hidden(m.filename)]
        self._members = refuse_hostile(path, members, ChartError)
        self.sizes: Mapping[str, int] = {name: m.file_size for name, m in self._members.items()}

    def open(self, name: str) -> IO[bytes]:
        """Open a file of the archive for reading."""
        if isinstance(self._content, zipfile.ZipFile):
            return self._content.open(self._members[name])
        file = self._content.extractfile(self._members[name].filename)
        if file is None:
            raise tarfile.ReadError(f"{name} is not a file")
        return file


def _hidden(name: str) -> bool:
    """Return whether a member is invisible to users, such as those in which macOS keeps attributes of a file."""
    return clean_name(name).startswith("__MACOSX/") or PurePosixPath(clean_name(name)).name.startswith("._")


def _is_file(member: Member) -> bool:
    """Return whether a member counts: links and devices in a tar do not."""
    return isinstance(member, zipfile.ZipInfo) or member.isreg()


def _as_zip_member(member: tarfile.TarInfo) -> zipfile.ZipInfo:
    """Return a tar's member in the form of a zip's, so that the same checks apply to both."""
    like = zipfile.ZipInfo(member.name)
    like.filename = member.name
    like.file_size = like.compress_size = member.size
    return like


@contextmanager
def open_archive(path: Path, chain: Chain = ()) -> Iterator[Archive]:
    """Open an archive, or the one within it at the end of a `chain` of names.

    Raises
    ------
    ChartError
        If the archive is damaged, hostile, or too large.
    """
    with ExitStack() as stack:
        name = path.name
        try:
            archive = Archive(path, _opened(stack, stack.enter_context(path.open("rb"))))
            for name in chain:
                inner = stack.enter_context(tempfile.TemporaryFile())  # a zip is read from its end
                copy(archive, name, inner, path)
                inner.seek(0)
                archive = Archive(path, _opened(stack, inner))
            yield archive
        except _UNREADABLE as e:
            what = "" if name == path.name else f"holds {name!r}, which "
            kind = PurePosixPath(name).suffix.lower().removeprefix(".")
            other = isinstance(e, _OtherArchiveError)
            message = f"{what}is {e}." if other else f"{what}is not a readable {kind}: {brief(e)}."
            raise ChartError(message, path=path, hint=_UNPACK if other else "Fetch or copy it again.") from e


class _OtherArchiveError(ValueError):
    """The content of an archive is of a kind that floemap does not open, whatever its suffix."""


def _opened(stack: ExitStack, file: Any) -> zipfile.ZipFile | tarfile.TarFile:
    """Open an archive by its content: suffixes are often wrong."""
    head = file.read(512)
    file.seek(0)
    other = other_archive(head)
    if other is None:
        return stack.enter_context(zipfile.ZipFile(file))
    if head[257:262] != b"ustar":
        raise _OtherArchiveError(other)
    return stack.enter_context(tarfile.open(fileobj=file, mode="r:"))


def copy(archive: Archive, name: str, target: IO[bytes], path: Path) -> None:
    """Copy a file out of the archive at `path`.

    Raises
    ------
    ChartError
        If it has more than :data:`MOST_BYTES`, or there is no space for it.
    """
    left = archive.sizes[name]
    if left > MOST_BYTES:
        hint = f"A chart in an archive may have {MOST_BYTES >> 20:,} MiB. {_UNPACK}"
        raise ChartError(f"holds {name!r} of {left >> 20:,} MiB.", path=path, hint=hint)
    with archive.open(name) as source:
        while left > 0:
            block = source.read(min(left, 1 << 20))
            if not block:
                raise EOFError(f"{name} lacks {left} bytes")
            try:
                target.write(block)
            except OSError as e:
                message = f"cannot be unpacked into {tempfile.gettempdir()}: {e.strerror}."
                hint = "Free some space there, or set TMPDIR to another folder."
                raise ChartError(message, path=path, hint=hint) from e
            left -= len(block)


def find_files(path: Path, suffixes: tuple[str, ...]) -> list[Chain]:
    """Find the files with some suffixes in an archive or, if it has none, in the archives within it.

    Raises
    ------
    ChartError
        If the archive cannot be read, or holds only archives that cannot be read or are too large.
    """
    with open_archive(path) as archive:
        sizes = dict(sorted(archive.sizes.items()))
    found: list[Chain] = [(name,) for name in sizes if PurePosixPath(name).suffix.lower() in suffixes]
    if found:
        return found
    inner = {name: size for name, size in sizes.items() if PurePosixPath(name).suffix.lower() in SUFFIXES}
    if sum(inner.values()) > MOST_BYTES:
        message = f"holds {len(inner)} archives of {sum(inner.values()) >> 20:,} MiB together."
        raise ChartError(message, path=path, hint=_UNPACK)
    problems = []
    for name in inner:
        try:
            with open_archive(path, (name,)) as archive:
                names = sorted(archive.sizes)
        except ChartError as e:  # others in it may be whole
            problems.append(e)
            continue
        found += [(name, file) for file in names if PurePosixPath(file).suffix.lower() in suffixes]
    if not found and problems:
        raise problems[0]
    deeper = inner_archives(sizes)
    if not found and deeper:
        message = f"holds no chart but {len(deeper)} archives, such as {deeper[0]!r}."
        raise ChartError(message, path=path, hint="Unpack it, and give the chart's file or its archive.")
    return found
