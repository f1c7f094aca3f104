"""NetCDF files by the CF conventions and ACDD, for rasters on a map grid: coordinates, global attributes, writing.

ACDD 1.3 (Attribute Convention for Data Discovery) wants facts that a draft may not have; these say "not given", so that
a program finds every attribute. There is one time, the middle of the acquisition, with its bounds, so files of several
scenes on one grid can be concatenated.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import shapely
import xarray as xr
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox

from floemap.grid import crs_of, lonlat_extent, xarray_coords
from floemap.results.stage import os_errors
from floemap.version import __version__

CONVENTIONS = "CF-1.11, ACDD-1.3"
#: Dimensions of rasters.
DIMENSIONS = ("time", "y", "x")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_CHUNK = 512
_NOT_GIVEN = "not given"
_EMAIL = re.compile(r"[^@\s<>]+@[^@\s<>]+")

#: Dimensions, values and attributes of a variable.
Variable = tuple[tuple[str, ...], NDArray[Any], dict[str, Any]]


def write_cf(
    path: Path,
    variables: Mapping[str, Variable],
    geobox: GeoBox,
    *,
    start: datetime,
    stop: datetime,
    attributes: Mapping[str, str],
) -> None:
    """Write rasters, (1, rows, cols) each, and further variables, whole or not at all.

    Parameters
    ----------
    path
        Path of the file.
    variables
        Variables by name; those with :data:`DIMENSIONS` get the grid mapping.
    geobox
        Grid of the rasters.
    start, stop
        Start and end of the acquisition, with a time zone.
    attributes
        Global attributes, in addition to those of :func:`acdd_attributes`.

    Raises
    ------
    OutputError
        If the file cannot be written.
    """
    coordinates = xarray_coords(geobox)
    for axis in ("x", "y"):
        coordinates[axis][2]["long_name"] = f"{axis} coordinate of the projection"
        coordinates[axis][2]["coverage_content_type"] = "coordinate"
    about_map = coordinates["spatial_ref"][2] | {"long_name": "map projection"}
    coordinates["spatial_ref"] = ((), np.int32(0), about_map)
    coordinates["time"], bounds = _time(start, stop)
    mapped = {
        name: (dims, values, told | ({"grid_mapping": "spatial_ref"} if dims == DIMENSIONS else {}))
        for name, (dims, values, told) in variables.items()
    }
    told = {"Conventions": CONVENTIONS} | acdd_attributes(geobox, start, stop, attributes) | dict(attributes)
    dataset = xr.Dataset(mapped | {"time_bounds": bounds}, coordinates, told)
    encoding: dict[str, dict[str, Any]] = {name: _packing(v.shape) for name, (_, v, _) in mapped.items() if v.ndim > 1}
    encoding |= {name: {"_FillValue": None} for name in ("time", "time_bounds", "y", "x")}
    # In memory first, and written by Python, which raises an error on a full disk: HDF5 may not until it closes.
    content = dataset.to_netcdf(engine="h5netcdf", encoding=encoding)
    with os_errors(path):
        path.write_bytes(content)


def acdd_attributes(
    geobox: GeoBox, start: datetime, stop: datetime, given: Mapping[str, str]
) -> dict[str, str | float]:
    """Return the global attributes of ACDD 1.3, highly recommended, recommended and suggested.

    Parameters
    ----------
    geobox
        Grid of the file.
    start, stop
        Start and end of the acquisition, with a time zone.
    given
        Facts about the file; `contact`, `attribution`, `created`, `model`, `product`, `comment` and `title` are used.
    """
    contact = given.get("contact", _NOT_GIVEN)
    email = _EMAIL.search(contact)
    created = given.get("created", _NOT_GIVEN)
    who = {"name": contact, "url": _NOT_GIVEN, "email": email[0] if email else _NOT_GIVEN, "institution": contact}
    west, south, east, north = lonlat_extent(geobox)
    crs = crs_of(geobox)
    box = geobox.boundingbox
    cell = f"{abs(geobox.resolution.x):g} m"
    return {
        "summary": f"{given.get('title', 'Ice chart')}: ice types and concentrations that models estimate from "
        f"Sentinel-1 radar images, pixel by pixel. {given.get('comment', '')}".strip(),
        "keywords": ", ".join(
            f"EARTH SCIENCE > CRYOSPHERE > SEA ICE > {word}" for word in ("SEA ICE CONCENTRATION", "ICE TYPES")
        ),
        "keywords_vocabulary": "GCMD Science Keywords",
        "standard_name_vocabulary": "CF Standard Name Table v85",
        "cdm_data_type": "Grid",
        "id": f"{given.get('product', 'ice_chart')}_{cell.replace(' ', '')}",
        "naming_authority": _NOT_GIVEN,
        "product_version": f"floemap {__version__}",
        "processing_level": "Level 3",
        "program": "Copernicus",
        "project": _NOT_GIVEN,
        "platform": "Sentinel-1",
        "instrument": "C-SAR",
        "acknowledgement": given.get("attribution", _NOT_GIVEN),
        "license": _NOT_GIVEN,
        "metadata_link": _NOT_GIVEN,
        "contributor_name": given.get("model", _NOT_GIVEN),
        "contributor_role": "model of ice types",
        **{f"{role}_{what}": words for role in ("creator", "publisher") for what, words in who.items()},
        "creator_type": "institution",
        "publisher_type": "institution",
        **{f"date_{what}": created for what in ("created", "modified", "issued", "metadata_modified")},
        "geospatial_lat_min": south,
        "geospatial_lat_max": north,
        "geospatial_lat_units": "degrees_north",
        "geospatial_lat_resolution": cell,
        "geospatial_lon_min": west,
        "geospatial_lon_max": east,
        "geospatial_lon_units": "degrees_east",
        "geospatial_lon_resolution": cell,
        "geospatial_vertical_min": 0.0,
        "geospatial_vertical_max": 0.0,
        "geospatial_vertical_units": "m",
        "geospatial_vertical_positive": "up",
        "geospatial_vertical_resolution": "0 m",
        "geospatial_bounds": shapely.box(box.left, box.bottom, box.right, box.top).wkt,
        "geospatial_bounds_crs": f"EPSG:{crs.epsg}" if crs.epsg else crs.to_wkt(),
        "geospatial_bounds_vertical_crs": "EPSG:5714",
        "time_coverage_start": f"{start.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}",
        "time_coverage_end": f"{stop.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}",
        "time_coverage_duration": _duration(stop - start),
        "time_coverage_resolution": _duration(stop - start),
    }


def _duration(span: timedelta) -> str:
    """Return a span of time in ISO 8601."""
    return f"PT{span.total_seconds():g}S"


def _time(start: datetime, stop: datetime) -> tuple[Variable, Variable]:
    """Return the time and its bounds."""
    bounds = np.array([[(t - _EPOCH).total_seconds() for t in (start, stop)]])
    attributes = {
        "standard_name": "time",
        "long_name": "time of the radar acquisition",
        "units": "seconds since 1970-01-01 00:00:00",
        "calendar": "standard",
        "units_metadata": "leap_seconds: none",
        "axis": "T",
        "bounds": "time_bounds",
        "coverage_content_type": "coordinate",
    }
    return (("time",), bounds.mean(axis=1), attributes), (("time", "edge"), bounds, {})


def _packing(shape: tuple[int, ...]) -> dict[str, Any]:
    """Return the encoding of a raster: square chunks, compressed by DEFLATE."""
    return {"zlib": True, "complevel": 1, "chunksizes": (*shape[:-2], *(min(_CHUNK, n) for n in shape[-2:]))}
