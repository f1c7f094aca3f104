"""The parts of the report's maps: place in a figure, furniture, class colours and letters, legends."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch, Rectangle
from matplotlib.patheffects import withStroke
from numpy.typing import NDArray

from floemap.cartography import furnish, graticule, show_raster
from floemap.legend import IGNORE, LAND_RGB, RGB, Legend
from floemap.report.figures.scene_views import Classes, SceneView, label_places
from floemap.report.figures.style import INK, RIGHT_RGB, SIMULATED_INK, THICKER_RGB, THINNER_RGB, new_figure

#: Sizes in inches: between maps, above each for its title, of a line of the legend, and below the legend.
_GAP, _TITLE, _LEGEND_LINE, _FOOT = 0.08, 0.27, 0.19, 0.28
NO_CLASS = "Land, or no label"
ERRORS: tuple[tuple[str, RGB], ...] = (
    ("Right", RIGHT_RGB),
    ("Thinner than the chart (the dangerous way)", THINNER_RGB),
    ("Thicker than the chart", THICKER_RGB),
)


def grid_of_maps(view: SceneView, rows: int, cols: int, legend_lines: int) -> tuple[Figure, Any]:
    """Return a figure with a grid of maps of one size, and room below for a legend of `legend_lines` lines.

    Positions are computed here because a layout engine leaves gaps between maps, and takes longer than the drawing.
    """
    width = min(3.2, 13.2 / cols)
    height = width * view.geobox.shape[0] / view.geobox.shape[1]
    across, down, foot = width + _GAP, height + _TITLE, legend_lines * _LEGEND_LINE + _FOOT
    total = (cols * across + _GAP, rows * down + foot)
    figure = new_figure(*total, layout=None)
    axes = np.empty((rows, cols), object)
    for row in range(rows):
        for col in range(cols):
            bottom = foot + (rows - 1 - row) * down
            place = (_GAP + col * across) / total[0], bottom / total[1], width / total[0], height / total[1]
            axes[row, col] = figure.add_axes(place)
    return figure, axes


def show_map(ax: Axes, view: SceneView, image: NDArray[Any], simulated: bool, *, furniture: bool = False) -> None:
    """Draw an image over the view's extent with a graticule, and with scale bar and north arrow if `furniture`."""
    show_raster(ax, image, view.geobox, interpolation="nearest")
    for spine in ax.spines.values():
        spine.set_visible(True)
        spine.set_linewidth(0.4)
    if furniture:
        furnish(ax, view.geobox, colour="0.1")
    else:
        graticule(ax, view.geobox, colour="0.1")
    if simulated:
        _note(ax, 0.015, 0.985, "SIMULATED", ha="left", va="top", fontsize=6, color=SIMULATED_INK, weight="bold")


def _note(ax: Axes, x: float, y: float, text: str, **kwargs: Any) -> None:
    halo = [withStroke(linewidth=1.6, foreground="white")]
    ax.text(x, y, text, transform=ax.transAxes, path_effects=halo, **kwargs)


def show_classes(
    ax: Axes, view: SceneView, classes: Classes, legend: Legend, simulated: bool, *, furniture: bool = False
) -> None:
    """Draw a class map in the legend's colours, with letters in its large regions."""
    table = np.full((256, 3), LAND_RGB, np.float32)
    for k, rgb in legend.colours.items():
        table[k] = rgb
    image = table[classes] / 255
    image[np.isnan(view.hh_db)] = 1
    show_map(ax, view, image, simulated, furniture=furniture)
    rows, cols = classes.shape
    halo = [withStroke(linewidth=1.4, foreground="white")]
    for k, row, col in label_places(classes, legend):
        at = ((col + 0.5) / cols, 1 - (row + 0.5) / rows)
        text = legend.letters[k]
        ax.text(*at, text, transform=ax.transAxes, ha="center", va="center", fontsize=6.5, color=INK, path_effects=halo)


def coloured_errors(kinds: Classes) -> NDArray[np.float32]:
    """Return :func:`floemap.report.figures.scene_views.error_kinds` as an image, (rows, cols, 3) in 0..1."""
    table = np.ones((256, 3), np.float32)
    for k, (_, rgb) in enumerate(ERRORS):
        table[k] = np.array(rgb) / 255
    return table[kinds]


def edge_line(ax: Axes, view: SceneView, ice: NDArray[np.bool_], here: NDArray[np.bool_], **style: Any) -> None:
    """Draw the border between ice and water, but not along land and no-data."""
    if not (ice & here).any() or not (~ice & here).any():
        return
    rows, cols = ice.shape
    left, bottom, right, top = view.geobox.boundingbox.bbox
    x = left + (np.arange(cols) + 0.5) * (right - left) / cols
    y = top - (np.arange(rows) + 0.5) * (top - bottom) / rows
    field = np.ma.masked_array(ice.astype(np.float32), mask=~here)
    lines = ax.contour(
        x, y, field, levels=[0.5], colors=[style["colour"]], linewidths=style["width"], linestyles=[style["line"]]
    )
    if style["colour"] == "#ffffff":
        lines.set_path_effects([withStroke(linewidth=style["width"] + 0.9, foreground="#101820")])


def frame(ax: Axes, view: SceneView, square: tuple[float, float, float, float]) -> None:
    """Draw a frame around a square, given in shares of the view's rows and columns."""
    left, bottom, right, top = view.geobox.boundingbox.bbox
    row, col, height, width = square
    x, y = left + col * (right - left), top - (row + height) * (top - bottom)
    box = (x, y), width * (right - left), height * (top - bottom)
    ax.add_patch(Rectangle(*box, fill=False, edgecolor="white", linewidth=2.2))
    ax.add_patch(Rectangle(*box, fill=False, edgecolor=INK, linewidth=1.0))


def class_legends(figure: Figure, legend: Legend, *, errors: bool) -> None:
    """Draw one legend for all maps of the figure."""
    entries = [(f"{c.title} ({legend.letters[c.id]})", c.rgb) for c in legend.classes]
    handles = [swatch(title, rgb) for title, rgb in [*entries, (NO_CLASS, LAND_RGB)]]
    if errors:
        handles += [swatch(title, rgb) for title, rgb in ERRORS]
    legend_below(figure, handles, -(-len(handles) // (2 if errors else 1)))


def legend_below(figure: Figure, handles: list[Any], columns: int) -> None:
    """Draw a legend below the maps."""
    at = (_GAP / figure.get_figwidth(), 0.14 / figure.get_figheight())
    figure.legend(handles=handles, loc="lower left", bbox_to_anchor=at, ncols=columns, borderpad=0, borderaxespad=0)


def swatch(title: str, rgb: RGB) -> Patch:
    """Return a legend's patch."""
    red, green, blue = (v / 255 for v in rgb)
    return Patch(facecolor=(red, green, blue), edgecolor="0.35", linewidth=0.5, label=title)


def line_handle(title: str, colour: str, line: Any, *, outline: bool = False) -> Any:
    """Return a legend's line, with a dark outline if `outline` is true."""
    effects = [withStroke(linewidth=2.2, foreground="#101820")] if outline else None
    return Line2D([], [], color=colour, linestyle=line, linewidth=1.3, label=title, path_effects=effects)


def in_words(classes: Classes, legend: Legend) -> str:
    """Return the shares of the classes in words, the largest first."""
    known = classes[classes != IGNORE]
    if not known.size:
        return "no class anywhere"
    shares = np.bincount(known, minlength=len(legend)) / known.size
    order = [i for i in np.argsort(-shares, kind="stable") if shares[i] >= 0.005]
    return ", ".join(f"{legend.classes[i].title.lower()} {100 * shares[i]:.0f} %" for i in order)


def percent_of(part: NDArray[np.bool_], whole: NDArray[np.bool_]) -> str:
    """Return the percentage of the whole that a part has, as text."""
    n = int(np.count_nonzero(whole))
    return f"{100 * np.count_nonzero(part) / n:.1f} %" if n else "none"
