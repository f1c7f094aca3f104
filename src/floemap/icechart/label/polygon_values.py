"""Values and further classes that a chart gives for each polygon, such as the concentration of ice or the floe size.

Both are looked up in the table of polygons by the ids of pixels.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from floemap.icechart.label.polygon_table import PolygonTable
from floemap.legend import IGNORE


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


@dataclass(frozen=True)
class Category:
    """Classes, other than ice types, of which a chart gives one for each polygon.

    Attributes
    ----------
    title
        What it is, for people.
    classes
        Titles of the classes by id.
    look_up
        Returns the classes of all rows of a table of P polygons, (P + 1,) float32, not-a-number where none is known.
    """

    title: str
    classes: tuple[str, ...]
    look_up: Callable[[PolygonTable], NDArray[np.float32]]


#: Classes of floe size as AI4Arctic has them, by id. The code of form 2 is cake ice, 3 a small floe, 6 and 7 vast and
#: giant floes, 9 and 10 icebergs.
FLOE_SIZES = ("Open water", "Cake ice", "Small floe", "Medium floe", "Big floe", "Vast floe", "Bergs")


def _floe_size(table: PolygonTable) -> NDArray[np.float32]:
    floe = np.full(len(table) + 1, IGNORE, np.uint8) if table.floe is None else table.floe
    return np.where(floe == IGNORE, np.nan, floe).astype(np.float32)


#: Categories by the name of their target. Their columns in :func:`values_of` follow those of :data:`VALUES`.
CATEGORIES: Mapping[str, Category] = MappingProxyType(
    {"floe_size": Category(title="Floe size", classes=FLOE_SIZES, look_up=_floe_size)}
)


def values_of(table: PolygonTable) -> NDArray[np.float32]:
    """Return all values and classes of a table of P polygons, (P + 1, V) float32, in the order of their tables here."""
    look_ups = [*(v.look_up for v in VALUES.values()), *(c.look_up for c in CATEGORIES.values())]
    found = [look_up(table) for look_up in look_ups]
    return np.stack(found, axis=1).astype(np.float32)


def column_of(target: str) -> int:
    """Return the column of a value or category in the arrays of :func:`values_of`."""
    return [*VALUES, *CATEGORIES].index(target)
