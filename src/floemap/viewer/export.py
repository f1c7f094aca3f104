"""Export a map as a folder that any web server can serve, whole or not at all."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from floemap.results.folders import made_of, stage_folder
from floemap.results.stage import Stage, make_folder, provenance, write_json
from floemap.viewer.found import EXPORTED

#: The revision is raised when the form of map.json or the page changes so that old exports look wrong.
STAGE = Stage("floemap view", EXPORTED, revision=0, files=("*",))


@dataclass(frozen=True)
class Exported:
    """An exported map: its folder, the bytes of its files, and the bytes of those that are links to the originals."""

    folder: Path
    bytes: int
    linked_bytes: int


def export(folder: Path, site: Mapping[str, Path], pages: Mapping[str, bytes], data: Mapping[str, Path]) -> Exported:
    """Write a map into a folder.

    Rasters get hard links where the file system allows it, as floemap never changes a raster in place: they take no
    space, and stay when the original is removed. Everything else is copied.

    Parameters
    ----------
    site, data
        Files by address: those of the page, and those that the scenes name.
    pages
        Contents by address that are not files elsewhere: map.json and the scenes' own JSON.

    Raises
    ------
    OutputError
        If the folder cannot be written, or contains anything but an earlier export.
    """
    linked = 0
    with stage_folder(folder, STAGE) as partial:
        for address, source in {**site, **data}.items():
            target = partial / address
            make_folder(target.parent)
            if address in data and target.suffix == ".tif" and _linked(source, target):
                linked += target.stat().st_size
            else:
                shutil.copyfile(source, target)
        for address, content in pages.items():
            make_folder((partial / address).parent)
            (partial / address).write_bytes(content)
        sizes = made_of(partial)
        record = provenance(STAGE, inputs={}, configuration={})
        write_json(partial / STAGE.record, record | {"bytes": sizes})
    return Exported(folder, sum(sizes.values()), linked)


def _linked(source: Path, target: Path) -> bool:
    """Make a hard link; return whether the file system can."""
    try:
        os.link(source, target)
    except OSError:
        return False
    return True
