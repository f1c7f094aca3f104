"""Judge the one mutated module of a working tree by the tests that core.toml names for it; see sample.py.

    python benchmarks/mutation/judge.py serve SOCKET     # keep a process with all libraries imported
    python benchmarks/mutation/judge.py ask SOCKET [FILE ...]

`ask` exits with pytest's code, of the given test files or of those that judge the module that git finds changed. The
server forks a process for each call: importing the libraries takes longer than most of the tests. It has not imported
floemap itself, so that each process imports what then lies in src/.
"""

from __future__ import annotations

import importlib
import inspect
import json
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
import tomllib
from contextlib import suppress
from pathlib import Path
from typing import Any

#: Libraries that the tests of the core import.
_LIBRARIES = (
    *("numpy", "scipy.ndimage", "scipy.stats", "torch", "torch._dynamo", "safetensors.torch", "lightning_fabric"),
    *("cv2", "rasterio.features", "rasterio.warp", "geopandas", "pyogrio", "shapely", "pyproj", "odc.geo.geobox"),
    *("odc.geo.xr", "xarray", "h5netcdf", "matplotlib.pyplot", "PIL.Image", "lxml.etree", "pydantic", "filelock"),
    *("hypothesis.strategies", "hypothesis.extra.numpy", "sklearn.metrics", "pytest"),
)


def serve(address: str) -> None:
    """Answer calls until the process is ended."""
    for name in _LIBRARIES:
        with suppress(ImportError):
            importlib.import_module(name)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(address)
        listener.listen()
        while True:
            call, _ = listener.accept()
            with call:
                _answer(call)


def _answer(call: socket.socket) -> None:
    """Run pytest in a fork, and end it where the caller has gone."""
    arguments = json.loads(call.makefile().readline())
    with tempfile.TemporaryFile() as output:
        child = os.fork()
        if child == 0:
            os.setsid()
            os.dup2(output.fileno(), 1)
            os.dup2(output.fileno(), 2)
            import pytest

            code = int(pytest.main(arguments["run"], plugins=[_Order(arguments["name"])]))
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)
        call.setblocking(False)
        gone = False
        while not (ended := os.waitpid(child, os.WNOHANG))[0]:
            time.sleep(0.05)
            with suppress(BlockingIOError):
                gone = not call.recv(1, socket.MSG_PEEK)
            if gone:
                os.killpg(child, signal.SIGKILL)
                os.waitpid(child, 0)
                return
        call.setblocking(True)
        output.seek(0)
        words = output.read().decode(errors="replace")[-4000:]
        with suppress(BrokenPipeError):
            call.sendall(json.dumps([os.waitstatus_to_exitcode(ended[1]), words]).encode())


class _Order:
    """A plugin of pytest that puts tests which name the changed function or class first: they fail soonest."""

    def __init__(self, name: str) -> None:
        self._name = name

    def pytest_collection_modifyitems(self, items: list[Any]) -> None:
        items.sort(key=lambda item: not self._name or self._name not in inspect.getsource(item.function))


def ask(address: str, files: list[str]) -> int:
    """Let the server run test files, print the end of what pytest printed, and return its exit code."""
    run = ["-x", "-q", "--no-header", "-p", "no:cacheprovider", "--basetemp", str(Path(address).parent / "tmp")]
    run += ["-W", "ignore::pytest.PytestAssertRewriteWarning", *files]  # of what the server has imported
    with socket.socket(socket.AF_UNIX) as call:
        call.connect(address)
        call.sendall(json.dumps({"run": run, "name": changed_name()}).encode() + b"\n")
        code, words = json.load(call.makefile())
    print(words)
    return int(code)


def judges() -> list[str]:
    """Return the test files for the module that differs from what is committed."""
    changed = _git_diff("--name-only").split()
    if len(changed) != 1:
        raise SystemExit(f"one module must be changed, and these are: {changed}")
    return tests_of(changed[0])


def changed_name() -> str:
    """Return the name of the function or class at whose top level the change lies, or an empty string."""
    found = re.search(r"^@@ .*@@ (?:def|class) (\w+)", _git_diff("--unified=0"), re.M)
    return found[1] if found else ""


def _git_diff(*options: str) -> str:
    command = ["git", "diff", *options, "--", "src"]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def tests_of(module: str) -> list[str]:
    """Return the paths of the test files that core.toml names for a module, `src/floemap/...`."""
    modules = tomllib.loads(Path(__file__).with_name("core.toml").read_text(encoding="utf-8"))["modules"]
    return [f"tests/test_{name}.py" for name in modules[module.removeprefix("src/floemap/")]]


if __name__ == "__main__":
    if sys.argv[1] == "serve":
        serve(sys.argv[2])
    else:
        sys.exit(ask(sys.argv[2], sys.argv[3:] or judges()))
