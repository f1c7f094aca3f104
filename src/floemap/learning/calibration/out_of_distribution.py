"""The out-of-distribution score: how unlike the training scenes a scene is, square by square.

A square of :data:`CELL_PX` pixels is described by the mean of each band and the logarithm of the spread of each band in
dB. Its distance is the mean distance to the :data:`NEAREST` nearest squares of the training scenes, each number divided
by its standard deviation there: detection by nearest neighbours (Y. Sun, Y. Ming, X. Zhu, Y. Li, "Out-of-distribution
detection with deep nearest neighbors", ICML 2022), of the bands instead of a network's features. The score is the
distance divided by the median distance of the squares of the held-out validation parts: 1 is usual.

Bands, because on simulated scenes the Mahalanobis distance of the encoder's features (K. Lee et al., NeurIPS 2018) did
not rise from winter to summer, and because they are there for any model; docs/calibration.md has the numbers.
"""

from __future__ import annotations

import base64
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.spatial import KDTree

from floemap.bands import NODATA, BandSet
from floemap.errors import MISSHAPEN, ModelError
from floemap.legend import IGNORE

if TYPE_CHECKING:  # it imports torch
    from floemap.learning.data.parts import PartArrays

#: Side of a square, pixels.
CELL_PX = 16
#: Every so many pixels count, in rows and in columns: enough for a mean and a spread, and a quarter of the work.
_EVERY = 2
#: Number of nearest training squares.
NEAREST = 5
#: Largest number of training squares that a checkpoint keeps: some 25 KB.
MOST_CELLS = 2048
#: Smallest number of training and of validation squares that tell anything.
FEWEST_CELLS = 30
#: Percentile of the validation squares beyond which a square counts as unusual.
BEYOND = 95
#: A scene is unlike the training scenes if more than this share of its squares is unusual (5 % is usual), or if the
#: percentile of its median square is above this one (50 is usual).
MOST_UNUSUAL, HIGHEST_PERCENTILE = 0.2, 70.0
#: Added to spreads in dB before their logarithm.
_FLOOR_DB = 0.1

Floats = NDArray[np.float32]
#: Reads a window of a scene: first row, first column, rows, columns -> stored int16 (bands, rows, columns).
Reader = Callable[[int, int, int, int], NDArray[np.int16]]


class SquareStatistics:
    """Means and spreads of the bands in squares, from rows that come from the top downwards.

    Parameters
    ----------
    bands
        The bands. Those that a pixel needs count, as others may have gaps; those that end in "_db" have a spread.
    """

    def __init__(self, bands: BandSet) -> None:
        self._bands = [(i, bands.bands[i]) for i in bands.of_scene]
        names = [band.name for _, band in self._bands]
        self.names = [*names, *(f"{name} spread" for name in names if name.endswith("_db"))]
        self._rest: NDArray[np.int16] | None = None
        self._rows: list[Floats] = []

    def watch(self, read: Reader) -> Reader:
        """Return a reader that also adds what it reads: windows that span all columns and follow each other down."""

        def watched(row: int, col: int, rows: int, cols: int) -> NDArray[np.int16]:
            stored = read(row, col, rows, cols)
            self.add(stored)
            return stored

        return watched

    def add(self, stored: NDArray[np.int16]) -> None:
        """Add the next rows as stored, (bands, rows, cols)."""
        whole = stored if self._rest is None else np.concatenate([self._rest, stored], axis=1)
        rows = whole.shape[1] // CELL_PX * CELL_PX
        self._rest = whole[:, rows:].copy()
        if rows:
            self._rows.append(self._of(whole[:, :rows]))

    def squares(self) -> Floats:
        """Return the numbers of all squares, (rows, cols, numbers); NaN where less than half of one has data.

        The last squares of rows and columns may be incomplete.
        """
        rest = self._rest
        last = [] if rest is None or not rest.shape[1] else [self._of(rest)]
        return np.concatenate([*self._rows, *last])

    def _of(self, stored: NDArray[np.int16]) -> Floats:
        _, rows, cols = stored.shape
        size = (-(-cols // CELL_PX), -(-rows // CELL_PX))
        seen = [stored[i, ::_EVERY, ::_EVERY] for i, _ in self._bands]
        padding = [(0, side * CELL_PX // _EVERY - n) for side, n in zip(size[::-1], seen[0].shape, strict=True)]
        valid = np.pad(np.logical_and.reduce([x != NODATA for x in seen]), padding)

        def mean(x: NDArray[Any]) -> Floats:
            return np.asarray(cv2.resize(np.asarray(x, np.float32), size, interpolation=cv2.INTER_AREA), np.float32)

        share = mean(valid).reshape(size[::-1])
        known = np.maximum(share, np.float32(1e-6))
        means, spreads = [], []
        for values, (_, band) in zip(seen, self._bands, strict=True):
            x = np.where(valid, band.decode(np.pad(values, padding)), np.float32(0))
            means.append(mean(x).reshape(share.shape) / known)
            if band.name.endswith("_db"):
                variance = mean(x * x).reshape(share.shape) / known - means[-1] ** 2
                spreads.append(np.log(np.sqrt(np.maximum(variance, 0)) + np.float32(_FLOOR_DB)))
        found = np.stack([*means, *spreads], axis=-1)
        found[share < 0.5] = np.nan
        return found


def labelled_squares(part: PartArrays) -> Floats:
    """Return the numbers of a part's squares of which at least half has labels and data, (n, numbers)."""
    statistics = SquareStatistics(part.bands)
    statistics.add(part.stored)
    squares = statistics.squares()
    return squares[_mostly(part.labels != IGNORE) & ~np.isnan(squares).any(axis=-1)]


def _mostly(there: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return for each square whether at least half of it is there, by pixel (rows, cols)."""
    padded = np.pad(there, [(0, -n % CELL_PX) for n in there.shape])
    rows, cols = (n // CELL_PX for n in padded.shape)
    return np.asarray(padded.reshape(rows, CELL_PX, cols, CELL_PX).mean(axis=(1, 3)) >= 0.5)


@dataclass(frozen=True)
class Known:
    """What a checkpoint keeps of its training and validation scenes, to tell how unlike them a scene is.

    Attributes
    ----------
    names
        The numbers of a square, F of them.
    scale
        (F,): standard deviation of each number over the training squares.
    squares
        (n, F) float32: numbers of training squares, divided by `scale`.
    percentiles
        (101,): percentiles 0 to 100 of the distances of the validation squares.
    """

    names: tuple[str, ...]
    scale: NDArray[np.float64]
    squares: Floats
    percentiles: NDArray[np.float64]

    @cached_property
    def _tree(self) -> KDTree:
        return KDTree(self.squares)

    def distances(self, squares: Floats) -> NDArray[np.float64]:
        """Return the mean distance of squares (..., F) to the nearest training squares, (...); NaN where they are."""
        known = ~np.isnan(squares).any(axis=-1)
        found = np.full(squares.shape[:-1], np.nan)
        if known.any():
            near, _ = self._tree.query(squares[known] / self.scale, k=NEAREST)
            found[known] = np.mean(near, axis=-1)
        return found

    def score(self, squares: Floats) -> SceneScore:
        """Score the squares of a scene, (rows, cols, F)."""
        return SceneScore((self.distances(squares) / self.percentiles[50]).astype(np.float32), self)

    def to_json(self) -> dict[str, Any]:
        """Return the entry of a checkpoint's header."""
        return {
            "numbers": list(self.names),
            "cell_px": CELL_PX,
            "scale": self.scale.tolist(),
            "percentiles": self.percentiles.tolist(),
            "squares": base64.b64encode(self.squares.astype("<f2").tobytes()).decode(),
        }

    @staticmethod
    def from_json(content: Mapping[str, Any], names: Sequence[str], path: Path) -> Known:
        """Read the entry of a checkpoint's header.

        Raises
        ------
        ModelError
            If it is damaged, or describes squares by other numbers.
        """
        try:
            scale = np.array(content["scale"], np.float64)
            percentiles = np.array(content["percentiles"], np.float64)
            squares = np.frombuffer(base64.b64decode(content["squares"], validate=True), "<f2")
            squares = squares.astype(np.float32).reshape(-1, len(names))
            good = (
                content["numbers"] == list(names)
                and content["cell_px"] == CELL_PX
                and scale.shape == (len(names),)
                and percentiles.shape == (101,)
                and len(squares) >= NEAREST
                and np.isfinite(scale).all()
                and np.isfinite(percentiles).all()
                and np.isfinite(squares).all()
                and (scale > 0).all()
                and (np.diff(percentiles) >= 0).all()
                and percentiles[50] > 0
            )
        except MISSHAPEN as e:
            raise _damaged(path, f"{type(e).__name__}: {e}") from e
        if not good:
            raise _damaged(path, "its numbers do not fit each other")
        return Known(tuple(names), scale, squares, percentiles)


def _damaged(path: Path, why: str) -> ModelError:
    return ModelError(
        f"has damaged statistics of its training scenes: {why}.",
        path=path,
        hint="Copy the file again, or train the model again.",
    )


@dataclass(frozen=True)
class SceneScore:
    """How unlike the training scenes a scene is.

    Attributes
    ----------
    ratio
        (rows, cols) float32: distance of each square, as a multiple of the median of the validation squares; NaN where
        less than half of a square has data.
    known
        What the score compares with.
    """

    ratio: Floats
    known: Known

    @property
    def unusual(self) -> float:
        """Share of the squares beyond the validation's percentile :data:`BEYOND`; 0 without squares."""
        limit = self.known.percentiles[BEYOND] / self.known.percentiles[50]
        squares = self._squares
        return float((squares > limit).mean()) if squares.size else 0.0

    @property
    def median(self) -> float:
        """Score of the scene: the median over its squares; 1 is usual. NaN without squares."""
        return float(np.median(self._squares)) if self._squares.size else math.nan

    @property
    def percentile(self) -> float:
        """Percentile of the median square among the validation squares; 50 is usual. NaN without squares."""
        percentiles = self.known.percentiles
        return float(np.interp(self.median * percentiles[50], percentiles, np.arange(101)))

    @property
    def unlike(self) -> bool:
        """Whether the scene is unlike the training scenes."""
        return self.unusual > MOST_UNUSUAL or self.percentile > HIGHEST_PERCENTILE

    @property
    def _squares(self) -> Floats:
        return self.ratio[~np.isnan(self.ratio)]

    def without(self, left_out: NDArray[np.bool_]) -> SceneScore:
        """Return the score without squares of which at least half is left out, by pixel (rows, cols)."""
        return SceneScore(np.where(_mostly(left_out), np.float32(np.nan), self.ratio), self.known)

    def to_json(self) -> dict[str, Any]:
        """Return the entry of a prediction's record."""
        if not self._squares.size:
            return {"reason": "no square of the scene has data"}
        return {
            "score": round(self.median, 3),
            "percentile": round(self.percentile, 1),
            "unusual_share": round(self.unusual, 4),
            "unusual_percentile": BEYOND,
            "squares": int(self._squares.size),
            "square_px": CELL_PX,
            "unlike_training": self.unlike,
        }


def learn_known(
    training: Sequence[Floats], validation: Sequence[Floats], names: Sequence[str], seed: int
) -> Known | str:
    """Return what a checkpoint keeps of the squares of its parts, (n, F) each; or why there is nothing to keep.

    Parameters
    ----------
    training, validation
        Numbers of the labelled squares of each part, as :func:`labelled_squares` returns them.
    names
        The numbers of a square.
    seed
        Seed of the choice among the training squares.
    """
    learnt, held = np.concatenate(training), np.concatenate(validation)
    for what, squares in (("training", learnt), ("validation", held)):
        if len(squares) < FEWEST_CELLS:
            return (
                f"the {what} parts have {len(squares)} labelled squares of {CELL_PX} pixels; {FEWEST_CELLS} are needed"
            )
    scale = learnt.std(axis=0, dtype=np.float64)
    scale[scale == 0] = 1.0  # a band that has one value
    chosen = np.random.default_rng(seed).permutation(len(learnt))[:MOST_CELLS]
    kept = (learnt[np.sort(chosen)] / scale).astype(np.float16).astype(np.float32)  # as they are stored
    known = Known(tuple(names), scale, kept, np.zeros(101))
    percentiles = np.percentile(known.distances(held), np.arange(101))
    if not percentiles[50] > 0:
        return "the squares of the validation parts are those of the training parts"
    return Known(tuple(names), scale, kept, percentiles)
