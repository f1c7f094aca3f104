"""From one scene to a draft ice chart: all files that analysts and ships' systems read, in one folder.

The folder has the name of the product and contains ``classes.tif``, ``probabilities.tif``, ``uncertainty.tif``,
``chart.gpkg`` with its style ``chart.qml``, a SIGRID-3 shapefile with metadata, ``chart.geojson``, ``chart.nc``,
``quicklook.png``, ``radar.tif``, a QGIS project ``chart.qgz``, ``item.json``, and ``chart.json``, the record of how all
of it was made. It appears whole or not at all.
"""

from __future__ import annotations

import logging
import math
import shutil
from collections.abc import Callable, Collection, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from floemap.datasets.ai4arctic.form import PREPARE_SETTINGS
from floemap.errors import ConfigError, ModelError, ProductError
from floemap.icechart.land import describe_land, land_on
from floemap.icechart.write.table import STATUS
from floemap.inference.draftchart.egg_basis import egg_basis
from floemap.inference.draftchart.files import ChartParts, Steps, write_outputs
from floemap.inference.draftchart.folder import ITEM, RECORD, STAGE, missing_outputs, refuse_edited, with_made_classes
from floemap.inference.draftchart.record import about_chart, describe_files, found_on_chart, notes_on_chart
from floemap.inference.draftchart.settings import ChartSettings
from floemap.inference.draftchart.source import ChartSource, find_product, inputs_of, prepare_source
from floemap.inference.draftchart.stac import write_chart_item
from floemap.inference.predict.memory import give_back_memory
from floemap.inference.predict.model_files import LoadedModels, ModelFile, find_models
from floemap.inference.predict.scene_maps import SceneMaps, warn_if_unlike, without_land
from floemap.learning.models.checkpoint_header import RESOLUTION_TOLERANCE
from floemap.legend import IGNORE
from floemap.outcomes import Outcome, each_product
from floemap.progress import Progress, between, silent
from floemap.remote.address import paths_and_addresses
from floemap.remote.work import with_copies
from floemap.results.folders import made_of, stage_folder, told_sources
from floemap.results.names import place_in
from floemap.results.stage import provenance, write_json
from floemap.sentinel1.encoding import PRODUCT_BANDS
from floemap.warned import logged_warnings

if TYPE_CHECKING:  # importing torch takes a second, and is done while the product is prepared
    from floemap.inference.predict.engines import Engine
    from floemap.learning.whole_scene.pieces import Precision
    from floemap.remote.copies import Known

logger = logging.getLogger(__name__)

#: Default tolerance of simplified borders, pixels.
_TOLERANCE_PX = 2.0


@dataclass(frozen=True)
class DraftChart:
    """A finished chart folder; `skipped` if it was finished before."""

    folder: Path
    skipped: bool = False

    @property
    def record(self) -> Path:
        """Path of chart.json, the record of how the chart was made."""
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
        A Sentinel-1 product's folder or zip, or a folder made by ``floemap prepare``; or the address of a product on a
        server (``https://``) or in an object store (``s3://``, ``gs://``, ``az://``), which is copied for the time of
        the work.
    models
        Checkpoints. The probabilities of several are averaged, and their disagreement is reported. None for the model
        that comes with floemap.
    out
        Folder in which a folder with the name of the product is made.
    settings
        See :class:`floemap.inference.draftchart.settings.ChartSettings`.
    land_mask
        A file of land polygons, or an ice chart, whose land polygons are used; see
        :func:`floemap.icechart.land.land_on`. Their pixels get no class and are land in the chart.
    prepared
        Folder in which the prepared product is kept; by default it is removed when the chart is finished.
    engine, precision, device
        Software, floating-point precision and device of the computation; see
        :func:`floemap.inference.predict.predict.predict`.
    overwrite
        Make the chart again even where one with the same inputs and settings is finished.
    progress
        Progress callback, called as progress(done, total, message).

    Raises
    ------
    ProductError
        If the product cannot be read, is of another kind, has no data, or is land everywhere.
    ModelError
        If a model cannot be read, or does not fit the product or the other models.
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
        call = ChartCall(ready, out, settings, land_mask, prepared, overwrite)
        paths, addresses = paths_and_addresses([product])
        return with_copies(call.make, call.finished_before, out, addresses)(paths[0], (), progress)


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
    """Make a chart of each product; see :func:`make_chart`. The models are loaded once.

    Parameters
    ----------
    progress_of
        Function that returns the progress callback of a product.
    finished
        Callback, called with each outcome as soon as it is known.

    Returns
    -------
    One outcome for each product, in order, with its result or its error.

    Raises
    ------
    ModelError, ConfigError
        If the models cannot be loaded, so that no product can be charted.
    """
    with LoadedModels(find_models(models), engine, precision, device) as ready:
        call = ChartCall(ready, out, settings, land_mask, prepared, overwrite)
        paths, addresses = paths_and_addresses(products)
        work = with_copies(call.make, call.finished_before, out, addresses)
        return each_product(paths, work, progress_of=progress_of, finished=finished, hopeless=lambda: ready.failed)


def check_call(models: Sequence[ModelFile], settings: ChartSettings, land_mask: str | Path | None) -> None:
    """Check what can be checked without a product, so that errors which concern all charts are reported before any.

    Raises
    ------
    ConfigError
        If the settings are not those of charts.
    ModelError
        If another pixel size is asked for than that of the models.
    ChartError
        If the land mask cannot be read.
    """
    own, model = settings.prepare, models[0]
    if own.grid == "image":
        raise ConfigError("prepare.grid is image, and a draft chart is a map.", hint="Leave it out, or set polar.")
    if "resolution_m" in own.model_fields_set and not math.isclose(
        own.resolution_m, model.resolution_m, rel_tol=RESOLUTION_TOLERANCE
    ):
        raise ModelError(
            f"was trained on pixels of {model.resolution_m:g} m; {own.resolution_m:g} m are requested.",
            path=model.path,
            hint="Leave --resolution out, or take a model of that pixel size.",
        )
    describe_land(land_mask)


class ChartCall:
    """What all charts of a call have in common, and the work of :func:`floemap.outcomes.each_product`.

    Raises
    ------
    ConfigError, ModelError, ChartError
        As :func:`check_call` does.
    """

    def __init__(
        self,
        models: LoadedModels,
        out: str | Path,
        settings: ChartSettings | None,
        land_mask: str | Path | None,
        prepared: str | Path | None,
        overwrite: bool,
    ) -> None:
        self.models, self.out, self.overwrite = models, Path(out), overwrite
        self.settings = settings or ChartSettings()
        self.land_mask = None if land_mask is None else Path(land_mask)
        self.prepared = None if prepared is None else Path(prepared)
        self._standing: list[str] | None = None
        check_call(models.files, self.settings, self.land_mask)

    def make(self, product: Path, made: Collection[Path], progress: Progress) -> DraftChart:
        """Make the chart of a product; `made` are the folders of this call, which it must not replace."""
        with logged_warnings() as warned:
            return self._make(product, made, progress, warned)

    def _make(self, product: Path, made: Collection[Path], progress: Progress, warned: list[str]) -> DraftChart:
        models, steps = self.models, Steps()
        source = find_product(product)
        settings = with_made_classes(self._folder_of(source), _fitted(self.settings, models.files[0], source))
        land = describe_land(self.land_mask)
        inputs = inputs_of(source, settings.prepare) | {"models": [m.sha256 for m in models.files], "land": land}
        standing = self._warn_once(warned)
        if layers := _layers_of(source, models.files):
            inputs["layers"] = layers
        configuration = self._configuration(source, settings)
        folder = self._folder_of(source)
        outputs = missing_outputs(folder, source, settings, None if self.overwrite else (inputs, configuration))
        if not outputs:
            if self.prepared is not None:
                prepare_source(source, self.prepared, settings.prepare, overwrite=False, progress=progress)
            logger.info("%s is finished already", folder)
            return DraftChart(folder, skipped=True)
        read = {"scene": source.path} | {f"model {i}": model.path for i, model in enumerate(models.files, 1)}
        read |= {} if self.land_mask is None else {"land mask": self.land_mask}
        refuse_edited(folder, source, read, inputs, replace_others=self.overwrite and folder not in made)
        models.begin()
        with stage_folder(folder, STAGE, sources=read) as partial:
            work = partial / ".prepared"
            with steps.step("preparing"):
                scene = prepare_source(
                    source,
                    self.prepared or work,
                    settings.prepare,
                    overwrite=self.overwrite,
                    progress=between(progress, 0.0, 0.35),
                )
            give_back_memory()
            with steps.step("waiting for the models"):
                computed = [asdict(p.computation) for p in models.predictors()]
            with steps.step("predicting"):
                maps = models.predict(scene.raster, between(progress, 0.35, 0.65))
            give_back_memory()
            if self.land_mask is not None:
                with steps.step("land mask"):
                    maps = _masked(maps, self.land_mask, source)
            warn_if_unlike(maps.out_of_distribution, source.name)
            settings = _with_tolerance(settings, maps)
            record = provenance(STAGE, inputs=inputs, configuration=configuration)
            about = about_chart(record, source, scene, models.files, land, settings)
            notes, basis = notes_on_chart(about, models.files), egg_basis(models.files, settings)
            parts = ChartParts(maps, scene, settings, about, notes, basis)
            written = write_outputs(partial, outputs, parts, steps, between(progress, 0.65, 1.0))
            shutil.rmtree(work, ignore_errors=True)
            files = describe_files(partial, [n for names in written.files.values() for n in names])
            facts = {"simulated": about["simulated"], "floemap:status": STATUS, "floemap:settings": configuration} | {
                f"floemap:{k}": v for k, v in land.items()
            }
            write_chart_item(
                partial / ITEM,
                files,
                scene,
                models.files,
                facts,
                kept=source.prepared or self.prepared is not None,
            )
            record |= found_on_chart(source, scene, models.files, land, maps, written)
            record |= {"computed": computed, "files": files, "seconds": steps.seconds}
            record["warnings"] = list(dict.fromkeys([*standing, *warned]))
            record |= {"sources": told_sources(folder, read), "bytes": made_of(partial)}
            write_json(partial / RECORD, record)
        progress(1, 1, "done")
        return DraftChart(folder)

    def finished_before(self, known: Known) -> DraftChart | None:
        """Return the chart of a product that a note describes, if it is finished; the product is not read."""
        if self.overwrite or self.prepared is not None:
            return None
        source = ChartSource(known.path, known.name, False, known.start, known.inputs)
        settings = _fitted(self.settings, self.models.files[0], source)
        land = describe_land(self.land_mask)
        inputs = known.inputs | {"models": [m.sha256 for m in self.models.files], "land": land}
        folder = self._folder_of(source)
        if missing_outputs(folder, source, settings, (inputs, self._configuration(source, settings))):
            return None
        logger.info("%s is finished already", folder)
        return DraftChart(folder, skipped=True)

    def _configuration(self, source: ChartSource, settings: ChartSettings) -> dict[str, Any]:
        left_out = {"only", "ice_class"} | ({"prepare"} if source.prepared else set())
        return settings.model_dump(mode="json", exclude=left_out) | self.models.configuration

    def _warn_once(self, warned: list[str]) -> list[str]:
        """Warn once of what all charts of the call lack, as soon as there is a product to chart; return the words.

        `warned` collects what is logged.
        """
        if self._standing is None:
            before = len(warned)
            for m in self.models.files:
                m.warn_if_simulated()
            if self.land_mask is None:
                logger.warning("no land mask is given: land is charted as ice or water. --land-mask FILE leaves it out")
            self._standing = warned[before:]
        return self._standing

    def _folder_of(self, source: ChartSource) -> Path:
        """Return the folder of a chart, which must not be the one in which the prepared product is kept."""
        folder = place_in(self.out, source.name, "the product", path=source.path, kind=ProductError)
        if self.prepared is not None and (self.prepared / source.name).resolve() == folder.resolve():
            raise ConfigError(
                f"the prepared product would be kept in the chart's own folder, {folder}.",
                hint="Choose another --prepared.",
            )
        return folder


def _layers_of(source: ChartSource, models: Sequence[ModelFile]) -> dict[str, str]:
    """Return the SHA-256 of each layer that the models read, by name; refuse a product that lacks one.

    Raises
    ------
    ProductError, GridError, ModelError
        As :meth:`floemap.inference.predict.model_files.ModelFile.layers_of` does, and if the product is not prepared.
    """
    found: dict[str, str] = {}
    for model in models:
        names = [n for n in model.bands.names if n not in PRODUCT_BANDS.names]
        if names and not source.prepared:
            raise ProductError(
                f"is not prepared, and so lacks the layer {names[0]}, which the model {model.path} reads.",
                path=source.path,
                hint="Run `floemap prepare`, then `floemap layer`, and give the prepared folder.",
            )
        if names:
            found |= model.layers_of(source.path / "product.tif", source.inputs["product"]["product.tif"])
    return found


def _with_tolerance(settings: ChartSettings, maps: SceneMaps) -> ChartSettings:
    if settings.tolerance_m is not None:
        return settings
    return settings.model_copy(update={"tolerance_m": _TOLERANCE_PX * float(abs(maps.geobox.resolution.x))})


def _fitted(settings: ChartSettings, model: ModelFile, source: ChartSource) -> ChartSettings:
    """Return the settings with the model's pixel size; refuse those that the source takes no part in."""
    own = settings.prepare
    if source.prepared:
        if own.model_fields_set:
            raise ConfigError(
                f"is prepared already, so {', '.join(sorted(own.model_fields_set))} cannot be set.",
                path=source.path,
                hint="Leave it out, or give the product as downloaded.",
            )
        return settings
    if source.of_ai4arctic and (other := sorted(own.model_fields_set - {*PREPARE_SETTINGS})):
        hint = "Its noise is subtracted already, and tie points locate its pixels. Leave the option out."
        raise ConfigError(f"is a file of AI4Arctic, which takes no {' or '.join(other)}.", path=source.path, hint=hint)
    if "resolution_m" not in own.model_fields_set:
        return settings.model_copy(update={"prepare": own.model_copy(update={"resolution_m": model.resolution_m})})
    return settings


def _masked(maps: SceneMaps, land_mask: Path, source: ChartSource) -> SceneMaps:
    masked = without_land(maps, land_on(land_mask, maps.geobox))
    if masked.land is None or not masked.land.any():
        logger.warning("%s has no land on %s. Is it the right mask?", land_mask.name, source.name)
    if (masked.classes == IGNORE).all():
        raise ProductError(
            f"is land everywhere according to {land_mask}, so there is nothing to chart.",
            path=source.path,
            hint="Check that it is the right scene, and the right mask.",
        )
    return masked
