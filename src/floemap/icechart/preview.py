"""A small map of a chart in WMO colours for stages of development (JCOMM TR-24)."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pyproj
from affine import Affine
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox

from floemap.cartography import class_legend, furnish, show_raster, where_is
from floemap.grid import Box
from floemap.icechart.describe import kinds_in_words
from floemap.icechart.dominant_type import IceTypes, Rule, ice_types
from floemap.icechart.label.rasterize import look_up, rasterize_polygons
from floemap.icechart.read.codes import NOT_GIVEN
from floemap.icechart.read.sigrid3 import Chart
from floemap.legend import (
    FAST_ICE_RGB,
    ICE_FREE_RGB,
    LAND_RGB,
    NO_DATA_RGB,
    OPEN_WATER_RGB,
    RGB,
    STAGE_RGB,
    STAGES_BY_THICKNESS,
    stage_of,
)
from floemap.results.stage import write_whole

_PIXELS = 1000
_BORDER_RGB: RGB = (70, 70, 70)
_FAST_FORM = 8
#: Kinds that are dotted: bergy water has the colour of open water by WMO's standards (JCOMM TR-24, S-411's portrayal).
DOTTED = ("bergy water",)
_DOT_PX, _DOT_STEP_PX = 2, 10
#: Colour of ice whose stage is unknown.
_UNKNOWN_RGB = STAGE_RGB[99]
_RULE_RGB = {
    Rule.WATER: OPEN_WATER_RGB,
    Rule.BERGY_WATER: OPEN_WATER_RGB,
    Rule.LAND: LAND_RGB,
    Rule.ICE_SHELF: STAGE_RGB[98],
    Rule.NO_DATA: NO_DATA_RGB,
    Rule.NO_STAGE: _UNKNOWN_RGB,
    Rule.UNKNOWN_PARTS: _UNKNOWN_RGB,
}


def draw_chart_map(chart: Chart, picture: Path, *, pixels: int = _PIXELS) -> None:
    """Draw a chart on its own map projection into the PNG `picture`, coloured by dominant stage of development.

    Parameters
    ----------
    chart, picture
        The chart, and the path of the picture.
    pixels
        Number of pixels along the longer side of the map.

    Raises
    ------
    OutputError
        If the picture cannot be written.
    """
    geobox = grid_around(chart, pixels)
    types = ice_types(chart, unmapped="ignore")
    kinds, colours = kinds_and_colours(chart, types)
    image, numbers = chart_image(chart, geobox, colours)

    aspect = geobox.shape[0] / geobox.shape[1]
    height = 8.0 * min(aspect, 1.0)
    figure = Figure(figsize=(height / aspect + 2.4, height + 0.6), dpi=110, layout="compressed")
    FigureCanvasAgg(figure)
    ax = figure.subplots()
    show_raster(ax, image, geobox, interpolation="nearest")
    furnish(ax, geobox, colour="0.15")
    class_legend(ax, legend_entries(kinds, colours, numbers), title="Dominant ice type", dotted=DOTTED)
    ax.set_title(f"{chart.path.stem}\n{where_is(geobox)}", fontsize=9)
    if chart.simulated:
        ax.text(0.5, 0.98, "SIMULATED", transform=ax.transAxes, ha="center", va="top", fontsize=14, fontweight="bold")
    image_file = BytesIO()
    figure.savefig(image_file, format="png")
    write_whole(picture, image_file.getvalue())


def chart_image(chart: Chart, geobox: GeoBox, colours: list[RGB]) -> tuple[NDArray[np.uint8], NDArray[Any]]:
    """Return a chart as an image on a grid, (rows, cols, 3), and the number of each pixel's polygon, (rows, cols).

    The image has borders, and dots in the kinds of :data:`DOTTED`. Numbers are those of the chart's rows, from 1; 0 is
    outside.
    """
    numbers = rasterize_polygons(chart, geobox)
    image = look_up(numbers, np.array(colours, np.uint8), NO_DATA_RGB)
    bergy = ice_types(chart, unmapped="ignore").rule == Rule.BERGY_WATER
    if bergy.any():
        image[look_up(numbers, bergy, False) & _dots(numbers.shape)] = _BORDER_RGB
    image[_borders(numbers)] = _BORDER_RGB
    return image, numbers


def _dots(shape: tuple[int, ...]) -> NDArray[np.bool_]:
    """Return dots at every second node of a grid, (rows, cols)."""
    row, col = np.ogrid[: shape[0], : shape[1]]
    at_dot = (row % _DOT_STEP_PX < _DOT_PX) & (col % _DOT_STEP_PX < _DOT_PX)
    return np.asarray(at_dot & ((row // _DOT_STEP_PX + col // _DOT_STEP_PX) % 2 == 0))


def legend_entries(kinds: list[str], colours: list[RGB], numbers: NDArray[Any]) -> list[tuple[str, RGB]]:
    """Return the entries of the legend of an image, kind and colour, from the thinnest ice to the thickest."""
    shown = {kinds[n - 1]: colours[n - 1] for n in np.unique(numbers) if n}
    return [(kind, shown[kind]) for kind in sorted(shown, key=_legend_order)]


def grid_around(chart: Chart, pixels: int) -> GeoBox:
    """Return a grid around the chart, in its own CRS, with a little margin."""
    return grid_over(tuple(chart.polygons.total_bounds), chart.crs, pixels)


def grid_over(bounds: Box, crs: pyproj.CRS, pixels: int) -> GeoBox:
    """Return a grid over (left, bottom, right, top) with a little margin, of `pixels` along its longer side."""
    left, bottom, right, top = bounds
    step = max(right - left, top - bottom) / (pixels - 10)
    rows, cols = (int(np.ceil(span / step)) + 10 for span in (top - bottom, right - left))
    return GeoBox((rows, cols), Affine(step, 0, left - 5 * step, 0, -step, top + 5 * step), crs.to_wkt())


def kinds_and_colours(chart: Chart, types: IceTypes) -> tuple[list[str], list[RGB]]:
    """Return each polygon's entry in the legend, and its colour."""
    kinds = kinds_in_words(types).tolist()
    colours = []
    ct, fast = chart.codes("ct"), chart.codes("fa") == _FAST_FORM
    for i, (rule, stage) in enumerate(zip(types.rule, types.stage.tolist(), strict=True)):
        unknown_stage = stage in (NOT_GIVEN, 99)
        if rule == Rule.WATER and ct[i] in (0, 55):
            kinds[i], colour = "ice free", ICE_FREE_RGB
        elif fast[i] and unknown_stage and rule not in (Rule.WATER, Rule.LAND):
            # WMO has a colour for fast ice; where a stage is known, the stage is more important.
            kinds[i], colour = "fast ice, stage unknown", FAST_ICE_RGB
        elif stage == NOT_GIVEN:
            colour = _RULE_RGB[rule]
        else:
            colour = STAGE_RGB.get(stage_of(stage), _UNKNOWN_RGB)
        colours.append(colour)
    return kinds, colours


def _legend_order(kind: str) -> tuple[int, str]:
    """Return a sort key: stages from the thinnest to the thickest, then the rest."""
    stage = stage_of(int(kind[:2])) if kind[:2].isdigit() else -1
    return (STAGES_BY_THICKNESS.index(stage) if stage in STAGES_BY_THICKNESS else 99), kind


def _borders(numbers: NDArray[Any]) -> NDArray[np.bool_]:
    """Return which pixels have another polygon to their left or above, (rows, cols)."""
    border = np.zeros(numbers.shape, np.bool_)
    border[:, 1:] |= numbers[:, 1:] != numbers[:, :-1]
    border[1:] |= numbers[1:] != numbers[:-1]
    return border
