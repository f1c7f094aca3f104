"""Spots to review: compact, of a size that an analyst looks at, the largest expected error first."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyproj
import pytest
import rasterio.features
import shapely
from affine import Affine
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox

from floemap.inference.draftchart.review_spots import AREA_KM2, MOST, review_spots
from floemap.inference.predict.scene_maps import NO_VALUE, STEP, SceneMaps
from floemap.legend import SIX_CLASSES

#: Expected error of a pixel that is not in a blob.
CALM = 0.1


def maps_of(error: NDArray[Any], pixel_m: float = 400.0) -> SceneMaps:
    """A scene whose pixels have these expected errors: class 3 with what is left, class 4 with the error."""
    rows, cols = error.shape
    geobox = GeoBox((rows, cols), Affine(pixel_m, 0, 100_000, 0, -pixel_m, -900_000), "EPSG:3413")
    missing = np.isnan(error)
    wrong = np.round(np.where(missing, 0, error) / STEP).astype(np.uint8)
    probabilities = np.zeros((6, rows, cols), np.uint8)
    probabilities[3], probabilities[4] = round(1 / STEP) - wrong, wrong
    probabilities[:, missing] = NO_VALUE
    classes = np.where(missing, NO_VALUE, np.where(wrong > 100, 4, 3)).astype(np.uint8)
    return SceneMaps(geobox, SIX_CLASSES, classes, probabilities, np.where(missing, NO_VALUE, 20).astype(np.uint8))


def blob(shape: tuple[int, int], row: int, col: int, radius: float, error: float) -> NDArray[np.float64]:
    down, across = np.mgrid[: shape[0], : shape[1]]
    return np.where((down - row) ** 2 + (across - col) ** 2 <= radius**2, error, CALM)


SHAPE = (500, 600)


@pytest.fixture(scope="module")
def scene() -> SceneMaps:
    """Three blobs: 452 km2 at 0.45, 201 km2 at 0.4, 113 km2 at 0.3."""
    blobs = [blob(SHAPE, 100, 120, 30, 0.45), blob(SHAPE, 350, 400, 20, 0.4), blob(SHAPE, 120, 500, 15, 0.3)]
    error = np.max(blobs, axis=0)
    error[:, :40] = np.nan
    return maps_of(error)


def test_spots_are_where_the_errors_are_the_largest_first(scene: SceneMaps) -> None:
    spots = review_spots(scene)
    assert spots["spot"].tolist() == list(range(1, len(spots) + 1)) and len(spots) >= 3
    assert (np.diff(spots["wrong_km2"]) <= 0).all()
    middles = [(p.x, p.y) for p in spots.geometry.centroid[:3]]
    for (row, col), middle in zip(((100, 120), (350, 400), (120, 500)), middles, strict=True):
        x, y = scene.geobox.affine * (col + 0.5, row + 0.5)
        assert np.hypot(middle[0] - x, middle[1] - y) < 4000
    assert spots["error"].iloc[0] > 0.35 and set(spots["class_key"]) == {"first_year_ice"}
    assert spots["other_key"].iloc[0] == "old_ice"


def test_spots_have_the_size_of_a_look_and_do_not_overlap(scene: SceneMaps) -> None:
    spots = review_spots(scene)
    assert ((spots["area_km2"] >= AREA_KM2[0]) & (spots["area_km2"] <= AREA_KM2[1])).all()
    shapes = np.asarray(spots.geometry)
    assert shapely.is_valid(shapes).all()
    for i, a in enumerate(shapes):
        assert all(shapely.intersection(a, b).area < 1e-3 * a.area for b in shapes[i + 1 :])
        width = max(np.ptp(shapely.get_coordinates(a), axis=0))
        assert width < 32_000


def test_numbers_are_those_of_the_pixels_within(scene: SceneMaps) -> None:
    """Counted once more from the outline, by another library. Areas are on the ellipsoid, not on the map."""
    spots = review_spots(scene)
    geod, outlines = pyproj.Geod(ellps="WGS84"), spots.geometry.segmentize(500).to_crs("EPSG:4326")
    best = scene.probabilities.max(axis=0) * STEP
    for spot, outline in zip(spots.itertuples(), outlines, strict=True):
        inside = ~rasterio.features.geometry_mask([spot.geometry], SHAPE, scene.geobox.affine)
        valid = inside & (scene.classes != NO_VALUE)
        whole_km2 = abs(geod.geometry_area_perimeter(outline)[0]) / 1e6
        assert spot.area_km2 == pytest.approx(whole_km2 * valid.sum() / inside.sum(), rel=1e-4)
        assert abs(spot.area_km2 / (valid.sum() * 0.4**2) - 1) > 0.02
        assert spot.error == pytest.approx((1 - best[valid]).mean(), abs=1e-4)
        assert spot.wrong_km2 == pytest.approx(spot.error * spot.area_km2)


def test_nothing_stands_out_of_an_even_scene() -> None:
    assert len(review_spots(maps_of(np.full((300, 300), 0.3)))) == 0
    assert len(review_spots(maps_of(np.zeros((300, 300))))) == 0


def test_land_and_missing_data_are_no_spots() -> None:
    error = np.full((300, 300), 0.1)
    error[:, :150] = np.nan
    error[100:140, 155:195] = 0.5
    spots = review_spots(maps_of(error))
    assert len(spots) >= 1
    left = 100_000 + 400 * 150
    assert all(g.bounds[0] >= left - 2000 for g in spots.geometry)


def test_a_scene_smaller_than_a_spot_has_none_and_pixels_may_be_large() -> None:
    assert len(review_spots(maps_of(np.full((4, 4), 0.4)))) == 0
    coarse = blob((120, 150), 40, 50, 4, 0.5)
    spots = review_spots(maps_of(coarse, pixel_m=3000))
    assert len(spots) >= 1 and spots["area_km2"].max() <= AREA_KM2[1]


def test_a_noisy_scene_gives_a_list_of_bounded_length() -> None:
    rng = np.random.default_rng(0)
    import cv2

    noise = cv2.GaussianBlur(rng.standard_normal((600, 600)), (0, 0), 12)
    error = np.clip(0.25 + 0.2 * noise / noise.std(), 0, 0.5)
    spots = review_spots(maps_of(error))
    assert 5 < len(spots) <= MOST
    assert spots["error"].mean() > 1.25 * error.mean()
