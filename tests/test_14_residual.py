"""Residual noise: the measures see what is there, and the scaled method takes it away without touching the ice."""

from __future__ import annotations

import json
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from floemap.sentinel1.coarse import CoarseStatistics, block_mean
from floemap.sentinel1.metadata import AzimuthNoise, SwathBounds
from floemap.sentinel1.multilook import calibrate
from floemap.sentinel1.noise_residual import estimate_adjustments, measure
from floemap.sentinel1.prepare import prepare
from floemap.sentinel1.radiometry import NoiseAdjustment, azimuth_factor
from floemap.sentinel1.safe.reader import open_scene
from floemap.sentinel1.settings import PrepareSettings
from floemap.simulation.safe.spec import ProductSpec
from floemap.simulation.safe.writer import luts, write_safe

N = 16
ROWS, COLS = 640, 200
SEAMS = (0, 70, 130, 200)
SWATHS = tuple(SwathBounds(f"EW{i + 1}", 0, ROWS * N - 1, a * N, b * N - 1) for i, (a, b) in enumerate(pairwise(SEAMS)))
LINES = np.arange(0.0, ROWS * N, 10)
BLOCKS = tuple(
    AzimuthNoise(s.swath, 0, ROWS * N - 1, s.first_pixel, s.last_pixel, LINES,
                 1 + 0.2 * abs(np.sin(np.pi * LINES / (500 + 30 * i) + i)))
    for i, s in enumerate(SWATHS)
)  # fmt: skip
TRUE = {
    "EW1": NoiseAdjustment(1.06, 1.3),
    "EW2": NoiseAdjustment(0.93, 0.7),
    "EW3": NoiseAdjustment(1.03, 1.1),
}


def coarse_scene(
    truth: dict[str, NoiseAdjustment], seed: int = 0, level: float = 0.001, noise_level: float = 0.0015
) -> tuple[CoarseStatistics, NDArray[np.float64]]:
    """Dark water with a few brighter patches, and noise that differs from its annotation as `truth` says."""
    rng = np.random.default_rng(seed)
    row, col = np.mgrid[0:ROWS, 0:COLS]
    ice = level * (1 + 0.15 * np.sin(col / 37 + row / 90) + 3 * (np.hypot(row - 200, (col - 100) * 2) < 60))
    annotated, actual = np.zeros((ROWS, COLS)), np.zeros((ROWS, COLS))
    centres = np.arange(ROWS) * N + (N - 1) / 2
    for s, b in zip(SWATHS, BLOCKS, strict=True):
        mine = slice(s.first_pixel // N, (s.last_pixel + 1) // N)
        x = np.linspace(-1, 1, mine.stop - mine.start)
        flat = noise_level * (1 + 0.8 * x**2 + 0.25 * np.cos(9 * x))
        factor = np.interp(centres, b.lines, b.factor)[:, None]
        a = truth.get(s.swath, NoiseAdjustment())
        annotated[:, mine] = flat * factor
        actual[:, mine] = flat * a.scale * (1 + a.scalloping * (factor - 1)) + a.offset
    speckle = rng.gamma(2560, 1 / 2560, (ROWS, COLS))
    signal = (ice + actual) * speckle
    return CoarseStatistics(N, signal.astype(np.float32), annotated.astype(np.float32)), ice


def test_right_annotation_leaves_nothing() -> None:
    coarse, _ = coarse_scene({})
    after = measure(coarse, SWATHS, BLOCKS, {})
    assert after.worst_seam_db < 0.15
    assert after.worst_scalloping_db < 0.15
    before = measure(coarse, SWATHS, BLOCKS, None)
    assert before.worst_scalloping_db > 0.4, "with all the noise left in, the stripes are seen"


def test_wrong_annotation_is_measured_and_removed() -> None:
    coarse, _ = coarse_scene(TRUE)
    annotated = measure(coarse, SWATHS, BLOCKS, {})
    found = estimate_adjustments(coarse, SWATHS, BLOCKS)
    scaled = measure(coarse, SWATHS, BLOCKS, found)
    assert annotated.worst_seam_db > 0.4
    assert scaled.worst_seam_db < 0.5 * annotated.worst_seam_db
    assert scaled.worst_scalloping_db < 0.3 * annotated.worst_scalloping_db
    for name, true in TRUE.items():
        assert found[name].scale == pytest.approx(true.scale, abs=0.03)
        assert found[name].scalloping == pytest.approx(true.scalloping, abs=0.1)


def test_a_right_annotation_is_hardly_changed() -> None:
    coarse, _ = coarse_scene({}, seed=3)
    for a in estimate_adjustments(coarse, SWATHS, BLOCKS).values():
        assert a.scale == pytest.approx(1, abs=0.03)
        assert a.scalloping == pytest.approx(1, abs=0.1)
        assert abs(a.offset) < 3e-5


def test_offsets_close_a_step() -> None:
    true = {"EW2": NoiseAdjustment(offset=2e-4)}
    coarse, _ = coarse_scene(true)
    found = estimate_adjustments(coarse, SWATHS, BLOCKS)
    assert found["EW2"].offset - found["EW1"].offset == pytest.approx(2e-4, abs=5e-5)
    shares = np.diff(SEAMS)
    assert sum(a.offset * n for a, n in zip(found.values(), shares, strict=True)) == pytest.approx(0, abs=1e-9)


def test_what_the_scene_does_not_determine_stays_as_annotated() -> None:
    coarse, _ = coarse_scene(TRUE, level=1.0)  # so bright that noise does not show
    for a in estimate_adjustments(coarse, SWATHS, BLOCKS).values():
        assert a.scale == pytest.approx(1, abs=0.08) or a.scale == 1
    empty = CoarseStatistics(N, np.full((ROWS, COLS), np.nan, np.float32), np.zeros((ROWS, COLS), np.float32))
    assert set(estimate_adjustments(empty, SWATHS, BLOCKS).values()) == {NoiseAdjustment()}
    nothing = measure(empty, SWATHS, BLOCKS, {})
    assert nothing.seam_step_db == {}
    assert nothing.scalloping_db == {}


def test_where_the_scene_is_brighter_than_its_noise_the_annotation_stands() -> None:
    rng = np.random.default_rng(2)
    coarse, _ = coarse_scene(TRUE, level=0.01)
    # Ice whose level follows range as the noise does, and steps at the seams, must not be taken for noise.
    patches = np.repeat(np.repeat(rng.uniform(0.5, 2, (ROWS // 40, COLS // 10)), 40, axis=0), 10, axis=1)
    bright = CoarseStatistics(N, coarse.signal + (4 * coarse.noise * patches).astype(np.float32), coarse.noise)
    assert set(estimate_adjustments(bright, SWATHS, BLOCKS).values()) == {NoiseAdjustment()}


def test_a_step_in_the_ice_itself_away_from_seams_changes_nothing() -> None:
    coarse, _ = coarse_scene({})
    signal = coarse.signal.copy()
    signal[:, 100:] += 0.01
    found = estimate_adjustments(CoarseStatistics(N, signal, coarse.noise), SWATHS, BLOCKS)
    for name in ("EW1", "EW3"):
        assert found[name].scale == pytest.approx(1, abs=0.03)


def test_block_mean_is_the_mean_of_whole_blocks() -> None:
    values = np.arange(48, dtype=np.float32).reshape(6, 8)
    valid = np.ones_like(values, bool)
    valid[0, 0] = False
    means = block_mean(values, valid, 2)
    assert means.shape == (3, 4)
    assert np.isnan(means[0, 0])
    assert means[1, 1] == values[2:4, 2:4].mean()


@pytest.fixture(scope="module")
def striped(
    tmp_path_factory: pytest.TempPathFactory, small_spec: Callable[..., ProductSpec]
) -> tuple[Path, ProductSpec]:
    """A product over dark water whose noise is off by several percent, differently in every sub-swath."""
    spec = small_spec(lines=1300, samples=1300, pixel_spacing_m=300.0, noise_departure=0.08, seed=5)
    water = np.full((spec.lines, spec.samples), 0.0008, np.float32)
    return write_safe(tmp_path_factory.mktemp("striped"), spec, {"HH": 20 * water, "HV": water}, looks=10), spec


def test_scaled_noise_of_a_product(tmp_path: Path, striped: tuple[Path, ProductSpec]) -> None:
    product, spec = striped
    settings = PrepareSettings(resolution_m=600, noise="scaled")
    result = prepare(product, tmp_path, settings, quicklook=False)
    noise = json.loads(result.record.read_text())["thermal_noise"]["HV"]
    worst = {way: max(abs(v) for v in noise["residual"][way]["seam_step_db"].values()) for way in noise["residual"]}
    assert worst["scaled"] < 0.5 * worst["annotated"]
    # The levels found are those that the simulator put in.
    exact, errors = luts(spec), []
    lines = np.arange(300, 1000, 7)
    blocks = open_scene(product).noise["HV"].azimuth_blocks
    for i, swath in enumerate(("EW1", "EW2", "EW3", "EW4", "EW5")):
        middle = [(b.first_sample + b.last_sample) // 2 for b in spec.blocks() if b.swath == i][-1]
        ratio = exact.noise_true("HV", lines, [middle]) / exact.noise_annotated("HV", lines, [middle])
        found = noise["adjustments"][swath]
        mean = azimuth_factor(blocks, swath, lines.astype(float)).mean()
        level = found["scale"] * (1 + found["scalloping"] * (mean - 1)) / mean
        errors.append(abs(level - ratio.mean()))
    # In so small a scene a narrow sub-swath has too few blocks; its noise stays as annotated.
    assert sum(e < 0.03 for e in errors) >= 3
    assert max(errors) < 0.06


def test_scaled_keeps_the_mean_of_the_scene(striped: tuple[Path, ProductSpec]) -> None:
    scene = open_scene(striped[0])
    means = {}
    for noise in ("annotated", "scaled"):
        cells = calibrate(scene, looks=2, noise=noise)
        valid = cells.power[:, :, 2] > 0
        means[noise] = cells.power[:, :, 1][valid].mean()
    assert means["scaled"] == pytest.approx(0.0008, rel=0.35)
    assert abs(means["scaled"] - 0.0008) <= abs(means["annotated"] - 0.0008) + 0.0001


def test_every_row_is_denoised_and_progress_comes_to_its_end(
    tmp_path: Path, small_spec: Callable[..., ProductSpec]
) -> None:
    """More rows than columns, in several blocks of rows."""
    spec = small_spec(lines=1300, samples=260, pixel_spacing_m=300.0)
    water = np.full((spec.lines, spec.samples), 0.0008, np.float32)
    scene = open_scene(write_safe(tmp_path, spec, {"HH": 20 * water, "HV": water}, looks=10))
    told: list[tuple[float, float]] = []
    power = {
        noise: calibrate(scene, looks=1, noise=noise, progress=lambda done, total, _: told.append((done, total))).power
        for noise in ("none", "annotated", "scaled")
    }
    valid = power["none"][:, :, 2] > 0
    assert valid.any(axis=1).all()
    for noise in ("annotated", "scaled"):
        subtracted = np.where(valid[:, :, None], power["none"][:, :, :2] - power[noise][:, :, :2], np.inf)
        assert (subtracted > 1e-5).all()
    assert all(0 < done <= total == 2 * spec.lines for done, total in told)
    assert sum(done == total for done, total in told) == 3
