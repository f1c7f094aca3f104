"""Checking a dataset's folder: which products and charts are there, missing or wrong, month by month."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Literal, TypeVar

import numpy as np
import pyproj
import shapely

from floemap.counts import counted
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
C = TypeVar("C")
R = TypeVar("R")

#: A chart that covers a smaller share of its scene gets a note; the dataset's charts cover their scenes.
_FULL_COVER = 0.5
#: Tolerance for start times: names give them in whole seconds.
_SAME_START = timedelta(seconds=2)


@dataclass(frozen=True)
class Finding:
    """The result of checking one product or chart.

    Attributes
    ----------
    state
        ``right``, ``missing`` or ``wrong``.
    where
        Path of the file or folder, "" where missing.
    problems
        Why each copy is wrong.
    notes
        Remarks that are not faults.
    """

    state: State
    where: str = ""
    problems: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class MonthCheck:
    """The results for one scene's product and chart."""

    scene: DatasetScene
    product: Finding
    chart: Finding


@dataclass(frozen=True)
class Inventory:
    """The result of checking a dataset's folder.

    Attributes
    ----------
    root
        The folder.
    months
        One result per requested month.
    what
        Whether products, charts or both were requested.
    simulated
        Number of simulated products.
    problems
        Problems of the folder as a whole.
    unreadable
        Archives that could not be read, with the reason.
    """

    root: Path
    months: tuple[MonthCheck, ...]
    what: tuple[What, ...]
    simulated: int
    problems: tuple[str, ...]
    unreadable: tuple[str, ...]

    @property
    def complete(self) -> bool:
        """Whether everything requested is there and right."""
        return not self.problems and all(f.state == "right" for f in self._asked_for())

    def count(self, state: State) -> int:
        """Return the number of requested products and charts in that state."""
        return sum(f.state == state for f in self._asked_for())

    def _asked_for(self) -> list[Finding]:
        products = [m.product for m in self.months if "products" in self.what]
        return products + [m.chart for m in self.months if "charts" in self.what]

    def as_json(self) -> dict[str, Any]:
        """Return the whole result, JSON-ready."""
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
    """Find the dataset in a folder and check every product and chart of some months.

    Products are opened: their metadata are parsed, the annotation is compared with the manifest's checksums, and the
    size of the pixel files is checked. Charts are read, and must overlap their product.

    Parameters
    ----------
    root
        The folder.
    months
        Months to check, 1 to 12.
    what
        Whether products, charts or both must be right for the folder to be complete. Both are checked.
    checksums
        Also compare the pixel files with the manifest's checksums, which reads them whole.
    progress
        Progress callback, called as progress(done, total, message).

    Raises
    ------
    FloemapError
        If `root` is not a folder.
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
    def look(path: Path) -> tuple[Scene, list[str]]:
        scene = open_and_verify(path, entry.scene, checksums=checksums)
        notes = ["simulated"] if scene.simulated else []
        if scene.name != entry.scene.product:
            notes.append(f"named {scene.name}: another processing of the scene")
        return scene, notes

    return _first_right(entry.products, look)


def _check_chart(entry: Entry, scene: Scene | None) -> Finding:
    def look(file: ChartFile) -> tuple[Chart, list[str]]:
        chart = file.read()
        notes = [f"{counted(chart.report.repaired, 'polygon')} repaired"] if chart.report.repaired else []
        if not {"cc", "sc"} & {name.lower() for name in chart.fields}:
            notes.append("no third ice type in its columns, as in the V1 release")
        cover = 1.0 if scene is None else _cover(chart, scene)
        if cover == 0:
            hint = "Check whether the chart belongs to another scene."
            raise FloemapError("does not overlap the product.", path=file.path, hint=hint)
        if cover < _FULL_COVER:
            notes.append(f"covers {cover:.0%} of the scene")
        return chart, notes

    return _first_right(entry.charts, look)[0]


def _first_right(candidates: Sequence[C], look: Callable[[C], tuple[R, list[str]]]) -> tuple[Finding, R | None]:
    """Return what `look` returns for the first candidate that it accepts, with its notes, else why none is right."""
    problems: list[str] = []
    for candidate in candidates:
        try:
            found, notes = look(candidate)
        except Exception as e:  # even an unexpected error must not stop the checks of the other months
            problems.append(_problem(e, candidate))
            continue
        others = ", ".join(str(c) for c in candidates if c != candidate)
        unused = [f"also at {others}, not used"] if others else []
        wrong = [f"not used because wrong: {p}" for p in problems]
        return Finding("right", str(candidate), notes=(*unused, *wrong, *notes)), found
    if not candidates:
        return Finding("missing"), None
    return Finding("wrong", str(candidates[0]), tuple(problems)), None


def open_and_verify(path: Path, expected: DatasetScene, *, checksums: bool) -> Scene:
    """Open a product and check that it is the expected scene.

    Raises
    ------
    ProductError
        If :func:`floemap.sentinel1.safe.reader.open_scene` cannot open it, if it is another scene, or, with
        `checksums`, if a pixel file differs from the manifest's checksum.
    """
    scene = open_scene(path)
    start = datetime.strptime(expected.start, "%Y%m%dt%H%M%S").replace(tzinfo=UTC)
    if scene.mission != expected.mission or abs(scene.start - start) > _SAME_START:
        raise ProductError(
            f"is a scene of {scene.mission} from {scene.start:%Y-%m-%d %H:%M:%S}, where {expected.product} is needed.",
            path=path,
            hint="Fetch that product, or move this one out of the folder.",
        )
    if checksums:
        for polarisation in scene.polarisations:
            verify(scene, polarisation)
    return scene


def _cover(chart: Chart, scene: Scene) -> float:
    """Return the share of a scene's footprint that a chart's polygons cover."""
    grid = scene.geolocation
    edge = Footprint.from_grid(grid.longitude_deg, grid.latitude_deg).edge_lonlat_deg
    x, y = pyproj.Transformer.from_crs("EPSG:4326", chart.crs, always_xy=True).transform(*edge.T)
    outline = shapely.make_valid(shapely.Polygon(np.stack([x, y], axis=-1)))
    if not outline.area > 0:
        return 0.0
    return float(shapely.area(shapely.intersection(chart.geometries, outline)).sum() / outline.area)


def _problem(error: Exception, candidate: object) -> str:
    error = of_system(error) or error
    if not isinstance(error, FloemapError):
        logger.debug("%s", candidate, exc_info=error)
        return f"{candidate}: unexpected {type(error).__name__}: {error}. Please report it."
    return f"{error.path}: {error.message}" if error.path else error.message
