"""An archive: many products on processes of dask.distributed, workers that die, products that cannot be charted."""

from __future__ import annotations

import csv
import ctypes
import errno
import json
import os
import re
import shutil
import signal
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NoReturn

import dask
import psutil
import pystac
import pytest
from distributed import Client, KilledWorker, LocalCluster, WorkerPlugin
from processes import is_running
from workshop import Inputs, contents, run

from floemap.archive import archive, work
from floemap.archive.answers import final_answers
from floemap.archive.archive import Archive, chart_archive
from floemap.archive.cluster import Cluster, connected
from floemap.archive.manifest import Manifest
from floemap.archive.rows import COLUMNS, Row, failed_row, waiting_row
from floemap.archive.scenes import find_scenes
from floemap.archive.work import Answer
from floemap.errors import ConfigError, FloemapError, OutputError, ProductError
from floemap.inference.draftchart.chart import DraftChart, make_charts
from floemap.inference.draftchart.settings import ChartSettings
from floemap.outcomes import Outcome
from floemap.remote.address import path_of

SETTINGS = ChartSettings(only=("classes",), min_area_km2=100)


class Death(WorkerPlugin):  # type: ignore[misc]  # distributed's classes have no types
    """Kills the process that charts the scene "b", once, when all is written and nothing renamed."""

    def __init__(self, once: Path) -> None:
        self.once = once

    def setup(self, worker: Any) -> None:
        from floemap.inference.draftchart import chart

        describe = vars(chart)["describe_files"]

        def describe_files(folder: Path, names: Sequence[str]) -> Any:
            if folder.name.startswith(".b.partial") and not self.once.exists():
                assert (folder / "classes.tif").stat().st_size
                self.once.touch()
                os.kill(os.getpid(), signal.SIGKILL)
            return describe(folder, names)

        vars(chart)["describe_files"] = describe_files


@dataclass(frozen=True)
class Done:
    """A call with everything in it: its scenes, what it gave, what its callbacks saw."""

    scenes: Path
    archive: Archive
    finished: list[Outcome[Any]]
    steps: list[tuple[float, float, str]]
    died: Path


@pytest.fixture(scope="module")
def pool() -> Iterator[Cluster]:
    """A process of its own on this machine; when it dies, another one takes its place, however slowly it starts.

    dask, left alone, ends a process for good that starts more slowly than this limit of its own.
    """
    with (
        dask.config.set({"distributed.deploy.lost-worker-timeout": "10ms"}),
        connected("local", jobs=1, retries=1) as cluster,
    ):
        yield cluster


@pytest.fixture(scope="module")
def address(pool: Cluster) -> str:
    return str(pool.client.scheduler.address)


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory, workshop: Inputs, pool: Cluster, address: str) -> Done:
    """One product as downloaded, two prepared, of which one meets the death of its process, and a damaged one."""
    folder = tmp_path_factory.mktemp("archive")
    scenes = folder / "scenes"
    shutil.copytree(workshop.product, scenes / "2018" / workshop.product.name)
    for name in ("a", "b"):
        shutil.copytree(workshop.prepared, scenes / name)
    (scenes / "poison.zip").write_bytes(b"PK\x03\x04 and no more")
    pool.client.register_plugin(Death(folder / "died"))
    finished: list[Outcome[Any]] = []
    steps: list[tuple[float, float, str]] = []
    archive = chart_archive(
        scenes,
        [workshop.model],
        folder / "charts",
        SETTINGS,
        cluster=address,
        finished=finished.append,
        progress=lambda *step: steps.append(step),
    )
    return Done(scenes, archive, finished, steps, folder / "died")


def rows(folder: Path) -> dict[str, dict[str, str]]:
    with (folder / "archive.csv").open(newline="", encoding="utf-8") as file:
        return {row["scene"]: row for row in csv.DictReader(file)}


def test_what_fails_does_not_stop_the_rest(done: Done, workshop: Inputs) -> None:
    """A process was killed in the middle of "b", which another one charted; the damaged product failed."""
    assert done.died.exists(), "a process was killed in the middle of a chart"
    charted = {o.product.name for o in done.archive.outcomes if o.result is not None}
    assert charted == {"a", "b", workshop.product.name}
    assert [p.name for p in done.archive.failed] == ["poison.zip"]
    assert len(done.finished) == len(done.archive.outcomes) == 4
    assert [o.product for o in done.archive.outcomes] == [path_of(p).absolute() for p in find_scenes([done.scenes])]
    assert done.steps[-1] == (4, 4, "1 failed")
    assert str(done.archive.outcomes[-1].error).startswith(str(done.scenes / "poison.zip"))


def test_charts_are_those_of_floemap_chart(done: Done, workshop: Inputs, tmp_path: Path) -> None:
    make_charts([done.scenes / "b", workshop.product], [workshop.model], tmp_path, SETTINGS)
    for name in ("b", workshop.name):
        ours, theirs = contents(done.archive.folder / name), contents(tmp_path / name)
        assert set(ours) == set(theirs)
        assert ours["classes.tif"] == theirs["classes.tif"]
        one, two = (json.loads(c["chart.json"]) for c in (ours, theirs))
        for told in ("seconds", "created", "sources", "warnings", "files", "bytes"):
            one.pop(told), two.pop(told)
        assert one == two


def test_the_manifest_says_what_became_of_each_product(done: Done, workshop: Inputs) -> None:
    folder, charted = done.archive.folder, ("a", "b", workshop.name)
    table = rows(folder)
    assert {n: row["state"] for n, row in table.items()} == dict.fromkeys(charted, "charted") | {"poison": "failed"}
    start = json.loads((workshop.prepared / "product.json").read_text())["scene"]["start"]
    assert {table[n]["sensing_start"] for n in charted} == {start}
    assert table["a"]["error"] == "" != table["poison"]["error"]
    assert str(done.scenes) not in (folder / "archive.csv").read_text(), "tables are passed on"
    collection = pystac.Collection.from_file(str(folder / "collection.json"))
    links = [str(link.href) for link in collection.get_links("item")]
    assert links == [f"./{name}/item.json" for name in sorted(charted)]
    items = [pystac.Item.from_file(str(folder / href)) for href in links]
    assert collection.extent.spatial.bboxes == [pytest.approx(items[0].bbox)]
    assert "SIMULATED" in collection.title
    assert json.loads((folder / "archive.json").read_text())["scenes"] == {"charted": 3, "failed": 1, "waiting": 0}
    assert {p.name for p in folder.iterdir()} == {*(*charted, "archive.csv", "archive.json", "collection.json")}, (
        "what was left by the killed process is gone"
    )


def test_the_same_call_resumes(done: Done, pool: Cluster, workshop: Inputs, tmp_path: Path) -> None:
    """What is finished is not touched, and what is missing is made."""
    folder = tmp_path / "charts"
    shutil.copytree(done.archive.folder, folder)
    shutil.rmtree(folder / "a")
    before, kept = rows(folder), contents(folder / "b")
    scenes = tmp_path / "list.txt"
    again = [done.scenes / "a", done.scenes / "poison.zip", done.scenes / "b"]
    scenes.write_text("# again\n" + "\n".join(map(str, again)) + "\n", encoding="utf-8")
    # What a client reads of a scheduler's file. dask's own writer fails whenever a worker has just reported its work.
    (tmp_path / "scheduler.json").write_text(json.dumps({"address": pool.client.scheduler.address}))
    where: list[str | Path] = ["--cluster", tmp_path / "scheduler.json", "--model", workshop.model, "--out", folder]
    found = run("archive", scenes, *where, "--only", "classes", "--min-area", "100")
    assert found.exit_code == 1
    assert "1 of 3 products could not be charted: poison.zip" in found.stderr
    assert f"workers: {pool.workers}, dashboard at http://127.0.0.1:" in found.stderr
    assert sorted(line.endswith("(finished before)") for line in found.stdout.splitlines()) == [False, True]
    assert contents(folder / "b") == kept
    after = rows(folder)
    assert after["a"]["state"] == "charted" and after["a"]["ended"] >= before["a"]["ended"]
    assert {n: after[n] for n in ("b", workshop.name)} == {n: before[n] for n in ("b", workshop.name)}, (
        "rows of other calls stay, and those of finished charts do not change"
    )


def test_a_local_cluster_is_reached_from_this_machine_only(pool: Cluster) -> None:
    me = psutil.Process()
    heard = [c for p in (me, *me.children(recursive=True)) for c in p.net_connections() if c.status == "LISTEN"]
    assert heard
    assert {c.laddr.ip for c in heard} == {"127.0.0.1"}


def test_one_call_at_a_time_works_in_a_folder(done: Done, address: str, workshop: Inputs, tmp_path: Path) -> None:
    def second(outcome: Outcome[Any]) -> None:
        with pytest.raises(OutputError, match="another run charts an archive in it"):
            chart_archive(done.scenes, [workshop.model], tmp_path, SETTINGS, cluster=address)

    chart_archive(done.scenes / "a", [workshop.model], tmp_path, SETTINGS, cluster=address, finished=second)


def test_files_of_others_stay(workshop: Inputs, tmp_path: Path) -> None:
    (tmp_path / "archive.csv").write_text("mine")
    with pytest.raises(OutputError, match="did not make it"):
        chart_archive(workshop.prepared, [workshop.model], tmp_path, SETTINGS)
    assert (tmp_path / "archive.csv").read_text() == "mine"


@pytest.mark.parametrize(
    ("cluster", "words"),
    [("slurm", "is not a cluster"), ("nowhere/scheduler.json", "is not a cluster")],
)
def test_a_wrong_cluster_is_named(cluster: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words), connected(cluster, jobs=None, retries=0):
        pass


def test_jobs_are_of_a_local_cluster(address: str) -> None:
    with pytest.raises(ConfigError, match="--jobs"), connected(address, jobs=2, retries=0):
        pass


def test_without_the_package_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "distributed", None)
    with pytest.raises(FloemapError, match=r"\.\[archive\]"), connected("local", jobs=1, retries=0):
        pass


# --- answers


@pytest.fixture
def threads() -> Iterator[Client]:
    """A cluster within this process, for what is about answers and not about processes."""
    with (
        LocalCluster(n_workers=1, threads_per_worker=1, processes=False, dashboard_address="127.0.0.1:0") as cluster,
        Client(cluster) as client,
    ):
        yield client


def stand_in(tried: list[str], products: Sequence[Path]) -> list[Answer]:
    """Takes the place of charting: what happens is the product's name."""
    answers = []
    for product in products:
        tried.append(product.name)
        if product.name.startswith("killer") or (product.name == "beside" and tried.count("beside") == 1):
            raise KilledWorker(product.name, SimpleNamespace(address="tcp://nowhere"), 0)
        busy = OutputError("cannot be written.", path=product)
        busy.__cause__ = OSError(errno.EIO, "broken")
        if product.name == "busy" or (product.name == "busy once" and tried.count("busy once") == 1):
            answers.append(work.answer_of(Outcome(product, None, busy), 1.0))
        elif product.name == "damaged":
            answers.append(work.answer_of(Outcome(product, None, ProductError("is damaged.", path=product)), 1.0))
        else:
            answers.append(Answer(Outcome(product, DraftChart(product), None), Row(product.name, "p", "charted")))
    return answers


TRIED: list[str] = []
TOGETHER: list[int] = []


def counted(order: Any, products: Sequence[Path]) -> list[Answer]:
    """Found by its name by the cluster's thread, and so counts in this process."""
    TOGETHER.append(len(products))
    return stand_in(TRIED, products)


def test_what_may_pass_is_tried_again(threads: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    """Errors of the system are tried again, those of products are not, and neighbours of a killer recover."""
    TRIED.clear(), TOGETHER.clear()
    monkeypatch.setattr("floemap.archive.answers.chart_products", counted)
    names = ["good", "killer", "busy", "beside", "damaged", "busy once"]
    found = final_answers(Cluster(threads, "", 1), None, [Path(n) for n in names], 2)
    tries = {a.outcome.product.name: (a.outcome.error is None, n) for a, n in found}
    assert {name: ok for name, (ok, _) in tries.items()} == {
        **dict.fromkeys(("good", "beside", "busy once"), True),
        **dict.fromkeys(("killer", "busy", "damaged"), False),
    }
    assert {name: tries[name][1] for name in ("good", "busy", "damaged", "busy once")} == {
        **{"good": 1, "busy": 3, "damaged": 1, "busy once": 2}
    }
    assert {name: TRIED.count(name) for name in names} == {
        **{"good": 1, "killer": 2, "busy": 3, "beside": 2, "damaged": 1, "busy once": 2}
    }


def test_products_of_one_name_are_charted_one_after_the_other(threads: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    """They would have one folder."""
    TRIED.clear(), TOGETHER.clear()
    monkeypatch.setattr("floemap.archive.answers.chart_products", counted)
    list(final_answers(Cluster(threads, "", 1), None, [Path("x/one.zip"), Path("two"), Path("y/one.SAFE")], 0))
    assert sorted(TOGETHER) == [1, 2]


# --- which products


def test_scenes_are_found_by_folder_pattern_and_list(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("x/one.zip", "x/deep/two.SAFE/manifest.safe", "x/three/product.tif", "x/notes.txt", "x/.old/no.zip"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "[l]").mkdir()
    (tmp_path / "[l]" / "list.txt").write_text("# my scenes\n../x/one.zip\n\n../x/t*\nmissing.zip\n")
    monkeypatch.chdir(tmp_path)
    x = Path("x")
    assert find_scenes([x]) == [x / "deep/two.SAFE", x / "one.zip", x / "three"]
    assert find_scenes(["x/*.zip", "x/one.zip"]) == [x / "one.zip"], "each once"
    assert find_scenes(["**/*.SAFE"]) == [x / "deep/two.SAFE"]
    assert [p.name for p in find_scenes(["[l]/list.txt"])] == ["one.zip", "three", "missing.zip"]
    with pytest.raises(ConfigError, match=r"\[l\]: contains no product"):
        find_scenes(["[l]"])
    with pytest.raises(ConfigError, match="no product matches"):
        find_scenes(["y*.zip"])
    with pytest.raises(ConfigError, match="no scene is given"):
        find_scenes([])


# --- the table


def test_a_product_has_one_row_whatever_its_file_is_called(tmp_path: Path) -> None:
    manifest, expected = Manifest(tmp_path), waiting_row(tmp_path / "renamed.zip")
    manifest.expect(expected)
    assert manifest.counts() == {"charted": 0, "failed": 0, "waiting": 1}
    manifest.put(Row("S1A_EW", "renamed.zip", "charted"), expected)
    assert manifest.counts() == {"charted": 1, "failed": 0, "waiting": 0}
    manifest.write()
    assert list(rows(tmp_path)) == ["S1A_EW"]


def test_a_collection_across_the_date_line_has_a_box_that_holds_all(tmp_path: Path) -> None:
    manifest = Manifest(tmp_path)
    times = ("2018-01-16T07:54:30+00:00", "2018-01-16T07:55:30+00:00")
    for name, west, east in (("a", 170.0, -175.0), ("b", -10.0, 5.0)):
        row = Row(name, name, "charted", *times, west=west, south=70.0, east=east, north=75.0)
        manifest.put(row, row)
    manifest.write_collection()
    box = json.loads((tmp_path / "collection.json").read_text())["extent"]["spatial"]["bbox"][0]
    assert box == [-180.0, 70.0, 180.0, 75.0]


def test_rows_survive_the_table() -> None:
    row = Row("=cmd()", "p", "failed", error="-1, 'quoted'\nand\x1b more", seconds=1.5, west=-12.25, tries=2)
    cells = dict(zip(COLUMNS, row.cells(), strict=True))
    assert cells["scene"] == "'=cmd()", "a spreadsheet takes it for text"
    assert cells["west"] == "-12.25"
    assert cells["error"].startswith("'-1") and "\n" not in cells["error"]
    back = Row.from_cells(cells)
    assert (back.scene, back.west, back.seconds, back.tries) == ("=cmd()", -12.25, 1.5, 2)
    assert back.cells() == row.cells()


def test_a_table_that_was_cut_off_keeps_its_whole_rows(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    manifest = Manifest(tmp_path)
    for name in "abc":
        manifest.expect(waiting_row(tmp_path / f"{name}.zip"))
    manifest.write()
    whole = (tmp_path / "archive.csv").read_bytes()
    for end, kept in ((-12, 2), (len(whole) // 2, None), (5, 0)):
        (tmp_path / "archive.csv").write_bytes(whole[:end])
        found = Manifest(tmp_path).counts()["waiting"]
        assert found == kept if kept is not None else found < 3
    assert "rows that cannot be read" in caplog.text
    (tmp_path / "archive.csv").write_bytes(whole.replace(b"b.zip", b"\xff\x00.zip"))
    assert Manifest(tmp_path).counts()["waiting"] == 3


def test_a_long_error_is_cut_and_the_table_read_again(tmp_path: Path) -> None:
    """Python's reader of tables refuses a cell of more than 131072 characters, and with it all rows."""
    manifest, product = Manifest(tmp_path), tmp_path / "a.zip"
    error = ProductError("says " + "x" * 200_000, path=product)
    manifest.put(failed_row(product, error, datetime.now(UTC), 1.0), waiting_row(product))
    manifest.write()
    assert Manifest(tmp_path).failed() == ["a.zip"]
    assert rows(tmp_path)["a"]["error"].startswith("a.zip: says xxx")


def test_a_table_that_cannot_be_written_now_does_not_end_the_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A disk may be full for a while. The table is written at the end."""
    manifest = Manifest(tmp_path)
    full = OutputError("cannot be written: No space left on device.", path=tmp_path / "archive.csv")
    monkeypatch.setattr(manifest, "write", lambda: (_ for _ in ()).throw(full))
    monkeypatch.setattr(archive, "_TABLE_EVERY_S", -1.0)
    products = [tmp_path / name for name in "ab"]
    answers = [(Answer(Outcome(p, DraftChart(p), None), Row(p.name, p.name, "charted")), 1) for p in products]
    found = archive._collect(iter(answers), products, manifest, lambda outcome: None, lambda *step: None)
    assert set(found) == set(products) and caplog.text.count("No space left") == 2


def test_products_of_a_server_are_charted_and_their_keys_stay_there(
    small_zip: Path, workshop: Inputs, pool: Cluster, address: str, tmp_path: Path
) -> None:
    """One that is not there costs itself only; the same call asks for the others and copies nothing."""
    pytest.importorskip("requests")
    from loopback import Loopback

    with Loopback() as server:
        server.files[small_zip.name] = small_zip.read_bytes()
        scenes = tmp_path / "list.txt"
        names = (small_zip.name, "S1A_EW_GRDM_1SDH_none.zip")
        scenes.write_text("".join(f"{server.url}/files/{name}?Signature=5ecre7\n" for name in names))
        copies = []
        for _ in range(2):
            archive = chart_archive(scenes, [workshop.model], tmp_path / "charts", SETTINGS, cluster=address)
            assert [p.name for p in archive.failed] == [names[1]]
            copies.append([s for s in server.of(small_zip.name) if "Range" not in s.headers])
        assert [len(c) for c in copies] == [1, 1]
    assert archive.outcomes[0].result.skipped
    table = rows(archive.folder)
    assert table[Path(names[1]).stem]["error"].count("answers 404") == 1
    assert {row["state"] for row in table.values()} == {"charted", "failed"}
    assert not any("5ecre7" in p.read_bytes().decode("latin-1") for p in archive.folder.rglob("*") if p.is_file())


class Hang(WorkerPlugin):  # type: ignore[misc]  # distributed's classes have no types
    """Lets the product "slow" hang in a library that holds Python's lock, as broken ones do; notes the process."""

    def __init__(self, noted: Path) -> None:
        self.noted = noted

    def setup(self, worker: Any) -> None:
        from floemap.inference.draftchart.chart import ChartCall

        make = ChartCall.make

        def hangs(call: ChartCall, product: Path, *rest: Any) -> DraftChart:
            if product.name == "slow":
                with self.noted.open("a") as file:
                    file.write(f"{os.getpid()}\n")
                ctypes.PyDLL(None).sleep(600)
            return make(call, product, *rest)

        ChartCall.make = hangs  # type: ignore[method-assign, assignment]


def test_a_product_that_hangs_is_ended_at_its_limit_and_the_rest_charted(
    done: Done, pool: Cluster, address: str, workshop: Inputs, tmp_path: Path
) -> None:
    noted, folder = tmp_path / "processes", tmp_path / "charts"
    shutil.copytree(done.archive.folder, folder)
    pool.client.register_plugin(Hang(noted))
    scenes = [tmp_path / "slow", done.scenes / "a"]
    more: dict[str, Any] = {"cluster": address, "retries": 0, "product_minutes": 0.06}
    found = chart_archive(scenes, [workshop.model], folder, SETTINGS, **more)
    slow, other = found.outcomes
    assert "took longer than 0.06 min, and its process was ended" in str(slow.error)
    assert other.error is None
    processes = noted.read_text().split()
    assert len(processes) == 1, "with no retries it is begun once"
    assert not is_running(int(processes[0]))
    row = rows(folder)["slow"]
    assert (row["state"], row["tries"]) == ("failed", "1")
    assert not (folder / ".stopped").exists()


#: What is wrong in a call, and the words that say so. The current folder is empty.
WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "a folder without products": ({"scenes": "."}, "contains no product"),
    "a pattern": ({"scenes": "*.zip"}, "no product matches"),
    "a model": ({"models": ["m.safetensors"]}, "m.safetensors: does not exist"),
    "a land mask": ({"land_mask": "land.gpkg"}, "land.gpkg: does not exist"),
    "a device": ({"device": "cuda:99"}, "there is no GPU 'cuda:99'"),
    "a pixel size": ({"settings": ChartSettings.checked(prepare={"resolution_m": 300.0})}, "300 m are requested"),
    "a grid": ({"settings": ChartSettings.checked(prepare={"grid": "image"})}, "prepare.grid is image"),
    "a cluster": ({"cluster": "slurm"}, "is not a cluster"),
    "processes of a cluster that runs": ({"cluster": "tcp://host:8786", "jobs": 2}, "--jobs"),
    "a dashboard": ({"dashboard": "anywhere"}, "is not the address of a dashboard"),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_what_is_wrong_is_said_before_a_cluster_starts(
    wrong: str, workshop: Inputs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def start(*_: Any, **__: Any) -> NoReturn:
        raise AssertionError("a cluster started")

    monkeypatch.setattr("floemap.archive.archive.connected", start)
    empty = tmp_path / "empty"
    empty.mkdir()
    monkeypatch.chdir(empty)
    given, words = WRONG[wrong]
    call: dict[str, Any] = {"scenes": workshop.prepared, "models": [workshop.model], "settings": SETTINGS} | given
    with pytest.raises(FloemapError, match=re.escape(words)):
        chart_archive(out=tmp_path / "charts", **call)
    assert not (tmp_path / "charts").exists(), "and before anything is written"


def test_a_product_that_is_not_there_needs_no_cluster(
    workshop: Inputs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("floemap.archive.archive.connected", None)
    done = chart_archive([tmp_path / "a.zip", tmp_path / "b.SAFE"], [workshop.model], tmp_path / "charts", SETTINGS)
    assert done.failed == [tmp_path / "a.zip", tmp_path / "b.SAFE"]
    assert ["does not exist" in str(o.error) for o in done.outcomes] == [True, True]
    assert {name: row["state"] for name, row in rows(done.folder).items()} == {"a": "failed", "b": "failed"}


@pytest.mark.parametrize("minutes", [0, -1, float("nan"), float("inf"), 1e9])
def test_a_limit_that_is_none_is_refused(minutes: float, workshop: Inputs, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="the time limit of a product"):
        chart_archive(workshop.prepared, [workshop.model], tmp_path, SETTINGS, product_minutes=minutes)
