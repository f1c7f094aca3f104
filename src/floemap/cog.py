"""Cloud-optimised GeoTIFFs on a GeoBox: written strip by strip, with band names, units, categories and overviews.

One concept: a raster and its georeference travel together, from :class:`odc.geo.geobox.GeoBox` to file and back.

Encoding. Bands are stored as given (integers, with scale and offset where they represent reals), compressed with
DEFLATE, which every reader supports. Each band has its own kind of overview: averages for physical quantities, averages
of power for decibels, the most frequent of four pixels for classes, the nearest pixel for flags. GDAL's COG driver has
one method for all bands of a file and none for decibels, so :class:`CogWriter` computes the overviews while the strips
pass by, and the driver does the rest. ``docs/benchmarks.md`` has the measurements behind both choices.
"""

from __future__ import annotations

import glob
import logging
import math
import os
import secrets
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
import pyproj
import rasterio
import rasterio.shutil
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox
from rasterio.errors import CRSError, NotGeoreferencedWarning, RasterioError
from rasterio.io import MemoryFile

from floemap.errors import FloemapError, GridError, OutputError
from floemap.files import regular_file
from floemap.grid import crs_of
from floemap.legend import RGB
from floemap.overviews import Overview, halve
from floemap.safe_xml import BrokenXmlError, DoctypeError, parse_xml
from floemap.stopping import undone
from floemap.warned import without_warnings

logger = logging.getLogger(__name__)

Array = NDArray[Any]

#: Rows of a strip. Even, so that each overview pixel comes from one strip alone.
STRIP_ROWS = 512
_TILE = 512
#: Names of the bands of a picture in colour. Bands of other names are no colours.
COLOUR_BANDS = ("red", "green", "blue")
#: Suffixes of files beside a raster that may hold its georeference.
_GEOREFERENCES = (".aux.xml", ".tfw", ".wld", ".prj")
#: What an .aux.xml may say that changes what pixels mean, with its words, and contents that change nothing.
_PAM_CHANGES = {"NoDataValue": "a no-data value", "Scale": "a scale", "Offset": "an offset", "GeoTransform": "a place"}
_PAM_PLAIN = {"Scale": "1", "Offset": "0"}
#: Metadata domains by which GDAL finds overviews in another file.
_OVERVIEWS_ELSEWHERE = {"OVERVIEWS", "PROXYOVERVIEWREQUEST"}
#: GDAL's default is 5 % of the machine's memory; strips need far less.
GDAL_CACHE_BYTES = 64 << 20


@dataclass(frozen=True)
class Band:
    """Description of one band in the file. Physical value = stored value x scale + offset."""

    name: str
    units: str = ""
    description: str = ""
    scale: float = 1.0
    offset: float = 0.0
    overview: Overview = "average"
    categories: Mapping[int, str] = field(default_factory=dict)
    colours: Mapping[int, RGB] = field(default_factory=dict)


class CogWriter:
    """Writes a COG strip by strip, from the top; the file appears, whole, when the context ends without error.

    Parameters
    ----------
    path
        Path of the file to write.
    geobox
        Grid of the raster: rows x columns, CRS, transform.
    bands
        Names and meaning of the bands; all share one data type.
    dtype, nodata
        Type of the stored values, and their no-data value. With `nodata` None the file declares none.
    tags
        Further metadata of the file.

    Raises
    ------
    GridError
        If the grid has no CRS, a strip does not fit, or rows are missing at the end.
    OutputError
        If the file cannot be written whole.
    """

    def __init__(
        self,
        path: Path,
        geobox: GeoBox,
        bands: Sequence[Band],
        *,
        dtype: str,
        nodata: float | None,
        tags: Mapping[str, str] | None = None,
    ) -> None:
        self.path = Path(path)
        self.geobox = geobox
        self.bands = tuple(bands)
        self.nodata = nodata
        self.dtype = np.dtype(dtype)
        self.tags = dict(tags or {})
        # GDAL takes any three or four bands of bytes for a colour picture, and the fourth for its transparency.
        is_picture = tuple(b.name for b in self.bands) == COLOUR_BANDS
        self.photometric = None if is_picture or len(self.bands) == 1 else "MINISBLACK"
        self._next_row = 0
        rows, cols = geobox.shape
        # Level 1 is filled strip by strip; _finish makes the others from it.
        self._half: Array = np.empty((len(self.bands), (rows + 1) // 2, (cols + 1) // 2), self.dtype)

    def __enter__(self) -> Self:
        check_proj()
        with ExitStack() as stack:
            stack.enter_context(rasterio.Env(GDAL_CACHEMAX=GDAL_CACHE_BYTES))
            # On leaving, it frees its folder of GDAL's memory, and so the overviews beside it.
            self._memory = stack.enter_context(MemoryFile(ext=".tif")).name
            self._full = stack.enter_context(self._open(self._memory, tuple(self.geobox.shape)))
            self._open_things = stack.pop_all()
        return self

    def _open(self, name: str, shape: tuple[int, ...]) -> Any:
        profile: dict[str, Any] = {
            "driver": "GTiff",
            "height": shape[0],
            "width": shape[1],
            "count": len(self.bands),
            "dtype": self.dtype.name,
            "nodata": self.nodata,
            "tiled": True,
            "blockxsize": _TILE,
            "blockysize": _TILE,
            "interleave": "band",
        }
        if self.photometric is not None:
            profile["photometric"] = self.photometric
        if not name.endswith(".ovr"):
            profile |= {"crs": crs_of(self.geobox).to_wkt(), "transform": self.geobox.transform}
        with without_georeference():  # overviews have none
            return rasterio.open(name, "w", **profile)

    def write(self, strip: Array) -> None:
        """Append a strip, (bands, rows, cols). All strips but the last must have an even number of rows."""
        bands, rows, cols = strip.shape
        row = self._next_row
        total = self.geobox.shape[0]
        if (bands, cols) != (len(self.bands), self.geobox.shape[1]) or row + rows > total:
            raise GridError(
                f"a strip of {strip.shape} at row {row} does not fit {len(self.bands)} bands on {self.geobox.shape}.",
                path=self.path,
            )
        if rows % 2 and row + rows != total:
            message = f"the strip at row {row} has {rows} rows; only the last strip may have an odd number of rows."
            raise GridError(message, path=self.path)
        self._full.write(strip, window=((row, row + rows), (0, cols)))
        self._half[:, row // 2 : (row + rows + 1) // 2] = self._shrink(strip)
        self._next_row = row + rows

    def _shrink(self, array: Array) -> Array:
        halves = [halve(a, b.overview, self.nodata, b.scale, b.offset) for a, b in zip(array, self.bands, strict=True)]
        return np.stack(halves)

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._open_things:
            if kind is None:
                self._finish()

    def _finish(self) -> None:
        if self._next_row != self.geobox.shape[0]:
            raise GridError(f"only {self._next_row} of {self.geobox.shape[0]} rows were written.", path=self.path)
        self._describe()
        self._full.close()
        self._write_overviews()
        try:
            self._pack()
        except Exception as e:
            if not (_is_gdals(e) or isinstance(e, OSError)):
                raise
            hint = "Check the free space and the permissions of its folder."
            raise OutputError(f"cannot be written: {deepest_reason(e)}.", path=self.path, hint=hint) from e

    def _describe(self) -> None:
        """Write tags, names, units, categories and colours of the bands."""
        full = self._full
        full.update_tags(**self.tags)
        for i, band in enumerate(self.bands, 1):
            full.set_band_description(i, band.name)
            if band.units:
                full.set_band_unit(i, band.units)
            if band.description:
                full.update_tags(i, description=band.description)
            if band.categories:
                full.update_tags(i, **{f"class_{k}": v for k, v in band.categories.items()})
        full.scales = [b.scale for b in self.bands]
        full.offsets = [b.offset for b in self.bands]
        for i, band in enumerate(self.bands, 1):
            if band.colours:
                full.write_colormap(i, {k: (*rgb, 255) for k, rgb in band.colours.items()})

    def _write_overviews(self) -> None:
        name, level = self._memory, self._half
        while True:
            name += ".ovr"
            with self._open(name, level.shape[1:]) as overview:
                overview.write(level)
            if max(level.shape[1:]) <= _TILE:
                break
            level = self._shrink(level)
        self._half = level  # the half-size copy is in GDAL's memory now

    def _pack(self) -> None:
        """Write the file: a COG of the raster and its overviews.

        Python writes what GDAL has packed in memory: on a full disk Python raises an error, GDAL's threads only print
        a message.
        """
        beside = self.path.with_name(f".{self.path.name}.partial-{secrets.token_hex(4)}")
        with undone(lambda: beside.unlink(missing_ok=True)):
            with MemoryFile(ext=".tif") as packed:
                rasterio.shutil.copy(
                    self._memory,
                    packed.name,
                    driver="COG",
                    COMPRESS="DEFLATE",
                    LEVEL="1",
                    PREDICTOR="YES",
                    NUM_THREADS="ALL_CPUS",
                    BIGTIFF="IF_SAFER",
                    OVERVIEWS="FORCE_USE_EXISTING",
                    BLOCKSIZE=str(_TILE),
                )
                with beside.open("wb") as file:
                    while block := packed.read(1 << 20):
                        file.write(block)
            beside.replace(self.path)


def _is_gdals(error: Exception) -> bool:
    """Return whether an error is from GDAL: rasterio passes some on as classes CPLE_... that it does not publish."""
    return isinstance(error, RasterioError) or type(error).__name__.startswith("CPLE_")


def deepest_reason(error: BaseException) -> str:
    """Return the message of the deepest cause: GDAL's, where rasterio wraps it."""
    while error.__cause__ is not None:
        error = error.__cause__
    words = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return words.strip().rstrip(".")


def write_cog(
    path: Path,
    geobox: GeoBox,
    array: Array,
    bands: Sequence[Band],
    *,
    nodata: float | None,
    tags: Mapping[str, str] | None = None,
) -> None:
    """Write `array`, (bands, rows, cols) or (rows, cols), as a COG. See :class:`CogWriter`."""
    if array.ndim == 2:
        array = array[None]
    if array.shape != (len(bands), *geobox.shape):
        message = f"an array of {array.shape} does not fit {len(bands)} bands on {tuple(geobox.shape)}."
        raise GridError(message, path=path)
    with CogWriter(path, geobox, bands, dtype=array.dtype.name, nodata=nodata, tags=tags) as cog:
        for row in range(0, array.shape[1], STRIP_ROWS):
            cog.write(array[:, row : row + STRIP_ROWS])


@contextmanager
def without_georeference() -> Iterator[None]:
    """Suppress rasterio's warning about rasters without a georeference while the block runs."""
    with without_warnings(NotGeoreferencedWarning):
        yield


@contextmanager
def open_raster(path: str | Path, kind: type[FloemapError] = FloemapError, hint: str | None = None) -> Iterator[Any]:
    """Open a GeoTIFF for reading, as rasterio's dataset, while the block runs; no other file is read.

    GDAL also reads files beside a raster (.aux.xml, .ovr, .msk and others), and some of these make it read further
    files, on this machine or elsewhere. Here only the content of the file itself counts.

    Parameters
    ----------
    kind, hint
        Class and hint of the error that is raised if the file cannot be read.

    Raises
    ------
    FloemapError
        As `kind`, if the path does not lead to a regular file, or the file cannot be opened or read as a raster.
    """
    file = regular_file(path, kind)
    try:
        with only_itself(str(file)) as dataset:
            yield dataset
    except Exception as e:
        if not (_is_gdals(e) or isinstance(e, UnicodeDecodeError)):  # the latter from tags in another encoding
            raise
        reason = deepest_reason(e)
        if "not recognized as being in a supported file format" in reason:  # with the whole path before it
            reason = "it is not a GeoTIFF"
        raise kind(f"cannot be read as a raster: {reason}.", path=path, hint=hint) from e


@lru_cache(maxsize=1)  # an error is not kept
def check_proj() -> None:
    """Refuse to go on if rasterio does not find PROJ's database: all grids would have no place on the map then.

    Other programs set PROJ_DATA or PROJ_LIB to a database of theirs, which may be of another version.

    Raises
    ------
    GridError
        With these variables.
    """
    try:
        rasterio.crs.CRS.from_epsg(3413)
    except CRSError as e:
        given = [f"{name}={os.environ[name]}" for name in ("PROJ_DATA", "PROJ_LIB") if name in os.environ]
        hint = f"The environment has {' and '.join(given)}, of another program: unset it." if given else None
        raise GridError(
            f"PROJ's database of CRSs cannot be used: {deepest_reason(e)}.", hint=hint or "Install rasterio anew."
        ) from e


def refuse_beside(path: Path) -> None:
    """Refuse a raster whose gaps, scale or place are in a file beside it, which floemap does not read.

    Such are GDAL's NAME.msk and NAME.aux.xml. Without them gaps would count as values, and values would be others.
    Statistics and histograms in NAME.aux.xml change nothing.

    Raises
    ------
    GridError
        With the name of the file beside it.
    """
    beside, what = Path(f"{path}.msk"), "a mask"
    if not beside.exists():
        beside = Path(f"{path}.aux.xml")
        try:
            said = parse_xml(regular_file(beside).read_bytes()).iter(*_PAM_CHANGES) if beside.exists() else ()
        except (OSError, FloemapError, BrokenXmlError, DoctypeError):
            return  # GDAL cannot read it either
        told = [(str(e.tag), (e.text or "").strip()) for e in said]  # a band may say what another does not
        found = dict.fromkeys(_PAM_CHANGES[tag] for tag, text in told if text not in ("", _PAM_PLAIN.get(tag)))
        what = " and ".join(found)
    if what:
        raise GridError(
            f"has {what} in {beside.name}, a file beside it that floemap does not read.",
            path=path,
            hint="Write it into the raster: `gdal_translate --config GDAL_TIFF_INTERNAL_MASK YES` makes one of both.",
        )


@contextmanager
def only_itself(name: str) -> Iterator[Any]:
    """Open a GeoTIFF by GDAL's name for it. No other file is read, neither one beside it nor one that it refers to.

    Raises
    ------
    RasterioError
        If the file cannot be opened, or its metadata refer to overviews in another file.
    """
    check_proj()
    with without_georeference(), rasterio.Env(GDAL_DISABLE_READDIR_ON_OPEN="EMPTY_DIR"):
        dataset = rasterio.open(name, driver="GTiff")
    with dataset:
        # The metadata of a TIFF may name any file or address, which GDAL opens as soon as it looks for overviews.
        if _OVERVIEWS_ELSEWHERE & {n.upper() for n in dataset.tag_namespaces()}:
            raise RasterioError("its metadata refer to overviews in another file")
        yield dataset


def read_geobox(path: Path) -> GeoBox:
    """Return the grid of a raster file.

    Raises
    ------
    GridError
        If the file has no CRS or no transform, its CRS is not in metres, or its rows do not run along the CRS's axes.
    FloemapError
        If it cannot be opened as a raster.
    """
    with open_raster(path) as d:
        return geobox_of(d, path)


def geobox_of(d: Any, path: Path) -> GeoBox:
    """Return the grid of an open raster, rasterio's dataset; errors are those of :func:`read_geobox`."""
    if d.crs is None or d.transform.is_identity:
        beside = [p.name for p in Path(path).parent.glob(f"{glob.escape(Path(path).stem)}.*")]
        beside = sorted(name for name in beside if name.endswith(_GEOREFERENCES))
        hint = "Give a raster on a map projection."
        if beside:
            hint = f"Write the georeference in {', '.join(beside)}, which floemap does not read, into the raster."
        raise GridError("has no georeference.", path=path, hint=hint)
    if not all(map(math.isfinite, d.transform)):
        raise GridError("has a georeference that is no number.", path=path, hint="Make the raster again.")
    if d.crs.is_geographic or not math.isclose(d.crs.units_factor[1], 1):
        hint = "Warp it to a projection in metres first, as `gdalwarp` does."
        raise GridError(f"{pyproj.CRS(d.crs.to_wkt()).name} is not projected in metres.", path=path, hint=hint)
    if d.transform.b or d.transform.d:
        hint = "Warp it to a grid along the axes of its CRS first, as `gdalwarp` does."
        raise GridError("has a rotated or sheared grid.", path=path, hint=hint)
    return GeoBox(d.shape, d.transform, d.crs.to_wkt())
