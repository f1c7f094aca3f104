"""Warnings of other libraries, from several threads: what is caught is caught, and all others are said."""

from __future__ import annotations

import ast
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import rasterio
from rasterio.errors import NotGeoreferencedWarning

import floemap
from floemap.cog import open_raster
from floemap.warned import caught_warnings, without_warnings

SOURCES = Path(floemap.__file__).parent


def test_one_module_alone_changes_filters_of_warnings() -> None:
    """Two that do it at a time undo one another: filters belong to the process."""
    changing = {"catch_warnings", "filterwarnings", "simplefilter", "resetwarnings"}
    found = {
        path.relative_to(SOURCES).as_posix()
        for path in SOURCES.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Attribute) and node.attr in changing
    }
    assert found == {"warned.py"}


def test_what_threads_drop_or_collect_stays_apart(tmp_path: Path) -> None:
    """Rasters without a georeference, warnings that are collected, and others dropped, all at once, many times."""
    with without_warnings(NotGeoreferencedWarning):
        path = tmp_path / "a.tif"
        with rasterio.open(path, "w", driver="GTiff", width=8, height=8, count=1, dtype="uint8") as d:
            d.write(np.zeros((1, 8, 8), np.uint8))

    def work(i: int) -> int:
        if i % 3 == 0:
            with open_raster(path):
                return 0
        if i % 3 == 1:
            with caught_warnings() as said:
                warnings.warn("collected", UserWarning, stacklevel=1)
            return len(said)
        with without_warnings(DeprecationWarning, "gone"):
            warnings.warn("gone", DeprecationWarning, stacklevel=1)
        return 0

    before = warnings.filters[:]
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(work, range(600)))  # a warning that escapes is an error, as in all tests
    assert sum(found) == 200 and set(found) == {0, 1}
    assert warnings.filters[:] == before
