"""Concentrations on a common polar grid: means of a scene's pixels over its cells, so that scenes fit each other.

The grid has cells of whole metres, whose corners lie at multiples of their size, in the polar stereographic projections
of NSIDC: EPSG:3413 in the north, EPSG:3031 in the south. GDAL's warper weights every mean by the area of each pixel
within a cell. A cell has a value if pixels with data cover at least half of it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyproj
from affine import Affine
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox
from rasterio.enums import Resampling
from rasterio.warp import reproject

from floemap.grid import lonlat_extent, map_crs_of
from floemap.icechart.read.sigrid3 import POLAR_NORTH, POLAR_SOUTH
from floemap.inference.draftchart.cf_files import DIMENSIONS, Variable, write_cf
from floemap.inference.draftchart.fractions import confidence_of, fractions_of
from floemap.inference.draftchart.netcdf import fraction_attributes
from floemap.inference.predict.scene_maps import NO_VALUE, STEP, SceneMaps

#: Names of further variables: mean probability of the most probable class, and share of a cell with data.
CONFIDENCE, COVERAGE = "confidence", "coverage"
#: Least share of a cell that pixels with data must cover.
LEAST = 0.5
#: Points along each side of a scene at which its extent on the polar grid is computed.
_POINTS = 65

Floats = NDArray[np.float32]


def polar_grid(geobox: GeoBox, cell_m: float) -> GeoBox:
    """Return the part of the common grid that contains a scene's grid.

    Raises
    ------
    GridError
        If the scene's grid has no place on the map.
    """
    crs = map_crs_of(geobox)
    _, south, _, north = lonlat_extent(geobox)
    target = POLAR_SOUTH if south + north < 0 else POLAR_NORTH
    b = geobox.boundingbox
    x, y = np.meshgrid(np.linspace(b.left, b.right, _POINTS), np.linspace(b.bottom, b.top, _POINTS))
    x, y = pyproj.Transformer.from_crs(crs.proj, target, always_xy=True).transform(x, y)
    left, right = math.floor(x.min() / cell_m), math.ceil(x.max() / cell_m)
    bottom, top = math.floor(y.min() / cell_m), math.ceil(y.max() / cell_m)
    transform = Affine(cell_m, 0, left * cell_m, 0, -cell_m, top * cell_m)
    return GeoBox((max(top - bottom, 1), max(right - left, 1)), transform, target)


def cell_means(values: NDArray[np.uint8], geobox: GeoBox, cells: GeoBox) -> Floats:
    """Return the means of pixels over cells, weighted by area, (rows, cols); not-a-number where no pixel has data.

    Parameters
    ----------
    values
        Values of pixels, (rows, cols), :data:`floemap.inference.predict.scene_maps.NO_VALUE` for no-data.
    geobox, cells
        Grids of the pixels and of the cells.
    """
    return _warped(values, geobox, cells, nodata=NO_VALUE)


def cell_coverage(known: NDArray[np.bool_], geobox: GeoBox, cells: GeoBox) -> Floats:
    """Return the share of each cell that pixels with data cover, (rows, cols), 0 to 1."""
    # Pixels without data all around, as cells beyond the scene's edge would not count for the warper.
    margin = math.ceil(abs(cells.resolution.x / geobox.resolution.x)) + 1
    around = np.pad(known.astype(np.uint8), margin)
    rows, cols = around.shape
    wider = GeoBox((rows, cols), geobox.transform * Affine.translation(-margin, -margin), geobox.crs)
    return np.nan_to_num(_warped(around, wider, cells, nodata=None))


def _warped(values: NDArray[np.uint8], geobox: GeoBox, cells: GeoBox, *, nodata: int | None) -> Floats:
    out = np.full(tuple(cells.shape), np.nan, np.float32)
    reproject(
        values,
        out,
        src_transform=geobox.transform,
        src_crs=map_crs_of(geobox).to_wkt(),
        src_nodata=nodata,
        dst_transform=cells.transform,
        dst_crs=map_crs_of(cells).to_wkt(),
        dst_nodata=np.nan,
        resampling=Resampling.average,
    )
    return out


def grid_variables(maps: SceneMaps, cells: GeoBox) -> dict[str, Floats]:
    """Return the variables of a scene on the common grid, percent, (rows, cols) each, not-a-number for no-data.

    They are the total concentration, the concentration of each type, :data:`CONFIDENCE` and :data:`COVERAGE`.
    """
    covered = cell_coverage(maps.classes != NO_VALUE, maps.geobox, cells)
    rasters = fractions_of(maps) | {CONFIDENCE: confidence_of(maps)}
    percent = {name: 100 * STEP * cell_means(values, maps.geobox, cells) for name, values in rasters.items()}
    kept = {name: np.where(covered >= LEAST, values, np.float32(np.nan)) for name, values in percent.items()}
    return kept | {COVERAGE: 100 * covered}


def write_grid(
    path: Path,
    maps: SceneMaps,
    cell_m: float,
    *,
    start: datetime,
    stop: datetime,
    attributes: Mapping[str, str],
    concentrations: str,
) -> None:
    """Write the concentrations of a scene on the common grid, whole or not at all.

    Parameters
    ----------
    path
        Path of the file.
    maps
        Classes, probabilities and further predictions of each pixel.
    cell_m
        Size of a cell, metres.
    start, stop
        Start and end of the acquisition, with a time zone.
    attributes
        Global attributes: title, source, history and others.
    concentrations
        What the concentrations are estimated from, in words.

    Raises
    ------
    GridError
        If the scene's grid has no place on the map.
    OutputError
        If the file cannot be written.
    """
    cells = polar_grid(maps.geobox, cell_m)
    told = fraction_attributes(maps.legend, concentrations)
    variables = cell_variables(grid_variables(maps, cells), told, cells)
    attributes = dict(attributes) | {"legend": maps.legend.name}
    write_cf(path, variables, cells, start=start, stop=stop, attributes=attributes)


def cell_variables(
    values: Mapping[str, Floats], told: Mapping[str, Mapping[str, str]], cells: GeoBox
) -> dict[str, Variable]:
    """Return variables of cells as files have them, with the latitude and longitude of each cell's centre.

    Parameters
    ----------
    values
        Percents by name, (rows, cols) each.
    told
        Attributes of the concentrations by name.
    """
    further = {
        CONFIDENCE: {"long_name": "mean probability of the most probable class", "coverage": "qualityInformation"},
        COVERAGE: {"long_name": "share of the cell with data", "coverage": "qualityInformation"},
    }
    made: dict[str, Variable] = {}
    for name, percent in values.items():
        own = dict(told.get(name) or further[name])
        kind = own.pop("coverage", "modelResult")
        attributes: dict[str, Any] = own | {
            "units": "%",
            "valid_range": np.array([0, 100], np.float32),
            "_FillValue": np.float32(np.nan),
            "cell_methods": "area: mean",
            "coordinates": "lat lon",
            "coverage_content_type": kind,
        }
        made[name] = (DIMENSIONS, percent.clip(0, 100).round(1)[None], attributes)
    return made | _positions(cells)


def _positions(cells: GeoBox) -> dict[str, Variable]:
    t = cells.transform
    rows, cols = cells.shape
    x, y = np.meshgrid(t.c + (np.arange(cols) + 0.5) * t.a, t.f + (np.arange(rows) + 0.5) * t.e)
    lon, lat = pyproj.Transformer.from_crs(map_crs_of(cells).proj, "EPSG:4326", always_xy=True).transform(x, y)
    words = {
        "lat": (lat, "latitude", "degrees_north"),
        "lon": (lon, "longitude", "degrees_east"),
    }
    return {
        name: (
            ("y", "x"),
            np.asarray(values, np.float64),
            {"standard_name": long, "long_name": long, "units": units, "coverage_content_type": "coordinate"},
        )
        for name, (values, long, units) in words.items()
    }
