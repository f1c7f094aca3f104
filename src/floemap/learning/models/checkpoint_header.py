"""What a checkpoint says of itself, read without torch: the JSON in the header of its .safetensors file.

Keys: ``schema_version``, ``software``, ``created``, ``model`` (name, output_stride, rates, dropout, classes,
parameters), ``bands``, ``normalisation`` (mean and std of each band, dB and degrees), ``legend`` (name, title, and id,
key, title and SIGRID-3 stages of each class), ``resolution_m``, ``simulated`` (whether it learnt from simulated
scenes), ``dtype`` of the stored weights, and whatever the trainer adds: crs, data, started_from, training.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from floemap.errors import MISSHAPEN, ConfigError, ModelError
from floemap.legend import Legend, legend
from floemap.results.stage import parse_json

logger = logging.getLogger(__name__)

_REAL, _SIMULATED = "real scenes", "SIMULATED scenes only"
#: Version of the header. Raised when a reader of an older one would misread a newer one.
SCHEMA_VERSION = 1
#: How much pixel sizes may differ and be the same: of a product and what a model learnt, or of scenes; as a share.
RESOLUTION_TOLERANCE = 1e-4
#: Key of the JSON in the file's metadata.
METADATA_KEY = "floemap"
_TYPES: Mapping[str, type | tuple[type, ...]] = {
    "software": str,
    "created": str,
    "model": dict,
    "bands": list,
    "normalisation": dict,
    "legend": dict,
    "resolution_m": (int, float),
    "simulated": bool,
}


def read_about(path: str | Path) -> dict[str, Any]:
    """Read what a checkpoint says of itself.

    Raises
    ------
    ModelError
        If the file is absent, no whole .safetensors file, not floemap's, or of a newer version than this one reads.
    """
    from safetensors import SafetensorError, safe_open

    path = Path(path)
    if not path.is_file():
        raise ModelError("does not exist or is no file.", path=path, hint="Give a checkpoint that floemap wrote.")
    try:
        with safe_open(path, framework="np") as f:
            metadata = f.metadata() or {}
    except (SafetensorError, OSError) as e:
        raise ModelError(
            f"is no whole .safetensors file: {e}.",
            path=path,
            hint="Give a checkpoint that floemap wrote; copy it again if it was cut off.",
        ) from e
    if METADATA_KEY not in metadata:
        raise ModelError(
            "holds tensors but no description by floemap.",
            path=path,
            hint="Give a checkpoint that floemap wrote. For an encoder's weights there is encoder_weights.",
        )
    try:
        about = parse_json(metadata[METADATA_KEY], path, ModelError)
        version = about["schema_version"]
        newer = version > SCHEMA_VERSION
    except MISSHAPEN as e:
        raise ModelError(f"has a damaged description: {type(e).__name__}: {e}.", path=path) from e
    if newer:
        raise ModelError(
            f"has a description of version {version}, by {about.get('software')}; this floemap reads up to "
            f"{SCHEMA_VERSION}.",
            path=path,
            hint="Update floemap.",
        )
    for key, kind in _TYPES.items():
        if not isinstance(about.get(key), kind):
            raise ModelError(f"has a damaged description: {key} is {about.get(key)!r}.", path=path)
    return dict(about)


def learnt_from(about: Mapping[str, Any]) -> str:
    """Say in words what a model learnt from, by its header: real scenes, SIMULATED scenes only, or both."""
    parts = [part for part in about.get("data", ()) if isinstance(part, Mapping)]
    scenes = [bool(part["simulated"]) for part in parts if "simulated" in part]
    known = {_SIMULATED if s else _REAL for s in scenes} or {_SIMULATED if about["simulated"] else _REAL}
    started = about.get("started_from")
    if isinstance(started, Mapping):
        known.add(str(started["learnt_from"]))
    return known.pop() if len(known) == 1 else "real and SIMULATED scenes"


def warn_if_simulated(about: Mapping[str, Any], name: str) -> None:
    """Warn of a model that learnt from simulated scenes, by its header: to be called once work with it begins."""
    if about["simulated"]:
        logger.warning(
            "%s WAS TRAINED ON %s: maps made with it show how the software works, and are unfit for any use",
            name,
            learnt_from(about).upper(),
        )


def _lines_of_start(started: Mapping[str, Any] | None) -> list[tuple[str, str]]:
    if started is None:
        return []
    words = f"{started['file']} of {started['created']}, trained on {started['learnt_from']}"
    return [("started from", f"{words}; products behind it: {len(started['products'])}")]


def describe_checkpoint(path: Path) -> tuple[dict[str, Any], list[tuple[str, str]]]:
    """Return what a checkpoint says of itself, for programs, and as (name, words) for people.

    Raises
    ------
    ModelError
        As :func:`read_about` does, or if parts of the description are missing.
    """
    about = read_about(path)
    try:
        model, normalisation = about["model"], about["normalisation"]
        pairs = zip(about["bands"], normalisation["mean"], normalisation["std"], strict=True)
        uses: dict[str, list[str]] = {}
        for part in about.get("data", ()):
            uses.setdefault(str(part["role"]), []).append(str(part["part"]))
        lines = [
            ("what", f"model, trained on {learnt_from(about)}"),
            ("model", f"{model['name']}, {model['parameters'] / 1e6:.2f} M parameters"),
            ("classes", ", ".join(c["title"] for c in about["legend"]["classes"])),
            ("legend", about["legend"]["name"]),
            ("pixel size", f"{about['resolution_m']:g} m"),
            *((band, f"mean {mean:.2f}, standard deviation {std:.2f}") for band, mean, std in pairs),
            *((role, ", ".join(parts)) for role, parts in uses.items()),
            *_lines_of_start(about.get("started_from")),
            ("made by", f"{about['software']}, {about['created']}"),
        ]
    except MISSHAPEN as e:
        raise ModelError(f"has a damaged description: {type(e).__name__}: {e}.", path=path) from e
    return {**about, "kind": "model", "path": str(path)}, lines


def describe_legend(table: Legend) -> dict[str, Any]:
    """Return a legend as the header tells it."""
    classes = [{"id": c.id, "key": c.key, "title": c.title, "stages": sorted(c.stages)} for c in table.classes]
    return {"name": table.name, "title": table.title, "classes": classes}


def find_legend(said: Mapping[str, Any], path: Path | None = None) -> Legend:
    """Return today's legend of the name that a header tells, if its classes are still the same.

    Other SIGRID-3 codes of the same classes go to the log as a warning: what the model learnt as a class then is not
    quite what is called so now.

    Raises
    ------
    ModelError
        If there is no such legend any more, or its classes or their order differ.
    """
    try:
        name = said["name"]
        then = [(c["id"], c["key"]) for c in said["classes"]]
        stages = [c["stages"] for c in said["classes"]]
        table = legend(name)
    except ConfigError as e:
        raise ModelError(f"was trained with another legend: {e}", path=path) from e
    except MISSHAPEN as e:
        raise ModelError(f"has a damaged description of its legend: {type(e).__name__}: {e}.", path=path) from e
    now = [(c.id, c.key) for c in table.classes]
    if then != now:
        raise ModelError(
            f"was trained with other classes in the legend {name}: {_keys(then)}; today's are {_keys(now)}.",
            path=path,
            hint="Use the floemap that trained it, or train again.",
        )
    if stages != [sorted(c.stages) for c in table.classes]:
        logger.warning("%s was trained when classes of the legend %s had other SIGRID-3 codes", path, name)
    return table


def _keys(classes: list[tuple[int, str]]) -> str:
    return ", ".join(f"{i} {key}" for i, key in classes)
