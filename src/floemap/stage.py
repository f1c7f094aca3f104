"""Stage folders: results that appear whole or not at all, each with one JSON that says how it was made.

Every command writes one folder per result. It is built beside its final place under a hidden name and renamed when it
is complete, so a folder with its final name is always finished: a killed run leaves at most a hidden ``.partial``
folder, which the next run of the same result on the same host removes.
"""

from __future__ import annotations

import errno
import glob
import hashlib
import json
import logging
import os
import shutil
import socket
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from floemap.errors import FloemapError, OutputError
from floemap.files import regular_file, writable_name
from floemap.locks import TakenError, held
from floemap.version import __version__

logger = logging.getLogger(__name__)

#: Name of the lock of a folder, in it.
LOCK = ".lock"
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
    within
        Stages whose work is done within this one, without results of their own: its numbers change with theirs.
    """

    command: str
    record: str
    revision: int
    within: tuple[Stage, ...] = ()

    @property
    def revisions(self) -> dict[str, int]:
        """Revisions of this stage and of those within it, by command."""
        return {s.command: s.revision for s in (self, *self.within)}


@contextmanager
def stage_folder(final: Path) -> Iterator[Path]:
    """Give a hidden folder beside `final` to write into; rename it to `final` when the block ends without error.

    What stood at `final` before is replaced in that moment and not earlier. On any error, an interrupt included, the
    hidden folder is removed and what stood there stays.

    Raises
    ------
    OutputError
        If the folder cannot be made or written, with the reason (no permission, no space).
    """
    final = Path(final)
    partial = final.parent / f".{final.name}.partial-{socket.gethostname()}-{os.getpid()}"
    with os_errors(final):
        final.parent.mkdir(parents=True, exist_ok=True)
        _remove_stale(final)
        partial.mkdir()
    try:
        with os_errors(final):
            yield partial
            _replace(partial, final)
    except FloemapError as e:
        if e.path is not None and e.path.is_relative_to(partial):  # nobody knows the hidden folder
            e.path = final / e.path.relative_to(partial)
        raise
    finally:
        shutil.rmtree(partial, ignore_errors=True)


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


def _replace(partial: Path, final: Path) -> None:
    """Put `partial` in the place of `final`. A kill between two renames leaves the old one under its hidden name."""
    if not final.exists():
        partial.rename(final)
        return
    if not final.is_dir():
        raise OutputError("a file is in the way.", path=final, hint="Move it or choose another --out.")
    old = partial.with_name(partial.name + ".old")
    final.rename(old)
    try:
        partial.rename(final)
    except OSError:
        old.rename(final)
        raise
    shutil.rmtree(old, ignore_errors=True)


def _remove_stale(final: Path) -> None:
    """Remove what killed runs of this host left beside `final`; bring back a result that was caught between renames."""
    prefix = f".{final.name}.partial-{socket.gethostname()}-"
    for leftover in sorted(final.parent.glob(f"{glob.escape(prefix)}*")):
        digits = leftover.name[len(prefix) :].split(".")[0]
        if digits.isdigit() and int(digits) != os.getpid() and _alive(int(digits)):
            continue
        if leftover.name.endswith(".old") and not final.exists():
            logger.warning("bringing back %s, which a killed run left half replaced", final)
            leftover.rename(final)
        else:
            shutil.rmtree(leftover, ignore_errors=True)


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


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
            stack.enter_context(held(folder / LOCK, wait=True))
        yield


@contextmanager
def alone_in(folder: Path, doing: str) -> Iterator[None]:
    """Hold a folder while the block runs; refuse if another process works there.

    Parameters
    ----------
    doing
        What is done there, as in "another process {trains} in it".

    Raises
    ------
    OutputError
        If somebody else holds it, or the folder cannot be made or written.
    """
    with ExitStack() as stack:
        try:
            with os_errors(folder):
                stack.enter_context(held(folder / LOCK))
        except TakenError:
            hint = "Let it end, or choose another folder."
            raise OutputError(f"another process {doing} in it.", path=folder, hint=hint) from None
        yield


def write_whole(path: Path, content: bytes) -> None:
    """Write a file so that it appears whole, and on the disk, or not at all; what stood there stays until then.

    Raises
    ------
    OutputError
        If it cannot be written, with the reason.
    """
    beside = path.with_name(f".{path.name}.partial-{socket.gethostname()}-{os.getpid()}")
    with os_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with beside.open("wb") as f:
                f.write(content)
                f.flush()
                os.fsync(f.fileno())
            beside.replace(path)
        finally:
            with suppress(OSError):
                beside.unlink(missing_ok=True)


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
        content = json.loads(regular_file(path).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as e:
        raise FloemapError(f"is not readable JSON: {e}.", path=path) from e
    if not isinstance(content, dict):
        raise FloemapError(f"holds a {type(content).__name__} where a JSON object is needed.", path=path)
    return content


def is_finished(
    folder: Path, stage: Stage, files: Iterable[str], *, inputs: Mapping[str, Any], configuration: Mapping[str, Any]
) -> bool:
    """Whether `folder` holds `files` and a record of the stage's revision, of the same inputs and configuration."""
    try:
        found = read_json(folder / stage.record)
    except FloemapError:
        return False
    whole = all((folder / name).is_file() for name in files)
    return whole and made_alike(found, stage, inputs=inputs, configuration=configuration)


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
