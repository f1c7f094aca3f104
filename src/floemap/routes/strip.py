"""The picture of a route: the outcome along the distance, its spread, levels, legs, and the ice beneath."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from io import BytesIO
from itertools import groupby
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from numpy.typing import NDArray

from floemap.icechart.polaris import TENTHS, ship_class
from floemap.legend import LAND_RGB, OPEN_WATER_RGB, RGB, STAGE_RGB, stage_in_words, stage_of
from floemap.results.stage import write_whole
from floemap.routes.assessment import LegRisk, Piece
from floemap.routes.tables import NOT_FOR_NAVIGATION, total_in_words

T = TypeVar("T")

#: Colours of the levels' backgrounds, from light to dark, so that they differ in grey too.
_LEVEL_COLOURS = {"normal": "#e8f3ea", "elevated": "#ffe3a3", "special": "#f4b1a3"}
_LEVEL_TITLES = {"normal": "normal", "elevated": "elevated risk", "special": "special consideration"}
_INK, _SPREAD, _DOUBT, _WARNING = "#10243a", "#5b7fa6", "#7b8794", "#8a3b00"
_NO_CHART_RGB: RGB = (255, 255, 255)
_SHELF_RGB: RGB = (200, 220, 235)
#: Shortest piece that gets a text, share of the width.
_TEXT_SHARE = 0.05
#: Most legs that get lines, and that get names.
_MOST_LEGS, _MOST_NAMES = 80, 24
_HATCHES = {"no chart": "///", "no data": "///", "bergy water": "..."}
_BOX = {"facecolor": "white", "alpha": 0.7, "edgecolor": "none", "pad": 1}


def draw_strip(path: Path, legs: Sequence[LegRisk], about: Mapping[str, Any]) -> None:
    """Draw the picture of a route into the PNG `path`.

    Raises
    ------
    OutputError
        If it cannot be written.
    """
    figure = Figure(figsize=(13, 7), dpi=110, layout="constrained")
    FigureCanvasAgg(figure)
    above, beneath = figure.subplots(2, 1, sharex=True, height_ratios=[5, 1])
    pieces = [p for leg in legs for p in leg.pieces]
    _levels(above, about["ice_class"], pieces)
    _outcomes(above, pieces)
    _legs(above, legs)
    _ice(beneath, pieces)
    total = pieces[-1].to_nm
    beneath.set_xlim(0, total)
    beneath.set_xlabel("nautical miles from the start")
    mark = "SIMULATED. " if about["simulated"] else ""
    route, ship = about["route"], ship_class(about["ice_class"]).title
    title = f"{mark}POLARIS along the route {route} for {ship}: {NOT_FOR_NAVIGATION}"
    figure.suptitle(title, fontweight="bold", color=_WARNING if mark else _INK, parse_math=False)
    words = [
        f"Chart {about['chart']}, {about['chart_status']}, time {about['chart_time'] or 'unknown'}.",
        *total_in_words(about),
        *(f"Warning: {w}" for w in about["warnings"][:3]),
    ]
    figure.supxlabel("\n".join(_cut(w) for w in words), fontsize=8, x=0.01, ha="left", parse_math=False)
    file = BytesIO()
    figure.savefig(file, format="png", metadata={"Title": title, "Description": " ".join(words)})
    write_whole(path, file.getvalue())


def _cut(words: str) -> str:
    return words if len(words) <= 210 else f"{words[:207]}..."


def _levels(ax: Axes, ship: str, pieces: Sequence[Piece]) -> None:
    """Draw the levels of operation as bands, with their names at the right edge."""
    ends = [v for p in pieces for v in (p.spread_low, p.spread_high) if v is not None]
    low, high = min([*ends, -15]) - 9, 34
    limits = {"normal": (0, high), "special": (low, -TENTHS if ship_class(ship).polar else 0)}
    if ship_class(ship).polar:
        limits["elevated"] = (-TENTHS, 0)
    for name, (bottom, top) in limits.items():
        ax.axhspan(bottom, top, color=_LEVEL_COLOURS[name], zorder=0)
        ax.axhline(bottom, color="0.6", linewidth=0.6, zorder=1)
        at = (max(bottom, low) + min(top, high)) / 2
        ax.text(1.005, at, _LEVEL_TITLES[name], transform=ax.get_yaxis_transform(), fontsize=8, va="center")
    ax.set_ylim(low, high)
    ax.set_ylabel("risk index outcome (RIO)")


def _outcomes(ax: Axes, pieces: Sequence[Piece]) -> None:
    """Draw outcome and spread of each piece as steps; what has no outcome is hatched over the whole height."""
    for begin, end, kind in _runs(pieces, lambda p: p.kind if p.rio is None else ""):
        if kind:
            colour = "#7a5c3a" if kind in ("land", "ice shelf") else "0.55"
            ax.axvspan(begin, end, facecolor="white", edgecolor=colour, hatch="///", linewidth=0, zorder=2)
    distance = np.array([(p.from_nm, p.to_nm) for p in pieces]).ravel()
    rios = [p.rio for p in pieces]

    def steps(name: str) -> NDArray[np.float64]:
        return np.repeat(np.array([getattr(p, name) for p in pieces], np.float64), 2)  # None becomes not-a-number

    ax.fill_between(distance, steps("spread_low"), steps("spread_high"), color=_DOUBT, alpha=0.3, lw=0, zorder=3)
    ax.fill_between(distance, steps("rio_lowest"), steps("rio_highest"), color=_SPREAD, alpha=0.6, lw=0, zorder=4)
    ax.plot(distance, steps("rio"), color=_INK, linewidth=2.2, solid_capstyle="butt", zorder=5)
    doubted = any((p.spread_low, p.spread_high) != (p.rio_lowest, p.rio_highest) for p in pieces)
    signs: list[tuple[str, Artist, bool]] = [
        ("outcome by the chart's shares", ax.plot([], [], color=_INK, linewidth=2.2)[0], True),
        ("bounds by its codes", Patch(facecolor=_SPREAD, alpha=0.6), True),
        ("with the model's doubts", Patch(facecolor=_DOUBT, alpha=0.3), doubted),
        ("no chart, no data, land", Patch(facecolor="white", edgecolor="0.55", hatch="///"), None in rios),
    ]
    labels, handles = zip(*((label, handle) for label, handle, is_there in signs if is_there), strict=True)
    ax.legend(handles, labels, loc="lower left", fontsize=8, ncols=4, framealpha=0.9)


def _legs(ax: Axes, legs: Sequence[LegRisk]) -> None:
    """Draw the waypoints as lines and the legs' names above."""
    total = legs[-1].pieces[-1].to_nm
    if len(legs) > _MOST_LEGS:  # lines would cover all else
        ax.text(0.5, 1.01, f"{len(legs)} legs", transform=ax.transAxes, fontsize=8, ha="center", va="bottom")
        return
    named = sorted(legs, key=lambda leg: -leg.line.length_m)[:_MOST_NAMES]
    ends = [leg.pieces[-1].to_nm for leg in legs]
    look: dict[str, Any] = {"colors": "0.35", "linewidth": 0.8, "linestyles": [(0, (4, 3))], "zorder": 4}
    ax.vlines(ends, 0, 1, transform=ax.get_xaxis_transform(), **look)
    look = {"fontsize": 8, "ha": "center", "va": "bottom", "parse_math": False}
    for leg in named:
        begin, end = leg.pieces[0].from_nm, leg.pieces[-1].to_nm
        share = (end - begin) / total
        words = leg.leg.name if leg.leg.name == f"leg {leg.number}" else f"{leg.number} {leg.leg.name}"
        words = f"{leg.number}" if share < _TEXT_SHARE else words
        room = max(int(share * 150), 2)
        words = words if len(words) <= room else f"{words[: room - 1]}…"
        ax.text((begin + end) / 2, 1.01, words, transform=ax.get_xaxis_transform(), **look)


def _ice(ax: Axes, pieces: Sequence[Piece]) -> None:
    """Draw the dominant type of each piece in WMO's colours, with a text where there is room."""
    total = pieces[-1].to_nm
    shown: dict[str, RGB] = {}
    for begin, end, (name, rgb) in _runs(pieces, _type_of):
        shown[name] = rgb
        look: dict[str, Any] = {"facecolor": _colour(rgb), "edgecolor": "0.35", "hatch": _HATCHES.get(name)}
        ax.axvspan(begin, end, linewidth=0.4, **look)
        if (end - begin) / total >= _TEXT_SHARE:
            room = max(int((end - begin) / total * 180), 3)
            look = {"fontsize": 7, "ha": "center", "va": "center", "bbox": _BOX}
            ax.text((begin + end) / 2, 0.5, name if len(name) <= room else f"{name[: room - 1]}…", **look)
    ax.set_yticks([])
    ax.set_ylabel("ice", fontsize=8)
    patches = [Patch(facecolor=_colour(rgb), edgecolor="0.35", hatch=_HATCHES.get(name)) for name, rgb in shown.items()]
    ax.legend(patches, list(shown), loc="upper left", bbox_to_anchor=(1.0, 1.25), fontsize=7, frameon=False)


def _runs(pieces: Sequence[Piece], key: Callable[[Piece], T]) -> Iterator[tuple[float, float, T]]:
    """Give from, to and key of the runs of pieces with the same key."""
    for value, run in groupby(pieces, key):
        members = list(run)
        yield members[0].from_nm, members[-1].to_nm, value


def _colour(rgb: RGB) -> tuple[float, float, float]:
    return rgb[0] / 255, rgb[1] / 255, rgb[2] / 255


def _type_of(piece: Piece) -> tuple[str, RGB]:
    """Return name and colour of what a piece lies in."""
    if piece.kind in ("water", "bergy water"):
        return piece.kind, OPEN_WATER_RGB
    if piece.kind == "ice":
        stage = 99 if piece.stage is None else stage_of(piece.stage)
        return stage_in_words(stage) if piece.stage is not None else "unknown ice", STAGE_RGB.get(stage, STAGE_RGB[99])
    return piece.kind, {"land": LAND_RGB, "ice shelf": _SHELF_RGB}.get(piece.kind, _NO_CHART_RGB)
