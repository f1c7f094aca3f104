"""Calibration by season: a temperature and an offset for each class, for each quarter of the year.

Ice of one type looks different in June and in January, so a model errs differently: one temperature cannot be right for
both, and which classes it takes for each other changes, too. Vector scaling, softmax((z + b) / T) with a number b for
each class (C. Guo, G. Pleiss, Y. Sun, K. Q. Weinberger, "On calibration of modern neural networks", ICML 2017, section
4.2), corrects both, and changes the class map.

It has as many numbers as there are classes, which a few polygons do not determine. So log T and b / T have a normal
prior of standard deviation 1: for the whole year around what leaves the model as it is, for a quarter around what was
found for the year. The prior counts as one polygon does: it is divided by the number of polygons of equal size that
would say as much. A quarter without a polygon has the values of the year.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import log_softmax

from floemap.learning.calibration.temperature import PolygonSample

#: Months of the quarters of a year.
QUARTERS = ((12, 1, 2), (3, 4, 5), (6, 7, 8), (9, 10, 11))
#: Standard deviation of the prior of log T and b / T.
SPREAD = 1.0

Floats = NDArray[np.float64]


def month_of(start: str | None) -> int | None:
    """Return the month, 1 to 12, of a time in ISO 8601; None without one."""
    try:
        return None if start is None else datetime.fromisoformat(start).month
    except ValueError:
        return None


def fit_seasons(samples: Sequence[PolygonSample], months: Sequence[int | None]) -> list[dict[str, Any]]:
    """Fit temperature and offsets of each quarter.

    Parameters
    ----------
    samples
        The validation parts' pixels; with two classes or more and finite logits.
    months
        Month of each part's scene, 1 to 12; None where it is not known: such a part counts for the whole year only.

    Returns
    -------
    The entry ``seasons`` of a header's calibration: for each quarter ``months``, ``temperature`` T, ``offsets`` b in
    units of logits, the number of its ``polygons``, and the mean ``log_loss`` of its pixels before and after, None
    without pixels.
    """
    year = _fitted(PolygonSample.joined(samples), np.zeros(samples[0].logits.shape[1] + 1))
    found = []
    for quarter in QUARTERS:
        own = [s for s, month in zip(samples, months, strict=True) if month in quarter]
        sample = PolygonSample.joined(own) if own else None
        at = year if sample is None or not len(sample.labels) else _fitted(sample, year)
        t = float(f"{np.exp(-at[0]):.4g}")
        offsets = [float(f"{b:.4g}") for b in at[1:] * t]
        about = {"months": list(quarter), "temperature": t, "offsets": offsets, "polygons": 0, "log_loss": None}
        if sample is not None and len(sample.labels):
            exact = np.array([-np.log(t), *(b / t for b in offsets)])
            losses = [_loss(at, sample)[0] for at in (np.zeros_like(exact), exact)]
            about |= {"polygons": int((sample.pixels > 0).sum()), "log_loss": losses}
        found.append(about)
    return found


def _fitted(sample: PolygonSample, around: Floats) -> Floats:
    """Return -log T and b / T of each class that fit a sample best, with the prior around some values."""
    each = np.bincount(sample.polygon, sample.weights(), minlength=1)
    strength = 1 / (2 * SPREAD**2 * float(each.sum() ** 2 / (each**2).sum()))

    def objective(at: Floats) -> tuple[float, Floats]:
        value, slope = _loss(at, sample)
        return value + strength * float((at - around) @ (at - around)), slope + 2 * strength * (at - around)

    return np.asarray(minimize(objective, around, jac=True, method="L-BFGS-B").x, np.float64)


def _loss(at: Floats, sample: PolygonSample) -> tuple[float, Floats]:
    """Return the mean negative log-likelihood, polygons counting as in their weights, and its gradient."""
    z, label, w = sample.logits.astype(np.float64), sample.labels.astype(np.int64)[:, None], sample.weights()
    w = w / w.sum()
    scale = np.exp(at[0])
    likelihood = log_softmax(z * scale + at[1:], axis=1)
    excess = np.exp(likelihood)
    np.put_along_axis(excess, label, np.take_along_axis(excess, label, axis=1) - 1, axis=1)
    excess *= w[:, None]
    value = float(-(w @ np.take_along_axis(likelihood, label, axis=1)[:, 0]))
    return value, np.array([float((excess * z).sum() * scale), *excess.sum(axis=0)])
