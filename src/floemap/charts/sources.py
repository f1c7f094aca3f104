"""Where a chart's polygons lie: a file or a zip, its layer, the files that belong to it, and whether they are whole.

GDAL opens a shapefile with a missing table, a short one, or half of its polygons without a word. So that is looked at
here, before GDAL is asked.
"""

from __future__ import annotations

import logging
import struct
import warnings
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import pyogrio
from pyogrio.errors import DataSourceError

from floemap.errors import ChartError
from floemap.files import regular_file
from floemap.zips import UNREADABLE, refuse_hostile

logger = logging.getLogger(__name__)

#: Formats that a chart may come in. Others that GDAL knows are not asked for: some of them read other files.
FORMATS = (".shp", ".gpkg", ".geojson", ".json", ".fgb")
#: How files of the other formats begin. GDAL goes by content, not by name: a file called .geojson may be one of its own
#: that only points to others, on this machine or elsewhere.
_BEGINNINGS: Mapping[str, bytes] = {".gpkg": b"SQLite format 3\0", ".fgb": b"fgb", ".geojson": b"{", ".json": b"{"}
_SHAPEFILE_PARTS = (".shp", ".shx", ".dbf", ".prj", ".cpg")
_AGAIN = "Fetch or copy the chart again, with all its files."


@dataclass(frozen=True)
class Source:
    """A chart's file as GDAL opens it.

    Attributes
    ----------
    path
        As the user gave it.
    gdal_name
        By which GDAL opens it.
    layer
        The layer that holds the polygons.
    files
        The files that it is read from, `path` among them.
    """

    path: Path
    gdal_name: str
    layer: str
    files: tuple[Path, ...]


@contextmanager
def gdal_warnings(path: Path) -> Iterator[None]:
    """Log what GDAL warns of while the block runs, with the file's name."""
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        yield
    for w in said:
        logger.warning("%s: %s", path, w.message)


def find_source(path: Path, layer: str | None = None) -> Source:
    """Find a chart's polygons in a shapefile, GeoPackage, GeoJSON, FlatGeobuf, or in a zip that holds one of these.

    Parameters
    ----------
    path
        The file. Of a shapefile, the ``.shp``.
    layer
        Which layer of the file, or which file of a zip, holds the chart; needed only where there are several.

    Raises
    ------
    ChartError
        If the file is absent, of another format, not whole, hostile, or holds several charts and `layer` names none.
    """
    path = Path(path)
    if path.is_dir():
        raise ChartError("is a folder.", path=path, hint="Give the chart's file, of a shapefile the .shp.")
    regular_file(path, ChartError)
    if path.suffix.lower() == ".zip":
        return _in_zip(path, layer)
    if path.suffix.lower() not in FORMATS:
        raise ChartError(
            f"is no chart format that is read ({path.suffix or 'no suffix'}).",
            path=path,
            hint=f"Known: {', '.join(FORMATS)}, and .zip of these.",
        )
    files: tuple[Path, ...] = (path,)
    if path.suffix.lower() == ".shp":
        parts = {p.suffix.lower(): p for p in path.parent.iterdir() if p.stem == path.stem}
        parts = {k: p for k, p in parts.items() if k in _SHAPEFILE_PARTS and p.is_file()}
        _check_shapefile(path, {k: (_head(p), p.stat().st_size) for k, p in parts.items()})
        files = tuple(parts[k] for k in _SHAPEFILE_PARTS if k in parts)
    else:
        _check_beginning(path, path.suffix, _head(path))
    return Source(path, str(path), _choose_layer(path, str(path), layer), files)


def _head(path: Path) -> bytes:
    try:
        with path.open("rb") as f:
            return f.read(32)
    except OSError as e:
        raise ChartError(f"cannot be read: {e.strerror}.", path=path) from e


def _in_zip(path: Path, layer: str | None) -> Source:
    try:
        with zipfile.ZipFile(path) as z:
            members = [m for m in z.infolist() if not m.is_dir() and not m.filename.startswith("__MACOSX/")]
            refuse_hostile(path, members, ChartError)
            charts = [m.filename for m in members if PurePosixPath(m.filename).suffix.lower() in FORMATS]
            if layer in charts:
                charts, layer = [layer], None
            elif len(charts) > 1 and layer is not None:
                named = [c for c in charts if layer in (PurePosixPath(c).name, PurePosixPath(c).stem)]
                charts, layer = (named, None) if named else (charts, layer)
            if len(charts) != 1:
                listed = ": " + ", ".join(sorted(charts)) if charts else ""
                hint = "Say which with --layer." if charts else f"A chart ends in one of {', '.join(FORMATS)}."
                raise ChartError(f"holds {len(charts)} charts{listed}.", path=path, hint=hint)
            inside = PurePosixPath(charts[0])
            if inside.suffix.lower() == ".shp":
                near = {m: PurePosixPath(m.filename) for m in members}
                parts = {p.suffix.lower(): m for m, p in near.items() if p.with_suffix("") == inside.with_suffix("")}
                _check_shapefile(path, {k: (z.open(m).read(32), m.file_size) for k, m in parts.items()})
            else:
                with z.open(charts[0]) as f:
                    _check_beginning(path, inside.suffix, f.read(32))
    except UNREADABLE as e:
        raise ChartError(f"is no readable zip: {e}.", path=path, hint=_AGAIN) from e
    name = f"/vsizip/{{{path.resolve()}}}/{inside}"
    return Source(path, name, _choose_layer(path, name, layer), (path,))


def _check_beginning(path: Path, suffix: str, head: bytes) -> None:
    begins = head.removeprefix(b"\xef\xbb\xbf").lstrip()
    if not begins.startswith(_BEGINNINGS[suffix.lower()]):
        raise ChartError(f"is no {suffix.lower()} file inside: it begins with {head[:16]!r}.", path=path, hint=_AGAIN)


def _check_shapefile(path: Path, parts: dict[str, tuple[bytes, int]]) -> None:
    """Check that a shapefile's parts are there, as long as their headers say, and of one number of records.

    `parts` holds, by suffix, a part's first 32 bytes and its size. Header layouts: ESRI Shapefile Technical
    Description (1998) for .shp and .shx, the dBASE III+ format for .dbf.
    """
    for suffix, what in ((".dbf", "the table of codes"), (".shx", "the index of shapes")):
        if suffix not in parts:
            raise ChartError(f"its {suffix} file, {what}, is missing.", path=path, hint=_AGAIN)
    records = {}
    for suffix in (".shp", ".shx"):
        head, size = parts[suffix]
        said = 2 * struct.unpack_from(">i", head, 24)[0] if len(head) >= 28 else 100
        if len(head) < 28 or struct.unpack_from(">i", head)[0] != 9994:
            raise ChartError(f"its {suffix} file is no shapefile's.", path=path, hint=_AGAIN)
        if size < said:
            raise ChartError(f"its {suffix} file is cut off: {size} bytes of {said}.", path=path, hint=_AGAIN)
        records[suffix] = (said - 100) // 8
    head, size = parts[".dbf"]
    if len(head) < 12:
        raise ChartError(f"its .dbf file is cut off: {size} bytes.", path=path, hint=_AGAIN)
    rows, header_bytes, row_bytes = struct.unpack_from("<IHH", head, 4)
    if size < header_bytes + rows * row_bytes:
        raise ChartError(
            f"its .dbf file is cut off: {size} bytes of {header_bytes + rows * row_bytes}.", path=path, hint=_AGAIN
        )
    if rows != records[".shx"]:
        raise ChartError(
            f"its .dbf file has {rows} rows for {records['.shx']} shapes.",
            path=path,
            hint="Its files are of different charts: " + _AGAIN[0].lower() + _AGAIN[1:],
        )


def _choose_layer(path: Path, gdal_name: str, layer: str | None) -> str:
    try:
        with gdal_warnings(path):
            found = [(str(name), kind) for name, kind in pyogrio.list_layers(gdal_name)]
    except DataSourceError as e:
        raise ChartError(f"cannot be read: {str(e).rstrip('.')}.", path=path, hint=_AGAIN) from e
    names = [name for name, _ in found]
    if layer is not None:
        if layer not in names:
            raise ChartError(f"has no layer {layer!r}.", path=path, hint=f"It has: {', '.join(names)}.")
        return layer
    # A layer of polygons, of mixed geometries, or one that is empty, where the kind says nothing.
    areas = [n for n, kind in found if kind is not None and not any(w in kind for w in ("Point", "LineString"))]
    names = areas or names
    if len(names) != 1:
        raise ChartError(
            f"has {len(names)} layers: {', '.join(names)}.",
            path=path,
            hint="Say which is the chart with --layer." if names else "A chart has one.",
        )
    return names[0]
