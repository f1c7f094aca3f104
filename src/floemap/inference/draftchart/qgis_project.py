"""A QGIS project beside a draft chart: spots to review, the chart, the rasters and the radar image, in their styles.

Paths in it are relative, so it works wherever the folder is. It is written without QGIS, and is the same file for the
same chart. QGIS opens it with topological editing and without overlaps of new polygons, so that a correction leaves
no gaps.
"""

from __future__ import annotations

import zipfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyproj
from lxml import etree
from odc.geo.geobox import GeoBox

from floemap.grid import crs_name, crs_of
from floemap.icechart.polaris import LEVEL_RGB, SHIP_CLASSES, Level
from floemap.icechart.write.qgis_style import document_text, levels_style, qgis_styles, spots_style
from floemap.icechart.write.vector import LAYER
from floemap.inference.draftchart.polaris_layer import polaris_names
from floemap.inference.draftchart.review_spots import LAYER as SPOTS
from floemap.legend import Legend
from floemap.qgis_raster import classes_style, colour_style, heat_style, palette_style
from floemap.results.whole_files import whole_files

_PROJECT = "chart.qgs"
_SNAPPING_PX = "12"


@dataclass(frozen=True)
class _Layer:
    """A layer: title, file, name of the layer in it, whether it is shown, and styles by name, the current one first."""

    title: str
    file: str
    inside: str
    shown: bool
    styles: Mapping[str, str]

    @property
    def key(self) -> str:
        """The layer's id. QGIS replaces ids of less than eleven letters."""
        return f"floemap_{self.file.partition('.')[0]}_layer"

    @property
    def source(self) -> str:
        """What QGIS opens, beside the project."""
        return f"./{self.file}|layername={self.inside}" if self.vector else f"./{self.file}"

    @property
    def vector(self) -> bool:
        return self.file.endswith(".gpkg")


def write_project(path: Path, files: Sequence[str], geobox: GeoBox, legend: Legend, about: Mapping[str, Any]) -> None:
    """Write a .qgz project for the files of a draft chart in the same folder.

    Parameters
    ----------
    files
        Names of the chart's files; those that QGIS shows become layers.
    about
        Facts about the chart: `product`, `status` and `simulated` go into titles, all into the abstract.

    Raises
    ------
    OutputError
        If the file cannot be written.
    """
    layers = _layers(files, legend, about)
    content = document_text(_project(layers, geobox, about)).encode()
    with (
        whole_files(path.parent, [path.name]) as beside,
        zipfile.ZipFile(beside / path.name, "w", zipfile.ZIP_DEFLATED) as archive,
    ):
        # The member is dated 1980: equal charts make equal files.
        archive.writestr(zipfile.ZipInfo(_PROJECT), content, zipfile.ZIP_DEFLATED)


def _layers(files: Sequence[str], legend: Legend, about: Mapping[str, Any]) -> list[_Layer]:
    """Return the layers, from the uppermost."""
    mark = ", SIMULATED" if about["simulated"] else ""
    layers = [
        _Layer("Spots to review first", "review.gpkg", SPOTS, True, {"default": spots_style()}),
        _Layer(f"Draft ice chart{mark}", "chart.gpkg", LAYER, True, qgis_styles(legend)),
        _Layer("Most probable class of each pixel", "classes.tif", "", False, {"default": classes_style(legend)}),
        _Layer("Uncertainty, entropy from 0 to 1", "uncertainty.tif", "", False, {"default": heat_style(0, 1)}),
        _Layer(f"Radar, red HV, blue HH{mark}", "radar.tif", "", True, {"default": colour_style()}),
    ]
    own = [layer for layer in layers if layer.file in files]
    return [*own[:-1], *_risk_layers(files, mark), *own[-1:]]


def _risk_layers(files: Sequence[str], mark: str) -> Iterator[_Layer]:
    """Give the layers of risk: of each ice class the polygons and the raster, which are not shown at first."""
    for ship in SHIP_CLASSES.values():
        title = f"POLARIS for {ship.title}, advisory{mark}"
        raster, _, polygons = polaris_names(ship.key)
        palette = palette_style((level, level.title, LEVEL_RGB[level]) for level in Level)
        if polygons in files:
            yield _Layer(f"{title}: polygons", polygons, LAYER, False, levels_style())
        if raster in files:
            yield _Layer(f"{title}: level of operation", raster, "", False, {"default": palette})


def _project(layers: Sequence[_Layer], geobox: GeoBox, about: Mapping[str, Any]) -> etree._Element:
    simulated = "SIMULATED, " if about["simulated"] else ""
    title = f"Draft ice chart {about['product']}, {simulated}{about['status']}"
    root = etree.Element("qgis", version="3.22.0", projectname=title)
    etree.SubElement(root, "homePath", path="")
    etree.SubElement(root, "title").text = title
    crs = crs_of(geobox).proj
    _add_crs(etree.SubElement(root, "projectCrs"), crs)
    tree = etree.SubElement(root, "layer-tree-group")
    order = etree.SubElement(root, "layerorder")
    stored = etree.SubElement(root, "projectlayers")
    for layer in layers:
        etree.SubElement(
            tree,
            "layer-tree-layer",
            id=layer.key,
            name=layer.title,
            source=layer.source,
            providerKey="ogr" if layer.vector else "gdal",
            checked="Qt::Checked" if layer.shown else "Qt::Unchecked",
            expanded="1" if layer.shown and layer.vector else "0",
        )
        etree.SubElement(order, "layer", id=layer.key)
        stored.append(_map_layer(layer, crs))
    _add_editing(root)
    _add_properties(root, crs, f"{simulated}{about['status']}".upper())
    metadata = etree.SubElement(root, "projectMetadata")
    etree.SubElement(metadata, "title").text = title
    etree.SubElement(metadata, "abstract").text = "; ".join(f"{k}: {_words(v)}" for k, v in about.items())
    _add_view(root, geobox, crs)
    return root


def _words(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "".join(c for c in str(value) if c.isprintable())  # XML does not allow all characters


def _add_crs(parent: etree._Element, crs: pyproj.CRS) -> None:
    reference = etree.SubElement(parent, "spatialrefsys")
    etree.SubElement(reference, "wkt").text = crs.to_wkt()
    authority = crs.to_authority()
    etree.SubElement(reference, "authid").text = ":".join(authority) if authority else ""
    etree.SubElement(reference, "description").text = crs_name(crs)


def _map_layer(layer: _Layer, crs: pyproj.CRS) -> etree._Element:
    element = etree.Element("maplayer", type="vector" if layer.vector else "raster")
    if layer.vector:
        element.attrib.update({"geometry": "Polygon", "wkbType": "Polygon", "labelsEnabled": "1"})
    etree.SubElement(element, "id").text = layer.key
    etree.SubElement(element, "datasource").text = layer.source
    etree.SubElement(element, "layername").text = layer.title
    _add_crs(etree.SubElement(element, "srs"), crs)
    provider = etree.SubElement(element, "provider")
    provider.text = "ogr" if layer.vector else "gdal"
    if layer.vector:
        provider.set("encoding", "UTF-8")
    (current, style), *others = layer.styles.items()
    manager = etree.SubElement(element, "map-layer-style-manager", current=current)
    etree.SubElement(manager, "map-layer-style", name=current)
    for name, other in others:
        etree.SubElement(manager, "map-layer-style", name=name).append(etree.fromstring(other.encode()))
    for part in etree.fromstring(style.encode()):
        element.append(part)
    return element


def _add_editing(root: etree._Element) -> None:
    """Switch snapping to vertices and edges on, so that polygons keep sharing their borders."""
    modes = {"mode": "2", "type": "3", "intersection-snapping": "0", "self-snapping": "0"}
    etree.SubElement(root, "snapping-settings", {"enabled": "1", "tolerance": _SNAPPING_PX, "unit": "1"} | modes)


def _add_properties(root: etree._Element, crs: pyproj.CRS, mark: str) -> None:
    """Add properties of the project: how polygons are edited, the ellipsoid of areas, and a title on the map."""
    ellipsoid = "EPSG:7030"  # WGS84
    if crs.ellipsoid is not None and crs.ellipsoid.name != "WGS 84":
        ellipsoid = f"PARAMETER:{crs.ellipsoid.semi_major_metre:.12g}:{crs.ellipsoid.semi_minor_metre:.12g}"
    values: dict[str, dict[str, tuple[str, str]]] = {
        "Digitizing": {"TopologicalEditing": ("int", "1"), "AvoidIntersectionsMode": ("int", "1")},
        "Measure": {"Ellipsoid": ("QString", ellipsoid)},
        "Measurement": {"AreaUnits": ("QString", "km2"), "DistanceUnits": ("QString", "km")},
        "Paths": {"Absolute": ("bool", "false")},
        "SpatialRefSys": {"ProjectionsEnabled": ("int", "1")},
        "TitleLabel": {"Enabled": ("bool", "true"), "Label": ("QString", mark), "Placement": ("int", "4")},
    }
    properties = etree.SubElement(root, "properties")
    for group, entries in values.items():
        element = etree.SubElement(properties, group)
        for name, (kind, value) in entries.items():
            etree.SubElement(element, name, type=kind).text = value


def _add_view(root: etree._Element, geobox: GeoBox, crs: pyproj.CRS) -> None:
    """Add the view that QGIS opens with: the whole scene."""
    left, bottom, right, top = geobox.boundingbox.bbox
    bounds = {"xmin": left, "ymin": bottom, "xmax": right, "ymax": top}
    canvas = etree.SubElement(root, "mapcanvas", name="theMapCanvas", annotationsVisible="1")
    etree.SubElement(canvas, "units").text = "meters"
    extent = etree.SubElement(canvas, "extent")
    for name, value in bounds.items():
        etree.SubElement(extent, name).text = f"{value:.3f}"
    _add_crs(etree.SubElement(canvas, "destinationsrs"), crs)
    view = etree.SubElement(root, "ProjectViewSettings", UseProjectScales="0")
    default = etree.SubElement(view, "DefaultViewExtent", {k: f"{v:.3f}" for k, v in bounds.items()})
    _add_crs(default, crs)
