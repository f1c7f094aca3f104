"""Trainings side by side: no process outlives the comparison that started it, and all that they say is kept."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from processes import descendants, is_running
from safetensors.torch import load_file
from workshop import Inputs, a_month_later

from floemap.errors import FloemapError, OutputError
from floemap.learning.training.state import WEIGHTS
from floemap.results.stage import alone_in, read_json, write_json
from floemap.study.beside import run_beside
from floemap.study.cells import plan
from floemap.study.compare import compare
from floemap.study.settings import Study
from floemap.study.spread import gather_comparison, plan_comparison, run_cell


@pytest.fixture(scope="module")
def scenes(workshop: Inputs, tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, str]]:
    """One to learn from, and the same a month later to test on."""
    later = a_month_later(workshop.prepared, tmp_path_factory.mktemp("later") / "S1A_a_month_later")
    products = {"a": workshop.prepared, "b": later}
    return [{"name": n, "product": str(p), "chart": str(workshop.labels)} for n, p in products.items()]


def study_of(scenes: list[dict[str, str]], losses: list[str], epochs: int) -> Study:
    return Study.checked(
        data={"legend": "six_classes", "scenes": scenes},
        split={"kind": "lists", "training": ["a-SW"], "validation": ["a-NE"], "test": ["b"]},
        crops={"size_px": 64, "per_scene": 2},
        training={"batch": 2, "max_epochs": epochs, "stop_after": 100_000, "patience": 1000, "precision": "fp32"},
        compare={"losses": losses, "repeats": 1},
    )


@pytest.fixture
def comparison(scenes: list[dict[str, str]], tmp_path: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A comparison of two losses side by side that would run for hours, with both trainings under way."""
    study = tmp_path / "study.json"
    study.write_text(study_of(scenes, ["dice", "focal"], 100_000).model_dump_json())
    script = (
        "import os, signal, sys, threading; from pathlib import Path\n"
        # It ends with these tests, too, should they be ended.
        "def watch():\n"
        "    os.read(0, 1)\n"
        "    os._exit(1)\n"
        "threading.Thread(target=watch, daemon=True).start()\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "from floemap.study.compare import compare; from floemap.study.settings import Study\n"
        f"compare(Study.model_validate_json(Path({str(study)!r}).read_text()), {str(tmp_path / 'out')!r}, jobs=2)\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", script], stdin=subprocess.PIPE, start_new_session=True,
    )  # fmt: skip
    try:
        until = time.monotonic() + 300
        states = [tmp_path / "out" / "cells" / f"{loss}_r0" / "model" / "state.pt" for loss in ("dice", "focal")]
        while not all(s.exists() for s in states):
            assert process.poll() is None and time.monotonic() < until, "it never began"
            time.sleep(0.1)
        yield process
    finally:
        for pid in descendants(process.pid):
            os.kill(pid, signal.SIGKILL)
        process.kill()
        process.communicate()


@pytest.mark.parametrize("how", ["SIGKILL", "Ctrl-C"])
def test_no_process_outlives_its_comparison(
    how: str, comparison: subprocess.Popen[bytes], scenes: list[dict[str, str]], tmp_path: Path
) -> None:
    """To the one process, or, as Ctrl-C on a terminal, to all."""
    workers = descendants(comparison.pid)
    assert len(workers) >= 2
    if how == "Ctrl-C":
        os.killpg(comparison.pid, signal.SIGINT)
    else:
        comparison.kill()
    comparison.wait(timeout=120)
    until = time.monotonic() + 120
    while left := [pid for pid in workers if is_running(pid)]:
        assert time.monotonic() < until, left
        time.sleep(0.1)
    # And the next one goes on at once: with other settings here, which it says of both.
    with pytest.raises(FloemapError, match="unfinished training with other"):
        compare(study_of(scenes, ["dice", "focal"], 1), tmp_path / "out", report=False)


@pytest.fixture(scope="module")
def compared(
    scenes: list[dict[str, str]], tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, list[tuple[float, str]]]:
    """A comparison of two losses side by side, and what its progress said."""
    heard: list[tuple[float, str]] = []
    out = tmp_path_factory.mktemp("compared") / "out"

    def progress(done: float, total: float, what: str) -> None:
        heard.append((done / total, what))

    done = compare(study_of(scenes, ["dice", "focal"], 2), out, jobs=2, report=False, progress=progress)
    assert not done.failed
    return out, heard


def test_what_trainings_say_is_shown_and_kept(compared: tuple[Path, list[tuple[float, str]]]) -> None:
    out, heard = compared
    for loss in ("dice", "focal"):
        assert any(what.startswith(f"{loss}_r0: ") and "epoch" in what for _, what in heard)
        log = (out / "cells" / f"{loss}_r0" / "log.txt").read_text()
        assert "INFO" in log and "epoch" in log
    shares = [share for share, _ in heard]
    assert shares == sorted(shares) and shares[-1] == 1


def test_a_comparison_in_steps_is_the_same_to_the_bit(
    scenes: list[dict[str, str]], compared: tuple[Path, list[tuple[float, str]]], tmp_path: Path
) -> None:
    """Planned, its cells run by two processes at the same time as on two hosts, then gathered."""
    out = tmp_path / "out"
    study = study_of(scenes, ["dice", "focal"], 2)
    assert plan_comparison(study, out, jobs=1) == ("dice_r0", "focal_r0")
    none = r"none of the 2 cells of the plan is finished \(not begun: {}\).*floemap cell NAME --out"
    with pytest.raises(FloemapError, match=none.format("dice_r0, focal_r0")):
        gather_comparison(out)
    (out / "cells" / "focal_r0").mkdir(parents=True)
    with pytest.raises(FloemapError, match=none.format("dice_r0; begun: focal_r0")):
        gather_comparison(out)
    assert not (out / "results.json").exists()
    call = [sys.executable, "-c", "from floemap.cli.main import main; main()", "cell", "dice_r0", "--out", str(out)]
    with subprocess.Popen(call) as other:
        assert run_cell(out, 1) == out / "cells" / "focal_r0" / "cell.json"
        half = gather_comparison(out, report=False) if other.poll() is None else None
        assert half is None or list(half.failed) == ["dice_r0"]
        assert other.wait() == 0
    done = gather_comparison(out, report=False)
    assert not done.failed
    true = compared[0]
    assert read_json(done.results)["summary"] == read_json(true / "results.json")["summary"]
    assert (out / "results.md").read_bytes() == (true / "results.md").read_bytes()
    for loss in ("dice", "focal"):
        cell, of_one = out / "cells" / f"{loss}_r0", true / "cells" / f"{loss}_r0"
        assert load_file(cell / "model" / WEIGHTS).keys() == load_file(of_one / "model" / WEIGHTS).keys()
        for name, tensor in load_file(cell / "model" / WEIGHTS).items():
            assert tensor.equal(load_file(of_one / "model" / WEIGHTS)[name]), name
        (classes,) = cell.rglob("classes.tif")
        assert classes.read_bytes() == (of_one / classes.relative_to(cell)).read_bytes()
    # A cell of other settings than the plan's does not count.
    record = read_json(out / "cells" / "dice_r0" / "cell.json")
    record["configuration"]["training"]["batch"] = 99
    write_json(out / "cells" / "dice_r0" / "cell.json", record)
    failed = gather_comparison(out, report=False).failed
    assert list(failed) == ["dice_r0"] and "other settings" in failed["dice_r0"]


def test_cells_that_cannot_be_run(compared: tuple[Path, list[tuple[float, str]]], tmp_path: Path) -> None:
    out = compared[0]
    with pytest.raises(FloemapError, match=r"has no plan\.json.*floemap plan"):
        run_cell(tmp_path, "dice_r0")
    with pytest.raises(FloemapError, match=r"no cell 'dcie_r0'.*'dice_r0'"):
        run_cell(out, "dcie_r0")
    with pytest.raises(FloemapError, match="no cell 2: the plan has 2, from 0"):
        run_cell(out, 2)
    with alone_in(out / "cells" / "dice_r0", "runs"), pytest.raises(OutputError, match="another run runs it"):
        run_cell(out, "dice_r0")


def test_why_a_training_failed_is_said_with_where_all_of_it_is(scenes: list[dict[str, str]], tmp_path: Path) -> None:
    study = study_of(scenes, ["dice"], 1)
    (cell,) = plan(study, ["a", "b"])
    ((_, outcome),) = run_beside([cell], tmp_path, 2, [], False, lambda *_: None)
    assert isinstance(outcome, FloemapError)
    assert "plan.json" in str(outcome) and str(tmp_path / "cells" / "dice_r0" / "log.txt") in str(outcome)


@pytest.mark.parametrize("jobs", [1, 2, 3, 1000])
def test_trainings_side_by_side_have_no_more_threads_than_cores(
    jobs: int, scenes: list[dict[str, str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    echo = tmp_path / "echo"
    echo.write_text("#!/bin/sh\necho threads $OMP_NUM_THREADS >&2\nexit 1\n")
    echo.chmod(0o755)
    monkeypatch.setattr("floemap.study.beside.sys.executable", str(echo))
    (cell,) = plan(study_of(scenes, ["dice"], 1), ["a", "b"])

    def threads(folder: str) -> int:
        ((_, outcome),) = run_beside([cell], tmp_path / folder, jobs, [], False, lambda *_: None)
        assert isinstance(outcome, FloemapError)
        return int((tmp_path / folder / "cells" / "dice_r0" / "log.txt").read_text().split()[1])

    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    shared = threads("shared")
    cores = len(os.sched_getaffinity(0))
    assert shared == 1 or shared * jobs <= cores < (shared + 1) * jobs
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    assert threads("given") == 7


def test_one_comparison_at_a_time_in_a_folder(scenes: list[dict[str, str]], tmp_path: Path) -> None:
    with alone_in(tmp_path / "out", "compares in"), pytest.raises(OutputError, match="another run compares in it"):
        compare(study_of(scenes, ["dice"], 1), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_what_a_library_writes_is_kept_in_whatever_encoding(
    scenes: list[dict[str, str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    python = tmp_path / "python"
    python.write_text("#!/bin/sh\nprintf 'gel\\366scht\\n'; exit 3\n")
    python.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(python))
    cells = plan(study_of(scenes, ["dice"], 1), ["a", "b"])
    ((_, error),) = run_beside(cells, tmp_path, 1, [], False, lambda *told: None)
    assert isinstance(error, FloemapError) and "gel\ufffdscht" in str(error)
