"""Whatever stands where a result would go: nothing of it vanishes, whoever made it, with --overwrite or without."""

from __future__ import annotations

import errno
import json
import os
import shutil
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from pathlib import Path

import pytest
from run_maker import make_run
from tiny_model import ABOUT, WITH_TINY, scene, tiny_settings
from workshop import COMMANDS, Command, Inputs, contents, copied, run

from floemap.errors import FloemapError, OutputError
from floemap.evaluation.checks.assess import assess_scene
from floemap.learning.training.loop import train
from floemap.legend import SIX_CLASSES
from floemap.results.folders import stage_folder
from floemap.results.stage import LOCK, Stage, alone_in, made_folder, one_at_a_time, write_whole
from floemap.results.whole_files import whole_files
from floemap.simulation.pixels import simulate_pixels
from floemap.simulation.safe.spec import ProductSpec
from floemap.simulation.safe.writer import write_safe

A = Stage("floemap a", "a.json", revision=0)


def nothing_vanishes(folder: Path, *calls: Callable[[], bool]) -> None:
    """Run calls, which return whether they succeeded: all that was there before them is there as it was.

    One that fails leaves nothing else either.
    """
    start = before = contents(folder)
    for call in calls:
        succeeded = call()
        after = contents(folder)
        assert start.items() <= after.items(), sorted(start.items() - after.items())
        assert succeeded or after == before, "a call that failed leaves nothing"
        before = after


def called(job: Command, inputs: Inputs, out: Path, *more: str) -> Callable[[], bool]:
    return lambda: job.run(inputs, out, *more).exit_code == 0


# What stands in the way. Each gets a folder with all inputs, and the path of the result that is to be made.


def the_input(job: Command, inputs: Inputs, final: Path) -> Path:
    """Results into the folder that holds the input."""
    return job.source(inputs).parent


def an_input_of_the_results_name(job: Command, inputs: Inputs, final: Path) -> Path:
    """As a product's folder may be called, without .SAFE."""
    inputs.product.rename(inputs.product.with_suffix(""))
    object.__setattr__(inputs, "suffix", "")
    return job.source(inputs).parent


def a_foreign_file(job: Command, inputs: Inputs, final: Path) -> Path:
    """A note in a result, which is to be made again."""
    assert job.run(inputs, final.parent).exit_code == 0
    (final / "notes.txt").write_text("hours of work")
    return final.parent


def a_foreign_file_below(job: Command, inputs: Inputs, final: Path) -> Path:
    assert job.run(inputs, final.parent).exit_code == 0
    (final / "mine" / "deeper").mkdir(parents=True)
    (final / "mine" / "deeper" / ".notes").write_text("hours of work")
    return final.parent


def a_changed_file(job: Command, inputs: Inputs, final: Path) -> Path:
    """A file of the result that somebody has worked on: it has grown."""
    assert job.run(inputs, final.parent).exit_code == 0
    victim = next(p for p in sorted(final.iterdir()) if p.suffix in (".tif", ".gpkg"))
    victim.write_bytes(victim.read_bytes() + b"worked on")
    return final.parent


def a_linked_file(job: Command, inputs: Inputs, final: Path) -> Path:
    """A file of the result that was moved to a larger disk, with a link in its place."""
    assert job.run(inputs, final.parent).exit_code == 0
    victim = next(p for p in sorted(final.iterdir()) if p.suffix in (".tif", ".gpkg"))
    moved = final.parents[1] / f"moved-{victim.name}"
    victim.rename(moved)
    victim.symlink_to(moved)
    return final.parent


def another_commands_result(job: Command, inputs: Inputs, final: Path) -> Path:
    other = inputs.labels if job.source(inputs) != inputs.chart else inputs.prediction
    shutil.copytree(other, final)
    return final.parent


def a_forged_record(job: Command, inputs: Inputs, final: Path) -> Path:
    """A file of the record's name that is somebody else's."""
    final.mkdir(parents=True)
    for name in ("product", "label", "prediction", "chart", "evaluation"):
        (final / f"{name}.json").write_text(json.dumps({"made_by": "somebody else"}))
    return final.parent


def somebodys_folder(job: Command, inputs: Inputs, final: Path) -> Path:
    (final / "papers").mkdir(parents=True)
    (final / "papers" / "thesis.tex").write_text("years of work")
    return final.parent


def a_parent(job: Command, inputs: Inputs, final: Path) -> Path:
    """The result's folder would hold its own input."""
    final.parent.mkdir()
    inputs.folder.rename(final)
    object.__setattr__(inputs, "folder", final)
    return final.parent


def a_link(job: Command, inputs: Inputs, final: Path) -> Path:
    """A link to a result of the same command that lies elsewhere."""
    elsewhere = final.parents[1] / "elsewhere"
    assert job.run(inputs, elsewhere).exit_code == 0
    (elsewhere / final.name / "classes.tif").unlink(missing_ok=True)  # so that it is to be made again
    (elsewhere / final.name / "border_distance.tif").unlink(missing_ok=True)
    final.parent.mkdir()
    final.symlink_to(elsewhere / final.name)
    return final.parent


def a_broken_link(job: Command, inputs: Inputs, final: Path) -> Path:
    final.parent.mkdir()
    final.symlink_to("nowhere")
    return final.parent


def a_file(job: Command, inputs: Inputs, final: Path) -> Path:
    final.parent.mkdir()
    final.write_text("mine")
    return final.parent


WAYS = [the_input, an_input_of_the_results_name, a_foreign_file, a_foreign_file_below, a_changed_file, a_linked_file]
WAYS += [another_commands_result, a_forged_record, somebodys_folder, a_parent, a_link, a_broken_link, a_file]


@pytest.mark.parametrize("way", WAYS, ids=lambda w: w.__name__)
@pytest.mark.parametrize("command", COMMANDS)
def test_nothing_vanishes(
    command: str, way: Callable[[Command, Inputs, Path], Path], workshop: Inputs, tmp_path: Path
) -> None:
    job = COMMANDS[command]
    inputs = copied(workshop, tmp_path / "inputs")
    out = way(job, inputs, tmp_path / "out" / job.result(inputs))
    nothing_vanishes(tmp_path, called(job, inputs, out), called(job, inputs, out, "--overwrite"))


@pytest.mark.parametrize("command", COMMANDS)
def test_own_results_are_replaced(command: str, workshop: Inputs, tmp_path: Path) -> None:
    """Else the law above were easily kept. Files that lack or are cut off, and notes of viewers, are no obstacle."""
    job = COMMANDS[command]
    assert job.run(workshop, tmp_path).exit_code == 0
    folder = tmp_path / job.result(workshop)
    before = contents(folder)
    raster = next(p for p in sorted(folder.iterdir()) if p.suffix == ".tif")
    for damage in (lambda: raster.unlink(), lambda: raster.write_bytes(b""), lambda: raster.write_bytes(b"II*")):
        (folder / f"{raster.name}.aux.xml").write_text("<PAMDataset/>")
        damage()
        again = job.run(workshop, tmp_path)
        if command.startswith("chart") and raster.exists() and raster.stat().st_size == 3:
            assert again.exit_code == 1, "a chart that was changed is an analyst's"
            break
        assert again.exit_code == 0 and "(finished before)" not in again.stdout
        assert contents(folder).keys() == before.keys()
        assert len(contents(folder)[raster.name]) == len(
            before[raster.name]
        )  # those of charts tell when they were made
    assert [p.name for p in tmp_path.iterdir()] == [folder.name]


# Commands whose folders are of other kinds


@pytest.fixture(scope="module")
def a_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_run(tmp_path_factory.mktemp("made") / "run", losses=("dice",), repeats=1, scenes=("01",))


@pytest.mark.parametrize("where", ["run", "run/cells", "run/data", ".", "papers", "linked", "run/report", "chart/new"])
def test_a_report_takes_the_place_of_nothing_but_a_report(where: str, a_run: Path, tmp_path: Path) -> None:
    """``--out`` is the report's own folder: given anything else, it is refused before any work."""
    shutil.copytree(a_run, tmp_path / "run")
    (tmp_path / "papers").mkdir()
    (tmp_path / "papers" / "report.html").write_text("years of work")
    (tmp_path / "linked").symlink_to("papers")
    (tmp_path / "chart").mkdir()
    (tmp_path / "chart" / "chart.json").write_text('{"made_by": "floemap chart"}')
    if where == "run/report":
        (tmp_path / where).mkdir()
        (tmp_path / where / "report.json").write_text('{"made_by": "somebody else"}')
    nothing_vanishes(tmp_path, lambda: run("report", tmp_path / "run", "--out", tmp_path / where).exit_code == 0)


def test_checks_take_the_place_of_nothing_but_checks(workshop: Inputs, tmp_path: Path) -> None:
    inputs = copied(workshop, tmp_path / "inputs")

    def into(out: Path) -> Callable[[], bool]:
        def call() -> bool:
            with pytest.raises(OutputError):
                assess_scene(inputs.prediction, inputs.labels, inputs.prepared, out, overwrite=True)
            return False

        return call

    for out in (inputs.prediction.parent, inputs.prepared.parent):
        nothing_vanishes(tmp_path, into(out))


@pytest.mark.parametrize("name", ["model.safetensors", "state.pt", "metrics.jsonl", "training.json"])
def test_a_training_takes_the_place_of_nothing_but_a_training(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("floemap.learning.models.registry.MODELS", WITH_TINY)
    out = tmp_path / "model"
    out.mkdir()
    (out / name).write_text('{"made_by": "somebody else"}')

    def go(overwrite: bool) -> bool:
        parts = [scene("a", 1)], [scene("v", 3)]
        settings = tiny_settings(max_epochs=1)
        try:
            train(*parts, settings, SIX_CLASSES, out, about=ABOUT, device="cpu", overwrite=overwrite)
        except FloemapError:
            return False
        return True

    nothing_vanishes(tmp_path, lambda: go(False), lambda: go(True))


SMALL_STUDY = """
[data]
legend = "six_classes"
scenes = [{{ name = "a", product = "{prepared}", chart = "{labels}" }}]
[split]
kind = "lists"
training = ["a-SW"]
validation = ["a-NE"]
test = ["a"]
[compare]
losses = ["dice"]
"""


@pytest.mark.parametrize("name", ["plan.json", "results.json", "results.md"])
def test_a_comparison_takes_the_place_of_nothing_but_a_comparison(name: str, workshop: Inputs, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / name).write_text('{"made_by": "somebody else"}')
    config = tmp_path / "study.toml"
    config.write_text(SMALL_STUDY.format(prepared=workshop.prepared, labels=workshop.labels))
    call: list[str | Path] = ["compare", config, "--out", tmp_path / "out"]
    nothing_vanishes(tmp_path, lambda: run(*call).exit_code == 0, lambda: run(*call, "--overwrite").exit_code == 0)


def test_a_split_takes_the_place_of_nothing_but_a_split(workshop: Inputs, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "split.json").write_text('{"mine": 1}')
    config = tmp_path / "study.toml"
    text = SMALL_STUDY.format(prepared=workshop.prepared, labels=workshop.labels)
    config.write_text(text.replace('test = ["a"]\n', "").replace("[split]", "[split]\nsame_ice_hours = 0"))
    before = (tmp_path / "out" / "split.json").read_text()
    assert run("train", config, "--out", tmp_path / "out", "--overwrite").exit_code == 1
    assert (tmp_path / "out" / "split.json").read_text() == before


def test_a_description_takes_the_place_of_nothing_else(workshop: Inputs, tmp_path: Path) -> None:
    for name in ("info.json", "map.png"):
        out = tmp_path / name
        out.mkdir()
        (out / name).write_text("{}")
        nothing_vanishes(out, lambda out=out: run("info", workshop.chart, "--out", out).exit_code == 0)  # type: ignore[misc]
    out = tmp_path / "about"
    assert run("info", workshop.chart, "--out", out).exit_code == 0
    assert run("info", workshop.chart, "--out", out).exit_code == 0, "the same again"
    nothing_vanishes(out, lambda: run("info", workshop.model, "--out", out).exit_code == 0)


def test_a_description_of_another_of_one_name_takes_no_place(
    workshop: Inputs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two folders' ice.gpkg, each called so from where it lies; the same one from elsewhere is the same."""
    one, other = (copied(workshop, tmp_path / place).chart for place in ("one", "other"))
    out = tmp_path / "about"
    monkeypatch.chdir(one.parent)
    assert run("info", one.name, "--out", out).exit_code == 0
    monkeypatch.chdir(other.parent)
    nothing_vanishes(out, lambda: run("info", other.name, "--out", out).exit_code == 0)
    assert run("info", one, "--out", "../../about").exit_code == 0


def test_simulated_products_take_the_place_of_no_real_one(
    small_product: Path, small_spec: Callable[..., ProductSpec], tmp_path: Path
) -> None:
    """Pixels for metadata from one folder, into another that holds the real product, or somebody's work on it."""
    real = tmp_path / "real" / small_product.name
    shutil.copytree(small_product, real)
    (real / "SIMULATED.txt").unlink()
    metadata = tmp_path / "metadata" / real.name
    shutil.copytree(real, metadata)

    def simulated(out: Path) -> Callable[[], bool]:
        def call() -> bool:
            try:
                simulate_pixels(metadata, out)
            except OutputError:
                return False
            return True

        return call

    nothing_vanishes(tmp_path, simulated(real.parent))
    assert simulated(tmp_path / "out")()
    assert simulated(tmp_path / "out")(), "a simulated one is replaced"
    (tmp_path / "out" / real.name / "notes.txt").write_text("mine")
    nothing_vanishes(tmp_path, simulated(tmp_path / "out"))
    with pytest.raises(OutputError, match="no SIMULATED"):
        write_safe(real.parent, small_spec(suffix=small_product.stem.rpartition("_")[2]), {"HH": 0, "HV": 0})  # type: ignore[dict-item]


def test_a_twin_goes_into_no_folder_of_somebody(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("years of work")
    nothing_vanishes(tmp_path, lambda: run("simulate", "twin", "--out", tmp_path, "--size", "64").exit_code == 0)


@pytest.mark.parametrize("name", [LOCK, ".result.partial-0123abcd.lock"])
@pytest.mark.parametrize("linked", [False, True])
def test_somebodys_file_of_the_name_of_a_lock_stays(linked: bool, name: str, tmp_path: Path) -> None:
    """Locks are empty and are removed when they are let go; what is not empty is nobody's lock."""
    (tmp_path / "mine").write_text("mine")
    (tmp_path / ".result.partial-0123abcd").mkdir()
    (tmp_path / ".result.partial-0123abcd" / "notes.txt").write_text("mine")
    if linked:
        (tmp_path / name).symlink_to("mine")
    else:
        (tmp_path / name).write_text("mine")
    before = contents(tmp_path)
    for hold in (lambda: alone_in(tmp_path, "works in"), lambda: one_at_a_time(tmp_path)):
        if name == LOCK:
            with pytest.raises(OutputError, match="must be an empty lock file"), hold():
                pass
        else:
            with hold():
                pass
        assert contents(tmp_path) == before
    with stage_folder(tmp_path / "result", A) as folder:
        (folder / A.record).write_text("{}")
    assert contents(tmp_path) == before | {"result": "folder", f"result/{A.record}": b"{}"}


@pytest.mark.parametrize("name", ["x.partial-y", "x.partial-01234567", "x.partial-01234567.old"])
def test_what_a_killed_run_left_is_taken_for_no_other_results(name: str, tmp_path: Path) -> None:
    """The result x leaves what is of results whose names begin as its own hidden folders do."""
    for left in (f".{name}.partial-89abcdef", f".{name}.partial-89abcdef.old"):
        (tmp_path / left).mkdir()
        (tmp_path / left / A.record).write_text(json.dumps({"made_by": A.command}))
    (tmp_path / f".{name}.partial-89abcdef.lock").touch()
    before = contents(tmp_path)
    with stage_folder(tmp_path / "x", A) as folder:
        (folder / A.record).write_text("{}")
    assert before.items() <= contents(tmp_path).items()
    with stage_folder(tmp_path / name, A) as folder:
        assert {p.name for p in tmp_path.iterdir() if p.name[0] != "."} == {"x", name}, "the old one is back"
        (folder / A.record).write_text("{}")
    assert {p.name for p in tmp_path.iterdir()} == {"x", name}


def test_what_comes_while_a_result_is_made_is_kept(tmp_path: Path) -> None:
    """Between the first look and the last rename anybody may put something there."""
    final = tmp_path / "result"
    with pytest.raises(OutputError, match=r"notes\.txt"), stage_folder(final, A) as folder:
        (folder / A.record).write_text("{}")
        final.mkdir()
        (final / "notes.txt").write_text("mine")
    assert contents(tmp_path) == {"result": "folder", "result/notes.txt": b"mine"}


@pytest.mark.parametrize("command", ["label", "predict", "chart", "evaluate"])
def test_a_command_that_made_nothing_leaves_no_folder_of_its_making(
    command: str, workshop: Inputs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It fails at the end of its work; a folder that was there before stays."""

    def full(_: Path) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("floemap.results.folders.sync_tree", full)
    (tmp_path / "mine").mkdir()
    job = COMMANDS[command]
    nothing_vanishes(
        tmp_path,
        called(job, workshop, tmp_path / "new" / "deeper" / "out"),
        called(job, workshop, tmp_path / "mine"),
    )


@contextmanager
def _each_in(*makers: AbstractContextManager[object]) -> Iterator[None]:
    with ExitStack() as stack:
        for maker in makers:
            stack.enter_context(maker)
        yield


MAKERS: dict[str, Callable[[Path], AbstractContextManager[object]]] = {
    "a result": lambda out: stage_folder(out / "result", A),
    "files": lambda out: _each_in(made_folder(out), whole_files(out, ["a", "b"])),
    "alone in a folder": lambda out: alone_in(out, "works in"),
    "one at a time": one_at_a_time,
    "with one within": lambda out: _each_in(alone_in(out, "works in"), one_at_a_time(out / "data")),
}


@pytest.mark.parametrize("maker", MAKERS)
@pytest.mark.parametrize("end", [FloemapError("no"), OSError(errno.EIO, "no"), KeyboardInterrupt()])
def test_nothing_stays_where_nothing_was_made(maker: str, end: BaseException, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    for out in (tmp_path / "new" / "deeper", tmp_path / "mine", tmp_path / "mine" / "new"):
        with pytest.raises((FloemapError, OSError, KeyboardInterrupt)), MAKERS[maker](out):
            assert out.is_dir()
            raise end
        assert contents(tmp_path) == {"mine": "folder"}
    with pytest.raises((FloemapError, OSError, KeyboardInterrupt)), MAKERS[maker](tmp_path / "new"):
        (tmp_path / "new" / "made").write_text("by another, or by the work before it failed")
        raise end
    assert set(contents(tmp_path)) == {"mine", "new", "new/made"}


def test_a_folder_that_others_remove_as_it_is_still_empty_is_made_again(tmp_path: Path) -> None:
    """Each of several works in turn makes the folder, fails, and removes it, while the others go on."""
    out = tmp_path / "out"
    errors: list[BaseException] = []

    def work(fails: bool) -> None:
        for i in range(100):
            try:
                with stage_folder(out / f"{fails}{i}", A) as folder:
                    (folder / A.record).write_text("{}")
                    if fails:
                        raise FloemapError("as expected")
                shutil.rmtree(out / f"{fails}{i}")
                write_whole(out / f"{fails}.txt", b"whole")
                (out / f"{fails}.txt").unlink()
                with suppress(OSError):
                    out.rmdir()
            except FloemapError as e:
                if e.message != "as expected":
                    errors.append(e)

    threads = [threading.Thread(target=work, args=(fails,)) for fails in (True, True, False)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors
