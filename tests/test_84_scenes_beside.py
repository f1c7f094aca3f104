"""Scenes are prepared side by side as one after the other; what befalls one is said of it and concerns no other."""

from __future__ import annotations

import shutil
import sys
import time
from pathlib import Path

import pytest
from workshop import Inputs, run

from floemap.datasets.base import SceneFiles
from floemap.errors import FloemapError
from floemap.results.run_paths import DataPaths
from floemap.results.seen import remembering
from floemap.study import preparing
from floemap.study.data import make_data
from floemap.study.preparing import scene_jobs
from floemap.study.settings import DataSettings


def settings_of(workshop: Inputs, folder: Path, names: str = "abc") -> DataSettings:
    """Scenes of one product, each with a chart of its own; that of the second is no chart."""
    charts = {name: folder / f"{name}.gpkg" for name in names}
    for name, chart in charts.items():
        shutil.copy(workshop.chart, chart)
        if name == "b":
            chart.write_bytes(chart.read_bytes()[:1000])
    scenes = [{"name": n, "product": workshop.product, "chart": c} for n, c in charts.items()]
    return DataSettings.checked(legend="six_classes", scenes=scenes, prepare={"resolution_m": 4000})


def children() -> set[str]:
    return {pid for path in Path("/proc/self/task").glob("*/children") for pid in path.read_text().split()}


def test_scenes_side_by_side_are_those_of_one_process(workshop: Inputs, tmp_path: Path) -> None:
    settings = settings_of(workshop, tmp_path, "ac")
    alone = make_data(settings, tmp_path / "alone", jobs=1)
    before, heard = children(), list[tuple[float, float, str]]()
    data = DataPaths(tmp_path / "beside")
    with remembering(data.seen):
        beside = make_data(settings, data.folder, jobs=2, progress=lambda *told: heard.append(told))
    assert [s.name for s in beside] == ["a", "c"]
    assert [s.hashes["labels.tif"] for s in beside] == [s.hashes["labels.tif"] for s in alone]
    assert [s.hashes["product.tif"] for s in beside] == [s.hashes["product.tif"] for s in alone]
    assert heard[-1][:2] == (2, 2) and all(0 <= done <= total == 2 for done, total, _ in heard)
    assert data.seen.is_file()
    until = time.monotonic() + 120
    while children() - before:
        assert time.monotonic() < until, "a process is left"
        time.sleep(0.05)


def test_a_scene_that_fails_is_named_and_the_others_are_finished(workshop: Inputs, tmp_path: Path) -> None:
    settings = settings_of(workshop, tmp_path)
    study = tmp_path / "study.toml"
    scenes = "\n".join(
        f'[[data.scenes]]\nname = "{s.name}"\nproduct = "{s.product}"\nchart = "{s.chart}"' for s in settings.scenes
    )
    study.write_text(
        f'[data]\nlegend = "six_classes"\nprepare.resolution_m = 4000\n{scenes}\n'
        '[split]\nkind = "lists"\ntraining = ["a"]\nvalidation = ["c"]\n'
    )
    result = run("train", study, "--out", tmp_path / "run", "--jobs", "2")
    assert result.exit_code == 1
    assert "scene b: " in result.stderr and "b.gpkg" in result.stderr
    for name in "ac":
        assert (tmp_path / "run" / "data" / "labels" / name / name / "label.json").is_file()
    with pytest.raises(FloemapError, match=r"2 of 3 scenes could not be prepared: b, c\."):
        settings.scenes[2].chart.write_bytes(b"")
        make_data(settings, tmp_path / "run" / "data", jobs=1)


def test_a_process_that_the_system_kills_costs_its_scene_only(
    workshop: Inputs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    killed = tmp_path / "killed"
    kill, answer = 'case "$scene" in *a.gpkg*) kill -9 $$;; esac', """echo '{"seen": {}}'"""
    lines = ["#!/bin/sh", "read settings", "while read scene", f"do {kill}", answer, "done", ""]
    killed.write_text("\n".join(lines))
    killed.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(killed))
    settings = settings_of(workshop, tmp_path, "acd")
    files = [SceneFiles(s.name, s.product, s.chart) for s in settings.scenes]
    for jobs in (1, 3):
        made = dict(preparing.prepare_beside(files, settings, tmp_path, jobs, lambda *_: None))
        assert made.keys() == {"a", "c", "d"} and made["c"] is None and made["d"] is None
        assert "killed by SIGKILL" in str(made["a"]) and "lower --jobs" in str(made["a"])
    monkeypatch.setattr(sys, "executable", str(tmp_path / "missing"))
    (outcome,) = preparing.prepare_beside(files[:1], settings, tmp_path, 1, lambda *_: None)
    assert isinstance(outcome[1], FloemapError) and "missing" in str(outcome[1])


def test_the_number_of_scenes_at_a_time_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    def jobs(cores: int, gib: float | None, resolution_m: float = 80.0) -> int:
        monkeypatch.setattr(preparing, "usable_cores", lambda: cores)
        monkeypatch.setattr(preparing, "free_memory", lambda: None if gib is None else int(gib * 2**30))
        return scene_jobs(resolution_m)

    assert jobs(64, 1000) == 32 and jobs(64, None) == 32
    assert jobs(64, 16) == 10 and jobs(64, 16, 40.0) == 2
    assert jobs(1, 1000) == jobs(64, 0.1) == 1


def test_a_process_that_writes_no_text_and_ends_is_not_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A library of C may write in any encoding where answers are expected."""
    python = tmp_path / "python"
    python.write_text("#!/bin/sh\nread settings; read scene; printf 'gel\\366scht\\n'; exit 3\n")
    python.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(python))
    scene = SceneFiles("a", tmp_path / "a", tmp_path / "a.gpkg", None, None)
    settings = DataSettings.checked(scenes=[{"name": "a", "product": tmp_path / "a", "chart": tmp_path / "a.gpkg"}])
    ((name, error),) = preparing.prepare_beside([scene], settings, tmp_path, 1, lambda *told: None)
    assert name == "a" and "ended with exit code 3" in str(error)
