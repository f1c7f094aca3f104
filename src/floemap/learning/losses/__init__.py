"""Losses and class weights: :class:`Loss`, :func:`make_loss` and what a loss of one's own needs.

The names load when they are first used: importing the package does not import torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from floemap.learning.losses.base import Loss, ratio
    from floemap.learning.losses.registry import LOSSES, make_loss
    from floemap.learning.losses.values import ValueLoss

__all__ = ["LOSSES", "Loss", "ValueLoss", "make_loss", "ratio"]


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module = {"Loss": "base", "ratio": "base", "ValueLoss": "values"}.get(name, "registry")
    return getattr(import_module(f"{__name__}.{module}"), name)
