"""From a prepared product and a checkpoint to ``classes.tif``, ``probabilities.tif`` and ``prediction.json``.

``classes.tif``: uint8, the id of the most probable class in the legend, 255 where the product has no data.
``probabilities.tif``: uint8, a band for each class, in steps of 0.005; 255 where the product has no data. Both lie on
the product's grid. Whole scenes are predicted as one pass of the model would
(:mod:`floemap.learning.whole_scene.logits`).
"""

from __future__ import annotations

import functools
import logging
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from floemap.cog import Band, CogWriter
from floemap.errors import ModelError, ProductError
from floemap.inference.predict.engines import Computation, Engine, make_network
from floemap.inference.predict.product_reader import OpenProduct, name_of, open_fitting
from floemap.inference.predict.scene_maps import PREDICT, STEPS
from floemap.inference.predict.strips import Strip, predicted_strips
from floemap.learning.models.checkpoint import Checkpoint, load_checkpoint
from floemap.learning.models.checkpoint_header import warn_if_simulated
from floemap.learning.whole_scene.logits import SceneLogits
from floemap.learning.whole_scene.pieces import Precision
from floemap.legend import IGNORE, Legend
from floemap.outcomes import Outcome, each_product
from floemap.progress import Progress, silent
from floemap.qgis_raster import classes_style, write_style
from floemap.results.folders import made_of, refuse_replacing, stage_folder, told_sources
from floemap.results.names import place_in
from floemap.results.stage import is_finished, provenance, sha256, write_json
from floemap.sentinel1.bands import raster_of

logger = logging.getLogger(__name__)

#: Share of the time that the network takes, for the progress; strips and files take the rest.
_NETWORK_SHARE = 0.8


@dataclass(frozen=True)
class Prediction:
    """A finished prediction folder."""

    folder: Path
    skipped: bool = False

    @property
    def classes(self) -> Path:
        """The most probable classes."""
        return self.folder / "classes.tif"

    @property
    def probabilities(self) -> Path:
        """The probabilities of all classes, where they were asked for."""
        return self.folder / "probabilities.tif"

    @property
    def record(self) -> Path:
        """How it was made."""
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
    made: Collection[Path] = (),
    progress: Progress = silent,
) -> Prediction:
    """Predict the ice type of every pixel of a prepared product.

    Parameters
    ----------
    product
        A prepared folder or its product.tif.
    checkpoint
        Trained model: its file, or the loaded checkpoint.
    out
        Folder that gets a folder named as the product, with classes.tif, probabilities.tif and prediction.json.
    engine, precision, device
        What runs the network, in what arithmetic, and where; see
        :func:`floemap.inference.predict.engines.make_network`.
    probabilities
        Also write the probabilities.
    overwrite
        Make it again even where it is finished with the same inputs and settings, or is another product's or model's.
    made
        Folders that the same work has made: they are not replaced by other products' of the same name even so.
    progress
        Progress callback, called as progress(done, total, message).

    Raises
    ------
    ModelError
        If the checkpoint cannot be read, does not fit the product, or the memory does not suffice for the model.
    ProductError
        If the product is damaged or holds no data.
    GridError
        If the product has no georeference.
    ConfigError
        If there is no such engine, precision or device.
    OutputError
        If the results cannot be written, or would take the place of something else.
    """
    model = _loaded(checkpoint)
    raster = raster_of(product)
    folder = place_in(Path(out), name_of(product), "the product", path=raster, kind=ProductError)
    inputs = {"product": {raster.name: sha256(raster)}, "model": {model.path.name: sha256(model.path)}}
    configuration = {"engine": engine, "precision": precision, "device": device, "probabilities": probabilities}
    files = ["classes.tif", *(["probabilities.tif"] if probabilities else [])]
    if not overwrite and is_finished(folder, PREDICT, files, inputs=inputs, configuration=configuration):
        logger.info("%s is finished already", folder)
        return Prediction(folder, skipped=True)
    began = time.perf_counter()
    sources, replace = {"product": raster, "model": model.path}, overwrite and folder not in made
    refuse_replacing(folder, PREDICT, sources=sources, inputs=inputs, replace_others=replace)  # before the work
    with (
        open_fitting(product, model) as opened,
        _scene_of(opened, model, engine, precision, device, progress) as (scene, computation),
        stage_folder(folder, PREDICT, sources=sources, inputs=inputs, replace_others=replace) as partial,
    ):
        tags = _tags(opened, model)
        pixels = _write(partial, opened, model.legend, scene, tags, probabilities, progress)
        record = provenance(PREDICT, inputs=inputs, configuration=configuration)
        record |= _about(opened, model, computation, pixels, round(time.perf_counter() - began, 2))
        record["sources"] = told_sources(folder, sources)
        write_json(partial / PREDICT.record, record | {"bytes": made_of(partial)})
    progress(1, 1, "done")
    return Prediction(folder)


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
    """Predict each product; see :func:`predict`.

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
    ModelError
        If the checkpoint cannot be read: then nothing can be predicted.
    """
    model = _loaded(checkpoint)
    warn = functools.cache(lambda: warn_if_simulated(model.about, model.path.name))

    def work(product: Path, made: Collection[Path], progress: Progress) -> Prediction:
        if raster_of(product).is_file():  # a path that is no product gets its error without the warning
            warn()
        return predict(
            product,
            model,
            out,
            engine=engine,
            precision=precision,
            device=device,
            probabilities=probabilities,
            overwrite=overwrite,
            made=made,
            progress=progress,
        )

    return each_product(products, work, progress_of=progress_of, finished=finished)


@contextmanager
def predicting(
    product: str | Path,
    checkpoint: str | Path | Checkpoint,
    *,
    engine: Engine = "torch",
    precision: Precision = "auto",
    device: str = "auto",
    progress: Progress = silent,
) -> Iterator[tuple[OpenProduct, Iterator[Strip]]]:
    """Open a product and give its prediction strip by strip, without any file; parameters as of :func:`predict`.

        with predicting(product, checkpoint) as (opened, strips):
            for strip in strips: ...

    Raises
    ------
    FloemapError
        As :func:`predict` does.
    """
    model = _loaded(checkpoint)
    with (
        open_fitting(product, model) as opened,
        _scene_of(opened, model, engine, precision, device, progress) as (scene, _),
    ):
        yield opened, predicted_strips(scene)


def _loaded(checkpoint: str | Path | Checkpoint) -> Checkpoint:
    return checkpoint if isinstance(checkpoint, Checkpoint) else load_checkpoint(checkpoint)


@contextmanager
def _scene_of(
    opened: OpenProduct, model: Checkpoint, engine: Engine, precision: Precision, device: str, progress: Progress
) -> Iterator[tuple[SceneLogits, Computation]]:
    network, computation = make_network(model.model, engine, precision, device)

    def tell(done: float, total: float, what: str) -> None:
        progress(_NETWORK_SHARE * done / total, 1, what)

    with SceneLogits(network, opened.read, opened.shape, progress=tell) as scene:
        try:
            yield scene, computation
        except torch.OutOfMemoryError as e:
            raise ModelError(
                f"the memory of {computation.hardware or computation.device} does not suffice: {e}",
                path=model.path,
                hint="Predict on the processor: --device cpu.",
            ) from e


def _write(
    folder: Path,
    opened: OpenProduct,
    legend: Legend,
    scene: SceneLogits,
    tags: dict[str, str],
    probabilities: bool,
    progress: Progress,
) -> NDArray[np.int64]:
    """Write the rasters; return how many pixels each class has, and at IGNORE those without data, (256,)."""
    pixels = np.zeros(256, np.int64)
    with ExitStack() as stack:
        writers = [(folder / "classes.tif", [class_band(legend)])]
        if probabilities:
            writers.append((folder / "probabilities.tif", probability_bands(legend)))
        # The last one entered is finished first.
        cogs = [
            stack.enter_context(CogWriter(path, opened.geobox, bands, dtype="uint8", nodata=IGNORE, tags=tags))
            for path, bands in writers
        ]
        for strip in predicted_strips(scene, stored=True):
            pixels += np.bincount(strip.classes.ravel(), minlength=256)
            for cog, stored in zip(cogs, (strip.classes[None], strip.probabilities), strict=False):
                cog.write(stored)
            share = (strip.first_row + len(strip.classes)) / opened.shape[0]
            progress(_NETWORK_SHARE + (1 - _NETWORK_SHARE) * share / 2, 1, "writing")
        if pixels[IGNORE] == pixels.sum():
            raise ProductError("holds no data: no pixel has all bands.", path=opened.path, hint="Prepare it again.")
    write_style(folder / "classes.tif", classes_style(legend))
    return pixels


def class_band(legend: Legend) -> Band:
    """Describe the band of classes.tif."""
    return Band(
        "ice_type",
        description=f"Most probable class, legend {legend.name}",
        overview="mode",
        categories=legend.titles | {IGNORE: "no data"},
        colours=legend.colours,
    )


def probability_bands(legend: Legend) -> list[Band]:
    """Describe the bands of probabilities.tif."""
    # Overviews of the nearest pixel: probabilities vary over many pixels, and averaging six bands takes a second.
    return [
        Band(c.key, "1", f"Probability of {c.title.lower()}", scale=1 / STEPS, overview="nearest")
        for c in legend.classes
    ]


def _tags(opened: OpenProduct, model: Checkpoint) -> dict[str, str]:
    tags = opened.tags | {"model": model.path.name, "legend": model.legend.name, "AREA_OR_POINT": "Area"}
    if opened.simulated or model.simulated:
        tags["simulated"] = "yes"
    return tags


def _about(
    opened: OpenProduct, model: Checkpoint, computation: Computation, pixels: NDArray[np.int64], seconds: float
) -> dict[str, Any]:
    """What prediction.json says of product, model and classes."""
    crs, legend = opened.geobox.crs, model.legend
    return {
        "simulated": opened.simulated or model.simulated,
        "product": {"name": name_of(opened.path), "simulated": opened.simulated},
        "model": {
            "file": model.path.name,
            "simulated": model.simulated,
            **{k: model.about[k] for k in ("model", "software", "created", "normalisation")},
        },
        "computed": asdict(computation) | {"seconds": seconds},
        "grid": {
            "crs": f"EPSG:{crs.epsg}" if crs is not None and crs.epsg else str(crs),
            "transform": list(opened.geobox.transform)[:6],
            "shape": list(opened.shape),
        },
        "legend": {"name": legend.name, "classes": {c.id: c.key for c in legend.classes}, "no_data": IGNORE},
        "probability_step": 1 / STEPS,
        "pixels": {c.key: int(pixels[c.id]) for c in legend.classes} | {"no_data": int(pixels[IGNORE])},
    }
