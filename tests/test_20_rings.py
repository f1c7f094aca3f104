"""Repair of polygons: whichever way rings are wound, and whatever is wrong with them, what they enclose is kept."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import pytest
import shapely
from chart_maker import BOTTOM, LEFT, SIDE_M, grid, ice, write_chart
from hypothesis import given, settings
from hypothesis import strategies as st
from shapefile_maker import Ring, square, write_rings

from floemap.errors import ChartError
from floemap.icechart.land import land_on
from floemap.icechart.read.rings import near_each, repaired
from floemap.icechart.read.sigrid3 import read_chart

SHARED = Path(__file__).resolve().parents[2] / "shared" / "cases"


def even_odd(rings: list[Ring]) -> Any:
    """What is within an odd number of rings: how polygons are meant, however they are wound."""
    region: Any = shapely.Polygon()
    for ring in rings:
        region = region.symmetric_difference(shapely.Polygon(ring))
    return region


#: A shell with two holes, an island in one of them with a pond, and another shell beside.
NESTED = [(0, 0, 60), (2, 2, 20), (30, 30, 25), (5, 5, 10), (8, 8, 2), (70, 0, 12), (72, 3, 4)]


def nested(directions: list[bool], order: list[int]) -> list[Ring]:
    rings = [
        square(LEFT + 1000 * x, BOTTOM + 1000 * y, 1000 * s, clockwise=d)
        for (x, y, s), d in zip(NESTED, directions, strict=True)
    ]
    return [rings[i] for i in order]


@settings(max_examples=60, deadline=None)
@given(st.lists(st.booleans(), min_size=7, max_size=7), st.permutations(range(7)))
def test_winding_and_order_do_not_matter(tmp_path_factory: Any, directions: list[bool], order: list[int]) -> None:
    rings = nested(directions, order)
    path = write_rings(tmp_path_factory.mktemp("rings") / "c.shp", [rings])
    (read,) = read_chart(path).geometries
    assert read.is_valid
    assert read.symmetric_difference(even_odd(rings)).area == 0


@settings(max_examples=60, deadline=None)
@given(st.lists(st.booleans(), min_size=7, max_size=7), st.permutations(range(7)), st.booleans())
def test_nor_does_what_a_file_calls_them(directions: list[bool], order: list[int], parts: bool) -> None:
    """Formats that name shells and holes may name them wrongly, too, when they come from a shapefile."""
    rings = nested(directions, order)
    wrong = shapely.MultiPolygon([shapely.Polygon(r) for r in rings]) if parts else shapely.Polygon(rings[0], rings[1:])
    (made,) = repaired(np.array([wrong], object), [7])
    assert made.is_valid
    assert made.symmetric_difference(even_odd(rings)).area == 0


@pytest.mark.parametrize("suffix", [".shp", ".gpkg", ".geojson", ".fgb"])
@pytest.mark.parametrize("reverse", [False, True])
def test_a_land_mask_keeps_its_lakes(tmp_path: Path, suffix: str, reverse: bool) -> None:
    rings = nested([reverse] * 7, list(range(7)))
    path = tmp_path / f"land{suffix}"
    if suffix == ".shp":
        write_rings(path, [rings], [ice() | {"POLY_TYPE": "L"}])
    else:
        shape = shapely.MultiPolygon([shapely.Polygon(r) for r in rings])
        options = {"SPATIAL_INDEX": "NO"} if suffix == ".fgb" else {}
        gpd.GeoDataFrame({"a": [1]}, geometry=[shape], crs=3413).to_file(path, engine="pyogrio", **options)
    land = land_on(path, grid(pixel_m=1000))
    assert land.sum() == round(even_odd(rings).area / 1e6)


@settings(max_examples=150, deadline=None)
@given(st.lists(st.lists(st.tuples(*[st.integers(0, 9)] * 2), min_size=3, max_size=8), min_size=1, max_size=4))
def test_what_has_an_area_keeps_one(rings: list[list[tuple[int, int]]]) -> None:
    """Any rings at all: what is repaired is valid, within the rings, and not less than the largest lets through."""
    places = [np.array([*ring, ring[0]], float) for ring in rings]
    wrong = shapely.Polygon(places[0], places[1:])
    (made,) = repaired(np.array([wrong], object), [1])
    whole = [shapely.make_valid(shapely.Polygon(p), method="structure", keep_collapsed=False) for p in places]
    assert made.is_valid and made.geom_type in ("Polygon", "MultiPolygon")
    assert made.difference(shapely.union_all(whole).buffer(1e-6)).area == 0
    areas = sorted((w.area for w in whole), reverse=True)
    assert (made.area > 0) == (areas[0] > 0)


def test_a_ring_that_is_there_twice_is_one() -> None:
    box = shapely.box(0, 0, 10, 10)
    for twice in (shapely.MultiPolygon([box, box]), shapely.Polygon(box.exterior, [box.exterior])):
        assert repaired(np.array([twice], object), [1])[0].equals(box)


def test_rings_that_cross_are_what_the_file_calls_them() -> None:
    shell, beyond = shapely.box(0, 0, 10, 10), shapely.box(6, 4, 12, 6)
    hole = shapely.Polygon(shell.exterior, [beyond.exterior])
    assert repaired(np.array([hole], object), [1])[0].equals(shell.difference(beyond))
    both = shapely.MultiPolygon([shell, beyond])
    assert repaired(np.array([both], object), [1])[0].equals(shell.union(beyond))
    # The other way round throughout: then the largest is the shell all the same.
    other = shapely.Polygon(beyond.exterior, [shell.exterior])
    assert repaired(np.array([other], object), [1])[0].area == pytest.approx(shell.difference(beyond).area)


@pytest.mark.parametrize(
    ("ring", "area"),
    [
        ([(0, 0), (0, 4), (4, 4), (4, 0)], 16),  # not closed
        ([(0, 0), (0, 4), (4, 4), (4, 0), (np.nan, 1)], 16),
        ([(0, 0), (0, 4), (4, 4), (4, 0), (-1.797e308, -1.797e308), (0, 0)], 16),  # "no data" in shapefiles
        ([(0, 0), (0, 4), (np.inf, 4), (4, 4), (4, 0), (0, 0)], 16),
        ([(0, 0), (4, 4), (4, 0), (0, 4), (0, 0)], 8),  # a bow tie
    ],
)
@pytest.mark.parametrize("suffix", [".shp", ".gpkg"])
def test_a_broken_ring_is_mended_and_named(
    tmp_path: Path, ring: Any, area: float, suffix: str, caplog: pytest.LogCaptureFixture
) -> None:
    broken, whole = np.array(ring, float), square(100, 0, 4, clockwise=True)
    path = write_rings(tmp_path / "c.shp", [[whole], [broken]])
    if suffix == ".gpkg":
        path = _geopackage_of(tmp_path / "c.gpkg", [whole, broken])
    chart = read_chart(path)
    assert shapely.area(chart.geometries).tolist() == [16, area]
    assert chart.report.repaired == 1
    number = chart.polygons.index[1]
    assert chart.report.repaired_ids == (number,)
    assert f"1 polygon has invalid geometry, which is repaired: {number}" in caplog.text


def _geopackage_of(path: Path, rings: list[Ring]) -> Path:
    """A GeoPackage with polygons of one ring each, as bytes: GDAL would close them."""
    import sqlite3
    import struct
    from contextlib import closing

    write_chart(path, [ice(SA="95")] * len(rings), [shapely.box(0, 0, 1, 1)] * len(rings))
    with closing(sqlite3.connect(path)) as db, db:
        db.execute("DROP TRIGGER IF EXISTS rtree_c_geom_update6")
        for name in [n for (n,) in db.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'")]:
            db.execute(f'DROP TRIGGER "{name}"')
        for number, ring in enumerate(rings, 1):
            blob = b"GP\0\1" + struct.pack("<iBIII", 3413, 1, 3, 1, len(ring)) + ring.astype("<f8").tobytes()
            db.execute("UPDATE c SET geom = ? WHERE fid = ?", (blob, number))
    return path


def test_what_would_take_for_ever_is_refused_by_number() -> None:
    star = shapely.Polygon(np.random.default_rng(0).random((3000, 2)) * 1e5)
    with pytest.raises(ChartError, match="polygon 12: its border crosses itself too often"):
        repaired(np.array([star], object), [12])
    many = shapely.Polygon(np.random.default_rng(0).random((300, 2)) * 1e5)
    with pytest.raises(ChartError, match=r"polygon \d+: its border"):  # each alone is short work, all of them are not
        repaired(np.array([many] * 100, object), list(range(100)))
    within = [square(i, i, 20_000 - 2 * i, clockwise=True) for i in range(5000)]
    with pytest.raises(ChartError, match="polygon 4: too many of its rings lie within each other"):
        repaired(np.array([shapely.MultiPolygon([shapely.Polygon(r) for r in within])], object), [4])


def test_many_lakes_are_no_trouble() -> None:
    lakes = [square(3.0 * i, 3.0 * j, 1, clockwise=True) for i in range(100) for j in range(100)]
    rings = [square(-1, -1, 302, clockwise=True), *lakes]
    (made,) = repaired(np.array([shapely.MultiPolygon([shapely.Polygon(r) for r in rings])], object), [1])
    assert made.area == 302**2 - 100**2
    assert near_each(np.array([shapely.Polygon(r) for r in rings], object)) < 4


@pytest.mark.skipif(not SHARED.exists(), reason="no cases here")
@pytest.mark.parametrize("name", ["all-reversed", "both-ccw", "same-winding"])
def test_real_kinds_of_winding(name: str) -> None:
    chart = read_chart(SHARED / "15-ring-winding" / name / f"{name}.shp")
    assert shapely.area(chart.geometries)[0] == SIDE_M**2 - (SIDE_M / 2) ** 2


@pytest.mark.skipif(not SHARED.exists(), reason="no cases here")
def test_a_real_kind_of_unclosed_ring() -> None:
    chart = read_chart(SHARED / "24-unclosed-ring" / "c.shp")
    assert (chart.report.features, len(chart), chart.report.repaired_ids) == (61, 61, (0,))
