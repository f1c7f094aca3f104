"""From a class raster to the polygons of a chart: smoothed by choice, without small ones, simplified, with confidence.

The polygons are a coverage: neighbours share their vertices, there are no gaps and no overlaps. What has no class
(land, no data) is left out. Areas are true areas on the ellipsoid, whatever the map.

How it is done: the raster is smoothed (:mod:`~floemap.icechart.draw.majority_filter`), patches below the minimum area
are given to neighbours (:mod:`~floemap.icechart.draw.regions`), the borders between what remains are traced once and
simplified (:mod:`~floemap.icechart.draw.region_borders`), and polygons are put together of them and checked
(:mod:`~floemap.icechart.draw.region_polygons`).
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import geopandas as gpd
import numpy as np
import shapely
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox

from floemap.errors import ChartError, ConfigError, GridError
from floemap.grid import crs_of
from floemap.icechart.draw.majority_filter import smooth_classes
from floemap.icechart.draw.region_borders import pad, trace_borders
from floemap.icechart.draw.region_polygons import Outlines, draw_outlines
from floemap.icechart.draw.regions import Patches, area_of_patches, contacts, find_patches, merge_small
from floemap.icechart.draw.zonal_means import mean_probabilities, true_km2
from floemap.legend import IGNORE, LAND, Legend
from floemap.progress import Progress, silent

logger = logging.getLogger(__name__)

_SMALLER = "Choose a smaller minimum area."


@dataclass(frozen=True)
class VectorizeReport:
    """What was done to the raster on the way to polygons.

    Attributes
    ----------
    patches
        Connected patches of one class after smoothing.
    merged_patches
        How many of them have another class now, because they were below the minimum area.
    smoothed_px, merged_px
        Pixels that changed their class in smoothing, and by being given to a neighbour.
    left_out_px
        Pixels of patches below the minimum area without a neighbour: they have no class now.
    class_px, drawn_px
        Pixels by class key, as given and as drawn.
    redrawn_borders
        Borders drawn closer to the pixels than the tolerance allows, because they crossed others or areas changed.
    vertices
        Number of vertices of all polygons; shared ones are counted for each polygon.
    """

    patches: int
    merged_patches: int
    smoothed_px: int
    merged_px: int
    left_out_px: int
    class_px: dict[str, int]
    drawn_px: dict[str, int]
    redrawn_borders: int
    vertices: int


@dataclass(frozen=True)
class ChartPolygons:
    """A draft chart in memory.

    Attributes
    ----------
    polygons
        In the grid's CRS, one polygon a row, in the order of their first pixels. Columns:

        - `class_id`, `class_key`
        - `area_km2`: on the ellipsoid
        - `confidence`: mean probability of the polygon's class on its pixels, not-a-number where it is unknown
        - `second_id`, `second_key`, `second_share`: the other class with the highest mean probability there, and that
          probability; :data:`floemap.legend.IGNORE`, "" and 0 where there is none
        - `review_rank`: from 1, by the area that is expected to be wrong, area x (1 - confidence), the largest first:
          that is where a look changes most. An unknown confidence counts as 0. Land has 0.
    classes
        (rows, cols) uint8: the raster that was drawn, after smoothing and giving away small patches.
    legend
        Legend of the classes.
    report
        What was done.
    """

    polygons: gpd.GeoDataFrame
    classes: NDArray[np.uint8]
    legend: Legend
    report: VectorizeReport

    def __len__(self) -> int:
        return len(self.polygons)


def vectorize(
    classes: NDArray[np.uint8],
    geobox: GeoBox,
    legend: Legend,
    *,
    min_area_km2: float,
    tolerance_m: float,
    smoothing_m: float = 0.0,
    probabilities: Iterable[NDArray[Any]] | None = None,
    confidence: NDArray[Any] | None = None,
    probability_step: float | None = None,
    land: NDArray[np.bool_] | None = None,
    progress: Progress = silent,
) -> ChartPolygons:
    """Draw the polygons of a class raster.

    Parameters
    ----------
    classes
        (rows, cols), uint8, ids of `legend`, :data:`floemap.legend.IGNORE` where there is none.
    geobox
        Its grid, in a map projection in metres.
    min_area_km2
        No polygon is smaller. Smaller patches go to the neighbour with the longest common border; those without a
        neighbour are left out.
    tolerance_m
        No border is moved further than this from the sides of pixels; at less than 0.36 pixels they are followed
        exactly. Each class keeps the area that it has after smoothing and merging within 0.4 %.
    smoothing_m
        Standard deviation of :func:`~floemap.icechart.draw.majority_filter.smooth_classes`; 0 is no smoothing.
    probabilities
        Rasters on the grid, one per class in the legend's order, taken one after the other. Reals from 0 to 1,
        not-a-number where there is none; or whole numbers, 255 where there is none.
    confidence
        The probability of the given class alone, likewise, where `probabilities` are not at hand; no second class is
        known then.
    probability_step
        What a whole number stands for in them, as 0.01 for percent.
    land
        (rows, cols), pixels of land, whatever class they are given. They become polygons of class
        :data:`floemap.legend.LAND`, of any size; nothing is given to them, and nothing of them away.
    progress
        Progress callback, called as progress(done, total, message).

    Raises
    ------
    ChartError
        If no pixel has a class, a class is not in the legend, or no polygon reaches the minimum area.
    GridError
        If rasters and grid do not fit, or the grid is not in metres.
    ConfigError
        If an option is negative or no number.
    """
    _check_options(min_area_km2=min_area_km2, tolerance_m=tolerance_m, smoothing_m=smoothing_m)
    _check_raster(classes, geobox, legend)
    if land is not None:
        _check_land(land, classes)
        classes = np.where(land, np.uint8(IGNORE), classes)
    t = geobox.transform
    pixel_m = max(float(np.hypot(t.a, t.d)), float(np.hypot(t.b, t.e)))
    progress(0, 4, "smoothing")
    smooth = smooth_classes(classes, smoothing_m / pixel_m)
    progress(1, 4, "merging")
    first = find_patches(pad(smooth if land is None else np.where(land, np.uint8(LAND), smooth)))
    patches = find_patches(_without_small(first, geobox, min_area_km2))
    progress(2, 4, "drawing")
    outlines = _draw(patches, geobox, tolerance_m / pixel_m, min_area_km2)
    group = np.append(outlines.merged.group, -1)[patches.number]
    painted = patches.painted(group, outlines.merged.classes)
    progress(3, 4, "averaging")
    mean = np.full((len(outlines.polygons), len(legend)), np.nan)
    if probabilities is not None:
        found = mean_probabilities(patches, group, len(mean), probabilities, probability_step)
        if found.shape != mean.shape:
            raise GridError(f"{found.shape[1]} rasters of probabilities do not fit the {len(legend)} classes.")
        mean = found
    elif confidence is not None:
        own = mean_probabilities(patches, group, len(mean), [confidence], probability_step)[:, 0]
        sea = np.flatnonzero(outlines.merged.classes != LAND)
        mean[sea, outlines.merged.classes[sea]] = own[sea]
    frame = _table(outlines, mean, legend).set_crs(crs_of(geobox).proj)
    drawn = painted[1:-1, 1:-1] if land is None else np.where(land, np.uint8(IGNORE), painted[1:-1, 1:-1])
    report = _report(classes, smooth, drawn, first, painted, outlines, legend)
    progress(4, 4, "done")
    return ChartPolygons(frame, drawn, legend, report)


def _check_options(**options: float) -> None:
    for name, value in options.items():
        if not (np.isfinite(value) and value >= 0):
            raise ConfigError(f"{name} is {value}.", hint="It must be zero or more.")


def _check_raster(classes: NDArray[np.uint8], geobox: GeoBox, legend: Legend) -> None:
    if classes.dtype != np.uint8:
        raise GridError(f"a class raster is uint8, not {classes.dtype}.")
    if classes.shape != tuple(geobox.shape):
        raise GridError(f"a class raster of {classes.shape} does not fit a grid of {tuple(geobox.shape)}.")
    crs = crs_of(geobox)
    if not crs.projected or any(axis.unit_conversion_factor != 1 for axis in crs.proj.axis_info):
        raise GridError(f"the grid's CRS, {crs.proj.name}, is not in metres.", hint="A map projection is needed.")
    found = set(np.unique(classes).tolist()) - {IGNORE}
    if not found:
        raise ChartError("no pixel has a class, so there is nothing to draw.", hint="Is it all land or no data?")
    if max(found) >= len(legend):
        raise ChartError(
            f"class {max(found)} is not in legend {legend.name}, which has {len(legend)} from 0.",
            hint="Is it the legend of the model?",
        )


def _check_land(land: NDArray[np.bool_], classes: NDArray[np.uint8]) -> None:
    if land.shape != classes.shape or land.dtype != np.bool_:
        raise GridError(
            f"a mask of land, {land.dtype} of {land.shape}, does not fit a class raster of {classes.shape}."
        )
    if (land | (classes == IGNORE)).all():
        raise ChartError("no pixel beside land has a class, so there is nothing to draw.", hint="Is it the right mask?")


def _without_small(patches: Patches, geobox: GeoBox, minimum_km2: float) -> NDArray[np.uint8]:
    """Return the raster of the patches with the small ones given away."""
    area = area_of_patches(patches, true_km2(geobox, patches))
    merged = merge_small(patches.classes, area, contacts(patches), minimum_km2)
    if not (merged.classes != LAND).any():
        raise ChartError(f"no polygon reaches the minimum area of {minimum_km2:g} km2.", hint=_SMALLER)
    return patches.painted(merged.group, merged.classes)


def _draw(patches: Patches, geobox: GeoBox, tolerance_px: float, minimum_km2: float) -> Outlines:
    km2 = area_of_patches(patches, true_km2(geobox, patches))
    pixels = area_of_patches(patches, patches.run_length.astype(np.float64))
    charted = patches.classes != IGNORE
    outlines = draw_outlines(
        trace_borders(patches),
        patches.classes[charted],
        geobox.transform,
        km2[charted] / pixels[charted],
        tolerance_px=tolerance_px,
        minimum_km2=minimum_km2,
    )
    if not (outlines.merged.classes != LAND).any():
        raise ChartError(f"no polygon reaches the minimum area of {minimum_km2:g} km2.", hint=_SMALLER)
    return outlines


def _table(outlines: Outlines, mean: NDArray[np.float64], legend: Legend) -> gpd.GeoDataFrame:
    """Return the polygons with what is said of each; see :class:`ChartPolygons`."""
    classes, area_km2 = outlines.merged.classes, outlines.merged.area
    sea = np.flatnonzero(classes != LAND)
    confidence = np.full(len(classes), np.nan)
    confidence[sea] = mean[sea, classes[sea]]
    others = np.nan_to_num(mean, nan=0.0)
    others[sea, classes[sea]] = 0
    share = np.where(classes != LAND, others.max(axis=1), 0)
    second = np.where(share > 0, others.argmax(axis=1), IGNORE).astype(np.uint8)
    wrong_km2 = (area_km2 * (1 - np.nan_to_num(confidence, nan=0.0)))[sea]
    rank = np.zeros(len(classes), np.int64)
    rank[sea[np.lexsort([sea, -wrong_km2])]] = np.arange(len(sea)) + 1
    keys = np.array([c.key for c in legend.classes] + [""] * (IGNORE + 1 - len(legend)), object)
    keys[LAND] = "land"
    columns = {
        "class_id": classes,
        "class_key": keys[classes],
        "area_km2": area_km2,
        "confidence": confidence,
        "second_id": second,
        "second_key": keys[second],
        "second_share": share,
        "review_rank": rank,
    }
    return gpd.GeoDataFrame(columns, geometry=outlines.polygons)


def _report(
    given: NDArray[np.uint8],
    smooth: NDArray[np.uint8],
    drawn: NDArray[np.uint8],
    first: Patches,
    painted: NDArray[np.uint8],
    outlines: Outlines,
    legend: Legend,
) -> VectorizeReport:
    """`painted` has a pixel around it, as the raster of the patches `first` had, and land; the others have not."""
    begin = np.zeros(len(first), np.int64)
    begin[first.of_run[::-1]] = first.start[::-1]
    now = painted.ravel()[begin]
    report = VectorizeReport(
        patches=int(np.count_nonzero((first.classes != IGNORE) & (first.classes != LAND))),
        merged_patches=int(np.count_nonzero((now != first.classes) & (now != IGNORE))),
        smoothed_px=int(np.count_nonzero(smooth != given)),
        merged_px=int(np.count_nonzero((drawn != smooth) & (drawn != IGNORE))),
        left_out_px=int(np.count_nonzero((drawn == IGNORE) & (smooth != IGNORE))),
        class_px=_pixels(given, legend),
        drawn_px=_pixels(drawn, legend),
        redrawn_borders=outlines.redrawn,
        vertices=int(shapely.get_num_coordinates(outlines.polygons).sum()),
    )
    if report.left_out_px:
        logger.info("%d pixels in patches below the minimum area have no neighbour: left out", report.left_out_px)
    return report


def _pixels(classes: NDArray[np.uint8], legend: Legend) -> dict[str, int]:
    return {c.key: int(np.count_nonzero(classes == c.id)) for c in legend.classes}
