"""The check of polygons: predicted shares against partial concentrations, and the truth inside mixed polygons.

A score of pixels compares with the dominant type of each polygon, so a map that shows the second type where the analyst
saw it scores worse. Here each polygon is one value for each class: the share of its predicted pixels. Polygons of which
more than :data:`~floemap.evaluation.scoring.polygons.MOST_UNKNOWN` is unknown do not count. Sums are weighted by
predicted pixels where the chart has a class.

All counts of a polygon but the confusion of pure ones belong to the block that contains most of its pixels: blocks do
not cut polygons, polygons that lie side by side are drawn together, and the draws are those of all other measures.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from floemap.evaluation.checks.amounts import Amounts, Blocks, ByBlock, ratio
from floemap.evaluation.checks.classes import Classes, MapPair, keys
from floemap.evaluation.checks.measures import SHARES, Measure
from floemap.evaluation.scoring.polygons import (
    DOMINANT_PERCENT,
    PolygonCounts,
    scores_of_shares,
    spread_of_shares,
)
from floemap.evaluation.scoring.scores import mean_f1
from floemap.icechart.label.polygon_table import PolygonTable
from floemap.legend import IGNORE

#: Why there are no such numbers.
NO_POLYGONS = (
    "the labels have no polygons.tif and polygons.csv: label the charts again, with `floemap label --overwrite`"
)
#: Share of a pure polygon that its dominant type has.
PURE = 0.99

Floats = NDArray[np.floating[Any]]


@dataclass(frozen=True, eq=False)
class PolygonAmounts(Amounts):
    """Sums over polygons, weighted by their predicted pixels where they have no other unit.

    Attributes
    ----------
    classes
        Keys of the legend's classes.
    polygons
        Number of polygons.
    pixels
        Their predicted pixels.
    share_error
        Half of the sum over classes of the absolute differences between predicted share and partial concentration: the
        share of the polygon that has the wrong type whatever the arrangement.
    abs_error, error, squared_error
        The absolute, signed and squared difference of each class's share, (classes,).
    chart, chart_squared
        Partial concentration of each class, and its square, (classes,).
    dominant, dominant_right
        Pixels of polygons with a dominant type, by each of ``DOMINANT_PERCENT``, (2,), and of those of them whose most
        frequent predicted class is that type.
    mixed_px, mixed_right_px
        Pixels with a truth in polygons without a dominant type at 65 %, and those predicted as the truth.
    pure_confusion
        Pixels by chart's and predicted class, (classes, classes), in polygons of which one type has 99 % or more.
    """

    SETTINGS: ClassVar[tuple[str, ...]] = ("classes",)
    MEASURES: ClassVar[tuple[Measure, ...]] = (
        Measure(
            key="share_error", check="polygons", value="share_error", title="Error of shares", group=SHARES, unit="",
            better="lower", digits=3, main=True,
            question="What share of a polygon has the wrong type, however the types are arranged within it: half the "
            "sum of the differences between predicted shares and the analyst's partial concentrations?",
        ),
        Measure(
            key="share_r2", check="polygons", value="r2", title="R² of shares", group=SHARES, unit="",
            better="higher", digits=3,
            question="How much of the variation of shares among polygons and classes does the map explain?",
        ),
        Measure(
            key="dominant_50", check="polygons", value="dominant_50", title="Dominant type right, over 50 %",
            group=SHARES, unit="", better="higher", digits=3,
            question="On what share of the area of polygons with a type of more than 50 % does it prevail in the map?",
        ),
        Measure(
            key="dominant_65", check="polygons", value="dominant_65", title="Dominant type right, from 65 %",
            group=SHARES, unit="", better="higher", digits=3,
            question="On what share of the area of polygons with a type of 65 % or more does it prevail in the map?",
        ),
        Measure(
            key="pure_weighted_f1", check="polygons", value="pure_weighted_f1", title="Weighted F1, pure polygons",
            group=SHARES, unit="", better="higher", digits=3,
            question="How well does the map agree with the chart in polygons of one type, which no loss reads "
            "differently?",
        ),
        Measure(
            key="truth_in_mixed", check="polygons", value="truth_in_mixed", title="Right inside mixed polygons",
            group=SHARES, unit="", better="higher", digits=3, main=True,
            question="What share of the pixels has the true type inside polygons without a type of 65 %, where the "
            "chart does not say which type is where? Only simulated scenes have a truth.",
        ),
    )  # fmt: skip

    classes: tuple[str, ...]
    polygons: float
    pixels: float
    share_error: float
    abs_error: Floats
    error: Floats
    squared_error: Floats
    chart: Floats
    chart_squared: Floats
    dominant: Floats
    dominant_right: Floats
    mixed_px: float
    mixed_right_px: float
    pure_confusion: Floats

    def values(self) -> dict[str, Any]:
        """Return the scores by polygon, overall and by class."""
        total = vars(self)
        n, spread = float(self.pixels), spread_of_shares(total)
        varied = spread > 0
        found = {
            f"dominant_{percent}": ratio(float(self.dominant_right[i]), float(self.dominant[i]))
            for i, percent in enumerate(DOMINANT_PERCENT)
        }
        pure = float(mean_f1(self.pure_confusion)[..., 0]) if np.any(self.pure_confusion) else None
        return found | {
            "polygons": round(self.polygons),
            "share_error": ratio(float(self.share_error), n),
            "r2": float(1 - self.squared_error[varied].sum() / spread[varied].sum()) if varied.any() else None,
            "pure_weighted_f1": pure,
            "truth_in_mixed": ratio(float(self.mixed_right_px), float(self.mixed_px)),
            "shares": scores_of_shares(self.classes, total),
        }


def polygon_shares(
    maps: MapPair, chart: Classes, truth: Classes | None, ids: NDArray[np.uint16] | None, table: PolygonTable | None
) -> ByBlock[PolygonAmounts] | str:
    """Compare a map with the chart's partial concentrations, by polygon, or return the reason why this is not possible.

    Parameters
    ----------
    maps
        The map, with the blocks.
    chart
        Class ids of the chart, (rows, cols) uint8; pixels without a class do not count.
    truth
        The true classes in the same form, or None.
    ids, table
        Ids of polygons, (rows, cols), and their table; None where the labels have none.
    """
    if ids is None or table is None:
        return NO_POLYGONS
    grid, counts = maps.grid, PolygonCounts(table)
    drawn = np.zeros((len(grid), len(table) + 1), np.int32)  # pixels of each polygon by block
    for block, window in grid.pieces():
        true = None if truth is None else truth[window]
        counts.add(ids[window], maps.prediction[window], chart[window], true)
        drawn[block] += np.bincount(ids[window].ravel(), minlength=len(table) + 1)
    amounts: Blocks = {}
    for name, values in counts.sums().items():
        amounts[name] = np.zeros((len(grid), *values.shape[1:]))
        np.add.at(amounts[name], drawn.argmax(axis=0), values)
    pure = np.where((ids > 0) & (table.purity >= PURE)[ids], chart, np.uint8(IGNORE))
    amounts["pure_confusion"] = grid.confusions(pure, maps.prediction, len(table.classes)).astype(np.float64)
    return ByBlock(PolygonAmounts, {"classes": keys(maps.legend)}, amounts)
