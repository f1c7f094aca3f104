"""Watching a folder: half-copied products, processes that are killed, products that fail, each charted once."""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
import shapely
from loopback import PASSWORD, USER, Loopback, drop, status
from processes import command_of, descendants, is_running
from workshop import Inputs, contents, run

from floemap.archive import aside
from floemap.archive.arrivals import Arrivals
from floemap.archive.aside import serve
from floemap.archive.catalogue import box_from_text, catalogue_of
from floemap.archive.journal import JOURNAL, Entry, Journal
from floemap.archive.watch import Watched, watch_folder
from floemap.archive.work import Order
from floemap.datasets.download.copernicus import Account, find_published
from floemap.datasets.download.http import Services, Web
from floemap.errors import ConfigError, FloemapError, OutputError
from floemap.inference.draftchart.chart import ChartCall, DraftChart
from floemap.inference.draftchart.settings import ChartSettings
from floemap.inference.predict.model_files import find_models
from floemap.outcomes import Outcome
from floemap.results.stage import write_json

SETTINGS = ChartSettings(only=("classes",), min_area_km2=100)


def events(out: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (out / "watch.jsonl").read_text(encoding="utf-8").splitlines()]


class Clock:
    """Time that passes when somebody waits."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


# --- what has arrived


def test_a_zip_counts_when_it_is_complete_and_quiet(small_zip: Path, tmp_path: Path) -> None:
    """Copied in pieces: however long the copy pauses, half a zip is not taken for a product."""
    clock, content, path = Clock(), small_zip.read_bytes(), tmp_path / small_zip.name
    arrivals = Arrivals(tmp_path, settle_s=10, patience_s=1000, clock=clock)
    path.write_bytes(content[: len(content) // 2])
    for seconds in (0, 10, 500):
        clock.now += seconds
        assert arrivals.look() == ([], 1)
    path.write_bytes(content)
    assert arrivals.look() == ([], 1), "it has changed just now"
    clock.now += 9.9
    assert arrivals.look() == ([], 1)
    clock.now += 0.1
    found, arriving = arrivals.look()
    assert ([a.path for a in found], arriving) == ([path], 0)


def test_half_a_zip_that_stays_so_is_given_in_the_end(small_zip: Path, tmp_path: Path) -> None:
    clock, path = Clock(), tmp_path / small_zip.name
    path.write_bytes(small_zip.read_bytes()[:-100])
    arrivals = Arrivals(tmp_path, settle_s=10, patience_s=1000, clock=clock)
    arrivals.look()
    clock.now = 1000
    assert [a.path for a in arrivals.look()[0]] == [path], "so that somebody hears of it"


def test_a_folder_counts_when_nothing_in_it_changes(small_product: Path, tmp_path: Path) -> None:
    clock, folder = Clock(), tmp_path / small_product.name
    arrivals = Arrivals(tmp_path, settle_s=10, patience_s=1000, clock=clock)
    shutil.copytree(small_product, folder, ignore=shutil.ignore_patterns("*.tiff"))
    assert arrivals.look() == ([], 1)
    clock.now = 9
    (folder / "measurement").mkdir(exist_ok=True)
    (folder / "measurement" / "late.tiff").write_bytes(b"1")
    assert arrivals.look() == ([], 1)
    clock.now = 18
    assert arrivals.look() == ([], 1), "9 seconds after the last change"
    clock.now = 19
    assert [a.path for a in arrivals.look()[0]] == [folder]


def test_a_pipe_and_a_link_to_nowhere_are_given_in_the_end_and_not_waited_for(tmp_path: Path) -> None:
    """Whoever may copy products into the folder cannot stop the others, and hears of what is wrong."""
    clock = Clock()
    os.mkfifo(tmp_path / "pipe.zip")
    (tmp_path / "link.zip").symlink_to(tmp_path / "nowhere.zip")
    (tmp_path / "S1A.SAFE").mkdir()
    (tmp_path / "S1A.SAFE" / "manifest.safe").symlink_to(tmp_path / "nowhere")
    arrivals = Arrivals(tmp_path, settle_s=10, patience_s=1000, clock=clock)
    assert arrivals.look() == ([], 3)
    clock.now = 1000
    assert {a.path.name for a in arrivals.look()[0]} == {"pipe.zip", "link.zip", "S1A.SAFE"}


def test_a_folder_that_cannot_be_read_does_not_hide_the_others(
    small_zip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    for name in ("a", "locked", "gone", "z"):
        (tmp_path / name).mkdir()
    shutil.copy(small_zip, tmp_path / "z")
    errors = {"locked": PermissionError(errno.EACCES, "Permission denied"), "gone": FileNotFoundError()}
    iterdir = Path.iterdir

    def look_into(folder: Path) -> Iterator[Path]:
        if folder.name in errors:
            raise errors[folder.name]
        return iterdir(folder)

    monkeypatch.setattr(Path, "iterdir", look_into)
    arrivals = Arrivals(tmp_path, settle_s=0, patience_s=0)
    for _ in range(3):
        assert [a.path.name for a in arrivals.look()[0]] == [small_zip.name]
    assert [r.getMessage() for r in caplog.records] == [
        f"{tmp_path / 'locked'} cannot be looked into: Permission denied. The others are."
    ], "said once"


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(FloemapError, match="nowhere: does not exist"):
        Arrivals(tmp_path / "nowhere", settle_s=1, patience_s=1).look()


# --- the record


def entry(event: Any, product: str = "p", state: str = "1") -> Entry:
    return Entry(event, product, state, "2018-01-16T08:00:00+00:00")


def test_the_record_survives_a_line_that_was_cut_off(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    journal.add(entry("charted"))
    journal.add(entry("begun", "q"))
    whole = (tmp_path / "watch.jsonl").read_bytes()
    for cut in range(whole.index(b"\n") + 1, len(whole), 40):
        (tmp_path / "watch.jsonl").write_bytes(whole[:cut])
        again = Journal(tmp_path)
        assert again.is_ended("p", "1")
        assert again.begun("q", "1") == 0
        again.add(entry("failed", "r"))
        assert Journal(tmp_path).is_ended("r", "1")
        assert Journal(tmp_path).is_ended("p", "1")


def test_what_is_stopped_is_begun_again_and_counts_from_zero(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    for event, begun in (("begun", 1), ("begun", 2), ("stopped", 0), ("begun", 1)):
        journal.add(entry(event))
        assert (journal.begun("p", "1"), journal.is_ended("p", "1")) == (begun, False)
    journal.add(entry("failed"))
    assert journal.is_ended("p", "1") and not journal.is_ended("p", "2"), "copied anew it is another one"


def test_a_line_of_another_form_does_not_count(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    journal.add(Entry("charted", "a.zip", "1", "t"))
    line = json.loads((tmp_path / JOURNAL).read_text())
    with (tmp_path / JOURNAL).open("a") as file:
        others: list[dict[str, Any]] = [{"product": ["b.zip"]}, {"state": {}}, {"event": None}]
        for other in others:
            file.write(json.dumps(line | other) + "\n")
    again = Journal(tmp_path)
    assert again.products == {"a.zip"} and again.is_ended("a.zip", "1")


def test_a_file_of_others_is_not_taken_for_the_record(tmp_path: Path) -> None:
    (tmp_path / "watch.jsonl").write_text("mine\nand mine\n")
    with pytest.raises(OutputError, match="is not the record of `floemap watch`"):
        Journal(tmp_path)


# --- charting


def watched(
    folder: Path, inputs: Inputs, out: Path, looks: list[Callable[[], object]], **options: Any
) -> tuple[Watched | None, list[Outcome[DraftChart]]]:
    """Watch with something happening between looks; the last look ends as by ctrl-C."""
    finished: list[Outcome[DraftChart]] = []
    steps = iter(looks)

    def sleep(seconds: float) -> None:
        step = next(steps, None)
        if step is None:
            raise KeyboardInterrupt
        step()

    try:
        given: dict[str, Any] = {"settle_s": 0.0, "sleep": sleep, "finished": finished.append} | options
        return watch_folder(folder, [inputs.model], out, SETTINGS, **given), finished
    except KeyboardInterrupt:
        return None, finished


def test_each_product_is_charted_once(workshop: Inputs, tmp_path: Path) -> None:
    """Across looks and calls; the record has the times; what fails is tried again when it is copied anew."""
    folder, out = tmp_path / "in", tmp_path / "out"
    folder.mkdir()
    poison = folder / "poison.nc"

    def arrive() -> None:
        shutil.copytree(workshop.prepared, folder / workshop.name)
        poison.write_bytes(b"nothing")

    _, finished = watched(folder, workshop, out, [arrive, lambda: None, lambda: None])
    assert {o.product.name: o.error is None for o in finished} == {workshop.name: True, "poison.nc": False}
    before = contents(out / workshop.name)
    _, finished = watched(folder, workshop, out, [lambda: poison.write_bytes(b"nothing again"), lambda: None])
    assert [o.product.name for o in finished] == ["poison.nc"]
    assert contents(out / workshop.name) == before
    lines = events(out)
    assert [(e["event"], e["product"]) for e in lines if e["event"] != "begun"] == [
        *(("charted", workshop.name), ("failed", "poison.nc"), ("failed", "poison.nc")),
    ]
    charted = next(e for e in lines if e["event"] == "charted")
    scene = json.loads((workshop.prepared / "product.json").read_text())["scene"]
    assert (charted["sensing_start"], charted["sensing_stop"]) == (scene["start"], scene["stop"])
    assert charted["simulated"] is True
    assert charted["seconds_from_sensing"] > 0 and charted["seen"] <= charted["at"]
    assert str(poison) in next(e for e in lines if e["event"] == "failed")["error"]


def test_killed_in_the_middle_it_resumes(workshop: Inputs, tmp_path: Path) -> None:
    """kill -9 while a chart is written; SIGTERM while it waits; then the chart is there, once."""
    folder, out = tmp_path / "in", tmp_path / "out"
    shutil.copytree(workshop.prepared, folder / workshop.name)
    call = [sys.executable, "-c", "from floemap.cli import main; main()", "watch", str(folder), "--out", str(out)]
    call += [
        "--model",
        str(workshop.model),
        "--only",
        "classes",
        "--min-area",
        "100",
        "--settle",
        "0",
        "--every",
        "0.2",
    ]

    def wait_for(found: Callable[[], bool], process: subprocess.Popen[str]) -> None:
        for _ in range(6000):
            if found():
                return
            assert process.poll() is None, process.communicate()
            time.sleep(0.01)
        raise AssertionError("it takes too long")

    with subprocess.Popen(call, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        wait_for(lambda: any(out.glob(".*.partial-*/")), process)
        os.kill(process.pid, signal.SIGKILL)
    assert not (out / workshop.name).exists()
    assert [e["event"] for e in events(out)] == ["begun"]
    with subprocess.Popen(call, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        wait_for(lambda: "charted" in (out / "watch.jsonl").read_text(), process)
        time.sleep(0.5)  # several looks later
        process.terminate()
        stdout, stderr = process.communicate(timeout=60)
    assert (process.returncode, stdout.split()) == (0, [str(out / workshop.name)])
    assert "ended by SIGTERM" in stderr
    assert [e["event"] for e in events(out)] == ["begun", "begun", "charted"]
    assert sorted(p.name for p in out.iterdir()) == sorted([workshop.name, "watch.jsonl"]), "nothing is left over"


def test_once_charts_what_is_there_and_ends(workshop: Inputs, tmp_path: Path) -> None:
    folder, out = tmp_path / "in", tmp_path / "out"
    shutil.copytree(workshop.prepared, folder / workshop.name)
    options: list[str | Path] = ["--model", workshop.model, "--out", out, "--only", "classes", "--min-area", "100"]
    done = run("watch", folder, *options, "--once", "--settle", "0")
    assert (done.exit_code, done.stdout.split()) == (0, [str(out / workshop.name)])
    (folder / "half.zip").write_bytes(b"PK\x03\x04 half")
    done = run("watch", folder, *options, "--once", "--settle", "0")
    assert done.exit_code == 1
    assert "half.zip" in done.stderr and "1 of 1 products could not be charted" in done.stderr
    assert run("watch", folder, *options, "--once", "--settle", "0").exit_code == 0, "it is not tried again"


def test_what_ends_its_process_again_and_again_is_given_up(workshop: Inputs, tmp_path: Path) -> None:
    folder, out = tmp_path / "in", tmp_path / "out"
    shutil.copytree(workshop.prepared, folder / workshop.name)
    out.mkdir()
    state = Arrivals(folder, settle_s=0, patience_s=0).look()[0][0].state
    for _ in range(3):  # as three killed processes have left it
        Journal(out).add(entry("begun", workshop.name, state))
    done, _ = watched(folder, workshop, out, [lambda: None], once=True)
    assert "was begun 3 times" in str(done.outcomes[0].error)
    assert events(out)[-1]["event"] == "failed" and not (out / workshop.name).exists()


def test_errors_of_the_system_are_tried_again(
    workshop: Inputs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A full disk may have space at the next look; after three tries it counts as failed."""
    folder, out = tmp_path / "in", tmp_path / "out"
    shutil.copytree(workshop.prepared, folder / workshop.name)
    tried: list[Path] = []

    def full(product: Path, *_: Any) -> Any:
        tried.append(product)
        raise OutputError("cannot be written: no space.", path=out) from OSError(28, "no space")

    monkeypatch.setattr("floemap.inference.draftchart.chart.ChartCall.make", lambda self, *a: full(*a))
    _, finished = watched(folder, workshop, out, [lambda: None] * 5)
    assert (len(tried), len(finished)) == (3, 1)
    done, _ = watched(folder, workshop, tmp_path / "once", [lambda: None], once=True)
    assert [p.name for p in done.failed] == [workshop.name]
    assert [e["event"] for e in events(tmp_path / "once")] == ["begun", "stopped"], "for the next call"


def test_prepared_products_are_not_kept_where_they_would_be_charted(workshop: Inputs, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="within the watched folder"):
        watch_folder(tmp_path, [workshop.model], tmp_path / "out", prepared=tmp_path / "kept")


@pytest.mark.parametrize("minutes", [None, 5.0])
@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"folder": "nowhere"}, "nowhere: does not exist"),
        ({"models": ["m.safetensors"]}, "m.safetensors: does not exist"),
        ({"land_mask": "land.gpkg"}, "land.gpkg: does not exist"),
        ({"device": "cuda:99"}, "there is no GPU 'cuda:99'"),
        ({"settings": ChartSettings.checked(prepare={"resolution_m": 300.0})}, "300 m are requested"),
    ],
    ids=lambda value: str(next(iter(value))) if isinstance(value, dict) else "",
)
def test_what_is_wrong_is_said_before_products_are_waited_for(
    wrong: dict[str, Any],
    words: str,
    minutes: float | None,
    workshop: Inputs,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("floemap.archive.watch._charting", None)
    (tmp_path / "incoming").mkdir()
    monkeypatch.chdir(tmp_path)
    call: dict[str, Any] = {"folder": "incoming", "models": [workshop.model]} | wrong
    with pytest.raises(FloemapError, match=re.escape(words)):
        watch_folder(out="charts", product_minutes=minutes, **call)
    assert not (tmp_path / "charts").exists(), "and before anything is written"


# --- what the catalogue publishes


def test_new_products_of_an_area_are_fetched_and_charted_once(
    small_zip: Path, workshop: Inputs, server: Loopback, tmp_path: Path
) -> None:
    """A download that breaks off is resumed by the next call; other missions, other names and old ones are left."""
    name, folder, out = small_zip.stem, tmp_path / "in", tmp_path / "out"
    content = small_zip.read_bytes()
    others = [name.replace("S1A", "S1B"), f"{name[:-4]}_COG", "../../evil", name.replace("1SDH", "1SDV")]
    server.products = dict.fromkeys([name, *others], content)
    server.catalogue[name] = {"PublicationDate": "2018-02-01T10:00:00.123456Z"}
    since = datetime(2018, 1, 31, tzinfo=UTC)

    def call(looks: list[Callable[[], object]]) -> list[Outcome[DraftChart]]:
        with catalogue_of(
            (170.0, 70.0, -170.0, 80.0),
            folder,
            missions=("S1A",),
            since=since,
            services=Services.at(server.url),
            account=Account(USER, PASSWORD),
            sleep=lambda seconds: None,
        ) as catalogue:
            options = {"before_look": catalogue.fetch, "published": catalogue.published}
            return watched(folder, workshop, out, looks, **options)[1]

    def stop() -> None:
        raise KeyboardInterrupt

    server.faults["$value"].extend([drop(len(content) // 2), status(403)])
    assert call([stop]) == []
    assert [p.name for p in folder.iterdir() if p.suffix == ".zip"] == []
    finished = call([lambda: None] * 3)
    assert [(o.product.name, o.error) for o in finished] == [(f"{name}.zip", None)]
    ranges = [s.headers.get("Range") for s in server.of("$value")]
    assert ranges[-1] is not None, "it went on where it broke off"
    asked = len(server.of("$value"))
    assert call([lambda: None]) == []
    (folder / f"{name}.zip").unlink()
    assert call([lambda: None]) == []
    assert len(server.of("$value")) == asked, "what was charted is not fetched again, though its file is gone"
    assert [p.name for p in folder.iterdir()] == []
    charted = next(e for e in events(out) if e["event"] == "charted")
    assert charted["published"] == "2018-02-01T10:00:00.123456+00:00"
    query = parse_qs(urlsplit(server.of("/Products?")[0].path).query)["$filter"][0]
    shapes = [shapely.from_wkt(wkt) for wkt in re.findall(r"SRID=4326;(POLYGON\(\(.*?\)\))'", query)]
    assert shapely.union_all(shapes).equals(
        shapely.union(shapely.box(170, 70, 180, 80), shapely.box(-180, 70, -170, 80))
    )


def test_many_pages_of_the_catalogue_are_read(small_zip: Path, server: Loopback, tmp_path: Path) -> None:
    names = [f"{small_zip.stem[:-4]}{i:04X}" for i in range(230)]
    server.products = dict.fromkeys(names, b"")
    with Web(sleep=lambda seconds: None) as web:
        found = find_published((0, 70, 10, 80), datetime(2018, 1, 1, tzinfo=UTC), web, Services.at(server.url))
        assert sorted(p.name for p in found) == names
        assert find_published((0, 70, 10, 80), datetime(2018, 3, 1, tzinfo=UTC), web, Services.at(server.url)) == []


@pytest.mark.parametrize("text", ["", "1,2,3", "a,b,c,d", "0,80,10,70", "0,70,190,80", "0,70,0,80", "nan,70,1,80"])
def test_a_wrong_area_is_named(text: str) -> None:
    with pytest.raises(ConfigError, match="is not an area"):
        box_from_text(text)


def test_options_of_the_catalogue_are_checked(workshop: Inputs, tmp_path: Path) -> None:
    where: list[str | Path] = ["watch", tmp_path, "--out", tmp_path / "out", "--model", workshop.model]
    assert "need --area" in run(*where, "--mission", "S1A").stderr
    assert "'S2A' is not a mission" in run(*where, "--area", "0,70,10,80", "--mission", "S2A").stderr


# --- a time limit


def slow_serve(order: Order, minutes: float, line: Any) -> None:
    """In the process aside: "slow" hangs for ever, others get a chart in no time."""

    def make(call: ChartCall, product: Path, *rest: Any) -> DraftChart:
        if product.stem == "slow":
            (order.out.parent / "process").write_text(str(os.getpid()))
            time.sleep(600)
        folder = order.out / product.stem
        folder.mkdir()
        times = {"start": "2018-01-16T00:00:00+00:00", "stop": "2018-01-16T00:01:00+00:00"}
        write_json(folder / "chart.json", {"scene": times, "created": times["stop"], "simulated": True})
        write_json(folder / "item.json", {"bbox": [0, 0, 1, 1]})
        return DraftChart(folder)

    ChartCall.make = make  # type: ignore[method-assign, assignment]
    serve(order, minutes, line)


def hang(out: Path, model: Path) -> None:
    """Chart "slow" without end, for a test that kills this process."""
    vars(aside)["serve"] = slow_serve
    digest = find_models([model])[0].sha256
    order = Order((model,), (digest,), out, SETTINGS, None, None, "torch", "auto", "auto", False)
    aside.Aside(order, 10).make(Path("slow"), (), lambda *step: None)


def test_a_product_that_hangs_is_ended_at_its_limit_and_the_rest_charted(
    workshop: Inputs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(aside, "serve", slow_serve)
    incoming, out = tmp_path / "incoming", tmp_path / "charts"
    for name in ("a", "slow", "z"):
        shutil.copytree(workshop.prepared, incoming / name)
    watched = watch_folder(incoming, [workshop.model], out, SETTINGS, once=True, settle_s=0, product_minutes=0.05)
    assert [p.name for p in watched.failed] == ["slow"]
    assert [(e["event"], e["product"]) for e in events(out) if e["event"] != "begun"] == [
        ("charted", "a"),
        ("stopped", "slow"),
        ("charted", "z"),
    ]
    assert "took longer than 0.05 min" in next(e["error"] for e in events(out) if e["event"] == "stopped")
    assert not is_running(int((tmp_path / "process").read_text()))


def never_ready(order: Order, minutes: float, line: Any) -> None:
    """In the process aside: the disk of the models does not answer."""
    time.sleep(600)


def test_a_process_aside_that_is_never_ready_ends_the_call(
    workshop: Inputs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(aside, "serve", never_ready)
    order = Order((workshop.model,), ("",), tmp_path, SETTINGS, None, None, "torch", "auto", "auto", False)
    charting = aside.Aside(order, 10, start_s=0.3)
    before = descendants(os.getpid())
    with pytest.raises(FloemapError, match=r"was not ready after 0.005 min") as e:
        charting.make(Path("slow"), (), lambda *step: None)
    assert "it resumes" in str(e.value.hint)
    assert charting.hopeless, "no product is to blame"
    assert not [pid for pid in descendants(os.getpid()) - before if "spawn_main" in command_of(pid)]


def test_the_process_aside_ends_with_its_parent(workshop: Inputs, tmp_path: Path) -> None:
    (tmp_path / "charts").mkdir()
    code = "import sys, pathlib, test_58_watch as t; t.hang(*map(pathlib.Path, sys.argv[1:]))"
    script = tmp_path / "script.py"
    script.write_text(f"if __name__ == '__main__':\n    {code}\n")
    path = os.pathsep.join([str(Path(__file__).parent), *sys.path])
    words = [sys.executable, str(script), str(tmp_path / "charts"), str(workshop.model)]
    noted = tmp_path / "process"
    with subprocess.Popen(words, env=os.environ | {"PYTHONPATH": path}) as parent:
        try:
            until(lambda: noted.exists() and noted.read_text() != "")
        finally:
            parent.kill()
    until(lambda: not is_running(int(noted.read_text())))


def until(true: Callable[[], bool]) -> None:
    end = time.monotonic() + 120
    while not true():
        assert time.monotonic() < end
        time.sleep(0.05)
