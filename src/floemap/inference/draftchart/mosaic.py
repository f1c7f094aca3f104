"""One chart of several scenes: their concentrations on the common polar grid, cell by cell from one of them.

The result folder has ``mosaic.nc``, by the CF conventions and ACDD as ``grid.nc`` of a chart, and ``mosaic.json``, the
record. A cell has the values of one scene only, so that its types still sum to its total; ``scene`` and
``observation_time`` say of which, and when it was seen.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import numpy as np
import xarray as xr
from affine import Affine
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox

from floemap.errors import MISSHAPEN, ChartError, ConfigError
from floemap.files import regular_file
from floemap.grid import brief, crs_of, describe_grid, same_crs
from floemap.icechart.read.file_crs import crs_of_file
from floemap.icechart.write.table import STATUS
from floemap.inference.draftchart.cf_files import DIMENSIONS, Variable, write_cf
from floemap.inference.draftchart.fractions import OF_TYPE, TOTAL
from floemap.inference.draftchart.polar_grid import CONFIDENCE, COVERAGE, Floats, cell_variables
from floemap.results.folders import made_of, refuse_replacing, stage_folder, told_sources
from floemap.results.names import place_in
from floemap.results.stage import Stage, is_finished, provenance, sha256, write_json

logger = logging.getLogger(__name__)

#: Which of the scenes that have a cell gives its values.
Prefer = Literal["newest", "certain"]
STAGE = Stage("floemap mosaic", "mosaic.json", revision=0, files=("mosaic.nc",))
FILE, GRID_FILE = "mosaic.nc", "grid.nc"
#: Most cells of a mosaic. All ice of the Arctic has some sixty million cells of 1 km.
MOST_CELLS = 100_000_000
_AGAIN = "Give a folder of `floemap chart`, or its grid.nc."


@dataclass(frozen=True)
class Mosaic:
    """A finished mosaic folder; `skipped` if it was finished before."""

    folder: Path
    skipped: bool = False

    @property
    def raster(self) -> Path:
        """The mosaic."""
        return self.folder / FILE


@dataclass(frozen=True)
class _Tile:
    """The concentrations of one chart: its file, grid, times, global attributes, and attributes of its variables."""

    path: Path
    cells: GeoBox
    start: datetime
    stop: datetime
    attributes: dict[str, str]
    told: dict[str, dict[str, str]]
    names: tuple[str, ...]

    def values(self, *names: str) -> list[Floats]:
        """Return variables, percent, (rows, cols) each, not-a-number for no-data."""
        with _opened(self.path) as data:
            return [np.asarray(data[name].values[0], np.float32) for name in names]


def make_mosaic(
    charts: Sequence[str | Path],
    out: str | Path,
    *,
    name: str = "mosaic",
    prefer: Prefer = "newest",
    overwrite: bool = False,
) -> Mosaic:
    """Put the concentrations of several charts together.

    Parameters
    ----------
    charts
        Folders of ``floemap chart``, or their ``grid.nc``, on the same grid and of the same legend.
    out
        Folder in which a folder `name` is made.
    name
        Name of the mosaic.
    prefer
        The scene that gives a cell its values: the newest, or the one whose mean probability of the most probable class
        is largest there; of equal ones the newest.
    overwrite
        Make it again even where it is finished with the same charts and settings.

    Raises
    ------
    ChartError
        If a chart has no concentrations on the common grid, or they do not fit those of the others.
    ConfigError
        If no chart is given, `prefer` is something else, or the mosaic would be too large.
    OutputError
        If the result cannot be written.
    """
    if not charts or prefer not in ("newest", "certain"):
        what = "no chart is given" if not charts else f"prefer is {prefer!r}"
        raise ConfigError(f"{what}.", hint="Give at least one chart, and newest or certain.")
    files = [_file_of(Path(chart)) for chart in charts]
    folder = place_in(Path(out), name, "the mosaic", kind=ConfigError)
    inputs = {"charts": sorted(sha256(file) for file in files)}
    configuration = {"prefer": prefer}
    if not overwrite and is_finished(folder, STAGE, (FILE,), inputs=inputs, configuration=configuration):
        logger.info("%s is finished already", folder)
        return Mosaic(folder, skipped=True)
    sources = {f"chart {i}": file for i, file in enumerate(files, 1)}
    refuse_replacing(folder, STAGE, sources=sources, inputs=inputs, replace_others=overwrite)  # before the work
    tiles = sorted((_read(file) for file in files), key=lambda tile: (tile.start, tile.path.parent.name))
    cells = _common(tiles)
    chosen = _choose(tiles, cells, prefer)
    with stage_folder(folder, STAGE, sources=sources, inputs=inputs, replace_others=overwrite) as partial:
        variables, attributes = _variables(tiles, cells, chosen), _attributes(tiles, prefer)
        record = provenance(STAGE, inputs=inputs, configuration=configuration)
        attributes |= {"created": record["created"], "history": f"{record['created']} {record['software']} mosaic"}
        start, stop = min(t.start for t in tiles), max(t.stop for t in tiles)
        write_cf(partial / FILE, variables, cells, start=start, stop=stop, attributes=attributes)
        record |= {"simulated": attributes["simulated"] == "yes", "status": STATUS, "grid": describe_grid(cells)}
        record |= {"scenes": _counted(tiles, chosen), "sources": told_sources(folder, sources)}
        write_json(partial / STAGE.record, record | {"bytes": made_of(partial)})
    return Mosaic(folder)


def _file_of(chart: Path) -> Path:
    if chart.is_dir() and not (chart / GRID_FILE).is_file():
        raise ChartError(f"has no {GRID_FILE}.", path=chart, hint="Make it with `floemap chart --only grid`.")
    return regular_file(chart / GRID_FILE if chart.is_dir() else chart, ChartError)


def _opened(path: Path) -> xr.Dataset:
    try:
        return xr.open_dataset(path, engine="h5netcdf", decode_times=False)
    except (OSError, *MISSHAPEN) as e:
        raise ChartError(f"is not a readable NetCDF file: {str(e)[:100]}.", path=path, hint=_AGAIN) from e


def _read(path: Path) -> _Tile:
    """Read what a file says of itself.

    Raises
    ------
    ChartError
        If it is not a file of concentrations on a common grid.
    """
    with _opened(path) as data:
        try:
            known = (TOTAL, CONFIDENCE, COVERAGE)
            names = tuple(n for n in map(str, data.data_vars) if n in known or n.startswith(OF_TYPE))
            if not {*known} <= {*names} or "legend" not in data.attrs:
                raise ChartError("has no concentrations on a common grid.", path=path, hint=_AGAIN)
            cells = _cells(data, path)
            if any(data[n].shape != (1, *cells.shape) for n in names):
                raise ChartError("has variables of different shapes.", path=path, hint=_AGAIN)
            start, stop = (datetime.fromtimestamp(float(t), UTC) for t in data["time_bounds"].values[0])
            keys = ("standard_name", "long_name", "comment")
            told = {n: {k: str(data[n].attrs[k]) for k in keys} for n in names if n not in known[1:]}
            return _Tile(path, cells, start, stop, {k: str(v) for k, v in data.attrs.items()}, told, names)
        except (OSError, *MISSHAPEN) as e:
            message = f"is not a file of concentrations as floemap writes it: {str(e)[:100]}."
            raise ChartError(message, path=path, hint=_AGAIN) from e


def _cells(data: xr.Dataset, path: Path) -> GeoBox:
    """Return the grid of a file, whose cells must lie at multiples of their size."""
    mapping = data["spatial_ref"].attrs
    x, size, skew, y, turned, down = map(float, str(mapping["GeoTransform"]).split())
    _, rows, cols = data[TOTAL].shape
    placed = size > 0 and down == -size and not skew and not turned
    if not placed or any(abs(v / size - round(v / size)) > 1e-6 for v in (x, y)):
        raise ChartError("has a grid whose cells do not lie at multiples of their size.", path=path, hint=_AGAIN)
    if rows * cols > MOST_CELLS:
        raise ChartError(f"has {rows * cols:,} cells; floemap reads up to {MOST_CELLS:,}.", path=path)
    crs = crs_of_file(str(mapping["crs_wkt"]), None, path=path)
    return GeoBox((rows, cols), Affine(size, 0, x, 0, -size, y), crs)


def _common(tiles: Sequence[_Tile]) -> GeoBox:
    """Return the grid of all tiles together; refuse tiles that do not fit the first."""
    first = tiles[0]
    for tile in tiles[1:]:
        alike = tile.attributes["legend"] == first.attributes["legend"] and set(tile.names) == set(first.names)
        if not alike:
            raise ChartError(f"has other ice types than {first.path}.", path=tile.path, hint="Use one model for all.")
        if not same_crs(crs_of(tile.cells), crs_of(first.cells)) or tile.cells.resolution != first.cells.resolution:
            what = f"is on another grid ({brief(tile.cells)}) than {first.path} ({brief(first.cells)})."
            raise ChartError(what, path=tile.path, hint="Charts of both poles, or of different --cell, do not fit.")
    size = float(first.cells.resolution.x)
    boxes = [tile.cells.boundingbox for tile in tiles]
    left, top = min(b.left for b in boxes), max(b.top for b in boxes)
    rows = round((top - min(b.bottom for b in boxes)) / size)
    cols = round((max(b.right for b in boxes) - left) / size)
    if rows * cols > MOST_CELLS:
        message = f"the mosaic would have {rows * cols:,} cells; floemap makes up to {MOST_CELLS:,}."
        raise ConfigError(message, hint="Give charts that lie closer together, or of larger cells.")
    return GeoBox((rows, cols), Affine(size, 0, left, 0, -size, top), first.cells.crs)


def _window(tile: _Tile, cells: GeoBox) -> tuple[slice, slice]:
    """Return where a tile lies in the mosaic."""
    size = float(cells.resolution.x)
    row, col = (
        round((cells.transform.f - tile.cells.transform.f) / size),
        round((tile.cells.transform.c - cells.transform.c) / size),
    )
    rows, cols = tile.cells.shape
    return slice(row, row + rows), slice(col, col + cols)


def _choose(tiles: Sequence[_Tile], cells: GeoBox, prefer: Prefer) -> NDArray[np.int16]:
    """Return the number of the tile that gives each cell its values, (rows, cols); -1 for none."""
    chosen = np.full(tuple(cells.shape), -1, np.int16)
    best = np.full(tuple(cells.shape), -np.inf, np.float32)
    for number, tile in enumerate(tiles):  # from the oldest to the newest
        window = _window(tile, cells)
        total, confidence = tile.values(TOTAL, CONFIDENCE)
        sure = np.where(np.isnan(total), -np.inf, np.nan_to_num(confidence))
        better = np.isfinite(sure) if prefer == "newest" else np.isfinite(sure) & (sure >= best[window])
        chosen[window][better] = number
        best[window][better] = sure[better]
    return chosen


def _variables(tiles: Sequence[_Tile], cells: GeoBox, chosen: NDArray[np.int16]) -> dict[str, Variable]:
    shape = tuple(cells.shape)
    values = {name: np.full(shape, np.nan, np.float32) for name in tiles[0].names}
    seen = np.full(shape, np.nan)
    for number, tile in enumerate(tiles):
        window = _window(tile, cells)
        here = chosen[window] == number
        for name, own in zip(tiles[0].names, tile.values(*tiles[0].names), strict=True):
            values[name][window][here] = own[here]
        seen[window][here] = (tile.start.timestamp() + tile.stop.timestamp()) / 2
    variables = cell_variables(values, tiles[0].told, cells)
    names = [re.sub(r"[^A-Za-z0-9_.+@-]", "_", t.attributes.get("product", t.path.parent.name)) for t in tiles]
    flags: dict[str, Any] = {
        "long_name": "scene that gives the values",
        "flag_values": np.arange(len(tiles), dtype=np.int16),
        "flag_meanings": " ".join(names),
        "_FillValue": np.int16(-1),
        "coordinates": "lat lon",
        "coverage_content_type": "referenceInformation",
    }
    times: dict[str, Any] = {
        "standard_name": "time",
        "long_name": "middle of the acquisition that gives the values",
        "units": "seconds since 1970-01-01 00:00:00",
        "calendar": "standard",
        "units_metadata": "leap_seconds: none",
        "_FillValue": np.nan,
        "coordinates": "lat lon",
        "coverage_content_type": "referenceInformation",
    }
    return variables | {"scene": (DIMENSIONS, chosen[None], flags), "observation_time": (DIMENSIONS, seen[None], times)}


def _attributes(tiles: Sequence[_Tile], prefer: Prefer) -> dict[str, str]:
    def of_all(key: str) -> str:
        return "; ".join(dict.fromkeys(tile.attributes.get(key, "not given") for tile in tiles))

    simulated = any(tile.attributes.get("simulated") != "no" for tile in tiles)
    words = "the newest scene" if prefer == "newest" else "the scene of the most certain classes"
    return {
        "title": f"Mosaic of {len(tiles)} draft ice charts",
        "comment": f"{STATUS}. {'SIMULATED. ' if simulated else ''}Each cell has the values of {words} that has it.",
        "simulated": "yes" if simulated else "no",
        "legend": tiles[0].attributes["legend"],
        **{
            key: of_all(key)
            for key in ("product", "model", "source", "institution", "contact", "attribution", "concentrations")
        },
        "references": tiles[0].attributes.get("references", "not given"),
    }


def _counted(tiles: Sequence[_Tile], chosen: NDArray[np.int16]) -> list[dict[str, Any]]:
    """Return name, time and number of cells of each scene, for the record."""
    counts = np.bincount(chosen[chosen >= 0], minlength=len(tiles)).tolist()
    return [
        {"product": t.attributes.get("product", ""), "start": t.start.isoformat(), "cells": int(n)}
        for t, n in zip(tiles, counts, strict=True)
    ]
