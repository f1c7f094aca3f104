"""Products in SAFE form and ice charts in SIGRID-3: the files of ExtremeEarth and of users' own scenes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from floemap.datasets.base import Rule
from floemap.icechart.label.label import label_chart
from floemap.icechart.label.settings import LabelSettings
from floemap.progress import Progress
from floemap.sentinel1.prepare import prepare
from floemap.sentinel1.safe.reader import open_scene
from floemap.sentinel1.settings import PrepareSettings


class ProductReader:
    """Reads products in SAFE form and charts in SIGRID-3; see :class:`floemap.datasets.base.Reader`."""

    def opens(self, path: Path) -> bool:
        """Return True: what is not of a dataset's own form is tried as such a product or chart."""
        return True

    def name_of(self, product: Path) -> str:
        """Return the name of the product."""
        return open_scene(product, pixels=False).name

    def pixels(self, product: Path, resolution_m: float) -> float:
        """Return the area of the image in pixels of the resolution."""
        opened = open_scene(product, pixels=False)
        lines, samples = opened.shape
        along, across = opened.pixel_spacing_m
        return lines * samples * along * across / resolution_m**2

    def prepare(self, product: Path, out: Path, settings: PrepareSettings, progress: Progress) -> Path:
        """Prepare the product as `floemap prepare` does."""
        return prepare(product, out, settings, progress=progress).folder

    def label(
        self, chart: Path, product: Path, out: Path, settings: LabelSettings, rule: Rule, progress: Progress
    ) -> Path:
        """Label the chart as `floemap label` does; `rule` does not count."""
        return label_chart(chart, product, out, settings, progress=progress).folder

    def layers(self, names: Sequence[str]) -> tuple[str, ...]:
        """Return (): such products have no further bands."""
        return ()
