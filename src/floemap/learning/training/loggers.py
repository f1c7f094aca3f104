"""Metrics for TensorBoard, where it is installed and asked for. ``metrics.jsonl`` is always written, see state.py."""

from __future__ import annotations

from pathlib import Path
from types import TracebackType
from typing import Any

from floemap.errors import ConfigError
from floemap.results.stage import os_errors


class TensorBoardLog:
    """Writes numbers of the metrics, one step an epoch.

    Parameters
    ----------
    folder
        Gets the event files; None writes nothing.
    first_epoch
        What an earlier, killed run wrote of this and later epochs is hidden.

    Raises
    ------
    ConfigError
        If TensorBoard is not installed.
    OutputError
        If the folder cannot be written.
    """

    def __init__(self, folder: Path | None, first_epoch: int) -> None:
        self._writer: Any = None
        if folder is None:
            return
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError as e:
            raise ConfigError(
                "training.tensorboard is set, but TensorBoard is not installed.",
                hint="pip install tensorboard, or leave it out: metrics.jsonl has the same numbers.",
            ) from e
        with os_errors(folder):
            self._writer = SummaryWriter(str(folder), purge_step=first_epoch)

    def add(self, row: dict[str, Any]) -> None:
        """Write the numbers of an epoch."""
        if self._writer is None:
            return
        for name, value in row.items():
            if name != "epoch" and isinstance(value, int | float) and not isinstance(value, bool):
                self._writer.add_scalar(name, value, row["epoch"])
        self._writer.flush()

    def __enter__(self) -> TensorBoardLog:
        return self

    def __exit__(self, kind: type[BaseException] | None, e: BaseException | None, trace: TracebackType | None) -> None:
        if self._writer is not None:
            self._writer.close()
