"""The check of the ice edge: the distance between the two edges, and the area on the wrong side.

Position. Charts draw the edge through scattered floes; a map at 80 m has a border around every floe and every wrong
pixel. So both maps are first generalised alike: a pixel is ice if more than half of the compared pixels in a window of
some 5 km around it are ice, water if less than half, and unchanged at exactly half. Straight edges do not move. The
edge then consists of every ice pixel that shares a side with a water pixel. Beside land, no-data or the scene's border
there is no edge, because the neighbour is unknown. Polynyas wider than half the window have an edge.

Distance. For each edge pixel of one map, the distance to the nearest edge pixel of the other: mean and 95th percentile,
in both directions. The larger mean is the modified Hausdorff distance (M.-P. Dubuisson, A. K. Jain, 1994; for sea ice
D. Dukhovskoy et al., 2015, J. Geophys. Res. Oceans 120, 5910-5931, doi:10.1002/2015JC010989). The larger percentile is
the Hausdorff distance at 95 %, which does not depend on a single stray piece of edge.

Area. The integrated ice-edge error is the area where the maps disagree on ice or water, O + U: O where only the
prediction has ice, U where only the reference has. |O - U| is the error of the extent, 2 min(O, U) of the place
(H. Goessling et al., 2016, Geophys. Res. Lett. 43, 1642-1650, doi:10.1002/2015GL067232, where a cell is ice from 15 %
concentration on; here, from one half of the generalised map on).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import cv2
import numpy as np
from numpy.typing import NDArray

from floemap.errors import ConfigError
from floemap.evaluation.checks.amounts import Amounts, ByBlock, ratio
from floemap.evaluation.checks.classes import Bools, MapPair
from floemap.evaluation.checks.measures import Measure
from floemap.evaluation.statistics.blocks import BlockGrid

#: Side of the window in which the maps are generalised, km.
WINDOW_KM = 5.0
#: Width of the bins of distances, km; distances are rounded to the nearest multiple.
STEP_KM = 0.1

Floats = NDArray[np.floating[Any]]


@dataclass(frozen=True, eq=False)
class EdgeAmounts(Amounts):
    """Lengths and areas of generalised maps, where both have a class.

    The length of an edge is the number of its pixels times their side.

    Attributes
    ----------
    window_km
        Side of the window in which the maps were generalised.
    compared_km2
        Area in which both maps have a class.
    over_km2, under_km2
        Area where only the prediction has ice, and where only the reference has.
    predicted_edge_km, reference_edge_km
        Lengths of the edges.
    scenes
        Number of scenes with an edge in both maps, in the prediction only, in the reference only, in neither, (4,).
    to_reference_km, to_prediction_km
        Length of the predicted edge by its distance to the reference's edge, in bins of :data:`STEP_KM` from 0, and
        the reverse. Only scenes with an edge in both maps count.
    to_reference_moment, to_prediction_moment
        Sum of length times unrounded distance, km2.
    """

    SETTINGS: ClassVar[tuple[str, ...]] = ("window_km",)
    WHOLE: ClassVar[tuple[str, ...]] = ("scenes",)
    MEASURES: ClassVar[tuple[Measure, ...]] = (
        Measure(
            key="ice_edge_km", check="ice_edge", value="mean_distance_km", title="Ice edge off", unit="km",
            better="lower", main=True, harm=6,
            question="How far apart are the two ice edges, on average of both ways?",
            sentence="puts the ice edge {} off on average",
        ),
        Measure(
            key="ice_edge_hausdorff95_km", check="ice_edge", value="hausdorff95_km",
            title="Ice edge off, Hausdorff 95 %", unit="km", better="lower", digits=1,
            question="How far off are the worst parts of the edge, the last 5 % left out?",
        ),
        Measure(
            key="iiee_km2", check="ice_edge", value="iiee_km2", title="Wrong side of the edge", unit="km2",
            better="lower", digits=0, main=True, harm=7,
            question="How much area is ice in one map and water in the other?",
            sentence="has {} on the wrong side of the ice edge",
        ),
    )  # fmt: skip

    window_km: float
    compared_km2: float
    over_km2: float
    under_km2: float
    predicted_edge_km: float
    reference_edge_km: float
    scenes: NDArray[np.int64]
    to_reference_km: Floats
    to_prediction_km: Floats
    to_reference_moment: float
    to_prediction_moment: float

    def values(self) -> dict[str, Any]:
        """Return distances in km and areas in km2."""
        means = [
            ratio(moment, float(lengths.sum()))
            for moment, lengths in (
                (self.to_reference_moment, self.to_reference_km),
                (self.to_prediction_moment, self.to_prediction_km),
            )
        ]
        p95 = [_percentile(lengths, 0.95) for lengths in (self.to_reference_km, self.to_prediction_km)]
        return {
            "predicted_edge_km": self.predicted_edge_km,
            "reference_edge_km": self.reference_edge_km,
            "prediction_to_reference_mean_km": means[0],
            "prediction_to_reference_p95_km": p95[0],
            "reference_to_prediction_mean_km": means[1],
            "reference_to_prediction_p95_km": p95[1],
            "mean_distance_km": None if means[0] is None or means[1] is None else (means[0] + means[1]) / 2,
            "modified_hausdorff_km": _larger(means),
            "hausdorff95_km": _larger(p95),
            "no_distance_because": self._reason(),
            "over_km2": self.over_km2,
            "under_km2": self.under_km2,
            "iiee_km2": self.over_km2 + self.under_km2,
            "absolute_extent_error_km2": abs(self.over_km2 - self.under_km2),
            "misplacement_km2": 2 * min(self.over_km2, self.under_km2),
        }

    def _reason(self) -> str | None:
        """Return the reason why there are no distances; None where there are."""
        both, predicted, reference, _ = self.scenes.tolist()
        if both:
            return None
        if predicted and reference:
            return "no scene has an ice edge in both maps"
        if predicted or reference:
            return f"there is no ice edge in the {'reference' if predicted else 'prediction'}"
        return "there is no ice edge in either map"


def _larger(values: list[float | None]) -> float | None:
    known = [v for v in values if v is not None]
    return max(known) if len(known) == len(values) else None


def _percentile(lengths_km: Floats, share: float) -> float | None:
    """Distance that `share` of the length does not exceed, to the nearest step."""
    total = lengths_km.sum()
    if not total:
        return None
    return float(np.searchsorted(np.cumsum(lengths_km), share * total * (1 - 1e-12)) * STEP_KM)


def generalise(ice: Bools, here: Bools, window_px: int) -> Bools:
    """Return ice by the majority of the window around each pixel.

    Parameters
    ----------
    ice
        (rows, cols); False where not `here`.
    here
        Pixels that are compared; only these vote.
    window_px
        Side of the window, odd.
    """
    # 16 bits count any window that fits them, and take half of the memory.
    depth = cv2.CV_16U if window_px**2 < 2**15 else cv2.CV_32F
    size = (window_px, window_px)

    def count(what: Bools) -> NDArray[Any]:
        return np.asarray(
            cv2.boxFilter(what.view(np.uint8), depth, size, normalize=False, borderType=cv2.BORDER_CONSTANT)
        )

    twice, voters = count(ice), count(here)
    twice *= 2
    majority = twice > voters
    majority |= (twice == voters) & ice
    return np.asarray(majority & here)


def edge_pixels(ice: Bools, here: Bools) -> Bools:
    """Return the ice pixels that share a side with a water pixel; `here` says which pixels are known."""
    water = here & ~ice
    beside = np.zeros_like(ice)
    beside[1:] |= water[:-1]
    beside[:-1] |= water[1:]
    beside[:, 1:] |= water[:, :-1]
    beside[:, :-1] |= water[:, 1:]
    return np.asarray(beside & ice)


def window_px(window_km: float, pixel_m: float) -> int:
    """Return the odd number of pixels nearest to the window's side, at least 1."""
    return 2 * max(0, round((window_km * 1000 / pixel_m - 1) / 2)) + 1


def ice_edge(maps: MapPair, window_km: float = WINDOW_KM) -> ByBlock[EdgeAmounts] | str:
    """Compare the ice edges. Every class but the legend's water is ice.

    Parameters
    ----------
    maps
        The maps to compare.
    window_km
        Side of the window in which maps are generalised; with 0 they are not generalised.

    Returns
    -------
    The amounts, or the reason why the check does not apply.

    Raises
    ------
    ConfigError
        If the window is negative.
    """
    if not window_km >= 0:
        raise ConfigError(f"the window of {window_km} km is negative.", hint="0 switches generalisation off.")
    here, grid, km = maps.here, maps.grid, maps.pixel_km
    if not here.any():
        return "no pixel has a class in both maps"
    size = window_px(window_km, maps.pixel_m)
    ices = [generalise((c != maps.legend.water) & here, here, size) for c in maps.maps]
    edges = [edge_pixels(ice, here) for ice in ices]
    areas, lengths = np.zeros((2, len(grid))), np.zeros((2, len(grid)))
    for block, window in grid.pieces():
        for i in (0, 1):
            areas[i, block] += np.count_nonzero(ices[i][window] & ~ices[1 - i][window])
            lengths[i, block] += np.count_nonzero(edges[i][window])
    predicted, drawn = (bool(n.any()) for n in lengths)
    kinds = predicted and drawn, predicted and not drawn, drawn and not predicted, not (predicted or drawn)
    measured = [(np.zeros((len(grid), 1)), np.zeros(len(grid)))] * 2
    if kinds[0]:
        measured = [_distances(edges[i], edges[1 - i], grid, km) for i in (0, 1)]
    amounts = {
        "compared_km2": maps.compared_km2,
        "over_km2": areas[0] * km**2,
        "under_km2": areas[1] * km**2,
        "predicted_edge_km": lengths[0] * km,
        "reference_edge_km": lengths[1] * km,
        # One scene of one kind, distributed evenly over its blocks.
        "scenes": np.tile(np.array(kinds, np.float64) / len(grid), (len(grid), 1)),
        "to_reference_km": measured[0][0],
        "to_prediction_km": measured[1][0],
        "to_reference_moment": measured[0][1],
        "to_prediction_moment": measured[1][1],
    }
    return ByBlock(EdgeAmounts, {"window_km": float(window_km)}, amounts)


def _distances(
    edge: Bools, other: Bools, grid: BlockGrid, km: float
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the length of `edge` by block and bin of distance to `other`; and length times distance by block."""
    distance_px = cv2.distanceTransform((~other).view(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)[edge]
    # OpenCV's last digits differ from run to run. Squares of distances between pixel centres are integers.
    exact_km = np.sqrt(np.rint(np.asarray(distance_px, np.float64) ** 2)) * km
    step = np.rint(exact_km / STEP_KM).astype(np.int64)
    block, n = grid.at(*np.nonzero(edge)), int(step.max()) + 1
    lengths = np.bincount(block * n + step, minlength=len(grid) * n).reshape(-1, n)
    moments = np.bincount(block, weights=exact_km, minlength=len(grid))
    return np.asarray(lengths * km, np.float64), np.asarray(moments * km, np.float64)
