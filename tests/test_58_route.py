"""A route through a chart: lines and lengths, every mile in the right polygon, numbers by hand, bad input refused."""

from __future__ import annotations

import csv
import json
import math
import re
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyproj
import pytest
import shapely
from affine import Affine
from chart_maker import BOTTOM, LEFT, POLAR, SIDE_M, ice, other, squares, write_chart
from odc.geo.geobox import GeoBox
from typer.testing import CliRunner

import floemap
from floemap.cli import route as route_command  # noqa: F401  registers the command
from floemap.cli.app import app
from floemap.cog import write_cog
from floemap.errors import ChartError, ConfigError, OutputError, RouteError
from floemap.grid import NAUTICAL_MILE_M
from floemap.icechart.polaris import risk_values
from floemap.inference.predict.scene_maps import NO_VALUE, probability_bands
from floemap.legend import SIX_CLASSES
from floemap.own_legends import in_record
from floemap.own_results import describe_result
from floemap.routes.chart_risk import chart_risk
from floemap.routes.crossings import Crossings
from floemap.routes.lines import line_of
from floemap.routes.probabilities import Probabilities
from floemap.routes.reading import Leg, LineKind, read_route
from floemap.routes.tables import cut_at_dateline

GEOD = pyproj.Geod(ellps="WGS84")
TO_EARTH = pyproj.Transformer.from_crs(POLAR, "EPSG:4326", always_xy=True)
Positions = list[tuple[float, float]]


def on_earth(*places: tuple[float, float]) -> Positions:
    """Positions on the chart's map, in sides of its squares from their lower left corner, as degrees."""
    return [TO_EARTH.transform(LEFT + x * SIDE_M, BOTTOM + y * SIDE_M) for x, y in places]


def write_route(path: Path, points: Any, **properties: Any) -> Path:
    line = {"type": "LineString", "coordinates": points}
    path.write_text(json.dumps({"type": "Feature", "properties": properties, "geometry": line}))
    return path


@pytest.fixture(autouse=True)
def no_picture(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Drawing takes longer than all else; the tests that look at the picture draw it."""
    if "drawn" not in request.fixturenames:
        monkeypatch.setattr("floemap.routes.route.draw_strip", lambda path, legs, about: path.write_bytes(b"none"))


@pytest.fixture
def drawn() -> None:
    """The test draws the picture."""


# Lines


ENDS = [((10, 75), (20, 80)), ((170, 72), (-170, 73)), ((0, 88), (170, 87)), ((5, -60), (9, -70))]


@pytest.mark.parametrize("a, b", ENDS)
def test_a_great_circle_is_the_geodesic(a: tuple[float, float], b: tuple[float, float]) -> None:
    line = line_of(Leg("", a, b, "great-circle"))
    assert line.length_m == pytest.approx(GEOD.inv(*a, *b)[2], rel=1e-9)
    lon, lat = line.at(np.array([line.length_m / 3]))
    assert GEOD.inv(*a, lon[0], lat[0])[2] == pytest.approx(line.length_m / 3, abs=0.01)


@pytest.mark.parametrize("kind", ["rhumb", "great-circle"])
@pytest.mark.parametrize("metres", [0.01, 1.0, 999.0, 1001.0])
@pytest.mark.parametrize("at", [(10.0, 78.0), (180.0, 70.0), (0.0, 89.9999995)])
def test_short_legs_have_their_length(kind: LineKind, metres: float, at: tuple[float, float]) -> None:
    lon, lat, _ = GEOD.fwd(*at, 40.0, metres)
    line = line_of(Leg("", at, (lon, lat), kind))
    assert line.length_m == pytest.approx(metres, rel=1e-2)
    assert line.kind == kind and (line.lat[-1], line.lon[-1]) == pytest.approx((lat, lon))


def test_a_rhumb_line_is_straight_on_mercators_map() -> None:
    mercator = pyproj.Transformer.from_crs("EPSG:4326", "+proj=merc +ellps=WGS84 +lon_0=180", always_xy=True)
    for a, b in [((170.0, 72.0), (-170.0, 75.0)), ((150.0, -50.0), (160.0, -40.0)), ((175.0, 60.0), (179.0, 84.0))]:
        line = line_of(Leg("", a, b, "rhumb"))
        x, y = mercator.transform(line.lon, line.lat)
        across = (x[-1] - x[0]) * (y - y[0]) - (y[-1] - y[0]) * (x - x[0])
        assert np.abs(across / math.hypot(x[-1] - x[0], y[-1] - y[0])).max() < 0.01, "metres on the map"


def test_a_rhumb_line_along_a_parallel_and_a_meridian_has_their_length() -> None:
    lat, sine = math.radians(75), math.sin(math.radians(75))
    parallel = GEOD.a * math.cos(lat) / math.sqrt(1 - GEOD.es * sine**2) * math.radians(30)
    assert line_of(Leg("", (170, 75), (-160, 75), "rhumb")).length_m == pytest.approx(parallel, rel=1e-7)
    meridian = GEOD.inv(10, 70, 10, 80)[2]
    assert line_of(Leg("", (10, 70), (10, 80), "rhumb")).length_m == pytest.approx(meridian, rel=1e-9)
    assert line_of(Leg("", (10, 70), (123, 90), "rhumb")).length_m == pytest.approx(GEOD.inv(0, 70, 0, 90)[2], rel=1e-9)


def test_lines_cross_the_dateline_and_the_pole() -> None:
    line = line_of(Leg("", (170, 72), (-170, 73), "rhumb"))
    assert line.length_m < 700e3 and np.abs(line.lon).min() > 169
    parts = cut_at_dateline(list(zip(line.lon.tolist(), line.lat.tolist(), strict=True)))
    assert [part[-1][0] for part in parts[:-1]] == [180] and parts[1][0][0] == -180
    over = line_of(Leg("", (0, 88), (180, 88), "great-circle"))
    assert over.lat.max() > 89.99 and over.length_m == pytest.approx(GEOD.inv(0, 88, 180, 88)[2])


# Crossings


def polar_chart(folder: Path) -> Path:
    """Nine squares around the north pole, the one at the pole old ice, with a gap at the upper left."""
    side = 250e3
    cells = [(i, j) for i in (-1, 0, 1) for j in (-1, 0, 1) if (i, j) != (-1, 1)]
    shapes = [shapely.box((i - 0.5) * side, (j - 0.5) * side, (i + 0.5) * side, (j + 0.5) * side) for i, j in cells]
    rows = [ice(SA="95") if cell == (0, 0) else ice("50", SA="86") for cell in cells]
    return write_chart(folder / "pole.gpkg", rows, shapes)


@pytest.mark.parametrize("kind", ["rhumb", "great-circle"])
def test_parts_are_those_of_a_dense_sampling(kind: LineKind, tmp_path: Path) -> None:
    risk = chart_risk(polar_chart(tmp_path), "PC7")
    rng = np.random.default_rng(7)
    random = rng.uniform((-180, 85.5, -180, 85.5), (180, 89.9, 180, 89.9), (4, 4)).tolist()
    ends = [((a, b), (c, d)) for a, b, c, d in random]
    ends += [((-135.0, 86.5), (45.0, 86.5)), ((179.0, 87.0), (-179.0, 88.9)), ((0.0, 70.0), (180.0, 70.0))]
    to_map = pyproj.Transformer.from_crs("EPSG:4326", POLAR, always_xy=True)
    for start, end in ends:
        line = line_of(Leg("", start, end, kind))
        parts = Crossings(risk).of(line)
        assert parts[0].from_m == 0 and parts[-1].to_m == line.length_m
        assert all(a.to_m == b.from_m and a.row != b.row for a, b in pairwise(parts))
        n = 2000
        places = (np.arange(n) + 0.5) * line.length_m / n
        points = shapely.points(np.column_stack(to_map.transform(*line.at(places))))
        for row, shape in enumerate(risk.chart.geometries):
            sampled = shapely.contains(shape, points).sum() * line.length_m / n
            found = sum(p.length_m for p in parts if p.row == row)
            assert found == pytest.approx(sampled, abs=2 * len(parts) * line.length_m / n)


def test_where_polygons_overlap_land_counts_and_then_the_worst(tmp_path: Path) -> None:
    box = squares(1)[0]
    chart = write_chart(tmp_path / "c.gpkg", [other("W"), ice(SA="95"), ice("50", SA="86")], [box] * 3)
    start, end = on_earth((0.2, 0.5), (0.8, 0.5))
    leg = Leg("", start, end, "great-circle")
    assert [p.row for p in Crossings(chart_risk(chart, "PC7")).of(line_of(leg))] == [1]
    chart = write_chart(tmp_path / "d.gpkg", [other("L"), ice(SA="95"), other("N")], [box] * 3)
    assert [p.row for p in Crossings(chart_risk(chart, "PC7")).of(line_of(leg))] == [0]


def test_what_the_map_does_not_show_has_no_chart(tmp_path: Path) -> None:
    """A line leaves the hemisphere of a polar map, and jumps over the seam of Mercator's."""
    shapes = [shapely.box(19.0e6, 11.0e6, 20.0e6, 12.0e6), shapely.box(-20.0e6, 11.0e6, -19.0e6, 12.0e6)]
    chart = write_chart(tmp_path / "m.gpkg", [ice(SA="95"), other("W")], shapes, crs="EPSG:3395")
    line = line_of(Leg("", (172.0, 70.0), (-172.0, 70.5), "rhumb"))
    rows = [p.row for p in Crossings(chart_risk(chart, "PC7")).of(line)]
    assert rows == [0, -1, 1]
    line = line_of(Leg("", (0.0, -80.0), (0.0, -89.5), "rhumb"))
    assert Crossings(chart_risk(polar_chart(tmp_path), "PC7")).of(line)[-1].row == -1


# Numbers


@pytest.fixture(scope="module")
def four(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five squares in a row: water, five tenths of first-year ice, old ice, land, nilas; then nothing."""
    rows = [other("W"), ice("50", SA="86"), ice(SA="95"), other("L"), ice("92", SA="82")]
    return write_chart(tmp_path_factory.mktemp("charts") / "four.gpkg", rows)


def test_numbers_are_those_by_hand(four: Path, tmp_path: Path, drawn: None) -> None:
    places = on_earth((0, 0.5), (2.5, 0.5), (6, 0.5))
    route = write_route(tmp_path / "r.geojson", places, name="East", waypoints=["A", "B", "C"])
    done = floemap.assess_route(four, route, "PC7", tmp_path / "out", lines="great-circle")
    facts = done.facts
    first, second = facts["legs"]
    assert [first["name"], second["name"]] == ["A to B", "B to C"] and facts["route"] == "East"
    miles = GEOD.inv(*places[0], *places[1])[2] / NAUTICAL_MILE_M
    side = miles / 2.5  # squares are equal on the map, and the line is nearly straight there
    near: dict[str, Any] = {"rel": 5e-3}
    assert first["nm"] == pytest.approx(miles, abs=1e-3)
    old = pytest.approx(side / 2, **near)
    assert first["nm_by_level"] == {"normal": pytest.approx(2 * side, **near), "elevated": 0, "special": old}
    # 30 in water, 5 x -2 + 5 x 3 = 5 in the mixture, -30 in old ice
    assert first["rio_mean"] == pytest.approx((30 * 1 + 5 * 1 - 30 * 0.5) / 2.5, rel=0.02)
    assert first["rio_worst"] == first["rio_lowest"] == -30 and first["level"] == "special"
    assert second["nm_without"] == {
        "no chart": pytest.approx(side, **near),
        "no data": 0,
        "land": pytest.approx(side, **near),
        "ice shelf": 0,
    }
    assert facts["worst_leg"]["name"] == "A to B" and facts["worst_leg"]["worst_egg"] == "10 tenths: 10 old ice"
    assert any("crosses" in w and "land" in w and "B to C" in w for w in facts["warnings"])
    assert any("no chart" in w and "not open water" in w for w in facts["warnings"])
    with (done.folder / "pieces.csv").open(encoding="utf-8") as f:
        rows = list(csv.DictReader(f))
    assert [r["kind"] for r in rows] == ["water", "ice", "ice", "ice", "land", "ice", "no chart"]
    assert [r["rio"] for r in rows] == ["30.0", "5.0", "-30.0", "-30.0", "", "20.0", ""]
    assert [(r["spread_low"], r["spread_high"]) for r in rows[1:3]] == [("2.5", "21.0"), ("-30.0", "-27.0")]
    collection = json.loads((done.folder / "route.geojson").read_text())["features"]
    assert [f["properties"]["feature"] for f in collection] == 2 * ["leg"] + 7 * ["piece"]
    pieces = [f for f in collection if f["properties"]["feature"] == "piece"]
    for feature, row in zip(pieces, rows, strict=True):
        lon, lat = np.array(feature["geometry"]["coordinates"]).T
        assert GEOD.line_length(lon, lat) / NAUTICAL_MILE_M == pytest.approx(float(row["nm"]), abs=1e-3)
    text = (done.folder / "route.txt").read_text()
    assert "not for navigation" in text and "Advisory only" in text and "Worst leg: 1 (A to B)" in text
    assert (done.folder / "route.png").stat().st_size > 10_000


def test_a_route_of_many_legs_names_some_of_them(four: Path, tmp_path: Path, drawn: None) -> None:
    places = on_earth(*((x, 0.5 + 0.1 * (i % 2)) for i, x in enumerate(np.linspace(0.1, 3.9, 100).tolist())))
    done = floemap.assess_route(four, write_route(tmp_path / "r.geojson", places), "PC7", tmp_path)
    (land,) = (w for w in done.facts["warnings"] if "crosses land" in w)
    assert land.startswith("leg ") and "more legs too. It is not passable." in land and len(land) < 500
    assert done.facts["worst_leg"]["rio_worst"] == -30 and len(done.facts["legs"]) == 99
    assert "Worst leg: " in (done.folder / "route.txt").read_text()


def test_a_gap_between_two_lines_of_a_route_is_told_of(four: Path, tmp_path: Path, drawn: None) -> None:
    """What nobody assessed must not be taken for a way that was."""
    places = on_earth((0.1, 0.5), (0.5, 0.5), (1.5, 0.5), (1.9, 0.5))
    path = write_route(tmp_path / "r.geojson", places)
    for last, gap in ((2, True), (1, False)):
        lines = {"type": "MultiLineString", "coordinates": [places[:2], places[last:]]}
        path.write_text(json.dumps(lines))
        facts = floemap.assess_route(four, path, "PC7", tmp_path / str(last)).facts
        told = [w for w in facts["warnings"] if "has no line for" in w]
        assert len(told) == gap
        if told:
            assert re.search(r"for 3[345]\.\d nm from the end of leg 1, ", told[0]) and "not assessed" in told[0]


def test_levels_and_speeds_follow_the_circular(tmp_path: Path) -> None:
    rows = [ice("80", SA="93"), ice("92", SA="93")]  # PC 7: 8 x -2 + 2 x 3 = -10; -20
    chart = write_chart(tmp_path / "c.gpkg", rows)
    route = write_route(tmp_path / "r.geojson", on_earth((0.1, 0.5), (0.9, 0.5)))
    done = floemap.assess_route(chart, route, "PC7", tmp_path)
    assert done.facts["total"]["level"] == "elevated" and done.facts["total"]["level_at_worst"] == "special"
    assert "at most 3 knots for PC 7" in (done.folder / "route.txt").read_text()
    # IA: 8 x -3 + 2 x 3 = -18; ships below the polar classes have no elevated level
    done = floemap.assess_route(chart, route, "IA", tmp_path)
    assert done.facts["total"]["rio_worst"] == -18 and done.facts["total"]["level"] == "special"
    assert "special consideration and gives no speed" in (done.folder / "route.txt").read_text()


def test_a_draft_adds_its_second_class_and_its_probabilities(tmp_path: Path) -> None:
    """Old ice in 6 of 10 tenths, first-year ice the rest; second class water with a probability of 0.3, then 0.01."""
    egg = ice("92", CA="60", SA="95", CB="40", SB="86")
    egg |= {"CONFIDENCE": 0.6, "SECOND": "open_water", "ESTIMATED": "yes"}
    rows = [egg | {"SECOND_P": 0.3}, egg | {"SECOND_P": 0.01}, egg | {"SECOND_P": 0.3, "ESTIMATED": "no"}]
    write_chart(tmp_path / "draft" / "chart.gpkg", rows)
    record = {"made_by": "floemap chart", "legend": in_record(SIX_CLASSES), "simulated": True, "status": "draft"}
    record |= {
        "land": {"land_mask": "none: land is charted as ice or water"},
        "scene": {"start": "2018-01-16T07:54:30"},
        "files": {"chart.gpkg": {"sha256": "that of the draft, which was edited"}},
    }
    (tmp_path / "draft" / "chart.json").write_text(json.dumps(record))
    grid = GeoBox((64, 192), Affine(1000, 0, LEFT, 0, -1000, BOTTOM + SIDE_M), POLAR)
    steps = np.zeros((6, 64, 192), np.uint8)
    steps[[3, 4, 5]] = np.array([60, 120, 20])[:, None, None]  # 0.3 first-year, 0.6 old, 0.1 water
    steps[:, :, 96:128] = NO_VALUE
    write_cog(tmp_path / "draft" / "probabilities.tif", grid, steps, probability_bands(SIX_CLASSES), nodata=NO_VALUE)
    route = write_route(tmp_path / "r.geojson", on_earth((0.2, 0.5), (1.2, 0.5), (2.8, 0.5)))
    done = floemap.assess_route(tmp_path / "draft" / "chart.gpkg", route, "PC7", tmp_path / "out", lines="great-circle")
    with (done.folder / "pieces.csv").open(encoding="utf-8") as f:
        pieces = list(csv.DictReader(f))
    first, second, _, edited = pieces
    assert first["rio"] == "-26.0"  # 6 x -3 + 4 x -2
    assert float(first["alternative"]) == 6 * 3 + 4 * -2 and first["alternative_class"] == "open_water"
    assert second["alternative"] == "" and edited["alternative"] == edited["rio_p05"] == edited["confidence"] == ""
    # Outcomes of the classes: old -30 (0.6), first-year -20 (0.3), water 30 (0.1).
    assert (float(first["rio_p05"]), float(first["rio_p95"])) == (-30, 30)
    assert float(first["rio_expected"]) == pytest.approx(0.6 * -30 + 0.3 * -20 + 0.1 * 30)
    assert float(first["beyond_normal"]) == pytest.approx(0.9)
    assert float(first["spread_low"]) == -30 and float(first["spread_high"]) == 30
    assert done.facts["simulated"] and len(done.facts["spread_from"]) == 3
    assert (
        "SIMULATED" in (done.folder / "route.txt").read_text()
        and "a correction, not published" in (done.folder / "route.txt").read_text()
    )
    assert any("land mask" in w for w in done.facts["warnings"])


def test_quantiles_and_mean_are_those_of_draws_with_the_probabilities_shares(tmp_path: Path) -> None:
    """Drawn along the line: with one number for all positions for the quantiles, with one for each for the mean."""
    rng = np.random.default_rng(0)
    grid = GeoBox((1, 100), Affine(1000, 0, LEFT, 0, -1000, BOTTOM + SIDE_M), POLAR)
    outcomes = 10 * risk_values(SIX_CLASSES, "PC7")
    lon, lat = TO_EARTH.transform(LEFT + 1000 * (np.arange(100) + 0.5), np.full(100, BOTTOM + SIDE_M - 500))
    for i, sure in enumerate((0.05, 0.3, 5)):
        steps = rng.multinomial(200, rng.dirichlet(np.full(6, sure)) * 0.5 + rng.dirichlet(np.full(6, sure), 100) * 0.5)
        folder = tmp_path / str(i)
        folder.mkdir()
        bands, raster = probability_bands(SIX_CLASSES), steps.T[:, None].astype(np.uint8)
        write_cog(folder / "probabilities.tif", grid, raster, bands, nodata=NO_VALUE)
        with Probabilities(folder, SIX_CLASSES, "PC7") as probabilities:
            low, high, mean, _ = probabilities.at(lon, lat) or pytest.fail("no position has probabilities")
        order = np.argsort(outcomes)
        up_to = np.cumsum(steps[:, order], axis=1) / 200

        def drawn(u: Any, order: Any = order, up_to: Any = up_to) -> Any:
            return outcomes[order][(up_to > u[..., None]).argmax(axis=-1)].mean(axis=-1)

        together = drawn(np.broadcast_to(rng.random((4000, 1)), (4000, 100)))
        assert low == pytest.approx(np.quantile(together, 0.05), abs=2)
        assert high == pytest.approx(np.quantile(together, 0.95), abs=2)
        assert (
            mean == pytest.approx(together.mean(), abs=2) == pytest.approx(drawn(rng.random((4000, 100))).mean(), abs=2)
        )


def test_the_second_class_counts_where_the_total_is_unknown(tmp_path: Path) -> None:
    """The outcome takes ten tenths of the one type, 2 each for new ice; as old ice they are -3 each."""
    more = {"CONFIDENCE": 0.6, "SECOND": "old_ice", "ESTIMATED": "yes", "SECOND_P": 0.3}
    chart = write_chart(tmp_path / "c.gpkg", [ice("99", SA="81") | more])
    risk = chart_risk(chart, "PC7")
    assert risk.regimes.outcome[0] == 20 and risk.alternative[0] == -30


def test_ice_without_a_share_is_in_the_egg_and_the_worst_place_in_its_polygon(tmp_path: Path) -> None:
    """Nine tenths, five of thick first-year ice: the others, new or old ice, have no shares. The piece is 600 m."""
    egg = ice("90", CA="50", SA="93", SB="81", SC="95")
    shapes = [shapely.box(-9e5, -1e5, 0, 1e5), shapely.box(0, -1e5, 600, 1e5), shapely.box(600, -1e5, 9e5, 1e5)]
    chart = write_chart(tmp_path / "c.gpkg", [other("W"), egg, other("L")], shapes)
    route = write_route(tmp_path / "r.geojson", [(-135.0, 88.0), (45.0, 88.0)])
    facts = floemap.assess_route(chart, route, "PC7", tmp_path / "out", lines="great-circle").facts
    leg = facts["legs"][0]
    assert leg["worst_egg"] == "9 tenths: 5 thick first-year ice, 4 new ice or old ice"
    to_map = pyproj.Transformer.from_crs("EPSG:4326", POLAR, always_xy=True)
    assert shapely.contains(shapes[1], shapely.Point(to_map.transform(*leg["worst_at"])))


def test_a_trace_is_in_the_egg_and_the_low_end_says_which_ice_it_is_of(tmp_path: Path) -> None:
    """IA: grey-white 2 a tenth, heavy multi-year -5. The trace has a lower end than the ice of the lower outcome."""
    plain, traced = ice("92", CA="70", SA="85", CB="30", SB="84"), ice("91", SA="85", CN="97")
    chart = write_chart(tmp_path / "c.gpkg", [plain, traced])
    route = write_route(tmp_path / "r.geojson", on_earth((0.1, 0.5), (1.9, 0.5)))
    done = floemap.assess_route(chart, route, "IA", tmp_path / "out")
    leg = done.facts["worst_leg"]
    assert leg["rio_worst"] == 20 and leg["rio_lowest"] == 9 * 2 - 5
    assert leg["lowest_polygon"] == 2 and leg["lowest_egg"].endswith("grey-white ice, a trace of multi-year ice")
    text = (done.folder / "route.txt").read_text(encoding="utf-8")
    assert (
        f"\nElsewhere on this leg at worst 13.0: {leg['lowest_egg']}.\n" in text
        and leg["worst_egg"] not in leg["lowest_egg"]
    )
    said = describe_result(done.folder)
    assert said is not None and ("Worst", "leg 1, RIO 20.0") in said[1]


def test_unknown_ice_is_the_worst_and_said(tmp_path: Path) -> None:
    chart = write_chart(tmp_path / "c.gpkg", [ice("99", SA="86"), ice("99", SA="81")])
    route = write_route(tmp_path / "r.geojson", on_earth((0.1, 0.5), (1.9, 0.5)))
    facts = floemap.assess_route(chart, route, "PC7", tmp_path).facts
    assert facts["total"]["rio_worst"] == -20
    assert any("unknown concentration" in w for w in facts["warnings"])
    assert any("gives no concentrations" in w for w in facts["warnings"])


# Routes from files

RTZ = """<?xml version="1.0"?>
<route version="1.0" xmlns="http://www.cirm.org/RTZ/1/0"><routeInfo routeName="Fram Strait"/><waypoints>
<defaultWaypoint radius="0.5"><leg geometryType="Loxodrome"/></defaultWaypoint>
<waypoint id="1" name="Start"><position lat="75.0" lon="-10.0"/></waypoint>
<waypoint id="2" name="Middle"><position lat="78.5" lon="0"/><leg geometryType="Orthodrome"/></waypoint>
<waypoint id="3"><position lat="80.0" lon="5.0"/></waypoint></waypoints></route>"""
GPX = """<?xml version="1.0"?>
<gpx version="1.1" creator="x" xmlns="http://www.topografix.com/GPX/1/1"><rte><name>Fram Strait</name>
<rtept lat="75" lon="-10"><name>Start</name></rtept><rtept lat="78.5" lon="0"><name>Middle</name></rtept></rte>
<trk><trkseg><trkpt lat="1" lon="1"/><trkpt lat="2" lon="2"/></trkseg></trk></gpx>"""


def test_routes_are_read_from_all_formats(tmp_path: Path) -> None:
    (tmp_path / "a.rtz").write_text(RTZ)
    found = read_route(tmp_path / "a.rtz")
    assert found.name == "Fram Strait" and [leg.line for leg in found.legs] == ["great-circle", "rhumb"]
    assert [leg.name for leg in found.legs] == ["Start to Middle", "leg 2"]
    assert found.legs[0].start == (-10, 75) and found.legs[1].end == (5, 80)
    (tmp_path / "a.gpx").write_text(GPX)
    found = read_route(tmp_path / "a.gpx")
    assert [(leg.name, leg.start, leg.end, leg.line) for leg in found.legs] == [
        ("Start to Middle", (-10, 75), (0, 78.5), None)
    ]
    (tmp_path / "t.gpx").write_text(GPX.partition("<rte>")[0] + "<rte/>" + GPX.partition("</rte>")[2])
    assert [leg.end for leg in read_route(tmp_path / "t.gpx").legs] == [(2, 2)], "an empty route hides no track"
    lines = {"type": "MultiLineString", "coordinates": [[[0, 70], [180, 71]], [[-180, 71], [-170, 72, 5], [-170, 72]]]}
    (tmp_path / "m.geojson").write_text(json.dumps(lines))
    found = read_route(tmp_path / "m.geojson")
    assert [leg.name for leg in found.legs] == ["leg 1", "leg 2"] and found.name == "m"
    point = {
        "type": "Feature",
        "properties": {"name": "Ny-Ålesund"},
        "geometry": {"type": "Point", "coordinates": [12, 79]},
    }
    feature = {"type": "Feature", "properties": {"legs": ["Out"]}}
    feature |= {"geometry": {"type": "LineString", "coordinates": [[12, 79], [8, 80]]}}
    more = {
        "type": "Feature",
        "properties": None,
        "geometry": {"type": "LineString", "coordinates": [[8, 80], [12, 79]]},
    }
    content = {"type": "FeatureCollection", "features": [point, feature, more]}
    (tmp_path / "c.json").write_text(json.dumps(content))
    assert [leg.name for leg in read_route(tmp_path / "c.json").legs] == ["Out", "leg 2"]


def line(*points: Any, **more: Any) -> str:
    return json.dumps({"type": "LineString", "coordinates": points} | more)


BAD: dict[str, tuple[str, str]] = {
    "one point": (line([0, 75]), "two or more"),
    "twice the same point": (line([0, 75], [0, 75]), "two or more"),
    "metres": (line([500000, -1500000], [600000, -1500000]), "not a longitude and a latitude"),
    "latitude first": (line([75, -100], [76, -110]), "not a longitude and a latitude"),
    "not a number": ('{"type": "LineString", "coordinates": [[NaN, 75], [1, 75]]}', "not a longitude and a latitude"),
    "text": (line(["a", "b"], [0, 75]), "is not as GeoJSON is"),
    "true": (line([True, 75], [0, 75]), "is not as GeoJSON is"),
    "another CRS": (line([0, 75], [1, 75], crs={"type": "name", "properties": {"name": "EPSG:3413"}}), "another CRS"),
    "a polygon": ('{"type": "Polygon", "coordinates": [[[0, 75], [1, 75], [1, 76], [0, 75]]]}', "no line"),
    "a list": ("[1, 2]", "not an object"),
    "not JSON": ("waypoints: 1", "not readable JSON.*GPX"),
    "nothing": ("", "not readable JSON"),
    "too many": (line(*[[i / 100, 75] for i in range(10_001)]), "10,001 waypoints"),
    "an entity": ('<!DOCTYPE r [<!ENTITY e SYSTEM "file:///etc/passwd">]><route>&e;</route>', "document type"),
    "other XML": ("<kml/>", "not RTZ or GPX"),
    "RTZ without a position": ("<route><waypoints><waypoint/></waypoints></route>", "is not as an RTZ or GPX file is"),
    "an unknown line": (RTZ.replace("Orthodrome", "Spline"), "is not as an RTZ or GPX file is"),
    "broken XML": ("<route>", "not readable XML"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_routes_are_refused(case: str, tmp_path: Path) -> None:
    content, words = BAD[case]
    path = tmp_path / "bad.geojson"
    path.write_text(content)
    with pytest.raises(RouteError, match=words) as caught:
        read_route(path)
    assert caught.value.path == path


def test_other_input_is_refused_and_nothing_is_written(four: Path, tmp_path: Path) -> None:
    inside = write_route(tmp_path / "in.geojson", on_earth((0.1, 0.5), (0.9, 0.5)))
    outside = write_route(tmp_path / "out.geojson", [[10, 60], [11, 61]])
    out = tmp_path / "results"
    with pytest.raises(RouteError, match=r"lies outside of the chart.*60°N to 61°N, 10°E to 11°E"):
        floemap.assess_route(four, outside, "PC7", out)
    with pytest.raises(ConfigError, match="Did you mean 'PC7'"):
        floemap.assess_route(four, inside, "PC77", out)
    with pytest.raises(ConfigError, match="no kind of line 'straight'"):
        floemap.assess_route(four, inside, "PC7", out, lines="straight")  # type: ignore[arg-type]
    empty = write_chart(tmp_path / "land.gpkg", [other("L"), other("N")])
    with pytest.raises(ChartError, match="no polygon of ice or water"):
        floemap.assess_route(empty, inside, "PC7", out)
    (tmp_path / "folder").mkdir()
    with pytest.raises(ChartError, match=r"without chart.json or publication.json"):
        floemap.assess_route(tmp_path / "folder", inside, "PC7", out)
    assert not out.exists()


def test_a_finished_route_is_skipped_and_nothing_foreign_replaced(four: Path, tmp_path: Path) -> None:
    route = write_route(tmp_path / "r.geojson", on_earth((0.1, 0.5), (0.9, 0.5)))
    done = floemap.assess_route(four, route, "PC7", tmp_path)
    assert not done.skipped
    again = floemap.assess_route(four, route, "pc 7", tmp_path)
    assert again.skipped and again.facts["legs"] == done.facts["legs"]
    assert not floemap.assess_route(four, route, "PC7", tmp_path, lines="great-circle").skipped
    (done.folder / "mine.txt").write_text("mine")
    with pytest.raises(OutputError):
        floemap.assess_route(four, route, "PC7", tmp_path, overwrite=True)
    assert (done.folder / "mine.txt").read_text() == "mine"


def test_names_from_outside_do_no_harm(four: Path, tmp_path: Path, drawn: None) -> None:
    evil = ["=HYPERLINK(1)", "\x1b[31m$\\alpha$\u202e<script>"]
    route = write_route(tmp_path / "r.geojson", on_earth((0.1, 0.5), (0.9, 0.5)), waypoints=evil, name="@SUM(1)\n,")
    done = CliRunner().invoke(app, ["route", str(four), str(route), "--ice-class", "PC7", "--out", str(tmp_path)])
    assert done.exit_code == 0 and "\x1b" not in done.output and "\u202e" not in done.output
    folder = tmp_path / "r_PC7"
    with (folder / "legs.csv").open(encoding="utf-8") as f:
        name = next(csv.DictReader(f))["name"]
    assert name == "'=HYPERLINK(1) to [31m$\\alpha$ <script>"
    for path in folder.iterdir():
        if path.suffix != ".png":
            assert not {"\x1b", "\u202e"} & set(path.read_text(encoding="utf-8"))


def test_the_command_answers_programs_in_json(four: Path, tmp_path: Path) -> None:
    route = write_route(tmp_path / "r.geojson", on_earth((0.1, 0.5), (2.9, 0.5)))
    words = ["route", str(four), str(route), "--ice-class", "PC7", "--out", str(tmp_path), "--json"]
    document = json.loads(CliRunner().invoke(app, words).stdout)
    assert document["worst_leg"]["rio_worst"] == -30 and document["finished_before"] is False
    assert document["legs"][0]["nm"] == document["total"]["nm"]
    assert json.loads(CliRunner().invoke(app, words).stdout)["finished_before"] is True
