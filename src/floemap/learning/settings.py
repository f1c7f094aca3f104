"""Settings of model, loss, crops and training. The defaults follow the published protocol where it gives a value.

R. Pires de Lima, B. Vahedi, M. Karimzadeh, "Comparison of cross-entropy, Dice, and focal loss for sea ice type
segmentation", IGARSS 2023. ``docs/method.md`` explains the choices that the publication leaves open.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, Field, JsonValue, field_validator, model_validator

from floemap.config import Settings


class ModelSettings(Settings):
    """The network and its initial weights."""

    name: str = "resnet18_aspp"
    """The name of a model, as listed in floemap.learning.models.registry.MODELS, or the import string of one of your
    own or of a package, such as my_models:Net for the class Net in my_models.py. The module is looked for on Python's
    path and in the current folder."""

    options: dict[str, JsonValue] = Field(default_factory=dict)
    """Options of a model that is named by import string, in a table [model.options]; the class checks them. floemap's
    models have the settings output_stride, rates, dropout and encoder_weights instead, which other models do not."""

    output_stride: Literal[8, 16] = 16
    """Stride of the deepest features: pixels of the scene for each of their cells, in rows and in columns."""

    rates: tuple[int, int, int] | None = None
    """Rates of the atrous convolutions at output stride 16, in cells of 16 px; at output stride 8 they are doubled.
    The published rates are 12, 24, 36. By default the rates have the same ratio and are the largest that crops of
    crops.size_px train well, such as 8, 16, 24 for crops of 1000 px and 4, 8, 12 for 512 px. Rates that no crop
    reaches are refused."""

    dropout: float = Field(default=0.0, ge=0, lt=1)
    """Dropout probability of the concatenated features: after the projection in ASPP, before the last convolution in
    the U-Net."""

    encoder_weights: Path | None = None
    """File with ImageNet weights of ResNet18 for the encoder. Without it the encoder starts from random weights."""

    start_from: Path | None = None
    """Checkpoint to start from when fine-tuning on other scenes: all its weights and its normalisation are used. It
    must be of the same model, on the same pixel size and classes. It may have other bands and heads: weights of a band
    that it lacks begin at 0, a band that is left out counts as its mean."""

    @field_validator("rates")
    @classmethod
    def _rates_ascend(cls, rates: tuple[int, int, int] | None) -> tuple[int, int, int] | None:
        if rates is not None and not 1 <= rates[0] <= rates[1] <= rates[2] <= 1000:
            raise ValueError("give three rates from 1 to 1000, none smaller than the one before")
        return rates

    @model_validator(mode="after")
    def _one_start(self) -> Self:
        if self.encoder_weights is not None and self.start_from is not None:
            raise ValueError("encoder_weights and start_from exclude each other: the checkpoint has an encoder")
        return self


class LossSettings(Settings):
    """The loss that training minimises."""

    name: str = "cross_entropy"
    """The name of a loss, as listed in floemap.learning.losses.LOSSES, or the import string of one of your own, such as
    my_losses:Mine for the class Mine in my_losses.py. The module is looked for on Python's path and in the current
    folder."""

    options: dict[str, JsonValue] = Field(default_factory=dict)
    """Options of the loss, in a table [loss.options]; docs/losses.md lists those of each loss."""

    class_weights: Literal["none", "inverse", "effective_number"] = "none"
    """How classes are weighted, from the number of their pixels in the training parts. Not every loss takes weights."""

    beta: float = Field(default=0.9999999, ge=0, lt=1)
    """Parameter of the effective number of samples (Cui et al. 2019). Classes with more than about 5 / (1 - beta)
    pixels get equal weights; as scenes have millions of pixels, beta must be closer to 1 than is usual for image
    datasets."""

    @model_validator(mode="before")
    @classmethod
    def _options_were_here(cls, values: Any) -> Any:
        if isinstance(values, dict) and (moved := [key for key in ("gamma", "alpha") if key in values]):
            raise ValueError(f"{moved[0]} is an option of the focal loss: write options = {{ {moved[0]} = ... }}")
        return values


class TaskSettings(Settings):
    """What one head of the model learns. [tasks.NAME] is the table of the head NAME; docs/howto/several-tasks.md shows
    how to use several. Without such tables the model has one head, ice_type, whose target is "class"."""

    target: Literal["class", "fractions", "concentration", "floe_size"]
    """Target of the head. class: the class of the dominant ice type, or what the loss in [loss] reads. A model has
    exactly one head of this target; if no table is one, the head ice_type is added. fractions: the share of each class
    in the polygon. concentration: the total concentration of ice in the polygon, 0 to 1. floe_size: the class of the
    dominant floe size, which AI4Arctic's charts give."""

    loss: str | None = None
    """Loss of the head. For concentration: huber (the default), mse or mae; for fractions: soft_cross_entropy (the
    default) or another loss that reads polygons; for floe_size: cross_entropy (the default) or another loss of classes
    that does not; or the import string of one of your own. The loss of the target class is that of [loss]."""

    options: dict[str, JsonValue] = Field(default_factory=dict)
    """Options of this loss, in a table [tasks.NAME.options]."""

    weight: float = Field(default=1.0, gt=0, le=1e6)
    """Weight of this head's loss in the total loss, which is the weighted sum over all heads."""


#: Names that files of a prediction have, or that the history of a training uses for other numbers.
_TAKEN = ("classes", "probabilities", "prediction", "product", "errors", "uncertainty", "land", "total", "loss")


def _checked_tasks(tasks: dict[str, TaskSettings]) -> dict[str, TaskSettings]:
    """Return the tasks, or raise ValueError if names or targets do not fit each other."""
    for name, task in tasks.items():
        if not re.fullmatch(r"[a-z][a-z0-9_]{0,40}", name):
            raise ValueError(f"{name!r} is not a valid name: use small letters, digits and underscores")
        if name in _TAKEN:
            raise ValueError(f"{name!r} is already the name of another result: choose another name")
        if task.target == "class" and (task.loss is not None or task.options):
            raise ValueError(f"{name} has a loss of its own: the loss of the target class is that of [loss]")
        if name == "ice_type" and task.target != "class":
            raise ValueError("ice_type is the name of the head of the target class: choose another name")
    classes = [name for name, task in tasks.items() if task.target == "class"]
    if len(classes) > 1:
        raise ValueError(f"{' and '.join(classes)} both have the target class, of which a model has one head")
    return tasks


#: Tasks by name; see :class:`TaskSettings`.
Tasks = Annotated[dict[str, TaskSettings], AfterValidator(_checked_tasks)]


class CropSettings(Settings):
    """The crops that a model is trained on."""

    size_px: int = Field(default=1000, ge=32, le=20_000)
    """Side of a crop in pixels; the default is 80 km at 80 m."""

    context_px: int = Field(default=0, ge=0, le=10_000)
    """Context: pixels on each side of a crop that the model sees and the loss does not count, where the scene has any.
    With it the border cells of a crop see what they see in a whole scene. Memory grows with the crop and its
    context."""

    per_scene: int = Field(default=100, ge=1)
    """Number of crops from each training part in an epoch."""

    min_valid: float = Field(default=0.5, ge=0, le=1)
    """Smallest share of labelled pixels in a crop; its context does not count."""

    border_px: int = Field(default=0, ge=0, le=60)
    """Pixels nearer than this to a border between polygons have no label in training and validation: analysts draw
    borders roughly. Scores of test scenes are not affected."""

    validation_per_scene: int = Field(default=10, ge=1)
    """Number of crops from each validation part, if validation uses crops."""

    redraw: bool = True
    """Whether to draw new crops in each epoch. False draws them once, as published."""

    flips: bool = False
    """Whether to flip and rotate crops at random. The incidence angle then no longer rises along the usual direction
    of the rows."""

    source: Literal["auto", "resident", "streamed"] = "auto"
    """resident: keep all scenes in memory (on the GPU, if they fit); the processes of a host share them. streamed:
    worker processes read windows from the files. auto: resident if the scenes take at most half of the free memory,
    within the limit of the container or job, else streamed. The crops are the same."""

    workers: int = Field(default=2, ge=0, le=256)
    """Number of processes that read windows, for the streamed source."""

    @property
    def side_px(self) -> int:
        """Side of a crop with its context, in pixels: what the model sees."""
        return self.size_px + 2 * self.context_px


class TrainingSettings(Settings):
    """How a model is trained."""

    batch: int = Field(default=24, ge=1)
    """Batch size: crops in a step, over all devices together."""

    learning_rate: float = Field(default=1e-5, gt=0, lt=10)
    """Initial learning rate of Adam."""

    max_epochs: int = Field(default=1000, ge=1)
    """Largest number of epochs."""

    patience: int = Field(default=5, ge=0)
    """Number of consecutive validations without improvement to tolerate. The learning rate is reduced after validation
    patience + 1, as in torch's ReduceLROnPlateau."""

    factor: float = Field(default=0.1, gt=0, lt=1)
    """Factor by which the learning rate is reduced."""

    min_learning_rate: float = Field(default=1e-8, ge=0)
    """Smallest learning rate."""

    stop_after: int = Field(default=20, ge=1)
    """Number of consecutive validations without improvement after which training stops."""

    clip_norm: float | None = Field(default=None, gt=0)
    """Largest norm of the gradient; larger gradients are scaled down. By default gradients are not clipped."""

    validate_every: int = Field(default=1, ge=1)
    """Number of epochs between validations. patience and stop_after count validations."""

    validation: Literal["whole", "crops"] = "whole"
    """whole: validate on whole validation parts, as published. crops: on fixed crops of them, for small machines."""

    precision: Literal["auto", "fp32", "bf16"] = "auto"
    """Floating-point precision. auto uses bf16 if the processor or GPU supports it."""

    accumulate: int = Field(default=1, ge=1)
    """Number of parts in which a batch is computed, one after the other, so that large batches fit into a small memory.
    Gradients are those of the whole batch, for any loss, apart from what BatchNorm changes: it normalises by the
    statistics of a part. A step takes a third longer."""

    compile: Literal["auto"] | bool = "auto"
    """Whether to compile the training step; it has an effect on a GPU only. auto compiles if that saves more time than
    it takes in the shortest training that the settings allow."""

    calibrate: Literal["season"] | bool = True
    """Whether to fit a temperature on the validation parts after the last epoch, so that the model's probabilities
    come true as often as they say, and to keep statistics of the scenes for the out-of-distribution score. Class maps
    stay the same. "season" fits a temperature and an offset for each class by quarter of the year, too, which changes
    class maps: use it where validation scenes of all seasons are at hand."""

    monitor: str | None = None
    """Head whose validation loss decides on learning rate, best weights and the end of the training. By default it is
    the total loss."""

    save_every_minutes: float | None = Field(default=10.0, ge=0)
    """Minutes between two savings of the state within an epoch, after which a stopped training resumes. The state after
    each epoch is saved in any case."""

    loggers: tuple[str, ...] = ()
    """What the metrics of steps and epochs are logged to, beside metrics.jsonl: tensorboard, mlflow or wandb, which
    must be installed, or the import string of a logger of your own."""

    seed: int = Field(default=0, ge=0)
    """Seed of the random numbers for weights, crops and flips."""

    @model_validator(mode="after")
    def _has_equal_parts(self) -> Self:
        if self.batch % self.accumulate:
            raise ValueError(f"accumulate is {self.accumulate}, which does not divide the batch of {self.batch} crops")
        return self

    @model_validator(mode="before")
    @classmethod
    def _tensorboard_was_here(cls, values: Any) -> Any:
        if isinstance(values, dict) and "tensorboard" in values:
            raise ValueError('tensorboard is one of several loggers now: write loggers = ["tensorboard"]')
        return values


class LearningSettings(Settings):
    """All settings of one training."""

    model: ModelSettings = ModelSettings()
    """The network."""

    loss: LossSettings = LossSettings()
    """The loss."""

    tasks: Tasks = Field(default_factory=dict)
    """The heads of the model and what they learn, by name."""

    crops: CropSettings = CropSettings()
    """The crops."""

    training: TrainingSettings = TrainingSettings()
    """The training."""
