"""Write a chart as KML 2.2 (OGC 07-147r2) for map viewers on phones and on board, in WMO colours."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import shapely
from lxml import etree

from floemap.icechart.write.s411_metadata import printable
from floemap.icechart.write.table import ChartTable
from floemap.icechart.write.times import in_utc
from floemap.icechart.write.vector import EXACT, Exactness
from floemap.legend import RGB
from floemap.results.whole_files import whole_files

_KML = "http://www.opengis.net/kml/2.2"
#: Opacity of polygons, so that the map below is seen, and of borders: hexadecimal.
_FILL, _LINE = "b0", "ff464646"


def write_kml(
    chart: ChartTable,
    path: str | Path,
    *,
    start: datetime,
    about: Mapping[str, Any],
    kinds: Sequence[tuple[str, RGB]],
    exactness: Exactness = EXACT,
) -> Path:
    """Write KML: WGS84, cut at the dateline, closed around the pole; return its path.

    Parameters
    ----------
    chart
        A table of polygons in a CRS in metres; its columns become data of the placemarks.
    path
        Path of the file; an existing file is replaced.
    start
        Time of the chart; with a time zone, or in UTC.
    about
        Facts about the chart, by name, for the document's description.
    kinds
        Name and colour of each polygon, (n,).
    exactness
        Digits of the coordinates, and how far edges may move.

    Raises
    ------
    ChartError
        If a polygon has no position on the earth.
    OutputError
        If the file cannot be written whole.
    """
    path = Path(path)
    root = etree.Element(f"{{{_KML}}}kml", nsmap={None: _KML})  # type: ignore[dict-item]
    document = _below(root, "Document")
    _below(document, "name", f"{chart.status.title}, {in_utc(start):%Y-%m-%d %H:%M} UTC")
    # Viewers show descriptions as HTML.
    facts = {"status": chart.status.words} | {str(k): str(v) for k, v in about.items()}
    _below(document, "description", html.escape("; ".join(f"{k}: {v}" for k, v in facts.items())))
    _below(_below(document, "TimeStamp"), "when", f"{in_utc(start):%Y-%m-%dT%H:%M:%SZ}")
    styles = {kind: f"s{number}" for number, kind in enumerate(sorted(set(kinds)), 1)}
    for (_, (red, green, blue)), name in styles.items():
        style = _below(document, "Style")
        style.set("id", name)
        _below(_below(style, "LineStyle"), "color", _LINE)
        _below(_below(style, "PolyStyle"), "color", f"{_FILL}{blue:02x}{green:02x}{red:02x}")
    lonlat = exactness.lonlat(np.asarray(chart.table.geometry), chart.table.crs)
    rows = chart.table.drop(columns="geometry").to_dict("records")
    for row, kind, geometry in zip(rows, kinds, lonlat, strict=True):
        mark = _below(document, "Placemark")
        _below(mark, "name", kind[0])
        _below(mark, "styleUrl", f"#{styles[kind]}")
        data = _below(mark, "ExtendedData")
        for column, value in row.items():
            one = _below(data, "Data")
            one.set("name", column)
            _below(one, "value", value)
        parts = shapely.get_parts(geometry)
        within = mark if len(parts) == 1 else _below(mark, "MultiGeometry")
        for part in parts:
            _polygon(within, part, exactness.digits)
    content = etree.tostring(root, xml_declaration=True, encoding="UTF-8")
    with whole_files(path.parent, [path.name]) as beside:
        (beside / path.name).write_bytes(content)
    return path


def _polygon(element: etree._Element, polygon: Any, digits: int) -> None:
    drawn = _below(element, "Polygon")
    for i, ring in enumerate(shapely.get_rings(polygon)):
        border = _below(_below(drawn, "innerBoundaryIs" if i else "outerBoundaryIs"), "LinearRing")
        places = shapely.get_coordinates(ring).tolist()
        _below(border, "coordinates", " ".join(f"{lon:.{digits}f},{lat:.{digits}f}" for lon, lat in places))


def _below(element: etree._Element, name: str, text: Any = None) -> etree._Element:
    made = etree.SubElement(element, f"{{{_KML}}}{name}")
    made.text = None if text is None else printable(text)
    return made
