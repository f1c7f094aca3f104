"""The same network with fewer passes over memory, for a processor.

ReLU and the sum of a residual block are computed by oneDNN within the convolution before them, and the weights are kept
in the order in which its kernels read them. torch does both when it compiles a network (inductor), by the same
operators; compiling takes longer than predicting a scene. The sum of a block is rounded once instead of twice, so that
in bf16 the logits change within its precision.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from floemap.learning.models.resnet import BasicBlock

#: Integers whose order is that of floating-point numbers of the same size that are not negative.
_BITS = {torch.bfloat16: torch.int16, torch.float32: torch.int32}


def can_fuse(device: torch.device) -> bool:
    """Return whether torch has the operators in bf16 on this device."""
    if device.type != "cpu" or not torch.backends.mkldnn.is_available():  # type: ignore[no-untyped-call]
        return False
    operators = torch.ops.mkldnn
    return hasattr(operators, "_convolution_pointwise") and bool(operators._is_mkldnn_bf16_supported())


def fused(module: nn.Module) -> nn.Module:
    """Fuse what follows convolutions in blocks and sequences within a module; its BatchNorms are merged already."""
    if isinstance(module, BasicBlock):
        return _Block(module)
    for name, child in list(module.named_children()):
        setattr(module, name, fused(child))
    return nn.Sequential(*_sequence(module)) if isinstance(module, nn.Sequential) else module


def _sequence(modules: nn.Sequential) -> Iterator[nn.Module]:
    """Yield the modules of a sequence; a convolution and the ReLU after it, and the pooling of ResNet, as one each."""
    left = [m for m in modules if not isinstance(m, nn.Identity)][::-1]
    relu = False
    while left:
        module = left.pop()
        if type(module) is nn.Conv2d and left and isinstance(left[-1], nn.ReLU):
            left.pop()
            module = _Convolution(module)
        elif relu and isinstance(module, nn.MaxPool2d) and _window(module) == (3, 2, 1):
            module = _Pool()
        yield module
        relu = isinstance(module, _Convolution)


def _window(pool: nn.MaxPool2d) -> tuple[object, ...]:
    return pool.kernel_size, pool.stride, pool.padding


class _Convolution(nn.Module):
    """A convolution, the sum with a residual if one is given, and ReLU."""

    def __init__(self, convolution: nn.Conv2d) -> None:
        super().__init__()
        c = convolution
        assert isinstance(c.padding, tuple)
        self._how = (list(c.padding), list(c.stride), list(c.dilation), c.groups)
        self.weight, self.bias = c.weight.detach(), None if c.bias is None else c.bias.detach()

    def forward(self, x: Tensor, residual: Tensor | None = None) -> Tensor:
        """Shapes as of the convolution; `residual` has that of the output, and is overwritten."""
        if residual is None:
            return torch.ops.mkldnn._convolution_pointwise(  # type: ignore[no-any-return]
                x, self.weight, self.bias, *self._how, "relu", [], ""
            )
        return torch.ops.mkldnn._convolution_pointwise_.binary(  # type: ignore[no-any-return]
            residual, x, self.weight, self.bias, *self._how, "add", 1.0, "relu", [], ""
        )


class _Block(nn.Module):
    """A residual block; the input is overwritten."""

    def __init__(self, block: BasicBlock) -> None:
        super().__init__()
        self.first, self.second = _Convolution(block.conv1), _Convolution(block.conv2)
        self.downsample = block.downsample

    def forward(self, x: Tensor) -> Tensor:
        """Shapes as of :class:`BasicBlock`."""
        past = x if self.downsample is None else self.downsample(x)
        return self.second(self.first(x), past)  # type: ignore[no-any-return]


class _Pool(nn.Module):
    """The maximum of 3 x 3 cells, a stride of 2, of what is not negative, (1, C, h, w) with even h and w."""

    def forward(self, x: Tensor) -> Tensor:
        """(1, C, h, w) -> (1, C, h / 2, w / 2)."""
        return _of_three(_of_three(x.view(_BITS[x.dtype]), 2), 3).view(x.dtype)


def _of_three(x: Tensor, dim: int) -> Tensor:
    """Return the maximum of each second value, the one before it and the one after it, along a dimension."""
    even, odd = torch.unflatten(x, dim, (-1, 2)).unbind(dim + 1)
    found = torch.maximum(even, odd)
    n = found.shape[dim] - 1
    inner = found.narrow(dim, 1, n)
    torch.maximum(inner, odd.narrow(dim, 0, n), out=inner)
    return found
