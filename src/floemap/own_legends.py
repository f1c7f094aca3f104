"""Legends as data: a legend of the user's from a TOML file or a table of settings, and legends in records.

A setting names one of :data:`floemap.legend.LEGENDS`, or holds a :class:`LegendTable`. The name of a file is replaced
by its content, so that records hold the whole legend and no file is needed later. Records of the legends that come with
floemap hold their name and the keys of their classes; records of other legends also hold the table.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, field_validator, model_validator

from floemap.config import Settings, read_toml
from floemap.errors import MISSHAPEN, ConfigError, FloemapError
from floemap.files import parsed
from floemap.legend import IGNORE, LEGENDS, RGB, STAGE_CODES, IceClass, Legend, legend, stage_in_words

#: Key of a class: column of a table, name of a band and of a variable, part of a file's field of 32 characters.
KEY = r"^[a-z][a-z0-9_]{0,29}$"
#: Keys that files use beside those of classes.
TAKEN_KEYS = frozenset({
    "area_km2", "candidates", "class", "concentration", "feature", "id", "ignore", "land", "mask", "no_data",
    "no_label", "none", "pixels", "purity", "rule", "unknown", "unknown_share",
})  # fmt: skip
_COLOUR = re.compile(r"#[0-9a-fA-F]{6}")
#: Tag of rasters that holds the table of a legend that does not come with floemap, as JSON.
TAG = "legend_table"


class LegendClass(Settings):
    """A class of an own legend."""

    key: str = Field(pattern=KEY)
    """Name in files: up to 30 small letters, digits and underscores."""

    title: str = Field(min_length=1, max_length=40)
    """Name for people, up to 40 characters."""

    colour: str
    """Colour on maps, such as "#9bd200"."""

    stages: tuple[int, ...] = ()
    """SIGRID-3 codes of stage of development that belong to the class. Draft charts write the first one for it."""

    @field_validator("title")
    @classmethod
    def _one_line(cls, title: str) -> str:
        if not title.isprintable() or title != title.strip():
            raise ValueError("write it on one line, without control characters and without spaces at its ends")
        return title

    @field_validator("colour")
    @classmethod
    def _hexadecimal(cls, colour: str) -> str:
        if not _COLOUR.fullmatch(colour):
            raise ValueError('write it as "#rrggbb", such as "#9bd200"')
        return colour.lower()

    @field_validator("stages")
    @classmethod
    def _known_codes(cls, stages: tuple[int, ...]) -> tuple[int, ...]:
        return _codes(stages)

    @property
    def rgb(self) -> RGB:
        """The colour as numbers from 0 to 255."""
        red, green, blue = bytes.fromhex(self.colour[1:])
        return red, green, blue


class LegendTable(Settings):
    """A legend of the user's: classes in the order of their ids, which run from 0."""

    name: str = Field(pattern=KEY)
    """Name in files and records: up to 30 small letters, digits and underscores. The names of the legends that come
    with floemap are taken."""

    title: str = Field(default="", max_length=100)
    """Name for people. By default it is the name."""

    water: str
    """Key of the class of water polygons."""

    stageless: str | None = None
    """Key of the class of ice whose stage of development the chart does not give. Without it such ice has no class."""

    ignored_stages: tuple[int, ...] = ()
    """SIGRID-3 codes that may occur in charts and have no class."""

    classes: tuple[LegendClass, ...] = Field(min_length=2)
    """List of classes, each a table [[classes]]."""

    @field_validator("name")
    @classmethod
    def _own_name(cls, name: str) -> str:
        if name in LEGENDS:
            raise ValueError("a legend that comes with floemap has this name; choose another")
        return name

    @field_validator("title")
    @classmethod
    def _one_line(cls, title: str) -> str:
        return LegendClass._one_line(title) if title else title

    @field_validator("ignored_stages")
    @classmethod
    def _known_codes(cls, stages: tuple[int, ...]) -> tuple[int, ...]:
        return _codes(stages)

    @model_validator(mode="after")
    def _consistent(self) -> LegendTable:
        keys = [c.key for c in self.classes]
        _each_once("key", keys)
        _each_once("title", [c.title.casefold() for c in self.classes])
        _each_once("colour", [c.colour for c in self.classes])
        if taken := sorted(TAKEN_KEYS.intersection(keys)):
            raise ValueError(f"classes cannot have the keys {', '.join(taken)}, which files use for other things")
        for field, key in (("water", self.water), ("stageless", self.stageless)):
            if key is not None and key not in keys:
                raise ValueError(f"{field} is {key!r}, which is not the key of a class: {', '.join(keys)}")
        if self.stageless == self.water:
            raise ValueError("stageless is the class of water; it must be a class of ice, or absent")
        owners: dict[int, str] = dict.fromkeys(self.ignored_stages, "ignored_stages")
        for c in self.classes:
            if not c.stages and c.key != self.water:
                raise ValueError(f"class {c.key} has no stages, so no polygon could get it; only water needs none")
            for code in c.stages:
                if (other := owners.setdefault(code, c.key)) != c.key:
                    raise ValueError(f"stage {code} ({stage_in_words(code)}) is in {other} and in {c.key}")
        return self

    def legend(self) -> Legend:
        """Return the legend."""
        ids = {c.key: i for i, c in enumerate(self.classes)}
        return Legend(
            name=self.name,
            title=self.title or self.name,
            classes=tuple(
                IceClass(i, c.key, c.title, c.rgb, frozenset(c.stages), c.stages[0] if c.stages else 99)
                for i, c in enumerate(self.classes)
            ),
            water=ids[self.water],
            ignored_stages=frozenset(self.ignored_stages),
            stageless=IGNORE if self.stageless is None else ids[self.stageless],
        )


def _codes(stages: tuple[int, ...]) -> tuple[int, ...]:
    if unknown := [code for code in stages if code not in STAGE_CODES]:
        raise ValueError(f"{unknown[0]} is not a stage of development of SIGRID-3; docs/legends.md lists the codes")
    _each_once("code", stages)
    return stages


def _each_once(what: str, values: Iterable[Any]) -> None:
    found = list(values)
    if twice := sorted({v for v in found if found.count(v) > 1}):
        raise ValueError(f"the {what} {twice[0]!r} occurs twice")


def _table(value: object) -> object:
    """Read a legend's file or check a legend's table; leave names as they are."""
    if isinstance(value, str) and (value.endswith(".toml") or "/" in value):
        return read_legend(Path(value))
    if isinstance(value, Mapping):
        try:
            return LegendTable.checked(**value)
        except ConfigError as e:
            raise ConfigError(f"legend: {e.message}", hint=e.hint) from e
        except TypeError:
            raise ConfigError(f"legend: the keys {list(value)!r} are not texts.") from None
    if not isinstance(value, str | LegendTable):
        raise ValueError("give the name of a legend, the name of a TOML file, or a table")
    return value


#: Type of a setting that chooses a legend: a name, a file, or a table.
LegendChoice = Annotated[str | LegendTable, BeforeValidator(_table)]


def read_legend(path: Path) -> LegendTable:
    """Read a legend from a TOML file.

    Raises
    ------
    ConfigError
        If it cannot be read, or is not a legend; the error names file, key and value.
    """
    if not path.is_file():
        hint = "A relative path begins in the current folder."
        raise ConfigError("does not exist, so it gives no legend.", path=path, hint=hint)
    values = read_toml(path)
    try:
        return LegendTable.checked(**values)
    except ConfigError as e:
        hint = "docs/howto/own-data.md has an example of a legend."
        raise ConfigError(e.message, path=path, hint=e.hint or hint) from e


def chosen_legend(choice: str | LegendTable) -> Legend:
    """Return the legend that a setting chooses.

    Raises
    ------
    ConfigError
        If no legend has that name.
    """
    return choice.legend() if isinstance(choice, LegendTable) else legend(choice)


def identity(table: Legend) -> str | dict[str, Any]:
    """Return what distinguishes a legend from others, JSON-ready: the name of one of floemap's, or the whole table."""
    return table.name if _comes_along(table) else _table_of(table)


def in_record(table: Legend, no_class: str = "ignore") -> dict[str, Any]:
    """Return a legend as stages record it: name, key by class id, and the table of a legend of the user's."""
    said = {"name": table.name, "classes": {c.id: c.key for c in table.classes}, no_class: IGNORE}
    return said | with_table(table)


def with_table(table: Legend) -> dict[str, Any]:
    """Return the entry "table" of a legend's record: empty for legends that come with floemap."""
    return {} if _comes_along(table) else {"table": _table_of(table)}


def tags_of(table: Legend) -> dict[str, str]:
    """Return a legend as tags of a raster: its name, and the table of a legend of the user's as JSON."""
    own = with_table(table)
    return {"legend": table.name} | ({TAG: json.dumps(own["table"])} if own else {})


def from_tags(tags: Mapping[str, str], path: Path) -> Legend | None:
    """Return the legend that a raster's tags hold, or None. Errors are those of :func:`from_record`."""
    if "legend" not in tags:
        return None
    if TAG not in tags:
        return from_record(tags["legend"], path)
    try:
        table = parsed(json.loads, tags[TAG])
    except (ValueError, RecursionError) as e:
        raise FloemapError(f"holds a damaged legend in its tag {TAG}: {e}.", path=path) from e
    return from_record({"name": tags["legend"], "table": table}, path)


def from_record(said: object, path: Path | None = None, kind: Callable[..., FloemapError] = FloemapError) -> Legend:
    """Return the legend that a record holds: a name, or what :func:`in_record` returned.

    Raises
    ------
    ConfigError
        If floemap has no legend of that name, and the record holds no table.
    FloemapError
        Or another class, `kind`, if the record names no legend, or its table is damaged.
    """
    named = said.get("name") if isinstance(said, Mapping) else said
    if isinstance(said, Mapping) and "table" in said:
        return _from_table(said["table"], partial(kind, path=path))
    if not isinstance(named, str):
        raise kind("names no legend.", path=path)
    return legend(named)


def same_classes(one: Legend, other: Legend) -> bool:
    """Return whether two legends give all polygons the same class ids, whatever their names, titles and colours."""
    keys = [[c.key for c in x.classes] for x in (one, other)]
    tables = [(x.code_to_class, x.water, x.stageless) for x in (one, other)]
    return keys[0] == keys[1] and tables[0] == tables[1]


def _from_table(values: Any, kind: Callable[..., FloemapError]) -> Legend:
    try:
        return LegendTable.checked(**values).legend()
    except (ConfigError, *MISSHAPEN) as e:
        raise kind(f"holds a damaged legend: {e}") from e


def _comes_along(table: Legend) -> bool:
    return table.name in LEGENDS


def _table_of(table: Legend) -> dict[str, Any]:
    """Return the settings of a legend, JSON-ready."""
    keys = {c.id: c.key for c in table.classes}
    return {
        "name": table.name,
        "title": table.title,
        "water": keys[table.water],
        "stageless": keys.get(table.stageless),
        "ignored_stages": sorted(table.ignored_stages),
        "classes": [
            {
                "key": c.key,
                "title": c.title,
                "colour": f"#{bytes(c.rgb).hex()}",
                "stages": sorted(c.stages, key=lambda code: (code != c.written_as, code)),
            }
            for c in table.classes
        ],
    }
