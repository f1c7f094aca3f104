"""Settings of a study: which scenes, how they are shared out, what is trained, what is compared. From one TOML file."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field, field_validator, model_validator

from floemap.config import Settings
from floemap.datasets.extremeearth.scenes import ALL_MONTHS
from floemap.evaluation.scoring.settings import EvaluateSettings
from floemap.icechart.label.settings import LabelSettings
from floemap.learning.settings import CropSettings, LearningSettings, LossSettings, ModelSettings, TrainingSettings
from floemap.sentinel1.settings import PrepareSettings

#: A value of an axis.
AxisValue = bool | int | float | str


class SceneSettings(Settings):
    """A scene that is not of the ExtremeEarth dataset."""

    name: str = Field(pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.]*$")
    """How the study calls it; splits use the name, or the name with -SW or -NE for one half."""

    product: Path
    """A Sentinel-1 product, folder or zip, or a prepared product's folder."""

    chart: Path
    """Its ice chart in SIGRID-3, or a folder of labels on the prepared product's grid."""

    layer: str | None = None
    """Which file of a zip, or layer of a file, is the chart, where there are several."""

    truth: Path | None = None
    """Of a simulated scene: a raster with a band "class" on the prepared product's grid."""


class DataSettings(Settings):
    """Scenes and charts, and how they become bands and labels."""

    folder: Path | None = None
    """A folder in the form of the ExtremeEarth dataset, real or simulated, of any layout."""

    months: tuple[int, ...] = ALL_MONTHS
    """Which of its twelve scenes."""

    scenes: tuple[SceneSettings, ...] = ()
    """Instead of a folder: scenes, each by its files."""

    legend: str = "extremeearth"
    """Name of the table of classes."""

    unmapped: Literal["error", "ignore"] = "error"
    """Codes that the legend lacks: refuse the chart, or leave those polygons without a class."""

    without_parts: Literal["unknown", "first"] = "unknown"
    """Charts that name several ice types without partial concentrations: the type is unknown, or the first counts."""

    prepare: PrepareSettings = PrepareSettings()
    """How products become bands on a grid."""

    cache: Path | None = None
    """Folder for prepared products and labels; default: "data" in the study's own folder."""

    @model_validator(mode="after")
    def _one_source(self) -> DataSettings:
        if self.folder is not None and self.scenes:
            raise ValueError("give a folder or scenes, not both")
        names = [s.name for s in self.scenes]
        if len(set(names)) != len(names):
            raise ValueError(f"two scenes have one name: {sorted(n for n in set(names) if names.count(n) > 1)}")
        return self

    def label_settings(self, layer: str | None = None) -> LabelSettings:
        """Return the settings of the label stage: with shares and border distances, which scores use."""
        return LabelSettings(
            legend=self.legend,
            unmapped=self.unmapped,
            without_parts=self.without_parts,
            fractions=True,
            border_distance=True,
            layer=layer,
        )


class SplitSettings(Settings):
    """Which scenes, or halves of them, are learnt from, validated on and tested on."""

    kind: Literal["published", "leave_one_out", "lists"] = "published"
    """published: January and July for testing, the north-eastern halves of four months for validation.
    leave_one_out: one scene for testing. lists: as said below."""

    held_out: str = "each"
    """For leave_one_out: the scene to test on, or each in turn."""

    training: tuple[str, ...] = ()
    """For lists: names of scenes, such as 03, or of halves of them, such as 02-SW."""

    validation: tuple[str, ...] = ()
    """For lists: likewise. For leave_one_out: the halves to validate on; default: as published."""

    test: tuple[str, ...] = ()
    """For lists: likewise."""

    cut: Literal["sides", "corners"] = "sides"
    """Line that halves a scene: between the middles of two sides, or between two corners."""

    same_ice_hours: float = Field(default=24.0, ge=0)
    """Scenes that overlap on the ground and are less far apart in time show the same ice: they may not be shared out
    to different uses."""

    @model_validator(mode="after")
    def _consistent(self) -> SplitSettings:
        if self.kind == "lists" and not (self.training and self.validation):
            raise ValueError("lists needs training and validation, and test where anything is to be tested")
        if self.kind != "lists" and (self.training or self.test):
            raise ValueError(f"training and test are for lists; the kind is {self.kind}")
        if self.kind == "published" and self.validation:
            raise ValueError("validation is for lists and leave_one_out; the kind is published")
        return self


class CompareSettings(Settings):
    """What is compared with what."""

    losses: tuple[str, ...] = ("cross_entropy", "dice", "focal")
    """Names of losses; everything else about the loss is as in [loss]."""

    repeats: int = Field(default=3, ge=1, le=1000)
    """Trainings of each, with seeds that count up from [training] seed."""

    axes: dict[str, tuple[AxisValue, ...]] = Field(default_factory=dict)
    """Any other settings to vary, such as "model.output_stride" = [8, 16]; all combinations are run."""

    @field_validator("losses")
    @classmethod
    def _each_once(cls, losses: tuple[str, ...]) -> tuple[str, ...]:
        if not losses or len(set(losses)) != len(losses):
            raise ValueError("name at least one loss, and each once")
        return losses

    @field_validator("axes")
    @classmethod
    def _free_axes(cls, axes: dict[str, tuple[AxisValue, ...]]) -> dict[str, tuple[AxisValue, ...]]:
        for key, values in axes.items():
            if key.split(".")[0] not in ("split", "model", "loss", "crops", "training"):
                raise ValueError(f"{key} is no setting of split, model, loss, crops or training")
            if key in ("loss.name", "training.seed"):
                raise ValueError(f"{key} is varied by losses and repeats already")
            if not values or len(set(values)) != len(values):
                raise ValueError(f"{key} needs at least one value, and each once")
        return axes


class PredictSettings(Settings):
    """How test scenes are predicted."""

    engine: Literal["torch", "openvino"] = "torch"
    """What runs the network."""

    precision: Literal["auto", "fp32", "bf16"] = "auto"
    """Of the arithmetic. auto: bf16 where the processor or GPU has it."""


class Study(Settings):
    """A whole study."""

    name: str = Field(default="study", pattern=r"^[A-Za-z0-9_-]+$")
    """For titles and reports."""

    data: DataSettings = DataSettings()
    """The scenes."""

    split: SplitSettings = SplitSettings()
    """Who learns from what."""

    model: ModelSettings = ModelSettings()
    """The network."""

    loss: LossSettings = LossSettings()
    """The loss of `floemap train`, and what the compared ones share."""

    crops: CropSettings = CropSettings()
    """The patches."""

    training: TrainingSettings = TrainingSettings()
    """The training."""

    compare: CompareSettings = CompareSettings()
    """What is varied."""

    predict: PredictSettings = PredictSettings()
    """The prediction of test scenes."""

    score: EvaluateSettings = EvaluateSettings()
    """The scores."""

    def learning(self) -> LearningSettings:
        """Return what one training needs."""
        return LearningSettings(model=self.model, loss=self.loss, crops=self.crops, training=self.training)
