"""Compile a network, but not what follows it.

With torch 2.13.0 a compiled region that holds the last bilinear upsampling gave gradients of exactly zero at several
shapes, without a word. So encoder and decoder are compiled, and upsampling and loss are not; a test compares the
gradients with those of the plain network.
"""

from __future__ import annotations

import copy
from types import MethodType

import torch

from floemap.learning.models.base import SegmentationModel


def compiled_view(model: SegmentationModel, backend: str = "inductor") -> SegmentationModel:
    """Return a view of a model that runs compiled code, and shares all parameters, buffers and modules with it.

    The model itself goes on as it is: validation sees many shapes and would compile for each.
    """
    view = copy.copy(model)
    kind = type(model)
    view.encode = MethodType(torch.compile(kind.encode, backend=backend), view)  # type: ignore[method-assign]
    view.decode = MethodType(torch.compile(kind.decode, backend=backend), view)  # type: ignore[method-assign]
    return view
