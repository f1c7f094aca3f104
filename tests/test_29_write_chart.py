"""Charts on disk: SIGRID-3, GeoPackage, GeoJSON, styles; read back, anywhere on earth, and whole or not at all."""

from __future__ import annotations

import json
import sqlite3
import struct
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import pyogrio
import pyproj
import pytest
import rasterio
import shapely
from affine import Affine
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as st_numpy
from lxml import etree
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox

from floemap.cog import Band, write_cog
from floemap.errors import ChartError, ConfigError, FloemapError, OutputError
from floemap.icechart.dominant_type import Rule, class_ids, ice_types
from floemap.icechart.draw.polygonize import ChartPolygons, vectorize
from floemap.icechart.label.label import label_chart
from floemap.icechart.label.settings import LabelSettings
from floemap.icechart.read.codes import NOT_GIVEN
from floemap.icechart.read.sigrid3 import read_chart
from floemap.icechart.write import sigrid3 as sigrid3_module
from floemap.icechart.write.dbf import write_dbf
from floemap.icechart.write.lonlat import lonlat_bounds, to_lonlat
from floemap.icechart.write.sigrid3 import sigrid3_name, write_sigrid3
from floemap.icechart.write.table import FIELDS, STATUS, codes_of_class
from floemap.icechart.write.vector import LAYER, rounded, write_geojson, write_geopackage, write_style
from floemap.legend import IGNORE, LEGENDS, SIX_CLASSES, Legend

START = datetime(2018, 1, 16, 7, 54, 30, 123456, tzinfo=UTC)
ABOUT = {"product": "S1A_EW", "model": "twin, ä", "simulated": True, "attribution": "Made up", "score": 0.5}
BOX = GeoBox((40, 60), Affine(1000, 0, 500_000, 0, -1000, -1_000_000), "EPSG:3413")
Write = Callable[..., Path]


def classes(legend: Legend = SIX_CLASSES) -> NDArray[np.uint8]:
    """All classes of a legend as rectangles, holes, an island, and no data at one side."""
    out = np.zeros((40, 60), np.uint8)
    for k in range(len(legend)):
        out[:, 9 * k : 9 * k + 9] = k
    out[10:20, 5:30], out[13:16, 8:12], out[30:35, 3:6] = 1, 0, 1
    out[:, 54:], out[0:7, 40:] = IGNORE, IGNORE
    return out


def draft(legend: Legend = SIX_CLASSES, box: GeoBox = BOX, *, known: bool = True, **options: Any) -> ChartPolygons:
    raster = classes(legend)
    p = np.random.default_rng(0).dirichlet(np.ones(len(legend)), raster.shape).transpose(2, 0, 1)
    p = np.rint(p * 200).astype(np.uint8)
    given: dict[str, Any] = {
        "min_area_km2": 0.0,
        "tolerance_m": 1500.0,
        "probabilities": p if known else None,
    } | options
    return vectorize(raster, box, legend, **(given | options))


def write_all(chart: ChartPolygons, folder: Path, **options: Any) -> dict[str, Path]:
    given: dict[str, Any] = {"start": START, "about": ABOUT} | options
    return {
        "sigrid3": write_sigrid3(chart, folder, **given),
        "gpkg": write_geopackage(chart, folder / "chart.gpkg", **given),
        "geojson": write_geojson(chart, folder / "chart.geojson", **given),
        "style": write_style(chart.legend, folder / "chart.qml"),
    }


@pytest.fixture(scope="module")
def chart() -> ChartPolygons:
    return draft()


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory, chart: ChartPolygons) -> dict[str, Path]:
    """One chart in all formats. Shared: read it, don't change it."""
    return write_all(chart, tmp_path_factory.mktemp("written"))


def read(path: Path) -> gpd.GeoDataFrame:
    return gpd.read_file(path, layer=LAYER) if path.suffix == ".gpkg" else gpd.read_file(path)


# --- SIGRID-3


@pytest.mark.parametrize("legend", LEGENDS.values(), ids=lambda x: x.name)
@pytest.mark.parametrize("form", ["sigrid3", "gpkg"])
def test_our_own_reader_finds_the_same_classes(legend: Legend, form: str, tmp_path: Path) -> None:
    chart = draft(legend)
    found = read_chart(write_all(chart, tmp_path)[form])
    # ExtremeEarth's table of codes takes an unknown stage for water; what we write has none.
    types = ice_types(found)
    np.testing.assert_array_equal(class_ids(types, legend), chart.polygons["class_id"])
    assert set(types.rule) <= {Rule.SINGLE, Rule.WATER}
    report = found.report
    assert (report.repaired, report.without_area, report.untyped, report.past_ten) == (0, 0, 0, 0)
    assert report.odd_codes == {}
    assert found.crs == pyproj.CRS(3413)
    assert shapely.equals(found.geometries, np.asarray(chart.polygons.geometry)).all()
    assert shapely.coverage_is_valid(found.geometries)


def test_nothing_is_said_that_was_not_estimated(written: dict[str, Path]) -> None:
    for form in ("sigrid3", "gpkg", "geojson"):
        table = read(written[form])
        ice, water = (table[table["POLY_TYPE"] == k] for k in "IW")
        assert len(ice) + len(water) == len(table)
        assert min(len(ice), len(water)) > 0
        for column in ("CT", "CA", "FA"):
            assert set(ice[column]) == {"99"}
        assert set(water["CT"]) == {"01"}
        assert set(water["SA"]) == {"-9"}
        for column in ("CB", "SB", "FB", "CC", "SC", "FC", "CN", "CD"):
            assert set(table[column]) == {"-9"}


def test_the_table_is_the_standards_and_ours(written: dict[str, Path], chart: ChartPolygons) -> None:
    standard = ["AREA", "PERIMETER", "CT", "CA", "SA", "FA", "CB", "SB", "FB", "CC", "SC", "FC", "CN", "CD", "CF"]
    standard.append("POLY_TYPE")
    rows = chart.polygons
    for form in ("sigrid3", "gpkg", "geojson"):
        table = read(written[form])
        names = [c for c in table.columns if c not in ("geometry", "id")]
        assert names == list(FIELDS)
        assert names[: len(standard)] == standard
        assert max(map(len, names)) <= 10
        np.testing.assert_allclose(table["AREA"], rows.geometry.area, atol=0.51)
        np.testing.assert_allclose(table["PERIMETER"], rows.geometry.length, atol=0.51)
        np.testing.assert_allclose(table["AREA_KM2"], rows["area_km2"], atol=6e-5)
        np.testing.assert_allclose(table["CONFIDENCE"], rows["confidence"], atol=6e-5)
        np.testing.assert_allclose(table["SECOND_P"], rows["second_share"], atol=6e-5)
        assert table["CLASS"].tolist() == rows["class_key"].tolist()
        assert table["SECOND"].tolist() == rows["second_key"].tolist()
        assert table["REVIEW"].tolist() == rows["review_rank"].tolist()
        assert set(table["STATUS"]) == {STATUS}
        assert set(table["SIMULATED"]) == {"yes"}


def test_the_day_of_processing_is_that_of_making(chart: ChartPolygons, tmp_path: Path) -> None:
    """The scene is of January 2018; who made the chart when is another thing (FGDC 2.5.2.3)."""
    about = ABOUT | {"created": "2026-11-26T23:59:59+00:00"}
    tree = etree.parse(write_sigrid3(chart, tmp_path, start=START, about=about).with_suffix(".xml"))
    assert tree.findtext("dataqual/lineage/procstep/procdate") == "20261126"
    assert tree.findtext("metainfo/metd") == "20261126"
    assert tree.findtext("idinfo/timeperd/timeinfo/sngdate/caldate") == "20180116"


def test_a_value_that_does_not_fit_is_refused(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="A is 'abc', which does not fit 2 characters"):
        write_dbf(tmp_path / "a.dbf", {"A": ["ab", None, "abc"]}, {"A": ("C", 2, 0)}, START)


def test_geopackages_are_of_a_version_that_older_programs_know(written: dict[str, Path]) -> None:
    """GDAL 3.6 knows versions to 1.3: the number is the one of "user_version" in the file's header (OGC 12-128)."""
    with closing(sqlite3.connect(written["gpkg"])) as db:
        ((version,),) = db.execute("PRAGMA user_version").fetchall()
    assert 10200 <= version < 10400


def test_columns_are_as_wide_as_what_they_may_hold(written: dict[str, Path]) -> None:
    """Widths of the table's columns, from the header of the .dbf (dBASE III+: 32 bytes, then 32 for each field)."""
    head = written["sigrid3"].with_suffix(".dbf").read_bytes()
    (length,) = struct.unpack_from("<H", head, 8)
    fields = [head[at : at + 32] for at in range(32, length - 1, 32)]
    widths = {f[:11].rstrip(b"\0").decode(): (chr(f[11]), f[16]) for f in fields}
    for name in list(FIELDS)[2:14]:
        assert widths[name] == ("C", 2), name
    assert widths["CF"] == ("C", 4)
    assert widths["POLY_TYPE"] == ("C", 1)
    # The areas of all seas in square metres, and the longest key of any class.
    assert widths["AREA"] == widths["PERIMETER"] == ("N", 18)
    assert widths["CLASS"][1] >= max(len(c.key) for x in LEGENDS.values() for c in x.classes)
    assert written["sigrid3"].with_suffix(".cpg").read_text() == "UTF-8"


def test_rings_go_round_as_each_format_has_it(written: dict[str, Path]) -> None:
    outward = {"sigrid3": False, "gpkg": True, "geojson": True}
    for form, counterclockwise in outward.items():
        shapes = shapely.get_parts(np.asarray(read(written[form]).geometry))
        outer = shapely.get_exterior_ring(shapes)
        assert (shapely.is_ccw(outer) == counterclockwise).all()
        holes = [hole for s in shapes for hole in s.interiors]
        assert holes
        assert (shapely.is_ccw(holes) != counterclockwise).all()


def test_the_name_is_the_standards() -> None:
    assert sigrid3_name(START) == "floemap_s1_20180116T0754Z_pl_a"
    east = START.astimezone(timezone(timedelta(hours=5)))
    assert sigrid3_name(east, service="cis", region="SGRDREA", version="b") == "cis_SGRDREA_20180116T0754Z_pl_b"
    assert sigrid3_name(START.replace(tzinfo=None)) == sigrid3_name(START)
    with pytest.raises(ConfigError, match="region is 'a_b'"):
        sigrid3_name(START, region="a_b")


def test_the_parts_of_a_chart(written: dict[str, Path]) -> None:
    name = sigrid3_name(START)
    assert written["sigrid3"].name == f"{name}.shp"
    parts = {p.suffix for p in written["sigrid3"].parent.iterdir() if p.stem == name}
    assert parts == {".shp", ".shx", ".dbf", ".prj", ".cpg", ".xml"}
    assert {p.name for p in written["sigrid3"].parent.iterdir() if p.name.startswith(".")} == set()


def test_the_metadata_hold_what_the_standard_asks_for(written: dict[str, Path], chart: ChartPolygons) -> None:
    tree = etree.parse(written["sigrid3"].with_suffix(".xml"))

    def text(path: str) -> str:
        found = tree.findtext(path)
        assert found, path
        return found

    assert tree.getroot().tag == "metadata"
    assert [e.tag for e in tree.getroot()] == ["idinfo", "dataqual", "spdoinfo", "spref", "eainfo", "metainfo"]
    assert text("idinfo/timeperd/timeinfo/sngdate/caldate") == "20180116"
    assert text("idinfo/timeperd/timeinfo/sngdate/time") == "075430Z"
    assert "not for navigation" in text("idinfo/useconst")
    abstract = text("idinfo/descript/abstract")
    for words in ("SIMULATED", "S1A_EW", "twin, ä", "not for navigation"):
        assert words in abstract
    corners = shapely.get_coordinates(to_lonlat(np.asarray(chart.polygons.geometry), chart.polygons.crs))
    west, east, north, south = (float(text(f"idinfo/spdom/bounding/{k}bc")) for k in ("west", "east", "north", "south"))
    assert (west, south) == pytest.approx(corners.min(axis=0), abs=1e-5)
    assert (east, north) == pytest.approx(corners.max(axis=0), abs=1e-5)
    assert [e.findtext("attrlabl") for e in tree.findall("eainfo/detailed/attr")] == list(FIELDS)
    domains = tree.xpath("eainfo/detailed/attr[attrlabl='SA']/attrdomv/edom/edomv/text()")
    assert domains == ["81", "82", "83", "86", "95", "-9"]
    assert text("spdoinfo/ptvctinf/sdtsterm/ptvctcnt") == str(len(chart))
    assert pyproj.CRS(text("spref/horizsys/planar/mapproj/mapprojp/otherprj")) == pyproj.CRS(3413)
    assert text("metainfo/metd") == "20180116"


def test_facts_that_xml_cannot_hold_do_not_break_it(chart: ChartPolygons, tmp_path: Path) -> None:
    about = {"note": "a <b> & \x00 \x07 c", "created": "2020-02-03T04:05:06+00:00", "contact": "Ice & Co"}
    path = write_sigrid3(chart, tmp_path, start=START, about=about, name="x")
    tree = etree.parse(path.with_suffix(".xml"))
    assert "a <b> &" in tree.findtext("idinfo/descript/abstract")
    assert "SIMULATED" not in tree.findtext("idinfo/descript/abstract")
    assert tree.findtext("metainfo/metd") == "20200203"
    assert tree.findtext("metainfo/metc/cntinfo/cntorgp/cntorg") == "Ice & Co"
    assert set(read(path)["SIMULATED"]) == {"no"}


@pytest.mark.parametrize("legend", LEGENDS.values(), ids=lambda x: x.name)
def test_each_class_is_written_as_what_is_read_as_it(legend: Legend) -> None:
    for c in legend.classes:
        codes = codes_of_class(c.id, legend)
        if codes["POLY_TYPE"] == "W":
            assert c.id == legend.water
        else:
            assert legend.stage_to_class[int(codes["SA"])] == c.id
    assert {codes_of_class(c.id, legend)["POLY_TYPE"] for c in legend.classes} == {"I", "W"}


def test_a_lone_type_of_unknown_concentration_is_dominant(tmp_path: Path) -> None:
    codes = {"CT": "99", "CA": "99", "SA": "95", "POLY_TYPE": "I"}
    rows = [codes, codes | {"CT": "80"}, codes | {"SB": "81", "CB": "-9"}, codes | {"SB": "81", "CB": "30"}]
    shapes = [shapely.box(i, 0, i + 1, 1) for i in range(len(rows))]
    columns = {k: [r.get(k, "-9") for r in rows] for k in ("CT", "CA", "SA", "CB", "SB", "POLY_TYPE")}
    gpd.GeoDataFrame(columns, geometry=shapes, crs=3413).to_file(tmp_path / "c.gpkg")
    types = ice_types(read_chart(tmp_path / "c.gpkg"))
    assert types.rule.tolist() == [Rule.SINGLE, Rule.SINGLE, Rule.UNKNOWN_PARTS, Rule.UNKNOWN_PARTS]
    assert types.stage.tolist() == [95, 95, NOT_GIVEN, NOT_GIVEN]
    assert types.shares[1].tolist() == pytest.approx([0.8, 0, 0, 0])
    assert types.water.tolist()[:2] == pytest.approx([0, 0.2])


# --- a chart comes back


def test_a_corrected_draft_is_a_chart_for_label(tmp_path: Path) -> None:
    chart = draft(tolerance_m=0)
    like = tmp_path / "like.tif"
    write_cog(like, BOX, np.ones((40, 60), np.uint8), [Band("x")], nodata=0)
    files = write_all(chart, tmp_path)
    for form in ("sigrid3", "gpkg"):
        labels = label_chart(files[form], like, tmp_path / form, LabelSettings(legend="six_classes")).raster
        with rasterio.open(labels) as d:
            np.testing.assert_array_equal(d.read(1), chart.classes)
    # An analyst changes a polygon of nilas to old ice, in QGIS or here.
    table = read(files["gpkg"])
    table.loc[table.index[table["CLASS"] == "nilas"][0], "SA"] = "95"
    table.to_file(tmp_path / "corrected.gpkg")
    labels = label_chart(tmp_path / "corrected.gpkg", like, tmp_path / "again").raster
    with rasterio.open(labels) as d:
        changed = d.read(1) != chart.classes
        assert set(d.read(1)[changed]) == {4}
        assert set(chart.classes[changed]) == {1}


# --- GeoPackage and style


def test_the_geopackage_has_one_chart_with_crs_facts_and_style(written: dict[str, Path]) -> None:
    path = written["gpkg"]
    layers = dict(pyogrio.list_layers(path))
    assert layers == {LAYER: "Polygon", "layer_styles": None}
    info = pyogrio.read_info(path, layer=LAYER)
    assert info["crs"] == "EPSG:3413"
    facts = info["layer_metadata"]
    assert facts["status"] == STATUS
    assert facts["simulated"] == "true"
    assert facts["model"] == "twin, ä"
    with closing(sqlite3.connect(path)) as db:
        ((table, geometry, style, default), *others) = db.execute(
            "SELECT f_table_name, f_geometry_column, styleQML, useAsDefault FROM layer_styles ORDER BY id"
        ).fetchall()
        columns = [r[1] for r in db.execute(f"PRAGMA table_info({LAYER})")]
        assert db.execute("PRAGMA foreign_key_check").fetchall() == []
        assert {r[0] for r in db.execute("SELECT last_change FROM gpkg_contents")} == {"2018-01-16T07:54:30.123Z"}
    assert (table, default) == (LAYER, 1)
    assert geometry in columns
    assert style == written["style"].read_text()
    assert [other[-1] for other in others] == [0, 0], "QGIS opens the chart with the first style"


# --- GeoJSON, and places where longitudes jump


def test_geojson_is_as_the_rfc_has_it(written: dict[str, Path], chart: ChartPolygons) -> None:
    content = json.loads(written["geojson"].read_text())
    assert content["type"] == "FeatureCollection"
    assert "crs" not in content
    assert content["about"] | ABOUT == content["about"]
    assert content["about"]["start"].startswith("2018-01-16T07:54:30")
    assert len(content["features"]) == len(chart)
    for number, feature in enumerate(content["features"], 1):
        assert feature["id"] == number
        xy = shapely.get_coordinates(shapely.geometry.shape(feature["geometry"]))
        assert (np.round(xy, 5) == xy).all()
    west, south, east, north = content["bbox"]
    shapes = read(written["geojson"])
    assert shapes.crs == pyproj.CRS(4326)
    assert (west, south, east, north) == pytest.approx(shapes.total_bounds)
    assert shapely.is_valid(np.asarray(shapes.geometry)).all()
    # Half a metre at most from rounding; then back on the map, areas are as they were.
    np.testing.assert_allclose(shapes.to_crs(3413).area, chart.polygons.area, rtol=1e-3)


def test_unknown_confidence_is_null(tmp_path: Path) -> None:
    files = write_all(draft(known=False), tmp_path)
    assert {f["properties"]["CONFIDENCE"] for f in json.loads(files["geojson"].read_text())["features"]} == {None}
    assert {f["properties"]["SECOND"] for f in json.loads(files["geojson"].read_text())["features"]} == {""}
    for form in ("sigrid3", "gpkg"):
        assert read(files[form])["CONFIDENCE"].isna().all()


def earth_area_km2(lonlat: Any) -> float:
    geod = pyproj.Geod(ellps="WGS84")
    total = 0.0
    for part in shapely.get_parts(lonlat):
        part = shapely.segmentize(part, 0.05)  # edges are straight in degrees, and not on the earth
        total += geod.geometry_area_perimeter(shapely.orient_polygons(part))[0]
    return total / 1e6


PLACES = {
    "the pole inside": ("EPSG:3413", -20_300, 20_700),
    "the pole at a corner of pixels": ("EPSG:3413", -20_000, 20_000),
    "the pole on the chart's edge": ("EPSG:3413", -20_000, 0),
    "the pole at the chart's corner": ("EPSG:3413", 0, 0),
    "the dateline, north": ("EPSG:3413", -1_000_000, 1_010_000),
    "the dateline, south": ("EPSG:3031", -30_000, -2_000_000),
    "the south pole": ("EPSG:3031", -20_300, 20_700),
    "the dateline in UTC": ("EPSG:32660", 690_000, 7_800_000),
    "Greenwich": ("EPSG:3413", 1_000_000, -1_000_000),
    "on an equal-area map": ("EPSG:6931", -30_000, 1_000_000),
}


def test_edges_that_cross_on_the_way_to_degrees_are_repaired() -> None:
    """As where a chart is simplified and its edges are cut into few pieces: a hole then pokes through its shell."""
    shell, hole = [(0, 80), (2, 80), (2, 82), (0, 82)], [(1, 81), (2.0005, 81.2), (1, 81.4)]
    given = [shapely.Polygon(shell, [hole]), shapely.Polygon([(0, 80), (1, 81), (1, 80), (0, 81)])]
    made = rounded(np.array(given, object), 4)
    assert shapely.is_valid(made).all()
    assert shapely.area(made) == pytest.approx([4 - 0.2, 0.5], abs=1e-3)


@pytest.mark.parametrize("place", PLACES)
def test_polygons_are_where_they_are_everywhere(place: str) -> None:
    crs, left, top = PLACES[place]
    chart = draft(box=GeoBox((40, 60), Affine(1000, 0, left, 0, -1000, top), crs))
    shapes = np.asarray(chart.polygons.geometry)
    lonlat = rounded(to_lonlat(shapes, pyproj.CRS(crs)))
    assert shapely.is_valid(lonlat).all()
    xy = shapely.get_coordinates(lonlat)
    assert (np.abs(xy) <= [180, 90]).all()
    assert shapely.is_ccw(shapely.get_exterior_ring(shapely.get_parts(lonlat))).all()
    areas = np.array([earth_area_km2(g) for g in lonlat])
    np.testing.assert_allclose(areas, chart.polygons["area_km2"], rtol=2e-3, atol=0.05)
    # Middles of pixels lie in the polygon of their class, there as here.
    rows, cols = np.nonzero(chart.classes != IGNORE)
    x, y = left + 1000 * (cols + 0.5), top - 1000 * (rows + 0.5)
    lon, lat = pyproj.Transformer.from_crs(crs, 4326, always_xy=True).transform(x, y)
    far = shapely.distance(shapely.union_all(shapely.boundary(shapes)), shapely.points(x, y)) > 20
    far &= np.abs(np.abs(lon) - 180) > 1e-4
    here, there = (
        shapely.STRtree(s).query(shapely.points(*at), predicate="within")
        for s, at in ((shapes, (x[far], y[far])), (lonlat, (lon[far], lat[far])))
    )
    assert far.sum() > 1500
    np.testing.assert_array_equal(here, there)


@given(
    st_numpy.arrays(np.uint8, (5, 5), elements=st.sampled_from([0, 1, IGNORE])).filter(lambda a: (a != IGNORE).any()),
    st.tuples(st.floats(-4, 4), st.floats(-4, 4)) | st.tuples(st.integers(-5, 5), st.integers(-5, 5)),
    st.sampled_from(["EPSG:6931", "EPSG:6932", "EPSG:3413"]),
)
@settings(max_examples=40, deadline=None)
def test_patches_at_the_pole(raster: NDArray[np.uint8], left_top: tuple[float, float], crs: str) -> None:
    """Of any shape, the pole in them, in a hole of them, on their border or not."""
    box = GeoBox(raster.shape, Affine(9000, 0, 9000 * left_top[0], 0, -9000, 9000 * left_top[1]), crs)
    chart = vectorize(raster, box, SIX_CLASSES, min_area_km2=0, tolerance_m=0)
    shapes = np.asarray(chart.polygons.geometry)
    lonlat = to_lonlat(shapes, pyproj.CRS(crs))
    assert shapely.is_valid(lonlat).all()
    back = pyproj.Transformer.from_crs(4326, crs, always_xy=True)
    for before, after in zip(shapes, lonlat, strict=True):
        again = [
            shapely.transform(shapely.segmentize(part, 0.2), lambda xy: np.column_stack(back.transform(*xy.T)))
            for part in shapely.get_parts(after)
        ]
        # Seams at the dateline and at the pole close again.
        mended = shapely.union_all([shapely.make_valid(p).buffer(0.5) for p in again])
        assert shapely.area(shapely.symmetric_difference(mended, before)) < 5 * shapely.length(before) + 100


def test_a_ring_of_ice_round_the_pole() -> None:
    """A polygon with a hole that holds the pole; and what fills the hole."""
    pole = shapely.Point(300, -100)
    lake, ring = pole.buffer(50_000), pole.buffer(200_000)
    lonlat = to_lonlat(np.array([shapely.difference(ring, lake), lake]), pyproj.CRS(3413))
    assert shapely.is_valid(lonlat).all()
    assert shapely.area(shapely.intersection(*lonlat)) == pytest.approx(0, abs=1e-9)
    assert shapely.bounds(lonlat)[:, [0, 2]].tolist() == [[-180, 180]] * 2
    assert shapely.bounds(lonlat)[1, 3] == 90
    assert shapely.bounds(lonlat)[0, 3] < 90
    assert lonlat_bounds(lonlat)[::2] == (-180.0, 180.0)


def test_bounds_across_the_dateline() -> None:
    shapes = np.array([shapely.box(170, 70, 175, 80), shapely.box(179, 71, 180, 72), shapely.box(-180, 71, -178, 72)])
    assert lonlat_bounds(shapes) == (170, 70, -178, 80)
    assert lonlat_bounds(shapes[:1]) == (170, 70, 175, 80)
    one = np.array([shapely.multipolygons([shapes[1], shapes[2]])])
    assert lonlat_bounds(one) == (179, 71, -178, 72)


def test_a_place_off_the_earth_is_refused() -> None:
    with pytest.raises(ChartError, match="no position on the earth"):
        to_lonlat(np.array([shapely.box(0, 1e8, 10, 1e8 + 10)]), pyproj.CRS(6931))


# --- whole or not at all


def contents(folder: Path) -> dict[str, bytes]:
    return {p.name: p.read_bytes() for p in folder.iterdir()}


def test_written_again_files_are_the_same(tmp_path: Path, chart: ChartPolygons) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        write_all(chart, tmp_path / name)
    one, two = contents(tmp_path / "one"), contents(tmp_path / "two")
    assert one.keys() == two.keys()
    assert [name for name in one if one[name] != two[name]] == []
    write_all(chart, tmp_path / "two")  # over what is there
    assert contents(tmp_path / "two") == one


WRITERS: dict[str, Write] = {
    "sigrid3": lambda chart, folder: write_sigrid3(chart, folder, start=START, about={}, name="chart"),
    "gpkg": lambda chart, folder: write_geopackage(chart, folder / "chart.gpkg", start=START),
    "geojson": lambda chart, folder: write_geojson(chart, folder / "chart.geojson", start=START),
    "style": lambda chart, folder: write_style(chart.legend, folder / "chart.qml"),
}


@pytest.mark.parametrize("form", WRITERS)
def test_no_folder_to_write_into(form: str, chart: ChartPolygons, tmp_path: Path) -> None:
    with pytest.raises(OutputError, match=r"chart\.\w+: cannot be written"):
        WRITERS[form](chart, tmp_path / "absent")
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(OutputError, match="--out"):
        WRITERS[form](chart, tmp_path / "file")


def test_no_space_leaves_what_was_there(tmp_path: Path) -> None:
    """Files beyond a limit cannot be written, as on a full disk: an error says so, and the old files stay."""
    script = f"""
import resource, signal, sys
from pathlib import Path
sys.path.insert(0, {str(Path(__file__).parent)!r})
from test_29_write_chart import WRITERS, contents, draft
from floemap.errors import OutputError
folder = Path({str(tmp_path)!r})
chart = draft()
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
for write in WRITERS.values():
    before = contents(folder)
    write(chart, folder)
    after = contents(folder)
    largest = max(len(after[name]) for name in after.keys() - before.keys())
    for share in (0, 0.3, 0.98):
        resource.setrlimit(resource.RLIMIT_FSIZE, (int(largest * share), resource.RLIM_INFINITY))
        try:
            write(chart, folder)
            said = "nothing"
        except OutputError as e:
            said = f"OutputError {{e}}"
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        print(said)
        assert contents(folder) == after, contents(folder).keys()
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert len(lines) == 3 * len(WRITERS)
    for line in lines:
        assert line.startswith(f"OutputError {tmp_path / 'chart.'}"), line
        assert ".partial" not in line


def test_a_shapefile_has_a_limit(chart: ChartPolygons, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    size = WRITERS["sigrid3"](chart, tmp_path).stat().st_size
    before = contents(tmp_path)
    monkeypatch.setattr(sigrid3_module, "_MOST_BYTES", size - 1)
    with pytest.raises(OutputError, match="GeoPackage"):
        WRITERS["sigrid3"](chart, tmp_path)
    assert contents(tmp_path) == before
    monkeypatch.setattr(sigrid3_module, "_MOST_BYTES", size)
    WRITERS["sigrid3"](chart, tmp_path)


def test_errors_are_of_our_kind(chart: ChartPolygons, tmp_path: Path) -> None:
    (tmp_path / "chart.gpkg").mkdir()
    (tmp_path / "chart.gpkg" / "x").touch()
    with pytest.raises(FloemapError, match=r"chart\.gpkg"):
        WRITERS["gpkg"](chart, tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["chart.gpkg"]
