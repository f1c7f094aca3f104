"""ResNet18 up to its third layer, with torchvision's parameter names, so that its ImageNet weights can be loaded.

Reference: K. He, X. Zhang, S. Ren, J. Sun, "Deep residual learning for image recognition", CVPR 2016. With output
stride 8 the third layer does not halve the size; instead its further convolutions have dilation 2 (L.-C. Chen et al.,
"Rethinking atrous convolution", 2017), so that every second row and column of the features equals the features at
output stride 16.
"""

from __future__ import annotations

from typing import Literal

from torch import Tensor, nn

from floemap.learning.models.base import initialise

#: Channels of the features.
CHANNELS = 256


class BasicBlock(nn.Module):
    """Two 3 x 3 convolutions with a residual connection.

    Parameters
    ----------
    channels_in, channels
        Channels of the input and of the output.
    stride
        Stride of the first convolution.
    first_dilation, dilation
        Dilation of the first and of the second convolution.
    """

    def __init__(
        self, channels_in: int, channels: int, *, stride: int = 1, first_dilation: int = 1, dilation: int = 1
    ) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(
            channels_in, channels, 3, stride=stride, padding=first_dilation, dilation=first_dilation, bias=False
        )
        self.bn1 = nn.BatchNorm2d(channels)
        self.relu = nn.ReLU(inplace=True)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=dilation, dilation=dilation, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.downsample: nn.Sequential | None = None
        if channels_in != channels:
            self.downsample = nn.Sequential(
                nn.Conv2d(channels_in, channels, 1, stride=stride, bias=False), nn.BatchNorm2d(channels)
            )

    def forward(self, x: Tensor) -> Tensor:
        """(N, channels_in, H, W) -> (N, channels, H / stride, W / stride)."""
        past = x if self.downsample is None else self.downsample(x)
        y = self.relu(self.bn1(self.conv1(x)))
        y = self.bn2(self.conv2(y))
        y += past
        return self.relu(y)  # type: ignore[no-any-return]


class ResNet18Encoder(nn.Module):
    """conv1 to layer3: 2.78 million parameters with the usual three channels."""

    def __init__(self, output_stride: Literal[8, 16], channels: int = 3) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, 64, 7, stride=2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool2d(3, stride=2, padding=1)
        self.layer1 = nn.Sequential(BasicBlock(64, 64), BasicBlock(64, 64))
        self.layer2 = nn.Sequential(BasicBlock(64, 128, stride=2), BasicBlock(128, 128))
        # Without the stride, the first convolution still reads neighbours on the finer grid; those after it need twice
        # the dilation to read the same places as with the stride.
        d = 16 // output_stride
        self.layer3 = nn.Sequential(
            BasicBlock(128, CHANNELS, stride=2 // d, dilation=d),
            BasicBlock(CHANNELS, CHANNELS, first_dilation=d, dilation=d),
        )
        initialise(self)

    def forward(self, x: Tensor) -> Tensor:
        """(N, channels, H, W), normalised -> (N, 256, H / output_stride, W / output_stride)."""
        # ReLU after pooling has the same values and gradients, of a quarter of the cells.
        x = self.relu(self.maxpool(self.bn1(self.conv1(x))))  # (N, 64, H / 4, W / 4)
        return self.layer3(self.layer2(self.layer1(x)))  # type: ignore[no-any-return]


def reach_px() -> int:
    """Return how far the receptive field of a cell extends beyond its first row and column, in pixels, for any stride.

    A convolution of size k with dilation d on a grid of g pixels adds g d (k - 1) / 2.
    """
    reach = 3 + 2  # conv1 on pixels, the pooling on a grid of 2
    reach += 4 * 4  # layer1: four 3 x 3 convolutions on a grid of 4
    reach += 4 + 3 * 8  # layer2: one before its stride, three after
    reach += 8 + 3 * 16  # layer3: likewise, by stride or by dilation
    return reach
