"""Prepared products and labels of a study, made from its scenes and charts.

The product and the labels of each scene are stages. They are made once, and later runs with the same inputs and
settings use them.
"""

from __future__ import annotations

import logging
import shlex
from functools import partial
from pathlib import Path

from floemap.cog import read_geobox
from floemap.datasets.base import SceneFiles
from floemap.datasets.registry import DATASETS, reader_of
from floemap.errors import ConfigError, FloemapError, GridError, ProductError
from floemap.evaluation.scoring.sources import ClassTable, truth_band
from floemap.files import regular_file
from floemap.grid import check_same_grid
from floemap.icechart.land import describe_land
from floemap.layers.distance_to_land import layer_distance_to_land
from floemap.layers.from_raster import layer_from_raster
from floemap.layers.of_ai4arctic import layers_of_ai4arctic
from floemap.layers.settings import DistanceSettings
from floemap.layers.stored import find_layer, how_to_make
from floemap.own_legends import chosen_legend
from floemap.progress import Progress, milestones, part_of, silent
from floemap.results.run_paths import DataPaths
from floemap.sentinel1.encoding import PRODUCT_BANDS
from floemap.study.known import KnownScenes
from floemap.study.scene import StudyScene, open_study_scene
from floemap.study.settings import DataSettings

logger = logging.getLogger(__name__)


def find_scenes(settings: DataSettings) -> tuple[SceneFiles, ...]:
    """Return the files of each scene, in order. Only lists of files are read.

    Raises
    ------
    ConfigError
        If the settings name neither a folder nor scenes.
    FloemapError
        If the folder lacks scenes or files of the dataset; the message names them.
    """
    if settings.scenes:
        return tuple(SceneFiles(s.name, s.product, s.chart, s.layer, s.truth) for s in settings.scenes)
    if settings.folder is None:
        raise ConfigError(
            "the study has no scenes.", hint="Give [data] folder, or --data FOLDER, or a list of [[data.scenes]]."
        )
    return DATASETS[settings.dataset].scenes(settings.folder, settings.months)


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
    before = KnownScenes(settings, out)
    scenes = {}
    for i, scene in enumerate(found):
        if (known := before.known(scene)) is not None:
            scenes[scene.name] = known
            continue
        steps = part_of(progress, i, len(found), f"scene {scene.name}")
        milestones.info("scene %d of %d: %s, bands and labels", i + 1, len(found), scene.name)
        try:
            make = partial(_make, scene, settings, DataPaths(out), steps)
            scenes[scene.name] = before.remember(scene, make)
        except FloemapError as e:
            e.message = f"scene {scene.name}: {e.message}"
            raise
    progress(len(found), len(found), "scenes prepared")
    return tuple(scenes[s.name] for s in found)


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
                product = DataPaths(out or Path("data")).prepared / reader_of(scene.product).name_of(scene.product)
            own = reader_of(scene.product).layers(wanted)
            for name in wanted:
                if name in own and name not in settings.layers:
                    continue
                if (how := settings.layers.get(name)) is None:
                    _find(scene, product, name)
                elif how.land is not None:
                    describe_land(how.land)
                else:
                    regular_file(how.raster_for(scene.name, product.name))
        except FloemapError as e:
            e.message = f"scene {scene.name}: {e.message}"
            raise


def _find(scene: SceneFiles, product: Path, name: str) -> None:
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


def _layers(scene: SceneFiles, settings: DataSettings, product: Path, progress: Progress) -> None:
    """Make the layers of a prepared product that the study makes by itself. Finished ones are kept."""
    made = [n for n in settings.bands if n in settings.layers]
    for i, name in enumerate(made):
        how, steps = settings.layers[name], part_of(progress, i, len(made), name)
        if how.land is not None:
            layer_distance_to_land(product, how.land, DistanceSettings(cap_km=how.cap_km), progress=steps)
        else:
            raster = how.raster_for(scene.name, product.name)
            layer_from_raster(product, raster, name, how.options, progress=steps)
    own = reader_of(scene.product).layers([n for n in settings.bands if n not in made])
    if own:
        layers_of_ai4arctic(product, scene.product, own, progress=progress)


def _make(scene: SceneFiles, settings: DataSettings, out: DataPaths, progress: Progress) -> StudyScene:
    product, labels = scene.product, scene.chart
    if not (product / "product.json").is_file():
        steps = part_of(progress, 0, 2, "preparing")
        product = reader_of(product).prepare(product, out.prepared, settings.prepare, steps)
    _layers(scene, settings, product, part_of(progress, 0, 2, "layers"))
    if not (labels / "label.json").is_file():
        how, steps = settings.label_settings(scene.layer), part_of(progress, 1, 2, "labelling")
        labels = reader_of(labels).label(labels, product, out.labels(scene.name), how, settings.rule, steps)
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
