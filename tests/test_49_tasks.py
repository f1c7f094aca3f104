"""Models with several heads: training, fine-tuning, checkpoints, tiles, and what is refused."""

from __future__ import annotations

import json
import logging
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load as from_safetensors
from safetensors.torch import save as to_safetensors
from seasoned import seasoned
from tiny_model import ABOUT, WITH_TINY, TinyModel, charted, scene, tiny_settings

from floemap.errors import ConfigError, ModelError, TrainingError
from floemap.learning.data.crops import physical
from floemap.learning.models import registry as models_module
from floemap.learning.models.checkpoint import load_checkpoint, save_checkpoint
from floemap.learning.models.checkpoint_header import describe_checkpoint, heads_in, read_about
from floemap.learning.models.registry import build_model
from floemap.learning.models.start import Begun, begin_from
from floemap.learning.settings import LearningSettings, ModelSettings
from floemap.learning.targets import Head
from floemap.learning.training.loggers import LOGGERS, MetricLogger
from floemap.learning.training.loop import Trained, train
from floemap.learning.whole_scene.logits import array_reader, scene_logits
from floemap.legend import SIX_CLASSES

pytestmark = pytest.mark.usefixtures("tiny_is_a_model")

BOTH = {"concentration": {"target": "concentration", "weight": 0.5}}
HEADS = (Head("ice_type", "class", 6), Head("concentration", "concentration", 1))


def settings(tasks: Any = BOTH, model: Any = None, **training: Any) -> LearningSettings:
    usual = tiny_settings(model, **training)
    return LearningSettings.checked(**(usual.model_dump() | {"tasks": tasks}))


def go(out: Path, given: LearningSettings, *, known: bool = True, held_known: bool = True) -> Trained:
    parts = [charted(scene("a", 1), known=known), charted(scene("b", 2), known=known)]
    held = [charted(scene("v", 3, (61, 70)), known=held_known)]
    return train(parts, held, given, SIX_CLASSES, out, about=ABOUT, device="cpu")


@pytest.fixture
def one_head(tmp_path: Path) -> Path:
    return go(tmp_path / "one", settings({}, max_epochs=2)).checkpoint


# Training


def test_both_heads_learn_and_the_history_tells_of_each(tmp_path: Path) -> None:
    trained = go(tmp_path / "both", settings(max_epochs=15, learning_rate=0.05))
    first, last = trained.history[0], trained.history[-1]
    assert list(first["tasks"]) == ["ice_type", "concentration"]
    assert set(first["tasks"]["ice_type"]) == {"loss", "validation_loss"}
    assert set(first["tasks"]["concentration"]) == {"loss", "validation_loss", "r2", "rmse", "mae", "bias"}
    for row in trained.history:
        of = {name: row["tasks"][name] for name in ("ice_type", "concentration")}
        for key in ("loss", "validation_loss"):
            assert row[key] == pytest.approx(of["ice_type"][key] + 0.5 * of["concentration"][key])
    # Both go with the brightness of the image.
    r2 = [row["tasks"]["concentration"]["r2"] for row in (first, last)]
    assert last["weighted_f1"] > 0.9 and r2[1] > 0.8 > r2[0]


def test_one_head_has_the_history_and_the_header_that_it_had(one_head: Path) -> None:
    row = json.loads((one_head.parent / "metrics.jsonl").read_text().splitlines()[0])
    assert "tasks" not in row and "tasks" not in read_about(one_head)
    record = json.loads((one_head.parent / "training.json").read_text())
    assert "tasks" not in record["configuration"] and "monitor" not in record["configuration"]["training"]


def test_a_further_head_of_no_weight_to_speak_of_changes_nothing_else_in_the_loss(tmp_path: Path) -> None:
    """The class head of two learns from its own loss: with a weight of 1e-30 the other one only stands beside."""
    beside = {"concentration": {"target": "concentration", "weight": 1e-30}}
    both = go(tmp_path / "both", settings(beside, max_epochs=3))
    for row in both.history:
        assert row["loss"] == pytest.approx(row["tasks"]["ice_type"]["loss"], rel=1e-6)


@pytest.mark.parametrize("monitor", [None, "ice_type", "concentration"])
def test_the_monitored_head_decides(tmp_path: Path, monitor: str | None) -> None:
    trained = go(tmp_path / "run", settings(max_epochs=4, monitor=monitor))
    rows = trained.history
    if monitor is None:
        watched = [
            r["tasks"]["ice_type"]["validation_loss"] + 0.5 * r["tasks"]["concentration"]["validation_loss"]
            for r in rows
        ]
    else:
        watched = [r["tasks"][monitor]["validation_loss"] for r in rows]
    assert [r["validation_loss"] for r in rows] == pytest.approx(watched)
    assert read_about(trained.checkpoint)["best"]["epoch"] == 1 + watched.index(min(watched))


def test_loggers_get_the_numbers_of_each_head(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    steps, epochs = [], []

    class Kept(MetricLogger):
        def step(self, step: int, metrics: Any) -> None:
            steps.append(dict(metrics))

        def epoch(self, epoch: int, metrics: Any) -> None:
            epochs.append(dict(metrics))

    monkeypatch.setitem(LOGGERS, "kept", (Kept, "json", ""))
    go(tmp_path / "run", settings(max_epochs=1, loggers=["kept"]))
    assert all(math.isclose(s["loss"], s["loss/ice_type"] + 0.5 * s["loss/concentration"], rel_tol=1e-6) for s in steps)
    assert {"loss/concentration", "validation_loss/concentration", "r2/concentration", "loss/ice_type"} <= set(
        epochs[0]
    )


def test_a_head_of_shares_learns_beside(tmp_path: Path) -> None:
    tasks = {"shares": {"target": "fractions"}, "kind": {"target": "class"}}
    trained = go(tmp_path / "run", settings(tasks, max_epochs=8, learning_rate=0.05))
    assert list(trained.history[0]["tasks"]) == ["kind", "shares"]
    losses = [row["tasks"]["shares"]["validation_loss"] for row in trained.history]
    assert losses[-1] < losses[0] / 2
    assert load_checkpoint(trained.checkpoint).model.heads == (Head("kind", "class", 6), Head("shares", "fractions", 6))


def test_a_stopped_training_of_two_heads_goes_to_the_same_weights(tmp_path: Path) -> None:
    class StopError(Exception):
        pass

    def stop(done: float, total: float, what: str) -> None:
        if what.startswith("epoch 2") and "validating" in what:
            raise StopError

    whole = go(tmp_path / "whole", settings(max_epochs=3))
    parts = [charted(scene("a", 1)), charted(scene("b", 2))]
    given: Any = (parts, [charted(scene("v", 3, (61, 70)))], settings(max_epochs=3), SIX_CLASSES, tmp_path / "stopped")
    with pytest.raises(StopError):
        train(*given, about=ABOUT, device="cpu", progress=stop)
    again = train(*given, about=ABOUT, device="cpu")
    one, other = (load_checkpoint(t.checkpoint).model.state_dict() for t in (whole, again))
    assert all(torch.equal(one[k], other[k]) for k in one)


# Checkpoints and fine-tuning


def test_a_checkpoint_brings_its_heads_back(tmp_path: Path) -> None:
    trained = go(tmp_path / "both", settings(max_epochs=1))
    model = load_checkpoint(trained.checkpoint).model
    assert model.heads == HEADS and model.classes == 6 and model.channels == 7
    _, lines = describe_checkpoint(trained.checkpoint)
    assert ("head concentration", "Total concentration of ice, 0 to 1") in lines


def test_a_missing_head_is_added_in_fine_tuning_and_the_log_says_so(
    tmp_path: Path, one_head: Path, caplog: pytest.LogCaptureFixture
) -> None:
    still = {"max_epochs": 1, "learning_rate": 1e-30}
    with caplog.at_level(logging.WARNING):
        made = go(tmp_path / "on", settings(model={"start_from": one_head}, **still))
    assert "has no head concentration: its weights begin at random" in caplog.text
    before, after = (load_checkpoint(path).model.state_dict() for path in (one_head, made.checkpoint))
    for name in ("head.1.weight", "head.1.bias"):
        assert torch.equal(after[name][:6], before[name]) and len(after[name]) == 7
    assert torch.equal(after["body.1.weight"], before["body.1.weight"])
    assert torch.equal(after["mean"], before["mean"])
    assert read_about(made.checkpoint)["started_from"]["new_heads"] == ["concentration"]


def test_a_users_model_with_a_layer_for_each_head_learns_and_is_started_from(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """What both have keeps its weights, by its name; a head that only one has begins at random, or is left out."""
    name, still = "own_models:Headed", {"max_epochs": 1, "learning_rate": 1e-30}
    both = go(tmp_path / "both", settings(model={"name": name}, max_epochs=15, learning_rate=0.05))
    assert both.history[-1]["tasks"]["concentration"]["r2"] > 0.8 and both.history[-1]["weighted_f1"] > 0.9
    with caplog.at_level(logging.WARNING):
        alone = go(tmp_path / "alone", settings({}, {"name": name, "start_from": both.checkpoint}, **still))
        again = go(tmp_path / "again", settings(BOTH, {"name": name, "start_from": alone.checkpoint}, **still))
    assert "the head concentration of" in caplog.text and "has no head concentration" in caplog.text
    old, less, more = (load_checkpoint(t.checkpoint).model.state_dict() for t in (both, alone, again))
    assert less.keys() < old.keys() == more.keys()
    assert all(torch.equal(less[k], old[k]) and torch.equal(more[k], old[k]) for k in less)
    new = "network.last.concentration.weight"
    assert not torch.equal(more[new], old[new])


def test_heads_keep_their_weights_in_another_order_and_by_another_name(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = build_model(ModelSettings(name="tiny"), (*HEADS, Head("shares", "fractions", 6)))
    save_checkpoint(tmp_path / "m.safetensors", model, dict(ABOUT) | {"legend": "six_classes"})
    start = load_checkpoint(tmp_path / "m.safetensors")
    other = build_model(
        ModelSettings(name="tiny"), (Head("kind", "class", 6), Head("shares", "fractions", 6), HEADS[1])
    )
    assert begin_from(other, start, lambda: pytest.fail("bands are the same")) == Begun()
    old, new = (m.state_dict()["head.1.weight"] for m in (model, other))
    assert torch.equal(new, torch.cat([old[:6], old[7:], old[6:7]]))


def test_a_head_that_is_no_longer_wanted_is_left_out(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    both = go(tmp_path / "both", settings(max_epochs=1)).checkpoint
    with caplog.at_level(logging.WARNING):
        alone = go(tmp_path / "alone", settings({}, {"start_from": both}, max_epochs=1, learning_rate=1e-30)).checkpoint
    assert "the head concentration of" in caplog.text and "is left out" in caplog.text
    old, new = (load_checkpoint(p).model.state_dict()["head.1.weight"] for p in (both, alone))
    assert torch.equal(new, old[:6])


@pytest.mark.parametrize(
    ("tasks", "message"),
    [
        ([{"name": "a", "target": "temperature", "channels": 1}], "the head a for 'temperature', which this floemap"),
        ([{"name": "a", "target": "concentration", "channels": 1}], "has a damaged description"),
        ([HEADS[0].about(), {"name": "c", "target": "concentration", "channels": 2}], "has a damaged description"),
        ([HEADS[0].about(), HEADS[0].about()], "has a damaged description"),
        ([HEADS[0].about(), {"name": "c"}], "has a damaged description"),
        ("both", "has a damaged description"),
        (7, "has a damaged description"),
    ],
)
def test_headers_with_impossible_heads_are_refused(tmp_path: Path, one_head: Path, tasks: Any, message: str) -> None:
    about, tensors = read_about(one_head), from_safetensors(one_head.read_bytes())
    path = tmp_path / "changed.safetensors"
    path.write_bytes(to_safetensors(tensors, {"floemap": json.dumps(about | {"tasks": tasks})}))
    with pytest.raises(ModelError, match=message):
        load_checkpoint(path)


def test_a_header_without_heads_is_one_head_of_classes(one_head: Path) -> None:
    assert heads_in(read_about(one_head)) == (Head("ice_type", "class", 6),)
    with safe_open(one_head, framework="np") as f:
        assert f.get_slice("head.1.weight").get_shape()[0] == 6


# Whole scenes


@pytest.mark.parametrize(("name", "stride"), [("resnet18_aspp", 16), ("unet", 16), ("tiny", 16)])
def test_tiles_equal_one_pass_for_all_heads(name: str, stride: int) -> None:
    torch.manual_seed(1)
    model = build_model(ModelSettings(name=name, output_stride=stride), HEADS)  # type: ignore[arg-type]
    seasoned(model)
    model.set_normalisation((-15.0, -26.0, 34.0), (4.0, 4.0, 7.0))
    model.eval()
    stored = scene("s", 5, (150, 131)).stored
    with torch.no_grad():
        expected = model(physical(torch.from_numpy(stored))[None])[0]
    assert expected.shape == (7, 150, 131)
    with scene_logits(model, array_reader(stored), stored.shape[1:], tile=4) as logits:
        found = torch.cat([logits.rows(row, min(row + 48, 150)) for row in range(0, 150, 48)], dim=1)
        valid = torch.from_numpy(logits.valid(0, 150))
    torch.testing.assert_close(found[:, valid], expected[:, valid], rtol=1e-4, atol=1e-4)


# Refusals


def test_a_target_that_no_training_scene_knows_is_refused(tmp_path: Path) -> None:
    with pytest.raises(
        TrainingError, match=r"no pixel of the training parts \(a, b\) has a polygon of known concentration"
    ):
        go(tmp_path / "run", settings(), known=False)
    with pytest.raises(
        TrainingError, match=r"no pixel of the validation parts \(v\) has a polygon of known concentration"
    ):
        go(tmp_path / "run", settings(), held_known=False)
    without = go(tmp_path / "run", settings({}, max_epochs=1), known=False)  # whoever does not learn it needs none
    assert without.history


def test_parts_without_polygons_are_refused(tmp_path: Path) -> None:
    bare = [scene("a", 1), scene("b", 2)]
    with pytest.raises(ConfigError, match="the head concentration learns from the charts' polygons, which a, b"):
        train(bare, [charted(scene("v", 3))], settings(), SIX_CLASSES, tmp_path / "run", about=ABOUT, device="cpu")


def test_an_own_model_that_lacks_heads_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    class Six(TinyModel):
        def __init__(self, given: ModelSettings, classes: int, *further: Any) -> None:
            super().__init__(given, 6, *further)

    monkeypatch.setattr(models_module, "MODELS", {**WITH_TINY, "six": Six})
    assert build_model(ModelSettings(name="six"), 6).channels == 6
    with pytest.raises(
        ConfigError, match=r"the model six has 6 logits; its heads \(ice_type: 6, concentration: 1\) need 7"
    ):
        build_model(ModelSettings(name="six"), HEADS)


def test_a_training_with_other_tasks_is_another_training(tmp_path: Path) -> None:
    go(tmp_path / "run", settings(max_epochs=1))
    heavier = {"concentration": {"target": "concentration", "weight": 0.7}}
    with pytest.raises(ConfigError, match=r"tasks.concentration.weight \(0.5, now 0.7\)"):
        go(tmp_path / "run", settings(heavier, max_epochs=1))
    with pytest.raises(ConfigError, match="holds a finished training with other"):
        go(tmp_path / "run", settings({}, max_epochs=1))
