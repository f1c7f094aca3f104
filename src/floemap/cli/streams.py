"""Standard streams that are closed, full, or no longer read.

What cannot be shown is never lost in silence. A command whose stdout is closed does its work, and then reports that its
results could not be shown. A command ends without a word where its reader has ended, as in ``floemap ... | head -1``,
with the exit code of a program that the signal SIGPIPE has ended.
"""

from __future__ import annotations

import io
import os
import select
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

#: Exit code of a program whose output nobody reads any more: 128 and the number of SIGPIPE, as in a shell.
NOBODY_READS = 141


class _Closed(io.TextIOBase):
    """Takes the place of a closed stdout, and notes whether there was something to show."""

    encoding, errors = "utf-8", "strict"
    lost = False

    def writable(self) -> bool:
        """Return True."""
        return True

    def write(self, text: str, /) -> int:
        """Show nothing; return the number of characters."""
        self.lost = self.lost or bool(text)
        return len(text)


def replace_closed() -> None:
    """Give closed standard streams a place, which no file that is opened later can then take."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:  # the lowest free number is given
            os.set_inheritable(os.open(os.devnull, os.O_RDONLY if number == 0 else os.O_WRONLY), True)
    if sys.stdout is None:
        sys.stdout = _Closed()
    if sys.stderr is None:
        sys.stderr = io.TextIOWrapper(io.FileIO(2, "w", closefd=False), encoding="utf-8", errors="backslashreplace")


def nobody_reads() -> bool:
    """Return whether stdout or stderr is a pipe whose reader has ended."""
    watched = select.poll()
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):  # of a stream in memory
            watched.register(stream.fileno(), 0)
    return any(events & (select.POLLERR | select.POLLHUP) for _, events in watched.poll(0))


@contextmanager
def shown(report: Callable[[str], None]) -> Iterator[None]:
    """Show all that the block writes to stdout, to the last line, or end with an exit code that is not 0.

    Parameters
    ----------
    report
        Reports an error.

    Raises
    ------
    SystemExit
        If stdout is closed, full or no longer read.
    """
    try:
        try:
            yield
        finally:
            sys.stdout.flush()
    except SystemExit as e:
        if isinstance(e.__context__, BrokenPipeError):  # rich ends the program with exit code 1
            raise SystemExit(NOBODY_READS) from None
        raise
    except BrokenPipeError:
        if not nobody_reads():
            raise
        _drop_the_rest()
        raise SystemExit(NOBODY_READS) from None
    except OSError as e:
        _drop_the_rest()
        report(f"what was to be shown is not whole: {e.strerror}.")
        raise SystemExit(1) from e
    finally:
        if isinstance(sys.stdout, _Closed) and sys.stdout.lost:
            sys.stdout.lost = False
            report("stdout is closed: what was to be shown is lost.")
            raise SystemExit(1)


def _drop_the_rest() -> None:
    """Let what is left in the buffer of stdout go nowhere, which Python would try to write again as it ends."""
    with suppress(OSError, ValueError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)
