"""The report's diagrams of physical checks: reliability, and shares of types by incidence angle."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from floemap.report.figures.style import (
    INK,
    PALE_INK,
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
from floemap.report.run_folder import RunFolder, Scene

_CHART, _TRUTH = "Ice chart", "Truth"


def draw_reliability(run: RunFolder, numbers: Numbers, folder: Path) -> Picture | None:
    """Draw each contender's reliability diagram; None if no probabilities were stored."""
    found = {
        c.key: numbers.pooled[c.key]["checks"]["confidence"]["values"]
        for c in run.contenders
        if c.key in numbers.pooled and numbers.pooled[c.key]["checks"]["confidence"]["applies"]
    }
    if not found:
        return None
    look, titles = marks_of(c.key for c in run.contenders), {c.key: c.title for c in run.contenders}
    columns = min(4, len(found))
    lines = -(-len(found) // columns)
    with styled():
        figure = new_figure(2.5 * columns, 2.9 * lines + 0.2)
        grid = figure.add_gridspec(2 * lines, columns, height_ratios=[3.2, 1] * lines)
        for i, (key, values) in enumerate(found.items()):
            row, col = 2 * (i // columns), i % columns
            above = figure.add_subplot(grid[row, col])
            below = figure.add_subplot(grid[row + 1, col], sharex=above)
            points = values["reliability"]
            above.plot([0, 1], [0, 1], color=PALE_INK, linewidth=0.8, linestyle=(0, (3, 2)))
            above.plot(points["probability"], points["observed"], color=look[key].colour, marker=look[key].marker,
                       markersize=4, markeredgecolor="white", markeredgewidth=0.5, linewidth=1.1)  # fmt: skip
            above.set_xlim(0, 1)
            above.set_ylim(0, 1)
            above.set_title(titles[key], pad=14)
            above.text(0, 1.03, f"calibration error {values['ece']:.3f}", transform=above.transAxes, fontsize=7)
            above.tick_params(labelbottom=False)
            total = sum(points["pixels"])
            below.bar(points["probability"], [100 * n / total for n in points["pixels"]], width=0.05,
                      color=look[key].colour, alpha=0.45)  # fmt: skip
            below.set_xlabel("probability of the chosen type")
            if col == 0:
                above.set_ylabel("share that is right")
                below.set_ylabel("% of pixels")
            level_lines(above)
            level_lines(below)
    words = ", ".join(
        f"{titles[k]} calibration error {v['ece']:.3f}, mean probability {v['mean_confidence']:.2f}, right "
        f"{v['accuracy']:.2f}"
        for k, v in found.items()
    )
    caption = (
        f"How often a probability comes true, against the {numbers.reference}. Below the diagonal the model is surer "
        "than it should be, above it less sure. The bars show how many pixels have each probability."
    )
    with styled():
        alt = f"Reliability. {words}."
        title = "Is it as sure as it is right?"
        return diagram(figure, folder, "reliability", title, caption, alt, simulated=run.simulated)


def draw_incidence(run: RunFolder, numbers: Numbers, scene: Scene, folder: Path) -> Picture | None:
    """Draw each type's share by incidence angle, with the seams between sub-swaths.

    There are lines for the chart, for the truth if it is the reference, and for the maps.
    """
    found = {
        c.key: entry["values"]
        for c in run.contenders
        if scene.name in numbers.by_scene.get(c.key, {})
        and (entry := numbers.by_scene[c.key][scene.name]["checks"]["angle"])["applies"]
    }
    if not found:
        return None
    look, titles = marks_of(c.key for c in run.contenders), {c.key: c.title for c in run.contenders}
    drawn_shares = _references(numbers, scene, next(iter(found.values())))
    shown = [c for c in run.legend.classes if _ever(found, drawn_shares, c.key)]
    with styled():
        figure, axes, first = small_multiples(len(shown), 3, 3.1, 1.75, 0.55, sharex=True)
        for ax, c in zip(axes, shown, strict=True):
            for seam in scene.about.get("seams", ()):
                near, far = seam["incidence_deg"]
                middle, half = (near + far) / 2, max(0.25, (far - near) / 2)  # wide enough to be seen
                ax.axvspan(middle - half, middle + half, color="#9aa5b1", alpha=0.45, linewidth=0)
            for name, degrees, shares in drawn_shares:
                line = (0, (1, 0.6)) if name == _TRUTH else "-"
                ax.plot(degrees, _percents(shares[c.key]), color=INK, linewidth=2.4, linestyle=line, alpha=0.85,
                        label=name)  # fmt: skip
            for key, values in found.items():
                m = look[key]
                ax.plot(values["incidence_deg"], _percents(values["prediction_share"][c.key]), color=m.colour,
                        linewidth=1.2, linestyle=m.line, label=titles[key])  # fmt: skip
            ax.set_title(c.title)
            ax.set_ylim(bottom=0)
            level_lines(ax)
        for ax in first:
            ax.set_ylabel("% of the area")
        for ax in axes[-3:]:
            ax.set_xlabel("incidence angle, °")
            ax.tick_params(labelbottom=True)
        handles, names = axes[0].get_legend_handles_labels()
        legend_above(figure, handles, names)
    seams = "The grey bands are the seams between the radar's sub-swaths. " if scene.about.get("seams") else ""
    both = ", in the truth (thick, dotted)" if numbers.reference == "truth" else ""
    caption = (
        f"Each type's share of the area by incidence angle, in the chart (thick line){both} and on the maps. {seams}"
        f"Where a map's line leaves the {numbers.reference}'s with the angle, or jumps at a seam, the map shows the "
        "sensor and not the ice."
    )
    words = ", ".join(f"{titles[k]} {v['angle_dependence']:.3f}" for k, v in found.items())
    alt = f"Shares by incidence angle, {scene.title}. Share of the area that depends on the angle: {words}."
    with styled():
        name, title = f"incidence_{scene.name}", "Does the sensor show?"
        return diagram(figure, folder, name, title, caption, alt, simulated=run.simulated)


#: A name, degrees of incidence, and the shares at these degrees by the class's key.
Shares = tuple[str, list[float], Mapping[str, list[float]]]


def _references(numbers: Numbers, scene: Scene, values: Mapping[str, Any]) -> list[Shares]:
    """Return shares of the chart, and of the truth if it is the reference. `values` are those of a map."""
    reference = (_TRUTH if numbers.reference == "truth" else _CHART, values["incidence_deg"], values["reference_share"])
    entry = numbers.charts[scene.name]["checks"]["angle"] if scene.name in numbers.charts else None
    if numbers.reference == "chart" or entry is None or not entry["applies"]:
        return [reference]
    own = entry["values"]
    return [(_CHART, own["incidence_deg"], own["prediction_share"]), reference]


def _ever(found: Mapping[str, Any], references: list[Shares], key: str) -> bool:
    """Return whether a type has a share of at least 1 % anywhere, in a reference or on a map."""
    shares = [*(v["prediction_share"][key] for v in found.values()), *(shares[key] for _, _, shares in references)]
    return max(max(s, default=0.0) for s in shares) >= 0.01


def _percents(shares: list[float]) -> list[float]:
    return [100 * s if math.isfinite(s) else math.nan for s in shares]
