"""The zone along the seams between sub-swaths, drawn on a map's grid from the lines in ``product.json``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import cv2
import numpy as np
import pyproj
from odc.geo.geobox import GeoBox

from floemap.errors import MISSHAPEN, FloemapError
from floemap.evaluation.checks.classes import Bools
from floemap.evaluation.checks.sensor import SEAM_HALF_WIDTH_M
from floemap.grid import map_crs_of

#: Number of bits of the fraction in OpenCV's fixed-point positions.
_SHIFT = 4
_FAR_PX = 1e6


def seam_zone(lines: Sequence[Mapping[str, Any]], geobox: GeoBox, half_width_m: float = SEAM_HALF_WIDTH_M) -> Bools:
    """Draw the zone along seams.

    Parameters
    ----------
    lines
        The entry "seams" of a product.json: each has ``lonlat_deg``, a list of (longitude, latitude) along the seam.
    geobox
        The grid.
    half_width_m
        Distance that the zone extends to each side of the line; at least one pixel.

    Returns
    -------
    zone
        Mask of the zone, (rows, cols).

    Raises
    ------
    FloemapError
        If a line is not a list of positions.
    """
    away = np.ones(tuple(geobox.shape), np.uint8)
    to_map = pyproj.Transformer.from_crs("EPSG:4326", map_crs_of(geobox).proj, always_xy=True)
    for line in lines:
        try:
            lon, lat = np.array(line["lonlat_deg"], np.float64).reshape(-1, 2).T
        except MISSHAPEN as e:
            raise FloemapError(f"a seam is not a list of longitudes and latitudes: {e!r}.") from e
        x, y = to_map.transform(lon, lat)
        col, row = ~geobox.transform * (np.asarray(x), np.asarray(y))
        # OpenCV's integers are pixel centres. Positions far outside are clipped to the range of its integers.
        points = np.stack([col - 0.5, row - 0.5], axis=1)
        points = np.clip(points[np.isfinite(points).all(axis=1)], -_FAR_PX, _FAR_PX)
        fixed = np.rint(points * (1 << _SHIFT)).astype(np.int32)
        cv2.polylines(away, [fixed.reshape(-1, 1, 2)], False, 0, 1, cv2.LINE_8, _SHIFT)
    if away.all():
        return np.zeros(away.shape, bool)
    # OpenCV draws slanting thick lines too thick, so the zone is made from distances to thin lines.
    reach_px = max(1.0, half_width_m / float(abs(geobox.resolution.x)))
    return np.asarray(cv2.distanceTransform(away, cv2.DIST_L2, cv2.DIST_MASK_PRECISE) <= reach_px + 1e-3)
