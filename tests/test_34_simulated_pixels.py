"""Simulated pixels for a product's metadata: its own tables, its own geometry, a chart where it lies or moved there."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import pyproj
import pytest
import rasterio
import shapely
from typer.testing import CliRunner

from floemap.errors import ChartError, ConfigError
from floemap.icechart.read.sigrid3 import read_chart
from floemap.sentinel1.geolocation import GeoLocator
from floemap.sentinel1.multilook import calibrate
from floemap.sentinel1.safe.reader import open_measurement, open_scene, verify
from floemap.simulation.pixels import simulate_pixels
from floemap.simulation.world.chart_scenery import ChartScenery
from floemap.simulation.world.surface import Surface

SHARED = Path(__file__).resolve().parents[2] / "shared" / "data"
REAL = SHARED / "S1A_EW_GRDM_1SDH_20221130T014342_20221130T014446_046117_058549_BB15"
CIS_CHART = SHARED / "charts" / "cis_SGRDREA_20201102T.gpkg"
SHAPE = (300, 280)


@pytest.fixture(scope="module")
def metadata(tmp_path_factory: pytest.TempPathFactory, write_small: Callable[..., Path]) -> Path:
    """A product whose pixel files are empty, with a cloud bucket's names."""
    path = write_small(tmp_path_factory.mktemp("metadata"), naming="cloud")
    for tiff in (path / "measurement").iterdir():
        tiff.write_bytes(b"")
    (path / "SIMULATED.txt").unlink()
    return path


def smooth() -> dict[str, np.ndarray]:
    hh = np.linspace(0.02, 0.2, SHAPE[1], dtype=np.float32) * np.linspace(1, 1.5, SHAPE[0], dtype=np.float32)[:, None]
    return {"HH": hh, "HV": hh / 8}


def test_pixels_fit_the_metadata(metadata: Path, tmp_path: Path) -> None:
    sigma0 = smooth()
    made = simulate_pixels(metadata, tmp_path, sigma0, looks=None, noise_departure=0.0)
    assert made.path == tmp_path / metadata.name
    assert made.placement is None
    scene = open_scene(made.path)
    assert scene.simulated
    for p in scene.polarisations:
        verify(scene, p)
    cells = calibrate(scene, looks=1)
    valid = cells.power[..., 2] > 0
    assert valid.mean() > 0.9
    np.testing.assert_allclose(cells.power[valid, 0], sigma0["HH"][valid], rtol=0.02)
    np.testing.assert_allclose(cells.power[valid, 1], sigma0["HV"][valid], atol=1.5e-4, rtol=0.03)


def test_metadata_stay_as_they_were_and_pixels_are_called_simulated(metadata: Path, tmp_path: Path) -> None:
    made = simulate_pixels(metadata, tmp_path, smooth()).path
    kept = {p.relative_to(metadata) for p in metadata.rglob("*.xml")}
    assert len(kept) == 6
    pixels = r"(<outputData(Mean|StdDev)>\s*<re>)[^<]*"
    for name in kept:
        before, after = (re.sub(pixels, r"\1", (p / name).read_text()) for p in (metadata, made))
        assert before == after
    scene = open_scene(made)
    for p in scene.polarisations:  # what the annotation says of the pixels is true of these
        with open_measurement(scene, p) as m:
            dn = m.read(0, SHAPE[0])
        assert scene.dn_mean[p] == pytest.approx(dn[dn > 0].mean(), rel=1e-5)
        assert scene.dn_std[p] == pytest.approx(dn[dn > 0].std(), rel=1e-4)
    assert "simulated" in (made / "SIMULATED.txt").read_text()
    for tiff in (made / "measurement").iterdir():
        with rasterio.open(tiff) as t:
            assert "SIMULATED" in t.tags()["TIFFTAG_IMAGEDESCRIPTION"]


def test_a_zip_of_metadata_serves_too(metadata: Path, tmp_path: Path) -> None:
    shutil.make_archive(str(tmp_path / metadata.name), "zip", metadata.parent, metadata.name)
    made = simulate_pixels(tmp_path / f"{metadata.name}.zip", tmp_path / "out", smooth()).path
    assert made.name == metadata.name
    assert open_scene(made).shape == SHAPE


def test_same_seed_same_bytes(metadata: Path, tmp_path: Path) -> None:
    paths = [
        simulate_pixels(metadata, tmp_path / str(i), smooth(), seed=seed, threads=1 + i).path
        for i, seed in enumerate((5, 5, 6))
    ]
    first, again, other = ({f.relative_to(p): f.read_bytes() for f in p.rglob("*") if f.is_file()} for p in paths)
    assert first == again
    assert first != other


def test_impossible_requests(metadata: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="own folder"):
        simulate_pixels(metadata, metadata.parent, smooth())
    with pytest.raises(ConfigError, match="both sigma0 and a chart"):
        simulate_pixels(metadata, tmp_path, smooth(), chart=tmp_path / "chart.shp")
    assert not list(tmp_path.iterdir())


def write_chart(path: Path, polygons: list[tuple[Any, dict[str, str]]], crs: str) -> Path:
    usual = {"CT": "92", "CA": "-9", "SA": "-9", "FA": "-9", "CB": "-9", "SB": "-9", "FB": "-9"}
    rows = [usual | {"POLY_TYPE": "I"} | codes for _, codes in polygons]
    gpd.GeoDataFrame(rows, geometry=[g for g, _ in polygons], crs=crs).to_file(path, driver="GPKG")
    return path


@pytest.fixture(scope="module")
def halves_chart(metadata: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, GeoLocator]:
    """Old ice on the first lines of the scene, water on the last, where they are, in EPSG:3413."""
    locator = GeoLocator(open_scene(metadata, pixels=False))
    to_map = pyproj.Transformer.from_crs("EPSG:4326", "EPSG:3413", always_xy=True)

    def part(first: float, last: float) -> Any:
        lines = [first, first, last, last]
        lon, lat = locator.to_ground(np.array(lines), np.array([-40.0, 320, 320, -40]))
        return shapely.Polygon(np.column_stack(to_map.transform(lon, lat)))

    polygons = [(part(-40, 149.5), {"SA": "95"}), (part(149.5, 340), {"POLY_TYPE": "W", "CT": "00"})]
    return write_chart(tmp_path_factory.mktemp("chart") / "halves.gpkg", polygons, "EPSG:3413"), locator


def test_a_chart_that_covers_the_scene_stays_in_its_place(
    metadata: Path, halves_chart: tuple[Path, GeoLocator], tmp_path: Path
) -> None:
    made = simulate_pixels(metadata, tmp_path, chart=halves_chart[0], month=2)
    assert made.placement is not None
    assert made.placement.in_place
    power = calibrate(open_scene(made.path), looks=1).power
    # Old ice is brighter than water in HV at every angle and wind; lines bend a little on the chart's map.
    hv_db = 10 * np.log10(np.maximum(power[..., 1].mean(axis=1), 1e-9))
    assert hv_db[40:140].min() > -21
    assert hv_db[160:].max() < -23


def test_concentrations_become_areas(halves_chart: tuple[Path, GeoLocator], tmp_path: Path) -> None:
    """Floes of each type cover what the chart says of the polygon, within what some hundred floes can tell."""
    codes = {"CT": "90", "CA": "50", "SA": "95", "CB": "30", "SB": "86", "CC": "10", "SC": "83"}
    box = shapely.box(0, -2_000_000, 600_000, -1_400_000)
    chart = read_chart(write_chart(tmp_path / "c.gpkg", [(box, codes)], "EPSG:3413"))
    bounds = 50_000.0, -1_950_000.0, 550_000.0, -1_450_000.0
    scenery = ChartScenery(chart, pyproj.CRS("EPSG:3413"), bounds, seed=0)
    assert scenery.placement.in_place
    x, y = np.meshgrid(np.arange(60_000, 540_000, 500.0), np.arange(-1_460_000, -1_940_000, -500.0))
    surface = scenery.truth(x.astype(np.float32), y.astype(np.float32)).surface
    share = np.bincount(surface.ravel(), minlength=len(Surface)) / surface.size
    first_year = share[Surface.FIRST_YEAR] + share[Surface.FIRST_YEAR_DEFORMED]
    found = [share[Surface.OLD], first_year, share[Surface.YOUNG], share[Surface.WATER]]
    np.testing.assert_allclose(found, [0.5, 0.3, 0.1, 0.1], atol=0.06)


def test_what_is_shown_does_not_depend_on_blocks(halves_chart: tuple[Path, GeoLocator]) -> None:
    chart = read_chart(halves_chart[0])
    left, bottom, right, top = shapely.total_bounds(chart.geometries)
    scenery = ChartScenery(chart, chart.crs, (left, bottom, right, top), seed=0)
    x, y = np.meshgrid(np.linspace(left, right, 90), np.linspace(top, bottom, 80))
    x, y = x.astype(np.float32), y.astype(np.float32)
    whole, part = scenery.truth(x, y), scenery.truth(x[30:50], y[30:50])
    np.testing.assert_array_equal(whole.surface[30:50], part.surface)
    np.testing.assert_array_equal(whole.texture_hv[30:50], part.texture_hv)


def test_a_small_chart_elsewhere_is_moved_and_grown(metadata: Path, tmp_path: Path) -> None:
    west, east = shapely.box(0, 0, 40_000, 60_000), shapely.box(40_000, 0, 80_000, 60_000)
    chart = write_chart(tmp_path / "c.gpkg", [(west, {"SA": "95"}), (east, {"SA": "81"})], "EPSG:3031")
    made = simulate_pixels(metadata, tmp_path / "out", chart=chart, month=2)
    assert made.placement is not None
    assert not made.placement.in_place
    assert made.placement.scale > 3
    moved = read_chart(made.chart)
    np.testing.assert_array_equal(moved.codes("sa"), [95, 81])
    growth = shapely.area(moved.geometries) / shapely.area(read_chart(chart).geometries)
    np.testing.assert_allclose(growth, made.placement.scale**2, rtol=1e-6)
    hv = calibrate(open_scene(made.path), looks=4).power[..., 1]
    assert np.quantile(hv, 0.85) > 10 * np.quantile(hv, 0.3)  # old ice next to new


def test_a_chart_of_land_alone_is_refused(metadata: Path, tmp_path: Path) -> None:
    chart = write_chart(tmp_path / "c.gpkg", [(shapely.box(0, 0, 9e5, 9e5), {"POLY_TYPE": "L"})], "EPSG:3031")
    with pytest.raises(ChartError, match="neither ice nor water"):
        simulate_pixels(metadata, tmp_path / "out", chart=chart)
    assert not list((tmp_path / "out").glob("*"))


def test_the_command(metadata: Path, halves_chart: tuple[Path, GeoLocator], tmp_path: Path) -> None:
    from floemap.cli import simulate  # noqa: F401  # registers the commands
    from floemap.cli.app import app

    run = CliRunner().invoke(
        app, ["simulate", "pixels", str(metadata), "--out", str(tmp_path / "o"), "--chart", str(halves_chart[0])]
    )
    assert run.exit_code == 0, run.output
    assert str(tmp_path / "o" / metadata.name) in run.output
    run = CliRunner().invoke(app, ["simulate", "pixels", str(tmp_path / "none"), "--out", str(tmp_path / "p")])
    assert run.exit_code == 1
    assert "does not exist" in run.output
    assert not (tmp_path / "p").exists()


@pytest.mark.skipif(not (REAL.exists() and CIS_CHART.exists()), reason="the real product and chart are not here")
def test_a_real_chart_finds_a_place_on_a_real_scene(tmp_path: Path) -> None:
    from floemap.simulation.pixels import _scenery_rows

    scene = open_scene(REAL, pixels=False)
    rows, laid = _scenery_rows(scene, GeoLocator(scene), CIS_CHART, 11, 0)
    assert laid is not None
    assert not laid.placement.in_place
    shown = rows(slice(5000, 5010))
    assert shown["HH"].shape == (10, scene.shape[1])
    assert np.isfinite(shown["HV"]).all()
    assert len(np.unique(rows.surface[2500:2505])) >= 3
