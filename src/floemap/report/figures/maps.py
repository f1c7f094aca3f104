"""The map figures of a test scene: radar, chart, each contender's map and its errors, and closer views."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from floemap.cog import read_geobox
from floemap.evaluation.checks.ice_edge import WINDOW_KM, generalise, window_px
from floemap.evaluation.scoring.sources import ClassTable, TruthBand, truth_band
from floemap.legend import IGNORE, RGB, Legend
from floemap.report.figures.map_panels import (
    class_legends,
    coloured_errors,
    edge_line,
    frame,
    grid_of_maps,
    in_words,
    legend_below,
    line_handle,
    percent_of,
    show_classes,
    show_map,
    swatch,
)
from floemap.report.figures.scene_views import (
    IS_THICKER,
    IS_THINNER,
    Bools,
    Classes,
    Part,
    SceneView,
    error_kinds,
    read_view,
    worst_disagreement,
)
from floemap.report.figures.style import (
    THICKER_RGB,
    THINNER_RGB,
    Panel,
    Picture,
    cut_out,
    save,
    say_simulated,
    styled,
)
from floemap.report.run_folder import Contender, RunFolder, Scene
from floemap.sentinel1.quicklook import limits_db, stretch

_PIXELS = 720
_SAR_QUALITY = 82
_EDGE_LEGEND: tuple[tuple[str, RGB], ...] = (
    ("Ice only on the map", THICKER_RGB),
    ("Water only on the map", THINNER_RGB),
)


def draw_maps(run: RunFolder, scene: Scene, folder: Path) -> list[Picture]:
    """Draw all map figures of a scene into `folder`: the overview, the largest disagreement, the ice edge.

    Raises
    ------
    FloemapError
        If a raster cannot be read or lies on another grid.
    """
    contenders = [c for c in run.contenders if c.best(scene.name) is not None]
    tested = {c.key: t for c in contenders if (t := c.best(scene.name)) is not None}
    best = {key: t.classes for key, t in tested.items()}
    within = next((t.within for t in tested.values()), None)
    truth = _truth(run, scene)
    view = read_view(scene.raster, scene.label_raster, best, _PIXELS, within=within, truth=truth)
    limits = (limits_db(view.hh_db, "HH"), limits_db(view.hv_db, "HV"))
    square = worst_disagreement(view, run.legend) if len(best) > 1 else None
    pictures = [_overview(run, scene, contenders, view, square, folder)]
    if square is not None:
        rows, cols = _full_shape(scene.raster)
        part = (int(square[0] * rows), int(square[1] * cols), int(square[2] * rows), int(square[3] * cols))
        part = _inside(part, rows, cols)
        near = read_view(scene.raster, scene.label_raster, best, _PIXELS, part=part, within=within, truth=truth)
        pictures.append(_closer(run, scene, contenders, near, limits, folder))
    if (edges := _edges(run, scene, contenders, view, folder)) is not None:
        pictures.append(edges)
    return pictures


def _truth(run: RunFolder, scene: Scene) -> tuple[Path, TruthBand] | None:
    """Return the truth's raster and its band of classes, if the checks compare maps with it."""
    path = run.truths.get(scene.name)
    return None if path is None else (path, truth_band(path, ClassTable.of(run.legend)))


def _full_shape(raster: Path) -> tuple[int, int]:
    rows, cols = read_geobox(raster).shape
    return int(rows), int(cols)


def _inside(part: Part, rows: int, cols: int) -> Part:
    row, col, height, width = part
    height, width = max(2, min(height, rows)), max(2, min(width, cols))
    return min(row, rows - height), min(col, cols - width), height, width


def _overview(
    run: RunFolder,
    scene: Scene,
    contenders: list[Contender],
    view: SceneView,
    square: tuple[float, float, float, float] | None,
    folder: Path,
) -> Picture:
    """Draw the overview: radar and chart at the left, then a column for each contender, its map above its errors.

    Where the truth is known it is beside the radar, above the errors of the chart.
    """
    across = min(4, len(contenders))
    blocks = -(-len(contenders) // across)
    left = 1 if view.truth is None else 2
    with styled():
        figure, axes = grid_of_maps(view, 2 * blocks, across + left, 2)
        shown: list[tuple[Axes, Panel, int | None]] = []

        def add(ax: Axes, title: str, alt: str, quality: int | None = None) -> None:
            shown.append((ax, Panel(title, alt, b""), quality))

        show_map(axes[0, 0], view, view.colours(), run.simulated, furniture=True)
        if square is not None:
            frame(axes[0, 0], view, square)
        add(axes[0, 0], "Radar", f"Sentinel-1 in false colour, {scene.title}", _SAR_QUALITY)
        show_classes(axes[1, 0], view, view.chart, run.legend, run.simulated, furniture=True)
        add(axes[1, 0], "Ice chart", f"Ice chart, {scene.title}: {in_words(view.chart, run.legend)}")
        if view.truth is not None:
            show_classes(axes[0, 1], view, view.truth, run.legend, run.simulated)
            add(axes[0, 1], "Truth", f"Truth, {scene.title}: {in_words(view.truth, run.legend)}")
            kinds = error_kinds(view.truth, view.chart, run.legend)
            show_map(axes[1, 1], view, coloured_errors(kinds), run.simulated)
            add(axes[1, 1], "Ice chart: errors", _wrong("the ice chart", kinds, "truth"))
        for i, contender in enumerate(contenders):
            row, col = 2 * (i // across), left + i % across
            top, bottom = axes[row, col], axes[row + 1, col]
            prediction = _where_charted(view.predictions[contender.key], view.chart)
            show_classes(top, view, prediction, run.legend, run.simulated)
            if square is not None:
                frame(top, view, square)
            add(top, contender.title, f"Map by {contender.title}: {in_words(prediction, run.legend)}")
            kinds = error_kinds(view.chart, view.predictions[contender.key], run.legend)
            show_map(bottom, view, coloured_errors(kinds), run.simulated)
            add(bottom, f"{contender.title}: errors", _wrong(contender.title, kinds, "chart"))
        class_legends(figure, run.legend, errors=True)
        name = f"map_{scene.name}"
        panels = _panels(figure, axes, shown, folder, name, simulated=run.simulated)
    truth = "" if view.truth is None else " Beside them the simulated truth, and where the chart is wrong against it."
    repeats = max(len(c.of(scene.name)) for c in contenders)
    which = " Of each loss the repeat with the highest weighted F1 in this scene is shown." if repeats > 1 else ""
    caption = (
        "Radar (red: HV, blue: HH, green: their mean), the ice chart, the map that each loss led to and where it is "
        f"wrong against the chart.{truth}{which} Only where the chart has a class is anything compared."
        + (" The frame is shown closer below." if square is not None else "")
    )
    return Picture(name, "The maps", caption, f"Maps of {scene.title}, described one by one.", panels=panels)


def _closer(
    run: RunFolder,
    scene: Scene,
    contenders: list[Contender],
    view: SceneView,
    limits: tuple[tuple[float, float], tuple[float, float]],
    folder: Path,
) -> Picture:
    """Draw a closer view of the frame: radar, chart, truth, each map."""
    given = [("Ice chart", view.chart)] + ([] if view.truth is None else [("Truth", view.truth)])
    panels_wanted = 1 + len(given) + len(contenders)
    across = min(5, panels_wanted)
    with styled():
        figure, axes = grid_of_maps(view, -(-panels_wanted // across), across, 1)
        places = list(axes.flat)
        shown: list[tuple[Axes, Panel, int | None]] = []
        show_map(places[0], view, view.colours(limits), run.simulated, furniture=True)
        shown.append((places[0], Panel("Radar", "Radar, closer", b""), _SAR_QUALITY))
        maps = given + [(c.title, _where_charted(view.predictions[c.key], view.chart)) for c in contenders]
        for ax, (title, classes) in zip(places[1:], maps, strict=False):
            show_classes(ax, view, classes, run.legend, run.simulated)
            words = f"{title}, closer: {in_words(classes, run.legend)}"
            shown.append((ax, Panel(title, words, b""), None))
        class_legends(figure, run.legend, errors=False)
        name = f"closer_{scene.name}"
        panels = _panels(figure, axes, shown, folder, name, simulated=run.simulated)
    side_km = view.geobox.shape[1] * view.pixel_m / 1000
    caption = (
        f"Where the maps differ most from each other: the frame of {side_km:.0f} km in which the thinnest and the "
        "thickest type that any of them shows lie farthest apart."
    )
    return Picture(name, "Where the losses disagree most", caption, "Described one by one.", panels=panels)


def _edges(run: RunFolder, scene: Scene, contenders: list[Contender], view: SceneView, folder: Path) -> Picture | None:
    """Draw the ice edges of the reference and each contender over the radar; None if the reference has no edge."""
    size = window_px(WINDOW_KM, view.pixel_m)
    what = "chart" if view.truth is None else "truth"
    if not _has_edge(view.reference, run.legend):
        return None
    across = min(4, len(contenders))
    with styled():
        figure, axes = grid_of_maps(view, -(-len(contenders) // across), across, 1)
        shown: list[tuple[Axes, Panel, int | None]] = []
        grey = 0.55 + 0.45 * stretch(view.hh_db, limits_db(view.hh_db, "HH"))
        background = np.repeat(np.nan_to_num(grey, nan=1.0)[..., None], 3, axis=-1)
        for ax, contender in zip(axes.flat, contenders, strict=False):
            here = (view.reference != IGNORE) & (view.predictions[contender.key] != IGNORE)
            ices = [
                generalise((c != run.legend.water) & here, here, size)
                for c in (view.predictions[contender.key], view.reference)
            ]
            image = background.copy()
            for where, rgb in ((ices[0] & ~ices[1], THICKER_RGB), (ices[1] & ~ices[0], THINNER_RGB)):
                image[where] = 0.35 * image[where] + 0.65 * np.array(rgb) / 255
            show_map(ax, view, image, run.simulated, furniture=ax is axes.flat[0])
            edge_line(ax, view, ices[1], here, colour="#101820", line="-", width=1.3)
            edge_line(ax, view, ices[0], here, colour="#ffffff", line=(0, (2, 1)), width=1.0)
            over, under = (_km2(view, m) for m in (ices[0] & ~ices[1], ices[1] & ~ices[0]))
            alt = f"Ice edge of {contender.title}: {over} km² ice where the {what} has water, {under} km² the reverse"
            shown.append((ax, Panel(contender.title, alt, b""), 90))
        handles = [
            line_handle(f"Ice edge of the {what}", "#101820", "-"),
            line_handle("Ice edge of the map", "#ffffff", (0, (2, 1)), outline=True),
            *(swatch(title, rgb) for title, rgb in _EDGE_LEGEND),
        ]
        legend_below(figure, handles, 4)
        name = f"edge_{scene.name}"
        panels = _panels(figure, axes, shown, folder, name, simulated=run.simulated)
    caption = (
        f"The ice edge of the {what} (solid, dark) and of each map (dashed, white), both generalised over "
        f"{WINDOW_KM:g} km as in the check; red where only the {what} has ice, blue where only the map has."
    )
    title = "The ice edge"
    return Picture(name, title, caption, "Described one by one.", panels=panels, legend=_EDGE_LEGEND)


def _wrong(what: str, kinds: Classes, reference: str) -> str:
    """Return the alternative text of an error map: how much of the map is wrong."""
    wrong, thinner = (
        percent_of(where, kinds != IGNORE) for where in (np.isin(kinds, (IS_THINNER, IS_THICKER)), kinds == IS_THINNER)
    )
    return f"Errors of {what}: {wrong} of the labelled area is wrong, {thinner} thinner than the {reference}"


def _has_edge(chart: Classes, legend: Legend) -> bool:
    known = chart[chart != IGNORE]
    return bool((known == legend.water).any() and (known != legend.water).any())


def _km2(view: SceneView, where: Bools) -> str:
    return f"{np.count_nonzero(where) * (view.pixel_m / 1000) ** 2:,.0f}".replace(",", " ")


def _where_charted(prediction: Classes, chart: Classes) -> Classes:
    return np.where(chart == IGNORE, np.uint8(IGNORE), prediction)


def _panels(
    figure: Figure, axes: Any, shown: list[tuple[Axes, Panel, int | None]], folder: Path, name: str, *, simulated: bool
) -> tuple[Panel, ...]:
    """Give the shown maps their titles, write the figure without the other axes, and cut out the maps."""
    for ax, panel, _ in shown:
        ax.set_title(panel.title)
    used = [ax for ax, *_ in shown]
    for ax in axes.flat:
        if ax not in used:
            ax.set_axis_off()
    say_simulated(figure, simulated)
    images = cut_out(save(figure, folder, name), used, [quality for *_, quality in shown])
    return tuple(Panel(p.title, p.alt, image) for (_, p, _), image in zip(shown, images, strict=True))
