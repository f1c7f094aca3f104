"""The style by which QGIS shows a chart, and CLASS: both follow the codes that are read back, and corrections count."""

from __future__ import annotations

import json
import logging
import sqlite3
from contextlib import closing
from datetime import UTC, datetime
from itertools import product, zip_longest
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import pytest
from affine import Affine
from chart_maker import POLAR, grid, ice, other, squares, write_chart
from lxml import etree
from odc.geo.geobox import GeoBox
from pyproj import Proj, Transformer
from real_qgis import needs_qgis, run_in_qgis
from typer.testing import CliRunner

import floemap.cli.label  # noqa: F401  registers the command
from floemap.cli.app import app
from floemap.cog import Band, write_cog
from floemap.icechart.describe import chart_facts
from floemap.icechart.dominant_type import Rule, class_ids, ice_types
from floemap.icechart.draw.polygonize import vectorize
from floemap.icechart.label.label import label_chart
from floemap.icechart.label.settings import LabelSettings
from floemap.icechart.preview import DOTTED, kinds_and_colours
from floemap.icechart.read.own_charts import other_classes
from floemap.icechart.read.sigrid3 import read_chart
from floemap.icechart.write.qgis_expressions import class_expression, kinds_of, kinds_without_class
from floemap.icechart.write.qgis_style import OTHER_TITLE, qgis_style
from floemap.icechart.write.sigrid3 import write_sigrid3
from floemap.icechart.write.vector import LAYER, write_geojson, write_geopackage
from floemap.legend import EXTREMEEARTH, IGNORE, LAND, LAND_RGB, LEGENDS, SIX_CLASSES, STAGE_CODES, Legend

START = datetime(2018, 1, 16, 7, 54, 30, tzinfo=UTC)
every_legend = pytest.mark.parametrize("legend", LEGENDS.values(), ids=lambda x: x.name)


@every_legend
def test_the_style_has_the_legends_colours(legend: Legend) -> None:
    root = etree.fromstring(qgis_style(legend).encode())
    renderer = root.find("renderer-v2")
    assert renderer.get("type") == "RuleRenderer"
    colours = {s.get("name"): s.xpath("layer/Option/Option[@name='color']/@value")[0] for s in renderer.find("symbols")}  # type: ignore[index]
    shown = {rule.get("label"): colours[rule.get("symbol")] for rule in renderer.find("rules")}
    expected = {c.title: c.rgb for c in legend.classes} | {"Land": LAND_RGB, OTHER_TITLE: (235, 235, 235)}
    expected |= {k.title: k.rgb for k in kinds_without_class()}
    assert shown == {title: ",".join(map(str, (*rgb, 255))) for title, rgb in expected.items()}
    assert root.xpath("defaults/default[@field = 'CLASS']/@expression") == [class_expression(legend)]


@every_legend
def test_what_is_shown_is_what_is_read(tmp_path: Path, legend: Legend) -> None:
    """Every type of polygon, concentration and stage, told by the style's conditions as SQL, and by the reader."""
    stages = sorted(STAGE_CODES - {*range(3, 79)} | {3, 9, 13, 45, 78})
    rows = [
        {"POLY_TYPE": kind, "CT": ct, "SA": stage}
        for kind in ("I", "W", "L", "N", "S", None)
        for ct in ("00", "01", "1", "55", "02", "50", "92", "98", "99", "-9", None)
        for stage in (*(f"{c:02d}" for c in stages), "4", "-9", None)
        if (kind, ct, stage) != (None, None, None)
    ]
    path = write_chart(tmp_path / "c.gpkg", rows, squares(len(rows)))
    read = read_chart(path)
    types = ice_types(read)
    ids = class_ids(types, legend, unmapped="ignore")
    expected = ["land" if r == Rule.LAND else "" for r in types.rule]
    keys = {c.id: c.key for c in legend.classes}
    expected = [keys.get(int(i), land) for i, land in zip(ids, expected, strict=True)]
    with closing(sqlite3.connect(path)) as db:
        by_condition = ", ".join(f"({kind.condition})" for kind in kinds_of(legend))
        told = db.execute(f"SELECT {by_condition} FROM c ORDER BY fid").fetchall()
        derived = [key for (key,) in db.execute(f"SELECT {class_expression(legend)} FROM c ORDER BY fid")]
    assert all(sum(row) <= 1 for row in told)
    names = [kind.key for kind in kinds_of(legend)]
    shown = [names[row.index(1)] if 1 in row else "" for row in told]
    assert shown == derived
    assert shown == expected


def test_what_has_no_class_looks_as_in_the_charts_pictures(tmp_path: Path) -> None:
    """Bergy water, dotted, ice shelves and places without data: one rule each, with the name and colour of pictures."""
    rows: list[dict[str, Any]] = [
        {"POLY_TYPE": kind, "CT": ct, "SA": stage}
        for kind in ("I", "W", "L", "N", "S", None)
        for ct in ("00", "01", "02", "2", "50", "-9", None)
        for stage in ("86", "98", "-9", None)
    ]
    path = write_chart(tmp_path / "c.gpkg", rows, squares(len(rows)))
    read = read_chart(path)
    types = ice_types(read)
    kinds, colours = kinds_and_colours(read, types)
    root = etree.fromstring(qgis_style(SIX_CLASSES).encode())
    symbols = {s.get("name"): s for s in root.iterfind("renderer-v2/symbols/symbol")}
    rules = [
        (r.get("label"), r.get("filter"), symbols[r.get("symbol")]) for r in root.iterfind("renderer-v2/rules/rule")
    ]
    with closing(sqlite3.connect(path)) as db:
        told = db.execute(f"SELECT {', '.join(f'({rule})' for _, rule, _ in rules)} FROM c ORDER BY fid").fetchall()
    assert all(sum(row) == 1 for row in told)
    classless = {Rule.BERGY_WATER, Rule.ICE_SHELF, Rule.NO_DATA}
    seen = set()
    for row, rule, kind, rgb in zip(told, types.rule, kinds, colours, strict=True):
        title, _, symbol = rules[row.index(1)]
        if rule in classless:
            seen.add(title)
            assert title.lower() == kind
            assert symbol.xpath("layer[1]/Option/Option[@name='color']/@value") == [",".join(map(str, (*rgb, 255)))]
            dots = symbol.xpath("layer[@class='PointPatternFill']/symbol[@type='marker']/layer[@class='SimpleMarker']")
            assert len(dots) == (kind in DOTTED)
        else:
            assert title not in {k.title for k in kinds_without_class()}
    assert len(seen) == len(classless)


@every_legend
def test_a_mixed_polygon_is_shown_as_its_dominant_type_is_read(tmp_path: Path, legend: Legend) -> None:
    """All ways to share out the tenths among up to four types, thickest first, as drafts write them."""
    tenths = {n: f"{n}0" for n in range(1, 10)} | {10: "92", None: None}
    rows = [
        {"POLY_TYPE": "I", "CT": tenths[sum(parts)]}
        | {field: tenths[n] for field, n in zip_longest(("CA", "CB", "CC"), parts[:3])}
        | dict(zip_longest(("SA", "SB", "SC", "CD"), ("95", "86", "83", "81")[: len(parts)]))
        for count in (2, 3, 4)
        for parts in product(range(1, 9), repeat=count)
        if sum(parts) <= 10
    ]
    path = write_chart(tmp_path / "c.gpkg", rows, squares(len(rows)))
    ids = class_ids(ice_types(read_chart(path)), legend, unmapped="ignore")
    keys = {c.id: c.key for c in legend.classes}
    with closing(sqlite3.connect(path)) as db:
        derived = [key for (key,) in db.execute(f"SELECT {class_expression(legend)} FROM c ORDER BY fid")]
    assert derived == [keys.get(int(i), "") for i in ids]
    assert len(set(derived)) > 1 or len(legend) < 4


# --- charts of ours, corrected


BOX = GeoBox((64, 256), Affine(1000, 0, 500_000, 0, -1000, -1_436_000), POLAR)


def draft(folder: Path, legend: Legend = EXTREMEEARTH) -> dict[str, Path]:
    """A draft chart of four squares, young ice, first-year ice, water and land, in its formats."""
    classes = np.repeat(np.array([2, 3, legend.water, IGNORE], np.uint8), 64)[None].repeat(64, axis=0)
    land = np.zeros(classes.shape, bool)
    land[:, 192:] = True
    polygons = vectorize(classes, BOX, legend, min_area_km2=0.0, tolerance_m=0.0, land=land)
    about = {"simulated": True, "created": "2026-11-26T12:00:00+00:00"}
    folder.mkdir(parents=True, exist_ok=True)
    return {
        ".gpkg": write_geopackage(polygons, folder / "chart.gpkg", start=START, about=about),
        ".shp": write_sigrid3(polygons, folder, start=START, about=about),
        ".geojson": write_geojson(polygons, folder / "chart.geojson", start=START, about=about),
    }


@pytest.fixture
def like(tmp_path: Path) -> Path:
    write_cog(tmp_path / "like.tif", grid(), np.ones(grid().shape, np.uint8), [Band("any")], nodata=0)
    return tmp_path / "like.tif"


def edit(path: Path, where: str, **values: str | None) -> gpd.GeoDataFrame:
    """Change fields of the polygons that are of a class, as an analyst does."""
    layer = {"layer": LAYER} if path.suffix == ".gpkg" else {}
    table = gpd.read_file(path, **layer)
    for name, value in values.items():
        table.loc[table["CLASS"] == where, name] = value
    table.to_file(path, **layer)
    return table


@pytest.mark.parametrize("suffix", [".gpkg", ".shp", ".geojson"])
def test_a_draft_that_nobody_changed_agrees_with_itself(tmp_path: Path, suffix: str) -> None:
    for legend in LEGENDS.values():
        if len(legend) > 4:
            chart = read_chart(draft(tmp_path / legend.name, legend)[suffix])
            assert other_classes(chart, ice_types(chart)) == []
            assert chart.simulated
    assert LAND not in range(len(EXTREMEEARTH))


@pytest.mark.parametrize("suffix", [".gpkg", ".shp", ".geojson"])
@pytest.mark.parametrize(
    ("where", "values"),
    [
        ("young_ice", {"CLASS": "first_year_ice"}),
        ("young_ice", {"SA": "86"}),
        ("young_ice", {"CLASS": "land"}),
        ("first_year_ice", {"POLY_TYPE": "L"}),
        ("open_water", {"CLASS": "old_ice"}),
        ("land", {"CLASS": "open_water"}),
        ("land", {"POLY_TYPE": "W"}),
    ],
)
def test_a_correction_of_one_field_alone_is_told(
    tmp_path: Path, like: Path, suffix: str, where: str, values: dict[str, str], caplog: pytest.LogCaptureFixture
) -> None:
    path = draft(tmp_path / "draft")[suffix]
    row = [str(c) for c in read_chart(path).classes or ()].index(where)
    edit(path, where, **values)
    number = read_chart(path).polygons.index[row]
    with caplog.at_level(logging.WARNING, "floemap"):
        made = label_chart(path, like, tmp_path / "out", LabelSettings(legend="extremeearth"))
    words = f"in 1 polygon CLASS is another than POLY_TYPE, CT and SA say, which count: {number}."
    assert words in caplog.text
    assert json.loads(made.record.read_text())["oddities"]["other_class_ids"] == [number]
    again = CliRunner().invoke(
        app, ["label", str(path), "--like", str(like), "--out", str(tmp_path / "out"), "--legend", "extremeearth"]
    )
    assert again.exit_code == 0 and "finished before" in again.stdout
    assert words in again.stderr.replace("\n", " "), "whoever asks again is told again"
    assert "SIMULATED" in again.stdout
    assert chart_facts(read_chart(path))["oddities"]["other_class_ids"] == [number]


@pytest.mark.parametrize("suffix", [".gpkg", ".shp", ".geojson"])
def test_a_correction_of_the_codes_counts(tmp_path: Path, like: Path, suffix: str) -> None:
    path = draft(tmp_path / "draft")[suffix]
    edit(path, "young_ice", SA="95", CLASS="old_ice")
    made = label_chart(path, like, tmp_path / "out", LabelSettings(legend="extremeearth"))
    record = json.loads(made.record.read_text())
    assert record["pixels"]["old_ice"] > 4000
    assert record["pixels"]["young_ice"] == 0
    assert record["oddities"]["other_class_ids"] == []


def test_a_new_polygon_without_codes_is_named(tmp_path: Path, like: Path, caplog: pytest.LogCaptureFixture) -> None:
    rows = [ice(SA="86") | {"CLASS": "first_year_ice"}, dict.fromkeys(ice()) | {"CLASS": "old_ice"}, other("L")]
    rows.append(ice(SA="95") | {"POLY_TYPE": ""})
    path = write_chart(tmp_path / "c.gpkg", rows)
    with caplog.at_level(logging.WARNING, "floemap"):
        label_chart(path, like, tmp_path / "out")
    assert "2 polygons have no POLY_TYPE: 2, 4" in caplog.text
    assert "1 polygon has neither POLY_TYPE nor CT nor SA: 2" in caplog.text
    assert "which count: 2." in caplog.text


def test_classes_of_other_peoples_charts_are_left_alone(tmp_path: Path) -> None:
    for value in ("A", "7", None, "Fast ice"):
        chart = read_chart(write_chart(tmp_path / "c.gpkg", [ice(SA="86") | {"CLASS": value}]))
        assert other_classes(chart, ice_types(chart)) == []
        assert not chart.simulated


# --- in QGIS itself


@needs_qgis
def test_qgis_shows_corrections_and_derives_the_class(tmp_path: Path, like: Path) -> None:
    made = draft(tmp_path / "draft")
    (made[".shp"].with_suffix(".qml")).write_text(qgis_style(EXTREMEEARTH))
    uris = [f"{made['.gpkg']}|layername={LAYER}", str(made[".shp"])]
    found = run_in_qgis(Path(__file__).with_name("qgis_editing.py"), *uris, home=tmp_path / "home")
    colours: dict[str, Any] = {c.key: list(c.rgb) for c in EXTREMEEARTH.classes} | {"land": list(LAND_RGB)}
    for told in found:
        assert told["renderer"] == "RuleRenderer" and told["messages"] == []
        for shown in (told["before"], told["after"]):
            assert all(rgb == [colours.get(key, [235, 235, 235])] for key, rgb in shown)
        assert [k for k, _ in told["before"]] == ["young_ice", "first_year_ice", "open_water", "land"]
        assert [k for k, _ in told["after"]][:4] == ["old_ice", "first_year_ice", "open_water", "land"]
        check_editing(told)
    corrected = gpd.read_file(made[".gpkg"], layer=LAYER).iloc[0]
    assert (corrected["SA"], corrected["CLASS"], corrected["ESTIMATED"]) == ("95", "old_ice", "no")


def check_editing(told: dict[str, Any]) -> None:
    """What QGIS did with a corner that was moved, a new polygon, a split one, and values that are not allowed."""
    moved, new, halves = told["moved"], told["new"], told["split"]
    # A square of 64 km whose corner moved 10 km outwards along one side gained a triangle of 64 x 10 / 2 km2.
    assert moved["AREA"] == 64_000**2 + 64_000 * 10_000 // 2
    # The scale of areas there from PROJ: square kilometres on the map per square kilometre on the ellipsoid.
    lon, lat = Transformer.from_crs(POLAR, 4326, always_xy=True).transform(530_000, -1_468_000)
    scale = Proj(POLAR).get_factors(lon, lat).areal_scale
    assert moved["AREA_KM2"] == pytest.approx(moved["AREA"] / 1e6 / scale, rel=2e-3)
    assert new["AREA"] == 25_000_000 and new["PERIMETER"] == 20_000
    assert (new["POLY_TYPE"], new["CT"], new["SA"], new["CB"]) == ("I", "99", "-9", "-9")
    assert (new["STATUS"], new["SIMULATED"], new["ESTIMATED"]) == ("draft, not for navigation", "yes", "no")
    assert new["CONFIDENCE"] is None and new["CLASS"] in ("", None)
    assert [h["AREA"] for h in halves] == [64_000 * 32_000] * 2, "both halves of a split polygon have their areas"
    assert told["broken"] == {"as it is": [], "new": ["SA"], "sum": ["CA"], "order": ["SB"], "code": ["CT"]}
    assert told["soft"] == {"as it is": [], "new": [], "sum": [], "order": ["SB"], "code": []}
    widgets = dict(told["widgets"])
    assert {n for n, w in widgets.items() if w == "ValueMap"} == {
        *("POLY_TYPE", "CT", "CA", "SA", "FA", "CB", "SB", "FB", "CC", "SC", "FC", "CN", "CD", "ESTIMATED"),
    }  # fmt: skip
    assert {"CLASS", "AREA", "AREA_KM2", "CONFIDENCE", "STATUS", "SIMULATED"} <= set(told["read_only"])
    assert not {"CT", "SA", "FA", "ESTIMATED"} & set(told["read_only"])
