"""Threads whose results come in order, and the number of cores that a process may use."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")


def usable_cores() -> int:
    """Return the number of processor cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


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
