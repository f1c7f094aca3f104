"""What a comparison left in its folder, as the report needs it: contenders, their cells, their test scenes.

Only JSON is read here. Paths in records are relative to them, so a run that was moved or copied is read like any other.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import Any

from floemap.errors import FloemapError, known_names
from floemap.evaluation.statistics.summary import HELD_OUT
from floemap.files import regular_file
from floemap.legend import LEGENDS, Legend
from floemap.results.names import place_in
from floemap.results.run_paths import CellPaths, RunPaths
from floemap.results.stage import parse_json, read_json

_AGAIN = "Run `floemap compare` again: it writes them anew."
#: Losses as people call them.
LOSS_TITLES = {
    "cross_entropy": "Cross-entropy",
    "dice": "Dice",
    "generalized_dice": "Generalised Dice",
    "macro_dice": "Macro Dice",
    "pooled_dice": "Pooled Dice",
    "focal": "Focal",
}
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
        As the study calls it.
    product, labels
        Folders of the prepared product and of the labels.
    truth
        Raster of the truth; None where the scene has none, or it is not found.
    has_truth
        Whether records name one.
    start
        Of the acquisition.
    simulated
        Whether product or chart are.
    about
        What product.json says.
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
        """Such as `` (NE)`` where only that half of the scene is tested."""
        return next((f" ({half})" for half in ("SW", "NE") if self.name.endswith(f"-{half}")), "")

    @property
    def title(self) -> str:
        """Such as ``16 January 2018, 07:54 UTC``."""
        return f"{self.start.day} {_MONTHS[self.start.month - 1]} {self.start.year}, {self.start:%H:%M} UTC{self.half}"

    @property
    def short(self) -> str:
        """Such as ``January 2018``."""
        return f"{_MONTHS[self.start.month - 1]} {self.start.year}{self.half}"

    @property
    def raster(self) -> Path:
        """The bands."""
        return self.product / "product.tif"

    @property
    def label_raster(self) -> Path:
        """The chart's classes."""
        return self.labels / "labels.tif"


@dataclass(frozen=True)
class Tested:
    """One scene, or a half of one, as one cell predicted it, and its scores.

    Attributes
    ----------
    scene
        As the study calls it.
    cell
        Name.
    prediction, scored
        Folders of the prediction and of its evaluation.
    checks
        Folder of its physical checks, which need not be there.
    evaluation
        What evaluation.json says.
    """

    scene: str
    cell: str
    prediction: Path
    scored: Path
    checks: Path
    evaluation: Mapping[str, Any]

    @property
    def classes(self) -> Path:
        """The predicted classes."""
        return self.prediction / "classes.tif"

    @property
    def probabilities(self) -> Path:
        """The predicted probabilities; need not be there."""
        return self.prediction / "probabilities.tif"

    @property
    def within(self) -> Path | None:
        """Where only a part of the scene was scored: a raster that is 255 outside of it."""
        return self.scored / "errors.tif" if "mask" in self.evaluation.get("inputs", {}) else None

    @property
    def weighted_f1(self) -> float:
        """Against the chart; -1 where it is not defined."""
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
    """What is compared: a loss, with its values of further axes, and all its cells."""

    key: str
    title: str
    cells: tuple[Cell, ...]

    def of(self, scene: str) -> list[Tested]:
        """Return all predictions of a scene, repeat by repeat."""
        return [t for c in self.cells for t in c.tested if t.scene == scene]

    def best(self, scene: str) -> Tested | None:
        """Return the prediction of a scene with the highest weighted F1, the first of equals."""
        return max(self.of(scene), key=lambda t: t.weighted_f1, default=None)

    def whole_repeats(self, scenes: tuple[str, ...]) -> dict[int, dict[str, Tested]]:
        """Return by repeat and scene the predictions of repeats that have all scenes."""
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
        """Whether any of it is."""
        said = any(c.record.get("simulated") for k in self.contenders for c in k.cells)
        return said or any(s.simulated for s in self.scenes) or bool(self.results["summary"].get("simulated"))

    @property
    def truths(self) -> dict[str, Path]:
        """The truth of each test scene by name, which checks compare maps with; empty unless all scenes have one."""
        found = {s.name: s.truth for s in self.scenes if s.truth is not None}
        return found if len(found) == len(self.scenes) else {}

    @property
    def truths_gone(self) -> tuple[Scene, ...]:
        """Test scenes whose truth the records name and that is not found."""
        return tuple(s for s in self.scenes if s.has_truth and s.truth is None)

    @property
    def scene_names(self) -> tuple[str, ...]:
        """As the study calls them."""
        return tuple(s.name for s in self.scenes)


def read_run(folder: str | Path) -> RunFolder:
    """Read what `floemap compare` left.

    Raises
    ------
    FloemapError
        If it is no such folder, nothing in it is finished, or a scene's product or labels are gone.
    """
    folder = Path(folder)
    paths = RunPaths(folder)
    if not paths.results.is_file():
        raise FloemapError(
            "holds no results.json, so it is no finished comparison.",
            path=folder,
            hint="Give the folder of `floemap compare`, and let it finish.",
        )
    results = read_json(paths.results)
    planned = read_json(paths.plan)
    try:
        return _run(paths, results, planned)
    except (KeyError, TypeError, ValueError, ArithmeticError, AttributeError, IndexError, OSError) as e:
        raise FloemapError(f"holds records that lack or have wrong: {e!r}.", path=folder, hint=_AGAIN) from e


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
        legend=_legend(tested[0].evaluation),
        scenes=_scenes(paths, cells),
        contenders=_contenders(cells),
        missing=tuple(missing),
    )


def _cell(paths: CellPaths) -> Cell:
    record = read_json(paths.record)
    training = paths.model / "training.json"
    try:
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
    except (KeyError, TypeError, ValueError, ArithmeticError, AttributeError) as e:
        raise FloemapError(f"lacks or has wrong: {e!r}.", path=paths.record, hint=_AGAIN) from e
    return cell


def _tested(paths: CellPaths, cell: str, said: Mapping[str, Any]) -> Tested:
    """Read what was found of one scene. Names in a record lead nowhere but into the cell's own folders."""
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
    try:
        str(tested.evaluation["legend"]["name"]), tested.weighted_f1, tested.within
    except (KeyError, TypeError, ValueError, ArithmeticError, AttributeError) as e:
        raise FloemapError(f"lacks or has wrong: {e!r}.", path=scored / "evaluation.json", hint=_AGAIN) from e
    return tested


def _epochs(path: Path) -> tuple[Mapping[str, Any], ...]:
    """Lines of a training's metrics; none where there is no such file."""
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
            raise FloemapError(f"line {number} is no epoch of a training: {str(row)[:80]}.", path=path, hint=_AGAIN)
    return tuple(rows)


def _is_number(x: object) -> bool:
    return isinstance(x, int | float) and not isinstance(x, bool)


def _legend(evaluation: Mapping[str, Any]) -> Legend:
    name = str(evaluation["legend"]["name"])
    if name not in LEGENDS:
        raise FloemapError(f"the legend {name!r} is not known.", hint=known_names(name, LEGENDS))
    return LEGENDS[name]


def _contenders(cells: list[Cell]) -> tuple[Contender, ...]:
    """Cells of one loss and one value of each axis, in the order of the plan."""
    found: dict[tuple[Any, ...], list[Cell]] = {}
    for cell in cells:
        axes = tuple((k, v) for k, v in cell.axes.items() if k not in HELD_OUT)
        found.setdefault((cell.loss, axes), []).append(cell)
    contenders = []
    for (loss, axes), own in found.items():
        words = [f"{k.rpartition('.')[2].replace('_', ' ')} {v}" for k, v in axes]
        title = ", ".join([LOSS_TITLES.get(loss, loss.replace("_", " ")), *words])
        key = "_".join([loss, *(f"{k.rpartition('.')[2]}-{v}" for k, v in axes)])
        contenders.append(Contender(key, title, tuple(own)))
    return tuple(contenders)


def _scenes(paths: RunPaths, cells: list[Cell]) -> tuple[Scene, ...]:
    """All scenes that a cell was tested on, by time."""
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
    """Find the folder of a scene's product or labels: from where the run is now, else from where it was made.

    Records of older software have whole paths; of those, what lies in the run is looked for where a run has it.
    """
    told = Path(str(said[what]))
    usual = paths.data.prepared / told.name if what == "product" else paths.data.labels(told.parent.name) / told.name
    places = _places(cell, told)
    for place in (*places, usual):
        if (place / record).is_file():
            return place
    raise FloemapError(
        f"the {what} of scene {said['scene']} is not there.",
        path=places[0],
        hint="Was the comparison moved away from its scenes? Bring them together, or run `floemap compare` again.",
    )


def _truth(cell: Cell, said: Mapping[str, Any]) -> Path | None:
    """Find the raster of a scene's truth, which lies outside of the run: it need not have been moved along."""
    if not said.get("truth"):
        return None
    return next((place for place in _places(cell, Path(str(said["truth"]))) if place.is_file()), None)


def _places(cell: Cell, told: Path) -> list[Path]:
    """Return where a path of a cell's record may lead: from where the run is now, and from where it was made."""
    here = cell.paths.folder.resolve()
    # Read as words: a folder that the run was moved away from is no more, and the system finds no way through it.
    return [Path(os.path.normpath(base / told)) for base in (here, Path(str(cell.record.get("made_in", here))))]
