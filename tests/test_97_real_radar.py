"""A real quick-look against its own annotation. What it proves: docs/real-data.md. Real speckle: test_36_speckle.py."""

from __future__ import annotations

import numpy as np
import pytest
from real_files import (
    FILLED_COLS,
    ICE_ROWS,
    QUICKLOOK,
    Floats,
    noise_amplitude,
    quick_look,
    scalloping,
    seam_columns,
    sharpest_falls,
)

from floemap.sentinel1.metadata import Scene
from floemap.sentinel1.safe.reader import open_scene

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
    assert abs(max((value, shift) for shift, value in by_shift.items())[1]) <= 1
    assert min(by_shift.values()) < -0.1  # half a period off, maxima meet minima: it is a wave, no trend
