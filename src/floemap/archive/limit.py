"""A time limit for each product: the process that works on it for too long is ended, whatever it hangs in.

A timer within the process ends it, which works also where a library has stopped and holds Python's lock. It leaves a
trace in the folder of results, by which the next process to get the product knows how often that has happened.
"""

from __future__ import annotations

import faulthandler
import hashlib
from collections.abc import Callable, Collection
from pathlib import Path
from typing import TypeVar

from floemap.errors import ConfigError, FloemapError
from floemap.outcomes import HasFolder
from floemap.progress import Progress
from floemap.results.stage import make_folder, os_errors

#: Folder of the traces, within that of the results.
TRACES = ".stopped"
#: Longest limit: a week.
MOST_MINUTES = 7 * 24 * 60

Result = TypeVar("Result", bound=HasFolder)


class TookTooLongError(FloemapError):
    """A product took longer than its time limit. Another try may succeed: a disk or a server may have been slow."""


def checked_minutes(minutes: float | None) -> float | None:
    """Return a time limit.

    Raises
    ------
    ConfigError
        If it is not above 0 and at most :data:`MOST_MINUTES`.
    """
    if minutes is not None and not 0 < minutes <= MOST_MINUTES:
        hint = f"Give more than 0 and at most {MOST_MINUTES}, or none."
        raise ConfigError(f"the time limit of a product is {minutes:g} minutes.", hint=hint)
    return minutes


def too_long(product: Path, minutes: float, tries: int) -> TookTooLongError:
    """Return the error of a product whose process was ended at the limit, in each of a number of tries."""
    times = "" if tries == 1 else f" in each of {tries} tries"
    return TookTooLongError(
        f"took longer than {minutes:g} min{times}, and its process was ended.",
        path=product,
        hint="Try `floemap chart` with it alone, or give more --product-minutes.",
    )


class Limit:
    """The time limit of a call, within a process that another one starts anew when it has ended.

    Parameters
    ----------
    out
        Folder of the results, which all processes of the call share.
    minutes
        The limit.
    most_tries
        Number of tries after which a product has failed.
    """

    def __init__(self, out: Path, minutes: float, most_tries: int) -> None:
        self._folder, self._minutes, self._most_tries = out / TRACES, minutes, most_tries

    def stopped(self, product: Path) -> list[str]:
        """Return where the product's earlier tries were when they were ended."""
        found = sorted(self._folder.glob(f"{_key(product)}-*"))
        return [text for path in found if (text := path.read_text(encoding="utf-8", errors="replace"))]

    def around(
        self, work: Callable[[Path, Collection[Path], Progress], Result]
    ) -> Callable[[Path, Collection[Path], Progress], Result]:
        """Return `work` with the limit.

        The work raises :class:`TookTooLongError` without another try where all tries were ended.
        """

        def limited(product: Path, made: Collection[Path], progress: Progress) -> Result:
            before = len(self.stopped(product))
            if before >= self._most_tries:
                raise too_long(product, self._minutes, before)
            trace = self._folder / f"{_key(product)}-{before}"
            with os_errors(trace):
                make_folder(self._folder)
                file = trace.open("w", encoding="utf-8")
            with file:
                faulthandler.dump_traceback_later(60 * self._minutes, exit=True, file=file)
                try:
                    return work(product, made, progress)
                finally:
                    faulthandler.cancel_dump_traceback_later()
                    trace.unlink(missing_ok=True)

        return limited


def _key(product: Path) -> str:
    return hashlib.sha256(str(product).encode("utf-8", "surrogateescape")).hexdigest()[:16]
