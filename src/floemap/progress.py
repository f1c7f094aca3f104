"""Progress of long work, told by the library and shown by whoever wants to: a bar in the CLI, nothing in tests.

A function with long work takes ``progress: Progress = silent`` and calls it with what is done, of how much, and a word.

Where nobody watches a bar, in the log of a batch job, lines say how far it is: :data:`milestones` is the logger of the
few that a person would want to find there, such as one for each epoch.
"""

from __future__ import annotations

import logging
from typing import Protocol

#: Logger of milestones, at level INFO. The command line writes them where stderr is no terminal.
milestones = logging.getLogger("floemap.milestones")


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
