"""What a model's heads learn: classes, shares of classes, or values such as the concentration of ice.

A head is a group of a model's output channels. All heads share the features; each has its own weights in the last
layer. Whatever a head learns is looked up in the table of a chart's polygons, apart from classes, which have a raster.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from floemap.icechart.label.polygon_values import CATEGORIES, VALUES

Kind = Literal["class", "fractions", "value", "category"]
#: Name of the head of classes, unless a configuration gives it another.
ICE_TYPE = "ice_type"


@dataclass(frozen=True)
class Head:
    """A head of a model.

    Attributes
    ----------
    name
        Name of the head, and of its raster in a prediction.
    target
        "class", "fractions", or a value or category of :mod:`floemap.icechart.label.polygon_values`.
    channels
        Number of output channels: that of classes, or 1 for values.
    """

    name: str
    target: str
    channels: int

    @property
    def kind(self) -> Kind:
        """Kind of the target."""
        if self.target in VALUES:
            return "value"
        if self.target in CATEGORIES:
            return "category"
        return "fractions" if self.target == "fractions" else "class"

    @property
    def planes(self) -> int:
        """Number of bands of the head's raster: one for a value or for the class of a category."""
        return 1 if self.kind in ("value", "category") else self.channels

    def about(self) -> dict[str, Any]:
        """Return the description of the head in a checkpoint's header."""
        return {"name": self.name, "target": self.target, "channels": self.channels}


class _Task(Protocol):
    @property
    def target(self) -> str: ...


def heads_of(tasks: Mapping[str, _Task], classes: int) -> tuple[Head, ...]:
    """Return the heads that the tables [tasks.NAME] of a configuration ask for; that of classes is the first.

    Parameters
    ----------
    tasks
        Tasks by name, each with its target. If none has the target "class", the head ``ice_type`` is added.
    classes
        Number of classes, K.
    """
    heads = [Head(name, task.target, channels_of(task.target, classes)) for name, task in tasks.items()]
    first = [h for h in heads if h.kind == "class"] or [Head(ICE_TYPE, "class", classes)]
    return (*first, *(h for h in heads if h.kind != "class"))


def channels_of(target: str, classes: int) -> int:
    """Return the number of output channels for a target, where there are so many classes of ice types."""
    if target in CATEGORIES:
        return len(CATEGORIES[target].classes)
    return 1 if target in VALUES else classes


def slices_of(heads: Iterable[Head]) -> list[slice]:
    """Return the output channels of each head."""
    found, first = [], 0
    for head in heads:
        found.append(slice(first, first + head.channels))
        first += head.channels
    return found


def is_usual(heads: Sequence[Head]) -> bool:
    """Return whether there is only the head ``ice_type`` of classes, as in models from before there were several."""
    return len(heads) == 1 and heads[0] == Head(ICE_TYPE, "class", heads[0].channels)
