"""The twin's backscatter: the table's own laws, the literature's slopes, and what comes out of whole scenes."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from floemap.errors import ConfigError
from floemap.simulation.world.backscatter import (
    POLS,
    REFERENCE_DEG,
    TABLE,
    WATER_ROUGH_DB,
    WIND_M_S,
    Pol,
    Season,
    season,
    sigma0,
    sigma0_db,
    water_rise_db,
)
from floemap.simulation.world.surface import Surface, truth
from floemap.simulation.world.zones import scene_centre_m

REAL = Path(__file__).resolve().parents[2] / "shared" / "data" / "real"
BELGICA_BANK = REAL / "glia_belgica_bank" / "classifier_parameters.json"
ICE = [s for s in Surface if s not in (Surface.LAND, Surface.WATER)]
MONTH_OF = {Season.WINTER: 1, Season.EARLY_MELT: 5, Season.MELT: 7, Season.FREEZE_UP: 9}


def level(surface: Surface, month: int, pol: Pol, wind_m_s: float = 8.0, at_deg: float = REFERENCE_DEG) -> float:
    return float(sigma0_db(np.array([[surface]], np.uint8), at_deg, month, pol, wind_m_s)[0, 0])


def test_every_season_knows_every_surface() -> None:
    assert set(TABLE) == set(Season)
    for rows in TABLE.values():
        assert set(rows) == set(Surface)
    assert [season(m) for m in (12, 5, 6, 7, 8, 9, 10)] == [
        Season.WINTER, Season.EARLY_MELT, Season.MELT, Season.MELT, Season.MELT, Season.FREEZE_UP, Season.WINTER,
    ]  # fmt: skip


@pytest.mark.parametrize("pol", POLS)
def test_backscatter_is_linear_in_incidence_with_the_tables_slope(pol: Pol) -> None:
    angles = np.linspace(19, 47, 15, dtype=np.float32)[None]
    for when, month in MONTH_OF.items():
        for surface in Surface:
            row = TABLE[when][surface]
            db = sigma0_db(np.full((3, 15), surface, np.uint8), angles, month, pol, WIND_M_S[0])
            assert db.dtype == np.float32 and db.shape == (3, 15)
            slope, at_35 = np.polyfit(angles[0] - REFERENCE_DEG, db[1], 1)
            assert slope == pytest.approx(row.hh_slope if pol == "HH" else row.hv_slope, abs=1e-4)
            assert at_35 == pytest.approx(row.hh_db if pol == "HH" else row.hv_db, abs=1e-3)


def test_slopes_are_those_that_were_measured() -> None:
    winter = TABLE[Season.WINTER]
    # Geldsetzer and Howell 2023 (RCM); Mahmud et al. 2018; Maekynen and Karvonen 2017 (Sentinel-1, Kara Sea).
    assert winter[Surface.FIRST_YEAR].hh_slope == pytest.approx(-0.235, abs=0.02)
    assert winter[Surface.OLD].hh_slope == pytest.approx(-0.167, abs=0.02)
    assert winter[Surface.FIRST_YEAR_DEFORMED].hh_slope == pytest.approx(-0.24, abs=0.01)
    # In HV Maekynen and Karvonen have -0.16 for deformed first-year ice, the classifier of Belgica Bank (cold ice, May
    # 2022) -0.06 for deformed ice of any age, -0.275 for level and -0.044 for young ice.
    assert -0.16 <= winter[Surface.FIRST_YEAR_DEFORMED].hv_slope <= -0.06
    assert -0.16 <= winter[Surface.OLD].hv_slope <= -0.06
    assert -0.275 <= winter[Surface.FIRST_YEAR].hv_slope < winter[Surface.FIRST_YEAR_DEFORMED].hv_slope
    assert winter[Surface.FIRST_YEAR_DEFORMED].hv_slope < winter[Surface.YOUNG].hv_slope <= -0.044
    assert winter[Surface.FIRST_YEAR].hh_slope == pytest.approx(-0.25, abs=0.01)
    for rows in TABLE.values():  # water falls fastest of all, thin ice faster than old ice
        assert rows[Surface.WATER].hh_slope < min(rows[s].hh_slope for s in ICE) < rows[Surface.OLD].hh_slope


@pytest.mark.skipif(not BELGICA_BANK.exists(), reason="the parameters of the real classifier are not here")
@pytest.mark.parametrize(
    ("name", "surface"),
    [("Level ice", Surface.FIRST_YEAR), ("Level ice", Surface.FAST), ("Deformed ice", Surface.OLD),
     ("Leads with young ice", Surface.YOUNG)],
)  # fmt: skip
def test_hv_is_near_the_lines_of_a_classifier_of_real_ice(name: str, surface: Surface) -> None:
    """Within 2 dB from 25 to 45 degrees of lines that were fitted to samples of one place, north-east Greenland."""
    real = json.loads(BELGICA_BANK.read_text())["belgica_bank_ice_types_2022.pickle"]
    index = real["class_names"].index(name)
    (_, intercept), (_, slope) = real["a"][index], real["b"][index]
    for angle in (25.0, 35.0, 45.0):
        assert level(surface, 1, "HV", at_deg=angle) == pytest.approx(intercept + slope * angle, abs=2.0)


def test_winter_levels_rise_with_age_and_roughness() -> None:
    for pol in POLS:
        levels = [
            level(s, 1, pol) for s in (Surface.NEW, Surface.NILAS, Surface.FIRST_YEAR, Surface.YOUNG, Surface.OLD)
        ]
        assert levels == sorted(levels)
        assert level(Surface.FIRST_YEAR_DEFORMED, 1, pol) > level(Surface.FIRST_YEAR, 1, pol) + 3


def test_contrasts_collapse_in_summer() -> None:
    for pol in POLS:
        contrast = {m: level(Surface.OLD, m, pol) - level(Surface.FIRST_YEAR, m, pol) for m in (1, 5, 7)}
        assert contrast[7] < 0.25 * contrast[1] and contrast[1] > contrast[5] > contrast[7]
        assert level(Surface.FIRST_YEAR, 7, pol) > level(Surface.FIRST_YEAR, 1, pol)
    drop_hh, drop_hv = (level(Surface.OLD, 1, p) - level(Surface.OLD, 7, p) for p in POLS)
    assert 4 <= drop_hh <= 6 and drop_hv > drop_hh


@pytest.mark.parametrize("pol", POLS)
def test_water_rises_as_a_power_of_wind(pol: Pol) -> None:
    wind = np.linspace(*WIND_M_S, 30, dtype=np.float32)
    rise = water_rise_db(wind, pol)
    assert rise[0] == pytest.approx(0, abs=1e-4) and (np.diff(rise) > 0).all()
    per_octave = [water_rise_db(np.float32(2 * w), pol) - water_rise_db(np.float32(w), pol) for w in (2, 3, 5, 7)]
    np.testing.assert_allclose(per_octave, per_octave[0], rtol=1e-3)  # a power law: the same for each doubling
    assert level(Surface.WATER, 3, pol, WIND_M_S[1]) == pytest.approx(WATER_ROUGH_DB[pol], abs=1e-3)
    for calm, slow in ((0.0, WIND_M_S[0]), (40.0, WIND_M_S[1])):
        assert level(Surface.WATER, 3, pol, calm) == level(Surface.WATER, 3, pol, slow)


def test_wind_matters_to_water_only() -> None:
    for surface in ICE:
        assert level(surface, 1, "HH", 2.0) == level(surface, 1, "HH", 14.0)


@pytest.mark.parametrize("pol", POLS)
def test_spread_keeps_the_mean_power(pol: Pol) -> None:
    rng = np.random.default_rng(1)
    surface = np.repeat(np.array([s for s in Surface if s != Surface.LAND], np.uint8), 40_000).reshape(-1, 200)
    texture = rng.standard_normal(surface.shape, dtype=np.float32)
    power = sigma0(surface, np.float32(30), 1, pol, np.float32(7), texture)
    mean = sigma0_db(surface, np.float32(30), 1, pol, np.float32(7))
    assert power.dtype == np.float32 and (power > 0).all()
    for s in np.unique(surface):
        here = surface == s
        assert 10 * np.log10(power[here].mean()) == pytest.approx(mean[here][0], abs=0.05)
        spread = TABLE[Season.WINTER][Surface(s)].spread_db
        assert np.std(10 * np.log10(power[here])) == pytest.approx(spread, rel=0.03)
        assert s == Surface.WATER or 1 <= spread <= 2  # water's comes from the wind


@pytest.mark.parametrize("month", [2, 7])
def test_scenes_have_the_tables_means(month: int) -> None:
    """Truth, texture and table together: mean power per surface and band over a scene, as a reader would measure it."""
    x, y = scene_centre_m(month, 0)
    along = ((np.arange(700) - 350) * 570).astype(np.float32)
    xs, ys = np.meshgrid(np.float32(x) + along, np.float32(y) - along)
    shown = truth(xs, ys, month, 0)
    incidence = np.linspace(19, 46, 700, dtype=np.float32)[None]
    for pol, texture in (("HH", shown.texture_hh), ("HV", shown.texture_hv)):
        power = sigma0(shown.surface, incidence, month, pol, shown.wind_m_s, texture)  # type: ignore[arg-type]
        expected = 10 ** (sigma0_db(shown.surface, incidence, month, pol, shown.wind_m_s) / 10)  # type: ignore[arg-type]
        for s in set(np.unique(shown.surface)) - {Surface.LAND}:
            here = shown.surface == s
            if here.sum() > 2000:
                assert abs(10 * np.log10((power[here] / expected[here]).mean())) < 0.3, (pol, Surface(s).name)


def test_bad_input_is_refused() -> None:
    water = np.full((2, 2), Surface.WATER, np.uint8)
    with pytest.raises(ConfigError, match="no wind speed"):
        sigma0_db(water, 30.0, 1, "HH")
    with pytest.raises(ConfigError, match="code 77"):
        sigma0_db(np.full((2, 2), 77, np.uint8), 30.0, 1, "HH", 5.0)
    with pytest.raises(ConfigError, match="'VV'"):
        sigma0_db(water, 30.0, 1, "VV", 5.0)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="no month 13"):
        sigma0_db(water, 30.0, 13, "HH", 5.0)
