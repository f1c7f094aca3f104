"""AI4Arctic's own rule: from the SIGRID-3 codes of polygons to classes of concentration, type and floe size.

A type counts if its part of the total concentration is at least 65 percent, after the parts of types of one class are
added. Where no type does, there is no class (255). The rule of the published charts has a flaw in that addition: parts
are added in pairs A+B, A+C, B+C, and a second addition to A replaces the first. If A, B and C are all of one class, A
ends as A+C and B as B+C, never as the sum of all three, so a polygon of one class can come out without a class. `rule`
chooses: "starter" repeats the flaw, as the published charts have it, "correct" adds all parts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from floemap.datasets.ai4arctic.form import CODES_HEADER, NO_CLASS
from floemap.errors import ChartError
from floemap.icechart.label.polygon_values import FLOE_SIZES
from floemap.icechart.read.codes import NOT_GIVEN
from floemap.legend import AI4ARCTIC

Rule = Literal["starter", "correct"]

#: Least part of the total concentration of a type that gives a polygon its class.
DOMINANT = 0.65
#: Classes of concentration by code: tenths.
SIC_OF: Mapping[int, int] = MappingProxyType(
    {0: 0, 1: 0, 2: 0, 55: 0, **{10 * k: k for k in range(1, 10)}, 91: 10, 92: 10}
)
#: Classes of stage of development by code: the legend ai4arctic.
SOD_OF: Mapping[int, int] = MappingProxyType({0: 0, **AI4ARCTIC.stage_to_class})
#: Classes of floe size by code of form.
FLOE_OF: Mapping[int, int] = MappingProxyType(
    {0: 0, 2: 1, 3: 2, 4: 3, 5: 4, 6: 5, 7: 5, 9: 6, 10: 6, **dict.fromkeys((1, 8, 21, 22), NO_CLASS)}
)
#: Titles of the classes of each chart, by id.
TITLES: Mapping[str, Mapping[int, str]] = MappingProxyType(
    {
        "SIC": {k: f"{10 * k} %" for k in range(11)},
        "SOD": AI4ARCTIC.titles,
        "FLOE": dict(enumerate(FLOE_SIZES)),
    }
)
#: Highest id of a polygon that is read.
MOST_ID = 10**6
_FIELDS = CODES_HEADER.split(";")
_NUMBERS = tuple(f for f in _FIELDS if f not in ("CF", "POLY_TYPE"))
_SIDES = ("A", "B", "C")
#: In arrays, a code that is not in the table.
_OTHER = 200


@dataclass(frozen=True)
class PolygonCodes:
    """The table of a raw file's polygons.

    Attributes
    ----------
    codes
        Codes of each polygon by the names of the header in upper case but for CF and POLY_TYPE, (n,) int32 each;
        ``poly_id`` is the id in the raster of polygons. -9 where there is none.
    poly_types
        POLY_TYPE of each, n texts.
    """

    codes: Mapping[str, NDArray[np.int32]]
    poly_types: tuple[str, ...]

    def __len__(self) -> int:
        """Return the number of polygons."""
        return len(self.poly_types)

    @property
    def ids(self) -> NDArray[np.int32]:
        """Ids in the raster of polygons, (n,)."""
        return self.codes["poly_id"]


def parse_polygon_codes(rows: Sequence[str]) -> PolygonCodes:
    """Read the rows of ``polygon_codes``, the header first.

    CF, the two predominant forms, is not read: it has two codes, as in ``08-9``, and none of the charts needs it.

    Raises
    ------
    ChartError
        If the header is another, a row has another number of fields or a field that is not a number, or two rows have
        one id; the message names the row.
    """
    if not rows or rows[0].strip() not in (CODES_HEADER, CODES_HEADER.removeprefix("poly_")):  # ASID-v2 has "id"
        found = repr(rows[0][:80]) if rows else "nothing"
        raise ChartError(f"polygon_codes begins with {found}.", hint=f"The header must be {CODES_HEADER}.")
    table: dict[str, list[int]] = {name: [] for name in _NUMBERS}
    types = []
    for number, row in enumerate(rows[1:], 1):
        cells = dict(zip(_FIELDS, row.strip().split(";"), strict=False))
        if len(cells) != len(_FIELDS) or row.count(";") != len(_FIELDS) - 1:
            message = f"row {number} of polygon_codes has {row.count(';') + 1} fields: {row[:80]!r}."
            raise ChartError(message, hint=f"It must have {len(_FIELDS)}.")
        for name in _NUMBERS:
            table[name].append(_number(cells[name], name, number))
        types.append(cells["POLY_TYPE"].strip().upper())
    ids = table["poly_id"]
    if twice := sorted({i for i in ids if ids.count(i) > 1}):
        raise ChartError(f"polygon_codes has two rows of polygon {twice[0]}.", hint="Download the file again.")
    return PolygonCodes({n: np.array(v, np.int32) for n, v in table.items()}, tuple(types))


def _number(text: str, name: str, row: int) -> int:
    plain = text.strip()
    digits = plain.removeprefix("-")
    highest = MOST_ID if name == "poly_id" else 99
    if (
        digits.isascii()
        and digits.isdigit()
        and len(digits) < 9
        and ((plain == "-9" and name != "poly_id") or 0 <= int(plain) <= highest)
    ):
        return int(plain)
    hint = "Codes are whole numbers of two digits, or -9 for none."
    raise ChartError(f"row {row} of polygon_codes has {name} {text[:40]!r}.", hint=hint)


@dataclass(frozen=True)
class PolygonClasses:
    """Classes of polygons, (n,) uint8 each, 255 for none."""

    sic: NDArray[np.uint8]
    sod: NDArray[np.uint8]
    floe: NDArray[np.uint8]

    def of(self, chart: str) -> NDArray[np.uint8]:
        """Return the classes of a chart: SIC, SOD or FLOE."""
        return {"SIC": self.sic, "SOD": self.sod, "FLOE": self.floe}[chart]


def polygon_classes(polygons: PolygonCodes, rule: Rule = "starter", dominant: float = DOMINANT) -> PolygonClasses:
    """Decide the classes of polygons.

    Parameters
    ----------
    polygons
        The table.
    rule
        "starter", as the published charts were made, or "correct"; see the module.
    dominant
        Least part of the total concentration of a type that decides.

    Returns
    -------
    PolygonClasses
        Polygons whose concentrations have codes that are not in the table have no class.
    """
    codes = polygons.codes
    total = _mapped(codes["CT"], SIC_OF)
    parts = np.stack([_mapped(codes[f"C{s}"], SIC_OF) for s in _SIDES], axis=1)  # (n, 3), -9 for none
    parts[:, 0] = np.where((total > 0) & (parts[:, 0] == NOT_GIVEN), total, parts[:, 0])
    unknown = (total == _OTHER) | (total == NOT_GIVEN) | (parts == _OTHER).any(axis=1)
    sic = np.where(np.array(polygons.poly_types) == "W", 0, np.where((total < 0) | (total > 10), NO_CLASS, total))
    water = sic == 0
    charts = {}
    for letter, table in (("S", SOD_OF), ("F", FLOE_OF)):
        kinds = np.stack([_mapped(codes[f"{letter}{s}"], table) for s in _SIDES], axis=1)
        chart = _dominant(kinds, parts, total, rule, dominant)
        if letter == "F":  # a type without a floe size, such as fast ice, leaves the polygon without one
            chart[(kinds == NO_CLASS).any(axis=1)] = NO_CLASS
        chart[unknown] = NO_CLASS
        chart[water] = 0
        charts[letter] = chart
    return PolygonClasses(sic.astype(np.uint8), charts["S"], charts["F"])


def _mapped(codes: NDArray[np.int32], table: Mapping[int, int]) -> NDArray[np.int32]:
    """Return classes of codes, -9 where there is none, 200 for codes outside the table."""
    lut = np.full(101, _OTHER, np.int32)
    lut[list(table)] = list(table.values())
    lut[100] = NOT_GIVEN
    return lut[np.where(codes == NOT_GIVEN, 100, np.clip(codes, 0, 99))]


def _dominant(
    kinds: NDArray[np.int32], parts: NDArray[np.int32], total: NDArray[np.int32], rule: Rule, least: float
) -> NDArray[np.uint8]:
    """Return the class of the dominant type, (n,), from the types' classes and parts, (n, 3), and totals, (n,)."""
    added = parts.astype(float)
    if rule == "starter":
        more = np.zeros_like(added)
        for a, b in ((0, 1), (0, 2), (1, 2)):  # a later pair replaces what an earlier one has given
            same = (kinds[:, a] == kinds[:, b]) & (kinds[:, a] != NOT_GIVEN)
            more[same, a] = parts[same, b]
        added += more
    else:
        given = np.where((kinds == NOT_GIVEN) | (parts < 0), 0, parts)
        same = kinds[:, :, None] == kinds[:, None, :]
        added = (same * given[:, None, :]).sum(axis=2).astype(float)
    share = np.divide(added.max(axis=1), total, out=np.zeros(len(total)), where=total > 0)
    chosen = kinds[np.arange(len(kinds)), added.argmax(axis=1)]
    valid = (share >= least) & (chosen != NOT_GIVEN) & (chosen != _OTHER)
    return np.where(valid, chosen, NO_CLASS).astype(np.uint8)
