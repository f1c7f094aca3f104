"""The polygons of a chart of which only classes are known: connected areas where all three classes are the same.

Ready-to-train files hold SIC, SOD and FLOE as rasters. The charts' polygons follow from them up to two flaws:
neighbouring polygons of equal classes are one area, and where the maximum of 2 x 2 pixels mixes two polygons there is a
narrow area between them. Partial concentrations are not known: no class has a share.
"""

from __future__ import annotations

from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from floemap.datasets.ai4arctic.form import CHARTS, NO_CLASS
from floemap.icechart.dominant_type import Rule
from floemap.icechart.draw.regions import find_regions
from floemap.icechart.label.polygon_table import MAX_POLYGONS, PolygonTable
from floemap.icechart.read.codes import NOT_GIVEN
from floemap.icechart.read.columns import CODE_COLUMNS
from floemap.legend import AI4ARCTIC, IGNORE

#: Number of different values of a chart: its classes, and one value for pixels without a class.
_VALUES = 16
#: Stands for a pixel without a class in any of the charts.
NOTHING = _VALUES ** len(CHARTS) - 1


def combined(sic: NDArray[np.uint8], sod: NDArray[np.uint8], floe: NDArray[np.uint8]) -> NDArray[np.uint16]:
    """Return one number for the classes of each pixel, :data:`NOTHING` where no chart has a class."""
    found = np.zeros(sic.shape, np.uint16)
    for chart in (sic, sod, floe):
        found *= np.uint16(_VALUES)
        found += np.minimum(chart, _VALUES - 1)
    return found


def separated(classes: NDArray[np.uint16]) -> NDArray[np.uint8]:
    """Return the classes of each chart, (3, ...) uint8, 255 for none, from the numbers of :func:`combined`."""
    parts = np.stack([classes >> shift & _VALUES - 1 for shift in (8, 4, 0)]).astype(np.uint8)
    parts[parts == _VALUES - 1] = NO_CLASS
    return parts


def class_areas(classes: NDArray[np.uint16]) -> tuple[NDArray[Any], PolygonTable]:
    """Divide a raster of classes into areas.

    Parameters
    ----------
    classes
        (rows, cols), from :func:`combined`.

    Returns
    -------
    numbers
        (rows, cols): the area of each pixel, from 1; 0 where there is no class. If the areas were more than can be
        numbered, all pixels of equal classes are one area.
    table
        What is known of each: concentration, class of the dominant type and floe size. Pixels are not counted yet.
    """
    known, kinds = np.unique(classes, return_inverse=True)
    kinds = kinds.reshape(classes.shape)
    of_area = known
    if len(known) < IGNORE:
        regions = find_regions(kinds.astype(np.uint8))
        of_area = known[regions.classes]
    has_class = of_area != NOTHING
    if len(known) >= IGNORE or np.count_nonzero(has_class) > MAX_POLYGONS:
        of_area, has_class = known, known != NOTHING
        of_pixel = kinds
    else:
        of_pixel = np.repeat(regions.of_run, regions.run_length).reshape(classes.shape)
    number = np.where(has_class, np.cumsum(has_class), 0).astype(np.int32)
    return number[of_pixel], _table(of_area[has_class])


def _table(classes: NDArray[np.uint16]) -> PolygonTable:
    """Return the table of areas with these classes, (n,)."""
    sic, sod, floe = separated(np.concatenate([[NOTHING], classes]).astype(np.uint16))
    rows, n = len(classes) + 1, len(AI4ARCTIC)
    unknown = np.zeros((rows, n + 1))
    unknown[:, -1] = 1
    return PolygonTable(
        classes=tuple(c.key for c in AI4ARCTIC.classes),
        features=np.concatenate([[-1], np.arange(1, rows)]),
        poly_types=("",) * rows,
        codes=MappingProxyType({c.upper(): np.full(rows, NOT_GIVEN, np.int16) for c in CODE_COLUMNS}),
        rules=("", *(str(Rule.UNKNOWN_PARTS),) * (rows - 1)),
        fractions=unknown,
        dominant=sod,
        candidates=np.zeros((rows, n), np.bool_),
        concentration=tenths(sic),
        pixels=np.zeros(rows, np.int64),
        area_km2=np.zeros(rows),
        floe=floe,
    )


def tenths(sic: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Return the concentration of classes of SIC as shares, float32, not-a-number where there is no class."""
    return np.where(sic == NO_CLASS, np.nan, sic / np.float32(10)).astype(np.float32)
