"""From product to bands: known backscatter goes in and comes out, for every form of product."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyproj
import pytest
import rasterio
import xarray as xr
from numpy.typing import NDArray
from scipy.ndimage import map_coordinates

from floemap.cog import read_geobox
from floemap.errors import ConfigError, FloemapError, GridError
from floemap.sentinel1.bands import open_product
from floemap.sentinel1.encoding import NODATA
from floemap.sentinel1.geolocation import GeoLocator
from floemap.sentinel1.metadata import Scene
from floemap.sentinel1.prepare import PreparedProduct, prepare
from floemap.sentinel1.radiometry import FLOOR_DB
from floemap.sentinel1.safe.reader import open_scene
from floemap.sentinel1.settings import PrepareSettings
from floemap.simulation.safe.spec import ProductSpec
from floemap.simulation.safe.writer import write_safe

FORMS: dict[str, dict[str, Any]] = {
    "noise by range and azimuth": {},
    "noise by range and azimuth, cloud names": {"naming": "cloud"},
    "noise vectors": {"noise_format": "vectors", "ipf_version": "002.82"},
    "noise subtracted by the processor": {"denoised": True},
    "COG": {"cog": True},
    "zip": {"container": "zip"},
}


def prepared(
    folder: Path, spec: ProductSpec, sigma0: dict[str, NDArray[np.float32]], settings: PrepareSettings, **kwargs: Any
) -> tuple[Scene, xr.Dataset, PreparedProduct]:
    product = write_safe(folder / "in", spec, sigma0, looks=kwargs.pop("looks", None))
    result = prepare(product, folder / "out", settings, quicklook=False, **kwargs)
    return open_scene(product), open_product(result.folder), result


def truth_db(
    scene: Scene, dataset: xr.Dataset, sigma0: dict[str, NDArray[np.float32]]
) -> tuple[dict[str, NDArray[np.float64]], NDArray[np.bool_]]:
    """True sigma nought in dB at a dataset's pixel centres, linear in power, and where all that it needs is image."""
    x, y = np.meshgrid(dataset.x.values, dataset.y.values)
    crs = pyproj.CRS.from_wkt(dataset.spatial_ref.attrs["crs_wkt"])
    lon, lat = pyproj.Transformer.from_crs(crs, "EPSG:4326", always_xy=True).transform(x, y)
    line, pixel = GeoLocator(scene).to_image(lon, lat)
    found = {p: 10 * np.log10(map_coordinates(s, [line, pixel], order=1, mode="nearest")) for p, s in sigma0.items()}
    margin = 4
    inside = (line > margin) & (line < scene.shape[0] - margin) & (pixel > margin) & (pixel < scene.shape[1] - margin)
    return found, inside


@pytest.mark.parametrize("form", [*FORMS])
def test_known_backscatter_comes_out(
    tmp_path: Path,
    small_spec: Callable[..., ProductSpec],
    small_sigma0: Callable[[ProductSpec], dict[str, NDArray[np.float32]]],
    small_settings: PrepareSettings,
    form: str,
) -> None:
    """Without speckle, and with noise as annotated, within what rounding of DN and interpolation cost."""
    spec = small_spec(noise_departure=0, **FORMS[form])
    sigma0 = small_sigma0(spec)
    scene, dataset, _ = prepared(tmp_path, spec, sigma0, small_settings)
    truth, inside = truth_db(scene, dataset, sigma0)
    valid = (dataset.mask.values & 1).astype(bool) & inside
    assert valid.sum() > 0.85 * scene.shape[0] * scene.shape[1] / 4
    for p, name in (("HH", "hh_db"), ("HV", "hv_db")):
        error = dataset[name].values[valid] - truth[p][valid]
        assert abs(np.median(error)) < 0.02, name
        assert np.percentile(abs(error), 99) < 0.15, name


@pytest.mark.parametrize("form", ["noise by range and azimuth", "noise vectors"])
def test_speckle_is_all_that_is_added(
    tmp_path: Path,
    small_spec: Callable[..., ProductSpec],
    small_sigma0: Callable[[ProductSpec], dict[str, NDArray[np.float32]]],
    small_settings: PrepareSettings,
    form: str,
) -> None:
    spec = small_spec(noise_departure=0, **FORMS[form])
    sigma0 = small_sigma0(spec)
    scene, dataset, _ = prepared(tmp_path, spec, sigma0, small_settings, looks=10)
    truth, inside = truth_db(scene, dataset, sigma0)
    valid = (dataset.mask.values & 1).astype(bool) & inside
    for p, name in (("HH", "hh_db"), ("HV", "hv_db")):
        ratio = 10 ** ((dataset[name].values[valid] - truth[p][valid]) / 10)
        count = valid.sum()
        assert ratio.mean() == pytest.approx(1, abs=6 * ratio.std() / np.sqrt(count) + 0.005), name
    # 10 looks a pixel, 4 pixels a cell, smoothed further by interpolation between cells.
    hh = 10 ** ((dataset.hh_db.values[valid] - truth["HH"][valid]) / 10)
    assert 0.5 / np.sqrt(40) < hh.std() < 1.3 / np.sqrt(40)


def test_noise_left_in_is_brighter(tmp_path: Path, small_product: Path) -> None:
    power = {}
    for noise in ("annotated", "none"):
        result = prepare(small_product, tmp_path / noise, PrepareSettings(resolution_m=2000, noise=noise))
        power[noise] = 10 ** (open_product(result.folder).hv_db.values / 10)
    assert np.nanmean(power["none"]) > np.nanmean(power["annotated"])
    assert (result.folder / "quicklook.png").stat().st_size > 10_000


def test_noise_in_unknown_units_is_left_in_with_a_warning(
    tmp_path: Path,
    small_spec: Callable[..., ProductSpec],
    small_sigma0: Callable[[ProductSpec], dict[str, NDArray[np.float32]]],
    small_settings: PrepareSettings,
    caplog: pytest.LogCaptureFixture,
) -> None:
    spec = small_spec(noise_format="vectors", ipf_version="002.36")
    _, _, result = prepared(tmp_path, spec, small_sigma0(spec), small_settings)
    record = json.loads(result.record.read_text())
    assert "unknown units" in record["thermal_noise"]["HV"]["done"]
    assert "unknown units" in caplog.text


def test_already_denoised_is_not_denoised_again(
    tmp_path: Path,
    small_spec: Callable[..., ProductSpec],
    small_sigma0: Callable[[ProductSpec], dict[str, NDArray[np.float32]]],
    small_settings: PrepareSettings,
) -> None:
    spec = small_spec(denoised=True)
    _, _, result = prepared(tmp_path, spec, small_sigma0(spec), small_settings)
    record = json.loads(result.record.read_text())
    assert record["thermal_noise"]["HV"]["done"] == "nothing subtracted: the processor did already"


def test_below_the_noise_floor_is_flagged_and_stored_as_the_floor(
    tmp_path: Path, small_spec: Callable[..., ProductSpec], small_settings: PrepareSettings
) -> None:
    spec = small_spec(noise_departure=0)
    bright = np.full((spec.lines, spec.samples), 0.05, np.float32)
    _, dataset, result = prepared(tmp_path, spec, {"HH": bright, "HV": bright * 1e-6}, small_settings, looks=10)
    mask, valid = dataset.mask.values, ~np.isnan(dataset.hv_db.values)
    below = (mask & 4) > 0
    assert 0.2 < below.sum() / valid.sum() < 0.8, "speckle of pure noise lies on both sides of the floor"
    assert (dataset.hv_db.values[below] == np.float32(FLOOR_DB)).all()
    assert (dataset.hv_db.values[valid & ~below] > FLOOR_DB - 1e-3).all()
    assert not ((mask & 2) > 0).any()
    assert np.isfinite(dataset.hv_db.values[valid]).all()
    counted = json.loads(result.record.read_text())["pixels"]
    assert counted["hv_below_noise_floor"] == below.sum()
    assert counted["valid"] == valid.sum()


def test_file_has_names_units_and_honest_metadata(
    tmp_path: Path, small_product: Path, small_settings: PrepareSettings
) -> None:
    result = prepare(small_product, tmp_path, small_settings, quicklook=False)
    with rasterio.open(result.raster) as d:
        assert d.descriptions == ("hh_db", "hv_db", "incidence_deg", "mask")
        assert d.units == ("dB", "dB", "degree", "1")
        assert d.nodata == NODATA
        assert d.tags()["simulated"] == "yes"
        assert d.crs.to_epsg() == 3413
        stored = d.read()
        none = stored[3] == 0
        assert (stored[:3, none] == NODATA).all()
        assert (stored[:3, ~none] > NODATA).all()
    item = json.loads((result.folder / "item.json").read_text())
    assert item["properties"]["simulated"] is True
    assert item["properties"]["proj:code"] == "EPSG:3413"
    assert item["properties"]["sar:polarizations"] == ["HH", "HV"]
    assert [b["unit"] for b in item["assets"]["product"]["raster:bands"]] == ["dB", "dB", "degree", "1"]
    record = json.loads(result.record.read_text())
    assert record["simulated"] is True
    assert record["configuration"]["resolution_m"] == 2000
    locator = GeoLocator(open_scene(small_product))
    line, pixel = locator.to_image(*np.array(record["corners_lonlat_deg"]).T)
    last = np.array(locator.shape) - 1
    assert line == pytest.approx([0, 0, last[0], last[0]], abs=1e-3)
    assert pixel == pytest.approx([0, last[1], last[1], 0], abs=1e-3)


def test_item_is_valid_stac(tmp_path: Path, small_product: Path, small_settings: PrepareSettings) -> None:
    import pystac

    bare = prepare(small_product, tmp_path, small_settings, quicklook=False)
    assert {"product"} == set(pystac.Item.from_file(str(bare.folder / "item.json")).assets)
    result = prepare(small_product, tmp_path, small_settings)
    assert not result.skipped, "the picture was missing"
    assert prepare(small_product, tmp_path, small_settings, quicklook=False).skipped
    item = pystac.Item.from_file(str(result.folder / "item.json"))
    assert item.common_metadata.start_datetime < item.common_metadata.end_datetime
    assert {"product", "quicklook"} == set(item.assets)
    for asset in item.assets.values():
        assert "://" not in asset.href


def test_incidence_angle_is_the_scenes(tmp_path: Path, small_product: Path, small_settings: PrepareSettings) -> None:
    result = prepare(small_product, tmp_path, small_settings, quicklook=False)
    dataset = open_product(result.folder)
    x, y = np.meshgrid(dataset.x.values, dataset.y.values)
    lon, lat = pyproj.Transformer.from_crs("EPSG:3413", "EPSG:4326", always_xy=True).transform(x, y)
    locator = GeoLocator(open_scene(small_product))
    expected = locator.incidence_deg(*locator.to_image(lon, lat))
    valid = dataset.mask.values > 0
    assert abs(dataset.incidence_deg.values - expected)[valid].max() < 0.02


def test_rioxarray_reads_the_dataset(tmp_path: Path, small_product: Path, small_settings: PrepareSettings) -> None:
    import rioxarray  # noqa: F401

    result = prepare(small_product, tmp_path, small_settings, quicklook=False)
    dataset = open_product(result.folder)
    assert dataset.rio.crs.to_epsg() == 3413
    assert dataset.rio.transform() == read_geobox(result.raster).transform
    assert dataset.hh_db.attrs["units"] == "dB"


def test_like_takes_another_rasters_grid(tmp_path: Path, small_product: Path, small_settings: PrepareSettings) -> None:
    whole = prepare(small_product, tmp_path / "a", small_settings, quicklook=False)
    box = read_geobox(whole.raster)[40:100, 30:130]
    with rasterio.open(
        tmp_path / "like.tif", "w", driver="GTiff", height=60, width=100, count=1, dtype="uint8",
        crs=box.crs.to_wkt(), transform=box.transform,
    ):  # fmt: skip
        pass
    part = prepare(small_product, tmp_path / "b", PrepareSettings(), like=tmp_path / "like.tif", quicklook=False)
    with rasterio.open(whole.raster) as a, rasterio.open(part.raster) as b:
        whole_bands, part_bands = a.read()[:, 40:100, 30:130], b.read()
    assert part_bands.shape == whole_bands.shape
    assert (part_bands[3] == whole_bands[3]).mean() > 0.999
    both = (part_bands[3] > 0) & (whole_bands[3] > 0)
    assert abs(part_bands[:3].astype(int) - whole_bands[:3])[:, both].max() <= 2, "0.02 dB: another lattice"


def test_a_rotated_grid_is_refused(tmp_path: Path, small_product: Path) -> None:
    with rasterio.open(
        tmp_path / "like.tif", "w", driver="GTiff", height=60, width=100, count=1, dtype="uint8", crs="EPSG:3413",
        transform=rasterio.Affine(2000, 0, -1e5, 0, -2000, -1e6) * rasterio.Affine.rotation(30),
    ):  # fmt: skip
        pass
    with pytest.raises(GridError, match=r"rotated or sheared grid.*Warp it"):
        prepare(small_product, tmp_path / "out", like=tmp_path / "like.tif", quicklook=False)


def test_overviews_of_a_product_are_means_of_power(
    tmp_path: Path,
    small_spec: Callable[..., ProductSpec],
    small_sigma0: Callable[[ProductSpec], dict[str, NDArray[np.float32]]],
) -> None:
    """Water with bright floes: the mean of decibels would be some dB too low."""
    spec = small_spec(lines=1300, samples=1100, pixel_spacing_m=300.0)
    sigma0 = {
        p: np.where(np.indices((1300, 1100)).sum(0) // 3 % 4 == 0, 0.2, 1e-3).astype(np.float32) for p in ("HH", "HV")
    }
    _, dataset, result = prepared(tmp_path, spec, sigma0, PrepareSettings(resolution_m=600), looks=10)
    full = 10 ** (dataset.hh_db.values / 10)
    rows, cols = full.shape[0] // 2 * 2, full.shape[1] // 2 * 2
    blocks = full[:rows, :cols].reshape(rows // 2, 2, cols // 2, 2)
    whole = np.isfinite(blocks).all(axis=(1, 3))
    with rasterio.open(result.raster, overview_level=0) as d:
        half = d.read(1)[: rows // 2, : cols // 2] * 0.01
    assert abs(half[whole] - 10 * np.log10(blocks.mean(axis=(1, 3))[whole])).max() < 0.011


def test_grid_that_misses_the_scene_is_refused(tmp_path: Path, small_product: Path) -> None:
    with rasterio.open(
        tmp_path / "far.tif", "w", driver="GTiff", height=10, width=10, count=1, dtype="uint8", crs="EPSG:3031",
        transform=rasterio.Affine(2000, 0, 0, 0, -2000, 0),
    ):  # fmt: skip
        pass
    with pytest.raises(GridError, match="no pixel"):
        prepare(small_product, tmp_path / "out", PrepareSettings(), like=tmp_path / "far.tif", quicklook=False)
    assert not (tmp_path / "out").exists()
    with pytest.raises(ConfigError, match="a CRS and a raster"):
        settings = PrepareSettings(crs="EPSG:3413")
        prepare(small_product, tmp_path / "out", settings, like=tmp_path / "far.tif", quicklook=False)


@pytest.mark.parametrize("crs", ["EPSG:3575", "EPSG:32626", "EPSG:3995"])
def test_any_projected_crs(
    tmp_path: Path,
    small_spec: Callable[..., ProductSpec],
    small_sigma0: Callable[[ProductSpec], dict[str, NDArray[np.float32]]],
    crs: str,
) -> None:
    spec = small_spec(noise_departure=0, centre_lon=-25)
    sigma0 = small_sigma0(spec)
    settings = PrepareSettings(resolution_m=2000, crs=crs)
    scene, dataset, _ = prepared(tmp_path, spec, sigma0, settings)
    truth, inside = truth_db(scene, dataset, sigma0)
    valid = (dataset.mask.values > 0) & inside
    assert np.percentile(abs(dataset.hh_db.values - truth["HH"])[valid], 99) < 0.15


@pytest.mark.parametrize("place", [(170, -75), (180, 70), (20, 89.8)])
def test_south_dateline_and_pole(
    tmp_path: Path,
    small_spec: Callable[..., ProductSpec],
    small_sigma0: Callable[[ProductSpec], dict[str, NDArray[np.float32]]],
    small_settings: PrepareSettings,
    place: tuple[float, float],
) -> None:
    spec = small_spec(noise_departure=0, centre_lon=place[0], centre_lat=place[1])
    sigma0 = small_sigma0(spec)
    scene, dataset, _ = prepared(tmp_path, spec, sigma0, small_settings)
    truth, inside = truth_db(scene, dataset, sigma0)
    valid = (dataset.mask.values > 0) & inside
    assert valid.sum() > 0.85 * scene.shape[0] * scene.shape[1] / 4
    assert np.percentile(abs(dataset.hh_db.values - truth["HH"])[valid], 99) < 0.15


def test_same_input_gives_the_same_bytes(tmp_path: Path, small_product: Path, small_settings: PrepareSettings) -> None:
    first = prepare(small_product, tmp_path / "a", small_settings)
    second = prepare(small_product, tmp_path / "b", small_settings)
    for name in ("product.tif", "item.json", "quicklook.png"):
        assert (first.folder / name).read_bytes() == (second.folder / name).read_bytes(), name


def test_open_product_refuses_another_raster(tmp_path: Path) -> None:
    with rasterio.open(
        tmp_path / "a.tif", "w", driver="GTiff", height=10, width=10, count=1, dtype="uint8", crs="EPSG:3413",
        transform=rasterio.Affine(80, 0, 0, 0, -80, 0),
    ):  # fmt: skip
        pass
    with pytest.raises(FloemapError, match="floemap prepare"):
        open_product(tmp_path / "a.tif")
    with pytest.raises(FloemapError):
        open_product(Path(tmp_path / "none"))


def test_preparing_a_product_imports_no_library_of_charts_or_models(tmp_path: Path, small_product: Path) -> None:
    """They would be imported before the first pixel is read."""
    code = (
        "import contextlib, sys\nfrom floemap.cli.main import main\nwith contextlib.suppress(SystemExit):\n    main()\n"
        "print(sorted({'pandas', 'geopandas', 'pyogrio', 'xarray', 'torch'} & {*sys.modules}))"
    )
    call = [sys.executable, "-c", code, "prepare", str(small_product), "--out", str(tmp_path), "--resolution", "2000"]
    found = subprocess.run(call, capture_output=True, text=True, check=True)
    assert found.stdout.splitlines()[-1] == "[]"
