"""What all losses have in common: a loss is a ratio of sums over pixels.

A loss is computed in two steps: the sums of a batch, which add up over crops, tiles and processes, and the value of
such sums. Axes: logits (N, K, H, W), labels (N, H, W) with class ids from 0 to K - 1, or
:data:`floemap.legend.IGNORE` for pixels without a label, which no sum counts. If no pixel has a label, the value and
its gradient are 0. Arithmetic is in float32, also for logits in half precision, or in float64 for logits in float64.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from floemap.config import Settings
from floemap.errors import TrainingError
from floemap.learning.data.polygons import Polygons
from floemap.learning.models.precision import at_least_float32
from floemap.legend import IGNORE


def check_labels(labels: Tensor | NDArray[np.uint8], classes: int) -> None:
    """Refuse labels, of any shape, with a value that is neither a class id nor IGNORE.

    Raises
    ------
    TrainingError
        If there is such a value; the message shows the largest.
    """
    wrong = labels[(labels >= classes) & (labels != IGNORE)]
    if len(wrong):
        raise TrainingError(
            f"{len(wrong)} pixels have labels up to {int(wrong.max())}; the {classes} classes end at {classes - 1}.",
            hint="Check that the labels were made with the same legend.",
        )


def unreduced(sums: Tensor) -> Tensor:
    """Return the sums unchanged: with one process they are complete."""
    return sums


def ratio(numerator: Tensor, denominator: Tensor) -> Tensor:
    """Divide; the result is 0, with a gradient of 0, where the denominator is 0."""
    some = denominator != 0  # NaN stays NaN, so that training stops
    return torch.where(some, numerator / torch.where(some, denominator, 1), 0)


def class_counts(labels: Tensor, classes: int) -> Tensor:
    """Return the number of pixels of each class, (K,) int64, without synchronising a GPU."""
    if labels.device.type == "cpu" and not torch.compiler.is_compiling():  # bincount would split compiled code
        return torch.bincount(labels.flatten(), minlength=classes)[:classes]
    return torch.stack([(labels == k).sum() for k in range(classes)])


def by_label(values: Tensor, labels: Tensor) -> Tensor:
    """Return the value of each pixel's class, in the shape of the labels; 0 for pixels without one. Values: (K,)."""
    return torch.nn.functional.pad(values, (0, IGNORE + 1 - len(values)))[labels.int()]


def binned_sums(values: Tensor, index: Tensor, bins: int) -> Tensor:
    """Return the sums of values, (n,), by the bin of each pixel, which `index` gives: (bins,), differentiable.

    They are added in float64. A sum that is built pixel by pixel in float32 is wrong by a percent from a million equal
    values on, and a count in float32 ends at 16 777 216, fewer pixels than a usual batch has.
    """
    sums = values.new_zeros(bins, dtype=torch.float64).index_add(0, index, values.double())
    return sums.to(values.dtype)


class BaseLoss(ABC):
    """A loss for K classes: what :class:`Loss`, of the labels of pixels, and :class:`PolygonLoss` have in common.

    Its options, if it has any, are the fields of a class ``Options`` within it, which configurations set in
    ``[loss.options]``.

    Parameters
    ----------
    classes
        Number of classes, K.
    options
        Options of the loss; None for their defaults.
    weights
        Class weights, (K,); None for equal weights. Only for losses with :attr:`takes_weights`.
    order
        Ids of the classes from water to the thickest ice, (K,). By default the ids ascend.

    Attributes
    ----------
    classes, options, weights, order
        See the parameters.
    """

    class Options(Settings):
        """The loss has no options."""

    #: Whether the loss can weight classes.
    takes_weights: ClassVar[bool] = False
    #: Whether the loss reads the chart's polygons, and so learns from partial concentrations.
    reads_polygons: ClassVar[bool] = False
    #: Epoch of the training, from 0, for losses that change with it; None in validation.
    epoch: int | None = None

    def __init__(
        self,
        classes: int,
        options: Any = None,
        weights: Tensor | None = None,
        order: Sequence[int] | None = None,
    ) -> None:
        self.classes = classes
        self.options: Any = self.Options() if options is None else options
        self.weights = weights
        self.order = tuple(range(classes)) if order is None else tuple(order)

    def sums(self, logits: Tensor, labels: Tensor, polygons: Polygons | None = None) -> Tensor:
        """Return the sums over pixels from which the value is computed: 1-D, float32 or float64, differentiable.

        They add up over tiles of the same crops. `polygons` are needed if the loss reads them.

        On the CPU, labels that are not class ids are refused. On a GPU this check would synchronise it; check such
        labels with :func:`check_labels` when they are loaded.

        Raises
        ------
        TrainingError
            If shapes do not fit, a label is not a class id, or polygons are missing.
        """
        shape = (logits.shape[0], self.classes, *logits.shape[2:])
        if logits.ndim != 4 or logits.shape != shape or labels.shape != (shape[0], *shape[2:]):
            raise TrainingError(
                f"logits of {tuple(logits.shape)} and labels of {tuple(labels.shape)} do not fit "
                f"{self.classes} classes: (N, {self.classes}, H, W) and (N, H, W) are needed."
            )
        if labels.device.type == "cpu":
            check_labels(labels, self.classes)
        return self._checked_sums(at_least_float32(logits), labels, polygons)

    @abstractmethod
    def _checked_sums(self, logits: Tensor, labels: Tensor, polygons: Polygons | None) -> Tensor:
        """Return the sums for checked labels and logits in float32 or float64."""

    def condensed(self, sums: Tensor, polygons: Polygons | None = None) -> Tensor:
        """Return the sums of whole crops in the form that adds up over crops and processes; usually they do already."""
        return sums

    @abstractmethod
    def value(self, sums: Tensor) -> Tensor:
        """Return the loss, a scalar, for condensed sums, which may have been added over batches and processes."""

    def __call__(
        self,
        logits: Tensor,
        labels: Tensor,
        polygons: Polygons | None = None,
        reduce: Callable[[Tensor], Tensor] = unreduced,
    ) -> Tensor:
        """Return the loss of a batch, a scalar.

        Parameters
        ----------
        logits, labels
            Shapes (N, K, H, W) and (N, H, W).
        polygons
            Needed if the loss reads polygons.
        reduce
            Function applied to the sums before they are divided. If processes share a batch, it adds their sums.
        """
        return self.value(reduce(self.condensed(self.sums(logits, labels, polygons), polygons)))


class Loss(BaseLoss):
    """A loss of the labels of pixels.

    A loss of one's own is a subclass that defines :meth:`_sums` and :meth:`value`; see :class:`BaseLoss` for the
    parameters and for options.
    """

    def _checked_sums(self, logits: Tensor, labels: Tensor, polygons: Polygons | None) -> Tensor:
        return self._sums(logits, labels)

    @abstractmethod
    def _sums(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Return the sums for checked labels and logits in float32 or float64."""


class PolygonLoss(BaseLoss):
    """Base of losses that read the chart's polygons instead of the labels of pixels, or beside them.

    A subclass defines :meth:`_polygon_sums`, and :meth:`condensed` if the sums of a crop are not yet those that add up
    over crops. Its value is the ratio of two sums, unless it defines :meth:`value`.
    """

    reads_polygons = True

    def _checked_sums(self, logits: Tensor, labels: Tensor, polygons: Polygons | None) -> Tensor:
        if polygons is None or polygons.ids.shape != labels.shape or polygons.shares.shape[2] != self.classes:
            found = "there are none" if polygons is None else f"they have ids of {tuple(polygons.ids.shape)}"
            raise TrainingError(
                f"{type(self).__name__} reads polygons for labels of {tuple(labels.shape)} and {self.classes} classes; "
                f"{found}."
            )
        return self._polygon_sums(logits, labels, polygons)

    def value(self, sums: Tensor) -> Tensor:
        """Return the mean: the sum of terms over that of weights."""
        return ratio(sums[0], sums[1])

    @abstractmethod
    def _polygon_sums(self, logits: Tensor, labels: Tensor, polygons: Polygons) -> Tensor:
        """Return the sums for checked input; 1-D, additive over tiles of the same crops."""


class MeanLoss(Loss):
    """Base of losses that are a weighted mean over labelled pixels: sums are that of the terms and that of weights."""

    def value(self, sums: Tensor) -> Tensor:
        """Return the mean."""
        return ratio(sums[0], sums[1])

    def _mean_sums(self, terms: Tensor, labels: Tensor) -> Tensor:
        """Return both sums, (2,), for a term at each pixel, (N, H, W), finite also where there is no label."""
        if self.weights is None:
            valid = labels != IGNORE
            return torch.stack([(terms * valid).sum(), valid.sum().to(terms)])
        weights = by_label(self.weights.to(terms), labels)
        return torch.stack([(terms * weights).sum(), weights.sum()])


class ClassMeanLoss(Loss):
    """Base of losses that are a mean over the classes that occur in the labels, from three sums for each class.

    The sums are, for each class, intersection (sum of p over its pixels), reference (number of its pixels) and
    prediction (sum of p over all labelled pixels); 3 K numbers.
    """

    def _sums(self, logits: Tensor, labels: Tensor) -> Tensor:
        return overlap_sums(logits, labels)

    def value(self, sums: Tensor) -> Tensor:
        """Return the loss, between 0 and 1."""
        intersection, reference, prediction = sums.reshape(3, self.classes)
        present = reference > 0
        each = self._each(intersection, reference, prediction)
        return ratio(torch.where(present, each, 0).sum(), present.sum())

    @abstractmethod
    def _each(self, intersection: Tensor, reference: Tensor, prediction: Tensor) -> Tensor:
        """Return the loss of each class, (K,), for its sums, (K,) each."""


def overlap_sums(logits: Tensor, labels: Tensor) -> Tensor:
    """Return intersection, reference and prediction of each class, 3 K numbers; see :class:`ClassMeanLoss`."""
    classes = logits.shape[1]
    valid = labels != IGNORE
    # Unbound once, so that the gradient is assembled once.
    planes = logits.softmax(dim=1).unbind(dim=1)
    intersection = [(p * (labels == k)).sum() for k, p in enumerate(planes)]
    prediction = [(p * valid).sum() for p in planes]
    reference = class_counts(labels, classes).to(logits.dtype)
    return torch.cat([torch.stack(intersection), reference, torch.stack(prediction)])
