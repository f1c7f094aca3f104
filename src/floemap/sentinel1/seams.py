"""The lines on the ground along which the sub-swaths of a scene meet.

In ground-range products each sub-swath fills a range of pixels, which the annotation gives for ranges of lines. Two
neighbours meet between the last pixel of one and the first of the next. The bounds shift by some pixels if the radar's
timing changes, and the far sub-swaths begin some hundred lines later. Noise differs between sub-swaths, so classes that
change along these lines are an artefact of the radar (:mod:`floemap.evaluation.checks.sensor`).
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from floemap.sentinel1.geolocation import GeoLocator
from floemap.sentinel1.metadata import Scene

#: Largest distance between two points of a line.
POINT_SPACING_M = 10_000.0


def seam_lines(scene: Scene, locator: GeoLocator) -> list[dict[str, Any]]:
    """Return the lines along which neighbouring sub-swaths meet, from near to far range, JSON-ready.

    Returns
    -------
    lines
        One table per line: ``between``, the names of the two sub-swaths; ``lonlat_deg``, longitude and latitude of
        points in the order of time; ``incidence_deg``, the least and the largest incidence angle. A scene of one
        sub-swath has no lines.
    """
    found = []
    for near, far in zip(scene.swath_names, scene.swath_names[1:], strict=False):
        points = _meeting(scene, near, far)
        if not points:
            continue
        line, pixel = np.array(sorted(points), np.float64).T
        lon, lat = locator.to_ground(line, pixel)
        incidence = locator.incidence_deg(line, pixel)
        found.append(
            {
                "between": [near, far],
                "incidence_deg": [round(float(incidence.min()), 3), round(float(incidence.max()), 3)],
                "lonlat_deg": [[round(float(x), 6), round(float(y), 6)] for x, y in zip(lon, lat, strict=True)],
            }
        )
    return found


def _meeting(scene: Scene, near: str, far: str) -> list[tuple[float, float]]:
    """Return image positions (line, pixel) between the last pixels of one sub-swath and the first of the next."""
    points = []
    for a in (b for b in scene.swaths if b.swath == near):
        for c in (b for b in scene.swaths if b.swath == far):
            first, last = max(a.first_line, c.first_line), min(a.last_line, c.last_line)
            if first > last:
                continue
            parts = max(1, math.ceil((last - first) * scene.pixel_spacing_m[0] / POINT_SPACING_M))
            pixel = (a.last_pixel + c.first_pixel) / 2
            points += [(float(line), pixel) for line in np.unique(np.linspace(first, last, parts + 1))]
    return points
