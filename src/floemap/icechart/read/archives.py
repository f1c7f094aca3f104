"""Charts in archives: zips and tars, and one archive within another, as ice services and data centres give them out.

An archive comes from anywhere, so members are looked at before one is read, and never unpacked under their own names.
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

#: Archives that are looked into.
SUFFIXES = (".zip", ".tar")
#: Archives that are not.
OTHERS = (".7z", ".rar", ".tgz", ".gz", ".bz2", ".xz", ".zst")
#: A chart, or all archives within an archive, have no more bytes than this.
MOST_BYTES = 2 << 30
#: An archive of charts has no more files. To list as many takes seconds.
MOST_MEMBERS = 20_000
_UNREADABLE = (*UNREADABLE, tarfile.TarError)

#: The way to a file: its name in an archive, or that of an archive within it and the name therein.
Chain = tuple[str, ...]
Member = zipfile.ZipInfo | tarfile.TarInfo


class Archive:
    """A zip or tar that is open: names and sizes of its files, and their content.

    Attributes
    ----------
    sizes
        Bytes of each file, by its name.
    """

    def __init__(self, path: Path, content: zipfile.ZipFile | tarfile.TarFile) -> None:
        self._content = content
        all_of_it: Iterable[Member] = content if isinstance(content, tarfile.TarFile) else content.infolist()
        listed = list(islice(all_of_it, MOST_MEMBERS + 1))
        if len(listed) > MOST_MEMBERS:
            hint = "Unpack it, and give the chart's own file."
            raise ChartError(f"holds more than {MOST_MEMBERS:,} files.", path=path, hint=hint)
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
            raise tarfile.ReadError(f"{name} is no file")
        return file


def _hidden(name: str) -> bool:
    """Whether a member is none that a user sees, as those in which macOS keeps what it knows of a file."""
    return clean_name(name).startswith("__MACOSX/") or PurePosixPath(clean_name(name)).name.startswith("._")


def _is_file(member: Member) -> bool:
    """Whether a member is to be looked at: of a tar, links and devices are not."""
    return isinstance(member, zipfile.ZipInfo) or member.isreg()


def _as_zip_member(member: tarfile.TarInfo) -> zipfile.ZipInfo:
    """Return what a zip would say of a tar's member, so that both are judged by one rule."""
    like = zipfile.ZipInfo(member.name)
    like.filename = member.name
    like.file_size = like.compress_size = member.size
    return like


@contextmanager
def open_archive(path: Path, chain: Chain = ()) -> Iterator[Archive]:
    """Open an archive, or with a `chain` of names the one within it.

    Raises
    ------
    ChartError
        If it is damaged, hostile, or too large.
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
            message = f"{what}is {e}." if other else f"{what}is no readable {kind}: {brief(e)}."
            raise ChartError(message, path=path, hint="Unpack it." if other else "Fetch or copy it again.") from e


class _OtherArchiveError(ValueError):
    """What an archive is of a kind that is not looked into, whatever its suffix."""


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
        raise ChartError(f"holds {name!r} of {left >> 20:,} MiB.", path=path, hint="No chart is that large.")
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
    """Find the files with some suffixes in an archive; where it has none, in the archives that it holds.

    Raises
    ------
    ChartError
        If it cannot be read, or holds nothing but archives of which none can be read, or they are too large.
    """
    with open_archive(path) as archive:
        sizes = dict(sorted(archive.sizes.items()))
    found: list[Chain] = [(name,) for name in sizes if PurePosixPath(name).suffix.lower() in suffixes]
    if found:
        return found
    inner = {name: size for name, size in sizes.items() if PurePosixPath(name).suffix.lower() in SUFFIXES}
    if sum(inner.values()) > MOST_BYTES:
        raise ChartError(
            f"holds {len(inner)} archives of {sum(inner.values()) >> 20:,} MiB together.",
            path=path,
            hint="Unpack it, and give the chart's own file.",
        )
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
        raise ChartError(message, path=path, hint="Unpack it, and give the chart's own file, or the archive of it.")
    return found
