"""Checking a dataset's folder: what is there, what is missing, what is wrong, month by month."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyproj
import shapely

from floemap.datasets.extremeearth.find import ChartFile, Dataset, Entry, find_dataset
from floemap.datasets.extremeearth.scenes import ALL_MONTHS, EVERYTHING, DatasetScene, What, check_months
from floemap.datasets.extremeearth.split_halves import Footprint
from floemap.errors import FloemapError, ProductError, of_system
from floemap.icechart.read.sigrid3 import Chart
from floemap.progress import Progress, silent
from floemap.sentinel1.metadata import Scene
from floemap.sentinel1.safe.reader import open_scene, verify

logger = logging.getLogger(__name__)

State = Literal["right", "missing", "wrong"]

#: A chart that covers less of its scene than this is told of; the dataset's charts cover their scenes.
_FULL_COVER = 0.5
#: Names give the start in whole seconds.
_SAME_START = timedelta(seconds=2)


@dataclass(frozen=True)
class Finding:
    """What was found of one product or chart.

    Attributes
    ----------
    state
        ``right``, ``missing`` or ``wrong``.
    where
        The file or folder, "" where missing.
    problems
        Why it is wrong; also of other copies that are.
    notes
        What is worth knowing and no fault.
    """

    state: State
    where: str = ""
    problems: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class MonthCheck:
    """One scene's product and chart."""

    scene: DatasetScene
    product: Finding
    chart: Finding


@dataclass(frozen=True)
class Inventory:
    """What a folder holds of the dataset.

    Attributes
    ----------
    months
        One per month that was asked for.
    what
        Which of products and charts were asked for.
    simulated
        How many of the products are simulated.
    problems
        About the folder as a whole.
    unreadable
        Zips that could not be looked into, with the reason.
    """

    root: Path
    months: tuple[MonthCheck, ...]
    what: tuple[What, ...]
    simulated: int
    problems: tuple[str, ...]
    unreadable: tuple[str, ...]

    @property
    def complete(self) -> bool:
        """Whether all that was asked for is there and right."""
        return not self.problems and all(f.state == "right" for f in self._asked_for())

    def count(self, state: State) -> int:
        """How many of the products and charts that were asked for are in that state."""
        return sum(f.state == state for f in self._asked_for())

    def _asked_for(self) -> list[Finding]:
        products = [m.product for m in self.months if "products" in self.what]
        return products + [m.chart for m in self.months if "charts" in self.what]

    def as_json(self) -> dict[str, Any]:
        """Everything, for machines."""
        return {
            "root": str(self.root),
            "complete": self.complete,
            "simulated_products": self.simulated,
            "problems": list(self.problems),
            "unreadable": list(self.unreadable),
            "months": [
                {"month": m.scene.month, "product": asdict(m.product), "chart": asdict(m.chart)} for m in self.months
            ],
        }


def check_dataset(
    root: str | Path,
    months: Iterable[int] = ALL_MONTHS,
    what: Iterable[What] = EVERYTHING,
    *,
    checksums: bool = False,
    progress: Progress = silent,
) -> Inventory:
    """Find the dataset in a folder and look into every product and chart of some months.

    Products are opened: metadata parsed, annotation compared with the manifest's checksums, pixel files of the right
    size. Charts are read, and must lie where their product does.

    Parameters
    ----------
    what
        Which of products and charts must be right for the folder to be complete. Both are looked into.
    checksums
        Also compare the pixel files with the manifest's checksums, which reads all of them.

    Raises
    ------
    FloemapError
        If `root` is no folder.
    """
    chosen = check_months(months)
    dataset = find_dataset(root)
    checks, simulated = [], []
    for i, month in enumerate(chosen):
        entry = dataset.entry(month)
        progress(i, len(chosen), entry.scene.title)
        product, scene = _check_product(entry, checksums=checksums)
        checks.append(MonthCheck(entry.scene, product, _check_chart(entry, scene)))
        if scene is not None:
            simulated.append(scene.simulated)
    progress(len(chosen), len(chosen), "done")
    return Inventory(
        root=dataset.root,
        months=tuple(checks),
        what=tuple(what),
        simulated=sum(simulated),
        problems=tuple(_problems(dataset, simulated)),
        unreadable=tuple(f"{path} {why}" for path, why in dataset.unreadable),
    )


def _problems(dataset: Dataset, simulated: list[bool]) -> list[str]:
    if any(simulated) and not all(simulated):
        return [f"{sum(simulated)} of {len(simulated)} products are simulated and the others real: keep them apart"]
    if dataset.simulated and simulated and not any(simulated):
        return ["the folder is marked as simulated, and its products are not"]
    return []


def _check_product(entry: Entry, *, checksums: bool) -> tuple[Finding, Scene | None]:
    problems: list[str] = []
    for path in entry.products:
        try:
            scene = open_and_verify(path, entry.scene, checksums=checksums)
        except Exception as e:  # whatever it is, the other months have nothing to do with it
            problems.append(_said(e, path))
            continue
        notes = _notes(entry.products, path, problems)
        if scene.name != entry.scene.product:
            notes.append(f"named {scene.name}: another processing of the scene")
        if scene.simulated:
            notes.append("simulated")
        return Finding("right", str(path), notes=tuple(notes)), scene
    if entry.product is None:
        return Finding("missing"), None
    return Finding("wrong", str(entry.product), tuple(problems)), None


def open_and_verify(path: Path, expected: DatasetScene, *, checksums: bool) -> Scene:
    """Open a product and raise where it is not whole or another than expected.

    Raises
    ------
    ProductError
        As :func:`floemap.sentinel1.safe.reader.open_scene` does, and if it is another scene, or, with `checksums`, if a
        pixel file is not as the manifest says.
    """
    scene = open_scene(path)
    start = datetime.strptime(expected.start, "%Y%m%dt%H%M%S").replace(tzinfo=UTC)
    if scene.mission != expected.mission or abs(scene.start - start) > _SAME_START:
        raise ProductError(
            f"is a scene of {scene.mission} from {scene.start:%Y-%m-%d %H:%M:%S}, where {expected.product} is needed.",
            path=path,
        )
    if checksums:
        for polarisation in scene.polarisations:
            verify(scene, polarisation)
    return scene


def _check_chart(entry: Entry, scene: Scene | None) -> Finding:
    problems: list[str] = []
    for file in entry.charts:
        try:
            chart = file.read()
            cover = None if scene is None else _cover(chart, scene)
            if cover == 0:
                raise FloemapError("lies elsewhere than the product.", path=file.path, hint="Is it another scene's?")
            notes = _notes(entry.charts, file, problems) + _chart_notes(chart, file)
        except Exception as e:  # whatever it is, the other months have nothing to do with it
            problems.append(_said(e, file.path))
            continue
        if cover is not None and cover < _FULL_COVER:
            notes.append(f"covers {cover:.0%} of the scene")
        return Finding("right", str(file), notes=tuple(notes))
    if entry.chart is None:
        return Finding("missing")
    return Finding("wrong", str(entry.chart), tuple(problems))


def _chart_notes(chart: Chart, file: ChartFile) -> list[str]:
    notes = [f"{chart.report.repaired} polygons repaired"] if chart.report.repaired else []
    if not {"cc", "sc"} & {name.lower() for name in chart.fields}:
        notes.append("no third ice type in its columns, as in the V1 release")
    return notes


def _cover(chart: Chart, scene: Scene) -> float:
    """Return the share of a scene's footprint that a chart's polygons cover."""
    grid = scene.geolocation
    edge = Footprint.from_grid(grid.longitude_deg, grid.latitude_deg).edge_lonlat_deg
    x, y = pyproj.Transformer.from_crs("EPSG:4326", chart.crs, always_xy=True).transform(*edge.T)
    outline = shapely.make_valid(shapely.Polygon(np.stack([x, y], axis=-1)))
    if not outline.area > 0:
        return 0.0
    return float(shapely.area(shapely.intersection(chart.geometries, outline)).sum() / outline.area)


def _notes(candidates: tuple[Any, ...], used: Any, problems: list[str]) -> list[str]:
    others = [str(c) for c in candidates if c != used]
    notes = [f"also at {', '.join(others)}, not used"] if others else []
    return notes + [f"not used because wrong: {p}" for p in problems]


def _said(error: Exception, path: Path) -> str:
    error = of_system(error) or error
    if not isinstance(error, FloemapError):
        logger.debug("%s", path, exc_info=error)
        return f"{path}: unexpected {type(error).__name__}: {error}. Please report it."
    return f"{error.path}: {error.message}" if error.path else error.message
