"""The twin of the dataset: its form, its charts and truth, going on where it stopped, and the whole way round."""

from __future__ import annotations

import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pyproj
import pytest
import rasterio
from processes import command_of, descendants, is_running
from typer.testing import CliRunner

from floemap.cog import read_geobox
from floemap.datasets.extremeearth.find import find_dataset
from floemap.datasets.extremeearth.inventory import check_dataset
from floemap.datasets.extremeearth.scenes import CRS, SCENES, scene_of
from floemap.errors import ConfigError, OutputError
from floemap.grid import check_same_grid
from floemap.icechart.label.rasterize import rasterize_labels
from floemap.legend import EXTREMEEARTH, IGNORE
from floemap.sentinel1.bands import open_product
from floemap.sentinel1.geolocation import GeoLocator, inverse_map
from floemap.sentinel1.prepare import prepare
from floemap.sentinel1.safe.reader import open_scene
from floemap.sentinel1.settings import PrepareSettings
from floemap.simulation.analyst import OUTSIDE
from floemap.simulation.safe.writer import ProductSpec, luts, write_safe
from floemap.simulation.twin import TwinMonth, make_twin, resolution_m, twin_spec
from floemap.simulation.world.backscatter import sigma0_db
from floemap.simulation.world.scenery import SceneryRows, image_of
from floemap.simulation.world.surface import SURFACE_CLASS, Surface, World
from floemap.simulation.world.zones import WORLD_CRS, scene_centre_m

SIZE = 120
MONTHS = (1, 7)


@pytest.fixture(scope="module")
def twin(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, tuple[TwinMonth, ...]]:
    out = tmp_path_factory.mktemp("twin") / "set"
    return out, make_twin(out, SIZE, months=MONTHS)


def test_it_is_found_and_right_as_the_real_dataset_would_be(twin: tuple[Path, tuple[TwinMonth, ...]]) -> None:
    found = find_dataset(twin[0], MONTHS)
    assert found.simulated
    assert len(found.missing()) == 2 * 10
    checked = check_dataset(twin[0], MONTHS)
    for month in checked.months:
        assert (month.product.state, month.product.problems) == ("right", ())
        assert (month.chart.state, month.chart.problems) == ("right", ())
    for made in twin[1]:
        assert made.product.name == f"{scene_of(made.month).product}.SAFE"
        assert open_scene(made.product).simulated


def test_charts_have_the_datasets_columns_and_codes(twin: tuple[Path, tuple[TwinMonth, ...]]) -> None:
    for made in twin[1]:
        chart = find_dataset(twin[0]).entry(made.month).chart
        assert chart is not None
        read = chart.read()
        to_theirs = pyproj.Transformer.from_crs(CRS, read.crs, always_xy=True)
        np.testing.assert_allclose(to_theirs.transform(3e5, -1.2e6), (3e5, -1.2e6), atol=1e-3)
        assert read.report.past_ten == 0
        assert read.report.repaired == 0
        # every code is in the dataset's own legend: nothing is unmapped
        labels = rasterize_labels(read, read_geobox(made.truth / "truth.tif"), EXTREMEEARTH)
        assert len(np.unique(labels[labels != IGNORE])) >= 3
        assert "SIMULATED" in made.chart.with_suffix(".shp.xml").read_text()


def test_truth_lies_on_the_prepared_products_grid(twin: tuple[Path, tuple[TwinMonth, ...]], tmp_path: Path) -> None:
    made = twin[1][0]
    spec = twin_spec(made.month, SIZE)
    prepared = prepare(
        made.product, tmp_path, PrepareSettings(resolution_m=resolution_m(spec), crs=CRS), quicklook=False
    )
    grid = read_geobox(made.truth / "truth.tif")
    check_same_grid(read_geobox(prepared.raster), grid, "truth and product")
    with rasterio.open(made.truth / "truth.tif") as t:
        surface, classes = t.read()
        assert t.tags()["simulated"] == "yes"
    seen = open_product(prepared.folder)["mask"].to_numpy() > 0
    assert (surface[seen] != OUTSIDE).all()
    table = np.full(256, IGNORE, np.uint8)
    for s, c in SURFACE_CLASS.items():
        table[s] = c
    np.testing.assert_array_equal(classes, table[surface])


def test_labels_are_wrong_at_pixels_and_right_on_the_whole(twin: tuple[Path, tuple[TwinMonth, ...]]) -> None:
    """As real charts are: most pixels have the chart's class, many have not."""
    for made in twin[1]:
        chart = find_dataset(twin[0]).entry(made.month).chart
        assert chart is not None
        with rasterio.open(made.truth / "truth.tif") as t:
            truth = t.read(2)
        labels = rasterize_labels(chart.read(), read_geobox(made.truth / "truth.tif"), EXTREMEEARTH)
        both = (labels != IGNORE) & (truth != IGNORE)
        assert both.mean() > 0.3
        assert 0.6 < (labels == truth)[both].mean() < 0.98


def test_finished_months_are_left_alone(twin: tuple[Path, tuple[TwinMonth, ...]]) -> None:
    before = {p: p.stat().st_mtime_ns for p in twin[0].rglob("*") if p.is_file()}
    again = make_twin(twin[0], SIZE, months=MONTHS)
    assert [m.skipped for m in again] == [True, True]
    assert {p: p.stat().st_mtime_ns for p in twin[0].rglob("*") if p.is_file()} == before


def test_a_lost_chart_is_made_again_and_the_same(twin: tuple[Path, tuple[TwinMonth, ...]]) -> None:
    made = twin[1][1]
    content = {p.relative_to(twin[0]): p.read_bytes() for p in twin[0].rglob("*") if p.is_file()}
    made.chart.unlink()
    again = make_twin(twin[0], SIZE, months=MONTHS)
    assert [m.skipped for m in again] == [True, False]
    after = {p.relative_to(twin[0]): p.read_bytes() for p in twin[0].rglob("*") if p.is_file()}
    # Same seed, same bytes; only the record has the time of day.
    assert {k for k in content if content[k] != after.get(k)} <= {(made.truth / "truth.json").relative_to(twin[0])}


def test_twins_are_not_mixed(twin: tuple[Path, tuple[TwinMonth, ...]], tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="seed 0"):
        make_twin(twin[0], SIZE, months=[1], seed=1)
    with pytest.raises(ConfigError, match=f"size {SIZE}"):
        make_twin(twin[0], "full", months=[1])
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(ConfigError, match="other files than a twin"):
        make_twin(tmp_path, SIZE, months=[1])
    assert [p.name for p in tmp_path.iterdir()] == ["thesis.txt"]


@pytest.mark.parametrize("size", ["huge", 10, 20_000])
def test_impossible_sizes_are_refused(size: object, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="size"):
        make_twin(tmp_path / "t", size)  # type: ignore[arg-type]
    assert not (tmp_path / "t").exists()


def test_a_negative_seed_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="seed is -1"):
        make_twin(tmp_path / "t", SIZE, seed=-1)
    assert not (tmp_path / "t").exists()


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises((OutputError, ConfigError), match="file"):
        make_twin(tmp_path / "file", SIZE, months=[1])


@pytest.mark.parametrize("scene", SCENES, ids=[s.title for s in SCENES])
def test_specifications_are_those_of_the_real_scenes(scene: object) -> None:
    month = SCENES.index(scene) + 1
    spec = twin_spec(month, "full")
    assert spec.name == scene_of(month).product
    assert (spec.noise_format == "vectors") == (month in (1, 2))  # before and from IPF 2.90
    assert (np.cos(np.radians(spec.heading_deg)) < 0) == (spec.start.hour < 12)  # morning passes descend
    speed = np.linalg.norm(luts(spec).geometry.orbit(0.0)[1])
    assert speed == pytest.approx(7580, rel=0.01)


def test_workers_leave_with_the_process_that_started_them(tmp_path: Path) -> None:
    """Killed without a word, a run leaves nobody behind who goes on writing."""
    start = "from floemap.cli import main; main()"
    run = subprocess.Popen(
        [sys.executable, "-c", start, "simulate", "twin", "--out", str(tmp_path / "t"), "--size", "64"],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        workers: list[int] = []
        while run.poll() is None and len(workers) < 2:
            time.sleep(0.2)
            workers = [pid for pid in descendants(run.pid) if "spawn_main" in command_of(pid)]
        assert len(workers) == 2
    finally:
        run.kill()
        run.wait()
    deadline = time.monotonic() + 60
    while any(is_running(w) for w in workers) and time.monotonic() < deadline:
        time.sleep(0.2)
    assert not any(is_running(w) for w in workers)


def test_the_command(twin: tuple[Path, tuple[TwinMonth, ...]], tmp_path: Path) -> None:
    from floemap.cli import simulate  # noqa: F401  # registers the commands
    from floemap.cli.app import app

    runner = CliRunner()
    run = runner.invoke(app, ["simulate", "twin", "--out", str(twin[0]), "--size", str(SIZE), "--months", "1,7"])
    assert run.exit_code == 0, run.output
    assert run.output.count("finished before") == 2
    for wrong in (["--size", "huge"], ["--months", "13"]):
        run = runner.invoke(app, ["simulate", "twin", "--out", str(tmp_path / "t"), *wrong])
        assert run.exit_code == 1
        assert wrong[1] in run.output


@pytest.mark.parametrize("month", [1, 7])
def test_statistics_of_prepared_products_are_the_tables(month: int, tmp_path: Path) -> None:
    """Table -> world -> DN with noise and speckle -> reader -> map grid: within 0.5 dB by class.

    Pixels whose neighbourhood is of one surface only, mean power in bins of incidence angle. Surfaces far below the
    noise are not judged: what is left of them after subtraction is clipped at the floor.
    """
    x, y = scene_centre_m(month, 0)
    lon, lat = pyproj.Transformer.from_crs(WORLD_CRS, "EPSG:4326", always_xy=True).transform(x, y)
    spec = ProductSpec(
        start=datetime(2018, month, 16, 7, 54, 30, tzinfo=UTC), lines=700, samples=700, pixel_spacing_m=500.0,
        centre_lon=lon, centre_lat=lat, heading_deg=-140.0, noise_departure=0.0,
    )  # fmt: skip
    image = image_of(luts(spec).geometry, WORLD_CRS)
    world = World(month, 0, image.bounds_m, 500.0)
    rows = SceneryRows(world, image, month, ("HH", "HV"))
    product = write_safe(tmp_path, spec, rows)
    prepared = prepare(product, tmp_path / "p", PrepareSettings(resolution_m=1000.0, crs=CRS), quicklook=False)
    data = open_product(prepared.folder)
    grid = read_geobox(prepared.raster)
    positions = inverse_map(GeoLocator(open_scene(product)), grid)
    shape = tuple(grid.shape)
    line = np.rint(positions.expand(positions.line, 0, *shape)).astype(int)
    pixel = np.rint(positions.expand(positions.pixel, 0, *shape)).astype(int)
    reach = 2
    whole = (line >= reach) & (line < spec.lines - reach) & (pixel >= reach) & (pixel < spec.samples - reach)
    whole &= data["mask"].to_numpy() > 0
    around = [
        rows.surface[line[whole] + i, pixel[whole] + j]
        for i in range(-reach, reach + 1)
        for j in range(-reach, reach + 1)
    ]
    surface = around[len(around) // 2]
    pure = np.all([a == surface for a in around], axis=0)
    incidence = data["incidence_deg"].to_numpy()[whole]
    at = line[whole], pixel[whole]
    wind = world.truth(*image.at(np.arange(spec.lines), np.arange(spec.samples))[:2]).wind_m_s[at]
    shown = rows(slice(0, spec.lines))
    classes_judged = set()
    for band in ("HH", "HV"):
        power = 10 ** (data[f"{band.lower()}_db"].to_numpy()[whole] / 10)
        table = 10 ** (sigma0_db(surface, incidence, month, band, wind) / 10)
        loud = table > 10**-2.9
        for s in Surface:
            here = pure & loud & (surface == s)
            for low in range(19, 46, 6):
                bin_ = here & (incidence >= low) & (incidence < low + 6)
                if bin_.sum() > 500:  # what the radar chain makes of what was shown, floe by floe
                    off = power[bin_].mean() / shown[band][at][bin_].mean()
                    # What noise leaves after subtraction scatters; neighbouring cells share some of it.
                    scatter = 4 * power[bin_].std() / np.sqrt(bin_.sum() / 2) / power[bin_].mean()
                    assert abs(off - 1) < 0.03 + min(scatter, 0.09), (band, s.name, low, off)
            if here.sum() > 2000 and s != Surface.LAND:  # land is bright where it is high
                off_db = 10 * np.log10((power[here] / table[here]).mean())
                assert abs(off_db) < 0.5, (band, s.name, off_db)
                classes_judged.add((band, s))
    assert len(classes_judged) >= 5
