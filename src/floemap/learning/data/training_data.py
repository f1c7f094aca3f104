"""The data of a training, loaded and surveyed before the first step."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

from floemap.errors import ConfigError, TrainingError
from floemap.learning.data.choose_source import Chosen, choose_source
from floemap.learning.data.crops import Crop, CropSource, PartTensors, ResidentCrops, StreamedCrops, draw_fixed
from floemap.learning.data.host_memory import ALONE, Neighbours, shared_memory
from floemap.learning.data.parts import PartArrays, ScenePart, load_part
from floemap.learning.data.polygons import PolygonShares, tables_of
from floemap.learning.data.resident import ResidentParts, bytes_of
from floemap.learning.data.survey import Survey, count_classes
from floemap.learning.data.surveyed import Surveyed, Wanted, surveyed, values_of
from floemap.learning.settings import LearningSettings
from floemap.learning.targets import Head, heads_of
from floemap.legend import Legend
from floemap.threads import in_order, usable_cores

logger = logging.getLogger(__name__)

Part = ScenePart | PartArrays

#: Share of the free memory of a GPU that resident scenes may use. The network needs the rest.
_SHARE_OF_GPU = 0.4
#: Most parts that are read at the same time: each takes memory until it is surveyed.
_MOST_THREADS = 4


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
    chosen
        Which source it is, and why.
    training
        Training parts, in memory where the source draws from there.
    validation
        Validation parts, in memory unless crops are streamed.
    fixed
        For each validation part the crops to validate on; None validates on whole parts.
    resident
        The validation parts on the GPU, if they are validated whole and all parts fit.
    """

    surveys: list[Survey]
    pixels: list[int]
    source: CropSource
    chosen: Chosen
    training: Sequence[Part]
    validation: Sequence[Part]
    fixed: Sequence[Sequence[Crop]] | None
    resident: list[PartTensors] | None = None


def gather(
    training: Sequence[Part],
    validation: Sequence[Part],
    settings: LearningSettings,
    legend: Legend,
    device: torch.device,
    shares_for: str = "",
    surveys_in: Path | None = None,
    neighbours: Neighbours = ALONE,
) -> Dataset:
    """Survey all parts, or find their surveys. If a class occurs in no training part, a warning is logged.

    Parameters
    ----------
    training, validation, settings, legend
        See :func:`floemap.learning.training.loop.train`.
    device
        Device of the training.
    shares_for
        Name of the loss of ice types, if it learns from partial concentrations; "" if not.
    surveys_in
        Folder in which surveys are kept for later trainings; None keeps none.
    neighbours
        The processes that train together.

    Raises
    ------
    TrainingError
        If a part has no place for a crop or a label that the legend lacks, or if the training or the validation parts
        have no labels, nothing that a further head learns, or no partial concentrations that the loss needs.
    GridError, FloemapError
        If parts cannot be read.
    """
    crops = settings.crops
    chosen = choose_source([*training, *validation], crops, neighbours)
    learnt, held = training, validation
    if chosen.source == "resident":
        learnt, held = (
            ResidentParts(parts, lambda sizes: shared_memory(sizes, neighbours)) for parts in (training, validation)
        )
    heads = heads_of(settings.tasks, len(legend))
    values = values_of([h.target for h in heads])
    wanted = Wanted(crops.size_px, crops.min_valid, values, surveys_in)
    read = _survey_all(training, learnt, wanted)
    surveys, tables = [r.survey for r in read], [r.polygons for r in read]
    _refuse_unknown(heads, surveys, "training")
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

    on_patches = settings.training.validation == "crops"
    wanted = replace(wanted, size_px=crops.size_px if on_patches else None)
    read = _survey_all(validation, held, wanted)
    for r in read:
        count_classes([r.survey], legend, "validation")
    _refuse_unknown(heads, [r.survey for r in read], "validation")
    fixed = draw_fixed([r.survey for r in read], crops) if on_patches else None
    if not isinstance(learnt, ResidentParts) or not isinstance(held, ResidentParts):
        files = [p for p in training if isinstance(p, ScenePart)]
        source = StreamedCrops(files, crops.workers, pin=device.type == "cuda", tables=tables_of(tables))
        return Dataset(surveys, pixels, source, chosen, training, validation, fixed)
    needed, room = sum(map(bytes_of, training)), _room_on(device)
    if device.type != "cuda" or needed >= room:
        if device.type == "cuda":
            logger.warning(
                "the scenes (%.1f GB) do not fit into the GPU's memory; they stay in main memory", needed / 1e9
            )
        crops_of = ResidentCrops(learnt, tables=tables_of(tables))
        return Dataset(surveys, pixels, crops_of, chosen, learnt, held, fixed)
    crops_of, resident = ResidentCrops(list(learnt), device, tables_of(tables, device)), None
    if not on_patches and needed + sum(map(bytes_of, validation)) < room:
        resident = [PartTensors.of(p, device) for p in held]
    return Dataset(surveys, pixels, crops_of, chosen, training, held, fixed, resident)


def _room_on(device: torch.device) -> float:
    """Return the bytes that scenes may take on a GPU; 0 on a processor."""
    if device.type != "cuda":
        return 0.0
    torch.cuda.empty_cache()  # memory that torch has cached from an earlier training counts as used
    return float(_SHARE_OF_GPU * torch.cuda.mem_get_info(device)[0])


def _survey_all(parts: Sequence[Part], arrays: Sequence[Part], wanted: Wanted) -> list[Surveyed]:
    """Survey all parts, several at a time: reading leaves the interpreter free. `arrays` gives what has to be read."""

    def survey(i: int) -> Surveyed:
        return surveyed(parts[i], wanted, lambda: load_part(arrays[i]))

    return list(in_order((partial(survey, i) for i in range(len(parts))), min(usable_cores(), _MOST_THREADS)))


def _has_candidates(polygons: PolygonShares | None) -> bool:
    """Return whether a part has a polygon of which it is known which classes it may hold."""
    return polygons is not None and bool(polygons.candidates.any())


def _refuse_unknown(heads: Sequence[Head], surveys: Sequence[Survey], split: str) -> None:
    """Refuse parts of which no pixel has a polygon of a known value that a further head learns."""
    for head in heads:
        if head.kind != "class" and not any(s.known.get(head.target) for s in surveys):
            raise TrainingError(
                f"no pixel of the {split} parts ({', '.join(s.name for s in surveys)}) has a polygon of known "
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
    twice = sorted(n for n, count in Counter(names).items() if count > 1)
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
