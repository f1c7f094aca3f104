"""What is known of every pixel of a scene: its class, the classes' probabilities, how uncertain they are, land."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox

from floemap.errors import ModelError, ProductError
from floemap.inference.engines import Computation
from floemap.inference.product_reader import open_fitting
from floemap.inference.strips import STEPS, Strip, predicted_strips
from floemap.inference.uncertainty import disagreement, entropy
from floemap.learning.checkpoint import Checkpoint
from floemap.learning.stages import Network
from floemap.learning.whole_scene import SceneLogits
from floemap.legend import IGNORE, Legend
from floemap.progress import Progress, part_of, silent

#: What a stored whole number stands for in probabilities and uncertainties, all from 0 to 1.
STEP = 1 / STEPS
#: Stored there where there is none.
NO_VALUE = IGNORE
#: Rows that are worked on at a time.
_STRIP_ROWS = 128


@dataclass(frozen=True)
class Predictor:
    """A model that is ready to predict."""

    checkpoint: Checkpoint
    network: Network
    computation: Computation


@dataclass(frozen=True)
class SceneMaps:
    """Rasters on one grid.

    Attributes
    ----------
    geobox, legend
        Grid and classes.
    classes
        (rows, cols) uint8: the most probable class, :data:`floemap.legend.IGNORE` on land and without data.
    probabilities
        (classes, rows, cols) uint8, in steps of :data:`STEP`, :data:`NO_VALUE` where there is no class. Of several
        models: their mean.
    entropy
        (rows, cols) uint8 likewise; see :mod:`floemap.inference.uncertainty`.
    mutual_information
        Likewise; None where there is one model only.
    land
        (rows, cols): where the scene has data and a land mask says land; None without a mask.
    """

    geobox: GeoBox
    legend: Legend
    classes: NDArray[np.uint8]
    probabilities: NDArray[np.uint8]
    entropy: NDArray[np.uint8]
    mutual_information: NDArray[np.uint8] | None = None
    land: NDArray[np.bool_] | None = None

    @property
    def uncertainty(self) -> dict[str, NDArray[np.uint8]]:
        """What there is of it, by name."""
        both = {"entropy": self.entropy, "mutual_information": self.mutual_information}
        return {name: values for name, values in both.items() if values is not None}

    def pixels(self) -> dict[str, int]:
        """Return how many pixels each class has, by its key, and land and no data."""
        counts = np.zeros(256, np.int64)
        for row in range(0, len(self.classes), _STRIP_ROWS):  # counting makes 64-bit copies
            counts += np.bincount(self.classes[row : row + _STRIP_ROWS].ravel(), minlength=256)
        land = 0 if self.land is None else int(np.count_nonzero(self.land))
        by_class = {c.key: int(counts[c.id]) for c in self.legend.classes}
        return by_class | {"land": land, "no_data": int(counts[IGNORE]) - land}


def predict_maps(product: str | Path, predictors: Sequence[Predictor], *, progress: Progress = silent) -> SceneMaps:
    """Predict a prepared product in memory, with one model or with several, whose probabilities are averaged.

    Parameters
    ----------
    product
        A prepared folder or its product.tif.
    predictors
        Of one legend.
    progress
        Is told how far it is.

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


def without_land(maps: SceneMaps, land: NDArray[np.bool_]) -> SceneMaps:
    """Return the maps with land taken out of everything that is known of pixels, in place.

    Parameters
    ----------
    land
        (rows, cols), where a mask says land.
    """
    there = land & (maps.classes != IGNORE)
    for raster in (maps.classes, *maps.probabilities, *maps.uncertainty.values()):
        raster[there] = IGNORE
    return replace(maps, land=there)
