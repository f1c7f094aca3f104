"""The sea lies at the geoid: the table against other evaluations of the earth's gravity, and what it moves."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyproj
import pytest
from damage import changed_xml, copied, with_new_checksums
from lxml import etree
from typer.testing import CliRunner

from floemap.cli import main as cli_main  # noqa: F401  registers the commands
from floemap.cli.app import app
from floemap.errors import ConfigError
from floemap.info import describe
from floemap.sentinel1.geoid import GEOID, geoid_height_m
from floemap.sentinel1.geolocation import GeoLocator, SeaLevel
from floemap.sentinel1.metadata import Floats, Scene
from floemap.sentinel1.prepare import prepare
from floemap.sentinel1.range_doppler import geodetic, residuals_m
from floemap.sentinel1.safe.reader import open_scene
from floemap.sentinel1.settings import PrepareSettings

REAL = Path(__file__).resolve().parents[2] / "shared/data"
REAL /= "S1A_EW_GRDM_1SDH_20221130T014342_20221130T014446_046117_058549_BB15"
GEOD = pyproj.Geod(ellps="WGS84")

#: Name, latitude, longitude, height above WGS84 in metres by EGM96, an older model, as the package egm96 0.3.0 gives it
#: from GeographicLib's grid. The models differ by a metre or two in the Arctic.
EGM96 = [
    ("Fram Strait", 79.0, -5.0, 37.10),
    ("off East Greenland", 74.0, -15.0, 50.20),
    ("Denmark Strait", 67.0, -26.0, 60.11),
    ("Kara Sea", 76.0, 75.0, -5.48),
    ("Beaufort Sea", 73.0, -140.0, -8.19),
    ("Baffin Bay", 72.0, -65.0, 15.60),
    ("Ross Sea", -75.0, -170.0, -63.04),
    ("Weddell Sea", -70.0, -45.0, 1.72),
    ("north pole", 90.0, 0.0, 13.61),
    ("south pole", -90.0, 0.0, -29.53),
    ("Indian Ocean", 4.7, 78.8, -107.02),
]


@pytest.mark.parametrize(("name", "lat", "lon", "height"), EGM96)
def test_heights_by_another_model(name: str, lat: float, lon: float, height: float) -> None:
    assert float(geoid_height_m(lon, lat)) == pytest.approx(height, abs=2)


def test_heights_of_the_poles_by_the_models_own_makers() -> None:
    """EGM2008 at the poles, as published with its program: 14.899 and -30.150 m."""
    assert geoid_height_m(np.arange(-180, 360, 30.0), np.full(18, 90.0)) == pytest.approx(14.899, abs=0.05)
    assert geoid_height_m(np.arange(-180, 360, 30.0), np.full(18, -90.0)) == pytest.approx(-30.150, abs=0.05)


def test_the_table_goes_around_the_earth() -> None:
    lat = np.linspace(-90, 90, 37)
    for lon in (-180.0, -0.5, 0.0, 123.4):
        np.testing.assert_allclose(
            geoid_height_m(np.full(37, lon), lat), geoid_height_m(np.full(37, lon + 360), lat), atol=1e-9
        )
    fine = geoid_height_m(np.arange(-2, 2, 0.01), np.full(400, 70.3))
    assert abs(np.diff(fine)).max() < 0.05, "no step at the meridian of Greenwich"


# --- where pixels are


def _at_sea(scene: Scene, sea_level: SeaLevel) -> tuple[Floats, Floats, tuple[Floats, Floats]]:
    line, pixel = np.meshgrid(np.linspace(0, scene.shape[0] - 1, 12), np.linspace(0, scene.shape[1] - 1, 12))
    return line, pixel, GeoLocator(scene, "sea", sea_level).to_ground(line, pixel)


@pytest.fixture(scope="module")
def real() -> Scene:
    if not REAL.is_dir():
        pytest.skip("the real product's metadata is not here")
    return open_scene(REAL, pixels=False)


def test_the_geoid_moves_pixels_by_its_height_over_the_tangent_of_incidence(real: Scene) -> None:
    line, pixel, sea = _at_sea(real, "geoid")
    ellipsoid = GeoLocator(real, "sea", 0.0)
    moved_m = GEOD.inv(*sea, *ellipsoid.to_ground(line, pixel))[2]
    expected_m = abs(geoid_height_m(*sea)) / np.tan(np.radians(ellipsoid.incidence_deg(line, pixel)))
    assert moved_m == pytest.approx(expected_m, abs=0.4, rel=0.01)
    assert moved_m.max() > 10


def test_pixels_at_the_geoid_satisfy_the_equations(real: Scene) -> None:
    nodes = GeoLocator(real, "sea", "geoid").nodes
    lon, lat, height = geodetic(nodes.xyz)
    np.testing.assert_allclose(height, geoid_height_m(lon, lat), atol=0.05)
    by_record = real.ground_range.slant_range_m(nodes.pixels * real.pixel_spacing_m[1])
    time_s = nodes.lines * real.line_interval_s
    range_m = np.array([np.interp(time_s, real.ground_range.time_s, r) for r in by_record.T]).T
    points = replace(
        real.geolocation, longitude_deg=lon, latitude_deg=lat, height_m=height,
        azimuth_time_s=np.broadcast_to(time_s[:, None], lon.shape), slant_range_time_s=range_m / 299_792_458.0 * 2,
    )  # fmt: skip
    assert residuals_m(points, real.orbit).max() < 1e-3


def test_given_heights_and_the_geoid_agree_where_they_are_equal(real: Scene) -> None:
    line, pixel, (lon, lat) = _at_sea(real, "geoid")
    height = float(geoid_height_m(lon[4, 4], lat[4, 4]))
    at = GeoLocator(real, "sea", height).to_ground(line[4, 4], pixel[4, 4])
    assert GEOD.inv(lon[4, 4], lat[4, 4], *at)[2] < 0.5


# --- what a record says is what was done


def _record(product: Path, out: Path, settings: PrepareSettings) -> dict[str, Any]:
    result = prepare(product, out, settings, quicklook=False)
    item = json.loads((result.folder / "item.json").read_text())
    geometry = json.loads(result.record.read_text())["geometry"]
    assert item["properties"]["floemap:geometry"] == geometry
    return geometry


def as_if_real(product: Path) -> Path:
    """Take out of a copy what says that it is simulated."""
    (product / "SIMULATED.txt").unlink()
    manifest = product / "manifest.safe"
    text = manifest.read_text().replace("floemap simulator", "somebody")
    manifest.unlink()
    manifest.write_text(text)
    return product


def test_records_name_the_sea_level(small_product: Path, tmp_path: Path, small_settings: PrepareSettings) -> None:
    product = as_if_real(copied(small_product, tmp_path))
    for level, name, low, high in (("geoid", GEOID, 30, 60), (0.0, "ellipsoid", 0, 0), (12.5, "given", 12.5, 12.5)):
        settings = small_settings.model_copy(update={"sea_level_m": level})
        geometry = _record(product, tmp_path / str(level), settings)
        assert geometry["surface"] == "sea"
        assert geometry["sea_level"] == name
        assert low <= geometry["height_m"][0] <= geometry["height_m"][1] <= high
        assert geometry["instead_of_sea"] is None
        lines = dict(describe(next((tmp_path / str(level)).iterdir())).lines)
        assert name in lines["Surface"]


def test_simulated_seas_lie_on_the_ellipsoid(
    small_product: Path, tmp_path: Path, small_settings: PrepareSettings
) -> None:
    assert small_settings.sea_level_m == "geoid"
    geometry = _record(small_product, tmp_path, small_settings)
    assert (geometry["sea_level"], geometry["height_m"]) == ("ellipsoid", [0, 0])


def test_a_record_tells_of_terrain_in_the_place_of_the_sea(
    small_product: Path, tmp_path: Path, small_settings: PrepareSettings, caplog: pytest.LogCaptureFixture
) -> None:
    """A geolocation grid that misses the orbit's geometry by some metres is taken as it is."""
    product = copied(small_product, tmp_path)

    def shift(root: etree._Element) -> None:
        for n in root.iter("latitude"):
            n.text = repr(float(n.text) + 3e-4)  # 33 m

    for file in product.glob("annotation/*.xml"):
        changed_xml(file, shift)
    geometry = _record(with_new_checksums(product), tmp_path / "out", small_settings)
    assert geometry["surface"] == "annotated"
    assert geometry["sea_level"] is None
    assert "off the orbit's geometry" in str(geometry["instead_of_sea"])
    assert "the annotated heights are used" in caplog.text
    assert "since the geolocation grid is" in dict(describe(next((tmp_path / "out").iterdir())).lines)["Surface"]
    asked = small_settings.model_copy(update={"surface": "annotated"})
    geometry = _record(small_product, tmp_path / "asked", asked)
    assert (geometry["surface"], geometry["instead_of_sea"]) == ("annotated", None)


# --- the setting


@pytest.mark.parametrize("given", ["geoid", 0, 40.5, -120])
def test_sea_levels_that_are_taken(given: object) -> None:
    found = PrepareSettings.checked(sea_level_m=given).sea_level_m
    assert found == (given if given == "geoid" else float(given))  # type: ignore[arg-type]


@pytest.mark.parametrize("given", ["sea", "", 121, -121, "nan", float("inf"), None, [1], "1e9", "40.5", "0", True])
def test_sea_levels_that_are_refused(given: object) -> None:
    with pytest.raises(ConfigError, match=r"sea_level_m is .*it must be geoid, or a height of -120 to 120 metres"):
        PrepareSettings.checked(sea_level_m=given)


def test_the_option(small_product: Path, tmp_path: Path, write_small: Callable[..., Path]) -> None:
    arguments = ["prepare", str(small_product), "--out", str(tmp_path), "--resolution", "4000"]
    result = CliRunner().invoke(app, [*arguments, "--sea-level", "mud"])
    assert result.exit_code == 1
    assert "it must be geoid" in result.stderr
    result = CliRunner().invoke(app, [*arguments, "--sea-level", "7"])
    assert result.exit_code == 0, result.output
    record = json.loads(next(tmp_path.glob("*/product.json")).read_text())
    assert record["geometry"]["height_m"] == [7, 7]
    assert record["configuration"]["sea_level_m"] == 7
