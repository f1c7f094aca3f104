"""Metadata of a SIGRID-3 chart, in the form that the standard requires.

SIGRID-3 (WMO/JCOMM TR-23) requires an XML file beside the shapefile by the Content Standard for Digital Geospatial
Metadata (FGDC-STD-001-1998). Its element names have at most eight letters, and their order is part of the standard.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import pyproj
from lxml import etree

from floemap.grid import crs_name
from floemap.icechart.draw.eggs import stage_code
from floemap.icechart.read.codes import POLYGON_TYPES, tenths_in_words
from floemap.icechart.write.table import DRAFT, FIELDS, Status, is_simulated
from floemap.icechart.write.times import in_utc
from floemap.legend import STAGES, Legend, stage_in_words
from floemap.version import __version__

_SIGRID3 = "SIGRID-3, WMO/JCOMM TR-23, version 3.0, 2014"
_OWN = "floemap"
_COMPLETE = (
    "Places without data are left out, and land where no land mask was given. Concentrations of ice: {}. "
    "What was not estimated, forms included, is 99."
)

#: Elements by name: text, further elements, or a list of either for repeated elements.
Tree = Mapping[str, Any]


def fgdc_metadata(
    name: str,
    *,
    start: datetime,
    legend: Legend,
    crs: pyproj.CRS,
    bounds: tuple[float, float, float, float],
    polygons: int,
    about: Mapping[str, Any],
    status: Status = DRAFT,
    fields: Sequence[str] = tuple(FIELDS),
) -> bytes:
    """Return the metadata of a chart as an XML document.

    Parameters
    ----------
    name
        Name of the chart's files, without suffix.
    start
        Time of the chart: of a draft, the start of the radar acquisition; with a time zone, or in UTC.
    bounds
        West, south, east, north in degrees; west is greater than east across the dateline.
    polygons
        Number of polygons.
    about
        Facts about the chart by name. `created`, `contact` and `attribution` go into the standard's elements for them;
        all but `created` also go into the abstract.
    status
        What the metadata say of the chart's status.
    fields
        Names of the table's fields, of :data:`floemap.icechart.write.table.FIELDS`.
    """
    when = in_utc(start)
    day = f"{when:%Y%m%d}"
    content = {
        "idinfo": _identification(name, when, bounds, about, status),
        "dataqual": {
            "logic": "Polygons share their vertices: there are no gaps and no overlaps between them.",
            "complete": _COMPLETE.format(about.get("concentrations", "not estimated")),
            "lineage": {
                "procstep": {
                    "procdesc": f"Ice types from Sentinel-1 with floemap {__version__}; {status.history}.",
                    "procdate": _date(about.get("created"), day),
                }
            },
        },
        "spdoinfo": {
            "direct": "Vector",
            "ptvctinf": {"sdtsterm": {"sdtstype": "GT-polygon composed of rings", "ptvctcnt": str(polygons)}},
        },
        "spref": _spatial_reference(crs),
        "eainfo": {"detailed": _attributes(legend, status, fields)},
        "metainfo": {
            "metd": _date(about.get("created"), day),
            "metc": {"cntinfo": {"cntorgp": {"cntorg": str(about.get("contact", "Unknown"))}}},
            "metstdn": "FGDC Content Standard for Digital Geospatial Metadata",
            "metstdv": "FGDC-STD-001-1998",
            "mettc": "universal time",
        },
    }
    root = etree.Element("metadata")
    _fill(root, content)
    return etree.tostring(root, pretty_print=True, xml_declaration=True, encoding="UTF-8")


def _identification(
    name: str, when: datetime, bounds: tuple[float, float, float, float], about: Mapping[str, Any], status: Status
) -> Tree:
    words = ["sea ice", "ice chart", "SIGRID-3", *(["draft"] if status.published is None else [])]
    simulated = "The chart is SIMULATED. " if is_simulated(about) else ""
    facts = "; ".join(f"{k}: {v}" for k, v in about.items() if k != "created")
    west, south, east, north = (f"{v:.5f}" for v in bounds)
    return {
        "citation": {
            "citeinfo": {
                "origin": str(about.get("contact", "Unknown")),
                "pubdate": "Unpublished material" if status.published is None else f"{in_utc(status.published):%Y%m%d}",
                "title": f"{status.title} {name}",
                "othercit": str(about.get("attribution", "none")),
            }
        },
        "descript": {
            "abstract": f"Ice types in polygons, {_SIGRID3}: {status.words}. {simulated}{facts}",
            "purpose": status.purpose,
        },
        "timeperd": {
            "timeinfo": {"sngdate": {"caldate": f"{when:%Y%m%d}", "time": f"{when:%H%M%S}Z"}},
            "current": status.current,
        },
        "status": {"progress": status.progress, "update": "None planned"},
        "spdom": {"bounding": {"westbc": west, "eastbc": east, "northbc": north, "southbc": south}},
        "keywords": {"theme": {"themekt": "none", "themekey": words}},
        "accconst": "None",
        "useconst": status.words[0].upper() + status.words[1:],
    }


def _spatial_reference(crs: pyproj.CRS) -> Tree:
    ellipsoid = crs.ellipsoid
    geodetic = {
        "horizdn": crs.datum.name if crs.datum else "Unknown",
        "ellips": ellipsoid.name if ellipsoid else "Unknown",
        "semiaxis": f"{ellipsoid.semi_major_metre:.3f}" if ellipsoid else "Unknown",
        "denflat": f"{ellipsoid.inverse_flattening:.9f}" if ellipsoid else "Unknown",
    }
    planar = {
        "mapproj": {"mapprojn": crs_name(crs), "mapprojp": {"otherprj": crs.to_wkt()}},
        "planci": {
            "plance": "coordinate pair",
            "coordrep": {"absres": "0.01", "ordres": "0.01"},
            "plandu": "metres",
        },
    }
    return {"horizsys": {"planar": planar, "geodetic": geodetic}}


def _attributes(legend: Legend, status: Status, names: Sequence[str]) -> Tree:
    """Describe the table: each field, and the meaning of its codes."""
    classes = {c.key: c.title for c in legend.classes}
    kinds = {"I": "ice", "W": "water", "L": "land"}
    stages: dict[str, str] = {}
    for c in legend.classes:
        for code in () if c.id == legend.water else dict.fromkeys((c.written_as, stage_code(c.id, legend))):
            before = stages.get(f"{code:02d}", stage_in_words(code) + ": class")
            stages[f"{code:02d}"] = f"{before} {c.key}"
    values: dict[str, Mapping[str, str]] = {
        "CT": {
            "01": "open water, less than one tenth",
            **{f"{n}0": tenths_in_words(n) for n in range(1, 10)},
            "91": "more than nine tenths, less than ten",
            "92": "ten tenths",
            "99": "not estimated",
        },
        "SA": stages | {"-9": "none"},
        "POLY_TYPE": kinds,
        "CLASS": classes | {"land": "Land"},
        "SECOND": classes | {"(empty)": "none"},
        "ESTIMATED": {"yes": "estimated by a model, not checked", "no": "not estimated, or checked"},
        "SIMULATED": {"yes": "simulated", "no": "not simulated"},
    }
    if status.published is not None:  # an analyst may have given any code
        values |= {"SA": {f"{code:02d}": words for code, words in STAGES.items()} | {"-9": "none"}}
        values |= {"POLY_TYPE": dict(POLYGON_TYPES)}
        del values["CT"]
    fields = []
    for name in names:
        definition = FIELDS[name]
        source = _SIGRID3 if list(FIELDS).index(name) <= list(FIELDS).index("POLY_TYPE") else _OWN
        if name in values:
            domain: Any = [{"edom": {"edomv": v, "edomvd": d, "edomvds": source}} for v, d in values[name].items()]
        else:
            domain = {"udom": definition}
        fields.append({"attrlabl": name, "attrdef": definition, "attrdefs": source, "attrdomv": domain})
    return {
        "enttyp": {
            "enttypl": "polygon",
            "enttypd": "Area of ice, with its types, of water, or of land",
            "enttypds": _SIGRID3,
        },
        "attr": fields,
    }


def _date(value: Any, otherwise: str) -> str:
    """Return a date as the standard writes it, from a datetime or ISO 8601 text."""
    if isinstance(value, str):
        value = datetime.fromisoformat(value)
    return f"{value:%Y%m%d}" if isinstance(value, datetime) else otherwise


def _fill(element: etree._Element, content: Any) -> None:
    if isinstance(content, Mapping):
        for name, inside in content.items():
            for one in inside if isinstance(inside, list) else [inside]:
                _fill(etree.SubElement(element, name), one)
    else:
        # Text from users may have characters that XML does not allow.
        element.text = "".join(c for c in str(content) if c.isprintable() or c in "\n\t")
