"""The report's dot plots: numbers with their intervals and repeats, a line for each contender."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from matplotlib.axes import Axes

from floemap.evaluation.statistics.spread import Spread
from floemap.report.figures.style import INK, Mark, Picture, diagram, marks_of, small_multiples, styled
from floemap.report.measures import Numbers
from floemap.report.run_folder import RunFolder
from floemap.report.values import ValueScores

#: Scores of values that are drawn, with their titles and which numbers are better.
_OF_VALUES = {"r2": ("R²", "higher is better"), "rmse": ("RMSE", "lower is better"), "bias": ("Bias", "best at 0")}
_MARKS = "Large marks are means over repeats, small ones repeats, lines 90 % intervals."


def draw_shares(run: RunFolder, numbers: Numbers, folder: Path) -> Picture | None:
    """Draw the error of shares and the truth inside mixed polygons; None without them."""
    found = (numbers.row(key) for key in ("share_error", "truth_in_mixed"))
    rows = [r for r in found if r is not None and r.reason is None and r.spreads]
    if not rows:
        return None
    look, titles = marks_of(c.key for c in run.contenders), {c.key: c.title for c in run.contenders}
    keys = list(rows[0].spreads)
    with styled():
        figure, axes, _ = small_multiples(len(rows), 2, 3.9, 0.5 + 0.2 * len(keys), 0.4, sharey=True)
        for ax, row in zip(axes, rows, strict=True):
            _dots(ax, keys, row.spreads, look)
            if row.chart is not None:
                ax.axvline(row.chart, color=INK, linewidth=0.9, linestyle=(0, (3, 2)))
            ax.set_title(row.measure.title)
            ax.set_xlabel(row.measure.direction("chart"))
        _name_lines(axes, [titles[k] for k in keys])
        caption = (
            "Scores by polygon: how far the shares of types on the map are from the analyst's partial concentrations, "
            f"and where the truth is known, how much is right inside mixed polygons. {_MARKS} The dashed line is a "
            "map of the dominant types, which is the chart itself."
        )
        words = [
            f"{row.measure.title}: {', '.join(f'{titles[k]} {row.measure.text(row.spreads[k].value)}' for k in keys)}"
            for row in rows
        ]
        alt = f"Scores by polygon. {'; '.join(words)}."
        title = "Does the map follow the partial concentrations?"
        return diagram(figure, folder, "shares", title, caption, alt, simulated=run.simulated)


def draw_values(run: RunFolder, scores: ValueScores, folder: Path) -> Picture:
    """Draw R², RMSE and bias of a predicted value, against one reference."""
    look, titles = marks_of(c.key for c in run.contenders), {c.key: c.title for c in run.contenders}
    keys = [c.key for c in run.contenders if c.key in scores.spreads]
    unit = "" if scores.unit == "1" else f", {scores.unit}"
    with styled():
        figure, axes, _ = small_multiples(len(_OF_VALUES), 3, 2.9, 0.5 + 0.2 * len(keys), 0.4, sharey=True)
        for ax, (score, (title, better)) in zip(axes, _OF_VALUES.items(), strict=True):
            _dots(ax, keys, {k: scores.spreads[k][score] for k in keys}, look)
            if score == "bias":
                ax.axvline(0, color=INK, linewidth=0.9, linestyle=(0, (3, 2)))
            ax.set_title(title if score == "r2" else title + unit)
            ax.set_xlabel(better)
        _name_lines(axes, [titles[k] for k in keys])
        caption = (
            f"{scores.title}, as the head {scores.head} predicts it, against the {scores.reference}: R², root mean "
            f"squared error, and mean of prediction minus {scores.reference}, over the pixels of a scene, means over "
            f"scenes. {_MARKS}"
        )
        words = [f"{titles[k]} RMSE {_text(scores.spreads[k]['rmse'].value)}" for k in keys]
        alt = f"{scores.title} against the {scores.reference}. {', '.join(words)}."
        name, title = f"{scores.head}_{scores.reference}", f"{scores.title}, against the {scores.reference}"
        return diagram(figure, folder, name, title, caption, alt, simulated=run.simulated)


def _text(value: float | None) -> str:
    return "not defined" if value is None else f"{value:.3f}"


def _dots(ax: Axes, keys: Sequence[str], spreads: Mapping[str, Spread], look: Mapping[str, Mark]) -> None:
    """Draw the number of each contender as a mark on its line, with interval and repeats."""
    for i, key in enumerate(keys):
        s, mark = spreads[key], look[key]
        if s.value is None:
            continue
        if s.low is not None and s.high is not None:
            ax.plot([s.low, s.high], [i, i], color=mark.colour, linewidth=1.1)
        points = [p for p in s.points if p is not None]
        ax.plot(points, [i] * len(points), mark.marker, color=mark.colour, markersize=2.5, linestyle="none")
        ax.plot([s.value], [i], mark.marker, color=mark.colour, markersize=5.5)
    ax.grid(axis="x", linewidth=0.4)
    ax.set_axisbelow(True)


def _name_lines(axes: Sequence[Axes], titles: Sequence[str]) -> None:
    """Write the contenders' titles beside the lines of the first axes, the first contender on top."""
    axes[0].set_yticks(range(len(titles)), titles)
    axes[0].set_ylim(len(titles) - 0.5, -0.5)
