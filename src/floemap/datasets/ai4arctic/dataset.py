"""AI4Arctic as a dataset of studies, and its files; see :mod:`floemap.datasets.base`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from floemap.datasets.ai4arctic.files import open_scene_file
from floemap.datasets.ai4arctic.find import find_ai4arctic
from floemap.datasets.ai4arctic.form import AMSR2, ERA5
from floemap.datasets.ai4arctic.prepare import label_scene, prepare_scene
from floemap.datasets.ai4arctic.scenes import by_name, groups_by, official_roles
from floemap.datasets.base import Role, Rule, SceneFiles
from floemap.errors import FloemapError
from floemap.icechart.label.settings import LabelSettings
from floemap.legend import AI4ARCTIC
from floemap.progress import Progress
from floemap.sentinel1.settings import PrepareSettings

#: Further bands that the files hold, or that follow from them.
FURTHER_BANDS = (*AMSR2, *ERA5, "distance_to_land_km", "month", "latitude_deg", "longitude_deg")


class Ai4Arctic:
    """The scenes of the AutoICE challenge, named by start and ice service."""

    name = "ai4arctic"
    legend: str | None = AI4ARCTIC.name

    def scenes(self, folder: Path, months: Sequence[int]) -> tuple[SceneFiles, ...]:
        """Return the scenes whose files are in the folder and whose month is one of these."""
        entries = [e for e in find_ai4arctic(folder) if int(e.name[4:6]) in months]
        if not entries:
            raise FloemapError(f"has no scene of the months {list(months)}.", path=folder, hint="Change [data] months.")
        if lacking := [e.name for e in entries if e.product is None]:
            hint = "Download the files that end in _prep.nc, too."
            raise FloemapError(f"has charts and no bands of {', '.join(lacking[:5])}.", path=folder, hint=hint)
        found = [(e.name, e.product, e.chart) for e in entries]
        return tuple(SceneFiles(n, p, c) for n, p, c in found if p is not None and c is not None)

    def roles(self, names: Sequence[str], validation: Sequence[str] = ()) -> dict[str, Role]:
        """Return the use by the official lists."""
        return official_roles(names, validation)

    def groups(self, by: str, names: Sequence[str]) -> Mapping[str, tuple[str, ...]]:
        """Return the scenes by orbit (five parts), region (groups of neighbouring ones) or season."""
        return groups_by(by, names)

    def neighbours(self, names: Sequence[str], others: Sequence[str]) -> dict[str, list[str]]:
        """Return the scenes that share an orbit with some of the others."""
        known = by_name()
        found = {
            name: [o for o in others if o in known and known[o][0].orbit == known[name][0].orbit]
            for name in names
            if name in known
        }
        return {name: shared for name, shared in found.items() if shared}


class Ai4ArcticReader:
    """Reads raw and ready-to-train files; see :class:`floemap.datasets.base.Reader`."""

    def opens(self, path: Path) -> bool:
        """Return whether the name ends as those of NetCDF files do."""
        return path.suffix == ".nc"

    def name_of(self, product: Path) -> str:
        """Return the name of the scene."""
        with open_scene_file(product) as file:
            return file.scene.name

    def pixels(self, product: Path, resolution_m: float) -> float:
        """Return the area of the image in pixels of the resolution."""
        with open_scene_file(product) as file:
            return file.shape[0] * file.shape[1] * file.spacing_m**2 / resolution_m**2

    def prepare(self, product: Path, out: Path, settings: PrepareSettings, progress: Progress) -> Path:
        """Put the bands on a map grid."""
        return prepare_scene(product, out, settings, progress=progress).folder

    def label(
        self, chart: Path, product: Path, out: Path, settings: LabelSettings, rule: Rule, progress: Progress
    ) -> Path:
        """Put the charts on the product's grid; of the settings none counts."""
        return label_scene(chart, product, out, rule=rule, progress=progress).folder

    def layers(self, names: Sequence[str]) -> tuple[str, ...]:
        """Return the names of AMSR2, ERA5, distance to land, month, latitude and longitude."""
        return tuple(n for n in names if n in FURTHER_BANDS)
