"""The check of confidence: is a probability of 0.8 right in 8 of 10 cases, and is the model unsure where it is wrong?

Expected calibration error: pixels are binned into 15 bins by the probability of the chosen class; in each bin the mean
probability is compared with the share of right pixels; the differences are averaged, weighted by pixels (M. Naeini,
G. Cooper, M. Hauskrecht, 2015, AAAI; C. Guo et al., 2017, ICML, arXiv:1706.04599). The bins have equal widths; the
error in bins of equal numbers of pixels (J. Nixon et al., "Measuring calibration in deep learning", CVPR workshops,
2019) depends less on where they lie. By polygon: each polygon of the chart counts alike, divided among its pixels.
Uncalibrated: with the model's temperature T undone, p^T / sum of p^T, from the stored steps; of a model that is
calibrated by season the offset b of a class, too, p^T exp(-b), after which another class may be the most probable one.
Reliability of a class: the same for the class's own probability, chosen or not, against the frequency of the class in
the reference. Brier score: mean over pixels of the sum over classes of (probability - truth)^2, 0 to 2 (G. Brier, 1950,
Monthly Weather Review 78, 1-3). Entropy: - sum of p ln p over classes, divided by the logarithm of their number: 0 is
certain, 1 is uniform. Its mean over wrong pixels should be well above its mean over right ones.

Does the model know where it is wrong? An analyst reviews the pixels of which the model is unsure. So pixels are ordered
by the probability of the chosen class. The share of wrong pixels in the surer half is the error that remains after a
review of the other half: the selective risk at a coverage of one half (R. El-Yaniv, Y. Wiener, 2010, J. Machine
Learning Research 11, 1605-1641). The steps in which probabilities are stored order the pixels: of 15 bins, the highest
may hold most of a map. The risk is 0 for a map without errors. The difference of entropies is undefined for such a map,
and so cannot rank maps.

"Right" means equal to the reference, whose own errors count as the prediction's. All numbers but those by polygon and
uncalibrated follow from integer counts of stored steps of probability, so strips and scenes add exactly.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from floemap.errors import ConfigError, GridError
from floemap.evaluation.checks.amounts import Amounts, ByBlock, difference, ratio
from floemap.evaluation.checks.classes import Classes, MapPair, check_rasters, keys
from floemap.evaluation.checks.measures import SURE, Measure
from floemap.evaluation.statistics.blocks import Window
from floemap.legend import IGNORE, Legend

BINS = 15
#: Steps of probability by which pixels are ordered, and from which bins of equal numbers of them are made: as stored.
GRADES = 200
#: Step in which floating-point probabilities are counted.
FLOAT_STEP = 1 / 65535
#: Number of rows read together.
_STRIP_ROWS = 512

#: Bits of a pixel's state for each class: the prediction is this class, the reference is, the two differ.
_CHOSEN, _TRUE, _WRONG = 1, 2, 4
_STATES = 8

Floats = NDArray[np.floating[Any]]


@dataclass(frozen=True, eq=False)
class ConfidenceAmounts(Amounts):
    """Sums over pixels that have probabilities and a class in both maps.

    Attributes
    ----------
    classes
        Keys of the legend's classes.
    pixels, right
        Number of all pixels, and of those where prediction and reference agree.
    chosen
        Pixels, right pixels, and sum of the chosen class's probability, binned by that probability, (3, bins).
    each
        For each class: pixels, pixels that have the class in the reference, and sum of the class's probability, binned
        by that probability, (classes, 3, bins).
    graded
        As `chosen`, by the nearest of the steps from 0 to :data:`GRADES`, (3, grades + 1).
    by_polygon
        As `chosen`, each pixel counting 1 / (number of pixels of its polygon), (3, bins); 0 without polygons.
    uncalibrated
        As `chosen`, with temperature and offsets undone, (3, bins).
    brier
        Sum of squared differences.
    entropy_right, entropy_wrong
        Sums of entropy over right and over wrong pixels; a pixel's entropy is between 0 and 1.
    """

    SETTINGS: ClassVar[tuple[str, ...]] = ("classes",)
    WHOLE: ClassVar[tuple[str, ...]] = ("pixels", "right")
    MEASURES: ClassVar[tuple[Measure, ...]] = (
        Measure(
            key="ece", check="confidence", value="ece", title="Calibration error", unit="", better="lower", digits=3,
            group=SURE, main=True, harm=12,
            question="How far, on average, are probabilities from how often they come true?",
            sentence="is {} off in its probabilities",
        ),
        Measure(
            key="brier", check="confidence", value="brier", title="Brier score", unit="", better="lower", digits=3,
            group=SURE, question="How far are all probabilities from what came true, from 0 to 2?",
        ),
        Measure(
            key="wrong_in_surer_half", check="confidence", value="wrong_in_surer_half",
            title="Wrong in the surer half", unit="", better="lower", digits=3, group=SURE,
            question="How much of the half that the model is surer of, which a review of the rest would leave, is "
            "wrong?",
        ),
    )  # fmt: skip

    classes: tuple[str, ...]
    pixels: int
    right: int
    chosen: Floats
    each: Floats
    graded: Floats
    by_polygon: Floats
    uncalibrated: Floats
    brier: float
    entropy_right: float
    entropy_wrong: float

    def values(self) -> dict[str, Any]:
        """Return calibration errors, Brier score, entropies, and the points of reliability diagrams."""
        right = ratio(self.entropy_right, self.right)
        wrong = ratio(self.entropy_wrong, self.pixels - self.right)
        return {
            "pixels": self.pixels,
            "accuracy": ratio(self.right, self.pixels),
            "mean_confidence": ratio(float(self.chosen[2].sum()), self.pixels),
            "ece": _calibration_error(self.chosen),
            "ece_equal_mass": _calibration_error(_equal_mass(self.graded)),
            "ece_by_polygon": _calibration_error(self.by_polygon),
            "ece_uncalibrated": _calibration_error(self.uncalibrated),
            "brier": ratio(self.brier, self.pixels),
            "entropy_right": right,
            "entropy_wrong": wrong,
            "entropy_gap": difference(wrong, right),
            "wrong_in_surer_half": _selective_risk(self.graded, 0.5),
            "reliability": _points(self.chosen),
            "by_class": {
                key: {"calibration_error": _calibration_error(bins), "reliability": _points(bins)}
                for key, bins in zip(self.classes, self.each, strict=True)
            },
        }


def _calibration_error(bins: Floats) -> float | None:
    return ratio(float(np.abs(bins[1] - bins[2]).sum()), float(bins[0].sum()))


def _equal_mass(graded: Floats) -> Floats:
    """Return counts in :data:`BINS` bins of equal numbers of pixels, (3, bins).

    The pixels of a grade count as equally sure: one that two bins share is divided between them.
    """
    sums = np.concatenate([np.zeros((3, 1)), np.cumsum(graded, axis=1)], axis=1)
    edges = np.linspace(0, sums[0, -1], BINS + 1)
    return np.stack([np.diff(np.interp(edges, sums[0], total)) for total in sums])


def _selective_risk(bins: Floats, coverage: float) -> float | None:
    """Return the share of wrong pixels among the surest. Pixels of one grade of probability count as equally sure."""
    pixels, right = bins[0, ::-1], bins[1, ::-1]
    wanted = coverage * pixels.sum()
    taken = np.clip(wanted - (np.cumsum(pixels) - pixels), 0, pixels)
    wrong = np.divide(pixels - right, pixels, out=np.zeros_like(pixels), where=pixels > 0)
    return ratio(float((taken * wrong).sum()), float(wanted))


def _points(bins: Floats) -> dict[str, list[float]]:
    """Return mean probability, observed share and number of pixels of the bins that are not empty."""
    pixels, hits, probability = bins[:, bins[0] > 0]
    return {
        "probability": (probability / pixels).tolist(),
        "observed": (hits / pixels).tolist(),
        "pixels": pixels.tolist(),
    }


class ConfidenceCounts:
    """Counts of probabilities, filled strip by strip in any order.

    Parameters
    ----------
    legend
        The legend of both maps.
    step
        Probability of one stored step where probabilities are stored as uint8; None where they are floating-point.
    temperature, offsets
        Temperature of the model that gave the probabilities, and its offset of each class; None for none.
    """

    def __init__(
        self,
        legend: Legend,
        step: float | None = None,
        *,
        temperature: float = 1.0,
        offsets: Sequence[float] | None = None,
    ) -> None:
        if step is not None and not 0 < step <= 1:
            raise ConfigError(f"the step of {step} between probabilities is not in (0, 1].")
        self.legend = legend
        self.stored = step is not None
        self.step = FLOAT_STEP if step is None else step
        levels = IGNORE if self.stored else round(1 / FLOAT_STEP) + 1
        self._counts = np.zeros((len(legend), levels, _STATES), np.int64)
        self._by_polygon = np.zeros((2, levels))  # all pixels and right ones, by level of the chosen class
        self._uncalibrated = np.zeros((3, BINS))
        self._offsets, self._hot = offsets, None
        if temperature != 1 or offsets is not None:
            undone = np.exp(-np.asarray(offsets or [0.0] * len(legend)))
            self._hot = undone[:, None] * (np.arange(levels) * self.step) ** temperature  # (classes, levels)

    def add(
        self,
        probabilities: NDArray[Any],
        prediction: Classes,
        reference: Classes,
        weights: NDArray[np.float64] | None = None,
    ) -> None:
        """Count a strip.

        Parameters
        ----------
        probabilities
            (classes, rows, cols): uint8 steps with no-data 255, or floating-point numbers with no-data NaN.
        prediction, reference
            (rows, cols) uint8 class ids with no-data 255.
        weights
            (rows, cols): what each pixel counts for the error by polygon; None without polygons.

        Raises
        ------
        GridError
            If shapes differ.
        ConfigError
            If the probabilities have another type or lie outside 0 to 1, or a raster holds an id outside the legend.
        """
        check_rasters(prediction, reference, self.legend)
        n = len(self.legend)
        if probabilities.shape != (n, *prediction.shape):
            raise GridError(f"probabilities of {probabilities.shape} for {n} classes on {prediction.shape} pixels.")
        if (probabilities.dtype == np.uint8) != self.stored or probabilities.dtype.kind not in "uf":
            raise ConfigError(f"probabilities are {probabilities.dtype}, not {'uint8' if self.stored else 'floats'}.")
        here = (prediction != IGNORE) & (reference != IGNORE)
        missing = IGNORE if self.stored else np.nan
        for p in probabilities:
            here &= p != missing if self.stored else np.isfinite(p)
        said, true = prediction[here], reference[here]
        wrong = (said != true) * np.int32(_WRONG)
        levels = [self._levels(p[here]) for p in probabilities]
        for k, level in enumerate(levels):
            index = level * _STATES + ((said == k) * _CHOSEN + (true == k) * _TRUE + wrong)
            self._counts[k] += np.bincount(index, minlength=self._counts[k].size).reshape(-1, _STATES)

        chosen, right = np.take_along_axis(np.stack(levels), said[None].astype(np.intp), axis=0)[0], said == true
        if weights is not None:
            for total, w in zip(self._by_polygon, (weights[here], weights[here] * right), strict=True):
                total += np.bincount(chosen, w, minlength=len(total))
        if self._hot is not None:
            hot = np.stack([own[level] for own, level in zip(self._hot, levels, strict=True)])
            whole, first = hot.sum(axis=0), said if self._offsets is None else hot.argmax(axis=0)
            likely = np.take_along_axis(hot, first[None].astype(np.intp), axis=0)[0] / np.where(whole > 0, whole, 1)
            self._uncalibrated += _binned(likely, np.ones_like(whole), first == true)

    def _levels(self, p: NDArray[Any]) -> NDArray[np.int32]:
        level = p.astype(np.int32) if self.stored else np.rint(p / self.step).astype(np.int32)
        low, high = int(level.min(initial=0)), int(level.max(initial=0))
        if low < 0 or high * self.step > 1 + self.step:
            raise ConfigError(f"probabilities from {low * self.step:g} to {high * self.step:g}, outside 0 to 1.")
        return level

    def amounts(self) -> ConfidenceAmounts | None:
        """Return the amounts of all strips; None if no pixel has probabilities and a class in both maps."""
        counts = self._counts  # (classes, levels, states)
        states = np.arange(_STATES)
        of_chosen = counts[:, :, states & _CHOSEN > 0].sum(axis=0)  # (levels, states with the bit), every pixel once
        pixels = int(of_chosen.sum())
        if not pixels:
            return None
        p = np.minimum(np.arange(counts.shape[1]) * self.step, 1.0)
        true = counts[:, :, states & _TRUE > 0].sum(axis=2)  # (classes, levels)
        wrong = counts[:, :, states & _WRONG > 0].sum(axis=2)
        every = counts.sum(axis=2)
        right_chosen = counts[:, :, _CHOSEN | _TRUE].sum(axis=0)
        entropy = np.zeros_like(p)
        entropy[1:] = -p[1:] * np.log(p[1:]) / np.log(len(self.legend))
        chosen = _binned(p, of_chosen.sum(axis=1), right_chosen)
        return ConfidenceAmounts(
            classes=keys(self.legend),
            pixels=pixels,
            right=int(right_chosen.sum()),
            chosen=chosen,
            graded=_summed(np.rint(p * GRADES).astype(np.intp), GRADES + 1, p, of_chosen.sum(axis=1), right_chosen),
            by_polygon=_binned(p, *self._by_polygon),
            uncalibrated=chosen if self._hot is None else self._uncalibrated,
            each=np.stack([_binned(p, e, t) for e, t in zip(every, true, strict=True)]),
            brier=float((true * (1 - p) ** 2).sum() + ((every - true) * p**2).sum()),
            entropy_right=float(((every - wrong) * entropy).sum()),
            entropy_wrong=float((wrong * entropy).sum()),
        )


def _binned(p: Floats, pixels: NDArray[Any], hits: NDArray[Any]) -> Floats:
    """Return counts by level of probability in bins: pixels, hits, sum of probability, (3, bins)."""
    # Bins include their lower end: 0.2 belongs to the bin that begins there. 1 belongs to the last bin.
    return _summed(np.minimum((p * BINS + 1e-9).astype(np.intp), BINS - 1), BINS, p, pixels, hits)


def _summed(index: NDArray[np.intp], bins: int, p: Floats, pixels: NDArray[Any], hits: NDArray[Any]) -> Floats:
    """Return pixels, hits and sum of probability of the levels in each bin, (3, bins)."""
    return np.stack([np.bincount(index, weights=w, minlength=bins) for w in (pixels, hits, pixels * p)])


def confidence(
    maps: MapPair,
    read: Callable[[Window], NDArray[Any]],
    step: float | None = None,
    *,
    temperature: float = 1.0,
    offsets: Sequence[float] | None = None,
    polygons: NDArray[np.uint16] | None = None,
) -> ByBlock[ConfidenceAmounts] | str:
    """Measure the probabilities of a map.

    Parameters
    ----------
    maps
        The maps to compare.
    read
        Function that returns the probabilities in a window, (classes, rows, cols), as :meth:`ConfidenceCounts.add`
        takes them.
    step
        Probability of one stored step, see :class:`ConfidenceCounts`.
    temperature, offsets
        Temperature of the model, and its offset of each class; None for none.
    polygons
        (rows, cols): the chart's polygon of each pixel, 0 for none; None if they are unknown.

    Returns
    -------
    The amounts, or the reason why the check does not apply.

    Raises
    ------
    GridError, ConfigError
        As :class:`ConfidenceCounts`.
    """
    found: dict[str, NDArray[np.float64]] = {}
    weights = None
    if polygons is not None:
        pixels = np.bincount(polygons[(maps.prediction != IGNORE) & (maps.reference != IGNORE)], minlength=1)
        weights = np.divide(1.0, pixels, out=np.zeros(len(pixels)), where=pixels > 0)
        weights[0] = 0.0
    for block, (rows, cols) in maps.grid.parts(slice(0, maps.grid.shape[0])):
        counts = ConfidenceCounts(maps.legend, step, temperature=temperature, offsets=offsets)
        for row in range(rows.start, rows.stop, _STRIP_ROWS):
            window = slice(row, min(row + _STRIP_ROWS, rows.stop)), cols
            counted = None if weights is None or polygons is None else _looked_up(weights, polygons[window])
            counts.add(read(window), maps.prediction[window], maps.reference[window], counted)
        amounts = counts.amounts()
        if amounts is not None:
            for name in ConfidenceAmounts.additive():
                value = np.asarray(getattr(amounts, name), np.float64)
                found.setdefault(name, np.zeros((len(maps.grid), *value.shape)))[block] = value
    if not found:
        return "no pixel has probabilities and a class in both maps"
    return ByBlock(ConfidenceAmounts, {"classes": keys(maps.legend)}, found)


def _looked_up(weights: NDArray[np.float64], polygons: NDArray[np.uint16]) -> NDArray[np.float64]:
    """Return the weight of each pixel; 0 for polygons beyond the table, which have no pixel that is compared."""
    return np.where(polygons < len(weights), weights[np.minimum(polygons, len(weights) - 1)], 0.0)
