"""Warnings, collected or dropped while a block runs: those of other libraries, and those in the log.

Warning filters belong to the process, not to a thread. If two threads change them at the same time, each restores what
the other had set: dropped warnings are shown, or shown ones dropped. So one thread at a time changes them, here.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from threading import RLock

_filtering = RLock()


class _Collector(logging.Handler):
    def __init__(self, found: list[str]) -> None:
        super().__init__(logging.WARNING)
        self.found = found

    def emit(self, record: logging.LogRecord) -> None:
        self.found.append(record.getMessage())


@contextmanager
def logged_warnings() -> Iterator[list[str]]:
    """Collect the messages of warnings that floemap logs while the block runs, of all threads, in order."""
    found: list[str] = []
    collector, logger = _Collector(found), logging.getLogger("floemap")
    logger.addHandler(collector)
    try:
        yield found
    finally:
        logger.removeHandler(collector)


@contextmanager
def caught_warnings() -> Iterator[list[warnings.WarningMessage]]:
    """Collect all warnings while the block runs."""
    with _filtering, warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        yield caught


@contextmanager
def without_warnings(category: type[Warning], message: str = "") -> Iterator[None]:
    """Drop warnings of a category whose text begins with a match of the regular expression `message`."""
    with _filtering, warnings.catch_warnings():
        warnings.filterwarnings("ignore", message, category)
        yield
