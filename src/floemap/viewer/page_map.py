"""map.json: everything that the page shows, and the files that it may ask for."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyproj
from odc.geo.geobox import GeoBox

from floemap.grid import crs_of
from floemap.version import __version__
from floemap.viewer.found import Search
from floemap.viewer.layers import Layer
from floemap.viewer.legends import Legends, of_classes
from floemap.viewer.scenes import Scene
from floemap.viewer.vectors import Shapes, extent_of_box
from floemap.warned import without_warnings

#: Version of the form of map.json.
FORMAT = 1
#: Projections that the page always offers.
_POLAR = (3413, 3031, 3995)
#: Points along each side of a footprint.
_SIDE = 9


@dataclass
class PageMap:
    """The content of map.json, and the real paths of the files that it names, by their relative address."""

    content: dict[str, Any]
    files: dict[str, Path] = field(default_factory=dict)


@dataclass
class _Projections:
    """Projections by code, as proj4 strings."""

    strings: dict[str, str] = field(default_factory=dict)

    def code_of(self, crs: pyproj.CRS) -> str:
        epsg = crs.to_epsg()
        string = _proj4(crs)
        known = next((code for code, other in self.strings.items() if other == string), None)
        own = f"floemap:{1 + sum(code.startswith('floemap:') for code in self.strings)}"
        code = f"EPSG:{epsg}" if epsg else known or own
        self.strings[code] = string
        return code


def _proj4(crs: pyproj.CRS) -> str:
    with without_warnings(UserWarning):  # that it loses the names of axes and datums, which the page does not show
        return crs.to_proj4()


def page_map(scenes: Sequence[Scene], search: Search, title: str, coast: Mapping[str, str]) -> PageMap:
    """Return what the page shows of scenes.

    Parameters
    ----------
    title
        Title of the page.
    coast
        Address and source of the coastline.
    """
    projections, legends = _Projections(), Legends()
    for code in _POLAR:
        projections.code_of(pyproj.CRS.from_epsg(code))
    page = PageMap({})
    told = [_Scene(f"s{i}", scene, page, projections, legends).told() for i, scene in enumerate(scenes, 1)]
    page.content = {
        "format": FORMAT,
        "title": title,
        "floemap": __version__,
        "coast": dict(coast),
        "projections": projections.strings,
        "legends": legends.tables,
        "scenes": told,
        "warnings": list(search.warnings),
    }
    return page


@dataclass
class _Scene:
    """One scene on its way into map.json."""

    id: str
    scene: Scene
    page: PageMap
    projections: _Projections
    legends: Legends
    addresses: dict[Path, str] = field(default_factory=dict)

    def told(self) -> dict[str, Any]:
        scene, times = self.scene, (self.scene.start, self.scene.stop)
        start, stop = (None if time is None else time.isoformat().replace("+00:00", "Z") for time in times)
        told: dict[str, Any] = {"id": self.id, "name": scene.name, "short": scene.short, "time": start, "stop": stop}
        told |= {"mission": scene.mission, "simulated": scene.simulated, "status": scene.status}
        told |= {"notice": scene.notice} | self._place()
        told["vectors"] = [self._vector(i, shapes) for i, shapes in enumerate(scene.shapes, 1)]
        told["layers"] = [self._layer(i, layer) for i, layer in enumerate(scene.layers, 1)]
        _choose(told["layers"], told["vectors"])
        return told | {"review": scene.review()}

    def _place(self) -> dict[str, Any]:
        geobox = self.scene.geobox
        if geobox is not None:
            b = geobox.boundingbox
            rows, cols = geobox.shape
            place: dict[str, Any] = {"projection": self.projections.code_of(crs_of(geobox).proj)}
            place |= {"extent": [b.left, b.bottom, b.right, b.top], "size": [cols, rows]}
            return place | {"pixel_m": abs(geobox.resolution.x), "footprint": _footprint(geobox)}
        bbox = next((shapes.bbox for shapes in self.scene.shapes if shapes.bbox), (-180.0, 60.0, 180.0, 90.0))
        crs = pyproj.CRS.from_epsg(3413 if bbox[3] >= 0 else 3031)
        extent = extent_of_box(bbox, crs)
        place = {"projection": self.projections.code_of(crs), "extent": list(extent)}
        return place | {"size": None, "pixel_m": None, "footprint": None}

    def _layer(self, number: int, layer: Layer) -> dict[str, Any]:
        legend = None if layer.legend is None else self.legends.add(layer.legend[0], dict(layer.legend[1]))
        told = {"id": f"{self.id}-{number}", "url": self._address(layer.raster.path, ".tif"), "legend": legend}
        return told | {"projection": self.projections.code_of(crs_of(layer.raster.geobox).proj)} | layer.as_json()

    def _vector(self, number: int, shapes: Shapes) -> dict[str, Any]:
        legend = None if shapes.legend is None else self.legends.add(shapes.legend.name, of_classes(shapes.legend))
        told = {"id": f"{self.id}-v{number}", "title": shapes.title, "kind": shapes.kind, "run": shapes.run}
        return told | {"url": self._address(shapes.path, ".geojson"), "legend": legend, "status": shapes.status}

    def _address(self, path: Path, suffix: str) -> str:
        """Return the relative address of a file: plain letters only, whatever the names of folders and files.

        The suffix, which web servers take the type from, is that of the kind: a link may lead to a file of any name.
        """
        if path not in self.addresses:
            plain = re.sub(r"[^A-Za-z0-9_-]", "_", path.stem)[:60]
            self.addresses[path] = f"data/{self.id}/{len(self.addresses) + 1}-{plain}{suffix}"
            self.page.files[self.addresses[path]] = path
        return self.addresses[path]


def _choose(layers: list[dict[str, Any]], vectors: list[dict[str, Any]]) -> None:
    """Mark what is drawn at first: one radar image, and above it the published or first chart, or classes or labels,
    and routes.
    """
    for told in (*layers, *vectors):
        told["default"] = told.get("kind") == "lines"
    polygons = [v for v in vectors if v["kind"] == "polygons"]
    charts = sorted(polygons, key=lambda v: v["status"] != "published") or [
        layer for group in ("chart", "labels", "truth") for layer in layers if layer["group"] == group
    ]
    radar = [layer for layer in layers if layer["group"] == "radar"]
    for first in (radar[:1], charts[:1]):
        for told in first:
            told["default"] = True
    if layers and not radar and not charts:
        layers[0]["default"] = True


def _footprint(geobox: GeoBox) -> dict[str, Any] | None:
    """Return the outline of a grid in degrees; None if a side has no position on the earth."""
    b = geobox.boundingbox
    along = np.linspace(0, 1, _SIDE)[:-1]
    across, down = (b.right - b.left) * along, (b.top - b.bottom) * along
    x = np.concatenate([b.left + across, np.full(_SIDE - 1, b.right), b.right - across, np.full(_SIDE - 1, b.left)])
    y = np.concatenate([np.full(_SIDE - 1, b.bottom), b.bottom + down, np.full(_SIDE - 1, b.top), b.top - down])
    to_earth = pyproj.Transformer.from_crs(crs_of(geobox).proj, "EPSG:4326", always_xy=True)
    lon, lat = (np.round(v, 4).tolist() for v in to_earth.transform(x, y))
    ring = [[a, b] for a, b in zip([*lon, lon[0]], [*lat, lat[0]], strict=True)]
    return {"type": "Polygon", "coordinates": [ring]} if np.isfinite(ring).all() else None
