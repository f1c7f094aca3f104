"""Real charts of 2013 and 2014, and AI4Arctic's codes. What each proves: docs/real-data.md.

The charts are read a second time here, byte by byte, from the published forms of dBASE and shapefile, without GDAL.
"""

from __future__ import annotations

import struct
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyproj
import pytest
import rasterio
import shapely
from odc.geo.geobox import GeoBox
from real_files import AI4ARCTIC, CHARTS, COUNTS, ai4arctic_counts, ai4arctic_scene

from floemap.cog import Band, write_cog
from floemap.errors import ChartError
from floemap.icechart.dominant_type import Rule, class_ids, ice_types
from floemap.icechart.label.label import label_chart
from floemap.icechart.label.rasterize import rasterize_labels
from floemap.icechart.label.settings import LabelSettings
from floemap.icechart.read.sigrid3 import read_chart
from floemap.icechart.reproject import project
from floemap.info import describe
from floemap.legend import AI4ARCTIC as LEGEND
from floemap.legend import ICE_WATER, IGNORE, SIX_CLASSES, STAGES
from floemap.results.stage import read_json

PATHS = sorted(CHARTS.glob("*.shp"))
DEGREES = "EPSG:4326"
EQUAL_AREA = "+proj=laea +lat_0=90 +lon_0=-45 +datum=WGS84 +units=m"
PIXEL_M = 1000.0
CODES = ("CT", "CA", "SA", "CB", "SB", "CC", "SC", "CN", "CD")

charts_are_here = pytest.mark.skipif(not PATHS, reason="no real charts here")
every_chart = pytest.mark.parametrize("path", PATHS, ids=[p.stem for p in PATHS])


def dbase_rows(path: Path) -> list[dict[str, str]]:
    """Read a table in dBASE III's form: a header of 32 bytes, one of 32 for each column, rows of fixed width."""
    content = path.with_suffix(".dbf").read_bytes()
    rows, header, width = struct.unpack("<IHH", content[4:12])
    columns = []
    for at in range(32, header - 1, 32):
        columns.append((content[at : at + 11].split(b"\0")[0].decode("ascii"), content[at + 16]))
    table = []
    for first in range(header, header + rows * width, width):
        at, row = first + 1, {}
        for name, length in columns:
            row[name], at = content[at : at + length].decode("ascii").strip(), at + length
        table.append(row)
    return table


def shapefile_rings(path: Path) -> Iterator[list[np.ndarray]]:
    """Read polygons in ESRI's form (white paper, 1998): of each its rings, (n, 2) of longitude and latitude."""
    content = path.read_bytes()
    at = 100
    while at < len(content):
        (words,) = struct.unpack(">i", content[at + 4 : at + 8])
        kind, parts, points = struct.unpack("<i32x2i", content[at + 8 : at + 52])
        assert kind == 5
        starts = np.frombuffer(content, "<i4", parts, at + 52)
        vertices = np.frombuffer(content, "<f8", 2 * points, at + 52 + 4 * parts).reshape(points, 2)
        yield np.split(vertices, starts[1:])
        at += 8 + 2 * words


def ellipsoid_km2(rings: list[np.ndarray]) -> float:
    """Area on the ellipsoid, edges straight in longitude and latitude: shells run clockwise, holes against it."""
    geod = pyproj.Geod(ellps="WGS84")
    dense = [shapely.get_coordinates(shapely.segmentize(shapely.linestrings(r), 0.05)) for r in rings]
    return -sum(geod.polygon_area_perimeter(*ring.T)[0] for ring in dense) / 1e6


def stages_by_hand(row: dict[str, str]) -> set[int] | str:
    """Return the stages of development that an analyst gave a polygon, or that it is water, or that nothing is said."""
    if row["POLY_TYPE"] == "W" or row["CT"] in ("0", "1", "00", "01", "55"):
        return "water"
    return {int(row[c]) for c in ("SA", "SB", "SC", "CD") if row[c] not in ("", "-9")} or "nothing"


@charts_are_here
@every_chart
def test_codes_are_those_in_the_file(path: Path) -> None:
    chart, rows = read_chart(path, crs=DEGREES), dbase_rows(path)
    assert len(chart) == len(rows)
    for column in CODES:
        assert chart.codes(column.lower()).tolist() == [int(r[column] or -9) for r in rows]
    assert chart.polygons["poly_type"].tolist() == [r["POLY_TYPE"] for r in rows]
    assert chart.report.odd_codes == {}


@charts_are_here
@every_chart
def test_polygons_of_one_type_have_it(path: Path) -> None:
    types, rows = ice_types(read_chart(path, crs=DEGREES)), dbase_rows(path)
    for i, row in enumerate(rows):
        said = stages_by_hand(row)
        if said == "water":
            assert types.rule[i] == Rule.WATER, row
            assert (types.stage[i], types.water[i]) == (-9, 1), row
        elif len(said) == 1:
            assert types.rule[i] == Rule.SINGLE, row
            assert {int(types.stage[i])} == said, row
            assert types.shares[i, 0] + types.water[i] == pytest.approx(1), row


@charts_are_here
def test_polygons_of_several_types_without_their_parts_have_no_known_type() -> None:
    # 57 of the 84 polygons of ice in these charts give two or three stages, and the concentration of none.
    found = 0
    for path in PATHS:
        chart = read_chart(path, crs=DEGREES)
        types, first = ice_types(chart), ice_types(chart, without_parts="first")
        several = []
        for i, row in enumerate(dbase_rows(path)):
            said = stages_by_hand(row)
            if isinstance(said, set) and len(said) > 1 and {row["CA"], row["CB"], row["CC"]} == {"-9"}:
                several.append(i)
                assert (types.rule[i], types.stage[i]) == (Rule.UNKNOWN_PARTS, -9), row
                assert (types.shares[i] == 0).all() and types.water[i] < 1, row
                assert (first.rule[i], first.stage[i]) == (Rule.SINGLE, int(row["SA"])), row
        assert types.without_parts == tuple(several) == first.without_parts
        found += len(several)
    assert found == 57


@charts_are_here
@every_chart
def test_drawn_areas_are_the_polygons(path: Path) -> None:
    chart = read_chart(path, crs=DEGREES)
    polygons = project(chart.geometries, chart.crs, pyproj.CRS(EQUAL_AREA), 1.0)
    areas = np.array([ellipsoid_km2(rings) for rings in shapefile_rings(path)])
    np.testing.assert_allclose(shapely.area(polygons) / 1e6, areas, rtol=2e-4)
    box = GeoBox.from_bbox(shapely.total_bounds(polygons).tolist(), EQUAL_AREA, resolution=PIXEL_M)
    drawn_km2 = np.bincount(rasterize_labels(chart, box, ICE_WATER).ravel(), minlength=256) * PIXEL_M**2 / 1e6
    ids = class_ids(ice_types(chart), ICE_WATER)
    for label in np.unique(ids[ids != IGNORE]):
        assert drawn_km2[label] == pytest.approx(areas[ids == label].sum(), rel=1e-3)


@charts_are_here
def test_most_charts_do_not_say_their_crs() -> None:
    without = [p for p in PATHS if not p.with_suffix(".prj").exists()]
    assert (len(PATHS), len(without)) == (6, 5)
    for path in without:
        with pytest.raises(ChartError, match=r"no CRS.*--crs"):
            read_chart(path)
    (said,) = set(PATHS) - set(without)
    described = dict(describe(said).lines)
    assert described["CRS"] == "WGS 84 (EPSG:4326)"
    rows = Counter(r["POLY_TYPE"] for r in dbase_rows(said))
    assert described["Polygons"].startswith(f"{rows.total()} ({rows['W']} water, {rows['I']} ice)")


@charts_are_here
def test_a_chart_becomes_labels_on_a_grid(tmp_path: Path) -> None:
    path = CHARTS / "201405011000_SouthWest_RIC.shp"
    box = GeoBox.from_bbox((-800_000, -3_000_000, 0, -2_200_000), "EPSG:3413", resolution=4000)
    write_cog(tmp_path / "grid.tif", box, np.ones(box.shape, np.uint8), [Band("any")], nodata=0)
    made = label_chart(path, tmp_path / "grid.tif", tmp_path, LabelSettings(crs=DEGREES, fractions=True))
    with rasterio.open(made.raster) as d, rasterio.open(made.folder / "fractions.tif") as shares:
        labels, fractions = d.read(1), shares.read()
    record = read_json(made.record)
    assert record["chart"]["polygons"] == len(dbase_rows(path))
    # In this chart first-year ice is all the ice that has a class; glacier ice beside it has none.
    first_year, water = (
        next(c.id for c in SIX_CLASSES.classes if c.key == k) for k in ("first_year_ice", "open_water")
    )
    assert set(np.unique(labels)) == {first_year, water, IGNORE}
    assert (fractions[water][labels == water] == 100).all()
    # Thin first-year ice in 4 to 6, 7 to 8 and ten tenths, medium in 9 to 10: the middle of each, the rest is water.
    shares = {int(x) for x in np.unique(fractions[first_year][labels == first_year])}
    assert {50, 75, 95, 100} <= shares
    assert (fractions[first_year] + fractions[water])[labels == first_year].max() == 100


#: AI4Arctic's classes of stage of development by SIGRID-3 code, as its starter pack has them: 0 water, 1 new ice,
#: 2 young, 3 thin first-year, 4 thick first-year, 5 old; no class for glacier ice and undetermined.
AI4ARCTIC_CLASSES = {80: 0, 81: 1, 82: 1, 83: 2, 84: 2, 85: 2, 87: 3, 88: 3, 89: 3, 86: 4, 91: 4, 93: 4} | {
    95: 5, 96: 5, 97: 5, 98: IGNORE, 99: IGNORE,
}  # fmt: skip


def test_ai4arctics_codes_have_its_classes() -> None:
    assert LEGEND.stage_to_class == AI4ARCTIC_CLASSES
    assert set(LEGEND.stage_to_class) == set(STAGES)
    assert LEGEND.water == 0


@pytest.mark.skipif(not COUNTS.is_dir(), reason="no counts of AI4Arctic here")
def test_ai4arctics_counts_are_of_the_legends_classes() -> None:
    counts = ai4arctic_counts()
    assert len(counts["scenes"]) == 513
    seen = {int(k) for scene in counts["scenes"].values() for k in scene["SOD"]}
    assert seen == {c.id for c in LEGEND.classes} | {IGNORE}
    for scene in counts["scenes"].values():
        # All three charts of a scene have its pixels, and no ice has no stage: the classes of water are one.
        totals = {chart: sum(found.values()) for chart, found in scene.items()}
        assert len(set(totals.values())) == 1
        assert scene["SOD"].get("0", 0) == scene["SIC"].get("0", 0)


@pytest.mark.skipif(not (AI4ARCTIC.is_dir() and COUNTS.is_dir()), reason="no scene of AI4Arctic here")
def test_the_ai4arctic_scene_is_the_counted_one() -> None:
    scene, counted = ai4arctic_scene(), ai4arctic_counts()["scenes"]["20180607T184326_dmi_bins.npy"]
    sod = scene["SOD"]
    # A picture's borders between colours give other classes: some of a hundred pixels each. The rest is two classes.
    pixels = {c.key: int((sod == c.id).sum()) for c in LEGEND.classes}
    assert {k for k, n in pixels.items() if n > 0.005 * sod.size} == {"open_water", "thick_first_year_ice"}
    assert {LEGEND.classes[int(k)].key for k in counted["SOD"] if k != str(IGNORE)} == {
        "open_water",
        "thick_first_year_ice",
    }
    for chart in ("SIC", "FLOE"):
        total = sum(counted[chart].values())
        for code, number in counted[chart].items():
            if code not in ("10", str(IGNORE)):  # the picture has a fringe of land more, beside ice of ten tenths
                assert (scene[chart] == int(code)).mean() == pytest.approx(number / total, abs=0.007), (chart, code)


def test_six_classes_and_ai4arctic_differ_only_in_how_fine_they_are() -> None:
    # Each of AI4Arctic's classes lies in one of ours, but its new ice, which holds nilas; ours of first-year is two.
    coarse = {c.id: {SIX_CLASSES.stage_to_class.get(s) for s in c.stages - {80}} for c in LEGEND.classes}
    assert coarse == {0: set(), 1: {0, 1}, 2: {2}, 3: {3}, 4: {3}, 5: {4}}
