"""From a raster of a chart's polygons to ids and their table: only polygons that have pixels with data get an id."""

from __future__ import annotations

from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox

from floemap.cog import STRIP_ROWS
from floemap.errors import ChartError
from floemap.icechart.dominant_type import IceTypes, Unmapped, candidate_classes, class_fractions, class_ids
from floemap.icechart.label.polygon_table import MAX_POLYGONS, PolygonTable
from floemap.icechart.read.codes import NOT_GIVEN
from floemap.icechart.read.columns import CODE_COLUMNS
from floemap.icechart.read.sigrid3 import Chart
from floemap.legend import IGNORE, Legend


def table_of_chart(chart: Chart, types: IceTypes, legend: Legend, *, unmapped: Unmapped = "error") -> PolygonTable:
    """Return the table of all polygons of a chart, in its order, without pixels yet.

    Raises
    ------
    ChartError
        If a stage that is dominant or has a share is not in the legend, naming the polygon and the code.
    """
    nothing = np.zeros((1, len(legend) + 1))
    nothing[0, -1] = 1
    dominant = class_ids(types, legend, unmapped=unmapped)
    fractions = class_fractions(types, legend, unmapped=unmapped)
    codes = {c.upper(): np.concatenate([[NOT_GIVEN], chart.codes(c)]).astype(np.int16) for c in CODE_COLUMNS}
    return PolygonTable(
        classes=tuple(c.key for c in legend.classes),
        features=np.concatenate([[-1], types.features]).astype(np.int64),
        poly_types=("", *chart.polygons["poly_type"].tolist()),
        codes=MappingProxyType(codes),
        rules=("", *map(str, types.rule)),
        fractions=np.concatenate([nothing, fractions]),
        dominant=np.concatenate([[IGNORE], dominant]).astype(np.uint8),
        candidates=np.concatenate([np.zeros((1, len(legend)), np.bool_), candidate_classes(types, legend)]),
        concentration=np.concatenate([[np.nan], types.concentration]).astype(np.float32),
        pixels=np.zeros(len(chart) + 1, np.int64),
        area_km2=np.zeros(len(chart) + 1),
    )


def number_polygons(
    numbers: NDArray[Any], valid: NDArray[np.bool_], whole: PolygonTable, geobox: GeoBox
) -> tuple[NDArray[np.uint16], PolygonTable]:
    """Give ids to the polygons that have pixels with data, in the order of the chart.

    Parameters
    ----------
    numbers
        (rows, cols), from :func:`floemap.icechart.label.rasterize.rasterize_polygons`.
    valid
        (rows, cols), true where the product has data.
    whole
        The table of all polygons of the chart.
    geobox
        The grid.

    Returns
    -------
    ids
        (rows, cols) uint16, 0 where there is no polygon or no data.
    table
        The table of these ids.

    Raises
    ------
    ChartError
        If more than 65,535 polygons have pixels.
    """
    pixels = np.zeros(len(whole) + 1, np.int64)
    for row in range(0, len(numbers), STRIP_ROWS):
        rows = np.s_[row : row + STRIP_ROWS]
        pixels += np.bincount(numbers[rows][valid[rows]], minlength=len(pixels))
    pixels[0] = 0
    kept = np.concatenate([[0], np.flatnonzero(pixels)])
    if len(kept) - 1 > MAX_POLYGONS:
        raise ChartError(
            f"has pixels of {len(kept) - 1:,} polygons on the grid; at most {MAX_POLYGONS:,} can be numbered.",
            hint="Label the chart on smaller grids, or merge its polygons of equal codes.",
        )
    new = np.zeros(len(pixels), np.uint16)
    new[kept] = np.arange(len(kept))
    ids = new[numbers]
    ids[~valid] = 0
    pixel_km2 = abs(geobox.resolution.x * geobox.resolution.y) / 1e6
    return ids, PolygonTable(
        classes=whole.classes,
        features=whole.features[kept],
        poly_types=tuple(whole.poly_types[i] for i in kept),
        codes=MappingProxyType({name: codes[kept] for name, codes in whole.codes.items()}),
        rules=tuple(whole.rules[i] for i in kept),
        fractions=whole.fractions[kept],
        dominant=whole.dominant[kept],
        candidates=whole.candidates[kept],
        concentration=whole.concentration[kept],
        pixels=pixels[kept],
        area_km2=pixels[kept] * pixel_km2,
        floe=None if whole.floe is None else whole.floe[kept],
    )
