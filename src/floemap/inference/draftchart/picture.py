"""The picture of a draft chart: classes in flat WMO colours, the radar image, the uncertainty, spots to review first.

The radar image is beside the map, not under it, so that the colours of the map are those of its legend.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import shapely
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox

from floemap.cartography import class_legend, furnish, show_raster
from floemap.icechart.draw.polygonize import ChartPolygons
from floemap.inference.predict.scene_maps import NO_VALUE, STEP, SceneMaps
from floemap.legend import LAND_RGB, NO_DATA_RGB, RGB
from floemap.results.stage import write_whole
from floemap.sentinel1.quicklook import false_colour, read_small

_PIXELS = 1400
_WARNING_RGB = "#b00020"
#: In narrower pictures the title is below the warning, not beside it.
_NARROW_IN = 12.0
#: Number of spots to review that are drawn.
_REVIEWED = 9
_ABOUT_SHARES = "Shares are of the charted sea, on the map."
_ABOUT_EGGS = "A polygon of a tenth of ice or more has the colour of its dominant type."
_ABOUT_NUMBERS = "Numbered outlines: spots to review first, by the area in them that is expected to be wrong."


@dataclass(frozen=True)
class PictureWords:
    """Text around the maps.

    Attributes
    ----------
    title, subtitle
        Text above the maps.
    notes
        Lines of text below the maps.
    simulated
        Whether scene or model are simulated; the picture then shows the word SIMULATED.
    """

    title: str
    subtitle: str
    notes: Sequence[str]
    simulated: bool


def draw_chart_picture(
    picture: Path,
    maps: SceneMaps,
    chart: ChartPolygons | None,
    spots: gpd.GeoDataFrame | None,
    product: Path,
    words: PictureWords,
) -> None:
    """Draw a chart into the PNG `picture`.

    Parameters
    ----------
    maps
        Classes, probabilities and uncertainty of each pixel.
    chart
        The polygons, whose borders are drawn. If None, the classes of the pixels are shown.
    spots
        The spots to review first, see :func:`floemap.inference.draftchart.review_spots.review_spots`, if any.
    product
        The prepared product.tif.
    words
        Text around the maps.

    Raises
    ------
    OutputError
        If the picture cannot be written.
    """
    hh, hv = read_small(product, _PIXELS)
    figure, axes = _canvas(maps.geobox)
    _draw_chart(axes["chart"], maps, chart, hh.shape)
    if spots is not None:
        _draw_spots(axes["chart"], spots)
    show_raster(axes["radar"], false_colour(hh, hv), maps.geobox)
    axes["radar"].set_title("Radar. Red: HV, green: mean, blue: HH", fontsize=9)
    shown = _draw_uncertainty(axes["uncertainty"], maps)
    figure.colorbar(shown, cax=axes["bar"], label="entropy, 0 to 1")
    for name in ("radar", "uncertainty"):
        furnish(axes[name], maps.geobox, colour="black")
    class_legend(
        axes["chart"],
        _entries(maps, chart),
        loc="upper left",
        bbox_to_anchor=(0, -0.01),
        ncols=4,
        fontsize=9,
        columnspacing=1.5,
        handlelength=1.6,
    )
    about = _ABOUT_EGGS if chart is not None and chart.eggs is not None else ""
    if spots is not None and len(spots):
        about = f"{about} {_ABOUT_NUMBERS}".lstrip()
    _write_words(figure, axes["chart"], words, f"{_ABOUT_SHARES} {about}".rstrip())
    if maps.land is None:
        axes["chart"].text(
            0.985, 0.015, "LAND MASK: NONE\nland is drawn as ice or water", transform=axes["chart"].transAxes,
            fontsize=9, fontweight="bold", color=_WARNING_RGB, ha="right", va="bottom",
            bbox={"facecolor": "white", "edgecolor": _WARNING_RGB, "alpha": 0.85},
        )  # fmt: skip
    image_file = BytesIO()
    figure.savefig(image_file, format="png")
    write_whole(picture, image_file.getvalue())


def _canvas(geobox: GeoBox) -> tuple[Figure, dict[str, Any]]:
    """Return a figure with a large map on the left, two small ones on the right, and space for text."""
    aspect = geobox.shape[0] / geobox.shape[1]
    width = 9.0 / max(aspect, 1.0) ** 0.5  # inches of the large map
    height = width * aspect
    bottom, gap, small = 1.45, 0.35, (height - 0.45) / 2 / aspect
    across = 0.25 + width + gap + small + 0.85
    whole = (across, 0.52 + _title_in(across) + height + bottom)
    figure = Figure(figsize=whole, dpi=110)
    FigureCanvasAgg(figure)

    def place(x: float, y: float, w: float, h: float) -> Axes:
        return figure.add_axes((x / whole[0], y / whole[1], w / whole[0], h / whole[1]))

    right = 0.25 + width + gap
    return figure, {
        "chart": place(0.25, bottom, width, height),
        "radar": place(right, bottom + height - small * aspect, small, small * aspect),
        "uncertainty": place(right, bottom, small, small * aspect),
        "bar": place(right + small + 0.1, bottom + 0.1 * small, 0.13, 0.8 * small * aspect),
    }


def _draw_chart(ax: Axes, maps: SceneMaps, chart: ChartPolygons | None, shape: tuple[int, ...]) -> None:
    classes = _small(maps.classes if chart is None else chart.classes, shape)
    table = np.full((256, 3), NO_DATA_RGB, np.float32)
    for c in maps.legend.classes:
        table[c.id] = c.rgb
    image = table[classes] / 255
    if maps.land is not None:
        image[_small(maps.land, shape)] = np.array(LAND_RGB) / 255
    show_raster(ax, image, maps.geobox, interpolation="nearest")
    if chart is not None:
        rings = [shapely.get_coordinates(ring) for ring in shapely.get_rings(np.asarray(chart.polygons.geometry))]
        ax.add_collection(LineCollection(rings, colors="0.15", linewidths=0.6))
    furnish(ax, maps.geobox, colour="0.1")


def _draw_spots(ax: Axes, spots: gpd.GeoDataFrame) -> None:
    for spot in spots.head(_REVIEWED).itertuples():
        outline = shapely.get_coordinates(spot.geometry.exterior)
        ax.plot(*outline.T, color="white", linewidth=2.6)
        ax.plot(*outline.T, color=_WARNING_RGB, linewidth=1.3)
        ax.annotate(
            str(spot.spot),
            shapely.get_coordinates(shapely.point_on_surface(spot.geometry))[0],
            fontsize=8,
            ha="center",
            va="center",
            bbox={"boxstyle": "circle,pad=0.25", "facecolor": "white", "edgecolor": _WARNING_RGB, "linewidth": 0.8},
        )


def _draw_uncertainty(ax: Axes, maps: SceneMaps) -> Any:
    scale = max(1, *(-(-n // (_PIXELS // 2)) for n in maps.entropy.shape))
    stored = maps.entropy[scale // 2 :: scale, scale // 2 :: scale]
    if maps.land is not None:
        land = np.where(maps.land[scale // 2 :: scale, scale // 2 :: scale, None], LAND_RGB, NO_DATA_RGB)
        show_raster(ax, land / 255, maps.geobox, interpolation="nearest")
    drawn = show_raster(ax, np.ma.masked_equal(stored, NO_VALUE) * STEP, maps.geobox, cmap="YlOrRd", vmin=0, vmax=1)
    ax.set_title("Uncertainty of the class", fontsize=9)
    return drawn


def _small(raster: NDArray[Any], shape: tuple[int, ...]) -> NDArray[Any]:
    """Return a raster decimated to another shape, by nearest pixels."""
    rows, cols = (((np.arange(n) + 0.5) * m / n).astype(int) for n, m in zip(shape, raster.shape, strict=True))
    return np.asarray(raster[np.ix_(rows, cols)])


def _entries(maps: SceneMaps, chart: ChartPolygons | None) -> list[tuple[str, RGB]]:
    """Return title and colour of each class, with its share of the classified area, and of land if there is any."""
    counts = np.bincount((maps.classes if chart is None else chart.classes)[::4, ::4].ravel(), minlength=256)
    total = max(1, counts[: len(maps.legend)].sum())
    entries = [(f"{c.title}, {_percent(counts[c.id] / total)}", c.rgb) for c in maps.legend.classes]
    if maps.land is not None and maps.land.any():
        entries.append(("Land", LAND_RGB))
    return entries


def _percent(share: float) -> str:
    return "none" if share == 0 else "below 1 %" if share < 0.01 else f"{100 * share:.0f} %"


def _title_in(width: float) -> float:
    """Return the distance of the title from the top, inches; in a narrow picture it is below the warning."""
    return 0.33 if width > _NARROW_IN else 0.68


def _write_words(figure: Figure, ax: Axes, words: PictureWords, about: str) -> None:
    width, height = figure.get_size_inches()
    left = 0.25 / width
    first = _title_in(width)
    figure.text(left, 1 - first / height, words.title, fontsize=15, fontweight="bold", va="center")
    figure.text(left, 1 - (first + 0.3) / height, words.subtitle, fontsize=9, color="0.3", va="center")
    warning = "DRAFT, NOT FOR NAVIGATION" + ("   SIMULATED" if words.simulated else "")
    figure.text(
        1 - left,
        1 - 0.33 / height,
        warning,
        fontsize=13,
        fontweight="bold",
        color=_WARNING_RGB,
        ha="right",
        va="center",
    )
    figure.text(
        left, 0.12 / height, "\n".join([*words.notes, about]), fontsize=8, color="0.25", va="bottom", linespacing=1.35
    )
    if words.simulated:
        ax.text(
            0.5, 0.985, "SIMULATED", transform=ax.transAxes, fontsize=13, fontweight="bold", color="white", ha="center",
            va="top", bbox={"boxstyle": "round,pad=0.35", "facecolor": _WARNING_RGB, "edgecolor": "none"},
        )  # fmt: skip
