"""Read an ice chart in SIGRID-3: polygons with codes, checked, repaired where that is safe, every oddity counted.

SIGRID-3 (WMO/JCOMM TR-23) gives each polygon a total concentration CT, up to three ice types from the thickest to the
thinnest (partial concentration CA CB CC, stage of development SA SB SC, form FA FB FC), the stage CN of a trace of
thicker ice, the stage CD of what remains besides the three, and a type POLY_TYPE.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import pandas as pd
import pyogrio
import pyproj
import shapely
from numpy.typing import NDArray
from pyogrio.errors import DataLayerError, DataSourceError, FeatureError, GeometryError
from pyproj.exceptions import CRSError

from floemap.charts.codes import NOT_GIVEN, TENTHS, UNKNOWN_CODES, read_codes, read_polygon_types, tenths
from floemap.charts.projecting import project
from floemap.charts.sources import Source, find_source, gdal_warnings
from floemap.errors import ChartError
from floemap.legend import STAGES

logger = logging.getLogger(__name__)

#: Columns of codes in :attr:`Chart.polygons`, lower case; a file may lack all but the first two and POLY_TYPE.
CODE_COLUMNS = ("ct", "sa", "ca", "fa", "cb", "sb", "fb", "cc", "sc", "fc", "cn", "cd")
_NEEDED = ("ct", "sa", "poly_type")
_CONCENTRATIONS = ("ct", "ca", "cb", "cc")
_STAGES = ("sa", "sb", "sc", "cn", "cd")
#: A second type needs its concentration beside the first's.
_TOGETHER = (("cb", "sb"), ("cc", "sc"), ("sb", "ca"), ("sc", "ca"))

#: Charts in longitude and latitude are brought to these on reading: polygons there jump at the dateline and cannot
#: close round the pole, so they could not even be checked.
POLAR_NORTH, POLAR_SOUTH = "EPSG:3413", "EPSG:3031"
#: Edges of such charts stay within this of where they were: a hundredth of a radar pixel.
_READ_TOLERANCE_M = 1.0


@dataclass(frozen=True)
class ChartReport:
    """What was found on reading.

    Attributes
    ----------
    features
        Features in the file.
    without_area
        Features left out: without geometry, or with points and lines only.
    repaired
        Polygons with invalid geometry (self-intersections and the like), made valid.
    odd_codes
        By column, how often each code stands there that SIGRID-3 has not in that column.
    past_ten
        Polygons whose partial concentrations sum to more than ten tenths.
    past_total
        Polygons whose partial concentrations sum to more than the total concentration, those past ten included.
    untyped
        Polygons without POLY_TYPE.
    """

    features: int
    without_area: int
    repaired: int
    odd_codes: Mapping[str, Mapping[int, int]] = field(default_factory=dict)
    past_ten: int = 0
    past_total: int = 0
    untyped: int = 0


@dataclass(frozen=True)
class Chart:
    """An ice chart in memory.

    Attributes
    ----------
    path
        The file.
    layer
        Its layer.
    polygons
        One row per polygon. The index is the id of the feature in the file; the columns are those of
        :data:`CODE_COLUMNS` as nullable whole numbers (``Int16``), ``poly_type`` ("" where not given; see
        :data:`floemap.charts.codes.POLYGON_TYPES`) and ``geometry``, valid polygons and multipolygons.
    source_crs
        CRS of the file. That of `polygons` is another where this one is in longitude and latitude.
    files
        The files that the chart was read from.
    report
        What was found.
    """

    path: Path
    layer: str
    polygons: gpd.GeoDataFrame
    source_crs: pyproj.CRS
    files: tuple[Path, ...]
    report: ChartReport

    @property
    def crs(self) -> pyproj.CRS:
        """CRS of `polygons`, always a projected one."""
        return pyproj.CRS(self.polygons.crs)

    @property
    def geometries(self) -> NDArray[Any]:
        """The polygons as shapely geometries, (n,)."""
        return np.asarray(self.polygons.geometry.array)

    def codes(self, column: str) -> NDArray[np.int16]:
        """Return one of :data:`CODE_COLUMNS`, (n,), with :data:`floemap.charts.codes.NOT_GIVEN` where it is empty."""
        return np.asarray(self.polygons[column].fillna(NOT_GIVEN).to_numpy(np.int16))

    def __len__(self) -> int:
        return len(self.polygons)


def read_chart(path: str | Path, *, layer: str | None = None, crs: str | None = None) -> Chart:
    """Read an ice chart in SIGRID-3 from a shapefile, GeoPackage, GeoJSON, FlatGeobuf, or a zip that holds one.

    Column names may be in upper or lower case, codes padded or not, text or numbers; -9 and empty are "not given".

    Parameters
    ----------
    path
        The file; of a shapefile, the ``.shp``.
    layer
        Layer of the file, or file of the zip; needed where there are several.
    crs
        The chart's CRS, used only where the file says none, as "EPSG:3413".

    Raises
    ------
    ChartError
        If the file is not whole, has no CRS, no polygons, lacks columns, or holds what is no code, naming the polygon.
    """
    source = find_source(Path(path), layer)
    frame, source_crs = _read(source, crs)
    try:
        polygons, without_area, repaired = _valid_polygons(frame, source_crs)
        codes = {c: read_codes(polygons[c], c.upper(), polygons.index) for c in CODE_COLUMNS if c in polygons}
        types = read_polygon_types(polygons["poly_type"], polygons.index)
    except ChartError as e:
        raise ChartError(e.message, path=source.path, hint=e.hint) from None
    if not len(polygons):
        raise ChartError(f"holds no polygons ({len(frame)} features).", path=source.path, hint="Is it the right layer?")
    empty = np.full(len(polygons), NOT_GIVEN, np.int16)
    codes = {c: codes.get(c, empty) for c in CODE_COLUMNS}
    columns: dict[str, Any] = {c: pd.array(v, "Int16") for c, v in codes.items()}
    for c, v in codes.items():
        columns[c][v == NOT_GIVEN] = pd.NA
    checked = gpd.GeoDataFrame(
        columns | {"poly_type": types}, geometry=polygons.geometry.array, crs=polygons.crs, index=polygons.index
    )
    past_ten, past_total = _past_sums(codes)
    report = ChartReport(
        features=len(frame),
        without_area=without_area,
        repaired=repaired,
        odd_codes=_odd_codes(codes),
        past_ten=past_ten,
        past_total=past_total,
        untyped=types.count(""),
    )
    _warn(source.path, report)
    return Chart(source.path, source.layer, checked, source_crs, source.files, report)


def _read(source: Source, crs: str | None) -> tuple[gpd.GeoDataFrame, pyproj.CRS]:
    """Read the columns that matter, in lower case, and the CRS."""
    # Codes are plain digits in any encoding; text columns, whose encoding a shapefile may misstate, are not read. But
    # names of columns are decoded all the same.
    shapefile = source.gdal_name.lower().endswith(".shp")
    options: dict[str, Any] = {"layer": source.layer} | ({"encoding": "ISO-8859-1"} if shapefile else {})
    try:
        with gdal_warnings(source.path):
            info = pyogrio.read_info(source.gdal_name, **options)
            columns = _columns(source.path, [str(c) for c in info["fields"]])
            frame = pyogrio.read_dataframe(
                source.gdal_name, columns=list(columns.values()), fid_as_index=True, **options
            )
    except (DataSourceError, DataLayerError, FeatureError, GeometryError, UnicodeDecodeError, CRSError) as e:
        raise ChartError(
            f"cannot be read: {str(e).rstrip('.')}.", path=source.path, hint="Fetch or copy the chart again."
        ) from e
    if not isinstance(frame, gpd.GeoDataFrame):
        raise ChartError("is a table without geometry.", path=source.path)
    frame = frame.rename(columns={file: ours for ours, file in columns.items()})
    if info["crs"] is None and crs is None:
        missing = "its .prj file is missing or empty" if shapefile else "the file says none"
        raise ChartError(
            f"has no CRS: {missing}.",
            path=source.path,
            hint="Repair it, or say it with --crs if you know it, as in --crs EPSG:3413.",
        )
    try:
        return frame, pyproj.CRS.from_user_input(info["crs"] or crs)
    except CRSError as e:
        raise ChartError(f"its CRS is not understood: {info['crs'] or crs}.", path=source.path) from e


def _columns(path: Path, fields: list[str]) -> dict[str, str]:
    """Return the file's name of each of our columns that it has, by our name."""
    columns: dict[str, str] = {}
    for name in fields:
        ours = name.strip().lower()
        if ours not in (*CODE_COLUMNS, "poly_type"):
            continue
        if ours in columns:
            raise ChartError(f"has two columns {columns[ours]} and {name}.", path=path, hint="Keep the right one.")
        columns[ours] = name
    missing = [c for c in _NEEDED if c not in columns]
    missing += [b for a, b in _TOGETHER if a in columns and b not in columns and b not in missing]
    if missing:
        raise ChartError(
            f"lacks {', '.join(c.upper() for c in missing)}; it has {', '.join(fields) or 'no columns'}.",
            path=path,
            hint="A SIGRID-3 chart is needed.",
        )
    return columns


def _valid_polygons(frame: gpd.GeoDataFrame, crs: pyproj.CRS) -> tuple[gpd.GeoDataFrame, int, int]:
    """Return valid polygons in a projected CRS, how many features had no area, how many polygons were repaired."""
    geometries = np.asarray(frame.geometry.array)
    kind = shapely.get_type_id(geometries)
    has_area = np.isin(kind, (3, 6, 7)) & ~shapely.is_empty(geometries)
    geometries = geometries[has_area]
    coordinates, owner = shapely.get_coordinates(geometries, return_index=True)
    finite = np.isfinite(coordinates).all(axis=1)
    if not finite.all():
        feature = frame.index[has_area][owner[~finite][0]]
        raise ChartError(f"polygon {feature}: a vertex is at {coordinates[~finite][0]}.", hint="Repair the chart.")
    collections = kind[has_area] == 7
    geometries[collections] = [_polygonal(g) for g in geometries[collections]]
    kept = ~shapely.is_empty(geometries)
    if crs.is_geographic:
        south = len(geometries) and np.median(shapely.get_coordinates(geometries)[:, 1]) < 0
        target = pyproj.CRS(POLAR_SOUTH if south else POLAR_NORTH)
        geometries[kept] = project(geometries[kept], crs, target, _READ_TOLERANCE_M)
        crs = target
    broken = kept & ~shapely.is_valid(geometries)
    # "structure" keeps what a polygon's rings enclose; what collapses to lines has no area and is left out.
    mended = shapely.make_valid(geometries[broken], method="structure", keep_collapsed=False)
    geometries[broken] = [_polygonal(g) for g in mended]
    kept &= shapely.area(geometries) > 0  # not before: the area of a bow tie may be nothing
    rows = np.flatnonzero(has_area)[kept]
    polygons = frame.iloc[rows].set_geometry(gpd.array.from_shapely(geometries[kept]), crs=crs)
    return polygons, len(frame) - len(rows), int((broken & kept).sum())


def _polygonal(geometry: Any) -> Any:
    """Return the polygons among the parts of a geometry."""
    parts = shapely.get_parts(shapely.get_parts(geometry))
    return shapely.multipolygons(parts[shapely.get_type_id(parts) == 3])


def _odd_codes(codes: Mapping[str, NDArray[np.int16]]) -> dict[str, dict[int, int]]:
    odd: dict[str, dict[int, int]] = {}
    for columns, known in ((_CONCENTRATIONS, {*TENTHS, *UNKNOWN_CODES}), (_STAGES, set(STAGES))):
        for column in columns:
            values, counts = np.unique(codes[column], return_counts=True)
            found = {int(v): int(n) for v, n in zip(values, counts, strict=True) if v not in known and v != NOT_GIVEN}
            if found:
                odd[column.upper()] = found
    return odd


def _past_sums(codes: Mapping[str, NDArray[np.int16]]) -> tuple[int, int]:
    """Count polygons whose parts sum past ten tenths, and past the total. Ranges count by their lower ends."""
    lowest = np.nansum([tenths(codes[c])[0] for c in ("ca", "cb", "cc")], axis=0)
    highest_total = tenths(codes["ct"])[2]
    return int((lowest > 10).sum()), int(((lowest > 10) | (lowest > highest_total)).sum())


def _warn(path: Path, report: ChartReport) -> None:
    if report.repaired:
        logger.warning("%s: %d polygons had invalid geometry and were repaired", path, report.repaired)
    if report.without_area:
        logger.warning("%s: %d features without an area were left out", path, report.without_area)
    if report.past_ten:
        logger.warning("%s: in %d polygons partial concentrations sum past ten tenths", path, report.past_ten)
    elif report.past_total:
        logger.warning("%s: in %d polygons partial concentrations sum past the total", path, report.past_total)
    for column, found in report.odd_codes.items():
        listed = ", ".join(f"{code} ({n} times)" for code, n in found.items())
        logger.warning("%s: %s holds codes that do not belong there: %s", path, column, listed)
