"""Threads that work on several tiles at a time, each with its share of torch's own threads.

With all cores on one tile, cores wait for each other after each small operation, and all wait for one that the system
gave to something else: with other work on the machine that has cost three times the time. With a tile to each core,
nobody waits.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from typing import TypeVar

import torch

T = TypeVar("T")

#: Each tile that is worked on takes memory.
_MOST = 4


def usual_count(device: torch.device) -> int:
    """Return how many tiles to work on at a time: one on a GPU, which shares its own work out."""
    return 1 if device.type == "cuda" else min(torch.get_num_threads(), _MOST)


class Workers:
    """Threads for `count` tiles at a time. With one, work is done in the caller's thread."""

    def __init__(self, count: int) -> None:
        self.count = count
        self._pool: ThreadPoolExecutor | None = None
        if count == 1:
            return
        threads = torch.get_num_threads()
        all_started = Barrier(count)

        def begin() -> None:
            # A thread's first question or work sets its number to what was set last anywhere; so ask first, then set.
            torch.get_num_threads()
            torch.set_num_threads(max(1, threads // count))  # of this thread, and of those that start later
            all_started.wait()

        self._pool = ThreadPoolExecutor(count, thread_name_prefix="floemap-tiles", initializer=begin)
        for started in [self._pool.submit(int) for _ in range(count)]:
            started.result()
        torch.set_num_threads(threads)

    def run(self, work: Callable[[T], None], items: Iterable[T]) -> None:
        """Call `work` with each item; return when all are done, or raise the first error."""
        if self._pool is None:
            for item in items:
                work(item)
        else:
            for _ in self._pool.map(work, items):
                pass

    def close(self) -> None:
        """Wait for what is being worked on, and end the threads."""
        if self._pool is not None:
            self._pool.shutdown(wait=True, cancel_futures=True)
