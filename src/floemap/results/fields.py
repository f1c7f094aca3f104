"""Fields of records, which may have been edited or come from other versions."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from floemap.errors import FloemapError


class MissingFieldError(FloemapError, KeyError):
    """A record lacks a field that is needed. It is a KeyError too, for those who have an answer to one.

    Parameters
    ----------
    field
        Dotted key of the field.
    path
        The record's file.
    made_by
        Command that writes the file; None where it is not known.
    """

    def __init__(self, field: str, path: Path | None, made_by: str | None) -> None:
        self.field, self.made_by = field, made_by
        writer = f" as `{made_by}` writes it" if made_by else " whole"
        hint = f"Remove it, and make it again with `{made_by}`." if made_by else "Make it again."
        super().__init__(f"is not{writer}: the field {field} is missing.", path=path, hint=hint)

    def __repr__(self) -> str:  # others say it as the reason why a record cannot be used
        return f"the field {self.field} is missing in {self.path}"

    def __reduce__(self) -> tuple[Any, ...]:  # it may come from another process
        return type(self), (self.field, self.path, self.made_by)


class Record(dict[str, Any]):
    """A table of a file, or one within it, that names the file, the field and the way out where a field is missing.

    Parameters
    ----------
    values
        Its fields. Tables in them, also in lists, become records of the same file.
    path
        The file.
    made_by
        Command that writes the file; None where it is not known.
    above
        Dotted key of this table in the file, with a dot at the end; "" for the whole.
    """

    def __init__(self, values: Mapping[str, Any], path: Path, made_by: str | None = None, above: str = "") -> None:
        super().__init__({k: _within(v, path, made_by, f"{above}{k}") for k, v in values.items()})
        self._path, self._made_by, self._above = path, made_by, above

    def __missing__(self, key: object) -> Any:
        raise MissingFieldError(f"{self._above}{key}", self._path, self._made_by)


def _within(value: Any, path: Path, made_by: str | None, place: str) -> Any:
    if isinstance(value, dict):
        return Record(value, path, made_by, f"{place}.")
    if isinstance(value, list) and any(isinstance(v, dict | list) for v in value):
        return [_within(v, path, made_by, f"{place}[{i}]") for i, v in enumerate(value)]
    return value


def at(record: Any, key: str, default: Any = None) -> Any:
    """Return the value at a dotted key; `default` if it is missing, or is of another type than `default`."""
    for name in key.split("."):
        record = record.get(name) if isinstance(record, Mapping) else None
    right = record is not None if default is None else isinstance(record, type(default))
    return record if right else default
