"""The page of a published chart, for ships with little bandwidth: a map in WMO colours, PDF or JPEG, below 100 kB."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Literal

import numpy as np
import shapely
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from floemap.cartography import class_legend, furnish, show_raster, where_is
from floemap.errors import OutputError
from floemap.icechart.dominant_type import ice_types
from floemap.icechart.preview import DOTTED, chart_image, grid_around, kinds_and_colours, legend_entries
from floemap.icechart.read.codes import BERGY_WATER_CODE, NO_TYPE, NOT_GIVEN, concentration_in_egg
from floemap.icechart.read.sigrid3 import Chart
from floemap.results.stage import write_whole

#: Most bytes of the page.
MOST_BYTES = 100_000
#: Pixels along the longer side of the map, the largest first, with the quality of a JPEG.
_TRIES = ((900, 80), (700, 70), (500, 60), (350, 45), (240, 30))
_DPI = 110
_WARNING_RGB = "#b00020"
#: Most polygons with a label, the largest first.
_LABELLED = 25


@dataclass(frozen=True)
class SheetWords:
    """Text around the map.

    Attributes
    ----------
    title, subtitle
        Text above the map.
    notes
        Lines of text below the map.
    warning
        Words in red, such as SIMULATED; "" for none.
    """

    title: str
    subtitle: str
    notes: Sequence[str]
    warning: str


def draw_sheet(chart: Chart, path: Path, words: SheetWords, kind: Literal["pdf", "jpeg"]) -> Path:
    """Draw the page of a chart into `path`, with as fine a map as :data:`MOST_BYTES` allow; return the path.

    Raises
    ------
    OutputError
        If the page cannot be written, or is too large whatever the map.
    """
    for pixels, quality in _TRIES:
        figure = _figure(chart, words, pixels)
        file = BytesIO()
        if kind == "pdf":
            with rc_context({"pdf.compression": 9}):
                figure.savefig(file, format="pdf", metadata={"CreationDate": None, "Title": words.title})
        else:
            options = {"quality": quality, "optimize": True}
            figure.savefig(file, format="jpeg", pil_kwargs=options)
        if file.tell() <= MOST_BYTES:
            write_whole(path, file.getvalue())
            return path
    raise OutputError(f"would have {file.tell():,} bytes; a page may have {MOST_BYTES:,}.", path=path)


def _figure(chart: Chart, words: SheetWords, pixels: int) -> Figure:
    geobox = grid_around(chart, pixels)
    kinds, colours = kinds_and_colours(chart, ice_types(chart, unmapped="ignore"))
    image, numbers = chart_image(chart, geobox, colours)
    aspect = geobox.shape[0] / geobox.shape[1]
    height = 7.2 * min(aspect, 1.0)
    across = height / aspect
    whole = (across + 3.0, height + 1.5)
    figure = Figure(figsize=whole, dpi=_DPI)
    FigureCanvasAgg(figure)
    ax = figure.add_axes((0.2 / whole[0], 0.75 / whole[1], across / whole[0], height / whole[1]))
    show_raster(ax, image, geobox, interpolation="nearest")
    furnish(ax, geobox, colour="0.15")
    draw_eggs(ax, chart)
    entries = legend_entries(kinds, colours, numbers)
    class_legend(ax, entries, title="Dominant ice type", dotted=DOTTED, bbox_to_anchor=(1.01, 1))
    left = 0.2 / whole[0]
    figure.text(left, 1 - 0.25 / whole[1], words.title, fontsize=13, fontweight="bold", va="center", parse_math=False)
    under = f"{words.subtitle} {where_is(geobox)}."
    figure.text(left, 1 - 0.53 / whole[1], under, fontsize=8, color="0.3", va="center", parse_math=False)
    figure.text(left, 0.1 / whole[1], "\n".join(words.notes), fontsize=7, color="0.25", va="bottom", parse_math=False)
    if words.warning:
        ax.text(
            0.5, 0.98, words.warning, transform=ax.transAxes, fontsize=13, fontweight="bold", color="white",
            ha="center", va="top", bbox={"boxstyle": "round,pad=0.35", "facecolor": _WARNING_RGB, "edgecolor": "none"},
        )  # fmt: skip
    return figure


def draw_eggs(ax: Axes, chart: Chart, *, size_pt: float = 5.5, least: float = 0.004) -> list[str]:
    """Write eggs into the largest polygons of ice and bergy water, above `least` of the chart's area; return them."""
    area = shapely.area(chart.geometries)
    kinds, bergy = chart.polygons["poly_type"].to_numpy(), chart.codes("ct") == BERGY_WATER_CODE
    shown = (kinds == "I") | ((kinds == "W") & bergy)
    ice = np.flatnonzero(shown & (area > least * area.sum()))
    eggs = []
    for row in ice[np.argsort(-area[ice], kind="stable")][:_LABELLED]:
        eggs.append(egg_in_lines(chart, int(row)))
        x, y = shapely.get_coordinates(shapely.point_on_surface(chart.geometries[row]))[0]
        behind = {"facecolor": "white", "edgecolor": "none", "pad": 0.6}
        ax.text(x, y, eggs[-1], fontsize=size_pt, ha="center", va="center", linespacing=1, bbox=behind)
    return eggs


def egg_in_lines(chart: Chart, row: int) -> str:
    """Return a polygon's egg as the symbol has it: total, partial concentrations in tenths, stages of development.

    A trace, CN, is in parentheses before the stages, and a type that has what the others leave, CD, after them. Bergy
    water, which has the colour of open water by WMO's standard, is named.
    """
    codes = {c: int(chart.codes(c)[row]) for c in ("ct", "ca", "cb", "cc", "sa", "sb", "sc", "cn", "cd")}
    if codes["ct"] == BERGY_WATER_CODE:
        return "bergy\nwater"
    total = concentration_in_egg(codes["ct"])
    types = [x for x in "abc" if codes[f"s{x}"] not in NO_TYPE]
    parts = [concentration_in_egg(codes[f"c{x}"]) for x in types if codes[f"c{x}"] != NOT_GIVEN]
    beside = {c: f"({codes[c]:02d})" if codes[c] not in NO_TYPE else "" for c in ("cn", "cd")}
    stages = [beside["cn"], *(f"{codes[f's{x}']:02d}" for x in types), beside["cd"]]
    several = len(types) > 1 or beside["cd"]
    lines = [total, " ".join(parts) if several else "", " ".join(filter(None, stages))]
    return "\n".join(line for line in lines if line)
