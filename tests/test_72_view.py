"""Maps of what floemap made: all results of a product in one scene, nothing that is not there, nothing that escapes."""

from __future__ import annotations

import colorsys
import json
import logging
import os
import re
import shutil
import tomllib
from pathlib import Path
from typing import Any

import numpy as np
import pyproj
import pytest
import rasterio
from affine import Affine
from odc.geo.geobox import GeoBox
from once import made_once
from run_maker import make_run, product_name
from workshop import Inputs, run

import floemap
from floemap.cog import Band, write_cog
from floemap.errors import ChartError, FloemapError, OutputError
from floemap.grid import image_crs
from floemap.icechart.polaris import LEVEL_RGB, Level, operation_levels, ship_class
from floemap.inference.draftchart.polaris_layer import _bands
from floemap.legend import EXTREMEEARTH, SIX_CLASSES
from floemap.results.stage import read_json, write_json
from floemap.viewer.layers import risk_ramp
from floemap.viewer.server import POLICY
from floemap.viewer.view import View, make_view

ROOT = Path(__file__).parents[1]
SITE = Path(floemap.__file__).parent / "viewer" / "site"


@pytest.fixture(scope="module")
def comparison(tmp_path_factory: pytest.TempPathFactory) -> Path:
    def make(out: Path) -> Path:
        return make_run(out / "run", losses=("cross_entropy", "dice"), repeats=1, scenes=("01",))

    made: Path = made_once(tmp_path_factory, "viewed", make)
    return made


@pytest.fixture
def folder(workshop: Inputs, draft: Path, tmp_path: Path) -> Path:
    """A product with a draft chart, labels and a prediction, each in a folder of its own."""
    for name, source in (("prepared", workshop.prepared), ("drafts", draft), ("predictions", workshop.prediction)):
        shutil.copytree(source, tmp_path / "all" / name / source.name)
    shutil.copytree(workshop.labels, tmp_path / "all" / "labels" / "ice")
    return tmp_path / "all"


def only(view: View) -> dict[str, Any]:
    (listed,) = view.content["scenes"]
    scene = view.scene(listed["id"])
    assert isinstance(scene, dict)
    return scene


def id_of(view: View, name: str) -> str:
    return next(str(s["id"]) for s in view.content["scenes"] if s["name"] == name)


def groups(scene: dict[str, Any]) -> dict[str, list[dict[str, Any]]]:
    return {g: [x for x in scene["layers"] if x["group"] == g] for g in sorted({x["group"] for x in scene["layers"]})}


def test_all_results_of_a_product_are_one_scene(folder: Path, workshop: Inputs) -> None:
    scene = only(make_view(folder))
    record = read_json(workshop.prepared / "product.json")
    assert scene["name"] == record["scene"]["name"] and scene["mission"] == record["scene"]["mission"]
    assert scene["time"] == record["scene"]["start"].replace("+00:00", "Z")
    assert scene["short"] == "S1A EW 2018-01-16 07:54"
    assert scene["simulated"] and scene["status"] == "draft" and "not for navigation" in scene["notice"]
    found = groups(scene)
    assert sorted(found) == ["chart", "labels", "layer", "radar"]
    assert [x["kind"] for x in found["radar"]] == ["rgb", "grey", "grey"]
    assert [v["kind"] for v in scene["vectors"]] == ["polygons"]
    assert [x["title"] for x in (*scene["layers"], *scene["vectors"]) if x["default"]] == [
        found["radar"][0]["title"],
        scene["vectors"][0]["title"],
    ]


@pytest.mark.parametrize("charts", [1, 2])
@pytest.mark.parametrize("prepared", [True, False])
def test_the_radar_image_is_there_once(prepared: bool, charts: int, folder: Path) -> None:
    """Each chart has that of its product, stretched."""
    source = next((folder / "prepared").iterdir())
    draft = next((folder / "drafts").iterdir())
    with rasterio.open(source / "product.tif") as d:
        geobox = GeoBox(d.shape, d.transform, d.crs.to_wkt())
    bands = [Band(name) for name in ("red", "green", "blue")]
    write_cog(draft / "radar.tif", geobox, np.ones((3, *geobox.shape), np.uint8), bands, nodata=0)
    if charts == 2:
        shutil.copytree(draft, folder / "more" / draft.name)
    if not prepared:
        shutil.rmtree(folder / "prepared")
    radar = groups(only(make_view(folder)))["radar"]
    assert [x["title"].split(",")[1] for x in radar if x["kind"] == "grey"] == 2 * [
        " sigma nought" if prepared else " stretched"
    ]
    assert [x["kind"] for x in radar] == ["rgb", "grey", "grey"]


def test_the_place_is_the_rasters(folder: Path, workshop: Inputs) -> None:
    view = make_view(folder)
    scene = only(view)
    with rasterio.open(workshop.prepared / "product.tif") as d:
        assert scene["extent"] == list(d.bounds) and scene["size"] == [d.width, d.height]
        assert pyproj.CRS(scene["projections"][scene["projection"]]).to_epsg(20) == d.crs.to_epsg()
        corner = pyproj.Transformer.from_crs(d.crs, "EPSG:4326", always_xy=True).transform(
            d.bounds.left, d.bounds.bottom
        )
    assert scene["footprint"]["coordinates"][0][0] == pytest.approx(corner, abs=1e-4)
    for layer in scene["layers"]:
        with rasterio.open(view.data[layer["url"]]) as d:
            assert set(layer["bands"]) <= set(d.indexes) and layer["nodata"] == d.nodata
            assert layer["scale"] == d.scales[layer["bands"][0] - 1]


def test_radar_is_stretched_over_what_is_there(folder: Path, workshop: Inputs) -> None:
    """The limits are stored values: most pixels lie between them, and both ends are in use."""
    hh = next(x for x in only(make_view(folder))["layers"] if x["title"].startswith("HH"))
    with rasterio.open(workshop.prepared / "product.tif") as d:
        stored = d.read(1)
    values = stored[stored != hh["nodata"]]
    inside = np.mean((values >= hh["range"][0]) & (values <= hh["range"][1]))
    assert 0.9 < inside <= 1 and hh["unit"] == "dB"


def test_legends_are_those_of_the_rasters(folder: Path) -> None:
    view = make_view(folder)
    scene = only(view)
    chart = next(x for x in scene["layers"] if x["group"] == "labels")
    entries = {e["value"]: e for e in scene["legends"][chart["legend"]]["entries"]}
    with rasterio.open(view.data[chart["url"]]) as d:
        colours = d.colormap(1)
    for c in SIX_CLASSES.classes:
        assert entries[c.id]["name"] == c.key and entries[c.id]["color"] == f"#{bytes(colours[c.id][:3]).hex()}"
    polygons = json.loads(view.data[scene["vectors"][0]["url"]].read_bytes())
    keys = {f["properties"]["CLASS"] for f in polygons["features"]}
    assert keys <= {e["name"] for e in scene["legends"][scene["vectors"][0]["legend"]]["entries"]}


def test_spots_to_review_are_the_charts(folder: Path) -> None:
    record = next((folder / "drafts").rglob("chart.json"))
    spot = {"spot": 1, "lon_deg": 10.5, "lat_deg": 79.0, "area_km2": np.pi, "wrong_km2": 2.0}
    spots = [spot | {"class": "old_ice", "other": "<b>"}, spot | {"lat_deg": "x", "class": 1, "other": 2}, "no spot"]
    write_json(record, read_json(record) | {"review_spots": spots})
    (told,) = only(make_view(folder))["review"]
    assert told["radius_m"] == 1000 and (told["lon"], told["lat"]) == (10.5, 79.0)
    assert told["title"] == "old ice or <b>" and told["why"] == "2 of 3 km² are expected to be wrong"


def test_models_of_a_comparison_stand_in_one_scene(comparison: Path) -> None:
    view = make_view(comparison)
    scene = only(view)
    assert scene["name"] == product_name("01")
    runs = {layer["run"] for layer in scene["layers"] if layer["run"]}
    assert runs == {"cross_entropy_r0", "dice_r0"}
    for name in ("Ice types", "Probability of old ice", "Right or wrong"):
        assert {x["run"] for x in scene["layers"] if x["title"] == name} == runs
    assert [x["title"] for x in scene["layers"] if x["default"] and x["group"] == "chart"] == ["Ice types"]
    old = next(x for x in scene["layers"] if x["title"] == "Probability of old ice")
    assert old["bands"] == [1 + [c.key for c in EXTREMEEARTH.classes].index("old_ice")]
    assert [v * old["scale"] + old["offset"] for v in old["range"]] == pytest.approx([0, 1])
    assert len({x["id"] for x in scene["layers"]}) == len(scene["layers"])


def test_further_values_of_a_model_are_drawn(folder: Path) -> None:
    prediction = next((folder / "predictions").iterdir())
    with rasterio.open(prediction / "classes.tif") as d:
        geobox = GeoBox(d.shape, d.transform, d.crs.to_wkt())
    zeros = np.zeros(geobox.shape, np.uint8)
    sizes = Band("floe", description="Floe size", categories={0: "small", 1: "large", 255: "no data"})
    amount = Band("amount", "%", "Concentration", scale=0.5, offset=0)
    for band in (sizes, amount):
        write_cog(prediction / f"{band.name}.tif", geobox, zeros, [band], nodata=255)
    write_json(prediction / "prediction.json", read_json(prediction / "prediction.json") | {"bytes": {}})
    view = make_view(folder)
    found = {x["title"]: x for x in only(view)["layers"]}
    assert found["Concentration"]["unit"] == "%" and found["Concentration"]["range"] == [0, 254]
    legend = only(view)["legends"][found["Floe size"]["legend"]]
    assert [(e["value"], e["label"]) for e in legend["entries"]] == [(0, "Small"), (1, "Large")]
    assert len({e["color"] for e in legend["entries"]}) == 2


@pytest.mark.parametrize(("ship", "levels"), [("PC7", [0, 1, 2]), ("IA", [0, 2])])
def test_levels_of_operation_are_in_the_words_of_the_circular(ship: str, levels: list[int], folder: Path) -> None:
    """Of a ship below the polar classes there is no elevated risk, and what is below 0 is special."""
    chart = next((folder / "drafts").iterdir())
    with rasterio.open(next((folder / "predictions").iterdir()) / "classes.tif") as d:
        geobox = GeoBox(d.shape, d.transform, d.crs.to_wkt())
    zeros = np.zeros((4, *geobox.shape), np.uint8)
    write_cog(chart / f"polaris_{ship}.tif", geobox, zeros, _bands(ship), nodata=255, tags={"ice_class": ship})
    write_json(chart / "chart.json", read_json(chart / "chart.json") | {"bytes": {}})
    view = make_view(folder)
    risk = groups(only(view))["risk"]
    legend = only(view)["legends"][next(x["legend"] for x in risk if x["kind"] == "classes")]
    assert [e["value"] for e in legend["entries"]] == levels
    assert [e["letter"] for e in legend["entries"]] == ["NES"[i] for i in levels]
    ends = {"0 or more": (0, 30), "−10 to below 0": (-10, -0.5), "below −10": (-30, -10.5), "below 0": (-50, -0.5)}
    for entry in legend["entries"]:
        words = next(k for k in sorted(ends, key=len, reverse=True) if entry["label"].endswith(k))
        assert operation_levels(ends[words], ship).tolist() == [entry["value"]] * 2
    outcomes = [x for x in risk if x["kind"] == "scalar"]
    for layer in outcomes:
        assert layer["ramp"] == risk_ramp(polar=ship_class(ship).polar) and layer["stepped"]
        assert [v * layer["scale"] + layer["offset"] for v in layer["range"]] == [-30, 30]


@pytest.mark.parametrize("ship", ["PC7", "IA"])
def test_colours_of_outcomes_are_those_of_their_levels_and_lighter_where_safer(ship: str) -> None:
    """Of each outcome that is stored, the hue is that of its level by the circular, also beside the next level."""
    places, colours = zip(*risk_ramp(polar=ship_class(ship).polar), strict=True)
    assert list(places) == sorted(set(places)) and (places[0], places[-1]) == (0, 1)
    outcomes = np.arange(-30, 30.5, 0.5)
    stops = np.array([list(bytes.fromhex(c[1:])) for c in colours])
    rgb = np.stack([np.interp((outcomes + 30) / 60, places, stops[:, i]) for i in range(3)], axis=1)
    hues = {level: colorsys.rgb_to_hsv(*(v / 255 for v in LEVEL_RGB[level]))[0] for level in Level}
    for colour, level in zip(rgb, operation_levels(outcomes, ship), strict=True):
        hue = colorsys.rgb_to_hsv(*(colour / 255))[0]
        assert min(hues, key=lambda known: abs(hues[known] - hue)) == level
    assert np.all(np.diff(rgb @ (0.2126, 0.7152, 0.0722)) >= 0)


def test_charts_of_two_models_stand_side_by_side(folder: Path, draft: Path) -> None:
    """Of one model's name, the folders tell them apart."""
    for name, model in (("b", "other"), ("c", "other")):
        shutil.copytree(draft, folder / name / draft.name)
        record = read_json(folder / name / draft.name / "chart.json")
        write_json(folder / name / draft.name / "chart.json", record | {"models": [{"name": model}]})
        shutil.copyfile(folder / "labels" / "ice" / "labels.tif", folder / name / draft.name / "classes.tif")
    runs = [x["run"] for x in only(make_view(folder))["layers"] if x["title"] == "Ice types"]
    assert len(set(runs)) == len(runs) == 3 and {"other", "other (c)"} <= set(runs)


def test_a_route_is_drawn_on_the_chart_that_it_was_assessed_with(folder: Path, draft: Path) -> None:
    line = {"type": "LineString", "coordinates": [[10, 79], [11, 79]]}
    feature = {"type": "Feature", "properties": {"feature": "leg"}, "geometry": line}
    for name, digest in (("r_pc7", read_json(draft / "chart.json")["files"]["chart.gpkg"]["sha256"]), ("other", "0")):
        record = {"made_by": "floemap route", "route": "to <b>", "ice_class": "PC7", "simulated": True}
        record |= {"chart": name, "chart_time": "2018-01-16 07:54 UTC", "status": "advisory, not for navigation"}
        write_json(folder / name / "route.json", record | {"inputs": {"chart": {"chart.gpkg": digest}}})
        text = json.dumps({"type": "FeatureCollection", "features": [feature]})
        (folder / name / "route.geojson").write_text(text)
    view = make_view(folder)
    alone, charted = (view.scene(s["id"]) for s in view.content["scenes"])
    (told,) = (v for v in charted["vectors"] if v["kind"] == "lines")
    assert told["title"] == "Risk along to <b>, PC 7" and told["default"]
    levels = charted["legends"][told["legend"]]["entries"]
    assert [(e["name"], e["letter"]) for e in levels] == [("normal", "N"), ("elevated", "E"), ("special", "S")]
    assert view.data[told["url"]] == (folder / "r_pc7" / "route.geojson").resolve()
    (words,) = view.warnings
    assert words.startswith("all/other: ") and "not among the folders" in words
    assert alone["name"] == "other, routes" and alone["simulated"] and alone["time"] == "2018-01-16T07:54:00Z"
    assert alone["notice"] == "advisory, not for navigation"
    assert [v["kind"] for v in alone["vectors"]] == ["lines"] and not alone["layers"]
    assert alone["projection"] == "EPSG:3413"
    x, y = pyproj.Transformer.from_crs(4326, 3413, always_xy=True).transform([10, 11], [79, 79])
    west, south, east, north = alone["extent"]
    assert west <= min(x) < max(x) <= east and south <= min(y) < max(y) <= north
    assert max(east - west, north - south) < 100e3


def test_folders_of_routes_alone_are_shown(folder: Path, draft: Path) -> None:
    """Whole or in pieces over the dateline; lines that are none are named."""
    parts = [[[170.0, 75.0], [180.0, 76.0]], [[-180.0, 76.0], [-170.0, 75.0]]]
    for name, coordinates in (("a", parts), ("b", []), ("c", [[[0.0, 95.0], [1.0, 2.0]]]), ("d", None)):
        write_json(folder / "routes" / name / "route.json", {"ice_class": "IA", "chart": "c", "route": name})
        line = {"type": "MultiLineString", "coordinates": coordinates}
        collection = {
            "type": "FeatureCollection",
            "features": [{"type": "Feature", "properties": {}, "geometry": line}],
        }
        (folder / "routes" / name / "route.geojson").write_text("{" if coordinates is None else json.dumps(collection))
    scene = only(view := make_view(folder / "routes"))
    assert [v["title"] for v in scene["vectors"]] == ["Risk along a, IA"]
    x, y = pyproj.Transformer.from_crs(4326, 3413, always_xy=True).transform([170, -170, 180], [75, 75, 76])
    west, south, east, north = scene["extent"]
    assert west <= min(x) < max(x) <= east and south <= min(y) < max(y) <= north and east - west < 700e3
    assert sum("is not a GeoJSON" in w or "no lines on the earth" in w for w in view.warnings) == 3


def test_routes_through_different_charts_of_one_name_are_scenes_of_their_own(folder: Path) -> None:
    """Two ice classes through one chart, and a route through another of the same name; ids stay when one is gone."""
    routes = folder / "routes"
    line = {"type": "LineString", "coordinates": [[10, 79], [11, 79]]}
    feature = {"type": "Feature", "properties": {"feature": "leg"}, "geometry": line}
    for name, chart in (("a_ia", "1"), ("a_pc7", "1"), ("b_ia", "2")):
        record = {"ice_class": "IA", "chart": "c", "route": name, "inputs": {"chart": {"c.gpkg": chart}}}
        write_json(routes / name / "route.json", record)
        text = json.dumps({"type": "FeatureCollection", "features": [feature]})
        (routes / name / "route.geojson").write_text(text)

    def drawn() -> dict[str, list[str]]:
        view = make_view(routes)
        assert {s["name"] for s in view.content["scenes"]} == {"c, routes"}
        return {s["id"]: [v["title"] for v in view.scene(s["id"])["vectors"]] for s in view.content["scenes"]}

    both = drawn()
    assert sorted(both.values()) == [["Risk along a_ia, IA", "Risk along a_pc7, IA"], ["Risk along b_ia, IA"]]
    for name in ("a_ia", "a_pc7"):
        shutil.rmtree(routes / name)
    assert drawn() == {name: titles for name, titles in both.items() if len(titles) == 1}


def test_an_archive_has_its_scenes_in_order(folder: Path, draft: Path, tmp_path: Path) -> None:
    archive = tmp_path / "archive"
    write_json(archive / "archive.json", {"made_by": "floemap archive", "scenes": {"charted": 2}})
    for number in (2, 1, 3):
        shutil.copytree(draft, archive / f"S{number}")
        record = read_json(archive / f"S{number}" / "chart.json")
        record["scene"] |= {"name": f"S{number}", "start": f"2020-01-0{number}T00:00:00+00:00"}
        write_json(archive / f"S{number}" / "chart.json", record)
    shutil.copytree(draft, archive / ".S4.partial-0123abcd")
    view = make_view([archive, archive / "S1", archive])
    assert [s["name"] for s in view.content["scenes"]] == ["S1", "S2", "S3"]
    assert all(len(view.scene(s["id"])["vectors"]) == 1 for s in view.content["scenes"])


@pytest.fixture
def archive(draft: Path, tmp_path: Path) -> Path:
    """Three scenes, each with a draft chart and its class raster, of which no other file names the place."""
    for number in range(3):
        one = tmp_path / "many" / f"S{number}"
        shutil.copytree(draft, one)
        record = read_json(one / "chart.json")
        record["scene"] |= {"name": one.name, "start": f"2020-01-0{1 + number}T00:00:00+00:00"}
        a, b, c, d, e, f = record["grid"]["transform"]
        record["grid"]["transform"] = [a, b, c + 10 * number * a, d, e, f]
        write_json(one / "chart.json", record)
        geobox = GeoBox(tuple(record["grid"]["shape"]), Affine(*record["grid"]["transform"]), record["grid"]["crs"])
        classes = np.zeros(geobox.shape, np.uint8)
        write_cog(one / "classes.tif", geobox, classes, [Band("ice_type")], nodata=255)
    return tmp_path / "many"


def test_only_scenes_that_are_asked_for_are_read(archive: Path) -> None:
    """And what the list says of one before is what is found in its files."""
    view = make_view(archive)
    assert {address.split("/")[1] for address in view.data} == {id_of(view, "S0")}
    listed = json.loads(view.page("map.json"))
    for scene in listed["scenes"]:
        told = json.loads(view.page(scene["url"]))
        assert told["layers"] and scene.items() <= told.items()
        assert told["projections"].items() >= {(scene["projection"], listed["projections"][scene["projection"]])}
    assert {address.split("/")[1] for address in view.data} == {s["id"] for s in listed["scenes"]}
    assert len({str(scene["extent"]) for scene in listed["scenes"]}) == 3


@pytest.mark.parametrize("grid", [None, {"crs": "EPSG:4326"}, {"crs": {}}, {"transform": [1, 2]}, {"shape": ["x", -1]}])
def test_rasters_tell_the_place_where_a_record_does_not(grid: dict[str, Any] | None, archive: Path) -> None:
    path = archive / "S2" / "chart.json"
    record = read_json(path)
    write_json(path, record | {"grid": None if grid is None else record["grid"] | grid})
    (scene,) = (s for s in make_view(archive).content["scenes"] if s["name"] == "S2")
    with rasterio.open(archive / "S2" / "classes.tif") as d:
        assert scene["extent"] == list(d.bounds)


def test_a_scene_of_which_nothing_can_be_shown_is_named_when_it_is_read(archive: Path, tmp_path: Path) -> None:
    for name in ("S0", "S2"):
        (archive / name / "chart.geojson").write_text("{")
        (archive / name / "classes.tif").write_bytes(b"II*\0")
    view = make_view(archive)
    assert [s["name"] for s in view.content["scenes"]] == ["S1", "S2"], "the first one is shown at once"
    told = view.scene(id_of(view, "S2"))
    assert not told["layers"] and not told["vectors"] and len(told["warnings"]) == 2
    assert [s["name"] for s in json.loads(view.page("map.json"))["scenes"]] == ["S1"]
    assert len(view.warnings) == 4 and sorted(view.content["warnings"]) == sorted(view.warnings)
    exported = make_view(archive).export(tmp_path / "map").folder
    assert [p.name for p in (exported / "scenes").iterdir()] == [f"{id_of(view, 'S1')}.json"]
    assert [s["name"] for s in read_json(exported / "map.json")["scenes"]] == ["S1"]


def test_a_served_scene_brings_its_files(archive: Path) -> None:
    view = make_view(archive)
    with view.server() as server:
        table, name = server.table, id_of(view, "S2")
        assert not any(name in address for address in view.data)
        told = json.loads(table[f"scenes/{name}.json"].bytes() or b"")
        for drawn in (*told["layers"], *told["vectors"]):
            with table[drawn["url"]].open() or pytest.fail(drawn["url"]) as file:
                assert file.read(1)


def test_an_open_page_reads_on_from_a_server_that_was_started_anew(archive: Path) -> None:
    """Also when scenes came before its own; what has become another file is no longer found under its address."""
    with make_view(archive).server() as before:
        told = json.loads(before.table[f"scenes/{id_of(make_view(archive), 'S2')}.json"].bytes() or b"")
    drawn = {what["url"] for what in (*told["layers"], *told["vectors"])}
    shutil.copytree(archive / "S1", archive / "earlier")
    record = read_json(archive / "S1" / "chart.json")
    record["scene"] |= {"name": "earlier", "start": "2019-01-01T00:00:00+00:00"}
    write_json(archive / "earlier" / "chart.json", record)
    with make_view(archive).server() as after:
        assert len(drawn) == 2 and all(after.table.get(url) for url in drawn)
        assert json.loads(after.table[told["url"]].bytes() or b"") == told
        absent = (
            "data/sx/1-a.tif",
            "data/s0/1-a.tif",
            f"data/{told['id']}/../a.tif",
            f"data/{told['id']}/a/b.tif",
            "data/",
        )
        assert not any(after.table.get(address) for address in absent)
    os.utime(archive / "S2" / "classes.tif", (1, 1))
    with make_view(archive).server() as changed:
        assert [Path(url).suffix for url in drawn if changed.table.get(url)] == [".geojson"]


def test_the_map_says_what_it_leaves_out(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    broken = next((folder / "prepared").rglob("product.tif"))
    broken.write_bytes(broken.read_bytes()[:-100])
    record = next((folder / "predictions").rglob("prediction.json"))
    record.write_text("{")
    (folder / "labels" / "ice" / "labels.tif").write_bytes(b"II*\0" + os.urandom(5000))
    (folder / "mine").mkdir()
    (folder / "mine" / "own.tif").write_bytes(b"")
    with caplog.at_level(logging.WARNING):
        view = make_view(folder)
    assert len(view.warnings) == len(caplog.records) == 4
    for name in ("product.tif", "prediction.json", "labels.tif", "own.tif"):
        assert sum(name in words for words in view.warnings) == 1
    assert not any(str(folder.parent) in words for words in view.warnings)
    scene = only(view)
    assert not scene["layers"] and len(scene["vectors"]) == 1 and scene["extent"][0] < scene["extent"][2]


def test_a_file_has_the_suffix_of_its_kind_whatever_its_name(folder: Path) -> None:
    chart, raster = (
        next((folder / "drafts").rglob("chart.geojson")),
        next((folder / "predictions").rglob("classes.tif")),
    )
    record = chart.with_name("chart.json")
    for path, name in ((chart, "evil.html"), (raster, "blob")):
        path.rename(path.with_name(name))
        if path == raster:
            path.symlink_to(name)
    record.write_text(record.read_text().replace("chart.geojson", "evil.html"))
    view = make_view(folder)
    assert {path.name: address.rpartition(".")[2] for address, path in view.data.items()}["blob"] == "tif"
    assert {address.rpartition(".")[2] for address in view.data} <= {"tif", "geojson"}


@pytest.mark.parametrize("name", ["a\0.geojson", "\ud800.geojson", "a" * 300 + ".geojson", "../x.geojson", ""])
def test_names_that_no_file_can_have_and_links_to_themselves_are_named(folder: Path, name: str) -> None:
    record = next((folder / "drafts").rglob("chart.json"))
    told = json.loads(record.read_text())
    told["outputs"]["geojson"] = [name]
    record.write_text(json.dumps(told))
    raster = next((folder / "predictions").rglob("classes.tif"))
    raster.unlink()
    raster.symlink_to(raster.name)
    view = make_view(folder)
    assert not only(view)["vectors"] and only(view)["layers"]
    assert any(record.parent.name in words for words in view.warnings)
    assert sum("classes.tif" in words for words in view.warnings) == 1


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"compress": "jpeg"}, "compression jpeg"),
        ({"dtype": "complex64"}, "complex64"),
        ({"crs": None}, "no georeference"),
        ({"crs": image_crs("x").to_wkt()}, "image geometry"),
        ({"crs": "EPSG:4326"}, "WGS 84 is not projected in metres"),
        ({"transform": Affine.rotation(10) * Affine.scale(10, -10)}, "rotated"),
        ({"width": 3000, "height": 4}, "no tiles"),
    ],
)
def test_rasters_that_a_browser_cannot_show_are_named(change: dict[str, Any], words: str, folder: Path) -> None:
    path = folder / "labels" / "ice" / "labels.tif"
    with rasterio.open(path) as d:
        profile = {"driver": "GTiff", "crs": d.crs, "transform": d.transform, "count": 1, "dtype": "uint8"}
    record = read_json(path.with_name("label.json"))
    write_json(path.with_name("label.json"), {k: v for k, v in record.items() if k != "bytes"})
    with rasterio.open(path, "w", **({"width": 20, "height": 20} | profile | change)):
        pass
    view = make_view(folder)
    assert "labels" not in groups(only(view)) and len(view.warnings) == 1 and words in view.warnings[0]


def test_links_that_lead_out_are_not_shown(folder: Path, workshop: Inputs, tmp_path: Path) -> None:
    product = next((folder / "prepared").rglob("product.tif"))
    product.unlink()
    product.symlink_to(workshop.prepared / "product.tif")
    shutil.move(folder / "labels", tmp_path / "labels")
    (folder / "labels").symlink_to(tmp_path / "labels")
    record = next((folder / "predictions").rglob("prediction.json"))
    record.rename(tmp_path / "prediction.json")
    record.symlink_to(tmp_path / "prediction.json")
    view = make_view(folder)
    assert not only(view)["layers"]
    assert sum("leads out of the given folders" in words for words in view.warnings) == 2
    assert all(path.is_relative_to(folder.resolve()) for path in view.data.values())


def test_hostile_names_stay_data(folder: Path) -> None:
    evil = "</script><img src=x onerror=alert(1)>\u202e\x1b[2J"
    record = next((folder / "drafts").rglob("chart.json"))
    told = read_json(record)
    told["scene"]["name"] = told["models"][0]["name"] = told["status"] = evil
    told["outputs"]["geojson"] = ["../../../../etc/passwd"]
    write_json(record, told)
    shutil.copytree(folder / "labels" / "ice", folder / "labels" / "<script>alert(1)<script>")
    view = make_view(folder)
    assert all(set(address) <= set("abcdefghijklmnopqrstuvwxyz0123456789/-_.ABCDEFGHIJKLMNOPQRSTUVWXYZ") and
               ".." not in address for address in view.data)  # fmt: skip
    scenes = {s["url"]: view.scene(s["id"]) for s in view.content["scenes"]}
    for address, content in {"map.json": view.content, **scenes}.items():
        assert json.loads(view.page(address)) == json.loads(json.dumps(content))
    assert not any("passwd" in str(path) for path in view.data.values())


def test_numbers_that_are_none_are_left_out(folder: Path) -> None:
    """Records may be edited: what is no number of JSON must not reach the page, which would then show nothing."""
    record = next((folder / "drafts").rglob("chart.json"))
    told = read_json(record)
    told["scene"] |= {"start": "0001-01-01T00:00:00+14:00", "mission": ["S1A"], "mode": {}}
    told["bytes"], told["models"], told["review_spots"] = {}, ["x", 3], [{"spot": float("nan")}]
    record.write_text(json.dumps(told))
    chart = next((folder / "drafts").rglob("chart.geojson"))
    head = '{"type": "FeatureCollection", "bbox": [0, -100, 10, 80], '
    chart.write_text(head + '"about"' + chart.read_text().partition('"about"')[2])
    layer = folder / "prepared" / "x" / "layers" / "t"
    layer.mkdir(parents=True)
    shutil.copyfile(next((folder / "prepared").rglob("product.tif")), layer / "layer.tif")
    (layer / "layer.json").write_text('{"product": "x", "smallest": NaN, "largest": 1e999}')
    view = make_view(folder)
    pages = [view.page(address) for address in ("map.json", view.content["scenes"][0]["url"])]
    _, scene = (json.loads(page, parse_constant=lambda name: pytest.fail(name)) for page in pages)
    assert not scene["review"] and not scene["vectors"]
    assert len(view.warnings) == 2 and "bbox" in view.warnings[0] + view.warnings[1]


def test_folders_with_nothing_to_show_are_refused(tmp_path: Path) -> None:
    with pytest.raises(FloemapError, match=r"nothing to show.*floemap chart"):
        make_view(tmp_path)
    for path, words in ((tmp_path / "absent", "does not exist"), (Path(__file__), "a folder is needed")):
        with pytest.raises(FloemapError, match=words):
            make_view(path)
    for record, words in (("bundle.json", "a bundle for a ship"), ("training.json", "a trained model")):
        path = tmp_path / "one's" / "below"
        for foreign in ({}, {"made_by": 7}, {"made_by": "pytest"}):
            write_json(path / record, foreign)
            with pytest.raises(FloemapError, match="nothing to show is found"):
                make_view(tmp_path)
        write_json(path / record, {"made_by": "floemap test"})
        with pytest.raises(FloemapError, match=f"below: is {words}") as caught:
            make_view(tmp_path)
        assert "Give " in str(caught.value) and f"floemap info '{tmp_path}/one'" in str(caught.value)
        damaged = path.parent / "next"
        damaged.mkdir()
        (damaged / "chart.json").write_text("{")
        with pytest.raises(FloemapError, match=r"nothing to show is found in .*next/chart\.json: "):
            make_view(tmp_path)
        shutil.rmtree(damaged)
        for unread in ("/".join("abcdefghijk"), "product.SAFE", ".hidden"):
            (tmp_path / unread).mkdir(parents=True)
            (path / record).rename(tmp_path / unread / record)
            with pytest.raises(FloemapError, match="nothing to show is found"):
                make_view(tmp_path)
            (tmp_path / unread / record).rename(path / record)
        (path / record).unlink()
        for unread in ("a", "product.SAFE", ".hidden"):
            shutil.rmtree(tmp_path / unread)
    write_json(tmp_path / "chart.json", {"made_by": "floemap chart"})
    with pytest.raises(FloemapError, match="none of the results"):
        make_view(tmp_path)


def test_an_export_is_whole_and_names_nobodys_disk(folder: Path, tmp_path: Path) -> None:
    view = make_view(folder)
    made = view.export(tmp_path / "map")
    files = {p.relative_to(made.folder).as_posix(): p for p in made.folder.rglob("*") if p.is_file()}
    assert set(files) == {*view.site, *view.data, "map.json", only(view)["url"], "view.json"}
    content, told = (json.loads(files[name].read_bytes()) for name in ("map.json", only(view)["url"]))
    named = {x["url"] for x in (*content["scenes"], *told["layers"], *told["vectors"], content["coast"])}
    assert named <= set(files) and all(files[a].read_bytes() == p.read_bytes() for a, p in view.data.items())
    for name in ("map.json", only(view)["url"], "view.json"):
        assert str(tmp_path) not in files[name].read_text()
    assert made.bytes == sum(p.stat().st_size for n, p in files.items() if n != "view.json")
    linked = [p for p in files.values() if p.stat().st_nlink > 1]
    assert {p.suffix for p in linked} <= {".tif"} and made.linked_bytes == sum(p.stat().st_size for p in linked)
    view.export(tmp_path / "map")
    (tmp_path / "map" / "mine.txt").write_text("mine")
    with pytest.raises(OutputError, match="mine"):
        view.export(tmp_path / "map")
    assert only(make_view([folder, tmp_path / "map"]))["layers"] == only(view)["layers"]


def test_the_page_says_the_servers_policy_itself(folder: Path) -> None:
    """An exported page is served by servers that send no such header. Nothing is inline, which it would forbid."""
    page = (SITE / "index.html").read_text(encoding="utf-8")
    assert f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">' in page
    assert not re.search(r"<style|\sstyle=|\son\w+=|<script(?![^>]* src=)|https?:", page)
    named = set(re.findall(r'(?:src|href)="([^":]+\.\w+)"', page))
    assert named - {"map.json"} <= set(make_view(folder).site)


def test_every_file_of_the_page_is_in_the_package_and_served(folder: Path) -> None:
    patterns = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["package-data"]["floemap"]
    packed = {p for pattern in patterns for p in (ROOT / "src" / "floemap").glob(pattern) if p.is_file()}
    files = {p for p in SITE.rglob("*") if p.is_file()}
    assert files <= packed and {p.relative_to(SITE).as_posix() for p in files} == set(make_view(folder).site)


def test_the_coast_has_both_poles_and_no_edge_of_the_map() -> None:
    content = json.loads((SITE / "coast.geojson").read_bytes())
    assert (SITE / "coast.geojson").stat().st_size <= 400_000 and "Natural Earth" in content["source"]
    north, south = (f["geometry"]["coordinates"] for f in content["features"])
    for lines, crs, radius_m in ((north, 3413, 5.9e6), (south, 3031, 5.9e6)):
        to_map = pyproj.Transformer.from_crs(4326, crs, always_xy=True)
        for line in lines:
            x, y = to_map.transform(*np.array(line).T)
            assert np.hypot(np.diff(x), np.diff(y)).max() < 300_000 and np.hypot(x, y).max() < radius_m
    places = np.concatenate([np.array(line) for line in south])
    assert {int(lon) // 30 for lon in places[places[:, 1] < -65][:, 0]} == set(range(-6, 6))
    for lon, lat in ((-33.4, 83.6), (180.0, 71.5), (15.0, 79.5), (-68.0, -54.9)):  # Greenland, Wrangel, Svalbard, Cape
        points = np.concatenate([np.array(line) for line in (north if lat > 0 else south)])
        assert np.min(pyproj.Geod(ellps="WGS84").inv(*points.T, *np.full((2, len(points)), [[lon], [lat]]))[2]) < 60_000


def test_a_finer_coast_takes_the_place_of_the_coarse_one(folder: Path, workshop: Inputs, tmp_path: Path) -> None:
    view = make_view(folder, coast=workshop.chart)
    content = json.loads(view.page("coast.geojson"))
    assert view.content["coast"]["source"] == "ice.gpkg" and "coast.geojson" not in view.site
    lines = [line for f in content["features"] for line in f["geometry"]["coordinates"]]
    with rasterio.open(workshop.prepared / "product.tif") as d:  # the land is a strip of 1 km at its right
        x, _ = pyproj.Transformer.from_crs(4326, d.crs, always_xy=True).transform(*np.concatenate(lines).T)
        assert np.min(x) == pytest.approx(d.bounds.right, abs=20)
        assert np.max(x) == pytest.approx(d.bounds.right + 1000, abs=20)
    ring = [[170, 70], [180, 70], [180, 75], [170, 75], [170, 70]]
    square = {"type": "Polygon", "coordinates": [ring]}
    cut = {"type": "Feature", "properties": {}, "geometry": square}
    (tmp_path / "land.geojson").write_text(json.dumps({"type": "FeatureCollection", "features": [cut]}))
    content = json.loads(make_view(folder, coast=tmp_path / "land.geojson").page("coast.geojson"))
    (line,) = content["features"][0]["geometry"]["coordinates"]
    assert sorted(line) == sorted(ring[:-1]) and {line[0][0], line[-1][0]} == {180}
    with pytest.raises(ChartError, match="does not exist"):
        make_view(folder, coast=tmp_path / "absent.shp")


def test_rasters_of_other_projections_keep_them(folder: Path, tmp_path: Path) -> None:
    """The truth of a simulated scene has its own; the scene has that of its product."""
    out = folder / "truth" / next((folder / "prepared").iterdir()).name
    out.mkdir(parents=True)
    write_json(out / "truth.json", {"made_by": "floemap simulate twin", "simulated": True})
    geobox = GeoBox((20, 30), Affine(8000, 0, -1e5, 0, -8000, -9e5), "+proj=stere +lat_0=90 +lon_0=7 +k=1 +units=m")
    bands = [Band("surface"), Band("class")]
    write_cog(out / "truth.tif", geobox, np.zeros((2, 20, 30), np.uint8), bands, nodata=255)
    view = make_view(folder)
    scene = only(view)
    (truth,) = groups(scene)["truth"]
    assert truth["bands"] == [2] and truth["projection"] != scene["projection"]
    there = pyproj.Transformer.from_crs(scene["projections"][truth["projection"]], geobox.crs.proj)
    assert there.transform(1e5, -5e5) == pytest.approx((1e5, -5e5), abs=0.01)
    assert scene["pixel_m"] == 2000


def test_the_command_exports(folder: Path, tmp_path: Path) -> None:
    done = run("view", folder, "--export", tmp_path / "map")
    assert done.exit_code == 0 and done.stdout.strip() == str(tmp_path / "map")
    assert "hard links" in done.stderr and (tmp_path / "map" / "map.json").is_file()


def test_a_taken_port_is_an_error(folder: Path) -> None:
    view = make_view(folder)
    with view.server() as server:
        done = run("view", folder, "--no-open", "--port", str(server.server_address[1]))
    assert done.exit_code == 1 and "--port" in done.stderr
