"""What an analyst changed in a draft, and what becomes of corrections as labels."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import pyogrio
import pyproj
import pytest
import shapely
from chart_maker import SIDE_M, ice, other, squares, write_chart
from PIL import Image
from workshop import Inputs, run, study_file

from floemap.cog import open_raster
from floemap.errors import FloemapError
from floemap.icechart.label.label import label_chart, notes_of
from floemap.icechart.read.sigrid3 import read_chart
from floemap.legend import SIX_CLASSES
from floemap.publishing.change_page import _left, _polygons
from floemap.publishing.changes import NOWHERE, compare_with_draft
from floemap.publishing.drafts import Draft, find_draft
from floemap.publishing.monitor import monitor_charts
from floemap.publishing.publish import publish_chart
from floemap.publishing.settings import PublishSettings
from floemap.study.compare import train_model
from floemap.study.scene import open_study_scene
from floemap.study.settings import Study

STAGES = ("95", "86", "83", "81")
DRAFTED = [ice(SA=stage, FA="99") | {"CONFIDENCE": c} for stage, c in zip(STAGES, (0.4, 0.6, 0.8, 0.95), strict=True)]
EVEN = squares(4)


@pytest.fixture(autouse=True)
def unpictured(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """No pages and maps, which take most of the time of a publication, for tests that are not about them."""
    if not any(word in request.node.name for word in ("page", "from_draft_to")):
        monkeypatch.setattr(
            "floemap.publishing.publish.draw_sheet", lambda _chart, path, *_: path.write_bytes(b"%PDF-")
        )
        monkeypatch.setattr("floemap.publishing.change_page._map", lambda *_: b"")


def compared(
    folder: Path, rows: list[dict[str, Any]], shapes: list[Any], minutes: float | None = None
) -> dict[str, Any]:
    """The changes from the draft of four squares to a correction."""
    draft = Draft(read_chart(write_chart(folder / "draft.gpkg", DRAFTED, EVEN)), {})
    told = compare_with_draft(read_chart(write_chart(folder / "corrected.gpkg", rows, shapes)), draft, minutes)
    json.dumps(told, allow_nan=False)
    _check_sums(told, shapes)
    return told


def _check_sums(told: dict[str, Any], shapes: list[Any]) -> None:
    """Rows of the confusion sum to the draft's areas, columns to the correction's; both are geodesic areas."""
    for side, polygons in (("draft", EVEN), ("correction", shapes)):
        lonlat = gpd.GeoSeries(shapely.segmentize(polygons, 2000), crs="EPSG:3413").to_crs(4326)
        geodesic = sum(abs(pyproj.Geod(ellps="WGS84").geometry_area_perimeter(g)[0]) / 1e6 for g in lonlat)
        assert sum(a[side] for a in told["area_km2"]) == pytest.approx(geodesic, rel=1e-4)
    table = told["confusion_km2"]
    for area in told["area_km2"]:
        assert sum(table.get(area["type"], {}).values()) == pytest.approx(area["draft"], abs=0.1)
        assert sum(row.get(area["type"], 0) for row in table.values()) == pytest.approx(area["correction"], abs=0.1)
    assert sum(t["km2"] for t in told["by_type"]) == pytest.approx(told["total"]["km2"], abs=0.1)
    assert sum(t["km2"] for t in told["by_confidence"]) == pytest.approx(told["total"]["km2"], abs=0.1)


def test_nothing_changed(tmp_path: Path) -> None:
    told = compared(tmp_path, DRAFTED, EVEN)
    assert told["total"]["other_egg_share"] == 0
    assert told["polygons"] == {
        "unchanged": 4,
        "moved": 0,
        "other egg": 0,
        "moved, other egg": 0,
        "new": 0,
        "removed": 0,
    }
    assert told["changed"] == []


def test_another_type_and_another_egg_of_one_type(tmp_path: Path) -> None:
    rows = [*DRAFTED[:2], ice(SA="97", FA="99"), ice("80", SA="81", FA="99")]
    told = compared(tmp_path, rows, EVEN, minutes=12.5)
    # Four squares of equal sides; the scale of the map differs by a percent between them.
    assert told["total"]["other_type_share"] == pytest.approx(1 / 4, rel=0.02)
    assert told["total"]["other_egg_share"] == pytest.approx(2 / 4, rel=0.02)
    assert (told["polygons"]["other egg"], told["polygons"]["unchanged"], told["minutes"]) == (2, 2, 12.5)
    young = "83 young ice"
    assert told["confusion_km2"][young].keys() == {"97 multi-year ice"}
    by_type = {t["type"]: t["other_type_share"] for t in told["by_type"]}
    assert by_type == {"95 old ice": 0, "86 first-year ice": 0, young: 1, "81 new ice": 0}
    sure = {t["from"]: (t["other_type_share"], t["other_egg_share"]) for t in told["by_confidence"]}
    assert sure == {0.0: (0, 0), 0.5: (0, 0), 0.7: (1, 1), 0.9: (0, 1)}
    changed = {c["polygon"]: c for c in told["changed"]}
    assert changed[3]["draft"]["type"] == young and changed[3]["correction"]["egg"] == "10 / 97"
    x, y = pyproj.Transformer.from_crs(4326, 3413, always_xy=True).transform(
        changed[3]["lon_deg"], changed[3]["lat_deg"]
    )
    assert EVEN[2].contains(shapely.Point(x, y))


def test_land_counts_where_it_was_changed_only(tmp_path: Path) -> None:
    land = other("L") | {"CONFIDENCE": None}
    drafted = [*DRAFTED[:2], land, land]
    draft = Draft(read_chart(write_chart(tmp_path / "draft.gpkg", drafted, EVEN)), {})
    corrected = read_chart(write_chart(tmp_path / "c.gpkg", [*DRAFTED[:2], land, DRAFTED[0]], EVEN))
    told = compare_with_draft(corrected, draft, None)
    assert told["total"]["other_type_share"] == pytest.approx(1 / 3, rel=0.02)
    assert {t["type"]: t["other_type_share"] for t in told["by_type"]}["land"] == 1


def test_a_border_moved(tmp_path: Path) -> None:
    shift = SIDE_M / 4
    left, bottom, right, top = EVEN[0].bounds
    shapes = [shapely.box(left, bottom, right + shift, top), shapely.box(right + shift, bottom, right + SIDE_M, top)]
    told = compared(tmp_path, DRAFTED, [*shapes, *EVEN[2:]])
    assert told["polygons"]["moved"] == 2 and told["polygons"]["unchanged"] == 2
    # A quarter of one of four squares has another type.
    assert told["total"]["other_type_share"] == pytest.approx(1 / 16, rel=0.02)


def test_polygons_cut_out_merged_and_left_out(tmp_path: Path) -> None:
    hole = shapely.box(*(v + d * SIDE_M for v, d in zip(EVEN[0].bounds, (0.2, 0.2, -0.2, -0.2), strict=True)))
    shapes = [EVEN[0] - hole, hole, shapely.union(EVEN[1], EVEN[2])]
    rows = [DRAFTED[0], ice(SA="81", FA="99"), DRAFTED[1]]
    told = compared(tmp_path, rows, shapes)
    changes = told["polygons"]
    assert (changes["new"], changes["removed"]) == (1, 2)  # the hole; a merged square, and the last one
    assert told["confusion_km2"]["81 new ice"].keys() == {NOWHERE}
    assert told["total"]["km2"] == pytest.approx(3 / 4 * sum(a["draft"] for a in told["area_km2"]), rel=0.02)


def test_rounding_of_coordinates_moves_nothing(tmp_path: Path) -> None:
    draft = Draft(read_chart(write_chart(tmp_path / "draft.gpkg", DRAFTED, EVEN)), {})
    lonlat = gpd.GeoSeries(shapely.segmentize(EVEN, 2000), crs="EPSG:3413").to_crs(4326)
    rounded = shapely.transform(np.asarray(lonlat), lambda xy: xy.round(5))
    path = write_chart(tmp_path / "c.geojson", DRAFTED, list(rounded), crs="EPSG:4326")
    told = compare_with_draft(read_chart(path), draft, None)
    assert told["polygons"]["unchanged"] == 4
    assert told["total"]["other_egg_share"] < 1e-4


def test_the_page_has_words_for_types_and_no_gap_where_an_egg_would_be() -> None:
    water = {"type": "open water", "egg": "", "km2": 10.0}
    ice = {"type": "81 new ice", "egg": "7", "km2": 10.0}
    told = {"change": "other egg", "polygon": 1, "lat_deg": 77.0, "lon_deg": 0.0, "draft": ice, "correction": water}
    assert _polygons({"changed": [told]})["rows"][0][3:] == ["81 new ice 7, 10.0 km²", "open water, 10.0 km²"]
    spot = {"lat_deg": 77.0, "lon_deg": 0.0, "class": "first_year_ice", "other": "old_ice"}
    assert _left({"left_as_drafted": [spot]})["rows"][0][1:] == ["first year ice", "old ice"]


# --- From a draft to labels


@pytest.fixture
def corrected(draft: Path, tmp_path: Path) -> Path:
    """The draft's GeoPackage, its largest polygon of ice made multi-year, in a copy of its folder."""
    path = Path(shutil.copytree(draft, tmp_path / draft.name)) / "corrected.gpkg"
    table = pyogrio.read_dataframe(draft / "chart.gpkg", layer="ice_chart", fid_as_index=True)
    row = table[table["POLY_TYPE"] == "I"].area.idxmax()
    table.loc[row, ["CT", "CA", "SA", "FA"]] = ["92", "-9", "97", "99"]
    table.loc[row, ["CB", "SB", "FB", "CC", "SC", "FC", "CN", "CD"]] = "-9"
    pyogrio.write_dataframe(table, path, layer="ice_chart")
    return path


def test_from_draft_to_correction_to_publication_to_labels(
    draft: Path, corrected: Path, workshop: Inputs, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    model = json.loads((draft / "chart.json").read_text())["models"][0]
    done = publish_chart(corrected, tmp_path / "out", "A. <b>Analyst</b>", PublishSettings(minutes=7))
    record = json.loads(done.record.read_text())
    changes = json.loads((done.folder / "changes.json").read_text())
    page = (done.folder / "changes.html").read_text()
    assert "0 polygons moved, 0 new, 0 removed; 7 minutes" in run("info", done.folder).stdout
    assert changes["polygons"]["other egg"] == 1 and record["changes"]["total"] == changes["total"]
    assert "A. &lt;b&gt;Analyst&lt;/b&gt;" in page and "<b>Analyst" not in page
    assert "http" not in page.replace("http-equiv", "") and "<script" not in page
    assert "SIMULATED" in page and "took 7 min." in page

    labelled = label_chart(done.chart, workshop.prepared, tmp_path / "labels")
    with open_raster(labelled.raster) as d:
        labels, transform = d.read(1), d.transform
    # The polygon that was corrected is old ice in the labels, and was not in the draft.
    final = pyogrio.read_dataframe(done.chart, layer="ice_chart")
    there = shapely.point_on_surface(final[final["SA"] == "97"].geometry.iloc[0])
    col, row = ~transform * (there.x, there.y)
    assert SIX_CLASSES.classes[labels[int(row), int(col)]].key == "old_ice"
    origin = json.loads(labelled.record.read_text())["origin"]
    assert (origin["kind"], origin["analyst"]) == ("published", "A. <b>Analyst</b>")
    assert origin["model_sha256"] == model["sha256"]
    assert origin["other_egg_share"] == changes["total"]["other_egg_share"] > 0.01
    assert not [r for r in caplog.records if "labels are a model's" in r.getMessage()]

    scene = open_study_scene("a", workshop.prepared, labelled.folder, None, legend=SIX_CLASSES)
    assert scene.about()["labels_from"]["model"] == model["name"]


@pytest.mark.usefixtures("tiny_is_a_model")
def test_a_training_records_whose_labels_it_learnt_from(corrected: Path, workshop: Inputs, tmp_path: Path) -> None:
    done = publish_chart(corrected, tmp_path / "out", "A. Analyst")
    labelled = label_chart(done.chart, workshop.prepared, tmp_path / "labels")
    path = study_file(workshop, tmp_path, '[model]\nname = "tiny"\n')
    path.write_text(path.read_text().replace(str(workshop.labels), str(labelled.folder)))
    study = Study.from_toml(path)
    record = json.loads((train_model(study, tmp_path / "run").parent / "training.json").read_text())
    origin = json.loads(labelled.record.read_text())["origin"]
    assert [entry["labels_from"] for entry in record["data"]] == [origin] * len(record["data"])


def test_labels_of_a_draft_that_nobody_corrected_are_warned_of(
    draft: Path, corrected: Path, workshop: Inputs, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    name = json.loads((draft / "chart.json").read_text())["models"][0]["name"]
    labelled = label_chart(draft / "chart.gpkg", workshop.prepared, tmp_path / "labels")
    record = json.loads(labelled.record.read_text())
    assert record["origin"]["kind"] == "draft"
    assert any("no analyst has corrected" in r.getMessage() and name in r.getMessage() for r in caplog.records)
    assert any("no analyst has corrected" in note for note in notes_of(record))

    caplog.clear()
    record = json.loads(label_chart(corrected, workshop.prepared, tmp_path / "labels").record.read_text())
    assert record["origin"]["kind"] == "correction"
    with open_raster(tmp_path / "labels" / "corrected" / "labels.tif") as d, open_raster(labelled.raster) as o:
        one, other = d.read(1), o.read(1)
    both = (one != 255) & (other != 255)
    assert record["origin"]["other_class_share"] == pytest.approx((one != other)[both].mean(), abs=1e-6)
    assert not [r for r in caplog.records if "labels are a model's" in r.getMessage()]

    shutil.copyfile(draft / "chart.gpkg", corrected)  # a correction in name only
    label_chart(corrected, workshop.prepared, tmp_path / "again")
    assert any("labels are a model's" in r.getMessage() for r in caplog.records)


def test_places_to_review_that_nobody_touched_are_left(corrected: Path, tmp_path: Path) -> None:
    table = pyogrio.read_dataframe(corrected, layer="ice_chart")
    to_earth = pyproj.Transformer.from_crs(table.crs, 4326, always_xy=True)
    changed, other = (table[is_it].geometry.iloc[0] for is_it in (table["SA"] == "97", table["SA"] != "97"))
    places = [to_earth.transform(p.x, p.y) for p in map(shapely.point_on_surface, (changed, other))]
    spots = [{"lon_deg": lon, "lat_deg": lat, "class": "nilas", "other": "young_ice"} for lon, lat in places]
    record = corrected.parent / "chart.json"
    record.write_text(json.dumps(json.loads(record.read_text()) | {"review_spots": spots}))
    done = publish_chart(corrected, tmp_path / "out", "A. Analyst")
    assert json.loads(done.record.read_text())["review_spots"] == spots[1:]
    shown = run("publish", corrected, "--out", tmp_path / "out", "--analyst", "A. Analyst").stderr
    assert "Review first" in shown and "nilas or young ice" in shown


def test_a_published_draft_is_called_so(draft: Path, tmp_path: Path) -> None:
    done = publish_chart(draft / "chart.gpkg", tmp_path, "A. Analyst")
    assert any("draft's egg on 100.0%" in words for words in json.loads(done.record.read_text())["warnings"])


def test_the_draft_is_found_or_given(draft: Path, corrected: Path, tmp_path: Path) -> None:
    assert find_draft(corrected, None).chart.path.name == "chart.gpkg"
    (corrected.parent / "chart.gpkg").write_bytes(corrected.read_bytes())  # edited in place
    assert find_draft(corrected, None).chart.path.suffix == ".shp"
    elsewhere = Path(shutil.copy(corrected, tmp_path / "elsewhere.gpkg"))
    assert find_draft(elsewhere, None) is None
    assert find_draft(elsewhere, draft).chart.path == draft / "chart.gpkg"
    assert find_draft(elsewhere, draft / "chart.gpkg").start.year == 2018


# --- Over many charts


def put(folder: Path, name: str, month: int, areas: tuple[float, float, float], **more: Any) -> Path:
    """A publication as far as it is followed: its record and its changes, with areas in km2."""
    entry = dict(zip(("km2", "other_type_km2", "other_egg_km2"), areas, strict=True))
    record = {
        "made_by": "floemap publish", "name": name, "valid": f"2020-{month:02d}-03T12:00:00+00:00", "service": "dmi",
        "region": "East", "issue": "a", "analyst": "=1+1", "published": "2020-12-01T00:00:00+00:00", "simulated": False,
        "correction_of": {"draft": "chart.gpkg", "product": name[:5], "model": "m1"},
    } | more  # fmt: skip
    polygons = {"unchanged": 3, "moved": 1, "other egg": 0, "moved, other egg": 1, "new": 2, "removed": 1}
    confident = {"from": 0.9, "to": 1.0} if month < 7 else {"from": 0.0, "to": 0.5}
    changes = {
        "minutes": 10, "total": entry, "polygons": polygons,
        "by_type": [{"type": "95 old ice"} | entry], "by_confidence": [confident | entry],
    }  # fmt: skip
    (folder / name).mkdir(parents=True)
    (folder / name / "publication.json").write_text(json.dumps(record))
    (folder / name / "changes.json").write_text(json.dumps(changes))
    return folder / name


def test_shares_over_many_charts_are_those_of_areas(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    put(tmp_path / "p", "one__a", 1, (100.0, 10.0, 20.0))
    put(tmp_path / "p" / "deeper", "two__a", 1, (300.0, 90.0, 90.0))
    put(tmp_path / "p", "three_a", 7, (100.0, 0.0, 0.0), correction_of={"product": "three", "model": "m2"})
    put(tmp_path / "p", "one__b", 1, (100.0, 50.0, 60.0), issue="b", published="2020-12-02T00:00:00+00:00")
    put(tmp_path / "p", "four_a", 7, (1.0, 1.0, 1.0), correction_of=None)
    (put(tmp_path / "p", "five_a", 7, (1.0, 1.0, 1.0)) / "changes.json").write_text("{}")
    (put(tmp_path / "p", "six_a", 7, (1.0, 1.0, 1.0)) / "publication.json").write_text("{")
    facts = monitor_charts(tmp_path / "p").facts
    assert [c["name"] for c in facts["charts"]] == ["one__b", "two__a", "three_a"]
    # By hand: of 500 km2, 50 + 90 got another type, and 60 + 90 another egg; of January, of 400 km2.
    assert (facts["total"]["other_type_share"], facts["total"]["other_egg_share"]) == (0.28, 0.3)
    assert [(e["month"], e["other_type_share"], e["charts"]) for e in facts["by_month"]] == [(1, 0.35, 2), (7, 0.0, 1)]
    assert [(e["from"], e["km2"]) for e in facts["by_confidence"]] == [(0.0, 100.0), (0.9, 400.0)]
    assert [(e["model"], e["other_egg_share"]) for e in facts["by_model"]] == [("m1", 0.375), ("m2", 0.0)]
    assert [(e["type"], e["charts"]) for e in facts["by_type"]] == [("95 old ice", 3)]
    assert (facts["charts"][0]["moved"], facts["charts"][0]["polygons"]) == (2, 7)
    assert (facts["without_draft"], facts["earlier_issues"]) == (["four_a"], ["one__a"])
    assert {e["folder"] for e in facts["unreadable"]} == {"five_a", "six_a"}
    for name in ("four_a", "one__a", "five_a", "six_a"):
        assert any(name in r.getMessage() for r in caplog.records)


def test_the_command_writes_tables_and_a_picture(tmp_path: Path) -> None:
    put(tmp_path / "p", "one__a", 1, (100.0, 10.0, 20.0), simulated=True)
    put(tmp_path / "p", "four_a", 7, (1.0, 1.0, 1.0), correction_of=None)
    done = run("monitor", tmp_path / "p", "--out", tmp_path / "m")
    assert done.exit_code == 0, done.stderr
    assert "10.0%" in done.stdout and "SIMULATED" in done.stderr and "four_a" in done.stderr
    with (tmp_path / "m" / "charts.csv").open(newline="") as file:
        (row,) = csv.DictReader(file)
    assert row["analyst"] == "'=1+1"  # not a formula
    assert float(row["other_egg_share"]) == 0.2
    assert "four_a,no draft" in (tmp_path / "m" / "not_counted.csv").read_text()
    with Image.open(tmp_path / "m" / "monitor.png") as picture:
        assert min(picture.size) > 500
    assert json.loads(run("monitor", tmp_path / "p", "--json").stdout)["without_draft"] == ["four_a"]
    assert "Changes to many drafts m, SIMULATED" in " ".join(run("info", tmp_path / "m").stdout.split())
    (tmp_path / "m" / "mine.txt").write_text("mine")
    assert run("monitor", tmp_path / "p", "--out", tmp_path / "m").exit_code == 1
    with pytest.raises(FloemapError, match="no published chart"):
        monitor_charts(tmp_path / "m")
