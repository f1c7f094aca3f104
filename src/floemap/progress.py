"""Progress of long work, reported by the library through callbacks and shown by the caller, as a bar or not at all.

A long-running function takes ``progress: Progress = silent`` and calls it as progress(done, total, message). The
functions of the public API, ``floemap.compare`` and so on, also take ``progress=True``, which shows a bar on stderr.

Where there is no terminal, as in the log of a batch job, lines take the place of bars. :data:`milestones` is the logger
of the few lines that a person wants to find there, such as one for each epoch.
"""

from __future__ import annotations

import functools
import logging
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Protocol

#: Logger of milestones, at level INFO. The command line writes them if stderr is not a terminal.
milestones = logging.getLogger("floemap.milestones")
#: Value of the parameter "extra" of milestones that bars do not show: where work resumes, and how it ended.
BESIDE_BARS = {"beside_bars": True}


class Progress(Protocol):
    """A progress callback, called now and then with the work done, the total, and what is being worked on."""

    def __call__(self, done: float, total: float, what: str) -> None:
        """Show or record the progress."""


def silent(done: float, total: float, what: str) -> None:
    """Show nothing."""


def with_bar(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return a function that also takes ``progress=True``: a bar on a terminal or in a notebook, else lines."""

    @functools.wraps(function)
    def call(*args: Any, **options: Any) -> Any:
        if options.get("progress") is not True:
            return function(*args, **options)
        with shown(function.__name__) as options["progress"]:
            return function(*args, **options)

    return call


#: Seconds between lines where there is no bar.
_EVERY_S = 10.0


@contextmanager
def shown(name: str) -> Iterator[Progress]:
    """Give a callback that shows progress on stderr while the block runs."""
    from rich.console import Console
    from rich.progress import BarColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
    from rich.progress import Progress as RichProgress

    console = Console(file=sys.stderr)
    if not (console.is_terminal or console.is_jupyter):
        yield _in_lines(name)
        return
    note = TextColumn("{task.fields[note]}", markup=False)
    columns = (TextColumn(name), BarColumn(), note, TimeElapsedColumn(), TimeRemainingColumn())
    with RichProgress(*columns, console=console) as bar:
        task = bar.add_task(name, total=None, note="")
        yield lambda done, total, what: bar.update(task, completed=done, total=total, note=what)


def _in_lines(name: str) -> Progress:
    last = -_EVERY_S

    def tell(done: float, total: float, what: str) -> None:
        nonlocal last
        now = time.monotonic()
        if now - last >= _EVERY_S or (total and done >= total):
            last = now
            print(f"{name}: {done / total if total else 0:4.0%} {what}", file=sys.stderr, flush=True)  # noqa: T201

    return tell


def part_of(progress: Progress, finished: int, parts: int, name: str) -> Progress:
    """Return the callback of one of `parts` equal parts of a longer work, of which `finished` are finished."""

    def tell(done: float, total: float, what: str) -> None:
        progress(finished + done / total if total else finished, parts, f"{name}: {what}")

    return tell


def between(progress: Progress, low: float, high: float) -> Progress:
    """Return the callback of a part of a longer work, which takes it from one share, 0 to 1, to another."""

    def tell(done: float, total: float, what: str) -> None:
        progress(low + (high - low) * (done / total if total else 0), 1, what)

    return tell
