"""Class weights of a loss, from the number of pixels of each class in the training parts."""

from __future__ import annotations

import logging
from collections.abc import Sequence

import torch
from torch import Tensor

from floemap.errors import ConfigError, TrainingError, known_names

logger = logging.getLogger(__name__)

#: Values of ``LossSettings.class_weights``.
SCHEMES = ("none", "inverse", "effective_number")


def class_weights(pixels: Sequence[int], scheme: str, beta: float = 0.9999999) -> Tensor:
    """Return a weight for each class, (K,) float64.

    ``none``: ones. ``inverse``: 1 / n, with the number n of pixels of the class. ``effective_number``:
    (1 - beta) / (1 - beta^n). The latter two are scaled to a mean of 1 over the classes that have pixels. A class
    without pixels gets weight 0, and a warning is logged: pixels of it do not count in the loss.

    The effective number of samples approaches 1 / (1 - beta): with beta 0.9999 all classes with more than about 50 000
    pixels have equal weights. For counts in the millions beta must be closer to 1, such as 0.9999999.

    Reference: Y. Cui et al., "Class-balanced loss based on effective number of samples", CVPR 2019.

    Parameters
    ----------
    pixels
        Number of pixels of each class, in the order of their ids.
    scheme
        One of :data:`SCHEMES`.
    beta
        At least 0 and below 1; 0 gives equal weights.

    Raises
    ------
    ConfigError
        If there is no such scheme, or beta is out of range.
    TrainingError
        If no class has a pixel.
    """
    if scheme not in SCHEMES:
        raise ConfigError(f"no class weights are called {scheme!r}.", hint=known_names(scheme, SCHEMES))
    if not 0 <= beta < 1:
        raise ConfigError(f"beta of the effective number is {beta}; it must be at least 0 and below 1.")
    n = torch.tensor(list(pixels), dtype=torch.float64)
    present = n > 0
    if not present.any():
        raise TrainingError(
            "no pixel of the training parts has a class.", hint="Check that the right charts were labelled."
        )
    if scheme == "none":
        return torch.ones_like(n)
    if not present.all():
        absent = ", ".join(str(k) for k in torch.nonzero(~present).flatten().tolist())
        logger.warning("no training pixel has class %s: its weight in the loss is 0 and it cannot be learnt", absent)
    if scheme == "inverse":
        effective = n
    else:  # 1 - beta^n without loss of digits
        effective = -torch.expm1(n * torch.log(torch.tensor(beta, dtype=torch.float64))) / (1 - beta)
    weights = torch.where(present, 1 / torch.where(present, effective, 1.0), 0.0)
    return weights / weights[present].mean()
