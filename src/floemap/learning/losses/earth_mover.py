"""The squared earth mover's distance along the order of thickness."""

from __future__ import annotations

import torch
from torch import Tensor

from floemap.learning.losses.base import MeanLoss
from floemap.legend import IGNORE


class EarthMover(MeanLoss):
    """Mean over pixels of the sum over k of (P_k - Y_k)^2.

    P_k and Y_k are the probabilities, predicted and true, of the k thinnest types together, water being the first: a
    class far from the true one costs more than one beside it.

    Reference: L. Hou, C.-P. Yu, D. Samaras, "Squared earth mover's distance-based loss for training deep neural
    networks", arXiv 1611.05916, 2016.
    """

    takes_weights = True

    def _sums(self, logits: Tensor, labels: Tensor) -> Tensor:
        valid = labels != IGNORE
        planes = torch.where(valid[:, None], logits, 0).softmax(dim=1).unbind(dim=1)
        terms = torch.zeros_like(planes[0])
        below, there = torch.zeros_like(planes[0]), torch.zeros_like(planes[0])
        for k in self.order[:-1]:  # both are 1 at the last
            below = below + planes[k]
            there = there + (labels == k)
            terms = terms + (below - there) ** 2
        return self._mean_sums(terms, labels)
