"""A comparison runs from products and charts to its table, goes on where it was stopped, and loses nothing."""

from __future__ import annotations

import json
import shutil
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

import pytest
import rasterio
from power_cut import Disk
from typer.testing import CliRunner

from floemap import ChartSettings, make_chart
from floemap.cli import main as cli_main  # noqa: F401  registers the commands
from floemap.cli.app import app
from floemap.demo import demo_study
from floemap.errors import ConfigError, FloemapError, GridError, TrainingError
from floemap.evaluation.statistics.summary import LOSS_TITLES
from floemap.results.stage import one_at_a_time, sha256
from floemap.simulation.twin import make_twin
from floemap.study import run as run_module
from floemap.study.cells import Cell, check_settings, plan, with_changes
from floemap.study.compare import compare, train_model
from floemap.study.data import make_data
from floemap.study.dry_run import dry_run
from floemap.study.settings import Study

ROOT = Path(__file__).resolve().parents[1]
RUN = CliRunner()
CONFIGS = sorted(p for p in (ROOT / "configs").glob("*.toml") if p.stem != "prepare")

#: What makes a shipped study small enough for a test: four months of 256 px, crops of 64 px, one epoch.
TINY: dict[str, Any] = {
    "data.prepare.resolution_m": 3125.0,
    "crops.size_px": 64,
    "crops.per_scene": 2,
    "training.batch": 2,
    "training.max_epochs": 1,
    "training.precision": "fp32",
    "compare.repeats": 1,
}


@pytest.fixture(scope="module")
def twin(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four months, the fewest with which the published split has all three uses."""
    out = tmp_path_factory.mktemp("twin")
    make_twin(out, 256, months=(1, 2, 3, 7))
    return out


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Prepared products and labels, made once for all studies of this module."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def tiny(twin: Path, cache: Path) -> Callable[..., Study]:
    """Makes a tiny study of a shipped configuration."""

    def make(config: str = "demo", **changes: Any) -> Study:
        study = Study.from_toml(ROOT / "configs" / f"{config}.toml")
        values = study.model_dump()
        values["data"] |= {"folder": twin, "months": (1, 2, 3, 7), "cache": cache}
        values["model"] |= {"encoder_weights": None, "rates": None}  # patches of 64 px reach no published rate
        return with_changes(Study.checked(**values), TINY | changes)

    return make


def test_the_demo_runs_the_shipped_study() -> None:
    assert demo_study("small", Path("twin")) == Study.from_toml(ROOT / "configs" / "demo.toml")


def files_of(folder: Path) -> dict[Path, int]:
    return {p: p.stat().st_mtime_ns for p in folder.rglob("*") if p.is_file()}


def _table_order(loss: str) -> tuple[int, str]:
    return [*LOSS_TITLES, loss].index(loss), loss


def test_every_loss_of_a_shipped_study_can_be_made(tiny: Callable[..., Study]) -> None:
    for path in CONFIGS:
        cells = plan(tiny(path.stem), ["01", "02", "03", "07"])
        for cell in cells:
            if cell.repeat == 0:
                check_settings(cell.study)
        assert {c.loss for c in cells} == set(tiny(path.stem).compare.losses)


@pytest.mark.parametrize("config", [p.stem for p in CONFIGS if not p.stem.startswith("ai4arctic")])
def test_every_shipped_study_runs(config: str, tiny: Callable[..., Study], tmp_path: Path) -> None:
    study = tiny(config)  # those of AI4Arctic run on files of its form, in test_81_ai4arctic_study.py
    if len(study.compare.losses) > 3:  # three of many, with a variant, and one that reads polygons
        study = with_changes(study, {"compare.losses": ["focal", "no_borders", "region_pixel"]})
    done = compare(study, tmp_path, report=False)
    assert not done.failed
    results = json.loads(done.results.read_text())
    assert results["summary"]["simulated"] is True
    assert [g["loss"] for g in results["summary"]["groups"]] == sorted(study.compare.losses, key=_table_order)
    assert results["summary"]["scenes"] == ["01", "07"]
    assert not results["summary"]["missing"]
    words = (tmp_path / "results.md").read_text()
    assert "SIMULATED" in words
    assert "(0.805, 0.825)" not in words, "the published scores are of real ice, and stand beside nothing else"
    assert "Published scores are not comparable with these: the scenes are simulated." in words


def test_it_goes_on_and_makes_nothing_twice(
    tiny: Callable[..., Study], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, undrawn: None
) -> None:
    study = with_changes(tiny(), {"compare.losses": ["cross_entropy", "focal"]})
    real = run_module.run_cell
    calls = []

    def stopped(cell: Cell, *args: Any, **kwargs: Any) -> Any:
        calls.append(cell.name)
        if cell.loss == "focal":
            raise KeyboardInterrupt
        return real(cell, *args, **kwargs)

    monkeypatch.setattr("floemap.study.compare.run_cell", stopped)
    with pytest.raises(KeyboardInterrupt):
        compare(study, tmp_path, report=False)
    assert calls == ["cross_entropy_r0", "focal_r0"]
    monkeypatch.undo()
    before = files_of(tmp_path / "cells" / "cross_entropy_r0")
    done = compare(study, tmp_path, report=False)
    assert not done.failed
    after = files_of(tmp_path / "cells" / "cross_entropy_r0")
    changed = {p.name for p in before if before[p] != after[p]}
    assert changed <= {"cell.json", "split.json"}
    # One repeat more makes only that.
    study = with_changes(study, {"compare.repeats": 2})
    more = compare(study, tmp_path)
    assert more.summary["repeats"] == [0, 1] and more.report is not None and not more.report.skipped
    again = files_of(tmp_path / "cells" / "cross_entropy_r0")
    assert {p.name for p in after if after[p] != again[p]} <= {"cell.json", "split.json"}
    # Nothing new: the report stays, and no record claims to have been made now.
    kept = {p: p.read_bytes() for p in files_of(tmp_path)}
    same = compare(study, tmp_path)
    assert same.report is not None and same.report.skipped
    assert {p: p.read_bytes() for p in files_of(tmp_path)} == kept
    wanted: list[bool] = []
    monkeypatch.setattr("floemap.study.compare._report", lambda _, anew, __: wanted.append(anew))
    compare(study, tmp_path, verify=True)
    compare(study, tmp_path)
    assert wanted == [True, False]


def test_a_power_cut_leaves_cells_that_are_told_of_whole(
    tiny: Callable[..., Study], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever moment: what a record tells of is there, and as it was when all had come to the disk."""
    disk = Disk(tmp_path, monkeypatch)
    try:
        compare(with_changes(tiny(), {"compare.losses": ["focal"]}), tmp_path / "run", report=False)
        whole = {p.relative_to(tmp_path).as_posix(): p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()}
        tells = {"run/cells/focal_r0/cell.json": "run/cells/focal_r0/", "run/results.json": "run/"}
        tells["run/cells/focal_r0/model/training.json"] = "run/cells/focal_r0/model/"
        seen = set()
        for moment in range(len(disk.moments)):
            left = disk.left(moment)
            seen |= tells.keys() & left.keys()
            for record in tells.keys() & left.keys():
                # The tables are for people, are written after what they are made from, and again by every run.
                below = {n for n in whole if n.startswith(tells[record]) and n != "run/results.md"}
                wrong = {n for n in below - {"run/results.json"} if left.get(n) != whole[n]}
                assert not wrong, (moment, record)
        assert seen == tells.keys() and disk.left(len(disk.moments) - 1).items() >= whole.items()
    finally:
        disk.close()


def test_a_cell_that_fails_does_not_stop_the_others(
    tiny: Callable[..., Study], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = run_module.run_cell

    def failing(cell: Cell, *args: Any, **kwargs: Any) -> Any:
        if cell.loss == "dice":
            raise TrainingError("the loss is nan in epoch 1.")
        return real(cell, *args, **kwargs)

    monkeypatch.setattr("floemap.study.compare.run_cell", failing)
    done = compare(tiny(), tmp_path, report=False)
    assert done.failed == {"dice_r0": "the loss is nan in epoch 1."}
    missing = json.loads(done.results.read_text())["summary"]["missing"]
    assert {m["loss"] for m in missing} == {"dice"}
    assert "the loss is nan" in (tmp_path / "results.md").read_text()

    def all_fail(cell: Cell, *args: Any, **kwargs: Any) -> NoReturn:
        raise TrainingError("no.")

    monkeypatch.setattr("floemap.study.compare.run_cell", all_fail)
    with pytest.raises(FloemapError, match="all cells failed"):
        compare(tiny(), tmp_path / "other")


def test_an_axis(tiny: Callable[..., Study], tmp_path: Path) -> None:
    study = tiny().model_dump()
    study["compare"] |= {"losses": ["dice"], "axes": {"model.output_stride": [8, 16]}}
    done = compare(Study.checked(**study), tmp_path, report=False)
    assert [g["axes"] for g in done.summary["groups"]] == [{"model.output_stride": 8}, {"model.output_stride": 16}]


def test_scenes_by_their_files(tiny: Callable[..., Study], tmp_path: Path) -> None:
    """Prepared products and labels, given as such, make the same study as the folder that they came from."""
    study = tiny()
    scenes = make_data(study.data, study.data.cache)
    listed = study.model_dump()
    listed["data"] |= {
        "folder": None,
        "scenes": [{"name": s.name, "product": s.product, "chart": s.labels} for s in scenes],
    }
    assert [s.about() for s in make_data(Study.checked(**listed).data, tmp_path)] == [s.about() for s in scenes]
    assert not list(tmp_path.iterdir())
    wrong = study.model_dump()
    wrong["data"] = listed["data"] | {"legend": "ice_water"}
    with pytest.raises(ConfigError, match=r"'extremeearth'.*'ice_water'"):
        make_data(Study.checked(**wrong).data, tmp_path)


@pytest.mark.parametrize(("lost", "named"), [("charts", "seaice_s1_20180717"), ("products", "20180717T073809")])
def test_a_scene_without_chart_or_product(
    lost: str, named: str, twin: Path, tiny: Callable[..., Study], tmp_path: Path
) -> None:
    shutil.copytree(twin, tmp_path / "twin")
    for path in (tmp_path / "twin" / lost).glob("*20180717*"):
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    with pytest.raises(FloemapError, match=named):
        compare(with_changes(tiny(), {"data.folder": str(tmp_path / "twin")}), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_the_commands(tiny: Callable[..., Study], twin: Path, tmp_path: Path, sketched: None) -> None:
    study = tiny()
    config = tmp_path / "study.toml"
    config.write_text(
        "[data]\nmonths = [1, 2, 3, 7]\nlegend = 'extremeearth'\n"
        f"cache = '{study.data.cache}'\n"
        f"[data.prepare]\nresolution_m = 3125.0\ncrs = '{study.data.prepare.crs}'\n"
        "[crops]\nsize_px = 64\nper_scene = 2\n[training]\nbatch = 2\nmax_epochs = 1\nprecision = 'fp32'\n"
        "[compare]\nlosses = ['focal']\nrepeats = 1\n"
    )
    done = RUN.invoke(
        app, ["train", str(config), "--data", str(twin), "--loss", "focal", "--out", str(tmp_path / "run")]
    )
    assert done.exit_code == 0, done.output
    checkpoint = tmp_path / "run" / "model" / "model.safetensors"
    assert str(checkpoint) in done.output.replace("\n", "")
    about = RUN.invoke(app, ["info", str(checkpoint), "--json"])
    assert about.exit_code == 0, about.output
    facts = json.loads(about.stdout)
    assert facts["simulated"] is True
    assert {d["part"]: d["role"] for d in facts["data"]} == {"02-SW": "train", "03": "train", "02-NE": "validation"}
    scene = make_data(study.data, study.data.cache)[0]
    predicted = RUN.invoke(
        app, ["predict", str(scene.product), "--model", str(checkpoint), "--out", str(tmp_path / "predictions")]
    )
    assert predicted.exit_code == 0, predicted.output
    folder = tmp_path / "predictions" / scene.product.name
    scored = RUN.invoke(
        app,
        [
            "evaluate",
            str(folder),
            "--labels",
            str(scene.labels),
            "--truth",
            str(scene.truth),
            "--out",
            str(tmp_path / "e"),
        ],
    )
    assert scored.exit_code == 0, scored.output
    assert "SIMULATED" in scored.output
    compared = RUN.invoke(app, ["compare", str(config), "--data", str(twin), "--out", str(tmp_path / "compared")])
    assert compared.exit_code == 0, compared.output
    assert (tmp_path / "compared" / "report" / "report.html").stat().st_size > 10_000
    assert "(0.810, 0.830)" not in compared.output, "the published score stands beside nothing simulated"
    assert "SIMULATED" in compared.output
    wrong = RUN.invoke(
        app, ["train", str(config), "--data", str(twin), "--loss", "hinge", "--out", str(tmp_path / "w")]
    )
    assert wrong.exit_code == 1
    assert "hinge" in wrong.output
    assert "generalized_dice" in wrong.output


def test_a_model_without_test_scenes(tiny: Callable[..., Study], tmp_path: Path) -> None:
    study = tiny().model_dump()
    study["split"] = {"kind": "lists", "training": ["03"], "validation": ["02-NE"]}
    assert train_model(Study.checked(**study), tmp_path).is_file()
    with pytest.raises(FloemapError, match="no scene for test"):
        compare(Study.checked(**study), tmp_path / "compared")


# --- a folder that is used again, and by several


def test_other_settings_do_not_mix_with_what_was_there(
    tiny: Callable[..., Study], tmp_path: Path, undrawn: None
) -> None:
    """Refused cells keep their models, but no longer count; --overwrite makes them again."""
    study = with_changes(tiny(), {"compare.losses": ["focal"]})
    compare(study, tmp_path, report=False)
    cell = tmp_path / "cells" / "focal_r0"
    split, weights = (cell / "split.json").read_bytes(), (cell / "model" / "model.safetensors").read_bytes()
    other = with_changes(study, {"compare.losses": ["focal", "dice"], "training.learning_rate": 3e-3})
    done = compare(other, tmp_path)
    assert set(done.failed) == {"focal_r0"} and "--overwrite" in done.failed["focal_r0"]
    assert {m["loss"] for m in done.summary["missing"]} == {"focal"}
    assert done.report.page.is_file()
    counted = json.loads((tmp_path / "report" / "numbers.json").read_text())
    assert not (cell / "cell.json").exists()
    assert (cell / "split.json").read_bytes() == split
    assert (cell / "model" / "model.safetensors").read_bytes() == weights
    counted.pop("scores")  # which says why focal loss has none
    assert "focal" not in json.dumps(counted)
    back = compare(study, tmp_path, report=False)
    assert not back.failed, "what was there is found again"
    again = compare(other, tmp_path, report=False, overwrite=True)
    assert not again.failed
    assert (cell / "model" / "model.safetensors").read_bytes() != weights


def test_left_out_months_that_fail_are_missing_each_by_itself(
    tiny: Callable[..., Study], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = tiny().model_dump()
    study["split"] = {"kind": "leave_one_out", "validation": ["02-NE", "07-NE"]}
    study["compare"] |= {"losses": ["dice"]}
    real = run_module.run_cell

    def failing(cell: Cell, *args: Any, **kwargs: Any) -> Any:
        if cell.axes["split.held_out"] in ("01", "03"):
            raise TrainingError("no.")
        return real(cell, *args, **kwargs)

    monkeypatch.setattr("floemap.study.compare.run_cell", failing)
    done = compare(Study.checked(**study), tmp_path, report=False)
    assert len(done.failed) == 2
    (group,) = done.summary["groups"]
    assert sorted(m["scene"] for m in done.summary["missing"]) == ["01", "03"]
    assert group["loss"] == "dice"
    assert "no." in (tmp_path / "results.md").read_text()


def test_charts_of_one_name_are_kept_apart(tiny: Callable[..., Study], twin: Path, tmp_path: Path) -> None:
    study = tiny()
    scenes = make_data(study.data, study.data.cache)[:2]
    listed = study.model_dump()
    listed["data"] |= {"folder": None, "cache": None, "scenes": []}
    for scene, chart in zip(scenes, sorted((twin / "charts").glob("*.shp")), strict=False):
        folder = tmp_path / scene.name
        folder.mkdir()
        for file in chart.parent.glob(f"{chart.stem}.*"):
            shutil.copy(file, folder / f"chart{file.suffix}")
        listed["data"]["scenes"].append({"name": scene.name, "product": scene.product, "chart": folder / "chart.shp"})
    for _ in range(2):
        made = make_data(Study.checked(**listed).data, tmp_path / "out")
        for one, scene in zip(made, scenes, strict=True):
            assert one.hashes["labels.tif"] == sha256(one.labels / "labels.tif"), "nobody wrote over it"
            with rasterio.open(one.labels / "labels.tif") as a, rasterio.open(scene.labels / "labels.tif") as b:
                assert (a.read() == b.read()).all()


def test_scenes_of_different_pixel_sizes_are_refused(tiny: Callable[..., Study], twin: Path, tmp_path: Path) -> None:
    study = tiny()
    values = study.model_dump()
    scenes = make_data(study.data, study.data.cache)
    finer = with_changes(study, {"data.prepare.resolution_m": 2500.0, "data.months": [3]})
    (other,) = make_data(finer.data, tmp_path / "finer")
    listed = [{"name": s.name, "product": s.product, "chart": s.labels} for s in scenes if s.name != "03"]
    listed.append({"name": "03", "product": other.product, "chart": other.labels})
    values["data"] |= {"folder": None, "scenes": listed}
    with pytest.raises(GridError, match=r"has pixels of 2500 m; those of .* have 3125 m"):
        train_model(Study.checked(**values), tmp_path / "out")


def test_a_truth_on_another_grid_is_left_out_or_refused_before_training(
    tiny: Callable[..., Study], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    study = with_changes(tiny(), {"data.prepare.resolution_m": 2500.0, "data.months": [3]})
    truth = make_data(tiny().data, tiny().data.cache)[-1].truth
    (scene,) = make_data(study.data, tmp_path)
    assert scene.truth is None
    assert "against the truth are left out" in caplog.text
    values = study.model_dump()
    named = {"name": "03", "product": scene.product, "chart": scene.labels, "truth": truth}
    values["data"] |= {"folder": None, "scenes": [named]}
    with pytest.raises(GridError, match=r"truth\.tif: the grids differ"):
        make_data(Study.checked(**values).data, tmp_path)


def test_an_incomplete_dataset_leaves_no_folder(tiny: Callable[..., Study], tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    study = with_changes(tiny(), {"data.folder": str(tmp_path / "empty"), "data.cache": None})
    for run in (train_model, compare):
        with pytest.raises(FloemapError):
            run(study, tmp_path / "out")
        assert not (tmp_path / "out").exists()


def test_a_comparison_without_tests_is_refused_before_any_work(tiny: Callable[..., Study], tmp_path: Path) -> None:
    study = tiny().model_dump()
    study["split"] = {"kind": "lists", "training": ["03"], "validation": ["02-NE"]}
    with pytest.raises(ConfigError, match=r"no scene for test.*\[split\] test"):
        compare(Study.checked(**study), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_torchrun_is_not_for_comparisons(
    tiny: Callable[..., Study], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(ConfigError, match="without torchrun"):
        compare(tiny(), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_one_process_at_a_time(tmp_path: Path) -> None:
    """Many at once make what they share once each, one behind the other."""
    inside, most = [], []

    def work(i: int) -> None:
        with one_at_a_time(tmp_path / "shared"):
            inside.append(i)
            most.append(len(inside))
            time.sleep(0.01)
            inside.remove(i)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(8)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert most == [1] * 8
    with pytest.raises(ValueError, match="within"), one_at_a_time(tmp_path / "shared"):
        raise ValueError("within")
    work(9)


# What is wrong is said before any work, and what a comparison would do


WRONG = [
    ({"loss.name": "tverski"}, "no loss is called 'tverski'"),
    ({"training.loggers": ("tensorbord",)}, "no logger is called 'tensorbord'"),
    ({"model.name": "segformer"}, "no model is called 'segformer'"),
    ({"model.name": "unet", "model.rates": (1, 2, 3)}, "'unet' has no atrous convolutions"),
    ({"model.rates": (1, 2, 30)}, "model.rates has 30"),
    ({"model.start_from": Path("absent.safetensors")}, "absent.safetensors: does not exist"),
]


@pytest.mark.parametrize(("changes", "words"), WRONG, ids=lambda x: "" if isinstance(x, str) else next(iter(x)))
def test_what_is_wrong_is_said_before_any_work(
    changes: dict[str, Any], words: str, tiny: Callable[..., Study], tmp_path: Path
) -> None:
    """Not when its turn comes: the first cells of a comparison may take days."""
    values = tiny().model_dump()
    for key, value in changes.items():
        table, name = key.split(".")
        values[table][name] = value
    if "loss.name" in changes:
        values["compare"]["losses"] = ("cross_entropy", changes["loss.name"])
    study = Study.checked(**values)
    for work in (lambda: compare(study, tmp_path / "run"), lambda: dry_run(study)):
        with pytest.raises(FloemapError, match=words):
            work()
    assert not (tmp_path / "run").exists()


def test_a_dry_run_tells_what_compare_does_and_writes_nothing(
    tiny: Callable[..., Study], cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = tiny(**{"training.max_epochs": 2, "compare.losses": ["dice"], "compare.repeats": 2})
    monkeypatch.chdir(tmp_path)
    before = files_of(cache)
    told = dry_run(study, device="cpu")
    assert list(tmp_path.iterdir()) == [] and files_of(cache) == before
    done = compare(study, tmp_path / "run", report=False)
    cells = {p.name for p in (tmp_path / "run" / "cells").iterdir()}
    assert cells == {c.name for c in told.cells} and len(cells) == 2
    split = json.loads((tmp_path / "run" / "cells" / "dice_r1" / "split.json").read_text())
    assert {p["name"]: p["role"] for p in split["parts"]} == told.roles
    metrics = (tmp_path / "run" / "cells" / "dice_r1" / "model" / "metrics.jsonl").read_text().splitlines()
    assert len(metrics) == told.epochs["dice_r1"] == 2
    seconds = [json.loads(line)["seconds"] for line in metrics]
    assert told.steps["dice_r1"] == 2 * 2 // 2  # two parts, two patches each, batches of two
    assert 0 < told.epoch_s("dice_r1") < 100 * max(seconds)
    assert told.precision == "fp32" and told.device == "cpu" and not done.failed
    whole = sum(p.stat().st_size for p in (tmp_path / "run").rglob("*") if p.is_file())
    whole += sum(p.stat().st_size for p in cache.rglob("*") if p.is_file())
    assert 0.3 < told.disk_gb * 1e9 / whole < 3  # other tests share the cache


def test_the_command_dry_run(tiny: Callable[..., Study], twin: Path, tmp_path: Path) -> None:
    config = tmp_path / "study.toml"
    config.write_text(
        "[data]\nmonths = [1, 2, 3, 7]\n[data.prepare]\nresolution_m = 3125.0\n"
        "[crops]\nsize_px = 64\nper_scene = 2\n[training]\nbatch = 2\nprecision = 'fp32'\n"
    )
    out = tmp_path / "out"
    done = RUN.invoke(app, ["compare", str(config), "--data", str(twin), "--out", str(out), "--dry-run"])
    assert done.exit_code == 0, done.output
    assert "focal_r2" in done.stdout and "test       01, 07" in done.stdout and "GB" in done.stdout
    assert not out.exists()


OWN_LEGENDS = {
    "of four classes": (
        {
            "thin": [83, 81, 82, 84, 85],
            "first": [86, 87, 88, 89, 91, 93],
            "old": [95, 96, 97],
            "water": [99, 13, 45, 78],
        },
        (),
    ),
    "of ice and water": (
        {"water": [13, 45, 78], "ice": [86, 81, 82, 83, 84, 85, 87, 88, 89, 91, 93, 95, 96, 97]},
        ("old_ice", "neighbours", "season"),
    ),
}
HOSTILE = "<script>alert()</script>$\\frac$|"


@pytest.mark.parametrize("kind", OWN_LEGENDS)
def test_a_legend_of_ones_own_goes_the_whole_way(
    kind: str, tiny: Callable[..., Study], cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sketched: None
) -> None:
    """No stage needs the legend's file, and checks that the legend cannot have say so."""
    codes, absent = OWN_LEGENDS[kind]
    classes = "".join(
        f"[[classes]]\nkey = '{key}'\ntitle = '{key} {HOSTILE}'\ncolour = '#{i}{i}ff00'\nstages = {stages}\n"
        for i, (key, stages) in enumerate(codes.items())
    )
    file = tmp_path / "mine.toml"
    file.write_text(f"name = 'mine'\nwater = 'water'\nignored_stages = [98]\n{classes}")
    study = with_changes(tiny(), {"data.legend": str(file), "data.cache": None, "compare.losses": ["cross_entropy"]})
    file.unlink()
    monkeypatch.chdir(tmp_path)
    make_data(tiny().data, cache)
    shutil.copytree(cache / "prepared", tmp_path / "run" / "data" / "prepared")  # which no legend changes
    done = compare(study, tmp_path / "run")
    assert not done.failed
    summary = json.loads(done.results.read_text())["summary"]
    assert summary["legend"]["table"]["name"] == "mine"
    assert list(summary["legend"]["classes"].values()) == list(codes)
    page = (tmp_path / "run" / "report" / "report.html").read_text()
    assert "<script>alert" not in page and "&lt;script&gt;alert()" in page
    (cell,) = (tmp_path / "run" / "cells").iterdir()
    for checks in (cell / "checks").glob("*/checks.json"):
        found = json.loads(checks.read_text())
        assert found["reference"] == "truth"
        for name in absent:
            assert found["checks"][name]["reason"].startswith("not available for this legend"), name
    assert ("not available for this legend" in page) == bool(absent)
    model = cell / "model" / "model.safetensors"
    (scene, *_) = sorted((tmp_path / "run" / "data" / "prepared").iterdir())
    chart = make_chart(scene, [model], tmp_path / "charts", ChartSettings(min_area_km2=100.0)).folder
    assert json.loads((chart / "chart.json").read_text())["legend"]["table"]["name"] == "mine"
    done_info = CliRunner().invoke(app, ["info", str(model)])
    assert done_info.exit_code == 0 and HOSTILE in " ".join(done_info.stdout.split())
