"""ResNet18 with an atrous spatial pyramid pooling (ASPP) decoder: the model of the published study.

Reference: L.-C. Chen et al., "Rethinking atrous convolution for semantic image segmentation", 2017 (the dense form);
"Encoder-decoder with atrous separable convolution", ECCV 2018 (the separable form). Unlike there, the pooling branch
averages 2 x 2 cells, as in the study, and not the whole image: otherwise the prediction for a place would depend on the
size of the input.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from floemap.bands import BandSet
from floemap.learning.models.atrous import PUBLISHED_RATES, rates_in_cells
from floemap.learning.models.base import Classifier, SegmentationModel, conv_norm_relu, initialise
from floemap.learning.models.precision import at_least_float32, without_autocast
from floemap.learning.models.resnet import CHANNELS, ResNet18Encoder, reach_px
from floemap.learning.settings import ModelSettings
from floemap.sentinel1.encoding import PRODUCT_BANDS


class LocalMean(nn.Module):
    """Mean of each cell and its neighbours below, to the right, and diagonally between; at the edges of those inside.

    Repeating the last row and column gives this mean at the edges. torch's own padding with
    ``count_include_pad=False`` is not used: its backward pass is wrong on CUDA in channels-last (seen with torch 2.11).
    """

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, h, w) -> (N, C, h, w)."""
        return functional.avg_pool2d(functional.pad(x, (0, 1, 0, 1), mode="replicate"), 2, stride=1)


class AtrousDepthwise(nn.Conv2d):
    """A depthwise 3 x 3 convolution with dilation `rate`.

    In training on a CPU it computes in float32: in bfloat16 and channels-last, torch 2.13's kernel leaves some of the
    weights' gradients uninitialised at some sizes (seen at 32 x 32 cells and a rate of 12), at times with NaN. It takes
    every `rate`-th cell together there, as its kernels are several times faster without dilation.
    """

    def __init__(self, channels: int, rate: int) -> None:
        super().__init__(channels, channels, 3, padding=rate, dilation=rate, groups=channels, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, h, w) -> (N, C, h, w)."""
        if torch.is_grad_enabled() and x.device.type == "cpu":
            with without_autocast(x):
                x, rate = x.to(self.weight.dtype), self.dilation[0]
                # Of fewer cells than a kernel has, the kernels without dilation are slow.
                if rate > 1 and min(x.shape[-2:]) > 2 * rate:
                    return _by_phases(x, self.weight, rate)
                return super().forward(x)
        return super().forward(x)


def _by_phases(x: Tensor, weight: Tensor, rate: int) -> Tensor:
    """Return the depthwise convolution of (N, C, h, w) as one without dilation.

    Cells whose rows and columns leave the same remainders when divided by `rate` see each other only. They become an
    image of a batch, with zeros beyond the last cells as beyond the others.
    """
    n, c, h, w = x.shape
    a, b = -(-h // rate), -(-w // rate)
    cells = functional.pad(x, (0, b * rate - w, 0, a * rate - h)).permute(0, 2, 3, 1)
    images = cells.reshape(n, a, rate, b, rate, c).permute(0, 2, 4, 1, 3, 5).reshape(-1, a, b, c)
    found = functional.conv2d(images.permute(0, 3, 1, 2), weight, padding=1, groups=c).permute(0, 2, 3, 1)
    cells = found.reshape(n, rate, rate, a, b, c).permute(0, 3, 1, 4, 2, 5).reshape(n, a * rate, b * rate, c)
    return cells[:, :h, :w].permute(0, 3, 1, 2)


class AsppDecoder(nn.Module):
    """A 1 x 1, three atrous and one pooling branch, concatenated; a projection; a 3 x 3 convolution; the classifier.

    Parameters
    ----------
    channels, classes
        Numbers of channels of the features and of classes, K.
    rates
        Rates of the atrous convolutions in cells. Their outer taps are initialised with 0, so that a tap that training
        never reaches adds nothing.
    separable
        True for depthwise separable atrous convolutions (1.26 million parameters with 6 classes), False for dense ones
        (2.82 million).
    dropout
        Dropout probability of the projected features.
    """

    def __init__(self, channels: int, classes: int, rates: tuple[int, ...], separable: bool, dropout: float) -> None:
        super().__init__()
        branches = [nn.Sequential(*conv_norm_relu(channels, CHANNELS, 1))]
        for rate in rates:
            if separable:
                branches.append(nn.Sequential(AtrousDepthwise(channels, rate), *conv_norm_relu(channels, CHANNELS, 1)))
            else:
                branches.append(nn.Sequential(*conv_norm_relu(channels, CHANNELS, 3, rate)))
        branches.append(nn.Sequential(LocalMean(), *conv_norm_relu(channels, CHANNELS, 1)))
        self.branches = nn.ModuleList(branches)
        self.project = nn.Sequential(*conv_norm_relu(CHANNELS * len(branches), CHANNELS, 1), nn.Dropout(dropout))
        self.smooth = nn.Sequential(*conv_norm_relu(CHANNELS, CHANNELS, 3))
        initialise(self)
        for branch in branches[1:-1]:
            _only_centre(branch[0])
        self.classifier = Classifier(CHANNELS, classes)

    def forward(self, features: Tensor) -> Tensor:
        """(N, channels, h, w) -> logits (N, K, h, w)."""
        joined = torch.cat([branch(features) for branch in self.branches], dim=1)
        return self.classifier(self.smooth(self.project(joined)))  # type: ignore[no-any-return]


@torch.no_grad()
def _only_centre(convolution: nn.Module) -> None:
    """Set all taps of a 3 x 3 convolution but the centre to 0."""
    assert isinstance(convolution, nn.Conv2d)
    centre = convolution.weight[..., 1, 1].clone()
    convolution.weight.zero_()
    convolution.weight[..., 1, 1] = centre


class ResNet18Aspp(SegmentationModel):
    """ResNet18 up to layer3 with the ASPP decoder at its stride: 4.04 million parameters, or 5.61 if dense."""

    band_weights = ("encoder.conv1.weight",)

    def __init__(
        self, settings: ModelSettings, classes: int, bands: BandSet = PRODUCT_BANDS, *, separable: bool
    ) -> None:
        stride, given = settings.output_stride, settings.rates or PUBLISHED_RATES
        settings = settings.model_copy(update={"rates": given})
        super().__init__(
            settings, classes, bands, stride=stride, alignment_px=stride, reach_px=reach_px(), feature_channels=CHANNELS
        )
        self.encoder = ResNet18Encoder(stride, bands.channels)
        rates = rates_in_cells(given, stride)
        self.decoder = AsppDecoder(CHANNELS, classes, rates, separable, settings.dropout)

    def encode(self, x: Tensor) -> Tensor:
        """Return ResNet18's features, (N, 256, H / stride, W / stride)."""
        return self.encoder(self.normalise(x).to(self.weight_dtype))  # type: ignore[no-any-return]

    def decode(self, features: Tensor) -> Tensor:
        """Return the logits, (N, K, h, w)."""
        return at_least_float32(self.decoder(features.to(self.weight_dtype)))
