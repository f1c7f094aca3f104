"""Confusion matrices: integer counts of pixels from two class rasters, which are summed and never averaged.

Rows are the reference's classes, columns the prediction's. This module takes arrays and divides nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from floemap.counts import counted
from floemap.errors import MISSHAPEN, ConfigError, FloemapError, GridError
from floemap.legend import IGNORE

Counts = NDArray[np.int64]
Classes = NDArray[np.uint8]

#: Number of rows counted at a time: counting makes 64-bit copies, and those of a strip fit into the cache.
_STRIP_ROWS = 128


@dataclass(frozen=True, eq=False)
class Confusion:
    """Counts of pixels by class of the reference and of the prediction. Adding two matrices pools their pixels.

    Attributes
    ----------
    counts
        Pixels that have a reference and a prediction, (classes, classes) int64; rows reference, columns prediction.
    without_prediction
        Pixels that have a reference but no prediction, by the reference's class, (classes,) int64. No score counts
        them; every report gives their number.
    without_reference
        Number of pixels that have a prediction but no reference (land, outside the chart, unknown). No score counts
        them.
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
        """Return the matrix without a pixel, the neutral element of addition."""
        return cls(np.zeros((classes, classes), np.int64), np.zeros(classes, np.int64))

    @classmethod
    def from_dict(cls, record: Mapping[str, Any]) -> Confusion:
        """Read the record that :meth:`as_dict` returns.

        Raises
        ------
        FloemapError
            If `record` is no such record.
        """
        try:
            counts = np.array(record["counts"])
            without = np.array(record["without_prediction"])
            if counts.dtype.kind not in "iu" or without.dtype.kind not in "iu":
                raise TypeError("counts are whole numbers")
            return cls(counts, without, int(record["without_reference"]))
        except (*MISSHAPEN, FloemapError) as e:
            raise FloemapError(f"is not the record of a confusion matrix: {e!r}.") from e

    def as_dict(self) -> dict[str, Any]:
        """Return all counts, JSON-ready."""
        return {
            "counts": self.counts.tolist(),
            "without_prediction": self.without_prediction.tolist(),
            "without_reference": self.without_reference,
        }

    @property
    def reference_pixels(self) -> Counts:
        """Number of pixels of each class in the reference, with or without a prediction, (classes,)."""
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
    """Number of pixels with each pair of stored values in two rasters, filled strip by strip.

    Counting all 65 536 pairs costs no more than counting those of a legend, and an id outside the legend cannot hide
    among pixels that are not scored.
    """

    table: Counts = field(default_factory=lambda: np.zeros((256, 256), np.int64))

    def add(self, reference: Classes, prediction: Classes) -> None:
        """Count the pixels of two rasters, or of strips of them: (rows, cols) uint8 each.

        Raises
        ------
        GridError
            If the shapes differ.
        ConfigError
            If the type of one is not uint8.
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
        """Return the number of pixels of each id that is neither a class nor IGNORE, for reference and prediction."""
        found = []
        for pixels in (self.table.sum(axis=1), self.table.sum(axis=0)):
            found.append({i: int(pixels[i]) for i in range(classes, IGNORE) if pixels[i]})
        return found[0], found[1]

    def confusion(self, classes: int) -> Confusion:
        """Return the confusion matrix of the first `classes` ids.

        Raises
        ------
        ConfigError
            If one of the rasters holds an id that is neither a class nor IGNORE. The message names it.
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
    """Return the end of an error's sentence that names the ids outside a legend of `classes` classes."""
    ids = ", ".join(f"{i} at {counted(n, 'pixel')}" for i, n in list(unknown.items())[:5])
    more = "" if len(unknown) <= 5 else f" and {counted(len(unknown) - 5, 'further id')}"
    return f"ids outside the legend: {ids}{more}. Its classes are 0 to {classes - 1}; {IGNORE} is none."


def confusion(reference: Classes, prediction: Classes, classes: int) -> Confusion:
    """Count the pixels of two class rasters.

    Parameters
    ----------
    reference, prediction
        (rows, cols) uint8: class ids, IGNORE (255) where there is none.
    classes
        Number of classes in the legend.

    Raises
    ------
    GridError
        If the shapes differ.
    ConfigError
        If the type of a raster is not uint8, or it holds an id that is neither a class nor IGNORE.
    """
    pairs = PairCounts()
    pairs.add(reference, prediction)
    return pairs.confusion(classes)


def pooled(confusions: Sequence[Confusion]) -> Confusion:
    """Return the sum of one or more matrices, as if their pixels were of one scene. Their order does not matter.

    Raises
    ------
    ConfigError
        If `confusions` is empty, or the numbers of classes differ.
    """
    if not confusions:
        raise ConfigError("there is no confusion matrix to pool.")
    return sum(confusions, Confusion.zero(len(confusions[0])))
