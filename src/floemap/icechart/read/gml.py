"""Polygons in GML 3.2 (ISO 19136), and in GML 2 as old files have them: their rings, their CRS, and its axis order.

A CRS by name says in which order its coordinates come. Names of the forms ``urn:ogc:def:crs:EPSG::4326`` and
``http://www.opengis.net/def/crs/EPSG/0/4326`` mean the order of the registry, latitude before longitude; the older
forms ``http://www.opengis.net/gml/srs/epsg.xml#4326`` and ``EPSG:4326`` mean longitude before latitude (OGC Naming
Authority, policy 07-092; GDAL reads them in the same way).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import pyproj
from lxml import etree
from numpy.typing import NDArray
from pyproj.exceptions import CRSError

Floats = NDArray[np.float64]

ID = "{http://www.opengis.net/gml/3.2}id"
_HREF = "{http://www.w3.org/1999/xlink}href"
_BY_REGISTRY = re.compile(
    r"(?:urn:(?:x-)?ogc:def:crs:EPSG:[^:]*:|https?://www\.opengis\.net/def/crs/EPSG/[^/]*/)(\d{1,6})", re.IGNORECASE
)
_EASTING_FIRST = re.compile(r"(?:https?://www\.opengis\.net/gml/srs/epsg\.xml#|EPSG:)(\d{1,6})", re.IGNORECASE)
_CRS84 = re.compile(r"(?:urn:ogc:def:crs:OGC:[^:]*:|https?://www\.opengis\.net/def/crs/OGC/[^/]*/)CRS84", re.IGNORECASE)
_POLYGONS = ("Polygon", "PolygonPatch", "Rectangle", "Triangle")
_EXTERIORS, _INTERIORS = ("exterior", "outerBoundaryIs"), ("interior", "innerBoundaryIs")
#: Longest name of a CRS that is looked at, characters.
_LONGEST = 200


class GmlError(ValueError):
    """A geometry cannot be read; the message is a clause about its feature."""


def local(element: etree._Element) -> str:
    """Return an element's name without its namespace; "" for comments and processing instructions."""
    return etree.QName(element).localname if isinstance(element.tag, str) else ""


def named_crs(name: str) -> tuple[str, bool]:
    """Return the CRS that a ``srsName`` means, and whether its latitude or northing comes first.

    A name of an unknown form is returned as it is.
    """
    name = name.strip()[:_LONGEST]
    if _CRS84.fullmatch(name):
        return "EPSG:4326", False
    if found := _EASTING_FIRST.fullmatch(name):
        return f"EPSG:{found[1]}", False
    found = _BY_REGISTRY.fullmatch(name)
    if not found:
        return name, False
    try:
        first = pyproj.CRS.from_epsg(int(found[1])).axis_info[0].name.lower()
    except (CRSError, IndexError):
        return name, False
    return f"EPSG:{found[1]}", "latitude" in first or "northing" in first


def polygons_in(feature: etree._Element, by_id: Mapping[str, etree._Element]) -> list[etree._Element]:
    """Return the polygons and patches of a feature, also those to which it refers in the same file.

    Raises
    ------
    GmlError
        If a reference leads out of the file, or to nothing.
    """
    return list(_polygons(feature, by_id, frozenset()))


def _polygons(
    element: etree._Element, by_id: Mapping[str, etree._Element], on_the_way: frozenset[str]
) -> Iterator[etree._Element]:
    if local(element) in _POLYGONS:
        yield element
        return
    target = element.get(_HREF)
    if target is not None and local(element) in ("surfaceProperty", "surfaceMember", "polygonMember", "baseSurface"):
        if target in on_the_way:
            raise GmlError("refers to a geometry that refers to itself")
        yield from _polygons(_referred(target, by_id), by_id, on_the_way | {target})
    for child in element:
        yield from _polygons(child, by_id, on_the_way)


def _referred(target: str, by_id: Mapping[str, etree._Element]) -> etree._Element:
    found = by_id.get(target.removeprefix("#")) if target.startswith("#") else None
    if found is None:
        raise GmlError(f"refers to the geometry {target[:60]!r}, which is not in the file")
    return found


def srs_name(element: etree._Element) -> str | None:
    """Return the ``srsName`` of a geometry or of the nearest element around it; None if there is none."""
    for around in (element, *element.iterancestors()):
        if (name := around.get("srsName")) is not None:
            return name
    envelope = next(element.getroottree().getroot().iterfind("./{*}boundedBy/{*}Envelope"), None)
    return None if envelope is None else envelope.get("srsName")


def rings_of(polygon: etree._Element, by_id: Mapping[str, etree._Element]) -> list[Floats]:
    """Return the rings of a polygon, (m, 2) each, in the file's axis order; its shell first.

    Raises
    ------
    GmlError
        If it has no shell or several, or a ring cannot be read.
    """
    shells = [ring for part in polygon if local(part) in _EXTERIORS for ring in part if local(ring)]
    holes = [ring for part in polygon if local(part) in _INTERIORS for ring in part if local(ring)]
    if len(shells) != 1:
        raise GmlError(f"has a polygon with {len(shells)} exterior rings, where one is needed")
    return [_ring(ring, by_id) for ring in (*shells, *holes)]


def _ring(ring: etree._Element, by_id: Mapping[str, etree._Element]) -> Floats:
    if local(ring) == "LinearRing":
        return _positions(ring)
    if local(ring) != "Ring":
        raise GmlError(f"has a ring of the kind {local(ring)!r}, which floemap does not read")
    pieces: list[Floats] = []
    for member in ring:
        if local(member) != "curveMember":
            continue
        target = member.get(_HREF)
        curves = [_referred(target, by_id)] if target is not None else [c for c in member if local(c)]
        pieces += [piece for curve in curves for piece in _curve(curve)]
    if not pieces:
        raise GmlError("has a ring without positions")
    return np.concatenate(pieces)


def _curve(curve: etree._Element) -> list[Floats]:
    """Return the straight segments of a curve, in order."""
    if local(curve) == "LineString":
        return [_positions(curve)]
    if local(curve) != "Curve":
        raise GmlError(f"has a border of the kind {local(curve)!r}, which floemap does not read")
    segments = [s for part in curve if local(part) == "segments" for s in part if local(s)]
    for segment in segments:
        if local(segment) != "LineStringSegment":
            raise GmlError(f"has a border with {local(segment)!r}, where floemap reads straight edges only")
    return [_positions(segment) for segment in segments]


def _positions(element: etree._Element) -> Floats:
    """Return the positions of a ring or line, (m, 2), without heights."""
    lists = [e for e in element.iter() if local(e) in ("posList", "coordinates")]
    single = [e for e in element.iter() if local(e) == "pos"]
    if len(lists) > 1 or (lists and single):
        raise GmlError("has a ring with several lists of positions")
    if single:
        return np.concatenate([_numbers(e, (e.text or "").split()) for e in single])
    if not lists:
        return np.empty((0, 2))
    text = lists[0].text or ""
    if local(lists[0]) == "coordinates":  # of GML 2: "x,y x,y"
        places = [place.split(",") for place in text.split()]
        if len({len(place) for place in places}) > 1:
            raise GmlError("has positions with different numbers of coordinates")
        return _in_pairs([number for place in places for number in place], len(places[0]) if places else 2)
    return _numbers(lists[0], text.split())


def _numbers(element: etree._Element, words: Sequence[str]) -> Floats:
    stated = next((d for e in (element, *element.iterancestors()) if (d := e.get("srsDimension")) is not None), None)
    if stated is not None and stated.strip() not in ("2", "3"):
        raise GmlError(f"has coordinates of {stated[:20]!r} dimensions")
    return _in_pairs(words, 2 if stated is None else int(stated))


def _in_pairs(words: Sequence[str], dimensions: int) -> Floats:
    try:
        values = np.array(words, np.float64)
    except ValueError:
        wrong = next((w for w in words if not _is_number(w)), "")
        raise GmlError(f"has the coordinate {wrong[:40]!r}, which is not a number") from None
    if dimensions not in (2, 3) or len(values) % dimensions:
        raise GmlError(f"has {len(values)} coordinates in a ring, which do not make positions of {dimensions}")
    return np.asarray(values.reshape(-1, dimensions)[:, :2])


def _is_number(word: str) -> bool:
    try:
        float(word)
    except ValueError:
        return False
    return True
