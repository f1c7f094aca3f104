"""The report's diagrams of scores: confusion matrices, F1 by class."""

from __future__ import annotations

from pathlib import Path
from textwrap import fill
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle

from floemap.evaluation.statistics.spread import Spread
from floemap.legend import Legend
from floemap.report.figures.style import (
    INK,
    PALE_INK,
    Mark,
    Picture,
    diagram,
    legend_above,
    level_lines,
    marks_of,
    new_figure,
    small_multiples,
    styled,
)
from floemap.report.measures import Numbers
from floemap.report.run_folder import RunFolder


def draw_confusion(run: RunFolder, numbers: Numbers, folder: Path) -> Picture:
    """Draw each contender's confusion matrix: percentages of the chart's class, with numbers of pixels below."""
    legend, keys = run.legend, list(numbers.confusion)
    titles = {c.key: c.title for c in run.contenders}
    n, across = len(legend), 0.8 / min(3, len(keys))
    caption = (
        "Confusion matrices, all test scenes and repeats together: of each type in the chart (row) the percentage that "
        "the map calls by each type (column), and the number of pixels. The diagonal, framed, is right."
    )
    with styled():
        figure, axes, first = small_multiples(len(keys), 3, 0.62 * n + 0.35 + across, 0.5 * n + 0.75, 0.3)
        for ax, key in zip(axes, keys, strict=True):
            _matrix(ax, numbers.confusion[key], legend, first=ax in first)
            ax.set_title(titles[key])
        figure.supylabel("in the chart", fontsize=8)
        words = _confusion_words(run, numbers)
        title = "What is taken for what"
        return diagram(figure, folder, "confusion", title, caption, words, simulated=run.simulated)


def _matrix(ax: Axes, counts: Any, legend: Legend, *, first: bool) -> None:
    n = len(legend)
    rows = counts.sum(axis=1, keepdims=True)
    share = np.divide(counts, rows, out=np.zeros(counts.shape), where=rows > 0)
    ax.imshow(share, cmap=_ramp(), vmin=0, vmax=1, aspect="auto")
    for i in range(n):
        for j in range(n):
            ink = "white" if share[i, j] > 0.55 else INK
            if not counts[i, j]:
                continue
            percent = f"{100 * share[i, j]:.0f} %" if share[i, j] >= 0.005 else "<1 %"
            ax.text(j, i - 0.13, percent, ha="center", va="center", fontsize=7.5, color=ink)
            ax.text(j, i + 0.24, _short_number(int(counts[i, j])), ha="center", va="center", fontsize=5.5, color=ink)
        if not rows[i, 0]:
            ax.text((n - 1) / 2, i, "not in the charts", ha="center", va="center", fontsize=6.5, color=PALE_INK)
        ax.add_patch(Rectangle((i - 0.5, i - 0.5), 1, 1, fill=False, edgecolor=INK, linewidth=0.9))
    titles = [c.title.replace(" ice", "").replace("First-year", "First-\nyear").replace("Open water", "Water")
              for c in legend.classes]  # fmt: skip
    titles = [*map(_wrapped, titles)]
    ax.set_xticks(range(n), titles, fontsize=7)
    ax.set_yticks(range(n), titles if first else [""] * n, fontsize=7)
    ax.tick_params(length=0)
    ax.set_xlabel("on the map")
    for spine in ax.spines.values():
        spine.set_visible(False)


def _wrapped(title: str) -> str:
    """Return a title on lines of 14 characters if it has more than 20."""
    return title if len(title) <= 20 else fill(title, 14)


def _ramp() -> Any:
    from matplotlib.colors import LinearSegmentedColormap

    return LinearSegmentedColormap.from_list("floemap_blue", ["#f7f9fb", "#c9dae8", "#6f9fc4", "#1f5a8c", "#0d3358"])


def _short_number(n: int) -> str:
    for size, letter in ((10**9, "G"), (10**6, "M"), (10**3, "k")):
        if n >= size:
            return f"{n / size:.3g} {letter}"
    return str(n)


def _confusion_words(run: RunFolder, numbers: Numbers) -> str:
    words = []
    for contender in run.contenders:
        counts = numbers.confusion.get(contender.key)
        if counts is None:
            continue
        rows = counts.sum(axis=1)
        off = np.where(rows[:, None] > 0, counts / np.maximum(rows[:, None], 1), 0)
        np.fill_diagonal(off, 0)
        i, j = np.unravel_index(int(np.argmax(off)), off.shape)
        a, b = run.legend.classes[int(i)].title.lower(), run.legend.classes[int(j)].title.lower()
        words.append(f"{contender.title}: most confused, {a} called {b}, {100 * off[i, j]:.0f} %")
    return f"Confusion matrices. {'; '.join(words)}."


def draw_classes(run: RunFolder, numbers: Numbers, folder: Path) -> Picture:
    """Draw F1 of each class: a bar for each contender, its interval, and a mark for each repeat."""
    look = marks_of(c.key for c in run.contenders)
    contenders = [c for c in run.contenders if c.key in numbers.class_f1]
    classes = [c for c in run.legend.classes if any(f1[c.key].value is not None for f1 in numbers.class_f1.values())]
    width = 0.8 / len(contenders)
    with styled():
        figure = new_figure(max(6.5, 1.35 * len(classes)), 2.7)
        ax = figure.subplots()
        for j, contender in enumerate(contenders):
            f1, mark = numbers.class_f1[contender.key], look[contender.key]
            for i, c in enumerate(classes):
                x = i - 0.4 + (j + 0.5) * width
                if f1[c.key].value is None:
                    ax.text(x, 0.01, "–", ha="center", va="bottom", color=PALE_INK)
                else:
                    _bar(ax, x, width, f1[c.key], mark)
            ax.plot([], [], mark.marker, color=mark.colour, markersize=5, label=contender.title)
        ax.set_xticks(range(len(classes)), [_wrapped(c.title) for c in classes])
        ax.set_ylabel("F1")
        ax.set_ylim(0, 1.02)
        ax.tick_params(axis="x", length=0)
        level_lines(ax)
        legend_above(figure, *ax.get_legend_handles_labels())
    caption = (
        "F1 of each type, pixels of all test scenes together: bars are means over repeats, marks single repeats, lines "
        "90 % intervals. A dash: in neither chart nor map."
    )
    words = [
        f"{contender.title}: "
        + ", ".join(
            f"{c.title.lower()} {s.value:.2f}"
            for c in classes
            if (s := numbers.class_f1[contender.key][c.key]).value is not None
        )
        for contender in contenders
    ]
    with styled():
        alt = f"F1 by type. {'; '.join(words)}."
        title = "How well each type is found"
        return diagram(figure, folder, "classes", title, caption, alt, simulated=run.simulated)


def _bar(ax: Axes, x: float, width: float, s: Spread, mark: Mark) -> None:
    """Draw a value as a bar, its interval as a line, its repeats as marks side by side."""
    assert s.value is not None
    ax.bar(x, s.value, 0.88 * width, color=mark.colour, alpha=0.28, edgecolor=mark.colour, linewidth=0.8)
    if s.low is not None and s.high is not None:
        ax.plot([x, x], [s.low, s.high], color=INK, linewidth=1.1, solid_capstyle="butt")
    points = [p for p in s.points if p is not None]
    at = x + np.linspace(-0.12, 0.12, len(points)) * width if len(points) > 1 else [x]
    ax.plot(at, points, mark.marker, markersize=3.4, color=mark.colour, markeredgecolor="white", markeredgewidth=0.5,
            linestyle="none", zorder=3)  # fmt: skip
