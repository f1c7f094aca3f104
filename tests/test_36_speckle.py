"""Speckle: its distribution, its correlation in metres, and the same estimator on crops of real EW products."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
import rasterio
import scipy.stats
from speckle import evenest, measure

from floemap.errors import ConfigError
from floemap.sentinel1.safe.reader import open_measurement, open_scene
from floemap.simulation.safe.pixels import BLOCK_LINES
from floemap.simulation.safe.speckle import EW_GRDM_LOOKS, Speckle, smoothing_kernel
from floemap.simulation.safe.writer import ProductSpec, luts, write_safe

CROPS = sorted((Path(__file__).resolve().parents[2] / "shared" / "data" / "real" / "ew_hv_crops").glob("*.tif"))


def speckle(spacing_m: float = 40.0, looks: float = EW_GRDM_LOOKS, samples: int = 1500, band: int = 0) -> Speckle:
    return Speckle(looks, (spacing_m, spacing_m), samples, key=(7, band))


def test_neighbours_at_40_m_are_alike_and_averaging_gains_little() -> None:
    found = measure(speckle().rows(0, 1500))
    assert found.looks == pytest.approx(EW_GRDM_LOOKS, rel=0.02)
    assert 0.67 < found.azimuth < 0.73
    assert found.range == pytest.approx(found.azimuth, abs=0.01)
    assert 0.2 < found.two_apart < 0.28
    assert found.looks_2x2 / found.looks == pytest.approx(1.38, abs=0.04)


def test_pixels_of_400_m_have_nothing_in_common() -> None:
    found = measure(speckle(400.0).rows(0, 1500))
    assert found.looks == pytest.approx(EW_GRDM_LOOKS, rel=0.02)
    assert abs(found.azimuth) < 0.005
    assert abs(found.range) < 0.005
    assert found.looks_2x2 / found.looks == pytest.approx(4, rel=0.02)


@pytest.mark.parametrize("spacing_m", [10.0, 25.0, 40.0, 57.0, 80.0, 130.0, 400.0, 5000.0])
def test_correlation_is_a_property_of_metres(spacing_m: float) -> None:
    kernel = smoothing_kernel(spacing_m)
    found = np.correlate(kernel, kernel, "full")[kernel.size - 1 :]
    assert found[0] == pytest.approx(1, abs=1e-6)
    assert (found == found.max()).argmax() == 0
    # 0.70 at 40 m, and its fourth power at twice the distance: a Gaussian.
    expected = 0.70 ** ((np.arange(found.size) * spacing_m / 40) ** 2)
    np.testing.assert_allclose(found, expected, atol=0.004)


def test_each_direction_has_its_own_spacing() -> None:
    found = measure(Speckle(10.0, (400.0, 40.0), 1000, key=(1,)).rows(0, 1000))
    assert abs(found.azimuth) < 0.01
    assert found.range > 0.67


@pytest.mark.parametrize(("looks", "off"), [(1.0, 0.015), (3.0, 0.005), (EW_GRDM_LOOKS, 0.005), (50.0, 0.005)])
def test_it_is_gamma_distributed_with_mean_one(looks: float, off: float) -> None:
    drawn = speckle(looks=looks, samples=4000).rows(0, 4000)
    assert drawn.dtype == np.float32
    assert drawn.min() >= 0
    # Some 5 pixels across are worth one independent one; 4 standard errors.
    assert drawn.mean() == pytest.approx(1, abs=4 / np.sqrt(looks * drawn.size / 25))
    alone = drawn[::8, ::8].ravel()
    assert scipy.stats.kstest(alone, scipy.stats.gamma(looks, scale=1 / looks).cdf).statistic < off


def test_it_does_not_depend_on_how_lines_are_asked_for() -> None:
    lines = speckle(samples=300)
    whole = lines.rows(0, 700)
    for step in (1, 37, BLOCK_LINES):
        parts = [lines.rows(i, min(i + step, 700)) for i in range(0, 700, step)]
        np.testing.assert_allclose(np.vstack(parts), whole, rtol=1e-5)
    np.testing.assert_array_equal(speckle(samples=300).rows(0, 700), whole)


def test_blocks_join_without_a_seam() -> None:
    across = Speckle(10.0, (40.0, 40.0), 40_000, key=(3,)).rows(BLOCK_LINES - 1, BLOCK_LINES + 1)
    assert np.corrcoef(across)[0, 1] == pytest.approx(0.70, abs=0.02)  # type: ignore[index]


def test_bands_and_seeds_have_their_own() -> None:
    one, other = speckle().rows(0, 400), speckle(band=1).rows(0, 400)
    assert abs(np.corrcoef(one.ravel(), other.ravel())[0, 1]) < 0.01


@pytest.mark.parametrize("looks", [0.0, 0.5, -3.0, float("nan")])
def test_less_than_one_look_is_refused(looks: float, tmp_path: Path) -> None:
    spec = product_spec()
    flat = np.full((spec.lines, spec.samples), 0.01, np.float32)
    with pytest.raises(ConfigError, match="looks"):
        write_safe(tmp_path, spec, {"HH": flat, "HV": flat}, looks=looks)
    assert not list(tmp_path.iterdir())


def product_spec() -> ProductSpec:
    return ProductSpec(
        start=datetime(2018, 1, 16, 7, 54, 30, tzinfo=UTC), lines=700, samples=900, pixel_spacing_m=40.0,
        centre_lon=-8.0, centre_lat=77.0, heading_deg=-150.0, noise_departure=0.0,
    )  # fmt: skip


def test_echo_and_noise_of_a_product_have_the_same_speckle(tmp_path: Path) -> None:
    """HH far above the noise, HV nothing but noise; and the same bytes with any number of threads."""
    spec = product_spec()
    shape = (spec.lines, spec.samples)
    sigma0 = {"HH": np.full(shape, 0.5, np.float32), "HV": np.zeros(shape, np.float32)}
    path = write_safe(tmp_path / "a", spec, sigma0, threads=1)
    again = write_safe(tmp_path / "b", spec, sigma0, threads=3)
    for tiff in (path / "measurement").iterdir():
        assert tiff.read_bytes() == (again / "measurement" / tiff.name).read_bytes()
    lines, pixels = np.arange(100, spec.lines), np.arange(spec.samples)
    tables, scene = luts(spec), open_scene(path)
    for band, power in (("HH", 0.5), ("HV", 0.0)):
        with open_measurement(scene, band) as m:
            seen = m.read(100, spec.lines).astype(float) ** 2
        expected = power * tables.sigma_nought(lines, pixels) ** 2 + tables.noise_true(band, lines, pixels)
        assert (seen / expected).mean() == pytest.approx(1, abs=0.01)
        found = measure(seen / expected)
        assert found.looks == pytest.approx(EW_GRDM_LOOKS, rel=0.04)
        assert 0.66 < min(found.azimuth, found.range) <= max(found.azimuth, found.range) < 0.73
        assert found.looks_2x2 / found.looks == pytest.approx(1.39, abs=0.04)


@pytest.mark.skipif(not CROPS, reason="the real crops are not here")
@pytest.mark.parametrize("crop", CROPS, ids=[c.stem[:3] + c.stem[-15:] for c in CROPS])
def test_it_is_that_of_a_real_product(crop: Path) -> None:
    """The evenest windows of a real HV crop and of simulated speckle, by one estimator.

    The number of looks is not compared: by their annotation real products have 18 looks in the first sub-swath and 12
    in the others, and which of them a crop shows is not known.
    """
    with rasterio.open(crop) as tiff:
        real = evenest(tiff.read(1))
    simulated = evenest(speckle(looks=real.looks, samples=1000).rows(0, 1000))
    assert 9 < real.looks < 16
    assert simulated.azimuth == pytest.approx(real.azimuth, abs=0.06)
    assert simulated.range == pytest.approx(real.range, abs=0.06)
    assert simulated.two_apart == pytest.approx(real.two_apart, abs=0.08)
    assert simulated.looks_2x2 / simulated.looks == pytest.approx(real.looks_2x2 / real.looks, abs=0.08)
    # Skewed as a gamma distribution is; a little texture adds to it.
    assert real.skewness == pytest.approx(2 / np.sqrt(real.looks), abs=0.15)
    assert simulated.skewness == pytest.approx(2 / np.sqrt(real.looks), abs=0.1)
