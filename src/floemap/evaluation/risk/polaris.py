"""POLARIS: what an ice regime means for a ship, after IMO MSC.1/Circ.1519 (6 June 2016).

Each ice type has a risk index value (RIV) for each ice class of ships. The risk index outcome of an ice regime is

    RIO = sum over its types of concentration in tenths x RIV

and says whether the circular sees normal operation, elevated operational risk, or operation subject to special
consideration. A class of our legends may hold several of the circular's ice types. It counts as the thickest of them
unless the caller says otherwise: that errs to the safe side.

Left out: the circular's values for decayed ice, which need ice that somebody has seen to be decayed; escort by an
icebreaker; ridges, pressure, icebergs. See ``docs/risk.md``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum
from types import MappingProxyType

import numpy as np
from numpy.typing import ArrayLike, NDArray

from floemap.errors import ConfigError, GridError, known_names
from floemap.legend import IGNORE, STAGES, Legend

#: To stand wherever risk is shown.
ADVISORY = (
    "Advisory only: a comparison of charts by the values of IMO MSC.1/Circ.1519 (POLARIS), not a tool for decisions. "
    "It knows nothing of ridges, pressure, decay, icebergs, or the ship, and never says that a passage is safe."
)

#: Tenths of a regime that its types and open water share.
TENTHS = 10
#: Stored in fractions.tif where there is none.
_NO_FRACTION = 255


class IceType(IntEnum):
    """Ice types of the circular, in its order: from none to the thickest."""

    ICE_FREE = 0
    NEW = 1
    GREY = 2
    GREY_WHITE = 3
    THIN_FIRST_YEAR_1 = 4
    THIN_FIRST_YEAR_2 = 5
    MEDIUM_FIRST_YEAR_UNDER_1M = 6
    MEDIUM_FIRST_YEAR = 7
    THICK_FIRST_YEAR = 8
    SECOND_YEAR = 9
    LIGHT_MULTI_YEAR = 10
    HEAVY_MULTI_YEAR = 11

    @property
    def title(self) -> str:
        """In words."""
        return _TITLES[self]


_TITLES = (
    "ice free",
    "new ice",
    "grey ice",
    "grey-white ice",
    "thin first-year ice, first stage",
    "thin first-year ice, second stage",
    "medium first-year ice under 1 m",
    "medium first-year ice",
    "thick first-year ice",
    "second-year ice",
    "light multi-year ice, under 2.5 m",
    "heavy multi-year ice",
)


class Level(IntEnum):
    """Levels of operation, from the mildest."""

    NORMAL = 0
    ELEVATED = 1
    SPECIAL = 2

    @property
    def title(self) -> str:
        """In words."""
        return ("normal operation", "elevated operational risk", "operation subject to special consideration")[self]


@dataclass(frozen=True)
class ShipClass:
    """An ice class of ships.

    Attributes
    ----------
    key
        Key in :data:`SHIP_CLASSES`.
    title
        For people.
    polar
        Of the polar classes PC 1 to PC 7: only these have a level of elevated risk.
    values
        Risk index value by :class:`IceType`.
    """

    key: str
    title: str
    polar: bool
    values: tuple[int, ...]


#: Table 1.3 of the circular: ice that is not decayed. Columns as in :class:`IceType`.
_TABLE = (
    ("PC1", "PC 1", True, (3, 3, 3, 3, 2, 2, 2, 2, 2, 2, 1, 1)),
    ("PC2", "PC 2", True, (3, 3, 3, 3, 2, 2, 2, 2, 2, 1, 1, 0)),
    ("PC3", "PC 3", True, (3, 3, 3, 3, 2, 2, 2, 2, 2, 1, 0, -1)),
    ("PC4", "PC 4", True, (3, 3, 3, 3, 2, 2, 2, 2, 1, 0, -1, -2)),
    ("PC5", "PC 5", True, (3, 3, 3, 3, 2, 2, 1, 1, 0, -1, -2, -2)),
    ("PC6", "PC 6", True, (3, 2, 2, 2, 2, 1, 1, 0, -1, -2, -3, -3)),
    ("PC7", "PC 7", True, (3, 2, 2, 2, 1, 1, 0, -1, -2, -3, -3, -3)),
    ("IA_super", "IA Super", False, (3, 2, 2, 2, 2, 1, 0, -1, -2, -3, -4, -4)),
    ("IA", "IA", False, (3, 2, 2, 2, 1, 0, -1, -2, -3, -4, -5, -5)),
    ("IB", "IB", False, (3, 2, 2, 1, 0, -1, -2, -3, -4, -5, -6, -6)),
    ("IC", "IC", False, (3, 2, 1, 0, -1, -2, -3, -4, -5, -6, -7, -8)),
    ("none", "not ice strengthened", False, (3, 1, 0, -1, -2, -3, -4, -5, -6, -7, -8, -8)),
)
SHIP_CLASSES: Mapping[str, ShipClass] = MappingProxyType({row[0]: ShipClass(*row) for row in _TABLE})
#: Those that reports show.
REPORTED_SHIPS = ("PC1", "PC5", "PC7", "IA", "none")

#: Ice types that a stage of development (SIGRID-3 code) may be. Nilas is under 10 cm, as the circular's new ice is.
STAGE_TYPES: Mapping[int, tuple[IceType, ...]] = MappingProxyType(
    {
        80: (IceType.ICE_FREE,),
        81: (IceType.NEW,),
        82: (IceType.NEW,),
        83: (IceType.GREY, IceType.GREY_WHITE),
        84: (IceType.GREY,),
        85: (IceType.GREY_WHITE,),
        86: tuple(IceType)[IceType.THIN_FIRST_YEAR_1 : IceType.SECOND_YEAR],
        87: (IceType.THIN_FIRST_YEAR_1, IceType.THIN_FIRST_YEAR_2),
        88: (IceType.THIN_FIRST_YEAR_1,),
        89: (IceType.THIN_FIRST_YEAR_2,),
        91: (IceType.MEDIUM_FIRST_YEAR_UNDER_1M, IceType.MEDIUM_FIRST_YEAR),
        93: (IceType.THICK_FIRST_YEAR,),
        95: (IceType.SECOND_YEAR, IceType.LIGHT_MULTI_YEAR, IceType.HEAVY_MULTI_YEAR),
        96: (IceType.SECOND_YEAR,),
        97: (IceType.LIGHT_MULTI_YEAR, IceType.HEAVY_MULTI_YEAR),
        99: tuple(IceType)[IceType.NEW :],
    }
)


def ship_class(key: str) -> ShipClass:
    """Return the ice class of ships of that key.

    Raises
    ------
    ConfigError
        If there is none, with the keys that there are.
    """
    try:
        return SHIP_CLASSES[key]
    except KeyError:
        raise ConfigError(f"no ice class of ships is called {key!r}.", hint=known_names(key, SHIP_CLASSES)) from None


def class_ice_types(legend: Legend, taking: Mapping[str, IceType] | None = None) -> tuple[IceType, ...]:
    """Return the ice type that each class of a legend counts as, in the order of class ids.

    Parameters
    ----------
    legend
        Whose classes. Its class of water is ice free.
    taking
        Ice types to take instead of the thickest, by class key: ``{"first_year_ice": IceType.MEDIUM_FIRST_YEAR}``.

    Raises
    ------
    ConfigError
        If `taking` names a class that the legend lacks, or a type that the class does not hold.
    """
    taking = taking or {}
    strangers = set(taking) - {c.key for c in legend.classes}
    if strangers:
        raise ConfigError(
            f"legend {legend.name} has no class {', '.join(map(repr, sorted(strangers)))}.",
            hint=f"Its classes: {', '.join(c.key for c in legend.classes)}.",
        )
    chosen = []
    for c in legend.classes:
        if c.id == legend.water:
            possible: set[IceType] = {IceType.ICE_FREE}
        else:
            possible = {t for stage in c.stages & set(STAGES) for t in STAGE_TYPES.get(stage, ())}
        if not possible:
            raise ConfigError(f"class {c.key} of legend {legend.name} holds no ice type of POLARIS.")
        kind = taking.get(c.key, max(possible))
        if kind not in possible:
            raise ConfigError(
                f"class {c.key} of legend {legend.name} holds no {IceType(kind).title}.",
                hint=f"It may be: {'; '.join(t.title for t in sorted(possible))}.",
            )
        chosen.append(IceType(kind))
    return tuple(chosen)


def risk_values(legend: Legend, ship: str, taking: Mapping[str, IceType] | None = None) -> NDArray[np.int64]:
    """Return the risk index value of each class of a legend for a ship, (classes,).

    Raises
    ------
    ConfigError
        If there is no such ship, or as :func:`class_ice_types`.
    """
    values = ship_class(ship).values
    return np.array([values[kind] for kind in class_ice_types(legend, taking)], np.int64)


def class_levels(legend: Legend, ship: str, taking: Mapping[str, IceType] | None = None) -> NDArray[np.uint8]:
    """Return the :class:`Level` of ten tenths of each class of a legend, (classes,)."""
    return operation_levels(TENTHS * risk_values(legend, ship, taking), ship)


def risk_index_of_counts(counts: ArrayLike, values: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return the risk index outcome of ice regimes from their pixels by class.

    Parameters
    ----------
    counts
        (..., classes), pixels or areas, as from :func:`floemap.evaluation.risk.operations.region_counts`.
    values
        (classes,), as from :func:`risk_values`.

    Returns
    -------
    numpy.ndarray
        (...), NaN where a regime has no pixel.
    """
    counts = np.asarray(counts, np.float64)
    total = counts.sum(axis=-1)
    return np.asarray(np.divide(TENTHS * (counts @ values), total, out=np.full(total.shape, np.nan), where=total > 0))


def risk_index_of_fractions(
    percent: NDArray[np.uint8], legend: Legend, ship: str, taking: Mapping[str, IceType] | None = None
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return the lowest and the highest risk index outcome that a chart's partial concentrations allow.

    Ice of unknown type makes the difference: as heavy multi-year ice in the lowest outcome, as new ice in the highest.
    To stay on the safe side take the lowest.

    Parameters
    ----------
    percent
        (classes + 1, ...), percent of the area by class and of ice of unknown type, as in ``fractions.tif``; 255 where
        there is none.
    legend
        Of the fractions.
    ship
        A key of :data:`SHIP_CLASSES`.
    taking
        See :func:`class_ice_types`.

    Returns
    -------
    tuple of numpy.ndarray
        Lowest and highest, each (...), NaN where there are no fractions.

    Raises
    ------
    GridError
        If the number of fractions is not that of the legend's classes and one.
    ConfigError
        If there is no such ship, or as :func:`class_ice_types`.
    """
    if len(percent) != len(legend) + 1:
        raise GridError(
            f"there are {len(percent)} fractions; legend {legend.name} has {len(legend)} classes and the unknown rest."
        )
    of_type = ship_class(ship).values
    known = risk_values(legend, ship, taking)
    missing = percent[0] == _NO_FRACTION
    outcomes = []
    for unknown in (IceType.HEAVY_MULTI_YEAR, IceType.NEW):
        outcome = np.zeros(percent.shape[1:], np.float32)
        for share, value in zip(percent, (*known, of_type[unknown]), strict=True):
            outcome += share * np.float32(value)
        outcome /= 100 // TENTHS  # rounded once, so that -10 stays -10
        outcome[missing] = np.nan
        outcomes.append(outcome)
    return outcomes[0], outcomes[1]


def operation_levels(outcome: ArrayLike, ship: str) -> NDArray[np.uint8]:
    """Return the :class:`Level` of risk index outcomes for a ship, :data:`floemap.legend.IGNORE` where they are NaN.

    From 0 normal. Below, for PC 1 to PC 7 elevated down to -10 (included), then special; for lower ice classes and
    none special at once (Table 1.1 of the circular).

    Raises
    ------
    ConfigError
        If there is no such ship.
    """
    elevated_from = -TENTHS if ship_class(ship).polar else 0
    outcome = np.asarray(outcome)
    levels = np.full(outcome.shape, Level.SPECIAL, np.uint8)
    levels[outcome >= elevated_from] = Level.ELEVATED
    levels[outcome >= 0] = Level.NORMAL
    levels[np.isnan(outcome)] = IGNORE
    return levels
