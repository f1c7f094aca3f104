"""Styles of charts for QGIS, as .qml files and inside a GeoPackage: colours, egg labels, and the form for editing.

There are three: by ice type, by total concentration, and by confidence. The first is the default and also has the form
with constraints and defaults; the others change colours alone, so that an analyst can switch to them while editing.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from lxml import etree

from floemap.icechart.polaris import LEVEL_RGB, Level
from floemap.icechart.write.qgis_expressions import concentrations_by_colour, egg_label, kinds_of, kinds_without_class
from floemap.icechart.write.qgis_form import add_form
from floemap.legend import RGB, STAGE_RGB, Legend

#: Title and colour of ice without a class in the legend.
OTHER_TITLE, _OTHER_RGB = "No class", STAGE_RGB[99]
#: Kinds that are dotted, as in all pictures of charts: bergy water has the colour of open water by WMO's standards.
_DOTTED = ("Bergy water",)
#: Names of the styles. The first is the default.
BY_TYPE, BY_CONCENTRATION, BY_CONFIDENCE = "Ice type", "Total concentration", "Confidence"
BY_LEVEL = "Level of operation"
_OUTLINE: RGB = (70, 70, 70)
_OUTLINE_MM = 0.1
#: Steps of confidence: from, to, colour; the less certain, the darker.
_CONFIDENCE: tuple[tuple[float, float, RGB], ...] = (
    (0.9, 1.01, (255, 255, 204)),
    (0.8, 0.9, (254, 217, 118)),
    (0.7, 0.8, (253, 141, 60)),
    (0.6, 0.7, (227, 26, 28)),
    (0.0, 0.6, (128, 0, 38)),
)
#: Eggs are labelled in maps of a scale larger than 1 to this number.
_LABELS_FROM = 6_000_000
_DOCTYPE = "<!DOCTYPE qgis PUBLIC 'http://mrcc.com/qgis.dtd' 'SYSTEM'>"

#: Title, colour and condition of a rule.
Rule = tuple[str, RGB, str]


def qgis_style(legend: Legend) -> str:
    """Return the default style: colours by the codes of the dominant type, egg labels, and the form."""
    return qgis_styles(legend)[BY_TYPE]


def qgis_styles(legend: Legend) -> dict[str, str]:
    """Return the styles of a chart for QGIS 3 by name, each a document; the default comes first."""
    kinds = [(k.title, k.rgb, k.condition) for k in (*kinds_of(legend), *kinds_without_class())]
    by_type = _style("Symbology|Labeling|Fields|Forms", [*kinds, _neither(kinds, OTHER_TITLE)])
    add_form(by_type, legend)
    steps = concentrations_by_colour()
    by_concentration = _style("Symbology|Labeling", [*steps, _neither(steps, "Unknown")])
    sure = [
        (f"{100 * low:.0f} to {100 * min(high, 1):.0f} %", rgb, f'"CONFIDENCE" >= {low:g} AND "CONFIDENCE" < {high:g}')
        for low, high, rgb in _CONFIDENCE
    ]
    by_confidence = _style("Symbology|Labeling", [*sure, ("Drawn by an analyst", _OTHER_RGB, '"CONFIDENCE" IS NULL')])
    documents = {BY_TYPE: by_type, BY_CONCENTRATION: by_concentration, BY_CONFIDENCE: by_confidence}
    for root in documents.values():
        _add_labels(root, egg_label())
    return {name: document_text(root) for name, root in documents.items()}


def levels_style() -> dict[str, str]:
    """Return the style of polygons by their level of operation (field LEVEL), labelled with their outcome (RIO)."""
    rules = [(level.title, LEVEL_RGB[level], f"\"LEVEL\" = '{level.name.lower()}'") for level in Level]
    root = _style("Symbology|Labeling", [*rules, ("Land, or no outcome", _OTHER_RGB, '"LEVEL" IS NULL')])
    _add_labels(root, 'round("RIO")', egg=False)
    return {BY_LEVEL: document_text(root)}


def spots_style() -> str:
    """Return the style of the spots to review first: outlines, each with its number."""
    root = _style("Symbology|Labeling", [("Review first", (176, 0, 32), "TRUE")], filled=False, outline_mm=0.6)
    _add_labels(root, '"spot"', egg=False)
    return document_text(root)


def document_text(root: etree._Element) -> str:
    """Return a document of QGIS as text."""
    return etree.tostring(root, pretty_print=True, doctype=_DOCTYPE).decode()


def option_map(parent: etree._Element, values: dict[str, Any]) -> None:
    """Add values by name in the form in which QGIS stores properties."""
    options = etree.SubElement(parent, "Option", type="Map")
    for name, value in values.items():
        etree.SubElement(options, "Option", type="QString", name=name, value=str(value))


def _neither(rules: Iterable[Rule], title: str) -> Rule:
    """Return the rule of polygons to which no other applies."""
    return title, _OTHER_RGB, f"NOT ({' OR '.join(f'({condition})' for _, _, condition in rules)})"


def _style(
    categories: str, drawn: Iterable[Rule], *, filled: bool = True, outline_mm: float = _OUTLINE_MM
) -> etree._Element:
    root = etree.Element("qgis", version="3.22.0", styleCategories=categories, labelsEnabled="1")
    renderer = etree.SubElement(
        root, "renderer-v2", type="RuleRenderer", forceraster="0", symbollevels="0", enableorderby="0"
    )
    rules = etree.SubElement(renderer, "rules", key="floemap")
    symbols = etree.SubElement(renderer, "symbols")
    for number, (title, rgb, condition) in enumerate(drawn):
        etree.SubElement(rules, "rule", key=f"floemap-{number}", filter=condition, label=title, symbol=str(number))
        symbol = etree.SubElement(
            symbols, "symbol", type="fill", name=str(number), alpha="1", clip_to_extent="1", force_rhr="0"
        )
        layer = etree.SubElement(symbol, "layer", {"class": "SimpleFill", "pass": "0"}, enabled="1", locked="0")
        outline = _OUTLINE if filled else rgb
        option_map(
            layer,
            {
                "color": _colour(rgb),
                "style": "solid" if filled else "no",
                "outline_color": _colour(outline),
                "outline_style": "solid",
                "outline_width": f"{outline_mm:g}",
                "outline_width_unit": "MM",
                "joinstyle": "bevel",
            },
        )
        if title in _DOTTED:
            _add_dots(symbol)
    return root


def _add_dots(symbol: etree._Element) -> None:
    """Add dots at every second node of a grid to a symbol of polygons."""
    layer = etree.SubElement(symbol, "layer", {"class": "PointPatternFill", "pass": "0"}, enabled="1", locked="0")
    sizes = {"distance_x": 3, "distance_y": 3, "displacement_x": 1.5, "displacement_y": 0, "offset_x": 0, "offset_y": 0}
    option_map(layer, sizes | {f"{name}_unit": "MM" for name in sizes})
    name = f"@{symbol.get('name')}@1"
    marker = etree.SubElement(layer, "symbol", type="marker", name=name, alpha="1", clip_to_extent="1", force_rhr="0")
    dot = etree.SubElement(marker, "layer", {"class": "SimpleMarker", "pass": "0"}, enabled="1", locked="0")
    look = {"name": "circle", "color": _colour(_OUTLINE), "outline_style": "no", "size": "0.5", "size_unit": "MM"}
    option_map(dot, look)


def _add_labels(root: etree._Element, expression: str, *, egg: bool = True) -> None:
    """Add labels: text in the middle of each polygon; an egg's in an oval, where the polygon has room for it."""
    settings = etree.SubElement(etree.SubElement(root, "labeling", type="simple"), "settings", calloutType="simple")
    style = etree.SubElement(
        settings,
        "text-style",
        fieldName=expression,
        isExpression="1",
        fontFamily="DejaVu Sans",
        fontSize="7" if egg else "9",
        fontSizeUnit="Point",
        fontWeight="50" if egg else "75",
        textColor="0,0,0,255" if egg else "176,0,32,255",
        textOpacity="1",
        multilineHeight="0.9",
    )
    buffer = {"bufferDraw": "0" if egg else "1", "bufferSize": "0.8", "bufferSizeUnits": "MM"}
    etree.SubElement(style, "text-buffer", {"bufferColor": "255,255,255,255", "bufferOpacity": "1"} | buffer)
    if egg:
        oval = {"shapeType": "2", "shapeSizeType": "0", "shapeSizeX": "0.6", "shapeSizeY": "0.2", "shapeSizeUnit": "MM"}
        line = {"shapeBorderWidth": "0.15", "shapeBorderWidthUnit": "MM", "shapeBorderColor": _colour(_OUTLINE)}
        fill = {"shapeFillColor": "255,255,255,255", "shapeOpacity": "0.8"}
        etree.SubElement(style, "background", {"shapeDraw": "1"} | oval | line | fill)
    etree.SubElement(settings, "text-format", multilineAlign="1")
    # Horizontal, within the polygon.
    etree.SubElement(settings, "placement", placement="4", polygonPlacementFlags="2", priority="5", centroidInside="1")
    scales = {"scaleVisibility": "1" if egg else "0", "scaleMin": "0", "scaleMax": str(_LABELS_FROM)}
    etree.SubElement(settings, "rendering", {"drawLabels": "1", "obstacle": "0", "displayAll": "0"} | scales)


def _colour(rgb: RGB) -> str:
    return ",".join(map(str, (*rgb, 255)))
