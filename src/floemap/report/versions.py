"""By which versions of the software a comparison's results were made, and a refusal where they do not go together."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from floemap.errors import FloemapError
from floemap.evaluation.scoring.tables import NONE, Table
from floemap.report.run_folder import RunFolder
from floemap.results.stage import read_json

#: The results of a comparison, by what they are, in the order in which they are made, and who makes each.
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
    """Return the versions of the software and the stages' revisions that made the run's results, by what they are."""
    told: dict[str, list[dict[str, Any]]] = {}
    for kind, records in _found(run).items():
        pairs = sorted({(str(r.get("software", NONE)), str(r.get("revision", 0))) for r in records})
        told[kind] = [{"software": software, "revision": revision} for software, revision in pairs]
    return told


def versions_table(run: RunFolder) -> Table:
    """Return the same as a table."""
    rows = [(k, v["software"], v["revision"], _KINDS[k]) for k, found in versions(run).items() for v in found]
    note = "A stage's revision rises when its numbers change. Results of two revisions of a stage are never compared."
    return Table("Versions", ("what", "made by", "revision", "of"), tuple(rows), (note,))


def refuse_mixed(run: RunFolder) -> None:
    """Refuse a run in which a stage's results are of two revisions: their numbers cannot be compared.

    Physical checks are not looked at: the report makes them anew where they are of another.

    Raises
    ------
    FloemapError
        Naming the stage and its revisions.
    """
    for kind, found in _found(run).items():
        revisions = sorted({str(r.get("revision", 0)) for r in found})
        if len(revisions) > 1 and kind != "physical checks":
            overwrite = " with --overwrite" if kind == "trainings" else ""
            raise FloemapError(
                f"holds {kind} of revisions {' and '.join(revisions)} of `{_KINDS[kind]}`, whose numbers differ.",
                path=run.folder,
                hint=f"Run `floemap compare` again{overwrite}: it makes what is of another revision anew.",
            )


def _found(run: RunFolder) -> dict[str, list[Mapping[str, Any]]]:
    """Records of the run's results, by what they are."""
    found: dict[str, list[Mapping[str, Any]]] = {kind: [] for kind in _KINDS}
    for kind, record in _records(run):
        found[kind].append(record)
    return {kind: records for kind, records in found.items() if records}


def _records(run: RunFolder) -> Iterator[tuple[str, Mapping[str, Any]]]:
    for scene in run.scenes:
        yield "prepared products", scene.about
        yield "labels", read_json(scene.labels / "label.json")
    for cell in (cell for contender in run.contenders for cell in contender.cells):
        if cell.training:
            yield "trainings", cell.training
        for tested in cell.tested:
            yield "scores", tested.evaluation
            others = {"predictions": tested.prediction / "prediction.json", "physical checks": tested.checks}
            others["physical checks"] /= "checks.json"
            yield from ((kind, read_json(path)) for kind, path in others.items() if path.is_file())
    yield "comparison", run.results
