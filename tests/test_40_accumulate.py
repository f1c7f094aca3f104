"""A batch computed in parts: the gradients of the whole batch, for every loss. Needs no geospatial library."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import pytest
import torch
from tiny_model import scene
from torch import Tensor, nn

from floemap.errors import ConfigError
from floemap.learning.data.crops import Batch
from floemap.learning.data.polygons import Polygons
from floemap.learning.losses import LOSSES, make_loss
from floemap.learning.losses.tasks import Task, TaskLosses
from floemap.learning.losses.values import VALUE_LOSSES
from floemap.learning.models.registry import build_model
from floemap.learning.settings import LossSettings, ModelSettings, TrainingSettings
from floemap.learning.targets import Head
from floemap.learning.training.distributed import make_fabric
from floemap.learning.training.step import BatchSums, train_step
from floemap.legend import IGNORE

pytestmark = pytest.mark.usefixtures("tiny_is_a_model")


def _batch() -> Batch:
    """Four crops, of which each has other classes, and one has hardly any label: no part is like the whole."""
    part = scene("a", 1, (32, 128))
    stored = torch.from_numpy(part.stored).reshape(3, 32, 4, 32).permute(2, 0, 1, 3)
    labels = torch.from_numpy(part.labels).reshape(32, 4, 32).permute(1, 0, 2).contiguous()
    labels[2, 1:] = IGNORE
    labels[3][labels[3] == 2] = 5
    polygons = Polygons.of_labels(labels, 6)
    assert polygons.values is not None
    polygons.values[:, 1:, :] = torch.rand(4, 6, polygons.values.shape[2], generator=torch.Generator().manual_seed(3))
    return Batch(stored, labels, polygons)


def _stepped(losses: TaskLosses, norm: Callable[[int], nn.Module], accumulate: int, batch: Batch) -> tuple[Any, Any]:
    """The numbers of a step and the gradients that it took, with `norm` as normalisation."""
    torch.manual_seed(0)
    model = build_model(ModelSettings(name="tiny", dropout=0.0), sum(t.head.channels for t in losses.tasks)).double()
    cast(nn.Sequential, model.body)[2] = norm(8).double()
    model.set_normalisation([-15, -25, 30], [5, 5, 8])
    fabric = make_fabric("cpu", "fp32")
    network, optimizer = fabric.setup(BatchSums(model, losses), torch.optim.SGD(model.parameters(), lr=0.0))
    numbers = train_step(network, optimizer, losses, batch, fabric, None, accumulate)
    return numbers, {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("name", [n for n in LOSSES if n != "dice"])
def test_gradients_are_those_of_one_batch(name: str) -> None:
    """In float64, to its rounding. The mean of the parts' losses would be another number: the parts differ."""
    losses = TaskLosses.of(make_loss(LossSettings(name=name), 6))
    batch = _batch()
    numbers, gradients = _stepped(losses, nn.InstanceNorm2d, 1, batch)
    each = [_stepped(losses, nn.InstanceNorm2d, 1, part)[0][0] for part in batch.parts(4)]
    assert abs(torch.stack(each).mean() - numbers[0]) > 1e-4
    for parts in (2, 4):
        again, found = _stepped(losses, nn.InstanceNorm2d, parts, batch)
        torch.testing.assert_close(again, numbers, rtol=1e-10, atol=1e-14)
        assert found.keys() == gradients.keys()
        for weight, g in gradients.items():
            assert g.any()
            torch.testing.assert_close(found[weight], g, rtol=1e-8, atol=1e-12)


def test_heads_add_up_too() -> None:
    """Two heads, of which some crops know no value."""
    batch = _batch()
    assert batch.polygons is not None and batch.polygons.values is not None
    batch.polygons.values[1:3] = torch.nan
    value = Task(Head("concentration", "concentration", 1), VALUE_LOSSES["huber"](), 3.0)
    losses = TaskLosses([*TaskLosses.of(make_loss(LossSettings(name="macro_dice"), 6)).tasks, value])
    numbers, gradients = _stepped(losses, nn.InstanceNorm2d, 1, batch)
    again, found = _stepped(losses, nn.InstanceNorm2d, 4, batch)
    torch.testing.assert_close(again, numbers, rtol=1e-10, atol=1e-14)
    for weight, g in gradients.items():
        torch.testing.assert_close(found[weight], g, rtol=1e-8, atol=1e-12)


def test_batch_norm_normalises_by_parts() -> None:
    """As documented: gradients differ, and the running statistics move once for each part, towards the part's."""
    losses = TaskLosses.of(make_loss(LossSettings(), 6))
    norms: list[nn.BatchNorm2d] = []

    def norm(channels: int) -> nn.Module:
        norms.append(nn.BatchNorm2d(channels))
        return norms[-1]

    batch = _batch()
    whole, halves = (_stepped(losses, norm, parts, batch)[1] for parts in (1, 2))
    assert any(not torch.allclose(g, halves[n], rtol=1e-3) for n, g in whole.items())
    assert int(norms[0].num_batches_tracked) == 1 and int(norms[1].num_batches_tracked) == 2


def test_dropout_is_the_same_in_both_passes() -> None:
    """The sums of the first pass are those that the second weights: the loss is that of the gradients."""
    losses = TaskLosses.of(make_loss(LossSettings(name="macro_dice"), 6))
    torch.manual_seed(0)
    model = build_model(ModelSettings(name="tiny", dropout=0.5), 6)
    network = BatchSums(model, losses)
    fabric = make_fabric("cpu", "fp32")
    drawn: list[Tensor] = []
    dropout = cast(nn.Sequential, model.head)[0]
    dropout.register_forward_hook(lambda _, x, y: drawn.append((y == 0).detach()))
    wrapped, optimizer = fabric.setup(network, torch.optim.SGD(model.parameters(), lr=0.1))
    train_step(wrapped, optimizer, losses, _batch(), fabric, None, 2)
    assert torch.equal(drawn[0], drawn[2]) and torch.equal(drawn[1], drawn[3])
    assert not torch.equal(drawn[0], drawn[1])


def test_parts_are_equal() -> None:
    with pytest.raises(ConfigError, match=r"accumulate is 5, which does not divide the batch of 24 crops"):
        TrainingSettings.checked(batch=24, accumulate=5)
