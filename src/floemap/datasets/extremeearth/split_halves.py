"""Cutting a scene in two: a south-western half to learn from, a north-eastern one to validate on.

The cut follows the scene's footprint, not the rows and columns of a raster: a footprint stands at an angle to every
grid, and at another one to north. It is a straight line on the polar stereographic map, which makes it the same line in
every polar stereographic CRS of that pole, whatever its central meridian.

Which line? The authors' published script (clip_half.py in their repository sea-ice-segment) joins the points half-way
between two pairs of neighbouring corners, so the halves are two blocks side by side: ``cut="sides"``, the default. Of
the two such lines it takes the one that leaves the upper and the right corner of the map on one side; here it is the
one whose halves lie most nearly to the south-west and north-east of each other, by true north at the footprint's
middle, which needs no upright map. ``cut="corners"`` joins two opposite corners instead, and makes two triangles.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pyproj
import rasterio.features
import shapely
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox
from shapely.geometry import LineString, Polygon

from floemap.datasets.extremeearth.scenes import Half
from floemap.errors import GridError
from floemap.grid import crs_of

Cut = Literal["sides", "corners"]

#: Straight lines are carried to other CRSs with a point at least every so often.
_STEP_M = 5_000.0
#: Two such points farther apart than this have been torn apart, as by a dateline.
_TORN_M = 100 * _STEP_M
#: Points closer than this are one: what intersecting lines leaves behind.
_SAME_M = 1e-3


@dataclass(frozen=True)
class Footprint:
    """The outline of a scene on the ground.

    Attributes
    ----------
    edge_lonlat_deg
        (n, 2), longitude and latitude of the points round the edge, either way round, the first not repeated.
    corners
        Positions of the four corners within the edge, rising.
    """

    edge_lonlat_deg: NDArray[np.float64]
    corners: tuple[int, int, int, int]

    @classmethod
    def from_corners(cls, lonlat_deg: NDArray[np.floating[Any]]) -> Footprint:
        """Make one from four corners, (4, 2), in order round the edge, as in a product's manifest."""
        corners = np.asarray(lonlat_deg, dtype=np.float64)
        if corners.shape != (4, 2):
            raise GridError(
                f"a footprint of shape {corners.shape}, where (4, 2) is needed: four longitudes, latitudes."
            )
        return cls(corners, (0, 1, 2, 3))

    @classmethod
    def from_grid(cls, lon_deg: NDArray[np.floating[Any]], lat_deg: NDArray[np.floating[Any]]) -> Footprint:
        """Make one from a product's geolocation grid, both (lines, pixels): all of the nodes at its edge."""
        if lon_deg.shape != lat_deg.shape or lon_deg.ndim != 2 or min(lon_deg.shape) < 2:
            raise GridError(f"a geolocation grid of shapes {lon_deg.shape} and {lat_deg.shape} has no edge.")
        lonlat = np.stack([lon_deg, lat_deg], axis=-1).astype(np.float64)
        sides = (lonlat[0, :-1], lonlat[:-1, -1], lonlat[-1, :0:-1], lonlat[:0:-1, 0])
        starts = np.cumsum([0] + [len(s) for s in sides[:3]])
        return cls(np.concatenate(sides), (int(starts[0]), int(starts[1]), int(starts[2]), int(starts[3])))


def halves(footprint: Footprint, crs: Any, *, cut: Cut = "sides") -> dict[Half, Polygon]:
    """Cut a footprint in two.

    Parameters
    ----------
    footprint
        Outline of any scene, also across the dateline or the pole.
    crs
        CRS of the polygons: map-projected, anything pyproj understands.
    cut
        Between the middles of two opposite sides, or between two opposite corners.

    Returns
    -------
    dict
        A polygon each for ``"SW"`` and ``"NE"``. They share the cut and nothing else; together they are the footprint.

    Raises
    ------
    GridError
        If the footprint is none (no area, crossed sides), or cannot be drawn in `crs` in one piece.
    """
    return {half: _drawn(p, footprint, crs) for half, p in _halves_on_plane(footprint, cut).items()}


def half_mask(geobox: GeoBox, footprint: Footprint, which: Half, *, cut: Cut = "sides") -> NDArray[np.bool_]:
    """Return which pixels have their centre in one half of a footprint, (rows, cols).

    A pixel of the footprint is in one half and not in the other, always: the mask of the SW half is what the NE half
    leaves of the footprint. Pixels outside the footprint are in neither.

    Raises
    ------
    GridError
        As :func:`halves` does.
    """
    crs = crs_of(geobox).proj
    whole = _inside(geobox, _drawn(_plane_polygon(footprint), footprint, crs))
    north_east = _inside(geobox, _drawn(_halves_on_plane(footprint, cut)["NE"], footprint, crs))
    return whole & north_east if which == "NE" else whole & ~north_east


def _inside(geobox: GeoBox, polygon: Polygon) -> NDArray[np.bool_]:
    shape = (int(geobox.shape[0]), int(geobox.shape[1]))
    burnt = rasterio.features.geometry_mask([polygon], shape, geobox.transform, all_touched=False, invert=True)
    return np.asarray(burnt, dtype=np.bool_)


def _plane(footprint: Footprint) -> str:
    """Return the polar stereographic CRS of the footprint's hemisphere, on WGS84, metres true at the pole."""
    pole = -90 if _southern(footprint) else 90
    return f"+proj=stere +lat_0={pole} +lon_0=0 +k=1 +datum=WGS84 +units=m"


def _southern(footprint: Footprint) -> bool:
    return bool(footprint.edge_lonlat_deg[:, 1].mean() < 0)


@functools.lru_cache(maxsize=32)
def _transformer(source: Any, target: Any) -> pyproj.Transformer:
    return pyproj.Transformer.from_crs(source, target, always_xy=True)  # which takes tens of milliseconds


def _plane_points(footprint: Footprint) -> NDArray[np.float64]:
    lon, lat = footprint.edge_lonlat_deg.T
    if not np.isfinite(footprint.edge_lonlat_deg).all() or (abs(lat) > 90).any():
        raise GridError("the footprint has a position that is none.")
    x, y = _transformer("EPSG:4326", _plane(footprint)).transform(lon, lat)
    return np.stack([x, y], axis=-1)


def _plane_polygon(footprint: Footprint) -> Polygon:
    polygon = Polygon(_plane_points(footprint))
    if not polygon.is_valid or polygon.area <= 0:
        raise GridError("the footprint's sides cross or enclose nothing.", hint="Its corners must go round the edge.")
    return polygon


def _halves_on_plane(footprint: Footprint, cut: Cut) -> dict[Half, Polygon]:
    whole = _plane_polygon(footprint)
    corners = _plane_points(footprint)[list(footprint.corners)]  # (4, 2), metres
    ends = (corners + np.roll(corners, -1, axis=0)) / 2 if cut == "sides" else corners
    middle = corners.mean(axis=0)
    north_east = _north_east(middle, southern=_southern(footprint))
    # Of the two lines, the one that stands most squarely across the direction to the north-east.
    lines = ((ends[0], ends[2]), (ends[1], ends[3]))
    normals = [_normal(b - a) for a, b in lines]
    squareness = [abs(float(n @ north_east)) for n in normals]
    chosen = 0 if squareness[0] > squareness[1] else 1
    (start, end), normal = lines[chosen], normals[chosen]
    if normal @ north_east < 0:
        normal = -normal
    # A half-plane, as far as it matters: beyond the line, on the north-eastern side.
    reach = 4 * whole.length
    along = (end - start) / np.hypot(*(end - start))
    low, high = start - reach * along, start + reach * along
    beyond = Polygon([low, high, high + reach * normal, low + reach * normal])
    parts: dict[Half, Any] = {"NE": whole.intersection(beyond), "SW": whole.difference(beyond)}
    for half, part in parts.items():
        parts[half] = shapely.remove_repeated_points(part, _SAME_M)
        if not isinstance(part, Polygon) or part.is_empty:
            raise GridError(f"the {half} half of the footprint is a {part.geom_type}, where one polygon is needed.")
    return parts


def _normal(direction: NDArray[np.float64]) -> NDArray[np.float64]:
    normal: NDArray[np.float64] = np.array([-direction[1], direction[0]]) / np.hypot(*direction)
    return normal


def _north_east(at: NDArray[np.float64], *, southern: bool) -> NDArray[np.float64]:
    """Return the unit vector to the north-east at a point of the polar plane; at the very pole, up and right."""
    distance = np.hypot(*at)
    to_north = np.array([0.0, 1.0]) if distance == 0 else (at if southern else -at) / distance
    to_east = np.array([to_north[1], -to_north[0]])  # clockwise from north, on both polar maps
    vector: NDArray[np.float64] = (to_north + to_east) / np.sqrt(2)
    return vector


def _drawn(on_plane: Polygon, footprint: Footprint, crs: Any) -> Polygon:
    """Carry a polygon from the polar plane to `crs`."""
    target = pyproj.CRS.from_user_input(crs)
    if not target.is_projected:
        raise GridError(f"halves are drawn in a map projection, and {target.name} is none.")
    ring = shapely.get_coordinates(shapely.segmentize(LineString(on_plane.exterior), _STEP_M))
    x, y = _transformer(_plane(footprint), target).transform(*ring.T)
    drawn = np.stack([x, y], axis=-1)
    torn = not np.isfinite(drawn).all() or np.hypot(*np.diff(drawn, axis=0).T).max() > _TORN_M
    if torn or not (polygon := Polygon(drawn)).is_valid:
        raise GridError(f"the footprint is torn apart in {target.name}.", hint="Choose a CRS in which it is one piece.")
    return polygon
