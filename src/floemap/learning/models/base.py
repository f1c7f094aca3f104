"""Base class of all models: normalisation inside the model, encoder and decoder that run separately, upsampling.

Axes are (N, channels, rows, columns) everywhere. A model reads physical values of its bands, a
:class:`floemap.bands.BandSet`, NaN for no-data, and returns one logit for each class.
"""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, Self

import torch
from torch import Tensor, nn
from torch.nn import functional

from floemap.bands import BandSet
from floemap.config import Settings
from floemap.errors import ConfigError, ModelError
from floemap.learning.models.precision import at_least_float32, without_autocast
from floemap.learning.models.upsampling import upsampled
from floemap.learning.settings import ModelSettings
from floemap.learning.targets import ICE_TYPE, Head
from floemap.sentinel1.encoding import PRODUCT_BANDS

#: Class ids are uint8, and 255 means no class.
MAX_CLASSES = 255
#: Characters of torch's message about a state dict: it may name every tensor of a network.
_AT_MOST_WORDS = 300


class SegmentationModel(nn.Module, ABC):
    """Base of all models.

    Parameters
    ----------
    settings
        Settings from which the model is built.
    classes
        Number of logits of each cell, K: that of classes, and of the channels of further heads.
    bands
        Bands that the model reads, B. Its first layer has `bands.channels` input channels, C.
    stride
        Pixels of the scene for each cell of the logits that :meth:`decode` gives, in rows and in columns.
    alignment_px
        The numbers of rows and columns given to :meth:`encode` must be multiples of it. If a scene is encoded in tiles,
        the corners of the tiles must lie on multiples of it too.
    reach_px
        How far the receptive field of :meth:`encode` extends beyond a cell of its output, or beyond a square of
        `alignment_px` if that is larger.
    feature_channels
        Number of channels of the output of :meth:`encode`, F.

    Attributes
    ----------
    name, settings, bands, stride, alignment_px, feature_channels
        See the parameters; `name` is that of the settings.
    options
        The options from the settings, checked: an instance of the class ``Options`` within the class.
    described
        Further entries for the header of a checkpoint; empty for the models of floemap.
    channels
        Number of logits of each cell, K.
    heads
        The heads whose channels these are, in order; the first one is that of classes. Unless they are set, it is the
        only one.
    margin_px
        `reach_px` rounded up to a multiple of `alignment_px`. A tile with this margin on each side has the same
        features inside as the whole scene.
    mean, std
        Buffers, (B,) float32 whatever the type of the weights: mean and standard deviation of the bands in the
        training pixels, in their units.

    Raises
    ------
    ConfigError
        If there are fewer than two classes, or more than a label raster can hold.
    """

    class Options(Settings):
        """The model has no options."""

    #: Names of the weights, (K, C, h, w), that read the channels of the bands; empty where they are not known.
    band_weights: ClassVar[tuple[str, ...]] = ()

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        settings: ModelSettings,
        classes: int,
        bands: BandSet = PRODUCT_BANDS,
        *,
        stride: int,
        alignment_px: int,
        reach_px: int,
        feature_channels: int,
    ) -> None:
        super().__init__()
        if not 2 <= classes <= MAX_CLASSES:
            raise ConfigError(f"a model cannot have {classes} classes; it can have 2 to {MAX_CLASSES}.")
        self.name = settings.name
        self.settings = settings
        self.options: Any = self.Options.checked(**settings.options)
        self.described: dict[str, Any] = {}
        self.channels = classes
        self.heads: tuple[Head, ...] = (Head(ICE_TYPE, "class", classes),)
        self.bands = bands
        self.stride = stride
        self.alignment_px = alignment_px
        self.margin_px = -(-reach_px // alignment_px) * alignment_px
        self.feature_channels = feature_channels
        self._reads_normalised = False
        self.register_buffer("mean", torch.zeros(len(bands)))
        self.register_buffer("std", torch.ones(len(bands)))

    def set_normalisation(self, mean: Sequence[float], std: Sequence[float]) -> None:
        """Set mean and standard deviation of the bands, (B,) each, in their units.

        Raises
        ------
        ModelError
            If they are not a finite number for each band, or a standard deviation is not positive.
        """
        given = torch.tensor([list(mean), list(std)], dtype=torch.float64) if len(mean) == len(std) else torch.empty(0)
        if given.shape != (2, len(self.bands)) or not given.isfinite().all() or not (given[1] > 0).all():
            raise ModelError(
                f"mean {list(mean)} and standard deviation {list(std)} cannot normalise the bands "
                f"{', '.join(self.bands.names)}.",
                hint="Each band needs a finite mean and a positive standard deviation.",
            )
        self.mean.copy_(given[0])
        self.std.copy_(given[1])

    def normalise(self, x: Tensor) -> Tensor:
        """Return the channels of the network's input, (N, C, H, W) float32, for physical values (N, B, H, W).

        They are (x - mean) / std, and 0 (the mean) for NaN; then, for each band with a flag, 1 for NaN and else 0.
        """
        return x if self._reads_normalised else normalised(x, self.mean, self.std, self.bands)

    def read_normalised(self) -> None:
        """Let the model read what :meth:`normalise` has returned, (N, C, H, W), from now on."""
        self._reads_normalised = True

    @property
    def classes(self) -> int:
        """Number of classes: of the channels of the first head."""
        return self.heads[0].channels

    @property
    def weight_dtype(self) -> torch.dtype:
        """Type of the weights. The inputs of encoder and decoder are cast to it."""
        return next(self.parameters()).dtype

    @abstractmethod
    def encode(self, x: Tensor) -> Tensor:
        """Return the features, (N, F, H / stride, W / stride), for physical values (N, B, H, W), NaN for no-data.

        H and W must be multiples of `alignment_px`.
        """

    @abstractmethod
    def decode(self, features: Tensor) -> Tensor:
        """Return the logits, (N, K, h, w), one for each cell of the features (N, F, h, w); float32 or better."""

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits, (N, K, H, W), for physical values (N, B, H, W) of any height and width.

        The input is padded with no-data below and to the right to multiples of `alignment_px`, and the result is
        cropped. The logits of the cells are interpolated bilinearly, by a factor of exactly `stride`.
        """
        rows, cols = x.shape[-2:]
        below, right = -rows % self.alignment_px, -cols % self.alignment_px
        if below or right:
            x = functional.pad(x, (0, right, 0, below), value=float("nan"))
        logits = self.decode(self.encode(x))
        if self.stride > 1:
            return upsampled(logits, self.stride, (rows, cols))
        return logits[..., :rows, :cols]

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        """Move and cast as torch does, but keep the normalisation in float32."""
        exact = {name: getattr(self, name) for name in ("mean", "std")}
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        for name, value in exact.items():
            now = getattr(self, name)
            if now.dtype != value.dtype and not value.is_meta:
                setattr(self, name, value.to(now.device))
        return self


def normalised(x: Tensor, mean: Tensor, std: Tensor, bands: BandSet) -> Tensor:
    """Return the channels for physical values and the statistics of their bands; see SegmentationModel.normalise."""
    scaled = (x.float() - mean[:, None, None]) / std[:, None, None]
    gaps = scaled.isnan()
    values = torch.where(gaps, 0.0, scaled)
    if not bands.flagged:
        return values
    return torch.cat([values, gaps[:, bands.flagged].to(values.dtype)], dim=1)


def load_tensors(module: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    """Load a state dict that came from a file. The module stays as it is if the state dict does not fit.

    Raises
    ------
    ValueError
        If a name is missing or unknown, or a tensor has another shape or type or is not finite; with torch's words.
    """
    for name, own in module.state_dict().items():
        given = tensors.get(name, own)
        if given.dtype != own.dtype or not given.isfinite().all():
            raise ValueError(f"{name} must be finite {own.dtype}; it is {given.dtype}")
    try:
        copy.deepcopy(module).load_state_dict(tensors)
    except RuntimeError as e:
        words = " ".join(str(e).split()[6:])  # without "Error(s) in loading state_dict for <class>:"
        raise ValueError(words if len(words) < _AT_MOST_WORDS else f"{words[:_AT_MOST_WORDS]} ...") from e
    module.load_state_dict(tensors)


def initialise(module: nn.Module) -> None:
    """Initialise the weights of all convolutions from He's normal distribution; BatchNorm starts as the identity.

    With fan-out, as in torchvision's ResNet; depthwise convolutions with fan-in, because torch counts their fan-out
    over all groups.

    Reference: K. He et al., "Delving deep into rectifiers", ICCV 2015.
    """
    for m in module.modules():
        if isinstance(m, nn.Conv2d | nn.ConvTranspose2d):
            nn.init.kaiming_normal_(m.weight, mode="fan_in" if m.groups > 1 else "fan_out", nonlinearity="relu")
            if m.bias is not None:
                nn.init.zeros_(m.bias)


class Classifier(nn.Conv2d):
    """The last 1 x 1 convolution. Its logits are in float32 or better for any input, also under autocast.

    It is a small part of the computation, and rounded logits would have ties. It is initialised so that features of
    unit variance give logits of about unit variance.
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
    """Return a convolution with padding that keeps the size, BatchNorm and ReLU."""
    padding = dilation * (kernel // 2)
    return [
        nn.Conv2d(channels_in, channels_out, kernel, padding=padding, dilation=dilation, bias=False),
        nn.BatchNorm2d(channels_out),
        nn.ReLU(inplace=True),
    ]
