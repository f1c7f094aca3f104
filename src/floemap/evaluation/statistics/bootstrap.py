"""The bootstrap: resampling of blocks of scenes, or of whole scenes, with the same draws for all losses and repeats.

Each draw is a vector of weights, one for each block, so resampled sums of counts are one matrix product. Every loss and
repeat gets the same draws, so difficulties that all of them share cancel in their differences.

**One level is resampled, never two.** With fewer than :data:`FEW_SCENES` scenes the blocks within each scene are
resampled, and the result holds for these scenes. From that number on whole scenes are resampled, with all their blocks,
and the result holds for scenes like these. Resampling scenes and then blocks within them, both with replacement, counts
the differences between blocks twice (A. C. Davison, D. V. Hinkley, "Bootstrap Methods and their Application", 1997,
section 3.8).

**n - 1 of n.** Of the n blocks of a scene n - 1 are drawn with replacement, and each counts n / (n - 1) times
(J. N. K. Rao, C. F. J. Wu, 1988, J. Am. Stat. Assoc. 83, 231-241). Sums then have the right variance; n draws of n give
(n - 1) / n of it, which matters where a scene has few blocks.

scipy.stats.bootstrap resamples single observations, on one level; tests compare with it where both apply.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from floemap.counts import counted
from floemap.errors import ConfigError, GridError, known_names

#: Counts of one trained model by scene, each (blocks, ...), from :mod:`floemap.evaluation.statistics.blocks`.
SceneBlocks = Mapping[str, NDArray[Any]]
#: A function of sums of counts, (..., shape of a block's counts), that returns (...) or (..., quantities), NaN where
#: undefined. It is vectorised over the axes before the shape of a block's counts.
Statistic = Callable[[NDArray[np.float64]], NDArray[np.float64]]
#: Smallest number of scenes for resampling whole scenes: fewer do not show how much scenes differ.
FEW_SCENES = 10
#: Smallest number of blocks for intervals and comparisons.
MIN_BLOCKS = 10
#: Largest share of the draws in which a statistic may be undefined.
_MAX_UNDEFINED = 0.05
#: Number of drawn blocks that are in memory at once.
_CHOICES = 2**21
#: How scenes combine: the mean of their values, as in the published scores, or the value of their pooled pixels.
Across = Literal["mean", "pooled"]
Units = Literal["blocks", "scenes"]


@dataclass(frozen=True, eq=False)
class Resamples:
    """Sums of counts, observed and resampled.

    Attributes
    ----------
    columns
        By the name of a loss, the slice of its repeats among all models.
    scenes
        Sorted names of the scenes.
    blocks
        Number of blocks in all scenes together.
    units
        The units that were resampled.
    degrees
        Degrees of freedom: the number of units, less one for each set from which they were drawn.
    observed
        Observed sums, (scenes, models, ...).
    drawn
        Resampled sums, (resamples, scenes, models, ...), if blocks were resampled; else None.
    times
        How often each scene was drawn, (resamples, scenes), if scenes were resampled; else None. The counts of all
        drawn scenes are not in memory: those of hundreds of scenes would take gigabytes.
    """

    columns: Mapping[str, slice]
    scenes: tuple[str, ...]
    blocks: int
    units: Units
    degrees: int
    observed: NDArray[np.float64]
    drawn: NDArray[np.float64] | None
    times: NDArray[np.float64] | None = None

    def evaluate(self, statistic: Statistic, across: Across = "mean") -> Evaluated:
        """Return a statistic of all models, as observed and in each resample.

        The mean over scenes leaves out scenes in which the statistic is undefined.

        Raises
        ------
        ConfigError
            If the statistic changes the axes before those of a block, or `across` is unknown.
        """
        by_scene = self._values(statistic, self.observed)
        if across == "mean":
            observed = mean_of_defined(by_scene, 0)
            drawn = self._drawn_means(statistic)
        elif across == "pooled":
            observed = self._values(statistic, self.observed.sum(axis=0))
            drawn = self._values(statistic, self._drawn_sums())
        else:
            raise ConfigError(f"`across` is 'mean' or 'pooled', not {across!r}.")
        return Evaluated(self, observed, by_scene, drawn)

    def _drawn_means(self, statistic: Statistic) -> NDArray[np.float64]:
        """Return the means over the drawn scenes of their values."""
        if self.times is None:
            assert self.drawn is not None
            return mean_of_defined(self._values(statistic, self.drawn), 1)
        values = self._values(statistic, self.observed * self._of_scenes)
        defined = ~np.isnan(values)
        total = np.tensordot(self.times, np.where(defined, values, 0), 1)
        count = np.tensordot(self.times, defined.astype(np.float64), 1)
        return np.asarray(np.divide(total, count, out=np.full(total.shape, np.nan), where=count > 0))

    def _drawn_sums(self) -> NDArray[np.float64]:
        """Return the sums over the drawn scenes."""
        if self.times is None:
            assert self.drawn is not None
            return np.asarray(self.drawn.sum(axis=1))
        return np.asarray(np.tensordot(self.times, self.observed * self._of_scenes, 1))

    @property
    def _of_scenes(self) -> float:
        """Weight of each drawn scene: n - 1 of n are drawn."""
        return len(self.scenes) / (len(self.scenes) - 1)

    def _values(self, statistic: Statistic, counts: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return a statistic's values; raise an error if it returns another shape than (...) or (..., quantities)."""
        values = np.asarray(statistic(counts), np.float64)
        lead = counts.ndim - (self.observed.ndim - 2)
        if values.shape[:lead] != counts.shape[:lead] or values.ndim > lead + 1:
            raise ConfigError(
                f"the statistic returned the shape {values.shape} for counts of {counts.shape}.",
                hint="A statistic reduces the axes of a block, and keeps those before them.",
            )
        return values


@dataclass(frozen=True, eq=False)
class Evaluated:
    """A statistic of all models, see :meth:`Resamples.evaluate`. Indexing returns one of its quantities.

    Attributes
    ----------
    resamples
        The resamples from which it was computed.
    observed
        Observed values, (models,) or (models, quantities).
    by_scene
        Observed values of each scene, (scenes, models) or (scenes, models, quantities).
    drawn
        Values in each resample, (resamples, models) or (resamples, models, quantities).
    """

    resamples: Resamples
    observed: NDArray[np.float64]
    by_scene: NDArray[np.float64]
    drawn: NDArray[np.float64]

    def __getitem__(self, quantity: int) -> Evaluated:
        if self.observed.ndim == 1:
            raise ConfigError("a statistic of one quantity cannot be indexed.")
        return self.map(lambda values: values[..., quantity])

    def map(self, function: Callable[[NDArray[np.float64]], NDArray[np.float64]]) -> Evaluated:
        """Return the statistic with a function applied to every value."""
        return Evaluated(self.resamples, function(self.observed), function(self.by_scene), function(self.drawn))

    def columns(self, loss: str) -> slice:
        """Return the slice of a loss's repeats among the models.

        Raises
        ------
        ConfigError
            If no loss has the name, or the statistic has several quantities.
        """
        if self.observed.ndim != 1:
            raise ConfigError("the statistic has several quantities.", hint="Choose one by its index: evaluated[0].")
        try:
            return self.resamples.columns[loss]
        except KeyError:
            hint = known_names(loss, self.resamples.columns)
            raise ConfigError(f"no loss is called {loss!r}.", hint=hint) from None

    def why_not(self, observed: NDArray[np.float64], drawn: NDArray[np.float64]) -> str | None:
        """Return why a number's draws, (resamples,), allow no conclusion; None if they do.

        `observed` holds the observed values from which the number is computed.
        """
        blocks = self.resamples.blocks
        if blocks < MIN_BLOCKS:
            return f"{counted(blocks, 'block is|blocks are')} too few, {MIN_BLOCKS} are needed"
        if np.isnan(observed).any():
            return "it is not defined on these scenes"
        undefined = float(np.isnan(drawn).mean())
        if undefined > _MAX_UNDEFINED:
            return f"it is not defined in {100 * undefined:.0f} % of the resamples"
        return None


def resample(
    losses: Mapping[str, Sequence[SceneBlocks]], *, n: int = 1000, seed: int = 0, blocks: int | None = None
) -> Resamples:
    """Resample blocks or scenes, and sum the counts of every loss and repeat over them.

    Parameters
    ----------
    losses
        The repeats of each loss, at least one, by name. All must have the same scenes and blocks.
    n
        Number of resamples, at least 100.
    seed
        Seed of the draws. The same seed, scenes and numbers of blocks give the same draws, independent of the order of
        the scenes and of the other losses.
    blocks
        Number of blocks in all scenes together, if the counts of a scene are already summed over its blocks.

    Raises
    ------
    GridError
        If there are no counts, a scene has no block, or losses differ in scenes or blocks; the message names them. If
        counts are summed over blocks, and there are too few scenes to resample these.
    ConfigError
        If `n` is too small.
    """
    if n < 100:
        raise ConfigError(f"{n} resamples are too few.", hint="At least 100; 1000 is usual.")
    columns, stacks = _stacked(losses)
    scenes = len(stacks)
    sizes = [len(stack) for stack in stacks.values()]
    observed = np.stack([stack.sum(axis=0) for stack in stacks.values()])
    rng = np.random.default_rng(seed)
    units: Units = "blocks" if scenes < FEW_SCENES else "scenes"
    if units == "blocks" and blocks is not None and blocks > sum(sizes):
        raise GridError(
            f"counts of {blocks} blocks in {scenes} scenes are summed to {sum(sizes)}, which do not show how blocks "
            "differ."
        )
    drawn = times = None
    if units == "scenes":
        chosen = rng.integers(scenes, size=(n, scenes - 1)) + scenes * np.arange(n)[:, None]
        times = np.bincount(chosen.ravel(), minlength=n * scenes).reshape(n, scenes).astype(np.float64)
        degrees = scenes - 1
    else:
        drawn = np.empty((n, *observed.shape))
        for i, stack in enumerate(stacks.values()):
            drawn[:, i] = _drawn_sums(rng, n, stack.reshape(len(stack), -1)).reshape(n, *observed.shape[1:])
        degrees = sum(sizes) - scenes
    return Resamples(columns, tuple(stacks), blocks or sum(sizes), units, degrees, observed, drawn, times)


def mean_of_defined(values: NDArray[np.float64], axis: int) -> NDArray[np.float64]:
    """Return means along an axis over the values that are not NaN; NaN where all are."""
    defined = ~np.isnan(values)
    total, count = np.where(defined, values, 0).sum(axis=axis), defined.sum(axis=axis)
    return np.asarray(np.divide(total, count, out=np.full(total.shape, np.nan), where=count > 0))


def _drawn_sums(rng: np.random.Generator, draws: int, counts: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return sums over n - 1 of n blocks, drawn with replacement, times n / (n - 1): (n, m) to (draws, m)."""
    blocks = len(counts)
    if blocks == 1:
        return np.repeat(counts, draws, axis=0)  # a single block does not show how much blocks differ
    sums = np.empty((draws, counts.shape[1]))
    at_once = max(1, _CHOICES // blocks)
    for first in range(0, draws, at_once):
        k = min(at_once, draws - first)
        chosen = rng.integers(blocks, size=(k, blocks - 1)) + blocks * np.arange(k)[:, None]
        times = np.bincount(chosen.ravel(), minlength=k * blocks).reshape(k, blocks)  # multiplicity of each block
        np.matmul(times * (blocks / (blocks - 1)), counts, out=sums[first : first + k])
    return sums


def _stacked(losses: Mapping[str, Sequence[SceneBlocks]]) -> tuple[dict[str, slice], dict[str, NDArray[np.float64]]]:
    """Return the slice of each loss's repeats; and for each scene, sorted, all counts, (blocks, models, ...)."""
    models = [(name, i, blocks) for name, repeats in losses.items() for i, blocks in enumerate(repeats, start=1)]
    empty = [name for name, repeats in losses.items() if not repeats]
    if not models or empty:
        raise GridError(f"there are no counts{' of ' + ', '.join(empty) if empty else ''}.")
    first, _, like = models[0]
    shapes = {scene: np.shape(like[scene]) for scene in sorted(like)}
    for name, i, blocks in models:
        for scene in sorted(shapes.keys() | blocks.keys()):
            here, there = (np.shape(b[scene]) if scene in b else None for b in (like, blocks))
            if here != there:
                raise GridError(
                    f"{scene}: {first} has counts of shape {here}, repeat {i} of {name} {there}.",
                    hint="Losses are compared on the same scenes and blocks.",
                )
    if not shapes:
        raise GridError("there are no scenes.")
    for scene, shape in shapes.items():
        if not shape or not shape[0]:
            raise GridError(f"{scene} has no block.", hint="Its reference has no class anywhere: omit the scene.")
    if len({shape[1:] for shape in shapes.values()}) > 1:
        raise GridError(f"scenes have counts of different shapes: {', '.join(f'{s} {x}' for s, x in shapes.items())}.")
    ends = list(accumulate(len(repeats) for repeats in losses.values()))
    starts = [0, *ends[:-1]]
    columns = {name: slice(a, b) for name, a, b in zip(losses, starts, ends, strict=True)}
    stacks = {
        scene: np.stack([np.asarray(blocks[scene], np.float64) for _, _, blocks in models], axis=1) for scene in shapes
    }
    return columns, stacks
