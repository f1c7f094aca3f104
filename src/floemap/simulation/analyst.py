"""The chart that an analyst would draw of the twin's truth: zones, not floes, with concentrations counted from it.

Labels made from such a chart have the same errors at the scale of pixels as real ones: a polygon of the pack contains
old and first-year ice, leads and water, and has one dominant type.
"""

from __future__ import annotations

import cv2
import geopandas as gpd
import numpy as np
import pandas as pd
import rasterio.features
import scipy.ndimage
import shapely
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox

from floemap.datasets.extremeearth.scenes import COLUMNS_V1
from floemap.errors import ChartError
from floemap.grid import crs_of
from floemap.simulation.world.surface import SURFACE_STAGE, Surface
from floemap.simulation.world.texture import Bytes

#: Columns of a drawn chart, before its geometry. Codes are strings as SIGRID-3 has them, "-9" where not given.
COLUMNS = ("CT", "CA", "SA", "FA", "CB", "SB", "FB", "CC", "SC", "FC", "POLY_TYPE")
#: Value of pixels outside the scene.
OUTSIDE = 255

# Types of ice that an analyst distinguishes: fast ice, but not whether first-year ice is deformed.
_TYPES: tuple[tuple[Surface, ...], ...] = (
    (Surface.FAST,),
    (Surface.OLD,),
    (Surface.FIRST_YEAR, Surface.FIRST_YEAR_DEFORMED),
    (Surface.YOUNG,),
    (Surface.NILAS,),
    (Surface.NEW,),
)
# Groups of pixels that form polygons: land, water, and each type of ice, in close and in open pack.
_LAND, _WATER, _FIRST_CLOSE, _FIRST_OPEN = 0, 1, 10, 20
# Concentration at the ice edge, and at the border between open and close pack (7/10, WMO).
_EDGE, _CLOSE = 0.25, 0.65
#: Stages of development that a polygon may have, thickest first.
_STAGES = (95, 86, 83, 82, 81)
# Forms of ice (SIGRID-3): vast, big and medium floes; undetermined for thin ice; fast ice.
_FORMS = {95: "06", 86: "05", 83: "04", 82: "99", 81: "99"}
_FAST_FORM = "08"
_NOT_GIVEN = "-9"


def draw_chart(
    surface: Bytes, geobox: GeoBox, *, smallest_km2: float = 80.0, smoothing_m: float = 5_000.0
) -> gpd.GeoDataFrame:
    """Draw a chart of a truth raster.

    Parameters
    ----------
    surface
        (rows, cols) uint8, codes of :class:`~floemap.simulation.world.surface.Surface`, :data:`OUTSIDE` outside the
        scene.
    geobox
        The raster's grid, in metres; some 200 to 1000 m a pixel is enough.
    smallest_km2
        Minimum area of a region; smaller ones are merged into their neighbours. A tenth of it for land.
    smoothing_m
        Standard deviation, metres, of the Gaussian by which the most frequent type around each pixel is found.

    Returns
    -------
    GeoDataFrame
        In the grid's CRS, one polygon a row, without gaps or overlaps between them (except along the simplified outline
        of the scene), with :data:`COLUMNS`. Ice types are in the order of thickness, thickest first. Concentrations are
        counted from the truth under the polygon, in tenths that sum to the total. If there is a single ice type, SA has
        its code and CA is "-9".

    Raises
    ------
    ChartError
        If no pixel is inside the scene, or a code is not that of a surface.
    """
    inside = surface != OUTSIDE
    if not inside.any():
        raise ChartError("the truth raster has no pixel inside the scene.", hint="Give a raster that shows the scene.")
    worst = int(surface[inside].max())
    if worst >= len(Surface):
        raise ChartError(f"the surface code {worst} does not exist.", hint=f"Codes are 0 to {len(Surface) - 1}.")
    step_m = abs(float(geobox.resolution.x))
    group = _prevailing(surface, inside, smoothing_m / step_m)
    regions = _merge_small(group, inside, smallest_km2 * 1e6 / step_m**2)
    shapes, numbers = _outlines(regions, geobox)
    drawn = shapely.coverage_simplify(shapes, max(1.5 * step_m, smoothing_m / 6))
    counts = _counts(surface, regions)
    rows = [_describe(counts[n]) for n in numbers]
    return gpd.GeoDataFrame(pd.DataFrame(rows, columns=list(COLUMNS)), geometry=list(drawn), crs=crs_of(geobox).proj)


def extremeearth_columns(chart: gpd.GeoDataFrame) -> gpd.GeoDataFrame:
    """Return a drawn chart with the columns of ExtremeEarth's first release, where water polygons carry SA 99.

    They have room for two ice types; as in that release, the third one is lost. `area` is in square metres and
    `perimeter` in metres, both on the map.
    """
    out = chart.rename(columns={"POLY_TYPE": "poly_type"}).drop(columns=["CC", "SC", "FC"])
    out["SA"] = out["SA"].where(out["poly_type"] != "W", "99")
    out["id"] = np.arange(1, len(out) + 1)
    out["area"] = out.geometry.area.round(1)
    out["perimeter"] = out.geometry.length.round(1)
    return out[[*COLUMNS_V1, "geometry"]]


def _prevailing(surface: Bytes, inside: NDArray[np.bool_], sigma_px: float) -> Bytes:
    """Return the group of each pixel, from the most frequent ice type and the concentration around it.

    Land is only slightly smoothed, since coastlines are known.
    """
    sigma_px = max(sigma_px, 0.5)

    def around(mask: NDArray[np.bool_], sigma: float) -> NDArray[np.float32]:
        return np.asarray(cv2.GaussianBlur(mask.astype(np.float32), (0, 0), sigma), dtype=np.float32)

    kind = np.zeros(surface.shape, np.uint8)
    most = np.full(surface.shape, -1.0, np.float32)
    ice = np.zeros(surface.shape, np.float32)
    for k, members in enumerate(_TYPES):
        share = around(np.isin(surface, members), sigma_px)
        ice += share
        better = share > most
        most[better], kind[better] = share[better], k
    concentration = ice / np.maximum(ice + around(surface == Surface.WATER, sigma_px), 1e-6)
    open_pack = (concentration < _CLOSE) & (concentration >= _EDGE)
    # Smoothing makes a strip of open pack even along a compact edge. Only wider strips are real.
    width = 2 * round(0.75 * sigma_px) + 1
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (width, width))
    open_pack = cv2.morphologyEx(open_pack.view(np.uint8), cv2.MORPH_OPEN, disc).view(bool)
    group = np.where(concentration < (_EDGE + _CLOSE) / 2, _WATER, _FIRST_CLOSE + kind).astype(np.uint8)
    group[open_pack] = _FIRST_OPEN + kind[open_pack]
    group[around(surface == Surface.LAND, max(sigma_px / 6, 0.5)) > 0.5] = _LAND
    group[~inside] = OUTSIDE
    return group


def _merge_small(group: Bytes, inside: NDArray[np.bool_], smallest_px: float) -> NDArray[np.int32]:
    """Number the connected regions from 1, 0 outside; merge small ones into the nearest that is large enough."""
    for _ in range(4):  # merging may split regions into small ones
        regions, small = _regions(group, smallest_px)
        if not small.any() or (small | ~inside).all():
            break
        nearest = scipy.ndimage.distance_transform_edt(small | ~inside, return_distances=False, return_indices=True)
        group = np.where(inside, group[tuple(nearest)], OUTSIDE).astype(np.uint8)
    return regions


def _regions(group: Bytes, smallest_px: float) -> tuple[NDArray[np.int32], NDArray[np.bool_]]:
    """Number connected regions from 1, 0 outside; return the numbers, and which pixels are in a too small region."""
    regions = np.zeros(group.shape, np.int32)
    small = np.zeros(group.shape, bool)
    count = 0
    for k in np.unique(group[group != OUTSIDE]):
        part, n = scipy.ndimage.label(group == k)
        least = smallest_px / 10 if k == _LAND else smallest_px
        too_small = np.bincount(part.ravel(), minlength=n + 1) < least
        too_small[0] = False
        small |= too_small[part]
        regions[part > 0] = part[part > 0] + count
        count += n
    return regions, small


def _outlines(regions: NDArray[np.int32], geobox: GeoBox) -> tuple[NDArray[np.object_], list[int]]:
    """Return polygons of the regions along pixel borders, and the region of each.

    Where three regions meet, the corner of two may be on a straight side of the third. A coverage needs that corner as
    a vertex of all three, so sides get a vertex at the corner of every pixel. In units of pixels this is exact.
    """
    found = list(rasterio.features.shapes(regions, mask=(regions > 0).view(np.uint8)))
    in_pixels = shapely.segmentize(np.array([shapely.geometry.shape(g) for g, _ in found]), 1.0)
    a = geobox.transform

    def to_map(col_row: NDArray[np.float64]) -> NDArray[np.float64]:
        col, row = np.rint(col_row).T
        return np.stack([a.a * col + a.b * row + a.c, a.d * col + a.e * row + a.f], axis=-1)

    return shapely.transform(in_pixels, to_map), [int(n) for _, n in found]


def _counts(surface: Bytes, regions: NDArray[np.int32]) -> NDArray[np.int64]:
    """Return the number of pixels by region and surface, (regions + 1, surfaces)."""
    width = len(Surface)
    known = regions > 0
    flat = regions[known].astype(np.int64) * width + surface[known]
    return np.bincount(flat, minlength=(int(regions.max()) + 1) * width).reshape(-1, width)


def _describe(count: NDArray[np.int64]) -> dict[str, str]:
    """Return the codes of a polygon from its number of pixels of each surface."""
    row = dict.fromkeys(COLUMNS, _NOT_GIVEN)
    sea = count.sum() - count[Surface.LAND]
    if count[Surface.LAND] >= sea:
        return row | {"POLY_TYPE": "L"}
    area = dict.fromkeys(_STAGES, 0.0)
    for surface, stage in SURFACE_STAGE.items():
        if stage is not None:
            area[stage] += float(count[surface] / sea)
    total = sum(area.values())
    if total < 0.1:
        return row | {"POLY_TYPE": "W", "CT": "01" if total > 0 else "00"}
    tenths = _partial_tenths(area, round(10 * total))
    row |= {"POLY_TYPE": "I", "CT": _total_code(total)}
    first_year = count[Surface.FIRST_YEAR] + count[Surface.FIRST_YEAR_DEFORMED]
    forms = _FORMS | ({86: _FAST_FORM} if count[Surface.FAST] > first_year else {})
    for letter, stage in zip("ABC", tenths, strict=False):
        row[f"S{letter}"], row[f"F{letter}"] = str(stage), forms[stage]
        if len(tenths) > 1:
            row[f"C{letter}"] = f"{10 * tenths[stage]}"
    return row


def _total_code(total: float) -> str:
    tenths = round(10 * total)
    if tenths < 10:
        return str(10 * tenths)
    return "92" if total >= 0.99 else "91"


def _partial_tenths(area: dict[int, float], total: int) -> dict[int, int]:
    """Return tenths by stage of development, thickest first, of the three most frequent stages.

    Largest remainders decide the rounding, so that the tenths sum to `total`.
    """
    kept = sorted(area, key=lambda s: (-area[s], _STAGES.index(s)))[:3]
    scale = total / sum(area[s] for s in kept)
    exact = {s: area[s] * scale for s in kept}
    tenths = {s: int(exact[s]) for s in kept}
    for s in sorted(kept, key=lambda s: (tenths[s] - exact[s], _STAGES.index(s)))[: total - sum(tenths.values())]:
        tenths[s] += 1
    return {s: tenths[s] for s in _STAGES if tenths.get(s, 0) > 0}
