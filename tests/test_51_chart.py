"""Draft charts: what is in them, what they are made from, and what happens when something is wrong."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
import zipfile
from collections.abc import Iterator
from datetime import datetime, timedelta, tzinfo
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import pyproj
import pystac
import pytest
import rasterio
import shapely
from chart_models import probabilities_of, write_model
from lxml import etree
from numpy.typing import NDArray
from pystac.extensions.classification import ClassificationExtension
from pystac.extensions.mlm import MLMExtension
from pystac.extensions.projection import ProjectionExtension
from pystac.extensions.sar import SarExtension
from real_qgis import needs_qgis, run_in_qgis
from safetensors.torch import load_file, save_file
from shapely.ops import polylabel
from typer.testing import CliRunner

import floemap.cli.chart  # noqa: F401  registers the command
from floemap.cli.app import app
from floemap.cog import read_geobox
from floemap.errors import ChartError, ConfigError, FloemapError, GridError, ModelError, OutputError, ProductError
from floemap.icechart.label.label import label_chart
from floemap.icechart.label.rasterize import border_distance, rasterize_labels
from floemap.icechart.label.settings import LabelSettings
from floemap.icechart.land import land_on
from floemap.icechart.read.overlaps import measure_coverage
from floemap.icechart.read.sigrid3 import read_chart
from floemap.icechart.regimes import regimes
from floemap.icechart.write.vector import LAYER
from floemap.inference.draftchart import files as chart_files
from floemap.inference.draftchart.chart import DraftChart, make_chart, make_charts
from floemap.inference.draftchart.polaris_layer import polaris_names
from floemap.inference.draftchart.settings import OUTPUTS, ChartSettings
from floemap.inference.predict import model_files
from floemap.inference.predict.model_files import default_model, find_models
from floemap.inference.predict.predict import predict
from floemap.inference.predict.uncertainty import disagreement, entropy
from floemap.learning.calibration.out_of_distribution import Known, SquareStatistics, labelled_squares, learn_known
from floemap.learning.data.parts import PartArrays
from floemap.learning.models.checkpoint_header import METADATA_KEY, SCENES, read_about
from floemap.legend import IGNORE, LAND_RGB, SIX_CLASSES
from floemap.sentinel1.encoding import NODATA, PRODUCT_BANDS
from floemap.sentinel1.prepare import PreparedProduct, prepare
from floemap.sentinel1.settings import PrepareSettings
from floemap.viewer.view import make_view

SIGRID3 = [f"floemap_s1_20180116T0754Z_pl_a{s}" for s in (".shp", ".shx", ".dbf", ".prj", ".cpg", ".xml", ".qml")]
S411 = "S411_floemap_s1-20180116T0754Z"
FILES = {
    "classes.tif", "probabilities.tif", "uncertainty.tif", "chart.gpkg", "chart.qml", "chart.geojson", "chart.nc",
    "grid.nc", "quicklook.png", "item.json", "chart.json", "review.gpkg", "classes.qml", "uncertainty.qml", *SIGRID3,
    S411, "radar.tif", "chart.qgz", *polaris_names("PC7"),
}  # fmt: skip
#: Pixels are 4 km2: so small polygons are left.
SETTINGS = ChartSettings(min_area_km2=100, ice_class=("pc 7",))
#: Polygons that follow the pixels.
EXACT = ChartSettings(min_area_km2=0, tolerance_m=0, eggs=False, only=("classes", "chart", "sigrid3", "geojson"))


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory, prepared: PreparedProduct) -> list[Path]:
    """Three of one kind, the last one trained on simulated scenes."""
    folder = tmp_path_factory.mktemp("models")
    return [write_model(folder / f"m{i}.safetensors", prepared.raster, seed=i, simulated=i == 2) for i in range(3)]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, small_product: Path, models: list[Path]) -> DraftChart:
    """All of it, from a product as downloaded. Shared: only to read."""
    return make_chart(small_product, models[:1], tmp_path_factory.mktemp("whole"), SETTINGS)


@pytest.fixture(scope="module")
def exact(tmp_path_factory: pytest.TempPathFactory, prepared: PreparedProduct, models: list[Path]) -> DraftChart:
    """Polygons that follow the pixels. Shared: only to read."""
    return make_chart(prepared.folder, models[:1], tmp_path_factory.mktemp("exact"), EXACT)


def band(path: Path, number: int = 1) -> NDArray[Any]:
    with rasterio.open(path) as d:
        return np.asarray(d.read(number))


def record(chart: DraftChart) -> dict[str, Any]:
    return json.loads(chart.record.read_text())


def read_polygons(path: Path) -> gpd.GeoDataFrame:
    return gpd.read_file(path, layer="ice_chart" if path.suffix == ".gpkg" else None)


def names(folder: Path) -> set[str]:
    return {p.name for p in folder.iterdir()}


# --- what there is


def test_all_files_are_there_and_nothing_else(whole: DraftChart, small_product: Path) -> None:
    assert whole.folder.name == small_product.stem
    assert names(whole.folder) == FILES
    assert names(whole.folder.parent) == {whole.folder.name}
    told = record(whole)
    made = {n for files in told["outputs"].values() for n in files}
    assert {n.partition("/")[0] for n in made} == FILES - {"item.json", "chart.json"}
    assert {n for n in made if "/" in n} == {
        p.relative_to(whole.folder).as_posix() for p in (whole.folder / S411).rglob("*.*")
    }
    assert set(told["outputs"]) == set(OUTPUTS)
    for name, facts in told["files"].items():
        content = (whole.folder / name).read_bytes()
        assert facts == {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}


def test_the_record_says_how_it_was_made(whole: DraftChart, models: list[Path], small_product: Path) -> None:
    told = record(whole)
    assert told["status"] == "draft, not for navigation"
    assert told["simulated"] is True, "the product is"
    assert told["product"]["file"] == small_product.name
    assert told["models"][0]["sha256"] == hashlib.sha256(models[0].read_bytes()).hexdigest()
    assert told["models"][0]["simulated"] is False
    assert told["land"]["land_mask"].startswith("none")
    assert told["configuration"]["prepare"]["resolution_m"] == 2000, "the model's"
    assert {"preparing", "predicting", "drawing polygons", "writing netcdf"} <= set(told["seconds"])
    classes = band(whole.folder / "classes.tif")
    counted = {c.key: int((classes == c.id).sum()) for c in SIX_CLASSES.classes}
    assert told["pixels"] == counted | {"land": 0, "no_data": int((classes == IGNORE).sum())}
    polygons = read_polygons(whole.folder / "chart.gpkg")
    assert told["polygons"]["count"] == len(polygons) > 3
    assert sum(told["polygons"]["area_km2"].values()) == pytest.approx(polygons["AREA_KM2"].sum(), abs=0.1)


def test_all_rasters_lie_on_the_products_grid(whole: DraftChart, prepared: PreparedProduct) -> None:
    geobox = read_geobox(prepared.raster)
    valid = band(prepared.raster, 4) != 0
    for name in ("classes.tif", "probabilities.tif", "uncertainty.tif"):
        with rasterio.open(whole.folder / name) as d:
            assert read_geobox(whole.folder / name) == geobox
            assert d.tags(ns="IMAGE_STRUCTURE")["LAYOUT"] == "COG"
            assert (d.dtypes[0], d.nodata) == ("uint8", IGNORE)
            assert ((d.read() != IGNORE) == valid).all()
            tags = d.tags()
        assert (tags["simulated"], tags["product"], tags["legend"]) == ("yes", whole.folder.name, "six_classes")
        assert tags["land_mask"].startswith("none")
    with rasterio.open(whole.folder / "classes.tif") as d:
        assert {c.id: d.colormap(1)[c.id][:3] for c in SIX_CLASSES.classes} == SIX_CLASSES.colours
        assert {c.id: d.tags(1)[f"class_{c.id}"] for c in SIX_CLASSES.classes} == SIX_CLASSES.titles
    with rasterio.open(whole.folder / "probabilities.tif") as d:
        assert d.descriptions == tuple(c.key for c in SIX_CLASSES.classes)
    with rasterio.open(whole.folder / "uncertainty.tif") as d:
        assert d.descriptions == ("entropy",)


def test_charts_hold_what_predict_says(
    whole: DraftChart, prepared: PreparedProduct, models: list[Path], tmp_path: Path
) -> None:
    """From the product as downloaded the same as by prepare and predict, one after the other."""
    other = predict(prepared.folder, models[0], tmp_path)
    assert (band(whole.folder / "classes.tif") == band(other.classes)).all()
    for k in range(1, 7):
        assert (band(whole.folder / "probabilities.tif", k) == band(other.probabilities, k)).all()


def test_the_item_ties_files_to_product_and_model(whole: DraftChart, models: list[Path]) -> None:
    item = pystac.Item.from_file(str(whole.folder / "item.json"))
    assert item.id == f"{whole.folder.name}_ice_chart"
    assert item.properties["floemap:product"] == whole.folder.name
    assert item.properties["simulated"] is True
    assert item.properties["processing:software"].keys() == {"floemap"}
    assert item.properties["floemap:land_mask"].startswith("none")
    assert SarExtension.ext(item).instrument_mode == "EW"
    with rasterio.open(whole.folder / "classes.tif") as d:
        assert ProjectionExtension.ext(item).shape == list(d.shape)
    mlm = MLMExtension.ext(item)
    assert mlm.architecture == "resnet18_aspp"
    assert mlm.mlm_name == f"m0-{hashlib.sha256(models[0].read_bytes()).hexdigest()[:8]}"
    assert item.assets["model"].roles == ["mlm:model"]
    classes = ClassificationExtension.ext(item.assets["classes"]).classes
    assert {c.value: c.color_hint for c in classes if not c.nodata} == {
        c.id: "{:02X}{:02X}{:02X}".format(*c.rgb) for c in SIX_CLASSES.classes
    }
    files = {a.href: a.extra_fields["file:checksum"] for key, a in item.assets.items() if key != "model"}
    assert {name.partition("/")[0] for name in files} == FILES - {"item.json", "chart.json"}
    for name, checksum in files.items():
        assert checksum == "1220" + hashlib.sha256((whole.folder / name).read_bytes()).hexdigest()


# --- in QGIS


@needs_qgis
def test_qgis_opens_the_project_wherever_the_folder_is(whole: DraftChart, tmp_path: Path) -> None:
    moved = tmp_path / "a b é"
    shutil.copytree(whole.folder, moved)
    table = read_polygons(whole.folder / "chart.gpkg")
    inside = table.geometry.map(lambda g: polylabel(g, tolerance=500.0))
    near = [g.exterior.distance(p) > 4 * 2000 for g, p in zip(table.geometry, inside, strict=True)]
    table, inside = table[near], inside[near]
    words = [f"{p.x},{p.y}" for p in inside]
    told = run_in_qgis(Path(__file__).with_name("qgis_project.py"), moved / "chart.qgz", *words, home=tmp_path / "home")
    assert told["messages"] == []
    assert [(Path(source).name, valid, visible) for source, valid, visible, _ in told["layers"]] == [
        ("review.gpkg", True, True),
        ("chart.gpkg", True, True),
        ("classes.tif", True, False),
        ("uncertainty.tif", True, False),
        ("polaris_PC7_polygons.gpkg", True, False),
        ("polaris_PC7.tif", True, False),
        ("radar.tif", True, True),
    ]
    assert all(Path(source).parent == moved for source, *_ in told["layers"])
    assert {crs for *_, crs in told["layers"]} == {told["crs"]} == {"EPSG:3413"}
    assert told["renderers"]["radar.tif"] == "multibandcolor" and told["renderers"]["classes.tif"] == "paletted"
    for words in (told["title"], told["label"]):
        assert "SIMULATED" in words and "not for navigation" in words.lower()
    assert "not checked by anyone" in told["abstract"] and told["topological"]
    assert told["ellipsoid"] == "EPSG:7030", "areas are measured on WGS84"
    assert len(table) > 5 and told["current"] == "Ice type"
    by_key = {c.key: list(c.rgb) for c in SIX_CLASSES.classes}
    assert told["styles"]["Ice type"] == [by_key[key] for key in table["CLASS"]]
    # Colours of the WMO's standard for total concentration (JCOMM TR-24).
    steps = {0: [150, 200, 255], 2: [140, 255, 160], 5: [255, 255, 0], 7: [255, 125, 7], 9: [255, 0, 0]}
    tenths = [0 if ct == "01" else 9 if ct > "90" else int(ct) // 10 for ct in table["CT"]]
    step = [max(k for k in steps if k <= {1: 2, 3: 2, 4: 5, 6: 5, 8: 7}.get(n, n)) for n in tenths]
    assert told["styles"]["Total concentration"] == [steps[k] for k in step]
    sure, unsure = table["CONFIDENCE"].argmax(), table["CONFIDENCE"].argmin()
    brightness = [sum(rgb) for rgb in told["styles"]["Confidence"]]
    assert brightness[sure] >= brightness[unsure]
    assert told["labels"] > 200 and told["spots"] > 200 and told["form"] == "ValueMap"


def test_the_project_names_no_place_on_this_machine(whole: DraftChart) -> None:
    with zipfile.ZipFile(whole.folder / "chart.qgz") as archive:
        (member,) = archive.namelist()
        content = archive.read(member)
    root: Any = etree.fromstring(content)
    sources = root.xpath("//datasource/text()")
    assert {source.partition("|")[0] for source in sources} == {
        "./review.gpkg", "./chart.gpkg", "./classes.tif", "./uncertainty.tif", "./radar.tif", "./polaris_PC7.tif",
        "./polaris_PC7_polygons.gpkg",
    }  # fmt: skip
    assert str(Path.home()).encode() not in content and str(whole.folder.parent).encode() not in content
    assert b"saveUser" not in content


def test_the_radar_image_is_false_colour_on_the_charts_grid(whole: DraftChart, prepared: PreparedProduct) -> None:
    with rasterio.open(whole.folder / "radar.tif") as d, rasterio.open(whole.folder / "classes.tif") as classes:
        assert d.bounds == classes.bounds and d.shape == classes.shape
        red, _, blue = d.read()
    stored = [band(prepared.raster, number) for number in (1, 2)]
    empty = (stored[0] == NODATA) | (stored[1] == NODATA)
    assert ((red == 0) == empty).all()
    for shown, values in ((blue, stored[0]), (red, stored[1])):
        order = np.argsort(values[~empty])
        assert (np.diff(shown[~empty][order].astype(int)) >= 0).all(), "brighter where more comes back"
        low, high = np.percentile(values[~empty] / 100, [1, 99])
        middle = (low + high) / 2
        low, high = min(low, middle - 4), max(high, middle + 4)
        expected = 1 + 254 * np.clip((values[~empty] / 100 - low) / (high - low), 0, 1)
        assert np.abs(shown[~empty] - expected).max() < 1


def red_below_the_map(chart: DraftChart) -> int:
    """Pixels of the warnings' red in the lower right of the large map, where no stamp and no spot is."""
    from matplotlib.image import imread

    image = np.asarray(imread(chart.folder / "quicklook.png"))[..., :3]
    rows, cols = image.shape[:2]
    part = image[int(0.8 * rows) : int(0.92 * rows), int(0.4 * cols) : int(0.64 * cols)]
    return int((np.abs(part - np.array([0xB0, 0, 0x20]) / 255) < 0.02).all(axis=-1).sum())


def test_the_picture_is_one(whole: DraftChart) -> None:
    content = (whole.folder / "quicklook.png").read_bytes()
    assert content.startswith(b"\x89PNG")
    from matplotlib.image import imread

    image = np.asarray(imread(whole.folder / "quicklook.png"))[..., :3]
    assert min(image.shape[:2]) > 600
    red = (np.abs(image - np.array([0xB0, 0, 0x20]) / 255) < 0.02).all(axis=-1)
    assert red.sum() > 1000, "the words draft and simulated"
    assert red_below_the_map(whole) > 200, "that no land mask was given"


# --- polygons and pixels


@pytest.mark.parametrize("name", ["chart.gpkg", SIGRID3[0], "chart.geojson"])
def test_polygons_give_the_pixels_back(name: str, exact: DraftChart) -> None:
    classes = band(exact.folder / "classes.tif")
    again = rasterize_labels(read_chart(exact.folder / name), read_geobox(exact.folder / "classes.tif"), SIX_CLASSES)
    assert len(np.unique(classes)) == 7
    if name == "chart.geojson":  # degrees are rounded: centres of pixels on borders of pixels there are none
        assert (again != classes).mean() < 1e-3
    else:
        assert (again == classes).all()


@pytest.mark.parametrize("name", ["chart.gpkg", SIGRID3[0], "chart.geojson"])
def test_simplified_polygons_agree_away_from_borders(name: str, whole: DraftChart) -> None:
    chart = read_chart(whole.folder / name)
    geobox = read_geobox(whole.folder / "classes.tif")
    classes = band(whole.folder / "classes.tif")
    again = rasterize_labels(chart, geobox, SIX_CLASSES)
    differ = (again != classes) & (classes != IGNORE)
    told = record(whole)["polygons"]
    far = border_distance(chart, geobox) > 2 * 2 + 1  # two pixels' tolerance, and what was smaller than the least area
    assert differ[far].sum() <= told["merged_px"]
    assert differ.mean() < 0.2
    shapes = np.asarray(chart.geometries)
    assert shapely.is_valid(shapes).all()
    if name != "chart.geojson":
        coverage = measure_coverage(shapes)
        assert (coverage.overlapping_pairs, coverage.gaps) == (0, 0)
        areas = read_polygons(whole.folder / name)["AREA_KM2"]
        assert areas.min() >= 100


def test_formats_hold_the_same_table(whole: DraftChart) -> None:
    tables = [
        read_polygons(whole.folder / n).drop(columns="geometry") for n in ("chart.gpkg", SIGRID3[0], "chart.geojson")
    ]
    first = tables[0].drop(columns="id", errors="ignore")
    for other in tables[1:]:
        columns = {c.upper(): c for c in other.columns}
        for c in first.columns:
            assert c[:10] in columns or c in columns
            mine, theirs = first[c], other[columns.get(c, c[:10])]
            if mine.dtype.kind == "f":
                np.testing.assert_allclose(theirs.astype(float), mine, atol=1e-3)
            else:
                assert (theirs.fillna("").astype(str) == mine.fillna("").astype(str)).all(), c
    assert set(first["SIMULATED"]) == {"yes"}
    assert sorted(first["REVIEW"]) == list(range(1, len(first) + 1))


def test_confidence_is_the_mean_probability(exact: DraftChart, prepared: PreparedProduct, models: list[Path]) -> None:
    polygons = read_polygons(exact.folder / "chart.gpkg")
    likely = probabilities_of(prepared.raster, models[0])
    geobox = read_geobox(exact.folder / "classes.tif")
    largest = polygons.iloc[polygons["AREA_KM2"].argmax()]
    inside = rasterio.features.rasterize(
        [largest.geometry], out_shape=tuple(geobox.shape), transform=geobox.transform
    ).astype(bool)
    means = likely[:, inside].mean(axis=1)
    keys = [c.key for c in SIX_CLASSES.classes]
    assert largest["CLASS"] == keys[int(means.argmax())]
    assert largest["CONFIDENCE"] == pytest.approx(means.max(), abs=0.01)  # bf16, and steps of half a percent
    # Of two that are nearly alike, either may be the second.
    second = float(np.sort(means)[-2])
    assert largest["SECOND_P"] == pytest.approx(second, abs=0.01) == means[keys.index(largest["SECOND"])]
    assert largest["SECOND"] != largest["CLASS"]


def test_a_chart_says_how_unlike_the_training_scenes_it_is(
    prepared: PreparedProduct, models: list[Path], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The training scenes are brighter by 6 dB, which all of the chart says; land does not count."""
    stored = np.stack([band(prepared.raster, i) for i in (1, 2, 3)])

    def squares(seed: int) -> NDArray[np.float32]:
        noise = np.random.default_rng(seed).normal(600, 50, stored.shape).astype(np.int16)
        noise[2] = 0
        part = PartArrays("p", np.where(stored == NODATA, NODATA, stored + noise), np.zeros(stored.shape[1:], np.uint8))
        return labelled_squares(part)

    known = learn_known([squares(1)], [squares(2)], SquareStatistics(PRODUCT_BANDS).names, 0)
    assert isinstance(known, Known)
    model = tmp_path / "knowing.safetensors"
    about = json.dumps(read_about(models[0]) | {SCENES: known.to_json()})
    save_file(load_file(models[0]), model, {METADATA_KEY: about})
    made = make_chart(prepared.folder, [model], tmp_path / "out", EXACT.model_copy(update={"min_area_km2": 100}))
    found = record(made)["out_of_distribution"]
    statistics = SquareStatistics(PRODUCT_BANDS)
    statistics.add(stored)
    score = known.score(statistics.squares())
    assert found == score.to_json() and found["unlike_training"] and found["score"] > 2
    assert f"{prepared.folder.name} is unlike the model's training scenes" in caplog.text
    geobox = read_geobox(made.folder / "classes.tif")
    pixels = score.ratio.repeat(16, axis=0).repeat(16, axis=1)[: geobox.shape[0], : geobox.shape[1]]
    for form in ("chart.gpkg", SIGRID3[0], "chart.geojson"):
        polygons = read_polygons(made.folder / form)
        assert polygons["OOD"].notna().all()
    largest = read_polygons(made.folder / "chart.gpkg").sort_values("AREA_KM2").iloc[-1]
    inside = rasterio.features.rasterize(
        [largest.geometry], out_shape=tuple(geobox.shape), transform=geobox.transform
    ).astype(bool)
    assert largest["OOD"] == pytest.approx(np.nanmean(np.minimum(pixels[inside], 12.7)), abs=0.05)


def test_without_statistics_a_chart_says_that_the_score_is_unknown(exact: DraftChart) -> None:
    assert record(exact)["out_of_distribution"] == {"reason": "the model has no statistics of its training scenes"}
    assert read_polygons(exact.folder / "chart.gpkg")["OOD"].isna().all()


def test_a_chart_is_labelled_like_any_other(whole: DraftChart, prepared: PreparedProduct, tmp_path: Path) -> None:
    labelled = label_chart(whole.folder / SIGRID3[0], prepared.folder, tmp_path, LabelSettings(border_distance=False))
    labels, classes = band(labelled.raster), band(whole.folder / "classes.tif")
    both = (labels != IGNORE) & (classes != IGNORE)
    assert (labels[both] == classes[both]).mean() > 0.8


def test_ogrinfo_reads_the_chart(whole: DraftChart) -> None:
    program = shutil.which("ogrinfo")
    if program is None:
        pytest.skip("GDAL's programs are not installed")
    for name in ("chart.gpkg", SIGRID3[0], "chart.geojson"):
        done = subprocess.run([program, "-ro", "-al", "-so", whole.folder / name], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        assert f"Feature Count: {record(whole)['polygons']['count']}" in done.stdout
        assert done.stderr == "", "and warns of nothing"


@pytest.mark.parametrize("name", ["chart.gpkg", SIGRID3[0], "chart.geojson"])
@pytest.mark.parametrize("form", ["ESRI Shapefile", "GPKG"])
def test_a_chart_saved_again_by_gdal_loses_nothing(name: str, form: str, whole: DraftChart, tmp_path: Path) -> None:
    """As an export from QGIS does: no number is cut off at its column's width."""
    program = shutil.which("ogr2ogr")
    if program is None:
        pytest.skip("GDAL's programs are not installed")
    again = tmp_path / ("again.gpkg" if form == "GPKG" else "again.shp")
    layer = [LAYER] if name == "chart.gpkg" else []
    done = subprocess.run(
        [program, "-f", form, again, whole.folder / name, *layer], capture_output=True, text=True, check=True
    )
    assert done.stderr == ""
    before, after = (np.sort(gpd.read_file(p, columns=["AREA"]).AREA) for p in (whole.folder / SIGRID3[0], again))
    assert before.max() > 1e8, "as large as real ones"
    np.testing.assert_array_equal(after, before)


# --- several models


def test_uncertainty_of_probabilities() -> None:
    rng = np.random.default_rng(0)
    even = np.full((6, 2, 3), 1 / 6, np.float32)
    sure = np.zeros((6, 2, 3), np.float32)
    sure[4] = 1
    other = np.roll(sure, 1, axis=0)
    np.testing.assert_allclose(entropy(even), 1, atol=1e-6)
    np.testing.assert_allclose(entropy(sure), 0, atol=1e-6)
    drawn = [rng.dirichlet(np.ones(6), (2, 3)).transpose(2, 0, 1).astype(np.float32) for _ in range(4)]
    exact = [-(p.astype(float) * np.log(p.astype(float))).sum(axis=0) / np.log(6) for p in drawn]
    np.testing.assert_allclose(entropy(drawn[0]), exact[0], atol=1e-6)
    np.testing.assert_allclose(disagreement([drawn[0]] * 3, drawn[0]), 0, atol=1e-6)
    np.testing.assert_allclose(disagreement([sure, other], (sure + other) / 2), np.log(2) / np.log(6), atol=1e-6)  # type: ignore[arg-type]
    mean = np.mean(drawn, axis=0)
    np.testing.assert_allclose(disagreement(drawn, mean), entropy(mean) - np.mean(exact, axis=0), atol=1e-6)
    lost = drawn[0].copy()
    lost[:, 0, 0] = np.nan
    assert np.isnan(entropy(lost)).sum() == 1


def test_an_ensemble_is_the_mean_of_its_models(prepared: PreparedProduct, models: list[Path], tmp_path: Path) -> None:
    settings = ChartSettings(only=("classes", "probabilities", "uncertainty"))
    made = make_chart(prepared.folder, models, tmp_path, settings, precision="fp32")
    members = [probabilities_of(prepared.raster, m) for m in models]
    mean = np.mean(members, axis=0)
    valid = ~np.isnan(mean[0])
    for k in range(6):
        stored = band(made.folder / "probabilities.tif", k + 1)
        np.testing.assert_allclose(stored[valid] / 200, mean[k][valid], atol=0.0026)
        assert (stored[~valid] == IGNORE).all()
    classes = band(made.folder / "classes.tif")
    top = np.sort(mean[:, valid], axis=0)
    clear = top[-1] - top[-2] > 1e-4
    assert (classes[valid] == mean[:, valid].argmax(axis=0))[clear].all()
    with rasterio.open(made.folder / "uncertainty.tif") as d:
        assert d.descriptions == ("entropy", "mutual_information")
        both = d.read()
    np.testing.assert_allclose(both[0][valid] / 200, entropy(mean)[valid], atol=0.0026)
    np.testing.assert_allclose(both[1][valid] / 200, disagreement(members, mean)[valid], atol=0.0026)
    assert both[1][valid].max() > 20
    told = record(made)
    assert len(told["models"]) == len(told["computed"]) == 3
    assert told["simulated"] is True
    item = pystac.Item.from_file(str(made.folder / "item.json"))
    assert [k for k, a in item.assets.items() if a.roles == ["mlm:model"]] == ["model_1", "model_2", "model_3"]


def test_models_of_other_kinds_are_averaged_too(prepared: PreparedProduct, models: list[Path], tmp_path: Path) -> None:
    """A U-Net gives logits of pixels, row by row from the top."""
    unet = write_model(tmp_path / "unet.safetensors", prepared.raster, name="unet")
    only = ChartSettings(only=("probabilities",))
    made = make_chart(prepared.folder, [models[0], unet], tmp_path / "out", only, precision="fp32")
    mean = np.mean([probabilities_of(prepared.raster, m) for m in (models[0], unet)], axis=0)
    valid = ~np.isnan(mean[0])
    np.testing.assert_allclose(band(made.folder / "probabilities.tif", 3)[valid] / 200, mean[2][valid], atol=0.0026)


def test_models_of_an_ensemble_must_be_alike(prepared: PreparedProduct, models: list[Path], tmp_path: Path) -> None:
    coarse = write_model(tmp_path / "coarse.safetensors", prepared.raster, resolution_m=4000)
    with pytest.raises(ModelError, match=r"coarse\.safetensors: differs from .* in its pixel size"):
        find_models([models[0], coarse])
    water = write_model(tmp_path / "water.safetensors", prepared.raster, legend="ice_water", classes=2)
    with pytest.raises(ModelError, match="in its classes"):
        find_models([models[0], water])
    with pytest.raises(ConfigError, match="given twice"):
        find_models([models[0], models[1], models[0]])
    with pytest.raises(ModelError, match="does not exist"):
        make_charts([prepared.folder], [tmp_path / "none.safetensors"], tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_model_trained_on_simulated_scenes_is_called_so(models: list[Path], caplog: pytest.LogCaptureFixture) -> None:
    real, simulated = find_models(models[:2]), find_models(models[2:])
    for model in real:
        model.warn_if_simulated()
    assert not caplog.records
    for model in simulated:
        model.warn_if_simulated()
    assert "WAS TRAINED ON SIMULATED SCENES ONLY" in caplog.text
    assert "unfit for any use" in caplog.text


def test_warnings_do_not_stand_before_every_error(
    models: list[Path], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """What all charts lack is said where one is made, once, and not where there is no product to chart."""
    (done,) = make_charts([tmp_path / "nothing"], [models[2]], tmp_path / "out")
    assert done.error is not None and not caplog.records


def test_the_model_that_comes_along(models: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(model_files, "SHIPPED", tmp_path)
    with pytest.raises(ModelError, match=r"contains 0 models where exactly one should come with floemap.*--model"):
        default_model()
    shutil.copy(models[2], tmp_path)
    assert default_model() == tmp_path / models[2].name
    assert [m.path for m in find_models(None)] == [m.path for m in find_models([])] == [default_model()]


# --- land


def land_file(path: Path, shape: Any, crs: Any = "EPSG:3413", to: Any = None) -> Path:
    frame = gpd.GeoDataFrame(geometry=[shape], crs=crs)
    (frame if to is None else frame.to_crs(to)).to_file(path)
    return path


def island(raster: Path, share: float = 0.2) -> Any:
    """A ragged island in the middle of a raster, with a lake."""
    left, bottom, right, top = read_geobox(raster).boundingbox.bbox
    angle = np.linspace(0, 2 * np.pi, 200, endpoint=False)
    radius = share * (right - left) * (1 + 0.3 * np.sin(5 * angle) + 0.1 * np.cos(23 * angle))
    x, y = (left + right) / 2 + radius * np.cos(angle), (bottom + top) / 2 + radius * np.sin(angle)
    middle = shapely.Point((left + right) / 2, (bottom + top) / 2)
    return shapely.Polygon(np.column_stack([x, y])).difference(middle.buffer(0.05 * (right - left)))


def test_land_is_no_ice(prepared: PreparedProduct, whole: DraftChart, models: list[Path], tmp_path: Path) -> None:
    shape = island(prepared.raster)
    mask = land_file(tmp_path / "coast.gpkg", shape)
    made = make_chart(prepared.folder, models[:1], tmp_path / "out", SETTINGS, land_mask=mask)
    geobox = read_geobox(prepared.raster)
    land = rasterio.features.rasterize([shape], out_shape=tuple(geobox.shape), transform=geobox.transform).astype(bool)
    before, classes = band(whole.folder / "classes.tif"), band(made.folder / "classes.tif")
    assert land.sum() > 1000
    assert (classes[land] == IGNORE).all()
    assert (classes[~land] == before[~land]).all()
    for name in ("probabilities.tif", "uncertainty.tif"):
        assert ((band(made.folder / name) == IGNORE) == (classes == IGNORE)).all()
    told = record(made)
    assert told["pixels"]["land"] == (land & (before != IGNORE)).sum()
    assert told["land"]["land_mask"] == "coast.gpkg"
    assert told["land"]["land_mask_sha256"] == {"coast.gpkg": hashlib.sha256(mask.read_bytes()).hexdigest()}
    for name in ("chart.gpkg", SIGRID3[0]):
        polygons = read_polygons(made.folder / name)
        dry = polygons[polygons["POLY_TYPE"] == "L"]
        assert set(dry["CLASS"]) == {"land"} and dry["CONFIDENCE"].isna().all()
        near = (2 + 1) * 2000  # the tolerance of two pixels, and that a pixel is land by its middle
        assert shape.buffer(-near).difference(dry.union_all().buffer(1)).area == 0
        assert dry.union_all().difference(shape.buffer(near)).area == 0
        coverage = measure_coverage(np.asarray(polygons.geometry))
        assert coverage.overlapping_pairs == 0
        assert coverage.gap_m2 <= 4e6 * told["polygons"]["left_out_px"]
        chart = read_chart(made.folder / name)
        labels = rasterize_labels(chart, geobox, SIX_CLASSES)
        assert (labels[land & (border_distance(chart, geobox) > 4)] == IGNORE).all()
    from matplotlib.image import imread

    image = np.asarray(imread(made.folder / "quicklook.png"))[..., :3]
    assert (np.abs(image - np.array(LAND_RGB) / 255) < 0.01).all(axis=-1).sum() > 5000
    assert red_below_the_map(made) < red_below_the_map(whole) / 4, "and no word of a missing mask"


def test_land_in_any_coordinates_is_the_same(prepared: PreparedProduct, tmp_path: Path) -> None:
    geobox = read_geobox(prepared.raster)
    shape = shapely.segmentize(island(prepared.raster), 1000)
    expected = land_on(land_file(tmp_path / "a.gpkg", shape), geobox)
    assert expected.sum() > 1000
    for name, crs in (("b.geojson", 4326), ("c.shp", 32629), ("d.fgb", 3575)):
        assert (land_on(land_file(tmp_path / name, shape, to=crs), geobox) != expected).sum() <= 2
    east = gpd.GeoSeries([shape], crs=3413).to_crs(4326).translate(360)
    assert (land_on(land_file(tmp_path / "e.gpkg", east.iloc[0], 4326), geobox) != expected).sum() <= 2


@pytest.mark.parametrize(("lon", "lat"), [(180.0, 75.0), (40.0, 89.5), (-170.0, -72.0), (0.0, -89.0)])
def test_land_at_the_dateline_and_the_poles(lon: float, lat: float, tmp_path: Path) -> None:
    """All of the earth that is east of the middle meridian, and its other half, cut at the dateline as files are."""
    from affine import Affine
    from odc.geo.geobox import GeoBox

    crs = "EPSG:3413" if lat > 0 else "EPSG:3031"
    x, y = pyproj.Transformer.from_crs(4326, crs, always_xy=True).transform(lon, lat)
    geobox = GeoBox((150, 160), Affine(2000, 0, x - 160_000, 0, -2000, y + 150_000), crs)
    rows, cols = np.indices(geobox.shape)
    px, py = geobox.transform * (cols + 0.5, rows + 0.5)
    plon, plat = pyproj.Transformer.from_crs(crs, 4326, always_xy=True).transform(px, py)
    expected = ((plon > 0) & (plon < 90)) | ((plon < -90) & (np.abs(plat) > abs(lat) - 0.5))
    far = 90.0 if lat > 0 else -90.0
    edge = np.sign(lat) * (abs(lat) - 0.5)
    boxes = shapely.MultiPolygon(
        [shapely.box(0, min(0, far), 90, max(0, far)), shapely.box(-180, min(edge, far), -90, max(edge, far))]
    )
    mask = land_on(land_file(tmp_path / "boxes.gpkg", boxes, 4326), geobox)
    assert expected.any()
    assert (mask != expected).mean() < 0.01


def test_the_land_of_an_ice_chart(prepared: PreparedProduct, tmp_path: Path) -> None:
    """A chart covers the sea as well: of that only what it calls land is land."""
    geobox = read_geobox(prepared.raster)
    shape = shapely.segmentize(island(prepared.raster), 1000)
    expected = land_on(land_file(tmp_path / "land.gpkg", shape), geobox)
    sea = shapely.box(*geobox.boundingbox.bbox).difference(shape)
    chart = gpd.GeoDataFrame({"poly_type": ["I", "L"]}, geometry=[sea, shape], crs=3413)
    for name in ("chart.shp", "chart.gpkg", "chart.geojson"):
        chart.to_crs(4326).to_file(tmp_path / name)
        assert (land_on(tmp_path / name, geobox) != expected).sum() <= 2
    chart["poly_type"] = "I"
    chart.to_file(tmp_path / "no_land.gpkg")
    assert not land_on(tmp_path / "no_land.gpkg", geobox).any()


def test_all_land_is_said(prepared: PreparedProduct, models: list[Path], tmp_path: Path) -> None:
    mask = land_file(tmp_path / "all.gpkg", shapely.box(-3e6, -3e6, 3e6, 3e6))
    with pytest.raises(ProductError, match=r"is land everywhere according to .*all\.gpkg"):
        make_chart(prepared.folder, models[:1], tmp_path / "out", land_mask=mask)
    assert not (tmp_path / "out").exists()


def test_a_mask_that_is_none(prepared: PreparedProduct, models: list[Path], tmp_path: Path) -> None:
    for name, words in (("no.gpkg", "no.gpkg"), ("text.gpkg", "text.gpkg")):
        (tmp_path / "text.gpkg").write_text("no polygons")
        with pytest.raises(FloemapError, match=words):
            make_chart(prepared.folder, models[:1], tmp_path / "out", land_mask=tmp_path / name)
    assert not (tmp_path / "out").exists()


# --- again, and many


def test_a_finished_chart_is_skipped(
    whole: DraftChart, small_product: Path, models: list[Path], tmp_path: Path
) -> None:
    shutil.copytree(whole.folder, tmp_path / whole.folder.name)
    before = {p.name: p.stat().st_mtime_ns for p in (tmp_path / whole.folder.name).iterdir()}
    assert make_chart(small_product, models[:1], tmp_path, SETTINGS).skipped
    less = SETTINGS.model_copy(update={"only": ("classes", "netcdf")})
    assert make_chart(small_product, models[:1], tmp_path, less).skipped, "all of it is there"
    assert before == {p.name: p.stat().st_mtime_ns for p in (tmp_path / whole.folder.name).iterdir()}
    (tmp_path / whole.folder.name / "chart.nc").unlink()
    assert not make_chart(small_product, models[:1], tmp_path, less).skipped
    assert names(tmp_path / whole.folder.name) == FILES, "what was there before is there again"


def test_made_on_another_day_it_is_the_same(
    whole: DraftChart, small_product: Path, models: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Tomorrow(datetime):
        @classmethod
        def now(cls, tz: tzinfo | None = None) -> datetime:  # type: ignore[override]
            return datetime.now(tz) + timedelta(days=1)

    monkeypatch.setattr("floemap.results.stage.datetime", Tomorrow)
    again = make_chart(small_product, models[:1], tmp_path, SETTINGS)
    assert record(again)["created"] > record(whole)["created"]
    made = (*record(whole)["files"], "item.json", "chart.json")
    other = {n for n in made if (again.folder / n).read_bytes() != (whole.folder / n).read_bytes()}
    dated = {
        "chart.json",
        "item.json",
        "quicklook.png",
        "chart.nc",
        "grid.nc",
        *(n for n in SIGRID3 if n.endswith(".xml")),
    }
    assert other <= dated


def test_only_what_is_asked_for(prepared: PreparedProduct, models: list[Path], tmp_path: Path) -> None:
    first = make_chart(prepared.folder, models[:1], tmp_path, ChartSettings(only=("classes",)))
    assert names(first.folder) == {"classes.tif", "classes.qml", "item.json", "chart.json"}
    assert "polygons" not in record(first)
    second = make_chart(prepared.folder, models[:1], tmp_path, ChartSettings(only=("quicklook",)))
    assert names(second.folder) == {"classes.tif", "classes.qml", "quicklook.png", "item.json", "chart.json"}
    # Made from something else, nothing of the old is kept: it is made anew with the rest.
    before = (first.folder / "classes.tif").read_bytes()
    more = ChartSettings(only=("geojson",))
    third = make_chart(prepared.folder, models[1:2], tmp_path, more, overwrite=True)
    everything = {"classes.tif", "classes.qml", "quicklook.png", "chart.geojson", "item.json", "chart.json"}
    assert names(third.folder) == everything
    assert (first.folder / "classes.tif").read_bytes() != before
    assert not make_chart(prepared.folder, models[1:2], tmp_path, more, overwrite=True).skipped
    assert names(third.folder) == everything


def test_the_layer_of_risk_is_that_of_the_polygons(whole: DraftChart) -> None:
    """As read back from the chart, in the fields of its polygons and in the raster, whose legend has the levels."""
    found = regimes(read_chart(whole.folder / "chart.gpkg"), "PC7")
    table = read_polygons(whole.folder / "polaris_PC7_polygons.gpkg")
    for name, values in (("RIO", found.outcome), ("RIO_LOW", found.lowest), ("RIO_HIGH", found.highest)):
        assert table[name].to_numpy(np.float64) == pytest.approx(values, abs=0.01, nan_ok=True)
    limits = {"normal": (0, 30), "elevated": (-10, -0.01), "special": (-80, -10.01)}
    pairs = zip(table["LEVEL"], table["RIO"], strict=True)
    assert all(limits[level][0] <= rio <= limits[level][1] for level, rio in pairs)
    assert set(table["ICE_CLASS"]) == {"PC 7"} and set(table["SIMULATED"]) == {"yes"}
    assert len(set(table["LEVEL"])) > 1
    with rasterio.open(whole.folder / "polaris_PC7.tif") as d:
        assert d.descriptions == ("level", "rio", "rio_lowest", "rio_highest") and d.nodata == IGNORE
        assert d.tags(ns="IMAGE_STRUCTURE")["LAYOUT"] == "COG" and "not a tool for decisions" in d.tags()["advisory"]
        places = [polylabel(g, tolerance=500.0) for g in table.geometry]
        sampled = np.array(list(d.sample([(p.x, p.y) for p in places])), np.float64)
        physical = sampled * np.array(d.scales) + np.array(d.offsets)
    levels = [("normal", "elevated", "special").index(level) for level in table["LEVEL"]]
    near = [g.exterior.distance(p) > 2000 for g, p in zip(table.geometry, places, strict=True)]
    assert sampled[near, 0].tolist() == np.array(levels)[near].tolist()
    for column, name in enumerate(("RIO", "RIO_LOW", "RIO_HIGH"), 1):  # stored rounded down, to the safe side
        down = table[name].to_numpy()[near] - physical[near, column]
        assert (down >= -0.011).all() and (down < 0.5).all()
    style = etree.fromstring((whole.folder / "polaris_PC7.qml").read_bytes())
    assert style.xpath("//paletteEntry/@value") == ["0", "1", "2"]
    titles = [asset.title for asset in pystac.Item.from_file(whole.folder / "item.json").assets.values()]
    assert sum("POLARIS, advisory" in str(title) for title in titles) == 3


def test_the_map_shows_the_layer_of_risk(whole: DraftChart) -> None:
    view = make_view(whole.folder)
    scene = view.scene(view.content["scenes"][0]["id"])
    level, outcome, _ = (layer for layer in scene["layers"] if layer["group"] == "risk")
    assert level["kind"] == "classes" and "PC 7" in level["title"] and "advisory" in level["title"]
    assert outcome["bands"] == [2] and [v * 0.5 - 80 for v in outcome["range"]] == [-30, 30]


def test_no_layer_of_risk_is_lost(prepared: PreparedProduct, models: list[Path], tmp_path: Path) -> None:
    """A finished chart stays finished without the option; another class adds its files."""
    one = ChartSettings(only=("classes", "polaris"), ice_class=("PC7",), min_area_km2=1000)
    first = make_chart(prepared.folder, models[:1], tmp_path, one)
    plain = ChartSettings(only=("classes",), min_area_km2=1000)
    assert make_chart(prepared.folder, models[:1], tmp_path, plain).skipped
    other = ChartSettings(only=("polaris",), ice_class=("IA",), min_area_km2=1000)
    make_chart(prepared.folder, models[:1], tmp_path, other)
    risk = {*polaris_names("PC7"), *polaris_names("IA")}
    assert names(first.folder) == {*risk, "classes.tif", "classes.qml", "item.json", "chart.json"}
    for wrong in ({"ice_class": ("PC9",)}, {"only": ("polaris",)}, {"only": ("classes",), "ice_class": ("PC7",)}):
        with pytest.raises(ConfigError):
            ChartSettings.checked(**wrong)


def test_the_prepared_product_is_kept_where_asked(small_product: Path, models: list[Path], tmp_path: Path) -> None:
    only = ChartSettings(only=("classes",))
    made = make_chart(small_product, models[:1], tmp_path / "out", only, prepared=tmp_path / "bands")
    kept = tmp_path / "bands" / made.folder.name
    assert {"product.tif", "item.json", "product.json"} <= names(kept)
    item = pystac.Item.from_file(str(made.folder / "item.json"))
    (link,) = item.get_links("derived_from")
    assert not Path(link.href).is_absolute()
    assert (made.folder / link.href).resolve() == (kept / "item.json").resolve()


def test_a_kept_product_far_away_is_not_linked(small_product: Path, models: list[Path], tmp_path: Path) -> None:
    only = ChartSettings(only=("classes",))
    made = make_chart(small_product, models[:1], tmp_path / "a/b/c/out", only, prepared=tmp_path / "bands")
    assert not pystac.Item.from_file(str(made.folder / "item.json")).get_links("derived_from")


def test_nothing_that_is_handed_on_names_a_folder_of_its_maker(whole: DraftChart, models: list[Path]) -> None:
    """Paths of the maker's disk lead nowhere for others, and tell a user's name."""
    for file in (p for p in whole.folder.rglob("*") if p.is_file()):
        content = file.read_bytes()
        for path in (whole.folder, models[0].parent, Path.home(), Path(pytest.__file__).parent):
            assert str(path).encode() not in content, (file.name, path)
            assert path.as_uri().encode() not in content, (file.name, path)


def test_the_bands_that_a_model_takes_are_listed_in_the_item(whole: DraftChart) -> None:
    """As MLM 1.4.0 wants (its schema's AnyBandsRef): named bands of the raster extension at each model.

    STAC 1.1 itself allows bands among the properties only where an asset has some.
    """
    item = json.loads((whole.folder / "item.json").read_text())
    assert any("/raster/v1.1.0/" in uri for uri in item["stac_extensions"])
    models = [a for a in item["assets"].values() if "mlm:model" in a["roles"]]
    assert models
    for model in models:
        for taken in item["properties"]["mlm:input"]:
            assert [b["name"] for b in model["raster:bands"]] == taken["bands"]
        assert all(b["description"] and b["unit"] in ("dB", "degree") for b in model["raster:bands"])
    assert "bands" not in item["properties"]


def test_one_failure_does_not_stop_the_rest(
    small_product: Path, prepared: PreparedProduct, models: list[Path], tmp_path: Path
) -> None:
    told: list[str] = []
    products = [tmp_path / "nothing.zip", small_product, prepared.folder]
    outcomes = make_charts(
        products,
        models[:1],
        tmp_path / "out",
        ChartSettings(only=("classes",)),
        finished=lambda o: told.append(o.product.name),
    )
    assert [o.error is None for o in outcomes] == [False, True, True]
    assert told == [p.name for p in products]
    assert names(tmp_path / "out") == {small_product.stem}


# --- what is wrong


def test_a_product_of_other_polarisations(write_small: Any, models: list[Path], tmp_path: Path) -> None:
    product = write_small(tmp_path, polarisations=("VV", "VH"))
    with pytest.raises(ProductError, match="HH"):
        make_chart(product, models[:1], tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_another_pixel_size(small_product: Path, models: list[Path], tmp_path: Path) -> None:
    coarse = ChartSettings(prepare=PrepareSettings(resolution_m=4000))
    with pytest.raises(ModelError, match=r"pixels of 2000 m; 4000 m are requested.*--resolution"):
        make_chart(small_product, models[:1], tmp_path / "out", coarse)
    other = prepare(small_product, tmp_path, PrepareSettings(resolution_m=4000), quicklook=False)
    with pytest.raises(ModelError, match="2000 m; the product has 4000 m"):
        make_chart(other.folder, models[:1], tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_no_data_at_all(prepared: PreparedProduct, models: list[Path], tmp_path: Path) -> None:
    folder = tmp_path / "S1_empty"
    shutil.copytree(prepared.folder, folder)
    with rasterio.open(folder / "product.tif", "r+", IGNORE_COG_LAYOUT_BREAK="YES") as d:
        for k in (1, 2, 3):
            d.write(np.full(d.shape, NODATA, np.int16), k)
    with pytest.raises(ProductError, match="has no data"):
        make_chart(folder, models[:1], tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_product_without_image(write_small: Any, small_spec: Any, models: list[Path], tmp_path: Path) -> None:
    """All its pixels are zero, which stands for no data."""
    from floemap.simulation.safe.writer import write_safe

    spec = small_spec()
    nothing = {p: np.zeros((spec.lines, spec.samples), np.float32) for p in spec.polarisations}
    product = write_safe(tmp_path, spec, nothing, looks=10)
    for tiff in (product / "measurement").iterdir():
        with rasterio.open(tiff, "r+") as d:
            d.write(np.zeros(d.shape, np.uint16), 1)
    settings = ChartSettings(prepare=PrepareSettings(verify=False))
    with pytest.raises(GridError, match="or the scene has no data"):
        make_chart(product, models[:1], tmp_path / "out", settings)
    assert not (tmp_path / "out").exists()


def test_a_prepared_product_without_its_record(prepared: PreparedProduct, models: list[Path], tmp_path: Path) -> None:
    folder = tmp_path / "S1_bare"
    folder.mkdir()
    shutil.copy(prepared.raster, folder)
    with pytest.raises(FloemapError, match=r"product\.json: does not exist"):
        make_chart(folder, models[:1], tmp_path / "out")
    shutil.copy(prepared.folder / "item.json", folder)
    told = json.loads((prepared.folder / "product.json").read_text())
    for broken, words in (
        (told | {"scene": told["scene"] | {"start": "yesterday"}}, "has no valid times of the acquisition"),
        ({k: v for k, v in told.items() if k != "configuration"}, "lacks configuration"),
        (told | {"scene": {k: v for k, v in told["scene"].items() if k != "pass_direction"}}, "lacks pass_direction"),
        (told | {"schema_version": 99}, "has schema version 99; this floemap reads"),
    ):
        (folder / "product.json").write_text(json.dumps(broken))
        with pytest.raises(ProductError, match=words):
            make_chart(folder, models[:1], tmp_path / "out")
    shutil.copy(prepared.folder / "product.json", folder)
    (folder / "item.json").write_text("{}")
    with pytest.raises(ProductError, match="is not a STAC item"):
        make_chart(folder, models[:1], tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_polygons_larger_than_the_scene(prepared: PreparedProduct, models: list[Path], tmp_path: Path) -> None:
    with pytest.raises(ChartError, match="no polygon reaches the minimum area"):
        make_chart(prepared.folder, models[:1], tmp_path / "out", ChartSettings(min_area_km2=1e9))
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("values", [{"only": ()}, {"only": ("picture",)}, {"min_area_km2": -1}, {"service": "a b"}])
def test_settings_out_of_range(values: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        ChartSettings.checked(**values)


@pytest.mark.parametrize(("lon", "lat"), [(179.0, 76.0), (30.0, 89.3)])
def test_scenes_across_the_dateline_and_the_pole(
    lon: float, lat: float, write_small: Any, models: list[Path], tmp_path: Path
) -> None:
    product = write_small(tmp_path, centre_lon=lon, centre_lat=lat)
    made = make_chart(product, models[:1], tmp_path / "out", SETTINGS)
    assert names(made.folder) == FILES
    assert record(made)["left_out"] == {}
    web = read_polygons(made.folder / "chart.geojson")
    assert shapely.is_valid(np.asarray(web.geometry)).all()
    west, _, east, north = web.total_bounds
    assert west >= -180 and east <= 180 and north <= 90
    assert (west, east) == pytest.approx((-180, 180), abs=0.1), "both sides of the dateline"
    # Cut up, it is as large as it was.
    equal_area = web.to_crs("EPSG:6931").area.sum() / 1e6
    assert equal_area == pytest.approx(web["AREA_KM2"].sum(), rel=2e-3)
    geobox = read_geobox(made.folder / "classes.tif")
    assert (rasterize_labels(read_chart(made.folder / SIGRID3[0]), geobox, SIX_CLASSES) != IGNORE).any()


def test_a_place_without_longitudes_leaves_one_file_out(
    prepared: PreparedProduct, models: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def nowhere(*args: Any, **kwargs: Any) -> None:
        raise ChartError("a vertex has no position on the earth.")

    monkeypatch.setattr(chart_files, "write_geojson", nowhere)
    made = make_chart(prepared.folder, models[:1], tmp_path, SETTINGS)
    assert names(made.folder) == FILES - {"chart.geojson"}
    assert record(made)["left_out"] == {"geojson": "a vertex has no position on the earth."}
    assert make_chart(prepared.folder, models[:1], tmp_path, SETTINGS).skipped, "it would not be there the next time"


def test_a_folder_that_cannot_be_written(
    prepared: PreparedProduct, models: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(OutputError, match="choose another --out"):
        make_chart(prepared.folder, models[:1], tmp_path / "file" / "below", SETTINGS)

    def read_only(self: Path, *args: Any, **kwargs: Any) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "mkdir", read_only)
    with pytest.raises(OutputError, match=r"Permission denied.*--out"):
        make_chart(prepared.folder, models[:1], tmp_path / "out", SETTINGS)


def run_python(script: str, **kwargs: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=300, **kwargs)


def test_a_disk_that_is_full(prepared: PreparedProduct, whole: DraftChart, models: list[Path], tmp_path: Path) -> None:
    """A process may not write files beyond a limit, as on a full disk: what stood there stays, nothing half-written."""
    sizes = {n: (whole.folder / n).stat().st_size for n in FILES}
    limits = sorted({100, *(s - 1 for n, s in sizes.items() if n not in ("chart.json", "item.json") and s > 100)})[::3]
    script = f"""
import resource, signal
from pathlib import Path
from floemap.errors import OutputError
from floemap.inference.draftchart.chart import make_chart
from floemap.inference.draftchart.settings import ChartSettings

signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
out = Path({str(tmp_path / "out")!r})
for limit in {limits!r}:
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
    try:
        make_chart({str(prepared.folder)!r}, [{str(models[0])!r}], out, ChartSettings(min_area_km2=100))
    except OutputError as e:
        assert not out.exists(), list(out.iterdir())
        print(e)
    else:
        raise AssertionError(f"a limit of {{limit}} bytes did not matter")
"""
    done = run_python(script)
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) == len(limits)
    assert ".partial" not in done.stdout


def test_killed_half_way(small_product: Path, models: list[Path], tmp_path: Path) -> None:
    """Killed while it writes, at any file: nothing bears the chart's name, and the next run makes it whole."""
    script = f"""
from floemap.inference.draftchart.chart import make_chart
from floemap.inference.draftchart.settings import ChartSettings
make_chart({str(small_product)!r}, [{str(models[0])!r}], {str(tmp_path)!r}, ChartSettings(min_area_km2=100))
"""
    final = tmp_path / small_product.stem
    with subprocess.Popen([sys.executable, "-c", script]) as process:
        deadline = time.monotonic() + 120
        while not list(tmp_path.glob(f".{final.name}*/probabilities.tif")):
            assert process.poll() is None and time.monotonic() < deadline
            time.sleep(0.002)
        process.send_signal(signal.SIGKILL)
    assert not final.exists()
    assert list(tmp_path.iterdir()), "what it had begun"
    assert not make_chart(small_product, models[:1], tmp_path, SETTINGS).skipped
    assert names(tmp_path) == {final.name}
    assert names(final) == FILES


# --- the command


@pytest.fixture
def quiet_terminal(monkeypatch: pytest.MonkeyPatch) -> Iterator[CliRunner]:
    yield CliRunner()


def test_the_command(small_product: Path, models: list[Path], tmp_path: Path, quiet_terminal: CliRunner) -> None:
    (tmp_path / "my.toml").write_text('min_area_km2 = 5000\nservice = "met"\n[prepare]\nnoise = "none"\n')
    call = ["chart", str(small_product), str(tmp_path / "no.zip"), "--out", str(tmp_path / "out")]
    call += ["--model", str(models[0]), "--model", str(models[2]), "--config", str(tmp_path / "my.toml")]
    call += ["--only", "sigrid3, classes", "--min-area", "100", "--smooth", "3000", "--tolerance", "1500"]
    done = quiet_terminal.invoke(app, call)
    assert done.exit_code == 1, "one of two could not be charted"
    assert "no.zip" in done.stderr and "1 of 2" in done.stderr
    assert "SIMULATED" in done.stderr, "the second model"
    folder = tmp_path / "out" / small_product.stem
    assert str(folder) in done.stdout.replace("\n", "")
    assert "met_s1_20180116T0754Z_pl_a.shp" in names(folder)
    told = json.loads((folder / "chart.json").read_text())["configuration"]
    assert (told["min_area_km2"], told["smoothing_m"], told["tolerance_m"]) == (100, 3000, 1500)
    assert (told["prepare"]["noise"], told["prepare"]["resolution_m"]) == ("none", 2000)
    again = quiet_terminal.invoke(app, [a for a in call if a != str(tmp_path / "no.zip")])
    assert again.exit_code == 0
    assert "finished before" in again.stdout


def test_the_command_names_what_is_wrong(small_product: Path, models: list[Path], tmp_path: Path) -> None:
    call = ["chart", str(small_product), "--out", str(tmp_path), "--model", str(models[0])]
    for options, words in (
        (["--only", "shapes"], "only"),
        (["--resolution", "4000"], "2000 m"),
        (["--device", "abacus"], "abacus"),
        (["--land-mask", "nowhere.shp"], "nowhere.shp"),
    ):
        done = CliRunner().invoke(app, [*call, *options])
        assert done.exit_code == 1
        assert words in " ".join(done.stderr.split())
        assert "Traceback" not in done.output
    assert not any(tmp_path.iterdir())


if os.name != "posix":  # signals and limits on files are POSIX's
    del test_a_disk_that_is_full, test_killed_half_way
