"""Cutting a scene in two: a south-western half for training, a north-eastern half for validation.

The cut follows the scene's footprint, not the rows and columns of a raster, to which the footprint is at an angle. It
is a straight line on the polar stereographic map, and therefore the same line in every polar stereographic CRS of that
pole, whatever its central meridian.

The study authors' published script (clip_half.py in their repository sea-ice-segment) joins the middles of two opposite
sides, so that the halves are two blocks side by side: ``cut="sides"``, the default. Of the two such lines it takes the
one that leaves the upper and the right corner of the map on one side. Here the line is taken whose halves lie most
nearly to the south-west and north-east of each other, by true north at the footprint's middle, so that the orientation
of the map does not matter. ``cut="corners"`` joins two opposite corners instead, which makes two triangles.
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
from floemap.grid import map_crs_of

Cut = Literal["sides", "corners"]

#: Straight lines are transformed to other CRSs with a point at least every so many metres.
_STEP_M = 5_000.0
#: Two such points farther apart than this were torn apart, for example by a dateline.
_TORN_M = 100 * _STEP_M
#: Points closer than this are one; intersections of lines leave such pairs.
_SAME_M = 1e-3


@dataclass(frozen=True)
class Footprint:
    """The outline of a scene on the ground.

    Attributes
    ----------
    edge_lonlat_deg
        Longitude and latitude of the points along the edge, (n, 2), in either direction, the first not repeated.
    corners
        Indices of the four corners in the edge, rising.
    """

    edge_lonlat_deg: NDArray[np.float64]
    corners: tuple[int, int, int, int]

    @classmethod
    def from_corners(cls, lonlat_deg: NDArray[np.floating[Any]]) -> Footprint:
        """Return the footprint of four corners, (4, 2), in order along the edge, as in a product's manifest."""
        corners = np.asarray(lonlat_deg, dtype=np.float64)
        if corners.shape != (4, 2):
            raise GridError(
                f"the footprint has the shape {corners.shape}, where (4, 2) is needed: four longitudes and latitudes."
            )
        return cls(corners, (0, 1, 2, 3))

    @classmethod
    def from_grid(cls, lon_deg: NDArray[np.floating[Any]], lat_deg: NDArray[np.floating[Any]]) -> Footprint:
        """Return the footprint of a product's geolocation grid, both (lines, pixels): all nodes on its edge."""
        if lon_deg.shape != lat_deg.shape or lon_deg.ndim != 2 or min(lon_deg.shape) < 2:
            raise GridError(f"a geolocation grid of shapes {lon_deg.shape} and {lat_deg.shape} has no edge.")
        lonlat = np.stack([lon_deg, lat_deg], axis=-1).astype(np.float64)
        sides = (lonlat[0, :-1], lonlat[:-1, -1], lonlat[-1, :0:-1], lonlat[:0:-1, 0])
        lines, pixels = lon_deg.shape
        corners = (0, pixels - 1, pixels + lines - 2, 2 * pixels + lines - 3)
        return cls(np.concatenate(sides), corners)


def halves(footprint: Footprint, crs: Any, *, cut: Cut = "sides") -> dict[Half, Polygon]:
    """Cut a footprint in two.

    Parameters
    ----------
    footprint
        Outline of any scene; it may cross the dateline or contain the pole.
    crs
        Map-projected CRS of the polygons, as pyproj accepts it.
    cut
        Whether the line joins the middles of two opposite sides, or two opposite corners.

    Returns
    -------
    dict
        The polygons ``"SW"`` and ``"NE"``. They share the cut only; together they are the footprint.

    Raises
    ------
    GridError
        If the footprint has no area or its sides cross, or if it is not in one piece in `crs`.
    """
    return {half: _drawn(p, footprint, crs) for half, p in _halves_on_plane(footprint, cut).items()}


def half_mask(geobox: GeoBox, footprint: Footprint, which: Half, *, cut: Cut = "sides") -> NDArray[np.bool_]:
    """Return which pixels have their centre in one half of a footprint, (rows, cols).

    Each pixel of the footprint is in exactly one half: the mask of the SW half is the footprint without the NE half.
    Pixels outside the footprint are in neither half.

    Raises
    ------
    GridError
        If :func:`halves` raises it.
    """
    crs = map_crs_of(geobox).proj
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
    return pyproj.Transformer.from_crs(source, target, always_xy=True)  # making one takes tens of milliseconds


def _plane_points(footprint: Footprint) -> NDArray[np.float64]:
    lon, lat = footprint.edge_lonlat_deg.T
    if not np.isfinite(footprint.edge_lonlat_deg).all() or (abs(lat) > 90).any():
        raise GridError("the footprint has a position that is not finite, or a latitude beyond 90 degrees.")
    x, y = _transformer("EPSG:4326", _plane(footprint)).transform(lon, lat)
    return np.stack([x, y], axis=-1)


def _plane_polygon(footprint: Footprint) -> Polygon:
    polygon = Polygon(_plane_points(footprint))
    if not polygon.is_valid or polygon.area <= 0:
        raise GridError(
            "the footprint's sides cross or enclose no area.", hint="Give its corners in order along the edge."
        )
    return polygon


def _halves_on_plane(footprint: Footprint, cut: Cut) -> dict[Half, Polygon]:
    whole = _plane_polygon(footprint)
    corners = _plane_points(footprint)[list(footprint.corners)]  # (4, 2), metres
    ends = (corners + np.roll(corners, -1, axis=0)) / 2 if cut == "sides" else corners
    middle = corners.mean(axis=0)
    north_east = _north_east(middle, southern=_southern(footprint))
    # Of the two lines, take the one that is closest to perpendicular to the direction to the north-east.
    lines = ((ends[0], ends[2]), (ends[1], ends[3]))
    normals = [_normal(b - a) for a, b in lines]
    squareness = [abs(float(n @ north_east)) for n in normals]
    chosen = 0 if squareness[0] > squareness[1] else 1
    (start, end), normal = lines[chosen], normals[chosen]
    if normal @ north_east < 0:
        normal = -normal
    # A rectangle on the north-eastern side of the line, large enough to act as a half-plane.
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
    """Return the unit vector to the north-east at a point of the polar plane; at the pole itself, up and right."""
    distance = np.hypot(*at)
    to_north = np.array([0.0, 1.0]) if distance == 0 else (at if southern else -at) / distance
    to_east = np.array([to_north[1], -to_north[0]])  # clockwise from north, on both polar maps
    vector: NDArray[np.float64] = (to_north + to_east) / np.sqrt(2)
    return vector


def _drawn(on_plane: Polygon, footprint: Footprint, crs: Any) -> Polygon:
    """Transform a polygon from the polar plane to `crs`."""
    target = pyproj.CRS.from_user_input(crs)
    if not target.is_projected:
        raise GridError(f"{target.name} is not a map projection.", hint="Choose a projected CRS such as EPSG:3413.")
    ring = shapely.get_coordinates(shapely.segmentize(LineString(on_plane.exterior), _STEP_M))
    x, y = _transformer(_plane(footprint), target).transform(*ring.T)
    drawn = np.stack([x, y], axis=-1)
    torn = not np.isfinite(drawn).all() or np.hypot(*np.diff(drawn, axis=0).T).max() > _TORN_M
    if torn or not (polygon := Polygon(drawn)).is_valid:
        raise GridError(f"the footprint is torn apart in {target.name}.", hint="Choose another projected CRS.")
    return polygon
