"""Temperature scaling: one number by which logits are divided, so that probabilities come true as often as they say.

Reference: C. Guo, G. Pleiss, Y. Sun, K. Q. Weinberger, "On calibration of modern neural networks", ICML 2017, section
4.2: the temperature T > 0 that minimises the negative log-likelihood of softmax(z / T) on the validation data. The
order of the classes, and so the class map, stays as it is.

There each image counts once. Here a polygon of a chart is the unit in which a label is right or wrong: its pixels have
one label and one texture, and are far from independent. A probability of a map is about area, so a polygon counts by
its number of labelled pixels; but no polygon counts for more than :data:`MOST` of all pixels, since otherwise a few
large polygons would decide the temperature alone.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq
from scipy.special import log_softmax, softmax

#: Largest share of all labelled pixels by which one polygon counts.
MOST = 0.05
#: Temperatures among which the best one is sought.
LOWEST, HIGHEST = 0.01, 100.0

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class PolygonSample:
    """Logits of some labelled pixels of each polygon.

    Attributes
    ----------
    logits
        (n, K) float32.
    labels
        (n,) uint8: classes of the chart.
    polygon
        (n,) int64: index of each pixel's polygon.
    pixels
        (P,) int64: number of all labelled pixels of each polygon.
    """

    logits: NDArray[np.float32]
    labels: NDArray[np.uint8]
    polygon: NDArray[np.int64]
    pixels: NDArray[np.int64]

    @staticmethod
    def joined(samples: Sequence[PolygonSample]) -> PolygonSample:
        """Return the samples of several parts as one; the polygons of different parts are different ones."""
        first = np.cumsum([0, *(len(s.pixels) for s in samples[:-1])])
        return PolygonSample(
            np.concatenate([s.logits for s in samples]),
            np.concatenate([s.labels for s in samples]),
            np.concatenate([s.polygon + n for s, n in zip(samples, first, strict=True)]),
            np.concatenate([s.pixels for s in samples]),
        )

    def weights(self) -> Floats:
        """Return the weight of each pixel of the sample, (n,); those of a polygon add up to what it counts."""
        sampled = np.bincount(self.polygon, minlength=len(self.pixels))
        counts = np.where(sampled > 0, np.minimum(self.pixels, MOST * self.pixels.sum()), 0.0)
        return np.asarray((counts / np.maximum(sampled, 1))[self.polygon])


@dataclass(frozen=True)
class Temperature:
    """A temperature, and how it was found.

    Attributes
    ----------
    value
        The temperature; 1 where none could be fitted.
    reason
        Why none could be fitted; None where one was.
    polygons, pixels
        Number of validation polygons and of their labelled pixels.
    counted
        Number of polygons of equal size that would say as much: (sum of counts)^2 / sum of counts^2.
    log_loss
        Mean negative log-likelihood before and after; None without pixels.
    """

    value: float
    reason: str | None
    polygons: int
    pixels: int
    counted: float
    log_loss: tuple[float, float] | None

    def to_json(self) -> dict[str, Any]:
        """Return the entry of a checkpoint's header."""
        found = {"temperature": self.value, "polygons": self.polygons, "pixels": self.pixels}
        if self.reason is not None:
            return found | {"reason": self.reason}
        return found | {"counted_polygons": round(self.counted, 1), "most": MOST, "log_loss": self.log_loss}


def fit_temperature(sample: PolygonSample) -> Temperature:
    """Fit the temperature.

    The derivative of the mean negative log-likelihood by 1 / T, mean of E_p[z] - z_label, never falls as 1 / T rises:
    the likelihood is convex in 1 / T, and the zero of the derivative is the best temperature. Brent's method finds it
    between :data:`LOWEST` and :data:`HIGHEST`. Temperatures are rounded to four digits.
    """
    z, w = sample.logits.astype(np.float64), sample.weights()
    each = np.bincount(sample.polygon, w, minlength=1)
    counted = float(each.sum() ** 2 / (each**2).sum()) if each.any() else 0.0
    polygons, pixels = int((sample.pixels > 0).sum()), int(sample.pixels.sum())

    def slope(log_t: float) -> float:
        p = softmax(z * math.exp(-log_t), axis=1)
        return float(w @ ((p * z).sum(axis=1) - own)) / float(w.sum())

    def log_loss(t: float) -> float:
        likelihood = log_softmax(z / t, axis=1)
        return float(-(w @ np.take_along_axis(likelihood, label, axis=1)[:, 0]) / w.sum())

    low, high = math.log(LOWEST), math.log(HIGHEST)
    label = sample.labels.astype(np.int64)[:, None]
    reason = None
    if not len(z):
        reason = "the validation parts have no labelled pixel with data"
    elif len(np.unique(sample.labels)) < 2:
        reason = "the validation labels are all of one class"
    elif not np.isfinite(z).all():
        reason = "logits of the validation pixels are not finite"
    else:
        own = np.take_along_axis(z, label, axis=1)[:, 0]
        if (z == z[:, :1]).all():
            reason = "all classes have equal logits"
        elif slope(low) <= 0:
            reason = "hardly any validation pixel that was drawn is wrong, so that no temperature is too low"
        elif slope(high) >= 0:
            reason = "the labels do not follow from the logits, so that no temperature is too high"
    if reason is not None:
        return Temperature(1.0, reason, polygons, pixels, counted, None)
    value = float(f"{math.exp(brentq(slope, low, high, xtol=1e-6)):.4g}")
    return Temperature(value, None, polygons, pixels, counted, (log_loss(1.0), log_loss(value)))
