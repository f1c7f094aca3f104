"""Grids: one immutable value, the GeoBox, gives the place of an array on the map. Combining unequal grids is an error.

Axis order is (rows, cols), rows from the top. A transform gives positions of pixel corners; all other positions are of
pixel centres. Resolutions are in metres.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyproj
from affine import Affine
from numpy.typing import NDArray
from odc.geo.crs import CRS
from odc.geo.geobox import GeoBox

from floemap.errors import MISSHAPEN, GridError

#: Metres of a nautical mile.
NAUTICAL_MILE_M = 1852.0
#: Left, bottom, right, top.
Box = tuple[float, float, float, float]
#: PROJ's name of a CRS without a name.
_UNNAMED = "unknown"
#: Number of points along each side of a grid at which its extent in another CRS is computed.
_POINTS = 65
#: Number of points along each side of a grid where the scale of the map is computed; it is interpolated between them.
_SCALE_POINTS = 33


def crs_of(geobox: GeoBox) -> CRS:
    """Return the grid's CRS, or raise :class:`GridError` if it has none."""
    if geobox.crs is None:
        raise GridError("the grid has no CRS.", hint="Use a grid on a map projection.")
    return geobox.crs


def image_crs(product: str) -> CRS:
    """Return the CRS of a radar image's own lines and samples, in metres: an engineering CRS of the product's name.

    It has no place on the earth, and differs between products, so that grids of two images are never the same. The
    form is the one that GDAL gives back from a GeoTIFF.
    """
    name = re.sub(r"[^A-Za-z0-9_.-]", "_", product)
    axes = 'AXIS["Easting",EAST],AXIS["Northing",NORTH]'
    return CRS(f'LOCAL_CS["Image of {name}",UNIT["metre",1,AUTHORITY["EPSG","9001"]],{axes}]')


def same_crs(a: CRS, b: CRS) -> bool:
    """Return whether two CRSs are the same. Those of images differ by their names, which PROJ does not compare."""
    return bool(a == b) and (not a.proj.is_engineering or a.proj.name == b.proj.name)


def in_image_geometry(geobox: GeoBox) -> bool:
    """Return whether a grid is that of a radar image, which has no place on the map (:func:`image_crs`)."""
    return bool(crs_of(geobox).proj.is_engineering)


def map_crs_of(geobox: GeoBox, path: Path | None = None) -> CRS:
    """Return the grid's CRS, or raise :class:`GridError` if it has none or is in image geometry; `path` is its file."""
    if in_image_geometry(geobox):
        message = f"the grid ({brief(geobox)}) is in image geometry, which has no place on the map."
        raise GridError(message, path=path, hint="Prepare the scene with --grid polar for what needs a map.")
    return crs_of(geobox)


def check_same_grid(a: GeoBox, b: GeoBox, what: str) -> None:
    """Raise :class:`GridError` unless the two grids are the same, pixel by pixel; `what` begins the message."""
    same = same_crs(crs_of(a), crs_of(b)) and tuple(a.shape) == tuple(b.shape)
    if not (same and np.allclose(tuple(a.transform), tuple(b.transform), rtol=0, atol=1e-6)):
        raise GridError(f"{what}: the grids differ ({brief(a)} and {brief(b)}).", hint="Make both on the same grid.")


def xarray_coords(geobox: GeoBox) -> dict[str, Any]:
    """Return coordinates for an xarray.Dataset on a north-up grid: y, x of pixel centres (m), ``spatial_ref``.

    ``spatial_ref`` is a grid mapping by the CF conventions, with GDAL's crs_wkt and GeoTransform added, which rioxarray
    and others read.
    """
    crs, t = crs_of(geobox), geobox.transform
    rows, cols = geobox.shape
    mapping = crs.proj.to_cf() | {"crs_wkt": crs.to_wkt(), "GeoTransform": " ".join(map(repr, t.to_gdal()))}
    if mapping.get("grid_mapping_name") == "polar_stereographic" and "standard_parallel" in mapping:
        # CF requires the pole's latitude; PROJ gives it only as the sign of the parallel.
        mapping["latitude_of_projection_origin"] = float(np.copysign(90, mapping["standard_parallel"]))
    axes = {
        "y": (t.f + (np.arange(rows) + 0.5) * t.e, "projection_y_coordinate"),
        "x": (t.c + (np.arange(cols) + 0.5) * t.a, "projection_x_coordinate"),
    }
    coords: dict[str, Any] = {
        k: (k, v, {"units": "m", "standard_name": name, "axis": k.upper()}) for k, (v, name) in axes.items()
    }
    return coords | {"spatial_ref": ((), 0, mapping)}


def boxes_in(geobox: GeoBox, crs: pyproj.CRS) -> Iterator[Box | None]:
    """Yield boxes in another CRS, (left, bottom, right, top), that contain the grid, also around a pole.

    In longitude and latitude there are three, each a turn further, since files begin at -180 or at 0 degrees. None is
    yielded if the grid has no extent in that CRS: then the whole file must be read.
    """
    b = geobox.boundingbox
    x, y = np.meshgrid(np.linspace(b.left, b.right, _POINTS), np.linspace(b.bottom, b.top, _POINTS))
    to_file = pyproj.Transformer.from_crs(map_crs_of(geobox).proj, crs, always_xy=True)
    x, y = to_file.transform(x, y)
    if not (np.isfinite(x).all() and np.isfinite(y).all()):
        yield None
        return
    if not crs.is_geographic:
        margin = 0.05 * max(np.ptp(x), np.ptp(y))
        yield float(x.min() - margin), float(y.min() - margin), float(x.max() + margin), float(y.max() + margin)
        return
    south, north = float(y.min()), float(y.max())
    middle = float(np.degrees(np.angle(np.mean(np.exp(1j * np.radians(x))))))
    off = (x - middle + 180) % 360 - 180
    west, east = middle + float(off.min()), middle + float(off.max())
    margin = 0.05 * (north - south)
    pole = _pole_on(geobox, to_file)
    if pole:
        west, east, south, north = -180.0, 180.0, min(south, pole), max(north, pole)
    south, north = max(south - margin, -90.0), min(north + margin, 90.0)
    margin /= max(np.cos(np.radians(max(abs(south), abs(north)))), 0.02)
    if pole or east - west + 2 * margin > 360:
        west, east = -180.0, 180.0
    else:
        west, east = west - margin, east + margin
    for turn in (-360, 0, 360):  # files go from -180 to 180 or from 0 to 360
        yield west + turn, south, east + turn, north


def _pole_on(geobox: GeoBox, to_file: pyproj.Transformer) -> float:
    """Return the latitude of the pole if it lies on the grid, else 0."""
    b = geobox.boundingbox
    for latitude in (90.0, -90.0):
        x, y = to_file.transform(0.0, latitude, direction=pyproj.enums.TransformDirection.INVERSE)
        if b.left <= x <= b.right and b.bottom <= y <= b.top:
            return latitude
    return 0.0


def true_pixel_km2(geobox: GeoBox, row: NDArray[Any], col: NDArray[Any]) -> NDArray[np.float64]:
    """Return the area on the ellipsoid of a pixel at each place, km2: its area on the map divided by the areal scale.

    Parameters
    ----------
    row, col
        Places in pixels from the outer corner of the first pixel, of any one shape: a pixel's centre ends in .5.

    Raises
    ------
    GridError
        If the grid extends beyond the map.
    """
    from scipy.ndimage import map_coordinates

    crs = map_crs_of(geobox).proj
    rows, cols = geobox.shape
    lattice = np.meshgrid(np.linspace(0, rows, _SCALE_POINTS), np.linspace(0, cols, _SCALE_POINTS), indexing="ij")
    x, y = geobox.transform * (lattice[1].ravel(), lattice[0].ravel())
    lon, lat = pyproj.Transformer.from_crs(crs, crs.geodetic_crs, always_xy=True).transform(x, y)
    scale = np.asarray(pyproj.Proj(crs).get_factors(lon, lat).areal_scale)
    if not (np.isfinite(scale).all() and (scale > 0).all()):
        raise GridError(f"the grid extends beyond the map {crs_name(crs)}.", hint="Choose a CRS for this place.")
    places = [np.asarray(at) * (_SCALE_POINTS - 1) / count for at, count in ((row, rows), (col, cols))]
    there = map_coordinates(scale.reshape(lattice[0].shape), places, order=1, mode="nearest")
    return np.asarray(abs(geobox.transform.determinant) / 1e6 / there)


def extent_of(lon: NDArray[np.float64], lat: NDArray[np.float64]) -> Box:
    """Return west, south, east, north of positions in degrees, (n,) each; west is greater than east over the dateline.

    The positions are outside the widest gap between their longitudes.
    """
    lon = np.sort(lon % 360)
    widest = int(np.diff(lon, append=lon[0] + 360).argmax())
    west, east = ((float(v) + 180) % 360 - 180 for v in (lon[(widest + 1) % len(lon)], lon[widest]))
    return west, float(lat.min()), east, float(lat.max())


def lonlat_extent(geobox: GeoBox) -> Box:
    """Return west, south, east, north of a grid in degrees, its edges included, as :func:`extent_of` does.

    A grid with a pole on it reaches around the earth, and to that pole.
    """
    b = geobox.boundingbox
    x, y = np.meshgrid(np.linspace(b.left, b.right, _POINTS), np.linspace(b.bottom, b.top, _POINTS))
    to_earth = pyproj.Transformer.from_crs(map_crs_of(geobox).proj, "EPSG:4326", always_xy=True)
    lon, lat = to_earth.transform(x.ravel(), y.ravel())
    west, south, east, north = extent_of(np.asarray(lon), np.asarray(lat))
    pole = _pole_on(geobox, to_earth)
    return (-180.0, min(south, pole), 180.0, max(north, pole)) if pole else (west, south, east, north)


def brief(geobox: GeoBox) -> str:
    """Return size, resolution, origin and CRS of a grid in one line, for messages."""
    crs = crs_of(geobox)
    name = f"EPSG:{crs.epsg}" if crs.epsg else crs_name(crs.proj)
    rows, cols = geobox.shape
    x, y = geobox.transform.c, geobox.transform.f
    return f"{rows} x {cols} px of {abs(geobox.resolution.x):g} m from ({x:g}, {y:g}) in {name}"


def crs_in_words(crs: str) -> str:
    """Return a CRS as a record has it for people: a code as it is, of a WKT its name; see :func:`crs_name`."""
    named = re.match(r'\s*[A-Za-z0-9_]+\s*[\[(]\s*"([^"]*)"', crs)
    name = named[1] if named else crs
    if name == _UNNAMED:
        with suppress(pyproj.exceptions.CRSError):
            name = crs_name(pyproj.CRS.from_wkt(crs))
    return name[:80]


def crs_name(crs: pyproj.CRS) -> str:
    """Return the name of a CRS; of one without a name, which PROJ calls unknown, the kind of its projection."""
    return projection_of(crs) if crs.name == _UNNAMED else crs.name


def describe_grid(geobox: GeoBox) -> dict[str, Any]:
    """Return a grid for the records of results: CRS, affine transform (6 numbers), and shape (rows, cols)."""
    crs = geobox.crs
    return {
        "crs": f"EPSG:{crs.epsg}" if crs is not None and crs.epsg else str(crs),
        "transform": list(geobox.transform)[:6],
        "shape": list(geobox.shape),
    }


def read_grid(record: Mapping[str, Any]) -> GeoBox | None:
    """Return the grid that :func:`describe_grid` wrote to a record; None if there is none in metres on a projection.

    Records may have been edited, so anything may stand there.
    """
    try:
        told = record["grid"]
        crs, transform, shape = told["crs"], [float(v) for v in told["transform"]], [int(v) for v in told["shape"]]
        a, b, _, d, e, _ = transform
        on_map = _names_metres(crs) and all(map(math.isfinite, transform)) and a and e and not b and not d
        return GeoBox((shape[0], shape[1]), Affine(*transform), crs) if on_map and min(shape) > 0 else None
    except MISSHAPEN:
        return None


def is_in_metres(crs: pyproj.CRS) -> bool:
    """Return whether a CRS is a map projection in metres."""
    return crs.is_projected and all(axis.unit_conversion_factor == 1 for axis in crs.axis_info)


@lru_cache(maxsize=64)
def _names_metres(crs: str) -> bool:
    """Return whether a text, from anywhere, names a map projection in metres."""
    try:
        return is_in_metres(pyproj.CRS.from_user_input(crs))
    except pyproj.exceptions.CRSError:
        return False


def degrees(value: float, axis: Literal["lat", "lon"]) -> str:
    """Format a latitude or longitude in degrees, such as 12.5°W; longitudes from -180 to 180."""
    if axis == "lon":
        value = (value + 180) % 360 - 180
    north, south = ("N", "S") if axis == "lat" else ("E", "W")
    return f"{abs(value):g}°{south if value < 0 else north}"


def projection_of(crs: pyproj.CRS) -> str:
    """Return the kind of a CRS's projection, such as "polar stereographic"; without a projection, the CRS's name."""
    operation = crs.coordinate_operation
    return crs.name if operation is None else operation.method_name.lower().partition(" (variant")[0]


def box_in_words(west: float, south: float, east: float, north: float) -> str:
    """Format the edges of a box in degrees; across the dateline its west is greater than its east."""
    lat, lon = ([round(v, 2) for v in pair] for pair in ((south, north), (west, east)))
    return f"{degrees(lat[0], 'lat')} to {degrees(lat[1], 'lat')}, {degrees(lon[0], 'lon')} to {degrees(lon[1], 'lon')}"
