"""The cells of a comparison: each loss, value of each axis and repeat, with the complete settings of its training."""

from __future__ import annotations

import itertools
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pydantic import JsonValue

from floemap.datasets.extremeearth.scenes import Role
from floemap.errors import ConfigError
from floemap.own_legends import chosen_legend
from floemap.study.settings import AxisValue, Study
from floemap.study.split import ROLES, checked_roles, held_out

#: Axis that a leave-one-out split adds.
HELD_OUT = "split.held_out"


@dataclass(frozen=True)
class Cell:
    """One training, its predictions and its scores.

    Attributes
    ----------
    loss
        The loss as the study lists it: a name (which may be an alias), an import string, or the name of a variant.
    repeat
        Number of the repeat, from 0.
    axes
        Value of each further axis, by its dotted name.
    study
        Complete settings of this cell.
    """

    loss: str
    repeat: int
    axes: Mapping[str, AxisValue] = field(default_factory=dict)
    study: Study = field(default_factory=Study, compare=False)

    @property
    def name(self) -> str:
        """Name of the cell and its folder, such as ``dice_r0`` or ``dice_output_stride-8_r0``."""
        words = [re.sub(r"[^A-Za-z0-9_.-]", "-", self.loss)]
        words += [f"{k.rpartition('.')[2]}-{re.sub(r'[^A-Za-z0-9.-]', '-', str(v))}" for k, v in self.axes.items()]
        return "_".join([*words, f"r{self.repeat}"])

    @property
    def reads_shares(self) -> bool:
        """Whether the loss of classes learns from partial concentrations: it declares that it reads polygons."""
        from floemap.learning.losses.registry import loss_class

        return loss_class(self.study.loss.name).reads_polygons

    def about(self) -> dict[str, Any]:
        """Return name, loss, whether it learns from partial concentrations, repeat and axes, ready for JSON."""
        about = {"cell": self.name, "loss": self.loss, "reads_shares": self.reads_shares}
        return about | {"repeat": self.repeat, "axes": dict(self.axes)}


def plan(study: Study, scenes: Sequence[str]) -> tuple[Cell, ...]:
    """Return all cells of a study. Repeats are outermost, so that an interrupted comparison has complete repeats.

    Parameters
    ----------
    study
        The study as configured.
    scenes
        Names of its scenes, for leave-one-out.

    Raises
    ------
    ConfigError
        If an axis is not a setting, a value is out of range, or two cells have the same name.
    """
    axes: dict[str, tuple[AxisValue, ...]] = dict(study.compare.axes)
    if study.split.kind == "leave_one_out" and study.split.held_out == "each" and HELD_OUT not in axes:
        axes[HELD_OUT] = held_out(study.split, scenes)
    cells = []
    for repeat in range(study.compare.repeats):
        for values in itertools.product(*axes.values()):
            chosen = dict(zip(axes, values, strict=True))
            for loss in study.compare.losses:
                seed = study.training.seed + repeat
                settings = with_changes(study, with_loss(study, loss) | chosen | {"training.seed": seed})
                cells.append(Cell(loss, repeat, chosen, settings))
    for name, count in Counter(c.name for c in cells).items():
        if count > 1:
            raise ConfigError(f"two cells of the comparison have the name {name}.", hint="Change the axes' values.")
    return tuple(cells)


def with_loss(study: Study, loss: str) -> dict[str, JsonValue]:
    """Return the changes that set a loss of a comparison: its name, or what a variant changes.

    Raises
    ------
    ConfigError
        If a variant has the name of a loss.
    """
    from floemap.learning.losses import LOSSES

    taken = sorted(LOSSES.keys() & study.compare.variants.keys())
    if taken:
        raise ConfigError(f"the variant {taken[0]} of the comparison has the name of a loss.", hint="Rename it.")
    changes = study.compare.variants.get(loss, {"loss.name": loss})
    return {key: value for key, value in changes.items() if key != "title"}


def check_cells(study: Study, scenes: Sequence[str]) -> tuple[Cell, ...]:
    """Return all cells of a study, each checked by :func:`check_cell`.

    Raises
    ------
    ConfigError
        As :func:`plan` and :func:`check_cell` do, and if the split has no scene for test.
    ModelError
        As :func:`check_cell` does.
    """
    if study.split.kind == "lists" and not study.split.test:
        raise ConfigError("the split has no scene for test, but a comparison needs one.", hint="Give [split] test.")
    cells = plan(study, scenes)
    checked, built = set(), set()
    for cell in cells:
        once = cell.study.model_dump_json(exclude={"training": {"seed"}, "compare": True})
        model = cell.study.model_dump_json(include={"model", "tasks", "data", "crops"})
        if once not in checked:
            check_cell(cell.study, scenes, build=model not in built)
        checked.add(once)
        built.add(model)
    return cells


def check_cell(study: Study, scenes: Sequence[str], needed: Sequence[Role] = ROLES, *, build: bool = True) -> None:
    """Check one training so that errors are reported before any work: its settings, split, and model with its files.

    Parameters
    ----------
    study
        The settings.
    scenes
        Names of the scenes.
    needed
        Uses of scenes of which the split must have a part.
    build
        Whether to build a model of a user's own and run it on a small image, which another training has not done yet.

    Raises
    ------
    ConfigError
        As :func:`check_settings` does, or if the split does not fit the scenes, or the model cannot be built.
    ModelError
        If the checkpoint to start from, the weights of the encoder, or what the model gives cannot be used.
    """
    from floemap.learning.models.registry import check_builds
    from floemap.learning.models.start import check_start
    from floemap.learning.targets import heads_of

    check_settings(study)
    checked_roles(study.split, tuple(scenes), needed)
    legend, settings = chosen_legend(study.data.legend), study.learning()
    if build:
        check_builds(study.model, heads_of(settings.tasks, len(legend)), study.data.bands, settings.crops.side_px)
    check_start(study.model, legend, study.data.bands, study.data.resolution_m)


def check_settings(study: Study) -> None:
    """Check losses, model, loggers and atrous rates of one training: names, options, and whether they fit each other.

    Raises
    ------
    ConfigError
        If no loss, model or logger has that name, a loss or its parameters do not fit, or crops never reach a rate.
    ModelError
        If the rates are those of a checkpoint to start from, and it cannot be read.
    """
    from floemap.learning.losses.tasks import task_losses
    from floemap.learning.models.atrous import with_rates
    from floemap.learning.models.registry import check_model
    from floemap.learning.training.loggers import logger_classes

    classes = len(chosen_legend(study.data.legend))
    task_losses(study.learning(), classes, [1] * classes)
    check_model(study.model)
    logger_classes(study.training.loggers)
    with_rates(study.learning())


def check_without_files(study: Study) -> str | None:
    """Check all trainings of a study and its variants, as far as this reads no other file and runs no code of a user's.

    Returns
    -------
    What is not checked, as a sentence; None if that is nothing.

    Raises
    ------
    ConfigError
        As :func:`plan` and :func:`check_settings` do.
    """
    losses = tuple(dict.fromkeys([*study.compare.losses, *study.compare.variants]))
    one = study.compare.model_copy(update={"repeats": 1, "losses": losses})
    split = study.split.model_copy(update={"held_out": "one"})  # which scenes there are is not known
    cells = plan(study.model_copy(update={"compare": one, "split": split}), ())
    foreign: dict[str, None] = {}
    for training in (study, *(cell.study for cell in cells)):
        own = [name for name in _named(training) if ":" in name]
        foreign.update(dict.fromkeys(own))
        if not own:
            # The rates may be those of the checkpoint.
            model = training.model.model_copy(update={"start_from": None})
            check_settings(training.model_copy(update={"model": model}))
    return f"trainings with {', '.join(foreign)}, which would have to be imported" if foreign else None


def _named(study: Study) -> tuple[str, ...]:
    """Return the names of models, losses and loggers, which are import strings where they are the user's."""
    losses = (study.loss.name, *(task.loss or "" for task in study.tasks.values()))
    return (study.model.name, *losses, *study.training.loggers)


def with_changes(study: Study, changes: Mapping[str, JsonValue]) -> Study:
    """Return the study with changed settings, each given by its dotted name, such as ``training.batch``.

    Options belong to the loss or model that its table names: with another one they begin empty, before the changes.

    Raises
    ------
    ConfigError
        If there is no such setting, or the value is out of range.
    """
    values = study.model_dump()
    for table, name in (("loss", study.loss.name), ("model", study.model.name)):
        if changes.get(f"{table}.name", name) != name:
            values[table]["options"] = {}
    for key, value in changes.items():
        *tables, last = key.split(".")
        within = values
        for name in tables:
            within = within.get(name)  # type: ignore[assignment]
            if not isinstance(within, dict):
                raise ConfigError(f"there is no setting {key!r}.")
        if last not in within and tables[-1:] != ["options"] and tables != ["tasks"]:
            raise ConfigError(f"there is no setting {key!r}.", hint=f"[{'.'.join(tables)}] has {', '.join(within)}.")
        within[last] = value
    return Study.checked(**values)
