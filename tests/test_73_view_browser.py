"""The map in a real browser: what is drawn is what the files hold, names are text, nothing is asked of elsewhere."""

from __future__ import annotations

import io
import json
import math
import re
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import pytest
import rasterio
from browser import needs_browser, started_browser
from PIL import Image
from pyproj import Transformer
from rasterio.transform import from_origin

import floemap.viewer
from floemap.version import __version__
from floemap.viewer.server import TYPES, Content, MapServer

pytestmark = needs_browser
SITE = Path(floemap.viewer.__file__).parent / "site"
HOSTILE = "<img src=x onerror=\"document.title='taken'\"><script>document.title='taken'</script>"
PIXEL_M, SIDE = 1000.0, 256
#: Around the dateline, in the product's own projection.
OWN = "+proj=laea +lat_0=70 +lon_0=180 +x_0=0 +y_0=0 +datum=WGS84 +units=m +no_defs"
#: As PROJ and EPSG define them.
POLAR = {
    "EPSG:3413": "+proj=stere +lat_0=90 +lat_ts=70 +lon_0=-45 +x_0=0 +y_0=0 +datum=WGS84 +units=m +no_defs",
    "EPSG:3995": "+proj=stere +lat_0=90 +lat_ts=71 +lon_0=0 +x_0=0 +y_0=0 +datum=WGS84 +units=m +no_defs",
    "EPSG:3031": "+proj=stere +lat_0=-90 +lat_ts=-71 +lon_0=0 +x_0=0 +y_0=0 +datum=WGS84 +units=m +no_defs",
}
CLASSES = {0: "#f0d2fa", 1: "#aa28f0", 2: "#ffff00", 3: "#96c8ff"}
NO_CLASS = 255
#: Stored HH of the four quarters, steps of 0.01 dB, and the range that is drawn from black to white.
HH, HH_RANGE = (-2200, -1800, -1234, -900), (-2500, -500)


def quarters(values: tuple[int, int, int, int]) -> np.ndarray[Any, Any]:
    """Return (SIDE, SIDE) with a value in each quarter: north-west, north-east, south-west, south-east."""
    half = np.ones((SIDE // 2, SIDE // 2))
    nw, ne, sw, se = (v * half for v in values)
    return np.block([[nw, ne], [sw, se]])


def write(path: Path, bands: list[np.ndarray[Any, Any]], dtype: str, nodata: float, crs: Any) -> None:
    half = SIDE / 2 * PIXEL_M
    profile = {"driver": "COG", "width": SIDE, "height": SIDE, "count": len(bands), "dtype": dtype, "nodata": nodata}
    transform = from_origin(-half, half, PIXEL_M, PIXEL_M)
    with rasterio.open(path, "w", **profile, crs=crs, transform=transform, blocksize=128, compress="deflate") as file:
        file.write(np.stack(bands).astype(dtype))


def layer(name: str, kind: str, url: str, **more: Any) -> dict[str, Any]:
    base: dict[str, Any] = {
        "id": name,
        "title": name,
        "group": "chart",
        "run": None,
        "kind": kind,
        "url": url,
        "bands": [1],
    }
    base |= {"nodata": 255, "range": None, "scale": 1, "offset": 0, "unit": None, "ramp": None, "legend": None}
    return base | {"default": False} | more


def polygons(to_lon_lat: Transformer, **properties: Any) -> dict[str, Any]:
    """Return GeoJSON with one polygon: the square from 20 to 100 km east and south of the middle."""
    ring = [(20e3, -20e3), (20e3, -100e3), (100e3, -100e3), (100e3, -20e3), (20e3, -20e3)]
    geometry = {"type": "Polygon", "coordinates": [[to_lon_lat.transform(x, y) for x, y in ring]]}
    return {
        "type": "FeatureCollection",
        "features": [{"type": "Feature", "geometry": geometry, "properties": properties}],
    }


def cut_at_the_dateline(to_lon_lat: Transformer) -> dict[str, Any]:
    """Return GeoJSON with the square of 120 km around the middle, cut at the 180th meridian as RFC 7946 asks for."""
    west = [(-60e3, 60e3), (0.0, 60e3), (0.0, -60e3), (-60e3, -60e3), (-60e3, 60e3)]
    rings = []
    for side in (1, -1):
        places = [to_lon_lat.transform(side * x, y) if x else (180.0, to_lon_lat.transform(x, y)[1]) for x, y in west]
        rings.append([[(side * abs(lon), lat) for lon, lat in places]])
    geometry = {"type": "MultiPolygon", "coordinates": rings}
    feature = {"type": "Feature", "geometry": geometry, "properties": {"CT": "92"}}
    return {"type": "FeatureCollection", "features": [feature]}


def write_files(data: Path, to_lon_lat: Transformer) -> None:
    """Write rasters, one of them cut off, and polygons."""
    data.mkdir(parents=True)
    holes, hh = quarters((0, 1, 2, 3)), quarters(HH)
    holes[:40, :40], hh[:40, :40] = NO_CLASS, -32768
    write(data / "hh.tif", [hh, hh[::-1], hh], "int16", -32768, 3413)
    for name, crs in {"classes": 3413, "dateline": OWN, "south": 3031}.items():
        write(data / f"{name}.tif", [holes], "uint8", NO_CLASS, crs)
    for name, value in {"first": 1, "second": 2}.items():
        write(data / f"{name}.tif", [np.full((SIDE, SIDE), value)], "uint8", NO_CLASS, 3413)
    write(data / "probability.tif", [quarters((0, 50, 100, 25))], "uint8", 255, 3413)
    (data / "broken.tif").write_bytes((data / "hh.tif").read_bytes()[:300])
    egg = {"CT": "92", "CA": "70", "SA": "95", "FA": "06", "CB": "20", "SB": "86", "FB": "05", "CC": "10", "SC": "84"}
    egg |= {"FC": "99", "CN": "98", "CD": "-9", "POLY_TYPE": "I", "CLASS": "third"}
    more = {"CONFIDENCE": 0.83, "SECOND": "first", "SECOND_P": 0.14, "AREA_KM2": 6400.0, "STATUS": HOSTILE}
    (data / "chart.geojson").write_text(json.dumps(polygons(to_lon_lat, **egg, **more)))
    across = cut_at_the_dateline(Transformer.from_crs(OWN, 4326, always_xy=True))
    (data / "across.geojson").write_text(json.dumps(across))
    (data / "places.geojson").write_text(json.dumps(polygons(to_lon_lat, CLASS=HOSTILE, CT=HOSTILE, SA=HOSTILE)))


#: A ramp of the file's own, with an edge; the stops that are none are left out.
RAMP = [[0, "#000000"], [0.4, "#000000"], [0.41, "#ffffff"], [0.3, "#00ff00"], [0.9, "red"], 7, [1, "#ff0000"]]


def layers_at_pole() -> list[dict[str, Any]]:
    radar: dict[str, Any] = {"group": "radar", "nodata": -32768, "scale": 0.01, "unit": "dB", "range": HH_RANGE}
    types = {"legend": "ice", "title": "Ice types"}
    share = {"group": "probability", "range": [0, 100], "scale": 0.01, "ramp": "viridis"}
    return [
        layer("hh", "grey", "data/hh.tif", **radar, ramp="grey"),
        layer("colour", "rgb", "data/hh.tif", **radar | {"range": [HH_RANGE] * 3, "bands": [1, 2, 3]}),
        layer("classes", "classes", "data/classes.tif", legend="ice", default=True),
        layer("first", "classes", "data/first.tif", **types, run="cross-entropy"),
        layer("second", "classes", "data/second.tif", **types, run="focal"),
        layer("third", "scalar", "data/probability.tif", **share),
        layer("stops", "scalar", "data/probability.tif", **share | {"ramp": RAMP}, stepped=True),
        layer("broken", "grey", "data/broken.tif", **radar),
        layer("elsewhere", "grey", "https://example.org/x.tif", range=HH_RANGE, title=HOSTILE, run=HOSTILE),
    ]


def scene(day: int, name: str, title: str, code: str, crs: Any) -> dict[str, Any]:
    """Return a scene with its classes only."""
    back = Transformer.from_crs(crs, 4326, always_xy=True)
    half = SIDE / 2 * PIXEL_M
    corners = [(-half, -half), (half, -half), (half, half), (-half, half), (-half, -half)]
    about: dict[str, Any] = {
        "id": name,
        "name": title,
        "time": f"2026-03-0{day}T06:00:00Z",
        "mission": "S1A",
        "projection": code,
    }
    about |= {"simulated": True, "status": "draft", "notice": HOSTILE, "extent": [-half, -half, half, half]}
    about |= {"size": [SIDE, SIDE], "pixel_m": PIXEL_M, "vectors": [], "review": []}
    about["footprint"] = {"type": "Polygon", "coordinates": [[back.transform(*c) for c in corners]]}
    about["layers"] = [layer("classes", "classes", f"data/{name}.tif", legend="ice", default=True)]
    return about


def make_folder(folder: Path) -> None:
    """Write map.json, the scenes' own and their files: a scene at the pole, one over the dateline, one in the south."""
    to_lon_lat = Transformer.from_crs(3413, 4326, always_xy=True)
    write_files(folder / "data", to_lon_lat)
    scenes = [
        scene(1, "pole", HOSTILE, "EPSG:3413", 3413),
        scene(2, "dateline", "At the dateline", "floemap:1", OWN),
        scene(3, "south", "In the south", "EPSG:3031", 3031),
    ]
    lon, lat = to_lon_lat.transform(60e3, -60e3)
    chart = {"id": "chart", "title": "Chart", "kind": "polygons", "url": "data/chart.geojson", "legend": "ice"}
    hostile = {"id": "hostile", "title": HOSTILE, "url": "data/places.geojson"}
    drafted = chart | {"id": "drafted", "title": "Draft chart: polygons", "run": "cross-entropy"}
    final = chart | {"id": "final", "title": "Published chart", "run": "focal"}
    scenes[0] |= {"layers": layers_at_pole(), "vectors": [chart, chart | hostile, drafted, final]}
    across = {"id": "across", "title": "Draft chart: polygons", "url": "data/across.geojson", "run": "another model"}
    scenes[1]["vectors"] = [chart | across]
    scenes[0]["review"] = [
        {"rank": 2, "lon": 0.0, "lat": 89.0, "title": "second", "why": HOSTILE, "radius_m": None},
        {"rank": 1, "lon": lon, "lat": lat, "title": "first", "why": "uncertain", "radius_m": 9000},
    ]
    entries: list[dict[str, Any]] = [
        {"value": v, "name": n, "label": f"{n} ice", "color": c, "pattern": None, "letter": n[:2]}
        for (v, c), n in zip(CLASSES.items(), ("zeroth", "first", "second", "third"), strict=True)
    ]
    wrong = {"value": 9, "name": HOSTILE, "label": HOSTILE, "color": "red;x:url(//example.org)", "letter": HOSTILE}
    legend = {"title": HOSTILE, "note": HOSTILE, "entries": [*entries, wrong]}
    coast = {"type": "LineString", "coordinates": [[170, 60], [-170, 61], [-150, 60]]}
    feature = {"type": "Feature", "geometry": coast, "properties": {"hemisphere": "north"}}
    (folder / "coast.geojson").write_text(json.dumps({"type": "FeatureCollection", "features": [feature]}))
    (folder / "scenes").mkdir()
    for told in scenes:
        told["url"] = f"scenes/{told['id']}.json"
        own = told | {"format": 2, "legends": {"ice": legend}, "projections": {}, "warnings": []}
        (folder / told["url"]).write_text(json.dumps(own))
    drawn = ("layers", "vectors", "review")
    listed = [{k: v for k, v in told.items() if k not in drawn} for told in scenes]
    about: dict[str, Any] = {"format": 2, "title": HOSTILE, "floemap": "0", "scenes": listed, "warnings": [HOSTILE]}
    about |= {"coast": {"url": "coast.geojson", "source": HOSTILE}, "projections": POLAR | {"floemap:1": OWN}}
    (folder / "map.json").write_text(json.dumps(about))


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MapServer]:
    folder = tmp_path_factory.mktemp("view")
    make_folder(folder)
    table = {
        file.relative_to(root).as_posix(): Content(file.resolve())
        for root in (SITE, folder)
        for file in root.rglob("*")
        if file.is_file() and file.suffix in TYPES
    }
    running = MapServer(table, port=0)
    thread = threading.Thread(target=running.serve_forever, daemon=True)
    thread.start()
    yield running
    running.shutdown()
    running.server_close()
    thread.join()


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with started_browser() as started:
        yield started


@dataclass
class View:
    """The page, with what it said and asked for."""

    page: Any
    home: str
    errors: list[str] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)

    def go(self, hash_: str = "", **parts: str) -> None:
        """Show what an address says, and wait until all of it is drawn."""
        text = hash_ or "&".join(f"{k}={v}" for k, v in parts.items())
        self.page.evaluate(
            "text => new Promise(done => { addEventListener('hashchange', () => setTimeout(done), {once: true});"
            " if (location.hash === '#' + text) location.hash += '&'; else location.hash = text })",
            text,
        )
        self.drawn()

    def drawn(self) -> None:
        self.page.wait_for_selector("html[data-drawn]", state="attached", timeout=60_000)

    def middle(self, pane: int = 0) -> tuple[float, float]:
        box = self.page.locator(".map").nth(pane).bounding_box()
        return box["x"] + box["width"] / 2, box["y"] + box["height"] / 2

    def colours(self, *places: tuple[float, float], pane: int = 0) -> list[tuple[int, ...]]:
        """Return the colours at pixels right of and below the middle of a map."""
        picture = np.asarray(Image.open(io.BytesIO(self.page.screenshot())).convert("RGB")).astype(int)
        x0, y0 = self.middle(pane)
        return [tuple(picture[math.floor(y0 + y), math.floor(x0 + x)]) for x, y in places]

    def click(self, x: float, y: float) -> str:
        """Click the map, that far right of and below its middle; return what the panel says once values are there."""
        x0, y0 = self.middle()
        self.page.evaluate("document.getElementById('place').removeAttribute('aria-busy')")
        self.page.mouse.click(x0 + x, y0 + y)
        self.page.wait_for_selector("#place[aria-busy=false]", state="attached", timeout=60_000)
        return str(self.page.locator("#place").inner_text())


def open_page(browser: Any, server: MapServer, size: tuple[int, int], before: str = "", **options: Any) -> View:
    page = browser.new_page(viewport={"width": size[0], "height": size[1]}, reduced_motion="reduce", **options)
    page.set_default_timeout(60_000)
    view = View(page, server.url)
    page.on("console", lambda m: view.errors.append(m.text) if m.type == "error" else None)
    page.on("pageerror", lambda error: view.errors.append(str(error)))
    page.on("request", lambda call: view.asked.append(call.url))
    page.add_init_script(
        "window.broken = []; addEventListener('securitypolicyviolation', e => broken.push(e.violatedDirective));"
        + before
    )
    page.goto(server.url)
    return view


@pytest.fixture(scope="module")
def desk(browser: Any, server: MapServer) -> Iterator[View]:
    view = open_page(browser, server, (1000, 640))
    view.drawn()
    view.page.keyboard.press("g")  # its lines are not to cross the places that are compared
    yield view
    view.page.close()


def until(view: View, true: Callable[[], bool]) -> None:
    """Let the page go on until a condition is true, for 60 s at most."""
    end = time.monotonic() + 60
    while not true():
        assert time.monotonic() < end
        view.page.wait_for_timeout(20)


def rgb(colour: str) -> tuple[int, ...]:
    return tuple(int(colour[i : i + 2], 16) for i in (1, 3, 5))


def near(one: tuple[int, ...], other: tuple[int, ...], most: int = 3) -> bool:
    return all(abs(a - b) <= most for a, b in zip(one, other, strict=True))


#: A place in each quarter, pixels right of and below the middle.
PLACES = ((-37, -71), (41, -67), (-43, 73), (47, 61))
AT_POLE = {"s": "pole", "p": "EPSG:3413", "c": "90,0", "r": "1000"}


def test_classes_have_the_colours_of_the_legend_also_at_the_pole(desk: View) -> None:
    desk.go(**AT_POLE, l0="classes")
    for found, colour in zip(desk.colours(*PLACES), CLASSES.values(), strict=True):
        assert near(found, rgb(colour))
    hole, beyond = desk.colours((-117, -111), (-140, -111))
    assert near(hole, beyond)


def test_radar_is_stretched_from_black_to_white_and_false_colour_by_band(desk: View) -> None:
    low, high = HH_RANGE
    grey = [round(255 * (v - low) / (high - low)) for v in HH]
    desk.go(**AT_POLE, l0="hh")
    for found, g in zip(desk.colours(*PLACES), grey, strict=True):
        assert near(found, (g, g, g))
    desk.go(**AT_POLE, l0="colour")
    upside_down = [grey[2], grey[3], grey[0], grey[1]]
    for found, g, other in zip(desk.colours(*PLACES), grey, upside_down, strict=True):
        assert near(found, (g, other, g))


def test_layers_are_chosen_and_stretched_in_the_list(desk: View) -> None:
    desk.go(**AT_POLE, l0="classes")
    desk.page.get_by_label("hh", exact=True).check()
    desk.page.get_by_label("classes", exact=True).uncheck()
    desk.drawn()
    # As a slider moves: 200 steps from half a width below the range to half a width above it.
    desk.page.locator("label.slider", has_text="To").locator("input").fill("-1000")
    greys = [(min(255, round(255 * (v - HH_RANGE[0]) / (-1000 - HH_RANGE[0]))),) * 3 for v in HH]
    until(desk, lambda: all(near(*pair, 4) for pair in zip(desk.colours(*PLACES), greys, strict=True)))
    desk.page.wait_for_url(lambda url: url.endswith("l0=hh"), timeout=60_000)
    desk.page.locator("label.slider", has_text="To").locator("input").fill(str(HH_RANGE[1]))


def test_probabilities_have_the_ramps_colours(desk: View) -> None:
    desk.go(**AT_POLE, l0="third")
    for found, share in zip(desk.colours(*PLACES), (0.0, 0.5, 1.0, 0.25), strict=True):
        wanted = tuple(round(255 * v) for v in matplotlib.colormaps["viridis"](share)[:3])
        assert near(found, wanted, 4)


def test_a_ramp_of_the_files_own_has_its_edges(desk: View) -> None:
    desk.go(**AT_POLE, l0="stops")
    black, half, red, quarter = desk.colours(*PLACES)
    assert near(black, (0, 0, 0)) and near(quarter, (0, 0, 0)) and near(red, (255, 0, 0))
    assert near(half, (255, *2 * [round(255 * (1 - (0.5 - 0.41) / 0.59))]), 4)


@pytest.mark.parametrize("code", [3995, 3413])
def test_a_raster_is_put_on_other_projections(desk: View, code: int) -> None:
    """Over the dateline, from the product's own projection: the same ground has the same class."""
    centre = Transformer.from_crs(4326, code, always_xy=True).transform(180, 70)
    over = Transformer.from_crs(OWN, code, always_xy=True)
    desk.go(s="dateline", p=f"EPSG:{code}", c="70,180", r="1000", l0="classes")
    ground = [(-60e3, 60e3), (60e3, 60e3), (-60e3, -60e3), (60e3, -60e3)]
    places = [((x - centre[0]) / 1000, (centre[1] - y) / 1000) for x, y in (over.transform(*g) for g in ground)]
    for found, colour in zip(desk.colours(*places), CLASSES.values(), strict=True):
        assert near(found, rgb(colour))


def test_polygons_that_are_cut_at_the_dateline_have_no_border_there(desk: View) -> None:
    desk.go(s="dateline", p="floemap:1", c="70,180", r="500", l0="across")
    along = [float(y) for y in range(-100, 100, 9)]
    for x in (-3, -2, -1, 0, 1, 2):
        inside = desk.colours(*((x, y) for y in along))
        assert all(near(found, inside[0], 12) for found in inside), "the fill only"
    for side in (-120, 120):
        edge = [min(sum(found) for found in desk.colours(*((side + x, y) for x in (-2, -1, 0, 1)))) for y in along]
        assert max(edge) < sum(inside[0]) - 150, "the borders on the ground"


@pytest.mark.parametrize("shown", ["drafted", "final"])
def test_the_chart_of_another_model_or_analyst_is_shown_in_the_next_scene(shown: str, desk: View) -> None:
    desk.go(**AT_POLE, l0=f"classes,{shown}")
    desk.page.keyboard.press("]")
    desk.page.wait_for_url(lambda url: url.endswith("l0=classes,across"), timeout=60_000)
    desk.drawn()


def test_the_south_has_its_projection(desk: View) -> None:
    desk.go(s="south", p="EPSG:3031", c="-90,0", r="1000", l0="classes")
    assert near(desk.colours(PLACES[2])[0], rgb(CLASSES[2]))
    usable = desk.page.locator("#tools select option:not([disabled])")
    assert [o.get_attribute("value") for o in usable.all()] == ["EPSG:3031"]


def test_polygons_are_drawn_over_rasters_with_opacity(desk: View) -> None:
    desk.go(**AT_POLE, l0="first,chart")
    *inside, outside = desk.colours(*((66 + x, 33) for x in range(12)), (-70, 33))
    assert near(outside, rgb(CLASSES[1]))
    mixed = tuple(round(0.4 * a + 0.6 * b) for a, b in zip(rgb(CLASSES[3]), rgb(CLASSES[1]), strict=True))
    plain = [near(found, mixed) for found in inside]
    assert sum(plain) >= 6, "40 percent of the fill"
    assert not all(plain), "the strokes of its pattern"
    desk.go(**AT_POLE, l0="first,second~50")
    half = tuple((a + b) // 2 for a, b in zip(rgb(CLASSES[1]), rgb(CLASSES[2]), strict=True))
    assert near(desk.colours(PLACES[0])[0], half)


def test_a_click_gives_place_values_and_the_egg(desk: View) -> None:
    desk.go(**AT_POLE, l0="hh,classes,third,chart")
    words = desk.click(60, 60)
    x, y = (int(v) for v in re.search(r"x (-?\d+) m, y (-?\d+) m in EPSG:3413", words).groups())
    assert math.hypot(x - 60e3, y + 60e3) < 1.5 * PIXEL_M
    lon, lat = Transformer.from_crs(3413, 4326, always_xy=True).transform(x, y)
    degrees, minutes, east, east_minutes, sign = re.search(r"(\d+)° (.+)′ N, (\d+)° (.+)′ ([EW])", words).groups()
    assert math.isclose(int(degrees) + float(minutes) / 60, lat, abs_tol=2e-4)
    assert math.isclose((int(east) + float(east_minutes) / 60) * (1 if sign == "E" else -1), lon, abs_tol=1e-3)
    assert "−9.00 dB" in words and "third ice" in words and "0.25" in words
    texts = desk.page.locator("#place svg.egg text")
    egg = {t.get_attribute("data-code"): t.text_content() for t in texts.all()}
    # WMO No. 259: old ice is 7 with a dot, first-year ice 6, grey ice 4, glacier ice a triangle; a trace is So.
    shares, stages = {"ca": "7", "cb": "2", "cc": "1"}, {"sa": "7•", "sb": "6", "sc": "4", "so": "▲•"}
    assert egg == {"ct": "10"} | shares | stages | {"fa": "6", "fb": "5", "fc": "X"}
    assert "9 tenths" not in words
    assert "7 tenths: old ice, vast floes." in words
    assert "Confidence\n83 %" in words
    assert "Alternative\nfirst ice, 14 %" in words


def test_a_click_waits_for_polygons_that_are_still_read(browser: Any, server: MapServer) -> None:
    view = open_page(browser, server, (1000, 640))
    view.drawn()
    view.go(**AT_POLE, l0="classes")
    held: list[Any] = []
    view.page.route("**/chart.geojson", lambda call: held.append(call))
    view.page.get_by_label("Chartpolygons", exact=True).check()
    x, y = view.middle()
    view.page.mouse.click(x + 60, y + 60)
    view.page.wait_for_selector("#place .position")
    until(view, lambda: bool(held))  # a request that comes after those below went on would wait for ever
    assert view.page.locator("#place[aria-busy=true]").count() == 1
    assert view.page.locator("#place svg.egg").count() == 0
    for call in held:
        call.continue_()
    view.page.wait_for_selector("#place[aria-busy=false]", timeout=60_000)
    assert view.page.locator("#place svg.egg").count() == 1
    assert view.errors == []
    view.page.close()


def test_an_address_is_followed_also_when_the_page_writes_its_own_before_it_hears_of_it(
    browser: Any, server: MapServer
) -> None:
    """The page writes its view into the address shortly after it has moved; the browser's event may come later."""
    late = (
        "addEventListener('hashchange', e => { e.stopImmediatePropagation();"
        " setTimeout(() => dispatchEvent(new HashChangeEvent('hashchange')), 500) }, {once: true});"
    )
    view = open_page(browser, server, (1000, 640), late)
    view.drawn()
    asked = "&".join(f"{k}={v}" for k, v in (AT_POLE | {"l0": "hh"}).items())
    view.page.evaluate("text => { dispatchEvent(new Event('resize')); location.hash = text }", asked)
    view.page.wait_for_selector("#legend :text('dB')")
    assert view.page.get_by_label("hh", exact=True).is_checked()
    view.page.close()


def test_values_are_those_of_the_full_resolution_without_data_too(desk: View) -> None:
    desk.go(s="pole", p="EPSG:3413", c="90,0", r="6000", l0="hh,classes")
    assert "−12.34 dB" in desk.click(-10, 10)
    assert desk.click(-19, -19).count("no data") == 2


#: Names of the graticule, [text, how it is aligned, x and y on the map], and the boxes over the map in pixels.
LABELS = """async () => {
    const { graticuleSource } = await import("./panes.js");
    const points = graticuleSource.getFeatures().filter((f) => f.getGeometry().getType() === "Point");
    const home = document.querySelector(".map").getBoundingClientRect();
    const over = document.querySelector(".pane").querySelectorAll(".ol-scale-line, .nautical, .pane-title");
    const boxes = [...over].map((e) => e.getBoundingClientRect()).filter((b) => b.width);
    return [points.map((f) => [f.getStyle().getText(), f.getGeometry()]).map(([text, at]) =>
        [text.getText(), text.getTextAlign(), ...at.getCoordinates()]),
        boxes.map((b) => [b.left - home.left, b.top - home.top, b.right - home.left, b.bottom - home.top])];
}"""


@pytest.mark.parametrize(("panes", "count"), [({}, 2), ({"m": "side,2", "l1": "first"}, 3)])
def test_names_of_the_graticule_leave_scale_bars_and_titles_free(panes: dict[str, str], count: int, desk: View) -> None:
    desk.page.keyboard.press("g")
    seen = 0
    for turn in range(0, 360, 60):  # so that lines leave the map in all of its corners
        desk.go(s="pole", p="EPSG:3413", c=f"70,{turn}", r="1500", l0="classes", **panes)
        labels, boxes = desk.page.evaluate(LABELS)
        assert len(boxes) == count
        middle = desk.page.locator(".map").first.bounding_box()
        centre = Transformer.from_crs(4326, 3413, always_xy=True).transform(turn, 70)
        for text, align, east, north in labels:
            width = 5 * len(text)  # at least
            x = middle["width"] / 2 + (east - centre[0]) / 1500 - width * {"left": 0, "center": 0.5, "right": 1}[align]
            y = middle["height"] / 2 - (north - centre[1]) / 1500
            for left, top, right, bottom in boxes:
                assert x + width < left or x > right or y < top or y - 5 > bottom, (turn, text)
        seen += len(labels)
    assert seen > 30
    desk.page.keyboard.press("g")


def test_the_wheel_zooms_and_a_drag_moves_without_a_click_first(desk: View) -> None:
    desk.go(**AT_POLE, l0="classes")
    x, y = desk.middle()
    desk.page.mouse.move(x, y)
    desk.page.mouse.wheel(0, -300)
    desk.page.wait_for_url(lambda url: "r=1000" not in url, timeout=60_000)
    desk.go(**AT_POLE, l0="classes")
    desk.page.mouse.down()
    desk.page.mouse.move(x + 50, y, steps=3)
    desk.page.mouse.up()
    desk.page.wait_for_url(lambda url: "c=90" not in url, timeout=60_000)


def test_keys_lead_through_the_places_to_review(desk: View) -> None:
    desk.go(**AT_POLE, l0="classes,chart")
    desk.page.locator(".map").first.focus()
    current = desk.page.locator("#review [aria-current]")
    for key, rank in (("n", "1"), ("n", "2"), ("n", "1"), ("p", "2")):
        desk.page.keyboard.press(key)
        assert current.locator("b").inner_text() == rank
    desk.page.keyboard.press("n")
    desk.page.wait_for_url(lambda url: "c=89.2" in url, timeout=60_000)
    lat, lon = (float(v) for v in desk.page.evaluate("location.hash").split("c=")[1].split("&")[0].split(","))
    expected = Transformer.from_crs(3413, 4326, always_xy=True).transform(60e3, -60e3)
    assert math.isclose(lat, expected[1], abs_tol=1e-4)
    assert math.isclose(lon, expected[0], abs_tol=1e-4)
    assert desk.page.locator("#live").inner_text().startswith("Place 1 of 2: first")
    assert desk.page.locator("#place svg.egg").count() == 1, "the egg of the polygon that holds the place"


def test_swipe_and_side_by_side_show_two_models_of_one_place(desk: View) -> None:
    one, two = rgb(CLASSES[1]), rgb(CLASSES[2])
    desk.go(**AT_POLE, m="swipe,50", l0="first", l1="second")
    left, right = desk.colours((-41, 33), (41, 33))
    assert near(left, one)
    assert near(right, two)
    handle = desk.page.locator("[role=slider].swipe")
    handle.focus()
    for _ in range(2):
        handle.press("PageUp")
    left, right = desk.colours((-41, 33), (41, 33))
    assert near(left, one)
    assert near(right, one)
    assert handle.get_attribute("aria-valuenow") == "70"
    desk.go(**AT_POLE, m="side,2", l0="first", l1="second")
    assert near(desk.colours((33, 41), pane=0)[0], one)
    assert near(desk.colours((33, 41), pane=1)[0], two)
    desk.go(**AT_POLE, l0="first")
    desk.page.keyboard.press("2")
    desk.drawn()
    assert near(desk.colours((33, 41), pane=1)[0], two), "the second map shows the other model"


@pytest.mark.parametrize("shown", ["drafted", "final"])
def test_a_draft_lies_under_a_swipe_with_its_published_chart(shown: str, desk: View) -> None:
    desk.go(**AT_POLE, l0=f"classes,{shown}")
    desk.page.keyboard.press("s")
    desk.page.wait_for_url(lambda url: "l0=classes,drafted&l1=classes,final" in url, timeout=60_000)
    desk.drawn()


def test_what_is_shown_stays_under_a_swipe_of_more_models_than_two(desk: View) -> None:
    """The third of three runs is shown: it stays, beside the first."""
    desk.go(**AT_POLE, l0="classes,elsewhere")
    desk.page.keyboard.press("s")
    desk.page.wait_for_url(lambda url: "l0=classes,first&l1=classes,elsewhere" in url, timeout=60_000)


def test_keys_lead_along_the_time_line(desk: View) -> None:
    desk.go(**AT_POLE, l0="classes")
    strip = desk.page.locator("#timeline [role=slider]")
    assert strip.get_attribute("aria-valuenow") == "1"
    strip.focus()
    strip.press("End")
    assert strip.get_attribute("aria-valuetext") == "2026-03-03 06:00 UTC, In the south"
    desk.page.keyboard.press("[")
    desk.drawn()
    assert "At the dateline" in desk.page.title()
    desk.page.wait_for_url(lambda url: "s=dateline" in url, timeout=60_000)


def test_names_are_text_and_simulated_drafts_are_called_so(desk: View) -> None:
    desk.go(**AT_POLE, l0="hostile,classes")
    desk.page.locator("#layer-list details").evaluate_all("all => all.forEach(d => { d.open = true })")
    desk.click(60, 60)
    assert desk.page.locator("img, #bar script, #info script").count() == 0
    assert desk.page.title().startswith("SIMULATED: <img")
    for part in ("#title", "#layers", "#place", "#notices", "#review"):
        assert HOSTILE in desk.page.locator(part).inner_text(), part
    badges = desk.page.locator("#badges").inner_text()
    assert "SIMULATED" in badges and "DRAFT" in badges and "NOT FOR NAVIGATION" in badges


def test_help_and_focus_by_keyboard(desk: View) -> None:
    desk.page.keyboard.press("?")
    assert desk.page.locator("dialog[open]").inner_text().startswith("Help")
    desk.page.keyboard.press("Escape")
    assert desk.page.locator("dialog[open]").count() == 0
    nameless = desk.page.evaluate(
        "() => [...document.querySelectorAll('button, select, input, [tabindex=\"0\"]')].filter(e =>"
        " !(e.ariaLabel || e.textContent.trim() || e.labels?.length)).map(e => e.outerHTML)"
    )
    assert nameless == []


def test_nothing_failed_and_nothing_was_asked_of_elsewhere(desk: View) -> None:
    """After all of the above, on the same page."""
    assert desk.errors == []
    assert desk.page.evaluate("broken") == []
    assert all(url.startswith((desk.home, f"blob:{desk.home}")) for url in desk.asked)
    assert not any("example" in url for url in desk.asked)


def test_a_raster_that_cannot_be_read_is_named_and_the_rest_is_drawn(desk: View) -> None:
    desk.go(**AT_POLE, l0="classes,broken,elsewhere")
    notices = desk.page.locator("#notices").inner_text()
    assert "“broken” cannot be read" in notices
    assert "its address is not one of this map" in notices
    assert near(desk.colours(PLACES[2])[0], rgb(CLASSES[2]))


def test_a_scene_is_read_when_it_is_shown(browser: Any, server: MapServer) -> None:
    view = open_page(browser, server, (1000, 640))
    view.drawn()
    read = [url.rpartition("/")[2] for url in view.asked if "/scenes/" in url]
    assert read == ["pole.json"]
    view.page.route("**/scenes/south.json", lambda call: call.fulfill(status=500))
    count = view.page.locator("#timeline .count")
    step = "document.body.dispatchEvent(new KeyboardEvent('keydown', {key: ']', bubbles: true}))"
    view.page.evaluate(f"{step}; {step}")  # the second step begins where the first one leads, read or not
    view.page.wait_for_selector("#notices :text('“In the south” cannot be read')", timeout=60_000)
    assert count.inner_text() == "1 of 3", "what is shown stays"
    assert view.page.title().startswith("SIMULATED: <img")
    view.page.unroute("**/scenes/south.json")
    view.page.evaluate(f"{step}; {step}")
    view.page.wait_for_url(lambda url: "s=south" in url, timeout=60_000)
    view.drawn()
    assert count.inner_text() == "3 of 3" and "In the south" in view.page.title()
    view.page.close()


@pytest.mark.parametrize(
    ("how", "words"),
    [
        ({"status": 404, "headers": {"Server": f"floemap/{__version__} "}}, "The map was made anew since this page"),
        (None, "does not answer. Start floemap view"),
    ],
)
def test_an_open_page_says_what_to_do_where_its_server_is_gone_or_another(
    how: dict[str, Any] | None, words: str, browser: Any, server: MapServer
) -> None:
    view = open_page(browser, server, (1000, 640))
    view.drawn()
    view.go(**AT_POLE, l0="classes")
    lost = re.compile("(/data/|dateline.json)")
    view.page.route(lost, lambda call: call.abort() if how is None else call.fulfill(**how))
    for name in ("hh", "Chartpolygons"):  # of rasters and polygons alike, and of the next scene
        view.page.get_by_label(name, exact=True).check()
        view.drawn()
    view.page.keyboard.press("]")
    notice = view.page.locator(".notice", has_text=words)
    notice.wait_for()
    view.drawn()
    assert view.page.locator(".notice.error").count() == 1, "once"
    assert how is not None or f"--port {server.server_address[1]}," in notice.inner_text()
    view.page.unroute(lost)
    shown = view.page.evaluate("location.hash")
    notice.get_by_role("button", name="Reload").click()
    view.page.wait_for_selector(".notice.error", state="detached")
    view.drawn()
    assert view.page.evaluate("location.hash") == shown
    assert view.page.get_by_label("hh", exact=True).is_checked()
    view.page.close()


def test_a_file_that_a_static_server_does_not_have_is_named(browser: Any, server: MapServer) -> None:
    """An exported map of which some files are missing: to reload the page would not bring them."""
    view = open_page(browser, server, (1000, 640))
    view.drawn()
    view.go(**AT_POLE, l0="classes")
    missing = re.compile("(/data/|dateline.json)")
    view.page.route(missing, lambda call: call.fulfill(status=404, headers={"Server": "static"}))
    for name in ("hh", "Chartpolygons"):
        view.page.get_by_label(name, exact=True).check()
        view.drawn()
    view.page.keyboard.press("]")
    for name in ("hh", "Chart", "The scene “At the dateline"):
        view.page.locator(".notice", has_text=re.compile(f"{name}” cannot be read: the server answers 404")).wait_for()
    assert view.page.locator(".notice.error").count() == 3
    assert view.page.get_by_role("button", name="Reload").count() == 0
    view.page.close()


def test_a_layer_that_is_chosen_again_does_not_fail_as_before(browser: Any, server: MapServer) -> None:
    """The page asks why a layer cannot be read; when it is told, the layer may be drawn by a later try."""
    view = open_page(browser, server, (1000, 640))
    view.drawn()
    view.go(**AT_POLE, l0="classes")
    calls: dict[str, list[Any]] = {"GET": [], "HEAD": []}

    def answer(call: Any) -> None:
        calls[call.request.method].append(call)
        if call.request.method == "GET":
            call.fulfill(status=500) if len(calls["GET"]) == 1 else call.continue_()

    view.page.route("**/chart.geojson", answer)
    box = view.page.get_by_label("Chartpolygons", exact=True)
    box.check()
    until(view, lambda: bool(calls["HEAD"]))
    box.uncheck()
    box.check()
    view.drawn()
    view.page.evaluate(
        "url => import('./mapfile.js').then((m) => { window.refused = m.whyRefused(url) })",
        calls["HEAD"][0].request.url,
    )
    calls["HEAD"][0].continue_()
    view.page.evaluate("() => window.refused.then(() => new Promise((done) => setTimeout(done, 200)))")
    view.drawn()
    assert len(calls["HEAD"]) == 1 and len(calls["GET"]) == 2
    assert view.page.locator(".notice.error").count() == 0
    assert box.is_checked() and "cannot be read" not in view.page.locator("#layer-list").inner_text()
    view.page.close()


def test_an_address_whose_layers_are_gone_shows_those_of_the_first_look(desk: View) -> None:
    desk.go(**AT_POLE, l0="s1-7,s1-v1")
    assert desk.page.get_by_label("classes", exact=True).is_checked()
    desk.go(**AT_POLE, l0="")
    assert not desk.page.get_by_label("classes", exact=True).is_checked()


@pytest.mark.parametrize("chosen", ["hh", "hh,classes~50", ""])
def test_an_address_whose_scene_is_gone_shows_the_first_look_of_another(chosen: str, desk: View) -> None:
    """Layers are numbered in each scene anew, so those of the same names are others."""
    desk.go(**AT_POLE | {"s": "gone"}, l0=chosen)
    desk.page.wait_for_url(lambda url: "s=pole" in url and url.endswith("l0=classes"), timeout=60_000)
    desk.go(p="EPSG:3413", l0="hh")  # without a scene: the one that the page shows at first
    desk.page.wait_for_url(lambda url: "s=pole" in url and url.endswith("l0=hh"), timeout=60_000)


def test_a_phone_shows_the_map_and_its_panels(browser: Any, server: MapServer) -> None:
    view = open_page(browser, server, (390, 780), has_touch=True)
    view.drawn()
    width, inside = view.page.evaluate("() => [document.documentElement.scrollWidth, innerWidth]")
    assert width <= inside
    box = view.page.locator(".map").first.bounding_box()
    assert box["width"] == 390
    assert box["height"] > 350  # of 780, with the widest of the usual fonts
    view.page.get_by_role("button", name="Layers").tap()
    assert view.page.locator("#layer-list").is_visible()
    view.page.keyboard.press("Escape")
    assert not view.page.locator("#layer-list").is_visible()
    x, y = view.middle()
    view.page.touchscreen.tap(x + 30, y + 30)
    view.page.wait_for_selector("#place .position", state="visible")
    value = view.page.locator("#place .values td").first
    value.wait_for(timeout=60_000)
    panel = view.page.locator("#info").bounding_box()
    view.page.wait_for_url(lambda url: "c=90" not in url, timeout=60_000)  # moved, as the panel covers the middle
    hash_ = view.page.evaluate("location.hash")
    centre, r = ([float(v) for v in re.search(rf"{name}=([-\d.,]+)", hash_)[1].split(",")] for name in ("c", "r"))
    here = [int(v) for v in re.search(r"x (-?\d+) m, y (-?\d+) m", view.page.locator("#place").inner_text()).groups()]
    middle = Transformer.from_crs(4326, 3413, always_xy=True).transform(centre[1], centre[0])
    top = box["y"] + box["height"] / 2 - (here[1] - middle[1]) / r[0]
    assert box["y"] + 20 < top < panel["y"] - 20, "the place is seen, too"
    place, shown = view.page.locator("#place").bounding_box(), value.bounding_box()
    assert shown["y"] + shown["height"] <= place["y"] + place["height"], "the value is seen without scrolling"
    assert view.errors == []
    view.page.close()


def test_without_webgl_the_page_says_so_and_shows_polygons(browser: Any, server: MapServer) -> None:
    off = (
        "const get = HTMLCanvasElement.prototype.getContext;"
        "HTMLCanvasElement.prototype.getContext = function (kind, ...rest) {"
        " return kind === '2d' ? get.call(this, kind, ...rest) : null };"
    )
    view = open_page(browser, server, (1000, 700), off)
    view.drawn()
    view.go(**AT_POLE, l0="hh,chart")
    assert "no WebGL" in view.page.locator("#notices").inner_text()
    words = view.click(60, 60)
    assert "Total concentration: 10 tenths" in words
    assert "−9.00 dB" in words
    assert view.errors == []
    view.page.close()
