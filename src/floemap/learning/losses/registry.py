"""The losses by name. A further loss is a module beside this one and a line in :data:`LOSSES`."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from torch import Tensor

from floemap.errors import ConfigError, known_names
from floemap.learning.losses.base import Loss
from floemap.learning.losses.class_weights import class_weights
from floemap.learning.losses.cross_entropy import CrossEntropy
from floemap.learning.losses.dice import GeneralizedDice, MacroDice, PooledDice
from floemap.learning.losses.focal import Focal
from floemap.learning.settings import LossSettings

#: Makes a loss from its settings, the number of classes K, and the class weights, (K,) or None.
MakeLoss = Callable[[LossSettings, int, Tensor | None], Loss]

LOSSES: dict[str, MakeLoss] = {
    "cross_entropy": CrossEntropy.make,
    "generalized_dice": GeneralizedDice.make,
    "dice": GeneralizedDice.make,
    "macro_dice": MacroDice.make,
    "pooled_dice": PooledDice.make,
    "focal": Focal.make,
}


def register_loss(name: str, make: MakeLoss) -> None:
    """Add a loss, so that settings can name it. This holds for the current process.

    The worker processes of a comparison with `jobs` above 1 do not have the loss. A finished training is identified by
    the name of its loss: if you change the code, change the name too.

    Parameters
    ----------
    name
        Name for ``[loss] name`` and ``[compare] losses``, of small letters, digits and underscores. It must be new.
    make
        Function that returns the :class:`Loss`, called as make(settings, classes, weights) with the number of classes K
        and the class weights, (K,) or None.

    Raises
    ------
    ConfigError
        If the name is taken, or is not a valid name.
    """
    if not re.fullmatch(r"[a-z][a-z0-9_]*", name):
        raise ConfigError(f"{name!r} is not a valid name of a loss.", hint="Use small letters, digits and underscores.")
    if name in LOSSES:
        raise ConfigError(f"there is a loss called {name!r} already.", hint="Choose another name.")
    LOSSES[name] = make


def make_loss(settings: LossSettings, classes: int, class_pixels: Sequence[int] | None = None) -> Loss:
    """Make the loss that the settings name; "dice" is generalized_dice.

    Parameters
    ----------
    settings
        Name and parameters of the loss.
    classes
        Number of classes, K.
    class_pixels
        Number of pixels of each class in the training parts, (K,); needed for class weights only.

    Raises
    ------
    ConfigError
        If no loss has that name (the message lists the known ones); if alpha does not fit the classes; if class weights
        are set and the loss takes none, or the numbers of pixels are missing.
    TrainingError
        If class weights are set and no class has a pixel.
    """
    try:
        make = LOSSES[settings.name]
    except KeyError:
        raise ConfigError(f"no loss is called {settings.name!r}.", hint=known_names(settings.name, LOSSES)) from None
    if settings.class_weights == "none":
        return make(settings, classes, None)
    if class_pixels is None or len(class_pixels) != classes:
        raise ConfigError(
            f"class weights {settings.class_weights!r} need the number of training pixels of each of the {classes} "
            f"classes; it is {None if class_pixels is None else list(class_pixels)}."
        )
    return make(settings, classes, class_weights(class_pixels, settings.class_weights, settings.beta))
