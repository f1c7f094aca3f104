"""An edited chart as its file has it, with everything that is wrong with its cells, and nothing repaired.

:func:`floemap.icechart.read.sigrid3.read_chart` repairs what labels can do without, and refuses the first value that is
not a code. A chart that is to be published must show all its faults at once, so this module reads the same files by the
same readers and keeps the faults.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import pandas as pd
import pyproj
import shapely
from numpy.typing import NDArray

from floemap.errors import ChartError
from floemap.icechart.read.codes import NOT_GIVEN, parse_codes, parse_polygon_types, shown
from floemap.icechart.read.columns import CODE_COLUMNS, POLY_TYPE, Columns, find_columns
from floemap.icechart.read.features import Features
from floemap.icechart.read.file_crs import crs_of_file
from floemap.icechart.read.own_charts import CLASS, is_simulated_chart, own_columns
from floemap.icechart.read.sigrid3 import Chart, ChartReport, on_metres
from floemap.icechart.read.sources import find_source
from floemap.icechart.read.vector_files import open_features
from floemap.publishing.problems import Places, Problem

#: Columns that a chart must have besides those without which it cannot be read: SIGRID-3 has them all.
_NEEDED = ("ca", "fa", "cb", "sb", "fb", "cc", "sc", "fc")
#: Names of the column of the forms of a whole polygon.
_CF = ("cf", "sgd_cf")
#: Name of the column of draft charts that says what nobody has checked.
_ESTIMATED = "estimated"
_NO_FORM = frozenset({"", "-9", "-9-9", "none", "null", "nan", "<null>"})


@dataclass(frozen=True)
class EditedChart:
    """Rows of an edited chart.

    Attributes
    ----------
    path, layer, files, fields
        As of :class:`floemap.icechart.read.sigrid3.Chart`.
    ids
        Ids of the features in the file, (n,). Parts of one feature have the same id.
    geometries
        Polygons and multipolygons on a map in metres, as they are in the file, None where there is none, (n,).
    crs, source_crs
        CRS of `geometries`, and of the file.
    codes
        Codes by column, :data:`floemap.icechart.read.columns.CODE_COLUMNS`, (n,) each.
    kinds
        Polygon types, "" where there is none, (n,).
    forms
        The column CF as text, "" where it is empty, (n,).
    classes
        The column CLASS, (n,); None if there is none.
    simulated
        Whether the chart is marked as simulated.
    estimated
        Whether each row is marked as a model's estimate that nobody has checked, (n,).
    """

    path: Path
    layer: str
    files: tuple[Path, ...]
    fields: tuple[str, ...]
    ids: NDArray[np.int64]
    geometries: NDArray[Any]
    crs: pyproj.CRS
    source_crs: pyproj.CRS
    codes: Mapping[str, NDArray[np.int16]]
    kinds: NDArray[Any]
    forms: NDArray[Any]
    classes: NDArray[Any] | None
    simulated: bool
    estimated: NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.ids)

    def take(self, rows: NDArray[np.intp], geometries: NDArray[Any]) -> EditedChart:
        """Return some rows, any of them several times, with other geometries."""
        return replace(
            self,
            ids=self.ids[rows],
            geometries=geometries,
            codes={c: v[rows] for c, v in self.codes.items()},
            kinds=self.kinds[rows],
            forms=self.forms[rows],
            classes=None if self.classes is None else self.classes[rows],
            estimated=self.estimated[rows],
        )

    def as_chart(self) -> Chart:
        """Return the chart for the rest of floemap; all rows must have valid polygons."""
        table: dict[str, Any] = {c: pd.array(v, "Int16") for c, v in self.codes.items()}
        for c, v in self.codes.items():
            table[c][v == NOT_GIVEN] = pd.NA
        polygons = gpd.GeoDataFrame(
            table | {"poly_type": list(self.kinds)}, geometry=self.geometries, crs=self.crs, index=self.ids
        )
        return Chart(
            path=self.path,
            layer=self.layer,
            polygons=polygons,
            source_crs=self.source_crs,
            files=self.files,
            fields=self.fields,
            report=ChartReport(features=len(self), without_area=0, repaired=0),
            classes=None if self.classes is None else tuple(self.classes),
            simulated=self.simulated,
        )


def read_edited(
    path: str | Path, *, layer: str | None = None, crs: str | None = None
) -> tuple[EditedChart, list[Problem]]:
    """Read an edited chart; see :func:`floemap.icechart.read.sigrid3.read_chart` for the parameters.

    Returns
    -------
    The chart, and the problems of its cells: values that are not codes, missing columns, rows without a geometry,
    rings that are not closed. A cell with such a value counts as empty.

    Raises
    ------
    ChartError
        If the file cannot be read, has no CRS, or lacks columns without which polygons cannot be understood.
    """
    source = find_source(Path(path), layer)
    with open_features(source) as file:
        fields = file.fields
        columns = find_columns(source.path, fields)
        own = own_columns(fields)
        by_name = {name.strip().lower(): name for name in reversed(fields)}
        cf = next((by_name[name] for name in _CF if name in by_name), None)
        marked = by_name.get(_ESTIMATED)
        wanted = [*columns.names, *own.values(), *(name for name in (cf, marked) if name is not None)]
        features = file.read(list(dict.fromkeys(wanted)))
        missing = "its .prj file is missing or empty" if source.kind == ".shp" else "the file gives none"
        source_crs = crs_of_file(
            file.crs, crs, path=source.path, missing=missing, places=shapely.get_coordinates(features.geometries)
        )
    if not len(features.ids):
        raise ChartError("holds no features.", path=source.path, hint="Choose another layer with --layer.")
    try:
        geometries, map_crs = _on_map(features, source_crs)
    except ChartError as e:
        raise ChartError(e.message, path=source.path, hint=e.hint) from None
    place = Places(map_crs)
    codes, kinds, problems = _cells(features, columns, geometries, place)
    lost = [c.upper() for c in _NEEDED if c not in codes]
    if lost:
        words = f"lacks the column{'s' if len(lost) > 1 else ''} {', '.join(lost)}"
        problems.append(Problem("missing column", words, (), None, False))
    empty = np.full(len(features.ids), NOT_GIVEN, np.int16)
    chart = EditedChart(
        path=source.path,
        layer=source.layer,
        files=source.files,
        fields=fields,
        ids=features.ids,
        geometries=geometries,
        crs=map_crs,
        source_crs=source_crs,
        codes={c: codes.get(c, empty) for c in CODE_COLUMNS},
        kinds=np.array(kinds, object),
        forms=np.array([_form(v) for v in ([""] * len(empty) if cf is None else features.columns[cf])], object),
        classes=np.array(list(features.columns[own[CLASS]]), object) if CLASS in own else None,
        simulated=is_simulated_chart(source, features.columns, own),
        estimated=np.array([_is_yes(v) for v in ([""] * len(empty) if marked is None else features.columns[marked])]),
    )
    return chart, problems


def _is_yes(value: Any) -> bool:
    return str(value).strip().lower() == "yes"


def _form(value: Any) -> str:
    """Return a CF as text: two codes of two characters each, as -9 is written; "" where it is empty."""
    text = "" if value is None or value != value else str(value).replace("\0", " ").strip()
    return "" if text.lower() in _NO_FORM else text


def _on_map(features: Features, crs: pyproj.CRS) -> tuple[NDArray[Any], pyproj.CRS]:
    """Return the features' polygons on a map in metres, None where they have none, (n,), and the map's CRS."""
    rows, polygons = features.with_area()
    polygons, map_crs = on_metres(polygons, crs)
    geometries = np.full(len(features.ids), None, object)
    geometries[rows] = polygons
    return geometries, map_crs


def _cells(
    features: Features, columns: Columns, geometries: NDArray[Any], place: Places
) -> tuple[dict[str, NDArray[np.int16]], Sequence[str], list[Problem]]:
    """Return the codes by column, the polygon types, and the problems of cells and of geometries as such."""
    problems: list[Problem] = []

    def add(kind: str, row: int, words: str, safe: bool = False) -> None:
        problems.append(Problem(kind, words, (int(features.ids[row]),), place.of(geometries[row]), safe))

    values = columns.values(features.columns, list(range(len(features.ids))))
    codes = {}
    for column in CODE_COLUMNS:
        if column in values:
            codes[column], wrong = parse_codes(values[column])
            for row in wrong:
                add("wrong code", row, f"{column.upper()} is {shown(values[column][row])}, which is not a code")
    kinds, wrong = parse_polygon_types(values[POLY_TYPE])
    for row in wrong:
        add("wrong code", row, f"POLY_TYPE is {shown(values[POLY_TYPE][row])}; it is one of L, W, I, N, S")
    for row, geometry in enumerate(geometries):
        if geometry is None:
            add("no geometry", row, "it has no geometry with an area", True)
        elif features.mended[row]:
            add("open ring", row, "a ring is not closed, or has positions that are not finite", True)
    return codes, kinds, problems
