"""One scene in, a draft ice chart out: every file that analysts and ships' systems read, in one folder.

The folder is named as the product and holds ``classes.tif``, ``probabilities.tif``, ``uncertainty.tif``, ``chart.gpkg``
with its style ``chart.qml``, a SIGRID-3 shapefile with metadata, ``chart.geojson``, ``chart.nc``, ``quicklook.png``,
``item.json``, and ``chart.json``, which says how all of it was made. It is there as a whole or not at all.
"""

from __future__ import annotations

import functools
import logging
import math
import shutil
from collections.abc import Callable, Collection, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from floemap.errors import ConfigError, ModelError, ProductError
from floemap.icechart.write.table import STATUS
from floemap.inference.draftchart.files import ChartParts, Steps, write_outputs
from floemap.inference.draftchart.folder import ITEM, RECORD, STAGE, missing_outputs, refuse_edited
from floemap.inference.draftchart.land import describe_land, land_on
from floemap.inference.draftchart.record import about_chart, describe_files, found_on_chart, notes_on_chart
from floemap.inference.draftchart.settings import ChartSettings
from floemap.inference.draftchart.source import ChartSource, find_product, inputs_of, prepare_source
from floemap.inference.draftchart.stac import write_chart_item
from floemap.inference.predict.memory import give_back_memory
from floemap.inference.predict.model_files import LoadedModels, ModelFile, find_models
from floemap.inference.predict.scene_maps import SceneMaps, without_land
from floemap.learning.models.checkpoint_header import RESOLUTION_TOLERANCE
from floemap.legend import IGNORE
from floemap.outcomes import Outcome, each_product
from floemap.progress import Progress, between, silent
from floemap.results.folders import made_of, stage_folder, told_sources
from floemap.results.names import place_in
from floemap.results.stage import provenance, write_json

if TYPE_CHECKING:  # importing torch takes a second, and is done while the product is prepared
    from floemap.inference.predict.engines import Engine
    from floemap.learning.whole_scene.pieces import Precision

logger = logging.getLogger(__name__)

#: How far borders may be moved, pixels, where no tolerance is given.
_TOLERANCE_PX = 2.0


@dataclass(frozen=True)
class DraftChart:
    """A finished chart folder."""

    folder: Path
    skipped: bool = False

    @property
    def record(self) -> Path:
        """How it was made."""
        return self.folder / RECORD


def make_chart(
    product: str | Path,
    models: Sequence[str | Path] | None,
    out: str | Path,
    settings: ChartSettings | None = None,
    *,
    land_mask: str | Path | None = None,
    prepared: str | Path | None = None,
    engine: Engine = "torch",
    precision: Precision = "auto",
    device: str = "auto",
    overwrite: bool = False,
    progress: Progress = silent,
) -> DraftChart:
    """Make a draft ice chart of a scene.

    Parameters
    ----------
    product
        A Sentinel-1 product's folder or zip, or one made by ``floemap prepare``.
    models
        Checkpoints. The probabilities of several are averaged, and their disagreement is reported. None for the one
        that comes with floemap.
    out
        Folder that gets a folder named as the product.
    settings
        See :class:`floemap.inference.draftchart.settings.ChartSettings`.
    land_mask
        A file of polygons of land, or an ice chart, whose land is taken: see
        :func:`floemap.inference.draftchart.land.land_on`. Their pixels get no class, and the chart has them as land.
    prepared
        Folder in which the prepared product is kept; without it, it is removed in the end.
    engine, precision, device
        What runs the network; see :func:`floemap.inference.predict.predict.predict`.
    overwrite
        Make it again even where it is finished with the same inputs and settings.
    progress
        Progress callback, called as progress(done, total, message).

    Raises
    ------
    ProductError
        If the product cannot be read, is of another kind, holds no data, or is all land.
    ModelError
        If a model cannot be read, does not fit the product or the other models.
    ChartError
        If the land mask cannot be read, or no polygon reaches the minimum area.
    GridError
        If the product's grid cannot be used.
    ConfigError
        If there is no such engine, precision or device.
    OutputError
        If the results cannot be written.
    """
    with LoadedModels(find_models(models), engine, precision, device) as ready:
        work = _work(ready, out, settings, land_mask, prepared, overwrite)
        return work(Path(product), (), progress)


def make_charts(
    products: Sequence[str | Path],
    models: Sequence[str | Path] | None,
    out: str | Path,
    settings: ChartSettings | None = None,
    *,
    land_mask: str | Path | None = None,
    prepared: str | Path | None = None,
    engine: Engine = "torch",
    precision: Precision = "auto",
    device: str = "auto",
    overwrite: bool = False,
    progress_of: Callable[[Path], Progress] | None = None,
    finished: Callable[[Outcome[DraftChart]], None] | None = None,
) -> list[Outcome[DraftChart]]:
    """Make a chart of each product; see :func:`make_chart`.

    Parameters
    ----------
    progress_of
        Gives the progress callback of each product.
    finished
        Is called with each outcome as it is known.

    Returns
    -------
    One outcome for each product, in order. Errors are in them, not raised.

    Raises
    ------
    ModelError, ConfigError
        If the models cannot be loaded: then nothing can be charted.
    """
    with LoadedModels(find_models(models), engine, precision, device) as ready:
        work = _work(ready, out, settings, land_mask, prepared, overwrite)
        return each_product(products, work, progress_of=progress_of, finished=finished, hopeless=lambda: ready.failed)


def _work(
    models: LoadedModels,
    out: str | Path,
    settings: ChartSettings | None,
    land_mask: str | Path | None,
    prepared: str | Path | None,
    overwrite: bool,
) -> Callable[[Path, Collection[Path], Progress], DraftChart]:
    """Return the work of :func:`floemap.outcomes.each_product` that makes the chart of a product."""

    @functools.cache
    def warn() -> None:
        """Warn, once, of what all charts of the call lack, when it is known that there is a product to chart."""
        for m in models.files:
            m.warn_if_simulated()
        if land_mask is None:
            logger.warning("no land mask is given: land is charted as ice or water. --land-mask FILE leaves it out")

    def work(product: Path, made: Collection[Path], progress: Progress) -> DraftChart:
        return _make(
            product,
            models,
            Path(out),
            settings or ChartSettings(),
            land_mask=None if land_mask is None else Path(land_mask),
            prepared=None if prepared is None else Path(prepared),
            overwrite=overwrite,
            made=made,
            warn=warn,
            progress=progress,
        )

    return work


def _make(
    product: Path,
    models: LoadedModels,
    out: Path,
    settings: ChartSettings,
    *,
    land_mask: Path | None,
    prepared: Path | None,
    overwrite: bool,
    made: Collection[Path],
    warn: Callable[[], None],
    progress: Progress,
) -> DraftChart:
    steps = Steps()
    source = find_product(product)
    settings = _fitted(settings, models.files[0], source)
    land = describe_land(land_mask)
    inputs = inputs_of(source, settings.prepare) | {"models": [m.sha256 for m in models.files], "land": land}
    warn()
    own = {"only", "prepare"} if source.prepared else {"only"}
    configuration = settings.model_dump(mode="json", exclude=own) | models.configuration
    folder = _folder_of(source, out, prepared)
    outputs = missing_outputs(folder, source, settings, None if overwrite else (inputs, configuration))
    if not outputs:
        if prepared is not None:
            prepare_source(source, prepared, settings.prepare, overwrite=False, progress=progress)
        logger.info("%s is finished already", folder)
        return DraftChart(folder, skipped=True)
    read = {"scene": source.path} | {f"model {i}": model.path for i, model in enumerate(models.files, 1)}
    read |= {} if land_mask is None else {"land mask": land_mask}
    refuse_edited(folder, source, read, inputs, replace_others=overwrite and folder not in made)
    models.begin()
    with stage_folder(folder, STAGE, sources=read) as partial:
        work = partial / ".prepared"
        with steps.step("preparing"):
            tell = between(progress, 0.0, 0.35)
            scene = prepare_source(source, prepared or work, settings.prepare, overwrite=overwrite, progress=tell)
        give_back_memory()
        with steps.step("waiting for the models"):
            computed = [asdict(p.computation) for p in models.predictors()]
        with steps.step("predicting"):
            maps = models.predict(scene.raster, between(progress, 0.35, 0.65))
        give_back_memory()
        if land_mask is not None:
            with steps.step("land mask"):
                maps = _masked(maps, land_mask, source)
        record = provenance(STAGE, inputs=inputs, configuration=configuration)
        tolerance_m = settings.tolerance_m
        if tolerance_m is None:
            tolerance_m = _TOLERANCE_PX * float(abs(maps.geobox.resolution.x))
        about = about_chart(record, source, scene, models.files, land, settings, tolerance_m)
        parts = ChartParts(maps, scene, settings, tolerance_m, about, notes_on_chart(about, models.files))
        written = write_outputs(partial, outputs, parts, steps, between(progress, 0.65, 1.0))
        shutil.rmtree(work, ignore_errors=True)
        files = describe_files(partial, [n for names in written.files.values() for n in names])
        facts = {"simulated": about["simulated"], "floemap:status": STATUS, "floemap:settings": configuration} | {
            f"floemap:{k}": v for k, v in land.items()
        }
        kept = source.prepared or prepared is not None
        write_chart_item(partial / ITEM, files, scene, models.files, facts, kept=kept)
        record |= found_on_chart(source, scene, models.files, land, maps, written)
        record |= {"computed": computed}
        record |= {"files": files, "seconds": steps.seconds, "sources": told_sources(folder, read)}
        record |= {"bytes": made_of(partial)}
        write_json(partial / RECORD, record)
    progress(1, 1, "done")
    return DraftChart(folder)


def _folder_of(source: ChartSource, out: Path, prepared: Path | None) -> Path:
    """Return where a chart goes, which may not be where the prepared product is kept."""
    folder = place_in(out, source.name, "the product", path=source.path, kind=ProductError)
    if prepared is not None and (prepared / source.name).resolve() == folder.resolve():
        raise ConfigError(
            f"the prepared product would be kept in the chart's own folder, {folder}.",
            hint="Choose another --prepared.",
        )
    return folder


def _fitted(settings: ChartSettings, model: ModelFile, source: ChartSource) -> ChartSettings:
    """Return settings by which a product is prepared for a model; refuse another pixel size before any work."""
    own = settings.prepare
    if source.prepared:
        if own.model_fields_set:
            raise ConfigError(
                f"is prepared already, so {', '.join(sorted(own.model_fields_set))} cannot be chosen any more.",
                path=source.path,
                hint="Leave it out, or give the product as downloaded.",
            )
        return settings
    if "resolution_m" in own.model_fields_set:
        if not math.isclose(own.resolution_m, model.resolution_m, rel_tol=RESOLUTION_TOLERANCE):
            raise ModelError(
                f"learnt from pixels of {model.resolution_m:g} m; asked for are {own.resolution_m:g} m.",
                path=model.path,
                hint="Leave --resolution out, or take a model of that pixel size.",
            )
        return settings
    return settings.model_copy(update={"prepare": own.model_copy(update={"resolution_m": model.resolution_m})})


def _masked(maps: SceneMaps, land_mask: Path, source: ChartSource) -> SceneMaps:
    masked = without_land(maps, land_on(land_mask, maps.geobox))
    if masked.land is None or not masked.land.any():
        logger.warning("%s has no land on %s. Is it the right mask?", land_mask, source.name)
    if (masked.classes == IGNORE).all():
        raise ProductError(
            f"is all land, by {land_mask}: there is nothing to chart.",
            path=source.path,
            hint="Is it the right scene, and the right mask?",
        )
    return masked
