"""Trained models on disk: a .safetensors file with the weights and, in its header, everything that prediction needs.

Reading a checkpoint runs no code from it: it contains no pickle. :mod:`floemap.learning.models.checkpoint_header`
describes the header.
"""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from safetensors.torch import save as to_safetensors

from floemap.bands import BandSet
from floemap.errors import ConfigError, ModelError
from floemap.learning.models.base import SegmentationModel, load_tensors
from floemap.learning.models.checkpoint_header import (
    METADATA_KEY,
    RESOLUTION_TOLERANCE,
    SCHEMA_VERSION,
    Calibration,
    calibration_of,
    check_bands_fit,
    describe_bands,
    describe_legend,
    find_bands,
    find_legend,
    heads_in,
    read_about,
)
from floemap.learning.models.own import is_own
from floemap.learning.models.registry import build_model
from floemap.learning.settings import ModelSettings
from floemap.learning.targets import is_usual
from floemap.legend import Legend
from floemap.legend import legend as legend_called
from floemap.own_legends import from_record
from floemap.results.stage import write_whole
from floemap.version import __version__

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Checkpoint:
    """A trained model, ready to predict.

    Attributes
    ----------
    model
        The model, in evaluation mode and float32.
    about
        The header; see :mod:`floemap.learning.models.checkpoint_header`.
    path
        The file.
    """

    model: SegmentationModel
    about: dict[str, Any]
    path: Path

    @property
    def legend(self) -> Legend:
        """Legend of the classes."""
        return from_record(self.about["legend"], self.path, ModelError)

    @property
    def bands(self) -> BandSet:
        """The bands that the model reads, in order."""
        return self.model.bands

    @property
    def resolution_m(self) -> float:
        """Pixel size of the training scenes, metres."""
        return float(self.about["resolution_m"])

    def calibration(self, month: int | None) -> Calibration:
        """Return how logits become probabilities for a scene of a month; see
        :func:`floemap.learning.models.checkpoint_header.calibration_of`."""
        return calibration_of(self.about, self.path, month)

    @property
    def simulated(self) -> bool:
        """Whether the model was trained on simulated scenes."""
        return bool(self.about["simulated"])


def save_checkpoint(
    path: str | Path,
    model: SegmentationModel,
    about: Mapping[str, Any],
    *,
    dtype: Literal["float32", "float16"] = "float32",
) -> None:
    """Write a checkpoint atomically; an earlier file stays until the new one is complete.

    Parameters
    ----------
    path
        The file, usually ``*.safetensors``.
    model
        A model with its normalisation set.
    about
        Entries for the header. ``legend`` (a legend's name, or a header's description of one), ``resolution_m`` and
        ``simulated`` are required. The entries that describe the model are filled in; others are stored as JSON.
    dtype
        "float16" halves the file by rounding the weights of convolutions. When loaded, all weights are float32.

    Raises
    ------
    ModelError
        If a weight is not finite or too large for `dtype`, if `about` lacks an entry or cannot be converted to JSON, or
        if the legend and the model differ in the number of classes.
    OutputError
        If the file cannot be written, with the reason (no permission, no space).
    """
    path = Path(path)
    header = _header(path, model, about, dtype)
    tensors = {}
    for name, value in model.state_dict().items():
        stored = value.detach().cpu()
        if stored.is_floating_point():
            stored = stored.to(torch.float16 if dtype == "float16" and stored.ndim > 1 else torch.float32)
            if not stored.isfinite().all():
                raise ModelError(
                    f"{name} holds values that are not finite as {stored.dtype}; nothing was written.", path=path
                )
        tensors[name] = stored.contiguous()
    write_whole(path, to_safetensors(tensors, {METADATA_KEY: header}))


def _header(path: Path, model: SegmentationModel, about: Mapping[str, Any], dtype: str) -> str:
    missing = [key for key in ("legend", "resolution_m", "simulated") if key not in about]
    if missing:
        raise ModelError(f"cannot be written without {', '.join(missing)}.", path=path)
    table = from_record(about["legend"], path, ModelError)
    if len(table) != model.classes:
        raise ModelError(f"the model has {model.classes} classes, the legend {table.name} {len(table)}.", path=path)
    resolution_m = float(about["resolution_m"])
    if not (math.isfinite(resolution_m) and resolution_m > 0):
        raise ModelError(f"resolution_m is {resolution_m}; it must be positive.", path=path)
    header = dict(about) | {
        "schema_version": SCHEMA_VERSION,
        "software": f"floemap {__version__}",
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "model": {
            "name": model.name,
            **(model.described or _of_floemap(model.settings)),
            "classes": model.classes,
            "parameters": sum(p.numel() for p in model.parameters()),
        },
        **describe_bands(model.bands),
        "normalisation": {"mean": model.mean.tolist(), "std": model.std.tolist()},
        "legend": describe_legend(table),
        "resolution_m": resolution_m,
        "simulated": bool(about["simulated"]),
        "dtype": dtype,
    }
    if not is_usual(model.heads):
        header["tasks"] = [h.about() for h in model.heads]
    try:
        return json.dumps(header, allow_nan=False, default=str)
    except ValueError as e:
        raise ModelError(f"its header cannot be converted to JSON: {e}.", path=path) from e


def _of_floemap(settings: ModelSettings) -> dict[str, Any]:
    """Return the header's entries for the settings of a model of floemap."""
    rates = None if settings.rates is None else list(settings.rates)
    return {"output_stride": settings.output_stride, "rates": rates, "dropout": settings.dropout}


def load_checkpoint(path: str | Path, device: str | torch.device = "cpu") -> Checkpoint:
    """Read a checkpoint, with the model in evaluation mode, on `device`, in float32; torch's random state is unchanged.

    A model that the header names by import string is imported, which runs the code of its module. If that code is not
    what it was at the time of the training, a warning is logged.

    Raises
    ------
    ModelError
        If the file is missing, is not a complete .safetensors file, or was not written by floemap, or by a newer
        version; if its model is unknown, or the classes of its legend have changed; or if its tensors do not fit.
    """
    path = Path(path)
    about = read_about(path)
    table = find_legend(about["legend"], path)
    model = _build(path, about, table)
    try:
        stored = load_file(path)
        load_tensors(model, {name: x.float() if x.is_floating_point() else x for name, x in stored.items()})
    except (SafetensorError, OSError) as e:
        raise ModelError(f"cannot be read: {e}.", path=path) from e
    except ValueError as e:
        hint = "The file is damaged, or other software made it."
        raise ModelError(f"does not hold the model that its header describes: {e}.", path=path, hint=hint) from e
    return Checkpoint(model.to(device).eval(), about, path)


def _build(path: Path, about: Mapping[str, Any], table: Legend) -> SegmentationModel:
    """Build the model that a header describes, with random weights."""
    described, bands = about["model"], find_bands(about, path)
    if described.get("classes") != len(table):
        raise ModelError(f"gives {described.get('classes')} classes; its legend has {len(table)}.", path=path)
    heads = heads_in(about, path)
    try:
        settings = _settings_of(described)
        with torch.random.fork_rng(devices=[]):
            crop_px = int(described.get("crop_px", 256))
            model = build_model(settings, heads, bands, crop_px=crop_px, described=described)
    except KeyError as e:
        raise ModelError(f"has a damaged description: {e} of the model is missing.", path=path) from e
    except (TypeError, ValueError) as e:
        raise ModelError(f"has a damaged description of its model: {e}.", path=path) from e
    except ConfigError as e:
        raise ModelError(f"holds a model that this floemap cannot build: {e.message}", path=path, hint=e.hint) from e
    except ModelError as e:
        raise ModelError(f"holds a model that cannot be used: {e.message}", path=path, hint=e.hint) from e
    for key, what in (("source", "the source"), ("package", "the package")):
        if described.get(key) != model.described.get(key):
            logger.warning("%s: %s of its model %s has changed since the training", path, what, model.name)
    return model


def _settings_of(described: Mapping[str, Any]) -> ModelSettings:
    """Return the settings of the model that a header describes."""
    if is_own(str(described["name"])):
        return ModelSettings.checked(name=described["name"], options=described["options"])
    keys = ("name", "output_stride", "dropout")  # older headers lack the rates
    return ModelSettings.checked(rates=described.get("rates"), **{key: described[key] for key in keys})


def check_fits(
    checkpoint: Checkpoint, *, bands: BandSet, resolution_m: float, legend: Legend | str | None = None
) -> None:
    """Refuse a product, or labels, that do not fit a model.

    Parameters
    ----------
    checkpoint
        Checkpoint of the model.
    bands
        Bands of the scene, in the order in which the model would read them. Their steps may differ from the model's.
    resolution_m
        Pixel size of the product, metres.
    legend
        Legend of the labels, or its name; None without labels. It must have the same classes in the same order, but
        may assign other codes of a chart to them.

    Raises
    ------
    ModelError
        If one of them does not fit; the message shows both values.
    ConfigError
        If there is no legend of that name.
    """
    check_bands_fit(checkpoint.bands, bands, checkpoint.path)
    if not math.isclose(resolution_m, checkpoint.resolution_m, rel_tol=RESOLUTION_TOLERANCE):
        raise ModelError(
            f"was trained on pixels of {checkpoint.resolution_m:g} m; the product has {resolution_m:g} m.",
            path=checkpoint.path,
            hint=f"Prepare it with `floemap prepare --resolution {checkpoint.resolution_m:g}`.",
        )
    if legend is None:
        return
    table = legend_called(legend) if isinstance(legend, str) else legend
    learnt, asked = ([c.key for c in t.classes] for t in (checkpoint.legend, table))
    if learnt != asked or checkpoint.legend.water != table.water:
        raise ModelError(
            f"has the classes {', '.join(learnt)} (legend {checkpoint.legend.name}), not "
            f"{', '.join(asked)} (legend {table.name}).",
            path=checkpoint.path,
            hint="Label the charts with its legend.",
        )
