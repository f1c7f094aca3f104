"""Predicting products: files equal to one pass of the model, on the product's grid; engines; whatever goes wrong."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
import signal
import subprocess
import sys
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
import torch
from affine import Affine
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox
from torch import nn

from floemap.cog import Band, read_geobox, write_cog
from floemap.errors import ConfigError, FloemapError, GridError, ModelError, OutputError, ProductError
from floemap.grid import check_same_grid
from floemap.inference.predict import strips as strips_module
from floemap.inference.predict.engines import make_network
from floemap.inference.predict.predict import Prediction, predict, predict_all
from floemap.inference.predict.predictors import Predictor, make_predictor, predict_maps, predicting
from floemap.inference.predict.scene_maps import STEPS, described_score
from floemap.inference.predict.strips import Strip, predicted_strips
from floemap.learning.calibration.out_of_distribution import Known, SquareStatistics, labelled_squares, learn_known
from floemap.learning.data.crops import physical
from floemap.learning.data.parts import PartArrays
from floemap.learning.models.checkpoint import load_checkpoint, save_checkpoint
from floemap.learning.models.checkpoint_header import SCENES, read_about
from floemap.learning.models.registry import build_model
from floemap.learning.settings import ModelSettings
from floemap.learning.whole_scene.logits import SceneLogits, array_reader
from floemap.legend import IGNORE, SIX_CLASSES
from floemap.outcomes import Outcome
from floemap.sentinel1.bands import BANDS
from floemap.sentinel1.encoding import NODATA, PRODUCT_BANDS

SHAPE = (165, 213)
ABOUT = {"legend": "six_classes", "resolution_m": 80.0, "simulated": False}
KEYS = [c.key for c in SIX_CLASSES.classes]
WITH_OPENVINO = importlib.util.find_spec("openvino") is not None


def write_product(folder: Path, *, shape: tuple[int, int] = SHAPE, pixel_m: float = 80.0, **changes: Any) -> Path:
    """Write a prepared product with a turned footprint; `changes` are of its values or its tags."""
    rng = np.random.default_rng(3)
    y, x = np.indices(shape)
    level = np.stack([300 * np.sin(y / 30 + x / 50), 200 * np.cos(x / 40), 5 * x, np.zeros(shape)])
    stored = (rng.normal(np.reshape([-1500, -2600, 3000, 0], (4, 1, 1)), 150, (4, *shape)) + level).astype(np.int16)
    stored[3] = 1
    outside = np.abs(y / shape[0] - 0.5) + np.abs(x / shape[1] - 0.5) > changes.pop("half", 0.55)
    stored[:3, outside], stored[3, outside] = NODATA, 0
    tags = {"product": folder.name, "start": "2018-01-16T07:54:30"} | changes.pop("tags", {})
    box = GeoBox(shape, Affine(pixel_m, 0, 400_000, 0, -pixel_m, -900_000), "EPSG:3413")
    folder.mkdir(parents=True)
    write_cog(folder / "product.tif", box, stored, changes.pop("bands", BANDS), nodata=NODATA, tags=tags)
    assert not changes
    return folder


def save_model(path: Path, about: dict[str, Any] = ABOUT, seed: int = 0, **settings: Any) -> Path:
    torch.manual_seed(seed)
    model = build_model(ModelSettings(**settings), 6)
    for m in model.modules():
        if isinstance(m, nn.BatchNorm2d):
            assert m.running_mean is not None
            m.running_mean.normal_(0, 0.1)
            nn.init.normal_(m.bias, 0, 0.2)
    model.set_normalisation([-15, -26, 34], [4, 4, 7])
    # No class is to win everywhere.
    last = [m for m in model.modules() if isinstance(m, nn.Conv2d)][-1]
    assert last.bias is not None
    with torch.no_grad():
        model.eval()
        seen = torch.tensor([-15.0, -26.0, 34.0]).reshape(1, 3, 1, 1) + 4 * torch.randn(1, 3, 128, 128)
        last.bias -= model(seen).mean(dim=(0, 2, 3))
    save_checkpoint(path, model, about)
    return path


@pytest.fixture(scope="module")
def product(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_product(tmp_path_factory.mktemp("prepared") / "S1A_EW_A")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_model(tmp_path_factory.mktemp("model") / "model.safetensors")


@pytest.fixture(scope="module")
def made(product: Path, model: Path, tmp_path_factory: pytest.TempPathFactory) -> Prediction:
    """An exact prediction. Shared: only to read."""
    return predict(product, model, tmp_path_factory.mktemp("out"), precision="fp32")


def stored_of(product: Path) -> NDArray[np.int16]:
    with rasterio.open(product / "product.tif") as d:
        return np.asarray(d.read([1, 2, 3]))


def one_pass(product: Path, model: Path) -> NDArray[np.float32]:
    """Probabilities of the model over the whole product, (K, rows, cols)."""
    with torch.no_grad():
        logits = load_checkpoint(model).model(physical(torch.from_numpy(stored_of(product)))[None])[0]
    return logits.softmax(dim=0).numpy()


def read(path: Path) -> NDArray[Any]:
    with rasterio.open(path) as d:
        return np.asarray(d.read())


def record(prediction: Prediction) -> dict[str, Any]:
    return dict(json.loads(prediction.record.read_text()))


def assert_near(classes: NDArray[Any], stored: NDArray[Any], expected: NDArray[np.float32]) -> None:
    """Classes are those of `expected`, but for ties, and stored probabilities are the nearest step."""
    best = np.sort(expected, axis=0)
    tie = best[-1] - best[-2] < 1e-4
    assert ((classes == expected.argmax(axis=0)) | tie).all()
    assert np.abs(stored / STEPS - expected).max() <= 0.5 / STEPS + 1e-4


# What is written


@pytest.mark.parametrize("settings", [{}, {"output_stride": 8}, {"name": "unet"}], ids=["at 16", "at 8", "unet"])
def test_files_are_what_one_pass_gives(settings: dict[str, Any], product: Path, tmp_path: Path) -> None:
    model = save_model(tmp_path / "m.safetensors", **settings)
    prediction = predict(product, model, tmp_path / "out", precision="fp32")
    valid = (stored_of(product) != NODATA).all(axis=0)
    assert 0.3 < valid.mean() < 0.9
    classes, stored = read(prediction.classes)[0], read(prediction.probabilities)
    assert len(np.unique(classes[valid])) > 2
    assert_near(classes[valid], stored[:, valid], one_pass(product, model)[:, valid])
    assert (classes[~valid] == IGNORE).all() and (stored[:, ~valid] == IGNORE).all()


def test_rasters_say_what_they_are(made: Prediction, product: Path) -> None:
    assert made.folder.name == "S1A_EW_A"
    assert sorted(f.name for f in made.folder.iterdir()) == [
        "classes.qml",
        "classes.tif",
        "prediction.json",
        "probabilities.tif",
    ]
    for path in (made.classes, made.probabilities):
        check_same_grid(read_geobox(path), read_geobox(product / "product.tif"), path.name)
        with rasterio.open(path) as d:
            assert set(d.dtypes) == {"uint8"} and set(d.nodatavals) == {IGNORE}
            tags = d.tags()
            assert (tags["product"], tags["start"]) == ("S1A_EW_A", "2018-01-16T07:54:30")
            assert (tags["model"], tags["legend"]) == ("model.safetensors", "six_classes")
            assert "simulated" not in tags
            assert d.tags(ns="IMAGE_STRUCTURE")["LAYOUT"] == "COG"
    with rasterio.open(made.classes) as d:
        assert {k: d.colormap(1)[k][:3] for k in SIX_CLASSES.colours} == SIX_CLASSES.colours
        assert {d.tags(1)[f"class_{k}"] for k in range(6)} == set(SIX_CLASSES.titles.values())
    with rasterio.open(made.probabilities) as d:
        assert list(d.descriptions) == KEYS
        assert set(d.scales) == {1 / STEPS} and set(d.offsets) == {0}


def test_overviews_show_the_most_frequent_class(model: Path, tmp_path: Path) -> None:
    product = write_product(tmp_path / "p", shape=(700, 620))
    prediction = predict(product, model, tmp_path / "out", probabilities=False)
    classes = read(prediction.classes)[0]
    with rasterio.open(prediction.classes, overview_level=0) as d:
        small = d.read(1)
    quarters = np.stack([classes[y::2, x::2] for y in (0, 1) for x in (0, 1)])
    alike = (quarters == quarters[0]).all(axis=0)
    assert alike.mean() > 0.3
    assert (small[alike] == quarters[0][alike]).all()
    # with three of a kind, the fourth does not show
    three = (quarters == small).sum(axis=0)
    assert (three[(np.sort(quarters, axis=0)[1] == np.sort(quarters, axis=0)[2])] >= 2).all()


def test_the_record(made: Prediction, product: Path, model: Path) -> None:
    said = record(made)
    assert said["made_by"] == "floemap predict"
    assert said["inputs"] == {
        "product": {"product.tif": hashlib.sha256((product / "product.tif").read_bytes()).hexdigest()},
        "model": {"model.safetensors": hashlib.sha256(model.read_bytes()).hexdigest()},
    }
    assert said["configuration"] == {"engine": "torch", "precision": "fp32", "device": "auto", "probabilities": True}
    computed = said["computed"]
    assert (computed["engine"], computed["precision"]) == ("torch", "fp32")
    assert computed["device"].startswith("cuda" if torch.cuda.is_available() else "cpu")
    assert computed["seconds"] > 0
    assert said["legend"]["name"] == "six_classes"
    assert said["grid"]["shape"] == list(SHAPE)
    assert said["model"]["model"]["name"] == "resnet18_aspp"
    counts = np.bincount(read(made.classes).ravel(), minlength=256)
    assert said["pixels"] == dict(zip([*KEYS, "no_data"], [*counts[:6].tolist(), int(counts[IGNORE])], strict=True))


@pytest.mark.parametrize(("of_product", "of_model"), [(False, False), (True, False), (False, True), (True, True)])
def test_simulated_is_carried_on(of_product: bool, of_model: bool, tmp_path: Path) -> None:
    product = write_product(tmp_path / "p", shape=(33, 20), tags={"simulated": "yes"} if of_product else {})
    model = save_model(tmp_path / "m.safetensors", ABOUT | {"simulated": of_model})
    prediction = predict(product, model, tmp_path / "out")
    said = record(prediction)
    assert (said["product"]["simulated"], said["model"]["simulated"]) == (of_product, of_model)
    assert said["simulated"] is (of_product or of_model)
    with rasterio.open(prediction.classes) as d, rasterio.open(prediction.probabilities) as e:
        assert d.tags().get("simulated") == e.tags().get("simulated") == ("yes" if of_product or of_model else None)


def ready(model: Path) -> Predictor:
    return make_predictor(model, engine="torch", precision="fp32", device="cpu")


def test_strips_without_files(made: Prediction, product: Path, model: Path) -> None:
    strips: list[Strip] = []
    with predicting(product / "product.tif", [ready(model)], uncertainty=True) as (opened, found):
        assert opened.shape == SHAPE
        for strip in found:
            assert strip.first_row == sum(len(s.classes) for s in strips)
            strips.append(strip)
    classes = np.concatenate([s.classes for s in strips])
    assert np.array_equal(classes, read(made.classes)[0])
    assert np.array_equal(np.concatenate([s.probabilities for s in strips], axis=1), read(made.probabilities))
    (entropy,) = np.concatenate([s.uncertainty for s in strips], axis=1)
    valid = classes != IGNORE
    p = one_pass(product, model)[:, valid].astype(np.float64)
    expected = -(p * np.log(p)).sum(axis=0) / np.log(6)
    assert np.abs(entropy[valid] / STEPS - expected).max() < 0.5 / STEPS + 1e-4
    assert (entropy[~valid] == IGNORE).all()
    with predicting(product, [ready(model)]) as (_, found):
        assert {len(s.uncertainty) for s in found} == {0}


@pytest.mark.parametrize("uncertainty", [False, True])
@pytest.mark.parametrize("count", [1, 2])
def test_the_gpus_way_gives_the_same(
    count: int, uncertainty: bool, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a GPU, strips are made there: the same code, here on the processor."""
    rng = np.random.default_rng(0)
    scene = rng.normal(-1500, 300, (3, 90, 77)).astype(np.int16)
    scene[:, 20:40, :30] = NODATA
    networks = [ready(m).network for m in (model, save_model(tmp_path / "other", seed=5))[:count]]

    def strips() -> list[Strip]:
        with ExitStack() as stack:
            members = [stack.enter_context(SceneLogits(n, array_reader(scene), (90, 77))) for n in networks]
            return list(predicted_strips(members, rows=34, uncertainty=uncertainty, temperatures=[1.7, 0.6][:count]))

    usual = strips()
    starts = iter(range(0, 90, 34))

    def by_gpu(layers: Any, members: Any, heats: Any, valid: NDArray[np.bool_], wanted: Any) -> None:
        first = next(starts)
        with ExitStack() as stack:
            scenes = [stack.enter_context(SceneLogits(n, array_reader(scene), (90, 77))) for n in networks]
            logits = [s.rows(first, first + len(valid)) for s in scenes]
        strips_module._fill_by_gpu(layers, logits, heats, valid, wanted)

    monkeypatch.setattr(strips_module, "_fill_by_processor", by_gpu)
    monkeypatch.setattr(strips_module, "_MOST_THREADS", 1)  # in order
    for a, b in zip(usual, strips(), strict=True):
        assert a.first_row == b.first_row and np.array_equal(a.classes, b.classes)
        assert len(a.uncertainty) == len(b.uncertainty) == (count if uncertainty else 0)
        for mine, other in ((a.probabilities, b.probabilities), (a.uncertainty, b.uncertainty)):
            assert np.abs(mine.astype(int) - other).max(initial=0) <= 1  # a step, where a value lies between two


# Calibrated models


@pytest.mark.parametrize("temperature", [0.3, 2.5, 40.0])
def test_a_temperature_changes_probabilities_by_its_definition_and_no_class(
    temperature: float, made: Prediction, product: Path, tmp_path: Path
) -> None:
    about = ABOUT | {"calibration": {"temperature": temperature}}
    model = save_model(tmp_path / "calibrated.safetensors", about)
    found = predict(product, model, tmp_path / "out", precision="fp32")
    assert np.array_equal(read(found.classes), read(made.classes))
    assert json.loads(found.record.read_text())["model"]["temperature"] == temperature
    valid = read(made.classes)[0] != IGNORE
    log_p = np.log(one_pass(product, model)[:, valid].astype(np.float64))  # logits, up to a constant of each pixel
    p = np.exp(log_p / temperature)
    p /= p.sum(axis=0)
    assert np.abs(read(found.probabilities)[:, valid] / STEPS - p).max() < 0.5 / STEPS + 1e-3


def test_each_of_several_models_has_its_own_temperature(model: Path, product: Path, tmp_path: Path) -> None:
    heats = [3.0, 0.5]
    models = [
        save_model(tmp_path / f"{t}.safetensors", ABOUT | {"calibration": {"temperature": t}}, seed)
        for seed, t in enumerate(heats)
    ]
    maps = predict_maps(product, [ready(m) for m in models])
    valid = maps.classes != IGNORE
    each = []
    for m, t in zip(models, heats, strict=True):
        p = one_pass(product, m)[:, valid].astype(np.float64) ** (1 / t)
        each.append(p / p.sum(axis=0))
    assert np.abs(maps.probabilities[:, valid] / STEPS - np.mean(each, axis=0)).max() < 0.5 / STEPS + 1e-3


@pytest.fixture
def knowing(product: Path, tmp_path: Path) -> Path:
    """A model with statistics of scenes that are like the product, but for their noise."""

    def squares(seed: int) -> NDArray[np.float32]:
        stored = stored_of(product)
        noise = np.random.default_rng(seed).normal(0, 40, stored.shape).astype(np.int16)
        part = PartArrays("p", np.where(stored == NODATA, NODATA, stored + noise), np.zeros(SHAPE, np.uint8))
        return labelled_squares(part)

    known = learn_known([squares(1)], [squares(2)], SquareStatistics(PRODUCT_BANDS).names, 0)
    assert isinstance(known, Known)
    return save_model(tmp_path / "knowing.safetensors", ABOUT | {SCENES: known.to_json()})


@pytest.mark.parametrize("tile", [32, 128])
def test_a_prediction_says_how_unlike_the_training_scenes_its_scene_is(
    tile: int, knowing: Path, made: Prediction, product: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("floemap.learning.whole_scene.logits.TILE", tile)
    monkeypatch.setattr("floemap.learning.whole_scene.logits._CHUNK_PX", tile)
    found = predict(product, knowing, tmp_path / "out", precision="fp32")
    assert np.array_equal(read(found.classes), read(made.classes))
    known = ready(knowing).known
    assert isinstance(known, Known)
    statistics = SquareStatistics(PRODUCT_BANDS)
    statistics.add(stored_of(product))
    expected = known.score(statistics.squares())
    assert record(found)["out_of_distribution"] == expected.to_json()
    with rasterio.open(found.folder / "out_of_distribution.tif") as d, rasterio.open(found.classes) as classes:
        assert np.array_equal(d.read(1), expected.ratio, equal_nan=True)
        assert d.crs == classes.crs and d.transform == classes.transform * Affine.scale(16)
        assert d.bounds.left == classes.bounds.left and d.bounds.bottom <= classes.bounds.bottom
    maps = predict_maps(product, [ready(knowing)])
    assert not isinstance(maps.out_of_distribution, str)
    assert np.array_equal(maps.out_of_distribution.ratio, expected.ratio, equal_nan=True)


def test_of_several_models_the_one_that_knows_the_scene_least_counts(
    knowing: Path, model: Path, product: Path, tmp_path: Path
) -> None:
    content = read_about(knowing)[SCENES]
    narrow = content | {"percentiles": [p / 4 for p in content["percentiles"]]}
    surprised = save_model(tmp_path / "surprised.safetensors", ABOUT | {SCENES: narrow}, seed=5)
    alone = predict_maps(product, [ready(surprised)]).out_of_distribution
    both = predict_maps(product, [ready(knowing), ready(model), ready(surprised)]).out_of_distribution
    assert described_score(both) == described_score(alone) and described_score(both)["unusual_share"] > 0.5
    unknown = described_score(predict_maps(product, [ready(model)]).out_of_distribution)
    assert unknown == {"reason": "the model has no statistics of its training scenes"}


# Again, and many


def test_finished_predictions_are_skipped(product: Path, model: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    first = predict(product, model, out, probabilities=False)
    assert not first.skipped and not first.probabilities.exists()
    stamp = first.record.stat().st_mtime_ns
    assert predict(product / "product.tif", str(model), out, probabilities=False).skipped
    assert first.record.stat().st_mtime_ns == stamp
    assert not predict(product, model, out, probabilities=False, overwrite=True).skipped
    assert not predict(product, model, out).skipped  # with probabilities now
    assert first.probabilities.exists()
    other = save_model(tmp_path / "other.safetensors", seed=5)
    with pytest.raises(OutputError, match="another model"):
        predict(product, other, out)
    assert not predict(product, other, out, overwrite=True).skipped
    assert not predict(product, model, out, overwrite=True).skipped
    first.classes.unlink()
    assert not predict(product, model, out).skipped
    assert list(out.iterdir()) == [first.folder]


def test_one_failure_does_not_stop_the_rest(product: Path, model: Path, tmp_path: Path) -> None:
    absent = tmp_path / "absent"
    told: list[Outcome[Prediction]] = []
    names: list[str] = []

    def progress_of(path: Path) -> Any:
        names.append(path.name)
        return lambda done, total, what: None

    outcomes = predict_all(
        [absent, product], model, tmp_path / "out", probabilities=False, progress_of=progress_of, finished=told.append
    )
    assert outcomes == told
    assert names == ["absent", "S1A_EW_A"]
    assert outcomes[0].result is None and str(absent) in str(outcomes[0].error)
    assert outcomes[1].error is None and outcomes[1].result is not None and outcomes[1].result.classes.exists()
    with pytest.raises(ModelError):
        predict_all([product], absent, tmp_path / "out")


def test_progress_rises_to_the_end(product: Path, model: Path, tmp_path: Path) -> None:
    told: list[float] = []
    predict(product, model, tmp_path, progress=lambda done, total, what: told.append(done / total))
    assert len(told) > 5 and told == sorted(told) and told[-1] == 1


# What is refused


def assert_nothing(out: Path) -> None:
    assert not out.exists() or list(out.iterdir()) == []


def test_products_that_do_not_fit(model: Path, tmp_path: Path) -> None:
    small = (20, 30)
    other_bands = (BANDS[1], BANDS[0], *BANDS[2:])
    cases: list[tuple[Path, type[FloemapError], str]] = [
        (write_product(tmp_path / "40 m", shape=small, pixel_m=40), ModelError, r"80 m; the product has 40 m"),
        (write_product(tmp_path / "bands", shape=small, bands=other_bands), ProductError, "hv_db, hh_db"),
        (write_product(tmp_path / "empty", shape=small, half=-1.0), ProductError, "has no data"),
        (tmp_path / "absent", FloemapError, "does not exist"),
    ]
    for name, array, error, words in (
        ("two bands", np.zeros((2, *small), np.int16), ProductError, "has the bands hh_db, hv_db, where"),
        ("floats", np.zeros((4, *small), np.float32), ProductError, "stored as float32"),
    ):
        folder = tmp_path / name
        folder.mkdir()
        box = GeoBox(small, Affine(80, 0, 0, 0, -80, 0), "EPSG:3413")
        bands = [Band(b.name) for b in BANDS[: len(array)]]
        write_cog(folder / "product.tif", box, array, bands, nodata=NODATA)
        cases.append((folder, error, words))
    nowhere = tmp_path / "nowhere" / "product.tif"
    nowhere.parent.mkdir()
    with (
        rasterio.open(nowhere, "w", driver="GTiff", height=4, width=4, count=4, dtype="int16", nodata=NODATA),
    ):
        pass
    cases.append((nowhere, GridError, "no georeference"))
    for path, wrong, words in cases:
        with pytest.raises(wrong, match=words):
            predict(path, model, tmp_path / "out")
        assert_nothing(tmp_path / "out")


@pytest.mark.parametrize("share", [0.02, 0.5, 0.95])
def test_truncated_products(share: float, model: Path, tmp_path: Path) -> None:
    product = write_product(tmp_path / "p", shape=(1200, 700))
    raster = product / "product.tif"
    content = raster.read_bytes()
    raster.write_bytes(content[: int(share * len(content))])
    with pytest.raises(FloemapError) as e:
        predict(product, model, tmp_path / "out")
    assert e.value.path == raster
    assert_nothing(tmp_path / "out")


def test_products_that_are_not_prepared_yet(small_product: Path, small_zip: Path, model: Path, tmp_path: Path) -> None:
    for path in (small_product, small_zip):
        with pytest.raises(ProductError, match=r"as delivered, where a prepared one is needed\. Prepare it first") as e:
            predict(path, model, tmp_path / "out")
        assert e.value.path == path


def test_unreadable_checkpoints(product: Path, model: Path, tmp_path: Path) -> None:
    cut, text = tmp_path / "cut.safetensors", tmp_path / "text.safetensors"
    cut.write_bytes(model.read_bytes()[:-1000])
    text.write_text("no tensors")
    for path in (cut, text, tmp_path / "absent.safetensors", tmp_path):
        with pytest.raises(ModelError) as e:
            predict(product, path, tmp_path / "out")
        assert e.value.path == path
    assert_nothing(tmp_path / "out")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"engine": "tensorflow"}, "no engine 'tensorflow'.*torch, openvino"),
        ({"precision": "fp8"}, "no precision 'fp8'"),
        ({"device": "gpu0"}, "no device 'gpu0'"),
        ({"device": "meta"}, "'meta' cannot predict"),
        ({"device": "cuda:99"}, "no GPU 'cuda:99'"),
        ({"engine": "openvino", "device": "cuda"}, "runs on the processor"),
    ],
)
def test_options_that_cannot_be(
    options: dict[str, Any], words: str, product: Path, model: Path, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=words):
        predict(product, model, tmp_path / "out", **options)
    assert_nothing(tmp_path / "out")


def test_an_engine_that_is_not_installed(
    product: Path, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(ConfigError, match=r"its extra 'engine': .* pip install -e '\.\[engine\]'"):
        predict(product, model, tmp_path / "out", engine="openvino")
    assert_nothing(tmp_path / "out")


def test_memory_that_does_not_suffice(
    product: Path, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def finish(self: SceneLogits) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory.")

    monkeypatch.setattr(SceneLogits, "finish", finish)
    with pytest.raises(
        ModelError, match=r"needs more memory than .* has for this scene: CUDA out of memory.*--device cpu"
    ):
        predict(product, model, tmp_path / "out")
    assert_nothing(tmp_path / "out")


# Results appear whole or not at all


@pytest.mark.parametrize("file", ["classes.tif", "probabilities.tif", "prediction.json"])
def test_a_disk_that_fills_up(
    file: str, product: Path, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = Path.open

    def opened(self: Path, mode: str = "r", *args: Any, **kwargs: Any) -> Any:
        if file in self.name and "w" in mode:
            original(self, mode, *args, **kwargs).close()
            raise OSError(28, "No space left on device")
        return original(self, mode, *args, **kwargs)

    monkeypatch.setattr(Path, "open", opened)
    out = tmp_path / "out"
    with pytest.raises(OutputError, match="No space left on device") as e:
        predict(product, model, out)
    assert e.value.path == out / product.name / file
    assert not out.exists()


@pytest.mark.parametrize("place", ["CogWriter", "write_json"])
def test_a_killed_run_and_the_next(place: str, product: Path, model: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    script = f"""
import os, signal
from floemap.inference.predict import predict as module

def die(*args, **kwargs):
    os.kill(os.getpid(), signal.SIGKILL)

module.{place} = die
module.predict({str(product)!r}, {str(model)!r}, {str(out)!r})
"""
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert run.returncode == -signal.SIGKILL, run.stderr
    left = [p.name for p in out.iterdir()]
    assert left, "the kill came too early to test anything"
    assert all(n.startswith(f".{product.name}.partial-") for n in left)
    again = predict(product, model, out)
    assert list(out.iterdir()) == [again.folder] and not again.skipped


def test_interrupts_keep_what_stood_there(product: Path, model: Path, tmp_path: Path) -> None:
    before = predict(product, model, tmp_path, probabilities=False).classes.read_bytes()
    for moment in ("predicting", "writing"):

        def interrupted(done: float, total: float, what: str, moment: str = moment) -> None:
            if what == moment:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            predict(product, model, tmp_path, probabilities=False, overwrite=True, progress=interrupted)
        assert list(tmp_path.iterdir()) == [tmp_path / product.name]
        assert (tmp_path / product.name / "classes.tif").read_bytes() == before


# OpenVINO


@pytest.mark.skipif(not WITH_OPENVINO, reason="OpenVINO is not installed")
@pytest.mark.parametrize("settings", [{}, {"name": "unet"}], ids=["resnet18_aspp", "unet"])
def test_openvino_gives_what_torch_gives(settings: dict[str, Any], product: Path, tmp_path: Path) -> None:
    model = save_model(tmp_path / "m.safetensors", **settings)
    expected = one_pass(product, model)
    prediction = predict(product, model, tmp_path / "out", engine="openvino", precision="fp32")
    valid = (stored_of(product) != NODATA).all(axis=0)
    assert_near(read(prediction.classes)[0][valid], read(prediction.probabilities)[:, valid], expected[:, valid])
    computed = record(prediction)["computed"]
    assert (computed["engine"], computed["precision"]) == ("openvino", "fp32")
    rough = predict(product, model, tmp_path / "out", engine="openvino", precision="bf16")
    assert record(rough)["computed"]["precision"] == "bf16"
    assert np.abs(read(rough.probabilities)[:, valid] / STEPS - expected[:, valid]).mean() < 0.02
    assert getattr(sys.modules["openvino_telemetry"], "__file__", None) is None  # nothing is sent to anybody


@pytest.mark.skipif(not WITH_OPENVINO, reason="OpenVINO is not installed")
def test_openvino_refuses_in_our_words(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Unusual(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.special.hermite_polynomial_h(x, 3)

    from floemap.inference.predict import engines

    original = vars(engines)["prepare_network"]

    def odd(*args: Any, **kwargs: Any) -> Any:
        network = original(*args, **kwargs)
        return replace(network, pieces=(replace(network.pieces[0], run=Unusual()), *network.pieces[1:]))

    monkeypatch.setattr(engines, "prepare_network", odd)
    with pytest.raises(ModelError, match="Use the engine torch"):
        make_network(load_checkpoint(model).model, "openvino")


def test_modules_of_this_room_are_not_needed_for_others() -> None:
    """`import floemap` and the command line's help load neither torch nor an engine."""
    script = "import sys, floemap.cli.predict; print([m for m in ('torch', 'openvino') if m in sys.modules])"
    run = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, env=dict(os.environ)
    )
    assert run.stdout.strip() == "[]"
