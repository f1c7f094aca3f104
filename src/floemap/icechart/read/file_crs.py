"""The coordinate reference system of a chart: as its file says, where that tells a place on the earth."""

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

#: A CRS that names a grid of shifts makes PROJ open that file, wherever it is; "@null" is none.
_ASKS_FOR_FILES = re.compile(r"(nadgrids|geoidgrids)\s*=\s*(?!@null)|\binit\s*=|PARAMETERFILE", re.IGNORECASE)
#: Characters of the longest description that is read, as of GDAL's own limit. PROJ takes minutes for some megabytes.
_LONGEST = 100_000
_HINT = "Repair it (of a shapefile, the .prj), or say it with --crs if you know it, as in --crs EPSG:3413."


def crs_of_file(
    said: str | None,
    instead: str | None,
    *,
    path: Path,
    missing: str = "the file says none",
    places: NDArray[np.float64] | None = None,
) -> pyproj.CRS:
    """Return the CRS of a file: the one that it says, or, where that is none or of no use, the one that its user says.

    Parameters
    ----------
    said, instead
        What the file says, and its user.
    path
        The file, for messages.
    missing
        Why it says none, for messages.
    places
        Coordinates in the file, (n, 2). A CRS in longitude and latitude is of no use where these are none.

    Raises
    ------
    ChartError
        If neither is of use.
    """
    try:
        return _fitting(_on_earth(said, missing), places)
    except ChartError as e:
        if instead is None:
            raise ChartError(e.message, path=path, hint=_HINT) from None
        if said is not None:
            logger.warning("%s: %s %s is taken instead.", path, e.message, instead)
    try:
        return _fitting(_on_earth(instead, missing), places)
    except ChartError as e:
        raise ChartError(f"the CRS that is said for it: {e.message}", path=path) from None


def _by_code(crs: pyproj.CRS) -> pyproj.CRS:
    """Return a CRS as its registry has it, where it is one: files describe it, each in its own way."""
    code = crs.to_epsg()
    known = pyproj.CRS.from_epsg(code) if code is not None else crs
    return known if known.equals(crs, ignore_axis_order=True) else crs


def _fitting(crs: pyproj.CRS, places: NDArray[np.float64] | None) -> pyproj.CRS:
    if crs.is_geographic and places is not None:
        refuse_no_degrees(places)
    return crs


def _on_earth(said: str | None, missing: str) -> pyproj.CRS:
    """Return a CRS in which there are places on the earth, without heights and shifts by grids."""
    if said is None:
        raise ChartError(f"has no CRS: {missing}.")
    try:
        if len(said) > _LONGEST or _ASKS_FOR_FILES.search(said):
            raise CRSError("it is no description, or asks for other files")
        crs = pyproj.CRS.from_user_input(said)
    except (CRSError, RecursionError, UnicodeError):  # of JSON within JSON; of bytes that are no text
        raise ChartError(f"its CRS is not understood: {said[:100]}.") from None
    if crs.is_bound and crs.source_crs is not None:
        crs = crs.source_crs
    if crs.is_compound:
        crs = crs.sub_crs_list[0]
    if crs.is_geographic or crs.is_projected:
        crs = _by_code(crs.to_2d() if len(crs.axis_info) == 3 else crs)
    if crs.is_engineering and crs.name == "Undefined SRS":  # so GDAL writes that there is none
        raise ChartError(f"has no CRS: {missing}.")
    if not (crs.is_geographic or crs.is_projected):
        raise ChartError(f"its CRS, {crs.name!r}, tells no place on the earth ({crs.type_name}).")
    try:
        pyproj.Transformer.from_crs(crs, "EPSG:4326", always_xy=True)
    except ProjError:
        raise ChartError(f"its CRS, {crs.name!r}, tells no place on the earth.") from None
    return crs
