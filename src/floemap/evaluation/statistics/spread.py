"""How sure is a number: its interval from the bootstrap, and the repeats beside it.

Every statistic that is a function of additive counts per block goes: scores, areas, ordinal distances, shares. What an
interval means, and what it does not, is in ``docs/spread.md``. Where no interval can be given, the reason is.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from floemap.errors import ConfigError
from floemap.evaluation.statistics.bootstrap import Evaluated, Units, mean_of_defined


@dataclass(frozen=True, kw_only=True)
class Spread:
    """A value, its interval, and its repeats beside it. ``None`` where there is none.

    Attributes
    ----------
    value
        Mean over the repeats.
    low, high
        Percentile interval of the mean of these very repeats: how it varies with the ground, not with the training.
    level
        Share of resamples inside, 0.9.
    points
        Value of each repeat.
    by_scene
        Mean over the repeats, of each scene.
    scenes, blocks
        How many there are.
    drawn
        What was drawn: blocks of these scenes, or scenes.
    reason
        Why there is no interval.
    cautions
        What to know of the draws, as sentences.
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
    """Return a loss's value, its percentile interval, and its repeats.

    Parameters
    ----------
    evaluated
        A statistic of one quantity.
    loss
        A name given to :func:`floemap.evaluation.statistics.bootstrap.resample`.
    level
        Of the interval, between 0 and 1.

    Raises
    ------
    ConfigError
        If the level or the loss is impossible, or the statistic has several quantities.
    """
    if not 0 < level < 1:
        raise ConfigError(f"an interval of level {level:g}.", hint="Between 0 and 1: 0.9 is usual.")
    own = evaluated.columns(loss)
    resamples, points = evaluated.resamples, evaluated.observed[own]
    value = mean_of_defined(points, 0)
    drawn = mean_of_defined(evaluated.drawn[:, own], 1)
    known = drawn[~np.isnan(drawn)]
    reason = evaluated.why_not(value, drawn)
    low = high = None
    if reason is None:
        low, high = map(float, np.quantile(known, [(1 - level) / 2, (1 + level) / 2]))
        if not low - (slack := 1e-9 * abs(float(value))) <= value <= high + slack:
            # Sums of absolute differences grow with the noise of drawing: such an interval is of something else.
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
