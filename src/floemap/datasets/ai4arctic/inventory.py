"""What a folder has of AI4Arctic, and what is wrong with it (``floemap fetch ai4arctic --check``)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from floemap.datasets.ai4arctic.files import open_scene_file
from floemap.datasets.ai4arctic.find import Entry, find_ai4arctic
from floemap.datasets.ai4arctic.scenes import by_name, charted_twice, official, sharing_orbits
from floemap.errors import FloemapError
from floemap.progress import Progress, silent


@dataclass(frozen=True)
class Inventory:
    """Findings on a folder.

    Attributes
    ----------
    root
        The folder.
    entries
        Its scenes.
    problems
        What is wrong, one sentence each.
    """

    root: Path
    entries: tuple[Entry, ...]
    problems: tuple[str, ...]

    @property
    def simulated(self) -> bool:
        """Whether the scenes are simulated."""
        return any(e.simulated for e in self.entries)

    def as_json(self) -> dict[str, Any]:
        """Return the findings, JSON-ready."""
        lists, names = official(), {e.name for e in self.entries}
        scenes = [by_name()[n][0] for n in names if n in by_name()]
        uses = {use: {s.name for s in listed} for use, listed in lists.items()}
        tests = [s for s in lists["test"] if s.name in names]
        return {
            "root": str(self.root),
            "simulated": self.simulated,
            "scenes": len(self.entries),
            "official": {use: len(known & names) for use, known in uses.items()},
            "missing": {use: len(known - names) for use, known in uses.items()},
            "other": sorted(names - uses["train"] - uses["test"]),
            "charted_by_two_services": [[a.name, b.name] for a, b in charted_twice(scenes)],
            "test_scenes_sharing_an_orbit": [
                s.name for s in sharing_orbits(tests, [s for s in lists["train"] if s.name in names])
            ],
            "problems": list(self.problems),
        }


def check_ai4arctic(folder: str | Path, *, progress: Progress = silent) -> Inventory:
    """Open every file of a folder and report what is missing or wrong. No pixels are read.

    Raises
    ------
    FloemapError
        If the folder has none of the dataset's files; see :func:`floemap.datasets.ai4arctic.find.find_ai4arctic`.
    """
    root = Path(folder)
    entries = find_ai4arctic(root)
    problems = []
    for i, entry in enumerate(entries):
        progress(i, len(entries), entry.name)
        problems += _problems(entry)
    progress(1, 1, "done")
    return Inventory(root, entries, tuple(problems))


def _problems(entry: Entry) -> list[str]:
    found = []
    charts = polygons = False
    for path in entry.files.values():
        try:
            with open_scene_file(path) as file:
                charts |= "SOD" in file.charts
                polygons |= file.has_polygons
                inside = file.scene_by_attributes
                if inside is not None and inside.name != entry.name:
                    found.append(f"{path}: its attributes say that it is of scene {inside.name}.")
        except FloemapError as e:
            found.append(str(e))
    if entry.product is None:
        found.append(f"{entry.name}: has a chart and no bands; its _prep.nc is missing.")
    if not found and not charts and not polygons:
        found.append(f"{entry.name}: has no chart; the _prep_reference.nc of a test scene is a file of its own.")
    return found
