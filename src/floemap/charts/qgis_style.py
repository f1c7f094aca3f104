"""WMO colours for QGIS: a style by class, as a .qml file and inside a GeoPackage."""

from __future__ import annotations

from lxml import etree

from floemap.legend import LAND, LAND_RGB, RGB, Legend

#: The field that the style goes by; see :data:`floemap.charts.chart_table.FIELDS`.
FIELD = "CLASS"
_OUTLINE: RGB = (70, 70, 70)
_OUTLINE_MM = 0.1


def qgis_style(legend: Legend) -> str:
    """Return a style for QGIS 3: polygons filled with the colour of their class, with the classes' titles."""
    root = etree.Element("qgis", version="3.28.0", styleCategories="Symbology")
    renderer = etree.SubElement(
        root, "renderer-v2", type="categorizedSymbol", attr=FIELD, forceraster="0", symbollevels="0", enableorderby="0"
    )
    categories = etree.SubElement(renderer, "categories")
    symbols = etree.SubElement(renderer, "symbols")
    kinds = [(c.id, c.key, c.title, c.rgb) for c in legend.classes]
    for number, key, title, rgb in (*kinds, (LAND, "land", "Land", LAND_RGB)):
        etree.SubElement(
            categories, "category", type="string", value=key, symbol=str(number), label=title, render="true"
        )
        symbol = etree.SubElement(
            symbols, "symbol", type="fill", name=str(number), alpha="1", clip_to_extent="1", force_rhr="0"
        )
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
    document = etree.tostring(
        root, pretty_print=True, doctype="<!DOCTYPE qgis PUBLIC 'http://mrcc.com/qgis.dtd' 'SYSTEM'>"
    )
    return document.decode()


def _colour(rgb: RGB) -> str:
    return ",".join(map(str, (*rgb, 255)))
