"""Threads that compute several tiles at a time, each with its share of torch's own threads.

If all cores compute one tile, they synchronise after each small operation, and all wait if the system gives one core to
another process; on a busy machine that has tripled the time. With a tile for each core there is no waiting.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from typing import TypeVar

import torch

T = TypeVar("T")

#: Limited because each tile takes memory.
_MOST = 4


def usual_count(device: torch.device) -> int:
    """Return how many tiles to compute at a time: one on a GPU, which is parallel itself."""
    return 1 if device.type == "cuda" else min(torch.get_num_threads(), _MOST)


class Workers:
    """Threads for `count` tiles at a time. With a count of 1 the calling thread does the work."""

    def __init__(self, count: int) -> None:
        self.count = count
        self._pool: ThreadPoolExecutor | None = None
        if count == 1:
            return
        threads = torch.get_num_threads()
        all_started = Barrier(count)

        def begin() -> None:
            # The first use of torch in a thread sets its number of threads to the last one set anywhere; use it first.
            torch.get_num_threads()
            torch.set_num_threads(max(1, threads // count))  # for this thread and those that start later
            all_started.wait()

        self._pool = ThreadPoolExecutor(count, thread_name_prefix="floemap-tiles", initializer=begin)
        try:
            for started in [self._pool.submit(int) for _ in range(count)]:
                started.result()
        except BaseException:
            all_started.abort()  # where one cannot be started, the others do not wait for it
            raise
        torch.set_num_threads(threads)

    def run(self, work: Callable[[T], None], items: Iterable[T]) -> None:
        """Call `work` with each item; return when all calls have returned, or raise the first error."""
        if self._pool is None:
            for item in items:
                work(item)
        else:
            for _ in self._pool.map(work, items):
                pass

    def close(self) -> None:
        """Wait for the current work, and end the threads."""
        if self._pool is not None:
            self._pool.shutdown(wait=True, cancel_futures=True)
