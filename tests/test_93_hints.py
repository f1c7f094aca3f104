"""Hints can be followed: each option that a command's error names is one of that command."""

from __future__ import annotations

import ast
import re
import sys
import zipfile
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import typer
from chart_maker import FOUR, grid, write_chart
from typer.testing import CliRunner

import floemap
from floemap.cli import app as cli_app
from floemap.cli import main as cli_main  # noqa: F401  registers the commands
from floemap.cli.app import app, in_words
from floemap.errors import FloemapError
from floemap.icechart.land import describe_land, land_on
from floemap.icechart.read.sigrid3 import read_chart

SOURCES = Path(floemap.__file__).parent
OPTION = re.compile(r"(?<![\w-])--[a-z][a-z0-9-]*")


def options_by_command() -> dict[str, set[str]]:
    """Every command with its options, as the command line itself knows them."""
    found: dict[str, set[str]] = {}

    def walk(name: str, command: Any) -> None:
        for own, inner in getattr(command, "commands", {}).items():
            walk(f"{name} {own}".strip(), inner)
        if not hasattr(command, "commands"):
            found[name] = {"--help"} | {
                o for p in command.params for o in (*p.opts, *p.secondary_opts) if o.startswith("-")
            }

    walk("", typer.main.get_command(app))
    return found


COMMANDS = options_by_command()


@cache
def hints() -> list[tuple[str, str]]:
    """Every hint in the sources, with the module; what is filled in later stands as X."""
    found = []
    for path in sorted(SOURCES.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            values = (
                [k.value for k in getattr(node, "keywords", ()) if k.arg == "hint"]
                if isinstance(node, ast.Call)
                else []
            )
            if isinstance(node, ast.Assign) and any("hint" in ast.unparse(t).lower() for t in node.targets):
                values = [node.value]
            for value in values:
                parts = [n for n in ast.walk(value) if isinstance(n, ast.Constant | ast.JoinedStr)]
                for part in parts:
                    text = ast.literal_eval(part) if isinstance(part, ast.Constant) else ""
                    if isinstance(part, ast.JoinedStr):
                        text = "".join(v.value if isinstance(v, ast.Constant) else "X" for v in part.values)  # type: ignore[misc]
                    if isinstance(text, str) and " " in text:
                        found.append((path.name, text))
    return found


def test_every_error_of_bundles_and_routes_has_a_way_out() -> None:
    """So has every check of a path, through which the others read."""
    ours = {"FloemapError", "ChartError", "ConfigError", "RouteError", "OutputError", "GridError", "kind"}
    found = []
    for path in [*(SOURCES / "bundle").glob("*.py"), *(SOURCES / "routes").glob("*.py"), SOURCES / "files.py"]:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call):
                without = "hint" not in {k.arg for k in node.exc.keywords}
                if without and (kind := ast.unparse(node.exc.func)) in ours:
                    found.append(f"{path.name}:{node.lineno}: {kind}")
    assert found == []


def without_quotes(text: str) -> str:
    return re.sub(r"`[^`]*`", "", text)


def test_the_commands_are_known() -> None:
    assert {"info", "label", "chart", "prepare", "fetch extremeearth"} <= COMMANDS.keys()
    assert "--layer" in COMMANDS["info"] and "--crs" in COMMANDS["info"]
    assert len([h for h in hints() if OPTION.search(h[1])]) > 20


def test_options_of_other_programs_stand_in_quotes_with_their_names() -> None:
    ours = set().union(*COMMANDS.values())
    wrong = [(where, text) for where, text in hints() if not set(OPTION.findall(without_quotes(text))) <= ours]
    assert wrong == []


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_a_command_names_its_own_options_only(name: str) -> None:
    """Whatever error reaches it: what it prints can be followed with the same command."""
    command: Any = typer.main.get_command(app)
    for part in name.split():
        command = command.commands[part]
    known = COMMANDS[name]
    token = cli_app._options.set(frozenset(COMMANDS[name]))
    try:
        for where, hint in hints():
            said = in_words(FloemapError("it is so.", path="a", hint=hint))
            assert set(OPTION.findall(without_quotes(said))) <= known, (where, said)
            if not OPTION.search(without_quotes(hint)):
                assert hint in said
    finally:
        cli_app._options.reset(token)


@pytest.mark.parametrize("name", ["info", "label", "chart", "prepare", "train"])
def test_a_running_command_knows_its_options(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[frozenset[str] | None] = []
    monkeypatch.setattr(cli_app, "set_up_logging", lambda **_: seen.append(cli_app._options.get()) or sys.exit(3))
    words = {"label": ["--like", "b", "--out", "c"], "info": []}.get(name, ["--out", "c"])
    assert CliRunner().invoke(app, [name, "a", *words]).exit_code == 3
    assert seen == [frozenset(COMMANDS[name])]


def two_charts(folder: Path) -> Path:
    one, two = write_chart(folder / "one.gpkg"), write_chart(folder / "two.gpkg", FOUR[:2])
    with zipfile.ZipFile(folder / "two.zip", "w") as z:
        z.write(one, "one.gpkg")
        z.write(two, "two.gpkg")
    return folder / "two.zip"


def test_info_takes_what_its_hints_name(tmp_path: Path) -> None:
    path = two_charts(tmp_path)
    run = CliRunner().invoke
    first = run(app, ["info", str(path)])
    assert first.exit_code == 1
    assert "--layer" in first.stderr
    assert run(app, ["info", str(path), "--layer", "two"]).exit_code == 0
    shape = write_chart(tmp_path / "s" / "c.shp")
    shape.with_suffix(".prj").unlink()
    without = run(app, ["info", str(shape)])
    assert without.exit_code == 1 and "--crs" in without.stderr
    assert run(app, ["info", str(shape), "--crs", "EPSG:3413"]).exit_code == 0
    assert len(read_chart(path, layer="one")) == 4


def test_a_mask_is_not_told_of_the_grids_crs(tmp_path: Path) -> None:
    """``--crs`` of ``floemap chart`` is the grid's, and it has no ``--layer``."""
    several = two_charts(tmp_path)
    shape = write_chart(tmp_path / "s" / "c.shp")
    shape.with_suffix(".prj").unlink()
    for path, words in ((several, "holds 2 charts"), (shape, "has no CRS")):
        with pytest.raises(FloemapError, match=words) as e:
            land_on(path, grid())
        assert "--" not in (e.value.hint or "--")
    with pytest.raises(FloemapError, match="holds 2 charts") as e:
        describe_land(several)
    assert "--" not in (e.value.hint or "--")


def test_what_a_command_to_copy_names_is_quoted() -> None:
    """Paths and units may contain spaces and signs that a shell takes for its own."""
    command = re.compile(r"floemap [a-z][^`\"]*?--(?:out|unit|land|model|like) \{(?P<named>[^}]*)\}")
    found = 0
    for path in SOURCES.rglob("*.py"):
        for match in command.finditer(path.read_text()):
            assert "quote(" in match["named"], (path, match[0])
            found += 1
    assert found >= 3
