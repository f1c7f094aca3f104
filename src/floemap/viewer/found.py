"""Find results of floemap in folders: draft charts, predictions, products, labels, layers, truth, published charts.

Every result has a record, a JSON file by which it is recognised. Links to other folders are not followed, and hidden
folders, unfinished results among them, are left out.
"""

from __future__ import annotations

import logging
import os
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from floemap.errors import FloemapError
from floemap.files import is_utf8, similar_path
from floemap.own_results import RECORDS
from floemap.results.fields import at
from floemap.results.run_paths import CellPaths, RunPaths
from floemap.results.stage import is_newer, read_json

logger = logging.getLogger(__name__)

#: Records of results with something to show. The first one that a folder has decides.
SHOWN = (
    "chart.json",
    "publication.json",
    "prediction.json",
    "evaluation.json",
    "label.json",
    "layer.json",
    "truth.json",
    "route.json",
    "product.json",
)
#: Record of a ship's route.
ROUTE = "route.json"
#: Record of an exported map, which is not looked into.
EXPORTED = "view.json"
#: Results that have no map to show, or one of pixels of others.
_NOT_ENTERED = ("report.json", "training.json", EXPORTED)
#: Results without a map, by their records: what they are, and what to give instead.
_NO_MAP = {
    "bundle.json": (
        "a bundle for a ship",
        "Give the folder of the chart that it was made from; its GeoJSON or KML opens in QGIS or a ship's plotter.",
    ),
    "mosaic.json": ("a mosaic of draft charts", "Give the folder of these charts; mosaic.nc opens in QGIS."),
    "monitor.json": ("a summary of changes to drafts", "Give the folder of the published charts."),
    "report.json": ("a report", "Open report.html, or give the folder of the comparison."),
    "training.json": ("a trained model", "Give a folder of `floemap predict` or `floemap chart`."),
    EXPORTED: ("a map for web servers", "Give the folders that it was made from, or serve it with a web server."),
}
#: Deepest folder below a given one.
_DEEPEST = 10


@dataclass(frozen=True)
class Found:
    """A result with something to show.

    Attributes
    ----------
    folder
        Folder of the result.
    kind
        Name of its record, one of :data:`SHOWN`.
    record
        Content of its record.
    cell
        Cell of a comparison that it belongs to; None outside comparisons.
    files
        Names of the files in its folder.
    """

    folder: Path
    kind: str
    record: Mapping[str, Any]
    cell: str | None = None
    files: Sequence[str] = ()

    @property
    def simulated(self) -> bool:
        """Whether the record says that scene, chart or model are simulated."""
        return at(self.record, "simulated") in (True, "yes") or self.kind == "truth.json"


@dataclass
class Search:
    """What was found in folders.

    Attributes
    ----------
    found
        Results, in the order of the folders and of their names.
    warnings
        Sentences about what is not shown, and why.
    roots
        The given folders, resolved.
    damaged
        Whether a record or a file of a result cannot be read.
    """

    found: list[Found] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    roots: tuple[Path, ...] = ()
    damaged: bool = False

    def inside(self, path: Path) -> Path:
        """Return the real path of a file, which must lie in one of the given folders.

        Raises
        ------
        FloemapError
            If a link leads it elsewhere, or nowhere.
        """
        try:
            real = path.resolve()
        except (OSError, RuntimeError, ValueError) as e:  # a link to itself, a name that no file can have
            raise FloemapError("is a link that leads nowhere.", path=path) from e
        if not any(real.is_relative_to(root) for root in self.roots):
            raise FloemapError("is a link that leads out of the given folders.", path=path)
        return real

    def warn(self, path: Path, words: str) -> None:
        """Log that something is not shown, and keep the sentence for the page, without the path outside the folders."""
        logger.warning("%s: %s", path, words)
        for root in self.roots:
            if root.name:  # exported maps must not reveal anybody's disk
                words = words.replace(str(root), root.name)
        self.warnings.append(f"{self._told(path)}: {words}")

    def without(self, error: FloemapError, path: Path) -> None:
        """Warn that a file or result is not shown because of an error."""
        self.damaged = True
        self.warn(error.path or path, f"{error.message.rstrip('.')}; it is not shown")

    def unreadable(self, folder: Path, error: OSError) -> None:
        """Warn that a folder is not shown because it cannot be read."""
        self.warn(folder, f"cannot be read ({error.strerror}); it is not shown")

    def _told(self, path: Path) -> str:
        absolute = path.absolute()
        for root in self.roots:
            for base in (root, *(p for p in absolute.parents if p.resolve() == root)):
                if absolute.is_relative_to(base):
                    return Path(root.name, absolute.relative_to(base)).as_posix()
        return path.name


def search(folders: Sequence[str | Path]) -> Search:
    """Find the results in and below folders.

    Raises
    ------
    FloemapError
        If a folder does not exist, is a file, or has a name that is not UTF-8, or if nothing to show is found.
    """
    given = [Path(folder) for folder in folders]
    for folder in given:
        if not folder.is_dir():
            reason = "is a file, where a folder is needed." if folder.exists() else "does not exist."
            hint = "" if folder.exists() else f"{similar_path(folder)} "
            hint += "Give the folder that `floemap chart`, `floemap compare` or another command made."
            raise FloemapError(reason, path=folder, hint=hint)
        if not is_utf8(folder.absolute()):
            raise FloemapError("has a name that is not UTF-8.", path=folder, hint="Rename it.")
    result = Search(roots=tuple(dict.fromkeys(folder.resolve() for folder in given)))
    seen: set[Path] = set()
    others: list[Path] = []
    for folder in given:
        for at_folder, files, cell in _folders(folder, seen, result):
            _look(at_folder, files, cell, result)
            others += [at_folder / name for name in _NO_MAP if name in files]
    if not result.found:
        if not result.damaged:  # else that is what hinders
            _refuse_others(others, result)
        shown = ", ".join(str(folder) for folder in given)
        told = "".join(f"; {words}" for words in result.warnings[:5])
        raise FloemapError(
            f"nothing to show is found in {shown}{told}.",
            hint="A map shows what floemap made: give folders of `floemap chart`, `archive`, `prepare`, `predict`, "
            "`label`, `publish`, `route` or `compare`, or one that contains such folders. `floemap info FOLDER` says "
            "what a folder is.",
        )
    return result


def _refuse_others(records: Sequence[Path], result: Search) -> None:
    """Raise a FloemapError that says what the first result is that has no map, and what to give instead.

    Other programs write files of these names, too, so a record counts only if it says that floemap made it.
    """
    for path in records:
        try:
            made_by = at(read_json(result.inside(path)), "made_by", "")
        except (FloemapError, OSError):
            continue
        if made_by.startswith("floemap "):
            what, instead = _NO_MAP[path.name]
            raise FloemapError(
                f"is {what}, and has no map to show.",
                path=path.parent,
                hint=f"{instead} `floemap info {shlex.quote(str(path.parent))}` says what is in it.",
            )


def _folders(top: Path, seen: set[Path], result: Search) -> Iterator[tuple[Path, Sequence[str], str | None]]:
    """Give the folders to look into, each once, with their files and the cell of a comparison that they belong to."""
    cells: dict[str, str] = {}
    for base, names, files in os.walk(top, onerror=lambda e: result.unreadable(Path(e.filename), e)):
        folder = Path(base)
        if (real := folder.resolve()) in seen:
            names.clear()
            continue
        seen.add(real)
        deep = len(folder.relative_to(top).parts) >= _DEEPEST
        entered = not deep and not any(name in files for name in _NOT_ENTERED)
        names[:] = sorted(n for n in names if not n.startswith(".") and not n.upper().endswith(".SAFE")) * entered
        cells[base] = _cell(folder) or cells.get(str(folder.parent), "")
        yield folder, files, cells[base] or None


def _cell(folder: Path) -> str:
    """Return the name of the cell of a comparison whose folder this is, or ""."""
    of_run = folder.absolute().parent.name == "cells" and RunPaths(folder.absolute().parent.parent).plan.is_file()
    return folder.absolute().name if of_run or CellPaths(folder).record.is_file() else ""


def _look(folder: Path, files: Sequence[str], cell: str | None, result: Search) -> None:
    """Add the result in a folder, if there is one; name rasters that belong to none. Warn of what cannot be read."""
    try:
        _add(folder, files, cell, result)
    except OSError as e:
        result.unreadable(folder, e)


def _add(folder: Path, files: Sequence[str], cell: str | None, result: Search) -> None:
    kind = next((name for name in RECORDS if name in files and (folder / name).is_file()), None)
    if kind not in SHOWN:
        if kind is None:
            _name_foreign(folder, files, result)
        return
    path = folder / kind
    try:
        record = read_json(result.inside(path))
        if is_newer(record):
            raise FloemapError("is of a later version of floemap", path=path)
    except FloemapError as e:
        result.without(e, path)
        return
    result.found.append(Found(folder, kind, record, cell, files))


def _name_foreign(folder: Path, files: Sequence[str], result: Search) -> None:
    """Name the rasters and polygons in a folder that no record describes."""
    if folder.name in ("parts", "charts", "figures") or folder.parent.name == "parts":
        return
    names = sorted(name for name in files if Path(name).suffix.lower() in (".tif", ".tiff", ".geojson"))
    if names:
        more = f" and {len(names) - 3} more" if len(names) > 3 else ""
        result.warn(folder, f"{', '.join(names[:3])}{more}: no record of floemap describes them; they are not shown")
