"""Losses of overlap: three Dice losses, Tversky and focal Tversky."""

from __future__ import annotations

import torch
from pydantic import Field
from torch import Tensor

from floemap.config import Settings
from floemap.learning.losses.base import ClassMeanLoss, Loss, overlap_sums, ratio


class GeneralizedDice(Loss):
    """1 - 2 sum_l w_l sum_n r p / sum_l w_l sum_n (r + p), with w_l = 1 / (sum_n r)^2; l are classes, n pixels.

    Sums are over the whole batch. A class that does not occur in the reference has weight 0, where the formula has
    1 / 0. Predicting it is still penalised, because it lowers the probability of the classes that occur. (The authors'
    own code, in NiftyNet, uses the largest weight of the other classes instead, so that the smallest class determines
    the penalty.)

    Reference: C. H. Sudre et al., "Generalised Dice overlap as a deep learning loss function for highly unbalanced
    segmentations", DLMIA 2017.
    """

    def _sums(self, logits: Tensor, labels: Tensor) -> Tensor:
        return overlap_sums(logits, labels)

    def value(self, sums: Tensor) -> Tensor:
        """Return the loss, between 0 and 1."""
        intersection, reference, prediction = sums.reshape(3, self.classes)
        present = reference > 0
        weights = torch.where(present, 1 / torch.where(present, reference, 1) ** 2, 0)
        whole = (weights * (reference + prediction)).sum()
        return ratio(whole - 2 * (weights * intersection).sum(), whole)


class MacroDice(ClassMeanLoss):
    """Mean of 1 - 2 sum_n r p / sum_n (r + p) over the classes that occur in the reference."""

    def _each(self, intersection: Tensor, reference: Tensor, prediction: Tensor) -> Tensor:
        whole = reference + prediction
        return ratio(whole - 2 * intersection, whole)


class PooledDice(Loss):
    """1 - 2 sum_ln r p / sum_ln (r + p), with all classes pooled.

    With a softmax the divisor is twice the number of pixels: the loss is 1 - the mean probability of the true class.
    """

    def _sums(self, logits: Tensor, labels: Tensor) -> Tensor:
        return overlap_sums(logits, labels)

    def value(self, sums: Tensor) -> Tensor:
        """Return the loss, between 0 and 1."""
        intersection, reference, prediction = sums.reshape(3, self.classes)
        whole = (reference + prediction).sum()
        return ratio(whole - 2 * intersection.sum(), whole)


class Tversky(ClassMeanLoss):
    """Mean of 1 - TP / (TP + a FP + b FN) over the classes that occur in the reference; a = b = 0.5 is macro Dice.

    TP is the sum of p over the pixels of a class, FP that over other labelled pixels, FN that of 1 - p over its own.

    Reference: S. S. M. Salehi et al., "Tversky loss function for image segmentation using 3D fully convolutional deep
    networks", MLMI 2017.
    """

    class Options(Settings):
        """Options of the loss."""

        alpha: float = Field(default=0.3, ge=0)
        """Weight a of false positives."""

        beta: float = Field(default=0.7, gt=0)
        """Weight b of false negatives."""

    def _each(self, intersection: Tensor, reference: Tensor, prediction: Tensor) -> Tensor:
        o = self.options
        wrong = o.alpha * (prediction - intersection) + o.beta * (reference - intersection)
        return ratio(wrong, intersection + wrong)


class FocalTversky(Tversky):
    """Mean of the Tversky losses of the classes, each to the power 1 / gamma: small losses count more.

    Reference: N. Abraham, N. M. Khan, "A novel focal Tversky loss function with improved attention U-Net for lesion
    segmentation", ISBI 2019. Their gamma is 4 / 3.
    """

    class Options(Tversky.Options):
        """Options of the loss."""

        gamma: float = Field(default=4 / 3, gt=0)
        """Number whose inverse is the exponent."""

    def _each(self, intersection: Tensor, reference: Tensor, prediction: Tensor) -> Tensor:
        each = super()._each(intersection, reference, prediction)
        # At 0 a power below 1 has an infinite slope.
        some = each.isnan() | (each > 1e-12)
        return torch.where(some, torch.where(some, each, 1) ** (1 / self.options.gamma), 0)
