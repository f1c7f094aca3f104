"""Configurations that come with floemap: `floemap config` gives them as they are, and they can be run."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

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
        (LearningSettings, {"training": {"batch": "4"}}, "training.batch is '4': a whole number is needed."),
        (LearningSettings, {"training": {"batch": 4.0}}, "training.batch is 4.0: a whole number is needed."),
        (
            LearningSettings,
            {"training": {"compile": "yes"}},
            "training.compile is 'yes': auto, or true or false is needed.",
        ),
        (LearningSettings, {"model": {"output_stride": "8"}}, "model.output_stride is '8': 8 or 16 is needed."),
        (LearningSettings, {"model": {"output_stride": 8.0}}, "model.output_stride is 8.0: 8 or 16 is needed."),
        (LearningSettings, {"model": {"rates": [1]}}, "model.rates is [1]: more values are needed."),
        (
            LearningSettings,
            {"model": {"rates": [1] * 4}},
            "model.rates is [1, 1, 1, 1]: a list of at most 3 is needed.",
        ),
        (
            Study,
            {"compare": {"axes": {"model.dropout": [[0.5]]}}},
            "compare.axes.model.dropout is [0.5]: true or false, or a whole number, or a number, or a text is needed.",
        ),
    ],
)
def test_wrong_settings_are_named_without_the_librarys_words(
    kind: type[Settings], values: dict[str, object], words: str
) -> None:
    with pytest.raises(ConfigError) as e:
        kind.checked(**values)
    assert str(e.value) == words


def _all_settings(kind: type[Settings] = Settings) -> Iterator[type[Settings]]:
    for below in kind.__subclasses__():
        yield below
        yield from _all_settings(below)


def _leaves(annotation: Any) -> set[Any]:
    """The types of a field's value, or of the members of its lists and tables."""
    origin, inner = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return _leaves(inner[0])
    if origin is Literal:
        return {type(value) for value in inner}
    return set().union(*map(_leaves, inner)) - {type(...)} if inner else {annotation}


def _holding(annotation: Any, value: object) -> object:
    """A value of a field with `value` as its member, if it is a list or a table."""
    origin, inner = get_origin(annotation), get_args(annotation)
    if origin in (Annotated, Union, UnionType):
        return _holding(next(a for a in inner if a is not NoneType), value)
    if origin is tuple:
        return [_holding(inner[0], value)] * (1 if inner[-1] is ... else len(inner))
    return {"key": _holding(inner[1], value)} if origin is dict else value


def test_numbers_and_truth_values_have_their_own_types_in_all_settings() -> None:
    root = Path(floemap.__file__).parent
    for path in root.rglob("*.py"):
        if "(Settings)" in path.read_text():
            importlib.import_module(".".join(["floemap", *path.relative_to(root).with_suffix("").parts]))
    tried = 0
    for kind in {k for k in _all_settings() if k.__module__.startswith("floemap.")}:
        for name, field in kind.model_fields.items():
            leaves = _leaves(field.annotation) - {NoneType}
            wrong: list[object] = []
            if leaves & {int, float} and not leaves - {int, float}:
                wrong = ["4", True] if float in leaves else ["4", True, 16.0]  # 16 is one of the output strides
            elif leaves & {bool} and leaves <= {bool, str}:
                wrong = [1, 0, "yes", "true"]
            for value in wrong:
                given = _holding(field.annotation, value)
                with pytest.raises(ConfigError, match=rf"(^|; ){name}(\.key)? is .*{value!r}.* needed"):
                    kind.checked(**{name: given})
                tried += 1
    assert tried > 100


@pytest.mark.parametrize("name", ["", "a b", "../x", "a\nb", "\u0661"])
def test_what_a_name_may_contain_is_told_in_words(name: str) -> None:
    for settings, key, characters in ((Study, "name", "digits, _ and -"), (ChartSettings, "service", "Z and digits")):
        with pytest.raises(ConfigError, match=rf"{key} is .*, which may contain letters .*{characters}\.") as e:
            settings.checked(**{key: name})
        assert "pattern" not in str(e.value)
