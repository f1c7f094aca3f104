"""The test for a difference between two losses, which keeps its level over all pairs of losses and all measures.

The claim: trainings like these with one loss do better on these scenes than trainings with the other (from
:data:`floemap.evaluation.statistics.bootstrap.FEW_SCENES` scenes on: on scenes like these). Two sources of chance make
losses differ that are equal on average:

- *Training.* Repeats of one loss differ. Their variance is pooled over all losses, so that three repeats provide enough
  degrees of freedom. If the variance of the two compared losses is larger than the pooled one, it is used instead.
- *Ground.* One loss may suit the ice of a block by chance, in all of its trainings. The estimate is the covariance
  between *different* repeats over the draws of blocks. Differences between repeats belong to the first source.

t is the difference of the two means over the root of the sum of both variances. Its p-value is that of the largest
difference among all compared losses, so the data may choose the pair (studentized range: J. W. Tukey, 1953; with
unequal variances: P. A. Games, J. F. Howell, 1976, J. Educ. Stat. 1, 113-125). The p-values at the degrees of freedom
of the two sources are averaged, each weighted by the source's variance, as W. G. Cochran (1964, Biometrics 20, 191-195)
averages critical values: with the few degrees of freedom of repeats, the effective ones of Welch and Satterthwaite
reject too often. :func:`holm` keeps the level over measures. In addition, no scene and no repeat may show the opposite.

``docs/spread.md`` has the error rate and the power of the test, measured by ``benchmarks/told_apart.py``.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.stats import studentized_range

from floemap.evaluation.statistics.bootstrap import Evaluated, mean_of_defined

ONE_TRAINING = (
    "a loss was trained once only: differences between losses cannot be separated from differences between trainings"
)


@dataclass(frozen=True, kw_only=True)
class Difference:
    """The difference between two losses, and its p-value.

    Attributes
    ----------
    a, b
        Names of the better and of the worse loss.
    value
        Difference in badness of `b` and `a`.
    points
        The same difference for each pair of repeats, by position.
    by_scene
        The same difference for each scene in which both are defined, mean over the repeats.
    p
        Probability that the largest difference among losses that are equal on average is at least this large; 1 if a
        repeat or a scene shows the opposite; None if it cannot be computed.
    reason
        The reason why `p` cannot be computed.
    """

    a: str
    b: str
    value: float
    points: tuple[float, ...]
    by_scene: dict[str, float]
    p: float | None
    reason: str | None

    @property
    def repeats(self) -> tuple[int, int]:
        """Number of pairs of repeats in which `b` is not better, and number of all pairs."""
        return sum(x >= 0 for x in self.points), len(self.points)

    @property
    def scenes(self) -> tuple[int, int]:
        """Number of scenes in which `b` is not better, and number of all scenes."""
        return sum(x >= 0 for x in self.by_scene.values()), len(self.by_scene)


def difference(deviations: Evaluated, a: str, b: str, *, folded: bool = False) -> Difference:
    """Compare the better loss `a` with the worse loss `b`, which may be chosen by the same numbers.

    Parameters
    ----------
    deviations
        Deviation of each model, lower is better: a statistic of one quantity. All losses in it count as compared.
    a, b
        Names given to :func:`floemap.evaluation.statistics.bootstrap.resample`.
    folded
        Whether a model is as bad as the distance of its deviation from 0, to either side. \\|b\\| is larger than
        \\|a\\| where both b - a and b + a have the sign of b. Both are tested, which avoids the bias of absolute
        values, and the larger p-value is returned.

    Raises
    ------
    ConfigError
        If no loss has the name, or the statistic has several quantities.
    """
    of_a, of_b = deviations.columns(a), deviations.columns(b)
    bad = deviations.map(np.abs) if folded else deviations
    one, other = bad.observed[of_a], bad.observed[of_b]
    pairs = min(len(one), len(other))
    by_scene = mean_of_defined(bad.by_scene[:, of_b], 1) - mean_of_defined(bad.by_scene[:, of_a], 1)
    models = np.r_[of_a, of_b]
    drawn = deviations.drawn[:, models].sum(axis=1)
    reason = ONE_TRAINING if pairs < 2 else deviations.why_not(deviations.observed[models], drawn)
    if reason is None and not any(np.ptp(runs) > 0 for runs in _repeated(deviations).values()):
        reason = "all repeats are alike, so differences between trainings cannot be seen"
    found = Difference(
        a=a,
        b=b,
        value=float(mean_of_defined(other, 0) - mean_of_defined(one, 0)),
        points=tuple((other[:pairs] - one[:pairs]).tolist()),
        by_scene={s: float(x) for s, x in zip(deviations.resamples.scenes, by_scene, strict=True) if not math.isnan(x)},
        p=None,
        reason=reason,
    )
    if reason is not None:
        return found
    first, last = (abs(float(deviations.observed[own].mean())) for own in (of_a, of_b))
    clear = found.value > 0 and min(found.points) >= 0 and min(found.by_scene.values(), default=0.0) >= 0
    if not clear or (folded and last <= first):
        return replace(found, p=1.0)
    return replace(found, p=max(_p_value(deviations, of_a, of_b, sign) for sign in ((-1, 1) if folded else (-1,))))


def holm(p_values: Mapping[str, float], level: float) -> frozenset[str]:
    """Return the keys of the significant tests of a family (S. Holm, 1979, Scand. J. Stat. 6, 65-70).

    Parameters
    ----------
    p_values
        P-values of all tests by key. The tests may depend on each other.
    level
        Largest probability that any of the returned keys is wrong, such as 0.1.
    """
    found = set()
    for i, key in enumerate(sorted(p_values, key=lambda k: p_values[k])):
        if p_values[key] > level / (len(p_values) - i):
            break
        found.add(key)
    return frozenset(found)


def _repeated(deviations: Evaluated) -> dict[str, NDArray[np.float64]]:
    """Return the values of the repeats of each loss that has several repeats, all defined."""
    every = {loss: deviations.observed[own] for loss, own in deviations.resamples.columns.items()}
    return {loss: runs for loss, runs in every.items() if len(runs) > 1 and not np.isnan(runs).any()}


def _p_value(deviations: Evaluated, a: slice, b: slice, sign: int) -> float:
    """Return the p-value of the mean of `b` plus `sign` times that of `a`, as the largest of all pairs of losses."""
    one, other = deviations.observed[a], deviations.observed[b]
    runs = _repeated(deviations).values()
    degrees = sum(len(r) - 1 for r in runs)
    pooled = sum(float(((r - r.mean()) ** 2).sum()) for r in runs) / degrees
    training = max(
        (pooled * (1 / len(one) + 1 / len(other)), degrees),
        (float(one.var(ddof=1) / len(one) + other.var(ddof=1) / len(other)), len(one) + len(other) - 2),
    )
    of_a, of_b, between = (_shared(deviations, x, y) for x, y in ((a, a), (b, b), (a, b)))
    ground = max(0.0, of_a + of_b + 2 * sign * between), deviations.resamples.degrees
    t = abs(float(other.mean() + sign * one.mean())) / math.sqrt(training[0] + ground[0])
    losses = len(deviations.resamples.columns)
    tails = [
        variance * float(studentized_range.sf(math.sqrt(2) * t, losses, freedom))
        for variance, freedom in (training, ground)
        if variance > 0
    ]
    return float(np.clip(sum(tails) / (training[0] + ground[0]), 0, 1))


def _shared(deviations: Evaluated, a: slice, b: slice) -> float:
    """Return the mean covariance over the draws between different trainings, of one loss or of two."""
    models = np.r_[a, b]
    drawn = deviations.drawn[:, models]
    drawn = drawn[~np.isnan(drawn).any(axis=1)]
    n = a.stop - a.start
    covariance = np.cov(drawn, rowvar=False)[:n, n:]
    if a == b:
        return float((covariance.sum() - np.trace(covariance)) / (n * (n - 1)))
    return float(covariance.mean())
