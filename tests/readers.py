"""Everything here that reads files of others, on intact small inputs: to be given damaged ones.

A reader is called on a folder. It returns text that tells what it made of it, without times, or raises.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import random
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any
from unittest.mock import patch

from chart_maker import write_chart
from damage import without_checksums
from mutants import mutant
from run_maker import make_run
from small_ai4arctic import write_asid2, write_prep, write_raw
from small_dataset import write_chart as write_dataset_chart
from small_dataset import write_product, zip_files
from tiny_model import ABOUT, WITH_TINY, scene, tiny_settings
from workshop import Inputs

from floemap.datasets.ai4arctic.prepare import label_scene, prepare_scene
from floemap.datasets.extremeearth.inventory import check_dataset
from floemap.datasets.extremeearth.scenes import scene_of
from floemap.errors import FloemapError
from floemap.evaluation.scoring.evaluate import evaluate_scene
from floemap.evaluation.scoring.settings import EvaluateSettings
from floemap.icechart.label.polygon_table import read_ids, read_polygons
from floemap.icechart.label.settings import LabelSettings
from floemap.icechart.read.sigrid3 import read_chart
from floemap.inference.draftchart.settings import ChartSettings
from floemap.inference.draftchart.source import find_product
from floemap.inference.predict.product_reader import open_fitting
from floemap.info import describe
from floemap.layers.of_ai4arctic import layers_of_ai4arctic
from floemap.learning.models.checkpoint import Checkpoint, load_checkpoint
from floemap.learning.training.loop import train
from floemap.learning.training.state import load_state
from floemap.legend import SIX_CLASSES
from floemap.report.report import make_report
from floemap.report.run_folder import read_run
from floemap.sentinel1.prepare import prepare
from floemap.sentinel1.settings import PrepareSettings
from floemap.study.cells import check_settings, plan
from floemap.study.settings import Study

#: Checkpoints by the number of their file, which copies share.
_MODELS: dict[int, Path] = {}
CONFIGS = Path(__file__).parents[1] / "configs"


@dataclass(frozen=True)
class Reader:
    """Something that reads.

    Attributes
    ----------
    files
        Patterns of the files in its folder that may be damaged.
    read
        Reads such a folder.
    sealed
        Whether checksums protect all of it: then nothing but the intact result will do.
    """

    name: str
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


def _ai4arctic(folder: Path) -> str:
    """As ``prepare``, ``label``, ``layer`` and ``info`` do, on both grids in turn."""
    path = _one(folder)
    facts = json.dumps(describe(path).facts, sort_keys=True, default=str).replace(str(folder), "")
    image = path.stat().st_size % 2
    pixel_m = 4070.78 if "icechart" in path.name else 4000  # two raw pixels, one of the other form
    settings = PrepareSettings(resolution_m=pixel_m, grid="image" if image else "polar")
    with tempfile.TemporaryDirectory(prefix="floemap-reliability-") as out, patch(_QUICKLOOK):
        made = prepare_scene(path, out, settings)
        labels = label_scene(path, made.folder, Path(out) / "labels")
        layers = layers_of_ai4arctic(made.folder, path, ["t2m", "distance_to_land_km", "latitude_deg"])
        rasters = [made.raster, labels.raster, *(one.folder / "layer.tif" for one in layers)]
        return _digest(facts, *(p.read_bytes() for p in rasters))


def _asid2(folder: Path) -> str:
    """A chart on a product that is whole."""
    path = _one(folder, "*Icechart*")
    facts = json.dumps(describe(path).facts, sort_keys=True, default=str).replace(str(folder), "")
    with tempfile.TemporaryDirectory(prefix="floemap-reliability-") as out:
        return _digest(facts, label_scene(path, folder / "product.tif", out).raster.read_bytes())


def _chart(folder: Path) -> str:
    chart = read_chart(
        sorted(p for p in folder.iterdir() if p.suffix in (".shp", ".gpkg", ".geojson", ".fgb", ".zip"))[0]
    )
    codes = chart.polygons.drop(columns="geometry").to_csv()
    return _digest(codes, b"".join(chart.polygons.geometry.to_wkb()), str(chart.crs))


def _prepared(folder: Path) -> str:
    facts = describe(folder / "product").facts
    source = find_product(folder / "product")
    with open_fitting(folder / "product", _loaded((folder / "model.safetensors").stat().st_ino)) as product:
        stored = product.read(0, 0, *product.shape)
    return _digest(json.dumps(facts, sort_keys=True, default=str), source.start, stored.tobytes())


@cache
def _loaded(inode: int) -> Checkpoint:
    """A checkpoint that is the same in all copies of a folder."""
    return load_checkpoint(_MODELS[inode])


def _evaluation(folder: Path) -> str:
    with tempfile.TemporaryDirectory(prefix="floemap-reliability-") as out:
        done = evaluate_scene(folder / "prediction", folder / "labels", out, EvaluateSettings())
        return json.dumps({k: done.read()[k] for k in ("scores", "legend")}, sort_keys=True)


def _polygons(folder: Path) -> str:
    table = read_polygons(folder / "labels")
    ids = read_ids(folder / "labels", table)
    return _digest(table.classes, table.rules, table.shares[ids].tobytes(), table.dominant[ids].tobytes())


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
    with patch("floemap.learning.models.registry.MODELS", WITH_TINY):
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
        for cell in plan(settings, ["01", "07"]):
            check_settings(cell.study)
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


def _tiny_checkpoint(folder: Path) -> str:
    with patch("floemap.learning.models.registry.MODELS", WITH_TINY):
        return _checkpoint(folder)


_QUICKLOOK = "floemap.sentinel1.quicklook.draw_quicklook"
_XML = ("*/manifest.safe", "*/annotation/*.xml", "*/annotation/calibration/*.xml")
_PIXELS = "*/measurement/*.tiff"
_ALL = [
    Reader("product", (*_XML, _PIXELS), _prepare, sealed=True),
    Reader("product without checksums", _XML, _scene),
    Reader("product forged", (*_XML[1:], _PIXELS), _prepare),
    Reader("product in a zip", ("*.zip",), _prepare, sealed=True),
    *(Reader(f"chart in {kind}", ("*.*",), _chart) for kind in ("shp", "gpkg", "geojson", "fgb", "zip")),
    Reader("prepared product", ("product/*",), _prepared),
    Reader("prediction and labels", ("*/*.tif", "*/*.json"), _evaluation),
    Reader("polygons", ("labels/polygons.*", "labels/label.json"), _polygons),
    Reader("training", ("state.pt", "metrics.jsonl", "model.safetensors"), _training),
    Reader("finished training", ("*.json*", "*.safetensors"), _training),
    Reader("state", ("state.pt",), _state),
    Reader("checkpoint", ("*.safetensors",), _tiny_checkpoint),
    *(Reader(f"settings {p.stem}", ("*.toml",), _settings) for p in sorted(CONFIGS.glob("*.toml"))),
    Reader("run", ("*.json", "cells/**/*.json", "cells/**/*.jsonl"), _run),
    Reader("report", ("*.json", "cells/**/*.json*", "cells/**/*.npz"), _report),
    *(Reader(f"AI4Arctic {kind}", ("*.nc",), _ai4arctic) for kind in ("ready", "raw")),
    Reader("ASID-v2", ("*.nc",), _asid2),
    Reader("dataset", ("*.zip", "*.shp", "*.dbf", "*.shx", "*.prj"), _dataset),
]
#: By name.
READERS = {r.name: r for r in _ALL}


def make_intact(folder: Path, inputs: Inputs) -> None:
    """Make the intact inputs of all readers, each in a folder of the reader's name."""
    place = {name: folder / name for name in READERS}
    for p in place.values():
        p.mkdir(parents=True)
    shutil.copytree(inputs.product, place["product"] / inputs.product.name)
    for name in ("product without checksums", "product forged"):
        without_checksums(Path(shutil.copytree(inputs.product, place[name] / inputs.product.name)))
    shutil.make_archive(str(place["product in a zip"] / inputs.name), "zip", inputs.product.parent, inputs.product.name)
    for kind in ("shp", "gpkg", "geojson", "fgb", "zip"):
        write_chart(place[f"chart in {kind}"] / f"chart.{kind}")
        shutil.rmtree(place[f"chart in {kind}"] / "chart_unzipped", ignore_errors=True)
    shutil.copytree(inputs.prepared, place["prepared product"] / "product")
    shutil.copy(inputs.model, place["prepared product"] / "model.safetensors")
    shutil.copytree(inputs.prediction, place["prediction and labels"] / "prediction")
    for name in ("prediction and labels", "polygons"):
        shutil.copytree(inputs.labels, place[name] / "labels")
    _make_trainings(place)
    for config in CONFIGS.glob("*.toml"):
        shutil.copy(config, place[f"settings {config.stem}"])
    make_run(place["report"], repeats=1, losses=("dice", "focal"), scenes=("01",))
    _report(place["report"])  # so that its checks are there
    shutil.copytree(place["report"], place["run"], dirs_exist_ok=True)
    _make_ai4arctic(place)
    write_product(place["dataset"], scene_of(1), container="zip")
    chart = write_dataset_chart(place["dataset"], scene_of(1))
    zip_files(place["dataset"] / "other.zip", sorted(chart.parent.glob(f"{chart.stem}.*")))


def _make_ai4arctic(place: Mapping[str, Path]) -> None:
    raw = write_raw(place["AI4Arctic raw"])
    ready = write_prep(place["AI4Arctic ready"], raw)
    write_asid2(place["ASID-v2"] / "SIMULATED_20190405T084543_S1B_AMSR2_Icechart-Greenland-CentralEast.nc", raw)
    with tempfile.TemporaryDirectory(prefix="floemap-reliability-") as out, patch(_QUICKLOOK):
        shutil.copy(prepare_scene(ready, out, PrepareSettings(resolution_m=4000)).raster, place["ASID-v2"])


def _make_trainings(place: Mapping[str, Path]) -> None:
    """A training that was stopped in its third epoch, and one that went on from there; a state and a checkpoint."""

    def stop(done: float, total: float, what: str) -> None:
        if what.startswith("epoch 3"):
            raise KeyboardInterrupt

    begun, finished = place["training"], place["finished training"]
    with patch("floemap.learning.models.registry.MODELS", WITH_TINY), suppress(KeyboardInterrupt):
        parts, settings = ([scene("a", 1)], [scene("v", 3)]), tiny_settings(max_epochs=3)
        train(*parts, settings, SIX_CLASSES, begun, about=ABOUT, device="cpu", progress=stop)
    assert (begun / "state.pt").exists() and not (begun / "training.json").exists()
    shutil.copytree(begun, finished, dirs_exist_ok=True)
    _training(finished)
    shutil.copy(begun / "state.pt", place["state"])
    shutil.copy(finished / "model.safetensors", place["checkpoint"])


@dataclass(frozen=True)
class Case:
    """A file of a reader's input in a damaged form, and what was done to it."""

    reader: str
    victim: str
    what: str
    content: bytes = field(repr=False)


@dataclass(frozen=True)
class Outcome:
    """How reading it ended.

    Attributes
    ----------
    end
        ``refused``, ``same`` result as of the intact input, ``other`` result where no checksum protects the input; or a
        fault: ``wrong`` result of a protected one, ``unexpected`` exception, an error of ``too long`` words.
    words
        Of the error; else the result.
    """

    case: Case | None
    end: str
    words: str = ""

    @property
    def fault(self) -> bool:
        return self.end not in ("refused", "same", "other")


def cases(reader: Reader, folder: Path, seed: str) -> Iterator[Case]:
    """Draw damaged forms of the files in a reader's intact folder, one after the other, without end."""
    rng = random.Random(f"{seed} {reader.name}")
    victims = sorted({p for pattern in reader.files for p in folder.glob(pattern) if p.is_file()})
    contents = {p: p.read_bytes() for p in victims}
    while True:
        victim = rng.choice(victims)
        if rng.random() < 0.05:
            what, changed = "another file in its place", rng.choice(list(contents.values()))
        else:
            what, changed = mutant(victim.name, contents[victim], rng)
        yield Case(reader.name, victim.relative_to(folder).as_posix(), what[:200], changed)


def judge(reader: Reader, folder: Path, case: Case | None, work: Path, intact: str = "") -> Outcome:
    """Give a reader its intact folder, or one with a damaged file; it is copied into `work`, and read there."""
    place = work / "input"
    _MODELS.update({p.stat().st_ino: p for p in folder.glob("model.safetensors")})
    shutil.rmtree(place, ignore_errors=True)
    shutil.copytree(folder, place, copy_function=_linked)
    if case is not None:
        (place / case.victim).unlink()
        (place / case.victim).write_bytes(case.content)
    try:
        made = reader.read(place)
    except FloemapError as e:
        words = str(e)
        end = (
            "unexpected"
            if re.search(r"unexpected [A-Z]\w+:", words)
            else "too long"
            if len(words) > 5000
            else "refused"
        )
        return Outcome(case, end, words[:300])
    except Exception as e:
        return Outcome(case, "unexpected", f"{type(e).__name__}: {e}"[:300])
    return Outcome(case, "same" if made == intact else "wrong" if reader.sealed else "other", made)


def _linked(source: str, target: str) -> None:
    """Share large files, which are only read or replaced; copy the others."""
    if not source.endswith((".tif", ".tiff", ".safetensors", ".zip")):
        shutil.copy2(source, target)
    else:
        os.link(source, target)
