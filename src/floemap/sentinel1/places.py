"""Longitude and latitude of a prepared product's pixels, on a map grid or in image geometry.

A product in image geometry has tie points in its record, ``product.json``: longitude and latitude at some positions of
its grid. Between them, both are interpolated with cubic splines on a polar plane, as from the file that they came from.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyproj
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox
from scipy.interpolate import RectBivariateSpline

from floemap.errors import MISSHAPEN, ProductError
from floemap.grid import crs_of, in_image_geometry
from floemap.results.stage import read_json

Floats = NDArray[np.float64]

#: Entry of product.json: "row" and "col", lists of positions of pixel centres, and "longitude_deg" and "latitude_deg",
#: lists of lists, rows first.
TIE_POINTS = "tie_points"


def lonlat_deg(raster: Path, geobox: GeoBox, row: Floats, col: Floats) -> tuple[Floats, Floats]:
    """Return longitude and latitude, degrees, at positions of a prepared product's grid.

    Parameters
    ----------
    raster
        Path of product.tif; product.json is beside it.
    geobox
        Its grid.
    row, col
        Positions, any shape, 0 at the centre of the first pixel.

    Raises
    ------
    ProductError
        If a product in image geometry has no tie points in its record.
    FloemapError
        If its record cannot be read.
    """
    if not in_image_geometry(geobox):
        x, y = geobox.affine * (col + 0.5, row + 0.5)
        to_degrees = pyproj.Transformer.from_crs(crs_of(geobox).proj, "EPSG:4326", always_xy=True)
        lon, lat = to_degrees.transform(x, y)
        return np.asarray(lon), np.asarray(lat)
    record = raster.with_name("product.json")
    try:
        return _between(read_json(record)[TIE_POINTS], row, col)
    except MISSHAPEN as e:
        hint = "Prepare the scene again."
        raise ProductError(f"has no tie points that give places to the image: {e!r}.", path=record, hint=hint) from e


def _between(tie: Mapping[str, Any], row: Floats, col: Floats) -> tuple[Floats, Floats]:
    rows, cols, lon, lat = (np.asarray(tie[k], np.float64) for k in ("row", "col", "longitude_deg", "latitude_deg"))
    pole = 90 if lat.mean() >= 0 else -90
    plane = f"+proj=laea +lat_0={pole} +lon_0=0 +datum=WGS84 +units=m"
    to_degrees = pyproj.Transformer.from_crs(plane, "EPSG:4326", always_xy=True)
    x, y = to_degrees.transform(lon, lat, direction=pyproj.enums.TransformDirection.INVERSE)
    at = np.clip(row, rows[0], rows[-1]), np.clip(col, cols[0], cols[-1])
    at_x, at_y = (RectBivariateSpline(rows, cols, field).ev(*at) for field in (x, y))
    found_lon, found_lat = to_degrees.transform(at_x, at_y)
    return np.asarray(found_lon), np.asarray(found_lat)
