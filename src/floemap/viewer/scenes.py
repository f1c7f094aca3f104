"""Scenes of the map: all results of one product together, so that models and losses stand side by side."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

from odc.geo.geobox import GeoBox

from floemap.errors import MISSHAPEN, FloemapError
from floemap.grid import crs_of, same_crs
from floemap.progress import Progress, silent
from floemap.results.fields import at
from floemap.viewer.found import ROUTE, Found, Search
from floemap.viewer.layers import AGAINST, GROUPS, Layer, layers_of
from floemap.viewer.vectors import Shapes, polygons_of, route_of

#: Endings of the names of products that are not part of a scene's name.
_ENDINGS = (".SAFE", ".safe", ".zip", ".tif")


@dataclass
class Scene:
    """The results of one product.

    Attributes
    ----------
    name
        Name of the product; of results that name none, of their folder.
    found
        The results.
    layers, shapes
        What is drawn.
    """

    name: str
    found: list[Found] = field(default_factory=list)
    layers: list[Layer] = field(default_factory=list)
    shapes: list[Shapes] = field(default_factory=list)

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
    def short(self) -> str:
        """Satellite, mode and start for people, such as "S1A EW 2018-07-17 07:38"; the name where these are unknown."""
        mode = next((m for result in self.found if (m := at(result.record, "scene.mode", ""))), None)
        start = None if self.start is None else f"{self.start:%Y-%m-%d %H:%M}"
        return " ".join(filter(None, (self.mission, mode, start))) or self.name

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


def scenes_of(found: Search, progress: Progress = silent) -> list[Scene]:
    """Group results by their products, the earliest scene first.

    Results that name no product, such as labels, belong to the scene on whose grid they lie, if there is one only.

    Raises
    ------
    FloemapError
        If nothing of what was found can be shown.
    """
    scenes: dict[str, Scene] = {}
    loose: list[tuple[Found, list[Layer]]] = []
    for number, result in enumerate(found.found):
        progress(number, len(found.found), result.folder.name)
        if result.kind == ROUTE:
            continue
        name, run = _product(result), _run(result)
        layers, shapes = list(layers_of(result, run, found)), list(polygons_of(result, run, found))
        if not layers and not shapes and result.kind != "chart.json":
            continue
        if name is None:
            loose.append((result, layers))
            continue
        scene = scenes.setdefault(name, Scene(name))
        scene.found.append(result)
        scene.layers += _told_apart(layers, result, scene)
        scene.shapes += shapes
    for result, layers in loose:
        fitting = [s for s in scenes.values() if any(_same_grid(layers[0], other) for other in s.layers)]
        name = result.folder.absolute().name
        scene = fitting[0] if len(fitting) == 1 else scenes.setdefault(name, Scene(name))
        scene.found.append(result)
        scene.layers += layers
    for result in found.found:
        if result.kind == ROUTE:
            _add_route(result, list(scenes.values()), found)
    shown = [s for s in scenes.values() if s.layers or s.shapes]
    if not shown:
        raise FloemapError(
            "none of the results found can be shown: " + "; ".join(found.warnings[:5]) + ".",
            hint="Make them again with the command that made them.",
        )
    for scene in shown:
        scene.layers.sort(key=lambda x: (GROUPS.index(x.group), x.legend is not None and x.legend[0] == AGAINST))
    return sorted(shown, key=lambda s: (s.start or datetime.max.replace(tzinfo=UTC), s.name))


def _add_route(route: Found, scenes: list[Scene], search: Search) -> None:
    """Add a route to the scene of its chart: it has a file of the content with which the route was assessed."""
    charts = {digest for digest in at(route.record, "inputs.chart", {}).values() if isinstance(digest, str)}
    for scene in scenes:
        files = [f for result in scene.found for f in at(result.record, "files", {}).values()]
        if charts & {at(file, "sha256", "") for file in files}:
            scene.shapes += route_of(route, search)
            return
    search.warn(route.folder, "the chart of this route is not among the folders; it is not shown")


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


def _parsed(text: str) -> datetime | None:
    try:
        time = datetime.fromisoformat(text)
        return time.replace(tzinfo=time.tzinfo or UTC).astimezone(UTC)
    except (ValueError, OverflowError):
        return None


def _in_name(name: str, which: int) -> datetime | None:
    """Return the time in a product's name: the first is its start, the second its stop."""
    found = re.findall(r"(?<!\d)\d{8}T\d{6}(?!\d)", name)
    return _parsed(found[which]) if len(found) > which else None
