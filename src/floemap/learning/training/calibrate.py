"""What is measured once a training has ended: the temperature of its probabilities, and what its scenes are like.

For the temperature the validation parts are computed once more, whole: which weights are kept is known after the last
epoch only. For the out-of-distribution score the bands of all parts are used once more, without the network: of parts
that are in memory they are not read again.
"""

from __future__ import annotations

import copy
import logging
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from lightning_fabric import Fabric

from floemap.counts import counted
from floemap.learning.calibration.out_of_distribution import SquareStatistics, labelled_squares, learn_known
from floemap.learning.calibration.sample import month_of_part, polygon_ids, sample_part
from floemap.learning.calibration.seasons import fit_seasons
from floemap.learning.calibration.temperature import PolygonSample, fit_temperature
from floemap.learning.data.parts import load_part
from floemap.learning.data.resident import ResidentParts
from floemap.learning.data.training_data import Part
from floemap.learning.models.base import SegmentationModel
from floemap.learning.models.checkpoint_header import SCENES
from floemap.learning.training.device import exact_float32
from floemap.learning.training.distributed import gathered, on_first
from floemap.learning.training.run import Run
from floemap.learning.training.state import State
from floemap.learning.whole_scene.logits import array_reader, scene_logits
from floemap.progress import BESIDE_BARS, milestones

logger = logging.getLogger(__name__)


def calibrated(run: Run, state: State) -> Run:
    """Measure how far to trust the best weights, write it beside them, and return the run with it in its header."""
    how = run.settings.training.calibrate
    if not how or state.best_epoch is None:
        return run
    model = copy.deepcopy(run.model)
    model.load_state_dict(state.best)
    found = calibrate(model, run.data.validation, run.fabric, by_season=how == "season")
    seed = run.settings.training.seed
    scenes = on_first(run.fabric, lambda: describe_scenes(run.data.training, run.data.validation, seed))
    run = replace(run, about=dict(run.about) | {"calibration": found, SCENES: scenes})
    on_first(run.fabric, lambda: run.update_files(state, rewrite=True))
    if run.fabric.is_global_zero:
        if "reason" in found:
            logger.warning("%s: the probabilities are not calibrated, because %s", run.out, found["reason"])
        else:
            words = "%s: temperature %g, from %s; mean log loss %.4g, %.4g without it"
            before, after = found["log_loss"]
            polygons = counted(found["polygons"], "validation polygon")
            milestones.info(words, run.out, found["temperature"], polygons, after, before, extra=BESIDE_BARS)
    return run


@torch.inference_mode()
@exact_float32()
def calibrate(
    model: SegmentationModel, validation: Sequence[Part], fabric: Fabric, *, by_season: bool = False
) -> dict[str, Any]:
    """Calibrate a model on whole validation parts, in float32; the processes share the parts.

    Parameters
    ----------
    model, validation, fabric
        The model with the weights that are kept, the parts, and the processes.
    by_season
        Fit a temperature and offsets for each quarter of the year, too.

    Returns
    -------
    The entry ``calibration`` of a checkpoint's header; see
    :meth:`floemap.learning.calibration.temperature.Temperature.to_json` and
    :func:`floemap.learning.calibration.seasons.fit_seasons`.

    Raises
    ------
    FloemapError
        If a part cannot be read.
    """
    # Of parts in memory, too: the chart's polygons are beside the labels on the disk.
    origins = validation.origins if isinstance(validation, ResidentParts) else validation
    samples = []
    for i in range(fabric.global_rank, len(validation), fabric.world_size):
        arrays = load_part(validation[i])
        ids = polygon_ids(origins[i], arrays)
        read = array_reader(arrays.stored)
        with scene_logits(model, read, ids.shape, device=fabric.device, precision="fp32") as scene:
            samples.append((i, sample_part(scene, arrays, ids, seed=i)))
    in_order = [sample for _, sample in sorted(gathered(samples), key=lambda found: found[0])]
    fitted = fit_temperature(PolygonSample.joined(in_order))
    found = fitted.to_json() | {"parts": [part.name for part in validation]}
    if by_season and fitted.reason is None:
        found["seasons"] = fit_seasons(in_order, [month_of_part(part) for part in origins])
    return found


def describe_scenes(training: Sequence[Part], validation: Sequence[Part], seed: int) -> dict[str, Any]:
    """Return the entry ``out_of_distribution`` of a checkpoint's header: what its scenes are like, or why not.

    Raises
    ------
    FloemapError
        If a part cannot be read.
    """
    learnt, held = ([labelled_squares(load_part(p)) for p in parts] for parts in (training, validation))
    known = learn_known(learnt, held, SquareStatistics(training[0].bands).names, seed)
    return {"reason": known} if isinstance(known, str) else known.to_json()
