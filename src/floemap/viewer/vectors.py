"""What of a result is drawn as polygons and lines: GeoJSON files that floemap wrote, which the page reads itself."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyproj
import shapely

from floemap.errors import FloemapError
from floemap.grid import extent_of
from floemap.icechart.polaris import ship_class
from floemap.own_legends import from_record
from floemap.results.fields import at
from floemap.results.names import is_plain
from floemap.results.stage import damaged
from floemap.viewer.found import Found, Search
from floemap.viewer.legends import of_classes, of_levels

#: Beginning of a GeoJSON as floemap writes it, and the bytes in which it lies.
_NUMBER = rb"\s*(-?\d{1,3}(?:\.\d{1,12})?(?:e-\d\d)?)\s*"
_BBOX = re.compile(
    rb'\s*\{\s*"type"\s*:\s*"FeatureCollection"\s*,\s*"bbox"\s*:\s*\[' + b",".join(4 * [_NUMBER]) + rb"\]"
)
_HEAD = 1024
Box = tuple[float, float, float, float]


@dataclass(frozen=True)
class Shapes:
    """A GeoJSON.

    Attributes
    ----------
    path
        Its real path.
    title, run, status
        What it is for people, the model or analyst that it is of, and its status.
    legend
        Name and content of its legend, as map.json has it; None if it has none.
    bbox
        West, south, east, north, degrees; west is greater than east over the dateline.
    """

    path: Path
    title: str
    kind: Literal["polygons", "lines"]
    run: str | None
    status: str | None
    bbox: Box
    legend: tuple[str, Mapping[str, Any]] | None = None


#: Records of results with polygons.
_WITH_POLYGONS = ("chart.json", "publication.json")


def has_polygons(result: Found, search: Search) -> bool:
    """Return whether the record of a draft or published chart names GeoJSON; warn if it has other polygons only."""
    if result.kind not in _WITH_POLYGONS:
        return False
    named = bool(at(result.record, "outputs.geojson", []))
    if not named and at(result.record, "outputs.chart", []):
        search.warn(result.folder, "its polygons have no GeoJSON, which the map needs; they are not shown")
    return named


def polygons_of(result: Found, run: str | None, search: Search) -> Iterator[Shapes]:
    """Give the polygons of a draft or published chart. Damaged files are named in a warning, and left out."""
    if result.kind not in _WITH_POLYGONS:
        return
    published = result.kind == "publication.json"
    for name in at(result.record, "outputs.geojson", []):
        if not is_plain(str(name)):
            search.warn(result.folder, "its record names a GeoJSON as no file can be named; it is not shown")
            continue
        path = result.folder / str(name)
        try:
            real = _whole(result, path, search)
            legend, bbox = from_record(at(result.record, "legend"), path), _bbox(real)
        except FloemapError as e:
            search.without(e, path)
            continue
        analyst = at(result.record, "analyst", "")
        title = "Published chart" if published else "Draft chart: polygons"
        who = f"published by {analyst}" if published and analyst else run
        yield Shapes(
            real, title, "polygons", who, "published" if published else "draft", bbox, (legend.name, of_classes(legend))
        )


def route_of(result: Found, search: Search) -> Iterator[Shapes]:
    """Give the line of a ship's route with its risk, from :mod:`floemap.routes`."""
    path = result.folder / "route.geojson"
    try:
        real = _whole(result, path, search)
        bbox = _bbox_of_lines(real)
        ship = ship_class(str(at(result.record, "ice_class", "")))
    except FloemapError as e:
        search.without(e, path)
        return
    title = f"Risk along {at(result.record, 'route', '') or 'the route'}, {ship.title}"
    yield Shapes(real, title, "lines", None, None, bbox, (f"route_levels_{ship.key}", of_levels(ship)))


def _whole(result: Found, path: Path, search: Search) -> Path:
    """Return the real path of a file of a result.

    Raises
    ------
    FloemapError
        If it is not there, is a link that leads elsewhere, or is shorter than its record says.
    """
    real = search.inside(path)
    if not real.is_file():
        raise FloemapError("does not exist", path=path)
    if any(damaged(result.folder, result.record, [path.name])):
        raise FloemapError("is empty or shorter than its record says", path=path)
    return real


def _bbox_of_lines(path: Path) -> Box:
    """Return west, south, east, north of a GeoJSON of lines, which is read whole.

    Raises
    ------
    FloemapError
        If it is no GeoJSON, or has no positions on the earth.
    """
    try:
        lon, lat = shapely.get_coordinates(shapely.from_geojson(path.read_bytes())).T
    except OSError as e:
        raise FloemapError(f"cannot be read: {e.strerror or e}", path=path) from e
    except shapely.errors.GEOSException as e:
        raise FloemapError("is not a GeoJSON", path=path) from e
    if not len(lon) or not (np.abs(lat) <= 90).all() or not (np.abs(lon) <= 360).all():
        raise FloemapError("has no lines on the earth", path=path)
    return extent_of(lon, lat)


def _bbox(path: Path) -> Box:
    """Return west, south, east, north of a GeoJSON that floemap wrote: its member bbox, which is before the features.

    The file is not read whole, as some have many megabytes.

    Raises
    ------
    FloemapError
        If it is not GeoJSON of polygons, or has no such member at its beginning.
    """
    try:
        with path.open("rb") as file:
            head = file.read(_HEAD)
    except OSError as e:
        raise FloemapError(f"cannot be read: {e.strerror or e}", path=path) from e
    found = _BBOX.match(head)
    if found is None:
        raise FloemapError("is not a GeoJSON that floemap wrote", path=path)
    west, south, east, north = (float(v) for v in found.groups())
    if max(abs(south), abs(north)) > 90 or max(abs(west), abs(east)) > 360:
        raise FloemapError(f"has a member bbox with {west:g}, {south:g}, {east:g}, {north:g}", path=path)
    return west, south, east, north


def extent_of_box(bbox: Box, crs: pyproj.CRS) -> Box:
    """Return xmin, ymin, xmax, ymax on a map, metres, of a box in degrees; its west may be greater than its east."""
    west, south, east, north = bbox
    south, north = (max(south, 0.0), north) if north >= 0 else (south, north)  # the other pole is infinitely far
    lon, lat = np.meshgrid(np.linspace(west, east + 360 * (east < west), 65), np.linspace(south, north, 65))
    x, y = pyproj.Transformer.from_crs("EPSG:4326", crs, always_xy=True).transform(lon.ravel(), lat.ravel())
    return float(np.min(x)), float(np.min(y)), float(np.max(x)), float(np.max(y))
