"""The picture of how much of many drafts was changed: over time, by type, by month and by confidence."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from io import BytesIO
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from floemap.counts import counted
from floemap.legend import STAGE_RGB
from floemap.results.stage import write_whole

_TYPE, _EGG = "#0d3358", "#8b96a2"
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


def draw_monitor(facts: Mapping[str, Any], path: Path) -> None:
    """Draw the numbers of :class:`floemap.publishing.monitor.Monitoring` into the PNG `path`.

    Raises
    ------
    OutputError
        If it cannot be written.
    """
    figure = Figure(figsize=(11, 7), dpi=110, layout="constrained")
    FigureCanvasAgg(figure)
    over_time, by_type, by_month, by_confidence = figure.subplots(2, 2).ravel()
    _draw_time(over_time, facts["charts"])
    types = facts["by_type"][:10]
    _bars(by_type, [e["type"] for e in types], types, "By type of the draft")
    for tick, entry in zip(by_type.get_xticklabels(), types, strict=True):
        tick.set(rotation=30, ha="right", fontsize=7, parse_math=False)
        code = entry["type"][:2]
        if code.isdigit() and int(code) in STAGE_RGB:
            tick.set_bbox({"facecolor": [v / 255 for v in STAGE_RGB[int(code)]], "alpha": 0.35, "edgecolor": "none"})
    months = facts["by_month"]
    _bars(by_month, [_MONTHS[e["month"] - 1] for e in months], months, "By month of validity")
    sure = facts["by_confidence"]
    words = ["unknown" if e["from"] is None else f"{e['from']:g} to {e['to']:g}" for e in sure]
    _bars(by_confidence, words, sure, "By confidence of the draft")
    title = f"Changed area of {counted(facts['total']['charts'], 'draft')}"
    figure.suptitle(f"SIMULATED: {title}" if facts["simulated"] else title, fontweight="bold")
    file = BytesIO()
    figure.savefig(file, format="png")
    write_whole(path, file.getvalue())


def _draw_time(ax: Axes, charts: Sequence[Mapping[str, Any]]) -> None:
    times: Any = [datetime.fromisoformat(c["valid"]) for c in charts]
    for key, colour, label in (("other_type_share", _TYPE, "another type"), ("other_egg_share", _EGG, "another egg")):
        ax.plot(times, [100 * (c[key] or 0) for c in charts], "o-", color=colour, markersize=4, label=label)
    if times:  # around a single time, Matplotlib shows four years
        margin = max(timedelta(days=15), (max(times) - min(times)) / 20)
        ax.set_xlim(min(times) - margin, max(times) + margin)
    ax.set_title("Each chart, by time of validity", fontsize=10)
    ax.tick_params(axis="x", rotation=20, labelsize=7)
    _finish(ax)


def _bars(ax: Axes, names: Sequence[str], entries: Sequence[Mapping[str, Any]], title: str) -> None:
    for shift, key, colour in ((-0.2, "other_type_share", _TYPE), (0.2, "other_egg_share", _EGG)):
        ax.bar([i + shift for i in range(len(names))], [100 * (e[key] or 0) for e in entries], 0.38, color=colour)
    ax.set_xticks(range(len(names)), names)
    ax.set_title(title, fontsize=10)
    _finish(ax)


def _finish(ax: Axes) -> None:
    ax.set_ylabel("percent of the area")
    ax.set_ylim(bottom=0)
    ax.spines[["top", "right"]].set_visible(False)
    if ax.get_legend_handles_labels()[1]:
        ax.legend(frameon=False, fontsize=8)
