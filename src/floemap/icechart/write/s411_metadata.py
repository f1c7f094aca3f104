"""Metadata (ISO 19139) and catalogue (S-100, 1.0.0) of an exchange set of S-411, as its edition 1.1.0 has them.

Element names, their order and the code lists follow clauses 9 and 10 of the standard; dates are those of ISO 8601.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from lxml import etree

from floemap.icechart.read.gml import ID
from floemap.icechart.write.table import Status, is_simulated
from floemap.icechart.write.times import in_utc
from floemap.version import __version__

_EC, _GMD = "http://www.iho.int/S100EC", "http://www.isotc211.org/2005/gmd"
_GCO, _GML = "http://www.isotc211.org/2005/gco", "http://www.opengis.net/gml/3.2"
_SPACES = {"gmd": _GMD, "gco": _GCO, "gml": _GML}
_LISTS = "http://www.isotc211.org/2005/resources/Codelist/gmxCodelists.xml"
#: Product specification: name, edition, date.
_STANDARD = ("Ice Information Product Specification (JCOMM S-411)", "1.1.0", "2014-06-01")

#: Elements by name: text, an element, a mapping of further elements, or a list of any of these for repeated elements.
Tree = Mapping[str, Any]


@dataclass(frozen=True)
class SetFacts:
    """What the metadata and the catalogue of a chart say.

    Attributes
    ----------
    producer, name
        Producer code and name of the chart.
    start
        Time of the chart, UTC.
    status
        Status of the chart.
    about
        Facts about the chart, by name; `contact` is its producer in words.
    bounds
        West, south, east, north, degrees; west is greater than east over the dateline.
    crc
        CRC-32 of the dataset.
    """

    producer: str
    name: str
    start: datetime
    status: Status
    about: Mapping[str, Any]
    bounds: tuple[float, float, float, float]
    crc: int

    @property
    def issued(self) -> str:
        """Date of publication, of a draft that of the chart itself."""
        return f"{in_utc(self.status.published or self.start):%Y-%m-%d}"

    @property
    def limits(self) -> str:
        """What the chart is not for, in words."""
        simulated = "SIMULATED by floemap. " if is_simulated(self.about) else ""
        return f"{simulated}{self.status.words[0].upper()}{self.status.words[1:]}."

    @property
    def abstract(self) -> str:
        """Description of the chart with all facts about it."""
        facts = "; ".join(f"{k}: {v}" for k, v in self.about.items() if k != "created")
        return f"{self.limits} Ice information, S-411, by floemap {__version__}; {self.status.history}. {facts}".strip()


def printable(text: object) -> str:
    """Return text without the characters that XML does not allow."""
    return "".join(c for c in str(text) if c.isprintable() or c in "\n\t")


def metadata(facts: SetFacts) -> bytes:
    """Return the metadata of a chart, an XML document."""
    root = etree.Element(f"{{{_GMD}}}MD_Metadata", nsmap=_SPACES)
    _fill(
        root,
        {
            "gmd:fileIdentifier": _text(facts.name),
            "gmd:language": _code("LanguageCode", "eng"),
            "gmd:characterSet": _code("MD_CharacterSetCode", "utf8"),
            "gmd:contact": _party(facts),
            "gmd:dateStamp": {"gco:Date": facts.issued},
            "gmd:identificationInfo": {"gmd:MD_DataIdentification": _identification(facts)},
        },
    )
    return _document(root)


def _identification(facts: SetFacts) -> Tree:
    progress = "completed" if facts.status.published is not None else "underDevelopment"
    when = f"{facts.start:%Y-%m-%dT%H:%M:%SZ}"
    dated = {"gmd:date": {"gco:Date": facts.issued}, "gmd:dateType": _code("CI_DateTypeCode", "creation")}
    period = {"gml:beginPosition": when, "gml:endPosition": when}
    return {
        "gmd:citation": {
            "gmd:CI_Citation": {
                "gmd:title": _text(f"{facts.status.title} {facts.name}"),
                "gmd:date": {"gmd:CI_Date": dated},
            }
        },
        "gmd:abstract": _text(facts.abstract),
        "gmd:purpose": _text(facts.status.purpose),
        "gmd:status": _code("MD_ProgressCode", progress),
        "gmd:resourceConstraints": {"gmd:MD_Constraints": {"gmd:useLimitation": _text(facts.limits)}},
        "gmd:language": _code("LanguageCode", "eng"),
        "gmd:characterSet": _code("MD_CharacterSetCode", "utf8"),
        "gmd:topicCategory": {"gmd:MD_TopicCategoryCode": "geoscientificInformation"},
        "gmd:extent": {
            "gmd:EX_Extent": {
                "gmd:geographicElement": _box(facts),
                "gmd:temporalElement": {"gmd:EX_TemporalExtent": {"gmd:extent": {"gml:TimePeriod": period}}},
            }
        },
    }


def catalogue(facts: SetFacts, crc_of_metadata: int, srs_name: str, latitude_first: bool) -> bytes:
    """Return the catalogue of an exchange set, an XML document.

    Parameters
    ----------
    crc_of_metadata
        CRC-32 of the file of metadata.
    srs_name, latitude_first
        Name of the CRS of the bounding polygon, and whether latitudes come first in it.
    """
    name, edition, day = _STANDARD
    standard = {"ec:name": name, "ec:version": edition, "ec:date": {"gco:Date": day}}
    root = etree.Element(f"{{{_EC}}}S100_ExchangeCatalogue", nsmap={"ec": _EC, **_SPACES})
    identity = f"S411_{facts.producer}_{facts.name}"
    issued = {"ec:editionNumber": "1.0.0", "ec:issueDate": {"gco:Date": facts.issued}}
    _fill(
        root,
        {
            "ec:identifier": {
                "ec:identifier": identity,
                "ec:editionNumber": "1.0.0",
                "ec:date": {"gco:Date": facts.issued},
            },
            "ec:contact": _party(facts),
            "ec:productSpecification": standard,
            "ec:S100_DatasetDiscoveryMetadata": {
                "ec:fileName": f"{facts.name}.gml",
                "ec:filePath": f"/data/{facts.name}.gml",
                "ec:description": facts.abstract,
                "ec:purpose": facts.status.purpose,
                "ec:specificUsage": facts.limits,
                "ec:editionNumber": "1.0.0",
                "ec:updateNumber": "not applicable",
                "ec:issueDate": {"gco:Date": facts.issued},
                "ec:productSpecification": standard,
                "ec:producingAgency": _party(facts),
                "ec:displayScale": "0",
                "ec:horizontalDatum": "WGS84",
                "ec:verticalDatum": "not applicable",
                "ec:dataType": "GML",
                "ec:dataTypeVersion": "3.2.1",
                "ec:boundingBox": _box(facts),
                "ec:boundingPolygon": _bounding_polygon(facts, srs_name, latitude_first),
                "ec:comment": facts.limits,
                "ec:cyclicRedundancyCheckSum": str(facts.crc),
            },
            "ec:S100_SupportFileDiscoveryMetadata": {
                "ec:fileName": f"{facts.name}.gml.xml",
                "ec:filePath": f"/support/{facts.name}.gml.xml",
                "ec:purpose": "new",
                **issued,
                "ec:productSpecification": standard,
                "ec:dataType": "XML",
                "ec:dataTypeVersion": "1.0",
                "ec:cyclicRedundancyCheckSum": str(crc_of_metadata),
            },
        },
    )
    return _document(root)


def _bounding_polygon(facts: SetFacts, srs_name: str, latitude_first: bool) -> Tree:
    west, south, east, north = facts.bounds
    east += 360 if east < west else 0
    corners = [(west, south), (east, south), (east, north), (west, north), (west, south)]
    words = " ".join(f"{y:.5f} {x:.5f}" if latitude_first else f"{x:.5f} {y:.5f}" for x, y in corners)
    polygon = etree.Element(f"{{{_GML}}}Polygon", {ID: "bounds", "srsName": srs_name})
    _fill(polygon, {"gml:exterior": {"gml:LinearRing": {"gml:posList": words}}})
    return {"gmd:EX_BoundingPolygon": {"gmd:polygon": polygon}}


def _box(facts: SetFacts) -> Tree:
    west, south, east, north = (f"{v:.5f}" for v in facts.bounds)
    return {
        "gmd:EX_GeographicBoundingBox": {
            "gmd:westBoundLongitude": {"gco:Decimal": west},
            "gmd:eastBoundLongitude": {"gco:Decimal": east},
            "gmd:southBoundLatitude": {"gco:Decimal": south},
            "gmd:northBoundLatitude": {"gco:Decimal": north},
        }
    }


def _party(facts: SetFacts) -> Tree:
    return {
        "gmd:CI_ResponsibleParty": {
            "gmd:organisationName": _text(facts.about.get("contact") or facts.producer),
            "gmd:role": _code("CI_RoleCode", "originator"),
        }
    }


def _text(words: object) -> Tree:
    return {"gco:CharacterString": printable(words)}


def _code(name: str, value: str) -> etree._Element:
    """Return a value of one of ISO's lists of codes."""
    element = etree.Element(f"{{{_GMD}}}{name}", codeList=f"{_LISTS}#{name}", codeListValue=value)
    element.text = value
    return element


def _fill(element: etree._Element, content: Any) -> None:
    if isinstance(content, etree._Element):
        element.append(content)
    elif isinstance(content, Mapping):
        for name, inside in content.items():
            prefix, _, local = name.partition(":")
            space = {**_SPACES, "ec": _EC}[prefix]
            below = etree.SubElement(element, f"{{{space}}}{local}")
            if name == "gml:TimePeriod":
                below.set(ID, "period")
            _fill(below, inside)
    else:
        element.text = printable(content)


def _document(root: etree._Element) -> bytes:
    return etree.tostring(root, pretty_print=True, xml_declaration=True, encoding="UTF-8")
