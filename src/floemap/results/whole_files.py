"""Files of one result that appear whole: written into a hidden folder beside their final place, then moved there."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from pyogrio.errors import DataLayerError, DataSourceError, FeatureError, GeometryError
from pyogrio.util import vsi_path

from floemap.errors import FloemapError, OutputError
from floemap.results.locks import scratch
from floemap.results.stage import os_errors, sync

_GDAL_ERRORS = (DataSourceError, DataLayerError, FeatureError, GeometryError, RuntimeError, sqlite3.Error)


@contextmanager
def whole_files(folder: Path, names: Sequence[str]) -> Iterator[Path]:
    """Give a hidden folder within `folder` to write files into; move those of `names` to `folder` when the block ends.

    They are moved in the order given, so the file by which the others are found should come last. Other files are
    removed, and after an error all of them. Earlier files of these names are replaced.

    Raises
    ------
    OutputError
        If they cannot be written, with the reason, or one of `names` is missing.
    """
    last = folder / names[-1]
    beside = given = folder
    try:
        with os_errors(last), scratch(f".{names[-1]}.partial-", folder) as beside:
            with _as_pyogrio_takes_it(beside) as given:
                yield given
            for name in names:
                sync(beside / name)
            for name in names:
                (beside / name).replace(folder / name)
            sync(folder)
    except FloemapError as e:
        for hidden in (beside, given):  # users do not know the hidden folder
            if e.path is not None and e.path.is_relative_to(hidden):
                e.path = folder / e.path.relative_to(hidden)
        raise
    except _GDAL_ERRORS as e:
        reason = str(e).strip().rstrip(".").replace(f"{given}{os.sep}", "")
        raise OutputError(f"cannot be written: {reason}.", path=last, hint="Is there space and permission?") from e


@contextmanager
def _as_pyogrio_takes_it(folder: Path) -> Iterator[Path]:
    """Give a path of a folder by which pyogrio finds it.

    pyogrio parses every path as an address and looks for archives in it: it loses the part before an exclamation mark,
    and line breaks. For such a name, a path through a file descriptor is given instead.
    """
    path = folder.absolute()
    if vsi_path(str(path / "x")) == str(path / "x"):
        yield path
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        by_number = Path(f"/proc/self/fd/{descriptor}")
        if not by_number.is_dir():  # only Linux has these
            raise OutputError(
                "cannot be written: its name contains '!', '?' or a line break.",
                path=folder.parent,
                hint="Choose another --out.",
            )
        yield by_number
    finally:
        os.close(descriptor)
