"""The chart as NetCDF by the CF conventions: classes as flags, with probability and uncertainty, on the product's grid.

Only types that every version of the conventions has are used: signed bytes, so shares are whole percents. There is one
time, the middle of the acquisition, with its bounds, so charts of several scenes on one grid can be concatenated.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import xarray as xr
from numpy.typing import NDArray

from floemap.grid import xarray_coords
from floemap.inference.predict.scene_maps import NO_VALUE, STEP, SceneMaps
from floemap.inference.predict.uncertainty import MEANINGS
from floemap.results.stage import os_errors

CONVENTIONS = "CF-1.8"
#: Flag of land, used if a land mask was given, and the no-data value.
LAND_FLAG, NO_FLAG = 126, -1
_DIMENSIONS = ("time", "y", "x")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_CHUNK = 512

Variable = tuple[tuple[str, ...], NDArray[Any], dict[str, Any]]


def write_netcdf(
    path: Path,
    maps: SceneMaps,
    *,
    start: datetime,
    stop: datetime,
    attributes: Mapping[str, str],
    probabilities: bool = False,
) -> None:
    """Write classes, their probability and uncertainty, whole or not at all.

    Parameters
    ----------
    path
        Path of the file.
    maps
        Classes, probabilities and uncertainty of each pixel.
    start, stop
        Start and end of the acquisition, with a time zone.
    attributes
        Global attributes: title, source, history and others.
    probabilities
        Also write the probabilities of all classes, which makes the file several times as large.

    Raises
    ------
    OutputError
        If the file cannot be written.
    """
    variables = {"ice_class": _classes(maps), "class_probability": _percent(_own(maps), "probability of the class")}
    variables |= {name: _percent(values, MEANINGS[name]) for name, values in maps.uncertainty.items()}
    variables["ice_class"][2]["ancillary_variables"] = " ".join(list(variables)[1:])
    if probabilities:
        for c, values in zip(maps.legend.classes, maps.probabilities, strict=True):
            variables[f"probability_{c.key}"] = _percent(values, f"probability of {c.title.lower()}")
    coordinates = xarray_coords(maps.geobox)
    coordinates["spatial_ref"] = ((), np.int32(0), coordinates["spatial_ref"][2] | {"long_name": "map projection"})
    coordinates["time"], bounds = _time(start, stop)
    dataset = xr.Dataset(
        variables | {"time_bounds": bounds}, coordinates, {"Conventions": CONVENTIONS} | dict(attributes)
    )
    encoding: dict[str, dict[str, Any]] = {name: _packing(values.shape) for name, (_, values, _) in variables.items()}
    encoding |= {name: {"_FillValue": None} for name in ("time", "time_bounds", "y", "x")}
    # In memory first, and written by Python, which raises an error on a full disk: HDF5 may not until it closes.
    content = dataset.to_netcdf(engine="h5netcdf", encoding=encoding)
    with os_errors(path):
        path.write_bytes(content)


def _classes(maps: SceneMaps) -> Variable:
    flags, meanings = [c.id for c in maps.legend.classes], [c.key for c in maps.legend.classes]
    table = np.full(256, NO_FLAG, np.int8)
    table[flags] = flags
    stored = _look_up(maps.classes, table)
    if maps.land is not None:
        stored[maps.land] = LAND_FLAG
        flags, meanings = [*flags, LAND_FLAG], [*meanings, "land"]
    attributes = {
        "standard_name": "sea_ice_classification",
        "long_name": f"class of the dominant ice type, legend {maps.legend.name}",
        "flag_values": np.array(flags, np.int8),
        "flag_meanings": " ".join(meanings),
        "_FillValue": np.int8(NO_FLAG),
        "grid_mapping": "spatial_ref",
    }
    return _DIMENSIONS, stored[None], attributes


def _own(maps: SceneMaps) -> NDArray[np.uint8]:
    """Return the probability of the class of each pixel, as stored."""
    own = np.full(maps.classes.shape, NO_VALUE, np.uint8)
    for c, probability in zip(maps.legend.classes, maps.probabilities, strict=True):
        np.copyto(own, probability, where=maps.classes == c.id)
    return own


def _percent(stored: NDArray[np.uint8], words: str) -> Variable:
    """Return stored shares in percent."""
    table = np.full(256, NO_FLAG, np.int8)
    steps = np.arange(round(1 / STEP) + 1)
    table[steps] = np.rint(100 * STEP * steps)
    attributes = {
        "long_name": words[0].lower() + words[1:],
        "units": "%",
        "valid_range": np.array([0, 100], np.int8),
        "_FillValue": np.int8(NO_FLAG),
        "grid_mapping": "spatial_ref",
    }
    return _DIMENSIONS, _look_up(stored, table)[None], attributes


def _look_up(stored: NDArray[np.uint8], table: NDArray[np.int8]) -> NDArray[np.int8]:
    """Return table[stored]; numpy would need eight bytes a pixel for the index alone."""
    return np.asarray(cv2.LUT(stored, table.view(np.uint8))).view(np.int8)


def _time(start: datetime, stop: datetime) -> tuple[Variable, Variable]:
    """Return the time and its bounds."""
    bounds = np.array([[(t - _EPOCH).total_seconds() for t in (start, stop)]])
    attributes = {
        "standard_name": "time",
        "long_name": "time of the radar acquisition",
        "units": "seconds since 1970-01-01 00:00:00",
        "calendar": "standard",
        "axis": "T",
        "bounds": "time_bounds",
    }
    return (("time",), bounds.mean(axis=1), attributes), (("time", "edge"), bounds, {})


def _packing(shape: tuple[int, ...]) -> dict[str, Any]:
    """Return the encoding of a raster: square chunks, compressed by DEFLATE."""
    return {"zlib": True, "complevel": 1, "chunksizes": (1, *(min(_CHUNK, n) for n in shape[1:]))}
