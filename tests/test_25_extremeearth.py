"""The dataset's tables, and the cut of a scene into halves."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pyproj
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st
from odc.geo.geobox import GeoBox

from floemap.datasets.extremeearth import scenes as ee
from floemap.datasets.extremeearth.scenes import Half
from floemap.datasets.extremeearth.split_halves import Cut, Footprint, half_mask, halves
from floemap.errors import ConfigError, GridError

POLE = "+proj=stere +lat_0=90 +lon_0={lon} +k=1 +datum=WGS84 +units=m"


def square(lon: float, lat: float, angle_deg: float, side_m: float = 400_000.0, n: int = 1) -> Footprint:
    """Make a footprint on the ground: a square about (lon, lat), one side facing `angle_deg` from true north."""
    t = np.linspace(-0.5, 0.5, n + 1)
    x, y = np.meshgrid(side_m * t, -side_m * t)
    azimuth = np.degrees(np.arctan2(x, y)) + angle_deg
    at = np.full(x.shape, lon), np.full(x.shape, lat)
    lon_deg, lat_deg, _ = pyproj.Geod(ellps="WGS84").fwd(*at, azimuth, np.hypot(x, y))
    return Footprint.from_grid(lon_deg, lat_deg)


def azimuth_deg(footprint: Footprint, polygon: shapely.Polygon, crs: pyproj.CRS) -> float:
    """Return the direction from the footprint's middle to a polygon's centroid, from true north."""
    to_geo = pyproj.Transformer.from_crs(crs, "EPSG:4326", always_xy=True)
    whole = shapely.union_all(list(halves(footprint, crs).values()))
    a, b = (to_geo.transform(p.centroid.x, p.centroid.y) for p in (whole, polygon))
    return pyproj.Geod(ellps="WGS84").inv(*a, *b)[0]


# The tables


def test_one_scene_a_month_and_every_name_is_a_well_formed_ew_product() -> None:
    assert [s.month for s in ee.SCENES] == list(range(1, 13))
    form = r"S1[AB]_EW_GRDM_1SDH_(\d{8}T\d{6})_(\d{8}T\d{6})_\d{6}_[0-9A-F]{6}_[0-9A-F]{4}"
    for s in ee.SCENES:
        match = re.fullmatch(form, s.product)
        assert match and match[1] < match[2]
        assert int(match[1][4:6]) == s.month
        assert s.chart == f"seaice_s1_{match[1].lower()}"
    assert {s.month for s in ee.SCENES if s.mission == "S1B"} == {2, 5, 8, 11}


def test_orbit_numbers_tell_the_same_order_as_the_dates() -> None:
    for mission in ("S1A", "S1B"):
        of_mission = [s for s in ee.SCENES if s.mission == mission]
        dates = [s.start for s in of_mission]
        orbits = [int(s.product.split("_")[6]) for s in of_mission]
        assert dates == sorted(dates) and orbits == sorted(orbits)
        # Sentinel-1 flies 175 orbits in 12 days, so dates and orbit numbers must agree to an orbit.
        days = np.diff(np.array([f"{d[:4]}-{d[4:6]}-{d[6:8]}T{d[9:11]}:{d[11:13]}" for d in dates], "datetime64[m]"))
        np.testing.assert_allclose(np.diff(orbits), days.astype(float) / 1440 * 175 / 12, atol=1)


def test_the_protocol_covers_every_scene_once() -> None:
    by_role = {role: [p.name for p in ee.PARTS if p.role == role] for role in ("train", "validation", "test")}
    assert by_role["test"] == ["01", "07"]
    assert by_role["validation"] == ["02-NE", "06-NE", "08-NE", "12-NE"]
    assert by_role["train"] == ["02-SW", "03", "04", "05", "06-SW", "08-SW", "09", "10", "11", "12-SW"]
    for scene in ee.SCENES:
        shares = [p.half for p in ee.PARTS if p.scene == scene]
        assert shares in ([None], ["SW", "NE"])


def test_names_lead_back_to_their_scenes() -> None:
    for s in ee.SCENES:
        assert ee.scene_of(s.month) is s
        assert ee.scene_of_product(s.product) is s
        assert ee.scene_of_product(s.product[:-4] + "ABCD_COG.SAFE") is s
        assert ee.scene_of_chart(s.chart.upper() + ".SHP") is s
        assert ee.scene_of_chart(s.chart) is s
    assert ee.scene_of_product("S1B" + ee.SCENES[0].product[3:]) is None
    assert ee.scene_of_chart(ee.SCENES[0].chart + "-NE.shp") is None


def test_months_are_read_and_refused() -> None:
    assert ee.months_from_text("7, 1") == (1, 7)
    assert ee.months_from_text("2-4,12,3") == (2, 3, 4, 12)
    assert ee.months_from_text("all") == ee.ALL_MONTHS
    for wrong in ("", "0", "13", "1;2", "4-2", "january", "-3"):
        with pytest.raises(ConfigError, match="months"):
            ee.months_from_text(wrong)


# The cut

anywhere = {
    "lon": st.floats(-180, 180),
    "lat": st.one_of(st.floats(60, 89.5), st.floats(-89.5, -60)),
    "angle": st.floats(0, 90),
    "cut": st.sampled_from(["sides", "corners"]),
    "n": st.sampled_from([1, 7]),
}


@settings(max_examples=60, deadline=None)
@given(**anywhere)
def test_halves_are_disjoint_and_together_the_footprint(lon: float, lat: float, angle: float, cut: Cut, n: int) -> None:
    footprint = square(lon, lat, angle, n=n)
    crs = pyproj.CRS("EPSG:3413" if lat > 0 else "EPSG:3031")
    parts = halves(footprint, crs, cut=cut)
    edge = pyproj.Transformer.from_crs("EPSG:4326", crs, always_xy=True).transform(*footprint.edge_lonlat_deg.T)
    whole = shapely.Polygon(np.stack(edge, axis=-1))
    assert parts["SW"].intersection(parts["NE"]).area < 1e-6 * whole.area
    assert shapely.union_all(list(parts.values())).symmetric_difference(whole).area < 1e-6 * whole.area
    # A square's halves are alike: the map stretches one side of 400 km against the other by a few per cent at most.
    assert 0.95 < parts["SW"].area / parts["NE"].area < 1.05


@settings(max_examples=60, deadline=None)
@given(**anywhere)
def test_the_north_eastern_half_lies_to_the_north_east(lon: float, lat: float, angle: float, cut: Cut, n: int) -> None:
    footprint = square(lon, lat, angle, side_m=100_000, n=n)
    crs = pyproj.CRS("EPSG:3413" if lat > 0 else "EPSG:3031")
    parts = halves(footprint, crs, cut=cut)
    # A square has a side and a corner within 45 degrees of any direction.
    wanted_deg: dict[Half, int] = {"NE": 45, "SW": 225}
    for half, wanted in wanted_deg.items():
        off = (azimuth_deg(footprint, parts[half], crs) - wanted + 180) % 360 - 180
        assert abs(off) < 47


@settings(max_examples=40, deadline=None)
@given(**anywhere, centre_lon=st.floats(-180, 180))
def test_the_cut_is_the_same_line_in_every_polar_crs(
    lon: float, lat: float, angle: float, cut: Cut, n: int, centre_lon: float
) -> None:
    footprint = square(lon, abs(lat), angle, n=n)
    a_crs, b_crs = pyproj.CRS(ee.CRS), pyproj.CRS(POLE.format(lon=centre_lon))
    a, b = halves(footprint, a_crs, cut=cut), halves(footprint, b_crs, cut=cut)
    carry = pyproj.Transformer.from_crs(b_crs, a_crs, always_xy=True)
    for half in ("SW", "NE"):
        carried = shapely.transform(b[half], lambda xy: np.stack(carry.transform(*xy.T), axis=-1))
        assert carried.symmetric_difference(a[half]).area < 1e-6 * a[half].area


@settings(max_examples=40, deadline=None)
@given(**anywhere, turn=st.integers(0, 3), backwards=st.booleans())
def test_the_order_of_the_corners_does_not_matter(
    lon: float, lat: float, angle: float, cut: Cut, n: int, turn: int, backwards: bool
) -> None:
    # Within half a degree of a tie either line is as good; that is not what is tested here.
    angle = 20 if min(angle % 45, 45 - angle % 45) < 0.5 else angle
    footprint = square(lon, lat, angle)
    corners = np.roll(footprint.edge_lonlat_deg, turn, axis=0)[:: -1 if backwards else 1]
    crs = "EPSG:3413" if lat > 0 else "EPSG:3031"
    a, b = halves(footprint, crs, cut=cut), halves(Footprint.from_corners(corners), crs, cut=cut)
    for half in ("SW", "NE"):
        assert a[half].symmetric_difference(b[half]).area < 1e-6 * a[half].area


@settings(max_examples=15, deadline=None)
@given(**anywhere, pixel_m=st.floats(5_000, 15_000), shift=st.floats(-0.5, 0.5))
def test_masks_share_out_the_footprint_pixel_by_pixel(
    lon: float, lat: float, angle: float, cut: Cut, n: int, pixel_m: float, shift: float
) -> None:
    footprint = square(lon, lat, angle, n=n)
    crs = "EPSG:3413" if lat > 0 else "EPSG:3031"
    parts = halves(footprint, crs, cut=cut)
    left, bottom, right, top = shapely.total_bounds(list(parts.values()))
    pad = (3 + shift) * pixel_m
    geobox = GeoBox.from_bbox((left - pad, bottom - pad, right + pad, top + pad), crs, resolution=pixel_m)
    sw, ne = (half_mask(geobox, footprint, half, cut=cut) for half in ("SW", "NE"))
    assert sw.shape == ne.shape == tuple(geobox.shape)
    assert not (sw & ne).any()
    cols, rows = np.meshgrid(np.arange(geobox.shape[1]) + 0.5, np.arange(geobox.shape[0]) + 0.5)
    x, y = geobox.transform * (cols, rows)
    whole: Any = shapely.union_all([p.buffer(1e-3) for p in parts.values()])
    shapely.prepare([whole, parts["NE"]])
    # Pixel centres within a metre of the edge may fall either way.
    centres = shapely.points(x, y)
    clear = shapely.distance(centres, whole.exterior) > 1
    np.testing.assert_array_equal((sw | ne)[clear], shapely.contains(whole, centres)[clear])
    clear &= shapely.distance(centres, parts["NE"].exterior) > 1
    np.testing.assert_array_equal(ne[clear], shapely.contains(parts["NE"], centres)[clear])


def authors_halves(footprint: Footprint) -> dict[str, shapely.Polygon]:
    """Cut as the authors' description of the data does: extreme corners of an upright map, points half-way between."""
    to_map = pyproj.Transformer.from_crs("EPSG:4326", ee.CRS, always_xy=True)
    xy = np.stack(to_map.transform(*footprint.edge_lonlat_deg.T), axis=-1)
    left, bottom = xy[xy.argmin(axis=0)]
    right, top = xy[xy.argmax(axis=0)]
    a, b = (left + top) / 2, (bottom + right) / 2
    return {"NE": shapely.Polygon([a, top, right, b]), "SW": shapely.Polygon([a, left, bottom, b])}


@pytest.mark.parametrize(
    ("lon", "lat", "faces_deg"),
    [(-11.3, 69.4, 76), (-1.8, 80.4, 29), (-9.1, 77.5, 23)],
    ids=["February", "August", "December"],
)
def test_the_cut_is_the_authors_where_theirs_is_well_defined(lon: float, lat: float, faces_deg: int) -> None:
    """Places and directions of the scenes follow from their orbit numbers and times; exact to a few degrees."""
    footprint = square(lon, lat, faces_deg)
    ours, theirs = halves(footprint, ee.CRS), authors_halves(footprint)
    for half in ("SW", "NE"):
        assert ours[half].symmetric_difference(theirs[half]).area < 1e-6 * ours[half].area


def test_a_footprint_across_the_dateline_is_one_piece_where_the_map_is() -> None:
    footprint = square(180, 72, 30)
    assert {-1.0, 1.0} == set(np.sign(footprint.edge_lonlat_deg[:, 0]))
    assert sum(p.area for p in halves(footprint, "EPSG:3413").values()) == pytest.approx(1.6e11, rel=0.03)
    assert sum(p.area for p in halves(footprint, "EPSG:32601").values()) == pytest.approx(1.6e11, rel=0.03)
    with pytest.raises(GridError, match="torn"):
        halves(footprint, "EPSG:3395")


def test_what_is_no_footprint_or_no_map_is_refused() -> None:
    good = square(0, 75, 30)
    with pytest.raises(GridError, match="map projection"):
        halves(good, "EPSG:4326")
    with pytest.raises(GridError, match="cross"):
        halves(Footprint.from_corners(good.edge_lonlat_deg[[0, 2, 1, 3]]), ee.CRS)
    with pytest.raises(GridError, match="enclose no area"):
        halves(Footprint.from_corners(np.full((4, 2), 75.0)), ee.CRS)
    with pytest.raises(GridError, match="shape"):
        Footprint.from_corners(np.zeros((5, 2)))
    with pytest.raises(GridError, match="latitude beyond 90"):
        halves(Footprint.from_corners(np.array([[0, 70], [1, 70], [1, 91], [0, 71]])), ee.CRS)
