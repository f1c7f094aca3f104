"""Shapefiles of any rings, byte by byte by ESRI's description (1998): no library writes them the wrong way round."""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyproj
from chart_maker import COLUMNS, POLAR, ice
from numpy.typing import NDArray

Ring = NDArray[np.float64]


def square(left: float, bottom: float, side: float, *, clockwise: bool) -> Ring:
    """A closed square ring, (5, 2)."""
    ring = np.array([[0, 0], [0, 1], [1, 1], [1, 0], [0, 0]]) * side + (left, bottom)
    return ring if clockwise else ring[::-1]


def write_rings(
    path: Path, features: Sequence[Sequence[Ring]], rows: Sequence[Mapping[str, Any]] | None = None, crs: str = POLAR
) -> Path:
    """Write polygons of rings as they are given, (m, 2) each, and a table of codes."""
    rows = [ice(SA="95")] * len(features) if rows is None else rows
    records = []
    for rings in features:
        points = np.concatenate(rings)
        first = np.cumsum([0, *(len(r) for r in rings[:-1])]).astype("<i4")
        box = (*np.nanmin(points, axis=0), *np.nanmax(points, axis=0))
        body = (
            struct.pack("<i4d2i", 5, *box, len(rings), len(points)) + first.tobytes() + points.astype("<f8").tobytes()
        )
        records.append(body)
    every = np.concatenate([r for rings in features for r in rings])
    box = (*np.nanmin(every, axis=0), *np.nanmax(every, axis=0))
    shapes, index, words = [], [], 50
    for number, body in enumerate(records, 1):
        index.append(struct.pack(">2i", words, len(body) // 2))
        shapes.append(struct.pack(">2i", number, len(body) // 2) + body)
        words += 4 + len(body) // 2

    def head(length: int) -> bytes:
        return struct.pack(">7i", 9994, 0, 0, 0, 0, 0, length) + struct.pack("<2i8d", 1000, 5, *box, 0, 0, 0, 0)

    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(head(words) + b"".join(shapes))
    path.with_suffix(".shx").write_bytes(head(50 + 4 * len(records)) + b"".join(index))
    fields = b"".join(struct.pack("<11sc4xBB14x", name[:10].encode(), b"C", 10, 0) for name in COLUMNS)
    table = b"".join(b" " + b"".join(str(row[c] or "").encode().ljust(10) for c in COLUMNS) for row in rows)
    sizes = struct.pack("<4BIHH20x", 3, 126, 1, 1, len(rows), 33 + len(fields), 1 + 10 * len(COLUMNS))
    path.with_suffix(".dbf").write_bytes(sizes + fields + b"\r" + table + b"\x1a")
    path.with_suffix(".prj").write_text(pyproj.CRS(crs).to_wkt("WKT1_ESRI"))
    return path
