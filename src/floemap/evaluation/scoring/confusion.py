"""Confusion matrices: whole counts of pixels, from two class rasters, summed and never averaged.

Rows are the reference's classes, columns the prediction's. Arrays only; nothing is divided here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from floemap.errors import MISSHAPEN, ConfigError, FloemapError, GridError
from floemap.legend import IGNORE

Counts = NDArray[np.int64]
Classes = NDArray[np.uint8]

#: Rows that are counted at a time: counting makes 64-bit copies, and these stay in the cache.
_STRIP_ROWS = 128


@dataclass(frozen=True, eq=False)
class Confusion:
    """Counts of pixels by class of the reference and of the prediction. Adding two of them pools their pixels.

    Attributes
    ----------
    counts
        (classes, classes) int64; rows reference, columns prediction. Pixels that have both.
    without_prediction
        (classes,) int64. Pixels that have a reference but no prediction, by the reference's class. No score counts
        them; every report says how many they are.
    without_reference
        Pixels that have a prediction but no reference (land, outside the chart, unknown): they are left out.
    """

    counts: Counts
    without_prediction: Counts
    without_reference: int = 0

    def __post_init__(self) -> None:
        counts = np.array(self.counts, np.int64)
        without = np.array(self.without_prediction, np.int64)
        if counts.ndim != 2 or counts.shape[0] != counts.shape[1] or without.shape != counts.shape[:1]:
            raise ConfigError(f"a confusion matrix of {counts.shape} with {without.shape} pixels without prediction.")
        if (counts < 0).any() or (without < 0).any() or self.without_reference < 0:
            raise ConfigError("a confusion matrix with negative counts.")
        counts.setflags(write=False)
        without.setflags(write=False)
        object.__setattr__(self, "counts", counts)
        object.__setattr__(self, "without_prediction", without)
        object.__setattr__(self, "without_reference", int(self.without_reference))

    @classmethod
    def zero(cls, classes: int) -> Confusion:
        """Return the one without a pixel, which changes nothing when added."""
        return cls(np.zeros((classes, classes), np.int64), np.zeros(classes, np.int64))

    @classmethod
    def from_dict(cls, record: Mapping[str, Any]) -> Confusion:
        """Read what :meth:`as_dict` gave.

        Raises
        ------
        FloemapError
            If it is no such record.
        """
        try:
            counts = np.array(record["counts"])
            without = np.array(record["without_prediction"])
            if counts.dtype.kind not in "iu" or without.dtype.kind not in "iu":
                raise TypeError("counts are whole numbers")
            return cls(counts, without, int(record["without_reference"]))
        except (*MISSHAPEN, FloemapError) as e:
            raise FloemapError(f"is no record of a confusion matrix: {e!r}.") from e

    def as_dict(self) -> dict[str, Any]:
        """Return all counts, JSON-ready."""
        return {
            "counts": self.counts.tolist(),
            "without_prediction": self.without_prediction.tolist(),
            "without_reference": self.without_reference,
        }

    @property
    def reference_pixels(self) -> Counts:
        """Pixels of each class in the reference, with a prediction or without, (classes,)."""
        return np.asarray(self.counts.sum(axis=1) + self.without_prediction)

    def __len__(self) -> int:
        return len(self.without_prediction)

    def __add__(self, other: Confusion) -> Confusion:
        if not isinstance(other, Confusion):
            return NotImplemented
        if len(self) != len(other):
            raise ConfigError(f"confusion matrices of {len(self)} and {len(other)} classes cannot be added.")
        return Confusion(
            self.counts + other.counts,
            self.without_prediction + other.without_prediction,
            self.without_reference + other.without_reference,
        )

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Confusion) and self.as_dict() == other.as_dict()

    __hash__ = None  # type: ignore[assignment]


@dataclass
class PairCounts:
    """How often each pair of stored values occurs in two rasters, whatever the values: filled strip by strip.

    Counting all 65 536 pairs costs no more than counting those of a legend, and an id that the legend lacks cannot
    hide among pixels that are left out.
    """

    table: Counts = field(default_factory=lambda: np.zeros((256, 256), np.int64))

    def add(self, reference: Classes, prediction: Classes) -> None:
        """Count the pixels of two rasters, or strips of them: (rows, cols) uint8 each.

        Raises
        ------
        GridError
            If their shapes differ.
        ConfigError
            If they are not of uint8.
        """
        if reference.shape != prediction.shape:
            raise GridError(f"reference and prediction have the shapes {reference.shape} and {prediction.shape}.")
        if reference.dtype != np.uint8 or prediction.dtype != np.uint8:
            raise ConfigError(f"classes are uint8, not {reference.dtype} and {prediction.dtype}.")
        for row in range(0, len(reference), _STRIP_ROWS):
            pair = reference[row : row + _STRIP_ROWS].astype(np.uint16)
            pair <<= 8
            pair |= prediction[row : row + _STRIP_ROWS]
            self.table += np.bincount(pair.ravel(), minlength=256 * 256).reshape(256, 256)

    def unknown_ids(self, classes: int) -> tuple[dict[int, int], dict[int, int]]:
        """Return the pixels of each id that is neither a class nor IGNORE: of the reference, of the prediction."""
        found = []
        for pixels in (self.table.sum(axis=1), self.table.sum(axis=0)):
            found.append({i: int(pixels[i]) for i in range(classes, IGNORE) if pixels[i]})
        return found[0], found[1]

    def confusion(self, classes: int) -> Confusion:
        """Return the counts of a legend's classes.

        Raises
        ------
        ConfigError
            If one of the rasters holds an id that is neither a class nor IGNORE, naming it.
        """
        for what, unknown in zip(("reference", "prediction"), self.unknown_ids(classes), strict=True):
            if unknown:
                raise ConfigError(f"the {what} holds {name_ids(unknown, classes)}")
        return Confusion(
            self.table[:classes, :classes],
            self.table[:classes, IGNORE],
            int(self.table[IGNORE, :classes].sum()),
        )


def name_ids(unknown: Mapping[int, int], classes: int) -> str:
    """Say which ids are outside a legend of so many classes, as the rest of a sentence."""
    ids = ", ".join(f"{i} at {n} pixels" for i, n in list(unknown.items())[:5])
    more = "" if len(unknown) <= 5 else f" and {len(unknown) - 5} further ids"
    return f"ids outside the legend: {ids}{more}. Its classes are 0 to {classes - 1}; {IGNORE} is none."


def confusion(reference: Classes, prediction: Classes, classes: int) -> Confusion:
    """Count the pixels of two class rasters.

    Parameters
    ----------
    reference, prediction
        (rows, cols) uint8: class ids, IGNORE (255) where there is none.
    classes
        How many the legend has.

    Raises
    ------
    GridError
        If the shapes differ.
    ConfigError
        If they are not of uint8, or hold an id that is neither a class nor IGNORE, naming it.
    """
    pairs = PairCounts()
    pairs.add(reference, prediction)
    return pairs.confusion(classes)


def pooled(confusions: Sequence[Confusion]) -> Confusion:
    """Return the sum of one or more: their pixels as if of one scene. The order makes no difference.

    Raises
    ------
    ConfigError
        If there is none, or the numbers of classes differ.
    """
    if not confusions:
        raise ConfigError("there is no confusion matrix to pool.")
    return sum(confusions, Confusion.zero(len(confusions[0])))
