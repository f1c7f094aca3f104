"""Versions of the software that made a comparison's results, and an error if revisions of a stage are mixed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from floemap.errors import FloemapError
from floemap.evaluation.scoring.table import NONE, Table
from floemap.report.run_folder import RunFolder
from floemap.results.seen import found_out
from floemap.results.stage import read_json

#: Kinds of results of a comparison, in the order in which they are made, and the command that makes each.
_KINDS = {
    "prepared products": "floemap prepare",
    "labels": "floemap label",
    "trainings": "floemap train",
    "predictions": "floemap predict",
    "scores": "floemap evaluate",
    "physical checks": "floemap report",
    "comparison": "floemap compare",
}


def versions(run: RunFolder) -> dict[str, list[dict[str, Any]]]:
    """Return the versions of the software and the revisions of stages that made the run's results, by kind."""
    told: dict[str, list[dict[str, Any]]] = {}
    for kind, makers in _found(run).items():
        pairs = sorted(makers)
        told[kind] = [{"software": software, "revision": revision} for software, revision in pairs]
    return told


def versions_table(run: RunFolder) -> Table:
    """Return the versions as a table."""
    rows = [(k, v["software"], v["revision"], _KINDS[k]) for k, found in versions(run).items() for v in found]
    note = "A stage's revision rises when its numbers change. Results of two revisions of a stage are never compared."
    return Table("Versions", ("what", "made by", "revision", "of"), tuple(rows), (note,))


def refuse_mixed(run: RunFolder) -> None:
    """Raise an error if a stage's results are of two revisions, because their numbers cannot be compared.

    Physical checks are exempt: the report makes them anew if they are of another revision.

    Raises
    ------
    FloemapError
        If revisions are mixed. The message names the stage and its revisions.
    """
    for kind, found in _found(run).items():
        revisions = sorted({revision for _, revision in found})
        if len(revisions) > 1 and kind != "physical checks":
            overwrite = " with --overwrite" if kind == "trainings" else ""
            raise FloemapError(
                f"holds {kind} of revisions {' and '.join(revisions)} of `{_KINDS[kind]}`, whose numbers differ.",
                path=run.folder,
                hint=f"Run `floemap compare` again{overwrite}: it replaces results of other revisions.",
            )


def _found(run: RunFolder) -> dict[str, set[tuple[str, str]]]:
    """Return the software and revision of the run's results, by kind."""
    found: dict[str, set[tuple[str, str]]] = {kind: set() for kind in _KINDS}
    for kind, (software, revision) in _makers(run):
        found[kind].add((software, revision))
    return {kind: makers for kind, makers in found.items() if makers}


def _makers(run: RunFolder) -> Iterator[tuple[str, list[str]]]:
    for scene in run.scenes:
        yield "prepared products", _maker(scene.about)
        yield "labels", _maker_in(scene.labels / "label.json")
    for cell in (cell for contender in run.contenders for cell in contender.cells):
        if cell.training:
            yield "trainings", _maker(cell.training)
        for tested in cell.tested:
            yield "scores", _maker(tested.evaluation)
            others = {"predictions": tested.prediction / "prediction.json", "physical checks": tested.checks}
            others["physical checks"] /= "checks.json"
            yield from ((kind, _maker_in(path)) for kind, path in others.items() if path.is_file())
    yield "comparison", _maker(run.results)


def _maker(record: Mapping[str, Any]) -> list[str]:
    return [str(record.get("software", NONE)), str(record.get("revision", 0))]


def _maker_in(path: Path) -> list[str]:
    """Return what a record says, which is remembered: of many scenes, reading all records takes a minute."""
    made: list[str] = found_out("maker", [path], lambda: _maker(read_json(path)))
    return made
