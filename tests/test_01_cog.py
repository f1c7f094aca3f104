"""Cloud-optimised GeoTIFFs: what goes in comes out, with names, units, categories and honest overviews."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import rasterio
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox
from rasterio.enums import ColorInterp

from floemap.cog import COLOUR_BANDS, Band, CogWriter, read_geobox, write_cog
from floemap.errors import FloemapError, GridError, OutputError
from floemap.grid import check_same_grid
from floemap.overviews import halve


def grid(rows: int, cols: int) -> GeoBox:
    return GeoBox.from_bbox((80 * 3, 0, 80 * (3 + cols), 80 * rows), "EPSG:3413", resolution=80)


def test_round_trip(tmp_path: Path) -> None:
    box = grid(1201, 1303)
    rng = np.random.default_rng(1)
    array = rng.integers(-3000, 0, (2, *box.shape)).astype(np.int16)
    array[:, :700, :100] = -32768
    bands = [Band("hh_db", "dB", "HH", 0.01), Band("mask", "1", overview="nearest")]
    file = tmp_path / "a.tif"
    write_cog(file, box, array, bands, nodata=-32768, tags={"simulated": "yes"})
    with rasterio.open(file) as d:
        assert (d.read() == array).all()
        assert d.descriptions == ("hh_db", "mask")
        assert d.units == ("dB", "1")
        assert d.scales == (0.01, 1.0)
        assert d.tags()["simulated"] == "yes"
        assert d.tags(ns="IMAGE_STRUCTURE")["LAYOUT"] == "COG"
        assert d.overviews(1) == [2, 4]
    check_same_grid(read_geobox(file), box, "round trip")
    for level, (expected_db, expected_mask) in enumerate(
        [(halve(array[0], "average", -32768), halve(array[1], "nearest", -32768))]
    ):
        with rasterio.open(file, overview_level=level) as d:
            assert (d.read(1) == expected_db).all()
            assert (d.read(2) == expected_mask).all()
    assert [p.name for p in tmp_path.iterdir()] == ["a.tif"]


@pytest.mark.parametrize("count", [2, 3, 4, 5, 6])
def test_bands_are_colours_only_where_they_are_called_so(count: int, tmp_path: Path) -> None:
    """GDAL would take three bands of bytes for a picture, and show places where a fourth is 0 as transparent."""
    box, array = grid(40, 50), np.zeros((count, 40, 50), np.uint8)
    write_cog(
        tmp_path / "a.tif", box, array, [Band(f"share_{i}", overview="nearest") for i in range(count)], nodata=255
    )
    with rasterio.open(tmp_path / "a.tif") as d:
        assert set(d.colorinterp) <= {ColorInterp.gray, ColorInterp.undefined}
        assert (d.dataset_mask() == 255).all()


def test_a_picture_has_colours(tmp_path: Path) -> None:
    bands = [Band(name) for name in COLOUR_BANDS]
    write_cog(tmp_path / "a.tif", grid(40, 50), np.zeros((3, 40, 50), np.uint8), bands, nodata=0)
    with rasterio.open(tmp_path / "a.tif") as d:
        assert d.colorinterp == (ColorInterp.red, ColorInterp.green, ColorInterp.blue)


def test_classes_keep_colours_and_names(tmp_path: Path) -> None:
    box = grid(600, 600)
    array = np.random.default_rng(0).integers(0, 3, box.shape).astype(np.uint8)
    band = Band("class", categories={0: "New ice"}, colours={0: (240, 210, 250), 255: (0, 0, 0)}, overview="mode")
    write_cog(tmp_path / "c.tif", box, array, [band], nodata=255)
    with rasterio.open(tmp_path / "c.tif") as d:
        assert d.colormap(1)[0] == (240, 210, 250, 255)
        assert d.tags(1)["class_0"] == "New ice"
    with rasterio.open(tmp_path / "c.tif", overview_level=0) as d:
        assert set(np.unique(d.read(1))) <= {0, 1, 2}, "an overview of classes holds no mixed values"


def test_strips_of_any_size_make_the_same_file(tmp_path: Path) -> None:
    box = grid(1301, 700)
    array = np.random.default_rng(2).integers(0, 99, (1, *box.shape)).astype(np.int16)
    write_cog(tmp_path / "a.tif", box, array, [Band("a")], nodata=None)
    with CogWriter(tmp_path / "b.tif", box, [Band("a")], dtype="int16", nodata=None) as cog:
        for row in range(0, 1301, 128):
            cog.write(array[:, row : row + 128])
    assert (tmp_path / "a.tif").read_bytes() == (tmp_path / "b.tif").read_bytes()


def test_a_missing_strip_or_a_wrong_shape_raises(tmp_path: Path) -> None:
    box = grid(100, 100)
    with (
        pytest.raises(GridError, match="64 of 100 rows were written"),
        CogWriter(tmp_path / "a.tif", box, [Band("a")], dtype="int16", nodata=None) as cog,
    ):
        cog.write(np.zeros((1, 64, 100), np.int16))
    with (
        pytest.raises(GridError, match="odd number"),
        CogWriter(tmp_path / "a.tif", box, [Band("a")], dtype="int16", nodata=None) as cog,
    ):
        cog.write(np.zeros((1, 33, 100), np.int16))
    with pytest.raises(GridError, match="does not fit"):
        write_cog(tmp_path / "a.tif", box, np.zeros((3, 3)), [Band("a")], nodata=None)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_not_there_is_told(tmp_path: Path) -> None:
    box = grid(10, 10)
    with pytest.raises(OutputError, match="nowhere"):
        write_cog(tmp_path / "nowhere" / "a.tif", box, np.zeros(box.shape, np.int16), [Band("a")], nodata=None)


def test_reading_a_grid_of_something_else_raises(tmp_path: Path) -> None:
    (tmp_path / "text.tif").write_text("no raster")
    with pytest.raises(FloemapError, match="cannot be read as a raster"):
        read_geobox(tmp_path / "text.tif")


arrays = st.tuples(st.integers(1, 9), st.integers(1, 9), st.integers(0, 2**31)).map(
    lambda t: np.random.default_rng(t[2]).integers(0, 4, t[:2]).astype(np.uint8)
)


@settings(max_examples=200, deadline=None)
@given(arrays)
def test_mode_is_the_most_frequent_of_four(array: NDArray[np.uint8]) -> None:
    small = halve(array, "mode", 255)
    padded = np.pad(array, ((0, array.shape[0] % 2), (0, array.shape[1] % 2)), mode="edge")
    for row in range(small.shape[0]):
        for col in range(small.shape[1]):
            four = padded[2 * row : 2 * row + 2, 2 * col : 2 * col + 2].ravel()
            counts = [(four == v).sum() for v in four]
            assert (four == small[row, col]).sum() == max(counts)


@settings(max_examples=100, deadline=None)
@given(arrays)
def test_average_leaves_no_data_out(array: NDArray[np.uint8]) -> None:
    small = halve(array, "average", 0)
    padded = np.pad(array, ((0, array.shape[0] % 2), (0, array.shape[1] % 2)), mode="edge")
    for row in range(small.shape[0]):
        for col in range(small.shape[1]):
            four = padded[2 * row : 2 * row + 2, 2 * col : 2 * col + 2].ravel()
            valid = four[four != 0]
            assert small[row, col] == (np.rint(valid.mean(dtype=np.float32)) if valid.size else 0)


def test_average_of_floats_leaves_nan_out() -> None:
    array = np.array([[1, np.nan], [3, np.nan]], np.float32)
    assert halve(array, "average", np.nan) == [[2]]


@settings(max_examples=60, deadline=None)
@given(
    st.integers(1, 9),
    st.integers(1, 9),
    st.sampled_from([("int16", 0.01, 0.0), ("int16", 0.5, -20.0), ("uint8", 0.25, -50.0), ("float32", 1.0, 0.0)]),
    st.integers(0, 999),
)
def test_overviews_of_decibels_are_means_of_power(
    rows: int, cols: int, form: tuple[str, float, float], seed: int
) -> None:
    dtype, scale, offset = form
    rng = np.random.default_rng(seed)
    stored = rng.integers(1, 120, (rows, cols)).astype(dtype)
    nodata = {"int16": -32768, "uint8": 255, "float32": np.nan}[dtype]
    stored[rng.random(stored.shape) < 0.3] = nodata
    found = halve(stored, "power", nodata, scale, offset)
    missing = np.isnan(stored) if dtype == "float32" else stored == nodata
    for i in range((rows + 1) // 2):
        for j in range((cols + 1) // 2):
            at = [(min(2 * i + k, rows - 1), min(2 * j + m, cols - 1)) for k in (0, 1) for m in (0, 1)]
            some = [10 ** ((float(stored[x]) * scale + offset) / 10) for x in at if not missing[x]]
            if not some:
                assert np.isnan(found[i, j]) if dtype == "float32" else found[i, j] == nodata
            else:
                db = 10 * np.log10(np.mean(some))
                assert float(found[i, j]) * scale + offset == pytest.approx(db, abs=scale / 2 + 1e-4)


def test_a_lead_beside_ridges_keeps_its_power_in_overviews() -> None:
    four = np.array([[-1000, -3000], [-3000, -3000]], np.int16)
    assert halve(four, "power", -32768, 0.01)[0, 0] == round(1000 * np.log10((0.1 + 3 * 0.001) / 4))  # -15.89 dB


@pytest.mark.parametrize("sheared", [(0, 30, 0), (30, 0, 0), (0, 0, 30)])
def test_rotated_and_sheared_grids_are_refused(tmp_path: Path, sheared: tuple[int, int, int]) -> None:
    """An array of such a grid has no x of its columns and no y of its rows."""
    b, d, angle = sheared
    transform = rasterio.Affine(80, b, 0, d, -80, 0) * rasterio.Affine.rotation(angle)
    with rasterio.open(
        tmp_path / "r.tif", "w", driver="GTiff", height=9, width=9, count=1, dtype="uint8", crs="EPSG:3413",
        transform=transform,
    ):  # fmt: skip
        pass
    with pytest.raises(GridError, match="has a rotated or sheared grid"):
        read_geobox(tmp_path / "r.tif")


@pytest.mark.parametrize(
    ("crs", "transform", "words"),
    [
        ("EPSG:4326", rasterio.Affine(0.01, 0, 10, 0, -0.01, 80), "WGS 84 is not projected in metres"),
        ("EPSG:2263", rasterio.Affine(80, 0, 0, 0, -80, 0), "is not projected in metres"),
        ("EPSG:3413", rasterio.Affine(float("nan"), 0, 0, 0, -80, 0), "a georeference that is no number"),
    ],
)
def test_lengths_are_metres(crs: str, transform: rasterio.Affine, words: str, tmp_path: Path) -> None:
    """Pixel sizes are compared with those of models and become areas: in degrees they would be taken for metres."""
    path = tmp_path / "r.tif"
    with rasterio.open(path, "w", "GTiff", 8, 8, 1, crs, transform, "uint8") as d:
        d.write(np.ones((1, 8, 8), np.uint8))
    with pytest.raises(GridError, match=words) as e:
        read_geobox(path)
    assert e.value.hint and e.value.path == path


def test_a_writer_that_cannot_begin_leaves_nothing_behind(tmp_path: Path) -> None:
    box = GeoBox((10, 10), grid(10, 10).transform, None)
    before = rasterio.env.hasenv()
    with (
        pytest.raises(GridError, match="has no CRS"),
        CogWriter(tmp_path / "a.tif", box, [Band("a")], dtype="int16", nodata=None),
    ):
        pass
    assert rasterio.env.hasenv() == before
    assert not list(tmp_path.iterdir())


def test_a_strip_past_the_last_row_is_refused(tmp_path: Path) -> None:
    with (
        pytest.raises(GridError, match="at row 64 does not fit"),
        CogWriter(tmp_path / "a.tif", grid(100, 100), [Band("a")], dtype="int16", nodata=None) as cog,
    ):
        cog.write(np.zeros((1, 64, 100), np.int16))
        cog.write(np.zeros((1, 64, 100), np.int16))


def test_the_mean_of_four_by_hand() -> None:
    four = np.array([[1, 2], [4, 8]])
    assert halve(four.astype(np.int16), "average", None).tolist() == [[4]]  # 3.75, rounded
    assert halve(four.astype(np.float32), "average", None).tolist() == [[3.75]]
    assert halve(four.astype(np.int16), "average", 8).tolist() == [[2]]  # 7 / 3
    odd = np.array([[1, 2, 5], [4, 9, 7], [8, 6, 3]], np.int16)
    assert halve(odd, "average", None).tolist() == [[4, 6], [7, 3]]


_WITH_ANOTHER_PROJ = """
import sys
from pathlib import Path
import numpy as np
from odc.geo.geobox import GeoBox
from floemap.cog import Band, read_geobox, write_cog
from floemap.errors import GridError
there, folder = Path(sys.argv[1]), Path(sys.argv[2])
box = GeoBox.from_bbox((0, 0, 800, 800), "EPSG:3413", resolution=80)
array = np.zeros(box.shape, np.uint8)
for use in (lambda: read_geobox(there), lambda: write_cog(folder / "b.tif", box, array, [Band("a")], nodata=None)):
    try:
        use()
    except GridError as e:
        print(e)
"""


@pytest.mark.parametrize("name", ["PROJ_LIB", "PROJ_DATA"])
def test_a_database_of_another_proj_is_no_reason_to_lose_the_place(name: str, tmp_path: Path) -> None:
    """Other programs set these variables; GDAL then writes and reads rasters that have no place on the map."""
    box = grid(10, 10)
    write_cog(tmp_path / "a.tif", box, np.zeros(box.shape, np.uint8), [Band("a")], nodata=None)
    done = subprocess.run(
        [sys.executable, "-c", _WITH_ANOTHER_PROJ, str(tmp_path / "a.tif"), str(tmp_path)],
        env=os.environ | {name: str(tmp_path / "other")}, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert done.stdout.count(f"{name}={tmp_path / 'other'}, of another program: unset it") == 2
    assert not (tmp_path / "b.tif").exists()
