"""Geolocation: image to ground and back, anywhere on earth, against independent solutions."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyproj
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from lxml import etree
from numpy.typing import NDArray
from scipy.interpolate import BarycentricInterpolator
from scipy.optimize import fsolve

from floemap.errors import GridError
from floemap.sentinel1 import range_doppler as rd
from floemap.sentinel1.geolocation import (
    GeoLocator,
    _ground_extent_m,
    default_crs,
    inverse_map,
    sea_level_nodes,
    target_grid,
)
from floemap.sentinel1.metadata import GroundRange, Scene
from floemap.sentinel1.safe.reader import open_scene
from floemap.sentinel1.stac import footprint_geometry
from floemap.simulation.safe.spec import ProductSpec
from floemap.simulation.safe.writer import write_safe

REAL = Path(__file__).resolve().parents[2] / "shared/data"
REAL_NAME = "S1A_EW_GRDM_1SDH_20221130T014342_20221130T014446_046117_058549_BB15"
GEOD = pyproj.Geod(ellps="WGS84")

# Centres over ordinary places, next to and on a pole, across the dateline, in the south.
PLACES = [(-20, 60), (30, 89), (100, 89.95), (180, 72), (-179, 66), (0, 80), (165, -75), (180, -66), (10, -89)]


@pytest.fixture(scope="module")
def real() -> Scene:
    if not (REAL / REAL_NAME).is_dir():
        pytest.skip("the real product's metadata is not here")
    return open_scene(REAL / REAL_NAME, pixels=False)


@pytest.fixture(scope="module")
def scene_from_spec(
    small_spec: Callable[..., ProductSpec], tmp_path_factory: pytest.TempPathFactory
) -> Callable[..., Scene]:
    """Makes scenes, metadata only, of a specification's changes: 430 x 430 km, at 2 km."""

    def make(**changes: Any) -> Scene:
        folder = tmp_path_factory.mktemp("scene")
        spec = small_spec(lines=215, samples=210, pixel_spacing_m=2000.0, **changes)
        dark = np.full((spec.lines, spec.samples), 0.01, np.float32)
        return open_scene(write_safe(folder, spec, {"HH": dark, "HV": dark}, looks=None, threads=1), pixels=False)

    return make


@pytest.fixture(scope="module")
def scene_at(scene_from_spec: Callable[..., Scene]) -> Callable[..., Scene]:
    """Scenes at any place: (longitude, latitude, heading) -> Scene, metadata only."""
    made = {}

    def at(lon: float, lat: float, heading: float = -150.0) -> Scene:
        if (lon, lat, heading) not in made:
            made[lon, lat, heading] = scene_from_spec(centre_lon=lon, centre_lat=lat, heading_deg=heading)
        return made[lon, lat, heading]

    return at


def positions(scene: Scene, count: int = 2000, seed: int = 0) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    rng = np.random.default_rng(seed)
    return rng.uniform(0, scene.shape[0] - 1, count), rng.uniform(0, scene.shape[1] - 1, count)


@pytest.mark.parametrize("place", PLACES)
def test_ground_and_back(scene_at: Callable[..., Scene], place: tuple[float, float]) -> None:
    scene = scene_at(*place)
    locator = GeoLocator(scene)
    line, pixel = positions(scene)
    lon, lat = locator.to_ground(line, pixel)
    line_again, pixel_again = locator.to_image(lon, lat)
    assert abs(line_again - line).max() < 1e-3
    assert abs(pixel_again - pixel).max() < 1e-3


@settings(max_examples=15, deadline=None, phases=[Phase.explicit, Phase.generate], derandomize=True)
@given(lon=st.floats(-180, 180), lat=st.floats(-89.9, 89.9), heading=st.floats(-180, 180))
def test_ground_and_back_anywhere(
    scene_from_spec: Callable[..., Scene], lon: float, lat: float, heading: float
) -> None:
    scene = scene_from_spec(centre_lon=lon, centre_lat=lat, heading_deg=heading)
    locator = GeoLocator(scene)
    line, pixel = positions(scene, 200)
    line_again, pixel_again = locator.to_image(*locator.to_ground(line, pixel))
    assert max(abs(line_again - line).max(), abs(pixel_again - pixel).max()) < 0.1


@pytest.mark.parametrize("place", PLACES)
def test_map_and_back(scene_at: Callable[..., Scene], place: tuple[float, float]) -> None:
    """The lattice of the written product: pixel centre to image and back to the map, under 0.1 px of the map."""
    scene = scene_at(*place)
    locator = GeoLocator(scene)
    resolution = scene.pixel_spacing_m[0]
    box = target_grid(locator, default_crs(locator), resolution)
    lattice = inverse_map(locator, box)
    rows, cols = box.shape
    line, pixel = lattice.expand(lattice.line, 0, rows, cols), lattice.expand(lattice.pixel, 0, rows, cols)
    inside = (line > 0) & (line < scene.shape[0] - 1) & (pixel > 0) & (pixel < scene.shape[1] - 1)
    assert inside.sum() > 0.8 * scene.shape[0] * scene.shape[1]
    row, col = np.nonzero(inside)
    lon, lat = locator.to_ground(line[inside].astype(float), pixel[inside].astype(float))
    x, y = pyproj.Transformer.from_crs("EPSG:4326", box.crs.proj, always_xy=True).transform(lon, lat)
    off_col = (x - box.transform.c) / box.transform.a - 0.5 - col
    off_row = (y - box.transform.f) / box.transform.e - 0.5 - row
    assert np.hypot(off_col, off_row).max() < 0.1


def test_footprint_runs_along_the_images_sides(scene_at: Callable[..., Scene]) -> None:
    """First line, last pixel, last line and first pixel, each in halves, and back to the first corner."""
    locator = GeoLocator(scene_at(*PLACES[0]))
    line, pixel = (n - 1 for n in locator.shape)
    lines = np.array([0, 0, 0, line / 2, line, line, line, line / 2, 0])
    pixels = np.array([0, pixel / 2, pixel, pixel, pixel, pixel / 2, 0, 0, 0])
    np.testing.assert_allclose(locator.footprint(2), locator.to_ground(lines, pixels), rtol=0, atol=1e-9)


@pytest.mark.parametrize("place", PLACES)
def test_footprint_is_valid_geojson(scene_at: Callable[..., Scene], place: tuple[float, float]) -> None:
    from shapely.geometry import shape

    locator = GeoLocator(scene_at(*place))
    geometry, (west, south, east, north) = footprint_geometry(*locator.footprint(30))
    outline = shape(geometry)
    assert outline.is_valid
    assert -180 <= west <= 180
    assert -180 <= east <= 180
    x0, y0, x1, y1 = outline.bounds
    assert (x0, x1) >= (-180, -180)
    assert x1 <= 180
    assert y0 == pytest.approx(south)
    assert y1 == pytest.approx(north)
    lon, lat = locator.to_ground(*(np.array([(n - 1) / 2]) for n in locator.shape))
    from shapely import Point

    assert outline.covers(Point((lon[0] + 180) % 360 - 180, lat[0])), "the scene's middle lies inside"


def test_grids_of_two_scenes_line_up(scene_at: Callable[..., Scene]) -> None:
    boxes = [target_grid(GeoLocator(scene_at(*p)), "EPSG:3413", 80.0) for p in ((-20, 75), (-12.3, 77.1))]
    for box in boxes:
        assert box.transform.c % 80 == 0
        assert box.transform.f % 80 == 0


def test_default_crs_by_hemisphere(scene_at: Callable[..., Scene]) -> None:
    assert default_crs(GeoLocator(scene_at(0, 80))) == "EPSG:3413"
    assert default_crs(GeoLocator(scene_at(165, -75))) == "EPSG:3031"


@pytest.mark.parametrize("crs", ["EPSG:4326", "EPSG:99999", "nonsense"])
def test_unfit_crs_is_named(scene_at: Callable[..., Scene], crs: str) -> None:
    with pytest.raises(GridError, match=crs):
        target_grid(GeoLocator(scene_at(0, 80)), crs, 80.0)


def test_a_crs_with_heights_counts_without_them(scene_at: Callable[..., Scene]) -> None:
    locator = GeoLocator(scene_at(0, 80))
    assert target_grid(locator, "EPSG:3413+5773", 80.0) == target_grid(locator, "EPSG:3413", 80.0)


def test_incidence_is_the_annotations_at_its_nodes(scene_at: Callable[..., Scene]) -> None:
    scene = scene_at(0, 80)
    grid = scene.geolocation
    lines, pixels = np.meshgrid(grid.lines, grid.pixels, indexing="ij")
    incidence = GeoLocator(scene).incidence_deg(lines, pixels)
    assert abs(incidence - grid.incidence_deg).max() < 1e-6
    assert (np.diff(incidence, axis=1) > 0).all(), "grows with range"


def test_a_mountain_moves_its_node_and_sea_level_brings_it_back(scene_at: Callable[..., Scene]) -> None:
    """Put one node on a mountain, where the processor would: sea-level locations do not change, annotated ones do."""
    scene = scene_at(0, 80)
    grid, orbit = scene.geolocation, scene.orbit
    slant_m = grid.slant_range_time_s * rd.SPEED_OF_LIGHT_M_S / 2
    sea = rd.ecef(grid.longitude_deg, grid.latitude_deg, grid.height_m)
    height = np.zeros_like(grid.height_m)
    node = (height.shape[0] // 2, height.shape[1] // 2)
    height[node] = 1500.0
    lon, lat, solved = rd.geodetic(rd.locate(orbit, grid.azimuth_time_s, slant_m, height, sea))
    assert solved[node] == pytest.approx(1500, abs=1e-3)
    moved = replace(scene, geolocation=replace(grid, longitude_deg=lon, latitude_deg=lat, height_m=height))
    line, pixel = positions(scene)
    expected = GeoLocator(scene).to_ground(line, pixel)
    by_surface = {s: GeoLocator(moved, s).to_ground(line, pixel) for s in ("sea", "annotated")}
    off = {s: GEOD.inv(*expected, *found)[2] for s, found in by_surface.items()}
    assert off["sea"].max() < 2.0
    shift = 1500 / np.tan(np.radians(grid.incidence_deg[node]))
    assert off["annotated"].max() == pytest.approx(shift, rel=0.2)


def test_a_higher_sea_moves_points_away_from_the_radar(scene_at: Callable[..., Scene]) -> None:
    scene = scene_at(0, 80)
    line, pixel = positions(scene, 500)
    low, high = GeoLocator(scene).to_ground(line, pixel), GeoLocator(scene, sea_level=50.0).to_ground(line, pixel)
    shift = GEOD.inv(*low, *high)[2]
    expected = 50 / np.tan(np.radians(GeoLocator(scene).incidence_deg(line, pixel)))
    assert shift == pytest.approx(expected, rel=0.05)


def test_geodetic_is_the_inverse_of_ecef_and_agrees_with_proj() -> None:
    rng = np.random.default_rng(0)
    lon, lat, height = rng.uniform(-180, 180, 500), rng.uniform(-90, 90, 500), rng.uniform(-100, 9000, 500)
    lat[:4] = [90, -90, 0, 89.9999999]
    xyz = rd.ecef(lon, lat, height)
    proj = pyproj.Transformer.from_crs("EPSG:4979", "EPSG:4978", always_xy=True).transform(lon, lat, height)
    assert np.stack(proj, -1) == pytest.approx(xyz, abs=1e-6)
    lon_again, lat_again, height_again = rd.geodetic(xyz)
    assert lat_again == pytest.approx(lat, abs=1e-9)
    assert height_again == pytest.approx(height, abs=1e-5)
    off_pole = abs(lat) < 89.999
    assert lon_again[off_pole] == pytest.approx(lon[off_pole], abs=1e-9)


# --- the real product -------------------------------------------------------------------------------------------------


def test_real_grid_satisfies_range_doppler(real: Scene) -> None:
    assert rd.residuals_m(real.geolocation, real.orbit).max() < 0.05


def test_real_track_is_a_satellites(real: Scene) -> None:
    radius = np.linalg.norm(real.orbit.position_m, axis=1)
    speed = np.linalg.norm(real.orbit.velocity_m_s, axis=1)
    assert ((radius > 7.05e6) & (radius < 7.09e6)).all()
    assert ((speed > 7500) & (speed < 7700)).all()
    # A node left out of the spline is met by it.
    middle = rd.track(replace(real.orbit, **{k: getattr(real.orbit, k)[::2] for k in ORBIT}))(real.orbit.time_s[1:-1:2])
    assert np.linalg.norm(middle - real.orbit.position_m[1:-1:2], axis=1).max() < 0.05


ORBIT = ("time_s", "position_m", "velocity_m_s")


def independent_sea_level(
    scene: Scene, line: NDArray[np.float64], pixel: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Longitude and latitude at height 0 from the orbit and the annotation's ground-to-slant-range polynomials.

    Uses none of floemap's geometry, and nothing of the geolocation grid but the node to begin at: positions of the
    satellite by polynomials through eight state vectors, its direction by differences, places by PROJ, roots by
    MINPACK. Slant range = sum of c_i (gr - gr0)^i with the ground range gr of the pixel (Sentinel-1 Product
    Specification, coordinateConversion), linear between the records.
    """
    root = etree.parse(scene.container.path / "annotation" / "ew-hh.xml").getroot()
    times, ranges = [], []
    ground_range_m = pixel * scene.pixel_spacing_m[1]
    for c in root.iter("coordinateConversion"):
        if c.find("azimuthTime") is None:
            continue
        at = datetime.fromisoformat(c.findtext("azimuthTime")).replace(tzinfo=UTC)
        times.append((at - scene.start).total_seconds())
        coefficients = [float(v) for v in c.findtext("grsrCoefficients").split()]
        ranges.append(np.polynomial.polynomial.polyval(ground_range_m - float(c.findtext("gr0")), coefficients))
    duration = (scene.stop - scene.start).total_seconds()
    time_s = line / (scene.shape[0] - 1) * duration
    slant_m = np.array([np.interp(t, times, r) for t, r in zip(time_s, np.array(ranges).T, strict=True)])
    grid, orbit = scene.geolocation, scene.orbit
    to_xyz = pyproj.Transformer.from_crs("EPSG:4979", "EPSG:4978", always_xy=True)
    found = []
    for i, (t, slant) in enumerate(zip(time_s, slant_m, strict=True)):
        nearest = np.argsort(abs(orbit.time_s - t))[:8]
        track = BarycentricInterpolator(orbit.time_s[nearest], orbit.position_m[nearest])
        along = track(t + 0.01) - track(t - 0.01)
        node = np.argmin(abs(grid.lines - line[i])), np.argmin(abs(grid.pixels - pixel[i]))
        begin = grid.longitude_deg[node], grid.latitude_deg[node]
        found.append(fsolve(off_m, begin, (to_xyz, track(t), along / np.linalg.norm(along), slant)))
    lon, lat = np.array(found).T
    return lon, lat


def off_m(
    lonlat: NDArray[np.float64],
    to_xyz: pyproj.Transformer,
    satellite: NDArray[np.float64],
    along: NDArray[np.float64],
    slant_m: float,
) -> list[float]:
    """How far a place at height 0 is from the slant range, and from the plane across the track."""
    look = np.array(to_xyz.transform(lonlat[0], lonlat[1], 0.0)) - satellite
    return [float(np.linalg.norm(look)) - slant_m, float(look @ along)]


def test_real_locations_agree_with_an_independent_solution(real: Scene) -> None:
    line, pixel = positions(real, 100)
    off_m = GEOD.inv(*GeoLocator(real).to_ground(line, pixel), *independent_sea_level(real, line, pixel))[2]
    assert off_m.max() < 10


def test_real_written_grid_agrees_with_the_annotations_own(real: Scene) -> None:
    """At the annotation's nodes, of which the solution at sea level uses nothing, where they lie at sea level."""
    g = real.geolocation
    lines, pixels = np.meshgrid(g.lines, g.pixels, indexing="ij")
    # Where terrain varies along azimuth, the conversion jumps from record to record; the grid has the nearest record's.
    level = (abs(g.height_m) < 1) & (lines > 5000)
    lon, lat = GeoLocator(real).to_ground(lines[level], pixels[level])
    off_m = GEOD.inv(lon, lat, g.longitude_deg[level], g.latitude_deg[level])[2]
    assert level.sum() > 200
    assert off_m.max() < 10


def test_real_jumps_of_the_ground_range_conversion_stay_under_a_cell(real: Scene) -> None:
    g = real.geolocation
    lines, pixels = np.meshgrid(g.lines, g.pixels, indexing="ij")
    level = abs(g.height_m) < 1
    lon, lat = GeoLocator(real).to_ground(lines[level], pixels[level])
    assert GEOD.inv(lon, lat, g.longitude_deg[level], g.latitude_deg[level])[2].max() < 40


def test_real_terrain_displaces_the_annotated_surface(real: Scene) -> None:
    """The reason for the default: some of this scene lies over a kilometre off where mountains hold a node."""
    line, pixel = positions(real)
    sea, annotated = (GeoLocator(real, s).to_ground(line, pixel) for s in ("sea", "annotated"))
    off_m = GEOD.inv(*sea, *annotated)[2]
    assert off_m.max() > 1000
    assert np.median(off_m) < 10


@pytest.mark.parametrize("place", PLACES)
def test_a_grid_is_the_smallest_over_the_image(scene_at: Callable[..., Scene], place: tuple[float, ...]) -> None:
    """Its edges are multiples of the resolution, the nearest outside of the pixels at the image's border."""
    locator = GeoLocator(scene_at(*place))
    crs, resolution = default_crs(locator), 100.0  # a pixel of the image is 2 km
    lines, pixels = (np.linspace(-0.5, n - 0.5, 300) for n in locator.shape)
    first, last = np.full(300, -0.5), np.full(300, 1.0)
    edges = [(lines, first), (lines, (locator.shape[1] - 0.5) * last), (first, pixels)]
    edges += [((locator.shape[0] - 0.5) * last, pixels)]
    lon, lat = np.concatenate([locator.to_ground(*edge) for edge in edges], axis=1)
    x, y = pyproj.Transformer.from_crs("EPSG:4326", crs, always_xy=True).transform(lon, lat)
    box = target_grid(locator, crs, resolution).boundingbox
    # An edge bends by some metres between the points at which the grid's extent is taken.
    for edge, outermost in ((box.left, x.min()), (-box.right, -x.max()), (box.bottom, y.min()), (-box.top, -y.max())):
        assert -50 < outermost - edge < resolution + 50


def test_nodes_lie_at_the_records_of_the_ground_range_conversion(scene_from_spec: Callable[..., Scene]) -> None:
    """Ten lines, 20 km, with 6 km between nodes at most twice that; a cubic needs four of them."""
    scene = scene_from_spec()

    def lines(*records: float) -> list[float]:
        given, n = scene.ground_range, len(records)
        time_s = np.array(records) * scene.line_interval_s
        taken = GroundRange(time_s, np.repeat(given.origin_m[:1], n), given.coefficients[:1] * n)
        return list(sea_level_nodes(replace(scene, shape=(10, scene.shape[1]), ground_range=taken)).lines)

    assert lines(-2, 3, 5, 12) == pytest.approx([0, 3, 5, 9])
    alike = lines(-2, 5, 12)
    assert len(alike) >= 4 and (alike[0], alike[-1]) == (0, 9)
    assert np.ptp(np.diff(alike)) < 1e-9 and np.diff(alike).max() <= 3


def test_corners_and_extent_are_those_of_the_outermost_pixels(scene_at: Callable[..., Scene]) -> None:
    """The simulator's geolocation grid, here at sea level, has nodes at the corners: 215 lines, 210 pixels of 2 km."""
    scene = scene_at(-20, 60)
    grid, locator = scene.geolocation, GeoLocator(scene)
    assert (grid.lines[0], grid.lines[-1], grid.pixels[0], grid.pixels[-1]) == (0, 214, 0, 209)
    at = np.array([0, 0, -1, -1]), np.array([0, -1, -1, 0])
    expected = np.stack([grid.longitude_deg[at], grid.latitude_deg[at]], axis=1)
    np.testing.assert_allclose(locator.corners(), expected, atol=1e-4)
    assert _ground_extent_m(locator) == pytest.approx((209 * 2000, 214 * 2000), rel=0.01)
