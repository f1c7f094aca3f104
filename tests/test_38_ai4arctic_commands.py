"""The commands on single files of AI4Arctic: prepare, label, predict, evaluate, chart, as on any other product."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import h5py
import numpy as np
import pystac
import pytest
import rasterio
import shapely
from chart_models import write_model
from real_files import PRODUCT
from workshop import run

from floemap.cog import read_geobox
from floemap.datasets.ai4arctic.acquisition import pass_direction, relative_orbit
from floemap.datasets.ai4arctic.files import open_scene_file
from floemap.datasets.ai4arctic.prepare import label_scene, prepare_scene
from floemap.info import describe
from floemap.results.stage import read_json
from floemap.sentinel1.safe.reader import open_scene
from floemap.sentinel1.settings import PrepareSettings
from floemap.simulation.ai4arctic_scene import SimulatedScene

Made = tuple[SimulatedScene, ...]


@pytest.fixture(scope="module")
def prepared(ai4arctic_set: Made, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The first scene, prepared by the command."""
    out = tmp_path_factory.mktemp("prepared")
    done = run("prepare", ai4arctic_set[0].ready, "--out", out, "--resolution", "4000")
    assert done.exit_code == 0, done.output
    return out / ai4arctic_set[0].scene.name


@pytest.fixture(scope="module")
def model(prepared: Path) -> Path:
    path = prepared.parent / "model.safetensors"
    return write_model(path, prepared / "product.tif", resolution_m=4000, legend="ai4arctic")


def test_all_commands_run_on_single_files(ai4arctic_set: Made, prepared: Path, model: Path, tmp_path: Path) -> None:
    one = ai4arctic_set[0]
    name = one.scene.name
    for words in (
        ("label", one.raw, "--like", prepared, "--out", tmp_path / "labels"),
        ("predict", prepared, "--model", model, "--out", tmp_path / "predicted"),
        (
            "evaluate",
            tmp_path / "predicted" / name,
            "--labels",
            tmp_path / "labels" / name,
            "--out",
            tmp_path / "scores",
        ),
        ("chart", prepared, "--model", model, "--out", tmp_path / "charts", "--min-area", "500"),
    ):
        done = run(*words)
        assert done.exit_code == 0, done.output
    assert read_json(tmp_path / "scores" / name / "evaluation.json")["simulated"] is True
    written = {p.name for p in (tmp_path / "charts" / name).iterdir()}
    assert {"chart.gpkg", "chart.geojson", "chart.nc", "classes.tif", "item.json", "quicklook.png"} <= written
    chart = pystac.Item.from_file(str(tmp_path / "charts" / name / "item.json"))
    assert chart.common_metadata.start_datetime == one.scene.start
    assert chart.properties["platform"] == f"sentinel-1{one.scene.mission[-1].lower()}"


def test_a_file_is_charted_as_a_product_is(ai4arctic_set: Made, prepared: Path, model: Path, tmp_path: Path) -> None:
    name = ai4arctic_set[0].scene.name
    for source, out in ((ai4arctic_set[0].ready, "a"), (prepared, "b")):
        done = run("chart", source, "--model", model, "--out", tmp_path / out, "--only", "classes")
        assert done.exit_code == 0, done.output
    a, b = (rasterio.open(tmp_path / out / name / "classes.tif").read(1) for out in "ab")
    np.testing.assert_array_equal(a, b)
    again = run("chart", ai4arctic_set[0].ready, "--model", model, "--out", tmp_path / "a", "--only", "classes")
    assert "finished" in again.output or "skipped" in again.output


def test_the_item_says_where_and_when_the_product_is(ai4arctic_set: Made, prepared: Path) -> None:
    item = pystac.Item.from_file(str(prepared / "item.json"))
    one = ai4arctic_set[0].scene
    assert item.id == one.product
    assert item.properties["start_datetime"][:19] == one.start.isoformat()[:19]
    assert item.properties["end_datetime"].replace("-", "").replace(":", "")[:15] == one.product.split("_")[5]
    assert item.properties["sat:absolute_orbit"] == int(one.product.split("_")[6])
    with open_scene_file(ai4arctic_set[0].raw) as file:
        tie = file.tie_points()
    outline = shapely.geometry.shape(item.geometry)
    inside = shapely.points(tie.longitude_deg[1:-1, 1:-1].ravel(), tie.latitude_deg[1:-1, 1:-1].ravel())
    assert shapely.contains(outline, inside).all()
    corners = shapely.points(
        tie.longitude_deg[[0, 0, -1, -1], [0, -1, 0, -1]], tie.latitude_deg[[0, 0, -1, -1], [0, -1, 0, -1]]
    )
    assert shapely.distance(outline.boundary, corners).max() < 0.1
    assert read_json(prepared / "product.json")["scene"]["pass_direction"] in ("ASCENDING", "DESCENDING")


@pytest.mark.skipif(not PRODUCT.is_dir(), reason="needs a real product's metadata")
def test_orbit_and_pass_are_as_annotated_in_a_real_product() -> None:
    real = open_scene(PRODUCT, pixels=False)
    assert relative_orbit(real.mission, real.absolute_orbit) == real.relative_orbit
    assert pass_direction(real.geolocation.latitude_deg) == real.pass_direction
    assert pass_direction(real.geolocation.latitude_deg[::-1]) != real.pass_direction


def test_many_files_in_one_call_and_the_grid_of_another(ai4arctic_set: Made, prepared: Path, tmp_path: Path) -> None:
    """Two files of one scene would have one folder: the second is refused, and the third scene is made."""
    one, other = ai4arctic_set[:2]
    done = run("prepare", one.ready, one.raw, other.ready, "--out", tmp_path, "--resolution", "4000", "--overwrite")
    assert done.exit_code == 1
    assert "1 of 3 products could not be prepared" in done.output
    assert {p.name for p in tmp_path.iterdir() if p.is_dir()} == {one.scene.name, other.scene.name}
    assert one.ready.name in read_json(tmp_path / one.scene.name / "product.json")["inputs"]["product"]
    like = run("prepare", one.raw, "--like", prepared / "product.tif", "--out", tmp_path / "like")
    assert like.exit_code == 0, like.output
    assert read_geobox(tmp_path / "like" / one.scene.name / "product.tif") == read_geobox(prepared / "product.tif")
    both = run("prepare", one.raw, "--like", prepared / "product.tif", "--crs", "EPSG:3995", "--out", tmp_path / "both")
    assert both.exit_code == 1 and "were both given" in both.output


def test_layers_are_made_of_the_scenes_file(ai4arctic_set: Made, prepared: Path, tmp_path: Path) -> None:
    one, other = ai4arctic_set[:2]
    product = tmp_path / prepared.name
    shutil.copytree(prepared, product)
    done = run("layer", "from-ai4arctic", product, one.raw, "--bands", "era5, month")
    assert done.exit_code == 0, done.output
    made = {p.name for p in (product / "layers").iterdir()}
    assert made == {"u10m_rotated", "v10m_rotated", "t2m", "skt", "tcwv", "tclw", "month"}
    assert [Path(line).name in made for line in done.stdout.split() if "layers" in line] == [True] * 7
    for words, why in (
        ((product, other.raw, "--bands", "month"), "Give the file of the same scene"),
        ((product, one.raw, "--bands", "btemp"), "is not a band of AI4Arctic"),
        ((product, one.raw, "--bands", ","), "names no band"),
    ):
        wrong = run("layer", "from-ai4arctic", *words)
        assert wrong.exit_code == 1 and why in wrong.output.replace("\n", " "), wrong.output


def test_info_counts_the_polygons_of_labels(ai4arctic_set: Made, prepared: Path, tmp_path: Path) -> None:
    one = ai4arctic_set[0]
    with open_scene_file(one.raw) as file:
        polygons = len(file.polygon_codes())
    for path, words in ((one.raw, f", {polygons} polygons"), (one.ready, "")):
        made = label_scene(path, prepared, tmp_path / path.suffixes[0] / path.stem[-4:])
        assert dict(describe(made.folder).lines)["Chart"] == f"{path.name}{words}"


def test_flip_mirrors_nothing(ai4arctic_set: Made, tmp_path: Path) -> None:
    """The attribute says how to show a scene; lines, samples and tie points are as in the file."""
    one = ai4arctic_set[0]
    path = tmp_path / one.ready.name
    shutil.copy(one.ready, path)
    with h5py.File(path, "r+") as f:
        f.attrs["flip"] = 1
    settings = PrepareSettings(resolution_m=3475, grid="image")
    a, b = (prepare_scene(p, tmp_path / k, settings).folder for k, p in (("a", path), ("b", one.ready)))
    np.testing.assert_array_equal(rasterio.open(a / "product.tif").read(), rasterio.open(b / "product.tif").read())
    flips = [read_json(folder / "product.json")["scene"]["flip"] for folder in (a, b)]
    assert flips == [1, 0]


def test_options_for_other_charts_are_refused(ai4arctic_set: Made, prepared: Path, tmp_path: Path) -> None:
    one = ai4arctic_set[0]
    done = run("label", one.raw, "--like", prepared, "--out", tmp_path, "--unmapped", "ignore")
    assert done.exit_code != 0 and "takes no unmapped" in done.output
    shapefile = tmp_path / "chart.shp"
    shapefile.touch()
    done = run("label", shapefile, "--like", prepared, "--out", tmp_path, "--rule", "correct")
    assert done.exit_code != 0 and "--rule is for files of AI4Arctic" in done.output
    noted = run("label", one.ready, "--like", prepared, "--out", tmp_path, "--rule", "correct")
    assert noted.exit_code == 0 and "the rule of its chart is starter" in noted.output
    assert json.loads((tmp_path / one.scene.name / "label.json").read_text())["configuration"]["rule"] == "starter"
