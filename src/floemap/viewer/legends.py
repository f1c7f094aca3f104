"""Legends of the map: colours and words of the values of class rasters, in WMO colours where floemap has them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from floemap.icechart.polaris import LEVEL_RGB, Level, ShipClass
from floemap.legend import LAND, LAND_RGB, RGB, Legend

#: Colours of values that have none, which also people who do not see all colours tell apart (Okabe and Ito, 2008).
SERIES: tuple[RGB, ...] = (
    *((230, 159, 0), (86, 180, 233), (0, 158, 115), (240, 228, 66)),
    *((0, 114, 178), (213, 94, 0), (204, 121, 167), (90, 90, 90)),
)

#: Letters of the levels of operation, for reading without colour.
_LEVEL_LETTERS = {Level.NORMAL: "N", Level.ELEVATED: "E", Level.SPECIAL: "S"}


def hexadecimal(rgb: RGB) -> str:
    """Return a colour as browsers write it, such as "#96c8ff"."""
    return f"#{bytes(rgb).hex()}"


def of_classes(legend: Legend) -> dict[str, Any]:
    """Return a legend of ice classes for map.json, land included, JSON-ready."""
    letters = legend.letters
    entries = [_entry(c.id, c.key, c.title, c.rgb, letters[c.id]) for c in legend.classes]
    return _table(legend.title, [*entries, _entry(LAND, "land", "Land", LAND_RGB, "L")])


def of_values(
    title: str, words: Mapping[int, str], colours: Mapping[int, RGB], letters: Mapping[int, str] | None = None
) -> dict[str, Any]:
    """Return a legend of other values, such as right and wrong, for map.json; values without a colour are left out.

    Their letters are the values themselves, unless `letters` gives others.
    """
    signs = {v: str(v) for v in words} | dict(letters or {})
    entries = [_entry(v, w, w[:1].upper() + w[1:], colours[v], signs[v]) for v, w in words.items() if v in colours]
    return _table(title, entries)


def of_levels(ship: ShipClass) -> dict[str, Any]:
    """Return the legend of the levels of operation of an ice class of ships, named in small letters."""
    levels = [level for level in LEVEL_RGB if ship.polar or level != Level.ELEVATED]
    words = {int(level): f"{level.title}, {_outcomes_of(level, polar=ship.polar)}" for level in levels}
    colours = {int(level): rgb for level, rgb in LEVEL_RGB.items()}
    heading = f"Level of operation of {ship.title} by POLARIS, advisory"
    table = of_values(heading, words, colours, {int(level): letter for level, letter in _LEVEL_LETTERS.items()})
    return table | {"entries": [e | {"name": Level(e["value"]).name.lower()} for e in table["entries"]]}


def _outcomes_of(level: Level, *, polar: bool) -> str:
    """Return the outcomes at which a level of operation begins and ends, Table 1.1 of the circular."""
    if level == Level.NORMAL:
        return "outcome 0 or more"
    return "−10 to below 0" if level == Level.ELEVATED else f"below {'−10' if polar else '0'}"


def _table(title: str, entries: list[dict[str, Any]]) -> dict[str, Any]:
    return {"title": title, "note": None, "entries": entries}


def _entry(value: int, name: str, label: str, rgb: RGB, letter: str) -> dict[str, Any]:
    return {"value": value, "name": name, "label": label, "color": hexadecimal(rgb), "pattern": None, "letter": letter}


@dataclass
class Legends:
    """The legends of a map, each once, by an id made of its name."""

    tables: dict[str, dict[str, Any]] = field(default_factory=dict)

    def add(self, name: str, table: dict[str, Any]) -> str:
        """Add a legend if it is new, and return its id. Legends of one name that differ get different ids."""
        plain = re.sub(r"[^a-z0-9_]", "_", name.lower())[:40] or "legend"
        number, key = 1, plain
        while self.tables.get(key, table) != table:
            number += 1
            key = f"{plain}-{number}"
        self.tables[key] = table
        return key
