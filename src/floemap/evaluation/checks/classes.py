"""Input validation for the checks, and the mapping from a legend's classes to physical roles."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from floemap.errors import ConfigError, GridError
from floemap.evaluation.statistics.blocks import BlockGrid
from floemap.legend import IGNORE, Legend, stage_of

Classes = NDArray[np.uint8]
Bools = NDArray[np.bool_]

#: Stages of ice that grows from open water within days to weeks: up to 30 cm thick (WMO nomenclature).
FORMING = frozenset({81, 82, 83, 84, 85})
#: Stages of first-year ice, and of ice that has survived a summer's melt.
FIRST_YEAR, OLD = frozenset({86, 87, 88, 89, 91, 93}), frozenset({95, 96, 97})


@dataclass(frozen=True)
class IceGroups:
    """Ids of a legend's classes by physical role; empty or None where the legend has no such class.

    Attributes
    ----------
    forming
        Ids of new ice, nilas and young ice.
    first_year
        Ids of first-year ice of any thickness.
    old
        Id of old ice; None also where several classes share it.
    water
        Id of open water.
    """

    forming: tuple[int, ...]
    first_year: tuple[int, ...]
    old: int | None
    water: int


def ice_groups(legend: Legend) -> IceGroups:
    """Return the roles of a legend's classes, by their stages of development: a class has a role if all of it has."""

    def among(stages: frozenset[int]) -> tuple[int, ...]:
        ice = (c for c in legend.classes if c.id != legend.water)
        return tuple(c.id for c in ice if {stage_of(code) for code in c.stages} <= stages)

    old = among(OLD)
    return IceGroups(
        forming=among(FORMING),
        first_year=among(FIRST_YEAR),
        old=old[0] if len(old) == 1 else None,
        water=legend.water,
    )


def keys(legend: Legend) -> tuple[str, ...]:
    """Return the keys of a legend's classes, in the order of their ids."""
    return tuple(c.key for c in legend.classes)


def check_rasters(prediction: Classes, reference: Classes, legend: Legend) -> None:
    """Raise an error if two rasters cannot be compared.

    Raises
    ------
    GridError
        If their shapes differ or are not (rows, cols).
    ConfigError
        If the type of one is not uint8, or it holds an id outside the legend.
    """
    if prediction.shape != reference.shape or prediction.ndim != 2:
        raise GridError(f"prediction and reference have the shapes {prediction.shape} and {reference.shape}.")
    for name, raster in (("prediction", prediction), ("reference", reference)):
        if raster.dtype != np.uint8:
            raise ConfigError(f"the {name}'s classes are {raster.dtype}, not uint8.")
        # Adding 1 wraps IGNORE's 255 to 0, so the maximum of the rest is the highest class id plus 1.
        highest = int((raster + np.uint8(1)).max(initial=0)) - 1
        if highest >= len(legend):
            raise ConfigError(
                f"the {name} holds class {highest}; legend {legend.name} has 0 to {len(legend) - 1}, and {IGNORE}."
            )


class MapPair:
    """A prediction and its reference on one grid, the input of every check.

    Parameters
    ----------
    prediction, reference
        (rows, cols) uint8 class ids with no-data 255. Only pixels with both are compared.
    pixel_m
        Side of a pixel, metres.
    legend
        The legend of both.
    grid
        The blocks over which amounts are distributed; by default one block for the whole raster. The blocks must
        cover all pixels that have both classes.

    Attributes
    ----------
    prediction, reference
        Copies of the rasters, with 255 in both wherever one of them has it.

    Raises
    ------
    GridError
        If shapes differ, or the pixel has no area.
    ConfigError
        If the type of a raster is not uint8, or it holds an id outside the legend.
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
        """The prediction and the reference."""
        return self.prediction, self.reference

    @cached_property
    def here(self) -> Bools:
        """Mask of the pixels where both have a class, (rows, cols)."""
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
        """Area of each block in which both have a class, (blocks,)."""
        counts = np.zeros(len(self.grid))
        for block, window in self.grid.pieces():
            counts[block] += np.count_nonzero(self.here[window])
        return counts * self.pixel_km2
