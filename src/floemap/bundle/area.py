"""The area of a bundle: a box of longitudes and latitudes, a circle, or polygons from a file, on a map of its own.

The map is Lambert's equal-area map around the middle of the area, so that areas are true, north is up in the middle,
and neither the date line nor a pole is a special place.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyproj
import shapely
from numpy.typing import NDArray

from floemap.archive.catalogue import box_from_text
from floemap.errors import ConfigError
from floemap.grid import NAUTICAL_MILE_M, Box, degrees
from floemap.icechart.land import polygons_in
from floemap.icechart.read.file_crs import crs_of_file
from floemap.icechart.read.sources import FORMATS, find_source
from floemap.icechart.read.vector_files import open_features
from floemap.icechart.reproject import project

_WGS84 = pyproj.CRS("EPSG:4326")
_GEOD = pyproj.Geod(ellps="WGS84")
_UNITS_M = {"nm": NAUTICAL_MILE_M, "km": 1000.0}
#: Farthest that an area may reach from its middle, metres: a quarter of the way from pole to pole.
_MOST_M = 5_000_000.0
_LEAST_M = 1000.0
_STEP_DEG = 0.5
_TOLERANCE_M = 10.0
_FORMS = (
    "Give WEST,SOUTH,EAST,NORTH in degrees (--area=-25,76,10,83; across the date line, west > east), a position and a "
    "radius (--area 77-30N,12-15W,60nm), or a file of polygons (--area area.geojson)."
)
_POSITION = re.compile(r"(\d{1,3}(?:\.\d{1,8})?)(?:-(\d{1,2}(?:\.\d{1,6})?))?\s*([NSEW])", re.IGNORECASE | re.ASCII)
_RADIUS = re.compile(r"(\d{1,6}(?:\.\d{1,6})?)\s*(nm|km)", re.IGNORECASE | re.ASCII)


@dataclass(frozen=True)
class Area:
    """The area of a bundle.

    Attributes
    ----------
    words
        What it is, in words of ASCII.
    shape
        A polygon or multipolygon on the map `crs`.
    crs
        Lambert's equal-area map around `middle`, metres.
    middle
        Longitude and latitude, degrees: of a circle its centre, of others the mean of their border.
    """

    words: str
    shape: Any
    crs: pyproj.CRS
    middle: tuple[float, float]

    @property
    def with_pole(self) -> bool:
        """Whether a pole is in the area."""
        to_map = pyproj.Transformer.from_crs(_WGS84, self.crs, always_xy=True)
        pole = np.copysign(90.0, self.middle[1])
        return bool(shapely.intersects(self.shape, shapely.Point(to_map.transform(0.0, pole))))


def area_of(text: str) -> Area:
    """Return the area that a text gives: a box, a circle, or a file of polygons.

    Raises
    ------
    ConfigError
        If the text is neither, or the area is too large or too small for a bundle.
    ChartError
        If the file cannot be read.
    """
    parts = [part.strip() for part in text.split(",")]
    if len(parts) == 3 and _RADIUS.fullmatch(parts[2]) and not _is_file(text):
        return _circle(parts, text)
    if len(parts) == 4 and not _is_file(text):
        return _box(box_from_text(text))
    if Path(text).suffix.lower() in (*FORMATS, ".zip") or _is_file(text):
        return _from_file(Path(text))
    raise ConfigError(f"{text!r} is not an area.", hint=_FORMS)


def _is_file(text: str) -> bool:
    try:
        return Path(text).is_file()
    except (OSError, ValueError):  # too long for a name, or with a character that no name has
        return False


def _circle(parts: list[str], text: str) -> Area:
    found = {axis: value for part in parts[:2] for axis, value in [_coordinate(part, text)]}
    if set(found) != {"lon", "lat"}:
        raise ConfigError(f"{text!r} is not an area: it needs a latitude and a longitude.", hint=_FORMS)
    number, unit = _RADIUS.fullmatch(parts[2]).groups()  # type: ignore[union-attr]
    radius_m = float(number) * _UNITS_M[unit.lower()]
    lon, lat = found["lon"], found["lat"]
    _refuse_size(radius_m, text)
    azimuths = np.arange(0.0, 360.0, 2.0)
    count = len(azimuths)
    east, north, _ = _GEOD.fwd(np.full(count, lon), np.full(count, lat), azimuths, np.full(count, radius_m))
    crs = _map_around(lon, lat)
    words = f"within {float(number):g} {unit.lower()} of {position(lon, lat)}"
    return Area(words, shapely.Polygon(_on(crs, np.column_stack([east, north]))), crs, (lon, lat))


def _coordinate(part: str, text: str) -> tuple[str, float]:
    found = _POSITION.fullmatch(part)
    if found is not None:
        value = float(found[1]) + float(found[2] or 0) / 60
        axis = "lat" if found[3].upper() in "NS" else "lon"
        if value <= (90 if axis == "lat" else 180) and float(found[2] or 0) < 60:
            return axis, -value if found[3].upper() in "SW" else value
    message = f"{text!r} is not an area: {part!r} is neither a latitude nor a longitude."
    raise ConfigError(
        message, hint="Write positions in degrees, or in degrees and minutes: 77.5N,12.25W or 77-30N,12-15W."
    )


def _box(box: Box) -> Area:
    west, south, east, north = box
    span = (east - west) % 360 or 360.0
    lon = west + np.linspace(0, span, int(np.ceil(span / _STEP_DEG)) + 1)
    rings = [np.column_stack([lon, np.full(len(lon), lat)]) for lat in (south, north)]
    if span < 360:  # a ring of both parallels; meridians are nearly straight, and get vertices as well
        lat = np.linspace(south, north, int(np.ceil((north - south) / _STEP_DEG)) + 1)
        sides = [np.column_stack([np.full(len(lat), v), lat]) for v in (lon[-1], lon[0])]
        rings = [np.concatenate([rings[0], sides[0], rings[1][::-1], sides[1][::-1]])]
    lon0, lat0 = _middle(np.concatenate(rings))
    if span == 360:
        lon0, lat0 = 0.0, float(np.copysign(90.0, south + north))
    crs = _map_around(lon0, lat0)
    areas = [shapely.make_valid(shapely.Polygon(_on(crs, ring))) for ring in rings]
    shape = areas[0] if len(areas) == 1 else shapely.symmetric_difference(areas[0], areas[1])
    words = f"{position(west, south)} to {position(east, north)}" if span < 360 else "all longitudes, "
    words += "" if span < 360 else f"{degrees(south, 'lat')} to {degrees(north, 'lat')}".replace("°", " ")
    return _checked(Area(words, shape, crs, (lon0, lat0)), words)


def _from_file(path: Path) -> Area:
    source = find_source(path)
    with open_features(source) as file:
        crs = crs_of_file(file.crs, None, path=source.path)
        polygons = polygons_in(file, None, crs, None)
    if not len(polygons):
        raise ConfigError("has no polygon with an area.", path=path, hint=_FORMS)
    to_earth = pyproj.Transformer.from_crs(crs, _WGS84, always_xy=True)
    lonlat = np.column_stack(to_earth.transform(*shapely.get_coordinates(polygons).T))
    lon0, lat0 = _middle(lonlat[np.isfinite(lonlat).all(axis=1)])
    own = _map_around(lon0, lat0)
    shape = shapely.make_valid(shapely.union_all(shapely.make_valid(project(polygons, crs, own, _TOLERANCE_M))))
    return _checked(Area(f"polygons of a file, around {position(lon0, lat0)}", shape, own, (lon0, lat0)), str(path))


def _checked(area: Area, what: str) -> Area:
    xy = shapely.get_coordinates(area.shape)
    _refuse_size(float(np.hypot(*xy.T).max()) if len(xy) and np.isfinite(xy).all() else np.inf, what)
    return area


def _refuse_size(reach_m: float, what: str) -> None:
    if not _LEAST_M <= reach_m <= _MOST_M:
        message = f"{what!r} reaches {reach_m / 1000:,.1f} km from its middle."
        hint = f"An area reaches {_LEAST_M / 1000:g} to {_MOST_M / 1000:,.0f} km from its middle."
        raise ConfigError(message, hint=hint)


def _middle(lonlat: NDArray[np.float64]) -> tuple[float, float]:
    """Return the mean of positions, degrees, (n, 2), as the direction of the mean of their vectors."""
    lon, lat = np.radians(lonlat).T
    x, y, z = (float(v.mean()) for v in (np.cos(lat) * np.cos(lon), np.cos(lat) * np.sin(lon), np.sin(lat)))
    across = np.hypot(x, y)
    if np.hypot(across, z) < 1e-6:
        raise ConfigError("the area is all around the earth.", hint=_FORMS)
    # Rounded, so that the map does not depend on the last digit; a ring around a pole has no longitude.
    lat0 = round(float(np.degrees(np.arctan2(z, across))), 4)
    return (0.0 if abs(lat0) > 89.99 else round(float(np.degrees(np.arctan2(y, x))), 4)), lat0


def _map_around(lon: float, lat: float) -> pyproj.CRS:
    return pyproj.CRS(f"+proj=laea +lat_0={lat:.6f} +lon_0={lon:.6f} +datum=WGS84 +units=m +no_defs")


def _on(crs: pyproj.CRS, lonlat: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.column_stack(pyproj.Transformer.from_crs(_WGS84, crs, always_xy=True).transform(*lonlat.T))


def position(lon: float, lat: float) -> str:
    """Return a position in degrees and whole minutes of ASCII, as warnings to ships have it: 77-30N 012-15W."""
    lon = (lon + 180) % 360 - 180
    return f"{_minutes(lat, 2)}{'S' if lat < 0 else 'N'} {_minutes(lon, 3)}{'W' if lon < 0 else 'E'}"


def _minutes(value: float, width: int) -> str:
    whole = round(abs(value) * 60)
    return f"{whole // 60:0{width}d}-{whole % 60:02d}"
