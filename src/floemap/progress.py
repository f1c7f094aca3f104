"""Progress of long work, told by the library and shown by whoever wants to: a bar in the CLI, nothing in tests.

A function with long work takes ``progress: Progress = silent`` and calls it with what is done, of how much, and a word.
"""

from __future__ import annotations

from typing import Protocol


class Progress(Protocol):
    """Called now and then with the work done, the whole, and what is being worked on."""

    def __call__(self, done: float, total: float, what: str) -> None:
        """Take note."""


def silent(done: float, total: float, what: str) -> None:
    """Show nothing."""


def part_of(progress: Progress, finished: int, parts: int, name: str) -> Progress:
    """Return the callback of one of `parts` equal parts of a longer work, of which `finished` are done."""

    def tell(done: float, total: float, what: str) -> None:
        progress(finished + done / total if total else finished, parts, f"{name}: {what}")

    return tell
