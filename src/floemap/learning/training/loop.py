"""Training, from parts of scenes to a checkpoint: folder, data and model, then the epochs, then the calibration.

Training runs on lightning-fabric, which handles devices, precision and processes. Start it with ``torchrun`` to use
several GPUs or hosts: the processes share each batch, and losses and weights are those of a single process. To resume
an interrupted run, repeat the call. On a CPU the resulting weights are bit-identical to those of an uninterrupted run.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch

from floemap.learning.data.crops import torch_seed
from floemap.learning.data.normalisation import pooled_statistics
from floemap.learning.data.parts import with_common_bands
from floemap.learning.data.training_data import Part, check_parts, gather
from floemap.learning.losses.registry import loss_class
from floemap.learning.losses.tasks import reads_polygons, task_losses
from floemap.learning.models.atrous import warn_of_few_taps, with_rates
from floemap.learning.models.foreign import warn_of_reach
from floemap.learning.models.registry import build_model, check_model
from floemap.learning.models.start import begin_from, read_start
from floemap.learning.settings import LearningSettings
from floemap.learning.targets import heads_of
from floemap.learning.training.calibrate import calibrated
from floemap.learning.training.device import memory_errors
from floemap.learning.training.distributed import alone_on_first, make_fabric, neighbours, on_first
from floemap.learning.training.epochs import train_epochs
from floemap.learning.training.launched import place
from floemap.learning.training.loggers import logger_classes
from floemap.learning.training.record import configuration_of, header_of, inputs_of, note_arithmetic, write_record
from floemap.learning.training.run import Run
from floemap.learning.training.state import METRICS, RECORD, STATE, WEIGHTS, open_folder
from floemap.legend import Legend
from floemap.progress import Progress, silent
from floemap.results.seen import save_seen
from floemap.stopping import Stopped

logger = logging.getLogger(__name__)

_NOTHING = "in the first epoch: nothing is kept"


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
    surveys_in: Path | None = None,
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
    surveys_in
        Folder in which surveys of parts on disk are kept, for later trainings on them; None keeps none.
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
    start = read_start(settings.model, legend, about["resolution_m"], bands)
    inputs = inputs_of(training, validation, settings, legend, bands)
    configuration = configuration_of(settings)
    with alone_on_first(fabric, out, "trains in"):
        finished, state = on_first(fabric, lambda: open_folder(out, inputs, configuration, overwrite=overwrite))
        if finished:
            logger.info("%s is finished already", out)
            return Trained(out, tuple(state.history), skipped=True)
        warn_of_few_taps(settings.model, settings.crops)
        note_arithmetic(state, fabric, out)
        progress(0, 1, "reading the scenes")
        shares_for = settings.loss.name if loss_class(settings.loss.name).reads_polygons else ""
        data = gather(training, validation, settings, legend, fabric.device, shares_for, surveys_in, neighbours(fabric))
        save_seen()  # a training that is stopped need not find it out again
        header = header_of(settings, legend, data, fabric, state, about, start)
        header |= {"inputs": inputs, "configuration": configuration}
        # The random numbers of the caller are not touched.
        with torch.random.fork_rng([fabric.device] if fabric.device.type == "cuda" else []):
            torch.manual_seed(torch_seed(t.seed))
            model = build_model(settings.model, heads, bands, crop_px=settings.crops.side_px)
            if model.described:
                header["whole_scenes"] = model.described["whole_scenes"]
                warn_of_reach(model, settings.crops)
            statistics = partial(pooled_statistics, [s.sums for s in data.surveys], bands)
            if start is None:
                model.set_normalisation(*statistics())
            else:  # with its normalisation, which its weights were trained with
                header["started_from"] |= begin_from(model, start, statistics).about()
            losses = task_losses(settings, len(legend), data.pixels, order=legend.by_thickness)
            run = Run(model, losses, data, settings, out, header, fabric, progress)
            with memory_errors(settings, out), _note_stop(out, t.max_epochs):
                why = train_epochs(run, state)
                run = calibrated(run, state)
        write_record(run, state, why)
    return Trained(out, tuple(state.history))


@contextmanager
def _note_stop(out: Path, epochs: int) -> Iterator[None]:
    """Report what is kept when a person stops a training: the epochs on the disk."""
    try:
        yield
    except Stopped as e:
        logger.warning("%s: stopped by %s: repeat the call to resume", out, e)
        raise
    except KeyboardInterrupt:
        done = len((out / METRICS).read_bytes().splitlines()) if (out / METRICS).is_file() else 0
        kept = f"after epoch {done} of at most {epochs}, which is kept: repeat the call to resume"
        if not done:
            kept = "in the first epoch, of which the last state is kept" if (out / STATE).is_file() else _NOTHING
        logger.warning("%s: stopped %s", out, kept)
        raise
