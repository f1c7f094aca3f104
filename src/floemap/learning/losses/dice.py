"""Three Dice losses."""

from __future__ import annotations

from abc import abstractmethod
from typing import Self

import torch
from torch import Tensor
from torch.nn import functional

from floemap.errors import ConfigError
from floemap.learning.losses.base import Loss, class_counts, ratio
from floemap.learning.settings import LossSettings
from floemap.legend import IGNORE


class _Dice(Loss):
    """Base of the Dice losses, which have the same sums and differ in how they combine classes.

    The sums are, for each class, intersection (sum of p over its pixels), reference (number of its pixels) and
    prediction (sum of p over all labelled pixels); 3 K numbers.
    """

    @classmethod
    def make(cls, settings: LossSettings, classes: int, weights: Tensor | None) -> Self:
        """Make the loss; it has no settings of its own.

        Raises
        ------
        ConfigError
            If there are class weights: the loss takes none.
        """
        if weights is not None:
            raise ConfigError(
                f"{settings.name} takes no class weights, but class_weights is {settings.class_weights!r}.",
                hint='Set class_weights = "none", or choose cross_entropy or focal.',
            )
        return cls(classes)

    def _sums(self, logits: Tensor, labels: Tensor) -> Tensor:
        valid = labels != IGNORE
        # Unbound once, so that the gradient is assembled once.
        planes = functional.softmax(logits, dim=1).unbind(dim=1)
        intersection = [(p * (labels == k)).sum() for k, p in enumerate(planes)]
        prediction = [(p * valid).sum() for p in planes]
        reference = class_counts(labels, self.classes).to(logits.dtype)
        return torch.cat([torch.stack(intersection), reference, torch.stack(prediction)])

    def value(self, sums: Tensor) -> Tensor:
        """Return the loss, between 0 and 1."""
        return self._join(*sums.reshape(3, self.classes))

    @abstractmethod
    def _join(self, intersection: Tensor, reference: Tensor, prediction: Tensor) -> Tensor:
        """Return the loss for the sums of each class, (K,) each."""


class GeneralizedDice(_Dice):
    """1 - 2 sum_l w_l sum_n r p / sum_l w_l sum_n (r + p), with w_l = 1 / (sum_n r)^2; l are classes, n pixels.

    Sums are over the whole batch. A class that does not occur in the reference has weight 0, where the formula has
    1 / 0. Predicting it is still penalised, because it lowers the probability of the classes that occur. (The authors'
    own code, in NiftyNet, uses the largest weight of the other classes instead, so that the smallest class determines
    the penalty.)

    Reference: C. H. Sudre et al., "Generalised Dice overlap as a deep learning loss function for highly unbalanced
    segmentations", DLMIA 2017.
    """

    def _join(self, intersection: Tensor, reference: Tensor, prediction: Tensor) -> Tensor:
        present = reference > 0
        weights = torch.where(present, 1 / torch.where(present, reference, 1) ** 2, 0)
        whole = (weights * (reference + prediction)).sum()
        return ratio(whole - 2 * (weights * intersection).sum(), whole)


class MacroDice(_Dice):
    """Mean of 1 - 2 sum_n r p / sum_n (r + p) over the classes that occur in the reference."""

    def _join(self, intersection: Tensor, reference: Tensor, prediction: Tensor) -> Tensor:
        present = reference > 0
        whole = reference + prediction
        each = ratio(whole - 2 * intersection, whole)
        return ratio(torch.where(present, each, 0).sum(), present.sum())


class PooledDice(_Dice):
    """1 - 2 sum_ln r p / sum_ln (r + p), with all classes pooled.

    With a softmax the divisor is twice the number of pixels: the loss is 1 - the mean probability of the true class.
    """

    def _join(self, intersection: Tensor, reference: Tensor, prediction: Tensor) -> Tensor:
        whole = (reference + prediction).sum()
        return ratio(whole - 2 * intersection.sum(), whole)
