"""The layout of a run, a comparison or a single training: used by the code that writes it and the code that reads it.

Paths in a run's records are relative to the folder of the record, so that a run may be moved or copied: files in the
run are found in the copy, and files beside it are found if they were moved along.

Names of scenes, cells and results come from settings, and from records of runs that somebody sent. A name that leads to
another folder raises :class:`floemap.errors.ConfigError`.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from floemap.errors import ConfigError
from floemap.results.names import place_in


class _Below:
    """A path in the folder of the object that has it as an attribute."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __get__(self, at: DataPaths | CellPaths | RunPaths, owner: type[object]) -> Path:
        return at.folder / self._name


@dataclass(frozen=True)
class DataPaths:
    """Prepared products and labels of a study; several studies may share them."""

    folder: Path

    #: Folder of a folder for each product, of the product's name.
    prepared = _Below("prepared")
    #: Folder of the masks of halves of scenes.
    parts = _Below("parts")
    #: Folder of the surveys of parts; see :mod:`floemap.learning.data.surveyed`.
    surveys = _Below("surveys")
    #: File of what was found out about files; see :mod:`floemap.results.seen`.
    seen = _Below("seen.json")

    def labels(self, scene: str) -> Path:
        """Folder of a scene's labels, in a folder of the chart's name: charts of several scenes may share a name."""
        return place_in(self.folder / "labels", scene, "the scene", kind=ConfigError)


@dataclass(frozen=True)
class CellPaths:
    """One training, its predictions and its scores."""

    folder: Path

    #: Record of the cell, written last.
    record = _Below("cell.json")
    #: Which parts are for training, validation and test; written before training.
    split = _Below("split.json")
    #: Folder of the training; see :mod:`floemap.learning.training.state`.
    model = _Below("model")
    #: Output of the cell's process, if it has a process for itself.
    log = _Below("log.txt")
    #: Folders of the class maps, scores and physical checks, each with a folder for each test scene.
    predictions = _Below("predictions")
    evaluation = _Below("evaluation")
    checks = _Below("checks")


@dataclass(frozen=True)
class RunPaths:
    """A whole comparison."""

    folder: Path

    #: File of the configuration and the list of cells.
    plan = _Below("plan.json")
    #: File of the scores, JSON, and the same scores as tables, Markdown.
    results = _Below("results.json")
    tables = _Below("results.md")
    #: File of the AI4Arctic challenge's scores, Markdown, of comparisons on its scenes.
    leaderboard = _Below("leaderboard.md")
    #: Folder of the report; see :mod:`floemap.report.report`.
    report = _Below("report")

    @property
    def data(self) -> DataPaths:
        """Paths of prepared products and labels, unless the study has them elsewhere."""
        return DataPaths(self.folder / "data")

    def chart_checks(self, scene: str) -> Path:
        """Folder of the physical checks of a scene's chart itself, in a folder of the chart's name."""
        return place_in(self.folder / "checks", scene, "the scene", kind=ConfigError)

    def cell(self, name: str) -> CellPaths:
        """Return the paths of a cell."""
        return CellPaths(place_in(self.folder / "cells", name, "the cell", kind=ConfigError))


def told_from(folder: Path, path: Path) -> str:
    """Return `path` as a record in `folder` writes it: relative to that folder, with forward slashes."""
    return Path(os.path.relpath(path.resolve(), folder.resolve())).as_posix()
