"""Scenes prepared and labelled side by side, each by one of several processes that end with this one.

A process gets one scene after the other on its standard input, as lines of JSON, and answers on its standard output;
:mod:`floemap.study.scene_worker` is its other side. What a process does wrong, even if the system kills it, concerns
the scene that it works on: the others are finished.
"""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from queue import SimpleQueue
from typing import Any

from floemap import errors
from floemap.datasets.base import SceneFiles
from floemap.errors import MISSHAPEN, FloemapError
from floemap.progress import Progress
from floemap.results.seen import add_seen
from floemap.stopping import spared_from_ctrl_c
from floemap.study.processes import PATIENCE_S, how_it_ended
from floemap.study.settings import DataSettings
from floemap.threads import free_memory, usable_cores

#: What preparing one scene takes: memory at pixels of 80 m, GiB, measured with room to spare, and processor cores.
_MEMORY_GIB, _CORES = 1.5, 2

#: The outcome of a scene, by its name: None if its product and labels are made.
Made = tuple[str, FloemapError | None]


def scene_jobs(resolution_m: float) -> int:
    """Return how many scenes can be prepared at the same time, by the memory and the cores of this machine."""
    needed = _MEMORY_GIB * 2**30 * max(1.0, (80.0 / resolution_m) ** 2)
    memory = free_memory()
    by_memory = sys.maxsize if memory is None else int(memory / needed)
    return max(1, min(usable_cores() // _CORES, by_memory))


def prepare_beside(
    scenes: Sequence[SceneFiles], settings: DataSettings, out: Path, jobs: int, progress: Progress
) -> Generator[Made]:
    """Prepare and label scenes in so many processes; yield each outcome when it is known.

    When the generator is closed, also by an interrupt, all processes end.
    """
    told: SimpleQueue[Mapping[str, Any]] = SimpleQueue()
    todo: SimpleQueue[SceneFiles] = SimpleQueue()
    for scene in scenes:
        todo.put(scene)
    stop = threading.Event()
    workers = [_Worker(settings, out, jobs, todo, told.put, stop) for _ in range(min(jobs, len(scenes)))]
    shares = dict.fromkeys((s.name for s in scenes), 0.0)
    for worker in workers:
        worker.start()
    try:
        left = len(scenes)
        while left:
            answer = told.get()
            name = answer["scene"]
            if "share" in answer:
                shares[name] = float(answer["share"])
                progress(sum(shares.values()), len(scenes), f"scene {name}: {answer['what']}")
                continue
            left -= 1
            shares[name] = 1.0
            yield name, answer["error"]
    finally:
        stop.set()
        for worker in workers:
            worker.end()


class _Worker(threading.Thread):
    """A thread with a process: it gives the process scenes from a queue, and tells what the process answers."""

    def __init__(
        self,
        settings: DataSettings,
        out: Path,
        jobs: int,
        todo: SimpleQueue[SceneFiles],
        tell: Callable[[Mapping[str, Any]], None],
        stop: threading.Event,
    ) -> None:
        super().__init__(daemon=True)
        self._first = json.dumps(
            {"settings": settings.model_dump(mode="json", exclude={"scenes", "table", "where"}), "out": str(out)}
        )
        self._environment = {"OMP_NUM_THREADS": str(max(1, usable_cores() // jobs))} | os.environ
        self._todo, self._tell, self._stop_asked = todo, tell, stop
        self._process: subprocess.Popen[str] | None = None

    def run(self) -> None:
        while not self._stop_asked.is_set() and not self._todo.empty():
            scene = self._todo.get()
            try:
                error = self._work(scene)
            except Exception as e:  # as where no process can be started; the scene is waited for, whatever it is
                error = FloemapError(f"the process that prepares scenes cannot be used: {e}.")
            self._tell({"scene": scene.name, "error": error})
        self._end_process()

    def end(self) -> None:
        """End the process, from another thread."""
        if (process := self._process) is not None:
            _close_input(process)
        self.join(2 * PATIENCE_S)

    def _end_process(self) -> None:
        """End the process, which gets time to clean up."""
        process, self._process = self._process, None
        if process is None:
            return
        _close_input(process)
        try:
            process.wait(PATIENCE_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        if process.stdout is not None:
            process.stdout.close()

    def _work(self, scene: SceneFiles) -> FloemapError | None:
        """Have one scene prepared and labelled; return the error, if there is one."""
        if self._process is not None and self._process.poll() is not None:
            self._end_process()
        process = self._process = self._process or self._begin()
        assert process.stdin is not None and process.stdout is not None
        process.stdin.write(json.dumps(asdict(scene), default=str) + "\n")
        process.stdin.flush()
        for line in process.stdout:
            try:
                answer = json.loads(line)
                if "log" in answer:
                    logging.getLogger(answer["name"]).log(int(answer["log"]), "%s", answer["text"])
                elif "share" in answer:
                    self._tell({"scene": scene.name, "share": answer["share"], "what": answer["what"]})
                elif "seen" in answer:
                    add_seen(answer["seen"])
                    return None
                else:
                    return _error(answer["error"])
            except MISSHAPEN:
                continue  # output of a library
        hint = "If the memory was used up, lower --jobs."
        return FloemapError(f"the process that prepared it {how_it_ended(process.wait())}", hint=hint)

    def _begin(self) -> subprocess.Popen[str]:
        call, pipe = [sys.executable, "-m", "floemap.study.scene_worker"], subprocess.PIPE
        # Its libraries may write there in any encoding.
        with spared_from_ctrl_c():
            process = subprocess.Popen(
                call, stdin=pipe, stdout=pipe, encoding="utf-8", errors="replace", env=self._environment
            )
        assert process.stdin is not None
        process.stdin.write(self._first + "\n")
        return process


def _close_input(process: subprocess.Popen[str]) -> None:
    """Close the standard input of a process, by which it learns that it shall end."""
    with suppress(OSError, ValueError):
        if process.stdin is not None:
            process.stdin.close()


def _error(told: Mapping[str, Any]) -> FloemapError:
    """Return the error that a worker process reported, as an instance of its class."""
    kind: type[FloemapError] = getattr(errors, str(told["kind"]), FloemapError)
    return kind(told["message"], path=told["path"], hint=told["hint"])
