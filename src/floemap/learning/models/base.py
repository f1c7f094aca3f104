"""What every model has in common: normalisation inside, an encoder and a decoder that can be run apart, upsampling.

Axes are (N, channels, rows, columns) everywhere. A model reads physical values (dB, dB, degrees) in the order of
:data:`floemap.sentinel1.encoding.BAND_NAMES`, NaN where there is no data, and gives one logit a class.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.nn import functional

from floemap.errors import ConfigError, ModelError
from floemap.learning.settings import ModelSettings
from floemap.sentinel1.encoding import BAND_NAMES

#: Class ids are uint8 and 255 is no class.
MAX_CLASSES = 255


def at_least_float32(x: Tensor) -> Tensor:
    """Return `x` in float32, or as it is where it is float64."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


def without_autocast(x: Tensor) -> AbstractContextManager[object]:
    """Return a context in which operations on the device of `x` keep their inputs' type."""
    kind = x.device.type
    return torch.autocast(kind, enabled=False) if torch.is_autocast_enabled(kind) else nullcontext()


class SegmentationModel(nn.Module, ABC):
    """Base of all models.

    Parameters
    ----------
    settings
        What the model was built from.
    classes
        Number of classes, K.
    stride
        Pixels of the scene for each cell of the logits that :meth:`decode` gives, in rows and in columns.
    alignment_px
        Rows and columns given to :meth:`encode` must be multiples of it. Where a scene is encoded in tiles, the tiles'
        corners must lie on multiples of it.
    reach_px
        How far :meth:`encode` sees beyond a cell of its output (of `alignment_px`, where that is wider).
    feature_channels
        Channels of :meth:`encode`'s output, F.

    Attributes
    ----------
    name, settings, classes, stride, alignment_px, feature_channels
        As given.
    margin_px
        `reach_px` rounded up to a multiple of `alignment_px`: a tile that is that much larger on each side gives the
        features of the whole scene inside.
    mean, std
        Buffers (3,), float32 whatever the weights' type, physical units: of the pixels that the model learnt from.

    Raises
    ------
    ConfigError
        If there are fewer than two classes or more than a label raster can hold.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        settings: ModelSettings,
        classes: int,
        *,
        stride: int,
        alignment_px: int,
        reach_px: int,
        feature_channels: int,
    ) -> None:
        super().__init__()
        if not 2 <= classes <= MAX_CLASSES:
            raise ConfigError(f"a model of {classes} classes cannot be: 2 to {MAX_CLASSES} can.")
        self.name = settings.name
        self.settings = settings
        self.classes = classes
        self.stride = stride
        self.alignment_px = alignment_px
        self.margin_px = -(-reach_px // alignment_px) * alignment_px
        self.feature_channels = feature_channels
        self.register_buffer("mean", torch.zeros(len(BAND_NAMES)))
        self.register_buffer("std", torch.ones(len(BAND_NAMES)))

    def set_normalisation(self, mean: Sequence[float], std: Sequence[float]) -> None:
        """Set mean and standard deviation of the bands, (3,) each, in dB, dB and degrees.

        Raises
        ------
        ModelError
            If they are not three finite numbers each, or a standard deviation is not above 0.
        """
        given = torch.tensor([list(mean), list(std)], dtype=torch.float64) if len(mean) == len(std) else torch.empty(0)
        if given.shape != (2, len(BAND_NAMES)) or not given.isfinite().all() or not (given[1] > 0).all():
            raise ModelError(
                f"mean {list(mean)} and standard deviation {list(std)} cannot normalise the bands "
                f"{', '.join(BAND_NAMES)}.",
                hint="Each band needs a finite mean and a standard deviation above 0.",
            )
        self.mean.copy_(given[0])
        self.std.copy_(given[1])

    def normalise(self, x: Tensor) -> Tensor:
        """Return (x - mean) / std in float32, and 0, the mean, where `x` is NaN. Shape (N, 3, H, W)."""
        scaled = (x.float() - self.mean[:, None, None]) / self.std[:, None, None]
        return torch.where(scaled.isnan(), 0.0, scaled)

    @property
    def weight_dtype(self) -> torch.dtype:
        """Type of the weights, to which the inputs of encoder and decoder are cast."""
        return next(self.parameters()).dtype

    @abstractmethod
    def encode(self, x: Tensor) -> Tensor:
        """Return the features, (N, F, H / stride, W / stride), of physical values (N, 3, H, W), NaN for no data.

        H and W must be multiples of `alignment_px`.
        """

    @abstractmethod
    def decode(self, features: Tensor) -> Tensor:
        """Return the logits, (N, K, h, w), one for each cell of the features (N, F, h, w); float32 or better."""

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits, (N, K, H, W), of physical values (N, 3, H, W) of any height and width.

        Rows and columns of no data are added below and to the right to reach a multiple of `alignment_px`, and cut off
        the result. Logits go to the pixels by bilinear interpolation, exactly `stride` times.
        """
        rows, cols = x.shape[-2:]
        below, right = -rows % self.alignment_px, -cols % self.alignment_px
        if below or right:
            x = functional.pad(x, (0, right, 0, below), value=float("nan"))
        logits = self.decode(self.encode(x))
        if self.stride > 1:
            size = (logits.shape[-2] * self.stride, logits.shape[-1] * self.stride)
            logits = functional.interpolate(logits, size=size, mode="bilinear", align_corners=False)
        return logits[..., :rows, :cols]

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        """Move and cast as torch does, but keep the normalisation exact when weights become half precision."""
        exact = {name: getattr(self, name) for name in ("mean", "std")}
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        for name, value in exact.items():
            now = getattr(self, name)
            if now.dtype != value.dtype and not value.is_meta:
                setattr(self, name, value.to(now.device))
        return self


def initialise(module: nn.Module) -> None:
    """Draw all convolutions' weights from He's normal distribution; BatchNorm starts as the identity.

    By fan-out, as torchvision's ResNet; depthwise convolutions by fan-in, as torch counts their fan-out over all
    groups.

    Reference: K. He et al., "Delving deep into rectifiers", ICCV 2015.
    """
    for m in module.modules():
        if isinstance(m, nn.Conv2d | nn.ConvTranspose2d):
            nn.init.kaiming_normal_(m.weight, mode="fan_in" if m.groups > 1 else "fan_out", nonlinearity="relu")
            if m.bias is not None:
                nn.init.zeros_(m.bias)


class Classifier(nn.Conv2d):
    """The last 1 x 1 convolution: logits in float32 or better, whatever it is given, under autocast too.

    It is a small part of the work, and rounded logits would make ties. Drawn so that the logits of unit features have
    a spread of about one.
    """

    def __init__(self, channels: int, classes: int) -> None:
        super().__init__(channels, classes, 1)
        assert self.bias is not None
        nn.init.kaiming_normal_(self.weight, mode="fan_in", nonlinearity="linear")
        nn.init.zeros_(self.bias)

    def forward(self, x: Tensor) -> Tensor:
        """(N, channels, h, w) -> (N, K, h, w)."""
        assert self.bias is not None
        with without_autocast(x):
            return functional.conv2d(at_least_float32(x), at_least_float32(self.weight), at_least_float32(self.bias))


def conv_norm_relu(channels_in: int, channels_out: int, kernel: int, dilation: int = 1) -> list[Any]:
    """Return a convolution that keeps the size, BatchNorm and ReLU."""
    padding = dilation * (kernel // 2)
    return [
        nn.Conv2d(channels_in, channels_out, kernel, padding=padding, dilation=dilation, bias=False),
        nn.BatchNorm2d(channels_out),
        nn.ReLU(inplace=True),
    ]
