"""Scores by polygon of the chart: predicted shares against its partial concentrations, and truth inside mixed polygons.

A score of pixels compares with the dominant type, and counts a rightly mapped second type as an error. Here each
polygon is one value for each class: the share of its pixels that are predicted as the class.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from floemap.evaluation.scoring.confusion import Classes
from floemap.icechart.label.polygon_table import PolygonTable
from floemap.legend import IGNORE

#: Polygons with a larger unknown share have no shares to compare with.
MOST_UNKNOWN = 0.01
#: Percentages from which a type is the dominant one of its polygon: a plain majority, and AI4Arctic's rule.
DOMINANT_PERCENT = (50, 65)


class PolygonCounts:
    """Counts of predicted classes by polygon, filled strip by strip.

    Parameters
    ----------
    table
        The chart's polygons, with K classes.
    """

    def __init__(self, table: PolygonTable) -> None:
        self._table = table
        self._predicted = np.zeros((len(table) + 1, len(table.classes)), np.int64)
        self._mixed = (table.purity < DOMINANT_PERCENT[-1] / 100) & (table.unknown <= MOST_UNKNOWN)
        self._in_mixed = np.zeros(2, np.int64)  # pixels with a truth, and those predicted as it

    def add(self, ids: NDArray[np.uint16], prediction: Classes, truth: Classes | None = None) -> None:
        """Count a strip: polygon ids, (rows, cols), 0 where none counts, and class rasters, uint8 with no-data 255."""
        classes = self._predicted.shape[1]
        counted = (ids > 0) & (prediction < classes)
        pairs = ids[counted].astype(np.int64) * classes + prediction[counted]
        self._predicted += np.bincount(pairs, minlength=self._predicted.size).reshape(self._predicted.shape)
        if truth is not None:
            inside = counted & (truth != IGNORE) & self._mixed[ids]
            self._in_mixed += [inside.sum(), (prediction[inside] == truth[inside]).sum()]

    def as_dict(self, *, with_truth: bool) -> dict[str, Any]:
        """Return the scores, ready for JSON; ``None`` where one is undefined. All are weighted by predicted pixels."""
        table = self._table
        pixels = self._predicted.sum(axis=1)
        kept = np.flatnonzero((pixels > 0) & (table.unknown <= MOST_UNKNOWN))
        weights, chart = pixels[kept].astype(np.float64), table.fractions[kept, :-1]
        predicted = self._predicted[kept] / pixels[kept, None]
        shares = {
            key: _compared(chart[:, k], predicted[:, k], weights) for k, key in enumerate(table.classes) if len(kept)
        }
        about: dict[str, Any] = {
            "definition": (
                "Share of each polygon's predicted pixels that have a class against its partial concentration, by "
                f"polygons of which at most {MOST_UNKNOWN:.0%} is unknown, weighted by their predicted pixels."
            ),
            "polygons": len(kept),
            "pixels": int(weights.sum()),
            "error_of_shares": _mean(np.abs(predicted - chart).sum(axis=1) / 2, weights),
            "shares": shares,
            "dominant": {},
            "truth_in_mixed": None,
        }
        for percent in DOMINANT_PERCENT:
            # A type is dominant with more than half, or with 65 % and more.
            purity, least = table.purity[kept], percent / 100
            some = (purity > least) if percent == DOMINANT_PERCENT[0] else (purity >= least - 1e-6)
            right = predicted[some].argmax(axis=1) == table.dominant[kept][some]
            about["dominant"][str(percent)] = {
                "polygons": int(some.sum()),
                "right": int(right.sum()),
                "right_by_area": _mean(right.astype(np.float64), weights[some]),
            }
        if with_truth:
            of, right_pixels = map(int, self._in_mixed)
            about["truth_in_mixed"] = {
                "definition": (
                    "Prediction against the simulated truth, in polygons in which no type has "
                    f"{DOMINANT_PERCENT[-1]} %."
                ),
                "pixels": of,
                "right": right_pixels,
                "accuracy": right_pixels / of if of else None,
            }
        return about


def _compared(chart: NDArray[np.float64], predicted: NDArray[np.float64], weights: NDArray[np.float64]) -> Any:
    """Return mean absolute error, bias and R2 of a class's shares; R2 is undefined where the chart's are all equal."""
    spread = _mean((chart - np.average(chart, weights=weights)) ** 2, weights) or 0.0
    squared = _mean((predicted - chart) ** 2, weights) or 0.0
    return {
        "mean_absolute_error": _mean(np.abs(predicted - chart), weights),
        "bias": _mean(predicted - chart, weights),
        "r2": 1 - squared / spread if spread > 1e-12 else None,
    }


def _mean(values: NDArray[np.float64], weights: NDArray[np.float64]) -> float | None:
    return float(np.average(values, weights=weights)) if len(values) else None
