"""The picture of a bundle: a map in WMO colours with its legend, north up in the middle, in few bytes."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from io import BytesIO
from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray
from PIL import Image

from floemap.bundle.area import Area
from floemap.cartography import class_legend, furnish, show_raster
from floemap.icechart.dominant_type import ice_types
from floemap.icechart.preview import DOTTED, chart_image, grid_over, kinds_and_colours, legend_entries
from floemap.icechart.read.sigrid3 import Chart
from floemap.legend import NO_DATA_RGB, RGB
from floemap.publishing.sheet import draw_eggs

_DPI = 100
#: Heights of lines of text, and the frame around the map, pixels; the mean width of a letter of the text.
_TITLE_PX, _LINE_PX, _FRAME_PX, _LETTER_PX = 19, 15, 8, 6.0
#: Pixels of the map below which a legend has one column.
_TWO_COLUMNS_PX = 520
_WARNING = "#b00020"
#: Colours besides those of the map: for letters and lines with soft edges.
_INK: tuple[RGB, ...] = ((255, 255, 255), (160, 160, 160), (30, 30, 30), (176, 0, 32))
#: Area of an egg's letters, square pixels.
_EGG_PX2 = 4000.0


def draw_picture(chart: Chart, area: Area, title: str, warning: str, notes: Sequence[str], pixels: int) -> bytes:
    """Return a picture of a chart in an area as a PNG with a palette.

    Parameters
    ----------
    chart
        The chart, on the area's map.
    title, warning, notes
        Texts above the map: in bold, in red, and small.
    pixels
        Pixels along the longer side of the map; text is added around it.
    """
    geobox = grid_over(area.shape.bounds, area.crs, pixels)
    kinds, colours = kinds_and_colours(chart, ice_types(chart, unmapped="ignore"))
    image, numbers = chart_image(chart, geobox, colours)
    entries = [*legend_entries(kinds, colours, numbers), ("no chart", NO_DATA_RGB)]
    rows, cols = geobox.shape
    wide = max(cols, 300) + 2 * _FRAME_PX
    letters = int((wide - 2 * _FRAME_PX) / _LETTER_PX)
    lines = [line for note in notes for line in textwrap.wrap(note, letters)]
    titles = textwrap.wrap(title, int(letters / 1.5))
    warnings = textwrap.wrap(warning, int(letters / 1.7))
    columns = 2 if wide >= _TWO_COLUMNS_PX else 1
    above = _FRAME_PX + _TITLE_PX * (len(titles) + len(warnings)) + _LINE_PX * len(lines) + _FRAME_PX
    below = _LINE_PX * -(-len(entries) // columns) + 3 * _FRAME_PX + _LINE_PX
    whole = above + rows + below
    figure = Figure(figsize=(wide / _DPI, whole / _DPI), dpi=_DPI, facecolor="white")
    canvas = FigureCanvasAgg(figure)
    y = _FRAME_PX
    styles: tuple[tuple[list[str], int, float, dict[str, Any]], ...] = (
        (titles, _TITLE_PX, 10.5, {"fontweight": "bold"}),
        (warnings, _TITLE_PX, 9.5, {"fontweight": "bold", "color": _WARNING}),
        (lines, _LINE_PX, 7.5, {"color": "0.2"}),
    )
    for texts, step, size, style in styles:
        for text in texts:
            drawn = figure.text(
                _FRAME_PX / wide, 1 - y / whole, text, fontsize=size, va="top", parse_math=False, **style
            )
            width = drawn.get_window_extent(canvas.get_renderer()).width  # type: ignore[no-untyped-call]
            drawn.set_fontsize(size * min(1.0, (wide - 2 * _FRAME_PX) / max(width, 1)))
            y += step
    ax = figure.add_axes((_FRAME_PX / wide, below / whole, cols / wide, rows / whole))
    show_raster(ax, image, geobox, interpolation="nearest")
    furnish(ax, geobox, colour="0.15")
    eggs = draw_eggs(ax, chart, size_pt=6.5, least=max(0.004, _EGG_PX2 / (rows * cols)))
    class_legend(
        ax,
        entries,
        dotted=DOTTED,
        loc="upper left",
        bbox_to_anchor=(0, -_FRAME_PX / rows),
        borderaxespad=0,
        borderpad=0,
        ncols=columns,
        fontsize=7.5,
        title=f"Dominant type{_about_eggs(eggs)}",
        title_fontsize=7.5,
        alignment="left",
    )
    canvas.draw()  # type: ignore[no-untyped-call]
    image = np.asarray(canvas.buffer_rgba())[:, :, :3]  # type: ignore[no-untyped-call]
    return _png(image, list(dict.fromkeys([*_INK, *(rgb for _, rgb in entries)])))


def _about_eggs(eggs: Sequence[str]) -> str:
    """Return what the legend says of the eggs in a map: only large maps have any, with room for the words."""
    words = "; in polygons: total, parts, stages" if any(any(map(str.isdigit, egg)) for egg in eggs) else ""
    return words + ("; in parentheses before them a trace, after them the rest" if "(" in "".join(eggs) else "")


def _png(image: NDArray[np.uint8], palette: list[RGB]) -> bytes:
    """Return an image, (rows, cols, 3), as a PNG in which each pixel has the nearest colour of the palette."""
    coded = image.astype(np.uint32) @ np.array([1 << 16, 1 << 8, 1], np.uint32)
    found, back = np.unique(coded, return_inverse=True)
    colours = np.column_stack([found >> 16, found >> 8 & 255, found & 255]).astype(np.int32)
    nearest = ((colours[:, None, :] - np.array(palette, np.int32)) ** 2).sum(axis=2).argmin(axis=1)
    numbers = nearest[back.reshape(coded.shape)].astype(np.uint8)
    picture = Image.fromarray(numbers, "P")
    picture.putpalette([v for rgb in palette for v in rgb])
    file = BytesIO()
    picture.save(file, format="PNG", optimize=True, bits=4 if len(palette) <= 16 else 8)
    return file.getvalue()
