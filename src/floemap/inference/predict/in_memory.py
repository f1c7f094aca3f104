"""Predict a scene in memory, with one model or with several: what a chart is made from."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox

from floemap.errors import ModelError, ProductError
from floemap.inference.predict.engines import Computation, Engine, make_network
from floemap.inference.predict.memory import give_back_memory
from floemap.inference.predict.product_reader import open_fitting
from floemap.inference.predict.scene_maps import NO_VALUE, STEPS, SceneMaps
from floemap.inference.predict.strips import Strip, predicted_strips
from floemap.inference.predict.uncertainty import disagreement, entropy
from floemap.learning.models.checkpoint import Checkpoint, load_checkpoint
from floemap.learning.whole_scene.logits import SceneLogits
from floemap.learning.whole_scene.pieces import Network, Precision
from floemap.legend import IGNORE, Legend
from floemap.progress import Progress, part_of, silent

#: Rows that are worked on at a time.
_STRIP_ROWS = 128


@dataclass(frozen=True)
class Predictor:
    """A model that is ready to predict."""

    checkpoint: Checkpoint
    network: Network
    computation: Computation


def make_predictor(path: str | Path, *, engine: Engine, precision: Precision, device: str) -> Predictor:
    """Load a checkpoint and make it ready; raises as :func:`floemap.inference.predict.engines.make_network` does."""
    checkpoint = load_checkpoint(path)
    return Predictor(checkpoint, *make_network(checkpoint.model, engine, precision, device))


def predict_maps(product: str | Path, predictors: Sequence[Predictor], *, progress: Progress = silent) -> SceneMaps:
    """Predict a prepared product in memory, with one model or with several, whose probabilities are averaged.

    Parameters
    ----------
    product
        A prepared folder or its product.tif.
    predictors
        Predictors with the same legend.
    progress
        Progress callback, called as progress(done, total, message).

    Raises
    ------
    ModelError
        If a model does not fit the product, or the memory does not suffice for it.
    ProductError
        If the product is damaged or holds no data.
    FloemapError
        If it cannot be opened.
    """
    threads = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    with ExitStack() as stack:
        scenes = []
        for i, p in enumerate(predictors):
            opened = stack.enter_context(open_fitting(product, p.checkpoint))
            tell = part_of(progress, i, len(predictors), p.checkpoint.path.stem) if len(predictors) > 1 else progress
            scenes.append(stack.enter_context(SceneLogits(p.network, opened.read, opened.shape, progress=tell)))
        maps = _blank(opened.geobox, predictors[0].checkpoint.legend, len(predictors))
        try:
            for scene in scenes:  # one after the other, where that is possible: each needs the memory for itself
                scene.finish()
                give_back_memory()
            members = [predicted_strips(scene, rows=_STRIP_ROWS) for scene in scenes]
            pool = stack.enter_context(ThreadPoolExecutor(threads))
            waiting: deque[Future[None]] = deque()
            for strips in zip(*members, strict=True):
                waiting.append(pool.submit(_fill, maps, strips))
                if len(waiting) > threads:
                    waiting.popleft().result()
            for future in waiting:
                future.result()
        except torch.OutOfMemoryError as e:
            where = predictors[0].computation.device
            raise ModelError(f"the memory of {where} does not suffice.", hint="Take --device cpu.") from e
    if (maps.classes == IGNORE).all():
        raise ProductError("holds no data: no pixel has all bands.", path=opened.path, hint="Prepare it again.")
    return maps


def _blank(geobox: GeoBox, legend: Legend, models: int) -> SceneMaps:
    def empty(*shape: int) -> NDArray[np.uint8]:
        return np.full(shape, NO_VALUE, np.uint8)

    shape = (int(geobox.shape[0]), int(geobox.shape[1]))
    return SceneMaps(
        geobox=geobox,
        legend=legend,
        classes=empty(*shape),
        probabilities=empty(len(legend), *shape),
        entropy=empty(*shape),
        mutual_information=empty(*shape) if models > 1 else None,
    )


def _fill(maps: SceneMaps, strips: tuple[Strip, ...]) -> None:
    """Fill in the rows of a strip that each model has predicted."""
    valid = strips[0].valid
    cols = np.flatnonzero(valid.any(axis=0))
    if not len(cols):
        return
    first = strips[0].first_row
    across = slice(int(cols[0]), int(cols[-1]) + 1)
    box = (slice(first, first + len(valid)), across)
    valid = valid[:, across]
    members = [s.probabilities[:, :, across] for s in strips]
    mean = members[0]
    if len(members) > 1:
        mean = np.asarray(np.mean(members, axis=0, dtype=np.float32))
        _store(maps.classes[box], mean.argmax(axis=0), valid, 1)
    else:
        maps.classes[box] = strips[0].classes[:, across]
    for k, probability in enumerate(mean):
        _store(maps.probabilities[k][box], probability, valid)
    _store(maps.entropy[box], entropy(mean), valid)
    if maps.mutual_information is not None:
        _store(maps.mutual_information[box], disagreement(members, mean), valid)


def _store(to: NDArray[np.uint8], values: NDArray[Any], valid: NDArray[np.bool_], steps: int = STEPS) -> None:
    """Write values into a box of a raster, in steps, where there are data."""
    rounded = np.rint(np.where(valid, values, 0) * np.float32(steps))
    np.copyto(to, rounded.astype(np.uint8), where=valid)
