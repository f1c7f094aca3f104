"""Write a chart in S-411, edition 1.1.0 (JCOMM, 2014): an exchange set that electronic chart systems read.

The exchange set is a folder ``S411_<producer>_<name>`` with the chart, ``data/<name>.gml``, its metadata,
``support/<name>.gml.xml``, and the catalogue ``CATALOG.ICE``. The chart has the areas of ice and water as ``seaice``,
or ``lacice`` for a chart of a lake, and the ice edge as ``icelne``. Land and places without data have no features.

Attributes with several values are repeated, as often as the feature catalogue allows. S-411 has single polygons only: a
polygon is cut at the dateline, and one around a pole has an edge along it (:mod:`floemap.icechart.write.lonlat`).
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import shapely
from lxml import etree
from numpy.typing import NDArray

from floemap.errors import ChartError, ConfigError
from floemap.icechart.draw.polygonize import ChartPolygons
from floemap.icechart.read.codes import ICE_FREE_OR_UNKNOWN, NO_ICE, NOT_GIVEN, WATER_CODES, read_codes
from floemap.icechart.read.gml import ID
from floemap.icechart.read.s411 import SAYS_SIMULATED
from floemap.icechart.read.s411_codes import EGG, s411_egg
from floemap.icechart.reproject import Polygons
from floemap.icechart.write.lonlat import lonlat_bounds
from floemap.icechart.write.s411_axes import SRS_NAMES, Axes
from floemap.icechart.write.s411_metadata import SetFacts, catalogue, metadata, printable
from floemap.icechart.write.table import ChartTable, Status, as_table, is_simulated
from floemap.icechart.write.times import in_utc
from floemap.icechart.write.vector import EXACT, Exactness
from floemap.results.folders import sync_tree
from floemap.results.whole_files import whole_files

CATALOGUE = "CATALOG.ICE"
_ICE, _GML = "http://www.jcomm.info/ice", "http://www.opengis.net/gml/3.2"
#: Ice free water, as opposed to open water, by the codes of SIGRID-3.
_FREE = WATER_CODES - {1}


def s411_names(start: datetime, *, service: str = "floemap", region: str = "s1") -> tuple[str, str]:
    """Return the producer and the name of a chart, such as "floemap" and "s1-20180116T0754Z".

    Raises
    ------
    ConfigError
        If a part has other characters than letters and digits.
    """
    for what, part in (("service", service), ("region", region)):
        if not re.fullmatch(r"[A-Za-z0-9]+", part):
            raise ConfigError(f"{what} is {part!r}.", hint="In the name of a chart, use letters and digits only.")
    return service, f"{region}-{in_utc(start):%Y%m%dT%H%MZ}"


def s411_files(producer: str, name: str) -> tuple[str, ...]:
    """Return the paths of the files of an exchange set, from the folder in which it is."""
    folder = f"S411_{producer}_{name}"
    return (f"{folder}/data/{name}.gml", f"{folder}/support/{name}.gml.xml", f"{folder}/{CATALOGUE}")


def write_s411(
    chart: ChartPolygons | ChartTable,
    folder: str | Path,
    *,
    start: datetime,
    about: Mapping[str, Any] | None = None,
    producer: str | None = None,
    name: str | None = None,
    axes: Axes = "latlon",
    lake: bool = False,
    exactness: Exactness = EXACT,
) -> Path:
    """Write a chart as an exchange set of S-411, whole or not at all, and return the path of its folder.

    Parameters
    ----------
    chart
        A draft, or a table with the codes of SIGRID-3; polygons in a CRS in metres.
    folder
        Folder in which the exchange set appears; it must exist, without an exchange set of this name.
    start
        Time of the chart: of a draft, the start of the radar acquisition; with a time zone, or in UTC.
    about
        Facts about the chart, by name, for the metadata. `simulated` marks it as simulated in every file.
    producer, name
        Producer code and name of the chart, without underscores; by default those of :func:`s411_names`.
    axes
        Order of the coordinates: "latlon", as in files of ice services today and in S-100, or "lonlat", as in the text
        of edition 1.1.0. The name of the CRS in the file says which one it is.
    lake
        Whether the ice is on a lake.
    exactness
        Digits of the coordinates, and how far edges may move.

    Raises
    ------
    ChartError
        If the chart has neither ice nor water, a polygon has a code that S-411 cannot express, with its number in the
        table, or a polygon has no position on the earth.
    OutputError
        If the files cannot be written, or an exchange set of this name is there already.
    """
    about = dict(about or {})
    default_producer, default_name = s411_names(start)
    producer, name = producer or default_producer, name or default_name
    chart = as_table(chart, about)
    eggs, rows = _eggs(chart.table, lake)
    lonlat = exactness.lonlat(np.asarray(chart.table.geometry)[rows], chart.table.crs)
    parts, of = shapely.get_parts(lonlat, return_index=True)
    parts = shapely.orient_polygons(parts, exterior_cw=False)
    tree = _dataset([eggs[i] for i in of], parts, _edges(chart.table, rows[of], parts), axes, lake, exactness.digits)
    _mark(tree, chart.status, about)
    gml = etree.tostring(tree.getroottree(), xml_declaration=True, encoding="UTF-8")
    facts = SetFacts(producer, name, in_utc(start), chart.status, about, lonlat_bounds(lonlat), zlib.crc32(gml))
    support = metadata(facts)
    data_file, support_file, catalogue_file = s411_files(producer, name)
    whole = Path(catalogue_file).parent.name
    with whole_files(Path(folder), [whole]) as beside:
        for file, content in (
            (data_file, gml),
            (support_file, support),
            (catalogue_file, catalogue(facts, zlib.crc32(support), SRS_NAMES[axes], axes == "latlon")),
        ):
            (beside / file).parent.mkdir(parents=True, exist_ok=True)
            (beside / file).write_bytes(content)
        sync_tree(beside / whole)
    return Path(folder) / whole


def _eggs(table: gpd.GeoDataFrame, lake: bool) -> tuple[list[dict[str, list[int]]], NDArray[np.intp]]:
    """Return the attributes of each area of ice or water, and its row in the table, (n,)."""
    ids = np.asarray(table.index)
    codes = {column: read_codes(table[column].tolist(), column, ids).tolist() for column in EGG}
    kinds = table["POLY_TYPE"].astype(str).str.strip().str.upper().tolist()
    eggs, rows = [], []
    for row, kind in enumerate(kinds):
        egg = {column: codes[column][row] for column in EGG}
        if kind in ("L", "N") or (kind not in ("W", "I", "S") and egg["CT"] == egg["SA"] == NOT_GIVEN):
            continue
        try:
            eggs.append(s411_egg(_of_kind(egg, kind), lake=lake))
        except ValueError as e:
            hint = "Change the code in the chart, or leave S-411 out."
            raise ChartError(f"polygon {ids[row]}: {e}.", hint=hint) from e
        rows.append(row)
    if not rows:
        raise ChartError("has no polygon of ice or water.", hint="S-411 has features for ice and water only.")
    return eggs, np.array(rows)


def _of_kind(egg: Mapping[str, int], kind: str) -> dict[str, int]:
    """Return an egg with the total that its polygon's type means: water of any code, and shelves of glacier ice."""
    without_ice = all(egg[column] in NO_ICE for column in ("SA", "SB", "SC", "CD"))
    if kind == "W" or (egg["CT"] == ICE_FREE_OR_UNKNOWN and without_ice):
        total = {NOT_GIVEN: 1, ICE_FREE_OR_UNKNOWN: 0}.get(egg["CT"], egg["CT"])
        return dict.fromkeys(EGG, NOT_GIVEN) | {"CT": total if total in (*WATER_CODES, 2) else 1}
    if kind == "S" and egg["SA"] == NOT_GIVEN:
        return dict(egg) | {"SA": 98}
    return dict(egg)


def _edges(table: gpd.GeoDataFrame, rows: NDArray[np.intp], parts: Polygons) -> list[tuple[str, Any]]:
    """Return the lines of the ice edge and of the limit of open water, by feature, in longitude and latitude.

    The ice edge is between water and ice of any concentration, the limit of open water between ice of a tenth or more
    and less. A chart that has no ice-free water does not distinguish the two: its ice edge borders the open water.
    """
    ids = np.asarray(table.index)
    kinds = table["POLY_TYPE"].astype(str).str.strip().str.upper().to_numpy(object)[rows]
    total = read_codes(table["CT"].tolist(), "CT", ids)[rows]
    open_water = (kinds == "W") | np.isin(total, list(WATER_CODES))
    free = open_water & np.isin(total, list(_FREE))
    limits = {"icelne": (~free, free), "opnlne": (~open_water, open_water & ~free)}
    if not free.any():
        limits = {"icelne": (~open_water, open_water)}
    lines = []
    for feature, (inner, outer) in limits.items():
        one, other = (shapely.boundary(shapely.union_all(parts[which])) for which in (inner, outer))
        shared = shapely.get_parts(shapely.intersection(one, other))
        shared = shared[shapely.get_type_id(shared) == shapely.GeometryType.LINESTRING]
        lines += [(feature, line) for line in shapely.get_parts(shapely.line_merge(shapely.multilinestrings(shared)))]
    return lines


def _dataset(
    eggs: Sequence[Mapping[str, list[int]]],
    parts: Polygons,
    lines: Sequence[tuple[str, Any]],
    axes: Axes,
    lake: bool,
    digits: int,
) -> etree._Element:
    root = etree.Element(f"{{{_ICE}}}IceDataSet", nsmap={"ice": _ICE, "gml": _GML})
    area = "lacice" if lake else "seaice"
    for number, (egg, polygon) in enumerate(zip(eggs, parts, strict=True), 1):
        feature = _feature(root, area, number)
        for attribute, values in egg.items():
            for value in values:
                etree.SubElement(feature, f"{{{_ICE}}}{attribute}").text = f"{value:02d}"
        drawn = _geometry(feature, "Polygon", f"{area}.{number}g", axes)
        for i, ring in enumerate(shapely.get_rings(polygon)):
            border = etree.SubElement(drawn, f"{{{_GML}}}{'interior' if i else 'exterior'}")
            _positions(etree.SubElement(border, f"{{{_GML}}}LinearRing"), ring, axes, digits)
    for number, (kind, line) in enumerate(lines, 1):
        feature = _feature(root, kind, number)
        _positions(_geometry(feature, "LineString", f"{kind}.{number}g", axes), line, axes, digits)
    return root


def _feature(root: etree._Element, kind: str, number: int) -> etree._Element:
    member = etree.SubElement(root, f"{{{_ICE}}}IceFeatureMember")
    return etree.SubElement(member, f"{{{_ICE}}}{kind}", {ID: f"{kind}.{number}"})


def _geometry(feature: etree._Element, kind: str, name: str, axes: Axes) -> etree._Element:
    return etree.SubElement(feature, f"{{{_GML}}}{kind}", {ID: name, "srsName": SRS_NAMES[axes]})


def _positions(element: etree._Element, line: Any, axes: Axes, digits: int) -> None:
    xy = shapely.get_coordinates(line)
    places = (xy[:, ::-1] if axes == "latlon" else xy).tolist()
    text = " ".join(f"{a:.{digits}f} {b:.{digits}f}" for a, b in places)
    etree.SubElement(element, f"{{{_GML}}}posList").text = text


def _mark(root: etree._Element, status: Status, about: Mapping[str, Any]) -> None:
    """Say in a comment, for which alone the standard has a place in the dataset, what the chart is and is not for."""
    words = [f"{SAYS_SIMULATED}."] if is_simulated(about) else []
    words += [f"Status: {status.words}.", f"Concentrations: {about.get('concentrations', 'see the metadata')}."]
    root.addprevious(etree.Comment(" " + re.sub("-(?=-)", "- ", printable(" ".join(words))) + " "))
