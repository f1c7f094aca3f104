"""Files of a chart: a file or an archive, the files that belong to it, and whether they are complete.

GDAL opens a shapefile with a missing or short table, or half of its polygons, without an error, so this module checks
the files before GDAL opens them. GDAL also reads other files beside a file (indexes, codepages), so it gets a folder
that has the parts of the chart and nothing else.
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
from itertools import islice
from pathlib import Path, PurePosixPath

from floemap.errors import ChartError
from floemap.files import CHECK_READABLE, regular_file
from floemap.icechart.read import archives, geopackage
from floemap.icechart.read.archives import Chain
from floemap.results.locks import scratch
from floemap.warned import caught_warnings

logger = logging.getLogger(__name__)

#: Formats of charts. Others that GDAL knows are left out, as some of them read further files.
FORMATS = (".shp", ".gpkg", ".geojson", ".json", ".fgb", ".gml")
#: First bytes of files, except shapefiles.
_BEGINNINGS: Mapping[str, bytes] = {
    **{".gpkg": b"SQLite format 3\0", ".fgb": b"fgb\3fgb", ".geojson": b"{", ".json": b"{", ".gml": b"<"}
}
#: Formats that GDAL reads.
_BY_GDAL = (".shp", ".fgb")
#: Name of the copy of a shapefile's .prj file: GDAL, which knows only one dialect of these files, must not see it.
PROJECTION = "projection.txt"
_SHAPEFILE_BEGINS = struct.pack(">i", 9994)
_SHAPEFILE_PARTS = (".shp", ".shx", ".dbf", ".prj", ".cpg")
#: Files of SQLite with changes that the database does not have yet: finished ones, and those in progress.
_WAL, _JOURNAL = ".gpkg-wal", ".gpkg-journal"
#: First bytes of a journal that SQLite would roll back; other journals are left-overs.
_HOT_JOURNAL = bytes.fromhex("d9d505f920a163d7")
_KNOWN = f"Give a {', '.join(FORMATS)}, or a {' or '.join(archives.SUFFIXES)} that holds one."
_AGAIN = "Fetch or copy the chart again, with all its files."
_TRIES = 3
#: Catalogues by which a folder is an exchange set of S-411: by edition 1.1.0, as ice services call it, and by S-100.
_CATALOGUES = ("CATALOG.ICE", "catalogue.xml", "CATALOG.XML", "S100_ROOT/CATALOG.XML")


#: A file, or its path in an archive.
Part = Path | Chain


@dataclass(frozen=True)
class Source:
    """A chart's files.

    Attributes
    ----------
    path
        The path as the user gave it.
    kind
        Format, one of :data:`FORMATS`.
    layer
        The layer with the polygons.
    parts
        The files to read, by suffix: paths, or paths in the archive `path`.
    """

    path: Path
    kind: str
    layer: str
    parts: Mapping[str, Part]

    @property
    def files(self) -> tuple[Path, ...]:
        """The files on disk whose content determines the chart."""
        return tuple(dict.fromkeys(part if isinstance(part, Path) else self.path for part in self.parts.values()))

    @property
    def inside(self) -> str:
        """The chart's path within `path`: in an archive, the names on the way to it, and its layer."""
        part = self.parts[self.kind]
        return "/".join((*(() if isinstance(part, Path) else part), self.layer))

    @property
    def logged(self) -> bool:
        """Whether a GeoPackage has a log of changes beside it."""
        return _WAL in self.parts

    @contextmanager
    def opened(self) -> Iterator[Path]:
        """Yield the file to open while the block runs, in a folder without other files that GDAL might read.

        Raises
        ------
        ChartError
            If a file cannot be read, or another program changes it meanwhile.
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
            raise ChartError(f"cannot be read: {e.strerror}.", path=self.path, hint=CHECK_READABLE) from e

    def _provide(self, part: Part, target: Path) -> None:
        """Link or copy a part to where it is read."""
        target.unlink(missing_ok=True)
        if isinstance(part, Path):
            try:
                if self.kind == ".gpkg":  # SQLite writes to what it opens beside a log of changes
                    shutil.copyfile(part, target)
                else:
                    target.symlink_to(part.resolve())
            except OSError as e:
                raise ChartError(f"cannot be read: {e.strerror}.", path=part, hint=CHECK_READABLE) from e
            return
        with archives.open_archive(self.path, part[:-1]) as archive, target.open("wb") as file:
            archives.copy(archive, part[-1], file, self.path)


@contextmanager
def gdal_warnings(path: Path) -> Iterator[None]:
    """Log GDAL's warnings while the block runs, with the file's name."""
    with caught_warnings() as caught:
        yield
    for w in caught:
        if "Non closed ring" not in str(w.message):  # floemap.icechart.read.features closes and counts them
            # Without the path of the temporary folder.
            logger.warning("%s: %s", path, re.sub(r"\S*/floemap-chart-[^/\s]*/", "", str(w.message)))


def find_source(path: Path, layer: str | None = None) -> Source:
    """Find a chart's files: a shapefile, GeoPackage, GeoJSON, FlatGeobuf, GML, or one of these in a zip or tar.

    Parameters
    ----------
    path
        The file; of a shapefile, the ``.shp``; of an exchange set of S-411, also its folder.
    layer
        Layer of the file, or file in an archive, that has the chart; needed only if there are several.

    Raises
    ------
    ChartError
        If the file is absent, of another format, incomplete, hostile, or has several charts and `layer` names none.
    """
    path = Path(path)
    if path.is_dir():
        datasets = datasets_of(path)
        if len(datasets) != 1:
            what = f"is an exchange set of {len(datasets)} charts" if datasets else "is a folder, not a chart"
            held = sorted(
                p.name for p in path.glob("*.gpkg") if p.name in ("chart.gpkg", f"{path.resolve().name}.gpkg")
            )
            hint = f"Give the chart in it, {held[0]}." if held else "Give a file, of a shapefile the .shp."
            raise ChartError(f"{what}.", path=path, hint=hint)
        path = datasets[0]
    regular_file(path, ChartError)
    suffix = path.suffix.lower()
    if suffix in archives.SUFFIXES:
        return _in_archive(path, layer)
    if suffix in archives.OTHERS:
        message = f"is a {suffix} archive, which floemap does not open."
        raise ChartError(message, path=path, hint="Unpack it, and give the chart's file.")
    if suffix not in FORMATS:
        message = f"has the suffix {suffix!r}, which is not a format of charts." if suffix else "has no suffix."
        raise ChartError(message, path=path, hint=_KNOWN)
    near = _shapefile_parts(path) if suffix == ".shp" else {suffix: path}
    if suffix == ".gpkg":
        real = path.resolve()  # SQLite's logs are beside the file itself, where a link leads to it
        near |= {s: real.with_name(real.name + s.removeprefix(suffix)) for s in (_WAL, _JOURNAL)}
    near = {s: p for s, p in near.items() if p == path or p.is_file()}
    parts = _checked(path, suffix, near, {s: (_head(p), p.stat().st_size) for s, p in near.items()})
    return _with_layer(Source(path, suffix, path.stem, parts), layer)


def datasets_of(folder: Path) -> list[Path]:
    """Return the charts of an exchange set of S-411; none of another folder.

    The set has its catalogue in the folder or, by S-100, in a folder ``S100_ROOT`` in it.
    """
    if not any((folder / name).is_file() for name in _CATALOGUES):
        return []
    below = islice(folder.rglob("*"), archives.MOST_MEMBERS)
    return sorted(p for p in below if p.suffix.lower() == ".gml" and p.is_file())


def _in_archive(path: Path, layer: str | None) -> Source:
    charts = archives.find_files(path, FORMATS)
    chosen = [c for c in charts if layer == "/".join(c)] or [c for c in charts if layer and _names(c, layer)]
    if chosen:
        charts, layer = chosen, None
    elif len(charts) > 1:  # a .json beside charts of another format is something else
        charts = [c for c in charts if not c[-1].lower().endswith(".json")] or charts
    if len(charts) != 1:
        listed = ": " + ", ".join("/".join(c) for c in charts[:20]) + (" ..." if charts[20:] else "") if charts else ""
        hint = "Choose one with --layer." if charts else _KNOWN
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
    """Return whether `layer` is the name of a file in an archive, or of the archive within it that holds the file."""
    return any(layer in (PurePosixPath(name).name, PurePosixPath(name).stem) for name in chain)


def _checked(
    path: Path, kind: str, near: Mapping[str, Part], heads: Mapping[str, tuple[bytes, int]]
) -> dict[str, Part]:
    """Return the files that belong to a chart, by suffix, from those with its name; refuse incomplete ones.

    `heads` has the first 32 bytes and the size of each.
    """
    if kind == ".shp":
        wanted = [s for s in _SHAPEFILE_PARTS if s in near]
        _check_shapefile(path, {s: heads[s] for s in wanted})
    else:
        if not heads[kind][1]:
            raise ChartError("is empty: it has no bytes.", path=path, hint=_AGAIN)
        begins = _beginning(kind, heads[kind][0])
        if not begins.startswith(_BEGINNINGS[kind]):
            message = f"does not have the content of a {kind} file: it begins with {begins[:16]!r}."
            raise ChartError(message, path=path, hint=_AGAIN)
        wanted = [kind]
    if kind == ".gpkg":
        if heads.get(_JOURNAL, (b"", 0))[0].startswith(_HOT_JOURNAL):
            message = "has an unfinished change, in a journal beside it."
            hint = "Open it in the program that changed it, save and close it there."
            raise ChartError(message, path=path, hint=hint)
        wanted += [_WAL] if heads.get(_WAL, (b"", 0))[1] else []
    return {s: near[s] for s in wanted}


def _beginning(kind: str, head: bytes) -> bytes:
    """Return the first bytes of a file; for text in UTF-8, without a byte order mark and blanks."""
    if kind not in (".geojson", ".json", ".gml"):
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
            hint="Choose the chart's with --layer." if names else "Give a file with a layer of polygons.",
        )
    return replace(source, layer=names[0])


def _head(path: Path) -> bytes:
    try:
        with path.open("rb") as f:
            return f.read(32)
    except OSError as e:
        raise ChartError(f"cannot be read: {e.strerror}.", path=path, hint=CHECK_READABLE) from e


def _shapefile_parts(path: Path) -> dict[str, Path]:
    """Find the files of a shapefile, by suffix in lower case; suffixes and names may be written in any case."""
    near = [p for p in path.parent.iterdir() if p.stem.casefold() == path.stem.casefold()]
    near.sort(key=lambda p: (p.stem == path.stem, p.suffix.isupper() == path.suffix.isupper(), p.name))
    return {p.suffix.lower(): p for p in near} | {".shp": path}  # of several, the one with the most similar case


def _check_shapefile(path: Path, parts: dict[str, tuple[bytes, int]]) -> None:
    """Check that a shapefile's parts exist, have the sizes in their headers, and equal numbers of records.

    `parts` has, by suffix, a part's first 32 bytes and its size. Header layouts: ESRI Shapefile Technical Description
    (1998) for .shp and .shx, the dBASE III+ format for .dbf.
    """
    if parts[".shp"][0][:4] != _SHAPEFILE_BEGINS:
        message = f"does not have the content of a shapefile: it begins with {parts['.shp'][0][:16]!r}."
        raise ChartError(message, path=path, hint=_AGAIN)
    for suffix, what in ((".dbf", "the table of codes"), (".shx", "the index of shapes")):
        if suffix not in parts:
            raise ChartError(f"its {suffix} file, {what}, is missing.", path=path, hint=_AGAIN)
    records = {}
    for suffix in (".shp", ".shx"):
        head, size = parts[suffix]
        expected = 2 * struct.unpack_from(">i", head, 24)[0] if len(head) >= 28 else 100
        if len(head) < 28 or head[:4] != _SHAPEFILE_BEGINS:
            message = f"its {suffix} file does not have the content of one: it begins with {head[:16]!r}."
            raise ChartError(message, path=path, hint=_AGAIN)
        if size < expected:
            raise ChartError(f"its {suffix} file is cut off: {size} bytes of {expected}.", path=path, hint=_AGAIN)
        records[suffix] = (expected - 100) // 8
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
            hint=f"Its files may be from different charts. {_AGAIN}",
        )
