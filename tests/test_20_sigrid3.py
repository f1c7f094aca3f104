"""Reading charts: the same chart in any form reads the same; what is wrong is refused by name, or counted."""

from __future__ import annotations

import json
import logging
import shutil
import tarfile
import zipfile
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import pyproj
import pytest
import shapely
import shapely.affinity
from chart_maker import COLUMNS, FOUR, LEFT, POLAR, SIDE_M, grid, ice, other, squares, write_chart

from floemap.errors import ChartError
from floemap.icechart.describe import chart_facts
from floemap.icechart.label.rasterize import rasterize_polygons
from floemap.icechart.read.codes import NOT_GIVEN, TENTHS, read_codes, tenths
from floemap.icechart.read.columns import CODE_COLUMNS
from floemap.icechart.read.sigrid3 import Chart, read_chart


def codes_of(chart: Chart) -> list[list[int]]:
    return [chart.codes(c).tolist() for c in CODE_COLUMNS]


@pytest.fixture(scope="module")
def usual(tmp_path_factory: pytest.TempPathFactory) -> Chart:
    return read_chart(write_chart(tmp_path_factory.mktemp("usual") / "chart.gpkg"))


@pytest.mark.parametrize("name", ["chart.shp", "chart.gpkg", "chart.geojson", "chart.zip", "chart.fgb"])
def test_every_format_gives_the_same_chart(tmp_path: Path, usual: Chart, name: str) -> None:
    options = {"engine": "pyogrio", "SPATIAL_INDEX": "NO"} if name.endswith("fgb") else {}
    crs = "EPSG:4326" if name.endswith("json") else POLAR
    # An edge that is straight in longitude and latitude bows on the map: with short edges, by a decimetre.
    geometries = gpd.GeoSeries(squares(4), crs=POLAR).segmentize(1000).to_crs(crs)
    chart = read_chart(write_chart(tmp_path / name, geometries=geometries, crs=crs, **options))  # type: ignore[arg-type]
    assert codes_of(chart) == codes_of(usual)
    assert chart.polygons["poly_type"].tolist() == ["I", "I", "I", "L"]
    assert chart.crs == usual.crs
    assert (chart.polygons["ct"].isna()).tolist() == [False, False, False, True]
    assert shapely.hausdorff_distance(chart.geometries, usual.geometries).max() <= (0.2 if crs != POLAR else 0)


def test_zip_with_two_charts_needs_a_choice(tmp_path: Path, usual: Chart) -> None:
    first = write_chart(tmp_path / "first.geojson", crs=POLAR)
    path = tmp_path / "two.zip"
    with zipfile.ZipFile(path, "w") as z:
        z.write(first, "first.geojson")
        z.write(write_chart(tmp_path / "second.gpkg", FOUR[:2]), "second.gpkg")
    with pytest.raises(ChartError, match=r"2 charts: first.geojson, second.gpkg.*--layer"):
        read_chart(path)
    assert len(read_chart(path, layer="first")) == 4
    assert len(read_chart(path, layer="second.gpkg")) == 2


def test_layers_need_a_choice(tmp_path: Path) -> None:
    path = write_chart(tmp_path / "two.gpkg", layer="ice")
    write_chart(path, FOUR[:1], layer="older", mode="a")
    with pytest.raises(ChartError, match=r"2 layers: ice, older.*--layer"):
        read_chart(path)
    assert len(read_chart(path, layer="older")) == 1
    with pytest.raises(ChartError, match=r"no layer 'newer'.*It has: ice, older"):
        read_chart(path, layer="newer")


def test_points_beside_the_polygons_are_no_second_chart(tmp_path: Path) -> None:
    path = write_chart(tmp_path / "c.gpkg", layer="ice")
    write_chart(path, FOUR[:1], [shapely.Point(0, 0)], layer="icebergs", mode="a")
    assert len(read_chart(path)) == 4


@pytest.mark.parametrize("case", [str.lower, str.upper, str.title])
def test_case_of_columns_does_not_matter(tmp_path: Path, usual: Chart, case: Any) -> None:
    rows = [{case(k): v for k, v in row.items()} for row in FOUR]
    assert codes_of(read_chart(write_chart(tmp_path / "c.gpkg", rows))) == codes_of(usual)


def test_first_extremeearth_columns_are_enough(tmp_path: Path) -> None:
    rows = [
        {"id": 7, "CT": 92, "CA": -9, "SA": 95, "FA": 6, "CB": -9, "SB": -9, "FB": -9, "poly_type": "I", "area": 1.0},
        {"id": 8, "CT": 1, "CA": -9, "SA": 99, "FA": -9, "CB": -9, "SB": -9, "FB": -9, "poly_type": "W", "area": 1.0},
    ]
    chart = read_chart(write_chart(tmp_path / "seaice_s1_20180116t075430.shp", rows))
    assert chart.codes("sa").tolist() == [95, 99]
    assert chart.codes("cc").tolist() == [NOT_GIVEN] * 2
    assert chart.polygons["poly_type"].tolist() == ["I", "W"]


@pytest.mark.parametrize(
    ("given", "code"),
    [("08", 8), ("8", 8), (" 8 ", 8), (8, 8), (8.0, 8), ("8.0", 8), ("92", 92), ("00", 0), (0, 0), ("8\0", 8)]
    + [(empty, NOT_GIVEN) for empty in ("-9", -9, -9.0, "-9.0", "", "  ", None, float("nan"), "\0\0")],
)
def test_codes_in_every_spelling(given: Any, code: int) -> None:
    assert read_codes([given], "SA", [1]).tolist() == [code]


@pytest.mark.parametrize("given", ["MY", "9+", 850, "850", -1, 84.5, "84/85", "8_4", "95,0", "0x5F", float("inf")])
def test_what_is_no_code_is_refused_by_polygon_and_value(given: Any) -> None:
    with pytest.raises(ChartError, match=r"polygon p2: SA is .*SIGRID-3 code"):
        read_codes(["84", given], "SA", ["p1", "p2"])


@pytest.mark.parametrize("kind", [str, int, float])
def test_numbers_and_text_read_the_same(tmp_path: Path, kind: type) -> None:
    rows = [ice(kind(90), CA=kind(40), SA=kind(84), CB=kind(50), SB=kind(81), FA=kind(8))]
    rows = [{k: kind(-9) if v == "-9" else v for k, v in row.items()} for row in rows]
    chart = read_chart(write_chart(tmp_path / "c.shp", rows))
    assert [chart.codes(c)[0] for c in ("ct", "ca", "sa", "fa", "cb", "sb", "cc")] == [90, 40, 84, 8, 50, 81, -9]


def test_concentrations_follow_sigrid3() -> None:
    codes = np.array([0, 1, 2, 10, 50, 90, 91, 92, 13, 46, 79, 81, 55, 98, 99, 54, -9], np.int16)
    low, middle, high = tenths(codes)
    expected = [(0, 0), (0, 1), (0, 1), (1, 1), (5, 5), (9, 9), (9, 10), (10, 10), (1, 3), (4, 6), (7, 9), (8, 10)]
    assert list(zip(low[:12], high[:12], strict=True)) == expected
    assert (low[12], high[12]) == (0, 0)
    assert np.isnan([low[13:], middle[13:], high[13:]]).all()
    # A two-digit range ab is a to b tenths; whatever the code, the middle lies between its ends.
    assert all(TENTHS[10 * a + b] == (a, b) for a in range(1, 10) for b in range(a + 1, 10))
    assert ((low <= middle) & (middle <= high))[:13].all()


@pytest.mark.parametrize("encoding", ["cp1252", "utf-8", "cp866"])
@pytest.mark.parametrize("stated", ["UTF-8", "CP1252", None])
def test_text_in_any_encoding_does_no_harm(tmp_path: Path, encoding: str, stated: str | None) -> None:
    names = {"cp1252": "Grønland", "utf-8": "Grønland", "cp866": "Карское"}
    path = write_chart(tmp_path / "c.shp", [row | {"REGION": names[encoding]} for row in FOUR], encoding=encoding)
    path.with_suffix(".cpg").unlink()
    if stated:
        path.with_suffix(".cpg").write_text(stated)
    assert read_chart(path).codes("sa").tolist() == [95, 86, 95, NOT_GIVEN]


def test_z_values_are_dropped_and_other_crs_kept(tmp_path: Path) -> None:
    lcc = "+proj=lcc +lat_0=40 +lon_0=-100 +lat_1=49 +lat_2=77 +datum=WGS84 +units=m"
    deep = [shapely.force_3d(s, 5.0) for s in squares(4, left=0, bottom=3e6)]
    chart = read_chart(write_chart(tmp_path / "c.gpkg", geometries=deep, crs=lcc))
    assert chart.source_crs == chart.crs
    assert "Lambert" in chart.crs.coordinate_operation.method_name
    assert rasterize_polygons(chart, _around(chart)).max() == 4


def _around(chart: Chart) -> Any:
    from odc.geo.geobox import GeoBox

    return GeoBox.from_bbox(chart.polygons.total_bounds, chart.crs.to_wkt(), resolution=4000)


def test_invalid_polygons_are_repaired_and_counted(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    x, y, s = LEFT, -1.5e6, SIDE_M
    bow_tie = shapely.Polygon([(x, y), (x + s, y + s), (x + s, y), (x, y + s)])
    line = shapely.LineString([(x, y), (x + s, y)])
    mixed = shapely.GeometryCollection([line, shapely.box(x + 2 * s, y, x + 3 * s, y + s)])
    with caplog.at_level(logging.WARNING, "floemap"):
        chart = read_chart(
            write_chart(tmp_path / "c.gpkg", [*FOUR, ice(SA="84")], [bow_tie, squares(2)[1], mixed, None, line])
        )
    assert chart.report.features == 5
    assert chart.report.repaired == 1
    assert chart.report.without_area == 2
    assert chart.polygons.index.tolist() == [1, 2, 3]
    assert shapely.is_valid(chart.geometries).all()
    assert np.isin(shapely.get_type_id(chart.geometries), (3, 6)).all()
    assert chart.geometries[0].area == pytest.approx(s * s / 2)
    assert chart.geometries[2].area == pytest.approx(s * s)
    assert "1 polygon has invalid geometry" in caplog.text
    assert "2 features without an area" in caplog.text


def test_odd_codes_and_sums_are_counted(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    rows = [
        ice("92", CA="60", SA="95", CB="60", SB="86"),  # past ten
        ice("50", CA="40", SA="95", CB="20", SB="86"),  # past the total
        ice("91", CA="60", SA="95", CB="40", SB="86"),  # ten in 9+: as analysts write it
        ice("79", CA="46", SA="95", CB="35", SB="86"),  # ranges that can be met
        ice("92", SA="90"),
        ice("54", SA="84"),
    ]
    with caplog.at_level(logging.WARNING, "floemap"):
        report = read_chart(write_chart(tmp_path / "c.gpkg", rows)).report
    assert (report.past_ten, report.past_total) == (1, 2)
    assert report.odd_codes == {"CT": {54: 1}, "SA": {90: 1}}
    assert "1 polygon has partial concentrations that sum to more than ten" in caplog.text


def shapefile(folder: Path) -> Path:
    return write_chart(folder / "c.shp")


def cut(path: Path, keep: int) -> None:
    path.write_bytes(path.read_bytes()[:keep])


def test_a_shapefile_that_is_not_whole_is_refused(tmp_path: Path) -> None:
    for suffix, keep, match in [
        (".shp", 50, "cut off"),
        (".shp", 10, "its .shp file does not have the content"),
        (".shp", 400, "cut off: 400 bytes of"),
        (".shx", 104, "cut off"),
        (".dbf", 500, "cut off"),
        (".dbf", 5, "cut off"),
    ]:
        path = shapefile(tmp_path / f"{suffix}{keep}")
        cut(path.with_suffix(suffix), keep)
        with pytest.raises(ChartError, match=match) as e:
            read_chart(path)
        assert suffix in e.value.message
        assert e.value.path == path
        assert e.value.hint


def test_missing_parts_of_a_shapefile_are_named(tmp_path: Path) -> None:
    for suffix, match in [(".dbf", r"\.dbf file, the table of codes"), (".shx", r"\.shx file, the index")]:
        path = shapefile(tmp_path / suffix)
        path.with_suffix(suffix).unlink()
        with pytest.raises(ChartError, match=match):
            read_chart(path)
    path = shapefile(tmp_path / "other")
    shutil.copy(write_chart(tmp_path / "two" / "c.shp", FOUR[:2]).with_suffix(".dbf"), path.with_suffix(".dbf"))
    with pytest.raises(ChartError, match=r"2 rows for 4 shapes.*different charts"):
        read_chart(path)


def test_a_zip_is_looked_at_as_closely(tmp_path: Path) -> None:
    path = shapefile(tmp_path / "c")
    cut(path.with_suffix(".shp"), 400)
    for name, parts in (("cut.zip", (".shp", ".shx", ".dbf", ".prj")), ("no_table.zip", (".shp", ".shx"))):
        with zipfile.ZipFile(tmp_path / name, "w") as z:
            for part in parts:
                z.write(path.with_suffix(part), f"a/c{part}")
    with pytest.raises(ChartError, match="cut off"):
        read_chart(tmp_path / "cut.zip")
    with pytest.raises(ChartError, match=r"\.dbf"):
        read_chart(tmp_path / "no_table.zip")
    with zipfile.ZipFile(tmp_path / "hostile.zip", "w") as z:
        z.write(write_chart(tmp_path / "c.gpkg"), "../c.gpkg")
    with pytest.raises(ChartError, match="whose path leaves the archive"):
        read_chart(tmp_path / "hostile.zip")
    with zipfile.ZipFile(tmp_path / "bomb.zip", "w", zipfile.ZIP_DEFLATED) as z:
        z.writestr("c.geojson", b" " * (20 << 20))
    with pytest.raises(ChartError, match="would grow to"):
        read_chart(tmp_path / "bomb.zip")
    cut(tmp_path / "hostile.zip", 100)
    with pytest.raises(ChartError, match="not a readable zip"):
        read_chart(tmp_path / "hostile.zip")
    with zipfile.ZipFile(tmp_path / "none.zip", "w") as z:
        z.writestr("readme.txt", "nothing")
    with pytest.raises(ChartError, match="holds 0 charts"):
        read_chart(tmp_path / "none.zip")


def test_without_crs_one_must_be_said(tmp_path: Path, usual: Chart) -> None:
    path = shapefile(tmp_path)
    path.with_suffix(".prj").unlink()
    with pytest.raises(ChartError, match=r"no CRS: its \.prj file is missing.*--crs"):
        read_chart(path)
    assert read_chart(path, crs=POLAR).crs == usual.crs
    with pytest.raises(ChartError, match="not one that PROJ knows: no such thing"):
        read_chart(path, crs="no such thing")
    path.with_suffix(".prj").write_text("hello")
    with pytest.raises(ChartError, match="its CRS is not one that PROJ knows: hello"):
        read_chart(path)
    with pytest.raises(ChartError, match="no CRS: the file gives none"):
        read_chart(write_chart(tmp_path / "c.gpkg", crs=None))


def test_a_crs_that_cannot_be_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ChartError, match=r"in longitude and latitude, but a vertex is at 5.*\.prj"):
        read_chart(write_chart(tmp_path / "c.shp", crs="EPSG:4326"))


def test_a_said_crs_does_not_override_the_files(tmp_path: Path) -> None:
    assert read_chart(shapefile(tmp_path), crs="EPSG:3031").crs.to_epsg() == 3413


@pytest.mark.parametrize("name", ["c.shp", "c.gpkg", "c.geojson"])
def test_an_empty_chart_is_refused(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    frame = gpd.GeoDataFrame({c: ["1"] for c in COLUMNS}, geometry=squares(1), crs=POLAR)
    frame.iloc[:0].to_file(path)
    with pytest.raises(ChartError, match=r"0 features, none|lacks CT"):
        read_chart(path)
    with pytest.raises(ChartError, match=r"1 feature, none"):
        read_chart(write_chart(tmp_path / "points.gpkg", FOUR[:1], [shapely.Point(LEFT, 0)]))


@pytest.mark.parametrize(
    ("absent", "match"),
    [("CT", "lacks CT; it has CA, SA"), ("SA", "lacks SA"), ("POLY_TYPE", "lacks POLY_TYPE"), ("CB", None)],
)
def test_missing_columns_are_named(tmp_path: Path, absent: str, match: str | None) -> None:
    rows = [{k: v for k, v in row.items() if k != absent} for row in FOUR]
    path = write_chart(tmp_path / "c.gpkg", rows)
    if match:
        with pytest.raises(ChartError, match=match):
            read_chart(path)
    else:
        assert (read_chart(path).codes("cb") == NOT_GIVEN).all()


def test_half_a_type_is_refused(tmp_path: Path) -> None:
    rows = [{k: v for k, v in row.items() if k != "SB"} for row in FOUR]
    with pytest.raises(ChartError, match="lacks SB"):
        read_chart(write_chart(tmp_path / "c.gpkg", rows))
    with pytest.raises(ChartError, match="two columns 'CT' and 'Ct'"):
        read_chart(write_chart(tmp_path / "c.geojson", [row | {"Ct": "1"} for row in FOUR]))


def test_codes_out_of_range_name_file_polygon_and_value(tmp_path: Path) -> None:
    path = write_chart(tmp_path / "c.gpkg", [FOUR[0], ice(SA="850")])
    with pytest.raises(ChartError, match="polygon 2: SA is '850'") as e:
        read_chart(path)
    assert e.value.path == path
    with pytest.raises(ChartError, match=r"polygon 2: POLY_TYPE is 'Q'.*land"):
        read_chart(write_chart(tmp_path / "q.gpkg", [FOUR[0], other("Q")]))


def test_lower_case_and_empty_polygon_types(tmp_path: Path) -> None:
    rows = [ice(SA="84") | {"POLY_TYPE": t} for t in ("i", " I", "", None)]
    chart = read_chart(write_chart(tmp_path / "c.gpkg", rows))
    assert chart.polygons["poly_type"].tolist() == ["I", "I", "", ""]
    assert chart.report.untyped == 2


@pytest.mark.parametrize(
    ("name", "content", "match"),
    [
        ("c.gpkg", b"SQLite format 3\0" + b"0" * 100, "cannot be read"),
        ("c.geojson", b'{"type":"FeatureCollection","features":[', "cannot be read"),
        ("c.shp", b"", "not have the content of a shapefile"),
        (
            "c.geojson",
            b"<OGRVRTDataSource><OGRVRTLayer name='a'/></OGRVRTDataSource>",
            "the content of a .geojson file",
        ),
        ("c.gpkg", b'{"type":"FeatureCollection","features":[]}', "not have the content of a .gpkg file"),
        ("c.fgb", b"", "is empty"),
        ("c.fgb", b"fgb", "not have the content of a .fgb file"),
        ("c.txt", b"", "'.txt', which is not a format of charts"),
        ("c.vrt", b"", "not a format of charts"),
    ],
)
def test_what_is_no_chart_is_refused(tmp_path: Path, name: str, content: bytes, match: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ChartError, match=match):
        read_chart(tmp_path / name)


def test_nothing_there(tmp_path: Path) -> None:
    with pytest.raises(ChartError, match="does not exist"):
        read_chart(tmp_path / "c.shp")
    with pytest.raises(ChartError, match="is a folder"):
        read_chart(tmp_path)


def test_grid_of_the_maker_holds_its_squares(usual: Chart) -> None:
    numbers = rasterize_polygons(usual, grid())
    assert numbers.tolist()[0][::64] == [1, 2, 3, 4]


def test_a_file_that_points_to_others_is_refused_in_a_zip_too(tmp_path: Path, usual: Chart) -> None:
    """GDAL would follow it, to any file on this machine or elsewhere."""
    import zipfile

    usual.polygons.to_file(tmp_path / "other.gpkg")
    pointer = (
        f"<OGRVRTDataSource><OGRVRTLayer name='other'><SrcDataSource>{tmp_path}/other.gpkg</SrcDataSource>"
        "</OGRVRTLayer></OGRVRTDataSource>"
    )
    with zipfile.ZipFile(tmp_path / "c.zip", "w") as z:
        z.writestr("c.geojson", pointer)
    with pytest.raises(ChartError, match=r"not have the content of a \.geojson file"):
        read_chart(tmp_path / "c.zip")


WKT1_ESRI = pyproj.CRS(POLAR).to_wkt("WKT1_ESRI")


@pytest.mark.parametrize(
    "said",
    [
        WKT1_ESRI,
        pyproj.CRS(POLAR).to_wkt("WKT1_GDAL"),
        pyproj.CRS(POLAR).to_wkt("WKT2_2019"),
        pyproj.CRS(POLAR).to_3d().to_wkt("WKT2_2019"),
        pyproj.CRS("EPSG:3413+5773").to_wkt("WKT2_2019"),
        "+proj=stere +lat_0=90 +lat_ts=70 +lon_0=-45 +datum=WGS84 +units=m +no_defs",
        "EPSG:3413",
        "\ufeff" + WKT1_ESRI,
        WKT1_ESRI.encode("utf-16"),
        WKT1_ESRI.replace("],", "],\r\n"),
    ],
)
def test_a_prj_file_is_read_in_every_dialect(tmp_path: Path, said: str | bytes) -> None:
    """GDAL reads one of them, and says of the others that there is no CRS."""
    path = write_chart(tmp_path / "c.shp")
    expected = read_chart(path)
    path.with_suffix(".prj").write_bytes(said if isinstance(said, bytes) else said.encode())
    chart = read_chart(path)
    assert chart.crs.equals(expected.crs, ignore_axis_order=True)
    assert shapely.equals(chart.geometries, expected.geometries).all()


@pytest.mark.parametrize(
    ("said", "words"),
    [
        ('PROJCS["Undefined",GEOGCS["x"]]', "its CRS is not one that PROJ knows"),
        (pyproj.CRS("EPSG:5773").to_wkt(), "EGM96 height.*does not give positions on the earth"),
        (pyproj.CRS("EPSG:4978").to_wkt(), "does not give positions on the earth"),
        (" \r\n", "has no CRS: its .prj file is missing or empty"),
    ],
)
def test_a_prj_file_of_no_use_is_named_and_may_be_replaced(tmp_path: Path, said: str, words: str) -> None:
    path = write_chart(tmp_path / "c.shp")
    path.with_suffix(".prj").write_text(said)
    with pytest.raises(ChartError, match=words):
        read_chart(path)
    assert read_chart(path, crs=POLAR).crs == pyproj.CRS(POLAR)


@pytest.mark.parametrize(("unit", "metres"), [("Foot_US", 1200 / 3937), ("Kilometer", 1000.0)])
def test_charts_in_other_units_become_metres(tmp_path: Path, unit: str, metres: float) -> None:
    smaller = [shapely.affinity.scale(s, 1 / metres, 1 / metres, origin=(0, 0)) for s in squares(4)]
    path = write_chart(tmp_path / "c.shp", FOUR, smaller)
    path.with_suffix(".prj").write_text(WKT1_ESRI.replace('UNIT["Meter",1.0]', f'UNIT["{unit}",{metres!r}]'))
    chart = read_chart(path)
    np.testing.assert_allclose(shapely.area(chart.geometries), SIDE_M**2, rtol=1e-9)
    assert chart.crs.axis_info[0].unit_name == "metre"
    assert chart_facts(chart)["coverage"]["area_m2"] == pytest.approx(4 * SIDE_M**2)


@pytest.mark.parametrize("name", ["c.geojson", "c.shp"])
def test_degrees_that_are_none_may_be_replaced(tmp_path: Path, usual: Chart, name: str) -> None:
    """GeoJSON is in longitude and latitude by its standard, unless it says another; programs often forget to."""
    path = write_chart(tmp_path / name, crs="EPSG:4326" if name.endswith(".shp") else POLAR)
    if path.suffix == ".geojson":
        content = json.loads(path.read_text())
        del content["crs"]
        path.write_text(json.dumps(content))
    with pytest.raises(ChartError, match=r"in longitude and latitude, but a vertex is at .*--crs"):
        read_chart(path)
    chart = read_chart(path, crs=POLAR)
    assert chart.crs == usual.crs
    assert shapely.equals(chart.geometries, usual.geometries).all()


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32"])
def test_json_in_every_encoding(tmp_path: Path, usual: Chart, encoding: str) -> None:
    path = write_chart(tmp_path / "c.geojson")
    path.write_text(path.read_text().replace("\n", "\r\n"), encoding=encoding)
    assert codes_of(read_chart(path)) == codes_of(usual)


def packed(into: Path, name: str, files: list[Path]) -> Path:
    """Pack files into an archive, of the kind that its suffix says."""
    path = into / name
    if name.endswith(".zip"):
        with zipfile.ZipFile(path, "w") as z:
            for file in files:
                z.write(file, f"folder/{file.name}")
    else:
        with tarfile.open(path, "w:gz" if name.endswith("gz") else "w") as t:
            for file in files:
                t.add(file, f"./folder/{file.name}")
    return path


def test_archives_go_by_their_content(tmp_path: Path, usual: Chart) -> None:
    files = sorted(write_chart(tmp_path / "chart" / "c.shp").parent.iterdir())
    for given, called in (("a.tar", "b.zip"), ("a.zip", "b.tar")):
        path = packed(tmp_path, given, files).rename(tmp_path / called)
        assert codes_of(read_chart(path)) == codes_of(usual)
    for content, words in (
        (packed(tmp_path, "a.tgz", files).read_bytes(), "is a gzip file"),
        (b"Rar!\x1a\x07\x01\x00", "is a rar archive"),
        (b"7z\xbc\xaf\x27\x1c", "is a 7z archive"),
        (b"\x28\xb5\x2f\xfd", "is a zstd file"),
    ):
        path.write_bytes(content + bytes(600))
        with pytest.raises(ChartError, match=rf"{words}.*\. Unpack it"):
            read_chart(path)


@pytest.mark.parametrize("name", ["a.tgz", "a.7z", "a.zip"])
def test_archives_that_are_not_looked_into_are_named(tmp_path: Path, name: str) -> None:
    files = sorted(write_chart(tmp_path / "chart" / "c.shp").parent.iterdir())
    inner = packed(tmp_path, "deep.zip", [packed(tmp_path, "deeper.zip", files)]) if name == "a.zip" else None
    path = packed(tmp_path, "outer.zip", [inner or packed(tmp_path, name, files)])
    with pytest.raises(ChartError, match=r"holds no chart but 1 archives, such as .*\. Unpack it"):
        read_chart(path)


@pytest.mark.parametrize("suffix", [".zip", ".tar"])
def test_what_macos_puts_beside_files_is_no_chart(tmp_path: Path, usual: Chart, suffix: str) -> None:
    files = sorted(write_chart(tmp_path / "chart" / "c.shp").parent.iterdir())
    for file in files:
        file.with_name(f"._{file.name}").write_bytes(b"\0\5\x16\7" + bytes(100))
    path = packed(tmp_path, f"a{suffix}", sorted(files[0].parent.iterdir()))
    assert codes_of(read_chart(path)) == codes_of(usual)


def test_another_file_under_a_shapefiles_name_is_named(tmp_path: Path) -> None:
    path = packed(tmp_path, "a.zip", [write_chart(tmp_path / "c.gpkg")]).rename(tmp_path / "a.shp")
    with pytest.raises(ChartError, match=r"does not have the content of a shapefile: it begins with b.PK"):
        read_chart(path)
