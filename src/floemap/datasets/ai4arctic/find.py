"""Finding AI4Arctic's files in a folder of any layout, by their names."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path

from floemap.datasets.ai4arctic.scenes import Ai4Scene, FileName, parse_name
from floemap.errors import FloemapError
from floemap.files import existing_folder


@dataclass(frozen=True)
class Entry:
    """The files of a scene.

    Attributes
    ----------
    name
        Name of the scene.
    files
        Its files by what they are: "ready", "reference" or "raw".
    simulated
        Whether their names say that they are simulated.
    scene
        The scene, if a name tells it.
    """

    name: str
    files: dict[str, Path] = field(default_factory=dict)
    simulated: bool = False
    scene: Ai4Scene | None = None

    @property
    def product(self) -> Path | None:
        """The file to take bands from: the ready-to-train file, or else the raw one."""
        return self.files.get("ready", self.files.get("raw"))

    @property
    def chart(self) -> Path | None:
        """The file to take the chart from: the raw one, which has polygons, or else a reference file, or else bands."""
        raw = self.files.get("raw")
        if raw is not None and not raw.stem.endswith("_testdata"):  # these have no polygons
            return raw
        return self.files.get("reference", self.files.get("ready", raw))


def find_ai4arctic(folder: str | Path, *, may_be_empty: bool = False) -> tuple[Entry, ...]:
    """Return the files of each scene in a folder and below it, in order of the scenes' names.

    Parameters
    ----------
    may_be_empty
        Return nothing for a folder without the dataset's files, instead of an error.

    Raises
    ------
    FloemapError
        If there is no such folder, it has none of the dataset's files, two files are the same of one scene, or real
        and simulated files are mixed.
    """
    root = existing_folder(folder, "Give the folder that contains the dataset.")
    entries: dict[str, Entry] = {}
    for base, folders, files in os.walk(root):
        folders[:] = sorted(f for f in folders if not f.startswith("."))
        for file in sorted(files):
            named = parse_name(file) if file.endswith(".nc") else None
            if named is not None:
                _add(entries, named, Path(base) / file)
    if not entries and not may_be_empty:
        raise FloemapError(
            "contains no file of AI4Arctic.",
            path=root,
            hint="Their names end in _prep.nc, or in _icechart_..., .nc; docs/ai4arctic.md says where to get them.",
        )
    kinds = {e.simulated for e in entries.values()}
    if len(kinds) > 1:
        raise FloemapError("contains real and simulated scenes.", path=root, hint="Keep them in folders of their own.")
    return tuple(entries[name] for name in sorted(entries))


def _add(entries: dict[str, Entry], named: FileName, path: Path) -> None:
    what = "reference" if named.reference else named.kind
    entry = entries.setdefault(named.name, Entry(named.name, {}, named.simulated, named.scene))
    if what in entry.files:
        raise FloemapError(
            f"is the same file of scene {named.name} as {entry.files[what]}.", path=path, hint="Move one of them away."
        )
    entry.files[what] = path
