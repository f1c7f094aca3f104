"""Prepared products and labels of a study, made from its scenes and charts.

The product and the labels of each scene are stages. They are made once, and later runs with the same inputs and
settings use them.
"""

from __future__ import annotations

import logging
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np

from floemap.bands import BandSet
from floemap.cog import read_geobox
from floemap.datasets.ai4arctic.files import open_scene_file
from floemap.datasets.ai4arctic.find import find_ai4arctic
from floemap.datasets.ai4arctic.prepare import label_scene, prepare_scene
from floemap.datasets.extremeearth.find import Entry, find_dataset
from floemap.datasets.extremeearth.split_halves import Footprint
from floemap.errors import MISSHAPEN, ConfigError, FloemapError, GridError, ProductError
from floemap.evaluation.scoring.sources import ClassTable, truth_band
from floemap.files import regular_file
from floemap.grid import check_same_grid
from floemap.icechart.label.label import label_chart
from floemap.icechart.land import describe_land
from floemap.layers.distance_to_land import layer_distance_to_land
from floemap.layers.from_raster import layer_from_raster
from floemap.layers.settings import DistanceSettings
from floemap.layers.stored import find_layer, hashes_of, how_to_make, scene_bands
from floemap.legend import Legend
from floemap.own_legends import chosen_legend, from_record, same_classes
from floemap.progress import Progress, milestones, part_of, silent
from floemap.results.run_paths import DataPaths
from floemap.results.stage import read_json, sha256
from floemap.sentinel1.encoding import PRODUCT_BANDS
from floemap.sentinel1.prepare import prepare
from floemap.sentinel1.safe.reader import open_scene
from floemap.study.settings import DataSettings, LayerSettings, SceneSettings

logger = logging.getLogger(__name__)

#: Suffix of AI4Arctic's files, which hold both bands and chart.
NETCDF = ".nc"


@dataclass(frozen=True)
class StudyScene:
    """A scene that is prepared and labelled.

    Attributes
    ----------
    name
        Name of the scene in the study: ``01`` to ``12`` in the ExtremeEarth dataset.
    product, labels
        Folders made by `floemap prepare` and `floemap label`, on the same grid.
    truth
        Raster of the true classes of a simulated scene, or None.
    start
        Start of the acquisition.
    footprint
        Outline of the scene on the ground.
    simulated
        Whether the product or the chart is simulated.
    hashes
        SHA-256 of product.tif and labels.tif, and of the layers that models learn from.
    bands
        Bands of the product and layers that models learn from.
    """

    name: str
    product: Path
    labels: Path
    truth: Path | None
    start: datetime
    footprint: Footprint
    simulated: bool
    hashes: dict[str, str]
    bands: BandSet = PRODUCT_BANDS

    @property
    def raster(self) -> Path:
        """Path of the raster of bands."""
        return self.product / "product.tif"

    @property
    def label_raster(self) -> Path:
        """Path of the raster of classes."""
        return self.labels / "labels.tif"

    def about(self) -> dict[str, Any]:
        """Return a description of the scene for records, ready for JSON."""
        return {
            "name": self.name,
            "product": self.product.name,
            "chart": self.labels.name,
            "start": self.start.isoformat(),
            "simulated": self.simulated,
            "sha256": self.hashes,
        }


def find_scenes(settings: DataSettings) -> tuple[SceneSettings, ...]:
    """Return the files of each scene, in order. Only lists of files are read.

    Raises
    ------
    ConfigError
        If the settings name neither a folder nor scenes.
    FloemapError
        If the folder lacks the product or chart of a month; the message names each.
    """
    if settings.scenes:
        return settings.scenes
    if settings.folder is None:
        raise ConfigError(
            "the study has no scenes.", hint="Give [data] folder, or --data FOLDER, or a list of [[data.scenes]]."
        )
    if settings.dataset == "ai4arctic":
        return _of_ai4arctic(settings.folder, settings.months)
    dataset = find_dataset(settings.folder, settings.months)
    return tuple(_of_dataset(dataset.root, dataset.entry(m), dataset.simulated) for m in sorted(set(settings.months)))


def _of_dataset(root: Path, entry: Entry, simulated: bool) -> SceneSettings:
    product, chart = entry.product, entry.chart
    assert product is not None and chart is not None  # find_dataset has checked
    truth = root / "truth" / entry.scene.product / "truth.tif"
    return SceneSettings(
        name=f"{entry.scene.month:02d}",
        product=product,
        chart=chart.path,
        layer=chart.inside,
        truth=truth if simulated and truth.is_file() else None,
    )


def _of_ai4arctic(folder: Path, months: Sequence[int]) -> tuple[SceneSettings, ...]:
    entries = [e for e in find_ai4arctic(folder) if int(e.name[4:6]) in months]
    if not entries:
        raise FloemapError(f"has no scene of the months {list(months)}.", path=folder, hint="Change [data] months.")
    found = [(e.name, e.product, e.chart) for e in entries]
    if lacking := [name for name, product, _ in found if product is None]:
        hint = "Download the files that end in _prep.nc, too."
        raise FloemapError(f"has charts and no bands of {', '.join(lacking[:5])}.", path=folder, hint=hint)
    return tuple(SceneSettings(name=n, product=p, chart=c) for n, p, c in found if p is not None and c is not None)


def make_data(settings: DataSettings, out: Path, *, progress: Progress = silent) -> tuple[StudyScene, ...]:
    """Prepare and label all scenes of a study. Finished products and labels are kept.

    Parameters
    ----------
    settings
        The scenes, and how they are prepared and labelled.
    out
        Folder for products and labels; :class:`floemap.results.run_paths.DataPaths` describes it.
    progress
        Progress callback, called as progress(done, total, message).

    Raises
    ------
    FloemapError
        As the stages do; the message begins with the name of the scene. Finished scenes are kept.
    """
    found = find_scenes(settings)
    scenes = []
    for i, scene in enumerate(found):
        steps = part_of(progress, i, len(found), f"scene {scene.name}")
        milestones.info("scene %d of %d: %s, bands and labels", i + 1, len(found), scene.name)
        try:
            scenes.append(_make(scene, settings, DataPaths(out), steps))
        except FloemapError as e:
            e.message = f"scene {scene.name}: {e.message}"
            raise
    progress(len(found), len(found), "scenes prepared")
    return tuple(scenes)


def check_layers(settings: DataSettings, out: Path | None) -> None:
    """Check that the layers of a study's scenes are there, or the files that it makes them from, before any work.

    Parameters
    ----------
    settings
        The scenes, and the bands that models learn from.
    out
        Folder for products and labels, as of :func:`make_data`; None if there is none yet.

    Raises
    ------
    ProductError, ConfigError, GridError
        If a scene lacks a layer, or one cannot be used, with the commands that make it; the message begins with the
        name of the scene.
    """
    wanted = [n for n in settings.bands if n not in PRODUCT_BANDS.names]
    if not wanted:
        return
    for scene in find_scenes(settings):
        try:
            product = scene.product
            if not (product / "product.json").is_file():
                product = DataPaths(out or Path("data")).prepared / _name_of(product)
            for name in wanted:
                if (how := settings.layers.get(name)) is None:
                    _find(scene, product, name)
                elif how.land is not None:
                    describe_land(how.land)
                else:
                    regular_file(_raster_for(how, scene, product))
        except FloemapError as e:
            e.message = f"scene {scene.name}: {e.message}"
            raise


def _name_of(product: Path) -> str:
    """Return the name that the folder of a product gets when it is prepared."""
    if product.suffix == NETCDF:
        with open_scene_file(product) as file:
            return file.scene.name
    return open_scene(product, pixels=False).name


def _find(scene: SceneSettings, product: Path, name: str) -> None:
    """Refuse a scene without a layer of this name; `product` is its prepared folder, which need not be there."""
    raster = product / "product.tif"
    if not raster.is_file():
        raise ProductError(
            f"is not prepared yet, and so lacks the layer {name}.",
            path=scene.product,
            hint=f"Prepare it with `floemap prepare {shlex.quote(str(scene.product))} --out "
            f"{shlex.quote(str(product.parent))}`. {how_to_make(raster, name)}",
        )
    find_layer(raster, name)


def _raster_for(how: LayerSettings, scene: SceneSettings, product: Path) -> str:
    """Return the path of the raster that a scene's layer is made from."""
    return str(how.raster).replace("{scene}", scene.name).replace("{product}", product.name)


def _layers(scene: SceneSettings, settings: DataSettings, product: Path, progress: Progress) -> None:
    """Make the layers of a prepared product that the study makes by itself. Finished ones are kept."""
    for i, name in enumerate(n for n in settings.bands if n in settings.layers):
        how, steps = settings.layers[name], part_of(progress, i, len(settings.layers), name)
        if how.land is not None:
            layer_distance_to_land(product, how.land, DistanceSettings(cap_km=how.cap_km), progress=steps)
        else:
            layer_from_raster(product, _raster_for(how, scene, product), name, how.options, progress=steps)


def _make(scene: SceneSettings, settings: DataSettings, out: DataPaths, progress: Progress) -> StudyScene:
    product = scene.product
    if product.suffix == NETCDF:
        steps = part_of(progress, 0, 2, "preparing")
        product = prepare_scene(product, out.prepared, settings.prepare, progress=steps).folder
    elif not (product / "product.json").is_file():
        product = prepare(
            scene.product, out.prepared, settings.prepare, progress=part_of(progress, 0, 2, "preparing")
        ).folder
    _layers(scene, settings, product, part_of(progress, 0, 2, "layers"))
    labels = scene.chart
    if labels.suffix == NETCDF:
        steps = part_of(progress, 1, 2, "labelling")
        labels = label_scene(labels, product, out.labels(scene.name), rule=settings.rule, progress=steps).folder
    elif not (labels / "label.json").is_file():
        labels = label_chart(
            scene.chart,
            product,
            out.labels(scene.name),
            settings.label_settings(scene.layer),
            progress=part_of(progress, 1, 2, "labelling"),
        ).folder
    truth = scene.truth
    if truth is not None:
        try:
            check_same_grid(read_geobox(labels / "labels.tif"), read_geobox(truth), f"{labels} and {truth}")
            truth_band(truth, ClassTable.of(chosen_legend(settings.legend)))
        except (GridError, ConfigError) as e:
            if settings.scenes:  # the user has named this truth
                raise
            logger.warning("scene %s: %s Scores and checks against the truth are left out.", scene.name, e.message)
            truth = None
    chosen = chosen_legend(settings.legend)
    return open_study_scene(scene.name, product, labels, truth, legend=chosen, bands=settings.bands)


def open_study_scene(
    name: str,
    product: Path,
    labels: Path,
    truth: Path | None,
    *,
    legend: Legend,
    bands: Sequence[str] = PRODUCT_BANDS.names,
) -> StudyScene:
    """Return a study scene from the records of a prepared product and its labels, with the named bands.

    Raises
    ------
    ConfigError
        If the labels were made with another legend.
    ProductError, GridError
        If a layer is missing or cannot be used.
    FloemapError
        If one of them is not finished, or is of another kind.
    """
    about, label = read_json(product / "product.json"), read_json(labels / "label.json")
    used = from_record(label.get("legend"), labels / "label.json")
    if not same_classes(used, legend):
        raise ConfigError(
            f"the labels {labels} have the legend {used.name!r}, and the study's legend {legend.name!r} has other "
            "classes or codes.",
            hint="Label the chart again, with `floemap label --legend`, or change [data] legend.",
        )
    try:
        start = datetime.fromisoformat(about["scene"]["start"])
        footprint = Footprint.from_corners(np.array(about["corners_lonlat_deg"]))
        simulated = bool(about["simulated"]) or bool(label.get("simulated", False))
    except MISSHAPEN as e:
        raise FloemapError(
            f"is not the record of a prepared product: {e!r}.",
            path=product / "product.json",
            hint="Make it again with `floemap prepare --overwrite`.",
        ) from e
    rasters: Sequence[Path] = (product / "product.tif", labels / "labels.tif")
    hashes = {path.name: sha256(path) for path in rasters}
    found = scene_bands(product, bands, product_sha256=hashes["product.tif"])
    hashes |= hashes_of(product / "product.tif", found)
    return StudyScene(name, product, labels, truth, start, footprint, simulated, hashes, found)
