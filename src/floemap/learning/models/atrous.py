"""Rates of atrous convolutions: which ones patches of a given size can train.

A tap that lies `rate` cells from the centre reads data only where a patch is wider than that. A tap that no patch
reaches has a gradient of exactly zero: it keeps its initial weight through training, and reads real features once whole
scenes are predicted. A tap that few cells of a patch reach is trained on another distribution than it is used on. The
numbers here say how often each branch's taps are inside a patch; :func:`check_rates` refuses the first case, and
:func:`warn_of_few_taps` names the second.
"""

from __future__ import annotations

import logging
import math
from typing import Any

from floemap.errors import ConfigError
from floemap.learning.models.checkpoint_header import read_about
from floemap.learning.settings import CropSettings, LearningSettings, ModelSettings

logger = logging.getLogger(__name__)

#: Rates as published, at output stride 16: 192, 384 and 576 px. Also of checkpoints that do not name theirs.
PUBLISHED_RATES = (12, 24, 36)
#: The output stride at which rates are given. At a stride of 8 they are doubled, so that the reach in pixels stays.
RATES_STRIDE = 16
#: The models that have rates.
ATROUS_MODELS = ("resnet18_aspp", "resnet18_aspp_dense")
#: Of eight outer taps, how many a cell of a patch shall see on average for its branch to be trained as it is used.
_ENOUGH_TAPS = 4.0


def rates_in_cells(rates: tuple[int, ...], output_stride: int) -> tuple[int, ...]:
    """Return rates in cells of the features at `output_stride`."""
    return tuple(rate * RATES_STRIDE // output_stride for rate in rates)


def active_taps(rate: int, size_px: int, context_px: int = 0, stride: int = RATES_STRIDE) -> float:
    """Return how many of the eight outer taps lie inside a patch, averaged over the cells that the loss sees.

    Parameters
    ----------
    rate
        Cells between the taps.
    size_px, context_px
        Of the patch: its inner part, where the loss is taken, and what surrounds it on each side.
    stride
        Pixels of a cell.
    """
    cells = -(-(size_px + 2 * context_px) // stride)
    first, last = context_px // stride, -(-(context_px + size_px) // stride)
    inside = sum(0 <= at + step < cells for at in range(first, last) for step in (-rate, rate))
    along = inside / (last - first)  # of the two taps along one axis
    return 2 * along + along**2


def trainable_rates(crops: CropSettings) -> tuple[int, int, int]:
    """Return rates in the published ratio 1 : 2 : 3, as large as patches train well, at most the published ones.

    The widest branch shall see at least half of its outer taps, averaged over a patch. A tap at rate r along one axis
    is inside for a share s = (n - r) / n of a patch's n cells, and a mean of 4 s + 4 s^2 of eight taps is four where
    s = (sqrt(5) - 1) / 2: so the widest rate is 0.38 n.
    """
    cells = -(-crops.size_px // RATES_STRIDE)
    widest = (3 - math.sqrt(5)) / 2 * cells + crops.context_px / RATES_STRIDE
    unit = max(1, int(widest / 3))
    reached = -(-(crops.size_px + 2 * crops.context_px) // RATES_STRIDE) - 1
    first, second, third = (
        min(k * unit, published, reached) for k, published in zip((1, 2, 3), PUBLISHED_RATES, strict=True)
    )
    return first, second, third


def with_rates(settings: LearningSettings) -> LearningSettings:
    """Return the settings with the rates that the model will have, where none are given.

    They are chosen by the patches; a training that starts from a checkpoint takes the checkpoint's.

    Raises
    ------
    ConfigError
        If patches never reach a rate, or rates are given for a model that has none.
    ModelError
        If the checkpoint cannot be read.
    """
    model = settings.model
    if model.name not in ATROUS_MODELS:
        if model.rates is not None:
            raise ConfigError(f"model.rates is given, but the model {model.name!r} has no atrous convolutions.")
        return settings
    if model.rates is None:
        if model.start_from is None:
            rates = trainable_rates(settings.crops)
        else:
            rates = tuple(read_about(model.start_from)["model"].get("rates") or PUBLISHED_RATES)
        model = model.model_copy(update={"rates": rates})
    check_rates(model, settings.crops)
    return settings.model_copy(update={"model": model})


def check_rates(model: ModelSettings, crops: CropSettings) -> None:
    """Refuse rates that no patch reaches.

    Raises
    ------
    ConfigError
        If an outer tap of the model can never read data in training.
    """
    across_px = -(-(crops.size_px + 2 * crops.context_px) // model.output_stride) * model.output_stride
    for rate in model.rates or ():
        if rate * RATES_STRIDE >= across_px:
            raise ConfigError(
                f"model.rates has {rate}, which reaches {rate * RATES_STRIDE} px, but patches have {_size(crops)}: the "
                "outer taps of that branch would never see data in training, and would read whole scenes untrained.",
                hint=f"Leave model.rates out (these patches train {', '.join(map(str, trainable_rates(crops)))}), "
                "or raise crops.size_px or crops.context_px.",
            )


def warn_of_few_taps(model: ModelSettings, crops: CropSettings) -> None:
    """Log how many outer taps each branch has inside patches: as a warning where it is less than half of them."""
    for branch in describe_rates(model, crops):
        logger.log(
            logging.WARNING if branch["active_taps"] < _ENOUGH_TAPS else logging.INFO,
            "the atrous branch of rate %d (%d px) sees %.1f of its 8 outer taps in patches of %s, on average, and all "
            "of them inside whole scenes",
            branch["rate"],
            branch["reach_px"],
            branch["active_taps"],
            _size(crops),
        )


def _size(crops: CropSettings) -> str:
    return f"{crops.size_px} px" + (f" with {crops.context_px} px around" if crops.context_px else "")


def describe_rates(model: ModelSettings, crops: CropSettings) -> list[dict[str, Any]]:
    """Return for each atrous branch its rate, its reach, and the active taps in a patch, for records."""
    stride = model.output_stride
    return [
        {
            "rate": rate,
            "reach_px": rate * RATES_STRIDE,
            "active_taps": round(active_taps(cells, crops.size_px, crops.context_px, stride), 2),
        }
        for rate, cells in zip(model.rates or (), rates_in_cells(model.rates or (), stride), strict=True)
    ]
