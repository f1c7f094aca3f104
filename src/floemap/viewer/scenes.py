"""Scenes of the map: all results of one product together, so that models and losses stand side by side."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

from odc.geo.geobox import GeoBox

from floemap.errors import MISSHAPEN
from floemap.grid import crs_of, read_grid, same_crs
from floemap.results.fields import at
from floemap.viewer.found import ROUTE, Found, Search
from floemap.viewer.layers import AGAINST, GROUPS, Layer, has_rasters, layers_of
from floemap.viewer.vectors import Shapes, has_polygons, polygons_of, route_of

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
        The results with something to draw, as far as names of files tell, and draft charts.
    routes
        Routes through its charts, also where these are not there.
    grids
        The grids that the results' records tell.
    content
        SHA-256 of the chart's files where the scene is that of routes alone: charts of one name may be different ones.
    """

    name: str
    found: list[Found] = field(default_factory=list)
    routes: list[Found] = field(default_factory=list)
    grids: list[GeoBox] = field(default_factory=list)
    content: str = ""

    def add(self, result: Found, grid: GeoBox | None) -> None:
        """Add a result."""
        self.found.append(result)
        self.grids += [] if grid is None else [grid]

    @property
    def start(self) -> datetime | None:
        """Start of the acquisition, or the time that the published chart is valid for; UTC."""
        keys = ("scene.start", "valid", "chart_time")
        return self._time(keys) or _in_name(self.name, 0)

    @property
    def stop(self) -> datetime | None:
        """End of the acquisition."""
        return self._time(("scene.stop",)) or _in_name(self.name, 1)

    def _time(self, keys: Iterable[str]) -> datetime | None:
        for key in keys:
            for result in (*self.found, *self.routes):
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
        return any(result.simulated for result in (*self.found, *self.routes))

    @property
    def status(self) -> str | None:
        """Status of what is drawn: published before draft before prediction."""
        kinds = {result.kind for result in self.found}
        words = {"publication.json": "published", "chart.json": "draft", "prediction.json": "prediction"}
        return next((word for kind, word in words.items() if kind in kinds), None)

    @property
    def notice(self) -> str | None:
        """What its charts say about what they are and are not for."""
        charts = [r for r in self.found if r.kind in ("chart.json", "publication.json")]
        told = [at(r.record, "status", "") for r in charts or self.routes]
        return "; ".join(dict.fromkeys(filter(None, told))) or None

    def review(self) -> list[dict[str, Any]]:
        """Return the spots to review first, for map.json: those of the first result that has some."""
        for result in self.found:
            spots = [s for s in at(result.record, "review_spots", []) if isinstance(s, Mapping)]
            told = [entry for spot in spots if (entry := _spot(spot)) is not None]
            if told:
                return told
        return []


@dataclass(frozen=True)
class Drawn:
    """What is drawn of a scene, and sentences about what is not."""

    layers: Sequence[Layer]
    shapes: Sequence[Shapes]
    warnings: Sequence[str]

    @property
    def grids(self) -> list[GeoBox]:
        """Grids of its layers; those of truth only if there are no others."""
        grids = [layer.raster.geobox for layer in self.layers if layer.group != "truth"]
        return grids or [layer.raster.geobox for layer in self.layers]


def scenes_of(found: Search) -> list[Scene]:
    """Group results by their products, the earliest scene first; of them, records only are read.

    Results that name no product, such as labels, belong to the scene on whose grid they lie, if there is one only.
    """
    scenes: dict[str, Scene] = {}
    loose: list[Found] = []
    drawable: set[str] = set()
    for result in found.found:
        draws = result.kind != ROUTE and (has_rasters(result) or has_polygons(result, found))
        if not draws and result.kind != "chart.json":
            continue
        name = _product(result)
        if name is None:
            loose.append(result)
            continue
        scenes.setdefault(name, Scene(name)).add(result, read_grid(result.record))
        drawable |= {name} if draws else set()
    shown = {name: scene for name, scene in scenes.items() if name in drawable}
    _add_loose(loose, shown)
    for result in found.found:
        if result.kind == ROUTE:
            _add_route(result, shown, found)
    return sorted(shown.values(), key=lambda s: (s.start or datetime.max.replace(tzinfo=UTC), s.name))


def _add_loose(loose: Sequence[Found], scenes: dict[str, Scene]) -> None:
    """Add results that name no product to the scenes on whose grids they lie."""
    places: dict[tuple[float, ...], list[tuple[GeoBox, Scene]]] = {}

    def place(grid: GeoBox) -> list[tuple[GeoBox, Scene]]:
        return places.setdefault((*grid.shape, *(round(v, 3) for v in tuple(grid.transform)[:6])), [])

    for scene in scenes.values():
        for known in scene.grids:
            place(known).append((known, scene))
    for result in loose:
        grid = read_grid(result.record)
        there = [] if grid is None else place(grid)
        fitting = {id(s): s for other, s in there if grid is not None and same_crs(crs_of(grid), crs_of(other))}
        name = result.folder.absolute().name
        scene = next(iter(fitting.values())) if len(fitting) == 1 else scenes.setdefault(name, Scene(name))
        scene.add(result, grid)
        if grid is not None:
            there.append((grid, scene))


def read_scene(scene: Scene, search: Search) -> Drawn:
    """Read what is drawn of a scene: headers of its rasters, the smallest overview of radar bands, heads of GeoJSON.

    Files that cannot be shown are named in warnings, and left out. A chart's radar image is that of its product: it is
    shown only where the product is not there, and once.
    """
    before = len(search.warnings)
    layers: list[Layer] = []
    of_charts: list[Layer] = []
    shapes: list[Shapes] = []
    for result in scene.found:
        run = _run(result)
        try:
            own = list(layers_of(result, run, search))
            if result.kind == "chart.json":
                of_charts = of_charts or [layer for layer in own if layer.group == "radar"]
                own = [layer for layer in own if layer.group != "radar"]
            layers += _told_apart(own, result, layers)
            shapes += polygons_of(result, run, search)
        except OSError as e:
            search.unreadable(result.folder, e)
    if not any(layer.group == "radar" for layer in layers):
        layers += of_charts
    for route in scene.routes:
        shapes += route_of(route, search)
    layers.sort(key=lambda x: (GROUPS.index(x.group), x.legend is not None and x.legend[0] == AGAINST))
    return Drawn(layers, shapes, search.warnings[before:])


def _add_route(route: Found, scenes: dict[str, Scene], search: Search) -> None:
    """Add a route to the scene of its chart: it has a file of the content with which the route was assessed.

    Routes through one chart that is not among the folders are a scene of their own.
    """
    charts = {digest for digest in at(route.record, "inputs.chart", {}).values() if isinstance(digest, str)}
    for scene in scenes.values():
        files = [f for result in scene.found for f in at(result.record, "files", {}).values()]
        if charts & {at(file, "sha256", "") for file in files}:
            scene.routes.append(route)
            return
    search.warn(route.folder, "the chart of this route is not among the folders; the route is shown without it")
    name, content = f"{at(route.record, 'chart', '') or route.folder.absolute().name}, routes", " ".join(sorted(charts))
    scenes.setdefault(f"{name} {content}", Scene(name, content=content)).routes.append(route)


def _told_apart(layers: list[Layer], result: Found, before: list[Layer]) -> list[Layer]:
    """Return the layers with a run that no earlier result of the scene has: its folder is added where it must be."""
    runs = {layer.run for layer in layers if layer.run is not None}
    others = {(layer.run, layer.title) for layer in before}
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
        time = datetime.fromisoformat(text.removesuffix(" UTC"))
        return time.replace(tzinfo=time.tzinfo or UTC).astimezone(UTC)
    except (ValueError, OverflowError):
        return None


def _in_name(name: str, which: int) -> datetime | None:
    """Return the time in a product's name: the first is its start, the second its stop."""
    found = re.findall(r"(?<!\d)\d{8}T\d{6}(?!\d)", name)
    return _parsed(found[which]) if len(found) > which else None
