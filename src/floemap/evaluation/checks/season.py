"""The check of the season: new ice, nilas and young ice while ice melts.

These types are up to 30 cm thick. They grow from open water within days to weeks of frost, and disappear in the first
weeks of melt. In the melt season, a map that shows them is wrong.

The season. On average melt begins in the marginal seas in the first week of June and reaches the pole by 19 June, and
freezing begins at the pole on 16 August (I. Rigor, R. Colony, S. Martin, 2000, J. Climate 13, 896-914). T. Markus,
J. Stroeve, J. Miller, 2009, J. Geophys. Res. 114, C12024, doi:10.1029/2009JC005436, give melt onset and freeze-up by
region and year, with trends to longer melt. The seasons in :data:`MELT_SEASONS` are shorter on purpose: they begin one
to two weeks later, when the ice that grew in spring has melted, and end no later than freezing begins. In the south,
ice advances from late February on (S. Stammerjohn et al., 2008, J. Geophys. Res. 113, C03S90,
doi:10.1029/2007JC004269); the table ends a month earlier. The table is a simple rule and no climatology. Where polynyas
freeze in summer, as on Antarctic coasts, use the air temperature.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from types import MappingProxyType
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from floemap.errors import GridError
from floemap.evaluation.checks.amounts import Amounts, ByBlock, ratio
from floemap.evaluation.checks.classes import Bools, MapPair, ice_groups, keys
from floemap.evaluation.checks.measures import Measure

Day = tuple[int, int]

#: Melt seasons: latitude (degrees, without sign) from which a season applies poleward, first and last (month, day).
MELT_SEASONS: Mapping[Literal["north", "south"], tuple[tuple[float, Day, Day], ...]] = MappingProxyType(
    {
        "north": ((80.0, (7, 1), (8, 15)), (70.0, (6, 15), (8, 31)), (0.0, (6, 15), (9, 15))),
        "south": ((70.0, (12, 15), (1, 15)), (0.0, (12, 15), (1, 31))),
    }
)
#: Freezing point of sea water with 33 to 34 g/kg of salt, degrees Celsius.
FREEZING_C = -1.8

NO_CLASSES = "not available for this legend: it has no class of ice up to 30 cm thick alone"
NOT_MELTING = "nothing that is compared lies in its melt season"


def in_melt_season(day: date, latitude_deg: NDArray[Any] | float) -> Bools:
    """Return where a day lies in the melt season of :data:`MELT_SEASONS`.

    Parameters
    ----------
    day
        Date in UTC.
    latitude_deg
        Latitudes, an array of any shape; south is negative.
    """
    latitude = np.asarray(latitude_deg, np.float64)
    melting = np.zeros(latitude.shape, bool)
    undecided = np.ones(latitude.shape, bool)
    for hemisphere, bands in MELT_SEASONS.items():
        here = latitude >= 0 if hemisphere == "north" else latitude < 0
        for poleward_of, first, last in bands:
            band = undecided & here & (np.abs(latitude) >= poleward_of)
            melting[band] = _between((day.month, day.day), first, last)
            undecided &= ~band
    return melting


def _between(day: Day, first: Day, last: Day) -> bool:
    """Return whether a day of the year lies in a season, ends included. The season may span New Year."""
    return first <= day <= last if first <= last else day >= first or day <= last


def with_air_temperature(melting: Bools, air_temperature_c: NDArray[np.floating[Any]]) -> Bools:
    """Return the mask of melt, decided by air temperature where it is known: melt where above :data:`FREEZING_C`.

    Parameters
    ----------
    melting
        Mask of melt by date and latitude, (rows, cols).
    air_temperature_c
        (rows, cols), degrees Celsius, NaN where unknown. Young ice takes weeks to grow and to melt, so use the mean of
        the two weeks before the scene rather than the value at its time.

    Raises
    ------
    GridError
        If the shapes differ.
    """
    if melting.shape != air_temperature_c.shape:
        raise GridError(f"air temperature of {air_temperature_c.shape} for a raster of {melting.shape}.")
    return np.where(np.isnan(air_temperature_c), melting, air_temperature_c > FREEZING_C)


@dataclass(frozen=True, eq=False)
class SeasonAmounts(Amounts):
    """Areas in km2 of the part of a scene that is in its melt season and has a class in both maps.

    Attributes
    ----------
    classes
        Keys of the types that are out of season.
    melting_km2
        Area of the whole part.
    predicted_km2, reference_km2
        Area of each of `classes` in the prediction and in the reference, (classes,).
    both_km2
        Area in which both maps show one of `classes`.
    """

    SETTINGS: ClassVar[tuple[str, ...]] = ("classes",)
    MEASURES: ClassVar[tuple[Measure, ...]] = (
        Measure(
            key="out_of_season_km2", check="season", value="invented_km2", title="Out of season", unit="km2",
            better="lower", digits=0, main=True, harm=4,
            question="How much new ice, nilas and young ice does the map show while ice melts, where the reference has "
            "none of it?",
            sentence="invents {} of new, nilas and young ice in the melt season",
        ),
    )  # fmt: skip

    classes: tuple[str, ...]
    melting_km2: float
    predicted_km2: NDArray[np.floating[Any]]
    reference_km2: NDArray[np.floating[Any]]
    both_km2: float

    def values(self) -> dict[str, Any]:
        """Return areas out of season, the area where only the map shows such ice, and ratios."""
        predicted, reference = float(self.predicted_km2.sum()), float(self.reference_km2.sum())
        return {
            "melting_km2": self.melting_km2,
            "predicted_km2": predicted,
            "reference_km2": reference,
            "invented_km2": predicted - self.both_km2,
            "ratio": ratio(predicted, reference),
            "share_of_melting": ratio(predicted, self.melting_km2),
            "invented_share_of_melting": ratio(predicted - self.both_km2, self.melting_km2),
            "predicted_km2_by_class": dict(zip(self.classes, self.predicted_km2.tolist(), strict=True)),
            "reference_km2_by_class": dict(zip(self.classes, self.reference_km2.tolist(), strict=True)),
        }


def season(maps: MapPair, melting: Bools | bool) -> ByBlock[SeasonAmounts] | str:
    """Measure new ice, nilas and young ice in the melt season.

    Parameters
    ----------
    maps
        The maps to compare.
    melting
        Mask of the melt season, (rows, cols), or one value for all pixels.

    Returns
    -------
    The amounts, or the reason why the check does not apply.

    Raises
    ------
    GridError
        If shapes differ.
    """
    forming = ice_groups(maps.legend).forming
    if not forming:
        return NO_CLASSES
    if np.shape(melting) not in ((), maps.here.shape):
        raise GridError(f"a melt season of {np.shape(melting)} for rasters of {maps.here.shape}.")
    here = maps.here & melting
    if not here.any():
        return NOT_MELTING
    n = len(maps.grid)
    all_px, both_px = np.zeros(n), np.zeros(n)
    of_class = np.zeros((2, n, len(forming)))
    for block, window in maps.grid.pieces():
        found = [classes[window][here[window]] for classes in maps.maps]
        all_px[block] += len(found[0])
        both_px[block] += np.count_nonzero(np.isin(found[0], forming) & np.isin(found[1], forming))
        for i, classes in enumerate(found):
            of_class[i, block] += np.bincount(classes, minlength=256)[list(forming)]
    km2 = maps.pixel_km2
    amounts = {
        "melting_km2": all_px * km2,
        "predicted_km2": of_class[0] * km2,
        "reference_km2": of_class[1] * km2,
        "both_km2": both_px * km2,
    }
    return ByBlock(SeasonAmounts, {"classes": tuple(keys(maps.legend)[i] for i in forming)}, amounts)
