"""Losses of values, such as the concentration of ice: means over the pixels where the value is known.

As all losses they are ratios of sums (:mod:`floemap.learning.losses.base`): the sums add up over crops, tiles and
processes. If no pixel has a value, the loss and its gradient are 0.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional

from floemap.config import Settings
from floemap.errors import TrainingError
from floemap.learning.losses.base import ratio
from floemap.learning.models.precision import at_least_float32


class ValueLoss(ABC):
    """A loss of values.

    A loss of one's own is a subclass that defines :meth:`terms`. Its options, if it has any, are the fields of a class
    ``Options`` within it.

    Parameters
    ----------
    options
        Options of the loss; None for their defaults.
    """

    class Options(Settings):
        """The loss has no options."""

    def __init__(self, options: Any = None) -> None:
        self.options: Any = self.Options() if options is None else options

    @abstractmethod
    def terms(self, predicted: Tensor, wanted: Tensor) -> Tensor:
        """Return the loss of each pixel, for predicted and wanted values of one shape, all of them numbers."""

    def sums(self, predicted: Tensor, wanted: Tensor) -> Tensor:
        """Return the sum of terms and the number of pixels, (2,), differentiable.

        Parameters
        ----------
        predicted, wanted
            (N, H, W) each, wanted not-a-number where the value is not known.

        Raises
        ------
        TrainingError
            If the shapes differ.
        """
        if predicted.shape != wanted.shape:
            raise TrainingError(f"values of {tuple(predicted.shape)} are predicted, and {tuple(wanted.shape)} wanted.")
        predicted = at_least_float32(predicted)
        known = wanted.isfinite()
        # Where it is not known, the wanted value is replaced before the terms, so that no gradient is not-a-number.
        terms = self.terms(predicted, torch.where(known, wanted, predicted.detach()).to(predicted))
        return torch.stack([torch.where(known, terms, 0).sum(), known.sum().to(predicted)])

    def value(self, sums: Tensor) -> Tensor:
        """Return the mean, a scalar, for sums that may have been added over batches and processes."""
        return ratio(sums[0], sums[1])


class Huber(ValueLoss):
    """Half the squared error up to `delta`, and from there on linear with the same slope.

    Reference: P. J. Huber, "Robust estimation of a location parameter", Ann. Math. Stat. 35, 1964.
    """

    class Options(Settings):
        """Options of the loss."""

        delta: float = Field(default=0.1, gt=0, le=1e6)
        """Error from which the loss is linear, in the unit of the value."""

    def terms(self, predicted: Tensor, wanted: Tensor) -> Tensor:
        """Return the loss of each pixel."""
        return functional.huber_loss(predicted, wanted, reduction="none", delta=self.options.delta)


class SquaredError(ValueLoss):
    """The mean squared error."""

    def terms(self, predicted: Tensor, wanted: Tensor) -> Tensor:
        """Return the squared error of each pixel."""
        return (predicted - wanted) ** 2


class AbsoluteError(ValueLoss):
    """The mean absolute error."""

    def terms(self, predicted: Tensor, wanted: Tensor) -> Tensor:
        """Return the absolute error of each pixel."""
        return (predicted - wanted).abs()


VALUE_LOSSES: Mapping[str, type[ValueLoss]] = MappingProxyType(
    {"huber": Huber, "mse": SquaredError, "mae": AbsoluteError}
)
