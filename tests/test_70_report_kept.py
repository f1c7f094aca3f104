"""A report is kept as long as nothing has changed of what it is made, and is made again where anything has."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, NoReturn

import pytest
from run_maker import make_run

from floemap.errors import FloemapError
from floemap.evaluation.checks.scene_checks import STAGE as CHECKS
from floemap.report import report as report_module
from floemap.report.page import Pictures
from floemap.report.report import MAP, STAGE, Report, make_report
from floemap.results.run_paths import RunPaths
from floemap.viewer.found import EXPORTED

#: Files of a run that no report reads: tables for people, locks, what is remembered, what trainings alone need.
UNREAD = ("results.md", ".floemap.lock", "seen.json", ".seen.json.lock")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Report]:
    """A run of half a scene, with truth and polygons, and its report. What a test changes, it restores."""
    split = {"kind": "lists", "training": ["01"], "validation": ["07-SW"], "test": ["07-NE"]}
    folder = tmp_path_factory.mktemp("kept") / "run"
    run = make_run(folder, losses=("dice",), repeats=1, truth=True, polygons=True, values=True, split=split)
    with pytest.MonkeyPatch.context() as m:
        m.setattr(report_module, "_draw", lambda *_: Pictures({}, {}, [], []))
        return run, make_report(run, resamples=200)


class MadeAgainError(Exception):
    """The report would be made again."""


@pytest.fixture(autouse=True)
def unmade(made: tuple[Path, Report], monkeypatch: pytest.MonkeyPatch) -> None:
    """No test makes a report: it is enough to know that one would be made."""

    def make(*_: Any) -> NoReturn:
        raise MadeAgainError

    monkeypatch.setattr(report_module, "_make", make)


def is_kept(run: Path, **how: Any) -> bool:
    try:
        return make_report(run, **{"resamples": 200, **how}).skipped
    except MadeAgainError:
        return False


def test_an_unchanged_run_keeps_its_report(made: tuple[Path, Report], monkeypatch: pytest.MonkeyPatch) -> None:
    run, report = made
    before = {p: p.stat().st_mtime_ns for p in report.folder.rglob("*")}
    assert not report.skipped
    assert make_report(run, resamples=200) == replace(report, skipped=True)
    monkeypatch.setattr("floemap.results.stage.hashlib.file_digest", None)  # no file is read again
    assert is_kept(run)
    assert {p: p.stat().st_mtime_ns for p in report.folder.rglob("*")} == before


def test_a_run_that_was_copied_keeps_its_report_under_the_same_name_only(
    made: tuple[Path, Report], tmp_path: Path
) -> None:
    """Other times of files make no other report; the name of the run stands on the page."""
    run, _ = made
    for name, kept in ((run.name, True), ("other", False)):
        there = tmp_path / name / name
        shutil.copytree(run.parent, there.parent)
        if there.name != run.name:
            (there.parent / run.name).rename(there)
        assert is_kept(there) is kept


def test_every_change_of_what_is_read_makes_another(made: tuple[Path, Report]) -> None:
    """Whatever lies in the run or is its truth: each file by itself, by a character that JSON does not mind."""
    run, report = made
    data = RunPaths(run).data
    files = [p for folder in (run, run.parent / "truth") for p in sorted(folder.rglob("*")) if p.is_file()]
    trained = {p.parent for p in (*data.prepared.glob("*_01/*"), *data.labels("01").glob("*/*"))}
    apart = {report.folder, data.parts, *trained, run.parent / "truth" / "01.tif"}
    read = [p for p in files if p.name not in UNREAD and not apart & {p, *p.parents}]
    assert {p.suffix for p in read} == {".json", ".jsonl", ".tif", ".npz", ".csv", ".safetensors", ".qml"}
    for path in read:
        content = path.read_bytes()
        path.write_bytes(content + b"\n")
        try:
            assert not is_kept(run), path
        finally:
            path.write_bytes(content)
    assert is_kept(run), "all is as it was"


def test_a_file_that_is_gone_makes_another(made: tuple[Path, Report]) -> None:
    run, report = made
    # A folder without the record is nobody's report, which is not replaced.
    gone = [p for p in sorted(report.folder.rglob("*")) if p.is_file() and p.name != STAGE.record]
    gone += [*run.glob("cells/*/checks/*/*"), *run.glob("checks/*/*/*"), *run.parent.glob("truth/07.tif")]
    assert len(gone) > 15
    for path in gone:
        aside = path.rename(run.parent / "aside")
        try:
            assert not is_kept(run), path
        finally:
            aside.rename(path)
    assert is_kept(run)


@pytest.mark.parametrize(
    "change",
    [
        lambda _run, _patch: {"seed": 1},
        lambda _run, _patch: {"resamples": 300},
        lambda _run, _patch: {"overwrite": True},
        lambda _run, patch: patch.setattr(report_module, "STAGE", replace(STAGE, revision=99)),
        lambda _run, patch: patch.setattr(report_module, "CHECKS_STAGE", replace(CHECKS, revision=99)),
    ],
    ids=["seed", "resamples", "overwrite", "revision", "revision of the checks"],
)
def test_other_settings_or_code_make_another(
    change: Callable[..., dict[str, Any] | None], made: tuple[Path, Report], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert not is_kept(made[0], **(change(made[0], monkeypatch) or {}))


def test_a_map_beside_it_makes_another(made: tuple[Path, Report]) -> None:
    """The page has a link to it."""
    run, _ = made
    (run / MAP).mkdir()
    (run / MAP / EXPORTED).write_text("{}")
    assert not is_kept(run)
    shutil.rmtree(run / MAP)
    assert is_kept(run)


def test_a_kept_report_without_its_findings_is_named(made: tuple[Path, Report]) -> None:
    record = made[1].folder / "report.json"
    content = record.read_text()
    record.write_text(content.replace('"findings"', '"lost"'))
    with pytest.raises(FloemapError, match=r"make it again with `floemap report`"):
        make_report(made[0], resamples=200)
    record.write_text(content)
