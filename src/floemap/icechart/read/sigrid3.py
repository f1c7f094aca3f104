"""Read an ice chart in SIGRID-3: polygons with codes, checked, repaired where that is safe, every oddity counted.

SIGRID-3 (WMO/JCOMM TR-23) gives each polygon a total concentration CT, up to three ice types from the thickest to the
thinnest (partial concentration CA CB CC, stage of development SA SB SC, form FA FB FC), the stage CN of a trace of
thicker ice, the stage CD of what remains besides the three, and a type POLY_TYPE.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import pandas as pd
import pyproj
import shapely
from numpy.typing import NDArray

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
#: Charts in longitude and latitude are brought to these on reading: polygons there jump at the dateline and cannot
#: close round the pole, so they could not even be checked. So are those in feet or kilometres: all else here counts in
#: metres.
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
    repaired_ids
        Their ids.
    odd_codes
        By column, how often each code stands there that SIGRID-3 has not in that column.
    thickness
        By column, how often each code stands there that gives a thickness in the place of a stage.
    past_ten
        Polygons whose partial concentrations sum to more than ten tenths.
    past_total
        Polygons whose partial concentrations sum to more than the total concentration, those past ten included.
    untyped
        Polygons without POLY_TYPE.
    untyped_ids
        Their ids.
    blank_ids
        Ids of those of them that give neither total concentration nor stage: nothing is known of them.
    """

    features: int
    without_area: int
    repaired: int
    repaired_ids: tuple[int, ...] = ()
    odd_codes: Mapping[str, Mapping[int, int]] = field(default_factory=dict)
    thickness: Mapping[str, Mapping[int, int]] = field(default_factory=dict)
    past_ten: int = 0
    past_total: int = 0
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
        Its layer.
    polygons
        One row per polygon. The index is the id of the feature in the file; the columns are those of
        :data:`CODE_COLUMNS` as nullable whole numbers (``Int16``), ``poly_type`` ("" where not given; see
        :data:`floemap.icechart.read.codes.POLYGON_TYPES`) and ``geometry``, valid polygons and multipolygons.
    source_crs
        CRS of the file. That of `polygons` is another where this one is not in metres.
    files
        The files that the chart was read from.
    fields
        Names of all columns of the file, in its order.
    report
        What was found.
    classes
        The column CLASS that charts of ours have, (n,), as the file has it; None where there is none. Codes count.
    simulated
        Whether it says that it is simulated.
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

    @property
    def crs(self) -> pyproj.CRS:
        """CRS of `polygons`, always a projected one."""
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
    """Read an ice chart in SIGRID-3 from a shapefile, GeoPackage, GeoJSON, FlatGeobuf, or a zip that holds one.

    Column names may be in upper or lower case, with SGD_ before them, or those of the Ice Objects Catalogue (see
    :mod:`floemap.icechart.read.columns`); codes padded or not, text or numbers; -9 and empty are "not given".

    Parameters
    ----------
    path
        The file; of a shapefile, the ``.shp``.
    layer
        Layer of the file, or file of the zip; needed where there are several.
    crs
        The chart's CRS, as "EPSG:3413"; used only where the file says none, one that tells no place on the earth, or
        longitude and latitude for what is none.

    Raises
    ------
    ChartError
        If the file is not whole, has no CRS, no polygons, lacks columns, or holds what is no code, naming the polygon.
    """
    source = find_source(Path(path), layer)
    with open_features(source) as file:
        fields = file.fields
        columns = find_columns(source.path, fields)
        own = own_columns(fields)
        features = file.read(list(dict.fromkeys([*columns.names, *own.values()])))
        missing = "its .prj file is missing or empty" if source.kind == ".shp" else "the file says none"
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
        raise ChartError(
            f"holds no polygons ({len(features.ids)} features).", path=source.path, hint="Is it the right layer?"
        )
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
        past_ten=past_ten,
        past_total=past_total,
        untyped=int(untyped.sum()),
        untyped_ids=tuple(ids[untyped].tolist()),
        blank_ids=tuple(ids[untyped & (codes["ct"] == NOT_GIVEN) & (codes["sa"] == NOT_GIVEN)].tolist()),
    )
    _warn(source.path, report)
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
    )


def _valid_polygons(
    features: Features, crs: pyproj.CRS
) -> tuple[Polygons, pyproj.CRS, NDArray[np.intp], NDArray[np.int64]]:
    """Return valid polygons, their projected CRS, which of the features they are, and which features were repaired."""
    rows, geometries = features.with_area()
    if crs.is_geographic or any(axis.unit_conversion_factor != 1 for axis in crs.axis_info):
        south = len(geometries) and _middle_latitude_deg(geometries, crs) < 0
        target = pyproj.CRS(POLAR_SOUTH if south else POLAR_NORTH)
        geometries = project(geometries, crs, target, _READ_TOLERANCE_M)
        crs = target
    broken = ~shapely.is_valid(geometries)
    geometries[broken] = repaired(geometries[broken], features.ids[rows][broken])
    kept = shapely.area(geometries) > 0  # not before: the area of a bow tie may be nothing
    mended = (broken | features.mended[rows]) & kept
    return geometries[kept], crs, rows[kept], features.ids[rows][mended]


def _middle_latitude_deg(geometries: NDArray[Any], crs: pyproj.CRS) -> float:
    y = shapely.get_coordinates(geometries)[:, 1]
    if not crs.is_geographic or crs.is_derived:  # as on a globe whose pole was moved
        x, y = shapely.get_coordinates(geometries).T
        _, y = pyproj.Transformer.from_crs(crs, "EPSG:4326", always_xy=True).transform(x, y)
    return float(np.median(y))


def some_of(ids: Sequence[int]) -> str:
    """Name polygons by their ids, the first ten of many."""
    more = f" and {len(ids) - 10} more" if len(ids) > 10 else ""
    return ", ".join(map(str, ids[:10])) + more


def _counted(
    codes: Mapping[str, NDArray[np.int16]], columns: Sequence[str], which: Callable[[int], bool]
) -> dict[str, dict[int, int]]:
    """Count the codes of a kind by column."""
    counts = {}
    for column in columns:
        values, numbers = np.unique(codes[column], return_counts=True)
        pairs = zip(values.tolist(), numbers.tolist(), strict=True)
        counts[column.upper()] = {code: n for code, n in pairs if code != NOT_GIVEN and which(code)}
    return {column: found for column, found in counts.items() if found}


def _past_sums(codes: Mapping[str, NDArray[np.int16]]) -> tuple[int, int]:
    """Count polygons whose parts sum past ten tenths, and past the total. Ranges count by their lower ends."""
    lowest = np.nansum([tenths(codes[c])[0] for c in ("ca", "cb", "cc")], axis=0)
    highest_total = tenths(codes["ct"])[2]
    return int((lowest > 10).sum()), int(((lowest > 10) | (lowest > highest_total)).sum())


def _warn(path: Path, report: ChartReport) -> None:
    if report.repaired:
        which = some_of(report.repaired_ids)
        logger.warning("%s: %d polygons had invalid geometry and were repaired: %s", path, report.repaired, which)
    if report.without_area:
        logger.warning("%s: %d features without an area were left out", path, report.without_area)
    if report.untyped:
        which = some_of(report.untyped_ids)
        logger.warning("%s: %d polygons have no POLY_TYPE: %s", path, report.untyped, which)
    if report.blank_ids:
        which = some_of(report.blank_ids)
        logger.warning("%s: of %d polygons nothing is given, no type, CT or SA: %s", path, len(report.blank_ids), which)
    if report.past_ten:
        logger.warning("%s: in %d polygons partial concentrations sum past ten tenths", path, report.past_ten)
    elif report.past_total:
        logger.warning("%s: in %d polygons partial concentrations sum past the total", path, report.past_total)
    for column, found in report.odd_codes.items():
        listed = ", ".join(f"{code} ({n} times)" for code, n in found.items())
        logger.warning("%s: %s holds codes that do not belong there: %s", path, column, listed)
