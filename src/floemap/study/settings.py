"""Settings of a study, from one TOML file: scenes, split, training and comparison."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path
from typing import Literal

from pydantic import Field, JsonValue, field_validator, model_validator

from floemap.config import Settings
from floemap.datasets.ai4arctic.form import BAND_GROUPS, PREPARE_SETTINGS
from floemap.datasets.extremeearth.scenes import ALL_MONTHS
from floemap.errors import ConfigError
from floemap.evaluation.scoring.settings import EvaluateSettings
from floemap.icechart.label.settings import LabelSettings
from floemap.layers.settings import DistanceSettings, RasterSettings
from floemap.layers.stored import DISTANCE, check_bands, check_layer_name
from floemap.learning.settings import (
    CropSettings,
    LearningSettings,
    LossSettings,
    ModelSettings,
    Tasks,
    TrainingSettings,
)
from floemap.own_legends import LegendChoice
from floemap.sentinel1.encoding import PRODUCT_BANDS
from floemap.sentinel1.settings import PrepareSettings

#: Value of an axis.
AxisValue = bool | int | float | str
#: Tables of a study that a comparison may vary within one split.
VARIED = ("model", "loss", "tasks", "crops", "training")


#: What leave_one_out may hold out without a table of scenes.
BUILT_IN_GROUPS = ("scene", "orbit", "region", "season", "groups")


class SceneSettings(Settings):
    """A scene that is not from the folder of a dataset."""

    name: str = Field(pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.]*$")
    """Name of the scene in the study. Splits use this name, or the name with -SW or -NE for one half."""

    product: Path
    """A Sentinel-1 product, as a folder or zip, the folder of a prepared product, or a file of AI4Arctic."""

    chart: Path
    """The ice chart in SIGRID-3, a folder of labels on the grid of the prepared product, or a file of AI4Arctic."""

    layer: str | None = None
    """The file in a zip, or the layer of a file, that is the chart, if there are several."""

    truth: Path | None = None
    """True classes of a simulated scene: a raster with a band "class" on the grid of the prepared product."""


class LayerSettings(Settings):
    """How a study makes a layer of its prepared products."""

    land: Path | None = None
    """Polygons of land, or an ice chart with land, for the layer distance_to_land_km."""

    cap_km: float = DistanceSettings.model_fields["cap_km"].default
    """Largest distance to land, km."""

    raster: str | None = None
    """Path of a raster, for other layers. {scene} in it stands for the name of the scene, {product} for that of the
    product."""

    options: RasterSettings = RasterSettings()
    """How the layer is made from the raster."""

    @model_validator(mode="after")
    def _one_source(self) -> LayerSettings:
        if (self.land is None) == (self.raster is None):
            raise ValueError("give land, for distance_to_land_km, or raster, for another layer")
        return self

    def raster_for(self, scene: str, product: str) -> str:
        """Return the path of the raster for a scene, given its name and that of its prepared product."""
        return str(self.raster).replace("{scene}", scene).replace("{product}", product)


class DataSettings(Settings):
    """Scenes and charts, and how they are prepared and labelled."""

    dataset: Literal["extremeearth", "ai4arctic"] = "extremeearth"
    """The dataset in the folder. The scenes of ai4arctic have the legend ai4arctic."""

    folder: Path | None = None
    """Folder with the files of the dataset, real or simulated, in any layout."""

    months: tuple[int, ...] = ALL_MONTHS
    """Months to use: of ExtremeEarth's twelve scenes, or of the scenes of AI4Arctic."""

    rule: Literal["starter", "correct"] = "starter"
    """How the polygons of AI4Arctic's raw files become classes. starter: as in its published charts, where the parts of
    three types of one class are not all added. correct: all are added."""

    scenes: tuple[SceneSettings, ...] = ()
    """List of scenes, each with its files, instead of a folder."""

    table: Path | None = None
    """Table of scenes instead of a folder: CSV, or Parquet, which needs the package pyarrow. It has the columns name,
    product and chart, as in a list of scenes, if need be layer and truth, and any others, for splits and queries."""

    where: str | None = None
    """Which scenes of the table to use: a condition of SQL, such as region = 'north' AND year < 2021."""

    legend: LegendChoice = "extremeearth"
    """Name of the legend; or the name of a TOML file with a legend of your own; or that legend as a table
    [data.legend]."""

    unmapped: Literal["error", "ignore"] = "error"
    """What to do with codes that the legend lacks. error: refuse the chart. ignore: leave their polygons without a
    class."""

    without_parts: Literal["unknown", "first"] = "unknown"
    """Charts that name several ice types without partial concentrations: the type is unknown, or the first counts."""

    prepare: PrepareSettings = PrepareSettings()
    """How products are prepared."""

    bands: tuple[str, ...] = PRODUCT_BANDS.names
    """Bands that models learn from: hh_db, hv_db, incidence_deg, and layers of the prepared products by their names.
    amsr2 and era5 stand for AI4Arctic's 14 brightness temperatures and 6 fields of weather."""

    layers: dict[str, LayerSettings] = Field(default_factory=dict)
    """Layers that the study makes by itself, each in a table of its name, such as [data.layers.distance_to_land_km]
    with land = "land.gpkg". Other layers are made with `floemap layer`."""

    cache: Path | None = None
    """Folder for prepared products and labels. By default it is "data" in the folder of the study."""

    @model_validator(mode="after")
    def _one_source(self) -> DataSettings:
        given = {"folder": self.folder, "scenes": self.scenes, "table": self.table}
        if len(named := [name for name, value in given.items() if value]) > 1:
            raise ValueError(f"give a folder or scenes or a table, not {' and '.join(named)}")
        if self.where is not None and self.table is None:
            raise ValueError("where chooses scenes of a table: give table")
        if twice := sorted(n for n, count in Counter(s.name for s in self.scenes).items() if count > 1):
            raise ValueError(f"two scenes have the same name: {twice}")
        if self.dataset == "ai4arctic" and self.legend != "ai4arctic":
            raise ValueError('the dataset ai4arctic has charts of the legend ai4arctic: give legend = "ai4arctic"')
        return self

    @model_validator(mode="after")
    def _all_take_effect(self) -> DataSettings:
        """Refuse settings that would take no effect on the scenes of a dataset."""
        if self.scenes:  # which may be of several forms
            return self
        usual = DataSettings.model_construct()
        if self.dataset == "ai4arctic":
            other = [n for n in ("unmapped", "without_parts") if getattr(self, n) != getattr(usual, n)]
            for_products = [n for n in PrepareSettings.model_fields if n not in PREPARE_SETTINGS]
            other += [f"prepare.{n}" for n in for_products if getattr(self.prepare, n) != getattr(usual.prepare, n)]
        else:
            other = [n for n in ("rule",) if getattr(self, n) != getattr(usual, n)]
            other += ["prepare.grid"] if self.prepare.grid != usual.prepare.grid else []
        if other:
            raise ValueError(f"{' and '.join(other)}: files of the dataset {self.dataset} take no such setting")
        return self

    @field_validator("bands")
    @classmethod
    def _known_bands(cls, bands: tuple[str, ...]) -> tuple[str, ...]:
        bands = tuple(name for given in bands for name in BAND_GROUPS.get(given, (given,)))
        try:
            check_bands(bands)
        except ConfigError as e:
            raise ValueError(str(e)) from e
        return bands

    @field_validator("layers")
    @classmethod
    def _plain_layers(cls, layers: dict[str, LayerSettings]) -> dict[str, LayerSettings]:
        for name, layer in layers.items():
            try:
                check_layer_name(name)
            except ConfigError as e:
                raise ValueError(str(e)) from e
            if (layer.land is not None) != (name == DISTANCE):
                raise ValueError(f"{name}: land is for {DISTANCE}, raster for other layers")
        return layers

    @property
    def resolution_m(self) -> float | None:
        """Pixel size of the products, metres; None if it is not known before they are made, or were made before."""
        made_before = any((scene.product / "product.json").is_file() for scene in self.scenes)
        return (
            None if made_before or self.table is not None or self.prepare.grid == "image" else self.prepare.resolution_m
        )

    def label_settings(self, layer: str | None = None) -> LabelSettings:
        """Return the settings of the label stage, with the shares and border distances that scores need."""
        return LabelSettings(
            legend=self.legend,
            unmapped=self.unmapped,
            without_parts=self.without_parts,
            fractions=True,
            border_distance=True,
            layer=layer,
        )


class SplitSettings(Settings):
    """Scenes, or halves of them, for training, validation and test."""

    kind: Literal["published", "leave_one_out", "lists", "official"] = "published"
    """published: January and July for test, the north-eastern halves of four months for validation.
    leave_one_out: one scene for test. lists: the lists training, validation and test. official: the lists of AI4Arctic;
    by default every eighth orbit of its training list is for validation."""

    by: str = "scene"
    """What leave_one_out holds out: scene, a scene; groups, a group of [split.groups]; a column of the table of scenes,
    all scenes with the same value; or a group of AI4Arctic's scenes. orbit: fold1 to fold5, every fifth orbit
    each. region: region1 to region4, groups of neighbouring charted regions. season: winter, spring, summer, autumn.
    Scenes that share an orbit with the held-out ones are then left out, and every eighth orbit is for validation. For
    groups and columns every eighth group of the others is for validation, by default."""

    groups: dict[str, tuple[str, ...]] = Field(default_factory=dict)
    """Groups of scenes for by = "groups": names of scenes, by the name of the group."""

    folds: int | None = Field(default=None, ge=2)
    """Number of folds that groups, or values of a column, are dealt into, in their order; fold1 and so on are then held
    out. By default each group is held out by itself."""

    where: dict[Literal["training", "validation", "test"], str] = Field(default_factory=dict)
    """Queries on the table of scenes, in a table [split.where], beside or instead of lists: conditions of SQL for
    training, validation and test, such as training = "year < 2021"."""

    held_out: str = "each"
    """Held-out scene or group for leave_one_out, or "each" for each in turn."""

    training: tuple[str, ...] = ()
    """Training parts for lists: names of scenes, such as 03, or of halves, such as 02-SW."""

    validation: tuple[str, ...] = ()
    """Validation parts for lists, leave_one_out and official. By default leave_one_out validates on the published
    halves."""

    test: tuple[str, ...] = ()
    """Test parts for lists."""

    cut: Literal["sides", "corners"] = "sides"
    """Line that divides a scene into halves. sides: between the midpoints of two sides. corners: between two
    corners."""

    same_ice_hours: float = Field(default=24.0, ge=0)
    """Scenes that overlap on the ground within this time show the same ice, and may not have different uses."""

    @model_validator(mode="after")
    def _consistent(self) -> SplitSettings:
        lacks = [use for use in ("training", "validation") if not getattr(self, use) and use not in self.where]
        if self.kind == "lists" and lacks:
            raise ValueError("lists needs training and validation, and for a comparison also test")
        if self.kind != "lists" and (self.training or self.test or self.where):
            raise ValueError(f"training, test and where are for lists; the kind is {self.kind}")
        if (self.by == "groups") != bool(self.groups):
            raise ValueError('by = "groups" and the table [split.groups] need each other')
        names = Counter(name for group in self.groups.values() for name in group)
        if twice := sorted(name for name, count in names.items() if count > 1):
            raise ValueError(f"{twice[0]} is in two groups")
        if self.folds is not None and self.by in ("scene", "season"):
            raise ValueError(f"folds are of groups or of a column of the table; by is {self.by}")
        if self.kind != "leave_one_out" and self.by != "scene":
            raise ValueError(f"by is for leave_one_out; the kind is {self.kind}")
        if self.kind == "published" and self.validation:
            raise ValueError("validation is for lists, leave_one_out and official; the kind is published")
        return self


class CompareSettings(Settings):
    """What a comparison varies."""

    losses: tuple[str, ...] = ("cross_entropy", "dice", "focal")
    """The losses to compare: names, import strings, or names of variants. Their class weights are those of [loss], and
    so are the options of the loss that [loss] names; other losses have their default options, or those of a variant."""

    variants: dict[str, dict[str, JsonValue]] = Field(default_factory=dict)
    """Variants of losses and other settings, by name; each is a table of settings that it changes, data.bands among
    them, such as
    weighted = { "loss.name" = "focal", "loss.class_weights" = "inverse", "loss.options.gamma" = 5 }. An optional key
    title is the title in the report; by default the title names the changes."""

    repeats: int = Field(default=3, ge=1, le=1000)
    """Number of trainings of each loss; their seeds count up from [training] seed."""

    axes: dict[str, tuple[AxisValue, ...]] = Field(default_factory=dict)
    """Other settings to vary, such as "model.output_stride" = [8, 16]. All combinations are run."""

    @field_validator("losses")
    @classmethod
    def _each_once(cls, losses: tuple[str, ...]) -> tuple[str, ...]:
        if not losses or len(set(losses)) != len(losses):
            raise ValueError("name at least one loss, and each only once")
        return losses

    @field_validator("variants")
    @classmethod
    def _free_variants(cls, variants: dict[str, dict[str, JsonValue]]) -> dict[str, dict[str, JsonValue]]:
        for name, changes in variants.items():
            if not re.fullmatch(r"[A-Za-z0-9_]+", name):
                raise ValueError(f"{name!r} is not a valid name: use letters, digits and underscores")
            title = changes.get("title", name)
            if not isinstance(title, str) or not title.isprintable() or not 1 <= len(title) <= 60:
                raise ValueError(f"{name}: title is {title!r}; write a text of one line and at most 60 characters")
            for key in changes.keys() - {"title"}:
                if key.split(".")[0] not in VARIED and key != "data.bands":
                    raise ValueError(f"{name}: {key} is not a setting of {', '.join(VARIED)}, nor data.bands")
                if key == "training.seed":
                    raise ValueError(f"{name}: {key} is already varied by repeats")
        return variants

    @field_validator("axes")
    @classmethod
    def _free_axes(cls, axes: dict[str, tuple[AxisValue, ...]]) -> dict[str, tuple[AxisValue, ...]]:
        for key, values in axes.items():
            if key.split(".")[0] not in ("split", *VARIED):
                raise ValueError(f"{key} is not a setting of split, {', '.join(VARIED)}")
            if key in ("loss.name", "training.seed"):
                raise ValueError(f"{key} is already varied by losses and repeats")
            if not values or len(set(values)) != len(values):
                raise ValueError(f"{key} needs at least one value, and each only once")
        return axes


class PredictSettings(Settings):
    """How test scenes are predicted."""

    engine: Literal["torch", "openvino"] = "torch"
    """Library that runs the network."""

    precision: Literal["auto", "fp32", "bf16"] = "auto"
    """Floating-point precision. auto uses bf16 if the processor or GPU supports it."""


class Study(Settings):
    """All settings of a study."""

    name: str = Field(default="study", pattern=r"^[A-Za-z0-9_-]+$")
    """Name of the study in titles and reports."""

    data: DataSettings = DataSettings()
    """Scenes and charts."""

    split: SplitSettings = SplitSettings()
    """Split of the scenes."""

    model: ModelSettings = ModelSettings()
    """Model."""

    loss: LossSettings = LossSettings()
    """Loss of `floemap train`, and the settings that the compared losses share."""

    tasks: Tasks = Field(default_factory=dict)
    """What the heads of the model learn, by their names."""

    crops: CropSettings = CropSettings()
    """Training crops."""

    training: TrainingSettings = TrainingSettings()
    """Training."""

    compare: CompareSettings = CompareSettings()
    """Comparison."""

    predict: PredictSettings = PredictSettings()
    """Prediction of the test scenes."""

    score: EvaluateSettings = EvaluateSettings()
    """Scores."""

    def all_data(self) -> DataSettings:
        """Return the settings of the data with the bands of all variants."""
        more = [changes["data.bands"] for changes in self.compare.variants.values() if "data.bands" in changes]
        named = [name for bands in more if isinstance(bands, list | tuple) for name in bands]
        each = [name for given in map(str, named) for name in BAND_GROUPS.get(given, (given,))]
        bands = tuple(dict.fromkeys([*self.data.bands, *each]))
        return self.data.model_copy(update={"bands": bands})

    def learning(self) -> LearningSettings:
        """Return the settings of one training."""
        return LearningSettings(
            model=self.model, loss=self.loss, tasks=self.tasks, crops=self.crops, training=self.training
        )
