"""The check of old ice: how much of it a map misses and invents.

Old ice has survived a summer's melt, is thick and hard, and holes ships. A map that misses it invites ships in; old ice
called first-year ice is the worst case, because nothing on the map then looks wrong. Areas of omission and commission,
and the classes involved, follow from the confusion matrix.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from floemap.evaluation.checks.amounts import Amounts, ByBlock, ratio
from floemap.evaluation.checks.classes import MapPair, ice_groups, keys
from floemap.evaluation.checks.measures import Measure

NO_CLASS = "not available for this legend: it has no class of old ice alone, or several"


@dataclass(frozen=True, eq=False)
class OldIceAmounts(Amounts):
    """Areas in km2 where both maps have a class.

    Attributes
    ----------
    classes
        Keys of the legend's classes.
    old
        Id of old ice.
    first_year
        Ids of first-year ice.
    compared_km2
        Area in which both maps have a class.
    reference_old_as_km2
        Area of the reference's old ice by the prediction's class, (classes,).
    predicted_old_was_km2
        Area of the prediction's old ice by the reference's class, (classes,).
    """

    SETTINGS: ClassVar[tuple[str, ...]] = ("classes", "old", "first_year")
    MEASURES: ClassVar[tuple[Measure, ...]] = (
        Measure(
            key="old_ice_missed_km2", check="old_ice", value="omission_km2", title="Old ice missed", unit="km2",
            better="lower", digits=0, main=True, harm=1, within=("risk_understated",),
            question="How much of the reference's old ice does the map call something else?",
            sentence="misses {} of {whose} old ice",
        ),
        Measure(
            key="old_ice_as_first_year_km2", check="old_ice", value="as_first_year_km2",
            title="Old ice called first-year", unit="km2", better="lower", digits=0, main=True,
            # Old ice called nilas lowers this number, and is no improvement.
            within=("old_ice_missed_km2", "risk_understated"),
            question="How much of it does the map call first-year ice, the mistake that nothing gives away?",
        ),
        Measure(
            key="old_ice_invented_km2", check="old_ice", value="commission_km2", title="Old ice invented", unit="km2",
            better="lower", digits=0, harm=5,
            question="How much old ice does the map show where the reference has none?",
            sentence="invents {} of old ice",
        ),
    )  # fmt: skip

    classes: tuple[str, ...]
    old: int
    first_year: tuple[int, ...]
    compared_km2: float
    reference_old_as_km2: NDArray[np.floating[Any]]
    predicted_old_was_km2: NDArray[np.floating[Any]]

    def values(self) -> dict[str, Any]:
        """Return omission and commission as areas, as shares and by class."""
        omitted, invented = self._others(self.reference_old_as_km2), self._others(self.predicted_old_was_km2)
        reference, predicted = float(self.reference_old_as_km2.sum()), float(self.predicted_old_was_km2.sum())
        as_first_year = sum(float(self.reference_old_as_km2[i]) for i in self.first_year) if self.first_year else None
        omission, commission = sum(omitted.values()), sum(invented.values())
        return {
            "reference_km2": reference,
            "predicted_km2": predicted,
            "omission_km2": omission,
            "omission_share": ratio(omission, reference),
            "commission_km2": commission,
            "commission_share": ratio(commission, predicted),
            "as_first_year_km2": as_first_year,
            "as_first_year_share": None if as_first_year is None else ratio(as_first_year, reference),
            "omitted_as_km2": omitted,
            "invented_from_km2": invented,
        }

    def _others(self, km2: NDArray[np.floating[Any]]) -> dict[str, float]:
        return {k: float(a) for i, (k, a) in enumerate(zip(self.classes, km2, strict=True)) if i != self.old}


def old_ice(maps: MapPair) -> ByBlock[OldIceAmounts] | str:
    """Measure old ice that the prediction misses or invents, or return the reason why the check does not apply."""
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
