"""Label folders, the command, a chart's description and its picture."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyproj
import pytest
import rasterio
import shapely
from chart_maker import BOTTOM, FOUR, SIDE_M, grid, ice, other, squares, write_chart
from matplotlib.image import imread
from typer.testing import CliRunner

import floemap.cli.label  # noqa: F401  registers the command
from floemap.cli.app import app
from floemap.cog import Band, read_geobox, write_cog
from floemap.errors import ChartError, ConfigError, FloemapError, OutputError
from floemap.icechart.describe import areas_km2, chart_facts, chart_lines, chart_problems
from floemap.icechart.dominant_type import class_fractions, ice_types
from floemap.icechart.label.borders import MAX_DISTANCE_PX
from floemap.icechart.label.label import DISTANCE_STEP_PX, label_chart, notes_of
from floemap.icechart.label.settings import LabelSettings
from floemap.icechart.preview import draw_chart_map
from floemap.icechart.read.sigrid3 import read_chart
from floemap.legend import FAST_ICE_RGB, ICE_FREE_RGB, IGNORE, LAND_RGB, SIX_CLASSES, STAGE_RGB
from floemap.sentinel1.bands import BANDS
from floemap.sentinel1.encoding import NODATA

GRID = grid(80, 300, top=BOTTOM + SIDE_M + 8000)
ALL = LabelSettings(fractions=True)


def write_product(folder: Path, *, simulated: str = "yes") -> Path:
    """A prepared product on the grid, without data in its first 20 rows, below the noise floor in the last."""
    stored = np.full((4, *GRID.shape), -1500, np.int16)
    stored[3] = 1
    stored[3, -1] = 1 | 2 | 4
    stored[:3, :20] = NODATA
    stored[3, :20] = 0
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "product.tif"
    write_cog(path, GRID, stored, BANDS, nodata=NODATA, tags={"simulated": simulated, "product": "S1X", "other": "no"})
    return path


@pytest.fixture
def product(tmp_path: Path) -> Path:
    return write_product(tmp_path / "prepared")


@pytest.fixture
def chart(tmp_path: Path) -> Path:
    return write_chart(tmp_path / "seaice.gpkg")


def test_labels_are_a_cog_with_colours_and_names(tmp_path: Path, product: Path, chart: Path) -> None:
    result = label_chart(chart, product, tmp_path / "out")
    assert result.folder == tmp_path / "out" / "seaice"
    assert sorted(p.name for p in result.folder.iterdir()) == [
        "border_distance.tif",
        "label.json",
        "labels.qml",
        "labels.tif",
        "polygons.csv",
        "polygons.tif",
    ]
    valid = np.ones(GRID.shape, bool)
    valid[:20] = False
    with rasterio.open(result.raster) as d:
        assert d.tags(ns="IMAGE_STRUCTURE")["LAYOUT"] == "COG"
        assert (d.dtypes, d.nodata) == (("uint8",), IGNORE)
        assert read_geobox(result.raster) == GRID
        assert {c.id: d.colormap(1)[c.id][:3] for c in SIX_CLASSES.classes} == SIX_CLASSES.colours
        assert {c.id: d.tags(1)[f"class_{c.id}"] for c in SIX_CLASSES.classes} == SIX_CLASSES.titles
        tags = d.tags()
        # Squares of 64 px: old ice, first-year ice, new ice as the largest of three types, and land.
        expected = np.full(GRID.shape, IGNORE, np.uint8)
        for i, label in enumerate((4, 3, 0, IGNORE)):
            expected[8:72, 64 * i : 64 * (i + 1)] = label
        expected[~valid] = IGNORE
        assert (d.read(1) == expected).all()
    assert (tags["simulated"], tags["product"], tags["legend"]) == ("yes", "S1X", "six_classes")
    assert "other" not in tags


def test_fractions_sum_to_the_whole(tmp_path: Path, product: Path, chart: Path) -> None:
    folder = label_chart(chart, product, tmp_path / "out", ALL).folder
    # New ice, nilas, young, first-year, old, water, unknown: all old; half first-year in water; 4, 3 and 2 of 9 tenths.
    percent = [[0, 0, 0, 0, 100, 0, 0], [0, 0, 0, 50, 0, 50, 0], [40, 0, 0, 30, 20, 10, 0]]
    with rasterio.open(folder / "fractions.tif") as d:
        assert d.descriptions == (*(c.key for c in SIX_CLASSES.classes), "unknown")
        assert (d.scales, d.nodata) == ((0.01,) * 7, 255)
        stored = d.read()
    known = stored[0] != 255
    assert (stored[:, known].sum(axis=0) == 100).all()
    for i in range(3):
        assert stored[:, 40, 64 * i + 5].tolist() == percent[i]
    # Land, the margin around the chart, and rows without radar data have none; what has a label has fractions.
    assert not known[:20].any()
    assert not known[:, 192:].any()
    with rasterio.open(folder / "labels.tif") as d:
        labels = d.read(1)
    assert known[labels != IGNORE].all()


@pytest.mark.parametrize("parts", [("10", "10", "10"), ("30", "30", "30"), ("70", "10", "10"), ("13", "24", "35")])
def test_rounded_fractions_still_sum(tmp_path: Path, product: Path, parts: tuple[str, ...]) -> None:
    a, b, c = parts
    rows = [ice("91", CA=a, SA="95", CB=b, SB="86", CC=c, SC="81"), ice("79", CA=a, SA="95", CB=b, SB="81")]
    folder = label_chart(write_chart(tmp_path / "c.gpkg", rows), product, tmp_path, ALL).folder
    with rasterio.open(folder / "fractions.tif") as d:
        stored = d.read()[:, 40, [5, 70]]
    assert (stored.sum(axis=0) == 100).all()
    exact = class_fractions(ice_types(read_chart(tmp_path / "c.gpkg")), SIX_CLASSES)
    assert np.abs(stored.T / 100 - exact).max() < 0.01


def test_distances_are_stored_in_quarters(tmp_path: Path, product: Path, chart: Path) -> None:
    folder = label_chart(chart, product, tmp_path).folder
    with rasterio.open(folder / "border_distance.tif") as d:
        stored, scale = d.read(1), d.scales[0]
        assert d.nodata == 255
    # Four squares of 64 px: the distance of a pixel's centre from its square's nearest side, at most the largest held.
    across, down = np.arange(300) % 64 + 0.5, np.arange(80) - 8 + 0.5
    nearest = np.minimum(np.minimum(across, 64 - across)[None, :], np.minimum(down, 64 - down)[:, None])
    distance = np.minimum(nearest, MAX_DISTANCE_PX)
    on_chart = np.zeros(GRID.shape, bool)
    on_chart[8:72, :256] = True
    assert (stored[~on_chart] == 255).all()
    assert np.abs(stored * scale - distance)[on_chart].max() <= DISTANCE_STEP_PX / 2 + 0.51
    # The chart's own western edge coincides with the grid's: it is a border all the same.
    assert (stored[8:72, 0] * scale == 0.5).all()


def test_the_record_says_all(tmp_path: Path, product: Path) -> None:
    rows = [*FOUR[:3], ice("92", CA="70", SA="84", CB="70", SB="81"), ice(SA="90"), other("L")]
    path = write_chart(tmp_path / "c.shp", rows)
    result = label_chart(path, product, tmp_path, LabelSettings(unmapped="ignore"))
    record = json.loads(result.record.read_text())
    assert sum(record["pixels"].values()) == GRID.shape[0] * GRID.shape[1]
    assert record["pixels"]["old_ice"] == (64 - 12) * 64
    assert record["simulated"] is True
    assert set(record["inputs"]["chart"]) == {"c.shp", "c.shx", "c.dbf", "c.prj", "c.cpg"}
    assert record["decisions"] == {"land": 1, "single_type": 3, "third_type_largest": 1, "tie_to_thicker": 1}
    assert record["oddities"]["past_ten"] == 1
    assert record["oddities"]["unmapped_stages"] == {"90": 1}
    assert record["oddities"]["odd_codes"] == {"SA": {"90": 1}}
    assert record["coverage"]["overlapping_pairs"] == 0
    assert record["configuration"]["unmapped"] == "ignore"


def test_polygons_without_parts_are_told_of_and_counted(
    tmp_path: Path, product: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = write_chart(tmp_path / "c.shp", [ice("90", SA="95", SB="81"), *FOUR[1:]])
    for asked, words, old in (("unknown", "type is unknown", 0), ("first", "the first is taken", (64 - 12) * 64)):
        caplog.clear()
        result = label_chart(path, product, tmp_path, LabelSettings(without_parts=asked))  # type: ignore[arg-type]
        record = json.loads(result.record.read_text())
        assert (record["oddities"]["without_parts_ids"], record["configuration"]["without_parts"]) == ([0], asked)
        assert record["pixels"]["old_ice"] == old
        assert words in caplog.text and any(words in note for note in notes_of(record))


def test_finished_work_is_not_done_again(tmp_path: Path, product: Path, chart: Path) -> None:
    first = label_chart(chart, product, tmp_path)
    made = first.raster.stat().st_ino
    again = label_chart(chart, product, tmp_path)
    assert again.skipped
    assert again.raster.stat().st_ino == made
    assert not label_chart(chart, product, tmp_path, overwrite=True).skipped
    first.raster.with_name("border_distance.tif").unlink()
    assert not label_chart(chart, product, tmp_path).skipped, "a folder that lacks a file is not finished"
    assert not label_chart(chart, product, tmp_path, LabelSettings(legend="ice_water")).skipped
    write_chart(chart, [ice(SA="81"), *FOUR[1:]])
    assert not label_chart(chart, product, tmp_path, LabelSettings(legend="ice_water")).skipped
    write_product(product.parent, simulated="no")
    changed = label_chart(chart, product, tmp_path, LabelSettings(legend="ice_water"))
    assert not changed.skipped
    assert json.loads(changed.record.read_text())["simulated"] is False


def test_failure_leaves_nothing_new_and_the_old(tmp_path: Path, product: Path, chart: Path) -> None:
    out = tmp_path / "out"
    old = label_chart(chart, product, out).record.read_text()
    write_chart(chart, [ice(SA="90")])
    with pytest.raises(ChartError, match="stage of development 90"):
        label_chart(chart, product, out)
    write_chart(chart, FOUR, squares(4, left=-3e6))
    with pytest.raises(ChartError, match="does not overlap"):
        label_chart(chart, product, out)
    # In reach of the margin that distances need, but not of the grid itself.
    write_chart(chart, FOUR, squares(4, bottom=BOTTOM + SIDE_M + 10_000))
    with pytest.raises(ChartError, match="does not overlap"):
        label_chart(chart, product, out)
    # It overlaps, with nothing that has a class.
    write_chart(chart, [other("L"), ice(SA="99")], squares(2))
    with pytest.raises(ChartError, match="no pixel"):
        label_chart(chart, product, out)
    assert [p.name for p in out.iterdir()] == ["seaice"]
    assert (out / "seaice" / "label.json").read_text() == old


def test_any_raster_gives_grid_and_mask(tmp_path: Path, product: Path, chart: Path) -> None:
    values = np.ones(GRID.shape, np.uint8)
    values[:, :100] = 0
    for name, nodata in (("with", 0), ("without", None)):
        write_cog(tmp_path / f"{name}.tif", GRID, values, [Band("anything")], nodata=nodata)
        with rasterio.open(label_chart(chart, tmp_path / f"{name}.tif", tmp_path / name).raster) as d:
            labels = d.read(1)
        assert (labels[8:72, :100] == IGNORE).all() == (nodata == 0)
        assert (labels[8:72, 100:192] != IGNORE).all()
    # A prepared product's folder will do for its product.tif.
    assert label_chart(chart, product.parent, tmp_path / "folder").raster.is_file()
    with pytest.raises(FloemapError, match="cannot be read as a raster"):
        label_chart(chart, chart, tmp_path / "no")
    with pytest.raises(ConfigError, match=r"no legend is called 'seven'.*six_classes"):
        label_chart(chart, product, tmp_path, LabelSettings(legend="seven"))


def test_the_command(tmp_path: Path, product: Path, chart: Path) -> None:
    run = CliRunner().invoke
    arguments = ["label", str(chart), "--like", str(product), "--out", str(tmp_path / "out"), "--fractions"]
    result = run(app, arguments)
    assert result.exit_code == 0, result.output
    assert str(tmp_path / "out" / "seaice") in result.stdout
    assert "old ice" in result.stdout
    assert (tmp_path / "out" / "seaice" / "fractions.tif").is_file()
    assert "finished before" in run(app, arguments).stdout
    write_chart(chart, [ice(SA="90"), ice(SA="95")])
    failed = run(app, arguments)
    assert failed.exit_code == 1
    assert "polygon 1: stage of development 90" in failed.stderr
    assert "--unmapped ignore" in failed.stderr
    assert run(app, [*arguments, "--unmapped", "ignore"]).exit_code == 0
    assert run(app, [*arguments, "--unmapped", "water"]).exit_code == 2
    # Without distances there is no such file, and none is left of an earlier run.
    assert run(app, [*arguments[:-1], "--unmapped", "ignore", "--no-border-distance"]).exit_code == 0
    assert sorted(p.name for p in (tmp_path / "out" / "seaice").iterdir()) == [
        "label.json",
        "labels.qml",
        "labels.tif",
        "polygons.csv",
        "polygons.tif",
    ]


def test_facts_of_a_chart(tmp_path: Path) -> None:
    rows = [*FOUR, ice("54", SA="84"), ice(SA="90"), ice("00")]
    path = write_chart(tmp_path / "c.gpkg", rows)
    facts = chart_facts(read_chart(path))
    json.dumps(facts, allow_nan=False)
    assert facts["polygons"] == 7
    assert facts["polygons_by_type"]["ice"] == 6
    assert sum(facts["area_by_dominant_type_km2"].values()) == pytest.approx(facts["area_km2"])
    assert sum(facts["decisions"].values()) == 7
    assert facts["polygons_by_dominant_type"]["95 old ice"] == 1
    assert chart_problems(facts) == [
        "1 polygon has the concentration 54, which is not a code.",
        "1 polygon has the stage 90, which has no class.",
    ]
    words = dict(chart_lines(facts))
    assert words["Ice chart"] == "c, SIGRID-3"
    assert "  90 not a SIGRID-3 stage" in words
    assert any("SA is 90 in 1 polygon" in w for name, w in chart_lines(facts) if name == "Oddity")
    clean = chart_facts(read_chart(write_chart(tmp_path / "clean.gpkg")))
    assert dict(chart_lines(clean))["Oddities"] == "none found"
    assert chart_problems(clean) == []


def test_areas_are_true_ones(tmp_path: Path) -> None:
    boxes = [shapely.box(lon, lat, lon + 5, lat + 2) for lon in (-170, 10) for lat in (60, 70, 80)]
    chart = read_chart(write_chart(tmp_path / "c.gpkg", [ice(SA="95")] * 6, boxes, crs="EPSG:4326"))
    # Between meridians and parallels, not between great circles: with close vertices they are the same.
    geod = pyproj.Geod(ellps="WGS84")
    true = [abs(geod.geometry_area_perimeter(shapely.segmentize(b, 0.02))[0]) / 1e6 for b in boxes]
    np.testing.assert_allclose(areas_km2(chart), true, rtol=1e-4)


def test_place_across_the_dateline(tmp_path: Path) -> None:
    boxes = [shapely.box(170, 70, 180, 75), shapely.box(-180, 70, -160, 75)]
    facts = chart_facts(read_chart(write_chart(tmp_path / "c.gpkg", FOUR[:2], boxes, crs="EPSG:4326")))
    np.testing.assert_allclose(facts["bbox_lonlat_deg"], [170, 70, -160, 75], atol=1e-3)


def test_the_picture_shows_stages_in_their_colours(tmp_path: Path) -> None:
    rows = [*FOUR, ice("00"), ice("92", SA="99", FA="08"), ice("92", SA="85", FA="08")]
    chart = read_chart(write_chart(tmp_path / "c.gpkg", rows))
    picture = tmp_path / "c.png"
    draw_chart_map(chart, picture, pixels=300)
    image = (imread(picture)[..., :3] * 255).round().astype(int)
    colours, counts = np.unique(image.reshape(-1, 3), axis=0, return_counts=True)
    drawn = {tuple(c) for c, n in zip(colours.tolist(), counts, strict=True) if n > 500}  # areas, not letters
    wanted: list[Any] = [STAGE_RGB[95], STAGE_RGB[86], STAGE_RGB[81], LAND_RGB, ICE_FREE_RGB, FAST_ICE_RGB]
    assert set(wanted) <= drawn
    assert STAGE_RGB[85] in drawn
    assert STAGE_RGB[99] not in drawn
    with pytest.raises(OutputError, match="cannot be written"):
        draw_chart_map(chart, picture / "c.png", pixels=100)


REAL = Path(__file__).resolve().parents[2] / "shared" / "data" / "charts" / "cis_SGRDREA_20201102T.gpkg"


@pytest.mark.skipif(not REAL.exists(), reason="no real chart here")
def test_facts_and_picture_of_the_real_chart(tmp_path: Path) -> None:
    chart = read_chart(REAL)
    facts = chart_facts(chart)
    assert facts["polygons_by_type"] == {
        "land": 128,
        "water": 1,
        "ice": 296,
        "no data": 0,
        "ice shelf": 7,
        "not given": 0,
    }
    assert chart_problems(facts) == []
    # The chart's own AREA column holds areas on its conformal map; true ones differ by that map's scale, some percent.
    assert facts["area_km2"] == pytest.approx(facts["coverage"]["area_m2"] / 1e6, rel=0.05)
    assert (facts["coverage"]["overlapping_pairs"], facts["coverage"]["gaps"]) == (0, 0)
    draw_chart_map(chart, tmp_path / "cis.png", pixels=400)
    assert (tmp_path / "cis.png").stat().st_size > 20_000
