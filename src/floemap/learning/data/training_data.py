"""The data of a training, loaded and surveyed before the first step."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from floemap.errors import ConfigError, TrainingError
from floemap.learning.data.crops import Crop, CropSource, ResidentCrops, StreamedCrops, draw_fixed
from floemap.learning.data.parts import PartArrays, ScenePart, load_part
from floemap.learning.data.polygons import PolygonShares, tables_of
from floemap.learning.data.survey import Survey, count_classes, survey_part
from floemap.learning.settings import LearningSettings
from floemap.learning.targets import Head, heads_of
from floemap.legend import Legend
from floemap.results.stage import sha256

logger = logging.getLogger(__name__)

Part = ScenePart | PartArrays

#: Share of the free memory of a GPU that resident scenes may use. The network needs the rest.
_SHARE_OF_GPU = 0.4


@dataclass(frozen=True)
class Dataset:
    """Training and validation data.

    Attributes
    ----------
    surveys
        Surveys of the training parts.
    pixels
        Number of pixels of each class in the training parts.
    source
        Source of crops of the training parts.
    training
        Training parts, in memory where the source draws from there.
    validation
        Validation parts, in memory unless crops are streamed.
    fixed
        For each validation part the crops to validate on; None validates on whole parts.
    """

    surveys: list[Survey]
    pixels: list[int]
    source: CropSource
    training: Sequence[Part]
    validation: list[Part]
    fixed: list[list[Crop]] | None


def gather(
    training: Sequence[Part],
    validation: Sequence[Part],
    settings: LearningSettings,
    legend: Legend,
    device: torch.device,
    shares_for: str = "",
) -> Dataset:
    """Load and survey all parts. If a class occurs in no training part, a warning is logged.

    Parameters
    ----------
    training, validation, settings, legend
        See :func:`floemap.learning.training.loop.train`.
    device
        Device of the training.
    shares_for
        Name of the loss of ice types, if it learns from partial concentrations; "" if not.

    Raises
    ------
    TrainingError
        If a part has no place for a crop or a label that the legend lacks, or if the training or the validation parts
        have no labels, nothing that a further head learns, or no partial concentrations that the loss needs.
    GridError, FloemapError
        If parts cannot be read.
    """
    crops, streamed = settings.crops, settings.crops.source == "streamed"
    heads = heads_of(settings.tasks, len(legend))
    known, known_held = dict.fromkeys(heads, 0), dict.fromkeys(heads, 0)
    surveys, loaded, tables = [], [], []
    for part in training:
        arrays = load_part(part)
        surveys.append(survey_part(arrays, crops.size_px, crops.min_valid))
        if not streamed:
            loaded.append(arrays)
        tables.append(arrays.polygons)
        _count_known(known, arrays)
    _refuse_unknown(known, "training", training)
    if shares_for and not any(_has_candidates(t) for t in tables):
        raise TrainingError(
            f"no polygon of the training parts ({', '.join(p.name for p in training)}) has partial concentrations, "
            f"from which the loss {shares_for} learns.",
            hint="Use charts that give them, of AI4Arctic the raw files, or choose a loss of the dominant type.",
        )
    pixels = count_classes(surveys, legend, "training")
    absent = [c.title for c in legend.classes if not pixels[c.id]]
    if absent:
        logger.warning("no training part has a pixel of %s: the model cannot learn this class", ", ".join(absent))

    held: list[Part] = []
    fixed = []
    on_patches = settings.training.validation == "crops"
    for i, part in enumerate(validation):
        arrays = load_part(part)
        survey = survey_part(arrays, crops.size_px if on_patches else None, crops.min_valid)
        count_classes([survey], legend, "validation")
        held.append(part if streamed else arrays)
        _count_known(known_held, arrays)
        if on_patches:
            fixed.append(draw_fixed(survey, i, crops))
    _refuse_unknown(known_held, "validation", validation)

    on_gpu = device.type == "cuda"
    source: CropSource
    kept: Sequence[Part] = training
    if streamed:
        source = StreamedCrops(
            [p for p in training if isinstance(p, ScenePart)],
            crops.workers,
            pin=on_gpu,
            tables=tables_of(tables),
        )
    else:
        needed = sum(a.stored.nbytes + a.labels.nbytes + (0 if a.ids is None else a.ids.nbytes) for a in loaded)
        if on_gpu:
            torch.cuda.empty_cache()  # memory that torch has cached from an earlier training counts as used
        fits = on_gpu and needed < _SHARE_OF_GPU * torch.cuda.mem_get_info(device)[0]
        if on_gpu and not fits:
            logger.warning(
                "the scenes (%.1f GB) do not fit into the GPU's memory; they stay in main memory", needed / 1e9
            )
        source = ResidentCrops(loaded, device if fits else "cpu")
        kept = training if fits else loaded
    return Dataset(surveys, pixels, source, kept, held, fixed if on_patches else None)


def _count_known(known: dict[Head, int], part: PartArrays) -> None:
    """Add the number of pixels of a part at which the target of each further head is known."""
    if part.ids is None or part.polygons is None:
        return
    for head in known:
        if head.kind != "class":
            known[head] += part.polygons.known(part.ids, head.target)


def _has_candidates(polygons: PolygonShares | None) -> bool:
    """Return whether a part has a polygon of which it is known which classes it may hold."""
    return polygons is not None and bool(polygons.candidates.any())


def _refuse_unknown(known: Mapping[Head, int], split: str, parts: Sequence[Part]) -> None:
    for head, pixels in known.items():
        if head.kind != "class" and not pixels:
            raise TrainingError(
                f"no pixel of the {split} parts ({', '.join(p.name for p in parts)}) has a polygon of known "
                f"{head.target}, which the head {head.name} learns.",
                hint=f"Use charts that give it, or leave out [tasks.{head.name}].",
            )


def check_parts(
    training: Sequence[Part],
    validation: Sequence[Part],
    settings: LearningSettings,
    about: Mapping[str, Any],
    reader: str = "",
) -> None:
    """Check what can be checked without reading the parts.

    Parameters
    ----------
    training, validation, settings, about
        See :func:`floemap.learning.training.loop.train`.
    reader
        Who reads the charts' polygons, such as "the loss region reads"; "" if nobody does.

    Raises
    ------
    ConfigError
        If a split is empty, two parts have the same name, parts in memory are to be streamed, or `about` lacks an entry
        that a checkpoint needs, a part lacks the polygons that the loss reads, or it leaves out other borders than the
        settings say.
    """
    for split, parts in (("training", training), ("validation", validation)):
        if not parts:
            raise ConfigError(f"there are no {split} parts.", hint="Give at least one scene, or half of one.")
    names = [p.name for p in (*training, *validation)]
    twice = sorted({n for n in names if names.count(n) > 1})
    if twice:
        raise ConfigError(f"parts are given twice: {', '.join(twice)}.")
    missing = [key for key in ("resolution_m", "simulated") if key not in about]
    if missing:
        raise ConfigError(f"about lacks {', '.join(missing)}, which the checkpoint must record.")
    without = [p.name for p in (*training, *validation) if p.polygons is None]
    if reader and without:
        raise ConfigError(
            f"{reader} the charts' polygons, which {', '.join(without)} have not.",
            hint="Label the charts with `floemap label`, which writes polygons.tif and polygons.csv beside the labels.",
        )
    border = settings.crops.border_px
    if border and any(isinstance(p, PartArrays) or p.border_px != border for p in (*training, *validation)):
        raise ConfigError(f"crops.border_px is {border}, but parts are given without it.")
    if settings.crops.source == "streamed" and any(isinstance(p, PartArrays) for p in training):
        raise ConfigError('crops.source is "streamed", but parts are in memory.', hint='Set it to "resident".')


def identities(parts: Sequence[Part]) -> dict[str, Any]:
    """Return the identity of each part: hashes of its content, so that a training resumes with the same data only.

    Raises
    ------
    FloemapError
        If a file cannot be read.
    """
    return {p.name: _of_arrays(p) if isinstance(p, PartArrays) else _of_files(p) for p in parts}


def _of_arrays(part: PartArrays) -> dict[str, Any]:
    arrays: dict[str, NDArray[Any]] = {"stored": part.stored, "labels": part.labels}
    if part.ids is not None and part.polygons is not None:
        arrays |= {"polygons": part.ids, "shares": part.polygons.shares, "candidates": part.polygons.candidates}
        if part.polygons.values is not None:
            arrays["values"] = part.polygons.values
    return {name: hashlib.sha256(np.ascontiguousarray(a).data).hexdigest() for name, a in arrays.items()}


def _of_files(part: ScenePart) -> dict[str, Any]:
    from floemap.icechart.label.polygon_table import TABLE
    from floemap.layers.stored import hashes_of

    files = {"product": part.product, "labels": part.labels, "mask": part.mask, "polygons": part.polygons}
    if part.polygons is not None:
        files["table"] = part.polygons.with_name(TABLE)
    about: dict[str, Any] = {name: sha256(path) for name, path in files.items() if path is not None}
    about["window"] = part.window
    if layers := hashes_of(part.product, part.bands):
        about["layers"] = layers
    return about | ({"border_px": part.border_px} if part.border_px else {})
