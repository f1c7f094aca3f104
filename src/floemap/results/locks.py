"""Locks: held as long as a process works, and released however the process ends, even if it is killed.

A lock is a file that the operating system locks for one process at a time. It is removed on release, so a lock file
without a holder is a leftover of a killed process and has no effect. Process numbers play no part: containers that
share a folder have the same ones. A lock file is empty; a file of its name with content belongs to somebody and stays.
"""

from __future__ import annotations

import errno
import glob
import logging
import os
import secrets
import shutil
import stat
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import TypeVar

from filelock import FileLock, Timeout

from floemap.stopping import undone, uninterrupted

if sys.platform != "win32":
    import fcntl

logger = logging.getLogger(__name__)

Made = TypeVar("Made")

#: Seconds between two attempts to take a lock.
_PAUSE = 0.05
#: Errors of file systems without locks.
_WITHOUT_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)


class TakenError(Exception):
    """Another process holds the lock. Callers turn it into an error that says what that process does."""


@contextmanager
def held(lock: Path, *, wait: bool = False) -> Iterator[bool]:
    """Hold the lock `lock` while the block runs. If the file system has no locks, log a warning and give False.

    Raises
    ------
    TakenError
        If another process holds it and `wait` is not set.
    OSError
        If the file cannot be made, or a file with content or of another kind has its name.
    """
    with suppress(FileNotFoundError):  # another process may release it in this moment
        there = lock.lstat()
        if not stat.S_ISREG(there.st_mode) or there.st_size:
            message = f"{lock.name} must be an empty lock file and is something else"
            raise FileExistsError(errno.EEXIST, message, str(lock))
    own = FileLock(lock, timeout=0, thread_local=False, fallback_to_soft=False)

    def release() -> None:
        if own.is_locked:
            with suppress(OSError):
                lock.unlink()  # while it is held: a waiting process notices, and makes a new file
            own.release()

    with undone(release):
        while not (locked := _taken(own, lock)):
            if locked is None:
                yield False
                return
            if not wait:
                raise TakenError
            time.sleep(_PAUSE)
        yield True


def _taken(own: FileLock, lock: Path) -> bool | None:
    """Return whether a lock file could be made and locked; None if the file system has no locks."""
    with uninterrupted():
        # Where the system makes no file, as below /proc, filelock reports that the lock is taken.
        _made_in(lock.parent, lambda: os.close(os.open(lock, os.O_RDWR | os.O_CREAT, 0o644)))
        try:
            own.acquire()
        except Timeout:
            return False
        except OSError as e:
            if e.errno not in _WITHOUT_LOCKS:
                raise
            logger.warning("%s cannot be locked (%s): run one process at a time there", lock.parent, e.strerror)
            return None
        return True


def _made_in(folder: Path, make: Callable[[], Made]) -> Made:
    """Make something in a folder, and the folder: another process may remove it while it is empty, if that fails."""
    for tries_left in reversed(range(100)):
        try:
            folder.mkdir(parents=True, exist_ok=True)
            return make()
        except (FileNotFoundError, FileExistsError) as e:
            if not tries_left or is_in_the_way(e):
                raise
    raise AssertionError("unreachable")


def is_in_the_way(error: OSError) -> bool:
    """Whether something else stands where a folder could not be made, rather than one that has been removed since."""
    try:
        return isinstance(error, FileExistsError) and not stat.S_ISDIR(os.stat(error.filename).st_mode)  # noqa: PTH116
    except OSError:
        return False


@contextmanager
def scratch(prefix: str, folder: Path | None = None) -> Iterator[Path]:
    """Give a new folder in `folder`, or in the system's folder of temporary files; remove it when the block ends.

    Leftovers of killed processes with the same prefix are removed: the system locks a folder while it is in use.

    Raises
    ------
    OSError
        If it cannot be made.
    """
    within = Path(tempfile.gettempdir()) if folder is None else folder

    def make() -> Path:
        return Path(tempfile.mkdtemp(prefix=prefix, dir=within))

    new = partial(_made_in, within, make) if within.is_dir() else make  # it may be removed from now on
    with _locked(within.glob(f"{glob.escape(prefix)}*"), stat.S_ISDIR, new) as place:
        yield place


@contextmanager
def file_beside(final: Path, *, make_folder: bool = False) -> Iterator[Path]:
    """Give a new, empty, hidden file beside `final`; remove it if it still exists when the block ends.

    `make_folder` makes its folder again if another process has removed that since, as it was empty. Leftovers of killed
    processes are removed: the system locks a file while it is in use.

    Raises
    ------
    OSError
        If it cannot be made.
    """

    def beside() -> Path:
        path = final.with_name(f".{final.name}.partial-{secrets.token_hex(4)}")
        path.open("xb").close()
        return path

    leftovers = final.parent.glob(f".{glob.escape(final.name)}.partial-{'[0-9a-f]' * 8}")
    new = partial(_made_in, final.parent, beside) if make_folder else beside
    with _locked(leftovers, stat.S_ISREG, new) as path:
        yield path


@contextmanager
def _locked(leftovers: Iterable[Path], of_kind: Callable[[int], bool], new: Callable[[], Path]) -> Iterator[Path]:
    """Remove leftovers that nobody holds; give a new file or folder, locked, and remove it when the block ends."""
    for left in leftovers:
        with suppress(OSError):
            found = left.lstat()
            ours = not hasattr(os, "geteuid") or found.st_uid == os.geteuid()
            if of_kind(found.st_mode) and ours and (its := _lock(left, wait=False)) is not None:
                _remove(left)
                os.close(its)
    path: Path | None = None
    lock: int | None = None

    def remove() -> None:
        nonlocal path, lock
        if path is not None:
            _remove(path)
        if lock is not None:
            os.close(lock)
        path = lock = None

    with undone(remove):
        while path is None:
            with uninterrupted():
                path = new()
                lock = _lock(path, wait=True)
                if not path.exists():  # another process removed it as a leftover before it was locked
                    remove()
        yield path


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with suppress(OSError):
            path.unlink(missing_ok=True)


def _lock(path: Path, *, wait: bool) -> int | None:
    """Lock a file or folder itself, without a lock file; None if that is impossible."""
    if sys.platform == "win32":
        return None
    try:
        opened = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
    except OSError:
        return None
    try:
        fcntl.flock(opened, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except OSError:
        os.close(opened)
        return None
    return opened
