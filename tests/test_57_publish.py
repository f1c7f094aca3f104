"""From a draft to a published chart: what is checked, what is repaired, what is written, and what is never touched."""

from __future__ import annotations

import errno
import json
import os
import shutil
import sqlite3
import struct
import zipfile
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import pyogrio
import pyproj
import pytest
import shapely
from chart_maker import BOTTOM, LEFT, POLAR, SIDE_M, ice, other, squares, write_chart
from lxml import etree
from matplotlib.figure import Figure
from PIL import Image
from workshop import contents, run

import floemap
from floemap.cartography import class_legend
from floemap.errors import ChartError, ConfigError, FloemapError, OutputError
from floemap.icechart.dominant_type import ice_types
from floemap.icechart.preview import DOTTED, chart_image, grid_around, kinds_and_colours, legend_entries
from floemap.icechart.read.codes import FORMS, NOT_GIVEN, concentration_in_egg, tenths_in_words
from floemap.icechart.read.overlaps import measure_coverage
from floemap.icechart.read.sigrid3 import read_chart
from floemap.legend import OPEN_WATER_RGB
from floemap.publishing.checked import Checked, check_chart
from floemap.publishing.drafts import find_draft
from floemap.publishing.edited import read_edited
from floemap.publishing.eggs import Egg
from floemap.publishing.problems import ProblemsError
from floemap.publishing.publish import Publication, publish_chart
from floemap.publishing.settings import PublishSettings
from floemap.publishing.sheet import draw_eggs, egg_in_lines

ANALYST = "Åsa <Analyst>"
NAME = "floemap_s1_20180116T0754Z_pl_a"


@pytest.fixture(autouse=True)
def unpictured(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """No pages and maps, which take most of the time of a publication, for tests that are not about them."""
    if not any(word in request.node.name for word in ("page", "from_draft_to")):
        monkeypatch.setattr(
            "floemap.publishing.publish.draw_sheet", lambda _chart, path, *_: path.write_bytes(b"%PDF-")
        )
        monkeypatch.setattr("floemap.publishing.change_page._map", lambda *_: b"")


@pytest.fixture
def edited(draft: Path, tmp_path: Path) -> Path:
    """A copy of the draft's folder, for an analyst."""
    return Path(shutil.copytree(draft, tmp_path / "work" / draft.name))


Change = Callable[[gpd.GeoDataFrame], gpd.GeoDataFrame | None]


def edit(path: Path, change: Change) -> Path:
    """Change the table of a GeoPackage in place, with the ids of its features, as QGIS does."""
    table = pyogrio.read_dataframe(path, layer="ice_chart", fid_as_index=True)
    changed = change(table)
    table = table if changed is None else changed
    with closing(sqlite3.connect(path)) as db, db:
        (geometry,) = db.execute("SELECT column_name FROM gpkg_geometry_columns").fetchone()
    new = path.with_name("new.gpkg")
    pyogrio.write_dataframe(table, new, layer="ice_chart", driver="GPKG", geometry_name=geometry, VERSION="1.2")
    new.replace(path)
    return path


def sea_ice(table: gpd.GeoDataFrame) -> Any:
    """The id of the largest polygon of ice."""
    return table[table["POLY_TYPE"] == "I"].area.idxmax()


# --- What is published


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory, draft: Path) -> Publication:
    """The draft, published as it is. Shared: read it, don't change it."""
    before = contents(draft)
    done = publish_chart(draft / "chart.gpkg", tmp_path_factory.mktemp("published"), ANALYST)
    assert contents(draft) == before
    return done


def test_every_format_has_the_polygons_and_the_status(published: Publication, draft: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(published.folder / f"{NAME}.zip") as archive:
        names = [f"{NAME}{s}" for s in (".cpg", ".dbf", ".prj", ".shp", ".shx", ".xml")]
        assert sorted(archive.namelist()) == names
        archive.extractall(tmp_path)
    drawn = pyogrio.read_dataframe(draft / "chart.gpkg", layer="ice_chart")
    (gml,) = published.folder.glob("S411_floemap_*/data/*.gml")
    by_s411 = read_chart(gml)
    assert by_s411.simulated
    assert sorted(by_s411.codes("sa")) == sorted(read_chart(published.chart).codes("sa"))
    for path in (published.chart, published.folder / f"{NAME}.geojson", tmp_path / f"{NAME}.shp"):
        table = pyogrio.read_dataframe(path, layer="ice_chart" if path.suffix == ".gpkg" else None)
        assert len(table) == len(drawn)
        for code in ("CT", "CA", "SA", "FA", "CB", "SB", "FB", "CC", "SC", "FC", "CN", "CD", "CF", "POLY_TYPE"):
            assert list(table[code]) == list(drawn[code])
        assert set(table["STATUS"]) == {"published, SIMULATED, not for navigation"}
        assert "CONFIDENCE" not in table and "ESTIMATED" not in table
    # The areas are those of geodesics on the ellipsoid, by another library.
    own = pyogrio.read_dataframe(published.chart, layer="ice_chart")
    geod = pyproj.Geod(ellps="WGS84")
    dense = shapely.segmentize(np.asarray(own.geometry), 5000)
    geodesic = [abs(geod.geometry_area_perimeter(g)[0]) / 1e6 for g in gpd.GeoSeries(dense, crs=own.crs).to_crs(4326)]
    np.testing.assert_allclose(own["AREA_KM2"], geodesic, rtol=1e-3)


def test_the_styles_show_what_is_published(published: Publication) -> None:
    with closing(sqlite3.connect(published.chart)) as db:
        styles = dict(db.execute("SELECT styleName, styleQML FROM layer_styles"))
    assert len(styles) == 2
    for text in styles.values():
        rules = etree.fromstring(text.encode()).find("renderer-v2")
        assert rules is not None and b"CONFIDENCE" not in etree.tostring(rules)


def test_a_publication_is_whole_or_not_there(draft: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("floemap.publishing.publish.draw_sheet", full)
    with pytest.raises(OutputError, match="No space left"):
        publish_chart(draft / "chart.gpkg", tmp_path / "out", ANALYST)
    assert contents(tmp_path) == {}


def test_metadata_name_analyst_validity_and_model(published: Publication, draft: Path) -> None:
    with zipfile.ZipFile(published.folder / f"{NAME}.zip") as archive:
        root = etree.fromstring(archive.read(f"{NAME}.xml"))
    model = json.loads((draft / "chart.json").read_text())["models"][0]
    assert root.findtext("idinfo/status/progress") == "Complete"
    assert root.findtext("idinfo/timeperd/current") == "time of validity"
    assert root.findtext("idinfo/citation/citeinfo/pubdate") != "Unpublished material"
    assert ANALYST in root.findtext("dataqual/lineage/procstep/procdesc")
    assert "raft" not in root.findtext("idinfo/citation/citeinfo/title")
    record = json.loads(published.record.read_text())
    assert record["analyst"] == ANALYST
    assert record["correction_of"]["model_sha256"] == model["sha256"]
    assert record["simulated"] is True
    assert record["valid"].startswith("2018-01-16T07:54:30")
    about = json.loads((published.folder / f"{NAME}.geojson").read_text())["about"]
    assert about["analyst"] == ANALYST and about["status"].startswith("published")


@pytest.mark.parametrize("page", ["pdf", "jpeg"])
def test_the_page_has_less_than_100_kb(page: Any, published: Publication, draft: Path, tmp_path: Path) -> None:
    if page == "pdf":
        path = published.folder / f"{NAME}.pdf"
        assert path.read_bytes().startswith(b"%PDF-")
    else:
        path = publish_chart(draft / "chart.gpkg", tmp_path, ANALYST, PublishSettings(page=page)).folder / f"{NAME}.jpg"
        with Image.open(path) as image:
            pixels = np.asarray(image.convert("RGB")).reshape(-1, 3).astype(int)
        young_ice = np.array([170, 40, 240])  # WMO's colour, JCOMM TR-24
        assert (np.abs(pixels - young_ice).max(axis=1) < 12).mean() > 0.02
    assert path.stat().st_size <= 100_000


def test_a_publication_is_finished_once_and_replaced_on_request_only(
    published: Publication, edited: Path, tmp_path: Path
) -> None:
    out = tmp_path / "published"
    first = publish_chart(edited / "chart.gpkg", out, ANALYST)
    again = publish_chart(edited / "chart.gpkg", out, ANALYST)
    assert (first.skipped, again.skipped) == (False, True)
    before = contents(out)
    with pytest.raises(OutputError, match=r"another publication.*--issue b"):
        publish_chart(edited / "chart.gpkg", out, "Somebody else")
    assert contents(out) == before
    second = publish_chart(edited / "chart.gpkg", out, "Somebody else", PublishSettings(issue="b"))
    assert second.folder.name == NAME[:-1] + "b"
    (first.folder / "notes.txt").write_text("the analyst's")
    with pytest.raises(OutputError, match=r"notes\.txt"):
        publish_chart(edited / "chart.gpkg", out, "Somebody else", overwrite=True)
    assert (first.folder / "notes.txt").read_text() == "the analyst's"


def test_the_command_ends_with_areas_and_speaks_json(draft: Path, tmp_path: Path) -> None:
    words = ("publish", draft / "chart.gpkg", "--out", tmp_path, "--analyst", ANALYST)
    done = run(*words)
    assert done.exit_code == 0, done.stderr
    assert done.stdout.strip() == str(tmp_path / NAME)
    assert "SIMULATED" in done.stderr and "km²" in done.stderr and ANALYST in done.stderr
    told = json.loads(run(*words, "--json").stdout)
    assert told["published"] is True and Path(told["folder"]).name == NAME and told["types"]
    assert sum(t["percent"] for t in told["types"]) == pytest.approx(100, abs=0.5)
    assert "Published chart" in run("info", tmp_path / NAME).stdout


def test_the_time_of_validity_is_needed_where_no_draft_says_it(tmp_path: Path) -> None:
    chart = write_chart(tmp_path / "c.gpkg", [ice(SA="95", FA="99")])
    with pytest.raises(ConfigError, match="--valid"):
        publish_chart(chart, tmp_path, ANALYST)
    for text in ("yesterday", "", "9999-12-31T23:59-12:00", "0001-01-01T00:00+12:00"):  # the last two have no UTC
        with pytest.raises(ConfigError, match="ISO 8601"):
            PublishSettings.checked(valid=text)
    with pytest.raises(ConfigError, match="name of its analyst"):
        publish_chart(chart, tmp_path, "  ")
    settings = PublishSettings(valid="2020-11-02T18:00+02:00", service="dmi", region="East")
    done = publish_chart(chart, tmp_path / "out", ANALYST, settings)
    assert done.folder.name == "dmi_East_20201102T1600Z_pl_a"
    assert json.loads(done.record.read_text())["status"] == "published"


# --- Eggs. Expected words follow from SIGRID-3 (TR-23): tables of codes, thickest first, parts that sum to the total.


def egg(kind: str = "I", form: str = "99-9", /, **codes: int) -> Egg:
    named = ("ct", "ca", "sa", "fa", "cb", "sb", "fb", "cc", "sc", "fc", "cn", "cd")
    return Egg(dict.fromkeys(named, -9) | codes, kind, form)


TWO = {"sa": 95, "fa": 99, "sb": 86, "fb": 99}
RIGHT = [
    egg(ct=92, sa=95, fa=99),
    egg(ct=90, ca=90, sa=95, fa=99),
    egg(ct=91, ca=40, cb=60, **TWO),  # of 9+, parts sum to ten
    egg(ct=91, ca=40, cb=50, **TWO),
    egg(ct=46, ca=20, cb=30, **TWO),  # 4 to 6 tenths
    egg(ct=90, ca=40, cb=30, cd=83, **TWO),  # CD has the other two
    egg(ct=90, ca=40, cb=50, cn=97, **TWO),
    egg(ct=99, sa=99, fa=8),
    egg(ct=92, sa=25, fa=99),  # 25 cm thick
    egg(ct=80, ca=40, cb=40, sa=86, sb=86, fa=5, fb=3),  # one stage in two forms
    egg("I", ct=2, sa=98),  # bergy water
    egg("W", "-9-9", ct=1),
    egg("W", "", ct=0),
    egg("L", ""),
    egg("S", "", sa=98),
]


@pytest.mark.parametrize("one", RIGHT, ids=lambda e: f"{e.kind} {e.codes['ct']}")
def test_right_eggs_pass(one: Egg) -> None:
    before = dict(one.codes)
    one.check()
    assert (one.faults, one.repairs, one.codes) == ([], [], before)


@pytest.mark.parametrize(
    ("one", "words"),
    [
        (egg(ct=90, ca=40, cb=30, **TWO), "CA 40, CB 30 sum to 7 tenths, but CT is 90, 9 tenths"),
        (egg(ct=90, ca=60, cb=60, **TWO), "sum to 12 tenths"),
        (egg(ct=90, ca=50, sa=95, fa=99), "CA 50 is 5 tenths"),
        (egg(ct=90, ca=40, cb=50, cd=83, **TWO), "leaves nothing for CD"),
        (egg(ct=90, ca=40, cb=30, cd=97, **TWO), "CD, a thinner type, is 97"),
        (egg(ct=90, ca=40, cb=50, cn=83, **TWO), "CN, a trace of thicker ice, is 83"),
        (egg(ct=90, sa=91, fa=99, cd=81), "CA is empty"),
        (egg(ct=93, sa=95, fa=99), "CT is 93, which is not a code"),
        (egg(ct=90, ca=5, cb=85, **TWO), "CA is 05, which is not a code"),
        (egg(ct=92, sa=90, fa=99), "SA is 90, which is not a stage"),
        (egg(ct=92, sa=95, fa=50), "FA is 50, which is not a form"),
        (egg(ct=92), "SA is empty"),
        (egg(sa=95, fa=99), "CT is empty"),
        (egg(ct=0, sa=95), "ice free"),
        (egg(ct=1, sa=95), "names SA 95"),
        (egg(ct=90, ca=40, cb=50, sa=95, fa=99), "CB is 50, but SB names no type"),
        (egg(ct=90, **TWO), "CA and CB are empty, but the polygon names 2 types"),
        (egg("W", ct=80), "POLY_TYPE is W, water, but the polygon has CT 80"),
        (egg("W", ct=1, sa=83), "has SA 83"),
        (egg("L", ct=92, sa=95), "has CT 92, SA 95"),
        (egg("", ""), "POLY_TYPE, CT and SA are empty"),
        (egg("", "", sa=83), "POLY_TYPE is empty, and does not follow from SA 83"),
        (egg("I", "abcd", ct=92, sa=95, fa=99), "CF is 'abcd'"),
    ],
    ids=lambda x: x[:24] if isinstance(x, str) else "",
)
def test_wrong_eggs_are_named_and_left_alone(one: Egg, words: str) -> None:
    one.check()
    assert any(words in fault for fault in one.faults), one.faults


@pytest.mark.parametrize(
    ("one", "expected", "words"),
    [
        (
            egg(ct=90, ca=50, sa=86, fa=3, cb=40, sb=95, fb=4),
            {"ca": 40, "sa": 95, "fa": 4, "cb": 50, "sb": 86, "fb": 3},
            "order of thickness",
        ),
        (egg(ct=90, cb=90, sb=95, fb=4), {"ca": 90, "sa": 95, "fa": 4, "cb": -9, "sb": -9, "fb": -9}, "move up"),
        (egg(ct=90, ca=40, **TWO), {"cb": 50}, "CB is empty; the others leave 5"),
        (egg(ct=91, cb=30, **TWO), {"ca": 70}, "CA is empty; the others leave 7"),
        (egg(ct=92, sa=95), {"fa": 99}, "FA is empty"),
        (egg(ct=92, sa=95, fa=4, fb=99), {"fb": -9}, "FB belongs to no type"),
        (egg("W", ""), {"ct": 1}, "CT is empty in a polygon of water"),
    ],
    ids=lambda x: x[:16] if isinstance(x, str) else "",
)
def test_safe_repairs_of_eggs_keep_what_was_entered(one: Egg, expected: dict[str, int], words: str) -> None:
    one.check()
    assert one.faults == []
    assert any(words in repair for repair in one.repairs), one.repairs
    assert one.codes.items() >= expected.items()
    repaired = Egg(dict(one.codes), one.kind, one.form)
    repaired.check()
    assert (repaired.faults, repaired.repairs) == ([], [])


def test_a_polygon_type_follows_from_the_concentration() -> None:
    for codes, kind in (({"ct": 1}, "W"), ({"ct": 92, "sa": 95, "fa": 99}, "I")):
        one = egg("", "", **codes)
        one.check()
        assert (one.kind, one.faults) == (kind, [])


# --- Topology

OLD = ice(SA="95", FA="99")


def checked(path: Path, *, repair: bool = False, sliver_m: float = 100.0) -> Checked:
    chart, found = read_edited(path)
    return check_chart(chart, found, find_draft(path, None), repair=repair, sliver_m=sliver_m)


def box(left: float, bottom: float, right: float, top: float) -> Any:
    """A rectangle in shares of the side of a square of the charts."""
    x, y = (lambda v: LEFT + v * SIDE_M), (lambda v: BOTTOM + v * SIDE_M)
    return shapely.box(x(left), y(bottom), x(right), y(top))


NARROW = 40 / SIDE_M
BOW_TIE = shapely.Polygon([(LEFT, BOTTOM), (LEFT + 9e3, BOTTOM + 9e3), (LEFT + 9e3, BOTTOM), (LEFT, BOTTOM + 9e3)])
#: By name: polygons, kind, ids, whether the repair is safe. Ids of features begin with 1 in a GeoPackage.
FAULTY: dict[str, tuple[list[Any], str, tuple[int, ...], bool]] = {
    "gap": ([box(0, 0, 3, 3) - box(1, 1, 2, 2)], "gap", (1,), False),
    "narrow gap": (
        [box(0, 0, 2, 1), box(0, 1 + NARROW, 2, 3), box(2, 0, 3, 3), box(-1, 0, 0, 3)], "gap", (1, 2, 3, 4), True
    ),
    "overlap": ([box(0, 0, 1.5, 1), box(1, 0, 2, 1)], "overlap", (1, 2), False),
    "narrow overlap": ([box(0, 0, 1 + NARROW, 1), box(1, 0, 2, 1)], "overlap", (1, 2), True),
    "drawn on top": ([box(0, 0, 3, 3), box(1, 1, 2, 2)], "overlap", (1, 2), True),
    "drawn across a border": (
        [box(0, 0, 2, 3), box(2, 0, 4, 3), box(1.5, 1, 2.4, 2)], "overlap", (1, 3), True
    ),
    "twice": ([box(0, 0, 1, 1), box(0, 0, 1, 1)], "duplicate", (1, 2), True),
    "sliver": ([box(0, 0, 1, 1), box(1, 0, 1 + NARROW, 1)], "sliver", (2,), True),
    "bow tie": ([BOW_TIE], "self-crossing", (1,), True),
}  # fmt: skip


@pytest.mark.parametrize("name", FAULTY)
def test_faults_of_topology_are_named_with_their_place(name: str, tmp_path: Path) -> None:
    polygons, kind, ids, safe = FAULTY[name]
    path = write_chart(tmp_path / "c.gpkg", [OLD] * len(polygons), polygons)
    found = checked(path)
    problem, *_ = [p for p in found.problems if p.kind == kind]
    assert (problem.polygons, problem.safe) == (ids, safe)
    x, y = pyproj.Transformer.from_crs(4326, 3413, always_xy=True).transform(*problem.at)
    assert shapely.dwithin(shapely.union_all(polygons).convex_hull, shapely.Point(x, y), 1)
    assert "°N" in problem.in_words() and all(str(i) in problem.in_words() for i in ids)
    repaired = checked(path, repair=True)
    if not safe:
        assert [p.kind for p in repaired.problems] == [kind]
        return
    assert repaired.problems == () and {p.kind for p in repaired.repaired} == {kind}
    made = repaired.chart.geometries
    coverage = measure_coverage(made)
    assert shapely.is_valid(made).all() and coverage.gaps == 0
    assert coverage.overlap_m2 < 1
    if kind != "self-crossing":  # nothing that was covered is lost
        assert shapely.difference(shapely.union_all(polygons), shapely.union_all(made)).area < 1


def test_what_lies_on_top_is_cut_out_of_what_is_below(tmp_path: Path) -> None:
    new = ice(SA="83", FA="99")
    path = write_chart(tmp_path / "c.gpkg", [OLD, new], [box(0, 0, 3, 3), box(1, 1, 2, 2)])
    chart = checked(path, repair=True).chart
    by_stage = dict(zip(chart.codes["sa"].tolist(), shapely.area(chart.geometries), strict=True))
    assert by_stage == {95: pytest.approx(8 * SIDE_M**2), 83: pytest.approx(SIDE_M**2)}


def test_the_same_polygon_with_other_codes_needs_an_analyst(tmp_path: Path) -> None:
    path = write_chart(tmp_path / "c.gpkg", [OLD, ice(SA="83", FA="99")], [box(0, 0, 1, 1)] * 2)
    (problem,) = checked(path, repair=True).problems
    assert problem.kind == "duplicate" and "other codes" in problem.words


def test_what_a_repair_leaves_is_checked_again(tmp_path: Path) -> None:
    """A polygon cut by another leaves a strip on its far side, which becomes part of a neighbour."""
    strip = 60 / SIDE_M
    below, beside = box(0, 0, 2, 1), box(-1, 0, 0, 1)
    path = write_chart(tmp_path / "c.gpkg", [OLD] * 3, [below, beside, box(strip, 0, 1.5, 1)])
    found = checked(path, repair=True)
    assert found.problems == ()
    assert {p.kind for p in found.repaired} == {"overlap", "sliver"}
    made = found.chart.geometries
    assert shapely.union_all(made).area == pytest.approx(3 * SIDE_M**2)
    assert min(2 * g.area / g.length for g in made) > 100


def test_a_draft_of_another_place_is_refused(draft: Path, tmp_path: Path) -> None:
    path = write_chart(tmp_path / "c.gpkg", [OLD])
    with pytest.raises(ChartError, match="lies elsewhere than its draft"):
        publish_chart(path, tmp_path / "out", ANALYST, draft=draft)


def test_parts_of_a_feature_become_polygons(tmp_path: Path) -> None:
    both = shapely.MultiPolygon([box(0, 0, 1, 1), box(2, 0, 3, 1)])
    found = checked(write_chart(tmp_path / "c.gpkg", [OLD], [both]))
    assert found.problems == () and len(found.chart) == 2
    assert any("several parts" in note for note in found.notes)


# --- Against the draft


def faults(path: Path) -> set[tuple[str, tuple[int, ...], bool]]:
    return {(p.kind, p.polygons, p.safe) for p in checked(path).problems}


def test_the_draft_itself_has_no_problem_in_any_format(draft: Path) -> None:
    for path in (draft / "chart.gpkg", draft / f"{NAME}.shp", draft / "chart.geojson"):
        found = checked(path)
        assert found.problems == ()
        assert len(found.notes) == 1 or path.suffix == ".geojson"
        assert any("14 polygons are marked as ESTIMATED" in note for note in found.notes)


def test_a_deleted_polygon_is_a_gap_in_the_footprint(edited: Path) -> None:
    path = edit(edited / "chart.gpkg", lambda t: t.drop(sea_ice(t)))
    assert {kind for kind, _, safe in faults(path)} == {"gap"}
    with pytest.raises(ProblemsError, match="no polygon covers"):
        publish_chart(path, edited.parent / "out", ANALYST)
    assert not (edited.parent / "out").exists() or not any((edited.parent / "out").iterdir())


def test_what_is_drawn_over_the_edge_is_cut_off(edited: Path) -> None:
    def grow(table: gpd.GeoDataFrame) -> None:
        row = sea_ice(table)
        union = shapely.union_all(table.geometry)
        wide = shapely.buffer(union, 8000) - union
        touching = table.index[shapely.dwithin(np.asarray(table.geometry), wide, 1)][0]
        table.loc[touching, "geometry"] = shapely.union(table.geometry[touching], wide)
        assert row is not None

    path = edit(edited / "chart.gpkg", grow)
    (problem,) = checked(path).problems
    assert (problem.kind, problem.safe) == ("outside", True) and "partly outside" in problem.words
    repaired = checked(path, repair=True)
    assert repaired.problems == ()
    drawn = shapely.union_all(read_chart(edited / f"{NAME}.shp").geometries)
    assert shapely.union_all(repaired.chart.geometries).area == pytest.approx(drawn.area, rel=1e-6)


def test_a_correction_of_class_alone_is_refused_and_a_stale_class_is_not(edited: Path) -> None:
    def only_class(table: gpd.GeoDataFrame) -> None:
        table.loc[sea_ice(table), "CLASS"] = "old_ice" if table.CLASS[sea_ice(table)] != "old_ice" else "nilas"

    def only_codes(table: gpd.GeoDataFrame) -> None:
        row = sea_ice(table)
        table.loc[row, ["CT", "CA", "SA", "FA"]] = ["92", "-9", "97", "99"]
        table.loc[row, ["CB", "SB", "FB", "CC", "SC", "FC", "CN", "CD"]] = "-9"

    original = (edited / "chart.gpkg").read_bytes()
    path = edit(edited / "chart.gpkg", only_class)
    (problem,) = checked(path).problems
    assert problem.kind == "class" and not problem.safe
    path.write_bytes(original)
    assert checked(edit(path, only_codes)).problems == ()


def test_all_problems_are_listed_at_once(edited: Path) -> None:
    def spoil(table: gpd.GeoDataFrame) -> None:
        ids = list(table.index[table["POLY_TYPE"] == "I"][:5])
        table.loc[ids[0], "SA"] = "FY"
        table.loc[ids[1], "CT"] = "93"
        table.loc[ids[2], "POLY_TYPE"] = "Q"
        table.loc[ids[3], "geometry"] = None
        table.loc[ids[4], ["POLY_TYPE", "CT", "SA"]] = None

    path = edit(edited / "chart.gpkg", spoil)
    done = run("publish", path, "--out", edited.parent / "out", "--analyst", ANALYST, "--json")
    assert done.exit_code == 1
    told = json.loads(done.stdout)
    table = pyogrio.read_dataframe(path, layer="ice_chart", fid_as_index=True)
    ice_rows = [p for problem in told["problems"] for p in problem["polygons"]]
    assert told["published"] is False
    assert {"wrong code", "no geometry", "egg", "gap"} <= {p["kind"] for p in told["problems"]}
    assert len(set(ice_rows) & set(table.index)) >= 5
    for problem in told["problems"]:
        assert problem["words"] in done.stderr
    assert not (edited.parent / "out" / NAME).exists()


# --- Files as programs leave them


def test_a_geopackage_that_qgis_has_open(edited: Path) -> None:
    """QGIS keeps changes in a log beside the file, and holds a lock."""
    path = edited / "chart.gpkg"
    with closing(sqlite3.connect(path)) as db:
        db.execute("PRAGMA journal_mode=WAL")
        triggers = [name for (name,) in db.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'")]
        for name in triggers:  # they call functions that only GDAL has
            db.execute(f'DROP TRIGGER "{name}"')
        db.execute("UPDATE ice_chart SET SA = '97', CA = '-9', CT = '92', FA = '99' WHERE fid = 1")
        db.execute(
            "UPDATE ice_chart SET CB = '-9', SB = '-9', FB = '-9', CC = '-9', SC = '-9', FC = '-9' WHERE fid = 1"
        )
        db.execute("UPDATE ice_chart SET CN = '-9', CD = '-9', POLY_TYPE = 'I' WHERE fid = 1")
        db.commit()
        assert path.with_name("chart.gpkg-wal").stat().st_size > 0
        db.execute("BEGIN IMMEDIATE")
        before = contents(edited)
        done = publish_chart(path, edited.parent / "out", ANALYST)
        assert contents(edited) == before
        assert pyogrio.read_dataframe(done.chart, layer="ice_chart")["SA"][0] == "97"
        record = json.loads(done.record.read_text())
        assert record["correction_of"]["draft"] == f"{NAME}.shp"  # not the file with the log


@pytest.mark.skipif(os.geteuid() == 0 and not hasattr(os, "setegid"), reason="permissions do not bind this user")
def test_a_chart_in_a_folder_that_cannot_be_written(edited: Path) -> None:
    path = edited / "chart.gpkg"
    edited.chmod(0o555)
    path.chmod(0o444)
    try:
        assert publish_chart(path, edited.parent / "out", ANALYST).chart.is_file()
    finally:
        edited.chmod(0o755)


@pytest.mark.parametrize("cpg", ["1252", None])
def test_shapefiles_of_windows(cpg: str | None, tmp_path: Path) -> None:
    """Text in another encoding, with or without the file that names it; codes are digits in any."""
    rows = [ice(SA="95", FA="99") | {"NOTE": "Öl bei Ærø"}]
    path = write_chart(tmp_path / "c.shp", rows, squares(1), encoding="CP1252")
    if cpg is None:
        path.with_suffix(".cpg").unlink()
    settings = PublishSettings(valid="2020-01-01")
    done = publish_chart(path, tmp_path / "out", ANALYST, settings)
    assert list(pyogrio.read_dataframe(done.chart, layer="ice_chart")["SA"]) == ["95"]


def test_geojson_with_a_byte_order_mark_and_two_features_of_one_id(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = write_chart(tmp_path / "c.geojson", [OLD, OLD])
    content = json.loads(path.read_text())
    for feature in content["features"]:
        feature["id"] = 7
    path.write_text("\ufeff" + json.dumps(content), encoding="utf-8")
    found = checked(path)
    assert found.problems == () and len(found.chart) == 2
    assert "same id" in caplog.text


@pytest.mark.parametrize("crs", ["EPSG:32630", "EPSG:3857", "EPSG:4326"])
def test_a_chart_saved_in_another_crs_has_the_same_areas(crs: str, draft: Path, edited: Path) -> None:
    table = pyogrio.read_dataframe(draft / "chart.gpkg", layer="ice_chart")
    table = table.set_geometry(shapely.segmentize(np.asarray(table.geometry), 2000), crs=table.crs)
    path = edited / "other.gpkg"
    pyogrio.write_dataframe(table.to_crs(crs), path, layer="ice_chart")
    done = publish_chart(path, edited.parent / "out", ANALYST, PublishSettings(repair=True))
    areas = json.loads(done.record.read_text())["polygons"]["area_km2"]
    assert sum(areas.values()) == pytest.approx(table["AREA_KM2"].sum(), rel=2e-3)


def test_lost_columns_are_named(edited: Path) -> None:
    path = edit(edited / "chart.gpkg", lambda t: t.drop(columns=["FB", "CN", "CF"]))
    words = " ".join(p.in_words() for p in checked(path).problems)
    assert "FB" in words and "CN" in words and "CF" in words
    path = edit(path, lambda t: t.drop(columns=["CT"]))
    with pytest.raises(ChartError, match="lacks CT"):
        publish_chart(path, edited.parent / "out", ANALYST)


def curve(edges: int) -> bytes:
    """A polygon whose shell is a curve through points (ISO WKB): arcs, or straight edges."""
    points = [
        (LEFT, BOTTOM),
        (LEFT + 5e3, BOTTOM + 1e4),
        (LEFT + 1e4, BOTTOM),
        (LEFT + 5e3, BOTTOM - 1e3),
        (LEFT, BOTTOM),
    ]
    ring = struct.pack("<BII", 1, edges, len(points)) + b"".join(struct.pack("<2d", *p) for p in points)
    return struct.pack("<BII", 1, 10, 1) + ring


@pytest.mark.parametrize(("edges", "words"), [(8, "polygons 1, 3: have edges that are arcs.*Segmentize"), (2, None)])
def test_polygons_with_curves(edges: int, words: str | None, tmp_path: Path) -> None:
    path = write_chart(tmp_path / "c.gpkg", [OLD] * 3)
    with closing(sqlite3.connect(path)) as db, db:
        for (name,) in db.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'").fetchall():
            db.execute(f'DROP TRIGGER "{name}"')
        blob = b"GP\0\1" + struct.pack("<i", 3413) + curve(edges)
        db.execute("UPDATE c SET geom = ? WHERE fid IN (1, 3)", (blob,))
    if words is None:
        assert {p.kind for p in checked(path).problems} <= {"duplicate", "overlap"}
    else:
        with pytest.raises(ChartError, match=words):
            checked(path)


def test_nothing_that_can_be_published_is_left(tmp_path: Path) -> None:
    path = write_chart(tmp_path / "c.gpkg", [OLD], [shapely.Polygon()])
    with pytest.raises(FloemapError, match="no geometry"):
        publish_chart(path, tmp_path / "out", ANALYST, PublishSettings(valid="2020-01-01", repair=True))


@pytest.mark.parametrize("ct", [12, 13, 46, 79, 81, 89])
def test_an_empty_part_of_a_range_is_not_guessed(ct: int) -> None:
    """What the others leave of a range may be any of several."""
    found = egg(ct=ct, ca=10, sa=95, cb=-9, sb=86)
    found.check()
    assert not [w for w in found.repairs if "leave" in w] and found.codes["cb"] == -9
    assert any("CB is empty" in w for w in found.faults)


def test_the_public_name() -> None:
    assert floemap.publish_chart.__wrapped__ is publish_chart  # type: ignore[attr-defined]
    assert POLAR == "EPSG:3413" and other("L")["POLY_TYPE"] == "L"


def test_labels_have_the_trace_and_the_type_that_has_the_rest(tmp_path: Path) -> None:
    """As the egg code has them outside the oval: So before the stages, Sd after them."""
    rows = [
        ice("92", CA="60", SA="95", CB="30", SB="91", CN="97", CD="85"),
        ice("90", CA="70", SA="91", CD="81"),
        ice("90", SA="91"),
    ]
    chart = read_chart(write_chart(tmp_path / "chart.gpkg", rows))
    assert [egg_in_lines(chart, i) for i in range(3)] == ["10\n6 3\n(97) 95 91 (85)", "9\n7\n91 (81)", "9\n91"]


@pytest.mark.parametrize(
    ("value", "words"), [(1, "1 tenth"), (2, "2 tenths"), (9.5, "9.5 tenths"), (0.5, "0.5 tenths")]
)
def test_one_tenth_is_in_the_singular(value: float, words: str) -> None:
    assert tenths_in_words(value) == words
    assert "1 tenths" not in " ".join(FORMS.values())


EGG_CONCENTRATIONS = {0: "0", 55: "0", 1: "<1", 2: "<1", 10: "1", 46: "4-6", 79: "7-9", 81: "8-10", 90: "9", 91: "9+"}
EGG_CONCENTRATIONS |= {92: "10", 98: "X", 99: "X", NOT_GIVEN: "X"}


def test_eggs_write_concentrations_as_charts_do_and_name_bergy_water(tmp_path: Path) -> None:
    assert {code: concentration_in_egg(code) for code in EGG_CONCENTRATIONS} == EGG_CONCENTRATIONS
    rows = [
        ice("91", CA="91", SA="95", CB="13", SB="81"),
        ice("46", SA="86"),
        ice("02", SA="98"),
        ice("02", SA="98") | {"POLY_TYPE": "W"},
        ice("01", SA="99"),
        ice("99", CA="99", SA="86", CB="20", SB="81"),
    ]
    chart = read_chart(write_chart(tmp_path / "chart.gpkg", rows))
    eggs = [egg_in_lines(chart, i) for i in range(len(rows))]
    bergy = "bergy\nwater"
    assert eggs == ["9+\n9+ 1-3\n95 81", "4-6\n86", bergy, bergy, "<1\n99", "X\nX 2\n86 81"]
    ax = Figure().subplots()
    draw_eggs(ax, chart)
    assert sorted(t.get_text() for t in ax.texts) == sorted(eggs)


def test_bergy_water_has_the_colour_of_open_water_and_dots_in_map_and_legend(tmp_path: Path) -> None:
    """WMO's standard gives both one colour, so a colour alone does not tell them apart."""
    chart = read_chart(write_chart(tmp_path / "chart.gpkg", [ice("02", SA="98"), other("W")]))
    kinds, colours = kinds_and_colours(chart, ice_types(chart))
    assert colours == [OPEN_WATER_RGB, OPEN_WATER_RGB]
    image, numbers = chart_image(chart, grid_around(chart, 200), colours)
    inside = [np.s_[20:-20, 20:90], np.s_[20:-20, 110:-20]]  # away from the border between the two squares
    found = [{tuple(rgb) for rgb in image[i].reshape(-1, 3).tolist()} for i in inside]
    assert [np.unique(numbers[i]).tolist() for i in inside] == [[1], [2]]
    assert found[1] == {OPEN_WATER_RGB} and len(found[0]) == 2 and OPEN_WATER_RGB in found[0]
    ax = Figure().subplots()
    class_legend(ax, legend_entries(kinds, colours, numbers), dotted=DOTTED)
    legend = ax.get_legend()
    assert legend is not None
    hatches = {t.get_text(): p.get_hatch() for t, p in zip(legend.get_texts(), legend.get_patches(), strict=True)}
    assert bool(hatches["bergy water"]) and not hatches["open water"]
