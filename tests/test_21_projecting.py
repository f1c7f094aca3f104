"""Polygons on another map: edges stay where they were, neighbours stay neighbours, dateline and pole are no borders."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyproj
import pytest
import shapely
from affine import Affine
from chart_maker import ice, write_chart
from hypothesis import given, settings
from hypothesis import strategies as st
from odc.geo.geobox import GeoBox

from floemap.errors import ChartError
from floemap.icechart.label.rasterize import rasterize_polygons
from floemap.icechart.read.sigrid3 import read_chart
from floemap.icechart.reproject import project

GEO = pyproj.CRS("EPSG:4326")
POLAR = pyproj.CRS("EPSG:3413")
SOUTH = pyproj.CRS("EPSG:3031")
LCC = pyproj.CRS("+proj=lcc +lat_0=40 +lon_0=-100 +lat_1=49 +lat_2=77 +datum=WGS84 +units=m")


def projected(polygon: Any, source: pyproj.CRS = GEO, target: pyproj.CRS = POLAR, tolerance_m: float = 1.0) -> Any:
    return project(np.array([polygon]), source, target, tolerance_m)[0]


def common_share(a: Any, b: Any) -> float:
    """Area of the intersection over that of the union."""
    a, b = shapely.make_valid(a), shapely.make_valid(b)
    return shapely.intersection(a, b).area / shapely.union(a, b).area


@pytest.mark.parametrize(
    ("source", "polygon"),
    [
        (LCC, shapely.box(-5e5, 3e6, 1.5e6, 5e6)),
        (GEO, shapely.box(-60, 60, 20, 85)),
        (POLAR, shapely.box(-2e6, -1.5e6, 2e6, 5e5)),
    ],
)
@pytest.mark.parametrize("tolerance_m", [1.0, 50.0])
def test_no_point_of_an_edge_moves_by_more_than_the_tolerance(
    source: pyproj.CRS, polygon: Any, tolerance_m: float
) -> None:
    target = LCC if source == POLAR else POLAR
    if source == POLAR:
        polygon = shapely.box(-2e6, -2.5e6, 5e5, -1e6)  # away from the pole, which has no place of its own in LCC
    ring = projected(polygon, source, target, tolerance_m).exterior
    dense = shapely.get_coordinates(shapely.segmentize(polygon.exterior, polygon.exterior.length / 5000))
    x, y = pyproj.Transformer.from_crs(source, target, always_xy=True).transform(*dense.T)
    off = shapely.distance(ring, shapely.points(x, y))
    assert off.max() <= tolerance_m
    # And it does so with vertices in proportion to what it takes, a square-root law.
    assert shapely.get_num_coordinates(ring) < 20 + 4 * np.sqrt(ring.length / tolerance_m)


@settings(max_examples=30, deadline=None)
@given(st.floats(-180, 170), st.floats(55, 84), st.floats(0.5, 60), st.floats(0.5, 5))
def test_neighbours_share_their_border(lon: float, lat: float, width: float, height: float) -> None:
    lower = shapely.box(lon, lat, lon + width, lat + height)
    upper = shapely.box(lon, lat + height, lon + width, lat + 2 * height)
    if lat + 2 * height > 89:
        return
    a, b = project(np.array([lower, shapely.reverse(upper)]), GEO, POLAR, 10.0)
    assert shapely.union(a, b).area == pytest.approx(a.area + b.area, rel=1e-9)
    assert len(shapely.get_rings(shapely.union(a, b, grid_size=1e-3))) == 1


def test_there_and_back_is_the_same() -> None:
    polygon = shapely.Point(1e6, 4e6).buffer(4e5, quad_segs=6).difference(shapely.Point(1e6, 4e6).buffer(1e5))
    back = projected(projected(polygon, LCC, POLAR, 0.5), POLAR, LCC, 0.5)
    assert shapely.symmetric_difference(back, polygon).area < 1.0 * polygon.length
    assert len(back.interiors) == 1


def test_the_same_crs_changes_nothing() -> None:
    polygons = np.array([shapely.box(0, 0, 1e6, 1e6)])
    assert project(polygons, POLAR, POLAR, 1.0) is polygons


JUMPING = shapely.Polygon([(170, 70), (-170, 70), (-170, 75), (170, 75)])
CONTINUOUS = shapely.Polygon([(170, 70), (190, 70), (190, 75), (170, 75)])
WESTERN = shapely.Polygon([(-190, 70), (-170, 70), (-170, 75), (-190, 75)])
SPLIT = shapely.MultiPolygon([shapely.box(170, 70, 180, 75), shapely.box(-180, 70, -170, 75)])
WITH_SEAM = shapely.Polygon(
    [(170, 70), (180, 70), (-180, 70), (-170, 70), (-170, 75), (-180, 75), (180, 75), (170, 75)]
)


@pytest.mark.parametrize("polygon", [JUMPING, CONTINUOUS, WESTERN, SPLIT, WITH_SEAM])
def test_the_dateline_is_no_border(polygon: Any) -> None:
    # The same shape, turned by 100 degrees to where there is no dateline, and back on the map.
    away = projected(shapely.box(70, 70, 90, 75))
    turned = shapely.affinity.rotate(away, 100, origin=(0, 0))
    assert common_share(projected(polygon), turned) > 1 - 1e-5


def _circle(lat: float, step: float) -> Any:
    return shapely.Polygon([(lon, lat) for lon in np.arange(-180, 180, step)])


CAP_RING = _circle(80, 10)
CAP_SEAM = shapely.Polygon([*((lon, 80) for lon in range(-180, 181, 10)), (180, 90), (-180, 90)])
CAP_BOX = shapely.box(-180, 80, 180, 90)


@pytest.mark.parametrize("polygon", [CAP_RING, CAP_SEAM, CAP_BOX, shapely.reverse(CAP_RING)])
def test_a_polygon_closes_round_the_pole(polygon: Any) -> None:
    radius = np.hypot(*pyproj.Transformer.from_crs(GEO, POLAR, always_xy=True).transform(0, 80))
    cap = shapely.make_valid(projected(polygon))
    assert cap.area == pytest.approx(np.pi * radius**2, rel=1e-4)
    assert shapely.contains_xy(cap, 1000.0, 1000.0)
    assert not shapely.contains_xy(cap, radius, radius)


def test_a_hole_round_the_pole() -> None:
    ring = shapely.Polygon(CAP_RING.exterior.coords, [_circle(85, 5).exterior.coords])
    around = shapely.make_valid(projected(ring))
    assert not shapely.contains_xy(around, 1000.0, 1000.0)
    assert around.area == pytest.approx(projected(CAP_RING).area - projected(_circle(85, 5)).area)


def test_the_south_has_a_pole_too() -> None:
    cap = shapely.Polygon([(lon, -75) for lon in range(-180, 180, 5)])
    assert shapely.contains_xy(projected(cap, GEO, SOUTH), 10.0, 10.0)


def test_what_has_no_place_is_refused() -> None:
    with pytest.raises(ChartError, match=r"has no position in WGS 84 / NSIDC"):
        projected(shapely.box(0, -90, 10, -80))
    with pytest.raises(ChartError, match="a vertex is at 500000, 7e"):
        projected(shapely.box(0, 0, 5e5, 7e6))
    with pytest.raises(ChartError, match="crosses a discontinuity of lambert conic conformal"):
        projected(shapely.box(5e5, 1e6, 2e6, 2e6), POLAR, LCC)  # across 80 degrees east, the back of that cone


@pytest.mark.parametrize(
    ("polygons", "south"),
    [
        ([JUMPING, SPLIT, CONTINUOUS], False),
        ([CAP_RING, CAP_SEAM, CAP_BOX], False),
        ([shapely.box(0, -80, 20, -70), shapely.box(0, -80, 20, -70)], True),
    ],
)
def test_charts_across_dateline_and_pole_are_drawn_the_same_however_written(
    tmp_path: Path, polygons: list[Any], south: bool
) -> None:
    drawn = []
    for i, polygon in enumerate(polygons):
        chart = read_chart(write_chart(tmp_path / f"{i}.gpkg", [ice(SA="95")], [polygon], crs="EPSG:4326"))
        assert chart.crs.to_epsg() == (3031 if south else 3413)
        assert chart.source_crs.to_epsg() == 4326
        # Seams are healed; what has none is left alone.
        assert chart.report.repaired == (polygon in (CAP_SEAM, CAP_BOX, SPLIT))
        geobox = GeoBox((200, 200), Affine(25_000, 0, -2.5e6, 0, -25_000, 2.5e6), chart.crs.to_wkt())
        drawn.append(rasterize_polygons(chart, geobox) > 0)
    area_m2 = shapely.area(chart.geometries[0])
    for other in drawn:
        # The ring round the pole is cut straight at its seam where the others are not: pixels on that edge may differ.
        assert np.count_nonzero(other != drawn[0]) <= 2
        assert np.count_nonzero(other) * 25_000**2 == pytest.approx(area_m2, rel=0.01)
