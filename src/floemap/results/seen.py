"""What was found out about files, kept as long as they have the same size and times: hashes, counts, checks.

Reading hundreds of scenes again at every start takes longer than the start itself. So a study remembers what it has
found out, in one JSON in its folder of data, and looks at sizes and times instead, as git and make do. A file counts as
changed if its size, its time of modification, or the time at which the system last changed it in any way (ctime, which
no program can set) is another one. Nothing is remembered of a file that was changed so shortly before that a further
change could get the same times.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from floemap.files import parsed
from floemap.results.locks import file_beside, held

logger = logging.getLogger(__name__)

#: Version of the layout of the file; another one counts as an empty file.
_LAYOUT = 1
#: Most entries that are kept; the oldest ones go first.
_MOST = 500_000
#: Seconds within which two changes of a file may get the same time: by the clock of most file systems, and of those
#: that count in whole or even seconds.
_TICK_S, _COARSE_TICK_S = 0.1, 2.0
#: Seconds between two writings of the file while much is found out.
_SAVE_EVERY_S = 60.0

Entry = dict[str, Any]


class Seen:
    """What is remembered in one file, by a digest of what was asked and of which files.

    Parameters
    ----------
    file
        The JSON. Paths are known relative to its folder, so that a folder may be moved along with it.
    verify
        Whether to find out everything once more, instead of what was remembered before.
    """

    def __init__(self, file: Path, *, verify: bool = False) -> None:
        self.file, self.verify = file, verify
        self._before: Mapping[str, Entry] = {} if verify else _read(file)
        self._new: dict[str, Entry] = {}
        self._lock = threading.Lock()
        self._saved = time.monotonic()

    def recall(self, what: str, paths: Sequence[Path]) -> Any:
        """Return what was found out of these files before; None if nothing was, or one of them has changed."""
        with self._lock:
            key = self._key(what, paths)
            entry = self._new.get(key) or self._before.get(key)
        return None if entry is None or entry["stats"] != stats_of(paths) else entry["value"]

    def find(self, what: str, paths: Sequence[Path], find: Callable[[], Any]) -> Any:
        """Return ``find()``, and remember it."""
        stats, asked = stats_of(paths), time.time()
        value = find()
        if stats is not None and stats == stats_of(paths) and all(_settled(s, asked) for s in stats):
            with self._lock:
                self._new[self._key(what, paths)] = {"stats": stats, "value": value}
        if time.monotonic() - self._saved > _SAVE_EVERY_S:
            self.save()
        return value

    def new(self) -> dict[str, Entry]:
        """Return what was found out since the file was read."""
        with self._lock:
            return dict(self._new)

    def take(self) -> dict[str, Entry]:
        """Return what was found out since the last call."""
        with self._lock:
            taken, self._new = self._new, {}
            self._before = {**self._before, **taken}
        return taken

    def add(self, entries: Mapping[str, Entry]) -> None:
        """Add what another process has found out."""
        with self._lock:
            self._new.update(entries)

    def save(self) -> None:
        """Write what was found out, beside what other processes have written meanwhile.

        If the file cannot be written, everything is found out again the next time.
        """
        new, self._saved = self.new(), time.monotonic()
        if not new.keys() - self._before.keys() and all(self._before[k] == v for k, v in new.items()):
            return
        try:
            self.file.parent.mkdir(parents=True, exist_ok=True)
            with held(self.file.with_name(f".{self.file.name}.lock"), wait=True):
                kept = {k: v for k, v in _read(self.file).items() if k not in new} | new
                kept = dict(list(kept.items())[-_MOST:])
                with file_beside(self.file) as beside:
                    beside.write_text(json.dumps({"layout": _LAYOUT, "seen": kept}), encoding="utf-8")
                    beside.replace(self.file)
        except OSError as e:
            logger.info("%s cannot be written (%s): files will be read again the next time", self.file, e)
            return
        self._before = kept

    def _key(self, what: str, paths: Sequence[Path]) -> str:
        # Digests, because results are passed on and must not reveal anybody's disk.
        told = [what, *(os.path.relpath(p, self.file.parent) for p in paths)]
        return hashlib.sha256("\0".join(told).encode("utf-8", "surrogateescape")).hexdigest()[:32]


def _read(file: Path) -> dict[str, Entry]:
    """Return the entries of a file, of which those that are not as :class:`Seen` writes them are left out."""
    try:
        content = parsed(json.loads, file.read_text(encoding="utf-8"))
        if content["layout"] != _LAYOUT:
            return {}
        return {str(k): v for k, v in content["seen"].items() if isinstance(v, dict) and {"stats", "value"} <= v.keys()}
    except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return {}


def stats_of(paths: Sequence[Path]) -> list[list[int]] | None:
    """Return size, time of modification and of the last change, ns, of each file; None if one is missing."""
    found = []
    for path in paths:
        try:
            s = path.stat()
        except (OSError, ValueError):
            return None
        found.append([s.st_size, s.st_mtime_ns, s.st_ctime_ns])
    return found


def _settled(stat: Sequence[int], at: float) -> bool:
    """Whether a change of the file at a time, s, or later has another time than that in `stat`."""
    last = max(stat[1:])
    tick = _COARSE_TICK_S if last % 1_000_000_000 == 0 else _TICK_S
    return last / 1e9 + tick < at


_active: Seen | None = None


@contextmanager
def remembering(file: Path, *, verify: bool = False, keep: bool = True) -> Iterator[Seen]:
    """Remember in `file` what is found out while the block runs, in all threads of the process.

    Within another such block the outer one's file is used.

    Parameters
    ----------
    file, verify
        See :class:`Seen`.
    keep
        Whether to write the file in the end.
    """
    global _active
    if _active is not None:
        yield _active
        return
    _active = Seen(file, verify=verify)
    try:
        yield _active
    finally:
        seen, _active = _active, None
        if keep:
            seen.save()


def recalled(what: str, paths: Sequence[Path]) -> Any:
    """Return what :func:`found_out` found out before; None if it did not, nothing is remembered, or a file changed."""
    return None if _active is None else _active.recall(what, paths)


def found_out(what: str, paths: Sequence[Path], find: Callable[[], Any], *, anew: bool = False) -> Any:
    """Return ``find()``, or what it returned before, if :func:`remembering` remembers that and no file has changed.

    Parameters
    ----------
    what
        Name of what is found out, with all that it depends on beside the content of the files.
    paths
        The files; none of them may be a folder.
    find
        Finds it out; the result consists of what JSON knows, and is not None.
    anew
        Find it out in any case.
    """
    if _active is None:
        return find()
    value = None if anew else _active.recall(what, paths)
    return _active.find(what, paths, find) if value is None else value


def save_seen() -> None:
    """Write what was found out so far, for processes that start now."""
    if _active is not None:
        _active.save()


def add_seen(entries: Mapping[str, Entry]) -> None:
    """Remember what another process has found out."""
    if _active is not None:
        _active.add(entries)
