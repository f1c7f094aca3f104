"""Models of a user's own, which tests name by import string: ``own_models:Net``. None is derived from floemap's."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional


class Net(nn.Module):
    """Two convolutions at the resolution of the pixels: its receptive field reaches 1 + 2 px."""

    def __init__(self, in_channels: int, classes: int, width: int = 4) -> None:
        super().__init__()
        self.one = nn.Conv2d(in_channels, width, 3, padding=1)
        self.norm = nn.BatchNorm2d(width)
        self.two = nn.Conv2d(width, classes, 3, padding=2, dilation=2)

    def forward(self, x: Tensor) -> Tensor:
        return self.two(torch.relu(self.norm(self.one(x))))


class Squeezed(Net):
    """Squeeze and excitation: each channel is scaled by what its mean over the image says."""

    def __init__(self, in_channels: int, classes: int, width: int = 4) -> None:
        super().__init__(in_channels, classes, width)
        self.excite = nn.Conv2d(width, width, 1)

    def forward(self, x: Tensor) -> Tensor:
        y = torch.relu(self.norm(self.one(x)))
        return self.two(y * torch.sigmoid(self.excite(y.mean((2, 3), keepdim=True))))


class Coarse(nn.Module):
    """Cells of 8 px, with max-pooling; returns a table, as torchvision's models do."""

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.one = nn.Conv2d(3, 8, 7, stride=2, padding=3)
        self.pool = nn.MaxPool2d(3, stride=2, padding=1)
        self.two = nn.Conv2d(8, num_classes, 3, stride=2, padding=1)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        out = self.two(self.pool(self.one(x)))
        return {"out": out, "aux": out}


class Headed(nn.Module):
    """A last layer for each head; returns a table by heads, in another order than theirs."""

    def __init__(self, in_channels: int, classes: int, tasks: dict[str, int], width: int = 4) -> None:
        super().__init__()
        assert classes == next(iter(tasks.values()))
        self.one = nn.Conv2d(in_channels, width, 3, padding=1)
        self.last = nn.ModuleDict({name: nn.Conv2d(width, n, 1) for name, n in tasks.items()})

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        y = torch.relu(self.one(x))
        return {name: layer(y) for name, layer in reversed(list(self.last.items()))}


class Layers(nn.Module):
    """Modules one after the other, given by a function."""

    def __init__(self, in_channels: int, classes: int, kind: str) -> None:
        super().__init__()
        self.body, self.head = KINDS[kind](in_channels), nn.Conv2d(8, classes, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.body(x))


class Changed(nn.Module):
    """Applies a function to what a convolution gives."""

    def __init__(self, in_channels: int, change: Any) -> None:
        super().__init__()
        self.conv, self.change = nn.Conv2d(in_channels, 8, 3, padding=1), change

    def forward(self, x: Tensor) -> Tensor:
        return self.change(self.conv(x))


def _chain(*layers: tuple[int, int, int]) -> Any:
    """3 x 3 (kernel, stride, dilation) convolutions of 8 channels."""

    def make(channels: int) -> nn.Module:
        made: list[nn.Module] = []
        for kernel, stride, dilation in layers:
            made.append(nn.Conv2d(channels, 8, kernel, stride, dilation * (kernel // 2), dilation))
            made.append(nn.BatchNorm2d(8))
            made.append(nn.ReLU())
            channels = 8
        return nn.Sequential(*made)

    return make


def _attention(x: Tensor) -> Tensor:
    flat = x.flatten(2).mT
    return functional.scaled_dot_product_attention(flat, flat, flat).mT.reshape(x.shape)


def _without_nan(x: Tensor) -> Tensor:
    return torch.where(x.isfinite(), x, 0.0)


KINDS: dict[str, Any] = {
    "one pixel": _chain((1, 1, 1)),
    "one 3 x 3": _chain((3, 1, 1)),
    "dilated stack": _chain((3, 1, 1), (3, 1, 2), (3, 1, 4), (5, 1, 3)),
    "strides": _chain((7, 2, 1), (3, 2, 1), (3, 1, 2)),
    "pooled": lambda c: nn.Sequential(
        nn.Conv2d(c, 8, 3, padding=1), nn.MaxPool2d(3, 2, 1), nn.Conv2d(8, 8, 3, padding=1)
    ),
    "far": _chain((3, 1, 200)),
    "too far": _chain((3, 1, 1500)),
    "group norm": lambda c: nn.Sequential(nn.Conv2d(c, 8, 3, padding=1), nn.GroupNorm(2, 8)),
    "instance norm": lambda c: nn.Sequential(nn.Conv2d(c, 8, 3, padding=1), nn.InstanceNorm2d(8)),
    "attention": lambda c: Changed(c, _attention),
    "tiny mean": lambda c: Changed(c, lambda x: x + 1e-7 * x.mean((2, 3), keepdim=True)),
    "mean without NaN": lambda c: Changed(c, lambda x: x + 0.01 * _without_nan(x).mean((2, 3), keepdim=True)),
    "switch": lambda c: Changed(c, lambda x: torch.where(_without_nan(x).amax((2, 3), keepdim=True) > 20, x, -x)),
    "sorted": lambda c: Changed(c, lambda x: x + x.flatten(2).sort(dim=2).values[..., -1, None, None]),
    "coordinates": lambda c: Changed(
        c, lambda x: x + torch.linspace(-1, 1, x.shape[2])[:, None] + torch.linspace(-1, 1, x.shape[3])
    ),
    "corner to corner": lambda c: nn.Sequential(
        nn.Conv2d(c, 8, 3, 2, 1), nn.UpsamplingBilinear2d(scale_factor=2), nn.Conv2d(8, 8, 1)
    ),
    "nearest": lambda c: nn.Sequential(
        nn.Conv2d(c, 8, 3, 2, 1), nn.UpsamplingNearest2d(scale_factor=2), nn.Conv2d(8, 8, 3, padding=1)
    ),
}
