"""Residual noise, step by step: small numbers whose results are worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest

from floemap.sentinel1.coarse import CoarseStatistics
from floemap.sentinel1.metadata import SwathBounds
from floemap.sentinel1.noise_residual import _azimuth_profiles, _combined, _most_uniform, _Swaths

WIDE = (0.0, 2.0)


def coarse(rows: int, cols: int) -> CoarseStatistics:
    ones = np.ones((rows, cols), np.float32)
    return CoarseStatistics(16, ones, ones.copy())


def test_a_block_is_a_sub_swaths_if_all_of_its_pixels_are() -> None:
    """The seam at pixel 40 cuts the third column of blocks; both sub-swaths end with line 63, a block's last."""
    swaths = [SwathBounds("EW1", 0, 63, 0, 39), SwathBounds("EW2", 10, 63, 40, 95)]
    index = _Swaths(coarse(4, 6), swaths, []).index
    assert index.tolist() == [[0, 0, -1, -1, -1, -1], *[[0, 0, -1, 1, 1, 1]] * 3]


def test_windows_are_combined_by_inverse_variance_without_those_far_off() -> None:
    """Slopes of 1.29 and 1.31 and one of 1.9, known alike: the mean without it is 1.3, its error 0.01 / sqrt(8)."""
    fits = [(1.29, 1e-4), None, (1.31, 1e-4)] * 4 + [(1.9, 1e-4)]
    assert _combined(fits, WIDE, near=0.0036) == pytest.approx(1.3)
    assert _combined(fits, WIDE, near=0.0035) == 1, "not known well enough"
    assert _combined(fits, (0.75, 1.29), near=1) == 1, "not plausible"
    assert _combined(fits[:5], WIDE, near=1) == 1, "too few windows"


def test_the_weight_of_a_window_is_that_of_its_variance_and_of_two_percent() -> None:
    """Weights 1 / (0.0012 + 0.0004) and 1 / (0.0028 + 0.0004) are as 2 to 1."""
    fits = [(1.0, 0.0012), (1.03, 0.0028)] * 2
    assert _combined(fits, WIDE, near=1) == pytest.approx(1.01)


@pytest.mark.parametrize(("windows", "kept"), [(30, 10), (18, 6), (12, 5), (3, 3)])
def test_the_third_of_the_windows_that_scatter_least_is_kept(windows: int, kept: int) -> None:
    number = np.arange(windows, dtype=float)
    near, far = _most_uniform(number, 100 + number, number[::-1])
    assert sorted(near) == list(range(windows - kept, windows))
    assert (far - near == 100).all()


def test_a_narrow_sub_swath_has_no_profile() -> None:
    """The second of them is 7 blocks wide, or 8, of which the profile along azimuth is the mean."""
    for width in (7, 8):
        swaths = [SwathBounds("EW1", 0, 1599, 0, 319), SwathBounds("EW2", 0, 1599, 320, 319 + 16 * width)]
        where = _Swaths(coarse(100, 20 + width), swaths, [])
        values = np.arange(100.0)[:, None] + np.zeros(20 + width)
        profile = _azimuth_profiles(values, where, 1)
        assert profile is None if width == 7 else profile.tolist() == list(range(100))
