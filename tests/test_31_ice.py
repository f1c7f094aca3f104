"""The twin's truth: one world whoever asks, zones and floes as an ice analyst would expect them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy import ndimage

from floemap.errors import ConfigError
from floemap.legend import IGNORE, SIX_CLASSES
from floemap.simulation.world.floes import concentration, floes, fragility, leads
from floemap.simulation.world.surface import SURFACE_CLASS, SURFACE_STAGE, Surface, Truth, World, classes, truth
from floemap.simulation.world.texture import fabric_texture, lookup, noise_texture, ridge_texture, rubble_texture
from floemap.simulation.world.zones import (
    MONTHS,
    WORLD_CRS,
    Lattice,
    Zones,
    month_state,
    scene_centre_m,
    zones,
)

SEED = 0


def positions(
    month: int, n: int, step_m: float, off_m: tuple[float, float] = (0.0, 0.0)
) -> tuple[np.ndarray, np.ndarray]:
    """A square of positions around the centre of a month's scene, (n, n) each."""
    x, y = scene_centre_m(month, SEED)
    along = (np.arange(n) - n / 2) * step_m
    xs, ys = np.meshgrid((x + off_m[0] + along).astype(np.float32), (y + off_m[1] - along).astype(np.float32))
    return xs, ys


@pytest.fixture(scope="module")
def january() -> Truth:
    return truth(*positions(1, 400, 1000), 1, SEED)


@pytest.fixture(scope="module")
def july() -> Truth:
    return truth(*positions(7, 400, 1000), 7, SEED)


# --- one world -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("spacing_m", [40.0, 400.0])
def test_truth_does_not_depend_on_blocks_or_bounds(spacing_m: float) -> None:
    x, y = positions(1, 120, spacing_m, (10e3, 0))
    wide = (x.min() - 9e3, y.min() - 7e3, x.max() + 5e3, y.max() + 11e3)
    whole = World(1, SEED, wide, spacing_m).truth(x, y)
    cut = slice(37, 90), slice(11, 101)
    tight = (x[cut].min(), y[cut].min(), x[cut].max(), y[cut].max())
    part = World(1, SEED, tight, spacing_m).truth(x[cut], y[cut])
    assert len(np.unique(whole.surface)) > 2
    for name in ("surface", "wind_m_s", "texture_hh", "texture_hv"):
        a, b = getattr(whole, name)[cut], getattr(part, name)
        if name == "surface":  # float32 positions on two lattices round differently, so a rare edge moves by a pixel
            assert (a != b).mean() < 1e-3
        else:
            assert np.quantile(abs(a - b), 0.99) < 1e-2


def test_blocks_of_one_world_are_exact() -> None:
    x, y = positions(7, 120, 40.0)
    world = World(7, SEED, (x.min(), y.min(), x.max(), y.max()))
    whole = world.truth(x, y)
    for rows in (slice(0, 50), slice(50, 120)):
        part = world.truth(x[rows], y[rows])
        np.testing.assert_array_equal(part.surface, whole.surface[rows])
        np.testing.assert_array_equal(part.texture_hv, whole.texture_hv[rows])


def test_fine_and_coarse_scenes_see_the_same_world() -> None:
    x, y = positions(1, 300, 200.0)
    bounds = (x.min(), y.min(), x.max(), y.max())
    on_lattice = World(1, SEED, bounds, 40.0).truth(x, y)
    direct = World(1, SEED, bounds, 400.0).truth(x, y)
    assert (on_lattice.surface == direct.surface).mean() > 0.95


def test_seed_and_month_decide_everything(january: Truth) -> None:
    again = truth(*positions(1, 400, 1000), 1, SEED)
    np.testing.assert_array_equal(again.surface, january.surface)
    x, y = positions(1, 200, 2000)
    other = truth(x, y, 1, SEED + 1).surface
    assert (other != january.surface[::2, ::2]).mean() > 0.2
    march = truth(x, y, 3, SEED)
    land = january.surface[::2, ::2] == Surface.LAND
    np.testing.assert_array_equal(march.surface == Surface.LAND, land)  # the land stays where it is
    assert (march.surface != january.surface[::2, ::2])[~land].mean() > 0.2


def test_arrays(january: Truth) -> None:
    assert january.surface.dtype == np.uint8
    assert set(np.unique(january.surface)) <= {int(s) for s in Surface}
    for field in (january.wind_m_s, january.texture_hh, january.texture_hv):
        assert field.dtype == np.float32 and field.shape == january.surface.shape and np.isfinite(field).all()
    assert january.wind_m_s.min() >= 1 and january.wind_m_s.max() <= 15
    for texture in (january.texture_hh, january.texture_hv):
        sea = texture[january.surface != Surface.LAND]
        assert abs(sea.mean()) < 0.15 and 0.75 < sea.std() < 1.15
    ice = (january.surface >= Surface.YOUNG) & (january.surface != Surface.FAST)
    assert 0.5 < np.corrcoef(january.texture_hh[ice], january.texture_hv[ice])[0, 1] < 0.95


@pytest.mark.parametrize("month", [0, 13])
def test_no_such_month(month: int) -> None:
    x, y = positions(1, 10, 400)
    with pytest.raises(ConfigError, match=f"no month {month}"):
        truth(x, y, month, SEED)


def test_bad_positions_are_refused() -> None:
    x, y = positions(1, 10, 400)
    world = World(1, SEED, (x.min(), y.min(), x.max(), y.max()), 400)
    with pytest.raises(ConfigError, match="outside"):
        world.truth(x + 50_000, y)
    with pytest.raises(ConfigError, match="rows"):
        world.truth(x[0], y[0])
    with pytest.raises(ConfigError, match="outside"):
        world.truth(np.where(x == x[0, 0], np.nan, x), y)
    with pytest.raises(ConfigError, match="finite"):
        truth(np.where(x == x[0, 0], np.nan, x), y, 1, SEED)
    with pytest.raises(ConfigError, match="bounds"):
        World(1, SEED, (0, 0, 0, 10))
    with pytest.raises(ConfigError, match="spacing"):
        World(1, SEED, (0, 0, 1000, 1000), 0.0)


# --- tables --------------------------------------------------------------------------------------------------------


def test_every_surface_has_the_class_of_its_stage() -> None:
    assert set(SURFACE_STAGE) == set(SURFACE_CLASS) == set(Surface)
    for surface, stage in SURFACE_STAGE.items():
        if stage is not None:
            assert SIX_CLASSES.stage_to_class[stage] == SURFACE_CLASS[surface]
    assert SURFACE_CLASS[Surface.WATER] == SIX_CLASSES.water
    assert SURFACE_CLASS[Surface.LAND] == IGNORE
    codes = np.array([list(Surface)], np.uint8)
    assert classes(codes).tolist() == [[SURFACE_CLASS[s] for s in Surface]]


def test_zones_of_a_month_are_in_order() -> None:
    assert sorted(MONTHS) == list(range(1, 13))
    for month in MONTHS.values():
        assert list(month.borders_km) == sorted(month.borders_km) and month.fast_km < month.old_km
        assert 0 < month.pack <= 1


def test_scenes_lie_off_east_greenland() -> None:
    import pyproj

    to_geo = pyproj.Transformer.from_crs(WORLD_CRS, "EPSG:4326", always_xy=True)
    for month in range(1, 13):
        lon, lat = to_geo.transform(*scene_centre_m(month, SEED))
        assert -25 < lon < 5 and 72 < lat < 80


# --- what an analyst expects ---------------------------------------------------------------------------------------


def test_zones_follow_each_other_from_the_coast(january: Truth) -> None:
    x, y = positions(1, 400, 1000)
    from_coast = x - 0.45 * y  # the coast runs along this
    order = [Surface.LAND, Surface.FAST, Surface.OLD, Surface.FIRST_YEAR, Surface.YOUNG, Surface.NEW, Surface.WATER]
    middles = [np.median(from_coast[january.surface == s]) for s in order]
    assert middles == sorted(middles)


def test_no_ice_grows_in_summer(january: Truth, july: Truth) -> None:
    for thin in (Surface.NEW, Surface.NILAS):
        assert (january.surface == thin).any()
    for month in (6, 7, 8):
        surface = july.surface if month == 7 else truth(*positions(month, 150, 2600), month, SEED).surface
        assert not np.isin(surface, (Surface.NEW, Surface.NILAS)).any()
        assert (surface == Surface.OLD).any() and (surface == Surface.WATER).any()


def test_ice_reaches_far_in_spring_and_least_in_september() -> None:
    share = {}
    for month in (3, 9):
        x, y = scene_centre_m(1, SEED)
        along = (np.arange(120) - 60) * 4000.0
        surface = truth(
            *np.meshgrid((x + along).astype(np.float32), (y - along).astype(np.float32)), month, SEED
        ).surface
        share[month] = (surface > Surface.WATER).mean()
    assert share[3] > 1.4 * share[9]


def test_water_within_the_pack_is_calmer_than_the_open_sea(july: Truth) -> None:
    water = july.surface == Surface.WATER
    ice_around: np.ndarray = ndimage.uniform_filter((july.surface > Surface.WATER).astype(np.float32), 21)
    assert july.wind_m_s[water & (ice_around > 0.5)].mean() < 0.75 * july.wind_m_s[water & (ice_around == 0)].mean()


# --- floes ---------------------------------------------------------------------------------------------------------


def uniform_pack(tracer_km: float, n: int, step_m: float) -> tuple[Zones, np.ndarray, np.ndarray]:
    """Zones in which all the ice came from one distance off the coast, and positions within."""
    x, y = positions(7, n, step_m)
    lattice = Lattice.over((x.min(), y.min(), x.max(), y.max()), 1000.0, 60_000.0)
    field = np.full((lattice.rows, lattice.cols), tracer_km, np.float32)
    return Zones(7, lattice, field, field, field, field, field), x, y


def floe_sizes_m(inside_m: np.ndarray, step_m: float) -> np.ndarray:
    """Diameters of the circles with the areas of the connected floes."""
    labels, count = ndimage.label(inside_m > 0)
    return np.sqrt(np.bincount(labels.ravel(), minlength=count + 1)[1:] * 4 / np.pi) * step_m


def exponent(sizes_m: np.ndarray, smallest_m: float, largest_m: float) -> float:
    """Exponent a of N(>L) ~ L^-a by a fit in logarithms over a range of sizes."""
    edges = np.geomspace(smallest_m, largest_m, 9)
    more = np.array([(sizes_m > e).sum() for e in edges])
    assert more[-1] >= 5
    return float(-np.polyfit(np.log(edges), np.log(more), 1)[0])


def test_floe_sizes_follow_a_power_law() -> None:
    july_state = month_state(7)
    inner, x, y = uniform_pack(july_state.new_km - 70, 1800, 200.0)
    # Gaps everywhere, so that each floe is an island.
    state = replace(july_state, pack=0.75, torn_km=1.0)
    sizes = floe_sizes_m(floes(inner, state, SEED, x, y).inside_m, 200.0)
    a = exponent(sizes, 1500.0, 15_000.0)
    expected = 2 + np.log2(fragility(state, np.array([july_state.new_km - 70], np.float32))[0])
    assert 1.1 < a < 2.1  # 1.5 +- 0.5, as floes in summer are found to have
    assert abs(a - expected) < 0.4
    # A power law and no exponential: the slope is the same for small and for large floes.
    assert abs(exponent(sizes, 1500.0, 5000.0) - exponent(sizes, 5000.0, 15_000.0)) < 0.6
    assert sizes.max() > 20_000


def test_floes_are_smaller_near_the_edge() -> None:
    state = replace(month_state(7), pack=0.75, torn_km=1.0)
    largest = []
    for inside_km in (80.0, 20.0, 4.0):
        pack, x, y = uniform_pack(state.new_km - inside_km, 700, 200.0)
        largest.append(np.quantile(floe_sizes_m(floes(pack, state, SEED, x, y).inside_m, 200.0), 0.99))
    assert largest[0] > 1.5 * largest[1] > 1.5 * 1.5 * largest[2]


@pytest.mark.parametrize("wanted", [0.3, 0.6, 0.85])
def test_floes_cover_the_concentration(wanted: float) -> None:
    state = replace(month_state(7), torn_km=1.0)
    pack, x, y = uniform_pack(state.new_km - 60, 700, 400.0)
    state = replace(state, pack=wanted)
    streaks = lookup(noise_texture(SEED, 1, 1024, 512, 4, 3.0), x, y, 160.0, 48)
    mean = concentration(state, np.full_like(x, state.new_km - 60), streaks).mean()
    covered = (floes(pack, state, SEED, x, y).inside_m > 0).mean()
    assert abs(covered - mean) < 0.05


def test_a_floe_belongs_to_one_zone() -> None:
    state = replace(month_state(7), pack=0.75)
    x, y = positions(7, 500, 200.0)
    here = zones(7, SEED, (x.min(), y.min(), x.max(), y.max()))
    f = floes(here, state, SEED, x, y)
    labels, count = ndimage.label(f.inside_m > 300)
    index = np.arange(1, count + 1)
    spread = ndimage.maximum(f.rank, labels, index) - ndimage.minimum(f.rank, labels, index)
    size = np.bincount(labels.ravel(), minlength=count + 1)[1:]
    assert np.average(spread < 1e-3, weights=size) > 0.8


# --- edge, leads ---------------------------------------------------------------------------------------------------


def edge_length(ice: np.ndarray) -> int:
    return int((ice[1:] != ice[:-1]).sum() + (ice[:, 1:] != ice[:, :-1]).sum())


def test_eddies_tear_the_edge_and_keep_the_ice(monkeypatch: pytest.MonkeyPatch) -> None:
    x, y = scene_centre_m(7, SEED)
    bounds = (x - 150e3, y - 200e3, x + 150e3, y + 200e3)
    ice = {}
    for strength in (0.0, 1.3):
        still = dict(MONTHS) | {7: replace(MONTHS[7], eddies=strength)}
        monkeypatch.setattr("floemap.simulation.world.zones.MONTHS", still)
        here = zones(7, SEED, bounds)
        ice[strength] = here.tracer_km < MONTHS[7].new_km
    assert edge_length(ice[1.3]) > 2.0 * edge_length(ice[0.0])
    assert abs(ice[1.3].mean() / ice[0.0].mean() - 1) < 0.05  # the flow has no divergence


def test_leads_are_long_and_narrow() -> None:
    x, y = scene_centre_m(1, SEED)
    lattice = Lattice.over((x - 60e3, y - 60e3, x + 60e3, y + 60e3), 160.0, 0.0)
    lead = leads(1, SEED, lattice, 700.0).inside_m > 0
    assert 0.001 < lead.mean() < 0.05
    labels, _ = ndimage.label(lead, np.ones((3, 3)))
    longest = max(max(s[0].stop - s[0].start, s[1].stop - s[1].start) for s in ndimage.find_objects(labels))
    assert longest * 160 > 20_000
    widest = ndimage.distance_transform_edt(lead).max() * 160
    assert widest < 2_500


# --- textures ------------------------------------------------------------------------------------------------------


def test_textures_are_periodic_and_normalised() -> None:
    tile = noise_texture(3, 1, 256, 64, 4, 3.0)
    assert abs(tile.mean()) < 1e-3 and abs(tile.std() - 1) < 1e-3
    steps = abs(np.diff(tile, axis=0)).max()
    assert abs(tile[0] - tile[-1]).max() <= steps  # no jump where it repeats
    x, y = np.meshgrid(np.linspace(-9e5, 9e5, 50, dtype=np.float32), np.linspace(-2e6, -1e6, 40, dtype=np.float32))
    here = lookup(tile, x, y, 100.0, 5)
    np.testing.assert_allclose(lookup(tile, x + 256 * 100, y - 512 * 100, 100.0, 5), here, atol=0.02)
    fabric = fabric_texture(3, 40, 512)
    np.testing.assert_allclose(fabric[..., :3].mean(axis=(0, 1)), 0, atol=1e-3)
    np.testing.assert_allclose(fabric[..., :3].std(axis=(0, 1)), 1, atol=0.08)


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_textures_of_shares_cover_what_they_say(share: float) -> None:
    assert abs((ridge_texture(3, 45, 512) < share).mean() - share) < 0.02
    assert abs((rubble_texture(SEED) < share).mean() - share) < 0.02
