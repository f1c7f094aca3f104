"""The scenes on which faults are shown: a right map, and what the checks need to know of its scene."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from floemap.cog import open_raster, read_geobox
from floemap.evaluation.checks.classes import Bools, Classes
from floemap.evaluation.checks.seam_zone import seam_zone
from floemap.icechart.label.label import label_chart
from floemap.icechart.label.settings import LabelSettings
from floemap.legend import EXTREMEEARTH, IGNORE, Legend
from floemap.results.stage import read_json
from floemap.sentinel1.encoding import BAND_NAMES, NODATA, SCALE
from floemap.sentinel1.prepare import prepare
from floemap.simulation.twin_month import TwinMonth

#: Degrees of incidence angle that the strip beside a seam is wide: some 4 km.
STRIP_DEG = 0.3
_MELT_MONTHS = (7, 8)


@dataclass(frozen=True)
class Ground:
    """A right map, and what the checks need to know of its scene. Arrays are (rows, cols).

    Attributes
    ----------
    reference
        The right map.
    pixel_m
        Side of a pixel, metres.
    legend
        Its own.
    melting
        Whether melt is on.
    seam_zone
        Zone along the seams of sub-swaths.
    strips
        Strips beside seams, for the fault that copies seams.
    incidence_deg
        NaN where unknown.
    """

    reference: Classes
    pixel_m: float
    legend: Legend
    melting: bool
    seam_zone: Bools
    strips: Bools
    incidence_deg: NDArray[np.floating[Any]]

    def window(self, rows: slice, cols: slice) -> Ground:
        """Return a part of it."""
        return replace(
            self,
            reference=np.ascontiguousarray(self.reference[rows, cols]),
            seam_zone=np.ascontiguousarray(self.seam_zone[rows, cols]),
            strips=np.ascontiguousarray(self.strips[rows, cols]),
            incidence_deg=np.ascontiguousarray(self.incidence_deg[rows, cols]),
        )


@dataclass(frozen=True)
class TwinGround:
    """A month of the twin, prepared and labelled.

    Attributes
    ----------
    ground
        Its chart as the right map.
    truth
        What the chart was drawn from, (rows, cols), 255 where the chart has no class.
    product, labels
        Folders.
    """

    ground: Ground
    truth: Classes
    product: Path
    labels: Path


def twin_ground(month: TwinMonth, folder: Path) -> TwinGround:
    """Prepare and label a month of the twin in `folder`, on the truth's own grid; finished results are taken.

    Raises
    ------
    FloemapError
        If something cannot be read or written.
    """
    product = prepare(month.product, folder / "prepared", like=month.truth / "truth.tif", quicklook=False)
    label = label_chart(month.chart, product.raster, folder / "labels", LabelSettings(legend=EXTREMEEARTH.name))
    geobox, lines = read_geobox(product.raster), read_json(product.record)["seams"]
    with open_raster(label.raster) as d:
        reference = d.read(1)
    with open_raster(month.truth / "truth.tif") as d:
        truth = d.read(d.descriptions.index("class") + 1)
    truth[reference == IGNORE] = IGNORE
    with open_raster(product.raster) as d:
        stored = d.read(BAND_NAMES.index("incidence_deg") + 1)
    incidence_deg = stored * np.float32(SCALE)
    incidence_deg[stored == NODATA] = np.nan
    ground = Ground(
        reference=reference,
        pixel_m=float(abs(geobox.resolution.x)),
        legend=EXTREMEEARTH,
        melting=month.month in _MELT_MONTHS,
        seam_zone=seam_zone(lines, geobox),
        strips=_strips(incidence_deg, lines),
        incidence_deg=incidence_deg,
    )
    return TwinGround(ground, truth, product.folder, label.folder)


def _strips(incidence_deg: NDArray[np.floating[Any]], lines: Sequence[Mapping[str, Any]]) -> Bools:
    """Strips on the far side of each seam."""
    strips = np.zeros(incidence_deg.shape, bool)
    for line in lines:
        seam_deg = float(np.mean(line["incidence_deg"]))
        strips |= (incidence_deg >= seam_deg) & (incidence_deg < seam_deg + STRIP_DEG)
    return strips
