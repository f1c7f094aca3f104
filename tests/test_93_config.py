"""Configurations that come with floemap: `floemap config` gives them as they are, and they can be run."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

import floemap
from floemap.cli import main as cli_main  # noqa: F401  registers the commands
from floemap.cli.app import app
from floemap.config import Settings, config_names, config_text
from floemap.errors import ConfigError
from floemap.inference.draftchart.settings import ChartSettings
from floemap.learning.settings import LearningSettings
from floemap.sentinel1.settings import PrepareSettings
from floemap.study.settings import Study

run = CliRunner().invoke


@pytest.mark.parametrize("name", config_names())
def test_what_is_printed_is_the_file_and_can_be_run(name: str, tmp_path: Path) -> None:
    printed = run(app, ["config", name])
    assert printed.exit_code == 0
    path = tmp_path / "study.toml"
    path.write_text(printed.stdout)
    assert (Path(floemap.__file__).parent / "configs" / f"{name}.toml").read_text() == printed.stdout
    (PrepareSettings if name == "prepare" else Study).from_toml(path)
    assert run(app, ["config", name, "--out", str(tmp_path / "other.toml")]).exit_code == 0
    assert (tmp_path / "other.toml").read_text() == printed.stdout


def test_all_are_listed_each_with_its_purpose() -> None:
    said = run(app, ["config"])
    assert said.exit_code == 0
    for name in config_names():
        (line,) = [line for line in said.stdout.splitlines() if line.split()[0] == name]
        assert len(line.split()) > 5
    assert {"paper", "demo", "twin"} <= {*config_names()}


def test_no_file_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text("mine")
    refused = run(app, ["config", "paper", "--out", str(path)])
    assert refused.exit_code == 1
    assert "is not replaced" in refused.stderr
    assert path.read_text() == "mine"
    assert "cannot be written" in run(app, ["config", "paper", "--out", str(tmp_path / "no" / "a.toml")]).stderr


@pytest.mark.parametrize("name", ["", ".", "../configs/paper", "paper.toml", "PAPER", "a\\b", "/etc/passwd"])
def test_only_names_that_are_known(name: str) -> None:
    with pytest.raises(ConfigError, match=r"Known: .*demo, labels, paper"):
        config_text(name)
    assert floemap.config_text("paper") == config_text("paper")


@pytest.mark.parametrize(
    ("kind", "values", "words"),
    [
        (ChartSettings, {"polygons": "blobs"}, "polygons is 'blobs', which is not known: known are types, mixtures."),
        (
            ChartSettings,
            {"polygons": "mixtures", "eggs": False},
            "polygons of mixtures need the shares of types: set eggs to true, or polygons to types.",
        ),
        (ChartSettings, {"min_area_km2": "wide"}, "min_area_km2 is 'wide': a number is needed."),
        (
            LearningSettings,
            {"model": {"encoder_weights": "a", "start_from": "b"}},
            "model: encoder_weights and start_from exclude each other: the checkpoint has an encoder.",
        ),
    ],
)
def test_wrong_settings_are_named_without_the_librarys_words(
    kind: type[Settings], values: dict[str, object], words: str
) -> None:
    with pytest.raises(ConfigError) as e:
        kind.checked(**values)
    assert str(e.value) == words
