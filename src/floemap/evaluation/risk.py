"""Where a predicted chart would send a ship that the reference would not: areas by level of operation.

Everything follows from areas by reference level and predicted level, (3, 3), which add over blocks, scenes and repeats.
For rasters of classes they follow from the confusion matrix, so that these checks have intervals as scores have (see
:mod:`floemap.evaluation.spread`). Areas are those of the map's projection: in a polar stereographic map true at 70
degrees they are 8 % too large at 60 degrees and 6 % too small at the pole, predicted and reference alike.

Advisory: see :data:`floemap.evaluation.polaris.ADVISORY`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from floemap.errors import GridError
from floemap.evaluation.polaris import REPORTED_SHIPS, TENTHS, IceType, Level, class_levels, ship_class
from floemap.legend import IGNORE, Legend

_LEVELS = len(Level)


@dataclass(frozen=True)
class RiskAreas:
    """Areas of one scene, or of several together, for one ice class of ships, km2.

    Only where both charts have a class.

    Attributes
    ----------
    ship
        Key of :data:`floemap.evaluation.polaris.SHIP_CLASSES`.
    false_safe_km2
        The prediction allows normal operation, the reference does not: the dangerous one.
    false_unsafe_km2
        The reference allows normal operation, the prediction does not.
    both_normal_km2, neither_normal_km2
        They agree.
    """

    ship: str
    false_safe_km2: float
    false_unsafe_km2: float
    both_normal_km2: float
    neither_normal_km2: float

    @property
    def false_safe_share(self) -> float:
        """Share of the area without normal operation that the prediction calls normal; NaN where there is none."""
        closed_km2 = self.false_safe_km2 + self.neither_normal_km2
        return self.false_safe_km2 / closed_km2 if closed_km2 else float("nan")

    @property
    def false_unsafe_share(self) -> float:
        """Share of the area of normal operation that the prediction calls something else; NaN where there is none."""
        open_km2 = self.false_unsafe_km2 + self.both_normal_km2
        return self.false_unsafe_km2 / open_km2 if open_km2 else float("nan")


def areas_by_level(confusion: ArrayLike, levels: NDArray[np.uint8], pixel_m: float) -> NDArray[np.float64]:
    """Sum a confusion matrix of classes up to areas by level of operation.

    Parameters
    ----------
    confusion
        (..., classes, classes), pixels by reference class and predicted class.
    levels
        (classes,), as from :func:`floemap.evaluation.polaris.class_levels`.
    pixel_m
        Side of a pixel.

    Returns
    -------
    numpy.ndarray
        (..., 3, 3), km2 by reference level and predicted level.

    Raises
    ------
    GridError
        If the matrix is not of as many classes as there are levels.
    """
    counts = np.asarray(confusion)
    if counts.shape[-2:] != (len(levels), len(levels)):
        raise GridError(f"a confusion matrix of shape {counts.shape} does not fit {len(levels)} classes.")
    member = (levels[:, None] == np.arange(_LEVELS)).astype(np.int64)  # classes, levels
    return np.asarray(member.T @ counts @ member * (pixel_m / 1000) ** 2, np.float64)


def areas_of_levels(
    reference: NDArray[np.uint8], prediction: NDArray[np.uint8], area_km2: ArrayLike
) -> NDArray[np.float64]:
    """Sum areas by reference level and predicted level, from levels of pixels, polygons or blocks.

    Parameters
    ----------
    reference, prediction
        Levels, any equal shape, :data:`floemap.legend.IGNORE` where there is none.
    area_km2
        Of each, broadcast to that shape.

    Returns
    -------
    numpy.ndarray
        (3, 3), km2 by reference level and predicted level.

    Raises
    ------
    GridError
        If the shapes differ.
    """
    _same_shape(reference, prediction)
    both = (reference != IGNORE) & (prediction != IGNORE)
    cell = reference[both].astype(np.int64) * _LEVELS + prediction[both]
    area = np.broadcast_to(np.asarray(area_km2, np.float64), reference.shape)[both]
    return np.asarray(np.bincount(cell, weights=area, minlength=_LEVELS**2).reshape(_LEVELS, _LEVELS), np.float64)


def false_safe_km2(areas: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the area where the prediction allows normal operation and the reference does not: (..., 3, 3) to (...)."""
    return np.asarray(areas[..., Level.NORMAL + 1 :, Level.NORMAL].sum(axis=-1))


def mean_understated(confusion: ArrayLike, values: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return by how many points of risk index outcome the prediction understates the risk, on average over pixels.

    A pixel adds how much higher (safer) the outcome of its predicted class is than that of its reference class, and 0
    where it is lower: an error to the other side does not make up for it. So this counts every mistake that an area
    called false-safe counts, and by how bad it is.

    Parameters
    ----------
    confusion
        (..., classes, classes), pixels by reference class and predicted class.
    values
        (classes,), as from :func:`floemap.evaluation.polaris.risk_values`.

    Returns
    -------
    numpy.ndarray
        (...), NaN where there is no pixel.

    Raises
    ------
    GridError
        If the matrix is not of as many classes as there are values.
    """
    counts = np.asarray(confusion, np.float64)
    if counts.shape[-2:] != (len(values), len(values)):
        raise GridError(f"a confusion matrix of shape {counts.shape} does not fit {len(values)} classes.")
    understated = TENTHS * np.maximum(values[None, :] - values[:, None], 0)
    total = counts.sum(axis=(-2, -1))
    summed = (counts * understated).sum(axis=(-2, -1))
    return np.asarray(np.divide(summed, total, out=np.full(total.shape, np.nan), where=total > 0))


def false_unsafe_km2(areas: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the area where the reference allows normal operation and the prediction does not: (..., 3, 3) to (...)."""
    return np.asarray(areas[..., Level.NORMAL, Level.NORMAL + 1 :].sum(axis=-1))


def risk_areas(
    confusion: ArrayLike,
    pixel_m: float,
    legend: Legend,
    *,
    ships: Sequence[str] = REPORTED_SHIPS,
    taking: Mapping[str, IceType] | None = None,
) -> dict[str, RiskAreas]:
    """Return false-safe area and its kin for each ice class of ships, every pixel ten tenths of its class.

    Parameters
    ----------
    confusion
        (classes, classes), pixels by reference class and predicted class.
    pixel_m
        Side of a pixel.
    legend
        Of both charts.
    ships
        Keys of :data:`floemap.evaluation.polaris.SHIP_CLASSES`.
    taking
        See :func:`floemap.evaluation.polaris.class_ice_types`.

    Returns
    -------
    dict
        By ship, in the order asked for.

    Raises
    ------
    GridError
        If the matrix does not fit the legend.
    ConfigError
        If a ship or an ice type is not known.
    """
    return {
        ship: summarise(ship, areas_by_level(confusion, class_levels(legend, ship, taking), pixel_m)) for ship in ships
    }


def summarise(ship: str, areas: NDArray[np.float64]) -> RiskAreas:
    """Return areas by level, (3, 3) km2, as what a reader asks for.

    Raises
    ------
    ConfigError
        If there is no such ship.
    GridError
        If `areas` are not (3, 3).
    """
    if areas.shape != (_LEVELS, _LEVELS):
        raise GridError(f"areas by level have the shape {areas.shape}, not (3, 3).")
    return RiskAreas(
        ship=ship_class(ship).key,
        false_safe_km2=float(false_safe_km2(areas)),
        false_unsafe_km2=float(false_unsafe_km2(areas)),
        both_normal_km2=float(areas[Level.NORMAL, Level.NORMAL]),
        neither_normal_km2=float(areas[Level.NORMAL + 1 :, Level.NORMAL + 1 :].sum()),
    )


def add_up(parts: Sequence[RiskAreas]) -> RiskAreas:
    """Return the areas of several scenes together; shares follow from the sums.

    Raises
    ------
    GridError
        If there are none, or they are of several ships.
    """
    ships = {part.ship for part in parts}
    if len(ships) != 1:
        raise GridError(f"areas of {len(ships)} ice classes of ships do not add up to one.")
    return RiskAreas(
        ship=ships.pop(),
        false_safe_km2=sum(part.false_safe_km2 for part in parts),
        false_unsafe_km2=sum(part.false_unsafe_km2 for part in parts),
        both_normal_km2=sum(part.both_normal_km2 for part in parts),
        neither_normal_km2=sum(part.neither_normal_km2 for part in parts),
    )


def region_counts(classes: NDArray[np.uint8], regions: NDArray[np.integer], n_classes: int) -> NDArray[np.int64]:
    """Count the pixels of each class in each region: an ice regime is a region, not a pixel.

    Parameters
    ----------
    classes
        (rows, cols), class ids, :data:`floemap.legend.IGNORE` where there is none.
    regions
        (rows, cols), from 1, 0 where there is none: polygons of a chart as drawn by
        :func:`floemap.charts.rasterize.rasterize_polygons`, or blocks.
    n_classes
        Of the legend.

    Returns
    -------
    numpy.ndarray
        (regions, classes): row i is region i + 1, up to the highest number there is. Counts of tiles add up where
        they are padded to the same number of regions.

    Raises
    ------
    GridError
        If the shapes differ, or a class id is not below `n_classes`.
    """
    _same_shape(classes, regions)
    counted = (classes != IGNORE) & (regions > 0)
    chosen = classes[counted]
    if chosen.size and chosen.max() >= n_classes:
        raise GridError(f"a raster holds class {chosen.max()}, the legend ids 0 to {n_classes - 1}.")
    n = int(regions.max(initial=0))
    cell = (regions[counted].astype(np.int64) - 1) * n_classes + chosen
    return np.bincount(cell, minlength=n * n_classes).reshape(n, n_classes)


def _same_shape(a: NDArray[np.generic], b: NDArray[np.generic]) -> None:
    if a.shape != b.shape:
        raise GridError(f"rasters of {a.shape} and {b.shape} do not lie on one grid.")
