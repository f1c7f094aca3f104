"""The QGIS of this machine, if it has one: finds the Python that has QGIS's library, and runs scripts with it."""

from __future__ import annotations

import functools
import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

#: Names a Python that has QGIS's library.
VARIABLE = "FLOEMAP_QGIS_PYTHON"
_NAMES = ("python3", "python")


def _environment(home: Path) -> dict[str, str]:
    """Return an environment without our Python, its data of PROJ and GDAL, and somebody's settings of QGIS."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "VIRTUAL", "PROJ", "GDAL", "QT_"))}
    return kept | {"QT_QPA_PLATFORM": "offscreen", "HOME": str(home), "XDG_RUNTIME_DIR": str(home)}


@functools.cache
def python_of_qgis() -> str | None:
    """Return a Python that imports QGIS: that of :data:`VARIABLE`, one beside QGIS's programs, or one of the path."""
    programs = [p for p in map(shutil.which, ("qgis_process", "qgis", "qgis_process.bin")) if p]
    folders = [Path(p).resolve().parent for p in programs] + [Path(p).parent for p in programs]
    folders += [Path(p) for p in os.get_exec_path()] + [Path("/usr/bin"), Path("/usr/local/bin")]
    folders += sorted(Path("/Applications").glob("QGIS*.app/Contents/MacOS/bin"))
    named = os.environ.get(VARIABLE)
    found = [Path(named)] if named else [folder / name for folder in folders for name in _NAMES]
    for python in dict.fromkeys(str(path) for path in found if path.is_file()):
        done = subprocess.run([python, "-c", "import qgis.core"], capture_output=True, env=_environment(Path.home()))
        if done.returncode == 0:
            return python
    return None


needs_qgis = pytest.mark.skipif(
    python_of_qgis() is None,
    reason=f"no Python here imports qgis.core: install QGIS (Debian: python3-qgis), or name its Python in {VARIABLE}",
)


def run_in_qgis(script: Path, *words: str | Path, home: Path) -> Any:
    """Run a script with QGIS's Python; return the JSON of its last line. `home` is a folder for QGIS's settings."""
    call = [str(python_of_qgis()), str(script), *map(str, words)]
    home.mkdir(exist_ok=True)
    done = subprocess.run(call, env=_environment(home), capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])
