"""Progress bars of the command line, on stderr."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Self

from rich.progress import BarColumn, TaskID, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.progress import Progress as RichProgress

from floemap.cli.app import progress_wanted, stderr
from floemap.cli.terminal import printable
from floemap.progress import Progress, silent

#: Names of Sentinel-1 products: mission, start, and the four digits that make the name unique.
_PRODUCT = re.compile(r"(S1[A-D])_.*?_(\d{8}T\d{6})_\d{8}T\d{6}_.*_([0-9A-F]{4})(?:_COG)?(?:\.\w+)*")
_LONGEST = 40


def short(name: str) -> str:
    """Return a name that fits before a bar and still identifies the product: a long one keeps both ends."""
    product = _PRODUCT.fullmatch(name)
    if product is not None:
        return " ".join(product.groups())
    return name if len(name) <= _LONGEST else f"{name[:20]}…{name[-19:]}"


class Bars:
    """One bar for the whole call, and one for the product that is being worked on."""

    def __init__(self, total: int, what: str) -> None:
        self._rich = RichProgress(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            TextColumn("{task.fields[note]}", markup=False),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            console=stderr,
            disable=not progress_wanted,
            transient=True,
        )
        self._all: TaskID | None = self._rich.add_task(printable(what), total=total, note="") if total > 1 else None
        self._current: TaskID | None = None

    def __enter__(self) -> Self:
        self._rich.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._rich.stop()

    def begin(self, name: str) -> Progress:
        """Start the bar of one product; return its callback."""
        if not progress_wanted:
            return silent
        if self._current is not None:
            self._rich.remove_task(self._current)
        task = self._current = self._rich.add_task(printable(short(name)), total=None, note="")

        def note(done: float, total: float, what: str) -> None:
            self._rich.update(task, completed=done, total=total, note=printable(what))

        return note

    def finish(self) -> None:
        """Count one product as finished."""
        if self._all is not None:
            self._rich.advance(self._all)


@contextmanager
def bar(name: str) -> Iterator[Progress]:
    """Give the callback of a single bar."""
    with Bars(1, name) as bars:
        yield bars.begin(name)
