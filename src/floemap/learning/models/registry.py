"""The models by name. A further model is a module beside this one and a line in :data:`MODELS`.

A model from elsewhere needs neither: settings name it by import string, ``module:Class``; see
:mod:`floemap.learning.models.own`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from types import MappingProxyType
from typing import Any

import torch

from floemap.bands import BandSet, assumed_band
from floemap.errors import ConfigError, known_names
from floemap.learning.models.aspp import ResNet18Aspp
from floemap.learning.models.base import SegmentationModel
from floemap.learning.models.foreign import build_own
from floemap.learning.models.own import check_own, is_own
from floemap.learning.models.pretrained import load_encoder
from floemap.learning.models.unet import UNet
from floemap.learning.settings import ModelSettings
from floemap.learning.targets import Head, heads_of
from floemap.sentinel1.encoding import PRODUCT_BANDS

#: Builds an untrained model from its settings, the number of its logits and the bands that it reads.
MODELS: Mapping[str, Callable[[ModelSettings, int, BandSet], SegmentationModel]] = MappingProxyType(
    {
        "resnet18_aspp": partial(ResNet18Aspp, separable=True),
        "resnet18_aspp_dense": partial(ResNet18Aspp, separable=False),
        "unet": UNet,
    }
)


def check_model(settings: ModelSettings) -> None:
    """Check name and options of a model without building it. Only an import string makes this import anything.

    Raises
    ------
    ConfigError
        If no model has that name (the message lists the known ones), it cannot be imported, or it does not have an
        option.
    """
    if is_own(settings.name):
        check_own(settings)
    elif settings.name not in MODELS:
        raise ConfigError(
            f"no model is called {settings.name!r}.",
            hint=f"{known_names(settings.name, MODELS)} A model of your own is named by import string, module:Class.",
        )
    elif settings.options:
        raise ConfigError(
            f"[model.options] sets {next(iter(settings.options))}, but the model {settings.name} has no options.",
            hint="Its settings in [model] are output_stride, rates and dropout.",
        )


def check_builds(settings: ModelSettings, heads: Sequence[Head], bands: Sequence[str], crop_px: int) -> None:
    """Check before any work that a model of a user's own can be built and runs, and that pretrained weights fit.

    Parameters
    ----------
    settings, heads, crop_px
        As of :func:`build_model`.
    bands
        Names of the bands. Units and gaps of layers are not known yet, and are assumed.

    Raises
    ------
    ConfigError, ModelError
        As :func:`build_model` does.
    """
    if is_own(settings.name) or settings.encoder_weights is not None:
        with torch.random.fork_rng(devices=[]):
            build_model(settings, heads, BandSet(tuple(map(assumed_band, bands))), crop_px=crop_px, with_reach=False)


def build_model(
    settings: ModelSettings,
    heads: int | Sequence[Head],
    bands: BandSet = PRODUCT_BANDS,
    *,
    crop_px: int = 256,
    described: Mapping[str, Any] | None = None,
    with_reach: bool = True,
) -> SegmentationModel:
    """Build a model with random weights (from torch's global seed), or with pretrained weights in its encoder.

    The model is in training mode. Its normalisation has mean 0 and standard deviation 1 until
    :meth:`SegmentationModel.set_normalisation` is called.

    Parameters
    ----------
    settings
        Settings from which the model is built.
    heads
        Heads of the model, that of classes first, or the number of classes of a model with this head only.
    bands
        Bands that it reads.
    crop_px
        Side of the crops that it is trained on, with their context, in pixels. Models of floemap do not use it.
    described
        The description of the model in the header of the checkpoint whose weights will be loaded, if there is one.
    with_reach
        Whether to measure how far a model of a user's own sees, which takes most of the time. Without it whole scenes
        would be windows.

    Raises
    ------
    ConfigError
        If no model has that name or it cannot be imported, an option is wrong, the number of classes is out of
        range, or the model does not have the logits of the heads.
    ModelError
        If the encoder's weights cannot be loaded, or what a model of a user's own gives is not usable.
    """
    check_model(settings)
    wanted = heads_of({}, heads) if isinstance(heads, int) else tuple(heads)
    channels = sum(h.channels for h in wanted)
    if is_own(settings.name):
        model = build_own(settings, wanted, bands, crop_px, described, with_reach=with_reach)
    else:
        model = MODELS[settings.name](settings, channels, bands)
    if model.channels != channels:
        raise ConfigError(
            f"the model {settings.name} has {model.channels} logits; its heads "
            f"({', '.join(f'{h.name}: {h.channels}' for h in wanted)}) need {channels}.",
            hint="A model needs as many logits as it is given classes. Or leave out [tasks].",
        )
    model.heads = wanted
    if settings.encoder_weights is not None:
        load_encoder(model, settings.encoder_weights)
    return model
