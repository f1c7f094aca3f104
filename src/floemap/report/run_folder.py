"""The folder of a comparison as the report reads it: contenders, their cells, their test scenes.

This module reads JSON only. Paths in records are relative to the record, so runs can be moved and copied.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import Any

from floemap.errors import FloemapError
from floemap.evaluation.statistics.summary import HELD_OUT, loss_title
from floemap.files import existing_folder, regular_file
from floemap.legend import Legend
from floemap.own_legends import from_record
from floemap.results.folders import is_note
from floemap.results.names import place_in
from floemap.results.run_paths import CellPaths, RunPaths
from floemap.results.stage import parse_json, read_json

_AGAIN = "Run `floemap compare` again: it writes the records anew."
#: Losses of floemap that learn from partial concentrations, for records of cells that do not say so.
FROM_SHARES = frozenset({"soft_cross_entropy", "partial_label", "region", "region_pixel"})
_MONTHS = (
    "January", "February", "March", "April", "May", "June",
    "July", "August", "September", "October", "November", "December",
)  # fmt: skip


@dataclass(frozen=True)
class Scene:
    """A test scene.

    Attributes
    ----------
    name
        Name of the scene in the study.
    product, labels
        Folders of the prepared product and of the labels.
    truth
        Raster of the truth; None if the scene has none, or it is not found.
    has_truth
        Whether the records name a truth.
    start
        Start of the acquisition.
    simulated
        Whether the product or the chart is simulated.
    about
        Content of product.json.
    """

    name: str
    product: Path
    labels: Path
    truth: Path | None
    has_truth: bool
    start: datetime
    simulated: bool
    about: Mapping[str, Any]

    @property
    def half(self) -> str:
        """The tested half of the scene, such as `` (NE)``; "" if the whole scene is tested."""
        return next((f" ({half})" for half in ("SW", "NE") if self.name.endswith(f"-{half}")), "")

    @property
    def title(self) -> str:
        """The date and time of the scene, such as ``16 January 2018, 07:54 UTC``."""
        return f"{self.start.day} {_MONTHS[self.start.month - 1]} {self.start.year}, {self.start:%H:%M} UTC{self.half}"

    @property
    def short(self) -> str:
        """The month of the scene, such as ``January 2018``."""
        return f"{_MONTHS[self.start.month - 1]} {self.start.year}{self.half}"

    @property
    def raster(self) -> Path:
        """Path of the bands."""
        return self.product / "product.tif"

    @property
    def label_raster(self) -> Path:
        """Path of the chart's classes."""
        return self.labels / "labels.tif"


@dataclass(frozen=True)
class Tested:
    """A cell's prediction of one scene, or of half a scene, and its scores.

    Attributes
    ----------
    scene
        Name of the scene in the study.
    cell
        Name of the cell.
    prediction, scored
        Folders of the prediction and of its evaluation.
    checks
        Folder of its physical checks, which need not exist.
    evaluation
        Content of evaluation.json.
    """

    scene: str
    cell: str
    prediction: Path
    scored: Path
    checks: Path
    evaluation: Mapping[str, Any]

    @property
    def classes(self) -> Path:
        """Path of the predicted classes."""
        return self.prediction / "classes.tif"

    @property
    def probabilities(self) -> Path:
        """Path of the predicted probabilities, which need not exist."""
        return self.prediction / "probabilities.tif"

    @property
    def within(self) -> Path | None:
        """Raster that is 255 outside the scored part of the scene; None if the whole scene was scored."""
        return self.scored / "errors.tif" if "mask" in self.evaluation.get("inputs", {}) else None

    @property
    def weighted_f1(self) -> float:
        """Weighted F1 against the chart; -1 if undefined."""
        value = self.evaluation["scores"]["primary"]["scores"]["weighted_f1"]
        return -1.0 if value is None else float(value)


@dataclass(frozen=True)
class Cell:
    """One training."""

    name: str
    loss: str
    repeat: int
    axes: Mapping[str, Any]
    paths: CellPaths
    record: Mapping[str, Any]
    training: Mapping[str, Any]
    epochs: tuple[Mapping[str, Any], ...]
    tested: tuple[Tested, ...]


@dataclass(frozen=True)
class Contender:
    """A compared loss with its values of further axes, and all its cells."""

    key: str
    title: str
    cells: tuple[Cell, ...]

    @property
    def reads_shares(self) -> bool:
        """Whether the loss learns from partial concentrations, as the record of its first cell says."""
        cell = self.cells[0]
        if "reads_shares" in cell.record:
            return bool(cell.record["reads_shares"])
        settings = cell.record.get("configuration", {}).get("loss", {})
        return str(settings.get("name", cell.loss)) in FROM_SHARES

    @cached_property
    def _by_scene(self) -> dict[str, list[Tested]]:
        found: dict[str, list[Tested]] = {}
        for t in (t for c in self.cells for t in c.tested):
            found.setdefault(t.scene, []).append(t)
        return found

    def of(self, scene: str) -> list[Tested]:
        """Return the predictions of a scene by all repeats."""
        return self._by_scene.get(scene, [])

    def best(self, scene: str) -> Tested | None:
        """Return the prediction of a scene with the highest weighted F1, the first in a tie."""
        return max(self.of(scene), key=lambda t: t.weighted_f1, default=None)

    def whole_repeats(self, scenes: tuple[str, ...]) -> dict[int, dict[str, Tested]]:
        """Return the predictions of repeats that have all scenes, by repeat and scene."""
        runs: dict[int, dict[str, Tested]] = {}
        for cell in self.cells:
            for t in cell.tested:
                runs.setdefault(cell.repeat, {})[t.scene] = t
        return {r: runs[r] for r in sorted(runs) if set(runs[r]) == set(scenes)}


@dataclass(frozen=True)
class RunFolder:
    """A whole comparison."""

    folder: Path
    name: str
    configuration: Mapping[str, Any]
    results: Mapping[str, Any]
    legend: Legend
    scenes: tuple[Scene, ...]
    contenders: tuple[Contender, ...]
    missing: tuple[tuple[str, str], ...]

    @cached_property
    def simulated(self) -> bool:
        """Whether any part of the comparison is simulated."""
        said = any(c.record.get("simulated") for k in self.contenders for c in k.cells)
        return said or any(s.simulated for s in self.scenes) or bool(self.results["summary"].get("simulated"))

    @cached_property
    def truths(self) -> dict[str, Path]:
        """The truth of each test scene by name, the reference of the checks; empty unless all scenes have one."""
        found = {s.name: s.truth for s in self.scenes if s.truth is not None}
        return found if len(found) == len(self.scenes) else {}

    @property
    def truths_gone(self) -> tuple[Scene, ...]:
        """Test scenes whose truth is named in the records but not found."""
        return tuple(s for s in self.scenes if s.has_truth and s.truth is None)

    def files(self) -> Iterator[Path]:
        """Give all files of which a report is made, in a fixed order: those of a folder are given, read or not."""
        paths = RunPaths(self.folder)
        yield from (paths.plan, paths.results)
        folders = []
        for cell in (cell for contender in self.contenders for cell in contender.cells):
            own, model = cell.paths, cell.paths.model
            yield from (own.record, own.split)
            yield from (model / name for name in ("training.json", "metrics.jsonl", "model.safetensors"))
            folders += [folder for t in cell.tested for folder in (t.prediction, t.scored, t.checks)]
        for scene in self.scenes:
            folders += [scene.product, scene.labels, paths.chart_checks(scene.name) / scene.labels.resolve().name]
            yield from filter(None, [scene.truth])
        for folder in folders:
            yield from (p for p in sorted(folder.glob("*")) if p.is_file() and not is_note(p.name))

    @property
    def scene_names(self) -> tuple[str, ...]:
        """Names of the test scenes in the study."""
        return tuple(s.name for s in self.scenes)


def read_run(folder: str | Path) -> RunFolder:
    """Read the folder of a comparison made by `floemap compare`.

    Raises
    ------
    FloemapError
        If `folder` is no such folder, no cell is finished, or a scene's product or labels are missing.
    """
    folder = existing_folder(folder, "Give the folder of a finished `floemap compare`.")
    paths = RunPaths(folder)
    if not paths.results.is_file():
        raise FloemapError(
            "holds no results.json, so it is not a finished comparison.",
            path=folder,
            hint="Give the folder of a finished `floemap compare`.",
        )
    results = read_json(paths.results)
    planned = read_json(paths.plan)
    with whole_records(folder, "holds records with"):
        return _run(paths, results, planned)


@contextmanager
def whole_records(path: Path, what: str = "has") -> Iterator[None]:
    """Raise a FloemapError that names `path` if a record lacks a value, or a value has a wrong type."""
    try:
        yield
    except (KeyError, TypeError, ValueError, ArithmeticError, AttributeError, IndexError, OSError) as e:
        raise FloemapError(f"{what} missing or wrong values: {e!r}.", path=path, hint=_AGAIN) from e


def _run(paths: RunPaths, results: Mapping[str, Any], planned: Mapping[str, Any]) -> RunFolder:
    cells, missing = [], []
    failed = results.get("failed", {})
    for about in planned.get("cells", []):
        name = str(about["cell"])
        if paths.cell(name).record.is_file():
            cells.append(_cell(paths.cell(name)))
        else:
            missing.append((name, str(failed.get(name, "not run to its end"))))
    tested = [t for c in cells for t in c.tested]
    if not tested:
        raise FloemapError("holds no finished cell, so there is nothing to report.", path=paths.folder / "cells")
    return RunFolder(
        folder=paths.folder,
        name=str(results.get("study", paths.folder.name)),
        configuration=dict(results.get("configuration", {})),
        results=results,
        legend=_legend(tested[0].evaluation, tested[0].scored / "evaluation.json"),
        scenes=_scenes(paths, cells),
        contenders=_contenders(cells, dict(results.get("configuration", {}))),
        missing=tuple(missing),
    )


def _cell(paths: CellPaths) -> Cell:
    record = read_json(paths.record)
    training = paths.model / "training.json"
    with whole_records(paths.record):
        cell = Cell(
            name=str(record["cell"]),
            loss=str(record["loss"]),
            repeat=int(record["repeat"]),
            axes=dict(record["axes"]),
            paths=paths,
            record=record,
            training=read_json(training) if training.is_file() else {},
            epochs=_epochs(paths.model / "metrics.jsonl"),
            tested=tuple(_tested(paths, str(record["cell"]), said) for said in record["tested"]),
        )
        for said in record["inputs"]["scenes"]:
            str(said["name"]), str(said["product"]), str(said["chart"]), dict(said.get("sha256") or {})
    return cell


def _tested(paths: CellPaths, cell: str, said: Mapping[str, Any]) -> Tested:
    """Read a cell's results of one scene. Names in a record cannot lead out of the cell's own folders."""
    scored = place_in(paths.evaluation, str(said["evaluation"]), "an evaluation", path=paths.record, kind=FloemapError)
    tested = Tested(
        scene=str(said["scene"]),
        cell=cell,
        prediction=place_in(
            paths.predictions, str(said["prediction"]), "a prediction", path=paths.record, kind=FloemapError
        ),
        scored=scored,
        checks=paths.checks / scored.name,
        evaluation=read_json(scored / "evaluation.json"),
    )
    with whole_records(scored / "evaluation.json"):
        str(tested.evaluation["legend"]["name"]), tested.weighted_f1, tested.within
    return tested


def _epochs(path: Path) -> tuple[Mapping[str, Any], ...]:
    """Return the lines of a training's metrics; none if there is no such file."""
    if not path.is_file():
        return ()
    try:
        lines = regular_file(path).read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError) as e:
        raise FloemapError(f"cannot be read: {e}.", path=path) from e
    rows = [parse_json(line, path) for line in lines if line.strip()]
    for number, row in enumerate(rows, 1):
        optional = [] if not isinstance(row, dict) else [row.get(k) for k in ("validation_loss", "weighted_f1")]
        needed = [None] if not isinstance(row, dict) else [row.get(k) for k in ("epoch", "loss", "learning_rate")]
        if not all(_is_number(x) for x in needed) or not all(x is None or _is_number(x) for x in optional):
            raise FloemapError(f"line {number} is not a training's epoch: {str(row)[:80]}.", path=path, hint=_AGAIN)
    return tuple(rows)


def _is_number(x: object) -> bool:
    return isinstance(x, int | float) and not isinstance(x, bool)


def _legend(evaluation: Mapping[str, Any], path: Path) -> Legend:
    return from_record(evaluation["legend"], path)


def _contenders(cells: list[Cell], configuration: Mapping[str, Any]) -> tuple[Contender, ...]:
    """Group cells by loss and value of each axis, in the order of the plan."""
    found: dict[tuple[Any, ...], list[Cell]] = {}
    for cell in cells:
        axes = tuple((k, v) for k, v in cell.axes.items() if k not in HELD_OUT)
        found.setdefault((cell.loss, axes), []).append(cell)
    contenders = []
    for (loss, axes), own in found.items():
        words = [f"{k.rpartition('.')[2].replace('_', ' ')} {v}" for k, v in axes]
        title = ", ".join([loss_title(loss, configuration), *words])
        key = "_".join([loss, *(f"{k.rpartition('.')[2]}-{v}" for k, v in axes)])
        contenders.append(Contender(key, title, tuple(own)))
    return tuple(contenders)


def _scenes(paths: RunPaths, cells: list[Cell]) -> tuple[Scene, ...]:
    """Return all test scenes of the cells, in the order of time."""
    found: dict[str, Scene] = {}
    for cell in cells:
        for said in cell.record["tested"]:
            name = str(said["scene"])
            if name in found:
                continue
            product = _found(paths, cell, said, "product", "product.json")
            labels = _found(paths, cell, said, "labels", "label.json")
            about = read_json(product / "product.json")
            found[name] = Scene(
                name=name,
                product=product,
                labels=labels,
                truth=_truth(cell, said),
                has_truth=bool(said.get("truth")),
                start=datetime.fromisoformat(str(about["scene"]["start"])),
                simulated=bool(about.get("simulated")) or bool(read_json(labels / "label.json").get("simulated")),
                about=about,
            )
    return tuple(sorted(found.values(), key=lambda s: (s.start, s.name)))


def _found(paths: RunPaths, cell: Cell, said: Mapping[str, Any], what: str, record: str) -> Path:
    """Find the folder of a scene's product or labels, relative to the run's place now, else to where it was made.

    Records of older software have absolute paths. Their folders are also searched in their usual places in the run.
    """
    told = Path(str(said[what]))
    usual = paths.data.prepared / told.name if what == "product" else paths.data.labels(told.parent.name) / told.name
    places = _places(cell, told)
    for place in (*places, usual):
        if (place / record).is_file():
            return place
    raise FloemapError(
        f"the {what} folder of scene {said['scene']} is missing.",
        path=places[0],
        hint="If the comparison was moved, move its scenes with it; or run `floemap compare` again.",
    )


def _truth(cell: Cell, said: Mapping[str, Any]) -> Path | None:
    """Find the raster of a scene's truth, which lies outside the run and may be missing after a move."""
    if not said.get("truth"):
        return None
    return next((place for place in _places(cell, Path(str(said["truth"]))) if place.is_file()), None)


def _places(cell: Cell, told: Path) -> list[Path]:
    """Return a record's path relative to the run's place now, and to the place where it was made."""
    here = cell.paths.folder.resolve()
    # Normalised as text: the folder from which the run was moved no longer exists, so the system cannot resolve it.
    return [Path(os.path.normpath(base / told)) for base in (here, Path(str(cell.record.get("made_in", here))))]
