"""Polygons to pixels, on the grid of a product.

A pixel belongs to the polygon that holds its centre. Where polygons overlap it belongs to the smallest of them (a floe
drawn upon a larger field shows), whatever their order in the file. A centre exactly on a border belongs to one of the
polygons there, always the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyproj
import shapely
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox
from rasterio.features import rasterize

from floemap.errors import ChartError, GridError
from floemap.grid import brief, is_in_metres, map_crs_of
from floemap.icechart.dominant_type import Unmapped, WithoutParts, class_ids, ice_types
from floemap.icechart.label.borders import border_distance_px
from floemap.icechart.read.columns import CODE_COLUMNS
from floemap.icechart.read.sigrid3 import Chart
from floemap.icechart.reproject import Polygons, project
from floemap.legend import IGNORE, Legend

#: Edges of polygons stay within this share of a pixel of where they were, when they are projected.
_TOLERANCE_PX = 0.02
#: Pixels that may be filled for one chart, and how often the grid may be: half a minute, many times what charts need.
_MOST_WORK = 5e10
_MOST_TIMES = 200
#: So many pixels around the grid must be drawn too, for distances on it.
BORDER_MARGIN_PX = 65


def polygons_on(chart: Chart, geobox: GeoBox) -> tuple[Polygons, NDArray[np.int64]]:
    """Return the polygons that may reach the grid, in its CRS, and their positions in the chart, each (k,).

    Raises
    ------
    ChartError
        If none does.
    GridError
        If the grid is not in a map projection in metres.
    """
    crs = map_crs_of(geobox)
    if not is_in_metres(crs.proj):
        units = ", ".join(sorted({axis.unit_name for axis in crs.proj.axis_info}))
        raise GridError(f"the grid's CRS is in {units}.", hint="A grid in a map projection in metres is needed.")
    box = geobox.boundingbox
    tolerance_m = _TOLERANCE_PX * abs(geobox.resolution.x)
    near = _near(chart, geobox)
    projected = project(chart.geometries[near], chart.crs, crs.proj, tolerance_m)
    # A polygon's box may meet the grid where the polygon does not: that costs a moment and changes nothing.
    bounds = shapely.bounds(projected).reshape(-1, 4)
    meets = (bounds[:, 0] < box.right) & (bounds[:, 2] > box.left)
    meets &= (bounds[:, 1] < box.top) & (bounds[:, 3] > box.bottom)
    if not meets.any():
        raise ChartError(
            f"does not overlap the grid: the chart reaches {_extent(chart.geometries, chart.crs)}, the grid "
            f"({brief(geobox)}) {_extent([geobox.extent.geom], crs.proj)}.",
            path=chart.path,
            hint="Is it the chart of this scene?",
        )
    return projected[meets], near[meets]


def _near(chart: Chart, geobox: GeoBox) -> NDArray[np.int64]:
    """Return positions of the polygons whose boxes meet the grid's, on the chart's own map: quick, on the safe side."""
    box = geobox.boundingbox
    x, y = np.meshgrid(np.linspace(box.left, box.right, 33), np.linspace(box.bottom, box.top, 33))
    x, y = pyproj.Transformer.from_crs(map_crs_of(geobox).proj, chart.crs, always_xy=True).transform(x, y)
    if not (np.isfinite(x).all() and np.isfinite(y).all()):
        return np.arange(len(chart))
    margin = 0.1 * max(np.ptp(x), np.ptp(y))  # between the points, the grid's outline bends
    left, bottom, right, top = shapely.bounds(chart.geometries).T
    meets = (left <= x.max() + margin) & (right >= x.min() - margin)
    return np.flatnonzero(meets & (bottom <= y.max() + margin) & (top >= y.min() - margin))


def _extent(geometries: Sequence[Any] | NDArray[Any], crs: pyproj.CRS) -> str:
    """Say roughly which longitudes and latitudes geometries reach, as a sentence's end."""
    xy = shapely.get_coordinates(geometries)
    lon, lat = pyproj.Transformer.from_crs(crs, "EPSG:4326", always_xy=True).transform(xy[:, 0], xy[:, 1])
    middle = float(np.degrees(np.angle(np.mean(np.exp(1j * np.radians(lon))))))
    off = (lon - middle + 180) % 360 - 180
    west, east = ((middle + o + 180) % 360 - 180 for o in (off.min(), off.max()))
    return f"from {west:.1f} to {east:.1f} degrees east and {lat.min():.1f} to {lat.max():.1f} north"


def rasterize_polygons(chart: Chart, geobox: GeoBox) -> NDArray[Any]:
    """Number each pixel by its polygon.

    Returns
    -------
    numpy.ndarray
        (rows, cols), uint16 or uint32: 0 where there is no polygon, else 1 + the position in ``chart.polygons``.

    Raises
    ------
    ChartError
        If no polygon reaches the grid.
    """
    polygons, positions = polygons_on(chart, geobox)
    try:
        check_work(polygons, geobox)
    except ChartError as e:
        raise ChartError(e.message, path=chart.path, hint=e.hint) from None
    order = _largest_first(chart, positions)
    dtype = np.uint16 if len(chart) < 65535 else np.uint32
    numbers: NDArray[Any] = rasterize(
        zip(polygons[order], (positions[order] + 1).tolist(), strict=True),
        out_shape=tuple(geobox.shape),
        transform=geobox.transform,
        dtype=dtype,
    )
    if not numbers.any():
        raise ChartError(
            f"holds no pixel centre of the grid ({brief(geobox)}).",
            path=chart.path,
            hint="Is it the chart of this scene?",
        )
    return numbers


def check_work(polygons: Polygons, geobox: GeoBox) -> None:
    """Refuse polygons, (n,), that lie on one another so often that drawing them on a grid takes minutes and more.

    Raises
    ------
    ChartError
        With how often, on average.
    """
    rows, cols = geobox.shape
    box = geobox.boundingbox
    left, bottom, right, top = shapely.bounds(polygons).reshape(-1, 4).T
    size_x, size_y = abs(geobox.resolution.x), abs(geobox.resolution.y)  # rows may go north, columns west
    wide = np.clip((np.minimum(right, box.right) - np.maximum(left, box.left)) / size_x, 0, cols)
    high = np.clip((np.minimum(top, box.top) - np.maximum(bottom, box.bottom)) / size_y, 0, rows)
    # Each line of pixels is filled, after a look at each edge.
    work = float((wide * high + high * shapely.get_num_coordinates(polygons)).sum())
    if work > max(_MOST_WORK, _MOST_TIMES * rows * cols):
        raise ChartError(
            f"its polygons lie on one another: they would have to be drawn {work / (rows * cols):,.0f} times the grid.",
            hint="Is it a chart?",
        )


def _largest_first(chart: Chart, positions: NDArray[np.int64]) -> NDArray[np.intp]:
    """Return the order of drawing: the smallest last, so that it is on top; equal ones by place, then by codes."""
    geometries = chart.geometries[positions]
    bounds = shapely.bounds(geometries).T
    codes = [chart.codes(c)[positions] for c in CODE_COLUMNS]
    types = chart.polygons["poly_type"].to_numpy(str)[positions]
    return np.lexsort([types, *codes, *bounds, -shapely.area(geometries)])


def look_up(numbers: NDArray[Any], values: NDArray[Any], outside: Any) -> NDArray[Any]:
    """Give each pixel the value of its polygon, (rows, cols, ...).

    `values` is (n, ...), a row per polygon; `outside` stands where there is no polygon.
    """
    table = np.empty((len(values) + 1, *values.shape[1:]), values.dtype)
    table[0] = outside
    table[1:] = values
    pixels: NDArray[Any] = table[numbers]
    return pixels


def rasterize_labels(
    chart: Chart,
    geobox: GeoBox,
    legend: Legend,
    *,
    unmapped: Unmapped = "error",
    without_parts: WithoutParts = "unknown",
    valid: NDArray[np.bool_] | None = None,
) -> NDArray[np.uint8]:
    """Draw a chart's classes on a grid.

    Parameters
    ----------
    chart, geobox, legend
        What, where, as which classes.
    unmapped, without_parts
        What to do with codes that the legend lacks, and with several types without partial concentrations; see
        :func:`floemap.icechart.dominant_type.ice_types`.
    valid
        (rows, cols), true where the product has data; elsewhere there is no label. All by default.

    Returns
    -------
    numpy.ndarray
        (rows, cols), uint8, class ids, :data:`floemap.legend.IGNORE` where there is none.

    Raises
    ------
    ChartError
        If no polygon reaches the grid, or a code is not in the legend.
    GridError
        If `valid` is not on the grid.
    """
    types = ice_types(chart, unmapped=unmapped, without_parts=without_parts)
    return drawn_labels(rasterize_polygons(chart, geobox), class_ids(types, legend, unmapped=unmapped), valid)


def drawn_labels(numbers: NDArray[Any], ids: NDArray[np.uint8], valid: NDArray[np.bool_] | None) -> NDArray[np.uint8]:
    """Return the labels of a raster of polygons' numbers, (rows, cols), whose classes are `ids`, (n,).

    Raises
    ------
    GridError
        If `valid` is not on the grid.
    """
    labels = look_up(numbers, ids, IGNORE)
    if valid is not None:
        if valid.shape != labels.shape:
            raise GridError(f"a mask of {valid.shape} does not fit a grid of {labels.shape}")
        labels[~valid] = IGNORE
    return labels


def border_distance(chart: Chart, geobox: GeoBox) -> NDArray[np.float32]:
    """Return the distance of each pixel's centre to the nearest border of a polygon, in pixels.

    See :func:`border_distance_px`. Borders outside the grid count too.
    """
    inner = np.s_[BORDER_MARGIN_PX:-BORDER_MARGIN_PX, BORDER_MARGIN_PX:-BORDER_MARGIN_PX]
    return border_distance_px(rasterize_polygons(chart, geobox.pad(BORDER_MARGIN_PX)))[inner]
