"""Options made from settings: type, default and help are those of the settings' fields, written once.

A command declares a parameter ``settings: Annotated[PrepareSettings, FromOptions({"resolution_m": "--resolution"})]``.
:func:`floemap.cli.app.command` replaces it by one option for each named field, and passes the settings made from them.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import typer
from pydantic.fields import FieldInfo

from floemap.config import Settings
from floemap.errors import ConfigError


@dataclass(frozen=True)
class FromOptions:
    """Marks a command's parameter as settings that are made from options.

    Attributes
    ----------
    options
        By field, a dotted name: the option and its metavar, as in ``--resolution METRES``. A text after a colon takes
        the place of the field's description. A metavar that ends in ``,...`` makes an option of several values
        separated by commas; without it, an option for several values is given several times.
    config
        Whether there is also ``--config``, a TOML file whose values the options replace.
    """

    options: Mapping[str, str]
    config: bool = False

    def parameters(self, kind: type[Settings]) -> Iterator[inspect.Parameter]:
        """Yield the parameters that take the place of that of the settings `kind`."""
        if self.config:
            info = typer.Option("--config", help="Settings as a TOML file; options take precedence.")
            yield _keyword("config", Path, info)
        for key, option in self.options.items():
            declared, _, words = option.partition(": ")
            name, _, metavar = declared.partition(" ")
            field = _field(kind, key)
            values = str if metavar.endswith(",...") else _values(field.annotation)
            words = words or _words(field)
            if field.is_required():
                words += " (required, here or in --config)" if self.config else " (required)"
            elif "default" not in words.lower() and field.default not in (None, ()):
                words += f" (default: {_default(name, field.default)})"
            info = typer.Option(name, metavar=metavar or None, help=words, show_default=False)
            yield _keyword(_identifier(option), values, info)

    def take(self, kind: type[Settings], arguments: dict[str, Any]) -> Settings:
        """Remove the options' values from a command's arguments, and return the settings that they make.

        Raises
        ------
        ConfigError
            If a value is out of range, or the file of settings cannot be used.
        """
        config = arguments.pop("config") if self.config else None
        values = {} if config is None else kind.from_toml(config).model_dump(exclude_unset=True)
        for key, option in self.options.items():
            value = arguments.pop(_identifier(option))
            if value is None:
                continue
            if option.partition(": ")[0].endswith(",..."):
                value = [part.strip() for part in value.split(",") if part.strip()]
            elif isinstance(value, str) and float in get_args(_field(kind, key).annotation):
                value = _number_or_text(value)
            *tables, last = key.split(".")
            table = values
            for name in tables:
                table = table.setdefault(name, {})
            table[last] = value
        for key, option in self.options.items():
            if _field(kind, key).is_required() and "." not in key and key not in values:
                where = " or its key in the file of --config" if self.config else ""
                raise ConfigError(f"{option.split()[0]} is missing.", hint=f"Give it{where and ','}{where}.")
        return kind.checked(**values)


def settings_parameter(signature: inspect.Signature) -> tuple[str, type[Settings], FromOptions] | None:
    """Return name, class and options of the parameter that :class:`FromOptions` marks; None if there is none."""
    for parameter in signature.parameters.values():
        for mark in getattr(parameter.annotation, "__metadata__", ()):
            if isinstance(mark, FromOptions):
                return parameter.name, get_args(parameter.annotation)[0], mark
    return None


def _identifier(option: str) -> str:
    """Return the name of an option's parameter: ``sea_level`` for ``--sea-level geoid|METRES``."""
    return option.lstrip("-").split()[0].split("/")[0].rstrip(":").replace("-", "_")


def _keyword(name: str, values: Any, info: Any) -> inspect.Parameter:
    return inspect.Parameter(
        name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=Annotated[values | None, info]
    )


def _field(kind: type[Settings], key: str) -> FieldInfo:
    *tables, last = key.split(".")
    for name in tables:
        kind = kind.model_fields[name].annotation  # type: ignore[assignment]
    return kind.model_fields[last]


def _words(field: FieldInfo) -> str:
    """Return the description of a field, with the choices of which several may be given."""
    words = " ".join((field.description or "").split())
    several = get_args(field.annotation)[0] if get_origin(field.annotation) is tuple else None
    return f"{words} One of {', '.join(get_args(several))}." if get_origin(several) is Literal else words


def _values(annotation: Any) -> Any:
    """Return the type of an option's values: ``float`` of ``float | None``, ``list[int]`` of ``tuple[int, ...]``."""
    origin, inner = get_origin(annotation), get_args(annotation)
    if origin in (Union, UnionType):
        kinds = [a for a in inner if a is not NoneType]
        return _values(kinds[0]) if len(kinds) == 1 else str
    if origin is tuple:  # typer has no lists of choices: the settings check them
        return list[str] if get_origin(inner[0]) is Literal else list[_values(inner[0])]  # type: ignore[misc]
    return inner[0] if origin is Annotated else annotation


def _number_or_text(text: str) -> float | str:
    """Return the value of an option that takes a number or a word."""
    try:
        return float(text)
    except ValueError:
        return text


def _default(option: str, value: Any) -> str:
    if isinstance(value, bool):
        return option.split("/")[0 if value else 1].lstrip("-")
    if isinstance(value, tuple):
        return ", ".join(map(str, value))
    return f"{value:g}" if isinstance(value, float) else str(value)
