"""Going on from a finished model on other scenes."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_model import ABOUT, WITH_TINY, scene, tiny_settings

from floemap.errors import ConfigError, ModelError
from floemap.learning.models import registry as models_module
from floemap.learning.models.atrous import with_rates
from floemap.learning.models.checkpoint import load_checkpoint, read_start, save_checkpoint
from floemap.learning.models.checkpoint_header import describe_checkpoint, refuse_known
from floemap.learning.models.registry import build_model
from floemap.learning.settings import CropSettings, LearningSettings, ModelSettings
from floemap.learning.training.loop import Trained, train
from floemap.legend import ICE_WATER, SIX_CLASSES

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


def test_rates_are_those_of_the_start(tmp_path: Path) -> None:
    """Whatever the patches of the new training would choose; a checkpoint that names none has the published ones."""
    torch.manual_seed(0)
    for rates in ((1, 1, 2), None):
        path = tmp_path / "start.safetensors"
        save_checkpoint(path, build_model(ModelSettings(rates=rates), 6), dict(ABOUT) | {"legend": "six_classes"})
        settings = LearningSettings(model=ModelSettings(start_from=path), crops=CropSettings(size_px=600))
        assert with_rates(settings).model.rates == (rates or (12, 24, 36))
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
