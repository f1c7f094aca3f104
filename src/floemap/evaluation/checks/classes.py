"""Two maps to compare, checked once for all checks; and which of a legend's classes play which part."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from floemap.errors import ConfigError, GridError
from floemap.evaluation.statistics.blocks import BlockGrid
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


class MapPair:
    """A prediction and the reference it is compared with, on one grid: what every check takes.

    Parameters
    ----------
    prediction, reference
        (rows, cols) uint8 class ids, 255 where there is none. Only pixels with both are compared.
    pixel_m
        Side of a pixel, metres.
    legend
        Of both.
    grid
        Blocks that amounts are shared out over; by default one for all. Must hold all pixels with both.

    Attributes
    ----------
    prediction, reference
        As given, with 255 in both wherever one of them has it.

    Raises
    ------
    GridError
        If shapes differ, or the pixel has no area.
    ConfigError
        If a raster is not of uint8, or holds an id that the legend lacks.
    """

    def __init__(
        self, prediction: Classes, reference: Classes, pixel_m: float, legend: Legend, grid: BlockGrid | None = None
    ) -> None:
        check_rasters(prediction, reference, legend)
        if not pixel_m > 0:
            raise GridError(f"a pixel of {pixel_m} m has no area.")
        self.grid = BlockGrid.whole(prediction.shape) if grid is None else grid
        if self.grid.shape != prediction.shape:
            raise GridError(f"blocks of a raster of {self.grid.shape} for maps of {prediction.shape}.")
        without = (prediction == IGNORE) | (reference == IGNORE)
        self.prediction, self.reference = prediction.copy(), reference.copy()
        self.prediction[without], self.reference[without] = IGNORE, IGNORE
        self.pixel_m, self.legend = float(pixel_m), legend

    @property
    def maps(self) -> tuple[Classes, Classes]:
        """Prediction and reference."""
        return self.prediction, self.reference

    @cached_property
    def here(self) -> Bools:
        """Where both have a class, (rows, cols)."""
        return np.asarray(self.prediction != IGNORE)

    @property
    def pixel_km(self) -> float:
        """Side of a pixel in km."""
        return self.pixel_m / 1000

    @property
    def pixel_km2(self) -> float:
        """Area of a pixel in km2."""
        return self.pixel_km**2

    @cached_property
    def compared_km2(self) -> NDArray[np.float64]:
        """Area where both have a class, of each block, (blocks,)."""
        counts = np.zeros(len(self.grid))
        for block, window in self.grid.pieces():
            counts[block] += np.count_nonzero(self.here[window])
        return counts * self.pixel_km2
