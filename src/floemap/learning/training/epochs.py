"""The epochs of a training: steps on batches of crops, validation, schedule, and the state after each epoch."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import ReduceLROnPlateau

from floemap.counts import counted
from floemap.errors import ConfigError
from floemap.learning.data.crops import deal, draw_epoch, torch_seed
from floemap.learning.settings import TrainingSettings
from floemap.learning.training.compiling import compiled, compiles
from floemap.learning.training.device import for_patches
from floemap.learning.training.distributed import on_first, share_batch_norm
from floemap.learning.training.loggers import Loggers, logging_to
from floemap.learning.training.run import Run
from floemap.learning.training.saving import Beside, saves_beside, snapshot
from floemap.learning.training.state import (
    STATE,
    State,
    check_alike,
    check_optimizer,
    copied_weights,
    save_state,
    state_errors,
)
from floemap.learning.training.step import BatchSums, train_step
from floemap.learning.training.validation import validate
from floemap.learning.training.within import Position, Saving
from floemap.progress import BESIDE_BARS, milestones
from floemap.stopping import saves_first


def train_epochs(run: Run, state: State) -> str:
    """Train from `state`, which may be new, to the end; return why it ended. The state and the folder are updated."""
    t, model, fabric = run.settings.training, run.model, run.fabric
    # Every epoch has as many batches as this one: batches that cannot be dealt out are refused before the first step.
    crops = draw_epoch(run.data.surveys, run.settings.crops, t.seed, 0)
    _check_share(t, len(deal(crops, t.batch, fabric.global_rank, fabric.world_size)[0]))
    share_batch_norm(model, fabric.device)
    model.to(fabric.device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    adam = torch.optim.Adam(model.parameters(), lr=t.learning_rate, fused=True)
    # Threshold 0: any lower loss counts as lower. torch's default asks for more.
    plateau = ReduceLROnPlateau(
        adam, factor=t.factor, patience=t.patience, threshold=0.0, min_lr=t.min_learning_rate, eps=0.0
    )
    if state.history or state.within:
        _resume(run, state, adam, plateau)
    sums = BatchSums(model, run.losses)
    if compiles(run.settings, len(run.data.surveys), fabric.device):
        sums = compiled(sums)
    network, optimizer = fabric.setup(sums, adam)

    first, beside = len(state.history) + 1, Beside(at_once=not saves_beside(fabric.device))
    saving = Saving(run, state, adam, plateau, beside.wait)
    logs = logging_to(t.loggers, run.out, run.about, first, active=fabric.is_global_zero)
    with saves_first(), logs as log, beside:
        while len(state.history) < t.max_epochs and state.since_best < t.stop_after:
            began, by_class = time.perf_counter(), dict[str, float | None]()
            with for_patches(fabric.device, t.precision):
                row = _train_epoch(run, network, optimizer, state, log, saving)
            state.weights = copied_weights(model)
            if row["epoch"] % t.validate_every == 0 or row["epoch"] == t.max_epochs:
                scores, by_class = _validate(run, state)
                for name, numbers in scores.pop("tasks", {}).items():
                    row["tasks"][name] |= numbers
                row |= scores
                plateau.step(row["validation_loss"])
            row["seconds"] = round(row["seconds"] + time.perf_counter() - began, 3)
            state.history.append(row)
            state.within = {}
            state.optimizer, state.scheduler = adam.state_dict(), plateau.state_dict()
            _save(run, state, beside)
            log.epoch(row, by_class)
            run.log_epoch(state)
            saving.after_epoch()
    if state.since_best >= t.stop_after:
        of = f" of {t.monitor}" if t.monitor else ""
        return f"the validation loss{of} got no lower in {t.stop_after} validations"
    return f"{counted(t.max_epochs, 'epoch was|epochs were')} asked for"


def _save(run: Run, state: State, beside: Beside) -> None:
    """Write the state and what follows from it; errors of the epoch before are raised in all processes."""

    def begin() -> None:
        beside.wait()
        saved = snapshot(state) if saves_beside(run.fabric.device) else state

        def write() -> None:
            save_state(run.out / STATE, saved)
            run.update_files(saved)

        beside.begin(write)

    on_first(run.fabric, begin)


def read_every(device: torch.device) -> int:
    """Return after how many steps their losses are read and checked, for which a GPU has to be waited for."""
    return 16 if device.type == "cuda" else 1


def _check_share(t: TrainingSettings, crops: int) -> None:
    """Refuse a process's share of a batch that cannot be divided into equal parts."""
    if crops % t.accumulate:
        raise ConfigError(
            f"training.accumulate is {t.accumulate}, but a process has {crops} of the {t.batch} crops of a batch.",
            hint="Choose a number of processes with which each has a multiple of training.accumulate.",
        )


def _train_epoch(
    run: Run, network: nn.Module, optimizer: torch.optim.Optimizer, state: State, log: Loggers, saving: Saving
) -> dict[str, Any]:
    """Train for one epoch, or what is left of it, and return its entry of the history, without validation.

    Its seconds are those that earlier runs have spent on it.
    """
    t, fabric = run.settings.training, run.fabric
    epoch, began = len(state.history) + 1, time.perf_counter()
    # The random numbers of dropout depend on the epoch only, not on what was drawn before.
    torch.manual_seed(torch_seed(t.seed, epoch, fabric.global_rank))
    crops = draw_epoch(run.data.surveys, run.settings.crops, t.seed, epoch - 1)
    mine = deal(crops, t.batch, fabric.global_rank, fabric.world_size)
    tell = run.step_progress(state, len(mine))
    names = run.losses.names if len(run.losses.names) > 1 else []
    with state_errors(run.out / STATE):
        at = Position.of(state, len(mine))
    losses, each, done, spent = at.losses, at.each, len(at.losses), at.seconds
    rate: float = optimizer.param_groups[0]["lr"]
    waited = [0.0] * done

    def read(steps: Sequence[Tensor]) -> None:
        for numbers in torch.stack(list(steps)).tolist():  # waits for these steps
            take(*numbers)

    def take(value: float, norm: float, *of_heads: float) -> None:
        losses.append(value)
        each.append(list(of_heads))
        named = {"the loss": value, "the norm of its gradient": norm}
        run.check_finite(state, named, f"in epoch {epoch}, step {len(losses)}")
        numbered = {"loss": value, "gradient_norm": norm, "learning_rate": rate, "waited_s": waited[len(losses) - 1]}
        numbered |= {f"loss/{name}": x for name, x in zip(names, of_heads, strict=False)}
        log.step((epoch - 1) * len(mine) + len(losses), numbered)
        tell(len(losses), f"loss {sum(losses) / len(losses):.4g}")

    network.train()
    run.losses.set_epoch(epoch - 1)
    every = read_every(fabric.device)
    unread: list[Tensor] = []
    asked = time.perf_counter()
    for batch in run.data.source.batches(mine[done:]):
        waited.append(time.perf_counter() - asked)
        numbers = train_step(network, optimizer, run.losses, batch, fabric, t.clip_norm, t.accumulate)
        if len(unread) == every:  # one step late, so that a GPU computes the last step meanwhile
            read(unread)
            unread = []
        unread.append(numbers)
        if saving.due():
            read(unread)
            unread = []
            saving.save(replace(at, seconds=spent + time.perf_counter() - began))
        asked = time.perf_counter()
    if unread:
        read(unread)
    tell(len(losses), "validating")
    by_head = {name: {"loss": sum(x) / len(x)} for name, x in zip(names, zip(*each, strict=True), strict=False)}
    return ({"tasks": by_head} if by_head else {}) | {
        "epoch": epoch,
        "loss": sum(losses) / len(losses),
        "validation_loss": None,
        "weighted_f1": None,
        "macro_f1": None,
        "learning_rate": rate,
        "seconds": spent,
        "crops_per_s": round(len(mine) * t.batch / (spent + time.perf_counter() - began), 3),
    }


def _validate(run: Run, state: State) -> tuple[dict[str, Any], dict[str, float | None]]:
    """Validate the model, keep its weights if they are the best so far, and return the scores and F1 by class."""
    data = run.data
    found = validate(run.model, run.losses, data.validation, run.fabric, crops=data.fixed, resident=data.resident)
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
        done = len(state.within["losses"]) if state.within else 0
    at_most = run.settings.training.max_epochs
    words = "%s: resuming after epoch %d of at most %d" + (f" and {done} steps" if done else "")
    milestones.info(words, run.out, len(state.history), at_most, extra=BESIDE_BARS)
