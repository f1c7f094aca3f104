"""Fields of records, which may have been edited or come from other versions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def at(record: Any, key: str, default: Any = None) -> Any:
    """Return the value at a dotted key; `default` if it is missing, or is of another type than `default`."""
    for name in key.split("."):
        record = record.get(name) if isinstance(record, Mapping) else None
    right = record is not None if default is None else isinstance(record, type(default))
    return record if right else default
