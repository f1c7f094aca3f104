"""Focal loss."""

from __future__ import annotations

from typing import Self

import torch
from torch import Tensor
from torch.nn import functional

from floemap.errors import ConfigError
from floemap.learning.losses.base import Loss, ratio
from floemap.learning.settings import LossSettings
from floemap.legend import IGNORE


class Focal(Loss):
    """Mean over pixels of -alpha (1 - p)^gamma log p, p being the softmax probability of the true class.

    With gamma 0 and alpha 1 it is the cross-entropy without class weights. A single alpha for all classes scales the
    loss. Class weights multiply alpha; the divisor is always the number of pixels.

    The sums are the sum of the terms above and the number of pixels.

    Reference: T.-Y. Lin et al., "Focal loss for dense object detection", ICCV 2017; with a softmax instead of
    their sigmoid, as the classes are mutually exclusive.

    Parameters
    ----------
    gamma
        Exponent, at least 0.
    alpha
        Weights, (K,), multiplied by the class weights.
    """

    def __init__(self, classes: int, gamma: float, alpha: Tensor) -> None:
        super().__init__(classes)
        self.gamma = gamma
        self.alpha = alpha

    @classmethod
    def make(cls, settings: LossSettings, classes: int, weights: Tensor | None) -> Self:
        """Make the loss from ``gamma`` and ``alpha`` of the settings.

        Raises
        ------
        ConfigError
            If ``alpha`` does not have one number for each class, or its numbers are not usable.
        """
        given = settings.alpha
        if isinstance(given, tuple) and len(given) != classes:
            raise ConfigError(
                f"alpha of the focal loss has {len(given)} numbers for {classes} classes.",
                hint="Give one for each class, or one number for all.",
            )
        alpha = torch.tensor(given, dtype=torch.float64).expand(classes)
        if not (alpha.isfinite() & (alpha >= 0)).all() or not (alpha > 0).any():
            raise ConfigError(f"alpha of the focal loss is {given}: its numbers must not be negative, and not all 0.")
        return cls(classes, settings.gamma, alpha if weights is None else alpha * weights)

    def _sums(self, logits: Tensor, labels: Tensor) -> Tensor:
        likelihood = functional.log_softmax(logits, dim=1)
        nll = functional.nll_loss(likelihood, labels.long(), ignore_index=IGNORE, reduction="none")  # (N, H, W)
        # 1 - p without loss of digits. It is kept above 0, where powers below 1 have an infinite slope.
        rest = (-torch.expm1(-nll)).clamp(min=1e-12)
        terms = rest**self.gamma * nll
        alpha = self.alpha.to(logits)
        if (self.alpha == self.alpha[0]).all():
            total = alpha[0] * terms.sum()
        else:  # by id, with 0 for IGNORE, where the terms are 0 anyway
            by_id = functional.pad(alpha, (0, IGNORE + 1 - self.classes))
            total = (by_id[labels.int()] * terms).sum()
        return torch.stack([total, (labels != IGNORE).sum().to(total)])

    def value(self, sums: Tensor) -> Tensor:
        """Return the mean."""
        return ratio(sums[0], sums[1])
