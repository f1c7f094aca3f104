"""ExtremeEarth as a dataset of studies; see :class:`floemap.datasets.base.Dataset`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from floemap.datasets.base import Role, SceneFiles
from floemap.datasets.extremeearth.find import Entry, find_dataset
from floemap.datasets.extremeearth.scenes import PARTS


class ExtremeEarth:
    """Twelve scenes, named ``01`` to ``12`` by their month."""

    name = "extremeearth"
    legend: str | None = None

    def scenes(self, folder: Path, months: Sequence[int]) -> tuple[SceneFiles, ...]:
        """Return the scenes of these months; a simulated twin's with their truth."""
        found = find_dataset(folder, months)
        return tuple(_files(found.root, found.entry(m), simulated=found.simulated) for m in sorted(set(months)))

    def roles(self, names: Sequence[str], validation: Sequence[str] = ()) -> dict[str, Role]:
        """Return the use of each part in the published study; it leaves no choice of validation."""
        return {p.name: p.role for p in PARTS if f"{p.scene.month:02d}" in names}

    def groups(self, by: str, names: Sequence[str]) -> Mapping[str, tuple[str, ...]]:
        """Return {}: the scenes are of one region, one a month."""
        return {}

    def neighbours(self, names: Sequence[str], others: Sequence[str]) -> dict[str, list[str]]:
        """Return {}: the scenes are a month apart."""
        return {}


def _files(root: Path, entry: Entry, *, simulated: bool) -> SceneFiles:
    product, chart = entry.product, entry.chart
    assert product is not None and chart is not None  # find_dataset has checked
    truth = root / "truth" / entry.scene.product / "truth.tif"
    return SceneFiles(
        name=f"{entry.scene.month:02d}",
        product=product,
        chart=chart.path,
        layer=chart.inside,
        truth=truth if simulated and truth.is_file() else None,
    )
