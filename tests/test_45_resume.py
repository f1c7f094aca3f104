"""A training that is stopped, by whatever and whenever, and started again ends as one that was never stopped."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_model import ABOUT, WITH_TINY, scene, tiny_settings, written_file

from floemap.errors import OutputError, TrainingError
from floemap.learning.models.checkpoint import load_checkpoint
from floemap.learning.settings import LearningSettings
from floemap.learning.training.loop import Trained, train
from floemap.learning.training.state import load_state, save_state
from floemap.legend import SIX_CLASSES

FILES = ["metrics.jsonl", "model.safetensors", "state.pt", "training.json"]
#: Moments of tests/killed_training.py, how the run ends there, and what is certainly there then.
KILLED = {
    "in a step": ["metrics.jsonl", "model.safetensors", "state.pt"],
    "Ctrl-C in a step": ["metrics.jsonl", "model.safetensors", "state.pt"],
    "within the first epoch": ["state.pt"],
    "within a later epoch": ["metrics.jsonl", "model.safetensors", "state.pt"],
    "SIGTERM within an epoch": ["metrics.jsonl", "model.safetensors", "state.pt"],
    "SIGUSR1 within the first epoch": ["state.pt"],
    "in a validation": ["metrics.jsonl", "model.safetensors", "state.pt"],
    "in the first writing of the state": [],
    "in a later writing of the state": ["metrics.jsonl", "model.safetensors", "state.pt"],
    "between state and checkpoint": ["state.pt"],
    "between checkpoint and metrics": ["model.safetensors", "state.pt"],
    "before the record": ["metrics.jsonl", "model.safetensors", "state.pt"],
}


@pytest.fixture(scope="module")
def killed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What tests/killed_training.py found."""
    program = Path(__file__).with_name("killed_training.py")
    folder = tmp_path_factory.mktemp("killed")
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    ran = subprocess.run(
        [sys.executable, "-W", "error", str(program), str(folder)], capture_output=True, text=True, env=environment
    )
    assert ran.returncode == 0, ran.stderr
    found: dict[str, Any] = json.loads(ran.stdout.splitlines()[-1])
    return found


def test_run_that_is_killed_from_is_a_real_one(killed: dict[str, Any]) -> None:
    assert killed["whole"] == killed["real_whole"] == 0
    assert killed["files"] == FILES
    assert killed["rates"] == pytest.approx([1e-3, 1e-3, 1e-3, 1e-4])  # its state is in play


@pytest.mark.parametrize("moment", KILLED)
def test_killed_and_started_again_gives_the_same_bits(killed: dict[str, Any], moment: str) -> None:
    found = killed[moment]
    assert found["ended"] == (130 if "Ctrl-C" in moment else 75 if "SIG" in moment else -9)
    # Progress is told one step late: a signal then comes in the second and last step, after which the state is saved.
    assert found["steps"] == (0 if "within" not in moment else 2 if "SIG" in moment else 1)
    assert [name for name in found["left"] if not name.startswith(".")] == KILLED[moment]
    assert found["went on"] == 0
    assert found["same"]  # weights, best weights, Adam's state, metrics
    assert found["files"] == FILES  # torn files are gone


def test_torn_files_are_what_the_kill_leaves(killed: dict[str, Any]) -> None:
    torn = [name for name in killed["in a later writing of the state"]["left"] if name.startswith(".state.pt.")]
    assert len(torn) == 1


def test_real_model_killed_anywhere_again_and_again_gives_the_same_bits(killed: dict[str, Any]) -> None:
    assert killed["anywhere"]["went on"] == 0
    assert set(killed["anywhere"]["ended"]) <= {-9, 0}
    assert killed["anywhere"]["same"]


@pytest.mark.parametrize(
    "within",
    [
        {"losses": [1.0]},
        {"losses": 1},
        {"losses": [1.0] * 9},
        {"each": []},
        {"random": torch.zeros(3)},
        {"seconds": "x"},
    ],
)
def test_a_damaged_position_in_an_epoch_is_refused(within: dict[str, Any], tmp_path: Path) -> None:
    settings = tiny_settings(max_epochs=2)
    go(tmp_path, tiny_settings(max_epochs=1))
    (tmp_path / "training.json").unlink()
    state = load_state(tmp_path / "state.pt")
    state.configuration["training"]["max_epochs"] = 2
    whole = {"losses": [1.0], "each": [[1.0]], "seconds": 1.0, "random": torch.get_rng_state()}
    state.within = whole | within if "losses" not in within or within["losses"] != [1.0] else within
    save_state(tmp_path / "state.pt", state)
    with pytest.raises(TrainingError, match="not a state of this training"):
        go(tmp_path, settings)


# A full disk


@pytest.fixture(autouse=True)
def tiny_is_a_model(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("floemap.learning.models.registry.MODELS", WITH_TINY)


def go(out: Path, settings: LearningSettings) -> Trained:
    parts = [scene("a", 1), scene("b", 2)]
    return train(parts, [scene("v", 3)], settings, SIX_CLASSES, out, about=ABOUT, device="cpu")


@pytest.mark.parametrize(
    ("name", "time", "done"),
    [("state.pt", 1, 0), ("state.pt", 2, 1), ("model.safetensors", 1, 1), ("metrics.jsonl", 1, 1)],
)
def test_full_disk_is_said_and_what_was_written_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, time: int, done: int
) -> None:
    settings = tiny_settings(max_epochs=3)
    whole = go(tmp_path / "whole", settings)
    written: list[str] = []
    real = os.fsync

    def fsync(file: int) -> None:
        written.append(written_file(file))
        if written.count(name) == time:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        real(file)

    with monkeypatch.context() as full:
        full.setattr(os, "fsync", fsync)
        with pytest.raises(OutputError, match="No space left on device") as e:
            go(tmp_path / "run", settings)
    assert e.value.path == tmp_path / "run" / name
    assert "Free some space" in str(e.value)
    assert not list((tmp_path / "run").glob(".*"))
    if done:  # what is there is whole
        assert len(load_state(tmp_path / "run" / "state.pt").history) == done
    if time == 2:
        load_checkpoint(tmp_path / "run" / "model.safetensors")
    after = go(tmp_path / "run", settings)
    a, b = (load_checkpoint(t.checkpoint).model.state_dict() for t in (whole, after))
    assert all(torch.equal(a[k], b[k]) for k in a)
    assert [x["loss"] for x in after.history] == [x["loss"] for x in whole.history]
