"""POLARIS: what an ice regime means for a ship, after IMO MSC.1/Circ.1519 (6 June 2016).

Each ice type has a risk index value (RIV) for each ice class of ships. The risk index outcome of an ice regime is

    RIO = sum over its types of concentration in tenths x RIV

and decides among normal operation, elevated operational risk, and operation subject to special consideration. A class
of floemap's legends can hold several of the circular's ice types. It counts as the thickest of them unless the caller
chooses another, which errs to the safe side.

Not covered: the circular's values for decayed ice, which require observed decay; escort by an icebreaker; ridges,
pressure, icebergs. Eggs of charts are in :mod:`floemap.icechart.regimes`. See ``docs/risk.md``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum
from types import MappingProxyType

import numpy as np
from numpy.typing import ArrayLike, NDArray

from floemap.errors import ConfigError, GridError, known_names
from floemap.legend import IGNORE, RGB, Legend, stage_of

#: Notice that must accompany every display of risk.
ADVISORY = (
    "Advisory only: the values of IMO MSC.1/Circ.1519 (POLARIS) for ice charts, not a tool for decisions. "
    "It knows nothing of ridges, pressure, decay, icebergs, or the ship, and never says that a passage is safe."
)

#: Number of tenths in a regime, over its ice types and open water.
TENTHS = 10
#: No-data value of fractions.tif.
_NO_FRACTION = 255


class IceType(IntEnum):
    """Ice types of the circular, in its order, from ice free to the thickest."""

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
    """Levels of operation, in the order of increasing risk."""

    NORMAL = 0
    ELEVATED = 1
    SPECIAL = 2

    @property
    def title(self) -> str:
        """In words."""
        return ("normal operation", "elevated operational risk", "operation subject to special consideration")[self]


#: Colours of the levels, from green over amber to red; they also differ in lightness.
LEVEL_RGB: Mapping[Level, RGB] = MappingProxyType(
    {Level.NORMAL: (166, 217, 176), Level.ELEVATED: (245, 176, 65), Level.SPECIAL: (169, 50, 38)}
)


@dataclass(frozen=True)
class ShipClass:
    """An ice class of ships.

    Attributes
    ----------
    key
        Key in :data:`SHIP_CLASSES`.
    title
        Title that tables show.
    polar
        Whether the class is one of the polar classes PC 1 to PC 7. Only these have a level of elevated risk.
    values
        Risk index values, indexed by :class:`IceType`.
    """

    key: str
    title: str
    polar: bool
    values: tuple[int, ...]


#: Table 1.3 of the circular, for ice without decay. The columns are those of :class:`IceType`.
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
#: Table 1.2 of the circular: recommended highest speed, knots, where the operational risk is elevated, which only polar
#: classes have.
ELEVATED_KNOTS: Mapping[str, int] = MappingProxyType(
    {"PC1": 11, "PC2": 8, "PC3": 5, "PC4": 5, "PC5": 5, "PC6": 3, "PC7": 3}
)
#: Keys of the ship classes that reports show.
REPORTED_SHIPS = ("PC1", "PC5", "PC7", "IA", "none")

#: Possible ice types of each stage of development (SIGRID-3 code). Nilas is under 10 cm, like the circular's new ice.
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
    """Return the ice class of ships with a key; capitals and spaces do not matter: "pc 7" is PC7.

    Raises
    ------
    ConfigError
        If no class has the key. The hint lists the known keys.
    """
    plain = {_plain(known): ship for known, ship in SHIP_CLASSES.items()}
    try:
        return plain[_plain(key)]
    except KeyError:
        raise ConfigError(f"no ice class of ships is called {key!r}.", hint=known_names(key, SHIP_CLASSES)) from None


def _plain(key: str) -> str:
    return key.lower().replace(" ", "").replace("_", "")


def class_ice_types(legend: Legend, taking: Mapping[str, IceType] | None = None) -> tuple[IceType, ...]:
    """Return the ice type that each class of a legend counts as, in the order of class ids.

    Parameters
    ----------
    legend
        The legend. Its class of water is ice free.
    taking
        Ice types that replace the thickest, by class key: ``{"first_year_ice": IceType.MEDIUM_FIRST_YEAR}``.

    Raises
    ------
    ConfigError
        If `taking` names a class outside the legend, or a type that the class does not hold.
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
            possible = {t for code in c.stages for t in STAGE_TYPES.get(stage_of(code), ())}
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
        If no ship class has the key `ship`, and for the reasons of :func:`class_ice_types`.
    """
    values = ship_class(ship).values
    return np.array([values[kind] for kind in class_ice_types(legend, taking)], np.int64)


def class_levels(legend: Legend, ship: str, taking: Mapping[str, IceType] | None = None) -> NDArray[np.uint8]:
    """Return the :class:`Level` of a regime that consists of one class only, for each class of a legend, (classes,)."""
    return operation_levels(TENTHS * risk_values(legend, ship, taking), ship)


def risk_index_of_fractions(
    percent: NDArray[np.uint8], legend: Legend, ship: str, taking: Mapping[str, IceType] | None = None
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return the lowest and the highest risk index outcome that a chart's partial concentrations allow.

    Ice of unknown type counts as heavy multi-year ice in the lowest outcome, and as new ice in the highest. The lowest
    outcome is the safe choice.

    Parameters
    ----------
    percent
        Percentage of the area by class and of ice of unknown type, as in ``fractions.tif``, (classes + 1, ...), with
        no-data 255.
    legend
        The legend of the fractions.
    ship
        A key of :data:`SHIP_CLASSES`.
    taking
        Ice types that replace the thickest, see :func:`class_ice_types`.

    Returns
    -------
    tuple of numpy.ndarray
        The lowest and the highest outcomes, each (...); NaN where there are no fractions.

    Raises
    ------
    GridError
        If the number of fractions is not the number of classes plus one.
    ConfigError
        If no ship class has the key `ship`, and for the reasons of :func:`class_ice_types`.
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

    Outcomes of 0 and more are normal. For PC 1 to PC 7, outcomes below 0 are elevated down to and including -10, and
    special below; for all other ships, outcomes below 0 are special (Table 1.1 of the circular).

    Raises
    ------
    ConfigError
        If no ship class has the key `ship`.
    """
    elevated_from = -TENTHS if ship_class(ship).polar else 0
    outcome = np.asarray(outcome)
    levels = np.full(outcome.shape, Level.SPECIAL, np.uint8)
    levels[outcome >= elevated_from] = Level.ELEVATED
    levels[outcome >= 0] = Level.NORMAL
    levels[np.isnan(outcome)] = IGNORE
    return levels
