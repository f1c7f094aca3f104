"""Memory that several processes of one host share: scenes that each of them needs are there once.

It is a file without a name (``memfd_create``), which the first process makes and the others open through ``/proc``. The
system gives it back when the last of them has ended, however that was, and the size of ``/dev/shm`` does not limit it.
"""

from __future__ import annotations

import fcntl
import logging
import mmap
import os
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

logger = logging.getLogger(__name__)

#: Parts begin at multiples of this number of bytes. Before the first, one byte for each part says whether it is filled.
_ALIGNED = 64


@dataclass(frozen=True)
class Neighbours:
    """The processes that train together, as one of them sees them.

    Attributes
    ----------
    gathered
        Returns what each process gives it, by rank. All have to call it.
    rank, first, here
        Rank of this process, that of the first process of this host, and number of processes on this host.
    """

    gathered: Callable[[Any], list[Any]]
    rank: int
    first: int
    here: int


#: A process that trains by itself.
ALONE = Neighbours(lambda given: [given], 0, 0, 1)


class Address(NamedTuple):
    """Where the other processes of a host find the memory: process, its file, and what identifies the file."""

    pid: int
    fd: int
    identity: tuple[int, int]


class HostMemory:
    """Memory in parts, each of which one of the processes fills and all of them read.

    Parameters
    ----------
    fd
        The file; it is closed with this object.
    sizes
        Bytes of each part.
    """

    def __init__(self, fd: int, sizes: list[int]) -> None:
        self._fd = fd
        starts = np.cumsum([_aligned(len(sizes)), *map(_aligned, sizes)])
        self._starts, self._sizes = starts, sizes
        self._locks = [threading.Lock() for _ in sizes]
        self._map = mmap.mmap(fd, int(starts[-1]))

    @staticmethod
    def size(sizes: list[int]) -> int:
        """Return the bytes that parts of these sizes take in all."""
        return sum(map(_aligned, [len(sizes), *sizes]))

    def part(self, number: int) -> NDArray[np.uint8]:
        """Return the bytes of a part, which are zeros until it is filled."""
        return np.frombuffer(self._map, np.uint8, self._sizes[number], int(self._starts[number]))

    def fill_once(self, number: int, fill: Callable[[], None]) -> None:
        """Let one process fill a part; the others wait. If it fails or ends before, the next one fills it."""
        if self._map[number]:
            return
        with self._locks[number], _locked(self._fd, number):
            if not self._map[number]:
                fill()
                self._map[number] = 1

    def __del__(self) -> None:
        with suppress(OSError, AttributeError):
            os.close(self._fd)


def shared_memory(sizes: list[int], neighbours: Neighbours) -> HostMemory | None:
    """Return memory for parts of so many bytes that the processes of this host share. All processes have to call it.

    None for a process by itself, and where the system has no such memory or refuses it: parts are then read by each.
    """
    if neighbours.here == 1:
        return None
    own = _new_file(HostMemory.size(sizes)) if neighbours.rank == neighbours.first else None
    address = neighbours.gathered(None if own is None else _address_of(own))[neighbours.first]
    fd = own if own is not None or address is None else _opened(address)
    neighbours.gathered(None)  # until then the first process keeps its file open
    try:
        memory = None if fd is None else HostMemory(fd, sizes)
    except OSError as e:
        memory = None
        logger.info("shared memory cannot be mapped (%s)", e)
    if memory is None:
        logger.warning("the processes of this host cannot share memory: each keeps scenes of its own")
    return memory


def _new_file(size: int) -> int | None:
    """Return a new file without a name of so many bytes; None where the system has none or refuses it."""
    if not hasattr(os, "memfd_create") or not hasattr(fcntl, "F_OFD_SETLKW"):
        return None
    try:
        fd = os.memfd_create("floemap-scenes", os.MFD_CLOEXEC)
        os.ftruncate(fd, size)
    except OSError as e:
        logger.info("there is no shared memory (%s)", e)
        return None
    return fd


def _address_of(fd: int) -> Address:
    about = os.fstat(fd)
    return Address(os.getpid(), fd, (about.st_dev, about.st_ino))


def _opened(address: Address) -> int | None:
    """Open the file of another process of this host; None if that is not possible, as between two containers."""
    try:
        fd = os.open(f"/proc/{address.pid}/fd/{address.fd}", os.O_RDWR | os.O_CLOEXEC)
    except OSError as e:
        logger.info("the memory of process %d cannot be opened (%s)", address.pid, e)
        return None
    about = os.fstat(fd)
    if (about.st_dev, about.st_ino) != address.identity:  # of a process of the same number in another container
        os.close(fd)
        return None
    return fd


@contextmanager
def _locked(fd: int, number: int) -> Iterator[None]:
    """Lock one byte of the file among processes; the system unlocks it for a process that ends.

    The lock belongs to the opened file. A lock of the process would be refused as a deadlock where threads of two
    processes wait for each other's parts.
    """
    _lock(fd, fcntl.F_WRLCK, number)
    try:
        yield
    finally:
        _lock(fd, fcntl.F_UNLCK, number)


def _lock(fd: int, kind: int, number: int) -> None:
    fcntl.fcntl(fd, fcntl.F_OFD_SETLKW, struct.pack("hhqqi4x", kind, os.SEEK_SET, number, 1, 0))  # struct flock


def _aligned(size: int) -> int:
    return -(-size // _ALIGNED) * _ALIGNED
