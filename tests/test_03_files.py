"""Inputs are regular files, and results may be called anything that is text."""

from __future__ import annotations

import dataclasses
import gc
import json
import os
import shutil
import signal
import socket
import sqlite3
import types
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest
from run_maker import make_run
from workshop import COMMANDS, Inputs, contents, copied, run

from floemap.counts import counted
from floemap.errors import ChartError, FloemapError, OutputError
from floemap.files import existing_folder, parsed, regular_file
from floemap.results.stage import write_json

#: Every call here takes seconds; one that waits for a pipe never ends.
WAITS_S = 300


@pytest.fixture(autouse=True)
def _no_waiting() -> Iterator[None]:
    def waits(signum: int, frame: types.FrameType | None) -> None:
        raise AssertionError(f"nothing ended within {WAITS_S} s")

    before = signal.signal(signal.SIGALRM, waits)
    signal.alarm(WAITS_S)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


def pipe(path: Path) -> None:
    os.mkfifo(path)


def link_to_pipe(path: Path) -> None:
    os.mkfifo(path.with_name("pipe"))
    path.symlink_to(path.with_name("pipe"))


def endless(path: Path) -> None:
    path.symlink_to("/dev/zero")


def link_in_a_circle(path: Path) -> None:
    path.symlink_to(path)


def unix_socket(path: Path) -> None:
    here = Path.cwd()
    os.chdir(path.parent)  # an address has at most some hundred characters
    try:
        with socket.socket(socket.AF_UNIX) as s:
            s.bind(path.name)
    finally:
        os.chdir(here)


SPECIAL: dict[str, Callable[[Path], None]] = {
    "a pipe": pipe,
    "a link to a pipe": link_to_pipe,
    "a link to a device": endless,
    "a link to itself": link_in_a_circle,
    "a socket": unix_socket,
    "a folder": Path.mkdir,
}

#: Where commands take a file, and what it may be called. "THIS" stands for it.
PLACES: dict[str, tuple[str, list[str]]] = {
    "product": ("p.zip", ["prepare", "THIS", "--out", "OUT"]),
    "product without suffix": ("p", ["prepare", "THIS", "--out", "OUT"]),
    "file of AI4Arctic": ("f.nc", ["prepare", "THIS", "--out", "OUT"]),
    "file of AI4Arctic for a layer": ("f.nc", ["layer", "from-ai4arctic", "PREPARED", "THIS"]),
    "like": ("g.tif", ["prepare", "PRODUCT", "--like", "THIS", "--out", "OUT"]),
    "settings": ("c.toml", ["prepare", "PRODUCT", "--config", "THIS", "--out", "OUT"]),
    **{
        f"chart {suffix}": (f"c{suffix}", ["label", "THIS", "--like", "PREPARED", "--out", "OUT"])
        for suffix in (".shp", ".gpkg", ".geojson", ".json", ".fgb", ".zip", ".tar", "")
    },
    "like of labels": ("g.tif", ["label", "CHART", "--like", "THIS", "--out", "OUT"]),
    "prepared": ("g.tif", ["predict", "THIS", "--model", "MODEL", "--out", "OUT"]),
    "model": ("m.safetensors", ["predict", "PREPARED", "--model", "THIS", "--out", "OUT"]),
    "prepared for a chart": ("product.tif", ["chart", "THIS", "--model", "MODEL", "--out", "OUT"]),
    "product for a chart": ("p.zip", ["chart", "THIS", "--model", "MODEL", "--out", "OUT"]),
    "land": ("l.shp", ["chart", "PREPARED", "--model", "MODEL", "--land-mask", "THIS", "--out", "OUT"]),
    "land in a zip": ("l.zip", ["chart", "PREPARED", "--model", "MODEL", "--land-mask", "THIS", "--out", "OUT"]),
    "land for a layer": ("l.shp", ["layer", "distance-to-land", "PREPARED", "--land", "THIS"]),
    "raster for a layer": ("r.tif", ["layer", "from-raster", "PREPARED", "THIS", "--name", "x"]),
    "prepared for a layer": ("p", ["layer", "from-raster", "THIS", "CHART", "--name", "x"]),
    "prediction": ("p.tif", ["evaluate", "THIS", "--labels", "LABELS", "--out", "OUT"]),
    "labels": ("l.tif", ["evaluate", "PREDICTION", "--labels", "THIS", "--out", "OUT"]),
    "truth": ("t.tif", ["evaluate", "PREDICTION", "--labels", "LABELS", "--truth", "THIS", "--out", "OUT"]),
    "mask": ("m.tif", ["evaluate", "PREDICTION", "--labels", "LABELS", "--mask", "THIS", "--out", "OUT"]),
    "anything": ("a", ["info", "THIS"]),
    "anything called a model": ("m.safetensors", ["info", "THIS"]),
    "anything called a chart": ("c.geojson", ["info", "THIS"]),
    "study": ("s.toml", ["train", "THIS", "--out", "OUT"]),
    "study to compare": ("s.toml", ["compare", "THIS", "--out", "OUT"]),
    "run": ("r", ["report", "THIS", "--out", "OUT"]),
    "metadata": ("p.zip", ["simulate", "pixels", "THIS", "--out", "OUT"]),
    "chart for pixels": ("c.shp", ["simulate", "pixels", "PRODUCT", "--chart", "THIS", "--out", "OUT"]),
    "dataset": ("d", ["fetch", "extremeearth", "--check", "THIS"]),
}


#: Where commands write, and what else they take.
OUTS = [
    ["prepare", "PRODUCT", "--out", "THIS"],
    ["info", "CHART", "--out", "THIS"],
    ["fetch", "weights", "--out", "THIS"],
    ["fetch", "extremeearth", "--out", "THIS"],
]


@pytest.mark.parametrize(("name", "words"), [*PLACES.values(), *(("o", words) for words in OUTS)], ids=str)
def test_a_name_that_the_system_refuses_is_refused(
    name: str, words: list[str], workshop: Inputs, tmp_path: Path
) -> None:
    known = {"PRODUCT": workshop.product, "PREPARED": workshop.prepared, "CHART": workshop.chart}
    known |= {"MODEL": workshop.model, "LABELS": workshop.labels, "PREDICTION": workshop.prediction}
    known |= {"OUT": tmp_path / "out", "THIS": tmp_path / ("x" * 300 + name)}
    done = run(*(known.get(w, w) for w in words))
    assert done.exit_code == 1
    assert "unexpected" not in done.output and "x" * 300 in done.output
    assert list(tmp_path.rglob("*.tif")) == []


@pytest.mark.parametrize("kind", SPECIAL)
@pytest.mark.parametrize("place", PLACES)
def test_what_is_no_file_is_refused_and_never_waited_for(
    place: str, kind: str, workshop: Inputs, tmp_path: Path
) -> None:
    name, words = PLACES[place]
    SPECIAL[kind](tmp_path / name)
    known = {"PRODUCT": workshop.product, "PREPARED": workshop.prepared, "CHART": workshop.chart}
    known |= {"MODEL": workshop.model, "LABELS": workshop.labels, "PREDICTION": workshop.prediction}
    known |= {"OUT": tmp_path / "out", "THIS": tmp_path / name}
    done = run(*(known.get(w, w) for w in words))
    assert done.exit_code == 1
    assert "unexpected" not in done.stderr
    if not (place == "dataset" and kind == "a folder"):
        assert str(tmp_path) in done.stderr
    assert not (tmp_path / "out").exists() or not list((tmp_path / "out").rglob("*.tif"))


#: Files within folders that commands read, and a call that reads them.
INSIDE: dict[str, list[str]] = {
    "prepared/{name}/product.tif": ["predict", "PREPARED", "--model", "MODEL", "--out", "OUT"],
    "prepared/{name}/product.json": ["chart", "PREPARED", "--model", "MODEL", "--only", "classes", "--out", "OUT"],
    "prepared/{name}/item.json": ["chart", "PREPARED", "--model", "MODEL", "--only", "classes", "--out", "OUT"],
    "labels/ice/labels.tif": ["evaluate", "PREDICTION", "--labels", "LABELS", "--out", "OUT"],
    "labels/ice/label.json": ["evaluate", "PREDICTION", "--labels", "LABELS", "--out", "OUT"],
    "predictions/{name}/classes.tif": ["evaluate", "PREDICTION", "--labels", "LABELS", "--out", "OUT"],
    "predictions/{name}/prediction.json": ["evaluate", "PREDICTION", "--labels", "LABELS", "--out", "OUT"],
    "products/{name}.SAFE/manifest.safe": ["prepare", "PRODUCT", "--out", "OUT"],
    "products/{name}.SAFE/measurement/*-hh-*": ["prepare", "PRODUCT", "--out", "OUT"],
    "products/{name}.SAFE/annotation/*-hv-*": ["prepare", "PRODUCT", "--out", "OUT"],
    "products/{name}.SAFE/annotation/calibration/noise-*-hh-*": ["info", "PRODUCT"],
}


@pytest.mark.parametrize("kind", ["a pipe", "a link to a device"])
@pytest.mark.parametrize("inside", INSIDE)
def test_nor_within_folders(inside: str, kind: str, workshop: Inputs, tmp_path: Path) -> None:
    inputs = copied(workshop, tmp_path / "inputs")
    (victim,) = inputs.folder.glob(inside.format(name=inputs.name))
    victim.unlink()
    SPECIAL[kind](victim)
    known = {"PRODUCT": inputs.product, "PREPARED": inputs.prepared, "LABELS": inputs.labels, "MODEL": inputs.model}
    known |= {"PREDICTION": inputs.prediction, "OUT": tmp_path / "out"}
    done = run(*(known.get(w, w) for w in INSIDE[inside]))
    assert "unexpected" not in done.stderr
    assert done.exit_code == 1 or inside.endswith(("label.json", "prediction.json"))  # which rasters do without


@pytest.fixture(scope="module")
def finished_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run") / "run"
    return make_run(folder, losses=("dice", "focal"), repeats=1, scenes=("01",))


@pytest.mark.parametrize("name", ["results.json", "cell.json", "evaluation.json", "metrics.jsonl"])
def test_nor_within_runs(name: str, finished_run: Path, tmp_path: Path, sketched: None) -> None:
    folder = tmp_path / "run"
    shutil.copytree(finished_run, folder)
    victim = sorted(folder.rglob(name))[0]
    victim.unlink()
    pipe(victim)
    done = run("report", folder, "--out", tmp_path / "out")
    assert "unexpected" not in done.stderr
    assert (done.exit_code == 1) == (not (tmp_path / "out").exists())


def test_a_file_is_returned_with_its_absolute_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("http:").mkdir()
    Path("http:/x").write_text("")
    assert regular_file("http:/x") == tmp_path / "http:" / "x"
    Path("link").symlink_to("http:/x")
    assert regular_file("link") == tmp_path / "link"
    for wrong in ("none", "http:", "http:/x/y", "a\0b", "x" * 5000, "\udcff"):
        with pytest.raises(ChartError) as told:
            regular_file(wrong, ChartError)
        assert told.value.path == Path(wrong)


@pytest.mark.parametrize("name", ["http:", "zip:", "GTIFF_DIR:1:", "a!b", "vsicurl"])
def test_inputs_lie_in_folders_of_any_name(
    name: str, workshop: Inputs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From where one is: what begins as an address is a folder all the same, and nobody is asked."""
    monkeypatch.chdir(tmp_path)
    inputs = copied(workshop, tmp_path / name)
    here = dataclasses.replace(inputs, folder=Path(name))
    assert run("info", here.product).exit_code == 0
    for command in ("prepare", "label", "predict", "evaluate"):
        done = COMMANDS[command].run(here, tmp_path / "out" / command)
        assert done.exit_code == 0, done.stderr


def test_a_result_of_no_name_at_all_is_refused(tmp_path: Path) -> None:
    for name in ("a\0b", "a\udcff"):
        with pytest.raises(OutputError, match="not UTF-8 or contains a null byte"):
            write_json(tmp_path / name / "a.json", {})


#: Names that some library takes for more than a name: an address, an archive in another, a pattern, an option, markup.
NAMES = [
    *("a!b", "a\nb", "a?b;c#d", "http:", "zip:", "file:", "vsicurl", "a.zip!b", "-a", "*[a]{a}", "'\"$(x)~"),
    *("%41%s", " ü北 :,=\t\x1b[2J "),
]


@pytest.mark.parametrize(
    ("name", "out"), [(c, n) for c in ("label", "prepare", "chart") for n in (NAMES[:4] if c == "prepare" else NAMES)]
)
def test_results_come_into_folders_of_any_name(
    name: str, out: str, workshop: Inputs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From where one is: a path that begins with the name, as people write it, and no other file anywhere."""
    monkeypatch.chdir(tmp_path)
    command = COMMANDS[name]
    words = [w if w != "classes,chart" else "chart,sigrid3,geojson" for w in command.words(workshop)]
    done = run(*words, "--out", Path(out) / "o")
    assert done.exit_code == 0, done.stderr
    made = tmp_path / out / "o" / command.result(workshop)
    assert {p.name for p in made.iterdir()} >= {"label": {"labels.tif", "label.json"}, "prepare": {"product.tif"}}.get(
        name, {"chart.gpkg", "chart.geojson", "chart.json"}
    )
    assert [p.name for p in tmp_path.iterdir()] == [out]
    assert [p.name for p in (tmp_path / out).iterdir()] == ["o"]
    if name == "chart":
        with closing(sqlite3.connect(made / "chart.gpkg")) as db:
            (count,) = db.execute("SELECT count(*) FROM ice_chart").fetchone()
        assert count == len(json.loads((made / "chart.geojson").read_text())["features"]) > 0
        (shapefile,) = made.glob("*.shx")
        assert shapefile.stat().st_size == 100 + 8 * count  # ESRI's format
        assert "finished before" in run(*words, "--out", Path(out) / "o").stdout


@pytest.mark.parametrize("name", [*COMMANDS, "train", "compare", "simulate pixels", "simulate twin", "demo", "info"])
def test_a_name_that_is_no_text_is_refused_before_any_work(name: str, workshop: Inputs, tmp_path: Path) -> None:
    config = Path(__file__).parents[1] / "configs" / "demo.toml"
    others = {"train": ["train", config], "compare": ["compare", config], "info": ["info", workshop.chart]}
    others |= {"simulate pixels": ["simulate", "pixels", workshop.product], "simulate twin": ["simulate", "twin"]}
    words = others.get(name, ["demo", "--size", "smallest"]) if name not in COMMANDS else COMMANDS[name].words(workshop)
    for out in (tmp_path / "\udcff", tmp_path / "\udcff" / "out"):
        done = run(*words, "--out", out)
        assert done.exit_code == 1
        assert "not UTF-8" in done.stderr, done.stderr
    assert not contents(tmp_path)


def test_whatever_goes_wrong_is_an_error_of_ours() -> None:
    with pytest.raises(FloemapError, match="does not exist"):
        regular_file("none")


def test_a_path_that_does_not_exist_is_compared_with_what_is_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "charts").mkdir()
    (tmp_path / "charts" / "chart.gpkg").touch()
    meant = {"charts/chrt.gpkg": "chart.gpkg", "chart/chart.gpkg": "charts", "chart/a/b.gpkg": "charts"}
    monkeypatch.chdir(tmp_path)
    for base, told in ((tmp_path, str(tmp_path)), (Path(), "the current folder")):
        for name, similar in meant.items():
            with pytest.raises(FloemapError) as e:
                regular_file(base / name)
            where = str(base / "charts") if similar == "chart.gpkg" else told
            wrong = "chrt.gpkg" if similar == "chart.gpkg" else "chart"
            assert e.value.hint == f"There is no {wrong!r} in {where}: did you mean {similar!r}?"
    with pytest.raises(FloemapError, match="There is no 'x' in the current folder"):
        regular_file("x")
    with pytest.raises(FloemapError, match=r"There is no 'x' in .*gpkg"):
        regular_file("charts/chart.gpkg/x")


def test_a_folder_that_is_missing_and_one_that_is_none_are_different_errors(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert existing_folder(tmp_path) == tmp_path
    absent = f"does not exist. There is no 'none' in {tmp_path}. Look."
    for name, words in (("none", absent), ("file", "is not a folder. Look.")):
        with pytest.raises(FloemapError) as e:
            existing_folder(tmp_path / name, "Look.")
        assert str(e.value) == f"{tmp_path / name}: {words}"


@pytest.mark.parametrize(
    ("number", "words"), [(0, "0 charts"), (1, "1 chart"), (2, "2 charts"), (1500, "1,500 charts")]
)
def test_numbers_of_things(number: int, words: str) -> None:
    assert counted(number, "chart") == words


def test_no_garbage_is_collected_while_a_text_of_any_depth_is_parsed() -> None:
    """At the deepest, the end of an object has no stack left: Python prints its error, and a test run fails."""
    assert gc.isenabled() and parsed(lambda _: gc.isenabled(), "") is False and gc.isenabled()
    with pytest.raises(RecursionError):
        parsed(json.loads, "[" * 100_000)
    assert gc.isenabled()
    gc.disable()
    try:
        assert parsed(json.loads, "[1]") == [1] and not gc.isenabled()
    finally:
        gc.enable()
