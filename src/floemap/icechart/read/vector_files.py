"""Features from a chart's files in any format. No other module of the project reads vector files.

Each format has one reader, chosen by the file's suffix and first bytes. GDAL would choose by content, and some of its
drivers read other files or use the network.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pyogrio.raw
from pyogrio.errors import DataLayerError, DataSourceError, FeatureError, GeometryError
from pyproj.exceptions import CRSError

from floemap.errors import ChartError
from floemap.files import CHECK_READABLE, decoded
from floemap.grid import Box
from floemap.icechart.read.features import Features, from_wkb
from floemap.icechart.read.geojson import open_geojson
from floemap.icechart.read.geopackage import open_layer
from floemap.icechart.read.s411 import open_s411
from floemap.icechart.read.sources import PROJECTION, Source, gdal_warnings

#: GDAL's driver for each format that GDAL reads.
_DRIVERS = {".shp": "ESRI Shapefile", ".fgb": "FlatGeobuf"}
#: Most bytes that are read of a .prj file; definitions of a CRS have some thousand.
_LONGEST_PROJECTION = 1 << 20
_GDAL_ERRORS = (
    *(DataSourceError, DataLayerError, FeatureError, GeometryError, CRSError),
    *(UnicodeDecodeError, ValueError, IndexError, MemoryError, OverflowError),
    UnboundLocalError,  # from pyogrio, if the CRS is not text
)


class VectorFile(Protocol):
    """An open file of features."""

    @property
    def fields(self) -> tuple[str, ...]:
        """Names of its columns."""

    @property
    def crs(self) -> str | None:
        """Its CRS, None if it gives none."""

    def read(self, columns: Sequence[str], box: Box | None = None) -> Features:
        """Read features with some columns.

        With a box, (west, south, east, north) in the file's CRS, only those that may reach into it.

        Raises
        ------
        ChartError
            If features cannot be read; the message names the feature, if it is one.
        """


@contextmanager
def open_features(source: Source) -> Iterator[VectorFile]:
    """Open a chart's files.

    Raises
    ------
    ChartError
        If they cannot be read.
    """
    try:
        with source.opened() as file:
            if source.kind == ".gpkg":
                with open_layer(file, source.layer, source.path, source.logged) as layer:
                    yield layer
            elif source.kind in _DRIVERS:
                yield _open_by_gdal(file, source)
            elif source.kind == ".gml":
                yield open_s411(file, source.path)
            else:
                yield open_geojson(file)
    except ChartError as e:
        raise e if e.path is not None else ChartError(e.message, path=source.path, hint=e.hint) from e


@dataclass(frozen=True)
class _GdalFile:
    fields: tuple[str, ...]
    crs: str | None
    _file: Path
    _source: Source
    _options: dict[str, Any]

    def read(self, columns: Sequence[str], box: Box | None = None) -> Features:
        """See :class:`VectorFile`."""
        try:
            with gdal_warnings(self._source.path):
                meta, ids, blobs, values = pyogrio.raw.read(
                    self._file, columns=list(columns), return_fids=True, force_2d=True, bbox=box, **self._options
                )
        except _GDAL_ERRORS as e:
            raise _unreadable(e) from e
        blobs = [None] * len(ids) if blobs is None else blobs
        by_name = dict(zip(map(str, meta["fields"]), values, strict=True))
        return from_wkb(np.asarray(ids, np.int64), by_name, blobs).within(box)


def _open_by_gdal(file: Path, source: Source) -> _GdalFile:
    # Codes are plain digits in any encoding, and text columns, whose encoding a shapefile may misstate, are not read.
    # But GDAL decodes the names of columns.
    options = {"encoding": "ISO-8859-1"} if source.kind == ".shp" else {}
    try:
        with gdal_warnings(source.path):
            info = pyogrio.read_info(file, **options)
    except _GDAL_ERRORS as e:
        raise _unreadable(e) from e
    if info["driver"] != _DRIVERS[source.kind]:
        raise ChartError(
            f"is read by GDAL as {info['driver']}, which is not a format of charts.",
            hint=f"Give one of {', '.join(_DRIVERS)}.",
        )
    crs = _projection(file.with_name(PROJECTION)) if source.kind == ".shp" else info["crs"]
    return _GdalFile(tuple(map(str, info["fields"])), crs, file, source, options)


def _projection(file: Path) -> str | None:
    """Return the content of a .prj file, None if it is absent or empty."""
    try:
        with file.open("rb") as f:
            content = f.read(_LONGEST_PROJECTION)
    except FileNotFoundError:
        return None
    except OSError as e:
        raise ChartError(f"its .prj file cannot be read: {e.strerror}.", hint=CHECK_READABLE) from e
    return decoded(content, "replace").replace("\0", " ").strip() or None


def _unreadable(error: BaseException) -> ChartError:
    words = str(error).rstrip(".") or "it is too large"
    words = "its CRS is not text" if isinstance(error, UnboundLocalError) else words
    return ChartError(f"cannot be read: {words}.", hint="Fetch or copy the chart again, with all its files.")
