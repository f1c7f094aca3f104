"""Settings of model, loss, crops and training. The defaults are the published protocol's where it says something.

R. Pires de Lima, B. Vahedi, M. Karimzadeh, "Comparison of cross-entropy, Dice, and focal loss for sea ice type
segmentation", IGARSS 2023. Where that leaves room, ``docs/method.md`` says what is done and why.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal, Self

from pydantic import Field, field_validator, model_validator

from floemap.config import Settings


class ModelSettings(Settings):
    """Which network, and what it starts from."""

    name: str = "resnet18_aspp"
    """One of floemap.learning.models.registry.MODELS."""

    output_stride: Literal[8, 16] = 16
    """Pixels of the scene for each cell of the deepest features."""

    rates: tuple[int, int, int] | None = None
    """Rates of the atrous convolutions at output stride 16, in cells of 16 px; at output stride 8 they are doubled.
    As published: 12, 24, 36. Default: in the same ratio, the widest that patches of crops.size_px train well, such as
    8, 16, 24 for patches of 1000 px and 4, 8, 12 for 512 px. Rates that no patch reaches are refused."""

    dropout: float = Field(default=0.0, ge=0, lt=1)
    """Share of the joined features that training leaves out: after the projection in ASPP, before the last convolution
    in the U-Net."""

    encoder_weights: Path | None = None
    """ImageNet weights of ResNet18 for the encoder, a file; without it the encoder starts at random."""

    start_from: Path | None = None
    """A checkpoint to go on from, on other scenes: all weights, and the normalisation. It must be the same model."""

    @field_validator("rates")
    @classmethod
    def _rates_ascend(cls, rates: tuple[int, int, int] | None) -> tuple[int, int, int] | None:
        if rates is not None and not 1 <= rates[0] <= rates[1] <= rates[2] <= 1000:
            raise ValueError("give three rates from 1 to 1000, each at least the one before")
        return rates

    @model_validator(mode="after")
    def _one_start(self) -> Self:
        if self.encoder_weights is not None and self.start_from is not None:
            raise ValueError("encoder_weights and start_from exclude each other: the checkpoint has an encoder")
        return self


class LossSettings(Settings):
    """What training minimises."""

    name: str = "cross_entropy"
    """One of floemap.learning.losses.functions.LOSSES."""

    class_weights: Literal["none", "inverse", "effective_number"] = "none"
    """Weights of the classes, from their pixels in the training parts."""

    beta: float = Field(default=0.9999999, ge=0, lt=1)
    """Of the effective number of samples (Cui et al. 2019). Classes of more than some 5 / (1 - beta) pixels weigh the
    same; scenes have millions of pixels, and so need a beta nearer to 1 than sets of pictures do."""

    gamma: float = Field(default=2.0, ge=0)
    """Of the focal loss (Lin et al. 2017)."""

    alpha: float | tuple[float, ...] = 0.25
    """Of the focal loss: one number, or one for each class."""


class CropSettings(Settings):
    """The patches that a model learns from."""

    size_px: int = Field(default=1000, ge=32, le=20_000)
    """Side of a patch, pixels: 80 km at 80 m."""

    context_px: int = Field(default=0, ge=0, le=10_000)
    """Pixels around a patch on each side that the model sees and the loss does not count, as far as the scene has any.
    So a patch's border cells see what they see in a whole scene; memory grows with the whole patch."""

    per_scene: int = Field(default=100, ge=1)
    """Patches of each training part in an epoch."""

    min_valid: float = Field(default=0.5, ge=0, le=1)
    """Least share of a patch's pixels that must have a label; its context does not count."""

    validation_per_scene: int = Field(default=10, ge=1)
    """Patches of each validation part, where validation is on patches."""

    redraw: bool = True
    """Draw new places each epoch; False: once, as published."""

    flips: bool = False
    """Mirror and turn patches at random. The incidence angle then no longer rises along the rows' usual direction."""

    source: Literal["resident", "streamed"] = "resident"
    """All scenes in memory (on the GPU, if there is room), or windows read from files by worker processes."""

    workers: int = Field(default=2, ge=0, le=256)
    """Processes that read windows, for the streamed source."""


class TrainingSettings(Settings):
    """How a model is trained."""

    batch: int = Field(default=24, ge=1)
    """Patches in a step, over all devices together."""

    learning_rate: float = Field(default=1e-5, gt=0, lt=10)
    """Adam's."""

    max_epochs: int = Field(default=1000, ge=1)
    """Stop after so many, whatever happens."""

    patience: int = Field(default=5, ge=0)
    """Epochs without a lower validation loss that are borne; the next one lowers the learning rate (as torch's
    ReduceLROnPlateau counts)."""

    factor: float = Field(default=0.1, gt=0, lt=1)
    """By which it is lowered."""

    min_learning_rate: float = Field(default=1e-8, ge=0)
    """Where lowering ends."""

    stop_after: int = Field(default=20, ge=1)
    """Epochs without a lower validation loss before training stops."""

    clip_norm: float | None = Field(default=None, gt=0)
    """Greatest norm of the gradient; larger ones are scaled down."""

    validate_every: int = Field(default=1, ge=1)
    """Validate after every so many epochs; patience counts validations then."""

    validation: Literal["whole", "crops"] = "whole"
    """On whole validation parts, as published, or on fixed patches of them, for small machines."""

    precision: Literal["auto", "fp32", "bf16"] = "auto"
    """Of the arithmetic. auto: bf16 where the processor or GPU has it."""

    compile: bool = False
    """Compile the network, on a GPU only."""

    tensorboard: bool = False
    """Also write the metrics for TensorBoard, which must be installed."""

    seed: int = Field(default=0, ge=0)
    """Of weights, patches and flips."""


class LearningSettings(Settings):
    """All that one training needs besides its scenes."""

    model: ModelSettings = ModelSettings()
    """The network."""

    loss: LossSettings = LossSettings()
    """The loss."""

    crops: CropSettings = CropSettings()
    """The patches."""

    training: TrainingSettings = TrainingSettings()
    """The training."""
