"""Two processes on this machine, started with torchrun, train as one does."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import shared_training
import torch
from tiny_model import WITH_TINY

import floemap.learning.models.registry as models_module
from floemap.learning.losses import LOSSES
from floemap.learning.models.checkpoint import load_checkpoint
from floemap.learning.training.calibrate import calibrate
from floemap.learning.training.distributed import SharedBatchNorm2d, global_sum, make_fabric, several, share_batch_norm
from floemap.learning.training.loop import Trained

PROCESSES = 2


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What tests/shared_training.py left."""
    out = tmp_path_factory.mktemp("shared")
    program = Path(__file__).with_name("shared_training.py")
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={PROCESSES}"]
    ran = subprocess.run(
        [*command, str(program), str(out)], capture_output=True, text=True, env=os.environ | {"OMP_NUM_THREADS": "1"}
    )
    assert ran.returncode == 0, ran.stderr
    return out


@pytest.fixture(scope="module")
def found(folder: Path) -> list[dict[str, Any]]:
    """By process."""
    return [json.loads((folder / f"rank{r}.json").read_text()) for r in range(PROCESSES)]


@pytest.fixture(scope="module")
def alone(folder: Path) -> Trained:
    """The same training by this process."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    trained = shared_training.go(folder / "alone")
    torch.set_num_threads(threads)
    return trained


def test_gradients_of_a_batch_in_parts_are_those_of_one_process(found: list[dict[str, Any]]) -> None:
    for process in found:
        assert process["parts"] < 1e-9


@pytest.mark.parametrize("loss", LOSSES)
def test_gradients_are_those_of_one_process(found: list[dict[str, Any]], loss: str) -> None:
    for process in found:
        assert process["gradients"][loss] < 1e-9


@pytest.mark.parametrize("what", ["output", "gradient", "mean", "variance", "in evaluation"])
def test_batch_norm_is_that_of_the_whole_batch(found: list[dict[str, Any]], what: str) -> None:
    for process in found:
        assert process["norm"][what] < 1e-10


def test_loss_curve_is_that_of_one_process(found: list[dict[str, Any]], alone: Trained) -> None:
    for process in found:
        for one, shared in zip(alone.history, process["history"], strict=True):
            assert shared["loss"] == pytest.approx(one["loss"], rel=1e-3)
            assert shared["validation_loss"] == pytest.approx(one["validation_loss"], rel=5e-3)
            assert shared["learning_rate"] == one["learning_rate"]


def test_two_heads_learn_as_in_one_process(
    folder: Path, found: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where the processes know the value of different numbers of pixels."""
    monkeypatch.setattr(models_module, "MODELS", WITH_TINY)
    alone = shared_training.go_with_heads(folder / "heads alone")
    for process in found:
        for one, shared in zip(alone.history, process["heads"], strict=True):
            assert list(shared["tasks"]) == ["ice_type", "concentration"]
            for name, numbers in shared["tasks"].items():
                assert numbers == pytest.approx(one["tasks"][name], rel=5e-3)
            assert shared["loss"] == pytest.approx(one["loss"], rel=1e-3)
            assert shared["validation_loss"] == pytest.approx(one["validation_loss"], rel=5e-3)
    assert found[0]["heads"][-1]["tasks"] == found[1]["heads"][-1]["tasks"]
    mine, theirs = (load_checkpoint(path).model for path in (alone.checkpoint, folder / "heads" / "model.safetensors"))
    assert theirs.heads == mine.heads and len(theirs.heads) == 2
    for name, weight in mine.state_dict().items():
        torch.testing.assert_close(theirs.state_dict()[name], weight, rtol=1e-2, atol=1e-3)


def test_processes_agree_to_the_bit(found: list[dict[str, Any]]) -> None:
    keys = ("loss", "validation_loss", "weighted_f1", "macro_f1")
    curves = [[[row[k] for k in keys] for row in process["history"]] for process in found]
    assert curves[0] == curves[1]


def test_one_process_writes_and_all_may_come_again(folder: Path, found: list[dict[str, Any]], alone: Trained) -> None:
    files = {p.name for p in (folder / "shared").iterdir()}
    assert files == {p.name for p in alone.folder.iterdir()}
    lines = (folder / "shared" / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line) for line in lines] == found[0]["history"]
    assert [process["again"] for process in found] == [True, True]


def test_checkpoint_is_that_of_a_model_without_shared_parts(folder: Path, alone: Trained) -> None:
    shared = load_checkpoint(folder / "shared" / "model.safetensors")
    assert shared.about["trained_on"]["processes"] == PROCESSES
    assert not any(isinstance(m, SharedBatchNorm2d) for m in shared.model.modules())
    one = load_checkpoint(alone.checkpoint).model.state_dict()
    moved = torch.cat([(one[k] - x).flatten().abs() for k, x in shared.model.state_dict().items() if x.ndim == 4])
    assert moved.max() < 5 * shared_training.SETTINGS.training.learning_rate  # rounding turns a few of Adam's steps


def test_the_checkpoint_is_calibrated_on_the_validation_parts_of_all_processes(folder: Path, alone: Trained) -> None:
    """Its temperature is that which one process finds for its weights."""
    shared = load_checkpoint(folder / "shared" / "model.safetensors")
    one = calibrate(shared.model, shared_training.held_out(), make_fabric("cpu", "fp32"))
    said = shared.about["calibration"]
    assert said["polygons"] == one["polygons"] and said["pixels"] == one["pixels"] and said["parts"] == one["parts"]
    assert said["temperature"] == pytest.approx(one["temperature"], rel=1e-3)


def test_every_process_is_told_of_errors(found: list[dict[str, Any]]) -> None:
    for process in found:
        told = process["errors"]
        assert "training.batch is 1, but there are 2 processes" in told["small batch"]
        assert "No space left on device" in told["full disk"]
        assert told["on the first"] == "here: rank 0 failed Do this."


def test_alone_nothing_is_shared() -> None:
    make_fabric("cpu", "fp32")
    model = torch.nn.Sequential(torch.nn.BatchNorm2d(2))
    share_batch_norm(model, torch.device("cpu"))
    assert not several()
    assert type(model[0]) is torch.nn.BatchNorm2d
    x = torch.ones(2, requires_grad=True)
    assert global_sum(x) is x


def test_nothing_is_left_among_temporary_files(tmp_path: Path) -> None:
    """As torch does where it is imported with what compiles."""
    environment = {k: v for k, v in os.environ.items() if k != "TORCHINDUCTOR_CACHE_DIR"} | {"TMPDIR": str(tmp_path)}
    code = "import floemap.learning.training.loop"
    subprocess.run([sys.executable, "-W", "ignore", "-c", code], check=True, env=environment)
    assert list(tmp_path.iterdir()) == []
