"""What a training says of itself: what identifies it, the header of its checkpoint, and its record."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lightning_fabric import Fabric

from floemap.bands import BandSet
from floemap.counts import counted
from floemap.learning.data.identities import identities
from floemap.learning.data.training_data import Dataset, Part
from floemap.learning.losses.tasks import identities as loss_identities
from floemap.learning.models.atrous import describe_rates
from floemap.learning.models.checkpoint import Checkpoint
from floemap.learning.models.checkpoint_header import SCENES, about_start, describe_legend
from floemap.learning.models.own import is_own, origin
from floemap.learning.settings import LearningSettings
from floemap.learning.training.compiling import compiles
from floemap.learning.training.distributed import on_first, precision_of
from floemap.learning.training.run import Run
from floemap.learning.training.state import METRICS, RECORD, STAGE, WEIGHTS, State
from floemap.legend import Legend
from floemap.own_legends import identity, with_table
from floemap.progress import BESIDE_BARS, milestones
from floemap.results.stage import provenance, sha256, write_json
from floemap.sentinel1.encoding import PRODUCT_BANDS

logger = logging.getLogger(__name__)

#: Files that a training starts from. They are identified by their content, not by their path.
_STARTS = ("encoder_weights", "start_from")
#: Settings that do not change what is learnt: a run may be resumed with other values of them.
_OF_THE_MACHINE = {"crops": {"source", "workers"}, "training": {"loggers", "save_every_minutes"}, "model": {*_STARTS}}


def inputs_of(
    training: Sequence[Part], validation: Sequence[Part], settings: LearningSettings, legend: Legend, bands: BandSet
) -> dict[str, Any]:
    """Return what a training is made from, by its content: parts, legend, files that it starts from, code of the user.

    Raises
    ------
    FloemapError
        If a file cannot be read.
    ConfigError
        If a loss or model of the user cannot be imported, or its source is not known.
    """
    inputs: dict[str, Any] = {
        "training": identities(training),
        "validation": identities(validation),
        "legend": identity(legend),
    }
    if bands != PRODUCT_BANDS:  # records of trainings on the product's bands do not name them
        inputs["bands"] = bands.record()
    inputs |= loss_identities(settings)
    if is_own(settings.model.name):
        inputs |= origin(settings.model.name).inputs()
    return inputs | {key: sha256(path) for key in _STARTS if (path := getattr(settings.model, key)) is not None}


def configuration_of(settings: LearningSettings) -> dict[str, Any]:
    """Return the settings that identify a training.

    Those that older versions did not have are left out where they are not set: such trainings remain the same.
    """
    configuration = settings.model_dump(mode="json", exclude=_OF_THE_MACHINE)
    if not settings.tasks:
        del configuration["tasks"]
    if not settings.model.options:
        del configuration["model"]["options"]
    if settings.training.monitor is None:
        del configuration["training"]["monitor"]
    if settings.training.accumulate == 1:
        del configuration["training"]["accumulate"]
    # Compiled code differs in rounding only: "auto", which older versions did not have, may resume their trainings.
    configuration["training"]["compile"] = settings.training.compile is True
    return configuration


def note_arithmetic(state: State, fabric: Fabric, out: Path) -> None:
    """Put device and precision into the state; warn if the training was begun with others."""
    now = {"device": fabric.device.type, "precision": precision_of(fabric)}
    if state.arithmetic not in ({}, now):
        before, after = (f"{x['precision']} on {x['device']}" for x in (state.arithmetic, now))
        logger.warning(
            "%s was begun with %s and is resumed with %s: the weights will differ from those of an uninterrupted run",
            out,
            before,
            after,
        )
    state.arithmetic = now


def header_of(
    settings: LearningSettings,
    legend: Legend,
    data: Dataset,
    fabric: Fabric,
    state: State,
    about: Mapping[str, Any],
    start: Checkpoint | None,
) -> dict[str, Any]:
    """Return what the checkpoint says of its training, beside inputs and configuration."""
    compiled = {"compiled": True} if compiles(settings, len(data.surveys), fabric.device) else {}
    header = dict(about) | {
        "legend": describe_legend(legend) if with_table(legend) else legend.name,
        "revision": STAGE.revision,
        "class_pixels": {c.key: n for c, n in zip(legend.classes, data.pixels, strict=True)},
        "trained_on": state.arithmetic | {"processes": fabric.world_size} | compiled,
        "atrous_branches": describe_rates(settings.model, settings.crops),
    }
    if start is not None:
        header["simulated"] = header["simulated"] or start.simulated
        header["started_from"] = about_start(start.about, start.path)
    return header


def write_record(run: Run, state: State, why: str) -> None:
    """Write the record of a finished training, and log the result."""
    out, fabric = run.out, run.fabric
    record = provenance(STAGE, inputs=run.about["inputs"], configuration=run.about["configuration"])
    record |= {k: v for k, v in run.about.items() if k not in {*record, SCENES}} | {
        "epochs": len(state.history),
        "stopped": why,
        "crops_from": run.data.chosen.record(),
        "best": state.best_epoch,
        "seconds": round(sum(row["seconds"] for row in state.history), 1),
        "parameters": sum(p.numel() for p in run.model.parameters()),
        "normalisation": {"mean": run.model.mean.tolist(), "std": run.model.std.tolist()},
    }
    sizes = {name: (out / name).stat().st_size for name in (WEIGHTS, METRICS)} if fabric.is_global_zero else {}
    on_first(fabric, lambda: write_json(out / RECORD, record | {"bytes": sizes}))
    if fabric.is_global_zero and (best := state.best_epoch) is not None:
        milestones.info(
            "%s: finished after %s because %s; the weights of epoch %d are kept, with validation loss %.4g and "
            "weighted F1 %.3f",
            out,
            counted(len(state.history), "epoch"),
            why,
            best["epoch"],
            best["validation_loss"],
            best["weighted_f1"],
            extra=BESIDE_BARS,
        )
