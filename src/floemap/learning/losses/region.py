"""Losses of whole polygons: the mean prediction within a polygon against its partial concentrations."""

from __future__ import annotations

from typing import Literal

import torch
from pydantic import Field, field_validator
from torch import Tensor
from torch.nn import functional

from floemap.config import Settings
from floemap.learning.data.polygons import Polygons
from floemap.learning.losses.base import PolygonLoss, binned_sums, ratio
from floemap.learning.losses.partial_labels import by_polygon, candidate_priors, refined
from floemap.legend import IGNORE


class Region(PolygonLoss):
    """Weighted mean, over all polygons in all crops, of a distance between the mean of p and the shares of the polygon.

    For a polygon of which a crop shows n pixels, m is the mean of p over these pixels, f its shares, u its unknown
    share and g = f / (1 - u). The distance is sum_k g_k log(g_k / m_k), or the squared earth mover's distance of g and
    m along the order of thickness. The weight is n (1 - u) s, s being the share of the polygon's pixels that the crop
    shows: a corner of a polygon may hold one of its types only. Polygons that are all unknown do not count.

    Reference: the distance between mean prediction and partial concentrations is that of M. Patel et al., "Region-level
    labels in ice charts can produce pixel-level segmentation for sea ice types", arXiv 2405.10456, 2024.
    """

    class Options(Settings):
        """Options of the loss."""

        distance: Literal["kl", "earth_mover"] = "kl"
        """Distance between the mean prediction and the shares: Kullback-Leibler, or squared earth mover's."""

        whole: bool = True
        """Whether a polygon weighs less the smaller the share of its pixels is that a crop shows."""

    def _polygon_sums(self, logits: Tensor, labels: Tensor, polygons: Polygons) -> Tensor:
        return self._region_sums(logits.softmax(dim=1), polygons).flatten()

    def _region_sums(self, p: Tensor, polygons: Polygons) -> Tensor:
        """Return sums of p and numbers of pixels of each polygon in each crop, (K + 1, N, P + 1)."""
        shape = polygons.pixels.shape
        index = polygons.index.flatten()
        planes = (*(plane.flatten() for plane in p.unbind(dim=1)), torch.ones_like(index, dtype=p.dtype))
        return torch.stack([binned_sums(plane, index, shape.numel()) for plane in planes]).reshape(-1, *shape)

    def condensed(self, sums: Tensor, polygons: Polygons | None = None) -> Tensor:
        """Return the weighted sum of the distances and the sum of the weights, (2,)."""
        assert polygons is not None
        return self._condensed_regions(sums.reshape(self.classes + 1, *polygons.pixels.shape), polygons)

    def _condensed_regions(self, sums: Tensor, polygons: Polygons) -> Tensor:
        count = sums[-1]
        mean = ratio(sums[:-1], count).movedim(0, -1)  # (N, P + 1, K)
        shares = polygons.shares.to(mean.dtype)
        known = shares.sum(dim=2)
        weight = count * known
        if self.options.whole:
            weight = weight * ratio(count, polygons.pixels.to(mean.dtype)).clamp(max=1)
        aim = ratio(shares, known[..., None])
        counts = weight > 0
        if self.options.distance == "kl":
            # Where p is 0 to the last digit, log m stays finite and so does its slope.
            terms = torch.where(aim > 0, aim * (aim.clamp(min=1e-12).log() - mean.clamp(min=1e-12).log()), 0)
            distance = terms.sum(dim=2)
        else:
            along = list(self.order[:-1])
            distance = ((mean[..., along].cumsum(dim=2) - aim[..., along].cumsum(dim=2)) ** 2).sum(dim=2)
        return torch.stack([torch.where(counts, weight * distance, 0).sum(), weight.sum()])


class RegionPixel(Region):
    """The region loss, with a loss of pixels where their type is known, and a penalty of undecided pixels.

    The loss is the region loss, plus `pixel` times the mean cross-entropy of pixels of polygons in which one type has
    at least the share `pure`, plus `entropy` times the mean entropy of p over pixels of the other polygons: the region
    loss alone is met by the same mixture everywhere.

    With `mixed`, pixels of the other polygons count in the pixel term too, with the refined targets of
    :class:`PartialLabel`. These favour the most common type of a polygon ever more, against the region loss.

    With `curriculum`, pixels count from the purest polygons on: in the first `curriculum_epochs` epochs the pixel term
    counts polygons in which one type has at least the first of these shares, then those with the second, and so on.
    After the last step, and in validation, all count.
    """

    class Options(Region.Options):
        """Options of the loss."""

        pixel: float = Field(default=1.0, ge=0)
        """Weight of the pixel term."""

        mixed: bool = False
        """Whether pixels of polygons of several types count in the pixel term."""

        entropy: float = Field(default=0.05, ge=0)
        """Weight of the entropy of pixels in polygons of several types."""

        pure: float = Field(default=0.65, gt=0.5, le=1)
        """Share from which a type counts as the only one of its polygon."""

        curriculum: tuple[float, ...] = ()
        """Shares of the purest type from which polygons count in the pixel term, one step after the other."""

        curriculum_epochs: int = Field(default=3, ge=1)
        """Number of epochs of each step."""

        @field_validator("curriculum")
        @classmethod
        def _falls(cls, steps: tuple[float, ...]) -> tuple[float, ...]:
            if any(not 0 <= s <= 1 for s in steps) or list(steps) != sorted(steps, reverse=True):
                raise ValueError("give shares from 0 to 1, none larger than the one before")
            return steps

    def _polygon_sums(self, logits: Tensor, labels: Tensor, polygons: Polygons) -> Tensor:
        likelihood = functional.log_softmax(logits, dim=1)
        p = likelihood.exp()
        pixels = self._pixel_sums(likelihood, p, polygons)
        return torch.cat([pixels, self._region_sums(p, polygons).flatten()])

    def _pixel_sums(self, likelihood: Tensor, p: Tensor, polygons: Polygons) -> Tensor:
        """Return cross-entropy and its weights, entropy and the number of pixels of several types, (4,)."""
        shares = polygons.shares.to(p)
        purest, most = shares.max(dim=2)
        counted = purest >= self._least_purity() - 1e-6
        pure = purest >= self.options.pure - 1e-6
        # Pixels of polygons of one type, by the fast way of class ids.
        ids = by_polygon(torch.where(counted & pure, most, IGNORE), polygons)
        surprise = functional.nll_loss(likelihood, ids, ignore_index=IGNORE, reduction="sum")
        weight = (ids != IGNORE).sum().to(p)
        if self.options.mixed:
            prior = candidate_priors(polygons, self.options.pure).to(p) * (counted & ~pure)[..., None]
            target = refined(by_polygon(prior, polygons), p)
            surprise, weight = surprise - (target * likelihood).sum(), weight + target.sum()
        undecided = by_polygon((~pure & (shares.sum(dim=2) > 0)).to(p), polygons)
        entropy = -((p * likelihood).sum(dim=1) * undecided).sum()
        return torch.stack([surprise, weight, entropy, undecided.sum()])

    def _least_purity(self) -> float:
        last = 0.0 if self.options.mixed else self.options.pure
        steps: tuple[float, ...] = self.options.curriculum
        step = len(steps) if self.epoch is None else self.epoch // self.options.curriculum_epochs
        return max(steps[step], last) if step < len(steps) else last

    def condensed(self, sums: Tensor, polygons: Polygons | None = None) -> Tensor:
        """Return weighted sums and weights of the three terms, (6,)."""
        return torch.cat([sums[:4], super().condensed(sums[4:], polygons)])

    def value(self, sums: Tensor) -> Tensor:
        """Return the weighted sum of the three terms."""
        pixel, entropy = ratio(sums[0], sums[1]), ratio(sums[2], sums[3])
        value: Tensor = super().value(sums[4:]) + self.options.pixel * pixel + self.options.entropy * entropy
        return value
