"""From codes to classes: the dominant ice type of each polygon, and the share of its area that each class has.

The dominant type is the one with the largest partial concentration, and a tie goes to the thicker type, which is safer
for ships. SIGRID-3 lists types from the thickest, so the first is not necessarily the dominant one. If a polygon has
only one type, charts leave its partial concentration empty: it is the total.

One type without a partial concentration has what the others leave of the total. If several types have none, as in
charts that name two or three types without any partial concentration, their shares of the rest are unknown. A type
whose concentration is given and larger than that rest is dominant nevertheless; otherwise the polygon's type is
unknown, unless the caller chooses to give all of the rest to the first of them, as the labels of AI4Arctic do.

Further codes. CD is the stage of the remainder where the three types do not sum to the total: it counts as a fourth
type with the remaining concentration, and may be dominant. A remainder without CD is of unknown type. CN is the stage
of a trace, less than a tenth, of thicker ice: it has no share and decides nothing.

Shares. A range counts by its middle, "9+" as 9.5 tenths. Analysts let the parts of a polygon of 9+ sum to ten, so its
parts are shares of ten, scaled to 9.5; but a part that is 9+ itself, beside no type without a part, is all of the ice.
Parts that sum to more than the total are scaled down to it.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from floemap.counts import counted
from floemap.errors import ChartError
from floemap.icechart.read.codes import (
    BERGY_WATER_CODE,
    ICE_FREE_OR_UNKNOWN,
    NO_ICE,
    NO_TYPE,
    NOT_GIVEN,
    TENTHS,
    UNKNOWN_CODES,
    WATER_CODES,
    tenths,
)
from floemap.icechart.read.sigrid3 import Chart
from floemap.legend import IGNORE, STAGES_BY_THICKNESS, Legend, stage_of

logger = logging.getLogger(__name__)

#: Treatment of codes that have no meaning in their column: refuse the chart, or leave the polygon without a class.
Unmapped = Literal["error", "ignore"]

#: Treatment of several types without partial concentrations: unknown shares, or the first has what the others leave.
WithoutParts = Literal["unknown", "first"]

_IGNORE_HINT = "--unmapped ignore leaves such polygons without a class, and counts them."
_SUM_EPSILON = 1e-6


class Rule(StrEnum):
    """The rule that decided a polygon's type."""

    WATER = "water"  # POLY_TYPE W, or CT is ice free or open water
    LAND = "land"
    ICE_SHELF = "ice_shelf"
    NO_DATA = "no_data"  # POLY_TYPE N, or neither type nor concentration given
    BERGY_WATER = "bergy_water"
    SINGLE = "single_type"  # one type, and no partial concentration, or an unknown one: it has the total
    FIRST = "first_type_largest"
    SECOND = "second_type_largest"
    THIRD = "third_type_largest"
    REMAINDER = "remainder_largest"  # the type CD
    TIE = "tie_to_thicker"
    NO_STAGE = "no_stage"  # ice, but the type that decides has no stage of development
    UNKNOWN_PARTS = "unknown_parts"  # several types, but a partial concentration is unknown, or several are not given


#: The stage that each code means; 255 for none.
_STAGE_OF = np.array([*map(stage_of, range(255)), 255])
_BY_TYPE = {"L": Rule.LAND, "S": Rule.ICE_SHELF, "N": Rule.NO_DATA, "W": Rule.WATER}
#: Rules of polygons that hold no sea ice, or of which nothing is known.
_NOT_ICE = (Rule.WATER, Rule.LAND, Rule.ICE_SHELF, Rule.NO_DATA, Rule.BERGY_WATER)
_BY_SLOT = np.array([Rule.FIRST, Rule.SECOND, Rule.THIRD, Rule.REMAINDER], object)


@dataclass(frozen=True)
class IceTypes:
    """Ice types of a chart's polygons by their codes.

    Attributes
    ----------
    features
        Ids of the polygons' features, (n,).
    rule
        The :class:`Rule` that decided each, (n,).
    stage
        Stage of development of the dominant type, (n,); NOT_GIVEN where there is none.
    stages
        Stages of the types A, B, C and of the remainder, (n, 4).
    shares
        Shares of these types in the polygon's area, (n, 4), 0 where there is no such type.
    water
        Share of open water, (n,). The rest, 1 minus `shares` and `water`, is unknown.
    concentration
        Total concentration of ice as a share of the polygon's area, (n,): 0 in water, not-a-number where the chart does
        not give it, and in polygons of land, ice shelf, bergy water and no data.
    remainder_larger
        Number of polygons where a remainder of unknown type is larger than the dominant type.
    without_parts
        Ids of ice polygons that name several types without their partial concentrations.
    odd_concentrations
        Number of ice polygons by code, for concentrations whose code has no meaning; they count as unknown.
    """

    features: NDArray[Any]
    rule: NDArray[Any]
    stage: NDArray[np.int16]
    stages: NDArray[np.int16]
    shares: NDArray[np.float64]
    water: NDArray[np.float64]
    concentration: NDArray[np.float64]
    remainder_larger: int
    without_parts: tuple[int, ...]
    odd_concentrations: Mapping[int, int]

    @property
    def counts(self) -> dict[str, int]:
        """Number of polygons by rule."""
        return dict(sorted(Counter(str(r) for r in self.rule).items()))


def ice_types(chart: Chart, *, unmapped: Unmapped = "error", without_parts: WithoutParts = "unknown") -> IceTypes:
    """Decide the dominant type of each polygon, and the shares of all types.

    Parameters
    ----------
    chart
        The chart.
    unmapped
        "error", or "ignore": treat a concentration whose code has no meaning as unknown, and count it.
    without_parts
        For polygons with several types without a partial concentration: "unknown", or "first", which gives the first of
        them all that the other types leave.

    Raises
    ------
    ChartError
        If the code of a concentration of ice has no meaning; the message names the polygon.
    """
    ct = chart.codes("ct")
    rule = _rule_by_type(chart, ct)
    is_ice = np.array([r is None for r in rule])
    parts = np.stack([chart.codes(c) for c in ("ca", "cb", "cc")], axis=1)
    stages = np.stack([chart.codes(c) for c in ("sa", "sb", "sc", "cd")], axis=1)
    odd = _odd(chart, is_ice, np.column_stack([ct, parts]), unmapped)

    total = tenths(ct)[1]
    open_types, alone = _open_types(parts, stages)
    # Parts of 9+ sum to ten, unless one of them is 9+, as the total is.
    whole = (parts == ct[:, None]).any(axis=1) & ~open_types.any(axis=1)
    full = np.where((total >= 9.5) & ~whole, 10, total)
    several = is_ice & (open_types.sum(axis=1) > 1)
    if without_parts == "first":
        open_types &= np.cumsum(open_types, axis=1) == 1
    single = alone & (open_types.sum(axis=1) <= 1)
    amount, left = _amounts(parts, open_types & ~single[:, None], full)
    amount[single] = 0

    known = np.where(np.isnan(amount), 0, amount)
    largest = known.max(axis=1)
    unknown_parts = np.isnan(amount).any(axis=1) | (np.nansum(amount, axis=1) <= 0)
    unknown_parts |= (open_types.sum(axis=1) > 1) & (left > largest - _SUM_EPSILON)
    unknown_parts &= is_ice & ~single
    among = (known >= largest[:, None] - _SUM_EPSILON) & (known > 0)
    slot = np.where(single, open_types.argmax(axis=1), _thickest(stages, among))
    kinds = _STAGE_OF[np.where(stages < 0, 255, stages)]
    tie = np.where(among, kinds, -1).max(axis=1) > np.where(among, kinds, 255).min(axis=1)
    stage = stages[np.arange(len(chart)), slot]

    decided = np.select([single, unknown_parts, tie], [Rule.SINGLE, Rule.UNKNOWN_PARTS, Rule.TIE], _BY_SLOT[slot])
    decided = np.where((stage == NOT_GIVEN) & (decided != Rule.UNKNOWN_PARTS), Rule.NO_STAGE, decided)
    rule = np.array([Rule(d if ice else r) for ice, d, r in zip(is_ice, decided, rule, strict=True)], object)
    stage = np.where(is_ice & (rule != Rule.UNKNOWN_PARTS), stage, NOT_GIVEN).astype(np.int16)

    amount[single, slot[single]] = full[single]
    shares, water = _shares(np.where(is_ice[:, None], np.nan_to_num(amount), 0), total / 10, full)
    water = np.where(is_ice, water, np.where(rule == Rule.WATER, 1.0, 0.0))
    concentration = np.where(is_ice, total / 10, np.where(rule == Rule.WATER, 0.0, np.nan))
    unnamed = np.where(is_ice & ~single, np.nan_to_num(full) - known.sum(axis=1), 0)
    larger = int(((unnamed > largest + _SUM_EPSILON) & (rule != Rule.UNKNOWN_PARTS)).sum())
    if larger:
        where = counted(larger, "polygon")
        logger.info("%s: in %s more ice is of unnamed type than of any named", chart.path, where)
    features = np.asarray(chart.polygons.index)
    without = tuple(features[several].tolist())
    return IceTypes(features, rule, stage, stages, shares, water, concentration, larger, without, odd)


def _open_types(parts: NDArray[np.int16], stages: NDArray[np.int16]) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Return which of the types A, B, C and remainder lack a partial concentration, (n, 4), and which polygons give no
    useful one, (n,).

    The remainder never has one. A single type is all of the ice, even if the chart gives its concentration as unknown.
    """
    named = ~np.isin(stages, NO_TYPE)
    open_types = named & np.column_stack([parts == NOT_GIVEN, np.ones(len(parts), bool)])
    unknown_alone = np.isin(parts[:, 0], list(UNKNOWN_CODES)) & named[:, 0] & ~named[:, 1:].any(axis=1)
    open_types[:, 0] |= unknown_alone
    without = (parts == NOT_GIVEN).all(axis=1)
    return open_types, without | (unknown_alone & (parts[:, 1:] == NOT_GIVEN).all(axis=1))


def _amounts(
    parts: NDArray[np.int16], open_types: NDArray[np.bool_], full: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return tenths of the sea surface of the four types, (n, 4), before scaling, and the tenths they leave, (n,).

    A single type without a part has what the others leave, not-a-number where that is unknown. Several have 0.
    """
    amount = np.zeros((len(parts), 4))
    amount[:, :3] = np.where(parts == NOT_GIVEN, 0, tenths(parts)[1])
    given = np.nansum(amount, axis=1)
    left = np.maximum(full - given, 0)
    one = open_types & (open_types.sum(axis=1) == 1)[:, None]
    amount[:, :3] = np.where(one[:, :3], left[:, None], amount[:, :3])
    amount[:, 3] = np.where(one[:, 3], np.nan_to_num(left), 0)
    return amount, np.where(np.isnan(left), np.maximum(10 - given, 0), left)


def _rule_by_type(chart: Chart, ct: NDArray[np.int16]) -> NDArray[Any]:
    """Return the rule for polygons without ice types, None for the others. POLY_TYPE has precedence over CT."""
    types = chart.polygons["poly_type"].to_numpy()
    rule = np.full(len(chart), None, object)
    rule[np.isin(ct, list(WATER_CODES))] = Rule.WATER
    stages = np.stack([chart.codes(c) for c in ("sa", "sb", "sc", "cd")], axis=1)
    rule[(ct == ICE_FREE_OR_UNKNOWN) & np.isin(stages, NO_ICE).all(axis=1)] = Rule.WATER
    rule[ct == BERGY_WATER_CODE] = Rule.BERGY_WATER
    nothing = (ct == NOT_GIVEN) & (chart.codes("sa") == NOT_GIVEN)
    rule[nothing & (types == "")] = Rule.NO_DATA
    for letter, by_type in _BY_TYPE.items():
        rule[types == letter] = by_type
    return rule


def _odd(chart: Chart, is_ice: NDArray[np.bool_], codes: NDArray[np.int16], unmapped: Unmapped) -> dict[int, int]:
    """Count meaningless concentrations of ice polygons, or refuse the first. `codes` are CT, CA, CB, CC, (n, 4)."""
    known = np.isin(codes, [NOT_GIVEN, *UNKNOWN_CODES, *TENTHS]) | ~is_ice[:, None]
    rows, columns = np.nonzero(~known)
    if len(rows) and unmapped == "error":
        row, column = rows[0], columns[0]
        raise ChartError(
            f"polygon {chart.polygons.index[row]}: {('CT', 'CA', 'CB', 'CC')[column]} is "
            f"{codes[row, column]:02d}, which is not a code of a concentration.",
            path=chart.path,
            hint=_IGNORE_HINT,
        )
    return dict(sorted(Counter(int(c) for c in codes[rows, columns]).items()))


def _thickest(stages: NDArray[np.int16], among: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Return the column of the thickest of (n, 4) stages `among` the candidates; a known stage precedes none."""
    rank = np.zeros(256, np.int64)  # 0 for codes without a meaning, and for none
    for place, code in enumerate(STAGES_BY_THICKNESS, 2):
        rank[np.equal(_STAGE_OF, code)] = place
    ranks = rank[np.where(stages < 0, 255, stages)] + (stages >= 0)
    return np.asarray(np.where(among, ranks, -1).argmax(axis=1))


def _shares(
    amount: NDArray[np.float64], total: NDArray[np.float64], full: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return shares of area, (n, 4), and of water, (n,), from tenths; for unknown totals, not-a-number, no water."""
    summed = amount.sum(axis=1)
    base = np.maximum(np.where(np.isnan(full), 10, full), summed)
    scale = np.where(np.isnan(total), 1, total)
    shares = amount * np.divide(scale, base, out=np.zeros_like(base), where=base > 0)[:, None]
    return shares, np.where(np.isnan(total), 0, 1 - total)


def class_ids(types: IceTypes, legend: Legend, *, unmapped: Unmapped = "error") -> NDArray[np.uint8]:
    """Return each polygon's class in `legend`, :data:`floemap.legend.IGNORE` where it has none, (n,).

    Raises
    ------
    ChartError
        If a dominant stage is not in the legend; the message names the polygon and the code.
    """
    table = legend.code_to_class
    ids = np.full(len(types.rule), IGNORE, np.uint8)
    ids[types.rule == Rule.WATER] = legend.water
    ids[(types.rule == Rule.NO_STAGE) | (types.rule == Rule.UNKNOWN_PARTS)] = legend.stageless
    for i in np.flatnonzero(types.stage != NOT_GIVEN):
        ids[i] = _class_of(int(types.stage[i]), types.features[i], legend, table, unmapped)
    return ids


def _class_of(stage: int, feature: Any, legend: Legend, table: Mapping[int, int], unmapped: Unmapped) -> int:
    """Return the class of a stage by the legend's `table`, IGNORE for one that it lacks, or raise by `unmapped`."""
    if stage not in table and unmapped == "error":
        message = f"polygon {feature}: stage of development {stage:02d} is not in legend {legend.name}."
        raise ChartError(message, hint=_IGNORE_HINT)
    return table.get(stage, IGNORE)


def unmapped_stages(types: IceTypes, legend: Legend) -> dict[int, int]:
    """Count the polygons whose dominant stage is not in `legend`, by code."""
    table = legend.code_to_class
    found = Counter(int(s) for s in types.stage if s != NOT_GIVEN and int(s) not in table)
    return dict(sorted(found.items()))


def class_fractions(types: IceTypes, legend: Legend, *, unmapped: Unmapped = "error") -> NDArray[np.float64]:
    """Return the share of each class in each polygon's area, (n, classes + 1); the last column is the unknown share.

    Rows sum to 1. Types without a class (glacier ice, undetermined), remainders of unnamed type and unknown
    concentrations count as unknown; so do whole polygons of land, ice shelf, bergy water or no data. The rest of the
    total concentration is open water.

    Raises
    ------
    ChartError
        If a stage with a share is not in the legend; the message names the polygon and the code.
    """
    fractions = np.zeros((len(types.rule), len(legend) + 1))
    fractions[:, legend.water] = types.water
    with_share = types.shares > 0
    targets = _classes_of_types(types, legend, unmapped, with_share)
    for i, slot in zip(*np.nonzero(with_share), strict=True):
        target = targets[i, slot]
        fractions[i, -1 if target == IGNORE else target] += types.shares[i, slot]
    fractions[:, -1] += np.maximum(0, 1 - fractions.sum(axis=1))
    return fractions


def candidate_classes(types: IceTypes, legend: Legend) -> NDArray[np.bool_]:
    """Return which classes each polygon may hold, by its codes, (n, classes).

    These are the classes of all ice types that the polygon names, whether their concentrations are known or not, open
    water where the total concentration leaves some, and the class of the dominant type. Nothing is known of ice that
    the polygon does not name, of types without a class, and of a trace (CN), so these add no candidates.
    """
    named = ~np.isin(types.rule, _NOT_ICE)[:, None] & ~np.isin(types.stages, NO_TYPE)
    targets = _classes_of_types(types, legend, "ignore", named | (types.shares > 0))
    dominant = class_ids(types, legend, unmapped="ignore")
    found = np.zeros((len(types.rule), 256), np.bool_)
    np.put_along_axis(found, np.column_stack([targets, dominant]).astype(np.intp), True, axis=1)
    found[:, legend.water] |= types.water > 0
    return found[:, : len(legend)]


def _classes_of_types(
    types: IceTypes, legend: Legend, unmapped: Unmapped, among: NDArray[np.bool_]
) -> NDArray[np.uint8]:
    """Return the class of each type of each polygon, (n, 4); IGNORE for types without one, and outside `among`."""
    table = legend.code_to_class | {NOT_GIVEN: legend.stageless}
    targets = np.full(types.stages.shape, IGNORE, np.uint8)
    for i, slot in zip(*np.nonzero(among), strict=True):
        targets[i, slot] = _class_of(int(types.stages[i, slot]), types.features[i], legend, table, unmapped)
    return targets
