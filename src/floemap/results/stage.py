"""Stages and their records: each result has one JSON that says how it was made, and files that appear whole.

Folders of results are made in :mod:`floemap.results.folders`.
"""

from __future__ import annotations

import errno
import hashlib
import json
import logging
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from floemap.errors import MISSHAPEN, FloemapError, OutputError
from floemap.files import regular_file, writable_name
from floemap.results.locks import TakenError, file_beside, held
from floemap.version import __version__

logger = logging.getLogger(__name__)

#: Values within values in JSON: ours lie less than ten deep.
_DEEPEST = 50
#: Name of the lock of a folder, in it.
LOCK = ".floemap.lock"
#: Version of the layout of the JSON files. Raised when a reader of an older one would misread a newer one.
SCHEMA_VERSION = 1


@dataclass(frozen=True)
class Stage:
    """A kind of result. Each is declared once, beside the code that makes it.

    Attributes
    ----------
    command
        That makes it, as its record names it: ``floemap prepare``.
    record
        Name of its JSON, which says how it was made.
    revision
        Of its numbers. Raise it by one whenever the same inputs and settings give other numbers, by however little:
        results of another revision are made anew and never stand beside this one's. 0 is what records of software
        from before there were revisions count as.
    files
        Names that its files may have, as patterns: by these results are known whose record does not list them.
    within
        Stages whose work is done within this one, without results of their own: its numbers change with theirs.
    """

    command: str
    record: str
    revision: int
    files: tuple[str, ...] = ()
    within: tuple[Stage, ...] = ()

    @property
    def revisions(self) -> dict[str, int]:
        """Revisions of this stage and of those within it, by command."""
        return {s.command: s.revision for s in (self, *self.within)}


@contextmanager
def os_errors(path: Path) -> Iterator[None]:
    """Turn an OSError of the block into an :class:`OutputError` that names `path` and says what to do.

    A name that is no UTF-8 is refused before the block begins: it would fail where another library takes it.
    """
    try:
        writable_name(path)
        yield
    except FloemapError:
        raise
    except OSError as e:
        hints = {
            errno.ENOSPC: "Free some space or choose another --out.",
            errno.EDQUOT: "The quota is used up: free some space or choose another --out.",
            errno.EACCES: "Choose a folder that you may write to with --out.",
            errno.EPERM: "Choose a folder that you may write to with --out.",
            errno.EROFS: "The file system is read-only: choose another --out.",
            errno.ENOTDIR: "A file is in the way: choose another --out.",
            errno.EEXIST: "A file is in the way: choose another --out.",
        }
        hint = hints.get(e.errno or 0)
        raise OutputError(f"cannot be written: {e.strerror or e}.", path=path, hint=hint) from e


@contextmanager
def one_at_a_time(folder: Path) -> Iterator[None]:
    """Let one process at a time work on what lies in `folder`; others wait until the block ends, however it does.

    So what several processes need is made by the first, and found finished by the rest.

    Raises
    ------
    OutputError
        If the folder cannot be made or written.
    """
    with ExitStack() as stack:
        with os_errors(folder):
            make_folder(folder)
            stack.enter_context(held(folder / LOCK, wait=True))
        yield


@contextmanager
def alone_in(folder: Path, doing: str) -> Iterator[None]:
    """Hold a folder while the block runs; refuse if another process works there.

    Parameters
    ----------
    doing
        What is done there, as in "another run {fetches into} it".

    Raises
    ------
    OutputError
        If somebody else holds it, or the folder cannot be made or written.
    """
    with ExitStack() as stack:
        try:
            with os_errors(folder):
                make_folder(folder)
                stack.enter_context(held(folder / LOCK))
        except TakenError:
            hint = "Let it end, or choose another folder."
            raise OutputError(f"another run {doing} it.", path=folder, hint=hint) from None
        yield


def write_whole(path: Path, content: bytes) -> None:
    """Write a file so that it appears whole, and on the disk, or not at all; what stood there stays until then.

    Raises
    ------
    OutputError
        If it cannot be written, with the reason.
    """
    with os_errors(path):
        make_folder(path.parent)
        with file_beside(path) as beside:
            with beside.open("wb") as f:
                f.write(content)
                f.flush()
                os.fsync(f.fileno())
            beside.replace(path)
        sync(path.parent)


def sync(path: Path) -> None:
    """Bring a file, or the names in a folder, to the disk.

    Raises
    ------
    OSError
        If that fails: there is no space, or the disk is broken.
    """
    posix = os.name == "posix"
    if path.is_dir() and not posix:  # Windows has no such thing
        return
    descriptor = os.open(path, os.O_RDONLY if posix else os.O_RDWR)
    try:
        os.fsync(descriptor)
    except OSError as e:
        if not path.is_dir() or e.errno not in (errno.EINVAL, errno.EOPNOTSUPP):  # as some network disks answer
            raise
    finally:
        os.close(descriptor)


def make_folder(folder: Path) -> None:
    """Make a folder and those above it, where they lack, and bring the new names to the disk.

    Raises
    ------
    OSError
        If that fails: there is no permission, or a file is in the way.
    """
    new = [path for path in (folder, *folder.parents) if not path.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    for path in reversed(new):
        sync(path.parent)


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write `content` to `path` as JSON, whole or not at all. Not-a-number is refused: JSON has none."""
    text = json.dumps(content, indent=2, allow_nan=False, default=str) + "\n"
    write_whole(path, text.encode())


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object.

    Raises
    ------
    FloemapError
        If the file is absent, not JSON, or not an object.
    """
    try:
        text = regular_file(path).read_text(encoding="utf-8")
    except (OSError, ValueError) as e:
        raise FloemapError(f"is not readable JSON: {e}.", path=path) from e
    content = parse_json(text, path)
    if not isinstance(content, dict):
        raise FloemapError(f"holds a {type(content).__name__} where a JSON object is needed.", path=path)
    return content


@contextmanager
def as_written(record: Path, command: str) -> Iterator[None]:
    """Turn what using a record of odd content raises in the block into an error that names it, and who makes it anew.

    Raises
    ------
    FloemapError
        If something that the record tells lacks, or is of another kind.
    """
    try:
        yield
    except MISSHAPEN as e:
        reason, hint = f"{type(e).__name__}: {str(e)[:200]}", f"Make it again with `{command} --overwrite`."
        raise FloemapError(f"is not as `{command}` writes it: {reason}.", path=record, hint=hint) from e


def is_newer(record: Mapping[str, Any]) -> bool:
    """Whether a record is of a layout that is not known here: a later one, or one without a number."""
    version = record.get("schema_version", SCHEMA_VERSION)
    return not isinstance(version, int) or version > SCHEMA_VERSION


def parse_json(text: str | bytes, path: Path, kind: type[FloemapError] = FloemapError) -> Any:
    """Read JSON that came from a file, however it came there.

    Raises
    ------
    FloemapError
        Of the given kind, if it is none, or its values lie deeper within each other than any of ours.
    """
    try:
        content = json.loads(text)
    except (ValueError, RecursionError) as e:  # of JSON, of its encoding, of a number past all bounds; of its depth
        raise kind(f"is not readable JSON: {e}.", path=path) from e
    level = [content]
    for _ in range(_DEEPEST):
        level = [v for c in level if isinstance(c, dict | list) for v in (c.values() if isinstance(c, dict) else c)]
        if not level:
            return content
    raise kind(f"is JSON of values more than {_DEEPEST} deep within each other.", path=path)


def is_finished(
    folder: Path, stage: Stage, files: Iterable[str], *, inputs: Mapping[str, Any], configuration: Mapping[str, Any]
) -> bool:
    """Whether `folder` holds `files`, whole, and a record of the same revision, inputs and configuration."""
    try:
        found = read_json(folder / stage.record)
    except FloemapError:
        return False
    alike = made_alike(found, stage, inputs=inputs, configuration=configuration)
    return alike and not any(damaged(folder, found, files))


def damaged(folder: Path, record: Mapping[str, Any], files: Iterable[str]) -> Iterator[str]:
    """Give those of the files that are absent, empty, or shorter than the record says that they were made.

    One that has grown since is somebody's work, and no damage.
    """
    told = record.get("bytes")
    sizes = told if isinstance(told, Mapping) else {}
    for name in files:
        path, made = folder / name, sizes.get(name)
        size = path.stat().st_size if path.is_file() else 0
        if not size or (isinstance(made, int) and size < made):
            yield name


def made_alike(
    record: Mapping[str, Any], stage: Stage, *, inputs: Mapping[str, Any], configuration: Mapping[str, Any]
) -> bool:
    """Whether a record tells of the stage as it is now, with the same inputs and configuration."""
    same = record.get("inputs") == inputs and record.get("configuration") == configuration
    return same and revisions_in(record, stage) == stage.revisions


def revisions_in(record: Mapping[str, Any], stage: Stage) -> dict[str, Any]:
    """Return the revisions that a record names, by command; 0 where it names none, as those of older software."""
    within = record.get("within")
    within = within if isinstance(within, Mapping) else {}
    return {stage.command: record.get("revision", 0)} | {s.command: within.get(s.command, 0) for s in stage.within}


def provenance(stage: Stage, *, inputs: Mapping[str, Any], configuration: Mapping[str, Any]) -> dict[str, Any]:
    """What every stage's JSON begins with: how it was made, from what, by which version."""
    within = {"within": {s.command: s.revision for s in stage.within}} if stage.within else {}
    return {
        "schema_version": SCHEMA_VERSION,
        "made_by": stage.command,
        "software": f"floemap {__version__}",
        "revision": stage.revision,
        **within,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "inputs": dict(inputs),
        "configuration": dict(configuration),
    }


def sha256(path: Path) -> str:
    """SHA-256 of a file, as hexadecimal digits.

    Raises
    ------
    FloemapError
        If it cannot be read.
    """
    try:
        with regular_file(path).open("rb") as f:
            return hashlib.file_digest(f, "sha256").hexdigest()
    except OSError as e:
        raise FloemapError(f"cannot be read: {e.strerror or e}.", path=path) from e
