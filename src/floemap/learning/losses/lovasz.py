"""The Lovász-softmax loss, from sums that add up over tiles and processes."""

from __future__ import annotations

import torch
from torch import Tensor

from floemap.learning.losses.base import Loss, binned_sums, ratio
from floemap.legend import IGNORE

#: Errors of pixels, 0 to 1, are sorted into so many bins.
_BINS = 1000


class LovaszSoftmax(Loss):
    """Mean over the classes that occur of the Lovász extension of the Jaccard loss at the pixels' errors.

    The error of a pixel for a class is 1 - p if the pixel is of the class, else p. The extension needs the errors in
    order. Here they are sorted into 1000 equal bins and count as equal within a bin, which changes the loss by less
    than 0.001: the sums of a bin, over pixels of the class and others (their number, and their errors), add up over
    crops, strips of a scene and processes, as a sorted list would not.

    Reference: M. Berman, A. R. Triki, M. B. Blaschko, "The Lovász-softmax loss: a tractable surrogate for the
    optimization of the intersection-over-union measure in neural networks", CVPR 2018.
    """

    def _sums(self, logits: Tensor, labels: Tensor) -> Tensor:
        valid = (labels != IGNORE).flatten()
        found = []
        for k, p in enumerate(logits.softmax(dim=1).unbind(dim=1)):
            there = (labels == k).flatten()
            errors = torch.where(there, 1 - p.flatten(), p.flatten()) * valid
            bins = (errors.detach() * _BINS).long().clamp(0, _BINS - 1)  # NaN: any bin, its sum is NaN
            found += [binned_sums(x.to(errors), bins, _BINS) for x in (there, valid & ~there, errors)]
        return torch.cat(found)

    def value(self, sums: Tensor) -> Tensor:
        """Return the loss, between 0 and 1."""
        there, others, summed = sums.reshape(self.classes, 3, _BINS).flip(-1).unbind(dim=1)  # largest errors first
        whole = there.sum(dim=1, keepdim=True)
        missed, added = there.cumsum(dim=1), others.cumsum(dim=1)
        jaccard = 1 - ratio(whole - missed, whole + added)  # the loss if the pixels of all bins so far are wrong
        steps = jaccard.diff(dim=1, prepend=jaccard.new_zeros(self.classes, 1))
        each = (steps.detach() * ratio(summed, there + others)).sum(dim=1)
        present = whole[:, 0] > 0
        return ratio(torch.where(present, each, 0).sum(), present.sum())
