"""What a study has found out about files counts until one of them changes, and is never taken for another file's."""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import rasterio
from run_maker import make_scene
from workshop import Inputs

from floemap.cog import open_raster
from floemap.errors import FloemapError
from floemap.learning.data.parts import PartArrays, ScenePart, load_part
from floemap.learning.data.survey import survey_part
from floemap.learning.data.surveyed import Wanted, surveyed
from floemap.legend import IGNORE
from floemap.results.run_paths import DataPaths
from floemap.results.seen import found_out, remembering
from floemap.results.stage import sha256
from floemap.study import data as study_data
from floemap.study.data import make_data
from floemap.study.settings import DataSettings


def old(path: Path, content: bytes = b"ice") -> Path:
    """Write a file and wait until a further change has another time."""
    path.write_bytes(content)
    time.sleep(0.15)
    return path


def altered(seen: Path, value: str) -> None:
    """Put another value in the place of all remembered ones: who gets it has not read the file."""
    content = json.loads(seen.read_text())
    assert content["seen"], "nothing was remembered"
    for entry in content["seen"].values():
        entry["value"] = value
    seen.write_text(json.dumps(content))


@pytest.fixture
def remembered(tmp_path: Path) -> tuple[Path, Path]:
    """A file, and where something else than its hash is remembered of it."""
    file, seen = old(tmp_path / "file"), tmp_path / "data" / "seen.json"
    with remembering(seen):
        sha256(file)
    altered(seen, "from memory")
    return file, seen


def test_a_file_is_not_read_again_unless_asked(remembered: tuple[Path, Path]) -> None:
    file, seen = remembered
    with remembering(seen):
        assert sha256(file) == "from memory"
    true = sha256(file)
    assert len(true) == 64, "outside a study nothing is remembered"
    with remembering(seen, verify=True):
        assert sha256(file) == true
    with remembering(seen):
        assert sha256(file) == true, "what was found anew is what counts from then on"


def _same_size_and_time(file: Path) -> None:
    before = file.stat()
    file.write_bytes(b"sea")
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))


@pytest.mark.parametrize(
    "change",
    [
        lambda file: file.write_bytes(b"iceberg"),
        lambda file: file.write_bytes(b"sea"),
        lambda file: os.utime(file, (1, 1)),
        _same_size_and_time,
        lambda file: (file.unlink(), file.write_bytes(b"ice")),
    ],
)
def test_every_change_is_noticed(change: Callable[[Path], object], remembered: tuple[Path, Path]) -> None:
    file, seen = remembered
    change(file)
    with remembering(seen):
        assert sha256(file) == sha256(Path(shutil.copy(file, file.with_name("copy"))))


def test_a_file_that_may_still_change_within_the_same_tick_is_not_remembered(tmp_path: Path) -> None:
    file, seen = tmp_path / "file", tmp_path / "seen.json"
    with remembering(seen):
        file.write_bytes(b"ice")
        first = sha256(file)
        file.write_bytes(b"sea")
        assert sha256(file) != first
    whole = old(tmp_path / "whole_seconds")  # as on file systems that count in these
    now = int(time.time()) + 1
    os.utime(whole, (now, now))
    with remembering(seen):
        sha256(whole)
    assert not seen.exists()


def test_it_is_kept_with_a_folder_that_moves_and_not_mixed_up(tmp_path: Path) -> None:
    here = tmp_path / "here"
    here.mkdir()
    a, b = old(here / "a"), old(here / "b", b"sea")
    with remembering(here / "seen.json"):
        assert sha256(a) != sha256(b)
        assert found_out("length", [a], lambda: 3) == 3
    altered(here / "seen.json", "from memory")
    there = here.rename(tmp_path / "there")
    with remembering(there / "seen.json"):
        assert sha256(there / "a") == "from memory"
        assert found_out("another question", [there / "a"], lambda: 4) == 4
    assert str(tmp_path) not in (there / "seen.json").read_text(), "it tells nobody's paths"


@pytest.mark.parametrize("content", ["", "{", "[]", '{"layout": 2}', '{"layout": 1, "seen": {"a": 1}}', "[" * 100_000])
def test_a_damaged_memory_is_an_empty_one(content: str, tmp_path: Path) -> None:
    file, seen = old(tmp_path / "file"), tmp_path / "seen.json"
    seen.write_text(content)
    with remembering(seen):
        assert sha256(file) == sha256(Path(shutil.copy(file, tmp_path / "copy")))


def test_where_nothing_can_be_written_work_goes_on(tmp_path: Path) -> None:
    file, taken = old(tmp_path / "file"), tmp_path / "taken"
    taken.write_text("a file in the way")
    with remembering(taken / "seen.json"):
        assert len(sha256(file)) == 64
    with remembering(tmp_path / "seen.json"), pytest.raises(FloemapError, match="does not exist"):
        sha256(tmp_path / "missing")


def test_surveys_from_files_are_those_of_the_parts(tmp_path: Path) -> None:
    product, labels = make_scene(DataPaths(tmp_path / "data"), "01", size_px=80)
    part = ScenePart("01", product / "product.tif", labels / "labels.tif")
    wanted = Wanted(16, 0.5, folder=tmp_path / "surveys")
    true = survey_part(load_part(part), 16, 0.5)
    read: list[str] = []

    def load() -> PartArrays:
        read.append(part.name)
        return load_part(part)

    for _ in range(3):
        survey = surveyed(part, wanted, load).survey
        assert read == ["01"]
        assert (survey.name, survey.shape) == (true.name, true.shape)
        assert (survey.pixels == true.pixels).all() and (survey.sums == true.sums).all()
        assert survey.places is not None and true.places is not None
        for key in ("row", "col", "before"):
            assert np.array_equal(getattr(survey.places, key), getattr(true.places, key))
    (file,) = (tmp_path / "surveys").iterdir()
    for other in (replace(wanted, size_px=20), replace(wanted, min_valid=0.9), replace(wanted, size_px=None)):
        again = surveyed(part, other, load).survey
        fresh = survey_part(load_part(part), other.size_px, other.min_valid)
        assert (again.places is None) == (fresh.places is None)
        assert again.places is None or fresh.places is None or len(again.places) == len(fresh.places)
    file.write_bytes(file.read_bytes()[:100])
    assert (surveyed(part, wanted, load).survey.pixels == true.pixels).all()
    with open_raster(labels / "labels.tif") as d:
        band, profile = d.read(1), d.profile
    band[:40] = IGNORE
    with rasterio.open(labels / "labels.tif", "w", **profile) as d:
        d.write(band, 1)
    assert surveyed(part, wanted, load).survey.pixels[IGNORE] > true.pixels[IGNORE]


def test_a_scene_is_looked_at_again_when_anything_of_it_changes(
    workshop: Inputs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    product, chart = tmp_path / workshop.product.name, tmp_path / "ice.gpkg"
    shutil.copytree(workshop.product, product)
    shutil.copy(workshop.chart, chart)
    given = {"name": "a", "product": product, "chart": chart}
    settings = DataSettings.checked(legend="six_classes", scenes=[given], prepare={"resolution_m": 4000})
    data = DataPaths(tmp_path / "data")
    real, calls = study_data._make, list[str]()
    monkeypatch.setattr(study_data, "_make", lambda *args: calls.append("made") or real(*args))

    def looked(settings: DataSettings = settings, *, verify: bool = False) -> bool:
        calls.clear()
        with remembering(data.seen, verify=verify):
            (scene,) = make_data(settings, data.folder)
        assert scene.hashes["product.tif"] == sha256(scene.raster)
        assert scene.product == data.prepared / workshop.name and scene.labels == data.labels("a") / "ice"
        return bool(calls)

    time.sleep(0.15)
    assert looked() and not looked()
    assert looked(verify=True) and not looked()
    for path in (
        product / "manifest.safe",
        chart,
        data.prepared / workshop.name / "product.tif",
        data.labels("a") / "ice" / "label.json",
    ):
        os.utime(path)
        time.sleep(0.15)
        assert looked() and not looked(), path
    (data.labels("a") / "ice" / "border_distance.tif").unlink()
    assert looked() and not looked()
    assert looked(settings.model_copy(update={"without_parts": "first"}))
    assert looked(), "the labels are those of the other settings"
    monkeypatch.setattr("floemap.study.known.__version__", "another")
    assert looked() and not looked()
