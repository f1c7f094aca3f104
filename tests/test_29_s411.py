"""Charts written in S-411: against the catalogue and foreign files, read back by GDAL and by our reader."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import pyogrio
import pyproj
import pytest
import shapely
from affine import Affine
from lxml import etree
from odc.geo.geobox import GeoBox
from real_files import CHARTS
from s411_maker import CATALOGUES, FOREIGN
from test_29_write_chart import ABOUT, START, draft

from floemap.errors import ChartError, OutputError
from floemap.icechart.describe import areas_km2
from floemap.icechart.dominant_type import ice_types
from floemap.icechart.draw.polygonize import ChartPolygons
from floemap.icechart.read import s411_codes
from floemap.icechart.read.codes import NOT_GIVEN
from floemap.icechart.read.s411_codes import EGG, s411_egg, sigrid3_egg
from floemap.icechart.read.sigrid3 import Chart, read_chart
from floemap.icechart.write.s411 import s411_files, write_s411
from floemap.icechart.write.s411_axes import Axes
from floemap.icechart.write.table import DRAFT, ChartTable
from floemap.legend import SIX_CLASSES, STAGES_BY_THICKNESS

ICE, GML = "{http://www.jcomm.info/ice}", "{http://www.opengis.net/gml/3.2}"
GEOD = pyproj.Geod(ellps="WGS84")
NAME = "s1-20180116T0754Z"
WATER = {"CT": 1}
EGGS: tuple[Mapping[str, int], ...] = (
    {"CT": 92, "SA": 95, "FA": 8},
    {"CT": 50, "SA": 86, "FA": 99},
    {"CT": 91, "CA": 20, "SA": 95, "FA": 22, "CB": 30, "SB": 86, "FB": 5, "CC": 50, "SC": 81, "FC": 99},
    {"CT": 90, "CA": 20, "SA": 95, "CB": 30, "SB": 86, "CC": 20, "SC": 83, "CD": 81},
    {"CT": 90, "CA": 60, "SA": 86, "CB": 30, "SB": 81, "CN": 95},
    {"CT": 90, "CA": 40, "SA": 86, "CB": 20, "SB": 83, "CN": 97, "CD": 81},
    {"CT": 80, "SA": 86, "CN": 95},
    {"CT": 90, "CA": 20, "SA": 86, "CB": 20, "SB": 83, "CN": 97},  # the parts leave half, and no type has it
    {"CT": 99, "CA": 99, "SA": 79},
)


def table(rows: list[dict[str, Any]], shapes: list[Any] | None = None, crs: str = "EPSG:3413") -> ChartTable:
    """A chart of squares of 10 km in a row, or of other shapes, with codes as text."""
    shapes = shapes or [shapely.box(10_000 * i, -1_000_000, 10_000 * i + 10_000, -990_000) for i in range(len(rows))]
    empty = dict.fromkeys(EGG, "-9") | {"POLY_TYPE": "I"}
    made = [empty | {k: v if isinstance(v, str) else f"{v:02d}" for k, v in row.items()} for row in rows]
    return ChartTable(gpd.GeoDataFrame(made, geometry=shapes, crs=crs), SIX_CLASSES, DRAFT)


def codes(chart: Chart) -> list[dict[str, int]]:
    """Codes of each polygon, without those that are not given and without unknown forms."""
    found = []
    for i in range(len(chart)):
        row = {c: int(chart.codes(c.lower())[i]) for c in EGG}
        found.append({c: v for c, v in row.items() if v != NOT_GIVEN and (c[0] != "F" or v != 99)})
    return found


def dataset(folder: Path) -> Path:
    return next((folder / "data").glob("*.gml"))


def by_gdal(folder: Path) -> dict[str, gpd.GeoDataFrame]:
    """Layers of a dataset by GDAL's GML driver, which writes a schema beside the file."""
    with tempfile.TemporaryDirectory() as place:
        copy = shutil.copy(dataset(folder), place)
        return {str(n): pyogrio.read_dataframe(copy, layer=n) for n in pyogrio.list_layers(copy)[:, 0]}


def geodesic_km2(shapes: Any) -> float:
    return sum(abs(GEOD.geometry_area_perimeter(shapely.segmentize(s, 0.01))[0]) for s in shapes) / 1e6


# --- The draft chart


@pytest.fixture(scope="module")
def chart() -> ChartPolygons:
    return draft()


@pytest.fixture(scope="module", params=["latlon", "lonlat"])
def written(request: pytest.FixtureRequest, chart: ChartPolygons, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One draft with either order of axes. Shared: read it, don't change it."""
    axes: Axes = request.param
    return write_s411(chart, tmp_path_factory.mktemp(axes), start=START, about=ABOUT, axes=axes)


def test_the_exchange_set_has_the_files_of_the_standard(written: Path) -> None:
    assert written.name == f"S411_floemap_{NAME}"
    files = sorted(p.relative_to(written.parent).as_posix() for p in written.rglob("*") if p.is_file())
    assert files == sorted(s411_files("floemap", NAME))
    assert {Path(f).name for f in files} == {f"{NAME}.gml", f"{NAME}.gml.xml", "CATALOG.ICE"}


def test_gdal_reads_the_same_areas_and_places(written: Path, chart: ChartPolygons) -> None:
    layers = by_gdal(written)
    found = layers["seaice"]
    assert found.crs == pyproj.CRS(4326)
    drawn = chart.polygons.to_crs(4326)
    np.testing.assert_allclose(found.total_bounds, drawn.total_bounds, atol=1e-4)
    assert geodesic_km2(found.geometry) == pytest.approx(float(chart.polygons["area_km2"].sum()), rel=1e-4)
    assert set(layers["icelne"].geom_type) == {"LineString"}


def test_our_reader_finds_the_same_polygons_and_the_mark(written: Path, chart: ChartPolygons) -> None:
    found = read_chart(written)
    assert (found.simulated, found.format) == (True, "S-411")
    assert found.report.odd_codes == {}
    assert areas_km2(found).sum() == pytest.approx(float(chart.polygons["area_km2"].sum()), rel=1e-4)
    water = chart.polygons["class_id"].to_numpy() == chart.legend.water
    assert (found.polygons["poly_type"] == "W").sum() == water.sum()


def test_each_file_says_what_the_chart_is(written: Path) -> None:
    for file in written.rglob("*.*"):
        text = file.read_text()
        assert "SIMULATED by floemap" in text
        assert "not for navigation" in text


def test_a_second_writing_is_refused_and_equal_byte_for_byte(
    written: Path, chart: ChartPolygons, tmp_path: Path
) -> None:
    axes: Axes = "latlon" if "def/crs" in dataset(written).read_text() else "lonlat"
    again = write_s411(chart, tmp_path, start=START, about=ABOUT, axes=axes)
    for file in again.rglob("*.*"):
        assert file.read_bytes() == (written / file.relative_to(again)).read_bytes()
    before = dataset(again).read_bytes()
    with pytest.raises(OutputError):
        write_s411(chart, tmp_path, start=START, about={}, axes=axes)
    assert dataset(again).read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == [again.name]


# --- Eggs


def test_eggs_come_back(tmp_path: Path) -> None:
    made = table([*map(dict, EGGS), WATER | {"POLY_TYPE": "W"}, {"CT": 0, "POLY_TYPE": "W"}])
    found = codes(read_chart(write_s411(made, tmp_path, start=START)))
    expected = [{k: v for k, v in e.items() if not (k[0] == "F" and v == 99)} for e in (*EGGS, WATER, {"CT": 0})]
    expected[8].pop("CA")  # unknown, as the total: of a single type it is the same as not given
    assert found == expected


def test_any_egg_of_whole_tenths_comes_back() -> None:
    """One to four types from the thickest to the thinnest, their tenths sum to the total; some with a trace."""
    rng = np.random.default_rng(7)
    stages = [s for s in STAGES_BY_THICKNESS if s not in (80, 98, 99)][::-1]
    for _ in range(500):
        types, traced = int(rng.integers(1, 5)), bool(rng.integers(2))
        total = int(rng.integers(types, 11))
        tenths = np.diff([0, *np.sort(rng.choice(np.arange(1, total), types - 1, replace=False)), total]).tolist()
        drawn = [stages[i] for i in np.sort(rng.choice(len(stages), types + 1, replace=False))]
        egg = dict.fromkeys(EGG, NOT_GIVEN) | {"CT": 10 * total if total < 10 else int(rng.choice([91, 92]))}
        egg |= {"CN": drawn[0]} if traced else {}
        for letter, tenth, stage in zip("ABC", tenths, drawn[1:], strict=False):
            egg |= {f"C{letter}": 10 * tenth if types > 1 else NOT_GIVEN, f"S{letter}": stage}
            egg |= {f"F{letter}": int(rng.choice([1, 5, 8, 10, 22, 99]))}
        egg |= {"CD": drawn[4]} if types == 4 else {}
        made = s411_egg(egg)
        assert [len(made[k]) <= most for k, most in (("iceapc", 3), ("icesod", 5), ("iceflz", 3))] == [True] * 3
        assert sigrid3_egg(made["iceact"], made["iceapc"], made["icesod"], made["iceflz"]) == (egg, [])


@pytest.mark.skipif(not CHARTS.is_dir(), reason="no real charts here")
def test_a_real_chart_keeps_its_ice(tmp_path: Path) -> None:
    real = read_chart(CHARTS / "201405011000_SouthWest_RIC.shp", crs="EPSG:4326")
    rows = [
        {n: f"{int(real.codes(n.lower())[i]):02d}" for n in EGG}
        | {"POLY_TYPE": str(real.polygons["poly_type"].iloc[i])}
        for i in range(len(real))
    ]
    found = read_chart(write_s411(table(rows, list(real.geometries), str(real.crs)), tmp_path, start=START))
    before, after = ice_types(real), ice_types(found)
    assert before.counts == after.counts
    ice = [np.nansum(types.concentration * areas_km2(c)) for types, c in ((before, real), (after, found))]
    assert ice[1] == pytest.approx(ice[0], rel=1e-5)


def test_lake_ice_comes_back_by_its_thickness(tmp_path: Path) -> None:
    made = table([{"CT": 90, "CA": 50, "SA": 87, "CB": 40, "SB": 81}, {"CT": 92, "SA": 86}])
    folder = write_s411(made, tmp_path, start=START, lake=True)
    text = dataset(folder).read_text()
    assert "seaice" not in text
    assert "<ice:icelso>04</ice:icelso><ice:icelso>01</ice:icelso>" in text
    assert codes(read_chart(folder))[0] == {"CT": 90, "CA": 50, "SA": 87, "CB": 40, "SB": 81}
    assert codes(read_chart(folder))[1] == {"CT": 92, "SA": 99}  # first-year ice spans three stages of lake ice


@pytest.mark.parametrize(
    ("row", "words"),
    [({"CT": 14, "SA": 86}, "polygon 1: CT is 14"), ({"CT": 92, "SA": 90}, None), ({"CT": 92, "SA": "x"}, "SA is 'x'")],
)
def test_codes_that_s411_lacks_are_errors_by_polygon(row: dict[str, Any], words: str | None, tmp_path: Path) -> None:
    made = table([{"CT": 92, "SA": 86}, row])
    if words is None:  # the catalogue has the code, without a meaning
        write_s411(made, tmp_path, start=START)
        return
    with pytest.raises(ChartError, match=words):
        write_s411(made, tmp_path, start=START)
    assert not list(tmp_path.iterdir())


def test_a_chart_of_land_alone_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ChartError, match="no polygon of ice or water"):
        write_s411(table([{"POLY_TYPE": "L"}]), tmp_path, start=START)


# --- Ice edge, dateline, pole


def lines(folder: Path) -> dict[str, float]:
    """Length of the lines of each kind, kilometres."""
    found = {}
    for name, frame in by_gdal(folder).items():
        if name not in ("seaice", "lacice"):
            found[name] = sum(GEOD.geometry_length(g) for g in frame.geometry) / 1e3
    return found


def test_the_ice_edge_is_between_ice_and_water(tmp_path: Path) -> None:
    # Ice, ice, water in a row: one border of 10 km on the map, true to scale within two percent there.
    ice = {"CT": 92, "SA": 86}
    made = table([ice, ice, WATER | {"POLY_TYPE": "W"}, {"POLY_TYPE": "L"}])
    folder = write_s411(made, tmp_path, start=START)
    assert lines(folder) == {"icelne": pytest.approx(10.0, rel=0.05)}
    # With ice-free water the edge is where that begins, and the limit of open water is another line.
    made = table([ice, WATER | {"POLY_TYPE": "W"}, {"CT": 0, "POLY_TYPE": "W"}])
    both = lines(write_s411(made, tmp_path, start=START, name="free"))
    assert both == {"icelne": pytest.approx(10.0, rel=0.05), "opnlne": pytest.approx(10.0, rel=0.05)}
    text = dataset(tmp_path / "S411_floemap_free").read_text()
    edge, limit = (text.partition(f'gml:id="{k}.1"')[2].partition("<gml:posList>")[2][:8] for k in ("icelne", "opnlne"))
    assert edge != limit


@pytest.mark.parametrize("axes", ["latlon", "lonlat"])
def test_polygons_over_dateline_and_pole_keep_their_areas(axes: Axes, tmp_path: Path) -> None:
    # In EPSG:3413 the 180th meridian runs along x = -y from the pole at the origin.
    cap = shapely.Point(0, 0).buffer(200_000, 32)
    over = shapely.box(-1_010_000, 900_000, -890_000, 1_010_000)
    made = table([{"CT": 92, "SA": 95}, {"CT": 80, "SA": 86}], [cap, over])
    folder = write_s411(made, tmp_path, start=START, axes=axes)
    found = by_gdal(folder)["seaice"]
    assert set(found.geom_type) == {"Polygon"}
    assert found.total_bounds[0] >= -180
    assert found.total_bounds[2] <= 180
    laea = pyproj.CRS("+proj=laea +lat_0=90 +datum=WGS84")
    true = [float(gpd.GeoSeries([shapely.segmentize(s, 1000)], crs=3413).to_crs(laea).area.sum()) for s in (cap, over)]
    assert geodesic_km2(found.geometry) == pytest.approx(sum(true) / 1e6, rel=1e-4)
    assert areas_km2(read_chart(folder)).sum() == pytest.approx(sum(true) / 1e6, rel=1e-4)


def test_southern_charts_are_written_too(tmp_path: Path) -> None:
    south = draft(box=GeoBox((40, 60), Affine(1000, 0, 1_500_000, 0, -1000, -1_000_000), "EPSG:3031"))
    folder = write_s411(south, tmp_path, start=START)
    assert areas_km2(read_chart(folder)).sum() == pytest.approx(float(south.polygons["area_km2"].sum()), rel=1e-4)


# --- Against the standard and foreign files


def structure(root: etree._Element) -> dict[str, list[str]]:
    """Elements of the first area of ice in their order, each once, and those of its geometry."""
    ice = next(e for e in root.iter() if e.tag == f"{ICE}seaice")
    return {
        "root": [root.tag, root[0].tag],
        "attributes": list(dict.fromkeys(e.tag for e in ice)),
        "geometry": [e.tag for e in ice.find(f"{GML}Polygon").iter()],
    }


@pytest.mark.skipif(not FOREIGN, reason="no foreign S-411 here")
def test_the_structure_is_that_of_the_foreign_file(tmp_path: Path) -> None:
    made = write_s411(table([dict(EGGS[2])]), tmp_path, start=START)
    theirs = etree.parse(next(p for p in FOREIGN if p.stem.startswith("cis_"))).getroot()
    assert structure(etree.parse(dataset(made)).getroot()) == structure(theirs)


def listed(catalogue: Path) -> dict[str, set[int]]:
    """Codes of each attribute in a feature catalogue of S-100."""
    found = {}
    for attribute in etree.parse(catalogue).getroot().iter("{*}S100_FC_SimpleAttribute"):
        values = [v.findtext("{*}code") for v in attribute.iter("{*}listedValue")]
        found[str(attribute.findtext("{*}code")).lower()] = {int(v) for v in values if v}
    return found


@pytest.mark.parametrize("catalogue", CATALOGUES, ids=lambda p: p.name)
def test_the_tables_are_those_of_the_feature_catalogue(catalogue: Path) -> None:
    codes_of = listed(catalogue)
    assert set(s411_codes.CONCENTRATIONS) == codes_of["iceact"] == codes_of["iceapc"]
    assert set(s411_codes.SEA_STAGES) == codes_of["icesod"]
    assert set(s411_codes.LAKE_STAGES) == codes_of["icelso"]
    assert set(s411_codes.FORMS) == codes_of["iceflz"]


@pytest.mark.parametrize("lake", [False, True])
def test_every_code_that_is_written_is_one_of_the_standard(lake: bool) -> None:
    for stage in (79, 81, 82, 83, 84, 85, 86, 87, 88, 89, 91, 93, 94, 95, 96, 97, 98, 99, 12, 60):
        for form in (0, 1, 8, 10, 22, 99, 12):
            egg = dict.fromkeys(EGG, NOT_GIVEN) | {"CT": 91, "SA": stage, "FA": form}
            made = s411_egg(egg, lake=lake)
            assert set(made["icelso" if lake else "icesod"]) <= (
                s411_codes.LAKE_STAGES if lake else s411_codes.SEA_STAGES
            )
            assert set(made["iceflz"]) <= s411_codes.FORMS
            back, remarks = sigrid3_egg(
                made["iceact"], made["iceapc"], made["icelso" if lake else "icesod"], made["iceflz"], lake=lake
            )
            assert (back["CT"], back["CA"], remarks) == (91, NOT_GIVEN, [])
