"""What the page reads: map.json, the list of scenes, and for each scene a JSON of what is drawn of it.

A scene's own JSON is read by the page when the scene is shown, and served maps make it only then: a list of many scenes
costs no look into their rasters.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pyproj
from odc.geo.geobox import GeoBox

from floemap.grid import crs_of
from floemap.version import __version__
from floemap.viewer.layers import Layer
from floemap.viewer.legends import Legends
from floemap.viewer.scenes import Drawn, Scene
from floemap.viewer.vectors import Shapes, extent_of_box
from floemap.warned import without_warnings

#: Version of the form of map.json and the scenes' files.
FORMAT = 2
#: Projections that the page always offers.
_POLAR = ("EPSG:3413", "EPSG:3031", "EPSG:3995")
#: Points along each side of a footprint.
_SIDE = 9


@lru_cache(maxsize=64)
def _projection(crs: str) -> tuple[str, str]:
    """Return code and proj4 string of a CRS. The code of one without an EPSG number follows from the string alone."""
    found = pyproj.CRS.from_user_input(crs)
    with without_warnings(UserWarning):  # that it loses the names of axes and datums, which the page does not show
        string, epsg = found.to_proj4(), found.to_epsg()
    if epsg:
        return f"EPSG:{epsg}", string
    polar = {} if crs in _POLAR else {_projection(code)[1]: code for code in _POLAR}
    return polar.get(string) or f"floemap:{hashlib.sha256(string.encode()).hexdigest()[:8]}", string


@dataclass
class Projections:
    """Projections by code, as proj4 strings; those that the page always offers are there from the beginning."""

    strings: dict[str, str] = field(default_factory=lambda: dict(map(_projection, _POLAR)))

    def code_of(self, crs: str) -> str:
        """Return the code of a CRS, and keep its string."""
        code, string = _projection(crs)
        self.strings[code] = string
        return code


def page_map(
    scenes: Sequence[Mapping[str, Any]],
    projections: Projections,
    warnings: Sequence[str],
    title: str,
    coast: Mapping[str, str],
) -> dict[str, Any]:
    """Return the content of map.json.

    Parameters
    ----------
    scenes, projections
        Scenes from :func:`listed`, and their projections.
    warnings
        Sentences about what is not shown and belongs to no scene.
    title
        Title of the page.
    coast
        Address and source of the coastline.
    """
    told = {"format": FORMAT, "title": title, "floemap": __version__, "coast": dict(coast)}
    return told | {"projections": projections.strings, "scenes": list(scenes), "warnings": list(warnings)}


def listed(name: str, scene: Scene, drawn: Drawn | None, projections: Projections) -> dict[str, Any]:
    """Return what the list says of a scene: names, times, and its place.

    Parameters
    ----------
    name
        Id of the scene.
    drawn
        What is drawn of it, from which its place follows; None if only records are read, which then tell its place.
    projections
        Gets the scene's.
    """
    start, stop = (None if t is None else t.isoformat().replace("+00:00", "Z") for t in (scene.start, scene.stop))
    told: dict[str, Any] = {"id": name, "name": scene.name, "short": scene.short, "time": start, "stop": stop}
    told |= {"mission": scene.mission, "simulated": scene.simulated, "status": scene.status, "notice": scene.notice}
    grids, shapes = (scene.grids, ()) if drawn is None else (drawn.grids, drawn.shapes)
    return told | {"url": address_of(name)} | _place(grids, shapes, projections)


def detailed(name: str, scene: Scene, drawn: Drawn) -> tuple[dict[str, Any], dict[str, Path]]:
    """Return all that the page shows of a scene, and the real paths of the files that this names, by their address."""
    parts = _Parts(name)
    told: dict[str, Any] = {"format": FORMAT} | listed(name, scene, drawn, parts.projections)
    told["vectors"] = [parts.vector(i, shapes) for i, shapes in enumerate(drawn.shapes, 1)]
    told["layers"] = [parts.layer(i, layer) for i, layer in enumerate(drawn.layers, 1)]
    _choose(told["layers"], told["vectors"])
    told |= {"review": scene.review(), "warnings": list(drawn.warnings)}
    told |= {"legends": parts.legends.tables, "projections": parts.projections.strings}
    return told, {address: path for path, address in parts.addresses.items()}


def address_of(name: str) -> str:
    """Return the address of a scene's own JSON."""
    return f"scenes/{name}.json"


def scene_of(address: str) -> str | None:
    """Return the id of the scene of whose files an address is; None if it is of none."""
    found = re.fullmatch(r"data/(s[0-9a-f]+)/[^/]+", address)
    return None if found is None else found[1]


def ids_of(scenes: Iterable[Scene]) -> dict[str, Scene]:
    """Return scenes by id, which follows from their names and, for routes alone, from the content of their chart.

    So an address of the page leads to the same scene when the map is made again, whatever scenes have come since.
    """
    found: dict[str, Scene] = {}
    for scene in scenes:
        told = f"{scene.name} {scene.content}".rstrip()
        digest, length = hashlib.sha256(told.encode("utf-8", "replace")).hexdigest(), 8
        while (name := f"s{digest[:length]}") in found:
            length += 1
        found[name] = scene
    return found


def _place(grids: Sequence[GeoBox], shapes: Sequence[Shapes], projections: Projections) -> dict[str, Any]:
    """Return projection, extent and footprint: those of the finest grid, else of the first polygons."""
    geobox = min(grids, key=lambda g: abs(g.resolution.x), default=None)
    if geobox is not None:
        b = geobox.boundingbox
        rows, cols = geobox.shape
        place: dict[str, Any] = {"projection": projections.code_of(str(crs_of(geobox)))}
        place |= {"extent": [b.left, b.bottom, b.right, b.top], "size": [cols, rows]}
        return place | {"pixel_m": abs(geobox.resolution.x), "footprint": _footprint(geobox)}
    bbox = next((s.bbox for s in shapes if s.bbox), (-180.0, 60.0, 180.0, 90.0))
    code = "EPSG:3413" if bbox[3] >= 0 else "EPSG:3031"
    extent = extent_of_box(bbox, pyproj.CRS.from_user_input(code))
    place = {"projection": projections.code_of(code), "extent": list(extent)}
    return place | {"size": None, "pixel_m": None, "footprint": None}


@dataclass
class _Parts:
    """Layers and vectors of one scene on their way into its JSON."""

    id: str
    projections: Projections = field(default_factory=Projections)
    legends: Legends = field(default_factory=Legends)
    addresses: dict[Path, str] = field(default_factory=dict)

    def layer(self, number: int, layer: Layer) -> dict[str, Any]:
        legend = None if layer.legend is None else self.legends.add(layer.legend[0], dict(layer.legend[1]))
        told = {"id": str(number), "url": self._address(layer.raster.path, ".tif"), "legend": legend}
        return told | {"projection": self.projections.code_of(str(crs_of(layer.raster.geobox)))} | layer.as_json()

    def vector(self, number: int, shapes: Shapes) -> dict[str, Any]:
        legend = None if shapes.legend is None else self.legends.add(shapes.legend[0], dict(shapes.legend[1]))
        told = {"id": f"v{number}", "title": shapes.title, "kind": shapes.kind, "run": shapes.run}
        return told | {"url": self._address(shapes.path, ".geojson"), "legend": legend, "status": shapes.status}

    def _address(self, path: Path, suffix: str) -> str:
        """Return the relative address of a file: plain letters only, whatever the names of folders and files.

        The suffix, which web servers take the type from, is that of the kind: a link may lead to a file of any name.
        Size and time of change are in the address as a hash, so that no page that is still open from an earlier map
        reads another file, or pieces of two files, under it.
        """
        if path not in self.addresses:
            plain = re.sub(r"[^A-Za-z0-9_-]", "_", path.stem)[:60]
            self.addresses[path] = f"data/{self.id}/{len(self.addresses) + 1}-{plain}-{_mark(path)}{suffix}"
        return self.addresses[path]


def _mark(path: Path) -> str:
    """Return a few letters that are others when the file at a path has become another."""
    try:
        about = path.stat()
    except OSError:  # it has gone since it was read
        return "gone"
    return hashlib.sha256(f"{about.st_mtime_ns} {about.st_size}".encode()).hexdigest()[:8]


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
    lon, lat = (np.round(v, 4).tolist() for v in _to_earth(str(crs_of(geobox))).transform(x, y))
    ring = [[a, b] for a, b in zip([*lon, lon[0]], [*lat, lat[0]], strict=True)]
    return {"type": "Polygon", "coordinates": [ring]} if np.isfinite(ring).all() else None


@lru_cache(maxsize=64)
def _to_earth(crs: str) -> pyproj.Transformer:
    """Return the way from a CRS to longitudes and latitudes, which takes longer to make than a footprint."""
    return pyproj.Transformer.from_crs(crs, "EPSG:4326", always_xy=True)
