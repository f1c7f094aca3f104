"""Result folders: they appear whole or not at all, and replace nothing that floemap did not make.

Every command writes one folder per result. It is built beside its final place under a hidden name, synced to the disk
and renamed when it is complete, so a folder with its final name is always finished. A run that is killed leaves at most
a hidden ``.partial`` folder, which the next run of the same result removes. A lock, not a process number, says whether
its run lives, so containers and hosts that share a folder do not remove each other's folders.

An existing folder of the result's name is replaced only if it contains the record of the same stage and otherwise only
files that the stage made. No option overrides this.
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
from floemap.results.stage import Stage, made_folder, os_errors, read_json, refuse_within, sync
from floemap.stopping import undone, uninterrupted

logger = logging.getLogger(__name__)

#: Files that viewers write beside others: statistics of rasters and schemas of GML (GDAL, QGIS), positions of icons
#: (macOS).
_NOTES = ("*.aux.xml", "*.gfs", ".DS_Store")
_ELSEWHERE = "Move it away, or choose another --out. --overwrite does not replace it."


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

    An earlier result at `final` is replaced in that moment and not before. On any error, an interrupt included, the
    hidden folder is removed and the earlier result stays.

    Parameters
    ----------
    stage
        Stage of the result. The block must write its record into the folder.
    sources, inputs, replace_others
        See :func:`refuse_replacing`.

    Raises
    ------
    OutputError
        If the existing folder may not be replaced, the new one would lie within another result, or it cannot be made or
        written, with the reason (no permission, no space).
    """
    final = Path(final)
    refuse_within(final)
    with made_folder(final.parent, final):
        with os_errors(final):
            _remove_stale(final, stage)
            _refuse_what_is_there(final, stage, sources, inputs, replace_others=replace_others)
        with _partial_of(final) as partial:
            try:
                with os_errors(final):
                    yield partial
                    sync_tree(partial)
                    with uninterrupted():
                        _replace(partial, final, stage)
            except FloemapError as e:
                if e.path is not None and e.path.is_relative_to(partial):  # users do not know the hidden folder
                    e.path = final / e.path.relative_to(partial)
                raise


def told_sources(folder: Path, sources: Mapping[str, Path]) -> dict[str, str]:
    """Return digests that identify the places of a result's sources, by role, for its record.

    The digests are of the paths relative to the result. Digests, because results are passed on and must not reveal
    anybody's disk; relative, so that a result that was moved along with its sources still recognises them.
    """
    paths = {role: told_from(folder, path) for role, path in sources.items()}
    return {
        role: hashlib.sha256(path.encode("utf-8", "surrogateescape")).hexdigest()[:16] for role, path in paths.items()
    }


def made_of(folder: Path) -> dict[str, int]:
    """Return the sizes in bytes of all files in and below a folder, by path: for the record, which is written last."""
    return {name: (folder / name).stat().st_size for name in sorted(_files(folder))}


def refuse_replacing(
    folder: Path,
    stage: Stage,
    *,
    sources: Mapping[str, Path] | None = None,
    inputs: Mapping[str, Any] | None = None,
    replace_others: bool = False,
) -> None:
    """Refuse to replace a folder that another program or person made or changed, or that has other sources.

    Parameters
    ----------
    folder
        Folder of the result; it need not exist.
    sources
        Files and folders that the result is made from and named after, by role. None of them is replaced, and neither
        is the result of another source of the same name.
    inputs
        Identity of each source, by the same roles, as in the record's ``inputs``.
    replace_others
        Whether to replace results of other sources of the same name.

    Raises
    ------
    OutputError
        If the folder lies within another result, is a file or a link, lacks the record of the stage, contains a file
        that the stage did not make, is or contains a source, or was made from other sources.
    """
    refuse_within(folder)
    _refuse_what_is_there(folder, stage, sources, inputs, replace_others=replace_others)


def _refuse_what_is_there(
    folder: Path,
    stage: Stage,
    sources: Mapping[str, Path] | None = None,
    inputs: Mapping[str, Any] | None = None,
    *,
    replace_others: bool = False,
) -> None:
    """Refuse to replace a folder for what it is or contains; see :func:`refuse_replacing`."""
    if not os.path.lexists(folder):
        return
    if folder.is_symlink():
        raise OutputError("is a symbolic link, which floemap does not replace.", path=folder, hint=_ELSEWHERE)
    if not folder.is_dir():
        raise OutputError("a file is in the way.", path=folder, hint="Move it or choose another --out.")
    for role, source in (sources or {}).items():
        if source.resolve().is_relative_to(folder.resolve()):
            raise OutputError(f"is or contains the {role} that the result is made from.", path=folder, hint=_ELSEWHERE)
    record = _record_in(folder, stage)
    foreign = [] if record is None else sorted(_foreign(folder, stage, record))
    if foreign and stage.kept is not None:
        _refuse_losing(folder, stage, *stage.kept, foreign)
    if foreign:
        listed = ", ".join(foreign[:5]) + (f" and {len(foreign) - 5} more" if len(foreign) > 5 else "")
        raise OutputError(
            f"contains files that `{stage.command}` did not make, or that were changed since: {listed}.",
            path=folder,
            hint=_ELSEWHERE,
        )
    if record and not replace_others:
        _refuse_others(folder, record, sources or {}, inputs or {})


def _refuse_losing(folder: Path, stage: Stage, within: str, command: str, foreign: list[str]) -> None:
    """Refuse to replace a result in whose folder another command keeps results, if nothing else is foreign in it."""
    parts = [Path(name).parts for name in foreign]
    if any(len(p) < 3 or p[0] != within for p in parts):
        return
    names = list(dict.fromkeys(p[1] for p in parts))
    what = f"the {within} " if len(names) > 1 else f"the {within.removesuffix('s')} "
    raise OutputError(
        f"has {what}{', '.join(names)}, made by `{command}` for the files that are there now, which would be lost.",
        path=folder,
        hint=f"To go ahead, move or delete {folder / within}, repeat `{stage.command}`, and run `{command}` again. Or "
        "choose another --out.",
    )


def refuse_foreign_files(folder: Path, stage: Stage, names: Iterable[str]) -> None:
    """Refuse to overwrite files of these names that the stage did not make, in a folder that others use too.

    Raises
    ------
    OutputError
        If one of the files exists, and the folder lacks the stage's record or another program made that record.
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
        raise OutputError(
            f"already exists, and `{stage.command}` did not make it.", path=folder / (odd or there)[0], hint=_ELSEWHERE
        )


def _record_in(folder: Path, stage: Stage) -> Mapping[str, Any] | None:
    """Return the stage's record, an empty one if it is damaged, and None if the folder is empty."""
    path = folder / stage.record
    if path.is_symlink() or not path.is_file():
        there = next((name for name in _files(folder) if not is_note(name)), None)
        if there is None:
            return None
        raise OutputError(
            f"contains {there} but no {stage.record}, so `{stage.command}` did not make it.",
            path=folder,
            hint=_ELSEWHERE,
        )
    try:
        record = read_json(path)
    except FloemapError:
        return {}
    if record.get("made_by") != stage.command:
        raise OutputError(
            f"contains a {stage.record} that `{stage.command}` did not make.", path=folder, hint=_ELSEWHERE
        )
    return record


def _foreign(folder: Path, stage: Stage, record: Mapping[str, Any]) -> Iterator[str]:
    """Give the files in a result's folder that its stage did not write, or that have grown since."""
    sizes = record.get("bytes")
    for name in _files(folder):
        status = (folder / name).lstat()
        if name == stage.record or is_note(name):
            continue
        if isinstance(sizes, Mapping):
            # A power cut leaves files that are too short; a longer one was changed by somebody.
            known = isinstance(sizes.get(name), int) and status.st_size <= sizes[name]
        else:  # a record of older software, or a damaged one: the names that the stage may give decide
            known = any(fnmatch(name, pattern) for pattern in stage.files)
        if not known or not stat.S_ISREG(status.st_mode):
            yield name


def _refuse_others(
    folder: Path, record: Mapping[str, Any], sources: Mapping[str, Path], inputs: Mapping[str, Any]
) -> None:
    """Refuse a result whose source has the same name, but another path and other content."""
    told, before = record.get("sources"), record.get("inputs")
    if not isinstance(told, Mapping) or not isinstance(before, Mapping):
        return
    for role, now in told_sources(folder, sources).items():
        if role in told and told[role] != now and before.get(role) != inputs.get(role):
            raise OutputError(
                f"contains the result of another {role} of the same name.",
                path=folder,
                hint=f"Choose another --out for {sources[role]}, or give --overwrite to replace that result.",
            )


def is_note(name: str) -> bool:
    """Whether a file is a by-product of a viewer: neither anybody's work nor part of a result."""
    return any(fnmatch(Path(name).name, note) for note in _NOTES)


def _files(folder: Path) -> Iterator[str]:
    """Give the relative paths, with forward slashes, of everything below a folder except folders."""
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
            while taken:  # another run may try to remove the folder before it is locked
                hidden = final.with_name(f".{final.name}.partial-{secrets.token_hex(4)}")
                with suppress(TakenError):
                    stack.enter_context(held(hidden.with_name(f"{hidden.name}.lock")))
                    taken = False
            stack.enter_context(undone(lambda: shutil.rmtree(hidden, ignore_errors=True)))
            hidden.mkdir()
        yield hidden


def _replace(partial: Path, final: Path, stage: Stage) -> None:
    """Put `partial` in the place of `final`. A kill between two renames leaves the old one under its hidden name."""
    if not os.path.lexists(final):
        partial.rename(final)
        sync(final.parent)
        return
    _refuse_what_is_there(final, stage)
    old = partial.with_name(partial.name + ".old")
    final.rename(old)
    try:
        _refuse_what_is_there(old, stage)  # files may have been added in between; nobody finds it by its name any more
        partial.rename(final)
    except BaseException:
        old.rename(final)
        raise
    sync(final.parent)  # before the old one goes: one of the two is there whenever the power is cut
    shutil.rmtree(old, ignore_errors=True)


def _remove_stale(final: Path, stage: Stage) -> None:
    """Remove leftovers of killed runs beside `final`; restore a result that a run was killed while renaming.

    Each leftover has a lock file beside it, which is held as long as its run lives.
    """
    ours = re.compile(rf"\.{re.escape(final.name)}\.partial-[0-9a-f]{{8}}\.lock")  # not those of "NAME.partial-x"
    try:
        there = list(final.parent.iterdir())
    except FileNotFoundError:  # another process, which could make nothing, has removed it, as it was empty
        return
    for lock in sorted(path for path in there if ours.fullmatch(path.name)):
        partial = lock.with_suffix("")
        old = partial.with_name(partial.name + ".old")
        with suppress(TakenError, OSError), uninterrupted(), held(lock) as alone:  # OSError: another program's file
            if not alone:  # without locks floemap cannot know whether its run lives
                continue
            if old.is_dir() and not os.path.lexists(final):
                logger.warning("restoring %s, which a killed run was about to replace", final)
                old.rename(final)
            elif old.is_dir():
                with suppress(OutputError):
                    _refuse_what_is_there(old, stage)
                    shutil.rmtree(old, ignore_errors=True)
            shutil.rmtree(partial, ignore_errors=True)


def sync_tree(folder: Path) -> None:
    """Sync a folder and all that is in it to the disk: files first, then the folders that name them."""
    for base, _, files in os.walk(folder, topdown=False):
        for name in files:
            sync(Path(base) / name)
        sync(Path(base))
