"""The table of a draft chart: SIGRID-3's fields by the legend, and further columns about each polygon.

Only what is estimated is written. With eggs (:mod:`floemap.icechart.draw.eggs`), an ice polygon has its total
concentration and up to three types, and ESTIMATED says that nobody has checked them. Without, it has one type, SA, and
its concentrations are unknown (99). Open water is a concentration: less than one tenth, 01. Forms are unknown. The
fields of further types are empty (-9); so is the partial concentration of a single type, which has the total.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from types import MappingProxyType
from typing import Any

import geopandas as gpd
import numpy as np
import shapely
from numpy.typing import NDArray

from floemap.icechart.draw.eggs import Eggs, stage_code
from floemap.icechart.draw.polygonize import ChartPolygons
from floemap.icechart.read.codes import NOT_GIVEN
from floemap.legend import IGNORE, LAND, Legend


@dataclass(frozen=True)
class Status:
    """What files say of a chart's status.

    Attributes
    ----------
    words
        The status, in the column STATUS and in all metadata.
    title, purpose, history
        Beginning of the chart's title, its purpose, and how its content came about.
    progress, current
        State of the work, and what its time is the time of, in the words of the metadata standard.
    published
        Time of publication; None for a draft.
    """

    words: str
    title: str
    purpose: str
    history: str
    progress: str
    current: str
    published: datetime | None = None


#: Status of every draft chart.
DRAFT = Status(
    words="draft, not for navigation",
    title="Draft ice chart",
    purpose="A draft for an analyst to correct.",
    history="no analyst has seen them",
    progress="In work",
    current="start of the radar acquisition",
)
#: Words of the status of every draft chart.
STATUS = DRAFT.words
#: Hint for files that are incomplete after writing.
CHECK_SPACE = "Check the free space on its disk."

#: Fields in their order, with their meaning. Up to POLY_TYPE they are SIGRID-3's; names have at most ten characters.
FIELDS: Mapping[str, str] = MappingProxyType(
    {
        "AREA": "Area of the polygon on the map, whole square metres",
        "PERIMETER": "Perimeter of the polygon on the map, whole metres",
        "CT": "Total concentration; 99 where it was not estimated",
        "CA": "Partial concentration of the thickest type; -9 if it is the only one, which has the total, 99 where it "
        "was not estimated",
        "SA": "Stage of development of the thickest type",
        "FA": "Form of the thickest type; 99 where it was not estimated",
        "CB": "Partial concentration of the second thickest type",
        "SB": "Stage of development of the second thickest type",
        "FB": "Form of the second thickest type; 99 where it was not estimated",
        "CC": "Partial concentration of the third thickest type",
        "SC": "Stage of development of the third thickest type",
        "FC": "Form of the third thickest type; 99 where it was not estimated",
        "CN": "Stage of development of a trace, less than one tenth, of ice that is thicker than SA",
        "CD": "Stage of development of a fourth, thinner type, which has what CA, CB and CC leave of CT",
        "CF": "Predominant and secondary form; 99 where they were not estimated",
        "POLY_TYPE": "Type of polygon: I ice, W water, L land",
        "CLASS": "Class of the dominant type by the codes, in the model's legend, or land; QGIS updates it, and the "
        "codes have precedence",
        "CONFIDENCE": "Mean over the polygon's pixels of the probability of each pixel's most probable class, 0 to 1: "
        "of pixels, which may be of other classes than CLASS, as water between floes; where concentrations were not "
        "estimated, mean probability of CLASS",
        "AREA_KM2": "Area of the polygon on the ellipsoid, square kilometres",
        "SECOND": "Class with the highest mean probability in the polygon besides CLASS, which may have a lower one",
        "SECOND_P": "Mean probability of SECOND over the polygon's pixels, 0 to 1",
        "REVIEW": "Order of review: 1 has the largest area that is expected to be wrong, AREA_KM2 x (1 - CONFIDENCE)",
        "OOD": "Mean out-of-distribution score: 1 is usual, more is less like the model's training scenes; empty if "
        "unknown",
        "ESTIMATED": "yes if concentrations and types are a model's estimates that nobody has checked, otherwise no",
        "CONC": "Total concentration as estimated, before it became the code CT, 0 to 1; empty if it was not estimated",
        "CONF_A": "Mean probability of type A where it is the most probable class, 0 to 1; empty if it is nowhere",
        "CONF_B": "Mean probability of type B where it is the most probable class, 0 to 1; empty if it is nowhere",
        "CONF_C": "Mean probability of type C where it is the most probable class, 0 to 1; empty if it is nowhere",
        "STATUS": "Status of the chart, and what it is not for",
        "SIMULATED": "yes if made from a simulated scene or by a model trained on simulated scenes, otherwise no",
    }
)

_UNKNOWN, _EMPTY = "99", str(NOT_GIVEN)
_OPEN_WATER, _NINE_PLUS, _TEN = "01", "91", "92"


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


def codes_of_egg(eggs: Eggs, row: int, legend: Legend) -> dict[str, str]:
    """Return the SIGRID-3 codes of a polygon's egg, from CT to POLY_TYPE; of one without ice, those of open water."""
    types = [(k, t) for k, t in zip(eggs.types[row].tolist(), eggs.tenths[row].tolist(), strict=True) if t > 0]
    if not types:
        return codes_of_class(legend.water, legend)
    total = int(eggs.total[row])
    full = _NINE_PLUS if eggs.nine_plus[row] else _TEN
    codes = dict.fromkeys(list(FIELDS)[2:15], _EMPTY)
    codes |= {"CT": full if total == 10 else f"{total}0", "CF": _UNKNOWN + _EMPTY, "POLY_TYPE": "I"}
    for letter, (class_id, tenths) in zip("ABC", types, strict=False):
        codes[f"C{letter}"] = f"{tenths}0" if len(types) > 1 else _EMPTY
        codes[f"S{letter}"], codes[f"F{letter}"] = f"{stage_code(class_id, legend):02d}", _UNKNOWN
    for class_id, _ in types[3:]:
        codes["CD"] = f"{stage_code(class_id, legend):02d}"
    if eggs.trace[row] != IGNORE:
        codes["CN"] = f"{stage_code(int(eggs.trace[row]), legend):02d}"
    return codes


def _codes(chart: ChartPolygons) -> list[dict[str, str]]:
    """Return the codes of each polygon."""
    ids, legend, eggs = chart.polygons["class_id"].tolist(), chart.legend, chart.eggs
    by_class = {i: codes_of_class(i, legend) for i in (*legend.titles, LAND)}
    if eggs is None:
        return [by_class[i] for i in ids]
    return [by_class[LAND] if i == LAND else codes_of_egg(eggs, row, legend) for row, i in enumerate(ids)]


def _certainty(eggs: Eggs | None, slot: int, count: int) -> NDArray[np.float64]:
    return np.full(count, np.nan) if eggs is None else eggs.certainty[:, slot].round(4)


@dataclass(frozen=True)
class ChartTable:
    """A chart as its files have it.

    Attributes
    ----------
    table
        One row per polygon: fields of :data:`FIELDS`, in this order, and geometry, in a CRS in metres.
    legend
        Legend of the column CLASS.
    status
        What the files say of the chart's status.
    """

    table: gpd.GeoDataFrame
    legend: Legend
    status: Status


def as_table(chart: ChartPolygons | ChartTable, about: Mapping[str, Any]) -> ChartTable:
    """Return a chart as its files have it; of polygons just drawn, a draft with the table of :func:`chart_table`."""
    if isinstance(chart, ChartTable):
        return chart
    return ChartTable(chart_table(chart, about), chart.legend, DRAFT)


def chart_table(chart: ChartPolygons, about: Mapping[str, Any]) -> gpd.GeoDataFrame:
    """Return the table of a chart for writing, in the grid's CRS: :data:`FIELDS` and geometry, one row per polygon.

    Parameters
    ----------
    about
        Facts about the chart, by name; `simulated` is written into the table.
    """
    rows, eggs = chart.polygons, chart.eggs
    shapes = np.asarray(rows.geometry)
    # Whole metres: GDAL writes reals with 15 decimals, and then large areas do not fit a shapefile's column.
    columns: dict[str, Any] = {
        "AREA": shapely.area(shapes).round().astype(np.int64),
        "PERIMETER": shapely.length(shapes).round().astype(np.int64),
    }
    codes = _codes(chart)
    columns |= {name: np.array([c[name] for c in codes], object) for name in codes[0]}
    at_sea = rows["class_id"].to_numpy() != LAND
    columns |= {
        "CLASS": rows["class_key"].to_numpy(object),
        "CONFIDENCE": rows["confidence"].to_numpy().round(4),
        "AREA_KM2": rows["area_km2"].to_numpy().round(4),
        "SECOND": rows["second_key"].to_numpy(object),
        "SECOND_P": rows["second_share"].to_numpy().round(4),
        "REVIEW": rows["review_rank"].to_numpy(np.int32),
        "OOD": rows["out_of_distribution"].to_numpy().round(2),
        "ESTIMATED": np.where(at_sea & (eggs is not None), "yes", "no").astype(object),
        "CONC": np.full(len(rows), np.nan) if eggs is None else eggs.concentration.round(4),
        **{f"CONF_{letter}": _certainty(eggs, slot, len(rows)) for slot, letter in enumerate("ABC")},
        "STATUS": np.full(len(rows), STATUS, object),
        "SIMULATED": np.full(len(rows), "yes" if is_simulated(about) else "no", object),
    }
    return gpd.GeoDataFrame({name: columns[name] for name in FIELDS}, geometry=shapes, crs=rows.crs)
