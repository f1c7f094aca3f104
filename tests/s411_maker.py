"""Small files of S-411 for tests, as services write them, and places where foreign ones may be."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from real_files import REAL

#: Names of the CRS with latitude first, and with longitude first.
LATLON = "http://www.opengis.net/def/crs/EPSG/0/4326"
LONLAT = "http://www.opengis.net/gml/srs/epsg.xml#4326"
#: Foreign files, and a feature catalogue if one lies beside them.
FOREIGN = sorted((REAL / "s411").rglob("*.gml"))
CATALOGUES = sorted(p for p in (REAL / "s411").rglob("*FC*.xml") if p.is_file())

HEAD = (
    '<?xml version="1.0" encoding="utf-8"?>\n'
    '<ice:IceDataSet xmlns:gml="http://www.opengis.net/gml/3.2" xmlns:ice="http://www.jcomm.info/ice">'
)


def square(west: float, south: float, east: float, north: float) -> list[tuple[float, float]]:
    """A ring of longitude and latitude, against the clock."""
    return [(west, south), (east, south), (east, north), (west, north), (west, south)]


def area(
    codes: str = "<ice:iceact>92</ice:iceact>",
    ring: Sequence[tuple[float, float]] | None = None,
    *,
    srs: str | None = LATLON,
    kind: str = "seaice",
    name: str = "seaice.1",
) -> str:
    """One feature; the ring is turned to the order that the name of the CRS means."""
    places = ring or square(-60, 70, -58, 71)
    text = " ".join(f"{y} {x}" if srs == LATLON else f"{x} {y}" for x, y in places)
    named = "" if srs is None else f' srsName="{srs}"'
    return (
        f'<ice:IceFeatureMember><ice:{kind} gml:id="{name}">{codes}<gml:Polygon{named} gml:id="{name}g"><gml:exterior>'
        f"<gml:LinearRing><gml:posList>{text}</gml:posList></gml:LinearRing></gml:exterior></gml:Polygon></ice:{kind}>"
        "</ice:IceFeatureMember>"
    )


def egg(**lists: str) -> str:
    """Elements of an egg, such as egg(iceact="92", icesod="95"); several values of one element are joined by '|'."""
    return "".join(f"<ice:{k}>{v}</ice:{k}>" for k, values in lists.items() for v in values.split("|"))


def write(path: Path, *areas: str, head: str = HEAD) -> Path:
    """Write a dataset of edition 1.1.0."""
    path.write_text(head + "".join(areas) + "</ice:IceDataSet>", encoding="utf-8")
    return path
