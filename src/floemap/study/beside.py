"""Cells of a comparison in parallel, each in a worker process that ends when its parent ends.

A worker holds the reading end of a pipe to which nobody writes. When the other end is closed, the parent has ended, and
the worker ends too. This also works after ``kill -9``.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Generator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field
from pathlib import Path
from queue import SimpleQueue
from typing import IO, Any

from floemap.errors import MISSHAPEN, FloemapError
from floemap.learning.data.choose_source import BESIDE
from floemap.progress import Progress
from floemap.results.run_paths import CellPaths, RunPaths
from floemap.results.stage import make_folder, os_errors, read_json
from floemap.stopping import spared_from_ctrl_c
from floemap.study.cells import Cell
from floemap.study.processes import PATIENCE_S, how_it_ended
from floemap.threads import usable_cores

Outcome = dict[str, Any] | FloemapError


@dataclass
class _Workers:
    """The running worker processes, and the progress of each cell."""

    progress: Progress
    cells: int
    running: set[subprocess.Popen[str]] = field(default_factory=set)
    shares: dict[str, float] = field(default_factory=dict)
    stopped: bool = False
    lock: threading.Lock = field(default_factory=threading.Lock)

    def start(self, call: list[str], environment: dict[str, str], log: IO[str]) -> subprocess.Popen[str] | None:
        """Start a process, unless :meth:`stop` was called."""
        with self.lock:
            if self.stopped:
                return None
            pipe = subprocess.PIPE
            # Its libraries may write there in any encoding.
            with spared_from_ctrl_c():
                process = subprocess.Popen(
                    call, env=environment, stdin=pipe, stdout=pipe, stderr=log, encoding="utf-8", errors="replace"
                )
            self.running.add(process)
            return process

    def follow(self, process: subprocess.Popen[str], cell: str, log: IO[str]) -> int:
        """Report the progress of a process until it ends; return its exit code."""
        assert process.stdout is not None
        for line in process.stdout:
            try:
                report = json.loads(line)
                share, what = float(report["share"]), str(report["what"])
            except MISSHAPEN:
                print(line, end="", file=log, flush=True)  # output of a library
                continue
            with self.lock:
                self.shares[cell] = share
                self.progress(sum(self.shares.values()), self.cells, f"{cell}: {what}")
        code = process.wait()
        with self.lock:
            self.running.discard(process)
            self.shares[cell] = 1.0
        return code

    def stop(self) -> None:
        """Terminate all processes, and kill those that have not ended after a while."""
        with self.lock:
            self.stopped = True
            running = list(self.running)
        for process in running:
            process.terminate()
        until = time.monotonic() + PATIENCE_S
        for process in running:
            try:
                process.wait(max(until - time.monotonic(), 0.1))
            except subprocess.TimeoutExpired:
                process.kill()


def run_beside(
    cells: Sequence[Cell], out: Path, jobs: int, gpus: Sequence[str], overwrite: bool, progress: Progress
) -> Generator[tuple[Cell, Outcome]]:
    """Run each cell in its own process, and on its own GPU if there are enough; yield each cell when it is done.

    The processor's cores are shared out among the processes, unless OMP_NUM_THREADS says how many threads each may
    have: with more threads than cores, threads that wait for each other take the cores from those that work.

    The output of a process is appended to the cell's ``log.txt``. When the generator is closed, also by an interrupt,
    all processes end.
    """
    free: SimpleQueue[str | None] = SimpleQueue()
    for i in range(jobs):
        free.put(gpus[i % len(gpus)] if gpus else None)
    workers = _Workers(progress, len(cells))
    environment = {"OMP_NUM_THREADS": str(max(1, usable_cores() // jobs))} | os.environ | {BESIDE: str(jobs)}

    def run(cell: Cell) -> Outcome:
        gpu = free.get()
        try:
            mine = environment if gpu is None else environment | {"CUDA_VISIBLE_DEVICES": gpu}
            return _run(cell, out, mine, overwrite, workers)
        finally:
            free.put(gpu)

    with ThreadPoolExecutor(jobs) as pool:
        running = {pool.submit(run, cell): cell for cell in cells}
        try:
            for done in as_completed(running):
                yield running[done], done.result()
        finally:
            pool.shutdown(wait=False, cancel_futures=True)
            workers.stop()


def _run(cell: Cell, out: Path, environment: dict[str, str], overwrite: bool, workers: _Workers) -> Outcome:
    paths = RunPaths(out).cell(cell.name)
    call = [sys.executable, "-m", "floemap.study.worker", str(out), cell.name, *(["--overwrite"] if overwrite else [])]
    try:
        with os_errors(paths.log):
            make_folder(paths.folder)
            with paths.log.open("a", encoding="utf-8") as log:
                process = workers.start(call, environment, log)
                if process is None:
                    return FloemapError("the cell was not started.")
                with process:
                    code = workers.follow(process, cell.name, log)
        return read_json(paths.record) if code == 0 else _failure(paths, code)
    except FloemapError as e:
        return e


def _failure(paths: CellPaths, code: int) -> FloemapError:
    """Return the error of a failed process: its last line of output, if it has any."""
    hint = f"Its whole output is in {paths.log}."
    if code < 0:
        return FloemapError(f"its process {how_it_ended(code)}", hint=hint)
    with paths.log.open("rb") as log:
        log.seek(max(0, log.seek(0, os.SEEK_END) - 4096))
        words = log.read().decode("utf-8", "replace").strip().splitlines()
    return FloemapError(words[-1] if words else f"its process {how_it_ended(code)}", hint=hint)
