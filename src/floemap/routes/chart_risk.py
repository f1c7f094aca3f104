"""The risk of a chart's polygons for a ship: outcome, bounds, and what a draft's second class would make of it."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyproj
from numpy.typing import NDArray

from floemap.errors import MISSHAPEN, ChartError, ConfigError, FloemapError
from floemap.icechart.dominant_type import IceTypes, Rule
from floemap.icechart.polaris import STAGE_TYPES, TENTHS, IceType, class_ice_types, ship_class
from floemap.icechart.read.codes import NO_TYPE, NOT_GIVEN, tenths_in_words
from floemap.icechart.read.corrections import OwnRecord, chart_file_in, own_record
from floemap.icechart.read.sigrid3 import Chart, read_chart
from floemap.icechart.read.sources import datasets_of
from floemap.icechart.regimes import Regimes, regimes
from floemap.icechart.write.times import in_utc
from floemap.legend import LEGENDS, Legend, stage_in_words, stage_of
from floemap.own_legends import from_record
from floemap.publishing.drafts import column_of
from floemap.results.fields import at
from floemap.routes.reading import clean_name

logger = logging.getLogger(__name__)

Floats = NDArray[np.float64]

#: A second class with less probability is not an alternative.
LEAST_PROBABILITY = 0.05
#: What a polygon is for a ship, by the rule of its type. Ice is everything else.
_KINDS: Mapping[Rule, str] = {
    Rule.WATER: "water",
    Rule.BERGY_WATER: "bergy water",
    Rule.LAND: "land",
    Rule.ICE_SHELF: "ice shelf",
    Rule.NO_DATA: "no data",
}
#: Kinds that a ship cannot pass.
OBSTACLES = ("land", "ice shelf")


@dataclass(frozen=True)
class ChartRisk:
    """A chart's polygons as a ship of an ice class meets them; arrays are (n,), not-a-number where unknown.

    Attributes
    ----------
    chart
        The chart.
    regimes
        Outcomes and their bounds.
    kind
        What each polygon is: ice, water, bergy water, land, ice shelf, no data.
    alternative
        Outcome with the draft's second class in place of the dominant type.
    alternative_name, alternative_probability
        Key of that class ("" where there is none), and its mean probability by the model.
    confidence
        The draft's mean probability of the classes that it gives.
    by_model
        Whether a polygon is a model's that nobody has corrected, (n,) bool.
    own
        Record of the draft or publication that lists the chart; None if there is none.
    legend
        Legend of the draft's model; None if it is unknown.
    """

    chart: Chart
    regimes: Regimes
    kind: NDArray[Any]
    alternative: Floats
    alternative_name: NDArray[Any]
    alternative_probability: Floats
    confidence: Floats
    by_model: NDArray[np.bool_]
    own: OwnRecord | None
    legend: Legend | None

    @property
    def crs(self) -> pyproj.CRS:
        """The chart's CRS, in metres."""
        return self.chart.crs

    @property
    def record(self) -> Mapping[str, Any]:
        """Content of the record that lists the chart; empty if there is none."""
        return {} if self.own is None else self.own.record

    @property
    def folder(self) -> Path:
        """Folder of the draft or publication, or of the file."""
        return self.chart.path.absolute().parent if self.own is None else self.own.folder

    @property
    def simulated(self) -> bool:
        """Whether the chart or its record is marked as simulated."""
        return self.chart.simulated or self.record.get("simulated") in (True, "yes")

    @property
    def status(self) -> str:
        """What the record that lists the chart says of its status, or that there is none."""
        if self.own is None:
            return "of unknown status"
        if not self.own.as_made:
            return "a correction, not published, not for navigation"
        return clean_name(at(self.record, "status", "")) or "of unknown status"

    @property
    def valid(self) -> str | None:
        """Time of the chart by its record, of validity or of the start of the acquisition: 2018-01-16 07:54 UTC."""
        try:
            when = datetime.fromisoformat(at(self.record, "valid", at(self.record, "scene.start", "")))
        except MISSHAPEN:
            return None
        return f"{in_utc(when):%Y-%m-%d %H:%M} UTC"

    @property
    def name(self) -> str:
        """Name of the chart: of the folder of a draft or a publication, or of the file."""
        return clean_name(self.chart.path.name if self.own is None else self.own.folder.name)


def chart_risk(path: str | Path, ship: str, *, layer: str | None = None, crs: str | None = None) -> ChartRisk:
    """Read a chart and give its polygons' risk for a ship.

    Parameters
    ----------
    path
        A folder of ``floemap chart`` or ``floemap publish``, or any file that
        :func:`floemap.icechart.read.sigrid3.read_chart` reads.
    ship
        An ice class; see :func:`floemap.icechart.polaris.ship_class`.

    Raises
    ------
    ConfigError
        If no ice class is called so.
    ChartError
        If the chart cannot be read.
    """
    ship = ship_class(ship).key
    path = Path(path)
    file = chart_file_in(path) if path.is_dir() and not datasets_of(path) else path
    chart = read_chart(file, layer=layer, crs=crs)
    found = regimes(chart, ship)
    own = own_record(chart.files)
    legend = None if own is None else _legend(own.record)
    n = len(chart)
    names, probability, confidence = np.full(n, "", object), np.full(n, np.nan), np.full(n, np.nan)
    by_model = _by_model(chart, own)
    fields = {f.strip().lower() for f in chart.fields}
    if {"second", "second_p"} <= fields:
        names = np.array([str(v).strip() if v is not None else "" for v in column_of(chart, "second")], object)
        probability = np.where(by_model, _numbers(column_of(chart, "second_p")), np.nan)
    if "confidence" in fields:
        confidence = np.where(by_model, _numbers(column_of(chart, "confidence")), np.nan)
    if not np.isfinite(found.outcome).any():
        message = "has no polygon of ice or water whose codes give a risk."
        raise ChartError(message, path=chart.path, hint="Give an ice chart with the codes of SIGRID-3: CT, CA, SA.")
    alternative = _alternative(found, names, probability, legend)
    return ChartRisk(
        chart=chart,
        regimes=found,
        kind=np.array([_KINDS.get(rule, "ice") for rule in found.types.rule], object),
        alternative=alternative,
        alternative_name=np.where(np.isnan(alternative), "", names),
        alternative_probability=np.where(np.isnan(alternative), np.nan, probability),
        confidence=confidence,
        by_model=by_model,
        own=own,
        legend=legend,
    )


def _by_model(chart: Chart, own: OwnRecord | None) -> NDArray[np.bool_]:
    """Return which polygons are a model's that nobody has corrected, (n,): only of these its doubts say something."""
    if own is not None and own.as_made and not own.published:
        return np.ones(len(chart), np.bool_)
    return np.array([str(v).strip().lower() == "yes" for v in column_of(chart, "estimated")], np.bool_)


def _numbers(values: list[Any]) -> Floats:
    plain = [v if isinstance(v, int | float | np.number) and not isinstance(v, bool) else np.nan for v in values]
    numbers = np.array(plain, np.float64)
    return np.where((numbers >= 0) & (numbers <= 1), numbers, np.nan)


def _legend(record: Mapping[str, Any]) -> Legend | None:
    if "legend" not in record:
        return None
    try:
        return from_record(record["legend"])
    except (FloemapError, *MISSHAPEN):
        return None


def _alternative(found: Regimes, names: NDArray[Any], probability: Floats, legend: Legend | None) -> Floats:
    """Return the outcome with the second class in place of the dominant type, not-a-number where there is none."""
    values = ship_class(found.ship).values
    of_class = _types_of_classes((*LEGENDS.values(), *(() if legend is None else (legend,))))
    types, outcome = found.types, np.full(len(names), np.nan)
    water = np.full(len(names), False)
    water[types.rule == Rule.WATER] = True
    dominant = (types.stages == types.stage[:, None]) & (types.shares > 0)
    share = np.where(water, types.water, np.where(dominant, types.shares, 0).sum(axis=1))
    # Of one type of unknown total the outcome has ten tenths.
    alone = found.unknown_total & (types.stage != NOT_GIVEN) & (share <= 0)
    share = np.where(alone, 1.0, share)
    for i in np.flatnonzero((probability >= LEAST_PROBABILITY) & (share > 0) & ~np.isnan(found.outcome)):
        if (second := of_class.get(names[i])) is not None:
            now = IceType.ICE_FREE if water[i] else _worst(int(types.stage[i]), values)
            outcome[i] = found.outcome[i] + TENTHS * share[i] * (values[second] - values[now])
    return outcome.round(9)


def _types_of_classes(legends: Sequence[Legend]) -> dict[str, IceType]:
    """Return the ice type that each class counts as, by key; of equal keys that of the last legend."""
    found: dict[str, IceType] = {}
    for table in legends:
        with suppress(ConfigError):  # a class of a user's legend may hold no ice type of POLARIS
            found |= {c.key: kind for c, kind in zip(table.classes, class_ice_types(table), strict=True)}
    return found


def _worst(stage: int, values: tuple[int, ...]) -> IceType:
    return min(STAGE_TYPES.get(stage_of(stage), tuple(IceType)[IceType.NEW :]), key=lambda kind: values[kind])


def egg_in_words(chart: Chart, types: IceTypes, row: int) -> str:
    """Return what a polygon holds, in words, such as "9 tenths: 5 old ice, 4 first-year ice"."""
    rule = types.rule[row]
    if rule in _KINDS:
        return _KINDS[rule] if rule != Rule.WATER or chart.codes("ct")[row] != 1 else "open water"
    total = types.concentration[row]
    shares = [(s, int(stage)) for s, stage in zip(10 * types.shares[row], types.stages[row], strict=True) if s > 0]
    named = [int(stage) for stage in types.stages[row] if stage not in NO_TYPE]
    head = "ice of unknown concentration" if np.isnan(total) else tenths_in_words(10 * total)
    if shares:
        listed = [f"{s:.2g} {stage_in_words(stage)}" for s, stage in shares]
        rest = TENTHS * (1 - types.water[row] - types.shares[row].sum())
        if rest > 0.05:  # ice that has no share of its own, which the outcome counts, too
            of_none = zip(types.shares[row], types.stages[row], strict=True)
            others = [stage_in_words(int(t)) for s, t in of_none if s <= 0 and t not in NO_TYPE]
            listed.append(f"{rest:.2g} {' or '.join(others) or 'ice of unknown type'}")
        words = ", ".join(listed)
    else:
        words = " and ".join(stage_in_words(stage) for stage in named if stage != NOT_GIVEN) or "of unknown type"
    trace = int(chart.codes("cn")[row])  # less than a tenth, and thicker than the rest: the low end counts it
    return f"{head}: {words}" + ("" if trace in NO_TYPE else f", a trace of {stage_in_words(trace)}")
