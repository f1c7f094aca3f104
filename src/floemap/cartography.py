"""Map furniture for pictures: graticule, scale bar, north arrow, class legend. Used by every picture of a map.

All of it follows from the raster's :class:`odc.geo.geobox.GeoBox`, in projected metres, so it is right in any
projection and needs no coastline files.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Any, Literal

import numpy as np
import pyproj
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.patches import Patch
from matplotlib.patheffects import withStroke
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox

from floemap.grid import crs_of, degrees, in_image_geometry, projection_of
from floemap.legend import RGB

_STEPS_DEG = (0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 20, 30, 45)
#: Boxes of scale bar, north arrow and warnings, and the box within which the frame cuts no label: shares of width and
#: height.
_TAKEN = ((0.0, 0.0, 0.34, 0.12), (0.8, 0.8, 1.0, 1.0), (0.35, 0.93, 0.65, 1.0))
_FRAME = (0.04, 0.04, 0.96, 0.96)
#: Length of a label, points.
_LABEL_PT = 30
_STEPS_M = [m * 10**e for e in range(1, 7) for m in (1, 2, 5)]


def where_is(geobox: GeoBox) -> str:
    """Describe the place and the projection of a map in words: its middle, and its CRS."""
    if in_image_geometry(geobox):
        return "Image geometry: lines downwards, samples to the right"
    left, bottom, right, top = geobox.boundingbox.bbox
    crs = crs_of(geobox)
    to_geo = pyproj.Transformer.from_crs(crs.proj, "EPSG:4326", always_xy=True)
    lon, lat = to_geo.transform((left + right) / 2, (bottom + top) / 2)
    projection = f"EPSG:{crs.epsg}" if crs.epsg else projection_of(crs.proj)
    if not (np.isfinite(lon) and np.isfinite(lat)):
        return f"Projection {projection}"
    return f"Middle {degrees(round(lat, 1), 'lat')} {degrees(round(lon, 1), 'lon')}, projection {projection}"


def show_raster(ax: Axes, image: NDArray[Any], geobox: GeoBox, **imshow: Any) -> Any:
    """Draw `image`, (rows, cols) or (rows, cols, 3), over the extent of `geobox`; it may be a decimated copy of it."""
    left, bottom, right, top = geobox.boundingbox.bbox
    drawn = ax.imshow(image, extent=(left, right, bottom, top), **imshow)
    ax.set_xlim(left, right)
    ax.set_ylim(bottom, top)
    ax.set_xticks([])
    ax.set_yticks([])
    return drawn


def graticule(ax: Axes, geobox: GeoBox, *, colour: str = "white") -> None:
    """Draw and label meridians and parallels at round degrees, some four of each across the map."""
    if in_image_geometry(geobox):
        return
    left, bottom, right, top = geobox.boundingbox.bbox
    to_geo = pyproj.Transformer.from_crs(crs_of(geobox).proj, "EPSG:4326", always_xy=True)
    xs, ys = np.meshgrid(np.linspace(left, right, 101), np.linspace(bottom, top, 101))
    lon, lat = to_geo.transform(xs, ys)
    ok = np.isfinite(lon) & np.isfinite(lat)
    if not ok.any():
        return
    lon, lat = np.where(ok, lon, np.nan), np.where(ok, lat, np.nan)
    # Longitudes as offsets from the middle, so that a map across the dateline has no jump.
    middle = np.degrees(np.angle(np.nanmean(np.exp(1j * np.radians(lon)))))
    lon_offset = (lon - middle + 180) % 360 - 180
    # Around a pole a jump remains; no meridian may be drawn across it.
    for offset in (lon_offset, lon_offset.T):
        jump = np.abs(np.diff(offset, axis=0)) > 180
        offset[:-1][jump] = np.nan
        offset[1:][jump] = np.nan
    placed: list[tuple[float, float]] = []
    apart = _LABEL_PT * ax.figure.dpi / 72 / min(ax.bbox.width, ax.bbox.height)
    axes: tuple[tuple[NDArray[Any], Literal["lat", "lon"]], ...] = ((lat, "lat"), (lon_offset + middle, "lon"))
    for field, name in axes:
        low, high = np.nanmin(field), np.nanmax(field)
        step = next((s for s in _STEPS_DEG if (high - low) / s <= 6), _STEPS_DEG[-1])
        levels = np.arange(np.ceil(low / step) * step, high, step)
        if not len(levels):
            continue
        lines = ax.contour(xs, ys, field, levels=levels, colors=colour, linewidths=0.5, alpha=0.55, linestyles="solid")
        labels = {v: degrees(v, name) for v in levels}
        for text in ax.clabel(lines, fmt=labels, fontsize=7, inline=True):
            x, y = text.get_position()
            at = (x - left) / (right - left), (y - bottom) / (top - bottom)
            free = not any(_inside(at, corner) for corner in _TAKEN) and _inside(at, _FRAME)
            free = free and all(np.hypot(at[0] - a, at[1] - b) > apart for a, b in placed)
            placed += [at] if free else []
            text.set_visible(free)
            text.set_path_effects(_outlined(colour))


def _inside(at: tuple[float, float], box: tuple[float, float, float, float]) -> bool:
    return box[0] <= at[0] <= box[2] and box[1] <= at[1] <= box[3]


def _outlined(colour: str) -> list[Any]:
    """Return effects that make text and lines of a colour readable on bright and dark backgrounds."""
    bright = float(np.mean(to_rgb(colour))) > 0.5
    return [withStroke(linewidth=1.8, foreground="black" if bright else "white", alpha=0.75)]


def scale_bar(ax: Axes, geobox: GeoBox, *, colour: str = "white") -> None:
    """Draw a bar of a round length, about a fifth of the width, at the lower left; to scale at the map's middle."""
    left, bottom, right, top = geobox.boundingbox.bbox
    factor = _projection_scale(geobox)
    width_m = (right - left) / factor
    length_m = max((s for s in _STEPS_M if s <= width_m / 5), default=_STEPS_M[0])
    x0, y0 = left + 0.04 * (right - left), bottom + 0.04 * (top - bottom)
    effects = _outlined(colour)
    ends = [x0, x0 + length_m * factor]
    ax.plot(ends, [y0, y0], color=colour, linewidth=3, solid_capstyle="butt", path_effects=effects)
    text = f"{length_m / 1000:g} km" if length_m >= 1000 else f"{length_m:g} m"
    ax.text(x0, y0 + 0.012 * (top - bottom), text, color=colour, fontsize=8, va="bottom", path_effects=effects)


def _projection_scale(geobox: GeoBox) -> float:
    """Return projected metres per metre on the ellipsoid, along x at the map's middle."""
    if in_image_geometry(geobox):  # the CRS of an image is in metres on the ground
        return 1.0
    left, bottom, right, top = geobox.boundingbox.bbox
    x, y = (left + right) / 2, (bottom + top) / 2
    to_geo = pyproj.Transformer.from_crs(crs_of(geobox).proj, "EPSG:4326", always_xy=True)
    lon, lat = to_geo.transform([x - 500, x + 500], [y, y])
    distance_m = pyproj.Geod(ellps="WGS84").inv(lon[0], lat[0], lon[1], lat[1])[2]
    return float(1000 / distance_m) if np.isfinite(distance_m) and distance_m > 0 else 1.0


def north_arrow(ax: Axes, geobox: GeoBox, *, colour: str = "white") -> None:
    """Draw an arrow at the upper right corner that points to true north at its own position."""
    if in_image_geometry(geobox):
        return
    left, bottom, right, top = geobox.boundingbox.bbox
    size = 0.07 * np.sqrt((right - left) * (top - bottom))
    x, y = right - 1.3 * size, top - 1.3 * size
    to_geo = pyproj.Transformer.from_crs(crs_of(geobox).proj, "EPSG:4326", always_xy=True)
    lon, lat = to_geo.transform(x, y)
    if not np.isfinite(lat) or abs(lat) > 89.9:
        return
    x_north, y_north = to_geo.transform(lon, min(lat + 0.05, 90), direction="INVERSE")
    direction = np.array([x_north - x, y_north - y])
    direction *= size / np.hypot(*direction)
    tail, head = (x - direction[0] / 2, y - direction[1] / 2), (x + direction[0] / 2, y + direction[1] / 2)
    style = {"arrowstyle": "-|>", "color": colour, "linewidth": 1.5, "shrinkA": 0, "shrinkB": 0}
    ax.annotate("", xy=head, xytext=tail, arrowprops=style)
    letter = (head[0] + 0.35 * direction[0], head[1] + 0.35 * direction[1])
    ax.text(*letter, "N", color=colour, fontsize=9, ha="center", va="center", path_effects=_outlined(colour))


def class_legend(ax: Axes, entries: Iterable[tuple[str, RGB]], *, dotted: Collection[str] = (), **kwargs: Any) -> None:
    """Draw one legend of coloured patches, those of the titles `dotted` with dots."""
    patches = [
        Patch(
            facecolor=(rgb[0] / 255, rgb[1] / 255, rgb[2] / 255),
            edgecolor="0.3",
            linewidth=0.5,
            label=title,
            hatch="..." if title in dotted else None,
        )
        for title, rgb in entries
    ]
    defaults: dict[str, Any] = {"loc": "upper left", "bbox_to_anchor": (1.01, 1), "frameon": False, "fontsize": 8}
    for text in ax.legend(handles=patches, **(defaults | kwargs)).get_texts():
        text.set_parse_math(False)  # titles come from users


def furnish(ax: Axes, geobox: GeoBox, *, colour: str = "white") -> None:
    """Draw graticule, scale bar and north arrow."""
    graticule(ax, geobox, colour=colour)
    scale_bar(ax, geobox, colour=colour)
    north_arrow(ax, geobox, colour=colour)
