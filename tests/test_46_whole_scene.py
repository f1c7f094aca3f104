"""Whole scenes in tiles: equal to one pass of the model, whatever the tiles, with memory that does not grow."""

from __future__ import annotations

import copy
import dataclasses
import threading
from collections.abc import Callable
from functools import partial
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from seasoned import seasoned
from tiny_model import TinyModel
from torch import Tensor, nn

from floemap.errors import ConfigError, ProductError
from floemap.learning.data.crops import physical
from floemap.learning.models.base import SegmentationModel
from floemap.learning.models.registry import build_model
from floemap.learning.settings import ModelSettings
from floemap.learning.whole_scene.fused import can_fuse, fused
from floemap.learning.whole_scene.logits import SceneLogits, array_reader, scene_logits
from floemap.learning.whole_scene.pieces import Piece, choose_precision, merge_batch_norms, pieces_of, prepare_network
from floemap.learning.whole_scene.workers import Workers
from floemap.sentinel1.encoding import NODATA

Stored = NDArray[np.int16]

MEAN, STD = (-15.0, -26.0, 34.0), (4.0, 4.0, 7.0)
#: Name and output stride of each model that there is.
MODELS = {"separable": ("resnet18_aspp", 16), "at 8": ("resnet18_aspp", 8), "dense": ("resnet18_aspp_dense", 16)} | {
    "unet": ("unet", 16)
}


def trained(model: SegmentationModel) -> SegmentationModel:
    """Give a model statistics of its own, so that a mixed-up one shows."""
    seasoned(model)
    model.set_normalisation(MEAN, STD)
    return model.eval()


def make(name: str) -> SegmentationModel:
    torch.manual_seed(1)
    kind, stride = MODELS[name]
    return trained(build_model(ModelSettings(name=kind, output_stride=stride), 5))  # type: ignore[arg-type]


@pytest.fixture(scope="module", params=MODELS)
def model(request: pytest.FixtureRequest) -> SegmentationModel:
    return make(request.param)


@pytest.fixture(scope="module")
def separable() -> SegmentationModel:
    return make("separable")


def noise(rows: int, cols: int, seed: int = 0) -> Stored:
    rng = np.random.default_rng(seed)
    return (100 * rng.normal(np.reshape(MEAN, (3, 1, 1)), np.reshape(STD, (3, 1, 1)), (3, rows, cols))).astype(np.int16)


def diamond(rows: int, cols: int) -> Stored:
    """A footprint turned by 45 degrees: no data in the corners."""
    stored = noise(rows, cols)
    y, x = np.indices((rows, cols))
    stored[:, np.abs(y / rows - 0.5) + np.abs(x / cols - 0.5) > 0.5] = NODATA
    return stored


def spots(rows: int, cols: int) -> Stored:
    """Data in two small places, one of them in a corner."""
    stored = np.full((3, rows, cols), NODATA, np.int16)
    for box in (np.s_[:, 5:9, cols - 11 :], np.s_[:, rows // 2 : rows // 2 + 30, 3:40]):
        stored[box] = noise(rows, cols)[box]
    return stored


def hole(rows: int, cols: int) -> Stored:
    """No data inside, and a part where one band alone has none."""
    stored = noise(rows, cols)
    stored[:, rows // 4 : rows // 2, cols // 3 : cols // 2] = NODATA
    stored[1, rows // 2 :, : cols // 4] = NODATA
    return stored


SCENES: dict[str, Callable[[], Stored]] = {
    "full": lambda: noise(203, 170),
    "diamond": lambda: diamond(190, 213),
    "spots": lambda: spots(205, 197),
    "hole": lambda: hole(160, 101),
    "smaller than a tile": lambda: noise(37, 50),
    "smaller than a cell": lambda: noise(5, 7),
    "one row": lambda: noise(1, 90),
}


def one_pass(model: SegmentationModel, stored: Stored) -> Tensor:
    """(K, rows, cols): the logits of the model over the whole scene."""
    with torch.no_grad():
        return model(physical(torch.from_numpy(stored))[None])[0]


def in_tiles(model: SegmentationModel, stored: Stored, *, step: int = 48, **options: Any) -> Tensor:
    rows = stored.shape[1]
    with scene_logits(model, array_reader(stored), stored.shape[1:], **options) as scene:
        return torch.cat([scene.rows(r, min(r + step, rows)) for r in range(0, rows, step)], dim=1)


def assert_same(a: Tensor, b: Tensor, stored: Stored) -> None:
    """Probabilities are equal to 1e-4 and classes are the same, but for ties, wherever there are data."""
    there = torch.from_numpy((stored != NODATA).any(axis=0))
    assert a.shape == b.shape == (5, *stored.shape[1:])
    p, q = a.softmax(dim=0)[:, there], b.softmax(dim=0)[:, there]
    assert (p - q).abs().max() < 1e-4
    best = q.topk(2, dim=0).values
    assert ((p.argmax(dim=0) == q.argmax(dim=0)) | (best[0] - best[1] < 1e-4)).all()


# Equal to one pass


@pytest.mark.parametrize("kind", ["diamond", "hole", "smaller than a cell"])
def test_a_resident_scene_gives_what_one_that_is_read_gives(separable: SegmentationModel, kind: str) -> None:
    stored = SCENES[kind]()
    shape, sources = stored.shape[1:], (torch.from_numpy(stored), array_reader(stored))
    found = []
    for source in sources:
        with scene_logits(separable, source, shape, tile=6) as scene:
            found.append((scene.rows(0, shape[0]), scene.valid(0, shape[0])))
    (own, own_valid), (read, read_valid) = found
    assert torch.equal(own, read) and np.array_equal(own_valid, read_valid)


@pytest.mark.parametrize("kind", SCENES)
def test_tiles_give_what_one_pass_gives(model: SegmentationModel, kind: str) -> None:
    stored = SCENES[kind]()
    assert_same(in_tiles(model, stored, tile=6), one_pass(model, stored), stored)


@pytest.mark.parametrize("tile", [3, 16, 10_000])
def test_the_tiles_size_changes_nothing(separable: SegmentationModel, tile: int) -> None:
    stored = diamond(330, 250)
    assert_same(in_tiles(separable, stored, tile=tile), in_tiles(separable, stored, tile=8), stored)


@pytest.mark.parametrize("name", ["separable", "unet"])
@pytest.mark.parametrize("step", [7, 1000])
def test_rows_can_be_asked_for_in_any_portions(name: str, step: int) -> None:
    model, stored = make(name), noise(70, 50)
    whole = in_tiles(model, stored, step=32)
    assert torch.allclose(in_tiles(model, stored, step=step), whole, atol=1e-5)


def test_a_model_without_pieces_of_its_own() -> None:
    torch.manual_seed(0)
    model = trained(TinyModel(ModelSettings(), 5))
    stored = diamond(90, 77)
    assert_same(in_tiles(model, stored, tile=3), one_pass(model, stored), stored)


def test_bf16(separable: SegmentationModel) -> None:
    """Tiles change no more in bf16 than rounding does; against fp32, probabilities stay close."""
    stored = diamond(190, 213)
    there = (stored != NODATA).any(axis=0)
    whole, small, exact = (
        in_tiles(separable, stored, **options).softmax(dim=0)[:, there]  # type: ignore[arg-type]
        for options in ({"precision": "bf16", "tile": 10_000}, {"precision": "bf16", "tile": 6}, {})
    )
    assert (whole - small).abs().mean() < 1e-3
    assert (whole - exact).abs().mean() < 2e-2
    assert (small - exact).abs().mean() < 2e-2


def test_the_model_is_left_as_it_was(separable: SegmentationModel) -> None:
    model = copy.deepcopy(separable).train()
    before = copy.deepcopy(model.state_dict())
    stored = noise(40, 40)
    with torch.inference_mode():  # as validation calls it
        found = in_tiles(model, stored)
    assert model.training
    assert all(p.requires_grad for p in model.parameters())
    assert all(torch.equal(before[k], v) for k, v in model.state_dict().items())
    assert_same(found, one_pass(model.eval(), stored), stored)


# Work and memory


def counting(model: SegmentationModel, stored: Stored, tile: int) -> tuple[list[int], int]:
    """Predict a scene; return how many cells each piece has run over, and the most values held at any time."""
    network = prepare_network(model, precision="fp32")
    cells = [0] * len(network.pieces)

    def counted(k: int, piece: Piece) -> Piece:
        def run(x: Tensor) -> Tensor:
            y = piece.run(x)
            cells[k] += y.shape[2] * y.shape[3]
            return y

        return dataclasses.replace(piece, run=run)

    network = dataclasses.replace(network, pieces=tuple(counted(k, s) for k, s in enumerate(network.pieces)))
    rows = stored.shape[1]
    with SceneLogits(network, array_reader(stored), stored.shape[1:], tile=tile) as scene:
        cells[:] = [0] * len(cells)  # what is found out beforehand of places without data
        most = 0
        for row in range(0, rows, 64):
            scene.rows(row, min(row + 64, rows))
            inner = scene._pieces[:-1] if scene.stride > 1 else scene._pieces
            most = max(most, sum(c.numel() for s in inner for _, c in s._chunks))
    return cells, most


@pytest.mark.parametrize("name", ["separable", "unet"])
def test_places_without_data_are_skipped(name: str) -> None:
    model = make(name)
    empty = np.full((3, 700, 600), NODATA, np.int16)
    assert counting(model, empty, 16)[0] == [0] * len(prepare_network(model, precision="fp32").pieces)
    little = empty.copy()
    little[:, 300:310, 200:210] = noise(10, 10)
    some = counting(model, little, 16)[0]
    cells = 700 * 600 / prepare_network(model, precision="fp32").pieces[0].shrink ** 2
    assert 0 < some[0] < cells / 2


@pytest.mark.parametrize("name", ["separable", "unet"])
def test_memory_does_not_grow_with_the_scene(name: str) -> None:
    model = make(name)
    short, tall = (counting(model, noise(rows, 33), 8)[1] for rows in (1700, 2600))
    assert 0 < tall <= short


def test_each_row_is_read_once_and_in_order(separable: SegmentationModel) -> None:
    stored = noise(1300, 40)
    read = []

    def reader(row: int, col: int, rows: int, cols: int) -> Stored:
        read.append((row, row + rows, col, cols))
        return stored[:, row : row + rows, col : col + cols]

    with scene_logits(separable, reader, (1300, 40)) as scene:
        scene.finish()
    assert read[0][0] == 0 and read[-1][1] == 1300
    assert all(a[1] == b[0] for a, b in pairwise(read))
    assert {r[2:] for r in read} == {(0, 40)}


def test_where_there_are_data(separable: SegmentationModel) -> None:
    stored = hole(160, 101)
    with scene_logits(separable, array_reader(stored), (160, 101)) as scene:
        found = np.concatenate([scene.valid(0, 50), scene.valid(50, 160)])
    assert np.array_equal(found, (stored != NODATA).all(axis=0))


def test_progress_rises_to_the_end(separable: SegmentationModel) -> None:
    told: list[float] = []
    stored = noise(900, 40)
    scene = scene_logits(
        separable,
        array_reader(stored),
        (900, 40),
        tile=16,
        progress=lambda done, total, what: told.append(done / total),
    )
    scene.finish()
    assert len(told) > 2 and told == sorted(told) and told[-1] == 1


# Threads


@pytest.mark.parametrize("name", ["separable", "unet"])
def test_workers_change_nothing(name: str) -> None:
    model, stored = make(name), diamond(190, 213)
    found: list[Any] = []
    for workers in (1, 3):
        network = dataclasses.replace(prepare_network(model, precision="fp32"), workers=workers)
        with SceneLogits(network, array_reader(stored), (190, 213), tile=6) as scene:
            found.append(scene.rows(0, 190))
    assert_same(found[0], found[1], stored)


def test_threads_do_not_wait_for_one_that_cannot_be_started(monkeypatch: pytest.MonkeyPatch) -> None:
    """The system allows a process only so many; Python waits for the others when it ends."""
    begun, start = list[threading.Thread](), threading.Thread.start

    def once(thread: threading.Thread) -> None:
        if begun:
            raise RuntimeError("can't start new thread")
        begun.append(thread)
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", once)
    with pytest.raises(RuntimeError, match="can't start new thread"):
        Workers(3)
    begun[0].join(60)
    assert not begun[0].is_alive()


def test_torchs_threads_are_shared_out_and_stay_as_they_were() -> None:
    before, seen = torch.get_num_threads(), []
    torch.set_num_threads(4)
    try:
        workers = Workers(2)
        workers.run(lambda _: seen.append(torch.get_num_threads()), range(8))
        workers.close()
        assert set(seen) == {2}
        assert torch.get_num_threads() == 4
        later = threading.Thread(target=lambda: seen.append(torch.get_num_threads()))
        later.start()
        later.join()
        assert seen[-1] == 4
    finally:
        torch.set_num_threads(before)


def test_batch_norm_of_several_gpus_is_merged_too(separable: SegmentationModel) -> None:
    """SyncBatchNorm is no BatchNorm2d. Left as it is, it would be rounded to bf16, and so another network."""
    shared = torch.nn.SyncBatchNorm.convert_sync_batchnorm(copy.deepcopy(separable))
    assert any(isinstance(m, torch.nn.SyncBatchNorm) for m in shared.modules())
    merged = merge_batch_norms(copy.deepcopy(shared).eval().requires_grad_(False))
    kinds = {type(m).__name__ for m in merged.modules()}
    assert not kinds & {"SyncBatchNorm", "BatchNorm2d"}
    stored = noise(200, 180)
    found = []
    for model in (separable, shared):
        with scene_logits(model, array_reader(stored), (200, 180), precision="bf16") as scene:
            found.append(scene.rows(0, 200))
    assert torch.equal(*found)


def test_an_error_in_a_tile_comes_through() -> None:
    def fail(item: int) -> None:
        if item == 3:
            raise ProductError("tile 3")

    for count in (1, 2):
        workers = Workers(count)
        with pytest.raises(ProductError, match="tile 3"):
            workers.run(fail, range(6))
        workers.close()


# What goes wrong


def test_an_error_while_reading_comes_through(separable: SegmentationModel) -> None:
    def reader(row: int, col: int, rows: int, cols: int) -> Stored:
        if row > 0:
            raise ProductError("is damaged.")
        return noise(rows, cols)

    with scene_logits(separable, reader, (1300, 40)) as scene, pytest.raises(ProductError, match="damaged"):
        scene.finish()


def test_rows_that_are_gone() -> None:
    stored = noise(1600, 20)
    with scene_logits(make("unet"), array_reader(stored), (1600, 20), tile=16) as scene:
        scene.rows(1500, 1600)
        with pytest.raises(ValueError, match="freed"):
            scene.rows(0, 10)


def test_an_unknown_precision(separable: SegmentationModel) -> None:
    with pytest.raises(ConfigError, match="'fp8'"):
        prepare_network(separable, precision="fp8")  # type: ignore[arg-type]
    assert choose_precision("auto", torch.device("cpu")) in ("fp32", "bf16")


# BatchNorm merged into convolutions


class NormsAbout(TinyModel):
    """BatchNorm after a convolution, after something else, and one convolution's output read twice."""

    def __init__(self) -> None:
        super().__init__(ModelSettings(), 5)
        self.body = nn.Sequential(nn.BatchNorm2d(3), nn.AvgPool2d(4), nn.Conv2d(3, 8, 1), nn.ReLU(), nn.BatchNorm2d(8))
        self.more = nn.Conv2d(8, 8, 3, padding=1)
        self.norm = nn.BatchNorm2d(8)

    def decode(self, features: Tensor) -> Tensor:
        return super().decode(self.norm(self.more(features)))


def test_merging_changes_no_result(model: SegmentationModel) -> None:
    stored = noise(64, 64)
    merged = merge_batch_norms(copy.deepcopy(model))
    assert not any(isinstance(m, nn.BatchNorm2d) for m in merged.modules())
    assert torch.allclose(one_pass(merged, stored), one_pass(model, stored), atol=1e-4)


def test_only_norms_that_follow_a_convolution_are_merged() -> None:
    torch.manual_seed(0)
    model = trained(NormsAbout())
    merged = merge_batch_norms(copy.deepcopy(model))
    assert sum(isinstance(m, nn.BatchNorm2d) for m in merged.modules()) == 2
    stored = noise(64, 64)
    assert torch.allclose(one_pass(merged, stored), one_pass(model, stored), atol=1e-5)


# Fused convolutions


def fused_pair(model: SegmentationModel, dtype: torch.dtype) -> list[list[Any]]:
    """Return the pieces of a model, its BatchNorms merged, as modules: plain ones and fused ones."""
    merged = merge_batch_norms(copy.deepcopy(model).requires_grad_(False))
    merged.read_normalised()
    merged = merged.to(dtype).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    pairs = [[p.run for p in pieces_of(copy.deepcopy(merged))] for _ in range(2)]
    return [pairs[0], [fused(p) for p in pairs[1]]]  # type: ignore[arg-type]


def through(pieces: list[Any], dtype: torch.dtype) -> Tensor:
    x = torch.randn(1, 3, 320, 320, generator=torch.Generator().manual_seed(0)).to(dtype)
    x = x.contiguous(memory_format=torch.channels_last)
    with torch.inference_mode():
        for piece in pieces:
            x = piece(x)
    return x


@pytest.mark.skipif(not can_fuse(torch.device("cpu")), reason="torch has no such operators here")
@pytest.mark.parametrize("name", ["resnet18_aspp", "unet"])
def test_fusing_changes_no_more_than_rounding(name: str) -> None:
    torch.manual_seed(1)
    model = trained(build_model(ModelSettings(name=name, rates=(2, 4, 6)), 5))
    plain, quick = (through(pieces, torch.float32) for pieces in fused_pair(model, torch.float32))
    assert (plain - quick).abs().max() < 1e-5 * plain.abs().max()
    errors = [
        (through(pieces, torch.bfloat16) - plain).square().mean().sqrt() for pieces in fused_pair(model, torch.bfloat16)
    ]
    assert 0 < errors[1] < 1.05 * errors[0]


def test_a_piece_may_overwrite_its_input(separable: SegmentationModel) -> None:
    """As fused blocks do: places without data are as if they had been computed."""
    stored = spots(205, 197)
    network = prepare_network(separable, precision="fp32")
    found = []
    for ruined in (False, True):

        def run(x: Tensor, piece: Piece, ruined: bool = ruined) -> Tensor:
            y = piece.run(x).clone()
            return y if not ruined else (x.fill_(torch.nan), y)[1]

        pieces = tuple(dataclasses.replace(p, run=partial(run, piece=p)) for p in network.pieces)
        with SceneLogits(
            dataclasses.replace(network, pieces=pieces), array_reader(stored), (205, 197), tile=6
        ) as scene:
            found.append(scene.rows(0, 205))
    assert torch.equal(*found)


def test_pooling_is_that_of_torch() -> None:
    values = torch.randn(1, 5, 12, 18, generator=torch.Generator().manual_seed(0))
    sequence = nn.Sequential(nn.Conv2d(5, 5, 1), nn.ReLU(), nn.MaxPool2d(3, stride=2, padding=1))
    pool = fused(sequence)[1]  # type: ignore[index]
    for dtype in (torch.float32, torch.bfloat16):
        x = values.to(dtype).relu().contiguous(memory_format=torch.channels_last)
        assert type(pool) is not nn.MaxPool2d and torch.equal(pool(x), sequence[2](x))
