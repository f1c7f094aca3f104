"""Saves a training's state beside the next epoch, so that a GPU need not wait for the disk."""

from __future__ import annotations

import copy
import logging
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from types import TracebackType
from typing import Any, Self

import torch
from torch import Tensor

from floemap.errors import FloemapError
from floemap.learning.training.state import State

logger = logging.getLogger(__name__)


def saves_beside(device: torch.device) -> bool:
    """Return whether states are saved beside the next epoch: on a GPU. A processor would compute the slower for it."""
    return device.type == "cuda"


class Beside:
    """Does one piece of work at a time in another thread; a context manager, which waits for the last one.

    Parameters
    ----------
    at_once
        Whether to work in the calling thread instead.
    """

    def __init__(self, *, at_once: bool) -> None:
        self._pool = None if at_once else ThreadPoolExecutor(1, thread_name_prefix="floemap-save")
        self._last: Future[None] | None = None

    def wait(self) -> None:
        """Wait for the last piece of work, and raise its error."""
        last, self._last = self._last, None
        if last is not None:
            last.result()

    def begin(self, work: Callable[[], None]) -> None:
        """Begin a piece of work; call :meth:`wait` before."""
        if self._pool is None:
            work()
        else:
            self._last = self._pool.submit(work)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._pool is not None:
            self._pool.shutdown(wait=True)
        try:
            self.wait()
        except FloemapError as e:
            if value is None:
                raise
            logger.error("%s", e)  # beside the error that ends the training


def snapshot(state: State) -> State:
    """Return a copy of a state that later steps do not change. Its tensors are in main memory."""
    return replace(
        state,
        history=[dict(row) for row in state.history],
        optimizer=_in_main_memory(state.optimizer),
        scheduler=copy.deepcopy(state.scheduler),
    )


def _in_main_memory(content: Any) -> Any:
    """Copy the tensors, dictionaries and lists of an optimiser's state."""
    if isinstance(content, Tensor):
        return content.detach().to("cpu", copy=True)
    if isinstance(content, dict):
        return {key: _in_main_memory(value) for key, value in content.items()}
    if isinstance(content, list | tuple):
        return type(content)(_in_main_memory(value) for value in content)
    return content
