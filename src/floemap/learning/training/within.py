"""The state of a training within an epoch: saved every few minutes, and when a signal asks to stop.

A state within an epoch is one after an epoch, with the position in the epoch that has begun: the steps that are done,
their losses, and the state of the random numbers. Crops are drawn by epoch, so the next step has the crops that it
would have had.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch.optim.lr_scheduler import LRScheduler, ReduceLROnPlateau

from floemap.learning.training.run import Run
from floemap.learning.training.state import STATE, State, copied_weights, save_state
from floemap.stopping import asked, stop_if_asked


@dataclass
class Position:
    """What of an epoch is done.

    Attributes
    ----------
    losses, each
        Loss of each step, and of each step the losses of the heads.
    seconds
        Time that these steps took.
    """

    losses: list[float] = field(default_factory=list)
    each: list[list[float]] = field(default_factory=list)
    seconds: float = 0.0

    @classmethod
    def of(cls, state: State, steps: int) -> Position:
        """Return the position of a state in an epoch of so many steps, and bring the random numbers to it.

        Raises
        ------
        LookupError, TypeError, ValueError, RuntimeError
            If the state is damaged.
        """
        within = state.within
        if not within:
            return cls()
        losses, each = [float(x) for x in within["losses"]], [[float(x) for x in step] for step in within["each"]]
        if not 0 < len(losses) <= steps or len(each) != len(losses):
            raise ValueError(f"it has {len(losses)} of {steps} steps")
        torch.set_rng_state(within["random"])
        if "random_gpu" in within and torch.cuda.is_available():
            torch.cuda.set_rng_state(within["random_gpu"])
        return cls(losses, each, float(within["seconds"]))


class Saving:
    """Saves the state of an epoch that is under way.

    Parameters
    ----------
    run, state
        The training, and its state after the last epoch.
    adam, plateau
        Optimiser and schedule.
    before
        Called before a state is written: it waits for the one that is being written.
    """

    def __init__(
        self,
        run: Run,
        state: State,
        adam: torch.optim.Optimizer,
        plateau: LRScheduler | ReduceLROnPlateau,
        before: Callable[[], None],
    ) -> None:
        self._before = before
        self._run, self._state, self._adam, self._plateau = run, state, adam, plateau
        self._last = time.monotonic()

    def due(self) -> bool:
        """Return whether the state should be saved after this step. Of several processes the first one saves."""
        every = self._run.settings.training.save_every_minutes
        late = every is not None and time.monotonic() - self._last > 60 * every
        return self._run.fabric.is_global_zero and (late or asked() is not None)

    def save(self, at: Position) -> None:
        """Save the state at a position, and stop there if a signal has asked for it.

        Raises
        ------
        Stopped
            If a signal has.
        OutputError
            If the state cannot be written.
        """
        state = self._state
        state.weights = copied_weights(self._run.model)
        state.optimizer, state.scheduler = self._adam.state_dict(), self._plateau.state_dict()
        state.within = {"losses": at.losses, "each": at.each, "seconds": at.seconds, "random": torch.get_rng_state()}
        if self._run.fabric.device.type == "cuda":
            state.within["random_gpu"] = torch.cuda.get_rng_state()
        self._before()
        save_state(self._run.out / STATE, state)
        self._last = time.monotonic()
        stop_if_asked(f"the state after step {len(at.losses)} of epoch {len(state.history) + 1} is kept")

    def after_epoch(self) -> None:
        """Note that the state after an epoch was saved, and stop there if a signal has asked for it."""
        self._last = time.monotonic()
        if self._run.fabric.is_global_zero:
            stop_if_asked(f"the state after epoch {len(self._state.history)} is kept")
