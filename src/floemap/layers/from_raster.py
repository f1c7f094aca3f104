"""A raster of the user's, warped to the grid of a prepared product, as a layer: temperature, wind, passive microwave.

GDAL warps. In longitude and latitude, what GDAL does not know is added: columns are turned so that the seam of a global
raster lies opposite the scene, and repeated beyond it, so that values are interpolated across the seam also where a
pole is on the grid.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyproj
import rasterio
import xarray
from affine import Affine
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox
from rasterio.crs import CRS
from rasterio.enums import Resampling
from rasterio.errors import RasterioError
from rasterio.io import MemoryFile
from rasterio.vrt import WarpedVRT

from floemap.bands import InputBand, step_for
from floemap.cog import GDAL_CACHE_BYTES, deepest_reason, refuse_beside, without_georeference
from floemap.errors import ConfigError, FloemapError, GridError, known_names
from floemap.files import regular_file
from floemap.grid import Box, boxes_in, crs_in_words, map_crs_of
from floemap.layers.make import MadeLayer, Values, make_layer
from floemap.layers.settings import RasterSettings
from floemap.layers.stored import RASTER, RASTER_COMMAND, RECORD
from floemap.progress import Progress, silent
from floemap.results.stage import Stage, sha256

#: Raise the revision if values change.
STAGE = Stage(RASTER_COMMAND, RECORD, revision=1, files=(RASTER,))
#: Drivers of GDAL that read a file by itself. Those left out, such as VRT, read whatever file or address it names.
_DRIVERS = ("GTiff", "netCDF", "HDF5", "GRIB", "HFA", "AAIGrid", "JP2OpenJPEG", "PNG", "BMP", "GSBG", "SAGA")
#: What CF lets the units of longitude and latitude be.
_EAST = frozenset(("degrees_east", "degree_east", "degree_E", "degrees_E", "degreeE", "degreesE"))
_NORTH = frozenset(("degrees_north", "degree_north", "degree_N", "degrees_N", "degreeN", "degreesN"))
#: The CRS assumed for latitudes and longitudes where a file names none.
_PLAIN = CRS.from_epsg(4326)
#: Rows of the product's grid that are warped at a time.
_STRIP_ROWS = 512
#: Pixels of the raster around what a strip covers, for interpolation.
_MARGIN_PX = 3
#: Error of positions, pixels of the raster.
_TOLERANCE_PX = 0.001
#: Pixels of the raster that are read for one strip at most: two gigabytes.
_MOST_PX = 500_000_000


def layer_from_raster(
    product: str | Path,
    raster: str | Path,
    name: str,
    settings: RasterSettings | None = None,
    *,
    out: str | Path | None = None,
    overwrite: bool = False,
    progress: Progress = silent,
) -> MadeLayer:
    """Make a layer of a prepared product from a raster.

    Parameters
    ----------
    product
        A prepared folder or its product.tif.
    raster
        A file of GeoTIFF, NetCDF, GRIB, HDF5 or another format that GDAL reads, with a CRS, which covers the scene or
        a part of it.
    name
        Name of the layer, small letters, digits and underscores.
    settings
        See :class:`floemap.layers.settings.RasterSettings`.
    out
        Folder that gets the layer, in a folder for each product, instead of the folder of the product. Models read
        layers from the folders of products only.
    overwrite
        Make it again even where a layer with the same inputs and settings is finished.
    progress
        Progress callback, called as progress(done, total, message).

    Raises
    ------
    ConfigError
        If a layer cannot have this name, or the raster lacks the variable or band.
    GridError
        If the raster has no georeference, does not overlap the scene, or a file beside it says where its gaps are.
    ProductError
        If the product is not a prepared one, or no pixel of the scene gets a value.
    FloemapError
        If the raster cannot be read, or values do not fit into the steps.
    OutputError
        If the layer cannot be written.
    """
    settings, path = settings or RasterSettings(), Path(raster)
    source = {path.name: sha256(path)}

    def compute(geobox: GeoBox) -> Values:
        with _open(path, settings.variable) as dataset:
            opened = _of_dataset(dataset, path, settings.band)
            array = warped(opened, geobox, Resampling[settings.resampling], progress)
            unit = settings.unit or dataset.units[settings.band - 1] or "1"
        if not np.isfinite(array).any():
            raise GridError(
                "has no value on the grid of the product.",
                path=path,
                hint="Is it a raster of this place? Its no-data value, NaN and infinite values are gaps.",
            )
        step = settings.step or step_for(float(np.nanmax(np.abs(array))))
        _refuse_lost(array, step, path)
        words = f"{settings.variable or f'Band {settings.band}'} of {path.name}, {settings.resampling}"
        band = InputBand(name, unit, step, missing=settings.missing)
        return Values(band, array, words, {"step_chosen": settings.step is None, "file": path.name})

    made = make_layer(
        product,
        name,
        STAGE,
        {"raster": source},
        settings.model_dump(mode="json"),
        compute,
        out=out,
        overwrite=overwrite,
    )
    progress(1, 1, "done")
    return made


def _refuse_lost(array: NDArray[np.float32], step: float, path: Path) -> None:
    """Refuse a step in which most of the values other than 0 are 0: a gap that the file does not declare makes one."""
    size = np.abs(array[np.isfinite(array) & (array != 0)])
    if size.size and np.count_nonzero(size < step / 2) > size.size / 2:
        raise FloemapError(
            f"has values up to {size.max():g}; in steps of {step:g}, most of the others are 0.",
            path=path,
            hint="If those are gaps, declare them: `gdal_edit -a_nodata VALUE`, or _FillValue in NetCDF. "
            "If not, give --step.",
        )


def _open(path: Path, variable: str | None) -> Any:
    """Open a raster with one of the drivers that read no other file; of a file with several variables, the named one.

    Raises
    ------
    FloemapError
        If GDAL cannot read the file.
    ConfigError
        If the file has several variables and none is named, or none of this name.
    """
    dataset = _open_any(regular_file(path), path)
    refuse_beside(path)
    found = {name.rpartition(":")[2].strip('/"'): name for name in dataset.subdatasets}
    if not found:  # a single variable
        own = dataset.tags(1).get("NETCDF_VARNAME") if dataset.count else None
        if variable not in (None, own):
            raise ConfigError(f"has no variable {variable!r}.", path=path, hint=own and f"Known: {own}.")
        return dataset
    driver = dataset.driver
    dataset.close()
    if variable is None or variable not in found:
        what = "several variables" if variable is None else f"no variable {variable!r}"
        raise ConfigError(f"has {what}.", path=path, hint=f"Give --variable. {known_names(variable, found)}")
    try:
        with without_georeference():
            return rasterio.open(found[variable], driver=driver)
    except RasterioError as e:
        raise FloemapError(f"its variable {variable} cannot be read: {deepest_reason(e)}.", path=path) from e


def _open_any(file: Path, path: Path) -> Any:
    """Open a raster with the first driver that knows its format."""
    reason, known = "its format is not known", []
    with without_georeference(), rasterio.Env(GDAL_DISABLE_READDIR_ON_OPEN="EMPTY_DIR") as env:
        for driver in _DRIVERS:
            if driver not in env.drivers():
                continue
            known.append(driver)
            try:
                return rasterio.open(file, driver=driver)
            except RasterioError as e:
                if "not recognized as being in a supported file format" not in deepest_reason(e):
                    reason = deepest_reason(e)
    raise FloemapError(
        f"cannot be read as a raster: {reason}.",
        path=path,
        hint=f"Formats: {', '.join(known)}. Convert others to GeoTIFF, with `gdal_translate`.",
    )


@dataclass(frozen=True)
class SourceRaster:
    """A band of an open raster.

    Attributes
    ----------
    dataset, band, path
        The raster as rasterio opens it, the number of the band, its file.
    crs
        CRS of the raster.
    """

    dataset: Any
    band: int
    path: Path
    crs: pyproj.CRS

    @property
    def columns_around(self) -> int | None:
        """Number of columns of a turn around the earth if the raster covers all longitudes, else None."""
        t = self.dataset.transform
        if not self.crs.is_geographic or t.b or t.d:
            return None
        around = 360 / abs(t.a)
        whole = round(around)
        return whole if abs(around - whole) < 0.01 and self.dataset.width >= whole else None

    def read(self, columns: NDArray[np.int64], rows: tuple[int, int]) -> NDArray[np.float32]:
        """Read columns, which may begin again from the left, and a range of rows, in physical units, NaN for gaps."""
        parts = []
        tags = self.dataset.tags(self.band) if self.dataset.driver == "netCDF" else {}
        for run in np.split(columns, np.flatnonzero(np.diff(columns) != 1) + 1):
            window = (rows, (int(run[0]), int(run[-1]) + 1))
            try:
                part = self.dataset.read(self.band, window=window, masked=True)
            except RasterioError as e:
                raise FloemapError(f"cannot be read: {deepest_reason(e)}.", path=self.path, hint="Is it whole?") from e
            missing = np.ma.getmaskarray(part) | _cf_gaps(part.data, tags)
            parts.append(np.where(missing, np.float32(np.nan), part.data.astype(np.float32)))
        d = self.dataset
        values = np.concatenate(parts, axis=1) * np.float32(d.scales[self.band - 1])
        values += np.float32(d.offsets[self.band - 1])
        values[~np.isfinite(values)] = np.nan
        return values


def _cf_gaps(values: NDArray[Any], tags: Mapping[str, str]) -> NDArray[np.bool_]:
    """Return where a NetCDF says that stored values are missing and GDAL does not; `tags` are GDAL's of the variable.

    CF, section 2.5.1: ``missing_value``, which may be several, beside ``_FillValue``, and below ``valid_min`` or above
    ``valid_max``. GDAL takes one value, and ``valid_range``.
    """

    real = values.dtype.kind == "f"

    def stored(name: str) -> NDArray[Any]:
        found = []
        for text in tags.get(name, "").strip("{}").split(","):
            with suppress(ValueError):  # a text is no value
                number = float(text)
                signed = values.dtype.kind == "u" and number < 0  # its attributes may have the signs of the bits
                found.append(number + 2 ** (8 * values.dtype.itemsize) if signed else number)
        with np.errstate(over="ignore"):
            return np.array(found, values.dtype if real else np.float64)

    # Whole numbers are compared as they are: an attribute may be beyond what the type can hold.
    here = values if real else values.astype(np.float64)
    gaps = np.isin(here, stored("missing_value"))
    for low in stored("valid_min"):
        gaps |= here < low
    for high in stored("valid_max"):
        gaps |= here > high
    return np.asarray(gaps)


def _of_dataset(dataset: Any, path: Path, band: int) -> SourceRaster:
    """Return a band of an open raster.

    Raises
    ------
    ConfigError
        If it has no such band.
    GridError
        If it has no georeference.
    """
    if band > dataset.count:
        raise ConfigError(f"has no band {band}; the number of its bands is {dataset.count}.", path=path)
    if np.dtype(dataset.dtypes[band - 1]).kind not in "iuf":
        raise ConfigError(f"band {band} has values of the type {dataset.dtypes[band - 1]}.", path=path)
    if dataset.driver == "netCDF":
        _refuse_transposed(path, dataset.tags(band).get("NETCDF_VARNAME", ""))
    own = dataset.crs or (_PLAIN if _has_plain_longitudes(dataset) else None)
    if own is None or dataset.transform.is_identity or dataset.transform.is_degenerate:
        raise GridError(
            "has no georeference.", path=path, hint="Give a raster with a CRS and a transform; `gdalwarp` makes one."
        )
    try:
        crs = pyproj.CRS.from_wkt(wkt := own.to_wkt())
    except pyproj.exceptions.CRSError as e:
        raise GridError(
            f"has a CRS that PROJ does not know: {crs_in_words(wkt)}.",
            path=path,
            hint="Give it another one: `gdal_edit -a_srs` if positions stay, `gdalwarp -t_srs` if not.",
        ) from e
    if crs.is_geographic and crs.axis_info[0].unit_name != "degree":
        raise GridError(f"has longitudes in {crs.axis_info[0].unit_name}, not in degrees.", path=path)
    return SourceRaster(dataset, band, path, crs)


def _refuse_transposed(path: Path, variable: str) -> None:
    """Refuse a variable of a NetCDF whose last dimension runs north or the one before it east.

    GDAL takes the last dimension for x whatever its coordinates are, and the raster would lie at another place.
    """
    try:
        with xarray.open_dataset(path, decode_cf=False) as file:
            along = [file[dim].attrs for dim in file[variable].dims[-2:] if dim in file.coords]
            told = [(str(a.get("units")), str(a.get("standard_name"))) for a in along]
    except (OSError, ValueError, KeyError):  # of a form that xarray does not read, or in a group
        return
    if len(told) == 2 and (
        told[0][0] in _EAST
        or told[1][0] in _NORTH
        or (told[0][1], told[1][1]) == ("projection_x_coordinate", "projection_y_coordinate")
    ):
        raise GridError(
            f"its variable {variable} has rows that run north and columns that run east.",
            path=path,
            hint="Transpose it to (latitude, longitude), or (y, x), first: `ncpdq -a`, or xarray's transpose.",
        )


def _has_plain_longitudes(dataset: Any) -> bool:
    """Return whether a NetCDF without a CRS has latitudes and longitudes for its rows and columns.

    By CF, section 4.1 and 4.2, their units say so, and a grid mapping may be absent, as it is in files of ERA5. GDAL
    gives no CRS then.
    """
    units = {v for k, v in dataset.tags().items() if k.endswith("#units")}
    left, bottom, right, top = dataset.bounds
    in_degrees = max(abs(bottom), abs(top)) <= 91 and max(abs(left), abs(right)) <= 541
    return dataset.driver == "netCDF" and in_degrees and bool(units & _EAST) and bool(units & _NORTH)


def warped(
    source: SourceRaster, geobox: GeoBox, resampling: Resampling, progress: Progress = silent
) -> NDArray[np.float32]:
    """Return a raster on another grid, (rows, cols) float32; NaN where it has no value.

    Raises
    ------
    GridError
        If it does not overlap the grid, or is too fine to be read.
    FloemapError
        If it cannot be read.
    """
    rows, cols = (int(n) for n in geobox.shape)
    out = np.full((rows, cols), np.nan, np.float32)
    target = CRS.from_wkt(map_crs_of(geobox).to_wkt())
    overlaps = False
    with rasterio.Env(GDAL_CACHEMAX=GDAL_CACHE_BYTES):
        for row in range(0, rows, _STRIP_ROWS):
            progress(row, rows, "warping")
            strip = geobox[row : min(row + _STRIP_ROWS, rows), :]
            for array, transform, crs in _pieces(source, strip):
                overlaps = True
                part = _warp(array, transform, crs, strip, target, resampling)
                view = out[row : row + len(part)]
                np.copyto(view, part, where=np.isnan(view))
    if not overlaps:
        raise GridError("does not overlap the product.", path=source.path, hint="Is it a raster of this place?")
    return out


def _warp(
    array: NDArray[np.float32], transform: Affine, crs: CRS, strip: GeoBox, target: CRS, resampling: Resampling
) -> NDArray[np.float32]:
    """Warp values with NaN gaps to a grid.

    Positions are right within a thousandth of a pixel of the raster; GDAL's default, an eighth, shows near poles. With
    a scale of 1 GDAL does not widen the kernel by a mean ratio of pixel sizes, which would depend on the strip.
    """
    rows, cols = strip.shape
    profile = {"driver": "GTiff", "count": 1, "dtype": "float32", "nodata": np.nan, "crs": crs, "transform": transform}
    with MemoryFile() as memory:
        with memory.open(height=array.shape[0], width=array.shape[1], **profile) as written:
            written.write(array, 1)
        with (
            memory.open() as source,
            WarpedVRT(
                source,
                crs=target,
                transform=strip.transform,
                height=rows,
                width=cols,
                resampling=resampling,
                src_nodata=np.nan,
                nodata=np.nan,
                tolerance=_TOLERANCE_PX,
                XSCALE=1,
                YSCALE=1,
            ) as view,
        ):
            return np.asarray(view.read(1), np.float32)


def _pieces(source: SourceRaster, strip: GeoBox) -> Iterator[tuple[NDArray[np.float32], Affine, CRS]]:
    """Yield the parts of a raster that cover a grid: values, transform, CRS."""
    own = CRS.from_wkt(source.crs.to_wkt())
    for box in boxes_in(strip, source.crs):
        found = _window(source, box)
        if found is None:
            continue
        columns, rows = found
        if len(columns) * (rows[1] - rows[0]) > _MOST_PX:
            raise GridError(
                f"is too fine: {len(columns)} x {rows[1] - rows[0]} px cover {strip.shape[0]} rows of the product.",
                path=source.path,
                hint="Make it coarser first, with `gdalwarp -r average`.",
            )
        transform = source.dataset.transform * Affine.translation(int(columns[0]), rows[0])
        crs = own
        around = source.columns_around
        if around is not None:
            columns = columns % around
        if source.crs.is_geographic:
            # GDAL gives longitudes from -180 to 180: counted from the middle of what is read, all of them lie in it.
            middle = transform.c + transform.a * len(columns) / 2
            transform = Affine.translation(-middle, 0) * transform
            crs = _from_meridian(source.crs, middle)
        yield source.read(columns, rows), transform, crs
        if around is not None:
            return  # the other boxes are the same place, a turn further


def _window(source: SourceRaster, box: Box | None) -> tuple[NDArray[np.int64], tuple[int, int]] | None:
    """Return the columns and the range of rows of a raster in a box; None if there are none.

    The columns of a global raster may go on beyond its last one, and be negative.
    """
    width, height = source.dataset.width, source.dataset.height
    if box is None:
        return np.arange(width), (0, height)
    left, bottom, right, top = box
    x, y = ~source.dataset.transform * (np.array([left, right, left, right]), np.array([bottom, bottom, top, top]))
    first, last = math.floor(x.min()) - _MARGIN_PX, math.ceil(x.max()) + _MARGIN_PX
    above, below = max(math.floor(y.min()) - _MARGIN_PX, 0), min(math.ceil(y.max()) + _MARGIN_PX, height)
    around = source.columns_around
    if around is None:
        first, last = max(first, 0), min(last, width)
    else:
        last = min(last, first + around + 2 * _MARGIN_PX)
    if above >= below or first >= last:
        return None
    return np.arange(first, last), (above, below)


def _from_meridian(crs: pyproj.CRS, longitude: float) -> CRS:
    """Return a CRS of longitude and latitude whose longitudes are counted from a meridian of `crs`, in degrees."""
    e, prime = crs.ellipsoid, crs.prime_meridian
    if prime is not None:
        longitude += math.degrees(float(prime.longitude) * float(prime.unit_conversion_factor))
    a, b = (6378137.0, 6356752.314245179) if e is None else (e.semi_major_metre, e.semi_minor_metre)
    return CRS.from_dict(proj="longlat", a=a, b=b, pm=longitude, no_defs=True)
