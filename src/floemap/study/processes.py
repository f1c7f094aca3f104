"""Processes that work for another one: they end with it, and tell it how far they are."""

from __future__ import annotations

import json
import os
import signal
import threading
import time

from floemap.progress import Progress
from floemap.stopping import leave_on_sigterm

#: Time for a process to finish a step, save its state and clean up after SIGTERM, before it is killed.
PATIENCE_S = 20.0


def how_it_ended(code: int) -> str:
    """Return how a process ended, by its exit code or, if it is negative, the signal, as in "its process {...}"."""
    if code >= 0:
        return f"ended with exit code {code}."
    name = signal.Signals(-code).name if -code in signal.valid_signals() else str(-code)
    memory = " The system may have run out of memory." if code == -signal.SIGKILL else ""
    return f"was killed by {name}.{memory}"


def end_with_parent() -> None:
    """End this process when its parent, which holds the other end of its standard input, has ended.

    The process gets SIGTERM, so that it can clean up; if that takes too long, it exits at once.
    """

    def watch() -> None:
        while os.read(0, 1024):  # returns nothing when the other end is closed
            pass
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(PATIENCE_S)
        os._exit(1)

    leave_on_sigterm()
    threading.Thread(target=watch, daemon=True).start()


def tell_parent(every_s: float = 0.5) -> Progress:
    """Return a progress callback that reports to the parent process, on standard output."""
    last = 0.0

    def tell(done: float, total: float, what: str) -> None:
        nonlocal last
        now = time.monotonic()
        if now - last >= every_s or done >= total:
            last = now
            share = done / total if total else 0.0
            print(json.dumps({"share": share, "what": what}), flush=True)  # noqa: T201

    return tell
