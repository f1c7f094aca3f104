"""Weights of the classes in a loss, from how many pixels each has in the training parts."""

from __future__ import annotations

import logging
from collections.abc import Sequence

import torch
from torch import Tensor

from floemap.errors import ConfigError, TrainingError, known_names

logger = logging.getLogger(__name__)

#: What ``LossSettings.class_weights`` may be.
SCHEMES = ("none", "inverse", "effective_number")


def class_weights(pixels: Sequence[int], scheme: str, beta: float = 0.9999999) -> Tensor:
    """Return a weight for each class, (K,) float64.

    ``none``: ones. ``inverse``: 1 / n, n being the class's pixels. ``effective_number``: (1 - beta) / (1 - beta^n).
    The latter two are scaled to mean 1 over the classes that have pixels. A class without any gets weight 0, and the
    log a warning: nothing was there to learn it from, and pixels of it, should some come up, are not learnt from.

    The effective number of samples approaches 1 / (1 - beta): with beta 0.9999 all classes beyond some 50 000 pixels
    weigh the same. For counts in millions beta must be nearer to 1, such as 0.9999999.

    Reference: Y. Cui et al., "Class-balanced loss based on effective number of samples", CVPR 2019.

    Parameters
    ----------
    pixels
        Of each class, in the order of their ids.
    scheme
        One of :data:`SCHEMES`.
    beta
        At least 0 and below 1; 0 gives equal weights.

    Raises
    ------
    ConfigError
        If there is no such scheme or beta is out of range.
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
        raise TrainingError("no pixel of the training parts has a class.", hint="Were the right charts labelled?")
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
