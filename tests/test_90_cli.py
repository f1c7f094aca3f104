"""The command line: teaches by --help, prints one readable message, leaves with the right code."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn

import click
import numpy as np
import pytest
import rasterio
import typer
from typer.testing import CliRunner

from floemap.cli import main as cli_main  # noqa: F401  registers the commands
from floemap.cli.app import app

ROOT = Path(__file__).resolve().parents[1]
RUN = CliRunner()


def commands() -> list[tuple[list[str], Any]]:
    """All commands, as (words, command)."""

    def walk(command: Any, words: list[str]) -> Iterator[tuple[list[str], Any]]:
        if hasattr(command, "commands"):
            for name, sub in command.commands.items():
                yield from walk(sub, [*words, name])
        else:
            yield words, command

    return list(walk(typer.main.get_command(app), []))


COMMANDS = commands()
NAMES = [" ".join(words) for words, _ in COMMANDS]


@pytest.mark.parametrize(("words", "command"), COMMANDS, ids=NAMES)
def test_every_command_teaches(words: list[str], command: Any) -> None:
    assert command.help, "a command says what it does"
    assert "floemap " + " ".join(words) in command.help, "and shows an example"
    options = {o for p in command.params for o in p.opts}
    assert {"--out", "--debug", "--quiet", "--verbose"} <= options
    for p in command.params:
        assert getattr(p, "help", None), f"{p.name} has help"
        assert "--out" not in p.opts or p.metavar in ("DIR", "FOLDER", "FILE"), "the text names it by this word"
        assert not re.search(r"Undefined|NoneType|<class", str(p.help)), f"{p.name} has a default in words"
    done = RUN.invoke(app, [*words, "--help"])
    assert done.exit_code == 0
    assert not re.search(r"\.\.\.[\]}]\.\.\.|\[\[", done.stdout), "the usage has its dots and brackets once"


@pytest.mark.parametrize("name", sorted({words[0] for words, _ in COMMANDS}))
def test_every_command_is_in_the_readme(name: str) -> None:
    assert re.search(rf"floemap {name}|make {name}", (ROOT / "README.md").read_text(encoding="utf-8"))


def test_fixed_names_are_there() -> None:
    assert {
        *(
            "demo",
            "simulate twin",
            "simulate pixels",
            "fetch extremeearth",
            "fetch weights",
            "info",
            "prepare",
            "label",
        ),
        *("train", "compare", "plan", "cell", "gather", "predict", "evaluate", "report", "chart"),
        *("layer distance-to-land", "layer from-raster", "layer from-ai4arctic"),
    } <= set(NAMES)


@pytest.mark.parametrize(("words", "shown"), [([], "prepare"), (["simulate"], "twin"), (["fetch"], "weights")])
def test_nothing_given_shows_help(words: list[str], shown: str) -> None:
    done = RUN.invoke(app, words)
    assert done.exit_code == 0
    assert shown in done.stdout


@pytest.mark.parametrize("columns", [40, 80, 99, 100, 200])
def test_help_loses_nothing_in_any_terminal(columns: int) -> None:
    """Names, descriptions and examples are whole, and no line is longer than need be."""
    for group in ([], ["simulate"], ["fetch"], ["layer"]):
        shown = RUN.invoke(app, [*group, "--help"], env={"COLUMNS": str(columns)}).output
        assert not re.search(r"…|\w\.\.\.", shown), "the sentence on each command is whole"
    for words, command in COMMANDS:
        shown = RUN.invoke(app, [*words, "--help"], env={"COLUMNS": str(columns)}).output
        assert "…" not in shown, words
        for param in command.params:
            names = [name for name in (*param.opts, *param.secondary_opts) if name.startswith("--")]
            assert all(re.search(rf"(?<![\w-]){name}(?![\w-])", shown) for name in names), (words, names)
        for line in shown.splitlines():
            free = line.startswith("      floemap") or line.strip().startswith("--") or " " not in line.strip()
            assert len(line) <= columns or free, (words, line)


def test_help_waits_for_no_large_library() -> None:
    """Each takes a good part of a second, and is loaded by the command that needs it."""
    large = "{'cv2', 'dask', 'geopandas', 'matplotlib', 'pandas', 'rasterio', 'scipy', 'torch', 'xarray'}"
    program = f"import sys, floemap.cli.main; print(sorted({large} & set(sys.modules)))"
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"


def test_out_is_declared_once_and_has_a_short_form() -> None:
    for words, command in COMMANDS:
        (out,) = [p for p in command.params if "--out" in p.opts]
        assert out.opts[-2:] == ["--out", "-o"], words
        assert out.metavar == ("FILE" if words == ["config"] else "DIR"), words
        assert [p.name for p in command.params if p.metavar == out.metavar and p.opts[0] == p.name] == [], words
    sources = (ROOT / "src" / "floemap" / "cli").glob("*.py")
    assert [p.name for p in sources if '"--out"' in p.read_text()] == ["out_option.py"]


def test_info_for_programs(small_product: Path) -> None:
    done = RUN.invoke(app, ["info", str(small_product), "--json"])
    assert done.exit_code == 0
    facts = json.loads(done.stdout)
    assert facts["mission"] == "S1A"
    assert facts["problems"] == []


def test_info_for_people(small_product: Path, tmp_path: Path) -> None:
    done = RUN.invoke(app, ["info", str(small_product), "--out", str(tmp_path / "about")])
    assert done.exit_code == 0
    assert "SIMULATED" in done.stdout
    assert json.loads((tmp_path / "about" / "info.json").read_text())["lines"] == 300


def test_info_of_a_prepared_product(small_product: Path, tmp_path: Path) -> None:
    assert (
        RUN.invoke(app, ["prepare", str(small_product), "--out", str(tmp_path), "--resolution", "2000"]).exit_code == 0
    )
    folder = next(tmp_path.iterdir())
    done = RUN.invoke(app, ["info", str(folder)])
    assert done.exit_code == 0
    assert "Below noise floor" in done.stdout
    (folder / "product.tif").write_bytes(b"")
    done = RUN.invoke(app, ["info", str(folder)])
    assert done.exit_code == 1
    assert "product.tif" in done.stderr


def test_prepare_takes_settings_from_file_and_options(small_product: Path, tmp_path: Path) -> None:
    (tmp_path / "my.toml").write_text('resolution_m = 4000\nnoise = "none"\n')
    call = ["prepare", str(small_product), "--out", str(tmp_path / "out"), "--config", str(tmp_path / "my.toml")]
    assert RUN.invoke(app, [*call, "--noise", "annotated"]).exit_code == 0
    record = json.loads(next((tmp_path / "out").glob("*/product.json")).read_text())
    assert record["configuration"]["resolution_m"] == 4000
    assert record["configuration"]["noise"] == "annotated"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["info", "nowhere"], "does not exist"),
        (["prepare", "nowhere.zip", "--out", "out"], "nowhere.zip: does not exist"),
        (["label", "nowhere.shp", "--like", "nowhere.tif", "--out", "out"], "nowhere"),
        (["demo", "--out", "file/below", "--size", "smallest"], "choose another --out"),
    ],
)
def test_errors_are_one_readable_message(
    arguments: list[str], words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("in the way")
    done = RUN.invoke(app, arguments)
    assert done.exit_code == 1
    assert words in " ".join(done.stderr.split())
    assert "Traceback" not in done.output
    again = RUN.invoke(app, [*arguments, "--debug"])
    assert again.exit_code == 1
    assert sorted(p.name for p in tmp_path.iterdir() if not p.is_dir()) == ["file"]


def test_a_missing_setting_is_named_by_its_option(tmp_path: Path) -> None:
    done = RUN.invoke(app, ["bundle", "chart.gpkg", "--out", str(tmp_path)])
    assert (done.exit_code, done.stderr) == (
        1,
        "error: --area is missing. Give it, or its key in the file of --config.\n",
    )


#: Commands that print in each of the ways there are: help, rich's lines, text.
PRINTING = ("config --help", "config", "config demo")
CLOSED = "error: stdout is closed: what was to be shown is lost."


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a file that is always full")
def test_what_cannot_be_shown_is_never_lost_in_silence() -> None:
    """A closed or full stdout is an error; a reader that ends is none, and gives the exit code of SIGPIPE."""
    running: dict[tuple[str, str], subprocess.Popen[str]] = {}

    def start(words: str, redirected: str, to: Any = None) -> None:
        program = [sys.executable, "-c", "from floemap.cli import main; main()", *words.split()]
        call = ["sh", "-c", f'exec "$@" {redirected}', "sh", *program]
        running[words, redirected] = subprocess.Popen(call, stdout=to, stderr=subprocess.PIPE, text=True)

    read, write = os.pipe()
    os.close(read)
    for words in PRINTING:
        start(words, ">&-")
        start(words, ">/dev/full")
        start(words, "", write)
    start("config", "2>&1", write)
    start("config", ">&- 2>&- <&-")
    start("config nothing", ">&-")  # which has nothing to show
    os.close(write)
    for (words, redirected), process in running.items():
        said, code = process.communicate(timeout=300)[1], process.returncode
        if words == "config nothing":
            assert (code, said.count("\n"), CLOSED in said) == (1, 1, False)
        elif redirected == ">&-":
            assert (code, said) == (1, f"{CLOSED}\n"), words
        elif redirected == ">/dev/full":
            assert code == 1, words
            assert said.startswith("error: what was to be shown") and "No space left" in said, words
        else:
            assert (code, said) == (1 if "2>&-" in redirected else 141, ""), (words, redirected)


def test_ctrl_c_while_libraries_are_loaded_leaves_no_traceback() -> None:
    program = (
        "import sys\n"
        "class Interrupts:\n"
        "    def find_spec(self, name, *_):\n"
        "        if name == 'rich.logging': raise KeyboardInterrupt\n"
        "sys.meta_path.insert(0, Interrupts())\n"
        "from floemap.cli import main\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "")


def test_a_wrong_option_is_named() -> None:
    done = RUN.invoke(app, ["prepare", "x", "--out", "y", "--noise", "much"])
    assert done.exit_code == click.UsageError.exit_code
    assert "much" in done.output


def test_demo_at_its_smallest(tmp_path: Path, sketched: None) -> None:
    """Where FLOEMAP_DEMO names the folder of a demo that has run, as in CI, the command finds it finished."""
    tmp_path = Path(os.environ.get("FLOEMAP_DEMO", tmp_path))
    done = RUN.invoke(app, ["demo", "--out", str(tmp_path), "--size", "smallest"])
    assert done.exit_code == 0, done.output
    assert "SIMULATED" in done.stdout
    assert "says nothing about real ice" in done.stdout
    results = json.loads((tmp_path / "smallest" / "results.json").read_text())
    assert [g["loss"] for g in results["summary"]["groups"]] == ["cross_entropy", "dice", "focal"]
    page = (tmp_path / "smallest" / "report" / "report.html").read_text(encoding="utf-8")
    assert "SIMULATED" in page
    product = next((tmp_path / "smallest" / "data" / "prepared").glob("*/product.tif"))
    label = next((tmp_path / "smallest" / "data" / "labels").glob("*/*/labels.tif"))
    with rasterio.open(product) as p, rasterio.open(label) as c:
        assert p.tags()["simulated"] == c.tags()["simulated"] == "yes"
        labels, mask = c.read(1), p.read(4)
    assert labels.shape == mask.shape
    assert (labels[mask == 0] == 255).all()
    assert len(np.unique(labels)) > 3


#: Arguments of commands that need some.
NEEDED = {
    "prepare": "P --out O", "label": "C --like P --out O", "predict": "P --model M --out O", "chart": "P --out O",
    "evaluate": "P --labels L --out O", "info": "P", "report": "R", "simulate pixels": "P --out O",
    "publish": "C --analyst A --out O", "mosaic": "C --out O", "monitor": "D", "view": "D",
    "bundle": "C --area A --out O", "route": "C R --ice-class PC7 --out O",
    "simulate twin": "--out O", "train": "S --loss dice --out O", "compare": "S --out O", "demo": "--out O",
    "plan": "S --out O", "cell": "N --out O", "gather": "--out O",
    "simulate ai4arctic": "--out O", "fetch ai4arctic": "--check F",
    "fetch extremeearth": "--out O", "layer distance-to-land": "P --land L", "layer from-raster": "P F --name n",
    "layer from-ai4arctic": "P F", "archive": "S --out O", "watch": "F --out O",
}  # fmt: skip
#: Commands whose beginnings stay when they are stopped.
RESUMES = {"archive", "watch", "train", "compare", "plan", "cell", "gather", "demo"} | {
    "fetch ai4arctic",
    "fetch extremeearth",
    "fetch weights",
}


@pytest.mark.parametrize("name", NAMES)
def test_who_stops_a_command_is_told_what_stays(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(**_: Any) -> NoReturn:
        raise KeyboardInterrupt

    monkeypatch.setattr("floemap.cli.app.set_up_logging", stop)
    done = RUN.invoke(app, [*name.split(), *NEEDED.get(name, "").split()])
    assert done.exit_code == 130
    unfinished = "repeat the command to resume" if name in RESUMES else "unfinished ones are removed"
    assert done.stderr.strip() == f"stopped; finished results are kept, {unfinished}"
