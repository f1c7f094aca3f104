"""Metrics for TensorBoard, if asked for. ``metrics.jsonl`` is always written; see ``state.py``."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from floemap.errors import ConfigError
from floemap.results.stage import os_errors


@contextmanager
def tensorboard(folder: Path | None, first_epoch: int) -> Iterator[Callable[[dict[str, Any]], None]]:
    """Give a callback that writes the numbers of an epoch's entry of the history as event files.

    Parameters
    ----------
    folder
        Folder for the event files; with None nothing is written.
    first_epoch
        First epoch that will be written. What an earlier, killed run wrote from there on is hidden.

    Raises
    ------
    ConfigError
        If TensorBoard is not installed.
    OutputError
        If the folder cannot be written.
    """
    if folder is None:
        yield lambda row: None
        return
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as e:
        raise ConfigError(
            "training.tensorboard is set, but TensorBoard is not installed.",
            hint="pip install tensorboard, or leave it out: metrics.jsonl has the same numbers.",
        ) from e
    with os_errors(folder):
        writer: Any = SummaryWriter(str(folder), purge_step=first_epoch)

    def add(row: dict[str, Any]) -> None:
        for name, value in row.items():
            if name != "epoch" and isinstance(value, int | float):
                writer.add_scalar(name, value, row["epoch"])
        writer.flush()

    try:
        yield add
    finally:
        writer.close()
