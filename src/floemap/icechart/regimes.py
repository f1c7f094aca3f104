"""The risk index outcome (RIO) of a chart's polygons from their eggs, and the bounds that the codes leave it.

A polygon is a regime of POLARIS (:mod:`floemap.icechart.polaris`): ten tenths of ice types and open water.

The *outcome* takes the shares as the chart gives them (:mod:`floemap.icechart.dominant_type`): a range by its middle,
each stage of development as the thickest type that it may be. Ice without a share is taken as the worst type that the
polygon names; where it does not name one, as the worst of all, heavy multi-year ice. Both err to the safe side.

The *bounds* are the lowest and the highest outcome that the codes allow. Each type has between the lowest and the
highest tenths of its code, half a tenth more and less for rounding; 9+ is from 9 to 10, 10/10 from 9.5 to 10, open
water is up to one tenth of unknown ice. A stage may be any of its ice types, a trace (CN) has up to a tenth, and all
parts and water sum to ten. The lowest sum of tenths times values under such limits fills the worst types first, so the
bounds are exact.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from floemap.icechart.dominant_type import IceTypes, Rule, ice_types
from floemap.icechart.polaris import STAGE_TYPES, TENTHS, IceType, ship_class
from floemap.icechart.read.codes import NO_TYPE, NOT_GIVEN, tenths
from floemap.icechart.read.sigrid3 import Chart
from floemap.legend import stage_of

Floats = NDArray[np.float64]

#: Rules of polygons without an outcome: a ship cannot pass there, or nothing is known.
NO_REGIME = (Rule.LAND, Rule.ICE_SHELF, Rule.NO_DATA)
#: Stage of glacier ice, for which the circular has no value.
_GLACIER = 98
_ANY_ICE = tuple(IceType)[IceType.NEW :]
#: Half of the step in which concentrations are estimated, tenths.
_ROUNDING = 0.5
_NINE_PLUS, _COMPACT = 91, 92
_OPEN_WATER = 1
_SMALL = 1e-6
# Columns of the parts of a polygon: four types of the egg, ice that it does not name, a trace, and water.
_UNNAMED, _TRACE, _WATER = 4, 5, 6
_PARTS = 7


@dataclass(frozen=True)
class Regimes:
    """Outcomes of a chart's polygons for a ship; all (n,), not-a-number for polygons without an outcome.

    Attributes
    ----------
    ship
        Key of the ice class.
    types
        Ice types by the codes.
    outcome
        Risk index outcome of the shares that the chart gives.
    lowest, highest
        Bounds that the codes leave it.
    unknown_tenths
        Tenths of ice whose type or share the polygon does not give, which `outcome` takes as the worst.
    unknown_total
        Whether the polygon has ice of unknown total concentration, (n,) bool.
    glacier
        Whether the polygon names glacier ice or bergy water, (n,) bool: the circular asks for a distance.
    """

    ship: str
    types: IceTypes
    outcome: Floats
    lowest: Floats
    highest: Floats
    unknown_tenths: Floats
    unknown_total: NDArray[np.bool_]
    glacier: NDArray[np.bool_]


def regimes(chart: Chart, ship: str) -> Regimes:
    """Return the outcome of each polygon of a chart for an ice class, with its bounds.

    Raises
    ------
    ConfigError
        If no ice class has the key `ship`.
    """
    kind = ship_class(ship)
    types = ice_types(chart, unmapped="ignore")
    worst, best = _values(types, kind.values, chart.codes("cn"))
    amount, candidates = _amounts(types, worst)
    unknown_total = np.isnan(types.concentration) & ~np.isin(types.rule, [*NO_REGIME, Rule.BERGY_WATER])
    low, high = _limits(chart, types, amount, candidates, unknown_total)
    none = np.isin(types.rule, NO_REGIME)

    def known(values: Floats) -> Floats:
        return np.where(none, np.nan, values.round(9) + 0.0)  # so that -10 stays -10, and no zero is negative

    glacier = (types.rule == Rule.BERGY_WATER) | ((types.stages == _GLACIER).any(axis=1) & (types.rule != Rule.WATER))
    assigned = np.clip(TENTHS - 10 * types.water - 10 * types.shares.sum(axis=1), 0, TENTHS)
    assigned[types.rule == Rule.BERGY_WATER] = _ROUNDING
    undetermined = np.where(_is_vague(types.stages), 10 * types.shares, 0).sum(axis=1)
    return Regimes(
        ship=kind.key,
        types=types,
        outcome=known((amount * worst).sum(axis=1)),
        lowest=known(_lowest(low, high, worst)),
        highest=known(-_lowest(low, high, -best)),
        unknown_tenths=known(assigned + undetermined),
        unknown_total=unknown_total,
        glacier=glacier & ~none,
    )


def _possible(stage: int) -> tuple[IceType, ...]:
    """Return the ice types that a stage may be: any, if it does not say."""
    return STAGE_TYPES.get(stage_of(stage), _ANY_ICE)


def _is_vague(stages: NDArray[np.int16]) -> NDArray[np.bool_]:
    """Return which stages say nothing about the type of ice: undetermined, glacier ice, brash ice."""
    known = [code for code in range(256) if stage_of(code) in STAGE_TYPES and stage_of(code) != 99]
    return ~np.isin(stages, [*known, *NO_TYPE])


def _values(types: IceTypes, values: Sequence[int], trace: NDArray[np.int16]) -> tuple[Floats, Floats]:
    """Return the lowest and the highest risk index value of each part, (n, parts)."""
    stages = np.column_stack([types.stages, np.full(len(trace), 99), trace])
    worst, best = (np.full((len(trace), _PARTS), float(values[IceType.ICE_FREE])) for _ in range(2))
    for stage in np.unique(stages).tolist():
        of_types = [values[t] for t in (_possible(stage) if stage != NOT_GIVEN else _ANY_ICE)]
        at = stages == stage
        worst[:, :_WATER][at], best[:, :_WATER][at] = min(of_types), max(of_types)
    return worst, best


def _amounts(types: IceTypes, worst: Floats) -> tuple[Floats, NDArray[np.bool_]]:
    """Return the tenths of each part that give the outcome, (n, parts), and the types that may have the rest, (n, 4).

    What no type has goes to the worst type that is named without a share, or else to the unnamed ice.
    """
    n = len(types.rule)
    amount = np.zeros((n, _PARTS))
    amount[:, :4], amount[:, _WATER] = 10 * types.shares, 10 * types.water
    rest = np.clip(TENTHS - amount.sum(axis=1), 0, TENTHS)
    bergy = types.rule == Rule.BERGY_WATER
    rest[bergy] = _ROUNDING
    amount[bergy, _WATER] = TENTHS - _ROUNDING
    candidates = ~np.isin(types.stages, NO_TYPE) & (types.shares <= 0)
    candidates &= ~np.isin(types.rule, [Rule.WATER, Rule.BERGY_WATER, *NO_REGIME])[:, None]
    slot = np.where(candidates, worst[:, :4], np.inf).argmin(axis=1)
    named = candidates.any(axis=1)
    amount[np.arange(n), np.where(named, slot, _UNNAMED)] += np.where(rest > _SMALL, rest, 0)
    return amount, candidates & (rest > _SMALL)[:, None]


def _limits(
    chart: Chart, types: IceTypes, amount: Floats, candidates: NDArray[np.bool_], unknown_total: NDArray[np.bool_]
) -> tuple[Floats, Floats]:
    """Return the lowest and the highest tenths of each part, (n, parts); `amount` lies within them."""
    low, high = np.zeros_like(amount), np.zeros_like(amount)
    for slot, column in enumerate(("ca", "cb", "cc")):
        low[:, slot], high[:, slot] = _rounded(chart.codes(column))
    parts = np.column_stack([*(chart.codes(c) for c in ("ca", "cb", "cc")), np.full(len(chart), NOT_GIVEN)])
    # A type without a partial concentration has what the others and the water leave.
    free = (np.isnan(tenths(parts)[1]) & (amount[:, :4] > _SMALL)) | candidates
    low[:, :4], high[:, :4] = np.where(free, 0, low[:, :4]), np.where(free, TENTHS, high[:, :4])
    high[:, _UNNAMED] = np.where(amount[:, _UNNAMED] > _SMALL, TENTHS, 0)
    ice = ~np.isin(types.rule, [Rule.WATER, Rule.BERGY_WATER, *NO_REGIME])
    high[:, _TRACE] = np.where(ice & ~np.isin(chart.codes("cn"), NO_TYPE), 1, 0)
    least, most = _rounded(chart.codes("ct"))
    least, most = np.where(unknown_total, _ROUNDING, least), np.where(unknown_total, TENTHS, most)
    low[:, _WATER], high[:, _WATER] = TENTHS - most, TENTHS - least
    water = np.isin(types.rule, [Rule.WATER, Rule.BERGY_WATER])
    some = (types.rule == Rule.BERGY_WATER) | (water & (chart.codes("ct") == _OPEN_WATER))
    low[water, :_WATER] = high[water, :_WATER] = 0
    high[some, _UNNAMED] = 1
    low[water, _WATER], high[water, _WATER] = np.where(some, TENTHS - 1, TENTHS)[water], TENTHS
    return np.minimum(np.nan_to_num(low), amount), np.maximum(np.nan_to_num(high), amount)


def _rounded(codes: NDArray[np.int16]) -> tuple[Floats, Floats]:
    """Return the lowest and the highest tenths that codes of concentrations may stand for; not-a-number where unknown.

    Concentrations are estimated in whole tenths; 9+ is a limit and not rounded.
    """
    low, _, high = tenths(codes)
    exact = (low <= 0) | (codes == _NINE_PLUS)
    low = np.where(exact, low, low - _ROUNDING)
    return low, np.where(exact | (codes == _COMPACT), high, np.minimum(high + _ROUNDING, TENTHS))


def _lowest(low: Floats, high: Floats, values: Floats) -> Floats:
    """Return the lowest sum of tenths times values where tenths lie within limits and sum to ten, (n,)."""
    order = np.argsort(values, axis=1)
    low, high, values = (np.take_along_axis(a, order, axis=1) for a in (low, high, values))
    room = high - low
    before = np.cumsum(room, axis=1) - room
    more = np.clip(TENTHS - low.sum(axis=1, keepdims=True) - before, 0, room)
    return np.asarray(((low + more) * values).sum(axis=1))
