"""A plain U-Net, as a baseline.

Reference: O. Ronneberger, P. Fischer, T. Brox, "U-Net: convolutional networks for biomedical image segmentation",
MICCAI 2015; with BatchNorm, padded convolutions and half its widths.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from floemap.bands import BandSet
from floemap.learning.models.base import Classifier, SegmentationModel, conv_norm_relu, initialise
from floemap.learning.models.precision import at_least_float32
from floemap.learning.settings import ModelSettings
from floemap.sentinel1.encoding import PRODUCT_BANDS

#: Channels of each level, from that of the pixels to the deepest, which has a grid of 16 pixels.
WIDTHS = (32, 64, 128, 256, 512)


class UNet(SegmentationModel):
    """Four levels down and up: 7.8 million parameters. The logits have the resolution of the pixels, at any stride.

    The features are those before the last 1 x 1 convolution, (N, 32, H, W): too large to keep for a whole scene.
    """

    band_weights = ("down.0.0.weight",)

    def __init__(self, settings: ModelSettings, classes: int, bands: BandSet = PRODUCT_BANDS) -> None:
        super().__init__(
            settings,
            classes,
            bands,
            stride=1,
            alignment_px=1 << (len(WIDTHS) - 1),
            reach_px=reach_px(len(WIDTHS) - 1),
            feature_channels=WIDTHS[0],
        )
        inputs = (bands.channels, *WIDTHS)
        self.down = nn.ModuleList(_two(i, w) for i, w in zip(inputs, WIDTHS, strict=False))
        self.halve = nn.MaxPool2d(2)
        deeper_first = list(zip(WIDTHS[1:], WIDTHS, strict=False))[::-1]
        self.enlarge = nn.ModuleList(nn.ConvTranspose2d(deep, w, 2, stride=2) for deep, w in deeper_first)
        self.up = nn.ModuleList(_two(2 * w, w) for _, w in deeper_first)
        initialise(self)
        self.dropout = nn.Dropout(settings.dropout)
        self.classifier = Classifier(WIDTHS[0], classes)

    def encode(self, x: Tensor) -> Tensor:
        """Return the features of each pixel, (N, 32, H, W)."""
        y = self.normalise(x).to(self.weight_dtype)
        levels: list[Tensor] = []
        for convolve in self.down:
            y = convolve(self.halve(y) if levels else y)
            levels.append(y)
        for enlarge, convolve, level in zip(self.enlarge, self.up, levels[-2::-1], strict=True):
            y = convolve(torch.cat([level, enlarge(y)], dim=1))
        return y

    def decode(self, features: Tensor) -> Tensor:
        """Return the logits, (N, K, H, W)."""
        return at_least_float32(self.classifier(self.dropout(features.to(self.weight_dtype))))


def _two(channels_in: int, channels: int) -> nn.Sequential:
    """Two 3 x 3 convolutions, with BatchNorm and ReLU."""
    return nn.Sequential(*conv_norm_relu(channels_in, channels, 3), *conv_norm_relu(channels, channels, 3))


def reach_px(depth: int) -> int:
    """Return how far the receptive field extends beyond a cell of the deepest grid, in pixels.

    The first and last pixel of such a cell are traced back to the input: each pair of 3 x 3 convolutions adds two cells
    of its grid on each side; pooling and upsampling stay inside the cells of the next grid.
    """
    first, last = 0, (1 << depth) - 1
    for _ in range(depth):  # from the output down to the deepest grid
        first, last = (first - 2) // 2, (last + 2) // 2
    first, last = first - 2, last + 2
    for _ in range(depth):  # and up to the input
        first, last = 2 * first - 2, 2 * last + 1 + 2
    return max(-first, last - ((1 << depth) - 1))
