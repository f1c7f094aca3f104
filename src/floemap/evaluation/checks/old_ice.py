"""Old ice missed and invented.

Old ice has survived a summer's melt, is thick and hard, and is what holes ships. A map that loses it invites them in;
lost to first-year ice is the worst, because nothing on the map then looks wrong. Areas of omission and commission, and
as what, straight from the confusion matrix.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from floemap.evaluation.checks.amounts import Amounts, ByBlock, ratio
from floemap.evaluation.checks.classes import MapPair, ice_groups, keys

NO_CLASS = "the legend has no old ice"


@dataclass(frozen=True, eq=False)
class OldIceAmounts(Amounts):
    """Areas in km2 where both maps have a class.

    Attributes
    ----------
    classes
        Keys of the legend.
    old
        Id of old ice.
    first_year
        Ids of first-year ice.
    compared_km2
        All of it.
    reference_old_as_km2
        Old ice of the reference by what the prediction calls it, (classes,).
    predicted_old_was_km2
        Old ice of the prediction by what the reference calls it, (classes,).
    """

    SETTINGS: ClassVar[tuple[str, ...]] = ("classes", "old", "first_year")

    classes: tuple[str, ...]
    old: int
    first_year: tuple[int, ...]
    compared_km2: float
    reference_old_as_km2: NDArray[np.floating[Any]]
    predicted_old_was_km2: NDArray[np.floating[Any]]

    def values(self) -> dict[str, Any]:
        """Omission and commission, as areas, shares and by class."""
        omitted, invented = self._others(self.reference_old_as_km2), self._others(self.predicted_old_was_km2)
        reference, predicted = float(self.reference_old_as_km2.sum()), float(self.predicted_old_was_km2.sum())
        as_first_year = sum(float(self.reference_old_as_km2[i]) for i in self.first_year)
        omission, commission = sum(omitted.values()), sum(invented.values())
        return {
            "reference_km2": reference,
            "predicted_km2": predicted,
            "omission_km2": omission,
            "omission_share": ratio(omission, reference),
            "commission_km2": commission,
            "commission_share": ratio(commission, predicted),
            "as_first_year_km2": as_first_year,
            "as_first_year_share": ratio(as_first_year, reference),
            "omitted_as_km2": omitted,
            "invented_from_km2": invented,
        }

    def _others(self, km2: NDArray[np.floating[Any]]) -> dict[str, float]:
        return {k: float(a) for i, (k, a) in enumerate(zip(self.classes, km2, strict=True)) if i != self.old}


def old_ice(maps: MapPair) -> ByBlock[OldIceAmounts] | str:
    """Measure old ice that the prediction misses or invents; or say why that does not apply."""
    groups = ice_groups(maps.legend)
    if groups.old is None:
        return NO_CLASS
    km2 = maps.grid.confusions(maps.reference, maps.prediction, len(maps.legend)) * maps.pixel_km2
    settings = {"classes": keys(maps.legend), "old": groups.old, "first_year": groups.first_year}
    amounts = {
        "compared_km2": km2.sum(axis=(1, 2)),
        "reference_old_as_km2": km2[:, groups.old],
        "predicted_old_was_km2": km2[:, :, groups.old],
    }
    return ByBlock(OldIceAmounts, settings, amounts)
