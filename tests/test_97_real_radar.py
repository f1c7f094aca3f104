"""A real quick-look against its own annotation, and real speckle. What each proves: docs/real-data.md."""

from __future__ import annotations

import numpy as np
import pytest
from real_files import (
    CROPS,
    FILLED_COLS,
    ICE_ROWS,
    QUICKLOOK,
    Floats,
    crops,
    noise_amplitude,
    quick_look,
    scalloping,
    seam_columns,
    sharpest_falls,
)
from scipy.ndimage import convolve1d, gaussian_filter
from speckle import measure_speckle

from floemap.sentinel1.safe import open_scene
from floemap.sentinel1.scene import Scene

#: Picture columns well inside of each sub-swath.
INSIDE = {"EW1": slice(8, 150), "EW2": slice(160, 246), "EW3": slice(255, 350)}


@pytest.fixture(scope="module")
def annotation() -> Scene:
    if not QUICKLOOK.is_file():
        pytest.skip("the real product's quick-look is not here")
    return open_scene(QUICKLOOK.parents[1], pixels=False)


@pytest.fixture(scope="module")
def picture(annotation: Scene) -> Floats:
    return quick_look()


def test_columns_over_ice_follow_the_annotated_noise(annotation: Scene, picture: Floats) -> None:
    # HV of ice is hardly above the noise there, so its amplitude shows the noise's shape, whatever the picture's gain.
    seen = np.median(picture[ICE_ROWS, :, 1], axis=0)
    noise = noise_amplitude(annotation, len(seen))

    def r(profile: Floats) -> float:
        return float(np.corrcoef(seen[FILLED_COLS], profile[FILLED_COLS])[0, 1])

    assert r(noise) > 0.97
    # Not for any fall from near to far range: a straight line, and the noise 3 columns (2.4 km) off, do worse.
    assert r(np.arange(len(seen), 0.0, -1)) < 0.85
    assert max(r(np.roll(noise, 3)), r(np.roll(noise, -3))) < 0.97


def test_seams_lie_where_the_annotation_says(annotation: Scene, picture: Floats) -> None:
    annotated = seam_columns(annotation)
    assert len(annotated) == 4
    # The sharpest falls of the band made of both polarisations, anywhere in the picture, are the seams.
    found = sharpest_falls(np.median(picture[ICE_ROWS, :, 2], axis=0), 4)
    np.testing.assert_allclose(found, annotated, atol=2)
    # In HV three of them show as steps, of the picture and of the annotated noise alike. (Between EW2 and EW3 the noise
    # is as high on both sides. The first columns fall, too.)
    hv, noise = np.median(picture[ICE_ROWS, :, 1], axis=0), noise_amplitude(annotation, picture.shape[1])
    steps = [20 + np.array(sharpest_falls(profile[20:], 3)) for profile in (hv, noise)]
    np.testing.assert_allclose(steps[0], np.array(annotated)[[0, 2, 3]], atol=2)
    np.testing.assert_allclose(steps[1], np.array(annotated)[[0, 2, 3]], atol=2)


@pytest.mark.parametrize("swath", [*INSIDE])
def test_scalloping_is_in_step_with_the_annotation(annotation: Scene, picture: Floats, swath: str) -> None:
    seen, annotated = scalloping(annotation, picture, swath, INSIDE[swath])
    inner = slice(12, -12)  # free of what the smoothing makes of the ends
    by_shift = {s: np.corrcoef(seen[inner], np.roll(annotated, s)[inner])[0, 1] for s in range(-10, 11)}
    assert by_shift[0] > 0.6
    assert abs(max(by_shift, key=by_shift.__getitem__)) <= 1
    assert min(by_shift.values()) < -0.1  # half a period off, maxima meet minima: it is a wave, no trend


@pytest.mark.skipif(not CROPS.is_dir(), reason="no real crops here")
def test_speckle_of_neighbours_correlates() -> None:
    found = {name: measure_speckle(power) for name, power in crops().items()}
    assert len(found) == 4
    for name, s in found.items():
        assert 9.5 <= s.looks <= 15.5, name  # ESA's nominal number for EW GRD at medium resolution is 10.7
        for lag in (s.range_lag, s.azimuth_lag):
            assert 0.65 <= lag <= 0.75, name
        assert 1.33 <= s.gain <= 1.48, name
        # The variance of a mean of 2 x 2 pixels follows from their six correlations: both ways must agree.
        assert s.gain == pytest.approx(4 / (1 + s.range_lag + s.azimuth_lag + s.diagonal_lag), rel=0.06)


#: Filters of a complex signal, in azimuth and range, and the correlation of intensity from pixel to pixel that each
#: gives: the square of the filter's own (J. W. Goodman, "Speckle phenomena in optics", 2007, section 4.4).
FILTERS = {
    "independent": ([1.0], [1.0], 0.0, 0.0),
    "alike": ([1.0, 1.0], [1.0, 2.0, 1.0], (1 / 2) ** 2, (4 / 6) ** 2),
}


@pytest.mark.parametrize("ice", ["even", "uneven"])
@pytest.mark.parametrize("name", [*FILTERS])
def test_the_measure_finds_the_speckle_that_was_put_in(name: str, ice: str) -> None:
    down, along, azimuth_lag, range_lag = FILTERS[name]
    rng = np.random.default_rng(5)
    size, looks = 1400, 8
    power = np.zeros((size, size))
    for signal in rng.standard_normal((2 * looks, size, size)):
        power += convolve1d(convolve1d(signal, down, axis=0, mode="wrap"), along, axis=1, mode="wrap") ** 2
    if ice == "uneven":
        # Floes some 20 pixels wide, 1 dB each way, and half of the scene ten times as uneven.
        floes = gaussian_filter(rng.standard_normal((size, size)), 10, mode="wrap")
        power *= np.exp(floes / floes.std() * np.where(np.arange(size) < size / 2, 0.02, 0.23))
    found = measure_speckle(power)
    assert found.looks == pytest.approx(looks, rel=0.08)
    assert found.range_lag == pytest.approx(range_lag, abs=0.05)
    assert found.azimuth_lag == pytest.approx(azimuth_lag, abs=0.05)
    assert found.diagonal_lag == pytest.approx(range_lag * azimuth_lag, abs=0.05)
    alike = (1 + range_lag) * (1 + azimuth_lag)
    assert found.gain == pytest.approx(4 / alike, rel=0.1)
