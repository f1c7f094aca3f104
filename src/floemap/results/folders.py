"""Result folders: they appear whole or not at all, and take the place of nothing that floemap did not make.

Every command writes one folder per result. It is built beside its final place under a hidden name, synced to the disk
and renamed when it is complete, so a folder with its final name is always finished. A run that is killed leaves at most
a hidden ``.partial`` folder, which the next run of the same result removes: it is held by a lock, not known by a number
of a process, so containers and hosts that share a folder do not take each other's for left over.

A folder that stands in the result's place is replaced only if it holds the record of the same stage, and besides only
files that the stage made. Nothing lifts that.
"""

from __future__ import annotations

import hashlib
import logging
import os
import re
import secrets
import shutil
import stat
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from floemap.errors import FloemapError, OutputError
from floemap.results.locks import TakenError, held
from floemap.results.run_paths import told_from
from floemap.results.stage import Stage, make_folder, os_errors, read_json, sync

logger = logging.getLogger(__name__)

#: What viewers leave beside files: statistics of rasters (GDAL, QGIS), places of icons (macOS).
_NOTES = ("*.aux.xml", ".DS_Store")
_ELSEWHERE = "Move it away, or choose another --out. --overwrite does not replace it either."


@contextmanager
def stage_folder(
    final: Path,
    stage: Stage,
    *,
    sources: Mapping[str, Path] | None = None,
    inputs: Mapping[str, Any] | None = None,
    replace_others: bool = False,
) -> Iterator[Path]:
    """Give a hidden folder beside `final` to write into; rename it to `final` when the block ends without error.

    What stood at `final` before is replaced in that moment and not earlier. On any error, an interrupt included, the
    hidden folder is removed and what stood there stays.

    Parameters
    ----------
    stage
        What is made. Its record must be written into the folder.
    sources, inputs, replace_others
        See :func:`refuse_replacing`.

    Raises
    ------
    OutputError
        If what stands there may not be replaced, or the folder cannot be made or written, with the reason (no
        permission, no space).
    """
    final = Path(final)
    with os_errors(final):
        make_folder(final.parent)
        _remove_stale(final, stage)
        refuse_replacing(final, stage, sources=sources, inputs=inputs, replace_others=replace_others)
    with _partial_of(final) as partial:
        try:
            with os_errors(final):
                yield partial
                sync_tree(partial)
                _replace(partial, final, stage)
        except FloemapError as e:
            if e.path is not None and e.path.is_relative_to(partial):  # nobody knows the hidden folder
                e.path = final / e.path.relative_to(partial)
            raise


def told_sources(folder: Path, sources: Mapping[str, Path]) -> dict[str, str]:
    """Return what tells the places of a result's sources from others, by role, for its record.

    Digests of the paths as seen from the result: results are passed on, and say nothing of the disk of who made them;
    and a result that was moved along with its sources still knows them.
    """
    paths = {role: told_from(folder, path) for role, path in sources.items()}
    return {
        role: hashlib.sha256(path.encode("utf-8", "surrogateescape")).hexdigest()[:16] for role, path in paths.items()
    }


def made_of(folder: Path) -> dict[str, int]:
    """Return the files in a folder, those below it included, and their sizes in bytes: for the record, written last."""
    return {name: (folder / name).stat().st_size for name in sorted(_files(folder))}


def refuse_replacing(
    folder: Path,
    stage: Stage,
    *,
    sources: Mapping[str, Path] | None = None,
    inputs: Mapping[str, Any] | None = None,
    replace_others: bool = False,
) -> None:
    """Refuse to put a result in the place of what somebody else made, or somebody changed, or was made from others.

    Parameters
    ----------
    folder
        Where the result would go. Nothing may be there.
    sources
        Files and folders that the result is made from and known by, by role: none of them is replaced, and neither is
        a result of others of the same name.
    inputs
        What tells each from others of the same name, by the same roles, as the record has it.
    replace_others
        Replace results of other sources of the same name.

    Raises
    ------
    OutputError
        If the folder is no folder, holds no record of the stage, or anything that the stage did not make, is or holds
        a source, or was made from other sources.
    """
    if not os.path.lexists(folder):
        return
    if folder.is_symlink():
        raise OutputError("is a link, and would be replaced.", path=folder, hint=_ELSEWHERE)
    if not folder.is_dir():
        raise OutputError("a file is in the way.", path=folder, hint="Move it or choose another --out.")
    for role, source in (sources or {}).items():
        if source.resolve().is_relative_to(folder.resolve()):
            raise OutputError(f"is or holds the {role} that its result is made from.", path=folder, hint=_ELSEWHERE)
    record = _record_in(folder, stage)
    foreign = [] if record is None else sorted(_foreign(folder, stage, record))
    if foreign:
        listed = ", ".join(foreign[:5]) + (f" and {len(foreign) - 5} more" if len(foreign) > 5 else "")
        raise OutputError(
            f"holds what `{stage.command}` did not make, or was changed since: {listed}.", path=folder, hint=_ELSEWHERE
        )
    if record and not replace_others:
        _refuse_others(folder, record, sources or {}, inputs or {})


def refuse_foreign_files(folder: Path, stage: Stage, names: Iterable[str]) -> None:
    """Refuse to write files of these names into a folder that is not the result's alone, where they are not ours.

    Raises
    ------
    OutputError
        If one is there, and the stage's record is not, or was made by somebody else.
    """
    there = [name for name in names if os.path.lexists(folder / name)]
    if not there:
        return
    record = folder / stage.record
    try:
        ours = read_json(record).get("made_by") == stage.command and not record.is_symlink()
    except FloemapError:
        ours = record.is_file() and not record.stat().st_size  # as a power cut leaves it
    odd = [name for name in there if (folder / name).is_symlink() or not (folder / name).is_file()]
    if not ours or odd:
        hint = "Move it away, or choose another --out. --overwrite does not replace it either."
        raise OutputError(
            f"is there already, and `{stage.command}` did not make it.", path=folder / (odd or there)[0], hint=hint
        )


def _record_in(folder: Path, stage: Stage) -> Mapping[str, Any] | None:
    """Return the stage's record, empty where it is damaged; None of a folder in which nothing is."""
    path = folder / stage.record
    if path.is_symlink() or not path.is_file():
        there = next((name for name in _files(folder) if not is_note(name)), None)
        if there is None:
            return None
        raise OutputError(
            f"holds {there} and no {stage.record}, so `{stage.command}` did not make it.", path=folder, hint=_ELSEWHERE
        )
    try:
        record = read_json(path)
    except FloemapError:
        return {}
    if record.get("made_by") != stage.command:
        raise OutputError(f"holds a {stage.record} that `{stage.command}` did not make.", path=folder, hint=_ELSEWHERE)
    return record


def _foreign(folder: Path, stage: Stage, record: Mapping[str, Any]) -> Iterator[str]:
    """Give what is in a result's folder that its stage did not put there, or that has grown since."""
    sizes = record.get("bytes")
    for name in _files(folder):
        status = (folder / name).lstat()
        if name == stage.record or is_note(name):
            continue
        if isinstance(sizes, Mapping):
            # Shorter files than were made are what a power cut leaves, longer ones somebody's work.
            known = isinstance(sizes.get(name), int) and status.st_size <= sizes[name]
        else:  # a record of older software, or a damaged one: by the names that the stage may give
            known = any(fnmatch(name, pattern) for pattern in stage.files)
        if not known or not stat.S_ISREG(status.st_mode):
            yield name


def _refuse_others(
    folder: Path, record: Mapping[str, Any], sources: Mapping[str, Path], inputs: Mapping[str, Any]
) -> None:
    """Refuse a result that was made from another source of the same name: one with another path and other content."""
    told, before = record.get("sources"), record.get("inputs")
    if not isinstance(told, Mapping) or not isinstance(before, Mapping):
        return
    for role, now in told_sources(folder, sources).items():
        if role in told and told[role] != now and before.get(role) != inputs.get(role):
            raise OutputError(
                f"holds the result of another {role} of the same name.",
                path=folder,
                hint=f"Choose another --out for {sources[role]}, or give --overwrite to replace the other's.",
            )


def is_note(name: str) -> bool:
    """Whether a file is what a viewer leaves beside others: nobody's work, and no part of a result."""
    return any(fnmatch(Path(name).name, note) for note in _NOTES)


def _files(folder: Path) -> Iterator[str]:
    """Give everything below a folder that is no folder itself, by its path in it, with forward slashes."""
    for base, folders, files in os.walk(folder):
        links = [name for name in folders if (Path(base) / name).is_symlink()]
        for name in (*files, *links):
            yield (Path(base) / name).relative_to(folder).as_posix()


@contextmanager
def _partial_of(final: Path) -> Iterator[Path]:
    """Give a new hidden folder beside `final`, held by a lock beside it; remove both in the end."""
    with ExitStack() as stack:
        with os_errors(final):
            taken = True
            while taken:  # by somebody who takes it for left over: before it was held
                partial = final.with_name(f".{final.name}.partial-{secrets.token_hex(4)}")
                with suppress(TakenError):
                    stack.enter_context(held(partial.with_name(f"{partial.name}.lock")))
                    taken = False
            partial.mkdir()
        stack.callback(shutil.rmtree, partial, ignore_errors=True)
        yield partial


def _replace(partial: Path, final: Path, stage: Stage) -> None:
    """Put `partial` in the place of `final`. A kill between two renames leaves the old one under its hidden name."""
    if not os.path.lexists(final):
        partial.rename(final)
        sync(final.parent)
        return
    refuse_replacing(final, stage)
    old = partial.with_name(partial.name + ".old")
    final.rename(old)
    try:
        refuse_replacing(old, stage)  # whatever came in between: from here on nobody finds it by its name
        partial.rename(final)
    except BaseException:
        old.rename(final)
        raise
    sync(final.parent)  # before the old one goes: one of the two is there whenever the power is cut
    shutil.rmtree(old, ignore_errors=True)


def _remove_stale(final: Path, stage: Stage) -> None:
    """Remove what killed runs left beside `final`; bring back a result that was caught between renames.

    Each has a lock file beside it, which is held as long as its run lives.
    """
    ours = re.compile(rf"\.{re.escape(final.name)}\.partial-[0-9a-f]{{8}}\.lock")  # not those of "NAME.partial-x"
    for lock in sorted(path for path in final.parent.iterdir() if ours.fullmatch(path.name)):
        partial = lock.with_suffix("")
        old = partial.with_name(partial.name + ".old")
        with suppress(TakenError, OSError), held(lock) as alone:  # OSError: it is somebody else's
            if not alone:  # without locks nobody knows whether its run lives
                continue
            if old.is_dir() and not os.path.lexists(final):
                logger.warning("bringing back %s, which a killed run left half replaced", final)
                old.rename(final)
            elif old.is_dir():
                with suppress(OutputError):
                    refuse_replacing(old, stage)
                    shutil.rmtree(old, ignore_errors=True)
            shutil.rmtree(partial, ignore_errors=True)


def sync_tree(folder: Path) -> None:
    """Bring a folder to the disk with all that is in it: files first, then the folders that name them."""
    for base, _, files in os.walk(folder, topdown=False):
        for name in files:
            sync(Path(base) / name)
        sync(Path(base))
