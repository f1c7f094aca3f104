"""Geocoding from the image's lines and pixels to any map, within metres, across the dateline and at the pole.

Positions at nodes are interpolated in earth-centred coordinates, which have no jumps, and inverted by Gauss-Newton
steps in the surface's tangent plane, without a map projection. The inverse is computed on a lattice of the target grid
and expanded linearly, with an error of about a metre.

Heights. The nodes of the annotation's geolocation grid carry the terrain's height, and a node on a mountain is
displaced away from the radar by height / tan(incidence). At a coast, interpolation spreads that error over the sea to
the next node. Ice floats at sea level, so by default positions at sea level are computed (:func:`sea_level_nodes`) from
the orbit and the slant range of each pixel. The annotation's grid with its heights is an option. Sea level is the
geoid's, tens of metres off the ellipsoid (:mod:`floemap.sentinel1.geoid`), or a given height.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyproj
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox
from scipy.interpolate import RectBivariateSpline
from scipy.spatial import KDTree

from floemap.errors import GridError
from floemap.grid import crs_of
from floemap.sentinel1 import range_doppler as rd
from floemap.sentinel1.geoid import GEOID, geoid_height_m
from floemap.sentinel1.metadata import Floats, GeolocationGrid, Scene

logger = logging.getLogger(__name__)

Surface = Literal["sea", "annotated"]
#: Height above the WGS84 ellipsoid in metres, or the height of the geoid.
SeaLevel = float | Literal["geoid"]

#: Spacing of the lattice on which the inverse is computed.
LATTICE_M = 2560.0
#: Largest misfit of the annotated points in the range-Doppler equations for computing positions at sea level.
MAX_RESIDUAL_M = 5.0
#: Distance from the image up to which positions are extrapolated. Farther out the tangent plane is not a useful model,
#: and the steps would take most of the time for a large grid.
REACH_M = 1_000_000.0
#: Usual spacing of nodes along the track at sea level.
NODE_SPACING_M = 6000.0


@dataclass(frozen=True)
class Nodes:
    """Positions on the ground of a grid of image positions: earth-centred, (lines, pixels, 3), and height above WGS84.

    `surface` names the heights; `instead` gives the reason if they are not the requested ones of the sea.
    """

    lines: Floats
    pixels: Floats
    xyz: Floats
    height_m: Floats
    surface: Surface
    instead: str | None = None

    def splines(self) -> tuple[list[RectBivariateSpline], RectBivariateSpline]:
        """Return interpolators of the three coordinates, and of the height."""
        xyz = [_spline(self.lines, self.pixels, self.xyz[..., i]) for i in range(3)]
        return xyz, _spline(self.lines, self.pixels, self.height_m)


def annotated_nodes(grid: GeolocationGrid, instead: str | None = None) -> Nodes:
    """Return the annotation's geolocation grid with the heights of its nodes."""
    xyz = rd.ecef(grid.longitude_deg, grid.latitude_deg, grid.height_m)
    return Nodes(grid.lines, grid.pixels, xyz, grid.height_m, "annotated", instead)


def sea_level_nodes(scene: Scene, sea_level: SeaLevel = 0.0) -> Nodes:
    """Compute positions at sea level by the range-Doppler equations.

    Slant range comes from the annotation's ground range conversion, whose records are some 170 lines apart, where the
    rows of the geolocation grid are 500 lines apart: the conversion varies with the terrain along azimuth, by up to a
    pixel from record to record. If the geolocation grid does not satisfy the equations, it is returned with a warning.

    The geoid's height is that at the first guess of a position, on the annotated surface. This is some hundred metres
    from the position, over which the geoid changes by some centimetres.
    """
    worst = rd.residuals_m(scene.geolocation, scene.orbit).max()
    if worst > MAX_RESIDUAL_M:
        why = f"the geolocation grid is {worst:.0f} m off the orbit's geometry"
        logger.warning("%s: %s: the annotated heights are used", scene.name, why)
        return annotated_nodes(scene.geolocation, why)
    grid, last = scene.geolocation, scene.shape[0] - 1
    record_s = scene.ground_range.time_s
    at_records = record_s / scene.line_interval_s
    gap = NODE_SPACING_M / scene.pixel_spacing_m[0]
    lines = np.concatenate([[0], at_records[(at_records > gap / 4) & (at_records < last - gap / 4)], [last]])
    if len(lines) < 4 or np.diff(lines).max() > 2 * gap:  # records are too far apart for interpolation
        lines = np.linspace(0, last, max(4, int(last / gap) + 2))  # a cubic spline needs four
    time_s = lines * scene.line_interval_s
    by_record = scene.ground_range.slant_range_m(grid.pixels * scene.pixel_spacing_m[1])
    slant_range_m = np.array([np.interp(time_s, record_s, r) for r in by_record.T]).T
    near = annotated_nodes(grid).splines()[0]
    guess = np.stack([s(np.clip(lines, grid.lines[0], grid.lines[-1]), grid.pixels) for s in near], axis=-1)
    times = np.broadcast_to(time_s[:, None], slant_range_m.shape)
    if sea_level == "geoid":
        lon, lat, _ = rd.geodetic(guess)
        height_m = geoid_height_m(lon, lat)
    else:
        height_m = np.full(slant_range_m.shape, float(sea_level))
    xyz = rd.locate(scene.orbit, times, slant_range_m, height_m, guess)
    if not rd.misfit_m(scene.orbit, times, slant_range_m, xyz).max() < MAX_RESIDUAL_M:  # also if it is NaN
        why = "the equations have no solution at sea level"
        logger.warning("%s: %s: the annotated heights are used", scene.name, why)
        return annotated_nodes(scene.geolocation, why)
    return Nodes(lines, grid.pixels, xyz, height_m, "sea")


class GeoLocator:
    """Conversion from image to ground and back for one scene.

    Parameters
    ----------
    scene
        The product.
    surface
        ``sea``: all points are at sea level. ``annotated``: points have the heights of the geolocation grid.
    sea_level
        Height of the sea above WGS84 for ``sea``: metres, or ``geoid``. In simulated scenes ``geoid`` is 0,
        because their sea is on the ellipsoid.
    """

    def __init__(self, scene: Scene, surface: Surface = "sea", sea_level: SeaLevel = 0.0) -> None:
        grid = scene.geolocation
        self.sea_level: SeaLevel = 0.0 if sea_level == "geoid" and scene.simulated else sea_level
        self.nodes = sea_level_nodes(scene, self.sea_level) if surface == "sea" else annotated_nodes(grid)
        self.grid = grid
        self.shape = scene.shape
        self._xyz, self._height = self.nodes.splines()
        self._incidence = _spline(grid.lines, grid.pixels, grid.incidence_deg)
        # Starting points for the inverse: 65 x 65 points of the image.
        lines = np.linspace(0, scene.shape[0] - 1, 65)
        pixels = np.linspace(0, scene.shape[1] - 1, 65)
        self._starts = np.stack([a.ravel() for a in np.meshgrid(lines, pixels, indexing="ij")], axis=-1)
        self._tree = KDTree(self._surface(self._starts[:, 0], self._starts[:, 1]))

    def _surface(self, lines: Floats, pixels: Floats) -> Floats:
        return np.stack([_evaluate(s, self.nodes, lines, pixels) for s in self._xyz], axis=-1)

    def record(self) -> dict[str, Any]:
        """Return how pixels were located, which may differ from the settings, JSON-ready."""
        at_sea = self.nodes.surface == "sea"
        level = GEOID if self.sea_level == "geoid" else "ellipsoid" if self.sea_level == 0 else "given"
        return {
            "surface": self.nodes.surface,
            "instead_of_sea": self.nodes.instead,
            "sea_level": level if at_sea else None,
            "height_m": [round(float(self.nodes.height_m.min()), 2), round(float(self.nodes.height_m.max()), 2)],
            "irregular_points": self.grid.irregular_points,
        }

    def to_ground(self, lines: NDArray[Any], pixels: NDArray[Any]) -> tuple[Floats, Floats]:
        """Return longitude and latitude in degrees of image positions, which have one shape."""
        lon, lat, _ = rd.geodetic(self._surface(np.asarray(lines, float), np.asarray(pixels, float)))
        return lon, lat

    def incidence_deg(self, lines: NDArray[Any], pixels: NDArray[Any]) -> Floats:
        """Return the incidence angle in degrees at image positions."""
        return _evaluate(self._incidence, self.grid, np.asarray(lines, float), np.asarray(pixels, float))

    def to_image(self, lon_deg: NDArray[Any], lat_deg: NDArray[Any]) -> tuple[Floats, Floats]:
        """Return line and pixel of positions on the ground, which have one shape, extrapolated outside of the image.

        Beyond :data:`REACH_M` from the image, results are arbitrary positions outside of it.
        """
        shape = np.shape(lon_deg)
        lon, lat = np.ravel(lon_deg).astype(float), np.ravel(lat_deg).astype(float)
        base, normal = rd.ecef(lon, lat), rd.up(lon, lat)
        distance_m, nearest = self._tree.query(base)
        line, pixel = self._starts[nearest].T.copy()
        far = distance_m > REACH_M
        line[far], pixel[far] = self._far_out(line[far], pixel[far])
        line[~far], pixel[~far] = self._solve(base[~far], normal[~far], line[~far], pixel[~far])
        return line.reshape(shape), pixel.reshape(shape)

    def _far_out(self, line: Floats, pixel: Floats) -> tuple[Floats, Floats]:
        """Return positions far outside of the image, on the side of the given ones."""
        middle = (self.shape[0] - 1) / 2, (self.shape[1] - 1) / 2
        return middle[0] + 100 * (line - middle[0]), middle[1] + 100 * (pixel - middle[1])

    def _solve(self, base: Floats, normal: Floats, line: Floats, pixel: Floats) -> tuple[Floats, Floats]:
        """Solve for line and pixel from a first guess; `base` are points on the ellipsoid, (n, 3), with its normals."""
        for _ in range(8 if len(base) else 0):
            height = _evaluate(self._height, self.nodes, line, pixel)
            wrong = base + height[:, None] * normal - self._surface(line, pixel)
            along = np.stack([_evaluate(s, self.nodes, line, pixel, dline=1) for s in self._xyz], axis=-1)
            across = np.stack([_evaluate(s, self.nodes, line, pixel, dpixel=1) for s in self._xyz], axis=-1)
            # Least squares in the tangent plane: a 2 x 2 system for each point.
            aa, ab, bb = (along**2).sum(-1), (along * across).sum(-1), (across**2).sum(-1)
            wa, wb = (along * wrong).sum(-1), (across * wrong).sum(-1)
            determinant = aa * bb - ab * ab
            step_line = (wa * bb - wb * ab) / determinant
            step_pixel = (wb * aa - wa * ab) / determinant
            line, pixel = line + step_line, pixel + step_pixel
            if max(abs(step_line).max(), abs(step_pixel).max()) < 1e-4:
                break
        return line, pixel

    def corners(self) -> list[list[float]]:
        """Return longitude and latitude in degrees of the corners: first line near and far, last line far and near."""
        lines, pixels = self.shape[0] - 1, self.shape[1] - 1
        lon, lat = self.to_ground(np.array([0, 0, lines, lines]), np.array([0, pixels, pixels, 0]))
        return [[float(x), float(y)] for x, y in zip(lon, lat, strict=True)]

    def footprint(self, points: int = 50) -> tuple[Floats, Floats]:
        """Return longitude and latitude in degrees along the closed outline of the image."""
        lines, pixels = self.shape[0] - 1, self.shape[1] - 1
        t = np.linspace(0, 1, points, endpoint=False)
        line = np.concatenate([0 * t, t * lines, 0 * t + lines, (1 - t) * lines, [0]])
        pixel = np.concatenate([t * pixels, 0 * t + pixels, (1 - t) * pixels, 0 * t, [0]])
        return self.to_ground(line, pixel)


def _spline(lines: Floats, pixels: Floats, values: Floats) -> RectBivariateSpline:
    degrees = min(3, len(lines) - 1), min(3, len(pixels) - 1)
    return RectBivariateSpline(lines, pixels, values, kx=degrees[0], ky=degrees[1])


def _evaluate(
    spline: RectBivariateSpline,
    nodes: Nodes | GeolocationGrid,
    lines: Floats,
    pixels: Floats,
    *,
    dline: int = 0,
    dpixel: int = 0,
) -> Floats:
    """Evaluate a spline or a derivative; outside of the nodes, extrapolate along the tangent plane."""
    line = np.clip(lines, nodes.lines[0], nodes.lines[-1])
    pixel = np.clip(pixels, nodes.pixels[0], nodes.pixels[-1])
    value: Floats = spline.ev(line, pixel, dx=dline, dy=dpixel)
    if not dline and not dpixel:
        beyond_line, beyond_pixel = lines - line, pixels - pixel
        if np.any(beyond_line) or np.any(beyond_pixel):
            value = value + beyond_line * spline.ev(line, pixel, dx=1) + beyond_pixel * spline.ev(line, pixel, dy=1)
    return value


def default_crs(locator: GeoLocator) -> str:
    """Return the polar stereographic CRS of the hemisphere: EPSG:3413 in the north, EPSG:3031 in the south."""
    return "EPSG:3413" if locator.grid.latitude_deg.mean() >= 0 else "EPSG:3031"


def metric_crs(crs: str | pyproj.CRS, path: Path | None = None) -> pyproj.CRS:
    """Return a CRS that is projected in metres; `path` is the file that it was read from.

    Raises
    ------
    GridError
        If the CRS is unknown or not projected in metres.
    """
    try:
        projected = pyproj.CRS.from_user_input(crs).to_2d()  # without heights, as of EPSG:3413+5773
    except (pyproj.exceptions.CRSError, RecursionError, UnicodeError) as e:
        hint = "Give an EPSG code such as EPSG:3413, or a WKT."
        raise GridError(f"{str(crs)[:80]!r} is not a known CRS.", path=path, hint=hint) from e
    if not projected.is_projected or any(a.unit_name not in ("metre", "meter") for a in projected.axis_info):
        hint = "Choose a projected CRS such as EPSG:3413."
        name = crs if isinstance(crs, str) and len(crs) < 80 else projected.name
        raise GridError(f"{name} is not projected in metres.", path=path, hint=hint)
    return projected


def target_grid(locator: GeoLocator, crs: str, resolution_m: float) -> GeoBox:
    """Return the smallest grid over the image whose edges are multiples of the resolution.

    Raises
    ------
    GridError
        If the CRS is unknown, not projected in metres, or does not cover the image.
    """
    projected = metric_crs(crs)
    lines = np.linspace(-0.5, locator.shape[0] - 0.5, 60)
    pixels = np.linspace(-0.5, locator.shape[1] - 0.5, 60)
    mesh = np.meshgrid(lines, pixels, indexing="ij")
    lon, lat = locator.to_ground(*mesh)
    x, y = pyproj.Transformer.from_crs("EPSG:4326", projected, always_xy=True).transform(lon, lat)
    if not (np.isfinite(x).all() and np.isfinite(y).all()):
        raise GridError(f"{crs} does not cover the whole image.", hint="Choose another --crs, or --like RASTER.")
    spans = np.ptp(x), np.ptp(y)
    if max(spans) > 20 * max(_ground_extent_m(locator)):
        raise GridError(
            f"in {crs} the image spans {max(spans) / 1e3:.0f} km.", hint="Choose a CRS that is made for this area."
        )
    return GeoBox.from_bbox(
        (float(x.min()), float(y.min()), float(x.max()), float(y.max())), crs=projected, resolution=resolution_m
    )


def _ground_extent_m(locator: GeoLocator) -> tuple[float, float]:
    lines, pixels = locator.shape[0] - 1, locator.shape[1] - 1
    corners = locator._surface(np.array([0.0, 0, lines]), np.array([0.0, pixels, 0]))
    return float(np.linalg.norm(corners[1] - corners[0])), float(np.linalg.norm(corners[2] - corners[0]))


@dataclass(frozen=True)
class InverseMap:
    """Image positions of the pixel centres of a grid, stored on a lattice.

    Attributes
    ----------
    rows, cols
        Positions of the lattice on the grid.
    line, pixel, incidence_deg
        Image positions and incidence angle at the lattice's nodes, (len(rows), len(cols)).
    """

    rows: Floats
    cols: Floats
    line: Floats
    pixel: Floats
    incidence_deg: Floats

    def expand(self, field: Floats, first_row: int, last_row: int, cols: int) -> NDArray[np.float32]:
        """Return a field of the lattice at all pixels of rows [first_row, last_row), (rows, cols)."""
        at = np.arange(first_row, last_row) / (self.rows[1] - self.rows[0])
        node = np.minimum(at.astype(np.intp), len(self.rows) - 2)
        share = (at - node)[:, None]
        along = ((1 - share) * field[node] + share * field[node + 1]).astype(np.float32)  # (rows, lattice cols)
        spacing = round(self.cols[1] - self.cols[0])
        steps = np.arange(spacing, dtype=np.float32) / np.float32(spacing)
        full: NDArray[np.float32] = along[:, :-1, None] + np.diff(along, axis=1)[:, :, None] * steps
        return full.reshape(len(full), -1)[:, :cols]


def inverse_map(locator: GeoLocator, geobox: GeoBox, spacing_m: float = LATTICE_M) -> InverseMap:
    """Return the image positions of a grid's pixels.

    Raises
    ------
    GridError
        If a part of the grid has no longitude and latitude in the grid's CRS.
    """
    n_rows, n_cols = geobox.shape
    spacing = max(1, round(spacing_m / abs(geobox.resolution.x)))
    rows = np.arange(0, n_rows + spacing, spacing, dtype=float)
    cols = np.arange(0, n_cols + spacing, spacing, dtype=float)
    t = geobox.transform
    col, row = np.meshgrid(cols + 0.5, rows + 0.5)
    x, y = t.a * col + t.b * row + t.c, t.d * col + t.e * row + t.f
    crs = crs_of(geobox).proj
    lon, lat = pyproj.Transformer.from_crs(crs, "EPSG:4326", always_xy=True).transform(x, y)
    if not (np.isfinite(lon).all() and np.isfinite(lat).all()):
        raise GridError("parts of the grid are outside of its CRS.", hint="Choose another --crs or --like.")
    line, pixel = locator.to_image(lon, lat)
    return InverseMap(rows, cols, line, pixel, locator.incidence_deg(line, pixel))
