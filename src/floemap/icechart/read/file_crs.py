"""The coordinate reference system of a chart: the one in its file or, where that is of no use, the user's."""

from __future__ import annotations

import logging
import re
from pathlib import Path

import numpy as np
import pyproj
from numpy.typing import NDArray
from pyproj.exceptions import CRSError, ProjError

from floemap.errors import ChartError
from floemap.icechart.reproject import refuse_no_degrees

logger = logging.getLogger(__name__)

#: A CRS that names a file of grid shifts makes PROJ open that file, wherever it is; "@null" means no file.
_ASKS_FOR_FILES = re.compile(r"(nadgrids|geoidgrids)\s*=\s*(?!@null)|\binit\s*=|PARAMETERFILE", re.IGNORECASE)
#: Longest description that is read, characters, the limit of GDAL. PROJ takes minutes for some megabytes.
_LONGEST = 100_000
_HINT = "Repair it (in a shapefile, the .prj), or give the CRS with --crs if you know it, such as --crs EPSG:3413."


def crs_of_file(
    stated: str | None,
    given: str | None,
    *,
    path: Path,
    missing: str = "the file gives none",
    places: NDArray[np.float64] | None = None,
) -> pyproj.CRS:
    """Return the CRS that a file gives or, if it gives none or one of no use, the CRS that the user gives.

    Parameters
    ----------
    stated, given
        CRS from the file, and CRS from the user.
    path
        The file, for messages.
    missing
        Reason why the file gives no CRS, for messages.
    places
        Coordinates in the file, (n, 2). If they are not longitudes and latitudes, a CRS in these is of no use.

    Raises
    ------
    ChartError
        If neither CRS is of use.
    """
    try:
        return _fitting(_on_earth(stated, missing), places)
    except ChartError as e:
        if given is None:
            raise ChartError(e.message, path=path, hint=_HINT) from None
        if stated is not None:
            logger.warning("%s: %s floemap uses %s instead.", path, e.message, given)
    try:
        return _fitting(_on_earth(given, missing), places)
    except ChartError as e:
        message = f"cannot be placed with the given CRS, {given[:100]!r}: {e.message}"
        raise ChartError(message, path=path, hint="Give another --crs, such as --crs EPSG:3413.") from None


def _by_code(crs: pyproj.CRS) -> pyproj.CRS:
    """Return a registered CRS as its registry defines it, another one unchanged: descriptions in files vary."""
    code = crs.to_epsg()
    known = pyproj.CRS.from_epsg(code) if code is not None else crs
    return known if known.equals(crs, ignore_axis_order=True) else crs


def _fitting(crs: pyproj.CRS, places: NDArray[np.float64] | None) -> pyproj.CRS:
    if crs.is_geographic and places is not None:
        refuse_no_degrees(places)
    return crs


def _on_earth(stated: str | None, missing: str) -> pyproj.CRS:
    """Return a CRS that relates to the earth, without heights and grid shifts."""
    if stated is None:
        raise ChartError(f"has no CRS: {missing}.")
    try:
        if len(stated) > _LONGEST or _ASKS_FOR_FILES.search(stated):
            raise CRSError("it is too long, or refers to other files")
        crs = pyproj.CRS.from_user_input(stated)
    except (CRSError, RecursionError, UnicodeError):  # the latter two from nested JSON, and bytes that are not text
        raise ChartError(f"its CRS is not one that PROJ knows: {stated[:100]}.") from None
    if crs.is_bound and crs.source_crs is not None:
        crs = crs.source_crs
    if crs.is_compound:
        crs = crs.sub_crs_list[0]
    if crs.is_geographic or crs.is_projected:
        crs = _by_code(crs.to_2d() if len(crs.axis_info) == 3 else crs)
    if crs.is_engineering and crs.name == "Undefined SRS":  # GDAL writes this for "none"
        raise ChartError(f"has no CRS: {missing}.")
    if not (crs.is_geographic or crs.is_projected):
        raise ChartError(f"its CRS, {crs.name!r}, does not give positions on the earth ({crs.type_name}).")
    try:
        pyproj.Transformer.from_crs(crs, "EPSG:4326", always_xy=True)
    except ProjError:
        raise ChartError(f"its CRS, {crs.name!r}, does not give positions on the earth.") from None
    return crs
