"""Charting in a process aside, which is ended when a product takes too long, and started anew for the next one."""

from __future__ import annotations

import faulthandler
import itertools
import logging
import multiprocessing
import os
import threading
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager, suppress
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

from floemap.archive.limit import too_long
from floemap.archive.work import Order, call_of
from floemap.errors import FloemapError
from floemap.inference.draftchart.chart import DraftChart
from floemap.progress import Progress
from floemap.stopping import leave_on_sigterm, spared_from_ctrl_c

logger = logging.getLogger(__name__)

#: Seconds for a process to clean up after SIGTERM, before it is killed; and for one whose parent has not killed it at
#: the limit to end itself.
_PATIENCE_S = 10.0
#: Seconds for a process to load the models: libraries and a model take some ten, more on a busy machine.
_START_S = 600.0
#: Seconds between two reports of progress.
_TELL_EVERY_S = 0.5


class Aside:
    """Charts one product at a time in another process, within a time limit.

    A script that uses it needs ``if __name__ == "__main__":``, because the process imports the script.
    """

    def __init__(self, order: Order, minutes: float, start_s: float = _START_S) -> None:
        self._order, self._minutes, self._start_s = order, minutes, start_s
        self._process: Any = None
        self._line: Connection | None = None
        #: Whether the last error was of the models, so that no product can be charted.
        self.hopeless = False

    def make(self, product: Path, made: Collection[Path], progress: Progress) -> DraftChart:
        """Make the chart of a product; `made` is of no account.

        Raises
        ------
        TookTooLongError
            If it takes longer than the limit; its process has been ended.
        Exception
            What charting raises, and FloemapError if the process ends by itself, or cannot load the models in time.
        """
        line = self._ready()
        end = time.monotonic() + 60 * self._minutes
        with self._ended(product):
            line.send(product)
        while line.poll(max(0.0, end - time.monotonic())):
            with self._ended(product):
                kind, *answer = line.recv()
            if kind == "step":
                progress(*answer)
            elif kind == "log":
                logging.getLogger(answer[0]).log(answer[1], "%s", answer[2])
            elif kind == "done":
                chart: DraftChart = answer[0]
                return chart
            else:
                errors, self.hopeless = answer
                for error, cause in itertools.pairwise(errors):
                    error.__cause__ = cause
                raise errors[0]
        self.close(kill=True)
        raise too_long(product, self._minutes, 1)

    @contextmanager
    def _ended(self, product: Path) -> Iterator[None]:
        """Say of a connection whose other side is gone that the process has ended."""
        try:
            yield
        except (EOFError, BrokenPipeError, ConnectionResetError):
            self.close(kill=True)
            hint = "It may need more memory than there is: try `floemap chart` with it alone."
            raise FloemapError("ended the process that charted it.", path=product, hint=hint) from None

    def close(self, *, kill: bool = False) -> None:
        """End the process, if there is one; it cleans up, unless it is killed."""
        if self._process is None:
            return
        if not kill:
            self._process.terminate()
            self._process.join(_PATIENCE_S)
        self._process.kill()
        self._process.join(_PATIENCE_S)
        if self._process.is_alive():
            logger.warning("a process that was killed has not ended yet; it waits for a disk or a network")
        if self._line is not None:
            self._line.close()
        self._process = self._line = None

    def _ready(self) -> Connection:
        """Return the connection to a process that waits for a product."""
        if self._line is None or not self._process.is_alive():
            self.close(kill=True)
            context = multiprocessing.get_context("spawn")
            self._line, theirs = context.Pipe()
            self._process = context.Process(target=serve, args=(self._order, self._minutes, theirs), daemon=True)
            with spared_from_ctrl_c():
                self._process.start()
            theirs.close()
            if not self._line.poll(self._start_s):
                self.close(kill=True)
                self.hopeless = True
                raise FloemapError(
                    f"the process that charts was not ready after {self._start_s / 60:g} min, and was ended.",
                    hint="The disk of the models may not answer. Repeat the command: it resumes.",
                )
            with suppress(EOFError):  # it is then found to have ended
                kind, *answer = self._line.recv()
                if kind == "failed":
                    errors, self.hopeless = answer
                    raise errors[0]
        return self._line


def serve(order: Order, minutes: float, line: Connection) -> None:
    """Chart the products that come in, until the parent process ends."""
    leave_on_sigterm()
    lock = threading.Lock()

    def tell(message: object) -> None:
        with lock:
            line.send(message)

    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=_end_with, args=(parent.sentinel,), daemon=True).start()
    logger = logging.getLogger("floemap")
    logger.setLevel(logging.INFO)
    logger.addHandler(_ToParent(tell))
    try:
        call = call_of(order)
    except Exception as e:
        tell(("failed", [*_causes(e)], True))
        return
    tell(("ready",))
    while True:
        product = line.recv()
        # If the parent is gone while this process hangs in a library, nobody else ends it.
        faulthandler.dump_traceback_later(60 * minutes + _PATIENCE_S, exit=True)
        try:
            chart = call.make(product, (), _steps(tell))
        except Exception as e:
            tell(("failed", [*_causes(e)], call.models.failed))
        else:
            tell(("done", chart))
        finally:
            faulthandler.cancel_dump_traceback_later()


def _end_with(parent: int) -> None:
    wait([parent])
    os._exit(1)


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__


class _ToParent(logging.Handler):
    def __init__(self, tell: Callable[[object], None]) -> None:
        super().__init__(logging.INFO)
        self._tell = tell

    def emit(self, record: logging.LogRecord) -> None:
        self._tell(("log", record.name, record.levelno, record.getMessage()))


def _steps(tell: Callable[[object], None]) -> Progress:
    last = 0.0

    def step(done: float, total: float, what: str) -> None:
        nonlocal last
        if time.monotonic() - last >= _TELL_EVERY_S:
            last = time.monotonic()
            tell(("step", done, total, what))

    return step
