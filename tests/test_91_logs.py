"""What is written where nobody watches: milestones as whole lines, and a log file."""

from __future__ import annotations

import logging
import re
import sys
from pathlib import Path
from typing import Any

import pytest
from rasterio.errors import NotGeoreferencedWarning
from typer.testing import CliRunner

import floemap
from floemap.cli import main as cli_main  # noqa: F401  registers the commands
from floemap.cli.app import _log_warning, app, set_up_logging
from floemap.progress import BESIDE_BARS, Progress, milestones, silent, with_bar
from floemap.version import __version__

RUN = CliRunner()
LINE = re.compile(r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d (INFO|WARNING|DEBUG) .+$")


def lines_of(capsys: pytest.CaptureFixture[str]) -> list[str]:
    return capsys.readouterr().err.splitlines()


def say() -> None:
    milestones.info("epoch 1 of at most 3: %s", "a/" * 100)
    logging.getLogger("floemap.somewhere").info("a detail")
    logging.getLogger("floemap.somewhere").debug("a small detail")
    logging.getLogger("floemap.somewhere").warning("a warning")


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, ["epoch", "a warning"]),
        ({"verbose": True}, ["epoch", "a detail", "a warning"]),
        ({"debug": True}, ["epoch", "a detail", "a small detail", "a warning"]),
        ({"quiet": True}, ["a warning"]),
    ],
)
def test_a_log_without_a_terminal_has_milestones_as_whole_lines(
    options: dict[str, Any], expected: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    set_up_logging(**options)
    say()
    lines = lines_of(capsys)
    assert all(LINE.match(line) for line in lines), lines
    assert [line.split(" ", 2)[2][: len(e)] for line, e in zip(lines, expected, strict=True)] == expected


def test_a_terminal_shows_warnings_and_leaves_the_rest_to_bars(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    set_up_logging()
    say()
    text = capsys.readouterr().err
    assert "a warning" in text and "epoch" not in text and "a detail" not in text
    milestones.info("finished after 3 epochs", extra=BESIDE_BARS)
    assert "finished after 3 epochs" in capsys.readouterr().err, "what no bar tells"


@pytest.mark.parametrize("options", [{}, {"quiet": True}])
def test_a_log_file_has_all_of_it_and_grows(tmp_path: Path, options: dict[str, Any]) -> None:
    log = tmp_path / "logs" / "run.log"
    for _ in range(2):
        set_up_logging(log=log, **options)
        say()
    lines = log.read_text(encoding="utf-8").splitlines()
    assert len(lines) == 6 and all(LINE.match(line) for line in lines)
    assert "a detail" in lines[1]


def test_a_log_file_that_cannot_be_written_is_one_clear_error(tmp_path: Path) -> None:
    done = RUN.invoke(app, ["info", str(tmp_path), "--log", str(tmp_path)])
    assert done.exit_code == 1
    assert done.stderr.startswith("error: ") and "cannot be written" in done.stderr


def test_warnings_of_libraries_are_lines_but_for_the_one_that_says_nothing(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Whatever the filters are: those of a block may be undone by a library in another thread."""
    monkeypatch.setattr(logging.getLogger("floemap"), "propagate", True)
    for category in (NotGeoreferencedWarning, UserWarning):
        _log_warning("words", category, "file.py", 1)
    assert [r.getMessage() for r in caplog.records] == ["UserWarning: words"]


def test_the_version_is_said() -> None:
    done = RUN.invoke(app, ["--version"])
    assert done.exit_code == 0 and done.stdout.strip() == f"floemap {__version__}"


def test_public_names_are_listed_before_they_are_loaded() -> None:
    assert dir(floemap) == sorted(floemap.__all__)
    assert all(getattr(floemap, name) is not None for name in dir(floemap))


def steps(progress: Progress = silent) -> str:
    for done in range(5):
        progress(done, 4, f"step [{done}]")
    return "result"


def test_progress_true_shows_lines_without_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    assert with_bar(steps)(progress=True) == "result"
    lines = capsys.readouterr().err.splitlines()
    assert lines == ["steps:   0% step [0]", "steps: 100% step [4]"]  # the first, then one every ten seconds, the last
    assert with_bar(steps)() == "result" and capsys.readouterr().err == ""


def test_progress_true_shows_a_bar_on_a_terminal(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm")
    assert with_bar(steps)(progress=True) == "result"
    text = capsys.readouterr().err
    assert "step [4]" in text and "\x1b[" in text and "0:00:0" in text


def test_public_functions_with_long_work_take_progress_true(
    small_product: Path, small_settings: object, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    floemap.prepare(small_product, tmp_path, small_settings, quicklook=False, progress=True)  # type: ignore[arg-type]
    assert capsys.readouterr().err.startswith("prepare:")
    for name in ("compare", "train_model", "predict", "make_chart", "make_twin", "label_chart", "run_demo"):
        assert hasattr(getattr(floemap, name), "__wrapped__"), name
