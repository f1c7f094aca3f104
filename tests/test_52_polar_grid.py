"""Concentrations of pixels, and their means on the common polar grid: by hand, conserved, in files that others read."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pyproj
import pytest
import rasterio
import xarray as xr
from affine import Affine
from odc.geo.geobox import GeoBox
from test_52_netcdf import ATTRIBUTES, START, STOP, draw_maps, write

from floemap.errors import GridError
from floemap.grid import image_crs, lonlat_extent
from floemap.inference.draftchart.fractions import OF_TYPE, TOTAL, fractions_of
from floemap.inference.draftchart.polar_grid import (
    CONFIDENCE,
    COVERAGE,
    cell_means,
    grid_variables,
    polar_grid,
    write_grid,
)
from floemap.inference.predict.scene_maps import STEPS, SceneMaps
from floemap.legend import IGNORE, SIX_CLASSES

NO = IGNORE


def maps_of(water: np.ndarray, first_year: np.ndarray, box: GeoBox) -> SceneMaps:
    """Maps with shares of water and first-year ice in percent, -1 for no data; the rest is old ice."""
    shape = water.shape
    p = np.zeros((len(SIX_CLASSES), *shape))
    keys = [c.key for c in SIX_CLASSES.classes]
    p[SIX_CLASSES.water], p[keys.index("first_year_ice")] = water / 100, first_year / 100
    p[keys.index("old_ice")] = 1 - p.sum(axis=0)
    stored = np.where(water < 0, NO, np.rint(p * STEPS)).astype(np.uint8)
    classes = np.where(water < 0, NO, p.argmax(axis=0)).astype(np.uint8)
    return SceneMaps(box, SIX_CLASSES, classes, stored, np.zeros(shape, np.uint8))


def box(rows: int, cols: int, pixel: float, left: float = 0, top: float = 0, crs: str = "EPSG:3413") -> GeoBox:
    return GeoBox((rows, cols), Affine(pixel, 0, left, 0, -pixel, top), crs)


# --- Pixels


def test_without_heads_the_total_is_what_water_leaves() -> None:
    found = fractions_of(maps_of(np.array([[100, 20, -1]]), np.array([[0, 50, -1]]), box(1, 3, 100)))
    assert found[TOTAL].tolist() == [[0, 160, NO]]
    assert found[OF_TYPE + "first_year_ice"].tolist() == [[0, 100, NO]]
    assert found[OF_TYPE + "old_ice"].tolist() == [[0, 60, NO]]
    assert OF_TYPE + "open_water" not in found


def test_a_predicted_total_is_shared_as_the_types_are() -> None:
    maps = maps_of(np.array([[20, 20]]), np.array([[60, 60]]), box(1, 2, 100))
    maps = replace(maps, values={"concentration": np.array([[100, NO]], np.uint8)})  # 0.5, unknown
    found = fractions_of(maps)
    assert found[TOTAL].tolist() == [[100, NO]]
    assert found[OF_TYPE + "first_year_ice"].tolist() == [[75, NO]]  # three quarters of the ice
    assert found[OF_TYPE + "old_ice"].tolist() == [[25, NO]]


# --- Cells


def test_means_are_weighted_by_the_area_of_pixels_within_cells() -> None:
    # Pixels of 400 m, cells of 1000 m: the first cell has all of the pixels 0 and 1, and half of pixel 2.
    values = np.tile(np.array([[10, 20, 60, 100, 200]], np.uint8), (5, 1))
    cells = box(2, 2, 1000)
    first, second = (400 * 10 + 400 * 20 + 200 * 60) / 1000, (200 * 60 + 400 * 100 + 400 * 200) / 1000
    np.testing.assert_allclose(cell_means(values, box(5, 5, 400), cells), [[first, second]] * 2, rtol=1e-5)
    values[:, 2] = NO  # of the rest alone
    np.testing.assert_allclose(cell_means(values, box(5, 5, 400), cells), [[15, 150]] * 2, rtol=1e-5)


def test_cells_that_data_cover_by_less_than_half_have_no_value() -> None:
    water = np.full((10, 20), 40)
    water[:, :6], water[:, 10:14] = -1, -1  # 0.6 of the first cell, 0.4 of the second
    found = grid_variables(maps_of(water, 60 - 0 * water, box(10, 20, 100)), box(1, 3, 1000))
    np.testing.assert_allclose(found[COVERAGE], [[40, 60, 0]], atol=1e-3)
    np.testing.assert_allclose(found[TOTAL], [[np.nan, 60, np.nan]], rtol=1e-5)
    np.testing.assert_allclose(found[CONFIDENCE], [[np.nan, 60, np.nan]], rtol=1e-5)


def test_the_grid_of_scenes_is_one_grid() -> None:
    for left, top in ((123_456.0, -987_654.0), (124_000.0, -988_000.0)):
        cells = polar_grid(box(50, 70, 80, left, top), 1000)
        assert (cells.transform.c % 1000, cells.transform.f % 1000) == (0, 0)
        inner, outer = box(50, 70, 80, left, top).boundingbox, cells.boundingbox
        assert outer.left <= inner.left < outer.left + 1000
        assert outer.right - 1000 < inner.right <= outer.right
        assert outer.bottom <= inner.bottom
        assert inner.top <= outer.top
    south = polar_grid(box(50, 70, 80, 400_000, -900_000, "EPSG:3031"), 1000)
    assert south.crs is not None
    assert south.crs.epsg == 3031


@pytest.mark.parametrize("crs", ["EPSG:32633", "EPSG:3413", "EPSG:6931"])
def test_ice_is_conserved_into_another_projection(crs: str) -> None:
    rng = np.random.default_rng(3)
    water = np.kron(rng.integers(0, 101, (10, 12)), np.ones((20, 20)))
    place = (480_000, 8_900_000) if crs == "EPSG:32633" else (500_000, -900_000)
    maps = maps_of(water, (100 - water) // 2, box(200, 240, 100, *place, crs))
    cells = polar_grid(maps.geobox, 1000)
    found = grid_variables(maps, cells)
    inside = np.nan_to_num(found[TOTAL]) * (found[COVERAGE] >= 50) * found[COVERAGE] / 100
    scale = maps.geobox.resolution.x**2 / 1000**2
    # The projections have scales of their own: compare means over the area, not areas.
    expected = float((100 - water).mean())
    got = inside.sum() / (found[COVERAGE] * (found[COVERAGE] >= 50) / 100).sum()
    assert got == pytest.approx(expected, abs=0.7), scale
    parts = sum(np.nan_to_num(v) for k, v in found.items() if k.startswith(OF_TYPE))
    np.testing.assert_allclose(parts, np.nan_to_num(found[TOTAL]), atol=1.0)


def test_a_grid_in_image_geometry_is_refused() -> None:
    maps = draw_maps()
    with pytest.raises(GridError, match="image geometry"):
        polar_grid(GeoBox(maps.geobox.shape, maps.geobox.transform, image_crs("S1A")), 1000)


def test_an_extent_holds_the_pole_and_crosses_the_dateline() -> None:
    assert lonlat_extent(box(10, 10, 10_000, -50_000, 50_000))[::2] == (-180, 180)
    assert lonlat_extent(box(10, 10, 10_000, -50_000, 50_000))[3] == 90
    # In EPSG:3413 the dateline runs along x = -y with x < 0.
    west, south, east, north = lonlat_extent(box(10, 10, 10_000, -1_050_000, 1_050_000))
    assert (west > 170, east < -170, south < north) == (True, True, True)


# --- Files


def test_others_read_the_grid(tmp_path: Path) -> None:
    maps = draw_maps()
    path = tmp_path / "grid.nc"
    write_grid(path, maps, 1000, start=START, stop=STOP, attributes=ATTRIBUTES, concentrations="estimated")
    cells = polar_grid(maps.geobox, 1000)
    expected = grid_variables(maps, cells)
    with rasterio.open(f"NETCDF:{path}:{TOTAL}") as d:  # GDAL
        assert d.crs.to_epsg() == 3413
        assert tuple(d.transform) == pytest.approx(tuple(cells.transform))
        np.testing.assert_allclose(d.read(1), expected[TOTAL], atol=0.051)
    with xr.open_dataset(path, engine="h5netcdf") as d:
        assert {TOTAL, CONFIDENCE, COVERAGE} < set(d.data_vars)
        lat, lon = d["lat"].values, d["lon"].values
        x, y = np.meshgrid(d["x"].values, d["y"].values)
        to_map = pyproj.Transformer.from_crs(4326, 3413, always_xy=True)
        np.testing.assert_allclose(to_map.transform(lon, lat), (x, y), atol=1e-3)
        assert d[TOTAL].attrs["standard_name"] == "sea_ice_area_fraction"
        assert d.attrs["simulated"] == "yes"


#: Global attributes that ACDD 1.3 names as highly recommended and recommended, without the variant spellings.
ACDD = (
    "title summary keywords Conventions id naming_authority history source processing_level comment acknowledgement "
    "license standard_name_vocabulary date_created creator_name creator_email creator_url institution project "
    "publisher_name publisher_email publisher_url geospatial_bounds geospatial_bounds_crs "
    "geospatial_bounds_vertical_crs geospatial_lat_min geospatial_lat_max geospatial_lon_min geospatial_lon_max "
    "geospatial_vertical_min geospatial_vertical_max geospatial_vertical_positive time_coverage_start "
    "time_coverage_end time_coverage_duration time_coverage_resolution"
)


def test_no_attribute_of_acdd_is_missing(tmp_path: Path) -> None:
    write(tmp_path / "chart.nc", draw_maps(), concentrations="estimated", probabilities=True)
    write_grid(
        tmp_path / "grid.nc", draw_maps(), 1000, start=START, stop=STOP, attributes=ATTRIBUTES, concentrations="x"
    )
    for name in ("chart.nc", "grid.nc"):
        with xr.open_dataset(tmp_path / name, engine="h5netcdf") as d:
            assert set(ACDD.split()) <= set(d.attrs)
            assert d.attrs["time_coverage_start"] == "2018-01-16T07:54:30Z"
            assert d.attrs["time_coverage_duration"] == "PT60S"
            for variable in d.data_vars.values():
                if variable.ndim > 2:
                    assert {"long_name", "units", "coverage_content_type"} <= set(variable.attrs) | {"units"}


def test_fractions_are_in_the_chart_too(tmp_path: Path) -> None:
    maps = draw_maps()
    with xr.open_dataset(write(tmp_path / "a.nc", maps, concentrations="estimated from x"), engine="h5netcdf") as d:
        stored = fractions_of(maps)
        known = stored[TOTAL] != NO
        np.testing.assert_allclose(d[TOTAL].values[0][known], stored[TOTAL][known] / 2, atol=0.5)
        assert np.isnan(d[TOTAL].values[0][~known]).all()
        assert d[OF_TYPE + "old_ice"].attrs["comment"] == "estimated from x."
