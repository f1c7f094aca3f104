"""The table of a draft chart: SIGRID-3's fields by the legend, and further columns about each polygon.

Only what the model estimates is written. It predicts classes, so an ice polygon has a stage of development, SA, while
concentrations and forms are unknown (99). Open water is a concentration: less than one tenth, 01. Each polygon has one
type; the fields of further types are empty (-9).
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Any

import geopandas as gpd
import numpy as np
import shapely

from floemap.icechart.draw.polygonize import ChartPolygons
from floemap.icechart.read.codes import NOT_GIVEN
from floemap.legend import LAND, Legend

#: Status in every draft chart.
STATUS = "draft, not for navigation"
#: Hint for files that are incomplete after writing.
CHECK_SPACE = "Check the free space on its disk."

#: Fields in their order, with their meaning. Up to POLY_TYPE they are SIGRID-3's; names have at most ten characters.
FIELDS: Mapping[str, str] = MappingProxyType(
    {
        "AREA": "Area of the polygon on the map, whole square metres",
        "PERIMETER": "Perimeter of the polygon on the map, whole metres",
        "CT": "Total concentration; 99 where it was not estimated",
        "CA": "Partial concentration of the ice type; 99 where it was not estimated",
        "SA": "Stage of development of the ice type",
        "FA": "Form of the ice type; 99 where it was not estimated",
        "CB": "Partial concentration of a second type; one type is given",
        "SB": "Stage of development of a second type; one type is given",
        "FB": "Form of a second type; one type is given",
        "CC": "Partial concentration of a third type; one type is given",
        "SC": "Stage of development of a third type; one type is given",
        "FC": "Form of a third type; one type is given",
        "CN": "Stage of development of traces of thicker ice; not estimated",
        "CD": "Stage of development of remaining ice; not estimated",
        "CF": "Predominant and secondary form; 99 where they were not estimated",
        "POLY_TYPE": "Type of polygon: I ice, W water, L land",
        "CLASS": "Class in the model's legend by the codes, or land; QGIS updates it, and the codes have precedence",
        "CONFIDENCE": "Mean probability of the class in the polygon, 0 to 1",
        "AREA_KM2": "Area of the polygon on the ellipsoid, square kilometres",
        "SECOND": "Second most likely class",
        "SECOND_P": "Mean probability of the second most likely class, 0 to 1",
        "REVIEW": "Order of review: 1 has the largest area that is expected to be wrong, AREA_KM2 x (1 - CONFIDENCE)",
        "OOD": "Mean out-of-distribution score: 1 is usual, more is less like the model's training scenes; empty if "
        "unknown",
        "STATUS": "Status of the chart, and what it is not for",
        "SIMULATED": "yes if made from a simulated scene or by a model trained on simulated scenes, otherwise no",
    }
)

_UNKNOWN, _EMPTY = "99", str(NOT_GIVEN)
_OPEN_WATER = "01"


def in_utc(when: datetime) -> datetime:
    """Return a time in UTC; without a time zone it is in UTC already."""
    return when.replace(tzinfo=when.tzinfo or UTC).astimezone(UTC)


def is_simulated(about: Mapping[str, Any]) -> bool:
    """Return whether facts about a chart mark it as simulated: True or "yes" under `simulated`."""
    return about.get("simulated") in (True, "yes")


def codes_of_class(class_id: int, legend: Legend) -> dict[str, str]:
    """Return the SIGRID-3 codes of a class, from CT to POLY_TYPE."""
    codes = dict.fromkeys(list(FIELDS)[2:15], _EMPTY)
    if class_id == LAND:
        return codes | {"CF": 2 * _EMPTY, "POLY_TYPE": "L"}
    if class_id == legend.water:
        return codes | {"CT": _OPEN_WATER, "CF": 2 * _EMPTY, "POLY_TYPE": "W"}
    stage = f"{legend.classes[class_id].written_as:02d}"
    ice = {"CT": _UNKNOWN, "CA": _UNKNOWN, "SA": stage, "FA": _UNKNOWN, "CF": _UNKNOWN + _EMPTY, "POLY_TYPE": "I"}
    return codes | ice


def chart_table(chart: ChartPolygons, about: Mapping[str, Any]) -> gpd.GeoDataFrame:
    """Return the table of a chart for writing, in the grid's CRS: :data:`FIELDS` and geometry, one row per polygon.

    Parameters
    ----------
    about
        Facts about the chart, by name; `simulated` is written into the table.
    """
    rows, legend = chart.polygons, chart.legend
    by_class = {i: codes_of_class(i, legend) for i in (*legend.titles, LAND)}
    shapes = np.asarray(rows.geometry)
    # Whole metres: GDAL writes reals with 15 decimals, and then large areas do not fit a shapefile's column.
    columns: dict[str, Any] = {
        "AREA": shapely.area(shapes).round().astype(np.int64),
        "PERIMETER": shapely.length(shapes).round().astype(np.int64),
    }
    ids = rows["class_id"].tolist()
    columns |= {name: np.array([by_class[i][name] for i in ids], object) for name in by_class[LAND]}
    columns |= {
        "CLASS": rows["class_key"].to_numpy(object),
        "CONFIDENCE": rows["confidence"].to_numpy().round(4),
        "AREA_KM2": rows["area_km2"].to_numpy().round(4),
        "SECOND": rows["second_key"].to_numpy(object),
        "SECOND_P": rows["second_share"].to_numpy().round(4),
        "REVIEW": rows["review_rank"].to_numpy(np.int32),
        "OOD": rows["out_of_distribution"].to_numpy().round(2),
        "STATUS": np.full(len(rows), STATUS, object),
        "SIMULATED": np.full(len(rows), "yes" if is_simulated(about) else "no", object),
    }
    return gpd.GeoDataFrame({name: columns[name] for name in FIELDS}, geometry=shapes, crs=rows.crs)
