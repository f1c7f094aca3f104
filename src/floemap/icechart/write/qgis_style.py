"""WMO colours for QGIS: a style by SIGRID-3's codes, as a .qml file and inside a GeoPackage.

The colours follow from the fields that floemap reads, POLY_TYPE, CT and the stage of the type with the largest partial
concentration, so a corrected type is visible at once. CLASS follows from them: QGIS updates it whenever a polygon
changes.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from lxml import etree

from floemap.icechart.read.codes import BERGY_WATER_CODE, ICE_FREE_OR_UNKNOWN, NO_ICE, NOT_GIVEN, WATER_CODES
from floemap.legend import LAND_RGB, RGB, STAGE_CODES, STAGE_RGB, Legend

#: Title and colour of polygons without a class in the legend.
OTHER_TITLE, _OTHER_RGB = "No class", STAGE_RGB[99]
_OUTLINE: RGB = (70, 70, 70)
_OUTLINE_MM = 0.1


@dataclass(frozen=True)
class Kind:
    """A kind of polygon that has one colour.

    Attributes
    ----------
    key, title, rgb
        Value of CLASS, title in a legend, and colour.
    condition
        Condition on the fields, an expression that both QGIS and SQL understand.
    """

    key: str
    title: str
    rgb: RGB
    condition: str


def kinds_of(legend: Legend) -> list[Kind]:
    """Return the kinds of polygon by codes, which exclude each other: the classes of a legend, and land."""
    table = legend.code_to_class
    kind = "coalesce(\"POLY_TYPE\", '')"
    first, total = (f"coalesce(\"{field}\", '')" for field in ("SA", "CT"))
    names_ice = _among(first, [code for code in STAGE_CODES if code not in NO_ICE])
    ice_free = f"{_among(total, WATER_CODES)} OR ({_among(total, [ICE_FREE_OR_UNKNOWN])} AND NOT {names_ice})"
    bergy = _among(total, [BERGY_WATER_CODE])
    none: list[int | str] = ["", NOT_GIVEN]
    nothing = f"({kind} = '' AND {_among(total, none)} AND {_among(first, none)})"
    found = []
    for c in legend.classes:
        codes: list[int | str] = [code for code in STAGE_CODES if table.get(code) == c.id]
        codes += none if c.id == legend.stageless else []
        condition = (
            f"{kind} IN ('I', '') AND NOT ({ice_free}) AND NOT {bergy} AND NOT {nothing} AND {_among(_DOMINANT, codes)}"
        )
        if c.id == legend.water:
            condition = f"{kind} = 'W' OR ({kind} IN ('I', '') AND ({ice_free})) OR ({condition})"
        found.append(Kind(c.key, c.title, c.rgb, condition))
    return [*found, Kind("land", "Land", LAND_RGB, f"{kind} = 'L'")]


def _among(text: str, codes: Iterable[int | str]) -> str:
    """Return the condition that a text has one of some codes, padded or not."""
    spelled = {str(code) for code in codes} | {f"{code:02d}" for code in codes if isinstance(code, int)}
    return f"{text} IN ({', '.join(repr(s) for s in sorted(spelled) or ['none'])})"


def _dominant() -> str:
    """Return the expression of the stage of the type with the largest partial concentration, of equal ones the first.

    Types are in the order of thickness. A fourth type, CD, has what the others leave of the total. Codes are compared
    as numbers, in percent: right for whole tenths, and for ranges by their lower bounds. Without a part of the first
    type it is the first.
    """
    a, b, c = (f'(CASE WHEN "{f}" > \'0\' AND "{f}" <> \'99\' THEN "{f}" * 1 ELSE 0 END)' for f in ("CA", "CB", "CC"))
    total = '(CASE WHEN "CT" > \'90\' THEN 100 ELSE "CT" * 1 END)'
    d = f"(CASE WHEN \"CD\" > '0' AND \"CT\" > '0' THEN {total} - {a} - {b} - {c} ELSE 0 END)"
    sa, sb, sc, cd = (f"coalesce(\"{field}\", '')" for field in ("SA", "SB", "SC", "CD"))
    return (
        f"(CASE WHEN {a} = 0 OR {a} >= max({b}, {c}, {d}) THEN {sa} WHEN {b} >= max({c}, {d}) THEN {sb} "
        f"WHEN {c} >= {d} THEN {sc} ELSE {cd} END)"
    )


_DOMINANT = _dominant()


def class_expression(legend: Legend) -> str:
    """Return the expression, for QGIS and SQL, of a polygon's CLASS by its codes; empty for none."""
    return f"CASE {' '.join(f'WHEN {k.condition} THEN {k.key!r}' for k in kinds_of(legend))} ELSE '' END"


def qgis_style(legend: Legend) -> str:
    """Return a style for QGIS 3: the colours of polygons by their codes, and the expression that updates CLASS."""
    root = etree.Element("qgis", version="3.22.0", styleCategories="Symbology|Fields")
    renderer = etree.SubElement(
        root, "renderer-v2", type="RuleRenderer", forceraster="0", symbollevels="0", enableorderby="0"
    )
    rules = etree.SubElement(renderer, "rules", key="floemap")
    symbols = etree.SubElement(renderer, "symbols")
    kinds = kinds_of(legend)
    neither = f"NOT ({' OR '.join(f'({k.condition})' for k in kinds)})"
    drawn = [*((k.title, k.rgb, k.condition) for k in kinds), (OTHER_TITLE, _OTHER_RGB, neither)]
    for number, (title, rgb, condition) in enumerate(drawn):
        etree.SubElement(rules, "rule", key=f"floemap-{number}", filter=condition, label=title, symbol=str(number))
        symbols.append(_symbol(number, rgb))
    defaults = etree.SubElement(root, "defaults")
    etree.SubElement(defaults, "default", field="CLASS", expression=class_expression(legend), applyOnUpdate="1")
    document = etree.tostring(
        root, pretty_print=True, doctype="<!DOCTYPE qgis PUBLIC 'http://mrcc.com/qgis.dtd' 'SYSTEM'>"
    )
    return document.decode()


def _symbol(number: int, rgb: RGB) -> etree._Element:
    symbol = etree.Element("symbol", type="fill", name=str(number), alpha="1", clip_to_extent="1", force_rhr="0")
    layer = etree.SubElement(symbol, "layer", {"class": "SimpleFill"}, enabled="1", locked="0")
    layer.set("pass", "0")
    options = etree.SubElement(layer, "Option", type="Map")
    for name, value in {
        "color": _colour(rgb),
        "style": "solid",
        "outline_color": _colour(_OUTLINE),
        "outline_style": "solid",
        "outline_width": f"{_OUTLINE_MM:g}",
        "outline_width_unit": "MM",
        "joinstyle": "bevel",
    }.items():
        etree.SubElement(options, "Option", type="QString", name=name, value=value)
    return symbol


def _colour(rgb: RGB) -> str:
    return ",".join(map(str, (*rgb, 255)))
