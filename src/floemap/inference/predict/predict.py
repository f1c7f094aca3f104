"""From a prepared product and a checkpoint to ``classes.tif``, ``probabilities.tif`` and ``prediction.json``.

A model with further heads also gives a raster for each, such as ``concentration.tif``: uint8, 255 where the product has
no data; the bands' scale and offset give the values (a step of the concentration is 0.005).

``classes.tif``: uint8, the id of the most probable class in the legend, 255 where the product has no data.
``probabilities.tif``: uint8, a band for each class, in steps of 0.005; 255 where the product has no data. Both have the
grid of the product. The prediction of a whole scene equals that of one pass of the model
(:mod:`floemap.learning.whole_scene.logits`). ``out_of_distribution.tif``: float32, how unlike the training scenes each
square of 16 x 16 pixels is, if the model has statistics of them
(:mod:`floemap.learning.calibration.out_of_distribution`).
"""

from __future__ import annotations

import functools
import logging
import math
import time
from collections.abc import Callable, Collection, Iterable, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from floemap.cog import CogWriter, write_cog
from floemap.errors import ProductError
from floemap.grid import describe_grid
from floemap.icechart.label.polygon_values import CATEGORIES, VALUES
from floemap.inference.predict.engines import Engine
from floemap.inference.predict.model_files import LoadedModels, ModelFile, find_models
from floemap.inference.predict.predictors import predicting, score_scene
from floemap.inference.predict.product_reader import OpenProduct, name_of
from floemap.inference.predict.scene_maps import (
    PREDICT,
    SCORE_BAND,
    STEP,
    class_band,
    described_score,
    head_bands,
    probability_bands,
    score_grid,
    warn_if_unlike,
)
from floemap.inference.predict.strips import Strip
from floemap.learning.models.checkpoint import Checkpoint
from floemap.learning.targets import Head
from floemap.learning.whole_scene.pieces import Precision
from floemap.legend import IGNORE
from floemap.outcomes import Outcome, each_product
from floemap.own_legends import in_record, tags_of
from floemap.progress import Progress, between, silent
from floemap.qgis_raster import classes_style, write_style
from floemap.results.folders import made_of, refuse_replacing, stage_folder, told_sources
from floemap.results.names import place_in
from floemap.results.stage import is_finished, provenance, sha256, write_json
from floemap.sentinel1.bands import raster_of

logger = logging.getLogger(__name__)

#: File of the out-of-distribution score.
SCORES = "out_of_distribution.tif"
#: Share of the network in the total time, for the progress; strips and files take the rest.
_NETWORK_SHARE = 0.8


@dataclass(frozen=True)
class Prediction:
    """A finished prediction folder; `skipped` if it was finished before."""

    folder: Path
    skipped: bool = False

    @property
    def classes(self) -> Path:
        """Path of classes.tif, the most probable classes."""
        return self.folder / "classes.tif"

    @property
    def probabilities(self) -> Path:
        """Path of probabilities.tif, the probabilities of all classes, if they were requested."""
        return self.folder / "probabilities.tif"

    @property
    def record(self) -> Path:
        """Path of prediction.json, the record of how the prediction was made."""
        return self.folder / "prediction.json"


def predict(
    product: str | Path,
    checkpoint: str | Path | Checkpoint,
    out: str | Path,
    *,
    engine: Engine = "torch",
    precision: Precision = "auto",
    device: str = "auto",
    probabilities: bool = True,
    overwrite: bool = False,
    progress: Progress = silent,
) -> Prediction:
    """Predict the ice type of every pixel of a prepared product.

    Parameters
    ----------
    product
        A prepared folder or its product.tif.
    checkpoint
        Trained model: its file, or a loaded checkpoint, whose file is read again.
    out
        Folder in which a folder with the name of the product is made, with classes.tif, probabilities.tif and
        prediction.json.
    engine, precision, device
        Software, floating-point precision and device of the computation; see
        :func:`floemap.inference.predict.engines.make_network`.
    probabilities
        Also write the probabilities.
    overwrite
        Predict again even where a result with the same inputs and settings is finished, and replace the result of
        another product of this name or of another model.
    progress
        Progress callback, called as progress(done, total, message).

    Raises
    ------
    ModelError
        If the checkpoint cannot be read, does not fit the product, or needs more memory than there is.
    ProductError
        If the product is damaged or has no data.
    GridError
        If the product has no georeference.
    ConfigError
        If there is no such engine, precision or device.
    OutputError
        If the results cannot be written, or would replace something else.
    """
    with _model_of(checkpoint, engine, precision, device) as ready:
        return _predict(Path(product), ready, Path(out), probabilities, overwrite, (), progress)


def predict_all(
    products: Sequence[str | Path],
    checkpoint: str | Path | Checkpoint,
    out: str | Path,
    *,
    engine: Engine = "torch",
    precision: Precision = "auto",
    device: str = "auto",
    probabilities: bool = True,
    overwrite: bool = False,
    progress_of: Callable[[Path], Progress] | None = None,
    finished: Callable[[Outcome[Prediction]], None] | None = None,
) -> list[Outcome[Prediction]]:
    """Predict each product; see :func:`predict`. The model is loaded once.

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
        If the model cannot be loaded, so that no product can be predicted.
    """
    with _model_of(checkpoint, engine, precision, device) as ready:
        warn = functools.cache(ready.files[0].warn_if_simulated)

        def work(product: Path, made: Collection[Path], progress: Progress) -> Prediction:
            if raster_of(product).is_file():  # a path that is not a product gets its error without the warning
                warn()
            return _predict(product, ready, Path(out), probabilities, overwrite, made, progress)

        return each_product(products, work, progress_of=progress_of, finished=finished, hopeless=lambda: ready.failed)


def _model_of(checkpoint: str | Path | Checkpoint, engine: Engine, precision: Precision, device: str) -> LoadedModels:
    path = checkpoint.path if isinstance(checkpoint, Checkpoint) else checkpoint
    return LoadedModels(find_models([path]), engine, precision, device)


def _predict(
    product: Path,
    ready: LoadedModels,
    out: Path,
    probabilities: bool,
    overwrite: bool,
    made: Collection[Path],
    progress: Progress,
) -> Prediction:
    (model,) = ready.files
    raster = raster_of(product)
    folder = place_in(out, name_of(product), "the product", path=raster, kind=ProductError)
    product_sha256 = sha256(raster)
    inputs = {"product": {raster.name: product_sha256}, "model": {model.path.name: model.sha256}}
    if layers := model.layers_of(raster, product_sha256):
        inputs["layers"] = layers
    configuration = ready.configuration | {"probabilities": probabilities}
    files = ["classes.tif", *(["probabilities.tif"] if probabilities else [])]
    files += [f"{head.name}.tif" for head in model.heads[1:]]
    if not overwrite and is_finished(folder, PREDICT, files, inputs=inputs, configuration=configuration):
        logger.info("%s is finished already", folder)
        return Prediction(folder, skipped=True)
    began = time.perf_counter()
    sources, replace = {"product": raster, "model": model.path}, overwrite and folder not in made
    refuse_replacing(folder, PREDICT, sources=sources, inputs=inputs, replace_others=replace)  # before the work
    predictors = ready.predictors()
    with (
        predicting(product, predictors, progress=between(progress, 0, _NETWORK_SHARE)) as (opened, strips),
        stage_folder(folder, PREDICT, sources=sources, inputs=inputs, replace_others=replace) as partial,
    ):
        pixels = _write(partial, opened, model, strips, probabilities, progress)
        score = score_scene(predictors, opened)
        if not isinstance(score, str):
            write_cog(partial / SCORES, score_grid(opened.geobox), score.ratio, [SCORE_BAND], nodata=math.nan)
        warn_if_unlike(score, name_of(product))
        record = provenance(PREDICT, inputs=inputs, configuration=configuration)
        computed = asdict(predictors[0].computation) | {"seconds": round(time.perf_counter() - began, 2)}
        record |= _about(opened, model, computed, pixels) | {"out_of_distribution": described_score(score)}
        record["sources"] = told_sources(folder, sources)
        write_json(partial / PREDICT.record, record | {"bytes": made_of(partial)})
    progress(1, 1, "done")
    return Prediction(folder)


def _write(
    folder: Path,
    opened: OpenProduct,
    model: ModelFile,
    strips: Iterable[Strip],
    probabilities: bool,
    progress: Progress,
) -> NDArray[np.int64]:
    """Write the rasters; return the number of pixels of each class, and at IGNORE of those without data, (256,)."""
    pixels = np.zeros(256, np.int64)
    tags = opened.tags | {"model": model.path.name, "AREA_OR_POINT": "Area"} | tags_of(model.legend)
    if opened.simulated or model.simulated:
        tags["simulated"] = "yes"
    writers = {"classes": [class_band(model.legend)]}
    if probabilities:
        writers["probabilities"] = probability_bands(model.legend)
    writers |= {head.name: head_bands(head, model.legend) for head in model.heads[1:]}
    with ExitStack() as stack:
        # The last one entered is finished first.
        cogs = {
            name: stack.enter_context(
                CogWriter(folder / f"{name}.tif", opened.geobox, bands, dtype="uint8", nodata=IGNORE, tags=tags)
            )
            for name, bands in writers.items()
        }
        for strip in strips:
            pixels += np.bincount(strip.classes.ravel(), minlength=256)
            layers = {"classes": strip.classes[None], "probabilities": strip.probabilities, **strip.further}
            for name, cog in cogs.items():
                cog.write(layers[name])
            share = (strip.first_row + len(strip.classes)) / opened.shape[0]
            progress(_NETWORK_SHARE + (1 - _NETWORK_SHARE) * share / 2, 1, "writing")
    write_style(folder / "classes.tif", classes_style(model.legend))
    return pixels


def _about(
    opened: OpenProduct, model: ModelFile, computed: dict[str, Any], pixels: NDArray[np.int64]
) -> dict[str, Any]:
    """Return what prediction.json contains about product, model and classes."""
    legend = model.legend
    about: dict[str, Any] = {
        "simulated": opened.simulated or model.simulated,
        "product": {"name": name_of(opened.path), "simulated": opened.simulated},
        "model": {
            "file": model.path.name,
            "simulated": model.simulated,
            **model.calibration(opened.month).to_json(),
            **{k: model.about[k] for k in ("model", "software", "created", "normalisation")},
        },
        "computed": computed,
        "grid": describe_grid(opened.geobox),
        "legend": in_record(legend, "no_data"),
        "probability_step": STEP,
        "pixels": {c.key: int(pixels[c.id]) for c in legend.classes} | {"no_data": int(pixels[IGNORE])},
    }
    if len(model.heads) > 1:
        about["tasks"] = {head.name: _about_head(head) for head in model.heads[1:]}
    return about


def _about_head(head: Head) -> dict[str, Any]:
    """Return what prediction.json contains about a further head: its file, its target and how it is stored."""
    about: dict[str, Any] = {"file": f"{head.name}.tif", "target": head.target, "no_data": IGNORE}
    if head.kind == "value":
        value = VALUES[head.target]
        return about | {"unit": value.unit, "step": value.step, "offset": value.low}
    if head.kind == "category":
        return about | {"classes": dict(enumerate(CATEGORIES[head.target].classes))}
    return about | {"unit": "1", "step": STEP, "offset": 0.0}
