"""Focal loss."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional

from floemap.config import Settings
from floemap.errors import ConfigError
from floemap.learning.losses.base import MeanLoss, by_label
from floemap.legend import IGNORE


class Focal(MeanLoss):
    """Mean over pixels of -alpha (1 - p)^gamma log p, p being the softmax probability of the true class.

    With gamma 0 and alpha 1 it is the cross-entropy without class weights. A single alpha for all classes scales the
    loss. Class weights multiply alpha; the divisor is always the number of pixels.

    The sums are the sum of the terms above and the number of pixels.

    Reference: T.-Y. Lin et al., "Focal loss for dense object detection", ICCV 2017; with a softmax instead of
    their sigmoid, as the classes are mutually exclusive.

    Raises
    ------
    ConfigError
        If ``alpha`` does not have one number for each class, or its numbers are not usable.
    """

    class Options(Settings):
        """Options of the loss."""

        gamma: float = Field(default=2.0, ge=0)
        """Exponent."""

        alpha: float | tuple[float, ...] = 0.25
        """Weight: one number, or one for each class."""

    takes_weights = True

    def __init__(
        self, classes: int, options: Any = None, weights: Tensor | None = None, order: Sequence[int] | None = None
    ) -> None:
        super().__init__(classes, options, weights, order)
        given = self.options.alpha
        if isinstance(given, tuple) and len(given) != classes:
            raise ConfigError(
                f"alpha of the focal loss has {len(given)} numbers for {classes} classes.",
                hint="Give one for each class, or one number for all.",
            )
        alpha = torch.tensor(given, dtype=torch.float64).expand(classes)
        if not (alpha.isfinite() & (alpha >= 0)).all() or not (alpha > 0).any():
            raise ConfigError(f"alpha of the focal loss is {given}: its numbers must not be negative, and not all 0.")
        self.alpha = alpha if weights is None else alpha * weights

    def _sums(self, logits: Tensor, labels: Tensor) -> Tensor:
        likelihood = functional.log_softmax(logits, dim=1)
        nll = functional.nll_loss(likelihood, labels.long(), ignore_index=IGNORE, reduction="none")  # (N, H, W)
        # 1 - p without loss of digits. It is kept above 0, where powers below 1 have an infinite slope.
        rest = (-torch.expm1(-nll)).clamp(min=1e-12)
        terms = rest**self.options.gamma * nll
        alpha = self.alpha.to(logits)
        if (self.alpha == self.alpha[0]).all():
            total = alpha[0] * terms.sum()
        else:  # with 0 for IGNORE, where the terms are 0 anyway
            total = (by_label(alpha, labels) * terms).sum()
        return torch.stack([total, (labels != IGNORE).sum().to(total)])
