"""How sure is a score, and can two losses be told apart: intervals from the bootstrap, and sentences that say so.

Every statistic that is a function of additive counts per block goes: scores, areas, ordinal distances, shares. What an
interval means, and what it does not, is in ``docs/spread.md``. Where there are too few blocks there is no interval, and
the reason is given instead.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from floemap.errors import ConfigError
from floemap.evaluation.resampling import Across, Evaluated, SceneBlocks, Statistic, mean_of_defined, resample

#: Below so many blocks there is no interval: it would be too narrow.
MIN_BLOCKS = 10
#: Below so many scenes (or repeats), to draw them understates how they differ, and the result says so.
FEW = 10
#: Share of resamples in which a statistic may be undefined.
_MAX_UNDEFINED = 0.05
#: Sets the draws of repeats apart from those of scenes and blocks.
_REPEATS = 1


@dataclass(frozen=True, kw_only=True)
class Spread:
    """A value, its interval, and its repeats beside it. ``None`` where there is none.

    Attributes
    ----------
    value
        Mean over the repeats.
    low, high
        Percentile interval of that mean.
    level
        Share of resamples inside, 0.9.
    points
        Value of each repeat.
    by_scene
        Mean over the repeats, of each scene.
    scenes, blocks
        How many there are.
    drawn
        What was drawn: blocks, scenes, repeats.
    reason
        Why there is no interval.
    cautions
        What the interval does not say, as sentences.
    """

    value: float | None
    low: float | None
    high: float | None
    level: float
    points: tuple[float | None, ...]
    by_scene: dict[str, float | None]
    scenes: int
    blocks: int
    drawn: tuple[str, ...]
    reason: str | None
    cautions: tuple[str, ...]

    def text(self, decimals: int = 3, unit: str = "") -> str:
        """Return the value with its interval in words: ``0.815 (90 % interval 0.803 to 0.826)``."""
        if self.value is None:
            return "not defined"
        return f"{_number(self.value, decimals, unit)} ({self.interval_text(decimals, unit)})"

    def interval_text(self, decimals: int = 3, unit: str = "") -> str:
        """Return the interval in words, or why there is none."""
        if self.low is None or self.high is None:
            return f"no interval: {self.reason}"
        ends = f"{_number(self.low, decimals)} to {_number(self.high, decimals, unit)}"
        return f"{100 * self.level:.4g} % interval {ends}"


@dataclass(frozen=True, kw_only=True)
class Comparison(Spread):
    """How much higher one loss is than another on the same scenes and blocks: a :class:`Spread` of the difference.

    Attributes
    ----------
    a, b
        Names of the losses. `value` is that of `a` minus that of `b`, so are `low`, `high` and `by_scene`. `points` are
        differences of repeats by position, where both have as many; else there are none.
    probability
        Share of resamples in which `a` is higher; equal ones count half. It is no probability that `a` is the better
        loss: that would need other scenes and trainings.
    """

    a: str
    b: str
    probability: float | None

    @property
    def distinct(self) -> bool | None:
        """Whether the interval leaves out 0; ``None`` where there is no interval."""
        return None if self.low is None or self.high is None else not self.low <= 0 <= self.high

    def turned(self) -> Comparison:
        """Return the comparison of `b` with `a`."""
        return replace(
            self,
            a=self.b,
            b=self.a,
            value=_minus(self.value),
            low=_minus(self.high),
            high=_minus(self.low),
            points=tuple(map(_minus, self.points)),
            by_scene={scene: _minus(x) for scene, x in self.by_scene.items()},
            probability=None if self.probability is None else 1 - self.probability,
        )


def bootstrap(
    blocks_by_scene: SceneBlocks | Sequence[SceneBlocks],
    statistic: Statistic,
    *,
    n: int = 1000,
    seed: int = 0,
    level: float = 0.9,
    across: Across = "mean",
    resample_scenes: bool = True,
    include_repeats: bool = False,
) -> Spread:
    """Return a statistic with its interval, of one trained model or of the repeats of one loss.

    For many statistics or losses call :func:`floemap.evaluation.resampling.resample` once, then :func:`spread`.

    Parameters
    ----------
    blocks_by_scene
        By scene, (blocks, ...) additive counts; or such a mapping for each repeat.
    statistic
        See :data:`floemap.evaluation.resampling.Statistic`.
    n, seed, resample_scenes
        See :func:`floemap.evaluation.resampling.resample`.
    level
        Of the interval, between 0 and 1.
    across
        "mean" over scenes, or "pooled".
    include_repeats
        See :func:`spread`.

    Raises
    ------
    GridError, ConfigError
        As :func:`floemap.evaluation.resampling.resample` and :func:`spread`.
    """
    repeats = [blocks_by_scene] if isinstance(blocks_by_scene, Mapping) else list(blocks_by_scene)
    resamples = resample({"it": repeats}, n=n, seed=seed, resample_scenes=resample_scenes)
    return spread(resamples.evaluate(statistic, across), "it", level=level, include_repeats=include_repeats)


def spread(evaluated: Evaluated, loss: str, *, level: float = 0.9, include_repeats: bool = False) -> Spread:
    """Return a loss's value, its percentile interval, and its repeats.

    Parameters
    ----------
    evaluated
        A statistic of one quantity.
    loss
        A name given to :func:`floemap.evaluation.resampling.resample`.
    level
        Of the interval, between 0 and 1.
    include_repeats
        False: the interval is of the mean of these very trainings, had other places been charted. True: repeats are
        drawn too, so it is also about other trainings of the same kind. The points are the same in both.

    Raises
    ------
    ConfigError
        If the level or the loss is impossible, or the statistic has several quantities.
    """
    own = _columns(evaluated, loss)
    return Spread(
        **_summary(
            evaluated,
            value=mean_of_defined(evaluated.observed[own], 0),
            drawn=_drawn_means(evaluated, own, include_repeats),
            points=evaluated.observed[own],
            by_scene=mean_of_defined(evaluated.by_scene[:, own], 1),
            level=level,
            repeats=own.stop - own.start if include_repeats else None,
        )
    )


def compare(evaluated: Evaluated, a: str, b: str, *, level: float = 0.9, include_repeats: bool = False) -> Comparison:
    """Return the paired difference of two losses, the same blocks drawn for both.

    Parameters
    ----------
    evaluated
        A statistic of one quantity.
    a, b
        Names given to :func:`floemap.evaluation.resampling.resample`.
    level
        Of the interval, between 0 and 1.
    include_repeats
        As in :func:`spread`. Where both losses have as many repeats, the same are drawn of both: they may share seeds.

    Raises
    ------
    ConfigError
        If the level or a loss is impossible, or the statistic has several quantities.
    """
    of_a, of_b = _columns(evaluated, a), _columns(evaluated, b)
    drawn = _drawn_means(evaluated, of_a, include_repeats) - _drawn_means(evaluated, of_b, include_repeats)
    first, second = evaluated.observed[of_a], evaluated.observed[of_b]
    summary = _summary(
        evaluated,
        value=mean_of_defined(first, 0) - mean_of_defined(second, 0),
        drawn=drawn,
        points=first - second if len(first) == len(second) else first[:0],
        by_scene=mean_of_defined(evaluated.by_scene[:, of_a], 1) - mean_of_defined(evaluated.by_scene[:, of_b], 1),
        level=level,
        repeats=min(len(first), len(second)) if include_repeats else None,
    )
    known = drawn[~np.isnan(drawn)]
    higher = None if summary["reason"] else float(((known > 0) + 0.5 * (known == 0)).mean())
    return Comparison(a=a, b=b, probability=higher, **summary)


def sentence(comparison: Comparison, *, of: str | None = None, decimals: int = 3, unit: str = "") -> str:
    """Say in a sentence whether two losses can be told apart, the higher one first.

    ``focal scored 0.012 higher than Dice (90 % interval -0.004 to 0.028): with these scenes they cannot be told
    apart.`` With `of`, what is compared: ``False-safe area, PC 7: focal is 120 km2 higher than Dice (...): ...``
    """
    c = comparison
    start = "" if of is None else f"{of}: "
    if c.value is None:
        return f"{start}{c.a} and {c.b} cannot be compared, it is not defined for both."
    if c.value < 0:
        c = c.turned()
    amount = _number(c.value or 0.0, decimals, unit)
    if float(f"{c.value:.{decimals}f}") == 0:
        claim = f"{c.a} and {c.b} {'scored' if of is None else 'are'} alike (difference {amount}, "
    else:
        claim = f"{c.a} {'scored' if of is None else 'is'} {amount} higher than {c.b} ("
    verdict = {None: "nothing can be said", True: "they can be told apart", False: "they cannot be told apart"}
    where = "this scene" if c.scenes == 1 else "these scenes"
    return f"{start}{claim}{c.interval_text(decimals, unit)}): with {where} {verdict[c.distinct]}."


def _columns(evaluated: Evaluated, loss: str) -> slice:
    """Return where a loss's repeats stand, refusing what cannot be shown."""
    if evaluated.observed.ndim != 1:
        raise ConfigError("the statistic has several quantities.", hint="Choose one by its index: evaluated[0].")
    try:
        return evaluated.resamples.columns[loss]
    except KeyError:
        raise ConfigError(
            f"no loss is called {loss!r}.", hint=f"Known: {', '.join(evaluated.resamples.columns)}."
        ) from None


def _drawn_means(evaluated: Evaluated, columns: slice, include_repeats: bool) -> NDArray[np.float64]:
    """Return the mean over repeats in each resample, (resamples,)."""
    values = evaluated.drawn[:, columns]
    if include_repeats:
        # From the seed and the number of repeats alone, so that two losses get the same.
        rng = np.random.default_rng((evaluated.resamples.seed, _REPEATS))
        values = np.take_along_axis(values, rng.integers(values.shape[1], size=values.shape), axis=1)
    return mean_of_defined(values, 1)


def _summary(
    evaluated: Evaluated,
    *,
    value: NDArray[np.float64],
    drawn: NDArray[np.float64],
    points: NDArray[np.float64],
    by_scene: NDArray[np.float64],
    level: float,
    repeats: int | None,
) -> dict[str, Any]:
    """Return the attributes of a :class:`Spread`; `repeats` is how many were drawn from, ``None`` if they were not."""
    if not 0 < level < 1:
        raise ConfigError(f"an interval of level {level:g}.", hint="Between 0 and 1: 0.9 is usual.")
    resamples = evaluated.resamples
    known = drawn[~np.isnan(drawn)]
    undefined = 1 - len(known) / len(drawn)
    reason = None
    if resamples.blocks < MIN_BLOCKS:
        blocks = "1 block is" if resamples.blocks == 1 else f"{resamples.blocks} blocks are"
        reason = f"{blocks} too few, {MIN_BLOCKS} are needed"
    elif np.isnan(value):
        reason = "it is not defined on these scenes"
    elif undefined > _MAX_UNDEFINED:
        reason = f"it is not defined in {100 * undefined:.0f} % of the resamples"
    low, high = (None, None) if reason else map(float, np.quantile(known, [(1 - level) / 2, (1 + level) / 2]))
    drew = {"blocks": True, "scenes": resamples.over_scenes, "repeats": repeats is not None}
    return {
        "value": _defined(value),
        "low": low,
        "high": high,
        "level": level,
        "points": tuple(map(_defined, points)),
        "by_scene": {scene: _defined(x) for scene, x in zip(resamples.scenes, by_scene, strict=True)},
        "scenes": len(resamples.scenes),
        "blocks": resamples.blocks,
        "drawn": tuple(what for what, was in drew.items() if was),
        "reason": reason,
        "cautions": () if reason else _cautions(evaluated, known, repeats),
    }


def _cautions(evaluated: Evaluated, known: NDArray[np.float64], repeats: int | None) -> tuple[str, ...]:
    """Say what an interval leaves out."""
    scenes, said = len(evaluated.resamples.scenes), []
    if scenes == 1:
        said.append("One scene: the interval says nothing of other scenes.")
    elif not evaluated.resamples.over_scenes:
        said.append(f"These {scenes} scenes only: the interval says nothing of others.")
    elif scenes < FEW:
        said.append(f"Only {scenes} scenes: for other scenes the interval is too narrow.")
    if repeats == 1:
        said.append("One training: the interval says nothing of others.")
    elif repeats is not None and repeats < FEW:
        said.append(f"Only {repeats} repeats: for other trainings the interval is too narrow.")
    if len(known) < len(evaluated.drawn):
        said.append(f"Not defined in {len(evaluated.drawn) - len(known)} of {len(evaluated.drawn)} resamples.")
    if np.ptp(known) == 0:
        said.append("Every resample gives the same value: the spread cannot be seen.")
    return tuple(said)


def _defined(x: float | NDArray[np.float64]) -> float | None:
    return None if np.isnan(x) else float(x)


def _minus(x: float | None) -> float | None:
    return None if x is None else 0.0 - x  # never -0.0


def _number(x: float, decimals: int, unit: str = "") -> str:
    """Return a number in words, 0 without a sign."""
    text = f"{x:.{decimals}f}"
    return (text.lstrip("-") if float(text) == 0 else text) + (f" {unit}" if unit else "")
