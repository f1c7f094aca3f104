"""The two class rasters that a check compares, and which of a legend's classes play which part."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from floemap.errors import ConfigError, GridError
from floemap.legend import IGNORE, Legend

Classes = NDArray[np.uint8]
Bools = NDArray[np.bool_]

#: Keys of ice that grows from open water within days to weeks: up to 30 cm thick (WMO nomenclature).
YOUNG_KEYS = ("new_ice", "nilas", "young_ice")


@dataclass(frozen=True)
class IceGroups:
    """Ids of a legend's classes by the part they play; empty or None where the legend has no such class.

    Attributes
    ----------
    forming
        New ice, nilas, young ice.
    first_year
        First-year ice of any thickness.
    old
        Old ice.
    water
        Open water.
    """

    forming: tuple[int, ...]
    first_year: tuple[int, ...]
    old: int | None
    water: int


def ice_groups(legend: Legend) -> IceGroups:
    """Return the parts of a legend's classes, by their keys."""
    ids = {c.key: c.id for c in legend.classes}
    return IceGroups(
        forming=tuple(ids[k] for k in YOUNG_KEYS if k in ids),
        first_year=tuple(i for k, i in ids.items() if k.endswith("first_year_ice")),
        old=ids.get("old_ice"),
        water=legend.water,
    )


def keys(legend: Legend) -> tuple[str, ...]:
    """Return the keys of a legend's classes, in the order of their ids."""
    return tuple(c.key for c in legend.classes)


def check_rasters(prediction: Classes, reference: Classes, legend: Legend) -> None:
    """Refuse rasters that cannot be compared.

    Raises
    ------
    GridError
        If their shapes differ or are not (rows, cols).
    ConfigError
        If they are not of uint8, or hold an id that the legend lacks.
    """
    if prediction.shape != reference.shape or prediction.ndim != 2:
        raise GridError(f"prediction and reference have the shapes {prediction.shape} and {reference.shape}.")
    for name, raster in (("prediction", prediction), ("reference", reference)):
        if raster.dtype != np.uint8:
            raise ConfigError(f"the {name}'s classes are {raster.dtype}, not uint8.")
        # Without IGNORE's 255, which 1 turns into 0, what is left must be at most the number of classes.
        highest = int((raster + np.uint8(1)).max(initial=0)) - 1
        if highest >= len(legend):
            raise ConfigError(
                f"the {name} holds class {highest}; legend {legend.name} has 0 to {len(legend) - 1}, and {IGNORE}."
            )


def compared(prediction: Classes, reference: Classes) -> Bools:
    """Return where both rasters have a class: the only pixels that any check looks at, (rows, cols)."""
    return np.asarray((prediction != IGNORE) & (reference != IGNORE))


def only_compared(prediction: Classes, reference: Classes) -> tuple[Classes, Classes]:
    """Return copies of both rasters with IGNORE wherever one of them has it."""
    without = ~compared(prediction, reference)
    a, b = prediction.copy(), reference.copy()
    a[without], b[without] = IGNORE, IGNORE
    return a, b


def pixel_km(pixel_m: float) -> float:
    """Return the side of a pixel in km.

    Raises
    ------
    GridError
        If it is not positive.
    """
    if not pixel_m > 0:
        raise GridError(f"a pixel of {pixel_m} m has no area.")
    return pixel_m / 1000


def pixel_km2(pixel_m: float) -> float:
    """Return the area of a pixel in km2; raises as :func:`pixel_km`."""
    return pixel_km(pixel_m) ** 2
