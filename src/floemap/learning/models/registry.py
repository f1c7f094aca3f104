"""The models by name. A further model is a module beside this one and a line in :data:`MODELS`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from types import MappingProxyType

from floemap.errors import ConfigError, known_names
from floemap.learning.models.aspp import ResNet18Aspp
from floemap.learning.models.base import SegmentationModel
from floemap.learning.models.pretrained import load_encoder
from floemap.learning.models.unet import UNet
from floemap.learning.settings import ModelSettings

#: Builds an untrained model from its settings and the number of classes.
MODELS: Mapping[str, Callable[[ModelSettings, int], SegmentationModel]] = MappingProxyType(
    {
        "resnet18_aspp": partial(ResNet18Aspp, separable=True),
        "resnet18_aspp_dense": partial(ResNet18Aspp, separable=False),
        "unet": UNet,
    }
)


def check_name(name: str) -> None:
    """Raise :class:`ConfigError`, with the known names, if no model has that name."""
    if name not in MODELS:
        raise ConfigError(f"no model is called {name!r}.", hint=known_names(name, MODELS))


def build_model(settings: ModelSettings, classes: int) -> SegmentationModel:
    """Build a model with random weights (from torch's global seed), or with ImageNet weights in its encoder.

    The model is in training mode. Its normalisation has mean 0 and standard deviation 1 until
    :meth:`SegmentationModel.set_normalisation` is called.

    Raises
    ------
    ConfigError
        If no model has that name, or the number of classes is out of range.
    ModelError
        If the encoder's weights cannot be loaded.
    """
    check_name(settings.name)
    model = MODELS[settings.name](settings, classes)
    if settings.encoder_weights is not None:
        load_encoder(model, settings.encoder_weights)
    return model
