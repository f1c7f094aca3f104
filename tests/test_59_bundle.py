"""Bundles for ships: a crop of a chart that meets its size, read by others, and says what was lost."""

from __future__ import annotations

import json
import re
import shutil
import zipfile
from collections.abc import Callable
from dataclasses import replace
from io import BytesIO
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyogrio
import pyproj
import pytest
import shapely
from chart_maker import BOTTOM, LEFT, POLAR, SIDE_M, ice, other, squares, write_chart
from PIL import Image
from workshop import contents, run

import floemap
from floemap.bundle.area import area_of, position
from floemap.bundle.bundle import Bundle, _Maker, make_bundle
from floemap.bundle.crop import Crop, crop
from floemap.bundle.measures import changes, edge_moved_m
from floemap.bundle.settings import BundleSettings, bytes_in
from floemap.bundle.simplify import simplified
from floemap.bundle.source import find_chart
from floemap.bundle.summary import WIDTH, _few_positions, sector_shares, sectors
from floemap.errors import ChartError, ConfigError, FloemapError, OutputError
from floemap.icechart.read.overlaps import measure_coverage
from floemap.icechart.read.sigrid3 import Chart, read_chart
from floemap.publishing.publish import publish_chart

GEOD = pyproj.Geod(ellps="WGS84")
VALID = "2018-01-16T07:54Z"
#: The middle of four squares in a row, and a circle around it in which they all are.
TO_EARTH = pyproj.Transformer.from_crs(POLAR, "EPSG:4326", always_xy=True)
LON, LAT = TO_EARTH.transform(LEFT + 2 * SIDE_M, BOTTOM + SIDE_M / 2)
AROUND = f"{LAT:.4f}N,{-LON:.4f}W,100nm"
CIS = Path(__file__).resolve().parents[2] / "shared" / "data" / "charts" / "cis_SGRDREA_20201102T.gpkg"


def settings(area: str = AROUND, **more: Any) -> BundleSettings:
    return BundleSettings.checked(area=area, valid=VALID, **({"only": ["geojson"], "max": "1MB"} | more))


def rough(seed: int = 0, points: int = 400) -> list[Any]:
    """Water, ice and land in three strips, with rough borders of many vertices, and small floes in the water."""
    rng = np.random.default_rng(seed)
    x = np.linspace(LEFT, LEFT + 4 * SIDE_M, points)
    borders = [BOTTOM + at * SIDE_M + 400 * rng.standard_normal(points).cumsum() / 10 for at in (0.0, 0.5, 1.0, 1.5)]
    strips = [
        shapely.Polygon([*zip(x, low, strict=True), *zip(x[::-1], high[::-1], strict=True)])
        for low, high in pairwise(borders)
    ]
    floes = [shapely.Point(LEFT + k * 30_000.0, BOTTOM + 0.25 * SIDE_M).buffer(600) for k in range(1, 8)]
    return [shapely.difference(strips[0], shapely.union_all(floes)), *strips[1:], *floes]


ROUGH = (other("W"), ice("70", CA="40", SA="95", CB="30", SB="86"), other("L"), *(ice(SA="86") for _ in range(7)))


@pytest.fixture(scope="module")
def rough_chart(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_chart(tmp_path_factory.mktemp("rough") / "rough.gpkg", ROUGH, rough())


@pytest.fixture(scope="module")
def whole(rough_chart: Path, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """A bundle with all parts. Shared: read it, don't change it."""
    parts = ["picture", "geojson", "kml", "s411"]
    return make_bundle(rough_chart, tmp_path_factory.mktemp("whole"), settings(only=parts, max="40kB"))


# --- What is in it, read by others


def part(bundle: Bundle, suffix: str) -> Path:
    (found,) = bundle.folder.glob(f"*{suffix}")
    return found


def test_the_zip_has_the_size_and_the_parts(whole: Bundle) -> None:
    assert whole.zip.stat().st_size <= 40_000
    with zipfile.ZipFile(whole.zip) as archive:
        assert archive.testzip() is None
        beside = {p.name for p in whole.folder.iterdir()} - {whole.zip.name, "bundle.json"}
        assert set(archive.namelist()) == beside
        assert {Path(n).suffix for n in beside} == {".txt", ".png", ".geojson", ".kml", ".zip", ".json"}
        for name in beside:
            assert archive.read(name) == (whole.folder / name).read_bytes()


def test_others_read_the_same_polygons_from_each_part(whole: Bundle) -> None:
    expected = json.loads(part(whole, "about.json").read_text())["simplification"]["area_km2"]
    for frame in (pyogrio.read_dataframe(part(whole, ".geojson")), pyogrio.read_dataframe(part(whole, ".kml"))):
        assert frame.crs == pyproj.CRS(4326)
        assert frame.geometry.is_valid.all()
        area = sum(abs(GEOD.geometry_area_perimeter(shapely.segmentize(g, 0.05))[0]) for g in frame.geometry) / 1e6
        assert area == pytest.approx(sum(after for _, after in expected.values()), rel=2e-3)
    found = read_chart(part(whole, "Z.zip"))
    assert found.format == "S-411"
    assert found.report.odd_codes == {} and found.report.repaired == 0
    assert set(found.polygons["ct"].dropna()) == {1, 70, 92}
    read = read_chart(part(whole, ".geojson"))  # ours, too
    assert (read.codes("sb") == 86).sum() == 1


def test_each_part_says_when_from_what_and_what_for(whole: Bundle) -> None:
    with zipfile.ZipFile(part(whole, "Z.zip")) as archive:
        texts = {n: archive.read(n).decode() for n in archive.namelist()}
    texts |= {s: part(whole, s).read_text() for s in (".txt", ".geojson", ".kml", "about.json")}
    assert len(texts) == 7
    for name, text in texts.items():
        assert "not for navigation" in text, name
        assert "2018-01-16" in text or name.endswith(".gml"), name  # the dataset of S-411 has no place for a time
        assert "rough.gpkg" in text or name.endswith(".gml"), name


def test_the_picture_has_a_palette_with_the_colours_of_the_ice(whole: Bundle) -> None:
    with Image.open(part(whole, ".png")) as picture:
        assert picture.mode == "P"
        colours = {rgb: n for n, rgb in picture.convert("RGB").getcolors(1 << 20) or []}
    # JCOMM TR-24: old ice, first-year ice, open water
    assert all(colours.get(rgb, 0) > 500 for rgb in ((180, 100, 50), (150, 200, 255)))
    assert colours.get((255, 255, 0), 0) > 20


def test_the_text_can_go_by_telephone(whole: Bundle) -> None:
    text = part(whole, ".txt").read_bytes()
    lines = text.decode("ascii").splitlines()
    assert max(map(len, lines)) <= WIDTH < 80
    assert all(" " <= c <= "~" for line in lines for c in line)
    assert "NOT FOR NAVIGATION" in lines[1]
    assert any(re.search(r"\d\d-\d\dN \d{3}-\d\dW", line) for line in lines)


# --- Its size


@pytest.mark.parametrize("most", ["5kB", "30kB"])
def test_the_size_is_met_and_the_finest_that_fits_is_taken(rough_chart: Path, tmp_path: Path, most: str) -> None:
    made = make_bundle(rough_chart, tmp_path, settings(max=most))
    assert made.zip.stat().st_size <= bytes_in(most)
    record = json.loads(made.record.read_text())
    assert record["zip_bytes"] == made.zip.stat().st_size
    finer = record["simplification"]["tolerance_m"]
    assert finer > 0 if most == "5kB" else finer == 0


def test_what_does_not_fit_is_refused_with_what_would(rough_chart: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        make_bundle(rough_chart, tmp_path, settings(max="3kB", only=["geojson", "s411"]))
    assert not list(tmp_path.iterdir())
    least = int(re.search(r"at least ([\d,]+) bytes", caught.value.message)[1].replace(",", ""))
    assert make_bundle(rough_chart, tmp_path, settings(max=f"{least}B", only=["geojson", "s411"])).zip.is_file()
    with pytest.raises(ConfigError, match="at least"):
        make_bundle(rough_chart, tmp_path, settings(max=f"{least - 1}B", only=["geojson", "s411"]), overwrite=True)
    fitting = re.search(r"--only (\S+) takes ([\d,]+) bytes", caught.value.hint or "")
    if fitting:
        size = fitting[2].replace(",", "")
        again = settings(max=f"{size}B", only=fitting[1].split(","))
        assert make_bundle(rough_chart, tmp_path, again, name="fewer").zip.stat().st_size <= int(size)
    else:
        assert "alone" in (caught.value.hint or "")


def test_the_same_chart_and_settings_give_the_same_bytes(rough_chart: Path, whole: Bundle, tmp_path: Path) -> None:
    how = settings(only=["picture", "geojson", "kml", "s411"], max="40kB")
    again = make_bundle(rough_chart, tmp_path, how)
    assert again.zip.read_bytes() == whole.zip.read_bytes()
    assert make_bundle(rough_chart, tmp_path, how).skipped


@pytest.mark.parametrize(
    ("text", "size"), [("100kB", 100_000), ("1MB", 10**6), ("100KiB", 102_400), ("1.5 mb", 1_500_000), ("900", 900)]
)
def test_sizes_are_read(text: str, size: int) -> None:
    assert bytes_in(text) == size


@pytest.mark.parametrize("text", ["", "kB", "100GB", "-5kB", "1e3kB", "0", "0.5B", "100 k B", "\u0661\u0660kB", "nan"])
def test_other_sizes_are_errors(text: str) -> None:
    with pytest.raises(ConfigError, match="max"):
        settings(max=text)


# --- Cropping and simplifying


def crops(path: Path, area: str = AROUND) -> Crop:
    return crop(read_chart(path), area_of(area))


@pytest.mark.parametrize("tolerance_m", [0.0, 100.0, 800.0, 6400.0])
def test_no_gap_and_no_overlap_arises(rough_chart: Path, tolerance_m: float) -> None:
    before = crops(rough_chart)
    after = simplified(before, tolerance_m)
    assert shapely.is_valid(after.polygons).all()
    assert shapely.coverage_is_valid(after.polygons)
    assert measure_coverage(after.polygons).gaps == 0
    assert len(after.polygons) <= len(before.polygons)


def test_overlaps_go_to_the_smaller_polygon_and_gaps_stay(tmp_path: Path) -> None:
    a, b = squares(2)
    b = shapely.box(LEFT + SIDE_M - 4000, BOTTOM, LEFT + 2 * SIDE_M - 8000, BOTTOM + SIDE_M)  # on 4 km of a
    hole = shapely.box(LEFT + 10_000, BOTTOM + 10_000, LEFT + 20_000, BOTTOM + 20_000)
    found = crops(write_chart(tmp_path / "c.gpkg", (ice(SA="95"), ice(SA="86")), [shapely.difference(a, hole), b]))
    assert shapely.coverage_is_valid(found.polygons)
    stage = np.array([found.chart.codes("sa")[row] for row in found.rows])
    scale = shapely.area(found.polygons).sum() / (shapely.union_all([a, b]).area - hole.area)
    areas = {code: shapely.area(found.polygons[stage == code]).sum() for code in (95, 86)}
    assert areas[86] == pytest.approx(scale * b.area, rel=1e-3)
    assert areas[95] == pytest.approx(scale * (a.area - hole.area - 4000 * SIDE_M), rel=1e-3)
    assert measure_coverage(found.polygons).gaps == 1


def test_small_polygons_join_the_neighbour_with_the_longest_border_and_land_stays(tmp_path: Path) -> None:
    """A square of 3 km between two of ice: 3 km of its border are with the old ice on the left, 9 km with the other."""
    left, right = squares(2)
    x, y = LEFT + SIDE_M, BOTTOM + 30_000
    small = shapely.box(x, y, x + 3000, y + 3000)
    island = shapely.box(x + 30_000, y, x + 31_000, y + 1000)
    right = shapely.difference(right, shapely.union_all([small, island]))
    rows = (ice(SA="95"), ice(SA="86"), ice(SA="81"), other("L"))
    before = crops(write_chart(tmp_path / "c.gpkg", rows, [left, right, small, island]))
    after = simplified(before, 1000.0)  # ten squares of it are 10 km2, more than 9
    was, now = (dict(zip(c.rows.tolist(), shapely.area(c.polygons).tolist(), strict=True)) for c in (before, after))
    assert set(now) == {0, 1, 3}
    assert now[1] == pytest.approx(was[1] + was[2], rel=1e-3)
    assert now[3] > 0


def test_the_ice_edge_is_measured_in_metres() -> None:
    one, other_edge = (shapely.LineString([(0, y), (100_000, y)]) for y in (0, 1000))
    assert edge_moved_m(one, other_edge) == {"mean": 1000.0, "p95": 1000.0, "most": 1000.0}
    nothing = shapely.LineString()
    assert edge_moved_m(one, nothing)["mean"] is None
    assert edge_moved_m(nothing, nothing)["most"] == 0


def test_changed_areas_are_those_of_the_polygons(tmp_path: Path) -> None:
    """The same two squares with the border between them moved by a tenth of a side."""
    rows = (other("W"), ice(SA="86"))
    a, b = squares(2)
    step = SIDE_M / 10
    moved = [shapely.box(LEFT, BOTTOM, LEFT + SIDE_M + step, BOTTOM + SIDE_M),
             shapely.box(LEFT + SIDE_M + step, BOTTOM, LEFT + 2 * SIDE_M, BOTTOM + SIDE_M)]  # fmt: skip
    first, second = (
        crops(write_chart(tmp_path / n, rows, s)).as_chart() for n, s in (("a.gpkg", [a, b]), ("b.gpkg", moved))
    )
    found = changes(first, second)
    assert found["changed_share"] == pytest.approx(0.05, rel=0.01)
    water = found["area_km2"]["open water"]
    assert water[1] / water[0] == pytest.approx(1.1, rel=0.01)
    assert found["ice_edge_moved_m"]["mean"] == pytest.approx(step, rel=0.05)  # the map's scale is a few percent


# --- Areas


def test_a_circle_is_a_circle_on_the_earth() -> None:
    area = area_of("77-30N,12-15W,60nm")
    to_earth = pyproj.Transformer.from_crs(area.crs, "EPSG:4326", always_xy=True)
    lon, lat = to_earth.transform(*shapely.get_coordinates(area.shape).T)
    count = len(lon)
    distance = GEOD.inv(lon, lat, np.full(count, -12.25), np.full(count, 77.5))[2]
    np.testing.assert_allclose(distance, 60 * 1852, rtol=1e-6)
    assert area_of("12.25W, 77.5N, 111.12km").shape.equals(area.shape)


def cap_km2(south: float, north: float, width: float) -> float:
    """Area between parallels, from the authalic latitude."""
    a, e = GEOD.a, np.sqrt(GEOD.es)

    def q(lat: float) -> float:
        s = np.sin(np.radians(lat))
        return float((1 - e**2) * (s / (1 - e**2 * s**2) - np.log((1 - e * s) / (1 + e * s)) / (2 * e)))

    return a**2 * np.radians(width) / 2 * (q(north) - q(south)) / 1e6


@pytest.mark.parametrize(
    ("text", "km2", "pole"),
    [
        ("-25,76,-5,80", cap_km2(76, 80, 20), False),
        ("170,70,-170,75", cap_km2(70, 75, 20), False),
        ("-180,85,180,90", cap_km2(85, 90, 360), True),
        ("-180,80,180,85", cap_km2(80, 85, 360), False),
        ("10,80,-150,90", cap_km2(80, 90, 200), True),
        ("-180,-90,180,-80", cap_km2(80, 90, 360), True),
    ],
)
def test_boxes_have_their_area_also_over_the_date_line_and_around_the_pole(text: str, km2: float, pole: bool) -> None:
    area = area_of(text)
    assert area.shape.area / 1e6 == pytest.approx(km2, rel=2e-4)
    assert area.with_pole == pole
    parts = [shape.area for _, shape in sectors(area)]
    assert sum(parts[1:]) == pytest.approx(parts[0], rel=1e-3)


def test_an_area_from_a_file(tmp_path: Path) -> None:
    drawn = shapely.box(-20, 75, -10, 78)
    path = write_chart(tmp_path / "area.geojson", ({"name": "x"},), [drawn], crs="EPSG:4326")
    assert area_of(str(path)).shape.area / 1e6 == pytest.approx(
        abs(GEOD.geometry_area_perimeter(shapely.segmentize(drawn, 0.01))[0]) / 1e6, rel=0.05
    )


@pytest.mark.parametrize(
    "text",
    ["", "here", "1,2,3", "1,2,3,4,5", "10,80,20,70", "0,0,400,1", "nan,1,2,3", "91N,0E,5nm", "70N,80N,5nm",
     "70N,10W,5",
     "70N,10W,0nm", "70N,10W,9999nm", "70-75N,10W,5nm", "-180,-90,180,90",
     "70N,10W,5mi", "10W,20E,5km", "x" * 300, "10,20,30," + "4" * 300, "a\0b"],
)  # fmt: skip
def test_other_areas_are_errors_that_show_how_to_write_one(text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        area_of(text)
    assert caught.value.hint


def test_positions_are_in_degrees_and_minutes() -> None:
    assert position(-12.25, 77.5) == "77-30N 012-15W"
    assert position(179.9999, -0.999) == "01-00S 180-00E"
    assert position(190, 5) == "05-00N 170-00W"


@pytest.mark.parametrize("name", ["pole", "date line"])
def test_charts_at_the_pole_and_over_the_date_line(name: str, tmp_path: Path) -> None:
    to_map = pyproj.Transformer.from_crs("EPSG:4326", POLAR, always_xy=True)
    x, y = (0.0, 0.0) if name == "pole" else to_map.transform(180.0, 72.0)
    shapes = [shapely.box(x - 50_000 + i * 50_000, y - 50_000, x + i * 50_000, y + 50_000) for i in (0, 1)]
    shapes = [shapely.affinity.translate(s, 7_000, 3_000) for s in shapes]
    path = write_chart(tmp_path / "c.gpkg", (other("W"), ice(SA="95")), shapes)
    area = "-180,89,180,90" if name == "pole" else "178,71,-178,73"
    made = make_bundle(path, tmp_path / "out", settings(area, only=["geojson", "kml", "s411"]))
    frame = pyogrio.read_dataframe(part(made, ".geojson"))
    km2 = (
        sum(
            abs(GEOD.geometry_area_perimeter(shapely.segmentize(p, 0.02))[0])
            for g in frame.geometry
            for p in shapely.get_parts(g)
        )
        / 1e6
    )
    about = json.loads(part(made, "about.json").read_text())
    assert km2 == pytest.approx(sum(after for _, after in about["simplification"]["area_km2"].values()), rel=1e-3)
    assert km2 == pytest.approx(10_000, rel=0.1)
    text = part(made, ".txt").read_text()
    assert ("045W-000E" in text) == (name == "pole")
    west, _, east, _ = frame.total_bounds
    assert west >= -180 and east <= 180


# --- Shares


def test_shares_of_a_sector_by_hand(tmp_path: Path) -> None:
    """Of equal squares: old ice of ten tenths, 5 tenths of first-year ice, bergy water, unknown total, land."""
    rows = (ice(SA="95"), ice("50", SA="86", CN="97"), ice("02", SA="98"), ice("99", SA="81"), other("L"))
    chart = crops(write_chart(tmp_path / "c.gpkg", rows), f"{LAT:.4f}N,{-LON:.4f}W,200nm").as_chart()
    whole_shape = shapely.union_all(chart.geometries)
    west, south, _, north = whole_shape.bounds
    found = sector_shares(chart, shapely.union(whole_shape, shapely.box(west - 1000, south, west, north)))
    assert found["total"] == pytest.approx((1 + 0.5 + 0) / 3, rel=0.01)
    assert list(found["types"]) == ["old ice", "first-year ice"]
    assert list(found["types"].values()) == pytest.approx([1 / 3, 0.5 / 3], rel=0.01)
    assert (found["bergy"], found["unknown"]) == pytest.approx((0.25, 0.25), rel=0.01)
    assert found["unknown_types"] == ["new ice"] and found["traces"] == {
        "multi-year ice": pytest.approx(0.25, rel=0.01)
    }
    assert found["land"] == pytest.approx(0.2, rel=0.05)
    assert found["uncharted"] > 0


@pytest.mark.parametrize("kind", ["S", "N", "L"])
def test_what_is_not_sea_neither_joins_it_nor_grows(kind: str, tmp_path: Path) -> None:
    """A small polygon of ice beside a large one that is not sea, and a small one of that kind within the ice."""
    left, right = squares(2)
    x, y = LEFT + SIDE_M, BOTTOM + 30_000
    beside, within = shapely.box(x - 3000, y, x, y + 3000), shapely.box(x + 30_000, y, x + 31_000, y + 1000)
    shapes = [shapely.difference(left, beside), shapely.difference(right, within), beside, within]
    before = crops(write_chart(tmp_path / "c.gpkg", (other(kind), ice(SA="95"), ice(SA="81"), other(kind)), shapes))
    after = simplified(before, 1000.0)
    was, now = (dict(zip(c.rows.tolist(), shapely.area(c.polygons).tolist(), strict=True)) for c in (before, after))
    assert set(now) == {0, 1, 3}
    assert now[0] == pytest.approx(was[0], rel=1e-3) and now[1] == pytest.approx(was[1] + was[2], rel=1e-3)


def test_a_bundle_of_a_finer_tolerance_is_taken_where_the_coarsest_is_larger(
    rough_chart: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Six tolerances, of which only the last but one fits."""
    sizes, real = [50_000, 40_000, 30_000, 20_000, 9_900, 10_100], _Maker.bundle

    def sized(self: Any, parts: Any, level: int, pixels: int) -> Any:
        return replace(real(self, parts, 0, pixels), zip=b"x" * sizes[level])

    monkeypatch.setattr(_Maker, "bundle", sized)
    monkeypatch.setattr(_Maker, "tolerances", [0.0] * 6)
    made = make_bundle(rough_chart, tmp_path, settings(max="10kB", only=["geojson"]))
    assert made.zip.stat().st_size == 9_900


def test_the_text_lists_at_most_sixteen_positions_of_a_line() -> None:
    zigzag = shapely.LineString([(40 * i * 1852, 200 * (i % 2) * 1852) for i in range(40)])
    tolerance, short = _few_positions(zigzag)
    assert shapely.get_num_coordinates(short) <= 16
    assert shapely.hausdorff_distance(zigzag, short) <= tolerance * 1852 * 1.001


def test_the_ice_is_to_the_right_of_the_edge(tmp_path: Path) -> None:
    """Ice east of the water: with it to the right, one goes north. South of it, one goes east."""
    west = squares(1)[0]
    for shapes, first in ((squares(2), "south"), ([shapely.affinity.translate(west, 0, SIDE_M), west], "west")):
        path = write_chart(tmp_path / f"{first}.gpkg", (other("W"), ice(SA="86")), shapes)
        text = part(make_bundle(path, tmp_path / first, settings()), ".txt").read_text()
        found = re.findall(r"(\d\d)-(\d\d)N (\d{3})-(\d\d)W", text.partition("ICE EDGE")[2])
        x, y = pyproj.Transformer.from_crs("EPSG:4326", POLAR, always_xy=True).transform(
            [-(int(c) + int(d) / 60) for *_, c, d in found], [int(a) + int(b) / 60 for a, b, *_ in found]
        )
        assert (y[-1] - y[0] if first == "south" else x[-1] - x[0]) > 0.8 * SIDE_M


# --- Status


def test_a_draft_a_correction_and_a_publication_say_what_they_are(
    draft: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("floemap.publishing.publish.draw_sheet", lambda _c, path, *_: path.write_bytes(b"%PDF-"))
    monkeypatch.setattr("floemap.publishing.change_page._map", lambda *_: b"")
    how = BundleSettings.checked(area="77N,8W,200nm")
    chart, facts = find_chart(draft, how)
    assert (facts.kind, facts.simulated, chart.path.name) == ("draft", True, "chart.gpkg")
    assert f"{facts.valid:%Y%m%dT%H%M}" == "20180116T0754"
    assert find_chart(draft / "chart.geojson", how)[1].kind == "draft"
    published = publish_chart(draft / "chart.gpkg", tmp_path / "published", "A. Analyst")
    for path in (published.folder, published.chart, part(Bundle(published.folder), ".geojson")):
        found = find_chart(path, how)[1]
        assert (found.kind, found.valid, found.simulated) == ("published", facts.valid, True)
        assert "analyst A. Analyst" in found.made_by
    copy = Path(shutil.copytree(draft, tmp_path / "copy" / draft.name))
    frame = pyogrio.read_dataframe(copy / "chart.geojson")
    (copy / "chart.geojson").write_text(frame.to_json())
    assert find_chart(copy / "chart.geojson", how)[1].kind == "correction"
    with pytest.raises(ChartError, match=r"chart\.geojson, changed"):
        find_chart(copy, how)
    other_copy = Path(shutil.copytree(published.folder, tmp_path / "changed" / published.folder.name))
    file = part(Bundle(other_copy), ".geojson")
    file.write_text(pyogrio.read_dataframe(file).to_json())
    with pytest.raises(ChartError, match="changed since it was published"):
        find_chart(file, how)


def test_the_command_on_a_draft(draft: Path, tmp_path: Path) -> None:
    before = contents(draft)
    done = run("bundle", draft, "--area", "77N,8W,200nm", "--max", "100kB", "--out", tmp_path)
    assert done.exit_code == 0
    folder = Path(done.stdout.strip())
    assert folder.name == "ice_20180116T0754Z_7700N00800W"
    assert (folder / f"{folder.name}.zip").stat().st_size <= 100_000
    assert contents(draft) == before
    text = (folder / f"{folder.name}.txt").read_text()
    assert "DRAFT" in text and "SIMULATED" in text
    described = floemap.describe(folder).facts
    assert described["kind"] == "bundle for a ship" and described["simulated"]
    assert json.loads((folder / "bundle.json").read_text())["made_by"] == "floemap bundle"
    again = ("bundle", draft, "--area", "77N,8W,200nm", "--out", tmp_path, "--only")
    assert run(*again, "geojson").exit_code == 0  # other settings replace it
    assert not list(folder.glob("*.png"))
    assert "SIMULATED" in run("info", folder).output


# --- Bad input


def test_what_cannot_be_bundled_is_an_error_and_leaves_nothing(rough_chart: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    cases: dict[str, Callable[[], Any]] = {
        "no polygon in the area": lambda: make_bundle(rough_chart, out, settings("10,70,20,75")),
        "time of validity is not known": lambda: make_bundle(rough_chart, out, BundleSettings.checked(area=AROUND)),
        "not a chart": lambda: make_bundle(tmp_path, out, settings()),
        "does not exist|no such": lambda: make_bundle(tmp_path / "none.gpkg", out, settings()),
        "leads to another folder": lambda: make_bundle(rough_chart, out, settings(), name="a/x"),
        "ASCII": lambda: make_bundle(rough_chart, out, settings(), name="Grönland"),
        "only": lambda: settings(only=["shape"]),
        "valid": lambda: BundleSettings.checked(area=AROUND, valid="yesterday"),
    }
    for words, call in cases.items():
        with pytest.raises(FloemapError, match=f"(?i){words}"):
            call()
    assert not out.exists()


def test_a_foreign_folder_is_not_replaced(rough_chart: Path, tmp_path: Path) -> None:
    made = make_bundle(rough_chart, tmp_path, settings())
    (made.folder / "mine.txt").write_text("mine")
    with pytest.raises(OutputError, match=r"mine\.txt"):
        make_bundle(rough_chart, tmp_path, settings(max="500kB"))
    assert (made.folder / "mine.txt").read_text() == "mine"


def test_names_from_outside_reach_no_program_as_code(tmp_path: Path) -> None:
    name = '<script>alert("1")</script>\u202e\u00c5 \x1b[31m$a$'.replace("/", "_")
    path = write_chart(tmp_path / "plain.gpkg", (other("W"), ice(SA="86")))
    path = path.rename(tmp_path / f"{name}.gpkg")
    made = make_bundle(path, tmp_path / "out", settings(only=["picture", "geojson", "kml", "s411"]))
    text = part(made, ".txt").read_text(encoding="ascii")
    assert "\x1b" not in text and "Source: <script>" in text
    kml = part(made, ".kml").read_text()
    assert "<script>" not in kml and "&lt;script" not in kml  # escaped twice: viewers show descriptions as HTML
    assert json.loads(part(made, ".geojson").read_text())["about"]["source"] == f"{name}.gpkg"
    assert len(pyogrio.read_dataframe(part(made, ".kml"))) == 2
    with zipfile.ZipFile(BytesIO(made.zip.read_bytes())) as archive:
        assert all(n.isascii() and n.isprintable() for n in archive.namelist())


@pytest.mark.skipif(not CIS.is_file(), reason="no real chart here")
def test_a_real_chart_keeps_its_borders_common() -> None:
    chart: Chart = read_chart(CIS)
    before = crop(chart, area_of("-75,70,-68,73"))
    after = simplified(before, 1600.0)
    assert shapely.coverage_is_valid(before.polygons) and shapely.coverage_is_valid(after.polygons)
    found = changes(before.as_chart(), after.as_chart())
    assert 0 < found["changed_share"] < 0.03
    assert found["vertices"][1] < found["vertices"][0] / 3
