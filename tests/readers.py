"""Everything here that reads files of others, on intact small inputs: to be given damaged ones.

A reader is called on a folder. It returns text that tells what it made of it, without times, or raises.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import random
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

from chart_maker import write_chart
from damage import without_checksums
from mutants import mutant
from run_maker import make_run
from small_dataset import write_chart as write_dataset_chart
from small_dataset import write_product, zip_files
from tiny_model import ABOUT, WITH_TINY, scene, tiny_settings
from workshop import Inputs

from floemap.charts.extremeearth import scene_of
from floemap.charts.inventory import check_dataset
from floemap.charts.sigrid3 import read_chart
from floemap.config import LabelSettings, PrepareSettings
from floemap.errors import FloemapError
from floemap.evaluation.evaluate import evaluate_scene
from floemap.evaluation.settings import EvaluateSettings
from floemap.inference.chart_source import find_product
from floemap.inference.product_reader import open_fitting
from floemap.inference.settings import ChartSettings
from floemap.info import describe
from floemap.learning.checkpoint import load_checkpoint
from floemap.learning.state import load_state
from floemap.learning.training import train
from floemap.legend import SIX_CLASSES
from floemap.report.report import make_report
from floemap.report.run_folder import read_run
from floemap.sentinel1.product import prepare
from floemap.study.cells import check_cells
from floemap.study.settings import Study

CONFIGS = Path(__file__).parents[1] / "configs"


@dataclass(frozen=True)
class Reader:
    """Something that reads.

    Attributes
    ----------
    folder
        Of its intact input.
    files
        Patterns of the files in it that may be damaged.
    read
        Reads such a folder.
    sealed
        Whether checksums protect all of it: then nothing but the intact result will do.
    """

    name: str
    folder: Path
    files: tuple[str, ...]
    read: Callable[[Path], str]
    sealed: bool = False


def _digest(*parts: Any) -> str:
    return hashlib.sha256(b"".join(p if isinstance(p, bytes) else repr(p).encode() for p in parts)).hexdigest()


def _one(folder: Path, pattern: str = "*") -> Path:
    (found,) = folder.glob(pattern)
    return found


def _scene(folder: Path) -> str:
    """As ``info`` does."""
    return json.dumps(describe(_one(folder)).facts, sort_keys=True, default=str)


def _prepare(folder: Path) -> str:
    with tempfile.TemporaryDirectory(prefix="floemap-reliability-") as out:
        made = prepare(_one(folder), out, PrepareSettings(resolution_m=5000), quicklook=False)
        return _digest(made.raster.read_bytes())


def _chart(folder: Path) -> str:
    chart = read_chart(
        sorted(p for p in folder.iterdir() if p.suffix in (".shp", ".gpkg", ".geojson", ".fgb", ".zip"))[0]
    )
    codes = chart.polygons.drop(columns="geometry").to_csv()
    return _digest(codes, b"".join(chart.polygons.geometry.to_wkb()), str(chart.crs))


def _prepared(model: Path) -> Callable[[Path], str]:
    checkpoint = load_checkpoint(model)

    def read(folder: Path) -> str:
        facts = describe(folder).facts
        source = find_product(folder)
        with open_fitting(folder, checkpoint) as product:
            stored = product.read(0, 0, *product.shape)
        return _digest(json.dumps(facts, sort_keys=True, default=str), source.start, stored.tobytes())

    return read


def _evaluation(folder: Path) -> str:
    with tempfile.TemporaryDirectory(prefix="floemap-reliability-") as out:
        done = evaluate_scene(folder / "prediction", folder / "labels", out, EvaluateSettings())
        return json.dumps({k: done.read()[k] for k in ("scores", "legend")}, sort_keys=True)


def _checkpoint(folder: Path) -> str:
    path = folder / "model.safetensors"
    facts, loaded = describe(path).facts, load_checkpoint(path)
    weights = b"".join(x.numpy().tobytes() for x in loaded.model.state_dict().values())
    return _digest(json.dumps(facts, sort_keys=True, default=str), weights)


def _state(folder: Path) -> str:
    state = load_state(folder / "state.pt")
    return _digest([f"{f.name}: {getattr(state, f.name)}" for f in dataclasses.fields(state)])


def _training(folder: Path) -> str:
    """Go on with what is begun, or find it finished."""
    with patch("floemap.learning.models.MODELS", WITH_TINY):
        settings = tiny_settings(max_epochs=3)
        done = train([scene("a", 1)], [scene("v", 3)], settings, SIX_CLASSES, folder, about=ABOUT, device="cpu")
        weights = load_checkpoint(done.checkpoint).model.state_dict()
    losses = [[row["loss"], row["validation_loss"]] for row in done.history]
    return _digest(losses, b"".join(x.numpy().tobytes() for x in weights.values()))


def _settings(folder: Path) -> str:
    (path,) = (p for p in folder.iterdir() if p.suffix == ".toml")
    kinds: dict[str, Any] = {"prepare.toml": PrepareSettings, "chart.toml": ChartSettings, "label.toml": LabelSettings}
    settings = kinds.get(path.name, Study).from_toml(path)
    if isinstance(settings, Study):
        check_cells(settings, ["01", "07"])
    return repr(settings)


def _run(folder: Path) -> str:
    run = read_run(folder)
    tested = [(t.weighted_f1, t.classes.name) for k in run.contenders for c in k.cells for t in c.tested]
    return repr((run.simulated, run.scene_names, run.legend.name, tested))


def _report(folder: Path) -> str:
    with tempfile.TemporaryDirectory(prefix="floemap-reliability-") as out:
        return repr(make_report(folder, Path(out) / "report", resamples=200).findings)


def _dataset(folder: Path) -> str:
    found = check_dataset(folder, [1])
    return json.dumps(found.as_json(), default=str).replace(str(folder), "")


def make_readers(folder: Path, inputs: Inputs) -> dict[str, Reader]:
    """Make the intact inputs of all readers in a folder."""
    readers: list[Reader] = []

    def add(name: str, *files: str, read: Callable[[Path], str], sealed: bool = False) -> Path:
        place = folder / name.replace(" ", "_")
        place.mkdir(parents=True)
        readers.append(Reader(name, place, files, read, sealed))
        return place

    xml = ("*/manifest.safe", "*/annotation/*.xml", "*/annotation/calibration/*.xml")
    pixels = "*/measurement/*.tiff"
    shutil.copytree(inputs.product, add("product", *xml, pixels, read=_prepare, sealed=True) / inputs.product.name)
    place = add("product without checksums", *xml, read=_scene)
    without_checksums(Path(shutil.copytree(inputs.product, place / inputs.product.name)))
    place = add("product forged", *xml[1:], pixels, read=_prepare)
    without_checksums(Path(shutil.copytree(inputs.product, place / inputs.product.name)))
    place = add("product in a zip", "*.zip", read=_prepare, sealed=True)
    shutil.make_archive(str(place / inputs.name), "zip", inputs.product.parent, inputs.product.name)
    for suffix in ("shp", "gpkg", "geojson", "fgb", "zip"):
        place = add(f"chart in {suffix}", "*.*", read=_chart)
        options = {"index": False} if suffix == "fgb" else {}
        write_chart(place / f"chart.{suffix}", **options)
        shutil.rmtree(place / "chart_unzipped", ignore_errors=True)
    place = add("prepared product", "*", read=_prepared(inputs.model))
    shutil.copytree(inputs.prepared, place, dirs_exist_ok=True)
    place = add("prediction and labels", "*/*.tif", "*/*.json", read=_evaluation)
    shutil.copytree(inputs.prediction, place / "prediction")
    shutil.copytree(inputs.labels, place / "labels")
    _make_trainings(add, readers)
    for config in [*CONFIGS.glob("*.toml")]:
        shutil.copy(config, add(f"settings {config.stem}", "*.toml", read=_settings))
    place = add("run", "*.json", "cells/**/*.json", "cells/**/*.jsonl", read=_run)
    make_run(place, repeats=1, losses=("dice", "focal"), scenes=("01",))
    _report(place)  # so that its checks are there
    readers.append(Reader("report", place, ("*.json", "cells/**/*.json*", "cells/**/*.npz"), _report))
    place = add("dataset", "*.zip", "*.shp", "*.dbf", "*.shx", "*.prj", read=_dataset)
    write_product(place, scene_of(1), container="zip")
    write_dataset_chart(place, scene_of(1))
    zip_files(place / "other.zip", [p for p in sorted(place.iterdir()) if p.suffix == ".shp"])
    return {r.name: r for r in readers}


def _make_trainings(add: Callable[..., Path], readers: list[Reader]) -> None:
    """A checkpoint, a state, and a training that was stopped in its third epoch."""
    place = add("training", "state.pt", "metrics.jsonl", "model.safetensors", read=_training)

    def stop(done: float, total: float, what: str) -> None:
        if what.startswith("epoch 3"):
            raise KeyboardInterrupt

    with patch("floemap.learning.models.MODELS", WITH_TINY):
        settings = tiny_settings(max_epochs=3)
        parts = [scene("a", 1)], [scene("v", 3)]
        with suppress(KeyboardInterrupt):
            train(*parts, settings, SIX_CLASSES, place, about=ABOUT, device="cpu", progress=stop)
    assert (place / "state.pt").exists() and not (place / "training.json").exists()
    other = add("finished training", "*.json*", "*.safetensors", read=_training)
    shutil.copytree(place, other, dirs_exist_ok=True)
    _training(other)
    shutil.copy(place / "state.pt", add("state", "state.pt", read=_state))
    shutil.copy(other / "model.safetensors", add("checkpoint", "*.safetensors", read=_tiny_checkpoint))


def _tiny_checkpoint(folder: Path) -> str:
    with patch("floemap.learning.models.MODELS", WITH_TINY):
        return _checkpoint(folder)


@dataclass(frozen=True)
class Case:
    """A damaged input."""

    reader: str
    victim: str
    what: str
    seed: str


@dataclass(frozen=True)
class Outcome:
    """How reading it ended.

    Attributes
    ----------
    end
        ``refused``, ``same`` result as of the intact input, ``other`` result where no checksum protects the input, or a
        fault: ``wrong`` result of a protected one, ``unexpected`` exception, ``left`` files behind.
    words
        Of the error.
    """

    case: Case
    end: str
    words: str = ""

    @property
    def fault(self) -> bool:
        return self.end not in ("refused", "same", "other")


def cases(reader: Reader, seed: str) -> Iterator[tuple[Case, bytes]]:
    """Draw damaged forms of a reader's files, one after the other, without end."""
    rng = random.Random(f"{seed} {reader.name}")
    victims = sorted({p for pattern in reader.files for p in reader.folder.glob(pattern) if p.is_file()})
    contents = {p: p.read_bytes() for p in victims}
    while True:
        victim = rng.choice(victims)
        if rng.random() < 0.05:  # another file of this reader in its place
            what, changed = "another file", rng.choice(list(contents.values()))
        else:
            what, changed = mutant(victim.name, contents[victim], rng)
        name = victim.relative_to(reader.folder).as_posix()
        yield Case(reader.name, name, what[:200], seed), changed


def judge(reader: Reader, case: Case, changed: bytes, intact: str, work: Path) -> Outcome:
    """Give a reader a damaged input, in a folder that is removed afterwards."""
    place = work / "input"
    shutil.rmtree(place, ignore_errors=True)
    shutil.copytree(reader.folder, place, copy_function=_linked)
    victim = place / case.victim
    victim.unlink()
    victim.write_bytes(changed)
    try:
        made = reader.read(place)
    except FloemapError as e:
        words = str(e)
        end = "unexpected" if "unexpected" in words else "too long" if len(words) > 5000 else "refused"
        return Outcome(case, end, words[:300])
    except Exception as e:
        return Outcome(case, "unexpected", f"{type(e).__name__}: {e}"[:300])
    if made == intact:
        return Outcome(case, "same")
    return Outcome(case, "wrong" if reader.sealed else "other")


def _linked(source: str, target: str) -> None:
    """Share a file that is only read; copy what a training or a report may write to."""
    if source.endswith((".json", ".jsonl", ".pt", ".safetensors", ".npz", ".lock")):
        shutil.copy2(source, target)
    else:
        os.link(source, target)
