"""Splits a network into pieces with small receptive fields, so that tiles of a scene need little overlap.

The output for a tile equals that for the whole scene wherever the receptive field lies inside the tile. The receptive
field of the whole network extends some 700 pixels to each side, so that tiles of the whole network would compute
everything two to three times. That of a piece extends a few cells, and its tiles overlap by these only. BatchNorm is
merged into the convolutions, as the weights no longer change; in bf16 on a processor more is
(:mod:`floemap.learning.whole_scene.fused`).
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import singledispatch
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm  # also of SyncBatchNorm, which is no BatchNorm2d
from torch.nn.utils.fusion import fuse_conv_bn_eval

from floemap.bands import BandSet
from floemap.errors import ConfigError, known_names
from floemap.learning.data.crops import physical
from floemap.learning.models.aspp import AsppDecoder, LocalMean, ResNet18Aspp
from floemap.learning.models.base import SegmentationModel, normalised
from floemap.learning.models.foreign import Foreign
from floemap.learning.models.resnet import CHANNELS, BasicBlock
from floemap.learning.models.unet import UNet
from floemap.learning.whole_scene.fused import can_fuse, fused
from floemap.learning.whole_scene.workers import usual_count

Precision = Literal["auto", "fp32", "bf16"]


@dataclass(frozen=True)
class Piece:
    """A piece of a network.

    Attributes
    ----------
    run
        A module, or its equivalent in another engine:
        (1, C, rows, cols) -> (1, channels, rows / shrink, cols / shrink). It may overwrite its input.
    channels
        Number of channels of the output.
    shrink
        Cells of the input, in rows and in columns, for each cell of the output.
    halo
        How far the receptive field of an output cell extends beyond the input cells under it, in output cells; None if
        it is unlimited.
    align
        The corners of tiles must lie on multiples of this number of output cells.
    inside
        Whether the output of `run` excludes the halo. If so, its input is padded with zeros beyond the scene;
        otherwise the input ends at the border of the scene.
    window
        Side of the overlapping windows, in output cells, that the piece is run on and whose outputs are blended; None
        for tiles, which give what one run over the scene would give.
    """

    run: Callable[[Tensor], Tensor]
    channels: int
    shrink: int = 1
    halo: int | None = 0
    align: int = 1
    inside: bool = False
    window: int | None = None


@dataclass(frozen=True)
class Network:
    """A network ready for prediction.

    Attributes
    ----------
    pieces
        The pieces, from normalised channels to logits at `stride`.
    bands
        The bands of a scene, in order; they are stored in these steps.
    table
        (C, 65536), `dtype`: value of each channel for each stored int16 of its band, from -32768 upwards.
    tabulate
        Returns such a table, in float32, for the same bands in other steps.
    classes, stride, alignment_px
        Attributes of the model.
    device, dtype
        Device of the pieces, and type of their inputs and outputs; the output of the last piece is float32.
    workers
        Number of tiles computed at a time, each in a thread.
    """

    pieces: tuple[Piece, ...]
    bands: BandSet
    table: Tensor
    tabulate: Callable[[BandSet], Tensor]
    classes: int
    stride: int
    alignment_px: int
    device: torch.device
    dtype: torch.dtype
    workers: int

    @property
    def band_of(self) -> tuple[int, ...]:
        """Index of the band of each channel."""
        return (*range(len(self.bands)), *self.bands.flagged)

    def reading(self, bands: BandSet) -> Network:
        """Return the network for a scene that stores the same bands in these steps."""
        if bands == self.bands:
            return self
        return replace(self, bands=bands, table=self.tabulate(bands).to(self.table.dtype))


def prepare_network(
    model: SegmentationModel, device: str | torch.device = "cpu", precision: Precision = "auto"
) -> Network:
    """Prepare a copy of a model for prediction; the model itself does not change.

    Parameters
    ----------
    model
        The model, in any mode.
    device
        Device of the copy.
    precision
        Floating-point precision: fp32, bf16, or auto for bf16 if the device supports it.

    Raises
    ------
    ConfigError
        If there is no such precision.
    """
    device = torch.device(device)
    dtype = torch.bfloat16 if choose_precision(precision, device) == "bf16" else torch.float32
    own = copy.deepcopy(model).eval().requires_grad_(False).to(device)
    if isinstance(own, Foreign):  # it may do anything with a convolution's output, and need float32 somewhere
        own.bf16, dtype = dtype == torch.bfloat16, torch.float32
    elif not own.described:  # a user's class may use a convolution's output in other places too
        own = merge_batch_norms(own)
    # Normalisation takes ten passes over a scene, or one table lookup; so the pieces are given normalised values.
    mean, std = own.mean, own.std

    def tabulate(bands: BandSet) -> Tensor:
        stored = torch.arange(-(1 << 15), 1 << 15, device=device).to(torch.int16).expand(1, len(bands), 1, -1)
        return normalised(physical(stored, bands), mean, std, bands)[0, :, 0].contiguous()

    own.read_normalised()
    own = own.to(dtype).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    pieces = pieces_of(own)
    # In float32, where arithmetic takes longer, fusing saves little, and validation would round otherwise.
    if dtype == torch.bfloat16 and not own.described and can_fuse(device):
        pieces = tuple(replace(p, run=fused(p.run)) for p in pieces)  # type: ignore[arg-type]
    return Network(
        pieces=pieces,
        bands=model.bands,
        table=tabulate(model.bands).to(dtype),
        tabulate=tabulate,
        classes=model.classes,
        stride=model.stride,
        alignment_px=model.alignment_px,
        device=device,
        dtype=dtype,
        workers=usual_count(device),
    )


def choose_precision(wanted: Precision, device: torch.device) -> Literal["fp32", "bf16"]:
    """Return the precision to compute in; auto is bf16 if the processor or GPU has instructions for it."""
    if wanted not in ("auto", "fp32", "bf16"):
        raise ConfigError(f"there is no precision {wanted!r}.", hint=known_names(wanted, ("auto", "fp32", "bf16")))
    if wanted != "auto":
        return wanted
    if device.type == "cuda":
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp32"
    return "bf16" if torch.cpu._is_avx512_bf16_supported() else "fp32"


@singledispatch
def pieces_of(model: SegmentationModel) -> tuple[Piece, ...]:
    """Split a model, whose input is normalised, into pieces.

    For a type of model that is not registered here, the decoder runs over the whole scene at once, which takes memory.
    """
    halo, align = model.margin_px // model.stride, model.alignment_px // model.stride
    encode = Piece(_Step(model, "encode"), model.feature_channels, model.stride, halo, align)
    return encode, Piece(_Step(model, "decode"), model.channels, halo=None)


@pieces_of.register
def _(model: UNet) -> tuple[Piece, ...]:
    return (Piece(_Step(model, "encode", "decode"), model.channels, halo=model.margin_px, align=model.alignment_px),)


@pieces_of.register
def _(model: Foreign) -> tuple[Piece, ...]:
    run, align = _Step(model, "encode", "decode"), model.alignment_px // model.stride
    if model.window_px is None:
        return (Piece(run, model.channels, model.stride, model.margin_px // model.stride, align),)
    return (Piece(run, model.channels, model.stride, None, align, window=model.window_px // model.stride),)


@pieces_of.register
def _(model: ResNet18Aspp) -> tuple[Piece, ...]:
    encoder, decoder = model.encoder, model.decoder
    pyramid = _PyramidInside(decoder)
    return (
        _piece(64, encoder.conv1, encoder.bn1, encoder.relu, encoder.maxpool),
        _piece(64, *encoder.layer1),
        _piece(128, *encoder.layer2),
        _piece(CHANNELS, encoder.layer3[0]),
        _piece(2 * CHANNELS, encoder.layer3[1], _WithLocalMeans()),
        Piece(pyramid, CHANNELS, halo=pyramid.halo, inside=True),
        _piece(model.channels, *decoder.smooth, decoder.classifier),
    )


def _piece(channels: int, *modules: nn.Module) -> Piece:
    """Chain modules, and compute the halo (receptive field beyond the cell) of the chain."""
    reach, shrink = 0, 1  # cells of the piece's input
    for module in modules:
        for kernel, stride, dilation in _windows(module):
            reach += shrink * dilation * (kernel // 2)
            shrink *= stride
    return Piece(nn.Sequential(*modules), channels, shrink, -(-reach // shrink))


def _windows(module: nn.Module) -> list[tuple[int, int, int]]:
    """Return kernel size, stride and dilation of the sliding windows of a module, in their order."""
    if isinstance(module, BasicBlock):
        return [*_windows(module.conv1), *_windows(module.conv2)]
    if isinstance(module, nn.Conv2d):
        return [(module.kernel_size[0], module.stride[0], module.dilation[0])]
    if isinstance(module, nn.MaxPool2d):
        assert isinstance(module.kernel_size, int) and isinstance(module.stride, int)
        return [(module.kernel_size, module.stride, 1)]
    if isinstance(module, _WithLocalMeans):
        return [(2, 1, 1)]
    return []


class _Step(nn.Module):
    """Methods of a model, chained, as a module."""

    def __init__(self, model: SegmentationModel, *methods: str) -> None:
        super().__init__()
        self.model = model
        self.methods = methods

    def forward(self, x: Tensor) -> Tensor:
        for method in self.methods:
            x = getattr(self.model, method)(x)
        return x


class _WithLocalMeans(nn.Module):
    """(1, C, h, w) -> (1, 2 C, h, w): features and :class:`~floemap.learning.models.aspp.LocalMean`, concatenated."""

    def __init__(self) -> None:
        super().__init__()
        self.mean = LocalMean()

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([x, self.mean(x)], dim=1)


def _without_padding(convolution: nn.Conv2d) -> nn.Conv2d:
    """Return a convolution with the same weights, of no special class, that does not pad."""
    c = convolution
    kernel, dilation = c.kernel_size[0], c.dilation[0]
    own = nn.Conv2d(c.in_channels, c.out_channels, kernel, dilation=dilation, groups=c.groups, device="meta")
    own.weight, own.bias = c.weight, c.bias
    return own


class _PyramidInside(nn.Module):
    """The branches of the decoder, concatenated and projected; the output excludes the halo.

    The input of each branch is cropped to its receptive field, and its convolution does not pad, so that nothing is
    computed in the halo. Input: features and their local means, (1, 2 C, h + 2 halo, w + 2 halo); output:
    (1, 256, h, w).
    """

    def __init__(self, decoder: AsppDecoder) -> None:
        super().__init__()
        self.project = decoder.project
        self.branches = nn.ModuleList()
        self.reaches: list[int | None] = []  # None for the branch of the local means
        for branch in decoder.branches:
            assert isinstance(branch, nn.Sequential)
            first, rest = branch[0], list(branch)[1:]
            if isinstance(first, nn.Conv2d):
                self.reaches.append(first.dilation[0] * (first.kernel_size[0] // 2))
                self.branches.append(nn.Sequential(_without_padding(first), *rest))
            else:
                self.reaches.append(None)
                self.branches.append(nn.Sequential(*rest))
        self.halo = max(reach or 0 for reach in self.reaches)

    def forward(self, x: Tensor) -> Tensor:
        features, means = x.chunk(2, dim=1)
        parts = [
            branch(self._cut(means, 0) if reach is None else self._cut(features, reach))
            for branch, reach in zip(self.branches, self.reaches, strict=True)
        ]
        return self.project(torch.cat(parts, dim=1))  # type: ignore[no-any-return]

    def _cut(self, x: Tensor, reach: int) -> Tensor:
        """Crop the halo to `reach` cells on each side."""
        a = self.halo - reach
        return x[..., a:-a, a:-a] if a else x


def merge_batch_norms(model: SegmentationModel) -> SegmentationModel:
    """Merge each BatchNorm that directly follows a convolution into it, in place; the model is in evaluation mode.

    A run over a few pixels shows which BatchNorm follows which convolution.
    """
    made: list[tuple[nn.Conv2d, Tensor]] = []
    pairs: list[tuple[nn.Conv2d, _BatchNorm]] = []

    def after_convolution(module: nn.Module, given: tuple[Tensor, ...], out: Tensor) -> None:
        assert isinstance(module, nn.Conv2d)
        made.append((module, out))

    def before_norm(module: nn.Module, given: tuple[Tensor, ...]) -> None:
        assert isinstance(module, _BatchNorm)
        pairs.extend((conv, module) for conv, out in made if out is given[0])

    hooks = [m.register_forward_hook(after_convolution) for m in model.modules() if isinstance(m, nn.Conv2d)]
    hooks += [m.register_forward_pre_hook(before_norm) for m in model.modules() if isinstance(m, _BatchNorm)]
    side = 4 * model.alignment_px
    with torch.no_grad():
        model(torch.zeros(1, len(model.bands), side, side, device=model.mean.device))
    for hook in hooks:
        hook.remove()
    instead: dict[nn.Module, nn.Module] = {}
    for conv, norm in pairs:
        instead |= {conv: fuse_conv_bn_eval(conv, norm), norm: nn.Identity()}
    for parent in list(model.modules()):
        for name, child in list(parent.named_children()):
            if child in instead:
                setattr(parent, name, instead[child])
    return model
