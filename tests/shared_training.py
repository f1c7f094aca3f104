"""Trains on several processes; run by test_47_distributed.py with torchrun.

    torchrun --standalone --nproc_per_node=2 tests/shared_training.py FOLDER

Each process writes what it found to FOLDER/rank<N>.json.
"""

from __future__ import annotations

import copy
import errno
import json
import os
import sys
import warnings
from pathlib import Path
from typing import Any, cast

import torch
from tiny_model import ABOUT, WITH_TINY, charted, scene, tiny_settings
from torch import Tensor, nn

import floemap.learning.models.registry as models_module
from floemap.errors import ConfigError, OutputError, TrainingError
from floemap.learning.data.crops import Batch
from floemap.learning.data.parts import PartArrays
from floemap.learning.data.polygons import Polygons
from floemap.learning.losses import LOSSES, make_loss
from floemap.learning.losses.tasks import TaskLosses
from floemap.learning.models.registry import build_model
from floemap.learning.settings import CropSettings, LearningSettings, LossSettings, ModelSettings, TrainingSettings
from floemap.learning.training.distributed import SharedBatchNorm2d, global_sum, make_fabric, on_first, share_batch_norm
from floemap.learning.training.loop import Trained, train
from floemap.learning.training.step import BatchSums, inputs_of, train_step
from floemap.legend import IGNORE, SIX_CLASSES

#: A real model at a small size; batches of 5 do not divide by 2.
SETTINGS = LearningSettings(
    loss=LossSettings(name="dice"),
    crops=CropSettings(size_px=32, per_scene=6, flips=True),
    training=TrainingSettings(batch=5, learning_rate=1e-4, max_epochs=3, precision="fp32"),
)


def held_out() -> list[PartArrays]:
    return [scene("v", 3, (64, 48)), scene("w", 4, (33, 80)), scene("x", 5, (48, 48))]


def go(out: Path, settings: LearningSettings = SETTINGS) -> Trained:
    parts = [scene("a", 1), scene("b", 2)]
    return train(parts, held_out(), settings, SIX_CLASSES, out, about=ABOUT, device="cpu")


def go_with_heads(out: Path) -> Trained:
    """Two heads, of which the second knows its value in some of the parts only, and so in few crops of a process."""
    tasks = {"concentration": {"target": "concentration", "weight": 3}}
    given = LearningSettings.checked(**(tiny_settings(batch=5, max_epochs=2).model_dump() | {"tasks": tasks}))
    parts = [charted(scene("a", 1)), charted(scene("b", 2), known=False)]
    held = [charted(part, known=i != 1) for i, part in enumerate(held_out())]
    return train(parts, held, given, SIX_CLASSES, out, about=ABOUT, device="cpu")


def relative(a: Tensor, b: Tensor) -> float:
    return float(((a - b).norm() / b.norm()).detach())


def gradients_differ(rank: int, ranks: int) -> dict[str, float]:
    """By loss: the largest relative difference of a gradient from that of one process, in float64."""
    fabric = make_fabric("cpu", "fp32")
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(5, 3, 16, 16, generator=generator, dtype=torch.float64) + torch.arange(5.0)[:, None, None, None]
    labels = torch.randint(0, 6, (5, 16, 16), generator=generator, dtype=torch.uint8)
    labels[:2, :9] = IGNORE  # the processes have different numbers of labels
    mine = slice(5 * rank // ranks, 5 * (rank + 1) // ranks)
    polygons = mixed_polygons(generator)
    mine_too = Polygons(*(x[mine] for x in (polygons.ids, polygons.shares, polygons.candidates, polygons.pixels)))
    found = {}
    for name in LOSSES:
        torch.manual_seed(1)
        alone = build_model(ModelSettings(name="tiny"), 6).double()
        shared = copy.deepcopy(alone)
        share_batch_norm(shared, torch.device("cpu"))
        assert any(isinstance(m, SharedBatchNorm2d) for m in shared.modules())
        network, _ = fabric.setup(shared, torch.optim.SGD(shared.parameters(), 0.1))
        loss = make_loss(LossSettings(name=name), 6)
        value = loss(alone(x), labels, polygons)
        value.backward()
        # Around fabric's wrapper, which would make float32 of it.
        shared_value = loss(network._forward_module(x[mine]), labels[mine], mine_too, reduce=global_sum)
        fabric.backward(shared_value)
        assert abs(float(shared_value.detach()) - float(value.detach())) < 1e-12
        pairs = zip(shared.parameters(), alone.parameters(), strict=True)
        found[name] = max(relative(p.grad, q.grad) for p, q in pairs if p.grad is not None and q.grad is not None)
        assert all(p.grad is not None for p in shared.parameters())
    return found


def parts_differ(rank: int, ranks: int) -> float:
    """Largest relative difference of a gradient of a batch in parts, shared by the processes, from that of one process.

    In float64, without BatchNorm, of a loss that is not a mean over pixels.
    """
    fabric = make_fabric("cpu", "fp32")
    generator = torch.Generator().manual_seed(2)
    stored = torch.randint(-3000, -1000, (4 * ranks, 3, 16, 16), generator=generator, dtype=torch.int16)
    labels = torch.randint(0, 6, (4 * ranks, 16, 16), generator=generator, dtype=torch.uint8)
    labels[:2, :9] = IGNORE
    whole = Batch(stored, labels)
    losses = TaskLosses.of(make_loss(LossSettings(name="macro_dice"), 6))
    torch.manual_seed(1)
    alone = build_model(ModelSettings(name="tiny", dropout=0.0), 6)
    cast(nn.Sequential, alone.body)[2] = nn.InstanceNorm2d(8)
    shared = copy.deepcopy(alone.double())
    value = losses.total(losses.values(BatchSums(alone, losses)(*inputs_of(whole, fabric.device))))
    value.backward()
    network, optimizer = fabric.setup(BatchSums(shared, losses), torch.optim.SGD(shared.parameters(), 0.0))
    numbers = train_step(network, optimizer, losses, whole.parts(ranks)[rank], fabric, None, 2)
    assert abs(float(numbers[0]) - float(value.detach())) < 1e-12
    pairs = zip(shared.parameters(), alone.parameters(), strict=True)
    return max(relative(p.grad, q.grad) for p, q in pairs if p.grad is not None and q.grad is not None)


def mixed_polygons(generator: torch.Generator) -> Polygons:
    """Polygons of several types, and of one, in five crops; some pixels have none."""
    ids = torch.randint(0, 4, (5, 16, 16), generator=generator).to(torch.int16)
    shares = torch.rand(5, 4, 6, generator=generator, dtype=torch.float64)
    shares /= shares.sum(dim=2, keepdim=True)
    shares[:, 3] = torch.eye(6, dtype=torch.float64)[2]
    shares[:, 0] = 0
    return Polygons(ids, shares, shares > 0, torch.full((5, 4), 90.0, dtype=torch.float64))


def batch_norm_differs(rank: int, ranks: int) -> dict[str, float]:
    """Largest relative differences of outputs, gradients and running statistics from torch's own on all of it."""
    torch.manual_seed(0)
    x = torch.randn(5, 4, 6, 7, dtype=torch.float64) * 3 + 100  # far from 0: sums of squares would lose digits
    mine = slice(5 * rank // ranks, 5 * (rank + 1) // ranks)
    whole, part = x.clone().requires_grad_(), x[mine].clone().requires_grad_()
    alone = nn.BatchNorm2d(4).double()
    with torch.no_grad():
        alone.weight.normal_()
        alone.bias.normal_()
    outer = nn.Sequential(copy.deepcopy(alone))
    share_batch_norm(outer, torch.device("cpu"))
    weights = torch.randn(x.shape, dtype=torch.float64)
    expected, got = alone(whole), outer(part)
    (expected * weights).sum().backward()
    (got * weights[mine]).sum().backward()
    assert whole.grad is not None and part.grad is not None
    assert outer.state_dict().keys() == nn.Sequential(alone).state_dict().keys()
    outer.eval()
    alone.eval()
    return {
        "output": relative(got, expected[mine]),
        "gradient": relative(part.grad, whole.grad[mine]),
        "mean": relative(outer[0].running_mean, alone.running_mean),  # type: ignore[arg-type]
        "variance": relative(outer[0].running_var, alone.running_var),  # type: ignore[arg-type]
        "in evaluation": relative(outer(part), alone(part)),
    }


def errors(rank: int, folder: Path) -> dict[str, str]:
    """What each process is told when something goes wrong, perhaps on the first one only."""
    told = {}
    small = SETTINGS.model_copy(update={"training": SETTINGS.training.model_copy(update={"batch": 1})})
    try:
        go(folder / "small", small)
    except ConfigError as e:
        told["small batch"] = str(e)
    real = os.fsync

    def full(file: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    if rank == 0:
        vars(os)["fsync"] = full
    try:
        go(folder / "full")
    except OutputError as e:
        told["full disk"] = str(e)
    os.fsync = real
    fabric = make_fabric("cpu", "fp32")
    try:
        on_first(fabric, lambda: fail(rank))
    except TrainingError as e:
        told["on the first"] = str(e)
    return told


def fail(rank: int) -> None:
    raise TrainingError(f"rank {rank} failed", path="here", hint="Do this.")


def main(folder: Path) -> None:
    warnings.simplefilter("error")
    torch.set_num_threads(1)
    models_module.MODELS = WITH_TINY
    rank, ranks = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    found: dict[str, Any] = {"gradients": gradients_differ(rank, ranks), "norm": batch_norm_differs(rank, ranks)}
    found["parts"] = parts_differ(rank, ranks)
    trained = go(folder / "shared")
    found["history"] = trained.history
    found["heads"] = go_with_heads(folder / "heads").history
    found["again"] = go(folder / "shared").skipped
    found["errors"] = errors(rank, folder)
    (folder / f"rank{rank}.json").write_text(json.dumps(found))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
