"""A number's confidence interval from the bootstrap, with its repeats.

The statistic can be any function of additive counts per block: a score, an area, an ordinal distance, a share.
``docs/spread.md`` explains the meaning of an interval. If no interval can be computed, the reason is returned.

The interval is the expanded percentile interval (T. C. Hesterberg, 2015, "What teachers should know about the
bootstrap", Am. Stat. 69, 371-386). Percentiles are as far apart as if the variance were known, as quantiles of a normal
distribution are. It is estimated from the drawn units, so percentiles farther out are taken, those of the quantiles of
Student's t: of ten units the 3.3rd and the 96.7th for a level of 0.9.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import ndtr, stdtrit

from floemap.errors import ConfigError
from floemap.evaluation.statistics.bootstrap import Evaluated, Units, mean_of_defined


@dataclass(frozen=True, kw_only=True)
class Spread:
    """A value, its confidence interval and its repeats. Undefined numbers are ``None``.

    Attributes
    ----------
    value
        Mean over the repeats.
    low, high
        Confidence interval of the mean of these repeats: it reflects variation with the ground, not with training.
    level
        Level of the interval, 0.9.
    points
        Value of each repeat.
    by_scene
        Mean over the repeats for each scene.
    scenes, blocks
        Numbers of scenes and blocks.
    drawn
        The units that were resampled: blocks of these scenes, or scenes.
    reason
        The reason why there is no interval.
    cautions
        Sentences about limits of the draws.
    """

    value: float | None
    low: float | None
    high: float | None
    level: float
    points: tuple[float | None, ...]
    by_scene: dict[str, float | None]
    scenes: int
    blocks: int
    drawn: Units
    reason: str | None
    cautions: tuple[str, ...]


def spread(evaluated: Evaluated, loss: str, *, level: float = 0.9) -> Spread:
    """Return a loss's value, its confidence interval, and its repeats.

    Parameters
    ----------
    evaluated
        A statistic of one quantity.
    loss
        A name given to :func:`floemap.evaluation.statistics.bootstrap.resample`.
    level
        Level of the interval, between 0 and 1.

    Raises
    ------
    ConfigError
        If the level is not between 0 and 1, no loss has the name, or the statistic has several quantities.
    """
    if not 0 < level < 1:
        raise ConfigError(f"the interval's level is {level:g}.", hint="Choose one between 0 and 1; 0.9 is usual.")
    own = evaluated.columns(loss)
    resamples, points = evaluated.resamples, evaluated.observed[own]
    value = mean_of_defined(points, 0)
    drawn = mean_of_defined(evaluated.drawn[:, own], 1)
    known = drawn[~np.isnan(drawn)]
    reason = evaluated.why_not(value, drawn)
    low = high = None
    if reason is None:
        tail = float(ndtr(stdtrit(resamples.degrees, (1 - level) / 2)))
        low, high = map(float, np.quantile(known, [tail, 1 - tail]))
        if not low - (slack := 1e-9 * abs(float(value))) <= value <= high + slack:
            # Statistics of absolute differences are biased upwards under resampling: such an interval is not theirs.
            low, high, reason = None, None, "drawing shifts this number, so it has no interval"
    cautions = []
    if low is not None and len(known) < len(drawn):
        cautions.append(f"Not defined in {len(drawn) - len(known)} of {len(drawn)} resamples.")
    if low is not None and np.ptp(known) <= 1e-9 * abs(float(value)):
        cautions.append("Every resample gives the same value: the spread cannot be seen.")
    by_scene = mean_of_defined(evaluated.by_scene[:, own], 1)
    return Spread(
        value=_defined(value),
        low=low,
        high=high,
        level=level,
        points=tuple(map(_defined, points)),
        by_scene={scene: _defined(x) for scene, x in zip(resamples.scenes, by_scene, strict=True)},
        scenes=len(resamples.scenes),
        blocks=resamples.blocks,
        drawn=resamples.units,
        reason=reason,
        cautions=tuple(cautions),
    )


def _defined(x: float | np.floating | np.ndarray) -> float | None:
    return None if np.isnan(x) else float(x)
