"""Losses of pixels that learn from the partial concentrations of their polygon."""

from __future__ import annotations

import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional

from floemap.config import Settings
from floemap.learning.data.polygons import Polygons
from floemap.learning.losses.base import PolygonLoss, ratio


def by_polygon(table: Tensor, polygons: Polygons) -> Tensor:
    """Return what a table, (N, P + 1) or (N, P + 1, K), says of each pixel: (N, H, W) or (N, K, H, W)."""
    rows = table.flatten(0, 1)
    index = polygons.index
    if rows.ndim == 1:
        return rows.take(index.long())
    n, h, w = index.shape
    planes = rows.T.contiguous().index_select(1, index.flatten())  # faster than indexing by three axes
    return planes.reshape(-1, n, h, w).movedim(0, 1)


class SoftCrossEntropy(PolygonLoss):
    """Mean of -sum_k f_k log p_k over pixels, f being the shares of the pixel's polygon.

    The share that is unknown counts as distributed as the known ones are: a pixel weighs its known share. With
    polygons of one type it is the cross-entropy.
    """

    def _polygon_sums(self, logits: Tensor, labels: Tensor, polygons: Polygons) -> Tensor:
        likelihood = functional.log_softmax(logits, dim=1)
        shares = by_polygon(polygons.shares.to(logits.dtype), polygons)
        return torch.stack([-(shares * likelihood).sum(), shares.sum()])


class PartialLabel(PolygonLoss):
    """Focal loss towards the candidates of the pixel's polygon: mean of -sum_k q_k (1 - p_k)^gamma log p_k.

    The target q is the prior of the polygon, refined by the prediction: proportional to p_k w_k, through which no
    gradient flows, or to w_k without refinement. w_k is the share of the class; a share that is unknown is spread
    evenly over the candidates. In polygons in which one type has at least the share `pure` the target is that type
    alone. Pixels whose polygon has no candidates do not count.

    Reference: B. Vahedi et al., "Partial label learning with focal loss for sea ice classification based on ice
    charts", IEEE JSTARS 17, 2024, where the partial concentrations are the confidences of the candidate labels. The
    refinement is that of partial-label learning (J. Lv et al., "Progressive identification of true labels for
    partial-label learning", ICML 2020).
    """

    class Options(Settings):
        """Options of the loss."""

        gamma: float = Field(default=2.0, ge=0)
        """Exponent of the focal loss; 0 is the cross-entropy."""

        refine: bool = True
        """Whether the prediction refines the target."""

        pure: float = Field(default=0.65, gt=0.5, le=1)
        """Share from which a type counts as the only one of its polygon."""

    def _polygon_sums(self, logits: Tensor, labels: Tensor, polygons: Polygons) -> Tensor:
        likelihood = functional.log_softmax(logits, dim=1)
        p = likelihood.exp()
        target = by_polygon(candidate_priors(polygons, self.options.pure).to(p), polygons)
        if self.options.refine:
            target = refined(target, p)
        # Above 0, where powers below 1 have an infinite slope.
        focus = (1 - p).clamp(min=1e-12) ** self.options.gamma if self.options.gamma else 1.0
        return torch.stack([-(target * focus * likelihood).sum(), target.sum()])


def candidate_priors(polygons: Polygons, pure: float) -> Tensor:
    """Return the prior of each candidate class by polygon, (N, P + 1, K): rows sum to 1, or to 0 without candidates.

    It is the share of the class and its part of the unknown share, spread evenly over the candidates; 1 for a class
    that has at least the share `pure` of the polygon.
    """
    shares, may = polygons.shares, polygons.candidates | (polygons.shares > 0)
    number = may.sum(dim=2, keepdim=True)
    unknown = (1 - shares.sum(dim=2, keepdim=True)).clamp(min=0)
    prior = torch.where(may, shares + unknown / number.clamp(min=1), 0)
    prior = ratio(prior, prior.sum(dim=2, keepdim=True))
    sure = shares >= pure - 1e-6
    return torch.where(sure.any(dim=2, keepdim=True), sure.to(prior), prior)


def refined(prior: Tensor, p: Tensor) -> Tensor:
    """Return the target of each pixel, (N, K, H, W): proportional to prior times p, through which no gradient flows.

    It sums to 1, or to 0 where the prior does. A prediction that rules out all candidates refines nothing.
    """
    both = prior * (p.detach() + 1e-12)
    return both / both.sum(dim=1, keepdim=True).clamp(min=1e-30)
