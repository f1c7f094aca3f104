"""The bootstrap: scenes and blocks of scenes drawn again and again, for all losses and repeats alike.

Two levels, as the pixels come: scenes are drawn with replacement, then blocks within each scene drawn (A. C. Davison,
D. V. Hinkley, "Bootstrap Methods and their Application", 1997, section 3.8). A draw is a number for each block, how
often it is in; sums of counts over drawn blocks are one matrix product. Every loss and repeat sees the same draws, so
what all of them find hard in a scene cancels in their differences.

scipy.stats.bootstrap resamples single observations, on one level; tests compare with it where the two meet.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from floemap.errors import ConfigError, GridError
from floemap.evaluation.confusion import Confusion

#: Counts of one trained model: by scene, (blocks, ...), as from :mod:`floemap.evaluation.blocks`.
SceneBlocks = Mapping[str, NDArray[Any]]
#: Takes sums of counts, (..., as of a block), and returns (...), or (..., quantities); NaN where not defined. What
#: comes before the shape of a block is many at once.
Statistic = Callable[[NDArray[np.float64]], NDArray[np.float64]]
#: Choices of a block that are in memory at once.
_CHOICES = 2**21
#: The mean of the scenes' values, as the paper's scores are; or the value of their pixels pooled.
Across = Literal["mean", "pooled"]


@dataclass(frozen=True, eq=False)
class Resamples:
    """Sums of counts, as observed and as drawn.

    Attributes
    ----------
    columns
        By name of a loss, where its repeats stand among all models.
    scenes
        Names, sorted.
    blocks
        In all scenes together.
    over_scenes
        Whether scenes were drawn too.
    seed
        Of the draws.
    observed
        (scenes, models, ...).
    drawn
        (resamples, scenes, models, ...): the second axis is as many scenes as there are, in the order drawn.
    """

    columns: Mapping[str, slice]
    scenes: tuple[str, ...]
    blocks: int
    over_scenes: bool
    seed: int
    observed: NDArray[np.float64]
    drawn: NDArray[np.float64]

    def evaluate(self, statistic: Statistic, across: Across = "mean") -> Evaluated:
        """Return a statistic of all models, as observed and in each resample.

        Scenes where it is not defined are left out of the mean over scenes.

        Raises
        ------
        ConfigError
            If the statistic does not keep the axes before those of a block, or `across` is neither.
        """
        by_scene = self._values(statistic, self.observed)
        if across == "mean":
            observed = mean_of_defined(by_scene, 0)
            drawn = mean_of_defined(self._values(statistic, self.drawn), 1)
        elif across == "pooled":
            observed = self._values(statistic, self.observed.sum(axis=0))
            drawn = self._values(statistic, self.drawn.sum(axis=1))
        else:
            raise ConfigError(f"across scenes is 'mean' or 'pooled', not {across!r}.")
        return Evaluated(self, observed, by_scene, drawn)

    def _values(self, statistic: Statistic, counts: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return a statistic's values, refusing what is not one, or one for each quantity, of each sum of counts."""
        values = np.asarray(statistic(counts), np.float64)
        lead = counts.ndim - (self.observed.ndim - 2)
        if values.shape[:lead] != counts.shape[:lead] or values.ndim > lead + 1:
            raise ConfigError(
                f"the statistic made {values.shape} of counts of {counts.shape}.",
                hint="It reduces the axes of a block, and keeps those before them.",
            )
        return values


@dataclass(frozen=True, eq=False)
class Evaluated:
    """A statistic of all models: see :meth:`Resamples.evaluate`. With an index, one of its quantities.

    Attributes
    ----------
    resamples
        Where it is from.
    observed
        (models,) or (models, quantities).
    by_scene
        (scenes, models) or (scenes, models, quantities).
    drawn
        (resamples, models) or (resamples, models, quantities).
    """

    resamples: Resamples
    observed: NDArray[np.float64]
    by_scene: NDArray[np.float64]
    drawn: NDArray[np.float64]

    def __getitem__(self, quantity: int) -> Evaluated:
        if self.observed.ndim == 1:
            raise ConfigError("a statistic of one quantity has no others.")
        pick = np.s_[..., quantity]
        return Evaluated(self.resamples, self.observed[pick], self.by_scene[pick], self.drawn[pick])


def resample(
    losses: Mapping[str, Sequence[SceneBlocks]], *, n: int = 1000, seed: int = 0, resample_scenes: bool = True
) -> Resamples:
    """Draw scenes and blocks, and sum the counts of every loss and repeat over them.

    Parameters
    ----------
    losses
        By name, the repeats of each, at least one. All with the same scenes and blocks.
    n
        Resamples, at least 100.
    seed
        The same seed, scenes and numbers of blocks give the same draws, whatever the order of the scenes and whatever
        else is compared.
    resample_scenes
        Draw scenes too, where there are two or more. Without, the result is about these scenes only.

    Raises
    ------
    GridError
        If there is nothing, a scene has no block, or losses differ in scenes or blocks, naming them.
    ConfigError
        If `n` is too small.
    """
    if n < 100:
        raise ConfigError(f"{n} resamples are too few.", hint="At least 100; 1000 is usual.")
    columns, stacks = _stacked(losses)
    scenes = tuple(stacks)
    sizes = [len(stack) for stack in stacks.values()]
    shape = next(iter(stacks.values())).shape[1:]
    rng = np.random.default_rng(seed)
    over_scenes = resample_scenes and len(scenes) > 1
    choice = np.tile(np.arange(len(scenes)), (n, 1))  # (resamples, scenes): which scene stands in each place
    if over_scenes:
        choice = rng.integers(len(scenes), size=choice.shape)
    drawn = np.empty((n, len(scenes), *shape))
    for i, (stack, size) in enumerate(zip(stacks.values(), sizes, strict=True)):
        places = choice == i
        drawn[places] = _drawn_sums(rng, int(places.sum()), stack.reshape(size, -1)).reshape(-1, *shape)
    observed = np.stack([stack.sum(axis=0) for stack in stacks.values()])
    return Resamples(columns, scenes, sum(sizes), over_scenes, seed, observed, drawn)


def each_confusion(function: Callable[[Confusion], Sequence[float | None]]) -> Statistic:
    """Return a statistic of confusion matrices from a function of one, for those that take one at a time.

    ``each_confusion(lambda c: (s := scores(c)) and (s.weighted_f1, s.macro_f1))`` has two quantities. One evaluation
    for many quantities is quicker than one for each.
    """

    def statistic(counts: NDArray[np.float64]) -> NDArray[np.float64]:
        classes = counts.shape[-1]
        matrices = np.rint(counts).astype(np.int64).reshape(-1, classes, classes)
        none = np.zeros(classes, np.int64)
        values = np.array([function(Confusion(m, none)) for m in matrices], np.float64)  # None becomes NaN
        return values.reshape(*counts.shape[:-2], -1)

    return statistic


def mean_of_defined(values: NDArray[np.float64], axis: int) -> NDArray[np.float64]:
    """Return means along an axis over what is not NaN; NaN where all is."""
    defined = ~np.isnan(values)
    total, count = np.where(defined, values, 0).sum(axis=axis), defined.sum(axis=axis)
    return np.asarray(np.divide(total, count, out=np.full(total.shape, np.nan), where=count > 0))


def _drawn_sums(rng: np.random.Generator, draws: int, counts: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return sums over as many blocks as there are, drawn with replacement: (blocks, n) to (draws, n)."""
    blocks = len(counts)
    sums = np.empty((draws, counts.shape[1]))
    at_once = max(1, _CHOICES // blocks)
    for first in range(0, draws, at_once):
        k = min(at_once, draws - first)
        chosen = rng.integers(blocks, size=(k, blocks)) + blocks * np.arange(k)[:, None]
        times = np.bincount(chosen.ravel(), minlength=k * blocks).reshape(k, blocks)  # how often each block is in
        np.matmul(times.astype(np.float64), counts, out=sums[first : first + k])
    return sums


def _stacked(losses: Mapping[str, Sequence[SceneBlocks]]) -> tuple[dict[str, slice], dict[str, NDArray[np.float64]]]:
    """Return where each loss's repeats stand, and by scene, sorted, the counts of all models, (blocks, models, ...)."""
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
            raise GridError(f"{scene} has no block.", hint="Its reference has no class anywhere: leave it out.")
    if len({shape[1:] for shape in shapes.values()}) > 1:
        raise GridError(f"scenes have counts of different shapes: {', '.join(f'{s} {x}' for s, x in shapes.items())}.")
    ends = list(accumulate(len(repeats) for repeats in losses.values()))
    starts = [0, *ends[:-1]]
    columns = {name: slice(a, b) for name, a, b in zip(losses, starts, ends, strict=True)}
    stacks = {
        scene: np.stack([np.asarray(blocks[scene], np.float64) for _, _, blocks in models], axis=1) for scene in shapes
    }
    return columns, stacks
