"""The cells of a comparison: every loss, every value of every axis, every repeat; each with its own whole settings."""

from __future__ import annotations

import itertools
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from floemap.errors import ConfigError
from floemap.legend import legend
from floemap.study.settings import AxisValue, Study

#: Axis that leave-one-out adds of itself.
HELD_OUT = "split.held_out"


@dataclass(frozen=True)
class Cell:
    """One training, its predictions and its scores.

    Attributes
    ----------
    loss
        As named in the study, aliases included.
    repeat
        From 0.
    axes
        Value of each further axis, by its dotted name.
    study
        All settings, those of this cell put in.
    """

    loss: str
    repeat: int
    axes: Mapping[str, AxisValue] = field(default_factory=dict)
    study: Study = field(default_factory=Study, compare=False)

    @property
    def name(self) -> str:
        """Name of its folder: such as ``dice_r0`` or ``dice_output_stride-8_r0``."""
        words = [self.loss]
        words += [f"{k.rpartition('.')[2]}-{re.sub(r'[^A-Za-z0-9.-]', '-', str(v))}" for k, v in self.axes.items()]
        return "_".join([*words, f"r{self.repeat}"])

    def about(self) -> dict[str, Any]:
        """Return which cell it is, JSON-ready."""
        return {"cell": self.name, "loss": self.loss, "repeat": self.repeat, "axes": dict(self.axes)}


def plan(study: Study, scenes: Sequence[str]) -> tuple[Cell, ...]:
    """Return all cells of a study: repeats outermost, so that a comparison that is stopped has whole rounds.

    Parameters
    ----------
    study
        As configured.
    scenes
        Names of its scenes, for leave-one-out.

    Raises
    ------
    ConfigError
        If an axis names no setting, or a value is out of range, or two cells have one name.
    """
    axes: dict[str, tuple[AxisValue, ...]] = dict(study.compare.axes)
    if study.split.kind == "leave_one_out" and study.split.held_out == "each" and HELD_OUT not in axes:
        axes[HELD_OUT] = tuple(scenes)
    cells = []
    for repeat in range(study.compare.repeats):
        for values in itertools.product(*axes.values()):
            chosen = dict(zip(axes, values, strict=True))
            for loss in study.compare.losses:
                seed = study.training.seed + repeat
                settings = with_changes(study, chosen | {"loss.name": loss, "training.seed": seed})
                cells.append(Cell(loss, repeat, chosen, settings))
    names = [c.name for c in cells]
    for name in names:
        if names.count(name) > 1:
            raise ConfigError(f"two cells of the comparison are called {name}.", hint="Change the axes' values.")
    return tuple(cells)


def check_cells(study: Study, scenes: Sequence[str]) -> tuple[Cell, ...]:
    """Return all cells of a study, each checked by :func:`check_cell`.

    Raises
    ------
    ConfigError
        As :func:`plan` and :func:`check_cell` do, and if nothing is tested on.
    ModelError
        As :func:`check_cell` does.
    """
    if study.split.kind == "lists" and not study.split.test:
        raise ConfigError("the split has no scene for test, and a comparison is of tests.", hint="Give [split] test.")
    cells = plan(study, scenes)
    for cell in cells:
        check_cell(cell.study)
    return cells


def check_cell(study: Study) -> None:
    """Look up the loss, the model and the atrous rates of one training, so that what is wrong is said before any work.

    Raises
    ------
    ConfigError
        If no loss or model has that name, its parameters do not fit, or patches never reach a rate.
    ModelError
        If the checkpoint to start from cannot be read.
    """
    from floemap.learning.losses.functions import make_loss
    from floemap.learning.models.atrous import with_rates
    from floemap.learning.models.registry import check_name

    classes = len(legend(study.data.legend))
    make_loss(study.loss, classes, [1] * classes)
    check_name(study.model.name)
    with_rates(study.learning())


def with_changes(study: Study, changes: Mapping[str, AxisValue]) -> Study:
    """Return the study with settings changed, each by its dotted name, such as ``training.batch``.

    Raises
    ------
    ConfigError
        If there is no such setting, or the value is out of range.
    """
    values = study.model_dump()
    for key, value in changes.items():
        *tables, last = key.split(".")
        table = values
        for name in tables:
            table = table.get(name)  # type: ignore[assignment]
            if not isinstance(table, dict):
                raise ConfigError(f"there is no setting {key!r}.")
        if last not in table:
            raise ConfigError(f"there is no setting {key!r}.", hint=f"[{'.'.join(tables)}] has {', '.join(table)}.")
        table[last] = value
    return Study.checked(**values)
