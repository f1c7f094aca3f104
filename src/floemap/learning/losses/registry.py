"""The losses by name. A further loss is a module beside this one and a line in :data:`LOSSES`.

A loss from elsewhere needs neither: settings name it by import string, ``module:Class``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

from floemap.config import Settings
from floemap.errors import ConfigError, known_names
from floemap.learning.losses.base import BaseLoss, Loss
from floemap.learning.losses.class_weights import class_weights
from floemap.learning.losses.cross_entropy import CrossEntropy, CrossEntropyDice, LabelSmoothing
from floemap.learning.losses.dice import FocalTversky, GeneralizedDice, MacroDice, PooledDice, Tversky
from floemap.learning.losses.earth_mover import EarthMover
from floemap.learning.losses.focal import Focal
from floemap.learning.losses.lovasz import LovaszSoftmax
from floemap.learning.losses.partial_labels import PartialLabel, SoftCrossEntropy
from floemap.learning.losses.region import Region, RegionPixel
from floemap.learning.losses.values import VALUE_LOSSES, ValueLoss
from floemap.learning.settings import LossSettings
from floemap.plugins import identity, imported_class

LOSSES: Mapping[str, type[BaseLoss]] = MappingProxyType(
    {
        "cross_entropy": CrossEntropy,
        "generalized_dice": GeneralizedDice,
        "dice": GeneralizedDice,
        "macro_dice": MacroDice,
        "pooled_dice": PooledDice,
        "focal": Focal,
        "label_smoothing": LabelSmoothing,
        "cross_entropy_dice": CrossEntropyDice,
        "tversky": Tversky,
        "focal_tversky": FocalTversky,
        "lovasz_softmax": LovaszSoftmax,
        "earth_mover": EarthMover,
        "soft_cross_entropy": SoftCrossEntropy,
        "partial_label": PartialLabel,
        "region": Region,
        "region_pixel": RegionPixel,
    }
)


def loss_class(name: str, setting: str = "loss") -> type[BaseLoss]:
    """Return the class of a loss of classes or of their shares.

    Parameters
    ----------
    name
        A name in :data:`LOSSES`, or an import string.
    setting
        The table of a configuration that names the loss, for messages.

    Raises
    ------
    ConfigError
        If no loss has that name (the message lists the known ones), it is a loss of values, or it cannot be imported.
    """
    if ":" in name:
        where = f"{setting}.{'name' if setting == 'loss' else 'loss'}"
        return imported_class(name, BaseLoss, where, usual=Loss)  # type: ignore[type-abstract]
    if name in VALUE_LOSSES:
        raise ConfigError(
            f"{name} is a loss of values, such as the concentration; classes and their shares need another loss.",
            hint=f"Known: {', '.join(LOSSES)}.",
        )
    if name not in LOSSES:
        raise ConfigError(
            f"no loss is called {name!r}.",
            hint=f"{known_names(name, LOSSES)} A loss of your own is named by import string, module:Class.",
        )
    return LOSSES[name]


def value_loss_class(name: str, setting: str) -> type[ValueLoss]:
    """Return the class of a loss of values; parameters and errors as of :func:`loss_class`."""
    if ":" in name:
        return imported_class(name, ValueLoss, f"{setting}.loss")  # type: ignore[type-abstract]
    if name not in VALUE_LOSSES:
        what = "is a loss of classes, not of values" if name in LOSSES else "is not the name of a loss of values"
        raise ConfigError(
            f"{setting}.loss: {name} {what}.",
            hint=f"{known_names(name, VALUE_LOSSES)} A loss of your own is named by import string, module:Class.",
        )
    return VALUE_LOSSES[name]


def loss_identity(cls: type[Any]) -> str | None:
    """Return the SHA-256 of the source of a loss of the user's; None for the losses of floemap."""
    return None if cls in (*LOSSES.values(), *VALUE_LOSSES.values()) else identity(cls)


def make_value_loss(name: str, options: Mapping[str, Any], setting: str) -> ValueLoss:
    """Make a loss of values.

    Parameters
    ----------
    name, options
        Name of the loss, and its options.
    setting
        The table that names it, such as "tasks.concentration", for messages.

    Raises
    ------
    ConfigError
        As :func:`value_loss_class` does; and if the loss does not have an option, or a value is out of range.
    """
    cls = value_loss_class(name, setting)
    return cls(_options(cls, name, options, f"{setting}.options"))


def _options(cls: type[BaseLoss] | type[ValueLoss], name: str, given: Mapping[str, Any], table: str) -> Settings:
    """Return the options of a loss, checked."""
    try:
        return cls.Options.checked(**given)
    except ConfigError as e:
        known = ", ".join(cls.Options.model_fields) or "none"
        raise ConfigError(f"[{table}] for {name}: {e.message}", hint=f"Options of {name}: {known}.") from e


def make_loss(
    settings: LossSettings,
    classes: int,
    class_pixels: Sequence[int] | None = None,
    *,
    order: Sequence[int] | None = None,
    setting: str = "loss",
) -> BaseLoss:
    """Make the loss that the settings name; "dice" is generalized_dice.

    Parameters
    ----------
    settings
        Name and options of the loss.
    classes
        Number of classes, K.
    class_pixels
        Number of pixels of each class in the training parts, (K,); needed for class weights only.
    order
        Ids of the classes from water to the thickest ice, (K,), for losses that use it. By default the ids ascend.
    setting
        The table of a configuration that names the loss, for messages.

    Raises
    ------
    ConfigError
        If no loss has that name (the message lists the known ones) or it cannot be imported; if it does not have an
        option, or a value is out of range; if class weights are set and the loss takes none, or the numbers of pixels
        are missing.
    TrainingError
        If class weights are set and no class has a pixel.
    """
    cls = loss_class(settings.name, setting)
    options = _options(cls, settings.name, settings.options, f"{setting}.options")
    weights = None
    if settings.class_weights != "none":
        if not cls.takes_weights:
            raise ConfigError(
                f"{settings.name} takes no class weights, but class_weights is {settings.class_weights!r}.",
                hint='Set class_weights = "none", or choose a loss that takes them, such as cross_entropy or focal.',
            )
        if class_pixels is None or len(class_pixels) != classes:
            raise ConfigError(
                f"class weights {settings.class_weights!r} need the number of training pixels of each of the {classes} "
                f"classes; it is {None if class_pixels is None else list(class_pixels)}."
            )
        weights = class_weights(class_pixels, settings.class_weights, settings.beta)
    return cls(classes, options, weights, order)
