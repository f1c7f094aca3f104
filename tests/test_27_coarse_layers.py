"""Layers in cells larger than the product's pixels, and the fields of AI4Arctic's files as such layers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyproj
import pytest
import torch
from affine import Affine
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox
from test_27_layers import grid, write_prepared

from floemap.bands import NODATA, BandSet, InputBand
from floemap.cog import Band, open_raster, read_geobox, write_cog
from floemap.datasets.ai4arctic.files import open_scene_file
from floemap.datasets.ai4arctic.form import AMSR2, ERA5, ZONES_KM
from floemap.datasets.ai4arctic.prepare import prepare_scene
from floemap.errors import ConfigError, GridError, ProductError
from floemap.layers.coarse import coarse_grid, factor_between
from floemap.layers.make import Values, make_layer
from floemap.layers.of_ai4arctic import BANDS, STAGE, layers_of_ai4arctic
from floemap.layers.reading import open_bands
from floemap.layers.stored import find_layer, scene_bands
from floemap.results.stage import read_json
from floemap.sentinel1.settings import PrepareSettings
from floemap.simulation.ai4arctic_scene import SimulatedScene

FACTOR = 8
NAME = "t2m"


def layer_of(product: Path, cells: NDArray[np.float32], step: float = 0.01) -> BandSet:
    """Make a layer in cells of 8 x 8 pixels."""

    def compute(box: GeoBox) -> Values:
        assert tuple(box.shape) == cells.shape
        return Values(InputBand(NAME, "K", step, missing="mean"), cells, "a field", {})

    make_layer(product, NAME, STAGE, {}, {"step": step}, compute, factor=FACTOR, overwrite=False)
    return scene_bands(product, ["hh_db", NAME])


@pytest.fixture
def product(tmp_path: Path) -> Path:
    return write_prepared(tmp_path / "S1A_A", grid((70, 93)))


def field(shape: tuple[int, int] = (9, 12)) -> NDArray[np.float32]:
    return np.random.default_rng(4).uniform(250, 280, shape).astype(np.float32)


def test_a_coarse_layer_is_interpolated_between_centres_of_cells(product: Path) -> None:
    """Against torch's bilinear interpolation of whole cells, whose borders repeat the outermost ones."""
    cells = field()
    bands = layer_of(product, cells)
    with open_bands(product / "product.tif", bands) as opened:
        stored = opened.read()
    stored_cells = torch.from_numpy(np.rint(cells / 0.01).astype(np.float64))[None, None]
    wanted = torch.nn.functional.interpolate(stored_cells, scale_factor=FACTOR, mode="bilinear", align_corners=False)
    there = stored[0] != NODATA
    assert there.mean() > 0.8
    np.testing.assert_allclose(stored[1][there], wanted[0, 0, :70, :93].numpy()[there], atol=0.51)


def test_what_is_read_of_a_window_does_not_depend_on_it(product: Path) -> None:
    cells = field()
    cells[3:5, 2:6] = np.nan
    bands = layer_of(product, cells)
    rng = np.random.default_rng(5)
    with open_bands(product / "product.tif", bands) as opened:
        whole = opened.read()
        assert (whole[1] == NODATA).any()
        for _ in range(40):
            (r, rows), (c, cols) = (sorted(rng.integers(0, n + 1, 2)) for n in (70, 93))
            if r == rows or c == cols:
                continue
            window = (int(r), int(c), int(rows - r), int(cols - c))
            np.testing.assert_array_equal(opened.read(window), whole[:, r:rows, c:cols])
        for row, col in ((69, 92), (0, 92), (69, 0), (0, 0), (35, 92)):
            np.testing.assert_array_equal(opened.read((row, col, 1, 1)), whole[:, row : row + 1, col : col + 1])


def test_cells_in_a_gap_do_not_change_their_neighbours(product: Path) -> None:
    cells = np.full((9, 12), 270, np.float32)
    cells[4, 5] = np.nan
    bands = layer_of(product, cells)
    with open_bands(product / "product.tif", bands) as opened:
        stored = opened.read()[1]
    there = stored != NODATA
    assert set(np.unique(stored[there])) == {27000}
    assert not there[4 * FACTOR + 3, 5 * FACTOR + 3]


def test_steps_of_other_scenes_are_those_of_the_band(product: Path) -> None:
    bands = layer_of(product, field())
    coarser = BandSet((bands["hh_db"], InputBand(NAME, "K", 0.1, 200.0, "mean")))
    with open_bands(product / "product.tif", bands) as fine, open_bands(product / "product.tif", coarser) as coarse:
        a, b = (opened.read()[1] for opened in (fine, coarse))
    there = b != NODATA
    assert np.abs(a[there] * 0.01 - (b[there] * 0.1 + 200)).max() <= 0.05 + 0.011


def test_only_whole_cells_from_the_corner_are_a_coarser_grid() -> None:
    box = grid((70, 93))
    assert factor_between((70, 93), box.affine, (9, 12), coarse_grid(box, 8).affine) == 8
    assert factor_between((70, 93), box.affine, (70, 93), box.affine) == 1
    shifted = box.affine * Affine.translation(1, 0) * Affine.scale(8)
    for shape, transform in (((9, 11), coarse_grid(box, 8).affine), ((9, 12), shifted),
                             ((9, 12), box.affine * Affine.scale(8.3))):  # fmt: skip
        assert factor_between((70, 93), box.affine, shape, transform) is None


def test_a_layer_on_another_coarse_grid_is_refused(product: Path) -> None:
    bands = layer_of(product, field())
    raster = product / "layers" / NAME / "layer.tif"
    moved = GeoBox((9, 12), coarse_grid(grid((70, 93)), 8).affine * Affine.translation(0.3, 0), "EPSG:3413")
    raster.unlink()
    write_cog(raster, moved, np.zeros((9, 12), np.int16), [Band(NAME, "K", scale=0.01)], nodata=NODATA)
    record = product / "layers" / NAME / "layer.json"
    record.write_text(
        record.read_text().replace(f'"layer.tif": {read_json(record)["bytes"]["layer.tif"]}', '"layer.tif": 1')
    )
    with pytest.raises(GridError, match="grid"):
        find_layer(product / "product.tif", NAME)
    with pytest.raises(GridError, match="another grid"), open_bands(product / "product.tif", bands):
        pass


# AI4Arctic


@pytest.fixture(scope="module")
def scene(ai4arctic_set: tuple[SimulatedScene, ...], tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A prepared product of pixels of 1 km, and the file of its scene."""
    one = ai4arctic_set[0]
    out = tmp_path_factory.mktemp("bands")
    return prepare_scene(one.ready, out, PrepareSettings(resolution_m=1000)).folder, one.ready


@pytest.fixture(scope="module")
def made(scene: tuple[Path, Path]) -> dict[str, Path]:
    """The rasters of all bands, by name."""
    return {name: m.raster for name, m in zip(BANDS, layers_of_ai4arctic(*scene), strict=True)}


def test_the_bands_are_those_of_the_dataset() -> None:
    assert len(AMSR2) == 14
    assert len(ERA5) == 6
    assert set(BANDS) == {*AMSR2, *ERA5, "distance_to_land_km", "month", "latitude_deg", "longitude_deg"}


def test_bands_have_the_values_of_the_file_at_their_places(scene: tuple[Path, Path], made: dict[str, Path]) -> None:
    """At the centre of each cell of the file's grid: its place by the tie points, the band read there by a model."""
    product, path = scene
    box = read_geobox(product / "product.tif")
    with open_scene_file(path) as file:
        fields = {n: file.values(n) for n in (*AMSR2[::5], *ERA5)}
        lines, samples = file.shape
        from floemap.datasets.ai4arctic.tie_locator import TieLocator

        rows, cols = fields["t2m"].shape
        line, sample = np.meshgrid(
            (np.arange(rows) + 0.5) * lines / rows - 0.5, (np.arange(cols) + 0.5) * samples / cols - 0.5, indexing="ij"
        )
        x, y = TieLocator(file.tie_points(), file.shape).to_map(line, sample)
    col, row = ~box.affine * (x, y)
    row, col = np.floor(row).astype(int), np.floor(col).astype(int)
    inner = np.zeros(row.shape, bool)
    inner[3:-3, 3:-3] = True
    with open_bands(product / "product.tif", scene_bands(product, ["hh_db", *fields])) as opened:
        stored = opened.read().astype(float)
    assert made["t2m"].is_file()
    for i, (name, wanted) in enumerate(fields.items(), 1):
        found = stored[i][row[inner], col[inner]]
        known = found != NODATA
        assert known.mean() > 0.5, name
        off = found[known] * BANDS[name].step - wanted[inner][known]
        # Interpolated twice: noise of neighbouring cells is averaged, and what varies slowly remains.
        assert abs(off.mean()) < 0.05 * max(wanted.std(), 0.1), name
        smooth = np.corrcoef(found[known], wanted[inner][known])[0, 1]
        assert smooth > 0.9, name


def test_month_and_place_are_those_of_the_scene(scene: tuple[Path, Path], made: dict[str, Path]) -> None:
    product, path = scene
    box = read_geobox(product / "product.tif")
    names = ["month", "latitude_deg", "longitude_deg"]
    with open_bands(product / "product.tif", scene_bands(product, ["hh_db", *names])) as opened:
        stored = opened.read()
    row, col = np.nonzero(stored[0] != NODATA)
    assert made["month"].stat().st_size < 20_000
    assert set(stored[1][row, col]) == {int(path.name.removeprefix("SIMULATED_")[4:6])}
    lon, lat = pyproj.Transformer.from_crs("EPSG:3413", "EPSG:4326", always_xy=True).transform(
        *(box.affine * (col + 0.5, row + 0.5))
    )
    assert np.abs(stored[2][row, col] * 0.01 - lat).max() < 0.02
    assert np.abs(stored[3][row, col] * 0.01 - lon).max() < 0.1


def test_distances_to_land_lie_within_their_zones(scene: tuple[Path, Path], made: dict[str, Path]) -> None:
    with open_raster(made["distance_to_land_km"]) as d:
        stored = d.read(1)
    km = np.unique(stored[stored != NODATA]) * 0.01
    assert km.min() >= 0
    assert km.max() <= ZONES_KM[-1][0]
    with open_scene_file(scene[1]) as file:
        zones = file.values("distance_map")
    middle = [0, *(round((low + high) / 2, 2) for low, high in ZONES_KM[:-1]), 300]
    whole = np.isin(np.round(stored[stored != NODATA] * 0.01, 2), middle)  # others are means of 2 x 2 zones
    assert whole.mean() == pytest.approx(np.isin(np.round(zones[np.isfinite(zones)], 4), range(42)).mean(), abs=0.05)
    assert (np.nanmin(zones) < 1) == (km.min() < 0.3)


def test_what_is_finished_is_kept_and_other_files_are_refused(
    scene: tuple[Path, Path], made: dict[str, Path], ai4arctic_set: tuple[SimulatedScene, ...]
) -> None:
    assert all(m.skipped for m in layers_of_ai4arctic(*scene, ["t2m", "month"]))
    with pytest.raises(ProductError, match="file of the same scene"):
        layers_of_ai4arctic(scene[0], ai4arctic_set[1].ready, ["t2m"])
    with pytest.raises(ConfigError, match="t2m"):
        layers_of_ai4arctic(*scene, ["t2n"])
