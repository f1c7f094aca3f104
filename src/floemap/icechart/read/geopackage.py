"""Reading GeoPackages (OGC 12-128) with SQLite, within limits that the file cannot exceed.

A database from anywhere may have an endless query under the name of a table, values that grow on reading, and wrong
counts: readers that trust these lose polygons or never return. This reader only reads tables, row by row.
"""

from __future__ import annotations

import sqlite3
import struct
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
import pyproj
from pyproj.exceptions import CRSError

from floemap.errors import ChartError
from floemap.grid import Box
from floemap.icechart.read.features import Features, from_wkb

#: Most bytes of a value.
_MOST_BYTES = 512 << 20
#: Steps of SQLite's virtual machine after which a query counts as endless. A row takes about ten.
_MOST_STEPS = 2_000_000_000
_STEPS = 1_000_000
#: Longer text is not a code; it is cut.
_LONGEST_TEXT = 254
#: Bytes of the envelope by its code in a geometry's header.
_ENVELOPE_BYTES = (0, 32, 48, 48, 64)
_EXTENDED = 0x20
#: SQLite's names for the number of a row; a column may hide each of them.
_ROW_NUMBERS = ("_rowid_", "rowid", "oid")
_AGAIN = "Export its layer into a new file, as with QGIS's 'Save Features As'."


@contextmanager
def _opened(file: Path, name: Path, logged: bool) -> Iterator[sqlite3.Connection]:
    """Open a database; only reading its tables is allowed."""
    steps = 0

    def step() -> bool:
        nonlocal steps
        steps += _STEPS
        return steps > _MOST_STEPS

    def allowed(action: int, what: str | None, *_: str | None) -> int:
        reads = action in (sqlite3.SQLITE_SELECT, sqlite3.SQLITE_READ)
        reads |= action == sqlite3.SQLITE_PRAGMA and what == "table_xinfo"
        return sqlite3.SQLITE_OK if reads else sqlite3.SQLITE_DENY

    try:
        uri = f"file:{quote(str(file.absolute()))}?{'mode=rw' if logged else 'mode=ro&immutable=1'}"
        with closing(sqlite3.connect(uri, uri=True)) as db:
            db.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, _MOST_BYTES)
            db.text_factory = lambda text: text.decode("utf-8", "replace")
            db.set_progress_handler(step, _STEPS)
            db.set_authorizer(allowed)
            yield db
    except (sqlite3.Error, UnicodeDecodeError) as e:  # the latter where SQLite quotes bytes that are not text
        quoted = "it holds text that is not UTF-8" if isinstance(e, UnicodeDecodeError) else str(e)
        reason = "a query in it does not end" if steps > _MOST_STEPS else quoted
        raise ChartError(f"cannot be read: {reason}.", path=name, hint=_AGAIN) from e


def layers(file: Path, name: Path, logged: bool) -> dict[str, str]:
    """Return the layers of a GeoPackage with the type of their geometries, in capitals.

    Parameters
    ----------
    file, name
        The file to open, and its name in messages.
    logged
        Whether a log of changes is beside it. SQLite then writes to both: they must be copies.

    Raises
    ------
    ChartError
        If the file cannot be read, or is not a GeoPackage.
    """
    with _opened(file, name, logged) as db:
        for needed in ("gpkg_contents", "gpkg_geometry_columns"):
            _check_table(db, needed, name)
        contents = db.execute("SELECT table_name, data_type FROM gpkg_contents").fetchall()
        features = {str(table).casefold() for table, kind in contents if kind == "features"}
        found = db.execute("SELECT table_name, geometry_type_name FROM gpkg_geometry_columns").fetchall()
        return {str(table): str(kind).upper() for table, kind in found if str(table).casefold() in features}


def _check_table(db: sqlite3.Connection, table: str, name: Path) -> None:
    """Refuse a table that is a query under a table's name: it may do anything, without end."""
    stored = {}
    for kind, own, page in db.execute("SELECT type, name, rootpage FROM sqlite_master"):
        if kind in ("table", "view"):
            stored[str(own).casefold()] = kind == "table" and page
    if table.casefold() not in stored:
        raise ChartError(f"is not a GeoPackage: it has no table {table!r}.", path=name, hint=_AGAIN)
    if not stored[table.casefold()]:
        raise ChartError(f"{table!r} is a query, not a table.", path=name, hint=_AGAIN)


@dataclass(frozen=True)
class GeoPackageLayer:
    """An open layer.

    Attributes
    ----------
    fields
        Names of the columns without the geometry.
    crs
        Well-Known Text of the CRS; None if the file gives none.
    """

    fields: tuple[str, ...]
    crs: str | None
    _db: sqlite3.Connection
    _table: str
    _number: str
    _geometry: str
    _truths: frozenset[str]
    _most_bytes: int

    def read(self, columns: Sequence[str], box: Box | None = None) -> Features:
        """Read features with some columns, if a box is given those that may reach into it.

        Raises
        ------
        ChartError
            If a geometry is damaged or has curved edges; the message names the feature.
        """
        wanted = ", ".join(map(_quoted, [self._geometry, *columns]))
        ids, rows, blobs, total = [], [], [], 0
        for feature, blob, *values in self._db.execute(f"SELECT {self._number}, {wanted} FROM {_quoted(self._table)}"):
            shape = _wkb(blob, feature)
            total += len(shape or b"")
            if total > self._most_bytes:
                raise ChartError("is damaged: its geometries share their bytes.", hint=_AGAIN)
            if shape is None or box is None or _meets(blob, box):
                ids.append(feature)
                blobs.append(shape)
                rows.append([v[:_LONGEST_TEXT] if isinstance(v, str | bytes) else v for v in values])
        by_column = {c: [row[i] for row in rows] for i, c in enumerate(columns)}
        for c in self._truths.intersection(columns):  # SQLite stores them as numbers
            by_column[c] = [bool(v) if isinstance(v, int) else v for v in by_column[c]]
        return from_wkb(np.array(ids, np.int64), by_column, blobs).within(box)


@contextmanager
def open_layer(file: Path, layer: str, name: Path, logged: bool) -> Iterator[GeoPackageLayer]:
    """Open a layer of a GeoPackage.

    Parameters
    ----------
    file, layer, name
        The file to open, its layer, and the file's name in messages.
    logged
        Whether a log of changes is beside it. SQLite then writes to both: they must be copies.

    Raises
    ------
    ChartError
        If the layer cannot be read.
    """
    with _opened(file, name, logged) as db:
        for needed in ("gpkg_geometry_columns", layer):
            _check_table(db, needed, name)
        found = db.execute("SELECT table_name, column_name, srs_id FROM gpkg_geometry_columns").fetchall()
        geometry, srs = next((str(c), s) for table, c, s in found if str(table) == layer)
        columns = db.execute(f"PRAGMA table_xinfo({_quoted(layer)})").fetchall()
        # The others are computed, or the feature's number.
        stored = {str(c[1]).casefold(): str(c[1]) for c in columns if not c[6] and not c[5]}
        if geometry.casefold() not in stored:
            raise ChartError(f"its layer {layer!r} has no stored column {geometry!r}.", path=name, hint=_AGAIN)
        fields = tuple(own for key, own in stored.items() if key != geometry.casefold())
        taken = {str(c[1]).casefold() for c in columns}
        number = next((n for n in _ROW_NUMBERS if n not in taken), None)
        if number is None:
            raise ChartError(f"its layer {layer!r} hides the numbers of its features.", path=name, hint=_AGAIN)
        size = sum(p.stat().st_size for p in (file, file.with_name(f"{file.name}-wal")) if p.exists())
        truths = frozenset(own for _, own, kind, *_ in columns if str(kind).strip().upper() in ("BOOLEAN", "BOOL"))
        yield GeoPackageLayer(fields, _crs(db, srs, name), db, layer, number, geometry, truths, size)


def _crs(db: sqlite3.Connection, srs: Any, name: Path) -> str | None:
    _check_table(db, "gpkg_spatial_ref_sys", name)
    rows = db.execute("SELECT srs_id, organization, organization_coordsys_id, definition FROM gpkg_spatial_ref_sys")
    for own, organisation, code, definition in rows.fetchall():
        if own != srs:
            continue
        if str(organisation).upper() == "EPSG":
            try:
                return str(pyproj.CRS.from_epsg(code).to_wkt())
            except (CRSError, TypeError, ValueError, ArithmeticError):
                pass
        text = definition if isinstance(definition, str) else ""
        return None if text.strip().lower() in ("undefined", "none", "") else text
    return None


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _wkb(blob: Any, feature: int) -> bytes | None:
    """Return a geometry without its GeoPackage header, None if there is none."""
    if blob is None:
        return None
    if not isinstance(blob, bytes) or len(blob) < 8 or blob[:2] != b"GP":
        raise ChartError(f"polygon {feature}: its geometry does not have a GeoPackage header.", hint=_AGAIN)
    envelope = blob[3] >> 1 & 7
    if envelope >= len(_ENVELOPE_BYTES) or blob[3] & _EXTENDED:
        raise ChartError(f"polygon {feature}: floemap does not read this kind of geometry.", hint=_AGAIN)
    return blob[8 + _ENVELOPE_BYTES[envelope] :]


def _meets(blob: bytes, box: Box) -> bool:
    """Return whether the envelope in a geometry's header meets a box; True if there is no envelope."""
    if not blob[3] >> 1 & 7:
        return True
    left, right, bottom, top = struct.unpack_from("<4d" if blob[3] & 1 else ">4d", blob, 8)
    west, south, east, north = box
    return not (left > east or right < west or bottom > north or top < south)
