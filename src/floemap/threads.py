"""Threads whose results come in order, and the cores and the memory that a process may use."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")


def usable_cores() -> int:
    """Return the number of processor cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def free_memory() -> int | None:
    """Return the bytes of memory that are free for this process, within the limit of its container or job.

    None where the system does not say: it is known on Linux only.
    """
    free: list[int] = []
    with suppress(OSError, ValueError, StopIteration):
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
        free.append(1024 * int(next(line for line in lines if line.startswith("MemAvailable:")).split()[1]))
    with suppress(OSError, ValueError):  # Linux' cgroups, version 2
        within = Path("/proc/self/cgroup").read_text(encoding="utf-8").strip().rpartition("::")[2]
        for folder in (Path("/sys/fs/cgroup", within.lstrip("/")), Path("/sys/fs/cgroup")):
            limit = folder / "memory.max"
            if limit.is_file() and (most := limit.read_text(encoding="ascii").strip()) != "max":
                free.append(max(0, int(most) - int((folder / "memory.current").read_text(encoding="ascii"))))
    return min(free, default=None)


def in_order(calls: Iterable[Callable[[], T]], threads: int) -> Iterator[T]:
    """Run calls in threads and yield their results in the order of the calls.

    At most `threads` + 1 calls are taken from the iterable before the first of them has finished and its result was
    taken, so that memory stays bounded. The iterable runs in the caller's thread.
    """
    with ThreadPoolExecutor(threads, thread_name_prefix="floemap-in-order") as pool:
        waiting: deque[Future[T]] = deque()
        try:
            for call in calls:
                waiting.append(pool.submit(call))
                if len(waiting) > threads:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()
