"""Work in a forked process, which may hang, crash or eat the memory and harms nobody."""

from __future__ import annotations

import multiprocessing
import os
import resource
import signal
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Generic, TypeVar

Given = TypeVar("Given")
Made = TypeVar("Made")


class Isolated(Generic[Given, Made]):
    """Does work on one thing after the other, in a process that is forked anew where one is lost.

    Parameters
    ----------
    work
        What to do.
    cpu_s
        Processor time for each: a busy machine is no fault. A process that waits instead gets twenty times as long.
    memory_bytes
        More than this on top of what it had: the process is forked anew, and the work counts as too large.
    """

    def __init__(self, work: Callable[[Given], Made], *, cpu_s: float = 20.0, memory_bytes: int = 1 << 30) -> None:
        self._work, self._cpu_s, self._memory = work, cpu_s, memory_bytes

    def map(self, things: Iterable[Given]) -> Iterator[tuple[Given, Made | str]]:
        """Give each thing with what was made of it, or how it was lost."""
        child = None
        try:
            for thing in things:
                child = child or self._fork()
                process, pipe = child
                pipe.send(thing)
                made: Made | str
                if not pipe.poll(20 * self._cpu_s):
                    made, child = "waits", self._end(process)
                    yield thing, made
                    continue
                try:
                    made, grown = pipe.recv()
                except EOFError:
                    process.join()
                    code = process.exitcode or 0
                    made = (
                        "no end" if -code == signal.SIGPROF else f"died of {-code}" if code < 0 else f"left with {code}"
                    )
                    child = None
                    yield thing, made
                    continue
                if grown > self._memory:
                    made, child = f"took {grown >> 20} MiB", self._end(process)
                yield thing, made
        finally:
            if child is not None:
                self._end(child[0])

    def _fork(self) -> tuple[Any, Any]:
        fork = multiprocessing.get_context("fork")
        ours, theirs = fork.Pipe()
        process = fork.Process(target=self._serve, args=(theirs, ours))
        process.start()
        theirs.close()
        return process, ours

    def _end(self, process: Any) -> None:
        process.kill()
        process.join()

    def _serve(self, pipe: Any, other: Any) -> None:
        other.close()
        signal.signal(signal.SIGPROF, signal.SIG_DFL)
        os.setsid()
        while True:
            try:
                thing = pipe.recv()
            except EOFError:
                return
            before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
            signal.setitimer(signal.ITIMER_PROF, self._cpu_s)
            made = self._work(thing)
            signal.setitimer(signal.ITIMER_PROF, 0)
            grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
            pipe.send((made, grown << 10))
