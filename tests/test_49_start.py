"""Going on from a finished model on other scenes."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from seasoned import seasoned
from tiny_model import ABOUT, WITH_TINY, scene, tiny_settings
from torch import Tensor

from floemap.bands import BandSet, InputBand
from floemap.errors import ConfigError, ModelError
from floemap.learning.models import registry as models_module
from floemap.learning.models.atrous import with_rates
from floemap.learning.models.base import SegmentationModel
from floemap.learning.models.checkpoint import load_checkpoint, save_checkpoint
from floemap.learning.models.checkpoint_header import describe_checkpoint, refuse_known
from floemap.learning.models.registry import build_model
from floemap.learning.models.start import Begun, begin_from, read_start
from floemap.learning.settings import CropSettings, LearningSettings, ModelSettings
from floemap.learning.training.loop import Trained, train
from floemap.legend import ICE_WATER, SIX_CLASSES
from floemap.sentinel1.encoding import PRODUCT_BANDS

FIRST = {**ABOUT, "data": [{"part": "a", "role": "train", "product": "S1A_FIRST"}]}
OTHERS = {**ABOUT, "simulated": False, "data": [{"part": "c", "role": "train", "product": "S1A_SECOND"}]}


@pytest.fixture(autouse=True)
def tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(models_module, "MODELS", WITH_TINY)


def go(
    out: Path, about: Mapping[str, Any], names: str, model: Any = None, legend: Any = SIX_CLASSES, **t: Any
) -> Trained:
    parts = [scene(name, seed=ord(name)) for name in names]
    return train(parts[:-1], parts[-1:], tiny_settings(model, **t), legend, out, about=about)


@pytest.fixture
def first(tmp_path: Path) -> Path:
    return go(tmp_path / "first", FIRST, "abv", max_epochs=8, learning_rate=0.1).checkpoint


def test_it_starts_from_all_that_the_model_was(first: Path, tmp_path: Path) -> None:
    # A learning rate that changes nothing shows what training started from; BatchNorm's running means move.
    still = {"max_epochs": 1, "learning_rate": 1e-30}
    made = go(tmp_path / "on", OTHERS, "cdw", {"start_from": first}, **still)
    before, after = (load_checkpoint(path).model.state_dict() for path in (first, made.checkpoint))
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    assert moved == {"body.2.running_mean", "body.2.running_var", "body.2.num_batches_tracked"}
    assert torch.equal(before["mean"], after["mean"]) and torch.equal(before["std"], after["std"])


def test_what_was_learnt_is_not_learnt_again(first: Path, tmp_path: Path) -> None:
    fresh = go(tmp_path / "fresh", OTHERS, "cdw", max_epochs=1)
    on = go(tmp_path / "on", OTHERS, "cdw", {"start_from": first}, max_epochs=1)
    assert on.history[0]["validation_loss"] < fresh.history[0]["validation_loss"]


def test_the_checkpoint_says_where_it_comes_from(first: Path, tmp_path: Path) -> None:
    second = go(tmp_path / "on", OTHERS, "cdw", {"start_from": first}).checkpoint
    about = load_checkpoint(second).about
    assert about["simulated"] is True  # the first learnt from simulated scenes
    assert about["started_from"]["file"] == "model.safetensors"
    assert about["started_from"]["products"] == ["S1A_FIRST"]
    record = json.loads((tmp_path / "on" / "training.json").read_text())
    assert record["started_from"] == about["started_from"]
    assert record["inputs"]["start_from"] == about["started_from"]["sha256"]
    facts, lines = describe_checkpoint(second)
    assert facts["started_from"] == about["started_from"]
    said = dict(lines)
    assert said["what"] == "model, trained on SIMULATED scenes only"
    assert "trained on SIMULATED scenes only; products behind it: 1" in said["started from"]
    third = go(tmp_path / "third", OTHERS, "xyz", {"start_from": second}).checkpoint
    assert load_checkpoint(third).about["started_from"]["products"] == ["S1A_FIRST", "S1A_SECOND"]
    assert load_checkpoint(third).about["simulated"] is True


def test_tests_on_what_it_has_learnt_from_are_refused(first: Path, tmp_path: Path) -> None:
    second = load_checkpoint(go(tmp_path / "on", OTHERS, "cdw", {"start_from": first}).checkpoint)
    refuse_known(second.about, second.path, ["S1A_THIRD"])
    for product in ("S1A_FIRST", "S1A_SECOND"):
        with pytest.raises(ConfigError, match=f"was trained on {product}"):
            refuse_known(second.about, second.path, ["S1A_THIRD", product])


def test_the_same_start_elsewhere_is_the_same_training(first: Path, tmp_path: Path) -> None:
    go(tmp_path / "on", OTHERS, "cdw", {"start_from": first})
    shutil.copy(first, tmp_path / "moved.safetensors")
    assert go(tmp_path / "on", OTHERS, "cdw", {"start_from": tmp_path / "moved.safetensors"}).skipped
    other = go(tmp_path / "other", FIRST, "bcv").checkpoint
    with pytest.raises(ConfigError):
        go(tmp_path / "on", OTHERS, "cdw", {"start_from": other})


@pytest.mark.parametrize(
    ("model", "about", "legend", "what"),
    [
        ({"name": "unet"}, {}, SIX_CLASSES, "is the model tiny with output_stride 16; .* asks for unet"),
        ({}, {"resolution_m": 40.0}, SIX_CLASSES, "was trained on pixels of 80 m; the product has 40 m"),
        ({}, {}, ICE_WATER, "has the classes"),
    ],
)
def test_another_model_is_refused(first: Path, tmp_path: Path, model: Any, about: Any, legend: Any, what: str) -> None:
    with pytest.raises(ModelError, match=what):
        go(tmp_path / "on", {**OTHERS, **about}, "cdw", {"start_from": first, **model}, legend)
    assert not (tmp_path / "on").exists()


# Other bands

DEPTH = InputBand("depth_m", "m", 0.1, missing="mean")
ICE_BEFORE = InputBand("ice_before", "1", 0.01, missing="flag")
FOUR = BandSet((PRODUCT_BANDS["hv_db"], DEPTH, ICE_BEFORE, PRODUCT_BANDS["hh_db"]))


def seasoned_model(name: str, bands: BandSet, seed: int) -> SegmentationModel:
    torch.manual_seed(seed)
    model = build_model(ModelSettings(name=name), 6, bands)
    seasoned(model)
    values = torch.arange(1.0, len(bands) + 1) + seed
    model.set_normalisation(values.tolist(), (values / 2).tolist())
    return model.eval()


def begun(
    name: str, learnt: BandSet, wanted: BandSet, folder: Path
) -> tuple[SegmentationModel, SegmentationModel, Begun]:
    """A checkpoint's model, one for other bands that starts from it, and what is new."""
    first, then = seasoned_model(name, learnt, 1), seasoned_model(name, wanted, 7)
    save_checkpoint(folder / "m.safetensors", first, {**ABOUT, "legend": "six_classes"})
    own = [[100.0 * (i + 1) for i in range(len(wanted))], [10.0] * len(wanted)]
    what = begin_from(then, load_checkpoint(folder / "m.safetensors"), lambda: (own[0], own[1]))
    return first, then, what


def values_of(bands: BandSet) -> Tensor:
    """Values of each band of a scene by its name; whatever the set is, a band has the same ones."""
    seeds = {"hh_db": 1, "hv_db": 2, "incidence_deg": 3, "depth_m": 4, "ice_before": 5}
    planes = [torch.randn(32, 48, generator=torch.Generator().manual_seed(seeds[n])) * 3 for n in bands.names]
    return torch.stack(planes)[None]


@pytest.mark.parametrize("name", ["tiny", "unet", "resnet18_aspp"])
def test_bands_are_matched_by_name_and_the_model_first_gives_what_it_gave(name: str, tmp_path: Path) -> None:
    """With further bands whatever these say; without a band as if that were at its mean, which normalises to 0."""
    more = BandSet((DEPTH, *PRODUCT_BANDS, ICE_BEFORE))
    first, then, what = begun(name, PRODUCT_BANDS, more, tmp_path)
    assert what == Begun(new_bands=("depth_m", "ice_before"))
    x = values_of(more)
    x[:, -1, :9] = float("nan")  # gaps, which have a flag
    with torch.no_grad():
        torch.testing.assert_close(then(x), first(values_of(PRODUCT_BANDS)), rtol=1e-4, atol=1e-4)
    assert then.mean.tolist() == [100.0, 2.0, 3.0, 4.0, 500.0] and then.std.tolist() == [10.0, 1.0, 1.5, 2.0, 10.0]

    first, then, what = begun(name, FOUR, BandSet(FOUR.bands[:2]), tmp_path)
    assert what == Begun(left_out_bands=("ice_before", "hh_db"))
    x = values_of(FOUR)
    x[:, 2:] = first.mean[2:, None, None]
    with torch.no_grad():
        torch.testing.assert_close(then(values_of(BandSet(FOUR.bands[:2]))), first(x), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", ["unet", "resnet18_aspp"])
def test_bands_in_another_order_keep_their_weights(name: str, tmp_path: Path) -> None:
    turned = BandSet(FOUR.bands[::-1])
    first, then, what = begun(name, FOUR, turned, tmp_path)
    assert what == Begun()
    with torch.no_grad():
        torch.testing.assert_close(then(values_of(turned)), first(values_of(FOUR)), rtol=1e-4, atol=1e-4)


def test_a_training_goes_on_with_a_further_band_and_says_so(
    first: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    bands, rng = BandSet((*PRODUCT_BANDS, DEPTH)), np.random.default_rng(0)
    parts = [
        replace(p, bands=bands, stored=np.concatenate([p.stored, rng.integers(0, 900, (1, *p.labels.shape), np.int16)]))
        for p in (scene(name, seed=ord(name)) for name in "cdw")
    ]
    settings = tiny_settings({"start_from": first}, max_epochs=3)
    made = train(parts[:-1], parts[-1:], settings, SIX_CLASSES, tmp_path / "on", about=OTHERS)
    about = load_checkpoint(made.checkpoint).about
    assert about["started_from"]["new_bands"] == ["depth_m"] and "was trained without depth_m" in caplog.text
    weights = load_checkpoint(made.checkpoint).model.state_dict()["body.1.weight"]
    assert weights.shape[1] == 4 and (weights[:, 3] != 0).any(), "it learns from the band"
    back = go(tmp_path / "back", FIRST, "abv", {"start_from": made.checkpoint}, max_epochs=1)
    assert load_checkpoint(back.checkpoint).about["started_from"]["left_out_bands"] == ["depth_m"]
    assert "was trained with depth_m too" in caplog.text


@pytest.mark.parametrize(
    ("name", "bands", "words"),
    [
        ("unet", (DEPTH,), r"new: depth_m; left out: hh_db, hv_db, incidence_deg\), and no band is the same"),
        ("unet", (replace(PRODUCT_BANDS["hh_db"], unit="1"),), "reads the band hh_db in dB; the scenes have it in 1"),
        (
            "tiny",
            (*PRODUCT_BANDS.bands[:2], DEPTH),
            r"\(new: depth_m; left out: incidence_deg\), and which weights of the model tiny",
        ),
        ("tiny", PRODUCT_BANDS.bands[::-1], r"incidence_deg, hv_db, hh_db \(in another order, or with"),
    ],
)
def test_bands_that_cannot_be_matched_are_refused_before_any_work(
    name: str, bands: tuple[InputBand, ...], words: str, tmp_path: Path
) -> None:
    path = tmp_path / "m.safetensors"
    save_checkpoint(path, seasoned_model(name, PRODUCT_BANDS, 0), {**ABOUT, "legend": "six_classes"})
    with pytest.raises(ModelError, match=words) as e:
        read_start(ModelSettings(name=name, start_from=path), SIX_CLASSES, 80.0, BandSet(bands))
    assert e.value.hint and e.value.path == path


def test_rates_are_those_of_the_start(tmp_path: Path) -> None:
    """Settings without rates fit every start, whatever the patches of the new training would choose; a checkpoint that
    names none has the published ones."""
    torch.manual_seed(0)
    for rates in ((1, 1, 2), None):
        path = tmp_path / "start.safetensors"
        save_checkpoint(path, build_model(ModelSettings(rates=rates), 6), dict(ABOUT) | {"legend": "six_classes"})
        settings = LearningSettings(model=ModelSettings(start_from=path), crops=CropSettings(size_px=600))
        assert with_rates(settings).model.rates == (rates or (12, 24, 36))
        assert read_start(settings.model, SIX_CLASSES, 80.0) is not None
        other = settings.model.model_copy(update={"rates": (2, 4, 6)})
        with pytest.raises(ModelError, match=r"and rates .*; the configuration asks for .* and rates 2, 4, 6"):
            read_start(other, SIX_CLASSES, 80.0)


def test_an_absent_or_broken_start_is_refused(first: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="absent"):
        go(tmp_path / "on", OTHERS, "cdw", {"start_from": tmp_path / "absent.safetensors"})
    first.write_bytes(first.read_bytes()[:-100])
    with pytest.raises(ModelError):
        go(tmp_path / "on", OTHERS, "cdw", {"start_from": first})


def test_two_starts_exclude_each_other(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="exclude each other"):
        ModelSettings.checked(encoder_weights=tmp_path / "a", start_from=tmp_path / "b")
