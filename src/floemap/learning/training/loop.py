"""Training, from parts of scenes to a checkpoint: :func:`train`, then the epochs, then one step.

The loop runs on lightning-fabric, which handles devices, precision and processes. Start it with ``torchrun`` to use
several GPUs or hosts: the processes share each batch, and losses and weights are those of a single process. To resume
an interrupted run, repeat the call. On a CPU the resulting weights are bit-identical to those of an uninterrupted run.
"""

from __future__ import annotations

import copy
import logging
import math
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn
from torch.nn.utils import clip_grad_norm_
from torch.optim.lr_scheduler import ReduceLROnPlateau

from floemap.bands import BandSet
from floemap.learning.data.crops import Batch, deal, draw_epoch, physical, torch_seed
from floemap.learning.data.normalisation import pooled_statistics
from floemap.learning.data.parts import with_common_bands
from floemap.learning.data.training_data import Dataset, Part, check_parts, gather, identities
from floemap.learning.losses.registry import loss_class
from floemap.learning.losses.tasks import TaskLosses, reads_polygons, task_losses
from floemap.learning.losses.tasks import identities as loss_identities
from floemap.learning.models.atrous import describe_rates, warn_of_few_taps, with_rates
from floemap.learning.models.checkpoint import Checkpoint, begin_from, read_start
from floemap.learning.models.checkpoint_header import SCENES, about_start, describe_legend
from floemap.learning.models.foreign import warn_of_reach
from floemap.learning.models.own import is_own, origin
from floemap.learning.models.registry import build_model, check_model
from floemap.learning.settings import LearningSettings
from floemap.learning.targets import heads_of
from floemap.learning.training.calibrate import calibrate, describe_scenes
from floemap.learning.training.compiling import compiled_view
from floemap.learning.training.device import for_patches, memory_errors
from floemap.learning.training.distributed import (
    alone_on_first,
    global_sum,
    make_fabric,
    on_first,
    precision_of,
    share_batch_norm,
)
from floemap.learning.training.launched import place
from floemap.learning.training.loggers import Loggers, logger_classes, logging_to
from floemap.learning.training.run import Run
from floemap.learning.training.state import (
    METRICS,
    RECORD,
    STAGE,
    STATE,
    WEIGHTS,
    State,
    check_alike,
    check_optimizer,
    open_folder,
    save_state,
    state_errors,
)
from floemap.learning.training.validation import validate
from floemap.legend import Legend
from floemap.own_legends import identity, with_table
from floemap.progress import BESIDE_BARS, Progress, milestones, silent
from floemap.results.stage import provenance, sha256, write_json
from floemap.sentinel1.encoding import PRODUCT_BANDS

logger = logging.getLogger(__name__)

#: Files that a training starts from. They are identified by their content, not by their path.
_STARTS = ("encoder_weights", "start_from")
#: Settings that do not change what is learnt: a run may be resumed with other values of them.
_OF_THE_MACHINE = {"crops": {"source", "workers"}, "training": {"loggers"}, "model": {*_STARTS}}


@dataclass(frozen=True)
class Trained:
    """A finished training.

    Attributes
    ----------
    folder
        Folder of the training; see :mod:`floemap.learning.training.state`.
    history
        One entry for each epoch: epoch (from 1), loss (mean over its steps), validation_loss, weighted_f1, macro_f1
        (None if the epoch was not validated), learning_rate, seconds, crops_per_s. With several heads also tasks: for
        each head its loss and, if the epoch was validated, validation_loss and the scores of values (r2, rmse, mae,
        bias). loss and validation_loss are then the totals, or validation_loss that of training.monitor.
    skipped
        True if the training was already finished, so that nothing was done.
    """

    folder: Path
    history: tuple[dict[str, Any], ...]
    skipped: bool = False

    @property
    def checkpoint(self) -> Path:
        """Path of the model with the lowest validation loss."""
        return self.folder / WEIGHTS

    @property
    def record(self) -> Path:
        """Path of the record: how the training was made and how it ended."""
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
    """Train a model, or resume its training.

    Parameters
    ----------
    training, validation
        Parts of scenes, on disk or in memory. The streamed source needs them on disk.
    settings
        Settings of model, loss, crops and training.
    legend
        Legend of the labels.
    out
        Folder for the results; see :mod:`floemap.learning.training.state`.
    about
        Entries for the header of the checkpoint. `resolution_m` and `simulated` are required; usual are also `crs`,
        and `data`, a description of the scenes.
    overwrite
        Start again, whatever the folder holds. Its previous training is deleted at once.
    device
        See :func:`floemap.learning.training.distributed.make_fabric`.
    progress
        Progress callback, called as progress(step, steps, message) after each step. The number of steps is what
        remains if the validation loss does not improve again.

    Raises
    ------
    ConfigError
        If settings do not fit each other, the parts or the machine, or the folder holds a different training.
    ModelError
        If the file to start from cannot be read, or is a different model.
    TrainingError
        If there is nothing to learn from, or the loss is not finite.
    GridError, FloemapError
        If parts cannot be read.
    OutputError
        If results cannot be written (what was written before is kept, and the same call resumes from it), or if
        another process trains in the folder.
    """
    place()  # refuses processes without ranks
    settings = with_rates(settings)
    out, t = Path(out), settings.training
    check_model(settings.model)
    logger_classes(t.loggers)  # what is missing is reported before any work
    heads = heads_of(settings.tasks, len(legend))
    task_losses(settings, len(legend), [1] * len(legend))  # likewise
    check_parts(training, validation, settings, about, reads_polygons(settings))
    parts, bands = with_common_bands([*training, *validation])
    training, validation = parts[: len(training)], parts[len(training) :]
    fabric = make_fabric(device, t.precision)
    inputs: dict[str, Any] = {
        "training": identities(training),
        "validation": identities(validation),
        "legend": identity(legend),
    }
    if bands != PRODUCT_BANDS:  # records of trainings on the product's bands do not name them
        inputs["bands"] = bands.record()
    start = read_start(settings.model, legend, about["resolution_m"], bands)
    inputs |= loss_identities(settings)
    if is_own(settings.model.name):
        inputs |= origin(settings.model.name).inputs()
    inputs |= {key: sha256(path) for key in _STARTS if (path := getattr(settings.model, key)) is not None}
    configuration = _configuration(settings)
    with alone_on_first(fabric, out, "trains in"):
        finished, state = on_first(fabric, lambda: open_folder(out, inputs, configuration, overwrite=overwrite))
        if finished:
            logger.info("%s is finished already", out)
            return Trained(out, tuple(state.history), skipped=True)
        warn_of_few_taps(settings.model, settings.crops)
        _note_arithmetic(state, fabric, out)
        progress(0, 1, "reading the scenes")
        shares_for = settings.loss.name if loss_class(settings.loss.name).reads_polygons else ""
        data = gather(training, validation, settings, legend, fabric.device, shares_for)
        header = _header(settings, legend, data, fabric, state, about, start)
        header |= {"inputs": inputs, "configuration": configuration}
        # The random numbers of the caller are not touched.
        with torch.random.fork_rng([fabric.device] if fabric.device.type == "cuda" else []):
            torch.manual_seed(torch_seed(t.seed))
            model = build_model(settings.model, heads, bands, crop_px=settings.crops.side_px)
            if model.described:
                header["whole_scenes"] = model.described["whole_scenes"]
                warn_of_reach(model, settings.crops)
            if start is None:
                model.set_normalisation(*pooled_statistics((s.sums for s in data.surveys), bands))
            elif new := begin_from(model, start):  # with its normalisation, which its weights were trained with
                header["started_from"]["new_heads"] = list(new)
            losses = task_losses(settings, len(legend), data.pixels, order=legend.by_thickness)
            run = Run(model, losses, data, settings, out, header, fabric, progress)
            with memory_errors(settings, out), _note_stop(out, t.max_epochs):
                why = _train_epochs(run, state)
                run = _calibrated(run, state, training)
        _finish(run, state, why)
    return Trained(out, tuple(state.history))


def _configuration(settings: LearningSettings) -> dict[str, Any]:
    """Return the settings that identify a training.

    Those that older versions did not have are left out where they are not set: such trainings remain the same.
    """
    configuration = settings.model_dump(mode="json", exclude=_OF_THE_MACHINE)
    if not settings.tasks:
        del configuration["tasks"]
    if not settings.model.options:
        del configuration["model"]["options"]
    if settings.training.monitor is None:
        del configuration["training"]["monitor"]
    return configuration


@contextmanager
def _note_stop(out: Path, epochs: int) -> Iterator[None]:
    """Report what is kept when a person stops a training: the epochs on the disk."""
    try:
        yield
    except KeyboardInterrupt:
        done = len((out / METRICS).read_bytes().splitlines()) if (out / METRICS).is_file() else 0
        kept = f"after epoch {done} of at most {epochs}, which is kept: repeat the call to resume"
        logger.warning("%s: stopped %s", out, kept if done else "in the first epoch: nothing is kept")
        raise


def _train_epochs(run: Run, state: State) -> str:
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


def _calibrated(run: Run, state: State, training: Sequence[Part]) -> Run:
    """Measure how far to trust the best weights, write it beside them, and return the run with it in its header."""
    if not run.settings.training.calibrate or state.best_epoch is None:
        return run
    model = copy.deepcopy(run.model)
    model.load_state_dict(state.best)
    found = calibrate(model, run.data.validation, run.fabric)
    seed = run.settings.training.seed
    scenes = on_first(run.fabric, lambda: describe_scenes(training, run.data.validation, seed))
    run = replace(run, about=dict(run.about) | {"calibration": found, SCENES: scenes})
    on_first(run.fabric, lambda: run.update_files(state, rewrite=True))
    if run.fabric.is_global_zero:
        if "reason" in found:
            logger.warning("%s: the probabilities are not calibrated, because %s", run.out, found["reason"])
        else:
            words = "%s: temperature %g, from %d validation polygons; mean log loss %.4g, %.4g without it"
            before, after = found["log_loss"]
            milestones.info(words, run.out, found["temperature"], found["polygons"], after, before, extra=BESIDE_BARS)
    return run


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


def _note_arithmetic(state: State, fabric: Fabric, out: Path) -> None:
    """Put device and precision into the state; warn if the training was begun with others."""
    now = {"device": fabric.device.type, "precision": precision_of(fabric)}
    if state.arithmetic not in ({}, now):
        before, after = (f"{x['precision']} on {x['device']}" for x in (state.arithmetic, now))
        logger.warning(
            "%s was begun with %s and is resumed with %s: the weights will differ from those of an uninterrupted run",
            out,
            before,
            after,
        )
    state.arithmetic = now


def _header(
    settings: LearningSettings,
    legend: Legend,
    data: Dataset,
    fabric: Fabric,
    state: State,
    about: Mapping[str, Any],
    start: Checkpoint | None,
) -> dict[str, Any]:
    """Return what the checkpoint says of its training, beside inputs and configuration."""
    header = dict(about) | {
        "legend": describe_legend(legend) if with_table(legend) else legend.name,
        "revision": STAGE.revision,
        "class_pixels": {c.key: n for c, n in zip(legend.classes, data.pixels, strict=True)},
        "trained_on": state.arithmetic | {"processes": fabric.world_size},
        "atrous_branches": describe_rates(settings.model, settings.crops),
    }
    if start is not None:
        header["simulated"] = header["simulated"] or start.simulated
        header["started_from"] = about_start(start.about, start.path)
    return header


def _finish(run: Run, state: State, why: str) -> None:
    """Write the record of a finished training, and log the result."""
    out, fabric = run.out, run.fabric
    record = provenance(STAGE, inputs=run.about["inputs"], configuration=run.about["configuration"])
    record |= {k: v for k, v in run.about.items() if k not in {*record, SCENES}} | {
        "epochs": len(state.history),
        "stopped": why,
        "best": state.best_epoch,
        "seconds": round(sum(row["seconds"] for row in state.history), 1),
        "parameters": sum(p.numel() for p in run.model.parameters()),
        "normalisation": {"mean": run.model.mean.tolist(), "std": run.model.std.tolist()},
    }
    sizes = {name: (out / name).stat().st_size for name in (WEIGHTS, METRICS)} if fabric.is_global_zero else {}
    on_first(fabric, lambda: write_json(out / RECORD, record | {"bytes": sizes}))
    if fabric.is_global_zero and (best := state.best_epoch) is not None:
        milestones.info(
            "%s: finished after %d epochs because %s; the weights of epoch %d are kept, with validation loss %.4g and "
            "weighted F1 %.3f",
            out,
            len(state.history),
            why,
            best["epoch"],
            best["validation_loss"],
            best["weighted_f1"],
            extra=BESIDE_BARS,
        )
