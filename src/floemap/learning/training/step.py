"""One step of a training: forward, loss, backward and optimiser, of a batch at once or in parts one after the other.

A loss is a function of sums over all pixels of a batch (:mod:`floemap.learning.losses.base`). So a batch in parts needs
two passes: the first adds up the sums of all parts, without gradients; the slopes of the loss at these sums then weight
the sums of each part in the second, whose gradients add up to those of the whole batch. They are equal for every loss,
also for one that, as Dice, is not a mean over pixels, as long as the network treats each crop by itself. BatchNorm does
not: its statistics are those of a part.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn
from torch.nn.utils import clip_grad_norm_

from floemap.learning.data.crops import Batch, in_units, units_of
from floemap.learning.data.polygons import Polygons
from floemap.learning.losses.tasks import TaskLosses
from floemap.learning.models.base import SegmentationModel
from floemap.learning.models.precision import without_autocast
from floemap.learning.training.distributed import global_sum

#: Stored bands, labels, and the tensors of the polygons, of a batch or a part of it.
Inputs = tuple[Tensor | None, ...]


class BatchSums(nn.Module):
    """A model with the sums of its losses: all of a step that is computed pixel by pixel, and is worth compiling.

    Parameters
    ----------
    model
        The model.
    losses
        The losses of its heads.
    """

    step: Tensor
    offset: Tensor

    def __init__(self, model: SegmentationModel, losses: TaskLosses) -> None:
        super().__init__()
        self.model = model
        self.losses = losses
        step, offset = units_of(model.bands, model.mean.device)
        self.register_buffer("step", step, persistent=False)
        self.register_buffer("offset", offset, persistent=False)

    def forward(self, stored: Tensor, labels: Tensor, *polygons: Tensor | None) -> list[Tensor]:
        """Return the condensed sums of each head, 1-D each.

        Parameters
        ----------
        stored, labels
            As of :class:`floemap.learning.data.crops.Batch`.
        polygons
            The fields of :class:`Polygons`, or nothing.
        """
        x = in_units(stored, self.step, self.offset).contiguous(memory_format=torch.channels_last)  # NaN for no data
        logits = self.model(x)
        given = Polygons(*polygons) if polygons else None  # type: ignore[arg-type]
        with without_autocast(logits):
            return self.losses.condensed(self.losses.sums(logits, labels, given), given)


def train_step(
    network: nn.Module,
    optimizer: torch.optim.Optimizer,
    losses: TaskLosses,
    batch: Batch,
    fabric: Fabric,
    clip_norm: float | None,
    accumulate: int = 1,
) -> Tensor:
    """Take one step on a batch.

    Return the total loss, the norm of its gradient and the loss of each head, (2 + heads,), on the device, without
    waiting.

    Parameters
    ----------
    network, optimizer
        A :class:`BatchSums` and its optimiser, as fabric has set them up.
    losses
        The losses of the network's heads.
    batch
        This process's share of the batch.
    clip_norm
        Largest norm of the gradient; None does not clip.
    accumulate
        Number of parts in which the batch is computed, one after the other; it divides the number of crops.
    """
    optimizer.zero_grad()
    if accumulate == 1:
        value, each = _loss(losses, network(*inputs_of(batch, fabric.device)))
        fabric.backward(value)
    else:
        parts = [inputs_of(part, fabric.device) for part in batch.parts(accumulate)]
        value, each = _backward_in_parts(network, losses, parts, fabric)
    norm = clip_grad_norm_(network.parameters(), math.inf if clip_norm is None else clip_norm)
    optimizer.step()
    return torch.cat([torch.stack([value.detach(), norm.detach()]), each.detach()])


def inputs_of(batch: Batch, device: torch.device) -> Inputs:
    """Return what :class:`BatchSums` reads of a batch, on a device."""
    stored, labels = (x.to(device, non_blocking=True) for x in (batch.stored, batch.labels))
    return stored, labels, *(() if batch.polygons is None else batch.polygons.to(device).tensors)


def _loss(losses: TaskLosses, sums: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """Return the total loss and that of each head, (heads,), of the whole batch, for this process's sums by head."""
    together = global_sum(sums[0] if len(sums) == 1 else torch.cat(list(sums)))
    each = losses.values(torch.split(together, [len(s) for s in sums]))
    return losses.total(each), each


def _backward_in_parts(
    network: nn.Module, losses: TaskLosses, parts: Sequence[Inputs], fabric: Fabric
) -> tuple[Tensor, Tensor]:
    """Compute the gradients of a batch part by part; return the total loss and that of each head, (heads,)."""
    with torch.no_grad(), _unchanged(network, fabric.device):
        found = [network(*part) for part in parts]
    sums = [torch.stack(of_head).sum(dim=0).requires_grad_() for of_head in zip(*found, strict=True)]
    value, each = _loss(losses, sums)
    slopes = torch.autograd.grad(value, sums)
    for i, part in enumerate(parts):
        # Processes add up their gradients after the last part.
        with fabric.no_backward_sync(network, enabled=i < len(parts) - 1):  # type: ignore[arg-type]
            weighted = [(s * slope).sum() for s, slope in zip(network(*part), slopes, strict=True)]
            fabric.backward(torch.stack(weighted).sum())
    return value, each


@contextmanager
def _unchanged(network: nn.Module, device: torch.device) -> Iterator[None]:
    """Restore BatchNorm's running statistics and the state of the random numbers after the block.

    The second pass then draws the dropout of the first one, and statistics move once for each part.
    """
    before = [x.clone() for x in network.buffers()]
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        yield
    for x, value in zip(network.buffers(), before, strict=True):
        x.copy_(value)
