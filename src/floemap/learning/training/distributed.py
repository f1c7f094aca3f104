"""Training on several processes with the result of one process: differentiable global sums, synchronised BatchNorm.

The result is exact because a loss is a function of sums over the whole batch, and every process computes it from the
same global sums. With W processes, the backward pass of each all-reduce adds the gradients of W equal losses, and
DistributedDataParallel's mean over processes divides by W again.

Start the processes with ``torchrun``, or as tasks of SLURM's ``srun``; :mod:`floemap.learning.training.launched` reads
the rank of each from the environment.
"""

from __future__ import annotations

import atexit
import logging
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any, Literal, TypeVar, cast

import torch
import torch.distributed as dist
from lightning_fabric import Fabric
from lightning_fabric.plugins.environments.lightning import LightningEnvironment
from lightning_fabric.plugins.environments.torchelastic import TorchElasticEnvironment
from lightning_fabric.strategies.ddp import DDPStrategy
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from floemap.errors import ConfigError, FloemapError
from floemap.learning.data.host_memory import Neighbours
from floemap.learning.models.precision import at_least_float32
from floemap.learning.training.launched import first_address, place
from floemap.learning.whole_scene.pieces import Precision, choose_precision
from floemap.results.stage import alone_in

T = TypeVar("T")

# Importing fabric makes torch create a folder for compiled code among the temporary files. torch creates it again if
# it needs it.
_COMPILED = Path(os.environ.get("TORCHINDUCTOR_CACHE_DIR", ""))
if _COMPILED.name.startswith("torchinductor_"):
    with suppress(OSError):  # a folder that is not empty stays
        _COMPILED.rmdir()


def make_fabric(device: str = "auto", precision: Precision = "auto") -> Fabric:
    """Start fabric on a device, in each of the processes that were launched together.

    Parameters
    ----------
    device
        ``auto`` (a GPU if there is one), ``cpu``, ``cuda``, or a certain GPU such as ``cuda:1``. If there are several
        processes, each uses the GPU of its local rank.
    precision
        See :func:`floemap.learning.whole_scene.pieces.choose_precision`.

    Raises
    ------
    ConfigError
        If there is no such device, or the environment does not give the rank of each of several processes.
    """
    wanted = ("cuda" if torch.cuda.is_available() else "cpu") if device == "auto" else device
    try:
        chosen = torch.device(wanted)
    except RuntimeError:
        raise ConfigError(f"no device is called {device!r}.", hint="Use auto, cpu, cuda, or cuda:1.") from None
    if chosen.type not in ("cpu", "cuda"):
        raise ConfigError(f"training on {device!r} is not supported.", hint="Use auto, cpu, cuda, or cuda:1.")
    if chosen.type == "cuda" and (chosen.index or 0) >= torch.cuda.device_count():
        raise ConfigError(
            f"there is no {device}: torch sees {torch.cuda.device_count()} GPUs.", hint="Use auto or cpu."
        )
    arithmetic = "bf16-mixed" if choose_precision(precision, chosen) == "bf16" else "32-true"
    options: dict[str, Any] = {"accelerator": chosen.type, "precision": arithmetic}
    here = place()
    if here.world > 1:
        if chosen.type == "cuda" and torch.cuda.device_count() < here.local_world:
            raise ConfigError(
                f"{here.local_world} processes were started on this host, where {torch.cuda.device_count()} GPUs are "
                "visible.",
                hint="Start one process for each GPU, and make all GPUs visible to each: `srun --gpu-bind=none`.",
            )
        os.environ.update(here.variables(*first_address()))
        # The buffers of BatchNorm are equal in all processes already.
        strategy = DDPStrategy(forward_sync_buffers=False, gradient_as_bucket_view=True)
        options |= {"devices": here.local_world, "num_nodes": here.world // here.local_world, "strategy": strategy}
        options["plugins"] = [TorchElasticEnvironment()]  # it reads the variables set above
    else:
        options["devices"] = [chosen.index or 0] if chosen.type == "cuda" else 1
        options["plugins"] = [LightningEnvironment()]  # keeps fabric from guessing from the environment
    logging.getLogger("lightning_fabric").setLevel(logging.WARNING)  # its messages repeat what the record says
    logging.getLogger("lightning_fabric.utilities.rank_zero").setLevel(logging.WARNING)
    fabric = Fabric(**options)
    fabric.launch()
    if here.world > 1:
        atexit.unregister(_leave)
        atexit.register(_leave)
    return fabric


def _leave() -> None:
    """Leave the group of processes before Python ends.

    Otherwise gloo's threads outlive Python, and may abort the process ("terminate called without an active exception"):
    torchrun then counts a finished training as failed.
    """
    if dist.is_initialized():
        dist.destroy_process_group()


def precision_of(fabric: Fabric) -> Literal["bf16", "fp32"]:
    """Return the precision in which fabric computes."""
    with fabric.autocast():
        return "bf16" if torch.is_autocast_enabled(fabric.device.type) else "fp32"


def on_first(fabric: Fabric, work: Callable[[], T]) -> T:
    """Call `work` in the first process only; return its result, or raise its error, in all processes."""
    done: T | FloemapError | None = None
    if fabric.is_global_zero:
        try:
            done = work()
        except FloemapError as e:
            done = e
    result = fabric.broadcast(done)
    if isinstance(result, FloemapError):
        raise result
    return cast(T, result)


@contextmanager
def alone_on_first(fabric: Fabric, folder: Path, doing: str) -> Iterator[None]:
    """Lock a folder while the block runs; the first process holds the lock for all of them.

    See :func:`floemap.results.stage.alone_in`.

    Raises
    ------
    OutputError
        In all processes, if another run holds the lock.
    """
    with ExitStack() as stack:
        on_first(fabric, lambda: stack.enter_context(alone_in(folder, doing)))
        yield


def several() -> bool:
    """Return whether the training has more than one process."""
    return dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1


def gathered(found: Sequence[T]) -> list[T]:
    """Return what all processes have found, in the order of their ranks."""
    if not several():
        return list(found)
    each: list[list[T]] = [[] for _ in range(dist.get_world_size())]
    dist.all_gather_object(each, list(found))
    return [one for of_process in each for one in of_process]


def neighbours(fabric: Fabric) -> Neighbours:
    """Return the processes of the training, as the reading of scenes needs them."""
    here = place()
    first = fabric.global_rank - here.local_rank
    return Neighbours(lambda given: gathered([given]), fabric.global_rank, first, here.local_world)


def global_sum(x: Tensor) -> Tensor:
    """Return the sum of a tensor over all processes, differentiable in each; with one process, `x` itself."""
    return cast(Tensor, _AllReduce.apply(x)) if several() else x  # type: ignore[no-untyped-call]


class _AllReduce(torch.autograd.Function):
    """The sum over processes. Its gradient is the sum of the gradients over processes."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        total = x.clone(memory_format=torch.contiguous_format)
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        total = grads[0].clone(memory_format=torch.contiguous_format)
        dist.all_reduce(total)
        return total


class SharedBatchNorm2d(nn.BatchNorm2d):
    """BatchNorm over the batch of all processes, on any device. torch's own SyncBatchNorm supports GPUs only.

    The variance is the mean square of the deviations from the mean. The mean of squares minus the square of the mean
    would lose digits.
    """

    def forward(self, input: Tensor) -> Tensor:
        """Normalise (N, C, H, W) per channel."""
        if not self.training or not several():
            return super().forward(input)
        x = at_least_float32(input)
        count = global_sum(x.new_tensor(x.numel() // x.shape[1]))
        mean = global_sum(x.sum((0, 2, 3))) / count
        centred = x - mean[:, None, None]
        variance = global_sum(centred.square().sum((0, 2, 3))) / count
        self._remember(mean.detach(), variance.detach() * count / (count - 1))
        scaled = centred * (variance + self.eps).rsqrt()[:, None, None]
        if self.affine:
            scaled = scaled * self.weight[:, None, None] + self.bias[:, None, None]
        return scaled.to(input.dtype)

    @torch.no_grad()
    def _remember(self, mean: Tensor, unbiased_variance: Tensor) -> None:
        """Update the running statistics as torch's BatchNorm does."""
        if self.running_mean is None or self.running_var is None or self.num_batches_tracked is None:
            return
        self.num_batches_tracked += 1
        weight = 1 / float(self.num_batches_tracked) if self.momentum is None else self.momentum
        self.running_mean.lerp_(mean.to(self.running_mean), weight)
        self.running_var.lerp_(unbiased_variance.to(self.running_var), weight)


def share_batch_norm(model: nn.Module, device: torch.device) -> None:
    """Replace every BatchNorm of a model, in place, by one over all processes; parameters keep names and values.

    With one process nothing changes.

    Raises
    ------
    ConfigError
        If there is a normalisation over the batch of another kind, whose statistics would differ by process.
    """
    if not several():
        return
    for name, child in model.named_children():
        if isinstance(child, _BatchNorm) and type(child) not in (nn.BatchNorm2d, nn.SyncBatchNorm, SharedBatchNorm2d):
            raise ConfigError(
                f"{name} in the model is a {type(child).__name__}, which several processes cannot share.",
                hint="Train in one process, or use torch.nn.BatchNorm2d.",
            )
        if type(child) is nn.BatchNorm2d:
            setattr(model, name, _shared(child, device))
        else:
            share_batch_norm(child, device)


def _shared(norm: nn.BatchNorm2d, device: torch.device) -> nn.Module:
    if device.type == "cuda":
        return nn.SyncBatchNorm.convert_sync_batchnorm(norm)  # type: ignore[no-untyped-call,no-any-return]
    shared = SharedBatchNorm2d(norm.num_features, norm.eps, norm.momentum, norm.affine, norm.track_running_stats)
    like = next(iter(norm.state_dict().values()))
    shared.to(like.device, like.dtype)
    shared.load_state_dict(norm.state_dict())
    return shared
