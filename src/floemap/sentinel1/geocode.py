"""From the image's lines and pixels to any map, right to metres, across the dateline and at the pole.

The annotation's geolocation grid is interpolated in earth-centred coordinates by bicubic splines, where nothing jumps,
and inverted by Gauss-Newton steps in the surface's tangent plane, without any map projection in the loop. The inverse
is evaluated on a lattice of the target grid and expanded linearly: across 32 pixels of 80 m that costs under 0.2 m.

Heights. The grid's nodes carry the terrain's height, and a node on a mountain is displaced away from the
radar by height / tan(incidence): at a coast, that error reaches out to sea as far as the next node. Ice floats at sea
level, so by default the nodes are brought down to it (:func:`sea_level_nodes`), by solving the range-Doppler equations
for the same time and range. The annotation's own heights are an option.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pyproj
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox
from scipy.interpolate import RectBivariateSpline
from scipy.spatial import KDTree

from floemap.errors import GridError
from floemap.grid import crs_of
from floemap.sentinel1 import rangedoppler as rd
from floemap.sentinel1.scene import Floats, GeolocationGrid, Orbit, Scene

logger = logging.getLogger(__name__)

Surface = Literal["sea", "annotated"]

#: Spacing of the lattice on which the inverse is evaluated, in pixels of the target.
LATTICE_PX = 32
#: If the annotation's points miss the range-Doppler equations by more, they are taken as they are.
MAX_RESIDUAL_M = 5.0


def sea_level_nodes(grid: GeolocationGrid, orbit: Orbit, height_m: float = 0.0) -> Floats:
    """Earth-centred positions of the grid's nodes at `height_m` above WGS84, (lines, pixels, 3).

    Same time and slant range as annotated, another height. Where all nodes lie there already, they are not touched;
    where the annotation does not satisfy the range-Doppler equations, its own heights are kept, with a warning.
    """
    nodes = rd.ecef(grid.longitude_deg, grid.latitude_deg, grid.height_m)
    if abs(grid.height_m - height_m).max() < 1.0:
        return nodes
    worst = rd.residuals_m(grid, orbit).max()
    if worst > MAX_RESIDUAL_M:
        logger.warning("the geolocation grid is %.0f m off the orbit's geometry: its own heights are kept", worst)
        return nodes
    slant_range_m = grid.slant_range_time_s * rd.SPEED_OF_LIGHT_M_S / 2
    return rd.locate(orbit, grid.azimuth_time_s, slant_range_m, height_m, nodes)


class GeoLocator:
    """Image to ground and back, for one scene.

    Parameters
    ----------
    scene
        The product.
    surface
        ``sea``: all points lie at `height_m` above WGS84. ``annotated``: at the grid's own heights.
    height_m
        Height of the sea above WGS84 (the geoid's), metres, for ``sea``.
    """

    def __init__(self, scene: Scene, surface: Surface = "sea", height_m: float = 0.0) -> None:
        grid = scene.geolocation
        if surface == "sea":
            nodes = sea_level_nodes(grid, scene.orbit, height_m)
            self._height: RectBivariateSpline | float = height_m
            if abs(grid.height_m - height_m).max() < 1.0:
                self._height = _spline(grid, grid.height_m)
        else:
            nodes = rd.ecef(grid.longitude_deg, grid.latitude_deg, grid.height_m)
            self._height = _spline(grid, grid.height_m)
        self.grid = grid
        self.shape = scene.shape
        self._xyz = [_spline(grid, nodes[..., i]) for i in range(3)]
        self._incidence = _spline(grid, grid.incidence_deg)
        # Starting points for the inverse: the image, every 64th part or so.
        lines = np.linspace(0, scene.shape[0] - 1, 65)
        pixels = np.linspace(0, scene.shape[1] - 1, 65)
        self._starts = np.stack([a.ravel() for a in np.meshgrid(lines, pixels, indexing="ij")], axis=-1)
        self._tree = KDTree(self._surface(self._starts[:, 0], self._starts[:, 1]))

    def _surface(self, lines: Floats, pixels: Floats) -> Floats:
        return np.stack([_evaluate(s, self.grid, lines, pixels) for s in self._xyz], axis=-1)

    def to_ground(self, lines: NDArray[Any], pixels: NDArray[Any]) -> tuple[Floats, Floats]:
        """Longitude and latitude in degrees of image positions, any one shape."""
        lon, lat, _ = rd.geodetic(self._surface(np.asarray(lines, float), np.asarray(pixels, float)))
        return lon, lat

    def incidence_deg(self, lines: NDArray[Any], pixels: NDArray[Any]) -> Floats:
        """Incidence angle in degrees at image positions."""
        return _evaluate(self._incidence, self.grid, np.asarray(lines, float), np.asarray(pixels, float))

    def to_image(self, lon_deg: NDArray[Any], lat_deg: NDArray[Any]) -> tuple[Floats, Floats]:
        """Line and pixel of places on the ground, any one shape; those outside of the image are extrapolated."""
        shape = np.shape(lon_deg)
        lon, lat = np.ravel(lon_deg).astype(float), np.ravel(lat_deg).astype(float)
        base, normal = rd.ecef(lon, lat), rd.up(lon, lat)
        line, pixel = self._starts[self._tree.query(base)[1]].T
        for _ in range(8):
            height = _evaluate(self._height, self.grid, line, pixel)
            wrong = base + height[:, None] * normal - self._surface(line, pixel)
            along = np.stack([_evaluate(s, self.grid, line, pixel, dline=1) for s in self._xyz], axis=-1)
            across = np.stack([_evaluate(s, self.grid, line, pixel, dpixel=1) for s in self._xyz], axis=-1)
            # Least squares in the tangent plane, a 2 x 2 system for each point.
            aa, ab, bb = (along**2).sum(-1), (along * across).sum(-1), (across**2).sum(-1)
            wa, wb = (along * wrong).sum(-1), (across * wrong).sum(-1)
            determinant = aa * bb - ab * ab
            step_line = (wa * bb - wb * ab) / determinant
            step_pixel = (wb * aa - wa * ab) / determinant
            line, pixel = line + step_line, pixel + step_pixel
            if max(abs(step_line).max(), abs(step_pixel).max()) < 1e-4:
                break
        return line.reshape(shape), pixel.reshape(shape)

    def footprint(self, points: int = 50) -> tuple[Floats, Floats]:
        """Longitude and latitude in degrees along the image's outline, closed."""
        lines, pixels = self.shape[0] - 1, self.shape[1] - 1
        t = np.linspace(0, 1, points, endpoint=False)
        line = np.concatenate([0 * t, t * lines, 0 * t + lines, (1 - t) * lines, [0]])
        pixel = np.concatenate([t * pixels, 0 * t + pixels, (1 - t) * pixels, 0 * t, [0]])
        return self.to_ground(line, pixel)


def _spline(grid: GeolocationGrid, values: Floats) -> RectBivariateSpline:
    degrees = min(3, len(grid.lines) - 1), min(3, len(grid.pixels) - 1)
    return RectBivariateSpline(grid.lines, grid.pixels, values, kx=degrees[0], ky=degrees[1])


def _evaluate(
    spline: RectBivariateSpline | float,
    grid: GeolocationGrid,
    lines: Floats,
    pixels: Floats,
    dline: int = 0,
    dpixel: int = 0,
) -> Floats:
    """Evaluate a spline or a derivative; outside of the grid, go on along the tangent plane."""
    if isinstance(spline, float | int):
        return np.full(np.shape(lines), float(spline))
    line = np.clip(lines, grid.lines[0], grid.lines[-1])
    pixel = np.clip(pixels, grid.pixels[0], grid.pixels[-1])
    value: Floats = spline.ev(line, pixel, dx=dline, dy=dpixel)
    if not dline and not dpixel:
        beyond_line, beyond_pixel = lines - line, pixels - pixel
        if np.any(beyond_line) or np.any(beyond_pixel):
            value = value + beyond_line * spline.ev(line, pixel, dx=1) + beyond_pixel * spline.ev(line, pixel, dy=1)
    return value


def default_crs(locator: GeoLocator) -> str:
    """NSIDC polar stereographic of the hemisphere: EPSG:3413 north, EPSG:3031 south."""
    return "EPSG:3413" if locator.grid.latitude_deg.mean() >= 0 else "EPSG:3031"


def target_grid(locator: GeoLocator, crs: str, resolution_m: float) -> GeoBox:
    """Return the smallest grid over the image whose edges are multiples of the resolution.

    Raises
    ------
    GridError
        If the CRS is unknown, not projected in metres, or does not hold the image.
    """
    try:
        projected = pyproj.CRS.from_user_input(crs)
    except pyproj.exceptions.CRSError as e:
        raise GridError(f"no CRS is called {crs!r}.", hint="Give an EPSG code such as EPSG:3413, or a WKT.") from e
    if not projected.is_projected or any(a.unit_name not in ("metre", "meter") for a in projected.axis_info):
        raise GridError(f"{crs} is not projected in metres.", hint="Choose a projected CRS such as EPSG:3413.")
    lines = np.linspace(-0.5, locator.shape[0] - 0.5, 60)
    pixels = np.linspace(-0.5, locator.shape[1] - 0.5, 60)
    mesh = np.meshgrid(lines, pixels, indexing="ij")
    lon, lat = locator.to_ground(*mesh)
    x, y = pyproj.Transformer.from_crs("EPSG:4326", projected, always_xy=True).transform(lon, lat)
    if not (np.isfinite(x).all() and np.isfinite(y).all()):
        raise GridError(f"{crs} does not hold the whole image.", hint="Choose another --crs, or --like RASTER.")
    spans = np.ptp(x), np.ptp(y)
    if max(spans) > 20 * max(_ground_extent_m(locator)):
        raise GridError(
            f"in {crs} the image spans {max(spans) / 1e3:.0f} km.", hint="Choose a CRS made for this place."
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
    """Image position of every pixel centre of a grid, held on a lattice.

    Attributes
    ----------
    rows, cols
        Lattice positions on the grid.
    line, pixel, incidence_deg
        At the lattice's nodes, (len(rows), len(cols)).
    """

    rows: Floats
    cols: Floats
    line: Floats
    pixel: Floats
    incidence_deg: Floats

    def expand(self, field: Floats, first_row: int, last_row: int, cols: int) -> NDArray[np.float32]:
        """Return a field of the lattice at all pixels of rows [first_row, last_row), (rows, cols)."""
        down = _hat(self.rows, np.arange(first_row, last_row))
        along = _hat(self.cols, np.arange(cols))
        return np.asarray(down @ field.astype(np.float32) @ along.T, np.float32)


def _hat(nodes: Floats, positions: NDArray[Any]) -> NDArray[np.float32]:
    """Weights of linear interpolation from evenly spaced nodes, (positions, nodes)."""
    at = (positions - nodes[0]) / (nodes[1] - nodes[0])
    return np.asarray(np.maximum(0, 1 - abs(at[:, None] - np.arange(len(nodes)))), np.float32)


def inverse_map(locator: GeoLocator, geobox: GeoBox, spacing: int = LATTICE_PX) -> InverseMap:
    """Find the image positions of a grid's pixels.

    Raises
    ------
    GridError
        If the grid's CRS cannot be brought to longitude and latitude there.
    """
    n_rows, n_cols = geobox.shape
    rows = np.arange(0, n_rows + spacing, spacing, dtype=float)
    cols = np.arange(0, n_cols + spacing, spacing, dtype=float)
    t = geobox.transform
    col, row = np.meshgrid(cols + 0.5, rows + 0.5)
    x, y = t.a * col + t.b * row + t.c, t.d * col + t.e * row + t.f
    crs = crs_of(geobox).proj
    lon, lat = pyproj.Transformer.from_crs(crs, "EPSG:4326", always_xy=True).transform(x, y)
    if not (np.isfinite(lon).all() and np.isfinite(lat).all()):
        raise GridError("parts of the grid lie outside of its CRS.", hint="Choose another --crs or --like.")
    line, pixel = locator.to_image(lon, lat)
    inside_line = np.clip(line, 0, locator.shape[0] - 1)
    inside_pixel = np.clip(pixel, 0, locator.shape[1] - 1)
    return InverseMap(rows, cols, line, pixel, locator.incidence_deg(inside_line, inside_pixel))
