"""QGIS styles for rasters: a file with the raster's name and the suffix .qml, which QGIS applies on opening the raster.

Without a style, QGIS gives a class raster a legend of 256 numbers, and shows a product's bands as red, green and blue.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from lxml import etree

from floemap.legend import RGB, Legend

#: HH in dB that appears black and that appears white: from calm water at far range to deformed ice.
SHOWN_HH_DB = (-28.0, -5.0)
#: White over yellow to red, the colours of uncertainty in the pictures.
_HEAT: Sequence[RGB] = ((255, 255, 204), (254, 217, 118), (253, 141, 60), (227, 26, 28), (128, 0, 38))


def write_style(raster: Path, style: str) -> None:
    """Write a style beside a raster, under the name that QGIS looks for."""
    raster.with_suffix(".qml").write_text(style, encoding="utf-8")


def classes_style(legend: Legend) -> str:
    """Return the style of a raster of class ids: WMO colours with the classes' titles."""
    return palette_style((c.id, c.title, c.rgb) for c in legend.classes)


def palette_style(entries: Iterable[tuple[int, str, RGB]]) -> str:
    """Return the style of a raster of whole numbers: number, title, colour."""
    root, renderer = _renderer("paletted", band="1")
    palette = etree.SubElement(renderer, "colorPalette")
    for number, title, rgb in entries:
        etree.SubElement(palette, "paletteEntry", value=str(number), label=title, color=_hex(rgb), alpha="255")
    return _text(root)


def grey_style(low: float, high: float) -> str:
    """Return the style of the first band in greys, black at `low` and white at `high`, in the unit of the band."""
    root, renderer = _renderer("singlebandgray", grayBand="1", gradient="BlackToWhite")
    stretch = etree.SubElement(renderer, "contrastEnhancement")
    for name, value in (("minValue", f"{low:g}"), ("maxValue", f"{high:g}")):
        etree.SubElement(stretch, name).text = value
    etree.SubElement(stretch, "algorithm").text = "StretchToMinimumMaximum"
    return _text(root)


def heat_style(low: float, high: float) -> str:
    """Return the style of the first band, white at `low` over yellow to red at `high`, in the unit of the band."""
    limits = {"classificationMin": f"{low:g}", "classificationMax": f"{high:g}"}
    root, renderer = _renderer("singlebandpseudocolor", band="1", **limits)
    shader = etree.SubElement(etree.SubElement(renderer, "rastershader"), "colorrampshader")
    shader.attrib.update({"colorRampType": "INTERPOLATED", "classificationMode": "1", "clip": "0"})
    for i, rgb in enumerate(_HEAT):
        value = f"{low + (high - low) * i / (len(_HEAT) - 1):g}"
        etree.SubElement(shader, "item", value=value, label=value, color=_hex(rgb), alpha="255")
    return _text(root)


def colour_style() -> str:
    """Return the style of three bands that are red, green and blue as stored."""
    root, _ = _renderer("multibandcolor", redBand="1", greenBand="2", blueBand="3")
    return _text(root)


def _renderer(kind: str, **attributes: str) -> tuple[etree._Element, etree._Element]:
    root = etree.Element("qgis", version="3.28.0", styleCategories="Symbology")
    pipe = etree.SubElement(root, "pipe")
    renderer = etree.SubElement(pipe, "rasterrenderer", type=kind, opacity="1", alphaBand="-1")
    for name, value in attributes.items():
        renderer.set(name, value)
    etree.SubElement(renderer, "rasterTransparency")
    return root, renderer


def _text(root: etree._Element) -> str:
    etree.SubElement(root, "blendMode").text = "0"
    doctype = "<!DOCTYPE qgis PUBLIC 'http://mrcc.com/qgis.dtd' 'SYSTEM'>"
    return etree.tostring(root, pretty_print=True, doctype=doctype).decode()


def _hex(rgb: RGB) -> str:
    return "#{:02x}{:02x}{:02x}".format(*rgb)
