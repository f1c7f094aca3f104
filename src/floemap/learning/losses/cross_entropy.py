"""Cross-entropy, also with smoothed labels, and together with Dice."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional

from floemap.config import Settings
from floemap.learning.losses.base import Loss, MeanLoss, class_counts
from floemap.learning.losses.dice import MacroDice
from floemap.legend import IGNORE


class CrossEntropy(MeanLoss):
    """Mean of -log p of the true class, weighted by class as in torch: sum of w nll / sum of w.

    The sums are the weighted negative log-likelihood and the weights.
    """

    takes_weights = True

    def _sums(self, logits: Tensor, labels: Tensor) -> Tensor:
        weights = None if self.weights is None else self.weights.to(logits)
        nll = functional.cross_entropy(logits, labels.long(), weights, ignore_index=IGNORE, reduction="sum")
        counts = class_counts(labels, self.classes)
        total = counts.sum().to(nll) if weights is None else (counts * weights).sum()
        return torch.stack([nll, total])


class LabelSmoothing(MeanLoss):
    """Cross-entropy with the target (1 - s) for the true class plus s / K for each class.

    A class weight multiplies the whole term of the pixels of the class. (torch's own label smoothing weights the terms
    of the other classes by the weights of those.)

    Reference: C. Szegedy et al., "Rethinking the Inception architecture for computer vision", CVPR 2016, section 7.
    """

    class Options(Settings):
        """Options of the loss."""

        smoothing: float = Field(default=0.1, ge=0, lt=1)
        """Share s of the target that is spread evenly over all classes."""

    takes_weights = True

    def _sums(self, logits: Tensor, labels: Tensor) -> Tensor:
        likelihood = functional.log_softmax(logits, dim=1)
        nll = functional.nll_loss(likelihood, labels.long(), ignore_index=IGNORE, reduction="none")
        s = self.options.smoothing
        even = -torch.where((labels != IGNORE)[:, None], likelihood, 0).mean(dim=1)
        return self._mean_sums((1 - s) * nll + s * even, labels)


class CrossEntropyDice(Loss):
    """Cross-entropy plus the macro Dice loss, as nnU-Net adds them; class weights are those of the cross-entropy.

    Reference: F. Isensee et al., "nnU-Net: a self-configuring method for deep learning-based biomedical image
    segmentation", Nature Methods 18, 2021.
    """

    class Options(Settings):
        """Options of the loss."""

        dice: float = Field(default=1.0, ge=0)
        """Weight of the Dice loss; that of the cross-entropy is 1."""

    takes_weights = True

    def __init__(
        self, classes: int, options: Any = None, weights: Tensor | None = None, order: Sequence[int] | None = None
    ) -> None:
        super().__init__(classes, options, weights, order)
        self._cross_entropy = CrossEntropy(classes, weights=weights)
        self._dice = MacroDice(classes)

    def _sums(self, logits: Tensor, labels: Tensor) -> Tensor:
        return torch.cat([self._cross_entropy._sums(logits, labels), self._dice._sums(logits, labels)])

    def value(self, sums: Tensor) -> Tensor:
        """Return the weighted sum of both losses."""
        dice: Tensor = self.options.dice * self._dice.value(sums[2:])
        return self._cross_entropy.value(sums[:2]) + dice
