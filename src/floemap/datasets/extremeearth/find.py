"""Finding the dataset's scenes and charts in a folder of any layout: unpacked or zipped, flat or nested, V1 or V2.

Products are identified by mission and start time in their name, or in the names of their files; charts by their file
name. Where a scene is there more than once, the order of preference is fixed: readable before damaged, a folder before
a zip, the published name before another processing, V2 before V1, the shorter path before the longer.
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
from floemap.files import existing_folder
from floemap.icechart.read.sigrid3 import Chart, read_chart
from floemap.icechart.read.sources import FORMATS
from floemap.zips import UNREADABLE

#: A file of this name in the folder's root marks everything below it as simulated.
SIMULATED_MARK = "SIMULATED.txt"

_HIDDEN = (".", "__MACOSX")
_OTHER_ARCHIVES = (".7z", ".rar", ".tar", ".tgz", ".gz", ".bz2", ".xz")


@dataclass(frozen=True)
class ChartFile:
    """A chart's location: a file, or a member of a zip.

    Attributes
    ----------
    path
        Path of the chart, or of the zip.
    inside
        Name of the member if `path` is a zip.
    """

    path: Path
    inside: str | None = None

    def read(self) -> Chart:
        """Read the chart with :func:`floemap.icechart.read.sigrid3.read_chart`, and raise its errors."""
        return read_chart(self.path, layer=self.inside)

    def __str__(self) -> str:
        return str(self.path) if self.inside is None else f"{self.path}: {self.inside}"


@dataclass(frozen=True)
class Entry:
    """All products and charts of one scene in a folder, the best first.

    Attributes
    ----------
    scene
        The scene.
    products
        Folders and zips that hold the radar product.
    charts
        Charts that were drawn on it.
    """

    scene: DatasetScene
    products: tuple[Path, ...]
    charts: tuple[ChartFile, ...]

    @property
    def product(self) -> Path | None:
        """The best product, for :func:`floemap.sentinel1.safe.reader.open_scene`, or None."""
        return self.products[0] if self.products else None

    @property
    def chart(self) -> ChartFile | None:
        """The best chart, or None."""
        return self.charts[0] if self.charts else None


@dataclass(frozen=True)
class Dataset:
    """The contents of a dataset's folder.

    Attributes
    ----------
    root
        The folder.
    entries
        One entry per month, in order, also for months without any file.
    simulated
        Whether the folder is marked as simulated.
    unreadable
        Archives that cannot be read, such as zips within zips, with the reason.
    """

    root: Path
    entries: tuple[Entry, ...]
    simulated: bool
    unreadable: tuple[tuple[Path, str], ...]

    def entry(self, month: int) -> Entry:
        """Return the entry of a month, 1 to 12."""
        return self.entries[check_months([month])[0] - 1]

    def missing(self, months: Iterable[int] = ALL_MONTHS) -> list[str]:
        """Return the names of the products and charts that are missing for those months."""
        lacking = []
        for month in check_months(months):
            entry = self.entry(month)
            lacking += [entry.scene.product] if entry.product is None else []
            lacking += [entry.scene.chart] if entry.chart is None else []
        return lacking


def find_dataset(root: str | Path, months: Iterable[int] = ()) -> Dataset:
    """Find the dataset's products and charts below a folder; of zips, only the directories are read.

    Parameters
    ----------
    root
        The folder.
    months
        Months that must be complete.

    Raises
    ------
    FloemapError
        If `root` is not a folder, or the product or chart of one of `months` is missing.
    """
    root = existing_folder(root, "Give the folder that contains the dataset.")
    finds = _Finds()
    for place in _walk(root):
        if place.is_dir():
            finds.folder(place)
        elif place.suffix.lower() == ".zip":
            finds.zip(place)
        elif place.suffix.lower() in FORMATS:
            finds.chart(ChartFile(place), place.name)
        elif place.suffix.lower() in _OTHER_ARCHIVES:
            finds.unreadable.append((place, "is an archive of a kind that floemap does not read: unpack it"))
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
            hint="Run floemap fetch extremeearth to download them, or floemap simulate twin for a simulated set.",
        )
    return found


def _walk(root: Path) -> Iterator[Path]:
    """Yield product folders and files below `root`, without hidden ones and files in products; follow links once."""
    seen: set[Path] = set()
    for name, folders, files in os.walk(root, followlinks=True):  # which passes over folders that it may not read
        folder = Path(name)
        if folder.resolve() in seen:
            folders.clear()
            continue
        seen.add(folder.resolve())
        if "manifest.safe" in files:
            folders.clear()
            yield folder
            continue
        folders[:] = sorted(f for f in folders if not f.startswith(_HIDDEN))
        yield from (folder / f for f in sorted(files) if not f.startswith(_HIDDEN) and (folder / f).is_file())


class _Finds:
    """Products, charts and unreadable archives found so far."""

    def __init__(self) -> None:
        self.products: dict[int, list[Path]] = {}
        self.charts: dict[int, list[ChartFile]] = {}
        self.unreadable: list[tuple[Path, str]] = []
        self.broken: set[Path] = set()

    def folder(self, path: Path) -> None:
        """Add a product's folder."""
        files = [p.name for p in (path / "measurement").glob("*")] + [p.name for p in (path / "annotation").glob("*")]
        self._product(path, path.name, files)
        if not any(p.stat().st_size for p in (path / "measurement").glob("*")):
            self.broken.add(path)

    def zip(self, path: Path) -> None:
        """Add the products and charts in a zip."""
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
                self.unreadable.append((path, f"is not a readable zip: {e}"))
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
                self.unreadable.append((path, f"holds {m}, a zip within the zip: unpack the outer zip"))

    def chart(self, chart: ChartFile, name: str) -> None:
        """Add a file if its name is that of one of the dataset's charts."""
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
            # The folder was renamed; ESA's file names also contain mission and start time.
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
