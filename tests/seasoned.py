"""Models as training may leave them: with statistics of their own, and outer taps that are no longer 0."""

from __future__ import annotations

from typing import TypeVar

from torch import nn

Model = TypeVar("Model", bound=nn.Module)


def seasoned(model: Model) -> Model:
    """Draw BatchNorm's statistics and scales, and all taps of the atrous convolutions, so that a mixed-up one shows."""
    for m in model.modules():
        if isinstance(m, nn.BatchNorm2d):
            assert m.running_mean is not None and m.running_var is not None
            m.running_mean.normal_(0, 0.2)
            m.running_var.uniform_(0.5, 2)
            nn.init.uniform_(m.weight, 0.5, 1.5)
            nn.init.normal_(m.bias, 0, 0.2)
        if isinstance(m, nn.Conv2d) and m.kernel_size == (3, 3) and not m.weight[..., 0, 0].any():
            nn.init.kaiming_normal_(m.weight, mode="fan_in", nonlinearity="relu")
    return model
