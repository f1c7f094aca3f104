"""C-band backscatter of the twin's surfaces: one table, and functions of arrays.

The table holds mean sigma0, averaged *as power* over a surface, in dB: what a radar product shows when noise is
subtracted and power is averaged before the logarithm. Spatial spread within a surface is log-normal about that mean, so
the mean of the dB values lies lower by 0.115 spread^2 dB, 0.2 to 0.3 dB here.

Sources. Slopes with incidence angle: Mahmud et al. 2018, IEEE TGRS 56 (HH in winter, first-year -0.22, multi-year -0.16
dB per degree); Mäkynen and Karvonen 2017, IEEE TGRS 55 (Sentinel-1, Kara Sea in winter: deformed first-year HH -0.24,
HV -0.16, level HH -0.25); Geldsetzer and Howell 2023, IEEE TGRS 61 (HH, first-year -0.235, second-year -0.208,
multi-year -0.167, and close to that in early melt). Levels: typical values for Sentinel-1 EW, not measurements; in HV,
and for young ice, moved toward one real place, Belgica Bank in April and May 2022, by the lines of a classifier that
was trained there after Lohse et al. 2020, Annals of Glaciology 61 (docs/simulation.md says from what to what). In
summer old ice loses 4 to 6 dB in HH and more in HV while first-year ice nears it (Onstott 1992, in Microwave Remote
Sensing of Sea Ice, AGU Monograph 68). Water rises as a power of the wind speed, as in the CMOD model functions
(Hersbach et al. 2007, J. Geophys. Res. 112), here without their dependence on direction.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache
from types import MappingProxyType
from typing import Literal

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray

from floemap.errors import ConfigError
from floemap.simulation.world.surface import Surface
from floemap.simulation.world.texture import Bytes, Floats

Pol = Literal["HH", "HV"]
POLS: tuple[Pol, Pol] = ("HH", "HV")
#: Incidence angle, degrees, at which the table's levels hold.
REFERENCE_DEG = 35.0
#: Range of wind speeds, m/s, of the levels of water; slower and faster winds are set to its ends.
WIND_M_S = (2.0, 15.0)


class Season(StrEnum):
    """Seasons of the table."""

    WINTER = "winter"
    EARLY_MELT = "early melt"
    MELT = "melt"
    FREEZE_UP = "freeze-up"


def season(month: int) -> Season:
    """Return the season of a month: melt June to August, early melt in May, freeze-up in September, else winter.

    Raises
    ------
    ConfigError
        If the month is not one of 1 to 12.
    """
    if month not in range(1, 13):
        raise ConfigError(f"there is no month {month!r}.", hint="Months are 1 to 12.")
    return {5: Season.EARLY_MELT, 6: Season.MELT, 7: Season.MELT, 8: Season.MELT, 9: Season.FREEZE_UP}.get(
        month, Season.WINTER
    )


@dataclass(frozen=True)
class Row:
    """Backscatter of a surface: level at 35 degrees, dB, and slope with incidence angle, dB per degree; spread, dB."""

    hh_db: float
    hh_slope: float
    hv_db: float
    hv_slope: float
    spread_db: float


_WINTER: dict[Surface, Row] = {
    Surface.LAND: Row(-10.5, -0.12, -17.5, -0.10, 3.5),
    Surface.NEW: Row(-24.0, -0.30, -33.0, -0.10, 1.2),
    Surface.NILAS: Row(-21.0, -0.28, -32.0, -0.10, 1.2),
    Surface.YOUNG: Row(-13.5, -0.20, -26.5, -0.10, 1.5),
    Surface.FIRST_YEAR: Row(-17.5, -0.25, -31.0, -0.20, 1.3),
    Surface.FIRST_YEAR_DEFORMED: Row(-14.0, -0.24, -23.5, -0.12, 1.6),
    Surface.FAST: Row(-17.5, -0.25, -31.0, -0.20, 1.3),
    Surface.OLD: Row(-11.0, -0.17, -20.0, -0.09, 1.5),
    # At the slowest wind of WIND_M_S; faster wind raises the level.
    Surface.WATER: Row(-28.0, -0.60, -34.0, -0.10, 0.5),
}
_MELT: dict[Surface, Row] = _WINTER | {
    Surface.YOUNG: Row(-15.5, -0.25, -26.5, -0.15, 1.4),
    Surface.FIRST_YEAR: Row(-16.5, -0.24, -27.0, -0.15, 1.4),
    Surface.FIRST_YEAR_DEFORMED: Row(-15.0, -0.23, -25.0, -0.15, 1.5),
    Surface.FAST: Row(-16.5, -0.24, -27.0, -0.15, 1.4),
    Surface.OLD: Row(-16.0, -0.20, -25.5, -0.14, 1.5),
}
_EARLY_MELT: dict[Surface, Row] = _WINTER | {
    Surface.FIRST_YEAR: Row(-17.0, -0.24, -30.5, -0.19, 1.3),
    Surface.FAST: Row(-17.0, -0.24, -30.5, -0.19, 1.3),
    Surface.OLD: Row(-12.5, -0.18, -21.5, -0.10, 1.5),
}
_FREEZE_UP: dict[Surface, Row] = _WINTER | {
    Surface.FIRST_YEAR: Row(-17.0, -0.24, -29.0, -0.18, 1.3),
    Surface.FIRST_YEAR_DEFORMED: Row(-14.5, -0.24, -24.0, -0.13, 1.5),
    Surface.FAST: Row(-17.0, -0.24, -29.0, -0.18, 1.3),
    Surface.OLD: Row(-13.0, -0.19, -22.5, -0.11, 1.5),
}

#: The one table: season, surface, row.
TABLE: Mapping[Season, Mapping[Surface, Row]] = MappingProxyType(
    {
        Season.WINTER: MappingProxyType(_WINTER),
        Season.EARLY_MELT: MappingProxyType(_EARLY_MELT),
        Season.MELT: MappingProxyType(_MELT),
        Season.FREEZE_UP: MappingProxyType(_FREEZE_UP),
    }
)
#: Level of water at 35 degrees in the fastest wind of WIND_M_S, by band, dB.
WATER_ROUGH_DB: Mapping[Pol, float] = MappingProxyType({"HH": -17.0, "HV": -26.0})


@lru_cache(maxsize=32)
def _luts(month: int, pol: Pol) -> tuple[Floats, Floats, Floats]:
    """Return level, slope and spread by surface code, (256,) float32 each."""
    if pol not in POLS:
        raise ConfigError(f"the table has no band {pol!r}.", hint="Bands are HH and HV.")
    level, slope, spread = (np.full(256, np.nan, np.float32) for _ in range(3))
    for surface, row in TABLE[season(month)].items():
        level[surface] = row.hh_db if pol == "HH" else row.hv_db
        slope[surface] = row.hh_slope if pol == "HH" else row.hv_slope
        spread[surface] = row.spread_db
    return level, slope, spread


def water_rise_db(wind_m_s: ArrayLike, pol: Pol) -> Floats:
    """Return the rise of water above its level in the slowest wind, dB, any shape: a power law of wind speed."""
    low, high = WIND_M_S
    bottom = TABLE[Season.WINTER][Surface.WATER]
    rise = WATER_ROUGH_DB[pol] - (bottom.hh_db if pol == "HH" else bottom.hv_db)
    wind = np.clip(np.asarray(wind_m_s, np.float32), np.float32(low), np.float32(high))
    return np.asarray(np.float32(rise / np.log(high / low)) * np.log(wind * np.float32(1 / low)), dtype=np.float32)


def sigma0_db(
    surface: ArrayLike, incidence_deg: ArrayLike, month: int, pol: Pol, wind_m_s: ArrayLike | None = None
) -> Floats:
    """Return the mean sigma0 of surfaces, dB float32; the arguments broadcast.

    Parameters
    ----------
    surface
        Codes of :class:`~floemap.simulation.world.surface.Surface`, uint8.
    incidence_deg
        Incidence angles, degrees.
    month
        1 to 12.
    pol
        "HH" or "HV".
    wind_m_s
        Wind speed, needed where there is water.

    Raises
    ------
    ConfigError
        If the month or band does not exist, a code is not that of a surface, or there is water and no wind.
    """
    codes = np.asarray(surface, np.uint8)
    if codes.size and int(codes.max()) >= len(Surface):
        raise ConfigError(
            f"the surface code {int(codes.max())} does not exist.", hint=f"Codes are 0 to {len(Surface) - 1}."
        )
    level, slope, _ = _luts(month, pol)
    db = _pick(level, codes) + _pick(slope, codes) * (np.asarray(incidence_deg, np.float32) - np.float32(REFERENCE_DEG))
    water = codes == Surface.WATER
    if water.any():
        if wind_m_s is None:
            raise ConfigError("there is water among the surfaces and no wind speed.", hint="Give wind_m_s.")
        db = db + water * water_rise_db(wind_m_s, pol)
    return np.asarray(db, dtype=np.float32)


def sigma0(
    surface: Bytes,
    incidence_deg: ArrayLike,
    month: int,
    pol: Pol,
    wind_m_s: ArrayLike,
    texture: ArrayLike,
) -> Floats:
    """Return sigma0 with its spread within surfaces, linear power, float32; arguments as in :func:`sigma0_db`.

    `texture` is in standard deviations (``Truth.texture_hh`` or ``texture_hv``). Its mean power over a surface is the
    table's if the texture is normal. Speckle and noise are not included. The function needs some 20 bytes a pixel, so
    call it on blocks; several threads may do so.
    """
    _, _, spread = _luts(month, pol)
    db = sigma0_db(surface, incidence_deg, month, pol, wind_m_s)
    spread_db = _pick(spread, surface)
    db += spread_db * np.asarray(texture, np.float32)
    per_db = np.float32(np.log(10) / 10)
    db -= np.float32(0.5 * np.log(10) / 10) * spread_db * spread_db
    return np.asarray(np.exp(db * per_db), dtype=np.float32)


def _pick(table: Floats, codes: NDArray[np.uint8]) -> Floats:
    if codes.ndim != 2:
        return table[codes]
    return np.asarray(cv2.LUT(np.ascontiguousarray(codes), table), dtype=np.float32)
