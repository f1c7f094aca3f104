"""From shares of classes to the numbers of an egg code: the total concentration and the ice types, in tenths.

An egg (WMO No. 259; SIGRID-3, WMO/JCOMM TR-23) gives the total concentration of ice in a polygon, up to three types
with their partial concentrations, the thickest first, a fourth type that has what these leave (CD), and a trace, less
than a tenth, of a type that is thicker than all of them (CN).

Rounding. The total becomes the nearest of 1 to 9 tenths, 9+ (counted as 9.5) and 10 tenths; less than one tenth is open
water. The partial concentrations are whole tenths that sum to the total, and to ten where it is 9+, as analysts let
them: each type gets its whole tenths, and those that are left go to the largest remainders, of equal ones to the
thicker type.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from floemap.icechart.draw.regions import Ints
from floemap.icechart.draw.zonal_means import Floats
from floemap.legend import ICE_FREE, IGNORE, STAGES_BY_THICKNESS, Legend, stage_of

#: Number of types of an egg: A, B, C, and what these leave.
TYPES = 4
#: Codes of a class's stage of development that name no ice type; such ice is written as undetermined.
_NO_STAGE = (ICE_FREE, 80)
#: Stage of development of ice whose type is not known.
UNDETERMINED = 99
#: Share of a polygon's pixels from which a thicker type without a tenth is a trace.
_TRACE = 0.01
#: Total concentrations below it are open water, by WMO's nomenclature.
_OPEN_WATER = 0.1
#: Total concentrations below it, from probabilities where water is the most probable, are doubt rather than ice.
_DOUBT = 0.2
#: Concentrations between these are written as 9+, which counts as 9.5 tenths: nearer to it than to 9 and to 10.
_NINE_PLUS = (0.925, 0.975)
#: Differences of shares below it are rounding.
_EPSILON = 1e-9


@dataclass(frozen=True)
class EggSource:
    """What the eggs of polygons are estimated from; rasters on the grid, uint8, 255 for no-data.

    Attributes
    ----------
    shares
        One raster for each class, in units of `step`, in order: predicted shares, or calibrated
        probabilities. None: the classes of the pixels are counted.
    step
        Value of one unit in them.
    concentration
        Total concentration, in units of `concentration_step`; None: it is what the share of water leaves.
    concentration_step
        Value of one unit in it.
    doubt
        Whether the shares are probabilities: then a little ice in water may be doubt, see :func:`make_eggs`.
    """

    shares: Sequence[NDArray[np.uint8]] | None = None
    step: float = 0.005
    concentration: NDArray[np.uint8] | None = None
    concentration_step: float = 0.005
    doubt: bool = False


@dataclass(frozen=True)
class Eggs:
    """Eggs of polygons.

    Attributes
    ----------
    concentration
        Total concentration as estimated, 0 to 1, (polygons,); not-a-number in polygons that hold no sea.
    nine_plus
        Whether the total is written as 9+ tenths, (polygons,).
    types
        Class ids of the types, the thickest first, (polygons, 4); IGNORE where there is no such type, and for ice of
        unknown type.
    tenths
        Tenths of each type, (polygons, 4), 0 where there is no such type.
    trace
        Class id of a trace of a thicker type, IGNORE where there is none, (polygons,).
    certainty
        Mean probability of each type on the pixels where it is the most probable class, (polygons, 4); not-a-number
        where it is on none.
    """

    concentration: Floats
    nine_plus: NDArray[np.bool_]
    types: NDArray[np.uint8]
    tenths: Ints
    trace: NDArray[np.uint8]
    certainty: Floats

    @cached_property
    def total(self) -> Ints:
        """Total concentration in tenths, (polygons,): 0 in open water, 10 where it is 9+."""
        return np.asarray(self.tenths.sum(axis=1))

    def dominant(self, legend: Legend) -> NDArray[np.uint8]:
        """Return the class of each polygon by its egg, (polygons,), as readers of charts decide it.

        It is the type with the largest partial concentration, of equal ones the thicker, and the class of water without
        ice. Ice of unknown type has the class that the legend gives to it. Polygons that hold no sea have IGNORE.
        """
        unknown = legend.code_to_class.get(UNDETERMINED, legend.stageless)
        found = self.types[np.arange(len(self.types)), self.tenths.argmax(axis=1)]
        found = np.where((found == IGNORE) & (self.total > 0), unknown, found)
        found = np.where((self.total == 0) & ~np.isnan(self.concentration), legend.water, found)
        return np.asarray(found, np.uint8)


def stage_code(class_id: int, legend: Legend) -> int:
    """Return the stage of development that eggs write for a class of ice; IGNORE is ice of unknown type."""
    code = UNDETERMINED if class_id == IGNORE else legend.classes[class_id].written_as
    return UNDETERMINED if code in _NO_STAGE else code


def make_eggs(
    shares: Floats, concentration: Floats, seen: Floats, certainty: Floats, legend: Legend, *, doubt: bool = False
) -> Eggs:
    """Make the eggs of polygons.

    Parameters
    ----------
    shares
        Shares of the classes, water included, (polygons, K). Only the ratios of the types of ice count.
    concentration
        Total concentration of ice, 0 to 1, (polygons,); not-a-number in polygons that hold no sea.
    seen
        Share of pixels on which each class is the most probable one, (polygons, K), for traces.
    certainty
        Mean probability of each class where it is the most probable one, (polygons, K).
    doubt
        Whether `concentration` is a mean of probabilities. A probability of ice of 0.1 on each pixel of a sea without
        ice would be one tenth of ice everywhere, so polygons of which more than half is most probably water are open
        water below two tenths.
    """
    order = _thickest_first(legend)
    ice, seen_ice, sure = (
        _by_type(values, order, legend) for values in (shares, seen, np.nan_to_num(certainty) * seen)
    )
    ids = np.array(order, np.uint8)
    sea = ~np.isnan(concentration)
    open_water = doubt & (seen[:, legend.water] > 0.5) & (concentration < _DOUBT)
    total, nine_plus = _tenths_of(np.where(sea & ~open_water, concentration, 0.0))
    without = sea & (total > 0) & (ice.sum(axis=1) <= _EPSILON)
    tenths = _partial(np.where(sea[:, None], ice, 0.0), np.where(without, 0, total))
    trace = np.where((tenths > 0).any(axis=1), _trace(tenths, seen_ice, ids), IGNORE)
    sure = np.divide(sure, seen_ice, out=np.full(sure.shape, np.nan), where=seen_ice > 0)
    # The types with tenths come first, in the order of thickness.
    place = np.argsort(tenths == 0, axis=1, kind="stable")[:, :TYPES]
    tenths, sure = (np.take_along_axis(v, place, axis=1) for v in (tenths, sure))
    types = np.where(tenths > 0, ids[place], IGNORE)
    sure = np.where(tenths > 0, sure, np.nan)
    spare = TYPES - tenths.shape[1]
    if spare > 0:
        pad = ((0, 0), (0, spare))
        tenths, types = np.pad(tenths, pad), np.pad(types, pad, constant_values=IGNORE)
        sure = np.pad(sure, pad, constant_values=np.nan)
    tenths[without, 0] = total[without]
    return Eggs(
        np.where(sea, concentration, np.nan),
        nine_plus & sea,
        types.astype(np.uint8),
        tenths,
        np.asarray(trace, np.uint8),
        np.asarray(sure),
    )


def _thickest_first(legend: Legend) -> list[int]:
    """Return the classes of ice that eggs distinguish, the thickest first: one for each stage of development.

    Their order is that of the stages that are written, as readers see no others; stages without a known thickness come
    last.
    """
    by_code = {stage_code(k, legend): k for k in legend.by_thickness if k != legend.water}
    rank = {stage: i for i, stage in enumerate(STAGES_BY_THICKNESS)}
    return [by_code[code] for code in sorted(by_code, key=lambda code: -rank.get(stage_of(code), -1))]


def _by_type(values: Floats, order: list[int], legend: Legend) -> Floats:
    """Sum values of classes, (polygons, K), by stage of development, in the order of the types, (polygons, types)."""
    place = {stage_code(k, legend): i for i, k in enumerate(order)}
    out = np.zeros((len(values), len(order)))
    for c in legend.classes:
        if c.id != legend.water:
            out[:, place[stage_code(c.id, legend)]] += np.nan_to_num(values[:, c.id])
    return out


def _tenths_of(concentration: Floats) -> tuple[Ints, NDArray[np.bool_]]:
    """Return whole tenths, (polygons,), ten for 9+, and where the total is 9+."""
    low, high = _NINE_PLUS
    rounded = np.floor(10 * concentration + 0.5 + _EPSILON).astype(np.int64).clip(0, 9)
    tenths = np.where(concentration >= low, 10, rounded)
    tenths = np.where(concentration < _OPEN_WATER - _EPSILON, 0, tenths)
    return tenths, (concentration >= low) & (concentration < high)


def _partial(ice: Floats, total: Ints) -> Ints:
    """Return tenths, (polygons, types), that sum to `total`, (polygons,), for at most :data:`TYPES` of the types."""
    largest = np.argsort(-ice.round(9), axis=1, kind="stable")  # of equal ones the thicker
    kept = ice.copy()
    np.put_along_axis(kept, largest[:, TYPES:], 0.0, axis=1)
    whole = kept.sum(axis=1)
    exact = kept * np.divide(total, whole, out=np.zeros(len(ice)), where=whole > 0)[:, None]
    tenths = np.floor(exact + _EPSILON).astype(np.int64)
    remainder = np.where(kept > 0, exact - tenths, -1.0)
    rank = np.argsort(np.argsort(-remainder.round(9), axis=1, kind="stable"), axis=1, kind="stable")
    left = np.where(whole > 0, total - tenths.sum(axis=1), 0)
    return np.asarray(tenths + (rank < left[:, None]))


def _trace(tenths: Ints, seen: Floats, ids: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return the thickest type that has no tenth, is thicker than all that have, and is seen; IGNORE if none is."""
    thicker = np.cumsum(tenths, axis=1) == 0
    found = thicker & (seen >= _TRACE)
    return np.where(found.any(axis=1), ids[found.argmax(axis=1)], np.uint8(IGNORE))
