"""What bounds AI4Arctic's files: memory, grids and disks. The damaged files of test_94_reliability are of them, too."""

from __future__ import annotations

import resource
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import h5py
import numpy as np
import pytest
from small_ai4arctic import write_prep, write_raw

from floemap.datasets.ai4arctic.files import open_scene_file
from floemap.datasets.ai4arctic.prepare import label_scene, prepare_scene
from floemap.errors import FloemapError, GridError, OutputError, ProductError
from floemap.layers.of_ai4arctic import layers_of_ai4arctic
from floemap.sentinel1.settings import PrepareSettings

SETTINGS = PrepareSettings(resolution_m=4000)


@pytest.fixture(scope="module")
def raw(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_raw(tmp_path_factory.mktemp("raw"))


@pytest.fixture
def ready(raw: Path, tmp_path: Path) -> Path:
    return write_prep(tmp_path, raw)


@pytest.mark.parametrize("side", [39_999, 100_000, 2**31])
def test_dimensions_that_a_file_only_declares_fill_no_memory(ready: Path, tmp_path: Path, side: int) -> None:
    with h5py.File(ready, "r+") as f:
        shape = f["SOD"].shape
        for name in [n for n in f if f[n].shape == shape]:
            kind = f[name].dtype
            del f[name]
            f.create_dataset(name, (side, side), kind, chunks=(64, 64))
    assert ready.stat().st_size < 1 << 20
    with pytest.raises(ProductError, match="has the shape"):
        prepare_scene(ready, tmp_path / "out", SETTINGS)


def test_chunks_that_unpack_to_gigabytes_are_refused(ready: Path, tmp_path: Path) -> None:
    with h5py.File(ready, "r+") as f:
        shape = f["t2m"].shape
        del f["t2m"]
        f.create_dataset("t2m", shape, np.float32, chunks=(9000, 9000), maxshape=(None, None), compression="gzip")
    with pytest.raises(ProductError, match="chunks of more than 256 MiB"):
        prepare_scene(ready, tmp_path / "out", SETTINGS)


def test_places_that_are_too_far_apart_make_no_gigantic_grid(ready: Path, tmp_path: Path) -> None:
    """An image whose tie points span a continent would be a grid of a hundred times its pixels."""
    with h5py.File(ready, "r+") as f:
        lon, lat = np.meshgrid(np.linspace(-60, 60, 21), np.linspace(85, 50, 21))
        f["sar_grid2d_longitude"][...], f["sar_grid2d_latitude"][...] = lon, lat
    with pytest.raises(GridError, match="pixels on the grid"):
        prepare_scene(ready, tmp_path / "out", PrepareSettings(resolution_m=1000))


@contextmanager
def files_no_larger_than(limit: int) -> Iterator[None]:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)


@pytest.mark.parametrize("what", ["prepare", "label", "layer"])
def test_a_full_disk_leaves_nothing(raw: Path, tmp_path: Path, what: str) -> None:
    product = tmp_path / "whole"
    if what != "prepare":
        product = prepare_scene(raw, tmp_path / "whole", SETTINGS).folder
    work: dict[str, Callable[[], object]] = {
        "prepare": lambda: prepare_scene(raw, tmp_path / "out", SETTINGS),
        "label": lambda: label_scene(raw, product, tmp_path / "out"),
        "layer": lambda: layers_of_ai4arctic(product, raw, ["distance_to_land_km"], out=tmp_path / "out"),
    }
    with files_no_larger_than(600), pytest.raises(OutputError) as error:
        work[what]()
    assert "too large" in str(error.value) or "cannot be written" in str(error.value)
    assert not [p for p in (tmp_path / "out").rglob("*") if p.is_file()]
    work[what]()  # and again, once there is room


def test_an_image_of_one_line_is_refused_or_read(raw: Path, tmp_path: Path) -> None:
    path = tmp_path / raw.name
    path.write_bytes(raw.read_bytes())
    with h5py.File(path, "r+") as f:
        shape = f["distance_map"].shape
        for name in [n for n in f if f[n].shape == shape]:
            values, attributes = f[name][:1], {k: v for k, v in f[name].attrs.items() if k != "DIMENSION_LIST"}
            del f[name]
            f[name] = values
            f[name].attrs.update(attributes)
    with open_scene_file(path) as file:
        assert file.shape == (1, shape[1])
    with pytest.raises(FloemapError):
        prepare_scene(path, tmp_path / "out", SETTINGS)
