"""Reading S-411 (ice information for electronic navigational charts): its areas of ice, with the codes of SIGRID-3.

Two forms are read. Files of edition 1.1.0 (JCOMM, 2014), which ice services publish, have the root ``IceDataSet`` and
features such as ``seaice`` with ``iceact``. Those of edition 1.2.1 (S-100, part 10b) have the root ``Dataset`` and
features such as ``SeaIce`` with ``totalConcentration``. Without a ``srsName``, coordinates are longitude and latitude,
as in the examples of both editions; see :mod:`floemap.icechart.read.gml` for the order that a name means.
"""

from __future__ import annotations

import logging
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from lxml import etree
from numpy.typing import NDArray

from floemap.errors import ChartError
from floemap.files import CHECK_READABLE
from floemap.grid import Box
from floemap.icechart.read.codes import WATER_CODES
from floemap.icechart.read.features import Features, polygons_of
from floemap.icechart.read.gml import ID, Floats, GmlError, local, named_crs, polygons_in, rings_of, srs_name
from floemap.icechart.read.s411_codes import EGG, UNKNOWN, sigrid3_egg
from floemap.safe_xml import BrokenXmlError, DoctypeError, parse_xml

logger = logging.getLogger(__name__)

#: Most bytes of a file. A chart of a whole ocean has some ten million.
MOST_BYTES = 1 << 28
#: Words by which files of floemap mark a simulated chart, in a comment before the root element.
SAYS_SIMULATED = "SIMULATED by floemap"
#: Elements that hold features, in files of both forms.
_HOLDERS = ("icefeaturemember", "icemember", "members", "member", "featuremember", "featuremembers")
#: Areas of ice, and whether it is lake ice.
_ICE: Mapping[str, bool] = {"seaice": False, "lacice": True, "lakeice": True}
#: All other features of the catalogues of both editions.
_OTHERS = (
    "brgare icelne brglne opnlne lkilne i_ridg i_lead i_fral i_crac icecom icelea icebrg flobrg icethk iceshr icediv "
    "icerdg icekel icedft icefra icerft jmdbrr stgmlt snwcvr strptc i_grhm datacoverage icebergarea iceedge "
    "iceberglimit limitofopenwater limitofallknownice lineoficeridge lineoficelead lineoficefracture lineoficecrack "
    "icecompacting icelead iceberg floeberg icethickness iceshear icedivergence iceridgehummock icekeelbummock "
    "icedrift icefracture icerafting jammedbrashbarrier stageofmelt snowcover stripsandpatches groundedhummock"
)
#: Attributes of the egg, by their names in both editions.
_ATTRIBUTES: Mapping[str, str] = {
    **{"iceact": "iceact", "totalconcentration": "iceact", "iceapc": "iceapc", "partialconcentration": "iceapc"},
    **{"icesod": "icesod", "icestageofdevelopment": "icesod", "iceflz": "iceflz", "floesizes": "iceflz"},
    **{"icelso": "icelso", "lakeicestageofdevelopment": "icelso"},
}
_EDITIONS = ("1.0.0", "1.1.0", "1.2.0", "1.2.1")
_NAMESPACES = ("http://www.jcomm.info/ice", "http://www.iho.int/ice")
_NOT_GIVEN_WORDS = ("none", "nan", "null", "-9", "-")
_MOST_VALUES = 20
#: Share of the positions from which on latitudes beyond the poles mean that the order of the axes is the other one.
_POLE_DEG, _WRONG_ORDER = 90.0, 0.5
_SIMULATED = "SIMULATED"
_LONLAT = "EPSG:4326"
_REPAIR = "Repair the chart, or ask its ice service."


@dataclass(frozen=True)
class _Area:
    """An area of ice in a file: the number of its feature, from 0, how messages call it, and its element."""

    number: int
    words: str
    element: etree._Element

    def error(self, what: object) -> ChartError:
        return ChartError(f"{self.words}: {what}.", hint=_REPAIR)


@dataclass(frozen=True)
class S411File:
    """An open S-411 file; see :class:`floemap.icechart.read.vector_files.VectorFile`.

    Attributes
    ----------
    fields
        Names of SIGRID-3's codes, into which those of the file are translated, and SIMULATED if floemap marked the file
        as simulated.
    crs
        The CRS that the polygons name, with longitude or easting first, as :meth:`read` gives coordinates.
    """

    fields: tuple[str, ...]
    crs: str | None
    _numbers: NDArray[np.int64]
    _values: Mapping[str, Sequence[Any]]
    _geometries: NDArray[Any]
    _mended: NDArray[np.bool_]

    def read(self, columns: Sequence[str], box: Box | None = None) -> Features:
        """See :class:`floemap.icechart.read.vector_files.VectorFile`; the features are the areas of ice."""
        values = {name: self._values[name] for name in columns}
        return Features(self._numbers, values, self._geometries, self._mended).within(box)


def open_s411(file: Path, path: Path) -> S411File:
    """Read a file; `path` is its name for messages.

    Raises
    ------
    ChartError
        If it is not S-411, its XML is broken or declares a document type, or an area of ice has a geometry or codes
        that cannot be understood; the message then names the feature by its number in the file and its ``gml:id``.
    """
    root = _root(file)
    _check_edition(root, path)
    areas = _areas(root, path)
    by_id = {name: element for element in root.iter() if (name := element.get(ID)) is not None}
    rings = [_rings(area, by_id) for area in areas]
    crs = _one_crs([names for _, names in rings], areas, path)
    stated = _LONLAT if crs is None else named_crs(crs)[0]
    swapped = _latitude_first([parts for parts, _ in rings], crs, path)
    geometries = np.full(len(areas), None, object)
    mended = np.zeros(len(areas), np.bool_)
    for i, (parts, _) in enumerate(rings):
        turned = [[ring[:, ::-1] if swapped else ring for ring in part] for part in parts]
        if stated == _LONLAT:
            _check_latitudes(areas[i], [ring for part in turned for ring in part])
        geometries[i], mended[i] = polygons_of(turned)
    values = _codes(areas, path)
    if any(SAYS_SIMULATED in (c.text or "") for c in root.itersiblings(etree.Comment, preceding=True)):
        values[_SIMULATED] = ["yes"] * len(areas)
    numbers = np.array([area.number for area in areas], np.int64)
    return S411File(tuple(values), stated, numbers, values, geometries, mended)


def _root(file: Path) -> etree._Element:
    try:
        size = file.stat().st_size
        if size > MOST_BYTES:
            message = f"has {size >> 20:,} MiB; S-411 is read up to {MOST_BYTES >> 20:,} MiB."
            raise ChartError(message, hint="Give the chart as SIGRID-3 or GeoPackage, or a part of it.")
        return parse_xml(file.read_bytes())
    except OSError as e:
        raise ChartError(f"cannot be read: {e.strerror}.", hint=CHECK_READABLE) from e
    except BrokenXmlError as e:
        raise ChartError(f"is broken XML: {e}.", hint="Fetch or copy the chart again.") from e
    except DoctypeError as e:
        raise ChartError(f"{e}.", hint="S-411 has none. Fetch the chart from a source that you trust.") from e


def _check_edition(root: etree._Element, path: Path) -> None:
    """Refuse other products than S-411, and warn of editions that floemap does not know."""
    name = etree.QName(root)
    if name.localname == "IceDataSet":
        if name.namespace not in _NAMESPACES:
            known = " or ".join(_NAMESPACES)
            logger.warning(
                "%s: its namespace is %r, where S-411 has %s; it is read as 1.1.0", path, name.namespace, known
            )
        return
    product = _text(root, "productIdentifier")
    if name.localname.lower() != "dataset" or "411" not in (product or name.namespace or ""):
        what = f"is {product[:40]}" if product else f"has the root element <{name.localname[:60]}>"
        hint = "S-411 has the root IceDataSet, or Dataset with the product S-411."
        raise ChartError(f"{what}, so it is not an S-411 ice chart.", hint=hint)
    edition = _text(root, "productEdition")
    if edition and edition not in _EDITIONS:
        known = ", ".join(_EDITIONS)
        logger.warning(
            "%s: is of edition %s of S-411; floemap knows %s, and reads it as these", path, edition[:20], known
        )


def _text(root: etree._Element, name: str) -> str:
    return (root.findtext(f"./{{*}}DatasetIdentificationInformation/{{*}}{name}") or "").strip()


def _areas(root: etree._Element, path: Path) -> list[_Area]:
    """Return the areas of ice; count the features of other kinds, and warn of kinds that no edition has."""
    features = [f for holder in root if local(holder).lower() in _HOLDERS for f in holder if local(f)]
    areas, others = [], Counter[str]()
    for number, feature in enumerate(features):
        if local(feature).lower() in _ICE:
            called = feature.get(ID)
            words = f"polygon {number}" + ("" if called is None else f" (gml:id {called[:40]!r})")
            areas.append(_Area(number, words, feature))
        else:
            others[local(feature)[:40]] += 1
    strange = {kind: n for kind, n in others.items() if kind.lower() not in _OTHERS.split()}
    if strange:
        logger.warning("%s: left out features of kinds that S-411 does not have: %s", path, _counts(strange))
    if others:
        logger.info("%s: left out what is not an area of ice: %s", path, _counts(others))
    if not areas:
        held = _counts(others) or "no features"
        raise ChartError(f"holds no areas of ice, seaice or lacice; it holds {held}.", hint="Give another file.")
    return areas


def _counts(kinds: Mapping[str, int]) -> str:
    return ", ".join(f"{n} {kind}" for kind, n in list(kinds.items())[:40])


def _rings(area: _Area, by_id: Mapping[str, etree._Element]) -> tuple[list[list[Floats]], set[str | None]]:
    """Return the rings of each polygon of an area, and the names of their CRS."""
    try:
        polygons = polygons_in(area.element, by_id)
        return [rings_of(p, by_id) for p in polygons], {srs_name(p) for p in polygons}
    except GmlError as e:
        raise area.error(e) from e


def _one_crs(names: Sequence[set[str | None]], areas: Sequence[_Area], path: Path) -> str | None:
    """Return the name of the CRS of all areas; None if they name none."""
    first: dict[str | None, _Area] = {}
    for area, of_area in zip(areas, names, strict=True):
        for name in of_area:
            first.setdefault(name, area)
    if len({named_crs(name) if name is not None else None for name in first}) > 1:
        (one, _), (other, area) = list(first.items())[:2]
        raise area.error(f"has the srsName {other!r:.80}, where others have {one!r:.80}; a chart has one CRS")
    crs = next(iter(first), None)
    if crs is None:
        logger.warning("%s: names no CRS; its coordinates are taken for longitude and latitude, in this order", path)
    return crs


def _latitude_first(parts: Sequence[Sequence[Sequence[Floats]]], crs: str | None, path: Path) -> bool:
    """Return whether the second coordinate comes first: as the CRS says, unless only the other order gives latitudes.

    Longitudes may go to 360 degrees. A few positions beyond the poles are errors of the chart, not of the order.
    """
    name, turned = (_LONLAT, False) if crs is None else named_crs(crs)
    if name != _LONLAT:
        return turned
    rings = [ring for polygons in parts for polygon in polygons for ring in polygon if len(ring)]
    xy = np.concatenate(rings) if rings else np.empty((0, 2))
    beyond = np.abs(xy) > _POLE_DEG
    latitude = 0 if turned else 1
    share = beyond[:, latitude].mean() if len(xy) else 0.0
    if share >= _WRONG_ORDER and not beyond[:, 1 - latitude].any():
        order = "longitude, latitude" if turned else "latitude, longitude"
        logger.warning(
            "%s: %s, but a latitude would be %g then; its coordinates are read as %s",
            *(path, "names no CRS" if crs is None else f"has the srsName {crs[:80]!r}"),
            *(float(xy[beyond[:, latitude], latitude][0]), order),
        )
        return not turned
    return turned


def _check_latitudes(area: _Area, rings: Sequence[Floats]) -> None:
    """Refuse an area with latitudes beyond a pole; (m, 2) rings of longitude and latitude."""
    for ring in rings:
        beyond = ring[np.abs(ring[:, 1]) > _POLE_DEG + 1e-9]
        if len(beyond) and np.isfinite(beyond[0]).all():
            raise area.error(f"has a vertex at longitude {beyond[0, 0]:g} and latitude {beyond[0, 1]:g}")


def _codes(areas: Sequence[_Area], path: Path) -> dict[str, list[Any]]:
    """Return SIGRID-3's codes of each area by column, and its polygon type."""
    values: dict[str, list[Any]] = {name: [] for name in (*EGG, "POLY_TYPE")}
    remarked: dict[str, list[int]] = defaultdict(list)
    for area in areas:
        given = _attributes(area)
        lake = _ICE[local(area.element).lower()] and "icesod" not in given
        lists = [given.get(name, []) for name in ("iceact", "iceapc", "icelso" if lake else "icesod", "iceflz")]
        try:
            egg, remarks = sigrid3_egg(*lists, lake=lake)
        except ValueError as e:
            raise area.error(e) from e
        for remark in dict.fromkeys(remarks):
            remarked[remark].append(area.number)
        for name, code in egg.items():
            values[name].append(code)
        values["POLY_TYPE"].append("W" if egg["CT"] in WATER_CODES else "I")
    for remark, numbers in remarked.items():
        logger.warning("%s: %s: %s", path, _numbered(numbers), remark)
    return values


def _numbered(numbers: Sequence[int]) -> str:
    more = f" and {len(numbers) - 10} more" if len(numbers) > 10 else ""
    return f"polygon{'s' * (len(numbers) > 1)} {', '.join(map(str, numbers[:10]))}{more}"


def _attributes(area: _Area) -> dict[str, list[int]]:
    """Return the values of the egg's attributes of an area, by their names in edition 1.1.0."""
    given: dict[str, list[int]] = {}
    for child in area.element:
        name = _ATTRIBUTES.get(local(child).lower())
        if name is not None:
            text = child.get("code", child.text or "")
            try:
                given.setdefault(name, []).extend(_values(text))
            except ValueError:
                raise area.error(f"{local(child)} is {text[:60]!r}, which is not a code or a list of codes") from None
            if len(given[name]) > _MOST_VALUES:
                raise area.error(f"{local(child)} has more than {_MOST_VALUES} values")
    return {name: values for name, values in given.items() if values}


def _values(text: str) -> Iterable[int]:
    """Return the codes in a text: one, several with blanks, commas, brackets or quotes, or two digits each."""
    for word in _words(text):
        if word.lower() in _NOT_GIVEN_WORDS:
            yield UNKNOWN
        elif not re.fullmatch(r"[0-9]+", word, re.ASCII) or (len(word) > 2 and len(word) % 2):
            raise ValueError(word)
        else:
            yield from (int(word[i : i + 2]) for i in range(0, len(word), 2))


def _words(text: str) -> Iterator[str]:
    return (found[0] for found in re.finditer(r"[^\s,;'\"\[\]()]+", text))
