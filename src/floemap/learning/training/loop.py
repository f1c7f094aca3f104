"""Training, from parts of scenes to a checkpoint: read it from top to bottom.

A plain loop on lightning-fabric, which knows devices, precision and processes. Start it with ``torchrun`` to use
several GPUs or hosts: the batch is shared among them, and losses and weights are those of one process. A run that was
stopped, however it was, is gone on with by the same call: the weights come out the same, to the bit on a CPU.
"""

from __future__ import annotations

import copy
import logging
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn
from torch.nn.utils import clip_grad_norm_
from torch.optim.lr_scheduler import ReduceLROnPlateau

from floemap.errors import TrainingError
from floemap.learning.data.crops import Batch, deal, draw_epoch, physical, torch_seed
from floemap.learning.data.normalisation import pooled_statistics
from floemap.learning.data.training_data import Dataset, Part, check_parts, gather, identities
from floemap.learning.losses.functions import Loss, make_loss
from floemap.learning.models.atrous import describe_rates, warn_of_few_taps, with_rates
from floemap.learning.models.checkpoint import Checkpoint, save_checkpoint
from floemap.learning.models.registry import SegmentationModel, build_model
from floemap.learning.settings import LearningSettings
from floemap.learning.training.compiling import compiled_view
from floemap.learning.training.device import for_patches, memory_said
from floemap.learning.training.distributed import (
    alone_on_first,
    global_sum,
    make_fabric,
    on_first,
    precision_of,
    share_batch_norm,
)
from floemap.learning.training.loggers import TensorBoardLog
from floemap.learning.training.start import about_start, begin_from, read_start
from floemap.learning.training.state import (
    METRICS,
    RECORD,
    STAGE,
    STATE,
    WEIGHTS,
    State,
    check_alike,
    check_optimizer,
    fitting,
    open_folder,
    save_state,
    write_metrics,
)
from floemap.learning.training.validation import validate
from floemap.legend import Legend
from floemap.progress import BESIDE_BARS, Progress, milestones, silent
from floemap.results.stage import provenance, sha256, write_json

logger = logging.getLogger(__name__)

#: Settings that change nothing of what is learnt: a run may be gone on with under others. Files that it starts from are
#: known by what they hold, not by where they lie.
_STARTS = ("encoder_weights", "start_from")
_OF_THE_MACHINE = {"crops": {"source", "workers"}, "training": {"tensorboard"}, "model": {*_STARTS}}


@dataclass(frozen=True)
class Trained:
    """A finished training.

    Attributes
    ----------
    folder
        See :mod:`floemap.learning.training.state`.
    history
        One entry for each epoch: epoch (from 1), loss (mean over its steps), validation_loss, weighted_f1, macro_f1
        (None where it was not validated), learning_rate, seconds, crops_per_s.
    skipped
        It was finished before.
    """

    folder: Path
    history: tuple[dict[str, Any], ...]
    skipped: bool = False

    @property
    def checkpoint(self) -> Path:
        """The model with the lowest validation loss."""
        return self.folder / WEIGHTS

    @property
    def record(self) -> Path:
        """How it was made and how it ended."""
        return self.folder / RECORD


def train(
    training: Sequence[Part],
    validation: Sequence[Part],
    settings: LearningSettings,
    legend: Legend,
    out: str | Path,
    *,
    about: Mapping[str, Any],
    overwrite: bool = False,
    device: str = "auto",
    progress: Progress = silent,
) -> Trained:
    """Train a model, or go on with its training.

    Parameters
    ----------
    training, validation
        Parts of scenes, on disk or in memory; the streamed source needs them on disk.
    settings
        Of model, loss, patches and training.
    legend
        What the labels' classes are.
    out
        Folder that is filled; see :mod:`floemap.learning.training.state`.
    about
        Put into the checkpoint beside what is known here: `resolution_m` and `simulated` are needed; by custom also
        `crs`, and `data`, which tells of the scenes.
    overwrite
        Begin anew, whatever the folder holds. What it holds is lost at once.
    device
        See :func:`floemap.learning.training.distributed.make_fabric`.
    progress
        Is told after each step. The whole is as many steps as are left if the validation loss gets no lower.

    Raises
    ------
    ConfigError
        If settings do not fit each other, the parts or the machine, or the folder holds another training.
    ModelError
        If what it is to start from cannot be read, or is another model.
    TrainingError
        If there is nothing to learn from, or the loss is no number.
    GridError, FloemapError
        If parts cannot be read.
    OutputError
        If results cannot be written. What was written before is kept, and gone on with by the same call. Or if another
        process trains in the folder.
    """
    settings = with_rates(settings)
    out, t = Path(out), settings.training
    check_parts(training, validation, settings, about)
    fabric = make_fabric(device, t.precision)
    inputs = {"training": identities(training), "validation": identities(validation), "legend": legend.name}
    start = read_start(settings.model, legend, about["resolution_m"])
    inputs |= {key: sha256(path) for key in _STARTS if (path := getattr(settings.model, key)) is not None}
    configuration = settings.model_dump(mode="json", exclude=_OF_THE_MACHINE)
    with alone_on_first(fabric, out, "trains in"):
        finished, state = on_first(fabric, lambda: open_folder(out, inputs, configuration, overwrite=overwrite))
        if finished:
            logger.info("%s is finished already", out)
            return Trained(out, tuple(state.history), skipped=True)
        parts = training, validation
        return _go_on(fabric, parts, settings, legend, out, about, inputs, configuration, start, state, progress)


def _go_on(
    fabric: Fabric,
    parts: tuple[Sequence[Part], Sequence[Part]],
    settings: LearningSettings,
    legend: Legend,
    out: Path,
    about: Mapping[str, Any],
    inputs: Mapping[str, Any],
    configuration: Mapping[str, Any],
    start: Checkpoint | None,
    state: State,
    progress: Progress,
) -> Trained:
    """Train from a state, perhaps a new one, to the end; parameters as of :func:`train`."""
    t = settings.training
    warn_of_few_taps(settings.model, settings.crops)
    arithmetic = {"device": fabric.device.type, "precision": precision_of(fabric)}
    if state.arithmetic not in ({}, arithmetic):
        logger.warning(
            "%s was begun with %s and goes on with %s: the weights will not be those of an uninterrupted run",
            out,
            _told(state.arithmetic),
            _told(arithmetic),
        )
    state.arithmetic = arithmetic
    progress(0, 1, "looking at the scenes")
    data = gather(*parts, settings, legend, fabric.device)
    deal(draw_epoch(data.surveys, settings.crops, t.seed, 0), t.batch, fabric.global_rank, fabric.world_size)
    loss = make_loss(settings.loss, len(legend), data.pixels)
    known = dict(about) | {
        "legend": legend.name,
        "inputs": inputs,
        "configuration": configuration,
        "revision": STAGE.revision,
        "class_pixels": {c.key: n for c, n in zip(legend.classes, data.pixels, strict=True)},
        "trained_on": arithmetic | {"processes": fabric.world_size},
        "atrous_branches": describe_rates(settings.model, settings.crops),
    }
    if start is not None:
        known["simulated"] = known["simulated"] or start.simulated
        known["started_from"] = about_start(start)
    # The caller's random numbers go on as if nothing had been drawn here.
    with torch.random.fork_rng([fabric.device] if fabric.device.type == "cuda" else []):
        torch.manual_seed(torch_seed(t.seed))
        model = build_model(settings.model, len(legend))
        if start is None:
            model.set_normalisation(*pooled_statistics(s.sums for s in data.surveys))
        else:
            begin_from(start, model)
        with memory_said(settings, out), _stop_said(out, t.max_epochs):
            why = _fit(_Run(model, loss, data, settings, out, known, fabric, progress), state)
    record = provenance(STAGE, inputs=inputs, configuration=configuration)
    record |= {k: v for k, v in known.items() if k not in record} | {
        "epochs": len(state.history),
        "stopped": why,
        "best": state.best_epoch,
        "seconds": round(sum(row["seconds"] for row in state.history), 1),
        "parameters": sum(p.numel() for p in model.parameters()),
        "normalisation": {"mean": model.mean.tolist(), "std": model.std.tolist()},
    }
    sizes = {name: (out / name).stat().st_size for name in (WEIGHTS, METRICS)} if fabric.is_global_zero else {}
    on_first(fabric, lambda: write_json(out / RECORD, record | {"bytes": sizes}))
    if fabric.is_global_zero and (best := state.best_epoch) is not None:
        milestones.info(
            "%s: finished after %d epochs, since %s; kept are the weights of epoch %d, validation loss %.4g, weighted "
            "F1 %.3f",
            out,
            len(state.history),
            why,
            best["epoch"],
            best["validation_loss"],
            best["weighted_f1"],
            extra=BESIDE_BARS,
        )
    return Trained(out, tuple(state.history))


@contextmanager
def _stop_said(out: Path, epochs: int) -> Iterator[None]:
    """Say what is kept when a person stops a training: epochs that lie on the disk, the last written line last."""
    try:
        yield
    except KeyboardInterrupt:
        done = len((out / METRICS).read_bytes().splitlines()) if (out / METRICS).is_file() else 0
        kept = f"after epoch {done} of at most {epochs}, which is kept: the same call goes on there"
        logger.warning("%s: stopped %s", out, kept if done else "in the first epoch: the same call begins anew")
        raise


@dataclass(frozen=True)
class _Run:
    """What stays the same from the first epoch to the last; `about` is what the checkpoint will say."""

    model: SegmentationModel
    loss: Loss
    data: Dataset
    settings: LearningSettings
    out: Path
    about: Mapping[str, Any]
    fabric: Fabric
    progress: Progress


def _fit(run: _Run, state: State) -> str:
    """Train from where `state` is until it is enough, and say why that was. State and folder are kept up to date."""
    t, model, fabric = run.settings.training, run.model, run.fabric
    on_gpu = fabric.device.type == "cuda"
    share_batch_norm(model, fabric.device)
    model.to(fabric.device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    adam = torch.optim.Adam(model.parameters(), lr=t.learning_rate, fused=True)
    # Threshold 0: any lower loss is lower. torch's default would ask for more.
    plateau = ReduceLROnPlateau(
        adam, factor=t.factor, patience=t.patience, threshold=0.0, min_lr=t.min_learning_rate, eps=0.0
    )
    if state.history:
        with fitting(run.out / STATE):
            own = adam.state_dict()["param_groups"]
            model.load_state_dict(state.weights)
            adam.load_state_dict(state.optimizer)
            check_optimizer(adam, own)
            check_alike(plateau.state_dict(), state.scheduler)
            plateau.load_state_dict(state.scheduler)
            on_first(fabric, lambda: _keep_up(run, state, rewrite=True))
        words = "%s: resuming after epoch %d of at most %d"
        milestones.info(words, run.out, len(state.history), t.max_epochs, extra=BESIDE_BARS)
    if t.compile and not on_gpu:
        logger.info("training.compile is for GPUs: going on without")
    network, optimizer = fabric.setup(compiled_view(model) if t.compile and on_gpu else model, adam)

    board = run.out / "tensorboard" if t.tensorboard and fabric.is_global_zero else None
    with TensorBoardLog(board, len(state.history) + 1) as log:
        while len(state.history) < t.max_epochs and state.since_best < t.stop_after:
            began = time.perf_counter()
            with for_patches(fabric.device, t.precision):
                row = _learn(run, network, optimizer, state)
            state.weights = {name: x.detach().cpu().clone() for name, x in model.state_dict().items()}
            if row["epoch"] % t.validate_every == 0 or row["epoch"] == t.max_epochs:
                row |= _validate(run, state)
                plateau.step(row["validation_loss"])
            row["seconds"] = round(time.perf_counter() - began, 3)
            state.history.append(row)
            state.optimizer, state.scheduler = adam.state_dict(), plateau.state_dict()
            on_first(fabric, lambda: save_state(run.out / STATE, state))
            on_first(fabric, lambda: _keep_up(run, state))
            log.add(row)
            if fabric.is_global_zero:
                milestones.info("%s", _epoch_in_words(state, t.max_epochs))
    if state.since_best >= t.stop_after:
        return f"the validation loss got no lower in {t.stop_after} validations"
    return f"{t.max_epochs} epochs were asked for"


def _learn(run: _Run, network: nn.Module, optimizer: torch.optim.Optimizer, state: State) -> dict[str, Any]:
    """Train for one epoch, and return its entry of the history, not yet validated."""
    t, fabric = run.settings.training, run.fabric
    epoch, began = len(state.history) + 1, time.perf_counter()
    # Dropout's numbers depend on the epoch alone, whatever was drawn before.
    torch.manual_seed(torch_seed(t.seed, epoch, fabric.global_rank))
    crops = draw_epoch(run.data.surveys, run.settings.crops, t.seed, epoch - 1)
    mine = deal(crops, t.batch, fabric.global_rank, fabric.world_size)
    tell = _teller(run, state, len(mine))
    losses: list[float] = []
    network.train()
    for value, norm in run_steps(network, optimizer, run.loss, run.data.source.batches(mine), fabric, t.clip_norm):
        losses.append(value)
        if not (math.isfinite(value) and math.isfinite(norm)):
            what = f"the loss is {value} and the norm of its gradient {norm} in epoch {epoch}, step {len(losses)}"
            raise _broken(what, run.out, state)
        tell(len(losses), f"loss {sum(losses) / len(losses):.4g}")
    tell(len(losses), "validating")
    return {
        "epoch": epoch,
        "loss": sum(losses) / len(losses),
        "validation_loss": None,
        "weighted_f1": None,
        "macro_f1": None,
        "learning_rate": optimizer.param_groups[0]["lr"],
        "seconds": 0.0,
        "crops_per_s": round(len(mine) * t.batch / (time.perf_counter() - began), 3),
    }


def _validate(run: _Run, state: State) -> dict[str, float]:
    """Validate the model as it is, keep its weights if they are the best so far, and return the scores."""
    found = validate(run.model, run.loss, run.data.validation, run.fabric, crops=run.data.fixed)
    if not math.isfinite(found.loss):
        raise _broken(f"the validation loss is {found.loss} after epoch {len(state.history) + 1}", run.out, state)
    if found.loss < min(state.validations, default=math.inf):
        state.best = state.weights
    return {"validation_loss": found.loss, "weighted_f1": found.weighted_f1, "macro_f1": found.macro_f1}


def run_steps(
    network: nn.Module,
    optimizer: torch.optim.Optimizer,
    loss: Loss,
    batches: Iterator[Batch],
    fabric: Fabric,
    clip_norm: float | None,
) -> Iterator[tuple[float, float]]:
    """Take a step for each batch; give each step's loss and norm of the gradient, once the next step is under way.

    So a GPU, which works apart, always has something to do while its numbers are waited for.
    """
    before: Tensor | None = None
    for stored, labels in batches:  # (n, 3, size, size) int16, (n, size, size) uint8
        stored, labels = (x.to(fabric.device, non_blocking=True) for x in (stored, labels))
        x = physical(stored).contiguous(memory_format=torch.channels_last)  # float32, NaN for no data
        value = loss(network(x), labels, reduce=global_sum)  # of the whole batch, on every process
        optimizer.zero_grad()
        fabric.backward(value)
        norm = clip_grad_norm_(network.parameters(), math.inf if clip_norm is None else clip_norm)
        optimizer.step()
        if before is not None:
            yield _numbers(before)
        before = torch.stack([value.detach(), norm.detach()])
    if before is not None:
        yield _numbers(before)


def _epoch_in_words(state: State, at_most: int) -> str:
    row, best = state.history[-1], state.best_epoch
    words = [f"epoch {row['epoch']} of at most {at_most}: loss {row['loss']:.4g}"]
    if row["validation_loss"] is not None:
        words.append(f"validation loss {row['validation_loss']:.4g}, weighted F1 {row['weighted_f1']:.3f}")
    words.append(f"learning rate {row['learning_rate']:.2g}, {row['seconds']:.0f} s")
    if best is not None:
        words.append(f"best so far epoch {best['epoch']}")
    return ", ".join(words)


def _told(arithmetic: Mapping[str, str]) -> str:
    return f"{arithmetic['precision']} on {arithmetic['device']}"


def _numbers(pair: Tensor) -> tuple[float, float]:
    first, second = pair.tolist()
    return first, second


def _teller(run: _Run, state: State, steps: int) -> Callable[[int, str], None]:
    """Return what tells of a step. The end is where training stops if the validation loss gets no lower."""
    t, best, done = run.settings.training, state.best_epoch, len(state.history)
    last = (best["epoch"] if best else t.validate_every) + t.stop_after * t.validate_every
    whole = steps * min(t.max_epochs, last)
    scored = [row["weighted_f1"] for row in state.history if row["weighted_f1"] is not None]
    f1 = f", F1 {scored[-1]:.3f}" if scored else ""
    progress = run.progress if run.fabric.is_global_zero else silent

    def tell(step: int, what: str) -> None:
        progress(done * steps + step, whole, f"epoch {done + 1} of at most {t.max_epochs}: {what}{f1}")

    return tell


def _keep_up(run: _Run, state: State, *, rewrite: bool = False) -> None:
    """Bring best weights and metrics on disk in line with the state, which is written first.

    The weights are written when the last epoch was the best, or if they shall be rewritten: after a kill between two
    writes they may be those of an earlier epoch.
    """
    best = state.best_epoch
    if best is not None and (rewrite or best is state.history[-1]):
        model = copy.deepcopy(run.model)
        model.load_state_dict(state.best)
        save_checkpoint(run.out / WEIGHTS, model, dict(run.about) | {"best": best})
    write_metrics(run.out / METRICS, state.history)


def _broken(what: str, out: Path, state: State) -> TrainingError:
    kept = f"{STATE} there is as it was after epoch {len(state.history)}" if state.history else "no epoch was finished"
    if state.best_epoch is not None:
        kept += f", {WEIGHTS} is the best so far, of epoch {state.best_epoch['epoch']}"
    return TrainingError(
        f"{what}. Training stops; {kept}.",
        path=out,
        hint="In another folder, lower training.learning_rate, set training.clip_norm, or use precision fp32.",
    )
