"""AI4Arctic in image geometry: pixels, charts and fields stay where the file has them, and maps are refused.

Also how exactly the other grid, the map, follows from the tie points.
"""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pyproj
import pytest
from chart_models import write_model
from real_files import AI4ARCTIC, PRODUCT, ai4arctic_patches, ai4arctic_scene
from scipy import ndimage
from small_ai4arctic import write_prep, write_raw
from workshop import run

from floemap.cog import open_raster, read_geobox
from floemap.datasets.ai4arctic.convert import scaled
from floemap.datasets.ai4arctic.files import TiePoints, open_scene_file
from floemap.datasets.ai4arctic.prepare import label_scene, prepare_scene
from floemap.datasets.ai4arctic.tie_locator import TieLocator
from floemap.errors import ConfigError, GridError
from floemap.icechart.label.polygon_table import read_ids, read_polygons
from floemap.layers.of_ai4arctic import layers_of_ai4arctic
from floemap.legend import IGNORE
from floemap.sentinel1.bands import open_product
from floemap.sentinel1.places import lonlat_deg
from floemap.sentinel1.prepare import prepare
from floemap.sentinel1.safe.reader import open_scene
from floemap.sentinel1.settings import PrepareSettings
from floemap.simulation.ai4arctic_scene import SimulatedScene, _Maker
from floemap.study.settings import DataSettings

Made = tuple[SimulatedScene, ...]
#: The pixel spacing that the small files of the set name.
IMAGE = PrepareSettings(resolution_m=3475, grid="image")


@pytest.fixture(scope="module")
def prepared(ai4arctic_set: Made, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The first scene in image geometry, from its ready-to-train file."""
    return prepare_scene(ai4arctic_set[0].ready, tmp_path_factory.mktemp("image"), IMAGE).folder


def test_pixels_are_those_of_the_file(ai4arctic_set: Made, prepared: Path) -> None:
    """Scores times the published deviation, plus the mean; stored in steps of 0.01 dB; a score of 0 is a gap."""
    product = open_product(prepared)
    published = {"hh_db": ("primary", 5.6597459193818676, -14.5082551552228)}
    published["hv_db"] = ("secondary", 4.746759305258515, -24.701205147144236)
    with h5py.File(ai4arctic_set[0].ready) as f:
        gap = f["nersc_sar_primary"][:] == 0
        assert gap.any()
        for name, (variable, std, mean) in published.items():
            found, scores = product[name].to_numpy(), f[f"nersc_sar_{variable}"][:].astype(float)
            assert found.shape == scores.shape
            np.testing.assert_array_equal(np.isnan(found), gap)
            np.testing.assert_allclose(found[~gap], (scores * std + mean)[~gap], atol=0.0051)


def test_blocks_of_raw_pixels_are_means_of_their_power(ai4arctic_set: Made, tmp_path: Path) -> None:
    made = prepare_scene(ai4arctic_set[0].raw, tmp_path, PrepareSettings(resolution_m=3475.34, grid="image"))
    with h5py.File(ai4arctic_set[0].raw) as f:
        db = f["nersc_sar_secondary"][:].astype(float)
    corners = np.stack([db[i::2, j::2] for i in (0, 1) for j in (0, 1)])
    whole = np.isfinite(corners).all(axis=0)
    wanted = 10 * np.log10(np.mean(10 ** (corners / 10), axis=0))
    found = open_product(made.folder).hv_db.to_numpy()
    np.testing.assert_allclose(found[whole], wanted[whole], atol=0.006)


def test_charts_are_the_files_pixel_by_pixel(ai4arctic_set: Made, tmp_path: Path) -> None:
    """So the challenge's scores, which count pixels of the image, are of the charts that the starter reads."""
    one = ai4arctic_set[-1]
    product = prepare_scene(one.ready, tmp_path, IMAGE).folder
    labels = label_scene(one.reference, product, tmp_path / "labels")
    with open_raster(product / "product.tif") as d:
        valid = d.read(d.count) != 0
    table = read_polygons(labels.folder)
    ids = read_ids(labels.folder, table)
    assert table.floe is not None
    tenths = np.rint(10 * table.concentration)
    found = {"SOD": table.dominant[ids], "FLOE": table.floe[ids]}
    found["SIC"] = np.where(np.isfinite(tenths), tenths, IGNORE)[ids]
    with h5py.File(one.reference) as f:
        for chart, classes in found.items():
            np.testing.assert_array_equal(classes[valid], f[chart][:][valid], chart)
        with open_raster(labels.raster) as d:
            np.testing.assert_array_equal(d.read(1), np.where(valid, f["SOD"][:], IGNORE))


def test_places_and_fields_are_those_of_the_image(ai4arctic_set: Made, prepared: Path) -> None:
    """Latitude and longitude by the simulator's closed-form geometry; AMSR2 in the middle of its cells."""
    one = ai4arctic_set[0]
    layers_of_ai4arctic(prepared, one.ready, ["btemp_36_5v", "distance_to_land_km"])
    geobox = read_geobox(prepared / "product.tif")
    rng = np.random.default_rng(1)
    line, sample = (rng.uniform(0, n - 1, 300) for n in geobox.shape)
    lon, lat = _Maker(one.scene, 120, 0).geometry.lonlat(2 * line + 0.5, 2 * sample + 0.5)
    found = lonlat_deg(prepared / "product.tif", geobox, line, sample)
    away_m = pyproj.Geod(ellps="WGS84").inv(lon, lat, *found)[2]
    assert max(away_m) < 60  # a sixtieth of a pixel
    with open_scene_file(one.ready) as file, open_raster(prepared / "layers" / "btemp_36_5v" / "layer.tif") as d:
        stored, cells = d.read(1) * d.scales[0], file.values("btemp_36_5v")
        assert stored.shape == geobox.shape
        for row, col in ((40, 50), (80, 33), (100, 100)):
            at = ((row + 0.5) * cells.shape[0] / 115 - 0.5, (col + 0.5) * cells.shape[1] / 120 - 0.5)
            (i, j), (di, dj) = (int(a) for a in at), (a % 1 for a in at)
            square = cells[i : i + 2, j : j + 2]
            wanted = np.array([1 - di, di]) @ square @ np.array([1 - dj, dj])
            assert stored[row, col] == pytest.approx(wanted, abs=0.02)


def test_what_needs_a_map_refuses_image_geometry(
    ai4arctic_set: Made, prepared: Path, tmp_path: Path, small_product: Path
) -> None:
    one, other = ai4arctic_set[:2]
    model = tmp_path / "model.safetensors"
    write_model(model, prepared / "product.tif", resolution_m=3475, legend="ai4arctic")
    raster = tmp_path / "any.tif"
    raster.write_bytes((prepared / "product.tif").read_bytes())
    for words in (
        ("chart", prepared, "--model", model, "--out", tmp_path / "charts"),
        ("layer", "from-raster", prepared, raster, "--name", "x", "--unit", "K"),
        ("prepare", other.ready, "--like", prepared / "product.tif", "--out", tmp_path / "p"),
    ):
        done = run(*words)
        assert done.exit_code == 1 and "image geometry" in done.output.replace("\n", " "), done.output
    with pytest.raises(GridError, match="image geometry: Image of"):
        label_scene(other.ready, prepared, tmp_path / "labels")
    with pytest.raises(GridError, match="not a multiple of the image's pixels of 3475 m"):
        prepare_scene(one.ready, tmp_path / "a", PrepareSettings(resolution_m=4000, grid="image"))
    with pytest.raises(ConfigError, match="takes no crs"):
        PrepareSettings.checked(grid="image", crs="EPSG:3995")
    with pytest.raises(ConfigError, match="grid image is for files of AI4Arctic"):
        prepare(small_product, tmp_path / "b", IMAGE)
    like = label_scene(one.raw, prepared, tmp_path / "same")  # the raw file of the same product fits
    assert read_geobox(like.raster) == read_geobox(prepared / "product.tif")


def test_no_setting_is_without_effect(ai4arctic_set: Made, prepared: Path, tmp_path: Path) -> None:
    """Each option of prepare either changes what is made of a file of AI4Arctic, or is refused."""
    one = ai4arctic_set[0].ready
    for option in (
        ("--noise", "none"),
        ("--surface", "annotated"),
        ("--sea-level", "3"),
        ("--verify",),
        ("--no-verify",),
    ):
        done = run("prepare", one, "--out", tmp_path, *option)
        assert done.exit_code == 1, option
        assert f"takes no {option[0].removeprefix('--').removeprefix('no-').replace('-', '_')}" in done.output.replace(
            "\n", " "
        )
    for option in (("--resolution", "3475"), ("--grid", "image")):
        done = run("prepare", one, "--out", tmp_path, "--like", prepared / "product.tif", *option)
        assert done.exit_code == 1 and "were both given" in done.output.replace("\n", " ")
    assert not any(tmp_path.iterdir())
    model = write_model(tmp_path / "m.safetensors", prepared / "product.tif", resolution_m=3475, legend="ai4arctic")
    for words, name in (
        (("chart", one, "--model", model, "--out", tmp_path / "c", "--noise", "none"), "noise"),
        (("info", one, "--layer", "x"), "layer"),
        (("info", prepared, "--crs", "EPSG:3995"), "crs"),
    ):
        done = run(*words)
        assert done.exit_code == 1 and f"takes no {name}" in done.output.replace("\n", " "), done.output
    for values in (
        {"unmapped": "ignore"},
        {"without_parts": "first"},
        {"prepare": {"noise": "none"}},
        {"prepare": {"verify": False}},
    ):
        with pytest.raises(ConfigError, match="take no such setting"):
            DataSettings.checked(dataset="ai4arctic", legend="ai4arctic", folder=tmp_path, **values)
    for values in ({"rule": "correct"}, {"prepare": {"grid": "image"}}):
        with pytest.raises(ConfigError, match="take no such setting"):
            DataSettings.checked(folder=tmp_path, **values)


def test_settings_of_earlier_records_are_the_defaults() -> None:
    """A record without a grid is one of the polar grid: what was made before stays finished."""
    assert "grid" not in PrepareSettings().model_dump()
    assert PrepareSettings(grid="image").model_dump()["grid"] == "image"


@pytest.mark.skipif(not AI4ARCTIC.is_dir(), reason="needs the real patches and the real scene")
def test_real_pixels_and_a_real_chart_come_through(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two of the dataset's patches of 80 m, in dB, and an analyst's charts of its scene, in a ready-to-train file."""
    monkeypatch.setattr("floemap.sentinel1.quicklook.draw_quicklook", lambda *_, **__: None)
    path = write_prep(tmp_path, write_raw(tmp_path))
    patches, scene = ai4arctic_patches(), ai4arctic_scene()
    rows, cols = (slice(n // 2 - 112, n // 2 + 112) for n in scene["SOD"].shape)
    charts = {chart: scene[chart][rows, cols] for chart in ("SIC", "SOD", "FLOE")}
    assert all(len(np.unique(classes)) > 3 for classes in charts.values())
    for k in (0, 3):
        real = {"nersc_sar_primary": patches["HH_dB"][k], "nersc_sar_secondary": patches["HV_dB"][k]}
        with h5py.File(path, "r+") as f:
            new = charts | {name: scaled(name, db) for name, db in real.items()}
            new |= {"sar_incidenceangle": np.full((224, 224), 0.1, np.float32)}
            for name, values in (new | {"distance_map": new["sar_incidenceangle"]}).items():
                attributes = {a: v for a, v in f[name].attrs.items() if a != "DIMENSION_LIST"}
                del f[name]
                f[name] = values
                f[name].attrs.update(attributes)
        settings = PrepareSettings(resolution_m=4000, grid="image")
        folder = prepare_scene(path, tmp_path / str(k), settings).folder
        product, labels = open_product(folder), label_scene(path, folder, tmp_path / f"labels{k}")
        for name, db in (("hh_db", patches["HH_dB"][k]), ("hv_db", patches["HV_dB"][k])):
            np.testing.assert_allclose(product[name].to_numpy(), db, atol=0.0051)
        table = read_polygons(labels.folder)
        ids = read_ids(labels.folder, table)
        np.testing.assert_array_equal(table.dominant[ids], charts["SOD"])
        assert table.floe is not None
        np.testing.assert_array_equal(table.floe[ids], charts["FLOE"])


@pytest.mark.skipif(not PRODUCT.is_dir(), reason="needs a real product's metadata")
def test_splines_between_real_tie_points() -> None:
    """Every second tie point of a real annotation, 40 km apart, tells where the others are at sea.

    Beside mountains it does not: the annotation locates pixels at the terrain's height.
    """
    grid = open_scene(PRODUCT, pixels=False).geolocation
    lines, samples = np.asarray(grid.lines, float), np.asarray(grid.pixels, float)
    lat, lon = grid.latitude_deg.astype(np.float64), grid.longitude_deg.astype(np.float64)
    assert lat.shape == (len(lines), len(samples)) == (len(lines), 21)
    few = np.s_[::2, ::2]
    line, sample = np.meshgrid(lines, samples, indexing="ij")
    tie = TiePoints(line[few], sample[few], lat[few], lon[few])
    x, y = TieLocator(tie, (int(lines[-1]) + 1, int(samples[-1]) + 1)).to_map(line, sample)
    crs = "EPSG:3413" if lat.mean() > 0 else "EPSG:3031"
    wanted = pyproj.Transformer.from_crs("EPSG:4326", crs, always_xy=True).transform(lon, lat)
    off_m = np.hypot(x - wanted[0], y - wanted[1])
    at_sea = ndimage.maximum_filter(grid.height_m, 17, mode="constant") < 1  # 160 km from land, where splines swing
    assert at_sea.sum() > 100
    assert off_m[at_sea].max() < 8  # a tenth of a pixel
