"""The layers of a map: which bands of which rasters of a result are drawn, and how."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from floemap.errors import MISSHAPEN, FloemapError
from floemap.icechart.polaris import LEVEL_RGB, TENTHS, Level, ship_class
from floemap.legend import IGNORE, SIX_CLASSES, Legend
from floemap.own_legends import from_record, from_tags
from floemap.results.fields import at
from floemap.results.stage import damaged
from floemap.sentinel1.quicklook import limits_db, read_small
from floemap.viewer.found import Found, Search
from floemap.viewer.legends import SERIES, hexadecimal, of_classes, of_levels, of_values
from floemap.viewer.rasters import Raster, read_raster

#: Names of layers' groups, in the order of the list on the page.
GROUPS = ("radar", "chart", "labels", "truth", "probability", "uncertainty", "risk", "layer")
#: Name of the legend of right and wrong.
AGAINST = "against_the_labels"
#: Outcomes at the ends of their ramp.
_OUTCOMES = (-30, 30)
#: In the place of a name: all other rasters of the folder.
_OTHERS = "*"
Range = tuple[float, float]


@dataclass(frozen=True)
class Layer:
    """A layer: bands of a raster, and how they are drawn. Fields are those of map.json; ranges are stored values.

    A ramp is a name that the page knows, or places from 0 to 1 with their colours. Values that are `stepped` are
    those of whole polygons, and are not smoothed between them.
    """

    title: str
    group: str
    kind: str
    raster: Raster
    bands: tuple[int, ...]
    range: tuple[Range, ...]
    run: str | None = None
    ramp: str | Sequence[tuple[float, str]] | None = None
    legend: tuple[str, Mapping[str, Any]] | None = None
    status: str | None = None
    green_is_mean: bool = False
    stepped: bool = False

    def as_json(self) -> dict[str, Any]:
        """Return the fields for map.json that follow from the layer alone."""
        band = self.raster.bands[self.bands[0] - 1]
        told: dict[str, Any] = {"title": self.title, "group": self.group, "run": self.run, "kind": self.kind}
        told |= {"bands": list(self.bands), "nodata": self.raster.nodata, "ramp": self.ramp, "status": self.status}
        ranges = [list(r) for r in self.range]
        told |= {"range": ranges if self.kind == "rgb" else ranges[0] if ranges else None}
        told |= {"scale": band.scale, "offset": band.offset, "unit": band.unit or None}
        flags = {"green_is_mean": self.green_is_mean, "stepped": self.stepped}
        return told | {name: True for name, is_set in flags.items() if is_set}


def layers_of(found: Found, run: str | None, search: Search) -> Iterator[Layer]:
    """Give the layers of a result. Rasters that are damaged or cannot be shown are named in a warning, and left out.

    Parameters
    ----------
    run
        Name of the model, loss or cell that the result is of.
    """
    for name, make in _RASTERS[found.kind].items():
        for path in _paths(found, name):
            if not path.is_file() and not path.is_symlink():
                continue
            try:
                real = search.inside(path)
                if any(damaged(found.folder, found.record, [path.name])):
                    raise FloemapError("is empty or shorter than its record says", path=path)
                layers = list(make(found, read_raster(real), run))
                if not all(math.isfinite(v) for layer in layers for pair in layer.range for v in pair):
                    raise FloemapError("has limits in its record that are not finite numbers", path=path)
            except FloemapError as e:
                search.without(e, path)
                continue
            except MISSHAPEN as e:
                search.warn(path, f"does not fit its record ({type(e).__name__}); it is not shown")
                continue
            yield from layers


def has_rasters(found: Found) -> bool:
    """Return whether a result has rasters of names of its kind; they are not opened."""
    return any(
        name.endswith(".tif") and fnmatch(name, wanted) for wanted in _RASTERS[found.kind] for name in found.files
    )


def _paths(found: Found, name: str) -> list[Path]:
    """Return the rasters of a result that a name of its kind means: one, all of a pattern, or all others."""
    if name == _OTHERS:
        return _others(found)
    return sorted(found.folder.glob(name)) if "*" in name else [found.folder / name]


def _others(found: Found) -> list[Path]:
    """Return the rasters of a result that its kind does not name."""
    return sorted(p for p in found.folder.glob("*.tif") if p.name not in _RASTERS[found.kind])


def _legend_of(found: Found, raster: Raster) -> Legend:
    """Return the legend of a result's classes, from its record or the raster's tags."""
    told = at(found.record, "legend")
    if told is None and (tagged := from_tags(raster.tags, raster.path)) is not None:
        return tagged
    return from_record(told, raster.path)


def _whole(raster: Raster, number: int, low: float, high: float) -> tuple[Range]:
    """Return physical limits as stored values of a band."""
    band = raster.bands[number - 1]
    return (((low - band.offset) / band.scale, (high - band.offset) / band.scale),)


def _ice(title: str, group: str, band: int, run: str | None, status: str | None, of: tuple[Raster, Legend]) -> Layer:
    raster, legend = of
    table = (legend.name, of_classes(legend))
    return Layer(title, group, "classes", raster, (band,), (), run, legend=table, status=status)


def _classes(found: Found, raster: Raster, run: str | None) -> Iterator[Layer]:
    status = "draft" if found.kind == "chart.json" else "prediction"
    yield _ice("Ice types", "chart", 1, run, status, (raster, _legend_of(found, raster)))


def _probabilities(found: Found, raster: Raster, run: str | None) -> Iterator[Layer]:
    titles = {c.key: c.title for c in _legend_of(found, raster).classes}
    for i, band in enumerate(raster.bands, 1):
        title = f"Probability of {titles.get(band.name, band.name).lower()}"
        yield Layer(title, "probability", "scalar", raster, (i,), _whole(raster, i, 0, 1), run, "viridis")


def _shares(found: Found, raster: Raster, run: str | None) -> Iterator[Layer]:
    for i, band in enumerate(raster.bands, 1):
        title = band.description or band.name
        yield Layer(title, "layer", "scalar", raster, (i,), _whole(raster, i, 0, 1), run, "viridis")


def _uncertainty(found: Found, raster: Raster, run: str | None) -> Iterator[Layer]:
    titles = {"entropy": "Uncertainty: entropy", "mutual_information": "Uncertainty: disagreement of the models"}
    for i, band in enumerate(raster.bands, 1):
        title = titles.get(band.name, band.name)
        yield Layer(title, "uncertainty", "scalar", raster, (i,), _whole(raster, i, 0, 1), run, "inferno")


def _unlikeness(found: Found, raster: Raster, run: str | None) -> Iterator[Layer]:
    title = "Distance from the model's training scenes (1 is usual)"
    yield Layer(title, "uncertainty", "scalar", raster, (1,), ((0, 3),), run, "inferno")


def _further(found: Found, raster: Raster, run: str | None) -> Iterator[Layer]:
    """Give what further heads of a model predict: values, categories and shares."""
    first = raster.bands[0]
    if len(raster.bands) > 1:
        yield from _shares(found, raster, run)
    elif first.categories:
        words = {k: v for k, v in first.categories.items() if k != IGNORE}
        colours = {k: first.colours.get(k, SERIES[i % len(SERIES)]) for i, k in enumerate(words)}
        title = first.description or first.name
        legend = (first.name, of_values(title, words, colours))
        yield Layer(title, "layer", "classes", raster, (1,), (), run, legend=legend)
    else:
        high = first.offset + first.scale * (IGNORE - 1)
        title = first.description or first.name
        yield Layer(title, "layer", "scalar", raster, (1,), _whole(raster, 1, first.offset, high), run, "viridis")


def _polaris(found: Found, raster: Raster, run: str | None) -> Iterator[Layer]:
    """Give the level of operation of an ice class of ships, and the outcome with its lowest bound: advisory."""
    ship = ship_class(raster.tags.get("ice_class", ""))
    title = f"{ship.title}, POLARIS, advisory"
    table = ("polaris_levels", of_levels(ship))
    yield Layer(f"Level of operation, {title}", "risk", "classes", raster, (1,), (), run, legend=table, status="draft")
    for name, outcome in (("rio", "Risk index outcome"), ("rio_lowest", "Lowest risk index outcome")):
        number = raster.number_of(name)
        how: dict[str, Any] = {"ramp": risk_ramp(polar=ship.polar), "status": "draft", "stepped": True}
        limits = _whole(raster, number, *_OUTCOMES)
        yield Layer(f"{outcome}, {title}", "risk", "scalar", raster, (number,), limits, run, **how)


def risk_ramp(*, polar: bool) -> list[tuple[float, str]]:
    """Return the colours of outcomes for a ship, places from 0 to 1: those of the levels, the lighter the safer.

    A level ends within the half between its last outcome and the first one of the next.
    """
    (low, high), elevated = _OUTCOMES, [-TENTHS] if polar else []
    levels = [Level.SPECIAL, *([Level.ELEVATED] if polar else []), Level.NORMAL]
    ends = [low, *elevated, 0, high]
    shades = {Level.SPECIAL: (0.45, 1.0), Level.ELEVATED: (0.85, 1.0), Level.NORMAL: (1.0, 1.7)}
    stops = []
    for level, first, last in zip(levels, ends[:-1], ends[1:], strict=True):
        begin, end = first - (0.2 if first > low else 0), last - (0.3 if last < high else 0)
        for outcome, shade in zip((begin, end), shades[level], strict=True):
            rgb = [round(v * shade if shade <= 1 else v + (255 - v) * (shade - 1)) for v in LEVEL_RGB[level]]
            stops.append(((outcome - low) / (high - low), hexadecimal((rgb[0], rgb[1], rgb[2]))))
    return stops


def _errors(found: Found, raster: Raster, run: str | None) -> Iterator[Layer]:
    band = raster.bands[0]
    legend = of_values("Against the labels", {k: v for k, v in band.categories.items() if k != IGNORE}, band.colours)
    yield Layer("Right or wrong", "chart", "classes", raster, (1,), (), run, legend=(AGAINST, legend))


def _labels(found: Found, raster: Raster, run: str | None) -> Iterator[Layer]:
    chart = at(found.record, "chart.file", "") or found.folder.name
    yield _ice(f"Labels: {chart}", "labels", 1, None, None, (raster, _legend_of(found, raster)))


def _truth(found: Found, raster: Raster, run: str | None) -> Iterator[Layer]:
    number = raster.number_of("class")
    yield _ice("Truth (simulated)", "truth", number, None, None, (raster, SIX_CLASSES))


def _layer(found: Found, raster: Raster, run: str | None) -> Iterator[Layer]:
    low, high = (float(at(found.record, key)) for key in ("smallest", "largest"))
    title = raster.bands[0].description or found.folder.name
    yield Layer(title, "layer", "scalar", raster, (1,), _whole(raster, 1, low, max(high, low + 1e-6)), None, "viridis")


def _product(found: Found, raster: Raster, run: str | None) -> Iterator[Layer]:
    """Give HH, HV and their false colour with limits from the smallest overview, and the incidence angle."""
    numbers = {p: raster.number_of(f"{p.lower()}_db") for p in ("HH", "HV")}
    small = dict(zip(numbers, read_small(raster.path, 256), strict=True))
    grey = {p: _whole(raster, n, *limits_db(small[p], p))[0] for p, n in numbers.items()}
    three = (numbers["HV"], numbers["HV"], numbers["HH"])
    ranges = (grey["HV"], grey["HV"], grey["HH"])
    title = "False colour: red HV, green mean, blue HH"
    yield Layer(title, "radar", "rgb", raster, three, ranges, green_is_mean=True)
    for name, number in numbers.items():
        yield Layer(f"{name}, sigma nought", "radar", "grey", raster, (number,), (grey[name],), ramp="grey")
    angle = raster.number_of("incidence_deg")
    limits = _whole(raster, angle, 18, 48)
    yield Layer("Incidence angle", "layer", "scalar", raster, (angle,), limits, None, "viridis")


def _radar(found: Found, raster: Raster, run: str | None) -> Iterator[Layer]:
    """Give the false colour of a draft chart, and HH and HV as it stretches them."""
    title = "False colour: red HV, green mean, blue HH"
    yield Layer(title, "radar", "rgb", raster, (1, 2, 3), 3 * ((1, 255),))
    for name, number in (("HH", 3), ("HV", 1)):
        yield Layer(f"{name}, stretched", "radar", "grey", raster, (number,), ((1, 255),), ramp="grey")


#: Rasters of each kind of result, by name, and the function that gives their layers.
_RASTERS: Mapping[str, Mapping[str, Any]] = {
    "chart.json": {
        "radar.tif": _radar,
        "classes.tif": _classes,
        "probabilities.tif": _probabilities,
        "uncertainty.tif": _uncertainty,
        "polaris_*.tif": _polaris,
    },
    "publication.json": {},
    "route.json": {},
    "prediction.json": {
        "classes.tif": _classes,
        "probabilities.tif": _probabilities,
        "out_of_distribution.tif": _unlikeness,
        _OTHERS: _further,
    },
    "evaluation.json": {"errors.tif": _errors},
    "label.json": {"labels.tif": _labels},
    "layer.json": {"layer.tif": _layer},
    "truth.json": {"truth.tif": _truth},
    "product.json": {"product.tif": _product},
}
