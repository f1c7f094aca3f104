"""Predictions of models with further heads: a raster for each, equal to one pass of the model."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
import torch
from numpy.typing import NDArray
from test_50_predict import ABOUT, stored_of, write_product
from torch import nn

from floemap.errors import ModelError
from floemap.inference.draftchart.egg_basis import egg_basis
from floemap.inference.draftchart.settings import ChartSettings
from floemap.inference.predict import strips as strips_module
from floemap.inference.predict.model_files import find_models
from floemap.inference.predict.predict import Prediction, predict
from floemap.inference.predict.predictors import make_predictor, predict_maps
from floemap.learning.data.crops import physical
from floemap.learning.models.checkpoint import load_checkpoint, save_checkpoint
from floemap.learning.models.registry import build_model
from floemap.learning.settings import ModelSettings
from floemap.learning.targets import Head
from floemap.legend import IGNORE

HEADS = (Head("ice_type", "class", 6), Head("concentration", "concentration", 1), Head("shares", "fractions", 6))


def save_model(path: Path, product: Path, heads: tuple[Head, ...] = HEADS, seed: int = 0) -> Path:
    """A model whose outputs on the product have a mean of 0.5 and a spread of 2: some lie below 0, some above 1."""
    torch.manual_seed(seed)
    model = build_model(ModelSettings(), heads).eval()
    model.set_normalisation([-15, -26, 34], [4, 4, 7])
    x = physical(torch.from_numpy(stored_of(product)))[None]
    last = [m for m in model.modules() if isinstance(m, nn.Conv2d)][-1]
    with torch.no_grad():
        seen = model(x)[0][:, ~torch.isnan(x[0]).any(dim=0)]
        scale = 2 / seen.std(dim=1)
        last.weight *= scale[:, None, None, None]
        last.bias.copy_((last.bias - seen.mean(dim=1)) * scale + 0.5)
    save_checkpoint(path, model, ABOUT)
    return path


@pytest.fixture(scope="module")
def product(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_product(tmp_path_factory.mktemp("prepared") / "S1A_EW_A")


@pytest.fixture(scope="module")
def model(product: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_model(tmp_path_factory.mktemp("model") / "model.safetensors", product)


@pytest.fixture(scope="module")
def made(product: Path, model: Path, tmp_path_factory: pytest.TempPathFactory) -> Prediction:
    return predict(product, model, tmp_path_factory.mktemp("out"), precision="fp32")


def read(path: Path) -> NDArray[np.uint8]:
    with rasterio.open(path) as d:
        return np.asarray(d.read())


def outputs(product: Path, model: Path) -> NDArray[np.float32]:
    """What one pass of the model gives, (13, rows, cols)."""
    with torch.no_grad():
        return load_checkpoint(model).model(physical(torch.from_numpy(stored_of(product)))[None])[0].numpy()


def test_the_concentration_is_that_of_one_pass_clipped_and_in_steps(
    made: Prediction, product: Path, model: Path
) -> None:
    classes, found = read(made.classes)[0], read(made.folder / "concentration.tif")
    assert found.shape == (1, *classes.shape) and found.dtype == np.uint8
    valid = classes != IGNORE
    np.testing.assert_array_equal(found[0] == IGNORE, ~valid)
    expected = outputs(product, model)[6]
    assert (expected[valid] < 0).any() and (expected[valid] > 1).any()
    with rasterio.open(made.folder / "concentration.tif") as d:
        assert d.scales == (0.005,) and d.offsets == (0.0,) and d.units == ("1",) and d.nodata == IGNORE
        assert d.descriptions[0] == "concentration" and d.tags()["model"] == model.name
        real = found[0] * d.scales[0] + d.offsets[0]
    assert np.abs(real - np.clip(expected, 0, 1))[valid].max() <= 0.0025 + 1e-4
    assert set(np.unique(found[0][valid])) >= {0, 200}


def test_shares_are_a_softmax_of_their_own_channels(made: Prediction, product: Path, model: Path) -> None:
    found, valid = read(made.folder / "shares.tif"), read(made.classes)[0] != IGNORE
    logits = outputs(product, model)[7:].astype(np.float64)
    powers = np.exp(logits - logits.max(axis=0))
    assert np.abs(found / 200 - powers / powers.sum(axis=0))[:, valid].max() <= 0.0025 + 1e-4
    assert (found[:, ~valid] == IGNORE).all()
    probabilities = read(made.probabilities)
    assert (probabilities[:, valid] != found[:, valid]).any()


def test_the_class_map_is_that_of_the_class_channels(made: Prediction, product: Path, model: Path) -> None:
    classes = read(made.classes)[0]
    best = outputs(product, model)[:6].argmax(axis=0)
    assert (classes == best)[classes != IGNORE].mean() > 0.999  # ties of rounding apart


def test_the_record_says_what_the_further_rasters_are(made: Prediction) -> None:
    record = json.loads(made.record.read_text())
    assert record["tasks"] == {
        "concentration": {
            "file": "concentration.tif",
            "target": "concentration",
            "no_data": 255,
            "unit": "1",
            "step": 0.005,
            "offset": 0.0,
        },
        "shares": {
            "file": "shares.tif",
            "target": "fractions",
            "no_data": 255,
            "unit": "1",
            "step": 0.005,
            "offset": 0.0,
        },
    }
    assert {"concentration.tif", "shares.tif"} <= set(record["bytes"])


def test_a_lost_raster_is_predicted_again(product: Path, model: Path, tmp_path: Path) -> None:
    first = predict(product, model, tmp_path, probabilities=False)
    assert predict(product, model, tmp_path, probabilities=False).skipped
    (first.folder / "concentration.tif").unlink()
    assert not predict(product, model, tmp_path, probabilities=False).skipped
    assert (first.folder / "concentration.tif").is_file()


def test_the_gpus_way_gives_the_same(
    product: Path, model: Path, made: Prediction, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a GPU, strips are made there: the same code, here on the processor, from the logits of pixels."""
    whole = outputs(product, model)
    done = [0]

    def by_gpu(layers: Any, members: Any, heats: Any, valid: NDArray[np.bool_], wanted: Any) -> None:
        rows = slice(done[0], done[0] + len(valid))
        done[0] += len(valid)
        strips_module._fill_by_gpu(layers, [torch.from_numpy(whole[:, rows])], heats, valid, wanted)

    monkeypatch.setattr(strips_module, "_fill_by_processor", by_gpu)
    monkeypatch.setattr(strips_module, "_MOST_THREADS", 1)  # in order
    maps = predict_maps(product, [make_predictor(model, engine="torch", precision="fp32", device="cpu")])
    found, usual = maps.values["concentration"], read(made.folder / "concentration.tif")[0]
    assert np.abs(found.astype(int) - usual).max() <= 1


def test_several_models_give_the_mean(product: Path, model: Path, tmp_path: Path) -> None:
    other = save_model(tmp_path / "other.safetensors", product, seed=5)
    ready = [make_predictor(m, engine="torch", precision="fp32", device="cpu") for m in (model, other)]
    found = predict_maps(product, ready)
    valid = found.classes != IGNORE
    mean = (outputs(product, model)[6] + outputs(product, other)[6]) / 2
    assert np.abs(found.values["concentration"] / 200 - np.clip(mean, 0, 1))[valid].max() <= 0.0025 + 1e-4


def test_eggs_of_a_chart_are_estimated_from_the_heads(product: Path, model: Path, made: Prediction) -> None:
    basis = egg_basis(find_models([model]), ChartSettings())
    assert basis is not None and (basis.shares, basis.concentration) == ("shares", True)
    assert "predicted concentration and predicted shares" in basis.in_words()
    source = basis.source(
        predict_maps(product, [make_predictor(model, engine="torch", precision="fp32", device="cpu")])
    )
    assert source.shares is not None and source.concentration is not None
    np.testing.assert_array_equal(np.stack(list(source.shares)), read(made.folder / "shares.tif"))
    np.testing.assert_array_equal(source.concentration, read(made.folder / "concentration.tif")[0])
    assert egg_basis(find_models([model]), ChartSettings(eggs=False)) is None


def test_eggs_of_a_model_without_further_heads_say_whether_it_is_calibrated(product: Path, tmp_path: Path) -> None:
    alone = save_model(tmp_path / "alone.safetensors", product, HEADS[:1])
    (file,) = find_models([alone])
    basis = egg_basis([file], ChartSettings())
    assert basis is not None and basis.in_words() == (
        "estimated from probabilities of the classes, which are not calibrated, not checked by anyone"
    )
    calibrated = replace(file, about=file.about | {"calibration": {"temperature": 1.5}})
    basis = egg_basis([calibrated], ChartSettings())
    assert basis is not None and "calibrated probabilities" in basis.in_words()
    basis = egg_basis([calibrated, file], ChartSettings())
    assert basis is not None and "not calibrated" in basis.in_words(), "one of an ensemble is enough"


def test_models_of_other_heads_are_no_ensemble(product: Path, model: Path, tmp_path: Path) -> None:
    other = save_model(tmp_path / "other.safetensors", product, HEADS[:1], seed=5)
    with pytest.raises(
        ModelError, match=r"differs from .* in its heads: \[\], not \['concentration \(concentration\)'"
    ):
        find_models([model, other])
