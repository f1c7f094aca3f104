"""What reaches a terminal, a log or a pipe is text: nothing that a terminal obeys, and no line that is not ours."""

from __future__ import annotations

import json
import logging
import os
import pty
import re
import subprocess
import sys
import unicodedata
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import geopandas as gpd
import pytest
from chart_maker import ice
from fetching import ACCOUNT
from hypothesis import given
from hypothesis import strategies as st
from loopback import Loopback, body
from shapely import box
from typer.testing import CliRunner
from workshop import COMMANDS, Inputs, copied, run

from floemap.cli.app import app
from floemap.cli.terminal import Terminal, printable
from floemap.datasets.download.http import Services
from floemap.datasets.extremeearth import fetch as fetch_module

#: Clears the screen, sets the title, forges a message, goes back to the line's start, is markup, an emoji's name, an
#: 8-bit escape, a mark of direction and a line separator, and is no UTF-8.
EVIL = "\x1b[2J\x1b]0;owned\x07x\nerror: all is well\r[red]y[bold]:smile:\x9b2J\u202ez\u2028\x7f\udcff"
#: The same where names must be text.
EVIL_TEXT = EVIL.replace("\udcff", "")


def hidden(text: str) -> list[str]:
    """Controls, formats, surrogates, private and unassigned characters, separators of lines and paragraphs."""
    return [c for c in text if unicodedata.category(c) in ("Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp")]


def check(text: str) -> None:
    """No hidden characters but line ends, no line of somebody else's, no words of the library that checks values."""
    assert hidden(text.replace("\n", "")) == []
    assert not [line for line in text.split("\n") if line.startswith(("error: all is well", "[red]"))]
    messages = text if "Traceback" not in text else ""
    assert not [words for words in ("Value error", "Input should", "Assertion failed") if words in messages]


@given(st.text())
def test_what_is_shown_is_printable_and_the_rest_is_as_it_was(text: str) -> None:
    shown = printable(text)
    assert hidden(shown) == []
    assert (shown == text) == (hidden(text) == [])


def test_bytes_that_are_no_text_and_all_controls_are_written_out() -> None:
    assert printable("a\x00\x1b\n\x85\xad\u200f\udcffé北🧊 b") == r"a\x00\x1b\n\x85\xad\u200f\udcffé北🧊 b"


@pytest.fixture(params=["absent", "a folder", "a file"])
def evil(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    path = tmp_path / EVIL
    if request.param == "a folder":
        path.mkdir()
    elif request.param == "a file":
        path.write_bytes(b"PK\3\4 [" + EVIL.encode("utf-8", "surrogateescape"))
    return path


#: Calls of every command, as far as they can go wrong over a name.
CALLS: dict[str, list[str]] = {
    "prepare": ["prepare", "EVIL", "EVIL", "--out", "OUT"],
    "prepare --like": ["prepare", "PRODUCT", "--like", "EVIL", "--out", "OUT"],
    "prepare --config": ["prepare", "PRODUCT", "--config", "EVIL", "--out", "OUT"],
    "label": ["label", "EVIL", "--like", "PREPARED", "--out", "OUT"],
    "label --like": ["label", "CHART", "--like", "EVIL", "--out", "OUT"],
    "label --layer": ["label", "CHART", "--like", "PREPARED", "--layer", "EVIL", "--out", "OUT"],
    "label --legend": ["label", "CHART", "--like", "PREPARED", "--legend", "EVIL", "--out", "OUT"],
    "label --out": ["label", "CHART", "--like", "PREPARED", "--out", "EVIL/x"],
    "layer distance-to-land": ["layer", "distance-to-land", "EVIL", "EVIL", "--land", "CHART"],
    "layer distance-to-land --land": ["layer", "distance-to-land", "PREPARED", "--land", "EVIL"],
    "layer from-raster": ["layer", "from-raster", "EVIL", "EVIL", "--name", "x"],
    "layer from-raster --name": ["layer", "from-raster", "PREPARED", "PREPARED/product.tif", "--name", "EVIL"],
    "layer from-raster --variable": [
        *("layer", "from-raster", "PREPARED", "PREPARED/product.tif", "--name", "x", "--variable", "EVIL"),
    ],
    "layer from-ai4arctic": ["layer", "from-ai4arctic", "EVIL", "EVIL"],
    "layer from-ai4arctic --bands": ["layer", "from-ai4arctic", "PREPARED", "PREPARED", "--bands", "EVIL"],
    "predict": ["predict", "EVIL", "EVIL", "--model", "MODEL", "--out", "OUT"],
    "predict --model": ["predict", "PREPARED", "--model", "EVIL", "--out", "OUT"],
    "predict --device": ["predict", "PREPARED", "--model", "MODEL", "--device", "EVIL", "--out", "OUT"],
    "chart": ["chart", "EVIL", "--model", "MODEL", "--out", "OUT"],
    "chart --land-mask": ["chart", "PREPARED", "--model", "MODEL", "--land-mask", "EVIL", "--out", "OUT"],
    "archive": ["archive", "EVIL", "--cluster", "EVIL", "--out", "OUT"],
    "watch": ["watch", "EVIL", "--once", "--settle", "0", "--model", "EVIL", "--out", "OUT"],
    "archive --cluster": ["archive", "PREPARED", "--cluster", "EVIL", "--out", "OUT"],
    "plan": ["plan", "EVIL", "--out", "OUT"],
    "cell": ["cell", "EVIL", "--out", "EVIL"],
    "gather": ["gather", "--out", "EVIL"],
    "monitor": ["monitor", "EVIL", "--out", "OUT"],
    "view": ["view", "EVIL", "--export", "OUT"],
    "view --coast": ["view", "PREPARED", "--coast", "EVIL", "--export", "OUT"],
    "view --host": ["view", "PREPARED", "--host", "EVIL"],
    "mosaic": ["mosaic", "EVIL", "EVIL", "--out", "OUT"],
    "mosaic --name": ["mosaic", "EVIL", "--name", "EVIL", "--out", "OUT"],
    "publish": ["publish", "EVIL", "--analyst", "A", "--out", "OUT"],
    "publish --draft": ["publish", "CHART", "--analyst", "A", "--draft", "EVIL", "--out", "OUT"],
    "publish --analyst": ["publish", "CHART", "--analyst", "EVIL", "--out", "OUT"],
    "bundle": ["bundle", "EVIL", "--area", "-10,70,10,80", "--out", "OUT"],
    "bundle --area": ["bundle", "CHART", "--area", "EVIL", "--out", "OUT"],
    "bundle --name": [
        "bundle",
        "CHART",
        "--area",
        "70N,8W,500nm",
        "--valid",
        "2018-01-16",
        "--name",
        "EVIL/x",
        "--out",
        "OUT",
    ],
    "bundle --max": ["bundle", "CHART", "--area", "70N,8W,500nm", "--max", "EVIL", "--out", "OUT"],
    "chart --only": ["chart", "PREPARED", "--model", "MODEL", "--only", "EVIL", "--out", "OUT"],
    "route": ["route", "EVIL", "EVIL", "--ice-class", "PC7", "--out", "OUT"],
    "route ROUTE": ["route", "CHART", "EVIL", "--ice-class", "PC7", "--out", "OUT"],
    "route --ice-class": ["route", "CHART", "EVIL", "--ice-class", "EVIL", "--out", "OUT"],
    "evaluate": ["evaluate", "EVIL", "--labels", "LABELS", "--out", "OUT"],
    "evaluate --labels": ["evaluate", "PREDICTION", "--labels", "EVIL", "--out", "OUT"],
    "evaluate --truth": ["evaluate", "PREDICTION", "--labels", "LABELS", "--truth", "EVIL", "--out", "OUT"],
    "info": ["info", "EVIL"],
    "info --json": ["info", "EVIL", "--json"],
    "train": ["train", "EVIL", "--out", "OUT"],
    "train --loss": ["train", "CONFIG", "--loss", "EVIL", "--out", "OUT"],
    "train --data": ["train", "CONFIG", "--data", "EVIL", "--out", "OUT"],
    "compare": ["compare", "EVIL", "--out", "OUT"],
    "compare --data": ["compare", "CONFIG", "--data", "EVIL", "--out", "OUT"],
    "report": ["report", "EVIL", "--out", "OUT"],
    "config": ["config", "EVIL"],
    "config --out": ["config", "paper", "--out", "CHART/EVIL"],
    "demo": ["demo", "--out", "CHART/EVIL", "--size", "smallest"],
    "simulate pixels": ["simulate", "pixels", "EVIL", "--out", "OUT"],
    "simulate pixels --chart": ["simulate", "pixels", "PRODUCT", "--chart", "EVIL", "--out", "OUT"],
    "simulate twin": ["simulate", "twin", "--out", "OUT", "--months", "EVIL"],
    "simulate twin --size": ["simulate", "twin", "--out", "OUT", "--size", "EVIL"],
    "simulate ai4arctic": ["simulate", "ai4arctic", "--out", "OUT", "--scenes", "EVIL"],
    "fetch ai4arctic --check": ["fetch", "ai4arctic", "--check", "EVIL"],
    "fetch extremeearth --check": ["fetch", "extremeearth", "--check", "EVIL"],
    "fetch extremeearth --months": ["fetch", "extremeearth", "--check", "OUT", "--months", "EVIL"],
    "fetch weights": ["fetch", "weights", "--out", "CHART/EVIL"],
    "no such command": ["EVIL"],
    "no such option": ["prepare", "--EVIL"],
    "no such choice": ["prepare", "PRODUCT", "--noise", "EVIL", "--out", "OUT"],
    "one argument too many": ["info", "PRODUCT", "EVIL"],
    "no number": ["prepare", "PRODUCT", "--resolution", "EVIL", "--out", "OUT"],
}


@pytest.mark.parametrize("call", CALLS)
def test_no_error_lets_anything_through(call: str, evil: Path, workshop: Inputs, tmp_path: Path) -> None:
    config = Path(__file__).parents[1] / "configs" / "demo.toml"
    known = {"PRODUCT": workshop.product, "PREPARED": workshop.prepared, "CHART": workshop.chart, "CONFIG": config}
    known |= {"MODEL": workshop.model, "LABELS": workshop.labels, "PREDICTION": workshop.prediction}
    known |= {"OUT": tmp_path / "out", "EVIL": evil}
    words = [re.sub("|".join(known), lambda m: str(known[m[0]]), w) for w in CALLS[call]]
    for more in (list[str](), ["--debug"]) if not evil.exists() and "no such" not in call else ([],):
        done = run(*words, *more)
        assert done.exit_code in (1, 2), done.output
        check(done.stdout)
        check(done.stderr)
        assert done.stderr or "--json" in words or "--check" in words


def test_every_command_is_among_them() -> None:
    import typer

    from floemap.cli.app import app

    command: Any = typer.main.get_command(app)
    tree = command.commands
    names = {f"{n} {m}" for n, c in tree.items() for m in getattr(c, "commands", {})} | {
        n for n, c in tree.items() if not hasattr(c, "commands")
    }
    assert names <= {re.sub(r" --.*", "", call) for call in CALLS}


@pytest.fixture(scope="module")
def evil_inputs(workshop: Inputs, tmp_path_factory: pytest.TempPathFactory) -> Inputs:
    """Everything below a folder of such a name."""
    return copied(workshop, tmp_path_factory.mktemp("evil") / EVIL_TEXT)


@pytest.mark.parametrize("name", COMMANDS)
def test_no_success_lets_anything_through(name: str, evil_inputs: Inputs, tmp_path: Path) -> None:
    log = tmp_path / "log"
    done = COMMANDS[name].run(evil_inputs, tmp_path / EVIL_TEXT, "--verbose", "--log", str(log))
    check(done.stdout)
    check(done.stderr)
    check(log.read_text())
    assert done.exit_code == 0 or "error: " in done.stderr


def test_json_is_json_and_says_the_name(evil_inputs: Inputs) -> None:
    done = run("info", evil_inputs.product, "--json")
    assert done.exit_code == 0
    assert done.stdout.isascii()
    check(done.stdout)
    json.loads(done.stdout)
    done = run("fetch", "extremeearth", "--check", evil_inputs.folder, "--json")
    check(done.stdout)
    assert json.loads(done.stdout)["root"] == str(evil_inputs.folder)


@pytest.mark.parametrize("layer", [True, False], ids=["layer", "attribute"])
def test_what_is_written_in_charts(layer: bool, workshop: Inputs, tmp_path: Path) -> None:
    rows = [ice(SA="95"), ice(SA="86")]
    if not layer:
        rows[0]["POLY_TYPE"] = EVIL_TEXT
    frame = gpd.GeoDataFrame(rows, geometry=[box(0, 0, 1, 1), box(1, 0, 2, 1)], crs="EPSG:3413")
    chart = tmp_path / "chart.gpkg"
    names = [EVIL_TEXT.replace("\x1b]0;owned\x07", ""), "other"] if layer else ["chart"]
    for name in names:
        frame.to_file(chart, layer=name, engine="pyogrio")
    for words in (["info", chart], ["label", chart, "--like", workshop.prepared, "--out", tmp_path / "out"]):
        done = run(*words)  # type: ignore[arg-type]
        check(done.output)
        assert done.exit_code == 1


def test_what_servers_say(dataset: Loopback, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetch_module, "SERVICES", Services.at(dataset.url))
    monkeypatch.setattr(fetch_module, "account_from_environment", lambda url: ACCOUNT)
    words = json.dumps({"error_description": EVIL_TEXT}).encode()
    dataset.faults["/token"].extend([body(words, 401)] * 4)
    dataset.record = {"files": [{"key": EVIL_TEXT, "size": 1, "checksum": "0" * 32}]}
    done = run("fetch", "extremeearth", "--out", tmp_path, "--months", "1")
    assert done.exit_code == 1
    check(done.output)
    check(done.stderr)
    assert "owned" in done.stderr


@pytest.fixture
def logger() -> Iterator[logging.Logger]:
    yield logging.getLogger("floemap.test")


@pytest.mark.parametrize("watched", [True, False])
def test_records_and_warnings_are_a_line_each(
    watched: bool, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from floemap.cli.app import set_up_logging

    with warnings.catch_warnings():
        warnings.simplefilter("always")
        monkeypatch.setattr(sys.stderr, "isatty", lambda: watched)
        set_up_logging(log=tmp_path / "log")
        logging.getLogger("floemap.test").warning("of %s", EVIL)
        logging.lastResort.handle(logging.LogRecord("other", logging.WARNING, "", 0, "of %s", (EVIL,), None))
        warnings.warn(EVIL, stacklevel=1)
        try:
            raise ValueError(EVIL)
        except ValueError:
            logging.getLogger("floemap.test").warning("of %s", EVIL, exc_info=True)
    said, logged = capsys.readouterr().err, (tmp_path / "log").read_text()
    for text, count in ((said, 4), (logged, 3)):
        check(text)
        lines = [line for line in text.split("\n") if line and not line.startswith("  ")]
        assert len([x for x in lines if "WARNING" in x]) == count
        assert [x for x in text.split("\n") if x.startswith("  ") and "ValueError" in x]


def test_on_a_terminal_there_are_colours_and_bars_and_nothing_of_the_names(workshop: Inputs, tmp_path: Path) -> None:
    products = [tmp_path / f"{i}{EVIL_TEXT}.SAFE" for i in range(2)]
    for product in products:
        product.symlink_to(workshop.product)
    broken = tmp_path / f"broken{EVIL}"
    broken.write_bytes(b"PK")
    words: list[str | bytes] = [
        "prepare",
        *map(os.fsencode, [*products, broken]),
        "--out",
        os.fsencode(tmp_path / "out"),
    ]
    words += ["--resolution", "2000"]
    ours, theirs = pty.openpty()
    command = "import sys; from floemap.cli.main import main; sys.argv[0] = 'floemap'; main()"
    with subprocess.Popen(
        [sys.executable, "-c", command, *words], stdin=theirs, stdout=theirs, stderr=theirs, close_fds=True,
        env=os.environ | {"TERM": "xterm-256color", "COLUMNS": "200"},
    ) as child:  # fmt: skip
        os.close(theirs)
        said = b""
        while True:
            try:
                block = os.read(ours, 65536)
            except OSError:  # the other end is closed
                break
            said += block
            if not block:
                break
        os.close(ours)
        assert child.wait() == 1
    own = re.compile(r"\x1b\[(?:[0-9;]*m|2K|[0-9]*A|\?25[lh])|\r")
    text = said.decode()
    assert "\x1b[1;31merror: " in text  # there are colours
    assert "\x1b[2K" in text  # and bars
    assert "\\x1b[2J" in text
    check(own.sub("", text))


@pytest.mark.parametrize("columns", ["0", "1", "-1", "nonsense", "200"])
def test_no_width_costs_words(
    columns: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", columns)
    Terminal().print("a line of words that stay together, however long it is")
    assert capsys.readouterr().out == "a line of words that stay together, however long it is\n"


@pytest.mark.parametrize("words", [["simulate", "twin", "--months", "1"], ["prepare", "a.zip"]])
def test_a_folder_that_is_gone_is_named(words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Relative paths lead nowhere where somebody has deleted the current folder."""
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    result = CliRunner().invoke(app, [*words, "--out", "out"])
    assert result.exit_code == 1
    assert "the current folder was deleted" in result.output or "a.zip: does not exist" in result.output
    assert "unexpected" not in result.output
