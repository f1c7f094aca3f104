"""The dim border of products before IPF 2.90 is no data: at the sides, before the first and after the last lines.

Counted against the simulator's own knowledge of where the border is, for each kind of processor.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import rasterio
from damage import without_checksums

from floemap.sentinel1.bands import open_product
from floemap.sentinel1.multilook import calibrate
from floemap.sentinel1.prepare import prepare
from floemap.sentinel1.radiometry import NoiseTable, border_lines
from floemap.sentinel1.safe.reader import open_scene
from floemap.sentinel1.settings import PrepareSettings
from floemap.simulation.safe.luts import SimulatedLuts
from floemap.simulation.safe.spec import ProductSpec
from floemap.simulation.safe.writer import write_safe

CASES = Path(__file__).resolve().parents[2] / "shared/cases/05-dim-lines-in-azimuth"
SHAPE = {"lines": 512, "samples": 1300, "pixel_spacing_m": 320.0}


def bordered(folder: Path, spec: ProductSpec, level: float, first: int, last: int) -> Path:
    """A product of constant backscatter, whose first and last lines are dim besides its sides."""
    sigma0 = {p: np.full((spec.lines, spec.samples), level, np.float32) for p in spec.polarisations}
    product = write_safe(folder, spec, sigma0, looks=10)
    rng = np.random.default_rng(5)
    for tiff in product.glob("measurement/*.tiff"):
        with rasterio.open(tiff, "r+") as d:
            dn = d.read(1)
            for lines in (slice(0, first), slice(spec.lines - last, spec.lines)):
                dn[lines] = np.where(dn[lines] > 0, rng.integers(1, 9, dn[lines].shape), 0)
            d.write(dn, 1)
    return without_checksums(product)


@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
@pytest.mark.parametrize(("first", "last", "looks"), [(0, 0, 2), (12, 12, 2), (1, 0, 1), (0, 60, 1), (25, 2, 2)])
@pytest.mark.parametrize("version", ["002.36", "002.43", "002.82"])
def test_no_cell_of_the_border_is_left(
    small_spec: Callable[..., ProductSpec], tmp_path: Path, version: str, first: int, last: int, looks: int
) -> None:
    """Water and ice; the border's DN^2 is 40 at the sides, up to 64 in lines, and it is a cell wide at least."""
    level = {"002.36": 0.004, "002.43": 1e-5, "002.82": 0.05}[version]
    spec = small_spec(noise_format="vectors", ipf_version=version, **SHAPE)
    scene = open_scene(bordered(tmp_path, spec, level, first, last))
    valid = calibrate(scene, looks=looks).power[:, :, 2] > 0
    near, far = SimulatedLuts(spec).fringe_px(np.arange(spec.lines))
    pixel = np.arange(spec.samples)
    dim = (pixel < near[:, None]) | (pixel >= spec.samples - far[:, None])
    dim[:first] = True
    dim[spec.lines - last :] |= last > 0
    rows, cols = valid.shape
    cells = dim[: rows * looks, : cols * looks].reshape(rows, looks, cols, looks).any(axis=(1, 3))
    image = NoiseTable(None, scene.swaths, scene.shape, looks).cells(0, rows)[1]
    assert not (valid & cells).any()
    # Three cells a side and a row at either end are lost, and corners of the staircase where sub-swaths begin.
    lost = image & ~cells & ~valid
    assert lost.sum() <= 1.1 * (3 * 2 * rows + 2 * cols) + 0.005 * cells.size


def test_later_processors_lines_are_left_alone(small_spec: Callable[..., ProductSpec], tmp_path: Path) -> None:
    scene = open_scene(bordered(tmp_path, small_spec(**SHAPE), 0.01, 12, 0))
    assert (calibrate(scene, looks=2).power[1:5, 100, 2] > 0).all()


def test_dark_water_at_the_first_lines_is_image(small_spec: Callable[..., ProductSpec], tmp_path: Path) -> None:
    """Thermal noise and hardly anything else, with noise in unknown units and in known ones."""
    for version in ("002.36", "002.82"):
        spec = small_spec(noise_format="vectors", ipf_version=version, lines=256, samples=1300, pixel_spacing_m=320.0)
        scene = open_scene(bordered(tmp_path / version, spec, 1e-6, 0, 0))
        valid = calibrate(scene, looks=2).power[:, :, 2] > 0
        image = NoiseTable(None, scene.swaths, scene.shape, 2).cells(0, len(valid))[1]
        assert valid[1:][image[1:]].mean() > 0.97


def test_dim_lines_are_joined_to_the_edge() -> None:
    dim = np.zeros((20, 3), bool)
    dim[:6, 0] = True
    dim[8:11, 1] = True  # dark, but not at the edge
    assert border_lines(dim).sum(axis=0).tolist() == [7, 0, 0]


@pytest.mark.skipif(not CASES.is_dir(), reason="the case is not here")
def test_the_case(tmp_path: Path) -> None:
    """Its truth is -12 dB in HH and -25 dB in HV; a pixel at the floor is none of the image."""
    (product,) = CASES.glob("*.zip")
    found = open_product(prepare(product, tmp_path, PrepareSettings(resolution_m=400), quicklook=False).folder)
    for band, truth in (("hh_db", -12.0), ("hv_db", -25.0)):
        values = found[band].values[np.isfinite(found[band].values)]
        assert values.min() > -40
        assert abs(values.mean() - truth) < 0.1


@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
@pytest.mark.parametrize("looks", [1, 2])
def test_the_border_is_sought_within_500_pixels(
    small_spec: Callable[..., ProductSpec], tmp_path: Path, looks: int
) -> None:
    """Of a patch of 50 lines that is dim up to 700 pixels from the side, what lies farther inside stays."""
    spec = small_spec(noise_format="vectors", ipf_version="002.36", lines=256, samples=2600, pixel_spacing_m=160.0)
    product = bordered(tmp_path, spec, 0.05, 0, 0)
    for tiff in product.glob("measurement/*.tiff"):
        with rasterio.open(tiff, "r+") as d:
            dn = d.read(1)
            dn[100:150, :700] = 3
            d.write(dn, 1)
    valid = calibrate(open_scene(product), looks=looks).power[:, :, 2] > 0
    patch = valid[100 // looks + 3 : 150 // looks - 3]
    assert not patch[:, : 500 // looks].any()
    assert patch[:, 500 // looks + 3 : 690 // looks].all()
