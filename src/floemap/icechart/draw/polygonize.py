"""From a class raster to the polygons of a draft chart: optionally smoothed, merged, simplified, with confidence.

The polygons are a coverage: neighbours share their vertices, there are no gaps and no overlaps. Pixels without a class
(land, no data) are left out. Areas are true areas on the ellipsoid, in any projection.

The steps: the raster is smoothed (:mod:`~floemap.icechart.draw.majority_filter`), regions below the minimum area
become part of neighbours (:mod:`~floemap.icechart.draw.regions`), the borders between the remaining regions are traced
once and simplified (:mod:`~floemap.icechart.draw.region_borders`), and polygons are assembled from them and checked
(:mod:`~floemap.icechart.draw.region_polygons`).
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from dataclasses import dataclass, replace

import geopandas as gpd
import numpy as np
import shapely
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox

from floemap.counts import counted
from floemap.errors import ChartError, ConfigError, GridError
from floemap.grid import is_in_metres, map_crs_of
from floemap.icechart.draw.eggs import Eggs, EggSource, make_eggs
from floemap.icechart.draw.majority_filter import smooth_classes
from floemap.icechart.draw.region_borders import pad, trace_borders
from floemap.icechart.draw.region_polygons import Outlines, draw_outlines
from floemap.icechart.draw.regions import Ints, Merged, Regions, area_of_regions, contacts, find_regions, merge_small
from floemap.icechart.draw.zonal_means import NO_PROBABILITY, ClassMeans, class_means, mean_probabilities, true_km2
from floemap.legend import IGNORE, LAND, Legend
from floemap.progress import Progress, silent

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class VectorizeReport:
    """Changes between the raster and the polygons.

    Attributes
    ----------
    patches
        Number of regions, connected pixels of one class or one area, after smoothing.
    merged_patches
        Number of these that became part of a neighbour, because they were below the minimum area.
    smoothed_px, merged_px
        Pixels that smoothing, and that merging with a neighbour, gave another class. Where areas were drawn, all pixels
        whose class is not that of their polygon count as merged.
    left_out_px
        Pixels of regions below the minimum area without a neighbour; they have no class in the result.
    class_px, drawn_px
        Pixels by class key, as given and as drawn.
    redrawn_borders
        Borders drawn closer to the pixels than the tolerance allows, because they crossed others or areas changed.
    vertices
        Number of vertices of all polygons; a shared vertex counts for each polygon.
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
        One polygon per row in the grid's CRS, in the order of their first pixels. Columns:

        - `class_id`, `class_key`: id and key of the class; with eggs, that of the dominant type
        - `area_km2`: area on the ellipsoid
        - `confidence`: mean probability of the polygon's class on its pixels, not-a-number if it is unknown; with eggs,
          that of the most probable class of each pixel
        - `second_id`, `second_key`, `second_share`: the other class with the highest mean probability there, which with
          eggs may be above that of the polygon's class, and that probability; :data:`floemap.legend.IGNORE`, "" and 0
          if there is none
        - `review_rank`: rank from 1 by the area that is expected to be wrong, area x (1 - confidence), the largest
          first, as its review changes most. An unknown confidence counts as 0. Land has rank 0.
        - `out_of_distribution`: mean out-of-distribution score on its pixels, not-a-number if it is unknown
    classes
        (rows, cols) uint8: the class of the polygon of each pixel.
    legend
        Legend of the classes.
    report
        Changes between the given raster and the polygons.
    eggs
        Concentrations and ice types of the polygons; None if they were not estimated.
    """

    polygons: gpd.GeoDataFrame
    classes: NDArray[np.uint8]
    legend: Legend
    report: VectorizeReport
    eggs: Eggs | None = None

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
    probabilities: Iterable[NDArray[np.uint8]] | None = None,
    probability_step: float = 0.005,
    scores: NDArray[np.uint8] | None = None,
    score_step: float = 0.05,
    land: NDArray[np.bool_] | None = None,
    eggs: EggSource | None = None,
    areas: NDArray[np.uint8] | None = None,
    progress: Progress = silent,
) -> ChartPolygons:
    """Draw the polygons of a class raster.

    Parameters
    ----------
    classes
        (rows, cols), uint8, ids of `legend`, :data:`floemap.legend.IGNORE` where there is none.
    geobox
        Grid of the raster, in a map projection in metres.
    min_area_km2
        Area of the smallest polygon. Smaller regions become part of the neighbour with the longest common border; those
        without a neighbour are left out.
    tolerance_m
        Greatest distance of a border from the sides of pixels; below 0.36 pixels borders follow these exactly. Each
        class keeps the area that it has after smoothing and merging within 0.4 %.
    smoothing_m
        Standard deviation of :func:`~floemap.icechart.draw.majority_filter.smooth_classes`; 0 means no smoothing.
    probabilities
        Rasters on the grid, uint8, one per class in the legend's order, read one after the other; 255 for no-data.
    probability_step
        Value of one unit in them.
    scores
        Out-of-distribution score on the grid, (rows, cols) uint8, 255 where it is unknown; None if it is everywhere.
    score_step
        Value of one unit in it.
    land
        (rows, cols), pixels of land, whatever their class. They become polygons of class
        :data:`floemap.legend.LAND`, of any size; merging leaves them as they are.
    eggs
        What concentrations and types are estimated from; None if they are not. The class of a polygon then is that of
        the dominant type in its egg.
    areas
        (rows, cols) uint8: areas to draw in place of the classes, numbered from 0 to 253, such as
        :func:`~floemap.icechart.draw.mixtures.mixture_areas` finds; IGNORE where there is no class. They need `eggs`.
    progress
        Progress callback, called as progress(done, total, message).

    Raises
    ------
    ChartError
        If no pixel has a class, a class is not in the legend, or no polygon reaches the minimum area.
    GridError
        If rasters and grid do not fit, or the grid is not in metres.
    ConfigError
        If an option is negative or not a number.
    """
    _check_options(min_area_km2=min_area_km2, tolerance_m=tolerance_m, smoothing_m=smoothing_m)
    _check_raster(classes, geobox, legend)
    if land is not None:
        _check_land(land, classes)
        classes = np.where(land, np.uint8(IGNORE), classes)
    t = geobox.transform
    pixel_m = max(float(np.hypot(t.a, t.d)), float(np.hypot(t.b, t.e)))
    progress(0, 4, "smoothing")
    smooth = smooth_classes(classes, smoothing_m / pixel_m) if areas is None else _checked_areas(areas, classes)
    progress(1, 4, "merging")
    first = find_regions(pad(smooth if land is None else np.where(land, np.uint8(LAND), smooth)))
    regions = find_regions(_without_small(first, geobox, min_area_km2))
    progress(2, 4, "drawing")
    outlines = _draw(regions, geobox, tolerance_m / pixel_m, min_area_km2)
    group = np.append(outlines.merged.group, -1)[regions.number]
    painted = regions.painted(group, outlines.merged.classes)
    begin = np.zeros(len(first), np.int64)
    begin[first.of_run[::-1]] = first.start[::-1]
    now = painted.ravel()[begin]
    progress(3, 4, "averaging")
    drawn = _Drawn(regions, group, outlines.merged.classes, outlines)
    means = _class_means(drawn, classes, legend, probabilities, probability_step)
    made = None if eggs is None else _make_eggs(drawn, means, legend, eggs)
    if made is not None:
        found = np.where(drawn.sea, made.dominant(legend), drawn.classes)
        drawn = replace(drawn, classes=found)
        painted = regions.painted(group, found)
    frame = _table(drawn, means, legend, with_eggs=made is not None).set_crs(map_crs_of(geobox).proj)
    if scores is not None:
        unlike = mean_probabilities(regions, group, len(frame), [scores], score_step)[:, 0]
        frame["out_of_distribution"] = np.where(drawn.sea, unlike, np.nan)
    raster = painted[1:-1, 1:-1] if land is None else np.where(land, np.uint8(IGNORE), painted[1:-1, 1:-1])
    report = _report(classes, smooth if areas is None else classes, raster, first, now, outlines, legend)
    progress(4, 4, "done")
    return ChartPolygons(frame, raster, legend, report, made)


@dataclass(frozen=True)
class _Drawn:
    """Drawn polygons: their regions, the group of each, and class and outline of each polygon."""

    regions: Regions
    group: Ints
    classes: NDArray[np.uint8]
    outlines: Outlines

    @property
    def sea(self) -> NDArray[np.bool_]:
        """Which polygons are not land."""
        return np.asarray(self.outlines.merged.classes != LAND)

    def __len__(self) -> int:
        return len(self.outlines.polygons)


def _check_options(**options: float) -> None:
    for name, value in options.items():
        if not (np.isfinite(value) and value >= 0):
            raise ConfigError(f"{name} is {value}.", hint="Give zero or a larger number.")


def _check_raster(classes: NDArray[np.uint8], geobox: GeoBox, legend: Legend) -> None:
    if classes.dtype != np.uint8:
        raise GridError(f"a class raster is uint8, not {classes.dtype}.")
    if classes.shape != tuple(geobox.shape):
        raise GridError(f"a class raster of {classes.shape} does not fit a grid of {tuple(geobox.shape)}.")
    crs = map_crs_of(geobox)
    if not is_in_metres(crs.proj):
        raise GridError(f"the grid's CRS, {crs.proj.name}, is not in metres.", hint="Use a map projection in metres.")
    found = set(np.unique(classes).tolist()) - {IGNORE}
    if not found:
        hint = "Check whether all of it is land or no-data."
        raise ChartError("no pixel has a class, so there is nothing to draw.", hint=hint)
    if max(found) >= len(legend):
        message = f"class {max(found)} is not in legend {legend.name}, which has the classes 0 to {len(legend) - 1}."
        raise ChartError(message, hint="Use the legend of the model.")


def _check_land(land: NDArray[np.bool_], classes: NDArray[np.uint8]) -> None:
    if land.shape != classes.shape or land.dtype != np.bool_:
        message = f"a land mask, {land.dtype} of {land.shape}, does not fit a class raster of {classes.shape}."
        raise GridError(message, hint="Give a mask of bool on the grid of the classes.")
    if (land | (classes == IGNORE)).all():
        hint = "Check whether it is the right land mask."
        raise ChartError("no pixel outside land has a class, so there is nothing to draw.", hint=hint)


def _checked_areas(areas: NDArray[np.uint8], classes: NDArray[np.uint8]) -> NDArray[np.uint8]:
    if areas.shape != classes.shape or areas.dtype != np.uint8:
        raise GridError(f"areas, {areas.dtype} of {areas.shape}, do not fit a class raster of {classes.shape}.")
    return np.where(classes == IGNORE, np.uint8(IGNORE), areas)


def _without_small(regions: Regions, geobox: GeoBox, minimum_km2: float) -> NDArray[np.uint8]:
    """Return the raster of the regions after merging the small ones."""
    area = area_of_regions(regions, true_km2(geobox, regions))
    merged = merge_small(regions.classes, area, contacts(regions), minimum_km2)
    _refuse_nothing(merged, minimum_km2)
    return regions.painted(merged.group, merged.classes)


def _refuse_nothing(merged: Merged, minimum_km2: float) -> None:
    if not (merged.classes != LAND).any():
        message = f"no polygon reaches the minimum area of {minimum_km2:g} km2."
        raise ChartError(message, hint="Choose a smaller minimum area.")


def _draw(regions: Regions, geobox: GeoBox, tolerance_px: float, minimum_km2: float) -> Outlines:
    km2 = area_of_regions(regions, true_km2(geobox, regions))
    pixels = area_of_regions(regions, regions.run_length.astype(np.float64))
    charted = regions.classes != IGNORE
    outlines = draw_outlines(
        trace_borders(regions),
        regions.classes[charted],
        geobox.transform,
        km2[charted] / pixels[charted],
        tolerance_px=tolerance_px,
        minimum_km2=minimum_km2,
    )
    _refuse_nothing(outlines.merged, minimum_km2)
    return outlines


def _class_means(
    drawn: _Drawn,
    classes: NDArray[np.uint8],
    legend: Legend,
    probabilities: Iterable[NDArray[np.uint8]] | None,
    step: float,
) -> ClassMeans:
    places = drawn.regions, drawn.group, len(drawn)
    if probabilities is None:  # the classes alone are counted
        known = np.where(classes == IGNORE, np.uint8(NO_PROBABILITY), np.uint8(0))
        counted = class_means(*places, [known] * len(legend), 1.0, classes)
        nothing = np.full(counted.seen.shape, np.nan)
        return ClassMeans(nothing, counted.seen, nothing)
    found = class_means(*places, probabilities, step, classes)
    if found.seen.shape[1] != len(legend):
        raise GridError(f"{found.seen.shape[1]} rasters of probabilities do not fit the {len(legend)} classes.")
    return found


def _make_eggs(drawn: _Drawn, means: ClassMeans, legend: Legend, source: EggSource) -> Eggs:
    places, shares = (drawn.regions, drawn.group, len(drawn)), means.seen
    if source.shares is not None:
        shares = mean_probabilities(*places, source.shares, source.step)
        if shares.shape != means.seen.shape:
            raise GridError(f"{shares.shape[1]} rasters of shares do not fit the {len(legend)} classes.")
    whole = np.nan_to_num(shares).sum(axis=1)
    left = 1 - np.divide(shares[:, legend.water], whole, out=np.ones(len(drawn)), where=whole > 0)
    concentration = left.clip(0, 1)
    if source.concentration is not None:
        told = mean_probabilities(*places, [source.concentration], source.concentration_step)[:, 0]
        concentration = np.where(np.isnan(told), concentration, told.clip(0, 1))
    concentration[~drawn.sea] = np.nan
    doubt = source.doubt and source.concentration is None
    return make_eggs(np.nan_to_num(shares), concentration, means.seen, means.certainty, legend, doubt=doubt)


def _table(drawn: _Drawn, means: ClassMeans, legend: Legend, *, with_eggs: bool) -> gpd.GeoDataFrame:
    """Return the polygons with the columns of :class:`ChartPolygons`."""
    classes, area_km2 = drawn.classes, drawn.outlines.merged.area
    sea = np.flatnonzero(drawn.sea)
    classed = sea[classes[sea] < len(legend)]  # ice of unknown type may have no class
    confidence = np.full(len(classes), np.nan)
    if with_eggs:
        confidence[sea] = means.of_pixels[sea]
    else:
        confidence[sea] = means.probability[sea, classes[sea]]
    others = np.nan_to_num(means.probability, nan=0.0)
    others[classed, classes[classed]] = 0
    share = np.where(drawn.sea, others.max(axis=1), 0)
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
        "out_of_distribution": np.full(len(classes), np.nan),
    }
    return gpd.GeoDataFrame(columns, geometry=drawn.outlines.polygons)


def _report(
    given: NDArray[np.uint8],
    smooth: NDArray[np.uint8],
    drawn: NDArray[np.uint8],
    first: Regions,
    now: NDArray[np.uint8],
    outlines: Outlines,
    legend: Legend,
) -> VectorizeReport:
    """Return the report; `now` is the class or area that each of the regions `first` was drawn with."""
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
        words = "left out %s in regions below the minimum area that have no neighbour"
        logger.info(words, counted(report.left_out_px, "pixel"))
    return report


def _pixels(classes: NDArray[np.uint8], legend: Legend) -> dict[str, int]:
    return {c.key: int(np.count_nonzero(classes == c.id)) for c in legend.classes}
