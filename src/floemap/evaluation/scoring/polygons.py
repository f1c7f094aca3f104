"""Scores by polygon of the chart: predicted shares against its partial concentrations, and truth inside mixed polygons.

A score of pixels compares with the dominant type, and counts a rightly mapped second type as an error. Here each
polygon is one value for each class: the share of its pixels that are predicted as the class.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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
    """Counts of predicted classes by polygon, filled strip by strip; evaluations and checks count by it alike.

    A pixel counts where map and chart have a class: a polygon may hold land, on which a map has one as well.

    Parameters
    ----------
    table
        The chart's polygons, with K classes.
    """

    def __init__(self, table: PolygonTable) -> None:
        self._table = table
        self._predicted = np.zeros((len(table) + 1, len(table.classes)), np.int64)
        self._mixed = (table.purity < DOMINANT_PERCENT[-1] / 100) & (table.unknown <= MOST_UNKNOWN)
        self._in_mixed = np.zeros((2, len(table) + 1), np.int64)  # pixels with a truth, and those predicted as it

    def add(self, ids: NDArray[np.uint16], prediction: Classes, chart: Classes, truth: Classes | None = None) -> None:
        """Count a strip: polygon ids, (rows, cols), 0 where none counts, and class rasters, uint8 with no-data 255."""
        number, classes = self._predicted.shape
        counted = (ids > 0) & (chart != IGNORE) & (prediction < classes)
        own, seen = ids[counted].astype(np.int64), prediction[counted]
        self._predicted += np.bincount(own * classes + seen, minlength=number * classes).reshape(number, classes)
        if truth is not None:
            known = self._mixed[own] & (truth[counted] != IGNORE)
            for total, some in zip(self._in_mixed, (known, known & (truth[counted] == seen)), strict=True):
                total += np.bincount(own[some], minlength=number)

    def sums(self) -> dict[str, NDArray[Any]]:
        """Return what adds up over polygons, see :func:`sums_by_polygon`, and of mixed ones what has a truth."""
        mixed = dict(zip(("mixed_px", "mixed_right_px"), self._in_mixed, strict=True))
        return sums_by_polygon(self._table, self._predicted) | mixed

    def as_dict(self, *, with_truth: bool) -> dict[str, Any]:
        """Return the scores, ready for JSON; ``None`` where one is undefined. All are weighted by predicted pixels."""
        sums = self.sums()
        total = {name: values.sum(axis=0) for name, values in sums.items()}
        n = float(total["pixels"])
        about: dict[str, Any] = {
            "definition": (
                "Share of each polygon's predicted pixels that have a class against its partial concentration, where "
                f"the chart has a class, by polygons of which at most {MOST_UNKNOWN:.0%} is unknown, weighted by their "
                "predicted pixels."
            ),
            "polygons": int(total["polygons"]),
            "pixels": int(n),
            "error_of_shares": total["share_error"] / n if n else None,
            "shares": scores_of_shares(self._table.classes, total) if n else {},
            "dominant": {},
            "truth_in_mixed": None,
        }
        for i, percent in enumerate(DOMINANT_PERCENT):
            has, right = sums["dominant"][:, i], sums["dominant_right"][:, i]
            about["dominant"][str(percent)] = {
                "polygons": int(np.count_nonzero(has)),
                "right": int(np.count_nonzero(right)),
                "right_by_area": right.sum() / has.sum() if has.any() else None,
            }
        if with_truth:
            of, right_pixels = int(total["mixed_px"]), int(total["mixed_right_px"])
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


def sums_by_polygon(table: PolygonTable, predicted: NDArray[Any]) -> dict[str, NDArray[np.float64]]:
    """Return what adds up over polygons, weighted by predicted pixels, (P + 1, ...) by name.

    Polygons of which more than :data:`MOST_UNKNOWN` is unknown have zeros. The names are those of the attributes of
    :class:`floemap.evaluation.checks.polygon_shares.PolygonAmounts`.

    Parameters
    ----------
    table
        The chart's polygons, with K classes.
    predicted
        Pixels of each polygon by predicted class, (P + 1, K).
    """
    pixels = predicted.sum(axis=1)
    weights = np.where(table.unknown <= MOST_UNKNOWN, pixels, 0).astype(np.float64)
    shares = predicted / np.maximum(pixels, 1)[:, None]
    chart = table.fractions[:, :-1].astype(np.float64)
    off, each = shares - chart, weights[:, None]
    # A type is dominant with more than half, or with 65 % and more.
    has = np.stack([table.purity > 0.5, table.purity >= DOMINANT_PERCENT[-1] / 100 - 1e-6], axis=1)
    dominant = each * has
    return {
        "polygons": (weights > 0).astype(np.float64),
        "pixels": weights,
        "share_error": weights * np.abs(off).sum(axis=1) / 2,
        "abs_error": each * np.abs(off),
        "error": each * off,
        "squared_error": each * off**2,
        "chart": each * chart,
        "chart_squared": each * chart**2,
        "dominant": dominant,
        "dominant_right": dominant * (shares.argmax(axis=1) == table.dominant)[:, None],
    }


def spread_of_shares(total: Mapping[str, Any]) -> NDArray[np.float64]:
    """Return the spread of the chart's shares of each class, (K,), for sums over polygons: 0 where all are equal."""
    n = float(total["pixels"])
    spread = total["chart_squared"] - total["chart"] ** 2 / n if n else np.zeros_like(total["chart"])
    return np.where(spread > 1e-12 * n, spread, 0.0)


def scores_of_shares(classes: Sequence[str], total: Mapping[str, Any]) -> dict[str, dict[str, float | None]]:
    """Return mean absolute error, bias and R2 of each class's shares, for sums over polygons.

    R2 is undefined where the chart's shares are all equal, and all three without a polygon.
    """
    n, spread = float(total["pixels"]), spread_of_shares(total)
    return {
        key: {
            "mean_absolute_error": float(total["abs_error"][k]) / n if n else None,
            "bias": float(total["error"][k]) / n if n else None,
            "r2": float(1 - total["squared_error"][k] / spread[k]) if spread[k] else None,
        }
        for k, key in enumerate(classes)
    }
