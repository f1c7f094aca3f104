"""A power cut at any moment: what has its final name is whole, and what was called finished is there."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from fetching import fetch
from loopback import Loopback
from power_cut import Disk
from run_maker import make_run
from tiny_model import ABOUT, WITH_TINY, scene, tiny_settings
from workshop import COMMANDS, Inputs, contents, run

from floemap.learning.models.checkpoint import load_checkpoint
from floemap.learning.training.loop import Trained, train
from floemap.learning.training.state import load_state
from floemap.legend import SIX_CLASSES
from floemap.results import folders
from floemap.results.stage import write_json
from floemap.simulation.pixels import simulate_pixels
from floemap.simulation.twin import make_twin
from floemap.simulation.twin_month import finished_month

Watch = Callable[[Path], Disk]


@pytest.fixture
def watch(monkeypatch: pytest.MonkeyPatch) -> Iterator[Watch]:
    """Watches a folder from then on."""
    disks: list[Disk] = []

    def begin(root: Path) -> Disk:
        disks.append(Disk(root, monkeypatch))
        return disks[-1]

    yield begin
    for disk in disks:
        disk.close()


def files_of(disk: Disk, folder: Path) -> dict[str, bytes]:
    """The files below a folder as they are now, by their path on the disk that is watched."""
    files = sorted(p for p in folder.rglob("*") if p.is_file())
    return {p.relative_to(disk.root).as_posix(): p.read_bytes() for p in files}


def states(disk: Disk, final: Path, scratch: Path) -> list[dict[str, bytes | str] | None]:
    """What a cut at each moment leaves of a result; None where it leaves none."""
    found = []
    for moment in range(len(disk.moments)):
        left = disk.after_cut(moment, scratch / str(moment)) / final.relative_to(disk.root)
        found.append(contents(left) if left.exists() else None)
    return found


@pytest.mark.parametrize("command", COMMANDS)
def test_a_result_is_there_as_a_whole_or_not_at_all(
    command: str, workshop: Inputs, tmp_path: Path, watch: Watch
) -> None:
    """First where there was none, then in the place of an older one."""
    job = COMMANDS[command]
    (tmp_path / "disk").mkdir()
    (tmp_path / "first").mkdir()
    final = tmp_path / "disk" / "new" / "deep" / job.result(workshop)
    disk = watch(tmp_path / "disk")
    assert job.run(workshop, final.parent).exit_code == 0
    made = contents(final)
    found = states(disk, final, tmp_path / "first")
    assert len(found) > 5 and found[0] is None
    assert all(state in (None, made) for state in found)
    assert found[-1] == made, "when the command has said that it is finished, it is on the disk"
    (tmp_path / "second").mkdir()
    disk = watch(tmp_path / "disk")
    assert job.run(workshop, final.parent, "--overwrite").exit_code == 0
    again = contents(final)
    found = states(disk, final, tmp_path / "second")
    assert all(state in (made, again, None) for state in found) and found[-1] == again
    # Where neither is under its name, the old one waits beside it for the next run, which brings it back.
    for moment, state in enumerate(found):
        if state is None:
            left = (tmp_path / "second" / str(moment) / "new" / "deep").glob(f".{final.name}.partial-*.old")
            assert [contents(p) for p in left] == [made]


def test_the_law_can_be_broken(workshop: Inputs, tmp_path: Path, watch: Watch, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without syncing a result before it gets its name, a cut leaves its name with empty files."""
    monkeypatch.setattr(folders, "sync_tree", vars(folders)["sync"])
    job = COMMANDS["predict"]
    (tmp_path / "disk").mkdir()
    (tmp_path / "states").mkdir()
    disk = watch(tmp_path / "disk")
    assert job.run(workshop, tmp_path / "disk").exit_code == 0
    final = tmp_path / "disk" / job.result(workshop)
    torn = [s for s in states(disk, final, tmp_path / "states") if s is not None and s != contents(final)]
    assert any(state["classes.tif"] == b"" for state in torn)
    # And the same command sees it.
    (left,) = {
        p.parent
        for p in (tmp_path / "states").rglob("classes.tif")
        if p.stat().st_size == 0 and p.parent.name[0] != "."
    }
    assert "(finished before)" not in job.run(workshop, left.parent).stdout


def test_a_report_is_there_as_a_whole_or_not_at_all(tmp_path: Path, watch: Watch, sketched: None) -> None:
    made = make_run(tmp_path / "run", losses=("dice",), repeats=1, scenes=("01",))
    (tmp_path / "disk").mkdir()
    (tmp_path / "states").mkdir()
    disk = watch(tmp_path / "disk")
    assert run("report", made, "--out", tmp_path / "disk" / "report").exit_code == 0
    whole = contents(tmp_path / "disk" / "report")
    found = states(disk, tmp_path / "disk" / "report", tmp_path / "states")
    assert all(state in (None, whole) for state in found) and found[-1] == whole


def test_a_description_is_there_file_by_file_and_made_again(workshop: Inputs, tmp_path: Path, watch: Watch) -> None:
    root = tmp_path / "as deep as the states" / "disk"  # so that the chart is found the same way from all of them
    root.mkdir(parents=True)
    (tmp_path / "states").mkdir()
    disk = watch(root)
    call: list[str | Path] = ["info", workshop.chart, "--out"]
    out = root / "new" / "about"
    assert run(*call, out).exit_code == 0
    whole = contents(out)
    assert {"info.json", "map.png"} == whole.keys()
    found = states(disk, out, tmp_path / "states")
    assert found[-1] == whole
    for moment, state in enumerate(found):
        there = {name: content for name, content in (state or {}).items() if name[0] != "."}
        assert there.items() <= whole.items()
        if state is not None:
            again = run(*call, tmp_path / "states" / str(moment) / "new" / "about")
            assert again.exit_code == 0, again.stderr


def test_simulated_pixels_are_there_as_a_whole_or_not_at_all(small_product: Path, tmp_path: Path, watch: Watch) -> None:
    metadata = tmp_path / "metadata" / small_product.name
    shutil.copytree(small_product, metadata)
    (tmp_path / "disk").mkdir()
    disk = watch(tmp_path / "disk")
    made = simulate_pixels(metadata, tmp_path / "disk" / "out").path
    whole = files_of(disk, made)
    assert len(whole) > 8
    moments = [disk.left(moment) for moment in range(len(disk.moments))]
    found = [{n: c for n, c in left.items() if n.startswith(f"out/{made.name}/")} for left in moments]
    assert all(state in ({}, whole) for state in found) and found[0] == {} and found[-1] == whole


def test_what_was_fetched_is_there_as_a_whole_before_it_is_told_of(
    dataset: Loopback, tmp_path: Path, watch: Watch
) -> None:
    """Also where a killed run had brought a part to its length, and only its name to the disk."""
    out = tmp_path / "disk"
    (out / "charts").mkdir(parents=True)
    disk = watch(out)
    ((name, content),) = ((n, c) for n, c in dataset.files.items() if n.endswith(".zip"))
    (out / "charts" / f"{name}.part").write_bytes(content)
    md5 = hashlib.md5(content, usedforsecurity=False).hexdigest()
    write_json(out / "charts" / f"{name}.part.json", {"size": len(content), "md5": md5, "validator": None})
    assert fetch(dataset, out).complete
    whole = files_of(disk, out)
    assert whole[f"charts/{name}"] == content
    for moment in range(len(disk.moments)):
        files = disk.left(moment)
        there = {n: c for n, c in files.items() if Path(n).name[0] != "." and ".part" not in n and n != "fetch.json"}
        assert there.items() <= whole.items()
        told = json.loads(files["fetch.json"])["inputs"] if "fetch.json" in files else {}
        assert {*told} <= {Path(n).name for n in there}
    assert whole.items() <= disk.left(len(disk.moments) - 1).items()


def test_a_simulated_month_is_finished_only_where_all_of_it_is_there(tmp_path: Path, watch: Watch) -> None:
    (tmp_path / "disk").mkdir()
    disk = watch(tmp_path / "disk")
    make_twin(tmp_path / "disk" / "twin", 64, months=[3])
    whole = contents(tmp_path / "disk" / "twin")
    (tmp_path / "states").mkdir()
    finished = []
    for moment in range(len(disk.moments)):
        left = disk.after_cut(moment, tmp_path / "states" / str(moment)) / "twin"
        finished.append(finished_month(left, 3, 64, 0) is not None)
        if finished[-1]:
            there = contents(left)
            assert {name for name, content in whole.items() if there.get(name) != content} == set()
    assert finished[-1] and not finished[0]


def test_a_training_goes_on_from_whatever_a_cut_leaves(
    tmp_path: Path, watch: Watch, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("floemap.learning.models.registry.MODELS", WITH_TINY)

    def go(out: Path) -> Trained:
        parts = [scene("a", 1)], [scene("v", 3)]
        return train(*parts, tiny_settings(max_epochs=2), SIX_CLASSES, out, about=ABOUT, device="cpu")

    (tmp_path / "disk").mkdir()
    (tmp_path / "states").mkdir()
    disk = watch(tmp_path / "disk")
    whole = load_checkpoint(go(tmp_path / "disk" / "model").checkpoint).model.state_dict()
    moments, seen = len(disk.moments), set()
    for moment in range(moments):
        left = disk.after_cut(moment, tmp_path / "states" / str(moment)) / "model"
        state = json.dumps({k: hash(v) for k, v in (contents(left) if left.exists() else {}).items() if k[0] != "."})
        if state in seen:
            continue
        seen.add(state)
        if (left / "state.pt").exists():
            assert load_state(left / "state.pt").history, "it is whole"
        finished = (left / "training.json").exists()
        again = go(left)
        assert again.skipped == finished
        got = load_checkpoint(again.checkpoint).model.state_dict()
        assert all(torch.equal(whole[k], got[k]) for k in whole)
    assert len(seen) > 4 and (tmp_path / "states" / str(moments - 1) / "model" / "training.json").exists()


def test_single_files_are_there_as_a_whole_or_as_before(tmp_path: Path, watch: Watch) -> None:
    (tmp_path / "disk").mkdir()
    disk = watch(tmp_path / "disk")
    path = tmp_path / "disk" / "new" / "a.json"
    for i in range(2):
        write_json(path, {"i": i})
    (tmp_path / "states").mkdir()
    texts = []
    for moment in range(len(disk.moments)):
        left = disk.after_cut(moment, tmp_path / "states" / str(moment)) / "new" / "a.json"
        texts.append(json.loads(left.read_text())["i"] if left.exists() else None)
    assert set(texts) == {None, 0, 1} and texts[-1] == 1
