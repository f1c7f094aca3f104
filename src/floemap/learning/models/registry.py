"""The models by name. A further one is a further line of :data:`MODELS`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from types import MappingProxyType

from floemap.errors import ConfigError, known_names
from floemap.learning.models.aspp import ResNet18Aspp
from floemap.learning.models.base import SegmentationModel
from floemap.learning.models.encoder_weights import load_encoder
from floemap.learning.models.unet import UNet
from floemap.learning.settings import ModelSettings

__all__ = ["MODELS", "SegmentationModel", "build_model", "load_encoder"]

#: What builds a model, untrained, from its settings and the number of classes.
MODELS: Mapping[str, Callable[[ModelSettings, int], SegmentationModel]] = MappingProxyType(
    {
        "resnet18_aspp": partial(ResNet18Aspp, separable=True),
        "resnet18_aspp_dense": partial(ResNet18Aspp, separable=False),
        "unet": UNet,
    }
)


def check_name(name: str) -> None:
    """Raise :class:`ConfigError` if no model has that name, with the names that there are."""
    if name not in MODELS:
        raise ConfigError(f"no model is called {name!r}.", hint=known_names(name, MODELS))


def build_model(settings: ModelSettings, classes: int) -> SegmentationModel:
    """Build a model with random weights (by torch's global seed), its encoder from ImageNet where settings say so.

    It is in training mode and normalises with mean 0 and standard deviation 1 until told otherwise by
    :meth:`SegmentationModel.set_normalisation`.

    Raises
    ------
    ConfigError
        If no model has that name, with the names that there are, or the number of classes cannot be.
    ModelError
        If the encoder's weights cannot be loaded.
    """
    check_name(settings.name)
    model = MODELS[settings.name](settings, classes)
    if settings.encoder_weights is not None:
        load_encoder(model, settings.encoder_weights)
    return model
