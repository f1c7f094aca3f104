"""Where a comparison, or a single training, keeps what: the one place that says so, for who writes and who reads.

Paths in a run's records are relative to the folder of the record, so that a run may be moved or copied: what lies in
the run is found again in the copy, and what lies beside it is found again if it was moved along.

Names of scenes, cells and results come from settings, and from records of runs that somebody sent: none leads anywhere
but into the folder that it is in. What has a name that does raises :class:`floemap.errors.ConfigError`.
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
        """Holds a folder for each product, named as it."""
        return self.folder / "prepared"

    @property
    def parts(self) -> Path:
        """Masks of halves of scenes."""
        return self.folder / "parts"

    def labels(self, scene: str) -> Path:
        """Hold the labels of one scene, in a folder named as the chart: charts of several may have one name."""
        return place_in(self.folder / "labels", scene, "the scene", kind=ConfigError)


@dataclass(frozen=True)
class CellPaths:
    """One training, its predictions and its scores."""

    folder: Path

    @property
    def record(self) -> Path:
        """The whole, written last."""
        return self.folder / "cell.json"

    @property
    def split(self) -> Path:
        """Who learns from what, written before training."""
        return self.folder / "split.json"

    @property
    def model(self) -> Path:
        """See :mod:`floemap.learning.training.state`."""
        return self.folder / "model"

    @property
    def log(self) -> Path:
        """What its process said, where it had one of its own."""
        return self.folder / "log.txt"

    @property
    def predictions(self) -> Path:
        """Hold a folder for each test scene."""
        return self.folder / "predictions"

    @property
    def evaluation(self) -> Path:
        """Likewise."""
        return self.folder / "evaluation"

    @property
    def checks(self) -> Path:
        """Likewise: physical checks."""
        return self.folder / "checks"


@dataclass(frozen=True)
class RunPaths:
    """A whole comparison."""

    folder: Path

    @property
    def plan(self) -> Path:
        """The configuration and the cells."""
        return self.folder / "plan.json"

    @property
    def results(self) -> Path:
        """The scores."""
        return self.folder / "results.json"

    @property
    def tables(self) -> Path:
        """The same, to read."""
        return self.folder / "results.md"

    @property
    def report(self) -> Path:
        """See :mod:`floemap.report.report`."""
        return self.folder / "report"

    def chart_checks(self, scene: str) -> Path:
        """Hold the physical checks of a scene's chart itself, in a folder named as the chart."""
        return place_in(self.folder / "checks", scene, "the scene", kind=ConfigError)

    @property
    def data(self) -> DataPaths:
        """Prepared products and labels, unless the study has them elsewhere."""
        return DataPaths(self.folder / "data")

    def cell(self, name: str) -> CellPaths:
        """Return those of a cell."""
        return CellPaths(place_in(self.folder / "cells", name, "the cell", kind=ConfigError))


def told_from(folder: Path, path: Path) -> str:
    """Return `path` as a record in `folder` tells it: relative to that folder, with forward slashes."""
    return Path(os.path.relpath(path.resolve(), folder.resolve())).as_posix()
