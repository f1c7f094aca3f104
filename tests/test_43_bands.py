"""Models of any set of bands: what they read, what gaps mean to them, and that tiles, files and headers agree."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from affine import Affine
from numpy.typing import NDArray
from test_27_layers import PIXEL_M, SHAPE, corners, grid, write_prepared, write_raster
from tiny_model import ABOUT, scene, tiny_settings
from torch import nn

from floemap.bands import NODATA, BandSet, InputBand
from floemap.cog import Band, write_cog
from floemap.errors import ConfigError, FloemapError, ModelError, ProductError
from floemap.inference.predict.model_files import find_models
from floemap.inference.predict.predict import predict
from floemap.inference.predict.predictors import make_predictor, predict_maps
from floemap.layers.from_raster import layer_from_raster
from floemap.layers.settings import RasterSettings
from floemap.layers.stored import scene_bands
from floemap.learning.data.crops import Crop, physical, read_crop
from floemap.learning.data.normalisation import band_sums, pooled_statistics
from floemap.learning.data.parts import PartArrays, ScenePart, load_part, with_common_bands
from floemap.learning.models.checkpoint import load_checkpoint, save_checkpoint
from floemap.learning.models.checkpoint_header import describe_checkpoint, find_bands, read_about
from floemap.learning.models.pretrained import fitted
from floemap.learning.models.registry import build_model
from floemap.learning.settings import ModelSettings
from floemap.learning.training.loop import train
from floemap.learning.whole_scene.logits import array_reader, scene_logits
from floemap.legend import IGNORE, SIX_CLASSES
from floemap.sentinel1.encoding import PRODUCT_BANDS

pytestmark = pytest.mark.usefixtures("tiny_is_a_model")

HH, HV, ANGLE = PRODUCT_BANDS
MEAN = InputBand("temperature", "K", 0.1, 200.0, "mean")
FLAG = InputBand("wind", "m s-1", 0.01, 0.0, "flag")
FOUR = BandSet((HH, MEAN, ANGLE, FLAG))


def gappy(bands: BandSet, shape: tuple[int, int], seed: int = 0) -> NDArray[np.int16]:
    """Bands with gaps of their own inside the scene, and a corner and a side without data."""
    rng = np.random.default_rng(seed)
    stored = rng.integers(-3000, 3000, (len(bands), *shape)).astype(np.int16)
    for i, band in enumerate(bands):
        if band.missing != "scene":
            stored[i][rng.random(shape) < 0.2] = NODATA
            stored[i, 20:50, 30:70] = NODATA
    stored[:, : shape[0] // 3, : shape[1] // 2] = NODATA
    stored[:, :, -9:] = NODATA
    return stored


def drawn(name: str, bands: BandSet, seed: int = 0) -> Any:
    torch.manual_seed(seed)
    model = build_model(ModelSettings(name=name), 6, bands)
    with torch.no_grad():
        for m in model.modules():
            if isinstance(m, nn.BatchNorm2d):
                assert m.running_mean is not None and m.running_var is not None
                m.running_mean.normal_(0, 0.1)
                m.running_var.uniform_(0.5, 2)
    model.set_normalisation([10.0 * i for i in range(len(bands))], [20.0] * len(bands))
    return model.eval()


# What a model reads


def test_channels_are_the_normalised_bands_and_flags_of_gaps() -> None:
    model = drawn("tiny", FOUR)
    stored = gappy(FOUR, (60, 80))
    channels = model.normalise(physical(torch.from_numpy(stored), FOUR)[None])[0].numpy()
    assert channels.shape == (5, 60, 80) and FOUR.channels == 5
    for i, band in enumerate(FOUR):
        values = stored[i].astype(np.float64) * band.step + band.offset
        expected = np.where(stored[i] == NODATA, 0.0, (values - 10 * i) / 20)
        assert np.abs(channels[i] - expected).max() < 1e-5
    assert np.array_equal(channels[4], stored[3] == NODATA)


@pytest.mark.parametrize("name", ["resnet18_aspp", "unet", "tiny"])
@pytest.mark.parametrize("bands", [FOUR, BandSet((HH, ANGLE)), BandSet((HV,))])
def test_tiles_equal_one_pass_whatever_the_gaps(name: str, bands: BandSet) -> None:
    model, stored = drawn(name, bands), gappy(bands, (150, 170))
    with torch.inference_mode():
        once = model(physical(torch.from_numpy(stored), bands)[None])[0]
    with scene_logits(model, array_reader(stored), (150, 170), precision="fp32", tile=8) as tiles:
        rows = torch.cat([tiles.rows(r, min(r + 40, 150)) for r in range(0, 150, 40)], dim=1)
        valid = np.concatenate([tiles.valid(r, min(r + 40, 150)) for r in range(0, 150, 40)])
    needed = [i for i, b in enumerate(bands) if b.missing == "scene"]
    assert np.array_equal(valid, (stored[needed] != NODATA).all(axis=0))
    inside = torch.from_numpy(valid)
    assert (rows - once)[:, inside].abs().max() < 1e-4 * once[:, inside].abs().max()


def test_a_network_reads_scenes_in_other_steps() -> None:
    from floemap.learning.whole_scene.logits import SceneLogits
    from floemap.learning.whole_scene.pieces import prepare_network

    model, stored = drawn("tiny", FOUR), gappy(FOUR, (64, 64))
    coarser = BandSet((HH, replace(MEAN, step=0.5, offset=100.0), ANGLE, FLAG))
    network = prepare_network(model, "cpu", "fp32").reading(coarser)
    with SceneLogits(network, array_reader(stored), (64, 64)) as tiles, torch.inference_mode():
        once = model(physical(torch.from_numpy(stored), coarser)[None])[0]
        inside = torch.from_numpy(tiles.valid(0, 64))
        assert (tiles.rows(0, 64) - once)[:, inside].abs().max() < 1e-4 * once.abs().max()


def test_statistics_are_those_of_the_physical_values() -> None:
    parts = [gappy(FOUR, (60, 80), seed) for seed in (1, 2)]
    mean, std = pooled_statistics([band_sums(p) for p in parts], FOUR)
    for i, band in enumerate(FOUR):
        values = np.concatenate([p[i][p[i] != NODATA] for p in parts]) * band.step + band.offset
        assert (mean[i], std[i]) == (pytest.approx(values.mean()), pytest.approx(values.std()))


# Pretrained weights


def test_colour_weights_are_fitted_as_timm_does() -> None:
    """Equal inputs in all channels give what grey images gave; three bands are unchanged, flags start at 0."""
    weight = torch.randn(8, 3, 7, 7, generator=torch.Generator().manual_seed(0))
    assert torch.equal(fitted(weight, 3), weight)
    for bands in (1, 2, 4, 5, 7):
        own = fitted(weight, bands)
        assert own.shape == (8, bands, 7, 7)
        for i in range(bands if bands > 1 else 0):
            assert torch.equal(own[:, i], weight[:, i % 3] * (3 / bands))
    assert torch.allclose(fitted(weight, 1)[:, 0], weight.sum(dim=1))
    assert torch.allclose(fitted(weight, 6).sum(dim=1), weight.sum(dim=1), atol=1e-5)
    flagged = fitted(weight, 4, 2)
    assert flagged.shape[1] == 6 and not flagged[:, 4:].any()


def test_an_encoder_of_colour_images_starts_a_model_of_other_bands(tmp_path: Path) -> None:
    encoder: Any = build_model(ModelSettings(), 6).encoder
    path = tmp_path / "weights.pth"
    torch.save(encoder.state_dict(), path)
    model = build_model(ModelSettings(encoder_weights=path), 6, FOUR)
    own: Any = model.encoder
    assert torch.equal(own.conv1.weight[:, 3], encoder.conv1.weight[:, 0] * 0.75) and not own.conv1.weight[:, 4].any()


# Checkpoints


def test_a_checkpoint_keeps_its_bands(tmp_path: Path) -> None:
    path = tmp_path / "m.safetensors"
    save_checkpoint(path, drawn("unet", FOUR), dict(ABOUT) | {"legend": "six_classes"})
    about = read_about(path)
    assert about["bands"] == ["hh_db", "temperature", "incidence_deg", "wind"]
    assert about["layers"] == {
        "temperature": {"unit": "K", "step": 0.1, "offset": 200.0, "missing": "mean"},
        "wind": {"unit": "m s-1", "step": 0.01, "offset": 0.0, "missing": "flag"},
    }
    assert load_checkpoint(path).bands == find_bands(about) == FOUR
    lines = dict(describe_checkpoint(path)[1])
    assert "K; a layer, gaps are read as the mean" in lines["temperature"] and "flagged" in lines["wind"]
    plain = tmp_path / "plain.safetensors"
    save_checkpoint(plain, drawn("unet", PRODUCT_BANDS), dict(ABOUT) | {"legend": "six_classes"})
    assert "layers" not in read_about(plain), "models of the product's bands have the header of older versions"


# Parts


def test_parts_share_the_coarsest_steps() -> None:
    def part(name: str, bands: BandSet) -> ScenePart:
        return ScenePart(name, Path(name), Path(name), bands=bands)

    fine, coarse = BandSet((HH, MEAN)), BandSet((HH, replace(MEAN, step=0.5)))
    parts, bands = with_common_bands([part("a", fine), part("b", coarse)])
    assert bands == coarse and [p.bands for p in parts] == [coarse, coarse]
    for other, words in (
        (BandSet((HH, replace(MEAN, unit="degC"))), "temperature with the unit 'degC', not 'K'"),
        (BandSet((HH, replace(MEAN, missing="flag"))), "gaps 'flag', not 'mean'"),
        (BandSet((HH,)), "hh_db, not hh_db, temperature"),
    ):
        with pytest.raises(ConfigError, match=words):
            with_common_bands([part("a", fine), part("b", other)])
    arrays = PartArrays("c", np.zeros((2, 4, 4), np.int16), np.zeros((4, 4), np.uint8), bands=fine)
    with pytest.raises(ConfigError, match="in memory"):
        with_common_bands([arrays, part("b", coarse)])
    assert with_common_bands([arrays, part("b", fine)])[1] == fine


def layered(tmp_path: Path, name: str, seed: int) -> ScenePart:
    """A scene whose labels only a layer tells; its step depends on the scene."""
    folder = write_prepared(tmp_path / name)
    rng = np.random.default_rng(seed)
    labels = np.repeat(np.repeat(rng.choice([0, 3, 5], (4, 5)), 20, axis=0), 20, axis=1)[:70, :90].astype(np.uint8)
    left, _, _, top = corners(grid())
    values = labels.astype(np.float32) * 2 - 4
    values[:5, :5] = np.nan
    path = write_raster(tmp_path / f"{name}.tif", values, Affine(PIXEL_M, 0, left, 0, -PIXEL_M, top), "EPSG:3413")
    how = RasterSettings.checked(resampling="nearest", step=0.01 if seed % 2 else 0.001)
    layer_from_raster(folder, path, "answer", how)
    labels[:, -10:] = IGNORE
    write_cog(tmp_path / f"{name}_labels.tif", grid(), labels, [Band("ice_type")], nodata=IGNORE)
    bands = scene_bands(folder, ["answer", "hh_db"])
    return ScenePart(name, folder / "product.tif", tmp_path / f"{name}_labels.tif", bands=bands)


@pytest.fixture
def parts(tmp_path: Path) -> list[ScenePart]:
    return [layered(tmp_path, name, seed) for name, seed in (("a", 1), ("b", 2), ("c", 3))]


def test_a_crop_is_the_same_from_memory_and_from_files(parts: list[ScenePart]) -> None:
    (one, two, _), bands = with_common_bands(parts)
    assert bands["answer"].step == 0.01
    for part in (one, two):
        whole = load_part(part)
        assert (whole.labels[:5, :5] == IGNORE).all() and (whole.stored[:, :5, :5] == NODATA).all()
        crop = Crop(0, 3, 2, 40, turn=5, context_px=8)
        for a, b in zip(read_crop(whole, crop), read_crop(part, crop), strict=True):
            assert (a is None and b is None) or torch.equal(a, b)
    inside = load_part(two).labels != IGNORE
    answer = bands["answer"].decode(load_part(two).stored[0])
    assert np.allclose(answer[inside], load_part(two).labels[inside] * 2.0 - 4, atol=0.006)


@pytest.mark.parametrize("source", ["resident", "streamed"])
def test_a_layer_that_has_the_answer_is_learnt_and_predicted_with(
    parts: list[ScenePart], source: str, tmp_path: Path
) -> None:
    settings = tiny_settings(max_epochs=30)
    crops = settings.crops.model_copy(update={"source": source, "workers": 0})
    settings = settings.model_copy(update={"crops": crops})
    about = dict(ABOUT) | {"resolution_m": PIXEL_M}
    trained = train(parts[:2], parts[2:], settings, SIX_CLASSES, tmp_path / "run", about=about, device="cpu")
    assert max(row["weighted_f1"] for row in trained.history) > 0.75, "the rest is at the blocks' borders"
    checkpoint = load_checkpoint(trained.checkpoint)
    assert checkpoint.bands.names == ("answer", "hh_db")
    if source == "streamed":
        return
    with pytest.raises(ConfigError, match="a finished training with other bands"):
        alone = [replace(p, bands=BandSet((p.bands["hh_db"],))) for p in parts]
        train(alone[:2], alone[2:], settings, SIX_CLASSES, tmp_path / "run", about=about, device="cpu")
    other = train(alone[:2], alone[2:], settings, SIX_CLASSES, tmp_path / "other", about=about, device="cpu")
    assert max(row["weighted_f1"] for row in other.history) < 0.6, "HH is noise"
    # Predicted with the scene's own steps; a scene without the layer is refused with the command that makes it.
    product = parts[2].product.parent
    made = predict(product, trained.checkpoint, tmp_path / "out", precision="fp32")
    whole = load_part(with_common_bands(parts)[0][2])
    maps = predict_maps(product, [make_predictor(trained.checkpoint, engine="torch", precision="fp32", device="cpu")])
    with torch.inference_mode():
        once = checkpoint.model(physical(torch.from_numpy(whole.stored), whole.bands)[None])[0].argmax(dim=0).numpy()
    inside = (whole.stored != NODATA).all(axis=0)
    assert np.array_equal(maps.classes != IGNORE, inside)
    assert (maps.classes[inside] == once[inside]).mean() > 0.999
    assert predict(product, trained.checkpoint, tmp_path / "out", precision="fp32").skipped
    without = write_prepared(tmp_path / "without")
    with pytest.raises(ProductError, match="lacks the layer answer") as e:
        predict(without, trained.checkpoint, tmp_path / "out", precision="fp32")
    assert f"floemap layer from-raster {without} FILE --name answer --unit 1 --missing scene" in str(e.value)
    left, _, _, top = corners(grid())
    again = write_raster(
        tmp_path / "n.tif", np.ones(SHAPE, np.float32), Affine(PIXEL_M, 0, left, 0, -PIXEL_M, top), "EPSG:3413"
    )
    layer_from_raster(without, again, "answer", RasterSettings(missing="flag"))
    with pytest.raises(ModelError, match="answer with the gaps 'scene', not 'flag'"):
        predict(without, trained.checkpoint, tmp_path / "out", precision="fp32")
    layer_from_raster(product, again, "answer", RasterSettings(), overwrite=True)
    assert not predict(product, trained.checkpoint, tmp_path / "out", precision="fp32").skipped, "another layer"
    assert made.folder.is_dir()


def test_models_of_other_bands_predict_together(parts: list[ScenePart], tmp_path: Path) -> None:
    paths = []
    for i, bands in enumerate((PRODUCT_BANDS, parts[0].bands)):
        path = tmp_path / f"m{i}.safetensors"
        save_checkpoint(
            path, drawn("unet", bands, i), {"legend": "six_classes", "resolution_m": PIXEL_M, "simulated": True}
        )
        paths.append(path)
    files = find_models(paths)
    assert [f.bands.names for f in files] == [PRODUCT_BANDS.names, ("answer", "hh_db")]
    predictors = [make_predictor(p, engine="torch", precision="fp32", device="cpu") for p in paths]
    maps = predict_maps(parts[0].product, predictors)
    assert (maps.classes[:5, :5] == IGNORE).all(), "where one model lacks a band"
    assert (maps.classes[6:, :-10] != IGNORE).all()


def test_bands_in_memory_must_be_as_many_as_are_named() -> None:
    with pytest.raises(FloemapError, match="bands of"):
        PartArrays("a", np.zeros((3, 4, 4), np.int16), np.zeros((4, 4), np.uint8), bands=FOUR)
    assert scene("a", 1).bands == PRODUCT_BANDS
