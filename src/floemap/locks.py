"""Locks: held for as long as a process works there, and let go however it ends, even killed.

A lock is a file that one process at a time has locked by the system. It is removed when it is let go, so a file without
a holder is only what a killed process left, and means nothing. Numbers of processes play no part: containers that share
a folder have the same ones. A lock is empty: a file of its name that is not is somebody's, and stays.
"""

from __future__ import annotations

import errno
import logging
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

logger = logging.getLogger(__name__)

#: What a file system answers that has no locks.
_WITHOUT_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)


class TakenError(Exception):
    """Somebody else holds the lock. It never leaves the library: who asks says what is being done there."""


@contextmanager
def held(lock: Path, *, wait: bool = False) -> Iterator[bool]:
    """Hold the lock `lock` while the block runs. Gives False where the file system has no locks, and says so.

    Raises
    ------
    TakenError
        If somebody else holds it and `wait` is not set.
    OSError
        If the file cannot be made, or somebody's own is there.
    """
    with suppress(FileNotFoundError):  # others may let go of it in this moment
        there = lock.lstat()
        if not stat.S_ISREG(there.st_mode) or there.st_size:
            message = f"{lock.name}, the name of a lock, is that of somebody's file"
            raise FileExistsError(errno.EEXIST, message, str(lock))
    own = FileLock(lock, timeout=-1 if wait else 0, thread_local=False, fallback_to_soft=False)
    try:
        own.acquire()
    except Timeout:
        raise TakenError from None
    except OSError as e:
        if e.errno not in _WITHOUT_LOCKS:
            raise
        logger.warning("%s cannot be locked (%s): start one process at a time there", lock.parent, e.strerror)
        yield False
        return
    try:
        yield True
    finally:
        with suppress(OSError):
            lock.unlink()  # while it is held: who waits for it sees that, and makes it anew
        own.release()
