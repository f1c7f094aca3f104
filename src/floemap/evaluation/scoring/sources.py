"""The inputs of a scene's scores: the rasters, their legend, and the reasons why optional scores cannot be computed.

This module counts nothing. It checks all that can be checked without reading pixels.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox

from floemap.cog import open_raster, read_geobox, refuse_beside
from floemap.errors import ConfigError, FloemapError, GridError
from floemap.evaluation.scoring.named_scores import CHART_VS_TRUTH, EITHER, TRUTH
from floemap.evaluation.scoring.settings import EvaluateSettings
from floemap.grid import check_same_grid
from floemap.icechart.label.polygon_table import RASTER, TABLE
from floemap.icechart.label.polygon_values import CATEGORIES, VALUES
from floemap.legend import IGNORE, LAND, LEGENDS, SIX_CLASSES, Legend
from floemap.own_legends import from_record, from_tags, with_table
from floemap.results.stage import as_written, read_json, sha256

AWAY = "away_from_borders"
_OPTIONAL = ("fractions.tif", "border_distance.tif")


@dataclass(frozen=True)
class ClassTable:
    """The name of a legend, the keys of its classes in the order of their ids from 0, and the legend if it is known."""

    name: str
    keys: tuple[str, ...]
    legend: Legend | None = None

    @classmethod
    def of(cls, legend: Legend) -> ClassTable:
        """Return the table of a legend."""
        return cls(legend.name, tuple(c.key for c in legend.classes), legend)

    @classmethod
    def from_record(cls, record: Mapping[str, Any], path: Path) -> ClassTable:
        """Read the legend from a stage's JSON: ``{"legend": {"name": ..., "classes": {id: key}}}``.

        The form of checkpoints, a list of classes with "id" and "key", is read as well.

        Raises
        ------
        FloemapError
            If the record has no legend.
        """
        try:
            said = record["legend"]
            classes = said["classes"]
            pairs = [(c["id"], c["key"]) for c in classes] if isinstance(classes, list) else classes.items()
            keys = {int(i): str(key) for i, key in pairs}
            if not keys or sorted(keys) != list(range(len(keys))):
                raise ValueError(f"ids {sorted(keys)}")
            ordered = tuple(keys[i] for i in range(len(keys)))
            known = from_record(said, path) if "table" in said else LEGENDS.get(str(said["name"]))
            if known is not None and ordered == (own := cls.of(known)).keys:
                return own
            return cls(str(said["name"]), ordered)
        except (KeyError, TypeError, ValueError, ArithmeticError, AttributeError) as e:
            raise FloemapError(f"has no readable legend: {e!r}.", path=path, hint="Make it again.") from e

    def as_dict(self) -> dict[str, Any]:
        """Return the table as stages record it."""
        table = {} if self.legend is None else with_table(self.legend)
        return {"name": self.name, "classes": dict(enumerate(self.keys)), "ignore": IGNORE} | table


@dataclass(frozen=True)
class Sources:
    """The input rasters of a scene's scores, all on one grid.

    Attributes
    ----------
    name
        Name of the evaluation's folder.
    prediction, labels
        Class rasters.
    geobox
        The grid of all rasters.
    classes
        The legend of all class rasters.
    legend_said
        Whether the prediction states its legend; if not, the labels' legend is assumed.
    simulated
        Whether one of the inputs is simulated.
    fractions, distance, truth, mask, polygons
        Optional rasters.
    truth_band
        The truth's band of classes; None without a truth.
    records
        The JSON files of the stages that made prediction and labels.
    absent
        By the name of a score, the reason why it cannot be computed.
    values
        By the name of a head that predicts a value or a category: the target, and its raster.
    """

    name: str
    prediction: Path
    labels: Path
    geobox: GeoBox
    classes: ClassTable
    legend_said: bool
    simulated: bool
    fractions: Path | None
    distance: Path | None
    truth: Path | None
    truth_band: TruthBand | None
    mask: Path | None
    polygons: Path | None
    records: tuple[Path, ...]
    absent: dict[str, str]
    values: Mapping[str, tuple[str, Path]]

    @property
    def table(self) -> Path | None:
        """The table of the polygons, beside their raster."""
        return None if self.polygons is None else self.polygons.with_name(TABLE)

    def hashes(self) -> dict[str, dict[str, str]]:
        """Return the SHA-256 of every file that the scores depend on, by use and name."""
        uses = {
            "prediction": [self.prediction, *(path for _, path in self.values.values())],
            "labels": [p for p in (self.labels, self.fractions, self.distance, self.polygons, self.table) if p],
            "truth": [self.truth] if self.truth else [],
            "mask": [self.mask] if self.mask else [],
            "records": list(self.records),
        }
        return {use: {p.name: sha256(p) for p in files} for use, files in uses.items() if files}


def find_sources(
    prediction: Path,
    labels: Path,
    settings: EvaluateSettings,
    *,
    name: str | None = None,
    truth: Path | None = None,
    mask: Path | None = None,
) -> Sources:
    """Find and check the rasters of a scene. Parameters and errors: see :func:`floemap.evaluation.evaluate_scene`."""
    folder, prediction = prediction, _raster_in(prediction, "classes.tif", "floemap predict")
    labels = _raster_in(labels, "labels.tif", "floemap label")
    label_record, label_tags = _record(labels, "labels.tif", "label.json"), _tags(labels)
    record, tags = _record(prediction, "classes.tif", "prediction.json"), _tags(prediction)
    classes = _legend(label_record, label_tags, labels)
    if classes is None:
        raise ConfigError(
            "does not state its legend, and there is no label.json beside it.",
            path=labels,
            hint="Give a folder made by `floemap label`.",
        )
    predicted = _legend(record, tags, prediction)
    if predicted is not None and predicted.keys != classes.keys:
        raise ConfigError(
            f"has the classes {', '.join(predicted.keys)} (legend {predicted.name}), but the labels {labels} have "
            f"{', '.join(classes.keys)} (legend {classes.name}).",
            path=prediction,
            hint="Label the chart again with the legend that the model was trained on.",
        )
    truth = None if truth is None else _raster_in(truth, "truth.tif", "floemap simulate twin")
    optional = (p if (p := labels.with_name(n)).is_file() else None for n in (*_OPTIONAL, RASTER))
    fractions, distance, polygons = optional
    if not (labels.with_name(TABLE).is_file() and label_record):
        polygons = None
    geobox = read_geobox(labels)
    found = _values(record)
    values = found if polygons is not None else {}
    for given in (prediction, *([] if mask is None else [mask])):
        refuse_beside(given)
    for other in (prediction, fractions, distance, truth, mask, polygons, *(path for _, path in values.values())):
        if other is not None:
            check_same_grid(geobox, read_geobox(other), f"{labels} and {other}")
    if fractions is not None:
        _check_bands(fractions, (*classes.keys, "unknown"))
    return Sources(
        name=name or (folder.resolve().name if folder.is_dir() else prediction.stem),
        prediction=prediction,
        labels=labels,
        geobox=geobox,
        classes=classes,
        legend_said=predicted is not None,
        simulated=truth is not None
        or any(bool(r.get("simulated")) for _, r in (*label_record, *record))
        or "yes" in (label_tags.get("simulated"), tags.get("simulated")),
        fractions=fractions,
        distance=distance,
        truth=truth,
        truth_band=None if truth is None else truth_band(truth, classes),
        mask=mask,
        polygons=polygons,
        records=tuple(path for path, _ in (*label_record, *record)),
        absent=_absent(settings, labels, fractions, distance, truth)
        | dict.fromkeys(found.keys() - values.keys(), f"there is no {RASTER} with its table beside {labels.name}"),
        values=values,
    )


def _values(record: tuple[tuple[Path, dict[str, Any]], ...]) -> dict[str, tuple[str, Path]]:
    """Return target and raster of each head that predicts a value or a category, by its name.

    Raises
    ------
    FloemapError
        If prediction.json names a raster that is not there, or that does not hold values as floemap stores them.
    """
    values = {}
    for path, content in record:
        with as_written(path, "floemap predict"):
            described = {
                str(name): (str(head["target"]), str(head["file"])) for name, head in content.get("tasks", {}).items()
            }
        for name, (target, file) in described.items():
            if target not in VALUES and target not in CATEGORIES:
                continue
            raster = _raster_in(path.with_name(Path(file).name), file, "floemap predict")
            with open_raster(raster) as d:
                if d.count != 1 or d.dtypes[0] != "uint8" or d.nodata != IGNORE:
                    raise ConfigError(
                        f"has {d.count} bands of {d.dtypes[0]} with no-data {d.nodata}; "
                        f"a value is one band of uint8 with no-data {IGNORE}.",
                        path=raster,
                        hint="Predict the scene again.",
                    )
            values[name] = (target, raster)
    return values


def _raster_in(path: Path, name: str, command: str) -> Path:
    """Return the raster in a stage's folder, or the path itself if it is a raster."""
    raster = path / name if path.is_dir() else path
    if not raster.is_file():
        what = f"holds no {name}" if path.is_dir() else "does not exist"
        raise FloemapError(f"{what}.", path=path, hint=f"Give a folder made by `{command}`, or a raster.")
    return raster


def _record(raster: Path, usual: str, record: str) -> tuple[tuple[Path, dict[str, Any]], ...]:
    """Return the stage's JSON beside a raster, one or none. Only a raster with the stage's file name has one."""
    path = raster.with_name(record)
    return ((path, read_json(path)),) if raster.name == usual and path.is_file() else ()


def _tags(path: Path) -> dict[str, str]:
    """Check that a raster can hold classes, and return its tags."""
    with open_raster(path) as d:
        if d.count != 1 or d.dtypes[0] != "uint8" or d.nodata not in (None, IGNORE):
            raise ConfigError(
                f"has {d.count} bands of {d.dtypes[0]} with no-data {d.nodata}.",
                path=path,
                hint=f"Classes are one band of uint8 with no-data {IGNORE}.",
            )
        return dict(d.tags())


def _legend(
    record: tuple[tuple[Path, dict[str, Any]], ...], tags: Mapping[str, str], raster: Path
) -> ClassTable | None:
    for path, content in record:
        return ClassTable.from_record(content, path)
    tagged = from_tags(tags, raster)
    return None if tagged is None else ClassTable.of(tagged)


def _check_bands(path: Path, names: tuple[str, ...]) -> None:
    with open_raster(path) as d:
        if d.descriptions != names or set(d.dtypes) != {"uint8"}:
            raise ConfigError(
                f"has the bands {d.descriptions} of {d.dtypes[0]}, and {names} of uint8 are needed.",
                path=path,
                hint="Label the chart again, with `floemap label --fractions`.",
            )


@dataclass(frozen=True)
class TruthBand:
    """A truth's band of classes.

    Attributes
    ----------
    number
        Its number, from 1.
    ids
        Class id in the legend of the labels by stored value, (256,) uint8.
    """

    number: int
    ids: NDArray[np.uint8]


def truth_ids(classes: ClassTable) -> NDArray[np.uint8] | None:
    """Return the class ids by the classes of a simulated truth, (256,) uint8; None where the truth does not give them.

    The truth is in the legend six_classes. It gives the classes of another legend if each of the six lies within one
    of them. Values that are not among the six remain as they are where the classes are the six, and else become 254,
    which is the id of no class.
    """
    ids = np.arange(256, dtype=np.uint8)
    if classes.keys == tuple(c.key for c in SIX_CLASSES.classes):
        return ids
    if classes.legend is None:
        return None
    table = classes.legend.code_to_class
    ids[len(SIX_CLASSES) : IGNORE] = LAND
    for c in SIX_CLASSES.classes:
        within = {table.get(stage) for stage in c.stages} or {classes.legend.water}
        (found, *others) = within
        if others or found is None or found == IGNORE:
            return None
        ids[c.id] = found
    return ids


def truth_band(path: Path, classes: ClassTable) -> TruthBand:
    """Return the truth's band of classes.

    Raises
    ------
    ConfigError
        If the classes of the labels do not follow from those of the truth.
    GridError
        If the raster has no band of classes.
    FloemapError
        If the raster cannot be read.
    """
    ids = truth_ids(classes)
    if ids is None:
        raise ConfigError(
            f"the truth is in the legend {SIX_CLASSES.name}, from which the classes of the legend {classes.name} do not"
            " follow: one of the six would belong to several of them, or to none.",
            path=path,
            hint=f"Label the chart with {SIX_CLASSES.name} or extremeearth, or omit the truth.",
        )
    with open_raster(path) as d:
        names = list(d.descriptions)
        if "class" not in names or set(d.dtypes) != {"uint8"}:
            raise GridError(
                f"has the bands {names} of {d.dtypes[0]}; a band called class of uint8 is needed.",
                path=path,
                hint="Give a truth.tif made by `floemap simulate twin`.",
            )
        return TruthBand(names.index("class") + 1, ids)


def _absent(
    settings: EvaluateSettings, labels: Path, fractions: Path | None, distance: Path | None, truth: Path | None
) -> dict[str, str]:
    """Return the reasons why scores cannot be computed; raise an error if one of them is required."""
    no_truth = "no truth was given: there is none but for simulated scenes"
    why = {
        EITHER: None if fractions else f"there is no fractions.tif beside {labels.name}",
        AWAY: None if distance else f"there is no border_distance.tif beside {labels.name}",
        TRUTH: None if truth else no_truth,
        CHART_VS_TRUTH: None if truth else no_truth,
    }
    if not settings.away_from_borders_px:
        why[AWAY] = "no distance was asked for"
    absent = {score: reason for score, reason in why.items() if reason}
    hints = {
        EITHER: "Label the chart again, with `floemap label --fractions`.",
        AWAY: "Label the chart again with border distances, and ask for at least one distance.",
        TRUTH: "Give the simulated scene's truth.tif.",
    }
    for score in settings.require:
        if score in absent:
            raise FloemapError(f"the score {score} is required, but {absent[score]}.", path=labels, hint=hints[score])
    return absent
