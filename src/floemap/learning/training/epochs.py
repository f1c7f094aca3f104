"""The epochs of a training: steps on batches of crops, validation, schedule, and the state after each epoch."""

from __future__ import annotations

import logging
import math
import time
from typing import Any

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn
from torch.nn.utils import clip_grad_norm_
from torch.optim.lr_scheduler import ReduceLROnPlateau

from floemap.bands import BandSet
from floemap.learning.data.crops import Batch, deal, draw_epoch, physical, torch_seed
from floemap.learning.losses.tasks import TaskLosses
from floemap.learning.training.compiling import compiled_view
from floemap.learning.training.device import for_patches
from floemap.learning.training.distributed import global_sum, on_first, share_batch_norm
from floemap.learning.training.loggers import Loggers, logging_to
from floemap.learning.training.run import Run
from floemap.learning.training.state import STATE, State, check_alike, check_optimizer, save_state, state_errors
from floemap.learning.training.validation import validate
from floemap.progress import BESIDE_BARS, milestones
from floemap.sentinel1.encoding import PRODUCT_BANDS

logger = logging.getLogger(__name__)


def train_epochs(run: Run, state: State) -> str:
    """Train from `state`, which may be new, to the end; return why it ended. The state and the folder are updated."""
    t, model, fabric = run.settings.training, run.model, run.fabric
    # Every epoch has as many batches as this one: batches that cannot be dealt out are refused before the first step.
    deal(draw_epoch(run.data.surveys, run.settings.crops, t.seed, 0), t.batch, fabric.global_rank, fabric.world_size)
    on_gpu = fabric.device.type == "cuda"
    share_batch_norm(model, fabric.device)
    model.to(fabric.device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    adam = torch.optim.Adam(model.parameters(), lr=t.learning_rate, fused=True)
    # Threshold 0: any lower loss counts as lower. torch's default asks for more.
    plateau = ReduceLROnPlateau(
        adam, factor=t.factor, patience=t.patience, threshold=0.0, min_lr=t.min_learning_rate, eps=0.0
    )
    if state.history:
        _resume(run, state, adam, plateau)
    if t.compile and not on_gpu:
        logger.info("training.compile has an effect on GPUs only and is ignored")
    network, optimizer = fabric.setup(compiled_view(model) if t.compile and on_gpu else model, adam)

    first = len(state.history) + 1
    with logging_to(t.loggers, run.out, run.about, first, active=fabric.is_global_zero) as log:
        while len(state.history) < t.max_epochs and state.since_best < t.stop_after:
            began, by_class = time.perf_counter(), dict[str, float | None]()
            with for_patches(fabric.device, t.precision):
                row = _train_epoch(run, network, optimizer, state, log)
            state.weights = {name: x.detach().cpu().clone() for name, x in model.state_dict().items()}
            if row["epoch"] % t.validate_every == 0 or row["epoch"] == t.max_epochs:
                scores, by_class = _validate(run, state)
                for name, numbers in scores.pop("tasks", {}).items():
                    row["tasks"][name] |= numbers
                row |= scores
                plateau.step(row["validation_loss"])
            row["seconds"] = round(time.perf_counter() - began, 3)
            state.history.append(row)
            state.optimizer, state.scheduler = adam.state_dict(), plateau.state_dict()
            on_first(fabric, lambda: save_state(run.out / STATE, state))
            on_first(fabric, lambda: run.update_files(state))
            log.epoch(row, by_class)
            run.log_epoch(state)
    if state.since_best >= t.stop_after:
        of = f" of {t.monitor}" if t.monitor else ""
        return f"the validation loss{of} got no lower in {t.stop_after} validations"
    return f"{t.max_epochs} epochs were asked for"


def _train_epoch(
    run: Run, network: nn.Module, optimizer: torch.optim.Optimizer, state: State, log: Loggers
) -> dict[str, Any]:
    """Train for one epoch, and return its entry of the history, without validation."""
    t, fabric = run.settings.training, run.fabric
    epoch, began = len(state.history) + 1, time.perf_counter()
    # The random numbers of dropout depend on the epoch only, not on what was drawn before.
    torch.manual_seed(torch_seed(t.seed, epoch, fabric.global_rank))
    crops = draw_epoch(run.data.surveys, run.settings.crops, t.seed, epoch - 1)
    mine = deal(crops, t.batch, fabric.global_rank, fabric.world_size)
    tell = run.step_progress(state, len(mine))
    names = run.losses.names if len(run.losses.names) > 1 else []
    losses, each = list[float](), list[list[float]]()
    rate: float = optimizer.param_groups[0]["lr"]
    waited: list[float] = []

    def read(numbers: Tensor) -> None:
        value, norm, *of_heads = numbers.tolist()  # waits for the step that computes them
        losses.append(value)
        each.append(of_heads)
        named = {"the loss": value, "the norm of its gradient": norm}
        run.check_finite(state, named, f"in epoch {epoch}, step {len(losses)}")
        numbered = {"loss": value, "gradient_norm": norm, "learning_rate": rate, "waited_s": waited[len(losses) - 1]}
        numbered |= {f"loss/{name}": x for name, x in zip(names, of_heads, strict=False)}
        log.step((epoch - 1) * len(mine) + len(losses), numbered)
        tell(len(losses), f"loss {sum(losses) / len(losses):.4g}")

    network.train()
    run.losses.set_epoch(epoch - 1)
    before: Tensor | None = None
    asked = time.perf_counter()
    for batch in run.data.source.batches(mine):
        waited.append(time.perf_counter() - asked)
        numbers = train_step(network, optimizer, run.losses, batch, fabric, t.clip_norm, run.model.bands)
        if before is not None:
            read(before)  # one step late, so that a GPU computes the next step meanwhile
        before = numbers
        asked = time.perf_counter()
    assert before is not None  # deal gives at least one batch
    read(before)
    tell(len(losses), "validating")
    by_head = {name: {"loss": sum(x) / len(x)} for name, x in zip(names, zip(*each, strict=True), strict=False)}
    return ({"tasks": by_head} if by_head else {}) | {
        "epoch": epoch,
        "loss": sum(losses) / len(losses),
        "validation_loss": None,
        "weighted_f1": None,
        "macro_f1": None,
        "learning_rate": rate,
        "seconds": 0.0,
        "crops_per_s": round(len(mine) * t.batch / (time.perf_counter() - began), 3),
    }


def train_step(
    network: nn.Module,
    optimizer: torch.optim.Optimizer,
    losses: TaskLosses,
    batch: Batch,
    fabric: Fabric,
    clip_norm: float | None,
    bands: BandSet = PRODUCT_BANDS,
) -> Tensor:
    """Take one step on a batch.

    Return the total loss, the norm of its gradient and the loss of each head, (2 + heads,), on the device, without
    waiting.

    Parameters
    ----------
    network, optimizer
        As fabric has set them up.
    losses
        The losses of the network's heads.
    batch
        This process's share of the batch.
    clip_norm
        Largest norm of the gradient; None does not clip.
    bands
        Bands of the batch, in their steps.
    """
    stored, labels = (x.to(fabric.device, non_blocking=True) for x in (batch.stored, batch.labels))
    polygons = None if batch.polygons is None else batch.polygons.to(fabric.device)
    x = physical(stored, bands).contiguous(memory_format=torch.channels_last)  # float32, NaN for no data
    each = losses(network(x), labels, polygons, reduce=global_sum)  # of the whole batch, on every process
    value = losses.total(each)
    optimizer.zero_grad()
    fabric.backward(value)
    norm = clip_grad_norm_(network.parameters(), math.inf if clip_norm is None else clip_norm)
    optimizer.step()
    return torch.cat([torch.stack([value.detach(), norm.detach()]), each.detach()])


def _validate(run: Run, state: State) -> tuple[dict[str, Any], dict[str, float | None]]:
    """Validate the model, keep its weights if they are the best so far, and return the scores and F1 by class."""
    found = validate(run.model, run.losses, run.data.validation, run.fabric, crops=run.data.fixed)
    monitor = run.settings.training.monitor
    loss = found.loss if monitor is None else found.losses[monitor]
    run.check_finite(state, {"the validation loss": found.loss}, f"after epoch {len(state.history) + 1}")
    if loss < min(state.validations, default=math.inf):
        state.best = state.weights
    scores: dict[str, Any] = {
        "validation_loss": loss,
        "weighted_f1": found.weighted_f1,
        "macro_f1": found.macro_f1,
    }
    if len(found.losses) > 1:
        scores["tasks"] = found.by_head()
    return scores, dict(zip(run.about["class_pixels"], found.f1_by_class, strict=True))


def _resume(run: Run, state: State, adam: torch.optim.Adam, plateau: ReduceLROnPlateau) -> None:
    """Load a state into model, optimiser and schedule, and bring the other files in line with it."""
    with state_errors(run.out / STATE):
        own = adam.state_dict()["param_groups"]
        run.model.load_state_dict(state.weights)
        adam.load_state_dict(state.optimizer)
        check_optimizer(adam, own)
        check_alike(plateau.state_dict(), state.scheduler)
        plateau.load_state_dict(state.scheduler)
        on_first(run.fabric, lambda: run.update_files(state, rewrite=True))
    at_most = run.settings.training.max_epochs
    words = "%s: resuming after epoch %d of at most %d"
    milestones.info(words, run.out, len(state.history), at_most, extra=BESIDE_BARS)
