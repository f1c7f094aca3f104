"""Studies that name their bands: layers are made or asked for before any work, and bands are part of a training."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import pyproj
import pytest
import shapely
from odc.geo.geobox import GeoBox
from test_27_layers import SHAPE, corners, grid, write_prepared

from floemap.cog import Band, write_cog
from floemap.errors import ChartError, ConfigError, ProductError
from floemap.learning.models.checkpoint_header import read_about
from floemap.legend import IGNORE, SIX_CLASSES
from floemap.study.cells import plan
from floemap.study.compare import compare, train_model
from floemap.study.dry_run import dry_run
from floemap.study.settings import Study

pytestmark = pytest.mark.usefixtures("tiny_is_a_model")

LAND = "distance_to_land_km"


def write_scene(folder: Path, name: str, month: int, box: GeoBox) -> dict[str, str]:
    """A prepared product and its labels, as their commands would leave them."""
    product = write_prepared(folder / name, box)
    left, bottom, right, top = corners(box)
    to_degrees = pyproj.Transformer.from_crs("EPSG:3413", "EPSG:4326", always_xy=True)
    outline = [to_degrees.transform(*xy) for xy in ((left, top), (right, top), (right, bottom), (left, bottom))]
    about = {"made_by": "floemap prepare", "simulated": True, "corners_lonlat_deg": outline, "configuration": {}}
    about["scene"] = {"start": f"2018-{month:02d}-16T07:54:30+00:00"}
    (product / "product.json").write_text(json.dumps(about))
    labels = folder / f"{name}-labels"
    labels.mkdir()
    classes = np.random.default_rng(month).choice([0, 3, 5], SHAPE).astype(np.uint8)
    write_cog(labels / "labels.tif", box, classes, [Band("ice_type")], nodata=IGNORE)
    legend = {"name": "six_classes", "classes": {str(c.id): c.key for c in SIX_CLASSES.classes}}
    made = {"configuration": {"legend": "six_classes"}, "legend": legend, "simulated": True}
    (labels / "label.json").write_text(json.dumps(made))
    return {"name": name, "product": str(product), "chart": str(labels)}


@pytest.fixture
def study(tmp_path: Path) -> dict[str, Any]:
    left, bottom, *_ = corners(grid())
    gpd.GeoDataFrame(
        geometry=[shapely.box(left + 20_000, bottom, left + 60_000, bottom + 50_000)], crs="EPSG:3413"
    ).to_file(tmp_path / "land.gpkg")
    scenes = [write_scene(tmp_path, name, month, grid()) for name, month in (("a", 1), ("b", 5), ("c", 9))]
    return {
        "data": {"scenes": scenes, "legend": "six_classes", "bands": ["hh_db", LAND]},
        "split": {"kind": "lists", "training": ["a"], "validation": ["b"], "test": ["c"]},
        "model": {"name": "tiny"},
        "crops": {"size_px": 32, "per_scene": 4},
        "training": {"batch": 4, "max_epochs": 1, "precision": "fp32", "learning_rate": 1e-3},
    }


def test_a_missing_layer_is_asked_for_before_any_work(study: dict[str, Any], tmp_path: Path) -> None:
    made = Study.checked(**study)
    for go in (train_model, compare):
        with pytest.raises(ProductError, match="scene a: lacks the layer distance_to_land_km") as e:
            go(made, tmp_path / "run")
        assert f"floemap layer distance-to-land {tmp_path / 'a'} --land FILE" in str(e.value)
        assert not (tmp_path / "run").exists()
    with pytest.raises(ProductError, match="scene a: lacks the layer"):
        dry_run(made)
    study["data"]["layers"] = {LAND: {"land": str(tmp_path / "no.gpkg")}}
    with pytest.raises(ChartError, match="scene a: "):
        train_model(Study.checked(**study), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_study_makes_its_layers_and_learns_from_them(study: dict[str, Any], tmp_path: Path) -> None:
    study["data"]["layers"] = {LAND: {"land": str(tmp_path / "land.gpkg"), "cap_km": 30}}
    made = Study.checked(**study)
    about = read_about(train_model(made, tmp_path / "run"))
    assert about["bands"] == ["hh_db", LAND]
    assert about["layers"] == {LAND: {"unit": "km", "step": 0.01, "offset": 0.0, "missing": "scene"}}
    assert (tmp_path / "c" / "layers" / LAND / "layer.json").is_file()
    assert all(LAND in part["sha256"] for part in about["data"])
    estimate = dry_run(made, "cpu")
    assert estimate.epochs and estimate.device == "cpu"
    study["data"]["bands"] = ["hh_db"]
    with pytest.raises(ConfigError, match="other"):
        train_model(Study.checked(**study), tmp_path / "run")


def test_variants_compare_bands(study: dict[str, Any]) -> None:
    study["data"]["bands"] = ["hh_db", "hv_db"]
    study["compare"] = {
        "losses": ["dice", "with_land"],
        "variants": {"with_land": {"loss.name": "dice", "data.bands": ["hh_db", LAND]}},
        "repeats": 1,
    }
    made = Study.checked(**study)
    assert [c.study.data.bands for c in plan(made, ["a", "b", "c"])] == [("hh_db", "hv_db"), ("hh_db", LAND)]
    assert made.all_data().bands == ("hh_db", "hv_db", LAND)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ({"bands": [LAND]}, "without a band of the product"),
        ({"bands": ["hh_db", "hh_db"]}, "named twice"),
        ({"bands": ["hh_db", "../x"]}, "cannot have the name"),
        ({"bands": ["hh_db", "mask"]}, "name of a band of the product"),
        ({"bands": []}, "without a band of the product"),
        ({"layers": {LAND: {}}}, "give land"),
        ({"layers": {"x": {"land": "l.gpkg"}}}, "land is for"),
        ({"layers": {LAND: {"raster": "r.tif"}}}, "land is for"),
        ({"layers": {"hh_db": {"raster": "r.tif"}}}, "name of a band of the product"),
    ],
)
def test_settings_that_cannot_be(data: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        Study.checked(data=data)
