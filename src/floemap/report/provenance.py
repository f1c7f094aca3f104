"""The provenance of the compared maps: scenes and hashes, trainings and hardware, versions, configuration."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from contextlib import suppress
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import tomli_w

from floemap.counts import millions
from floemap.evaluation.scoring.table import NONE, Table
from floemap.report.run_folder import Cell, RunFolder
from floemap.report.versions import versions_table
from floemap.results.stage import read_json, sha256
from floemap.version import __version__

_PACKAGES = ("numpy", "scipy", "rasterio", "pyproj", "odc-geo", "opencv-python-headless", "matplotlib", "torch")


def trainings_table(run: RunFolder) -> Table:
    """Return a table of all trainings: epochs, time, device."""
    header = (
        "training",
        "loss",
        "repeat",
        "epochs",
        "best epoch",
        "stopped",
        "parameters",
        "device",
        "training",
        "in all",
    )
    rows = []
    for contender in run.contenders:
        for cell in contender.cells:
            t = cell.training
            best = t.get("best") or {}
            best_epoch = best.get("epoch") if isinstance(best, Mapping) else best
            parameters = t.get("parameters")
            rows.append(
                (
                    cell.name, contender.title, str(cell.repeat), _text(t.get("epochs")), _text(best_epoch),
                    _text(t.get("stopped")), NONE if parameters is None else millions(parameters), _device(cell),
                    _duration(t.get("seconds")), _duration(cell.record.get("seconds")),
                )
            )  # fmt: skip
    note = "Last column: training, prediction and scoring of the run that finished the cell."
    return Table("Trainings", header, tuple(rows), (note,))


def _text(value: Any) -> str:
    return NONE if value is None else str(value)


def _device(cell: Cell) -> str:
    on = cell.training.get("trained_on") or {}
    words = [on.get("device"), on.get("name"), on.get("precision")]
    processes = on.get("processes", 1)
    if isinstance(processes, int) and processes > 1:
        words.append(f"{processes} processes")
    return ", ".join(str(w) for w in words if w) or NONE


def _duration(seconds: Any) -> str:
    if not isinstance(seconds, int | float):
        return NONE
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def made_tables(run: RunFolder) -> list[Table]:
    """Return tables of the scenes, the maps shown, the software, its revisions, and the hashes of all files used."""
    return [_scenes(run), _maps(run), _software(run), versions_table(run), _hashes(run)]


def _scenes(run: RunFolder) -> Table:
    """Return all scenes of the study and their uses."""
    first = run.contenders[0].cells[0]
    split = first.paths.split
    roles = _roles(read_json(split)) if split.is_file() else {}
    rows = []
    for said in first.record["inputs"]["scenes"]:
        name = str(said["name"])
        start = str(said.get("start", NONE))[:16].replace("T", " ")
        kind = "SIMULATED" if said.get("simulated") else "real"
        rows.append(
            (name, ", ".join(roles.get(name, [])) or NONE, start, str(said["product"]), str(said["chart"]), kind)
        )
    header = ("scene", "use", "start, UTC", "product", "chart", "kind")
    return Table("Scenes", header, tuple(rows), ("Uses are those of the first training.",) if roles else ())


def _hashes(run: RunFolder) -> Table:
    """Return the SHA-256 of bands and labels, as the comparison recorded them, and of the models' weights."""
    first = run.contenders[0].cells[0]
    rows = [
        (f"scene {said['name']}", str(file), str(digest))
        for said in first.record["inputs"]["scenes"]
        for file, digest in (said.get("sha256") or {}).items()
    ]
    for contender in run.contenders:
        for cell in contender.cells:
            if (weights := cell.paths.model / "model.safetensors").is_file():
                rows.append((cell.name, weights.name, sha256(weights)))
    return Table("Files by their SHA-256", ("of", "file", "SHA-256"), tuple(rows))


def _roles(split: Mapping[str, Any]) -> dict[str, list[str]]:
    """Return the uses of each scene, or of its halves, from split.json."""
    roles: dict[str, list[str]] = {}
    for part in split.get("parts", ()):
        roles.setdefault(str(part["scene"]["name"]), []).append(f"{part['role']} {part.get('half') or ''}".strip())
    return roles


def _maps(run: RunFolder) -> Table:
    """Return the training whose prediction each map shows."""
    rows = []
    for scene in run.scenes:
        for contender in run.contenders:
            t = contender.best(scene.name)
            if t is not None:
                record = t.prediction / "prediction.json"
                configuration = read_json(record).get("configuration", {}) if record.is_file() else {}
                how = ", ".join(str(configuration[k]) for k in ("engine", "precision") if k in configuration)
                rows.append((scene.name, contender.title, t.cell, f"{t.weighted_f1:.3f}", how or NONE))
    header = ("scene", "loss", "training", "weighted F1", "predicted with")
    return Table("Maps shown", header, tuple(rows), ("Of each loss the repeat with the highest weighted F1.",))


def _software(run: RunFolder) -> Table:
    rows = [
        ("comparison", str(run.results.get("software", NONE)), str(run.results.get("created", NONE))),
        ("this report", f"floemap {__version__}", f"Python {platform.python_version()}, {platform.machine()}"),
    ]
    rows += [(package, installed, "when the report was made") for package, installed in _installed()]
    return Table("Software", ("what", "version", "when and where"), tuple(rows))


@cache
def _installed() -> tuple[tuple[str, str], ...]:
    """Return the packages that are installed and their versions, which take long to look up."""
    found = []
    for package in _PACKAGES:
        with suppress(PackageNotFoundError):
            found.append((package, version(package)))
    return tuple(found)


def configuration_text(configuration: Mapping[str, Any]) -> str:
    """Return the study's settings as TOML for `floemap compare`, without settings that have no value."""
    return tomli_w.dumps(_given(configuration)).strip()


def _given(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(k): _given(v) for k, v in value.items() if v is not None}
    if isinstance(value, list | tuple):
        return [_given(v) for v in value]
    return value
