"""Training crops: how those of an epoch are drawn, and the sources that read them.

The crops of an epoch depend on the seed and the number of the epoch only, not on the source, the processes or what
ran before: a resumed run, or a run on more GPUs, is trained on the same crops. Places are drawn uniformly from all
places in a part that have enough labels.

Two sources give identical crops: :class:`ResidentCrops` keeps all parts in memory, or on the GPU;
:class:`StreamedCrops` reads windows of the files in worker processes, for archives that do not fit into memory.
"""

from __future__ import annotations

import os
import threading
import time
import weakref
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from functools import cache
from typing import Any, NamedTuple, Protocol, overload

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from floemap.bands import BandSet
from floemap.errors import ConfigError, FloemapError, TrainingError
from floemap.learning.data.parts import PartArrays, ScenePart, part_window, read_window
from floemap.learning.data.polygons import Polygons, PolygonTables, tensor_of_ids
from floemap.learning.data.resident import ResidentParts
from floemap.learning.data.streams import first_integers, stream
from floemap.learning.data.survey import Survey
from floemap.learning.settings import CropSettings
from floemap.legend import IGNORE
from floemap.sentinel1.encoding import NODATA, PRODUCT_BANDS
from floemap.stopping import spared_from_ctrl_c

# Purposes of random numbers. Each has its own stream, which is independent of the others for any seed.
_PLACES, _TURNS, _ORDER, _VALIDATION, _TORCH = range(5)

#: Stored bands, labels, and ids of polygons or None, of one crop or several.
Cut = tuple[Tensor, Tensor, Tensor | None]


class Batch(NamedTuple):
    """A batch of n crops.

    Attributes
    ----------
    stored
        Stored bands, (n, B, side, side) int16.
    labels
        (n, side, side) uint8.
    polygons
        The chart's polygons; None if the loss does not read them.
    """

    stored: Tensor
    labels: Tensor
    polygons: Polygons | None = None

    def parts(self, number: int) -> list[Batch]:
        """Divide the batch into parts of n / `number` crops each, in order."""
        size = len(self.labels) // number
        ends = [(i * size, (i + 1) * size) for i in range(number)]
        return [
            Batch(self.stored[a:b], self.labels[a:b], None if self.polygons is None else self.polygons.crops(a, b))
            for a, b in ends
        ]


@dataclass(frozen=True)
class Crop:
    """A square crop of a part.

    Attributes
    ----------
    part
        Index of the part in the list of parts.
    row, col
        Upper left corner in pixels of the part, without the context.
    size_px
        Side of the crop.
    turn
        0 to 7: number of quarter turns to the left, plus 4 if the crop is mirrored along its columns first.
    context_px
        Pixels of context on each side. They have bands, or no-data beyond the part, but no labels.
    """

    part: int
    row: int
    col: int
    size_px: int
    turn: int = 0
    context_px: int = 0

    @property
    def side_px(self) -> int:
        """Side of the crop with its context."""
        return self.size_px + 2 * self.context_px


class Crops(Sequence[Crop]):
    """Crops of one size in a table: a million of them take 16 MB, and a slice copies nothing.

    Parameters
    ----------
    table
        (n, 4) int32: part, row, col and turn of each crop; see :class:`Crop`.
    size_px, context_px
        Side and context of all of them.
    """

    def __init__(self, table: NDArray[np.int32], size_px: int, context_px: int) -> None:
        self._table, self._size_px, self._context_px = table, size_px, context_px

    def __len__(self) -> int:
        return len(self._table)

    @overload
    def __getitem__(self, index: int) -> Crop: ...
    @overload
    def __getitem__(self, index: slice) -> Crops: ...
    def __getitem__(self, index: int | slice) -> Crop | Crops:
        if isinstance(index, slice):
            return Crops(self._table[index], self._size_px, self._context_px)
        part, row, col, turn = self._table[index].tolist()
        return Crop(part, row, col, self._size_px, turn, self._context_px)


def draw_epoch(surveys: Sequence[Survey], settings: CropSettings, seed: int, epoch: int) -> Crops:
    """Draw the crops of an epoch, `settings.per_scene` from each part, shuffled over all parts.

    Parameters
    ----------
    surveys
        Surveys of the training parts, with places.
    settings
        With ``redraw`` False, all epochs have the places of epoch 0, but another order and other turns.
    seed, epoch
        Equal numbers give equal crops.
    """
    each = settings.per_scene
    table = np.zeros((len(surveys), each, 4), np.int32)
    table[..., 0] = np.arange(len(surveys))[:, None]
    table[..., 1:3] = _draw_places(surveys, seed, (_PLACES, epoch if settings.redraw else 0), each)
    if settings.flips:
        table[..., 3] = first_integers(seed, (_TURNS, epoch), np.full(len(surveys), 8), each)
    order = stream(seed, _ORDER, epoch).permutation(len(surveys) * each)
    return Crops(table.reshape(-1, 4)[order], settings.size_px, settings.context_px)


def draw_fixed(surveys: Sequence[Survey], settings: CropSettings) -> list[Crops]:
    """Draw the validation crops of each part; they do not depend on the epoch or the seed of the training.

    Repeats of a training, which differ in their seeds, are thus validated on the same pixels. The crops are not
    turned.
    """
    table = np.zeros((len(surveys), settings.validation_per_scene, 4), np.int32)
    table[..., 0] = np.arange(len(surveys))[:, None]
    table[..., 1:3] = _draw_places(surveys, 0, (_VALIDATION,), settings.validation_per_scene)
    return [Crops(of_part, settings.size_px, settings.context_px) for of_part in table]


def deal(crops: Sequence[Crop], batch: int, rank: int = 0, ranks: int = 1) -> list[Sequence[Crop]]:
    """Divide the crops of an epoch into batches; return the share of one process, a contiguous part of each batch.

    Crops after the last whole batch are dropped: all steps then have equal weight and no process is without crops.
    As the order is shuffled in each epoch, no crop is always dropped.

    Raises
    ------
    ConfigError
        If the batch size exceeds the number of crops in an epoch, or is smaller than the number of processes.
    """
    if batch > len(crops):
        raise ConfigError(
            f"training.batch is {batch}, but an epoch has {len(crops)} crops.",
            hint="Lower training.batch, or raise crops.per_scene.",
        )
    if batch < ranks:
        raise ConfigError(
            f"training.batch is {batch}, but there are {ranks} processes.",
            hint="Raise training.batch, or start fewer processes.",
        )
    first, last = batch * rank // ranks, batch * (rank + 1) // ranks
    return [crops[b * batch + first : b * batch + last] for b in range(len(crops) // batch)]


def torch_seed(seed: int, *key: int) -> int:
    """Return a seed for torch: without key for the initial weights, with epoch and rank as key for dropout."""
    return int(np.random.SeedSequence(seed, spawn_key=(_TORCH, *key)).generate_state(1, np.uint64)[0])


def physical(stored: Tensor, bands: BandSet = PRODUCT_BANDS) -> Tensor:
    """Convert stored int16 (..., B, rows, cols) to float32 in the bands' units, NaN for no-data, on the same device."""
    return in_units(stored, *units_of(bands, stored.device))


def in_units(stored: Tensor, step: Tensor, offset: Tensor) -> Tensor:
    """As :func:`physical`, with step and offset of the bands, (B, 1, 1) each."""
    return torch.where(stored == NODATA, torch.nan, stored.to(torch.float32) * step + offset)


@cache
def units_of(bands: BandSet, device: torch.device) -> tuple[Tensor, Tensor]:
    """Return step and offset of the bands, (B, 1, 1) float32 each."""
    table = torch.tensor([[b.step, b.offset] for b in bands], dtype=torch.float32, device=device)
    return table[:, 0, None, None], table[:, 1, None, None]


@dataclass(frozen=True)
class PartTensors:
    """The rasters of a part as tensors on one device; see :class:`floemap.learning.data.parts.PartArrays`.

    Attributes
    ----------
    stored, labels, ids
        (B, rows, cols) int16, (rows, cols) uint8, and (rows, cols) int16 of the same bits, or None.
    """

    stored: Tensor
    labels: Tensor
    ids: Tensor | None

    @staticmethod
    def of(part: PartArrays, device: torch.device | str = "cpu") -> PartTensors:
        """Return the tensors of a part. On the CPU arrays are not copied."""
        ids = None if part.ids is None else tensor_of_ids(part.ids).to(device)
        return PartTensors(torch.from_numpy(part.stored).to(device), torch.from_numpy(part.labels).to(device), ids)


class CropSource(Protocol):
    """A source of batches."""

    def batches(self, wanted: Sequence[Sequence[Crop]]) -> Iterator[Batch]:
        """Yield the wanted batches in order."""


class ResidentCrops:
    """Crops cut from parts in memory, or on a GPU.

    Parameters
    ----------
    parts
        All training parts. On the CPU their arrays are not copied, and those of
        :class:`floemap.learning.data.resident.ResidentParts` are read while crops are cut from others.
    device
        Device on which the parts are kept and batches are assembled.
    tables
        Tables of the parts' polygons on the device, for losses that read them.
    """

    def __init__(
        self, parts: Sequence[PartArrays], device: torch.device | str = "cpu", tables: PolygonTables | None = None
    ) -> None:
        self._device, self._tables = torch.device(device), tables
        on_gpu = self._device.type != "cpu"
        self._parts: Sequence[PartArrays | PartTensors] = (
            [PartTensors.of(p, device) for p in parts] if on_gpu else parts
        )

    def batches(self, wanted: Sequence[Sequence[Crop]]) -> Iterator[Batch]:
        """Yield the wanted batches in order.

        Raises
        ------
        FloemapError
            If a part has to be read and cannot be.
        """
        parts = self._parts
        ahead = parts.reading(c.part for crops in wanted for c in crops) if isinstance(parts, ResidentParts) else None
        with ahead or nullcontext():
            for crops in wanted:
                yield self._gather(crops)

    def _part(self, number: int) -> PartTensors:
        part = self._parts[number]
        return PartTensors.of(part) if isinstance(part, PartArrays) else part

    def _gather(self, crops: Sequence[Crop]) -> Batch:
        side, device = crops[0].side_px, self._device
        bands = len(self._part(crops[0].part).stored)
        stored = torch.empty((len(crops), bands, side, side), dtype=torch.int16, device=device)
        labels = torch.empty((len(crops), side, side), dtype=torch.uint8, device=device)
        ids = None if self._tables is None else torch.empty(labels.shape, dtype=torch.int16, device=device)
        for i, c in enumerate(crops):
            bands_of, classes, numbers = _cut(self._part(c.part), c)
            stored[i], labels[i] = _turned(bands_of, c.turn), _turned(classes, c.turn)
            if ids is not None and numbers is not None:
                ids[i] = _turned(numbers, c.turn)
        return _batch((stored, labels, ids), self._tables, crops)


def _batch(cut: Cut, tables: PolygonTables | None, crops: Sequence[Crop]) -> Batch:
    """Return a batch of crops, with their polygons if both ids and tables are there."""
    stored, labels, ids = cut
    polygons = None if ids is None or tables is None else tables.of(ids, [crop.part for crop in crops])
    return Batch(stored, labels, polygons)


class StreamedCrops:
    """Crops that worker processes read from files, ahead of the step that needs them.

    The processes are spawned, not forked, because the threads of torch and of the raster library do not survive a fork.
    A script that trains must therefore do so under ``if __name__ == "__main__"``. The processes start with the first
    batch and live as long as this object.

    Parameters
    ----------
    parts
        Training parts on disk.
    workers
        Number of worker processes; 0 reads in the calling process.
    pin
        Whether to return batches in page-locked memory, from which copies to a GPU are faster.
    tables
        Tables of the parts' polygons, for losses that read them.
    """

    def __init__(
        self, parts: Sequence[ScenePart], workers: int, *, pin: bool = False, tables: PolygonTables | None = None
    ) -> None:
        self._tables = tables
        self._wanted = _Wanted(parts)
        self._begun = workers == 0
        self._loader: DataLoader[Any] = DataLoader(
            _Windows(),
            batch_sampler=self._wanted,  # read again in each epoch, by the same workers
            num_workers=workers,
            collate_fn=_stack,
            pin_memory=pin,
            multiprocessing_context="spawn" if workers else None,
            persistent_workers=workers > 0,
            worker_init_fn=_EndWith(os.getpid()),
        )
        # The finalizer holds the loader. Where the garbage collector finds this object in a cycle, the names of the
        # loader's semaphores would else be gone before its processes are ended, and one that still starts would fail.
        weakref.finalize(self, _let_go, self._loader).atexit = False

    def batches(self, wanted: Sequence[Sequence[Crop]]) -> Iterator[Batch]:
        """Yield the wanted batches in order.

        Raises
        ------
        FloemapError
            If a file can no longer be read.
        TrainingError
            If a worker process died.
        """
        # While the processes start, which takes seconds, the first batch is read here.
        here, self._begun = 0 if self._begun else 1, True
        self._wanted.batches = wanted[here:]
        with spared_from_ctrl_c():
            batches: Iterator[Any] = iter(self._loader) if self._wanted.batches else iter(())
        for number, crops in enumerate(wanted):
            try:
                batch = self._wanted.read(crops) if number < here else next(batches)
            except RuntimeError as e:  # how torch reports a worker that the system killed
                raise TrainingError(
                    f"a process that reads crops died: {e}.",
                    hint="Is memory (or /dev/shm) full? Lower crops.workers; 0 reads without processes.",
                ) from e
            if isinstance(batch, FloemapError):
                raise batch
            yield _batch(batch, self._tables, crops)


def _let_go(loader: DataLoader[Any]) -> None:
    """Do nothing: what matters is that the loader lives until here, and its processes end after it."""


def read_crop(part: PartArrays | ScenePart, crop: Crop) -> Cut:
    """Read one crop of a part.

    Returns
    -------
    tuple
        Stored bands, (B, side, side) int16; labels, (side, side) uint8; ids of polygons, (side, side) int16, or None.

    Raises
    ------
    FloemapError
        If the files cannot be read.
    """
    if isinstance(part, ScenePart):
        first_row, first_col, rows, cols = part_window(part)
        (top, bottom), (left, right) = _span(crop.row, crop, rows), _span(crop.col, crop, cols)
        part = read_window(part, (first_row + top, first_col + left, bottom - top, right - left))
        crop = replace(crop, row=crop.row - top, col=crop.col - left)
    stored, labels, ids = _cut(PartTensors.of(part), crop)
    return _turned(stored, crop.turn), _turned(labels, crop.turn), None if ids is None else _turned(ids, crop.turn)


def _span(at: int, crop: Crop, size: int) -> tuple[int, int]:
    """Return the range of rows, or columns, of a part that a crop at `at` and its context cover."""
    return max(at - crop.context_px, 0), min(at + crop.size_px + crop.context_px, size)


def _cut(part: PartTensors, crop: Crop) -> Cut:
    """Cut a crop with its context from a part. Without context, return views."""
    stored, labels, ids = part.stored, part.labels, part.ids
    size, context = crop.size_px, crop.context_px
    inner = (slice(crop.row, crop.row + size), slice(crop.col, crop.col + size))
    if not context:
        return stored[:, *inner], labels[inner], None if ids is None else ids[inner]
    rows, cols = labels.shape
    (top, bottom), (left, right) = _span(crop.row, crop, rows), _span(crop.col, crop, cols)
    to_row, to_col = top - (crop.row - context), left - (crop.col - context)
    bands = stored.new_full((len(stored), crop.side_px, crop.side_px), NODATA)
    bands[:, to_row : to_row + bottom - top, to_col : to_col + right - left] = stored[:, top:bottom, left:right]
    at = (slice(context, context + size),) * 2
    classes = labels.new_full((crop.side_px, crop.side_px), IGNORE)
    classes[at] = labels[inner]
    if ids is None:
        return bands, classes, None
    numbers = ids.new_zeros((crop.side_px, crop.side_px))
    numbers[at] = ids[inner]
    return bands, classes, numbers


class _Wanted:
    """The batches that worker processes read next, as pairs of part and crop.

    The parts travel with the crops. A process that starts would have to be given all of them, and starting it would
    take until it has received them.
    """

    def __init__(self, parts: Sequence[ScenePart]) -> None:
        self._parts = parts
        self.batches: Sequence[Sequence[Crop]] = []

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Iterator[list[tuple[ScenePart, Crop]]]:
        return map(self._pairs, self.batches)

    def read(self, crops: Sequence[Crop]) -> Cut | FloemapError:
        """Read a batch in this process."""
        return _stack([_Windows()[pair] for pair in self._pairs(crops)])

    def _pairs(self, crops: Sequence[Crop]) -> list[tuple[ScenePart, Crop]]:
        return [(self._parts[crop.part], crop) for crop in crops]


class _Windows(Dataset[Any]):
    """Reads crops in a worker process."""

    def __getitem__(self, wanted: tuple[ScenePart, Crop]) -> Cut | FloemapError:
        try:
            return read_crop(*wanted)
        except FloemapError as e:  # returned, because torch would turn a raised error into the text of a traceback
            return e


@dataclass(frozen=True)
class _EndWith:
    """Ends a worker process when its parent has ended; torch does not if that happened while the worker started."""

    parent: int

    def __call__(self, worker: int) -> None:
        threading.Thread(target=self.watch, daemon=True).start()

    def watch(self, every_s: float = 1.0) -> None:
        while os.getppid() == self.parent:
            time.sleep(every_s)
        os._exit(1)


def _stack(crops: Sequence[Cut | FloemapError]) -> Cut | FloemapError:
    whole: list[Cut] = []
    for crop in crops:
        if isinstance(crop, FloemapError):
            return crop
        whole.append(crop)
    ids = [c[2] for c in whole if c[2] is not None]
    return torch.stack([c[0] for c in whole]), torch.stack([c[1] for c in whole]), torch.stack(ids) if ids else None


def _turned(raster: Tensor, turn: int) -> Tensor:
    """Mirror and turn the last two axes; see :class:`Crop`."""
    if turn >= 4:
        raster = raster.flip(-1)
    return torch.rot90(raster, turn % 4, (-2, -1)) if turn % 4 else raster


def _draw_places(surveys: Sequence[Survey], seed: int, key: tuple[int, ...], each: int) -> NDArray[np.int32]:
    """Draw so many places in each part, (parts, each, 2): row and column."""
    places = []
    for survey in surveys:
        if survey.places is None:
            raise ValueError(f"part {survey.name} was surveyed without places")
        places.append(survey.places)
    numbers = first_integers(seed, key, np.array([len(p) for p in places], np.int64), each)
    return np.stack([p.at(n) for p, n in zip(places, numbers, strict=True)])
