"""A result of another revision of its stage is made anew, never taken as it is; older records count as revision 0."""

from __future__ import annotations

import importlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tiny_model import ABOUT, WITH_TINY, scene, tiny_settings
from workshop import COMMANDS, Inputs

from floemap.datasets.extremeearth.split_halves import Footprint
from floemap.errors import ConfigError
from floemap.evaluation.checks import assess
from floemap.evaluation.checks import scene_checks as consistency
from floemap.evaluation.checks.scene_checks import pool_checks
from floemap.learning.training import loop as training
from floemap.learning.training import state
from floemap.legend import SIX_CLASSES
from floemap.results.stage import Stage, is_finished, provenance, read_json, revisions_in, write_json
from floemap.simulation import twin, twin_month
from floemap.study import scene as study_scene
from floemap.study import split

A = Stage("floemap a", "a.json", revision=3)


def raised(monkeypatch: pytest.MonkeyPatch, *places: str) -> None:
    """Raise the revision of a stage by one, wherever it is used."""
    for place in places:
        module, name = place.split(":")
        old: Stage = getattr(importlib.import_module(module), name)
        monkeypatch.setattr(f"{module}.{name}", replace(old, revision=old.revision + 1))


def without(path: Path, key: str) -> None:
    """Take a key out of a record."""
    write_json(path, {k: v for k, v in read_json(path).items() if k != key})


@pytest.mark.parametrize("command", COMMANDS)
def test_another_revision_is_made_anew(
    command: str, workshop: Inputs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = COMMANDS[command]
    module, name = job.stage[0].split(":")
    stage: Stage = getattr(importlib.import_module(module), name)
    record = tmp_path / job.result(workshop) / stage.record
    assert job.run(workshop, tmp_path).exit_code == 0
    assert read_json(record)["revision"] == stage.revision
    assert "(finished before)" in job.run(workshop, tmp_path).stdout
    raised(monkeypatch, *job.stage)
    again = job.run(workshop, tmp_path)
    assert again.exit_code == 0 and "(finished before)" not in again.stdout
    assert read_json(record)["revision"] == stage.revision + 1
    assert "(finished before)" in job.run(workshop, tmp_path).stdout


def test_a_chart_is_made_anew_where_a_stage_within_it_has_changed(
    workshop: Inputs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It prepares and predicts without leaving results of these, so its own record answers for them."""
    from floemap.inference.draftchart import folder as chart_folder

    job = COMMANDS["chart of a product"]
    assert job.run(workshop, tmp_path).exit_code == 0
    prepare, predict = chart_folder.STAGE.within
    other = replace(chart_folder.STAGE, within=(prepare, replace(predict, revision=predict.revision + 1)))
    monkeypatch.setattr(chart_folder, "STAGE", other)
    monkeypatch.setattr("floemap.inference.draftchart.chart.STAGE", other)
    assert "(finished before)" not in job.run(workshop, tmp_path).stdout
    assert "(finished before)" in job.run(workshop, tmp_path).stdout


def test_records_of_older_software_count_as_revision_0(tmp_path: Path) -> None:
    first = replace(A, revision=0)
    write_json(tmp_path / A.record, provenance(first, inputs={}, configuration={}))
    without(tmp_path / A.record, "revision")
    assert is_finished(tmp_path, first, [], inputs={}, configuration={})
    assert not is_finished(tmp_path, A, [], inputs={}, configuration={})
    # A stage that has come to do another's work within it takes that one's first revision for granted.
    assert is_finished(tmp_path, replace(first, within=(first,)), [], inputs={}, configuration={})
    assert not is_finished(tmp_path, replace(first, within=(A,)), [], inputs={}, configuration={})
    for odd in ("0", None, [0], {"floemap a": 0}):
        write_json(tmp_path / A.record, read_json(tmp_path / A.record) | {"revision": odd})
        assert not is_finished(tmp_path, first, [], inputs={}, configuration={})


def test_checks_of_another_revision_are_made_anew_and_never_pooled(
    workshop: Inputs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def assessed() -> assess.Assessment:
        return assess.assess_scene(workshop.prediction, workshop.labels, workshop.prepared, tmp_path)

    first = assessed()
    assert assessed().skipped
    raised(monkeypatch, "floemap.evaluation.checks.assess:STAGE", "floemap.evaluation.checks.scene_checks:STAGE")
    second = assessed()
    assert not second.skipped and assessed().skipped
    with pytest.raises(ConfigError, match=r"revisions \d+ and \d+ of the checks"):
        pool_checks([first.checks, second.checks])
    assert pool_checks([second.checks, second.checks])["scenes"] == 2
    older = {k: v for k, v in second.checks.items() if k != "revision"}
    with pytest.raises(ConfigError, match=r"revisions 0 and \d+"):
        pool_checks([older, second.checks])
    assert consistency.STAGE.record == assess.RECORD


def test_halves_of_another_revision_are_made_anew(
    workshop: Inputs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = study_scene.open_study_scene("01", workshop.prepared, workshop.labels, None, legend=SIX_CLASSES)
    assert isinstance(made.footprint, Footprint)
    share = split.Share(made, "NE", "train")

    def made_again() -> bool:
        before = mask.stat().st_ino if mask.exists() else None
        split.make_part(share, tmp_path, "sides")
        return mask.stat().st_ino != before

    mask = tmp_path / "01-NE" / "mask.tif"
    assert made_again() and not made_again()
    raised(monkeypatch, "floemap.study.split:STAGE")
    assert made_again() and not made_again()


def test_a_simulated_month_of_another_revision_is_not_finished(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (made,) = twin.make_twin(tmp_path, 64, months=[3])
    assert twin_month.finished_month(tmp_path, 3, 64, 0) == replace(made, skipped=True)
    raised(monkeypatch, "floemap.simulation.twin_month:STAGE")
    assert twin_month.finished_month(tmp_path, 3, 64, 0) is None
    without(made.truth / "truth.json", "revision")
    assert twin_month.finished_month(tmp_path, 3, 64, 0) is None


@pytest.mark.parametrize("finished", [True, False])
def test_a_training_of_another_revision_is_refused_and_kept(
    finished: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Hours of work are never thrown away unasked, nor gone on with by software that would learn otherwise."""
    monkeypatch.setattr("floemap.learning.models.registry.MODELS", WITH_TINY)

    def go(**options: Any) -> training.Trained:
        parts = [scene("a", 1)], [scene("v", 3)]
        return training.train(
            *parts, tiny_settings(max_epochs=1), SIX_CLASSES, tmp_path, about=ABOUT, device="cpu", **options
        )

    first = go()
    now = state.STAGE.revision
    assert read_json(first.record)["revision"] == now
    if not finished:
        first.record.unlink()
    raised(monkeypatch, "floemap.learning.training.state:STAGE", "floemap.learning.training.record:STAGE")
    before = {p: p.read_bytes() for p in tmp_path.iterdir()}
    with pytest.raises(ConfigError, match=rf"with other revision \({now}, now {now + 1}\).*--overwrite"):
        go()
    assert {p: p.read_bytes() for p in tmp_path.iterdir()} == before
    assert not go(overwrite=True).skipped
    assert go().skipped
    without(first.record, "revision")
    with pytest.raises(ConfigError, match=rf"with other revision \(0, now {now + 1}\)"):
        go()
    assert state.load_state(tmp_path / "state.pt").revision == now + 1


def test_a_record_without_a_revision_is_of_revision_0() -> None:
    """Of the stage's own and of those within it, whatever stands in the place of these."""
    whole = Stage("floemap whole", "whole.json", revision=1, within=(A,))
    for record in ({}, {"within": None}, {"within": [1]}, {"within": {"floemap b": 7}}):
        assert revisions_in(record, whole) == {"floemap whole": 0, "floemap a": 0}
    made = provenance(whole, inputs={}, configuration={})
    assert revisions_in(made, whole) == {"floemap whole": 1, "floemap a": 3}
