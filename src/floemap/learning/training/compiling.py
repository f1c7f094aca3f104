"""Compiles the step of a training on a GPU: forward and backward of the network, and of the sums of the loss.

With torch 2.13.0 on a processor, compiled code that includes torch's bilinear upsampling gave gradients of exactly zero
at several shapes, without any error. Compiled code runs on GPUs only, where upsampling consists of matrix products
(:mod:`floemap.learning.models.upsampling`). Tests compare its gradients with those of plain code, loss by loss; losses
for which they do not are not compiled.
"""

from __future__ import annotations

import copy
import logging
import time
from collections.abc import Callable
from types import MethodType
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from floemap.learning.losses.registry import loss_identity
from floemap.learning.losses.tasks import TaskLosses
from floemap.learning.settings import LearningSettings
from floemap.learning.training.step import BatchSums
from floemap.progress import milestones

logger = logging.getLogger(__name__)

Module = TypeVar("Module", bound=nn.Module)

#: Seconds that compiling a step takes, and that a compiled step saves for each million pixels of its crops: 19 of 59 ms
#: for 24 crops of 1000 x 1000 px, after 20 to 30 s. Measured on an H100 beside 16 processor cores, with torch 2.11; a
#: slower GPU saves more.
COMPILING_S, SAVED_S = 30.0, 0.0008


def compiles(settings: LearningSettings, parts: int, device: torch.device) -> bool:
    """Return whether a training on so many parts is compiled: only on a GPU, as `training.compile` says.

    "auto" compiles if that saves more time than it takes in the shortest training that the settings allow: one in
    which the first validation is the best.
    """
    t, crops = settings.training, settings.crops
    if device.type != "cuda":
        if t.compile is True:
            logger.info("training.compile has an effect on GPUs only and is ignored")
        return False
    if t.compile != "auto":
        return t.compile
    epochs = min(t.max_epochs, t.validate_every * (1 + t.stop_after))
    drawn = epochs * (parts * crops.per_scene // t.batch * t.batch)
    return drawn * crops.side_px**2 / 1e6 * SAVED_S > COMPILING_S


def compiled(network: BatchSums, backend: str | Callable[..., Any] = "inductor") -> BatchSums:
    """Return a view of a network that runs compiled code, and shares all parameters, buffers and modules with it.

    The network itself is not changed: validation has inputs of many shapes and would compile for each of them.
    """
    if loss_is_compiled(network.losses):
        return _view(network, backend)
    plain = copy.copy(network)
    plain._modules = {**network._modules, "model": _view(network.model, backend)}
    return plain


def loss_is_compiled(losses: TaskLosses) -> bool:
    """Return whether tests cover the losses compiled: losses of floemap, the same in every epoch."""
    return all(
        loss_identity(type(t.loss)) is None and not getattr(t.loss.options, "curriculum", ()) for t in losses.tasks
    )


def _view(module: Module, backend: str | Callable[..., Any]) -> Module:
    view, run = copy.copy(module), torch.compile(_forward, backend=backend, dynamic=False)  # all crops have one size

    done: list[float] = []

    def forward(self: Module, *inputs: Tensor | None) -> Any:
        began = time.perf_counter()
        kind = next(x.device.type for x in inputs if x is not None)
        dtype = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else None
        with torch.autocast(kind, enabled=False):
            found = run(self, kind, dtype, *inputs)
        if not done:  # forward and backward are compiled in the first call
            done.append(time.perf_counter() - began)
            milestones.info("the training step was compiled in %.0f s", done[0])
        return found

    view.forward = MethodType(forward, view)
    return view


def _forward(module: nn.Module, kind: str, dtype: torch.dtype | None, *inputs: Tensor | None) -> Any:
    """Call a module under autocast that begins within the compiled code.

    Autocast that is on where compiled code begins would be on in its backward pass, and round the products there that
    are in float32.
    """
    with torch.autocast(kind, dtype, enabled=dtype is not None):
        return type(module).forward(module, *inputs)
