"""Finding the dataset's scenes and charts in a folder of any layout: unpacked or zipped, flat or nested, V1 or V2.

Products are told by mission and start in their name, or in the names of their files; charts by their file name. Where a
scene is there more than once, the choice is always the same: readable before damaged, a folder before a zip, the
published name before another processing, V2 before V1, the shorter path before the longer.
"""

from __future__ import annotations

import os
import re
import zipfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from floemap.datasets.extremeearth.scenes import (
    ALL_MONTHS,
    SCENES,
    DatasetScene,
    check_months,
    scene_of_chart,
    scene_of_product,
)
from floemap.errors import FloemapError
from floemap.icechart.read.sigrid3 import Chart, read_chart
from floemap.icechart.read.sources import FORMATS
from floemap.zips import UNREADABLE

#: A file of this name in the folder's root says that everything below it is simulated.
SIMULATED_MARK = "SIMULATED.txt"

_OTHER_ARCHIVES = (".7z", ".rar", ".tar", ".tgz", ".gz", ".bz2", ".xz")


@dataclass(frozen=True)
class ChartFile:
    """Where a chart lies: a file, or a member of a zip.

    Attributes
    ----------
    inside
        The member, where `path` is a zip.
    """

    path: Path
    inside: str | None = None

    def read(self) -> Chart:
        """Read it with :func:`floemap.icechart.read.sigrid3.read_chart`, whose errors it raises."""
        return read_chart(self.path, layer=self.inside)

    def __str__(self) -> str:
        return str(self.path) if self.inside is None else f"{self.path}: {self.inside}"


@dataclass(frozen=True)
class Entry:
    """What a folder holds of one scene: every candidate, the best first.

    Attributes
    ----------
    products
        Folders and zips with the radar product.
    charts
        Charts drawn on it.
    """

    scene: DatasetScene
    products: tuple[Path, ...]
    charts: tuple[ChartFile, ...]

    @property
    def product(self) -> Path | None:
        """The product to use, for :func:`floemap.sentinel1.safe.reader.open_scene`."""
        return self.products[0] if self.products else None

    @property
    def chart(self) -> ChartFile | None:
        """The chart to use."""
        return self.charts[0] if self.charts else None


@dataclass(frozen=True)
class Dataset:
    """What was found in a folder.

    Attributes
    ----------
    root
        The folder.
    entries
        One per month, in order, also for months of which there is nothing.
    simulated
        Whether the folder is marked as simulated.
    unreadable
        Archives that cannot be looked into, zips within zips, with the reason.
    """

    root: Path
    entries: tuple[Entry, ...]
    simulated: bool
    unreadable: tuple[tuple[Path, str], ...]

    def entry(self, month: int) -> Entry:
        """Return what there is of a month, 1 to 12."""
        return self.entries[check_months([month])[0] - 1]

    def missing(self, months: Iterable[int] = ALL_MONTHS) -> list[str]:
        """Return the products and charts that those months lack, by name."""
        lacking = []
        for month in check_months(months):
            entry = self.entry(month)
            lacking += [entry.scene.product] if entry.product is None else []
            lacking += [entry.scene.chart] if entry.chart is None else []
        return lacking


def find_dataset(root: str | Path, months: Iterable[int] = ()) -> Dataset:
    """Find the dataset's products and charts below a folder; nothing is opened but the lists of zips.

    Parameters
    ----------
    months
        Which must be complete.

    Raises
    ------
    FloemapError
        If `root` is no folder, or one of `months` lacks its product or chart.
    """
    root = Path(root)
    if not root.is_dir():
        raise FloemapError("is no folder.", path=root, hint="Give the folder that holds the dataset.")
    finds = _Finds()
    for place in _walk(root):
        if place.is_dir():
            finds.folder(place)
        elif place.suffix.lower() == ".zip":
            finds.zip(place)
        elif place.suffix.lower() in FORMATS:
            finds.chart(ChartFile(place), place.name)
        elif place.suffix.lower() in _OTHER_ARCHIVES:
            finds.unreadable.append((place, "is an archive of a kind that is not looked into: unpack it"))
    entries = tuple(
        Entry(
            s,
            tuple(sorted(finds.products.get(s.month, []), key=lambda p: _product_rank(root, p, s, finds.broken))),
            tuple(sorted(finds.charts.get(s.month, []), key=lambda c: _chart_rank(root, c, finds.broken))),
        )
        for s in SCENES
    )
    found = Dataset(root, entries, (root / SIMULATED_MARK).is_file(), tuple(finds.unreadable))
    wanted = tuple(months)
    if wanted and (lacking := found.missing(wanted)):
        raise FloemapError(
            f"lacks {len(lacking)} of {2 * len(set(wanted))} parts of the dataset: {', '.join(lacking)}.",
            path=root,
            hint="floemap fetch extremeearth gets them, floemap simulate twin makes a simulated set.",
        )
    return found


def _walk(root: Path) -> Iterator[Path]:
    """Give product folders and files below `root`, not what is inside products, nor hidden files; loops are cut."""
    seen: set[tuple[int, int]] = set()
    folders = [root]
    while folders:
        folder = folders.pop()
        try:
            stat = folder.stat()
            if (stat.st_dev, stat.st_ino) in seen:
                continue
            seen.add((stat.st_dev, stat.st_ino))
            with os.scandir(folder) as listing:
                names = sorted(e.name for e in listing if not e.name.startswith((".", "__MACOSX")))
        except OSError:  # a folder that may not be read cannot hold what can be used
            continue
        if "manifest.safe" in names:
            yield folder
            continue
        for name in reversed(names):
            path = folder / name
            if path.is_dir():
                folders.append(path)
            elif path.is_file():
                yield path


class _Finds:
    """What a walk has come upon."""

    def __init__(self) -> None:
        self.products: dict[int, list[Path]] = {}
        self.charts: dict[int, list[ChartFile]] = {}
        self.unreadable: list[tuple[Path, str]] = []
        self.broken: set[Path] = set()

    def folder(self, path: Path) -> None:
        """Take note of a product's folder."""
        files = [p.name for p in (path / "measurement").glob("*")] + [p.name for p in (path / "annotation").glob("*")]
        self._product(path, path.name, files)
        if not any(p.stat().st_size for p in (path / "measurement").glob("*")):
            self.broken.add(path)

    def zip(self, path: Path) -> None:
        """Take note of what a zip holds."""
        try:
            with zipfile.ZipFile(path) as z:
                names = z.namelist()
        except UNREADABLE as e:
            self.broken.add(path)
            scene = scene_of_product(path.name)
            if scene is not None:
                self.products.setdefault(scene.month, []).append(path)
            elif scene_of_chart(path.name) is not None:
                self.chart(ChartFile(path), path.name)
            else:
                self.unreadable.append((path, f"is no readable zip: {e}"))
            return
        members = [PurePosixPath(n) for n in names if not n.startswith("__MACOSX/") and not n.endswith("/")]
        manifests = [m for m in members if m.name == "manifest.safe"]
        for manifest in manifests:
            root = manifest.parent
            self._product(path, root.name or path.name, [m.name for m in members if root in m.parents])
        for m in members:
            if m.suffix.lower() in FORMATS and not any(manifest.parent in m.parents for manifest in manifests):
                self.chart(ChartFile(path, str(m)), m.name)
            elif m.suffix.lower() == ".zip" and (scene_of_product(m.name) or scene_of_chart(m.name)):
                self.unreadable.append((path, f"holds {m}, a zip within the zip: unpack the outer one"))

    def chart(self, chart: ChartFile, name: str) -> None:
        """Take note of a file, if it is one of the dataset's charts by name."""
        scene = scene_of_chart(name)
        if scene is not None:
            self.charts.setdefault(scene.month, []).append(chart)
            if chart.path.suffix.lower() == ".shp" and not any(
                p.stem == chart.path.stem and p.suffix.lower() == ".dbf" for p in chart.path.parent.iterdir()
            ):
                self.broken.add(chart.path)

    def _product(self, path: Path, name: str, files: list[str]) -> None:
        scene = scene_of_product(name)
        for file in files if scene is None else []:
            # ESA's file names carry mission and start, where a folder was renamed.
            match = re.match(r"(s1[a-d])-ew-grd-h[hv]-(\d{8}t\d{6})-", file, re.IGNORECASE)
            if match:
                scene = scene_of_product(f"{match[1]}_EW_GRDM_1SDH_{match[2]}_")
        if scene is not None and path not in self.products.setdefault(scene.month, []):
            self.products[scene.month].append(path)


def _product_rank(root: Path, path: Path, scene: DatasetScene, broken: set[Path]) -> tuple[bool, bool, bool, int, str]:
    other_name = not path.name.startswith(scene.product) or "_COG" in path.name.upper()
    return path in broken, path.is_file(), other_name, len(path.parts), str(path.relative_to(root))


def _chart_rank(root: Path, chart: ChartFile, broken: set[Path]) -> tuple[bool, bool, bool, int, str]:
    where = f"{chart.path.relative_to(root)}/{chart.inside or ''}"
    older = re.search(r"v[-_.]?1(?!\d)", where.lower()) is not None
    return chart.path in broken, older, chart.inside is not None, len(Path(where).parts), where
