"""The named scores: what each takes for the reference and for right. Functions of arrays; no raster is ever edited.

- ``primary`` compares with the class of the chart's dominant ice type.
- ``either`` is primary, but a prediction is right also where it is the class with the polygon's second largest share.
- ``away_from_borders_K`` is primary on pixels farther than K pixels from every polygon border.
- ``truth`` compares with the truth of a simulated scene.
- ``chart_vs_truth`` compares the chart with that truth, on the pixels that ``truth`` scores.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from floemap.evaluation.scoring.confusion import Classes, PairCounts
from floemap.legend import IGNORE

PRIMARY, EITHER, TRUTH, CHART_VS_TRUTH = "primary", "either", "truth", "chart_vs_truth"
#: No-data value of fractions and distances.
NO_VALUE = 255
#: Number of steps per pixel in the stored distance.
_STEPS_PER_PX = 4


def away(distance_px: int) -> str:
    """Return the name of the score of pixels farther than `distance_px` from borders."""
    return f"away_from_borders_{distance_px}"


def definition(name: str, either_min_percent: int) -> str:
    """Return the definition of a named score, one or two sentences."""
    if name.startswith(away(0)[:-1]):
        return (
            f"As primary, only pixels farther than {name.rpartition('_')[2]} px from every border of a chart polygon."
        )
    return {
        PRIMARY: "Prediction against the class of the chart's dominant ice type.",
        EITHER: (
            "As primary, and the prediction is right also where it is the class with the polygon's second largest "
            f"share, if that is {either_min_percent} % or more; such a pixel counts as rightly predicted dominant type."
        ),
        TRUTH: "Prediction against the simulated truth, where there are a chart's label and a truth.",
        CHART_VS_TRUTH: "The chart itself against the simulated truth, on the pixels that the score truth is of.",
    }[name]


def counted_as_either(
    reference: Classes, prediction: Classes, fractions: NDArray[np.uint8], min_percent: int
) -> Classes:
    """Return the prediction, with the reference's class where it is the polygon's second type, (rows, cols) uint8.

    Counted against the reference, such pixels are right, and the reference's counts of each class do not change.

    Parameters
    ----------
    reference, prediction
        (rows, cols) uint8: class ids with no-data IGNORE (255).
    fractions
        (classes, rows, cols) uint8: each class's percentage of the polygon's area, with no-data 255.
    min_percent
        Smallest share that counts, at least 1. Classes that tie for the second largest share are all second.
    """
    classes = len(fractions)
    second = np.zeros(reference.shape, np.uint8)  # largest share of a class other than the reference's
    share = np.zeros(reference.shape, np.uint8)  # of the predicted class
    for i, fraction in enumerate(fractions):
        known = np.where(fraction == NO_VALUE, np.uint8(0), fraction)
        np.maximum(second, known, out=second, where=reference != i)
        np.copyto(share, known, where=prediction == i)
    is_second = (share == second) & (share >= min_percent) & (reference < classes) & (prediction < classes)
    return np.where(is_second, reference, prediction)


def reference_away(reference: Classes, distance: NDArray[np.uint8], distance_px: int) -> Classes:
    """Return the reference where it is farther than `distance_px` from borders, IGNORE elsewhere, (rows, cols).

    `distance` is in quarters of a pixel, rounded, with no-data 255 outside the chart.
    """
    far = (distance > _STEPS_PER_PX * distance_px) & (distance != NO_VALUE)
    return np.where(far, reference, np.uint8(IGNORE))


@dataclass
class Agreement:
    """Counts of pixels with label, prediction and truth, by which of them agree; filled strip by strip.

    They attribute errors against the chart: where the prediction agrees with the truth, the error is the chart's.
    """

    counts: dict[str, int] = field(
        default_factory=lambda: dict.fromkeys(
            (
                "pixels",
                "right_by_chart_and_truth",
                "right_by_chart_wrong_by_truth",
                "wrong_by_chart_right_by_truth",
                "wrong_by_both_chart_true",
                "wrong_by_both_chart_wrong",
            ),
            0,
        )
    )

    def add(self, reference: Classes, prediction: Classes, truth: Classes) -> None:
        """Count the pixels of three class rasters, (rows, cols) uint8 each."""
        chart, true, both = prediction == reference, prediction == truth, reference == truth
        code = chart.view(np.uint8) | true.view(np.uint8) << 1 | both.view(np.uint8) << 2
        code[(reference == IGNORE) | (prediction == IGNORE) | (truth == IGNORE)] = 8
        n = np.bincount(code.ravel(), minlength=9).tolist()
        self.counts["pixels"] += sum(n[:8])
        self.counts["right_by_chart_and_truth"] += n[7]
        self.counts["right_by_chart_wrong_by_truth"] += n[1]
        self.counts["wrong_by_chart_right_by_truth"] += n[2]
        self.counts["wrong_by_both_chart_true"] += n[4]
        self.counts["wrong_by_both_chart_wrong"] += n[0]


@dataclass
class Tally:
    """Counts of every named score of one scene, filled strip by strip in any order.

    Parameters
    ----------
    away_px
        Distances from borders, pixels, beyond which pixels are scored; requires strips with distances.
    either_min_percent
        See :func:`counted_as_either`.
    """

    away_px: Sequence[int] = ()
    either_min_percent: int = 6
    pairs: dict[str, PairCounts] = field(default_factory=dict)
    agreement: Agreement = field(default_factory=Agreement)

    def add(
        self,
        reference: Classes,
        prediction: Classes,
        *,
        fractions: NDArray[np.uint8] | None = None,
        distance: NDArray[np.uint8] | None = None,
        truth: Classes | None = None,
    ) -> None:
        """Count a strip, (rows, cols) uint8 each. Scores whose rasters are ``None`` are not counted."""
        self._count(PRIMARY, reference, prediction)
        if fractions is not None:
            counted = counted_as_either(reference, prediction, fractions, self.either_min_percent)
            self._count(EITHER, reference, counted)
        if distance is not None:
            for k in self.away_px:
                self._count(away(k), reference_away(reference, distance, k), prediction)
        if truth is not None:
            none = np.uint8(IGNORE)
            self._count(TRUTH, np.where(reference == IGNORE, none, truth), prediction)
            scored = (reference != IGNORE) & (prediction != IGNORE)
            self._count(CHART_VS_TRUTH, np.where(scored, truth, none), np.where(scored, reference, none))
            self.agreement.add(reference, prediction, truth)

    def _count(self, name: str, reference: Classes, prediction: Classes) -> None:
        self.pairs.setdefault(name, PairCounts()).add(reference, prediction)

    def as_dict(self, classes: int) -> dict[str, dict[str, Any]]:
        """Return the counts of each score, JSON-ready."""
        return {name: pairs.confusion(classes).as_dict() for name, pairs in self.pairs.items()}
