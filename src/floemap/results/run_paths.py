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


@dataclass(frozen=True)
class DataPaths:
    """Prepared products and labels of a study; several studies may share them."""

    folder: Path

    @property
    def prepared(self) -> Path:
        """Folder of a folder for each product, of the product's name."""
        return self.folder / "prepared"

    @property
    def parts(self) -> Path:
        """Folder of the masks of halves of scenes."""
        return self.folder / "parts"

    def labels(self, scene: str) -> Path:
        """Folder of a scene's labels, in a folder of the chart's name: charts of several scenes may share a name."""
        return place_in(self.folder / "labels", scene, "the scene", kind=ConfigError)


@dataclass(frozen=True)
class CellPaths:
    """One training, its predictions and its scores."""

    folder: Path

    @property
    def record(self) -> Path:
        """Record of the cell, written last."""
        return self.folder / "cell.json"

    @property
    def split(self) -> Path:
        """Which parts are for training, validation and test; written before training."""
        return self.folder / "split.json"

    @property
    def model(self) -> Path:
        """Folder of the training; see :mod:`floemap.learning.training.state`."""
        return self.folder / "model"

    @property
    def log(self) -> Path:
        """Output of the cell's process, if it ran in one of its own."""
        return self.folder / "log.txt"

    @property
    def predictions(self) -> Path:
        """Folder of the class maps, with a folder for each test scene."""
        return self.folder / "predictions"

    @property
    def evaluation(self) -> Path:
        """Folder of the scores, with a folder for each test scene."""
        return self.folder / "evaluation"

    @property
    def checks(self) -> Path:
        """Folder of the physical checks, with a folder for each test scene."""
        return self.folder / "checks"


@dataclass(frozen=True)
class RunPaths:
    """A whole comparison."""

    folder: Path

    @property
    def plan(self) -> Path:
        """File of the configuration and the list of cells."""
        return self.folder / "plan.json"

    @property
    def results(self) -> Path:
        """File of the scores, JSON."""
        return self.folder / "results.json"

    @property
    def tables(self) -> Path:
        """File of the same scores as tables, Markdown."""
        return self.folder / "results.md"

    @property
    def report(self) -> Path:
        """Folder of the report; see :mod:`floemap.report.report`."""
        return self.folder / "report"

    def chart_checks(self, scene: str) -> Path:
        """Folder of the physical checks of a scene's chart itself, in a folder of the chart's name."""
        return place_in(self.folder / "checks", scene, "the scene", kind=ConfigError)

    @property
    def data(self) -> DataPaths:
        """Paths of prepared products and labels, unless the study has them elsewhere."""
        return DataPaths(self.folder / "data")

    def cell(self, name: str) -> CellPaths:
        """Return the paths of a cell."""
        return CellPaths(place_in(self.folder / "cells", name, "the cell", kind=ConfigError))


def told_from(folder: Path, path: Path) -> str:
    """Return `path` as a record in `folder` writes it: relative to that folder, with forward slashes."""
    return Path(os.path.relpath(path.resolve(), folder.resolve())).as_posix()
