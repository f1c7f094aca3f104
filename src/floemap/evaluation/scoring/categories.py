"""Counts of further classes, such as those of floe size: pixels by the chart's class and the predicted one.

The chart's class of a pixel is that of its polygon. A predicted concentration is counted, too, in classes of tenths, as
AI4Arctic's charts have it: both the chart's value and the predicted one are rounded to the nearest tenth.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from floemap.evaluation.scoring.confusion import PairCounts
from floemap.evaluation.scoring.scores import scores
from floemap.icechart.label.polygon_table import PolygonTable
from floemap.icechart.label.polygon_values import CATEGORIES, VALUES, column_of, values_of
from floemap.legend import IGNORE

#: Classes of a concentration: tenths from 0 to 10.
TENTHS = tuple(f"{10 * k} %" for k in range(11))
#: The value that is counted in classes.
CONCENTRATION = "concentration"


class CategoryCounts:
    """Pixels by the chart's class and the predicted one, filled strip by strip.

    Parameters
    ----------
    target
        A category of :data:`floemap.icechart.label.polygon_values.CATEGORIES`, or "concentration".
    table
        The chart's polygons.
    """

    def __init__(self, target: str, table: PolygonTable) -> None:
        self._target, self._pairs = target, PairCounts()
        of_polygon = values_of(table)[:, column_of(target)].astype(np.float64)
        self._of_stored = np.arange(IGNORE + 1, dtype=np.uint8)
        if target == CONCENTRATION:
            value, of_polygon = VALUES[target], np.rint(10 * of_polygon)
            # Stored values are whole steps; their product with 10 is rounded off first, so that halves stay halves.
            tenths = np.rint(np.round(10 * (value.low + value.step * np.arange(IGNORE)), 6))
            self._of_stored[:IGNORE] = np.clip(tenths, 0, 10)
        self._of_polygon = np.where(np.isfinite(of_polygon), of_polygon, IGNORE).astype(np.uint8)

    def add(self, ids: NDArray[np.uint16], stored: NDArray[np.uint8]) -> None:
        """Count a strip: polygons, (rows, cols), 0 where none counts, and the head's raster, no-data 255."""
        self._pairs.add(self._of_polygon[ids], self._of_stored[stored])

    def as_dict(self) -> dict[str, Any]:
        """Return target, classes, counts (rows reference, columns prediction) and scores, ready for JSON.

        Raises
        ------
        ConfigError
            If the raster holds an id that is not a class.
        """
        titles = TENTHS if self._target == CONCENTRATION else CATEGORIES[self._target].classes
        counts = self._pairs.confusion(len(titles))
        about = {"target": self._target, "classes": dict(enumerate(titles))}
        return about | counts.as_dict() | {"scores": scores(counts).as_dict(titles)}
