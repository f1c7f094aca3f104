"""Training: it learns, keeps the best weights, stops when it should, and says what is wrong."""

from __future__ import annotations

import json
import logging
import math
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scene_files import on_disk
from sklearn.metrics import f1_score
from tiny_model import ABOUT, WITH_TINY, scene, tiny_settings
from torch import Tensor

import floemap.learning
from floemap.errors import ConfigError, FloemapError, OutputError, TrainingError
from floemap.learning.data.crops import PartTensors, draw_fixed, physical, read_crop
from floemap.learning.data.normalisation import band_sums, pooled_statistics
from floemap.learning.data.parts import PartArrays
from floemap.learning.data.survey import survey_part
from floemap.learning.losses import make_loss
from floemap.learning.losses import tasks as task_losses_module
from floemap.learning.losses.cross_entropy import CrossEntropy
from floemap.learning.losses.tasks import TaskLosses
from floemap.learning.models.checkpoint import load_checkpoint
from floemap.learning.models.registry import build_model
from floemap.learning.settings import LearningSettings, LossSettings, ModelSettings
from floemap.learning.training import epochs as epochs_module
from floemap.learning.training.distributed import make_fabric
from floemap.learning.training.loop import Trained, train
from floemap.learning.training.state import State, load_state, save_state
from floemap.learning.training.validation import Validation, validate
from floemap.legend import IGNORE, SIX_CLASSES

FILES = {"model.safetensors", "state.pt", "metrics.jsonl", "training.json"}


pytestmark = pytest.mark.usefixtures("tiny_is_a_model")


@pytest.fixture(scope="module")
def parts() -> list[PartArrays]:
    return [scene("a", 1), scene("b", 2)]


@pytest.fixture(scope="module")
def held_out() -> list[PartArrays]:
    return [scene("v", 3, (61, 70)), scene("w", 4)]


@pytest.fixture
def run(tmp_path: Path, parts: list[PartArrays], held_out: list[PartArrays]) -> Any:
    """Trains in a folder; settings first, keywords as of `train`."""

    def go(settings: LearningSettings, out: str = "run", **options: Any) -> Trained:
        usual: dict[str, Any] = {"training": parts, "validation": held_out, "legend": SIX_CLASSES, "about": ABOUT}
        return train(settings=settings, out=tmp_path / out, device="cpu", **(usual | options))

    return go


def weights_of(trained: Trained) -> dict[str, Tensor]:
    return load_checkpoint(trained.checkpoint).model.state_dict()


def same(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


def scripted(monkeypatch: pytest.MonkeyPatch, losses: Sequence[float]) -> None:
    """Let validations find these losses, one after the other."""
    left = iter(losses)

    def found(*_: Any, **__: Any) -> Validation:
        loss = next(left)
        return Validation(loss, np.eye(6, dtype=np.int64), {"ice_type": loss}, {})

    monkeypatch.setattr(epochs_module, "validate", found)


# What a training gives


@pytest.mark.parametrize("loss", ["cross_entropy", "dice", "focal"])
def test_it_learns_what_can_be_learnt(run: Any, loss: str) -> None:
    settings = tiny_settings(max_epochs=20, learning_rate=0.1).model_copy(update={"loss": LossSettings(name=loss)})
    trained = run(settings)
    first, last = trained.history[0], trained.history[-1]
    assert last["loss"] < 0.6 * first["loss"]
    assert last["validation_loss"] < first["validation_loss"]
    assert max(x["weighted_f1"] for x in trained.history) > 0.9
    assert not trained.skipped


def test_folder_holds_what_it_should(run: Any, parts: list[PartArrays]) -> None:
    trained = run(tiny_settings(), about=dict(ABOUT) | {"data": ["of the study"]})
    assert {p.name for p in trained.folder.iterdir()} == FILES
    lines = [json.loads(x) for x in (trained.folder / "metrics.jsonl").read_text().splitlines()]
    assert lines == list(trained.history)
    assert [x["epoch"] for x in lines] == [1, 2, 3]
    assert all(x["crops_per_s"] > 0 and x["seconds"] > 0 for x in lines)
    record = json.loads(trained.record.read_text())
    assert record["epochs"] == 3 and record["stopped"] == "3 epochs were asked for"
    best = min(lines, key=lambda x: x["validation_loss"])
    assert record["best"] == best
    about = load_checkpoint(trained.checkpoint).about
    assert about["best"] == best
    assert about["data"] == ["of the study"] and about["simulated"] is True and about["crs"] == "EPSG:3413"
    assert about["configuration"]["training"]["batch"] == 4
    assert set(about["inputs"]["training"]) == {"a", "b"}
    mean, std = pooled_statistics(band_sums(p.stored) for p in parts)
    assert about["normalisation"]["mean"] == pytest.approx(mean) and about["normalisation"]["std"] == pytest.approx(std)


def test_same_seed_same_weights_other_seed_others(run: Any) -> None:
    a, b, c = (run(tiny_settings(seed=s), o) for s, o in ((0, "a"), (0, "b"), (1, "c")))
    assert same(weights_of(a), weights_of(b))
    assert not same(weights_of(a), weights_of(c))


def test_random_numbers_of_the_caller_go_on_as_if_nothing_had_been_drawn(run: Any) -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    run(tiny_settings({"dropout": 0.3}, max_epochs=1))
    assert torch.equal(torch.rand(3), expected)


def test_streamed_training_is_the_resident_one(
    run: Any, tmp_path: Path, parts: list[PartArrays], held_out: list[PartArrays]
) -> None:
    files = [on_disk(p, tmp_path, (7, 13)) for p in (*parts, *held_out)]
    settings = tiny_settings()
    streamed = settings.model_copy(
        update={"crops": settings.crops.model_copy(update={"source": "streamed", "workers": 0})}
    )
    a = run(settings, "a", training=files[:2], validation=files[2:])
    b = run(streamed, "b", training=files[:2], validation=files[2:])
    assert same(weights_of(a), weights_of(b))
    assert [x["validation_loss"] for x in a.history] == [x["validation_loss"] for x in b.history]


@pytest.mark.skipif(not torch.cpu._is_avx512_bf16_supported(), reason="this processor has no bf16")
def test_auto_is_bf16_where_it_is_native_and_learns_the_same(run: Any) -> None:
    exact, auto = run(tiny_settings(), "fp32"), run(tiny_settings(precision="auto"), "auto")
    assert load_checkpoint(auto.checkpoint).about["trained_on"]["precision"] == "bf16"
    for a, b in zip(exact.history, auto.history, strict=True):
        assert a["loss"] == pytest.approx(b["loss"], rel=0.05)
        assert a["loss"] != b["loss"]


def test_gradients_longer_than_the_clip_norm_are_scaled_down(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    norms = []
    real = torch.optim.Adam.step

    def watched(self: torch.optim.Adam, *args: Any, **kwargs: Any) -> Any:
        grads = [p.grad for group in self.param_groups for p in group["params"]]
        norms.append(float(torch.nn.utils.get_total_norm([g for g in grads if g is not None])))
        return real(self, *args, **kwargs)

    monkeypatch.setattr(torch.optim.Adam, "step", watched)
    run(tiny_settings(max_epochs=1), "free")
    run(tiny_settings(max_epochs=1, clip_norm=0.01), "clipped")
    free, clipped = norms[:3], norms[3:]
    assert min(free) > 0.01
    assert max(clipped) == pytest.approx(0.01, rel=1e-3)


# Which weights are kept, and when it ends


def test_best_weights_are_those_that_are_evaluated(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    after = []

    def watched(path: Path, state: State) -> None:
        after.append(state.weights)
        save_state(path, state)

    monkeypatch.setattr(epochs_module, "save_state", watched)
    scripted(monkeypatch, [0.9, 0.4, 0.7, 0.4])
    trained = run(tiny_settings(max_epochs=4))
    kept = weights_of(trained)
    assert same(kept, after[1])
    assert not any(same(kept, after[i]) for i in (0, 2, 3))
    state = load_state(trained.folder / "state.pt")
    assert same(state.weights, after[3])  # what training would go on with


def test_checkpoint_scores_what_its_epoch_scored(run: Any, held_out: list[PartArrays]) -> None:
    trained = run(tiny_settings(max_epochs=2))
    checkpoint = load_checkpoint(trained.checkpoint)
    loss = make_loss(LossSettings(), 6)
    found = validate(checkpoint.model, TaskLosses.of(loss), held_out, make_fabric("cpu", "fp32"))
    assert found.loss == pytest.approx(min(x["validation_loss"] for x in trained.history), rel=1e-6)


def test_learning_rate_falls_on_a_plateau_and_training_ends(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    scripted(monkeypatch, [1.0, 0.99999, *[0.99999] * 20])
    settings = tiny_settings(max_epochs=30, patience=2, factor=0.1, stop_after=8, min_learning_rate=2e-4)
    trained = run(settings)
    rates = [x["learning_rate"] for x in trained.history]
    # Any lower loss is lower; two epochs without are borne, the third lowers it.
    assert rates == pytest.approx([1e-2] * 5 + [1e-3] * 3 + [2e-4] * 2)
    assert json.loads(trained.record.read_text())["stopped"] == "the validation loss got no lower in 8 validations"


def test_patience_counts_validations(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    scripted(monkeypatch, [1.0] * 20)
    trained = run(tiny_settings(max_epochs=30, validate_every=3, stop_after=2))
    validated = [x["epoch"] for x in trained.history if x["validation_loss"] is not None]
    assert validated == [3, 6, 9]
    assert len(trained.history) == 9


def test_last_epoch_is_always_validated(run: Any) -> None:
    trained = run(tiny_settings(max_epochs=2, validate_every=5))
    assert [x["validation_loss"] is None for x in trained.history] == [True, False]
    assert trained.checkpoint.is_file()


# Progress


def test_progress_rises_and_ends_and_tells_loss_and_f1(run: Any) -> None:
    told: list[tuple[float, float, str]] = []
    run(tiny_settings(max_epochs=2), progress=lambda *x: told.append(x))
    done = [d for d, _, what in told if "epoch" in what]
    assert done == sorted(done)
    assert told[-1][:2] == (6, 6)
    assert "epoch 1 of at most 2: loss" in told[1][2] and "F1" not in told[1][2]
    assert "epoch 2 of at most 2: loss" in told[-2][2] and ", F1 0." in told[-2][2]


def test_whole_is_what_is_left_if_nothing_improves(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    scripted(monkeypatch, [1.0, 0.5, 0.6, 0.7, 0.8])
    told: list[tuple[float, float, str]] = []
    run(tiny_settings(max_epochs=1000, stop_after=3), progress=lambda *x: told.append(x))
    epochs = {what.split(" of ")[0]: whole for _, whole, what in told[1:]}
    assert epochs == {"epoch 1": 12, "epoch 2": 12, "epoch 3": 15, "epoch 4": 15, "epoch 5": 15}
    assert told[-1][:2] == (15, 15)


# Numbers that are none


class BreaksAt(CrossEntropy):
    """Cross-entropy until its n-th value in training."""

    def __init__(self, step: int, kind: str) -> None:
        super().__init__(6)
        self.left, self.kind = step, kind

    def value(self, sums: Tensor) -> Tensor:
        value = super().value(sums)
        self.left -= sums.requires_grad
        if self.left != 0:
            return value
        if self.kind == "gradient":  # the value is right, its slope is not
            return value + (value * 0).sqrt()
        return value * (math.nan if self.kind == "nan" else math.inf)


@pytest.mark.parametrize("kind", ["nan", "inf", "gradient"])
@pytest.mark.parametrize("step", [8, 9])
def test_loss_that_is_no_number_stops_it_with_the_last_good_state(
    run: Any, monkeypatch: pytest.MonkeyPatch, kind: str, step: int
) -> None:
    whole = run(tiny_settings(max_epochs=4), "whole")
    with monkeypatch.context() as broken:
        broken.setattr(task_losses_module, "make_loss", lambda *_, **__: BreaksAt(step, kind))
        with pytest.raises(TrainingError, match=f"in epoch 3, step {step - 6}") as e:
            run(tiny_settings(max_epochs=4))
    assert "nan" in str(e.value) or "inf" in str(e.value)
    assert "after epoch 2" in str(e.value) and "model.safetensors the best weights so far" in str(e.value)
    assert "learning_rate" in str(e.value)
    folder = e.value.path
    assert folder is not None and not (folder / "training.json").exists()
    assert len(load_state(folder / "state.pt").history) == 2
    assert same(weights_of(run(tiny_settings(max_epochs=4))), weights_of(whole))  # nothing of it stayed


def test_losses_read_seldom_are_the_same(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a GPU: the same rows and weights, and the same step is named when a loss is no number."""
    each = run(tiny_settings(max_epochs=2), "each")
    monkeypatch.setattr(epochs_module, "read_every", lambda device: 2)
    seldom = run(tiny_settings(max_epochs=2), "seldom")
    varies = {"seconds", "crops_per_s"}
    without = [[{k: x for k, x in row.items() if k not in varies} for row in t.history] for t in (each, seldom)]
    assert without[0] == without[1] and same(weights_of(each), weights_of(seldom))
    monkeypatch.setattr(task_losses_module, "make_loss", lambda *_, **__: BreaksAt(4, "nan"))
    with pytest.raises(TrainingError, match="in epoch 2, step 1"):
        run(tiny_settings(max_epochs=2))


def test_older_trainings_are_resumed_with_the_settings_that_they_lacked(run: Any) -> None:
    """What they recorded: compile = false, which was the default, and no accumulate."""
    trained = run(tiny_settings(max_epochs=1))
    recorded = json.loads(trained.record.read_text())["configuration"]["training"]
    assert recorded["compile"] is False and "accumulate" not in recorded
    assert run(tiny_settings(max_epochs=1, compile=False)).skipped
    with pytest.raises(ConfigError, match=r"training.accumulate \(absent, now 2\)"):
        run(tiny_settings(max_epochs=1, accumulate=2))
    assert run(tiny_settings(max_epochs=1, accumulate=2), "in parts").history[0]["loss"] > 0


def test_no_number_in_the_first_epoch_says_that_nothing_is_kept(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(task_losses_module, "make_loss", lambda *_, **__: BreaksAt(1, "nan"))
    with pytest.raises(TrainingError, match=r"epoch 1, step 1.* no epoch was finished"):
        run(tiny_settings())


def test_validation_loss_that_is_no_number_stops_it(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    scripted(monkeypatch, [0.5, math.nan])
    with pytest.raises(TrainingError, match="the validation loss is nan after epoch 2"):
        run(tiny_settings())


# What cannot be learnt from


def test_class_that_is_absent_is_warned_of_by_name(run: Any, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        run(tiny_settings(max_epochs=1))
    assert "no training part has a pixel of Nilas, Young ice, Old ice" in caplog.text


def without_labels(name: str) -> PartArrays:
    part = scene(name, 1)
    return PartArrays(name, part.stored, np.full_like(part.labels, IGNORE))


def test_split_without_a_label_is_named(run: Any, parts: list[PartArrays], held_out: list[PartArrays]) -> None:
    with pytest.raises(TrainingError, match=r"no pixel of the validation parts \(06-NE\) has a label"):
        run(tiny_settings(), validation=[*held_out, without_labels("06-NE")])
    with pytest.raises(TrainingError, match=r"part 03: no crop of 32 x 32 px has a label"):
        run(tiny_settings(), training=[*parts, without_labels("03")])
    anywhere = tiny_settings()
    anywhere = anywhere.model_copy(update={"crops": anywhere.crops.model_copy(update={"min_valid": 0.0})})
    with pytest.raises(TrainingError, match=r"no pixel of the training parts \(03\) has a label"):
        run(anywhere, training=[without_labels("03")])


@pytest.mark.parametrize(
    ("changes", "options", "message"),
    [
        ({"training": {"batch": 13}}, {}, "training.batch is 13, but an epoch has 12 crops"),
        ({"loss": {"name": "dise"}}, {}, "no loss is called 'dise'"),
        ({"model": {"name": "resnet19"}}, {}, "no model is called 'resnet19'"),
        ({"crops": {"source": "streamed"}}, {}, "parts are in memory"),
        ({}, {"training": []}, "no training parts"),
        ({}, {"validation": []}, "no validation parts"),
        ({}, {"validation": [scene("a", 3)]}, "given twice: a"),
        ({}, {"about": {"simulated": True}}, "lacks resolution_m"),
        ({}, {"device": "gpu0"}, "no device is called 'gpu0'"),
        ({}, {"device": "meta"}, "training on 'meta' is not supported"),
        ({}, {"device": "cuda:99"}, "there is no cuda:99"),
    ],
)
def test_settings_that_cannot_be_are_refused_before_anything_is_trained(
    tmp_path: Path,
    parts: list[PartArrays],
    held_out: list[PartArrays],
    changes: dict[str, dict[str, Any]],
    options: dict[str, Any],
    message: str,
) -> None:
    values = tiny_settings().model_dump()
    for table, change in changes.items():
        values[table] |= change
    usual: dict[str, Any] = {
        "training": parts,
        "validation": held_out,
        "about": ABOUT,
        "device": "cpu",
        "legend": SIX_CLASSES,
    }
    with pytest.raises(ConfigError, match=message):
        train(settings=LearningSettings.checked(**values), out=tmp_path / "run", **(usual | options))
    assert not (tmp_path / "run" / "model.safetensors").exists()


# The folder


def test_finished_training_is_not_done_again(run: Any) -> None:
    first = run(tiny_settings())
    before = {p: p.stat().st_mtime_ns for p in first.folder.iterdir()}
    again = run(tiny_settings())
    assert again.skipped and again.history == first.history
    assert {p: p.stat().st_mtime_ns for p in first.folder.iterdir()} == before


@pytest.mark.parametrize("finished", [True, False])
def test_training_of_other_settings_or_data_is_left_alone(
    run: Any, monkeypatch: pytest.MonkeyPatch, finished: bool, parts: list[PartArrays]
) -> None:
    if finished:
        folder = run(tiny_settings()).folder
    else:
        scripted(monkeypatch, [0.5, math.nan])
        with pytest.raises(TrainingError) as broken:
            run(tiny_settings())
        assert broken.value.path is not None
        folder = broken.value.path
        monkeypatch.undo()
        monkeypatch.setattr("floemap.learning.models.registry.MODELS", WITH_TINY)
    before = {p: p.read_bytes() for p in folder.iterdir()}
    what = "finished" if finished else "unfinished training"
    with pytest.raises(ConfigError, match=rf"{what}.* other training\.batch \(4, now 3\)") as e:
        run(tiny_settings(batch=3))
    assert "--overwrite" in str(e.value)
    with pytest.raises(ConfigError, match=r"other training\.c\.labels"):
        run(tiny_settings(), training=[*parts, scene("c", 9)])
    assert {p: p.read_bytes() for p in folder.iterdir()} == before
    trained = run(tiny_settings(batch=3), overwrite=True)
    assert same(weights_of(trained), weights_of(run(tiny_settings(batch=3), "elsewhere")))
    assert {p.name for p in folder.iterdir()} == FILES


def test_overwrite_leaves_files_of_others(run: Any) -> None:
    folder = run(tiny_settings(max_epochs=1)).folder
    (folder / "notes.txt").write_text("mine")
    run(tiny_settings(max_epochs=1), overwrite=True)
    assert (folder / "notes.txt").read_text() == "mine"


def test_how_patches_are_read_may_change_on_the_way(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    scripted(monkeypatch, [0.5, math.nan])
    with pytest.raises(TrainingError):
        run(tiny_settings(max_epochs=2))
    scripted(monkeypatch, [0.4])
    other = tiny_settings(max_epochs=2)
    other = other.model_copy(update={"crops": other.crops.model_copy(update={"workers": 7})})
    assert [x["validation_loss"] for x in run(other).history] == [0.5, 0.4]


def test_model_that_came_from_elsewhere_is_not_overwritten(run: Any, tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "model.safetensors").write_bytes(b"precious")
    with pytest.raises(ConfigError, match=r"holds model\.safetensors, but no record or state of a training"):
        run(tiny_settings())
    assert (tmp_path / "run" / "model.safetensors").read_bytes() == b"precious"


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 no zip", b"\x80\x04cposix\nsystem\n."])
def test_state_that_cannot_be_read_is_named(run: Any, tmp_path: Path, content: bytes) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "state.pt").write_bytes(content)
    with pytest.raises(TrainingError, match=r"state\.pt: is not a state from which a training") as e:
        run(tiny_settings())
    assert "--overwrite" in str(e.value)


def test_file_in_the_way_is_named(run: Any, tmp_path: Path) -> None:
    (tmp_path / "run").write_text("a file")
    with pytest.raises(OutputError, match="in the way"):
        run(tiny_settings())


# Validation


@pytest.mark.parametrize("name", ["cross_entropy", "dice", "macro_dice", "focal"])
def test_validation_loss_of_a_part_is_that_of_one_pass(held_out: list[PartArrays], name: str) -> None:
    torch.manual_seed(0)
    model = build_model(ModelSettings(name="tiny"), 6).eval()
    model.set_normalisation(*pooled_statistics(band_sums(p.stored) for p in held_out))
    loss = make_loss(LossSettings(name=name), 6)
    expected, confusion = [], np.zeros((6, 6), np.int64)
    true, predicted = [], []
    for part in held_out:
        with torch.no_grad():
            logits = model(physical(torch.from_numpy(part.stored))[None])
        labels = torch.from_numpy(part.labels)
        expected.append(float(loss(logits, labels[None])))
        valid = part.labels != IGNORE
        true.append(part.labels[valid])
        predicted.append(logits.argmax(dim=1)[0].numpy()[valid])
        np.add.at(confusion, (true[-1], predicted[-1]), 1)
    found = validate(model, TaskLosses.of(loss), held_out, make_fabric("cpu", "fp32"))
    assert found.loss == pytest.approx(np.mean(expected), rel=1e-5)
    assert np.array_equal(found.confusion, confusion)
    resident = [PartTensors.of(part) for part in held_out]
    again = validate(model, TaskLosses.of(loss), held_out, make_fabric("cpu", "fp32"), resident=resident)
    assert again.loss == found.loss and np.array_equal(again.confusion, confusion)
    t, p = np.concatenate(true), np.concatenate(predicted)
    assert found.weighted_f1 == pytest.approx(f1_score(t, p, average="weighted", zero_division=0.0))
    assert found.macro_f1 == pytest.approx(f1_score(t, p, average="macro", zero_division=0.0))


def test_validation_on_patches_is_on_the_same_ones_each_epoch(run: Any, held_out: list[PartArrays]) -> None:
    settings = tiny_settings(validation="crops", max_epochs=2)
    trained = run(settings)
    checkpoint = load_checkpoint(trained.checkpoint)
    loss = make_loss(LossSettings(), 6)
    values = []
    drawn = draw_fixed([survey_part(part, 32, 0.5) for part in held_out], settings.crops)
    for part, crops in zip(held_out, drawn, strict=True):
        stored, labels = (torch.stack(x) for x in zip(*(read_crop(part, c)[:2] for c in crops), strict=True))
        with torch.no_grad():
            values.append(float(loss(checkpoint.model(physical(stored)), labels)))
    assert np.mean(values) == pytest.approx(min(x["validation_loss"] for x in trained.history), rel=1e-5)


def test_repeats_are_validated_on_the_same_patches(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Repeats differ in their seeds; were they validated on other pixels, their losses could not be compared."""
    seen: dict[int, Any] = {}
    real = vars(epochs_module)["validate"]

    def watched(*args: Any, crops: Any, **more: Any) -> Validation:
        seen[len(seen)] = [list(of_part) for of_part in crops]
        return real(*args, crops=crops, **more)

    monkeypatch.setattr(epochs_module, "validate", watched)
    for seed in (0, 1):
        run(tiny_settings(validation="crops", max_epochs=1, seed=seed), str(seed))
    assert seen[0] == seen[1]


def test_validation_is_in_float32_whatever_training_computes_in(held_out: list[PartArrays]) -> None:
    """A step of the weights far below bfloat16's eight bits moves the loss as it does in float64."""
    torch.manual_seed(0)
    model = build_model(ModelSettings(name="unet"), 6)
    model.set_normalisation([-15, -25, 30], [5, 5, 8])
    model.train()(physical(torch.from_numpy(held_out[0].stored))[None])  # running statistics
    loss = make_loss(LossSettings(), 6)
    fabric = make_fabric("cpu", "bf16")
    crops = draw_fixed([survey_part(p, 32, 0.5) for p in held_out], tiny_settings().crops)
    for patches in (None, crops):
        found = [validate(model, TaskLosses.of(loss), held_out, fabric, crops=patches).loss]
        exact = [validate(model.double(), TaskLosses.of(loss), held_out, fabric, crops=crops).loss] if patches else []
        model.float()
        with torch.no_grad():
            for p in model.parameters():
                p.mul_(1 + 1e-5)
        found.append(validate(model, TaskLosses.of(loss), held_out, fabric, crops=patches).loss)
        if patches:
            exact.append(validate(model.double(), TaskLosses.of(loss), held_out, fabric, crops=crops).loss)
            model.float()
            assert found[0] == pytest.approx(exact[0], rel=1e-5)
            assert found[1] - found[0] == pytest.approx(exact[1] - exact[0], rel=0.1, abs=2e-6)
        assert 0 < abs(found[1] - found[0]) < 1e-3 * found[0]


# Rates


def test_rates_are_chosen_by_the_patches_and_recorded(run: Any) -> None:
    settings = tiny_settings({"name": "resnet18_aspp"}, max_epochs=1)
    settings = settings.model_copy(update={"crops": settings.crops.model_copy(update={"size_px": 64})})
    trained = run(settings)
    about = load_checkpoint(trained.checkpoint).about
    assert about["model"]["rates"] == about["configuration"]["model"]["rates"] == [1, 2, 3]
    assert [b["rate"] for b in about["atrous_branches"]] == [1, 2, 3]
    model: Any = load_checkpoint(trained.checkpoint).model
    assert [b[0].dilation for b in model.decoder.branches[1:-1]] == [(1, 1), (2, 2), (3, 3)]
    assert run(settings).skipped


def test_rates_that_no_patch_reaches_are_refused_before_anything_is_written(run: Any, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"model.rates has 3, which reaches 48 px, but crops have 32 px"):
        run(tiny_settings({"name": "resnet18_aspp", "rates": (1, 1, 3)}))
    assert not (tmp_path / "run").exists()


# Milestones


def test_a_log_has_a_line_for_each_epoch_and_says_how_it_ended(
    run: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, logger="floemap.milestones"):
        trained = run(tiny_settings(max_epochs=3, validate_every=2))
    said = [r.getMessage() for r in caplog.records if r.name == "floemap.milestones"]
    assert [s.split(":")[0] for s in said[:3]] == [f"epoch {i} of at most 3" for i in (1, 2, 3)]
    assert "validation loss" not in said[0] and "validation loss" in said[1] and "best so far epoch 2" in said[1]
    best = min((x for x in trained.history if x["validation_loss"] is not None), key=lambda x: x["validation_loss"])
    assert "temperature" in said[3] and "validation polygons" in said[3]
    assert f"the weights of epoch {best['epoch']} are kept" in said[4] and "because 3 epochs were asked for" in said[4]
    state = load_state(tmp_path / "run" / "state.pt")
    state.history = state.history[:1]
    trained.record.unlink()
    save_state(tmp_path / "run" / "state.pt", state)
    caplog.clear()
    with caplog.at_level(logging.INFO, logger="floemap.milestones"):
        run(tiny_settings(max_epochs=3, validate_every=2))
    said = [r.getMessage() for r in caplog.records if r.name == "floemap.milestones"]
    assert "resuming after epoch 1 of at most 3" in said[0]


def test_a_training_that_is_stopped_says_what_is_kept(
    run: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def stop(done: float, total: float, what: str) -> None:
        if done and len(finished()) == stop_after:
            raise KeyboardInterrupt

    def finished() -> list[str]:
        metrics = tmp_path / "run" / "metrics.jsonl"
        return metrics.read_text().splitlines() if metrics.is_file() else []

    for stop_after, words in (
        (0, "stopped in the first epoch: nothing is kept"),
        (2, "stopped after epoch 2 of at most 3, which is kept: repeat the call to resume"),
    ):
        caplog.clear()
        with pytest.raises(KeyboardInterrupt):
            run(tiny_settings(max_epochs=3), progress=stop)
        assert words in caplog.text
        assert len(finished()) == stop_after


# Arithmetic


def test_going_on_in_another_arithmetic_is_said(run: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    settings = tiny_settings(precision="auto", max_epochs=2)
    trained = run(settings)
    record = json.loads(trained.record.read_text())
    assert record["trained_on"]["precision"] in ("fp32", "bf16") and record["trained_on"]["device"] == "cpu"
    state = load_state(tmp_path / "run" / "state.pt")
    assert state.arithmetic == {k: record["trained_on"][k] for k in ("device", "precision")}
    for before, said in (({"device": "cuda", "precision": "bf16"}, True), ({}, False)):
        trained.record.unlink(missing_ok=True)
        caplog.clear()
        state.arithmetic = before
        save_state(tmp_path / "run" / "state.pt", state)
        run(settings)
        assert ("was begun with bf16 on cuda and is resumed with" in caplog.text) is said


# The room


def test_learning_needs_no_geospatial_library() -> None:
    root = Path(floemap.learning.__file__).parent
    names = [".".join(p.relative_to(root.parent.parent).with_suffix("").parts) for p in sorted(root.rglob("*.py"))]
    assert len(names) > 30
    code = (
        "import sys\n"
        + "".join(f"import {n.removesuffix('.__init__')}\n" for n in names)
        + "banned = {'rasterio', 'odc', 'pyproj', 'shapely', 'pandas', 'geopandas', 'pyogrio', 'xarray'}\n"
        "print(sorted(banned & {m.split('.')[0] for m in sys.modules}))"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"


def test_errors_of_files_come_through(run: Any, tmp_path: Path, parts: list[PartArrays]) -> None:
    part = on_disk(parts[0], tmp_path)
    part.product.write_bytes(b"no raster")
    with pytest.raises(FloemapError, match="cannot be read") as e:
        run(tiny_settings(), training=[part])
    assert e.value.path == part.product


def test_memory_of_a_gpu_that_runs_out_is_said(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """As torch says it; a GPU is not needed for that."""

    def full(*_: Any, **__: Any) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB.\nAnd more words.")

    monkeypatch.setattr(epochs_module, "_train_epoch", full)
    with pytest.raises(TrainingError, match=r"too small for batches of 4 crops of 32 px.*20\.00 GiB\. Raise training"):
        run(tiny_settings())
