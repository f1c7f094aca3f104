"""POLARIS on a draft chart: the risk of each polygon for an ice class of ships, as polygons and as a raster.

Advisory: see :data:`floemap.icechart.polaris.ADVISORY`. These are files of their own: in the chart, which an analyst
edits, the risk would soon not fit the codes any more.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from types import MappingProxyType
from typing import Any

import geopandas as gpd
import numpy as np
import pandas as pd
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox

from floemap.cog import STRIP_ROWS, Band, CogWriter
from floemap.icechart.draw.polygonize import ChartPolygons
from floemap.icechart.label.rasterize import rasterize_polygons
from floemap.icechart.polaris import ADVISORY, LEVEL_RGB, Level, operation_levels, ship_class
from floemap.icechart.read.codes import NOT_GIVEN, parse_codes
from floemap.icechart.read.columns import CODE_COLUMNS
from floemap.icechart.read.sigrid3 import Chart, ChartReport
from floemap.icechart.regimes import Regimes, regimes
from floemap.icechart.write.qgis_style import levels_style
from floemap.icechart.write.table import DRAFT, ChartTable, chart_table
from floemap.icechart.write.vector import write_geopackage
from floemap.legend import IGNORE
from floemap.qgis_raster import palette_style, write_style

Floats = NDArray[np.float64]

#: Fields of the polygons beside those of SIGRID-3 and CLASS, with their meaning.
FIELDS: Mapping[str, str] = MappingProxyType(
    {
        "ICE_CLASS": "Ice class of the ship",
        "RIO": "Risk index outcome by the polygon's shares; unknown ice counts as the worst; empty on land",
        "RIO_LOW": "Lowest outcome that the codes allow",
        "RIO_HIGH": "Highest outcome that the codes allow",
        "LEVEL": "Level of operation of RIO: normal, elevated, special; empty on land",
        "LEVEL_LOW": "Level of operation of RIO_LOW",
        "ADVISORY": "What the numbers are not for",
        "STATUS": "Status of the chart, and what it is not for",
        "SIMULATED": "yes if made from a simulated scene or by a model trained on simulated scenes, otherwise no",
    }
)
_KEPT = ("CT", "CA", "SA", "CB", "SB", "CC", "SC", "CN", "CD", "POLY_TYPE", "CLASS", "AREA_KM2")
#: Outcomes are stored in steps of half a point from -80, rounded down: to the safe side.
_STEP, _LOWEST = 0.5, -80.0
_SIMULATED = "simulated"


def polaris_names(ship: str) -> tuple[str, str, str]:
    """Return the names of the files of an ice class: raster, its style, polygons."""
    return f"polaris_{ship}.tif", f"polaris_{ship}.qml", f"polaris_{ship}_polygons.gpkg"


def write_polaris(
    folder: Path, ship: str, chart: ChartPolygons, geobox: GeoBox, *, start: datetime, about: Mapping[str, Any]
) -> None:
    """Write the files of an ice class, see :func:`polaris_names`, into a folder.

    The raster is on the chart's grid, uint8, no-data 255. Its bands are the level of operation (0 normal, 1 elevated,
    2 special), the outcome, its lowest and its highest bound, stored value x 0.5 - 80. A pixel has the
    values of its polygon, as the circular's areas are larger than pixels.

    Raises
    ------
    OutputError
        If a file cannot be written.
    """
    table = chart_table(chart, about)
    plain = _as_chart(table, folder)
    found = regimes(plain, ship)
    raster, _, polygons = polaris_names(found.ship)
    columns = {name: table[name] for name in _KEPT} | _columns(found, table)
    shown = gpd.GeoDataFrame(columns, geometry=np.asarray(table.geometry), crs=table.crs)
    facts = dict(about) | {"ice_class": found.ship, "advisory": ADVISORY}
    write_geopackage(
        ChartTable(shown, chart.legend, DRAFT), folder / polygons, start=start, about=facts, styles=levels_style()
    )
    tags = {k: str(v) for k, v in facts.items() if k != _SIMULATED}
    tags |= {_SIMULATED: "yes" if about[_SIMULATED] else "no", "start": start.isoformat(), "AREA_OR_POINT": "Area"}
    numbers, values = rasterize_polygons(plain, geobox), _values(found)
    with CogWriter(folder / raster, geobox, _bands(found.ship), dtype="uint8", nodata=IGNORE, tags=tags) as cog:
        for row in range(0, len(numbers), STRIP_ROWS):
            cog.write(values[:, numbers[row : row + STRIP_ROWS]])
    write_style(folder / raster, palette_style((level, level.title, LEVEL_RGB[level]) for level in Level))


def _as_chart(table: gpd.GeoDataFrame, folder: Path) -> Chart:
    """Return a table with SIGRID-3's fields as a chart that was read."""
    codes = {c: pd.array(parse_codes(table[c.upper()].tolist())[0], "Int16") for c in CODE_COLUMNS}
    for values in codes.values():
        values[values == NOT_GIVEN] = pd.NA
    shapes = np.asarray(table.geometry)
    polygons = gpd.GeoDataFrame(codes | {"poly_type": table["POLY_TYPE"].tolist()}, geometry=shapes, crs=table.crs)
    report = ChartReport(features=len(table), without_area=0, repaired=0)
    return Chart(folder, "", polygons, polygons.crs, (), tuple(table.columns), report)


def _columns(found: Regimes, table: gpd.GeoDataFrame) -> dict[str, Any]:
    names = {int(level): level.name.lower() for level in Level}
    words = [
        np.array([names.get(level) for level in operation_levels(values, found.ship).tolist()], object)
        for values in (found.outcome, found.lowest)
    ]
    n = len(table)
    outcomes = {"RIO": found.outcome, "RIO_LOW": found.lowest, "RIO_HIGH": found.highest}
    return {
        "ICE_CLASS": np.full(n, ship_class(found.ship).title, object),
        **{name: values.round(2) for name, values in outcomes.items()},
        "LEVEL": words[0],
        "LEVEL_LOW": words[1],
        "ADVISORY": np.full(n, "advisory, not for navigation", object),
        "STATUS": table["STATUS"],
        "SIMULATED": table["SIMULATED"],
    }


def _values(found: Regimes) -> NDArray[np.uint8]:
    """Return the stored values of the bands, (bands, polygons + 1); the first is of pixels without a polygon."""
    stored = np.full((4, len(found.outcome) + 1), IGNORE, np.uint8)
    stored[0, 1:] = operation_levels(found.outcome, found.ship)
    for band, values in enumerate((found.outcome, found.lowest, found.highest), 1):
        known = ~np.isnan(values)
        stored[band, 1:][known] = np.floor((values[known] - _LOWEST) / _STEP + 1e-6)
    return stored


def _bands(ship: str) -> list[Band]:
    title = ship_class(ship).title
    categories = {int(level): level.title for level in Level}
    outcomes = {
        "rio": "Risk index outcome, unknown ice as the worst",
        "rio_lowest": "Lowest risk index outcome that the codes allow",
        "rio_highest": "Highest risk index outcome that the codes allow",
    }
    return [
        Band("level", "1", f"Level of operation, {title}", overview="mode", categories=categories),
        *(Band(n, "1", f"{w}, {title}", _STEP, _LOWEST, overview="nearest") for n, w in outcomes.items()),
    ]
