"""The risk along a given route for a ship's ice class: a folder with tables, lines, a picture and a summary."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pyproj
import shapely

from floemap.errors import ConfigError, RouteError, known_names
from floemap.grid import box_in_words, extent_of
from floemap.icechart.polaris import ADVISORY, ship_class
from floemap.progress import Progress, silent
from floemap.results.fields import at
from floemap.results.folders import made_of, refuse_replacing, stage_folder, told_sources
from floemap.results.names import place_in
from floemap.results.stage import Stage, is_finished, provenance, read_json, sha256, write_json, write_whole
from floemap.routes.assessment import LegRisk, assess_legs, numbers_of, worst_leg
from floemap.routes.chart_risk import ChartRisk, chart_risk
from floemap.routes.lines import DEFAULT_LINE, line_of
from floemap.routes.notices import warnings_of
from floemap.routes.probabilities import FILE as PROBABILITIES
from floemap.routes.probabilities import Probabilities
from floemap.routes.reading import LineKind, Route, clean_name, read_route
from floemap.routes.strip import draw_strip
from floemap.routes.tables import NOT_FOR_NAVIGATION, legs_table, pieces_table, route_geojson, summary_text

logger = logging.getLogger(__name__)

FILES = ("legs.csv", "pieces.csv", "route.geojson", "route.png", "route.txt")
#: Raise the revision when the numbers of the same route, chart and ice class change.
STAGE = Stage("floemap route", "route.json", revision=3, files=FILES)


@dataclass(frozen=True)
class RouteRisk:
    """The risk along a route.

    Attributes
    ----------
    folder
        Folder with the files.
    facts
        All numbers, JSON-ready, as in route.json: `legs`, `total`, `worst_leg`, `warnings`, and about route, chart and
        ice class.
    skipped
        Whether it was finished before.
    """

    folder: Path
    facts: dict[str, Any]
    skipped: bool = False


def assess_route(
    chart: str | Path,
    route: str | Path,
    ice_class: str,
    out: str | Path,
    *,
    lines: LineKind = DEFAULT_LINE,
    layer: str | None = None,
    crs: str | None = None,
    overwrite: bool = False,
    progress: Progress = silent,
) -> RouteRisk:
    """Assess the risk along a route by POLARIS (IMO MSC.1/Circ.1519): advisory, not for navigation.

    Parameters
    ----------
    chart
        A folder of ``floemap chart`` or ``floemap publish``, or a chart's file; see :func:`floemap.read_chart`.
    route
        A route as GeoJSON (LineString, MultiLineString), RTZ (IEC 61174) or GPX, in longitude and latitude.
    ice_class
        Ice class of the ship: PC1 to PC7, IA_super, IA, IB, IC, none.
    out
        Folder that gets a folder with the name of the route and the ice class.
    lines
        Lines of legs whose file does not give them: "rhumb", of constant course, or "great-circle", the shortest.
    layer, crs
        Layer and CRS of the chart's file, as for :func:`floemap.read_chart`.
    overwrite
        Make it again even where it is finished, and replace that of another route of the same name.
    progress
        Progress callback, called as progress(done, total, message).

    Raises
    ------
    RouteError
        If the route cannot be read, or lies outside of the chart.
    ChartError
        If the chart cannot be read, or says nothing of ice or water.
    ConfigError
        If there is no such ice class or kind of line.
    OutputError
        If the result cannot be written.
    """
    ship = ship_class(ice_class).key
    if lines not in get_args(LineKind):
        raise ConfigError(f"there is no kind of line {lines!r}.", hint=known_names(lines, get_args(LineKind)))
    progress(0, 4, "reading")
    planned = read_route(route)
    risk = chart_risk(chart, ship, layer=layer, crs=crs)
    folder = place_in(Path(out), f"{planned.path.stem}_{ship}", "the route", path=planned.path, kind=RouteError)
    files = {p.name: sha256(p) for p in risk.chart.files}
    probabilities = risk.folder / PROBABILITIES
    if risk.legend is not None and probabilities.is_file():
        files[PROBABILITIES] = sha256(probabilities)
    inputs = {"chart": files, "route": sha256(planned.path)}
    configuration = {"ice_class": ship, "lines": lines, "layer": layer, "crs": crs}
    if not overwrite and is_finished(folder, STAGE, FILES, inputs=inputs, configuration=configuration):
        done = RouteRisk(folder, read_json(folder / STAGE.record), skipped=True)
        _warn(done.facts)
        return done
    sources = {"chart": risk.chart.path, "route": planned.path}
    refuse_replacing(folder, STAGE, sources=sources, inputs=inputs, replace_others=overwrite)  # before the work
    progress(1, 4, "crossing polygons")
    with Probabilities(risk.folder, risk.legend, ship) as sampled:
        legs = assess_legs([(leg, line_of(leg, lines)) for leg in planned.legs], risk, sampled)
        about = _about(planned, risk, legs, lines, with_probabilities=bool(sampled))
    if all(p.kind == "no chart" for leg in legs for p in leg.pieces):
        raise _outside(planned, risk)
    _warn(about)
    with stage_folder(folder, STAGE, sources=sources, inputs=inputs, replace_others=overwrite) as partial:
        record = provenance(STAGE, inputs=inputs, configuration=configuration) | about
        progress(2, 4, "writing tables")
        _write(partial, "legs.csv", legs_table(legs, about))
        _write(partial, "pieces.csv", pieces_table(legs, about))
        _write(partial, "route.geojson", json.dumps(route_geojson(legs, about), allow_nan=False))
        _write(partial, "route.txt", summary_text(legs, about))
        progress(3, 4, "drawing")
        draw_strip(partial / "route.png", legs, about)
        record |= {"sources": told_sources(folder, sources), "bytes": made_of(partial)}
        write_json(partial / STAGE.record, record)
    progress(4, 4, "done")
    return RouteRisk(folder, record)


def _warn(about: Mapping[str, Any]) -> None:
    for words in at(about, "warnings", []):
        logger.warning("%s", words)


def _write(folder: Path, name: str, text: str) -> None:
    write_whole(folder / name, text.encode())


def _about(
    route: Route, risk: ChartRisk, legs: Sequence[LegRisk], lines: LineKind, *, with_probabilities: bool
) -> dict[str, Any]:
    worst = worst_leg(legs)
    return {
        "route": route.name,
        "route_file": clean_name(route.path.name),
        "ice_class": risk.regimes.ship,
        "ice_class_title": ship_class(risk.regimes.ship).title,
        "lines": lines,
        "chart": risk.name,
        "chart_file": clean_name(risk.chart.path.name),
        "chart_status": risk.status,
        "chart_time": risk.valid,
        "simulated": risk.simulated,
        "status": NOT_FOR_NAVIGATION,
        "advisory": ADVISORY,
        "spread_from": _spread_from(risk, with_probabilities),
        "warnings": warnings_of(legs, risk),
        "total": numbers_of([p for leg in legs for p in leg.pieces]),
        "worst_leg": None if worst is None else worst.facts(),
        "legs": [leg.facts() for leg in legs],
    }


def _spread_from(risk: ChartRisk, with_probabilities: bool) -> list[str]:
    """Return what the spread of outcomes comes from, in words."""
    words = [
        "bounds by the chart's codes: half a tenth of rounding, both ends of ranges, every ice type that a stage of"
        " development may be, unknown ice from new to heavy multi-year ice"
    ]
    if np.isfinite(risk.alternative).any():
        words.append("the draft's second class, from a probability of 5 % on, in place of the dominant type")
    if with_probabilities:
        words.append(
            "5 % and 95 % quantiles by the draft's probabilities of each pixel, as if all errors along a piece went to"
            " the same side, and their mean, as if the errors cancelled out; the mean may lie outside of the quantiles,"
            " where a class has less than 5 %"
        )
    return words


def _outside(route: Route, risk: ChartRisk) -> RouteError:
    """Return the error for a route of which no part is in the chart; it names both extents."""
    lon, lat = np.array([p for leg in route.legs for p in (leg.start, leg.end)]).T
    to_earth = pyproj.Transformer.from_crs(risk.crs, "EPSG:4326", always_xy=True)
    x, y = shapely.get_coordinates(risk.chart.geometries).T
    where = np.column_stack(to_earth.transform(x, y))
    where = where[np.isfinite(where).all(axis=1)]
    return RouteError(
        f"lies outside of the chart {risk.chart.path.name}: the route spans {box_in_words(*extent_of(lon, lat))},"
        f" the chart {box_in_words(*extent_of(*where.T))}.",
        path=route.path,
        hint="Check that longitude comes before latitude, and that it is the right chart.",
    )
