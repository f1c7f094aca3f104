"""Settings from TOML files, options or Python: typed, frozen and validated; an unknown key is an error.

Each stage's settings are one model. A file holds only what differs from the defaults.
"""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, get_args

from pydantic import BaseModel, ConfigDict, ValidationError

from floemap.errors import ConfigError, did_you_mean, known_names
from floemap.files import decoded, regular_file

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails


class Settings(BaseModel):
    """Base of all settings: immutable, with unknown keys refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    @classmethod
    def checked(cls, **values: object) -> Self:
        """Make settings from values.

        Raises
        ------
        ConfigError
            If a key is unknown or a value is out of range. The error names each of them.
        """
        try:
            return cls(**values)
        except ValidationError as e:
            raise ConfigError(_readable(e, cls)) from e

    @classmethod
    def from_toml(cls, path: Path) -> Self:
        """Read settings from a TOML file.

        Raises
        ------
        ConfigError
            If the file is absent or not TOML, a key is unknown or a value is out of range. The error names each.
        """
        values = read_toml(path)
        try:
            return cls(**values)
        except ValidationError as e:
            raise ConfigError(_readable(e, cls), path=path) from e
        except ConfigError as e:  # of a table that is checked by itself, or of another file, which the error then names
            raise ConfigError(e.message, path=e.path or path, hint=e.hint) from e


def read_toml(path: Path) -> dict[str, Any]:
    """Read a TOML file.

    Raises
    ------
    ConfigError
        If it is absent or not TOML.
    """
    try:
        return _parsed(decoded(regular_file(path, ConfigError).read_bytes()))
    except OSError as e:
        raise ConfigError(f"cannot be read: {e.strerror}.", path=path) from e
    except (ValueError, RecursionError) as e:  # ValueError: syntax, encoding, an enormous number; RecursionError: depth
        raise ConfigError(f"is not valid TOML: {e}.", path=path) from e


#: Folder of the configurations that come with floemap.
_SHIPPED = Path(__file__).parent / "configs"


def config_names() -> tuple[str, ...]:
    """Return the names of the configurations that come with floemap, sorted."""
    return tuple(sorted(path.stem for path in _SHIPPED.glob("*.toml")))


def config_text(name: str) -> str:
    """Return a configuration that comes with floemap, as the text of a TOML file.

    Raises
    ------
    ConfigError
        If no configuration has this name.
    """
    if name not in config_names():
        raise ConfigError(f"no configuration is called {name!r}.", hint=known_names(name, config_names()))
    return (_SHIPPED / f"{name}.toml").read_text(encoding="utf-8")


#: A dotted key of 50 parts or more: each part is a table, and parsing takes time with the square of their number.
_DEEP_KEY = re.compile(r"""(?:["']?[\w-]{1,64}["']?\s*\.\s*){50,}""")
#: Longest file that is parsed, characters. The longest configuration that comes with floemap has 4,000.
_LONGEST = 1 << 20


def _parsed(text: str) -> dict[str, Any]:
    """Parse TOML; refuse text that was made to take long."""
    if len(text) > _LONGEST:
        raise ValueError(f"it is {len(text):,} characters long")
    if (deep := _DEEP_KEY.search(text)) is not None:
        raise ValueError(f"a key of more than 50 parts begins with {deep[0][:40]!r}")
    return tomllib.loads(text)


def _readable(error: ValidationError, settings: type[BaseModel]) -> str:
    """Return one clause for each error."""
    found = error.errors()
    # For a list with a wrong member pydantic also reports the list as a whole: the error of the member is enough.
    inner = [e for e in found if not any(_is_within(other["loc"], e["loc"]) for other in found)]
    return "; ".join(_sentence(e, settings) for e in inner) + "."


def _is_within(loc: tuple[int | str, ...], outer: tuple[int | str, ...]) -> bool:
    return len(loc) > len(outer) and loc[: len(outer)] == outer


#: What a value must be, by pydantic's kind of error: in place of its own words.
_NEEDED: Mapping[str, str] = {
    "int": "a whole number is needed",
    "float": "a number is needed",
    "bool": "true or false is needed",
    "string": "a text is needed",
    "path": "a text is needed",
    "dict": "a table of settings is needed",
    "model": "a table of settings is needed",
}


def _sentence(e: ErrorDetails, settings: type[BaseModel]) -> str:
    kind, value = e["type"], e["input"]
    loc = e["loc"][:-1] if e["loc"] and isinstance(e["loc"][-1], int) else e["loc"]  # the value says which of a list
    where = ".".join(map(str, loc)) or "the whole"
    if kind == "extra_forbidden":
        meant = did_you_mean(e["loc"][-1], _keys_at(settings, e["loc"][:-1]))
        return f"the key {where!r} is unknown{meant and f' ({meant})'}"
    if kind == "missing":
        return f"the key {where!r} is missing"
    if kind == "literal_error":
        known = re.findall(r"'([^']*)'", e["ctx"]["expected"])
        meant = did_you_mean(value, known)
        return f"{where} is {value!r}, which is not known{meant and f' ({meant})'}: known are {', '.join(known)}"
    if kind in ("tuple_type", "list_type"):
        example = f", [{json.dumps(value)}]" if isinstance(value, str | int | float) else ""
        return f"{where} is {value!r}: write a list{example}"
    if kind.endswith(("_type", "_parsing", "_from_float")) and (needed := _NEEDED.get(kind.split("_")[0])):
        return f"{where} is {value!r}: {needed}"
    if kind == "too_short":
        return f"{where} is {value!r}: a list of at least {e['ctx']['min_length']} is needed"
    words = in_plain_words(e["msg"])
    words = f"{words[0].lower()}{words[1:].removesuffix('.')}"
    if isinstance(value, Mapping | BaseModel):  # settings that do not fit each other, which the words name
        return f"{where}: {words}" if loc else words
    return f"{where} is {value!r}: {words}"


#: What pydantic puts before the words of a check, and after those of a value that cannot be parsed.
_BEFORE, _AFTER = re.compile(r"^(Value error|Assertion failed), "), re.compile(r", unable to (parse|interpret).*")


def in_plain_words(message: str) -> str:
    """Return a message of pydantic, which also checks the options of commands, in our words."""
    return _AFTER.sub("", _BEFORE.sub("", message)).replace("Input should", "it must")


def _keys_at(settings: type[BaseModel], loc: tuple[int | str, ...]) -> list[str]:
    """Return the keys that the table at `loc` in the settings may have."""
    table: type[BaseModel] | None = settings
    for part in loc:
        if isinstance(part, int):
            continue
        field = None if table is None else table.model_fields.get(part)
        table = None if field is None else _table_of(field.annotation)
    return [] if table is None else list(table.model_fields)


def _table_of(annotation: Any) -> type[BaseModel] | None:
    """Return the settings class that a field's type is or contains, as a tuple of settings does; None if neither."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((t for t in map(_table_of, get_args(annotation)) if t is not None), None)
