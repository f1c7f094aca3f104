"""Write a chart as a GeoPackage that QGIS shows in WMO colours, its style, and GeoJSON for web maps.

All have the table of :mod:`floemap.icechart.write.table`. Written again from the same chart, files are the same byte
for byte: dates that the formats require are those of the scene.
"""

from __future__ import annotations

import json
import math
import sqlite3
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyogrio
import pyproj
import shapely

from floemap.errors import OutputError
from floemap.icechart.draw.polygonize import ChartPolygons
from floemap.icechart.reproject import Polygons
from floemap.icechart.write.lonlat import lonlat_bounds, to_lonlat
from floemap.icechart.write.qgis_style import BY_CONFIDENCE, qgis_style, qgis_styles
from floemap.icechart.write.table import CHECK_SPACE, ChartTable, as_table
from floemap.icechart.write.times import in_utc
from floemap.legend import Legend
from floemap.results.whole_files import whole_files

#: The GeoPackage's layer.
LAYER = "ice_chart"
#: Digits of longitudes and latitudes in GeoJSON: a metre at most.
DIGITS = 5

#: Version of GeoPackage. GDAL 3.6, which is still in use, warns of later ones.
_VERSION = "1.2"

# The table in which QGIS looks for styles inside a GeoPackage, as QGIS makes it.
_STYLES = """
CREATE TABLE layer_styles (
    id INTEGER PRIMARY KEY AUTOINCREMENT NOT NULL,
    f_table_catalog TEXT(256), f_table_schema TEXT(256), f_table_name TEXT(256), f_geometry_column TEXT(256),
    styleName TEXT(30), styleQML TEXT, styleSLD TEXT, useAsDefault BOOLEAN,
    description TEXT, owner TEXT(30), ui TEXT(30), update_time DATETIME
)
"""


@dataclass(frozen=True)
class Exactness:
    """How exact the longitudes and latitudes of a file are.

    Attributes
    ----------
    digits
        Decimals of degrees.
    tolerance_m
        Edges that are straight on the map move by no more.
    """

    digits: int = DIGITS
    tolerance_m: float = 1.0

    def lonlat(self, polygons: Polygons, crs: pyproj.CRS) -> Polygons:
        """Return polygons of a map in rounded degrees, cut at the dateline, (n,)."""
        return rounded(to_lonlat(polygons, crs, self.tolerance_m), self.digits)


#: Longitudes and latitudes to a metre.
EXACT = Exactness()


def write_geopackage(
    chart: ChartPolygons | ChartTable,
    path: str | Path,
    *,
    start: datetime,
    about: Mapping[str, Any] | None = None,
    styles: Mapping[str, str] | None = None,
) -> Path:
    """Write a GeoPackage with one layer, :data:`LAYER`, its style, and `about` as metadata; return its path.

    Parameters
    ----------
    path
        Path of the file, ending in .gpkg; an existing file is replaced.
    start
        Time of the chart: of a draft, the start of the radar acquisition; with a time zone, or in UTC. It is also
        written as the time of the last change.
    about
        Facts about the chart, by name.
    styles
        Styles for QGIS by name, the default first; None for those of a chart.

    Raises
    ------
    OutputError
        If the file cannot be written whole.
    """
    path, about = Path(path), dict(about or {})
    chart = as_table(chart, about)
    table = chart.table
    shapes = shapely.orient_polygons(np.asarray(table.geometry), exterior_cw=False)
    facts = {"status": chart.status.words, "legend": chart.legend.name} | {str(k): _plain(v) for k, v in about.items()}
    with whole_files(path.parent, [path.name]) as beside:
        pyogrio.write_dataframe(
            table.set_geometry(shapes, crs=table.crs),
            beside / path.name,
            layer=LAYER,
            driver="GPKG",
            VERSION=_VERSION,
            geometry_type="Polygon",
            promote_to_multi=False,
            layer_metadata={k: v if isinstance(v, str) else json.dumps(v) for k, v in facts.items()},
        )
        if styles is None:
            styles = qgis_styles(chart.legend)
            if "CONFIDENCE" not in table:  # as in a published chart, which says nothing of the model
                del styles[BY_CONFIDENCE]
        _finish_geopackage(beside / path.name, chart.legend, styles, len(table), start)
    return path


def _finish_geopackage(path: Path, legend: Legend, styles: Mapping[str, str], polygons: int, start: datetime) -> None:
    """Add the styles, set times to that of the scene, and check that the file is complete."""
    add_styles(path, LAYER, styles, start, f"WMO colours, {legend.title}")
    with closing(sqlite3.connect(path)) as db, db:
        db.execute("UPDATE gpkg_metadata_reference SET timestamp = ?", (_gpkg_time(start),))
        (found,) = db.execute(f"SELECT count(*) FROM {LAYER}").fetchone()
        (state,) = db.execute("PRAGMA integrity_check").fetchone()
    if found != polygons or state != "ok":
        raise OutputError(f"has {found} of {polygons} polygons ({state}).", path=path, hint=CHECK_SPACE)
    date_geopackage(path, start)


def add_styles(path: Path, layer: str, styles: Mapping[str, str], when: datetime, words: str) -> None:
    """Add styles for QGIS, by name, to a GeoPackage with one layer; the first is the default, `words` describe them."""
    at = _gpkg_time(when)
    with closing(sqlite3.connect(path)) as db, db:
        (geometry,) = db.execute("SELECT column_name FROM gpkg_geometry_columns").fetchone()
        db.execute(_STYLES)
        for number, (name, style) in enumerate(styles.items(), 1):
            db.execute(
                "INSERT INTO layer_styles VALUES (?, '', '', ?, ?, ?, ?, NULL, ?, ?, '', NULL, ?)",
                (number, layer, geometry, name, style, number == 1, f"{name}, {words}", at),
            )
        db.execute(
            "INSERT INTO gpkg_contents (table_name, data_type, identifier, description, last_change, srs_id) "
            "VALUES ('layer_styles', 'attributes', 'layer_styles', '', ?, 0)",
            (at,),
        )


def date_geopackage(path: Path, when: datetime) -> None:
    """Set the time of the last change of a GeoPackage's tables, so that equal tables make equal files."""
    with closing(sqlite3.connect(path)) as db, db:
        db.execute("UPDATE gpkg_contents SET last_change = ?", (_gpkg_time(when),))


def _gpkg_time(when: datetime) -> str:
    when = in_utc(when)
    return f"{when:%Y-%m-%dT%H:%M:%S}.{when.microsecond // 1000:03d}Z"


def write_style(legend: Legend, path: str | Path) -> Path:
    """Write the style of a chart for QGIS, to a file ending in .qml; return its path.

    QGIS applies it to a file of the same name in the same folder: ``chart.qml`` beside ``chart.shp``.

    Raises
    ------
    OutputError
        If the file cannot be written.
    """
    path = Path(path)
    with whole_files(path.parent, [path.name]) as beside:
        (beside / path.name).write_text(qgis_style(legend), encoding="utf-8")
    return path


def write_geojson(
    chart: ChartPolygons | ChartTable,
    path: str | Path,
    *,
    start: datetime,
    about: Mapping[str, Any] | None = None,
    exactness: Exactness = EXACT,
) -> Path:
    """Write GeoJSON by RFC 7946: WGS84, cut at the dateline, closed around the pole; return its path.

    The member "about" has the facts about the chart; other readers ignore it.

    Parameters
    ----------
    path
        Path of the file; an existing file is replaced.
    start
        Time of the chart: of a draft, the start of the radar acquisition; with a time zone, or in UTC.
    about
        Facts about the chart, by name.
    exactness
        Digits of the coordinates, and how far edges may move.

    Raises
    ------
    ChartError
        If a polygon has no position on the earth.
    OutputError
        If the file cannot be written whole.
    """
    path, about = Path(path), dict(about or {})
    chart = as_table(chart, about)
    table = chart.table
    lonlat = exactness.lonlat(np.asarray(table.geometry), table.crs)
    facts = {"status": chart.status.words, "legend": chart.legend.name, "start": in_utc(start).isoformat()}
    facts |= {str(k): _plain(v) for k, v in about.items()}
    head = {"type": "FeatureCollection", "bbox": list(lonlat_bounds(lonlat)), "about": facts}
    rows = table.drop(columns="geometry").to_dict("records")
    with whole_files(path.parent, [path.name]) as beside, (beside / path.name).open("w", encoding="utf-8") as file:
        file.write(json.dumps(head, allow_nan=False)[:-1] + ', "features": [\n')
        for i, (row, geometry) in enumerate(zip(rows, shapely.to_geojson(lonlat), strict=True)):
            properties = json.dumps({k: _plain(v) for k, v in row.items()}, allow_nan=False)
            feature = f'{{"type": "Feature", "id": {i + 1}, "properties": {properties}, "geometry": {geometry}}}'
            file.write(feature + (",\n" if i + 1 < len(rows) else "\n"))
        file.write("]}\n")
    return path


def rounded(lonlat: Polygons, digits: int = DIGITS) -> Polygons:
    """Round longitudes and latitudes; repair polygons that become invalid."""
    near = shapely.transform(lonlat, lambda xy: np.round(xy, digits) + 0.0)
    broken = ~shapely.is_valid(near)
    if broken.any():
        # An edge that is cut less finely than its neighbours' may cross them on the way to degrees, which GEOS refuses.
        whole = shapely.make_valid(np.asarray(lonlat)[broken], method="structure", keep_collapsed=False)
        snapped = shapely.set_precision(whole, 10.0**-digits)
        near[broken] = shapely.transform(snapped, lambda xy: np.round(xy, digits) + 0.0)
    return np.asarray(shapely.orient_polygons(near, exterior_cw=False))


def _plain(value: Any) -> Any:
    """Return a value for JSON: not-a-number as null, dates and paths as text."""
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if value is None or isinstance(value, bool | int | str):
        return value
    return value.isoformat() if isinstance(value, datetime) else str(value)
