"""Products that arrive in a folder: one is there when it is complete and nothing has changed in it for a while."""

from __future__ import annotations

import logging
import os
import stat
import time
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from floemap.archive.scenes import products_in
from floemap.errors import FloemapError
from floemap.files import similar_path
from floemap.zips import UNREADABLE

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Arrival:
    """A product that has arrived.

    Attributes
    ----------
    path
        Its file or folder.
    state
        What its files are like: number, size, time of the latest change. It is another one if it was copied again.
    seen
        When it was seen first by this process.
    """

    path: Path
    state: str
    seen: datetime


class Arrivals:
    """Looks into a folder again and again for products that are complete.

    Whoever copies a file into the folder need not rename it at the end: a product counts once it has not changed for
    `settle_s` seconds, by the clock of this process, and its zip can be opened, which begins at its end. A product that
    does not change any more and cannot be opened is incomplete for good after `patience_s` seconds.

    Parameters
    ----------
    clock
        Returns the time in seconds of a monotonic clock.
    """

    def __init__(
        self, folder: Path, *, settle_s: float, patience_s: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._folder, self._settle_s, self._patience_s, self._clock = folder, settle_s, patience_s, clock
        self._known: dict[Path, tuple[str, float, datetime]] = {}
        self._unreadable: set[Path] = set()

    def look(self) -> tuple[list[Arrival], int]:
        """Return the products that have arrived, those that are incomplete for good included, and how many have not.

        Raises
        ------
        FloemapError
            If the folder cannot be read.
        """
        try:
            there = list(products_in(self._folder, self._cannot_read))
        except FileNotFoundError as e:
            raise FloemapError("does not exist.", path=self._folder, hint=similar_path(self._folder)) from e
        except OSError as e:
            raise FloemapError(f"cannot be looked into: {e.strerror or e}.", path=self._folder) from e
        now, seen, arrived = self._clock(), {}, []
        for path in there:
            state = _state(path)
            if state is None:
                continue
            before = self._known.get(path)
            since, first = (now, datetime.now(UTC)) if before is None else before[1:]
            if before is not None and before[0] != state:
                since = now
            seen[path] = (state, since, first)
            quiet = now - since
            if quiet >= self._settle_s and (_is_whole(path) or quiet >= self._patience_s):
                arrived.append(Arrival(path, state, first))
        self._known = seen
        return arrived, len(seen) - len(arrived)

    def _cannot_read(self, folder: Path, error: OSError) -> None:
        """Warn once of a folder below that cannot be looked into; the products of the others are charted."""
        if folder not in self._unreadable:
            self._unreadable.add(folder)
            logger.warning("%s cannot be looked into: %s. The others are.", folder, error.strerror or error)


def _state(path: Path) -> str | None:
    """Return number and total size of a product's files and the time of the latest change; None if it has just gone."""
    try:
        files = [Path(base) / name for base, _, names in os.walk(path) for name in names] if path.is_dir() else [path]
        found = [_stat(file) for file in files]
        latest = max((s.st_mtime_ns for s in found), default=0)
    except OSError:
        return None
    return f"{len(found)}-{sum(s.st_size for s in found)}-{latest}"


def _stat(file: Path) -> os.stat_result:
    """Return what is known of a file; of a link that leads nowhere, what is known of the link."""
    try:
        return file.stat()
    except FileNotFoundError:
        return file.lstat()


def _is_whole(path: Path) -> bool:
    """Whether a zip's directory, at its end, is there; what a folder lacks shows when it is read."""
    if path.suffix.lower() != ".zip":
        return True
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            return False  # opening a pipe waits without end
        with zipfile.ZipFile(path):
            return True
    except UNREADABLE:
        return False
