"""Write a chart in SIGRID-3: a shapefile with the standard's fields and name, and its metadata.

The name is `<service>_<region>_<date>T<time>Z_pl_<version>`, as ice services write it; the files of one chart are
``.shp``, ``.shx``, ``.dbf``, ``.prj``, ``.cpg`` and ``.xml``. A shapefile has at most 2 GB, and its columns' names ten
characters; text is UTF-8, codes are plain digits in any encoding. Outer rings go clockwise, holes counterclockwise.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import pyogrio
import shapely

from floemap.errors import ChartError, ConfigError, OutputError
from floemap.icechart.draw.polygonize import ChartPolygons
from floemap.icechart.read.sources import find_source
from floemap.icechart.write.dbf import Form, write_dbf
from floemap.icechart.write.fgdc import fgdc_metadata
from floemap.icechart.write.lonlat import lonlat_bounds, to_lonlat
from floemap.icechart.write.table import CHECK_SPACE, FIELDS, ChartTable, as_table
from floemap.icechart.write.times import in_utc
from floemap.results.whole_files import whole_files

#: Most bytes of a .shp: many readers treat offsets in it as signed 32-bit numbers of bytes.
_MOST_BYTES = 2**31 - 1
#: Types of the columns that are not codes, wide enough for corrections.
_NUMBER, _SHARE, _KEY = ("N", 18, 0), ("N", 6, 4), ("C", 32, 0)
_CODE: Form = ("C", 2, 0)
_FORMS: Mapping[str, Form] = {
    "AREA": _NUMBER,
    "PERIMETER": _NUMBER,
    "CF": ("C", 4, 0),
    "POLY_TYPE": ("C", 1, 0),
    "CLASS": _KEY,
    "CONFIDENCE": _SHARE,
    "AREA_KM2": ("N", 14, 4),
    "SECOND": _KEY,
    "SECOND_P": _SHARE,
    "REVIEW": ("N", 9, 0),
    "OOD": ("N", 6, 2),
    "ESTIMATED": ("C", 3, 0),
    "CONC": _SHARE,
    "CONF_A": _SHARE,
    "CONF_B": _SHARE,
    "CONF_C": _SHARE,
    "STATUS": ("C", 64, 0),
    "SIMULATED": ("C", 3, 0),
}
_PARTS = (".shx", ".dbf", ".prj", ".cpg", ".xml", ".shp")


def sigrid3_name(start: datetime, *, service: str = "floemap", region: str = "s1", version: str = "a") -> str:
    """Return the standard name of a chart, without suffix, such as "floemap_s1_20180116T0754Z_pl_a".

    Parameters
    ----------
    start
        Time of the chart; with a time zone, or in UTC.
    service, region
        Maker and place of the chart: letters and digits.
    version
        "a" for the first version, then "b" and so on.

    Raises
    ------
    ConfigError
        If a part has other characters than letters and digits.
    """
    for what, part in (("service", service), ("region", region), ("version", version)):
        if not re.fullmatch(r"[A-Za-z0-9]+", part):
            raise ConfigError(f"{what} is {part!r}.", hint="In the name of a chart, use letters and digits only.")
    return f"{service}_{region}_{in_utc(start):%Y%m%dT%H%MZ}_pl_{version}"


def write_sigrid3(
    chart: ChartPolygons | ChartTable,
    folder: str | Path,
    *,
    start: datetime,
    about: Mapping[str, Any],
    name: str | None = None,
) -> Path:
    """Write the shapefile and its metadata, and return the path of the ``.shp``.

    The files appear when all of them are whole, the ``.shp`` last. Written again, they are the same byte for byte:
    their dates are that of `start`, and in the metadata also `created` of `about`.

    Parameters
    ----------
    folder
        Folder of the files; it must exist.
    start
        Time of the chart: of a draft, the start of the radar acquisition; with a time zone, or in UTC.
    about
        Facts about the chart, for the metadata; see :func:`floemap.icechart.write.fgdc.fgdc_metadata`. `simulated` goes
        into the table.
    name
        Name of the files, without suffix; :func:`sigrid3_name` by default.

    Raises
    ------
    OutputError
        If the files cannot be written whole, or the chart is too large for a shapefile.
    """
    name = sigrid3_name(start) if name is None else name
    final = Path(folder) / f"{name}.shp"
    chart = as_table(chart, about)
    table = chart.table
    shapes = shapely.orient_polygons(np.asarray(table.geometry), exterior_cw=True)
    size = 100 + 56 * len(shapes) + 16 * int(shapely.get_num_coordinates(shapes).sum())
    size += 4 * int(shapely.get_num_interior_rings(shapes).sum())
    if size > _MOST_BYTES:
        message = f"would have {size / 1e9:.1f} GB; a shapefile may have {_MOST_BYTES / 1e9:.1f} GB."
        hint = "Use a larger tolerance or minimum area, or the GeoPackage."
        raise OutputError(message, path=final, hint=hint)
    lonlat = to_lonlat(shapes, table.crs)
    metadata = fgdc_metadata(
        name,
        start=start,
        legend=chart.legend,
        crs=table.crs,
        bounds=lonlat_bounds(lonlat),
        polygons=len(shapes),
        about=about,
        status=chart.status,
        fields=[name for name in FIELDS if name in table],
    )
    with whole_files(final.parent, [name + suffix for suffix in _PARTS]) as beside:
        _write_shapefile(table.set_geometry(shapes, crs=table.crs), beside / final.name, start)
        (beside / f"{name}.xml").write_bytes(metadata)
    return final


def _write_shapefile(table: gpd.GeoDataFrame, path: Path, start: datetime) -> None:
    pyogrio.write_dataframe(
        table[["geometry"]], path, driver="ESRI Shapefile", geometry_type="Polygon", encoding="UTF-8"
    )
    columns = {name: table[name].tolist() for name in FIELDS if name in table}
    write_dbf(path.with_suffix(".dbf"), columns, {name: _FORMS.get(name, _CODE) for name in columns}, start)
    try:
        find_source(path)  # on a full disk GDAL may leave a short file without an error
    except ChartError as e:
        raise OutputError(f"was not written whole: {e.message}", path=path, hint=CHECK_SPACE) from e
    written = int(pyogrio.read_info(path)["features"])
    if written != len(table):
        raise OutputError(f"has {written} of {len(table)} polygons.", path=path, hint=CHECK_SPACE)
