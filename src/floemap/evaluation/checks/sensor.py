"""The checks of the sensor: classes that change where the radar's sub-swaths meet, or with the incidence angle.

Ice does not depend on the radar. *Seams*: in a narrow zone along the lines where sub-swaths meet, the share of pixel
sides at which the class changes is compared with the share elsewhere in the same map; a ratio of 1 means no difference.
Ice has borders there by chance too, so the ratio is compared with the reference's own. *Angle*: backscatter falls with
incidence angle, that of open water most, and a classifier that has not learned this gives the same ice different
classes at near and far range. Shares of classes by degree of incidence show it; but ice is not distributed evenly over
a scene, so errors that depend on the ice alone would show too. The measure is therefore the part that the confusion of
the whole scene does not explain:

    n(b, j, k)   area at incidence b that the reference calls j and the prediction k
    e(b, k) = sum over j of n(b, j, .) n(., j, k) / n(., j, .)      area expected if the confusion were uniform
    dependence = sum over b, k of |n(b, ., k) - e(b, k)| / 2 N      share of the area, 0 to 1

Half the sum of absolute differences is the total variation distance. Both numbers are this project's own; the effects
are well known (in Sentinel-1 EW scenes: J.-W. Park et al., 2018, doi:10.1109/TGRS.2017.2765248, for seams; J. Lohse,
A. Doulgeris, W. Dierking, 2020, Annals of Glaciology 61, 260-270, doi:10.1017/aog.2020.45, for the angle).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from floemap.errors import GridError
from floemap.evaluation.checks.amounts import Amounts, ByBlock, difference, ratio
from floemap.evaluation.checks.classes import Bools, Classes, MapPair, keys
from floemap.evaluation.checks.measures import NEAR, Measure
from floemap.legend import IGNORE

#: Bins of incidence angle: whole degrees from the first on; the end bins also hold all angles beyond them.
FIRST_DEG, BINS = 15, 35
#: Half of the seam zone's width: the distance by which geocoding and a classifier's resolution can move a border.
SEAM_HALF_WIDTH_M = 1000.0

_PREDICTION, _REFERENCE = 0, 1
_ZONE, _ELSEWHERE = 0, 1

Floats = NDArray[np.floating[Any]]


@dataclass(frozen=True, eq=False)
class SeamAmounts(Amounts):
    """Lengths of pixel sides, km, where both maps have a class.

    Attributes
    ----------
    sides_km
        Length of all sides by place (in the seam zone, elsewhere) and direction (between columns, rows), (2, 2).
    changes_km
        Length of sides at which the class changes, by map (prediction, reference), place and direction, (2, 2, 2).
    """

    MEASURES: ClassVar[tuple[Measure, ...]] = (
        Measure(
            key="seam_ratio", check="seams", value="ratio", title="Changes along seams", unit="", better=NEAR,
            least=0.1, main=True, harm=10,
            question="How many times as often as elsewhere does the class change where the radar's sub-swaths meet?",
            sentence="changes class {} times as often along the radar’s seams as elsewhere",
        ),
    )  # fmt: skip

    sides_km: Floats
    changes_km: Floats

    def values(self) -> dict[str, Any]:
        """Return the ratio of changes along seams to those elsewhere in the map, and the excess of border, km."""
        found = [self._of(i) for i in (_PREDICTION, _REFERENCE)]
        return {
            "prediction": found[0],
            "reference": found[1],
            "seam_excess_km": difference(found[0]["excess_km"], found[1]["excess_km"]),
        }

    def _of(self, which: int) -> dict[str, float | None]:
        # Each direction by itself: a slanting border crosses rows and columns at different rates.
        elsewhere = self.sides_km[_ELSEWHERE]
        rates = np.divide(
            self.changes_km[which, _ELSEWHERE], elsewhere, out=np.zeros_like(elsewhere), where=elsewhere > 0
        )
        expected = float((rates * self.sides_km[_ZONE]).sum())
        changes = float(self.changes_km[which, _ZONE].sum())
        known = bool((elsewhere > 0).any()) and bool((self.sides_km[_ZONE] > 0).any())
        return {
            "changes_km": changes,
            "expected_km": expected if known else None,
            "ratio": ratio(changes, expected) if known else None,
            "excess_km": changes - expected if known else None,
        }


def seams(maps: MapPair, zone: Bools | None) -> ByBlock[SeamAmounts] | str:
    """Count class changes along the seams of sub-swaths and elsewhere.

    Parameters
    ----------
    maps
        The maps to compare.
    zone
        Mask of the seam zone, (rows, cols), see :func:`floemap.evaluation.checks.seam_zone.seam_zone`; None where the
        seams are unknown. A side is in the zone if both of its pixels are, and elsewhere if neither is.

    Returns
    -------
    The amounts, or the reason why the check does not apply.

    Raises
    ------
    GridError
        If shapes differ.
    """
    here, n = maps.here, len(maps.grid)
    if zone is None:
        return "product.json does not say where sub-swaths meet: prepare the product again, with --overwrite"
    if zone.shape != here.shape:
        raise GridError(f"a seam zone of {zone.shape} for rasters of {here.shape}.")
    if not (zone & here).any():
        return "no seam crosses what is compared"
    sides, changes = np.zeros((n, 2, 2)), np.zeros((n, 2, 2, 2))
    for block, direction, first, second in maps.grid.sides():
        known = here[first] & here[second]
        places = known & zone[first] & zone[second], known & ~(zone[first] | zone[second])
        for place, chosen in enumerate(places):
            sides[block, place, direction] += np.count_nonzero(chosen)
            for which, classes in enumerate(maps.maps):
                changed = chosen & (classes[first] != classes[second])
                changes[block, which, place, direction] += np.count_nonzero(changed)
    return ByBlock(SeamAmounts, {}, {"sides_km": sides * maps.pixel_km, "changes_km": changes * maps.pixel_km})


@dataclass(frozen=True, eq=False)
class AngleAmounts(Amounts):
    """Areas by incidence angle.

    Attributes
    ----------
    classes
        Keys of the legend's classes.
    first_deg
        Lower end of the first bin; bins are one degree wide.
    km2
        Area by incidence, class of the reference and class of the prediction, (bins, classes, classes).
    """

    SETTINGS: ClassVar[tuple[str, ...]] = ("classes", "first_deg")
    MEASURES: ClassVar[tuple[Measure, ...]] = (
        Measure(
            key="angle_dependence", check="angle", value="angle_dependence", title="Depends on angle", unit="",
            better="lower", digits=3, main=True, harm=11,
            question="What share of the map changes class with the radar's incidence angle, not with the ice?",
            sentence="lets a share of {} of the map depend on the incidence angle",
        ),
    )  # fmt: skip

    classes: tuple[str, ...]
    first_deg: int
    km2: Floats

    def values(self) -> dict[str, Any]:
        """Return shares of classes by degree for both maps, and the share of the prediction that depends on angle."""
        by_reference, by_prediction = self.km2.sum(axis=2), self.km2.sum(axis=1)  # (bins, classes)
        total = self.km2.sum()
        whole = self.km2.sum(axis=0)
        rows = whole.sum(axis=1, keepdims=True)
        expected = by_reference @ np.divide(whole, rows, out=np.zeros_like(whole), where=rows > 0)
        area = by_reference.sum(axis=1)
        used = np.flatnonzero(area)
        return {
            "angle_dependence": ratio(float(np.abs(by_prediction - expected).sum()), 2 * float(total)),
            "share_distance": ratio(float(np.abs(by_prediction - by_reference).sum()), 2 * float(total)),
            "incidence_deg": (self.first_deg + 0.5 + used).tolist(),
            "area_km2": area[used].tolist(),
            "prediction_share": self._shares(by_prediction[used], area[used]),
            "reference_share": self._shares(by_reference[used], area[used]),
        }

    def _shares(self, km2: Floats, area: Floats) -> dict[str, list[float]]:
        return {key: (km2[:, k] / area).tolist() for k, key in enumerate(self.classes)}


def angle_counts(
    prediction: Classes, reference: Classes, incidence_deg: NDArray[np.floating[Any]], classes: int
) -> NDArray[np.int64]:
    """Count pixels by degree of incidence, class of the reference and class of the prediction.

    Parameters
    ----------
    prediction, reference
        (rows, cols) uint8 class ids with no-data 255, or a strip of them.
    incidence_deg
        Incidence angles of the same shape, degrees; pixels with NaN are not counted.
    classes
        Number of classes in the legend. Ids are not checked.

    Returns
    -------
    counts
        Number of pixels, (bins, classes, classes). Counts of strips add.
    """
    here = (prediction != IGNORE) & (reference != IGNORE) & np.isfinite(incidence_deg)
    degree = np.clip(np.floor(incidence_deg[here]).astype(np.intp) - FIRST_DEG, 0, BINS - 1)
    index = (degree * classes + reference[here]) * classes + prediction[here]
    counts = np.bincount(index, minlength=BINS * classes * classes)
    return np.asarray(counts.reshape(BINS, classes, classes), np.int64)


def angle(maps: MapPair, strips: Iterable[tuple[slice, Floats]]) -> ByBlock[AngleAmounts] | str:
    """Measure how the classes depend on the incidence angle.

    Parameters
    ----------
    maps
        The maps to compare.
    strips
        Strips of the incidence angle: the rows, and the angles in degrees, (rows, cols), NaN where unknown.

    Returns
    -------
    The amounts, or the reason why the check does not apply.

    Raises
    ------
    GridError
        If a strip does not fit the maps' grid.
    """
    n, cols = len(maps.legend), maps.here.shape[1]
    counts = np.zeros((len(maps.grid), BINS, n, n), np.int64)
    for rows, incidence_deg in strips:
        if incidence_deg.shape != (rows.stop - rows.start, cols):
            raise GridError(f"incidence of {incidence_deg.shape} for {rows.stop - rows.start} rows of {cols} pixels.")
        for block, window in maps.grid.parts(rows):
            degrees = incidence_deg[window[0].start - rows.start : window[0].stop - rows.start, window[1]]
            counts[block] += angle_counts(maps.prediction[window], maps.reference[window], degrees, n)
    if not counts.any():
        return "no pixel has an incidence angle and a class in both maps"
    settings = {"classes": keys(maps.legend), "first_deg": FIRST_DEG}
    return ByBlock(AngleAmounts, settings, {"km2": counts.astype(np.float64) * maps.pixel_km2})
