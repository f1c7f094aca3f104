"""SIGRID-3 codes: from the values in files ('8', '08', 8, 8.0, -9, '', None) to whole numbers, and their meaning.

Code tables: SIGRID-3, WMO/JCOMM TR-23, version 3.0 (2014). Concentrations are in tenths here, as on charts.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from floemap.errors import ChartError
from floemap.legend import ICE_FREE

#: In arrays, a code that a chart does not give. SIGRID-3 writes the same.
NOT_GIVEN = -9

#: Text, in lower case, that files write for "no code"; "9-" is a right-aligned -9.
_NO_CODE = frozenset({"", "-9", "9-", "-", "--", "n/a", "na", "nan", "none", "null", "<null>"})

#: Numbers in text; Python also accepts others, such as 1_0.
_NUMBER = re.compile(r"[+-]?[0-9]+(\.[0-9]*)?")

#: Hint for a value that is not a code.
CODE_HINT = "A SIGRID-3 code has one or two digits; -9 or an empty cell means that there is none."

#: Polygon types: land, water, ice, no data, ice shelf. A polygon without a type has "".
POLYGON_TYPES: Mapping[str, str] = MappingProxyType(
    {"L": "land", "W": "water", "I": "ice", "N": "no data", "S": "ice shelf"}
)

#: Hint for a value that is not a polygon type.
TYPE_HINT = "It is one of " + ", ".join(f"{k} ({v})" for k, v in POLYGON_TYPES.items()) + "."

#: Total concentration codes of polygons without ice: ice free (00, 55 in some editions), and open water, under a tenth.
WATER_CODES = frozenset({0, 1, 55})
#: Ice free, by version 3.0. Some charts write it for an unknown concentration; in polygons that name ice it means that.
ICE_FREE_OR_UNKNOWN = 98
BERGY_WATER_CODE = 2
_NINE_PLUS = 91
#: Codes in columns of stages that name no sea ice: not given, ice free, no stage, glacier ice, undetermined.
NO_ICE = (NOT_GIVEN, ICE_FREE, 80, 98, 99)
#: Those of them that name no type of ice at all.
NO_TYPE = (NOT_GIVEN, ICE_FREE, 80)
#: Codes of an unknown concentration.
UNKNOWN_CODES = frozenset({ICE_FREE_OR_UNKNOWN, 99})


def _concentrations() -> dict[int, tuple[float, float]]:
    """Return lowest and highest tenths by code."""
    table: dict[int, tuple[float, float]] = {0: (0, 0), 55: (0, 0), 1: (0, 1), 2: (0, 1), 92: (10, 10)}
    for low in range(1, 10):
        table[10 * low] = (low, low)
        table[10 * low + 1] = (low, 10)  # 81 is 8 to 10 tenths; 91, 9 to 10, is also "9+"
        for high in range(low + 1, 10):
            table[10 * low + high] = (low, high)
    return table


def tenths_in_words(value: float) -> str:
    """Return a concentration in words: 1 tenth, 9.5 tenths."""
    shown = f"{value:.2g}"
    return f"{shown} {'tenth' if shown == '1' else 'tenths'}"


#: Forms of ice in words, by code.
FORMS: Mapping[int, str] = MappingProxyType(
    {
        0: "pancake ice, in older charts",
        1: "small ice cakes, brash ice",
        2: "ice cakes",
        3: "small floes",
        4: "medium floes",
        5: "big floes",
        6: "vast floes",
        7: "giant floes",
        8: "fast ice",
        9: "growlers, floebergs",
        10: "icebergs",
        **{10 + n: f"strips and patches, {tenths_in_words(n)}" for n in range(1, 10)},
        20: "strips and patches, ten tenths",
        21: "level ice",
        22: "pancake ice",
        99: "undetermined",
    }
)

#: Lowest and highest concentration, in tenths, by code, without the unknown ones (98, 99).
TENTHS: Mapping[int, tuple[float, float]] = MappingProxyType(_concentrations())


def tenths(codes: NDArray[np.int16]) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Return the lowest, middle and highest concentration of codes, in tenths.

    Parameters
    ----------
    codes
        Any shape. :data:`NOT_GIVEN`, unknown (98, 99) and codes outside the table give not-a-number.
    """
    table = np.full((3, 256), np.nan)
    for code, (low, high) in TENTHS.items():
        table[:, code] = low, (low + high) / 2, high
    low, middle, high = table[:, np.where(codes < 0, 255, codes)]
    return low, middle, high


def concentration_in_egg(code: int) -> str:
    """Return a concentration, in tenths, as eggs write it: 0, <1, 7, 9+, 10, 4-6, X for an unknown one."""
    if code not in TENTHS:
        return "X"
    low, high = TENTHS[code]
    if code == _NINE_PLUS:
        return "9+"
    return f"{high:g}" if low == high else f"<{high:g}" if low == 0 else f"{low:g}-{high:g}"


def read_codes(values: Sequence[Any], column: str, features: Sequence[Any] | NDArray[Any]) -> NDArray[np.int16]:
    """Turn a column of codes from a file into numbers, (polygons,), :data:`NOT_GIVEN` where there is none.

    Codes may be strings, padded or not, whole numbers, or reals without a fraction; -9, empty, blank and null mean
    "not given".

    Parameters
    ----------
    values
        The column, (polygons,).
    column, features
        Name of the column and ids of the polygons, for the message.

    Raises
    ------
    ChartError
        If a value is not a number of at most two digits; the message names the polygon.
    """
    codes, wrong = parse_codes(values)
    for i in wrong:
        raise ChartError(f"polygon {features[i]}: {column} is {shown(values[i])}.", hint=CODE_HINT)
    return codes


def parse_codes(values: Sequence[Any]) -> tuple[NDArray[np.int16], list[int]]:
    """Return the codes of a column, (n,), as :func:`read_codes` reads them, and the rows whose value is not a code.

    Such a row has :data:`NOT_GIVEN`.
    """
    known: dict[Any, int | None] = {}
    codes = np.full(len(values), NOT_GIVEN, np.int16)
    wrong = []
    for i, value in enumerate(values):
        key = _plain(value)
        if key not in known:
            known[key] = _code(key)
        code = known[key]
        if code is None:
            wrong.append(i)
        else:
            codes[i] = code
    return codes, wrong


#: Types of pandas' missing values, by name: this module is imported where nothing else needs pandas.
_MISSING = frozenset({"NAType", "NaTType"})


def _plain(value: Any) -> str | float | None:
    """Return a value as text or number, None for a missing value, infinity for any other kind."""
    if isinstance(value, str):
        return value
    if value is None or type(value).__name__ in _MISSING:
        return None
    if isinstance(value, int | float | np.integer | np.floating) and not isinstance(value, bool):
        return None if value != value else float(min(value, 1000))  # not-a-number means none
    return math.inf


def _code(value: str | float | None) -> int | None:
    """Return one code, NOT_GIVEN, or None if the value is not a code."""
    if isinstance(value, str):
        value = value.replace("\0", " ").strip()
        if value.lower() in _NO_CODE:
            return NOT_GIVEN
        if not _NUMBER.fullmatch(value):
            return None
        value = float(value)
    if value is None:
        return NOT_GIVEN
    if not math.isfinite(value) or value != int(value):
        return None
    return int(value) if 0 <= value <= 99 or value == NOT_GIVEN else None


def shown(value: Any) -> str:
    """Return a value for a message: text in quotes, control characters escaped, cut."""
    words = repr(value.item() if isinstance(value, np.generic) else value)
    return words if len(words) <= 60 else f"{words[:60]} ..."


def read_polygon_types(values: Sequence[Any], features: Sequence[Any] | NDArray[Any]) -> list[str]:
    """Turn a POLY_TYPE column into the keys of :data:`POLYGON_TYPES`, "" where it is empty.

    Raises
    ------
    ChartError
        If a value is not one of them; the message names the polygon.
    """
    types, wrong = parse_polygon_types(values)
    for i in wrong:
        raise ChartError(f"polygon {features[i]}: POLY_TYPE is {shown(values[i])}.", hint=TYPE_HINT)
    return types


def parse_polygon_types(values: Sequence[Any]) -> tuple[list[str], list[int]]:
    """Return the polygon types of a column, as :func:`read_polygon_types` reads them, and the rows of other values.

    Such a row has "".
    """
    types, wrong = [], []
    for i, value in enumerate(values):
        plain = _plain(value)
        text = "" if plain is None else str(plain).replace("\0", " ").strip().upper()
        text = "" if text.lower() in _NO_CODE or text == str(float(NOT_GIVEN)) else text
        if text and text not in POLYGON_TYPES:
            wrong.append(i)
            text = ""
        types.append(text)
    return types, wrong
