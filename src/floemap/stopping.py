"""Stopping by Ctrl-C and by signals of a queue: SIGTERM, as before a time limit or on a machine that is taken away,
and SIGUSR1.

While :func:`stopped_by_signals` is in force, such a signal raises :class:`Stopped` wherever the work is, or, where
:func:`saves_first` holds, at the next point at which the work has saved its state.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from types import FrameType

#: Exit code of a command that a signal has stopped: EX_TEMPFAIL of sysexits.h, "try again later".
TRY_AGAIN = 75
_NAMES = ("SIGTERM", "SIGUSR1")


class Stopped(KeyboardInterrupt):
    """A signal has stopped the work. What Ctrl-C leaves in order, this does too."""


_deferred = 0
_asked: str | None = None


@contextmanager
def stopped_by_signals() -> Iterator[None]:
    """Raise :class:`Stopped` on SIGTERM and SIGUSR1 while the block runs; in the main thread only."""
    global _asked
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    numbers = [getattr(signal, name) for name in _NAMES if hasattr(signal, name)]
    before = {number: signal.signal(number, _on_signal) for number in numbers}
    _asked = None
    try:
        yield
    finally:
        _asked = None
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def saves_first() -> Iterator[None]:
    """Let signals wait for :func:`stop_if_asked` while the block runs."""
    global _deferred
    _deferred += 1
    try:
        yield
    finally:
        _deferred -= 1


@contextmanager
def uninterrupted() -> Iterator[None]:
    """Let Ctrl-C and the signals of a queue wait until the block ends; for short steps that belong together.

    Signals that Python does not handle, such as SIGKILL, do not wait.
    """
    if threading.current_thread() is not threading.main_thread():  # signals are handled in the main thread
        yield
        return
    numbers = [getattr(signal, name) for name in ("SIGINT", *_NAMES) if hasattr(signal, name)]
    handlers = {number: handler for number in numbers if callable(handler := signal.getsignal(number))}
    came: dict[int, FrameType | None] = {}
    with ExitStack() as after:  # it calls all that is left even if a handler raises
        for number, handler in handlers.items():
            after.callback(_handle, handler, number, came)
        for number, handler in handlers.items():
            after.callback(signal.signal, number, handler)
            signal.signal(number, came.setdefault)
        yield


def _handle(handler: Callable[[int, FrameType | None], object], number: int, came: dict[int, FrameType | None]) -> None:
    if number in came:
        handler(number, came[number])


@contextmanager
def undone(undo: Callable[[], object]) -> Iterator[None]:
    """Call `undo` when the block ends, even if an interrupt comes in that moment. A second call must do nothing."""
    try:
        try:
            yield
        finally:
            with uninterrupted():
                undo()
    finally:
        undo()  # an interrupt may come before the call above


def asked() -> str | None:
    """Return the name of the signal that has asked to stop; None if none has."""
    return _asked


def stop_if_asked(what: str) -> None:
    """Raise :class:`Stopped` if a signal has asked to stop; `what` says what is kept, as in "the state is kept"."""
    if _asked is not None:
        raise Stopped(f"{_asked}: {what}")


def _on_signal(number: int, frame: FrameType | None) -> None:
    global _asked
    _asked = signal.Signals(number).name
    if not _deferred:
        raise Stopped(_asked)


@contextmanager
def spared_from_ctrl_c() -> Iterator[None]:
    """Spare processes that the block starts from Ctrl-C, which a terminal sends to all: whoever starts them ends them.

    Else one that still loads its libraries, before it can say how it takes signals, would end with a traceback.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})  # processes inherit this
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def leave_on_sigterm() -> None:
    """Let SIGTERM end this process as an error does, so that it cleans up, and leave Ctrl-C to its parent."""

    def leave(number: int, frame: object) -> None:
        raise SystemExit(128 + number)

    signal.signal(signal.SIGTERM, leave)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C in a terminal reaches all processes
