"""States that are saved beside the next epoch, as on a GPU: the same files, and no error is lost."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_model import ABOUT, scene, tiny_settings

from floemap.errors import OutputError, TrainingError
from floemap.learning.training import epochs as epochs_module
from floemap.learning.training import step as step_module
from floemap.learning.training.loop import Trained, train
from floemap.learning.training.saving import Beside, saves_beside, snapshot
from floemap.learning.training.state import State, load_state, save_state
from floemap.legend import SIX_CLASSES

pytestmark = pytest.mark.usefixtures("tiny_is_a_model")


@pytest.fixture
def beside(monkeypatch: pytest.MonkeyPatch) -> None:
    """The processor does as a GPU does."""
    monkeypatch.setattr(epochs_module, "saves_beside", lambda device: True)


def go(out: Path, epochs: int = 3) -> Trained:
    parts = [scene("a", 1), scene("b", 2)]
    return train(parts, [scene("v", 3)], tiny_settings(max_epochs=epochs), SIX_CLASSES, out, about=ABOUT, device="cpu")


def test_where() -> None:
    assert saves_beside(torch.device("cuda")) and not saves_beside(torch.device("cpu"))


def test_files_are_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, beside: None) -> None:
    """Those of a training that waits, though each file is written late, when the next epoch has changed the weights."""
    with monkeypatch.context() as waits:
        waits.setattr(epochs_module, "saves_beside", lambda device: False)
        go(tmp_path / "waits")
    stepped = threading.Event()
    step = step_module.train_step

    def late(path: Path, state: State) -> None:
        assert threading.current_thread() is not threading.main_thread()
        stepped.wait(5 if len(state.history) < 3 else 0)
        stepped.clear()
        save_state(path, state)

    def noted(*args: Any) -> Any:
        found = step(*args)
        stepped.set()
        return found

    monkeypatch.setattr(epochs_module, "save_state", late)
    monkeypatch.setattr(epochs_module, "train_step", noted)
    go(tmp_path / "beside")
    one, other = (load_state(tmp_path / name / "state.pt") for name in ("waits", "beside"))
    assert one.weights.keys() == other.weights.keys()
    for group in ("weights", "best"):
        assert all(torch.equal(x, getattr(other, group)[name]) for name, x in getattr(one, group).items())
    for number, moments in one.optimizer["state"].items():
        assert all(torch.equal(x, other.optimizer["state"][number][name]) for name, x in moments.items())
    assert one.scheduler == other.scheduler and len(other.history) == 3
    files = ["model.safetensors", "metrics.jsonl", "state.pt", "training.json"]
    assert sorted(p.name for p in (tmp_path / "beside").iterdir()) == sorted(files)


def test_errors_of_saving_end_the_training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, beside: None) -> None:
    """In the next epoch, or after the last one."""
    for broken in (1, 3):

        def full(path: Path, state: State, broken: int = broken) -> None:
            if len(state.history) == broken:
                raise OutputError("no space is left", path=path)
            save_state(path, state)

        monkeypatch.setattr(epochs_module, "save_state", full)
        with pytest.raises(OutputError, match="no space is left"):
            go(tmp_path / str(broken))
        assert (tmp_path / str(broken) / "state.pt").exists() is (broken == 3)


def test_the_error_of_the_training_comes_first(caplog: pytest.LogCaptureFixture) -> None:
    def fail() -> None:
        raise OutputError("no space is left")

    with pytest.raises(TrainingError, match="the loss is nan"), Beside(at_once=False) as saving:
        saving.begin(fail)
        raise TrainingError("the loss is nan")
    assert "no space is left" in caplog.text


def test_a_snapshot_stays_as_it_is() -> None:
    weight = torch.nn.Parameter(torch.ones(3))
    adam = torch.optim.Adam([weight], lr=0.1)
    weight.sum().backward()
    adam.step()
    state = State({}, {}, [{"epoch": 1}], optimizer=adam.state_dict(), scheduler={"best": [1.0]})
    copied = snapshot(state)
    before = copied.optimizer["state"][0]["exp_avg"].clone()
    adam.step()
    state.history[0]["epoch"] = 2
    state.scheduler["best"].append(0.5)
    assert torch.equal(copied.optimizer["state"][0]["exp_avg"], before)
    assert copied.history == [{"epoch": 1}] and copied.scheduler == {"best": [1.0]}
