"""Columns of draft charts besides the codes: the class that was drawn, and whether the chart is simulated.

CLASS follows from the codes, and QGIS updates it with them. With another program, somebody may have corrected CLASS and
not the codes. As floemap reads the codes only, it reports such polygons, or the correction would be lost.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from floemap.legend import LEGENDS, Legend

if TYPE_CHECKING:
    from floemap.icechart.dominant_type import IceTypes
    from floemap.icechart.read.sigrid3 import Chart
    from floemap.icechart.read.sources import Source

#: Columns of draft charts that are read in addition to the codes.
CLASS, SIMULATED = "class", "simulated"
#: Words for "simulated" in the metadata beside a shapefile from floemap.
_SAYS_SIMULATED = re.compile(rb"SIMULATED by floemap|chart is SIMULATED")
_LAND = "land"
_HEAD_BYTES = 1 << 16


def own_columns(fields: Sequence[str]) -> dict[str, str]:
    """Return the file's names of :data:`CLASS` and :data:`SIMULATED`, by these, as far as it has them."""
    by_name = {own.strip().lower(): own for own in reversed(fields)}
    return {name: by_name[name] for name in (CLASS, SIMULATED) if name in by_name}


def is_simulated_chart(source: Source, columns: Mapping[str, Sequence[Any]], own: Mapping[str, str]) -> bool:
    """Return whether a chart is marked as simulated, in its table or, without such a column, in its metadata."""
    if SIMULATED in own:
        return any(str(value).strip().lower() == "yes" for value in columns[own[SIMULATED]])
    return source.kind == ".shp" and any(_SAYS_SIMULATED.search(text) for text in _metadata(source))


def _metadata(source: Source) -> list[bytes]:
    found = []
    part = source.parts[".shp"]
    if isinstance(part, Path):
        for beside in (part.with_suffix(".shp.xml"), part.with_suffix(".xml")):
            if beside.is_file():
                with beside.open("rb") as f:
                    found.append(f.read(_HEAD_BYTES))
    return found


def other_classes(chart: Chart, types: IceTypes) -> list[int]:
    """Return the ids of polygons whose CLASS differs from their codes, in the order of the chart."""
    if chart.classes is None:
        return []
    keys = np.array([str(key or "").strip() for key in chart.classes], object)
    known = [table for table in LEGENDS.values() if {*keys} <= {c.key for c in table.classes} | {_LAND, ""}]
    named = np.flatnonzero(keys != "")
    return [int(types.features[i]) for i in named if not all(keys[i] == _key(types, int(i), t) for t in known)]


def class_keys(types: IceTypes, table: Legend) -> list[str]:
    """Return the CLASS that follows from the codes of each polygon in a legend; "" for none."""
    return [_key(types, row, table) for row in range(len(types.rule))]


def _key(types: IceTypes, row: int, table: Legend) -> str:
    """Return the CLASS that follows from the codes of a polygon."""
    rule, stage = str(types.rule[row]), int(types.stage[row])
    if rule in (_LAND, "water"):
        return _LAND if rule == _LAND else table.classes[table.water].key
    number = table.code_to_class.get(stage, table.stageless)
    return table.classes[number].key if number < len(table) else ""
