"""Loggers of metrics: TensorBoard, MLflow, Weights & Biases, or a class of one's own, beside ``metrics.jsonl``.

A logger never ends a training: when one fails, a warning is logged, and the training continues without it.
"""

from __future__ import annotations

import logging
import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from floemap.errors import ConfigError, known_names
from floemap.learning.training.state import flat
from floemap.plugins import imported_class

logger = logging.getLogger(__name__)


class MetricLogger(ABC):
    """Base of loggers. One is made before the first epoch, on the first process only.

    A logger of one's own is a subclass, named in ``[training] loggers`` by import string.

    Parameters
    ----------
    folder
        Folder of the training. A logger may write into a folder of its own in it.
    about
        What identifies the training: ``configuration``, with all settings, and ``inputs``.
    first_epoch
        First epoch that will be logged, from 1. What an earlier, killed run logged from there on is void.
    """

    def __init__(self, folder: Path, about: Mapping[str, Any], first_epoch: int) -> None:
        self.folder = folder
        self.about = about
        self.first_epoch = first_epoch

    def step(self, step: int, metrics: Mapping[str, float]) -> None:  # noqa: B027 -- it may do nothing
        """Take the numbers of a step, which counts from 1 over all epochs.

        They are ``loss``, ``gradient_norm``, ``learning_rate``, and ``waited_s``, seconds of waiting for the crops;
        with several heads also ``loss/HEAD``.
        """

    @abstractmethod
    def epoch(self, epoch: int, metrics: Mapping[str, float]) -> None:
        """Take the numbers of an epoch, from 1: those of ``metrics.jsonl``, and ``f1/CLASS`` where it was validated.

        The numbers of heads, where there are several, have names such as ``validation_loss/HEAD``.
        """

    def close(self) -> None:  # noqa: B027 -- it may do nothing
        """End the logging; called once, also after an error."""


class TensorBoard(MetricLogger):
    """Event files in the folder ``tensorboard`` of the training."""

    def __init__(self, folder: Path, about: Mapping[str, Any], first_epoch: int) -> None:
        super().__init__(folder, about, first_epoch)
        from torch.utils.tensorboard import SummaryWriter

        self._epochs: Any = SummaryWriter(str(folder / "tensorboard" / "epochs"), purge_step=first_epoch)
        self._steps: Any = SummaryWriter(str(folder / "tensorboard" / "steps"))

    def step(self, step: int, metrics: Mapping[str, float]) -> None:
        """Write scalars."""
        for name, value in metrics.items():
            self._steps.add_scalar(name, value, step)

    def epoch(self, epoch: int, metrics: Mapping[str, float]) -> None:
        """Write scalars, and what is still in memory."""
        for name, value in metrics.items():
            self._epochs.add_scalar(name, value, epoch)
        self._epochs.flush()
        self._steps.flush()

    def close(self) -> None:
        """Close the files."""
        self._epochs.close()
        self._steps.close()


class MLflow(MetricLogger):
    """A run in MLflow's experiment "floemap", named after the folder.

    It goes to the server that ``MLFLOW_TRACKING_URI`` names, else to a database ``mlflow.db`` in the training's folder.
    A training that is resumed adds to its run.
    """

    def __init__(self, folder: Path, about: Mapping[str, Any], first_epoch: int) -> None:
        super().__init__(folder, about, first_epoch)
        from mlflow.tracking import MlflowClient

        store = os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{folder.absolute() / 'mlflow.db'}"
        self._client: Any = MlflowClient(tracking_uri=store)
        known = folder / "mlflow_run.txt"
        if known.is_file() and first_epoch > 1:
            self._run = known.read_text(encoding="utf-8").strip()
            self._client.update_run(self._run, status="RUNNING")
            return
        found = self._client.get_experiment_by_name("floemap")
        experiment = found.experiment_id if found is not None else self._client.create_experiment("floemap")
        self._run = str(self._client.create_run(experiment, run_name=folder.absolute().name).info.run_id)
        known.write_text(self._run + "\n", encoding="utf-8")
        for name, value in flat(about.get("configuration", {})).items():
            self._client.log_param(self._run, name, value)

    def step(self, step: int, metrics: Mapping[str, float]) -> None:
        """Log the numbers as ``step/NAME``."""
        for name, value in metrics.items():
            self._client.log_metric(self._run, f"step/{name}", value, step=step)

    def epoch(self, epoch: int, metrics: Mapping[str, float]) -> None:
        """Log the numbers."""
        for name, value in metrics.items():
            self._client.log_metric(self._run, name, value, step=epoch)

    def close(self) -> None:
        """End the run."""
        self._client.set_terminated(self._run)


class WandB(MetricLogger):
    """A run in the project "floemap" of Weights & Biases.

    It stays on this disk, in the folder ``wandb`` of the training, unless ``WANDB_MODE`` is set to online.
    """

    def __init__(self, folder: Path, about: Mapping[str, Any], first_epoch: int) -> None:
        super().__init__(folder, about, first_epoch)
        import wandb

        self._run: Any = wandb.init(
            project="floemap",
            name=folder.absolute().name,
            dir=str(folder),
            config=flat(about.get("configuration", {})),
            mode=os.environ.get("WANDB_MODE", "offline"),
        )
        self._run.define_metric("step/*", step_metric="step")
        self._run.define_metric("epoch/*", step_metric="epoch")

    def step(self, step: int, metrics: Mapping[str, float]) -> None:
        """Log the numbers as ``step/NAME``."""
        self._run.log({"step": step} | {f"step/{name}": value for name, value in metrics.items()})

    def epoch(self, epoch: int, metrics: Mapping[str, float]) -> None:
        """Log the numbers as ``epoch/NAME``."""
        self._run.log({"epoch": epoch} | {f"epoch/{name}": value for name, value in metrics.items()})

    def close(self) -> None:
        """End the run."""
        self._run.finish()


#: Loggers by name, with what pip installs for them.
LOGGERS: Mapping[str, tuple[type[MetricLogger], str, str]] = {
    "tensorboard": (TensorBoard, "torch.utils.tensorboard", "tensorboard"),
    "mlflow": (MLflow, "mlflow.tracking", "mlflow"),
    "wandb": (WandB, "wandb", "wandb"),
}


def logger_classes(names: Sequence[str]) -> list[type[MetricLogger]]:
    """Return the classes of loggers, so that what is missing is reported before any work.

    Raises
    ------
    ConfigError
        If there is no such logger, it cannot be imported, or its package is not installed.
    """
    found = []
    for name in names:
        if ":" in name:
            found.append(imported_class(name, MetricLogger, "training.loggers"))  # type: ignore[type-abstract]
            continue
        if name not in LOGGERS:
            raise ConfigError(
                f"no logger is called {name!r}.",
                hint=f"{known_names(name, LOGGERS)} A logger of your own is named by import string, module:Class.",
            )
        cls, module, package = LOGGERS[name]
        try:
            __import__(module)
        except ImportError as e:
            raise ConfigError(
                f"training.loggers has {name}, but {package} is not installed.",
                hint=f"pip install {package}, or leave it out: metrics.jsonl has the numbers of all epochs.",
            ) from e
        found.append(cls)
    return found


class Loggers:
    """All loggers of a training. One that fails is left out from then on."""

    def __init__(self) -> None:
        self._active: list[MetricLogger] = []

    def begin(
        self, classes: Sequence[type[MetricLogger]], folder: Path, about: Mapping[str, Any], first_epoch: int
    ) -> None:
        """Make a logger of each class."""
        for cls in classes:
            _survives(cls.__name__, lambda: self._active.append(cls(folder, about, first_epoch)))  # noqa: B023 -- at once

    def step(self, step: int, metrics: Mapping[str, float]) -> None:
        """Pass on the numbers of a step."""
        self._each(lambda log: log.step(step, metrics))

    def epoch(self, row: Mapping[str, Any], by_class: Mapping[str, float | None]) -> None:
        """Pass on an entry of the history, and the F1 of each class."""
        numbers = {k: v for k, v in row.items() if k != "epoch" and isinstance(v, int | float)}
        for head, own in row.get("tasks", {}).items():
            numbers |= {f"{key}/{head}": value for key, value in own.items() if value is not None}
        numbers |= {f"f1/{key}": f1 for key, f1 in by_class.items() if f1 is not None}
        self._each(lambda log: log.epoch(int(row["epoch"]), numbers))

    def close(self) -> None:
        """End all loggers."""
        self._each(lambda log: log.close())
        self._active = []

    def _each(self, work: Callable[[MetricLogger], None]) -> None:
        self._active = [log for log in self._active if _survives(type(log).__name__, partial(work, log))]


def _survives(name: str, work: Callable[[], None]) -> bool:
    """Do some work of a logger; return whether it ended well."""
    try:
        work()
    except Exception as e:  # a tracker's server may be gone, its disk full: the training is worth more
        logger.warning("the logger %s failed and is left out from here: %s: %s", name, type(e).__name__, e)
        return False
    return True


@contextmanager
def logging_to(
    names: Sequence[str], folder: Path, about: Mapping[str, Any], first_epoch: int, *, active: bool = True
) -> Iterator[Loggers]:
    """Give the loggers of these names, and close them at the end; none if not `active`, as on further processes.

    Raises
    ------
    ConfigError
        See :func:`logger_classes`.
    """
    loggers = Loggers()
    if active:
        loggers.begin(logger_classes(names), folder, about, first_epoch)
    try:
        yield loggers
    finally:
        loggers.close()
