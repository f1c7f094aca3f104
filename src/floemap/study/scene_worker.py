"""Worker process that prepares and labels scenes: ``python -m floemap.study.scene_worker``.

See :mod:`floemap.study.preparing`. Lines on standard input: settings and folder, then the files of a scene each. Lines
on standard output: progress, log records, and for each scene what was found out about its files, or its error.
"""

from __future__ import annotations

import json
import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from queue import SimpleQueue
from typing import Any

from floemap.datasets.base import SceneFiles
from floemap.errors import FloemapError, of_system
from floemap.results.run_paths import DataPaths
from floemap.results.seen import Seen, remembering
from floemap.stopping import leave_on_sigterm
from floemap.study.data import make_results
from floemap.study.processes import PATIENCE_S
from floemap.study.settings import DataSettings

Tell = Callable[..., None]


class _ToParent(logging.Handler):
    """Passes log records on to the parent process."""

    def __init__(self, tell: Tell) -> None:
        super().__init__(logging.INFO)
        self._tell = tell

    def emit(self, record: logging.LogRecord) -> None:
        self._tell(log=record.levelno, name=record.name, text=record.getMessage())


def work(scene: SceneFiles, settings: DataSettings, out: DataPaths, seen: Seen, tell: Tell) -> None:
    """Prepare and label a scene, and tell the outcome."""
    last = 0.0

    def progress(done: float, total: float, what: str) -> None:
        nonlocal last
        if time.monotonic() - last >= 0.5:
            last = time.monotonic()
            tell(share=done / total if total else 0.0, what=what)

    try:
        make_results(scene, settings, out, progress)
    except Exception as e:  # whatever it is, it concerns this scene only
        known = e if isinstance(e, FloemapError) else of_system(e)
        if known is None:
            hint = "Please report this. With --jobs 1 and --debug you see where it happened."
            known = FloemapError(f"stopped at an unexpected {type(e).__name__}: {e}", hint=hint)
        path = None if known.path is None else str(known.path)
        tell(error={"kind": type(known).__name__, "message": known.message, "path": path, "hint": known.hint})
    else:
        tell(seen=seen.take())


def main() -> None:
    """Work on scenes from standard input until it is closed."""
    lock, out = threading.Lock(), sys.stdout
    sys.stdout = sys.stderr  # what libraries print is not an answer

    def tell(**answer: Any) -> None:
        with lock:
            out.write(json.dumps(answer) + "\n")
            out.flush()

    lines: SimpleQueue[str] = SimpleQueue()

    def listen() -> None:
        for line in sys.stdin:
            lines.put(line)
        os.kill(os.getpid(), signal.SIGTERM)  # the parent has no more scenes, or has ended
        time.sleep(PATIENCE_S)
        os._exit(1)

    leave_on_sigterm()
    floemap = logging.getLogger("floemap")
    floemap.setLevel(logging.INFO)
    floemap.addHandler(_ToParent(tell))
    floemap.propagate = False
    threading.Thread(target=listen, daemon=True).start()
    given = json.loads(lines.get())
    settings, paths = DataSettings.checked(**given["settings"]), DataPaths(Path(given["out"]))
    with remembering(paths.seen, keep=False) as seen:
        while True:
            work(_scene(json.loads(lines.get())), settings, paths, seen, tell)


def _scene(told: Mapping[str, Any]) -> SceneFiles:
    truth = None if told["truth"] is None else Path(told["truth"])
    return SceneFiles(told["name"], Path(told["product"]), Path(told["chart"]), told["layer"], truth)


if __name__ == "__main__":
    main()
