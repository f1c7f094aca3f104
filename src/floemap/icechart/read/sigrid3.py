"""Read an ice chart: polygons with the codes of SIGRID-3, checked, repaired where this is safe, all oddities counted.

SIGRID-3 (WMO/JCOMM TR-23) gives each polygon a total concentration CT, up to three ice types from the thickest to the
thinnest (partial concentration CA CB CC, stage of development SA SB SC, form FA FB FC), the stage CN of a trace of
thicker ice, the stage CD of the remainder besides the three, and a type POLY_TYPE.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import pandas as pd
import pyproj
import shapely
from numpy.typing import NDArray

from floemap.counts import counted
from floemap.errors import ChartError
from floemap.icechart.read.codes import NOT_GIVEN, TENTHS, UNKNOWN_CODES, read_codes, read_polygon_types, tenths
from floemap.icechart.read.columns import CODE_COLUMNS, POLY_TYPE, find_columns
from floemap.icechart.read.features import Features
from floemap.icechart.read.file_crs import crs_of_file
from floemap.icechart.read.own_charts import CLASS, is_simulated_chart, own_columns
from floemap.icechart.read.rings import repaired
from floemap.icechart.read.sources import find_source
from floemap.icechart.read.vector_files import open_features
from floemap.icechart.reproject import Polygons, project
from floemap.legend import STAGE_CODES, THICKNESS_CM

logger = logging.getLogger(__name__)

_CONCENTRATIONS = ("ct", "ca", "cb", "cc")
_STAGES = ("sa", "sb", "sc", "cn", "cd")
#: Charts in longitude and latitude are projected to these on reading: there, polygons jump at the dateline and cannot
#: close around the pole, so they could not even be checked. So are charts in feet or kilometres, as the other modules
#: expect metres.
POLAR_NORTH, POLAR_SOUTH = "EPSG:3413", "EPSG:3031"
#: No edge moves further than this when such charts are projected: a hundredth of a radar pixel.
_READ_TOLERANCE_M = 1.0


@dataclass(frozen=True)
class ChartReport:
    """Findings on reading a chart.

    Attributes
    ----------
    features
        Number of features in the file.
    without_area
        Number of features left out: without geometry, or with points and lines only.
    repaired
        Number of polygons with invalid geometry (self-intersections and the like), which were made valid.
    repaired_ids
        Their ids.
    odd_codes
        By column, the number of polygons with each code that SIGRID-3 does not have in that column.
    thickness
        By column, the number of polygons with each code that gives a thickness instead of a stage.
    past_ten
        Number of polygons whose partial concentrations sum to more than ten tenths.
    past_total
        Number of polygons whose partial concentrations sum to more than the total concentration or ten tenths.
    past_total_ids
        Their ids.
    untyped
        Number of polygons without POLY_TYPE.
    untyped_ids
        Their ids.
    blank_ids
        Ids of those untyped polygons that also give neither total concentration nor stage.
    """

    features: int
    without_area: int
    repaired: int
    repaired_ids: tuple[int, ...] = ()
    odd_codes: Mapping[str, Mapping[int, int]] = field(default_factory=dict)
    thickness: Mapping[str, Mapping[int, int]] = field(default_factory=dict)
    past_ten: int = 0
    past_total: int = 0
    past_total_ids: tuple[int, ...] = ()
    untyped: int = 0
    untyped_ids: tuple[int, ...] = ()
    blank_ids: tuple[int, ...] = ()


@dataclass(frozen=True)
class Chart:
    """An ice chart in memory.

    Attributes
    ----------
    path
        The file.
    layer
        Layer of the file.
    polygons
        One row per polygon. The index is the id of the feature in the file; the columns are those of
        :data:`CODE_COLUMNS` as nullable whole numbers (``Int16``), ``poly_type`` ("" where not given; see
        :data:`floemap.icechart.read.codes.POLYGON_TYPES`) and ``geometry``, valid polygons and multipolygons.
    source_crs
        CRS of the file. If it is not in metres, `polygons` has another.
    files
        The files that the chart was read from.
    fields
        Names of all columns of the file, in its order.
    report
        Findings on reading.
    classes
        The column CLASS of draft charts, (n,), as the file has it; None if there is none. Codes have precedence.
    simulated
        Whether the chart is marked as simulated.
    format
        The standard that it follows, SIGRID-3 or S-411; the codes of `polygons` are those of SIGRID-3 in any case.
    """

    path: Path
    layer: str
    polygons: gpd.GeoDataFrame
    source_crs: pyproj.CRS
    files: tuple[Path, ...]
    fields: tuple[str, ...]
    report: ChartReport
    classes: tuple[Any, ...] | None = None
    simulated: bool = False
    format: str = "SIGRID-3"

    @property
    def crs(self) -> pyproj.CRS:
        """CRS of `polygons`, always a projected one in metres."""
        return pyproj.CRS(self.polygons.crs)

    @property
    def geometries(self) -> NDArray[Any]:
        """The polygons as shapely geometries, (n,)."""
        return np.asarray(self.polygons.geometry.array)

    def codes(self, column: str) -> NDArray[np.int16]:
        """Return one of :data:`CODE_COLUMNS`, (n,), with :data:`~floemap.icechart.read.codes.NOT_GIVEN` where empty."""
        return np.asarray(self.polygons[column].fillna(NOT_GIVEN).to_numpy(np.int16))

    def __len__(self) -> int:
        return len(self.polygons)


def read_chart(path: str | Path, *, layer: str | None = None, crs: str | None = None) -> Chart:
    """Read an ice chart: SIGRID-3 in a shapefile, GeoPackage, GeoJSON or FlatGeobuf, S-411 in GML, or a zip of one.

    S-411 is translated into SIGRID-3's codes; see :mod:`floemap.icechart.read.s411`.

    Column names may be in upper or lower case, with the prefix SGD_, or those of the Ice Objects Catalogue (see
    :mod:`floemap.icechart.read.columns`); codes padded or not, text or numbers; -9 and empty mean "not given".

    Parameters
    ----------
    path
        The file; of a shapefile, the ``.shp``; of an exchange set of S-411, also its folder.
    layer
        Layer of the file, or file in the zip; needed if there are several.
    crs
        CRS of the chart, such as "EPSG:3413". It is used only if the file gives none, one without positions on the
        earth, or longitude and latitude for coordinates that are neither.

    Raises
    ------
    ChartError
        If the file is incomplete, has no CRS or no polygons, lacks columns, or has a value that is not a code; the
        message then names the polygon.
    """
    source = find_source(Path(path), layer)
    with open_features(source) as file:
        fields = file.fields
        columns = find_columns(source.path, fields)
        own = own_columns(fields)
        features = file.read(list(dict.fromkeys([*columns.names, *own.values()])))
        missing = "its .prj file is missing or empty" if source.kind == ".shp" else "the file gives none"
        places = shapely.get_coordinates(features.geometries)
        source_crs = crs_of_file(file.crs, crs, path=source.path, missing=missing, places=places)
    try:
        polygons, map_crs, kept, mended = _valid_polygons(features, source_crs)
        ids = features.ids[kept]
        values = columns.values(features.columns, kept.tolist())
        codes = {c: read_codes(values[c], c.upper(), ids) for c in CODE_COLUMNS if c in values}
        types = read_polygon_types(values[POLY_TYPE], ids)
    except ChartError as e:
        raise ChartError(e.message, path=source.path, hint=e.hint) from None
    if not len(polygons):
        message = f"holds no polygons: {counted(len(features.ids), 'feature')}, none with an area."
        raise ChartError(message, path=source.path, hint="Choose another layer with --layer, or another file.")
    empty = np.full(len(polygons), NOT_GIVEN, np.int16)
    codes = {c: codes.get(c, empty) for c in CODE_COLUMNS}
    table: dict[str, Any] = {c: pd.array(v, "Int16") for c, v in codes.items()}
    for c, v in codes.items():
        table[c][v == NOT_GIVEN] = pd.NA
    checked = gpd.GeoDataFrame(table | {"poly_type": types}, geometry=polygons, crs=map_crs, index=ids)
    past_ten, past_total = _past_sums(codes)
    untyped = np.array(types, object) == ""
    report = ChartReport(
        features=len(features.ids),
        without_area=len(features.ids) - len(polygons),
        repaired=len(mended),
        repaired_ids=tuple(mended.tolist()),
        odd_codes=_counted(codes, _CONCENTRATIONS, lambda c: c not in TENTHS and c not in UNKNOWN_CODES)
        | _counted(codes, _STAGES, lambda c: c not in STAGE_CODES),
        thickness=_counted(codes, _STAGES, lambda c: c in THICKNESS_CM),
        past_ten=int(past_ten.sum()),
        past_total=int(past_total.sum()),
        past_total_ids=tuple(ids[past_total].tolist()),
        untyped=int(untyped.sum()),
        untyped_ids=tuple(ids[untyped].tolist()),
        blank_ids=tuple(ids[untyped & (codes["ct"] == NOT_GIVEN) & (codes["sa"] == NOT_GIVEN)].tolist()),
    )
    for finding in findings_in_words(asdict(report)):
        logger.warning("%s: %s", source.path, finding)
    return Chart(
        path=source.path,
        layer=source.layer,
        polygons=checked,
        source_crs=source_crs,
        files=source.files,
        fields=fields,
        report=report,
        classes=tuple(features.columns[own[CLASS]][i] for i in kept.tolist()) if CLASS in own else None,
        simulated=is_simulated_chart(source, features.columns, own),
        format="S-411" if source.kind == ".gml" else "SIGRID-3",
    )


def _valid_polygons(
    features: Features, crs: pyproj.CRS
) -> tuple[Polygons, pyproj.CRS, NDArray[np.intp], NDArray[np.int64]]:
    """Return valid polygons, their projected CRS, the rows of their features, and the ids of repaired features."""
    rows, geometries = features.with_area()
    geometries, crs = on_metres(geometries, crs)
    broken = ~shapely.is_valid(geometries)
    geometries[broken] = repaired(geometries[broken], features.ids[rows][broken])
    kept = shapely.area(geometries) > 0  # after the repair: the area of a bow tie may be zero
    mended = (broken | features.mended[rows]) & kept
    return geometries[kept], crs, rows[kept], features.ids[rows][mended]


def on_metres(polygons: Polygons, crs: pyproj.CRS) -> tuple[Polygons, pyproj.CRS]:
    """Return polygons, (n,), on a map in metres, and its CRS: unchanged ones, or those on a polar map.

    Raises
    ------
    ChartError
        If a vertex has no position there.
    """
    if not (crs.is_geographic or any(axis.unit_conversion_factor != 1 for axis in crs.axis_info)):
        return polygons, crs
    south = len(polygons) and _middle_latitude_deg(polygons, crs) < 0
    target = pyproj.CRS(POLAR_SOUTH if south else POLAR_NORTH)
    return project(polygons, crs, target, _READ_TOLERANCE_M), target


def _middle_latitude_deg(geometries: NDArray[Any], crs: pyproj.CRS) -> float:
    y = shapely.get_coordinates(geometries)[:, 1]
    if not crs.is_geographic or crs.is_derived:  # such as longitude and latitude with a moved pole
        x, y = shapely.get_coordinates(geometries).T
        _, y = pyproj.Transformer.from_crs(crs, "EPSG:4326", always_xy=True).transform(x, y)
    return float(np.median(y))


def some_of(ids: Sequence[int]) -> str:
    """List ids of polygons for a message, at most ten."""
    more = f" and {len(ids) - 10} more" if len(ids) > 10 else ""
    return ", ".join(map(str, ids[:10])) + more


def _counted(
    codes: Mapping[str, NDArray[np.int16]], columns: Sequence[str], which: Callable[[int], bool]
) -> dict[str, dict[int, int]]:
    """Count the codes for which `which` is true by column."""
    counts = {}
    for column in columns:
        values, numbers = np.unique(codes[column], return_counts=True)
        pairs = zip(values.tolist(), numbers.tolist(), strict=True)
        counts[column.upper()] = {code: n for code, n in pairs if code != NOT_GIVEN and which(code)}
    return {column: found for column, found in counts.items() if found}


def _past_sums(codes: Mapping[str, NDArray[np.int16]]) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Return the polygons whose parts, by the lower ends of ranges, sum to more than ten tenths, and than the total."""
    lowest = np.nansum([tenths(codes[c])[0] for c in ("ca", "cb", "cc")], axis=0)
    highest_total = tenths(codes["ct"])[2]
    return np.asarray(lowest > 10), np.asarray((lowest > 10) | (lowest > highest_total))


def findings_in_words(report: Mapping[str, Any]) -> list[str]:
    """Return what is odd by the fields of a :class:`ChartReport`."""
    blank, have = report["blank_ids"], "polygon has|polygons have"
    repaired, untyped, past_total = (some_of(report[f"{key}_ids"]) for key in ("repaired", "untyped", "past_total"))
    words = [
        (report["repaired"], have, f"invalid geometry, which is repaired: {repaired}"),
        (report["without_area"], "feature", "without an area left out"),
        (report["untyped"], have, f"no POLY_TYPE: {untyped}"),
        (len(blank), have, f"neither POLY_TYPE nor CT nor SA: {some_of(blank)}"),
        (report["past_ten"], have, "partial concentrations that sum to more than ten tenths"),
        (report["past_total"], have, f"partial concentrations that sum to more than the total: {past_total}"),
    ]
    odd_codes = [(column, *pair) for column, found in report["odd_codes"].items() for pair in found.items()]
    return [
        *(f"{counted(n, thing)} {what}" for n, thing, what in words if n),
        *(f"{column} is {code} in {counted(n, 'polygon')}, which is not a code" for column, code, n in odd_codes),
    ]
