"""The total loss of a model with one or several heads: the weighted sum of a loss for each head."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from floemap.errors import ConfigError, TrainingError
from floemap.icechart.label.polygon_values import VALUES, column_of
from floemap.learning.data.polygons import Polygons
from floemap.learning.losses.base import BaseLoss, unreduced
from floemap.learning.losses.partial_labels import by_polygon
from floemap.learning.losses.registry import loss_class, loss_identity, make_loss, make_value_loss, value_loss_class
from floemap.learning.losses.values import ValueLoss
from floemap.learning.settings import LearningSettings, LossSettings
from floemap.learning.targets import Head, heads_of, slices_of
from floemap.legend import IGNORE

#: Losses of heads that do not name one, by kind.
DEFAULT_LOSSES = {"fractions": "soft_cross_entropy", "value": "huber", "category": "cross_entropy"}


@dataclass(frozen=True)
class Task:
    """What a head learns, and how.

    Attributes
    ----------
    head
        The head.
    loss
        Its loss: a :class:`ValueLoss` for values, else a :class:`BaseLoss`.
    weight
        Weight of the loss in the total.
    """

    head: Head
    loss: BaseLoss | ValueLoss
    weight: float = 1.0


class TaskLosses:
    """The losses of all heads of a model.

    Parameters
    ----------
    tasks
        The tasks in the order of the model's heads, that of classes first.
    """

    def __init__(self, tasks: Sequence[Task]) -> None:
        self.tasks = tuple(tasks)
        self._slices = slices_of(t.head for t in self.tasks)

    @classmethod
    def of(cls, loss: BaseLoss) -> TaskLosses:
        """Return the losses of a model whose only head is that of classes."""
        return cls([Task(heads_of({}, loss.classes)[0], loss)])

    @property
    def classes(self) -> int:
        """Number of classes, K."""
        return self.tasks[0].head.channels

    @property
    def names(self) -> list[str]:
        """Names of the heads."""
        return [t.head.name for t in self.tasks]

    def set_epoch(self, epoch: int | None) -> None:
        """Set the epoch, from 0, for losses that change with it; None in validation."""
        for task in self.tasks:
            if isinstance(task.loss, BaseLoss):
                task.loss.epoch = epoch

    def split(self, logits: Tensor) -> list[Tensor]:
        """Return the channels of each head, of logits (N, channels, H, W).

        Raises
        ------
        TrainingError
            If there are more or fewer channels than all heads have.
        """
        if logits.ndim != 4 or logits.shape[1] != self._slices[-1].stop:
            raise TrainingError(
                f"the model gives {tuple(logits.shape)}; its heads ({', '.join(self.names)}) need "
                f"(N, {self._slices[-1].stop}, H, W).",
                hint="A model has as many logits as its parameter `classes` asks for.",
            )
        return [logits] if len(self.tasks) == 1 else [logits[:, channels] for channels in self._slices]

    def sums(self, logits: Tensor, labels: Tensor, polygons: Polygons | None = None) -> list[Tensor]:
        """Return the sums of each loss; they add up over tiles of the same crops. Parameters as of :meth:`__call__`."""
        outputs = self.split(logits)
        return [_sums(t, out, labels, polygons) for t, out in zip(self.tasks, outputs, strict=True)]

    def condensed(self, sums: Sequence[Tensor], polygons: Polygons | None = None) -> list[Tensor]:
        """Return sums of whole crops in the form that adds up over crops and processes."""
        return [
            t.loss.condensed(s, polygons) if isinstance(t.loss, BaseLoss) else s
            for t, s in zip(self.tasks, sums, strict=True)
        ]

    def values(self, sums: Sequence[Tensor]) -> Tensor:
        """Return the loss of each head, (heads,), for condensed sums."""
        return torch.stack([t.loss.value(s) for t, s in zip(self.tasks, sums, strict=True)])

    def total(self, values: Tensor) -> Tensor:
        """Return the weighted sum of the losses of each head, (heads,)."""
        if len(self.tasks) == 1:
            return self.tasks[0].weight * values[0]
        return (values * values.new_tensor([t.weight for t in self.tasks])).sum()

    def __call__(
        self,
        logits: Tensor,
        labels: Tensor,
        polygons: Polygons | None = None,
        reduce: Callable[[Tensor], Tensor] = unreduced,
    ) -> Tensor:
        """Return the loss of each head for a batch, (heads,).

        Parameters
        ----------
        logits, labels
            Shapes (N, channels, H, W) and (N, H, W).
        polygons
            Needed unless the only loss reads none.
        reduce
            Function applied to the sums before they are divided. If processes share a batch, it adds their sums.
        """
        condensed = self.condensed(self.sums(logits, labels, polygons), polygons)
        together = reduce(condensed[0] if len(condensed) == 1 else torch.cat(condensed))
        return self.values(torch.split(together, [len(s) for s in condensed]))


def wanted_values(head: Head, polygons: Polygons | None) -> Tensor:
    """Return the values, or the classes of a category, that a head learns, (N, H, W), not-a-number where none is known.

    Raises
    ------
    TrainingError
        If the polygons, or their values, are missing.
    """
    if polygons is None or polygons.values is None:
        raise TrainingError(
            f"the head {head.name} learns {head.target} from the charts' polygons, and there are none.",
            hint="Label the charts with `floemap label`, which writes polygons.tif and polygons.csv beside the labels.",
        )
    return by_polygon(polygons.values[..., column_of(head.target)], polygons)


def wanted_classes(head: Head, polygons: Polygons | None) -> Tensor:
    """Return the classes of a category that a head learns, (N, H, W) uint8, IGNORE where none is known.

    Raises
    ------
    TrainingError
        As :func:`wanted_values` does.
    """
    return wanted_values(head, polygons).nan_to_num(nan=IGNORE).to(torch.uint8)


def _sums(task: Task, output: Tensor, labels: Tensor, polygons: Polygons | None) -> Tensor:
    if isinstance(task.loss, ValueLoss):
        return task.loss.sums(output[:, 0], wanted_values(task.head, polygons))
    if task.head.kind == "category":
        return task.loss.sums(output, wanted_classes(task.head, polygons))
    return task.loss.sums(output, labels, polygons)


def task_losses(
    settings: LearningSettings,
    classes: int,
    class_pixels: Sequence[int] | None = None,
    *,
    order: Sequence[int] | None = None,
) -> TaskLosses:
    """Make the losses that a configuration asks for: that of [loss] for classes, and one for each further head.

    Parameters
    ----------
    settings
        The settings.
    classes, class_pixels, order
        See :func:`floemap.learning.losses.registry.make_loss`.

    Raises
    ------
    ConfigError
        As `make_loss` does; if a loss of values is asked for where classes or shares are learnt, or the reverse; or if
        training.monitor is not a head.
    TrainingError
        As `make_loss` does.
    """
    made = []
    for head in heads_of(settings.tasks, classes):
        task = settings.tasks.get(head.name)
        if head.kind == "class" or task is None:
            loss: BaseLoss | ValueLoss = make_loss(settings.loss, classes, class_pixels, order=order)
        elif head.kind == "value":
            loss = make_value_loss(task.loss or DEFAULT_LOSSES[head.kind], task.options, f"tasks.{head.name}")
        else:
            own = LossSettings(name=task.loss or DEFAULT_LOSSES[head.kind], options=task.options)
            loss = make_loss(
                own, head.channels, order=order if head.kind == "fractions" else None, setting=f"tasks.{head.name}"
            )
            if loss.reads_polygons != (head.kind == "fractions"):
                does = "reads" if loss.reads_polygons else "does not read"
                raise ConfigError(
                    f"tasks.{head.name}.loss is {own.name}, which {does} shares: the target is {head.target}.",
                    hint="Choose soft_cross_entropy, partial_label or region, or the target class."
                    if head.kind == "fractions"
                    else "Choose a loss of classes, such as cross_entropy, dice or focal.",
                )
        made.append(Task(head, loss, 1.0 if task is None else task.weight))
    monitor = settings.training.monitor
    names = [t.head.name for t in made]
    if monitor is not None and monitor not in names:
        raise ConfigError(f"training.monitor is {monitor!r}, which is not a head.", hint=f"Heads: {', '.join(names)}.")
    return TaskLosses(made)


def reads_polygons(settings: LearningSettings) -> str:
    """Return who reads the charts' polygons, in words for a message; "" if nobody does."""
    if loss_class(settings.loss.name).reads_polygons:
        return f"the loss {settings.loss.name} reads"
    further = [name for name, task in settings.tasks.items() if task.target != "class"]
    return f"the head {further[0]} learns from" if further else ""


def identities(settings: LearningSettings) -> dict[str, str]:
    """Return the SHA-256 of the source of each loss of the user's, by its key in a record's inputs.

    Raises
    ------
    ConfigError
        If one cannot be imported.
    """
    classes: dict[str, type[Any]] = {"loss": loss_class(settings.loss.name)}
    for name, task in settings.tasks.items():
        if task.loss is not None and ":" in task.loss:
            find = value_loss_class if task.target in VALUES else loss_class
            classes[f"loss of {name}"] = find(task.loss, f"tasks.{name}")
    return {key: source for key, cls in classes.items() if (source := loss_identity(cls)) is not None}
