"""Layers of prepared products: distances to land and warped rasters, against other ways to compute them."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import geopandas as gpd
import h5netcdf
import numpy as np
import pyproj
import pytest
import rasterio
import shapely
from affine import Affine
from numpy.typing import NDArray
from odc.geo.crs import CRS
from odc.geo.geobox import GeoBox
from rasterio.warp import Resampling, reproject
from scipy.ndimage import distance_transform_edt, map_coordinates
from typer.testing import CliRunner

import floemap.cli.layer  # noqa: F401  registers the commands
from floemap.bands import NODATA, BandSet, InputBand, recoded, step_for
from floemap.cli.app import app
from floemap.cog import write_cog
from floemap.datasets.ai4arctic.prepare import STAGE as PREPARE_AI4ARCTIC
from floemap.errors import ChartError, ConfigError, FloemapError, GridError, OutputError, ProductError
from floemap.grid import brief, crs_in_words, crs_name
from floemap.info import describe
from floemap.layers.distance_to_land import distance_km, layer_distance_to_land, layer_distance_to_land_all
from floemap.layers.from_raster import _cf_gaps, layer_from_raster
from floemap.layers.reading import open_bands
from floemap.layers.settings import DistanceSettings, RasterSettings
from floemap.layers.stored import DISTANCE, check_bands, find_layer, scene_bands
from floemap.results.folders import made_of, stage_folder
from floemap.results.stage import Stage, sha256
from floemap.sentinel1.bands import BANDS
from floemap.sentinel1.encoding import PRODUCT_BANDS
from floemap.sentinel1.prepare import STAGE as PREPARE

SHAPE = (70, 90)
PIXEL_M = 2000.0
#: Off Svalbard.
CORNER = (900_000.0, -600_000.0)


def grid(shape: tuple[int, int] = SHAPE, pixel_m: float = PIXEL_M, corner: tuple[float, float] = CORNER) -> GeoBox:
    return GeoBox(shape, Affine(pixel_m, 0, corner[0], 0, -pixel_m, corner[1]), "EPSG:3413")


def write_prepared(folder: Path, box: GeoBox | None = None) -> Path:
    """A prepared product whose last ten columns have no data."""
    box = box or grid()
    stored = np.zeros((4, *box.shape), np.int16)
    stored[:3] = np.random.default_rng(1).integers(-3000, -1000, (3, *box.shape))
    stored[3] = 1
    stored[:3, :, -10:], stored[3, :, -10:] = NODATA, 0
    folder.mkdir(parents=True)
    tags = {"product": folder.name, "simulated": "yes"}
    write_cog(folder / "product.tif", box, stored, BANDS, nodata=NODATA, tags=tags)
    (folder / "product.json").write_text(json.dumps({"made_by": "floemap prepare"}))
    return folder


def write_raster(path: Path, values: NDArray[Any], transform: Affine, crs: str | None, **more: Any) -> Path:
    profile = {"driver": "GTiff", "height": values.shape[-2], "width": values.shape[-1], "dtype": values.dtype.name}
    values = values if values.ndim == 3 else values[None]
    with rasterio.open(path, "w", **profile, count=len(values), crs=crs, transform=transform, **more) as d:
        d.write(values)
    return path


@pytest.fixture
def product(tmp_path: Path) -> Path:
    return write_prepared(tmp_path / "prepared" / "S1A_A")


def corners(box: GeoBox) -> tuple[float, float, float, float]:
    b = box.boundingbox
    return b.left, b.bottom, b.right, b.top


@pytest.fixture
def land(tmp_path: Path) -> Path:
    """An island in the scene, and a coast 20 km beyond its right edge."""
    left, bottom, right, top = corners(grid())
    island = shapely.Point(left + 40_000, top - 50_000).buffer(15_000)
    coast = shapely.box(right + 20_000, bottom - 1e5, right + 80_000, top + 1e5)
    path = tmp_path / "land.gpkg"
    gpd.GeoDataFrame(geometry=[island, coast], crs="EPSG:3413").to_file(path)
    return path


def values_of(folder: Path) -> NDArray[np.float64]:
    """Physical values of a layer, decoded by what the file itself says."""
    with rasterio.open(folder / "layer.tif") as d:
        stored = d.read(1).astype(float)
        stored[stored == d.nodata] = np.nan
        return np.asarray(stored * d.scales[0] + d.offsets[0])


# Distance to land


def test_distances_are_those_on_the_ground(product: Path, land: Path) -> None:
    """From pixels' centres to the polygons themselves, by geodesics."""
    made = layer_distance_to_land(product, land)
    km = values_of(made.folder)
    shapes = shapely.union_all(gpd.read_file(land).geometry.to_numpy())
    to_degrees = pyproj.Transformer.from_crs("EPSG:3413", "EPSG:4326", always_xy=True)
    rng = np.random.default_rng(0)
    for row, col in zip(rng.integers(0, SHAPE[0], 200), rng.integers(0, SHAPE[1], 200), strict=True):
        x, y = grid().transform * (col + 0.5, row + 0.5)
        here, there = shapely.Point(x, y), shapely.ops.nearest_points(shapely.Point(x, y), shapes)[1]
        a, b = (to_degrees.transform(p.x, p.y) for p in (here, there))
        expected = pyproj.Geod(ellps="WGS84").inv(*a, *b)[2] / 1000
        assert km[row, col] == pytest.approx(min(expected, 100), abs=1.1 * PIXEL_M / 1000 + 0.003 * expected)
    assert km.max() <= 100 and km.min() == 0
    record = json.loads(made.record.read_text())
    assert record["layer"] == {
        "name": "distance_to_land_km", "unit": "km", "step": 0.01, "offset": 0.0, "missing": "scene",
    }  # fmt: skip
    assert record["simulated"] and record["inputs"]["land"].keys() == {"land.gpkg"}


def test_distances_are_the_exact_euclidean_ones(land: Path) -> None:
    """scipy's exact transform of the same pixels; the scale of the projection by its formula (Snyder 1987, 21-32f)."""
    from floemap.icechart.land import land_on

    box = grid()
    there = land_on(land, box.pad(60))
    exact = distance_transform_edt(~there)[60:-60, 60:-60] * PIXEL_M / 1000
    x, y = box.transform * np.meshgrid(np.arange(SHAPE[1]) + 0.5, np.arange(SHAPE[0]) + 0.5)
    lat = np.radians(pyproj.Transformer.from_crs("EPSG:3413", "EPSG:4326", always_xy=True).transform(x, y)[1])
    e = 0.0818191908426
    m = np.cos(lat) / np.sqrt(1 - (e * np.sin(lat)) ** 2)
    scale = np.hypot(x, y) / (6378137.0 * m)
    assert np.abs(distance_km(land, box, 100.0) - np.minimum(exact / scale, 100)).max() < 2e-4 * 100


def test_land_beyond_the_edge_counts_as_far_as_the_cap(product: Path, land: Path) -> None:
    km = values_of(layer_distance_to_land(product, land, DistanceSettings(cap_km=30)).folder)
    assert km.max() == 30
    assert 19 < km[0, -1] < 23, "the coast is 20 km on the map beyond the last column"


def test_far_from_land_the_cap_is_everywhere_and_said(
    product: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    far = tmp_path / "far.gpkg"
    gpd.GeoDataFrame(geometry=[shapely.box(-2e6, 2e6, -1.9e6, 2.1e6)], crs="EPSG:3413").to_file(far)
    assert (values_of(layer_distance_to_land(product, far).folder) == 100).all()
    assert "no land within 100 km" in caplog.text


def test_a_finished_layer_is_skipped_and_another_land_makes_it_again(product: Path, land: Path, tmp_path: Path) -> None:
    assert not layer_distance_to_land(product, land).skipped
    assert layer_distance_to_land(product, land).skipped
    assert not layer_distance_to_land(product, land, overwrite=True).skipped
    assert not layer_distance_to_land(product, land, DistanceSettings(cap_km=20)).skipped
    raster = product / "layers" / "distance_to_land_km" / "layer.tif"
    raster.write_bytes(raster.read_bytes()[:-100])
    assert not layer_distance_to_land(product, land, DistanceSettings(cap_km=20)).skipped, "it was damaged"


def test_a_layer_elsewhere_leaves_the_product_as_it_is(product: Path, land: Path, tmp_path: Path) -> None:
    made = layer_distance_to_land(product, land, out=tmp_path / "elsewhere")
    assert made.folder == tmp_path / "elsewhere" / "S1A_A" / "distance_to_land_km" and made.raster.is_file()
    assert not (product / "layers").exists()
    assert layer_distance_to_land(product, land, out=tmp_path / "elsewhere").skipped


def test_a_product_in_an_archive_gets_its_layers_in_a_folder_of_links(
    product: Path, land: Path, tmp_path: Path
) -> None:
    mine = tmp_path / "mine" / product.name
    mine.mkdir(parents=True)
    for path in product.iterdir():
        (mine / path.name).symlink_to(path)
    layer_distance_to_land(mine, land)
    bands = scene_bands(mine, ["hh_db", DISTANCE])
    with open_bands(mine / "product.tif", bands) as opened:
        assert (opened.read()[1] >= 0).any()
    assert not (product / "layers").exists()


def test_the_land_is_read_for_its_hash_once_for_all_products(
    product: Path, land: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hashed = []
    monkeypatch.setattr("floemap.results.stage.sha256", lambda path: hashed.append(path) or sha256(path))
    others = [product, *(write_prepared(tmp_path / "prepared" / name) for name in ("S1A_B", "S1A_C"))]
    outcomes = layer_distance_to_land_all(others, land)
    assert [json.loads(o.result.record.read_text())["inputs"]["land"] for o in outcomes] == [
        {"land.gpkg": sha256(land)}
    ] * 3
    assert hashed == [land]


@pytest.mark.parametrize("made_by", [PREPARE, PREPARE_AI4ARCTIC], ids=["SAFE", "AI4Arctic"])
def test_a_product_is_not_replaced_under_its_layers(product: Path, land: Path, made_by: Stage) -> None:
    """Whatever is prepared into its folder: the message names what would be lost, and following it goes ahead."""
    record = json.loads((product / "product.json").read_text())
    (product / "product.json").write_text(json.dumps(record | {"bytes": made_of(product)}))
    layer_distance_to_land(product, land)
    shutil.copytree(product / "layers" / "distance_to_land_km", product / "layers" / "t_k")
    before = (product / "product.tif").read_bytes()

    def prepare() -> None:
        with stage_folder(product, made_by, replace_others=True) as partial:
            (partial / "product.json").write_text("{}")

    with pytest.raises(OutputError, match="has the layers distance_to_land_km, t_k, made by `floemap layer`") as e:
        prepare()
    assert "would be lost" in str(e.value) and f"move or delete {product / 'layers'}" in e.value.hint
    assert (product / "product.tif").read_bytes() == before and find_layer(product / "product.tif", DISTANCE)
    shutil.rmtree(product / "layers" / "t_k")
    with pytest.raises(OutputError, match="has the layer distance_to_land_km, made by"):
        prepare()
    (product / "notes.txt").write_text("mine")
    with pytest.raises(OutputError, match=r"contains files that `floemap prepare` did not make.*notes\.txt"):
        prepare()
    (product / "notes.txt").unlink()
    shutil.rmtree(product / "layers")
    prepare()
    assert not (product / "product.tif").exists()


def test_a_crs_without_a_code_is_named_not_shown_whole(tmp_path: Path, land: Path) -> None:
    mine = pyproj.CRS.from_proj4("+proj=stere +lat_0=90 +lat_ts=71 +lon_0=-40 +datum=WGS84 +units=m").to_json_dict()
    crs = pyproj.CRS.from_json_dict(mine | {"name": "of my own"})
    box = GeoBox(SHAPE, Affine(PIXEL_M, 0, CORNER[0], 0, -PIXEL_M, CORNER[1]), crs.to_wkt())
    folder = write_prepared(tmp_path / "prepared" / "S1A_A", box)
    done = CliRunner().invoke(app, ["layer", "distance-to-land", str(folder), "--land", str(land)])
    assert done.exit_code == 0, done.output
    words = " ".join(done.output.split())
    assert "px of 2000 m in of my own" in words and "PROJCRS" not in words and "PROJCS" not in words
    assert crs_in_words("EPSG:3413") == "EPSG:3413"


def test_a_crs_without_a_name_is_called_by_its_projection() -> None:
    """PROJ and GDAL name it unknown, which a reader takes for a CRS that is not known."""
    crs = CRS("+proj=stere +lat_0=90 +lat_ts=70 +datum=WGS84")
    assert crs.proj.name == "unknown"
    assert crs_in_words(crs.to_wkt()) == crs_name(crs.proj) == "polar stereographic"
    assert brief(GeoBox((2, 2), Affine(80, 0, 0, 0, -80, 0), crs)).endswith(" in polar stereographic")
    assert crs_in_words('PROJCS["unknown", which nothing can read') == "unknown"


def test_one_product_that_fails_does_not_stop_the_others(product: Path, land: Path, tmp_path: Path) -> None:
    outcomes = layer_distance_to_land_all([tmp_path / "absent", product], land)
    assert outcomes[0].error is not None and outcomes[1].result is not None
    with pytest.raises(ChartError):
        layer_distance_to_land_all([product], tmp_path / "no.gpkg")


# Rasters


def smooth(lon: NDArray[Any], lat: NDArray[Any]) -> NDArray[Any]:
    return 250 + 20 * np.cos(np.radians(lon)) + 15 * np.sin(np.radians(2 * lon)) + lat / 10


@pytest.mark.parametrize("first", [-180, 0, -57])
@pytest.mark.parametrize("south_up", [False, True])
def test_a_global_raster_is_right_over_the_pole_and_the_dateline(tmp_path: Path, first: int, south_up: bool) -> None:
    """Bilinear interpolation in longitude and latitude, around the earth, by scipy."""
    box = grid((90, 90), 25_000, (-1_125_000.0, 1_125_000.0))
    folder = write_prepared(tmp_path / "pole", box)
    lon, lat = first + 0.5 + np.arange(360), 89.5 - np.arange(180)
    values = smooth(*np.meshgrid(lon, lat)).astype(np.float32)
    path = tmp_path / "global.tif"
    if south_up:
        write_raster(path, values[::-1], Affine(1, 0, first, 0, 1, -90), "EPSG:4326")
    else:
        write_raster(path, values, Affine(1, 0, first, 0, -1, 90), "EPSG:4326")
    got = values_of(layer_from_raster(folder, path, "t_k", RasterSettings(unit="K", step=0.01)).folder)
    x, y = box.transform * np.meshgrid(np.arange(90) + 0.5, np.arange(90) + 0.5)
    at_lon, at_lat = pyproj.Transformer.from_crs("EPSG:3413", "EPSG:4326", always_xy=True).transform(x, y)
    row, col = 89.5 - at_lat, (at_lon - first - 0.5) % 360
    expected = map_coordinates(np.pad(values, ((1, 0), (0, 1)), mode="wrap"), [row + 1, col], order=1)
    inside = at_lat < 89.4  # beyond the first row's centre nothing is left to interpolate with
    assert np.isfinite(got).all()
    assert np.abs(got - expected)[inside].max() < 0.02


@pytest.mark.parametrize("resampling", ["nearest", "average"])
def test_no_resampling_shows_the_seam_of_a_global_raster(tmp_path: Path, resampling: Any) -> None:
    """Pixels beside any meridian are near the field itself, which varies by 0.9 K a degree at most."""
    box = grid((90, 90), 25_000, (-1_125_000.0, 1_125_000.0))
    folder = write_prepared(tmp_path / "pole", box)
    values = smooth(*np.meshgrid(0.5 + np.arange(360), 89.5 - np.arange(180))).astype(np.float32)
    path = write_raster(tmp_path / "global.tif", values, Affine(1, 0, 0, 0, -1, 90), "EPSG:4326")
    how = RasterSettings.checked(unit="K", step=0.01, resampling=resampling)
    got = values_of(layer_from_raster(folder, path, "t_k", how).folder)
    x, y = box.transform * np.meshgrid(np.arange(90) + 0.5, np.arange(90) + 0.5)
    lon, lat = pyproj.Transformer.from_crs("EPSG:3413", "EPSG:4326", always_xy=True).transform(x, y)
    assert np.abs(got - smooth(lon, lat))[lat < 86].max() < 3


@pytest.mark.parametrize("resampling", ["nearest", "bilinear", "average"])
def test_a_projected_raster_is_what_one_call_of_gdal_gives(product: Path, tmp_path: Path, resampling: Any) -> None:
    rng = np.random.default_rng(2)
    values = rng.normal(200, 30, (120, 140)).astype(np.float32)
    values[40:50, 30:60] = -9999
    left, _, _, top = corners(grid())
    transform = Affine(3000, 0, left - 50_000, 0, -3000, top + 60_000)
    path = write_raster(tmp_path / "a.tif", values, transform, "EPSG:3413", nodata=-9999)
    made = layer_from_raster(product, path, "tb_k", RasterSettings(unit="K", missing="flag", resampling=resampling))
    expected = np.full(SHAPE, np.nan, np.float32)
    reproject(
        values, expected, src_transform=transform, src_crs="EPSG:3413", src_nodata=-9999, dst_nodata=np.nan,
        dst_transform=grid().transform, dst_crs="EPSG:3413", resampling=Resampling[resampling],
    )  # fmt: skip
    got = values_of(made.folder)
    assert np.isnan(got).any() and np.array_equal(np.isnan(got), np.isnan(expected))
    assert np.nanmax(np.abs(got - expected)) <= 0.0051
    record = json.loads(made.record.read_text())
    assert record["layer"]["step"] == 0.01 and record["step_chosen"], "the smallest power of ten that fits 300"
    assert record["pixels"]["scene"] == SHAPE[0] * (SHAPE[1] - 10)


def test_the_average_of_a_finer_raster_is_its_mean(product: Path, tmp_path: Path) -> None:
    left, _, _, top = corners(grid())
    fine = np.random.default_rng(3).normal(0, 1, (SHAPE[0] * 4, SHAPE[1] * 4)).astype(np.float32)
    path = write_raster(tmp_path / "fine.tif", fine, Affine(500, 0, left, 0, -500, top), "EPSG:3413")
    made = layer_from_raster(product, path, "wind", RasterSettings(resampling="average", step=0.001))
    mean = fine.reshape(SHAPE[0], 4, SHAPE[1], 4).mean(axis=(1, 3))
    assert np.abs(values_of(made.folder) - mean).max() < 6e-4


def test_scale_offset_unit_and_gaps_of_the_file_count(product: Path, tmp_path: Path) -> None:
    left, _, _, top = corners(grid())
    values = np.full((2, *SHAPE), 1000, np.int16)
    values[1, :, :45] = 500
    values[1, :20] = -1
    path = write_raster(
        tmp_path / "packed.tif", values, Affine(PIXEL_M, 0, left, 0, -PIXEL_M, top), "EPSG:3413", nodata=-1
    )
    with rasterio.open(path, "r+") as d:
        d.scales, d.offsets, d.units = (1, 0.1), (0, 200), ("", "K")
    made = layer_from_raster(product, path, "t_k", RasterSettings(band=2, resampling="nearest"))
    got = values_of(made.folder)
    assert np.isnan(got[:20]).all()
    assert got[30, 10] == pytest.approx(250) and got[30, 80] == pytest.approx(300)
    assert find_layer(product / "product.tif", "t_k").band == InputBand("t_k", "K", 0.01)


@pytest.mark.parametrize("unit", ["degrees_east", "m"])
def test_a_netcdf_with_plain_longitudes_needs_no_crs(product: Path, tmp_path: Path, unit: str) -> None:
    """Files of ERA5 have longitudes from 0 to 360, latitudes from the north, and no grid mapping."""
    lon, lat = np.arange(0, 360, 2.0), np.arange(90, 50, -2.0)
    path = tmp_path / "era5.nc"
    with h5netcdf.File(path, "w") as f:
        f.dimensions = {"valid_time": 2, "latitude": len(lat), "longitude": len(lon)}
        for name, values, units in (("latitude", lat, "degrees_north"), ("longitude", lon, unit)):
            f.create_variable(name, (name,), data=values).attrs["units"] = units
        stored = np.stack([np.zeros((len(lat), len(lon))), np.repeat(lat[:, None], len(lon), axis=1)])
        f.create_variable("t2m", ("valid_time", "latitude", "longitude"), data=stored.astype(np.float32))
    settings = RasterSettings(variable="t2m", band=2)
    if unit == "m":
        with pytest.raises(GridError, match="no georeference"):
            layer_from_raster(product, path, "x", settings)
        return
    made = layer_from_raster(product, path, "x", settings)
    got, record = values_of(made.folder), json.loads((made.folder / "layer.json").read_text())
    # The record's range is of what the file holds for the scene, in its steps.
    with rasterio.open(product / "product.tif") as d:
        scene = got[d.read(1) != d.nodata]
    assert (record["smallest"], record["largest"]) == (pytest.approx(scene.min()), pytest.approx(scene.max()))
    x, y = (grid().transform * Affine.translation(0.5, 0.5)) * np.meshgrid(np.arange(SHAPE[1]), np.arange(SHAPE[0]))
    _, expected = pyproj.Transformer.from_crs("EPSG:3413", "EPSG:4326", always_xy=True).transform(x, y)
    np.testing.assert_allclose(got, expected, atol=0.01)


def test_infinite_values_are_gaps(product: Path, tmp_path: Path) -> None:
    left, _, _, top = corners(grid())
    values = np.ones(SHAPE, np.float32)
    values[0, 0], values[1, 1], values[2, 2] = np.inf, -np.inf, np.nan
    path = write_raster(tmp_path / "inf.tif", values, Affine(PIXEL_M, 0, left, 0, -PIXEL_M, top), "EPSG:3413")
    got = values_of(layer_from_raster(product, path, "x", RasterSettings(resampling="nearest")).folder)
    assert np.argwhere(np.isnan(got)).tolist() == [[0, 0], [1, 1], [2, 2]]


def test_longitudes_from_another_meridian(product: Path, tmp_path: Path) -> None:
    """Longitudes that are counted from Paris are at their place, in whatever unit its meridian is given."""
    paris = pyproj.CRS.from_proj4("+proj=longlat +ellps=WGS84 +pm=paris +no_defs")
    corner, pixel = Affine.translation(-180 - 2.33722917, 90), Affine.scale(0.5, -0.5)
    east = np.tile(np.arange(-179.75, 180, 0.5), (80, 1))
    path = write_raster(tmp_path / "paris.tif", east.astype(np.float32), corner * pixel, paris.to_wkt())
    got = values_of(layer_from_raster(product, path, "x", RasterSettings()).folder)
    x, y = (grid().transform * Affine.translation(0.5, 0.5)) * np.meshgrid(np.arange(SHAPE[1]), np.arange(SHAPE[0]))
    expected, _ = pyproj.Transformer.from_crs("EPSG:3413", "EPSG:4326", always_xy=True).transform(x, y)
    np.testing.assert_allclose(got, expected, atol=0.02)


@pytest.mark.parametrize("units", [("degrees_north", "degrees_east"), ("m", "m")])
def test_a_netcdf_with_its_axes_changed_round_is_refused(product: Path, tmp_path: Path, units: tuple[str, str]) -> None:
    """As some programs write them; GDAL would place it where longitude and latitude are exchanged."""
    path = tmp_path / "turned.nc"
    with h5netcdf.File(path, "w") as f:
        f.dimensions = {"y": 20, "x": 30}
        for name, start, unit in (("y", 60, units[0]), ("x", 50, units[1])):
            v = f.create_variable(name, (name,), data=start + np.arange(f.dimensions[name].size) * 1.0)
            v.attrs["units"], v.attrs["standard_name"] = unit, f"projection_{name}_coordinate"
        f.create_variable("v", ("x", "y"), data=np.ones((30, 20), np.float32))
    with pytest.raises(GridError, match="its variable v has rows that run north") as e:
        layer_from_raster(product, path, "x", RasterSettings())
    assert "Transpose" in str(e.value.hint)


def test_all_that_cf_calls_missing_are_gaps(product: Path, tmp_path: Path) -> None:
    """As netCDF4, another reader, masks them: _FillValue, missing_value beside it, and outside of the valid range."""
    lon, lat = np.arange(0, 360, 2.0), np.arange(90, 50, -2.0)
    path = tmp_path / "odd.nc"
    stored = np.resize(np.array([7, -1, -2, -3, -10, 9, 120, 8], np.int16), (len(lat), len(lon)))
    with h5netcdf.File(path, "w") as f:
        f.dimensions = {"latitude": len(lat), "longitude": len(lon)}
        for name, values, units in (("latitude", lat, "degrees_north"), ("longitude", lon, "degrees_east")):
            f.create_variable(name, (name,), data=values).attrs["units"] = units
        v = f.create_variable("v", ("latitude", "longitude"), data=stored, fillvalue=np.int16(-1))
        v.attrs["missing_value"] = np.array([-2, -3], np.int16)
        v.attrs["valid_min"], v.attrs["valid_max"] = np.int16(-5), np.int16(100)
    got = values_of(layer_from_raster(product, path, "x", RasterSettings(resampling="nearest")).folder)
    assert set(np.unique(got[~np.isnan(got)])) == {7, 8, 9} and np.isnan(got).any()


@pytest.mark.parametrize(
    ("kind", "attributes", "gaps"),
    [
        ("int16", {"valid_max": "40000", "missing_value": "99999"}, []),
        ("int16", {"valid_max": "1e20", "missing_value": "-1e20"}, []),
        ("int16", {"missing_value": "{0.5,9}"}, [9]),
        ("uint16", {"missing_value": "-3"}, [65533]),
        ("uint8", {"valid_min": "5", "valid_max": "300"}, [0]),
        ("float32", {"missing_value": "1e20"}, [np.float32(1e20)]),
        ("float32", {"valid_max": "1e300", "missing_value": "none"}, []),
    ],
)
def test_an_attribute_beyond_the_type_makes_no_gap(kind: str, attributes: dict[str, str], gaps: list[float]) -> None:
    further: dict[str, list[float]] = {"uint16": [65533], "float32": [1e20]}
    values = np.array([0, 7, 9, *further.get(kind, [])], kind)
    found = _cf_gaps(values, attributes)
    assert values[found].tolist() == gaps


# What is refused


@pytest.mark.parametrize(
    ("beside", "said", "words"),
    [
        (".msk", "", "a mask in r.tif.msk"),
        (".aux.xml", "<NoDataValue>-9999</NoDataValue>", "a no-data value in r.tif.aux.xml"),
        (".aux.xml", "<Scale>0.01</Scale><Offset>0</Offset>", "a scale in r.tif.aux.xml"),
        (".aux.xml", "<Scale>0.01</Scale></PAMRasterBand><PAMRasterBand band='2'><Scale>1</Scale>", "a scale in"),
        (".aux.xml", "<Scale>1</Scale><Metadata><MDI key='STATISTICS_MEAN'>1</MDI></Metadata>", ""),
        (".aux.xml", "<broken", ""),
    ],
)
def test_gaps_and_scale_in_a_file_beside_a_raster_are_not_overlooked(
    product: Path, tmp_path: Path, beside: str, said: str, words: str
) -> None:
    """Floemap reads no file beside a raster; one that would make other values of it is named."""
    left, _, _, top = corners(grid())
    ones = np.ones(SHAPE, np.float32)
    path = write_raster(tmp_path / "r.tif", ones, Affine(PIXEL_M, 0, left, 0, -PIXEL_M, top), "EPSG:3413")
    path.with_name(path.name + beside).write_text(
        f"<PAMDataset><PAMRasterBand band='1'>{said}</PAMRasterBand></PAMDataset>"
    )
    if not words:
        layer_from_raster(product, path, "x", RasterSettings())
        return
    with pytest.raises(GridError, match=words) as e:
        layer_from_raster(product, path, "x", RasterSettings())
    assert "gdal_translate" in str(e.value.hint)


@pytest.mark.parametrize(("gap", "refused"), [(1e20, True), (-9.97e36, True), (-9999, False)])
def test_an_undeclared_gap_does_not_make_all_values_0(product: Path, tmp_path: Path, gap: float, refused: bool) -> None:
    left, _, _, top = corners(grid())
    values = np.full(SHAPE, 271.5, np.float32)
    values[:5] = gap
    path = write_raster(tmp_path / "r.tif", values, Affine(PIXEL_M, 0, left, 0, -PIXEL_M, top), "EPSG:3413")
    if refused:
        with pytest.raises(FloemapError, match="most of the others are 0") as e:
            layer_from_raster(product, path, "x", RasterSettings())
        assert "declare them" in str(e.value.hint)
    else:
        layer_from_raster(product, path, "x", RasterSettings())


def test_rasters_that_cannot_be_a_layer(product: Path, tmp_path: Path) -> None:
    left, _, _, top = corners(grid())
    here = Affine(PIXEL_M, 0, left, 0, -PIXEL_M, top)
    ones = np.ones(SHAPE, np.float32)
    good = write_raster(tmp_path / "good.tif", ones, here, "EPSG:3413")
    text = tmp_path / "text.tif"
    text.write_text("not a raster")
    vrt = tmp_path / "other.vrt"
    vrt.write_text(f'<VRTDataset rasterXSize="1" rasterYSize="1"><SourceFilename>{good}</SourceFilename></VRTDataset>')
    elsewhere = Affine(PIXEL_M, 0, left + 9e5, 0, -PIXEL_M, top)
    cases: list[tuple[Path, dict[str, Any], type[FloemapError], str]] = [
        (write_raster(tmp_path / "far.tif", ones, elsewhere, "EPSG:3413"), {}, GridError, "does not overlap"),
        (write_raster(tmp_path / "nan.tif", ones * np.nan, here, "EPSG:3413"), {}, GridError, "no value"),
        (write_raster(tmp_path / "none.tif", ones, here, None), {}, GridError, "no georeference"),
        (good, {"band": 2}, ConfigError, "has no band 2; the number of its bands is 1"),
        (good, {"variable": "t2m"}, ConfigError, "has no variable 't2m'"),
        (write_raster(tmp_path / "big.tif", ones * 1e6, here, "EPSG:3413"), {"step": 1}, FloemapError, "step of 100 "),
        (text, {}, FloemapError, "cannot be read as a raster"),
        (vrt, {}, FloemapError, "cannot be read as a raster"),
        (tmp_path / "absent.tif", {}, FloemapError, "does not exist"),
    ]
    for path, settings, error, words in cases:
        with pytest.raises(error, match=words) as e:
            layer_from_raster(product, path, "x", RasterSettings(**settings))
        assert e.value.hint or "band 2" in words or "exist" in words or "t2m" in words
    assert not (product / "layers").exists() or not any((product / "layers").iterdir())


@pytest.mark.parametrize("name", ["hh_db", "mask", "../x", "", "X", "a-b", "1a", "a" * 70, "a/b"])
def test_names_that_a_layer_may_not_have(product: Path, tmp_path: Path, name: str) -> None:
    with pytest.raises(ConfigError):
        layer_from_raster(
            product, write_raster(tmp_path / "a.tif", np.ones((2, 2)), Affine(1, 0, 0, 0, -1, 90), "EPSG:4326"), name
        )
    with pytest.raises(ConfigError):
        check_bands(["hh_db", "hh_db"] if name == "hh_db" else ["hh_db", name])


def test_bands_need_one_of_the_product() -> None:
    with pytest.raises(ConfigError, match="without a band of the product"):
        check_bands(["distance_to_land_km"])
    check_bands(["incidence_deg", "distance_to_land_km"])


def test_layers_that_do_not_belong_to_a_product(product: Path, land: Path, tmp_path: Path) -> None:
    raster = product / "product.tif"
    with pytest.raises(ProductError, match="lacks the layer distance_to_land_km") as e:
        scene_bands(product, ["hh_db", "distance_to_land_km"])
    assert f"floemap layer distance-to-land {product} --land FILE" in str(e.value)
    with pytest.raises(ProductError, match="lacks the layer wind") as e:
        scene_bands(product, ["hh_db", "wind"])
    assert f"floemap layer from-raster {product} FILE --name wind" in str(e.value)
    layer_distance_to_land(product, land)
    folder = product / "layers" / "distance_to_land_km"
    kept = tmp_path / "kept"
    shutil.copytree(folder, kept)

    def refused(words: str) -> None:
        with pytest.raises(FloemapError, match=words) as e:
            find_layer(raster, "distance_to_land_km")
        assert "--overwrite" in str(e.value) or "another grid" in words or "grids differ" in words
        shutil.rmtree(folder)
        shutil.copytree(kept, folder)

    other = write_prepared(tmp_path / "prepared" / "S1A_B", grid(corner=(0.0, 0.0)))
    shutil.copytree(folder, other / "layers" / "distance_to_land_km")
    with pytest.raises(ProductError, match="was made for another product"):
        find_layer(other / "product.tif", "distance_to_land_km")
    for damage in ("", "{", "[]", "{}", '{"layer": {"unit": "km"}}'):
        (folder / "layer.json").write_text(damage)
        refused("layer.json")
    (folder / "layer.tif").write_bytes((kept / "layer.tif").read_bytes()[:100])
    refused("is damaged")
    record = json.loads((kept / "layer.json").read_text())
    (folder / "layer.json").write_text(json.dumps(record | {"layer": record["layer"] | {"step": 0.1}}))
    refused("is not stored as layer.json says")
    box = grid((10, 10))
    write_cog(folder / "layer.tif", box, np.zeros((10, 10), np.int16), [BANDS[0]], nodata=NODATA)
    (folder / "layer.json").write_text(json.dumps(record | {"bytes": {}}))
    refused("grids differ")
    with rasterio.open(raster, "r+", IGNORE_COG_LAYOUT_BREAK="YES") as d:
        d.write(np.full(SHAPE, -1, np.int16), 1)
    refused("an earlier version of it")


# Values as stored, and reading


def test_values_are_stored_to_half_a_step_or_refused() -> None:
    band = InputBand("t", "K", 0.25, 200.0)
    values = np.array([200.0, 200.13, 150.0, np.nan, 8391.75], np.float32)
    assert band.encode(values).tolist() == [0, 1, -200, NODATA, 32767]
    assert np.array_equal(band.decode(band.encode(values)), [200, 200.25, 150, np.nan, 8391.75], equal_nan=True)
    with pytest.raises(FloemapError, match=r"from 200 to 8400 K.*step of 1 would do"):
        band.encode(np.array([200.0, 8400.0]))
    assert [step_for(v) for v in (0, 1, 32767, 32768, 327.0, 3.2)] == [1, 1e-4, 1, 10, 0.01, 1e-4]
    with pytest.raises(ConfigError, match="must be positive"):
        InputBand("t", "K", 0.0)


def test_other_steps_give_the_same_physical_values() -> None:
    fine, coarse = InputBand("t", "K", 0.01), InputBand("t", "K", 0.1, 5.0)
    stored = np.array([NODATA, 0, 1000, -1000], np.int16)
    again = recoded(stored, fine, coarse)
    assert np.allclose(coarse.decode(again)[1:], fine.decode(stored)[1:]) and again[0] == NODATA
    with pytest.raises(FloemapError, match="do not fit"):
        recoded(np.array([30000], np.int16), InputBand("t", "K", 10.0), fine)


def test_where_a_needed_band_lacks_data_all_do(product: Path, tmp_path: Path) -> None:
    left, _, _, top = corners(grid())
    for name, missing, rows in (("needed", "scene", slice(0, 5)), ("other", "mean", slice(3, 9))):
        values = np.ones(SHAPE, np.float32)
        values[rows] = np.nan
        path = write_raster(tmp_path / f"{name}.tif", values, Affine(PIXEL_M, 0, left, 0, -PIXEL_M, top), "EPSG:3413")
        layer_from_raster(product, path, name, RasterSettings.checked(missing=missing, resampling="nearest"))
    bands = scene_bands(product, ["other", "hh_db", "needed"])
    assert bands.of_scene == (1, 2)
    with open_bands(product / "product.tif", bands) as opened:
        stored = opened.read((1, 0, 10, SHAPE[1]))
    gaps = stored == NODATA
    assert gaps[:, :4].all() and gaps[:, :, -10:].all(), "rows 1 to 4, and beyond the scene"
    assert gaps[0, 4:8].all() and not gaps[1:, 4:8, :-10].any(), "a gap in a band that a pixel does not need"
    assert not gaps[:, 8:, :-10].any()
    with rasterio.open(product / "product.tif") as d:
        assert np.array_equal(stored[1, 4:, :-10], d.read(1)[5:11, :-10])


# The command line


def test_from_the_command_line(product: Path, land: Path, tmp_path: Path) -> None:
    run = CliRunner().invoke
    done = run(app, ["layer", "distance-to-land", str(product), "--land", str(land), "--cap", "50"])
    assert done.exit_code == 0, done.output
    assert str(product / "layers" / "distance_to_land_km") in done.stdout
    assert "finished before" in run(
        app, ["layer", "distance-to-land", str(product), "--land", str(land), "--cap", "50"]
    ).stdout.replace("\n", " ")
    left, _, _, top = corners(grid())
    path = write_raster(
        tmp_path / "t.tif", np.full(SHAPE, 270.0, np.float32), Affine(PIXEL_M, 0, left, 0, -PIXEL_M, top), "EPSG:3413"
    )
    words = ["layer", "from-raster", str(product), str(path), "--name", "t_k", "--unit", "K", "--missing", "mean"]
    done = run(app, words)
    assert done.exit_code == 0, done.output
    facts = describe(product / "layers" / "t_k")
    assert facts.facts["kind"] == "layer" and facts.facts["simulated"]
    assert ("Band", "t_k, K, in steps of 0.01") in facts.lines
    assert run(app, [*words[:5], "hh_db"]).exit_code == 1
    assert scene_bands(product, ["hh_db", "t_k"]) == BandSet(
        (PRODUCT_BANDS["hh_db"], InputBand("t_k", "K", 0.01, missing="mean"))
    )
