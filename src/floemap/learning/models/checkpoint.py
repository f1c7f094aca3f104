"""Trained models on disk: one .safetensors file with the weights and, in its header, all that predicting needs to know.

Nothing in such a file is run when it is read: no pickle. See :mod:`floemap.learning.models.checkpoint_header` for what
the header holds.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as to_safetensors
from torch import Tensor

from floemap.errors import ConfigError, ModelError
from floemap.learning.models.checkpoint_header import (
    METADATA_KEY,
    RESOLUTION_TOLERANCE,
    SCHEMA_VERSION,
    describe_legend,
    find_legend,
    read_about,
)
from floemap.learning.models.registry import SegmentationModel, build_model
from floemap.learning.models.state_dicts import what_differs
from floemap.learning.settings import ModelSettings
from floemap.legend import Legend
from floemap.legend import legend as legend_called
from floemap.results.stage import write_whole
from floemap.sentinel1.encoding import BAND_NAMES
from floemap.version import __version__


@dataclass(frozen=True)
class Checkpoint:
    """A trained model, ready to predict.

    Attributes
    ----------
    model
        In evaluation mode, float32.
    about
        What the header says; see :mod:`floemap.learning.models.checkpoint_header`.
    path
        Where it was read from.
    """

    model: SegmentationModel
    about: dict[str, Any]
    path: Path

    @property
    def legend(self) -> Legend:
        """What the classes are."""
        return legend_called(self.about["legend"]["name"])

    @property
    def bands(self) -> tuple[str, ...]:
        """Names of the bands that the model reads, in their order."""
        return tuple(self.about["bands"])

    @property
    def resolution_m(self) -> float:
        """Pixel size of the scenes that it learnt from, metres."""
        return float(self.about["resolution_m"])

    @property
    def simulated(self) -> bool:
        """Whether it learnt from simulated scenes."""
        return bool(self.about["simulated"])


def save_checkpoint(
    path: str | Path,
    model: SegmentationModel,
    about: Mapping[str, Any],
    *,
    dtype: Literal["float32", "float16"] = "float32",
) -> None:
    """Write a model and what is known about it, whole or not at all; what stood there before stays until then.

    Parameters
    ----------
    path
        The file, by custom ``*.safetensors``.
    model
        With its normalisation set.
    about
        ``legend`` (a legend's name, or a header's description of one), ``resolution_m`` and ``simulated`` are needed.
        The rest of what the header says of the model is filled in; other keys are kept as they are, as JSON.
    dtype
        "float16" halves the file: the convolutions' weights are rounded, the rest stays. They are float32 when loaded.

    Raises
    ------
    ModelError
        If a weight is not finite or too large for `dtype`, `about` lacks something or cannot be JSON, or the legend
        has another number of classes than the model.
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
                    f"{name} holds values that are not finite as {stored.dtype}; it is not written.", path=path
                )
        tensors[name] = stored.contiguous()
    write_whole(path, to_safetensors(tensors, {METADATA_KEY: header}))


def _header(path: Path, model: SegmentationModel, about: Mapping[str, Any], dtype: str) -> str:
    missing = [key for key in ("legend", "resolution_m", "simulated") if key not in about]
    if missing:
        raise ModelError(f"cannot be written without {', '.join(missing)}.", path=path)
    name = about["legend"]["name"] if isinstance(about["legend"], Mapping) else about["legend"]
    table = legend_called(name)
    if len(table) != model.classes:
        raise ModelError(f"the model has {model.classes} classes, the legend {name} {len(table)}.", path=path)
    resolution_m = float(about["resolution_m"])
    if not (math.isfinite(resolution_m) and resolution_m > 0):
        raise ModelError(f"resolution_m is {resolution_m}; it must be above 0.", path=path)
    header = dict(about) | {
        "schema_version": SCHEMA_VERSION,
        "software": f"floemap {__version__}",
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "model": {
            "name": model.name,
            "output_stride": model.settings.output_stride,
            "rates": None if model.settings.rates is None else list(model.settings.rates),
            "dropout": model.settings.dropout,
            "classes": model.classes,
            "parameters": sum(p.numel() for p in model.parameters()),
        },
        "bands": list(BAND_NAMES),
        "normalisation": {"mean": model.mean.tolist(), "std": model.std.tolist()},
        "legend": describe_legend(table),
        "resolution_m": resolution_m,
        "simulated": bool(about["simulated"]),
        "dtype": dtype,
    }
    try:
        return json.dumps(header, allow_nan=False, default=str)
    except ValueError as e:
        raise ModelError(f"what is known about it cannot be JSON: {e}.", path=path) from e


def load_checkpoint(path: str | Path, device: str | torch.device = "cpu") -> Checkpoint:
    """Read a checkpoint; the model is in evaluation mode, on `device`, in float32. torch's random state is untouched.

    Raises
    ------
    ModelError
        If the file is absent, no whole .safetensors file or not floemap's, of a newer version, of an unknown model,
        of a legend whose classes are others today, or its tensors are not the model's.
    """
    path = Path(path)
    about = read_about(path)
    table = find_legend(about["legend"], path)
    model = _build(path, about, table)
    tensors = _read_tensors(path)
    different = what_differs(model.state_dict(), tensors)
    if different:
        raise ModelError(
            f"does not hold the model that it tells of: {different}.",
            path=path,
            hint="It is damaged, or was made by something else.",
        )
    model.load_state_dict(tensors)
    return Checkpoint(model.to(device).eval(), about, path)


def _build(path: Path, about: Mapping[str, Any], table: Legend) -> SegmentationModel:
    """Build the model that a header tells of, with any weights."""
    said = about["model"]
    if tuple(about["bands"]) != BAND_NAMES:
        raise ModelError(f"reads the bands {about['bands']}; this floemap has {list(BAND_NAMES)}.", path=path)
    if said.get("classes") != len(table):
        raise ModelError(f"gives {said.get('classes')} classes; its legend has {len(table)}.", path=path)
    try:
        keys = ("name", "output_stride", "dropout")
        settings = ModelSettings.checked(rates=said.get("rates"), **{key: said[key] for key in keys})  # once unnamed
        with torch.random.fork_rng(devices=[]):
            return build_model(settings, len(table))
    except KeyError as e:
        raise ModelError(f"has a damaged description: {e} of the model is missing.", path=path) from e
    except ConfigError as e:
        raise ModelError(f"holds a model that this floemap cannot build: {e}", path=path) from e


def _read_tensors(path: Path) -> dict[str, Tensor]:
    """Return all tensors by name, those with a fraction in float32."""
    try:
        with safe_open(path, framework="pt", device="cpu") as f:
            read = {name: f.get_tensor(name) for name in f.keys()}  # noqa: SIM118, it is no mapping
    except (SafetensorError, OSError) as e:
        raise ModelError(f"cannot be read: {e}.", path=path) from e
    return {name: x.float() if x.is_floating_point() else x for name, x in read.items()}


def check_fits(
    checkpoint: Checkpoint, *, bands: Sequence[str], resolution_m: float, legend: Legend | str | None = None
) -> None:
    """Refuse a product, or labels, that a model did not learn to read.

    Parameters
    ----------
    checkpoint
        Of the model.
    bands
        Names of the product's bands that the model would be given, in their order.
    resolution_m
        The product's pixel size, metres.
    legend
        Legend of the labels, or its name; None where there are none. It must have the same classes in the same order;
        which codes of a chart become them may differ.

    Raises
    ------
    ModelError
        If one of them does not fit, with both values.
    ConfigError
        If there is no legend of that name.
    """
    if tuple(bands) != checkpoint.bands:
        raise ModelError(
            f"reads the bands {', '.join(checkpoint.bands)}; the product has {', '.join(bands)}.",
            path=checkpoint.path,
            hint="Make the product with `floemap prepare`.",
        )
    if not math.isclose(resolution_m, checkpoint.resolution_m, rel_tol=RESOLUTION_TOLERANCE):
        raise ModelError(
            f"learnt from pixels of {checkpoint.resolution_m:g} m; the product has {resolution_m:g} m.",
            path=checkpoint.path,
            hint=f"Prepare it with `floemap prepare --resolution {checkpoint.resolution_m:g}`.",
        )
    if legend is None:
        return
    table = legend_called(legend) if isinstance(legend, str) else legend
    learnt, asked = ([c.key for c in t.classes] for t in (checkpoint.legend, table))
    if learnt != asked:
        raise ModelError(
            f"knows the classes {', '.join(learnt)} (legend {checkpoint.legend.name}); asked for are "
            f"{', '.join(asked)} (legend {table.name}).",
            path=checkpoint.path,
            hint="Label the charts with its legend.",
        )
