"""Folders of finished comparisons for tests of the report, from made-up arrays: nothing is trained or predicted.

Scenes have a land corner, a corner without data, and water, new, young, first-year and old ice side by side. Each loss
makes mistakes of its own: cross-entropy speckles, Dice turns old ice into first-year ice, focal moves the ice edge.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any
from unittest.mock import patch

import numpy as np
import pyproj
from affine import Affine
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox
from scipy.ndimage import gaussian_filter

from floemap.cog import Band, open_raster, read_geobox, write_cog
from floemap.icechart.label.label import STAGE as LABEL
from floemap.icechart.label.polygon_table import RASTER, PolygonTable, write_polygons
from floemap.icechart.read.columns import CODE_COLUMNS
from floemap.inference.predict.predict import Prediction
from floemap.inference.predict.scene_maps import PREDICT
from floemap.learning.training.state import STAGE as TRAIN
from floemap.learning.training.state import WEIGHTS
from floemap.legend import EXTREMEEARTH, IGNORE
from floemap.results.run_paths import CellPaths, DataPaths, RunPaths
from floemap.results.stage import Stage, provenance, read_json, write_json
from floemap.sentinel1.bands import BANDS
from floemap.sentinel1.encoding import NODATA
from floemap.sentinel1.prepare import STAGE as PREPARE
from floemap.study.cells import plan
from floemap.study.compare import compare
from floemap.study.scene import StudyScene
from floemap.study.settings import Study
from floemap.study.split import Split, make_split

NEW, NILAS, YOUNG, FIRST_YEAR, OLD, WATER = range(6)
#: HH and HV of each class, dB.
_BRIGHTNESS = {NEW: (-19, -29), NILAS: (-18, -28), YOUNG: (-13, -25), FIRST_YEAR: (-14, -24), OLD: (-9, -16)} | {
    WATER: (-15, -31)
}
SIZE_PX, PIXEL_M = 200, 900.0
_TO_DEGREES = pyproj.Transformer.from_crs("EPSG:3413", "EPSG:4326", always_xy=True)
STARTS = {"01": "2018-01-16T07:54:30+00:00", "07": "2018-07-17T07:38:09+00:00"}


def product_name(scene: str) -> str:
    """Name of a scene's product."""
    return f"S1A_EW_GRDM_1SDH_{STARTS[scene][:10].replace('-', '')}T000000_{scene}"


def make_scene(
    data: DataPaths, scene: str, *, simulated: bool = True, size_px: int = SIZE_PX, polygons: bool = False
) -> tuple[Path, Path]:
    """Write a prepared product and its labels where a study has them; return their folders."""
    geobox = _grid(scene, size_px)
    classes = _classes(scene, size_px)
    rng = np.random.default_rng(int(scene))
    inside = _inside(size_px)
    stored = np.full((4, size_px, size_px), NODATA, np.int16)
    for i in range(2):
        brightness = np.array([_BRIGHTNESS[k][i] for k in range(6)], np.float32)[np.minimum(classes, WATER)]
        stored[i] = np.where(inside, 100 * (brightness + rng.normal(0, 1, classes.shape)), NODATA)
    stored[2] = np.where(inside, 100 * np.linspace(20, 46, size_px)[None, :], NODATA)
    stored[3] = inside
    product = data.prepared / product_name(scene)
    product.mkdir(parents=True)
    write_cog(product / "product.tif", geobox, stored, BANDS, nodata=NODATA)
    grid = {"crs": "EPSG:3413", "transform": list(geobox.transform)[:6], "shape": list(geobox.shape)}
    corners = [(0, 0), (size_px, 0), (size_px, size_px), (0, size_px)]
    lon_lat = [_TO_DEGREES.transform(*(geobox.transform * c)) for c in corners]
    about = {
        "simulated": simulated,
        "scene": {"name": product.name, "mission": "S1A", "mode": "EW", "start": STARTS[scene]}
        | {"stop": STARTS[scene], "pass_direction": "DESCENDING"},
        "grid": grid,
        "corners_lonlat_deg": [list(p) for p in lon_lat],
        "pixels": {"valid": int(inside.sum())},
        "seams": _seams(geobox),
    }
    _record(product / PREPARE.record, PREPARE, about)
    labels = data.labels(scene) / f"seaice_{scene}"
    labels.mkdir(parents=True)
    chart = np.where(inside, classes, IGNORE).astype(np.uint8)
    write_class_raster(labels / "labels.tif", geobox, chart)
    if polygons:
        _write_polygons(labels, geobox, chart)
    legend = {"name": EXTREMEEARTH.name, "classes": {str(c.id): c.key for c in EXTREMEEARTH.classes}, "ignore": IGNORE}
    _record(
        labels / LABEL.record,
        LABEL,
        {"simulated": simulated, "legend": legend, "grid": grid},
        {"legend": EXTREMEEARTH.name},
    )
    return product, labels


def make_run(
    folder: Path,
    *,
    losses: Sequence[str] = ("cross_entropy", "dice", "focal"),
    repeats: int = 2,
    scenes: Sequence[str] = ("01", "07"),
    simulated: bool = True,
    truth: bool = False,
    polygons: bool = False,
    values: bool = False,
    exact: Mapping[str, str] = MappingProxyType({}),
    **settings: Any,
) -> Path:
    """Make a whole comparison by the study itself, with made-up trainings and predictions; return its folder.

    With `polygons`, labels have squares of 40 px as polygons, whose partial concentrations are those of the truth.
    With `values` too, predictions have a head of concentration. With `truth`, scenes have one, in a folder ``truth``
    beside the run. `exact` says of losses that their maps are the
    chart, or the truth, and sure of it. `settings` are further tables of the study.
    """
    data = RunPaths(folder).data
    made = {s: make_scene(data, s, simulated=simulated, polygons=polygons) for s in scenes}
    truths = {s: folder.parent / "truth" / f"{s}.tif" for s in scenes if truth}
    for s, path in truths.items():
        _write_truth(path, made[s][1] / "labels.tif")
    study = Study.checked(
        name="made-up",
        data={"scenes": [{"name": s, "product": p, "chart": c, "truth": truths.get(s)} for s, (p, c) in made.items()]},
        compare={"losses": losses, "repeats": repeats},
        score={"away_from_borders_px": ()},
        **settings,
    )
    with (
        patch("floemap.study.compare.check_cells", plan),  # nothing is learnt, and scenes for test are enough
        patch("floemap.study.run.train_on", partial(_train_on, simulated=simulated)),
        patch("floemap.study.run.read_about", lambda _: {"simulated": simulated}),
        patch("floemap.inference.predict.predict.predict", partial(_predict, exact=exact, values=values)),
    ):
        done = compare(study, folder, report=False)
    assert not done.failed, done.failed
    return folder


def _train_on(
    study: Study, scenes: Sequence[StudyScene], out: Path, data: DataPaths, *, simulated: bool, **_: Any
) -> tuple[Path, Split]:
    """In the place of :func:`floemap.study.run.train_on`: the split is real, the model a file without weights."""
    split = make_split(study.split, scenes, EXTREMEEARTH, data.parts, needed=("test",))
    out.mkdir(parents=True, exist_ok=True)
    paths = CellPaths(out)
    write_json(paths.split, split.record)
    _training(paths.model, study.loss.name, study.training.seed, simulated)
    return paths.model / WEIGHTS, split


def _predict(
    product: Path, checkpoint: Path, out: Path, *, exact: Mapping[str, str], values: bool, **_: Any
) -> Prediction:
    """Stand in for :func:`floemap.inference.predict.predict.predict`: a chart with mistakes, or an exact map."""
    training = read_json(checkpoint.with_name(TRAIN.record))
    (labels,) = (product.parents[1] / "labels" / product.name[-2:]).iterdir()
    loss = training["loss"]
    folder = _prediction(out, product, labels, loss, training["repeat"], training["simulated"], exact.get(loss))
    if values:
        _concentration(folder, loss)
    return Prediction(folder)


def write_class_raster(path: Path, geobox: GeoBox, classes: NDArray[np.uint8]) -> None:
    """Write classes as labels.tif and classes.tif hold them."""
    band = Band("class", overview="mode", categories=EXTREMEEARTH.titles, colours=EXTREMEEARTH.colours)
    write_cog(path, geobox, classes, [band], nodata=IGNORE)


def _write_truth(path: Path, labels: Path) -> None:
    """Write truth.tif as the twin has it, for a chart."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with open_raster(labels) as d:
        true = floes(d.read(1))
    bands = [Band("surface", overview="mode"), Band("class", overview="mode")]
    write_cog(path, read_geobox(labels), np.stack([true, true]), bands, nodata=IGNORE)


def _write_polygons(labels: Path, geobox: GeoBox, chart: NDArray[np.uint8]) -> None:
    """Write squares as polygons, with the shares of classes that the truth has in each."""
    rows, cols = np.indices(chart.shape) // 40
    ids = np.where(chart == IGNORE, 0, 1 + rows * (cols.max() + 1) + cols)
    there, ids = np.unique(ids, return_inverse=True)
    n = len(there) - 1
    true = floes(chart)
    counts = np.array([np.bincount(true[(ids == i) & (true < 6)], minlength=6) for i in range(n + 1)], np.float64)
    fractions = np.zeros((n + 1, 7))
    fractions[0, 6] = 1
    fractions[1:, :6] = np.round(counts[1:] / counts[1:].sum(axis=1, keepdims=True), 1)
    fractions[1:, :6] /= fractions[1:, :6].sum(axis=1, keepdims=True)
    dominant = np.where(np.arange(n + 1) > 0, fractions[:, :6].argmax(axis=1), IGNORE).astype(np.uint8)
    pixels = np.bincount(ids.ravel(), minlength=n + 1)
    pixels[0] = 0
    table = PolygonTable(
        classes=tuple(c.key for c in EXTREMEEARTH.classes),
        features=np.arange(-1, n),
        poly_types=("", *("I" for _ in range(n))),
        codes={c: np.full(n + 1, -9, np.int16) for c in map(str.upper, CODE_COLUMNS)},
        rules=("", *("single_type" for _ in range(n))),
        fractions=fractions,
        dominant=dominant,
        candidates=fractions[:, :6] > 0,
        concentration=np.where(np.arange(n + 1) > 0, 1 - fractions[:, 5], np.nan).astype(np.float32),
        pixels=pixels,
        area_km2=(pixels * (PIXEL_M / 1000) ** 2).astype(np.float64),
    )
    write_cog(labels / RASTER, geobox, ids.astype(np.uint16), [Band("polygon", overview="nearest")], nodata=0)
    write_polygons(labels, table)


def floes(chart: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return a truth for a chart, (rows, cols): what it calls one type has floes and leads of others in it."""
    noise: NDArray[Any] = gaussian_filter(np.random.default_rng(3).normal(size=chart.shape), 1.5) * 6
    true = chart.copy()
    true[(noise > 1.5) & (chart == FIRST_YEAR)] = WATER
    true[(noise > 1.2) & (chart == WATER)] = YOUNG
    true[(noise < -1.4) & (chart == FIRST_YEAR)] = OLD
    true[(noise < -1.6) & (chart == OLD)] = FIRST_YEAR
    return true


def mistaken(reference: NDArray[np.uint8], loss: str, seed: int) -> NDArray[np.uint8]:
    """Return a prediction with the mistakes of a loss, (rows, cols)."""
    rng = np.random.default_rng(seed)
    classes = reference.copy()
    blobs: NDArray[Any] = gaussian_filter(rng.normal(size=classes.shape), 4) * 14  # about standard normal
    young = (blobs > 1.3) & (classes == FIRST_YEAR)
    classes[young] = YOUNG
    classes[(blobs < -1.5) & (classes == NEW)] = WATER
    if loss == "cross_entropy":
        speckle = rng.random(classes.shape) < 0.03
        classes[speckle] = rng.choice([YOUNG, FIRST_YEAR, OLD], size=classes.shape)[speckle]
    elif loss == "dice":
        classes[(classes == OLD) & (blobs > -1.2)] = FIRST_YEAR
    elif loss == "focal":
        ice = gaussian_filter(((classes != WATER) & (classes != IGNORE)).astype(np.float32), 6)
        classes[(classes == WATER) & (ice > 0.15)] = NEW
    classes[reference == IGNORE] = WATER
    return classes


def _classes(scene: str, size: int) -> NDArray[np.uint8]:
    """Belts from old ice to water, wavy; land in a corner."""
    rows, cols = np.mgrid[0:size, 0:size] / size
    across = cols + 0.08 * np.sin(9 * rows + int(scene)) + 0.03 * np.sin(31 * rows)
    belts = np.array([0.25, 0.5, 0.6, 0.68] if scene == "01" else [0.3, 0.6, 2.0, 2.1])
    order = np.array([OLD, FIRST_YEAR, YOUNG, NEW, WATER])
    classes = (
        order[np.searchsorted(belts, across)]
        if scene == "01"
        else order[[0, 1, 4, 4, 4]][np.searchsorted(belts, across)]
    )
    classes = classes.astype(np.uint8)
    classes[(rows > 0.8) & (cols < 0.2)] = IGNORE
    return classes


def _seams(geobox: GeoBox) -> list[dict[str, Any]]:
    """Two lines along columns, as product.json gives them."""
    rows, cols = geobox.shape
    seams = []
    for i, share in enumerate((0.3, 0.6)):
        points = [geobox.transform * (share * cols, row) for row in np.linspace(0, rows, 9)]
        incidence = 20 + 26 * share
        lon_lat = [list(_TO_DEGREES.transform(*p)) for p in points]
        about = {"between": [f"EW{i + 1}", f"EW{i + 2}"], "incidence_deg": [incidence, incidence + 0.1]}
        seams.append(about | {"lonlat_deg": lon_lat})
    return seams


def _inside(size: int) -> NDArray[np.bool_]:
    rows, cols = np.mgrid[0:size, 0:size] / size
    return np.asarray(rows + cols > 0.2)


def _grid(scene: str, size: int) -> GeoBox:
    return GeoBox((size, size), Affine(PIXEL_M, 0, 500_000 + 1000 * int(scene), 0, -PIXEL_M, -1_000_000), "EPSG:3413")


def _prediction(
    out: Path, product: Path, labels: Path, loss: str, repeat: int, simulated: bool, exact: str | None
) -> Path:
    folder = out / product.name
    folder.mkdir(parents=True)
    with open_raster(labels / "labels.tif") as d:
        reference = d.read(1)
    with open_raster(product / "product.tif") as d:
        inside = d.read(4) > 0
    geobox = read_geobox(labels / "labels.tif")
    classes = mistaken(reference, loss, repeat + sum(map(ord, loss + product.name)))
    if exact is not None:
        classes = {"chart": reference, "truth": floes(reference)}[exact]
    classes[~inside] = IGNORE
    write_class_raster(folder / "classes.tif", geobox, classes)
    legend = {"name": EXTREMEEARTH.name, "classes": {str(c.id): c.key for c in EXTREMEEARTH.classes}, "ignore": IGNORE}
    _record(folder / PREDICT.record, PREDICT, {"simulated": simulated, "legend": legend})
    _probabilities(folder / "probabilities.tif", geobox, classes, sure=exact is not None)
    return folder


def _concentration(folder: Path, loss: str) -> None:
    """Write a concentration, the smoothed share of ice on the class map, too low by what is the loss's own."""
    with open_raster(folder / "classes.tif") as d:
        classes = d.read(1)
    ice = gaussian_filter((classes < WATER).astype(np.float32), 10) - 0.02 * len(loss)
    stored = np.where(classes == IGNORE, 255, np.rint(200 * np.clip(ice, 0, 1))).astype(np.uint8)
    write_cog(folder / "concentration.tif", read_geobox(folder / "classes.tif"), stored[None], [Band("c")], nodata=255)
    record = read_json(folder / PREDICT.record)
    head = {"file": "concentration.tif", "target": "concentration", "unit": "1", "step": 0.005, "offset": 0.0}
    write_json(folder / PREDICT.record, record | {"tasks": {"concentration": head}})


def _probabilities(path: Path, geobox: GeoBox, classes: NDArray[np.uint8], *, sure: bool) -> None:
    rng = np.random.default_rng(0)
    first = np.clip(0.72 + 0.12 * gaussian_filter(rng.normal(size=classes.shape), 3) * 10, 0.3, 1)
    if sure:
        first[:] = 1
    shares = np.repeat(((1 - first) / 5)[None], 6, axis=0)
    for k in range(6):
        shares[k][classes == k] = first[classes == k]
    stored = np.where(classes == IGNORE, 255, np.rint(100 * shares)).astype(np.uint8)
    write_cog(path, geobox, stored, [Band(c.key, scale=0.01) for c in EXTREMEEARTH.classes], nodata=255)


def _training(folder: Path, loss: str, repeat: int, simulated: bool) -> None:
    folder.mkdir(parents=True)
    (folder / WEIGHTS).write_bytes(b"made up")
    rows = []
    for epoch in range(1, 13):
        start = {"cross_entropy": 1.6, "dice": 0.8, "focal": 0.3}.get(loss, 1.0)
        fall = 0.25 + 0.75 * np.exp(-epoch / 4) + 0.01 * repeat
        rows.append(
            {"epoch": epoch, "loss": start * fall, "validation_loss": start * (fall + 0.05 + 0.002 * epoch)}
            | {"weighted_f1": 0.85 - 0.5 * np.exp(-epoch / 3), "macro_f1": 0.6 - 0.4 * np.exp(-epoch / 3)}
            | {"learning_rate": 1e-3, "seconds": 4.0, "crops_per_s": 20.0}
        )
    (folder / "metrics.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))
    best = min(rows, key=lambda r: r["validation_loss"])
    about: dict[str, Any] = {
        "epochs": 12,
        "stopped": "max_epochs",
        "best": best,
        "seconds": 48.0,
        "parameters": 4041478,
    }
    about |= {"loss": loss, "repeat": repeat, "simulated": simulated}
    about |= {"trained_on": {"device": "cpu", "precision": "bf16-mixed", "processes": 1}}
    _record(folder / TRAIN.record, TRAIN, about)


def _record(path: Path, stage: Stage, about: dict[str, Any], configuration: dict[str, Any] | None = None) -> None:
    write_json(path, provenance(stage, inputs={}, configuration=configuration or {}) | about)


__all__ = ["make_run", "make_scene", "mistaken", "product_name", "read_json", "write_class_raster"]
