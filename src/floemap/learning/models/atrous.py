"""Rates of atrous convolutions, and which of them crops of a given size can train.

A tap `rate` cells from the centre reads data only if the crop is wider than that. A tap that no crop reaches has a
gradient of exactly zero: it keeps its initial weight in training, but reads real features when whole scenes are
predicted; :func:`check_rates` refuses such rates. A tap that few cells of a crop reach is trained on a distribution
that differs from the one it is used on; :func:`warn_of_few_taps` warns of it.
"""

from __future__ import annotations

import logging
import math
from typing import Any

from floemap.errors import ConfigError
from floemap.learning.models.checkpoint_header import read_about
from floemap.learning.settings import CropSettings, LearningSettings, ModelSettings

logger = logging.getLogger(__name__)

#: Published rates, at output stride 16: 192, 384 and 576 px. Checkpoints that do not name their rates have these.
PUBLISHED_RATES = (12, 24, 36)
#: Output stride for which rates are given. At a stride of 8 they are doubled, so that the reach in pixels is equal.
RATES_STRIDE = 16
#: Models with atrous convolutions.
ATROUS_MODELS = ("resnet18_aspp", "resnet18_aspp_dense")
#: A branch counts as well trained if at least this many of its eight outer taps lie inside the crop, on average.
_ENOUGH_TAPS = 4.0


def rates_in_cells(rates: tuple[int, ...], output_stride: int) -> tuple[int, ...]:
    """Return rates in cells of the features at `output_stride`."""
    return tuple(rate * RATES_STRIDE // output_stride for rate in rates)


def active_taps(rate: int, size_px: int, context_px: int = 0, stride: int = RATES_STRIDE) -> float:
    """Return how many of the eight outer taps lie inside a crop, averaged over the cells that the loss counts.

    Parameters
    ----------
    rate
        Rate in cells.
    size_px, context_px
        Side of the crop, and its context on each side, which the loss does not count, in pixels.
    stride
        Pixels of a cell.
    """
    cells = -(-(size_px + 2 * context_px) // stride)
    first, last = context_px // stride, -(-(context_px + size_px) // stride)
    inside = sum(0 <= at + step < cells for at in range(first, last) for step in (-rate, rate))
    along = inside / (last - first)  # of the two taps along one axis
    return 2 * along + along**2


def trainable_rates(crops: CropSettings) -> tuple[int, int, int]:
    """Return the largest rates in the published ratio 1 : 2 : 3 that crops train well, at most the published ones.

    At least half of the outer taps of the widest branch must lie inside a crop, on average. A tap at rate r along one
    axis is inside for a share s = (n - r) / n of the n cells of a crop. The mean number of taps inside, 4 s + 4 s^2,
    is four for s = (sqrt(5) - 1) / 2, so that the largest rate is 0.38 n.
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
    """Return the settings with the rates filled in, if none are given.

    They follow from the size of the crops, or are those of the checkpoint that the training starts from.

    Raises
    ------
    ConfigError
        If crops never reach a rate, or rates are given for a model without atrous convolutions.
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
    """Refuse rates that no crop reaches.

    Raises
    ------
    ConfigError
        If an outer tap of the model would never read data in training.
    """
    across_px = -(-(crops.size_px + 2 * crops.context_px) // model.output_stride) * model.output_stride
    for rate in model.rates or ():
        if rate * RATES_STRIDE >= across_px:
            raise ConfigError(
                f"model.rates has {rate}, which reaches {rate * RATES_STRIDE} px, but crops have {_size(crops)}: the "
                "outer taps of that branch would never see data in training, but would be used on whole scenes.",
                hint=f"Leave model.rates out (these crops train {', '.join(map(str, trainable_rates(crops)))}), "
                "or raise crops.size_px or crops.context_px.",
            )


def warn_of_few_taps(model: ModelSettings, crops: CropSettings) -> None:
    """Log how many outer taps of each branch lie inside crops; as a warning if it is fewer than half."""
    for branch in describe_rates(model, crops):
        logger.log(
            logging.WARNING if branch["active_taps"] < _ENOUGH_TAPS else logging.INFO,
            "the atrous branch of rate %d (%d px) has %.1f of its 8 outer taps inside crops of %s, on average, but "
            "all of them inside whole scenes",
            branch["rate"],
            branch["reach_px"],
            branch["active_taps"],
            _size(crops),
        )


def _size(crops: CropSettings) -> str:
    return f"{crops.size_px} px" + (f" with a context of {crops.context_px} px" if crops.context_px else "")


def describe_rates(model: ModelSettings, crops: CropSettings) -> list[dict[str, Any]]:
    """Return rate, reach and mean number of taps inside a crop of each atrous branch, for records."""
    stride = model.output_stride
    return [
        {
            "rate": rate,
            "reach_px": rate * RATES_STRIDE,
            "active_taps": round(active_taps(cells, crops.size_px, crops.context_px, stride), 2),
        }
        for rate, cells in zip(model.rates or (), rates_in_cells(model.rates or (), stride), strict=True)
    ]
