"""Cross-entropy."""

from __future__ import annotations

from typing import Self

import torch
from torch import Tensor
from torch.nn import functional

from floemap.learning.losses.base import Loss, class_counts, ratio
from floemap.learning.settings import LossSettings
from floemap.legend import IGNORE


class CrossEntropy(Loss):
    """Mean of -log p of the true class, weighted by class as in torch: sum of w nll / sum of w.

    The sums are the weighted negative log-likelihood and the weights.

    Parameters
    ----------
    weights
        Class weights, (K,); None for equal weights.
    """

    def __init__(self, classes: int, weights: Tensor | None = None) -> None:
        super().__init__(classes)
        self.weights = weights

    @classmethod
    def make(cls, settings: LossSettings, classes: int, weights: Tensor | None) -> Self:
        """Make the loss; it has no settings of its own."""
        return cls(classes, weights)

    def _sums(self, logits: Tensor, labels: Tensor) -> Tensor:
        weights = None if self.weights is None else self.weights.to(logits)
        nll = functional.cross_entropy(logits, labels.long(), weights, ignore_index=IGNORE, reduction="sum")
        counts = class_counts(labels, self.classes)
        total = counts.sum().to(nll) if weights is None else (counts * weights).sum()
        return torch.stack([nll, total])

    def value(self, sums: Tensor) -> Tensor:
        """Return the mean."""
        return ratio(sums[0], sums[1])
