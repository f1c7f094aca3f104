"""Mosaics of charts: the newest or the most certain scene, places, what does not fit, and what nobody may lose."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
import rasterio
import xarray as xr
from test_52_netcdf import ATTRIBUTES, START, STOP
from test_52_polar_grid import box, maps_of
from typer.testing import CliRunner

from floemap.cli import main as cli_main  # noqa: F401  registers the commands
from floemap.cli.app import app
from floemap.errors import ChartError, ConfigError, FloemapError, OutputError
from floemap.inference.draftchart.fractions import OF_TYPE, TOTAL
from floemap.inference.draftchart.mosaic import make_mosaic
from floemap.inference.draftchart.polar_grid import CONFIDENCE, write_grid

DAY = timedelta(days=1)


def chart(
    folder: Path, water: float, left: float, day: int, crs: str = "EPSG:3413", cell_m: float = 1000, **facts: str
) -> Path:
    """A chart of three cells of 1 km in a row, of water and first-year ice."""
    folder.mkdir(parents=True)
    water_of = np.full((10, 30), water)
    maps = maps_of(water_of, 100 - water_of, box(10, 30, 100, left, 0, crs))
    told = ATTRIBUTES | {"product": folder.name} | facts
    when = {"start": START + day * DAY, "stop": STOP + day * DAY}
    write_grid(folder / "grid.nc", maps, cell_m, **when, attributes=told, concentrations="estimated")
    return folder


def read(path: Path) -> xr.Dataset:
    with xr.open_dataset(path, engine="h5netcdf", decode_times=False) as d:
        return d.load()


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Two charts that share one cell: the older one is the more certain there. Shared: only to read."""
    place = tmp_path_factory.mktemp("two")
    return [chart(place / "older", 5, 0, 0), chart(place / "newer", 40, 2000, 1)]


@pytest.mark.parametrize(("prefer", "shared"), [("newest", 60), ("certain", 95)])
def test_the_shared_cell_is_of_the_preferred_scene(prefer: str, shared: float, two: list[Path], tmp_path: Path) -> None:
    for order in (two, two[::-1]) if prefer == "certain" else (two[::-1],):
        made = make_mosaic(order, tmp_path / str(order[0].name), prefer=prefer)  # type: ignore[arg-type]
        d = read(made.raster)
        np.testing.assert_allclose(d[TOTAL].values, [[[95, 95, shared, 60, 60]]], atol=0.1)
        np.testing.assert_allclose(d[OF_TYPE + "first_year_ice"].values, d[TOTAL].values, atol=0.1)
        names = d["scene"].attrs["flag_meanings"].split()
        at = [names[int(i)] for i in d["scene"].values[0, 0]]
        assert at == ["older", "older", "newer" if prefer == "newest" else "older", "newer", "newer"]
        seen = datetime.fromtimestamp(float(d["observation_time"].values[0, 0, 4]), UTC)
        assert seen == START + DAY + (STOP - START) / 2
        assert d.attrs["simulated"] == "yes"
        assert "SIMULATED" in d.attrs["comment"]
        assert d.attrs["time_coverage_start"] == "2018-01-16T07:54:30Z"
        assert d.attrs["time_coverage_end"] == "2018-01-17T07:55:30Z"


def test_gdal_places_the_mosaic(two: list[Path], tmp_path: Path) -> None:
    made = make_mosaic(two, tmp_path / "out")
    with rasterio.open(f"NETCDF:{made.raster}:{TOTAL}") as d:
        assert d.crs.to_epsg() == 3413
        assert tuple(d.transform)[:6] == (1000, 0, 0, 0, -1000, 0)
        assert d.shape == (1, 5)
    record = json.loads((made.folder / "mosaic.json").read_text())
    assert [s["cells"] for s in record["scenes"]] == [2, 3]
    assert make_mosaic(two, tmp_path / "out").skipped


def test_a_gap_between_scenes_has_no_value(tmp_path: Path) -> None:
    far = [chart(tmp_path / "a", 50, 0, 0), chart(tmp_path / "b", 20, 5000, 0)]
    d = read(make_mosaic(far, tmp_path / "out").raster)
    np.testing.assert_allclose(d[TOTAL].values, [[[50, 50, 50, np.nan, np.nan, 80, 80, 80]]], atol=0.1)
    assert np.isnan(d[CONFIDENCE].values[0, 0, 3])


def test_charts_that_do_not_fit_are_refused(two: list[Path], tmp_path: Path) -> None:
    south = chart(tmp_path / "south", 10, 0, 0, "EPSG:3031")
    fine = chart(tmp_path / "fine", 10, 0, 0, cell_m=500)
    for other, words in (
        (south, "another grid"),
        (fine, "another grid"),
        (chart_of_others(two[0], tmp_path), "other ice types"),
    ):
        with pytest.raises(ChartError, match=words):
            make_mosaic([two[1], other], tmp_path / "out")
    (tmp_path / "empty").mkdir()
    (tmp_path / "broken.nc").write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(100))
    xr.Dataset({"a": ("x", [1.0])}).to_netcdf(tmp_path / "other.nc", engine="h5netcdf")
    for path, words in (("empty", "no grid.nc"), ("broken.nc", "readable"), ("other.nc", "no concentrations")):
        with pytest.raises(ChartError, match=words):
            make_mosaic([tmp_path / path], tmp_path / "out")
    with pytest.raises(ConfigError, match="no chart"):
        make_mosaic([], tmp_path / "out")
    assert not (tmp_path / "out").exists()


def chart_of_others(folder: Path, place: Path) -> Path:
    """The same file as of a model of another legend."""
    path = place / "others.nc"
    read(folder / "grid.nc").assign_attrs(legend="ice_water").to_netcdf(path, engine="h5netcdf")
    return path


def test_what_somebody_else_put_there_stays(two: list[Path], tmp_path: Path) -> None:
    made = make_mosaic(two[:1], tmp_path / "out")
    (made.folder / "route.txt").write_text("mine")
    with pytest.raises(OutputError, match=r"route\.txt"):
        make_mosaic(two[:1], tmp_path / "out", prefer="certain", overwrite=True)
    assert (made.folder / "route.txt").read_text() == "mine"
    with pytest.raises(FloemapError, match=r"^the name of the mosaic is '\.\./older', .* Give another name\.$"):
        make_mosaic(two, two[0].parent, name="../older")


def test_the_command(two: list[Path], tmp_path: Path) -> None:
    words = ["mosaic", *map(str, two), "--out", str(tmp_path / "out"), "--name", "week", "--prefer", "certain"]
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 0, done.output
    assert (tmp_path / "out" / "week" / "mosaic.nc").is_file()
    told = CliRunner().invoke(app, ["info", str(tmp_path / "out" / "week")])
    assert told.exit_code == 0
    assert "Mosaic" in told.output
    assert "older" in told.output
