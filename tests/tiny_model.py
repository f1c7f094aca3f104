"""A model of some hundred parameters, and scenes that it learns at once: for tests of what stands around a model."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor, nn

from floemap.bands import BandSet
from floemap.icechart.label.polygon_values import VALUES, column_of
from floemap.learning.data.parts import PartArrays
from floemap.learning.data.polygons import PolygonShares
from floemap.learning.models.base import SegmentationModel, initialise
from floemap.learning.models.registry import MODELS
from floemap.learning.settings import CropSettings, LearningSettings, ModelSettings, TrainingSettings
from floemap.legend import IGNORE
from floemap.sentinel1.encoding import NODATA, PRODUCT_BANDS

#: What a checkpoint must tell of its scenes.
ABOUT: Mapping[str, Any] = {"resolution_m": 80.0, "crs": "EPSG:3413", "simulated": True}


class TinyModel(SegmentationModel):
    """Means of 4 x 4 pixels, two convolutions, BatchNorm, dropout."""

    def __init__(self, settings: ModelSettings, classes: int, bands: BandSet = PRODUCT_BANDS) -> None:
        super().__init__(settings, classes, bands, stride=4, alignment_px=4, reach_px=4, feature_channels=8)
        self.body = nn.Sequential(
            nn.AvgPool2d(4), nn.Conv2d(bands.channels, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8), nn.ReLU()
        )
        self.head = nn.Sequential(nn.Dropout2d(settings.dropout), nn.Conv2d(8, classes, 1))
        initialise(self)

    def encode(self, x: Tensor) -> Tensor:
        features: Tensor = self.body(self.normalise(x).to(self.weight_dtype))
        return features

    def decode(self, features: Tensor) -> Tensor:
        logits: Tensor = self.head(features)
        return logits if logits.dtype.itemsize > 4 else logits.float()


#: The usual models and this one.
WITH_TINY = dict(MODELS) | {"tiny": TinyModel}


def scene(name: str, seed: int, shape: tuple[int, int] = (72, 88)) -> PartArrays:
    """Three classes in blocks, told apart by their brightness; a corner without data, a strip without labels."""
    rng = np.random.default_rng(seed)
    labels = np.full(shape, 0, np.uint8)
    labels[:, shape[1] // 3 :] = 3
    labels[shape[0] // 2 :, shape[1] // 2 :] = 5
    stored = rng.normal([[[-1800]], [[-2600]], [[3300]]], 200, (3, *shape)) + 350 * (labels.astype(int) - 2)
    kept = stored.astype(np.int16)
    kept[:, :10, :10] = NODATA
    labels[:10, :10] = IGNORE
    labels[:, -4:] = IGNORE
    return PartArrays(name, kept, labels)


def written_file(descriptor: int) -> str:
    """Return the name that an open file will have once it is whole: `.state.pt.partial-...` is `state.pt`."""
    return ".".join(Path(f"/proc/self/fd/{descriptor}").readlink().name.split(".")[1:3])


#: Concentration of the three classes that the tiny scenes have.
CONCENTRATION = {0: 0.0, 3: 0.6, 5: 1.0}


def charted(part: PartArrays, *, known: bool = True) -> PartArrays:
    """Give a tiny scene a polygon for each of its classes, with a concentration that goes with the class."""
    classes = sorted(CONCENTRATION)
    ids = np.zeros(part.labels.shape, np.uint16)
    shares = np.zeros((len(classes) + 1, 6), np.float32)
    values = np.full((len(classes) + 1, len(VALUES)), np.nan, np.float32)
    for i, k in enumerate(classes, 1):
        ids[part.labels == k] = i
        shares[i, k] = 1
        if known:
            values[i, column_of("concentration")] = CONCENTRATION[k]
    pixels = np.bincount(ids.ravel(), minlength=len(classes) + 1)
    return dataclasses.replace(part, ids=ids, polygons=PolygonShares(shares, shares > 0, pixels, values))


def tiny_settings(model: Mapping[str, Any] | None = None, **training: Any) -> LearningSettings:
    """Settings of a training of seconds; keywords change those of the training."""
    usual = {"batch": 4, "learning_rate": 1e-2, "max_epochs": 3, "precision": "fp32"}
    return LearningSettings(
        model=ModelSettings.checked(**({"name": "tiny"} | dict(model or {}))),
        crops=CropSettings(size_px=32, per_scene=6, validation_per_scene=3),
        training=TrainingSettings.checked(**(usual | training)),
    )
