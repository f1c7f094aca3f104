"""Tables of shapefiles (dBASE III+) with columns of given widths.

GDAL would write numbers 24 wide with 15 decimals, which is too narrow for an area of a hundred square kilometres, and
text columns as wide as their longest value, which may be too narrow for a correction.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from floemap.errors import OutputError

#: Type of a column, C for text and N for numbers, its width, and decimals.
Form = tuple[str, int, int]


def write_dbf(path: Path, columns: Mapping[str, Sequence[Any]], forms: Mapping[str, Form], day: datetime) -> None:
    """Write a table, columns in the order of `forms`, text as UTF-8, with `day` as the day of the last change.

    Raises
    ------
    OutputError
        If a value does not fit its column.
    """
    rows = len(next(iter(columns.values())))
    length = 32 + 32 * len(forms) + 1
    head = struct.pack(
        "<4BIHH20x", 3, day.year - 1900, day.month, day.day, rows, length, 1 + sum(w for _, w, _ in forms.values())
    )
    for name, (kind, width, decimals) in forms.items():
        head += struct.pack("<11sc4xBB14x", name.encode("ascii"), kind.encode("ascii"), width, decimals)
    cells = [[_cell(v, name, form, path) for v in columns[name]] for name, form in forms.items()]
    body = b"".join(b" " + b"".join(row) for row in zip(*cells, strict=True))
    path.write_bytes(head + b"\r" + body + b"\x1a")


def _cell(value: Any, name: str, form: Form, path: Path) -> bytes:
    kind, width, decimals = form
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return b" " * width
    text = (f"{value:.{decimals}f}" if kind == "N" else str(value)).encode()
    if len(text) > width:
        hint = "Leave this format out; the GeoPackage has no such limit."
        raise OutputError(f"{name} is {value!r}, which does not fit {width} characters.", path=path, hint=hint)
    return text.rjust(width) if kind == "N" else text.ljust(width)
