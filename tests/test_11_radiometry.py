"""Radiometry against slow, plain reference implementations, and its laws."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from floemap.sentinel1.metadata import AzimuthNoise, CalibrationLut, NoiseLut, RangeNoise, SwathBounds
from floemap.sentinel1.radiometry import (
    FLOOR_DB,
    CalibrationTable,
    NoiseAdjustment,
    NoiseTable,
    azimuth_factor,
    border_noise,
    cell_power,
    inside_borders,
    line_weights,
    range_profile,
    to_db,
)

SHAPE = (60, 50)
# Two sub-swaths whose seam moves at line 21, inside of a cell; the second begins later.
SWATHS = (
    SwathBounds("EW1", 0, 20, 0, 24),
    SwathBounds("EW1", 21, 59, 0, 22),
    SwathBounds("EW2", 5, 20, 25, 49),
    SwathBounds("EW2", 21, 59, 23, 49),
)


def vector(line: int, seam: int) -> RangeNoise:
    """A vector with points of both sub-swaths, doubled at the seam, empty at its far end, at levels 100 and 1000."""
    pixels = np.array([0, 10, seam, seam + 1, 40, 48, 49], float)
    power = np.array([100, 120, 140, 1000, 1100, 1200, 0], float) + line
    power[-1] = 0
    return RangeNoise(line, pixels, power)


BLOCKS = tuple(
    AzimuthNoise(b.swath, b.first_line, b.last_line, b.first_pixel, b.last_pixel, np.array(lines, float), np.array(f))
    for b, lines, f in zip(
        SWATHS,
        [[0, 10, 20], [21, 40, 59], [5], [21, 59]],
        [[1.0, 1.2, 1.0], [1.1, 1.3, 1.1], [1.5], [1.0, 1.4]],
        strict=True,
    )
)
NOISE = NoiseLut("range_azimuth", (vector(0, 24), vector(15, 24), vector(30, 22)), BLOCKS)


def reference_noise(lut: NoiseLut, swaths: Sequence[SwathBounds], shape: tuple[int, int]) -> NDArray[np.float64]:
    """Noise pixel by pixel, by the words of the documents: NaN outside of all sub-swaths."""
    noise = np.full(shape, np.nan)
    for line in range(shape[0]):
        for pixel in range(shape[1]):
            here = [b for b in swaths if b.first_line <= line <= b.last_line and b.first_pixel <= pixel <= b.last_pixel]
            if not here:
                continue
            swath = here[0].swath
            at, values = [], []
            for v in lut.range_vectors:
                own = [b for b in swaths if b.swath == swath and b.first_line <= v.line <= b.last_line]
                if not own:
                    continue
                keep = (v.pixels >= own[0].first_pixel) & (v.pixels <= own[0].last_pixel) & (v.power > 0)
                at.append(v.line)
                values.append(np.interp(pixel, v.pixels[keep], v.power[keep]))
            noise[line, pixel] = np.interp(line, at, values)
            for b in lut.azimuth_blocks:
                if b.swath == swath and b.first_line <= line <= b.last_line:
                    noise[line, pixel] *= np.interp(line, b.lines, b.factor)
    return noise


@pytest.mark.parametrize("looks", [1, 2, 3, 7])
def test_noise_of_cells_is_the_mean_of_the_pixels(looks: int) -> None:
    expected = reference_noise(NOISE, SWATHS, SHAPE)
    rows, cols = SHAPE[0] // looks, SHAPE[1] // looks
    cut = expected[: rows * looks, : cols * looks].reshape(rows, looks, cols, looks)
    noise, inside = NoiseTable(NOISE, SWATHS, SHAPE, looks).cells(0, rows)
    whole = np.isfinite(cut).all(axis=(1, 3))
    assert (inside == whole).all()
    assert noise[whole] == pytest.approx(cut.mean(axis=(1, 3))[whole], rel=1e-5)


def test_noise_does_not_depend_on_the_blocks_of_rows() -> None:
    table = NoiseTable(NOISE, SWATHS, SHAPE, 2)
    whole = table.cells(0, 30)
    for step in (1, 4, 7):
        parts = [table.cells(r, min(r + step, 30)) for r in range(0, 30, step)]
        for i in range(2):
            np.testing.assert_allclose(np.vstack([p[i] for p in parts]), whole[i], rtol=1e-6)  # type: ignore[arg-type]


def test_no_noise_leaks_across_a_seam() -> None:
    noise, inside = NoiseTable(NOISE, SWATHS, SHAPE, 1).cells(0, 60)
    near, far = noise[:, :23][inside[:, :23]], noise[:, 25:][inside[:, 25:]]
    assert near.max() < 300
    assert far.min() > 900


def test_the_empty_tail_of_a_vector_is_extended_not_zero() -> None:
    noise, inside = NoiseTable(NOISE, SWATHS, SHAPE, 1).cells(0, 60)
    assert inside[10, 49]
    assert noise[10, 49] == pytest.approx(noise[10, 48])


def test_lines_past_the_last_vector_take_the_nearest() -> None:
    noise, _ = NoiseTable(NOISE, SWATHS, SHAPE, 1).cells(0, 60)
    factor = azimuth_factor(BLOCKS, "EW1", np.array([35.0, 55.0]))
    assert noise[35, 3] / factor[0] == pytest.approx(noise[55, 3] / factor[1], rel=1e-5)


def test_older_noise_has_no_azimuth_factor() -> None:
    old = NoiseLut("vectors", NOISE.range_vectors, ())
    noise, inside = NoiseTable(old, SWATHS, SHAPE, 1).cells(0, 60)
    expected = reference_noise(old, SWATHS, SHAPE)
    assert noise[inside] == pytest.approx(expected[inside], rel=1e-5)


def test_first_lines_outside_of_all_sub_swaths_are_no_image() -> None:
    _, inside = NoiseTable(NOISE, SWATHS, SHAPE, 1).cells(0, 60)
    assert not inside[:5, 25:].any()
    assert inside[5:, 25:].all()


def test_adjustments_scale_their_own_sub_swath() -> None:
    table = NoiseTable(NOISE, SWATHS, SHAPE, 1)
    plain, inside = table.cells(0, 60)
    changed, _ = table.cells(0, 60, {"EW2": NoiseAdjustment(scale=1.5)})
    ratio = changed[inside] / plain[inside]
    assert set(np.round(ratio, 4)) == {np.float32(1.0), np.float32(1.5)}
    flat, _ = table.cells(0, 60, {"EW1": NoiseAdjustment(scalloping=0.0)})
    assert plain[10, 3] / flat[10, 3] == pytest.approx(1.2, rel=1e-5)
    offsets = table.offsets(0, 60, {"EW2": NoiseAdjustment(offset=0.25)})
    assert set(np.unique(offsets)) == {0, 0.25}
    assert offsets[30, 40] == 0.25


@settings(max_examples=60, deadline=None)
@given(looks=st.integers(1, 5), rows=st.integers(1, 30), cols=st.integers(1, 30), seed=st.integers(0, 99))
def test_cell_power_is_the_mean_of_squares(looks: int, rows: int, cols: int, seed: int) -> None:
    dn = np.random.default_rng(seed).integers(0, 9, (rows, cols)).astype(np.uint16) * 8191
    power, valid = cell_power(dn, looks)
    for i in range(rows // looks):
        for j in range(cols // looks):
            cell = dn[i * looks : (i + 1) * looks, j * looks : (j + 1) * looks].astype(float)
            assert valid[i, j] == (cell > 0).all()
            assert power[i, j] == pytest.approx((cell**2).mean(), rel=1e-5)
    assert power.shape == (rows // looks, cols // looks)


def test_zeros_inside_an_already_denoised_image_are_data() -> None:
    dn = np.array([[0, 0, 5, 0, 7, 0], [0, 0, 0, 0, 0, 0], [1, 0, 0, 0, 0, 2]], np.uint16)
    assert inside_borders(dn).tolist() == [[0, 0, 1, 1, 1, 0], [0] * 6, [1] * 6]
    _, valid = cell_power(dn, 1, zero_is_data=True)
    assert valid[0].tolist() == [False, False, True, True, True, False]


def test_calibration_is_bilinear() -> None:
    lut = CalibrationLut(np.array([0.0, 30, 59]), np.array([0.0, 20, 49]), np.arange(9.0).reshape(3, 3) + 10, 1.0)
    a = 1 / np.sqrt(CalibrationTable(lut, 50, 1).inverse_square(0, 60))
    from scipy.interpolate import RegularGridInterpolator

    line, pixel = np.mgrid[0:60, 0:50]
    expected = RegularGridInterpolator((lut.lines, lut.pixels), lut.sigma_nought)((line, pixel))
    assert a == pytest.approx(expected, rel=1e-6)
    cells = 1 / np.sqrt(CalibrationTable(lut, 50, 2).inverse_square(0, 30))
    assert cells == pytest.approx(expected.reshape(30, 2, 25, 2).mean(axis=(1, 3)), rel=1e-5)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.integers(-5, 300), min_size=1, max_size=8, unique=True), st.integers(0, 250), st.integers(1, 40))
def test_line_weights_interpolate(nodes: list[int], first: int, count: int) -> None:
    at = np.sort(np.array(nodes, float))
    values = np.sin(at)
    lines = np.arange(first, first + count, dtype=float)
    used, weights = line_weights(at, lines)
    assert weights.sum(axis=1) == pytest.approx(np.ones(count), abs=1e-6)
    assert weights @ values[used] == pytest.approx(np.interp(lines, at, values), abs=1e-5)


def test_decibels_never_run_away() -> None:
    power = np.array([1.0, 0.1, 1e-4, 0.0, -3.0, 1e-9, np.nan], np.float32)
    db, below = to_db(power)
    assert db[:3] == pytest.approx([0, -10, -40], abs=1e-5)
    assert (db[3:6] == FLOOR_DB).all()
    assert below.tolist() == [False, False, False, True, True, True, False]
    assert np.isnan(db[6])


def test_border_noise_is_cut_from_the_sides_only() -> None:
    rng = np.random.default_rng(0)
    noise = np.full((40, 400), 100, np.float32)
    power = rng.gamma(10, 300 / 10, noise.shape).astype(np.float32)
    power[:, :30] = 4  # the fringe
    power[:, -17:] = 0
    power[:, 200:220] = 4  # dark, but inside
    valid = power > 0
    fringe = border_noise(power, noise, valid, 100)
    assert fringe[:, :30].all()
    assert fringe[:, -17:].all()
    assert not fringe[:, 36:-23].any()


@pytest.mark.parametrize(("cols", "margin", "cells"), [(400, 100, 100), (400, 30, 30), (203, 100, 50), (40, 9, 9)])
def test_border_noise_reaches_to_the_margin_on_either_side(cols: int, margin: int, cells: int) -> None:
    """At most a quarter of the image, where all of it is dim; and what lies right is found as what lies left."""
    noise = np.full((20, cols), 100, np.float32)
    dim = np.full_like(noise, 4)
    dim_all = border_noise(dim, noise, np.ones_like(dim, bool), margin)
    assert [np.flatnonzero(row).tolist() for row in dim_all] == [[*range(cells), *range(cols - cells, cols)]] * 20

    dim[:, 7:-2] = 300
    fringe = border_noise(dim, noise, np.ones_like(dim, bool), margin)
    mirrored = border_noise(dim[:, ::-1], noise, np.ones_like(dim, bool), margin)
    np.testing.assert_array_equal(mirrored, fringe[:, ::-1])
    assert fringe[:, :7].all() and fringe[:, -2:].all()


def test_no_border_noise_where_water_is_dark_to_the_edge() -> None:
    rng = np.random.default_rng(1)
    noise = np.full((40, 400), 100, np.float32)
    power = rng.gamma(40, 105 / 40, noise.shape).astype(np.float32)  # thermal noise and hardly anything else
    assert border_noise(power, noise, np.ones_like(power, bool), 100).mean() < 0.01


def test_a_sub_swath_without_points_takes_the_nearest_points_noise() -> None:
    noise = RangeNoise(0, np.array([0.0, 100.0, 200.0, 300.0]), np.array([1.0, 2.0, 4.0, 8.0]))
    pixels = np.arange(201, 240)
    for first, last, nearest in ((110, 140, 2), (160, 190, 4), (201, 240, 4), (260, 290, 8)):
        found = range_profile(noise, SwathBounds("EW1", 0, 9, first, last), pixels)
        assert found.tolist() == [nearest] * len(pixels)
    # Zeros at the end were not computed: the nearest that was.
    ended = RangeNoise(0, noise.pixels, np.array([1.0, 2.0, 4.0, 0.0]))
    assert (range_profile(ended, SwathBounds("EW1", 0, 9, 260, 290), pixels) == 4).all()
