"""Routes from files: GeoJSON, RTZ (IEC 61174, which chart systems exchange) and GPX, as legs between waypoints.

Positions are WGS 84 longitude and latitude, degrees. RTZ says of each leg whether it is a rhumb line or a great circle;
the other formats do not.
"""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

from lxml import etree

from floemap.counts import counted
from floemap.errors import MISSHAPEN, RouteError
from floemap.files import CHECK_READABLE, decoded, regular_file
from floemap.results.stage import parse_json
from floemap.safe_xml import BrokenXmlError, DoctypeError, parse_xml

#: Kinds of line between two waypoints: of constant course, or the shortest.
LineKind = Literal["rhumb", "great-circle"]
#: Longitude and latitude, degrees.
Position = tuple[float, float]

#: Largest file and most waypoints of a route.
MOST_BYTES, MOST_WAYPOINTS = 16 << 20, 10_000
_LONGEST_NAME = 80
_DEEPEST = 8
_RTZ_LINES: Mapping[str, LineKind] = {"loxodrome": "rhumb", "orthodrome": "great-circle"}
_FORMATS = "Give a route as GeoJSON (LineString or MultiLineString), RTZ (.rtz) or GPX (.gpx)."
_LONLAT_NAMES = ("CRS84", "EPSG::4326", "EPSG:4326", "OGC:CRS84")


@dataclass(frozen=True)
class Leg:
    """A leg between two waypoints; `line` is the kind of line that the file gives, None if it does not."""

    name: str
    start: Position
    end: Position
    line: LineKind | None = None


@dataclass(frozen=True)
class Route:
    """A route: its file, the name that the file gives it, and its legs in the order of sailing."""

    path: Path
    name: str
    legs: tuple[Leg, ...]


@dataclass(frozen=True)
class _Track:
    """One line of a file: waypoints, their names, the kinds of the lines that lead to them, and names of legs."""

    name: str
    points: Sequence[Position]
    names: Sequence[str]
    lines: Sequence[LineKind | None]
    legs: Sequence[str] = ()


def read_route(path: str | Path) -> Route:
    """Read a route.

    A leg has the name that the property ``legs`` of a GeoJSON feature lists for it, or the names of its two waypoints
    (GeoJSON's property ``waypoints``, or points of the same collection with a name), or that of its line and a number.
    Waypoints at the same position as the one before are left out.

    Raises
    ------
    RouteError
        If the file cannot be read as a route, has no leg, or a position is not a longitude and a latitude.
    """
    path = Path(path)
    file = regular_file(path, RouteError)
    try:
        if file.stat().st_size > MOST_BYTES:
            raise RouteError(f"is larger than {MOST_BYTES >> 20} MiB.", path=path, hint=_FORMATS)
        content = file.read_bytes()
    except OSError as e:
        raise RouteError(f"cannot be read: {e.strerror}.", path=path, hint=CHECK_READABLE) from e
    is_xml = content.lstrip(b"\xef\xbb\xbf \t\r\n")[:1] == b"<" or path.suffix.lower() in (".rtz", ".gpx", ".xml")
    try:
        tracks = list(_xml_tracks(content, path) if is_xml else _geojson_tracks(content, path))
    except MISSHAPEN as e:
        what = "an RTZ or GPX file" if is_xml else "GeoJSON"
        raise RouteError(f"is not as {what} is: {str(e)[:100]}.", path=path, hint=_FORMATS) from e
    if not tracks:
        raise RouteError("contains no line, so there is no route.", path=path, hint=_FORMATS)
    if (count := sum(len(t.points) for t in tracks)) > MOST_WAYPOINTS:
        hint = "Give the waypoints of the route, not the positions of a voyage."
        raise RouteError(f"has {count:,} waypoints; floemap reads up to {MOST_WAYPOINTS:,}.", path=path, hint=hint)
    legs = [leg for track in tracks for leg in _legs(track, alone=len(tracks) == 1)]
    if not legs:
        points = len({p for t in tracks for p in t.points})
        needed = f"has {counted(points, 'position')}; a route needs two or more."
        raise RouteError(needed, path=path, hint="Give a line of waypoints in the order of sailing.")
    numbered = [_renamed(leg, i) for i, leg in enumerate(legs, 1)]
    return Route(path, next((t.name for t in tracks if t.name), "") or clean_name(path.stem), tuple(numbered))


def clean_name(text: object) -> str:
    """Return a name in one line of at most 80 characters, without control and invisible ones; "" if none remain."""
    words = "" if text is None or isinstance(text, list | dict) else str(text)
    shown = "".join(c if unicodedata.category(c)[0] != "C" else " " for c in words)
    return " ".join(shown.split())[:_LONGEST_NAME].strip()


def _renamed(leg: Leg, number: int) -> Leg:
    return leg if leg.name else Leg(f"leg {number}", leg.start, leg.end, leg.line)


def _legs(track: _Track, *, alone: bool) -> Iterator[Leg]:
    whole = len(track.points) - 1
    for i, (start, end) in enumerate(pairwise(track.points)):
        if _same(start, end):
            continue
        names = [clean_name(track.names[j]) for j in (i, i + 1)]
        name = clean_name(track.legs[i]) if len(track.legs) == whole else ""
        if not name and all(names):
            name = f"{names[0]} to {names[1]}"
        if not name and track.name and not (alone and whole > 1):
            name = track.name if whole == 1 else f"{track.name}, leg {i + 1}"
        yield Leg(name, start, end, track.lines[i + 1])


def _same(a: Position, b: Position) -> bool:
    turned = abs((a[0] - b[0] + 180) % 360 - 180) < 1e-9 or min(abs(a[1]), abs(b[1])) > 90 - 1e-9
    return turned and abs(a[1] - b[1]) < 1e-9


def _position(place: Sequence[Any], path: Path) -> Position:
    lon, lat = place[:2]
    if isinstance(lon, bool) or isinstance(lat, bool):
        raise TypeError("a position is not two numbers")
    x, y = float(lon), float(lat)
    if not (math.isfinite(x) and math.isfinite(y)) or abs(y) > 90 or abs(x) > 360:
        hint = "Give longitude and latitude in degrees (WGS 84), longitude first in GeoJSON."
        raise RouteError(
            f"has a waypoint at {x:g}, {y:g}, which is not a longitude and a latitude.", path=path, hint=hint
        )
    return (x + 180) % 360 - 180 if abs(x) > 180 else x, y


def _geojson_tracks(content: bytes, path: Path) -> Iterator[_Track]:
    try:
        text = decoded(content)
    except UnicodeDecodeError:
        raise RouteError("is neither GeoJSON nor XML.", path=path, hint=_FORMATS) from None
    try:
        top = parse_json(text, path, RouteError)
    except RouteError as e:
        e.hint = _FORMATS
        raise
    if not isinstance(top, Mapping):
        raise RouteError("is not GeoJSON: its content is not an object.", path=path, hint=_FORMATS)
    crs = top.get("crs")
    if crs is not None and not str(crs.get("properties", {}).get("name", "")).upper().endswith(_LONLAT_NAMES):
        hint = "Reproject it to longitude and latitude (EPSG:4326), as RFC 7946 requires."
        raise RouteError(f"is in another CRS than longitude and latitude: {str(crs)[:80]}.", path=path, hint=hint)
    features = list(_features(top))
    places: dict[Position, str] = {}
    for feature in features:
        geometry = feature.get("geometry") or {}
        if geometry.get("type") == "Point" and (name := clean_name((feature.get("properties") or {}).get("name"))):
            places[_rounded(_position(geometry["coordinates"], path))] = name
    for feature in features:
        properties = feature.get("properties") or {}
        for line in _lines_in(feature.get("geometry")):
            points = [_position(place, path) for place in line]
            listed, legs = properties.get("waypoints"), properties.get("legs")
            names = [str(n) for n in listed] if isinstance(listed, list) and len(listed) == len(points) else []
            names = names or [places.get(_rounded(p), "") for p in points]
            of_legs = [str(n) for n in legs] if isinstance(legs, list) else []
            yield _Track(clean_name(properties.get("name")), points, names, [None] * len(points), of_legs)


def _rounded(position: Position) -> Position:
    return round(position[0], 6), round(position[1], 6)


def _features(top: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    kind = top.get("type")
    if kind == "FeatureCollection":
        yield from (f for f in top["features"] if isinstance(f, Mapping))
    elif kind == "Feature":
        yield top
    else:
        yield {"geometry": top}


def _lines_in(geometry: Any, depth: int = 0) -> Iterator[Sequence[Any]]:
    if not isinstance(geometry, Mapping):
        return
    kind = geometry.get("type")
    if kind == "LineString":
        yield geometry["coordinates"]
    elif kind == "MultiLineString":
        yield from geometry["coordinates"]
    elif kind == "GeometryCollection" and depth < _DEEPEST:
        for inner in geometry["geometries"]:
            yield from _lines_in(inner, depth + 1)


def _xml_tracks(content: bytes, path: Path) -> Iterator[_Track]:
    try:
        root = parse_xml(content)
    except (BrokenXmlError, DoctypeError) as e:
        raise RouteError(f"is not readable XML: {e}.", path=path, hint=_FORMATS) from e
    kind = _local(root)
    if kind == "route":
        yield from _rtz_tracks(root, path)
    elif kind == "gpx":
        yield from _gpx_tracks(root, path)
    else:
        raise RouteError(f"is XML with the root {kind[:40]!r}, not RTZ or GPX.", path=path, hint=_FORMATS)


def _local(element: etree._Element) -> str:
    return etree.QName(element).localname if isinstance(element.tag, str) else ""


def _children(element: etree._Element, name: str) -> list[etree._Element]:
    return [child for child in element if _local(child) == name]


def _rtz_tracks(root: etree._Element, path: Path) -> Iterator[_Track]:
    """Give the waypoints of an RTZ file. The leg of a waypoint is the one that leads to it."""
    about = _children(root, "routeInfo")
    name = clean_name(about[0].get("routeName")) if about else ""
    for listed in _children(root, "waypoints"):
        usual: LineKind | None = None
        for default in _children(listed, "defaultWaypoint"):
            usual = _rtz_line(default, None)
        points, names, lines = [], [], []
        for waypoint in _children(listed, "waypoint"):
            at = _children(waypoint, "position")[0]
            points.append(_position((at.get("lon"), at.get("lat")), path))
            names.append(waypoint.get("name") or "")
            lines.append(_rtz_line(waypoint, usual))
        yield _Track(name, points, names, lines)


def _rtz_line(waypoint: etree._Element, usual: LineKind | None) -> LineKind | None:
    for leg in _children(waypoint, "leg"):
        kind = leg.get("geometryType")
        if kind is not None:
            return _RTZ_LINES[kind.lower()]
    return usual


def _gpx_tracks(root: etree._Element, path: Path) -> Iterator[_Track]:
    """Give the routes of a GPX file; its tracks, positions of a voyage, only if it has no routes."""
    lines = [(r, _children(r, "rtept")) for r in _children(root, "rte")]
    if not any(places for _, places in lines):
        tracks = _children(root, "trk")
        lines = [(t, _children(part, "trkpt")) for t in tracks for part in _children(t, "trkseg")]
    for line, places in lines:
        points = [_position((p.get("lon"), p.get("lat")), path) for p in places]
        names = [_text(p, "name") for p in places]
        yield _Track(clean_name(_text(line, "name")), points, names, [None] * len(points))


def _text(element: etree._Element, name: str) -> str:
    found = _children(element, name)
    return (found[0].text or "") if found else ""
