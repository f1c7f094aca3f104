"""Scores of predicted values, such as the concentration of ice: sums over pixels, by block of the scene.

The reference is the chart: each pixel has the value of its polygon. Where the scene is simulated, the truth of each
pixel is a second reference. Blocks are those of :mod:`floemap.evaluation.statistics.blocks`, so that intervals of
values come from the same resampling as those of classes.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from floemap.evaluation.scoring.block_edges import BLOCK_M, block_edges
from floemap.icechart.label.polygon_table import PolygonTable
from floemap.icechart.label.polygon_values import VALUES, column_of, values_of
from floemap.legend import IGNORE
from floemap.moments import MOMENTS, moments_by, value_scores_by_name

#: Definitions by reference.
DEFINITIONS = {
    "chart": "Predicted value of each pixel against the value that the chart gives for its polygon.",
    "truth": "Predicted concentration of each pixel against the simulated truth: 1 for ice, 0 for water.",
}


class ValueCounts:
    """Moments of a predicted value by block, filled strip by strip.

    Parameters
    ----------
    target
        Name of the value, in :data:`floemap.icechart.label.polygon_values.VALUES`.
    table
        The chart's polygons.
    shape
        Numbers of rows and columns of the scene.
    pixel_m
        Pixel size in metres; None where it is not known, and the scene is one block.
    water
        Id of the class water in the truth; None without a truth.
    """

    def __init__(
        self, target: str, table: PolygonTable, shape: tuple[int, int], pixel_m: float | None, water: int | None = None
    ) -> None:
        self._value, self._target = VALUES[target], target
        self._of_polygon = values_of(table)[:, column_of(target)].astype(np.float64)
        sides = (np.array([0, n]) if pixel_m is None else block_edges(n, pixel_m, max(BLOCK_M, pixel_m)) for n in shape)
        self._edges = tuple(sides)
        self._shape = tuple(len(edges) - 1 for edges in self._edges)
        references = ["chart"] if water is None or target != "concentration" else ["chart", "truth"]
        self._water = water
        blocks = self._shape[0] * self._shape[1]
        self._sums = {name: np.zeros((blocks, len(MOMENTS))) for name in references}
        self._known = {name: np.zeros(blocks, np.int64) for name in references}

    def add(
        self,
        first_row: int,
        ids: NDArray[np.uint16],
        stored: NDArray[np.uint8],
        truth: NDArray[np.uint8] | None = None,
    ) -> None:
        """Count a strip.

        Parameters
        ----------
        first_row
            First row of the strip in the scene.
        ids
            Polygons, (rows, cols), 0 where none counts.
        stored
            Predicted values as stored, no-data 255.
        truth
            True classes, no-data 255. Only pixels in a polygon count, as for the chart.
        """
        rows, cols = (
            np.searchsorted(edges, np.arange(first, first + n), side="right") - 1
            for edges, first, n in zip(self._edges, (first_row, 0), ids.shape, strict=True)
        )
        block = rows[:, None] * self._shape[1] + cols
        references = {"chart": self._of_polygon[ids]}
        if truth is not None and "truth" in self._sums:
            ice = (truth != self._water).astype(np.float64)
            references["truth"] = np.where((truth == IGNORE) | (ids == 0), np.nan, ice)
        for name, reference in references.items():
            known = np.isfinite(reference)
            self._known[name] += np.bincount(block[known], minlength=len(self._known[name]))
            both = known & (stored != IGNORE)
            predicted = self._value.low + self._value.step * stored[both].astype(np.float64)
            self._sums[name] += moments_by(block[both], len(self._sums[name]), reference[both], predicted)

    def as_dict(self) -> dict[str, Any]:
        """Return target, unit, and by reference the pixels, scores and moments by block, ready for JSON.

        Only blocks in which the reference has a value are returned, row by row.
        """
        about: dict[str, Any] = {"target": self._target, "unit": self._value.unit, "moments": list(MOMENTS)}
        for name, sums in self._sums.items():
            total = sums.sum(axis=0)
            about[name] = {
                "definition": DEFINITIONS[name],
                "pixels": int(total[0]),
                "without_prediction": int(self._known[name].sum() - total[0]),
                "scores": value_scores_by_name(total),
                "blocks": sums[self._known[name] > 0].tolist(),
            }
        return about
