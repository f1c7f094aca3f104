"""What the training loop writes and reports: the best weights, the metrics, progress, log lines and errors."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lightning_fabric import Fabric

from floemap.errors import TrainingError
from floemap.learning.data.training_data import Dataset
from floemap.learning.losses.tasks import TaskLosses
from floemap.learning.models.base import SegmentationModel
from floemap.learning.models.checkpoint import save_checkpoint
from floemap.learning.settings import LearningSettings
from floemap.learning.training.state import METRICS, STATE, WEIGHTS, State, write_metrics
from floemap.progress import Progress, milestones, silent


@dataclass(frozen=True)
class Run:
    """Everything that stays the same from the first epoch to the last.

    Attributes
    ----------
    model, losses, data, settings
        What is trained, on what, and how.
    out
        Folder of the training; see :mod:`floemap.learning.training.state`.
    about
        Header of the checkpoint, apart from what :func:`floemap.learning.models.checkpoint.save_checkpoint` fills in.
    fabric
        Device, precision and processes.
    progress
        Progress callback of the caller.
    """

    model: SegmentationModel
    losses: TaskLosses
    data: Dataset
    settings: LearningSettings
    out: Path
    about: Mapping[str, Any]
    fabric: Fabric
    progress: Progress

    def update_files(self, state: State, *, rewrite: bool = False) -> None:
        """Bring the best weights and the metrics on disk in line with the state, which is written first.

        The weights are written if the last epoch was the best, or if `rewrite` is set: after a kill between two writes
        the file may hold those of an earlier epoch.
        """
        best = state.best_epoch
        if best is not None and (rewrite or best is state.history[-1]):
            model = copy.deepcopy(self.model)
            model.load_state_dict(state.best)
            save_checkpoint(self.out / WEIGHTS, model, dict(self.about) | {"best": best})
        write_metrics(self.out / METRICS, state.history)

    def step_progress(self, state: State, steps: int) -> Callable[[int, str], None]:
        """Return a callback for the steps of the next epoch, called as callback(step, message).

        The total is the number of steps after which training stops if the validation loss does not improve again.
        """
        t, best, done = self.settings.training, state.best_epoch, len(state.history)
        last = (best["epoch"] if best else t.validate_every) + t.stop_after * t.validate_every
        total = steps * min(t.max_epochs, last)
        scored = [row["weighted_f1"] for row in state.history if row["weighted_f1"] is not None]
        f1 = f", F1 {scored[-1]:.3f}" if scored else ""
        progress = self.progress if self.fabric.is_global_zero else silent

        def tell(step: int, what: str) -> None:
            progress(done * steps + step, total, f"epoch {done + 1} of at most {t.max_epochs}: {what}{f1}")

        return tell

    def check_finite(self, state: State, numbers: Mapping[str, float], when: str) -> None:
        """Stop the training if one of the named numbers is not finite.

        Raises
        ------
        TrainingError
            With the numbers, and what of the training is kept on disk.
        """
        if all(map(math.isfinite, numbers.values())):
            return
        values = " and ".join(f"{name} is {value}" for name, value in numbers.items())
        done, best = len(state.history), state.best_epoch
        kept = f"{STATE} holds the state after epoch {done}" if done else "no epoch was finished"
        if best is not None:
            kept += f", {WEIGHTS} the best weights so far, of epoch {best['epoch']}"
        raise TrainingError(
            f"{values} {when}. Training stops; {kept}.",
            path=self.out,
            hint="In another folder, lower training.learning_rate, set training.clip_norm, or use precision fp32.",
        )

    def log_epoch(self, state: State) -> None:
        """Log the last epoch of the state in one line."""
        if not self.fabric.is_global_zero:
            return
        row, best = state.history[-1], state.best_epoch
        words = [f"epoch {row['epoch']} of at most {self.settings.training.max_epochs}: loss {row['loss']:.4g}"]
        if row["validation_loss"] is not None:
            words.append(f"validation loss {row['validation_loss']:.4g}, weighted F1 {row['weighted_f1']:.3f}")
        for name, numbers in row.get("tasks", {}).items():
            shown = [f"{key.replace('_', ' ')} {x:.4g}" for key, x in numbers.items() if x is not None]
            words.append(f"{name} ({', '.join(shown)})")
        words.append(f"learning rate {row['learning_rate']:.2g}, {row['seconds']:.0f} s")
        if best is not None:
            words.append(f"best so far epoch {best['epoch']}")
        milestones.info("%s", ", ".join(words))
