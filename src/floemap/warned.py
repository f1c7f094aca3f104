"""What other libraries warn of, collected or dropped while a block runs.

Filters of warnings belong to the process, not to a thread: two threads that change them at a time put back what the
other had set, and what should be silent is shown, or the other way round. So only one changes them at a time, here.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from threading import RLock

_filtering = RLock()


@contextmanager
def caught_warnings() -> Iterator[list[warnings.WarningMessage]]:
    """Collect what is warned of while the block runs."""
    with _filtering, warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        yield said


@contextmanager
def without_warnings(category: type[Warning], message: str = "") -> Iterator[None]:
    """Drop warnings of a category while the block runs, whose text `message`, a regular expression, begins."""
    with _filtering, warnings.catch_warnings():
        warnings.filterwarnings("ignore", message, category)
        yield
