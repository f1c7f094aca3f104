"""Values that a chart gives for each polygon, such as the concentration of ice: looked up in the table of polygons."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from floemap.icechart.label.polygon_table import PolygonTable


@dataclass(frozen=True)
class Value:
    """A number that a chart gives for each polygon.

    Attributes
    ----------
    title
        What it is, for people.
    unit
        Its unit; "1" for shares.
    low, high
        Its range. Predictions are clipped to it.
    step
        Value of one step of stored predictions, uint8 from `low` upwards; 255 is no-data.
    look_up
        Returns the values of all rows of a table of P polygons, (P + 1,) float32, not-a-number where it is not known.
    """

    title: str
    unit: str
    low: float
    high: float
    step: float
    look_up: Callable[[PolygonTable], NDArray[np.float32]]


#: Values by the name of their target. Their order is that of the columns of :func:`values_of`.
VALUES: Mapping[str, Value] = MappingProxyType(
    {
        "concentration": Value(
            title="Total concentration of ice",
            unit="1",
            low=0.0,
            high=1.0,
            step=0.005,
            look_up=lambda table: table.concentration,
        ),
    }
)


def values_of(table: PolygonTable) -> NDArray[np.float32]:
    """Return all values of a table of P polygons, (P + 1, V) float32, in the order of :data:`VALUES`."""
    return np.stack([value.look_up(table) for value in VALUES.values()], axis=1).astype(np.float32)


def column_of(target: str) -> int:
    """Return the column of a value in the arrays of :func:`values_of`."""
    return list(VALUES).index(target)
