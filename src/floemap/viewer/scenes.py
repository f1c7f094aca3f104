"""Scenes of the map: all results of one product together, so that models and losses stand side by side."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyproj
from odc.geo.geobox import GeoBox

from floemap.errors import MISSHAPEN, FloemapError
from floemap.grid import crs_of, same_crs
from floemap.legend import Legend
from floemap.own_legends import from_record
from floemap.results.fields import at
from floemap.results.stage import damaged
from floemap.viewer.found import Found, Search
from floemap.viewer.layers import GROUPS, Layer, layers_of
from floemap.viewer.legends import of_classes

#: Endings of the names of products that are not part of a scene's name.
_ENDINGS = (".SAFE", ".safe", ".zip", ".tif")

#: Beginning of a GeoJSON as floemap writes it, and the bytes in which it lies.
_NUMBER = rb"\s*(-?\d{1,3}(?:\.\d{1,12})?(?:e-\d\d)?)\s*"
_BBOX = re.compile(
    rb'\s*\{\s*"type"\s*:\s*"FeatureCollection"\s*,\s*"bbox"\s*:\s*\[' + b",".join(4 * [_NUMBER]) + rb"\]"
)
_HEAD = 1024


@dataclass(frozen=True)
class Polygons:
    """A GeoJSON of a chart's polygons: its real path, title, model or analyst, legend, status and extent in degrees."""

    path: Path
    title: str
    run: str | None
    legend: Legend
    status: str
    bbox: tuple[float, float, float, float]


@dataclass
class Scene:
    """The results of one product.

    Attributes
    ----------
    name
        Name of the product; of results that name none, of their folder.
    found
        The results.
    layers, polygons
        What is drawn.
    """

    name: str
    found: list[Found] = field(default_factory=list)
    layers: list[Layer] = field(default_factory=list)
    polygons: list[Polygons] = field(default_factory=list)

    @property
    def start(self) -> datetime | None:
        """Start of the acquisition, or the time that the published chart is valid for; UTC."""
        keys = ("scene.start", "valid")
        return self._time(keys) or _in_name(self.name, 0)

    @property
    def stop(self) -> datetime | None:
        """End of the acquisition."""
        return self._time(("scene.stop",)) or _in_name(self.name, 1)

    def _time(self, keys: Iterable[str]) -> datetime | None:
        for key in keys:
            for result in self.found:
                if (time := _parsed(at(result.record, key, ""))) is not None:
                    return time
        return None

    @property
    def mission(self) -> str | None:
        """Satellite, such as S1A."""
        told = (at(result.record, "scene.mission", "") for result in self.found)
        return next((m for m in told if m), None)

    @property
    def simulated(self) -> bool:
        """Whether any of its results is simulated."""
        return any(result.simulated for result in self.found)

    @property
    def status(self) -> str | None:
        """Status of what is drawn: published before draft before prediction."""
        kinds = {result.kind for result in self.found}
        words = {"publication.json": "published", "chart.json": "draft", "prediction.json": "prediction"}
        return next((word for kind, word in words.items() if kind in kinds), None)

    @property
    def notice(self) -> str | None:
        """What its charts say about what they are and are not for."""
        told = [at(r.record, "status", "") for r in self.found if r.kind in ("chart.json", "publication.json")]
        return "; ".join(dict.fromkeys(filter(None, told))) or None

    @property
    def geobox(self) -> GeoBox | None:
        """Grid of the finest of its layers on the map; None without layers."""
        grids = [layer.raster.geobox for layer in self.layers if layer.group != "truth"]
        grids = grids or [layer.raster.geobox for layer in self.layers]
        return min(grids, key=lambda g: abs(g.resolution.x), default=None)

    def review(self) -> list[dict[str, Any]]:
        """Return the spots to review first, for map.json: those of the first result that has some."""
        for result in self.found:
            spots = [s for s in at(result.record, "review_spots", []) if isinstance(s, Mapping)]
            told = [entry for spot in spots if (entry := _spot(spot)) is not None]
            if told:
                return told
        return []


def scenes_of(found: Search) -> list[Scene]:
    """Group results by their products, the earliest scene first.

    Results that name no product, such as labels, belong to the scene on whose grid they lie, if there is one only.

    Raises
    ------
    FloemapError
        If nothing of what was found can be shown.
    """
    scenes: dict[str, Scene] = {}
    loose: list[tuple[Found, list[Layer]]] = []
    for result in found.found:
        name, run = _product(result), _run(result)
        layers = list(layers_of(result, run, found))
        polygons = list(_polygons(result, run, found))
        if not layers and not polygons and result.kind != "chart.json":
            continue
        if name is None:
            loose.append((result, layers))
            continue
        scene = scenes.setdefault(name, Scene(name))
        scene.found.append(result)
        scene.layers += _told_apart(layers, result, scene)
        scene.polygons += polygons
    for result, layers in loose:
        fitting = [s for s in scenes.values() if any(_same_grid(layers[0], other) for other in s.layers)]
        name = result.folder.absolute().name
        scene = fitting[0] if len(fitting) == 1 else scenes.setdefault(name, Scene(name))
        scene.found.append(result)
        scene.layers += layers
    shown = [s for s in scenes.values() if s.layers or s.polygons]
    if not shown:
        raise FloemapError(
            "none of the results found can be shown: " + "; ".join(found.warnings[:5]) + ".",
            hint="Make them again with the command that made them.",
        )
    for scene in shown:
        scene.layers.sort(key=lambda layer: GROUPS.index(layer.group))
    return sorted(shown, key=lambda s: (s.start or datetime.max.replace(tzinfo=UTC), s.name))


def _told_apart(layers: list[Layer], result: Found, scene: Scene) -> list[Layer]:
    """Return the layers with a run that no other result of the scene has: its folder is added where it must be."""
    runs = {layer.run for layer in layers if layer.run is not None}
    others = {(layer.run, layer.title) for layer in scene.layers}
    if not any((layer.run, layer.title) in others for layer in layers if layer.run in runs):
        return layers
    named = f"{next(iter(runs))} ({result.folder.absolute().parent.name})"
    return [replace(layer, run=named) if layer.run is not None else layer for layer in layers]


def _run(result: Found) -> str | None:
    """Return the name of the cell or model that a result is of."""
    if result.cell is not None and result.kind in ("prediction.json", "evaluation.json"):
        return result.cell
    if result.kind == "chart.json":
        names = [str(at(model, "name", "")) for model in at(result.record, "models", [])]
        return ", ".join(filter(None, names)) or "draft chart"
    if result.kind == "prediction.json":
        return str(at(result.record, "model.file", "")).removesuffix(".safetensors") or "prediction"
    return None


def _product(result: Found) -> str | None:
    """Return the name of the product that a result is of."""
    folder = result.folder.absolute()
    keys = {
        "product.json": ("scene.name",),
        "chart.json": ("scene.name", "product.file"),
        "prediction.json": ("product.name",),
        "evaluation.json": ("scene",),
        "publication.json": ("correction_of.product", "name"),
        "label.json": ("origin.product",),
        "layer.json": ("product",),
        "truth.json": (),
    }[result.kind]
    told = next((name for key in keys if isinstance(name := at(result.record, key), str) and name), None)
    if told is None:
        return None if result.kind == "label.json" else folder.name
    for ending in _ENDINGS:
        told = told.removesuffix(ending)
    return told


def _same_grid(one: Layer, other: Layer) -> bool:
    a, b = one.raster.geobox, other.raster.geobox
    return a.shape == b.shape and a.transform.almost_equals(b.transform) and same_crs(crs_of(a), crs_of(b))


def _polygons(result: Found, run: str | None, search: Search) -> Iterable[Polygons]:
    """Give the polygons of a draft or published chart. They are read once, so that the page gets whole files only."""
    if result.kind not in ("chart.json", "publication.json"):
        return
    published = result.kind == "publication.json"
    names = at(result.record, "outputs.geojson", [])
    if not names and at(result.record, "outputs.chart", []):
        search.warn(result.folder, "its polygons have no GeoJSON, which the map needs; they are not shown")
    for name in names:
        path = result.folder / Path(str(name)).name
        try:
            real = search.inside(path)
            if not real.is_file():
                raise FloemapError("does not exist", path=path)
            if any(damaged(result.folder, result.record, [path.name])):
                raise FloemapError("is empty or shorter than its record says", path=path)
            legend = from_record(at(result.record, "legend"), path)
            bbox = _bbox(real)
        except FloemapError as e:
            search.without(e, path)
            continue
        analyst = at(result.record, "analyst", "")
        title = "Published chart" if published else "Draft chart: polygons"
        status = "published" if published else "draft"
        who = f"published by {analyst}" if published and analyst else run
        yield Polygons(real, title, who, legend, status, bbox)


def _bbox(path: Path) -> tuple[float, float, float, float]:
    """Return west, south, east, north of a GeoJSON that floemap wrote: its member bbox, which is before the features.

    The file is not read whole, as some have many megabytes.

    Raises
    ------
    FloemapError
        If it is not GeoJSON of polygons, or has no such member at its beginning.
    """
    try:
        with path.open("rb") as file:
            head = file.read(_HEAD)
    except OSError as e:
        raise FloemapError(f"cannot be read: {e.strerror or e}", path=path) from e
    found = _BBOX.match(head)
    if found is None:
        raise FloemapError("is not a GeoJSON that floemap wrote", path=path)
    west, south, east, north = (float(v) for v in found.groups())
    return west, south, east, north


def extent_of_polygons(bbox: tuple[float, float, float, float], crs: pyproj.CRS) -> tuple[float, float, float, float]:
    """Return xmin, ymin, xmax, ymax on a map, metres, of a box in degrees; its west may be greater than its east."""
    west, south, east, north = bbox
    lon, lat = np.meshgrid(np.linspace(west, east + 360 * (east < west), 65), np.linspace(south, north, 65))
    x, y = pyproj.Transformer.from_crs("EPSG:4326", crs, always_xy=True).transform(lon.ravel(), lat.ravel())
    return float(np.min(x)), float(np.min(y)), float(np.max(x)), float(np.max(y))


def _spot(spot: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return a spot to review as map.json has it; None if the record was edited so that it has no place."""
    try:
        rank, lon, lat, area = int(spot["spot"]), *(float(spot[k]) for k in ("lon_deg", "lat_deg", "area_km2"))
        wrong = float(spot["wrong_km2"])
        first, other = (str(spot[k]).replace("_", " ") for k in ("class", "other"))
        inside = math.isfinite(lon) and abs(lat) <= 90 and 0 <= area < 1e6 and math.isfinite(wrong)
    except MISSHAPEN:
        return None
    if not inside:
        return None
    why = f"{wrong:.0f} of {area:.0f} km² are expected to be wrong"
    radius_m = round(1000 * math.sqrt(area / math.pi))
    return {"rank": rank, "lon": lon, "lat": lat, "title": f"{first} or {other}", "why": why, "radius_m": radius_m}


def legend_of(polygons: Polygons) -> tuple[str, dict[str, Any]]:
    """Return name and table of the legend of polygons."""
    return polygons.legend.name, of_classes(polygons.legend)


def _parsed(text: str) -> datetime | None:
    try:
        time = datetime.fromisoformat(text)
    except ValueError:
        return None
    return time.replace(tzinfo=time.tzinfo or UTC).astimezone(UTC)


def _in_name(name: str, which: int) -> datetime | None:
    """Return the time in a product's name: the first is its start, the second its stop."""
    found = re.findall(r"(?<!\d)\d{8}T\d{6}(?!\d)", name)
    return _parsed(found[which]) if len(found) > which else None
