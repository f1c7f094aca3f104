"""Parts in memory, each read when it is first needed, and then kept.

A training on hundreds of scenes so takes its first step as soon as the parts of its first crops are there, while
threads read the others.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import overload

import numpy as np

from floemap.learning.data.host_memory import HostMemory
from floemap.learning.data.parts import PartArrays, ScenePart, load_part, part_window
from floemap.learning.data.polygons import read_shares
from floemap.results.seen import found_out
from floemap.threads import usable_cores

#: Most parts that are read at the same time: each takes memory of its own meanwhile.
_MOST_THREADS = 4

#: Makes the memory that the processes of a host share, for parts of so many bytes; None for a process by itself.
Allocate = Callable[[list[int]], HostMemory | None]


class ResidentParts(Sequence[PartArrays]):
    """The arrays of parts. Those on disk are read when they are first asked for, by any thread.

    Parameters
    ----------
    parts
        Parts on disk or in memory. The latter are kept as they are.
    allocate
        See :data:`Allocate`.
    """

    def __init__(self, parts: Sequence[ScenePart | PartArrays], allocate: Allocate = lambda sizes: None) -> None:
        self._parts = parts
        self._held: list[PartArrays | None] = [p if isinstance(p, PartArrays) else None for p in parts]
        self._locks = [threading.Lock() for _ in parts]
        on_disk = all(isinstance(p, ScenePart) for p in parts)
        self._shared = allocate([bytes_of(p) for p in parts]) if on_disk else None

    @property
    def origins(self) -> Sequence[ScenePart | PartArrays]:
        """The parts as they were given: of those on disk, the files."""
        return self._parts

    def __len__(self) -> int:
        return len(self._parts)

    @overload
    def __getitem__(self, index: int) -> PartArrays: ...
    @overload
    def __getitem__(self, index: slice) -> list[PartArrays]: ...
    def __getitem__(self, index: int | slice) -> PartArrays | list[PartArrays]:
        """Return a part; raises what :func:`floemap.learning.data.parts.load_part` raises."""
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        index = range(len(self))[index]
        if (held := self._held[index]) is None:
            with self._locks[index]:
                if (held := self._held[index]) is None:
                    held = self._held[index] = self._read(index)
        return held

    @contextmanager
    def reading(self, order: Iterable[int]) -> Iterator[None]:
        """Read parts in this order in threads while the block runs. An error is raised when its part is asked for."""
        missing = [i for i in dict.fromkeys(order) if self._held[i] is None]
        if not missing:
            yield
            return
        with ThreadPoolExecutor(min(usable_cores(), _MOST_THREADS), thread_name_prefix="floemap-parts") as pool:
            for i in missing:
                pool.submit(self.__getitem__, i)
            try:
                yield
            finally:
                pool.shutdown(wait=False, cancel_futures=True)

    def _read(self, index: int) -> PartArrays:
        part = self._parts[index]
        if self._shared is None or isinstance(part, PartArrays):
            return load_part(part)
        memory, (rows, cols) = self._shared.part(index), shape_of(part)
        ends = np.cumsum([2 * len(part.bands) * rows * cols, 2 * rows * cols * (part.polygons is not None)])
        stored = memory[: ends[0]].view(np.int16).reshape(len(part.bands), rows, cols)
        ids = None if part.polygons is None else memory[ends[0] : ends[1]].view(np.uint16).reshape(rows, cols)
        labels = memory[ends[1] :].reshape(rows, cols)

        def fill() -> None:
            read = load_part(part)
            stored[:], labels[:] = read.stored, read.labels
            if ids is not None and read.ids is not None:
                ids[:] = read.ids

        self._shared.fill_once(index, fill)
        shares = None if part.polygons is None else read_shares(part.polygons)
        return PartArrays(part.name, stored, labels, ids, shares, part.bands)


def shape_of(part: ScenePart | PartArrays) -> tuple[int, int]:
    """Return the numbers of rows and columns of a part, of a whole scene from the header of its product.

    Raises
    ------
    FloemapError
        If the product cannot be read.
    """
    if isinstance(part, PartArrays):
        rows, cols = part.labels.shape
        return rows, cols
    if part.window is not None:
        return part.window[2:]
    rows, cols = found_out("rows and columns", [part.product], lambda: list(part_window(part)[2:]))
    return int(rows), int(cols)


def bytes_of(part: ScenePart | PartArrays) -> int:
    """Return the bytes that a part takes in memory; errors as of :func:`shape_of`."""
    rows, cols = shape_of(part)
    return rows * cols * (2 * len(part.bands) + 1 + (0 if part.polygons is None else 2))
