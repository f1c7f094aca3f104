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
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

from floemap.errors import MISSHAPEN, FloemapError, OutputError
from floemap.files import parsed, regular_file, writable_name
from floemap.results.fields import MissingFieldError, Record
from floemap.results.locks import TakenError, file_beside, held, is_in_the_way
from floemap.results.seen import found_out
from floemap.stopping import undone
from floemap.version import __version__

logger = logging.getLogger(__name__)

#: Deepest nesting of JSON that is read. The project's own files are nested less than ten deep.
_DEEPEST = 50
#: Name of the lock file in a folder.
LOCK = ".floemap.lock"
#: Records of results whose files are all of one making, with the folder in them where another command keeps its own.
#: Folders of many results, such as comparisons, archives and trainings, are not among them.
WHOLE: Mapping[str, str | None] = dict.fromkeys(
    (
        *("label.json", "layer.json", "prediction.json", "evaluation.json", "checks.json", "chart.json", "mosaic.json"),
        *("publication.json", "route.json", "bundle.json", "monitor.json", "report.json", "view.json", "part.json"),
        *("truth.json", "scene.json"),
    )
) | {"product.json": "layers"}
#: Files by which a folder is an input of others' making: a product, exchange sets of S-411.
_DELIVERED = ("manifest.safe", "CATALOG.ICE", "catalogue.xml", "CATALOG.XML")
#: Version of the layout of the JSON files. Raised when a reader of an older one would misread a newer one.
SCHEMA_VERSION = 1


@dataclass(frozen=True)
class Stage:
    """A command that writes a folder with a record. Each is declared once, beside the code that does it.

    Attributes
    ----------
    command
        Name of the command, as in its record: ``floemap prepare``.
    record
        Name of the JSON file that says how the result was made.
    revision
        Number of the results' revision. Raise it by one whenever the same inputs and settings give other numbers, by
        however little: results of another revision are made anew and never mixed with this one's. Records of software
        from before there were revisions count as 0.
    files
        Patterns of the names of its files. They identify the files of a result whose record does not list them.
    within
        Stages that run within this one without results of their own: its numbers change with theirs.
    kept
        Folder in that of a result where another command keeps its results of it, and that command.
    """

    command: str
    record: str
    revision: int
    files: tuple[str, ...] = ()
    within: tuple[Stage, ...] = ()
    kept: tuple[str, str] | None = None

    @property
    def revisions(self) -> dict[str, int]:
        """Revisions of this stage and of those within it, by command."""
        return {s.command: s.revision for s in (self, *self.within)}


@contextmanager
def os_errors(path: Path) -> Iterator[None]:
    """Turn an OSError of the block into an :class:`OutputError` that names `path` and says what to do.

    A name that is not UTF-8 is refused before the block begins: it would fail in another library.
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


def refuse_within(path: Path, *, into: bool = False) -> None:
    """Refuse to make a file or folder within a finished result or an input's own folder.

    The record of such a result lists its files: another one would be taken for somebody's change, and the result would
    be refused later.

    Parameters
    ----------
    path
        What is to be made. It may exist: a result of the same command there is for the caller to judge.
    into
        Whether files of many makings go into `path`, so that it may itself be no such result either.

    Raises
    ------
    OutputError
        If a folder above it is one of these, or is a file.
    """
    real = Path(os.path.realpath(path.parent), path.name)
    for inner, folder in pairwise((*([real / LOCK] if into else []), real, *real.parents)):
        try:
            if folder.is_file():
                hint = "A file is in the way: choose another --out."
                raise OutputError(f"cannot be written: {folder} is no folder.", path=path, hint=hint)
            delivered = next((name for name in _DELIVERED if (folder / name).is_file()), None)
            record = next((n for n, kept in WHOLE.items() if inner.name != kept and (folder / n).is_file()), None)
        except OSError:  # whoever may not look into a folder gets no further with what is to be made either
            return
        made_by = "" if record is None else str(recorded(folder / record).get("made_by", ""))
        if delivered is None and not made_by.startswith("floemap "):
            continue
        whose = f"the result of `{made_by}`" if delivered is None else f"what was delivered with {delivered}"
        reason = f"would lie in the folder of {whose}, {folder}, which must stay as it is."
        raise OutputError(reason, path=path, hint="Choose an --out outside of it.")


@contextmanager
def one_at_a_time(folder: Path) -> Iterator[None]:
    """Let one process at a time work in `folder`; others wait until the block ends.

    So the first process makes what several need, and the others find it finished.

    Raises
    ------
    OutputError
        If the folder cannot be made or written, or is within a finished result.
    """
    refuse_within(folder, into=True)
    with ExitStack() as stack:
        with os_errors(folder):
            stack.enter_context(made_folder(folder))
            stack.enter_context(held(folder / LOCK, wait=True))
        yield


@contextmanager
def alone_in(folder: Path, doing: str) -> Iterator[None]:
    """Hold a folder while the block runs; refuse if another process works there.

    Parameters
    ----------
    doing
        What the other process does, as in "another run {fetches into} it".

    Raises
    ------
    OutputError
        If another process holds it, the folder cannot be made or written, or it is within a finished result.
    """
    refuse_within(folder, into=True)
    with ExitStack() as stack:
        try:
            with os_errors(folder):
                stack.enter_context(made_folder(folder))
                stack.enter_context(held(folder / LOCK))
        except TakenError:
            hint = "Wait until it ends, or choose another folder."
            raise OutputError(f"another run {doing} it.", path=folder, hint=hint) from None
        yield


def write_whole(path: Path, content: bytes) -> None:
    """Write a file so that it appears whole and synced, or not at all; an earlier file stays until then.

    Raises
    ------
    OutputError
        If it cannot be written, with the reason.
    """
    with os_errors(path), made_folder(path.parent, path):
        with file_beside(path, make_folder=True) as beside:
            with beside.open("wb") as f:
                f.write(content)
                f.flush()
                os.fsync(f.fileno())
            beside.replace(path)
        sync(path.parent)


def sync(path: Path) -> None:
    """Sync a file, or the names in a folder, to the disk.

    Raises
    ------
    OSError
        If that fails: there is no space, or the disk is broken.
    """
    posix = os.name == "posix"
    if path.is_dir() and not posix:  # Windows cannot sync folders
        return
    descriptor = os.open(path, os.O_RDONLY if posix else os.O_RDWR)
    try:
        os.fsync(descriptor)
    except OSError as e:
        if not path.is_dir() or e.errno not in (errno.EINVAL, errno.EOPNOTSUPP):  # errors of some network disks
            raise
    finally:
        os.close(descriptor)


def make_folder(folder: Path) -> None:
    """Make a folder and the missing ones above it, and sync the new names to the disk.

    Raises
    ------
    OSError
        If that fails: there is no permission, or a file is in the way.
    """
    new = [path for path in (folder, *folder.parents) if not path.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    for path in reversed(new):
        sync(path.parent)


@contextmanager
def made_folder(folder: Path, within: Path | None = None) -> Iterator[None]:
    """Make a folder and the missing ones above it; those of them that are empty when the block ends go again.

    So a command that could make nothing of what was asked for leaves nothing. A folder that was there before stays.

    Parameters
    ----------
    within
        What is to be made in it, which errors name.

    Raises
    ------
    OutputError
        If it cannot be made.
    """
    with os_errors(within or folder):
        new = [path for path in (folder, *folder.parents) if not path.exists()]

    def remove_empty() -> None:
        with suppress(OSError):  # it holds something, or another process has removed it
            for path in new:
                path.rmdir()

    with undone(remove_empty):
        # Another process may remove a folder above it in this moment, as it is empty: what needs it makes it again.
        with os_errors(within or folder):
            try:
                make_folder(folder)
            except (FileNotFoundError, FileExistsError) as e:
                if is_in_the_way(e):
                    raise
        yield


def write_json(path: Path, content: Mapping[str, Any], *, indent: int | None = 2) -> None:
    """Write `content` to `path` as JSON, whole or not at all. NaN raises ValueError: JSON does not have it.

    Without indents, in one line, a large one is written in a third of the time and half of the memory.
    """
    text = json.dumps(content, indent=indent, allow_nan=False, default=str) + "\n"
    write_whole(path, text.encode())


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object. Where one of its fields is asked for that is missing, an error names file, field and way out.

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
        raise FloemapError(f"contains a {type(content).__name__}, where a JSON object is needed.", path=path)
    made_by = content.get("made_by")
    return Record(content, path, made_by if isinstance(made_by, str) and made_by.startswith("floemap ") else None)


@contextmanager
def as_written(record: Path, command: str) -> Iterator[None]:
    """Turn errors from using a damaged or edited record into one that names the record and the command that makes it.

    Raises
    ------
    FloemapError
        If a field of the record is missing or of another type.
    """
    try:
        yield
    except MissingFieldError as e:  # it says more, but for the command where the record has lost it
        if e.made_by or e.path != record:
            raise
        raise MissingFieldError(e.field, record, command) from e
    except MISSHAPEN as e:
        reason, hint = f"{type(e).__name__}: {str(e)[:200]}", f"Make it again with `{command} --overwrite`."
        raise FloemapError(f"is not as `{command}` writes it: {reason}.", path=record, hint=hint) from e


def recorded(path: Path) -> dict[str, Any]:
    """Return a record; an empty one if there is none, or it cannot be read."""
    try:
        return read_json(path)
    except FloemapError:
        return {}


def as_before(record: dict[str, Any], before: dict[str, Any], *times: str) -> dict[str, Any]:
    """Return the record of before if the new one differs only in its `times`, else the new one.

    So a run that finds all as it was does not claim to have made it.
    """
    now = json.loads(json.dumps(record, default=str))
    return before if now | {key: before.get(key) for key in times} == before else record


def is_newer(record: Mapping[str, Any]) -> bool:
    """Whether a record's layout is unknown here: its version is later or not a number."""
    version = record.get("schema_version", SCHEMA_VERSION)
    return not isinstance(version, int) or version > SCHEMA_VERSION


def parse_json(text: str | bytes, path: Path, kind: type[FloemapError] = FloemapError) -> Any:
    """Parse JSON from any source.

    Raises
    ------
    FloemapError
        As `kind`, if the text is not JSON, or is nested more than 50 deep.
    """
    try:
        content = parsed(json.loads, text)
    except (
        ValueError,
        RecursionError,
    ) as e:  # ValueError: syntax, encoding or an enormous number; RecursionError: depth
        raise kind(f"is not readable JSON: {e}.", path=path) from e
    level = [content]
    for _ in range(_DEEPEST):
        level = [v for c in level if isinstance(c, dict | list) for v in (c.values() if isinstance(c, dict) else c)]
        if not level:
            return content
    raise kind(f"is JSON that is nested more than {_DEEPEST} deep.", path=path)


def is_finished(
    folder: Path,
    stage: Stage,
    files: Iterable[str] | None = None,
    *,
    inputs: Mapping[str, Any],
    configuration: Mapping[str, Any],
) -> bool:
    """Whether `folder` contains `files`, undamaged, and a record of the same revision, inputs and configuration.

    By default the files are all that the record lists.
    """
    found = recorded(folder / stage.record)
    listed = found.get("bytes")
    names = listed if files is None and isinstance(listed, Mapping) else files
    alike = made_alike(found, stage, inputs=inputs, configuration=configuration)
    return alike and names is not None and not any(damaged(folder, found, names))


def damaged(folder: Path, record: Mapping[str, Any], files: Iterable[str]) -> Iterator[str]:
    """Give those of the files that are absent, empty, or shorter than the record says.

    A file that has grown counts as changed by somebody, not as damaged.
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
    """Whether a record has the stage's present revision and the same inputs and configuration."""
    same = record.get("inputs") == inputs and record.get("configuration") == configuration
    return same and revisions_in(record, stage) == stage.revisions


def revisions_in(record: Mapping[str, Any], stage: Stage) -> dict[str, Any]:
    """Return a record's revisions, by command; 0 where it has none, as in records of older software."""
    within = record.get("within")
    within = within if isinstance(within, Mapping) else {}
    return {stage.command: record.get("revision", 0)} | {s.command: within.get(s.command, 0) for s in stage.within}


def provenance(stage: Stage, *, inputs: Mapping[str, Any], configuration: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields with which every stage's JSON begins: how it was made, from what, by which version."""
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
    """Return the SHA-256 of a file, as hexadecimal digits.

    A study does not read a file again whose size and times are those of last time; see :mod:`floemap.results.seen`.

    Raises
    ------
    FloemapError
        If it cannot be read.
    """
    regular = regular_file(path)

    def read() -> str:
        with regular.open("rb") as f:
            return hashlib.file_digest(f, "sha256").hexdigest()

    try:
        return str(found_out("sha256", [regular], read))
    except OSError as e:
        raise FloemapError(f"cannot be read: {e.strerror or e}.", path=path) from e
