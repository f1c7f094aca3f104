"""One training on several processes gives what one process gives: sums that gradients pass through, shared BatchNorm.

What makes it exact: a loss is a function of sums over the whole batch, so it is computed on every process from the
same global sums. With W processes, the backward pass of each all-reduce adds up W equal losses' gradients, and
DistributedDataParallel's mean over processes divides by W again.

Start them with ``torchrun``, or as tasks of SLURM's ``srun``: :mod:`floemap.learning.training.launched` reads which is
which.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator
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

from floemap.errors import ConfigError, FloemapError
from floemap.learning.models.base import at_least_float32
from floemap.learning.training.launched import first_address, place
from floemap.learning.whole_scene.stages import Precision, choose_precision
from floemap.results.stage import alone_in

T = TypeVar("T")

# Importing fabric makes torch make a folder for what it compiles, beside temporary files. It is made again if needed.
_COMPILED = Path(os.environ.get("TORCHINDUCTOR_CACHE_DIR", ""))
if _COMPILED.name.startswith("torchinductor_"):
    with suppress(OSError):  # where it holds something, it stays
        _COMPILED.rmdir()


def make_fabric(device: str = "auto", precision: Precision = "auto") -> Fabric:
    """Start fabric on a device, on all processes that were started together.

    Parameters
    ----------
    device
        ``auto``: a GPU if there is one; ``cpu``; ``cuda``; or one GPU such as ``cuda:1``. Of several processes each
        takes the GPU of its local rank.
    precision
        As :func:`floemap.learning.whole_scene.stages.choose_precision` takes it.

    Raises
    ------
    ConfigError
        If there is no such device, or processes were started together that do not say which each of them is.
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
                f"{here.local_world} processes on this host see {torch.cuda.device_count()} GPUs.",
                hint="Start one for each GPU, and let each see all of the host's: with `srun --gpu-bind=none`.",
            )
        os.environ.update(here.variables(*first_address()))
        # BatchNorm's buffers are equal everywhere already.
        strategy = DDPStrategy(forward_sync_buffers=False, gradient_as_bucket_view=True)
        options |= {"devices": here.local_world, "num_nodes": here.world // here.local_world, "strategy": strategy}
        options["plugins"] = [TorchElasticEnvironment()]  # it reads the variables, whoever set them
    else:
        options["devices"] = [chosen.index or 0] if chosen.type == "cuda" else 1
        options["plugins"] = [LightningEnvironment()]  # not whatever else fabric finds in the environment
    logging.getLogger("lightning_fabric").setLevel(logging.WARNING)  # it tells on stderr what is in the record anyway
    logging.getLogger("lightning_fabric.utilities.rank_zero").setLevel(logging.WARNING)
    fabric = Fabric(**options)
    fabric.launch()
    return fabric


def precision_of(fabric: Fabric) -> Literal["bf16", "fp32"]:
    """Return the precision that fabric computes in."""
    with fabric.autocast():
        return "bf16" if torch.is_autocast_enabled(fabric.device.type) else "fp32"


def on_first(fabric: Fabric, work: Callable[[], T]) -> T:
    """Do something on the first process only, and return its result, or raise its error, on all of them."""
    done: T | FloemapError | None = None
    if fabric.is_global_zero:
        try:
            done = work()
        except FloemapError as e:
            done = e
    told = fabric.broadcast(done)
    if isinstance(told, FloemapError):
        raise told
    return cast(T, told)


@contextmanager
def alone_on_first(fabric: Fabric, folder: Path, doing: str) -> Iterator[None]:
    """Hold a folder by the first process, for all of them, while the block runs; see
    :func:`floemap.results.stage.alone_in`.

    Raises
    ------
    OutputError
        On all processes, if somebody else holds it.
    """
    with ExitStack() as stack:
        on_first(fabric, lambda: stack.enter_context(alone_in(folder, doing)))
        yield


def several() -> bool:
    """Whether there are other processes."""
    return dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1


def global_sum(x: Tensor) -> Tensor:
    """Sum a tensor over all processes; gradients flow back to each process's own. With one process: `x` itself."""
    return cast(Tensor, _AllReduce.apply(x)) if several() else x  # type: ignore[no-untyped-call]


class _AllReduce(torch.autograd.Function):
    """The sum over processes, whose gradient is the sum over processes of the gradients."""

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
    """BatchNorm over the batch of all processes, on any device. torch's own SyncBatchNorm knows GPUs only.

    Mean first, then the mean square of what differs from it: with the mean of squares, two large numbers would be
    subtracted.
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
        """Move the running statistics, as torch's BatchNorm does."""
        if self.running_mean is None or self.running_var is None or self.num_batches_tracked is None:
            return
        self.num_batches_tracked += 1
        weight = 1 / float(self.num_batches_tracked) if self.momentum is None else self.momentum
        self.running_mean.lerp_(mean.to(self.running_mean), weight)
        self.running_var.lerp_(unbiased_variance.to(self.running_var), weight)


def share_batch_norm(model: nn.Module, device: torch.device) -> None:
    """Make every BatchNorm of a model one over all processes, in place; names and values of parameters stay.

    Nothing changes where there is one process.
    """
    if not several():
        return
    for name, child in model.named_children():
        if isinstance(child, nn.BatchNorm2d):
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
