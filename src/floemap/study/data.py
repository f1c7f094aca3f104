"""Prepared products and labels of a study, made from its scenes and charts.

The product and the labels of each scene are stages. They are made once, and later runs with the same inputs and
settings use them.
"""

from __future__ import annotations

import hashlib
import logging
import shlex
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from functools import partial
from pathlib import Path

from floemap.cog import read_geobox
from floemap.datasets.base import SceneFiles
from floemap.datasets.registry import DATASETS, reader_of
from floemap.errors import ConfigError, FloemapError, GridError, ProductError
from floemap.evaluation.scoring.sources import ClassTable, truth_band
from floemap.files import regular_file, regular_file_or_folder
from floemap.grid import check_same_grid
from floemap.icechart.land import describe_land
from floemap.layers.distance_to_land import layer_distance_to_land
from floemap.layers.from_raster import layer_from_raster
from floemap.layers.of_ai4arctic import layers_of_ai4arctic
from floemap.layers.settings import DistanceSettings
from floemap.layers.stored import find_layer, how_to_make
from floemap.own_legends import chosen_legend
from floemap.progress import Progress, milestones, part_of, silent
from floemap.results.locks import held
from floemap.results.run_paths import DataPaths
from floemap.results.stage import made_folder, os_errors
from floemap.sentinel1.encoding import PRODUCT_BANDS
from floemap.study.known import KnownScenes
from floemap.study.preparing import prepare_beside, scene_jobs
from floemap.study.scene import StudyScene, open_study_scene
from floemap.study.settings import DataSettings
from floemap.study.table import listed

logger = logging.getLogger(__name__)

#: Most scenes that an error names.
_NAMED = 10


def find_scenes(settings: DataSettings) -> tuple[SceneFiles, ...]:
    """Return the files of each scene, in order. Only lists of files are read.

    Raises
    ------
    ConfigError
        If the settings name neither a folder nor scenes.
    FloemapError
        If the folder lacks scenes or files of the dataset; the message names them.
    """
    settings = listed(settings)
    if settings.scenes:
        return tuple(SceneFiles(s.name, s.product, s.chart, s.layer, s.truth) for s in settings.scenes)
    if settings.folder is None:
        raise ConfigError(
            "the study has no scenes.",
            hint="Give [data] folder, or --data FOLDER, or a list of [[data.scenes]], or a table.",
        )
    return DATASETS[settings.dataset].scenes(settings.folder, settings.months)


def make_data(
    settings: DataSettings, out: Path, *, jobs: int | None = None, progress: Progress = silent
) -> tuple[StudyScene, ...]:
    """Prepare and label all scenes of a study. Finished products and labels are kept.

    Parameters
    ----------
    settings
        The scenes, and how they are prepared and labelled.
    out
        Folder for products and labels; :class:`floemap.results.run_paths.DataPaths` describes it.
    jobs
        Number of scenes to prepare at the same time, each in its own process. By default as many as the memory and
        the cores allow. With 1 they are prepared in this process.
    progress
        Progress callback, called as progress(done, total, message).

    Raises
    ------
    FloemapError
        As the stages do, after all other scenes were made; the message names the scenes.
    """
    found = find_scenes(settings)
    before = KnownScenes(settings, out)
    scenes = {s.name: known for s in found if (known := before.known(s)) is not None}
    todo = {s.name: s for s in found if s.name not in scenes}
    failed: dict[str, FloemapError] = {}

    def finish(scene: SceneFiles, steps: Progress) -> None:
        try:
            scenes[scene.name] = before.remember(scene, partial(_make, scene, settings, DataPaths(out), steps))
        except FloemapError as e:
            failed[scene.name] = e

    jobs = min(scene_jobs(settings.prepare.resolution_m) if jobs is None else jobs, len(todo))
    if jobs > 1:
        milestones.info("%d scenes, bands and labels, %d at a time", len(todo), jobs)
        before_these = len(scenes)

        def tell(done: float, total: float, what: str) -> None:
            progress(before_these + done, len(found), what)

        with closing(prepare_beside(tuple(todo.values()), settings, out, jobs, tell)) as outcomes:
            for i, (name, error) in enumerate(outcomes, 1):
                milestones.info("scene %d of %d: %s, %s", i, len(todo), name, "made" if error is None else "failed")
                if error is None:
                    finish(todo[name], silent)
                else:
                    failed[name] = error
    else:
        for i, (name, scene) in enumerate(todo.items()):
            milestones.info("scene %d of %d: %s, bands and labels", i + 1, len(todo), name)
            finish(scene, part_of(progress, len(found) - len(todo) + i, len(found), f"scene {name}"))
    if failed:
        raise _failure(failed, len(found))
    progress(len(found), len(found), "scenes prepared")
    return tuple(scenes[s.name] for s in found)


def _failure(failed: Mapping[str, FloemapError], scenes: int) -> FloemapError:
    """Return one error for all scenes that failed: that of the scene if it is only one."""
    name, first = next(iter(failed.items()))
    first.message = f"scene {name}: {first.message}"
    if len(failed) == 1:
        return first
    for other, error in failed.items():
        logger.error("%s", error if other == name else f"scene {other}: {error}")
    named = ", ".join(list(failed)[:_NAMED]) + (f" and {len(failed) - _NAMED} more" if len(failed) > _NAMED else "")
    words = f"{len(failed)} of {scenes} scenes could not be prepared: {named}. The first: {first}"
    same = {type(e) for e in failed.values()} == {type(first)}
    kind = type(first) if same else FloemapError
    return kind(words, hint="The others are finished, and are kept.")


def check_files(scenes: Sequence[SceneFiles]) -> None:
    """Check that the products and charts of scenes are there, before any work.

    Raises
    ------
    FloemapError
        If one is not; the message begins with the name of the scene.
    """
    failed: dict[str, FloemapError] = {}
    for scene in scenes:
        try:
            for path in filter(None, (scene.product, scene.chart, scene.truth)):
                regular_file_or_folder(path)
        except FloemapError as e:
            failed[scene.name] = e
    if failed:
        name, first = next(iter(failed.items()))
        several = (
            "" if len(failed) == 1 else f"files of {len(failed)} of {len(scenes)} scenes are missing. The first is of "
        )
        first.message = f"{several}scene {name}: {first.message}"
        raise first


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


def make_results(scene: SceneFiles, settings: DataSettings, out: DataPaths, progress: Progress) -> tuple[Path, Path]:
    """Prepare and label a scene, and make its layers; return the folders of product and labels.

    Raises
    ------
    FloemapError
        As the stages do.
    """
    product, labels = scene.product, scene.chart
    if not (product / "product.json").is_file():
        reader, steps = reader_of(product), part_of(progress, 0, 2, "preparing")
        with _alone_with(out.prepared, reader.name_of(product)):
            product = reader.prepare(product, out.prepared, settings.prepare, steps)
    if set(settings.bands) - set(PRODUCT_BANDS.names):
        with _alone_with(out.prepared, product.name):
            _layers(scene, settings, product, part_of(progress, 0, 2, "layers"))
    if not (labels / "label.json").is_file():
        how, steps = settings.label_settings(scene.layer), part_of(progress, 1, 2, "labelling")
        labels = reader_of(labels).label(labels, product, out.labels(scene.name), how, settings.rule, steps)
    return product, labels


@contextmanager
def _alone_with(folder: Path, name: str) -> Iterator[None]:
    """Let one process at a time make the product of a name: two scenes may share it, or its name."""
    with ExitStack() as stack:
        with os_errors(folder):
            stack.enter_context(made_folder(folder))
            digest = hashlib.sha256(name.encode("utf-8", "surrogateescape")).hexdigest()[:16]
            stack.enter_context(held(folder / f".{digest}.lock", wait=True))
        yield


def _make(scene: SceneFiles, settings: DataSettings, out: DataPaths, progress: Progress) -> StudyScene:
    product, labels = make_results(scene, settings, out, progress)
    truth = scene.truth
    if truth is not None:
        try:
            check_same_grid(read_geobox(labels / "labels.tif"), read_geobox(truth), f"{labels} and {truth}")
            truth_band(truth, ClassTable.of(chosen_legend(settings.legend)))
        except (GridError, ConfigError) as e:
            if settings.folder is None:  # the user has named this truth
                raise
            logger.warning("scene %s: %s Scores and checks against the truth are left out.", scene.name, e.message)
            truth = None
    chosen = chosen_legend(settings.legend)
    return open_study_scene(scene.name, product, labels, truth, legend=chosen, bands=settings.bands)
