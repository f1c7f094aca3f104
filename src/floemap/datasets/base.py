"""What a study asks a dataset: its scenes, how they are prepared and labelled, and how they are shared out.

A dataset is a class with these answers and a line in :mod:`floemap.datasets.registry`. A scene of the user's own has no
dataset; its files have a :class:`Reader` like those of any other.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

from floemap.icechart.label.settings import LabelSettings
from floemap.progress import Progress
from floemap.sentinel1.settings import PrepareSettings

Role = Literal["train", "validation", "test"]
#: How polygons become classes, where a dataset has its own rule.
Rule = Literal["starter", "correct"]


@dataclass(frozen=True)
class SceneFiles:
    """The files of a scene.

    Attributes
    ----------
    name
        Name of the scene in a study.
    product
        File or folder of the bands, as delivered or prepared.
    chart
        File of the chart, or a folder of labels.
    layer
        The file in a zip, or the layer of a file, that is the chart, if there are several.
    truth
        Raster of the true classes of a simulated scene, or None.
    """

    name: str
    product: Path
    chart: Path
    layer: str | None = None
    truth: Path | None = None


class Reader(Protocol):
    """How files of one form become bands and labels."""

    def opens(self, path: Path) -> bool:
        """Return whether a product or chart is of this form, by its name."""

    def name_of(self, product: Path) -> str:
        """Return the name that the folder of a product gets when it is prepared.

        Raises
        ------
        FloemapError
            If the product cannot be read.
        """

    def pixels(self, product: Path, resolution_m: float) -> float:
        """Return the number of pixels that a product will have with data; errors as of :meth:`name_of`."""

    def prepare(self, product: Path, out: Path, settings: PrepareSettings, progress: Progress) -> Path:
        """Prepare a product into a folder of its name in `out`, and return it. A finished one is kept.

        Raises
        ------
        FloemapError
            If it cannot be prepared.
        """

    def label(
        self, chart: Path, product: Path, out: Path, settings: LabelSettings, rule: Rule, progress: Progress
    ) -> Path:
        """Put a chart on the grid of a prepared product, in a folder in `out`, and return it. A finished one is kept.

        Raises
        ------
        FloemapError
            If it cannot be labelled.
        """

    def layers(self, names: Sequence[str]) -> tuple[str, ...]:
        """Return the names among `names` of further bands that products of this form hold themselves."""


class Dataset(Protocol):
    """A published dataset of scenes and charts."""

    #: Name in configurations.
    name: str
    #: Legend of its charts; None if several fit.
    legend: str | None

    def scenes(self, folder: Path, months: Sequence[int]) -> tuple[SceneFiles, ...]:
        """Return the scenes of a folder and their files, in order. Only lists of files are read.

        Raises
        ------
        FloemapError
            If the folder lacks scenes or files; the message names them.
        """

    def roles(self, names: Sequence[str], validation: Sequence[str] = ()) -> dict[str, Role]:
        """Return the published use of each part of the named scenes.

        Parameters
        ----------
        names
            Names of the scenes at hand.
        validation
            Names of the scenes for validation, if the dataset leaves the choice.

        Raises
        ------
        ConfigError
            If a name is not that of a scene of the dataset, or a validation scene is not one for training.
        """

    def groups(self, by: str, names: Sequence[str]) -> Mapping[str, tuple[str, ...]]:
        """Return the named scenes by groups that a split may hold out whole, such as regions; {} if there are none."""

    def neighbours(self, names: Sequence[str], others: Sequence[str]) -> dict[str, list[str]]:
        """Return which scenes among `names` lie on one track with some of the `others`, and these."""
