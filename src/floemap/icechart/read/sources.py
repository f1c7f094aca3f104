"""Where a chart's polygons lie: a file or an archive, the files that belong to it, and whether they are whole.

GDAL opens a shapefile with a missing table, a short one, or half of its polygons without a word. So that is looked at
here, before GDAL is asked. What is read lies where nothing else does: GDAL takes files beside a file into account
(indexes, codepages), so it is shown a folder of its own that holds the chart's parts and no more.
"""

from __future__ import annotations

import json
import logging
import os
import re
import shutil
import struct
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

from floemap.errors import ChartError
from floemap.files import regular_file
from floemap.icechart.read import archives, geopackage
from floemap.icechart.read.archives import Chain
from floemap.results.locks import scratch
from floemap.warned import caught_warnings

logger = logging.getLogger(__name__)

#: Formats that a chart may come in. Others that GDAL knows are not asked for: some of them read other files.
FORMATS = (".shp", ".gpkg", ".geojson", ".json", ".fgb")
#: How files of the other formats begin.
_BEGINNINGS: Mapping[str, bytes] = {".gpkg": b"SQLite format 3\0", ".fgb": b"fgb\3fgb", ".geojson": b"{", ".json": b"{"}
#: Formats that GDAL reads.
_BY_GDAL = (".shp", ".fgb")
#: Where a shapefile's .prj file is put for its reader: GDAL, which knows one dialect of these files, is not shown it.
PROJECTION = "projection.txt"
_SHAPEFILE_BEGINS = struct.pack(">i", 9994)
_SHAPEFILE_PARTS = (".shp", ".shx", ".dbf", ".prj", ".cpg")
#: What SQLite has not yet written into the database itself: changes that are made, and those that are under way.
_WAL, _JOURNAL = ".gpkg-wal", ".gpkg-journal"
#: How a journal begins that SQLite would roll back; others are left over.
_HOT_JOURNAL = bytes.fromhex("d9d505f920a163d7")
_KNOWN = f"Known: {', '.join(FORMATS)}, and {', '.join(archives.SUFFIXES)} of these."
_AGAIN = "Fetch or copy the chart again, with all its files."
_TRIES = 3


#: A file, or its place in an archive.
Part = Path | Chain


@dataclass(frozen=True)
class Source:
    """A chart's files.

    Attributes
    ----------
    path
        As the user gave it.
    kind
        Format, one of :data:`FORMATS`.
    layer
        The layer that holds the polygons.
    parts
        What is read, by suffix: files, or their place in the archive `path`.
    """

    path: Path
    kind: str
    layer: str
    parts: Mapping[str, Part]

    @property
    def files(self) -> tuple[Path, ...]:
        """The files that it is read from: who knows their content knows the chart."""
        return tuple(dict.fromkeys(part if isinstance(part, Path) else self.path for part in self.parts.values()))

    @property
    def inside(self) -> str:
        """Where in `path` the chart is: the way to it in an archive, and its layer."""
        part = self.parts[self.kind]
        return "/".join((*(() if isinstance(part, Path) else part), self.layer))

    @property
    def logged(self) -> bool:
        """Whether changes of a GeoPackage lie in a log beside it."""
        return _WAL in self.parts

    @contextmanager
    def opened(self) -> Iterator[Path]:
        """Give the file to open while the block runs: it stands where nothing else does that a reader might look at.

        Raises
        ------
        ChartError
            If it cannot be read, or is being changed.
        """
        if self.kind not in _BY_GDAL and list(self.parts.values()) == [self.path]:
            yield self.path
            return
        with scratch("floemap-chart-") as place:
            for _ in range(_TRIES):
                before = self._states()
                for suffix, part in self.parts.items():
                    self._provide(part, place / (PROJECTION if suffix == ".prj" else f"chart{suffix}"))
                if self._states() == before:
                    break
            else:
                message = "is being changed by another program."
                raise ChartError(message, path=self.path, hint="Save and close it there.")
            yield place / f"chart{self.kind}"

    def _states(self) -> list[tuple[int, int]]:
        try:
            return [(s.st_size, s.st_mtime_ns) for s in map(os.stat, self.files)]
        except OSError as e:
            raise ChartError(f"cannot be read: {e.strerror}.", path=self.path) from e

    def _provide(self, part: Part, target: Path) -> None:
        """Put a part where it is read."""
        target.unlink(missing_ok=True)
        if isinstance(part, Path):
            try:
                if self.kind == ".gpkg":  # SQLite writes to what it opens beside a log of changes
                    shutil.copyfile(part, target)
                else:
                    target.symlink_to(part.resolve())
            except OSError as e:
                raise ChartError(f"cannot be read: {e.strerror}.", path=part) from e
            return
        with archives.open_archive(self.path, part[:-1]) as archive, target.open("wb") as file:
            archives.copy(archive, part[-1], file, self.path)


@contextmanager
def gdal_warnings(path: Path) -> Iterator[None]:
    """Log what GDAL warns of while the block runs, with the file's name."""
    with caught_warnings() as said:
        yield
    for w in said:
        if "Non closed ring" not in str(w.message):  # they are closed and counted by who reads them
            # Not where the file lies while it is read.
            logger.warning("%s: %s", path, re.sub(r"\S*/floemap-chart-[^/\s]*/", "", str(w.message)))


def find_source(path: Path, layer: str | None = None) -> Source:
    """Find a chart's files: a shapefile, GeoPackage, GeoJSON, FlatGeobuf, or one of these in a zip or tar.

    Parameters
    ----------
    path
        The file. Of a shapefile, the ``.shp``.
    layer
        Which layer of the file, or which file of an archive, holds the chart; needed only where there are several.

    Raises
    ------
    ChartError
        If the file is absent, of another format, not whole, hostile, or holds several charts and `layer` names none.
    """
    path = Path(path)
    if path.is_dir():
        raise ChartError("is a folder.", path=path, hint="Give the chart's file, of a shapefile the .shp.")
    regular_file(path, ChartError)
    suffix = path.suffix.lower()
    if suffix in archives.SUFFIXES:
        return _in_archive(path, layer)
    if suffix in archives.OTHERS:
        raise ChartError("is an archive of a kind that is not looked into.", path=path, hint="Unpack it.")
    if suffix not in FORMATS:
        raise ChartError(f"is no chart format that is read ({suffix or 'no suffix'}).", path=path, hint=_KNOWN)
    near = _shapefile_parts(path) if suffix == ".shp" else {suffix: path}
    if suffix == ".gpkg":
        real = path.resolve()  # SQLite has its logs beside the file itself, where a link leads to it
        near |= {s: real.with_name(real.name + s.removeprefix(suffix)) for s in (_WAL, _JOURNAL)}
    near = {s: p for s, p in near.items() if p == path or p.is_file()}
    parts = _checked(path, suffix, near, {s: (_head(p), p.stat().st_size) for s, p in near.items()})
    return _with_layer(Source(path, suffix, path.stem, parts), layer)


def _in_archive(path: Path, layer: str | None) -> Source:
    charts = archives.find_files(path, FORMATS)
    chosen = [c for c in charts if layer == "/".join(c)] or [c for c in charts if layer and _names(c, layer)]
    if chosen:
        charts, layer = chosen, None
    elif len(charts) > 1:  # a .json beside charts of another format holds something else
        charts = [c for c in charts if not c[-1].lower().endswith(".json")] or charts
    if len(charts) != 1:
        listed = ": " + ", ".join("/".join(c) for c in charts[:20]) + (" ..." if charts[20:] else "") if charts else ""
        hint = "Say which with --layer." if charts else _KNOWN
        raise ChartError(f"holds {len(charts)} charts{listed}.", path=path, hint=hint)
    *outer, name = charts[0]
    inside = PurePosixPath(name)
    suffix = inside.suffix.lower()
    with archives.open_archive(path, tuple(outer)) as archive:
        near: dict[str, str] = {}
        for other in archive.sizes:
            beside = PurePosixPath(other)
            if beside.parent == inside.parent and beside.stem.casefold() == inside.stem.casefold():
                near[beside.suffix.lower()] = other
        near[suffix] = name
        heads = {}
        for s, other in near.items():
            with archive.open(other) as file:
                heads[s] = file.read(32), archive.sizes[other]
    parts = _checked(path, suffix, {s: (*outer, other) for s, other in near.items()}, heads)
    return _with_layer(Source(path, suffix, inside.stem, parts), layer)


def _names(chain: Chain, layer: str) -> bool:
    """Whether `layer` is the name of a file in an archive, or of the archive therein that holds it."""
    return any(layer in (PurePosixPath(name).name, PurePosixPath(name).stem) for name in chain)


def _checked(
    path: Path, kind: str, near: Mapping[str, Part], heads: Mapping[str, tuple[bytes, int]]
) -> dict[str, Part]:
    """Return which files of a chart's name belong to it, by suffix, and refuse those that are not whole.

    `heads` holds the first 32 bytes of each, and its size.
    """
    if kind == ".shp":
        wanted = [s for s in _SHAPEFILE_PARTS if s in near]
        _check_shapefile(path, {s: heads[s] for s in wanted})
    else:
        if not heads[kind][1]:
            raise ChartError("is empty: it has no bytes.", path=path, hint=_AGAIN)
        begins = _beginning(kind, heads[kind][0])
        if not begins.startswith(_BEGINNINGS[kind]):
            raise ChartError(f"is no {kind} file inside: it begins with {begins[:16]!r}.", path=path, hint=_AGAIN)
        wanted = [kind]
    if kind == ".gpkg":
        if heads.get(_JOURNAL, (b"", 0))[0].startswith(_HOT_JOURNAL):
            raise ChartError(
                "is in the middle of a change: a journal lies beside it.",
                path=path,
                hint="Open it in the program that changed it, save and close it there.",
            )
        wanted += [_WAL] if heads.get(_WAL, (b"", 0))[1] else []
    return {s: near[s] for s in wanted}


def _beginning(kind: str, head: bytes) -> bytes:
    """Return how a file begins; of JSON without what may stand before its first brace, in UTF-8."""
    if kind not in (".geojson", ".json"):
        return head
    return head.decode(json.detect_encoding(head), "replace").removeprefix("\ufeff").lstrip().encode()


def _with_layer(source: Source, layer: str | None) -> Source:
    """Choose the layer of polygons."""
    if source.kind != ".gpkg":
        found = {source.layer: "POLYGON"}
    else:
        with source.opened() as file:
            found = geopackage.layers(file, source.path, source.logged)
    if layer is not None:
        if layer not in found:
            raise ChartError(f"has no layer {layer!r}.", path=source.path, hint=f"It has: {', '.join(found)}.")
        return replace(source, layer=layer)
    # A layer of polygons, or of mixed geometries.
    areas = [name for name, kind in found.items() if not any(w in kind for w in ("POINT", "LINESTRING", "CURVE"))]
    names = areas or list(found)
    if len(names) != 1:
        raise ChartError(
            f"has {len(names)} layers: {', '.join(names)}.",
            path=source.path,
            hint="Say which is the chart with --layer." if names else "A chart has one.",
        )
    return replace(source, layer=names[0])


def _head(path: Path) -> bytes:
    try:
        with path.open("rb") as f:
            return f.read(32)
    except OSError as e:
        raise ChartError(f"cannot be read: {e.strerror}.", path=path) from e


def _shapefile_parts(path: Path) -> dict[str, Path]:
    """Find the files of a shapefile, by suffix in lower case; suffixes and names may be written in any case."""
    near = [p for p in path.parent.iterdir() if p.stem.casefold() == path.stem.casefold()]
    near.sort(key=lambda p: (p.stem == path.stem, p.suffix.isupper() == path.suffix.isupper(), p.name))
    return {p.suffix.lower(): p for p in near} | {".shp": path}  # of several, the one that is written most alike


def _check_shapefile(path: Path, parts: dict[str, tuple[bytes, int]]) -> None:
    """Check that a shapefile's parts are there, as long as their headers say, and of one number of records.

    `parts` holds, by suffix, a part's first 32 bytes and its size. Header layouts: ESRI Shapefile Technical
    Description (1998) for .shp and .shx, the dBASE III+ format for .dbf.
    """
    if parts[".shp"][0][:4] != _SHAPEFILE_BEGINS:
        raise ChartError(f"is no shapefile inside: it begins with {parts['.shp'][0][:16]!r}.", path=path, hint=_AGAIN)
    for suffix, what in ((".dbf", "the table of codes"), (".shx", "the index of shapes")):
        if suffix not in parts:
            raise ChartError(f"its {suffix} file, {what}, is missing.", path=path, hint=_AGAIN)
    records = {}
    for suffix in (".shp", ".shx"):
        head, size = parts[suffix]
        said = 2 * struct.unpack_from(">i", head, 24)[0] if len(head) >= 28 else 100
        if len(head) < 28 or head[:4] != _SHAPEFILE_BEGINS:
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
