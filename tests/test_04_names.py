"""Names from outside lead nowhere but to one file or folder, right in the folder that they are asked for in."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from run_maker import make_run
from workshop import Inputs, contents, run

from floemap.datasets.download.zenodo import record_files
from floemap.errors import ConfigError, DownloadError, FloemapError, OutputError
from floemap.evaluation.checks.assess import assess_scene
from floemap.evaluation.scoring.evaluate import evaluate_scene
from floemap.report.report import make_report
from floemap.results.names import place_in
from floemap.results.run_paths import DataPaths, RunPaths
from floemap.study.settings import SceneSettings
from floemap.study.split import published_roles

NO_NAMES = ["", " ", ".", "..", "...", "../x", "a/b", "/etc", "a\\b", ".hidden", "a\nb", "\x1b[2J", "a\x00b", "\x7f",
            "a\x85b", "a\u2028b", "a\udc80b", "a" * 256, "é" * 128]  # fmt: skip


@pytest.mark.parametrize("name", NO_NAMES, ids=ascii)
def test_what_is_no_name(name: str, tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="the name of the thing") as e:
        place_in(tmp_path, name, "the thing", path=tmp_path / "its.zip")
    assert e.value.path == tmp_path / "its.zip"
    assert str(e.value).isprintable(), "what is shown on a terminal holds none of it"
    with pytest.raises(ConfigError):
        place_in(tmp_path, name, "the thing", kind=ConfigError)


@pytest.mark.parametrize(
    "name", ["S1A_EW_GRDM_1SDH_20180116T075430", "seaice.2018-01", "Eis von März", "冰", "a b", "x~"]
)
def test_what_is_a_name(name: str, tmp_path: Path) -> None:
    assert place_in(tmp_path, name, "the thing") == tmp_path / name


@given(st.text(max_size=12))
def test_a_place_is_right_in_its_folder(name: str) -> None:
    """Whatever the name: it is refused, or the system finds the place there and nowhere else."""
    folder = Path("/some/where")
    try:
        place = place_in(folder, name, "the thing")
    except FloemapError:
        return
    assert place.resolve().parent == folder and place.name == name


# Where names come from


@pytest.mark.parametrize("root", [".SAFE", "..SAFE", "...SAFE", ".zip.SAFE", ".ssh.SAFE", "\x1b[2J.SAFE"], ids=ascii)
@pytest.mark.parametrize("command", ["prepare", "chart", "simulate pixels"])
def test_the_folder_in_a_zip(command: str, root: str, workshop: Inputs, tmp_path: Path) -> None:
    packed = tmp_path / "in" / "product.zip"
    packed.parent.mkdir()
    with zipfile.ZipFile(packed, "w") as z:
        for path in workshop.product.rglob("*"):
            if path.is_file():
                z.write(path, f"{root}/{path.relative_to(workshop.product).as_posix()}")
    (tmp_path / "out" / "earlier").mkdir(parents=True)
    (tmp_path / "out" / "earlier" / "product.tif").write_text("an earlier result")
    before = contents(tmp_path)
    more: list[str | Path] = ["--model", workshop.model] if command == "chart" else []
    done = run(*command.split(), packed, "--out", tmp_path / "out", *more)
    assert done.exit_code == 1 and "unexpected" not in done.output
    assert contents(tmp_path) == before
    assert "\x1b" not in done.output


def test_a_folder_given_as_here_is_known_by_its_name(
    workshop: Inputs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "out" / "earlier").mkdir(parents=True)
    monkeypatch.chdir(workshop.product)
    for given_as in (".", "manifest.safe", "./", "../" + workshop.product.name):
        done = run("prepare", given_as, "--out", tmp_path / "out", "--resolution", "2000")
        assert done.exit_code == 0
        assert {p.name for p in (tmp_path / "out").iterdir()} == {"earlier", workshop.name}


@pytest.mark.parametrize("name", ["..gpkg", "...gpkg", ".gpkg", ".ssh.gpkg"])
def test_a_charts_file(name: str, workshop: Inputs, tmp_path: Path) -> None:
    chart = tmp_path / "in" / name
    chart.parent.mkdir()
    chart.write_bytes(workshop.chart.read_bytes())
    (tmp_path / "out" / "earlier").mkdir(parents=True)
    before = contents(tmp_path)
    assert run("label", chart, "--like", workshop.prepared, "--out", tmp_path / "out").exit_code == 1
    assert contents(tmp_path) == before


@pytest.mark.parametrize("name", ["..", "../x", "."])
def test_names_that_are_given_in_python(name: str, workshop: Inputs, tmp_path: Path) -> None:
    work: list[Callable[..., Any]] = [
        lambda: evaluate_scene(workshop.prediction, workshop.labels, tmp_path / "out", name=name),
        lambda: assess_scene(workshop.prediction, workshop.labels, workshop.prepared, tmp_path / "out", name=name),
        lambda: SceneSettings.checked(name=name, product="p", chart="c"),
        lambda: DataPaths(tmp_path / "out").labels(name),
        lambda: RunPaths(tmp_path / "out").cell(name),
    ]
    for call in work:
        with pytest.raises(FloemapError):
            call()
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["../../../evil2", "..", "dice/../../x", "foccal"])
@pytest.mark.parametrize("more", [[], ["--overwrite"]], ids=["", "overwrite"])
def test_losses_of_a_comparison(name: str, more: list[str], workshop: Inputs, tmp_path: Path) -> None:
    """Also one that is only misspelt is found before any work."""
    (tmp_path / "evil2_r0" / "model").mkdir(parents=True)
    for file in ("model.safetensors", "state.pt", "metrics.jsonl", "training.json"):
        (tmp_path / "evil2_r0" / "model" / file).write_text("mine")
    config = tmp_path / "study.toml"
    config.write_text(
        f'[data]\nlegend = "six_classes"\n'
        f'scenes = [{{ name = "a", product = "{workshop.prepared}", chart = "{workshop.labels}" }}]\n'
        f'[split]\nkind = "lists"\ntraining = ["a-SW"]\nvalidation = ["a-NE"]\ntest = ["a"]\n'
        f"[compare]\nlosses = {json.dumps(['dice', name])}\n"
    )
    before = contents(tmp_path)
    done = run("compare", config, "--out", tmp_path / "a" / "b", *more)
    assert done.exit_code == 1 and name in done.output.replace("\n", "")
    assert contents(tmp_path) == before


@pytest.mark.parametrize(
    "name", ["../x.zip", "..", ".", "", "a/b.zip", "a\\b.zip", ".x", "a\nb.zip", "\x1b[2J.zip"], ids=ascii
)
def test_files_of_a_catalogue(name: str) -> None:
    class Answers:
        def json(self, url: str) -> Any:
            return {
                "files": [{"key": name, "size": 1, "checksum": "md5:" + "0" * 32, "links": {"self": "https://x/a"}}]
            }

    with pytest.raises(DownloadError):
        record_files("10.5281/zenodo.1", Answers(), "https://zenodo.invalid")  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def a_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_run(tmp_path_factory.mktemp("made") / "run", losses=("dice",), repeats=1, scenes=("01",))


@pytest.mark.parametrize("key", ["evaluation", "prediction", "scene"])
@pytest.mark.parametrize("name", ["../../../../evil", "..", "/tmp/evil", "a\nb"], ids=ascii)
def test_a_record_does_not_choose_where_a_report_writes(key: str, name: str, a_run: Path, tmp_path: Path) -> None:
    import shutil

    shutil.copytree(a_run, tmp_path / "a" / "b" / "run")
    record = tmp_path / "a" / "b" / "run" / "cells" / "dice_r0" / "cell.json"
    said = json.loads(record.read_text())
    said["tested"][0][key] = name
    record.write_text(json.dumps(said))
    # What it would find there, if it looked.
    evil = tmp_path / "a" / "evil"
    shutil.copytree(tmp_path / "a" / "b" / "run" / "cells" / "dice_r0" / "evaluation", evil)
    before = contents(tmp_path)
    with pytest.raises(FloemapError):
        make_report(tmp_path / "a" / "b" / "run", resamples=200)
    assert contents(tmp_path) == before


@pytest.mark.parametrize("place", ["cells/dice_r0/checks", "checks", "cells"])
def test_a_link_does_not_choose_either(place: str, a_run: Path, tmp_path: Path) -> None:
    import shutil

    there = tmp_path / "run" / place
    shutil.copytree(a_run, tmp_path / "run")
    if there.exists():
        there.rename(tmp_path / "elsewhere")
    else:
        (tmp_path / "elsewhere").mkdir()
    for record in (tmp_path / "elsewhere").rglob("checks.json"):
        record.unlink()  # so that it would be made again
    there.symlink_to(tmp_path / "elsewhere")
    before = contents(tmp_path / "elsewhere")
    with pytest.raises(FloemapError, match="leads out of the run"):
        make_report(tmp_path / "run", resamples=200)
    assert contents(tmp_path / "elsewhere") == before


def test_published_parts_have_plain_names(tmp_path: Path) -> None:
    for part in published_roles([f"{m:02d}" for m in range(1, 13)]):
        assert place_in(tmp_path, part, "a part").parent == tmp_path


def test_a_name_as_long_as_file_systems_allow_is_one(tmp_path: Path) -> None:
    place_in(tmp_path, "a" * 255, "the thing").touch()
    with pytest.raises(OSError, match="too long"):
        (tmp_path / ("a" * 256)).touch()
