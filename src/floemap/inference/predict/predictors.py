"""Models that are ready to predict, and how all of floemap predicts a prepared product with one or with several."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from floemap.errors import ModelError, ProductError
from floemap.inference.predict.engines import Computation, Engine, make_network
from floemap.inference.predict.product_reader import OpenProduct, open_fitting
from floemap.inference.predict.scene_maps import SceneMaps
from floemap.inference.predict.strips import Strip, predicted_strips
from floemap.learning.calibration.out_of_distribution import Known, SceneScore, SquareStatistics
from floemap.learning.models.checkpoint import Checkpoint, load_checkpoint
from floemap.learning.models.checkpoint_header import SCENES, Calibration
from floemap.learning.whole_scene.logits import SceneLogits
from floemap.learning.whole_scene.pieces import Network, Precision
from floemap.legend import IGNORE
from floemap.progress import Progress, part_of, silent


@dataclass(frozen=True)
class Predictor:
    """A model that is ready to predict."""

    checkpoint: Checkpoint
    network: Network
    computation: Computation
    known: Known | str
    """What the scenes that the model learnt from are like, or why that is unknown."""


def make_predictor(path: str | Path, *, engine: Engine, precision: Precision, device: str) -> Predictor:
    """Load a checkpoint and prepare its network.

    Raises
    ------
    ModelError
        If the checkpoint cannot be read, or the engine cannot run its model.
    ConfigError
        If there is no such engine, precision or device, or the engine is not installed.
    """
    checkpoint = load_checkpoint(path)
    known = known_scenes(checkpoint)
    return Predictor(checkpoint, *make_network(checkpoint.model, engine, precision, device), known)


def known_scenes(checkpoint: Checkpoint) -> Known | str:
    """Return what the training scenes of a checkpoint are like, or why that is unknown.

    Raises
    ------
    ModelError
        If its statistics are damaged.
    """
    content = checkpoint.about.get(SCENES)
    if content is None:
        return "the model has no statistics of its training scenes"
    if isinstance(content, Mapping) and isinstance(content.get("reason"), str):
        return str(content["reason"])
    return Known.from_json(content, SquareStatistics(checkpoint.bands).names, checkpoint.path)


def score_scene(predictors: Sequence[Predictor], opened: OpenProduct) -> SceneScore | str:
    """Return how unlike the training scenes a scene is, once all of it was read; or why that is unknown.

    Of several models, the one counts whose training scenes the scene is least like.
    """
    scores = [
        p.known.score(statistics.squares())
        for p, statistics in zip(predictors, opened.statistics, strict=False)
        if statistics is not None and not isinstance(p.known, str)
    ]
    if not scores:
        return next((p.known for p in predictors if isinstance(p.known, str)), "the scene was not read")
    return max(scores, key=lambda score: score.unusual)


@contextmanager
def predicting(
    product: str | Path, predictors: Sequence[Predictor], *, uncertainty: bool = False, progress: Progress = silent
) -> Iterator[tuple[OpenProduct, Iterator[Strip]]]:
    """Open a prepared product and yield its prediction strip by strip, without writing a file.

        with predicting(product, predictors) as (opened, strips):
            for strip in strips: ...

    Parameters
    ----------
    product
        A prepared folder or its product.tif.
    predictors
        Predictors with the same legend and heads. Their probabilities are averaged.
    uncertainty
        Compute the uncertainty, too.
    progress
        Progress callback, called as progress(done, total, message) while the networks run.

    Raises
    ------
    ModelError
        If a model does not fit the product, or needs more memory than there is.
    ProductError
        If the product is damaged or has no data.
    GridError
        If the product has no georeference.
    FloemapError
        If the product cannot be opened.
    """
    with ExitStack() as stack:
        scenes = []
        statistics: list[SquareStatistics | None] = []
        calibrations: list[Calibration] = []
        for i, p in enumerate(predictors):  # each opens the product for itself: their threads read at the same time
            opened = stack.enter_context(open_fitting(product, p.checkpoint))
            tell = part_of(progress, i, len(predictors), p.checkpoint.path.stem) if len(predictors) > 1 else progress
            watched = None if isinstance(p.known, str) else SquareStatistics(opened.bands)
            statistics.append(watched)
            calibrations.append(p.checkpoint.calibration(opened.month))
            read = opened.read if watched is None else watched.watch(opened.read)
            network, offsets = p.network.reading(opened.bands), calibrations[-1].offsets
            scene = SceneLogits(network, read, opened.shape, offsets=offsets, progress=tell)
            scenes.append(stack.enter_context(scene))
        opened = replace(opened, statistics=tuple(statistics))
        try:
            heats = [calibration.temperature for calibration in calibrations]
            further = predictors[0].checkpoint.model.heads[1:]
            strips = predicted_strips(scenes, uncertainty=uncertainty, temperatures=heats, further=further)
            yield opened, _refuse_empty(strips, opened.path)
        except torch.OutOfMemoryError as e:
            computation = predictors[0].computation
            raise ModelError(
                f"needs more memory than {computation.hardware or computation.device} has for this scene: {e}",
                path=predictors[0].checkpoint.path,
                hint="Predict on the processor: --device cpu.",
            ) from e


def _refuse_empty(strips: Iterator[Strip], path: Path) -> Iterator[Strip]:
    """Yield the strips; raise :class:`ProductError` after the last one if none had data."""
    empty = True
    for strip in strips:
        empty = empty and bool((strip.classes == IGNORE).all())
        yield strip
    if empty:
        raise ProductError(
            "has no data: no pixel has all bands that the model needs.", path=path, hint="Prepare it again."
        )


def predict_maps(product: str | Path, predictors: Sequence[Predictor], *, progress: Progress = silent) -> SceneMaps:
    """Predict a prepared product, with uncertainty, into memory; parameters and errors as of :func:`predicting`."""
    with predicting(product, predictors, uncertainty=True, progress=progress) as (opened, strips):
        legend = predictors[0].checkpoint.legend
        classes = np.empty(opened.shape, np.uint8)
        probabilities = np.empty((len(legend), *opened.shape), np.uint8)
        uncertainty = np.empty((min(len(predictors), 2), *opened.shape), np.uint8)
        heads = [h for h in predictors[0].checkpoint.model.heads if h.kind == "value"]
        values = {h: np.empty(opened.shape, np.uint8) for h in heads}
        fractions = next((h for h in predictors[0].checkpoint.model.heads if h.kind == "fractions"), None)
        shares = None if fractions is None else np.empty_like(probabilities)
        for strip in strips:
            rows = slice(strip.first_row, strip.first_row + len(strip.classes))
            classes[rows] = strip.classes
            probabilities[:, rows], uncertainty[:, rows] = strip.probabilities, strip.uncertainty
            for head, into in values.items():
                into[rows] = strip.further[head.name][0]
            if fractions is not None and shares is not None:
                shares[:, rows] = strip.further[fractions.name]
        score = score_scene(predictors, opened)
    by_target = {head.target: into for head, into in values.items()}
    maps = SceneMaps(opened.geobox, legend, classes, probabilities, *uncertainty)
    return replace(maps, out_of_distribution=score, values=by_target, shares=shares)
