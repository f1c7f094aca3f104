"""ASID-v2, the dataset of 2020: its charts, from simulated files of the form that programs which read it expect.

The form is what those programs take: nansencenter/sea_ice_type_cnn_training (asip_v2/archive.py), damaha/asip-v2
(asiplib.py), and a reader of the published files over HTTP. No file of the dataset was at hand.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from small_ai4arctic import write_asid2
from workshop import run

from floemap.cog import open_raster
from floemap.datasets.ai4arctic.files import open_scene_file
from floemap.datasets.ai4arctic.prepare import label_scene, prepare_scene
from floemap.errors import FloemapError, ProductError
from floemap.icechart.label.polygon_table import read_polygons
from floemap.info import describe
from floemap.results.stage import read_json
from floemap.sentinel1.settings import PrepareSettings
from floemap.simulation.ai4arctic_scene import SimulatedScene

Made = tuple[SimulatedScene, ...]
NAME = "SIMULATED_20190405T084543_S1B_AMSR2_Icechart-Greenland-CentralEast.nc"


@pytest.fixture(scope="module")
def asid2(ai4arctic_set: Made, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_asid2(tmp_path_factory.mktemp("asid2") / NAME, ai4arctic_set[0].raw)


@pytest.fixture(scope="module")
def product(ai4arctic_set: Made, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The scene on the map."""
    settings = PrepareSettings(resolution_m=4000)
    return prepare_scene(ai4arctic_set[0].raw, tmp_path_factory.mktemp("product"), settings).folder


def test_its_charts_go_on_any_product_of_the_scene(
    ai4arctic_set: Made, asid2: Path, product: Path, tmp_path: Path
) -> None:
    """The same polygons in the raw form and in this one give the same labels, shares and codes."""
    done = run("label", asid2, "--like", product, "--out", tmp_path)
    assert done.exit_code == 0, done.output
    (made,) = (p for p in tmp_path.iterdir() if p.is_dir())
    assert made.name == "20190405T084543_dmi"
    raw = label_scene(ai4arctic_set[0].raw, product, tmp_path / "raw").folder
    for name in ("labels.tif", "polygons.tif", "fractions.tif"):
        with open_raster(made / name) as a, open_raster(raw / name) as b:
            np.testing.assert_array_equal(a.read(), b.read(), name)
    tables = [read_polygons(folder) for folder in (made, raw)]
    for name, codes in tables[1].codes.items():
        np.testing.assert_array_equal(tables[0].codes[name], codes)
    record = read_json(made / "label.json")
    assert record["chart"]["region"] == "CentralEast" and record["simulated"] is True


def test_its_bands_are_not_read(asid2: Path, tmp_path: Path) -> None:
    with pytest.raises(ProductError, match="bands are not in decibels"):
        prepare_scene(asid2, tmp_path)


def test_info_says_what_it_is(asid2: Path) -> None:
    found = describe(asid2)
    with open_scene_file(asid2) as file:
        assert found.facts["polygons"] == len(file.polygon_codes())
    assert found.facts["form"] == "ASID-v2" and found.facts["official_use"] is None
    assert not found.problems


def put(name: str, at: Any, value: Any) -> Any:
    return lambda f: f[name].__setitem__(at, value)


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda f: f.__delitem__("polygon_codes"), "lacks the variable polygon_codes"),
        (put("sar_grid_line", 3, 17.5), "tie points are not on a grid"),
        (put("sar_grid_latitude", 3, np.nan), "not places on a grid"),
        (put("polygon_icechart", (9, 9), 254), "polygon 254 has pixels"),
    ],
)
def test_damaged_files_are_named(ai4arctic_set: Made, product: Path, tmp_path: Path, damage: Any, words: str) -> None:
    path = write_asid2(tmp_path / NAME, ai4arctic_set[0].raw)
    with h5py.File(path, "r+") as f:
        damage(f)
    with pytest.raises(FloemapError, match=words):
        label_scene(path, product, tmp_path / "labels")
