"""Compiles the encoder and the decoder of a network, but not the upsampling and the loss.

With torch 2.13.0, a compiled region that included the last bilinear upsampling gave gradients of exactly zero at
several shapes, without any error. A test compares the gradients with those of the network that is not compiled.
"""

from __future__ import annotations

import copy
from types import MethodType

import torch

from floemap.learning.models.base import SegmentationModel


def compiled_view(model: SegmentationModel, backend: str = "inductor") -> SegmentationModel:
    """Return a view of a model that runs compiled code, and shares all parameters, buffers and modules with it.

    The model itself is not changed: validation has inputs of many shapes and would compile for each of them.
    """
    view = copy.copy(model)
    kind = type(model)
    view.encode = MethodType(torch.compile(kind.encode, backend=backend), view)  # type: ignore[method-assign]
    view.decode = MethodType(torch.compile(kind.decode, backend=backend), view)  # type: ignore[method-assign]
    return view
