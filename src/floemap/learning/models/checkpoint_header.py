"""The header of a checkpoint, read without torch: JSON in the metadata of its .safetensors file.

Keys: ``schema_version``, ``software``, ``created``, ``model`` (name, output_stride, rates, dropout, classes,
parameters), ``bands`` (names, in order), ``layers`` (unit, step, offset and missing of each band that is not the
product's, by name; headers of models without such bands lack it), ``normalisation`` (mean and std of each band, in its
unit), ``legend`` (name, title, and id, key, title and SIGRID-3 stages of each class), ``resolution_m``, ``simulated``
(whether the training scenes were simulated), ``dtype`` of the stored weights, and what the training adds: crs, data,
started_from, training, ``calibration`` and ``out_of_distribution`` (what the training scenes are like; see
:mod:`floemap.learning.calibration.out_of_distribution`). ``calibration`` holds the temperature and how it was fitted,
and ``seasons`` if it is by quarter of the year (:mod:`floemap.learning.calibration.seasons`); headers without it are of
models that are not calibrated. ``tasks`` is optional: the heads of the model in the order of its output channels (name,
target, channels). Without it, the model has one head of classes.

Of a model that is named by import string, ``model`` has these entries instead of output_stride, rates and dropout:
options, source (SHA-256), package (with its version, or null), stride, alignment_px, reach_px (null if unlimited),
crop_px, and whole_scenes (exact tiles, or approximate).
"""

from __future__ import annotations

import logging
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from floemap.bands import BandSet, InputBand, band_of
from floemap.counts import counted, millions
from floemap.errors import MISSHAPEN, ConfigError, ModelError
from floemap.icechart.label.polygon_values import CATEGORIES, VALUES
from floemap.learning.targets import Head, channels_of, heads_of
from floemap.legend import Legend, legend
from floemap.own_legends import from_record, with_table
from floemap.results.stage import parse_json, sha256
from floemap.sentinel1.encoding import PRODUCT_BANDS

logger = logging.getLogger(__name__)

_REAL, _SIMULATED = "real scenes", "SIMULATED scenes only"
#: Version of the header. Raised when a reader of an older one would misread a newer one.
SCHEMA_VERSION = 1
#: Relative difference up to which two pixel sizes count as equal.
RESOLUTION_TOLERANCE = 1e-4
#: Key of the JSON in the file's metadata.
METADATA_KEY = "floemap"
#: Key of the statistics of the training scenes, which only programs can read.
SCENES = "out_of_distribution"
_HINT = "Give a checkpoint that floemap wrote."
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
    """Read the header of a checkpoint.

    Raises
    ------
    ModelError
        If the file is missing, is not a complete .safetensors file, was not written by floemap, or has a header of a
        newer version than this one reads.
    """
    from safetensors import SafetensorError, safe_open

    path = Path(path)
    if not path.is_file():
        raise ModelError("does not exist or is not a file.", path=path, hint=_HINT)
    try:
        with safe_open(path, framework="np") as f:
            metadata = f.metadata() or {}
    except (SafetensorError, OSError) as e:
        hint = f"{_HINT} If the file was cut off, copy it again."
        raise ModelError(f"is not a complete .safetensors file: {e}.", path=path, hint=hint) from e
    if METADATA_KEY not in metadata:
        hint = f"{_HINT} For an encoder's weights use encoder_weights."
        raise ModelError("holds tensors but no description by floemap.", path=path, hint=hint)
    try:
        about = parse_json(metadata[METADATA_KEY], path, ModelError)
        newer = about["schema_version"] > SCHEMA_VERSION
    except MISSHAPEN as e:
        raise _damaged(path, e) from e
    if newer:
        raise ModelError(
            f"has a description of version {about['schema_version']}, by {about.get('software')}; this floemap reads "
            f"up to {SCHEMA_VERSION}.",
            path=path,
            hint="Update floemap.",
        )
    for key, kind in _TYPES.items():
        if not isinstance(about.get(key), kind):
            raise ModelError(f"has a damaged description: {key} is {about.get(key)!r}.", path=path)
    calibration_of(about, path)
    return dict(about)


@dataclass(frozen=True)
class Calibration:
    """What is done to the logits z of a class before they become probabilities: softmax((z + offset) / temperature).

    Attributes
    ----------
    temperature
        The temperature; 1 for a model that is not calibrated.
    offsets
        Offset of each class, in units of logits; None for none.
    """

    temperature: float = 1.0
    offsets: tuple[float, ...] | None = None

    def to_json(self) -> dict[str, Any]:
        """Return the entries in a record."""
        return {"temperature": self.temperature} | ({} if self.offsets is None else {"offsets": list(self.offsets)})


def calibration_of(about: Mapping[str, Any], path: Path | None = None, month: int | None = None) -> Calibration:
    """Return how a model's logits become probabilities for a scene.

    Parameters
    ----------
    about
        The header.
    path
        The file, for messages.
    month
        Month of the scene, 1 to 12. None where it is not known: then the temperature of the whole year counts, also of
        a model that is calibrated by season.

    Raises
    ------
    ModelError
        If the calibration is damaged, that of another month included.
    """
    content = about.get("calibration", {"temperature": 1.0})
    if not isinstance(content, Mapping):
        raise _misfit(path, f"it is {content!r}")
    found = Calibration(_positive(content.get("temperature"), path))
    try:
        for season in content.get("seasons", ()):
            own = Calibration(_positive(season["temperature"], path), tuple(float(b) for b in season["offsets"]))
            if not (own.offsets and all(map(math.isfinite, own.offsets))):
                raise _misfit(path, f"its offsets are {season['offsets']!r}, not a finite number for each class")
            if len(own.offsets) != len(about["legend"]["classes"]):
                raise _misfit(path, f"it has {len(own.offsets)} offsets for {len(about['legend']['classes'])} classes")
            if month in season["months"]:
                found = own
    except MISSHAPEN as e:
        raise _misfit(path, f"its seasons cannot be read ({e!r})") from e
    return found


def _positive(value: Any, path: Path | None) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < math.inf:
        raise _misfit(path, f"its temperature is {value!r}, not a positive number")
    return float(value)


def _misfit(path: Path | None, why: str) -> ModelError:
    hint = "Copy the file again, or train the model again."
    return ModelError(f"has a damaged calibration: {why}.", path=path, hint=hint)


def describe_calibration(about: Mapping[str, Any]) -> str:
    """Return in words how a model's probabilities were calibrated."""
    found = about.get("calibration")
    if found is None:
        return "not calibrated"
    if "reason" in found:
        return f"not calibrated: {found['reason']}"
    seasons = ", and by season" if found.get("seasons") else ""
    polygons = counted(found["polygons"], "validation polygon")
    return f"temperature {calibration_of(about).temperature:g}{seasons}, fitted on {polygons}"


def heads_in(about: Mapping[str, Any], path: Path | None = None) -> tuple[Head, ...]:
    """Return the heads of the model that a header describes, that of classes first.

    Raises
    ------
    ModelError
        If the description is damaged, or a head has a target that this floemap does not know.
    """
    try:
        classes = len(about["legend"]["classes"])
        described = about.get("tasks")
        if described is None:
            return heads_of({}, classes)
        heads = tuple(Head(str(t["name"]), str(t["target"]), int(t["channels"])) for t in described)
        strange = [h for h in heads if h.target not in ("class", "fractions", *VALUES, *CATEGORIES)]
        if strange:
            raise ModelError(
                f"has the head {strange[0].name} for {strange[0].target!r}, which this floemap does not know.",
                path=path,
                hint="Update floemap.",
            )
        names = [h.name for h in heads]
        fits = [h.channels == channels_of(h.target, classes) for h in heads]
        if [h.kind for h in heads].index("class") != 0 or not all(fits) or len({*names}) < len(names):
            raise ValueError("its heads do not fit its classes")
        return heads
    except MISSHAPEN as e:
        raise _damaged(path, e) from e


def _damaged(path: Path | None, e: Exception) -> ModelError:
    return ModelError(f"has a damaged description: {type(e).__name__}: {e}.", path=path)


def describe_bands(bands: BandSet) -> dict[str, Any]:
    """Return the header's description of the bands that a model reads."""
    layers = {b["name"]: {k: v for k, v in b.items() if k != "name"} for b in bands.record()}
    layers = {name: band for name, band in layers.items() if name not in PRODUCT_BANDS.names}
    return {"bands": list(bands.names)} | ({"layers": layers} if layers else {})


def find_bands(about: Mapping[str, Any], path: Path | None = None) -> BandSet:
    """Return the bands that a header describes.

    Raises
    ------
    ModelError
        If the description is damaged, or lacks a band that is not the product's.
    """
    names, layers = about["bands"], about.get("layers", {})
    try:
        if not isinstance(layers, Mapping) or not all(isinstance(name, str) for name in names):
            raise ConfigError(f"its bands are {names}, its layers {layers!r}.")
        own = PRODUCT_BANDS.names
        return BandSet(tuple(PRODUCT_BANDS[n] if n in own else band_of(layers.get(n), n) for n in names))
    except ConfigError as e:
        raise ModelError(f"reads the bands {names}, which this floemap does not know: {e}", path=path) from e


def check_bands_fit(learnt: BandSet, scene: BandSet, path: Path) -> None:
    """Refuse a scene whose bands differ from those that a model was trained on; only their steps may differ.

    Raises
    ------
    ModelError
        With the first difference.
    """
    if (difference := learnt.differs(scene)) is not None:
        raise ModelError(
            f"was trained on other bands than those of the scene: it reads {difference}.",
            path=path,
            hint="Make the bands of the scene as those of the training scenes were made: a product with "
            "`floemap prepare`, a layer with `floemap layer`.",
        )


def learnt_from(about: Mapping[str, Any]) -> str:
    """Say what a model was trained on, by its header: real scenes, SIMULATED scenes only, or both."""
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


def about_start(about: Mapping[str, Any], path: Path) -> dict[str, Any]:
    """Return what the header of a fine-tuned model says about the checkpoint that its training started from."""
    kept = {key: about[key] for key in ("created", "simulated", "started_from") if key in about}
    file = {"file": path.name, "sha256": sha256(path), "learnt_from": learnt_from(about)}
    return file | kept | {"products": sorted(products_behind(about))}


def products_behind(about: Mapping[str, Any]) -> set[str]:
    """Return the names of all products that a model, or one that it started from, was trained or validated on."""
    data = (entry for entry in about.get("data", ()) if isinstance(entry, Mapping))
    own = {str(entry["product"]) for entry in data if "product" in entry}
    return own | set(map(str, about.get("started_from", {}).get("products", ())))


def refuse_known(about: Mapping[str, Any], path: Path, tests: Iterable[str]) -> None:
    """Refuse to test on products that a start checkpoint was trained on: the scores would be biased.

    Raises
    ------
    ConfigError
        If there are such products; the message names them.
    """
    known = sorted(products_behind(about) & set(tests))
    if known:
        raise ConfigError(
            f"was trained on {', '.join(known)}, but the model that starts from it is to be tested on them.",
            path=path,
            hint="Test on other scenes, or start from another model.",
        )


def describe_checkpoint(path: Path) -> tuple[dict[str, Any], list[tuple[str, str]]]:
    """Return the header of a checkpoint, for programs, and as (name, words) for people.

    Raises
    ------
    ModelError
        As :func:`read_about` does, or if parts of the description are missing.
    """
    about = read_about(path)
    try:
        model, normalisation = about["model"], about["normalisation"]
        pairs = zip(find_bands(about, path), normalisation["mean"], normalisation["std"], strict=True)
        uses: dict[str, list[str]] = {}
        for part in about.get("data", ()):
            uses.setdefault(str(part["role"]), []).append(str(part["part"]))
        lines = [
            ("what", f"model, trained on {learnt_from(about)}"),
            ("model", f"{model['name']}, {millions(model['parameters'])} parameters"),
            *_own_lines(model),
            ("classes", ", ".join(c["title"] for c in about["legend"]["classes"])),
            *((f"head {h.name}", _in_words(h)) for h in heads_in(about, path)[1:]),
            ("legend", about["legend"]["name"]),
            ("pixel size", f"{about['resolution_m']:g} m"),
            *((band.name, _band_in_words(band, mean, std)) for band, mean, std in pairs),
            *((role, ", ".join(parts)) for role, parts in uses.items()),
        ]
        if (started := about.get("started_from")) is not None:
            words = f"{started['file']} of {started['created']}, trained on {started['learnt_from']}"
            lines.append(("started from", f"{words}; products behind it: {len(started['products'])}"))
        lines.append(("probabilities", describe_calibration(about)))
        lines.append(("made by", f"{about['software']}, {about['created']}"))
    except MISSHAPEN as e:
        raise _damaged(path, e) from e
    return {**{k: v for k, v in about.items() if k != SCENES}, "kind": "model", "path": str(path)}, lines


def _own_lines(model: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return what a header says of a model that is named by import string, as (name, words)."""
    if "whole_scenes" not in model:
        return []
    options = ", ".join(f"{key} = {value}" for key, value in model["options"].items())
    reach = "unlimited" if model["reach_px"] is None else f"{model['reach_px']} px"
    return [
        ("options", options or "none"),
        ("package", model["package"] or "none, a file of the user's"),
        ("receptive field", f"{reach} beyond a cell of {model['stride']} px"),
        ("whole scenes", model["whole_scenes"]),
    ]


def _in_words(head: Head) -> str:
    if head.kind == "value":
        value = VALUES[head.target]
        return f"{value.title}, {value.low:g} to {value.high:g}"
    if head.kind == "category":
        category = CATEGORIES[head.target]
        return f"{category.title}, {len(category.classes)} classes"
    return "share of each class"


def _band_in_words(band: InputBand, mean: float, std: float) -> str:
    """Describe a band, and its gaps if it is not the product's."""
    gaps = {
        "scene": "pixels without it count as without data",
        "mean": "gaps are read as the mean",
        "flag": "gaps are read as the mean and flagged",
    }
    words = f"mean {mean:.2f}, standard deviation {std:.2f}"
    return words if band.name in PRODUCT_BANDS.names else f"{words} {band.unit}; a layer, {gaps[band.missing]}"


def describe_legend(table: Legend) -> dict[str, Any]:
    """Return the header's description of a legend."""
    classes = [{"id": c.id, "key": c.key, "title": c.title, "stages": sorted(c.stages)} for c in table.classes]
    return {"name": table.name, "title": table.title, "classes": classes} | with_table(table)


def find_legend(described: Mapping[str, Any], path: Path | None = None) -> Legend:
    """Return the legend of a header: the table that it holds, or the current legend of the name that it gives.

    The classes of the current legend must be unchanged. If only their SIGRID-3 codes have changed, a warning is logged:
    the model was then trained on a slightly different definition of them.

    Raises
    ------
    ModelError
        If there is no such legend any more, or its classes or their order differ; or if the table is damaged.
    """
    if "table" in described:
        return from_record(described, path, ModelError)
    try:
        name = described["name"]
        then = [(c["id"], c["key"]) for c in described["classes"]]
        stages = [c["stages"] for c in described["classes"]]
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
