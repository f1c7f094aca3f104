"""Settings from TOML files, options or Python: typed, frozen and validated; an unknown key is an error.

Each stage's settings are one model. A file holds only what differs from the defaults.
"""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, get_args

from pydantic import BaseModel, ConfigDict, GetCoreSchemaHandler, ValidationError
from pydantic_core import PydanticKnownError, core_schema

from floemap.errors import ConfigError, did_you_mean, known_names
from floemap.files import decoded, parsed, regular_file

if TYPE_CHECKING:
    from pydantic_core import CoreSchema, ErrorDetails


def _take_true_types_only(schema: Any) -> None:
    """Make all numbers and truth values in a schema of pydantic strict, those in lists and tables too.

    Its own strict mode would also refuse lists where there are tuples, and texts where there are paths. A choice among
    numbers has none: it compares values, and 8.0 equals 8.
    """
    if isinstance(schema, dict):
        if schema.get("type") in ("int", "float", "bool"):
            schema["strict"] = True
        if schema.get("type") == "literal" and not all(isinstance(v, str) for v in schema["expected"]):
            one_of = schema.copy()
            schema.clear()
            schema |= core_schema.no_info_before_validator_function(_same_kind_as(one_of["expected"]), one_of)
            return
        schema = schema.values()
    elif not isinstance(schema, list | tuple):
        return
    for part in schema:
        _take_true_types_only(part)


def _same_kind_as(choices: Sequence[Any]) -> Callable[[Any], Any]:
    """Return a check that refuses a value which equals one of the choices and is of another kind, as 8.0 and 8 are."""

    def check(value: Any) -> Any:
        if not isinstance(value, str) and not any(type(value) is type(c) and value == c for c in choices):
            raise PydanticKnownError("literal_error", {"expected": " or ".join(map(repr, choices))})
        return value

    return check


class Settings(BaseModel):
    """Base of all settings: immutable, with unknown keys refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        """Refuse "4" and true where a number is meant, 4.0 for a whole one, and "yes" and 1 for true."""
        schema = handler(source)
        _take_true_types_only(schema)
        return schema

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
        text = decoded(regular_file(path, ConfigError).read_bytes())
    except OSError as e:
        raise ConfigError(f"cannot be read: {e.strerror}.", path=path) from e
    except UnicodeDecodeError as e:
        raise ConfigError(f"is not valid TOML: {e}.", path=path, hint="Save it in the encoding UTF-8.") from e
    try:
        return _parsed(text)
    except (ValueError, RecursionError) as e:  # ValueError: syntax, an enormous number; RecursionError: depth
        raise ConfigError(f"is not valid TOML: {e}.", path=path, hint=_way_out(text, str(e))) from e


#: What other languages of settings and people write, found in the line that is no TOML, and what TOML has instead.
_SLIPS = (
    (r"^\s*[{}]", "JSON is another language: write KEY = VALUE in lines below [TABLE]."),
    (r"[\u2018\u2019\u201c\u201d\u00ab\u00bb]", 'Quotes are straight: "text".'),
    (r"^\s*(//|;|/\*|--)|[^#]*;\s*$", "Comments begin with #, and lines end without a semicolon."),
    (r"^\s*[\w.\"'-]+\s*:", "Between key and value is an equals sign: KEY = VALUE, and tables begin with [TABLE]."),
    (r"=\s*(True|False)\b|[\[,]\s*(True|False)\b", "true and false are written in small letters."),
    (r"=\s*(None|null|nil|~|none)\s*(#|$)", "There is no value for nothing: leave the key out."),
    (r"=\s*[+-]?\d+,\d", "Decimals have a point: 1.5. Several values are a list: [1, 5]."),
    (
        r"=\s*[+-]?(\d*\.\d+|\d+\.)(?!\d)|=\s*[+-]?\d+[eE]\s*$",
        "Numbers have digits on both sides of the point, and after e.",
    ),
    (r'"[^"]*\\', r"In quotes \ begins an escape: write / in paths, or put them into single quotes, 'C:\data'."),
    (r"=\s*[A-Za-z_./~]|[\[,]\s*[A-Za-z_./~]", 'A text is in quotes: "text".'),
)


def _way_out(text: str, problem: str) -> str | None:
    """Return what to write instead, by the line that a problem of syntax names; None where nothing is known of it."""
    if "\r" in text.replace("\r\n", ""):
        return "Save it with the ends of lines of this system; it has lone carriage returns."
    if problem.startswith("Cannot"):  # overwrite a value, declare a table twice
        return "A key or a table is given twice: keep one of them."
    place = re.search(r"at line (\d+)", problem)
    if place is None:
        return "A quote or a bracket is not closed." if "end of document" in problem else None
    line = text.split("\n")[int(place[1]) - 1].strip()
    shown = ascii(line)[1:-1] if not line.isprintable() else line
    found = next((words for pattern, words in _SLIPS if re.search(pattern, line)), "")
    return f"The line is: {shown[:80]}{' ...' if len(shown) > 80 else ''}{found and '  ' + found}"


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
    return parsed(tomllib.loads, text)


def _readable(error: ValidationError, settings: type[BaseModel]) -> str:
    """Return one clause for each error."""
    found = error.errors()
    # For a list with a wrong member pydantic also reports the list as a whole: the error of the member is enough.
    inner = [e for e in found if not any(_is_within(other["loc"], e["loc"]) for other in found)]
    # Of a value that may be of several kinds, pydantic reports an error for each: one clause says them all.
    each: dict[object, list[ErrorDetails]] = {}
    for e in inner:
        each.setdefault((e["loc"][:-1], id(e["input"])) if _is_of_several(e) else e["loc"], []).append(e)
    said = [_sentence(e[0], settings) if len(e) == 1 else _alternatives(e) for e in each.values()]
    return "; ".join(dict.fromkeys(said)) + "."


def _is_within(loc: tuple[int | str, ...], outer: tuple[int | str, ...]) -> bool:
    return len(loc) > len(outer) and loc[: len(outer)] == outer


#: What a value must be, by pydantic's kind of error: in place of its own words.
_NEEDED: Mapping[str, str] = {
    "int": "a whole number",
    "float": "a number",
    "bool": "true or false",
    "string": "a text",
    "path": "a text",
    "dict": "a table of settings",
    "model": "a table of settings",
}


def _where(loc: tuple[int | str, ...]) -> str:
    """Return the dotted key of a place. The value says which of a list it is."""
    return ".".join(map(str, loc[:-1] if loc and isinstance(loc[-1], int) else loc)) or "the whole"


def _sentence(e: ErrorDetails, settings: type[BaseModel]) -> str:
    kind, value = e["type"], e["input"]
    where = _where(e["loc"])
    if kind == "extra_forbidden":
        meant = did_you_mean(e["loc"][-1], _keys_at(settings, e["loc"][:-1]))
        return f"the key {where!r} is unknown{meant and f' ({meant})'}"
    if kind == "missing" and isinstance(e["loc"][-1], int):
        return f"{where} is {value!r}: more values are needed"
    if kind == "missing":
        return f"the key {where!r} is missing"
    if kind == "literal_error":
        known = _choices(e)
        if "'" not in e["ctx"]["expected"]:
            return f"{where} is {value!r}: {' or '.join(known)} is needed"
        meant = did_you_mean(value, known)
        return f"{where} is {value!r}, which is not known{meant and f' ({meant})'}: known are {', '.join(known)}"
    if kind in ("tuple_type", "list_type"):
        example = f", [{json.dumps(value)}]" if isinstance(value, str | int | float) else ""
        return f"{where} is {value!r}: write a list{example}"
    if kind.endswith(("_type", "_parsing", "_from_float")) and (needed := _NEEDED.get(kind.split("_")[0])):
        return f"{where} is {value!r}: {needed} is needed"
    if kind in ("too_short", "too_long"):
        bound = f"least {e['ctx']['min_length']}" if kind == "too_short" else f"most {e['ctx']['max_length']}"
        return f"{where} is {value!r}: a list of at {bound} is needed"
    if kind == "string_pattern_mismatch":
        return f"{where} is {value!r}, which may contain {_characters(e['ctx']['pattern'])}"
    words = in_plain_words(e["msg"])
    words = f"{words[0].lower()}{words[1:].removesuffix('.')}"
    if isinstance(value, Mapping | BaseModel):  # settings that do not fit each other, which the words name
        return f"{where}: {words}" if e["loc"] else words
    return f"{where} is {value!r}: {words}"


def _characters(pattern: str) -> str:
    """Return in words which characters a regular expression of classes in brackets takes."""
    classes = "".join(re.findall(r"\[([^]]*)\]", pattern))
    letters = "letters from A to Z" if "A-Z" in classes else "small letters from a to z"
    others = dict.fromkeys(c for c in re.sub(r"\w-\w", "", classes) if not c.isalnum())
    words = [letters, *(["digits"] if "0-9" in classes else []), *others]
    most = re.search(r"\{0,(\d+)\}", pattern)
    bounds = ", a letter first" if pattern.startswith("^[a-z]") else ""
    bounds += f", at most {int(most[1]) + 1} in all" if most is not None else ""
    return f"{', '.join(words[:-1])} and {words[-1]}{bounds}"


def _choices(e: ErrorDetails) -> list[str]:
    """Return the texts or numbers of which one is needed."""
    return [text.strip("'") for text in re.findall(r"'[^']*'|-?\d+", e["ctx"]["expected"])]


#: What pydantic calls the kinds of a value that may be of several, and how its errors about each begin.
_OF_SEVERAL: Mapping[str, str] = {"bool": "bool_", "int": "int_", "float": "float_", "str": "string_"}


def _is_of_several(e: ErrorDetails) -> bool:
    """Return whether an error says that a value, which may be of several kinds, is not of one of them."""
    kind = str(e["loc"][-1]) if e["loc"] else ""
    begins = "literal_error" if "literal[" in kind else _OF_SEVERAL.get(kind)
    return begins is not None and e["type"].startswith(begins)


def _alternatives(errors: list[ErrorDetails]) -> str:
    """Return the clause for a value that is of none of several kinds."""
    needed = [
        " or ".join(_choices(e)) if e["type"] == "literal_error" else _NEEDED[e["type"].split("_")[0]] for e in errors
    ]
    return f"{_where(errors[0]['loc'][:-1])} is {errors[0]['input']!r}: {', or '.join(needed)} is needed"


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
